/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the source's half share: source_prepare.c (until the first
 * byte), source_copy.c (rounds, switchover, release), source_postcopy.c (while the
 * destination still needs pages), source_handoff.c (after the release, and every way back),
 * source_rollback.c (that way's steps), source_resume.c (QEMU, on it).
 */
#pragma once

#include "agent/algorithm.h"
#include "agent/keeper.h"
#include "agent/migration_peer.h"
#include "agent/page_feed.h"
#include "agent/rollback.h"
#include "agent/source_disks.h"
#include "agent/source_forecast.h"
#include "agent/source_path.h"

/* The name under which QEMU keeps the duplicate of our end of its migration socket (design section 5). */
#define NC_KEEPER_NAME "novacron-keeper"
#define NC_KEEPER_PREEMPT_NAME "novacron-keeper-2" /* of its second one, for requested pages */

typedef struct {
  NcMigration *m;
  char *address;        /* of the destination's agent, "host:port" */
  int max_downtime_ms;
  int streams;
  char *compression;
  NcAlgorithm algorithm;
  int max_cpu; /* percent of this node's processors that coding may use */

  uint64_t held_epoch;  /* the epoch under which we hold the right */
  bool was_running;     /* a paused machine arrives paused, and stays paused if it comes back */
  NcSourcePath *path;
  NcSourceForecast *forecast;
  NcSourceDisks *disks; /* those that are copied; NULL: none */
  NcEndgameAnswer endgame;  /* the last one */
  unsigned endgame_notes;
  uint64_t pace_bps;        /* what QEMU may send per second while it waits for that; 0: no limit */
  bool memory_begun;    /* QEMU was told to migrate; before that, disks are copied */
  bool may_go_ahead;    /* the destination keeps pages that come ahead of QEMU's stream */
  NcPageFeed *page_feed; /* they come from here; NULL */
  int listener;         /* QEMU connects here; -1 */
  NcKeeper *keeper;     /* our own duplicate of the accepted socket; NULL */
  NcKeeper *preempt_keeper; /* and of the second one */

  bool postcopy; /* both sides are ready for it */
  bool preempt;  /* QEMU makes a second connection, at the start or at the switch */
  bool preempt_taken;
  /* state SERVING */
  bool destination_broken; /* there is no mover there */
  bool destination_lost;   /* and its QEMU is dead */
  bool mover_failed;       /* ours, before it was known that the machine runs there */
  bool recovering;         /* mig_recover was said */
  int64_t next_recovery_us;
  int64_t recovery_wait_us;
  unsigned recoveries; /* attempts, for the names of sockets */
  int64_t next_serve_us;

  int64_t started_us;      /* monotonic */
  int64_t clock_offset_us; /* destination's clock minus ours */
  int64_t link_rtt_us;
  int64_t stop_us; /* wall clock of QEMU's STOP; 0: not yet */
  int64_t stop_seen_us; /* when we heard of it, CLOCK_MONOTONIC; 0: another novacrond did */
  bool alive;      /* the destination saw it live */
  bool alive_known;
  bool resolved;        /* the operator said: run here, */
  int64_t resolved_us;  /* then; */
  int64_t next_let_go_us; /* and the destination is asked to let go, again then */
  int64_t verifying_since_us;
  bool attention;       /* a human was asked; */
  int64_t next_ask_us;  /* so is the destination, again then */
  const GError *rollback_reason; /* borrowed, while it is rolled back from before the release; else NULL */
} NcSource;

/* Everything up to COPYING. On error nothing is undone: the caller aborts. */
bool nc_source_prepare(NcSource *s, GError **error);

/* QEMU connects and begins, with its keeper. */
bool nc_source_begin_memory(NcSource *s, GError **error);

/* Copies until the right is released or everything is undone. */
void nc_source_copy(NcSource *s);
/* --- source_prepare.c, also for a recovery --- */

bool nc_source_start_mover(NcSource *s, const uint8_t psk[NC_MIG_PSK_BYTES], GError **error);
NcShadowSize nc_source_shadow_size(NcSource *s);
/* QEMU's next connection to s->listener, if it is QEMU's. ${timeout_ms} 0 looks only. -1 on error, NC_ERROR_TIMEOUT among them. */
int nc_source_accept_qemu(NcSource *s, int timeout_ms, GError **error);
/* QEMU's second connection, if it has come: kept, and handed to the mover. */
void nc_source_take_preempt(NcSource *s);

/* --- source_postcopy.c --- */

/* Of the destination's words those that are about post-copy; false for others. */
bool nc_source_on_serving(NcSource *s, json_t *message);
/* Several times a second in state RELEASED: says so if our QEMU is dead in post-copy, since the destination may wait for a page of it. */
void nc_source_serve_released(NcSource *s);
/* Several times a second in state SERVING: recovers the flow if it is broken, ends what is lost. */
void nc_source_serve(NcSource *s);
/* Our mover is gone in state SERVING. */
void nc_source_serving_mover_gone(NcSource *s);

/* --- source_resume.c --- */

/* Ends QEMU's migration so that it keeps the guest. The keepers, which have been drained, go. */
bool nc_source_resume_end_migration(NcSource *s, GError **error);
/* And sees to it that a guest which ran runs again. */
bool nc_source_resume_cont(NcSource *s, GError **error);

/* --- source_rollback.c --- */

/* The record of this attempt's way back: a new one, or the one that a crash cut short. */
NcRollback *nc_source_rollback_begin(NcSource *s, const GError *reason);
/* Steps 1 and 2: after them the right is held here, on disk, and the guest has not been touched. */
bool nc_source_rollback_secure(NcSource *s, NcRollback *r, GError **error);
/* Steps 3 to 8: the guest runs here again, if it did before, and the lease has ended. */
bool nc_source_rollback_return(NcSource *s, NcRollback *r, GError **error);
/* Closes the record; with ${problem} people are asked, and the lease is ended all the same. */
void nc_source_rollback_end(NcSource *s, NcRollback *r, const GError *problem);
/* The machine runs at the destination: a way back that was begun and did not come to hold the right is closed. */
void nc_source_rollback_overtaken(NcMigration *m);
/* After a restart, without the lease: true if a rollback had come as far as to end it, and now this migration is ended, too. */
bool nc_source_rollback_settle(NcSource *s);

/* --- source_handoff.c --- */

void nc_source_end_mover(NcSource *s);
/* Asks people, once; ${choice}: what they can do. */
void nc_source_attention(NcSource *s, const char *what, const char *choice);
void nc_source_attention_over(NcSource *s);

/* One item of the inbox, in any state. */
void nc_source_handle(NcSource *s, NcInboxItem *item);

/* Before release: undo everything, the machine runs on here. */
void nc_source_abort(NcSource *s, const GError *reason);
/* Its end, after the rollback: failed, cancelled or to be tried again. ${problem}: of the rollback, NULL: none. */
void nc_source_finish_abort(NcSource *s, NcRollback *r, const GError *reason, const GError *problem);
/* After release: waits for the destination's word, for ever if need be, and acts on it. */
void nc_source_await_verdict(NcSource *s);
/* An operator has said: run here. */
void nc_source_on_resolve(NcSource *s);
/* Handles one message of the destination in state RELEASED or VERIFYING. */
void nc_source_on_verdict(NcSource *s, json_t *message);

/* Reads QEMU's statistics into the record. */
void nc_source_poll_qemu(NcSource *s);
/* By the record: QEMU was told to switch to post-copy. */
bool nc_source_is_in_postcopy(NcSource *s);
bool nc_source_must_stop(NcSource *s);
