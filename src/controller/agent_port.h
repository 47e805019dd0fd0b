/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the controller asks of agents, and what they tell it: an abstract port, so that nothing here knows how
 * they are reached.
 *
 * All functions return at once and do not call the controller; nothing comes back from them. A message may be lost,
 * come late, twice, or after a later one; whoever leads asks again. What agents say comes by nc_controller_report()
 * (controller.h), and may be lost, late, or doubled as well.
 *
 * What an agent has to do (decision 076). An attempt has a name, "ID.ATTEMPT".
 *   - It begins a name at most once, however often it is told to, and also after it has died and come back: it
 *     keeps names on disk, before anything else.
 *   - Told to begin one that it knows, it says how that one stands.
 *   - Told to cancel one that it does not know, it keeps the name as one that will never begin, and reports
 *     NC_REPORT_CANCELLED. So a message to begin it which is still on its way does nothing.
 *   - Only the source's agent is told, and only it reports.
 * How agents keep names: decision 086, src/agent/attempts.h.
 */
#pragma once

#include "base/msg.h"

#include <stdint.h>

typedef struct {
  const char *name;
  const char *machine, *source, *destination;
  json_t *settings;  /* what was asked for, an object, borrowed (wish.h): algorithm, ...; retry_attempts is 0 */
  uint64_t rate_bps; /* wire bytes per second; 0: no limit */
} NcAttemptOrder;

typedef struct {
  void (*start)(void *agents, const NcAttemptOrder *order);
  void (*cancel)(void *agents, const char *source, const char *name, const char *reason);
  /* How does it stand? */
  void (*ask)(void *agents, const char *source, const char *name);
  /* ${has_endgame}: its last round may begin; only after it has asked for it. */
  void (*set_rate)(void *agents, const char *source, const char *name, uint64_t rate_bps, bool has_endgame);
} NcAgentPort;

typedef enum {
  NC_REPORT_UNKNOWN, /* the agent never heard that name */
  NC_REPORT_RUNNING, /* it has it, and it has not ended; also when it waits for an operator */
  NC_REPORT_COMPLETED,
  NC_REPORT_FAILED, /* the machine is where it was */
  NC_REPORT_CANCELLED,
  NC_REPORT_COUNT
} NcReportState;

typedef struct {
  const char *node; /* that says so, authenticated */
  const char *name;
  NcReportState state;
  const char *phase;  /* NC_REPORT_RUNNING: "memory_copy", ...; NULL: not told */
  double percent;     /* of the whole */
  json_t *progress;   /* NC_REPORT_RUNNING: numbers, as those of a sample of the agent's own; borrowed; NULL: not told */
  bool wants_endgame; /* NC_REPORT_RUNNING: its last round could begin, or has, and is not over */
  const char *reason; /* NC_REPORT_FAILED, CANCELLED; NULL */
  bool may_pass;      /* NC_REPORT_FAILED: another attempt may do better */
  uint64_t run_epoch; /* NC_REPORT_COMPLETED: of the machine's run right at the destination; 0: not told */
  json_t *result;     /* NC_REPORT_COMPLETED, FAILED, CANCELLED: an object, borrowed; NULL: none */
} NcAttemptReport;
