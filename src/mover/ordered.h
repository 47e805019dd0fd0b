/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A channel of QEMU's whose bytes must not wait behind bulk: the return path, the
 * preempt channel of post-copy, and what a disk's server answers. One direction, in order, in batches inside urgent frames
 * (urgent.h), which survive lost connections.
 *
 * The sender numbers batches and keeps the chain over them; what is not acknowledged is
 * bounded, in bytes and in batches, and whoever sends waits. The receiver takes verified batches from the
 * links in that order and hands them to one thread, which writes them and acknowledges.
 * Who reads from QEMU, who writes to it, and what the bytes mean is our users' business.
 */
#pragma once

#include "mover/mover.h"
#include "qemu/stream.h"
#include "wire/chain.h"
#include "wire/frame.h"

typedef struct {
  uint8_t channel;
  const char *name; /* in messages */
  uint64_t window_bytes; /* that may be unacknowledged; the same on both sides */
  uint32_t batches;      /* likewise */
} NcOrderedChannel;

extern const NcOrderedChannel nc_ordered_return_path;
extern const NcOrderedChannel nc_ordered_preempt;

typedef struct NcOrderedSender NcOrderedSender;

/* ${channel} is borrowed for ever. Lives as long as the process. */
NcOrderedSender *nc_ordered_sender_new(NcMover *m, const NcOrderedChannel *channel, const NcBatchPolicy *policy);
/*
 * Sends ${length} bytes now; blocks while too much is unacknowledged. ${records}: where pages are in them, if they fit one
 * batch; NULL with 0: unknown. One thread.
 */
void nc_ordered_sender_send(NcOrderedSender *s, const uint8_t *data, size_t length, const NcStreamRecord *records,
                            size_t n_records);
/* Nothing will follow. The same thread. */
void nc_ordered_sender_end(NcOrderedSender *s);
/* The peer's ACK. Checked. A link's thread. */
bool nc_ordered_sender_acked(NcOrderedSender *s, uint64_t seq, uint64_t offset, GError **error);
/* Blocks until everything that was sent so far is acknowledged. Any thread. */
void nc_ordered_sender_await_acks(NcOrderedSender *s);
/* Bytes on their way. Any thread. */
uint64_t nc_ordered_sender_unacked(NcOrderedSender *s);
/* The chain over what was sent. Any thread. */
void nc_ordered_sender_position(NcOrderedSender *s, NcChain *ret);

typedef struct NcOrderedReceiver NcOrderedReceiver;

NcOrderedReceiver *nc_ordered_receiver_new(NcMover *m, const NcOrderedChannel *channel);
/* A BATCH, decoded with ${decoder}. A link's thread. False: not acceptable. */
bool nc_ordered_receiver_batch(NcOrderedReceiver *r, NcBatchDecoder *decoder, const NcFrame *frame, GError **error);
/* The peer's END: is it where we are? A link's thread. */
bool nc_ordered_receiver_end(NcOrderedReceiver *r, const NcFrameEnd *end, GError **error);

/* Verified bytes, the next in order. */
typedef struct {
  GByteArray *raw; /* owned by who took it */
  uint64_t seq;
  uint64_t end; /* where the channel stands behind it */
} NcOrderedBatch;

/*
 * Waits for the next batch, until ${until_us} (CLOCK_MONOTONIC; 0: for ever) or nc_ordered_receiver_poke().
 * False: none has come. One thread, which is idle as long as it is in here.
 */
bool nc_ordered_receiver_next(NcOrderedReceiver *r, int64_t until_us, NcOrderedBatch *ret);
/* ${batch} is where it belongs: acknowledges it and frees what it holds. */
void nc_ordered_receiver_done(NcOrderedReceiver *r, NcOrderedBatch *batch);
/* Ends the present wait of nc_ordered_receiver_next(), or the next one. Any thread. */
void nc_ordered_receiver_poke(NcOrderedReceiver *r);
/* That thread owes nothing to QEMU for now, though it has a batch; or it does again. */
void nc_ordered_receiver_rest(NcOrderedReceiver *r, bool rests);
/* Was everything handed over, and is its thread idle? Any thread. */
bool nc_ordered_receiver_is_idle(NcOrderedReceiver *r);
/* The chain over what was received. Any thread. */
void nc_ordered_receiver_position(NcOrderedReceiver *r, NcChain *ret);
