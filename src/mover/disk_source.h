/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks at the source: what QEMU's NBD client says to the destination's NBD server, and the answers.
 *
 * Each disk that is copied is a connection of QEMU's, opaque to us but for where its blocks are (qemu/nbd_blocks.h): a batch ends
 * with one, if it can. One thread reads it, and submits what is there
 * as batches of the disk's channel to the outbox (outbox.h); another one writes the answers, which
 * come as urgent batches. When QEMU closes it, END follows the last byte, and the two sides compare what went through. When
 * the destination's server closes it, QEMU's connection is shut down: its mirror
 * then fails by itself, which costs the attempt and no write of the guest.
 */
#pragma once

#include "mover/mover.h"
#include "wire/frame.h"

/* Lives as long as the process. */
NcDiskSource *nc_disk_source_new(NcMover *m);
/* Serves ${qemu}, taken on success, as disk ${index} (below NC_WIRE_DISKS_MAX). Each once: NC_ERROR_CONFLICT. The main thread. */
bool nc_disk_source_start(NcDiskSource *s, unsigned index, int qemu, GError **error);

/* Answers, decoded with ${decoder}, and their end. A link's thread. False: not acceptable. */
bool nc_disk_source_batch(NcDiskSource *s, unsigned index, NcBatchDecoder *decoder, const NcFrame *frame, GError **error);
bool nc_disk_source_end(NcDiskSource *s, unsigned index, const NcFrameEnd *end, GError **error);

/* An array of {"index", "stream_bytes", "wire_bytes", "open"}. New reference. The main thread. */
json_t *nc_disk_source_progress(NcDiskSource *s);
