/* SPDX-License-Identifier: Apache-2.0 */
/* What fits, what is best, and that the search which looks at a few nodes finds what looking at all of them finds. */
#include "fleet/placement.h"
#include "support.h"

#include <string.h>

static void
test_names_and_room(void)
{
  g_autoptr(NcFleet) f = nc_fleet_new();
  g_autoptr(GError) error = NULL;
  uint32_t a = add_node(f, "a", 8);
  NcNodeSpec again = { .name = "a", .link = NC_FLEET_NONE }, bad = { .name = "../a", .link = NC_FLEET_NONE };
  NcMachineSpec large = { .name = "large", .node = a, .need = { 9 * GIB, 0, 0 } };

  g_assert_cmpuint(nc_fleet_add_node(f, &again, &error), ==, NC_FLEET_NONE);
  g_assert_error(error, NC_ERROR, NC_ERROR_EXISTS);
  g_clear_error(&error);
  g_assert_cmpuint(nc_fleet_add_node(f, &bad, &error), ==, NC_FLEET_NONE);
  g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  g_clear_error(&error);
  g_assert_cmpuint(nc_fleet_add_machine(f, &large, &error), ==, NC_FLEET_NONE);
  g_assert_error(error, NC_ERROR, NC_ERROR_RESOURCE);
  g_assert_cmpuint(nc_fleet_find_machine(f, "large"), ==, NC_FLEET_NONE);
  large.need.memory_bytes = 8 * GIB;
  g_assert_cmpuint(nc_fleet_add_machine(f, &large, NULL), ==, 0);
  check_fleet(f);
}

static void
test_reservations(void)
{
  g_autoptr(NcFleet) f = nc_fleet_new();
  uint32_t a = add_node(f, "a", 8), b = add_node(f, "b", 8);
  uint32_t one = add_machine(f, "one", a, 5), two = add_machine(f, "two", a, 3), three = add_machine(f, "three", a, 0);

  g_assert_true(nc_fleet_reserve(f, one, b));
  g_assert_false(nc_fleet_reserve(f, one, b)); /* twice */
  g_assert_false(nc_fleet_reserve(f, three, a)); /* where it is */
  g_assert_true(nc_fleet_reserve(f, two, b));
  g_assert_cmpuint(nc_fleet_free_room(f, b).memory_bytes, ==, 0);
  nc_fleet_arrive(f, one);
  g_assert_cmpuint(nc_fleet_free_room(f, a).memory_bytes, ==, 5 * GIB);
  nc_fleet_unreserve(f, two);
  nc_fleet_unreserve(f, two);
  g_assert_cmpuint(nc_fleet_free_room(f, b).memory_bytes, ==, 3 * GIB);
  check_fleet(f);
}

/* The links from one node to another: up to where both meet, down again, and none twice. */
static void
test_ways(void)
{
  g_autoptr(NcFleet) f = any_fleet(0, 0);
  NcNodeSpec specs[] = { { .name = "a1", .link = 1 }, { .name = "a2", .link = 1 }, { .name = "b", .link = 2 }, { .name = "f", .link = 3 } };
  NcWayBetween way;

  for (unsigned i = 0; i < G_N_ELEMENTS(specs); i++)
    g_assert_cmpuint(nc_fleet_add_node(f, &specs[i], NULL), ==, i);
  nc_fleet_way(f, 0, 1, &way);
  g_assert_cmpuint(way.up_count + way.down_count, ==, 0);
  nc_fleet_way(f, 0, 2, &way);
  g_assert_cmpuint(way.up_count, ==, 1);
  g_assert_cmpuint(way.up[0], ==, 1);
  g_assert_cmpuint(way.down_count, ==, 1);
  g_assert_cmpuint(way.down[0], ==, 2);
  g_assert_cmpint(way.rtt_us, ==, 400);
  nc_fleet_way(f, 0, 3, &way);
  g_assert_cmpuint(way.up_count, ==, 2); /* by the top */
  g_assert_cmpuint(way.up[1], ==, 0);
  g_assert_cmpuint(way.down_count, ==, 1);
  g_assert_cmpint(way.rtt_us, ==, 20500);
}

static const char *
refused(json_t *explanation, const char *node)
{
  json_t *entry;
  size_t i;

  json_array_foreach(json_object_get(explanation, "nodes"), i, entry)
    if (g_str_equal(json_string_value(json_object_get(entry, "node")), node))
      return json_object_get(entry, "refused") ? json_string_value(json_object_get(entry, "refused")) : "";
  g_assert_not_reached();
}

/* Each node of this fleet is refused for another reason, but one. */
static void
test_every_reason_is_named(void)
{
  static const char *const ssd[] = { "ssd", NULL };
  static const struct {
    const char *name;
    NcRoom room;
    bool lacks_label;
  } nodes[] = { { "own", { 16 * GIB, 10, 10 }, false },  { "down", { 16 * GIB, 10, 10 }, false }, { "cordoned", { 16 * GIB, 10, 10 }, false },
                { "label", { 16 * GIB, 10, 10 }, true }, { "memory", { GIB, 10, 10 }, false },    { "cpus", { 16 * GIB, 10, 1 }, false },
                { "disk", { 16 * GIB, 1, 10 }, false },  { "busy", { 16 * GIB, 10, 10 }, false }, { "good", { 16 * GIB, 10, 10 }, false } };
  g_autoptr(NcFleet) f = nc_fleet_new();
  unsigned incoming[G_N_ELEMENTS(nodes)] = { [7] = 2 };
  NcPlacementTerms terms = { .failed = NC_FLEET_NONE, .incoming = incoming, .in_limit = 2 };

  for (unsigned i = 0; i < G_N_ELEMENTS(nodes); i++) {
    NcNodeSpec spec = { .name = nodes[i].name, .capacity = nodes[i].room, .link = NC_FLEET_NONE, .labels = nodes[i].lacks_label ? NULL : ssd };
    nc_fleet_add_node(f, &spec, NULL);
  }
  nc_fleet_set_down(f, 1, true);
  nc_fleet_set_cordoned(f, 2, true);
  NcMachineSpec machine = { .name = "web", .need = { 2 * GIB, 2, 2 }, .requires = ssd };
  nc_fleet_add_machine(f, &machine, NULL);
  json_t *explanation = nc_placement_explain(f, 0, &terms);
  g_assert_cmpstr(json_string_value(json_object_get(explanation, "chosen")), ==, "good");
  for (unsigned i = 0; i < G_N_ELEMENTS(nodes); i++)
    g_assert_cmpstr(refused(explanation, nodes[i].name), ==,
                    g_str_equal(nodes[i].name, "good") ? "" : g_str_equal(nodes[i].name, "own") ? "own_node" : nodes[i].name);
  json_decref(explanation);
  g_assert_cmpuint(nc_placement_choose(f, 0, &terms), ==, 8);
  nc_fleet_set_cordoned(f, 8, true);
  g_assert_cmpuint(nc_placement_choose(f, 0, &terms), ==, NC_FLEET_NONE);
  g_autofree char *complaint = nc_placement_complaint(f, 0, &terms);
  g_assert_nonnull(strstr(complaint, "of 9 nodes 1 is its own, 1 is down, 2 are cordoned, 1 lacks a label, 1 is busy, 1 lacks processors, "
                                     "1 lacks disk (disk: 0 MiB of disk needed, 0 free), 1 lacks memory (it needs 2048 MiB, the most free is 1024 MiB)"));
}

static bool
is_odd(uint32_t node, const void *user_data)
{
  return node % 2 == 1;
}

/* The search against looking at all. */
static void
test_the_choice_is_the_best_of_all(void)
{
  unsigned chosen = 0, none = 0;

  for (unsigned round = 0; round < 60; round++) {
    unsigned count = (unsigned)g_test_rand_int_range(2, 60);
    g_autoptr(NcFleet) f = any_fleet(count, 5 * count);
    g_autofree unsigned *incoming = g_new0(unsigned, count);
    NcPlacementTerms terms = { .incoming = incoming, .in_limit = (unsigned)g_test_rand_int_range(0, 3) };
    for (unsigned i = 0; i < count; i++)
      incoming[i] = (unsigned)g_test_rand_int_range(0, 4);
    terms.failed = (uint32_t)g_test_rand_int_range(0, (gint32)count);
    terms.is_excluded = g_test_rand_bit() ? is_odd : NULL;
    for (uint32_t m = 0; m < nc_fleet_machine_count(f); m++) {
      uint32_t node = nc_placement_choose(f, m, &terms);
      json_t *explanation = nc_placement_explain(f, m, &terms);
      g_assert_cmpstr(json_string_value(json_object_get(explanation, "chosen")), ==,
                      node == NC_FLEET_NONE ? NULL : nc_fleet_node(f, node)->name);
      json_decref(explanation);
      *(node == NC_FLEET_NONE ? &none : &chosen) += 1;
      if (node != NC_FLEET_NONE && g_test_rand_int_range(0, 3) == 0 && nc_fleet_reserve(f, m, node) && g_test_rand_bit())
        nc_fleet_arrive(f, m);
    }
    check_fleet(f);
  }
  g_assert_cmpuint(chosen, >, 0);
  g_assert_cmpuint(none, >, 0);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/placement/names_and_room", test_names_and_room);
  g_test_add_func("/placement/reservations", test_reservations);
  g_test_add_func("/placement/ways", test_ways);
  g_test_add_func("/placement/every_reason_is_named", test_every_reason_is_named);
  g_test_add_func("/placement/the_choice_is_the_best_of_all", test_the_choice_is_the_best_of_all);
  return g_test_run();
}
