/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches from a peer. The first byte chooses: even, the rest is a payload to
 * decode. Odd, the rest becomes a piece of stream with records, true or
 * false, is coded, must come back as it was, and must not come back as anything else after
 * one of its bytes has been changed. With 2 in it, there is a list of stored pages: to decode, of patterns, of which some can't be had;
 * to code, every other page of the piece is in it.
 */
#include "base/bytes.h"
#include "crypto/digest.h"
#include "wire/batch.h"

#include <stdlib.h>

#define FUZZ_MAX_RECORDS 64

#define FUZZ_PATTERNS 300u /* stored pages, each filled with its number, */
#define FUZZ_MISSING 7u    /* of which each seventh can't be had */

/* A page store: the pages of a piece, or patterns. */
typedef struct {
  const uint8_t *pages[FUZZ_MAX_RECORDS];
  uint32_t n; /* 0: patterns */
} FuzzStore;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_decode(NcBatchDecoder *d, GByteArray *raw, const uint8_t *payload, size_t length)
{
  g_autoptr(GError) error = NULL;
  uint64_t offset = 0;

  if (nc_batch_decode(d, payload, length, raw, &offset, &error)) {
    if (error || raw->len == 0 || raw->len > NC_BATCH_RAW_MAX || offset > G_MAXINT64)
      abort();
  } else if (!error || raw->len != 0) {
    abort();
  }
}

static bool
fuzz_read_stored(void *data, const uint32_t *numbers, uint32_t n, uint8_t *to, size_t step)
{
  const FuzzStore *s = data;

  if (n == 0 || n > NC_STORED_READ_MAX)
    abort();
  for (uint32_t i = 0; i < n; i++) {
    if (numbers[i] >= (s->n > 0 ? s->n : FUZZ_PATTERNS))
      abort();
    if (s->n > 0)
      memcpy(to + i * step, s->pages[numbers[i]], NC_STREAM_PAGE_BYTES);
    else if (numbers[i] % FUZZ_MISSING == 0)
      return false;
    else
      memset(to + i * step, (int)numbers[i], NC_STREAM_PAGE_BYTES);
  }
  return true;
}

/* Every other page that is where its record says it is. */
static NcStoredIndex *
fuzz_fill_store(FuzzStore *s, const GByteArray *raw, const NcStreamRecord *records, size_t n)
{
  uint8_t *prefixes = g_malloc(FUZZ_MAX_RECORDS * NC_STORED_PREFIX_BYTES), sha256[NC_SHA256_BYTES];

  for (size_t i = 0; i < n; i += 2) {
    const NcStreamRecord *r = &records[i];
    if (r->kind != NC_RECORD_PAGE || r->start > raw->len || raw->len - r->start < r->header_bytes + NC_STREAM_PAGE_BYTES)
      continue;
    s->pages[s->n] = raw->data + r->start + r->header_bytes;
    nc_sha256(s->pages[s->n], NC_STREAM_PAGE_BYTES, sha256);
    memcpy(prefixes + (size_t)s->n++ * NC_STORED_PREFIX_BYTES, sha256, NC_STORED_PREFIX_BYTES);
  }
  return nc_stored_index_new(prefixes, s->n);
}

/* A count, then 4 bytes each: kind, start, and whether the length is a lie. */
static size_t
fuzz_read_records(NcReader *r, NcStreamRecord *records)
{
  uint8_t count = 0;
  size_t n;

  nc_reader_u8(r, &count);
  for (n = 0; n < count % FUZZ_MAX_RECORDS; n++) {
    uint8_t kind, lie;
    uint16_t start;
    if (!nc_reader_u8(r, &kind) || !nc_reader_u16(r, &start) || !nc_reader_u8(r, &lie))
      break;
    uint16_t header = (uint16_t)(8 + (kind & 0x80 ? kind & 0x1f : 0));
    records[n] = (NcStreamRecord){ .start = start, .kind = kind & 1, .header_bytes = header };
    records[n].length = header + (kind & 1 ? 1 : NC_STREAM_PAGE_BYTES) + (lie == 0xff);
  }
  return n;
}

/* The input, each byte ${times} times: pages out of few bytes. */
static GByteArray *
fuzz_stretch(const NcReader *r, unsigned times)
{
  GByteArray *raw = g_byte_array_new();

  for (const uint8_t *at = r->at; at < r->end && raw->len + times <= 65536; at++)
    for (unsigned i = 0; i < times; i++)
      nc_put_u8(raw, *at);
  return raw;
}

static void
fuzz_damage(NcBatchDecoder *d, GByteArray *payload, const GByteArray *raw, uint16_t where, uint8_t change)
{
  g_autoptr(GByteArray) back = g_byte_array_new();
  uint64_t offset;

  payload->data[where % payload->len] ^= change;
  if (nc_batch_decode(d, payload->data, payload->len, back, &offset, NULL) &&
      (back->len != raw->len || memcmp(back->data, raw->data, raw->len) != 0))
    abort();
}

static void
fuzz_round_trip(NcBatchDecoder *d, bool stored, NcReader *r)
{
  static const char *const compressions[] = { "none", "lz4", "zstd:1", "zstd:-3" };
  static NcBatchEncoder *encoder; /* kept, as a worker keeps it */
  NcStreamRecord records[FUZZ_MAX_RECORDS];
  NcBatchPolicy policy;
  uint8_t how, change;
  uint16_t where;
  uint64_t offset;

  if (!nc_reader_u8(r, &how) || !nc_reader_u16(r, &where) || !nc_reader_u8(r, &change))
    return;
  size_t n = fuzz_read_records(r, records);
  g_autoptr(GByteArray) raw = fuzz_stretch(r, 1 + (how >> 2));
  if (raw->len == 0 || !nc_compression_parse(compressions[how & 3], &policy, NULL))
    return;
  if (!encoder)
    encoder = nc_batch_encoder_new(&policy);
  nc_batch_encoder_set_policy(encoder, &policy);
  FuzzStore store = { .n = 0 };
  g_autoptr(NcStoredIndex) index = stored ? fuzz_fill_store(&store, raw, records, n) : NULL;
  const NcStoredPages pages = { .count = store.n, .data = &store, .read = fuzz_read_stored };
  nc_batch_encoder_use_stored(encoder, index);
  nc_batch_decoder_use_stored(d, store.n > 0 ? &pages : NULL);
  g_autoptr(GByteArray) payload = nc_batch_encode(encoder, 9, raw->data, raw->len, records, n, NULL);
  g_autoptr(GByteArray) back = g_byte_array_new();
  if (payload->len > raw->len + NC_BATCH_HEADER_BYTES + NC_BATCH_SLACK_BYTES ||
      !nc_batch_decode(d, payload->data, payload->len, back, &offset, NULL) || offset != 9 || back->len != raw->len ||
      memcmp(back->data, raw->data, raw->len) != 0)
    abort();
  fuzz_damage(d, payload, raw, where, change);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static NcBatchDecoder *decoder;
  g_autoptr(GByteArray) raw = g_byte_array_new();
  NcReader r = nc_reader(data, size);
  static FuzzStore patterns;
  static const NcStoredPages pages = { .count = FUZZ_PATTERNS, .data = &patterns, .read = fuzz_read_stored };
  uint8_t mode;

  if (!decoder)
    decoder = nc_batch_decoder_new();
  if (!nc_reader_u8(&r, &mode))
    return 0;
  nc_batch_decoder_use_stored(decoder, mode & 2 ? &pages : NULL);
  if (mode & 1)
    fuzz_round_trip(decoder, mode & 2, &r);
  else
    fuzz_decode(decoder, raw, r.at, nc_reader_left(&r));
  return 0;
}
