/* SPDX-License-Identifier: Apache-2.0 */
/* Is this machine alive: QEMU says running, and its vCPU threads get somewhere. */
#pragma once

#include "qemu/qmp.h"

/*
 * Blocks for at most NC_LIVENESS_WAIT_MS. ${ret_detail}: what was seen, for
 * people; caller frees. A running machine whose vCPUs are idle is alive.
 */
#define NC_LIVENESS_WAIT_MS 2000
bool nc_liveness_check(NcQmp *qmp, pid_t pid, char **ret_detail);
/* The same, with ${wait_ms} for a machine that does nothing: where many are looked at one after the other. */
bool nc_liveness_check_within(NcQmp *qmp, pid_t pid, int wait_ms, char **ret_detail);
