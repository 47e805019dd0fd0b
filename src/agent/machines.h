/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machines of this node: what is defined here, which QEMU belongs to it,
 * and who may touch it at this moment.
 *
 * A machine is a record in the journal {name, spec, moved_to, runtime} and, while it
 * runs, a QEMU process with a QMP connection. QEMUs outlive novacrond:
 * runtime {pid, pid_start, qmp, adopted, leased_by} is enough to find them
 * again. A QEMU is started only if this node's run right is HELD (design
 * section 5); the right itself is moved by the migrations, not here, except at
 * definition (HELD, epoch 1) and by an operator's explicit `take`.
 *
 * State: "running", "paused" (QEMU is there, the guest is stopped), "stopped"
 * (no QEMU), "incoming" (QEMU waits for a migration), "migrating" (leased by
 * an outgoing migration), "moved" (another node has it; kept to say where).
 *
 * Thread-safe. One operation at a time per machine: the others wait for at
 * most NC_MACHINE_BUSY_MS, then get NC_ERROR_CONFLICT.
 */
#pragma once

#include "agent/config.h"
#include "qemu/qmp.h"
#include "store/journal.h"

#define NC_MACHINE_BUSY_MS 5000

typedef struct NcMachines NcMachines;

/* ${config} and ${journal} are borrowed and outlive it. */
NcMachines *nc_machines_new(const NcConfig *config, NcJournal *journal, GError **error);
/* Disconnects; QEMUs stay as they are. Leases must have ended. */
void nc_machines_free(NcMachines *machines);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcMachines, nc_machines_free)

/*
 * Once at start: reads the journal, finds the QEMUs of an earlier novacrond
 * again by pid, start time and QMP, and notes which are gone. Machines that a
 * migration had leased stay untouched for nc_machines_lease_resume(). From
 * here on a thread of this module notices QEMUs that die silently and
 * reconnects broken QMP connections.
 */
bool nc_machines_reconcile(NcMachines *machines, GError **error);
/* After nc_migrations_recover(): leased machines that no migration claimed go back to themselves. */
void nc_machines_release_orphans(NcMachines *machines);
/* The same look now, in the caller's thread: for one that waits for a machine's QMP. */
void nc_machines_tick(NcMachines *machines);
/* novacrond ends: operations that wait for a guest return at once with NC_ERROR_CANCELLED. */
void nc_machines_stop_waiting(NcMachines *machines);

/*
 * The control socket's machine.* operations (docs/protocols.md section 5): a
 * machine object or a list, new references. ${args} is borrowed.
 *
 * define: {spec, take}. `take`: true lets an operator define a machine whose
 * right another node holds by this node's record (released, incoming or refused):
 * dangerous, only after that node is known to be off or to have destroyed it.
 * start: {name, take}. `take`: though the node it came from may have it (NcStartCheckFunc).
 * stop: {name, force, timeout_ms}: ACPI power-down and after ${timeout_ms}
 * (default 30 s) QMP quit; `force` quits at once.
 * adopt: {name, qmp}: a QEMU that somebody else started.
 */
typedef bool (*NcStartCheckFunc)(gpointer user_data, const NcRight *right, GError **error);
/*
 * ${check} is asked before a machine whose right (held) is ${right} is started anew, with the machine in our hands and no lock; it may
 * block for seconds. To be set before anything is started.
 */
void nc_machines_set_start_check(NcMachines *machines, NcStartCheckFunc check, gpointer user_data);
json_t *nc_machines_define(NcMachines *machines, json_t *args, GError **error);
json_t *nc_machines_list(NcMachines *machines, json_t *args, GError **error);
json_t *nc_machines_get(NcMachines *machines, json_t *args, GError **error);
bool nc_machines_has(NcMachines *machines, const char *name); /* it is in the list, in whatever state */
json_t *nc_machines_start(NcMachines *machines, json_t *args, GError **error);
json_t *nc_machines_stop(NcMachines *machines, json_t *args, GError **error);
json_t *nc_machines_destroy(NcMachines *machines, json_t *args, GError **error);
json_t *nc_machines_adopt(NcMachines *machines, json_t *args, GError **error);

/* Memory of incoming machines that is promised and not resident yet. */
uint64_t nc_machines_promised_bytes(NcMachines *machines);
/* What is not to be given away, for admission: what is promised, and memory_reserve_mib. */
uint64_t nc_machines_reserved_bytes(NcMachines *machines);

/* --- a look at a running machine, by one who changes nothing --- */

/*
 * Other operations wait while it lasts, as for each other: to be ended soon. No lease, nothing is recorded. The machine must
 * run, the right be HELD; ${what} (static): what for, as in "can't ${what} web1: ...". Used by one thread.
 */
typedef struct NcMachineLook NcMachineLook;
NcMachineLook *nc_machines_look(NcMachines *machines, const char *name, const char *what, GError **error);
NcQmp *nc_machine_look_qmp(NcMachineLook *look); /* borrowed until it ends; NULL if QEMU is gone */
pid_t nc_machine_look_pid(NcMachineLook *look);
void nc_machine_look_end(NcMachineLook *look); /* frees it; NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcMachineLook, nc_machine_look_end)

/* --- leases: exclusive use of one machine by one migration --- */

/*
 * While a machine is leased, start, stop, destroy and another lease are refused
 * with NC_ERROR_CONFLICT naming the migration. The lease is in the journal, so
 * that it survives novacrond. A lease is used by one thread at a time, except
 * for nc_machine_lease_is_alive().
 */
typedef struct NcMachineLease NcMachineLease;

typedef enum {
  NC_LEASE_STAYS,   /* source: the machine is still here; its state is read from QEMU again */
  NC_LEASE_GONE,    /* source: moved away. QEMU must be dead; kept as "moved" with the right's holder */
  NC_LEASE_ARRIVED, /* destination: ours now, under its versioned machine type */
  NC_LEASE_DISCARD  /* destination: QEMU must be dead; the record and all traces of it go */
} NcLeaseOutcome;

/* Source: the machine must be running or paused, with the right HELD. */
NcMachineLease *nc_machines_lease(NcMachines *machines, const char *name, const char *migration_id, GError **error);
/*
 * Destination: makes the record of a machine to come (state "incoming"),
 * without a QEMU yet. NC_ERROR_EXISTS if a machine of that name is here,
 * unless it is "moved". ${spec}: a JSON specification, borrowed.
 */
NcMachineLease *nc_machines_lease_incoming(NcMachines *machines, json_t *spec, const char *migration_id, GError **error);
/* After a restart of novacrond: the lease of ${migration_id} again, whether its QEMU lives or not. */
NcMachineLease *nc_machines_lease_resume(NcMachines *machines, const char *name, const char *migration_id, GError **error);

/* Starts QEMU with -incoming defer -S. On error no QEMU is left. */
bool nc_machine_lease_launch_incoming(NcMachineLease *lease, GError **error);

/* Borrowed until the lease ends or kills its QEMU; NULL if QEMU is gone. */
NcQmp *nc_machine_lease_qmp(NcMachineLease *lease);
pid_t nc_machine_lease_pid(NcMachineLease *lease); /* 0: no QEMU */
const char *nc_machine_lease_name(NcMachineLease *lease);
/* With the versioned machine type, ready for a destination. Borrowed. */
json_t *nc_machine_lease_spec(NcMachineLease *lease);
/* A directory of this machine, for sockets. */
const char *nc_machine_lease_run_dir(NcMachineLease *lease);
bool nc_machine_lease_is_alive(NcMachineLease *lease);
/* The last lines QEMU wrote, in one line; "" if none. Caller frees. */
char *nc_machine_lease_log_tail(NcMachineLease *lease);

/*
 * ${func} gets the machine's QMP events, and NULL once when QEMU or the
 * connection to it is gone, on a thread of the QMP client: it must not call back into
 * this module. NULL ends it: after that the previous one runs no more.
 */
void nc_machine_lease_set_event_func(NcMachineLease *lease, NcQmpEventFunc func, gpointer user_data);

/* TERM, then KILL, by pidfd; returns when the process is gone. True if there was none. */
bool nc_machine_lease_kill_qemu(NcMachineLease *lease, GError **error);

/*
 * Ends and frees the lease. A failure to write the journal is logged: the lease
 * is then resolved at the next start. GONE and DISCARD with a living QEMU are
 * logged as errors and the record is kept with its QEMU.
 */
void nc_machine_lease_end(NcMachineLease *lease, NcLeaseOutcome outcome);
/* Frees the lease and leaves it in the journal, for nc_machines_lease_resume() of the next novacrond. */
void nc_machine_lease_abandon(NcMachineLease *lease);
