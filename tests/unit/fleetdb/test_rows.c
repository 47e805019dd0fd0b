/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of fleetdb/inventory.h, groups.h, events.h and access.h. */
#include "base/ident.h"
#include "crypto/digest.h"
#include "support.h"

#include <string.h>

/* What a write is given, and gives back. */
typedef struct {
  const char *name, *other;
  uint64_t number;
  bool flag;
  json_t *value;
} Arguments;

static bool
run(Bed *bed, NcFleetWriteFunc func, Arguments *arguments, GError **error)
{
  return nc_fleetdb_write(bed->db, bed->epoch, func, arguments, error);
}

/* --- nodes and machines --- */

static bool
put_node(NcFleetDb *db, gpointer data, GError **error)
{
  const Arguments *a = data;
  nc_autojson json_t *labels = json_pack("[s, s]", "ssd", "it's \"quoted\" \u00e9");
  const NcNodeRecord node = { .name = a->name, .address = "host:7450", .capacity = { 64, 100, 8 }, .rate_bps = a->number, .labels = labels };
  return nc_fleetdb_put_node(db, &node, error);
}

static bool
cordon(NcFleetDb *db, gpointer data, GError **error)
{
  const Arguments *a = data;
  return nc_fleetdb_set_cordoned(db, a->name, a->flag, a->other, error);
}

static bool
remove_node(NcFleetDb *db, gpointer data, GError **error)
{
  const Arguments *a = data;
  return nc_fleetdb_remove_node(db, a->name, error);
}

static bool
see_machine(NcFleetDb *db, gpointer data, GError **error)
{
  Arguments *a = data;
  const NcMachineRecord machine = { .name = a->name, .node = a->other, .epoch = a->number, .state = "running", .need = { 4, 10, 2 },
                                    .priority = NC_PRIORITY_HIGH };
  return nc_fleetdb_see_machine(db, &machine, &a->flag, error);
}

static void
a_cordon_outlives_joining_again(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  Arguments a = { .name = "a", .number = 10 };

  assert_fails(run(bed, cordon, &a, &error), error, NC_ERROR_NOT_FOUND);
  assert_works(run(bed, put_node, &a, &error), error);
  a.flag = true;
  a.other = "evac-1";
  assert_works(run(bed, cordon, &a, &error), error);
  a.number = 20;
  assert_works(run(bed, put_node, &a, &error), error);
  nc_autojson json_t *node = nc_fleetdb_get_node(bed->db, "a", &error);
  g_assert_no_error(error);
  g_assert_true(json_is_true(json_object_get(node, "is_cordoned")));
  g_assert_cmpstr(json_string_value(json_object_get(node, "evacuation")), ==, "evac-1");
  g_assert_cmpint(json_integer_value(json_object_get(node, "rate_bps")), ==, 20);
  g_assert_cmpstr(json_string_value(json_array_get(json_object_get(node, "labels"), 1)), ==, "it's \"quoted\" \u00e9");
  a.flag = false;
  a.other = NULL;
  assert_works(run(bed, cordon, &a, &error), error);
  nc_autojson json_t *again = nc_fleetdb_get_node(bed->db, "a", &error);
  g_assert_true(json_is_false(json_object_get(again, "is_cordoned")));
  g_assert_cmpstr(json_string_value(json_object_get(again, "evacuation")), ==, "evac-1");
  a.name = "not a name";
  assert_fails(run(bed, put_node, &a, &error), error, NC_ERROR_INVALID);
}

static void
the_greater_epoch_says_where_a_machine_is(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  Arguments a = { .name = "web1", .other = "a", .number = 3 };

  assert_works(run(bed, see_machine, &a, &error), error);
  a = (Arguments){ .name = "web1", .other = "b", .number = 4 };
  assert_works(run(bed, see_machine, &a, &error), error);
  g_assert_true(a.flag);
  a = (Arguments){ .name = "web1", .other = "a", .number = 3 }; /* it was cut off, and still believes that */
  assert_works(run(bed, see_machine, &a, &error), error);
  g_assert_false(a.flag);
  nc_autojson json_t *machine = nc_fleetdb_get_machine(bed->db, "web1", &error);
  g_assert_cmpstr(json_string_value(json_object_get(machine, "node")), ==, "b");
  g_assert_cmpint(json_integer_value(json_object_get(machine, "epoch")), ==, 4);
}

static bool
see_machine_with_disks(NcFleetDb *db, gpointer data, GError **error)
{
  Arguments *a = data;
  const NcMachineRecord machine = {
    .name = a->name, .node = a->other, .epoch = a->number, .state = "running", .need = { 4, a->value ? 10 : 0, 2 }, .disks = a->value
  };
  return nc_fleetdb_see_machine(db, &machine, &a->flag, error);
}

static bool
set_file_systems(NcFleetDb *db, gpointer data, GError **error)
{
  const Arguments *a = data;
  return nc_fleetdb_set_file_systems(db, a->name, a->value, error);
}

static void
assert_has(json_t *row, const char *key, json_t *value)
{
  g_assert_true(json_equal(json_object_get(row, key), value));
}

/* What nodes have for disks, and machines need, comes back as it was said; what else becomes known of a node leaves it alone. */
static void
disks_are_kept(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *none = json_array(), *newer = json_pack("[{s:s, s:I}]", "directory", "/srv/it's \u00e9", "bytes", (json_int_t)1 << 49);
  nc_autojson json_t *file_systems =
      json_pack("[{s:[s, s], s:I, s:b}]", "directories", "/srv/vm", "/srv/db", "free_bytes", (json_int_t)1 << 50, "is_missing", 0);
  Arguments a = { .name = "a", .value = file_systems };

  assert_fails(run(bed, set_file_systems, &a, &error), error, NC_ERROR_NOT_FOUND);
  assert_works(run(bed, put_node, &a, &error), error);
  nc_autojson json_t *new = nc_fleetdb_get_node(bed->db, "a", &error);
  assert_has(new, "file_systems", none);
  assert_works(run(bed, set_file_systems, &a, &error), error);
  a.number = 30;
  assert_works(run(bed, put_node, &a, &error), error);
  nc_autojson json_t *node = nc_fleetdb_get_node(bed->db, "a", &error);
  assert_has(node, "file_systems", file_systems);
  a = (Arguments){ .name = "web1", .other = "a", .number = 3 };
  assert_works(run(bed, see_machine, &a, &error), error);
  nc_autojson json_t *without = nc_fleetdb_get_machine(bed->db, "web1", &error);
  assert_has(without, "disks", none);
  a.value = newer;
  assert_works(run(bed, see_machine_with_disks, &a, &error), error);
  a.number = 2; /* old news */
  a.value = none;
  assert_works(run(bed, see_machine_with_disks, &a, &error), error);
  nc_autojson json_t *machine = nc_fleetdb_get_machine(bed->db, "web1", &error);
  assert_has(machine, "disks", newer);
  g_assert_cmpint(json_integer_value(json_object_get(machine, "disk_bytes")), ==, 10);
  a = (Arguments){ .name = "web1", .other = "b", .number = 4 }; /* nothing is said of them, but else it is news */
  assert_works(run(bed, see_machine_with_disks, &a, &error), error);
  nc_autojson json_t *silent = nc_fleetdb_get_machine(bed->db, "web1", &error);
  assert_has(silent, "disks", newer);
  g_assert_cmpstr(json_string_value(json_object_get(silent, "node")), ==, "b");
  g_assert_cmpint(json_integer_value(json_object_get(silent, "disk_bytes")), ==, 10);
  a.value = none; /* it has none any more */
  assert_works(run(bed, see_machine_with_disks, &a, &error), error);
  nc_autojson json_t *bare = nc_fleetdb_get_machine(bed->db, "web1", &error);
  assert_has(bare, "disks", none);
}

static bool
tell_without_right(NcFleetDb *db, gpointer data, GError **error)
{
  Arguments *a = data;
  const NcMachineRecord machine = { .name = a->name, .node = a->other, .epoch = a->number, .lacks_right = true, .state = "moved" };
  a->flag = true;
  return nc_fleetdb_see_machine(db, &machine, &a->flag, error);
}

static void
assert_machine(Bed *bed, const char *node, int64_t epoch, const char *state)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *machine = nc_fleetdb_get_machine(bed->db, "web1", &error);
  g_assert_no_error(error);
  g_assert_cmpstr(json_string_value(json_object_get(machine, "node")), ==, node);
  g_assert_cmpint(json_integer_value(json_object_get(machine, "epoch")), ==, epoch);
  g_assert_cmpstr(json_string_value(json_object_get(machine, "state")), ==, state);
}

/* Source and destination tell of the same epoch; only one of them has the machine. */
static void
a_machine_is_where_its_right_is_held(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  Arguments on_a = { .name = "web1", .other = "a", .number = 3 }, on_b = { .name = "web1", .other = "b", .number = 4 };

  assert_works(run(bed, tell_without_right, &on_b, &error), error); /* known to nobody */
  g_assert_false(on_b.flag);
  assert_fails(nc_fleetdb_get_machine(bed->db, "web1", &error) != NULL, error, NC_ERROR_NOT_FOUND);
  assert_works(run(bed, see_machine, &on_a, &error), error);
  assert_works(run(bed, tell_without_right, &on_b, &error), error); /* it comes */
  assert_machine(bed, "a", 3, "running");
  assert_works(run(bed, see_machine, &on_a, &error), error); /* or does not: a is listened to as before */
  g_assert_true(on_a.flag);

  on_a.number = 4;
  assert_works(run(bed, tell_without_right, &on_a, &error), error); /* it has left a, and nobody has said where it is */
  g_assert_false(on_a.flag);
  assert_machine(bed, "a", 3, "moved");
  assert_works(run(bed, see_machine, &on_b, &error), error);
  g_assert_true(on_b.flag);
  assert_works(run(bed, tell_without_right, &on_a, &error), error);
  assert_machine(bed, "b", 4, "running");
}

static void
a_node_with_migrations_stays(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  Arguments a = { .name = "a" }, machine = { .name = "web1", .other = "a", .number = 1 };
  unsigned attempt;

  assert_works(run(bed, put_node, &a, &error), error);
  assert_works(run(bed, see_machine, &machine, &error), error);
  assert_works(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error);
  assert_fails(run(bed, remove_node, &a, &error), error, NC_ERROR_CONFLICT);
  assert_works(db_start(bed->db, bed->epoch, "mig-1", &attempt, &error), error);
  assert_works(db_step(bed->db, bed->epoch, "mig-1", 1, NC_MOVE_COMPLETED, &error), error);
  assert_works(run(bed, remove_node, &a, &error), error);
  assert_fails(nc_fleetdb_get_node(bed->db, "a", &error) != NULL, error, NC_ERROR_NOT_FOUND);
  assert_fails(nc_fleetdb_get_machine(bed->db, "web1", &error) != NULL, error, NC_ERROR_NOT_FOUND);
  assert_fails(run(bed, remove_node, &a, &error), error, NC_ERROR_NOT_FOUND);
}

static void
nodes_and_machines_page_by_name(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *next = NULL, *end = NULL, *rest = NULL;

  for (int i = 0; i < 5; i++) {
    g_autofree char *name = g_strdup_printf("node-%d", i), *vm = g_strdup_printf("vm-%d", i);
    Arguments a = { .name = name }, m = { .name = vm, .other = i % 2 ? "odd" : "even" };
    assert_works(run(bed, put_node, &a, &error), error);
    assert_works(run(bed, see_machine, &m, &error), error);
  }
  nc_autojson json_t *first = nc_fleetdb_list_nodes(bed->db, &(NcPage){ NULL, 3 }, &next, &error);
  g_assert_cmpuint(json_array_size(first), ==, 3);
  g_assert_cmpstr(next, ==, "node:node-2");
  nc_autojson json_t *second = nc_fleetdb_list_nodes(bed->db, &(NcPage){ next, 3 }, &end, &error);
  g_assert_cmpuint(json_array_size(second), ==, 2);
  g_assert_null(end);
  nc_autojson json_t *machines = nc_fleetdb_list_machines(bed->db, "even", &(NcPage){ NULL, 3 }, &rest, &error);
  g_assert_cmpuint(json_array_size(machines), ==, 3);
  g_assert_null(rest);
}

/* --- groups --- */

static bool
add_evacuation(NcFleetDb *db, gpointer data, GError **error)
{
  const Arguments *a = data;
  static const char *const nodes[] = { "a", NULL };
  const NcEvacuationItem items[] = { { .machine = "web1", .source = "a", .destination = "b" },
                                     { .machine = "web2", .source = "a", .destination = "b", .wave = 1 },
                                     { .machine = "big", .source = "a", .reason = "fits nowhere" } };
  const NcEvacuationRecord evacuation = { .id = a->name, .nodes = nodes, .actor = "uid:0", .items = items, .count = G_N_ELEMENTS(items) };
  return nc_fleetdb_add_evacuation(db, &evacuation, error);
}

static bool
set_evacuation(NcFleetDb *db, gpointer data, GError **error)
{
  const Arguments *a = data;
  return nc_fleetdb_set_evacuation(db, a->name, a->other, "because", error);
}

static bool
submit_item(NcFleetDb *db, gpointer data, GError **error)
{
  const Arguments *a = data;
  const NcMoveRequest request = { .id = a->other, .machine = a->name, .source = "a", .priority = NC_PRIORITY_LOW, .evacuation = "evac-1",
                                  .actor = "uid:0" };
  return nc_fleetdb_submit(db, &request, error) && nc_fleetdb_set_item(db, "evac-1", a->name, a->other, NULL, error);
}

/* ${other}: where to. */
static bool
start_from_a(NcFleetDb *db, gpointer data, GError **error)
{
  const Arguments *a = data;
  unsigned attempt;
  return nc_fleetdb_start(db, a->name, "a", a->other, &attempt, error);
}

static void
what_is_left_of_an_evacuation_is_known(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  Arguments a = { .name = "evac-1", .other = "running" }, item = { .name = "web1", .other = "mig-1" };

  assert_works(run(bed, add_evacuation, &a, &error), error);
  assert_fails(run(bed, add_evacuation, &a, &error), error, NC_ERROR_EXISTS);
  assert_works(run(bed, set_evacuation, &a, &error), error);
  assert_works(run(bed, submit_item, &item, &error), error);
  item.other = "mig-2";
  assert_fails(run(bed, submit_item, &item, &error), error, NC_ERROR_CONFLICT);
  item.name = "stranger";
  assert_fails(run(bed, submit_item, &item, &error), error, NC_ERROR_NOT_FOUND);
  assert_fails(nc_fleetdb_get_migration(bed->db, "mig-2", &error) != NULL, error, NC_ERROR_NOT_FOUND); /* undone with its item */

  nc_autojson json_t *items = nc_fleetdb_list_items(bed->db, "evac-1", &(NcPage){ 0 }, NULL, &error);
  g_assert_cmpuint(json_array_size(items), ==, 3);
  g_assert_cmpstr(json_string_value(json_object_get(json_array_get(items, 0), "migration")), ==, "mig-1");
  g_assert_cmpstr(json_string_value(json_object_get(json_array_get(items, 1), "migration")), ==, "");
  g_assert_cmpstr(json_string_value(json_object_get(json_array_get(items, 0), "goes_to")), ==, "b"); /* nobody knows better yet */
  g_assert_cmpstr(json_string_value(json_object_get(json_array_get(items, 1), "goes_to")), ==, "b");
  g_assert_cmpint(json_integer_value(json_object_get(json_array_get(items, 1), "wave")), ==, 1);
  g_assert_cmpstr(json_string_value(json_object_get(json_array_get(items, 2), "reason")), ==, "fits nowhere");
  g_assert_cmpstr(json_string_value(json_object_get(json_array_get(items, 0), "state")), ==, "queued");
  g_assert_cmpstr(json_string_value(json_object_get(json_array_get(items, 1), "state")), ==, "");
  Arguments elsewhere = { .name = "mig-1", .other = "c" };
  assert_works(run(bed, start_from_a, &elsewhere, &error), error);
  nc_autojson json_t *begun = nc_fleetdb_list_items(bed->db, "evac-1", &(NcPage){ .limit = 1 }, NULL, &error);
  g_assert_cmpstr(json_string_value(json_object_get(json_array_get(begun, 0), "destination")), ==, "b");
  g_assert_cmpstr(json_string_value(json_object_get(json_array_get(begun, 0), "goes_to")), ==, "c");
  nc_autojson json_t *counts = nc_fleetdb_count_migrations(bed->db, NULL, "evac-1", &error);
  g_assert_cmpint(json_integer_value(json_object_get(counts, "starting")), ==, 1);
  uint64_t pending = 0;
  assert_works(nc_fleetdb_count_pending_items(bed->db, "evac-1", &pending, &error), error);
  g_assert_cmpuint(pending, ==, 1);
}

static void
an_evacuation_does_not_leave_its_end(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  Arguments a = { .name = "evac-1" };

  assert_works(run(bed, add_evacuation, &a, &error), error);
  a.other = "cancelling";
  assert_works(run(bed, set_evacuation, &a, &error), error);
  a.other = "running";
  assert_fails(run(bed, set_evacuation, &a, &error), error, NC_ERROR_CONFLICT);
  a.other = "planned";
  assert_fails(run(bed, set_evacuation, &a, &error), error, NC_ERROR_INTERNAL);
  a.other = "cancelled";
  assert_works(run(bed, set_evacuation, &a, &error), error);
  a.other = "failed";
  assert_fails(run(bed, set_evacuation, &a, &error), error, NC_ERROR_CONFLICT);
  nc_autojson json_t *open = nc_fleetdb_list_evacuations(bed->db, true, &(NcPage){ 0 }, NULL, &error);
  g_assert_cmpuint(json_array_size(open), ==, 0);
  a.name = "evac-2";
  assert_fails(run(bed, set_evacuation, &a, &error), error, NC_ERROR_NOT_FOUND);
}

static bool
add_batch(NcFleetDb *db, gpointer data, GError **error)
{
  const Arguments *a = data;
  return nc_fleetdb_add_batch(db, a->name, "all", "uid:0", a->value, error);
}

static void
batches_are_kept(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *detail = json_pack("{s:[{s:s}]}", "refused", "machine", "web1");
  Arguments a = { .name = "batch-1", .value = detail };

  assert_works(run(bed, add_batch, &a, &error), error);
  assert_fails(run(bed, add_batch, &a, &error), error, NC_ERROR_EXISTS);
  nc_autojson json_t *batch = nc_fleetdb_get_batch(bed->db, "batch-1", &error);
  g_assert_true(json_equal(json_object_get(batch, "detail"), detail));
  nc_autojson json_t *all = nc_fleetdb_list_batches(bed->db, &(NcPage){ 0 }, NULL, &error);
  g_assert_cmpuint(json_array_size(all), ==, 1);
}

/* --- events --- */

static bool
add_event(NcFleetDb *db, gpointer data, GError **error)
{
  Arguments *a = data;
  const NcFleetEvent event = { .kind = "test", .subject = "s", .migration = a->name };
  return nc_fleetdb_add_event(db, &event, &a->number, error) && (!a->flag || nc_fail(error, NC_ERROR_INVALID, "no"));
}

static void
events_go_on_where_they_were(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  uint64_t last = 0, oldest, newest;

  for (int i = 0; i < 10; i++) {
    Arguments a = { .name = i % 2 ? "mig-1" : NULL, .flag = i == 5 };
    bool ok = run(bed, add_event, &a, &error);
    g_assert_cmpint(ok, ==, i != 5);
    g_clear_error(&error);
    if (ok) {
      g_assert_cmpuint(a.number, >, last);
      last = a.number;
    }
  }
  assert_works(nc_fleetdb_event_range(bed->db, &oldest, &newest, &error), error);
  g_assert_cmpuint(newest, ==, last);
  nc_autojson json_t *all = nc_fleetdb_list_events(bed->db, 0, NULL, 4, &error);
  g_assert_cmpuint(json_array_size(all), ==, 4);
  uint64_t seen = (uint64_t)json_integer_value(json_object_get(json_array_get(all, 3), "id"));
  nc_autojson json_t *rest = nc_fleetdb_list_events(bed->db, seen, NULL, 0, &error);
  g_assert_cmpuint(json_array_size(rest), ==, 5);
  nc_autojson json_t *own = nc_fleetdb_list_events(bed->db, 0, "mig-1", 0, &error);
  g_assert_cmpuint(json_array_size(own), ==, 4);
  nc_autojson json_t *none = nc_fleetdb_list_events(bed->db, G_MAXUINT64, NULL, 0, &error);
  g_assert_cmpuint(json_array_size(none), ==, 0);
}

static const char *
text_at(json_t *rows, size_t at, const char *key)
{
  return json_string_value(json_object_get(json_array_get(rows, at), key));
}

/* Its own and those of its migrations, in their order, and nobody else's. */
static void
events_of_a_group(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  Arguments a = { .name = "evac-1", .other = "running" }, item = { .name = "web1", .other = "mig-1" }, other = { .name = "mig-9" };

  assert_works(run(bed, add_event, &other, &error), error);
  assert_works(run(bed, add_evacuation, &a, &error), error);
  assert_works(run(bed, set_evacuation, &a, &error), error);
  assert_works(run(bed, submit_item, &item, &error), error);
  assert_works(run(bed, add_event, &other, &error), error);
  a.other = "completed";
  assert_works(run(bed, set_evacuation, &a, &error), error);

  nc_autojson json_t *all = nc_fleetdb_list_group_events(bed->db, 0, "evac-1", 0, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(json_array_size(all), ==, 4);
  g_assert_cmpstr(text_at(all, 0, "kind"), ==, "evacuation.state");
  g_assert_cmpstr(text_at(all, 2, "migration"), ==, "mig-1");
  g_assert_cmpstr(text_at(all, 3, "subject"), ==, "evac-1");
  uint64_t second = (uint64_t)json_integer_value(json_object_get(json_array_get(all, 1), "id"));
  nc_autojson json_t *rest = nc_fleetdb_list_group_events(bed->db, second, "evac-1", 1, &error);
  g_assert_cmpuint(json_array_size(rest), ==, 1);
  g_assert_cmpstr(text_at(rest, 0, "migration"), ==, "mig-1");
  nc_autojson json_t *none = nc_fleetdb_list_group_events(bed->db, 0, "bat-1", 0, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(json_array_size(none), ==, 0);
}

static bool
prune(NcFleetDb *db, gpointer data, GError **error)
{
  Arguments *a = data;
  const int64_t now = nc_wall_us() + 1;
  const NcPrune what = { .history_before_us = a->flag ? now : 0, .keys_before_us = now, .events_before_us = 0, .limit = 2 };
  return nc_fleetdb_prune(db, &what, &a->number, error);
}

static void
pruning_leaves_what_is_not_finished(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  Arguments a = { .number = 1 }, evacuation = { .name = "evac-1" }, item = { .name = "web1", .other = "mig-9" };
  uint64_t oldest, newest, before;
  unsigned attempt;

  assert_works(run(bed, add_evacuation, &evacuation, &error), error);
  assert_works(run(bed, submit_item, &item, &error), error);
  for (int i = 0; i < 5; i++) {
    g_autofree char *id = g_strdup_printf("mig-%d", i), *vm = g_strdup_printf("vm-%d", i);
    assert_works(db_submit(bed->db, bed->epoch, id, vm, &error), error);
    assert_works(db_start(bed->db, bed->epoch, id, &attempt, &error), error);
    if (i < 4)
      assert_works(db_step(bed->db, bed->epoch, id, 1, NC_MOVE_COMPLETED, &error), error);
  }
  assert_works(run(bed, prune, &a, &error), error);
  g_assert_cmpuint(a.number, ==, 0); /* nothing is so old */
  assert_works(nc_fleetdb_event_range(bed->db, &oldest, &before, &error), error);
  a.flag = true;
  do {
    assert_works(run(bed, prune, &a, &error), error);
  } while (a.number > 0);
  nc_autojson json_t *rows = nc_fleetdb_list_migrations(bed->db, &(NcMoveFilter){ 0 }, &(NcPage){ 0 }, NULL, &error);
  g_assert_cmpuint(json_array_size(rows), ==, 2); /* the one that runs, the one of the evacuation */
  nc_autojson json_t *items = nc_fleetdb_list_items(bed->db, "evac-1", &(NcPage){ 0 }, NULL, &error);
  g_assert_cmpuint(json_array_size(items), ==, 3);
  nc_autojson json_t *events = nc_fleetdb_list_events(bed->db, 0, "mig-1", 0, &error);
  g_assert_cmpuint(json_array_size(events), ==, 0);
  assert_works(nc_fleetdb_event_range(bed->db, &oldest, &newest, &error), error);
  g_assert_cmpuint(newest, ==, before); /* of the one that runs */
}

static bool
prune_events(NcFleetDb *db, gpointer data, GError **error)
{
  Arguments *a = data;
  const int64_t now = nc_wall_us() + 1;
  const NcPrune what = { .events_before_us = now, .history_before_us = now, .limit = 100 };
  return nc_fleetdb_prune(db, &what, &a->number, error);
}

/* Whoever has read up to some event has to see later that others came and went. */
static void
the_newest_event_is_never_pruned(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  Arguments a = { 0 };
  uint64_t oldest, newest, before;
  unsigned attempt;

  assert_works(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error);
  assert_works(db_start(bed->db, bed->epoch, "mig-1", &attempt, &error), error);
  assert_works(db_step(bed->db, bed->epoch, "mig-1", 1, NC_MOVE_COMPLETED, &error), error);
  assert_works(nc_fleetdb_event_range(bed->db, &oldest, &before, &error), error);
  g_assert_cmpuint(oldest, <, before);
  do {
    assert_works(run(bed, prune_events, &a, &error), error);
  } while (a.number > 0);
  assert_works(nc_fleetdb_event_range(bed->db, &oldest, &newest, &error), error);
  g_assert_cmpuint(oldest, ==, before);
  g_assert_cmpuint(newest, ==, before);
  /* Its migration goes when there is a newer one. */
  assert_works(db_submit(bed->db, bed->epoch, "mig-2", "web2", &error), error);
  do {
    assert_works(run(bed, prune_events, &a, &error), error);
  } while (a.number > 0);
  assert_fails(nc_fleetdb_get_migration(bed->db, "mig-1", &error) != NULL, error, NC_ERROR_NOT_FOUND);
  assert_works(nc_fleetdb_event_range(bed->db, &oldest, &newest, &error), error);
  g_assert_cmpuint(oldest, ==, newest);
  g_assert_cmpuint(newest, >, before);
}

/* What could not be read again is refused: one such row would make each page with it unreadable. */
static void
a_record_that_could_not_be_read_is_not_written(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *text = g_strnfill(NC_MSG_MAX_BYTES, 'x');
  nc_autojson json_t *large = json_pack("{s:s}", "why", text);
  Arguments a = { .name = "batch-1", .value = large };

  assert_fails(run(bed, add_batch, &a, &error), error, NC_ERROR_INVALID);
  text[NC_MSG_MAX_BYTES - strlen("{\"why\":\"\"}")] = '\0'; /* as large as it may be */
  nc_autojson json_t *largest = json_pack("{s:s}", "why", text);
  a = (Arguments){ .name = "batch-2", .value = largest };
  assert_works(run(bed, add_batch, &a, &error), error);
  nc_autojson json_t *got = nc_fleetdb_get_batch(bed->db, "batch-2", &error), *page = nc_fleetdb_list_batches(bed->db, &(NcPage){ 0 }, NULL, &error);
  g_assert_no_error(error);
  g_assert_true(json_equal(json_object_get(got, "detail"), largest));
  g_assert_cmpuint(json_array_size(page), ==, 1);
  g_assert_cmpuint(json_object_size(json_object_get(json_array_get(page, 0), "detail")), ==, 0); /* many of these would be more than an answer holds */
}

/* --- access --- */

static bool
add_token(NcFleetDb *db, gpointer data, GError **error)
{
  const Arguments *a = data;
  g_autofree char *hash = nc_sha256_hex("secret", 6);
  const NcFleetToken token = { .id = a->name, .kind = a->other, .subject = "robot", .role = "operator", .actor = "uid:0", .secret_sha256 = hash,
                               .expires_us = (int64_t)a->number };
  return nc_fleetdb_add_token(db, &token, error);
}

static bool
use_token(NcFleetDb *db, gpointer data, GError **error)
{
  Arguments *a = data;
  g_autofree char *hash = nc_sha256_hex(a->other, strlen(a->other));
  nc_autojson json_t *token = nc_fleetdb_use_token(db, a->name, hash, 50, error);
  return token != NULL;
}

static bool
end_token(NcFleetDb *db, gpointer data, GError **error)
{
  const Arguments *a = data;
  return nc_fleetdb_end_token(db, a->name, error);
}

static bool
is_good(Bed *bed, const char *id, const char *secret, int64_t now_us, GError **error)
{
  g_autofree char *hash = nc_sha256_hex(secret, strlen(secret));
  nc_autojson json_t *token = nc_fleetdb_check_token(bed->db, id, hash, now_us, error);
  g_assert_null(json_object_get(token, "secret_sha256"));
  return token != NULL;
}

static void
a_token_is_good_until_it_ends(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  Arguments a = { .name = "tok-1", .other = "bearer", .number = 100 };

  assert_works(run(bed, add_token, &a, &error), error);
  assert_fails(run(bed, add_token, &a, &error), error, NC_ERROR_EXISTS);
  assert_works(is_good(bed, "tok-1", "secret", 99, &error), error);
  assert_fails(is_good(bed, "tok-1", "secret", 100, &error), error, NC_ERROR_UNAUTHENTICATED);
  assert_fails(is_good(bed, "tok-1", "Secret", 99, &error), error, NC_ERROR_UNAUTHENTICATED);
  assert_fails(is_good(bed, "tok-2", "secret", 99, &error), error, NC_ERROR_UNAUTHENTICATED);
  assert_fails(is_good(bed, "tok-1' OR 1=1 --", "secret", 99, &error), error, NC_ERROR_UNAUTHENTICATED);
  a.other = "secret";
  assert_fails(run(bed, use_token, &a, &error), error, NC_ERROR_UNAUTHENTICATED); /* it is not for joining */
  nc_autojson json_t *list = nc_fleetdb_list_tokens(bed->db, &(NcPage){ 0 }, NULL, &error);
  g_assert_cmpuint(json_array_size(list), ==, 1);
  g_assert_null(json_object_get(json_array_get(list, 0), "secret_sha256"));
  assert_works(run(bed, end_token, &a, &error), error);
  assert_fails(run(bed, end_token, &a, &error), error, NC_ERROR_NOT_FOUND);
  assert_fails(is_good(bed, "tok-1", "secret", 99, &error), error, NC_ERROR_UNAUTHENTICATED);
}

static void
a_token_for_joining_is_good_once(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  Arguments a = { .name = "join-1", .other = "join" };

  assert_works(run(bed, add_token, &a, &error), error);
  assert_fails(is_good(bed, "join-1", "secret", 1, &error), error, NC_ERROR_UNAUTHENTICATED);
  a.other = "wrong";
  assert_fails(run(bed, use_token, &a, &error), error, NC_ERROR_UNAUTHENTICATED);
  a.other = "secret";
  assert_works(run(bed, use_token, &a, &error), error);
  assert_fails(run(bed, use_token, &a, &error), error, NC_ERROR_UNAUTHENTICATED);
}

static bool
ask(NcFleetDb *db, gpointer data, GError **error)
{
  Arguments *a = data;
  g_autofree char *hash = nc_sha256_hex(a->other, strlen(a->other));
  const NcIdempotencyKey key = { .actor = "robot", .key = a->name, .request_sha256 = hash };
  const NcMoveRequest request = { .id = a->flag ? "mig-2" : "mig-1", .machine = a->flag ? "web2" : "web1", .source = "a",
                                  .priority = NC_PRIORITY_LOW, .actor = "robot" };
  nc_autojson json_t *answer = json_pack("{s:s}", "id", request.id);

  json_decref(a->value);
  a->value = NULL;
  if (!nc_fleetdb_find_answer(db, &key, &a->value, error))
    return false;
  return a->value || (nc_fleetdb_submit(db, &request, error) && nc_fleetdb_keep_answer(db, &key, 201, answer, error));
}

static void
the_same_request_has_the_same_answer(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  Arguments a = { .name = "key-1", .other = "POST web1" };

  assert_works(run(bed, ask, &a, &error), error);
  g_assert_null(a.value);
  assert_works(run(bed, ask, &a, &error), error);
  g_assert_cmpint(json_integer_value(json_object_get(a.value, "status")), ==, 201);
  g_assert_cmpstr(json_string_value(json_object_get(json_object_get(a.value, "answer"), "id")), ==, "mig-1");
  a.other = "POST web2";
  assert_fails(run(bed, ask, &a, &error), error, NC_ERROR_CONFLICT);
  a.name = "key 2\n";
  assert_fails(run(bed, ask, &a, &error), error, NC_ERROR_INVALID);
  g_autofree char *longest = g_strnfill(NC_IDEMPOTENCY_KEY_MOST, 'k'), *longer = g_strnfill(NC_IDEMPOTENCY_KEY_MOST + 1, 'k');
  a.name = longer;
  assert_fails(run(bed, ask, &a, &error), error, NC_ERROR_INVALID);
  a.name = longest;
  a.flag = true;
  assert_works(run(bed, ask, &a, &error), error);
  nc_autojson json_t *rows = nc_fleetdb_list_migrations(bed->db, &(NcMoveFilter){ 0 }, &(NcPage){ 0 }, NULL, &error);
  g_assert_cmpuint(json_array_size(rows), ==, 2);
  json_decref(a.value);
}

#define ADD(path, func) g_test_add(path, Bed, NULL, db_setup, func, db_teardown)

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  ADD("/fleetdb/nodes/a_cordon_outlives_joining_again", a_cordon_outlives_joining_again);
  ADD("/fleetdb/nodes/with_migrations_they_stay", a_node_with_migrations_stays);
  ADD("/fleetdb/nodes/page_by_name", nodes_and_machines_page_by_name);
  ADD("/fleetdb/disks_are_kept", disks_are_kept);
  ADD("/fleetdb/machines/the_greater_epoch_counts", the_greater_epoch_says_where_a_machine_is);
  ADD("/fleetdb/machines/one_is_where_its_right_is_held", a_machine_is_where_its_right_is_held);
  ADD("/fleetdb/groups/what_is_left_is_known", what_is_left_of_an_evacuation_is_known);
  ADD("/fleetdb/groups/an_end_is_an_end", an_evacuation_does_not_leave_its_end);
  ADD("/fleetdb/groups/batches_are_kept", batches_are_kept);
  ADD("/fleetdb/events/go_on_where_they_were", events_go_on_where_they_were);
  ADD("/fleetdb/events/of_a_group", events_of_a_group);
  ADD("/fleetdb/events/pruning_leaves_what_is_not_finished", pruning_leaves_what_is_not_finished);
  ADD("/fleetdb/events/the_newest_is_never_pruned", the_newest_event_is_never_pruned);
  ADD("/fleetdb/rows/what_could_not_be_read_is_not_written", a_record_that_could_not_be_read_is_not_written);
  ADD("/fleetdb/access/a_token_is_good_until_it_ends", a_token_is_good_until_it_ends);
  ADD("/fleetdb/access/a_token_for_joining_is_good_once", a_token_for_joining_is_good_once);
  ADD("/fleetdb/access/the_same_request_has_the_same_answer", the_same_request_has_the_same_answer);
  return g_test_run();
}
