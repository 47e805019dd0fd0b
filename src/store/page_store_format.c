/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of packs and of the store's description to structs and back, with every bound checked. */
#include "store/page_store_format.h"

#include <string.h>
#include <xxhash.h>

#define NC_FORMAT_MAGIC "NCSTORE1"
#define NC_PACK_MAGIC "NCPACK01"
#define NC_PACK_SEALED "NCSEALED"
#define NC_RECORD_MAGIC 0x4e435231u /* "NCR1" */
#define NC_FLAG_ENCRYPTED 1u

static bool
nc_all_zero(const uint8_t *p, size_t n)
{
  for (size_t i = 0; i < n; i++)
    if (p[i] != 0)
      return false;
  return true;
}

/* Version and flags, which format and packs have in common. */
static bool
nc_format_check_version(uint16_t version, uint16_t flags, GError **error)
{
  if (version != NC_STORE_VERSION || (flags & ~NC_FLAG_ENCRYPTED) != 0)
    return nc_fail(error, NC_ERROR_INVALID, "version %u, flags %#x: written by a later NovaCron, use that one", version, flags);
  return true;
}

void
nc_store_format_encode(const NcStoreFormat *format, uint8_t ret[NC_FORMAT_BYTES])
{
  memset(ret, 0, NC_FORMAT_BYTES);
  memcpy(ret, NC_FORMAT_MAGIC, 8);
  nc_store_be16(ret + 8, NC_STORE_VERSION);
  nc_store_be16(ret + 10, format->encrypted ? NC_FLAG_ENCRYPTED : 0);
  memcpy(ret + 16, format->store_id, NC_STORE_ID_BYTES);
  memcpy(ret + 32, format->key_check, 32);
  nc_store_be64(ret + NC_FORMAT_BYTES - 8, XXH3_64bits(ret, NC_FORMAT_BYTES - 8));
}

bool
nc_store_format_decode(const uint8_t bytes[NC_FORMAT_BYTES], NcStoreFormat *ret, GError **error)
{
  if (memcmp(bytes, NC_FORMAT_MAGIC, 8) != 0)
    return nc_fail(error, NC_ERROR_CORRUPT, "this is not the description of a page store");
  if (nc_be64(bytes + NC_FORMAT_BYTES - 8) != XXH3_64bits(bytes, NC_FORMAT_BYTES - 8))
    return nc_fail(error, NC_ERROR_CORRUPT, "the description's checksum does not match");
  uint16_t flags = nc_be16(bytes + 10);
  if (!nc_format_check_version(nc_be16(bytes + 8), flags, error))
    return false;
  ret->encrypted = (flags & NC_FLAG_ENCRYPTED) != 0;
  memcpy(ret->store_id, bytes + 16, NC_STORE_ID_BYTES);
  memcpy(ret->key_check, bytes + 32, 32);
  return true;
}

void
nc_pack_header_encode(const NcPackHeader *header, uint8_t ret[NC_PACK_HEADER_BYTES])
{
  memset(ret, 0, NC_PACK_HEADER_BYTES);
  memcpy(ret, NC_PACK_MAGIC, 8);
  nc_store_be16(ret + 8, NC_STORE_VERSION);
  nc_store_be16(ret + 10, header->encrypted ? NC_FLAG_ENCRYPTED : 0);
  nc_store_be32(ret + 20, header->id);
  memcpy(ret + 24, header->store_id, NC_STORE_ID_BYTES);
  memcpy(ret + 40, header->salt, NC_SEAL_SALT_BYTES);
  nc_store_be64(ret + NC_PACK_HEADER_BYTES - 8, XXH3_64bits(ret, NC_PACK_HEADER_BYTES - 8));
}

bool
nc_pack_header_decode(const uint8_t bytes[NC_PACK_HEADER_BYTES], NcPackHeader *ret, GError **error)
{
  if (memcmp(bytes, NC_PACK_MAGIC, 8) != 0)
    return nc_fail(error, NC_ERROR_CORRUPT, "this is not the header of a pack");
  if (nc_be64(bytes + NC_PACK_HEADER_BYTES - 8) != XXH3_64bits(bytes, NC_PACK_HEADER_BYTES - 8))
    return nc_fail(error, NC_ERROR_CORRUPT, "the checksum of the pack's header does not match");
  uint16_t flags = nc_be16(bytes + 10);
  if (!nc_format_check_version(nc_be16(bytes + 8), flags, error))
    return false;
  ret->encrypted = (flags & NC_FLAG_ENCRYPTED) != 0;
  ret->id = nc_be32(bytes + 20);
  memcpy(ret->store_id, bytes + 24, NC_STORE_ID_BYTES);
  memcpy(ret->salt, bytes + 40, NC_SEAL_SALT_BYTES);
  return true;
}

uint32_t
nc_record_total(unsigned count, size_t payload_bytes)
{
  size_t total = NC_RECORD_HEAD_BYTES + count * NC_RECORD_ENTRY_BYTES + payload_bytes;
  return (uint32_t)((total + NC_RECORD_ALIGN - 1) / NC_RECORD_ALIGN * NC_RECORD_ALIGN);
}

static bool
nc_record_blocks_shape(const NcRecordHead *head, bool encrypted, GError **error)
{
  uint32_t tag = encrypted ? NC_SEAL_TAG_BYTES : 0;

  if (head->count == 0 || head->count > NC_RECORD_BLOCKS_MAX)
    return nc_fail(error, NC_ERROR_CORRUPT, "a record of %u blocks", head->count);
  if (head->raw_bytes < head->count || head->raw_bytes > NC_RECORD_RAW_MAX)
    return nc_fail(error, NC_ERROR_CORRUPT, "a record of %u blocks in %u bytes", head->count, head->raw_bytes);
  if (head->payload_bytes < tag || head->payload_bytes - tag > head->raw_bytes)
    return nc_fail(error, NC_ERROR_CORRUPT, "a record of %u bytes coded in %u", head->raw_bytes, head->payload_bytes);
  if (head->coding == NC_CODING_PLAIN && head->payload_bytes - tag != head->raw_bytes)
    return nc_fail(error, NC_ERROR_CORRUPT, "a plain record of %u bytes that takes %u", head->raw_bytes, head->payload_bytes);
  return true;
}

/* How many bytes there may be, and must be. */
static bool
nc_record_size_shape(const NcRecordHead *head, uint64_t left, GError **error)
{
  if (head->payload_bytes > left || head->total_bytes > left)
    return nc_fail(error, NC_ERROR_CORRUPT, "a record of %u bytes with %llu left", head->total_bytes, (unsigned long long)left);
  if (head->payload_bytes > NC_PACK_LENGTH_MAX - NC_RECORD_TOTAL_MAX ||
      head->total_bytes != nc_record_total(head->count, head->payload_bytes))
    return nc_fail(error, NC_ERROR_CORRUPT, "a record of %u bytes for %u blocks in %u bytes", head->total_bytes, head->count,
                   head->payload_bytes);
  return true;
}

bool
nc_record_head_decode(const uint8_t bytes[NC_RECORD_HEAD_BYTES], uint64_t left, bool encrypted, NcRecordHead *ret, GError **error)
{
  NcRecordHead head = {
    .kind = bytes[4], .coding = bytes[5], .count = nc_be16(bytes + 6), .total_bytes = nc_be32(bytes + 8),
    .raw_bytes = nc_be32(bytes + 12), .payload_bytes = nc_be32(bytes + 16), .rest_sum = nc_be64(bytes + 48),
    .head_sum = nc_be64(bytes + 56),
  };

  memcpy(head.nonce, bytes + 24, sizeof head.nonce);
  if (nc_be32(bytes) != NC_RECORD_MAGIC || !nc_all_zero(bytes + 20, 4) || !nc_all_zero(bytes + 36, 12))
    return nc_fail(error, NC_ERROR_CORRUPT, "no record begins here");
  if (head.kind < NC_RECORD_BLOCKS || head.kind > NC_RECORD_SEAL || head.coding > NC_CODING_ZSTD)
    return nc_fail(error, NC_ERROR_CORRUPT, "a record of unknown kind %d, coding %d", (int)head.kind, (int)head.coding);
  if (!nc_record_size_shape(&head, left, error))
    return false;
  if (head.kind == NC_RECORD_BLOCKS) {
    if (!nc_record_blocks_shape(&head, encrypted, error))
      return false;
  } else if (head.count != 0 || head.raw_bytes != 0 || head.coding != NC_CODING_PLAIN) {
    return nc_fail(error, NC_ERROR_CORRUPT, "blocks in a record that has none");
  }
  *ret = head;
  return true;
}

/* Unpredictable to whoever chooses the blocks. */
static uint64_t
nc_record_seed(const NcPackHeader *pack, uint32_t offset)
{
  return (nc_be64(pack->salt) ^ nc_be64(pack->salt + 8)) + (uint64_t)offset * 0x9e3779b97f4a7c15u;
}

uint64_t
nc_record_sum(const NcPackHeader *pack, uint32_t offset, const void *data, size_t length)
{
  return XXH3_64bits_withSeed(data, length, nc_record_seed(pack, offset));
}

/* Of head (all but its own sum) and table. */
static uint64_t
nc_record_front_sum(const NcPackHeader *pack, uint32_t offset, const uint8_t *front, uint32_t front_bytes)
{
  XXH3_state_t *state = XXH3_createState();
  if (!state)
    g_error("no memory for a checksum");
  XXH3_64bits_reset_withSeed(state, nc_record_seed(pack, offset));
  XXH3_64bits_update(state, front, NC_RECORD_HEAD_BYTES - 8);
  XXH3_64bits_update(state, front + NC_RECORD_HEAD_BYTES, front_bytes - NC_RECORD_HEAD_BYTES);
  uint64_t sum = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return sum;
}

bool
nc_record_front_check(const NcPackHeader *pack, uint32_t offset, const NcRecordHead *head, const uint8_t *front, GError **error)
{
  uint64_t raw = 0;

  if (nc_record_front_sum(pack, offset, front, nc_record_front_bytes(head)) != head->head_sum)
    return nc_fail(error, NC_ERROR_CORRUPT, "the checksum of the record's head does not match");
  for (unsigned i = 0; i < head->count; i++) {
    uint32_t length = nc_be32(front + NC_RECORD_HEAD_BYTES + i * NC_RECORD_ENTRY_BYTES + NC_ADDRESS_BYTES);
    if (length == 0 || length > NC_PAGE_STORE_BLOCK_MAX)
      return nc_fail(error, NC_ERROR_CORRUPT, "a block of %u bytes", length);
    raw += length;
  }
  if (raw != head->raw_bytes)
    return nc_fail(error, NC_ERROR_CORRUPT, "blocks of %llu bytes in a record of %u", (unsigned long long)raw, head->raw_bytes);
  return true;
}

bool
nc_record_rest_check(const NcPackHeader *pack, uint32_t offset, const NcRecordHead *head, const uint8_t *rest, GError **error)
{
  if (nc_record_sum(pack, offset, rest, head->total_bytes - nc_record_front_bytes(head)) != head->rest_sum)
    return nc_fail(error, NC_ERROR_CORRUPT, "the checksum of the record's blocks does not match");
  return true;
}

/* All of the head but the sums. */
static void
nc_record_put_head(const NcRecordHead *head, uint8_t ret[NC_RECORD_HEAD_BYTES])
{
  memset(ret, 0, NC_RECORD_HEAD_BYTES);
  nc_store_be32(ret, NC_RECORD_MAGIC);
  ret[4] = (uint8_t)head->kind;
  ret[5] = (uint8_t)head->coding;
  nc_store_be16(ret + 6, head->count);
  nc_store_be32(ret + 8, nc_record_total(head->count, head->payload_bytes));
  nc_store_be32(ret + 12, head->raw_bytes);
  nc_store_be32(ret + 16, head->payload_bytes);
  memcpy(ret + 24, head->nonce, sizeof head->nonce);
}

void
nc_record_finish(const NcPackHeader *pack, uint32_t offset, const NcRecordHead *head, uint8_t *record)
{
  uint32_t total = nc_record_total(head->count, head->payload_bytes), front = nc_record_front_bytes(head);

  nc_record_put_head(head, record);
  memset(record + front + head->payload_bytes, 0, total - front - head->payload_bytes);
  nc_store_be64(record + 48, nc_record_sum(pack, offset, record + front, total - front));
  nc_store_be64(record + 56, nc_record_front_sum(pack, offset, record, front));
}

void
nc_record_aad(const NcPackHeader *pack, uint32_t offset, const NcRecordHead *head, uint8_t ret[NC_RECORD_AAD_BYTES])
{
  uint8_t bytes[NC_RECORD_HEAD_BYTES];

  nc_record_put_head(head, bytes);
  nc_store_be32(ret, pack->id);
  nc_store_be32(ret + 4, offset);
  memcpy(ret + 8, bytes, NC_RECORD_AAD_BYTES - 8);
}

/* Where the header's copy begins in the payload of a SEAL record. */
static size_t
nc_pack_seal_offsets_room(size_t count)
{
  return (count * 4 + NC_RECORD_ALIGN - 1) / NC_RECORD_ALIGN * NC_RECORD_ALIGN;
}

GByteArray *
nc_pack_seal_payload(const NcPackHeader *header, const NcPackTail *tail, const GArray *offsets)
{
  GByteArray *out = g_byte_array_new();
  uint8_t copy[NC_PACK_HEADER_BYTES];

  for (guint i = 0; i < offsets->len; i++)
    nc_put_u32(out, g_array_index(offsets, uint32_t, i));
  while (out->len < nc_pack_seal_offsets_room(offsets->len))
    nc_put_u8(out, 0);
  nc_pack_header_encode(header, copy);
  g_byte_array_append(out, copy, sizeof copy);
  g_byte_array_append(out, (const uint8_t *)NC_PACK_SEALED, 8);
  nc_put_u32(out, tail->seal_offset);
  nc_put_u32(out, tail->blocks);
  nc_put_u64(out, tail->block_bytes);
  nc_put_u64(out, offsets->len);
  return out;
}

bool
nc_pack_tail_decode(const uint8_t bytes[NC_PACK_TAIL_BYTES], uint64_t length, NcPackTail *ret)
{
  const uint64_t least = NC_RECORD_HEAD_BYTES + NC_PACK_HEADER_BYTES + NC_PACK_TAIL_BYTES;

  if (memcmp(bytes, NC_PACK_SEALED, 8) != 0 || length < least)
    return false;
  uint32_t offset = nc_be32(bytes + 8);
  if (offset < NC_PACK_HEADER_BYTES || offset % NC_RECORD_ALIGN != 0 || offset > length - least)
    return false;
  *ret = (NcPackTail){ .seal_offset = offset, .blocks = nc_be32(bytes + 12), .block_bytes = nc_be64(bytes + 16) };
  return true;
}

GArray *
nc_pack_seal_offsets(const NcPackTail *tail, const uint8_t *payload, uint32_t payload_bytes)
{
  if (payload_bytes < NC_PACK_HEADER_BYTES + NC_PACK_TAIL_BYTES)
    return NULL;
  uint64_t count = nc_be64(payload + payload_bytes - 8);
  size_t room = payload_bytes - NC_PACK_HEADER_BYTES - NC_PACK_TAIL_BYTES;
  uint32_t least = NC_PACK_HEADER_BYTES;
  if (count > room / 4 || nc_pack_seal_offsets_room(count) != room)
    return NULL;
  g_autoptr(GArray) offsets = g_array_sized_new(FALSE, FALSE, sizeof(uint32_t), (guint)count);
  for (uint64_t i = 0; i < count; i++) {
    uint32_t offset = nc_be32(payload + i * 4);
    if (offset < least || offset % NC_RECORD_ALIGN != 0 || offset >= tail->seal_offset)
      return NULL;
    least = offset + NC_RECORD_HEAD_BYTES;
    g_array_append_val(offsets, offset);
  }
  return g_steal_pointer(&offsets);
}
