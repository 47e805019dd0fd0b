/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking a checkpoint in: a machine's stream from its checkpointer, its frozen disks from NBD, both into the page store, and the
 * end of the manifest. One thread, except for `cancelled`.
 */
#pragma once

#include "base/msg.h"
#include "checkpoint/layout.h"
#include "checkpoint/process.h"
#include "checkpoint/puts.h"
#include "qemu/nbd.h"

typedef struct {
  NcPuts *puts;
  NcLayoutBuilder *layout;
  const gint *cancelled; /* atomic: not 0, stop with NC_ERROR_CANCELLED */
  uint64_t *progress;    /* atomic: bytes of memory and disks that were looked at */
} NcCapture;

typedef struct {
  json_t *blocks;     /* [{"name","bytes"}] of RAM; owned */
  uint64_t ram_bytes; /* their lengths together */
  uint64_t pages, zero_pages;
  uint64_t other_bytes; /* of the stream: device state and all that is no page */
  bool whole;           /* it ended where QEMU's streams end */
} NcCapturedStream;

/* Called once, when the first page has come: QEMU has everything else of the machine by then. */
typedef void (*NcCaptureFunc)(gpointer data);

/* Reads to the end of the stream. ${timeout_ms}: without a byte for so long, it fails. On success ${ret} must be cleared. */
bool nc_capture_stream(const NcCapture *capture, NcCheckpointer *from, int timeout_ms, NcCaptureFunc first_page, gpointer data,
                       NcCapturedStream *ret, GError **error);
void nc_captured_stream_clear(NcCapturedStream *stream);

/* Of a disk's blocks, by its size: small ones where they cost little, since what changes is stored by the block. */
uint32_t nc_capture_disk_block_bytes(uint64_t disk_bytes);
/* Reads what is not zero on disk number ${disk}. */
bool nc_capture_disk(const NcCapture *capture, unsigned disk, NcNbd *from, GError **error);

/*
 * The last of the manifest's blocks: the layout. Once. Then all of the checkpoint is in the store, but for the manifest's file,
 * of which *ret_file_bytes are in the store's used_bytes already.
 */
bool nc_capture_finish(const NcCapture *capture, NcManifestWriter *manifest, uint64_t *ret_file_bytes, GError **error);
/* After that: the manifest, with ${meta} (an object; borrowed) in its header. Not to be called twice. */
bool nc_capture_commit(const NcCapture *capture, NcManifestWriter *manifest, json_t *meta, GError **error);
