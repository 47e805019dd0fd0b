/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a manifest's file looks like: manifests/NAME.manifest. All numbers are big-endian. Version 2; 1 has no SHARED and is
 * read, too.
 *
 *   header    96 bytes: "NCMANIF1", u16 version, u16 flags (1: encrypted), u32 0, u64 created (us), store id 16, salt 32,
 *             0 x 16, u64 sum of these
 *   sections  head 48 bytes: u32 magic, u8 kind, 0 x 3, u32 number (0, 1, ...), u32 count, u32 payload bytes, u32 0, nonce 12,
 *             u32 0, u64 sum; then the payload
 *     ENTRIES  count entries: varint length * 2 + (1: a hole), and the hash unless it is a hole
 *     SHARED   count entries that lie, wholly or for the most part, in blocks of the store: page_store_shared.h
 *     HEADER   a piece of what the owner gave as header
 *     END      u64 entries, u64 blocks, u64 block bytes, u64 header bytes, u64 offset and u64 number of the first HEADER (or END)
 *   in this order (ENTRIES and SHARED as they come), END last, at the end of the file.
 *
 * Sums as in packs (page_store_format.h), of head and payload. In an encrypted store payloads are AES-256-GCM, and the
 * head's first 20 bytes are bound to them; the hashes of contents are never on disk in clear.
 */
#pragma once

#include "store/page_store_files.h"
#include "store/page_store_format.h"

#define NC_MANIFEST_VERSION 2
#define NC_MANIFEST_FILE_HEADER_BYTES 96u
#define NC_SECTION_HEAD_BYTES 48u
#define NC_SECTION_AAD_BYTES 20u
#define NC_SECTION_END_BYTES 48u
#define NC_SECTION_ENTRIES 1024u
#define NC_SECTION_ENTRY_MAX (NC_SHA256_BYTES + 5u)
#define NC_SECTION_HEADER_BYTES (256u << 10) /* of HEADER in one section */
#define NC_SECTION_PAYLOAD_MAX (NC_SECTION_HEADER_BYTES + NC_SEAL_TAG_BYTES)

typedef struct {
  bool encrypted;
  int64_t created_us;
  uint8_t store_id[NC_STORE_ID_BYTES];
  uint8_t salt[NC_SEAL_SALT_BYTES];
} NcManifestFileHeader;

void nc_manifest_file_header_encode(const NcManifestFileHeader *header, uint8_t ret[NC_MANIFEST_FILE_HEADER_BYTES]);
bool nc_manifest_file_header_decode(const uint8_t bytes[NC_MANIFEST_FILE_HEADER_BYTES], NcManifestFileHeader *ret,
                                    GError **error);

typedef enum {
  NC_SECTION_ENTRIES_KIND = 1,
  NC_SECTION_HEADER_KIND = 2,
  NC_SECTION_END_KIND = 3,
  NC_SECTION_SHARED_KIND = 4,
} NcSectionKind;

typedef struct {
  NcSectionKind kind;
  uint32_t number;
  uint32_t count;
  uint32_t payload_bytes;
  uint8_t nonce[NC_SEAL_NONCE_BYTES];
  uint64_t sum;
} NcSectionHead;

/* The shape of a head, with ${left} bytes left. */
bool nc_section_head_decode(const uint8_t bytes[NC_SECTION_HEAD_BYTES], uint64_t left, NcSectionHead *ret, GError **error);
/* What the head of ${section}, with its ${payload_bytes}, must have as sum. */
uint64_t nc_section_sum(const NcManifestFileHeader *header, uint32_t number, const uint8_t *section, uint32_t payload_bytes);
/* Is ${section} (head and payload) as it was written? */
bool nc_section_check(const NcManifestFileHeader *header, const NcSectionHead *head, const uint8_t *section, GError **error);
/* A whole section of ${payload}; sealed if ${sealer} is there. New array. */
GByteArray *nc_section_encode(const NcManifestFileHeader *header, NcSectionKind kind, uint32_t number, uint32_t count,
                              const GByteArray *payload, NcSealer *sealer);
/* The payload of a checked ${section}, opened; NULL: NC_ERROR_CORRUPT. New array. */
GByteArray *nc_section_open(const NcSectionHead *head, const uint8_t *section, const NcOpener *opener, GError **error);

typedef struct {
  uint64_t entries, blocks, block_bytes, header_bytes, header_offset, header_number;
} NcSectionEnd;

void nc_section_end_encode(const NcSectionEnd *end, GByteArray *out);
/* Sane for a file whose END is section ${number} at ${offset}. */
bool nc_section_end_decode(const GByteArray *payload, uint64_t offset, uint32_t number, NcSectionEnd *ret, GError **error);

void nc_section_put_entry(GByteArray *out, const NcManifestEntry *entry);
/* False: not an entry, or cut off. */
bool nc_section_next_entry(NcReader *reader, NcManifestEntry *ret);
