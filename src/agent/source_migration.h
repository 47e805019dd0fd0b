/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the source's half share: source_prepare.c (until the first
 * byte), source_copy.c (rounds, switchover, release), source_handoff.c (after
 * the release, and every way back).
 */
#pragma once

#include "agent/keeper.h"
#include "agent/migration_peer.h"
#include "agent/source_path.h"

/* The name under which QEMU keeps the duplicate of our end of its migration socket (design section 5). */
#define NC_KEEPER_NAME "novacron-keeper"

typedef struct {
  NcMigration *m;
  char *address;        /* of the destination's agent, "host:port" */
  int max_downtime_ms;
  int streams;
  char *compression;
  int max_cpu; /* percent of this node's processors that coding may use */

  uint64_t held_epoch;  /* the epoch under which we hold the right */
  bool was_running;     /* a paused machine arrives paused, and stays paused if it comes back */
  NcSourcePath *path;
  int listener;         /* QEMU connects here; -1 */
  NcKeeper *keeper;     /* our own duplicate of the accepted socket; NULL */

  int64_t started_us;      /* monotonic */
  int64_t clock_offset_us; /* destination's clock minus ours */
  int64_t link_rtt_us;
  int64_t stop_us; /* wall clock of QEMU's STOP; 0: not yet */
  bool alive;      /* the destination saw it live */
  bool alive_known;
  bool resolved;        /* the operator said: run here */
  int64_t verifying_since_us;
  bool attention;       /* a human was asked */
} NcSource;

/* Everything up to COPYING. On error nothing is undone: the caller aborts. */
bool nc_source_prepare(NcSource *s, GError **error);

/* Copies until the right is released or everything is undone. */
void nc_source_copy(NcSource *s);
/* One item of the inbox, in any state. */
void nc_source_handle(NcSource *s, NcInboxItem *item);

/* Before release: undo everything, the machine runs on here. */
void nc_source_abort(NcSource *s, const GError *reason);
/* After release: waits for the destination's word, for ever if need be, and acts on it. */
void nc_source_await_verdict(NcSource *s);
/* Handles one message of the destination in state RELEASED or VERIFYING. */
void nc_source_on_verdict(NcSource *s, json_t *message);

/* Reads QEMU's statistics into the record. */
void nc_source_poll_qemu(NcSource *s);
bool nc_source_must_stop(NcSource *s);
