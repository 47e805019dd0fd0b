/* SPDX-License-Identifier: Apache-2.0 */
/* What people ask: checked, recorded, answered once. */
#include "world.h"

#include <string.h>

#define SHA_A "aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00"
#define SHA_B "bb00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00"

/* Three nodes; a has web1 to web3, b has db1. */
static World *
small_world(void)
{
  World *w = world_new((uint32_t)g_test_rand_int());

  world_lead(w);
  world_add_node(w, "a", 16);
  world_add_node(w, "b", 16);
  world_add_node(w, "c", 8);
  world_turn(w, 0, 1);
  world_add_machine(w, "web1", "a", 2, NC_PRIORITY_NORMAL);
  world_add_machine(w, "web2", "a", 2, NC_PRIORITY_NORMAL);
  world_add_machine(w, "web3", "a", 6, NC_PRIORITY_NORMAL);
  world_add_machine(w, "db1", "b", 4, NC_PRIORITY_HIGH);
  world_turn(w, 0, 1);
  return w;
}

static json_int_t
count_in(World *w, const char *state)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *counts = nc_fleetdb_count_migrations(w->bed.db, NULL, NULL, &error);
  g_assert_no_error(error);
  return json_integer_value(json_object_get(counts, state));
}

/* The id of a migration of ${body}. Caller frees. */
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

static void
assert_reason_has(World *w, const char *id, const char *words)
{
  g_autofree char *reason = db_text(w->bed.db, id, "reason");
  g_assert_nonnull(strstr(reason, words));
}

/* --- one migration --- */

static void
from_request_to_completion(void)
{
  g_autoptr(GError) error = NULL;
  World *w = small_world();
  g_autofree char *id = migrate(
      w, "{'machine': 'web1', 'destination': 'b', 'priority': 'high', 'qos': 'critical', 'max_downtime_ms': 100,"
         " 'bandwidth_limit_bps': 1000000}");

  assert_state(w, id, "queued");
  world_turn(w, 0, 1);
  assert_state(w, id, "starting");
  world_turn(w, SECOND, 2);
  assert_state(w, id, "running");
  g_autofree char *name = g_strdup_printf("%s.1", id);
  g_assert_cmpuint(world_attempt(w, name)->rate_bps, ==, 1000000);
  nc_autojson json_t *row = nc_controller_describe(w->controller, id, &error);
  g_assert_cmpstr(json_string_value(json_object_get(json_object_get(row, "live"), "waits")), ==, "");
  g_assert_cmpint(json_integer_value(json_object_get(json_object_get(row, "live"), "rate_bps")), ==, 1000000);
  world_turn(w, SECOND, 40);
  assert_state(w, id, "completed");
  nc_autojson json_t *machine = nc_fleetdb_get_machine(w->bed.db, "web1", &error);
  g_assert_cmpstr(json_string_value(json_object_get(machine, "node")), ==, "b");
  nc_autojson json_t *end = nc_fleetdb_get_migration(w->bed.db, id, &error);
  g_assert_cmpint(json_integer_value(json_object_get(json_object_get(end, "result"), "pause_ms")), ==, 12);
  g_assert_no_error(error);
  g_assert_cmpuint(w->order->len, ==, 1);
  world_free(w);
}

/* And not further: soon after, it may be forgotten. */
static void
turn_to_completion(World *w, const char *id)
{
  for (unsigned i = 0; i < 60; i++) {
    g_autofree char *now = db_text(w->bed.db, id, "state");
    if (g_str_equal(now, "completed"))
      return;
    world_turn(w, SECOND, 1);
  }
  assert_state(w, id, "completed");
}

static void
whose_class_is_not_said_has_the_machines(void)
{
  World *w = small_world();
  world_add_machine(w, "urgent", "a", 1, NC_PRIORITY_CRITICAL);
  world_turn(w, 0, 1);
  g_autofree char *own = migrate(w, "{'machine': 'urgent', 'destination': 'b'}");
  g_autofree char *class = db_text(w->bed.db, own, "priority");
  g_assert_cmpstr(class, ==, "critical");
  g_autofree char *said = migrate(w, "{'machine': 'web1', 'destination': 'b', 'priority': 'low'}");
  g_autofree char *other = db_text(w->bed.db, said, "priority");
  g_assert_cmpstr(other, ==, "low");
  world_free(w);
}

static void
the_queue_is_measured(void)
{
  World *w = small_world();
  NcQueueView queue;

  g_assert_true(nc_controller_look_at_queue(w->controller, &queue));
  g_assert_cmpuint(queue.queued + queue.running, ==, 0);
  g_autofree char *id = migrate(w, "{'machine': 'web1', 'destination': 'b'}");
  g_assert_true(nc_controller_look_at_queue(w->controller, &queue));
  g_assert_cmpuint(queue.queued, ==, 1);
  world_turn(w, SECOND, 2);
  g_assert_true(nc_controller_look_at_queue(w->controller, &queue));
  g_assert_cmpuint(queue.queued, ==, 0);
  g_assert_cmpuint(queue.running, ==, 1);
  g_assert_cmpint(queue.oldest_us, ==, 0);
  g_autoptr(GArray) waits = nc_controller_take_waits(w->controller);
  g_autoptr(GArray) none = nc_controller_take_waits(w->controller);
  g_assert_cmpuint(waits->len, ==, 1);
  g_assert_cmpint(g_array_index(waits, int64_t, 0), >=, 0);
  g_assert_cmpuint(none->len, ==, 0);
  world_free(w);
}

/* Who removes a node asks until it is gone: what a migration is known to do must not be forgotten for that. */
static void
a_node_with_a_migration_stays_and_nothing_is_forgotten(void)
{
  g_autoptr(GError) error = NULL;
  World *w = small_world();
  g_autofree char *id = migrate(w, "{'machine': 'web1', 'destination': 'b'}");
  world_turn(w, SECOND, 3);
  assert_state(w, id, "running");
  nc_autojson json_t *before = nc_controller_describe(w->controller, id, &error);
  for (int i = 0; i < 3; i++) {
    g_assert_false(nc_controller_remove_node(w->controller, "b", &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
    g_clear_error(&error);
  }
  nc_autojson json_t *after = nc_controller_describe(w->controller, id, &error);
  g_assert_no_error(error);
  g_assert_true(json_equal(json_object_get(before, "live"), json_object_get(after, "live")));
  turn_to_completion(w, id);
  world_turn(w, SECOND, 1);
  g_assert_true(nc_controller_remove_node(w->controller, "a", &error));
  g_assert_no_error(error);
  world_free(w);
}

/* What has ended is forgotten in time, and nothing else. */
static void
history_is_pruned(void)
{
  g_autoptr(GError) error = NULL;
  World *w = small_world();
  g_autofree char *id = migrate(w, "{'machine': 'web1', 'destination': 'b'}");

  world_turn(w, SECOND, 40);
  assert_state(w, id, "completed");
  world_turn(w, 60 * SECOND, 120);
  assert_state(w, id, "completed"); /* as nothing was said of how long, for ever */
  world_free(w);

  w = world_new((uint32_t)g_test_rand_int());
  w->options.history_us = 1;
  world_lead(w);
  world_add_node(w, "a", 16);
  world_add_node(w, "b", 16);
  world_turn(w, 0, 1);
  world_add_machine(w, "web1", "a", 2, NC_PRIORITY_NORMAL);
  world_add_machine(w, "web2", "a", 2, NC_PRIORITY_NORMAL);
  world_turn(w, 0, 1);
  g_autofree char *first = migrate(w, "{'machine': 'web1', 'destination': 'b'}");
  turn_to_completion(w, first);
  g_autofree char *second = migrate(w, "{'machine': 'web2', 'destination': 'b'}");
  turn_to_completion(w, second);
  world_turn(w, 60 * SECOND, 120);
  assert_state(w, second, "completed"); /* the newest event is its, and stays */
  nc_autojson json_t *rows = nc_fleetdb_list_migrations(w->bed.db, &(NcMoveFilter){ 0 }, &(NcPage){ 0 }, NULL, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(json_array_size(rows), ==, 1);
  nc_autojson json_t *machine = nc_fleetdb_get_machine(w->bed.db, "web1", &error);
  g_assert_cmpstr(json_string_value(json_object_get(machine, "node")), ==, "b");
  world_free(w);
}

static void
nonsense_is_refused(void)
{
  static const struct {
    const char *body;
    int code;
  } cases[] = {
    { "[]", NC_ERROR_INVALID },
    { "{}", NC_ERROR_INVALID },
    { "{'machine': 7}", NC_ERROR_INVALID },
    { "{'machine': '../web1'}", NC_ERROR_INVALID },
    { "{'machine': 'nobody'}", NC_ERROR_NOT_FOUND },
    { "{'machine': 'web1', 'destination': 'z'}", NC_ERROR_NOT_FOUND },
    { "{'machine': 'web1', 'destination': 'a'}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'destination': ''}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'priority': 'urgent'}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'priority': 1}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'qos': 'best'}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'retry_attempts': 101}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'retry_attempts': -1}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'retry_attempts': 1.5}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'bandwidth_limit_bps': -1}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'bandwidth_limit_bps': 1000000000001}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'max_downtime_ms': 0}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'algorithm': 'auto pre-copy'}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'algorithm': 'magic'}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'compression': 'a text that is much too long'}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'checkpoint': 1}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'destination_is_wish': 'yes'}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'colour': 'red'}", NC_ERROR_INVALID },
    { "{'machine': 'web1', 'nodes': []}", NC_ERROR_INVALID },
  };
  World *w = small_world();
  g_autoptr(GError) error = NULL;

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    nc_autojson json_t *body = json_of(cases[i].body);
    nc_autojson json_t *answer = nc_controller_migrate(w->controller, &somebody, body, &error);
    g_assert_null(answer);
    g_assert_error(error, NC_ERROR, cases[i].code);
    g_assert_cmpuint(strlen(error->message), >, 10);
    g_clear_error(&error);
  }
  g_assert_cmpint(count_in(w, "queued"), ==, 0);
  world_turn(w, SECOND, 3);
  g_assert_cmpuint(w->starts_sent, ==, 0);
  world_free(w);
}

static void
a_key_is_answered_once(void)
{
  g_autoptr(GError) error = NULL;
  World *w = small_world();
  const NcAsker who = { "uid:7", "first", SHA_A }, other = { "uid:7", "first", SHA_B },
                stranger = { "uid:8", "first", SHA_A }, elsewhere = { "uid:7 via b", "first", SHA_A, "uid:7" };
  nc_autojson json_t *body = json_of("{'machine': 'web1'}");
  nc_autojson json_t *one = nc_controller_migrate(w->controller, &who, body, &error);
  g_assert_no_error(error);
  world_turn(w, SECOND, 40); /* it is over meanwhile, and another controller leads */
  world_kill(w);
  world_lead(w);
  nc_autojson json_t *two = nc_controller_migrate(w->controller, &who, body, &error);
  g_assert_no_error(error);
  g_assert_true(json_equal(one, two));
  nc_autojson json_t *same = nc_controller_migrate(w->controller, &elsewhere, body, &error);
  g_assert_no_error(error);
  g_assert_true(json_equal(one, same));
  assert_fails(nc_controller_migrate(w->controller, &other, body, &error), error, NC_ERROR_CONFLICT);
  nc_autojson json_t *three = nc_controller_migrate(w->controller, &stranger, body, &error);
  g_assert_no_error(error);
  g_assert_false(json_equal(one, three));
  g_assert_cmpint(count_in(w, "queued") + count_in(w, "completed"), ==, 2);
  world_free(w);
}

static void
a_machine_moves_once_at_a_time(void)
{
  g_autoptr(GError) error = NULL;
  World *w = small_world();
  g_autofree char *id = migrate(w, "{'machine': 'web1'}");
  nc_autojson json_t *body = json_of("{'machine': 'web1', 'destination': 'b'}");

  assert_fails(nc_controller_migrate(w->controller, &somebody, body, &error), error, NC_ERROR_CONFLICT);
  world_turn(w, SECOND, 2);
  assert_fails(nc_controller_migrate(w->controller, &somebody, body, &error), error, NC_ERROR_CONFLICT);
  world_free(w);
}

/* --- cordons --- */

static void
nothing_comes_to_a_cordoned_node(void)
{
  g_autoptr(GError) error = NULL;
  World *w = small_world();
  nc_autojson json_t *to_b = json_of("{'machine': 'web1', 'destination': 'b'}");

  for (int i = 0; i < 2; i++) {
    nc_autojson json_t *answer = nc_controller_cordon(w->controller, &somebody, i ? "c" : "b", true, &error);
    g_assert_no_error(error);
  }
  assert_fails(nc_controller_migrate(w->controller, &somebody, to_b, &error), error, NC_ERROR_UNSUITABLE);
  assert_fails(nc_controller_cordon(w->controller, &somebody, "z", true, &error), error, NC_ERROR_NOT_FOUND);
  g_autofree char *id = migrate(w, "{'machine': 'web1'}"); /* it waits, also under the next leader */
  world_turn(w, SECOND, 5);
  world_kill(w);
  world_lead(w);
  world_turn(w, SECOND, 5);
  assert_state(w, id, "queued");
  nc_autojson json_t *answer = nc_controller_cordon(w->controller, &somebody, "b", false, &error);
  g_assert_no_error(error);
  world_turn(w, SECOND, 40);
  assert_state(w, id, "completed");
  g_assert_cmpstr(world_place(w, "web1"), ==, "b");
  world_free(w);
}

/* --- cancelling --- */

static char *
cancel(World *w, const char *id)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *answer = nc_controller_cancel(w->controller, &somebody, id, "not needed", &error);
  g_assert_no_error(error);
  return g_strdup(json_string_value(json_object_get(answer, "state")));
}

static void
cancelled_in_every_state(void)
{
  g_autoptr(GError) error = NULL;
  World *w = small_world();
  g_autofree char *waiting = migrate(w, "{'machine': 'web1'}");
  g_autofree char *one = cancel(w, waiting);

  g_assert_cmpstr(one, ==, "cancelled");
  assert_state(w, waiting, "cancelled");
  assert_fails(nc_controller_cancel(w->controller, &somebody, waiting, "again", &error), error, NC_ERROR_CONFLICT);
  assert_fails(nc_controller_cancel(w->controller, &somebody, "mig-nothing", "why", &error), error, NC_ERROR_NOT_FOUND);
  assert_fails(nc_controller_cancel(w->controller, &somebody, waiting, "", &error), error, NC_ERROR_INVALID);
  g_autofree char *running = migrate(w, "{'machine': 'web1'}");
  world_turn(w, SECOND, 2);
  assert_state(w, running, "running");
  g_autofree char *two = cancel(w, running);
  g_assert_cmpstr(two, ==, "cancelling");
  world_kill(w); /* the wish outlives the leader */
  world_lead(w);
  world_turn(w, SECOND, 2);
  assert_state(w, running, "cancelled");
  assert_reason_has(w, running, "not needed");
  world_turn(w, SECOND, 40);
  g_assert_cmpstr(world_place(w, "web1"), ==, "a");
  world_free(w);
}

/* The order to begin is still on its way when the migration is cancelled. */
static void
cancelled_before_the_order_arrives(void)
{
  World *w = small_world();
  g_autofree char *id = migrate(w, "{'machine': 'web1'}");

  world_turn(w, 0, 1);
  assert_state(w, id, "starting");
  world_delay_mail(w, 500 * SECOND);
  g_autofree char *state = cancel(w, id);
  world_turn(w, SECOND, 20);
  assert_state(w, id, "cancelled");
  world_turn(w, 30 * SECOND, 30);
  g_assert_cmpuint(w->order->len, ==, 0);
  g_assert_cmpstr(world_place(w, "web1"), ==, "a");
  world_free(w);
}

/* The message is lost, and the agent tells of its progress all the time. */
static void
cancelled_with_a_lost_message(void)
{
  World *w = small_world();
  g_autofree char *id = migrate(w, "{'machine': 'web1'}");

  w->least_run_us = w->most_run_us = 3600 * SECOND;
  world_turn(w, SECOND, 2);
  assert_state(w, id, "running");
  g_autofree char *state = cancel(w, id);
  w->loss = 1;
  world_turn(w, 0, 1);
  g_assert_cmpuint(w->cancels_sent, ==, 1);
  w->loss = 0;
  w->tells = 1;
  world_turn(w, SECOND, 15);
  assert_state(w, id, "cancelled");
  world_free(w);
}

/* --- batches --- */

static json_t *
batch(World *w, const char *body)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *asked = json_of(body);
  json_t *answer = nc_controller_batch(w->controller, &somebody, asked, &error);
  g_assert_no_error(error);
  return answer;
}

static const char *
item_text(json_t *answer, size_t i, const char *key)
{
  return json_string_value(json_object_get(json_array_get(json_object_get(answer, "items"), i), key));
}

static void
batches_of_all_and_any(void)
{
  g_autoptr(GError) error = NULL;
  World *w = small_world();
  /* c has 8 GiB: web3 and web2 fill it, db1 has no room there. */
  nc_autojson json_t *none =
      batch(w, "{'policy': 'all', 'migrations': [{'machine': 'web3', 'destination': 'c'}, {'machine': 'web2',"
               " 'destination': 'c'}, {'machine': 'db1', 'destination': 'c'}]}");
  g_assert_cmpint(json_integer_value(json_object_get(none, "submitted")), ==, 0);
  g_assert_nonnull(strstr(item_text(none, 2, "reason"), "no room"));
  g_assert_cmpuint(strlen(item_text(none, 0, "reason")), >, 0);
  g_assert_cmpint(count_in(w, "queued"), ==, 0);
  nc_autojson json_t *some =
      batch(w, "{'migrations': [{'machine': 'web3', 'destination': 'c'}, {'machine': 'nobody'}, {'machine': 'web3'}]}");
  g_assert_cmpint(json_integer_value(json_object_get(some, "submitted")), ==, 1);
  g_assert_nonnull(item_text(some, 0, "migration"));
  g_assert_nonnull(strstr(item_text(some, 1, "reason"), "nobody"));
  g_assert_nonnull(strstr(item_text(some, 2, "reason"), "already"));
  nc_autojson json_t *row = nc_fleetdb_get_batch(w->bed.db, json_string_value(json_object_get(some, "id")), &error);
  g_assert_no_error(error);
  g_assert_cmpuint(json_array_size(json_object_get(json_object_get(row, "detail"), "not_submitted")), ==, 2);
  nc_autojson json_t *bad = json_of("{'migrations': []}"),
                     *worse = json_of("{'migrations': [{'machine': 'web1', 'x': 1}]}");
  assert_fails(nc_controller_batch(w->controller, &somebody, bad, &error), error, NC_ERROR_INVALID);
  assert_fails(nc_controller_batch(w->controller, &somebody, worse, &error), error, NC_ERROR_INVALID);
  world_free(w);
}

/* One of "all" fails for good: what has not begun does not, also if the leader changed meanwhile. */
static void
all_or_none_ends_together(gconstpointer data)
{
  World *w = small_world();
  const bool changes = GPOINTER_TO_INT(data);

  w->fails_for_good = 1;
  nc_autojson json_t *answer =
      batch(w, "{'policy': 'all', 'migrations': [{'machine': 'web1'}, {'machine': 'web2'}, {'machine': 'web3'}]}");
  g_assert_cmpint(json_integer_value(json_object_get(answer, "submitted")), ==, 3);
  world_turn(w, SECOND, 2); /* node a sends two at a time */
  if (changes) {
    world_kill(w);
    world_lead(w);
  }
  world_turn(w, SECOND, 40);
  assert_state(w, item_text(answer, 2, "migration"), "cancelled");
  assert_reason_has(w, item_text(answer, 2, "migration"), "all or none");
  g_assert_cmpint(count_in(w, "failed"), ==, 2);
  g_assert_cmpuint(w->order->len, ==, 2);
  world_free(w);
}

static void
a_batch_is_cancelled(void)
{
  g_autoptr(GError) error = NULL;
  World *w = small_world();
  nc_autojson json_t *answer =
      batch(w, "{'migrations': [{'machine': 'web1'}, {'machine': 'web2'}, {'machine': 'web3'}]}");
  const char *id = json_string_value(json_object_get(answer, "id"));

  world_turn(w, SECOND, 2);
  nc_autojson json_t *first = nc_controller_cancel_batch(w->controller, &somebody, id, false, "a mistake", &error);
  g_assert_cmpint(json_integer_value(json_object_get(first, "cancelled")), ==, 1);
  g_assert_cmpint(json_integer_value(json_object_get(first, "under_way")), ==, 2);
  g_assert_cmpint(count_in(w, "running"), ==, 2);
  nc_autojson json_t *second = nc_controller_cancel_batch(w->controller, &somebody, id, true, "a mistake", &error);
  g_assert_no_error(error);
  world_turn(w, SECOND, 2);
  g_assert_cmpint(count_in(w, "cancelled"), ==, 3);
  assert_fails(nc_controller_cancel_batch(w->controller, &somebody, "bat-0", true, "why", &error), error,
               NC_ERROR_NOT_FOUND);
  world_free(w);
}

/* What was under way when the rest was cancelled ends as it does, and is not tried again, whoever leads by then. */
static void
what_ends_after_a_cancel_is_not_tried_again(gconstpointer data)
{
  const bool is_evacuation = GPOINTER_TO_INT(data) & 1, other_leads = GPOINTER_TO_INT(data) & 2;
  g_autoptr(GError) error = NULL;
  World *w = small_world();

  w->fails = 1;
  w->least_run_us = w->most_run_us = 10 * SECOND;
  nc_autojson json_t *body = is_evacuation
                                 ? json_of("{'nodes': ['a'], 'retry_attempts': 3}")
                                 : json_of("{'migrations': [{'machine': 'web1', 'retry_attempts': 3},"
                                           " {'machine': 'web2', 'retry_attempts': 3}, {'machine': 'web3'}]}");
  nc_autojson json_t *made = is_evacuation ? nc_controller_evacuate(w->controller, &somebody, body, &error)
                                           : nc_controller_batch(w->controller, &somebody, body, &error);
  g_assert_no_error(error);
  const char *id = json_string_value(json_object_get(made, "id"));
  world_turn(w, SECOND, 3);
  nc_autojson json_t *answer =
      is_evacuation ? nc_controller_cancel_evacuation(w->controller, &somebody, id, false, "enough", &error)
                    : nc_controller_cancel_batch(w->controller, &somebody, id, false, "enough", &error);
  g_assert_no_error(error);
  g_assert_cmpint(json_integer_value(json_object_get(answer, "under_way")), ==, 2);
  if (other_leads) {
    world_kill(w);
    world_lead(w);
  }
  world_turn(w, SECOND, 300); /* longer than several attempts and what is between them */
  g_assert_cmpint(count_in(w, "cancelled"), ==, 1);
  g_assert_cmpint(count_in(w, "failed"), ==, 2);
  g_assert_cmpuint(w->order->len, ==, 2);
  world_free(w);
}

/* --- evacuations --- */

static void
what_fits_nowhere_is_said_before_anything_moves(void)
{
  g_autoptr(GError) error = NULL;
  World *w = small_world();
  world_add_machine(w, "db2", "b", 11,
                    NC_PRIORITY_LOW); /* b is nearly full, c takes 8 GiB: one of a's machines stays */
  nc_autojson json_t *body = json_of("{'nodes': ['a']}");
  nc_autojson json_t *plan = nc_controller_plan_evacuation(w->controller, body, &error);
  g_assert_no_error(error);
  g_assert_false(json_boolean_value(json_object_get(plan, "empties")));
  g_assert_cmpuint(json_array_size(json_object_get(plan, "cannot_move")), ==, 1);
  nc_autojson json_t *answer = nc_controller_evacuate(w->controller, &somebody, body, &error);
  g_assert_no_error(error);
  g_assert_cmpstr(json_string_value(json_object_get(answer, "state")), ==, "failed");
  world_turn(w, SECOND, 5);
  g_assert_cmpuint(w->starts_sent, ==, 0);
  nc_autojson json_t *node = nc_fleetdb_get_node(w->bed.db, "a", &error);
  g_assert_false(json_boolean_value(json_object_get(node, "is_cordoned")));
  nc_autojson json_t *items =
      nc_fleetdb_list_items(w->bed.db, json_string_value(json_object_get(answer, "id")), &(NcPage){ 0 }, NULL, &error);
  g_assert_cmpuint(json_array_size(items), ==, 3);
  world_free(w);
}

/* A machine that another migration takes away meanwhile needs none of the evacuation, and has not stayed. */
static void
what_left_in_another_way_is_gone(void)
{
  g_autoptr(GError) error = NULL;
  World *w = small_world();
  nc_autojson json_t *body = json_of("{'nodes': ['a']}");

  g_autofree char *id = migrate(w, "{'machine': 'web1', 'destination': 'b'}"); /* has not begun when the plan is made */
  nc_autojson json_t *answer = nc_controller_evacuate(w->controller, &somebody, body, &error);
  g_assert_no_error(error);
  const char *evacuation = json_string_value(json_object_get(answer, "id"));
  world_turn(w, SECOND, 60);
  nc_autojson json_t *row = nc_fleetdb_get_evacuation(w->bed.db, evacuation, &error);
  g_assert_cmpstr(json_string_value(json_object_get(row, "state")), ==, "completed");
  nc_autojson json_t *items = nc_fleetdb_list_items(w->bed.db, evacuation, &(NcPage){ 0 }, NULL, &error);
  unsigned gone = 0;
  size_t i;
  json_t *item;
  json_array_foreach(items, i, item)
  {
    bool is_web1 = g_str_equal(json_string_value(json_object_get(item, "machine")), "web1");
    g_assert_cmpstr(json_string_value(json_object_get(item, "state")), ==, is_web1 ? "gone" : "completed");
    g_assert_cmpstr(json_string_value(json_object_get(item, "reason")), ==,
                    is_web1 ? "it is on node \"b\" already" : "");
    gone += is_web1;
  }
  g_assert_cmpuint(gone, ==, 1);
  assert_state(w, id, "completed");
  world_free(w);
}

static void
evacuated_twice_and_uncordoned(void)
{
  g_autoptr(GError) error = NULL;
  World *w = small_world();
  nc_autojson json_t *body = json_of("{'nodes': ['a']}"), *bad = json_of("{'nodes': ['a', 'a']}"),
                     *odd = json_of("{'nodes': ['a'], 'machine': 'web1'}");
  nc_autojson json_t *answer = nc_controller_evacuate(w->controller, &somebody, body, &error);

  g_assert_no_error(error);
  assert_fails(nc_controller_evacuate(w->controller, &somebody, body, &error), error, NC_ERROR_CONFLICT);
  assert_fails(nc_controller_evacuate(w->controller, &somebody, bad, &error), error, NC_ERROR_INVALID);
  assert_fails(nc_controller_evacuate(w->controller, &somebody, odd, &error), error, NC_ERROR_INVALID);
  assert_fails(nc_controller_cordon(w->controller, &somebody, "a", false, &error), error, NC_ERROR_CONFLICT);
  world_turn(w, SECOND, 60);
  nc_autojson json_t *row =
      nc_fleetdb_get_evacuation(w->bed.db, json_string_value(json_object_get(answer, "id")), &error);
  g_assert_cmpstr(json_string_value(json_object_get(row, "state")), ==, "completed");
  nc_autojson json_t *node = nc_fleetdb_get_node(w->bed.db, "a", &error);
  g_assert_true(json_boolean_value(json_object_get(node, "is_cordoned")));
  g_assert_cmpstr(json_string_value(json_object_get(node, "evacuation")), ==, "");
  nc_autojson json_t *open = nc_controller_cordon(w->controller, &somebody, "a", false, &error);
  g_assert_no_error(error);
  world_free(w);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/controller/requests/from_request_to_completion", from_request_to_completion);
  g_test_add_func("/controller/requests/whose_class_is_not_said_has_the_machines", whose_class_is_not_said_has_the_machines);
  g_test_add_func("/controller/requests/the_queue_is_measured", the_queue_is_measured);
  g_test_add_func("/controller/requests/a_node_with_a_migration_stays", a_node_with_a_migration_stays_and_nothing_is_forgotten);
  g_test_add_func("/controller/requests/history_is_pruned", history_is_pruned);
  g_test_add_func("/controller/requests/nonsense_is_refused", nonsense_is_refused);
  g_test_add_func("/controller/requests/a_key_is_answered_once", a_key_is_answered_once);
  g_test_add_func("/controller/requests/a_machine_moves_once_at_a_time", a_machine_moves_once_at_a_time);
  g_test_add_func("/controller/requests/nothing_comes_to_a_cordoned_node", nothing_comes_to_a_cordoned_node);
  g_test_add_func("/controller/requests/cancelled_in_every_state", cancelled_in_every_state);
  g_test_add_func("/controller/requests/cancelled_before_the_order_arrives", cancelled_before_the_order_arrives);
  g_test_add_func("/controller/requests/cancelled_with_a_lost_message", cancelled_with_a_lost_message);
  g_test_add_func("/controller/requests/batches_of_all_and_any", batches_of_all_and_any);
  g_test_add_data_func("/controller/requests/all_or_none_ends_together", GINT_TO_POINTER(false),
                       all_or_none_ends_together);
  g_test_add_data_func("/controller/requests/all_or_none_ends_together_under_two_leaders", GINT_TO_POINTER(true),
                       all_or_none_ends_together);
  g_test_add_func("/controller/requests/a_batch_is_cancelled", a_batch_is_cancelled);
  for (int i = 0; i < 4; i++) {
    g_autofree char *path = g_strdup_printf("/controller/requests/what_ends_after_a_cancel_is_not_tried_again/%s%s",
                                            i & 1 ? "evacuation" : "batch", i & 2 ? "_under_another_leader" : "");
    g_test_add_data_func(path, GINT_TO_POINTER(i), what_ends_after_a_cancel_is_not_tried_again);
  }
  g_test_add_func("/controller/requests/what_fits_nowhere_is_said_before_anything_moves",
                  what_fits_nowhere_is_said_before_anything_moves);
  g_test_add_func("/controller/requests/what_left_in_another_way_is_gone", what_left_in_another_way_is_gone);
  g_test_add_func("/controller/requests/evacuated_twice_and_uncordoned", evacuated_twice_and_uncordoned);
  return g_test_run();
}
