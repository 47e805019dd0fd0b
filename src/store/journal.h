/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node's durable memory: machines, run rights, migrations and what
 * happened to them, in one SQLite file (WAL).
 *
 * Everything the handoff relies on is written with synchronous=FULL inside one
 * transaction before the function returns: when nc_journal_set_right() says
 * true, a power cut can't take it back. The rest (progress of a running
 * migration) is written with synchronous=NORMAL.
 *
 * Thread-safe: one connection behind one lock; calls block for the disk.
 */
#pragma once

#include "base/error.h"
#include "base/msg.h"
#include "store/audit.h"

typedef struct NcJournal NcJournal;

/*
 * Opens or creates ${path}, takes an exclusive lock on it (a second novacrond
 * on the same data directory gets NC_ERROR_CONFLICT), checks its integrity and
 * brings its schema to the newest version, step by step, each step in one
 * transaction. A file from a newer NovaCron is refused.
 */
NcJournal *nc_journal_open(const char *path, GError **error);
void nc_journal_close(NcJournal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcJournal, nc_journal_close)

/* --- run rights (design section 5) --- */

typedef enum {
  NC_RIGHT_NONE,     /* never heard of this machine */
  NC_RIGHT_HELD,     /* this node holds the right and may run the machine */
  NC_RIGHT_INCOMING, /* this node prepares to receive it; may not run it */
  NC_RIGHT_RELEASED, /* this node gave it to ${peer}; may not run it */
  NC_RIGHT_REFUSED,  /* this node declined this epoch; can never start it */
  NC_RIGHT_COUNT
} NcRightState;

const char *nc_right_name(NcRightState state); /* "held", "incoming", ... */

typedef struct {
  char vm[64];
  uint64_t epoch;      /* of this record; grows by one with every handoff */
  NcRightState state;
  char peer[64];       /* INCOMING: from; RELEASED: to; else "" */
  char migration[64];  /* the migration that caused it; "" at definition */
} NcRight;

/* Reads the record of ${vm}; a machine without one yields NC_RIGHT_NONE, epoch 0. */
bool nc_journal_get_right(NcJournal *journal, const char *vm, NcRight *ret, GError **error);

/*
 * Replaces the record of right->vm by ${right}, durably, if the present record
 * is still ${expected_state} with ${expected_epoch}; else NC_ERROR_CONFLICT
 * and nothing changed. An epoch never goes down. In the same transaction the
 * event is appended to the migration's history, and an entry of kind "right" to the transaction log.
 */
bool nc_journal_set_right(NcJournal *journal, const NcRight *right, NcRightState expected_state, uint64_t expected_epoch,
                          GError **error);

/* Names of the machines whose record is ${state}. New reference: array of strings. */
json_t *nc_journal_list_rights(NcJournal *journal, NcRightState state, GError **error);

/* --- machines --- */

/* The record is a JSON object {name, spec, runtime}; ${runtime} is what the agent needs to find the QEMU again. */
bool nc_journal_put_machine(NcJournal *journal, const char *name, json_t *record, GError **error);
json_t *nc_journal_get_machine(NcJournal *journal, const char *name, GError **error); /* new ref; NC_ERROR_NOT_FOUND */
json_t *nc_journal_list_machines(NcJournal *journal, GError **error);                 /* new ref: array */
/* Removes the machine; its run-right record stays, so that an epoch is never used twice. */
bool nc_journal_delete_machine(NcJournal *journal, const char *name, GError **error);

/* --- migrations --- */

/* Finished ones; the oldest go when more are there, with their histories, but for those by which a machine has come that may run here, and those that are being undone. */
#define NC_JOURNAL_KEEP_MIGRATIONS 5000

/*
 * ${state} and ${finished} are columns (for finding unfinished ones after a
 * crash), ${record} is the migration as a JSON object. ${durable}: fsync now.
 */
bool nc_journal_put_migration(NcJournal *journal, const char *id, const char *vm, const char *state, bool finished,
                              json_t *record, bool durable, GError **error);
typedef struct {
  const char *id, *vm, *state;
  bool finished;
  json_t *record;      /* borrowed */
  bool begins_attempt; /* ${id} is an attempt's name, which this write uses up (below); NC_ERROR_CONFLICT: it was before */
} NcMigrationRow;

/*
 * The same together with what tells of it, in one transaction: a line of the migration's history (${event} NULL: none) and
 * an entry of the transaction log (${audit} NULL: none).
 */
bool nc_journal_step_migration(NcJournal *journal, const NcMigrationRow *row, const NcAuditEntry *audit, const char *event,
                               const char *event_detail, bool durable, GError **error);
json_t *nc_journal_get_migration(NcJournal *journal, const char *id, GError **error);
/* Newest first; ${unfinished_only}; at most ${limit} (0: all). New reference: array of records. */
json_t *nc_journal_list_migrations(NcJournal *journal, bool unfinished_only, unsigned limit, GError **error);

/*
 * A page of the same list, so that nobody holds the journal for long: at most ${limit} (1 to NC_JOURNAL_PAGE) records that are
 * older than row ${before} (0: from the newest). *ret_rows gets their rows, newest first. New reference: array of records.
 */
#define NC_JOURNAL_PAGE 100
json_t *nc_journal_page_migrations(NcJournal *journal, int64_t before, unsigned limit, GArray *ret_rows, GError **error);

/* Appends to the migration's history, with the wall clock's time. */
bool nc_journal_add_event(NcJournal *journal, const char *migration, const char *event, const char *detail, bool durable,
                          GError **error);
/* [{at, event, detail}], oldest first. New reference. */
json_t *nc_journal_list_events(NcJournal *journal, const char *migration, GError **error);
/*
 * The part of the same behind event ${after} (0: from the first), at most ${limit}: [{id, at, event, detail}]. Ids ascend over
 * all migrations of the node and are never used twice, but for those that a power cut took back. New reference.
 */
json_t *nc_journal_page_events(NcJournal *journal, const char *migration, int64_t after, unsigned limit, GError **error);
/* The same the other way: before event ${before}, the newest first. */
json_t *nc_journal_page_events_back(NcJournal *journal, const char *migration, int64_t before, unsigned limit, GError **error);

/* --- attempts: migrations that a controller has begun, by name (decision 086) --- */

/*
 * A name (nc_attempt_name_is_valid()) is used once. What it is used for is recorded durably, first come, first served: a
 * migration begins as it, or it is kept as one that will never begin. Then a message to begin it that comes late, or once
 * more, does nothing, whoever died or lost power meanwhile.
 *
 * Names are kept in a bounded number. Of those that are forgotten, the oldest, the greatest id remains: no name up to that id
 * may begin. Ids sort by the time at which the migration was asked for, so that only what has waited since then is refused
 * without need.
 */
typedef enum {
  NC_ATTEMPT_UNKNOWN,   /* never heard of; may begin */
  NC_ATTEMPT_BEGAN,     /* is, or was, a migration */
  NC_ATTEMPT_CANCELLED, /* never began, and never will: it was cancelled first */
  NC_ATTEMPT_FAILED,    /* never began, and never will: it could not */
  NC_ATTEMPT_FORGOTTEN, /* not known, and not younger than what was forgotten: will not begin (any more) */
  NC_ATTEMPT_COUNT
} NcAttemptMark;

/* The newest. Some MB; with 5 at a time that take 10 s each, those of 11 hours. */
#define NC_JOURNAL_KEEP_ATTEMPTS 20000

/* *ret_detail: what nc_journal_bar_attempt() was told, else an empty object; new reference; may be NULL. */
bool nc_journal_get_attempt(NcJournal *journal, const char *name, NcAttemptMark *ret, json_t **ret_detail, GError **error);
/*
 * ${name} is never to begin: ${mark} (CANCELLED, FAILED) says why, ${detail}, an object, tells more. If it is used already, or
 * forgotten, nothing changes. *ret: what it is now, durably.
 */
bool nc_journal_bar_attempt(NcJournal *journal, const char *name, NcAttemptMark mark, json_t *detail, NcAttemptMark *ret,
                            GError **error);

/* --- rollbacks (agent/rollback.h) --- */

typedef struct {
  const char *id;
  const char *migration; /* that it undoes */
  bool finished;
  json_t *record; /* borrowed */
} NcRollbackRow;

/* Makes or replaces it, with ${audit} (NULL: none) in the same transaction. */
bool nc_journal_put_rollback(NcJournal *journal, const NcRollbackRow *row, const NcAuditEntry *audit, bool durable, GError **error);
/* Oldest first: records of ${migration} (NULL: of all). New reference. */
json_t *nc_journal_list_rollbacks(NcJournal *journal, const char *migration, bool unfinished_only, GError **error);

/* --- the transaction log (store/audit.h) --- */

/*
 * Adds an entry that tells of no change in the journal. ${durable} false: it is on the disk with the next durable write.
 * ${ret_seq} may be NULL.
 */
bool nc_journal_audit(NcJournal *journal, const NcAuditEntry *entry, bool durable, uint64_t *ret_seq, GError **error);
/* The last entry. */
bool nc_journal_audit_head(NcJournal *journal, NcAuditHead *ret, GError **error);
/* The same, and a power cut can't take it back: what may be told to others. */
bool nc_journal_audit_settle(NcJournal *journal, NcAuditHead *ret, GError **error);

typedef struct {
  const char *kind;    /* NULL: all */
  const char *subject; /* a migration, rollback or machine; NULL: all */
  uint64_t before;     /* only entries with a smaller number; 0: all */
  unsigned limit;      /* 0: as many as one answer may have */
} NcAuditFilter;

/* Newest first: [{seq, at, kind, subject, vm, actor, detail, hash}]. New reference. */
json_t *nc_journal_list_audit(NcJournal *journal, const NcAuditFilter *filter, GError **error);

/* For fault points (base/fault.h): SQLite refuses the next write, as if the file were read-only; the one after it goes as ever. */
void nc_journal_refuse_next(NcJournal *journal);

/* --- settings and the one-time tokens of nodes that join (those of people: store/bearer.h) --- */

bool nc_journal_put_value(NcJournal *journal, const char *key, const char *value, GError **error);
char *nc_journal_get_value(NcJournal *journal, const char *key, GError **error); /* NULL without error: not there */

bool nc_journal_add_token(NcJournal *journal, const char *token_id, const char *secret_sha256, const char *node_name,
                          int64_t expires_us, GError **error);
/*
 * Consumes the token ${token_id} if the hash matches (compared in constant
 * time), it has not expired at ${now_us} and was not used. One answer for
 * every kind of failure: NC_ERROR_TRUST. ${ret_node_name}: name it was bound to, or NULL.
 */
bool nc_journal_use_token(NcJournal *journal, const char *token_id, const char *secret_sha256, int64_t now_us,
                          char **ret_node_name, GError **error);
