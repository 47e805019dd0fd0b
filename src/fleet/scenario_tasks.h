/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks of a scenario. Private to src/fleet/scenario*.c. */
#pragma once

#include "fleet/scenario.h"
#include "fleet/scenario_reader.h"

/* Nodes that one entry of the file made: numbers that follow each other. */
typedef struct {
  uint32_t first, count;
} NcNodeGroup;

typedef struct {
  NcScenario *scenario;
  GHashTable *groups; /* name as in the file to NcNodeGroup */
} NcScenarioBuild;

/* A node of that name, or all that an entry of that name made. */
bool nc_scenario_find_nodes(const NcScenarioBuild *b, const char *name, NcNodeGroup *ret);
/* "priority"; *ret stays as it is if there is none. */
bool nc_scenario_read_priority(const NcPlace *place, NcPriority *ret, GError **error);
/* An NcReaderFunc; ${user_data}: NcScenarioBuild. */
bool nc_scenario_read_task(const NcPlace *place, void *user_data, GError **error);
