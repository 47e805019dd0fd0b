/* SPDX-License-Identifier: Apache-2.0 */
/* What agents say, and what it means that they say nothing. */
#include "world.h"
#include "controller/controller_internal.h"

#include <math.h>
#include <string.h>

static World *
plain_world(void)
{
  World *w = world_new((uint32_t)g_test_rand_int());

  world_lead(w);
  world_add_node(w, "a", 32);
  world_add_node(w, "b", 32);
  world_add_node(w, "c", 32);
  world_turn(w, 0, 1);
  world_add_machine(w, "web1", "a", 2, NC_PRIORITY_NORMAL);
  world_add_machine(w, "web2", "a", 2, NC_PRIORITY_NORMAL);
  world_add_machine(w, "db1", "b", 2, NC_PRIORITY_NORMAL);
  world_turn(w, 0, 1);
  return w;
}

static char *
migrate(World *w, const char *body)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *asked = json_of(body);
  nc_autojson json_t *answer = nc_controller_migrate(w->controller, &somebody, asked, &error);
  g_assert_no_error(error);
  return g_strdup(json_string_value(json_object_get(answer, "id")));
}

static void
assert_state(World *w, const char *id, const char *state)
{
  g_autofree char *now = db_text(w->bed.db, id, "state");
  g_assert_cmpstr(now, ==, state);
}

static unsigned
count_events(World *w, const char *kind, const char *subject)
{
  unsigned count = 0;

  for (uint64_t after = 0;;) {
    nc_autojson json_t *events = nc_fleetdb_list_events(w->bed.db, after, NULL, NC_PAGE_MOST, NULL);
    size_t i;
    json_t *event;
    if (json_array_size(events) == 0)
      return count;
    json_array_foreach(events, i, event)
    {
      after = (uint64_t)json_integer_value(json_object_get(event, "id"));
      count += g_strcmp0(json_string_value(json_object_get(event, "kind")), kind) == 0 &&
               g_strcmp0(json_string_value(json_object_get(event, "subject")), subject) == 0;
    }
  }
}

/* The text ${key} of what describe() says of it as long as it has not ended. Caller frees. */
static char *
live_text(World *w, const char *id, const char *key)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *row = nc_controller_describe(w->controller, id, &error);
  g_assert_no_error(error);
  return g_strdup(json_string_value(json_object_get(json_object_get(row, "live"), key)));
}

/* --- attempts --- */

static void
what_may_pass_is_tried_again(void)
{
  World *w = plain_world();

  w->fails = 1;
  w->least_run_us = w->most_run_us = 10 * SECOND;
  g_autofree char *id = migrate(w, "{'machine': 'web1', 'retry_attempts': 2}");
  world_turn(w, SECOND, 13);
  g_autofree char *waits = live_text(w, id, "waits");
  assert_state(w, id, "backoff");
  g_assert_nonnull(strstr(waits, "next attempt"));
  int64_t not_before_us = db_number(w->bed.db, id, "not_before_us");
  g_assert_cmpint(not_before_us, >, w->now_us);
  world_turn(w, SECOND, 120);
  assert_state(w, id, "failed");
  g_autofree char *reason = db_text(w->bed.db, id, "reason");
  g_assert_cmpstr(reason, ==, "the link was cut");
  g_assert_cmpint(db_number(w->bed.db, id, "attempts"), ==, 3);
  g_assert_cmpuint(w->order->len, ==, 3);
  const Attempt *first = w->order->pdata[0], *second = w->order->pdata[1];
  g_assert_cmpstr(first->destination, !=,
                  second->destination); /* the node where it failed is not the best one any more */
  world_free(w);
}

static void
late_and_strange_reports_change_nothing(void)
{
  g_autoptr(GError) error = NULL;
  World *w = plain_world();
  NcController *c = w->controller;
  static const char *const names[] = { "",      ".",          "x",       "mig-1.",
                                       ".1",    "mig-1.0",    "mig-1.x", "mig-1.99999999999999999999",
                                       "a b.1", "../../etc.1" };

  w->fails = 1;
  g_autofree char *id = migrate(w, "{'machine': 'web1'}");
  g_autofree char *one = g_strdup_printf("%s.1", id), *two = g_strdup_printf("%s.2", id),
                  *long_name = g_strnfill(5000, 'x');
  while (w->order->len < 2)
    world_turn(w, SECOND, 1);
  world_turn(w, SECOND, 1);
  assert_state(w, id, "running");
  assert_fails(world_report(w, c, "a", one, NC_REPORT_COMPLETED, &error), error, NC_ERROR_CONFLICT);
  assert_fails(world_report(w, c, "b", two, NC_REPORT_COMPLETED, &error), error, NC_ERROR_FORBIDDEN);
  assert_fails(world_report(w, c, "a", two, NC_REPORT_COUNT, &error), error, NC_ERROR_INVALID);
  assert_fails(world_report(w, c, "a", long_name, NC_REPORT_COMPLETED, &error), error, NC_ERROR_INVALID);
  for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
    g_assert_false(world_report(w, c, "a", names[i], NC_REPORT_COMPLETED, &error));
    g_clear_error(&error);
  }
  assert_state(w, id, "running");
  g_assert_cmpint(db_number(w->bed.db, id, "attempts"), ==, 2);
  world_free(w);
}

/* The agent has forgotten what it had begun: that machine may be anywhere, and nothing is begun again. */
static void
a_forgotten_attempt_is_not_begun_again(void)
{
  g_autoptr(GError) error = NULL;
  World *w = plain_world();
  g_autofree char *id = migrate(w, "{'machine': 'web1'}"), *name = g_strdup_printf("%s.1", id);

  w->least_run_us = w->most_run_us = 3600 * SECOND;
  world_turn(w, SECOND, 2);
  assert_state(w, id, "running");
  unsigned sent = w->starts_sent;
  for (int i = 0; i < 3; i++)
    assert_works(world_report(w, w->controller, "a", name, NC_REPORT_UNKNOWN, &error), error);
  world_kill(w);
  world_lead(w);
  for (int i = 0; i < 3; i++)
    assert_works(world_report(w, w->controller, "a", name, NC_REPORT_UNKNOWN, &error), error);
  g_autofree char *silence = live_text(w, id, "silence");
  g_assert_nonnull(strstr(silence, "does not know it any more"));
  g_assert_cmpuint(count_events(w, "migration.lost", id), ==, 2); /* each leader says so once */
  g_assert_cmpuint(w->starts_sent, ==, sent);
  assert_state(w, id, "running");
  world_free(w);
}

static void
text_of_agents_is_bounded(void)
{
  g_autoptr(GError) error = NULL;
  World *w = plain_world();
  g_autofree char *id = migrate(w, "{'machine': 'web1'}"), *name = g_strdup_printf("%s.1", id),
                  *much = g_strnfill(100000, 'x');

  w->least_run_us = w->most_run_us = 3600 * SECOND;
  world_turn(w, SECOND, 2);
  for (unsigned i = 0; i < 100; i++) {
    g_autofree char *phase = g_strdup_printf("phase-%u", i);
    const NcAttemptReport report = { .node = "a",
                                     .name = name,
                                     .state = NC_REPORT_RUNNING,
                                     .phase = i % 2 ? phase : much,
                                     .percent = i % 3 ? 1e300 : NAN };
    assert_works(nc_controller_report(w->controller, &report, &error), error);
  }
  g_assert_cmpuint(count_events(w, "migration.phase", id), <=, 32);
  const NcAttemptReport end = {
    .node = "a", .name = name, .state = NC_REPORT_FAILED, .reason = "\xff\xfe bad", .may_pass = false
  };
  assert_works(nc_controller_report(w->controller, &end, &error), error);
  assert_state(w, id, "failed");
  world_free(w);
}

/* --- bandwidth --- */

static void
report_endgame(World *w, const char *id, bool wants)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *name = g_strdup_printf("%s.1", id);
  const NcAttemptReport report = { .node = "a", .name = name, .state = NC_REPORT_RUNNING, .wants_endgame = wants };
  assert_works(nc_controller_report(w->controller, &report, &error), error);
}

/* What watchers are told: numbers as its agent tells them, and what else it says is left out; with the attempt they are gone. */
static void
samples_are_kept_while_it_is_under_way(void)
{
  g_autoptr(GError) error = NULL;
  World *w = plain_world();
  nc_autojson json_t *body = json_of("{'migrations': [{'machine': 'web1', 'destination': 'b'}, {'machine': 'web2', 'destination': 'c'}]}");
  nc_autojson json_t *batch = nc_controller_batch(w->controller, &somebody, body, &error);
  g_assert_no_error(error);
  json_t *items = json_object_get(batch, "items");
  const char *id = json_string_value(json_object_get(json_array_get(items, 0), "migration"));
  g_autofree char *name = g_strdup_printf("%s.1", id);
  nc_autojson json_t *told = json_of("{'transfer_rate': 1000, 'eta_ms': -5, 'wire_bytes': 'x', 'rounds': 2, 'other': 7}");
  const NcAttemptReport report = {
    .node = "a", .name = name, .state = NC_REPORT_RUNNING, .phase = "memory_copy", .percent = 40, .progress = told
  };

  w->least_run_us = w->most_run_us = 3600 * SECOND;
  world_turn(w, 0, 3);
  assert_works(nc_controller_report(w->controller, &report, &error), error);
  nc_autojson json_t *events = nc_fleetdb_list_events(w->bed.db, 0, id, NC_PAGE_MOST, &error);
  json_t *phase = json_array_get(events, json_array_size(events) - 1);
  g_assert_cmpstr(json_string_value(json_object_get(phase, "kind")), ==, "migration.phase");
  g_assert_cmpstr(json_string_value(json_object_get(json_object_get(phase, "detail"), "node")), ==, "a"); /* where its record is */
  nc_autojson json_t *row = nc_controller_describe(w->controller, id, &error);
  json_t *sample = json_object_get(json_object_get(row, "live"), "sample");
  g_assert_cmpint(json_integer_value(json_object_get(sample, "transfer_rate")), ==, 1000);
  g_assert_true(json_is_null(json_object_get(sample, "eta_ms")));
  g_assert_true(json_is_null(json_object_get(sample, "wire_bytes")));
  g_assert_null(json_object_get(sample, "other"));
  nc_autojson json_t *parts =
      nc_controller_describe_group(w->controller, json_string_value(json_object_get(batch, "id")), &error);
  g_assert_no_error(error);
  g_assert_cmpuint(json_array_size(parts), ==, 2);
  json_t *part = json_array_get(parts, 0);
  g_assert_cmpstr(json_string_value(json_object_get(part, "migration")), ==, id);
  g_assert_cmpstr(json_string_value(json_object_get(part, "source")), ==, "a");
  g_assert_cmpfloat(json_number_value(json_object_get(json_object_get(part, "live"), "percent")), ==, 40);
  nc_autojson json_t *others = nc_controller_describe_group(w->controller, "eva-0", &error);
  g_assert_cmpuint(json_array_size(others), ==, 0);

  const NcAttemptReport end = { .node = "a", .name = name, .state = NC_REPORT_COMPLETED };
  assert_works(nc_controller_report(w->controller, &end, &error), error);
  nc_autojson json_t *left =
      nc_controller_describe_group(w->controller, json_string_value(json_object_get(batch, "id")), &error);
  g_assert_cmpuint(json_array_size(left), ==, 1);
  world_free(w);
}

static void
endgames_come_one_by_one(void)
{
  g_autoptr(GError) error = NULL;
  World *w = plain_world();
  g_autofree char *one = migrate(w, "{'machine': 'web1', 'destination': 'b'}"),
                  *two = migrate(w, "{'machine': 'web2', 'destination': 'c'}");
  g_autofree char *name_one = g_strdup_printf("%s.1", one), *name_two = g_strdup_printf("%s.1", two);

  w->least_run_us = w->most_run_us = 3600 * SECOND;
  world_turn(w, 0, 3);
  const Attempt *a = world_attempt(w, name_one), *b = world_attempt(w, name_two);
  g_assert_cmpuint(a->rate_bps, ==, 62500000); /* node a's card, divided */
  g_assert_cmpuint(b->rate_bps, ==, 62500000);
  report_endgame(w, one, true);
  report_endgame(w, two, true);
  assert_works(nc_controller_step(w->controller, &error), error);
  g_autofree char *endgame = live_text(w, two, "endgame");
  g_assert_cmpstr(endgame, ==, "waiting");
  report_endgame(w, one, true);
  g_autofree char *has = live_text(w, one, "endgame");
  g_assert_cmpstr(has, ==, "has");
  assert_works(world_report(w, w->controller, "a", name_one, NC_REPORT_COMPLETED, &error), error);
  assert_works(nc_controller_step(w->controller, &error), error);
  g_autofree char *next = live_text(w, two, "endgame");
  g_assert_cmpstr(next, ==, "has");
  nc_autojson json_t *row = nc_controller_describe(w->controller, two, &error);
  g_assert_cmpint(json_integer_value(json_object_get(json_object_get(row, "live"), "rate_bps")), ==, 125000000);
  world_free(w);
}

/* --- silence --- */

static void
a_silent_source_is_waited_for(gconstpointer data)
{
  const bool hears_it = GPOINTER_TO_INT(data); /* before it falls silent: the order to begin */
  World *w = plain_world();
  g_autofree char *id = migrate(w, "{'machine': 'web1', 'destination': 'b'}");

  if (hears_it) {
    world_turn(w, SECOND, 2);
    assert_state(w, id, "running");
  } else {
    world_turn(w, SECOND, 1);
  }
  world_kill_agent(w, "a", 7 * 24 * 3600 * SECOND);
  world_turn(w, 10 * SECOND, 10);
  g_autofree char *other = migrate(w, "{'machine': 'web2'}");
  world_turn(w, 3600 * SECOND, 24); /* a day */
  g_autofree char *silence = live_text(w, id, "silence"), *waits = live_text(w, other, "waits");
  g_assert_nonnull(strstr(silence, "source, is silent"));
  g_assert_nonnull(strstr(waits, "silent"));
  g_assert_cmpuint(count_events(w, "node.silent", "a"), ==, 1);
  g_assert_cmpuint(count_events(w, "migration.silent", id), ==, 1);
  assert_state(w, other, "queued");
  assert_state(w, id, hears_it ? "running" : "starting");
  g_hash_table_remove_all(w->dead);
  world_turn(w, SECOND, 60);
  g_assert_cmpuint(count_events(w, "node.heard", "a"), ==, 1);
  assert_state(w, id, "completed");
  assert_state(w, other, "completed");
  g_assert_cmpuint(w->order->len, ==, 2);
  world_free(w);
}

static void
nothing_goes_to_a_silent_node(void)
{
  g_autoptr(GError) error = NULL;
  World *w = plain_world();

  world_kill_agent(w, "b", 7 * 24 * 3600 * SECOND);
  world_turn(w, 10 * SECOND, 5);
  /* What is read anew is no reason to believe that it is back. */
  world_add_node(w, "a", 32);
  world_turn(w, SECOND, 1);
  g_autofree char *free_id = migrate(w, "{'machine': 'web1'}"),
                  *bound = migrate(w, "{'machine': 'web2', 'destination': 'b'}");
  world_turn(w, 10 * SECOND, 20);
  assert_state(w, free_id, "completed");
  g_assert_cmpstr(world_place(w, "web1"), ==, "c");
  assert_state(w, bound, "queued");
  world_turn(w, 600 * SECOND, 8); /* longer than the queue waits for room */
  assert_state(w, bound, "refused");
  g_autofree char *reason = db_text(w->bed.db, bound, "reason");
  g_assert_nonnull(strstr(reason, "down"));
  assert_works(nc_controller_step(w->controller, &error), error);
  world_free(w);
}

/* --- what is known of nodes need not fit --- */

static NcMachineRecord
machine_record(const char *name, const char *node, uint64_t epoch, uint64_t gib)
{
  const NcRoom need = { .memory_bytes = gib * GIB, .cpus = 1 };
  return (NcMachineRecord){
    .name = name, .node = node, .epoch = epoch, .state = "running", .need = need, .priority = NC_PRIORITY_NORMAL
  };
}

static void
nodes_with_more_than_they_have(void)
{
  g_autoptr(GError) error = NULL;
  World *w = plain_world();
  g_autofree char *id = migrate(w, "{'machine': 'web1', 'destination': 'b'}");

  world_turn(w, SECOND / 10, 2);
  world_add_node(w, "a", 1); /* it says now that it has less than its machines */
  world_add_node(w, "b", 1);
  const NcMachineRecord more = machine_record("more", "c", 1, 500), lost = machine_record("lost", "nowhere", 1, 1);
  assert_works(nc_controller_see_machines(w->controller, &more, 1, &error), error);
  world_turn(w, SECOND / 10, 1);
  assert_works(nc_controller_see_machines(w->controller, &lost, 1, &error), error);
  world_turn(w, SECOND, 40);
  assert_state(w, id, "completed");
  world_turn(w, SECOND, 1);
  g_autofree char *other = migrate(w, "{'machine': 'lost', 'destination': 'a'}");
  world_turn(w, SECOND, 5);
  assert_state(w, other, "queued");
  g_autofree char *waits = live_text(w, other, "waits");
  g_assert_nonnull(strstr(waits, "silent")); /* nobody speaks for the node that it is on */
  g_autofree char *third = migrate(w, "{'machine': 'db1', 'destination': 'a'}");
  world_turn(w, SECOND, 40);
  assert_state(w, third, "queued");
  world_free(w);
}

/* Somebody moved it by hand while its migration waited. */
static void
machines_that_are_elsewhere(void)
{
  g_autoptr(GError) error = NULL;
  World *w = plain_world();
  const NcMachineRecord moved = machine_record("web1", "c", 5, 2), old = machine_record("web1", "a", 4, 2);
  nc_autojson json_t *cordon = nc_controller_cordon(w->controller, &somebody, "b", true, &error);
  nc_autojson json_t *cordon2 = nc_controller_cordon(w->controller, &somebody, "c", true, &error);
  g_autofree char *id = migrate(w, "{'machine': 'web1'}"); /* waits */

  world_turn(w, SECOND, 1);
  assert_works(nc_controller_see_machines(w->controller, &moved, 1, &error), error);
  world_turn(w, 0, 1);
  assert_works(nc_controller_see_machines(w->controller, &old, 1, &error), error); /* old news */
  g_hash_table_insert(w->places, g_strdup("web1"), g_strdup("c"));
  nc_autojson json_t *open = nc_controller_cordon(w->controller, &somebody, "b", false, &error);
  world_turn(w, SECOND, 1);
  world_turn(w, SECOND, 40);
  assert_state(w, id, "completed");
  const Attempt *a = w->order->pdata[0];
  g_assert_cmpstr(a->source, ==, "c");
  /* While it is under way, by hand back to c: what was seen last counts. */
  const NcMachineRecord by_hand = machine_record("web1", "c", 9, 2);
  g_autofree char *second = migrate(w, "{'machine': 'web1'}");
  world_turn(w, SECOND, 1);
  world_turn(w, SECOND, 1);
  assert_works(nc_controller_see_machines(w->controller, &by_hand, 1, &error), error);
  world_turn(w, SECOND, 40);
  nc_autojson json_t *row = nc_fleetdb_get_machine(w->bed.db, "web1", &error);
  g_assert_cmpstr(json_string_value(json_object_get(row, "node")), ==, "c");
  g_autofree char *state = db_text(w->bed.db, second, "state");
  nc_autojson json_t *to_c = json_of("{'machine': 'web1', 'destination': 'c'}");
  assert_fails(nc_controller_migrate(w->controller, &somebody, to_c, &error), error,
               NC_ERROR_INVALID); /* the model knows it, too */
  g_assert_cmpstr(state, ==, "completed");
  /* It is gone: what waits for it ends. */
  nc_autojson json_t *again = nc_controller_cordon(w->controller, &somebody, "a", true, &error);
  g_autofree char *gone = migrate(w, "{'machine': 'db1'}");
  assert_works(nc_controller_forget_machine(w->controller, "db1", "a", &error), error); /* not from there */
  assert_state(w, gone, "queued");
  assert_works(nc_controller_forget_machine(w->controller, "db1", "b", &error), error);
  assert_state(w, gone, "cancelled");
  assert_works(nc_controller_step(w->controller, &error), error);
  world_free(w);
}

/* An agent's machine, as it says it. */
static bool
see_said(World *w, const char *node, const char *name, int epoch, const char *right)
{
  g_autoptr(GError) error = NULL;
  NcMachineRecord record;
  nc_autojson json_t *said = json_pack("{s:s, s:s, s:i, s:i, s:i, s:s}", "name", name, "state", "running", "memory_mib",
                                       2048, "vcpus", 1, "epoch", epoch, "right", right);
  assert_works(nc_controller_read_machine(node, said, &record, &error), error);
  g_assert_cmpuint(record.need.memory_bytes, ==, (uint64_t)2 << 30);
  assert_works(nc_controller_see_machines(w->controller, &record, 1, &error), error);
  return record.lacks_right;
}

static void
assert_seen_on(World *w, const char *name, const char *node)
{
  nc_autojson json_t *row = nc_fleetdb_get_machine(w->bed.db, name, NULL);
  g_assert_cmpstr(json_string_value(json_object_get(row, "node")), ==, node);
}

static void
only_who_holds_the_right_has_the_machine(void)
{
  static const char *const without[] = { "none", "incoming", "released", "refused", "HELD", "" };
  static const char *const bad[] = {
    "{}",
    "{'name': 'm', 'state': 'running', 'memory_mib': 1, 'vcpus': 1, 'epoch': 1}",
    "{'name': 'm', 'state': 'running', 'memory_mib': 1, 'vcpus': 1, 'epoch': -1, 'right': 'held'}",
    "{'name': 'm', 'state': 'running', 'memory_mib': 1, 'vcpus': 0, 'epoch': 1, 'right': 'held'}",
    "{'name': 'm', 'state': 'running', 'memory_mib': 9223372036854775807, 'vcpus': 1, 'epoch': 1, 'right': 'held'}",
    "{'name': '../m', 'state': 'running', 'memory_mib': 1, 'vcpus': 1, 'epoch': 1, 'right': 'held'}",
    "{'name': 'm', 'state': 'a state of more bytes than any has in fact', 'memory_mib': 1, 'vcpus': 1, 'epoch': 1, "
    "'right': 'held'}",
    "{'name': 'm', 'state': 'running', 'memory_mib': 1, 'vcpus': 1, 'epoch': 1, 'right': 'held', 'priority': 'urgent'}",
    "{'name': 'm', 'state': 'running', 'memory_mib': 1, 'vcpus': 1, 'epoch': 1, 'right': 'held', 'requires': 'ssd'}",
    "{'name': 'm', 'state': 'running', 'memory_mib': 1, 'vcpus': 1, 'epoch': 1, 'right': 'held', 'requires': ['ssd', 5]}",
    "{'name': 'm', 'state': 'running', 'memory_mib': 1, 'vcpus': 1, 'epoch': 1, 'right': 'held', 'requires': ['a b']}",
  };
  World *w = plain_world();
  NcMachineRecord record;

  for (size_t i = 0; i < G_N_ELEMENTS(without); i++) {
    g_assert_true(see_said(w, "c", "web1", 90, without[i]));
    assert_seen_on(w, "web1", "a");
  }
  g_assert_false(see_said(w, "c", "web1", 91, "held"));
  assert_seen_on(w, "web1", "c");
  g_assert_true(see_said(w, "a", "web1", 91, "released")); /* late word of who gave it away, of the same epoch */
  assert_seen_on(w, "web1", "c");
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    nc_autojson json_t *said = json_of(bad[i]);
    assert_fails(nc_controller_read_machine("a", said, &record, &error), error, NC_ERROR_PROTOCOL);
  }
  world_free(w);
}

/* What its agent says that it requires of a node, and when it is to go. */
static void
what_machines_want_is_heeded(void)
{
  g_autoptr(GError) error = NULL;
  World *w = plain_world();
  NcMachineRecord record;
  nc_autojson json_t *said = json_of("{'name': 'web1', 'state': 'running', 'memory_mib': 1024, 'vcpus': 1, 'epoch': 100, 'right': 'held', "
                                     "'priority': 'critical', 'requires': ['ssd']}");

  assert_works(nc_controller_read_machine("a", said, &record, &error), error);
  g_assert_cmpint(record.priority, ==, NC_PRIORITY_CRITICAL);
  assert_works(nc_controller_see_machines(w->controller, &record, 1, &error), error);
  nc_autojson json_t *row = nc_fleetdb_get_machine(w->bed.db, "web1", NULL);
  g_assert_cmpstr(json_string_value(json_object_get(row, "priority")), ==, "critical");
  nc_autojson json_t *body = json_of("{'nodes': ['a']}");
  nc_autojson json_t *plan = nc_controller_plan_evacuation(w->controller, body, &error);
  g_assert_no_error(error);
  json_t *stays = json_array_get(json_object_get(plan, "cannot_move"), 0);
  g_assert_cmpstr(json_string_value(json_object_get(stays, "machine")), ==, "web1");
  g_assert_nonnull(strstr(json_string_value(json_object_get(stays, "reason")), "2 lack a label"));
  world_free(w);
}

/* A clock is put right: time goes on, faster or slower, until it shows the same. */
static void
a_clock_that_is_set(void)
{
  const int64_t s = 1000000, hour = 3600 * s;

  g_assert_cmpint(nc_clock_follow(100 * s, 2 * s, 102 * s), ==, 102 * s);
  g_assert_cmpint(nc_clock_follow(100 * s, 2 * s, 102 * s + 10), ==, 102 * s + 10);
  g_assert_cmpint(nc_clock_follow(2 * hour, 2 * s, hour), ==, 2 * hour + s);
  g_assert_cmpint(nc_clock_follow(hour, 2 * s, 2 * hour), ==, hour + 3 * s);
  g_assert_cmpint(nc_clock_follow(hour, 0, 2 * hour), ==, hour);
  int64_t now = 2 * hour, wall = hour;
  for (; now != wall && wall < 5 * hour; wall += s)
    now = nc_clock_follow(now, s, wall + s);
  g_assert_cmpint(wall, <=, 3 * hour + s);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/controller/agents/a_clock_that_is_set", a_clock_that_is_set);
  g_test_add_func("/controller/agents/what_may_pass_is_tried_again", what_may_pass_is_tried_again);
  g_test_add_func("/controller/agents/late_and_strange_reports_change_nothing",
                  late_and_strange_reports_change_nothing);
  g_test_add_func("/controller/agents/a_forgotten_attempt_is_not_begun_again", a_forgotten_attempt_is_not_begun_again);
  g_test_add_func("/controller/agents/samples_are_kept_while_it_is_under_way", samples_are_kept_while_it_is_under_way);
  g_test_add_func("/controller/agents/text_of_agents_is_bounded", text_of_agents_is_bounded);
  g_test_add_func("/controller/agents/what_machines_want_is_heeded", what_machines_want_is_heeded);
  g_test_add_func("/controller/agents/endgames_come_one_by_one", endgames_come_one_by_one);
  g_test_add_data_func("/controller/agents/a_silent_source_is_waited_for", GINT_TO_POINTER(true),
                       a_silent_source_is_waited_for);
  g_test_add_data_func("/controller/agents/a_silent_source_that_heard_nothing", GINT_TO_POINTER(false),
                       a_silent_source_is_waited_for);
  g_test_add_func("/controller/agents/nothing_goes_to_a_silent_node", nothing_goes_to_a_silent_node);
  g_test_add_func("/controller/agents/nodes_with_more_than_they_have", nodes_with_more_than_they_have);
  g_test_add_func("/controller/agents/machines_that_are_elsewhere", machines_that_are_elsewhere);
  g_test_add_func("/controller/agents/only_who_holds_the_right_has_the_machine",
                  only_who_holds_the_right_has_the_machine);
  return g_test_run();
}
