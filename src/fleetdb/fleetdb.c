/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, transactions, and trying again. */
#include "base/fault.h"
#include "base/ident.h"
#include "fleetdb/fleetdb_internal.h"
#include "fleetdb/schema.h"

#include <stdlib.h>
#include <string.h>

#define NC_FIRST_PAUSE_US 20000
#define NC_LONGEST_PAUSE_US 500000

G_DEFINE_QUARK(nc-fleetdb-error, nc_fleetdb_error)

/* --- opening --- */

static bool
nc_is_postgres(const char *database)
{
  return g_str_has_prefix(database, "postgresql://") || g_str_has_prefix(database, "postgres://");
}

bool
nc_fleetdb_check(const char *database, GError **error)
{
  if (nc_is_postgres(database))
    return nc_sql_check_postgres_url(database, error);
  return database[0] == '/' ||
         nc_fail(error, NC_ERROR_INVALID, "a fleet's database is a file, with its whole path, or postgresql://USER@HOST:PORT/DATABASE");
}

NcFleetDb *
nc_fleetdb_open_version(const char *database, const NcFleetDbOptions *options, int version, GError **error)
{
  const NcFleetDbOptions usual = NC_FLEETDB_OPTIONS_DEFAULT;

  if (!nc_fleetdb_check(database, error))
    return NULL;
  if (!options)
    options = &usual;
  NcSql *sql = nc_is_postgres(database) ? nc_sql_open_postgres(database, options->statement_ms, version, error)
                                        : nc_sql_open_sqlite(database, version, error);
  if (!sql)
    return NULL;
  NcFleetDb *db = g_new0(NcFleetDb, 1);
  db->options = *options;
  db->is_shared = nc_is_postgres(database);
  db->sql = sql;
  g_rec_mutex_init(&db->lock);
  return db;
}

NcFleetDb *
nc_fleetdb_open(const char *database, const NcFleetDbOptions *options, GError **error)
{
  return nc_fleetdb_open_version(database, options, NC_FLEETDB_VERSION, error);
}

void
nc_fleetdb_close(NcFleetDb *db)
{
  if (!db)
    return;
  db->sql->backend->free(db->sql);
  g_rec_mutex_clear(&db->lock);
  g_free(db);
}

bool
nc_fleetdb_is_shared(const NcFleetDb *db)
{
  return db->is_shared;
}

/* --- trying again --- */

typedef struct {
  int64_t deadline_us, pause_us;
} NcPatience;

static NcPatience
nc_patience(const NcFleetDb *db)
{
  return (NcPatience){ nc_mono_us() + db->options.patience_ms * (int64_t)1000, NC_FIRST_PAUSE_US };
}

/*
 * After a failure: true when it makes sense to try again, after a pause, with a connection that is there; ${error} is cleared then.
 * The lock is held all the while: others would only meet the same.
 */
static bool
nc_try_again(NcFleetDb *db, NcPatience *patience, GError **error)
{
  NcSql *sql = db->sql;

  while (sql->trouble != NC_SQL_FINE) {
    if (nc_mono_us() + patience->pause_us > patience->deadline_us)
      return false;
    g_usleep((gulong)patience->pause_us);
    patience->pause_us = MIN(2 * patience->pause_us, NC_LONGEST_PAUSE_US);
    g_clear_error(error);
    if (sql->backend->reconnect(sql, error))
      return true;
  }
  return false;
}

/* --- transactions --- */

typedef struct {
  NcFleetWriteFunc func;
  gpointer data;
  uint64_t epoch;
  bool is_fenced;  /* looks whether ${epoch} leads */
  int64_t writes;  /* what the count is in the present attempt */
  int64_t unknown; /* what it was in an attempt whose end is unknown; 0: there is none */
  bool is_done;    /* that attempt had been committed */
} NcTransaction;

bool
nc_fleetdb_take_number(const NcSqlRow *row, gpointer data, GError **error)
{
  *(int64_t *)data = nc_sql_number(row, 0);
  return true;
}

bool
nc_fleetdb_take_text(const NcSqlRow *row, gpointer data, GError **error)
{
  char **text = data;
  g_free(*text);
  *text = g_strdup(nc_sql_text(row, 0));
  return true;
}

/*
 * Locks the lease, counts, and sees who leads. The holder is part of that: a standby that had not heard of our lease, and leads now, gives the
 * same epoch to somebody else.
 */
static bool
nc_fence(NcFleetDb *db, NcTransaction *t, GError **error)
{
  const NcSqlValue values[] = { NC_SQL_INT(t->epoch), NC_SQL_TEXT(db->holder) };

  t->writes = 0;
  if (!db->sql->backend->run(db->sql,
                             "UPDATE lease SET writes=writes+1 WHERE name='leader' AND epoch=$1 AND holder=$2 AND holder<>''"
                             " RETURNING writes",
                             values, 2, nc_fleetdb_take_number, &t->writes, error))
    return false;
  if (t->writes == 0) {
    g_set_error(error, NC_FLEETDB_ERROR, NC_FLEETDB_FENCED, "another controller leads now: epoch %" G_GUINT64_FORMAT " is over%s", t->epoch,
                t->unknown ? "; whether its last write was committed is not known" : "");
    return false;
  }
  t->is_done = t->unknown != 0 && t->writes == t->unknown + 1;
  return true;
}

/* Of writes, tests may lose the commit on its way there, or its answer. */
static bool
nc_commit(NcFleetDb *db, const NcTransaction *t, GError **error)
{
  if (t->is_fenced && nc_fault_asks("fleetdb-commit", "cut-before"))
    db->sql->backend->cut(db->sql);
  if (!db->sql->backend->commit(db->sql, error))
    return false;
  if (!t->is_fenced || !nc_fault_asks("fleetdb-commit", "cut-after"))
    return true;
  db->sql->backend->cut(db->sql);
  db->sql->trouble = NC_SQL_LOST;
  return nc_fail(error, NC_ERROR_UNREACHABLE, "cut by a test");
}

/* One attempt; on failure everything is undone, but for a commit that nobody knows of. */
static bool
nc_attempt(NcFleetDb *db, NcTransaction *t, GError **error)
{
  const NcSqlBackend *backend = db->sql->backend;

  if (!backend->begin(db->sql, error))
    return false;
  if ((t->is_fenced && !nc_fence(db, t, error)) || (!t->is_done && !t->func(db, t->data, error))) {
    backend->rollback(db->sql);
    return false;
  }
  if (t->is_done) {
    backend->rollback(db->sql);
    return true;
  }
  if (nc_commit(db, t, error))
    return true;
  if (db->sql->trouble == NC_SQL_LOST)
    t->unknown = t->writes;
  else
    backend->rollback(db->sql);
  return false;
}

static bool
nc_run_transaction(NcFleetDb *db, NcTransaction *t, GError **error)
{
  NcPatience patience = nc_patience(db);
  GError *problem = NULL;
  bool ok;

  g_rec_mutex_lock(&db->lock);
  if (db->is_writing) {
    g_rec_mutex_unlock(&db->lock);
    return nc_fail(error, NC_ERROR_INTERNAL, "a write to the fleet's database within another one");
  }
  db->is_writing = true;
  db->epoch = t->epoch;
  do {
    ok = nc_attempt(db, t, &problem);
  } while (!ok && nc_try_again(db, &patience, &problem));
  db->is_writing = false;
  g_rec_mutex_unlock(&db->lock);
  if (!ok)
    g_propagate_error(error, problem);
  return ok;
}

bool
nc_fleetdb_write(NcFleetDb *db, uint64_t epoch, NcFleetWriteFunc func, gpointer data, GError **error)
{
  NcTransaction t = { .func = func, .data = data, .epoch = epoch, .is_fenced = true };
  return nc_run_transaction(db, &t, error);
}

bool
nc_fleetdb_transact(NcFleetDb *db, NcFleetWriteFunc func, gpointer data, GError **error)
{
  NcTransaction t = { .func = func, .data = data };
  return nc_run_transaction(db, &t, error);
}

bool
nc_fleetdb_change_returning(NcFleetDb *db, const char *statement, const NcSqlValue *values, int count, NcSqlRowFunc func, gpointer data,
                            GError **error)
{
  /* Another thread than the one that writes waits here, and is told then. */
  g_rec_mutex_lock(&db->lock);
  bool ok = db->is_writing ? db->sql->backend->run(db->sql, statement, values, count, func, data, error)
                           : nc_fail(error, NC_ERROR_INTERNAL, "a change of the fleet's database outside of a write");
  g_rec_mutex_unlock(&db->lock);
  return ok;
}

bool
nc_fleetdb_change(NcFleetDb *db, const char *statement, const NcSqlValue *values, int count, GError **error)
{
  return nc_fleetdb_change_returning(db, statement, values, count, NULL, NULL, error);
}

bool
nc_fleetdb_query(NcFleetDb *db, const char *statement, const NcSqlValue *values, int count, NcSqlRowFunc func, gpointer data, GError **error)
{
  NcPatience patience = nc_patience(db);
  GError *problem = NULL;
  bool ok;

  g_rec_mutex_lock(&db->lock);
  do {
    ok = db->sql->backend->run(db->sql, statement, values, count, func, data, &problem);
  } while (!ok && !db->is_writing && nc_try_again(db, &patience, &problem));
  g_rec_mutex_unlock(&db->lock);
  if (!ok)
    g_propagate_error(error, problem);
  return ok;
}

char *
nc_fleetdb_dump(json_t *value, const char *fallback, GError **error)
{
  char *text = value ? json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS) : g_strdup(fallback);
  if (!text) {
    nc_fail(error, NC_ERROR_INVALID, "a record for the fleet's database can't be written as JSON");
    return NULL;
  }
  /* What could not be read again (fleetdb/rows.h) would make each list with it unreadable. */
  if (strlen(text) > NC_MSG_MAX_BYTES) {
    nc_fail(error, NC_ERROR_INVALID, "a record for the fleet's database has %zu bytes, and may have %u: ask for less at once", strlen(text),
            NC_MSG_MAX_BYTES);
    g_clear_pointer(&text, g_free);
  }
  return text;
}
