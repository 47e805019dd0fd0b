/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a scrape of this node gets (docs/metrics.md): its migrations under way and those that ended a moment ago, what it has counted
 * (metrics.h), its machines, its page store, and novacrond itself. A value that is not known has no sample. Thread-safe.
 */
#pragma once

#include "agent/machines.h"
#include "agent/metrics.h"
#include "agent/migrations.h"
#include "agent/nodes.h"
#include "agent/store_work.h"

/* All borrowed. */
typedef struct {
  NcMetrics *metrics;
  NcMigrations *migrations;
  NcMachines *machines;
  NcNodes *nodes;
  NcStoreWork *store_work;
} NcMetricsView;

/* The control socket's node.metrics: {text, type}; args.openmetrics: that format. New reference. */
json_t *nc_metrics_view(NcMetricsView *view, json_t *args, GError **error);

/* --- pure, of records --- */

/* The families of single migrations; ${records}: array. */
void nc_metrics_view_migrations(NcExposition *out, json_t *records, int64_t now_us);
/* How many wait, run, and need a human, by role. */
void nc_metrics_view_load(NcExposition *out, json_t *running);
