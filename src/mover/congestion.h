/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a connection's path loses segments by accident, so that it is better made anew, with BBR (decision 079).
 *
 * The first connection of a link has a loss-based congestion control (mover/dialler.h): it fills a path that loses nothing, where BBR
 * gives way for 200 ms in every ten seconds and fills it anew, some 5 % all in all. How much waits in the path's queue is bounded by the
 * flight window, not by it. But it takes every loss for a full queue. One that was caused by a full queue shows by round trips
 * that are much longer than the shortest; losses while they are short are the path's, and cost a loss-based control most of the rate.
 *
 * Pure computation: one thread at a time; times in microseconds, those of the clock are CLOCK_MONOTONIC.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* All zeros before the first connection. */
typedef struct {
  bool watches;     /* the connection has no BBR; and nothing was advised yet, since once is enough */
  bool advised;
  uint32_t lossy;   /* the last seconds, a bit each: segments were lost while the queue was short */
  int64_t second_us; /* when the present one began; 0: with the next look */
  uint64_t lost;    /* at that time */
  uint64_t longest_rtt_us; /* since then */
} NcCongestion;

/* A new connection. ${bbr}: it has BBR, and there is nothing to advise. */
void nc_congestion_begin(NcCongestion *c, bool bbr);
/*
 * ${lost} segments were sent again so far; ${rtt_us} is the round trip of now, ${min_rtt_us} the shortest (0: not known). True, once in a
 * link's life: a new connection with BBR would serve better.
 */
bool nc_congestion_look(NcCongestion *c, uint64_t lost, uint64_t rtt_us, uint64_t min_rtt_us, int64_t now_us);
