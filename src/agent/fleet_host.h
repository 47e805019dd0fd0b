/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fleet's controller in novacrond (key `controller`): one thread, in which all of src/controller runs, with the
 * database, and what people ask of it (fleet_desk.h: here, or on another node).
 *
 * It looks at every joined node each NC_FLEET_LOOK_US and tells the controller what has changed; what agents answer
 * (fleet_agents.h) and what people ask are jobs of the same thread. A database that can't be opened, or goes away, is
 * tried again; meanwhile requests are refused, and what is under way goes on. Killed, the next one takes up what is in
 * the database.
 */
#pragma once

#include "agent/fleet_agents.h"
#include "agent/metrics.h"
#include "base/role.h"

#define NC_FLEET_LOOK_US INT64_C(2000000)

typedef struct NcFleetHost NcFleetHost;

/* ${side}: this node's; borrowed. */
NcFleetHost *nc_fleet_host_new(const NcFleetSide *side, NcMetrics *metrics);
/*
 * A node that heeds this one's controller has called (fleet_call.h): it is asked over ${peer}, borrowed, and this returns when that is over.
 * NC_ERROR_CONFLICT: no controller here (${host} NULL), or not any more.
 */
bool nc_fleet_host_serve(NcFleetHost *host, NcPeer *peer, GError **error);
/* Ends all of those. Before nc_fleet_host_free(), while nobody new can call. NULL is fine. */
void nc_fleet_host_hang_up(NcFleetHost *host);
/* Gives the lease back. When nobody asks it any more. NULL is fine. */
void nc_fleet_host_free(NcFleetHost *host);

/* The name of the node whose controller leads; NULL: none does, for all that is known here. Caller frees. */
char *nc_fleet_host_leader(NcFleetHost *host);

/* --- what people ask --- */

/* Who asks. */
typedef struct {
  const char *actor; /* as the fleet's records name them: "certificate:alice", "uid:0 via host-c" */
  const char *owner; /* whose idempotency keys theirs are */
} NcFleetAsker;

typedef enum {
  NC_FLEET_BY_ANY,    /* the database suffices: whichever controller is asked */
  NC_FLEET_BY_BETTER, /* likewise, but of what has not ended the leader knows more */
  NC_FLEET_BY_LEADER
} NcFleetBy;

typedef json_t *(*NcFleetFunc)(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error);

/* One of the control socket's fleet.* operations (docs/protocols.md section 5). */
typedef struct {
  const char *op;
  NcFleetFunc func; /* for the thread */
  NcFleetBy by;
  NcRole role; /* the least that is needed; what is more than a viewer's changes something */
  bool is_long; /* it decides about many: that may take its time */
  bool is_watch; /* it is asked for again and again, by programs: few at once, and nobody waits for it for long */
} NcFleetOp;

#define NC_FLEET_OPS 19
extern const NcFleetOp nc_fleet_ops[NC_FLEET_OPS];

/* Does it by this node's controller, and waits. New reference. Errors: controller.h. */
json_t *nc_fleet_host_do(NcFleetHost *host, const NcFleetOp *op, const NcFleetAsker *who, json_t *args, GError **error);

/*
 * The fleet's bearer tokens (agent/tokens.h), likewise. ${token}: {id, secret_sha256, subject, role, expires_us}. Only the
 * leader changes them: NC_ERROR_UNAVAILABLE names it. Lists and checks: fleetdb/access.h; a list ends at NC_FLEET_TOKENS_MOST.
 */
#define NC_FLEET_TOKENS_MOST 5000
bool nc_fleet_host_add_token(NcFleetHost *host, const char *actor, json_t *token, GError **error);
bool nc_fleet_host_end_token(NcFleetHost *host, const char *actor, const char *id, GError **error);
json_t *nc_fleet_host_check_token(NcFleetHost *host, const char *actor, const char *id, const char *secret_sha256, GError **error);
json_t *nc_fleet_host_list_tokens(NcFleetHost *host, const char *actor, GError **error);
