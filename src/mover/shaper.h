/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rate limit of one mover, over all its connections.
 *
 * One token bucket (wire/bucket.h) counts wire bytes: TLS records, TCP and IP
 * headers, Ethernet frames. Bulk asks before each record; urgent frames don't, and
 * are charged. What a record costs is estimated when it is made; every
 * 10 ms the kernel's own count (TCP_INFO: bytes and segments sent, also again)
 * corrects the estimate, so that acknowledgements of ours and retransmissions
 * count, too. Sockets that are not TCP (tests) keep the estimate.
 *
 * Who yields (class of service background) keeps a lower rate while its
 * packets wait in queues: wire/yield.h, fed with the round trips of our pings and the
 * kernel's minimum of each connection.
 *
 * There is no SO_MAX_PACING_RATE: one connection may have to carry the whole rate, so
 * it could not be less than that, and at that rate it would delay what is urgent.
 *
 * Without a limit asking costs an atomic load. Thread-safe; an NcShaperPort is
 * that of its link's thread. The lock is a leaf.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct NcShaper NcShaper;

/* What is known of one connection. */
typedef struct {
  int fd;              /* -1: not TCP */
  uint32_t mss;        /* payload of a segment */
  uint32_t header;     /* what goes with each segment, Ethernet's frame included */
  bool is_counting;    /* there was a limit at the last record: what follows is valid */
  uint64_t charged;    /* wire bytes since there is a limit */
  uint64_t kernel_had; /* the kernel's count then */
  int64_t next_check_us;
} NcShaperPort;

/* ${rate_bps}: wire bytes per second; 0: no limit. Lives as long as the process. */
NcShaper *nc_shaper_new(uint64_t rate_bps, bool yields);
/* From now on; who waits has to be woken (nc_mover_wake_links). Any thread. */
void nc_shaper_set(NcShaper *s, uint64_t rate_bps, bool yields);
/* A ping of ours took ${rtt_us}. */
void nc_shaper_rtt(NcShaper *s, uint64_t rtt_us);
/* The rate that is kept now; 0: none. Any thread. */
uint64_t nc_shaper_rate(NcShaper *s);

/* Is something of the limit left? For those who need not begin anything now. Any thread. */
bool nc_shaper_has_room(NcShaper *s);

/* Connection ${fd} (borrowed), established. */
void nc_shaper_attach(NcShaper *s, NcShaperPort *port, int fd);
/*
 * How many bytes of bulk the next TLS record may have, at most ${most}. 0: none
 * before *ret_ask_us (CLOCK_MONOTONIC): ask again then.
 */
size_t nc_shaper_ask(NcShaper *s, const NcShaperPort *port, size_t most, int64_t *ret_ask_us);
/* A TLS record with ${payload_bytes}, of whatever kind, goes out. */
void nc_shaper_charge(NcShaper *s, NcShaperPort *port, size_t payload_bytes);
