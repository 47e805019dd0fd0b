/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's forecast while memory flows: feeds it with what QEMU says, writes
 * it into the record, and at the end of each round decides how to go on
 * (convergence.h) and does it. Every decision is in the migration's history, and
 * in the record's `forecasts`, to be compared with what came of it.
 */
#pragma once

#include "agent/migration.h"
#include "qemu/migration_qmp.h"

typedef struct NcSourceForecast NcSourceForecast;

/* Of the migration's own thread. ${m} must outlive it. */
NcSourceForecast *nc_source_forecast_new(NcMigration *m);
void nc_source_forecast_free(NcSourceForecast *f); /* NULL is fine */

/* Both sides are ready for post-copy; ${at_once}: and it was asked for, without waiting for a forecast. */
void nc_source_forecast_allow_postcopy(NcSourceForecast *f, bool at_once);

/* The guest will be asked which pages are free. */
void nc_source_forecast_expect_free_pages(NcSourceForecast *f);

/* QEMU was told to switch to post-copy. */
bool nc_source_forecast_has_switched(const NcSourceForecast *f);

/* How much of the pause QEMU may use now: see nc_pause_aim_ms(). */
unsigned nc_source_forecast_pause_step(const NcSourceForecast *f);

/* How near the last round is, by what QEMU said last. */
NcEndgameNeed nc_source_forecast_need(const NcSourceForecast *f);
/* So much of what the link has carried is not of memory, but of disks: a forecast is of memory. */
void nc_source_forecast_leave_out(NcSourceForecast *f, uint64_t wire_bytes);
/* ${is_held}: it waits for its endgame, from now on or until now; that is no reason to throttle the guest, or to give up. */
void nc_source_forecast_hold(NcSourceForecast *f, bool is_held);

/*
 * What QEMU says now. ${limit_ms}: what of the pause is left for pages; ${overhead_ms}: what it holds besides. False with *error: it will not converge
 * (NC_ERROR_CONVERGENCE), and the migration has to be undone.
 */
bool nc_source_forecast_take(NcSourceForecast *f, NcQmp *qmp, const NcQemuMigrationInfo *info, int64_t limit_ms, int64_t overhead_ms,
                             GError **error);
