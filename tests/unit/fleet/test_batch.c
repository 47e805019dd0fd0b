/* SPDX-License-Identifier: Apache-2.0 */
/* Batches and evacuations: what is promised before anything moves, and what comes of it. */
#include "fleet/batch.h"
#include "fleet/evacuation.h"
#include "fleet/forecast_move.h"
#include "support.h"

#include <math.h>
#include <string.h>

static const NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;

static void
free_reasons(NcBatchResult *results, size_t count)
{
  for (size_t i = 0; i < count; i++)
    g_free(results[i].reason);
}

static NcRequest
move_of(uint32_t machine)
{
  return (NcRequest){ .machine = machine, .destination = NC_FLEET_NONE, .priority = NC_PRIORITY_NORMAL, .qos = NC_QOS_NORMAL };
}

/* a holds three machines, b has room for two of them. */
static void
three_for_two(NcFleet *f)
{
  uint32_t a = add_node(f, "a", 32), b = add_node(f, "b", 9);

  add_machine(f, "one", a, 4);
  add_machine(f, "two", a, 4);
  add_machine(f, "three", a, 4);
  g_assert_cmpuint(b, ==, 1);
}

static void
test_all_starts_nothing_if_one_does_not_fit(void)
{
  g_autoptr(NcFleet) f = nc_fleet_new();
  three_for_two(f);
  g_autoptr(NcQueue) q = nc_queue_new(f, &limits, NULL, NULL);
  const NcRequest requests[] = { move_of(0), move_of(1), move_of(2) };
  NcBatchResult results[3];

  g_assert_cmpuint(nc_batch_submit(q, NC_BATCH_ALL, 1, requests, 3, 0, results), ==, 0);
  g_assert_null(results[0].reason);
  g_assert_nonnull(strstr(results[2].reason, "1 lacks memory"));
  g_assert_cmpuint(nc_queue_length(q), ==, 0);
  g_assert_cmpuint(nc_queue_schedule(q, 0), ==, 0);
  g_assert_cmpuint(nc_fleet_free_room(f, 1).memory_bytes, ==, 9 * GIB);
  free_reasons(results, 3);
  check_fleet(f);
  /* Two of them do. */
  g_assert_cmpuint(nc_batch_submit(q, NC_BATCH_ALL, 2, requests, 2, 0, results), ==, 2);
  g_assert_cmpuint(nc_fleet_free_room(f, 1).memory_bytes, ==, GIB); /* both are sure of it */
  g_assert_cmpuint(nc_queue_schedule(q, 0), ==, 2);
}

static void
test_any_starts_what_fits(void)
{
  g_autoptr(NcFleet) f = nc_fleet_new();
  three_for_two(f);
  g_autoptr(NcQueue) q = nc_queue_new(f, &limits, NULL, NULL);
  const NcRequest requests[] = { move_of(0), move_of(0), move_of(1), move_of(2) };
  NcBatchResult results[4];

  g_assert_cmpuint(nc_batch_submit(q, NC_BATCH_ANY, 1, requests, 4, 0, results), ==, 3);
  g_assert_nonnull(strstr(results[1].reason, "has a migration already"));
  g_assert_cmpuint(nc_queue_schedule(q, 0), ==, 2);
  free_reasons(results, 4);
}

static void
test_all_names_a_machine_twice(void)
{
  g_autoptr(NcFleet) f = nc_fleet_new();
  three_for_two(f);
  g_autoptr(NcQueue) q = nc_queue_new(f, &limits, NULL, NULL);
  const NcRequest requests[] = { move_of(0), move_of(0) };
  NcBatchResult results[2];

  g_assert_cmpuint(nc_batch_submit(q, NC_BATCH_ALL, 1, requests, 2, 0, results), ==, 0);
  g_assert_true(results[0].reason || results[1].reason);
  free_reasons(results, 2);
  check_fleet(f);
}

/* One fails for good: what has not begun is called off. */
static void
test_all_is_called_off(void)
{
  g_autoptr(NcFleet) f = nc_fleet_new();
  NcQueueLimits one = limits;
  one.cluster = 1;
  three_for_two(f);
  g_autoptr(NcQueue) q = nc_queue_new(f, &one, NULL, NULL);
  const NcRequest requests[] = { move_of(0), move_of(1) };
  NcBatchResult results[2];

  g_assert_cmpuint(nc_batch_submit(q, NC_BATCH_ALL, 1, requests, 2, 0, results), ==, 2);
  g_assert_cmpuint(nc_queue_schedule(q, 0), ==, 1);
  nc_queue_ended(q, results[0].id, NC_END_FINAL, "broken", 1);
  g_assert_cmpuint(nc_queue_length(q), ==, 0);
  g_assert_cmpuint(nc_queue_schedule(q, 2), ==, 0);
  g_assert_cmpuint(nc_fleet_free_room(f, 1).memory_bytes, ==, 9 * GIB);
}

/* What can't move is said by the plan; making it changes nothing. */
static void
test_plan_says_what_can_not_move(void)
{
  g_autoptr(NcFleet) f = nc_fleet_new();
  uint32_t a = add_node(f, "a", 64), b = add_node(f, "b", 16);
  const uint32_t nodes[] = { a };

  add_machine(f, "large", a, 20);
  add_machine(f, "small", a, 8);
  add_machine(f, "same-as-large", a, 20);
  g_autoptr(NcEvacuation) plan = nc_evacuation_plan(f, &(NcEvacuationTerms){ .limits = &limits, .qos = NC_QOS_NORMAL }, nodes, 1);
  g_assert_cmpuint(plan->moves->len, ==, 1);
  g_assert_cmpuint(g_array_index(plan->moves, NcPlannedMove, 0).to, ==, b);
  g_assert_cmpuint(plan->stuck->len, ==, 2);
  for (guint i = 0; i < 2; i++) {
    const NcStuckMachine *stuck = &g_array_index(plan->stuck, NcStuckMachine, i);
    g_assert_true(g_str_has_prefix(stuck->reason, i == 0 ? "no node can take large:" : "no node can take same-as-large:"));
    g_assert_nonnull(strstr(stuck->reason, "1 lacks memory (it needs 20480 MiB, the most free is 16384 MiB)"));
  }
  g_assert_false(nc_fleet_node(f, a)->is_cordoned);
  check_fleet(f);
}

/* A guest that dirties faster than can be sent, and may not go in post-copy. */
static void
test_plan_says_what_would_not_end(void)
{
  g_autoptr(NcFleet) f = nc_fleet_new();
  uint32_t a = add_node(f, "a", 64);
  const uint32_t nodes[] = { a };
  NcMachineSpec spec = { .name = "writer", .node = a, .need = { 8 * GIB, 0, 1 }, .guest = guest_of(8) };

  add_node(f, "b", 64);
  spec.guest.dirty_bps = 1e9;
  spec.guest.may_postcopy = false;
  nc_fleet_add_machine(f, &spec, NULL);
  g_autoptr(NcEvacuation) plan = nc_evacuation_plan(f, &(NcEvacuationTerms){ .limits = &limits, .qos = NC_QOS_NORMAL }, nodes, 1);
  g_assert_cmpuint(plan->moves->len, ==, 0);
  g_assert_nonnull(strstr(g_array_index(plan->stuck, NcStuckMachine, 0).reason, "would not come to its end"));
}

/* What is asked of the migrations counts, not only what machines say of themselves. */
static void
test_plan_heeds_what_is_asked(void)
{
  g_autoptr(NcFleet) f = nc_fleet_new();
  uint32_t a = add_node(f, "a", 64);
  NcMachineSpec spec = { .name = "writer", .node = a, .need = { 8 * GIB, 0, 1 }, .guest = guest_of(8) };
  const NcEvacuationTerms any = { .limits = &limits, .qos = NC_QOS_NORMAL };
  NcEvacuationTerms precopy = any, patient = any;

  add_node(f, "b", 64);
  spec.guest.dirty_bps = 1e9;
  spec.guest.may_postcopy = true;
  nc_fleet_add_machine(f, &spec, NULL);
  precopy.excludes_postcopy = patient.excludes_postcopy = true;
  patient.max_downtime_s = 3600;
  g_autoptr(NcEvacuation) first = nc_evacuation_plan(f, &any, &a, 1), second = nc_evacuation_plan(f, &precopy, &a, 1), third = nc_evacuation_plan(f, &patient, &a, 1);
  g_assert_true(first->moves->len == 1 && g_array_index(first->moves, NcPlannedMove, 0).postcopy);
  g_assert_cmpuint(second->moves->len, ==, 0);
  g_assert_true(third->moves->len == 1 && !g_array_index(third->moves, NcPlannedMove, 0).postcopy);
}

static void
check_waves(const NcFleet *f, const NcEvacuation *plan)
{
  g_autofree unsigned *counts = g_new0(unsigned, 2 * nc_fleet_node_count(f));
  unsigned wave = 0, size = 0;
  double seconds = 0;

  for (guint i = 0; i < plan->moves->len; i++) {
    const NcPlannedMove *move = &g_array_index(plan->moves, NcPlannedMove, i);
    g_assert_cmpuint(move->wave, >=, wave);
    if (move->wave > wave) {
      memset(counts, 0, 2 * nc_fleet_node_count(f) * sizeof *counts);
      size = 0;
    }
    wave = move->wave;
    g_assert_cmpuint(++size, <=, limits.cluster);
    g_assert_cmpuint(++counts[2 * move->from], <=, limits.node_out);
    g_assert_cmpuint(++counts[2 * move->to + 1], <=, limits.node_in);
    g_assert_cmpfloat(move->seconds, <=, g_array_index(plan->waves, NcPlannedWave, wave).seconds);
  }
  for (guint i = 0; i < plan->waves->len; i++)
    seconds += g_array_index(plan->waves, NcPlannedWave, i).seconds;
  g_assert_cmpfloat_with_epsilon(seconds, plan->seconds, 1e-6 * seconds + 1e-9);
}

/* For any fleet: each machine of these nodes is in the plan once, waves keep the limits, and what was planned can be begun as planned. */
static void
test_any_evacuation(void)
{
  for (unsigned round = 0; round < 60; round++) {
    g_autoptr(NcFleet) f = any_fleet(30, 200);
    uint32_t nodes[3];
    unsigned expected = 0;
    for (unsigned i = 0; i < 3; i++) {
      nodes[i] = i * 10 + (uint32_t)g_test_rand_int_range(0, 10);
      expected += nc_fleet_node(f, nodes[i])->machine_count;
    }
    g_autoptr(NcEvacuation) plan = nc_evacuation_plan(f, &(NcEvacuationTerms){ .limits = &limits, .reserve_percent = 10, .qos = NC_QOS_NORMAL }, nodes, 3);
    g_assert_cmpuint(plan->moves->len + plan->stuck->len, ==, expected);
    check_fleet(f);
    check_waves(f, plan);
    g_autoptr(NcQueue) q = nc_queue_new(f, &limits, NULL, NULL);
    g_assert_cmpuint(nc_evacuation_begin(plan, q, NC_QOS_NORMAL, 1, 0), ==, plan->moves->len);
    for (guint i = 0; i < plan->moves->len; i++) {
      const NcPlannedMove *move = &g_array_index(plan->moves, NcPlannedMove, i);
      g_assert_cmpuint(nc_fleet_machine(f, move->machine)->reserved, ==, move->to);
    }
    check_fleet(f);
    nc_queue_cancel_group(q, 1, "enough");
    check_fleet(f);
  }
}

/* To cancel and to begin again is to go on. */
static void
test_resumed(void)
{
  g_autoptr(NcFleet) f = nc_fleet_new();
  uint32_t a = add_node(f, "a", 64);
  const uint32_t nodes[] = { a };

  add_node(f, "b", 64);
  for (unsigned i = 0; i < 6; i++) {
    g_autofree char *name = g_strdup_printf("m%u", i);
    add_machine(f, name, a, 4);
  }
  g_autoptr(NcQueue) q = nc_queue_new(f, &limits, NULL, NULL);
  g_autoptr(NcEvacuation) plan = nc_evacuation_plan(f, &(NcEvacuationTerms){ .limits = &limits, .qos = NC_QOS_NORMAL }, nodes, 1);
  g_autoptr(NcEvacuation) slower = nc_evacuation_plan(f, &(NcEvacuationTerms){ .limits = &limits, .qos = NC_QOS_NORMAL, .limit_bps = 50000000 }, nodes, 1);
  g_assert_cmpfloat(slower->seconds, >, 1.2 * plan->seconds);
  g_assert_cmpuint(nc_evacuation_begin(plan, q, NC_QOS_NORMAL, 1, 0), ==, 6);
  g_assert_true(nc_fleet_node(f, a)->is_cordoned);
  g_assert_cmpuint(nc_queue_schedule(q, 0), ==, 2);
  g_assert_cmpuint(nc_queue_cancel_group(q, 1, "stopped"), ==, 4);
  for (uint64_t id = 1; id <= 6; id++)
    if (nc_queue_item(q, id))
      nc_queue_ended(q, id, NC_END_COMPLETED, NULL, 1);
  g_autoptr(NcEvacuation) rest = nc_evacuation_plan(f, &(NcEvacuationTerms){ .limits = &limits, .qos = NC_QOS_NORMAL }, nodes, 1);
  g_assert_cmpuint(rest->moves->len, ==, 4);
  g_assert_cmpuint(nc_evacuation_begin(rest, q, NC_QOS_NORMAL, 2, 2), ==, 4);
}

/* 1000 MB at 100 MB/s, and 20 MB fit into the pause: 9.8 s; then what is dirtied in that time, and so on; then what fits. */
static void
test_forecast_of_a_move(void)
{
  const NcGuest guest = { .content_bytes = 1000e6, .dirty_bps = 10e6, .working_set_bytes = 400e6, .ratio = 2, .max_downtime_s = 0.22 };
  const NcGuest writer = { .content_bytes = 1000e6, .dirty_bps = 200e6, .working_set_bytes = 900e6, .ratio = 2, .max_downtime_s = 0.22 };
  double seconds = 0, round_s = 9.8;
  NcMoveForecast forecast;

  for (int i = 0; i < 10; i++) { /* after that a round takes less than a nanosecond */
    seconds += round_s;
    round_s = 400e6 * (1 - exp(-10e6 * round_s / 400e6)) / 100e6;
  }
  nc_move_forecast(&guest, 50e6, 0, &forecast);
  g_assert_true(forecast.converges && !forecast.postcopy);
  g_assert_cmpfloat_with_epsilon(forecast.seconds, seconds + 0.2 + NC_MOVE_PREPARE_S + NC_MOVE_PAUSE_S + NC_MOVE_END_S, 0.001);
  g_assert_cmpfloat_with_epsilon(forecast.pause_s, 0.22, 1e-6);
  nc_move_forecast_disks(&forecast, 500e6, 50e6);
  g_assert_cmpfloat_with_epsilon(forecast.seconds, 10 + seconds + 0.2 + NC_MOVE_PREPARE_S + NC_MOVE_PAUSE_S + NC_MOVE_END_S, 0.001);
  nc_move_forecast(&writer, 50e6, 0, &forecast);
  g_assert_false(forecast.converges);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/batch/all_starts_nothing_if_one_does_not_fit", test_all_starts_nothing_if_one_does_not_fit);
  g_test_add_func("/batch/any_starts_what_fits", test_any_starts_what_fits);
  g_test_add_func("/batch/all_names_a_machine_twice", test_all_names_a_machine_twice);
  g_test_add_func("/batch/all_is_called_off", test_all_is_called_off);
  g_test_add_func("/evacuation/plan_says_what_can_not_move", test_plan_says_what_can_not_move);
  g_test_add_func("/evacuation/plan_says_what_would_not_end", test_plan_says_what_would_not_end);
  g_test_add_func("/evacuation/plan_heeds_what_is_asked", test_plan_heeds_what_is_asked);
  g_test_add_func("/evacuation/any", test_any_evacuation);
  g_test_add_func("/evacuation/resumed", test_resumed);
  g_test_add_func("/evacuation/forecast_of_a_move", test_forecast_of_a_move);
  return g_test_run();
}
