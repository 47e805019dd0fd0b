/* SPDX-License-Identifier: Apache-2.0 */
/* Writers: putting blocks, holding them, flushing. */
#include "store/page_store_internal.h"

NcPageStoreWriter *
nc_page_store_writer_new(NcPageStore *store, GError **error)
{
  if (!nc_store_writable(store, error))
    return NULL;
  NcPageStoreWriter *writer = g_new0(NcPageStoreWriter, 1);
  writer->store = store;
  writer->pins = g_hash_table_new(NULL, NULL);
  nc_hold(&store->small);
  g_ptr_array_add(store->writers, writer);
  return writer;
}

void
nc_page_store_writer_free(NcPageStoreWriter *writer)
{
  if (!writer)
    return;
  /* What it held while gc runs remains in `touched`: gc may have missed the manifest. */
  pthread_mutex_lock(&writer->store->small);
  g_ptr_array_remove_fast(writer->store->writers, writer);
  pthread_mutex_unlock(&writer->store->small);
  g_hash_table_unref(writer->pins);
  g_free(writer);
}

void
nc_writer_pin_locked(NcPageStore *store, NcPageStoreWriter *writer, uint32_t pack)
{
  if (writer)
    g_hash_table_add(writer->pins, GUINT_TO_POINTER(pack));
  if (store->touched)
    g_hash_table_add(store->touched, GUINT_TO_POINTER(pack));
}

static bool
nc_put_check(const NcPageStore *store, const NcPageBlock *blocks, unsigned count, GError **error)
{
  uint64_t total = 0;

  if (count > NC_PAGE_STORE_PUT_BLOCKS)
    return nc_fail(error, NC_ERROR_INVALID, "page store %s: %u blocks in one put, at most %u go", store->dir.path, count,
                   NC_PAGE_STORE_PUT_BLOCKS);
  for (unsigned i = 0; i < count; i++) {
    if (blocks[i].length == 0 || blocks[i].length > NC_PAGE_STORE_BLOCK_MAX)
      return nc_fail(error, NC_ERROR_INVALID, "page store %s: a block of %u bytes: 1 to %u go", store->dir.path, blocks[i].length,
                     NC_PAGE_STORE_BLOCK_MAX);
    total += blocks[i].length;
  }
  if (total > NC_PAGE_STORE_PUT_MAX)
    return nc_fail(error, NC_ERROR_INVALID, "page store %s: %llu bytes in one put, at most %u go", store->dir.path,
                   (unsigned long long)total, NC_PAGE_STORE_PUT_MAX);
  return true;
}

/* Computes or verifies the hashes. */
static bool
nc_put_hash(const NcPageStore *store, NcPageBlock *blocks, unsigned count, NcPutMode mode, GError **error)
{
  for (unsigned i = 0; i < count; i++) {
    uint8_t hash[NC_SHA256_BYTES];
    nc_sha256(blocks[i].data, blocks[i].length, hash);
    if (mode == NC_PUT_COMPUTE)
      memcpy(blocks[i].hash, hash, sizeof hash);
    else if (memcmp(blocks[i].hash, hash, sizeof hash) != 0)
      return nc_fail(error, NC_ERROR_CORRUPT, "page store %s: block %u of a put is not what its SHA-256 says",
                     store->dir.path, i);
  }
  return true;
}

static guint
nc_put_address_hash(gconstpointer address)
{
  return nc_be32(address);
}

static gboolean
nc_put_address_equal(gconstpointer a, gconstpointer b)
{
  return memcmp(a, b, NC_ADDRESS_BYTES) == 0;
}

/* Is it there, and, as far as we know, whole? A damaged index only means that it is stored once more. */
static bool
nc_put_is_there(NcPageStoreWriter *writer, const uint8_t address[NC_ADDRESS_BYTES], NcLocation *ret)
{
  return nc_index_find(writer->store, address, writer, ret, NULL) == NC_FIND_THERE &&
         !nc_store_record_is_bad(writer->store, ret->pack, ret->offset);
}

/* Which of ${blocks} must be stored; their addresses are at ${addresses}. Array of NcFrameBlock, borrowing both. */
static GArray *
nc_put_select(NcPageStoreWriter *writer, NcPageBlock *blocks, unsigned count, uint8_t (*addresses)[NC_ADDRESS_BYTES])
{
  g_autoptr(GHashTable) seen = g_hash_table_new(nc_put_address_hash, nc_put_address_equal);
  GArray *wanted = g_array_new(FALSE, FALSE, sizeof(NcFrameBlock));

  for (unsigned i = 0; i < count; i++) {
    NcLocation location;
    nc_store_address(writer->store, blocks[i].hash, addresses[i]);
    blocks[i].is_new = g_hash_table_add(seen, addresses[i]) && !nc_put_is_there(writer, addresses[i], &location);
    if (!blocks[i].is_new)
      continue;
    NcFrameBlock block = { .address = addresses[i], .data = blocks[i].data, .length = blocks[i].length };
    g_array_append_val(wanted, block);
  }
  return wanted;
}

GArray *
nc_put_build_frames(const NcFrameBlock *blocks, unsigned count, int level)
{
  GArray *frames = g_array_new(FALSE, FALSE, sizeof(NcFrame));

  while (count > 0) {
    unsigned n = nc_frame_fit(blocks, count);
    NcFrame frame;
    nc_frame_build(&frame, blocks, n, level);
    g_array_append_val(frames, frame);
    blocks += n;
    count -= n;
  }
  return frames;
}

void
nc_put_free_frames(GArray *frames)
{
  for (guint i = 0; i < frames->len; i++)
    nc_frame_clear(&g_array_index(frames, NcFrame, i));
  g_array_unref(frames);
}

bool
nc_page_store_put(NcPageStoreWriter *writer, NcPageBlock *blocks, unsigned count, NcPutMode mode, GError **error)
{
  NcPageStore *store = writer->store;
  g_autofree uint8_t(*addresses)[NC_ADDRESS_BYTES] = g_malloc((gsize)count * NC_ADDRESS_BYTES + 1);

  if (!nc_store_writable(store, error) || !nc_put_check(store, blocks, count, error) ||
      !nc_put_hash(store, blocks, count, mode, error))
    return false;
  g_autoptr(GArray) wanted = nc_put_select(writer, blocks, count, addresses);
  if (wanted->len == 0)
    return true;
  GArray *frames = nc_put_build_frames((const NcFrameBlock *)(void *)wanted->data, wanted->len, store->level);
  bool ok = nc_append_frames(store, (NcFrame *)(void *)frames->data, frames->len, writer, false, error);
  nc_put_free_frames(frames);
  return ok;
}

bool
nc_page_store_hold(NcPageStoreWriter *writer, const uint8_t hash[NC_SHA256_BYTES], uint32_t *ret_length)
{
  uint8_t address[NC_ADDRESS_BYTES];
  NcLocation location;

  nc_store_address(writer->store, hash, address);
  if (!nc_put_is_there(writer, address, &location))
    return false;
  if (ret_length)
    *ret_length = nc_location_length(&location);
  return true;
}

bool
nc_page_store_flush(NcPageStore *store, GError **error)
{
  if (!nc_store_writable(store, error))
    return false;
  nc_hold(&store->appending);
  return nc_append_sync_locked(store, error);
}
