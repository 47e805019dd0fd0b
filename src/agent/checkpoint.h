/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One checkpoint inside the agent: what checkpoints.c (the list), checkpoint_create.c, checkpoint_restore.c,
 * checkpoint_recover.c, checkpoint_copy.c and checkpoint_arrive.c share. Nobody else includes this.
 */
#pragma once

#include "agent/checkpoints.h"
#include "agent/keeper.h"
#include "agent/machine_hold.h"
#include "checkpoint/copy.h"
#include "checkpoint/process.h"
#include "qemu/checkpoint_qmp.h"

#define NC_CHECKPOINT_ID_PREFIX "c"
#define NC_CHECKPOINT_LABEL_MAX 200

typedef enum {
  NC_CHECKPOINT_MAKING,
  NC_CHECKPOINT_READY,
  NC_CHECKPOINT_FAILED,
  NC_CHECKPOINT_CANCELLED,
  NC_CHECKPOINT_DAMAGED,
  NC_CHECKPOINT_STATE_COUNT
} NcCheckpointState;

typedef struct {
  NcCheckpoints *owner;
  char *id;                          /* never changes; the manifest's name */
  char *vm;                          /* never changes; "" if damaged */
  gint refs;                         /* atomic */
  gint cancelled;                    /* atomic */
  uint64_t progress, progress_total; /* atomic; bytes, of what is under way */

  /* owner->lock */
  NcCheckpointState state;
  json_t *meta;           /* the description; replaced as a whole */
  uint64_t file_bytes;    /* of the manifest */
  GError *error;          /* FAILED, DAMAGED */
  char *warning;          /* READY: what people should know of it; NULL: nothing */
  const char *activity;   /* "verify", "restore", "copy": static; NULL: none is under way */
  json_t *last_activity;  /* how the last one ended, or how this one is called */
  NcCheckpointer *worker; /* to be broken when cancelled; borrowed */
  NcPeer *link;           /* the same, to another node */
  bool arriving;          /* MAKING: it comes from another node */
} NcCheckpoint;

struct NcCheckpoints {
  NcCheckpointsDeps deps;
  GMutex lock;         /* protects table, work, left, holds, keepers, retrying, running, collecting and the checkpoints' fields */
  GCond ended;         /* a thread has ended */
  GCond tick;          /* the schedule is to look, or to end */
  GHashTable *table;   /* id -> NcCheckpoint* (a reference) */
  json_t *work;        /* id -> what is under way, as in the journal */
  GMutex work_lock;    /* one journal write at a time */
  json_t *left;        /* id -> what is to be undone, and could not be yet */
  GHashTable *holds;   /* machine -> NcMachineHold*, in which it is kept meanwhile */
  GHashTable *keepers; /* id -> NcKeeper* of what the last novacrond has left */
  bool retrying;       /* a thread sees to what is left */
  unsigned running;    /* threads */
  unsigned arriving;   /* checkpoints */
  bool collecting;     /* one of them is the gc */
  gint closing;        /* atomic */
};

/* --- checkpoints.c --- */

NcCheckpoint *nc_checkpoint_ref(NcCheckpoint *cp);
void nc_checkpoint_unref(NcCheckpoint *cp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcCheckpoint, nc_checkpoint_unref)
/* New, state MAKING, in the list; a reference. ${meta} is taken. */
NcCheckpoint *nc_checkpoints_add(NcCheckpoints *c, const char *id, const char *vm, json_t *meta);
NcCheckpoint *nc_checkpoints_add_locked(NcCheckpoints *c, const char *id, const char *vm, json_t *meta);
/* Runs ${func} in a thread that nc_checkpoints_free() waits for. */
void nc_checkpoints_spawn(NcCheckpoints *c, const char *name, GThreadFunc func, gpointer data);
/* The thread of ${data} ends. */
void nc_checkpoints_thread_ends(NcCheckpoints *c);
/* Frees what nothing refers to any more, in a thread. */
void nc_checkpoints_collect(NcCheckpoints *c);
NcPageStore *nc_checkpoints_store(NcCheckpoints *c, GError **error);
/* The public object. New reference. */
json_t *nc_checkpoint_view(NcCheckpoint *cp);
/* The id of the newest checkpoint of ${vm} that is ready; NULL: there is none. Caller frees. */
char *nc_checkpoints_last_of(NcCheckpoints *c, const char *vm);
/* It is ready, and from now on ${activity} (static) happens to it: ended by nc_checkpoint_activity_ends(). */
NcCheckpoint *nc_checkpoints_begin_activity(NcCheckpoints *c, json_t *args, const char *activity, GError **error);
/* ${result}: an object with what is worth telling, taken; NULL is fine. ${error}: why it failed; borrowed, NULL: it did not. */
void nc_checkpoint_activity_ends(NcCheckpoint *cp, json_t *result, const GError *error);

/* Asks it to stop what is under way with it. c->lock is held. */
void nc_checkpoint_cancel_locked(NcCheckpoint *cp);
/* The same for what happens to ${id}, be it what people can't cancel: novacrond stops, and does it again or leaves it. */
void nc_checkpoints_end_activity(NcCheckpoints *c, const char *id);

/* --- checkpoint_describe.c --- */

/*
 * It has been committed: state READY, described by ${meta} (taken). That its manifest can't be read back is a warning: it is durable,
 * and the next novacrond finds it.
 */
void nc_checkpoint_committed(NcCheckpoint *cp, json_t *meta);

/* --- checkpoint_arrive.c --- */

/* The connection that it is under way on. False if it is cancelled: then nothing is to be begun on it. */
bool nc_checkpoint_set_link(NcCheckpoint *cp, NcPeer *peer);
/* It is not any more, unless it is on another one by now. Before ${peer} is freed. */
void nc_checkpoint_clear_link(NcCheckpoint *cp, const NcPeer *peer);
/* An entry of ${kind} about ${id} of ${vm} for the transaction log; a failure is logged. ${node}: who it is about; ${detail}: taken. */
bool nc_checkpoint_audit(NcCheckpoints *c, const char *kind, const char *id, const char *vm, const char *node, json_t *detail);

/* --- checkpoint_copy.c --- */

/* ${peer} as a copy uses it. Valid as long as ${peer}. */
NcCopyLink nc_checkpoint_copy_link(NcPeer *peer);
/* Sends ${cp} to whom ${peer} leads to; its activity is the caller's. */
bool nc_checkpoint_send(NcCheckpoint *cp, NcPeer *peer, NcCopyTotals *ret, GError **error);
/* The totals, in ${result}. */
void nc_checkpoint_put_totals(json_t *result, const NcCopyTotals *totals);
/* A restore on another node, begun by nc_checkpoints_restore(), which has checked the rest of ${args}. */
json_t *nc_checkpoints_restore_on(NcCheckpoints *c, const char *node, json_t *args, GError **error);

/* --- checkpoint_recover.c --- */

/*
 * Records in the journal what is to be undone after a crash; NULL: nothing any more. ${work} is taken.
 * What could not be recorded is not recorded later, with others'; that there is nothing any more, is.
 */
bool nc_checkpoints_set_work(NcCheckpoints *c, const char *id, json_t *work, GError **error);

/* The names of the two ends of QEMU's image socket, in QEMU: its own, and a duplicate of ours. */
#define NC_CHECKPOINT_STREAM NC_CHECKPOINT_MARK "stream"
#define NC_CHECKPOINT_KEEPER NC_CHECKPOINT_MARK "keeper"

/*
 * Undoes everything that a checkpoint has done to a QEMU, in whatever state that is. ${work}: as in the journal: {machine, pid,
 * inode, background, was_running, before, disks:[{device,node}]}. Whoever calls sees to it that QEMU's image is read to its end.
 * ${quitting} (atomic): that is not waited for any longer; NULL: it is.
 */
bool nc_checkpoint_leave_qemu(NcQmp *qmp, json_t *work, const gint *quitting, GError **error);
/* Undoes what is left. What can't be undone stays, on record and with its keeper; a machine that is to get its disks back is kept from others. */
void nc_checkpoints_undo_left(NcCheckpoints *c);
/* Until nothing is left a thread tries again, soon and then every minute. */
void nc_checkpoints_watch_left(NcCheckpoints *c);
/* What ${work} (borrowed; as on record for ${id}) tells of could not be undone, since ${problem}: later. ${hold}: taken; NULL is fine. */
void nc_checkpoints_leave(NcCheckpoints *c, const char *id, json_t *work, NcMachineHold *hold, const GError *problem);

/* --- checkpoint_schedule.c --- */

/* From now on a thread makes what is due. */
void nc_checkpoints_start_schedule(NcCheckpoints *c);
/* Deletes the oldest of those that the schedule has made of ${vm}, but for ${keep}. */
void nc_checkpoints_prune(NcCheckpoints *c, const char *vm, unsigned keep);

/* --- checkpoint_restore.c --- */

/*
 * Undoes, or, if it came so far, completes a restore that was cut short, but for its record. ${work}: as in the journal; ${hold}: of its
 * machine, NULL: that is not in the list.
 */
bool nc_checkpoint_undo_restore(NcCheckpoints *c, json_t *work, NcMachineHold *hold, GError **error);
/*
 * After that, and while ${work} is on record for ${id}: takes a machine that the restore has made out of the list, and *${hold} (may be NULL)
 * is NULL. ${work} says then that nothing is left but the claim. False: what there is of it stays, ${hold} too.
 */
bool nc_checkpoint_take_back_machine(NcCheckpoints *c, const char *id, json_t *work, NcMachineHold **hold, GError **error);
