/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fleet's database needs of an SQL server, and its two back ends: SQLite (by store/db.h) and PostgreSQL (libpq, here alone).
 *
 * One dialect: statements have $1, $2, ...; tables have text and 64-bit integers, and no NULL ("" and 0 stand for nothing). What differs
 * is the schema's types and the clock, see NcSqlBackend.
 *
 * A back end does not try again by itself. When a call fails, ${trouble} says whether trying again may help; that is what
 * fleetdb.c does, with the whole transaction.
 *
 * Not thread-safe: its owner holds a lock around every call. Calls block, at most for the statement's time limit and a second.
 */
#pragma once

#include "base/error.h"

typedef struct NcSql NcSql;
typedef struct NcSqlRow NcSqlRow;

typedef struct {
  const char *text; /* borrowed; NULL: ${number} is meant */
  int64_t number;
} NcSqlValue;

#define NC_SQL_TEXT(s) ((NcSqlValue){ .text = (s) })
#define NC_SQL_INT(n) ((NcSqlValue){ .number = (int64_t)(n) })

/* One row; false with ${error} set ends the query. PostgreSQL's come when all have arrived: none is seen twice. */
typedef bool (*NcSqlRowFunc)(const NcSqlRow *row, gpointer data, GError **error);

typedef enum {
  NC_SQL_FINE,  /* or failed for good */
  NC_SQL_LOST,  /* the connection is gone, and the transaction with it, unless it was just being committed: then nobody knows */
  NC_SQL_AGAIN, /* the server undid the transaction for the sake of another one */
} NcSqlTrouble;

typedef struct {
  /* Runs one statement. ${func} may be NULL. sql->changes: rows that it inserted, changed or removed (of a query: nothing). */
  bool (*run)(NcSql *sql, const char *statement, const NcSqlValue *values, int count, NcSqlRowFunc func, gpointer data, GError **error);
  bool (*begin)(NcSql *sql, GError **error);
  bool (*commit)(NcSql *sql, GError **error);
  void (*rollback)(NcSql *sql); /* if there is anything to undo */
  /* After NC_SQL_LOST: one try. NC_ERROR_UNREACHABLE. */
  bool (*reconnect)(NcSql *sql, GError **error);
  void (*cut)(NcSql *sql); /* for tests: as if the network had died */
  void (*free)(NcSql *sql);
  const char *(*text)(const NcSqlRow *row, int column); /* "" for NULL; until the next row */
  int64_t (*number)(const NcSqlRow *row, int column);
  const char *clock_us; /* an expression: microseconds since 1970 by the database's clock, which goes on within a transaction */
} NcSqlBackend;

/* The beginning of a back end's own. */
struct NcSql {
  const NcSqlBackend *backend;
  NcSqlTrouble trouble; /* of the last call */
  int64_t changes;
};

struct NcSqlRow {
  const NcSqlBackend *backend;
  gpointer result; /* the back end's */
  int index;
};

static inline const char *
nc_sql_text(const NcSqlRow *row, int column)
{
  return row->backend->text(row, column);
}

static inline int64_t
nc_sql_number(const NcSqlRow *row, int column)
{
  return row->backend->number(row, column);
}

/*
 * Both bring the schema to ${version} (fleetdb/schema.h), each step in one transaction, and refuse a newer one (NC_ERROR_INVALID).
 * NULL on error.
 */
NcSql *nc_sql_open_sqlite(const char *path, int version, GError **error);
/* ${statement_ms}: the longest that a statement may take. NC_ERROR_UNREACHABLE: the server does not answer. */
NcSql *nc_sql_open_postgres(const char *url, int statement_ms, int version, GError **error);
/*
 * Is ${url} one that libpq understands, and is no part of a password where messages would name it? NC_ERROR_INVALID. It is never part of a
 * message.
 */
bool nc_sql_check_postgres_url(const char *url, GError **error);
/* The same; and where it leads, without user and password: "host:port/database". Caller frees. */
char *nc_sql_postgres_server(const char *url, GError **error);
