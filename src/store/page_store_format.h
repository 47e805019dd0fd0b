/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the page store's files look like: the only place that knows the bytes
 * of packs and of the store's own description. All numbers are big-endian. Nothing
 * here does input or output; all that is decoded is taken for foreign.
 *
 *   format            the store's description, written twice
 *   lock              flock: a writer alone, readers together
 *   packs/ID.pack     blocks: this file
 *   index/ID.run      where each block lies: page_store_run.h
 *   manifests/N.manifest  page_store_sections.h
 *
 * A pack:
 *   header   96 bytes: "NCPACK01", u16 version, u16 flags (1: encrypted), u32 0, u32 0, u32 id, store id 16, salt 32, 0 x 16,
 *            u64 sum of these
 *   records  each at a multiple of 16:
 *      head  64 bytes: u32 magic, u8 kind, u8 coding, u16 count, u32 total bytes (of the record), u32 raw bytes (of its
 *            blocks), u32 payload bytes, u32 0, nonce 12, 0 x 12, u64 sum of the rest after the table, u64 sum of head and table
 *      table count times: address 32, u32 length; blocks lie one after the other in the payload, decoded
 *      payload, then zeros to a multiple of 16
 *   of kind BLOCKS, VOID (what a crash or damage left, skipped) or, as the last one, SEAL: payload is the u32 offsets of all
 *   records before it, zeros to a multiple of 16, a copy of the header, and the tail of 32 bytes: "NCSEALED", u32 offset of the
 *   SEAL record, u32 blocks, u64 bytes of all blocks, u64 records.
 *
 * Sums are XXH3-64, seeded by the first half of the salt and the offset, so that no
 * guest can write a page that looks like a record. In an encrypted store, the payload of BLOCKS is AES-256-GCM of what it were
 * otherwise, and the pack's id, the record's offset, its head without sums and its table are bound to it.
 *
 * A block's address is its SHA-256; in an encrypted store the HMAC of that (decision 030).
 */
#pragma once

#include "base/bytes.h"
#include "base/error.h"
#include "crypto/seal.h"
#include "store/page_store.h"

#define NC_STORE_VERSION 1
#define NC_STORE_ID_BYTES 16
#define NC_ADDRESS_BYTES 32

#define NC_FORMAT_BYTES 128
#define NC_FORMAT_SECOND 4096 /* where the second copy is: in another sector than the first */

#define NC_PACK_HEADER_BYTES 96u
#define NC_PACK_TAIL_BYTES 32u
#define NC_RECORD_HEAD_BYTES 64u
#define NC_RECORD_ENTRY_BYTES 36u
#define NC_RECORD_ALIGN 16u
#define NC_RECORD_AAD_BYTES (8 + 44)
/* Compressed together: so much costs a read of one page some 100 us, and saves little less than more would. */
#define NC_RECORD_RAW_MAX (128u << 10)
#define NC_RECORD_BLOCKS_MAX 512u
#define NC_RECORD_TOTAL_MAX \
  (NC_RECORD_HEAD_BYTES + NC_RECORD_BLOCKS_MAX * NC_RECORD_ENTRY_BYTES + NC_RECORD_RAW_MAX + NC_SEAL_TAG_BYTES + NC_RECORD_ALIGN)
#define NC_PACK_LENGTH_MAX 0xfffffff0u /* offsets are 32 bits */
#define NC_PACK_BYTES_DEFAULT (64u << 20)
#define NC_PACK_BYTES_MAX (1u << 30)

/* --- the store's description --- */

typedef struct {
  uint8_t store_id[NC_STORE_ID_BYTES];
  bool encrypted;
  uint8_t key_check[32]; /* encrypted: the HMAC of the store's id */
} NcStoreFormat;

void nc_store_format_encode(const NcStoreFormat *format, uint8_t ret[NC_FORMAT_BYTES]);
/* NC_ERROR_CORRUPT, or NC_ERROR_INVALID for a later version. */
bool nc_store_format_decode(const uint8_t bytes[NC_FORMAT_BYTES], NcStoreFormat *ret, GError **error);

/* --- packs --- */

typedef struct {
  uint32_t id;
  bool encrypted;
  uint8_t store_id[NC_STORE_ID_BYTES];
  uint8_t salt[NC_SEAL_SALT_BYTES];
} NcPackHeader;

void nc_pack_header_encode(const NcPackHeader *header, uint8_t ret[NC_PACK_HEADER_BYTES]);
bool nc_pack_header_decode(const uint8_t bytes[NC_PACK_HEADER_BYTES], NcPackHeader *ret, GError **error);

typedef enum {
  NC_RECORD_BLOCKS = 1,
  NC_RECORD_VOID = 2,
  NC_RECORD_SEAL = 3,
} NcRecordKind;

typedef enum {
  NC_CODING_PLAIN = 0,
  NC_CODING_ZSTD = 1,
} NcRecordCoding;

typedef struct {
  NcRecordKind kind;
  NcRecordCoding coding;
  uint16_t count;
  uint32_t total_bytes;
  uint32_t raw_bytes;
  uint32_t payload_bytes;
  uint8_t nonce[NC_SEAL_NONCE_BYTES];
  uint64_t rest_sum, head_sum;
} NcRecordHead;

/* What ${head} and its table and payload need, with padding. */
uint32_t nc_record_total(unsigned count, size_t payload_bytes);

/*
 * The shape of a head: can such a record be in a pack of ${encrypted} kind with ${left}
 * bytes left? The sums are not looked at.
 */
bool nc_record_head_decode(const uint8_t bytes[NC_RECORD_HEAD_BYTES], uint64_t left, bool encrypted, NcRecordHead *ret,
                           GError **error);
/* Bytes of head and table together. */
static inline uint32_t
nc_record_front_bytes(const NcRecordHead *head)
{
  return NC_RECORD_HEAD_BYTES + head->count * NC_RECORD_ENTRY_BYTES;
}
/* Is ${front} (head and table) as it was written at ${offset}, with lengths that make up raw_bytes? */
bool nc_record_front_check(const NcPackHeader *pack, uint32_t offset, const NcRecordHead *head, const uint8_t *front,
                           GError **error);
/* Is what follows the front, ${rest} (total_bytes less the front), as it was written? */
bool nc_record_rest_check(const NcPackHeader *pack, uint32_t offset, const NcRecordHead *head, const uint8_t *rest,
                          GError **error);
uint64_t nc_record_sum(const NcPackHeader *pack, uint32_t offset, const void *data, size_t length);

/*
 * Writes head, sums and padding around table and payload, which lie at their places in
 * ${record} (of nc_record_total() bytes). With ${head}'s sums and total ignored.
 */
void nc_record_finish(const NcPackHeader *pack, uint32_t offset, const NcRecordHead *head, uint8_t *record);
/* What is bound to the sealed payload (before the table, which comes next). */
void nc_record_aad(const NcPackHeader *pack, uint32_t offset, const NcRecordHead *head, uint8_t ret[NC_RECORD_AAD_BYTES]);

typedef struct {
  uint32_t seal_offset;
  uint32_t blocks;
  uint64_t block_bytes;
} NcPackTail;

/* The SEAL record's payload for a pack with records at ${offsets} (uint32_t, in order). New array. */
GByteArray *nc_pack_seal_payload(const NcPackHeader *header, const NcPackTail *tail, const GArray *offsets);
/* Does ${bytes} end a sealed pack of ${length} bytes? */
bool nc_pack_tail_decode(const uint8_t bytes[NC_PACK_TAIL_BYTES], uint64_t length, NcPackTail *ret);
/* The offsets in the ${payload} of a SEAL record at tail->seal_offset; NULL if they can't be those of records. */
GArray *nc_pack_seal_offsets(const NcPackTail *tail, const uint8_t *payload, uint32_t payload_bytes);
