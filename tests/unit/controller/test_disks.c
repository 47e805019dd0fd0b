/* SPDX-License-Identifier: Apache-2.0 */
/* Room for disks, as nodes and machines tell of it: asked for, written if it is news, reserved, and told of where it is
 * lacking. */
#include "world.h"

#include <string.h>

#define MIB ((json_int_t)1 << 20)
#define SHARED "; a disk that both nodes see needs none, with `shared = yes` in the machine's file"

/* ${mib} of disks in /srv/vm for machine ${name} on node ${node}, as its agent says it. */
static void
see(World *w, const char *name, const char *node, int mib)
{
  g_autoptr(GError) error = NULL;
  NcMachineRecord record;
  nc_autojson json_t *said =
      json_pack("{s:s, s:s, s:i, s:i, s:i, s:s, s:[{s:s, s:I}]}", "name", name, "state", "running", "memory_mib", 1024,
                "vcpus", 1, "epoch", 5, "right", "held", "disks", "directory", "/srv/vm", "bytes", mib * MIB);

  assert_works(nc_controller_read_machine(node, said, &record, &error), error);
  g_assert_cmpuint(record.need.disk_bytes, ==, (uint64_t)(mib * MIB));
  assert_works(nc_controller_see_machines(w->controller, &record, 1, &error), error);
}

/* Likewise, but its node knows nothing of its disks: a file system hangs since novacrond began there. */
static void
see_without(World *w, const char *name, const char *node)
{
  g_autoptr(GError) error = NULL;
  NcMachineRecord record;
  nc_autojson json_t *said = json_pack("{s:s, s:s, s:i, s:i, s:i, s:s}", "name", name, "state", "running", "memory_mib",
                                       1024, "vcpus", 1, "epoch", 5, "right", "held");

  assert_works(nc_controller_read_machine(node, said, &record, &error), error);
  assert_works(nc_controller_see_machines(w->controller, &record, 1, &error), error);
}

static void
tell_at(World *w, NcController *c, const char *node, int free_mib, int arriving_mib)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *said = json_pack("[{s:[s], s:I, s:I, s:b}]", "directories", "/srv/vm", "free_bytes",
                                       free_mib * MIB, "arriving_bytes", arriving_mib * MIB, "is_missing", 0);
  assert_works(nc_controller_see_disks(c, node, said, &error), error);
}

static void
tell(World *w, const char *node, int free_mib, int arriving_mib)
{
  tell_at(w, w->controller, node, free_mib, arriving_mib);
}

/* As the database has it; -1: nothing is said. */
static json_int_t
free_mib(World *w, const char *node)
{
  nc_autojson json_t *row = nc_fleetdb_get_node(w->bed.db, node, NULL);
  json_t *entry = json_array_get(json_object_get(row, "file_systems"), 0);
  return entry ? json_integer_value(json_object_get(entry, "free_bytes")) / MIB : -1;
}

/* Two nodes, of which b tells of its file systems; web1 and web2 with 600 MiB each are on a. */
static World *
world_with_disks(void)
{
  World *w = world_new(7);

  world_lead(w);
  world_add_node(w, "a", 64);
  world_add_node(w, "b", 64);
  world_turn(w, 0, 1);
  world_add_machine(w, "web1", "a", 1, NC_PRIORITY_NORMAL);
  world_add_machine(w, "web2", "a", 1, NC_PRIORITY_NORMAL);
  see(w, "web1", "a", 600);
  see(w, "web2", "a", 600);
  return w;
}

/* How many would move from a; *ret_reason: of the first that can't, "" if all can. Caller frees. */
static size_t
plan(World *w, char **ret_reason)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *body = json_of("{'nodes': ['a']}");
  nc_autojson json_t *answer = nc_controller_plan_evacuation(w->controller, body, &error);
  json_t *stays = json_array_get(json_object_get(answer, "cannot_move"), 0);

  g_assert_no_error(error);
  *ret_reason = g_strdup(stays ? json_string_value(json_object_get(stays, "reason")) : "");
  return json_array_size(json_object_get(answer, "moves"));
}

static void
assert_plan(World *w, size_t moves, const char *lack)
{
  g_autofree char *reason = NULL;
  g_assert_cmpuint(plan(w, &reason), ==, moves);
  g_assert_true(lack ? strstr(reason, lack) != NULL : reason[0] == '\0');
}

static void
plans_count_disks(void)
{
  g_autoptr(GError) error = NULL;
  World *w = world_with_disks();
  nc_autojson json_t *directories = nc_controller_directories(w->controller), *wanted = json_of("['/srv/vm']");

  g_assert_true(json_equal(directories, wanted));
  assert_plan(w, 2, NULL); /* b has not said anything */
  tell(w, "b", 1000, 0);
  assert_plan(w, 1, "1 lacks disk (b: 600 MiB of disk needed in /srv/vm, 400 free" SHARED ")");
  nc_autojson json_t *missing =
      json_of("[{'directories': ['/srv/vm'], 'free_bytes': 0, 'arriving_bytes': 0, 'is_missing': true}]");
  assert_works(nc_controller_see_disks(w->controller, "b", missing, &error), error);
  assert_plan(w, 0, "(b: there is no directory /srv/vm, where its disks go)");
  tell(w, "b", 1300, 0);
  assert_plan(w, 2, NULL);
  see(w, "web2", "a", 900); /* it has grown */
  assert_plan(w, 1, "900 MiB of disk needed in /srv/vm, 700 free");
  tell(w, "b", 0, 0);
  assert_plan(w, 0, "lacks disk");
  assert_works(nc_controller_see_disks(w->controller, "b", NULL, &error), error); /* an older version again */
  g_assert_cmpint(free_mib(w, "b"), ==, -1);
  assert_plan(w, 2, NULL);
  world_free(w);
}

static void
what_is_known_of_disks_stays(void)
{
  g_autoptr(GError) error = NULL;
  World *w = world_with_disks();

  tell(w, "b", 1000, 0);
  see_without(w, "web1", "a");
  see_without(w, "web2", "a");
  assert_plan(w, 1, "600 MiB of disk needed in /srv/vm, 400 free");
  world_kill(w); /* another one reads it from the database */
  world_lead(w);
  world_turn(w, SECOND, 1);
  assert_plan(w, 1, "600 MiB of disk needed in /srv/vm, 400 free");
  nc_autojson json_t *said = json_of("{'name': 'web2', 'state': 'running', 'memory_mib': 1024, 'vcpus': 1, 'epoch': 5,"
                                     " 'right': 'held', 'disks': []}");
  NcMachineRecord record;
  assert_works(nc_controller_read_machine("a", said, &record, &error), error);
  assert_works(nc_controller_see_machines(w->controller, &record, 1, &error), error);
  assert_plan(w, 2, NULL); /* it has none any more */
  world_free(w);
}

static void
only_news_are_written(void)
{
  g_autoptr(GError) error = NULL;
  World *w = world_with_disks();
  nc_autojson json_t *nothing = json_array();

  g_assert_cmpint(free_mib(w, "b"), ==, -1);
  assert_works(nc_controller_see_disks(w->controller, "b", nothing, &error), error); /* asked of no directory */
  g_assert_cmpint(free_mib(w, "b"), ==, -1);
  tell(w, "b", 1000, 0);
  g_assert_cmpint(free_mib(w, "b"), ==, 1000);
  tell(w, "b", 1020, 0);
  tell(w, "b", 980, 500); /* nothing is promised, so that all of it is somebody else's */
  g_assert_cmpint(free_mib(w, "b"), ==, 1000);
  tell(w, "b", 960, 0);
  g_assert_cmpint(free_mib(w, "b"), ==, 960);
  assert_works(nc_controller_see_disks(w->controller, "nobody", nothing, &error), error);
  world_free(w);
}

/* A migration's room is promised from its start; what it has written is not taken off once more; at its end it is used.
 */
static void
what_is_under_way_is_promised(void)
{
  g_autoptr(GError) error = NULL;
  World *w = world_with_disks();
  nc_autojson json_t *body = json_of("{'machine': 'web1', 'destination': 'b'}"),
                     *other = json_of("{'machine': 'web2', 'destination': 'b'}");

  w->least_run_us = w->most_run_us = 100 * SECOND;
  tell(w, "b", 1000, 0);
  nc_autojson json_t *made = nc_controller_migrate(w->controller, &somebody, body, &error);
  g_assert_no_error(error);
  world_turn(w, SECOND, 3);
  g_assert_cmpuint(world_running(w), ==, 1);
  assert_plan(w, 0, "600 MiB of disk needed in /srv/vm, 400 free");
  tell(w, "b", 500, 500); /* half of it is there */
  assert_plan(w, 0, "600 MiB of disk needed in /srv/vm, 400 free");
  nc_autojson json_t *waits = nc_controller_migrate(w->controller, &somebody, other, &error);
  g_assert_no_error(error);
  world_turn(w, SECOND, 3);
  nc_autojson json_t *row =
      nc_controller_describe(w->controller, json_string_value(json_object_get(waits, "id")), &error);
  g_assert_cmpstr(json_string_value(json_object_get(json_object_get(row, "live"), "waits")), ==,
                  "node \"b\" can't take web2 (disk: 600 MiB of disk needed in /srv/vm, 400 free" SHARED ")");
  nc_autojson json_t *told = nc_controller_explain(w->controller, "web2", &error);
  g_assert_no_error(error);
  g_assert_true(json_is_null(json_object_get(told, "chosen")));
  g_assert_cmpstr(json_string_value(json_object_get(json_array_get(json_object_get(told, "nodes"), 1), "detail")), ==,
                  "600 MiB of disk needed in /srv/vm, 400 free" SHARED);
  assert_fails(nc_controller_explain(w->controller, "nobody", &error) != NULL, error, NC_ERROR_NOT_FOUND);
  world_kill(w); /* another one goes on with it, and b's word is old by now */
  world_lead(w);
  world_turn(w, SECOND, 1);
  tell(w, "b", 450, 550);
  assert_plan(w, 0, "600 MiB of disk needed in /srv/vm, 400 free");
  world_turn(w, SECOND, 150);
  g_assert_cmpstr(world_place(w, "web1"), ==, "b");
  g_assert_cmpstr(world_place(w, "web2"), ==, "a"); /* b has not said that there is more */
  tell(w, "b", 650, 0);
  world_turn(w, SECOND, 150);
  g_assert_cmpstr(world_place(w, "web2"), ==, "b");
  world_free(w);
}

/* b says nothing new, but a does. */
static void
machines_need_less(void)
{
  g_autoptr(GError) error = NULL;
  World *w = world_with_disks();
  nc_autojson json_t *body = json_of("{'machine': 'web1', 'destination': 'b'}"),
                     *other = json_of("{'machine': 'web2', 'destination': 'b'}");

  w->least_run_us = w->most_run_us = 1000 * SECOND;
  tell(w, "b", 500, 0);
  nc_autojson json_t *made = nc_controller_migrate(w->controller, &somebody, body, &error);
  g_assert_no_error(error);
  nc_autojson json_t *waits = nc_controller_migrate(w->controller, &somebody, other, &error);
  g_assert_no_error(error);
  world_turn(w, SECOND, 3);
  g_assert_cmpuint(world_running(w), ==, 0);
  see(w, "web1", "a", 450);
  world_turn(w, SECOND, 3);
  g_assert_cmpuint(world_running(w), ==, 1);
  see(w, "web2", "a", 200);
  world_turn(w, SECOND, 3);
  g_assert_cmpuint(world_running(w), ==, 1);
  see(w, "web1", "a", 300); /* which is on its way */
  world_turn(w, SECOND, 3);
  g_assert_cmpuint(world_running(w), ==, 2);
  world_free(w);
}

static void
nonsense_is_refused(void)
{
  static const char *const bad[] = {
    "{}",
    "[5]",
    "[{'directories': ['/a'], 'free_bytes': 5}]",
    "[{'directories': ['a'], 'free_bytes': 5, 'arriving_bytes': 0}]",
    "[{'directories': ['/a\\n'], 'free_bytes': 5, 'arriving_bytes': 0}]",
    "[{'directories': '/a', 'free_bytes': 5, 'arriving_bytes': 0}]",
    "[{'directories': ['/a'], 'free_bytes': -5, 'arriving_bytes': 0}]",
    "[{'directories': ['/a'], 'free_bytes': 5, 'arriving_bytes': 9223372036854775807}]",
  };
  static const char *const bad_disks[] = { "{}",
                                           "[5]",
                                           "[{'directory': 'a', 'bytes': 5}]",
                                           "[{'directory': '/a\\u001b', 'bytes': 5}]",
                                           "[{'directory': '/a', 'bytes': -5}]",
                                           "[{'directory': '/a', 'bytes': 9223372036854775807}]",
                                           "[{'bytes': 5}]" };
  g_autoptr(GError) error = NULL;
  World *w = world_with_disks();
  NcMachineRecord record;

  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    nc_autojson json_t *said = json_of(bad[i]);
    assert_fails(nc_controller_see_disks(w->controller, "b", said, &error), error, NC_ERROR_PROTOCOL);
  }
  for (size_t i = 0; i < G_N_ELEMENTS(bad_disks); i++) {
    nc_autojson json_t *said =
        json_of("{'name': 'm', 'state': 'running', 'memory_mib': 1, 'vcpus': 1, 'epoch': 1, 'right': 'held'}");
    json_object_set_new(said, "disks", json_of(bad_disks[i]));
    assert_fails(nc_controller_read_machine("a", said, &record, &error), error, NC_ERROR_PROTOCOL);
  }
  g_assert_cmpint(free_mib(w, "b"), ==, -1);
  world_free(w);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/controller/disks/plans_count_disks", plans_count_disks);
  g_test_add_func("/controller/disks/what_is_known_of_disks_stays", what_is_known_of_disks_stays);
  g_test_add_func("/controller/disks/only_news_are_written", only_news_are_written);
  g_test_add_func("/controller/disks/what_is_under_way_is_promised", what_is_under_way_is_promised);
  g_test_add_func("/controller/disks/machines_need_less", machines_need_less);
  g_test_add_func("/controller/disks/nonsense_is_refused", nonsense_is_refused);
  return g_test_run();
}
