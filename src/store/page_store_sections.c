/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of manifests to structs and back, with every bound checked. */
#include "store/page_store_sections.h"

#include <xxhash.h>

#define NC_MANIFEST_MAGIC "NCMANIF1"
#define NC_SECTION_MAGIC 0x4e434d53u /* "NCMS" */
#define NC_FLAG_ENCRYPTED 1u

void
nc_manifest_file_header_encode(const NcManifestFileHeader *header, uint8_t ret[NC_MANIFEST_FILE_HEADER_BYTES])
{
  memset(ret, 0, NC_MANIFEST_FILE_HEADER_BYTES);
  memcpy(ret, NC_MANIFEST_MAGIC, 8);
  nc_store_be16(ret + 8, NC_MANIFEST_VERSION);
  nc_store_be16(ret + 10, header->encrypted ? NC_FLAG_ENCRYPTED : 0);
  nc_store_be64(ret + 16, (uint64_t)header->created_us);
  memcpy(ret + 24, header->store_id, NC_STORE_ID_BYTES);
  memcpy(ret + 40, header->salt, NC_SEAL_SALT_BYTES);
  nc_store_be64(ret + NC_MANIFEST_FILE_HEADER_BYTES - 8, XXH3_64bits(ret, NC_MANIFEST_FILE_HEADER_BYTES - 8));
}

bool
nc_manifest_file_header_decode(const uint8_t bytes[NC_MANIFEST_FILE_HEADER_BYTES], NcManifestFileHeader *ret, GError **error)
{
  if (memcmp(bytes, NC_MANIFEST_MAGIC, 8) != 0 ||
      nc_be64(bytes + NC_MANIFEST_FILE_HEADER_BYTES - 8) != XXH3_64bits(bytes, NC_MANIFEST_FILE_HEADER_BYTES - 8))
    return nc_fail(error, NC_ERROR_CORRUPT, "the manifest's header is damaged");
  uint16_t version = nc_be16(bytes + 8), flags = nc_be16(bytes + 10);
  if (version == 0 || version > NC_MANIFEST_VERSION || (flags & ~NC_FLAG_ENCRYPTED) != 0)
    return nc_fail(error, NC_ERROR_INVALID, "version %u, flags %#x: written by a later NovaCron, use that one", version, flags);
  ret->encrypted = (flags & NC_FLAG_ENCRYPTED) != 0;
  ret->created_us = (int64_t)nc_be64(bytes + 16);
  memcpy(ret->store_id, bytes + 24, NC_STORE_ID_BYTES);
  memcpy(ret->salt, bytes + 40, NC_SEAL_SALT_BYTES);
  return true;
}

bool
nc_section_head_decode(const uint8_t bytes[NC_SECTION_HEAD_BYTES], uint64_t left, NcSectionHead *ret, GError **error)
{
  NcSectionHead head = { .kind = bytes[4], .number = nc_be32(bytes + 8), .count = nc_be32(bytes + 12),
                         .payload_bytes = nc_be32(bytes + 16), .sum = nc_be64(bytes + 40) };

  memcpy(head.nonce, bytes + 24, sizeof head.nonce);
  if (nc_be32(bytes) != NC_SECTION_MAGIC || head.kind < NC_SECTION_ENTRIES_KIND || head.kind > NC_SECTION_SHARED_KIND)
    return nc_fail(error, NC_ERROR_CORRUPT, "no section begins here");
  if (head.payload_bytes > NC_SECTION_PAYLOAD_MAX || left < NC_SECTION_HEAD_BYTES ||
      head.payload_bytes > left - NC_SECTION_HEAD_BYTES)
    return nc_fail(error, NC_ERROR_CORRUPT, "a section of %u bytes with %llu left", head.payload_bytes, (unsigned long long)left);
  bool entries = head.kind == NC_SECTION_ENTRIES_KIND || head.kind == NC_SECTION_SHARED_KIND;
  if (entries ? head.count == 0 || head.count > NC_SECTION_ENTRIES : head.count != 0)
    return nc_fail(error, NC_ERROR_CORRUPT, "a section of %u entries", head.count);
  *ret = head;
  return true;
}

uint64_t
nc_section_sum(const NcManifestFileHeader *header, uint32_t number, const uint8_t *section, uint32_t payload_bytes)
{
  uint64_t seed = (nc_be64(header->salt) ^ nc_be64(header->salt + 8)) + number * 0x9e3779b97f4a7c15u;
  uint64_t body = XXH3_64bits_withSeed(section + NC_SECTION_HEAD_BYTES, payload_bytes, seed);
  return XXH3_64bits_withSeed(section, NC_SECTION_HEAD_BYTES - 8, body);
}

bool
nc_section_check(const NcManifestFileHeader *header, const NcSectionHead *head, const uint8_t *section, GError **error)
{
  if (nc_section_sum(header, head->number, section, head->payload_bytes) != head->sum)
    return nc_fail(error, NC_ERROR_CORRUPT, "the section's checksum does not match");
  return true;
}

GByteArray *
nc_section_encode(const NcManifestFileHeader *header, NcSectionKind kind, uint32_t number, uint32_t count,
                  const GByteArray *payload, NcSealer *sealer)
{
  uint32_t payload_bytes = payload->len + (sealer ? NC_SEAL_TAG_BYTES : 0);
  GByteArray *out = g_byte_array_new();

  g_byte_array_set_size(out, NC_SECTION_HEAD_BYTES + payload_bytes);
  uint8_t *head = out->data, *body = out->data + NC_SECTION_HEAD_BYTES;
  memset(head, 0, NC_SECTION_HEAD_BYTES);
  nc_store_be32(head, NC_SECTION_MAGIC);
  head[4] = (uint8_t)kind;
  nc_store_be32(head + 8, number);
  nc_store_be32(head + 12, count);
  nc_store_be32(head + 16, payload_bytes);
  if (sealer)
    nc_sealer_seal(sealer, head, NC_SECTION_AAD_BYTES, payload->data, payload->len, head + 24, body);
  else if (payload->len > 0)
    memcpy(body, payload->data, payload->len);
  nc_store_be64(head + 40, nc_section_sum(header, number, out->data, payload_bytes));
  return out;
}

GByteArray *
nc_section_open(const NcSectionHead *head, const uint8_t *section, const NcOpener *opener, GError **error)
{
  g_autoptr(GByteArray) plain = g_byte_array_new();
  const uint8_t *body = section + NC_SECTION_HEAD_BYTES;

  if (!opener) {
    g_byte_array_append(plain, body, head->payload_bytes);
    return g_steal_pointer(&plain);
  }
  g_byte_array_set_size(plain, MAX(head->payload_bytes, NC_SEAL_TAG_BYTES));
  if (!nc_opener_open(opener, section, NC_SECTION_AAD_BYTES, head->nonce, body, head->payload_bytes, plain->data)) {
    nc_fail(error, NC_ERROR_CORRUPT, "the section can't be decrypted: it was altered, or moved from another place");
    return NULL;
  }
  g_byte_array_set_size(plain, head->payload_bytes - NC_SEAL_TAG_BYTES);
  return g_steal_pointer(&plain);
}

void
nc_section_end_encode(const NcSectionEnd *end, GByteArray *out)
{
  nc_put_u64(out, end->entries);
  nc_put_u64(out, end->blocks);
  nc_put_u64(out, end->block_bytes);
  nc_put_u64(out, end->header_bytes);
  nc_put_u64(out, end->header_offset);
  nc_put_u64(out, end->header_number);
}

bool
nc_section_end_decode(const GByteArray *payload, uint64_t offset, uint32_t number, NcSectionEnd *ret, GError **error)
{
  NcReader r = nc_reader(payload->data, payload->len);
  NcSectionEnd end;

  if (payload->len != NC_SECTION_END_BYTES || !nc_reader_u64(&r, &end.entries) || !nc_reader_u64(&r, &end.blocks) ||
      !nc_reader_u64(&r, &end.block_bytes) || !nc_reader_u64(&r, &end.header_bytes) || !nc_reader_u64(&r, &end.header_offset) ||
      !nc_reader_u64(&r, &end.header_number))
    return nc_fail(error, NC_ERROR_CORRUPT, "the last section is too short");
  if (end.blocks > end.entries || end.header_offset < NC_MANIFEST_FILE_HEADER_BYTES || end.header_offset > offset ||
      end.header_number > number || end.header_bytes > NC_MANIFEST_HEADER_MAX || end.header_bytes > offset - end.header_offset)
    return nc_fail(error, NC_ERROR_CORRUPT, "the last section contradicts itself");
  *ret = end;
  return true;
}

void
nc_section_put_entry(GByteArray *out, const NcManifestEntry *entry)
{
  bool hole = nc_manifest_entry_is_hole(entry);

  nc_put_varint(out, (uint64_t)entry->length << 1 | hole);
  if (!hole)
    g_byte_array_append(out, entry->hash, NC_SHA256_BYTES);
}

bool
nc_section_next_entry(NcReader *reader, NcManifestEntry *ret)
{
  NcReader r = *reader;
  uint64_t value;

  if (!nc_reader_varint(&r, &value) || value >> 1 > UINT32_MAX)
    return false;
  memset(ret->hash, 0, sizeof ret->hash);
  ret->length = (uint32_t)(value >> 1);
  if ((value & 1) == 0 && (ret->length == 0 || ret->length > NC_PAGE_STORE_BLOCK_MAX ||
                           !nc_reader_copy(&r, ret->hash, sizeof ret->hash)))
    return false;
  *reader = r;
  return true;
}
