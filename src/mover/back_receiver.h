/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The return path at the source: the destination QEMU's messages to ours.
 *
 * The links hand in verified batches; one thread takes them apart into messages
 * and writes each to QEMU at once, except SHUT: that one is reported and held
 * until novacrond says that the handoff is decided (deliver_shut). What comes
 * behind it waits with it.
 */
#pragma once

#include "mover/mover.h"
#include "wire/chain.h"
#include "wire/frame.h"

NcBackReceiver *nc_back_receiver_new(NcMover *m);
/* Writes to ${qemu}, borrowed. Once. */
void nc_back_receiver_start(NcBackReceiver *b, int qemu);

/* A BATCH of channel 2, decoded with ${decoder}. A link's thread. False: not acceptable. */
bool nc_back_receiver_batch(NcBackReceiver *b, NcBatchDecoder *decoder, uint64_t seq, const uint8_t *payload,
                            size_t length_bytes, GError **error);
/* The destination's statement about what it delivered. A link's thread. */
void nc_back_receiver_digest(NcBackReceiver *b, const NcFrameDigest *digest);
/* SHUT may pass, now or when it comes. Any thread. */
void nc_back_receiver_deliver_shut(NcBackReceiver *b);
/* Has QEMU got everything that may pass? Any thread. */
bool nc_back_receiver_is_idle(NcBackReceiver *b);
/* The chain over what was received. Any thread. */
void nc_back_receiver_position(NcBackReceiver *b, NcChain *ret);
