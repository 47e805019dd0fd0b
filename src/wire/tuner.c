/* SPDX-License-Identifier: Apache-2.0 */
/* Ticks, the model's choice, trials, and how long to stay away from what failed. The theory is in tuner.h. */
#include "wire/tuner.h"

#include <math.h>

/* A tick is at least so long and has so many batches, */
#define NC_TUNER_TICK_US 50000u
#define NC_TUNER_TICK_BATCHES 12u
#define NC_TUNER_TICK_MAX_US 200000u /* but is not longer than this */
#define NC_TUNER_IDLE_SHARE 0.3      /* of a tick without batches: it says nothing about rates */
#define NC_TUNER_LINK_SHARE 0.5      /* of a tick waiting for the link: its rate is the link's */
#define NC_TUNER_FREE_SHARE 0.1      /* below: the link may do more than we know */
/* Not waiting for it, and beyond what it did when all waited for it: it has become faster, */
#define NC_TUNER_FASTER 1.1
#define NC_TUNER_GROWTH 1.5     /* then, per tick, */
#define NC_TUNER_SLOWLY 1.1     /* and where it is waited for now and then, */
#define NC_TUNER_DOUBT 1.2      /* but hardly beyond what it did when all waited for it */
#define NC_TUNER_JUMP 1.5       /* beyond this the link has changed */
#define NC_TUNER_SMOOTH 0.35    /* weight of a tick */
#define NC_TUNER_SETTLE_TICKS 2 /* before what passes now is known well enough to compare with */
#define NC_TUNER_STARVED_TICKS 2 /* in a row: it was no accident that the link waited */

/* The model's choice. */
#define NC_TUNER_NEW_CONTENT 1.3 /* so different: what has failed may not fail now */
#define NC_TUNER_TIE 0.985       /* of the best: as good */
#define NC_TUNER_UP_GAIN 1.02    /* heavier must promise this, */
#define NC_TUNER_DOWN_GAIN 0.985 /* lighter this, */
#define NC_TUNER_CHEAPER 0.8     /* and to cost so much less, unless processors are scarce */

/* Trials. */
#define NC_TUNER_TRIAL_US 150000u
#define NC_TUNER_TRIAL_BATCHES 20u
#define NC_TUNER_TRIAL_MAX_US 1500000u
#define NC_TUNER_UP_PROOF 1.01       /* of what passed before, heavier must bring so much, */
#define NC_TUNER_DOWN_PROOF 0.96     /* lighter must keep so much */
#define NC_TUNER_LINK_PROOF 0.93     /* while the link passes so much of the most it has: fewer bytes are gain enough */
#define NC_TUNER_BEST_FADES 0.99995  /* per tick: what it could do once is forgotten in some minutes */
#define NC_TUNER_TRIALS_MOST 8.0     /* in a row, */
#define NC_TUNER_TRIALS_EVERY_US 3e6 /* and one per this time in the long run */
#define NC_TUNER_PATIENCE_US 1000000u
#define NC_TUNER_PATIENCE_MAX_US 32000000u

/* Exploration. */
#define NC_TUNER_EXPLORE_EVERY 8u /* batches */
#define NC_TUNER_EXPLORE_FAR 3    /* upwards: a heavier kind of compressor may do what no neighbour promises */
#define NC_TUNER_EXPLORE_AGE_US 2000000u
#define NC_TUNER_EXPLORE_BATCHES 3u

/* What was seen since `since_us`. */
typedef struct {
  uint64_t since_us;
  uint64_t from_us, to_us; /* the delivery before the first one, and the last one: rates are of this time */
  uint64_t waits_us[NC_TUNER_WAITS];
  uint64_t batches;
  double wire, work;
} NcTunerTick;

/* A move on probation. */
typedef struct {
  bool is_on;
  unsigned from;
  double rate_proof; /* work per second; to be reached */
  uint64_t start_us;
  NcTunerTick seen; /* since its first batch was acknowledged; since_us 0: none was */
} NcTunerTrial;

struct NcTuner {
  double cores;
  NcRungs rungs;
  unsigned rung;
  uint64_t switches;

  NcTunerWait wait;
  uint64_t wait_since_us;
  NcTunerTick tick;

  double link_rate;    /* wire bytes per second; 0: unknown */
  bool link_bound;     /* in the last tick */
  double best_rate;    /* the highest one measured while all waited for it; fades */
  double proven_rate;  /* the last one measured while all waited for it; 0: none, or it is known to be faster now */
  double rate;         /* work per second at this rung; with `rate_ticks` */
  unsigned rate_ticks; /* measured since the last change */
  unsigned starved_ticks; /* in a row, in which the link waited for the processors */

  NcTunerTrial trial;
  /* rungs from `below` down and from `above` up have failed; until `refused_until_us`, or the content differs from
   * `refused_signature` */
  int below, above;
  double signature; /* of the content all this is about */
  uint64_t refused_until_us;
  uint64_t patience_us;
  int last_move; /* -1 lighter, 1 heavier */
  double trials; /* that may begin, at `trials_us` */
  uint64_t trials_us;

  uint64_t asked; /* how often for a rung */
  unsigned explored[NC_RUNGS];
  uint64_t explore_us[NC_RUNGS]; /* when the burst began */
};

static void
nc_tuner_forgive(NcTuner *t)
{
  t->below = -1;
  t->above = NC_RUNGS;
}

NcTuner *
nc_tuner_new(double cores, uint64_t now_us)
{
  NcTuner *t = g_new0(NcTuner, 1);

  t->cores = cores;
  t->rung = NC_RUNG_START;
  t->wait_since_us = t->tick.since_us = t->tick.from_us = now_us;
  t->patience_us = NC_TUNER_PATIENCE_US;
  t->trials = NC_TUNER_TRIALS_MOST;
  t->trials_us = now_us;
  nc_tuner_forgive(t);
  return t;
}

void
nc_tuner_free(NcTuner *t)
{
  g_free(t);
}

unsigned
nc_tuner_rung(const NcTuner *t)
{
  return t->rung;
}

uint64_t
nc_tuner_switches(const NcTuner *t)
{
  return t->switches;
}

void
nc_tuner_begin_far(NcTuner *t)
{
  if (t->switches == 0 && t->link_rate <= 0)
    t->rung = NC_RUNG_FAR;
}

void
nc_tuner_waits(NcTuner *t, NcTunerWait wait, uint64_t now_us)
{
  t->tick.waits_us[t->wait] += now_us - t->wait_since_us;
  if (t->trial.is_on)
    t->trial.seen.waits_us[t->wait] += now_us - t->wait_since_us;
  t->wait = wait;
  t->wait_since_us = now_us;
}

double
nc_tuner_encoded(NcTuner *t, const NcRungBatch *batch, uint64_t now_us)
{
  nc_rungs_add(&t->rungs, batch, now_us);
  return nc_rungs_work(batch);
}

static double
nc_tuner_share_of(const NcTunerTick *tick, NcTunerWait wait)
{
  uint64_t all = 0;
  for (unsigned i = 0; i < NC_TUNER_WAITS; i++)
    all += tick->waits_us[i];
  return all > 0 ? (double)tick->waits_us[wait] / (double)all : 0;
}

static bool
nc_tuner_differs(double a, double b, double factor)
{
  return a > b * factor || b > a * factor;
}

/* What passed before can't be compared with what will. */
static void
nc_tuner_start_anew(NcTuner *t)
{
  nc_tuner_forgive(t);
  t->rate_ticks = 0;
  t->patience_us = NC_TUNER_PATIENCE_US;
}

/* A tick in which the link was what all waited for. */
static void
nc_tuner_learn_link(NcTuner *t, double rate)
{
  bool jumped = t->link_rate > 0 && nc_tuner_differs(rate, t->link_rate, NC_TUNER_JUMP);
  bool settled = !t->trial.is_on && t->rate_ticks >= NC_TUNER_SETTLE_TICKS;

  if (jumped && (settled || rate > t->link_rate)) /* a fall right after a move is the move's doing */
    t->best_rate = 0;
  if (jumped && !t->trial.is_on) /* else it may be the trial's doing */
    nc_tuner_start_anew(t);
  if (jumped || t->link_rate <= 0)
    t->link_rate = rate;
  else
    t->link_rate += NC_TUNER_SMOOTH * (rate - t->link_rate);
  t->proven_rate = t->link_rate;
  t->best_rate = MAX(t->best_rate * NC_TUNER_BEST_FADES, t->link_rate);
}

/* All did not wait for it: it may be able to do more. ${link}: the share of time in which they did. */
static void
nc_tuner_grow_link(NcTuner *t, double link)
{
  double most = t->proven_rate > 0 ? MAX(t->proven_rate * NC_TUNER_DOUBT, t->link_rate) : G_MAXDOUBLE;
  t->link_rate = MIN(t->link_rate * (link < NC_TUNER_FREE_SHARE ? NC_TUNER_GROWTH : NC_TUNER_SLOWLY), most);
}

static void
nc_tuner_learn_rates(NcTuner *t, double seconds)
{
  double rate = t->tick.wire / seconds, work = t->tick.work / seconds;
  double link = nc_tuner_share_of(&t->tick, NC_TUNER_LINK);
  t->link_bound = link >= NC_TUNER_LINK_SHARE;
  t->starved_ticks = t->link_bound ? 0 : t->starved_ticks + 1;

  if (!t->link_bound && t->proven_rate > 0 && rate > t->proven_rate * NC_TUNER_FASTER) {
    t->proven_rate = 0;
    t->trial.is_on = false; /* whatever was gained is not its doing */
    nc_tuner_start_anew(t);
  }
  if (t->link_bound)
    nc_tuner_learn_link(t, rate);
  else if (rate > t->link_rate)
    t->link_rate = rate;
  else
    nc_tuner_grow_link(t, link);
  t->rate = t->rate_ticks == 0 ? work : t->rate + NC_TUNER_SMOOTH * (work - t->rate);
  t->rate_ticks++;
}

/* Raw bytes per second that the model expects of ${rung}. */
static double
nc_tuner_model(const NcTuner *t, unsigned rung, uint64_t now_us)
{
  return MIN(t->cores / nc_rungs_cost(&t->rungs, rung, now_us), t->link_rate / nc_rungs_share(&t->rungs, rung, now_us));
}

/* The lightest rung that is as good as the best, of those that have not failed; the current one unless it is worth a
 * move. */
static unsigned
nc_tuner_choose(const NcTuner *t, uint64_t now_us)
{
  double best = 0, current = nc_tuner_model(t, t->rung, now_us);
  unsigned target = t->rung;

  for (int i = t->below + 1; i < t->above; i++)
    best = MAX(best, nc_tuner_model(t, (unsigned)i, now_us));
  for (int i = t->below + 1; i < t->above; i++)
    if (nc_tuner_model(t, (unsigned)i, now_us) >= best * NC_TUNER_TIE) {
      target = (unsigned)i;
      break;
    }
  /* While processors have time, what saves none of it is not worth a move. */
  if (target < t->rung && t->link_bound &&
      nc_rungs_cost(&t->rungs, target, now_us) > NC_TUNER_CHEAPER * nc_rungs_cost(&t->rungs, t->rung, now_us))
    return t->rung;
  double gain = target > t->rung ? NC_TUNER_UP_GAIN : NC_TUNER_DOWN_GAIN;
  return nc_tuner_model(t, target, now_us) >= current * gain ? target : t->rung;
}

static void
nc_tuner_move(NcTuner *t, unsigned rung)
{
  t->rung = rung;
  t->switches++;
  t->rate_ticks = 0;
}

/* Nothing from ${rung} on, away from ${from}, for a while that gets longer. */
static void
nc_tuner_refuse(NcTuner *t, unsigned rung, unsigned from, uint64_t now_us)
{
  if (rung > from)
    t->above = (int)rung;
  else
    t->below = (int)rung;
  t->refused_until_us = now_us + t->patience_us;
  t->patience_us = MIN(2 * t->patience_us, NC_TUNER_PATIENCE_MAX_US);
}

static void
nc_tuner_begin_trial(NcTuner *t, unsigned rung, uint64_t now_us)
{
  t->trial = (NcTunerTrial){ .is_on = true,
                             .from = t->rung,
                             .rate_proof = t->rate * (rung > t->rung ? NC_TUNER_UP_PROOF : NC_TUNER_DOWN_PROOF),
                             .start_us = now_us };
  t->trials--;
  nc_tuner_move(t, rung);
}

static void
nc_tuner_fail(NcTuner *t, uint64_t now_us)
{
  nc_tuner_refuse(t, t->rung, t->trial.from, now_us);
  nc_tuner_move(t, t->trial.from);
}

static void
nc_tuner_succeed(NcTuner *t, uint64_t now_us)
{
  int move = t->rung > t->trial.from ? 1 : -1;

  if (move == -t->last_move) /* to and fro: not back again soon */
    nc_tuner_refuse(t, t->trial.from, t->rung, now_us);
  t->last_move = move;
}

/* Did what was seen prove the move wrong? */
static bool
nc_tuner_trial_failed(const NcTuner *t, double rate, double wire_rate)
{
  const NcTunerTrial *trial = &t->trial;

  /* Fewer bytes, and as many of them pass as ever: no need to prove by the sizes of what happened to come. */
  if (t->rung > trial->from && nc_tuner_share_of(&trial->seen, NC_TUNER_LINK) >= NC_TUNER_LINK_SHARE &&
      wire_rate >= t->best_rate * NC_TUNER_LINK_PROOF)
    return false;
  return nc_tuner_share_of(&trial->seen, NC_TUNER_NOTHING) <= NC_TUNER_IDLE_SHARE && rate < trial->rate_proof;
}

/* Ends the trial if enough was seen. */
static void
nc_tuner_judge(NcTuner *t, uint64_t now_us)
{
  const NcTunerTick *seen = &t->trial.seen;
  bool enough =
      seen->since_us > 0 && now_us - seen->since_us >= NC_TUNER_TRIAL_US && seen->batches >= NC_TUNER_TRIAL_BATCHES;

  if (!enough && now_us - t->trial.start_us < NC_TUNER_TRIAL_MAX_US)
    return;
  double seconds = (double)(seen->to_us - seen->from_us) / 1e6;
  t->trial.is_on = false;
  if (enough && nc_tuner_trial_failed(t, seen->work / seconds, seen->wire / seconds))
    nc_tuner_fail(t, now_us);
  else
    nc_tuner_succeed(t, now_us);
}

/* May another trial begin? However the link trembles, there are few in the long run. */
static bool
nc_tuner_has_trial(NcTuner *t, uint64_t now_us)
{
  t->trials += (double)(now_us - t->trials_us) / NC_TUNER_TRIALS_EVERY_US;
  t->trials = MIN(t->trials, NC_TUNER_TRIALS_MOST);
  t->trials_us = now_us;
  return t->trials >= 1;
}

/* The processors can't keep up: that is measured, and needs no proof. What was too heavy is left alone for a while. */
static void
nc_tuner_relieve(NcTuner *t, unsigned rung, uint64_t now_us)
{
  t->above = (int)t->rung;
  t->refused_until_us = now_us + NC_TUNER_PATIENCE_US;
  t->last_move = -1;
  nc_tuner_move(t, rung);
}

static void
nc_tuner_consider(NcTuner *t, uint64_t now_us)
{
  double signature = nc_rungs_signature(&t->rungs);

  if (nc_tuner_differs(signature, t->signature, NC_TUNER_NEW_CONTENT)) {
    t->signature = signature;
    nc_tuner_start_anew(t);
  }
  if (now_us >= t->refused_until_us)
    nc_tuner_forgive(t);
  if (t->rate_ticks < NC_TUNER_SETTLE_TICKS || t->link_rate <= 0)
    return;
  unsigned target = nc_tuner_choose(t, now_us);
  if (target < t->rung && t->starved_ticks >= NC_TUNER_STARVED_TICKS)
    nc_tuner_relieve(t, target, now_us);
  else if (target != t->rung && nc_tuner_has_trial(t, now_us))
    nc_tuner_begin_trial(t, target, now_us);
}

/* Closes the tick if it has lasted long enough, and acts on it. */
static void
nc_tuner_tick(NcTuner *t, uint64_t now_us)
{
  uint64_t elapsed_us = now_us - t->tick.since_us;

  if (elapsed_us < NC_TUNER_TICK_US || (t->tick.batches < NC_TUNER_TICK_BATCHES && elapsed_us < NC_TUNER_TICK_MAX_US))
    return;
  nc_tuner_waits(t, t->wait, now_us);
  bool tells = nc_tuner_share_of(&t->tick, NC_TUNER_NOTHING) <= NC_TUNER_IDLE_SHARE && t->tick.to_us > t->tick.from_us;
  if (tells)
    nc_tuner_learn_rates(t, (double)(t->tick.to_us - t->tick.from_us) / 1e6);
  t->tick = (NcTunerTick){ .since_us = now_us, .from_us = tells ? t->tick.to_us : now_us };
  if (t->trial.is_on)
    nc_tuner_judge(t, now_us);
  else if (tells)
    nc_tuner_consider(t, now_us);
}

static void
nc_tuner_count(NcTunerTick *tick, uint32_t wire_bytes, double work, uint64_t now_us)
{
  tick->to_us = now_us;
  tick->batches++;
  tick->wire += wire_bytes;
  tick->work += work;
}

void
nc_tuner_acked(NcTuner *t, unsigned rung, uint32_t wire_bytes, double work, uint64_t now_us)
{
  nc_tuner_count(&t->tick, wire_bytes, work, now_us);
  if (t->trial.is_on && t->trial.seen.since_us > 0)
    nc_tuner_count(&t->trial.seen, wire_bytes, work, now_us);
  else if (t->trial.is_on &&
           rung == t->rung) /* it may have waited for longer than the trial lasts: it is not counted */
    t->trial.seen = (NcTunerTick){ .since_us = now_us, .from_us = now_us };
  nc_tuner_tick(t, now_us);
}

/* Is it ${rung}'s turn to be tried, as a neighbour? */
static bool
nc_tuner_explores(NcTuner *t, unsigned rung, uint64_t now_us)
{
  if (now_us - t->explore_us[rung] > NC_TUNER_EXPLORE_AGE_US) {
    t->explore_us[rung] = now_us;
    t->explored[rung] = 0;
  }
  return t->explored[rung]++ < NC_TUNER_EXPLORE_BATCHES;
}

unsigned
nc_tuner_next(NcTuner *t, uint64_t now_us)
{
  static const int steps[] = { -1, 1, NC_TUNER_EXPLORE_FAR }; /* towards what is scarce first */

  nc_tuner_tick(t, now_us);
  if (t->trial.is_on || ++t->asked % NC_TUNER_EXPLORE_EVERY != 0)
    return t->rung;
  for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
    int rung = (int)t->rung + steps[t->link_bound ? G_N_ELEMENTS(steps) - 1 - i : i];
    if (rung > 0 && rung < NC_RUNGS && nc_tuner_explores(t, (unsigned)rung, now_us)) /* of 0 everything is known */
      return (unsigned)rung;
  }
  return t->rung;
}
