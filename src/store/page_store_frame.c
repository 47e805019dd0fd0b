/* SPDX-License-Identifier: Apache-2.0 */
/* Compression by zstd in contexts that each thread keeps; encryption by crypto/seal. */
#include "store/page_store_frame.h"

#include <string.h>
#include <zstd.h>

static void
nc_frame_free_encoder(gpointer encoder)
{
  ZSTD_freeCCtx(encoder);
}

static void
nc_frame_free_decoder(gpointer decoder)
{
  ZSTD_freeDCtx(decoder);
}

static ZSTD_CCtx *
nc_frame_encoder(void)
{
  static GPrivate mine = G_PRIVATE_INIT(nc_frame_free_encoder);

  if (!g_private_get(&mine))
    g_private_set(&mine, ZSTD_createCCtx());
  return g_private_get(&mine);
}

static ZSTD_DCtx *
nc_frame_decoder(void)
{
  static GPrivate mine = G_PRIVATE_INIT(nc_frame_free_decoder);

  if (!g_private_get(&mine))
    g_private_set(&mine, ZSTD_createDCtx());
  return g_private_get(&mine);
}

unsigned
nc_frame_fit(const NcFrameBlock *blocks, unsigned count)
{
  uint32_t raw = 0;
  unsigned n = 0;

  while (n < count && n < NC_RECORD_BLOCKS_MAX && blocks[n].length <= NC_RECORD_RAW_MAX - raw)
    raw += blocks[n++].length;
  return n;
}

/* Compresses ${raw} bytes to ${to} if that pays; the length, or 0. */
static size_t
nc_frame_compress(const uint8_t *from, uint32_t raw, uint8_t *to, int level)
{
  ZSTD_CCtx *encoder = nc_frame_encoder();
  if (!encoder)
    return 0;
  size_t n = ZSTD_compressCCtx(encoder, to, raw - raw / 16, from, raw, level);
  return ZSTD_isError(n) ? 0 : n;
}

void
nc_frame_build(NcFrame *frame, const NcFrameBlock *blocks, unsigned count, int level)
{
  NcRecordHead *head = &frame->head;
  uint32_t at = 0;

  *frame = (NcFrame){ .head = { .kind = NC_RECORD_BLOCKS, .count = (uint16_t)count } };
  for (unsigned i = 0; i < count; i++)
    head->raw_bytes += blocks[i].length;
  frame->bytes = g_malloc(nc_record_total(count, head->raw_bytes + NC_SEAL_TAG_BYTES));
  uint8_t *table = frame->bytes + NC_RECORD_HEAD_BYTES, *payload = frame->bytes + nc_record_front_bytes(head);
  g_autofree uint8_t *raw = g_malloc(head->raw_bytes);
  for (unsigned i = 0; i < count; i++) {
    memcpy(table + i * NC_RECORD_ENTRY_BYTES, blocks[i].address, NC_ADDRESS_BYTES);
    nc_store_be32(table + i * NC_RECORD_ENTRY_BYTES + NC_ADDRESS_BYTES, blocks[i].length);
    memcpy(raw + at, blocks[i].data, blocks[i].length);
    at += blocks[i].length;
  }
  head->payload_bytes = (uint32_t)nc_frame_compress(raw, head->raw_bytes, payload, level);
  head->coding = head->payload_bytes ? NC_CODING_ZSTD : NC_CODING_PLAIN;
  if (!head->payload_bytes) {
    memcpy(payload, raw, head->raw_bytes);
    head->payload_bytes = head->raw_bytes;
  }
}

void
nc_frame_clear(NcFrame *frame)
{
  g_clear_pointer(&frame->bytes, g_free);
}

uint32_t
nc_frame_record_bytes(const NcFrame *frame, bool encrypted)
{
  return nc_record_total(frame->head.count, frame->head.payload_bytes + (encrypted ? NC_SEAL_TAG_BYTES : 0));
}

void
nc_frame_finish(NcFrame *frame, const NcPackHeader *pack, uint32_t offset, NcSealer *sealer)
{
  NcRecordHead *head = &frame->head;

  if (sealer) {
    uint32_t front = nc_record_front_bytes(head), plain = head->payload_bytes;
    uint32_t table = front - NC_RECORD_HEAD_BYTES;
    g_autofree uint8_t *aad = g_malloc(NC_RECORD_AAD_BYTES + table);
    head->payload_bytes = plain + NC_SEAL_TAG_BYTES;
    nc_sealer_peek_nonce(sealer, head->nonce);
    nc_record_aad(pack, offset, head, aad);
    memcpy(aad + NC_RECORD_AAD_BYTES, frame->bytes + NC_RECORD_HEAD_BYTES, table);
    nc_sealer_seal(sealer, aad, NC_RECORD_AAD_BYTES + table, frame->bytes + front, plain, head->nonce, frame->bytes + front);
  }
  nc_record_finish(pack, offset, head, frame->bytes);
}

/* Decompresses, or copies, exactly head->raw_bytes to ${to}. */
static bool
nc_decoded_fill(const NcRecordHead *head, const uint8_t *coded, size_t coded_bytes, uint8_t *to, GError **error)
{
  if (head->coding == NC_CODING_PLAIN) {
    if (coded_bytes != head->raw_bytes)
      return nc_fail(error, NC_ERROR_CORRUPT, "plain blocks of %zu bytes, not %u", coded_bytes, head->raw_bytes);
    memcpy(to, coded, coded_bytes);
    return true;
  }
  ZSTD_DCtx *decoder = nc_frame_decoder();
  if (!decoder)
    return nc_fail(error, NC_ERROR_RESOURCE, "no memory to decompress");
  size_t n = ZSTD_decompressDCtx(decoder, to, head->raw_bytes, coded, coded_bytes);
  if (ZSTD_isError(n) || n != head->raw_bytes)
    return nc_fail(error, NC_ERROR_CORRUPT, "the record's blocks do not decompress");
  return true;
}

static bool
nc_decoded_open_payload(const NcPackHeader *pack, uint32_t offset, const NcRecordHead *head, const uint8_t *record,
                        const NcOpener *opener, uint8_t *ret_plain, GError **error)
{
  uint32_t front = nc_record_front_bytes(head), table = front - NC_RECORD_HEAD_BYTES;
  g_autofree uint8_t *aad = g_malloc(NC_RECORD_AAD_BYTES + table);

  nc_record_aad(pack, offset, head, aad);
  memcpy(aad + NC_RECORD_AAD_BYTES, record + NC_RECORD_HEAD_BYTES, table);
  if (!nc_opener_open(opener, aad, NC_RECORD_AAD_BYTES + table, head->nonce, record + front, head->payload_bytes, ret_plain))
    return nc_fail(error, NC_ERROR_CORRUPT, "the record can't be decrypted: it was altered, or moved from another place");
  return true;
}

static NcDecoded *
nc_decoded_alloc(const NcRecordHead *head, const uint8_t *record)
{
  NcDecoded *decoded = g_new0(NcDecoded, 1);

  decoded->refs = 1;
  decoded->count = head->count;
  decoded->table = g_memdup2(record + NC_RECORD_HEAD_BYTES, head->count * NC_RECORD_ENTRY_BYTES);
  decoded->starts = g_new(uint32_t, head->count + 1);
  decoded->data = g_malloc(head->raw_bytes);
  decoded->starts[0] = 0;
  for (unsigned i = 0; i < head->count; i++)
    decoded->starts[i + 1] =
        decoded->starts[i] + nc_be32(decoded->table + i * NC_RECORD_ENTRY_BYTES + NC_ADDRESS_BYTES);
  return decoded;
}

NcDecoded *
nc_decoded_new(const NcPackHeader *pack, uint32_t offset, const NcRecordHead *head, const uint8_t *record,
               const NcOpener *opener, GError **error)
{
  g_autoptr(NcDecoded) decoded = nc_decoded_alloc(head, record);
  g_autofree uint8_t *plain = NULL;
  const uint8_t *coded = record + nc_record_front_bytes(head);
  size_t coded_bytes = head->payload_bytes;

  if (opener) {
    plain = g_malloc(head->payload_bytes);
    if (!nc_decoded_open_payload(pack, offset, head, record, opener, plain, error))
      return NULL;
    coded = plain;
    coded_bytes -= NC_SEAL_TAG_BYTES;
  }
  return nc_decoded_fill(head, coded, coded_bytes, decoded->data, error) ? g_steal_pointer(&decoded) : NULL;
}

NcDecoded *
nc_decoded_ref(NcDecoded *decoded)
{
  __atomic_add_fetch(&decoded->refs, 1, __ATOMIC_RELAXED);
  return decoded;
}

void
nc_decoded_unref(NcDecoded *decoded)
{
  if (!decoded || __atomic_sub_fetch(&decoded->refs, 1, __ATOMIC_ACQ_REL) > 0)
    return;
  g_free(decoded->table);
  g_free(decoded->starts);
  g_free(decoded->data);
  g_free(decoded);
}
