/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coding of a batch: a contiguous piece of a channel, in fewer bytes.
 *
 * The encoder is told where in the piece the page records are
 * (qemu/stream.h) and takes it apart into two sections that compress well on
 * their own: `meta`, a list of operations that rebuild the piece in order, and
 * `bulk`, the contents of those pages that stand for themselves. Where records
 * are is a hint and no more: an operation is only used where it reproduces
 * the bytes that are there, all other bytes are literal, and the SHA-256 of
 * the piece travels with it. Without records, everything is literal.
 *
 * Payload, big-endian:
 *
 *   u64 offset of the piece in the channel
 *   u32 its raw length, 1 to NC_BATCH_RAW_MAX
 *   32 bytes: digest of the raw bytes: SHA-256 over the SHA-256 of each 4 KiB (crypto/piece_digest.h)
 *   u8 codec | u8 level (as a signed byte; for people) | u16 flags: 1 meta is coded, 2 bulk is coded, 4 history, 8 ahead
 *   u32 length of meta here | u32 length of meta | u32 length of bulk
 *   meta, then bulk to the end
 *
 * A section is coded only if that makes it smaller. Operations, with counts as
 * LEB128 varints:
 *
 *   1 LITERAL  n, n bytes
 *   2 PAGES    u64 word, n, segments for n pages. A run of page records, each
 *              a header word and a page; the word grows by 4096 from one to
 *              the next.
 *   3 ZEROS    u64 word, n. The same with zero records: word and one byte 0.
 *   4 PAGE     one page without header: a segment without count. (A header that
 *              names its block is a LITERAL before it.)
 *   5 KEPT_PAGES  u64 word, n, frame, segments: PAGES, and both sides keep the
 *              pages in their shadows (wire/shadow.h), the first in that frame, the
 *              others in those after it
 *   6 KEPT_PAGE   frame, and the rest of PAGE: likewise
 *   7 BLOCKS      n, segments for n pages: blocks of a disk, without headers
 *   8 KEPT_BLOCKS  n, frame, segments: BLOCKS, and both sides keep them among the blocks (wire/blocks.h), the first in
 *              that frame, the others in those after it
 *
 * A segment is u8 class, count (but not with PAGE), then by class:
 *
 *   1 BULK       the next pages of bulk
 *   2 FILL       u64: each page is filled with these 8 bytes
 *   3 REFERENCE  a frame for each page: equal to what that holds
 *   4 DELTA      for each page a length and a delta (wire/delta.h) against
 *                what its own frame holds; in operations 5 and 6 only
 *   5 BLOCK      a frame of the blocks for each page: equal to what that holds
 *   6 HELD       a frame of the shadow for each block: equal to what that holds, and will until the batch was taken; in operations
 *                7 and 8 only
 *   7 STORED     for each page its number in the list of pages that the destination's page store holds (wire/stored.h); not in
 *                operations 7 and 8
 *
 * A batch without the flag "history" has no references (3) and deltas: it can be
 * decoded alone, by any thread, in any order, and only its pages have to be put
 * into their frames in order. One with it means frames as they are when all batches
 * before it have been taken, and each of its pages may mean those before it.
 *
 * A batch with the flag "ahead" has pages that both sides keep and nothing that is delivered: it has its place among the batches
 * of its channel, but its bytes are none of the channel's, and its offset says nothing.
 *
 * The offset is not part of the digest; a receiver compares it with where its
 * channel stands before it delivers.
 */
#pragma once

#include "base/error.h"
#include "qemu/stream.h"
#include "wire/codec.h"
#include "wire/history.h"
#include "wire/limits.h"
#include "wire/stored.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
  NcCodecId codec;
  int level; /* of zstd; 0 otherwise */
  /* Chosen batch by batch (wire/tuner.h): this is where to begin. An encoder with it leaves sections as they are that
   * look incompressible, and tells in NcBatchStats what the choice needs. */
  bool is_auto;
} NcBatchPolicy;

/*
 * "auto", "none", "lz4", "zstd" (level NC_ZSTD_LEVEL_DEFAULT) or "zstd:LEVEL" with a level from
 * NC_ZSTD_LEVEL_MIN to NC_ZSTD_LEVEL_MAX except 0. Anything else: false with NC_ERROR_INVALID, *ret not touched.
 */
bool nc_compression_parse(const char *text, NcBatchPolicy *ret, GError **error);

/* What a batch consists of, behind its header. */
typedef enum {
  NC_BATCH_SECTION_OPERATIONS, /* meta */
  NC_BATCH_SECTION_WHOLE,      /* bulk */
  NC_BATCH_SECTIONS,
} NcBatchSectionKind;

/* Bytes of a payload, without its header, by what has coded them. */
typedef struct {
  uint32_t bytes[NC_BATCH_SECTIONS][NC_CODEC_COUNT];
} NcBatchSections;

/* What one batch held. */
typedef struct {
  uint32_t reference_pages, delta_pages; /* of the pages */
  uint32_t stored_pages;                 /* likewise: numbers of what the destination's page store holds */
  uint64_t delta_bytes;                  /* before compression */
  uint32_t pages;          /* page records, fill pages included, zero records not */
  uint32_t zero_pages;     /* zero records */
  uint32_t fill_pages;     /* page records filled with a repeated pattern of 8 bytes */
  uint64_t page_bytes_in;  /* pages x 4096 */
  uint64_t page_bytes_out; /* what these became: patterns, bulk as coded, and meta as coded if there is history in it */
  NcBatchSections sections;
  /* With NcBatchPolicy.is_auto only: */
  uint32_t codable_bytes; /* of the sections worth compressing, whether the codec does or is none */
  uint32_t coded_bytes;   /* what these became */
  double estimate;        /* nc_estimate() of them */
  uint32_t coding_us;     /* time in the compressor */
} NcBatchStats;

/* Both belong to one thread at a time: they keep compressors and buffers between batches. */
typedef struct NcBatchEncoder NcBatchEncoder;
typedef struct NcBatchDecoder NcBatchDecoder;

/* Copies ${policy}, whose level must be one that nc_compression_parse() gives. */
NcBatchEncoder *nc_batch_encoder_new(const NcBatchPolicy *policy);
void nc_batch_encoder_free(NcBatchEncoder *e); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcBatchEncoder, nc_batch_encoder_free)

/* For the batches that follow: what is scarce may change during a migration. */
void nc_batch_encoder_set_policy(NcBatchEncoder *e, const NcBatchPolicy *policy);

/*
 * For the batches that follow: whole pages whose SHA-256 is in ${index} (borrowed; NULL, the default: none is looked for) go as their
 * numbers. Where few are found, fewer are looked for.
 */
void nc_batch_encoder_use_stored(NcBatchEncoder *e, const NcStoredIndex *index);

/*
 * Payload of a BATCH frame for the ${raw_len} (1 to NC_BATCH_RAW_MAX) bytes at
 * ${raw}, which begin at byte ${stream_offset} of their channel. ${records},
 * in order, `start` relative to ${raw}; NULL with 0 for none. New array, never longer than
 * raw_len + NC_BATCH_HEADER_BYTES + NC_BATCH_SLACK_BYTES. *stats, if not NULL, is overwritten. Does not fail.
 */
GByteArray *nc_batch_encode(NcBatchEncoder *e, uint64_t stream_offset, const uint8_t *raw, uint32_t raw_len,
                            const NcStreamRecord *records, size_t n_records, NcBatchStats *stats);

/*
 * The same by ${plan}, made by nc_history_plan() for these records and this place in the
 * stream. With ${plain}, pages are kept as planned, but go whole: what is sent again when
 * the destination found that its shadow differs.
 */
GByteArray *nc_batch_encode_planned(NcBatchEncoder *e, uint64_t stream_offset, const uint8_t *raw, uint32_t raw_len,
                                    const NcStreamRecord *records, size_t n_records, const NcPlan *plan, bool plain,
                                    NcBatchStats *stats);

/* The digest of the raw bytes (crypto/piece_digest.h), in a payload that nc_batch_encode() made or nc_batch_decode() accepted. Borrowed from it. */
const uint8_t *nc_batch_sha256(const uint8_t *payload);

NcBatchDecoder *nc_batch_decoder_new(void);
void nc_batch_decoder_free(NcBatchDecoder *d); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcBatchDecoder, nc_batch_decoder_free)

/* Pages at raw offset ${at}, then every ${step} bytes, that belong into the frames from ${frame} on. */
typedef struct {
  uint32_t at, step, n, frame;
} NcBatchStore;

/*
 * Without a shadow (the default) operations that keep pages are refused. With one
 * (borrowed), and ${in_order}, pages are taken from it and put into it as a batch is
 * decoded; otherwise it is not touched: history is refused, and what is to be put is
 * listed for nc_batch_decoder_steal_stores().
 */
void nc_batch_decoder_use_shadow(NcBatchDecoder *d, NcShadow *shadow, bool in_order);
/* Did the last batch refer to pages or blocks that are kept, or stored? Also of one that came out wrong. */
bool nc_batch_decoder_refers(const NcBatchDecoder *d);
/* What the last batch wants kept: of NcBatchStore; empty or NULL if nothing. Caller unrefs. */
GArray *nc_batch_decoder_steal_stores(NcBatchDecoder *d);
/* Puts them, from the batch's raw bytes. */
void nc_batch_store(NcShadow *shadow, const GArray *stores, const uint8_t *raw);

/*
 * Without blocks (the default) operations that mean or keep some are refused. With them (borrowed), any
 * batch may refer to them, in order or not; what is to be kept among them is listed.
 */
void nc_batch_decoder_use_blocks(NcBatchDecoder *d, NcBlocks *blocks);
/* What the last batch wants kept among the blocks: of NcBatchStore; empty or NULL if nothing. Caller unrefs. */
GArray *nc_batch_decoder_steal_fills(NcBatchDecoder *d);
/* Keeps them, from the batch's raw bytes. */
void nc_batch_fill_blocks(NcBlocks *blocks, const GArray *fills, const uint8_t *raw);

/*
 * Without ${pages} (the default; borrowed) numbers of stored pages are refused. With them, one that can't be had makes the batch
 * NC_ERROR_CORRUPT: it has to come whole.
 */
void nc_batch_decoder_use_stored(NcBatchDecoder *d, const NcStoredPages *pages);

/* What a payload's header says. */
typedef struct {
  uint32_t raw_len;
  bool has_history;
  bool is_ahead;
} NcBatchPeek;

/* Of a payload that is long enough to have a header and whose raw length is possible; else false. */
bool nc_batch_peek(const uint8_t *payload, size_t len, NcBatchPeek *ret);

/*
 * The raw bytes that the ${len} bytes at ${payload} stand for, compared with
 * their SHA-256. On success they replace what is in ${ret_raw}, 1 to
 * NC_BATCH_RAW_MAX of them, and *ret_stream_offset is where they begin; offset
 * and end are below 2^63. On failure ${ret_raw} is empty and *ret_stream_offset not
 * touched: NC_ERROR_PROTOCOL, or NC_ERROR_CORRUPT if all is well formed but the
 * digest differs, or a stored page is missing. Memory: at most twice NC_BATCH_RAW_MAX, whatever the peer says.
 */
bool nc_batch_decode(NcBatchDecoder *d, const uint8_t *payload, size_t len, GByteArray *ret_raw,
                     uint64_t *ret_stream_offset, GError **error);
