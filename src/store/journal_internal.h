/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the journal share: journal.c (rights, machines, migrations), attempt_rows.c, rollback_rows.c, audit*.c. Nobody else includes this. */
#pragma once

#include "store/db.h"
#include "store/journal.h"

extern const NcDbKind nc_journal_kind; /* journal_schema.c */

struct NcJournal {
  char *path;  /* never changes */
  GMutex lock; /* around every use of db */
  NcDb *db;
};

/* All of these take the lock. Read: no transaction. */
bool nc_journal_read(NcJournal *journal, const char *sql, const NcDbValue *values, int count, NcDbRowFunc func, gpointer data,
                     GError **error);
/* A list of what ${func} appends to its data, a JSON array. New reference; NULL on error. */
json_t *nc_journal_read_list(NcJournal *journal, const char *sql, const NcDbValue *values, int count, NcDbRowFunc func, GError **error);

/* For nc_journal_read_list(): column 0 is a JSON record. */
bool nc_journal_append_record(sqlite3_stmt *row, gpointer data, GError **error);
/* Caller frees; NULL on error. */
char *nc_journal_dump(json_t *record, GError **error);

/* Inside a transaction, with the lock held. */
bool nc_audit_append_locked(NcJournal *journal, const NcAuditEntry *entry, GError **error);
/* The name's one use, by a migration. NC_ERROR_CONFLICT: it is used. */
bool nc_attempt_begin_locked(NcJournal *journal, const char *name, GError **error);
/* Once at opening: the log's first entry, so that a log without any has been emptied. */
bool nc_audit_begin_log(NcDb *db, GError **error);
