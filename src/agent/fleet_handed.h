/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other nodes hand on to this one's controller: requests that people made there (message fl_ask). The other end is
 * fleet_courier.h.
 *
 * What such a node may (decision 094). Who asks, and with which role, is its word. So changes, and plans, which take
 * the controller's time, are taken only of nodes that `fleet_gates` or `controllers` names; other questions of each
 * node of the roster. A node may have NC_FLEET_HANDED_MOST under way. Nothing is handed on from here: what only the
 * leader can do, and this one does not lead, is answered with who does. Changes are in this node's transaction log,
 * too.
 */
#pragma once

#include "agent/fleet_host.h"

#define NC_FLEET_HANDED_MOST 16 /* as many as a node's control socket works on at once */

typedef struct NcFleetHanded NcFleetHanded;

/* ${side}, ${host}: borrowed; ${host} NULL: no controller here. */
NcFleetHanded *nc_fleet_handed_new(const NcFleetSide *side, NcFleetHost *host);
void nc_fleet_handed_free(NcFleetHanded *handed); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcFleetHanded, nc_fleet_handed_free)

/*
 * Does what ${message}, an fl_ask of ${node}, asks for: {type: "fl_answer", result, leader} or {type: "fl_elsewhere",
 * leader}; leader: the node whose controller leads, or "". New reference. Any thread; waits for the controller.
 */
json_t *nc_fleet_handed_answer(NcFleetHanded *handed, const char *node, json_t *message, GError **error);

/*
 * Whose idempotency keys those of ${actor} are, who asks on ${node}: a certificate is the same person wherever they
 * ask, a user id means something on its own node only. Caller frees.
 */
char *nc_fleet_owner_of(const char *actor, const char *node);
