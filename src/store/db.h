/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An SQLite file (the journal; the fleet's database): opening it safely, its
 * schema, and statements with bound values. The only place that talks to SQLite.
 *
 * Not thread-safe: its owner holds a lock around every call.
 */
#pragma once

#include "base/error.h"
#include <sqlite3.h>
#include <stdint.h>

typedef struct NcDb NcDb;

/* What the file is for. Lives as long as the NcDb. */
typedef struct {
  const char *name;    /* for people: "journal" */
  const char *if_lost; /* for people: what it means if it is damaged */
  int application_id;  /* in the file's head */
  /*
   * Step N brings version N to N+1, in one transaction with the new number.
   * A published step is never changed: a new one is appended.
   */
  const char *const *steps;
  int step_count;
} NcDbKind;

/* See nc_journal_open(). NULL on error. */
NcDb *nc_db_open(const char *path, const NcDbKind *kind, GError **error);
/* Somebody's file, to look at: nothing is locked, checked or changed. NC_ERROR_NOT_FOUND, _CORRUPT, _INVALID (not of this kind). */
NcDb *nc_db_open_reader(const char *path, const NcDbKind *kind, GError **error);
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

/* Runs one statement with ${count} values; ${func} (may be NULL) gets the rows. NC_ERROR_EXISTS: its key is taken. */
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
int64_t nc_db_column_int(sqlite3_stmt *row, int index);
