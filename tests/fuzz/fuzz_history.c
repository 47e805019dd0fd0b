/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches that mean earlier pages. The first byte chooses: the rest is a delta; a
 * payload decoded in order, or out of order and then kept; or what a guest does to its
 * pages, which must come out on the other side as it was and leave both shadows equal.
 */
#include "base/bytes.h"
#include "wire/batch.h"
#include "wire/delta.h"

#include <stdlib.h>

#define PAGE NC_STREAM_PAGE_BYTES
#define FRAMES 12u
#define PAGES 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_decode(NcReader *r, bool in_order)
{
  g_autoptr(NcShadow) shadow = nc_shadow_new(-1, FRAMES, NULL);
  g_autoptr(NcBatchDecoder) decoder = nc_batch_decoder_new();
  g_autoptr(GByteArray) raw = g_byte_array_new();
  g_autoptr(GError) error = NULL;
  uint64_t offset;

  nc_batch_decoder_use_shadow(decoder, shadow, in_order);
  if (!nc_batch_decode(decoder, r->at, nc_reader_left(r), raw, &offset, &error)) {
    if (!error || raw->len != 0)
      abort();
    return;
  }
  g_autoptr(GArray) stores = nc_batch_decoder_steal_stores(decoder);
  nc_batch_store(shadow, stores, raw->data);
}

/* A page changed as two bytes say. */
static void
fuzz_touch(uint8_t memory[PAGES][PAGE], unsigned page, uint8_t how, uint8_t what)
{
  if (how & 0x80)
    memcpy(memory[page], memory[what % PAGES], PAGE);
  else if (how & 0x40)
    memset(memory[page], what, PAGE);
  else
    for (unsigned i = 0; i < how; i++)
      memory[page][(what * 17u + i * 61u) % PAGE] ^= (uint8_t)(i + 1);
}

/* One batch: up to 8 pages out of the input. False at its end. */
static bool
fuzz_next(NcReader *r, uint8_t memory[PAGES][PAGE], GByteArray *raw, GArray *records)
{
  uint8_t count, page, how, what;

  g_byte_array_set_size(raw, 0);
  g_array_set_size(records, 0);
  if (!nc_reader_u8(r, &count))
    return false;
  for (unsigned i = 0; i <= count % 8; i++) {
    if (!nc_reader_u8(r, &page) || !nc_reader_u8(r, &how) || !nc_reader_u8(r, &what))
      return records->len > 0;
    NcStreamRecord rec = { .start = raw->len, .kind = NC_RECORD_PAGE, .header_bytes = 8, .length = 8 + PAGE,
                           .page_offset = (uint64_t)(page % PAGES) * PAGE };
    if (memory[page % PAGES] != memory[what % PAGES] || !(how & 0x80))
      fuzz_touch(memory, page % PAGES, how, what);
    nc_put_u64(raw, rec.page_offset | 0x28);
    g_byte_array_append(raw, memory[page % PAGES], PAGE);
    g_array_append_val(records, rec);
  }
  return true;
}

static void
fuzz_deliver(NcBatchDecoder *early, NcBatchDecoder *in_order, NcShadow *shadow, const GByteArray *payload, const GByteArray *raw)
{
  g_autoptr(GByteArray) back = g_byte_array_new();
  uint64_t offset;
  NcBatchPeek peek;

  if (!nc_batch_peek(payload->data, payload->len, &peek) || peek.raw_len != raw->len)
    abort();
  NcBatchDecoder *d = peek.has_history ? in_order : early;
  if (!nc_batch_decode(d, payload->data, payload->len, back, &offset, NULL) || back->len != raw->len ||
      memcmp(back->data, raw->data, raw->len) != 0)
    abort();
  g_autoptr(GArray) stores = nc_batch_decoder_steal_stores(d);
  nc_batch_store(shadow, stores, back->data);
}

/* As many pages as the input says go ahead, if they are worth it. */
static void
fuzz_ahead(NcReader *r, NcHistory *history, uint8_t memory[PAGES][PAGE], GByteArray *raw, GArray *records, uint32_t *ret_frame)
{
  uint8_t count = 0, how, what;

  g_byte_array_set_size(raw, 0);
  g_array_set_size(records, 0);
  nc_reader_u8(r, &count);
  for (unsigned i = 0; i < count % (PAGES + 1) && nc_reader_u8(r, &how) && nc_reader_u8(r, &what); i++) {
    fuzz_touch(memory, i, how, what);
    uint32_t frame = nc_history_put_ahead(history, memory[i]);
    if (frame == NC_NO_FRAME)
      continue;
    NcStreamRecord rec = { .start = raw->len, .kind = NC_RECORD_PAGE, .header_bytes = 8, .length = 8 + PAGE };
    *ret_frame = records->len == 0 ? frame : *ret_frame;
    nc_put_u64(raw, (uint64_t)frame * PAGE);
    g_byte_array_append(raw, memory[i], PAGE);
    g_array_append_val(records, rec);
  }
}

static void
fuzz_guest(NcReader *r)
{
  static uint8_t memory[PAGES][PAGE];
  static const NcBatchPolicy policy = { .codec = NC_CODEC_LZ4 };
  g_autoptr(NcShadow) ours = nc_shadow_new(-1, FRAMES, NULL), theirs = nc_shadow_new(-1, FRAMES, NULL);
  g_autoptr(NcHistory) history = nc_history_new(ours);
  g_autoptr(NcBatchEncoder) encoder = nc_batch_encoder_new(&policy);
  g_autoptr(NcBatchDecoder) early = nc_batch_decoder_new(), in_order = nc_batch_decoder_new();
  g_autoptr(GByteArray) raw = g_byte_array_new();
  g_autoptr(GArray) records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord));
  g_autoptr(NcPlan) plan = nc_plan_new();

  memset(memory, 0, sizeof memory);
  nc_history_add_block(history, PAGES * PAGE);
  nc_batch_decoder_use_shadow(early, theirs, false);
  nc_batch_decoder_use_shadow(in_order, theirs, true);
  uint32_t frame = 0;
  fuzz_ahead(r, history, memory, raw, records, &frame);
  if (records->len > 0) {
    nc_history_plan_ahead(frame, records->len, plan);
    g_autoptr(GByteArray) payload = nc_batch_encode_planned(encoder, 0, raw->data, raw->len, (const NcStreamRecord *)(void *)records->data,
                                                            records->len, plan, false, NULL);
    fuzz_deliver(early, in_order, theirs, payload, raw);
  }
  while (fuzz_next(r, memory, raw, records)) {
    const NcStreamRecord *list = (const NcStreamRecord *)(void *)records->data;
    nc_history_plan(history, raw->data, list, records->len, plan);
    g_autoptr(GByteArray) payload = nc_batch_encode_planned(encoder, 0, raw->data, raw->len, list, records->len, plan, false, NULL);
    fuzz_deliver(early, in_order, theirs, payload, raw);
  }
  for (uint32_t i = 0; i < FRAMES; i++)
    if (memcmp(nc_shadow_frame(ours, i), nc_shadow_frame(theirs, i), PAGE) != 0)
      abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  NcReader r = nc_reader(data, size);
  uint8_t page[PAGE] = { 1, 2, 3 };
  uint8_t mode;

  if (!nc_reader_u8(&r, &mode))
    return 0;
  if (mode % 4 == 0)
    nc_delta_apply(r.at, nc_reader_left(&r), page);
  else if (mode % 4 == 3)
    fuzz_guest(&r);
  else
    fuzz_decode(&r, mode % 4 == 1);
  return 0;
}
