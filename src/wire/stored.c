/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/stored.h"
#include "base/bytes.h"

/* A table of random keys that is at most half full has no longer runs; one of chosen keys must not take for ever. */
#define NC_STORED_PROBES 64u

struct NcStoredIndex {
  uint8_t *prefixes;
  uint32_t *slots; /* number + 1; 0: none */
  uint32_t mask;
};

static const uint8_t *
nc_stored_prefix(const NcStoredIndex *index, uint32_t number)
{
  return index->prefixes + (size_t)number * NC_STORED_PREFIX_BYTES;
}

/* Where ${prefix} is, or could be; NULL: nowhere. */
static uint32_t *
nc_stored_slot(const NcStoredIndex *index, const uint8_t *prefix)
{
  uint32_t at = nc_be32(prefix);

  for (uint32_t i = 0; i < NC_STORED_PROBES; i++, at++) {
    uint32_t *slot = &index->slots[at & index->mask];
    if (*slot == 0 || memcmp(nc_stored_prefix(index, *slot - 1), prefix, NC_STORED_PREFIX_BYTES) == 0)
      return slot;
  }
  return NULL;
}

NcStoredIndex *
nc_stored_index_new(uint8_t *prefixes, uint32_t count)
{
  NcStoredIndex *index = g_new0(NcStoredIndex, 1);
  uint32_t slots = NC_STORED_PROBES;

  g_assert(count <= NC_STORED_PAGES_MAX);
  while (slots < 2 * count)
    slots *= 2;
  index->prefixes = prefixes;
  index->slots = g_new0(uint32_t, slots);
  index->mask = slots - 1;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t *slot = nc_stored_slot(index, nc_stored_prefix(index, i));
    if (slot && *slot == 0)
      *slot = i + 1;
  }
  return index;
}

void
nc_stored_index_free(NcStoredIndex *index)
{
  if (!index)
    return;
  g_free(index->prefixes);
  g_free(index->slots);
  g_free(index);
}

uint32_t
nc_stored_index_find(const NcStoredIndex *index, const uint8_t sha256[NC_SHA256_BYTES])
{
  const uint32_t *slot = nc_stored_slot(index, sha256);
  return slot && *slot > 0 ? *slot - 1 : NC_NOT_STORED;
}
