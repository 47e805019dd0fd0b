/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this node counts since novacrond started: migrations by outcome, their
 * pauses and durations, and what their movers carried. Records come in as they
 * are in docs/protocols.md; a number that one does not have is not counted.
 * Counters never go back while novacrond runs. Thread-safe.
 */
#pragma once

#include "base/exposition.h"
#include <jansson.h>

typedef struct NcMetrics NcMetrics;

NcMetrics *nc_metrics_new(void);
void nc_metrics_free(NcMetrics *metrics);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcMetrics, nc_metrics_free)

/* The migration of ${record} ends like that; before its record says so. */
void nc_metrics_count_end(NcMetrics *metrics, json_t *record, const char *outcome, int64_t now_us);
/* What its mover had carried so far belongs to an attempt that is over: it is counted, and ${record} begins at 0 again. */
void nc_metrics_count_attempt(NcMetrics *metrics, json_t *record);

/* A migration of the fleet has begun, ${seconds} after it was asked for. */
void nc_metrics_count_wait(NcMetrics *metrics, double seconds);
/* How many wait at this node's controller, how many have begun, and how long the first of those that wait has waited (0: none does). */
void nc_metrics_set_queue(NcMetrics *metrics, unsigned queued, unsigned running, double oldest_seconds);
/* This node's controller does not lead, or there is none: nothing is said of a queue. */
void nc_metrics_forget_queue(NcMetrics *metrics);

/*
 * Changes with every count. Who wants counters reads it, then the records that have not ended, and has both taken together if it is
 * still the same: else something was counted meanwhile that may be among them, too.
 */
uint64_t nc_metrics_serial(NcMetrics *metrics);
/* Counters and histograms; ${running}: records of those that have not ended (array, borrowed). */
void nc_metrics_write(NcMetrics *metrics, json_t *running, NcExposition *out);
/*
 * The last ones that ended, at most some minutes ago at ${now_us}: copies of their records, with outcome. Not those that are among
 * ${running} again (array, borrowed): at a destination each attempt has a record of its own. New reference.
 */
json_t *nc_metrics_recent(NcMetrics *metrics, json_t *running, int64_t now_us);
