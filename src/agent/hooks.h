/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks: programs of the operator's, run before a migration at its source and
 * after it at its destination, for routes, DNS, monitoring.
 *
 * In the directory `hooks_dir`, executable files named pre-* or post-* (letters,
 * digits, "-" and "_", as run-parts(8) has it), in the order of their names. A
 * file that others than root or novacrond's user could have written is not run,
 * and that is an error. Each gets one JSON object on stdin, and may say a
 * few lines on stdout or stderr; what it leaves behind is killed with it.
 */
#pragma once

#include "base/msg.h"

/*
 * Runs those that begin with ${prefix} ("pre-", "post-"), each for ${timeout_ms} at most. ${what}: borrowed, for their stdin.
 * False with NC_ERROR_CONFLICT at the first that can't be run, ends with another status than 0, or does not end; those
 * after it are not run. *ret_ran: how many have. Blocks; any thread. A directory that is not there has no hooks.
 */
bool nc_hooks_run(const char *directory, const char *prefix, json_t *what, int timeout_ms, unsigned *ret_ran, GError **error);
