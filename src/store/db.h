/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite file under the journal: opening it safely, its schema, and
 * statements with bound values. The only place that talks to SQLite.
 *
 * Not thread-safe: the journal holds its lock around every call.
 */
#pragma once

#include "base/error.h"
#include <sqlite3.h>
#include <stdint.h>

typedef struct NcDb NcDb;

/* See nc_journal_open(). NULL on error. */
NcDb *nc_db_open(const char *path, GError **error);
/* Somebody's journal, to look at: nothing is locked, checked or changed. NC_ERROR_NOT_FOUND, _CORRUPT, _INVALID (no journal). */
NcDb *nc_db_open_reader(const char *path, GError **error);
void nc_db_close(NcDb *db); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcDb, nc_db_close)

typedef struct {
  const char *text; /* borrowed; NULL: ${number} is meant */
  int64_t number;
} NcDbValue;

#define NC_TEXT(s) ((NcDbValue){ .text = (s) })
#define NC_INT(n) ((NcDbValue){ .number = (int64_t)(n) })

/* One row; false with ${error} set ends the query. */
typedef bool (*NcDbRowFunc)(sqlite3_stmt *row, gpointer data, GError **error);

/* Runs one statement with ${count} values; ${func} (may be NULL) gets the rows. */
bool nc_db_run(NcDb *db, const char *sql, const NcDbValue *values, int count, NcDbRowFunc func, gpointer data, GError **error);
/* Rows the last statement changed. */
int nc_db_changes(NcDb *db);

/* Begins a transaction; ${durable}: when it ends well, a power cut can't take it back. */
bool nc_db_begin(NcDb *db, bool durable, GError **error);
/* For fault points: the next transaction can write nothing, and fails as in a file that is read-only. */
void nc_db_refuse_next(NcDb *db);
/* Commits if ${ok}, else rolls back and returns false with ${error} as it is. */
bool nc_db_end(NcDb *db, bool ok, GError **error);

/* Text of column ${index}, "" for NULL; valid until the next row. */
const char *nc_db_column(sqlite3_stmt *row, int index);
