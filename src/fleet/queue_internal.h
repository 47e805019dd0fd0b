/* SPDX-License-Identifier: Apache-2.0 */
/* The queue from inside. Private to src/fleet/queue*.c. */
#pragma once

#include "fleet/heap.h"
#include "fleet/placement.h"
#include "fleet/queue.h"

typedef struct NcEntry NcEntry;
struct NcEntry {
  NcItem item; /* first: what others see */
  char *reason;
  int64_t rank;
  uint32_t destination; /* the request's, until it has to be another one; NC_FLEET_NONE: any */
  uint32_t failed;      /* the node of the last attempt; NC_FLEET_NONE */
  NcHeapEntry place;    /* in the heap of what it waits for: a station's, or the queue's nowhere */
  NcHeapEntry timer;    /* by the time of the next attempt, or of giving up */
  NcEntry *next, *previous; /* of its source's that do not run */
};

/* A node, as the queue sees it. */
typedef struct {
  NcHeap out, in, room;
  NcHeapEntry ready_out, ready_in; /* in the queue's heaps */
  NcEntry *first; /* of those that are to leave it and do not run */
  bool is_freed;  /* is in the queue's freed */
} NcStation;

struct NcQueue {
  NcFleet *fleet;
  NcQueueLimits limits;
  NcQueueFunc func;
  void *user_data;
  GHashTable *entries; /* &item.id to NcEntry, owned */
  GHashTable *by_machine; /* number + 1 to NcEntry */
  GHashTable *groups;  /* &id to GHashTable (a set of NcEntry) */
  GPtrArray *stations; /* NcStation, by node */
  GArray *incoming, *outgoing; /* of unsigned, by node */
  NcHeap ready_out, ready_in, timers, nowhere;
  GArray *freed; /* nodes that have more room or a place since the list was looked at */
  uint64_t last_id;
  unsigned running;
};

NcStation *nc_queue_station(NcQueue *q, uint32_t node);
unsigned nc_queue_out_limit(const NcQueue *q, uint32_t node);
unsigned nc_queue_in_limit(const NcQueue *q, uint32_t node);
/* Puts the node where it belongs in the heaps of ready ones. */
void nc_queue_refresh(NcQueue *q, uint32_t node);
void nc_queue_wait_for_source(NcQueue *q, NcEntry *e);
/* One more, which waits nowhere yet. */
NcEntry *nc_queue_enter_new(NcQueue *q, const NcRequest *request, int64_t submitted_us);
/* One of those that are to leave its node and do not run. */
void nc_queue_link(NcQueue *q, NcEntry *e);
/* Out of all heaps and lists. */
void nc_queue_unwait(NcQueue *q, NcEntry *e);
/* Tells, and forgets it if that is an end. ${reason}: copied; NULL: none. */
void nc_queue_enter(NcQueue *q, NcEntry *e, NcItemState state, const char *reason);
/* ${node} may take more than before. */
void nc_queue_free_up(NcQueue *q, uint32_t node);
/*
 * Does ${e}, which finds no room at its destination, wait in a circle that nothing will open? Then the circle's nodes in words, "a -> b -> a";
 * else NULL. Caller frees.
 */
char *nc_queue_find_circle(NcQueue *q, const NcEntry *e);
/* What placement is told of ${e}; NULL: of any machine. */
NcPlacementTerms nc_queue_terms(NcQueue *q, const NcEntry *e);
