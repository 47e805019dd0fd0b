/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast one core codes and decodes batches, per codec and kind of page; and
 * what the estimate of compressibility says of the same pages, and takes.
 *
 * codec_bench [SECONDS]: two tables on standard output. Pages are made up here
 * (text of a log, tables of integers, random bytes, and a mix with zero and fill pages), so
 * numbers compare machines and versions, not guests. Rates are raw bytes of the stream.
 */
#include "base/ident.h"
#include "wire/batch.h"
#include "wire/estimate.h"

#include <stdio.h>
#include <stdlib.h>

#define BATCHES 32
#define PAGES_PER_BATCH 63 /* just below NC_BATCH_RAW_TARGET */

typedef enum { TEXT, INTEGERS, RANDOM, FILL, ZERO, KIND_COUNT } Kind;

typedef struct {
  GByteArray *raw;
  GArray *records;
} Piece;

static uint32_t
next_random(void)
{
  static uint64_t state = 88172645463325252ull; /* xorshift64: the same pages each time */
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 16);
}

static void
paint_text(uint8_t *page)
{
  static const char *const lines[] = { "systemd[1]: Started Session %u of user root.\n",
                                       "kernel: [%u.000412] eth0: link becomes ready\n",
                                       "GET /api/v2/machines/%u HTTP/1.1 200 \"curl/7.88\"\n",
                                       "sshd[%u]: Accepted publickey for operator from 192.0.2.17\n" };
  size_t at = 0;

  while (at < NC_STREAM_PAGE_BYTES) {
    char line[100];
    uint32_t r = next_random();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = (size_t)snprintf(line, sizeof line, lines[r % G_N_ELEMENTS(lines)], r >> 12);
#pragma GCC diagnostic pop
    n = MIN(n, NC_STREAM_PAGE_BYTES - at);
    memcpy(page + at, line, n);
    at += n;
  }
}

static void
paint(uint8_t *page, Kind kind)
{
  uint64_t word = next_random();

  if (kind == TEXT) {
    paint_text(page);
    return;
  }
  for (size_t i = 0; i < NC_STREAM_PAGE_BYTES; i += 8) {
    if (kind == INTEGERS)
      word += next_random() % 64;
    else if (kind == RANDOM)
      word = (uint64_t)next_random() << 32 | next_random();
    memcpy(page + i, &word, 8);
  }
}

static void
add_record(Piece *p, uint64_t offset, Kind kind)
{
  uint8_t page[NC_STREAM_PAGE_BYTES] = { 0 };
  uint32_t body = kind == ZERO ? 1 : NC_STREAM_PAGE_BYTES;
  uint64_t word = GUINT64_TO_BE(offset | (kind == ZERO ? 0x22 : 0x28));
  NcStreamRecord rec = { .start = p->raw->len,
                         .header_bytes = 8,
                         .length = 8 + body,
                         .page_offset = offset,
                         .kind = kind == ZERO ? NC_RECORD_ZERO : NC_RECORD_PAGE };

  if (kind != ZERO)
    paint(page, kind);
  g_byte_array_append(p->raw, (const uint8_t *)&word, sizeof word);
  g_byte_array_append(p->raw, page, body);
  g_array_append_val(p->records, rec);
}

/* KIND_COUNT: a mix. */
static void
make_pieces(Piece *pieces, Kind kind)
{
  uint64_t offset = 0;

  for (int i = 0; i < BATCHES; i++) {
    pieces[i] = (Piece){ g_byte_array_new(), g_array_new(FALSE, FALSE, sizeof(NcStreamRecord)) };
    for (int k = 0; k < PAGES_PER_BATCH; k++, offset += NC_STREAM_PAGE_BYTES)
      add_record(&pieces[i], offset, kind == KIND_COUNT ? (Kind)(next_random() % KIND_COUNT) : kind);
  }
}

static void
free_pieces(Piece *pieces)
{
  for (int i = 0; i < BATCHES; i++) {
    g_byte_array_unref(pieces[i].raw);
    g_array_unref(pieces[i].records);
  }
}

static GByteArray *
encode(NcBatchEncoder *e, const Piece *p)
{
  return nc_batch_encode(e, 0, p->raw->data, p->raw->len, (const NcStreamRecord *)(void *)p->records->data,
                         p->records->len, NULL);
}

/* Both ways for ${seconds} each; prints a row. False if a batch did not come back. */
static bool
measure(const char *compression, const char *kind, Piece *pieces, double seconds)
{
  NcBatchPolicy policy;
  GByteArray *coded[BATCHES];
  uint64_t in = 0, in_all = 0, out = 0, back_bytes = 0, offset;

  if (!nc_compression_parse(compression, &policy, NULL))
    return false;
  g_autoptr(NcBatchEncoder) e = nc_batch_encoder_new(&policy);
  g_autoptr(NcBatchDecoder) d = nc_batch_decoder_new();
  g_autoptr(GByteArray) raw = g_byte_array_new();
  for (int i = 0; i < BATCHES; i++) {
    coded[i] = encode(e, &pieces[i]);
    out += coded[i]->len;
    in_all += pieces[i].raw->len;
  }
  int64_t start_us = nc_mono_us(), now_us;
  for (unsigned i = 0; (now_us = nc_mono_us()) - start_us < seconds * 1e6; i++) {
    g_byte_array_unref(encode(e, &pieces[i % BATCHES]));
    in += pieces[i % BATCHES].raw->len;
  }
  double encode_rate = (double)in / (double)(now_us - start_us);
  bool ok = true;
  start_us = nc_mono_us();
  for (unsigned i = 0; (now_us = nc_mono_us()) - start_us < seconds * 1e6; i++) {
    GByteArray *c = coded[i % BATCHES];
    ok = nc_batch_decode(d, c->data, c->len, raw, &offset, NULL) && ok;
    back_bytes += raw->len;
  }
  printf("%-8s %-9s %8.0f %8.0f %7.2f\n", compression, kind, encode_rate,
         (double)back_bytes / (double)(now_us - start_us), (double)in_all / (double)out);
  for (int i = 0; i < BATCHES; i++)
    g_byte_array_unref(coded[i]);
  return ok;
}

/* What zstd:1 alone makes of a byte of ${p}. */
static double
real_share(const Piece *p)
{
  NcCodecContext *context = nc_codec_zstd.context_new();
  uint8_t *to = g_malloc(p->raw->len);
  size_t n = nc_codec_zstd.encode(context, 1, p->raw->data, p->raw->len, to, p->raw->len - 1);

  nc_codec_zstd.context_free(context);
  g_free(to);
  return n == 0 ? 1 : (double)n / p->raw->len;
}

/* A row of what nc_estimate() says, what is true, and how long it takes. */
static void
measure_estimate(const char *kind, const Piece *pieces, double seconds)
{
  double guess = 0, real = 0;
  unsigned runs = 0;

  for (int i = 0; i < BATCHES; i++) {
    guess += nc_estimate(pieces[i].raw->data, pieces[i].raw->len) / BATCHES;
    real += real_share(&pieces[i]) / BATCHES;
  }
  int64_t start_us = nc_mono_us(), now_us;
  volatile double sum = 0; /* it is to be computed */
  for (; (now_us = nc_mono_us()) - start_us < seconds * 1e6; runs++)
    sum += nc_estimate(pieces[runs % BATCHES].raw->data, pieces[runs % BATCHES].raw->len);
  printf("%-9s %8.3f %8.3f %8.1f\n", kind, guess, real, (double)(now_us - start_us) / runs);
}

int
main(int argc, char **argv)
{
  static const char *const compressions[] = { "none",   "lz4",    "zstd:-5", "zstd:-3", "zstd:-1",
                                              "zstd:1", "zstd:3", "zstd:5",  "zstd:7",  "zstd:9" };
  static const char *const kinds[] = { "text", "integers", "random", "fill", "zero", "mix" };
  double seconds = argc > 1 ? g_ascii_strtod(argv[1], NULL) : 0.5;
  bool ok = true;

  printf("%-8s %-9s %8s %8s %7s\n", "codec", "pages", "enc MB/s", "dec MB/s", "ratio");
  for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++) {
    Piece pieces[BATCHES];
    make_pieces(pieces, (Kind)k);
    for (size_t c = 0; c < G_N_ELEMENTS(compressions); c++)
      ok = measure(compressions[c], kinds[k], pieces, seconds) && ok;
    free_pieces(pieces);
  }
  printf("\n%-9s %8s %8s %8s\n", "pages", "estimate", "zstd:1", "us/batch");
  for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++) {
    Piece pieces[BATCHES];
    make_pieces(pieces, (Kind)k);
    measure_estimate(kinds[k], pieces, seconds);
    free_pieces(pieces);
  }
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
