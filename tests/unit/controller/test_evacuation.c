/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A node with many machines is evacuated while messages are lost, agents die, and the controller is killed between any
 * two steps, and between any two orders within one. Every machine ends moved once, or it is said why not; nothing is
 * begun twice, no limit exceeded (world.c looks at that).
 */
#include "world.h"

#include <string.h>

#define MACHINES 130 /* more than are submitted by one write */
#define MOST_TURNS 20000

typedef struct {
  World *w;
  char *id;
  unsigned kills;
} Scene;

static NcPriority
priority_of(unsigned number)
{
  return (NcPriority)(number * 7 % NC_PRIORITY_COUNT);
}

static void
scene_make(Scene *s, uint32_t seed)
{
  World *w = s->w = world_new(seed);

  w->node_out = 4;
  w->node_in = 5;
  w->options.limits.ageing_us = 36000 * SECOND; /* priority alone decides */
  world_lead(w);
  world_add_node(w, "old", 800);
  for (unsigned i = 0; i < 5; i++) {
    g_autofree char *name = g_strdup_printf("new-%u", i);
    world_add_node(w, name, 200);
  }
  world_turn(w, 0, 1);
  for (unsigned i = 0; i < MACHINES; i++) {
    g_autofree char *name = g_strdup_printf("vm-%u", i);
    world_add_machine(w, name, "old", 1 + i % 4, priority_of(i));
  }
  world_add_machine(w, "giant", "old", 300, NC_PRIORITY_CRITICAL);
  w->loss = 0.1;
  w->doubling = 0.1;
  w->most_delay_us = 4 * SECOND;
  w->fails = 0.15;
  w->endgames = 0.3;
  w->run_epoch = 2;
  w->fails_for_good = 0.03;
}

static void
evacuate(Scene *s)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *body = json_of("{'nodes': ['old'], 'allow_partial': true, 'qos': 'high', 'retry_attempts': 3}");
  const NcAsker who = { .actor = "uid:0",
                        .key = "evacuate old",
                        .request_sha256 = "aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00" };
  nc_autojson json_t *answer = nc_controller_evacuate(s->w->controller, &who, body, &error);

  g_assert_no_error(error);
  g_free(s->id);
  s->id = g_strdup(json_string_value(json_object_get(answer, "id")));
}

static void
kill_and_lead(Scene *s)
{
  s->kills++;
  world_kill(s->w);
  s->w->sends_left = -1;
  world_lead(s->w);
}

static char *
state_of(Scene *s)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *row = nc_fleetdb_get_evacuation(s->w->bed.db, s->id, &error);
  g_assert_no_error(error);
  return g_strdup(
      json_boolean_value(json_object_get(row, "is_finished")) ? json_string_value(json_object_get(row, "state")) : "");
}

/* One turn, in which the controller may die, and so may an agent. */
static void
any_turn(Scene *s, bool kills_destinations)
{
  World *w = s->w;

  if (g_rand_double(w->random) < 0.1)
    w->sends_left = g_rand_int_range(w->random, 0, 6); /* it dies before or after as many orders of this turn */
  if (g_rand_double(w->random) < 0.005)
    world_kill_agent(w, "old", (int64_t)(g_rand_double(w->random) * 90 * SECOND));
  if (kills_destinations && g_rand_double(w->random) < 0.01) {
    g_autofree char *name = g_strdup_printf("new-%d", g_rand_int_range(w->random, 0, 5));
    world_kill_agent(w, name, (int64_t)(g_rand_double(w->random) * 90 * SECOND));
  }
  world_turn(w, (int64_t)(g_rand_double(w->random) * 3 * SECOND), 1);
  if (w->sends_left >= 0 || g_rand_double(w->random) < 0.05)
    kill_and_lead(s);
}

/* --- what has to come out --- */

static void
check_machine(Scene *s, json_t *item)
{
  g_autoptr(GError) error = NULL;
  const char *machine = json_string_value(json_object_get(item, "machine")),
             *migration = json_string_value(json_object_get(item, "migration"));
  guint moves = GPOINTER_TO_UINT(g_hash_table_lookup(s->w->moves, machine));
  nc_autojson json_t *row = nc_fleetdb_get_machine(s->w->bed.db, machine, &error);

  g_assert_no_error(error);
  g_assert_cmpstr(json_string_value(json_object_get(row, "node")), ==, world_place(s->w, machine));
  g_assert_cmpuint(moves, <=, 1);
  if (!migration[0]) {
    g_assert_cmpuint(strlen(json_string_value(json_object_get(item, "reason"))), >, 0);
    g_assert_cmpuint(moves, ==, 0);
    return;
  }
  g_autofree char *state = db_text(s->w->bed.db, migration, "state"),
                  *reason = db_text(s->w->bed.db, migration, "reason");
  g_assert_cmpuint(moves, ==, g_str_equal(state, "completed"));
  g_assert_true(moves == 1 || reason[0]);
  g_assert_cmpint(db_number(s->w->bed.db, migration, "attempts"), <=, 4);
}

static void
check_outcome(Scene *s)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *items =
      nc_fleetdb_list_items(s->w->bed.db, s->id, &(NcPage){ .limit = NC_PAGE_MOST }, NULL, &error);
  nc_autojson json_t *counts = nc_fleetdb_count_migrations(s->w->bed.db, NULL, NULL, &error);
  size_t i;
  json_t *item;

  g_assert_no_error(error);
  g_assert_cmpuint(json_array_size(items), ==, MACHINES + 1);
  json_array_foreach(items, i, item) check_machine(s, item);
  g_assert_cmpuint(world_running(s->w), ==, 0);
  g_assert_cmpint(json_integer_value(json_object_get(counts, "queued")) +
                      json_integer_value(json_object_get(counts, "starting")) +
                      json_integer_value(json_object_get(counts, "running")) +
                      json_integer_value(json_object_get(counts, "backoff")),
                  ==, 0);
  g_test_message("%u kills, %u attempts, %" JSON_INTEGER_FORMAT " of %u machines moved", s->kills, s->w->order->len,
                 json_integer_value(json_object_get(counts, "completed")), MACHINES);
}

/* First attempts are recorded as begun by priority, whoever led. */
static void
check_order(Scene *s)
{
  g_autoptr(GError) error = NULL;
  int latest = NC_PRIORITY_CRITICAL;
  unsigned seen = 0;

  for (uint64_t after = 0;;) {
    nc_autojson json_t *events = nc_fleetdb_list_events(s->w->bed.db, after, NULL, NC_PAGE_MOST, &error);
    size_t i;
    json_t *event;
    g_assert_no_error(error);
    if (json_array_size(events) == 0)
      break;
    json_array_foreach(events, i, event)
    {
      json_t *detail = json_object_get(event, "detail");
      after = (uint64_t)json_integer_value(json_object_get(event, "id"));
      if (g_strcmp0(json_string_value(json_object_get(detail, "state")), "starting") != 0 ||
          json_integer_value(json_object_get(detail, "attempt")) != 1)
        continue;
      g_autofree char *priority =
          db_text(s->w->bed.db, json_string_value(json_object_get(event, "subject")), "priority");
      NcPriority class;
      g_assert_true(nc_priority_from_name(priority, &class));
      g_assert_cmpint((int)class, >=, latest);
      latest = (int)class;
      seen++;
    }
  }
  g_assert_cmpuint(seen, ==, MACHINES);
}

static void
survives_kills(gconstpointer data)
{
  const bool kills_destinations = GPOINTER_TO_INT(data);
  uint32_t seed = (uint32_t)g_test_rand_int();
  Scene s = { 0 };
  g_autofree char *state = NULL;

  g_test_message("seed %u", seed);
  scene_make(&s, seed);
  evacuate(&s);
  g_autofree char *id = g_strdup(s.id);
  for (unsigned turn = 0; turn < MOST_TURNS; turn++) {
    any_turn(&s, kills_destinations);
    g_free(state);
    state = state_of(&s);
    if (state[0])
      break;
    if (turn == 3) { /* did it hear me? the client asks once more */
      kill_and_lead(&s);
      evacuate(&s);
      g_assert_cmpstr(s.id, ==, id);
    }
  }
  g_assert_cmpstr(state, ==, "failed"); /* the giant is still there */
  check_outcome(&s);
  if (!kills_destinations)
    check_order(&s);
  world_free(s.w);
  g_free(s.id);
}

/* Cancelled in the middle: what waits does not begin, what is under way ends as it does. */
static void
cancelled_while_killed(void)
{
  g_autoptr(GError) error = NULL;
  uint32_t seed = (uint32_t)g_test_rand_int();
  Scene s = { 0 };
  g_autofree char *state = NULL;

  g_test_message("seed %u", seed);
  scene_make(&s, seed);
  evacuate(&s);
  for (unsigned turn = 0; turn < 12; turn++)
    any_turn(&s, false);
  unsigned begun = s.w->order->len;
  nc_autojson json_t *answer = nc_controller_cancel_evacuation(s.w->controller, &somebody, s.id, begun % 2 == 0,
                                                               "the disk was replaced", &error);
  g_assert_no_error(error);
  for (unsigned turn = 0; turn < MOST_TURNS; turn++) {
    any_turn(&s, false);
    g_free(state);
    state = state_of(&s);
    if (state[0])
      break;
  }
  g_assert_cmpstr(state, ==, "cancelled");
  check_outcome(&s);
  g_assert_cmpuint(s.w->order->len, <=, begun + 4); /* starts that were on their way */
  world_free(s.w);
  g_free(s.id);
}

static void
see_in_state(World *w, const char *name, const char *state)
{
  g_autoptr(GError) error = NULL;
  const NcMachineRecord machine = { .name = name, .node = "old", .epoch = 1, .state = state, .need = { .memory_bytes = GIB, .cpus = 1 }, .priority = NC_PRIORITY_NORMAL };

  assert_works(nc_controller_see_machines(w->controller, &machine, 1, &error), error);
}

static void
check_plan(World *w, unsigned moves, const char *const *stopped)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *body = json_of("{'nodes': ['old']}"), *plan = nc_controller_plan_evacuation(w->controller, body, &error);
  json_t *stuck = json_object_get(plan, "cannot_move");

  g_assert_no_error(error);
  g_assert_cmpuint(json_array_size(json_object_get(plan, "moves")), ==, moves);
  g_assert_cmpuint(json_array_size(stuck), ==, g_strv_length((char **)stopped));
  for (size_t i = 0; stopped[i]; i++) {
    g_autofree char *reason = g_strdup_printf("%s is stopped, and only a running machine can be migrated (start it, or leave it where it is)", stopped[i]);
    g_assert_cmpstr(json_string_value(json_object_get(json_array_get(stuck, i), "reason")), ==, reason);
  }
}

/* Of m1 and m3, all or none: m1 can't move. */
static void
check_batch_of_all(World *w, const char *reason)
{
  g_autoptr(GError) error = NULL;
  see_in_state(w, "m3", "running");
  nc_autojson json_t *body = json_of("{'policy': 'all', 'migrations': [{'machine': 'm1'}, {'machine': 'm3'}]}");
  nc_autojson json_t *answer = nc_controller_batch(w->controller, &somebody, body, &error);

  g_assert_no_error(error);
  g_assert_cmpint(json_integer_value(json_object_get(answer, "submitted")), ==, 0);
  g_assert_cmpstr(json_string_value(json_object_get(json_array_get(json_object_get(answer, "items"), 0), "reason")), ==, reason);
}

/* Who asks hears of machines that can't move before any has: also of these, whoever leads, and no longer than it is so. */
static void
stopped_machines_stay(void)
{
  World *w = world_new(1);
  const char *const none[] = { NULL }, *const first[] = { "m1", NULL }, *const both[] = { "m1", "m2", NULL };

  world_lead(w);
  world_add_node(w, "old", 8);
  world_add_node(w, "new", 8);
  world_turn(w, 0, 1);
  see_in_state(w, "m1", "stopped");
  see_in_state(w, "m2", "running");
  check_plan(w, 1, first);
  see_in_state(w, "m2", "stopped");
  check_plan(w, 0, both);
  world_kill(w);
  world_lead(w);
  world_turn(w, 0, 1);
  check_plan(w, 0, both);
  check_batch_of_all(w, "m1 is stopped, and only a running machine can be migrated");
  see_in_state(w, "m1", "paused");
  see_in_state(w, "m2", "running");
  check_plan(w, 3, none);
  world_free(w);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_data_func("/controller/evacuation/survives_kills", GINT_TO_POINTER(false), survives_kills);
  g_test_add_data_func("/controller/evacuation/survives_kills_and_lost_destinations", GINT_TO_POINTER(true),
                       survives_kills);
  g_test_add_func("/controller/evacuation/cancelled_while_killed", cancelled_while_killed);
  g_test_add_func("/controller/evacuation/stopped_machines_stay", stopped_machines_stay);
  return g_test_run();
}
