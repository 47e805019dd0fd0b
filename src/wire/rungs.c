/* SPDX-License-Identifier: Apache-2.0 */
/* Per rung and for the mix: sums that forget, and the table for what was not measured. */
#include "wire/rungs.h"

#include <math.h>

#define NC_RUNGS_MIX_US 200000.0     /* the mix is that of this time, */
#define NC_RUNGS_MIX_DECAY 0.95      /* or of some twenty batches */
#define NC_RUNGS_RUNG_DECAY 0.9      /* per batch */
#define NC_RUNGS_OUTLIER 4.0         /* times the mean: more than that is not the compressor's doing */
#define NC_RUNGS_FORGET_US 15000000u /* then the neighbour's is the better guess */
#define NC_RUNGS_LEAST_SHARE 0.002

/*
 * Before anything is measured, and as relations after: microseconds per MB of codable bytes, and how the share
 * relates to the estimate's (its power). bench/codec_bench.c prints what they come from.
 */
static const struct {
  NcBatchPolicy policy;
  const char *name;
  double us_per_mb, power;
} nc_rung_table[NC_RUNGS] = {
  { { NC_CODEC_NONE, 0, true }, "none", 0, 0 },           { { NC_CODEC_LZ4, 0, true }, "lz4", 1300, 0.80 },
  { { NC_CODEC_ZSTD, -5, true }, "zstd:-5", 1800, 0.95 }, { { NC_CODEC_ZSTD, -3, true }, "zstd:-3", 1900, 0.97 },
  { { NC_CODEC_ZSTD, -1, true }, "zstd:-1", 2000, 1.05 }, { { NC_CODEC_ZSTD, 1, true }, "zstd:1", 2300, 1.10 },
  { { NC_CODEC_ZSTD, 3, true }, "zstd:3", 3100, 1.13 },   { { NC_CODEC_ZSTD, 5, true }, "zstd:5", 8500, 1.17 },
  { { NC_CODEC_ZSTD, 7, true }, "zstd:7", 12500, 1.19 },  { { NC_CODEC_ZSTD, 9, true }, "zstd:9", 20000, 1.21 },
};

const NcBatchPolicy *
nc_rung_policy(unsigned rung)
{
  return &nc_rung_table[rung].policy;
}

const char *
nc_rung_name(unsigned rung)
{
  return nc_rung_table[rung].name;
}

double
nc_rungs_work(const NcRungBatch *batch)
{
  return (double)batch->wire_bytes - batch->coded_bytes + batch->codable_bytes * batch->estimate;
}

static void
nc_rungs_add_mix(NcRungs *r, const NcRungBatch *b, uint64_t now_us)
{
  double age_us = (double)(now_us - r->mix.at_us);
  double keep = r->mix.at_us == 0 ? 0 : MAX(exp(-age_us / NC_RUNGS_MIX_US), NC_RUNGS_MIX_DECAY);
  double us = (double)b->encode_us - b->coding_us;

  if (r->mix.raw > 0)
    us = MIN(us, NC_RUNGS_OUTLIER * r->mix.us / r->mix.raw * b->raw_bytes);
  r->mix.raw = r->mix.raw * keep + b->raw_bytes;
  r->mix.plain = r->mix.plain * keep + ((double)b->wire_bytes - b->coded_bytes);
  r->mix.codable = r->mix.codable * keep + b->codable_bytes;
  r->mix.estimated = r->mix.estimated * keep + b->codable_bytes * b->estimate;
  r->mix.us = r->mix.us * keep + MAX(us, 1);
  r->mix.at_us = now_us;
}

static void
nc_rungs_add_rung(NcRungSums *s, const NcRungBatch *b, uint64_t now_us)
{
  double keep = s->at_us == 0 || now_us - s->at_us > NC_RUNGS_FORGET_US ? 0 : NC_RUNGS_RUNG_DECAY;
  double us = b->coding_us;

  if (keep > 0 && s->us > 0)
    us = MIN(us, NC_RUNGS_OUTLIER * s->us / s->codable * b->codable_bytes);
  s->codable = s->codable * keep + b->codable_bytes;
  s->coded = s->coded * keep + b->coded_bytes;
  s->estimated = s->estimated * keep + b->codable_bytes * b->estimate;
  s->us = s->us * keep + MAX(us, 1);
  s->at_us = now_us;
}

void
nc_rungs_add(NcRungs *r, const NcRungBatch *batch, uint64_t now_us)
{
  nc_rungs_add_mix(r, batch, now_us);
  if (batch->rung > 0 && batch->codable_bytes > 0)
    nc_rungs_add_rung(&r->rungs[batch->rung], batch, now_us);
}

bool
nc_rungs_is_fresh(const NcRungs *r, unsigned rung, uint64_t age_us, uint64_t now_us)
{
  return r->rungs[rung].at_us > 0 && now_us - r->rungs[rung].at_us <= age_us;
}

bool
nc_rungs_has_mix(const NcRungs *r)
{
  return r->mix.raw > 0;
}

/* The nearest rung that was measured, the lighter one of two; 0 if there is none. */
static unsigned
nc_rungs_nearest(const NcRungs *r, unsigned rung, uint64_t now_us)
{
  for (unsigned distance = 0; distance < NC_RUNGS; distance++) {
    if (rung > distance && nc_rungs_is_fresh(r, rung - distance, NC_RUNGS_FORGET_US, now_us))
      return rung - distance;
    if (rung + distance < NC_RUNGS && nc_rungs_is_fresh(r, rung + distance, NC_RUNGS_FORGET_US, now_us))
      return rung + distance;
  }
  return 0;
}

double
nc_rungs_cost(const NcRungs *r, unsigned rung, uint64_t now_us)
{
  unsigned nearest = nc_rungs_nearest(r, rung, now_us);
  const NcRungSums *s = &r->rungs[nearest];
  double us = nc_rung_table[rung].us_per_mb / 1e6; /* per codable byte */

  if (nearest > 0)
    us *= s->us / s->codable / (nc_rung_table[nearest].us_per_mb / 1e6);
  return (r->mix.us + r->mix.codable * us) / r->mix.raw / 1e6;
}

double
nc_rungs_signature(const NcRungs *r)
{
  return (r->mix.plain + r->mix.estimated) / r->mix.raw;
}

/* What the estimate of what passes now becomes on rung ${rung}. */
static double
nc_rungs_coded_share(const NcRungs *r, unsigned rung, uint64_t now_us)
{
  unsigned nearest = nc_rungs_nearest(r, rung, now_us);
  const NcRungSums *s = &r->rungs[nearest];
  double estimate = r->mix.codable > 0 ? r->mix.estimated / r->mix.codable : 1;

  if (rung == 0)
    return 1;
  if (nearest == 0)
    return pow(CLAMP(estimate, NC_RUNGS_LEAST_SHARE, 1), nc_rung_table[rung].power);
  double there = CLAMP(estimate * s->coded / s->estimated, NC_RUNGS_LEAST_SHARE, 1);
  return pow(there, nc_rung_table[rung].power / nc_rung_table[nearest].power);
}

double
nc_rungs_share(const NcRungs *r, unsigned rung, uint64_t now_us)
{
  double share = (r->mix.plain + r->mix.codable * nc_rungs_coded_share(r, rung, now_us)) / r->mix.raw;
  return MAX(share, NC_RUNGS_LEAST_SHARE / 10);
}
