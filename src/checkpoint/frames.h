/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What novacron-checkpointer tells novacrond: a migration stream taken to pieces.
 *
 * The checkpointer is the one that parses what a guest may have written. What it says is a sequence of frames, each a
 * header of NC_FRAME_HEADER_BYTES and a body:
 *
 *   BLOCK    the next RAM block, in the order of numbers: offset is its length, the body its name
 *   LITERAL  bytes of the stream as they are
 *   PAGES    page records, one behind the other in the same block: where the first one is, QEMU's flags of the first (the others
 *            have CONTINUE), and the pages' bytes
 *   ZEROS    the same for pages of zeros, without bytes
 *   END      the stream has ended; nothing follows. Flag 1: where QEMU's streams end
 *   FAILED   instead; the body says why
 *
 * Put together again in this order they are the stream, byte for byte. novacrond believes nothing: nc_frame_check() holds for
 * each frame by itself, the order of BLOCKs is the receiver's to check, and pages are named by their content by novacrond alone.
 * A checkpointer that was taken over can spoil the checkpoint that it makes, and nothing else.
 */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#define NC_FRAME_HEADER_BYTES 20u
#define NC_FRAME_PAGE_BYTES 4096u
#define NC_FRAME_PAGES_MAX 64u        /* of one PAGES frame */
#define NC_FRAME_ZEROS_MAX (1u << 24) /* of one ZEROS frame: 64 GiB */
#define NC_FRAME_LITERAL_MAX (256u << 10)
#define NC_FRAME_NAME_MAX 255u
#define NC_FRAME_BODY_MAX (NC_FRAME_PAGES_MAX * NC_FRAME_PAGE_BYTES) /* of any frame */
#define NC_FRAME_BLOCKS_MAX 4096u

/* QEMU's flags of a page record (src/qemu/stream.h). */
#define NC_FRAME_FLAG_ZERO 0x02u
#define NC_FRAME_FLAG_PAGE 0x08u
#define NC_FRAME_FLAG_CONTINUE 0x20u

typedef enum {
  NC_FRAME_BLOCK = 1,
  NC_FRAME_LITERAL,
  NC_FRAME_PAGES,
  NC_FRAME_ZEROS,
  NC_FRAME_END,
  NC_FRAME_FAILED,
} NcFrameKind;

typedef struct {
  uint8_t kind;    /* NcFrameKind */
  uint8_t flags;   /* PAGES, ZEROS: QEMU's, of the first record; END: 1 if the stream is whole */
  uint32_t block;  /* PAGES, ZEROS, BLOCK: number */
  uint64_t offset; /* PAGES, ZEROS: bytes in the block, of the first page; BLOCK: length; END: bytes of the stream */
  uint32_t length; /* PAGES, ZEROS: number of pages; else bytes of the body */
} NcFrame;

void nc_frame_encode(const NcFrame *frame, uint8_t ret[NC_FRAME_HEADER_BYTES]);
/* Decodes and checks a header. False: NC_ERROR_PROTOCOL. */
bool nc_frame_decode(const uint8_t header[NC_FRAME_HEADER_BYTES], NcFrame *ret, GError **error);
/* Bytes that follow the header; at most NC_FRAME_BODY_MAX for a frame that was decoded. */
uint32_t nc_frame_body_bytes(const NcFrame *frame);
