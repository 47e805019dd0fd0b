/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps are macros of what the two dialects do not share: INT is a column of 64 bits, SEQ a primary key that counts up and never
 * uses a number twice, END what closes a table.
 *
 * Lists are read page by page in the order of an index (fleetdb/page.h), so each filter that may meet many rows has one which ends with that order.
 */
#include "fleetdb/schema.h"

/* The lease, what there is, and what is to move. */
#define STEP_FLEET(INT, SEQ, END)                                                                                                          \
  "CREATE TABLE lease(name TEXT PRIMARY KEY, holder TEXT NOT NULL, address TEXT NOT NULL, epoch " INT " NOT NULL, until_us " INT            \
  " NOT NULL, writes " INT " NOT NULL)" END ";"                                                                                            \
  "INSERT INTO lease(name, holder, address, epoch, until_us, writes) VALUES('leader', '', '', 0, 0, 0);"                                   \
  "CREATE TABLE node(name TEXT PRIMARY KEY, address TEXT NOT NULL, memory_bytes " INT " NOT NULL, disk_bytes " INT " NOT NULL, cpus " INT   \
  " NOT NULL, rate_bps " INT " NOT NULL, in_limit " INT " NOT NULL, out_limit " INT " NOT NULL, labels TEXT NOT NULL, is_cordoned " INT     \
  " NOT NULL, evacuation TEXT NOT NULL, joined_us " INT " NOT NULL, seen_us " INT " NOT NULL, detail TEXT NOT NULL)" END ";"               \
  "CREATE TABLE machine(name TEXT PRIMARY KEY, node TEXT NOT NULL, epoch " INT " NOT NULL, state TEXT NOT NULL, memory_bytes " INT          \
  " NOT NULL, disk_bytes " INT " NOT NULL, cpus " INT " NOT NULL, priority TEXT NOT NULL, requires TEXT NOT NULL, seen_us " INT             \
  " NOT NULL, detail TEXT NOT NULL)" END ";"                                                                                               \
  "CREATE INDEX machine_node ON machine(node, name);"                                                                                      \
  "CREATE TABLE migration(seq " SEQ ", id TEXT NOT NULL UNIQUE, machine TEXT NOT NULL, source TEXT NOT NULL, destination TEXT NOT NULL,"    \
  " state TEXT NOT NULL, is_finished " INT " NOT NULL, priority TEXT NOT NULL, attempts " INT " NOT NULL, epoch " INT " NOT NULL,"          \
  " batch TEXT NOT NULL, evacuation TEXT NOT NULL, actor TEXT NOT NULL, submitted_us " INT " NOT NULL, started_us " INT " NOT NULL,"        \
  " finished_us " INT " NOT NULL, not_before_us " INT " NOT NULL, reason TEXT NOT NULL, cancel_reason TEXT NOT NULL,"                      \
  " request TEXT NOT NULL, result TEXT NOT NULL)" END ";"                                                                                  \
  "CREATE UNIQUE INDEX migration_one_at_a_time ON migration(machine) WHERE is_finished=0;"                                                 \
  "CREATE INDEX migration_finished ON migration(is_finished, seq);"                                                                        \
  "CREATE INDEX migration_state ON migration(state, seq);"                                                                                 \
  "CREATE INDEX migration_machine ON migration(machine, seq);"                                                                             \
  "CREATE INDEX migration_source ON migration(source, seq);"                                                                               \
  "CREATE INDEX migration_destination ON migration(destination, seq);"                                                                     \
  "CREATE INDEX migration_batch ON migration(batch, seq);"                                                                                 \
  "CREATE INDEX migration_evacuation ON migration(evacuation, seq);"                                                                       \
  "CREATE TABLE batch(seq " SEQ ", id TEXT NOT NULL UNIQUE, policy TEXT NOT NULL, actor TEXT NOT NULL, created_us " INT " NOT NULL,"        \
  " detail TEXT NOT NULL)" END ";"                                                                                                         \
  "CREATE TABLE evacuation(seq " SEQ ", id TEXT NOT NULL UNIQUE, nodes TEXT NOT NULL, state TEXT NOT NULL, is_finished " INT " NOT NULL,"   \
  " actor TEXT NOT NULL, created_us " INT " NOT NULL, changed_us " INT " NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL)" END ";"     \
  "CREATE INDEX evacuation_finished ON evacuation(is_finished, seq);"                                                                      \
  "CREATE TABLE evacuation_item(evacuation TEXT NOT NULL, machine TEXT NOT NULL, position " INT " NOT NULL, wave " INT " NOT NULL,"         \
  " source TEXT NOT NULL, destination TEXT NOT NULL, migration TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY(evacuation, machine))" END  \
  ";"                                                                                                                                      \
  "CREATE UNIQUE INDEX evacuation_item_order ON evacuation_item(evacuation, position);"                                                    \
  "CREATE TABLE event(id " SEQ ", at_us " INT " NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, migration TEXT NOT NULL, detail TEXT"  \
  " NOT NULL)" END ";"                                                                                                                     \
  "CREATE INDEX event_migration ON event(migration, id);"                                                                                  \
  "CREATE INDEX event_at ON event(at_us);"

/* Who may ask, and what was asked already. */
#define STEP_ACCESS(INT, SEQ, END)                                                                                                         \
  "CREATE TABLE token(id TEXT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, role TEXT NOT NULL, secret_sha256 TEXT NOT NULL,"     \
  " actor TEXT NOT NULL, created_us " INT " NOT NULL, expires_us " INT " NOT NULL, ended_us " INT " NOT NULL)" END ";"                      \
  "CREATE TABLE idempotency(actor TEXT NOT NULL, key TEXT NOT NULL, request_sha256 TEXT NOT NULL, status " INT " NOT NULL, answer TEXT"     \
  " NOT NULL, created_us " INT " NOT NULL, PRIMARY KEY(actor, key))" END ";"                                                               \
  "CREATE INDEX idempotency_created ON idempotency(created_us);"

/* How long a lease was taken for: one that has much more left was taken by a clock that went wrong. 0: it is not known. */
#define STEP_LEASE_TTL(INT, SEQ, END) "ALTER TABLE lease ADD COLUMN ttl_us " INT " NOT NULL DEFAULT 0;"

/* Room for disks. Of rows that are older nothing was said of that. */
#define STEP_DISKS(INT, SEQ, END)                                                                                                          \
  "ALTER TABLE node ADD COLUMN file_systems TEXT NOT NULL DEFAULT '[]';"                                                                   \
  "ALTER TABLE machine ADD COLUMN disks TEXT NOT NULL DEFAULT '[]';"

/* What an item without a migration has come to. Of those that are older it is not known. */
#define STEP_ITEM_STATE(INT, SEQ, END) "ALTER TABLE evacuation_item ADD COLUMN state TEXT NOT NULL DEFAULT '';"

#define STEPS(INT, SEQ, END)                                                                                                               \
  {                                                                                                                                        \
    STEP_FLEET(INT, SEQ, END), STEP_ACCESS(INT, SEQ, END), STEP_LEASE_TTL(INT, SEQ, END), STEP_DISKS(INT, SEQ, END),                       \
      STEP_ITEM_STATE(INT, SEQ, END)                                                                                                       \
  }

const char *const nc_fleetdb_steps_sqlite[NC_FLEETDB_VERSION] = STEPS("INTEGER", "INTEGER PRIMARY KEY AUTOINCREMENT", " STRICT");
const char *const nc_fleetdb_steps_postgres[NC_FLEETDB_VERSION] = STEPS("BIGINT", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "");
