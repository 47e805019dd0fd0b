/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault points: "if the power goes here, who runs?", asked by a test.
 *
 * The handoff's code names its dangerous lines. A process started with the
 * environment variable NOVACRON_FAULT="POINT:ACTION" does ACTION when it first
 * reaches POINT: `kill` dies like kill -9, `stop` stops like SIGSTOP (until
 * SIGCONT), `sleep=MS` waits; other actions are for those who ask for them. Without the variable a point costs one load.
 * Whoever can set novacrond's environment could as well kill it, so this is
 * compiled into every build: what is tested is what runs.
 */
#pragma once

#include <stdbool.h>

void nc_fault_point(const char *point);
/* Is it for ${point} and ${action} that the process was started? True once. */
bool nc_fault_asks(const char *point, const char *action);
