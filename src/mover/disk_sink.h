/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks at the destination: verified batches, in order, into QEMU's NBD server, and its answers to the source.
 *
 * As sink.h, for each disk by itself and simpler: no history, no grant. Links hand in
 * decoded batches in any order; a thread writes them and acknowledges what QEMU has taken. What is ahead is bounded by
 * NC_MOVER_DISK_AHEAD and NC_MOVER_DISK_AHEAD_BYTES: more is refused. Another thread reads the answers and sends them as
 * urgent batches. A batch may come before its disk was started, and waits. When the server closes, that is told to the source,
 * and what still comes is dropped.
 */
#pragma once

#include "mover/mover.h"
#include "wire/frame.h"

/* Lives as long as the process. */
NcDiskSink *nc_disk_sink_new(NcMover *m);
/* Serves ${qemu}, taken on success, as disk ${index} (below NC_WIRE_DISKS_MAX). Each once: NC_ERROR_CONFLICT. The main thread. */
bool nc_disk_sink_start(NcDiskSink *s, unsigned index, int qemu, GError **error);

/* A BATCH frame, decoded with ${decoder}, and the stream's end. A link's thread. False: not acceptable. */
bool nc_disk_sink_batch(NcDiskSink *s, unsigned index, NcBatchDecoder *decoder, const NcFrame *frame, GError **error);
bool nc_disk_sink_end(NcDiskSink *s, unsigned index, const NcFrameEnd *end, GError **error);
/* The source's ACK of answers. */
bool nc_disk_sink_acked(NcDiskSink *s, unsigned index, const NcFrameAck *ack, GError **error);

/* An array of {"index", "stream_bytes", "open"}. New reference. The main thread. */
json_t *nc_disk_sink_progress(NcDiskSink *s);
