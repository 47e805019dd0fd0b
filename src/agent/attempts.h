/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attempts: migrations from this node that a controller has begun, by name. The agent's side of
 * src/controller/agent_port.h, decisions 082 and 086.
 *
 * A name is used once, durably, whatever is told how often, late, or after novacrond was killed (store/journal.h): it
 * begins; or it was cancelled before it was heard of, or could not begin, and never will. An attempt that has begun is
 * the migration whose id is its name; it is limited, shown and resolved as any other.
 *
 * All answer how the attempt stands then, a new reference: {name, state, reason, may_pass, phase, percent,
 * progress, wants_endgame, run_epoch, result}.
 *   - state: "unknown" (never heard of, or forgotten: ${reason} says so), "running" (also if it waits for an operator),
 * "completed", "failed", "cancelled".
 *   - reason: a text; null: none. may_pass: another attempt may do better (failed).
 *   - phase, percent: the migration's; progress (running): the newest sample of it, as watchers get. wants_endgame: its last round is near, or there, and not over (agent/endgame.h).
 *     run_epoch: of the machine's run right at the destination (completed; else null).
 *   - result: what it cost, {total_ms, pause_ms, wire_bytes, ram_bytes, ratio, sha256, postcopy}, of one that has
 * ended; else null. NULL on error: nothing was decided, so it may be asked again. NC_ERROR_INVALID: the name is none.
 * Any thread.
 */
#pragma once

#include "agent/migrations.h"

typedef struct {
  NcJournal *journal; /* both borrowed */
  NcMigrations *migrations;
} NcAttempts;

/*
 * ${args}: {name} and what nc_migrations_create() takes. If it is known nothing happens. What speaks against the
 * migration is no error here: the attempt has failed then, for good.
 */
json_t *nc_attempts_begin(NcAttempts *attempts, json_t *args, GError **error);
/*
 * ${args}: {name, reason (at most NC_ATTEMPT_REASON_BYTES)}. Of one that is not known the name is kept; one that runs
 * is told to end, if it still can ("running" until it has).
 */
json_t *nc_attempts_cancel(NcAttempts *attempts, json_t *args, GError **error);
/* ${args}: {name}. Changes nothing. */
json_t *nc_attempts_ask(NcAttempts *attempts, json_t *args, GError **error);

/*
 * What an attempt cost, of a migration's record or of what another node said: plain values only, and not long; null: not
 * known, or not plain. New reference. Pure.
 */
json_t *nc_attempt_result(json_t *said);

#define NC_ATTEMPT_RESULT_TEXT 256 /* bytes of a text of a result */
#define NC_ATTEMPT_REASON_BYTES 512

/*
 * ${args}: {name, rate_bps (0: no limit; at most NC_ATTEMPT_MOST_RATE), has_endgame (a bool; left out: not told)}: what one that runs may
 * have of the bandwidth from now on, and whether its last round may begin.
 */
json_t *nc_attempts_limit(NcAttempts *attempts, json_t *args, GError **error);

#define NC_ATTEMPT_MOST_RATE (UINT64_C(1) << 40)
