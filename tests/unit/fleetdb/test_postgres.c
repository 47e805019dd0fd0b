/* SPDX-License-Identifier: Apache-2.0 */
/* What only a server can do to us: go away at any moment, say "once more", be slow, and serve two controllers. */
#include "support.h"

#include <glib.h>
#include <signal.h>
#include <string.h>

static bool
submit_web1(NcFleetDb *db, GError **error)
{
  const NcMoveRequest request = { .id = "mig-1", .machine = "web1", .source = "a", .priority = NC_PRIORITY_LOW, .actor = "x" };
  return nc_fleetdb_submit(db, &request, error);
}

static unsigned
count_events(NcFleetDb *db)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *events = nc_fleetdb_list_events(db, 0, NULL, 0, &error);
  g_assert_no_error(error);
  return (unsigned)json_array_size(events);
}

/* --- going away --- */

static bool
submit_while_it_restarts(NcFleetDb *db, gpointer data, GError **error)
{
  unsigned *calls = data;
  if (!submit_web1(db, error))
    return false;
  if ((*calls)++ == 0)
    db_server("restart");
  return nc_fleetdb_node_seen(db, "a", error) || g_error_matches(*error, NC_ERROR, NC_ERROR_NOT_FOUND) ? (g_clear_error(error), true) : false;
}

static void
a_write_outlives_a_restart(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  unsigned calls = 0;

  assert_works(nc_fleetdb_write(bed->db, bed->epoch, submit_while_it_restarts, &calls, &error), error);
  g_assert_cmpuint(calls, ==, 2); /* from the beginning */
  g_assert_cmpuint(count_events(bed->db), ==, 1);
}

static void
a_record_outlives_a_restart(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  unsigned attempt;

  assert_works(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error);
  assert_works(db_start(bed->db, bed->epoch, "mig-1", &attempt, &error), error);
  db_server("restart"); /* now it would be sent */
  g_autofree char *state = db_text(bed->db, "mig-1", "state");
  g_assert_cmpstr(state, ==, "starting");
  assert_works(db_step(bed->db, bed->epoch, "mig-1", 1, NC_MOVE_RUNNING, &error), error);
  g_assert_cmpuint(db_lead(bed->db, "test", ONE_HOUR_MS), ==, bed->epoch);
}

static void
a_server_that_is_away_is_told_apart(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  const NcFleetDbOptions hasty = { .statement_ms = 3000, .patience_ms = 100 };
  g_autoptr(NcFleetDb) db = nc_fleetdb_open(bed->database, &hasty, &error);
  NcFleetLease lease;

  g_assert_no_error(error);
  db_lead(db, "test", ONE_HOUR_MS);
  db_server("stop");
  assert_fails(db_submit(db, bed->epoch, "mig-1", "web1", &error), error, NC_ERROR_UNREACHABLE);
  assert_fails(nc_fleetdb_look_at_lease(db, &lease, &error), error, NC_ERROR_UNREACHABLE);
  assert_fails(nc_fleetdb_take_lease(db, "x", "", 1000, &lease, &error), error, NC_ERROR_UNREACHABLE);
  assert_fails(nc_fleetdb_open(bed->database, &hasty, &error) != NULL, error, NC_ERROR_UNREACHABLE);
  db_server("start");
  assert_works(db_submit(db, bed->epoch, "mig-1", "web1", &error), error); /* the same NcFleetDb */
}

static void
secrets_stay_out_of_messages(void)
{
  g_autoptr(GError) error = NULL;
  const NcFleetDbOptions hasty = { .statement_ms = 1000, .patience_ms = 1 };

  g_assert_null(nc_fleetdb_open("postgresql://u:hunter2@127.0.0.1:1/novacron", &hasty, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_UNREACHABLE);
  g_assert_null(strstr(error->message, "hunter2"));
  g_assert_nonnull(strstr(error->message, "127.0.0.1:1/novacron"));
  g_clear_error(&error);
  g_assert_null(nc_fleetdb_open("postgresql://u:hunter2@h:x/d?y=z", &hasty, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  g_assert_null(strstr(error->message, "hunter2"));
}

/* A password with a character that has a meaning in a URL ends up in another part of it, which messages may name. */
static void
a_password_in_the_wrong_place_is_refused(void)
{
  const char *const urls[] = {
    "postgresql://u:pa/hunter2@db/x", "postgresql://u:1/hunter2@db/x", "postgresql://u:p@hunter2@db/x",
    "postgresql://u:hunter2",         "postgresql://u:hunter2/x",
  };
  const char *const good[] = {
    "postgresql://u:p%2Fa%40ss@db/x",
    "postgresql://u@h1:5432,h2:5433,h3/x",
    "postgresql://u@[::1]:5432/x?passfile=/etc/novacron/pgpass",
    "postgresql://novacron@/postgres?host=/run/postgresql",
    "postgres://",
  };
  g_autoptr(GError) error = NULL;

  for (size_t i = 0; i < G_N_ELEMENTS(urls); i++) {
    g_assert_false(nc_fleetdb_check(urls[i], &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
    g_assert_null(strstr(error->message, "hunter2"));
    g_clear_error(&error);
  }
  for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
    assert_works(nc_fleetdb_check(good[i], &error), error);
}

/* --- connecting again --- */

static bool
backend_pid(const NcSqlRow *row, gpointer data, GError **error)
{
  *(int64_t *)data = nc_sql_number(row, 0);
  return true;
}

/* Another controller upgrades the schema: who has lost the connection does not wait for that. */
static void
connecting_again_needs_no_upgrade_lock(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  const NcFleetDbOptions hasty = { .statement_ms = 200, .patience_ms = 1000 };
  g_autoptr(NcFleetDb) db = nc_fleetdb_open(bed->database, &hasty, &error);
  NcFleetLease lease;

  g_assert_no_error(error);
  assert_works(nc_fleetdb_query(bed->db, "SELECT pg_advisory_lock(5642817230163301222)", NULL, 0, NULL, NULL, &error), error);
  db->sql->backend->cut(db->sql);
  assert_works(nc_fleetdb_look_at_lease(db, &lease, &error), error);
  g_assert_cmpstr(lease.holder, ==, "test");
  /* Where the schema is older than it was, it has to be; but not for longer than a statement may take. */
  assert_works(nc_fleetdb_query(bed->db, "UPDATE novacron_schema SET version=version-1", NULL, 0, NULL, NULL, &error), error);
  db->sql->backend->cut(db->sql);
  assert_fails(nc_fleetdb_look_at_lease(db, &lease, &error), error, NC_ERROR_UNREACHABLE);
}

static void
a_newer_schema_is_noticed_when_connecting_again(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  NcFleetLease lease;

  db_admin(bed, "UPDATE novacron_schema SET version=version+1");
  bed->db->sql->backend->cut(bed->db->sql);
  assert_fails(nc_fleetdb_look_at_lease(bed->db, &lease, &error), error, NC_ERROR_INVALID);
}

typedef struct {
  int64_t pid; /* of the server's process for our connection */
} Stopped;

/* More than fits into the socket of a server that has stopped to read. */
static bool
write_much_to_a_stopped_server(NcFleetDb *db, gpointer data, GError **error)
{
  Stopped *stopped = data;
  g_autofree char *text = g_strnfill(NC_MSG_MAX_BYTES / 2, 'x');
  nc_autojson json_t *detail = json_pack("{s:s}", "why", text);

  if (!nc_fleetdb_query(db, "SELECT pg_backend_pid()", NULL, 0, backend_pid, &stopped->pid, error))
    return false;
  kill((pid_t)stopped->pid, SIGSTOP);
  return nc_fleetdb_add_batch(db, "batch-1", "any", "x", detail, error);
}

static void
a_server_that_stops_reading_is_left(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  const NcFleetDbOptions hasty = { .statement_ms = 100, .patience_ms = 1 };
  g_autoptr(NcFleetDb) db = nc_fleetdb_open(bed->database, &hasty, &error);
  Stopped stopped = { 0 };

  g_assert_no_error(error);
  db_lead(db, "test", ONE_HOUR_MS);
  assert_fails(nc_fleetdb_write(db, bed->epoch, write_much_to_a_stopped_server, &stopped, &error), error, NC_ERROR_UNREACHABLE);
  kill((pid_t)stopped.pid, SIGCONT);
  assert_works(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error); /* it has gone, and its locks */
}

/* --- "once more", and slow --- */

/* A trigger that fails the first ${times}; a sequence counts, since what it counts is not undone. */
static void
make_unlucky(Bed *bed, const char *code, int times)
{
  g_autofree char *statements = g_strdup_printf("CREATE SEQUENCE unlucky;"
                                                "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                                                " IF nextval('unlucky') <= %d THEN RAISE EXCEPTION 'once more' USING ERRCODE='%s'; END IF;"
                                                " RETURN NEW; END $$;"
                                                "CREATE TRIGGER fail BEFORE INSERT ON migration FOR EACH ROW EXECUTE FUNCTION fail()",
                                                times, code);
  db_admin(bed, statements);
}

static void
serialization_failures_are_tried_again(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  make_unlucky(bed, data, 3);
  assert_works(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error);
  g_assert_cmpuint(count_events(bed->db), ==, 1);
}

static void
other_failures_are_not(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  make_unlucky(bed, "23514", 1);
  assert_fails(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error, NC_ERROR_INVALID);
  assert_works(db_submit(bed->db, bed->epoch, "mig-1", "web1", &error), error);
}

static void
a_statement_has_a_time_limit(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  const NcFleetDbOptions hasty = { .statement_ms = 100, .patience_ms = 1000 };
  g_autoptr(NcFleetDb) db = nc_fleetdb_open(bed->database, &hasty, &error);

  g_assert_no_error(error);
  db_lead(db, "test", ONE_HOUR_MS);
  db_admin(bed, "CREATE FUNCTION sleepy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN NEW; END $$;"
                "CREATE TRIGGER sleepy BEFORE INSERT ON migration FOR EACH ROW EXECUTE FUNCTION sleepy()");
  assert_fails(db_submit(db, bed->epoch, "mig-1", "web1", &error), error, NC_ERROR_TIMEOUT);
  db_admin(bed, "DROP TRIGGER sleepy ON migration");
  assert_works(db_submit(db, bed->epoch, "mig-1", "web1", &error), error); /* nothing is stuck */
}

static bool
overlook_an_error(NcFleetDb *db, gpointer data, GError **error)
{
  submit_web1(db, NULL);
  nc_fleetdb_change(db, "INSERT INTO nowhere VALUES(1)", NULL, 0, NULL);
  return true;
}

static void
an_overlooked_error_is_no_success(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  assert_fails(nc_fleetdb_write(bed->db, bed->epoch, overlook_an_error, NULL, &error), error, NC_ERROR_INTERNAL);
  assert_fails(nc_fleetdb_get_migration(bed->db, "mig-1", &error) != NULL, error, NC_ERROR_NOT_FOUND);
}

/* --- two controllers --- */

typedef struct {
  NcFleetDb *other;
  GThread *thread;
  NcFleetLease lease;
  unsigned attempts_before;
} Rival;

static gpointer
take_over(gpointer data)
{
  Rival *rival = data;
  g_autoptr(GError) error = NULL;
  assert_works(nc_fleetdb_take_lease(rival->other, "other", "", ONE_HOUR_MS, &rival->lease, &error), error);
  return NULL;
}

/* The lease has run out; somebody takes it in the middle of our write. */
static bool
submit_with_a_rival(NcFleetDb *db, gpointer data, GError **error)
{
  Rival *rival = data;
  if (!submit_web1(db, error))
    return false;
  rival->thread = g_thread_new("rival", take_over, rival);
  g_usleep(20000); /* likely enough for it to wait for the lease's row; without that the test shows less */
  return nc_fleetdb_ask_to_cancel(db, "mig-1", "changed my mind", &(bool){ false }, error);
}

static void
a_write_that_has_begun_is_whole_before_another_leads(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcFleetDb) other = db_open(bed);
  Rival rival = { .other = other };
  NcFleetLease lease = { .left_us = 1 };

  db_lead(bed->db, "test", 1);
  while (lease.left_us > 0)
    assert_works(nc_fleetdb_look_at_lease(bed->db, &lease, &error), error);
  assert_works(nc_fleetdb_write(bed->db, bed->epoch, submit_with_a_rival, &rival, &error), error);
  g_thread_join(rival.thread);
  g_assert_cmpstr(rival.lease.holder, ==, "other");
  g_assert_cmpuint(rival.lease.epoch, ==, bed->epoch + 1);
  g_autofree char *state = db_text(other, "mig-1", "state"); /* the other one sees all of it */
  g_assert_cmpstr(state, ==, "cancelled");
  g_assert_false(db_submit(bed->db, bed->epoch, "mig-2", "web2", &error));
  g_assert_error(error, NC_FLEETDB_ERROR, NC_FLEETDB_FENCED);
}

static gpointer
take_over_in_time(gpointer data)
{
  Rival *rival = data;
  rival->lease.epoch = db_lead(rival->other, "other", ONE_HOUR_MS);
  return NULL;
}

/* Stands still in the middle of a write, until the other one leads. */
static bool
stand_still(NcFleetDb *db, gpointer data, GError **error)
{
  Rival *rival = data;
  if (rival->thread)
    return submit_web1(db, error);
  if (!submit_web1(db, error))
    return false;
  rival->thread = g_thread_new("rival", take_over_in_time, rival);
  g_thread_join(rival->thread);
  return true;
}

static void
who_stands_still_in_a_write_is_put_aside(Bed *bed, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  const NcFleetDbOptions options = { .statement_ms = 500, .patience_ms = 10000 };
  g_autoptr(NcFleetDb) still = nc_fleetdb_open(bed->database, &options, &error), other = db_open(bed);
  Rival rival = { .other = other };

  db_lead(still, "test", 1);
  g_assert_false(nc_fleetdb_write(still, bed->epoch, stand_still, &rival, &error));
  g_assert_error(error, NC_FLEETDB_ERROR, NC_FLEETDB_FENCED);
  g_clear_error(&error);
  g_assert_cmpuint(rival.lease.epoch, ==, bed->epoch + 1);
  assert_fails(nc_fleetdb_get_migration(other, "mig-1", &error) != NULL, error, NC_ERROR_NOT_FOUND);
}

static gpointer
open_in_a_thread(gpointer data)
{
  return db_open(data);
}

static void
several_may_make_the_schema_at_once(void)
{
  Bed bed = { 0 };
  GThread *threads[4];

  db_make(&bed);
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    threads[i] = g_thread_new("opener", open_in_a_thread, &bed);
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    nc_fleetdb_close(g_thread_join(threads[i]));
  db_teardown(&bed, NULL);
}

#define ADD(path, func) g_test_add(path, Bed, NULL, db_setup, func, db_teardown)

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  ADD("/fleetdb/postgres/a_write_outlives_a_restart", a_write_outlives_a_restart);
  ADD("/fleetdb/postgres/a_record_outlives_a_restart", a_record_outlives_a_restart);
  ADD("/fleetdb/postgres/a_server_that_is_away_is_told_apart", a_server_that_is_away_is_told_apart);
  g_test_add_func("/fleetdb/postgres/secrets_stay_out_of_messages", secrets_stay_out_of_messages);
  g_test_add_func("/fleetdb/postgres/a_password_in_the_wrong_place_is_refused", a_password_in_the_wrong_place_is_refused);
  ADD("/fleetdb/postgres/connecting_again_needs_no_upgrade_lock", connecting_again_needs_no_upgrade_lock);
  ADD("/fleetdb/postgres/a_newer_schema_is_noticed", a_newer_schema_is_noticed_when_connecting_again);
  ADD("/fleetdb/postgres/a_server_that_stops_reading_is_left", a_server_that_stops_reading_is_left);
  g_test_add("/fleetdb/postgres/serialization_failures", Bed, "40001", db_setup, serialization_failures_are_tried_again, db_teardown);
  g_test_add("/fleetdb/postgres/deadlocks", Bed, "40P01", db_setup, serialization_failures_are_tried_again, db_teardown);
  ADD("/fleetdb/postgres/other_failures_are_not_tried_again", other_failures_are_not);
  ADD("/fleetdb/postgres/a_statement_has_a_time_limit", a_statement_has_a_time_limit);
  ADD("/fleetdb/postgres/an_overlooked_error_is_no_success", an_overlooked_error_is_no_success);
  ADD("/fleetdb/postgres/a_write_is_whole_before_another_leads", a_write_that_has_begun_is_whole_before_another_leads);
  ADD("/fleetdb/postgres/who_stands_still_is_put_aside", who_stands_still_in_a_write_is_put_aside);
  g_test_add_func("/fleetdb/postgres/several_may_make_the_schema", several_may_make_the_schema_at_once);
  return g_test_run();
}
