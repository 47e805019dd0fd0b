/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a controller reaches the agents of its fleet: src/controller/agent_port.h over connections between nodes, and
 * directly to this one's.
 *
 * For each node there is a thread, with a connection that it keeps, which sends one message after the other and hands
 * the answers on. The connection is one that the node has made (fleet_call.h) if there is one, else our own. A message that can't be delivered, or is too much for a node that is slow, is lost; the controller
 * asks again. Nothing here blocks the caller. Any thread.
 */
#pragma once

#include "agent/fleet_side.h"
#include "controller/agent_port.h"

typedef struct NcFleetAgents NcFleetAgents;

/*
 * What ${node} has answered: to a look, if ${is_look} (agent/fleet_side.h), else how an attempt stands; ${said}: taken.
 * From the thread of that node.
 */
typedef void (*NcFleetHeardFunc)(gpointer user_data, const char *node, bool is_look, json_t *said);

/* ${side}: this node's; borrowed. */
NcFleetAgents *nc_fleet_agents_new(const NcFleetSide *side, NcFleetHeardFunc heard, gpointer user_data);
/* Ends the threads: within the time limit of one message. */
void nc_fleet_agents_free(NcFleetAgents *agents);

/*
 * ${peer}'s node has called, to be asked over this connection: it is, until it fails, or the node calls anew. Blocks until then; ${peer}: borrowed.
 * False: not any more, after nc_fleet_agents_hang_up().
 */
bool nc_fleet_agents_serve(NcFleetAgents *agents, NcPeer *peer);
/* Those who are in nc_fleet_agents_serve() return. Before nc_fleet_agents_free(). */
void nc_fleet_agents_hang_up(NcFleetAgents *agents);

/* Asks ${node} for what it has, unless that is asked already; also how much room is in ${directories}, copied. */
void nc_fleet_agents_look(NcFleetAgents *agents, const char *node, json_t *directories);

/* Its first argument is an NcFleetAgents. */
extern const NcAgentPort nc_fleet_agents_port;

/*
 * An answer as a report, of which it has no more than it may: ${said} and ${node} are borrowed by *ret; *ret_result:
 * what ret->result is, to be freed. NC_ERROR_PROTOCOL.
 */
bool nc_fleet_agents_read(const char *node, json_t *said, NcAttemptReport *ret, json_t **ret_result, GError **error);
