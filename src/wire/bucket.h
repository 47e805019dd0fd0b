/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A token bucket: how many bytes may go now so that a rate is kept.
 *
 * Credit grows with time at the rate, in millionths of a byte so that nothing is lost
 * by rounding, up to a burst: what is given after an idle time or a late wake-up. The
 * burst is 16 ms of the rate: a sender that wakes up to 16 ms late loses nothing, and no
 * second ever has more than 1.6 % too much. It is never less than one TLS record
 * with its headers, or a slow bucket could never let one pass.
 *
 * What can't wait is taken without asking and leaves a debt, which those who ask
 * pay. It is at most one second's worth: beyond that, asking would be starved for
 * something that is over.
 *
 * Rate 0 means no limit: everything may go, nothing is counted.
 *
 * Pure computation without I/O, clock or lock: one thread at a time. Times are the
 * caller's CLOCK_MONOTONIC in microseconds; one that lies before an earlier call's counts as
 * that. Rates are bytes per second.
 */
#pragma once

#include "wire/limits.h"

#include <glib.h>
#include <stdint.h>

/* A value; its fields are bucket.c's. */
typedef struct {
  uint64_t rate_bps;
  int64_t credit; /* millionths of a byte, at ${now_us}; negative: debt */
  uint64_t now_us;
} NcBucket;

/* Begins empty. ${rate_bps} above NC_BUCKET_MAX_RATE counts as that. */
void nc_bucket_init(NcBucket *b, uint64_t rate_bps, uint64_t now_us);
/* From ${now_us} on. What was earned or owed until then stays, within the new burst. */
void nc_bucket_set_rate(NcBucket *b, uint64_t rate_bps, uint64_t now_us);
uint64_t nc_bucket_rate(const NcBucket *b);

/* Bytes that may go now; UINT64_MAX without a limit. */
uint64_t nc_bucket_available(NcBucket *b, uint64_t now_us);
/* ${bytes} went, whether asked for or not; negative: fewer went than was said before. */
void nc_bucket_take(NcBucket *b, int64_t bytes, uint64_t now_us);
/*
 * When ${bytes} (or the burst, if that is less) may go, provided that nobody takes any before: ask again then. Not
 * before ${now_us}; that itself if they may go now.
 */
uint64_t nc_bucket_ready_us(NcBucket *b, uint64_t bytes, uint64_t now_us);
