/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new, empty database for each test: a file, or, when NC_TEST_POSTGRES names a server (tests/lib/with_postgres.py), a schema
 * of its own there.
 */
#pragma once

#include "fleetdb/access.h"
#include "fleetdb/events.h"
#include "fleetdb/fleetdb_internal.h"
#include "fleetdb/groups.h"
#include "fleetdb/inventory.h"
#include "fleetdb/migrations.h"

typedef struct {
  char *dir;      /* for files */
  char *database; /* to open */
  NcFleetDb *db;  /* opened by db_setup() */
  uint64_t epoch; /* of the holder "test" */
} Bed;

#define ONE_HOUR_MS 3600000

void db_setup(Bed *bed, gconstpointer data);
void db_teardown(Bed *bed, gconstpointer data);
/* Without opening it. */
void db_make(Bed *bed);
bool db_is_postgres(void);
/* "restart", "stop", "start": the PostgreSQL server of the tests. */
void db_server(const char *command);
/* Statements by a connection of their own; PostgreSQL only. */
void db_admin(Bed *bed, const char *statements);
NcFleetDb *db_open(const Bed *bed);

/* Takes the lease for ${holder}, waiting until the one before has run out; its epoch. */
uint64_t db_lead(NcFleetDb *db, const char *holder, int64_t ttl_ms);
/* One step of a write, as the leader of ${epoch}. */
bool db_submit(NcFleetDb *db, uint64_t epoch, const char *id, const char *machine, GError **error);
bool db_start(NcFleetDb *db, uint64_t epoch, const char *id, unsigned *ret_attempt, GError **error);
bool db_step(NcFleetDb *db, uint64_t epoch, const char *id, unsigned attempt, NcMoveState to, GError **error);
/* The text at ${key} of migration ${id}. Caller frees. */
char *db_text(NcFleetDb *db, const char *id, const char *key);
int64_t db_number(NcFleetDb *db, const char *id, const char *key);

/* Fails with ${code} of NC_ERROR, which it clears. */
#define assert_fails(call, error, code_wanted)                                                                                             \
  do {                                                                                                                                     \
    g_assert_false(call);                                                                                                                  \
    g_assert_error(error, NC_ERROR, code_wanted);                                                                                          \
    g_clear_error(&error);                                                                                                                 \
  } while (0)
/* Succeeds; says the error if not. */
#define assert_works(call, error)                                                                                                          \
  do {                                                                                                                                     \
    bool worked = (call);                                                                                                                  \
    g_assert_no_error(error);                                                                                                              \
    g_assert_true(worked);                                                                                                                 \
  } while (0)
