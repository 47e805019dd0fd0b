/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a migration that leaves this node may begin its last round (decision 095).
 *
 * In a last round the guest stands still, so two of them should not share a link. A migration that is near its end asks for its
 * endgame: one that a controller has begun asks the controller first, which knows of the other nodes (fleet/budget.h), and then, as
 * all do, the node's own register (bandwidth.h). Until it has it QEMU sends round after round and does not switch over.
 *
 * It never waits for somebody who is away: without a word of the controller for NC_ENDGAME_AWAY_US it goes on with this node's only,
 * and after NC_ENDGAME_MOST_US of waiting in all without any.
 *
 * Nothing of this is on disk, and nothing depends on it but how long a guest stands still.
 */
#pragma once

#include "agent/bandwidth.h"

#define NC_ENDGAME_AWAY_US INT64_C(3000000)
#define NC_ENDGAME_MOST_US INT64_C(30000000)
/* What is not further from its last round than that asks: a controller looks once a second, the node's register answers at once. */
#define NC_ENDGAME_AHEAD_MS 1000
#define NC_ENDGAME_AHEAD_CONTROLLED_MS 2000
#define NC_ENDGAME_OVERDUE_US INT64_C(60000000)

typedef enum {
  NC_ENDGAME_FAR,  /* its last round is not near */
  NC_ENDGAME_NEAR, /* it is */
  NC_ENDGAME_OPEN, /* nobody knows when it will come: it waits for a lull, or has switched to post-copy */
} NcEndgameNeed;

/* What a forecast says. */
typedef struct {
  bool postcopy; /* it has switched */
  bool is_known, converges;
  double last_round_ms;        /* until it begins: however long that may be, or a long pause that is allowed would never be near */
  int64_t since_first_pass_us; /* -1: not everything was sent once yet */
} NcEndgameOutlook;

typedef enum {
  NC_ENDGAME_HOLD,    /* no last round now, and none is asked for */
  NC_ENDGAME_WAIT,    /* it asks; others have theirs */
  NC_ENDGAME_HAS,     /* alone */
  NC_ENDGAME_WITHOUT, /* it may begin; nobody is kept from meeting it */
} NcEndgameAnswer;

typedef struct {
  GMutex lock; /* protects what follows; nothing but the register's is taken under it */
  bool is_controlled; /* a controller began it */
  bool is_wanted;     /* what the controller is told */
  bool is_granted;    /* by the controller, as it said last */
  bool has;           /* its own until it is given back, whatever is said meanwhile */
  int64_t heard_us;   /* the controller's last word */
  int64_t looked_us;  /* while it waits: since then; 0: it does not */
  int64_t waited_us;  /* in all, until then */
} NcEndgame;

/* All times are CLOCK_MONOTONIC. */
void nc_endgame_init(NcEndgame *e);
void nc_endgame_clear(NcEndgame *e);
/* A controller has begun the migration, now. */
void nc_endgame_set_controlled(NcEndgame *e, int64_t now_us);
/*
 * How near the last round is. Forecasts may err: NC_ENDGAME_OVERDUE_US after the first pass it is near, whatever they say, so that QEMU decides as soon as nobody
 * else has theirs.
 */
NcEndgameNeed nc_endgame_need(NcEndgame *e, const NcEndgameOutlook *outlook);

/* May the last round begin? ${claim}: the migration's, NULL: none any more. Of the migration's thread, several times a second. */
NcEndgameAnswer nc_endgame_look(NcEndgame *e, NcBandwidthClaim *claim, NcEndgameNeed need, int64_t now_us);
/* It is over, or the attempt is. */
void nc_endgame_end(NcEndgame *e, NcBandwidthClaim *claim);
/* How long it has waited in all. */
int64_t nc_endgame_waited_us(NcEndgame *e);

/*
 * A word of the controller about the migration. ${says}: and it is whether its last round may begin, ${is_granted}. True: the endgame is asked
 * for, or not given back yet. What is not asked for is not kept, so that a grant which comes late is none. Any thread.
 */
bool nc_endgame_hear(NcEndgame *e, bool says, bool is_granted, int64_t now_us);
