/* SPDX-License-Identifier: Apache-2.0 */
/* The header of a batch: how long, how coded, and whether that can be. Each field came from a peer. */
#include "base/bytes.h"
#include "wire/batch_format.h"

bool
nc_batch_read_header(NcReader *r, NcBatchHeader *ret, GError **error)
{
  uint8_t level;

  if (!nc_reader_u64(r, &ret->stream_offset) || !nc_reader_u32(r, &ret->raw_len) ||
      !nc_reader_copy(r, ret->sha256, sizeof ret->sha256) || !nc_reader_u8(r, &ret->codec) ||
      !nc_reader_u8(r, &level) || !nc_reader_u16(r, &ret->flags) || !nc_reader_u32(r, &ret->meta_len) ||
      !nc_reader_u32(r, &ret->meta_raw_len) || !nc_reader_u32(r, &ret->bulk_raw_len))
    return nc_fail(error, NC_ERROR_PROTOCOL, "a batch shorter than its header");
  ret->level = (int8_t)level;
  return true;
}

static bool
nc_batch_check_coding(const NcBatchHeader *h, GError **error)
{
  const NcCodec *codec = nc_codec_by_id(h->codec);

  if (!codec)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a batch of unknown codec %u", h->codec);
  if (h->flags & ~NC_BATCH_FLAGS)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a batch with unknown flags 0x%x", h->flags);
  if ((codec == &nc_codec_none) != ((h->flags & NC_BATCH_FLAGS_CODED) == 0))
    return nc_fail(error, NC_ERROR_PROTOCOL, "a batch of codec %s with flags 0x%x", codec->name, h->flags);
  if (h->level < codec->level_min || h->level > codec->level_max)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a batch of codec %s with level %d", codec->name, h->level);
  return true;
}

/* ${left}: bytes of the payload behind the header. */
static bool
nc_batch_check_lengths(const NcBatchHeader *h, size_t left, GError **error)
{
  if (h->raw_len == 0 || h->raw_len > NC_BATCH_RAW_MAX)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a batch of %u bytes", h->raw_len);
  if (h->stream_offset > (uint64_t)G_MAXINT64 - h->raw_len)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a batch beyond the end of any stream");
  if (h->bulk_raw_len > h->raw_len || h->bulk_raw_len % NC_BATCH_PAGE_BYTES != 0 || h->meta_raw_len == 0 ||
      h->meta_raw_len > h->raw_len - h->bulk_raw_len + NC_BATCH_SLACK_BYTES)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a batch of %u bytes with sections of %u and %u", h->raw_len,
                   h->meta_raw_len, h->bulk_raw_len);
  if (h->meta_len > left)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a batch shorter than its first section");
  return true;
}

/* Coded sections are smaller than plain ones, plain ones as long as they are. */
static bool
nc_batch_check_section(size_t here, size_t plain, bool is_coded, GError **error)
{
  if (is_coded ? here < plain : here == plain)
    return true;
  return nc_fail(error, NC_ERROR_PROTOCOL, "a %s section of %zu bytes in %zu", is_coded ? "coded" : "plain", plain,
                 here);
}

bool
nc_batch_check_header(const NcBatchHeader *h, size_t left, GError **error)
{
  return nc_batch_check_coding(h, error) && nc_batch_check_lengths(h, left, error) &&
         nc_batch_check_section(h->meta_len, h->meta_raw_len, h->flags & NC_BATCH_FLAG_META_CODED, error) &&
         nc_batch_check_section(left - h->meta_len, h->bulk_raw_len, h->flags & NC_BATCH_FLAG_BULK_CODED, error);
}

bool
nc_batch_peek(const uint8_t *payload, size_t len, NcBatchPeek *ret)
{
  NcReader r = nc_reader(payload, len);
  NcBatchHeader h;

  if (!nc_batch_read_header(&r, &h, NULL) || h.raw_len == 0 || h.raw_len > NC_BATCH_RAW_MAX)
    return false;
  *ret = (NcBatchPeek){ .raw_len = h.raw_len,
                        .has_history = h.flags & NC_BATCH_FLAG_HISTORY,
                        .is_ahead = h.flags & NC_BATCH_FLAG_AHEAD };
  return true;
}
