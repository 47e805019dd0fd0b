/* SPDX-License-Identifier: Apache-2.0 */
/*
 * novacrond as a whole: builds the parts in their order, runs until a signal,
 * and takes them apart again. Machines run on before, during and after.
 */
#pragma once

#include "agent/config.h"

/*
 * Runs in the foreground until SIGTERM or SIGINT. ${config} is borrowed and
 * changed by reloads (SIGHUP). False with ${error} if it could not start.
 */
bool nc_daemon_run(NcConfig *config, GError **error);
