/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel knows of a link's connection (TCP_INFO), for whoever asks, and whether the connection
 * should be made anew for what its path loses.
 *
 * Owned by the link's thread; nc_kernel_view_read() is anybody's.
 */
#pragma once

#include "base/error.h"
#include "mover/congestion.h"

#include <stdatomic.h>

typedef struct {
  int fd;
  bool watch_losses; /* it sends bulk */
  int64_t next_us;
  NcCongestion congestion;
  struct {
    uint64_t retransmitted_bytes, segments, retransmitted_segments;
  } before; /* of the link's earlier connections */
  _Atomic uint64_t retransmitted_bytes, segments, retransmitted_segments, rtt_us, min_rtt_us, delivery_bps;
} NcKernelView;

/* The first three of all the link's connections so far, so that they never go back; the others of the present one, bytes per second as the kernel measured last. */
typedef struct {
  uint64_t retransmitted_bytes, segments, retransmitted_segments;
  uint64_t rtt_us, min_rtt_us; /* 0: not known */
  uint64_t delivery_bps;
} NcKernelNumbers;

/* The link's next connection; ${view} is zeros before the first. */
void nc_kernel_view_begin(NcKernelView *view, int fd, bool watch_losses);
/*
 * Asks the kernel, when it is time (five times a second). Sockets that are not TCP (tests) leave zeros. False: a new connection
 * would serve better, and *error says why.
 */
bool nc_kernel_view_look(NcKernelView *view, GError **error);
/* Without a lock: the numbers may be of different moments. */
void nc_kernel_view_read(NcKernelView *view, NcKernelNumbers *ret);
