/* SPDX-License-Identifier: Apache-2.0 */
/* A restore under way: what checkpoint_restore.c and restored_disks.c share. */
#pragma once

#include "agent/checkpoint.h"
#include "checkpoint/replay.h"

typedef struct {
  NcCheckpoint *cp;
  char *as;       /* NULL: in place */
  char *disk_dir; /* NULL: where the original's are */
  bool force, paused;
  bool take; /* an operator says that no other node has the right to run it */
  char *maker; /* the mark of this restore on a machine that it puts into the list */
  NcMachineHold *hold;
  NcImage *image;
  json_t *spec;     /* of the machine to be */
  json_t *before;   /* in place: what it was */
  json_t *disks;    /* [{path,new,old,was_there}], in the order of the checkpoint's disks */
  json_t *warnings; /* strings */
  bool recorded;    /* the journal knows of it */
  bool exchanging;  /* disks may have been exchanged */
  bool took;        /* the right was another's, or nobody's, before: claimed at ${epoch} */
  uint64_t epoch;
  bool decided;     /* the machine is the restored one */
} NcRestore;

/* --- restored_disks.c, in the order in which it is done --- */

/* The disk ${name} of a machine's specification; borrowed, NULL if it has none of that name. */
json_t *nc_spec_disk(json_t *spec, const char *name);
/* Fills re->disks: what is to be written where. Touches nothing. NC_ERROR_EXISTS: what an earlier restore has left is in the way. */
bool nc_restored_disks_plan(NcRestore *re, GError **error);
bool nc_restored_disks_check_space(NcRestore *re, GError **error);
/* Writes them beside those that they will replace, durably. */
bool nc_restored_disks_write(NcRestore *re, GError **error);
/* Puts them into their places, the old ones beside. */
bool nc_restored_disks_exchange(NcRestore *re, GError **error);
/*
 * ${keep_new}: the machine is the restored one, the old ones go; else it gets them back, if they were ${exchanged}. Durable when it
 * returns true: only then the record may go. Can be done again and again.
 */
bool nc_restored_disks_settle(json_t *disks, bool keep_new, bool exchanged, GError **error);
