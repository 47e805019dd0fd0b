/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint that is being made: what checkpoint_create.c and checkpoint_describe.c share. */
#pragma once

#include "agent/checkpoint.h"
#include "checkpoint/capture.h"
#include "qemu/machine_spec.h"

typedef enum { NC_MODE_AUTO, NC_MODE_BACKGROUND, NC_MODE_STOP, NC_MODE_COUNT } NcCheckpointMode;

typedef struct {
  const NcDiskSpec *spec; /* of the machine's */
  char *device, *node;
  int fd; /* where QEMU keeps what the guest overwrites; -1 */
  uint64_t bytes;
  NcPutsTotals totals;
} NcCreateDisk;

typedef struct {
  NcCheckpoint *cp;
  NcMachineHold *hold;
  NcQmp *qmp;
  NcCheckpointMode mode;
  bool background; /* what it came to */
  bool was_running;
  bool scheduled; /* nobody asked for it */
  NcMachineSpec *spec;
  json_t *spec_json;
  NcCreateDisk disks[NC_CHECKPOINT_DISKS_MAX];
  NcFreezable freezable[NC_CHECKPOINT_DISKS_MAX];
  unsigned n_disks;
  json_t *work; /* as in the journal; NULL: QEMU is not touched */
  char *nbd_path;
  int theirs;       /* QEMU's end of the socket that its image goes through, until it has it; -1 */
  NcKeeper *keeper; /* our end; QEMU holds a duplicate, so that it never loses its reader */
  NcCheckpointer *worker;
  NcPageStoreWriter *writer;
  NcManifestWriter *manifest;
  NcPuts *puts;
  NcLayoutBuilder *layout;
  NcCapture capture;
  NcCapturedStream stream;
  NcPutsTotals memory;
  uint64_t used_before;
  int64_t started_us;         /* wall clock */
  GMutex event_lock;          /* protects these */
  int64_t stop_us, resume_us; /* QEMU's clock; 0: not yet */
} NcCreate;

/* --- checkpoint_describe.c --- */

/* What is known at the beginning. New reference. */
json_t *nc_create_describe_beginning(NcCreate *cr, const char *mode, const char *label);
/* The description for the manifest, when everything is read. New reference. */
json_t *nc_create_describe(NcCreate *cr);
