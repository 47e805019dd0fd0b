/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happened in the fleet, in the order in which it became visible: an event's id is greater than that of any which could be read before. Ids are
 * never used twice, and some are left out. Each change of a migration, node or evacuation adds one in its own transaction, so the newest id also says
 * whether a list may have changed since it was read.
 */
#pragma once

#include "fleetdb/page.h"

typedef struct {
  const char *kind;      /* "migration.state", "node.joined", ...: docs/fleet-database.md */
  const char *subject;   /* the migration, node, evacuation ... */
  const char *migration; /* whose event it is; NULL: none's */
  json_t *detail;        /* an object, borrowed; NULL: {} */
} NcFleetEvent;

/* In a write. ${ret_id} may be NULL. */
bool nc_fleetdb_add_event(NcFleetDb *db, const NcFleetEvent *event, uint64_t *ret_id, GError **error);
/*
 * Oldest first, those with an id greater than ${after}: of ${migration}, or all (NULL). At most ${limit} (0: NC_PAGE_USUAL).
 * [{id, at_us, kind, subject, migration, detail}], new reference.
 */
json_t *nc_fleetdb_list_events(NcFleetDb *db, uint64_t after, const char *migration, unsigned limit, GError **error);
/* Likewise of ${group}, a batch ("bat-") or an evacuation, and of each of its migrations. */
json_t *nc_fleetdb_list_group_events(NcFleetDb *db, uint64_t after, const char *group, unsigned limit, GError **error);
/*
 * The ids of the oldest and the newest event that are there; both 0: there has never been one. Somebody who wants to go on after an id below
 * *ret_oldest - 1 may have missed some that were pruned.
 */
bool nc_fleetdb_event_range(NcFleetDb *db, uint64_t *ret_oldest, uint64_t *ret_newest, GError **error);

/*
 * In a write. Removes what ended before: events and answers to idempotency keys (${events_before_us}, ${keys_before_us}), finished migrations with
 * their events, evacuations and batches (${history_before_us}), tokens that ran out or were ended then (the same). At most ${limit} rows of
 * each, so that no transaction is long; *ret_removed: how many rows in all; again until it is 0. The newest event stays, and with it
 * the migration whose it is. Microseconds since 1970.
 */
typedef struct {
  int64_t events_before_us, keys_before_us, history_before_us;
  unsigned limit;
} NcPrune;
bool nc_fleetdb_prune(NcFleetDb *db, const NcPrune *prune, uint64_t *ret_removed, GError **error);
