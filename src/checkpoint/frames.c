/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/frames.h"

void
nc_frame_encode(const NcFrame *frame, uint8_t ret[NC_FRAME_HEADER_BYTES])
{
  ret[0] = frame->kind;
  ret[1] = frame->flags;
  nc_store_be16(ret + 2, 0);
  nc_store_be32(ret + 4, frame->block);
  nc_store_be64(ret + 8, frame->offset);
  nc_store_be32(ret + 16, frame->length);
}

uint32_t
nc_frame_body_bytes(const NcFrame *frame)
{
  switch (frame->kind) {
  case NC_FRAME_PAGES:
    return frame->length * NC_FRAME_PAGE_BYTES;
  case NC_FRAME_ZEROS:
  case NC_FRAME_END:
    return 0;
  default:
    return frame->length;
  }
}

/* A run of pages: whole, of one kind, and not around the end of what 64 bits count. */
static const char *
nc_frame_run_problem(const NcFrame *frame, uint32_t most, uint8_t kind_flag)
{
  if (frame->length == 0 || frame->length > most)
    return "a number of pages out of bounds";
  if ((frame->flags & ~NC_FRAME_FLAG_CONTINUE) != kind_flag)
    return "flags that no such page has";
  if (frame->block >= NC_FRAME_BLOCKS_MAX || frame->offset % NC_FRAME_PAGE_BYTES)
    return "a page at no place";
  if (frame->offset > INT64_MAX - (uint64_t)frame->length * NC_FRAME_PAGE_BYTES)
    return "a page beyond all memory";
  return NULL;
}

static const char *
nc_frame_problem(const NcFrame *frame)
{
  switch (frame->kind) {
  case NC_FRAME_BLOCK:
    if (frame->length == 0 || frame->length > NC_FRAME_NAME_MAX)
      return "a block's name of no proper length";
    return frame->block >= NC_FRAME_BLOCKS_MAX || frame->offset > INT64_MAX ? "a block out of bounds" : NULL;
  case NC_FRAME_LITERAL:
    return frame->length == 0 || frame->length > NC_FRAME_LITERAL_MAX ? "a piece out of bounds" : NULL;
  case NC_FRAME_PAGES:
    return nc_frame_run_problem(frame, NC_FRAME_PAGES_MAX, NC_FRAME_FLAG_PAGE);
  case NC_FRAME_ZEROS:
    return nc_frame_run_problem(frame, NC_FRAME_ZEROS_MAX, NC_FRAME_FLAG_ZERO);
  case NC_FRAME_END:
    return frame->length ? "an end with a body" : NULL;
  case NC_FRAME_FAILED:
    return frame->length > 4096 ? "a complaint without end" : NULL;
  default:
    return "a frame of no kind";
  }
}

bool
nc_frame_decode(const uint8_t header[NC_FRAME_HEADER_BYTES], NcFrame *ret, GError **error)
{
  NcFrame frame = {
    .kind = header[0],
    .flags = header[1],
    .block = nc_be32(header + 4),
    .offset = nc_be64(header + 8),
    .length = nc_be32(header + 16),
  };
  const char *problem = nc_be16(header + 2) ? "a header of a later version" : nc_frame_problem(&frame);
  if (problem)
    return nc_fail(error, NC_ERROR_PROTOCOL, "the checkpointer sends nonsense: %s", problem);
  *ret = frame;
  return true;
}
