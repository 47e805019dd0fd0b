/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is to be simulated: a JSON file (novacron-scenario(5)) with links, nodes, machines, limits, and what happens when.
 *
 * Complaints name the line and the path of what is wrong: "rack.json:12: nodes[3].memory_mib: must be a number from 1 to ...".
 */
#pragma once

#include "fleet/batch.h"
#include "fleet/queue.h"

#define NC_SCENARIO_MOST_BYTES (64u << 20)

typedef enum { NC_TASK_EVACUATE, NC_TASK_MIGRATE, NC_TASK_BATCH } NcTaskKind;

typedef struct {
  double at_s;
  NcTaskKind kind;
  NcQos qos;
  GArray *nodes;    /* uint32_t; evacuate */
  GArray *requests; /* NcRequest; migrate (one), batch */
  NcBatchPolicy policy;
} NcTask;

typedef struct {
  NcFleet *fleet;
  NcQueueLimits limits;
  unsigned reserve_percent;
  uint64_t seed;
  double failure_probability; /* of each attempt */
  GArray *tasks;              /* NcTask, by time */
} NcScenario;

/* ${name}: of the file, for complaints. NULL on error: NC_ERROR_INVALID. */
NcScenario *nc_scenario_parse(const char *name, const char *text, size_t length_bytes, GError **error);
void nc_scenario_free(NcScenario *s); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcScenario, nc_scenario_free)
