/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint given back: the stream that QEMU loads, and the disks. */
#pragma once

#include "checkpoint/image.h"
#include "qemu/nbd.h"

/* ${cancelled} and ${progress} (bytes of memory and disks written) are atomic. */
typedef struct {
  NcImage *image;
  const gint *cancelled;
  uint64_t *progress;
} NcReplay;

/* Writes the migration stream to ${fd}, byte for byte as it came from QEMU. Waits for the reader at the other end. */
bool nc_replay_stream(const NcReplay *replay, int fd, GError **error);
/*
 * Writes the blocks of all disks; ${disks}: as many as the checkpoint has (`meta.disks`), each of the right size and reading as
 * zeros. Nothing is flushed.
 */
bool nc_replay_disks(const NcReplay *replay, NcNbd *const *disks, GError **error);
