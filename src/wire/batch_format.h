/* SPDX-License-Identifier: Apache-2.0 */
/* What batch_encode.c, batch_decode.c and batch_header.c have to agree on; described in batch.h. */
#pragma once

#include "base/bytes.h"
#include "crypto/digest.h"
#include "wire/batch.h"

#define NC_BATCH_FLAG_META_CODED 1u
#define NC_BATCH_FLAG_BULK_CODED 2u
#define NC_BATCH_FLAGS_CODED (NC_BATCH_FLAG_META_CODED | NC_BATCH_FLAG_BULK_CODED)
#define NC_BATCH_FLAG_HISTORY 4u /* has references or deltas */
#define NC_BATCH_FLAG_AHEAD 8u   /* to be kept, not to be delivered */
#define NC_BATCH_FLAGS (NC_BATCH_FLAGS_CODED | NC_BATCH_FLAG_HISTORY | NC_BATCH_FLAG_AHEAD)

#define NC_BATCH_CODED_MIN_BYTES 32u /* shorter sections are not worth a compressor's header */

#define NC_BATCH_PAGE_BYTES NC_STREAM_PAGE_BYTES
#define NC_BATCH_WORD_BYTES 8u /* a record's header when it does not name its block */
#define NC_BATCH_PAGE_RECORD_BYTES (NC_BATCH_WORD_BYTES + NC_BATCH_PAGE_BYTES)
#define NC_BATCH_ZERO_RECORD_BYTES (NC_BATCH_WORD_BYTES + 1)

typedef enum {
  NC_BATCH_OP_LITERAL = 1,
  NC_BATCH_OP_PAGES = 2,
  NC_BATCH_OP_ZEROS = 3,
  NC_BATCH_OP_PAGE = 4,
  NC_BATCH_OP_KEPT_PAGES = 5,
  NC_BATCH_OP_KEPT_PAGE = 6,
  NC_BATCH_OP_BLOCKS = 7,
  NC_BATCH_OP_KEPT_BLOCKS = 8,
} NcBatchOp;

typedef enum {
  NC_BATCH_CLASS_BULK = 1,
  NC_BATCH_CLASS_FILL = 2,
  NC_BATCH_CLASS_REFERENCE = 3,
  NC_BATCH_CLASS_DELTA = 4,
  NC_BATCH_CLASS_BLOCK = 5,
  NC_BATCH_CLASS_HELD = 6,
  NC_BATCH_CLASS_STORED = 7,
} NcBatchClass;

#define NC_BATCH_SHA256_AT 12 /* in the header */

/* The header, field by field. */
typedef struct {
  uint64_t stream_offset;
  uint32_t raw_len;
  uint8_t sha256[NC_SHA256_BYTES];
  uint8_t codec;
  int8_t level;
  uint16_t flags;
  uint32_t meta_len; /* in the payload */
  uint32_t meta_raw_len;
  uint32_t bulk_raw_len;
} NcBatchHeader;

G_STATIC_ASSERT(8 + 4 + NC_SHA256_BYTES + 1 + 1 + 2 + 4 + 4 + 4 == NC_BATCH_HEADER_BYTES);

/* batch_header.c: its fields as they are; and whether they make sense, with ${left} bytes of the payload behind it. */
bool nc_batch_read_header(NcReader *r, NcBatchHeader *ret, GError **error);
bool nc_batch_check_header(const NcBatchHeader *h, size_t left, GError **error);
