/* SPDX-License-Identifier: Apache-2.0 */
/* Telling what happens to a migration, or to what the fleet's controllers manage, as it happens. */
#pragma once

#include "cli/cli.h"

/*
 * Prints the events of ${id}, a migration of this node or a migration, batch or evacuation of the fleet, until it has
 * ended: a line each (with --json the messages as they are, one a line), and on standard error its progress. A connection that is lost is made again, and nothing is missed. After Ctrl-C
 * NC_ERROR_CANCELLED; it goes on.
 */
bool nc_watch(const NcCli *cli, const char *id, GError **error);
