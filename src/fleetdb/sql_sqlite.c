/* SPDX-License-Identifier: Apache-2.0 */
/* SQLite as a back end: a thin layer over store/db.h. Nothing is ever lost here, and nobody else writes. */
#include "fleetdb/schema.h"
#include "fleetdb/sql.h"
#include "store/db.h"

#define NC_SQLITE_MOST_VALUES 32

typedef struct {
  NcSql sql; /* first */
  NcDbKind kind;
  NcDb *db;
  bool is_open; /* a transaction */
} NcSqlite;

typedef struct {
  const NcSqlBackend *backend;
  NcSqlRowFunc func;
  gpointer data;
} NcRowTarget;

static bool
nc_sqlite_row(sqlite3_stmt *statement, gpointer data, GError **error)
{
  const NcRowTarget *target = data;
  const NcSqlRow row = { .backend = target->backend, .result = statement };

  return !target->func || target->func(&row, target->data, error);
}

static bool
nc_sqlite_run(NcSql *sql, const char *statement, const NcSqlValue *values, int count, NcSqlRowFunc func, gpointer data, GError **error)
{
  NcSqlite *s = (NcSqlite *)sql;
  NcDbValue bound[NC_SQLITE_MOST_VALUES];
  NcRowTarget target = { sql->backend, func, data };
  /* $1 is a name for SQLite, ?1 a number. No statement of ours has a $ that means something else. */
  g_autofree char *numbered = g_strdelimit(g_strdup(statement), "$", '?');

  sql->trouble = NC_SQL_FINE;
  if (count > NC_SQLITE_MOST_VALUES)
    return nc_fail(error, NC_ERROR_INTERNAL, "a statement with %d values", count);
  for (int i = 0; i < count; i++)
    bound[i] = (NcDbValue){ .text = values[i].text, .number = values[i].number };
  bool ok = nc_db_run(s->db, numbered, bound, count, nc_sqlite_row, &target, error);
  sql->changes = ok ? nc_db_changes(s->db) : 0;
  return ok;
}

/* Everything here is a decision somebody may act on: each commit is on the disk before it is known. */
static bool
nc_sqlite_begin(NcSql *sql, GError **error)
{
  NcSqlite *s = (NcSqlite *)sql;
  sql->trouble = NC_SQL_FINE;
  s->is_open = nc_db_begin(s->db, true, error);
  return s->is_open;
}

static bool
nc_sqlite_commit(NcSql *sql, GError **error)
{
  NcSqlite *s = (NcSqlite *)sql;
  s->is_open = false; /* also when it fails: nc_db_end() has undone it then */
  return nc_db_end(s->db, true, error);
}

static void
nc_sqlite_rollback(NcSql *sql)
{
  NcSqlite *s = (NcSqlite *)sql;
  if (s->is_open)
    nc_db_end(s->db, false, NULL);
  s->is_open = false;
}

static bool
nc_sqlite_reconnect(NcSql *sql, GError **error)
{
  return true;
}

static void
nc_sqlite_cut(NcSql *sql)
{
}

static void
nc_sqlite_free(NcSql *sql)
{
  NcSqlite *s = (NcSqlite *)sql;
  nc_db_close(s->db);
  g_free(s);
}

static const char *
nc_sqlite_text(const NcSqlRow *row, int column)
{
  return nc_db_column(row->result, column);
}

static int64_t
nc_sqlite_number(const NcSqlRow *row, int column)
{
  return nc_db_column_int(row->result, column);
}

static const NcSqlBackend nc_sql_backend_sqlite = {
  .run = nc_sqlite_run,
  .begin = nc_sqlite_begin,
  .commit = nc_sqlite_commit,
  .rollback = nc_sqlite_rollback,
  .reconnect = nc_sqlite_reconnect,
  .cut = nc_sqlite_cut,
  .free = nc_sqlite_free,
  .text = nc_sqlite_text,
  .number = nc_sqlite_number,
  .clock_us = "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)",
};

NcSql *
nc_sql_open_sqlite(const char *path, int version, GError **error)
{
  NcSqlite *s = g_new0(NcSqlite, 1);

  s->sql.backend = &nc_sql_backend_sqlite;
  s->kind = (NcDbKind){ .name = "fleet's database",
                        .if_lost = "without it the queue and the history of the fleet are lost; no machine is",
                        .application_id = 0x4e6f7666, /* "Novf" */
                        .steps = nc_fleetdb_steps_sqlite,
                        .step_count = version };
  s->db = nc_db_open(path, &s->kind, error);
  if (!s->db)
    g_clear_pointer(&s, g_free);
  return (NcSql *)s;
}
