/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks of a disk have changed since its machine's last checkpoint: a dirty bitmap of QEMU's on each disk, which bears that
 * checkpoint's name (decision 054). It lives in QEMU's memory: with QEMU it is gone, and nobody can have written to the image
 * without it while it is there. All functions block for QEMU's answers. Errors: NC_ERROR_QEMU.
 */
#pragma once

#include "qemu/checkpoint_qmp.h"

/* The checkpoints of which there is a bitmap on ${node}, in whatever state. NULL-terminated; caller frees. */
char **nc_qemu_bitmaps_list(NcQmp *qmp, const char *node);
/*
 * True: the bitmap of checkpoint ${id} is there on each of ${disks}, and nothing has hindered it from recording every write since it
 * was made. False: it is not, for whatever reason (or QEMU does not say).
 */
bool nc_qemu_bitmaps_are_good(NcQmp *qmp, const NcFreezable *disks, size_t count, const char *id);
/*
 * With the guest stopped and its disks at rest: from here on the bitmap of ${id} records, and that of ${before} (NULL: none) stays as
 * it is. On all disks or on none.
 */
bool nc_qemu_bitmaps_turn(NcQmp *qmp, const NcFreezable *disks, size_t count, const char *before, const char *id, GError **error);
/* Exports what the bitmap of ${id} says of disk number ${index} at the NBD server of nc_qemu_export_frozen(). */
bool nc_qemu_bitmap_export(NcQmp *qmp, const NcFreezable *disk, unsigned index, const char *id, GError **error);
/* The names of that export, and of the bitmap in it. Caller frees. */
char *nc_qemu_bitmap_export_name(unsigned index);
char *nc_qemu_bitmap_name(const char *id);
/* Removes all bitmaps of ours but that of ${keep} (NULL: none). What can't be removed now is said in the log, and no harm. */
void nc_qemu_bitmaps_drop(NcQmp *qmp, const NcFreezable *disks, size_t count, const char *keep);
