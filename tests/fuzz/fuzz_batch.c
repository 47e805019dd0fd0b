/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches from a peer. The first byte chooses: even, the rest is a payload to
 * decode. Odd, the rest becomes a piece of stream with records, true or
 * false, is coded, must come back as it was, and must not come back as anything else after
 * one of its bytes has been changed.
 */
#include "base/bytes.h"
#include "wire/batch.h"

#include <stdlib.h>

#define FUZZ_MAX_RECORDS 64

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
fuzz_round_trip(NcBatchDecoder *d, NcReader *r)
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
  uint8_t mode;

  if (!decoder)
    decoder = nc_batch_decoder_new();
  if (!nc_reader_u8(&r, &mode))
    return 0;
  if (mode & 1)
    fuzz_round_trip(decoder, &r);
  else
    fuzz_decode(decoder, raw, r.at, nc_reader_left(&r));
  return 0;
}
