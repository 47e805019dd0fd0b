/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is said about disks' blocks. The first byte chooses: the rest is an NBD client's words, in pieces; a payload
 * decoded where blocks are kept; or what three channels' batches do until they are acknowledged, in which every byte
 * must come out as it went in.
 */
#include "base/bytes.h"
#include "qemu/nbd_blocks.h"
#include "wire/batch.h"
#include "wire/blocks.h"
#include "wire/frame.h"

#include <stdlib.h>

#define PAGE NC_BLOCK_BYTES
#define FRAMES 5u
#define CONTENTS 9u
#define CHANNELS 3u
#define AHEAD 4u
#define FORGET 249u /* among the steps */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool condition)
{
  if (!condition)
    abort();
}

/* --- NBD --- */

static void
fuzz_client(NcReader *r)
{
  g_autoptr(NcNbdBlocks) parser = nc_nbd_blocks_new();
  g_autoptr(GArray) records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord));
  const uint8_t *base = r->at;
  uint8_t step;

  if (!nc_reader_u8(r, &step))
    return;
  for (bool cut = false; nc_reader_left(r) > 0; cut = !cut) {
    uint32_t n = (uint32_t)MIN(nc_reader_left(r), step * 37u + 1);
    uint32_t from = (uint32_t)(r->at - base), before = records->len;
    nc_nbd_blocks_scan(parser, base, from, from + n, records);
    nc_reader_take(r, n);
    for (guint i = before; i < records->len; i++) {
      const NcStreamRecord *rec = &g_array_index(records, NcStreamRecord, i);
      must(rec->kind == NC_RECORD_BLOCK && rec->length == PAGE && rec->start + PAGE > from &&
           rec->start + PAGE <= from + n);
    }
    must(nc_nbd_blocks_missing(parser) < PAGE);
    if (cut) {
      nc_nbd_blocks_cut(parser);
      base = r->at;
    }
  }
}

/* --- a payload --- */

static void
fuzz_decode(NcReader *r)
{
  g_autoptr(NcBlocks) blocks = nc_blocks_new(FRAMES, false, NULL);
  g_autoptr(NcShadow) shadow = nc_shadow_new(-1, FRAMES, NULL);
  g_autoptr(NcBatchDecoder) decoder = nc_batch_decoder_new();
  g_autoptr(GByteArray) raw = g_byte_array_new();
  g_autoptr(GError) error = NULL;
  uint8_t how;
  uint64_t offset;

  if (!nc_reader_u8(r, &how))
    return;
  nc_batch_decoder_use_blocks(decoder, blocks);
  if (how & 1)
    nc_batch_decoder_use_shadow(decoder, shadow, how & 2);
  if (!nc_batch_decode(decoder, r->at, nc_reader_left(r), raw, &offset, &error)) {
    must(error && raw->len == 0);
    return;
  }
  g_autoptr(GArray) fills = nc_batch_decoder_steal_fills(decoder), stores = nc_batch_decoder_steal_stores(decoder);
  nc_batch_fill_blocks(blocks, fills, raw->data);
  nc_batch_store(shadow, stores, raw->data);
}

/* --- channels --- */

typedef struct {
  GByteArray *raw, *payload;
  GArray *fills, *stores;
  bool is_decoded, has_history;
} Batch;

typedef struct {
  Batch way[AHEAD]; /* by number */
  uint64_t next, taken, acked;
} Channel;

typedef struct {
  NcBlocks *ours, *theirs;
  NcShadow *ours_ram, *theirs_ram;
  NcHistory *history;
  NcBatchEncoder *encoder;
  NcBatchDecoder *early, *in_order;
  Channel channels[CHANNELS];
} Wire;

static uint8_t
channel_number(unsigned c)
{
  return c == 0 ? NC_CHANNEL_MAIN : NC_CHANNEL_DISK(c - 1);
}

static void
put_content(GByteArray *raw, uint8_t which)
{
  uint8_t body[PAGE];
  for (unsigned i = 0; i < PAGE; i++)
    body[i] = (uint8_t)(i * (which % CONTENTS + 1u) + (i >> 8));
  g_byte_array_append(raw, body, PAGE);
}

static void
submit(Wire *w, unsigned c, NcReader *r, unsigned count)
{
  Channel *ch = &w->channels[c];
  Batch *b = &ch->way[ch->next % AHEAD];
  g_autoptr(GArray) records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord));
  g_autoptr(NcPlan) plan = nc_plan_new();
  uint8_t what;

  *b = (Batch){ .raw = g_byte_array_new() };
  for (unsigned i = 0; i < count && nc_reader_u8(r, &what); i++) {
    NcStreamRecord rec = { .start = b->raw->len,
                           .kind = c == 0 ? NC_RECORD_PAGE : NC_RECORD_BLOCK,
                           .header_bytes = c == 0 ? 8 : 0,
                           .length = PAGE + (c == 0 ? 8 : 0),
                           .page_offset = (uint64_t)(what >> 4) * PAGE };
    if (c == 0)
      nc_put_u64(b->raw, rec.page_offset | 0x28);
    put_content(b->raw, what);
    g_array_append_val(records, rec);
  }
  const NcStreamRecord *list = (const NcStreamRecord *)(void *)records->data;
  if (records->len == 0)
    nc_put_u8(b->raw, 1);
  if (c == 0)
    nc_history_begin_batch(w->history, ch->next);
  if (c == 0)
    nc_history_plan(w->history, b->raw->data, list, records->len, plan);
  else
    nc_blocks_plan(w->ours, b->raw->data, list, records->len, plan);
  nc_blocks_note(w->ours, channel_number(c), ch->next++, plan);
  b->payload = nc_batch_encode_planned(w->encoder, 0, b->raw->data, b->raw->len, list, records->len, plan, false, NULL);
  NcBatchPeek peek;
  must(nc_batch_peek(b->payload->data, b->payload->len, &peek) && peek.raw_len == b->raw->len);
  b->has_history = peek.has_history;
}

static void
decode(Batch *b, NcBatchDecoder *d)
{
  g_autoptr(GByteArray) back = g_byte_array_new();
  uint64_t offset;

  must(nc_batch_decode(d, b->payload->data, b->payload->len, back, &offset, NULL) && back->len == b->raw->len &&
       memcmp(back->data, b->raw->data, back->len) == 0);
  b->fills = nc_batch_decoder_steal_fills(d);
  b->stores = nc_batch_decoder_steal_stores(d);
  b->is_decoded = true;
}

static void
take(Wire *w, unsigned c)
{
  Channel *ch = &w->channels[c];
  Batch *b = &ch->way[ch->taken % AHEAD];

  if (ch->taken == ch->next)
    return;
  if (!b->is_decoded)
    decode(b, b->has_history ? w->in_order : w->early);
  if (c == 0)
    nc_batch_store(w->theirs_ram, b->stores, b->raw->data);
  else
    nc_batch_fill_blocks(w->theirs, b->fills, b->raw->data);
  ch->taken++;
}

static void
acknowledge(Wire *w, unsigned c)
{
  Channel *ch = &w->channels[c];

  for (; ch->acked < ch->taken; ch->acked++) {
    Batch *b = &ch->way[ch->acked % AHEAD];
    nc_blocks_acked(w->ours, channel_number(c), ch->acked);
    g_byte_array_unref(b->raw);
    g_byte_array_unref(b->payload);
    g_clear_pointer(&b->fills, g_array_unref);
    g_clear_pointer(&b->stores, g_array_unref);
  }
}

static void
step(Wire *w, NcReader *r, uint8_t what)
{
  unsigned c = what % CHANNELS;
  Channel *ch = &w->channels[c];
  unsigned index = (what >> 5) % AHEAD;
  Batch *early = &ch->way[index];

  switch (what / CHANNELS % 4) {
  case 0:
    if (ch->next - ch->acked < AHEAD)
      submit(w, c, r, what >> 4);
    break;
  case 1:
    take(w, c);
    break;
  case 2:
    acknowledge(w, c);
    break;
  default:
    if (what == FORGET)
      nc_blocks_forget(w->ours);
    else if ((index + AHEAD - ch->acked % AHEAD) % AHEAD < ch->next - ch->acked && !early->is_decoded &&
             !early->has_history)
      decode(early, w->early);
  }
}

static void
fuzz_channels(NcReader *r)
{
  static const NcBatchPolicy policy = { .codec = NC_CODEC_LZ4 };
  Wire w = { .ours = nc_blocks_new(FRAMES, true, NULL),
             .theirs = nc_blocks_new(FRAMES, false, NULL),
             .ours_ram = nc_shadow_new(-1, FRAMES, NULL),
             .theirs_ram = nc_shadow_new(-1, FRAMES, NULL),
             .encoder = nc_batch_encoder_new(&policy),
             .early = nc_batch_decoder_new(),
             .in_order = nc_batch_decoder_new() };
  uint8_t what;

  w.history = nc_history_new(w.ours_ram);
  nc_history_use_blocks(w.history, w.ours);
  nc_history_add_block(w.history, 16 * PAGE);
  nc_batch_decoder_use_shadow(w.early, w.theirs_ram, false);
  nc_batch_decoder_use_shadow(w.in_order, w.theirs_ram, true);
  nc_batch_decoder_use_blocks(w.early, w.theirs);
  nc_batch_decoder_use_blocks(w.in_order, w.theirs);
  while (nc_reader_u8(r, &what))
    step(&w, r, what);
  for (unsigned c = 0; c < CHANNELS; c++) {
    while (w.channels[c].taken < w.channels[c].next)
      take(&w, c);
    acknowledge(&w, c);
  }
  nc_history_free(w.history);
  nc_batch_decoder_free(w.early);
  nc_batch_decoder_free(w.in_order);
  nc_batch_encoder_free(w.encoder);
  nc_shadow_free(w.ours_ram);
  nc_shadow_free(w.theirs_ram);
  nc_blocks_free(w.ours);
  nc_blocks_free(w.theirs);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  NcReader r = nc_reader(data, size);
  uint8_t mode;

  if (!nc_reader_u8(&r, &mode))
    return 0;
  if (mode % 3 == 0)
    fuzz_client(&r);
  else if (mode % 3 == 1)
    fuzz_decode(&r);
  else
    fuzz_channels(&r);
  return 0;
}
