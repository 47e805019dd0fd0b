/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fleet as people see it: what of the controller's answers is printed, and
 * how. A "record" is what the API gives for an id: of a migration ("mig-"), a
 * batch ("bat-") or an evacuation ("eva-"). Prints to standard output, if not
 * said otherwise.
 */
#pragma once

#include "cli/cli.h"
#include <stdio.h>

/* --- ids --- */

typedef enum { NC_FLEET_MIGRATION, NC_FLEET_BATCH, NC_FLEET_EVACUATION } NcFleetKind;

/* What ${id} is one of. NC_ERROR_INVALID if it can't be told, or is no name at all. */
bool nc_fleet_kind_of(const char *id, NcFleetKind *ret, GError **error);
/* "migration", "batch", "evacuation"; also the member of lists' queries. */
const char *nc_fleet_kind_name(NcFleetKind kind);
/* Of the REST API, for ${id}. Caller frees. */
char *nc_fleet_kind_path(NcFleetKind kind, const char *id);

/* --- lists: {"items": [...]} --- */

void nc_fleet_print_status(json_t *status);
void nc_fleet_print_nodes(json_t *list);
void nc_fleet_print_machines(json_t *list);
void nc_fleet_print_migrations(json_t *list);
/* Those that have ended. */
void nc_fleet_print_history(json_t *list);
void nc_fleet_print_evacuations(json_t *list);
void nc_fleet_print_batches(json_t *list);
/* Of an evacuation, and why some have not moved. */
void nc_fleet_print_items(json_t *list);

/* --- records --- */

/* Everything about one. */
void nc_fleet_print_record(NcFleetKind kind, json_t *record);

/* Is there nothing to wait for: it has ended, or needs attention? */
bool nc_fleet_migration_is_over(json_t *record);
bool nc_fleet_batch_is_over(json_t *record);
bool nc_fleet_evacuation_is_over(json_t *record);

/* One line of how it stands. Caller frees. */
char *nc_fleet_migration_progress(json_t *record);
char *nc_fleet_group_progress(json_t *record);

/* The exit status of one that is over: 0 all has moved, 9 cancelled, 6 something did not move; of a migration also 10
 * and 11. */
int nc_fleet_exit_status(NcFleetKind kind, json_t *record);

/* --- plans and reasons --- */

/* Waves, the whole time, the moves, and what can't move and why. */
void nc_fleet_print_plan(json_t *plan);
/* Where a machine would go, how well nodes fit, and why the others can't take it. */
void nc_fleet_print_placement(json_t *placement);
/*
 * ${items}: {"machine", "reason", perhaps "state"}; "name: why" for each, the first 20 of them. To ${file}, which is
 * standard error or standard output.
 */
void nc_fleet_print_reasons(FILE *file, json_t *items);
