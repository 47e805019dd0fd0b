/* SPDX-License-Identifier: Apache-2.0 */
/* Credit in millionths of a byte: a rate in bytes/s times microseconds, without a division. */
#include "wire/bucket.h"

#define NC_BUCKET_UNIT 1000000 /* of credit, in a byte; and microseconds in a second */

static int64_t
nc_bucket_burst(const NcBucket *b)
{
  uint64_t bytes = MAX(b->rate_bps * (NC_BUCKET_BURST_US / 1000) / 1000, NC_BUCKET_MIN_BURST_BYTES);
  return (int64_t)bytes * NC_BUCKET_UNIT;
}

static int64_t
nc_bucket_most_debt(const NcBucket *b)
{
  return (int64_t)(b->rate_bps * (NC_BUCKET_DEBT_US / NC_BUCKET_UNIT)) * NC_BUCKET_UNIT;
}

/* Credit as of ${now_us}. */
static void
nc_bucket_advance(NcBucket *b, uint64_t now_us)
{
  if (now_us <= b->now_us)
    return;
  uint64_t elapsed_us = now_us - b->now_us;
  b->now_us = now_us;
  if (b->rate_bps == 0)
    return;
  uint64_t missing = (uint64_t)(nc_bucket_burst(b) - b->credit);
  if (elapsed_us > missing / b->rate_bps)
    b->credit = nc_bucket_burst(b);
  else
    b->credit += (int64_t)(elapsed_us * b->rate_bps);
}

void
nc_bucket_init(NcBucket *b, uint64_t rate_bps, uint64_t now_us)
{
  *b = (NcBucket){ .rate_bps = MIN(rate_bps, NC_BUCKET_MAX_RATE), .now_us = now_us };
}

void
nc_bucket_set_rate(NcBucket *b, uint64_t rate_bps, uint64_t now_us)
{
  nc_bucket_advance(b, now_us);
  b->rate_bps = MIN(rate_bps, NC_BUCKET_MAX_RATE);
  if (b->rate_bps == 0)
    b->credit = 0;
  else
    b->credit = CLAMP(b->credit, -nc_bucket_most_debt(b), nc_bucket_burst(b));
}

uint64_t
nc_bucket_rate(const NcBucket *b)
{
  return b->rate_bps;
}

uint64_t
nc_bucket_available(NcBucket *b, uint64_t now_us)
{
  nc_bucket_advance(b, now_us);
  if (b->rate_bps == 0)
    return G_MAXUINT64;
  return b->credit > 0 ? (uint64_t)b->credit / NC_BUCKET_UNIT : 0;
}

void
nc_bucket_take(NcBucket *b, int64_t bytes, uint64_t now_us)
{
  nc_bucket_advance(b, now_us);
  if (b->rate_bps == 0)
    return;
  int64_t most = (nc_bucket_burst(b) + nc_bucket_most_debt(b)) / NC_BUCKET_UNIT; /* more leads to the same bound */
  b->credit -= CLAMP(bytes, -most, most) * NC_BUCKET_UNIT;
  b->credit = CLAMP(b->credit, -nc_bucket_most_debt(b), nc_bucket_burst(b));
}

uint64_t
nc_bucket_ready_us(NcBucket *b, uint64_t bytes, uint64_t now_us)
{
  nc_bucket_advance(b, now_us);
  if (b->rate_bps == 0)
    return b->now_us;
  int64_t wanted = (int64_t)MIN(bytes, (uint64_t)nc_bucket_burst(b) / NC_BUCKET_UNIT) * NC_BUCKET_UNIT;
  if (wanted <= b->credit)
    return b->now_us;
  uint64_t missing = (uint64_t)(wanted - b->credit);
  return b->now_us + (missing + b->rate_bps - 1) / b->rate_bps;
}
