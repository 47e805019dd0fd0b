/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of fleetdb/migrations.h and groups.h: states, attempts, cancelling, pages. */
#include "support.h"

static void
expect_state(NcFleetDb *db, const char *id, const char *wanted)
{
  g_autofree char *state = db_text(db, id, "state");
  g_assert_cmpstr(state, ==, wanted);
}

static void
a_life_is_told_by_events(Bed *bed, gconstpointer data)
{
  static const char *const states[] = { "queued", "starting", "backoff", "starting", "running", "completed" };
  g_autoptr(GError) error = NULL;
  unsigned attempt;
  int64_t last = 0;

  assert_works(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error);
  assert_works(db_start(bed->db, bed->epoch, "mig-1", &attempt, &error), error);
  g_assert_cmpuint(attempt, ==, 1);
  int64_t started = db_number(bed->db, "mig-1", "started_us");
  assert_works(db_step(bed->db, bed->epoch, "mig-1", 1, NC_MOVE_BACKOFF, &error), error);
  assert_works(db_start(bed->db, bed->epoch, "mig-1", &attempt, &error), error);
  g_assert_cmpuint(attempt, ==, 2);
  assert_works(db_step(bed->db, bed->epoch, "mig-1", 2, NC_MOVE_RUNNING, &error), error);
  assert_works(db_step(bed->db, bed->epoch, "mig-1", 2, NC_MOVE_RUNNING, &error), error); /* once more: no event */
  assert_works(db_step(bed->db, bed->epoch, "mig-1", 2, NC_MOVE_COMPLETED, &error), error);
  g_assert_cmpint(db_number(bed->db, "mig-1", "started_us"), ==, started);
  g_assert_cmpint(db_number(bed->db, "mig-1", "finished_us"), >=, started);

  nc_autojson json_t *events = nc_fleetdb_list_events(bed->db, 0, "mig-1", 0, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(json_array_size(events), ==, G_N_ELEMENTS(states));
  for (size_t i = 0; i < G_N_ELEMENTS(states); i++) {
    json_t *event = json_array_get(events, i);
    g_assert_cmpint(json_integer_value(json_object_get(event, "id")), >, last);
    last = json_integer_value(json_object_get(event, "id"));
    g_assert_cmpstr(json_string_value(json_object_get(json_object_get(event, "detail"), "state")), ==, states[i]);
  }
}

static void
a_machine_has_one_at_a_time(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  unsigned attempt;

  assert_works(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error);
  assert_fails(db_submit(bed->db, bed->epoch, "mig-2", "web1", &error), error, NC_ERROR_CONFLICT);
  assert_works(db_submit(bed->db, bed->epoch, "mig-3", "web3", &error), error);
  assert_works(db_start(bed->db, bed->epoch, "mig-1", &attempt, &error), error);
  assert_fails(db_submit(bed->db, bed->epoch, "mig-2", "web1", &error), error, NC_ERROR_CONFLICT);
  assert_works(db_step(bed->db, bed->epoch, "mig-1", 1, NC_MOVE_FAILED, &error), error);
  assert_works(db_submit(bed->db, bed->epoch, "mig-2", "web1", &error), error);
  /* An id is never used twice; that it is taken is told apart from a database that does not answer. */
  assert_fails(db_submit(bed->db, bed->epoch, "mig-1", "web9", &error), error, NC_ERROR_EXISTS);
}

static void
a_start_is_recorded_once(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  unsigned attempt;

  assert_fails(db_start(bed->db, bed->epoch, "mig-1", &attempt, &error), error, NC_ERROR_NOT_FOUND);
  assert_works(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error);
  assert_works(db_start(bed->db, bed->epoch, "mig-1", &attempt, &error), error);
  assert_fails(db_start(bed->db, bed->epoch, "mig-1", &attempt, &error), error, NC_ERROR_CONFLICT);
  g_assert_cmpint(db_number(bed->db, "mig-1", "attempts"), ==, 1);
  g_assert_cmpint(db_number(bed->db, "mig-1", "epoch"), ==, (int64_t)bed->epoch);
  g_autofree char *name = nc_fleetdb_attempt_name("mig-1", 1);
  g_assert_cmpstr(name, ==, "mig-1.1");
}

static void
late_news_changes_nothing(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  unsigned attempt;

  assert_works(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error);
  assert_fails(db_step(bed->db, bed->epoch, "mig-1", 1, NC_MOVE_RUNNING, &error), error, NC_ERROR_CONFLICT);
  assert_fails(db_step(bed->db, bed->epoch, "mig-1", 0, NC_MOVE_COMPLETED, &error), error, NC_ERROR_CONFLICT);
  assert_works(db_start(bed->db, bed->epoch, "mig-1", &attempt, &error), error);
  assert_works(db_step(bed->db, bed->epoch, "mig-1", 1, NC_MOVE_BACKOFF, &error), error);
  assert_works(db_start(bed->db, bed->epoch, "mig-1", &attempt, &error), error);
  assert_fails(db_step(bed->db, bed->epoch, "mig-1", 1, NC_MOVE_FAILED, &error), error, NC_ERROR_CONFLICT);
  expect_state(bed->db, "mig-1", "starting");
  assert_works(db_step(bed->db, bed->epoch, "mig-1", 2, NC_MOVE_COMPLETED, &error), error);
  assert_fails(db_step(bed->db, bed->epoch, "mig-1", 2, NC_MOVE_RUNNING, &error), error, NC_ERROR_CONFLICT);
  assert_fails(db_step(bed->db, bed->epoch, "mig-2", 1, NC_MOVE_RUNNING, &error), error, NC_ERROR_NOT_FOUND);
}

/* Every pair of states: the database does what the table says, and an end is an end. */
static void
only_the_tables_steps_are_taken(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  unsigned number = 0, attempt;

  for (int from = 0; from < NC_MOVE_COUNT; from++) {
    for (int to = 0; to < NC_MOVE_COUNT; to++) {
      if (to == NC_MOVE_STARTING || to == from)
        continue;
      g_autofree char *id = g_strdup_printf("mig-%u", ++number), *machine = g_strdup_printf("vm-%u", number);
      attempt = 0;
      assert_works(db_submit(bed->db, bed->epoch, id, machine, &error), error);
      if (from != NC_MOVE_QUEUED)
        assert_works(db_start(bed->db, bed->epoch, id, &attempt, &error), error);
      if (from != NC_MOVE_QUEUED && from != NC_MOVE_STARTING)
        assert_works(db_step(bed->db, bed->epoch, id, attempt, (NcMoveState)from, &error), error);
      bool ok = db_step(bed->db, bed->epoch, id, attempt, (NcMoveState)to, &error);
      g_assert_cmpint(ok, ==, nc_move_may_step((NcMoveState)from, (NcMoveState)to));
      g_assert_false(ok && nc_move_state_is_final((NcMoveState)from));
      expect_state(bed->db, id, nc_move_state_name((NcMoveState)(ok ? to : from)));
      g_clear_error(&error);
    }
  }
}

typedef struct {
  const char *id;
  bool is_over;
} Cancel;

static bool
write_cancel(NcFleetDb *db, gpointer data, GError **error)
{
  Cancel *c = data;
  return nc_fleetdb_ask_to_cancel(db, c->id, "not any more", &c->is_over, error);
}

static void
what_waits_is_cancelled_at_once(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  Cancel c = { .id = "mig-1" };

  assert_works(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error);
  assert_works(nc_fleetdb_write(bed->db, bed->epoch, write_cancel, &c, &error), error);
  g_assert_true(c.is_over);
  expect_state(bed->db, "mig-1", "cancelled");
  assert_fails(nc_fleetdb_write(bed->db, bed->epoch, write_cancel, &c, &error), error, NC_ERROR_CONFLICT);
}

static void
the_wish_to_cancel_outlives_the_leader(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  Cancel c = { .id = "mig-1" };
  unsigned attempt;

  assert_works(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error);
  assert_works(db_start(bed->db, bed->epoch, "mig-1", &attempt, &error), error);
  assert_works(nc_fleetdb_write(bed->db, bed->epoch, write_cancel, &c, &error), error);
  g_assert_false(c.is_over);
  expect_state(bed->db, "mig-1", "starting");
  g_autofree char *reason = db_text(bed->db, "mig-1", "cancel_reason");
  g_assert_cmpstr(reason, ==, "not any more");
  /* The attempt failed by itself meanwhile: there is no other one. */
  assert_works(db_step(bed->db, bed->epoch, "mig-1", 1, NC_MOVE_BACKOFF, &error), error);
  expect_state(bed->db, "mig-1", "cancelled");
}

/* --- pages --- */

static void
submit_many(Bed *bed, unsigned from, unsigned to)
{
  g_autoptr(GError) error = NULL;
  unsigned attempt;

  for (unsigned i = from; i < to; i++) {
    g_autofree char *id = g_strdup_printf("mig-%03u", i), *machine = g_strdup_printf("vm-%03u", i);
    assert_works(db_submit(bed->db, bed->epoch, id, machine, &error), error);
    if (i % 3 == 0) {
      assert_works(db_start(bed->db, bed->epoch, id, &attempt, &error), error);
      assert_works(db_step(bed->db, bed->epoch, id, 1, NC_MOVE_COMPLETED, &error), error);
    }
  }
}

/* All pages of ${filter}; how many rows, each of which is older (or younger) than the one before. */
static unsigned
walk(Bed *bed, const NcMoveFilter *filter, unsigned limit, unsigned add_meanwhile)
{
  g_autofree char *cursor = NULL;
  g_autoptr(GError) error = NULL;
  int64_t last = filter->is_oldest_first ? 0 : G_MAXINT64;
  unsigned count = 0;

  do {
    char *next = NULL;
    nc_autojson json_t *rows = nc_fleetdb_list_migrations(bed->db, filter, &(NcPage){ cursor, limit }, &next, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(json_array_size(rows), <=, limit);
    g_assert_true(!next || json_array_size(rows) == limit);
    for (size_t i = 0; i < json_array_size(rows); i++, count++) {
      int64_t seq = json_integer_value(json_object_get(json_array_get(rows, i), "seq"));
      g_assert_true(filter->is_oldest_first ? seq > last : seq < last);
      last = seq;
    }
    if (next && add_meanwhile) {
      submit_many(bed, add_meanwhile, add_meanwhile + 1);
      add_meanwhile++;
    }
    g_free(cursor);
    cursor = next;
  } while (cursor);
  return count;
}

static void
pages_have_each_row_once(Bed *bed, gconstpointer data)
{
  submit_many(bed, 0, 30);
  g_assert_cmpuint(walk(bed, &(NcMoveFilter){ 0 }, 7, 0), ==, 30);
  g_assert_cmpuint(walk(bed, &(NcMoveFilter){ 0 }, 10, 0), ==, 30); /* the last page is full */
  g_assert_cmpuint(walk(bed, &(NcMoveFilter){ .is_oldest_first = true }, 7, 0), ==, 30);
  g_assert_cmpuint(walk(bed, &(NcMoveFilter){ .selection = NC_MOVES_FINISHED }, 3, 0), ==, 10);
  g_assert_cmpuint(walk(bed, &(NcMoveFilter){ .selection = NC_MOVES_UNFINISHED }, 3, 0), ==, 20);
  g_assert_cmpuint(walk(bed, &(NcMoveFilter){ .state = "completed" }, 3, 0), ==, 10);
  g_assert_cmpuint(walk(bed, &(NcMoveFilter){ .machine = "vm-004" }, 3, 0), ==, 1);
  g_assert_cmpuint(walk(bed, &(NcMoveFilter){ .node = "b" }, 3, 0), ==, 10);
  g_assert_cmpuint(walk(bed, &(NcMoveFilter){ .node = "a" }, 3, 0), ==, 30);
  g_assert_cmpuint(walk(bed, &(NcMoveFilter){ .node = "a", .state = "queued", .is_oldest_first = true }, 3, 0), ==, 20);
  g_assert_cmpuint(walk(bed, &(NcMoveFilter){ .batch = "none" }, 3, 0), ==, 0);
  /* What comes meanwhile is newer than the first page, and not in any other. */
  g_assert_cmpuint(walk(bed, &(NcMoveFilter){ 0 }, 7, 100), ==, 30);
}

static void
strangers_cursors_are_refused(Bed *bed, gconstpointer data)
{
  static const char *const cursors[] = { "x",           "migration",     "migration:",     "migration:x",
                                         "migration:-1", "event:1",      "migration:1;--", "migration:99999999999999999999",
                                         "node:a",      "migration:1 ", "migration:\xff" };
  g_autoptr(GError) error = NULL;
  g_autofree char *longest = g_strnfill(5000, '1');
  g_autofree char *too_long = g_strconcat("migration:", longest, NULL);

  submit_many(bed, 0, 3);
  for (size_t i = 0; i <= G_N_ELEMENTS(cursors); i++) {
    const NcPage page = { .cursor = i < G_N_ELEMENTS(cursors) ? cursors[i] : too_long };
    g_assert_null(nc_fleetdb_list_migrations(bed->db, &(NcMoveFilter){ 0 }, &page, NULL, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
    g_clear_error(&error);
  }
  nc_autojson json_t *rows = nc_fleetdb_list_migrations(bed->db, &(NcMoveFilter){ 0 }, &(NcPage){ "", G_MAXUINT }, NULL, &error);
  g_assert_cmpuint(json_array_size(rows), ==, 3);
}

static void
states_are_counted(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  submit_many(bed, 0, 9);
  nc_autojson json_t *counts = nc_fleetdb_count_migrations(bed->db, NULL, NULL, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(json_object_size(counts), ==, NC_MOVE_COUNT);
  g_assert_cmpint(json_integer_value(json_object_get(counts, "completed")), ==, 3);
  g_assert_cmpint(json_integer_value(json_object_get(counts, "queued")), ==, 6);
  g_assert_cmpint(json_integer_value(json_object_get(counts, "failed")), ==, 0);
}

#define ADD(path, func) g_test_add(path, Bed, NULL, db_setup, func, db_teardown)

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  ADD("/fleetdb/moves/a_life_is_told_by_events", a_life_is_told_by_events);
  ADD("/fleetdb/moves/a_machine_has_one_at_a_time", a_machine_has_one_at_a_time);
  ADD("/fleetdb/moves/a_start_is_recorded_once", a_start_is_recorded_once);
  ADD("/fleetdb/moves/late_news_changes_nothing", late_news_changes_nothing);
  ADD("/fleetdb/moves/only_the_tables_steps_are_taken", only_the_tables_steps_are_taken);
  ADD("/fleetdb/moves/what_waits_is_cancelled_at_once", what_waits_is_cancelled_at_once);
  ADD("/fleetdb/moves/the_wish_to_cancel_outlives_the_leader", the_wish_to_cancel_outlives_the_leader);
  ADD("/fleetdb/pages/each_row_once", pages_have_each_row_once);
  ADD("/fleetdb/pages/strangers_cursors_are_refused", strangers_cursors_are_refused);
  ADD("/fleetdb/pages/states_are_counted", states_are_counted);
  return g_test_run();
}
