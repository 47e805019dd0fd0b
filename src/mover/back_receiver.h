/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The return path at the source: the destination QEMU's messages to ours.
 *
 * The links hand in verified batches; one thread takes them apart into messages
 * and writes each to QEMU at once, except SHUT: that one is reported and held
 * until novacrond says that the handoff is decided (deliver_shut). What comes
 * behind it waits with it.
 *
 * The same thread asks QEMU for hot pages (hot.h) where the destination's messages leave it
 * time: nobody else writes to QEMU, so every message stays whole.
 */
#pragma once

#include "mover/ordered.h"

NcBackReceiver *nc_back_receiver_new(NcMover *m);
/* Writes to ${qemu}, borrowed. Once. */
void nc_back_receiver_start(NcBackReceiver *b, int qemu);

/* Its channel, for the links. */
NcOrderedReceiver *nc_back_receiver_channel(NcBackReceiver *b);
/* The run right has left: hot pages may be asked for, if this is post-copy. Any thread. */
void nc_back_receiver_may_ask(NcBackReceiver *b);
/* Some of them have come: there may be room for others. Any thread. */
void nc_back_receiver_ask_on(NcBackReceiver *b);
/* The destination's statement about what it delivered. A link's thread. */
void nc_back_receiver_digest(NcBackReceiver *b, const NcFrameDigest *digest);
/* SHUT may pass, now or when it comes. Any thread. */
void nc_back_receiver_deliver_shut(NcBackReceiver *b);
