/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages that the destination's page store holds: both sides come to the same bytes, what is not in the list goes as it
 * is, and a store that is damaged, or lies, costs a copy and never a wrong byte.
 */
#include "base/bytes.h"
#include "crypto/piece_digest.h"
#include "wire/batch.h"
#include "wire/batch_format.h"
#include "wire/history.h"

#include <string.h>

#define PAGE NC_STREAM_PAGE_BYTES
#define PAGES 40u

/* A machine's memory, what a store holds of it, and the stream of all its pages. */
typedef struct {
  uint8_t memory[PAGES][PAGE], store[PAGES][PAGE];
  bool missing[PAGES]; /* from the store, though it was told of */
  unsigned reads;
  NcStoredPages pages;
  NcStoredIndex *index;
  GByteArray *raw;
  GArray *records;
  NcBatchEncoder *encoder;
  NcBatchDecoder *decoder;
} Bed;

static bool
read_pages(void *data, const uint32_t *numbers, uint32_t n, uint8_t *to, size_t step)
{
  Bed *b = data;

  b->reads++;
  for (uint32_t i = 0; i < n; i++) {
    g_assert_cmpuint(numbers[i], <, b->pages.count);
    if (b->missing[numbers[i]])
      return false;
    memcpy(to + i * step, b->store[numbers[i]], PAGE);
  }
  return true;
}

static NcStoredIndex *
index_of(uint8_t (*store)[PAGE], uint32_t n)
{
  uint8_t *prefixes = g_malloc((size_t)n * NC_STORED_PREFIX_BYTES), sha256[NC_SHA256_BYTES];

  for (uint32_t i = 0; i < n; i++) {
    nc_sha256(store[i], PAGE, sha256);
    memcpy(prefixes + (size_t)i * NC_STORED_PREFIX_BYTES, sha256, NC_STORED_PREFIX_BYTES);
  }
  return nc_stored_index_new(prefixes, n);
}

static void
paint(uint8_t *page)
{
  for (unsigned at = 0; at < PAGE; at += 4)
    nc_store_be32(page + at, (uint32_t)g_test_rand_int());
}

/* The first page names its block, the others don't. */
static void
make_stream(Bed *b)
{
  b->raw = g_byte_array_new();
  b->records = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord));
  for (uint32_t i = 0; i < PAGES; i++) {
    uint16_t head = i == 0 ? 8 + 1 + 4 : 8;
    NcStreamRecord rec = { .start = b->raw->len,
                           .header_bytes = head,
                           .kind = NC_RECORD_PAGE,
                           .length = head + PAGE,
                           .page_offset = (uint64_t)i * PAGE };
    nc_put_u64(b->raw, (uint64_t)i * PAGE | (i == 0 ? 0x08 : 0x28));
    if (i == 0)
      g_byte_array_append(b->raw, (const uint8_t *)"\4ram0", 5);
    g_byte_array_append(b->raw, b->memory[i], PAGE);
    g_array_append_val(b->records, rec);
  }
}

/* The store has every page but each fourth, in another order; some of the memory is one pattern. */
static void
setup(Bed *b, gconstpointer data)
{
  NcBatchPolicy how;

  g_assert_true(nc_compression_parse("none", &how, NULL));
  for (uint32_t i = 0; i < PAGES; i++) {
    paint(b->memory[i]);
    paint(b->store[i]);
  }
  memset(b->memory[7], 0x11, PAGE);
  for (uint32_t i = 0; i < PAGES; i++)
    if (i % 4 != 3)
      memcpy(b->store[PAGES - 1 - i], b->memory[i], PAGE);
  b->index = index_of(b->store, PAGES);
  b->pages = (NcStoredPages){ .count = PAGES, .data = b, .read = read_pages };
  b->encoder = nc_batch_encoder_new(&how);
  b->decoder = nc_batch_decoder_new();
  nc_batch_encoder_use_stored(b->encoder, b->index);
  nc_batch_decoder_use_stored(b->decoder, &b->pages);
  make_stream(b);
}

static void
teardown(Bed *b, gconstpointer data)
{
  nc_stored_index_free(b->index);
  nc_batch_encoder_free(b->encoder);
  nc_batch_decoder_free(b->decoder);
  g_byte_array_unref(b->raw);
  g_array_unref(b->records);
}

static GByteArray *
encode(Bed *b, const NcPlan *plan, bool plain, NcBatchStats *stats)
{
  return nc_batch_encode_planned(b->encoder, 0, b->raw->data, b->raw->len,
                                 (const NcStreamRecord *)(void *)b->records->data, b->records->len, plan, plain, stats);
}

static void
check_same(Bed *b, const GByteArray *payload)
{
  g_autoptr(GByteArray) back = g_byte_array_new();
  g_autoptr(GError) error = NULL;
  uint64_t offset;

  nc_batch_decode(b->decoder, payload->data, payload->len, back, &offset, &error);
  g_assert_no_error(error);
  g_assert_cmpmem(back->data, back->len, b->raw->data, b->raw->len);
}

static void
check_error(Bed *b, const GByteArray *payload, int code)
{
  g_autoptr(GByteArray) back = g_byte_array_new();
  g_autoptr(GError) error = NULL;
  uint64_t offset;

  g_assert_false(nc_batch_decode(b->decoder, payload->data, payload->len, back, &offset, &error));
  g_assert_error(error, NC_ERROR, code);
  g_assert_cmpuint(back->len, ==, 0);
}

static void
test_what_is_there_does_not_cross(Bed *b, gconstpointer data)
{
  NcBatchStats stats;
  g_autoptr(GByteArray) payload = encode(b, NULL, false, &stats);

  g_assert_cmpuint(stats.pages, ==, PAGES);
  g_assert_cmpuint(stats.stored_pages, ==, PAGES * 3 / 4);
  g_assert_cmpuint(stats.fill_pages, ==, 1);
  g_assert_cmpuint(payload->len, <, (PAGES / 4) * PAGE + 1000); /* what is not there, once */
  check_same(b, payload);
  g_assert_cmpuint(b->reads, <, PAGES / 2); /* segments, not pages */

  nc_batch_encoder_use_stored(b->encoder, NULL);
  g_autoptr(GByteArray) without = encode(b, NULL, false, &stats);
  g_assert_cmpuint(stats.stored_pages, ==, 0);
  g_assert_cmpuint(without->len, >, (PAGES - 1) * PAGE);
  check_same(b, without);
}

/* Both sides keep them, and a later reference to one is right. */
static void
test_they_are_kept_as_others_are(Bed *b, gconstpointer data)
{
  g_autoptr(NcShadow) here = nc_shadow_new(-1, PAGES, NULL);
  g_autoptr(NcShadow) there = nc_shadow_new(-1, PAGES, NULL);
  g_autoptr(NcHistory) history = nc_history_new(here);
  g_autoptr(NcPlan) plan = nc_plan_new();
  NcBatchStats stats;

  nc_batch_decoder_use_shadow(b->decoder, there, true);
  nc_history_add_block(history, PAGES * PAGE);
  for (int round = 0; round < 2; round++) {
    nc_history_plan(history, b->raw->data, (const NcStreamRecord *)(void *)b->records->data, b->records->len, plan);
    g_autoptr(GByteArray) payload = encode(b, plan, false, &stats);
    check_same(b, payload);
    g_assert_cmpuint(stats.stored_pages, ==, round == 0 ? PAGES * 3 / 4 : 0);
    g_assert_cmpuint(stats.reference_pages + stats.fill_pages + stats.delta_pages, >=, round == 0 ? 0 : PAGES - 1);
  }
  for (uint32_t i = 0; i < PAGES; i++)
    g_assert_cmpmem(nc_shadow_frame(here, i), PAGE, nc_shadow_frame(there, i), PAGE);
}

/* Kept ahead of the stream, out of order: what is to be put into the frames is listed. */
static void
test_out_of_order(Bed *b, gconstpointer data)
{
  g_autoptr(NcShadow) here = nc_shadow_new(-1, PAGES, NULL);
  g_autoptr(NcShadow) there = nc_shadow_new(-1, PAGES, NULL);
  g_autoptr(NcHistory) history = nc_history_new(here);
  g_autoptr(NcPlan) plan = nc_plan_new();
  g_autoptr(GByteArray) back = g_byte_array_new();
  uint64_t offset;

  nc_batch_decoder_use_shadow(b->decoder, there, false);
  nc_history_add_block(history, PAGES * PAGE);
  nc_history_plan(history, b->raw->data, (const NcStreamRecord *)(void *)b->records->data, b->records->len, plan);
  g_autoptr(GByteArray) payload = encode(b, plan, false, NULL);
  g_assert_true(nc_batch_decode(b->decoder, payload->data, payload->len, back, &offset, NULL));
  g_autoptr(GArray) stores = nc_batch_decoder_steal_stores(b->decoder);
  nc_batch_store(there, stores, back->data);
  for (uint32_t i = 0; i < PAGES; i++)
    g_assert_cmpmem(nc_shadow_frame(here, i), PAGE, nc_shadow_frame(there, i), PAGE);
}

/* One page is gone: that batch fails as a damaged one does, and coded plainly it needs no store. */
static void
test_a_page_that_is_gone(Bed *b, gconstpointer data)
{
  g_autoptr(GByteArray) payload = encode(b, NULL, false, NULL);

  b->missing[PAGES - 1 - 5] = true;
  check_error(b, payload, NC_ERROR_CORRUPT);
  g_autoptr(GByteArray) plain = encode(b, NULL, true, NULL);
  nc_batch_decoder_use_stored(b->decoder, NULL);
  check_same(b, plain);
}

/* Whatever the store says, no other page comes out for the one that was meant. */
static void
test_a_store_that_gives_something_else(Bed *b, gconstpointer data)
{
  g_autoptr(GByteArray) payload = encode(b, NULL, false, NULL);

  for (unsigned at = 0; at < PAGE; at += 97) {
    b->store[PAGES - 1 - 5][at] ^= 1;
    check_error(b, payload, NC_ERROR_CORRUPT);
    b->store[PAGES - 1 - 5][at] ^= 1;
  }
  check_same(b, payload);
}

/* Another page with the same first 16 bytes, as somebody might make one with much effort: the list knows one of them.
 */
static void
test_a_prefix_that_two_pages_have(Bed *b, gconstpointer data)
{
  paint(b->store[PAGES - 1 - 5]); /* so that the list's hash is not that of what the store gives */
  g_autoptr(GByteArray) payload = encode(b, NULL, false, NULL);

  check_error(b, payload, NC_ERROR_CORRUPT);
}

/* One page as number ${number}, in the operation ${op} (PAGE or BLOCKS). */
static GByteArray *
forge(NcBatchOp op, uint32_t number)
{
  uint8_t page[PAGE] = { 0 }, digest[NC_SHA256_BYTES];
  g_autoptr(GByteArray) meta = g_byte_array_new();
  GByteArray *out = g_byte_array_new();

  nc_piece_digest(page, sizeof page, digest);
  nc_put_u8(meta, op);
  if (op == NC_BATCH_OP_BLOCKS)
    nc_put_varint(meta, 1);
  nc_put_u8(meta, NC_BATCH_CLASS_STORED);
  if (op == NC_BATCH_OP_BLOCKS)
    nc_put_varint(meta, 1);
  nc_put_varint(meta, number);
  nc_put_u64(out, 0);
  nc_put_u32(out, PAGE);
  g_byte_array_append(out, digest, sizeof digest);
  nc_put_u8(out, NC_CODEC_NONE);
  nc_put_u8(out, 0);
  nc_put_u16(out, 0);
  nc_put_u32(out, meta->len);
  nc_put_u32(out, meta->len);
  nc_put_u32(out, 0);
  g_byte_array_append(out, meta->data, meta->len);
  return out;
}

static void
test_what_nobody_agreed_on(Bed *b, gconstpointer data)
{
  g_autoptr(GByteArray) payload = encode(b, NULL, false, NULL);
  g_autoptr(GByteArray) last = forge(NC_BATCH_OP_PAGE, PAGES - 1);
  g_autoptr(GByteArray) beyond = forge(NC_BATCH_OP_PAGE, PAGES);
  g_autoptr(GByteArray) disk = forge(NC_BATCH_OP_BLOCKS, 0);

  memset(b->store[PAGES - 1], 0, PAGE);
  g_autoptr(GByteArray) back = g_byte_array_new();
  uint64_t offset;
  g_assert_true(nc_batch_decode(b->decoder, last->data, last->len, back, &offset, NULL));
  check_error(b, beyond, NC_ERROR_PROTOCOL);
  check_error(b, disk, NC_ERROR_PROTOCOL);
  nc_batch_decoder_use_stored(b->decoder, NULL);
  check_error(b, payload, NC_ERROR_PROTOCOL);
  check_error(b, last, NC_ERROR_PROTOCOL);
}

/* Where hardly anything is found, little is looked for; it begins again after a while. */
static void
test_looking_in_vain(Bed *b, gconstpointer data)
{
  g_autoptr(NcStoredIndex) nothing = index_of(b->store, 0);
  unsigned looked = 0, batches = 400;

  nc_batch_encoder_use_stored(b->encoder, nothing);
  for (unsigned i = 0; i < batches; i++)
    g_byte_array_unref(encode(b, NULL, false, NULL));
  nc_batch_encoder_use_stored(b->encoder, b->index);
  for (unsigned i = 0; i < batches; i++) {
    NcBatchStats stats;
    g_byte_array_unref(encode(b, NULL, false, &stats));
    looked += stats.stored_pages > 0;
  }
  g_assert_cmpuint(looked, >=, batches - 64);
}

/* A list from somebody who wants it to take for ever, or to be wrong. */
static void
test_a_hostile_list(void)
{
  const uint32_t count = 200000;
  uint8_t *prefixes = g_malloc0((size_t)count * NC_STORED_PREFIX_BYTES), sha256[NC_SHA256_BYTES] = { 0 };

  for (uint32_t i = 0; i < count; i++) /* all begin alike */
    nc_store_be32(prefixes + (size_t)i * NC_STORED_PREFIX_BYTES + 12, i);
  g_autoptr(NcStoredIndex) index = nc_stored_index_new(prefixes, count);
  g_assert_cmpuint(nc_stored_index_find(index, sha256), ==, 0);
  nc_store_be32(sha256 + 12, 5);
  g_assert_cmpuint(nc_stored_index_find(index, sha256), ==, 5);
  nc_store_be32(sha256 + 12, count - 1);
  g_assert_cmpuint(nc_stored_index_find(index, sha256), ==, NC_NOT_STORED);
}

static void
test_an_index_finds_each(void)
{
  const uint32_t counts[] = { 0, 1, 2, 31, 32, 33, 5000 };

  for (size_t c = 0; c < G_N_ELEMENTS(counts); c++) {
    uint8_t *prefixes = g_malloc(MAX(counts[c], 1) * NC_STORED_PREFIX_BYTES), sha256[NC_SHA256_BYTES];
    for (uint32_t i = 0; i < counts[c]; i++) {
      nc_sha256(&i, sizeof i, sha256);
      memcpy(prefixes + (size_t)i * NC_STORED_PREFIX_BYTES, sha256, NC_STORED_PREFIX_BYTES);
    }
    g_autoptr(NcStoredIndex) index = nc_stored_index_new(prefixes, counts[c]);
    for (uint32_t i = 0; i < counts[c] + 3; i++) {
      nc_sha256(&i, sizeof i, sha256);
      g_assert_cmpuint(nc_stored_index_find(index, sha256), ==, i < counts[c] ? i : NC_NOT_STORED);
      sha256[NC_STORED_PREFIX_BYTES - 1] ^= 1;
      g_assert_cmpuint(nc_stored_index_find(index, sha256), ==, NC_NOT_STORED);
    }
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define TEST(name, func) g_test_add("/stored/" name, Bed, NULL, setup, func, teardown)
  TEST("what-is-there-does-not-cross", test_what_is_there_does_not_cross);
  TEST("they-are-kept-as-others-are", test_they_are_kept_as_others_are);
  TEST("out-of-order", test_out_of_order);
  TEST("a-page-that-is-gone", test_a_page_that_is_gone);
  TEST("a-store-that-gives-something-else", test_a_store_that_gives_something_else);
  TEST("a-prefix-that-two-pages-have", test_a_prefix_that_two_pages_have);
  TEST("what-nobody-agreed-on", test_what_nobody_agreed_on);
  TEST("looking-in-vain", test_looking_in_vain);
  g_test_add_func("/stored/a-hostile-list", test_a_hostile_list);
  g_test_add_func("/stored/an-index-finds-each", test_an_index_finds_each);
  return g_test_run();
}
