/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The preempt channel at the source: pages that a guest waits for, at once.
 *
 * QEMU's postcopy-preempt puts pages that the destination has asked for on a second
 * socket: bare page records, flushed page by page. One thread reads it and sends
 * what is complete as urgent batches of channel 3; it never waits for more. What is not
 * acknowledged is bounded; beyond, QEMU waits.
 *
 * QEMU writes the end of its main channel when all pages are on their way on both. Here
 * a connection may be lost between the two, so whoever sends that end asks first
 * (nc_preempt_sender_settle): the other QEMU must not be told that everything has come
 * while a page has not.
 */
#pragma once

#include "mover/ordered.h"

NcPreemptSender *nc_preempt_sender_new(NcMover *m);
/* Reads from ${qemu}, borrowed. Once. */
void nc_preempt_sender_start(NcPreemptSender *p, int qemu);
/* Blocks until what QEMU has written so far was delivered. Returns at once if it has no such channel. The reader's thread. */
void nc_preempt_sender_settle(NcPreemptSender *p);
/* Its channel, for the links. */
NcOrderedSender *nc_preempt_sender_channel(NcPreemptSender *p);
