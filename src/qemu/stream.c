/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of the stream parser: runs the steps, keeps blocks, totals and
 * the tail of an opaque stream.
 *
 * What the bytes mean is in stream_elements.c (header, sections, commands) and
 * stream_payloads.c (RAM, dirty bitmaps, virtio-mem). Three things happen to a
 * byte: a step takes it as part of an element; or it belongs to a stretch of
 * known length that is passed over (`skip`: a package, a delta, a bitmap); or
 * the parser is opaque. Only the first can be held back, and only until its
 * element is complete.
 */
#include "qemu/stream_state.h"

static const NcStepFunc steps[] = {
  [NC_STATE_HEADER] = nc_stream_step_header,
  [NC_STATE_CONFIGURATION] = nc_stream_step_configuration,
  [NC_STATE_CONFIG_SUBSECTION] = nc_stream_step_config_subsection,
  [NC_STATE_CONFIG_CAPABILITY] = nc_stream_step_config_capability,
  [NC_STATE_ELEMENT] = nc_stream_step_element,
  [NC_STATE_RAM_SETUP] = nc_stream_step_ram_setup,
  [NC_STATE_RAM_BLOCK] = nc_stream_step_ram_block,
  [NC_STATE_RAM_RECORD] = nc_stream_step_ram_record,
  [NC_STATE_BITMAP_CHUNK] = nc_stream_step_bitmap_chunk,
  [NC_STATE_VIRTIO_MEM] = nc_stream_step_virtio_mem,
  [NC_STATE_FOOTER] = nc_stream_step_footer,
  [NC_STATE_AFTER_EOF] = nc_stream_step_after_eof,
  [NC_STATE_END] = nc_stream_step_end,
  [NC_STATE_OPAQUE] = NULL,
};
G_STATIC_ASSERT(G_N_ELEMENTS(steps) == NC_STATE_COUNT);

/* EOF, type and length of a description: what at_tail() looks for. */
enum { TAIL_MARK_BYTES = 6 };

static void
clear_block(gpointer data)
{
  NcStreamBlock *block = data;

  g_free((char *)block->name);
}

static NcStreamParser *
parser_new(NcStreamState state)
{
  NcStreamParser *p = g_new0(NcStreamParser, 1);

  p->state = state;
  p->in_setup = true;
  p->last_block = NC_STREAM_NO_BLOCK;
  p->blocks = g_array_new(FALSE, FALSE, sizeof(NcStreamBlock));
  g_array_set_clear_func(p->blocks, clear_block);
  p->tail = g_byte_array_new();
  p->discard = g_byte_array_new();
  p->discards = g_array_new(FALSE, FALSE, sizeof(NcStreamRange));
  return p;
}

NcStreamParser *
nc_stream_parser_new(void)
{
  return parser_new(NC_STATE_HEADER);
}

NcStreamParser *
nc_stream_parser_new_preempt(void)
{
  NcStreamParser *p = parser_new(NC_STATE_RAM_RECORD);

  p->preempt = true;
  return p;
}

void
nc_stream_parser_free(NcStreamParser *p)
{
  if (!p)
    return;
  g_array_unref(p->blocks);
  g_byte_array_unref(p->tail);
  g_byte_array_unref(p->discard);
  g_array_unref(p->discards);
  g_free(p->machine_type);
  g_free(p->reason);
  g_free(p);
}

NcStep
nc_stream_foreign(NcStreamParser *p, const char *format, ...)
{
  va_list args;

  g_free(p->reason);
  va_start(args, format);
  p->reason = g_strdup_vprintf(format, args);
  va_end(args);
  return NC_STEP_FOREIGN;
}

bool
nc_stream_read_name(NcReader *r, NcStreamName *ret)
{
  NcReader probe = *r;
  uint8_t length;
  const uint8_t *text;

  if (!nc_reader_u8(&probe, &length) || !(text = nc_reader_take(&probe, length)))
    return false;
  *ret = (NcStreamName){ .text = (const char *)text, .length = length };
  *r = probe;
  return true;
}

bool
nc_stream_name_is_valid(const NcStreamName *name)
{
  return name->length > 0 && !memchr(name->text, 0, name->length);
}

bool
nc_stream_name_is(const NcStreamName *name, const char *text)
{
  return strlen(text) == name->length && !memcmp(name->text, text, name->length);
}

char *
nc_stream_name_escape(const NcStreamName *name)
{
  g_autofree char *copy = g_strndup(name->text, name->length);

  return g_strescape(copy, NULL);
}

uint32_t
nc_stream_find_block(const NcStreamParser *p, const NcStreamName *name)
{
  for (uint32_t i = 0; i < p->blocks->len; i++)
    if (nc_stream_name_is(name, g_array_index(p->blocks, NcStreamBlock, i).name))
      return i;
  return NC_STREAM_NO_BLOCK;
}

uint32_t
nc_stream_add_block(NcStreamParser *p, const NcStreamName *name, NcStreamBlock block)
{
  block.name = g_strndup(name->text, name->length);
  g_array_append_val(p->blocks, block);
  return p->blocks->len - 1;
}

/* Twice the limit is kept at times, so that the move of bytes costs each byte one copy at most. */
static void
remember_tail(NcStreamParser *p, const uint8_t *data, size_t length)
{
  size_t kept = MIN(length, NC_STREAM_TAIL_MAX);

  g_byte_array_append(p->tail, data + (length - kept), (guint)kept);
  if (p->tail->len > 2 * NC_STREAM_TAIL_MAX)
    g_byte_array_remove_range(p->tail, 0, p->tail->len - NC_STREAM_TAIL_MAX);
}

/* p->reason is set. */
static void
turn_opaque(NcStreamParser *p, uint64_t offset)
{
  p->state = NC_STATE_OPAQUE;
  p->skip = 0;
  p->skip_kind = NC_SKIP_PLAIN;
  p->opaque_offset = offset;
}

/* The last byte of a stretch is behind us: ${end} bytes of the connection. */
static void
end_skip(NcStreamParser *p, uint64_t end)
{
  NcSkipKind kind = p->skip_kind;

  p->skip_kind = NC_SKIP_PLAIN;
  if (kind == NC_SKIP_PACKAGE)
    p->package_end = end;
  else if (kind == NC_SKIP_DISCARD)
    nc_stream_take_discard(p);
}

static bool
pass_over(NcStreamParser *p, NcStreamScan *s)
{
  if (!p->skip)
    return false;
  size_t n = MIN(p->skip, nc_reader_left(&s->in));
  const uint8_t *passed = nc_reader_take(&s->in, n);
  p->skip -= n;
  if (p->skip_kind == NC_SKIP_DISCARD)
    g_byte_array_append(p->discard, passed, (guint)n);
  if (!p->skip)
    end_skip(p, p->offset + (size_t)(s->in.at - s->data));
  return true;
}

/* Every turn takes a byte or moves to a state that will: no state leads to itself for free. */
static void
run_steps(NcStreamParser *p, NcStreamScan *s)
{
  while (p->state != NC_STATE_OPAQUE && nc_reader_left(&s->in) > 0) {
    if (pass_over(p, s))
      continue;
    NcReader before = s->in;
    NcStep step = steps[p->state](p, s);
    if (step == NC_STEP_DONE)
      continue;
    s->in = before;
    if (step == NC_STEP_MORE)
      return;
    turn_opaque(p, p->offset + (size_t)(before.at - s->data));
  }
}

static uint64_t
bytes_of_records(const GArray *records, guint from)
{
  uint64_t sum = 0;

  for (guint i = from; i < records->len; i++)
    sum += g_array_index(records, NcStreamRecord, i).length;
  return sum;
}

size_t
nc_stream_parser_scan(NcStreamParser *p, const uint8_t *data, size_t length, GArray *records)
{
  guint known = records->len;
  size_t looked_at = MIN(length, UINT32_MAX); /* `start` has 32 bits */
  NcStreamScan s = { .in = nc_reader(data, looked_at), .data = data, .records = records };

  if (length == 0)
    return 0;
  run_steps(p, &s);
  size_t consumed = looked_at - nc_reader_left(&s.in);
  if (p->state == NC_STATE_OPAQUE) {
    remember_tail(p, data + consumed, length - consumed);
    consumed = length;
  }
  p->offset += consumed;
  p->totals.bytes += consumed;
  p->totals.other_bytes += consumed - bytes_of_records(records, known);
  return consumed;
}

void
nc_stream_parser_reconnect(NcStreamParser *p)
{
  p->offset = 0;
  if (p->state == NC_STATE_OPAQUE)
    return;
  p->state = p->preempt ? NC_STATE_RAM_RECORD : NC_STATE_HEADER;
  p->skip = 0;
  p->skip_kind = NC_SKIP_PLAIN;
  p->last_block = NC_STREAM_NO_BLOCK;
}

void
nc_stream_parser_give_up(NcStreamParser *p, const char *reason)
{
  if (p->state == NC_STATE_OPAQUE)
    return;
  g_free(p->reason);
  p->reason = g_strescape(reason, NULL);
  turn_opaque(p, p->offset);
}

bool
nc_stream_parser_is_opaque(const NcStreamParser *p, uint64_t *ret_offset, const char **ret_reason)
{
  if (p->state != NC_STATE_OPAQUE)
    return false;
  if (ret_offset)
    *ret_offset = p->opaque_offset;
  if (ret_reason)
    *ret_reason = p->reason;
  return true;
}

/* Whether ${data} ends with EOF and one description that starts at ${at}. */
static bool
is_description(const uint8_t *data, size_t length, size_t at)
{
  NcReader r = nc_reader(data + at, length - at);
  uint8_t eof, type, brace;
  uint32_t json_bytes;

  return nc_reader_u8(&r, &eof) && eof == NC_ELEMENT_EOF && nc_reader_u8(&r, &type) &&
         type == NC_ELEMENT_DESCRIPTION && nc_reader_u32(&r, &json_bytes) && nc_reader_left(&r) == json_bytes &&
         nc_reader_u8(&r, &brace) && brace == '{';
}

bool
nc_stream_parser_at_tail(const NcStreamParser *p)
{
  const uint8_t *data = p->tail->data;
  size_t length = p->tail->len;

  if (p->state != NC_STATE_OPAQUE)
    return (p->state == NC_STATE_AFTER_EOF || p->state == NC_STATE_END) && !p->skip;
  if (length <= TAIL_MARK_BYTES || data[length - 1] != '}')
    return false;
  for (size_t at = length - TAIL_MARK_BYTES; at-- > 0;)
    if (is_description(data, length, at))
      return true;
  return false;
}

bool
nc_stream_parser_is_orphan(const NcStreamParser *p)
{
  return p->orphan;
}

bool
nc_stream_parser_in_postcopy(const NcStreamParser *p)
{
  return p->package_end > 0;
}

uint64_t
nc_stream_parser_package_end(const NcStreamParser *p)
{
  return p->package_end;
}

const GArray *
nc_stream_parser_discards(const NcStreamParser *p)
{
  return p->discards;
}

const char *
nc_stream_parser_machine_type(const NcStreamParser *p)
{
  return p->machine_type;
}

bool
nc_stream_parser_ignores_shared(const NcStreamParser *p)
{
  return p->ignore_shared;
}

size_t
nc_stream_parser_block_count(const NcStreamParser *p)
{
  return p->blocks->len;
}

const NcStreamBlock *
nc_stream_parser_block(const NcStreamParser *p, size_t index)
{
  g_return_val_if_fail(index < p->blocks->len, NULL);
  return &g_array_index(p->blocks, NcStreamBlock, index);
}

void
nc_stream_parser_totals(const NcStreamParser *p, NcStreamTotals *ret_totals)
{
  *ret_totals = p->totals;
}
