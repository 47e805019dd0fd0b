/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches: what goes in comes out, whatever the records say; what was damaged
 * on the way does not come out; what a peer makes up is refused.
 */
#include "base/bytes.h"
#include "crypto/digest.h"
#include "wire/batch.h"

#define PAGE NC_STREAM_PAGE_BYTES

static const char *const compressions[] = { "none", "lz4", "zstd", "zstd:-5", "zstd:9", "auto" };

static NcBatchPolicy
policy(const char *text)
{
  NcBatchPolicy ret;
  g_autoptr(GError) error = NULL;
  g_assert_true(nc_compression_parse(text, &ret, &error));
  return ret;
}

/* A piece of a stream under construction. */
typedef struct {
  GByteArray *raw;
  GArray *records;
} Piece;

static Piece
piece_new(void)
{
  return (Piece){ g_byte_array_new(), g_array_new(FALSE, TRUE, sizeof(NcStreamRecord)) };
}

static void
piece_free(Piece *p)
{
  g_byte_array_unref(p->raw);
  g_array_unref(p->records);
}

typedef enum { RANDOM, TEXT, SAME_BYTE, SAME_WORD, ALMOST, LOOKS_COUNT } Looks;

static void
paint(uint8_t *page, Looks looks)
{
  static const char *const words[] = { "init ", "daemon ", "0x00000000 ", "error: ", "\n", "systemd[1] ", "the " };
  uint64_t word = (uint64_t)g_test_rand_int() << 32 | (uint32_t)g_test_rand_int_range(0, 1000);
  size_t at = 0;

  switch (looks) {
  case RANDOM:
    for (; at < PAGE; at += 4)
      nc_store_be32(page + at, (uint32_t)g_test_rand_int());
    break;
  case TEXT:
    while (at < PAGE) {
      const char *w = words[g_test_rand_int_range(0, G_N_ELEMENTS(words))];
      size_t n = MIN(strlen(w), PAGE - at);
      memcpy(page + at, w, n);
      at += n;
    }
    break;
  case SAME_BYTE: memset(page, g_test_rand_int_range(0, 4), PAGE); break;
  case SAME_WORD:
  default:
    for (; at < PAGE; at += 8)
      nc_store_be64(page + at, word);
    if (looks == ALMOST)
      page[g_test_rand_bit() ? (gint32)PAGE - 1 : g_test_rand_int_range(0, PAGE)] ^= 1;
  }
}

static void
add_page(Piece *p, uint64_t offset, const char *block, Looks looks)
{
  uint8_t page[PAGE];
  size_t name = block ? strlen(block) + 1 : 0;
  NcStreamRecord rec = { .start = p->raw->len, .header_bytes = (uint16_t)(8 + name), .kind = NC_RECORD_PAGE,
                         .length = (uint32_t)(8 + name + PAGE), .page_offset = offset };
  paint(page, looks);
  nc_put_u64(p->raw, offset | (block ? 0x08 : 0x28));
  if (block) {
    nc_put_u8(p->raw, (uint8_t)strlen(block));
    g_byte_array_append(p->raw, (const uint8_t *)block, (guint)strlen(block));
  }
  g_byte_array_append(p->raw, page, PAGE);
  g_array_append_val(p->records, rec);
}

static void
add_zero(Piece *p, uint64_t offset, const char *block)
{
  size_t name = block ? strlen(block) + 1 : 0;
  NcStreamRecord rec = { .start = p->raw->len, .header_bytes = (uint16_t)(8 + name), .kind = NC_RECORD_ZERO,
                         .length = (uint32_t)(8 + name + 1), .page_offset = offset };
  nc_put_u64(p->raw, offset | (block ? 0x02 : 0x22));
  if (block) {
    nc_put_u8(p->raw, (uint8_t)strlen(block));
    g_byte_array_append(p->raw, (const uint8_t *)block, (guint)strlen(block));
  }
  nc_put_u8(p->raw, 0);
  g_array_append_val(p->records, rec);
}

static void
add_bytes(Piece *p, unsigned n)
{
  while (n-- > 0)
    nc_put_u8(p->raw, (uint8_t)g_test_rand_int());
}

static GByteArray *
encode(NcBatchEncoder *e, const Piece *p, uint64_t offset, NcBatchStats *stats)
{
  GByteArray *payload = nc_batch_encode(e, offset, p->raw->data, p->raw->len,
                                        (const NcStreamRecord *)(void *)p->records->data, p->records->len, stats);
  g_assert_cmpuint(payload->len, <=, p->raw->len + NC_BATCH_HEADER_BYTES + NC_BATCH_SLACK_BYTES);
  return payload;
}

static void
check_round_trip(NcBatchEncoder *e, NcBatchDecoder *d, const Piece *p, NcBatchStats *stats)
{
  g_autoptr(GByteArray) payload = encode(e, p, 4711, stats);
  g_autoptr(GByteArray) back = g_byte_array_new();
  g_autoptr(GError) error = NULL;
  uint64_t offset = 0;

  nc_put_u64(back, 99); /* is replaced */
  nc_batch_decode(d, payload->data, payload->len, back, &offset, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(offset, ==, 4711);
  g_assert_cmpmem(back->data, back->len, p->raw->data, p->raw->len);
}

static void
add_something(Piece *p, uint64_t *offset)
{
  Looks looks = (Looks)g_test_rand_int_range(0, LOOKS_COUNT);
  int run = g_test_rand_int_range(1, 8);

  switch (g_test_rand_int_range(0, 6)) {
  case 0: add_bytes(p, (unsigned)run * 5); break;
  case 1: add_page(p, *offset, "pc.ram", looks); break;
  case 2: add_zero(p, *offset, "vga.vram"); break;
  case 3:
    for (; run > 0; run--, *offset += PAGE)
      add_page(p, *offset, NULL, looks);
    break;
  case 4:
    for (; run > 0; run--, *offset += PAGE)
      add_zero(p, *offset, NULL);
    break;
  default: *offset = (uint64_t)(uint32_t)g_test_rand_int() << 12; break; /* a gap */
  }
}

static void
test_random_streams(void)
{
  for (size_t c = 0; c < G_N_ELEMENTS(compressions); c++) {
    NcBatchPolicy how = policy(compressions[c]);
    g_autoptr(NcBatchEncoder) e = nc_batch_encoder_new(&how);
    g_autoptr(NcBatchDecoder) d = nc_batch_decoder_new();
    for (int i = 0; i < 60; i++) {
      Piece p = piece_new();
      uint64_t offset = 0;
      unsigned target = (unsigned)g_test_rand_int_range(1, 200000);
      while (p.raw->len < target)
        add_something(&p, &offset);
      check_round_trip(e, d, &p, NULL);
      piece_free(&p);
    }
  }
}

/* Hints that lie: the bytes still come out. */
static void
test_records_that_lie(void)
{
  NcBatchPolicy how = policy("lz4");
  g_autoptr(NcBatchEncoder) e = nc_batch_encoder_new(&how);
  g_autoptr(NcBatchDecoder) d = nc_batch_decoder_new();

  for (int i = 0; i < 500; i++) {
    Piece p = piece_new();
    uint64_t offset = 0;
    while (p.raw->len < 30000)
      add_something(&p, &offset);
    for (int k = 0; k < 5 && p.records->len > 0; k++) {
      NcStreamRecord *r = &g_array_index(p.records, NcStreamRecord, g_test_rand_int_range(0, (gint32)p.records->len));
      switch (g_test_rand_int_range(0, 5)) {
      case 0: r->start += (uint32_t)g_test_rand_int_range(-20, 20); break;
      case 1: r->start = (uint32_t)g_test_rand_int(); break;
      case 2: r->kind = (uint8_t)g_test_rand_int_range(0, 4); break;
      case 3: r->header_bytes = (uint16_t)g_test_rand_int(); break;
      default: r->length = (uint32_t)g_test_rand_int(); break;
      }
    }
    check_round_trip(e, d, &p, NULL);
    piece_free(&p);
  }
}

static void
test_sizes_at_the_limits(void)
{
  for (size_t c = 0; c < G_N_ELEMENTS(compressions); c++) {
    static const unsigned sizes[] = { 1, 2, 31, 32, 33, 4095, 4096, 4097, NC_BATCH_RAW_MAX - 1, NC_BATCH_RAW_MAX };
    NcBatchPolicy how = policy(compressions[c]);
    g_autoptr(NcBatchEncoder) e = nc_batch_encoder_new(&how);
    g_autoptr(NcBatchDecoder) d = nc_batch_decoder_new();
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
      Piece random = piece_new(), zeros = piece_new();
      add_bytes(&random, sizes[i]);
      g_byte_array_set_size(zeros.raw, sizes[i]);
      memset(zeros.raw->data, 0, sizes[i]);
      check_round_trip(e, d, &random, NULL);
      check_round_trip(e, d, &zeros, NULL);
      piece_free(&random);
      piece_free(&zeros);
    }
  }
}

/* As many of the shortest records as fit, all in one run: 12 bytes stand for half a megabyte. */
static void
test_a_full_run_of_zero_pages(void)
{
  NcBatchPolicy how = policy("none");
  g_autoptr(NcBatchEncoder) e = nc_batch_encoder_new(&how);
  g_autoptr(NcBatchDecoder) d = nc_batch_decoder_new();
  NcBatchStats stats;
  Piece p = piece_new();

  for (uint64_t i = 0; i < NC_BATCH_RAW_MAX / 9; i++)
    add_zero(&p, i * PAGE, NULL);
  check_round_trip(e, d, &p, &stats);
  g_assert_cmpuint(stats.zero_pages, ==, NC_BATCH_RAW_MAX / 9);
  g_assert_cmpuint(stats.pages, ==, 0);
  g_autoptr(GByteArray) payload = encode(e, &p, 0, NULL);
  g_assert_cmpuint(payload->len, <, 100);
  piece_free(&p);
}

static void
test_what_is_counted(void)
{
  NcBatchPolicy how = policy("zstd");
  g_autoptr(NcBatchEncoder) e = nc_batch_encoder_new(&how);
  g_autoptr(NcBatchDecoder) d = nc_batch_decoder_new();
  NcBatchStats stats;
  Piece p = piece_new();

  add_page(&p, 0, "pc.ram", TEXT);
  add_page(&p, PAGE, NULL, SAME_BYTE);
  add_page(&p, 2 * PAGE, NULL, SAME_WORD);
  add_page(&p, 3 * PAGE, NULL, ALMOST);
  add_zero(&p, 4 * PAGE, NULL);
  add_zero(&p, 5 * PAGE, NULL);
  add_zero(&p, 0, "vga.vram");
  add_bytes(&p, 100);
  check_round_trip(e, d, &p, &stats);
  g_assert_cmpuint(stats.pages, ==, 4);
  g_assert_cmpuint(stats.fill_pages, ==, 2);
  g_assert_cmpuint(stats.zero_pages, ==, 3);
  g_assert_cmpuint(stats.page_bytes_in, ==, 4 * PAGE);
  g_assert_cmpuint(stats.page_bytes_out, >, 2 * 8);
  g_assert_cmpuint(stats.page_bytes_out, <, PAGE);
  piece_free(&p);
}

/* All of a payload is its header and what was counted of its sections, each under the codec that it has. */
static void
test_sections_are_counted_by_codec(void)
{
  for (unsigned i = 0; i < G_N_ELEMENTS(compressions); i++) {
    NcBatchPolicy how = policy(compressions[i]);
    g_autoptr(NcBatchEncoder) e = nc_batch_encoder_new(&how);
    NcBatchStats stats;
    Piece p = piece_new();
    uint64_t sum = 0;

    for (uint64_t k = 0; k < 8; k++)
      add_page(&p, k * PAGE, k == 0 ? "pc.ram" : NULL, TEXT);
    g_autoptr(GByteArray) payload = encode(e, &p, 0, &stats);
    for (unsigned section = 0; section < NC_BATCH_SECTIONS; section++)
      for (unsigned codec = 0; codec < NC_CODEC_COUNT; codec++)
        sum += stats.sections.bytes[section][codec];
    g_assert_cmpuint(sum + NC_BATCH_HEADER_BYTES, ==, payload->len);
    g_assert_cmpuint(stats.sections.bytes[NC_BATCH_SECTION_WHOLE][how.codec], >, 0);
    /* A few operations are too short to be compressed. */
    g_assert_cmpuint(stats.sections.bytes[NC_BATCH_SECTION_OPERATIONS][NC_CODEC_NONE], >, 0);
    piece_free(&p);
  }
}

static void
test_pages_that_repeat_cost_nothing(void)
{
  NcBatchPolicy how = policy("none");
  g_autoptr(NcBatchEncoder) e = nc_batch_encoder_new(&how);
  Piece p = piece_new();

  for (uint64_t i = 0; i < 60; i++)
    add_page(&p, i * PAGE, NULL, SAME_WORD);
  g_autoptr(GByteArray) payload = encode(e, &p, 0, NULL);
  g_assert_cmpuint(payload->len, <, NC_BATCH_HEADER_BYTES + 11 + 60 * 10);
  piece_free(&p);
}

/* The codec changes from batch to batch; the same decoder reads all of them. */
static void
test_policy_changes_on_the_way(void)
{
  NcBatchPolicy how = policy("none");
  g_autoptr(NcBatchEncoder) e = nc_batch_encoder_new(&how);
  g_autoptr(NcBatchDecoder) d = nc_batch_decoder_new();

  for (unsigned i = 0; i < 20; i++) {
    Piece p = piece_new();
    how = policy(compressions[i * 7 % G_N_ELEMENTS(compressions)]);
    nc_batch_encoder_set_policy(e, &how);
    for (uint64_t k = 0; k < 10; k++)
      add_page(&p, k * PAGE, NULL, TEXT);
    check_round_trip(e, d, &p, NULL);
    piece_free(&p);
  }
}

/* A bit in each byte: refused, or (the level, the offset) without effect on the bytes. */
static void
test_every_damaged_byte(void)
{
  for (size_t c = 0; c < 3; c++) {
    NcBatchPolicy how = policy(compressions[c]);
    g_autoptr(NcBatchEncoder) e = nc_batch_encoder_new(&how);
    g_autoptr(NcBatchDecoder) d = nc_batch_decoder_new();
    g_autoptr(GByteArray) back = g_byte_array_new();
    Piece p = piece_new();
    add_bytes(&p, 40);
    add_page(&p, 0, "pc.ram", TEXT);
    add_page(&p, PAGE, NULL, SAME_WORD);
    add_page(&p, 2 * PAGE, NULL, SAME_WORD);
    add_zero(&p, 3 * PAGE, NULL);
    g_autoptr(GByteArray) payload = encode(e, &p, 5, NULL);
    for (unsigned i = 0; i < payload->len; i++) {
      uint8_t was = payload->data[i];
      for (unsigned change = 1; change < 256; change = change < 128 ? change * 2 : change + 127) {
        uint64_t offset;
        payload->data[i] = was ^ (uint8_t)change;
        if (nc_batch_decode(d, payload->data, payload->len, back, &offset, NULL)) {
          g_assert_cmpmem(back->data, back->len, p.raw->data, p.raw->len);
          g_assert_true(offset == 5 || i < 8);
        } else {
          g_assert_cmpuint(back->len, ==, 0);
        }
      }
      payload->data[i] = was;
    }
    piece_free(&p);
  }
}

static void
test_every_truncation_and_a_byte_more(void)
{
  NcBatchPolicy how = policy("zstd");
  g_autoptr(NcBatchEncoder) e = nc_batch_encoder_new(&how);
  g_autoptr(NcBatchDecoder) d = nc_batch_decoder_new();
  g_autoptr(GByteArray) back = g_byte_array_new();
  Piece p = piece_new();
  uint64_t offset = 77;

  add_page(&p, 0, "pc.ram", TEXT);
  add_zero(&p, 3 * PAGE, NULL);
  g_autoptr(GByteArray) payload = encode(e, &p, 5, NULL);
  for (unsigned n = 0; n < payload->len; n++)
    g_assert_false(nc_batch_decode(d, payload->data, n, back, &offset, NULL));
  nc_put_u8(payload, 0);
  g_assert_false(nc_batch_decode(d, payload->data, payload->len, back, &offset, NULL));
  g_assert_cmpuint(offset, ==, 77);
  piece_free(&p);
}

/* A plain payload put together by hand. */
static GByteArray *
forge(const GByteArray *meta, const GByteArray *bulk, uint32_t raw_len, const uint8_t sha256[NC_SHA256_BYTES])
{
  GByteArray *out = g_byte_array_new();

  nc_put_u64(out, 0);
  nc_put_u32(out, raw_len);
  g_byte_array_append(out, sha256, NC_SHA256_BYTES);
  nc_put_u32(out, 0); /* codec, level, flags */
  nc_put_u32(out, meta->len);
  nc_put_u32(out, meta->len);
  nc_put_u32(out, bulk->len);
  g_byte_array_append(out, meta->data, meta->len);
  g_byte_array_append(out, bulk->data, bulk->len);
  return out;
}

/* Operations in hexadecimal, for a piece of raw_len bytes with so many pages in bulk. */
static void
test_operations_that_are_refused(void)
{
  static const struct {
    const char *why, *meta;
    uint32_t raw_len;
    unsigned bulk_pages;
    bool good;
  } cases[] = {
    { "a literal", "0103000000", 3, 0, true },
    { "operation 0", "00", 1, 0, false },
    { "operation 5", "0501", 1, 0, false },
    { "operation 255", "ff01", 1, 0, false },
    { "literal of none", "0100", 1, 0, false },
    { "literal longer than the piece", "0103000000", 2, 0, false },
    { "literal shorter than the piece", "0103000000", 4, 0, false },
    { "literal longer than meta", "01040000", 4, 0, false },
    { "literal of 2^63", "01ffffffffffffffff7f", 10, 0, false },
    { "count of eleven bytes", "01ffffffffffffffffff01", 10, 0, false },
    { "something behind the last", "01030000000101", 3, 0, false },
    { "one page", "0200000000000000000101" "01", 4104, 1, true },
    { "a page without content", "0200000000000000000101" "01", 4104, 0, false },
    { "a page of content too many", "0108" "0000000000000000" "0401", 8 + 4096, 1, true },
    { "a page left over", "0108" "0000000000000000" "04020000000000000000", 8 + 4096, 1, false },
    { "run of none", "02000000000000000000", 4104, 0, false },
    { "run longer than the piece", "02000000000000000002" "0202" "0000000000000000", 8207, 0, false },
    { "run that fits", "02000000000000000002" "0202" "0000000000000000", 8208, 0, true },
    { "run without segments", "02000000000000000001", 4104, 0, false },
    { "segment of none", "02000000000000000001" "0200" "0000000000000000", 4104, 0, false },
    { "segment longer than the run", "02000000000000000001" "0202" "0000000000000000", 4104, 0, false },
    { "two segments", "02000000000000000002" "0201" "0000000000000000" "0201" "0000000000000000", 8208, 0, true },
    { "class 0", "02000000000000000001" "0001" "0000000000000000", 4104, 0, false },
    { "class reference", "02000000000000000001" "0301" "0000000000000000", 4104, 0, false },
    { "class delta", "02000000000000000001" "0401" "0000000000000000", 4104, 0, false },
    { "half a pattern", "02000000000000000001" "0201" "00000000", 4104, 0, false },
    { "half a word", "0200000000", 4104, 0, false },
    { "zero run", "03000000000000000003", 27, 0, true },
    { "zero run too long", "03000000000000000004", 35, 0, false },
    { "zero run of none", "03000000000000000000", 9, 0, false },
    { "zero run of 2^63", "03" "0000000000000000" "ffffffffffffffff7f", 27, 0, false },
    { "zero run of 2^64/9", "03" "0000000000000000" "9cc7f1f8e3c7f1f81c", 27, 0, false },
    { "page without room", "0401", 4095, 0, false },
    { "page without class", "04", 4096, 0, false },
  };
  g_autoptr(NcBatchDecoder) d = nc_batch_decoder_new();
  g_autoptr(GByteArray) back = g_byte_array_new();
  static const uint8_t wrong[NC_SHA256_BYTES];

  /* The digest is wrong in any case: well-formed ones get as far as CORRUPT, others don't. */
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GByteArray) meta = g_byte_array_new(), bulk = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    uint64_t offset;
    g_byte_array_set_size(meta, (guint)strlen(cases[i].meta) / 2);
    g_assert_true(nc_hex_decode(cases[i].meta, meta->data, meta->len));
    g_byte_array_set_size(bulk, cases[i].bulk_pages * PAGE);
    if (bulk->len > 0)
      memset(bulk->data, 0, bulk->len);
    g_autoptr(GByteArray) payload = forge(meta, bulk, cases[i].raw_len, wrong);
    g_assert_false(nc_batch_decode(d, payload->data, payload->len, back, &offset, &error));
    if (!g_error_matches(error, NC_ERROR, cases[i].good ? NC_ERROR_CORRUPT : NC_ERROR_PROTOCOL))
      g_error("%s: %s", cases[i].why, error->message);
  }
}

static void
test_headers_that_are_refused(void)
{
  static const struct {
    const char *why;
    size_t at;
    uint32_t value; /* of 4 bytes */
  } cases[] = {
    { "length 0", 8, 0 },
    { "length beyond the limit", 8, NC_BATCH_RAW_MAX + 1 },
    { "length of 4 GiB", 8, G_MAXUINT32 },
    { "offset of 2^63", 0, 0x80000000u },
    { "codec 3", 44, 0x03000001u },
    { "flag 4", 44, 0x01000004u },
    { "no flag", 44, 0x01000000u },
    { "flags without codec", 44, 0x00000001u },
    { "lz4 with a level", 44, 0x01010001u },
    { "zstd of level 127", 44, 0x027f0001u },
    { "meta longer than the payload", 48, 10000 },
    { "meta of 4 GiB", 48, G_MAXUINT32 },
    { "meta that becomes nothing", 52, 0 },
    { "meta that becomes more than the piece", 52, 5000 },
    { "meta that becomes 4 GiB", 52, G_MAXUINT32 },
    { "bulk that becomes more than the piece", 56, 8192 },
    { "half a page of bulk", 56, 2048 },
    { "bulk that becomes almost 4 GiB", 56, 0xfffff000u },
  };
  NcBatchPolicy how = policy("lz4");
  g_autoptr(NcBatchEncoder) e = nc_batch_encoder_new(&how);
  g_autoptr(NcBatchDecoder) d = nc_batch_decoder_new();
  g_autoptr(GByteArray) back = g_byte_array_new();
  Piece p = piece_new();

  g_byte_array_set_size(p.raw, 4500);
  memset(p.raw->data, 7, p.raw->len);
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GByteArray) payload = encode(e, &p, 0, NULL);
    g_autoptr(GError) error = NULL;
    uint64_t offset;
    g_assert_true(nc_batch_decode(d, payload->data, payload->len, back, &offset, NULL));
    nc_store_be32(payload->data + cases[i].at, cases[i].value);
    if (nc_batch_decode(d, payload->data, payload->len, back, &offset, &error))
      g_error("%s was accepted", cases[i].why);
    g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
  }
  piece_free(&p);
}

/* A coded section that decompresses to more, or to less, than the header says. */
static void
test_decompression_is_exact(void)
{
  static const int changes[] = { -1, 1, 100, -100 };

  for (size_t c = 1; c < 3; c++) {
    NcBatchPolicy how = policy(compressions[c]);
    g_autoptr(NcBatchEncoder) e = nc_batch_encoder_new(&how);
    g_autoptr(NcBatchDecoder) d = nc_batch_decoder_new();
    g_autoptr(GByteArray) back = g_byte_array_new();
    Piece p = piece_new();
    uint64_t offset;
    g_byte_array_set_size(p.raw, 100000);
    memset(p.raw->data, 7, p.raw->len);
    g_autoptr(GByteArray) payload = encode(e, &p, 0, NULL);
    uint32_t meta = nc_be32(payload->data + 52);
    for (size_t i = 0; i < G_N_ELEMENTS(changes); i++) {
      nc_store_be32(payload->data + 52, meta + (uint32_t)changes[i]);
      nc_store_be32(payload->data + 8, 100000 + (uint32_t)changes[i]);
      g_assert_false(nc_batch_decode(d, payload->data, payload->len, back, &offset, NULL));
    }
    piece_free(&p);
  }
}

static void
test_noise_is_refused(void)
{
  g_autoptr(NcBatchDecoder) d = nc_batch_decoder_new();
  g_autoptr(GByteArray) back = g_byte_array_new();

  for (unsigned i = 0; i < 20000; i++) {
    uint8_t noise[300];
    uint64_t offset;
    for (size_t k = 0; k < sizeof noise; k++)
      noise[k] = (uint8_t)g_test_rand_int();
    /* plausible lengths, so that the noise gets further than the header */
    memset(noise, 0, 12);
    noise[10] = 1;
    nc_store_be32(noise + 44, (uint32_t)g_test_rand_int_range(0, 3) << 24 | (uint32_t)g_test_rand_int_range(0, 4));
    nc_store_be32(noise + 48, (uint32_t)g_test_rand_int_range(1, 240));
    nc_store_be32(noise + 52, (uint32_t)g_test_rand_int_range(1, 260));
    nc_store_be32(noise + 56, 0);
    g_assert_false(nc_batch_decode(d, noise, (size_t)g_test_rand_int_range(0, sizeof noise), back, &offset, NULL));
  }
}

static void
test_compression_as_text(void)
{
  static const struct {
    const char *text;
    int codec, level; /* codec -1: refused */
  } cases[] = {
    { "auto", NC_CODEC_LZ4, 0 },
    { "auto:1", -1, 0 },
    { "none", NC_CODEC_NONE, 0 },
    { "lz4", NC_CODEC_LZ4, 0 },
    { "zstd", NC_CODEC_ZSTD, 1 },
    { "zstd:9", NC_CODEC_ZSTD, 9 },
    { "zstd:-5", NC_CODEC_ZSTD, -5 },
    { "zstd:1", NC_CODEC_ZSTD, 1 },
    { "zstd:10", -1, 0 },
    { "zstd:-6", -1, 0 },
    { "zstd:0", -1, 0 },
    { "zstd:", -1, 0 },
    { "zstd:x", -1, 0 },
    { "zstd:1x", -1, 0 },
    { "zstd: 1", -1, 0 },
    { "zstd:99999999999999999999", -1, 0 },
    { "lz4:1", -1, 0 },
    { "none:0", -1, 0 },
    { "", -1, 0 },
    { ":", -1, 0 },
    { "zst", -1, 0 },
    { "zstdx", -1, 0 },
    { "ZSTD", -1, 0 },
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    NcBatchPolicy ret = { .level = 42 };
    g_autoptr(GError) error = NULL;
    bool ok = nc_compression_parse(cases[i].text, &ret, &error);
    if (ok != (cases[i].codec >= 0))
      g_error("\"%s\" was %s", cases[i].text, ok ? "accepted" : "refused");
    if (!ok) {
      g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
      g_assert_cmpint(ret.level, ==, 42);
      continue;
    }
    g_assert_cmpint(ret.codec, ==, cases[i].codec);
    g_assert_cmpint(ret.level, ==, cases[i].level);
    g_assert_cmpint(ret.is_auto, ==, g_str_equal(cases[i].text, "auto"));
  }
}

/* Pages of ${random} bytes or of words, through a new encoder with ${how}: its statistics. */
static NcBatchStats
stats_of(const NcBatchPolicy *how, bool random, size_t *ret_len)
{
  g_autoptr(NcBatchEncoder) e = nc_batch_encoder_new(how);
  g_autofree uint8_t *raw = g_malloc(65536);
  NcBatchStats stats;

  for (unsigned i = 0; i < 65536; i++)
    raw[i] = random ? (uint8_t)g_test_rand_int() : (uint8_t) "migration "[i % 10] ^ (uint8_t)(g_test_rand_int() % 2);
  g_autoptr(GByteArray) payload = nc_batch_encode(e, 0, raw, 65536, NULL, 0, &stats);
  *ret_len = payload->len;
  return stats;
}

/* What the tuner is told: the same bytes are worth it on each rung, and random ones on none. */
static void
test_facts_for_the_tuner(void)
{
  NcBatchPolicy how[] = { policy("auto"), policy("auto"), policy("auto") };
  size_t len;

  how[0].codec = NC_CODEC_NONE;
  how[1].codec = NC_CODEC_ZSTD;
  how[1].level = 3;
  for (size_t i = 0; i < G_N_ELEMENTS(how); i++) {
    NcBatchStats stats = stats_of(&how[i], false, &len);
    g_assert_cmpuint(stats.codable_bytes, >=, 65536);
    g_assert_cmpfloat(stats.estimate, <, 0.9);
    g_assert_cmpuint(stats.coded_bytes + NC_BATCH_HEADER_BYTES, ==, len);
    g_assert_true((stats.coded_bytes < stats.codable_bytes) == (how[i].codec != NC_CODEC_NONE));
    stats = stats_of(&how[i], true, &len);
    g_assert_cmpuint(stats.codable_bytes, ==, 0);
    g_assert_cmpuint(len, >, 65536);
  }
  NcBatchPolicy fixed = policy("zstd:3");
  g_assert_cmpuint(stats_of(&fixed, false, &len).codable_bytes, ==, 0);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/batch/random_streams", test_random_streams);
  g_test_add_func("/batch/records_that_lie", test_records_that_lie);
  g_test_add_func("/batch/sizes_at_the_limits", test_sizes_at_the_limits);
  g_test_add_func("/batch/a_full_run_of_zero_pages", test_a_full_run_of_zero_pages);
  g_test_add_func("/batch/what_is_counted", test_what_is_counted);
  g_test_add_func("/batch/sections_are_counted_by_codec", test_sections_are_counted_by_codec);
  g_test_add_func("/batch/pages_that_repeat_cost_nothing", test_pages_that_repeat_cost_nothing);
  g_test_add_func("/batch/policy_changes_on_the_way", test_policy_changes_on_the_way);
  g_test_add_func("/batch/every_damaged_byte", test_every_damaged_byte);
  g_test_add_func("/batch/every_truncation_and_a_byte_more", test_every_truncation_and_a_byte_more);
  g_test_add_func("/batch/operations_that_are_refused", test_operations_that_are_refused);
  g_test_add_func("/batch/headers_that_are_refused", test_headers_that_are_refused);
  g_test_add_func("/batch/decompression_is_exact", test_decompression_is_exact);
  g_test_add_func("/batch/noise_is_refused", test_noise_is_refused);
  g_test_add_func("/batch/facts_for_the_tuner", test_facts_for_the_tuner);
  g_test_add_func("/batch/compression_as_text", test_compression_as_text);
  return g_test_run();
}
