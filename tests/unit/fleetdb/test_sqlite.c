/* SPDX-License-Identifier: Apache-2.0 */
/* What only a file can get wrong: two controllers, another program's file, a damaged one, one that can't be read. */
#include "store/journal.h"
#include "support.h"

#include <glib/gstdio.h>

static void
a_second_controller_is_refused(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  assert_fails(nc_fleetdb_open(bed->database, NULL, &error) != NULL, error, NC_ERROR_CONFLICT);
  g_assert_false(nc_fleetdb_is_shared(bed->db));
}

static void
it_is_all_there_after_opening_again(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  assert_works(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error);
  nc_fleetdb_close(bed->db);
  bed->db = db_open(bed);
  g_autofree char *state = db_text(bed->db, "mig-1", "state");
  g_assert_cmpstr(state, ==, "queued");
  g_assert_cmpuint(db_lead(bed->db, "test", ONE_HOUR_MS), ==, bed->epoch);
}

static void
the_journal_is_not_taken_for_it(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *path = g_build_filename(bed->dir, "journal.db", NULL);
  NcJournal *journal = nc_journal_open(path, &error);

  g_assert_no_error(error);
  nc_journal_close(journal);
  assert_fails(nc_fleetdb_open(path, NULL, &error) != NULL, error, NC_ERROR_INVALID);
  journal = nc_journal_open(path, &error); /* unharmed */
  g_assert_no_error(error);
  nc_journal_close(journal);
  assert_fails(nc_journal_open(bed->database, &error) != NULL, error, NC_ERROR_CONFLICT); /* in use */
  nc_fleetdb_close(bed->db);
  bed->db = NULL;
  assert_fails(nc_journal_open(bed->database, &error) != NULL, error, NC_ERROR_INVALID);
}

static void
bytes_from_elsewhere_are_refused(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *path = g_build_filename(bed->dir, "noise.db", NULL), *noise = g_strnfill(8192, 'x');

  g_assert_true(g_file_set_contents(path, noise, 8192, NULL));
  assert_fails(nc_fleetdb_open(path, NULL, &error) != NULL, error, NC_ERROR_CORRUPT);
}

static void
names_that_are_no_database_are_refused(void)
{
  static const char *const names[] = { "", "fleet.db", "./fleet.db", "mysql://host/db", "postgresql:/host", "postgresql://host:port/x?no=such" };
  g_autoptr(GError) error = NULL;

  for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
    assert_fails(nc_fleetdb_check(names[i], &error), error, NC_ERROR_INVALID);
    assert_fails(nc_fleetdb_open(names[i], NULL, &error) != NULL, error, NC_ERROR_INVALID);
  }
  assert_works(nc_fleetdb_check("/var/lib/novacron/fleet.db", &error), error);
  assert_works(nc_fleetdb_check("postgresql://novacron@db1,db2:5433/novacron?sslmode=verify-full", &error), error);
}

#define ADD(path, func) g_test_add(path, Bed, NULL, db_setup, func, db_teardown)

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  ADD("/fleetdb/sqlite/a_second_controller_is_refused", a_second_controller_is_refused);
  ADD("/fleetdb/sqlite/all_there_after_opening_again", it_is_all_there_after_opening_again);
  ADD("/fleetdb/sqlite/the_journal_is_not_taken_for_it", the_journal_is_not_taken_for_it);
  ADD("/fleetdb/sqlite/bytes_from_elsewhere_are_refused", bytes_from_elsewhere_are_refused);
  g_test_add_func("/fleetdb/sqlite/names_that_are_no_database", names_that_are_no_database_are_refused);
  return g_test_run();
}
