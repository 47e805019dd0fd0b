/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the destination's half share: destination_prepare.c (until it can
 * receive), destination_migration.c (its thread, and what that hears), destination_handoff.c
 * (taken, refused or lost), destination_postcopy.c (while pages are still missing),
 * destination_recover.c (after a restart), destination_query.c (when no thread lives any more).
 */
#pragma once

#include "agent/migration_peer.h"

typedef struct {
  NcMigration *m;
  bool running; /* a machine that is paused at the source arrives paused */
  bool to_cont; /* a former novacrond took it, and may not have come to start it: to be done as soon as QEMU answers */
  bool granted; /* the grant for our epoch came */
  bool shut;    /* QEMU said that it loaded everything */
  bool loaded;  /* and its migration state says so too */
  bool package_loaded;     /* post-copy: device state is there, pages may come later */
  int64_t path_timeout_ms; /* of the source: how long it waits for us */
  int64_t resume_us;
  int64_t cut_off_since_us; /* monotonic; 0 while the source's agent is there */
  int64_t running_since_us;
  int64_t load_failed_us;   /* monotonic; QEMU's state is "failed" since then; 0: it is not */
  int64_t wire_gone_us;     /* monotonic; the source has said that its mover is gone for good; 0: it has not */
  bool stream_ended;        /* the mover has given QEMU the last byte there is */
  int64_t source_lost_us;   /* monotonic; the source's QEMU is dead; 0: it is not */
  bool broken;              /* post-copy: the mover is gone, the source has to begin a recovery */
  bool attention;           /* and people were told that pages are missing */
  unsigned recoveries;      /* attempts, for the names of sockets */
  int64_t next_look_us;     /* at QEMU's state */
  unsigned unanswered;      /* looks, since it last said anything */
} NcDestination;

/* --- destination_prepare.c --- */

/* The mover, which takes connections at once, then QEMU up to the point where it listens to its mover. */
bool nc_destination_prepare(NcMigration *m, json_t *request, GError **error);
/* The mover that ${request} (mig_prepare, mig_recover) describes; the source hears mig_accepted. */
bool nc_destination_start_mover(NcMigration *m, json_t *request, GError **error);
/* Hands the mover what QEMU, listening at ${path}, takes: the main channel, then the one for requested pages. */
bool nc_destination_connect_qemu(NcMigration *m, const char *path, bool preempt, GError **error);

/* --- destination_handoff.c --- */

#define NC_ANNOUNCE_MS 10000 /* for QEMU's answer to announce-self */

void nc_destination_end_mover(NcMigration *m);
/* The one place where the destination takes the right: durable first, then `cont`. In post-copy (${postcopy}) pages are still missing. */
void nc_destination_take(NcDestination *d, bool postcopy);
/* Never starts this epoch: QEMU is killed first, then the refusal is made durable, then it is said. ${outcome}: of the record. */
void nc_destination_refuse(NcMigration *m, const char *outcome, const GError *reason);
/* The machine may have run here, and can't go on: nothing is given back by itself; the source asks its operator. */
void nc_destination_lose(NcMigration *m, const GError *reason);
/* HELD is on disk: tells the source how it stands here. */
void nc_destination_tell_started(NcDestination *d);
/* The guest runs: says so to the source, the network and the hooks. */
void nc_destination_say_started(NcDestination *d);
void nc_destination_report_alive(NcDestination *d);
/* It runs here and the source has heard it: the migration is at its end. */
void nc_destination_done(NcDestination *d, bool confirmed);

/* --- destination_migration.c --- */

/* Starts ${m}'s thread with ${request} (mig_prepare). */
void nc_destination_begin(NcMigration *m, json_t *request);
/* Until the migration is finished here, or novacrond stops. */
void nc_destination_loop(NcDestination *d);

/* --- destination_postcopy.c --- */

/* Can QEMUs of this node's be told of missing pages by the kernel? ${ret_problem} (may be NULL): an errno. */
bool nc_postcopy_is_possible(int *ret_problem);
/* Waits until QEMU has taken the package in, so that it can be told to run. */
bool nc_destination_await_package(NcDestination *d, NcQmp *qmp, GError **error);
/* Events of state FETCHING. */
void nc_destination_fetching_mover_gone(NcDestination *d, const GError *reason);
void nc_destination_fetching_qemu_gone(NcDestination *d);
/* What has left there still arrives; then it is seen whether anything is missing. */
void nc_destination_source_lost(NcDestination *d);
/* An operator says that the source will not come back. */
void nc_destination_fetching_give_up(NcDestination *d);
/* mig_recover: new movers, and QEMU told to go on with them. Blocks for some seconds. */
void nc_destination_fetching_recover(NcDestination *d, json_t *message);
/* Several times a second: is everything here? */
void nc_destination_fetching_tick(NcDestination *d);
