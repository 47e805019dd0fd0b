/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint that is being made: what checkpoint_create.c and checkpoint_describe.c share. */
#pragma once

#include "agent/checkpoint.h"
#include "checkpoint/capture.h"
#include "checkpoint/image.h"
#include "qemu/machine_spec.h"

typedef enum { NC_MODE_AUTO, NC_MODE_BACKGROUND, NC_MODE_STOP, NC_MODE_COUNT } NcCheckpointMode;

typedef struct {
  const NcDiskSpec *spec; /* of the machine's */
  char *device, *node;
  int fd; /* where QEMU keeps what the guest overwrites; -1 */
  uint64_t bytes;
  int earlier_index;   /* of the same disk in NcCreate.earlier */
  uint64_t read_bytes; /* what had to be looked at */
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
  char *migration; /* before which it is taken; NULL: none */
  NcMachineSpec *spec;
  json_t *spec_json;
  NcCreateDisk disks[NC_CHECKPOINT_DISKS_MAX];
  NcFreezable freezable[NC_CHECKPOINT_DISKS_MAX];
  unsigned n_disks;
  json_t *work; /* as in the journal; NULL: QEMU is not touched */
  bool left;    /* QEMU is as it was; the journal may not say so yet */
  char *nbd_path;
  int theirs;       /* QEMU's end of the socket that its image goes through, until it has it; -1 */
  NcKeeper *keeper; /* our end; QEMU holds a duplicate, so that it never loses its reader */
  NcCheckpointer *worker;
  NcPageStoreWriter *writer;
  NcManifestWriter *manifest;
  NcPuts *puts;
  NcLayoutBuilder *layout;
  bool bitmaps_turned; /* in QEMU they are not what they were before */
  NcImage *earlier; /* of which the disks differ by what a bitmap in QEMU says; NULL: they are read whole */
  NcCapture capture;
  NcCapturedStream stream;
  NcPutsTotals memory;
  uint64_t used_before;    /* by the store, when it began */
  uint64_t manifest_bytes; /* of the manifest's file, when all else was in the store */
  int64_t started_us;         /* wall clock */
  GMutex event_lock;          /* protects these */
  int64_t stop_us, resume_us; /* QEMU's clock; 0: not yet */
} NcCreate;

/* --- checkpoint_describe.c --- */

/* What is known at the beginning. New reference. */
json_t *nc_create_describe_beginning(NcCreate *cr, const char *mode, const char *label);
/* The description for the manifest, when everything is read. New reference. */
json_t *nc_create_describe(NcCreate *cr);

/* --- checkpoint_create.c --- */

/* Who reads for it, to be broken when it is cancelled; NULL: nobody any more. */
void nc_create_set_worker(NcCreate *cr, NcCheckpointer *worker);

/* --- checkpoint_prepare.c, in the order in which it is done --- */

/* The socket of QEMU's image, and the checkpointer that reads it. */
bool nc_create_start_worker(NcCreate *cr, GError **error);
/* In the journal: what there will be to be undone. */
bool nc_create_record_work(NcCreate *cr, GError **error);
/* Sets QEMU's migration up: in the background, if that can be and is wanted. */
bool nc_create_choose_mode(NcCreate *cr, GError **error);
/* Gives QEMU a file for each disk, for what the guest overwrites, and a filter, not yet in use. */
bool nc_create_prepare_disks(NcCreate *cr, GError **error);
/* QEMU gets both ends of the socket: its own, and a duplicate of ours. */
bool nc_create_give_ends(NcCreate *cr, GError **error);
/* Has the kernel give QEMU all of its guest's memory, as QEMU does before it protects it: while the guest still runs. */
void nc_create_touch_memory(NcCreate *cr);
/* When QEMU stops it flushes its images: what the host has of them is written before, not while the guest stands still. */
void nc_create_write_back(NcCreate *cr);
