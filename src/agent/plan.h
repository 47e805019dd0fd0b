/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What would a migration be like? The operation migration.plan: a short sample of the machine and of the way, and what
 * earlier migrations were like (plan_math.h). Starts nothing and changes nothing, on either node; the messages to the other one are
 * those of a check (preflight.h) and mig_probe.
 */
#pragma once

#include "agent/algorithm.h"
#include "agent/disk_chain.h"
#include "agent/migrations.h"

/* As checked for a migration. */
typedef struct {
  const char *vm, *to, *compression;
  NcAlgorithm algorithm;
  NcDiskChain disk_chain;
  int64_t max_downtime_ms, bandwidth_limit_bps;
  int max_throttle;
} NcPlanRequest;

/*
 * {"vm", "from", "to", "algorithm", "converges", "reason", "eta_ms", ...} (docs/protocols.md section 5); takes two seconds and round
 * trips, in the caller's thread. New reference. The machine must run here (NC_ERROR_CONFLICT, NOT_FOUND), be able to move
 * (UNSUITABLE), the other node be reached (UNREACHABLE, TIMEOUT, TRUST), and have post-copy if that was asked for (UNSUITABLE).
 */
json_t *nc_plan_make(const NcMigrationsDeps *deps, const NcPlanRequest *request, GError **error);
