/* SPDX-License-Identifier: Apache-2.0 */
/* One migration's phases. The flow of its bytes between two events is linear. */
#include "fleet/forecast_move.h"
#include "fleet/rounds.h"
#include "fleet/simulator_internal.h"

#include <math.h>

#define NC_SIM_SLOW_BPS 4096u  /* the least that a flow which waits has */

/* --- time and rates --- */

static bool
nc_move_sends(const NcMove *move)
{
  return move->flow != NULL;
}

/* What of its round may be left for the pause, at the present rate. */
static double
nc_move_kept(const NcMove *move)
{
  return move->phase == NC_PHASE_ROUND ? MIN(move->total, move->rate * nc_move_budget_s(move->guest, move->way.rtt_us)) : 0;
}

/* What is to be sent before something happens; infinite: it waits. */
static double
nc_move_ahead(const NcMove *move)
{
  double end = move->total - nc_move_kept(move);

  if (move->phase == NC_PHASE_WAIT)
    return INFINITY;
  if (move->phase == NC_PHASE_ROUND && move->rounds == 1 && move->fails_at >= 0)
    end = MIN(end, move->fails_at);
  return MAX(end - move->sent, 0);
}

static void
nc_move_schedule(NcSimulator *s, NcMove *move)
{
  double seconds = nc_move_ahead(move) / MAX(move->rate, 1);

  if (move->phase == NC_PHASE_WAIT)
    nc_heap_remove(&move->event);
  else /* never in a year's time: a guest of 1 PiB on the slowest link */
    nc_heap_set(&s->events, &move->event, s->now_us + (int64_t)ceil(MIN(seconds, 1e11) * 1e6), move->id);
}

static void
nc_move_schedule_in(NcSimulator *s, NcMove *move, double seconds)
{
  nc_heap_set(&s->events, &move->event, s->now_us + (int64_t)ceil(seconds * 1e6), move->id);
}

/* Adds ${bytes} and ${rate_bps} to all links on its way. */
static void
nc_move_load(NcSimulator *s, const NcMove *move, double bytes, double rate_bps)
{
  for (unsigned i = 0; i < move->way.up_count + move->way.down_count; i++) {
    bool is_down = i >= move->way.up_count;
    NcLinkUse *use = &s->links[2 * (is_down ? move->way.down[i - move->way.up_count] : move->way.up[i]) + is_down];
    use->bytes += bytes;
    use->rate_bps += rate_bps;
  }
}

static void
nc_move_count_pause(NcSimulator *s, const NcMove *move, int change)
{
  for (unsigned i = 0; i < move->way.up_count; i++)
    s->links[2 * move->way.up[i]].pauses += (unsigned)change;
  for (unsigned i = 0; i < move->way.down_count; i++)
    s->links[2 * move->way.down[i] + 1].pauses += (unsigned)change;
}

void
nc_move_advance(NcSimulator *s, int64_t now_us)
{
  double seconds = (double)(now_us - s->now_us) / 1e6;

  for (guint i = 0; seconds > 0 && i < s->active->len; i++) {
    NcMove *move = s->active->pdata[i];
    if (!nc_move_sends(move))
      continue;
    double content = move->rate * seconds;
    if (move->phase != NC_PHASE_WAIT) /* what it sends then is dirtied again meanwhile */
      move->sent += content;
    s->wire_bytes += content / move->guest->ratio;
    nc_move_load(s, move, content / move->guest->ratio, 0);
  }
  s->now_us = now_us;
}

/* --- phases --- */

static void
nc_move_free_flow(NcSimulator *s, NcMove *move)
{
  if (!move->flow)
    return;
  nc_move_load(s, move, 0, -move->rate / move->guest->ratio);
  move->rate = 0;
  nc_budget_remove(move->flow);
  move->flow = NULL;
}

static void
nc_move_finish(NcSimulator *s, NcMove *move, NcEnd end, const char *reason)
{
  uint64_t id = move->id;

  nc_move_free_flow(s, move);
  nc_heap_remove(&move->event);
  g_ptr_array_remove(s->active, move);
  nc_queue_ended(s->queue, id, end, reason, s->now_us);
  g_hash_table_remove(s->moves, &id); /* the queue's callback has looked at it */
}

static void
nc_move_begin_round(NcSimulator *s, NcMove *move, double total)
{
  move->phase = NC_PHASE_ROUND;
  move->phase_us = s->now_us;
  move->rounds++;
  move->total = total;
  move->sent = 0;
}

void
nc_move_begin(NcSimulator *s, uint64_t id)
{
  const NcItem *item = nc_queue_item(s->queue, id);
  NcMove *move = g_new0(NcMove, 1);

  move->id = id;
  move->machine = item->request.machine;
  move->guest = &nc_fleet_machine(s->fleet, move->machine)->guest;
  move->qos = item->request.qos;
  move->limit_bps = (uint64_t)MAX(NC_MOVE_MOST_CONTENT_BPS / move->guest->ratio, 1);
  if (item->request.limit_bps > 0)
    move->limit_bps = MIN(move->limit_bps, item->request.limit_bps);
  nc_fleet_way(s->fleet, item->from, item->to, &move->way);
  bool fails = nc_random_share(&s->random) < s->scenario->failure_probability;
  double where = nc_random_share(&s->random);
  move->fails_at = fails ? where * move->guest->content_bytes : -1;
  move->phase = NC_PHASE_PREPARE;
  g_hash_table_insert(s->moves, &move->id, move);
  g_ptr_array_add(s->active, move);
  nc_move_schedule_in(s, move, nc_move_prepare_s(move->way.rtt_us));
}

static void
nc_move_end_prepare(NcSimulator *s, NcMove *move)
{
  const NcItem *item = nc_queue_item(s->queue, move->id);

  move->flow = nc_traffic_add(s->traffic, item->from, item->to, move->qos, move->limit_bps, NULL);
  nc_move_begin_round(s, move, move->guest->content_bytes);
}

static void
nc_move_stall(NcSimulator *s, NcMove *move, double left)
{
  if (!move->guest->may_postcopy) {
    g_autofree char *reason =
        g_strdup_printf("its rounds do not come to an end: it dirties %.1f MB/s and %.1f MB/s can be sent; allow post-copy",
                        move->guest->dirty_bps / 1e6, move->rate / 1e6);
    nc_move_finish(s, move, NC_END_FINAL, reason);
    return;
  }
  nc_budget_end_endgame(move->flow);
  move->phase = NC_PHASE_POSTCOPY;
  move->pause_s = nc_move_pause_overhead_s(move->way.rtt_us);
  move->total = left;
  move->sent = 0;
  s->postcopies++;
}

static void
nc_move_end_round(NcSimulator *s, NcMove *move)
{
  const NcRoundTerms terms = { .dirty_rate = move->guest->dirty_bps,
                               .working_set = MIN(move->guest->working_set_bytes, move->guest->content_bytes),
                               .budget_bytes = move->rate * nc_move_budget_s(move->guest, move->way.rtt_us),
                               .is_first = move->rounds == 1,
                               .may_stall = move->rounds > 1 };
  double kept = MAX(move->total - move->sent, 0);

  if (move->rounds == 1 && move->fails_at >= 0) {
    nc_move_finish(s, move, NC_END_MAY_PASS, "the migration failed (by the scenario's failure_probability)");
    return;
  }
  NcRoundEnd end = nc_rounds_end(&terms, move->total, kept, (double)(s->now_us - move->phase_us) / 1e6);
  if (end.verdict == NC_ROUND_STALL || move->rounds >= NC_MOVE_MOST_ROUNDS) {
    nc_move_stall(s, move, end.next);
  } else if (end.verdict == NC_ROUND_ON) {
    nc_move_begin_round(s, move, end.next);
  } else {
    move->phase = NC_PHASE_WAIT;
    move->phase_us = s->now_us;
    move->total = end.next;
    move->sent = 0;
    nc_budget_ask_endgame(move->flow);
  }
}

static void
nc_move_end_pages(NcSimulator *s, NcMove *move)
{
  double overhead_s = nc_move_pause_overhead_s(move->way.rtt_us);

  if (move->phase == NC_PHASE_PAUSE) {
    move->pause_s = (double)(s->now_us - move->phase_us) / 1e6 + overhead_s;
    nc_move_count_pause(s, move, -1);
  }
  nc_move_free_flow(s, move);
  move->phase = NC_PHASE_END;
  nc_move_schedule_in(s, move, overhead_s + NC_MOVE_END_S);
}

void
nc_move_step(NcSimulator *s, NcMove *move)
{
  switch (move->phase) {
  case NC_PHASE_PREPARE:
    nc_move_end_prepare(s, move);
    break;
  case NC_PHASE_ROUND:
    nc_move_end_round(s, move);
    break;
  case NC_PHASE_PAUSE:
  case NC_PHASE_POSTCOPY:
    nc_move_end_pages(s, move);
    break;
  case NC_PHASE_END:
    nc_move_finish(s, move, NC_END_COMPLETED, NULL);
    break;
  case NC_PHASE_WAIT: /* has no event */
    break;
  }
}

/* --- what follows from all of that --- */

/* While it waits for the endgame it sends only what its guest dirties; the others have the rest. */
static void
nc_move_set_limit(NcMove *move)
{
  bool slowed = move->phase == NC_PHASE_WAIT && !nc_budget_has_endgame(move->flow);
  uint64_t dirty_bps = MAX((uint64_t)(move->guest->dirty_bps / move->guest->ratio), NC_SIM_SLOW_BPS);

  nc_budget_change(move->flow, move->qos, slowed ? MIN(dirty_bps, move->limit_bps) : move->limit_bps);
  move->is_slowed = slowed;
}

/* It has the endgame: does what is left still fit? The link may be another now than when it asked. */
static void
nc_move_enter_pause(NcSimulator *s, NcMove *move)
{
  if (move->total > move->rate * nc_move_budget_s(move->guest, move->way.rtt_us) + NC_ROUND_NOTHING) {
    nc_budget_end_endgame(move->flow);
    nc_move_begin_round(s, move, move->total);
    return;
  }
  move->phase = NC_PHASE_PAUSE;
  move->phase_us = s->now_us;
  nc_move_count_pause(s, move, 1);
}

static void
nc_move_take_rate(NcSimulator *s, NcMove *move)
{
  double wire_bps = move->flow ? (double)nc_flow_rate_bps(move->flow) : 0;
  double rate = wire_bps * move->guest->ratio;

  if (rate == move->rate)
    return;
  nc_move_load(s, move, 0, (rate - move->rate) / move->guest->ratio);
  move->rate = rate;
}

/* After all of them have their rates: what the links on its way carry at most. */
static void
nc_move_note_most(NcSimulator *s, const NcMove *move)
{
  for (unsigned i = 0; i < move->way.up_count; i++) {
    NcLinkUse *use = &s->links[2 * move->way.up[i]];
    use->most_bps = MAX(use->most_bps, use->rate_bps);
  }
  for (unsigned i = 0; i < move->way.down_count; i++) {
    NcLinkUse *use = &s->links[2 * move->way.down[i] + 1];
    use->most_bps = MAX(use->most_bps, use->rate_bps);
  }
}

void
nc_move_settle(NcSimulator *s)
{
  bool again = true;

  while (again) { /* one that gives its endgame back changes the rates of others; it does so once */
    for (guint i = 0; i < s->active->len; i++)
      if (nc_move_sends(s->active->pdata[i]))
        nc_move_set_limit(s->active->pdata[i]);
    nc_budget_divide(nc_traffic_budget(s->traffic));
    again = false;
    for (guint i = 0; i < s->active->len; i++)
      if (nc_move_sends(s->active->pdata[i]))
        nc_move_take_rate(s, s->active->pdata[i]);
    for (guint i = 0; i < s->active->len; i++) {
      NcMove *move = s->active->pdata[i];
      if (move->phase == NC_PHASE_WAIT && nc_budget_has_endgame(move->flow) && !move->is_slowed) {
        nc_move_enter_pause(s, move);
        again |= move->phase == NC_PHASE_ROUND;
      }
    }
  }
  for (guint i = 0; i < s->active->len; i++) {
    NcMove *move = s->active->pdata[i];
    if (!nc_move_sends(move))
      continue;
    nc_move_schedule(s, move);
    nc_move_note_most(s, move);
  }
}
