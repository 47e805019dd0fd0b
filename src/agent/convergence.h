/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to do at the end of a round so that a migration comes to its end: one
 * decision, from the forecast, with the reasons in words for the log.
 *
 * - It converges: go on.
 * - It does not: switch to post-copy, if that is possible. It takes nothing from the guest but the speed of what it lacks.
 * - It is not: slow the guest down, step by step, at most to max_throttle, so
 *   that what it dirties fits through the link. Coding follows what is scarce by itself
 *   (wire/tuner.h), so the rates seen here are those of the heaviest coding that pays.
 * - That is not allowed or does not help: wait, since a guest's work has lulls,
 *   and QEMU switches over in the first one that is long enough.
 * - Not for ever: after convergence_timeout it is stopped, and said what it
 *   would have taken. The machine runs on at the source. What converges, but slowly, has
 *   twice the time its first round took, if that is longer: a large machine on
 *   a thin link is no reason to give up.
 *
 * Pure computation.
 */
#pragma once

#include "agent/forecast.h"

typedef enum {
  NC_CONVERGENCE_GO_ON,
  NC_CONVERGENCE_THROTTLE, /* to `throttle` percent */
  NC_CONVERGENCE_POSTCOPY, /* the machine first, the rest of its memory after it */
  NC_CONVERGENCE_WAIT,     /* for a lull */
  NC_CONVERGENCE_STOP,
} NcConvergenceAction;

typedef struct {
  bool may_postcopy; /* both sides are ready for it */
  int max_throttle;  /* percent of its time that may be taken from the guest, 0 to 99 */
  int64_t timeout_ms; /* from the end of the first round on; 0: none */
  int64_t first_round_ms; /* 0: it has not ended */
} NcConvergenceLimits;

typedef struct {
  NcConvergenceAction action;
  int throttle;
  char *reason; /* owned by the caller */
} NcConvergenceDecision;

/* "go-on", "throttle", "post-copy", "wait", "stop". */
const char *nc_convergence_action_name(NcConvergenceAction action);
/* ${throttle}: percent now; ${elapsed_ms}: since the end of the first round. */
void nc_convergence_decide(const NcForecastResult *forecast, const NcConvergenceLimits *limits, int throttle, int64_t elapsed_ms,
                           NcConvergenceDecision *ret);
