/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two shadows stay equal, and batches come out as they went in, whatever the pages
 * do, however few frames there are, and though batches without history are decoded
 * out of order.
 */
#include "base/bytes.h"
#include "wire/batch.h"
#include "wire/rungs.h"

#include <string.h>

#define PAGES 96
#define PAGE NC_STREAM_PAGE_BYTES
#define RECORD (8 + PAGE)
#define BATCH_PAGES 24

typedef struct {
  uint32_t frames;
  bool eager;
} Budget;

/* Both sides of a wire, and the machine between. */
typedef struct {
  GRand *random;
  uint8_t memory[PAGES][PAGE];
  NcShadow *ours, *theirs;
  NcHistory *history;
  NcBatchEncoder *encoder;
  NcBatchDecoder *early, *in_order;
  uint64_t references, deltas, wholes;
} Wire;

typedef struct {
  GByteArray *raw;
  GArray *records;
  NcPlan *plan;
} Piece;

static Wire *
wire_new(const Budget *budget, unsigned seed)
{
  static const NcBatchPolicy policy = { .codec = NC_CODEC_LZ4 };
  Wire *w = g_new0(Wire, 1);

  w->random = g_rand_new_with_seed(seed);
  w->ours = nc_shadow_new(-1, budget->frames, NULL);
  w->theirs = nc_shadow_new(-1, budget->frames, NULL);
  w->history = nc_history_new(w->ours);
  nc_history_set_eager(w->history, budget->eager);
  nc_history_add_block(w->history, PAGES / 2 * PAGE);
  nc_history_add_block(w->history, PAGES / 2 * PAGE);
  w->encoder = nc_batch_encoder_new(&policy);
  w->early = nc_batch_decoder_new();
  w->in_order = nc_batch_decoder_new();
  nc_batch_decoder_use_shadow(w->early, w->theirs, false);
  nc_batch_decoder_use_shadow(w->in_order, w->theirs, true);
  return w;
}

static void
wire_free(Wire *w)
{
  g_rand_free(w->random);
  nc_history_free(w->history);
  nc_shadow_free(w->ours);
  nc_shadow_free(w->theirs);
  nc_batch_encoder_free(w->encoder);
  nc_batch_decoder_free(w->early);
  nc_batch_decoder_free(w->in_order);
  g_free(w);
}

/* Changes a page as guests do: a little, wholly, into another's copy, into a pattern, or not at all. */
static void
touch(Wire *w, unsigned page)
{
  uint8_t *at = w->memory[page];

  switch (g_rand_int_range(w->random, 0, 6)) {
  case 0:
    for (size_t i = 0; i < PAGE; i++)
      at[i] = (uint8_t)g_rand_int(w->random);
    break;
  case 1:
    memmove(at, w->memory[g_rand_int_range(w->random, 0, PAGES)], PAGE);
    break;
  case 2:
    memset(at, g_rand_int_range(w->random, 0, 3), PAGE);
    break;
  case 3:
    break;
  default:
    for (int i = 0; i < 20; i++)
      at[g_rand_int_range(w->random, 0, PAGE)] = (uint8_t)g_rand_int(w->random);
  }
}

static void
add_page(Wire *w, Piece *p, unsigned page, bool named, bool zero)
{
  NcStreamRecord rec = { .start = p->raw->len, .kind = zero ? NC_RECORD_ZERO : NC_RECORD_PAGE, .header_bytes = 8,
                         .block = page / (PAGES / 2), .page_offset = (uint64_t)(page % (PAGES / 2)) * PAGE };

  nc_put_u64(p->raw, rec.page_offset | (zero ? 0x22 : 0x28));
  if (named) {
    g_byte_array_append(p->raw, (const uint8_t *)"\3ram", 4);
    rec.header_bytes += 4;
  }
  if (zero)
    nc_put_u8(p->raw, 0);
  else
    g_byte_array_append(p->raw, w->memory[page], PAGE);
  rec.length = p->raw->len - rec.start;
  g_array_append_val(p->records, rec);
}

static void
plan(Wire *w, Piece *p)
{
  nc_history_plan(w->history, p->raw->data, (const NcStreamRecord *)(void *)p->records->data, p->records->len, p->plan);
}

/* Records of pages from ${first} on, some with a block's name, some of zero pages, which leave the frames alone. */
static Piece
next_piece(Wire *w)
{
  Piece p = { .raw = g_byte_array_new(), .records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord)), .plan = nc_plan_new() };
  unsigned first = (unsigned)g_rand_int_range(w->random, 0, PAGES), count = (unsigned)g_rand_int_range(w->random, 1, BATCH_PAGES);

  for (unsigned i = 0; i < count; i++) {
    unsigned page = g_rand_int_range(w->random, 0, 8) == 0 ? (unsigned)g_rand_int_range(w->random, 0, PAGES) : (first + i) % PAGES;
    bool named = g_rand_int_range(w->random, 0, 10) == 0, zero = g_rand_int_range(w->random, 0, 10) == 0;
    touch(w, page);
    add_page(w, &p, page, named, zero);
  }
  plan(w, &p);
  return p;
}

static void
piece_free(Piece *p)
{
  g_byte_array_unref(p->raw);
  g_array_unref(p->records);
  nc_plan_free(p->plan);
}

static GByteArray *
encode(Wire *w, const Piece *p, bool plain)
{
  NcBatchStats stats;
  GByteArray *payload = nc_batch_encode_planned(w->encoder, 0, p->raw->data, p->raw->len, (const NcStreamRecord *)(void *)p->records->data,
                                                p->records->len, p->plan, plain, &stats);
  w->references += stats.reference_pages;
  w->deltas += stats.delta_pages;
  w->wholes += stats.pages - stats.reference_pages - stats.delta_pages;
  return payload;
}

/* As the destination does; returns whether the batch's SHA-256 was right. */
static bool
deliver(Wire *w, const GByteArray *payload, const Piece *p)
{
  g_autoptr(GByteArray) raw = g_byte_array_new();
  g_autoptr(GError) error = NULL;
  uint64_t offset;
  NcBatchPeek peek;

  g_assert_true(nc_batch_peek(payload->data, payload->len, &peek));
  g_assert_cmpuint(peek.raw_len, ==, p->raw->len);
  NcBatchDecoder *d = peek.has_history ? w->in_order : w->early;
  if (!nc_batch_decode(d, payload->data, payload->len, raw, &offset, &error)) {
    g_assert_error(error, NC_ERROR, NC_ERROR_CORRUPT);
    return false;
  }
  g_assert_cmpmem(raw->data, raw->len, p->raw->data, p->raw->len);
  if (!peek.has_history) {
    g_autoptr(GArray) stores = nc_batch_decoder_steal_stores(d);
    nc_batch_store(w->theirs, stores, raw->data);
  }
  return true;
}

static void
assert_equal_shadows(Wire *w)
{
  for (uint32_t i = 0; i < nc_shadow_frames(w->ours); i++)
    g_assert_cmpmem(nc_shadow_frame(w->ours, i), PAGE, nc_shadow_frame(w->theirs, i), PAGE);
}

static void
test_stays_equal(gconstpointer data)
{
  const Budget *budget = data;
  Wire *w = wire_new(budget, budget->frames);

  for (int round = 0; round < 400; round++) {
    Piece p = next_piece(w);
    g_autoptr(GByteArray) payload = encode(w, &p, false);
    g_assert_true(deliver(w, payload, &p));
    piece_free(&p);
  }
  assert_equal_shadows(w);
  g_test_message("%u frames: %u whole, %u references, %u deltas", budget->frames, (unsigned)w->wholes, (unsigned)w->references, (unsigned)w->deltas);
  g_assert_cmpuint(w->deltas, >, budget->frames > 8 ? 200 : 0);
  g_assert_cmpuint(w->references, >, 100 * (budget->frames > 8));
  wire_free(w);
}

/* A frame of the destination is damaged: never a wrong byte, and after a plain copy and forgetting all is well again. */
static void
test_damage_is_noticed(void)
{
  static const Budget budget = { PAGES, true };
  Wire *w = wire_new(&budget, 7);
  unsigned noticed = 0;

  for (int round = 0; round < 300; round++) {
    Piece p = next_piece(w);
    if (round % 10 == 5)
      nc_shadow_frame(w->theirs, (uint32_t)g_rand_int_range(w->random, 0, PAGES))[17] ^= 0x40;
    g_autoptr(GByteArray) payload = encode(w, &p, false);
    if (!deliver(w, payload, &p)) {
      g_autoptr(GByteArray) plain = encode(w, &p, true);
      g_assert_true(deliver(w, plain, &p));
      nc_history_forget(w->history);
      noticed++;
    }
    piece_free(&p);
  }
  g_assert_cmpuint(noticed, >, 3);
  wire_free(w);
}

/* What was the destination is the source now: it has the frames, but not whose they are. */
static Wire *
wire_turned_round(Wire *w, const Budget *budget, unsigned seed)
{
  Wire *back = wire_new(budget, seed);

  memcpy(back->memory, w->memory, sizeof w->memory);
  for (uint32_t i = 0; i < MIN(budget->frames, nc_shadow_frames(w->ours)); i++) {
    memcpy(nc_shadow_frame(back->ours, i), nc_shadow_frame(w->theirs, i), PAGE);
    memcpy(nc_shadow_frame(back->theirs, i), nc_shadow_frame(w->ours, i), PAGE);
  }
  return back;
}

/* Every page once, in order, as it is: what QEMU's first round does. Returns how many batches had to come again. */
static unsigned
send_all(Wire *w)
{
  unsigned again = 0;

  for (unsigned first = 0; first < PAGES; first += BATCH_PAGES) {
    Piece p = { .raw = g_byte_array_new(), .records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord)), .plan = nc_plan_new() };
    for (unsigned page = first; page < first + BATCH_PAGES; page++)
      add_page(w, &p, page, false, false);
    plan(w, &p);
    g_autoptr(GByteArray) payload = encode(w, &p, false);
    if (!deliver(w, payload, &p)) {
      g_autoptr(GByteArray) plain = encode(w, &p, true);
      g_assert_true(deliver(w, plain, &p));
      nc_history_forget(w->history);
      again++;
    }
    piece_free(&p);
  }
  return again;
}

/* Memory from ${from} to ${to} before there is a stream, each ${step}th batch, as far as there are frames. Returns how many pages were worth it. */
static unsigned
send_some_ahead(Wire *w, unsigned from, unsigned to, unsigned step)
{
  unsigned sent = 0;

  for (unsigned first = from; first < to; first += step * BATCH_PAGES) {
    Piece p = { .raw = g_byte_array_new(), .records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord)), .plan = nc_plan_new() };
    uint32_t frame = NC_NO_FRAME;
    for (unsigned page = first; page < first + BATCH_PAGES; page++) {
      uint32_t its = nc_history_put_ahead(w->history, w->memory[page]);
      if (its == NC_NO_FRAME)
        continue;
      g_assert_cmpuint(its, ==, frame == NC_NO_FRAME ? its : frame + p.records->len); /* one behind the other */
      frame = frame == NC_NO_FRAME ? its : frame;
      add_page(w, &p, page, false, false);
    }
    sent += p.records->len;
    if (p.records->len > 0) {
      nc_history_plan_ahead(frame, p.records->len, p.plan);
      g_autoptr(GByteArray) payload = encode(w, &p, false);
      NcBatchPeek peek;
      g_assert_true(nc_batch_peek(payload->data, payload->len, &peek) && peek.is_ahead && !peek.has_history);
      g_assert_true(deliver(w, payload, &p));
    }
    piece_free(&p);
  }
  return sent;
}

static unsigned
send_ahead(Wire *w)
{
  return send_some_ahead(w, 0, PAGES, 1);
}

static Wire *
make_guest(const Budget *budget, unsigned seed)
{
  Wire *w = wire_new(budget, seed);

  for (unsigned page = 0; page < PAGES; page++)
    for (size_t i = 0; i < PAGE; i++)
      w->memory[page][i] = (uint8_t)g_rand_int(w->random);
  return w;
}

/* What was sent ahead and is still so is a reference, what has changed since a difference, and all of it is right. */
static void
test_head_start(void)
{
  static const Budget budget = { PAGES, true };
  Wire *w = make_guest(&budget, 31);

  memset(w->memory[3], 7, PAGE);
  memcpy(w->memory[5], w->memory[9], PAGE);
  g_assert_cmpuint(send_ahead(w), ==, PAGES - 2); /* neither a pattern nor a copy is worth it */
  assert_equal_shadows(w);
  w->wholes = 0;
  for (unsigned page = 0; page < PAGES; page += 6)
    w->memory[page][page * 40 % PAGE] ^= 1;
  memset(w->memory[20], 0, PAGE);
  memcpy(w->memory[50], w->memory[71], PAGE);
  for (size_t i = 0; i < PAGE; i++)
    w->memory[40][i] = (uint8_t)g_rand_int(w->random);
  g_assert_cmpuint(send_all(w), ==, 0);
  g_assert_cmpuint(w->wholes, >=, 3); /* two patterns and the new one, */
  g_assert_cmpuint(w->wholes, <=, 6); /* and what a table of hashes does not find */
  g_assert_cmpuint(w->deltas, >, PAGES / 6 - 4);
  assert_equal_shadows(w);
  wire_free(w);
}

/* Every other batch, then some of those between: what was sent first is no less worth because the stream has met what was sent later. */
static void
test_head_start_in_passes(void)
{
  enum { NEW = 12 };
  static const Budget budget = { 2 * PAGES, true };
  Wire *w = make_guest(&budget, 33);
  unsigned sent = send_some_ahead(w, 0, PAGES, 2) + send_some_ahead(w, BATCH_PAGES, PAGES / 2, 2);

  g_assert_cmpuint(sent, ==, 3 * BATCH_PAGES);
  w->wholes = 0;
  for (unsigned page = 2 * BATCH_PAGES - NEW; page < 2 * BATCH_PAGES; page++) /* they need frames, before the stream comes to the third batch */
    for (size_t i = 0; i < PAGE; i++)
      w->memory[page][i] = (uint8_t)g_rand_int(w->random);
  g_assert_cmpuint(send_all(w), ==, 0);
  g_assert_cmpuint(w->wholes, >=, PAGES - sent + NEW);
  g_assert_cmpuint(w->wholes, <=, PAGES - sent + NEW + 3); /* and what a table of hashes does not find */
  assert_equal_shadows(w);
  wire_free(w);
}

/* With fewer frames than pages, and with a side that has lost what was sent. */
static void
test_head_start_in_little_room(void)
{
  static const Budget budget = { 40, true };
  Wire *w = make_guest(&budget, 32);

  g_assert_cmpuint(send_ahead(w), ==, 40);
  g_assert_false(nc_history_has_room(w->history));
  nc_shadow_frame(w->theirs, 11)[100] ^= 2;
  g_assert_cmpuint(send_all(w), ==, 1);
  for (int round = 0; round < 100; round++) {
    Piece p = next_piece(w);
    g_autoptr(GByteArray) payload = encode(w, &p, false);
    g_assert_true(deliver(w, payload, &p));
    piece_free(&p);
  }
  wire_free(w);
}

static Wire *
make_trip(unsigned seed)
{
  static const Budget budget = { PAGES + 20, true };
  Wire *w = make_guest(&budget, seed);

  g_assert_cmpuint(send_all(w), ==, 0);
  g_assert_cmpuint(w->wholes, ==, PAGES);
  return w;
}

/* Whatever happened to the machine since, nothing of it is wrong; what stayed or changed little costs little, also when it goes again. */
static void
test_warm_return(void)
{
  static const Budget budget = { PAGES + 20, true };
  Wire *w = make_trip(21);

  for (unsigned page = 0; page < PAGES; page += 3)
    w->memory[page][page * 40 % PAGE] ^= 1; /* a third changed a little, */
  memset(w->memory[10], 0, PAGE);           /* one is free, */
  for (size_t i = 0; i < PAGE; i++)
    w->memory[40][i] = (uint8_t)g_rand_int(w->random); /* one is another's, */
  memcpy(w->memory[50], w->memory[71], PAGE);          /* and one a copy */
  for (int trip = 0; trip < 4; trip++) {
    Wire *back = wire_turned_round(w, &budget, 22);
    nc_history_begin_kept(back->history, budget.frames);
    nc_history_set_eager(back->history, trip % 2 == 0);
    g_assert_cmpuint(send_all(back), ==, 0);
    g_assert_cmpuint(back->wholes, <=, trip == 0 ? 3 : PAGES / 2); /* what follows the copy is not where it is looked for; the free one is a pattern */
    g_assert_cmpuint(back->deltas, >=, trip == 0 ? PAGES / 3 - 2 : 0);
    assert_equal_shadows(back);
    for (int round = 0; round < 100; round++) { /* and the machine runs on */
      Piece p = next_piece(back);
      g_autoptr(GByteArray) payload = encode(back, &p, false);
      g_assert_true(deliver(back, payload, &p));
      piece_free(&p);
    }
    assert_equal_shadows(back);
    memcpy(w->memory, back->memory, sizeof w->memory);
    back->references = back->deltas = back->wholes = 0;
    g_assert_cmpuint(send_all(back), ==, 0);
    wire_free(w);
    w = back;
  }
  wire_free(w);
}

/* On the way there pages went ahead of the stream, which are kept before all others: going from them to the rest and back passes none for good. */
static void
test_warm_return_after_a_head_start(void)
{
  enum { NEW = 12 };
  static const Budget budget = { 2 * PAGES, true };
  Wire *w = make_guest(&budget, 34);

  g_assert_cmpuint(send_some_ahead(w, 0, PAGES, 3), ==, 2 * BATCH_PAGES);
  g_assert_cmpuint(send_all(w), ==, 0);
  for (unsigned page = 2 * BATCH_PAGES; page < 2 * BATCH_PAGES + NEW; page++) /* they need frames, before the stream comes to what went ahead last */
    for (size_t i = 0; i < PAGE; i++)
      w->memory[page][i] = (uint8_t)g_rand_int(w->random);
  Wire *back = wire_turned_round(w, &budget, 35);
  nc_history_begin_kept(back->history, PAGES);
  g_assert_cmpuint(send_all(back), ==, 0);
  g_assert_cmpuint(back->wholes, >=, NEW);
  g_assert_cmpuint(back->wholes, <=, NEW + 3); /* and what a table of hashes does not find */
  assert_equal_shadows(back);
  wire_free(back);
  wire_free(w);
}

/* What one side kept is damaged, or shorter, or more is said to be kept than there is: bytes are lost, and nothing else. */
static void
test_warm_return_with_damage(void)
{
  for (unsigned seed = 0; seed < 60; seed++) {
    const Budget budget = { seed % 3 == 0 ? PAGES / 2 : PAGES + seed, seed % 2 == 0 };
    Wire *w = make_trip(seed), *back = wire_turned_round(w, &budget, seed);
    bool theirs = seed % 4 < 2;
    for (unsigned i = 0; i <= seed % 7; i++) {
      uint8_t *frame = nc_shadow_frame(theirs ? back->theirs : back->ours, (uint32_t)g_rand_int_range(w->random, 0, (gint32)budget.frames));
      for (size_t at = 0; at < PAGE; at += 64)
        frame[at] ^= (uint8_t)(1 + seed);
    }
    nc_history_begin_kept(back->history, budget.frames + seed);
    unsigned again = send_all(back);
    g_assert_cmpuint(again, <=, 1); /* then nothing of it is used any more */
    for (int round = 0; round < 40; round++) {
      Piece p = next_piece(back);
      g_autoptr(GByteArray) payload = encode(back, &p, false);
      if (!deliver(back, payload, &p)) {
        g_autoptr(GByteArray) plain = encode(back, &p, true);
        g_assert_true(deliver(back, plain, &p));
        nc_history_forget(back->history);
      }
      piece_free(&p);
    }
    wire_free(w);
    wire_free(back);
  }
}

/* Neither does a batch that wants more than was agreed. */
static void
test_without_a_shadow(void)
{
  static const Budget budget = { PAGES, true }, small = { 2, true };
  Wire *w = wire_new(&budget, 9), *other = wire_new(&small, 9);
  g_autoptr(NcBatchDecoder) none = nc_batch_decoder_new();
  g_autoptr(GByteArray) raw = g_byte_array_new();
  uint64_t offset;

  for (int round = 0; round < 20; round++) {
    Piece p = next_piece(w);
    g_autoptr(GByteArray) payload = encode(w, &p, false);
    g_assert_false(nc_batch_decode(none, payload->data, payload->len, raw, &offset, NULL));
    if (round > 5)
      nc_batch_decode(other->in_order, payload->data, payload->len, raw, &offset, NULL); /* frames that it has not */
    piece_free(&p);
  }
  wire_free(w);
  wire_free(other);
}

/* ${p} through a new encoder on ${rung}; returns what is on the wire whatever the rung. */
static uint32_t
facts_on(const Piece *p, unsigned rung, NcBatchStats *stats)
{
  g_autoptr(NcBatchEncoder) encoder = nc_batch_encoder_new(nc_rung_policy(rung));
  g_autoptr(GByteArray) payload =
      nc_batch_encode_planned(encoder, 0, p->raw->data, p->raw->len, (const NcStreamRecord *)(void *)p->records->data,
                              p->records->len, p->plan, false, stats);

  g_assert_cmpuint(stats->coded_bytes, <=, stats->codable_bytes);
  g_assert_cmpuint(stats->coded_bytes + NC_BATCH_HEADER_BYTES, <=, payload->len);
  return payload->len - stats->coded_bytes;
}

/* Differences are coded like everything else, and the tuner hears of the same bytes on each rung. */
static void
test_the_tuner_hears_the_same_on_each_rung(void)
{
  static const Budget budget = { PAGES, true };
  Wire *w = wire_new(&budget, 11);
  uint64_t deltas = 0, smaller = 0;

  for (int round = 0; round < 60; round++) {
    NcBatchStats none, stats;
    Piece p = next_piece(w);
    uint32_t plain = facts_on(&p, 0, &none);
    g_assert_cmpuint(none.coded_bytes, ==, none.codable_bytes);
    for (unsigned rung = 1; rung < NC_RUNGS; rung++) {
      g_assert_cmpuint(facts_on(&p, rung, &stats), ==, plain);
      g_assert_cmpuint(stats.codable_bytes, ==, none.codable_bytes);
      g_assert_cmpfloat(stats.estimate, ==, none.estimate);
      g_assert_cmpuint(stats.delta_bytes, ==, none.delta_bytes);
      smaller += stats.coded_bytes < stats.codable_bytes;
    }
    deltas += stats.delta_pages;
    piece_free(&p);
  }
  g_assert_cmpuint(deltas, >, 50);
  g_assert_cmpuint(smaller, >, 50);
  wire_free(w);
}

int
main(int argc, char **argv)
{
  static const Budget budgets[] = { { PAGES, true }, { PAGES, false }, { 1000, true }, { 24, true }, { 24, false }, { 1, true } };

  g_test_init(&argc, &argv, NULL);
  for (size_t i = 0; i < G_N_ELEMENTS(budgets); i++) {
    g_autofree char *path = g_strdup_printf("/history/stays-equal/%u-%s", budgets[i].frames, budgets[i].eager ? "eager" : "lazy");
    g_test_add_data_func(path, &budgets[i], test_stays_equal);
  }
  g_test_add_func("/history/damage-is-noticed", test_damage_is_noticed);
  g_test_add_func("/history/warm-return", test_warm_return);
  g_test_add_func("/history/warm-return-after-a-head-start", test_warm_return_after_a_head_start);
  g_test_add_func("/history/warm-return-with-damage", test_warm_return_with_damage);
  g_test_add_func("/history/head-start", test_head_start);
  g_test_add_func("/history/head-start-in-little-room", test_head_start_in_little_room);
  g_test_add_func("/history/head-start-in-passes", test_head_start_in_passes);
  g_test_add_func("/history/the-tuner-hears-the-same-on-each-rung", test_the_tuner_hears_the_same_on_each_rung);
  g_test_add_func("/history/without-a-shadow", test_without_a_shadow);
  return g_test_run();
}
