/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Giving up privileges, in stages:
 *
 *   1 start      as started: may open sockets, read keys
 *   2 user       another uid, no capabilities, no way back, no core dumps
 *   3 filter     only the system calls a server of open sockets needs: no
 *                files, no programs, no new sockets but UNIX ones (novacrond
 *                may be restarted and has to be connected to again)
 */
#pragma once

#include "base/error.h"
#include <stdbool.h>
#include <sys/types.h>

/* Becomes ${user} with its groups; needs root. */
bool nc_sandbox_drop_user(const char *user, GError **error);

/*
 * Sets the bound of descriptors to what the gate needs with ${watchers}, as far as this process may; returns for how many
 * there is room.
 */
unsigned nc_sandbox_limit_files(unsigned watchers);

/* No new privileges, no core dumps (the TLS key is in memory). */
bool nc_sandbox_harden(GError **error);

/* The filter, for this thread and all it starts from now. Stage 3 can't be left. */
bool nc_sandbox_filter(GError **error);
