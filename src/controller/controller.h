/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The controller of a fleet: what is asked for becomes decisions (src/fleet), records (src/fleetdb), and orders to
 * agents (agent_port.h).
 *
 * The database is the truth. The controller that leads has a model of it in memory (inventory, queue, bandwidth), in
 * which it decides. Each change goes in this order: decided in the model; recorded in one write; only then sent, or
 * answered. If that write fails, whatever the reason, the model is thrown away and made anew from the database when it
 * is needed next; then agents are asked about every attempt that was recorded as begun. A controller that was killed
 * comes back in the same way, and so does another one that takes over.
 *
 * Who leads. step() takes the lease, extends it, and steps down when another one has it (NC_FLEETDB_FENCED, or by the
 * lease itself). A leader that stood still writes nothing any more; orders which it still sends do no harm, because of
 * what agents do with names (agent_port.h).
 *
 * Nodes that are silent. A node that was not heard for ${silent_us} gets nothing new, and nothing is started on it.
 * What is under way from or to it stays under way, and keeps its room, its place in the limits and its bandwidth (but
 * not the endgame: others may have that), until its source's agent says how it ended: there are no time-outs (design,
 * section 5). That is an event ("node.silent", "migration.silent"), and describe() says so.
 *
 * Time is the options' clock: microseconds since 1970; of one that goes back the latest time counts. The system's clock is followed
 * where it is set, forth or back, half as fast or half as fast again as time passes. (The lease goes by
 * the database's clock, and by CLOCK_MONOTONIC here.) One thread. Calls block for the database.
 *
 * Errors of all calls: NC_ERROR_UNAVAILABLE: this one does not lead (the message says who does), and nothing was done;
 * NC_ERROR_UNREACHABLE: the database is away. Others are told with the function.
 */
#pragma once

#include "controller/agent_port.h"
#include "fleet/queue.h"
#include "fleetdb/fleetdb.h"
#include "fleetdb/inventory.h"

typedef struct NcController NcController;

typedef struct {
  const char *name, *address; /* of this controller, as the lease shows it */
  NcQueueLimits limits;
  unsigned reserve_percent;       /* of every bandwidth, for others than migrations */
  int64_t lease_ms;               /* extended when a third of it has passed */
  int64_t silent_us;              /* after so long without a word a node is silent */
  int64_t history_us;             /* the database keeps so long what has ended: migrations, batches, evacuations, events, tokens; 0: for ever */
  int64_t ask_us;                 /* after so long without news of an attempt its agent is asked */
  int64_t (*now_us)(void *clock); /* NULL: the system's, which may be set; never goes back */
  void *clock;
} NcControllerOptions;

#define NC_CONTROLLER_OPTIONS_DEFAULT                                                                                  \
  {                                                                                                                    \
    .name = "controller", .address = "", .limits = NC_QUEUE_LIMITS_DEFAULT, .lease_ms = 6000,                          \
    .silent_us = 30 * (gint64)G_USEC_PER_SEC, .ask_us = 10 * (gint64)G_USEC_PER_SEC                                    \
  }

/* ${db}, ${agents}: borrowed. ${options}, ${port}: copied. Does nothing yet. */
NcController *nc_controller_new(NcFleetDb *db, const NcControllerOptions *options, const NcAgentPort *port,
                                void *agents);
/* Keeps the lease until it runs out, as if it had been killed. NULL is fine. */
void nc_controller_free(NcController *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcController, nc_controller_free)

/*
 * One turn: lease, model, silent nodes, evacuations, what may begin; then orders and questions to agents. Call it after
 * each request and report, and once a second. False: what could not be done this time; the next step tries again.
 */
bool nc_controller_step(NcController *c, GError **error);
bool nc_controller_leads(const NcController *c);
/*
 * The name of the controller that leads, this one or another, for all that the last step has seen; NULL: none does, or
 * it is not known any more. Caller frees.
 */
char *nc_controller_leader(const NcController *c);
/* Its epoch; 0: it does not lead. */
uint64_t nc_controller_epoch(const NcController *c);
/*
 * Adds to ${node}, a node's record from the database: "heard_s", seconds since it last said something, and "is_silent", that nothing is started from or to it
 * for that; null, null: this controller does not lead, or does not know the node.
 */
void nc_controller_say_heard(NcController *c, json_t *node);
typedef struct {
  unsigned queued, running; /* migrations that wait for their first or next attempt; that have begun one */
  int64_t oldest_us;        /* how long the one has waited that was asked for first of those that wait; 0: none waits */
} NcQueueView;

/* False: it does not lead, or has not read the database yet, so that it does not know. */
bool nc_controller_look_at_queue(const NcController *c, NcQueueView *ret);
/* From the request to the first attempt of each migration that has begun since the last call: microseconds, int64_t. A new reference. */
GArray *nc_controller_take_waits(NcController *c);
/* Gives the lease back, so that nobody has to wait for its end. */
bool nc_controller_resign(NcController *c, GError **error);

/* --- what people ask --- */

/* Who asks. */
typedef struct {
  const char *actor;          /* as the records name them */
  const char *key;            /* idempotency key; NULL: none */
  const char *request_sha256; /* with a key: hex, of what is asked (fleetdb/access.h) */
  const char *owner;          /* whose key that is, wherever they ask; NULL: ${actor}'s */
} NcAsker;

/*
 * All of these check first, with bounds; what they answer is recorded when they return, and with it the key: asked
 * again, they do nothing and give the same answer. New reference; NULL on error: NC_ERROR_INVALID (also a member that
 * is not known), NC_ERROR_NOT_FOUND, NC_ERROR_CONFLICT (the machine has a migration; the key was used for something
 * else), NC_ERROR_UNSUITABLE.
 */

/*
 * ${body}: {"machine", "destination" (left out: the best), "destination_is_wish", "priority", and what wish.h lists}.
 * The answer: {"id", "machine", "state"}.
 */
json_t *nc_controller_migrate(NcController *c, const NcAsker *who, json_t *body, GError **error);
/*
 * {"policy": "all" | "any" (default), "migrations": [as above, 1 to NC_CONTROLLER_MOST_ITEMS]}. Answer: {"id",
 * "policy", "submitted", "items": [{"machine", "migration" or null, "reason"}]}, in the order of the request. With
 * "all", nothing is submitted if one can't be (fleet/batch.h).
 */
json_t *nc_controller_batch(NcController *c, const NcAsker *who, json_t *body, GError **error);
#define NC_CONTROLLER_MOST_ITEMS 1000u

/*
 * {"nodes": [1 to NC_CONTROLLER_MOST_NODES], "allow_partial": false, and what wish.h lists}. A plan: {"nodes", "moves":
 * [{"machine", "source", "destination", "wave", "seconds", "pause_s", "wire_bytes", "postcopy"}], "cannot_move":
 * [{"machine", "reason"}], "waves": [{"moves", "seconds", "memory_bytes", "wire_bytes", "pause_s"}], "seconds",
 * "empties"}. Nothing is changed.
 */
json_t *nc_controller_plan_evacuation(NcController *c, json_t *body, GError **error);
/*
 * The same body. The plan is recorded, then the nodes are cordoned and the moves submitted, by the following steps;
 * unless one can't move and ${allow_partial} is not true: then it is recorded as failed, and nothing has moved. Answer:
 * {"id", "state", "plan"}. NC_ERROR_CONFLICT: a node is being evacuated. To go on with one that failed or was
 * cancelled, ask once more: the new plan is of what is left.
 */
json_t *nc_controller_evacuate(NcController *c, const NcAsker *who, json_t *body, GError **error);
#define NC_CONTROLLER_MOST_NODES 100u

/*
 * Where ${machine} would go if its move began now, and why not elsewhere: {"machine", "chosen" (null: nowhere), "nodes": [{"node", "score" or "refused"
 * and "detail"}], "nodes_left_out"}, as fleet/placement.h says, NC_CONTROLLER_MOST_EXPLAINED nodes at most. Nothing is changed. NC_ERROR_NOT_FOUND.
 */
json_t *nc_controller_explain(NcController *c, const char *machine, GError **error);
#define NC_CONTROLLER_MOST_EXPLAINED 1000u

/* Nothing more comes to it; what is on its way there goes on. Answer: {"node", "is_cordoned"}. NC_ERROR_CONFLICT:
 * uncordoned while it is evacuated. */
json_t *nc_controller_cordon(NcController *c, const NcAsker *who, const char *node, bool is_cordoned, GError **error);

/*
 * ${reason}: 1 to 512 bytes of UTF-8. One that waits is cancelled at once; one under way when its agent says so.
 * Answer: {"id", "state": "cancelled" or "cancelling"}. NC_ERROR_CONFLICT: it has ended.
 */
json_t *nc_controller_cancel(NcController *c, const NcAsker *who, const char *migration, const char *reason,
                             GError **error);
/* Of all that wait; ${also_running}: and of those under way, which else come to their end. Answer: {"id", "cancelled",
 * "under_way"}. */
json_t *nc_controller_cancel_batch(NcController *c, const NcAsker *who, const char *batch, bool also_running,
                                   const char *reason, GError **error);
/* Likewise; what has moved stays, the nodes stay cordoned. NC_ERROR_CONFLICT: it has ended. */
json_t *nc_controller_cancel_evacuation(NcController *c, const NcAsker *who, const char *evacuation, bool also_running,
                                        const char *reason, GError **error);

/*
 * The migration's record (fleetdb/migrations.h), with "live" if it has not ended: {"waits" (in words; "" if it is under
 * way), "phase", "percent", "rate_bps", "endgame": "none" | "waiting" | "has", "silence": "" or what it means that a
 * node is silent, "sample": {"transfer_rate", "eta_ms", "wire_bytes", "ram_remaining_bytes", "rounds"} as its agent told
 * them last (null: it did not), or null}. New reference; NC_ERROR_NOT_FOUND.
 */
json_t *nc_controller_describe(NcController *c, const char *migration, GError **error);
/*
 * What of ${group}, a batch or an evacuation, is under way, the first NC_CONTROLLER_MOST_SHOWN: [{"migration",
 * "machine", "source", "destination", "attempt", "live" as above}]. New reference.
 */
json_t *nc_controller_describe_group(NcController *c, const char *group, GError **error);
#define NC_CONTROLLER_MOST_SHOWN 100u

/* --- what agents say --- */

/*
 * How an attempt stands. True: taken, or known already. False: NC_ERROR_CONFLICT (of an earlier attempt, or one that
 * has ended: nothing changes), NC_ERROR_FORBIDDEN (it is not that node's), NC_ERROR_INVALID. Whatever is not taken may
 * be forgotten: the agent will be asked.
 */
bool nc_controller_report(NcController *c, const NcAttemptReport *report, GError **error);

/* ${node} is there: at each word of it. Of one that is not known: nothing. */
void nc_controller_heard(NcController *c, const char *node);
/* A node joins, or what is known of it has changed. */
bool nc_controller_put_node(NcController *c, const NcNodeRecord *node, GError **error);
/* NC_ERROR_CONFLICT: a migration from or to it has not ended. */
bool nc_controller_remove_node(NcController *c, const char *node, GError **error);
/*
 * What ${node}'s agent says of a machine (nc_machine_view() of src/agent: "name", "state", "right", ...), as a record
 * for nc_controller_see_machines(): texts are borrowed from ${said} and ${node}. ${lacks_right} is set unless "right"
 * is "held", whatever it is instead, so that a machine that a node has given away, or prepares, is not taken to be
 * there. "priority" and "requires" (labels) may be left out: normal, none; and "disks" ([{"directory", "bytes"}]):
 * nothing is known of them. NC_ERROR_PROTOCOL: something is missing or out of bounds.
 */
bool nc_controller_read_machine(const char *node, json_t *said, NcMachineRecord *ret, GError **error);
/* Is it a list of labels, of a node or as what a machine requires? */
bool nc_controller_are_labels(json_t *said);
/* Is it a list of links, the nearest first: [{"name", "rate_bps"}]? In the detail of a node's record it is "links". */
bool nc_controller_are_uplinks(json_t *said);
/* ${count} machines as their node sees them. One that was seen elsewhere with a greater epoch is ignored. */
bool nc_controller_see_machines(NcController *c, const NcMachineRecord *machines, size_t count, GError **error);
/*
 * The directories that disks of the fleet's machines are in, as far as they are told apart: nodes are to say how much
 * room they have there. [PATH, ...], new reference; empty also while the model is not made.
 */
json_t *nc_controller_directories(const NcController *c);
/*
 * What ${node} says of its file systems: [{"directories", "free_bytes", "arriving_bytes", "is_missing"}], of the
 * directories it was asked about; arriving: what disks of machines that are on their way to it have taken there. NULL:
 * it is of a version that does not say that. Only what is news is written. NC_ERROR_PROTOCOL.
 */
bool nc_controller_see_disks(NcController *c, const char *node, json_t *said, GError **error);
/* It is gone from ${node}. While a migration of it is under way that is not believed. */
bool nc_controller_forget_machine(NcController *c, const char *machine, const char *node, GError **error);
