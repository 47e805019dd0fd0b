/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of fleetdb/fleetdb.h: one leads, by the database's clock; who does not lead any more writes nothing; all or nothing. */
#include "support.h"

static void
one_holder_at_a_time(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  NcFleetLease lease;

  assert_works(nc_fleetdb_take_lease(bed->db, "other", "other:1", ONE_HOUR_MS, &lease, &error), error);
  g_assert_cmpstr(lease.holder, ==, "test");
  g_assert_cmpuint(lease.epoch, ==, 1);
  g_assert_cmpint(lease.left_us, >, 0);
  assert_works(nc_fleetdb_take_lease(bed->db, "test", "test:1", 2 * ONE_HOUR_MS, &lease, &error), error);
  g_assert_cmpuint(lease.epoch, ==, 1);
  g_assert_cmpstr(lease.address, ==, "test:1");
  g_assert_cmpint(lease.left_us, >, (int64_t)ONE_HOUR_MS * 1000);
}

static void
given_back_it_is_free_at_once(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  NcFleetLease lease;

  /* Not by somebody else, nor of another epoch. */
  assert_works(nc_fleetdb_release_lease(bed->db, "other", 1, &error), error);
  assert_works(nc_fleetdb_release_lease(bed->db, "test", 7, &error), error);
  assert_works(nc_fleetdb_look_at_lease(bed->db, &lease, &error), error);
  g_assert_cmpstr(lease.holder, ==, "test");

  assert_works(nc_fleetdb_release_lease(bed->db, "test", 1, &error), error);
  g_assert_false(db_submit(bed->db, 1, "mig-1", "web1", &error));
  g_assert_error(error, NC_FLEETDB_ERROR, NC_FLEETDB_FENCED);
  g_clear_error(&error);
  assert_works(nc_fleetdb_take_lease(bed->db, "other", "", ONE_HOUR_MS, &lease, &error), error);
  g_assert_cmpstr(lease.holder, ==, "other");
  g_assert_cmpuint(lease.epoch, ==, 2);
}

static void
run_out_it_is_kept_if_nobody_came(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  NcFleetLease lease = { .left_us = 1 };

  db_lead(bed->db, "test", 1);
  while (lease.left_us > 0)
    assert_works(nc_fleetdb_look_at_lease(bed->db, &lease, &error), error);
  assert_works(db_submit(bed->db, 1, "mig-1", "web1", &error), error); /* nobody else leads */
  g_assert_cmpuint(db_lead(bed->db, "test", ONE_HOUR_MS), ==, 1);
}

static void
the_old_leader_writes_nothing(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  uint64_t oldest, newest, now;
  unsigned attempt;

  assert_works(db_submit(bed->db, 1, "mig-1", "web1", &error), error);
  db_lead(bed->db, "test", 1);
  g_assert_cmpuint(db_lead(bed->db, "other", ONE_HOUR_MS), ==, 2);
  assert_works(nc_fleetdb_event_range(bed->db, &oldest, &newest, &error), error);

  g_assert_false(db_start(bed->db, 1, "mig-1", &attempt, &error));
  g_assert_error(error, NC_FLEETDB_ERROR, NC_FLEETDB_FENCED);
  g_clear_error(&error);
  g_assert_false(db_submit(bed->db, 1, "mig-2", "web2", &error));
  g_assert_error(error, NC_FLEETDB_ERROR, NC_FLEETDB_FENCED);
  g_clear_error(&error);
  /* An epoch that was never there is no better. */
  g_assert_false(db_submit(bed->db, 3, "mig-2", "web2", &error));
  g_assert_error(error, NC_FLEETDB_ERROR, NC_FLEETDB_FENCED);
  g_clear_error(&error);

  g_autofree char *state = db_text(bed->db, "mig-1", "state");
  g_assert_cmpstr(state, ==, "queued");
  g_assert_null(nc_fleetdb_get_migration(bed->db, "mig-2", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
  g_clear_error(&error);
  assert_works(nc_fleetdb_event_range(bed->db, &oldest, &now, &error), error);
  g_assert_cmpuint(now, ==, newest);
  assert_works(db_start(bed->db, 2, "mig-1", &attempt, &error), error);
  g_assert_cmpint(db_number(bed->db, "mig-1", "epoch"), ==, 2);
}

/* What a failover to a standby that had not heard of it all can do to the lease. */
static bool
hand_to_other(NcFleetDb *db, gpointer data, GError **error)
{
  return nc_fleetdb_change(db, "UPDATE lease SET holder='other' WHERE name='leader'", NULL, 0, error);
}

static void
the_same_epoch_of_another_holder_is_not_ours(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  assert_works(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error);
  assert_works(nc_fleetdb_transact(bed->db, hand_to_other, NULL, &error), error);
  g_assert_false(db_submit(bed->db, bed->epoch, "mig-2", "web2", &error));
  g_assert_error(error, NC_FLEETDB_ERROR, NC_FLEETDB_FENCED);
  g_clear_error(&error);
  assert_fails(nc_fleetdb_get_migration(bed->db, "mig-2", &error) != NULL, error, NC_ERROR_NOT_FOUND);
}

/* The clock was ahead by that many microseconds when the lease was extended for the last time, and has been put right. */
static bool
put_clock_right(NcFleetDb *db, gpointer data, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_INT(*(const int64_t *)data) };
  return nc_fleetdb_change(db, "UPDATE lease SET until_us=until_us+$1 WHERE name='leader'", values, 1, error);
}

static void
a_lease_of_a_wrong_clock_is_taken(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  NcFleetLease lease;
  int64_t a_little = ONE_HOUR_MS / 2 * (int64_t)1000, much = 1000 * (int64_t)ONE_HOUR_MS * 1000;

  assert_works(nc_fleetdb_transact(bed->db, put_clock_right, &a_little, &error), error);
  assert_works(nc_fleetdb_take_lease(bed->db, "other", "", 1000, &lease, &error), error);
  g_assert_cmpstr(lease.holder, ==, "test");
  assert_works(nc_fleetdb_transact(bed->db, put_clock_right, &much, &error), error);
  assert_works(nc_fleetdb_take_lease(bed->db, "other", "", 1000, &lease, &error), error);
  g_assert_cmpstr(lease.holder, ==, "other");
  g_assert_cmpuint(lease.epoch, ==, bed->epoch + 1);
  g_assert_cmpint(lease.left_us, <=, 1000000);
  g_assert_false(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error));
  g_assert_error(error, NC_FLEETDB_ERROR, NC_FLEETDB_FENCED);
}

static bool
submit_and_fail(NcFleetDb *db, gpointer data, GError **error)
{
  const NcMoveRequest request = { .id = "mig-1", .machine = "web1", .source = "a", .priority = NC_PRIORITY_LOW, .actor = "x" };
  unsigned *calls = data;

  (*calls)++;
  return nc_fleetdb_submit(db, &request, error) && nc_fail(error, NC_ERROR_UNSUITABLE, "no");
}

static void
a_write_is_all_or_nothing(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  uint64_t oldest, newest;
  unsigned calls = 0;

  assert_fails(nc_fleetdb_write(bed->db, 1, submit_and_fail, &calls, &error), error, NC_ERROR_UNSUITABLE);
  g_assert_cmpuint(calls, ==, 1); /* it would not be better next time */
  assert_fails(nc_fleetdb_get_migration(bed->db, "mig-1", &error) != NULL, error, NC_ERROR_NOT_FOUND);
  assert_works(nc_fleetdb_event_range(bed->db, &oldest, &newest, &error), error);
  g_assert_cmpuint(newest, ==, 0);
}

static bool
write_in_a_write(NcFleetDb *db, gpointer data, GError **error)
{
  unsigned calls = 0;
  return nc_fleetdb_write(db, 1, submit_and_fail, &calls, error);
}

static void
writes_have_a_leader(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  unsigned attempt;

  assert_fails(nc_fleetdb_write(bed->db, 1, write_in_a_write, NULL, &error), error, NC_ERROR_INTERNAL);
  assert_fails(nc_fleetdb_start(bed->db, "mig-1", "a", "b", &attempt, &error), error, NC_ERROR_NOT_FOUND);
  assert_fails(nc_fleetdb_node_seen(bed->db, "a", &error), error, NC_ERROR_INTERNAL);
}

static bool
read_own_write(NcFleetDb *db, gpointer data, GError **error)
{
  const NcMoveRequest request = { .id = "mig-1", .machine = "web1", .source = "a", .priority = NC_PRIORITY_LOW, .actor = "x" };
  if (!nc_fleetdb_submit(db, &request, error))
    return false;
  g_autofree char *state = db_text(db, "mig-1", "state");
  g_assert_cmpstr(state, ==, "queued");
  return true;
}

static void
a_write_reads_what_it_wrote(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  assert_works(nc_fleetdb_write(bed->db, 1, read_own_write, NULL, &error), error);
}

static bool
lead_as_version_1(NcFleetDb *db, gpointer data, GError **error)
{
  g_strlcpy(db->holder, "old", sizeof db->holder);
  return nc_fleetdb_change(db, "UPDATE lease SET holder='old', epoch=1 WHERE name='leader'", NULL, 0, error);
}

static bool
add_inventory_as_version_1(NcFleetDb *db, gpointer data, GError **error)
{
  return nc_fleetdb_change(db,
                           "INSERT INTO node(name, address, memory_bytes, disk_bytes, cpus, rate_bps, in_limit, out_limit, labels,"
                           " is_cordoned, evacuation, joined_us, seen_us, detail) VALUES('a', 'a:1', 5, 0, 1, 0, 0, 0, '[]', 1, '', 1, 1, '{}')",
                           NULL, 0, error) &&
         nc_fleetdb_change(db,
                           "INSERT INTO machine(name, node, epoch, state, memory_bytes, disk_bytes, cpus, priority, requires, seen_us, detail)"
                           " VALUES('web1', 'a', 1, 'running', 4, 0, 1, 'normal', '[]', 1, '{}')",
                           NULL, 0, error) &&
         nc_fleetdb_change(db,
                           "INSERT INTO evacuation_item(evacuation, machine, position, wave, source, destination, migration, reason)"
                           " VALUES('eva-1', 'web1', 0, 0, 'a', 'b', '', 'it is there already')",
                           NULL, 0, error);
}

/* As a version 1 wrote it: what there was stays, and what is new works. */
static void
an_older_schema_is_upgraded(void)
{
  g_autoptr(GError) error = NULL;
  Bed bed = { 0 };
  unsigned calls;

  db_make(&bed);
  bed.db = nc_fleetdb_open_version(bed.database, NULL, 1, &error);
  g_assert_no_error(error);
  assert_works(nc_fleetdb_transact(bed.db, lead_as_version_1, NULL, &error), error);
  bed.epoch = 1;
  assert_works(db_submit(bed.db, bed.epoch, "mig-1", "web1", &error), error);
  assert_works(nc_fleetdb_transact(bed.db, add_inventory_as_version_1, NULL, &error), error);
  g_assert_null(nc_fleetdb_list_tokens(bed.db, &(NcPage){ 0 }, NULL, &error)); /* not there yet */
  g_clear_error(&error);
  nc_fleetdb_close(bed.db);

  bed.db = db_open(&bed);
  g_autofree char *state = db_text(bed.db, "mig-1", "state");
  g_assert_cmpstr(state, ==, "queued");
  nc_autojson json_t *tokens = nc_fleetdb_list_tokens(bed.db, &(NcPage){ 0 }, NULL, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(json_array_size(tokens), ==, 0);
  nc_autojson json_t *node = nc_fleetdb_get_node(bed.db, "a", &error);
  g_assert_no_error(error);
  g_assert_true(json_is_true(json_object_get(node, "is_cordoned")));
  g_assert_true(json_is_array(json_object_get(node, "file_systems")) && json_array_size(json_object_get(node, "file_systems")) == 0);
  nc_autojson json_t *machine = nc_fleetdb_get_machine(bed.db, "web1", &error);
  g_assert_no_error(error);
  g_assert_true(json_is_array(json_object_get(machine, "disks")) && json_array_size(json_object_get(machine, "disks")) == 0);
  nc_autojson json_t *items = nc_fleetdb_list_items(bed.db, "eva-1", &(NcPage){ 0 }, NULL, &error);
  g_assert_no_error(error);
  g_assert_cmpstr(json_string_value(json_object_get(json_array_get(items, 0), "state")), ==, "");
  g_assert_cmpuint(db_lead(bed.db, "old", ONE_HOUR_MS), ==, 1);
  nc_fleetdb_close(bed.db);

  /* And the older one does not touch it any more. */
  bed.db = NULL;
  assert_fails(nc_fleetdb_open_version(bed.database, NULL, 1, &error) != NULL, error, NC_ERROR_INVALID);
  calls = 0;
  bed.db = db_open(&bed);
  g_assert_cmpuint(db_lead(bed.db, "old", ONE_HOUR_MS), ==, 1);
  assert_fails(nc_fleetdb_write(bed.db, 1, submit_and_fail, &calls, &error), error, NC_ERROR_CONFLICT);
  db_teardown(&bed, NULL);
}

/* The first write of a process that is told by NOVACRON_FAULT (base/fault.h) to lose its commit, or the answer: done, and once. */
static void
write_without_answer(void)
{
  g_autoptr(GError) error = NULL;
  Bed bed = { 0 };
  unsigned attempt;

  db_setup(&bed, NULL);
  assert_works(db_submit(bed.db, bed.epoch, "mig-1", "web1", &error), error); /* twice would be a conflict */
  assert_works(db_start(bed.db, bed.epoch, "mig-1", &attempt, &error), error);
  nc_autojson json_t *events = nc_fleetdb_list_events(bed.db, 0, NULL, 0, &error);
  g_assert_cmpuint(json_array_size(events), ==, 2);
  db_teardown(&bed, NULL);
}

static void
a_commit_without_answer_counts_once(gconstpointer data)
{
  if (g_test_subprocess()) {
    write_without_answer();
    return;
  }
  g_setenv("NOVACRON_FAULT", data, TRUE);
  g_test_trap_subprocess(NULL, 60 * G_USEC_PER_SEC, 0);
  g_unsetenv("NOVACRON_FAULT");
  g_test_trap_assert_passed();
  g_test_trap_assert_stderr("*fault point fleetdb-commit*"); /* it did happen */
}

#define ADD(path, func) g_test_add(path, Bed, NULL, db_setup, func, db_teardown)

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  ADD("/fleetdb/lease/one_holder_at_a_time", one_holder_at_a_time);
  ADD("/fleetdb/lease/given_back_it_is_free_at_once", given_back_it_is_free_at_once);
  ADD("/fleetdb/lease/run_out_it_is_kept_if_nobody_came", run_out_it_is_kept_if_nobody_came);
  ADD("/fleetdb/lease/the_old_leader_writes_nothing", the_old_leader_writes_nothing);
  ADD("/fleetdb/lease/the_same_epoch_of_another_holder", the_same_epoch_of_another_holder_is_not_ours);
  ADD("/fleetdb/lease/of_a_wrong_clock_is_taken", a_lease_of_a_wrong_clock_is_taken);
  ADD("/fleetdb/write/all_or_nothing", a_write_is_all_or_nothing);
  ADD("/fleetdb/write/has_a_leader", writes_have_a_leader);
  ADD("/fleetdb/write/reads_what_it_wrote", a_write_reads_what_it_wrote);
  g_test_add_func("/fleetdb/schema/an_older_one_is_upgraded", an_older_schema_is_upgraded);
  g_test_add_data_func("/fleetdb/write/commit_that_did_not_arrive", "fleetdb-commit:cut-before", a_commit_without_answer_counts_once);
  g_test_add_data_func("/fleetdb/write/commit_whose_answer_is_lost", "fleetdb-commit:cut-after", a_commit_without_answer_counts_once);
  return g_test_run();
}
