/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node calls the controllers that it heeds, and is asked over these connections (decision 093): one that is behind NAT or a firewall
 * can't be called by them.
 *
 * For each name in `controllers` there is a thread with one connection, which is made again after it has ended, at growing intervals of at most
 * NC_FLEET_CALL_MOST_S. What comes over it is answered as if it had come to our own port (fleet_side.h).
 */
#pragma once

#include "agent/fleet_side.h"

#define NC_FLEET_CALL_MOST_S 30

typedef struct NcFleetCaller NcFleetCaller;

/* ${side}: borrowed. Names that are added to `controllers` later are called after a restart. */
NcFleetCaller *nc_fleet_caller_new(const NcFleetSide *side);
/* Hangs up, and waits for the threads: at most the time limit of an attempt to connect. NULL is fine. */
void nc_fleet_caller_free(NcFleetCaller *caller);
