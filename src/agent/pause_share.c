/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pause_share.h"

#include <glib.h>

/*
 * What the pause holds beyond QEMU's own estimate (pending bytes / rate):
 * QMP round trips, the journal's fsync, device state and its loading. Measured
 * with the demo's guest; the forecast of a later version replaces it.
 */
#define NC_SWITCHOVER_LIKELY_MS 20 /* bench/forecast_bench.py: the median of what is left of a pause beside pages and flight */
#define NC_SWITCHOVER_OVERHEAD_MS 100
#define NC_POSTCOPY_TRIPS 4 /* measured likewise: 65 to 210 ms of pause with a round trip of 10 ms, 280 to 640 with 50 */
#define NC_PAUSE_LEAST_AIM_MS 20 /* in less QEMU does not even find out */
#define NC_PAUSE_STEP_MS 1000

/* Until what is on its way has arrived. */
static int64_t
nc_pause_drain_ms(const NcPauseFacts *facts)
{
  int64_t drain_ms = facts->rate_bps > 0 ? facts->flight_bytes * 1000 / facts->rate_bps : 0;
  return MIN(drain_ms, facts->max_downtime_ms / 2);
}

static int64_t
nc_pause_hidden_ms(const NcPauseFacts *facts)
{
  return nc_pause_drain_ms(facts) + facts->rtt_us / 2000 + NC_SWITCHOVER_OVERHEAD_MS;
}

int64_t
nc_pause_limit_ms(const NcPauseFacts *facts)
{
  return CLAMP(facts->max_downtime_ms - nc_pause_hidden_ms(facts), MAX(facts->max_downtime_ms / 10, 1), facts->max_downtime_ms);
}

int64_t
nc_pause_aim_ms(int64_t limit_ms, unsigned step)
{
  return MIN(limit_ms, MAX(limit_ms >> (NC_PAUSE_STEPS - 1 - step), NC_PAUSE_LEAST_AIM_MS));
}

unsigned
nc_pause_step(int64_t since_sent_once_ms)
{
  return since_sent_once_ms < 0 ? 0 : (unsigned)MIN(since_sent_once_ms / NC_PAUSE_STEP_MS, NC_PAUSE_STEPS - 1);
}

void
nc_pause_forecast(const NcForecast *f, int64_t limit_ms, unsigned step, double overhead_ms, NcForecastResult *ret)
{
  do
    nc_forecast_get(f, (double)nc_pause_aim_ms(limit_ms, step), overhead_ms, ret);
  while (ret->is_known && !ret->converges && ++step < NC_PAUSE_STEPS);
}

/*
 * What of that is likely, where the other is what is safe: acknowledgements are a round trip behind, a quarter of what is then left of
 * the flight arrives while QEMU looks for dirty pages, and our own steps take what they mostly do.
 */
int64_t
nc_pause_likely_overhead_ms(const NcPauseFacts *facts)
{
  return MAX(nc_pause_drain_ms(facts) - facts->rtt_us / 1000, 0) * 3 / 4 + facts->rtt_us / 2000 + NC_SWITCHOVER_LIKELY_MS;
}

int64_t
nc_pause_postcopy_ms(const NcPauseFacts *facts)
{
  return nc_pause_hidden_ms(facts) + NC_POSTCOPY_TRIPS * facts->rtt_us / 1000;
}
