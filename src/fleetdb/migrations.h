/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migrations as the controllers see them: what was asked for, what was decided, and how it ended. What really happens to a machine is the
 * source agent's (src/agent/migration.h).
 *
 *   queued ----> starting ----> running ----> completed | failed | cancelled
 *     |    ^      |   |           |
 *     |    |      |   +-> failed, cancelled, refused, completed (its node said so before anything else)
 *     |    |      +-----> backoff <-- running (an attempt failed, and another one may do better)
 *     |    backoff -----> starting, refused, cancelled, failed
 *     +-----------------> refused, cancelled
 *
 * Nothing is started twice. A start is first recorded: state starting, the attempt's number, the nodes, the leader's epoch; only when that is
 * committed is it sent, under the name ID.ATTEMPT. Whoever leads next finds it in this state and does not know whether it was sent. It asks
 * the source's agent for that name, or sends it once more: an agent begins a name once. An attempt that is over is told by its number, so that
 * late news of attempt 1 does nothing to attempt 2.
 *
 * A machine has one migration at a time that is not finished: an index of the database sees to that.
 *
 * Each change of state adds the event "migration.state" {state, attempt, reason} in the same transaction.
 */
#pragma once

#include "fleet/inventory.h"
#include "fleetdb/page.h"

typedef enum {
  NC_MOVE_QUEUED,
  NC_MOVE_BACKOFF,  /* waits for its next attempt, until not_before_us */
  NC_MOVE_STARTING, /* recorded; the source's agent has not said yet that it has it */
  NC_MOVE_RUNNING,  /* the source's agent has it */
  NC_MOVE_COMPLETED,
  NC_MOVE_FAILED,
  NC_MOVE_REFUSED, /* it never began, or can't any more */
  NC_MOVE_CANCELLED,
  NC_MOVE_COUNT
} NcMoveState;

/* "queued", "backoff", "starting", ... */
const char *nc_move_state_name(NcMoveState state);
/* false: ${name} (may be NULL) is none. */
bool nc_move_state_from_name(const char *name, NcMoveState *ret);
bool nc_move_state_is_final(NcMoveState state);
/* May a migration go from ${from} to ${to}? */
bool nc_move_may_step(NcMoveState from, NcMoveState to);

typedef struct {
  const char *id; /* nc_id_new("mig") */
  const char *machine;
  const char *source;
  const char *destination; /* asked for; NULL: the best when it starts */
  NcPriority priority;
  const char *batch, *evacuation; /* ids; NULL: part of none */
  const char *actor;
  int64_t submitted_us; /* wall clock; 0: now */
  json_t *request; /* everything else that was asked for, an object, borrowed; NULL: {} */
} NcMoveRequest;

/* In a write. NC_ERROR_CONFLICT: the machine has one that is not finished. */
bool nc_fleetdb_submit(NcFleetDb *db, const NcMoveRequest *request, GError **error);

/*
 * In a write: ${id}, queued or in backoff, is to be started, from ${source} (where the machine is now) to ${destination}. *ret_attempt: its
 * number, from 1. When the write has returned true, and not before, it may be sent. NC_ERROR_CONFLICT, NC_ERROR_NOT_FOUND.
 */
bool nc_fleetdb_start(NcFleetDb *db, const char *id, const char *source, const char *destination, unsigned *ret_attempt, GError **error);
/* What the source's agent is to know attempt ${attempt} as: "ID.ATTEMPT". Caller frees. */
char *nc_fleetdb_attempt_name(const char *id, unsigned attempt);

typedef struct {
  const char *id;
  unsigned attempt; /* that the news is of; of one that was never started, 0 */
  NcMoveState to;   /* not NC_MOVE_STARTING */
  const char *reason;    /* NULL: none */
  int64_t not_before_us; /* NC_MOVE_BACKOFF: when the next attempt may begin; wall clock */
  json_t *result;        /* an object, borrowed: what came out of it; NULL: as it was */
} NcMoveStep;

/*
 * In a write. In that state already, by the same attempt: true, and nothing changes. NC_ERROR_CONFLICT: it can't go there from where
 * it is, or another attempt is under way. NC_ERROR_NOT_FOUND.
 */
bool nc_fleetdb_step(NcFleetDb *db, const NcMoveStep *step, GError **error);
/*
 * In a write: somebody does not want it any more. One that waits is cancelled at once (*ret_is_over); one that was started keeps the wish in
 * cancel_reason, for whoever leads, until its agent says how it ended; what would be backoff then is cancelled. NC_ERROR_CONFLICT: it is finished. NC_ERROR_NOT_FOUND.
 */
bool nc_fleetdb_ask_to_cancel(NcFleetDb *db, const char *id, const char *reason, bool *ret_is_over, GError **error);
/* In a write: what is asked for is ${request} from now on, an object, borrowed. */
bool nc_fleetdb_ask_for(NcFleetDb *db, const char *id, json_t *request, GError **error);

/*
 * {seq, id, machine, source, destination, state, is_finished, priority, attempts, epoch (of the last start), batch, evacuation, actor, submitted_us,
 * started_us, finished_us (0: not yet), not_before_us, reason, cancel_reason, request, result}. New reference; NC_ERROR_NOT_FOUND.
 */
json_t *nc_fleetdb_get_migration(NcFleetDb *db, const char *id, GError **error);

typedef enum { NC_MOVES_ALL, NC_MOVES_UNFINISHED, NC_MOVES_FINISHED } NcMoveSelection;

/* NULL: whatever it is. */
typedef struct {
  NcMoveSelection selection;
  const char *state;
  const char *machine;
  const char *node; /* its source or destination */
  const char *source, *destination;
  const char *batch, *evacuation;
  bool is_oldest_first;
} NcMoveFilter;

/* Newest first, if not asked otherwise. *ret_next (may be NULL): the cursor of the next page, or NULL; caller frees. New reference. */
json_t *nc_fleetdb_list_migrations(NcFleetDb *db, const NcMoveFilter *filter, const NcPage *page, char **ret_next, GError **error);
/* How many are in each state, of ${batch} or ${evacuation} (NULL: all): {"queued": N, ...}, all states. New reference. */
json_t *nc_fleetdb_count_migrations(NcFleetDb *db, const char *batch, const char *evacuation, GError **error);
