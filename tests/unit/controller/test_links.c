/* SPDX-License-Identifier: Apache-2.0 */
/* Links that nodes share: what is told of them, what becomes of contradictions, and that migrations divide them. */
#include "world.h"

#define MB UINT64_C(1000000)

/* ${links}: JSON with ' for ", NULL: none. Its card has no limit. */
static void
put_node(World *w, const char *name, const char *links)
{
  g_autoptr(GError) error = NULL;
  const uint64_t memory = 64 * GIB;
  nc_autojson json_t *detail = links ? json_pack("{s:o}", "links", json_of(links)) : NULL;
  const NcNodeRecord node = { .name = name, .address = "192.0.2.1:7450", .capacity = { memory, 0, 64 }, .in_limit = 5, .out_limit = 5, .detail = detail };

  assert_works(nc_controller_put_node(w->controller, &node, &error), error);
  if (!g_hash_table_contains(w->rooms, name))
    g_hash_table_insert(w->rooms, g_strdup(name), g_memdup2(&memory, sizeof memory));
}

static void
migrate(World *w, const char *machine, const char *to)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *body = json_pack("{s:s, s:s}", "machine", machine, "destination", to);
  nc_autojson json_t *answer = nc_controller_migrate(w->controller, &somebody, body, &error);

  g_assert_no_error(error);
}

/* What those under way from ${source} have been told that they may send, together; 0 among them: no limit. */
static uint64_t
sum_from(World *w, const char *source, unsigned count)
{
  uint64_t sum = 0;
  unsigned seen = 0;

  for (guint i = 0; i < w->order->len; i++) {
    const Attempt *a = w->order->pdata[i];
    if (a->is_over || !g_str_equal(a->source, source))
      continue;
    g_assert_cmpuint(a->rate_bps, >, 0);
    sum += a->rate_bps;
    seen++;
  }
  g_assert_cmpuint(seen, ==, count);
  return sum;
}

static World *
two_sites(void)
{
  World *w = world_new(1);

  w->least_run_us = w->most_run_us = 600 * SECOND;
  w->cluster = 20;
  w->node_in = w->node_out = 5;
  w->options.limits.cluster = 20;
  w->options.limits.node_in = w->options.limits.node_out = 5;
  world_lead(w);
  put_node(w, "a1", "[{'name': 'rack-1', 'rate_bps': 100000000}, {'name': 'site-a', 'rate_bps': 12000000}]");
  put_node(w, "a2", "[{'name': 'rack-2', 'rate_bps': 100000000}, {'name': 'site-a', 'rate_bps': 10000000}]"); /* the lowest counts */
  put_node(w, "b1", "[{'name': 'site-b', 'rate_bps': 50000000}]");
  world_turn(w, 0, 1);
  world_add_machine(w, "m1", "a1", 1, NC_PRIORITY_NORMAL);
  world_add_machine(w, "m2", "a2", 1, NC_PRIORITY_NORMAL);
  world_add_machine(w, "m3", "a2", 1, NC_PRIORITY_NORMAL);
  return w;
}

/* Two nodes of a site send over its uplink: together no more than it has. Between them it is not used. */
static void
uplinks_are_divided(void)
{
  World *w = two_sites();

  migrate(w, "m1", "b1");
  migrate(w, "m2", "b1");
  migrate(w, "m3", "a1");
  world_turn(w, SECOND, 5);
  world_kill(w); /* who leads next knows of them, too */
  world_lead(w);
  world_turn(w, SECOND, 20);
  uint64_t first = sum_from(w, "a1", 1), others = sum_from(w, "a2", 2);
  g_assert_cmpuint(first, <=, 10 * MB);
  g_assert_cmpuint(first, >=, 4 * MB);
  g_assert_cmpuint(first + others, <=, 110 * MB); /* m3 has all of its racks, and nothing of the site's */
  g_assert_cmpuint(others, >=, 99 * MB);
  world_free(w);
}

/* A node says otherwise from now on: what it says counts for what begins then, and what is under way. */
static void
a_link_is_changed(void)
{
  World *w = two_sites();

  migrate(w, "m1", "b1");
  world_turn(w, SECOND, 5);
  g_assert_cmpuint(sum_from(w, "a1", 1), ==, 10 * MB);
  put_node(w, "a2", NULL);
  put_node(w, "a1", "[{'name': 'site-a', 'rate_bps': 3000000}]");
  world_turn(w, SECOND, 20);
  g_assert_cmpuint(sum_from(w, "a1", 1), ==, 3 * MB);
  world_free(w);
}

/* One of the nodes of a rack has not been told yet that there is something behind it; what it does not know, others do. */
static void
who_knows_more_counts(void)
{
  World *w = world_new(1);

  w->least_run_us = w->most_run_us = 600 * SECOND;
  world_lead(w);
  put_node(w, "a1", "[{'name': 'rack-1', 'rate_bps': 100000000}]");
  put_node(w, "a2", "[{'name': 'rack-1', 'rate_bps': 100000000}, {'name': 'wan', 'rate_bps': 4000000}]");
  put_node(w, "a3", "[{'name': 'rack-1', 'rate_bps': 100000000}]"); /* which changes nothing */
  put_node(w, "b1", NULL);
  world_turn(w, 0, 1);
  world_add_machine(w, "m1", "a1", 1, NC_PRIORITY_NORMAL);
  world_add_machine(w, "m3", "a3", 1, NC_PRIORITY_NORMAL);
  migrate(w, "m1", "b1");
  migrate(w, "m3", "b1");
  world_turn(w, SECOND, 5);
  g_assert_cmpuint(sum_from(w, "a1", 1), ==, 2 * MB);
  g_assert_cmpuint(sum_from(w, "a3", 1), ==, 2 * MB);
  world_free(w);
}

/* Links that hang at each other, or that nodes do not agree on, are trees all the same. */
static void
contradictions(void)
{
  World *w = two_sites();

  put_node(w, "c1", "[{'name': 'x', 'rate_bps': 1000000}, {'name': 'y', 'rate_bps': 1000000}]");
  put_node(w, "c2", "[{'name': 'y', 'rate_bps': 2000000}, {'name': 'x', 'rate_bps': 2000000}]");
  world_turn(w, SECOND, 2);
  migrate(w, "m1", "c1");
  migrate(w, "m2", "c2");
  world_turn(w, SECOND, 5);
  g_assert_cmpuint(sum_from(w, "a1", 1) + sum_from(w, "a2", 1), <=, 2 * MB);
  world_free(w);
}

static void
what_is_no_list_of_links(void)
{
  static const char *const wrong[] = { "{}", "[1]", "[{'name': 'x'}]", "[{'name': 'x', 'rate_bps': 0}]", "[{'name': '../x', 'rate_bps': 5}]",
                                       "[{'name': 'x', 'rate_bps': 5}, {'name': 'x', 'rate_bps': 5}]" };
  nc_autojson json_t *many = json_array(), *none = json_array();

  for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
    nc_autojson json_t *said = json_of(wrong[i]);
    g_assert_false(nc_controller_are_uplinks(said));
  }
  for (unsigned i = 0; i <= NC_FLEET_MOST_UPLINKS; i++) {
    g_autofree char *name = g_strdup_printf("l%u", i);
    json_array_append_new(many, json_pack("{s:s, s:i}", "name", name, "rate_bps", 5));
  }
  g_assert_false(nc_controller_are_uplinks(many));
  g_assert_true(nc_controller_are_uplinks(none));
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/controller/links/uplinks_are_divided", uplinks_are_divided);
  g_test_add_func("/controller/links/a_link_is_changed", a_link_is_changed);
  g_test_add_func("/controller/links/who_knows_more_counts", who_knows_more_counts);
  g_test_add_func("/controller/links/contradictions", contradictions);
  g_test_add_func("/controller/links/what_is_no_list_of_links", what_is_no_list_of_links);
  return g_test_run();
}
