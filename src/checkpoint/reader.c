/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/reader.h"
#include "base/io.h"
#include "checkpoint/frames.h"
#include "qemu/stream.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define NC_READ_BYTES (1u << 20)
G_STATIC_ASSERT(NC_FRAME_PAGE_BYTES == NC_STREAM_PAGE_BYTES);

typedef struct {
  int qemu, novacrond;
  NcStreamParser *parser;
  GArray *records;
  uint8_t *in;     /* NC_READ_BYTES */
  size_t held;     /* bytes of it */
  uint32_t blocks; /* announced */
  uint64_t read;   /* bytes of the stream, in all */
  uint8_t *out;    /* header and body of one frame */
} NcStreamReader;

static bool
nc_emit(NcStreamReader *r, const NcFrame *frame, const void *body, GError **error)
{
  uint32_t length = nc_frame_body_bytes(frame);

  nc_frame_encode(frame, r->out);
  if (body)
    memcpy(r->out + NC_FRAME_HEADER_BYTES, body, length);
  return nc_write_all(r->novacrond, r->out, NC_FRAME_HEADER_BYTES + length, error);
}

static bool
nc_emit_literal(NcStreamReader *r, const uint8_t *data, size_t length, GError **error)
{
  while (length > 0) {
    uint32_t n = (uint32_t)MIN(length, NC_FRAME_LITERAL_MAX);
    const NcFrame frame = { .kind = NC_FRAME_LITERAL, .length = n };
    if (!nc_emit(r, &frame, data, error))
      return false;
    data += n;
    length -= n;
  }
  return true;
}

static bool
nc_emit_blocks(NcStreamReader *r, GError **error)
{
  for (; r->blocks < nc_stream_parser_block_count(r->parser); r->blocks++) {
    const NcStreamBlock *block = nc_stream_parser_block(r->parser, r->blocks);
    const NcFrame frame = {
      .kind = NC_FRAME_BLOCK, .block = r->blocks, .offset = block->used_length, .length = (uint32_t)strlen(block->name)
    };
    if (!nc_emit(r, &frame, block->name, error))
      return false;
  }
  return true;
}

/* Does ${next} follow ${previous} in the stream and in memory, so that one frame can hold both? */
static bool
nc_record_follows(const NcStreamRecord *previous, const NcStreamRecord *next)
{
  return next->start == previous->start + previous->length && next->kind == previous->kind && next->block == previous->block &&
         next->page_offset == previous->page_offset + NC_STREAM_PAGE_BYTES &&
         next->flags == (previous->flags | NC_FRAME_FLAG_CONTINUE);
}

/* The records from ${first} on that fit one frame. Their number. */
static guint
nc_run_length(const NcStreamReader *r, guint first)
{
  const NcStreamRecord *records = (const NcStreamRecord *)r->records->data;
  guint most = records[first].kind == NC_RECORD_PAGE ? NC_FRAME_PAGES_MAX : NC_FRAME_ZEROS_MAX;
  guint n = 1;

  while (n < most && first + n < r->records->len && nc_record_follows(&records[first + n - 1], &records[first + n]))
    n++;
  return n;
}

static bool
nc_emit_run(NcStreamReader *r, guint first, guint count, GError **error)
{
  const NcStreamRecord *records = &g_array_index(r->records, NcStreamRecord, first);
  bool pages = records->kind == NC_RECORD_PAGE;
  const NcFrame frame = {
    .kind = pages ? NC_FRAME_PAGES : NC_FRAME_ZEROS,
    .flags = records->flags,
    .block = records->block,
    .offset = records->page_offset,
    .length = count,
  };
  for (guint i = 0; pages && i < count; i++)
    memcpy(r->out + NC_FRAME_HEADER_BYTES + (size_t)i * NC_FRAME_PAGE_BYTES, r->in + records[i].start + records[i].header_bytes,
           NC_FRAME_PAGE_BYTES);
  return nc_emit(r, &frame, NULL, error);
}

/* Hands on what is complete of what is held. */
static bool
nc_reader_pass(NcStreamReader *r, GError **error)
{
  g_array_set_size(r->records, 0);
  size_t complete = nc_stream_parser_scan(r->parser, r->in, r->held, r->records);
  size_t at = 0;

  if (!nc_emit_blocks(r, error))
    return false;
  for (guint i = 0; i < r->records->len;) {
    const NcStreamRecord *record = &g_array_index(r->records, NcStreamRecord, i);
    guint count = nc_run_length(r, i);
    const NcStreamRecord *last = &g_array_index(r->records, NcStreamRecord, i + count - 1);
    if (!nc_emit_literal(r, r->in + at, record->start - at, error) || !nc_emit_run(r, i, count, error))
      return false;
    at = last->start + last->length;
    i += count;
  }
  if (!nc_emit_literal(r, r->in + at, complete - at, error))
    return false;
  memmove(r->in, r->in + complete, r->held - complete);
  r->held -= complete;
  return true;
}

static bool
nc_reader_finish(NcStreamReader *r, GError **error)
{
  const NcFrame end = { .kind = NC_FRAME_END, .flags = nc_stream_parser_at_tail(r->parser), .offset = r->read };
  return nc_emit_literal(r, r->in, r->held, error) && nc_emit(r, &end, NULL, error);
}

static bool
nc_reader_refuse(NcStreamReader *r, const char *why, GError **error)
{
  const NcFrame frame = { .kind = NC_FRAME_FAILED, .length = (uint32_t)strlen(why) };
  return nc_emit(r, &frame, why, error) && nc_fail(error, NC_ERROR_UNSUITABLE, "%s", why);
}

static bool
nc_reader_loop(NcStreamReader *r, GError **error)
{
  for (;;) {
    ssize_t n = read(r->qemu, r->in + r->held, NC_READ_BYTES - r->held);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return nc_reader_refuse(r, "QEMU broke its migration connection", error);
    if (n == 0)
      return nc_reader_finish(r, error);
    r->read += (uint64_t)n;
    r->held += (size_t)n;
    if (!nc_reader_pass(r, error))
      return false;
    if (nc_stream_parser_ignores_shared(r->parser))
      return nc_reader_refuse(r, "QEMU leaves shared memory out (x-ignore-shared): switch that off for a checkpoint", error);
  }
}

/*
 * To the end, whatever becomes of us: QEMU in a background snapshot must not lose its reader. It would go to its end under a lock
 * that another of its threads may hold which waits for a page of the snapshot, and both would wait for ever (seen on 7.2).
 */
static void
nc_reader_drain(NcStreamReader *r)
{
  ssize_t n;
  do
    n = read(r->qemu, r->in, NC_READ_BYTES);
  while (n > 0 || (n < 0 && errno == EINTR));
}

bool
nc_reader_run(int qemu, int novacrond, GError **error)
{
  NcStreamReader r = { .qemu = qemu, .novacrond = novacrond };

  r.parser = nc_stream_parser_new();
  r.records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord));
  r.in = g_malloc(NC_READ_BYTES);
  r.out = g_malloc(NC_FRAME_HEADER_BYTES + NC_FRAME_BODY_MAX);
  bool ok = nc_reader_loop(&r, error);
  if (!ok)
    nc_reader_drain(&r);
  g_free(r.out);
  g_free(r.in);
  g_array_unref(r.records);
  nc_stream_parser_free(r.parser);
  return ok;
}
