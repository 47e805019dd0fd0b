/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever bytes come, the stream parser reports each record in its place,
 * holds back less than a record, and says the same for every way of cutting
 * the bytes into pieces; and what it says about post-copy lies inside blocks and stream.
 *
 * Input: u8 mode (bit 0: preempt channel), u8 piece size, then the stream.
 */
#include "qemu/stream.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Aborts also where assertions are compiled out. */
static void
must(bool holds)
{
  if (!holds)
    abort();
}

typedef struct {
  NcStreamParser *parser;
  GArray *records; /* `start` counted from the stream's first byte */
  size_t consumed;
} Run;

static void
check_record(const Run *run, const NcStreamRecord *r, size_t consumed)
{
  must(r->start <= consumed && r->length <= consumed - r->start);
  must(r->length == r->header_bytes + (r->kind == NC_RECORD_PAGE ? NC_STREAM_PAGE_BYTES : 1));
  must(r->length <= NC_STREAM_RECORD_MAX);
  must(r->block < nc_stream_parser_block_count(run->parser));
  const NcStreamBlock *block = nc_stream_parser_block(run->parser, r->block);
  must(r->page_offset % NC_STREAM_PAGE_BYTES == 0);
  must(block->used_length == 0 || r->page_offset <= block->used_length - NC_STREAM_PAGE_BYTES);
}

static void
scan(Run *run, const uint8_t *data, size_t length)
{
  g_autoptr(GArray) records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord));
  size_t consumed = nc_stream_parser_scan(run->parser, data, length, records);

  must(consumed <= length);
  must(length - consumed < NC_STREAM_RECORD_MAX);
  must(consumed == length || !nc_stream_parser_is_opaque(run->parser, NULL, NULL));
  for (guint i = 0; i < records->len; i++) {
    NcStreamRecord r = g_array_index(records, NcStreamRecord, i);
    check_record(run, &r, consumed);
    r.start += (uint32_t)run->consumed;
    g_array_append_val(run->records, r);
  }
  run->consumed += consumed;
}

static void
run_in_pieces(Run *run, bool preempt, const uint8_t *data, size_t size, size_t piece)
{
  run->parser = preempt ? nc_stream_parser_new_preempt() : nc_stream_parser_new();
  run->records = g_array_new(FALSE, TRUE, sizeof(NcStreamRecord));
  for (size_t fed = 0; fed < size;) {
    fed += MIN(piece, size - fed);
    scan(run, data + run->consumed, fed - run->consumed);
  }
}

static void
must_agree(const Run *a, const Run *b)
{
  uint64_t offset_a = 0, offset_b = 0;
  NcStreamTotals totals_a, totals_b;
  const GArray *discards_a = nc_stream_parser_discards(a->parser), *discards_b = nc_stream_parser_discards(b->parser);

  must(a->consumed == b->consumed);
  must(a->records->len == b->records->len);
  for (guint i = 0; i < a->records->len; i++) {
    NcStreamRecord x = g_array_index(a->records, NcStreamRecord, i);
    NcStreamRecord y = g_array_index(b->records, NcStreamRecord, i);
    must(x.start == y.start && x.length == y.length && x.header_bytes == y.header_bytes && x.kind == y.kind);
    must(x.flags == y.flags && x.block == y.block && x.page_offset == y.page_offset);
  }
  must(nc_stream_parser_is_opaque(a->parser, &offset_a, NULL) ==
       nc_stream_parser_is_opaque(b->parser, &offset_b, NULL));
  must(offset_a == offset_b);
  must(nc_stream_parser_at_tail(a->parser) == nc_stream_parser_at_tail(b->parser));
  must(nc_stream_parser_package_end(a->parser) == nc_stream_parser_package_end(b->parser));
  must(discards_a->len == discards_b->len);
  for (guint i = 0; i < discards_a->len; i++) {
    NcStreamRange x = g_array_index(discards_a, NcStreamRange, i), y = g_array_index(discards_b, NcStreamRange, i);
    must(x.block == y.block && x.start == y.start && x.length == y.length);
  }
  nc_stream_parser_totals(a->parser, &totals_a);
  nc_stream_parser_totals(b->parser, &totals_b);
  must(totals_a.bytes == totals_b.bytes && totals_a.other_bytes == totals_b.other_bytes);
}

/* Whole pages inside a block that the setup list has, and no more than agreed; and the package ended in the stream. */
static void
check_postcopy(const Run *run)
{
  const GArray *discards = nc_stream_parser_discards(run->parser);

  must(discards->len <= NC_STREAM_DISCARDS_MAX);
  for (guint i = 0; i < discards->len; i++) {
    NcStreamRange r = g_array_index(discards, NcStreamRange, i);
    must(r.block < nc_stream_parser_block_count(run->parser));
    uint64_t used = nc_stream_parser_block(run->parser, r.block)->used_length;
    must(r.length > 0 && (r.start | r.length) % NC_STREAM_PAGE_BYTES == 0);
    must(r.start < used && r.length <= used - r.start);
  }
  must(nc_stream_parser_package_end(run->parser) <= run->consumed);
  must(nc_stream_parser_in_postcopy(run->parser) == (nc_stream_parser_package_end(run->parser) > 0));
}

static void
run_clear(Run *run)
{
  nc_stream_parser_free(run->parser);
  g_array_unref(run->records);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  Run whole = { 0 }, pieces = { 0 };

  if (size < 3)
    return 0;
  bool preempt = data[0] & 1;
  size_t piece = data[1] + 1u;
  run_in_pieces(&whole, preempt, data + 2, size - 2, size);
  run_in_pieces(&pieces, preempt, data + 2, size - 2, piece);
  check_postcopy(&whole);
  must_agree(&whole, &pieces);
  run_clear(&whole);
  run_clear(&pieces);
  return 0;
}
