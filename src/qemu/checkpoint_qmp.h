/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a checkpoint asks of QEMU, by QMP: its disks as they are at one instant, and its migration set up for writing an image.
 *
 * A disk is frozen by a copy-before-write filter between the device and its image: what the guest overwrites is copied to a file
 * of ours first, and a snapshot-access node shows the disk as it was. The guest's writes go to its own image all the time, so
 * nothing is to be brought back afterwards, and a power cut finds nothing unusual. If our file is full, the guest's write goes on
 * and the snapshot is broken (reading it fails).
 *
 * Everything of ours in a QEMU has a name that tells (NC_CHECKPOINT_MARK), so that nc_qemu_thaw() finds it also after a
 * restart of novacrond. All functions block for QEMU's answers. Errors: NC_ERROR_QEMU.
 */
#pragma once

#include "qemu/qmp.h"

#define NC_CHECKPOINT_MARK "nc-cp-"
#define NC_CHECKPOINT_DISKS_MAX 32

typedef struct {
  const char *device; /* the id of the guest's device */
  const char *node;   /* its image */
} NcFreezable;

/*
 * Is every disk that the guest can write to among ${disks}? NC_ERROR_UNSUITABLE names one that is not.
 * ${ret_sizes}: their lengths in bytes, in the same order.
 */
bool nc_qemu_check_disks(NcQmp *qmp, const NcFreezable *disks, size_t count, uint64_t *ret_sizes, GError **error);

/*
 * Before the freeze (and after nc_qemu_wake_disks(), if that is needed): gives QEMU the file ${fd} for disk number ${index}, as
 * long as the disk and empty, and makes the filter, beside the way of the guest's writes.
 */
bool nc_qemu_prepare_freeze(NcQmp *qmp, const NcFreezable *disk, unsigned index, int fd, GError **error);
/*
 * After an ordinary migration to our socket QEMU has let go of its images (they could be another one's now), and only `cont`
 * takes them back, with the guest running at once. This takes them back before that: exporting a node does, for whom the export
 * is of no use otherwise. ${path}: a socket for it.
 */
bool nc_qemu_wake_disks(NcQmp *qmp, const NcFreezable *disks, size_t count, const char *path, GError **error);
/*
 * With the guest stopped: puts the filter into the way. From here on the snapshot is the disk as it is now: what the filter has not
 * seen being overwritten is read from the image itself.
 */
bool nc_qemu_freeze(NcQmp *qmp, const NcFreezable *disk, unsigned index, GError **error);
/* After that (the guest may run): exports the frozen disks by NBD at the UNIX socket ${path}: export names are the numbers. */
bool nc_qemu_export_frozen(NcQmp *qmp, size_t count, const char *path, GError **error);
/* Takes all of it back, whatever is there of it. Idempotent. False: something is left, and why. */
bool nc_qemu_thaw(NcQmp *qmp, const NcFreezable *disks, size_t count, GError **error);

/*
 * Sets migration up for an image: everything off that would add to the stream or wait for an answer; background-snapshot
 * on if ${background}, NC_ERROR_UNSUITABLE if this QEMU, host or machine can't do that (nothing is changed then).
 * *ret_before, a new reference, is for nc_qemu_image_teardown().
 */
bool nc_qemu_image_setup(NcQmp *qmp, bool background, json_t **ret_before, GError **error);
/* What nc_qemu_image_setup() would find. For whoever records it first. */
json_t *nc_qemu_image_settings(NcQmp *qmp, GError **error);
bool nc_qemu_image_teardown(NcQmp *qmp, json_t *before, GError **error);
