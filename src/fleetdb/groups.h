/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many migrations as one: batches (fleet/batch.h) and evacuations of nodes (fleet/evacuation.h).
 *
 * A batch is what was asked for; its migrations name it (migrations.h), and how it stands is their count. What could not be submitted is in its
 * detail.
 *
 * An evacuation has items, one for each machine of its nodes, in the order of its plan: where it should go, in which wave, or why it can't move.
 * An item names its migration once there is one. All of it is written before the first migration is submitted, so that who leads next can go on:
 * items without migration and reason are what is left to do.
 */
#pragma once

#include "fleetdb/page.h"

/* --- batches --- */

/* In a write. ${detail}: an object, borrowed; NULL: {}. */
bool nc_fleetdb_add_batch(NcFleetDb *db, const char *id, const char *policy, const char *actor, json_t *detail, GError **error);
/* {seq, id, policy, actor, created_us, detail}. New reference; NC_ERROR_NOT_FOUND. */
json_t *nc_fleetdb_get_batch(NcFleetDb *db, const char *id, GError **error);
/* Newest first, with an empty detail. New reference. */
json_t *nc_fleetdb_list_batches(NcFleetDb *db, const NcPage *page, char **ret_next, GError **error);

/* --- evacuations --- */

typedef struct {
  const char *machine, *source;
  const char *destination; /* NULL: it can't move */
  unsigned wave;
  const char *reason; /* why it can't; NULL */
} NcEvacuationItem;

typedef struct {
  const char *id;
  const char *const *nodes; /* NULL-terminated */
  const char *actor;
  json_t *detail; /* an object, borrowed: options, the plan's times; NULL: {} */
  const NcEvacuationItem *items;
  size_t count;
} NcEvacuationRecord;

/* In a write: state "planned". NC_ERROR_EXISTS. */
bool nc_fleetdb_add_evacuation(NcFleetDb *db, const NcEvacuationRecord *evacuation, GError **error);
/*
 * In a write: to "running", "cancelling", or an end: "completed", "failed", "cancelled". It can't leave an end, and "cancelling" only for
 * "cancelled" or "failed" (NC_ERROR_CONFLICT). ${reason}: NULL for none. Adds the event "evacuation.state". NC_ERROR_NOT_FOUND.
 */
bool nc_fleetdb_set_evacuation(NcFleetDb *db, const char *id, const char *state, const char *reason, GError **error);
/*
 * In a write: what became of the item of ${machine}: its ${migration}, or the ${reason} why there is none (the other one NULL).
 * NC_ERROR_NOT_FOUND; NC_ERROR_CONFLICT: it has a migration already.
 */
bool nc_fleetdb_set_item(NcFleetDb *db, const char *evacuation, const char *machine, const char *migration, const char *reason,
                         GError **error);
/* Likewise: it needs none, as it has left the node in another way; ${reason}: where it is. */
bool nc_fleetdb_set_item_gone(NcFleetDb *db, const char *evacuation, const char *machine, const char *reason, GError **error);
/* *ret: how many items have neither a migration nor a reason why not, yet. 0 of one that there is not. */
bool nc_fleetdb_count_pending_items(NcFleetDb *db, const char *evacuation, uint64_t *ret, GError **error);
/* {seq, id, nodes, state, is_finished, actor, created_us, changed_us, reason, detail}. New reference; NC_ERROR_NOT_FOUND. */
json_t *nc_fleetdb_get_evacuation(NcFleetDb *db, const char *id, GError **error);
/* Newest first; ${unfinished_only}. New reference. */
json_t *nc_fleetdb_list_evacuations(NcFleetDb *db, bool unfinished_only, const NcPage *page, char **ret_next, GError **error);
/*
 * In the order of the plan: {position, machine, source, destination, wave, migration, goes_to (the destination of its migration; that of the plan
 * while it has none), state (of its migration; without one "gone", or ""), reason (likewise; or why
 * it has none)}. New reference.
 */
json_t *nc_fleetdb_list_items(NcFleetDb *db, const char *evacuation, const NcPage *page, char **ret_next, GError **error);
