/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One machine inside the agent: what machines.c (the list), machine_ops.c
 * (people), machine_qemu.c (its process), machine_lease.c (migrations) and
 * machine_hold.c (checkpoints) share. Nobody else includes this.
 *
 * Who may change a machine: the holder of `busy` (one operation), or the
 * holder of its lease; never both at a time. Its fields are read and written
 * under owner->lock all the same, because everybody may look.
 *
 * Locks, in this order: save_lock, owner->lock; event_lock and qmp_lock are
 * taken alone. An NcQmp is freed with none of them held: that waits for its
 * reader, which may want them.
 */
#pragma once

#include "agent/machines.h"
#include "qemu/machine_spec.h"

typedef enum { NC_GUEST_UNKNOWN, NC_GUEST_RUNNING, NC_GUEST_PAUSED } NcGuestState;

typedef struct {
  NcMachines *owner;
  char *name;    /* never changes */
  char *run_dir; /* never changes */
  gint refs;     /* atomic */

  /* owner->lock */
  json_t *spec;         /* replaced as a whole, never changed */
  char *moved_to;       /* another node's name: the machine is not here any more */
  char *made_by;        /* the restore that has put it into the list and is not decided yet */
  bool incoming;        /* it arrives by the migration that leases it */
  bool busy;            /* an operation is under way */
  const char *busy_with; /* its name, static */
  bool force_stop;      /* the stop that is under way must not wait any longer */
  char *lease_id;       /* migration */
  bool lease_held;      /* an NcMachineLease exists (else: only in the journal) */
  bool adopted;         /* somebody else started its QEMU, and made what that needs */
  bool present;         /* in the list: false once it was deleted */
  pid_t pid;            /* 0: no QEMU */
  uint64_t pid_start;
  char *qmp_path;
  NcGuestState guest;
  bool qmp_lost;        /* the connection ended and was not replaced yet */
  int64_t qmp_lost_us;  /* monotonic */
  bool death_told;      /* the lease knows that this process is gone */
  bool settling;        /* it is being started or ended on purpose: the watcher looks away */

  GMutex qmp_lock;   /* protects qmp's replacement */
  NcQmp *qmp;
  GPtrArray *old_qmp; /* broken connections that a lease may still point to */

  GMutex save_lock; /* one journal write of this machine at a time */

  GMutex event_lock; /* protects these; held while the function runs */
  NcQmpEventFunc event_func;
  gpointer event_data;
} NcMachine;

struct NcMachines {
  NcStartCheckFunc start_check; /* NULL: none */
  gpointer start_check_data;
  const NcConfig *config;
  NcJournal *journal;
  GMutex lock;       /* protects table, quitting and the machines' fields */
  GCond changed;     /* something that somebody waits for */
  GHashTable *table; /* name -> NcMachine* (a reference) */
  bool quitting;
  GThread *watcher;
  GMutex watching; /* one look at all machines at a time: two would both connect to a lost QEMU */
};

/* --- machines.c --- */

NcMachine *nc_machine_new(NcMachines *owner, const char *name, json_t *spec);
NcMachine *nc_machine_ref(NcMachine *m);
void nc_machine_unref(NcMachine *m);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcMachine, nc_machine_unref)

/* A reference, or NC_ERROR_NOT_FOUND. */
NcMachine *nc_machines_find(NcMachines *machines, const char *name, GError **error);
/*
 * Takes the machine for one operation ${what} (static): waits for another to
 * end, refuses if a migration has it. Ended by nc_machine_release(), which
 * drops the reference.
 */
NcMachine *nc_machines_acquire(NcMachines *machines, const char *name, const char *what, GError **error);
void nc_machine_release(NcMachine *m);
/* Puts ${m} into the list, busy or leased already. False: NC_ERROR_EXISTS, unless the one there has moved. */
bool nc_machines_insert(NcMachines *machines, NcMachine *m, GError **error);
/* Takes it out of the list and the journal. */
bool nc_machine_forget(NcMachine *m, GError **error);
/* Writes the machine's record to the journal. */
bool nc_machine_save(NcMachine *m, GError **error);
/* The public object. New reference. */
json_t *nc_machine_view(NcMachine *m, GError **error);
/* The argument "name". */
const char *nc_machine_arg_name(json_t *args, GError **error);
/* A reference to the present specification. */
json_t *nc_machine_get_spec(NcMachine *m);

/* --- machine_ops.c --- */

/* A machine that is acquired for ${what} (static) and not in the list yet; ended by nc_machine_release(). */
NcMachine *nc_machine_new_busy(NcMachines *machines, const NcMachineSpec *spec, const char *what);
/* Defines it: into the list and the journal, with the right to run it (${take}: see nc_machines_define()). */
bool nc_machines_add(NcMachines *machines, NcMachine *m, bool take, GError **error);
/* The right to run ${m} is this node's; the error says where it is else. */
bool nc_machine_must_hold_right(NcMachine *m, GError **error);

/* --- machine_qemu.c: all with the machine acquired or leased --- */

/* The directory of its sockets, accessible to its QEMU. */
bool nc_machine_make_run_dir(NcMachine *m, GError **error);
/* Starts QEMU (${incoming}: waiting for a migration) and connects. On error none is left. Saves the record. */
bool nc_machine_launch(NcMachine *m, bool incoming, GError **error);
/* From now on ${pid} is the machine's QEMU; ${qmp_path} NULL: there is none. Does not connect, does not save. */
void nc_machine_set_process(NcMachine *m, pid_t pid, uint64_t start, const char *qmp_path);
/* From now on it is what ${spec} says. Does not save. */
void nc_machine_set_spec(NcMachine *m, const NcMachineSpec *spec);
/* Connects QMP of the process in the record and reads the guest's state. */
bool nc_machine_connect(NcMachine *m, int timeout_ms, GError **error);
/* After a restart: finds the machine's process again, or notes that it is gone. */
void nc_machine_find_qemu(NcMachine *m);
/* TERM, KILL, until it is gone. True if there was none. */
bool nc_machine_kill(NcMachine *m, GError **error);
/* The process is gone: clears the runtime, cleans up what belonged to it, except its logs. Does not save. */
void nc_machine_clear_runtime(NcMachine *m);
/* Removes what there is in run_dir, the directory, and the lock of its QEMU unless a process has it; the machine's QEMU is gone. */
void nc_machine_remove_files(NcMachine *m);
bool nc_machine_qemu_lives(NcMachine *m);
/* 0: there is none. */
pid_t nc_machine_pid(NcMachine *m);
/* Borrowed; NULL if there is no usable connection. */
NcQmp *nc_machine_qmp(NcMachine *m);
/* Asks QEMU whether the guest runs. */
void nc_machine_refresh(NcMachine *m);
/* Frees connections that were replaced. Only when nobody can point to them. */
void nc_machine_drop_old_qmp(NcMachine *m);
/* The last lines of its log in one line. Caller frees. */
char *nc_machine_log_tail(NcMachine *m);
/* Bytes of the guest's memory that are promised but not resident. */
uint64_t nc_machine_missing_bytes(NcMachine *m);
/* The watcher's look at one machine: dead process, lost connection. */
void nc_machine_check(NcMachine *m);

/* --- machine_lease.c --- */

/* It may leave: the right is HELD, its QEMU lives and answers. */
bool nc_machine_check_movable(NcMachine *m, GError **error);
