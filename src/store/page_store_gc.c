/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collecting garbage: mark what manifests name, weigh each pack, remove packs
 * that are dead, rewrite those that mostly are.
 *
 * What protects from taking too much: everything that a writer holds when gc begins, or comes to hold
 * while it runs, puts its pack into `touched`, which is left alone, also when the writer has gone
 * (its manifest may have come too late for the marks). What lies in such a pack is marked, too, since the index
 * may know a newer copy elsewhere. A pack leaves the map under
 * its write lock, in the same breath as the look whether it has been touched.
 */
#include "store/page_store_gc.h"
#include "base/ident.h"
#include "base/log.h"

#define NC_GC_PERCENT_DEFAULT 30u
/* So many packs below a quarter of their size are made into full ones: each opening leaves one. */
#define NC_GC_SMALL_PACKS 8u

typedef struct {
  NcPageStore *store;
  const NcPageStoreGcOptions *options;
  NcPageStoreGcReport *report;
  NcMarks *marks;
  GHashTable *live;  /* pack id -> live bytes before compression, guint64, owned */
  GArray *packs;     /* NcPack, as they were */
  uint64_t blocks_gone;
} NcGc;

static void
nc_gc_begin(NcPageStore *store)
{
  nc_hold(&store->small);
  store->touched = g_hash_table_new(NULL, NULL);
  for (guint i = 0; i < store->writers->len; i++) {
    const NcPageStoreWriter *writer = g_ptr_array_index(store->writers, i);
    GHashTableIter iter;
    gpointer id;
    g_hash_table_iter_init(&iter, writer->pins);
    while (g_hash_table_iter_next(&iter, &id, NULL))
      g_hash_table_add(store->touched, id);
  }
}

static void
nc_gc_end(NcPageStore *store)
{
  nc_hold(&store->small);
  g_clear_pointer(&store->touched, g_hash_table_unref);
}

static bool
nc_gc_is_touched(NcPageStore *store, uint32_t pack)
{
  nc_hold(&store->small);
  return g_hash_table_contains(store->touched, GUINT_TO_POINTER(pack));
}

static bool
nc_gc_mark(NcGc *gc, GError **error)
{
  uint64_t blocks = 0;

  for (guint i = 0; i < gc->packs->len; i++)
    blocks += g_array_index(gc->packs, NcPack, i).blocks;
  gc->marks = nc_marks_new(blocks);
  for (guint i = 0; i < gc->packs->len; i++) {
    const NcPack *pack = &g_array_index(gc->packs, NcPack, i);
    if (nc_gc_is_touched(gc->store, pack->id))
      nc_marks_add_pack(gc->marks, gc->store, pack);
  }
  return nc_marks_add_manifests(gc->marks, gc->store, gc->options->cancelled, error);
}

/* How much of each pack is live. */
static bool
nc_gc_weigh(NcGc *gc, GError **error)
{
  g_autoptr(NcIndexWalk) walk = nc_index_walk_new(gc->store);
  const NcLocation *row;

  for (;;) {
    if (!nc_index_walk_next(walk, &row, error) || !nc_store_go_on(gc->options->cancelled, error))
      return false;
    if (!row)
      return true;
    if (!nc_marks_has(gc->marks, row->address))
      continue;
    guint64 *sum = g_hash_table_lookup(gc->live, GUINT_TO_POINTER(row->pack));
    if (!sum) {
      sum = g_new0(guint64, 1);
      g_hash_table_insert(gc->live, GUINT_TO_POINTER(row->pack), sum);
    }
    *sum += nc_location_length(row);
  }
}

static uint64_t
nc_gc_live_raw(const NcGc *gc, const NcPack *pack)
{
  const guint64 *sum = g_hash_table_lookup(gc->live, GUINT_TO_POINTER(pack->id));
  return sum ? *sum : 0;
}

/* Its live bytes as stored: the live blocks' share of it. */
static uint64_t
nc_gc_live_stored(const NcGc *gc, const NcPack *pack)
{
  uint64_t live = nc_gc_live_raw(gc, pack);

  if (live == 0)
    return 0;
  return pack->block_bytes <= live ? pack->length : (uint64_t)((double)pack->length * (double)live / (double)pack->block_bytes);
}

/* Takes the pack out of the map, unless somebody holds it, and then its file away. */
static bool
nc_gc_remove(NcGc *gc, const NcPack *pack)
{
  NcPageStore *store = gc->store;
  char name[NC_PACK_NAME_BYTES];
  g_autoptr(GError) error = NULL;

  pthread_rwlock_wrlock(&store->map);
  bool touched = nc_gc_is_touched(store, pack->id);
  if (!touched)
    g_hash_table_remove(store->packs, GUINT_TO_POINTER(pack->id));
  pthread_rwlock_unlock(&store->map);
  if (touched)
    return false;
  nc_pack_name(pack->id, name);
  if (!nc_store_unlink(&store->dir, name, &error))
    nc_log(NC_LOG_WARNING, "store", "%s (is there again after the next opening)", error->message);
  nc_store_count(store, -(int64_t)pack->length);
  gc->report->packs_removed++;
  gc->report->freed_bytes += pack->length;
  gc->blocks_gone += pack->blocks;
  return true;
}

static bool
nc_gc_is_small(const NcGc *gc, const NcPack *pack)
{
  return pack->sealed && !pack->damaged && pack->length < gc->store->pack_bytes / 4;
}

/* Should it be rewritten? ${merge_small}: there are many small ones. */
static bool
nc_gc_wants_rewrite(const NcGc *gc, const NcPack *pack, bool merge_small)
{
  unsigned percent = gc->options->rewrite_percent ? gc->options->rewrite_percent : NC_GC_PERCENT_DEFAULT;
  uint64_t dead = pack->length - nc_gc_live_stored(gc, pack);

  if (percent > 100)
    return false;
  return dead * 100 >= (uint64_t)pack->length * percent || (merge_small && nc_gc_is_small(gc, pack));
}

static bool
nc_gc_rewrite(NcGc *gc, const NcPack *pack, GError **error)
{
  bool damaged;

  if (nc_gc_is_touched(gc->store, pack->id)) {
    gc->report->packs_held++;
    return true;
  }
  uint64_t live = nc_gc_live_stored(gc, pack);
  if (!nc_gc_copy_pack(gc->store, pack, gc->marks, gc->options->cancelled, &damaged, error))
    return false;
  if (damaged) {
    gc->report->packs_damaged++;
    return true;
  }
  if (!nc_gc_remove(gc, pack)) {
    gc->report->packs_held++;
    return true;
  }
  gc->report->packs_rewritten++;
  gc->report->freed_bytes -= MIN(live, pack->length);
  return true;
}

static void
nc_gc_remove_dead(NcGc *gc)
{
  for (guint i = 0; i < gc->packs->len; i++) {
    const NcPack *pack = &g_array_index(gc->packs, NcPack, i);
    if (nc_gc_live_raw(gc, pack) == 0 && (pack->sealed || pack->damaged) && !nc_gc_remove(gc, pack))
      gc->report->packs_held++;
  }
}

static bool
nc_gc_rewrite_packs(NcGc *gc, GError **error)
{
  unsigned small = 0;
  uint64_t done = 0;

  for (guint i = 0; i < gc->packs->len; i++) {
    const NcPack *pack = &g_array_index(gc->packs, NcPack, i);
    small += nc_gc_is_small(gc, pack) && nc_gc_live_raw(gc, pack) > 0;
  }
  for (guint i = 0; i < gc->packs->len; i++) {
    const NcPack *pack = &g_array_index(gc->packs, NcPack, i);
    nc_packs_set_work(gc->store, gc->packs, done);
    done += pack->length;
    if (nc_gc_live_raw(gc, pack) == 0 || !nc_gc_wants_rewrite(gc, pack, small >= NC_GC_SMALL_PACKS))
      continue;
    if (pack->damaged || !pack->sealed)
      gc->report->packs_damaged += pack->damaged;
    else if (!nc_gc_rewrite(gc, pack, error))
      return false;
  }
  return true;
}

static void
nc_gc_count(NcGc *gc)
{
  for (guint i = 0; i < gc->packs->len; i++) {
    const NcPack *pack = &g_array_index(gc->packs, NcPack, i);
    uint64_t live = nc_gc_live_stored(gc, pack);
    gc->report->live_bytes += live;
    gc->report->dead_bytes += pack->length - live;
  }
}

static void
nc_gc_note_dead(const NcGc *gc)
{
  nc_hold(&gc->store->small);
  gc->store->dead_bytes = gc->report->dead_bytes - MIN(gc->report->freed_bytes, gc->report->dead_bytes);
  gc->store->dead_known_us = nc_wall_us();
}

/* The open pack can't be collected, so it is closed first. If the disk is too full for that, it stays. */
static void
nc_gc_seal(NcPageStore *store)
{
  g_autoptr(GError) error = NULL;
  nc_hold(&store->appending);

  if (!nc_append_seal_locked(store, &error))
    nc_log(NC_LOG_WARNING, "store", "%s", error->message);
}

static bool
nc_gc_index_is_bad(NcPageStore *store)
{
  nc_hold(&store->small);
  return store->index_bad;
}

/* A damaged index could hide where a block is. */
static bool
nc_gc_mend_index(NcPageStore *store, GError **error)
{
  if (!nc_gc_index_is_bad(store))
    return true;
  nc_log(NC_LOG_WARNING, "store", "page store %s: its index is damaged; made again from the packs", store->dir.path);
  return nc_rebuild_index_locked(store, error);
}

static bool
nc_gc_collect(NcGc *gc, GError **error)
{
  g_autoptr(GError) later = NULL;
  uint64_t blocks = 0;

  /* The copy that counts may be one that was put a moment ago: durable before an older one goes. */
  if (!nc_page_store_flush(gc->store, error))
    return false;
  nc_gc_remove_dead(gc);
  bool ok = nc_gc_rewrite_packs(gc, error);
  for (guint i = 0; i < gc->packs->len; i++)
    blocks += g_array_index(gc->packs, NcPack, i).blocks;
  if (gc->blocks_gone > blocks / 4 && !nc_index_compact(gc->store, &later))
    nc_log(NC_LOG_WARNING, "store", "%s", later->message);
  nc_gc_note_dead(gc);
  return ok;
}

/* With collecting held and touched being kept. A second time if the index turns out to be damaged: then it is made again. */
static bool
nc_gc_run(NcGc *gc, GError **error)
{
  NcPageStore *store = gc->store;
  g_autoptr(GError) why = NULL;

  for (unsigned round = 0; round < 2; round++) {
    g_clear_error(&why);
    if (!gc->options->dry_run) {
      nc_gc_seal(store);
      if (!nc_gc_mend_index(store, error))
        return false;
    }
    g_clear_pointer(&gc->packs, g_array_unref);
    g_clear_pointer(&gc->marks, nc_marks_free);
    g_hash_table_remove_all(gc->live);
    gc->packs = nc_packs_snapshot(store);
    if (nc_gc_mark(gc, &why) && nc_gc_weigh(gc, &why))
      break;
    if (why->code != NC_ERROR_CORRUPT || gc->options->dry_run || !nc_gc_index_is_bad(store))
      break;
  }
  if (why) {
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
  }
  nc_gc_count(gc);
  if (!gc->options->dry_run)
    return nc_gc_collect(gc, error);
  nc_gc_note_dead(gc);
  return true;
}

bool
nc_page_store_gc(NcPageStore *store, const NcPageStoreGcOptions *options, NcPageStoreGcReport *ret_report, GError **error)
{
  static const NcPageStoreGcOptions defaults;
  NcPageStoreGcReport report = { 0 };
  NcGc gc = { .store = store, .options = options ? options : &defaults, .report = &report };
  g_autoptr(GError) why = NULL;

  if ((!gc.options->dry_run && !nc_store_writable(store, error)) || !nc_packs_begin_collecting(store, error))
    return false;
  gc.live = g_hash_table_new_full(NULL, NULL, NULL, g_free);
  nc_gc_begin(store);
  bool ok = nc_gc_run(&gc, &why);
  nc_gc_end(store);
  nc_packs_end_collecting(store);
  g_clear_pointer(&gc.packs, g_array_unref);
  g_clear_pointer(&gc.marks, nc_marks_free);
  g_hash_table_unref(gc.live);
  if (ret_report && (ok || why->code == NC_ERROR_RESOURCE))
    *ret_report = report;
  if (!ok)
    g_propagate_error(error, g_steal_pointer(&why));
  return ok;
}
