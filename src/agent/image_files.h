/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images made by QEMU's own tools: created with qemu-img, written through qemu-nbd. Any thread; each call blocks.
 */
#pragma once

#include "base/error.h"
#include "qemu/nbd.h"

/* Makes ${path}, an empty image of ${bytes} that reads as zeros, without a backing file. NC_ERROR_EXISTS if it is there. */
bool nc_image_file_create(const char *path, const char *format, uint64_t bytes, GError **error);

/* An image that is being written. */
typedef struct NcImageFile NcImageFile;

/* ${socket_path}: where qemu-nbd may listen meanwhile. Nobody else may use the image. */
NcImageFile *nc_image_file_open(const char *path, const char *format, const char *socket_path, GError **error);
NcNbd *nc_image_file_nbd(NcImageFile *file); /* borrowed */
/* All that was written is durable under its name. */
bool nc_image_file_sync(NcImageFile *file, GError **error);
void nc_image_file_close(NcImageFile *file); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcImageFile, nc_image_file_close)

