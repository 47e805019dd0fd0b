/* SPDX-License-Identifier: Apache-2.0 */
/* Two controllers over one PostgreSQL: the leader is frozen, or has been put aside without knowing it. */
#include "world.h"

#include <string.h>

#define MACHINES 40

typedef struct {
  World *w;
  NcFleetDb *dbs[2];
  NcController *cs[2];
} Pair;

static void
pair_make(Pair *p, uint32_t seed)
{
  World *w = p->w = world_new(seed);

  world_lead(w);
  world_add_node(w, "a", 200);
  world_add_node(w, "b", 200);
  world_add_node(w, "c", 200);
  world_turn(w, 0, 1);
  p->dbs[0] = w->bed.db;
  p->dbs[1] = db_open(&w->bed);
  p->cs[0] = w->controller;
  p->cs[1] = world_controller(w, p->dbs[1], "other");
}

static void
pair_free(Pair *p)
{
  nc_controller_free(p->cs[1]);
  nc_fleetdb_close(p->dbs[1]);
  world_free(p->w);
}

/* A step of ${which}, after the other's lease has run out. */
static void
take_over(Pair *p, int which)
{
  g_autoptr(GError) error = NULL;

  if (!nc_controller_leads(p->cs[which]))
    world_end_lease(p->dbs[which]);
  assert_works(nc_controller_step(p->cs[which], &error), error);
  g_assert_true(nc_controller_leads(p->cs[which]));
}

static char *
migrate(NcController *c, const char *body)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *asked = json_of(body);
  nc_autojson json_t *answer = nc_controller_migrate(c, &somebody, asked, &error);
  g_assert_no_error(error);
  return g_strdup(json_string_value(json_object_get(answer, "id")));
}

static void
assert_state(Pair *p, const char *id, const char *state)
{
  g_autofree char *now = db_text(p->dbs[1], id, "state");
  g_assert_cmpstr(now, ==, state);
}

/* It has recorded a start and sent it; it stands still, and so does its message. The next one cancels the migration;
 * then both wake up. */
static void
a_frozen_leader_starts_nothing_later(void)
{
  g_autoptr(GError) error = NULL;
  Pair p = { 0 };
  pair_make(&p, (uint32_t)g_test_rand_int());
  World *w = p.w;
  world_add_machine(w, "web1", "a", 2, NC_PRIORITY_NORMAL);
  world_add_machine(w, "web2", "a", 2, NC_PRIORITY_NORMAL);
  g_autofree char *id = migrate(p.cs[0], "{'machine': 'web1'}");

  world_turn(w, 0, 1);
  assert_state(&p, id, "starting");
  world_delay_mail(w, 1000 * SECOND);
  take_over(&p, 1);
  nc_autojson json_t *answer = nc_controller_cancel(p.cs[1], &somebody, id, "not any more", &error);
  g_assert_no_error(error);
  for (int i = 0; i < 5; i++) {
    world_pass(w, p.cs[1], SECOND);
    take_over(&p, 1);
  }
  assert_state(&p, id, "cancelled");
  world_pass(w, p.cs[1], 2000 * SECOND);
  g_assert_cmpuint(w->order->len, ==, 0);
  /* It still believes that it leads: whatever it is asked, it writes nothing. */
  g_assert_true(nc_controller_leads(p.cs[0]));
  world_pass(w, p.cs[0], 0);
  nc_autojson json_t *body = json_of("{'machine': 'web2'}");
  assert_fails(nc_controller_migrate(p.cs[0], &somebody, body, &error), error, NC_ERROR_UNAVAILABLE);
  g_assert_false(nc_controller_leads(p.cs[0]));
  assert_fails(nc_controller_cordon(p.cs[0], &somebody, "a", true, &error), error, NC_ERROR_UNAVAILABLE);
  pair_free(&p);
}

/* The leader is killed with one recorded and not sent, one sent and not confirmed, one confirmed. */
static void
a_killed_leader_is_followed(void)
{
  Pair p = { 0 };
  pair_make(&p, (uint32_t)g_test_rand_int());
  World *w = p.w;
  for (int i = 0; i < 3; i++) {
    g_autofree char *name = g_strdup_printf("web%d", i);
    world_add_machine(w, name, i == 2 ? "b" : "a", 2, NC_PRIORITY_NORMAL);
  }
  g_autofree char *confirmed = migrate(p.cs[0], "{'machine': 'web0'}");
  world_turn(w, SECOND, 2);
  assert_state(&p, confirmed, "running");
  g_autofree char *sent = migrate(p.cs[0], "{'machine': 'web1'}"), *unsent = migrate(p.cs[0], "{'machine': 'web2'}");
  w->sends_left = 1;
  world_turn(w, 0, 1);
  assert_state(&p, unsent, "starting");
  w->sends_left = -1;
  for (int i = 0; i < 40; i++) {
    take_over(&p, 1);
    world_pass(w, p.cs[1], SECOND);
  }
  take_over(&p, 1);
  assert_state(&p, confirmed, "completed");
  assert_state(&p, sent, "completed");
  assert_state(&p, unsent, "completed");
  g_assert_cmpuint(w->order->len, ==, 3);
  g_assert_cmpint(db_number(p.dbs[1], unsent, "attempts"), ==, 1);
  pair_free(&p);
}

/* Whoever comes leads; what agents say reaches whoever it reaches, also one that does not lead and does not know it. */
static void
any_pair_turn(Pair *p)
{
  World *w = p->w;
  g_autoptr(GError) error = NULL;
  int heard = g_rand_int_range(w->random, 0, 2), stepped = g_rand_int_range(w->random, 0, 2);

  if (g_rand_double(w->random) < 0.3)
    world_delay_mail(w, 20 * SECOND); /* orders of the one before arrive long after those of the next */
  world_pass(w, p->cs[heard], (int64_t)(g_rand_double(w->random) * 3 * SECOND));
  if (g_rand_double(w->random) < 0.3)
    world_end_lease(p->dbs[0]);
  if (!nc_controller_step(p->cs[stepped], &error))
    g_assert_error(error, NC_ERROR, NC_ERROR_UNAVAILABLE);
}

static void
the_lead_changes_all_the_time(void)
{
  g_autoptr(GError) error = NULL;
  uint32_t seed = (uint32_t)g_test_rand_int();
  Pair p = { 0 };
  uint64_t moved = 0;
  bool is_finished = false;

  g_test_message("seed %u", seed);
  pair_make(&p, seed);
  World *w = p.w;
  for (int i = 0; i < MACHINES; i++) {
    g_autofree char *name = g_strdup_printf("vm-%d", i);
    world_add_machine(w, name, "a", 2, (NcPriority)(i % NC_PRIORITY_COUNT));
  }
  w->loss = w->doubling = w->fails = 0.1;
  w->endgames = 0.3;
  w->most_delay_us = 5 * SECOND;
  nc_autojson json_t *body = json_of("{'nodes': ['a'], 'retry_attempts': 100}");
  nc_autojson json_t *answer = nc_controller_evacuate(p.cs[0], &somebody, body, &error);
  g_assert_no_error(error);
  for (int turn = 0; turn < 20000 && !is_finished; turn++) {
    any_pair_turn(&p);
    nc_autojson json_t *row =
        nc_fleetdb_get_evacuation(p.dbs[1], json_string_value(json_object_get(answer, "id")), &error);
    is_finished = g_str_equal(json_string_value(json_object_get(row, "state")), "completed");
  }
  g_assert_true(is_finished);
  for (int i = 0; i < MACHINES; i++) {
    g_autofree char *name = g_strdup_printf("vm-%d", i);
    guint moves = GPOINTER_TO_UINT(g_hash_table_lookup(w->moves, name));
    g_assert_cmpuint(moves, ==, 1);
    g_assert_cmpstr(world_place(w, name), !=, "a");
    moved += moves;
  }
  nc_autojson json_t *counts = nc_fleetdb_count_migrations(p.dbs[1], NULL, NULL, &error);
  g_assert_cmpint(json_integer_value(json_object_get(counts, "completed")), ==, MACHINES);
  NcFleetLease lease;
  assert_works(nc_fleetdb_look_at_lease(p.dbs[1], &lease, &error), error);
  g_test_message("%" G_GUINT64_FORMAT " moved in %u attempts, under %" G_GUINT64_FORMAT " leaders", moved,
                 w->order->len, lease.epoch);
  pair_free(&p);
}

static void
the_lead_is_given_back(void)
{
  g_autoptr(GError) error = NULL;
  Pair p = { 0 };
  pair_make(&p, 1);

  assert_works(nc_controller_resign(p.cs[0], &error), error);
  assert_works(nc_controller_step(p.cs[1], &error), error); /* at once */
  g_assert_true(nc_controller_leads(p.cs[1]));
  g_assert_cmpuint(nc_controller_epoch(p.cs[1]), ==, 2);
  pair_free(&p);
}

/* The server goes away and comes back: nothing is done meanwhile, and nothing is lost. */
static void
the_server_restarts(void)
{
  g_autoptr(GError) error = NULL;
  Pair p = { 0 };
  pair_make(&p, 1);
  World *w = p.w;
  world_add_machine(w, "web1", "a", 2, NC_PRIORITY_NORMAL);
  g_autofree char *id = migrate(p.cs[0], "{'machine': 'web1'}");

  world_turn(w, SECOND, 2);
  assert_state(&p, id, "running");
  db_server("restart");
  world_turn(w, SECOND, 40);
  assert_state(&p, id, "completed");
  g_assert_cmpuint(w->order->len, ==, 1);
  pair_free(&p);
}

static void
assert_leader(NcController *c, const char *name)
{
  g_autofree char *leader = nc_controller_leader(c);
  g_assert_cmpstr(leader, ==, name);
}

/* By its name, so that others can hand requests on; nobody who may have been put aside is named. */
static void
each_knows_who_leads(void)
{
  g_autoptr(GError) error = NULL;
  Pair p = { 0 };
  pair_make(&p, 1);

  assert_leader(p.cs[0], "c");
  assert_leader(p.cs[1], NULL); /* it has not looked yet */
  assert_works(nc_controller_step(p.cs[1], &error), error);
  assert_leader(p.cs[1], "c");
  take_over(&p, 1);
  assert_leader(p.cs[1], "other");
  nc_controller_cordon(p.cs[0], &somebody, "a", true, &error); /* and hears that it does not lead any more */
  g_assert_error(error, NC_ERROR, NC_ERROR_UNAVAILABLE);
  g_clear_error(&error);
  assert_leader(p.cs[0], NULL);
  assert_works(nc_controller_step(p.cs[0], &error), error);
  assert_leader(p.cs[0], "other");
  pair_free(&p);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/controller/leaders/a_frozen_leader_starts_nothing_later", a_frozen_leader_starts_nothing_later);
  g_test_add_func("/controller/leaders/a_killed_leader_is_followed", a_killed_leader_is_followed);
  g_test_add_func("/controller/leaders/the_lead_changes_all_the_time", the_lead_changes_all_the_time);
  g_test_add_func("/controller/leaders/the_lead_is_given_back", the_lead_is_given_back);
  g_test_add_func("/controller/leaders/each_knows_who_leads", each_knows_who_leads);
  g_test_add_func("/controller/leaders/the_server_restarts", the_server_restarts);
  return g_test_run();
}
