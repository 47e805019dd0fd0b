/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of src/fleetdb share. Nobody else includes this, but its tests. */
#pragma once

#include "fleetdb/fleetdb.h"
#include "fleetdb/sql.h"

struct NcFleetDb {
  NcFleetDbOptions options; /* never changes */
  bool is_shared;           /* never changes */
  GRecMutex lock;           /* around every use of the rest */
  NcSql *sql;
  char holder[NC_FLEETDB_MOST_HOLDER]; /* as whom the lease was last taken by this one; "": never */
  bool is_writing; /* within nc_fleetdb_write() */
  uint64_t epoch;  /* of that */
};

/* For tests of upgrades: as an older NovaCron would. */
NcFleetDb *nc_fleetdb_open_version(const char *database, const NcFleetDbOptions *options, int version, GError **error);

/* In a write. ${count} values; sql->changes. */
bool nc_fleetdb_change(NcFleetDb *db, const char *statement, const NcSqlValue *values, int count, GError **error);
/* The same, with RETURNING. */
bool nc_fleetdb_change_returning(NcFleetDb *db, const char *statement, const NcSqlValue *values, int count, NcSqlRowFunc func,
                                 gpointer data, GError **error);
/* A query, in a write or alone; alone it is tried again when the connection was lost. ${func} sees each row once. */
bool nc_fleetdb_query(NcFleetDb *db, const char *statement, const NcSqlValue *values, int count, NcSqlRowFunc func, gpointer data,
                      GError **error);
/* Runs ${func} in a transaction without looking who leads; it must be the same when run twice. For the lease. */
bool nc_fleetdb_transact(NcFleetDb *db, NcFleetWriteFunc func, gpointer data, GError **error);

/* For nc_fleetdb_query(): column 0. */
bool nc_fleetdb_take_number(const NcSqlRow *row, gpointer data /* int64_t */, GError **error);
bool nc_fleetdb_take_text(const NcSqlRow *row, gpointer data /* char *, freed before */, GError **error);

/* ${value} as text, NULL as ${fallback}. Caller frees; NULL on error: NC_ERROR_INVALID if it has more than NC_MSG_MAX_BYTES. */
char *nc_fleetdb_dump(json_t *value, const char *fallback, GError **error);
