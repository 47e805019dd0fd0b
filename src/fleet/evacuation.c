/* SPDX-License-Identifier: Apache-2.0 */
/* Places first, then waves, then times. */
#include "fleet/evacuation.h"
#include "fleet/forecast_move.h"
#include "fleet/placement.h"
#include "fleet/traffic.h"

#include <string.h>

static void
nc_stuck_clear(gpointer stuck)
{
  g_free(((NcStuckMachine *)stuck)->reason);
}

void
nc_evacuation_free(NcEvacuation *plan)
{
  if (!plan)
    return;
  g_array_unref(plan->moves);
  g_array_unref(plan->stuck);
  g_array_unref(plan->waves);
  g_free(plan->nodes);
  g_free(plan);
}

static void
nc_evacuation_add_stuck(NcEvacuation *plan, uint32_t machine, char *reason)
{
  NcStuckMachine stuck = { .machine = machine, .reason = reason };
  g_array_append_val(plan->stuck, stuck);
}

/* --- places --- */

static int
nc_evacuation_order(const void *a, const void *b, void *user_data)
{
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  const NcMachine *m = nc_fleet_machine(user_data, x), *n = nc_fleet_machine(user_data, y);

  if (m->priority != n->priority)
    return m->priority < n->priority ? -1 : 1;
  if (m->need.memory_bytes != n->need.memory_bytes)
    return m->need.memory_bytes > n->need.memory_bytes ? -1 : 1;
  return x < y ? -1 : x > y;
}

static GArray *
nc_evacuation_machines(NcFleet *fleet, const NcEvacuation *plan)
{
  GArray *machines = g_array_new(FALSE, FALSE, sizeof(uint32_t));

  for (size_t i = 0; i < plan->node_count; i++)
    for (uint32_t m = nc_fleet_node(fleet, plan->nodes[i])->first_machine; m != NC_FLEET_NONE; m = nc_fleet_machine(fleet, m)->next)
      if (nc_fleet_machine(fleet, m)->reserved == NC_FLEET_NONE)
        g_array_append_val(machines, m);
  g_array_sort_with_data(machines, nc_evacuation_order, fleet);
  return machines;
}

static bool
nc_evacuation_disks_are_alike(const NcMachine *m, const NcMachine *n)
{
  for (unsigned i = 0; i < m->disk_count && i < n->disk_count; i++)
    if (m->disks[i].directory != n->disks[i].directory || m->disks[i].bytes != n->disks[i].bytes)
      return false;
  return m->disk_count == n->disk_count;
}

/* Do both need the same? Then what refuses one refuses the other. */
static bool
nc_evacuation_are_alike(const NcFleet *fleet, uint32_t a, uint32_t b)
{
  const NcMachine *m = nc_fleet_machine(fleet, a), *n = nc_fleet_machine(fleet, b);

  return m->node == n->node && memcmp(&m->need, &n->need, sizeof m->need) == 0 && m->require_count == n->require_count &&
         (m->require_count == 0 || memcmp(m->requires, n->requires, m->require_count * sizeof m->requires[0]) == 0) &&
         nc_evacuation_disks_are_alike(m, n);
}

/* A complaint looks at all nodes: of many machines that are alike, only one has to. */
static char *
nc_evacuation_complaint(const NcFleet *fleet, const NcEvacuation *plan, uint32_t machine, const NcPlacementTerms *terms,
                        guint moves_at_last)
{
  const NcStuckMachine *last = plan->stuck->len > 0 ? &g_array_index(plan->stuck, NcStuckMachine, plan->stuck->len - 1) : NULL;
  const char *rest = last ? strchr(last->reason, ':') : NULL;

  if (!rest || moves_at_last != plan->moves->len || !nc_evacuation_are_alike(fleet, last->machine, machine))
    return nc_placement_complaint(fleet, machine, terms);
  return g_strdup_printf("no node can take %s%s", nc_fleet_machine(fleet, machine)->name, rest);
}

/* Without a colon: what follows one is said of the next machine as well. */
static char *
nc_evacuation_say_stopped(const NcFleet *fleet, uint32_t machine)
{
  return g_strdup_printf("%s is stopped, and only a running machine can be migrated (start it, or leave it where it is)",
                         nc_fleet_machine(fleet, machine)->name);
}

static void
nc_evacuation_find_places(NcFleet *fleet, NcEvacuation *plan)
{
  const NcPlacementTerms terms = { .failed = NC_FLEET_NONE };
  g_autoptr(GArray) machines = nc_evacuation_machines(fleet, plan);
  guint moves_at_last = 0; /* how many moves there were when the last one was found stuck */

  for (guint i = 0; i < machines->len; i++) {
    NcPlannedMove move = { .machine = g_array_index(machines, uint32_t, i) };
    if (i > 0 && move.machine == g_array_index(machines, uint32_t, i - 1))
      continue; /* its node was named twice */
    move.from = nc_fleet_machine(fleet, move.machine)->node;
    if (nc_fleet_machine(fleet, move.machine)->is_stopped) {
      nc_evacuation_add_stuck(plan, move.machine, nc_evacuation_say_stopped(fleet, move.machine));
      continue;
    }
    move.to = nc_placement_choose(fleet, move.machine, &terms);
    if (move.to == NC_FLEET_NONE) {
      nc_evacuation_add_stuck(plan, move.machine, nc_evacuation_complaint(fleet, plan, move.machine, &terms, moves_at_last));
      moves_at_last = plan->moves->len;
      continue;
    }
    nc_fleet_reserve(fleet, move.machine, move.to);
    g_array_append_val(plan->moves, move);
  }
  for (guint i = 0; i < plan->moves->len; i++)
    nc_fleet_unreserve(fleet, g_array_index(plan->moves, NcPlannedMove, i).machine);
}

/* --- waves --- */

/* Counters of a node's migrations in a wave, and the first wave that is not full for it. */
typedef struct {
  GHashTable *counts; /* (wave, node, direction) to count */
  GHashTable *first;  /* (node, direction) to wave */
  GArray *sizes;      /* of waves */
  unsigned first_wave; /* that is not full */
} NcWaves;

static gpointer
nc_waves_key(unsigned wave, uint32_t node, bool is_in)
{
  return GSIZE_TO_POINTER((gsize)wave << 32 | (gsize)node << 1 | is_in); /* nodes are less than NC_FLEET_MOST */
}

static unsigned
nc_waves_count(const NcWaves *w, unsigned wave, uint32_t node, bool is_in)
{
  return GPOINTER_TO_UINT(g_hash_table_lookup(w->counts, nc_waves_key(wave, node, is_in)));
}

static unsigned
nc_waves_first(const NcWaves *w, uint32_t node, bool is_in)
{
  return GPOINTER_TO_UINT(g_hash_table_lookup(w->first, nc_waves_key(0, node, is_in)));
}

static void
nc_waves_take(NcWaves *w, unsigned wave, uint32_t node, bool is_in, unsigned limit)
{
  unsigned count = nc_waves_count(w, wave, node, is_in) + 1, first = nc_waves_first(w, node, is_in);

  g_hash_table_insert(w->counts, nc_waves_key(wave, node, is_in), GUINT_TO_POINTER(count));
  while (nc_waves_count(w, first, node, is_in) >= limit)
    first++;
  g_hash_table_insert(w->first, nc_waves_key(0, node, is_in), GUINT_TO_POINTER(first));
}

static unsigned
nc_waves_find(NcWaves *w, const NcPlannedMove *move, const NcQueueLimits *limits, unsigned out_limit, unsigned in_limit)
{
  unsigned wave = MAX(w->first_wave, MAX(nc_waves_first(w, move->from, false), nc_waves_first(w, move->to, true)));

  while (wave < w->sizes->len && (g_array_index(w->sizes, unsigned, wave) >= limits->cluster ||
                                  nc_waves_count(w, wave, move->from, false) >= out_limit ||
                                  nc_waves_count(w, wave, move->to, true) >= in_limit))
    wave++;
  if (wave >= w->sizes->len)
    g_array_set_size(w->sizes, wave + 1);
  nc_waves_take(w, wave, move->from, false, out_limit);
  nc_waves_take(w, wave, move->to, true, in_limit);
  g_array_index(w->sizes, unsigned, wave)++;
  while (w->first_wave < w->sizes->len && g_array_index(w->sizes, unsigned, w->first_wave) >= limits->cluster)
    w->first_wave++;
  return wave;
}

/* Each move in the first wave that has a place for it. */
static void
nc_evacuation_make_waves(const NcFleet *fleet, const NcQueueLimits *limits, NcEvacuation *plan)
{
  NcWaves waves = { .counts = g_hash_table_new(NULL, NULL),
                    .first = g_hash_table_new(NULL, NULL),
                    .sizes = g_array_new(FALSE, TRUE, sizeof(unsigned)) };

  for (guint i = 0; i < plan->moves->len; i++) {
    NcPlannedMove *move = &g_array_index(plan->moves, NcPlannedMove, i);
    unsigned out = nc_fleet_node(fleet, move->from)->out_limit, in = nc_fleet_node(fleet, move->to)->in_limit;
    move->wave = nc_waves_find(&waves, move, limits, out > 0 ? out : limits->node_out, in > 0 ? in : limits->node_in);
  }
  g_array_set_size(plan->waves, waves.sizes->len);
  g_hash_table_unref(waves.counts);
  g_hash_table_unref(waves.first);
  g_array_unref(waves.sizes);
}

/* --- times --- */

/* Moves by wave, within one as they were. */
static int
nc_evacuation_by_wave(const void *a, const void *b)
{
  const NcPlannedMove *x = a, *y = b;
  return x->wave < y->wave ? -1 : x->wave > y->wave;
}

/* A plan that is being made. */
typedef struct {
  NcFleet *fleet;
  const NcEvacuationTerms *terms;
  NcEvacuation *plan;
} NcPlanning;

static double
nc_evacuation_disk_bytes(const NcMachine *m)
{
  double bytes = 0;

  for (unsigned i = 0; i < m->disk_count; i++)
    bytes += (double)m->disks[i].bytes;
  return bytes;
}

static void
nc_evacuation_forecast(const NcPlanning *p, NcPlannedMove *move, const NcFlow *flow, int64_t rtt_us, NcPlannedWave *wave)
{
  const NcMachine *m = nc_fleet_machine(p->fleet, move->machine);
  bool is_known = nc_flow_rate_bps(flow) != NC_BUDGET_UNLIMITED;
  double wire_bps = is_known ? (double)MAX(nc_flow_rate_bps(flow), 1) : NC_MOVE_MOST_CONTENT_BPS;
  NcGuest guest = m->guest;
  NcMoveForecast forecast;

  guest.max_downtime_s = p->terms->max_downtime_s > 0 ? p->terms->max_downtime_s : guest.max_downtime_s;
  guest.may_postcopy = guest.may_postcopy && !p->terms->excludes_postcopy;
  nc_move_forecast(&guest, wire_bps, rtt_us, &forecast);
  if (!forecast.converges) {
    move->seconds = -1;
    return;
  }
  nc_move_forecast_disks(&forecast, nc_evacuation_disk_bytes(m), wire_bps);
  p->plan->is_at_least = p->plan->is_at_least || !is_known;
  move->seconds = forecast.seconds;
  move->pause_s = forecast.pause_s;
  move->wire_bytes = forecast.wire_bytes;
  move->postcopy = forecast.postcopy;
  wave->moves++;
  wave->seconds = MAX(wave->seconds, forecast.seconds);
  wave->pause_s = MAX(wave->pause_s, forecast.pause_s);
  wave->memory_bytes += (double)m->need.memory_bytes;
  wave->wire_bytes += forecast.wire_bytes;
}

static void
nc_evacuation_time_wave(const NcPlanning *p, NcTraffic *traffic, NcPlannedMove *moves, guint count, NcPlannedWave *wave)
{
  g_autofree NcFlow **flows = g_new(NcFlow *, count);
  g_autofree int64_t *rtts = g_new(int64_t, count);

  for (guint i = 0; i < count; i++)
    flows[i] = nc_traffic_add(traffic, moves[i].from, moves[i].to, p->terms->qos, p->terms->limit_bps, &rtts[i]);
  nc_budget_divide(nc_traffic_budget(traffic));
  for (guint i = 0; i < count; i++)
    nc_evacuation_forecast(p, &moves[i], flows[i], rtts[i], wave);
  for (guint i = 0; i < count; i++)
    nc_budget_remove(flows[i]);
}

/* What would not come to its end is no move. */
static void
nc_evacuation_drop_endless(const NcFleet *fleet, NcEvacuation *plan)
{
  guint kept = 0;

  for (guint i = 0; i < plan->moves->len; i++) {
    NcPlannedMove move = g_array_index(plan->moves, NcPlannedMove, i);
    if (move.seconds >= 0)
      g_array_index(plan->moves, NcPlannedMove, kept++) = move;
    else
      nc_evacuation_add_stuck(
          plan, move.machine,
          g_strdup_printf("%s would not come to its end: it dirties %.1f MB/s, which is more than can be sent; allow post-copy",
                          nc_fleet_machine(fleet, move.machine)->name, nc_fleet_machine(fleet, move.machine)->guest.dirty_bps / 1e6));
  }
  g_array_set_size(plan->moves, kept);
}

static void
nc_evacuation_time(const NcPlanning *p)
{
  NcEvacuation *plan = p->plan;
  g_autoptr(NcTraffic) traffic = nc_traffic_new(p->fleet, p->terms->reserve_percent);

  g_array_sort(plan->moves, nc_evacuation_by_wave); /* which is stable */
  for (guint first = 0, end; first < plan->moves->len; first = end) {
    unsigned wave = g_array_index(plan->moves, NcPlannedMove, first).wave;
    for (end = first; end < plan->moves->len && g_array_index(plan->moves, NcPlannedMove, end).wave == wave; end++)
      ;
    NcPlannedWave *w = &g_array_index(plan->waves, NcPlannedWave, wave);
    nc_evacuation_time_wave(p, traffic, &g_array_index(plan->moves, NcPlannedMove, first), end - first, w);
    plan->seconds += w->seconds;
  }
  nc_evacuation_drop_endless(p->fleet, plan);
}

/* --- all of it --- */

NcEvacuation *
nc_evacuation_plan(NcFleet *fleet, const NcEvacuationTerms *terms, const uint32_t *nodes, size_t node_count)
{
  NcEvacuation *plan = g_new0(NcEvacuation, 1);
  const NcPlanning planning = { fleet, terms, plan };
  g_autofree bool *was_cordoned = g_new0(bool, MAX(node_count, 1));

  plan->nodes = g_memdup2(nodes, node_count * sizeof nodes[0]);
  plan->node_count = node_count;
  plan->moves = g_array_new(FALSE, FALSE, sizeof(NcPlannedMove));
  plan->stuck = g_array_new(FALSE, FALSE, sizeof(NcStuckMachine));
  plan->waves = g_array_new(FALSE, TRUE, sizeof(NcPlannedWave));
  g_array_set_clear_func(plan->stuck, nc_stuck_clear);
  for (size_t i = 0; i < node_count; i++) {
    was_cordoned[i] = nc_fleet_node(fleet, nodes[i])->is_cordoned;
    nc_fleet_set_cordoned(fleet, nodes[i], true);
  }
  nc_evacuation_find_places(fleet, plan);
  for (size_t i = node_count; i-- > 0;) /* backwards: a node may be named twice */
    nc_fleet_set_cordoned(fleet, nodes[i], was_cordoned[i]);
  nc_evacuation_make_waves(fleet, terms->limits, plan);
  nc_evacuation_time(&planning);
  return plan;
}

size_t
nc_evacuation_begin(const NcEvacuation *plan, NcQueue *q, NcQos qos, uint64_t group, int64_t now_us)
{
  NcFleet *fleet = nc_queue_fleet(q);
  size_t submitted = 0;

  for (size_t i = 0; i < plan->node_count; i++)
    nc_fleet_set_cordoned(fleet, plan->nodes[i], true);
  for (guint i = 0; i < plan->moves->len; i++) {
    const NcPlannedMove *move = &g_array_index(plan->moves, NcPlannedMove, i);
    NcRequest request = { .machine = move->machine,
                          .destination = move->to,
                          .is_wish = true,
                          .reserve = true,
                          .priority = nc_fleet_machine(fleet, move->machine)->priority,
                          .qos = qos,
                          .group = group };
    if (nc_fleet_machine(fleet, move->machine)->node != move->from || nc_queue_item_of(q, move->machine))
      continue;
    if (nc_queue_submit(q, &request, now_us, NULL) == 0) { /* things have changed since the plan */
      request.destination = NC_FLEET_NONE;
      request.reserve = false;
      if (nc_queue_submit(q, &request, now_us, NULL) == 0)
        continue;
    }
    submitted++;
  }
  return submitted;
}
