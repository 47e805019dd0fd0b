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

#define NC_FLEET_LOOK_US INT64_C(2000000)

typedef struct NcFleetHost NcFleetHost;

/* ${side}: this node's; borrowed. */
NcFleetHost *nc_fleet_host_new(const NcFleetSide *side);
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
  bool changes;
  bool is_long; /* it decides about many: that may take its time */
} NcFleetOp;

#define NC_FLEET_OPS 14
extern const NcFleetOp nc_fleet_ops[NC_FLEET_OPS];

/* Does it by this node's controller, and waits. New reference. Errors: controller.h. */
json_t *nc_fleet_host_do(NcFleetHost *host, const NcFleetOp *op, const NcFleetAsker *who, json_t *args, GError **error);
