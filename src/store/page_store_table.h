/* SPDX-License-Identifier: Apache-2.0 */
/* Where blocks lie that no index file knows yet: a hash table in memory, some 60 to 120 bytes per block. Not thread-safe. */
#pragma once

#include "store/page_store_format.h"

/* Where a block lies: pack, offset of its record there, which of the record's blocks. */
typedef struct {
  uint8_t address[NC_ADDRESS_BYTES];
  uint32_t pack;
  uint32_t offset;
  uint16_t slot;
  uint16_t length_less_1;
} NcLocation;

static inline uint32_t
nc_location_length(const NcLocation *location)
{
  return location->length_less_1 + 1u;
}

typedef struct {
  NcLocation *rows; /* pack 0: free */
  size_t room;      /* power of two, or 0 */
  size_t count;
} NcTable;

NcTable *nc_table_new(void);
void nc_table_free(NcTable *table); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcTable, nc_table_free)
/* Replaces what is there for the address. */
void nc_table_put(NcTable *table, const NcLocation *location);
/* Borrowed until the next put; NULL: not there. */
const NcLocation *nc_table_find(const NcTable *table, const uint8_t address[NC_ADDRESS_BYTES]);
/* A copy of all of it in order of addresses. Caller frees (g_free). */
NcLocation *nc_table_sorted(const NcTable *table);
