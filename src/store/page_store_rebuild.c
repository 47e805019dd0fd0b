/* SPDX-License-Identifier: Apache-2.0 */
/* Making the index again from the packs. */
#include "store/page_store_internal.h"
#include "base/log.h"

typedef struct {
  NcPageStore *store;
  NcTable *table;
  GPtrArray *runs;  /* made so far */
  GArray *covered;  /* NcRunPack: by the run to come */
} NcRebuild;

/* The first run replaces all that there were. */
static bool
nc_rebuild_spill(NcRebuild *rebuild, GError **error)
{
  if (!nc_index_spill(rebuild->store, rebuild->table, rebuild->runs->len == 0 ? 1 : 0, rebuild->runs, rebuild->covered, error))
    return false;
  nc_table_free(rebuild->table);
  rebuild->table = nc_table_new();
  g_array_set_size(rebuild->covered, 0);
  return true;
}

/* What was found out about a pack while looking through it. */
static void
nc_rebuild_note_pack(NcPageStore *store, const NcPack *seen)
{
  pthread_rwlock_wrlock(&store->map);
  NcPack *pack = g_hash_table_lookup(store->packs, GUINT_TO_POINTER(seen->id));
  if (pack) {
    pack->blocks = seen->blocks;
    pack->block_bytes = seen->block_bytes;
    pack->damaged = pack->damaged || seen->damaged;
  }
  pthread_rwlock_unlock(&store->map);
}

static bool
nc_rebuild_pack(NcRebuild *rebuild, NcPack *pack, GError **error)
{
  if (!nc_scan_pack(rebuild->store, pack, false, rebuild->table, error))
    return false;
  nc_rebuild_note_pack(rebuild->store, pack);
  if (!pack->damaged || pack->blocks > 0) {
    NcRunPack row = { .id = pack->id, .length = pack->length, .blocks = pack->blocks, .block_bytes = pack->block_bytes };
    g_array_append_val(rebuild->covered, row);
  }
  return rebuild->table->count < rebuild->store->table_entries || nc_rebuild_spill(rebuild, error);
}

/* Under maintaining and appending, with no open pack: all that is known is in sealed packs. */
static bool
nc_rebuild_all(NcRebuild *rebuild, GError **error)
{
  g_autoptr(GArray) packs = nc_packs_snapshot(rebuild->store);

  for (guint i = 0; i < packs->len; i++)
    if (!nc_rebuild_pack(rebuild, &g_array_index(packs, NcPack, i), error))
      return false;
  return nc_rebuild_spill(rebuild, error);
}

/* The new runs take the place of everything there was. */
static void
nc_rebuild_swap(NcRebuild *rebuild)
{
  NcPageStore *store = rebuild->store;

  pthread_rwlock_wrlock(&store->map);
  GPtrArray *old = store->runs;
  store->runs = rebuild->runs;
  g_ptr_array_set_free_func(store->runs, (GDestroyNotify)nc_run_unref);
  nc_table_free(store->table);
  store->table = nc_table_new();
  g_clear_pointer(&store->frozen, nc_table_free);
  pthread_rwlock_unlock(&store->map);
  rebuild->runs = old;
  pthread_mutex_lock(&store->small);
  store->index_bad = false;
  pthread_mutex_unlock(&store->small);
}

bool
nc_rebuild_index_locked(NcPageStore *store, GError **error)
{
  NcRebuild rebuild = { .store = store };
  rebuild.table = nc_table_new();
  rebuild.runs = g_ptr_array_new_with_free_func((GDestroyNotify)nc_run_unref);
  rebuild.covered = g_array_new(FALSE, FALSE, sizeof(NcRunPack));
  pthread_mutex_lock(&store->maintaining);
  pthread_mutex_lock(&store->appending);
  bool ok = nc_append_seal_locked(store, error) && nc_rebuild_all(&rebuild, error);
  if (ok)
    nc_rebuild_swap(&rebuild);
  nc_index_unlink_runs(store, rebuild.runs); /* the old ones; the new ones if it failed */
  pthread_mutex_unlock(&store->appending);
  pthread_mutex_unlock(&store->maintaining);
  nc_table_free(rebuild.table);
  g_array_unref(rebuild.covered);
  g_ptr_array_unref(rebuild.runs);
  return ok;
}

bool
nc_page_store_rebuild_index(NcPageStore *store, GError **error)
{
  if (!nc_store_writable(store, error) || !nc_packs_begin_collecting(store, error))
    return false;
  bool ok = nc_rebuild_index_locked(store, error);
  nc_packs_end_collecting(store);
  return ok;
}
