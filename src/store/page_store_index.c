/* SPDX-License-Identifier: Apache-2.0 */
/* Where blocks lie: the table in memory, then the runs; writing the one out as the other, and merging. */
#include "store/page_store_internal.h"
#include "base/log.h"

bool
nc_index_is_valid_locked(NcPageStore *store, const NcLocation *location)
{
  const NcPack *pack = g_hash_table_lookup(store->packs, GUINT_TO_POINTER(location->pack));
  return pack && location->offset < pack->length && pack->length - location->offset >= NC_RECORD_HEAD_BYTES;
}

/* One candidate. True: it is the answer; else *lost may have become one. */
static bool
nc_index_accept(NcPageStore *store, const NcLocation *candidate, NcLocation *ret, bool *lost)
{
  if (nc_index_is_valid_locked(store, candidate)) {
    *ret = *candidate;
    return true;
  }
  if (!*lost && g_hash_table_contains(store->packs, GUINT_TO_POINTER(candidate->pack))) {
    *ret = *candidate;
    *lost = true;
  }
  return false;
}

NcFind
nc_index_find_locked(NcPageStore *store, const uint8_t address[NC_ADDRESS_BYTES], NcLocation *ret, GError **error)
{
  const NcTable *const tables[] = { store->table, store->frozen };
  bool lost = false;

  for (unsigned i = 0; i < G_N_ELEMENTS(tables); i++) {
    const NcLocation *row = tables[i] ? nc_table_find(tables[i], address) : NULL;
    if (row && nc_index_accept(store, row, ret, &lost))
      return NC_FIND_THERE;
  }
  for (guint i = store->runs->len; i-- > 0;) {
    NcLocation candidate;
    NcRunOutcome outcome = nc_run_find(g_ptr_array_index(store->runs, i), address, &candidate, error);
    if (outcome == NC_RUN_BAD) {
      nc_hold(&store->small);
      store->index_bad = true;
      return NC_FIND_INDEX_BAD;
    }
    if (outcome == NC_RUN_FOUND && nc_index_accept(store, &candidate, ret, &lost))
      return NC_FIND_THERE;
  }
  return lost ? NC_FIND_LOST : NC_FIND_ABSENT;
}

NcFind
nc_index_find(NcPageStore *store, const uint8_t address[NC_ADDRESS_BYTES], NcPageStoreWriter *writer, NcLocation *ret,
              GError **error)
{
  pthread_rwlock_rdlock(&store->map);
  NcFind find = nc_index_find_locked(store, address, ret, error);
  if (find == NC_FIND_THERE && writer) {
    /* In the same breath as the look: gc takes packs away under the write lock only. */
    nc_hold(&store->small);
    nc_writer_pin_locked(store, writer, ret->pack);
  }
  pthread_rwlock_unlock(&store->map);
  return find;
}

/* --- all of it, in order --- */

struct NcIndexWalk {
  NcPageStore *store;
  GPtrArray *runs;        /* references, newest first */
  NcLocation *arrays[2];  /* table and frozen, sorted */
  GPtrArray *cursors;     /* NcRunCursor, newest first */
  NcLocation current;
};

static void
nc_index_walk_add(NcIndexWalk *walk, const NcRun *run, const NcLocation *array, size_t count)
{
  NcRunCursor *cursor = g_new(NcRunCursor, 1);

  if (run)
    nc_run_cursor_init(cursor, run);
  else
    nc_run_cursor_init_array(cursor, array, count);
  g_ptr_array_add(walk->cursors, cursor);
}

static NcIndexWalk *
nc_index_walk_alloc(NcPageStore *store)
{
  NcIndexWalk *walk = g_new0(NcIndexWalk, 1);

  walk->store = store;
  walk->runs = g_ptr_array_new_with_free_func((GDestroyNotify)nc_run_unref);
  walk->cursors = g_ptr_array_new_with_free_func(g_free);
  return walk;
}

static void
nc_index_walk_add_run(NcIndexWalk *walk, NcRun *run)
{
  g_ptr_array_add(walk->runs, nc_run_ref(run));
  nc_index_walk_add(walk, run, NULL, 0);
}

NcIndexWalk *
nc_index_walk_new(NcPageStore *store)
{
  NcIndexWalk *walk = nc_index_walk_alloc(store);

  pthread_rwlock_rdlock(&store->map);
  const NcTable *const tables[] = { store->table, store->frozen };
  for (unsigned i = 0; i < G_N_ELEMENTS(tables); i++) {
    if (!tables[i])
      continue;
    walk->arrays[i] = nc_table_sorted(tables[i]);
    nc_index_walk_add(walk, NULL, walk->arrays[i], tables[i]->count);
  }
  for (guint i = store->runs->len; i-- > 0;)
    nc_index_walk_add_run(walk, g_ptr_array_index(store->runs, i));
  pthread_rwlock_unlock(&store->map);
  return walk;
}

/* Takes the smallest address of all cursors: *ret_any false at the end. *ret_valid: walk->current is its newest valid place. */
static bool
nc_index_walk_step(NcIndexWalk *walk, bool *ret_any, bool *ret_valid, GError **error)
{
  const NcLocation *least = NULL;

  for (guint i = 0; i < walk->cursors->len; i++) {
    const NcLocation *row;
    if (!nc_run_cursor_peek(g_ptr_array_index(walk->cursors, i), &row, error))
      return false;
    if (row && (!least || memcmp(row->address, least->address, NC_ADDRESS_BYTES) < 0))
      least = row;
  }
  *ret_any = least != NULL;
  *ret_valid = false;
  if (!least)
    return true;
  NcLocation wanted = *least;
  pthread_rwlock_rdlock(&walk->store->map);
  for (guint i = 0; i < walk->cursors->len; i++) {
    NcRunCursor *cursor = g_ptr_array_index(walk->cursors, i);
    const NcLocation *row;
    /* Peeked above, so it can't fail now. */
    if (!nc_run_cursor_peek(cursor, &row, NULL) || !row || memcmp(row->address, wanted.address, NC_ADDRESS_BYTES) != 0)
      continue;
    if (!*ret_valid && nc_index_is_valid_locked(walk->store, row)) {
      walk->current = *row;
      *ret_valid = true;
    }
    nc_run_cursor_skip(cursor);
  }
  pthread_rwlock_unlock(&walk->store->map);
  return true;
}

bool
nc_index_walk_next(NcIndexWalk *walk, const NcLocation **ret, GError **error)
{
  bool any, valid;

  do {
    if (!nc_index_walk_step(walk, &any, &valid, error)) {
      nc_hold(&walk->store->small);
      walk->store->index_bad = true;
      return false;
    }
  } while (any && !valid);
  *ret = any ? &walk->current : NULL;
  return true;
}

void
nc_index_walk_free(NcIndexWalk *walk)
{
  if (!walk)
    return;
  g_ptr_array_unref(walk->cursors);
  g_ptr_array_unref(walk->runs);
  g_free(walk->arrays[0]);
  g_free(walk->arrays[1]);
  g_free(walk);
}

/* --- writing out and merging --- */

static int
nc_run_pack_compare(gconstpointer a, gconstpointer b)
{
  uint32_t x = ((const NcRunPack *)a)->id, y = ((const NcRunPack *)b)->id;
  return (x > y) - (x < y);
}

/* The packs that ${wanted} (a set of ids) names; if NULL, those with ids above ${above} up to ${up_to}. By id. Takes map. */
static GArray *
nc_index_list_packs(NcPageStore *store, GHashTable *wanted, uint32_t above, uint32_t up_to)
{
  GArray *list = g_array_new(FALSE, FALSE, sizeof(NcRunPack));
  GHashTableIter iter;
  gpointer value;

  pthread_rwlock_rdlock(&store->map);
  g_hash_table_iter_init(&iter, store->packs);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const NcPack *pack = value;
    bool take = wanted ? g_hash_table_contains(wanted, GUINT_TO_POINTER(pack->id)) : pack->id > above && pack->id <= up_to;
    if (!take || (pack->damaged && pack->blocks == 0)) /* what can't be read may be readable the next time */
      continue;
    NcRunPack row = { .id = pack->id, .length = pack->length, .blocks = pack->blocks, .block_bytes = pack->block_bytes };
    g_array_append_val(list, row);
  }
  pthread_rwlock_unlock(&store->map);
  g_array_sort(list, nc_run_pack_compare);
  return list;
}

bool
nc_index_spill(NcPageStore *store, NcTable *table, uint32_t replaces, GPtrArray *runs, const GArray *packs, GError **error)
{
  g_autofree NcLocation *all = nc_table_sorted(table);
  const uint32_t id = store->next_run++;
  g_autoptr(NcRunWriter) writer = nc_run_writer_new(&store->dir, id, replaces ? replaces : id, store->store_id, error);

  if (!writer)
    return false;
  for (size_t i = 0; i < table->count; i++)
    if (!nc_run_writer_add(writer, &all[i], error))
      return false;
  NcRun *run = nc_run_writer_finish(writer, packs, error);
  if (!run)
    return false;
  nc_store_count(store, (int64_t)run->bytes);
  g_ptr_array_add(runs, run);
  return true;
}

void
nc_index_freeze(NcPageStore *store, bool all)
{
  GHashTableIter iter;
  gpointer id;

  pthread_rwlock_wrlock(&store->map);
  if (!store->frozen && store->table->count > 0 && (all || store->table->count >= store->table_entries)) {
    store->frozen = store->table;
    store->table = nc_table_new();
    store->frozen_up_to = 0;
    g_hash_table_iter_init(&iter, store->packs);
    while (g_hash_table_iter_next(&iter, &id, NULL))
      store->frozen_up_to = MAX(store->frozen_up_to, GPOINTER_TO_UINT(id));
  }
  pthread_rwlock_unlock(&store->map);
}

/* The packs that the table covers and the runs do not yet. They are the newest, since packs are sealed in order. */
static GArray *
nc_index_frozen_packs(NcPageStore *store, uint32_t up_to)
{
  uint32_t covered = 0;

  for (guint i = 0; i < store->runs->len; i++) {
    const GArray *packs = ((const NcRun *)g_ptr_array_index(store->runs, i))->packs;
    if (packs->len > 0)
      covered = MAX(covered, g_array_index(packs, NcRunPack, packs->len - 1).id);
  }
  return nc_index_list_packs(store, NULL, covered, up_to);
}

/* Under maintaining: once there, frozen stays as it is until it is put away here. */
static bool
nc_index_write_frozen(NcPageStore *store, GError **error)
{
  g_autoptr(GPtrArray) made = g_ptr_array_new();

  pthread_rwlock_rdlock(&store->map);
  NcTable *frozen = store->frozen;
  uint32_t up_to = store->frozen_up_to;
  pthread_rwlock_unlock(&store->map);
  if (!frozen)
    return true;
  g_autoptr(GArray) packs = nc_index_frozen_packs(store, up_to);
  if (!nc_index_spill(store, frozen, 0, made, packs, error))
    return false;
  pthread_rwlock_wrlock(&store->map);
  g_ptr_array_add(store->runs, g_ptr_array_index(made, 0));
  g_clear_pointer(&store->frozen, nc_table_free);
  pthread_rwlock_unlock(&store->map);
  return true;
}

/* From which run on the newest ones are to be merged: each run shall be more than twice as large as all after it. */
static guint
nc_index_merge_from(const GPtrArray *runs)
{
  guint from = runs->len;
  uint64_t sum = 0;

  while (from > 0) {
    const NcRun *run = g_ptr_array_index(runs, from - 1);
    if (sum > 0 && run->entries > 2 * sum)
      break;
    sum += run->entries;
    from--;
  }
  return from;
}

static bool
nc_index_merge_entries(NcPageStore *store, guint from, NcRunWriter *writer, GError **error)
{
  g_autoptr(NcIndexWalk) walk = nc_index_walk_alloc(store);
  const NcLocation *row;

  for (guint i = store->runs->len; i-- > from;)
    nc_index_walk_add_run(walk, g_ptr_array_index(store->runs, i));
  for (;;) {
    if (!nc_index_walk_next(walk, &row, error))
      return false;
    if (!row)
      return true;
    if (!nc_run_writer_add(writer, row, error))
      return false;
  }
}

static GArray *
nc_index_runs_packs(NcPageStore *store, guint from)
{
  g_autoptr(GHashTable) wanted = g_hash_table_new(NULL, NULL);

  for (guint i = from; i < store->runs->len; i++) {
    const NcRun *run = g_ptr_array_index(store->runs, i);
    for (guint k = 0; k < run->packs->len; k++)
      g_hash_table_add(wanted, GUINT_TO_POINTER(g_array_index(run->packs, NcRunPack, k).id));
  }
  return nc_index_list_packs(store, wanted, 0, 0);
}

void
nc_index_unlink_runs(NcPageStore *store, const GPtrArray *runs)
{
  for (guint i = 0; i < runs->len; i++) {
    const NcRun *run = g_ptr_array_index(runs, i);
    g_autoptr(GError) error = NULL;
    if (nc_store_unlink(&store->dir, run->name, &error))
      nc_store_count(store, -(int64_t)run->bytes);
    else
      nc_log(NC_LOG_WARNING, "store", "%s (goes with the next opening)", error->message);
  }
}

/* Puts ${merged} in the place of all runs from ${from} on, whose files go. */
static void
nc_index_replace_runs(NcPageStore *store, guint from, NcRun *merged)
{
  g_autoptr(GPtrArray) old = g_ptr_array_new_with_free_func((GDestroyNotify)nc_run_unref);

  pthread_rwlock_wrlock(&store->map);
  for (guint i = from; i < store->runs->len; i++)
    g_ptr_array_add(old, nc_run_ref(g_ptr_array_index(store->runs, i)));
  g_ptr_array_set_size(store->runs, (gint)from);
  g_ptr_array_add(store->runs, merged);
  pthread_rwlock_unlock(&store->map);
  nc_index_unlink_runs(store, old);
}

/* Under maintaining; runs change only there, so they may be read here without map. ${whole}: all into one. */
static bool
nc_index_merge(NcPageStore *store, bool whole, GError **error)
{
  guint from = whole ? 0 : nc_index_merge_from(store->runs);

  if (store->runs->len - from < (whole ? 1 : 2))
    return true;
  const NcRun *oldest = g_ptr_array_index(store->runs, from);
  g_autoptr(NcRunWriter) writer = nc_run_writer_new(&store->dir, store->next_run++, oldest->id, store->store_id, error);
  if (!writer || !nc_index_merge_entries(store, from, writer, error))
    return false;
  g_autoptr(GArray) packs = nc_index_runs_packs(store, from);
  NcRun *merged = nc_run_writer_finish(writer, packs, error);
  if (!merged)
    return false;
  nc_store_count(store, (int64_t)merged->bytes);
  nc_index_replace_runs(store, from, merged);
  return true;
}

bool
nc_index_maintain(NcPageStore *store, bool all, GError **error)
{
  pthread_rwlock_rdlock(&store->map);
  bool wanted = store->frozen != NULL || all;
  bool pressing = all || store->table->count > 4 * store->table_entries;
  pthread_rwlock_unlock(&store->map);
  if (!wanted)
    return true;
  if (pressing)
    pthread_mutex_lock(&store->maintaining);
  else if (pthread_mutex_trylock(&store->maintaining) != 0)
    return true; /* somebody is at it */
  bool ok = nc_index_write_frozen(store, error) && nc_index_merge(store, false, error);
  pthread_mutex_unlock(&store->maintaining);
  return ok;
}

bool
nc_index_compact(NcPageStore *store, GError **error)
{
  pthread_mutex_lock(&store->maintaining);
  bool ok = nc_index_write_frozen(store, error) && nc_index_merge(store, true, error);
  pthread_mutex_unlock(&store->maintaining);
  return ok;
}
