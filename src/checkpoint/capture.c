/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/capture.h"
#include "checkpoint/capture_blocks.h"
#include "checkpoint/image.h"

#include <string.h>

#define NC_CAPTURE_READ_BYTES (2u << 20) /* of a disk, at a time */

/* A stream being taken in. */
typedef struct {
  const NcCapture *capture;
  NcCapturedStream *result;
  GByteArray *literal; /* bytes that are no page, since the last page */
} NcIntake;

static bool
nc_capture_go_on(const NcCapture *capture, GError **error)
{
  return !g_atomic_int_get(capture->cancelled) || nc_fail(error, NC_ERROR_CANCELLED, "the checkpoint was cancelled");
}

static void
nc_capture_advance(const NcCapture *capture, uint64_t bytes)
{
  __atomic_add_fetch(capture->progress, bytes, __ATOMIC_RELAXED);
}

/* --- the stream --- */

/* Bytes that are no pages become blocks where they are many; the few between pages go into the layout. */
static bool
nc_intake_flush(NcIntake *in, GError **error)
{
  NcStep step = { .kind = NC_STEP_INLINE, .count = in->literal->len, .bytes = in->literal->data };

  if (in->literal->len == 0)
    return true;
  in->result->other_bytes += in->literal->len;
  if (in->literal->len > NC_LAYOUT_INLINE_MAX) {
    step = (NcStep){ .kind = NC_STEP_BLOCKS, .count = 1 };
    if (!nc_puts_add(in->capture->puts, in->literal->data, in->literal->len, error))
      return false;
  }
  nc_layout_builder_add(in->capture->layout, &step);
  g_byte_array_set_size(in->literal, 0);
  return true;
}

static bool
nc_intake_literal(NcIntake *in, const GByteArray *body, GError **error)
{
  for (guint at = 0; at < body->len;) {
    guint n = MIN(body->len - at, NC_PAGE_STORE_BLOCK_MAX - in->literal->len);
    g_byte_array_append(in->literal, body->data + at, n);
    at += n;
    if (in->literal->len == NC_PAGE_STORE_BLOCK_MAX && !nc_intake_flush(in, error))
      return false;
  }
  return true;
}

static bool
nc_intake_block(NcIntake *in, const NcFrame *frame, const GByteArray *body, GError **error)
{
  if (frame->block != json_array_size(in->result->blocks) || memchr(body->data, '\0', body->len))
    return nc_fail(error, NC_ERROR_PROTOCOL, "the checkpointer sends nonsense: a block out of turn");
  json_t *name = json_stringn((const char *)body->data, body->len);
  if (!name)
    return nc_fail(error, NC_ERROR_UNSUITABLE, "a RAM block of this machine has a name that is not UTF-8");
  in->result->ram_bytes += frame->offset;
  return json_array_append_new(in->result->blocks, json_pack("{s:o, s:I}", "name", name, "bytes", (json_int_t)frame->offset)) ==
         0;
}

static bool
nc_intake_pages(NcIntake *in, const NcFrame *frame, const GByteArray *body, GError **error)
{
  bool zeros = frame->kind == NC_FRAME_ZEROS;
  const NcStep step = {
    .kind = zeros ? NC_STEP_ZEROS : NC_STEP_PAGES,
    .flags = frame->flags,
    .block = frame->block,
    .index = frame->offset / NC_FRAME_PAGE_BYTES,
    .count = frame->length,
  };
  if (frame->block >= json_array_size(in->result->blocks))
    return nc_fail(error, NC_ERROR_PROTOCOL, "the checkpointer sends nonsense: a page of no block");
  if (!nc_intake_flush(in, error))
    return false;
  for (guint at = 0; at < body->len; at += NC_FRAME_PAGE_BYTES)
    if (!nc_puts_add(in->capture->puts, body->data + at, NC_FRAME_PAGE_BYTES, error))
      return false;
  nc_layout_builder_add(in->capture->layout, &step);
  *(zeros ? &in->result->zero_pages : &in->result->pages) += frame->length;
  nc_capture_advance(in->capture, (uint64_t)frame->length * NC_FRAME_PAGE_BYTES);
  return true;
}

static bool
nc_intake_frame(NcIntake *in, const NcFrame *frame, const GByteArray *body, GError **error)
{
  switch (frame->kind) {
  case NC_FRAME_BLOCK:
    return nc_intake_block(in, frame, body, error);
  case NC_FRAME_LITERAL:
    return nc_intake_literal(in, body, error);
  case NC_FRAME_END:
    in->result->whole = frame->flags == 1;
    return nc_intake_flush(in, error);
  default:
    return nc_intake_pages(in, frame, body, error);
  }
}

static bool
nc_intake_run(NcIntake *in, NcCheckpointer *from, int timeout_ms, NcCaptureFunc first_page, gpointer data, GError **error)
{
  g_autoptr(GByteArray) body = g_byte_array_new();
  NcFrame frame = { 0 };
  bool told = false;

  while (frame.kind != NC_FRAME_END) {
    if (!nc_capture_go_on(in->capture, error) || !nc_checkpointer_next(from, &frame, body, timeout_ms, error))
      return false;
    if (!told && (frame.kind == NC_FRAME_PAGES || frame.kind == NC_FRAME_ZEROS)) {
      first_page(data);
      told = true;
    }
    if (!nc_intake_frame(in, &frame, body, error))
      return false;
  }
  return true;
}

bool
nc_capture_stream(const NcCapture *capture, NcCheckpointer *from, int timeout_ms, NcCaptureFunc first_page, gpointer data,
                  NcCapturedStream *ret, GError **error)
{
  NcIntake in = { .capture = capture, .result = ret };

  *ret = (NcCapturedStream){ .blocks = json_array() };
  in.literal = g_byte_array_new();
  bool ok = nc_intake_run(&in, from, timeout_ms, first_page, data, error);
  g_byte_array_unref(in.literal);
  if (!ok)
    nc_captured_stream_clear(ret);
  return ok;
}

void
nc_captured_stream_clear(NcCapturedStream *stream)
{
  nc_json_clear(&stream->blocks);
}

/* --- disks --- */

uint32_t
nc_capture_disk_block_bytes(uint64_t disk_bytes)
{
  if (disk_bytes <= UINT64_C(8) << 30)
    return 4096; /* as memory's pages: what is in the guest's page cache is stored once */
  return disk_bytes <= UINT64_C(64) << 30 ? 16384 : 65536;
}

static bool
nc_is_zero(const uint8_t *data, size_t length)
{
  return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

bool
nc_capture_disk_data(const NcCapture *capture, unsigned disk, uint64_t offset, const uint8_t *data, uint32_t length,
                     uint32_t block_bytes, GError **error)
{
  for (uint32_t at = 0; at < length; at += block_bytes) {
    uint32_t n = MIN(block_bytes, length - at);
    const NcStep step = { .kind = NC_STEP_DISK, .block = disk, .index = (offset + at) / block_bytes, .count = 1 };
    if (nc_is_zero(data + at, n))
      continue;
    if (!nc_puts_add(capture->puts, data + at, n, error))
      return false;
    nc_layout_builder_add(capture->layout, &step);
  }
  return true;
}

bool
nc_capture_disk(const NcCapture *capture, unsigned disk, NcNbd *from, GError **error)
{
  g_autofree uint8_t *data = g_malloc(NC_CAPTURE_READ_BYTES);
  uint64_t size = nc_nbd_size(from);
  uint32_t block_bytes = nc_capture_disk_block_bytes(size);

  for (uint64_t offset = 0; offset < size;) {
    uint32_t limit = (uint32_t)MIN(size - offset, UINT32_C(1) << 30), length;
    bool zero;
    if (!nc_capture_go_on(capture, error) || !nc_nbd_extent(from, offset, limit, &length, &zero, error))
      return false;
    if (zero && length < limit)
      length -= length % block_bytes; /* the block in which the zeros end is looked at */
    if (!zero || length == 0) {
      /* Whole blocks, though the extent may end in one. */
      length = MIN(MIN(NC_CAPTURE_READ_BYTES, limit), (length + block_bytes - 1) / block_bytes * block_bytes);
      length = length ? length : MIN(block_bytes, limit);
      if (!nc_nbd_read(from, offset, data, length, error) ||
          !nc_capture_disk_data(capture, disk, offset, data, length, block_bytes, error))
        return false;
    }
    offset += length;
    nc_capture_advance(capture, length);
  }
  return true;
}

/* --- the end --- */

bool
nc_capture_finish(const NcCapture *capture, NcManifestWriter *manifest, uint64_t *ret_file_bytes, GError **error)
{
  const GByteArray *layout = nc_layout_builder_bytes(capture->layout);
  NcPutsTotals totals;

  if (layout->len > NC_LAYOUT_BYTES_MAX)
    return nc_fail(error, NC_ERROR_RESOURCE, "the checkpoint's layout is larger than %u bytes: not supported",
                   NC_LAYOUT_BYTES_MAX);
  for (guint at = 0; at < layout->len; at += NC_PAGE_STORE_BLOCK_MAX)
    if (!nc_puts_add(capture->puts, layout->data + at, MIN(layout->len - at, NC_PAGE_STORE_BLOCK_MAX), error))
      return false;
  return nc_puts_finish(capture->puts, &totals, error) && nc_manifest_settle(manifest, ret_file_bytes, error);
}

bool
nc_capture_commit(const NcCapture *capture, NcManifestWriter *manifest, json_t *meta, GError **error)
{
  g_autoptr(GByteArray) header = nc_image_header_encode(meta, nc_layout_builder_bytes(capture->layout)->len, error);
  return header && nc_manifest_commit(manifest, header->data, header->len, error);
}
