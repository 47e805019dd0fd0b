/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's batches between the readers and the connections: of the main channel, and of disks.
 *
 * A reader submits raw batches in its channel's order; W encoder threads hash and
 * code them in any order; the links take coded frames in each channel's sequence order, as far
 * as the flight window allows, and report when a frame is entirely in TLS. A
 * frame is kept until it is acknowledged: what the destination could not use is
 * sent again from here.
 *
 * Two bounds, both part of QEMU's pause (mover.h):
 *   unsent    raw bytes submitted and not yet entirely in TLS: a few batches,
 *             and less where 10 % of the pause budget at the measured rate is
 *             less. nc_outbox_submit() blocks on it.
 *             In post-copy, where the guest may wait for what is behind, the least.
 *   in flight wire bytes taken and not acknowledged: wire/flight.h; besides,
 *             never more batches or raw bytes than the destination accepts.
 *
 * Channels take turns: half of the link is the main channel's as long as it has something to send, the disks share the
 * rest; what one does not use, the others have. A channel whose QEMU does not read fills its own share of the window
 * and no more, so the others flow on.
 */
#pragma once

#include "mover/mover.h"
#include "qemu/stream.h"
#include "wire/chain.h"

typedef struct NcOutbox NcOutbox;

/* A piece of QEMU's stream, cut at a record's end. */
typedef struct {
  uint8_t channel;
  uint64_t offset; /* of its first byte in the stream */
  uint32_t length;
  uint8_t *data;   /* owned */
  GArray *records; /* of NcStreamRecord, relative to data; owned */
  NcPlan *plan;    /* owned; NULL: nothing is kept */
} NcRawBatch;

NcRawBatch *nc_raw_batch_new(uint8_t channel, uint64_t offset);
void nc_raw_batch_free(NcRawBatch *batch); /* NULL is fine */

/*
 * A frame to write, with references of the taker's: what is being sent again may be
 * acknowledged meanwhile.
 */
typedef struct {
  GByteArray *header;  /* or the whole frame; NULL: no frame */
  GByteArray *payload; /* NULL: none */
  uint8_t channel;     /* of a batch, */
  uint64_t seq;        /* and its number there */
  bool is_batch;
} NcOutFrame;

void nc_out_frame_clear(NcOutFrame *frame);

/* Starts ${m}->setup.workers encoders. Lives as long as the process. */
NcOutbox *nc_outbox_new(NcMover *m);

/* What the destination accepts ahead of its last ACK. Any thread; the smallest counts. */
void nc_outbox_limit(NcOutbox *o, uint32_t batches, uint64_t raw_bytes);

/* Before anything of it: the channel of disk ${disk} (below NC_WIRE_DISKS_MAX), once. Any thread. */
void nc_outbox_open_disk(NcOutbox *o, unsigned disk);

/* Takes ${batch}, of an open channel. Blocks while too much of that is unsent. One thread of each channel: its reader. */
void nc_outbox_submit(NcOutbox *o, NcRawBatch *batch);
/* Blocks until everything submitted to ${channel} is acknowledged. Its reader's thread. */
void nc_outbox_await_acks(NcOutbox *o, uint8_t channel);
/* Bytes a batch of the main channel should have now: smaller on a slow link. */
uint32_t nc_outbox_batch_target(NcOutbox *o);
/*
 * GRANT(${epoch}), or END if that is 0, leaves behind everything submitted so far, and names that place, whatever is
 * submitted later. The reader's thread.
 */
void nc_outbox_conclude(NcOutbox *o, uint64_t epoch);
/* From now on little waits here (see above): post-copy has begun. The reader's thread. */
void nc_outbox_be_brief(NcOutbox *o);
/* The chain over the batches of ${channel}, which is open, that links have taken. Any thread. */
void nc_outbox_position(NcOutbox *o, uint8_t channel, NcChain *ret);
/* What they were on the wire, also again. Any thread. */
uint64_t nc_outbox_sent_wire_bytes(NcOutbox *o, uint8_t channel);

/* The next batch in turn, if there is one and the window has room, for connection ${link}; its thread. */
bool nc_outbox_take(NcOutbox *o, unsigned link, NcOutFrame *ret);
/* GRANT or END, if everything before it was taken: a whole frame, to be sent as urgent one. NULL: none. */
GByteArray *nc_outbox_take_conclusion(NcOutbox *o);
/* What nc_outbox_take_conclusion() gave is among the urgent frames. */
void nc_outbox_concluded(NcOutbox *o);
/* The other side has confirmed urgent frames: one may have been the GRANT that batches wait for. Any link's thread. */
void nc_outbox_confirmed(NcOutbox *o);
/* The batch ${frame} is entirely written. */
void nc_outbox_written(NcOutbox *o, const NcOutFrame *frame);
/*
 * Connection ${link} is gone: what it took and nobody acknowledged is sent again, by whoever asks first. Its thread.
 * If it was the ${last} one, what was learned about the path is forgotten.
 */
void nc_outbox_lost(NcOutbox *o, unsigned link, bool last);

/*
 * The peer's ACK: everything of ${channel} up to batch ${seq}, which ends at ${offset}, was delivered. Checked; one that says less
 * than an earlier one (from a connection that is slower) changes nothing.
 */
bool nc_outbox_acked(NcOutbox *o, uint8_t channel, uint64_t seq, uint64_t offset, GError **error);
/* The peer's RESEND: batch ${seq} is sent once more, whole if it was made with history or stored pages. Checked. Any link's thread. */
bool nc_outbox_resend(NcOutbox *o, uint8_t channel, uint64_t seq, GError **error);
/* Has the destination found since the last question that its shadow differs? The reader's thread. */
bool nc_outbox_history_failed(NcOutbox *o);
/*
 * Are bytes worth more than time? Is it, for half a second or so, mostly the link that the next batch waits for (and does
 * the tuner, if there is one, think more than the lightest compression worth it)? At first: yes if the coding is fixed by
 * whoever started the mover, no if it is to be found out.
 */
bool nc_outbox_link_is_scarce(NcOutbox *o);
/* The connections that are up take ${paths} different ways. */
void nc_outbox_paths(NcOutbox *o, unsigned paths);
/* A round trip measured by PING. */
void nc_outbox_rtt(NcOutbox *o, uint64_t rtt_us);
