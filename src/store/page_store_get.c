/* SPDX-License-Identifier: Apache-2.0 */
/* Getting blocks, through a small cache of decoded records. */
#include "crypto/piece_digest.h"
#include "store/page_store_internal.h"

#define NC_STORE_GET_GROUP 16u /* pages that are hashed together */

bool
nc_page_store_has(NcPageStore *store, const uint8_t hash[NC_SHA256_BYTES])
{
  uint8_t address[NC_ADDRESS_BYTES];
  NcLocation location;

  nc_store_address(store, hash, address);
  return nc_index_find(store, address, NULL, &location, NULL) == NC_FIND_THERE;
}

static NcDecoded *
nc_cache_find(NcPageStore *store, uint64_t key)
{
  nc_hold(&store->caching);
  for (unsigned i = 0; i < NC_STORE_CACHE_RECORDS; i++) {
    NcCacheEntry *entry = &store->cache[i];
    if (entry->key == key) {
      entry->used = ++store->cache_clock;
      return nc_decoded_ref(entry->decoded);
    }
  }
  return NULL;
}

/* In the place of what has not been wanted for longest. */
static void
nc_cache_keep(NcPageStore *store, uint64_t key, NcDecoded *decoded)
{
  nc_hold(&store->caching);
  NcCacheEntry *oldest = &store->cache[0];
  for (unsigned i = 1; i < NC_STORE_CACHE_RECORDS; i++)
    if (store->cache[i].used < oldest->used)
      oldest = &store->cache[i];
  g_clear_pointer(&oldest->decoded, nc_decoded_unref);
  *oldest = (NcCacheEntry){ .key = key, .used = ++store->cache_clock, .decoded = nc_decoded_ref(decoded) };
}

/* A block's record: decoded already, or in a file that is open. */
typedef struct {
  NcLocation location;
  NcDecoded *decoded; /* from the cache, a reference; or NULL and: */
  int fd;             /* of the pack; -1: could not be opened */
  uint32_t length;    /* of the pack */
} NcGetPlace;

static uint64_t
nc_get_key(const NcLocation *location)
{
  return (uint64_t)location->pack << 32 | location->offset;
}

/*
 * Finds the block and opens the file of its pack, while nobody can take the
 * pack away; what is open can be read also if it is then.
 */
static NcFind
nc_get_find(NcPageStore *store, const uint8_t address[NC_ADDRESS_BYTES], NcGetPlace *ret, GError **error)
{
  char name[NC_PACK_NAME_BYTES];

  *ret = (NcGetPlace){ .fd = -1 };
  pthread_rwlock_rdlock(&store->map);
  NcFind find = nc_index_find_locked(store, address, &ret->location, error);
  if (find == NC_FIND_THERE && !(ret->decoded = nc_cache_find(store, nc_get_key(&ret->location)))) {
    const NcPack *pack = g_hash_table_lookup(store->packs, GUINT_TO_POINTER(ret->location.pack));
    ret->length = pack->length;
    nc_pack_name(pack->id, name);
    ret->fd = nc_store_open(&store->dir, name, false, error);
  }
  pthread_rwlock_unlock(&store->map);
  return find;
}

/* Says where the damage is. Returns NULL. */
static NcDecoded *
nc_get_damaged(NcPageStore *store, const NcLocation *location, const char *why, GError **error)
{
  nc_store_note_bad_record(store, location->pack, location->offset);
  nc_fail(error, NC_ERROR_CORRUPT, "page store %s: packs/%08x.pack is damaged at %u: %s", store->dir.path, location->pack,
          location->offset, why);
  return NULL;
}

/* The record that ${place} says; uses up what is in it. */
static NcDecoded *
nc_get_record(NcPageStore *store, NcGetPlace *place, GError **error)
{
  const NcLocation *location = &place->location;
  g_autoptr(NcDecoded) decoded = g_steal_pointer(&place->decoded);
  g_autoptr(GError) why = NULL;

  if (decoded)
    return g_steal_pointer(&decoded);
  g_autoptr(NcPackFile) file = nc_pack_file_take(&store->dir, nc_fd_steal(&place->fd), location->pack, place->length,
                                                 store->store_id, store->key, &why);
  if (file)
    decoded = nc_pack_read_blocks(file, location->offset, &why);
  if (!decoded && why->code == NC_ERROR_CORRUPT)
    return nc_get_damaged(store, location, why->message, error);
  if (!decoded) {
    g_propagate_error(error, g_steal_pointer(&why));
    return NULL;
  }
  nc_cache_keep(store, nc_get_key(location), decoded);
  return g_steal_pointer(&decoded);
}

/* The block out of its record, not verified yet. */
static bool
nc_get_block(NcPageStore *store, const NcLocation *location, const NcDecoded *decoded, void *data, size_t capacity,
             uint32_t *ret_length, GError **error)
{
  if (location->slot >= decoded->count ||
      memcmp(nc_decoded_address(decoded, location->slot), location->address, NC_ADDRESS_BYTES) != 0)
    return nc_get_damaged(store, location, "the index names a block there that is not: have it made again", error) != NULL;
  uint32_t length = nc_decoded_length(decoded, location->slot);
  if (length > capacity)
    return nc_fail(error, NC_ERROR_INVALID, "page store %s: a block of %u bytes, with room for %zu", store->dir.path, length,
                   capacity);
  memcpy(data, decoded->data + decoded->starts[location->slot], length);
  *ret_length = length;
  return true;
}

/* ${digest} is that of what was got from ${location} for ${hash}. */
static bool
nc_get_check(NcPageStore *store, const NcLocation *location, const uint8_t digest[NC_SHA256_BYTES],
             const uint8_t hash[NC_SHA256_BYTES], GError **error)
{
  return memcmp(digest, hash, NC_SHA256_BYTES) == 0 ||
         nc_get_damaged(store, location, "a block is not what its SHA-256 says", error) != NULL;
}

/* Not verified yet; *ret_location is where it came from. */
static bool
nc_get_unverified(NcPageStore *store, const uint8_t hash[NC_SHA256_BYTES], void *data, size_t capacity, uint32_t *ret_length,
                  NcLocation *ret_location, GError **error)
{
  uint8_t address[NC_ADDRESS_BYTES];
  NcGetPlace place;

  nc_store_address(store, hash, address);
  NcFind find = nc_get_find(store, address, &place, error);
  if (find == NC_FIND_INDEX_BAD)
    return false;
  if (find == NC_FIND_LOST)
    return nc_get_damaged(store, &place.location, "the pack has been cut short", error) != NULL;
  if (find == NC_FIND_ABSENT) {
    g_autofree char *hex = nc_hex_encode(hash, NC_SHA256_BYTES);
    return nc_fail(error, NC_ERROR_NOT_FOUND, "page store %s: no block %s", store->dir.path, hex);
  }
  if (!place.decoded && place.fd < 0)
    return false;
  g_autoptr(NcDecoded) decoded = nc_get_record(store, &place, error);
  *ret_location = place.location;
  return decoded && nc_get_block(store, &place.location, decoded, data, capacity, ret_length, error);
}

bool
nc_page_store_get(NcPageStore *store, const uint8_t hash[NC_SHA256_BYTES], void *data, size_t capacity, uint32_t *ret_length,
                  GError **error)
{
  uint8_t digest[NC_SHA256_BYTES];
  NcLocation location;
  uint32_t length;

  if (!nc_get_unverified(store, hash, data, capacity, &length, &location, error))
    return false;
  nc_sha256(data, length, digest);
  if (!nc_get_check(store, &location, digest, hash, error))
    return false;
  *ret_length = length;
  return true;
}

/* At most NC_STORE_GET_GROUP of them. */
static bool
nc_get_pages(NcPageStore *store, const uint8_t *const *hashes, unsigned count, uint8_t *data, GError **error)
{
  const uint8_t *pages[NC_STORE_GET_GROUP];
  uint8_t digests[NC_STORE_GET_GROUP][NC_SHA256_BYTES];
  NcLocation locations[NC_STORE_GET_GROUP];
  uint32_t length;

  for (unsigned i = 0; i < count; i++) {
    pages[i] = data + (size_t)i * NC_PIECE_LEAF_BYTES;
    if (!nc_get_unverified(store, hashes[i], data + (size_t)i * NC_PIECE_LEAF_BYTES, NC_PIECE_LEAF_BYTES, &length, &locations[i], error))
      return false;
    if (length != NC_PIECE_LEAF_BYTES)
      return nc_fail(error, NC_ERROR_INVALID, "page store %s: a block of %u bytes, which is no page", store->dir.path, length);
  }
  nc_piece_leaves(pages, count, digests);
  for (unsigned i = 0; i < count; i++)
    if (!nc_get_check(store, &locations[i], digests[i], hashes[i], error))
      return false;
  return true;
}

bool
nc_page_store_get_pages(NcPageStore *store, const uint8_t *const *hashes, unsigned count, uint8_t *data, GError **error)
{
  for (unsigned at = 0; at < count; at += NC_STORE_GET_GROUP)
    if (!nc_get_pages(store, hashes + at, MIN(count - at, NC_STORE_GET_GROUP), data + (size_t)at * NC_PIECE_LEAF_BYTES, error))
      return false;
  return true;
}
