/* SPDX-License-Identifier: Apache-2.0 */
/* Following a migration to its end, with progress on standard error. */
#pragma once

#include "cli/cli.h"

/*
 * Asks for migration ${id} every 250 ms until it has ended or needs attention;
 * draws one line in place if standard error is a terminal, else writes a line
 * every 2 s. NovaCron not answering for a while (a restart) is waited out: the
 * migration goes on meanwhile. New reference to its last state. NULL with
 * NC_ERROR_CANCELLED after Ctrl-C: the migration goes on and *ret_interrupted
 * is set.
 */
json_t *nc_follow(const NcCli *cli, const char *id, bool *ret_interrupted, GError **error);
