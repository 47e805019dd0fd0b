/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator from inside. Private to src/fleet/simulator*.c. */
#pragma once

#include "fleet/evacuation.h"
#include "fleet/heap.h"
#include "fleet/random.h"
#include "fleet/simulator.h"

/* In each phase, what ends it. */
typedef enum {
  NC_PHASE_PREPARE,  /* time */
  NC_PHASE_ROUND,    /* all but what fits into the pause is sent */
  NC_PHASE_WAIT,     /* it has the endgame */
  NC_PHASE_PAUSE,    /* all is sent; the guest stands still */
  NC_PHASE_POSTCOPY, /* all is sent; the guest runs there */
  NC_PHASE_END,      /* time */
} NcMovePhase;

typedef struct {
  uint64_t id; /* of the queue's item */
  uint32_t machine;
  const NcGuest *guest; /* of the fleet's */
  NcFlow *flow; /* NULL: it needs none now */
  NcQos qos;
  uint64_t limit_bps;  /* its own on the wire: asked for, or by what its guest's memory can be read at most */
  bool is_slowed;      /* it waits, and sends only what is dirtied */
  NcWayBetween way;
  NcMovePhase phase;
  unsigned rounds;     /* begun */
  double total, sent;  /* content of this round */
  double rate;         /* content per second, now */
  double fails_at;     /* content of the first round; negative: it does not */
  int64_t phase_us;    /* when the phase began; in rounds: the round */
  double pause_s;
  NcHeapEntry event;
} NcMove;

/* Times of a wave as they were. */
typedef struct {
  int64_t began_us, ended_us; /* -1: not yet */
  unsigned ended;
  double pause_s;
} NcWaveTimes;

typedef struct {
  NcEvacuation *plan;
  int64_t at_us, ended_us;
  GArray *waves; /* NcWaveTimes */
  size_t submitted;
  unsigned completed;
} NcSimulatedEvacuation;

/* What became of a request of a task "migrate" or "batch", or did not become of any. */
typedef struct {
  uint32_t machine;
  uint64_t id;
  const char *state; /* static */
  char *reason;
} NcSimulatedItem;

typedef struct {
  double bytes, rate_bps, most_bps; /* rate: now */
  unsigned pauses; /* now */
} NcLinkUse;

struct NcSimulator {
  NcScenario *scenario;
  NcFleet *fleet;
  NcQueue *queue;
  NcTraffic *traffic;
  NcRandom random;
  int64_t now_us;
  guint next_task;
  GHashTable *moves; /* &id to NcMove, owned */
  GPtrArray *active; /* moves, in the order in which they began; borrowed */
  NcHeap events;
  NcLinkUse *links; /* up and down of each */
  GPtrArray *evacuations; /* NcSimulatedEvacuation */
  GHashTable *waves; /* machine + 1 to evacuation << 32 | wave, + 1 */
  GArray *items; /* NcSimulatedItem: those not moved, and all of batches */
  GArray *decided; /* ids started by the queue in this step */
  /* the report */
  unsigned submitted, completed, failed, refused, cancelled, failed_attempts, postcopies, most_running;
  int64_t first_us, last_us; /* of the first submission, the last end; -1: none */
  int64_t longest_wait_us;
  uint32_t longest_wait_of, longest_pause_of;
  double longest_pause_s, wire_bytes;
};

/* --- simulator_move.c --- */

void nc_move_begin(NcSimulator *s, uint64_t id);
/* Time goes on to ${now_us}: what was sent meanwhile. */
void nc_move_advance(NcSimulator *s, int64_t now_us);
/* The event of ${move} is due. */
void nc_move_step(NcSimulator *s, NcMove *move);
/* Divides bandwidth anew, lets those go on that got the endgame, and finds out when each has its next event. */
void nc_move_settle(NcSimulator *s);
