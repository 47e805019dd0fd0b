/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/simulator_internal.h"

#include <math.h>

#define NC_REPORT_MIB 1048576.0

/* To milliseconds: what comes after is noise to a reader. */
static json_t *
nc_report_seconds(double s)
{
  return json_real(round(s * 1000) / 1000);
}

static json_t *
nc_report_us(int64_t us)
{
  return us < 0 ? json_null() : nc_report_seconds((double)us / 1e6);
}

static json_t *
nc_report_ms(double seconds)
{
  return json_real(round(seconds * 1e4) / 10);
}

static json_t *
nc_report_machine(const NcSimulator *s, uint32_t machine)
{
  return machine == NC_FLEET_NONE ? json_null() : json_string(nc_fleet_machine(s->fleet, machine)->name);
}

/* --- evacuations --- */

static json_t *
nc_report_wave(const NcPlannedWave *planned, const NcWaveTimes *times)
{
  return json_pack("{s:i, s:f, s:o, s:i, s:o, s:o, s:o}", "moves", (int)planned->moves, "memory_mib",
                   round(planned->memory_bytes / NC_REPORT_MIB), "planned_s", nc_report_seconds(planned->seconds), "completed",
                   (int)times->ended, "began_s", nc_report_us(times->began_us), "ended_s", nc_report_us(times->ended_us),
                   "longest_pause_ms", nc_report_ms(times->pause_s));
}

static json_t *
nc_report_evacuation(const NcSimulator *s, const NcSimulatedEvacuation *e)
{
  json_t *waves = json_array(), *stuck = json_array();

  for (guint i = 0; i < e->plan->waves->len; i++)
    json_array_append_new(waves, nc_report_wave(&g_array_index(e->plan->waves, NcPlannedWave, i), &g_array_index(e->waves, NcWaveTimes, i)));
  for (guint i = 0; i < e->plan->stuck->len; i++) {
    const NcStuckMachine *m = &g_array_index(e->plan->stuck, NcStuckMachine, i);
    json_array_append_new(stuck, json_pack("{s:o, s:s}", "machine", nc_report_machine(s, m->machine), "reason", m->reason));
  }
  return json_pack("{s:o, s:i, s:i, s:i, s:o, s:o, s:o, s:o}", "at_s", nc_report_us(e->at_us), "nodes", (int)e->plan->node_count,
                   "submitted", (int)e->submitted, "completed", (int)e->completed, "planned_s", nc_report_seconds(e->plan->seconds),
                   "took_s", nc_report_us(e->ended_us - e->at_us), "waves", waves, "cannot_move", stuck);
}

/* --- links --- */

static json_t *
nc_report_percent(const NcLink *link, double bps)
{
  return link->rate_bps > 0 ? json_real(round(1000 * bps / (double)link->rate_bps) / 10) : json_null();
}

static json_t *
nc_report_link(const NcSimulator *s, uint32_t link, double seconds)
{
  const NcLink *l = nc_fleet_link(s->fleet, link);
  const NcLinkUse *up = &s->links[2 * link], *down = up + 1;
  double per_second = seconds > 0 ? 1 / seconds : 0;

  return json_pack("{s:s, s:I, s:o, s:o, s:o, s:o}", "name", l->name, "rate_bps", (json_int_t)l->rate_bps, "up_percent",
                   nc_report_percent(l, up->bytes * per_second), "up_most_percent", nc_report_percent(l, up->most_bps), "down_percent",
                   nc_report_percent(l, down->bytes * per_second), "down_most_percent", nc_report_percent(l, down->most_bps));
}

/* --- all of it --- */

static json_t *
nc_report_not_moved(const NcSimulator *s)
{
  json_t *list = json_array();

  for (guint i = 0; i < s->items->len; i++) {
    const NcSimulatedItem *item = &g_array_index(s->items, NcSimulatedItem, i);
    json_array_append_new(list, json_pack("{s:o, s:s, s:s?}", "machine", nc_report_machine(s, item->machine), "state", item->state,
                                          "reason", item->reason));
  }
  return list;
}

json_t *
nc_simulator_report(NcSimulator *s)
{
  double seconds = s->first_us < 0 ? 0 : (double)(s->last_us - s->first_us) / 1e6;
  json_t *evacuations = json_array(), *links = json_array();

  for (guint i = 0; i < s->evacuations->len; i++)
    json_array_append_new(evacuations, nc_report_evacuation(s, s->evacuations->pdata[i]));
  for (uint32_t i = 0; i < nc_fleet_link_count(s->fleet); i++)
    json_array_append_new(links, nc_report_link(s, i, seconds));
  return json_pack("{s:I, s:i, s:i, s:o, s:{s:i, s:i, s:i, s:i, s:i}, s:i, s:i, s:i, s:f, s:{s:o, s:o}, s:{s:o, s:o}, s:o, s:o, s:o}",
                   "seed", (json_int_t)s->scenario->seed, "nodes", (int)nc_fleet_node_count(s->fleet), "machines",
                   (int)nc_fleet_machine_count(s->fleet), "seconds", nc_report_seconds(seconds), "migrations", "submitted",
                   (int)s->submitted, "completed", (int)s->completed, "failed", (int)s->failed, "refused", (int)s->refused, "cancelled",
                   (int)s->cancelled, "failed_attempts", (int)s->failed_attempts, "postcopy", (int)s->postcopies, "most_at_a_time",
                   (int)s->most_running, "wire_bytes", round(s->wire_bytes), "longest_wait", "machine",
                   nc_report_machine(s, s->longest_wait_of), "seconds", nc_report_us(s->longest_wait_us), "longest_pause", "machine",
                   nc_report_machine(s, s->longest_pause_of), "ms", nc_report_ms(s->longest_pause_s), "evacuations", evacuations,
                   "links", links, "not_moved", nc_report_not_moved(s));
}
