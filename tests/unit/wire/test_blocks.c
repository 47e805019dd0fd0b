/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that both sides hold: what is there twice crosses once, and whatever order the channels' batches come in,
 * however few frames there are and whatever happens to the other side's copies, not one byte comes out wrong.
 */
#include "base/bytes.h"
#include "wire/batch.h"
#include "wire/blocks.h"
#include "wire/frame.h"

#include <string.h>

#define PAGE NC_BLOCK_BYTES
#define CONTENTS 64u  /* different blocks */
#define RAM_PAGES 48u /* of the machine */
#define RAM_FRAMES 20u
#define CHANNELS 3u /* the first is the main one */
#define AHEAD 10u   /* batches on their way, of each */

/* A batch, from planned to acknowledged. */
typedef struct {
  uint64_t seq;
  GByteArray *raw, *payload;
  GArray *records, *stores, *fills;
  NcPlan *plan;
  bool is_decoded;
} Batch;

typedef struct {
  uint8_t number;
  uint64_t next_seq, taken; /* all before that are delivered */
  GQueue way;               /* of Batch, those not acknowledged */
} Channel;

typedef struct {
  GRand *random;
  uint8_t contents[CONTENTS][PAGE];
  NcShadow *ours_ram, *theirs_ram;
  NcBlocks *ours, *theirs;
  NcHistory *history;
  NcBatchEncoder *encoder;
  NcBatchDecoder *early, *in_order;
  Channel channels[CHANNELS];
  unsigned block_pages, repeated_blocks, page_blocks, kept_blocks, again;
} Wire;

static Wire *
wire_new(uint32_t frames, unsigned seed)
{
  static const NcBatchPolicy policy = { .codec = NC_CODEC_LZ4 };
  Wire *w = g_new0(Wire, 1);

  w->random = g_rand_new_with_seed(seed);
  for (unsigned i = 0; i < CONTENTS; i++)
    for (unsigned k = 0; k < PAGE; k++)
      w->contents[i][k] = (uint8_t)g_rand_int(w->random);
  memset(w->contents[0], 7, PAGE); /* one of a pattern, which is never kept */
  w->ours_ram = nc_shadow_new(-1, RAM_FRAMES, NULL);
  w->theirs_ram = nc_shadow_new(-1, RAM_FRAMES, NULL);
  w->ours = nc_blocks_new(frames, true, NULL);
  w->theirs = nc_blocks_new(frames, false, NULL);
  w->history = nc_history_new(w->ours_ram);
  nc_history_use_blocks(w->history, w->ours);
  nc_history_add_block(w->history, RAM_PAGES * PAGE);
  w->encoder = nc_batch_encoder_new(&policy);
  w->early = nc_batch_decoder_new();
  w->in_order = nc_batch_decoder_new();
  nc_batch_decoder_use_shadow(w->early, w->theirs_ram, false);
  nc_batch_decoder_use_shadow(w->in_order, w->theirs_ram, true);
  nc_batch_decoder_use_blocks(w->early, w->theirs);
  nc_batch_decoder_use_blocks(w->in_order, w->theirs);
  for (unsigned i = 0; i < CHANNELS; i++)
    w->channels[i].number = i == 0 ? NC_CHANNEL_MAIN : NC_CHANNEL_DISK(i - 1);
  return w;
}

static void
batch_free(Batch *b)
{
  g_byte_array_unref(b->raw);
  g_byte_array_unref(b->payload);
  g_array_unref(b->records);
  g_clear_pointer(&b->stores, g_array_unref);
  g_clear_pointer(&b->fills, g_array_unref);
  nc_plan_free(b->plan);
  g_free(b);
}

static void
wire_free(Wire *w)
{
  for (unsigned i = 0; i < CHANNELS; i++)
    g_queue_clear_full(&w->channels[i].way, (GDestroyNotify)batch_free);
  g_rand_free(w->random);
  nc_history_free(w->history);
  nc_shadow_free(w->ours_ram);
  nc_shadow_free(w->theirs_ram);
  nc_blocks_free(w->ours);
  nc_blocks_free(w->theirs);
  nc_batch_encoder_free(w->encoder);
  nc_batch_decoder_free(w->early);
  nc_batch_decoder_free(w->in_order);
  g_free(w);
}

static bool
is_disk(const Channel *c)
{
  return c->number != NC_CHANNEL_MAIN;
}

static const NcStreamRecord *
records_of(const Batch *b)
{
  return (const NcStreamRecord *)(void *)b->records->data;
}

static Batch *
batch_new(void)
{
  Batch *b = g_new0(Batch, 1);
  b->raw = g_byte_array_new();
  b->records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord));
  b->plan = nc_plan_new();
  return b;
}

static void
add_block(Batch *b, const uint8_t *content)
{
  NcStreamRecord rec = { .start = b->raw->len, .kind = NC_RECORD_BLOCK, .length = PAGE };
  g_byte_array_append(b->raw, content, PAGE);
  g_array_append_val(b->records, rec);
}

static void
add_page(Batch *b, unsigned page, const uint8_t *content)
{
  NcStreamRecord rec = { .start = b->raw->len,
                         .kind = NC_RECORD_PAGE,
                         .header_bytes = 8,
                         .length = 8 + PAGE,
                         .page_offset = (uint64_t)page * PAGE };
  nc_put_u64(b->raw, rec.page_offset | 0x28);
  g_byte_array_append(b->raw, content, PAGE);
  g_array_append_val(b->records, rec);
}

static void
encode(Wire *w, Batch *b, bool plain)
{
  g_clear_pointer(&b->payload, g_byte_array_unref);
  b->payload = nc_batch_encode_planned(w->encoder, 0, b->raw->data, b->raw->len, records_of(b), b->records->len,
                                       b->plan, plain, NULL);
}

/* Plans and codes ${b} (taken), as the source's reader does. */
static Batch *
submit(Wire *w, Channel *c, Batch *b)
{
  if (!is_disk(c))
    nc_history_begin_batch(w->history, c->next_seq);
  if (is_disk(c))
    nc_blocks_plan(w->ours, b->raw->data, records_of(b), b->records->len, b->plan);
  else
    nc_history_plan(w->history, b->raw->data, records_of(b), b->records->len, b->plan);
  unsigned used = b->plan->blocks_used ? b->plan->blocks_used->len : 0;
  w->block_pages += is_disk(c) ? 0 : used;
  w->repeated_blocks += is_disk(c) ? used : 0;
  w->page_blocks += b->plan->pages_held ? b->plan->pages_held->len : 0;
  w->kept_blocks += b->plan->blocks_filled ? b->plan->blocks_filled->len : 0;
  b->seq = c->next_seq++;
  nc_blocks_note(w->ours, c->number, b->seq, b->plan);
  encode(w, b, false);
  g_queue_push_tail(&c->way, b);
  return b;
}

/* The destination has found that it is wrong: it comes once more, whole, and nothing from before is relied on. */
static void
send_again(Wire *w, Batch *b, NcBatchDecoder *d, GByteArray *raw)
{
  uint64_t offset;

  w->again++;
  nc_blocks_forget(w->ours);
  nc_history_forget(w->history);
  encode(w, b, true);
  g_assert_true(nc_batch_decode(d, b->payload->data, b->payload->len, raw, &offset, NULL));
}

static void
decode(Wire *w, Batch *b, NcBatchDecoder *d)
{
  g_autoptr(GByteArray) raw = g_byte_array_new();
  g_autoptr(GError) error = NULL;
  uint64_t offset;

  if (!nc_batch_decode(d, b->payload->data, b->payload->len, raw, &offset, &error)) {
    g_assert_error(error, NC_ERROR, NC_ERROR_CORRUPT);
    send_again(w, b, d, raw);
  }
  g_assert_cmpmem(raw->data, raw->len, b->raw->data, b->raw->len);
  b->stores = nc_batch_decoder_steal_stores(d);
  b->fills = nc_batch_decoder_steal_fills(d);
  b->is_decoded = true;
}

static bool
has_history(const Batch *b)
{
  NcBatchPeek peek;
  g_assert_true(nc_batch_peek(b->payload->data, b->payload->len, &peek));
  return peek.has_history;
}

/* What is delivered next, if anything is on its way; decoded before or now. */
static bool
take(Wire *w, Channel *c)
{
  Batch *b = g_queue_peek_nth(&c->way, (guint)(c->taken - (c->next_seq - c->way.length)));

  if (!b)
    return false;
  if (!b->is_decoded)
    decode(w, b, has_history(b) ? w->in_order : w->early);
  if (!is_disk(c))
    nc_batch_store(w->theirs_ram, b->stores, b->raw->data);
  else
    nc_batch_fill_blocks(w->theirs, b->fills, b->raw->data);
  c->taken++;
  return true;
}

/* Everything that was delivered is acknowledged. */
static void
acknowledge(Wire *w, Channel *c)
{
  if (c->taken == 0)
    return;
  nc_blocks_acked(w->ours, c->number, c->taken - 1);
  for (Batch *b; (b = g_queue_peek_head(&c->way)) && b->seq < c->taken;)
    batch_free(g_queue_pop_head(&c->way));
}

static void
deliver_all(Wire *w)
{
  for (unsigned i = 0; i < CHANNELS; i++) {
    while (take(w, &w->channels[i]))
      ;
    acknowledge(w, &w->channels[i]);
  }
}

static const uint8_t *
any_content(Wire *w)
{
  return w->contents[g_rand_int_range(w->random, 0, CONTENTS)];
}

/* Pages, or requests between blocks. */
static Batch *
any_batch(Wire *w, const Channel *c)
{
  Batch *b = batch_new();
  int n = g_rand_int_range(w->random, 1, 12);

  for (int i = 0; i < n; i++) {
    if (!is_disk(c)) {
      add_page(b, (unsigned)g_rand_int_range(w->random, 0, RAM_PAGES), any_content(w));
      continue;
    }
    if (g_rand_int_range(w->random, 0, 3) == 0)
      g_byte_array_append(b->raw, w->contents[1], 28);
    add_block(b, any_content(w));
  }
  return b;
}

/* Some batch that is on its way is decoded, long before its turn. */
static void
decode_one_early(Wire *w, Channel *c)
{
  guint n = c->way.length;
  Batch *b = n > 0 ? g_queue_peek_nth(&c->way, (guint)g_rand_int_range(w->random, 0, (gint32)n)) : NULL;

  if (b && !b->is_decoded && !has_history(b))
    decode(w, b, w->early);
}

static void
damage(Wire *w)
{
  uint8_t block[PAGE];
  uint32_t frame = (uint32_t)g_rand_int_range(w->random, 0, (gint32)nc_blocks_frames(w->theirs));

  g_assert_true(nc_blocks_read(w->theirs, frame, block));
  block[g_rand_int_range(w->random, 0, PAGE)] ^= 0x10;
  nc_blocks_fill(w->theirs, frame, block);
}

typedef struct {
  uint32_t frames;
  bool damaged;
} Case;

static void
test_any_order(gconstpointer data)
{
  const Case *k = data;

  for (unsigned seed = 1; seed <= 6; seed++) {
    Wire *w = wire_new(k->frames, seed);
    for (int step = 0; step < 3000; step++) {
      Channel *c = &w->channels[g_rand_int_range(w->random, 0, CHANNELS)];
      switch (g_rand_int_range(w->random, 0, 5)) {
      case 0:
        if (c->way.length < AHEAD)
          submit(w, c, any_batch(w, c));
        break;
      case 1:
        decode_one_early(w, c);
        break;
      case 2:
        acknowledge(w, c);
        break;
      default:
        take(w, c);
      }
      if (k->damaged && step % 40 == 0)
        damage(w);
    }
    deliver_all(w);
    g_test_message("%u frames: %u pages and %u blocks referred to, %u pages held, %u kept, %u batches again", k->frames,
                   w->block_pages, w->repeated_blocks, w->page_blocks, w->kept_blocks, w->again);
    if (!k->damaged)
      g_assert_cmpuint(w->again, ==, 0);
    else if (k->frames > 8)
      g_assert_cmpuint(w->again, >, 0);
    if (k->frames > 8) {
      g_assert_cmpuint(w->block_pages, >, 20);
      g_assert_cmpuint(w->repeated_blocks, >, 50);
      g_assert_cmpuint(w->page_blocks, >,
                       k->frames < CONTENTS ? 20 : 0); /* where there is room, the blocks are found first */
    }
    wire_free(w);
  }
}

/* Files that were read, and then are in memory: their bytes cross the link once. */
static void
test_crosses_once(void)
{
  Wire *w = wire_new(1000, 5);
  Batch *disk = batch_new(), *copy = batch_new(), *memory = batch_new();

  for (unsigned i = 1; i < 40; i++) { /* without the pattern */
    add_block(disk, w->contents[i]);
    add_block(copy, w->contents[i]);
    add_page(memory, i, w->contents[i]);
  }
  submit(w, &w->channels[1], disk);
  g_assert_cmpuint(w->kept_blocks, ==, 39);
  g_assert_cmpuint(disk->payload->len, >, 39 * PAGE);
  deliver_all(w);
  submit(w, &w->channels[2], copy);
  g_assert_cmpuint(w->repeated_blocks, ==, 39);
  g_assert_cmpuint(copy->payload->len, <, 39 * 4 + 200);
  submit(w, &w->channels[0], memory);
  g_assert_cmpuint(w->block_pages, ==, 39);
  g_assert_cmpuint(memory->payload->len, <, 39 * 8 + 200);
  g_assert_false(has_history(memory)); /* it can be decoded at once */
  g_assert_cmpuint(w->kept_blocks, ==, 39);
  deliver_all(w);
  g_assert_cmpuint(w->again, ==, 0);
  wire_free(w);
}

static Batch *
one_block(Wire *w, unsigned content)
{
  Batch *b = batch_new();
  add_block(b, w->contents[content]);
  return b;
}

static Batch *
one_page(Wire *w, unsigned content)
{
  Batch *b = batch_new();
  add_page(b, content, w->contents[content]);
  return b;
}

/* Only what the other side is known to have is referred to, and nothing after the sides were found to differ. */
static void
test_only_what_is_acknowledged(void)
{
  Wire *w = wire_new(8, 6);

  submit(w, &w->channels[1], one_block(w, 1));
  submit(w, &w->channels[0], one_page(w, 1));
  submit(w, &w->channels[2], one_block(w, 1)); /* on its way: goes again, and is not kept twice */
  g_assert_cmpuint(w->block_pages + w->repeated_blocks, ==, 0);
  g_assert_cmpuint(w->kept_blocks, ==, 1);
  submit(w, &w->channels[1], one_block(w, 2));
  nc_blocks_forget(w->ours);
  deliver_all(w);
  submit(w, &w->channels[0], one_page(w, 2)); /* what was on its way then does not count either */
  g_assert_cmpuint(w->block_pages, ==, 0);
  submit(w, &w->channels[1], one_block(w, 3));
  deliver_all(w);
  submit(w, &w->channels[0], one_page(w, 3));
  g_assert_cmpuint(w->block_pages, ==, 1);
  deliver_all(w);
  wire_free(w);
}

/* A frame that somebody means, or that is being filled, is not filled anew. */
static void
test_a_frame_is_held(void)
{
  Wire *w = wire_new(1, 7);

  submit(w, &w->channels[1], one_block(w, 1));
  submit(w, &w->channels[1], one_block(w, 2));
  g_assert_cmpuint(w->kept_blocks, ==, 1);
  deliver_all(w);
  submit(w, &w->channels[0], one_page(w, 1));
  g_assert_cmpuint(w->block_pages, ==, 1);
  submit(w, &w->channels[1], one_block(w, 2));
  g_assert_cmpuint(w->kept_blocks, ==, 1);
  deliver_all(w);
  submit(w, &w->channels[1], one_block(w, 2));
  g_assert_cmpuint(w->kept_blocks, ==, 2);
  deliver_all(w);
  g_assert_cmpuint(w->again, ==, 0);
  wire_free(w);
}

/* What the guest had in memory before it wrote it: the other way round. The page may change meanwhile, the frame may
 * not. */
static void
test_pages_are_held(void)
{
  Wire *w = wire_new(8, 10);

  submit(w, &w->channels[0], one_page(w, 1));
  Batch *early = submit(w, &w->channels[1], one_block(w, 1)); /* it is not known to be there */
  g_assert_cmpuint(w->page_blocks, ==, 0);
  g_assert_cmpuint(early->payload->len, >, PAGE);
  deliver_all(w);
  nc_blocks_forget(w->ours); /* the block, and all pages */
  submit(w, &w->channels[1], one_block(w, 1));
  g_assert_cmpuint(w->page_blocks, ==, 0);
  submit(w, &w->channels[0], one_page(w, 2));
  deliver_all(w);
  Batch *held = submit(w, &w->channels[1], one_block(w, 2));
  g_assert_cmpuint(w->page_blocks, ==, 1);
  g_assert_cmpuint(held->payload->len, <, 200);
  for (unsigned i = 20; i < 30;
       i++) { /* the page changes again and again, and is taken there, before the block is decoded */
    Batch *b = batch_new();
    add_page(b, 2, w->contents[i]);
    submit(w, &w->channels[0], b);
    g_assert_true(take(w, &w->channels[0]));
    acknowledge(w, &w->channels[0]);
  }
  deliver_all(w); /* compares */
  g_assert_cmpuint(w->again, ==, 0);
  g_assert_cmpuint(w->repeated_blocks, ==, 0);
  wire_free(w);
}

/* The source keeps the bytes of batches that refer to something: not of any number of disks' batches. */
static void
test_referring_batches_are_bounded(void)
{
  Wire *w = wire_new(8, 8);
  unsigned referring = 0;

  submit(w, &w->channels[1], one_block(w, 1));
  deliver_all(w);
  for (unsigned i = 0; i < 300; i++) {
    Batch *b = batch_new();
    for (unsigned k = 0; k < 60; k++)
      add_block(b, w->contents[1]);
    referring += submit(w, &w->channels[2], b)->plan->uses_history;
  }
  g_assert_cmpuint(referring * 60 * PAGE, >, 16 << 20);
  g_assert_cmpuint(referring * 60 * PAGE, <, 32 << 20);
  deliver_all(w);
  g_assert_true(submit(w, &w->channels[2], one_block(w, 1))->plan->uses_history);
  wire_free(w);
}

/* A destination with fewer frames, or none, refuses; neither reads nor writes elsewhere. */
static void
test_more_than_was_agreed(void)
{
  Wire *w = wire_new(64, 9);
  g_autoptr(NcBlocks) few = nc_blocks_new(2, false, NULL);
  g_autoptr(NcBatchDecoder) none = nc_batch_decoder_new(), small = nc_batch_decoder_new();
  g_autoptr(GByteArray) raw = g_byte_array_new();
  uint64_t offset;

  nc_batch_decoder_use_blocks(small, few);
  Batch *b = batch_new();
  for (unsigned i = 1; i < 20; i++)
    add_block(b, w->contents[i]);
  submit(w, &w->channels[1], b);
  for (unsigned i = 0; i < 2; i++) {
    g_autoptr(GError) error = NULL;
    g_assert_false(nc_batch_decode(i == 0 ? none : small, b->payload->data, b->payload->len, raw, &offset, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
  }
  deliver_all(w);
  b = submit(w, &w->channels[2], one_block(w, 19));
  for (unsigned i = 0; i < 2; i++) {
    g_autoptr(GError) error = NULL;
    g_assert_false(nc_batch_decode(i == 0 ? none : small, b->payload->data, b->payload->len, raw, &offset, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
  }
  wire_free(w);
}

int
main(int argc, char **argv)
{
  static const Case cases[] = { { 1, false }, { 3, false }, { 16, false }, { 200, false },
                                { 3, true },  { 16, true }, { 200, true } };

  g_test_init(&argc, &argv, NULL);
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *path =
        g_strdup_printf("/blocks/any-order/%u%s", cases[i].frames, cases[i].damaged ? "-damaged" : "");
    g_test_add_data_func(path, &cases[i], test_any_order);
  }
  g_test_add_func("/blocks/crosses-once", test_crosses_once);
  g_test_add_func("/blocks/only-what-is-acknowledged", test_only_what_is_acknowledged);
  g_test_add_func("/blocks/a-frame-is-held", test_a_frame_is_held);
  g_test_add_func("/blocks/pages-are-held", test_pages_are_held);
  g_test_add_func("/blocks/referring-batches-are-bounded", test_referring_batches_are_bounded);
  g_test_add_func("/blocks/more-than-was-agreed", test_more_than_was_agreed);
  return g_test_run();
}
