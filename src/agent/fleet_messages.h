/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What those who watch the fleet are told: rows of its events (fleetdb/events.h) as messages, and samples of how far a
 * migration, a batch or an evacuation is. The messages of one migration are those of a node's own
 * (agent/migration_views.h), so that whoever can read the one can read the other. Pure.
 */
#pragma once

#include "base/error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * {id, type, at, data} of ${event}, which is one of the migration ${record} (as fleet.get has it). type: phase, warning,
 * alert (a human has to decide), event, and at the end completed, failed (also refused: it never began) or cancelled.
 * New reference.
 */
json_t *nc_fleet_move_message(json_t *event, json_t *record);

/*
 * Of many: type warning, alert or event; data: {event: its kind, detail: for people, subject, migration, facts: its
 * detail in the database}. Of ${group}, an evacuation, the own states are phase, and at its end as above; NULL: none's
 * are. New reference.
 */
json_t *nc_fleet_message(json_t *event, const char *group);

/* How far the migration ${record} is: the data of a message of type progress. New reference; NULL: it is not known here. */
json_t *nc_fleet_move_sample(json_t *record);

/*
 * The same with what else migration.status says of a node's (agent/migration_views.h); phase null: it is not known here; destination null: not chosen
 * yet. is_finished tells it from those. ${now_us}: wall clock. New reference.
 */
json_t *nc_fleet_move_status(json_t *record, int64_t now_us);

typedef struct {
  json_t *record;   /* of the batch or evacuation, as fleet.get has it: with counts of its migrations by state */
  uint64_t pending; /* items that have no migration yet */
  json_t *parts;    /* what is under way (controller.h, describe_group()); NULL: it is not known here */
} NcFleetGroup;

bool nc_fleet_group_has_ended(const NcFleetGroup *group);
/*
 * {phase (an evacuation's state; of a batch running or completed), progress (percent of its machines that have moved, parts
 * of those under way counted; null: not known here), transfer_rate (likewise), eta, eta_ms, eta_basis ("pace": as it went until now;
 * "plan": what was planned is left of; null: not known), total, done, counts, running: [{migration, machine, source,
 * destination, attempt, phase, progress, transfer_rate, eta_ms, waits, silence}]}. ${now_us}: wall clock. New reference.
 */
json_t *nc_fleet_group_sample(const NcFleetGroup *group, int64_t now_us);
