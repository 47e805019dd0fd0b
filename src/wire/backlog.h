/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many raw bytes may wait between QEMU's socket and the link, being coded: enough that the link always has
 * something to send, and little enough that the machine's pause stays short.
 *
 * Theory. QEMU decides to switch over from the rate at its own socket, and does not know what waits here. So that is a tenth
 * of what the link delivers in the pause budget, in raw bytes. The rate is learned at once and forgotten slowly
 * (10 % in 0.2 s), so that a pause of QEMU's own does not shrink the bound.
 *
 * Where processors are short, a batch can take longer than that tenth until it is coded and written. Then the bound itself
 * limits the rate it is computed from, and both would shrink together down to the least, the link idle: that was
 * seen as migrations four times slower than the link. So, where for a tenth of the time the reader had to wait
 * here and the link had too little to do, the bound is lifted by a quarter each 0.2 s, up to three tenths of the pause
 * budget, or twice the least, whichever is more; and falls again by 10 % each 0.2 s without. More would be pause: there,
 * coding is what is slow.
 *
 * Pure computation without I/O, clock or lock: one thread at a time; times are the
 * caller's CLOCK_MONOTONIC in microseconds, never going backwards.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

#define NC_BACKLOG_SHARE 0.10        /* of raw rate x pause budget, */
#define NC_BACKLOG_LIFTED_SHARE 0.30 /* and where the link would have too little to do */
/* Two batches of the smallest size must fit, or nothing overlaps. */
#define NC_BACKLOG_MIN_BYTES (128u << 10)

/* A value; its fields are backlog.c's. */
typedef struct {
  double pause_budget_s;
  uint64_t most_bytes;
  uint64_t acked_bytes, since_us;        /* of the current 0.2 s under load */
  uint64_t starved_us, starved_since_us; /* of the current 0.2 s */
  double rate_bps;                       /* raw bytes delivered per second; 0: not known yet */
  double lifted_bytes;
} NcBacklog;

/* ${most_bytes}: the bound where the pause asks for none, and until the rate is known. */
void nc_backlog_init(NcBacklog *b, unsigned pause_budget_ms, uint64_t most_bytes, uint64_t now_us);
/* Until now nothing was under way: only what happens under load is a rate. */
void nc_backlog_begin(NcBacklog *b, uint64_t now_us);
/* ${raw_bytes} more were delivered. */
void nc_backlog_acked(NcBacklog *b, uint64_t raw_bytes, uint64_t now_us);
/* For ${us} more the reader had to wait for room, and the link could have taken more than was coded. */
void nc_backlog_starved(NcBacklog *b, uint64_t us);

/* Raw bytes that may wait; never 0. */
uint64_t nc_backlog_limit(const NcBacklog *b);
