/* SPDX-License-Identifier: Apache-2.0 */
/* A rate, what was starved of it, and the bound from both. The theory is in backlog.h. */
#include "wire/backlog.h"

#define NC_BACKLOG_PERIOD_US 200000u
#define NC_BACKLOG_FORGET 0.1
#define NC_BACKLOG_STARVED_SHARE 0.1
#define NC_BACKLOG_LIFT 1.25

void
nc_backlog_init(NcBacklog *b, unsigned pause_budget_ms, uint64_t most_bytes, uint64_t now_us)
{
  *b = (NcBacklog){ .pause_budget_s = pause_budget_ms / 1000.0,
                    .most_bytes = MAX(most_bytes, NC_BACKLOG_MIN_BYTES),
                    .since_us = now_us,
                    .starved_since_us = now_us };
}

void
nc_backlog_begin(NcBacklog *b, uint64_t now_us)
{
  b->acked_bytes = 0;
  b->since_us = now_us;
}

static uint64_t
nc_backlog_share(const NcBacklog *b, double share, uint64_t least)
{
  double bytes = b->rate_bps * b->pause_budget_s * share;
  return bytes >= (double)b->most_bytes ? b->most_bytes : MIN(MAX((uint64_t)bytes, least), b->most_bytes);
}

uint64_t
nc_backlog_limit(const NcBacklog *b)
{
  if (b->rate_bps <= 0)
    return b->most_bytes;
  return MAX(nc_backlog_share(b, NC_BACKLOG_SHARE, NC_BACKLOG_MIN_BYTES), (uint64_t)b->lifted_bytes);
}

static void
nc_backlog_lift(NcBacklog *b, uint64_t now_us)
{
  uint64_t elapsed_us = now_us - b->starved_since_us;

  if (elapsed_us < NC_BACKLOG_PERIOD_US)
    return;
  if ((double)b->starved_us >= NC_BACKLOG_STARVED_SHARE * (double)elapsed_us) {
    uint64_t most = nc_backlog_share(b, NC_BACKLOG_LIFTED_SHARE, 2 * NC_BACKLOG_MIN_BYTES);
    b->lifted_bytes = MIN((double)nc_backlog_limit(b) * NC_BACKLOG_LIFT, (double)most);
  } else {
    b->lifted_bytes *= 1 - NC_BACKLOG_FORGET;
  }
  b->starved_us = 0;
  b->starved_since_us = now_us;
}

static void
nc_backlog_measure(NcBacklog *b, uint64_t now_us)
{
  uint64_t elapsed_us = now_us - b->since_us;

  if (elapsed_us < NC_BACKLOG_PERIOD_US)
    return;
  double bps = (double)b->acked_bytes * 1e6 / (double)elapsed_us;
  b->rate_bps = bps > b->rate_bps ? bps : b->rate_bps + NC_BACKLOG_FORGET * (bps - b->rate_bps);
  nc_backlog_begin(b, now_us);
}

void
nc_backlog_acked(NcBacklog *b, uint64_t raw_bytes, uint64_t now_us)
{
  b->acked_bytes += raw_bytes;
  nc_backlog_measure(b, now_us);
  nc_backlog_lift(b, now_us);
}

void
nc_backlog_starved(NcBacklog *b, uint64_t us)
{
  b->starved_us += us;
}
