/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of a pause is left for pages. QEMU counts the time that its last pages take at its own socket, and nothing
 * else; a pause holds besides what is on its way already, half a round trip, and our own steps. So QEMU is given
 * max_downtime less that.
 *
 * At first it is given a quarter of it, then half: while rounds still shrink, some short ones more cost next to no
 * time, and the pause gets as short as they do. Only a guest that does not let them gets all that was promised.
 *
 * Pure computation.
 */
#pragma once

#include "agent/forecast.h"

#define NC_PAUSE_STEPS 3 /* a quarter, half, all */

typedef struct {
  int64_t max_downtime_ms;
  int64_t rate_bps;     /* of the wire; 0: not known */
  int64_t flight_bytes; /* unacknowledged */
  int64_t rtt_us;
} NcPauseFacts;

#define NC_PAUSE_HELD_MS 1 /* what QEMU is told where it may not switch over yet; 0 would not have it look for dirty pages any more */

/* QEMU's downtime limit, to be on the safe side; a tenth of max_downtime_ms at least. */
int64_t nc_pause_limit_ms(const NcPauseFacts *facts);
/* Of that, what QEMU is told in ${step} (from 0, less than NC_PAUSE_STEPS). */
int64_t nc_pause_aim_ms(int64_t limit_ms, unsigned step);
/* The step that has come so long after all memory was sent once; negative: it was not yet. */
unsigned nc_pause_step(int64_t since_sent_once_ms);
/* nc_forecast_get() with the first of the aims from ${step} on with which it comes to its end; with the last, if with none. */
void nc_pause_forecast(const NcForecast *f, int64_t limit_ms, unsigned step, double overhead_ms, NcForecastResult *ret);
/* What the pause is likely to hold besides pages. */
int64_t nc_pause_likely_overhead_ms(const NcPauseFacts *facts);
/* What one holds in post-copy: all that is in flight is in front of the machine, and it does not run before some round trips. */
int64_t nc_pause_postcopy_ms(const NcPauseFacts *facts);
