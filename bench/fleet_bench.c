/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What decisions about a fleet cost, by its size: 1 000 to 10 000 nodes with 20 machines each.
 *
 * Per size, in a process of its own: building the inventory; single scheduling decisions, with a queue of 5 000, 200 migrations
 * at a time and one of them ending before each decision; the same where 99 of 100 nodes are full, some of memory and some of
 * processors, and half of the machines need a label (the worst for a search); the plan for evacuating 100 nodes; simulating that evacuation, with 1 % of attempts failing. Then how each grows
 * from the smallest to the largest fleet: the exponent of a power of the size.
 *
 * Exit status 1 if a target is missed. Timings are wall time of this process; nothing else should run.
 */
#include "fleet/evacuation.h"
#include "fleet/random.h"
#include "fleet/simulator.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define GIB ((uint64_t)1 << 30)
#define MACHINES_PER_NODE 20u
#define NODES_PER_RACK 20u
#define QUEUED 5000u
#define EVACUATED 100u

typedef struct {
  double build_s, decision_mean_us, decision_most_us, tight_mean_us, tight_most_us, plan_s, simulation_s, simulated_s;
  unsigned moves, stuck;
  double memory_mib;
} Result;

static double
now_s(void)
{
  return (double)g_get_monotonic_time() / 1e6;
}

/* --- a fleet --- */

static void
add_nodes(NcFleet *f, unsigned nodes, NcRandom *random)
{
  static const char *const labels[][4] = { { NULL }, { "ssd" }, { "ssd", "gpu" }, { "amd" } };
  uint32_t core = NC_FLEET_NONE, rack = NC_FLEET_NONE;

  for (unsigned i = 0; i < nodes; i++) {
    g_autofree char *name = g_strdup_printf("node-%u", i), *rack_name = g_strdup_printf("rack-%u", i / NODES_PER_RACK);
    if (i == 0)
      core = nc_fleet_add_link(f, &(NcLinkSpec){ "core", 125000000000, 100, NC_FLEET_NONE }, NULL);
    if (i % NODES_PER_RACK == 0)
      rack = nc_fleet_add_link(f, &(NcLinkSpec){ rack_name, 12500000000, 100, core }, NULL);
    NcNodeSpec spec = { .name = name,
                        .capacity = { (192 + 64 * (nc_random_next(random) % 3)) * GIB, 4000 * GIB, 128 },
                        .rate_bps = 3125000000,
                        .link = rack,
                        .labels = labels[nc_random_next(random) % G_N_ELEMENTS(labels)] };
    nc_fleet_add_node(f, &spec, NULL);
  }
}

static void
add_machines(NcFleet *f, unsigned nodes, bool is_tight, NcRandom *random)
{
  static const char *const ssd[] = { "ssd", NULL };

  for (unsigned i = 0; i < nodes * MACHINES_PER_NODE; i++) {
    g_autofree char *name = g_strdup_printf("machine-%u", i);
    uint64_t memory_gib = 2 + nc_random_next(random) % 8;
    NcMachineSpec spec = { .name = name,
                           .node = i / MACHINES_PER_NODE,
                           .need = { memory_gib * GIB, nc_random_next(random) % 100 * GIB, 1 + nc_random_next(random) % 4 },
                           .requires = is_tight && i % 2 == 0 ? ssd : NULL,
                           .priority = (NcPriority)(nc_random_next(random) % NC_PRIORITY_COUNT) };
    spec.guest = (NcGuest){ .content_bytes = 0.7 * (double)spec.need.memory_bytes,
                            .dirty_bps = 1e6 * (double)(nc_random_next(random) % 50),
                            .working_set_bytes = 0.1 * (double)spec.need.memory_bytes,
                            .ratio = 2,
                            .max_downtime_s = 0.3,
                            .may_postcopy = true };
    nc_fleet_add_machine(f, &spec, NULL);
  }
}

/* All nodes but one in a hundred are full, some of memory, some of processors. */
static void
fill(NcFleet *f, NcRandom *random)
{
  for (uint32_t i = 0; i < nc_fleet_node_count(f); i++) {
    g_autofree char *name = g_strdup_printf("filler-%u", i);
    NcRoom room = nc_fleet_free_room(f, i);
    NcMachineSpec spec = { .name = name, .node = i, .priority = NC_PRIORITY_LOW };
    spec.need = nc_random_next(random) % 2 == 0 ? (NcRoom){ room.memory_bytes - nc_random_next(random) % 3 * GIB, 0, 0 } : (NcRoom){ 0, 0, room.cpus };
    if (nc_random_next(random) % 100 > 0)
      nc_fleet_add_machine(f, &spec, NULL);
  }
}

static NcFleet *
build(unsigned nodes, bool is_tight)
{
  NcRandom random = { nodes };
  NcFleet *f = nc_fleet_new();

  add_nodes(f, nodes, &random);
  add_machines(f, nodes, is_tight, &random);
  if (is_tight)
    fill(f, &random);
  return f;
}

/* --- decisions --- */

typedef struct {
  GQueue running; /* ids */
} Running;

static void
hear(const NcItem *item, void *user_data)
{
  if (item->state == NC_ITEM_RUNNING)
    g_queue_push_tail(&((Running *)user_data)->running, GSIZE_TO_POINTER(item->id));
}

static void
measure_decisions(NcFleet *f, double *ret_mean_us, double *ret_most_us)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  Running running = { G_QUEUE_INIT };
  NcRandom random = { 1 };
  unsigned decisions = 0;
  double sum = 0, most = 0;

  limits.cluster = 200;
  g_autoptr(NcQueue) q = nc_queue_new(f, &limits, hear, &running);
  for (unsigned i = 0; i < QUEUED; i++) {
    NcRequest request = { .machine = (uint32_t)(nc_random_next(&random) % nc_fleet_machine_count(f)),
                          .destination = NC_FLEET_NONE,
                          .priority = (NcPriority)(nc_random_next(&random) % NC_PRIORITY_COUNT) };
    nc_queue_submit(q, &request, i, NULL);
  }
  nc_queue_schedule(q, QUEUED);
  while (!g_queue_is_empty(&running.running)) {
    uint64_t id = GPOINTER_TO_SIZE(g_queue_pop_head(&running.running));
    double began = now_s();
    nc_queue_ended(q, id, NC_END_COMPLETED, NULL, QUEUED);
    unsigned started = nc_queue_schedule(q, QUEUED);
    double took = now_s() - began;
    if (started > 0) {
      decisions += started;
      sum += took;
      most = MAX(most, took);
    }
  }
  *ret_mean_us = 1e6 * sum / MAX(decisions, 1);
  *ret_most_us = 1e6 * most;
}

/* --- evacuations --- */

static void
measure_evacuation(NcFleet *f, Result *ret)
{
  NcScenario scenario = { .fleet = f, .limits = NC_QUEUE_LIMITS_DEFAULT, .reserve_percent = 10, .seed = 1, .failure_probability = 0.01 };
  NcTask task = { .kind = NC_TASK_EVACUATE, .qos = NC_QOS_NORMAL, .nodes = g_array_new(FALSE, FALSE, sizeof(uint32_t)) };

  scenario.limits.cluster = 100;
  scenario.tasks = g_array_new(FALSE, FALSE, sizeof(NcTask));
  for (uint32_t i = 0; i < EVACUATED; i++)
    g_array_append_val(task.nodes, i);
  g_array_append_val(scenario.tasks, task);
  double began = now_s();
  g_autoptr(NcEvacuation) plan = nc_evacuation_plan(f, &(NcEvacuationTerms){ .limits = &scenario.limits, .reserve_percent = 10, .qos = NC_QOS_NORMAL }, (const uint32_t *)(void *)task.nodes->data, EVACUATED);
  ret->plan_s = now_s() - began;
  ret->moves = plan->moves->len;
  ret->stuck = plan->stuck->len;
  began = now_s();
  g_autoptr(NcSimulator) simulator = nc_simulator_new(&scenario);
  while (nc_simulator_step(simulator))
    ;
  ret->simulation_s = now_s() - began;
  ret->simulated_s = (double)nc_simulator_now_us(simulator) / 1e6;
  g_array_unref(task.nodes);
  g_array_unref(scenario.tasks);
}

static void
measure(unsigned nodes, Result *ret)
{
  struct rusage usage;
  double began = now_s();
  g_autoptr(NcFleet) f = build(nodes, false);

  ret->build_s = now_s() - began;
  measure_evacuation(f, ret);
  measure_decisions(f, &ret->decision_mean_us, &ret->decision_most_us);
  getrusage(RUSAGE_SELF, &usage);
  ret->memory_mib = (double)usage.ru_maxrss / 1024;
  g_autoptr(NcFleet) tight = build(nodes, true);
  measure_decisions(tight, &ret->tight_mean_us, &ret->tight_most_us);
}

/* --- the table --- */

/* In a process of its own, so that each has its own memory. */
static bool
measure_apart(unsigned nodes, Result *ret)
{
  int fds[2], status = 1;

  if (pipe(fds) != 0)
    return false;
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    Result result = { 0 };
    measure(nodes, &result);
    _exit(write(fds[1], &result, sizeof result) == (ssize_t)sizeof result ? 0 : 1);
  }
  close(fds[1]);
  bool ok = pid > 0 && read(fds[0], ret, sizeof *ret) == (ssize_t)sizeof *ret;
  close(fds[0]);
  return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 && ok;
}

static bool
say(const char *what, double value, const char *unit, double target)
{
  printf("%-52s %10.3f %-4s target < %g: %s\n", what, value, unit, target, value < target ? "kept" : "MISSED");
  return value < target;
}

static double
exponent(double small, double large, double factor)
{
  return log(MAX(large, 1e-9) / MAX(small, 1e-9)) / log(factor);
}

int
main(void)
{
  static const unsigned sizes[] = { 1000, 2500, 5000, 10000 };
  Result results[G_N_ELEMENTS(sizes)] = { 0 };

  printf("%6s %8s %7s %18s %18s %15s %15s %8s\n", "nodes", "machines", "build", "decision mean/most", "almost full", "plan (moves)",
         "simulate", "memory");
  for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
    Result *r = &results[i];
    if (!measure_apart(sizes[i], r)) {
      fprintf(stderr, "fleet_bench: the measurement with %u nodes died\n", sizes[i]);
      return 1;
    }
    printf("%6u %8u %5.2f s %7.1f /%6.0f us %7.1f /%6.0f us %5.3f s (%5u) %6.2f s (%4.0f) %4.0f MiB\n", sizes[i], sizes[i] * MACHINES_PER_NODE,
           r->build_s, r->decision_mean_us, r->decision_most_us, r->tight_mean_us, r->tight_most_us, r->plan_s, r->moves, r->simulation_s,
           r->simulated_s, r->memory_mib);
  }
  const Result *small = &results[0], *large = &results[G_N_ELEMENTS(sizes) - 1];
  double factor = (double)sizes[G_N_ELEMENTS(sizes) - 1] / sizes[0];
  printf("\nGrowth with the number of nodes, as the exponent of a power (1: linear, 2: quadratic), 1 000 to 10 000:\n"
         "  build %.2f, a decision %.2f, a decision when almost full %.2f, the plan of 100 nodes %.2f, its simulation %.2f, memory %.2f\n\n",
         exponent(small->build_s, large->build_s, factor), exponent(small->decision_mean_us, large->decision_mean_us, factor),
         exponent(small->tight_mean_us, large->tight_mean_us, factor), exponent(small->plan_s, large->plan_s, factor),
         exponent(small->simulation_s, large->simulation_s, factor), exponent(small->memory_mib, large->memory_mib, factor));
  bool kept = say("the slowest decision, 10 000 nodes, 200 000 machines", MAX(large->decision_most_us, large->tight_most_us) / 1000, "ms", 10);
  kept &= say("plan for evacuating 100 of 10 000 nodes", large->plan_s, "s", 5);
  kept &= say("a decision's cost grows with exponent", exponent(small->decision_mean_us, large->decision_mean_us, factor), "", 1);
  kept &= say("the inventory's cost grows with exponent", exponent(small->build_s, large->build_s, factor), "", 1.5);
  return kept ? 0 : 1;
}
