/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <glib/gstdio.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool
db_is_postgres(void)
{
  return g_getenv("NC_TEST_POSTGRES") != NULL;
}

static void
run_on_server(const char *url, const char *statements)
{
  PGconn *connection = PQconnectdb(url);
  g_assert_cmpint(PQstatus(connection), ==, CONNECTION_OK);
  PGresult *result = PQexec(connection, statements);
  if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
    g_error("%s: %s", statements, PQerrorMessage(connection));
  PQclear(result);
  PQfinish(connection);
}

void
db_admin(Bed *bed, const char *statements)
{
  run_on_server(bed->database, statements);
}

void
db_server(const char *command)
{
  int to, from;
  char answer[4] = "";
  g_autofree char *line = g_strconcat(command, "\n", NULL);

  g_assert_cmpint(sscanf(g_getenv("NC_TEST_POSTGRES_CONTROL"), "%d,%d", &to, &from), ==, 2);
  g_assert_cmpint(write(to, line, strlen(line)), ==, (gssize)strlen(line));
  for (size_t have = 0; have < 3;) {
    gssize n = read(from, answer + have, 3 - have);
    g_assert_cmpint(n, >, 0);
    have += (size_t)n;
  }
  g_assert_cmpstr(answer, ==, "ok\n");
}

void
db_make(Bed *bed)
{
  static int number = 0;
  g_autoptr(GError) error = NULL;

  bed->dir = g_dir_make_tmp("nc-fleetdb-XXXXXX", &error);
  g_assert_no_error(error);
  if (!db_is_postgres()) {
    bed->database = g_build_filename(bed->dir, "fleet.db", NULL);
    return;
  }
  /* Processes of one program share the server. */
  g_autofree char *schema = g_strdup_printf("t%d_%d", (int)getpid(), number++);
  g_autofree char *create = g_strdup_printf("CREATE SCHEMA %s", schema);
  run_on_server(g_getenv("NC_TEST_POSTGRES"), create);
  bed->database = g_strdup_printf("%s&options=-csearch_path%%3D%s", g_getenv("NC_TEST_POSTGRES"), schema);
}

NcFleetDb *
db_open(const Bed *bed)
{
  g_autoptr(GError) error = NULL;
  NcFleetDb *db = nc_fleetdb_open(bed->database, NULL, &error);
  g_assert_no_error(error);
  return db;
}

void
db_setup(Bed *bed, gconstpointer data)
{
  db_make(bed);
  bed->db = db_open(bed);
  bed->epoch = db_lead(bed->db, "test", ONE_HOUR_MS);
}

void
db_teardown(Bed *bed, gconstpointer data)
{
  GDir *dir = g_dir_open(bed->dir, 0, NULL);

  nc_fleetdb_close(bed->db);
  for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
    g_autofree char *path = g_build_filename(bed->dir, name, NULL);
    g_unlink(path);
  }
  g_dir_close(dir);
  g_rmdir(bed->dir);
  g_free(bed->dir);
  g_free(bed->database);
}

uint64_t
db_lead(NcFleetDb *db, const char *holder, int64_t ttl_ms)
{
  g_autoptr(GError) error = NULL;
  NcFleetLease lease;

  for (;;) {
    assert_works(nc_fleetdb_take_lease(db, holder, "", ttl_ms, &lease, &error), error);
    if (g_str_equal(lease.holder, holder))
      return lease.epoch;
    g_usleep(1000);
  }
}

typedef struct {
  const NcMoveRequest *request;
  const NcMoveStep *step;
  const char *id;
  unsigned attempt;
} Change;

static bool
write_change(NcFleetDb *db, gpointer data, GError **error)
{
  Change *c = data;
  if (c->request)
    return nc_fleetdb_submit(db, c->request, error);
  return c->step ? nc_fleetdb_step(db, c->step, error) : nc_fleetdb_start(db, c->id, "a", "b", &c->attempt, error);
}

bool
db_submit(NcFleetDb *db, uint64_t epoch, const char *id, const char *machine, GError **error)
{
  const NcMoveRequest request = { .id = id, .machine = machine, .source = "a", .priority = NC_PRIORITY_NORMAL, .actor = "uid:0" };
  Change c = { .request = &request };
  return nc_fleetdb_write(db, epoch, write_change, &c, error);
}

bool
db_start(NcFleetDb *db, uint64_t epoch, const char *id, unsigned *ret_attempt, GError **error)
{
  Change c = { .id = id };
  bool ok = nc_fleetdb_write(db, epoch, write_change, &c, error);
  *ret_attempt = c.attempt;
  return ok;
}

bool
db_step(NcFleetDb *db, uint64_t epoch, const char *id, unsigned attempt, NcMoveState to, GError **error)
{
  const NcMoveStep step = { .id = id, .attempt = attempt, .to = to };
  Change c = { .step = &step };
  return nc_fleetdb_write(db, epoch, write_change, &c, error);
}

char *
db_text(NcFleetDb *db, const char *id, const char *key)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *row = nc_fleetdb_get_migration(db, id, &error);
  g_assert_no_error(error);
  return g_strdup(json_string_value(json_object_get(row, key)));
}

int64_t
db_number(NcFleetDb *db, const char *id, const char *key)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *row = nc_fleetdb_get_migration(db, id, &error);
  g_assert_no_error(error);
  return json_integer_value(json_object_get(row, key));
}
