/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PostgreSQL as a back end. Its URLs: postgres_url.c; nothing else uses libpq.
 *
 * Every wait has an end. libpq's own functions wait for an answer for ever, and a server that has vanished does not close its
 * connections; so statements are sent, and their results waited for until a second after the server itself should have
 * given up (statement_timeout). A connection that has missed this is closed. Connecting is limited for each address of each host; to look
 * up a name may take as long as the system's resolver tries (resolv.conf(5)).
 *
 * A controller that stands still in the middle of a transaction would keep the others from leading: the server ends such
 * sessions (idle_in_transaction_session_timeout), and nobody waits long for a lock (lock_timeout).
 */
#include "base/ident.h"
#include "base/log.h"
#include "fleetdb/schema.h"
#include "fleetdb/sql.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define NC_POSTGRES_MOST_VALUES 32
#define NC_POSTGRES_GRACE_MS 1000    /* beyond the server's own limit */
#define NC_POSTGRES_UPGRADE_MS 600000 /* a step of the schema may have to rewrite tables */
#define NC_POSTGRES_LOCK_KEY 5642817230163301222 /* of advisory locks: one upgrade at a time; any number that others do not use */

typedef struct {
  NcSql sql; /* first */
  char *url;
  char *server; /* where it is, for people: no password */
  int statement_ms;
  int version;
  PGconn *connection; /* NULL: lost */
  bool is_open;       /* a transaction */
} NcPostgres;

/* --- errors --- */

typedef struct {
  const char *state; /* SQLSTATE, or its first two characters */
  int code;
  NcSqlTrouble trouble;
  const char *remedy;
} NcStateRule;

/* The first that fits. */
static const NcStateRule nc_state_rules[] = {
  { "08", NC_ERROR_UNREACHABLE, NC_SQL_LOST, "" },
  { "57P01", NC_ERROR_UNREACHABLE, NC_SQL_LOST, "" }, /* it shuts down */
  { "57P02", NC_ERROR_UNREACHABLE, NC_SQL_LOST, "" },
  { "57P03", NC_ERROR_UNREACHABLE, NC_SQL_LOST, "" }, /* it starts up */
  { "57P05", NC_ERROR_UNREACHABLE, NC_SQL_LOST, "" },
  { "25P03", NC_ERROR_UNREACHABLE, NC_SQL_LOST, "" }, /* we stood still in a transaction */
  { "25006", NC_ERROR_UNREACHABLE, NC_SQL_LOST, "; this server only reads: name the primary in `database`" },
  { "40001", NC_ERROR_UNREACHABLE, NC_SQL_AGAIN, "" },
  { "40P01", NC_ERROR_UNREACHABLE, NC_SQL_AGAIN, "" },
  { "55P03", NC_ERROR_UNREACHABLE, NC_SQL_AGAIN, "" }, /* lock_timeout */
  { "57014", NC_ERROR_TIMEOUT, NC_SQL_FINE, "; the server is too slow for that, or something holds it up: look at pg_stat_activity" },
  { "23505", NC_ERROR_EXISTS, NC_SQL_FINE, "" },
  { "23", NC_ERROR_INVALID, NC_SQL_FINE, "" },
  { "22", NC_ERROR_INVALID, NC_SQL_FINE, "" },
  { "53", NC_ERROR_RESOURCE, NC_SQL_FINE, "; nothing was changed" },
  { "42501", NC_ERROR_FORBIDDEN, NC_SQL_FINE, "; the user in `database` needs a database (or schema) of its own" },
  { "XX", NC_ERROR_CORRUPT, NC_SQL_FINE, "; restore the database from a backup" },
};

static void
nc_postgres_drop(NcPostgres *p)
{
  g_clear_pointer(&p->connection, PQfinish);
  p->is_open = false;
}

/* What libpq says, in one line. Caller frees. */
static char *
nc_postgres_text(const char *text)
{
  char *line = g_strdup(text && text[0] ? text : "no answer");
  return g_strstrip(g_strdelimit(line, "\n\t", ' '));
}

/* The connection is of no use any more. */
static bool
nc_postgres_lost(NcPostgres *p, const char *what, GError **error)
{
  g_autofree char *why = nc_postgres_text(what);
  nc_postgres_drop(p);
  p->sql.trouble = NC_SQL_LOST;
  return nc_fail(error, NC_ERROR_UNREACHABLE, "the fleet's database (PostgreSQL at %s) does not answer: %s", p->server, why);
}

/* ${result}: what the server said instead of doing it. */
static bool
nc_postgres_refused(NcPostgres *p, const PGresult *result, GError **error)
{
  const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  const NcStateRule *rule = NULL;

  if (!state || PQstatus(p->connection) != CONNECTION_OK)
    return nc_postgres_lost(p, message ? message : PQerrorMessage(p->connection), error);
  for (size_t i = 0; i < G_N_ELEMENTS(nc_state_rules) && !rule; i++)
    if (g_str_has_prefix(state, nc_state_rules[i].state))
      rule = &nc_state_rules[i];
  if (rule)
    p->sql.trouble = rule->trouble;
  g_autofree char *text = nc_postgres_text(message);
  if (p->sql.trouble == NC_SQL_LOST)
    nc_postgres_drop(p);
  return nc_fail(error, rule ? rule->code : NC_ERROR_INTERNAL, "the fleet's database (PostgreSQL at %s): %s (%s)%s", p->server, text, state,
                 rule ? rule->remedy : "");
}

/* --- waiting --- */

static bool
nc_postgres_await(PGconn *connection, short events, int64_t deadline_us)
{
  struct pollfd fd = { .fd = PQsocket(connection), .events = events };

  for (;;) {
    int64_t left_us = deadline_us - nc_mono_us();
    if (left_us <= 0)
      return false;
    int n = poll(&fd, 1, (int)MIN(left_us / 1000 + 1, G_MAXINT));
    if (n > 0)
      return true;
    if (n < 0 && errno != EINTR)
      return false;
  }
}

/* The next result, NULL at the end of them; *ret_ok false: the connection is lost. Caller clears it. */
static PGresult *
nc_postgres_next(NcPostgres *p, int64_t deadline_us, bool *ret_ok, GError **error)
{
  *ret_ok = true;
  while (PQisBusy(p->connection)) {
    /* What was to be sent may not have left yet. */
    int unsent = PQflush(p->connection);
    *ret_ok = unsent >= 0 && nc_postgres_await(p->connection, (short)(POLLIN | (unsent ? POLLOUT : 0)), deadline_us);
    if (!*ret_ok) {
      nc_postgres_lost(p, unsent < 0 ? PQerrorMessage(p->connection) : "it took longer than a statement may", error);
      return NULL;
    }
    if (!PQconsumeInput(p->connection)) {
      *ret_ok = nc_postgres_lost(p, PQerrorMessage(p->connection), error);
      return NULL;
    }
  }
  return PQgetResult(p->connection);
}

static inline void
nc_pgresult_clear(PGresult **result)
{
  PQclear(*result);
}
#define nc_autopgresult __attribute__((cleanup(nc_pgresult_clear)))

/* The last result of what was sent (an error ends a series of statements); NULL on error. */
static PGresult *
nc_postgres_finish(NcPostgres *p, int limit_ms, GError **error)
{
  nc_autopgresult PGresult *last = NULL;
  int64_t deadline_us = nc_mono_us() + (limit_ms + NC_POSTGRES_GRACE_MS) * (int64_t)1000;
  bool ok;

  for (PGresult *next; (next = nc_postgres_next(p, deadline_us, &ok, error)) != NULL;) {
    PQclear(last);
    last = next;
  }
  if (!ok)
    return NULL;
  ExecStatusType status = PQresultStatus(last);
  if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
    nc_postgres_refused(p, last, error);
    return NULL;
  }
  return g_steal_pointer(&last);
}

/* --- statements --- */

/* Is there a connection to use? */
static bool
nc_postgres_ready(NcPostgres *p, GError **error)
{
  p->sql.trouble = NC_SQL_FINE;
  return p->connection || nc_postgres_lost(p, "the connection was lost", error);
}

/* Statements without values, ";" between. NULL on error. Caller clears it. */
static PGresult *
nc_postgres_exec(NcPostgres *p, const char *statements, int limit_ms, GError **error)
{
  if (!nc_postgres_ready(p, error))
    return NULL;
  if (!PQsendQuery(p->connection, statements)) {
    nc_postgres_lost(p, PQerrorMessage(p->connection), error);
    return NULL;
  }
  return nc_postgres_finish(p, limit_ms, error);
}

static bool
nc_postgres_do(NcPostgres *p, const char *statements, int limit_ms, GError **error)
{
  nc_autopgresult PGresult *result = nc_postgres_exec(p, statements, limit_ms, error);
  return result != NULL;
}

/* What of a query's rows goes to ${func}. */
static bool
nc_postgres_give(NcPostgres *p, PGresult *result, NcSqlRowFunc func, gpointer data, GError **error)
{
  NcSqlRow row = { .backend = p->sql.backend, .result = result };
  const int rows = PQntuples(result);

  for (row.index = 0; func && row.index < rows; row.index++)
    if (!func(&row, data, error))
      return false;
  return true;
}

static bool
nc_postgres_run(NcSql *sql, const char *statement, const NcSqlValue *values, int count, NcSqlRowFunc func, gpointer data, GError **error)
{
  NcPostgres *p = (NcPostgres *)sql;
  const char *texts[NC_POSTGRES_MOST_VALUES];
  char numbers[NC_POSTGRES_MOST_VALUES][24];

  if (count > NC_POSTGRES_MOST_VALUES)
    return nc_fail(error, NC_ERROR_INTERNAL, "a statement with %d values", count);
  if (!nc_postgres_ready(p, error))
    return false;
  for (int i = 0; i < count; i++) {
    g_snprintf(numbers[i], sizeof numbers[i], "%" G_GINT64_FORMAT, values[i].number);
    texts[i] = values[i].text ? values[i].text : numbers[i];
  }
  if (!PQsendQueryParams(p->connection, statement, count, NULL, texts, NULL, NULL, 0))
    return nc_postgres_lost(p, PQerrorMessage(p->connection), error);
  nc_autopgresult PGresult *result = nc_postgres_finish(p, p->statement_ms, error);
  if (!result)
    return false;
  sql->changes = g_ascii_strtoll(PQcmdTuples(result), NULL, 10);
  return nc_postgres_give(p, result, func, data, error);
}

static bool
nc_postgres_begin(NcSql *sql, GError **error)
{
  NcPostgres *p = (NcPostgres *)sql;
  p->is_open = nc_postgres_do(p, "BEGIN", p->statement_ms, error);
  return p->is_open;
}

static void
nc_postgres_cut(NcSql *sql)
{
  const NcPostgres *p = (const NcPostgres *)sql;
  if (p->connection)
    shutdown(PQsocket(p->connection), SHUT_RDWR);
}

static bool
nc_postgres_commit(NcSql *sql, GError **error)
{
  NcPostgres *p = (NcPostgres *)sql;
  nc_autopgresult PGresult *result = nc_postgres_exec(p, "COMMIT", p->statement_ms, error);
  if (!result)
    return false;
  p->is_open = false;
  /* After an error that somebody overlooked, the server answers COMMIT with success and "ROLLBACK". */
  return g_str_equal(PQcmdStatus(result), "COMMIT") ||
         nc_fail(error, NC_ERROR_INTERNAL, "the fleet's database (PostgreSQL at %s) has undone a transaction that had an error", p->server);
}

static void
nc_postgres_rollback(NcSql *sql)
{
  NcPostgres *p = (NcPostgres *)sql;
  NcSqlTrouble trouble = sql->trouble; /* the first one counts */

  /* A rollback that does not work leaves a connection in an unknown state. */
  if (p->is_open && p->connection && !nc_postgres_do(p, "ROLLBACK", p->statement_ms, NULL))
    nc_postgres_drop(p);
  p->is_open = false;
  sql->trouble = trouble;
}

/* --- connecting --- */

/* What may be left out of the URL; what is in it counts. */
static const char *const nc_postgres_keywords[] = { "connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count",
                                                    "tcp_user_timeout", "target_session_attrs", "application_name", "dbname",
                                                    "client_encoding", NULL };

/* What the server has to say besides; libpq would print it. */
static void
nc_postgres_notice(void *data, const char *message)
{
  g_autofree char *text = nc_postgres_text(message);
  nc_log(NC_LOG_WARNING, "fleetdb", "PostgreSQL: %s", text);
}

static PGconn *
nc_postgres_dial(const char *url)
{
  const char *const values[] = { "3", "5", "2", "3", "5000", "read-write", "novacrond", url, "UTF8", NULL };
  G_STATIC_ASSERT(G_N_ELEMENTS(values) == G_N_ELEMENTS(nc_postgres_keywords));
  return PQconnectdbParams(nc_postgres_keywords, values, 1);
}

static bool
nc_postgres_prepare_session(NcPostgres *p, GError **error)
{
  g_autofree char *settings = g_strdup_printf("SET statement_timeout=%d; SET lock_timeout=%d; SET idle_in_transaction_session_timeout=%d;"
                                              "SET client_min_messages=warning; SET default_transaction_isolation='read committed';"
                                              /* A commit that a power cut takes back would start a migration twice. */
                                              "SELECT set_config('synchronous_commit', 'on', false)"
                                              " WHERE current_setting('synchronous_commit')='off'",
                                              p->statement_ms, p->statement_ms / 2, p->statement_ms);
  return nc_postgres_do(p, settings, p->statement_ms, error);
}

/* *ret_version: 0 if there is no schema yet. */
static bool
nc_postgres_read_version(NcPostgres *p, int64_t *ret_version, GError **error)
{
  nc_autopgresult PGresult *table = nc_postgres_exec(p, "SELECT 1 WHERE to_regclass('novacron_schema') IS NOT NULL", p->statement_ms, error);
  if (!table)
    return false;
  *ret_version = 0;
  if (PQntuples(table) == 0)
    return true;
  nc_autopgresult PGresult *result = nc_postgres_exec(p, "SELECT version FROM novacron_schema", p->statement_ms, error);
  if (!result)
    return false;
  if (PQntuples(result) == 1)
    *ret_version = g_ascii_strtoll(PQgetvalue(result, 0, 0), NULL, 10);
  return true;
}

/* Within a transaction that has the lock. */
static bool
nc_postgres_steps(NcPostgres *p, int64_t version, int limit_ms, GError **error)
{
  for (int64_t i = version; i < p->version; i++) {
    g_autofree char *number = g_strdup_printf("DELETE FROM novacron_schema; INSERT INTO novacron_schema(version) VALUES(%d)", (int)i + 1);
    if (!nc_postgres_do(p, nc_fleetdb_steps_postgres[i], limit_ms, error) || !nc_postgres_do(p, number, p->statement_ms, error))
      return false;
  }
  return true;
}

static bool
nc_postgres_check_version(const NcPostgres *p, int64_t version, GError **error)
{
  return (version >= 0 && version <= p->version) ||
         nc_fail(error, NC_ERROR_INVALID,
                 "the fleet's database (PostgreSQL at %s) was written by a newer NovaCron (its schema is %d, this one knows %d): install "
                 "that version here, too",
                 p->server, (int)version, p->version);
}

/* All steps are one transaction here: PostgreSQL has no notion of one that half of a schema belongs to. */
static bool
nc_postgres_upgrade_locked(NcPostgres *p, int limit_ms, GError **error)
{
  g_autofree char *lock = g_strdup_printf("SET LOCAL statement_timeout=%d; SET LOCAL lock_timeout=%d;"
                                          "SELECT pg_advisory_xact_lock(%" G_GINT64_FORMAT ");"
                                          "CREATE TABLE IF NOT EXISTS novacron_schema(version BIGINT NOT NULL)",
                                          limit_ms, limit_ms / 2, (gint64)NC_POSTGRES_LOCK_KEY);
  int64_t version = 0;

  return nc_postgres_do(p, lock, limit_ms, error) && nc_postgres_read_version(p, &version, error) &&
         nc_postgres_check_version(p, version, error) && nc_postgres_steps(p, version, limit_ms, error);
}

static bool
nc_postgres_upgrade(NcPostgres *p, int limit_ms, GError **error)
{
  if (!nc_postgres_begin(&p->sql, error))
    return false;
  if (nc_postgres_upgrade_locked(p, limit_ms, error))
    return nc_postgres_commit(&p->sql, error);
  nc_postgres_rollback(&p->sql);
  return false;
}

/* Most often it is what it should be, and then nobody's upgrade is waited for. */
static bool
nc_postgres_prepare_schema(NcPostgres *p, int limit_ms, GError **error)
{
  int64_t version = 0;

  if (!nc_postgres_read_version(p, &version, error) || !nc_postgres_check_version(p, version, error))
    return false;
  return version == p->version || nc_postgres_upgrade(p, limit_ms, error);
}

/*
 * The version is looked at each time: another controller may have been upgraded meanwhile. ${limit_ms}: the longest that a step of an upgrade,
 * or waiting for another one's, may take.
 */
static bool
nc_postgres_connect(NcPostgres *p, int limit_ms, GError **error)
{
  p->connection = nc_postgres_dial(p->url);
  if (PQstatus(p->connection) != CONNECTION_OK)
    return nc_postgres_lost(p, PQerrorMessage(p->connection), error);
  PQsetNoticeProcessor(p->connection, nc_postgres_notice, NULL);
  /* Else sending more than the socket takes would wait for the server for ever. */
  if (PQsetnonblocking(p->connection, 1) != 0)
    return nc_postgres_lost(p, PQerrorMessage(p->connection), error);
  if (!nc_postgres_prepare_session(p, error) || !nc_postgres_prepare_schema(p, limit_ms, error)) {
    nc_postgres_drop(p);
    return false;
  }
  return true;
}

static bool
nc_postgres_reconnect(NcSql *sql, GError **error)
{
  NcPostgres *p = (NcPostgres *)sql;
  sql->trouble = NC_SQL_FINE;
  /* Others wait for this one: it may not take as long as an upgrade. */
  return p->connection || nc_postgres_connect(p, p->statement_ms, error);
}

static void
nc_postgres_free(NcSql *sql)
{
  NcPostgres *p = (NcPostgres *)sql;
  nc_postgres_drop(p);
  g_free(p->url);
  g_free(p->server);
  g_free(p);
}

static const char *
nc_postgres_column_text(const NcSqlRow *row, int column)
{
  return PQgetvalue(row->result, row->index, column);
}

static int64_t
nc_postgres_column_number(const NcSqlRow *row, int column)
{
  return g_ascii_strtoll(PQgetvalue(row->result, row->index, column), NULL, 10);
}

static const NcSqlBackend nc_sql_backend_postgres = {
  .run = nc_postgres_run,
  .begin = nc_postgres_begin,
  .commit = nc_postgres_commit,
  .rollback = nc_postgres_rollback,
  .reconnect = nc_postgres_reconnect,
  .cut = nc_postgres_cut,
  .free = nc_postgres_free,
  .text = nc_postgres_column_text,
  .number = nc_postgres_column_number,
  .clock_us = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
};

NcSql *
nc_sql_open_postgres(const char *url, int statement_ms, int version, GError **error)
{
  char *server = nc_sql_postgres_server(url, error);
  if (!server)
    return NULL;
  NcPostgres *p = g_new0(NcPostgres, 1);
  p->sql.backend = &nc_sql_backend_postgres;
  p->url = g_strdup(url);
  p->server = server;
  p->statement_ms = statement_ms;
  p->version = version;
  if (!nc_postgres_connect(p, NC_POSTGRES_UPGRADE_MS, error)) {
    nc_postgres_free(&p->sql);
    return NULL;
  }
  return &p->sql;
}
