/* SPDX-License-Identifier: Apache-2.0 */
/* What manifests name: a Bloom filter over addresses. */
#include "store/page_store_gc.h"
#include "store/page_store_manifest.h"

#include <xxhash.h>

#define NC_MARKS_BITS_PER_BLOCK 12u
#define NC_MARKS_PROBES 8u
#define NC_MARKS_BYTES_MIN (64u << 10)
#define NC_MARKS_BYTES_MAX (1ull << 30) /* 700 million blocks; beyond, the filter just gets less sharp */

struct NcMarks {
  uint64_t seeds[2];
  uint64_t bits;
  uint8_t *map;
};

NcMarks *
nc_marks_new(uint64_t blocks)
{
  NcMarks *marks = g_new0(NcMarks, 1);
  uint64_t bytes = MIN(blocks, NC_MARKS_BYTES_MAX) * NC_MARKS_BITS_PER_BLOCK / 8;

  bytes = CLAMP(bytes, NC_MARKS_BYTES_MIN, NC_MARKS_BYTES_MAX);
  marks->bits = bytes * 8;
  marks->map = g_malloc0(bytes);
  nc_random_bytes(marks->seeds, sizeof marks->seeds);
  return marks;
}

void
nc_marks_free(NcMarks *marks)
{
  if (!marks)
    return;
  g_free(marks->map);
  g_free(marks);
}

/* The bit that probe ${i} looks at. */
static uint64_t
nc_marks_bit(const NcMarks *marks, const uint64_t hashes[2], unsigned i)
{
  return (uint64_t)((unsigned __int128)(hashes[0] + i * hashes[1]) * marks->bits >> 64);
}

static void
nc_marks_hash(const NcMarks *marks, const uint8_t *address, uint64_t ret[2])
{
  ret[0] = XXH3_64bits_withSeed(address, NC_ADDRESS_BYTES, marks->seeds[0]);
  ret[1] = XXH3_64bits_withSeed(address, NC_ADDRESS_BYTES, marks->seeds[1]) | 1;
}

void
nc_marks_add(NcMarks *marks, const uint8_t address[NC_ADDRESS_BYTES])
{
  uint64_t hashes[2];

  nc_marks_hash(marks, address, hashes);
  for (unsigned i = 0; i < NC_MARKS_PROBES; i++) {
    uint64_t bit = nc_marks_bit(marks, hashes, i);
    marks->map[bit / 8] |= (uint8_t)(1u << bit % 8);
  }
}

bool
nc_marks_has(const NcMarks *marks, const uint8_t address[NC_ADDRESS_BYTES])
{
  uint64_t hashes[2];

  nc_marks_hash(marks, address, hashes);
  for (unsigned i = 0; i < NC_MARKS_PROBES; i++) {
    uint64_t bit = nc_marks_bit(marks, hashes, i);
    if ((marks->map[bit / 8] & 1u << bit % 8) == 0)
      return false;
  }
  return true;
}

typedef struct {
  NcMarks *marks;
  const NcPageStore *store;
} NcMarksParts;

/* A part of the manifest itself must stay as what it names. */
static void
nc_marks_add_part(const uint8_t hash[NC_SHA256_BYTES], gpointer data)
{
  const NcMarksParts *parts = data;
  uint8_t address[NC_ADDRESS_BYTES];

  nc_store_address(parts->store, hash, address);
  nc_marks_add(parts->marks, address);
}

static bool
nc_marks_add_manifest(NcMarks *marks, NcPageStore *store, NcManifestReader *reader, const gint *cancelled, GError **error)
{
  NcManifestEntry entry;
  uint8_t address[NC_ADDRESS_BYTES];
  NcManifestOutcome outcome;
  NcMarksParts parts = { .marks = marks, .store = store };

  nc_manifest_reader_on_part(reader, nc_marks_add_part, &parts);
  while ((outcome = nc_manifest_next(reader, &entry, error)) == NC_MANIFEST_ENTRY) {
    if (nc_manifest_entry_is_hole(&entry))
      continue;
    nc_store_address(store, entry.hash, address);
    nc_marks_add(marks, address);
  }
  return outcome == NC_MANIFEST_END && nc_store_go_on(cancelled, error);
}

/* All manifests that are not in ${done}; *ret_again: one went, or got another name, between the list and the look. */
static bool
nc_marks_pass(NcMarks *marks, NcPageStore *store, GHashTable *done, bool *ret_again, const gint *cancelled, GError **error)
{
  g_autoptr(GPtrArray) files = nc_manifest_files(store, error);

  *ret_again = false;
  if (!files)
    return false;
  for (guint i = 0; i < files->len; i++) {
    const char *file = g_ptr_array_index(files, i);
    g_autoptr(GError) why = NULL;
    if (g_hash_table_contains(done, file))
      continue;
    g_autoptr(NcManifestReader) reader = nc_manifest_open_file(store, file, &why);
    if (!reader && why->code == NC_ERROR_NOT_FOUND) {
      *ret_again = true;
      continue;
    }
    if (!reader || !nc_marks_add_manifest(marks, store, reader, cancelled, &why)) {
      g_propagate_prefixed_error(error, g_steal_pointer(&why), "what a manifest needs is not known, so nothing is collected: ");
      return false;
    }
    g_hash_table_add(done, g_strdup(file));
  }
  return true;
}

bool
nc_marks_add_manifests(NcMarks *marks, NcPageStore *store, const gint *cancelled, GError **error)
{
  g_autoptr(GHashTable) done = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  bool again;

  do {
    if (!nc_marks_pass(marks, store, done, &again, cancelled, error))
      return false;
  } while (again);
  return true;
}

static bool
nc_marks_add_item(const NcPackItem *item, gpointer data)
{
  NcMarks *marks = data;

  for (unsigned slot = 0; item->front && slot < item->head.count; slot++)
    nc_marks_add(marks, item->front + NC_RECORD_HEAD_BYTES + slot * NC_RECORD_ENTRY_BYTES);
  return true;
}

/* Of a pack that can't be read nothing can be found either. */
void
nc_marks_add_pack(NcMarks *marks, NcPageStore *store, const NcPack *pack)
{
  g_autoptr(NcPackFile) file = nc_pack_file_open(&store->dir, pack->id, pack->length, store->store_id, store->key, NULL);
  NcPackScan scan;

  if (file)
    nc_pack_scan(file, false, nc_marks_add_item, marks, &scan);
}
