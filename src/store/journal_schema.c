/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of the journal. */
#include "store/journal_internal.h"

/* A published step is never changed (store/db.h). */
static const char *const nc_journal_steps[] = {
  "CREATE TABLE run_right(vm TEXT PRIMARY KEY, epoch INTEGER NOT NULL, state TEXT NOT NULL, peer TEXT NOT NULL,"
  " migration TEXT NOT NULL) STRICT;"
  "CREATE TABLE machine(name TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;"
  "CREATE TABLE migration(seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, vm TEXT NOT NULL,"
  " state TEXT NOT NULL, finished INTEGER NOT NULL, record TEXT NOT NULL) STRICT;"
  "CREATE INDEX migration_unfinished ON migration(finished, seq);"
  "CREATE TABLE event(seq INTEGER PRIMARY KEY AUTOINCREMENT, migration TEXT NOT NULL, at_us INTEGER NOT NULL,"
  " event TEXT NOT NULL, detail TEXT NOT NULL) STRICT;"
  "CREATE INDEX event_migration ON event(migration, seq);"
  "CREATE TABLE setting(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
  "CREATE TABLE token(id TEXT PRIMARY KEY, secret_sha256 TEXT NOT NULL, node TEXT NOT NULL,"
  " expires_us INTEGER NOT NULL, used INTEGER NOT NULL DEFAULT 0) STRICT;",

  /* The triggers are for our own mistakes; against others there is the chain. */
  "CREATE TABLE audit(seq INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,"
  " vm TEXT NOT NULL, actor TEXT NOT NULL, detail TEXT NOT NULL, hash TEXT NOT NULL) STRICT;"
  "CREATE TRIGGER audit_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the transaction log is only added to'); END;"
  "CREATE TRIGGER audit_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the transaction log is only added to'); END;"
  "CREATE TABLE rollback(seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, migration TEXT NOT NULL,"
  " finished INTEGER NOT NULL, record TEXT NOT NULL) STRICT;"
  "CREATE INDEX rollback_migration ON rollback(migration, seq);",

  "CREATE TABLE attempt(seq INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, at_us INTEGER NOT NULL, mark TEXT NOT NULL,"
  " detail TEXT NOT NULL) STRICT;",

  /* Of people and programs; the table "token" has those by which nodes join. */
  "CREATE TABLE bearer(id TEXT PRIMARY KEY, secret_sha256 TEXT NOT NULL, subject TEXT NOT NULL, role TEXT NOT NULL,"
  " actor TEXT NOT NULL, created_us INTEGER NOT NULL, expires_us INTEGER NOT NULL, ended_us INTEGER NOT NULL) STRICT;",

  "CREATE TABLE keyed_answer(actor TEXT NOT NULL, key TEXT NOT NULL, request_sha256 TEXT NOT NULL, at_us INTEGER NOT NULL,"
  " answer TEXT NOT NULL, PRIMARY KEY(actor, key)) STRICT, WITHOUT ROWID;"
  "CREATE INDEX keyed_answer_at ON keyed_answer(at_us);",
};

const NcDbKind nc_journal_kind = {
  .name = "journal",
  .if_lost = "without it the run rights of this node's machines are unknown",
  .application_id = 0x4e6f7661, /* "Nova" */
  .steps = nc_journal_steps,
  .step_count = G_N_ELEMENTS(nc_journal_steps),
};
