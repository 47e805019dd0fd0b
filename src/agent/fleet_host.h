/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fleet's controller in novacrond (key `controller`): one thread, in which all of src/controller runs, with the
 * database, and what people ask by the control socket's fleet.* operations.
 *
 * It looks at every joined node each NC_FLEET_LOOK_US and tells the controller what has changed; what agents answer
 * (fleet_agents.h) and what people ask are jobs of the same thread. A database that can't be opened, or goes away, is
 * tried again; meanwhile requests are refused, and what is under way goes on. Killed, the next one takes up what is in
 * the database.
 */
#pragma once

#include "agent/fleet_agents.h"

#define NC_FLEET_LOOK_US INT64_C(2000000)

typedef struct NcFleetHost NcFleetHost;

/* ${side}: this node's; borrowed. */
NcFleetHost *nc_fleet_host_new(const NcFleetSide *side);
/*
 * A node that heeds this one's controller has called (fleet_call.h): it is asked over ${peer}, borrowed, and this returns when that is over.
 * NC_ERROR_CONFLICT: no controller here (${host} NULL), or not any more.
 */
bool nc_fleet_host_serve(NcFleetHost *host, NcPeer *peer, GError **error);
/* Ends all of those. Before nc_fleet_host_free(), while nobody new can call. NULL is fine. */
void nc_fleet_host_hang_up(NcFleetHost *host);
/* Gives the lease back. After the control socket is closed. NULL is fine. */
void nc_fleet_host_free(NcFleetHost *host);

/*
 * The control socket's fleet.* operations (docs/protocols.md section 5). ${host} NULL: this node has no controller,
 * NC_ERROR_CONFLICT. ${actor}: who asks (control.h), as the fleet's records name them, and whose idempotency keys those
 * are. They wait for the thread. New references. Errors: controller.h.
 */
json_t *nc_fleet_host_status(NcFleetHost *host, const char *actor, json_t *args, GError **error);
json_t *nc_fleet_host_nodes(NcFleetHost *host, const char *actor, json_t *args, GError **error);
json_t *nc_fleet_host_machines(NcFleetHost *host, const char *actor, json_t *args, GError **error);
json_t *nc_fleet_host_migrate(NcFleetHost *host, const char *actor, json_t *args, GError **error);
json_t *nc_fleet_host_batch(NcFleetHost *host, const char *actor, json_t *args, GError **error);
json_t *nc_fleet_host_plan(NcFleetHost *host, const char *actor, json_t *args, GError **error);
json_t *nc_fleet_host_evacuate(NcFleetHost *host, const char *actor, json_t *args, GError **error);
json_t *nc_fleet_host_cordon(NcFleetHost *host, const char *actor, json_t *args, GError **error);
json_t *nc_fleet_host_uncordon(NcFleetHost *host, const char *actor, json_t *args, GError **error);
json_t *nc_fleet_host_cancel(NcFleetHost *host, const char *actor, json_t *args, GError **error);
json_t *nc_fleet_host_get(NcFleetHost *host, const char *actor, json_t *args, GError **error);
json_t *nc_fleet_host_list(NcFleetHost *host, const char *actor, json_t *args, GError **error);

/*
 * The fleet's bearer tokens (agent/tokens.h), likewise. ${token}: {id, secret_sha256, subject, role, expires_us}. Only the
 * leader changes them: NC_ERROR_UNREACHABLE names it. Lists and checks: fleetdb/access.h; a list ends at NC_FLEET_TOKENS_MOST.
 */
#define NC_FLEET_TOKENS_MOST 5000
bool nc_fleet_host_add_token(NcFleetHost *host, const char *actor, json_t *token, GError **error);
bool nc_fleet_host_end_token(NcFleetHost *host, const char *actor, const char *id, GError **error);
json_t *nc_fleet_host_check_token(NcFleetHost *host, const char *actor, const char *id, const char *secret_sha256, GError **error);
json_t *nc_fleet_host_list_tokens(NcFleetHost *host, const char *actor, GError **error);
