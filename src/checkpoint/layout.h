/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layout of a checkpoint: what its manifest's blocks are, in their order.
 *
 * A list of steps. First those of the migration stream, which is put together again by doing them one after the other; then
 * those of the disks, which say where on a disk blocks belong (what no step mentions reads as zeros). A step takes as many
 * entries of the manifest as nc_layout_entries() says. Encoded with varints, some six bytes per step; a run of pages is one step.
 */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#define NC_LAYOUT_INLINE_MAX 512u               /* literal bytes that are not worth a block */
#define NC_LAYOUT_COUNT_MAX (UINT64_C(1) << 40) /* pages of one step: more than any machine has */
#define NC_LAYOUT_BYTES_MAX (256u << 20)        /* encoded; read into memory as a whole */

typedef enum {
  NC_STEP_INLINE = 1, /* bytes of the stream, here */
  NC_STEP_BLOCKS,     /* bytes of the stream: ${count} entries */
  NC_STEP_PAGES,      /* page records: ${count} entries of 4 KiB */
  NC_STEP_ZEROS,      /* ${count} page records of zeros: no entry */
  NC_STEP_DISK,       /* ${count} entries, each a block of disk ${block} */
} NcStepKind;

typedef struct {
  uint8_t kind;         /* NcStepKind */
  uint8_t flags;        /* PAGES, ZEROS: QEMU's, of the first record; the others have CONTINUE */
  uint32_t block;       /* PAGES, ZEROS: RAM block; DISK: disk */
  uint64_t index;       /* PAGES, ZEROS: page number in the block; DISK: number of the block on the disk */
  uint64_t count;       /* INLINE: bytes */
  const uint8_t *bytes; /* INLINE; borrowed */
} NcStep;

/* Manifest entries that ${step} takes. */
uint64_t nc_layout_entries(const NcStep *step);

/* --- building --- */

typedef struct NcLayoutBuilder NcLayoutBuilder;

NcLayoutBuilder *nc_layout_builder_new(void);
void nc_layout_builder_free(NcLayoutBuilder *b); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcLayoutBuilder, nc_layout_builder_free)
/* Appends; goes into one with the last step where that is possible. */
void nc_layout_builder_add(NcLayoutBuilder *b, const NcStep *step);
/* The encoded list so far. Borrowed, valid until the next call. */
const GByteArray *nc_layout_builder_bytes(NcLayoutBuilder *b);

/* --- reading --- */

typedef enum { NC_LAYOUT_STEP, NC_LAYOUT_END, NC_LAYOUT_BAD } NcLayoutOutcome;

/* The next step of ${r}. BAD: NC_ERROR_CORRUPT. */
NcLayoutOutcome nc_layout_next(NcReader *r, NcStep *ret, GError **error);
