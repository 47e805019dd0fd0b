/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands about the fleet have in common: staying to the end of what was begun. */
#pragma once

#include "cli/fleet_view.h"

/* Of the list of what a batch (its migrations) or an evacuation (its items) consists of. Caller frees. */
char *nc_fleet_parts_path(NcFleetKind kind, const char *id);

/*
 * Stays until ${id} has ended, with a line of progress; prints what came of it, and what has not moved and why (with
 * --json the record with "not_moved"), and sets cli->status. After Ctrl-C it goes on, and how to look again and how to
 * cancel it is said.
 */
bool nc_fleet_wait(NcCli *cli, NcFleetKind kind, const char *id, GError **error);

/* The id in ${answer}, checked; borrowed from it. NC_ERROR_PROTOCOL. */
const char *nc_fleet_answered_id(json_t *answer, NcFleetKind kind, GError **error);
