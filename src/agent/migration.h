/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One migration on one side: what source_migration.c and
 * destination_migration.c have in common. Its public face is a JSON record
 * (docs/protocols.md, end), kept in memory under a lock and written to the
 * journal at every change of state; its thread is the only one that changes
 * the state.
 */
#pragma once

#include "agent/disk_chain.h"
#include "agent/endgame.h"
#include "agent/handoff.h"
#include "agent/inbox.h"
#include "agent/keeper.h"
#include "agent/link_rate.h"
#include "agent/migrations.h"
#include "agent/stored_giver.h"
#include "mover/process.h"

typedef struct {
  const NcMigrationsDeps *deps; /* borrowed */
  char *id;
  char *vm;
  char *peer; /* the other node's name */
  bool is_source;
  bool is_attempt; /* ${id} is the name of a controller's attempt, which its first write uses up (store/journal.h) */
  uint64_t epoch; /* the one that is handed over */

  NcInbox *inbox;
  GThread *thread;
  gint cancel_requested;   /* atomic */
  gint quitting;           /* atomic: novacrond stops */
  gint head_heard;         /* atomic: the other node has told of its transaction log; more than once is noise */
  gint borrowers;          /* atomic: sessions that pump into the inbox; it is not freed before they end */

  /* of the migration's own thread */
  NcHandoffState state;
  NcMachineLease *lease;
  NcMoverProcess *mover;
  int shadow_fd;          /* what its shadow is in, for warm_return.h; -1 */
  NcStoredGiver *stored;  /* destination: gives its mover pages of the page store; NULL: none */
  NcKeeper *keeper;     /* source, after a restart: taken back from QEMU, drained */
  GThread *link_reader; /* source: reads ${link}, which it then owns */

  gint link_dropped;    /* atomic: the reader's end is no news */
  GMutex link_lock; /* protects link */
  NcPeer *link;     /* session with the other agent; NULL when cut off */

  GMutex claim_lock;       /* protects claim; nothing but the endgame's and the register's lock and ${lock} is taken under it */
  NcBandwidthClaim *claim; /* source, from admission to the end */
  NcEndgame endgame;       /* source */

  GMutex lock; /* protects record, link_rate, finished, wanted_back, permitted_us */
  json_t *record;
  NcLinkRate link_rate;
  bool finished;
  bool wanted_back;     /* source: an operator has said that it runs here */
  int64_t permitted_us; /* source: the destination was told that it may start it anew, CLOCK_MONOTONIC; 0: never */
} NcMigration;

/* ${record}: taken, the complete public object; NULL makes an empty one. */
NcMigration *nc_migration_new(const NcMigrationsDeps *deps, bool is_source, const char *id, const char *vm, const char *peer,
                              uint64_t epoch, json_t *record);
void nc_migration_free(NcMigration *m);

/* Setting members of the record; any thread. ${value} is taken. */
void nc_migration_set(NcMigration *m, const char *key, json_t *value);
/* Each of ${keys} (ends with NULL) is not known any more: null. */
void nc_migration_forget(NcMigration *m, const char *const *keys);
/* Nothing flows any more: how fast it did is no rate of now. */
void nc_migration_flow_is_over(NcMigration *m);
/* 0 if it is not there, or no number. */
int64_t nc_migration_int(NcMigration *m, const char *key);
/* A deep copy of the record. New reference. */
json_t *nc_migration_snapshot(NcMigration *m);

/*
 * Moves the state by ${event}, with ${detail} for the history (may be NULL).
 * False, with a log line, if the table does not allow it: a late or repeated
 * message, which changes nothing.
 */
bool nc_migration_step(NcMigration *m, NcHandoffEvent event, const char *detail);
/* A line for the history without change of state. */
void nc_migration_note(NcMigration *m, const char *event, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* A phase that is none of the handoff's (a checkpoint, disks); told in the history. */
void nc_migration_enter_phase(NcMigration *m, const char *phase);
/* The first time: durably, and told in the transaction log. NC_ERROR_CONFLICT: an attempt's name is used already. */
bool nc_migration_create(NcMigration *m, GError **error);
/* An entry of ${kind} about this migration for the transaction log; ${detail}: taken. A failure is logged. */
void nc_migration_audit(NcMigration *m, const char *kind, json_t *detail);
/*
 * At its end the two nodes tell each other how far their transaction logs are (agent/audit.h): mig_head. Best effort, and
 * after all that matters. hear: true if ${message} was that; any thread.
 */
void nc_migration_tell_head(NcMigration *m);
bool nc_migration_hear_head(NcMigration *m, json_t *message);
/* Writes the record to the journal now. */
bool nc_migration_persist(NcMigration *m, bool durable, GError **error);
/* Sets outcome, error (may be NULL), finished time; persists; the thread ends after this. */
void nc_migration_finish(NcMigration *m, const char *outcome, const GError *error);
bool nc_migration_is_finished(NcMigration *m);

/*
 * Source: its part of the node's bandwidth. Claiming is done once, with what the record says; from then on the record's
 * rate_limit_bps is what it has been allotted, and NC_FROM_LIMITS tells the thread of each change. Limiting
 * changes the record, too; any thread.
 */
void nc_migration_claim_bandwidth(NcMigration *m);
void nc_migration_limit(NcMigration *m, NcQos qos, uint64_t limit_bps);
/*
 * Source: may the last round begin (agent/endgame.h)? What has to be waited for is in the history. end: it is over, or need not be alone any
 * more. Of the migration's thread.
 */
NcEndgameAnswer nc_migration_look_endgame(NcMigration *m, NcEndgameNeed need);
void nc_migration_end_endgame(NcMigration *m);
/* No other migration leaves this node at the moment. */
bool nc_migration_is_alone(NcMigration *m);
/* The record's disk_chain. */
NcDiskChain nc_migration_disk_chain(NcMigration *m);
/* The record's class of service. */
NcQos nc_migration_qos(NcMigration *m);

/*
 * Source: an operator wants the machine back, or the destination starts it anew: of two who come at the same time one sees the
 * other (decision 088). Any thread.
 *
 * want_back: from now on, or no more. permit_start: may the destination, which asks? False: it is wanted back. word_counts: it is wanted
 * back since ${since_us}, and nobody has said whether it was let go of: has that been waited for long enough by ${now_us}? A start that was
 * permitted just before gets the time to be carried out.
 */
#define NC_LET_GO_MS 5000
#define NC_PERMIT_MS 10000 /* for the answer's way and the start of a QEMU; from then on the destination says that it holds the machine */
void nc_migration_want_back(NcMigration *m, bool wanted);
bool nc_migration_permit_start(NcMigration *m, int64_t now_us);
bool nc_migration_word_counts(NcMigration *m, int64_t since_us, int64_t now_us);

/* Changes the run right durably, from ${from}/${from_epoch} to ${to}/${to_epoch}. */
bool nc_migration_move_right(NcMigration *m, NcRightState from, uint64_t from_epoch, NcRightState to, uint64_t to_epoch,
                             GError **error);

/* The mover's progress event into the record. */
void nc_migration_take_progress(NcMigration *m, json_t *progress);
/* Starts this side's mover, whose messages arrive in the inbox. NULL on error. */
NcMoverProcess *nc_migration_start_mover(NcMigration *m, const NcMoverOrder *order, GError **error);
/* A mover's {"ev":"error"} as GError, with this node's side named. Sets *error always. */
void nc_migration_mover_error(NcMigration *m, json_t *event, GError **error);

/* Source: takes ${link} and starts its reader, whose messages arrive in the inbox; drop ends both. */
void nc_migration_attach_link(NcMigration *m, NcPeer *link);
void nc_migration_drop_link(NcMigration *m);
/* Destination: the session's thread lends its connection, and takes it back before it closes it. */
void nc_migration_lend_link(NcMigration *m, NcPeer *link);
void nc_migration_reclaim_link(NcMigration *m, NcPeer *link);
bool nc_migration_has_link(NcMigration *m);
/* Wakes whoever waits on the link; for the end of novacrond. */
void nc_migration_cut_link(NcMigration *m);
/* A session's thread that uses the migration outside the register's lock. */
void nc_migration_borrow(NcMigration *m);
void nc_migration_return(NcMigration *m);
bool nc_migration_has_borrower(NcMigration *m);
/* Sends to the other agent; ${message} taken; false if cut off. */
bool nc_migration_tell(NcMigration *m, json_t *message, GError **error);
/* The same with ${bytes} right behind the message, which tells how many (crypto/peer.h); NULL or empty: none. */
bool nc_migration_tell_with(NcMigration *m, json_t *message, const GByteArray *bytes, GError **error);

/*
 * Runs the hooks whose names begin with ${prefix} (agent/hooks.h) with who moves where; blocks. What they did is in the
 * history. False at the first that failed.
 */
bool nc_migration_run_hooks(NcMigration *m, const char *prefix, GError **error);
/* Subscribes the inbox to the lease's QMP events. */
void nc_migration_watch_qemu(NcMigration *m);
/* Microseconds (wall clock) of a QMP event's timestamp; 0 if it has none. */
int64_t nc_qmp_event_us(json_t *event);
