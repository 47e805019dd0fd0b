/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint/puts.h"
#include "base/meminfo.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define NC_PUTS_THREADS 2
#define NC_PUTS_NICE 5 /* a third of the time that a guest's processor gets on the same core */
#define NC_BATCH_BYTES (512u << 10)
#define NC_BATCH_BLOCKS 128u
#define NC_BATCH_ENTRIES 4096u

typedef struct {
  uint8_t *data; /* NC_BATCH_BYTES, more if one block needs it */
  uint32_t filled;
  NcPageBlock blocks[NC_BATCH_BLOCKS]; /* to be put */
  unsigned count;
  GArray *entries; /* NcManifestEntry, what goes into the manifest; a length of 0: the next of blocks. NULL: just these */
  bool done; /* lock: the thread has finished with it */
} NcBatch;

struct NcPuts {
  NcPageStoreWriter *writer;
  NcManifestWriter *manifest;
  GThreadPool *pool;
  NcBatch *open;  /* being filled; NULL: none */
  GQueue waiting; /* NcBatch*, oldest first; of the adding thread */
  unsigned most_waiting;
  NcPutsTotals totals;
  GMutex lock; /* protects error, and done of batches */
  GCond finished;
  GError *error; /* the first one */
};

static void
nc_batch_free(NcBatch *batch)
{
  if (!batch)
    return;
  g_free(batch->data);
  g_clear_pointer(&batch->entries, g_array_unref);
  g_free(batch);
}

/* In the pool. */
static void
nc_puts_work(gpointer data, gpointer user_data)
{
  NcBatch *batch = data;
  NcPuts *puts = user_data;
  g_autoptr(GError) error = NULL;

  setpriority(PRIO_PROCESS, (id_t)gettid(), NC_PUTS_NICE); /* Linux: of this thread. The pool's threads are its own. */
  g_mutex_lock(&puts->lock);
  bool skip = puts->error != NULL;
  g_mutex_unlock(&puts->lock);
  if (!skip && batch->count)
    nc_page_store_put(puts->writer, batch->blocks, batch->count, NC_PUT_COMPUTE, &error);
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&puts->lock);
  if (error && !puts->error)
    puts->error = g_steal_pointer(&error);
  batch->done = true;
  g_cond_broadcast(&puts->finished);
}

NcPuts *
nc_puts_new(NcPageStoreWriter *writer, NcManifestWriter *manifest)
{
  NcPuts *puts = g_new0(NcPuts, 1);
  puts->writer = writer;
  puts->manifest = manifest;
  g_mutex_init(&puts->lock);
  g_cond_init(&puts->finished);
  g_queue_init(&puts->waiting);
  uint64_t room = CLAMP(nc_memory_available_bytes() / 4, NC_PUTS_WAITING_LEAST, NC_PUTS_WAITING_MOST);
  puts->most_waiting = (unsigned)(room / NC_BATCH_BYTES);
  puts->pool = g_thread_pool_new(nc_puts_work, puts, NC_PUTS_THREADS, TRUE, NULL);
  return puts;
}

void
nc_puts_free(NcPuts *puts)
{
  if (!puts)
    return;
  g_thread_pool_free(puts->pool, FALSE, TRUE);
  g_queue_clear_full(&puts->waiting, (GDestroyNotify)nc_batch_free);
  nc_batch_free(puts->open);
  g_clear_error(&puts->error);
  g_cond_clear(&puts->finished);
  g_mutex_clear(&puts->lock);
  g_free(puts);
}

static bool
nc_puts_list_one(NcPuts *puts, const uint8_t *hash, uint32_t length, bool is_new, GError **error)
{
  if (!nc_manifest_add(puts->manifest, hash, length, error))
    return false;
  puts->totals.blocks++;
  puts->totals.bytes += length;
  puts->totals.new_blocks += is_new;
  puts->totals.new_bytes += is_new ? length : 0;
  return true;
}

static bool
nc_puts_list(NcPuts *puts, const NcBatch *batch, GError **error)
{
  guint all = batch->entries ? batch->entries->len : batch->count;
  unsigned put = 0;

  for (guint i = 0; i < all; i++) {
    const NcManifestEntry *known = batch->entries ? &g_array_index(batch->entries, NcManifestEntry, i) : NULL;
    const NcPageBlock *block = known && known->length ? NULL : &batch->blocks[put++];
    if (!(block ? nc_puts_list_one(puts, block->hash, block->length, block->is_new, error)
                : nc_puts_list_one(puts, known->hash, known->length, false, error)))
      return false;
  }
  return true;
}

/* Lists what is done in the manifest, in order, until at most ${most} batches wait. */
static bool
nc_puts_settle(NcPuts *puts, unsigned most, GError **error)
{
  for (NcBatch *batch; (batch = g_queue_peek_head(&puts->waiting)) != NULL;) {
    g_mutex_lock(&puts->lock);
    while (!batch->done && puts->waiting.length > most)
      g_cond_wait(&puts->finished, &puts->lock);
    bool done = batch->done;
    GError *failed = puts->error ? g_error_copy(puts->error) : NULL;
    g_mutex_unlock(&puts->lock);
    if (failed) {
      g_propagate_error(error, failed);
      return false;
    }
    if (!done)
      return true;
    g_queue_pop_head(&puts->waiting);
    bool ok = nc_puts_list(puts, batch, error);
    nc_batch_free(batch);
    if (!ok)
      return false;
  }
  return true;
}

static void
nc_puts_submit(NcPuts *puts)
{
  NcBatch *batch = g_steal_pointer(&puts->open);
  if (!batch)
    return;
  g_queue_push_tail(&puts->waiting, batch);
  g_thread_pool_push(puts->pool, batch, NULL);
}

/* Makes room for one more, of so many bytes of data. */
static bool
nc_puts_make_room(NcPuts *puts, uint32_t length, GError **error)
{
  NcBatch *open = puts->open;
  bool full = open && (open->count == NC_BATCH_BLOCKS || length > NC_BATCH_BYTES - open->filled ||
                       (open->entries && open->entries->len >= NC_BATCH_ENTRIES));

  if (full) {
    nc_puts_submit(puts);
    if (!nc_puts_settle(puts, puts->most_waiting, error))
      return false;
  }
  if (!puts->open) {
    puts->open = g_new0(NcBatch, 1);
    puts->open->data = g_malloc(NC_BATCH_BYTES);
  }
  return true;
}

bool
nc_puts_add_known(NcPuts *puts, const uint8_t hash[NC_SHA256_BYTES], uint32_t length, GError **error)
{
  NcManifestEntry entry = { .length = length }, put = { .length = 0 };

  if (length == 0 || length > NC_PAGE_STORE_BLOCK_MAX)
    return nc_fail(error, NC_ERROR_INVALID, "a block of %u bytes can't be stored", length);
  if (!nc_puts_make_room(puts, 0, error))
    return false;
  NcBatch *batch = puts->open;
  if (!batch->entries) {
    batch->entries = g_array_new(FALSE, FALSE, sizeof(NcManifestEntry));
    for (unsigned i = 0; i < batch->count; i++)
      g_array_append_val(batch->entries, put);
  }
  memcpy(entry.hash, hash, sizeof entry.hash);
  g_array_append_val(batch->entries, entry);
  return true;
}

bool
nc_puts_add(NcPuts *puts, const void *data, uint32_t length, GError **error)
{
  if (length == 0 || length > NC_PAGE_STORE_BLOCK_MAX)
    return nc_fail(error, NC_ERROR_INVALID, "a block of %u bytes can't be stored", length);
  if (!nc_puts_make_room(puts, length, error))
    return false;
  NcBatch *batch = puts->open;
  memcpy(batch->data + batch->filled, data, length);
  batch->blocks[batch->count++] = (NcPageBlock){ .data = batch->data + batch->filled, .length = length };
  batch->filled += length;
  if (batch->entries) {
    const NcManifestEntry put = { .length = 0 };
    g_array_append_val(batch->entries, put);
  }
  return true;
}

bool
nc_puts_finish(NcPuts *puts, NcPutsTotals *ret_totals, GError **error)
{
  nc_puts_submit(puts);
  if (!nc_puts_settle(puts, 0, error))
    return false;
  *ret_totals = puts->totals;
  puts->totals = (NcPutsTotals){ 0 };
  return true;
}
