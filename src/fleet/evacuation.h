/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Emptying nodes: first a plan, then the doing.
 *
 * The plan gives every machine of these nodes a place (placement.h; the most important first, then the largest, with room for those before it
 * taken), groups the moves in waves of as many as may run at a time, and says how long each wave takes: of each move by
 * the mathematics of a migration's forecast (forecast_move.h), after its disks that are copied, with the bandwidth that it has besides the others of its wave. A wave lasts as long
 * as its longest move; the queue does not wait for that, so that the whole mostly takes less than the plan says, as long as nothing fails.
 * What can't move is in the plan with the reason. Nothing is changed by making one.
 *
 * To begin is to cordon the nodes and to submit the moves with their room reserved, as one group of the queue. To cancel is to cancel that
 * group: what has moved stays. To resume is to make a plan once more, of what is left, and to begin that.
 *
 * Not thread-safe.
 */
#pragma once

#include "fleet/queue.h"

typedef struct {
  uint32_t machine, from, to;
  unsigned wave; /* from 0 */
  bool postcopy;
  double seconds, pause_s, wire_bytes;
} NcPlannedMove;

typedef struct {
  uint32_t machine;
  char *reason;
} NcStuckMachine;

typedef struct {
  unsigned moves;
  double seconds;      /* of the longest */
  double memory_bytes; /* of its machines */
  double wire_bytes;
  double pause_s; /* the longest */
} NcPlannedWave;

typedef struct {
  uint32_t *nodes;
  size_t node_count;
  GArray *moves; /* NcPlannedMove, in the order in which they are to begin */
  GArray *stuck; /* NcStuckMachine */
  GArray *waves; /* NcPlannedWave */
  double seconds;
  bool is_at_least; /* some way has no rate that is known: as if it were as wide as can be */
} NcEvacuation;

/* How the moves are to be made. */
typedef struct {
  const NcQueueLimits *limits;
  unsigned reserve_percent; /* of bandwidth, kept for others */
  NcQos qos;
  uint64_t limit_bps;    /* the most that one move may send; 0: no limit */
  double max_downtime_s; /* 0: what each machine promises */
  bool excludes_postcopy; /* whatever machines allow */
} NcEvacuationTerms;

/*
 * ${nodes}: copied; each is one of the fleet's. Machines that have a reservation are
 * on their way already and left alone. The fleet is as before when this returns. For small and large fleets: O(machines x log nodes), more
 * only for what can't move.
 */
NcEvacuation *nc_evacuation_plan(NcFleet *fleet, const NcEvacuationTerms *terms, const uint32_t *nodes, size_t node_count);
void nc_evacuation_free(NcEvacuation *plan); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcEvacuation, nc_evacuation_free)

/*
 * Cordons and submits; the number submitted. A move whose destination has no room any more is submitted without a reservation; a machine
 * that is not where it was, or has a migration, is left out.
 */
size_t nc_evacuation_begin(const NcEvacuation *plan, NcQueue *q, NcQos qos, uint64_t group, int64_t now_us);
