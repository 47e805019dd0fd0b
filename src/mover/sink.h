/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's forward channel: verified batches, in order, into QEMU.
 *
 * Links hand in decoded and verified batches in any order; one writer thread
 * delivers them in sequence, with blocking writes, keeps the running digest
 * and acknowledges. What is ahead of the next expected batch is bounded in
 * number and bytes (wire/reorder.h, as our HELLO said): more is refused, not stored.
 *
 * GRANT and END name an offset and the digest there. They are held until
 * everything before that offset was delivered, then compared with the
 * digest this side has for that boundary. A difference is NC_ERROR_CORRUPT,
 * and no grant reaches novacrond.
 */
#pragma once

#include "mover/mover.h"
#include "wire/chain.h"
#include "wire/frame.h"

/* Lives as long as the process. */
NcSink *nc_sink_new(NcMover *m);
/* Delivers to ${qemu}, borrowed. Batches that came before are waiting. Once. */
void nc_sink_start(NcSink *s, int qemu);

/*
 * A BATCH frame's ${payload}, decoded with ${decoder} of the calling link's
 * thread. False: not acceptable, nothing of it will reach QEMU.
 */
bool nc_sink_batch(NcSink *s, NcBatchDecoder *decoder, uint64_t seq, const uint8_t *payload, size_t length_bytes,
                   GError **error);
/* GRANT and END of the main channel. Any link's thread. */
bool nc_sink_grant(NcSink *s, const NcFrameGrant *grant, GError **error);
bool nc_sink_end(NcSink *s, const NcFrameEnd *end, GError **error);

/* The chain over the batches given to QEMU so far. Any thread. */
void nc_sink_position(NcSink *s, NcChain *ret);
