/* SPDX-License-Identifier: Apache-2.0 */
/* Intervals, the shortest round trip of ten minutes, and the rate from the two. The theory is in yield.h. */
#include "wire/yield.h"

#define NC_YIELD_SLOT_US 60000000u
#define NC_YIELD_INTERVAL_US 200000u
#define NC_YIELD_LEAST_CUT 0.1 /* of the rate, for a queue just beyond the target */
#define NC_YIELD_MOST_CUT 0.5  /* for one of twice the target */
#define NC_YIELD_GROWTH 0.1    /* without a queue */

void
nc_yield_init(NcYield *y)
{
  *y = (NcYield){ 0 };
}

void
nc_yield_base(NcYield *y, uint64_t rtt_us, uint64_t now_us)
{
  if (now_us - y->base_slot_us >= NC_YIELD_SLOT_US) {
    y->base_slot = (y->base_slot + 1) % NC_YIELD_BASE_SLOTS;
    y->base_slot_us = now_us;
    y->base_us[y->base_slot] = 0;
  }
  uint64_t *base_us = &y->base_us[y->base_slot];
  *base_us = *base_us == 0 ? MAX(rtt_us, 1) : MIN(*base_us, MAX(rtt_us, 1));
}

void
nc_yield_rtt(NcYield *y, uint64_t rtt_us, uint64_t now_us)
{
  nc_yield_base(y, rtt_us, now_us);
  y->least_us = y->least_us == 0 ? MAX(rtt_us, 1) : MIN(y->least_us, MAX(rtt_us, 1));
}

static uint64_t
nc_yield_shortest_us(const NcYield *y)
{
  uint64_t shortest_us = 0;

  for (unsigned i = 0; i < NC_YIELD_BASE_SLOTS; i++)
    if (y->base_us[i] > 0 && (shortest_us == 0 || y->base_us[i] < shortest_us))
      shortest_us = y->base_us[i];
  return shortest_us;
}

static double
nc_yield_lower(const NcYield *y, uint64_t ceiling_bps, double sent_bps, double delay_us)
{
  double from = y->rate_bps > 0 ? (double)y->rate_bps : ceiling_bps > 0 ? (double)ceiling_bps : sent_bps;
  double excess = MIN((delay_us - NC_YIELD_TARGET_US) / NC_YIELD_TARGET_US, 1.0);
  return MIN(from, sent_bps) * (1 - NC_YIELD_LEAST_CUT - (NC_YIELD_MOST_CUT - NC_YIELD_LEAST_CUT) * excess);
}

static double
nc_yield_raise(const NcYield *y, double sent_bps, double delay_us)
{
  double rate = (double)y->rate_bps;
  if (rate > 2 * sent_bps && rate > NC_YIELD_FLOOR_BPS)
    return rate; /* it is not what holds it back */
  return rate * (1 + NC_YIELD_GROWTH * (NC_YIELD_TARGET_US - delay_us) / NC_YIELD_TARGET_US);
}

/* At the end of an interval in which there were samples. */
static void
nc_yield_decide(NcYield *y, uint64_t ceiling_bps, double sent_bps)
{
  double delay_us = (double)y->least_us - (double)nc_yield_shortest_us(y);
  double rate;

  if (delay_us > NC_YIELD_TARGET_US)
    rate = nc_yield_lower(y, ceiling_bps, sent_bps, delay_us);
  else if (y->rate_bps > 0)
    rate = nc_yield_raise(y, sent_bps, delay_us);
  else
    return;
  y->rate_bps = (uint64_t)CLAMP(rate, NC_YIELD_FLOOR_BPS, (double)NC_BUCKET_MAX_RATE);
  if (ceiling_bps > 0 && y->rate_bps >= ceiling_bps)
    y->rate_bps = 0;
}

uint64_t
nc_yield_rate(NcYield *y, uint64_t ceiling_bps, uint64_t sent_bytes, uint64_t now_us)
{
  uint64_t elapsed_us = now_us - y->interval_us;

  if (y->interval_us == 0 || sent_bytes < y->sent_bytes) {
    y->interval_us = now_us;
    y->sent_bytes = sent_bytes;
  } else if (y->least_us > 0 && elapsed_us >= MAX(NC_YIELD_INTERVAL_US, 2 * nc_yield_shortest_us(y))) {
    nc_yield_decide(y, ceiling_bps, (double)(sent_bytes - y->sent_bytes) * 1e6 / (double)elapsed_us);
    y->interval_us = now_us;
    y->sent_bytes = sent_bytes;
    y->least_us = 0;
  }
  if (y->rate_bps == 0)
    return ceiling_bps;
  return ceiling_bps > 0 ? MIN(y->rate_bps, ceiling_bps) : y->rate_bps;
}
