/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A rollback: the eight steps by which a machine gets back to where it was (design section 7), each recorded in the
 * journal before it is begun and after it has been done and verified.
 *
 * What a step does depends on the way back: source_rollback.c (the source's QEMU still has everything), rollback_back.c
 * (a completed migration: the machine moves back), rollback_checkpoint.c (it is set back to a checkpoint). Here is what they
 * share: the record, and the walk through it. A crash in the middle: the next novacrond opens the record again and
 * goes on with the step it was in, so every step may find that its work was done already, by itself.
 *
 * Fault points (base/fault.h): rollback-N-before (recorded as begun, nothing done) and rollback-N-after (done and verified, not
 * recorded yet), N from 1 to 8.
 *
 * A rollback is used by one thread.
 */
#pragma once

#include "store/journal.h"

typedef enum {
  NC_RB_STOP_TRANSFER,
  NC_RB_FENCE,       /* the other side can't run the machine */
  NC_RB_VERIFY_BASE, /* what is gone back to is there and whole */
  NC_RB_DISKS,
  NC_RB_MEMORY,
  NC_RB_DEVICES,
  NC_RB_RESUME,
  NC_RB_CLEAN_UP,
  NC_RB_STEP_COUNT
} NcRollbackStep;

const char *nc_rollback_step_name(NcRollbackStep step);

typedef enum { NC_RB_TO_SOURCE, NC_RB_TO_BACK, NC_RB_TO_CHECKPOINT, NC_RB_MODE_COUNT } NcRollbackMode;

const char *nc_rollback_mode_name(NcRollbackMode mode); /* "source", "back", "checkpoint" */
/* NC_RB_MODE_COUNT for another name. */
NcRollbackMode nc_rollback_mode_from_name(const char *name);

typedef struct NcRollback NcRollback;

typedef struct {
  NcRollbackMode mode;
  const char *migration, *vm;
  int64_t attempt;       /* of the migration's, that is undone; 0: the whole of it */
  const char *checkpoint; /* NULL: none */
  const GError *cause;   /* why; NULL: somebody asked for it */
  bool cancelled;        /* in the record: the migration ends as cancelled */
  const char *node_key;  /* the member of the record that names another node which has a part in it; NULL: none has */
  const char *node;
} NcRollbackOrder;

/*
 * A new one, recorded with all that the order says in one write: a crash finds the whole of it, or nothing. ${strict}: a step that
 * can't be recorded is not begun; else that is logged, and the machine comes first. NULL with an error only if ${strict}.
 */
NcRollback *nc_rollback_new(NcJournal *journal, const NcRollbackOrder *order, bool strict, GError **error);
/* The one that ${record} (borrowed) tells of, to go on with it. */
NcRollback *nc_rollback_resume(NcJournal *journal, json_t *record, bool strict);
/* The last one of this migration's ${attempt}, ended or not; NULL: there is none. */
NcRollback *nc_rollback_find(NcJournal *journal, const char *migration, int64_t attempt);
void nc_rollback_free(NcRollback *r); /* NULL is fine; the record stays */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcRollback, nc_rollback_free)

const char *nc_rollback_id(NcRollback *r);
/* Why it was begun, also before a crash; NULL: somebody asked for it. Caller frees. */
GError *nc_rollback_cause(NcRollback *r);
bool nc_rollback_is_finished(NcRollback *r);
bool nc_rollback_is_done(NcRollback *r, NcRollbackStep step);
/* A member of the record that a way back keeps for itself; written with the next step. ${value}: taken. */
void nc_rollback_set(NcRollback *r, const char *key, json_t *value);
int64_t nc_rollback_number(NcRollback *r, const char *key, int64_t fallback);
const char *nc_rollback_string(NcRollback *r, const char *key, const char *fallback); /* borrowed */
/* The record as it is now. New reference. */
json_t *nc_rollback_snapshot(NcRollback *r);
/* Writes it as it is, without a step. */
bool nc_rollback_save(NcRollback *r, GError **error);

typedef struct {
  bool nothing; /* there was nothing to do */
  char *detail; /* what was done, and what was seen that it is so; freed by the caller of the function */
} NcRollbackResult;

/* Does one step and verifies it; again if it has been done already. */
typedef bool (*NcRollbackFunc)(gpointer data, NcRollbackResult *result, GError **error);

/*
 * Records, does, verifies and records ${step}; up to ${tries} times if it fails, with a pause between them. A step that is recorded as
 * done is not done again. False: it failed, or is to be left for the next novacrond (${quitting}, atomic, NULL: never).
 */
bool nc_rollback_step(NcRollback *r, NcRollbackStep step, NcRollbackFunc func, gpointer data, int tries, gint *quitting, GError **error);

/* All steps are done. */
void nc_rollback_complete(NcRollback *r);
/*
 * It can't be brought to its end: state needs_attention. ${choice}: what people can do now, with the commands. False: that could not be
 * written, and the next novacrond would go on with it.
 */
bool nc_rollback_give_up(NcRollback *r, const GError *error, const char *choice);
/* It has become pointless: ${why}. */
void nc_rollback_withdraw(NcRollback *r, const char *why);
