/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The preempt channel at the destination: urgent batches of channel 3 into QEMU's second
 * socket, each at once, by one thread.
 *
 * The end of the channel is checked and nothing else: QEMU has its own end mark in the
 * bytes, and closing the socket before it has all of the main channel could only do harm. That QEMU
 * takes no more is for the main channel to tell.
 */
#pragma once

#include "mover/ordered.h"

NcPreemptReceiver *nc_preempt_receiver_new(NcMover *m);
/* Writes to ${qemu}, borrowed. Once. */
void nc_preempt_receiver_start(NcPreemptReceiver *p, int qemu);
/* Its channel, for the links. */
NcOrderedReceiver *nc_preempt_receiver_channel(NcPreemptReceiver *p);
