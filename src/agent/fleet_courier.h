/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hands what people ask of the fleet on to another node's controller (message fl_ask, docs/protocols.md section 2), for
 * nodes whose own does not lead, or that have none (decision 094).
 *
 * Who gets such a message does it itself or says which node leads; it hands nothing on. So there is one hop, whatever
 * nodes believe of each other. A change is sent once: if the connection breaks before the answer, whoever asked has to
 * ask again, under the same idempotency key.
 *
 * Any thread; calls block for the other node, within the time that the gate gives them.
 */
#pragma once

#include "agent/fleet_host.h"

typedef struct NcFleetCourier NcFleetCourier;

/* ${side}: this node's; borrowed. */
NcFleetCourier *nc_fleet_courier_new(const NcFleetSide *side);
/* Those who wait for an answer get NC_ERROR_CANCELLED, and so does who comes later. */
void nc_fleet_courier_stop(NcFleetCourier *courier);
/* When nobody is inside any more. NULL is fine. */
void nc_fleet_courier_free(NcFleetCourier *courier);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcFleetCourier, nc_fleet_courier_free)

/* All borrowed. */
typedef struct {
  const NcFleetOp *op;
  const char *actor; /* who asks, on this node */
  json_t *args;
} NcFleetErrand;

/*
 * To the controller of ${leader}. The answer, a new reference. NC_ERROR_UNAVAILABLE: it can't be reached, or does not
 * lead any more, and nothing was done. NC_ERROR_UNREACHABLE: it is not known whether it was. Others: its own.
 */
json_t *nc_fleet_courier_to(NcFleetCourier *courier, const char *leader, const NcFleetErrand *errand, GError **error);
/* Does the key `controllers` name any node but this one? */
bool nc_fleet_courier_knows_any(NcFleetCourier *courier);
/* To one of those nodes that the key `controllers` names. NC_ERROR_CONFLICT: it names none. Others: likewise. */
json_t *nc_fleet_courier_to_any(NcFleetCourier *courier, const NcFleetErrand *errand, GError **error);
