/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks of a running QEMU, by QMP: what they are, exporting them by NBD, mirroring them to such an export.
 *
 * A mirror is named by its number among the machine's disks: job nc-mirror-N writes into node nc-target-N. What an
 * earlier novacrond left of that is found by these names. All functions block for QEMU's answer; any thread.
 * Errors: NC_ERROR_QEMU.
 */
#pragma once

#include "qemu/qmp.h"

/* A file below an image. */
typedef struct {
  char *path, *format;
} NcQemuBacking;

/* One that a device of the guest uses. */
typedef struct {
  char *node;   /* its node's name; of QEMU's own making, if the command line has none: begins with '#' */
  char *device; /* the device, as QEMU's commands take it */
  char *format; /* of the image */
  uint64_t size_bytes;    /* that the guest sees */
  uint64_t used_bytes;    /* of the file */
  uint32_t cluster_bytes; /* of qcow2; 0: not said */
  bool has_backing, is_encrypted, is_limited; /* limited: somebody has set I/O limits */
  GPtrArray *backing; /* of NcQemuBacking, what is below it, the nearest first */
} NcQemuDisk;

void nc_qemu_disk_free(NcQemuDisk *disk); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcQemuDisk, nc_qemu_disk_free)

/* The disk whose image is the file ${path}: NC_ERROR_NOT_FOUND if no device uses it. */
NcQemuDisk *nc_qemu_disk_find(NcQmp *qmp, const char *path, GError **error);

/* What the guest has asked of ${node} since QEMU's start: reads and writes. False if QEMU does not say. */
bool nc_qemu_disk_operations(NcQmp *qmp, const char *node, uint64_t *ret_operations);
/* What the guest has written to ${node} since QEMU's start, bytes. False if QEMU does not say. */
bool nc_qemu_disk_written(NcQmp *qmp, const char *node, uint64_t *ret_bytes);
/* Guest writes to ${device}, bytes per second; 0: no limit. */
bool nc_qemu_disk_limit_writes(NcQmp *qmp, const char *device, uint64_t bps, GError **error);

/* --- the destination --- */

/* An NBD server at the UNIX socket ${path}, for exports that follow. */
bool nc_qemu_nbd_start(NcQmp *qmp, const char *path, GError **error);
/* ${node}, under the name ${name}, may be written to. */
bool nc_qemu_nbd_export(NcQmp *qmp, const char *node, const char *name, GError **error);
/* Ends the server, its exports and connections. True if there was none. */
bool nc_qemu_nbd_stop(NcQmp *qmp, GError **error);

/* --- the source --- */

typedef struct {
  const char *node;   /* what to copy */
  const char *socket; /* where an NBD server listens, and */
  const char *name;   /* its export */
  bool flatten;       /* there is a backing chain: all of it goes into the target */
  uint64_t size_bytes;
} NcQemuMirror;

/* Connects node nc-target-${index} to the export. As long as that takes, QEMU's main loop waits. */
bool nc_qemu_mirror_attach(NcQmp *qmp, unsigned index, const NcQemuMirror *mirror, GError **error);
/* Begins to copy. The target must be new: where the source has nothing, nothing is written. */
bool nc_qemu_mirror_start(NcQmp *qmp, unsigned index, const NcQemuMirror *mirror, GError **error);

typedef enum {
  NC_QEMU_MIRROR_GONE,  /* there is none */
  NC_QEMU_MIRROR_COPYING,
  NC_QEMU_MIRROR_READY, /* both have been equal; it can be ended so that they are */
  NC_QEMU_MIRROR_ENDED, /* equal if there is no error */
} NcQemuMirrorStatus;

typedef struct {
  NcQemuMirrorStatus status;
  uint64_t done_bytes, total_bytes; /* the total grows with what the guest writes */
  char *problem;                    /* of one that ended; NULL: none */
} NcQemuMirrorState;

void nc_qemu_mirror_state_clear(NcQemuMirrorState *state);
/* ${ret}, of ${count}, by index; each to be cleared, whatever was in them is overwritten. */
bool nc_qemu_mirror_query(NcQmp *qmp, NcQemuMirrorState *ret, unsigned count, GError **error);
/* From now on what the guest writes is written to both before it hears so. Newer QEMUs only. */
bool nc_qemu_mirror_block_writes(NcQmp *qmp, unsigned index, GError **error);
/* A READY one: to its end, which is reached when both are equal. The source's disk stays the source's. */
bool nc_qemu_mirror_end(NcQmp *qmp, unsigned index, GError **error);
/* Of one that has ended: everything goes but the disk. */
bool nc_qemu_mirror_detach(NcQmp *qmp, unsigned index, GError **error);
/* All mirrors of ours, whatever they are doing, end and are detached; blocks until they are. */
void nc_qemu_mirror_clean_up(NcQmp *qmp);
