/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rate of one who gives way: lower while its packets wait in queues, back when they don't.
 *
 * As LEDBAT (RFC 6817) sees it, what a round trip takes beyond the shortest known is
 * queueing, whoever causes it. The smallest sample of an interval (200 ms, or two
 * round trips) is compared with the shortest of the last ten minutes. More than 25 ms beyond
 * it: the rate becomes 10 to 50 % less than what was really sent, the more the longer
 * the queue. Less: it grows by up to 10 % of itself, the faster the shorter the queue,
 * but not while only half of it is used. Never less than the floor, never more than the
 * ceiling; where that is no limit, the first measure is what was sent.
 *
 * Pure computation without I/O, clock or lock: one thread at a time. Times are
 * CLOCK_MONOTONIC in microseconds, never going backwards; rates bytes per second.
 */
#pragma once

#include "wire/limits.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define NC_YIELD_BASE_SLOTS 10

/* A value; its fields are yield.c's. */
typedef struct {
  uint64_t base_us[NC_YIELD_BASE_SLOTS]; /* the shortest round trip of each minute, a ring; 0: none */
  unsigned base_slot;
  uint64_t base_slot_us; /* when the newest began */
  uint64_t least_us;     /* the smallest sample of this interval; 0: none yet */
  uint64_t interval_us;  /* when it began; 0: not yet */
  uint64_t sent_bytes;   /* then */
  uint64_t rate_bps;     /* 0: the ceiling */
} NcYield;

void nc_yield_init(NcYield *y);
/* A round trip took ${rtt_us}: it is what a queue looks like now. */
void nc_yield_rtt(NcYield *y, uint64_t rtt_us, uint64_t now_us);
/* It can take as little as ${rtt_us}, as somebody else knows. */
void nc_yield_base(NcYield *y, uint64_t rtt_us, uint64_t now_us);
/*
 * The rate from now on, at most ${ceiling_bps}; 0: no limit. To be asked after each
 * sample. ${sent_bytes}: all that was ever sent.
 */
uint64_t nc_yield_rate(NcYield *y, uint64_t ceiling_bps, uint64_t sent_bytes, uint64_t now_us);
