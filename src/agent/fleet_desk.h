/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where people's fleet.* requests arrive, on whichever node: done by this node's controller, or handed on to the one
 * that leads (fleet_courier.h); and where other nodes' fl_* messages are answered (fleet_side.h, fleet_handed.h).
 *
 * What a controller that does not lead can read from the database it answers itself, and if it can't, another one. Any
 * thread; calls block.
 */
#pragma once

#include "agent/control.h"
#include "agent/fleet_host.h"

typedef struct NcFleetDesk NcFleetDesk;

/* ${side}, ${host}: this node's, borrowed; ${host} NULL: no controller here. */
NcFleetDesk *nc_fleet_desk_new(const NcFleetSide *side, NcFleetHost *host);
/* Nobody waits for another node any more: before the control socket closes. */
void nc_fleet_desk_stop(NcFleetDesk *desk);
/* When control socket and port are closed; before ${host} is freed. NULL is fine. */
void nc_fleet_desk_free(NcFleetDesk *desk);

/* The rows of the control socket's fleet.* operations. */
void nc_fleet_desk_fill_ops(NcFleetDesk *desk, NcControlOp ret_ops[NC_FLEET_OPS]);
/* The answer to an fl_* message, a new reference. */
json_t *nc_fleet_desk_answer(NcFleetDesk *desk, NcPeer *peer, json_t *message, GError **error);
