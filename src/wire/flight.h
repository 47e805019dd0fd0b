/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many wire bytes may be unacknowledged: enough to keep the link busy, and
 * little enough that the machine's pause stays short.
 *
 * Theory. QEMU decides to switch over from the rate at its own socket; whatever
 * is in flight then is pause it has not counted (design.md, section 4).
 * So, the window in steady state is
 *
 *   BDP + max(min(BDP / 2, 10 % of rate x pause budget), rate x ends) + 256 KiB
 *
 * where BDP is delivery rate x minimum RTT. The second term finds out whether
 * the link has become faster: more in flight, more delivered. Half a BDP, because routers on the way hold about a whole
 * one: where the queue overflows, all that comes behind a lost segment waits for a round trip. It is never less
 * than what is delivered while the ends work: a receiver collects acknowledgements for 5 ms, and where processors are short,
 * it takes many times that until a batch is decoded, QEMU has read it, and the answer is on its way. How long that is
 * (`ends`) is how much longer acknowledgements take than pings, which wait in the same queues of the link, on the mean of
 * the last 0.3 s; at most 20 % of the pause budget, since a destination that can't keep up must not be fed faster. If
 * the window were smaller than that, it would cause the lower rate it is computed from, which asks for a smaller one yet:
 * with BDP / 2, 50 ms of RTT and answers after 134 ms a link of 100 Mbit/s stayed at 39. 256 KiB is the granularity: a batch counts until it is delivered whole. In
 * all, from 256 KiB (4 MiB where the RTT is below a millisecond: there our own
 * threads are what takes time) to 64 MiB.
 *
 * The rate is the highest of the samples of the last 2 s (10 RTTs if that is
 * longer). A sample is what was delivered in one round, from an acknowledgement
 * until everything that was in flight at that moment is acknowledged (and at
 * least 20 ms, and after the start-up three RTTs), divided by the time that took
 * or the time in which it was sent, whichever is longer: acknowledgements that
 * something has held up come all at once, and that is not a faster link (as BBR
 * does). A round in which the window did not bind, or nothing was in flight in
 * between, tells what the sender had to send, not what the link can do: it only
 * counts if it is higher than what is known. So a pause of QEMU's does not shrink
 * the window.
 *
 * The minimum RTT is that of the last 10 s. Our own queue hides it; so, if nothing near it
 * was seen for 10 s, the window is drained to half a BDP for some 0.3 s and the
 * smallest RTT meanwhile is the new minimum (as BBR does).
 *
 * Start-up: from 1 MiB, the window doubles with each round that bound it, as
 * long as the rate grows by a quarter at least, but not beyond 2 BDP + 256 KiB;
 * three rounds without growth end it.
 *
 * Pure computation without I/O, clock or lock: one thread at a time; all times are the
 * caller's CLOCK_MONOTONIC in microseconds, never going backwards.
 */
#pragma once

#include "wire/limits.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct NcFlight NcFlight;

NcFlight *nc_flight_new(unsigned pause_budget_ms);
void nc_flight_free(NcFlight *f); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcFlight, nc_flight_free)

/*
 * Connections take ${paths} different ways (1 at first). Each has to be filled, and the first one to ask takes what
 * there is: so there are two batches more for each, or only one would ever be known.
 */
void nc_flight_set_paths(NcFlight *f, unsigned paths);
/* ${bytes} wire bytes more are acknowledged, the newest of them sent at ${sent_us}; ${in_flight_bytes} still are not. */
void nc_flight_acked(NcFlight *f, uint64_t bytes, uint64_t in_flight_bytes, uint64_t sent_us, uint64_t now_us);
/* A PONG came: its round trip took ${rtt_us}. */
void nc_flight_rtt(NcFlight *f, uint64_t rtt_us, uint64_t now_us);

/* Wire bytes that may be unacknowledged now. */
uint64_t nc_flight_window(const NcFlight *f);
/* For progress: wire bytes per second, 0 while unknown; microseconds, 0 while unknown. */
double nc_flight_rate(const NcFlight *f);
uint64_t nc_flight_min_rtt_us(const NcFlight *f);

/* The window in steady state on one path, for who has no flight yet: ${rate} wire bytes per second. */
uint64_t nc_flight_expected(double rate, uint64_t rtt_us, unsigned pause_budget_ms);
