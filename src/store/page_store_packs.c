/* SPDX-License-Identifier: Apache-2.0 */
/* What gc, verify, rebuild and the counters have in common: all packs, one at a time. */
#include "store/page_store_internal.h"
#include "store/page_store_manifest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

static int
nc_packs_compare(gconstpointer a, gconstpointer b)
{
  uint32_t x = ((const NcPack *)a)->id, y = ((const NcPack *)b)->id;
  return (x > y) - (x < y);
}

GArray *
nc_packs_snapshot(NcPageStore *store)
{
  GArray *list = g_array_new(FALSE, FALSE, sizeof(NcPack));
  GHashTableIter iter;
  gpointer value;

  pthread_rwlock_rdlock(&store->map);
  g_hash_table_iter_init(&iter, store->packs);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    g_array_append_vals(list, value, 1);
  pthread_rwlock_unlock(&store->map);
  g_array_sort(list, nc_packs_compare);
  return list;
}

bool
nc_packs_begin_collecting(NcPageStore *store, GError **error)
{
  if (pthread_mutex_trylock(&store->collecting) == 0)
    return true;
  return nc_fail(error, NC_ERROR_CONFLICT, "page store %s: garbage is being collected, or the store verified: try again later",
                 store->dir.path);
}

void
nc_packs_set_work(NcPageStore *store, const GArray *packs, uint64_t done)
{
  uint64_t total = 0;

  for (guint i = 0; i < packs->len; i++)
    total += g_array_index(packs, NcPack, i).length;
  __atomic_store_n(&store->work_done, MIN(done, total), __ATOMIC_RELAXED);
  __atomic_store_n(&store->work_total, total, __ATOMIC_RELAXED);
}

void
nc_packs_end_collecting(NcPageStore *store)
{
  __atomic_store_n(&store->work_total, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&store->work_done, 0, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&store->collecting);
}

static void
nc_packs_count_map(NcPageStore *store, NcPageStoreStats *ret)
{
  GHashTableIter iter;
  gpointer value;

  pthread_rwlock_rdlock(&store->map);
  g_hash_table_iter_init(&iter, store->packs);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const NcPack *pack = value;
    ret->packs++;
    ret->pack_bytes += pack->length;
    ret->blocks += pack->blocks;
    ret->block_bytes += pack->block_bytes;
  }
  for (guint i = 0; i < store->runs->len; i++)
    ret->index_bytes += ((const NcRun *)g_ptr_array_index(store->runs, i))->bytes;
  pthread_rwlock_unlock(&store->map);
}

static void
nc_packs_count_manifests(NcPageStore *store, NcPageStoreStats *ret)
{
  g_autoptr(GPtrArray) files = nc_manifest_files(store, NULL);

  for (guint i = 0; files && i < files->len; i++) {
    struct stat st;
    if (fstatat(store->dir.fd, g_ptr_array_index(files, i), &st, AT_SYMLINK_NOFOLLOW) < 0)
      continue;
    ret->manifests += g_str_has_suffix(g_ptr_array_index(files, i), NC_MANIFEST_SUFFIX);
    ret->manifest_bytes += (uint64_t)st.st_size;
  }
}

void
nc_page_store_stats(NcPageStore *store, NcPageStoreStats *ret)
{
  struct statvfs disk;

  *ret = (NcPageStoreStats){ .budget_bytes = store->budget, .encrypted = store->key != NULL, .read_only = store->read_only };
  bool is_there = fstatvfs(store->dir.fd, &disk) == 0;
  if (is_there) {
    ret->disk_free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    ret->read_only = store->read_only || (disk.f_flag & ST_RDONLY); /* since its file system found damage, say */
  }
  ret->work_total = __atomic_load_n(&store->work_total, __ATOMIC_RELAXED);
  ret->work_done = __atomic_load_n(&store->work_done, __ATOMIC_RELAXED);
  nc_packs_count_map(store, ret);
  nc_packs_count_manifests(store, ret);
  nc_hold(&store->small);
  ret->used_bytes = store->used;
  ret->dead_bytes = store->dead_bytes;
  ret->dead_known_us = store->dead_known_us;
  ret->failed = store->failed || g_atomic_int_get(&store->refused) || !is_there;
}
