/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scenarios: complaints about bad ones, what good ones come to, and for random ones what holds at every instant.
 */
#include "fleet/json_place.h"
#include "fleet/simulator.h"
#include "base/msg.h"
#include "support.h"

#include <string.h>

static NcScenario *
parse(const char *text, GError **error)
{
  return nc_scenario_parse("f.json", text, strlen(text), error);
}

/* --- files --- */

static void
test_lines(void)
{
  static const char text[] = "{\n \"a\": [1,\n  {\"b\\\"\": 2, \"c\":\n   \"}]\"},\n [] ],\n \"d\": {\"e\": true}\n}";
  static const struct {
    const char *path;
    unsigned line;
  } cases[] = { { "", 1 }, { "a", 2 }, { "a[0]", 2 }, { "a[1]", 3 }, { "a[1].c", 4 }, { "a[2]", 5 }, { "a[3]", 2 }, { "d.e", 6 }, { "d.nothing", 6 } };

  for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++)
    g_assert_cmpuint(nc_json_line_of(text, strlen(text), cases[i].path), ==, cases[i].line);
  for (size_t length = 0; length < strlen(text); length++) /* also of what is no JSON it reads no byte too much */
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
      g_autofree char *cut = g_memdup2(text, MAX(length, 1));
      g_assert_cmpuint(nc_json_line_of(cut, length, cases[i].path), >=, 1);
    }
}

#define NODE_A "{\"name\":\"a\",\"memory_mib\":1024}"

static void
test_bad_scenarios(void)
{
  static const struct {
    const char *text, *complaint;
  } cases[] = {
    { "", "f.json:1: not JSON" },
    { "[]", "f.json:1: the file: must be an object" },
    { "{\n\"nodes\": [\n{\"name\":\"a\" \"memory_mib\":1}]}", "f.json:3: not JSON" },
    { "{\n\"nodes\": 7}", "f.json:2: nodes: must be a list" },
    { "{\n\"nodse\": []}", "f.json:2: nodse: there is no such key" },
    { "{\"nodes\": [\n" NODE_A ",\n{\"name\":\"b\"}]}", "f.json:3: nodes[1]: \"memory_mib\" is missing" },
    { "{\"nodes\": [\n{\"name\":\"b\",\n\"memory_mib\":-1}]}", "f.json:3: nodes[0].memory_mib: must be a number from 1 to" },
    { "{\"nodes\": [\n{\"name\":\"b\",\n\"memory_mib\":\"1G\"}]}", "f.json:3: nodes[0].memory_mib: must be a number" },
    { "{\"nodes\": [{\"name\":\"b\",\"memory_mib\":1e300}]}", "nodes[0].memory_mib: must be a number" },
    { "{\"nodes\": [{\"name\":\"b\",\"memory_mib\":1,\"count\":1.5}]}", "nodes[0].count: must be a whole number" },
    { "{\"nodes\": [" NODE_A "," NODE_A "]}", "nodes[1].name: there are nodes \"a\" already" },
    { "{\"nodes\": [{\"name\":\"a/b\",\"memory_mib\":1}]}", "nodes[0]: \"a/b\" can't be a node" },
    { "{\"nodes\": [{\"name\":\"a\",\"memory_mib\":1,\"link\":\"x\"}]}", "nodes[0].link: there is no link \"x\"" },
    { "{\"nodes\": [{\"name\":\"a\",\"memory_mib\":1,\"labels\":[1]}]}", "nodes[0].labels[0]: must be a string" },
    { "{\"nodes\": [{\"name\":\"a\",\"memory_mib\":1,\"cordoned\":1}]}", "nodes[0].cordoned: must be true or false" },
    { "{\"links\": [{\"name\":\"a\",\"rate_mbit\":1,\"uplink\":\"a\"}]}", "links[0].uplink: there is no link \"a\" before this" },
    { "{\"links\": [{\"rate_mbit\":1}]}", "links[0]: \"name\" is missing" },
    { "{\"nodes\":[" NODE_A "],\"machines\":[{\"name\":\"m\",\"node\":\"b\",\"memory_mib\":1}]}", "machines[0].node: there is no node \"b\"" },
    { "{\"nodes\":[" NODE_A "],\"machines\":[{\"name\":\"m\",\"node\":\"a\",\"memory_mib\":2048}]}", "machines[0]: machine \"m\" does not fit" },
    { "{\"nodes\":[" NODE_A "],\"machines\":[{\"name\":\"m\",\"node\":\"a\",\"memory_mib\":1,\"priority\":\"urgent\"}]}", "machines[0].priority" },
    { "{\"nodes\":[" NODE_A "],\"machines\":[{\"name\":\"m\",\"node\":\"a\",\"memory_mib\":1,\"algorithm\":\"warp\"}]}", "machines[0].algorithm" },
    { "{\"tasks\":[{}]}", "tasks[0]: must be an object with one of" },
    { "{\"tasks\":[{\"evacuate\":[\"a\"]}]}", "tasks[0].evacuate[0]: there is no node" },
    { "{\"tasks\":[{\"evacuate\":[]}]}", "tasks[0].evacuate: names no node" },
    { "{\"tasks\":[{\"evacuate\":7}]}", "tasks[0].evacuate: must be a list" },
    { "{\"tasks\":[{\"migrate\":\"m\"}]}", "tasks[0].migrate: there is no machine \"m\"" },
    { "{\"tasks\":[{\"batch\":7}]}", "tasks[0].batch: must be an object" },
    { "{\"tasks\":[{\"batch\":{\"policy\":\"some\",\"items\":[]}}]}", "tasks[0].batch.policy: must be \"all\" or \"any\"" },
    { "{\"tasks\":[{\"batch\":{\"policy\":\"all\"}}]}", "tasks[0].batch: has no \"items\"" },
    { "{\"tasks\":[{\"batch\":{\"policy\":\"all\",\"items\":[{\"machine\":\"x\"}]}}]}", "tasks[0].batch.items[0].machine: there is no machine" },
    { "{\"limits\":{\"cluster\":0}}", "limits.cluster: must be a whole number from 1" },
    { "{\"limits\":[]}", "limits: must be an object" },
    { "{\"seed\":-1}", "seed: must be a whole number" },
  };

  for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_null(parse(cases[i].text, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
    if (!strstr(error->message, cases[i].complaint))
      g_error("%s\nis answered by: %s", cases[i].text, error->message);
  }
}

/* --- small scenarios --- */

static json_t *
run(const char *text)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcScenario) scenario = parse(text, &error);

  g_assert_no_error(error);
  g_autoptr(NcSimulator) s = nc_simulator_new(scenario);
  while (nc_simulator_step(s))
    ;
  check_fleet(scenario->fleet);
  return nc_simulator_report(s);
}

static double
number(json_t *object, const char *key)
{
  json_t *value = json_object_get(object, key);

  g_assert_true(json_is_number(value));
  return json_number_value(value);
}

/* 1000 MiB of content at 2 times 8 MB/s: 65.5 s and what preparing and ending take. */
static void
test_time_of_one(void)
{
  nc_autojson json_t *r = run("{\"bandwidth_reserve_percent\":0,\"nodes\":[{\"name\":\"n\",\"count\":2,\"memory_mib\":4096,\"rate_mbit\":64}],"
                              "\"machines\":[{\"name\":\"m\",\"node\":\"n-1\",\"memory_mib\":1000,\"content\":1,\"dirty_mb_s\":0}],"
                              "\"tasks\":[{\"migrate\":\"m\"}]}");

  g_assert_cmpfloat_with_epsilon(number(r, "seconds"), 65.536 + 0.5 + 0.02 + 0.3, 0.01);
  g_assert_cmpfloat_with_epsilon(number(r, "wire_bytes"), 524288000, 10);
  g_assert_cmpfloat(number(json_object_get(r, "migrations"), "completed"), ==, 1);
}

/* Two over one link take twice as long; over links of their own they do not. */
static double
time_of_two(const char *second_link)
{
  g_autofree char *text = g_strdup_printf(
      "{\"bandwidth_reserve_percent\":0,\"links\":[{\"name\":\"x\",\"rate_mbit\":64},{\"name\":\"y\",\"rate_mbit\":64}],"
      "\"nodes\":[{\"name\":\"a\",\"memory_mib\":4096,\"link\":\"x\"},{\"name\":\"b\",\"memory_mib\":4096,\"link\":\"%s\"},"
      "{\"name\":\"c\",\"count\":2,\"memory_mib\":4096}],\"machines\":["
      "{\"name\":\"m\",\"node\":\"a\",\"memory_mib\":1000,\"content\":1,\"dirty_mb_s\":0},"
      "{\"name\":\"o\",\"node\":\"b\",\"memory_mib\":1000,\"content\":1,\"dirty_mb_s\":0}],"
      "\"tasks\":[{\"migrate\":\"m\",\"to\":\"c-1\"},{\"migrate\":\"o\",\"to\":\"c-2\"}]}",
      second_link);
  nc_autojson json_t *r = run(text);
  return number(r, "seconds");
}

static void
test_a_link_is_shared(void)
{
  g_assert_cmpfloat_with_epsilon(time_of_two("x"), 2 * 65.536, 2);
  g_assert_cmpfloat_with_epsilon(time_of_two("y"), 65.536, 2);
}

/* A guest that writes faster than can be sent: post-copy, or a failure that says so. */
static void
test_writers(void)
{
  for (int i = 0; i < 2; i++) {
    g_autofree char *text = g_strdup_printf(
        "{\"nodes\":[{\"name\":\"n\",\"count\":2,\"memory_mib\":4096,\"rate_mbit\":64}],\"machines\":[{\"name\":\"m\",\"node\":\"n-1\","
        "\"memory_mib\":1000,\"dirty_mb_s\":500,\"working_set_mib\":600,\"algorithm\":\"%s\"}],\"tasks\":[{\"migrate\":\"m\"}]}",
        i == 0 ? "auto" : "pre-copy");
    nc_autojson json_t *r = run(text);
    g_assert_cmpfloat(number(r, "postcopy"), ==, i == 0);
    g_assert_cmpfloat(number(json_object_get(r, "migrations"), "failed"), ==, i);
    if (i == 1)
      g_assert_nonnull(strstr(json_string_value(json_object_get(json_array_get(json_object_get(r, "not_moved"), 0), "reason")),
                              "do not come to an end"));
  }
}

/* Every attempt fails: so many of them, and the machine is where it was. */
static void
test_certain_failure(void)
{
  nc_autojson json_t *r = run("{\"failure_probability\":1,\"limits\":{\"attempts\":4},\"nodes\":[{\"name\":\"n\",\"count\":3,\"memory_mib\":4096}],"
                              "\"machines\":[{\"name\":\"m\",\"node\":\"n-1\",\"memory_mib\":1000}],\"tasks\":[{\"evacuate\":[\"n-1\"]}]}");

  g_assert_cmpfloat(number(r, "failed_attempts"), ==, 4);
  g_assert_cmpfloat(number(json_object_get(r, "migrations"), "failed"), ==, 1);
}

static void
test_batch_of_all(void)
{
  nc_autojson json_t *r = run("{\"nodes\":[{\"name\":\"a\",\"memory_mib\":4096},{\"name\":\"b\",\"memory_mib\":1024}],\"machines\":["
                              "{\"name\":\"m\",\"count\":2,\"node\":\"a\",\"memory_mib\":1000}],"
                              "\"tasks\":[{\"batch\":{\"policy\":\"all\",\"items\":[{\"machine\":\"m-1\"},{\"machine\":\"m-2\"}]}}]}");

  g_assert_cmpfloat(number(json_object_get(r, "migrations"), "submitted"), ==, 0);
  g_assert_cmpuint(json_array_size(json_object_get(r, "not_moved")), ==, 2);
}

/* Disks take room: what a node has none for stays, and is told why. */
static void
test_disks_take_room(void)
{
  nc_autojson json_t *r = run("{\"nodes\":[{\"name\":\"a\",\"memory_mib\":4096},{\"name\":\"b\",\"memory_mib\":4096,\"disk_mib\":5000}],\"machines\":["
                              "{\"name\":\"m\",\"count\":2,\"node\":\"a\",\"memory_mib\":1000,\"disk_mib\":3000},"
                              "{\"name\":\"none\",\"node\":\"a\",\"memory_mib\":1000}],\"tasks\":[{\"evacuate\":[\"a\"]}]}");
  json_t *stuck = json_object_get(json_array_get(json_object_get(r, "evacuations"), 0), "cannot_move");

  g_assert_cmpfloat(number(json_object_get(r, "migrations"), "completed"), ==, 2);
  g_assert_cmpuint(json_array_size(stuck), ==, 1);
  g_assert_nonnull(strstr(json_string_value(json_object_get(json_array_get(stuck, 0), "reason")),
                          "1 lacks disk (b: 3000 MiB of disk needed, 2000 free)"));
}

static void
test_example(void)
{
  g_autofree char *path = g_build_filename(g_getenv("G_TEST_SRCDIR"), "docs", "rack-scenario.json", NULL), *text = NULL;

  g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
  nc_autojson json_t *r = run(text);
  json_t *evacuation = json_array_get(json_object_get(r, "evacuations"), 0), *stuck = json_object_get(evacuation, "cannot_move");
  g_assert_cmpuint(json_array_size(stuck), ==, 1);
  g_assert_cmpstr(json_string_value(json_object_get(json_array_get(stuck, 0), "machine")), ==, "giant");
  g_assert_cmpfloat(number(evacuation, "completed"), ==, 140);
}

/* --- any scenario --- */

static NcScenario *
any_scenario(void)
{
  NcScenario *s = g_new0(NcScenario, 1);

  s->fleet = any_fleet(16, 150);
  s->limits = (NcQueueLimits)NC_QUEUE_LIMITS_DEFAULT;
  s->limits.cluster = (unsigned)g_test_rand_int_range(1, 12);
  s->limits.node_in = (unsigned)g_test_rand_int_range(1, 4);
  s->limits.node_out = (unsigned)g_test_rand_int_range(1, 4);
  s->reserve_percent = (unsigned)g_test_rand_int_range(0, 50);
  s->seed = (uint64_t)g_test_rand_int();
  s->failure_probability = g_test_rand_double_range(0, 0.3);
  s->tasks = g_array_new(FALSE, TRUE, sizeof(NcTask));
  for (unsigned i = 0; i < 6; i++) {
    NcTask task = { .at_s = 20 * i, .kind = (NcTaskKind)g_test_rand_int_range(0, 3), .qos = (NcQos)g_test_rand_int_range(0, NC_QOS_COUNT) };
    task.policy = g_test_rand_bit() ? NC_BATCH_ALL : NC_BATCH_ANY;
    task.nodes = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    task.requests = g_array_new(FALSE, FALSE, sizeof(NcRequest));
    for (unsigned k = 0; k < (task.kind == NC_TASK_BATCH ? 5 : 1); k++) {
      uint32_t node = (uint32_t)g_test_rand_int_range(0, 16);
      NcRequest request = { .machine = (uint32_t)g_test_rand_int_range(0, (gint32)nc_fleet_machine_count(s->fleet)),
                            .destination = g_test_rand_bit() ? NC_FLEET_NONE : (uint32_t)g_test_rand_int_range(0, 16),
                            .priority = (NcPriority)g_test_rand_int_range(0, NC_PRIORITY_COUNT),
                            .qos = task.qos,
                            .limit_bps = g_test_rand_bit() ? 0 : 5000000 };
      g_array_append_val(task.nodes, node);
      g_array_append_val(task.requests, request);
    }
    g_array_append_val(s->tasks, task);
  }
  return s;
}

static void
any_scenario_free(NcScenario *s)
{
  for (guint i = 0; i < s->tasks->len; i++) {
    g_array_unref(g_array_index(s->tasks, NcTask, i).nodes);
    g_array_unref(g_array_index(s->tasks, NcTask, i).requests);
  }
  nc_scenario_free(s);
}

/* Rates and pauses on each link, and rates on each card, at this instant. */
static void
check_budget(NcScenario *scenario, NcSimulator *s)
{
  NcTraffic *traffic = nc_simulator_traffic(s);
  const NcBudget *budget = nc_traffic_budget(traffic);

  for (uint32_t i = 0; i < nc_fleet_link_count(scenario->fleet); i++)
    for (int down = 0; down < 2; down++) {
      uint64_t usable_bps = nc_bandwidth_usable(nc_fleet_link(scenario->fleet, i)->rate_bps, scenario->reserve_percent);
      g_assert_cmpuint(nc_budget_used_bps(budget, nc_traffic_link_resource(traffic, i, down)), <=, usable_bps);
      g_assert_cmpuint(nc_simulator_pauses_over(s, i, down), <=, 1);
    }
  for (uint32_t i = 0; i < nc_fleet_node_count(scenario->fleet); i++)
    for (int in = 0; in < 2; in++) {
      uint64_t usable_bps = nc_bandwidth_usable(nc_fleet_node(scenario->fleet, i)->rate_bps, scenario->reserve_percent);
      g_assert_cmpuint(nc_budget_used_bps(budget, nc_traffic_node_resource(traffic, i, in)), <=, usable_bps);
    }
}

static void
check_limits(NcScenario *scenario, NcSimulator *s)
{
  const NcQueue *q = nc_simulator_queue(s);

  g_assert_cmpuint(nc_queue_running(q), <=, scenario->limits.cluster);
  for (uint32_t i = 0; i < nc_fleet_node_count(scenario->fleet); i++) {
    g_assert_cmpuint(nc_queue_incoming(q, i), <=, scenario->limits.node_in);
    g_assert_cmpuint(nc_queue_outgoing(q, i), <=, scenario->limits.node_out);
  }
}

static void
test_anything(void)
{
  unsigned completed = 0, failed = 0, pauses = 0;

  for (unsigned round = 0; round < 60; round++) {
    NcScenario *scenario = any_scenario();
    NcSimulator *s = nc_simulator_new(scenario);
    unsigned steps = 0;
    while (nc_simulator_step(s)) {
      check_budget(scenario, s);
      check_limits(scenario, s);
      check_fleet(scenario->fleet);
      for (uint32_t i = 0; i < nc_fleet_link_count(scenario->fleet); i++)
        pauses += nc_simulator_pauses_over(s, i, false);
      g_assert_cmpuint(++steps, <, 100000); /* it comes to its end */
    }
    g_assert_cmpuint(nc_queue_length(nc_simulator_queue(s)), ==, 0); /* all was decided */
    g_assert_cmpuint(nc_queue_running(nc_simulator_queue(s)), ==, 0);
    nc_autojson json_t *r = nc_simulator_report(s);
    json_t *m = json_object_get(r, "migrations");
    completed += (unsigned)number(m, "completed");
    failed += (unsigned)number(r, "failed_attempts");
    nc_simulator_free(s);
    any_scenario_free(scenario);
  }
  g_assert_cmpuint(completed, >, 100);
  g_assert_cmpuint(failed, >, 10);
  g_assert_cmpuint(pauses, >, 10);
}

/* What is to leave a node that is down does not wait for ever, and is not lost from the report. */
static void
test_node_that_is_down(void)
{
  nc_autojson json_t *r = run("{\"nodes\":[{\"name\":\"n\",\"memory_mib\":4096,\"down\":true},{\"name\":\"o\",\"count\":2,\"memory_mib\":4096}],"
                              "\"machines\":[{\"name\":\"m\",\"node\":\"n\",\"memory_mib\":1000},"
                              "{\"name\":\"k\",\"node\":\"o-1\",\"memory_mib\":1000}],"
                              "\"tasks\":[{\"migrate\":\"m\"},{\"migrate\":\"k\"}]}");
  json_t *migrations = json_object_get(r, "migrations"), *left = json_array_get(json_object_get(r, "not_moved"), 0);

  g_assert_cmpfloat(number(migrations, "completed"), ==, 1);
  g_assert_cmpfloat(number(migrations, "cancelled"), ==, 1);
  g_assert_cmpstr(json_string_value(json_object_get(left, "machine")), ==, "m");
  g_assert_cmpstr(json_string_value(json_object_get(left, "reason")), ==, "its node is down");
}

/* The same file and seed give the same report to the byte; another seed gives another one. */
static char *
example_with_seed(int seed)
{
  g_autofree char *path = g_build_filename(g_getenv("G_TEST_SRCDIR"), "docs", "rack-scenario.json", NULL), *text = NULL;
  g_autofree char *replacement = g_strdup_printf("\"seed\": %d", seed);

  g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
  g_auto(GStrv) parts = g_strsplit(text, "\"seed\": 1", 2);
  g_autofree char *seeded = g_strjoinv(replacement, parts);
  nc_autojson json_t *r = run(seeded);
  json_object_del(r, "seed");
  return json_dumps(r, JSON_SORT_KEYS);
}

static void
test_same_seed_same_report(void)
{
  g_autofree char *one = example_with_seed(5), *again = example_with_seed(5), *other = example_with_seed(6);

  g_assert_cmpstr(one, ==, again);
  g_assert_cmpstr(one, !=, other);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/scenario/lines", test_lines);
  g_test_add_func("/scenario/bad", test_bad_scenarios);
  g_test_add_func("/simulator/time_of_one", test_time_of_one);
  g_test_add_func("/simulator/a_link_is_shared", test_a_link_is_shared);
  g_test_add_func("/simulator/writers", test_writers);
  g_test_add_func("/simulator/certain_failure", test_certain_failure);
  g_test_add_func("/simulator/batch_of_all", test_batch_of_all);
  g_test_add_func("/simulator/disks_take_room", test_disks_take_room);
  g_test_add_func("/simulator/example", test_example);
  g_test_add_func("/simulator/node_that_is_down", test_node_that_is_down);
  g_test_add_func("/simulator/anything", test_anything);
  g_test_add_func("/simulator/same_seed_same_report", test_same_seed_same_report);
  return g_test_run();
}
