/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One TLS connection to the other mover, and the thread that owns it.
 *
 * The thread shakes hands, exchanges HELLO, then reads and writes as the
 * socket allows, and sleeps in poll() otherwise; an eventfd wakes it when there
 * is something to send. What it sends next is decided at each frame's end, in
 * this order: urgent frames, acknowledgements, pong and ping, and from the outbox,
 * if the socket has room: bulk.
 */
#pragma once

#include "mover/mover.h"
#include "wire/frame.h"

/* Takes the connected socket ${fd}. Lives as long as the process. */
NcLink *nc_link_new(NcMover *m, unsigned index, int fd);
/* Starts the thread, after the link is in ${m}->links. */
void nc_link_start(NcLink *l);

/* Queues ${frame} (taken), in front of all bulk, behind earlier urgent frames. Any thread. */
void nc_link_urgent(NcLink *l, GByteArray *frame);
/* Replaces what the next ACK of ${channel} will say. Any thread. */
void nc_link_ack(NcLink *l, uint8_t channel, uint64_t seq, uint64_t offset);
/* There may be bulk to send. Any thread. */
void nc_link_wake(NcLink *l);
/*
 * After what is urgent, sends ${last} (borrowed), then nothing, and waits a moment for the
 * peer to close. The main thread, once.
 */
void nc_link_close_after(NcLink *l, const GByteArray *last);
/* Nothing more will be sent or received. Any thread. */
bool nc_link_is_down(NcLink *l);

/* Of the link's own thread, for session.h. */
unsigned nc_link_index(const NcLink *l);
NcBatchDecoder *nc_link_decoder(NcLink *l);
