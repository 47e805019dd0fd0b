/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is shown of migrations' records (docs/protocols.md, end): status,
 * metrics, a summary of many, and their histories as messages. Pure: reads
 * records, which may be of an older novacrond or not as expected, and knows no
 * register, no journal and no clock.
 */
#pragma once

#include "base/error.h"
#include <jansson.h>
#include <stdbool.h>

/* "850ms", "12s", "2m30s", "1h0m5s". Caller frees. */
char *nc_duration_text(int64_t ms);

/* The little that is asked for often. ${now_us}: wall clock. New references. */
json_t *nc_migration_status_view(json_t *record, int64_t now_us);
json_t *nc_migration_metrics_view(json_t *record, int64_t now_us);
/* What changes while it runs: the data of a progress message. New reference. */
json_t *nc_migration_progress_view(json_t *record);
bool nc_migration_record_has_ended(json_t *record);
/* From its beginning, over all its attempts, to its end, or to ${now_us} (wall clock); -1: not known. */
int64_t nc_migration_record_elapsed_ms(json_t *record, int64_t now_us);
/* Bytes of the machine per second: of its disks while they go alone, else of its memory. 0 at the end; -1: not known, as at a destination. */
int64_t nc_migration_record_rate(json_t *record);
/*
 * Bytes of QEMU's stream and of its disks that its movers have carried; NAN: not known. What only keeps a connection alive is not among them, so
 * it stands still when the machine's move does.
 */
double nc_migration_record_carried(json_t *record);

/* Which of them are wanted; NULL or 0: all. Borrowed from the arguments. */
typedef struct {
  const char *vm, *node; /* node: source or destination */
  const char *state;     /* of the handoff, a phase or an outcome; "active": has not ended; "ended" */
  int64_t since_us;      /* created then or later */
} NcMigrationFilter;

/* From ${args} (machine, node, state, since); NC_ERROR_INVALID naming the key. */
bool nc_migration_filter_read(json_t *args, NcMigrationFilter *ret, GError **error);
bool nc_migration_filter_fits(const NcMigrationFilter *filter, json_t *record);

/* Many in one: counts, totals, pauses, and what runs. */
typedef struct NcDashboard NcDashboard;
NcDashboard *nc_dashboard_new(void);
void nc_dashboard_add(NcDashboard *dashboard, json_t *record, int64_t now_us);
json_t *nc_dashboard_view(NcDashboard *dashboard); /* new reference */
void nc_dashboard_free(NcDashboard *dashboard);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcDashboard, nc_dashboard_free)

/* --- lines of a history: {id, at, event, detail} --- */

/* The note that the machine was seen alive at the destination; in older histories it has the name of the handoff's event. */
bool nc_migration_event_is_sighting(json_t *event);
/* The phase that this line leads to, needs_attention included; borrowed from it, or static. NULL: it stays in the one it was in. */
const char *nc_migration_event_phase(json_t *event);
/*
 * As watchers get it: {id, type, at, data}; type: phase, warning, alert (raised or cleared, or a human has to decide), event, and at the end completed,
 * failed or cancelled, with what ${record} (the present one) says of the end. A phase is told when it is another one than
 * ${before} (NULL: none yet); what leads to the same once more is an event. New reference.
 */
json_t *nc_migration_event_view(json_t *event, json_t *record, const char *before);
