/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/layout.h"
#include "checkpoint/frames.h"

struct NcLayoutBuilder {
  GByteArray *bytes;
  NcStep last; /* not encoded yet; kind 0: none */
};

uint64_t
nc_layout_entries(const NcStep *step)
{
  return step->kind == NC_STEP_INLINE || step->kind == NC_STEP_ZEROS ? 0 : step->count;
}

NcLayoutBuilder *
nc_layout_builder_new(void)
{
  NcLayoutBuilder *b = g_new0(NcLayoutBuilder, 1);
  b->bytes = g_byte_array_new();
  return b;
}

void
nc_layout_builder_free(NcLayoutBuilder *b)
{
  if (!b)
    return;
  g_byte_array_unref(b->bytes);
  g_free(b);
}

static void
nc_layout_flush(NcLayoutBuilder *b)
{
  const NcStep *s = &b->last;

  if (s->kind == 0)
    return;
  nc_put_u8(b->bytes, s->kind);
  nc_put_varint(b->bytes, s->count);
  if (s->kind == NC_STEP_INLINE)
    g_byte_array_append(b->bytes, s->bytes, (guint)s->count);
  if (s->kind >= NC_STEP_PAGES) {
    nc_put_u8(b->bytes, s->flags);
    nc_put_varint(b->bytes, s->block);
    nc_put_varint(b->bytes, s->index);
  }
  b->last.kind = 0;
}

/* Can ${step} be the continuation of ${last}? */
static bool
nc_step_continues(const NcStep *last, const NcStep *step)
{
  if (last->kind != step->kind || last->kind == NC_STEP_INLINE)
    return false;
  if (last->kind == NC_STEP_BLOCKS)
    return true;
  uint8_t expected = last->kind == NC_STEP_DISK ? 0 : last->flags | NC_FRAME_FLAG_CONTINUE;
  return last->block == step->block && step->index == last->index + last->count && step->flags == expected;
}

void
nc_layout_builder_add(NcLayoutBuilder *b, const NcStep *step)
{
  if (nc_step_continues(&b->last, step)) {
    b->last.count += step->count;
    return;
  }
  nc_layout_flush(b);
  b->last = *step;
  if (step->kind == NC_STEP_INLINE)
    nc_layout_flush(b); /* its bytes are borrowed */
}

const GByteArray *
nc_layout_builder_bytes(NcLayoutBuilder *b)
{
  nc_layout_flush(b);
  return b->bytes;
}

static bool
nc_layout_read_run(NcReader *r, NcStep *step)
{
  uint64_t block;

  if (!nc_reader_u8(r, &step->flags) || !nc_reader_varint(r, &block) || !nc_reader_varint(r, &step->index))
    return false;
  uint8_t kind = step->kind == NC_STEP_PAGES ? NC_FRAME_FLAG_PAGE : step->kind == NC_STEP_ZEROS ? NC_FRAME_FLAG_ZERO : 0;
  if ((step->flags & ~NC_FRAME_FLAG_CONTINUE) != kind || block >= NC_FRAME_BLOCKS_MAX || step->index > NC_LAYOUT_COUNT_MAX)
    return false;
  step->block = (uint32_t)block;
  return true;
}

static bool
nc_layout_read(NcReader *r, NcStep *step)
{
  *step = (NcStep){ 0 };
  if (!nc_reader_u8(r, &step->kind) || !nc_reader_varint(r, &step->count) || step->count == 0 ||
      step->count > NC_LAYOUT_COUNT_MAX)
    return false;
  switch (step->kind) {
  case NC_STEP_INLINE:
    return step->count <= NC_LAYOUT_INLINE_MAX && (step->bytes = nc_reader_take(r, step->count));
  case NC_STEP_BLOCKS:
    return true;
  case NC_STEP_PAGES:
  case NC_STEP_ZEROS:
  case NC_STEP_DISK:
    return nc_layout_read_run(r, step);
  default:
    return false;
  }
}

NcLayoutOutcome
nc_layout_next(NcReader *r, NcStep *ret, GError **error)
{
  if (nc_reader_left(r) == 0)
    return NC_LAYOUT_END;
  if (nc_layout_read(r, ret))
    return NC_LAYOUT_STEP;
  nc_fail(error, NC_ERROR_CORRUPT, "the checkpoint's layout makes no sense");
  return NC_LAYOUT_BAD;
}
