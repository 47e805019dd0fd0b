/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is to move, in which order, and when: the scheduler of a fleet.
 *
 * The caller submits requests, calls nc_queue_schedule() after each change and at nc_queue_next_us(), starts what that decides, and tells
 * how it ended. The queue has no clock and no threads: time is an argument, in microseconds of any clock that does not go back.
 *
 * Order. An item's rank is the time at which it was submitted, less ${ageing_us} for each class of priority above low. So a class is worth a
 * waiting time: within a class it is first in, first out, and an item of a low class comes before all of higher classes
 * which were submitted that much later. Nothing starves, and the order of two items never changes, so that heaps suffice.
 *
 * What holds an item back: as many migrations as the cluster, its source, its destination may have; a source that is down; no room at the destination; no node
 * that fits, if it may choose. One that waits for a thing of its own lets others pass, but not those that wait for the same.
 * It waits in the heap of what it waits for:
 *   - its source: heap ${out} of that node; nodes whose heap is not empty and that may send one more are in the heap of ready sources;
 *   - its destination's migrations: heap ${in} of that node; likewise ready destinations;
 *   - its destination's room: heap ${room}, put into ${in} when the node has more room;
 *   - any node at all: a list, of which those that fit are looked at again when a node has more room or ends a migration;
 *   - time, after a failed attempt.
 * One that waits for room longer than ${give_up_us} is refused, and says why.
 *
 * Conflicts. A machine has one item at a time. Where items wait for each other's room in a circle (a is to go to b's place,
 * b to a's), and nothing else will make any, nor a node has yet to say how much disk there is, the last of them is refused at once. Room at the destination is reserved from the start of a migration
 * to its end, or from submission, if asked for (${reserve}).
 *
 * Not thread-safe.
 */
#pragma once

#include "fleet/bandwidth_share.h"
#include "fleet/inventory.h"

#include <jansson.h>

typedef struct NcQueue NcQueue;

typedef struct {
  unsigned cluster;          /* migrations at a time, 1 or more */
  unsigned node_out, node_in; /* of and to a node, where it has no limit of its own; 1 or more */
  unsigned attempts;         /* in all, 1 or more */
  int64_t ageing_us;
  int64_t backoff_us, backoff_most_us; /* before the second attempt; doubled each time up to the other */
  int64_t give_up_us;        /* after so long without room */
} NcQueueLimits;

#define NC_QUEUE_LIMITS_DEFAULT                                                                                                            \
  {                                                                                                                                        \
    .cluster = 5, .node_out = 2, .node_in = 2, .attempts = 3, .ageing_us = 600 * G_USEC_PER_SEC, .backoff_us = 5 * G_USEC_PER_SEC,         \
    .backoff_most_us = 300 * G_USEC_PER_SEC, .give_up_us = 3600 * (gint64)G_USEC_PER_SEC                                                   \
  }

typedef enum {
  NC_ITEM_QUEUED,
  NC_ITEM_BACKOFF, /* waits for its next attempt */
  NC_ITEM_RUNNING,
  NC_ITEM_COMPLETED,
  NC_ITEM_FAILED, /* its attempts are used up, or it can't be tried again */
  NC_ITEM_REFUSED, /* it never started, or can't any more */
  NC_ITEM_CANCELLED,
} NcItemState;

/* "queued", "backoff", "running", "completed", "failed", "refused", "cancelled". */
const char *nc_item_state_name(NcItemState state);

typedef struct {
  uint32_t machine;
  uint32_t destination; /* NC_FLEET_NONE: the best when it starts */
  bool is_wish;         /* another destination will do where that one has no room, is away, or has failed */
  bool reserve;         /* room at the destination from now on (then there must be one) */
  NcPriority priority;
  NcQos qos;
  uint64_t limit_bps; /* 0: none */
  uint64_t group;     /* of the caller's, to cancel together; 0: none */
  bool is_bound;      /* when one of the group has failed, those that have not begun are cancelled */
  unsigned attempts;  /* in all; 0: the queue's limit */
} NcRequest;

typedef struct {
  uint64_t id;
  NcRequest request;
  NcItemState state;
  uint32_t from, to; /* ${to}: while it runs, and afterwards; NC_FLEET_NONE */
  int64_t submitted_us, started_us; /* of the first attempt; -1: none yet */
  unsigned attempts; /* begun */
  int64_t not_before_us; /* NC_ITEM_BACKOFF: when the next attempt may begin */
  const char *reason; /* why it failed, waits for the next attempt, was refused or cancelled; NULL */
} NcItem;

/*
 * ${item} is in another state now: started, in backoff, or at its end, and then forgotten after the call. The queue may not be changed from
 * within it.
 */
typedef void (*NcQueueFunc)(const NcItem *item, void *user_data);

/* ${fleet}: borrowed; room on it is reserved and given back by the queue. All machines and nodes may be added to it later, too. */
NcQueue *nc_queue_new(NcFleet *fleet, const NcQueueLimits *limits, NcQueueFunc func, void *user_data);
/* What it has reserved is given back. NULL is fine. */
void nc_queue_free(NcQueue *q);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcQueue, nc_queue_free)

NcFleet *nc_queue_fleet(const NcQueue *q);
const NcQueueLimits *nc_queue_limits(const NcQueue *q);
/* Could ${request} be submitted now? Of room only that of the whole destination is looked at. Errors as of nc_queue_submit(). */
bool nc_queue_may_submit(const NcQueue *q, const NcRequest *request, GError **error);
/*
 * The item's id, more than 0; 0 on error: NC_ERROR_CONFLICT (the machine has one already), NC_ERROR_INVALID (it is there already),
 * NC_ERROR_UNSUITABLE (the destination can never take it), NC_ERROR_RESOURCE (with ${reserve}: no room now).
 */
uint64_t nc_queue_submit(NcQueue *q, const NcRequest *request, int64_t now_us, GError **error);

/* What is known of an item that an earlier queue had. */
typedef struct {
  NcItemState state; /* NC_ITEM_QUEUED, BACKOFF, RUNNING */
  int64_t submitted_us, started_us, not_before_us; /* as in NcItem */
  unsigned attempts; /* begun */
  uint32_t to;       /* of the last attempt; NC_FLEET_NONE */
} NcItemBefore;
/*
 * Takes an item up as it was, without calling the function or asking whether it may be: it was let in once. One that runs has its room reserved at ${to} and
 * counts; of another with ${reserve}, room is reserved if there is some. Its id; 0 on error: NC_ERROR_CONFLICT, NC_ERROR_INVALID (it is there already), of
 * one that runs NC_ERROR_RESOURCE.
 */
uint64_t nc_queue_restore(NcQueue *q, const NcRequest *request, const NcItemBefore *before, GError **error);
/* Of one that does not run. false: NC_ERROR_NOT_FOUND, or NC_ERROR_CONFLICT (it runs: end it, then nc_queue_ended()). */
bool nc_queue_cancel(NcQueue *q, uint64_t id, const char *reason, GError **error);
/* All of ${group} that do not run; how many. */
unsigned nc_queue_cancel_group(NcQueue *q, uint64_t group, const char *reason);

/* Decides what can be decided now; how many were started. */
unsigned nc_queue_schedule(NcQueue *q, int64_t now_us);
/* When time alone may change something; INT64_MAX: never. */
int64_t nc_queue_next_us(const NcQueue *q);

typedef enum { NC_END_COMPLETED, NC_END_MAY_PASS, NC_END_FINAL, NC_END_CANCELLED } NcEnd;
/* Item ${id}, which runs, has ended; ${reason}: why, if it is not completed. Call nc_queue_schedule() then. */
void nc_queue_ended(NcQueue *q, uint64_t id, NcEnd end, const char *reason, int64_t now_us);
/*
 * ${machine} is not there any more, and removed from the fleet; what it has in the queue is cancelled for ${reason}. false: NC_ERROR_CONFLICT, it
 * is under way. Its number may be another machine's later.
 */
bool nc_queue_remove_machine(NcQueue *q, uint32_t machine, const char *reason, GError **error);
/*
 * Removes ${node} from the fleet. What waits to go there goes elsewhere if its destination was a wish, and else is refused. false: NC_ERROR_CONFLICT,
 * machines are on it or on their way to it, and nothing was changed. O(items of the queue + nodes).
 */
bool nc_queue_remove_node(NcQueue *q, uint32_t node, GError **error);
/* ${node} was uncordoned, is up again, or has room for another reason. */
void nc_queue_room_changed(NcQueue *q, uint32_t node);
/* ${machine} needs other room than before: if it waits, it is looked at again, and if room is reserved for it, others may have what is left of that. */
void nc_queue_needs_changed(NcQueue *q, uint32_t machine);

/* NULL: there is none (any more). Borrowed until it ends. */
const NcItem *nc_queue_item(const NcQueue *q, uint64_t id);
/* Of a machine; NULL. */
const NcItem *nc_queue_item_of(const NcQueue *q, uint32_t machine);
unsigned nc_queue_length(const NcQueue *q); /* not running */
unsigned nc_queue_running(const NcQueue *q);
unsigned nc_queue_incoming(const NcQueue *q, uint32_t node);
unsigned nc_queue_outgoing(const NcQueue *q, uint32_t node);
/* Why no node, or not the one it is to go to, can take item ${id} now; NULL: it does not wait for that. Caller frees. */
char *nc_queue_why_no_room(NcQueue *q, uint64_t id);
/* Where ${machine} would go if it might now, and why not elsewhere (placement.h). New reference. */
json_t *nc_queue_explain(NcQueue *q, uint32_t machine);
