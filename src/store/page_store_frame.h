/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks to the body of a record and back: compression, encryption, and which
 * block is where. No files. Any thread.
 */
#pragma once

#include "store/page_store_format.h"

/* The body of one record to be: table and payload in place, not yet encrypted. */
typedef struct {
  NcRecordHead head; /* sums and nonce not set */
  uint8_t *bytes;    /* nc_record_total() with room for the tag */
} NcFrame;

/* One block for a frame. */
typedef struct {
  const uint8_t *address;
  const void *data;
  uint32_t length;
} NcFrameBlock;

/* How many of ${blocks} fit in one frame: at least 1. */
unsigned nc_frame_fit(const NcFrameBlock *blocks, unsigned count);
/* The frame of ${count} blocks, that fit; compressed at ${level} if that saves a sixteenth. */
void nc_frame_build(NcFrame *frame, const NcFrameBlock *blocks, unsigned count, int level);
void nc_frame_clear(NcFrame *frame);
/* What its record will take. */
uint32_t nc_frame_record_bytes(const NcFrame *frame, bool encrypted);
/* Completes frame->bytes to the record at ${offset}. ${sealer}: NULL if the store is not encrypted. Once per frame. */
void nc_frame_finish(NcFrame *frame, const NcPackHeader *pack, uint32_t offset, NcSealer *sealer);

/* A record's blocks, decoded; shared by reference count. Immutable. */
typedef struct {
  gint refs;
  unsigned count;
  uint8_t *table;    /* count entries as in the record */
  uint32_t *starts;  /* count + 1 offsets in data */
  uint8_t *data;
} NcDecoded;

/*
 * Decodes a whole ${record} at ${offset}, whose sums have been checked. ${opener}: NULL if the
 * store is not encrypted. NC_ERROR_CORRUPT if it can't be decoded. The blocks' hashes are not looked at.
 */
NcDecoded *nc_decoded_new(const NcPackHeader *pack, uint32_t offset, const NcRecordHead *head, const uint8_t *record,
                          const NcOpener *opener, GError **error);
NcDecoded *nc_decoded_ref(NcDecoded *decoded);
void nc_decoded_unref(NcDecoded *decoded);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcDecoded, nc_decoded_unref)

static inline const uint8_t *
nc_decoded_address(const NcDecoded *decoded, unsigned slot)
{
  return decoded->table + slot * NC_RECORD_ENTRY_BYTES;
}

static inline uint32_t
nc_decoded_length(const NcDecoded *decoded, unsigned slot)
{
  return decoded->starts[slot + 1] - decoded->starts[slot];
}
