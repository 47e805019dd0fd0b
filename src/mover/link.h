/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One of the N places for a connection to the other mover, and the thread that owns it.
 *
 * A socket that novacrond gives shakes hands on a thread of its own, so that one which
 * can't do that disturbs nobody. Then it is the link's connection; an older one,
 * alive or not, is given up. When a connection is lost the link says so and waits
 * for the next.
 *
 * The thread exchanges HELLO, then reads and writes as the
 * socket allows, and sleeps in poll() otherwise; an eventfd wakes it when there
 * is something to send. What it sends next is decided at each frame's end, in
 * this order: on the carrier what is urgent (urgent.h), pong and ping, and from the outbox,
 * if the socket has room: bulk.
 */
#pragma once

#include "mover/kernel_view.h"
#include "mover/mover.h"
#include "wire/frame.h"

/* Starts the thread. Lives as long as the process. */
NcLink *nc_link_new(NcMover *m, unsigned index);
/*
 * Takes the connected socket ${fd}: after its handshake it replaces what the link has. If that fails, it is told
 * (`refused`), and nothing changes. The main thread.
 */
void nc_link_admit(NcLink *l, int fd);

/* There may be something to send. Any thread. */
void nc_link_wake(NcLink *l);
/*
 * After what is urgent, sends ${last} (borrowed), then nothing, and waits a moment for the
 * peer to close. The main thread, once.
 */
void nc_link_close_after(NcLink *l, const GByteArray *last);
typedef struct {
  bool up;
  uint64_t sent_bytes, received_bytes; /* TLS payload, of all its connections */
  NcKernelNumbers kernel;              /* of the present one */
} NcLinkStats;

/* Any thread, without a lock: the numbers may be of different moments. */
void nc_link_stats(NcLink *l, NcLinkStats *ret);
/* Says which way the present connection takes: equal numbers, equal addresses at both ends. Any thread. */
uint32_t nc_link_path(NcLink *l);
/* It has no connection. Any thread. */
bool nc_link_is_down(NcLink *l);

/* Of the link's own thread, for session.h. */
unsigned nc_link_index(const NcLink *l);
NcBatchDecoder *nc_link_decoder(NcLink *l);
