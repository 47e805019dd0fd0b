/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows as JSON objects, and the queries of lists. Private to src/fleetdb.
 *
 * A table's columns stand in one array; from it come the columns of a query, in this order, and the object's members.
 */
#pragma once

#include "fleetdb/fleetdb_internal.h"
#include "fleetdb/page.h"

typedef enum { NC_COLUMN_TEXT, NC_COLUMN_INT, NC_COLUMN_BOOL, NC_COLUMN_JSON } NcRowsColumnType;

typedef struct {
  const char *name;
  NcRowsColumnType type;
  const char *expression; /* of SQL, whose value it is; NULL: the column of that name */
} NcRowsColumn;

typedef struct {
  const char *table; /* as in FROM */
  const char *kind;  /* in cursors and messages */
  const NcRowsColumn *columns;
  int count;
} NcRows;

#define NC_ROWS(table_name, kind_name, column_array)                                                                                      \
  { .table = table_name, .kind = kind_name, .columns = column_array, .count = (int)G_N_ELEMENTS(column_array) }

/* The object of one row. New reference; NULL with NC_ERROR_CORRUPT. */
json_t *nc_rows_object(const NcRows *table, const NcSqlRow *row, GError **error);
/* "a, b, c". Caller frees. */
char *nc_rows_columns(const NcRows *table);
/* The row whose ${key} is ${value}. New reference; NULL with NC_ERROR_NOT_FOUND. */
json_t *nc_rows_get(NcFleetDb *db, const NcRows *table, const char *key, const char *value, GError **error);
/* What a statement with nc_rows_columns() finds: a new reference, an array. */
json_t *nc_rows_query(NcFleetDb *db, const NcRows *table, const char *statement, const NcSqlValue *values, int count, GError **error);

/* --- conditions --- */

#define NC_WHERE_MOST 16

typedef struct {
  GString *text; /* " AND a=$1 AND b=$2" */
  NcSqlValue values[NC_WHERE_MOST];
  int count;
} NcWhere;

void nc_where_init(NcWhere *where);
void nc_where_clear(NcWhere *where);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcWhere, nc_where_clear)
/* A value to use, by its number from 1. */
int nc_where_value(NcWhere *where, NcSqlValue value);
/* ${column} ${operator} ${value}. */
void nc_where_add(NcWhere *where, const char *column, const char *operator, NcSqlValue value);
/* Only if ${text} is not NULL. */
void nc_where_text(NcWhere *where, const char *column, const char *text);

/* --- pages --- */

typedef struct {
  const char *key;    /* the column that gives the order; it is the table's first */
  bool is_text;       /* else a number */
  bool is_descending;
} NcOrder;

/*
 * One page of ${table} where ${where} holds. *ret_next (may be NULL): its cursor, NULL at the end; caller frees. New reference, an array of
 * objects; NULL on error.
 */
json_t *nc_rows_page(NcFleetDb *db, const NcRows *table, NcWhere *where, const NcOrder *order, const NcPage *page, char **ret_next,
                      GError **error);
/* The parts of that, for lists that need a statement of their own. */
unsigned nc_page_limit(const NcPage *page);
/* Adds "behind the cursor" to ${where}; *ret_text keeps the value. */
bool nc_page_begin(const NcRows *table, NcWhere *where, const NcOrder *order, const NcPage *page, char **ret_text, GError **error);
/* ${rows} may have one row more than the page: that one is removed, and there is a next page. */
char *nc_page_end(const NcRows *table, json_t *rows, const NcOrder *order, unsigned limit);
