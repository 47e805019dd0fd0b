/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing: the lock, the store's description, what a crash left,
 * the runs, and the packs that no run covers.
 */
#include "store/page_store_internal.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define NC_FORMAT_FILE_BYTES (NC_FORMAT_SECOND + NC_FORMAT_BYTES)

static NcPageStore *
nc_open_alloc(const NcPageStoreOptions *options)
{
  NcPageStore *store = g_new0(NcPageStore, 1);

  store->dir.fd = store->lock_fd = store->open.fd = -1;
  store->dir.refused = &store->refused;
  store->read_only = options->read_only;
  store->key = options->key ? nc_seal_key_copy(options->key) : NULL;
  store->level = options->compression_level ? options->compression_level : 1;
  store->pack_bytes = options->pack_bytes ? options->pack_bytes : NC_PACK_BYTES_DEFAULT;
  store->budget = options->budget_bytes;
  store->table_entries = NC_STORE_TABLE_ENTRIES;
  store->next_run = store->next_pack = 1;
  store->packs = g_hash_table_new_full(NULL, NULL, NULL, g_free);
  store->table = nc_table_new();
  store->runs = g_ptr_array_new_with_free_func((GDestroyNotify)nc_run_unref);
  store->bad_records = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
  store->writers = g_ptr_array_new();
  store->leases = g_hash_table_new(g_str_hash, g_str_equal);
  pthread_mutex_init(&store->collecting, NULL);
  pthread_mutex_init(&store->maintaining, NULL);
  pthread_mutex_init(&store->appending, NULL);
  pthread_mutex_init(&store->naming, NULL);
  pthread_rwlock_init(&store->map, NULL);
  pthread_mutex_init(&store->noting, NULL);
  pthread_mutex_init(&store->small, NULL);
  pthread_mutex_init(&store->caching, NULL);
  return store;
}

static void
nc_open_free(NcPageStore *store)
{
  for (unsigned i = 0; i < NC_STORE_CACHE_RECORDS; i++)
    nc_decoded_unref(store->cache[i].decoded);
  nc_fd_clear(&store->open.fd);
  nc_sealer_free(store->open.sealer);
  g_clear_pointer(&store->open.offsets, g_array_unref);
  g_hash_table_unref(store->packs);
  nc_table_free(store->table);
  nc_table_free(store->frozen);
  g_ptr_array_unref(store->runs);
  g_hash_table_unref(store->bad_records);
  g_ptr_array_unref(store->writers);
  g_hash_table_unref(store->leases);
  pthread_mutex_destroy(&store->collecting);
  pthread_mutex_destroy(&store->maintaining);
  pthread_mutex_destroy(&store->appending);
  pthread_mutex_destroy(&store->naming);
  pthread_rwlock_destroy(&store->map);
  pthread_mutex_destroy(&store->noting);
  pthread_mutex_destroy(&store->small);
  pthread_mutex_destroy(&store->caching);
  nc_seal_key_free(store->key);
  nc_store_dir_clear(&store->dir);
  nc_fd_clear(&store->lock_fd); /* last: now another may open it */
  g_free(store);
}

/* A read-only store may lie where no lock file can be made; one that is there says whether a writer is. */
static bool
nc_open_lock(NcPageStore *store, GError **error)
{
  int flags = store->read_only ? O_RDONLY : O_RDWR | O_CREAT;

  store->lock_fd = openat(store->dir.fd, "lock", flags | O_CLOEXEC, 0600);
  if (store->lock_fd < 0 && store->read_only && errno == ENOENT)
    return true;
  if (store->lock_fd < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "page store %s: can't open its lock file", store->dir.path);
  if (flock(store->lock_fd, (store->read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0)
    return true;
  if (errno == EWOULDBLOCK)
    return nc_fail(error, NC_ERROR_CONFLICT, "page store %s is in use by another process: only one may write to it",
                   store->dir.path);
  return nc_fail_errno(error, NC_ERROR_IO, errno, "page store %s: can't lock it", store->dir.path);
}

/* --- the description --- */

static void
nc_open_format_bytes(const NcStoreFormat *format, uint8_t ret[NC_FORMAT_FILE_BYTES])
{
  memset(ret, 0, NC_FORMAT_FILE_BYTES);
  nc_store_format_encode(format, ret);
  nc_store_format_encode(format, ret + NC_FORMAT_SECOND);
}

static bool
nc_open_write_format(NcPageStore *store, const NcStoreFormat *format, GError **error)
{
  uint8_t bytes[NC_FORMAT_FILE_BYTES];

  nc_open_format_bytes(format, bytes);
  if (!nc_store_unlink(&store->dir, "format.new", error))
    return false;
  nc_autofd int fd = nc_store_create(&store->dir, "format.new", error);
  return fd >= 0 && nc_store_write(&store->dir, "format.new", fd, bytes, sizeof bytes, 0, error) &&
         nc_store_sync(&store->dir, "format.new", fd, error) &&
         nc_store_rename(&store->dir, "format.new", "format", true, error) && nc_store_sync_dir(&store->dir, ".", error);
}

/* Either copy will do; one that is damaged is written again. */
static bool
nc_open_decode_format(NcPageStore *store, int fd, NcStoreFormat *ret, GError **error)
{
  uint8_t bytes[NC_FORMAT_FILE_BYTES] = { 0 }, again[NC_FORMAT_FILE_BYTES];
  g_autoptr(GError) why = NULL;

  for (unsigned i = 0; i < 2; i++) /* separately: the second may be unreadable */
    nc_store_read(&store->dir, "format", fd, bytes + i * NC_FORMAT_SECOND, NC_FORMAT_BYTES, i * NC_FORMAT_SECOND, NULL);
  if (!nc_store_format_decode(bytes, ret, &why) && !nc_store_format_decode(bytes + NC_FORMAT_SECOND, ret, NULL))
    return nc_fail(error, why->code, "page store %s: format: %s", store->dir.path, why->message);
  g_clear_error(&why);
  nc_open_format_bytes(ret, again);
  if (memcmp(bytes, again, NC_FORMAT_BYTES) == 0 &&
      memcmp(bytes + NC_FORMAT_SECOND, again + NC_FORMAT_SECOND, NC_FORMAT_BYTES) == 0)
    return true;
  nc_log(NC_LOG_WARNING, "store", "page store %s: one of the two copies of its description is damaged", store->dir.path);
  if (!store->read_only && !nc_open_write_format(store, ret, &why))
    nc_log(NC_LOG_WARNING, "store", "%s", why->message);
  return true;
}

static bool
nc_open_check_key(const NcPageStore *store, const NcStoreFormat *format, GError **error)
{
  uint8_t check[32];

  if (format->encrypted && !store->key)
    return nc_fail(error, NC_ERROR_TRUST, "page store %s is encrypted: its key is needed", store->dir.path);
  if (!format->encrypted && store->key)
    return nc_fail(error, NC_ERROR_TRUST, "page store %s is not encrypted, but a key was given: an encrypted store must be a new "
                   "one", store->dir.path);
  if (!store->key)
    return true;
  nc_seal_key_mac(store->key, format->store_id, NC_STORE_ID_BYTES, check);
  if (!nc_constant_time_equal(check, format->key_check, sizeof check))
    return nc_fail(error, NC_ERROR_TRUST, "page store %s was made with another key", store->dir.path);
  return true;
}

/* A directory without a description becomes a store only if there are no packs in it. */
static bool
nc_open_create_format(NcPageStore *store, NcStoreFormat *ret, GError **error)
{
  g_autoptr(GPtrArray) packs = nc_store_names(&store->dir, "packs", error);

  if (!packs)
    return false;
  if (packs->len > 0)
    return nc_fail(error, NC_ERROR_CORRUPT, "page store %s: its description (the file format) is gone: restore it, or begin with "
                   "an empty directory", store->dir.path);
  *ret = (NcStoreFormat){ .encrypted = store->key != NULL };
  nc_random_bytes(ret->store_id, NC_STORE_ID_BYTES);
  if (store->key)
    nc_seal_key_mac(store->key, ret->store_id, NC_STORE_ID_BYTES, ret->key_check);
  return nc_open_write_format(store, ret, error);
}

static bool
nc_open_format(NcPageStore *store, GError **error)
{
  NcStoreFormat format;
  g_autoptr(GError) why = NULL;
  nc_autofd int fd = nc_store_open(&store->dir, "format", false, &why);

  if (fd < 0 && why->code == NC_ERROR_NOT_FOUND && !store->read_only) {
    if (!nc_open_create_format(store, &format, error))
      return false;
  } else if (fd < 0) {
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
  } else if (!nc_open_decode_format(store, fd, &format, error)) {
    return false;
  }
  memcpy(store->store_id, format.store_id, NC_STORE_ID_BYTES);
  return nc_open_check_key(store, &format, error);
}

/* --- what a crash left --- */

static bool
nc_open_sweep(NcPageStore *store, const char *directory, const char *const *suffixes, GError **error)
{
  g_autoptr(GPtrArray) names = nc_store_names(&store->dir, directory, error);

  for (guint i = 0; names && i < names->len; i++) {
    for (unsigned k = 0; suffixes[k]; k++) {
      g_autofree char *name = g_strdup_printf("%s/%s", directory, (const char *)g_ptr_array_index(names, i));
      if (g_str_has_suffix(name, suffixes[k]) && !nc_store_unlink(&store->dir, name, error))
        return false;
    }
  }
  return names != NULL;
}

/* --- runs --- */

static void
nc_open_drop_runs(NcPageStore *store, const GPtrArray *names)
{
  g_ptr_array_set_size(store->runs, 0);
  for (guint i = 0; !store->read_only && i < names->len; i++) {
    g_autofree char *name = g_strdup_printf("index/%s", (const char *)g_ptr_array_index(names, i));
    g_autoptr(GError) error = NULL;
    if (nc_run_id_of(g_ptr_array_index(names, i)) != 0 && !nc_store_unlink(&store->dir, name, &error))
      nc_log(NC_LOG_WARNING, "store", "%s", error->message);
  }
}

/* A run that was merged into ${run} already, when the power went before it was removed. */
static bool
nc_open_is_replaced(const NcPageStore *store, const NcRun *run)
{
  for (guint i = 0; i < store->runs->len; i++) {
    const NcRun *other = g_ptr_array_index(store->runs, i);
    if (run->id >= other->replaces && run->id < other->id)
      return true;
  }
  return false;
}

/*
 * All runs that count. If one can't be used, none is: what is in the others may be older than what it said. Then
 * all packs are looked through.
 */
static bool
nc_open_runs(NcPageStore *store, GError **error)
{
  g_autoptr(GPtrArray) names = nc_store_names(&store->dir, "index", error);

  if (!names)
    return false;
  for (guint i = names->len; i-- > 0;) { /* newest first: it says which others it replaces */
    g_autoptr(GError) why = NULL;
    uint32_t id = nc_run_id_of(g_ptr_array_index(names, i));
    if (id == 0)
      continue;
    store->next_run = MAX(store->next_run, id + 1);
    g_autoptr(NcRun) run = nc_run_open(&store->dir, id, store->store_id, &why);
    if (!run) {
      nc_log(NC_LOG_WARNING, "store", "%s; the index is made again from the packs", why->message);
      nc_open_drop_runs(store, names);
      return true;
    }
    store->next_pack = MAX(store->next_pack, run->last_pack + 1);
    if (!nc_open_is_replaced(store, run))
      g_ptr_array_insert(store->runs, 0, g_steal_pointer(&run));
    else if (!store->read_only && !nc_store_unlink(&store->dir, run->name, error))
      return false;
  }
  return true;
}

/* --- packs --- */

static NcPack *
nc_open_stat_pack(NcPageStore *store, uint32_t id, GError **error)
{
  char name[NC_PACK_NAME_BYTES];
  struct stat st;

  nc_pack_name(id, name);
  if (fstatat(store->dir.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "page store %s: can't look at %s", store->dir.path, name);
    return NULL;
  }
  NcPack *pack = g_new0(NcPack, 1);
  pack->id = id;
  pack->length = (uint32_t)MIN((uint64_t)st.st_size, NC_PACK_LENGTH_MAX);
  return pack;
}

/* What a run says of ${id}; NULL: no run covers it. */
static const NcRunPack *
nc_open_covered(const NcPageStore *store, uint32_t id)
{
  for (guint i = 0; i < store->runs->len; i++) {
    const GArray *packs = ((const NcRun *)g_ptr_array_index(store->runs, i))->packs;
    guint low = 0, high = packs->len;
    while (low < high) {
      guint middle = (low + high) / 2;
      const NcRunPack *row = &g_array_index(packs, NcRunPack, middle);
      if (row->id == id)
        return row;
      if (row->id < id)
        low = middle + 1;
      else
        high = middle;
    }
  }
  return NULL;
}

/* A pack that a run covers: it was whole once, and is not looked through. */
static void
nc_open_take_covered(NcPageStore *store, NcPack *pack, const NcRunPack *row)
{
  pack->blocks = row->blocks;
  pack->block_bytes = row->block_bytes;
  pack->sealed = true;
  pack->damaged = pack->length != row->length;
  if (pack->damaged)
    nc_log(NC_LOG_ERR, "store", "page store %s: packs/%08x.pack has %u bytes, not %u: verify says what is lost", store->dir.path,
           pack->id, pack->length, row->length);
}

static bool
nc_open_pack(NcPageStore *store, uint32_t id, bool last, GError **error)
{
  NcPack *pack = nc_open_stat_pack(store, id, error);

  if (!pack)
    return false;
  g_hash_table_insert(store->packs, GUINT_TO_POINTER(id), pack);
  const NcRunPack *row = nc_open_covered(store, id);
  if (row) {
    nc_open_take_covered(store, pack, row);
    return true;
  }
  if (!nc_scan_pack(store, pack, last, store->table, error))
    return false;
  if (last && pack->length == 0)
    g_hash_table_remove(store->packs, GUINT_TO_POINTER(id));
  if (store->read_only)
    return true;
  g_autoptr(GError) later = NULL; /* e.g. the disk is full: then it stays in memory */
  nc_index_freeze(store, false);
  if (!nc_index_maintain(store, false, &later))
    nc_log(NC_LOG_WARNING, "store", "%s", later->message);
  return true;
}

/* Ascending, so that the newest copy of a block comes last. */
static bool
nc_open_packs(NcPageStore *store, GError **error)
{
  g_autoptr(GPtrArray) names = nc_store_names(&store->dir, "packs", error);
  g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(uint32_t));

  for (guint i = 0; names && i < names->len; i++) {
    uint32_t id = nc_pack_id_of(g_ptr_array_index(names, i));
    if (id != 0)
      g_array_append_val(ids, id);
  }
  for (guint i = 0; i < ids->len; i++) {
    uint32_t id = g_array_index(ids, uint32_t, i);
    store->next_pack = MAX(store->next_pack, id + 1);
    if (!nc_open_pack(store, id, i + 1 == ids->len, error))
      return false;
  }
  return names != NULL;
}

/* Now that all is in order. */
static bool
nc_open_count_used(NcPageStore *store, GError **error)
{
  static const char *const directories[] = { ".", "packs", "index", "manifests" };

  store->used = 0;
  for (unsigned i = 0; i < G_N_ELEMENTS(directories); i++) {
    g_autoptr(GPtrArray) names = nc_store_names(&store->dir, directories[i], error);
    if (!names)
      return false;
    for (guint k = 0; k < names->len; k++) {
      g_autofree char *name = g_strdup_printf("%s/%s", directories[i], (const char *)g_ptr_array_index(names, k));
      struct stat st;
      if (fstatat(store->dir.fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
        store->used += (uint64_t)st.st_size;
    }
  }
  return true;
}

static bool
nc_open_content(NcPageStore *store, GError **error)
{
  static const char *const in_index[] = { ".new", NULL };
  static const char *const in_manifests[] = { NC_MANIFEST_PART, NC_MANIFEST_DELETED, NULL };

  if (!store->read_only && (!nc_open_sweep(store, "index", in_index, error) ||
                            !nc_open_sweep(store, "manifests", in_manifests, error)))
    return false;
  if (!nc_open_runs(store, error) || !nc_open_packs(store, error))
    return false;
  nc_store_load_bad_records(store);
  return nc_open_count_used(store, error);
}

NcPageStore *
nc_page_store_open_hooked(const char *directory, const NcPageStoreOptions *options, NcStoreHook hook, gpointer hook_data,
                          size_t table_entries, GError **error)
{
  if (options->pack_bytes > NC_PACK_BYTES_MAX || options->compression_level < 0 || options->compression_level > 19) {
    nc_fail(error, NC_ERROR_INVALID, "page store %s: packs of up to %u bytes and levels of 1 to 19 go", directory,
            NC_PACK_BYTES_MAX);
    return NULL;
  }
  NcPageStore *store = nc_open_alloc(options);
  store->dir.hook = hook;
  store->dir.hook_data = hook_data;
  if (table_entries)
    store->table_entries = table_entries;
  if (!nc_store_dir_open(&store->dir, directory, !store->read_only, error) || !nc_open_lock(store, error) ||
      !nc_open_format(store, error) || !nc_open_content(store, error)) {
    nc_open_free(store);
    return NULL;
  }
  return store;
}

NcPageStore *
nc_page_store_open(const char *directory, const NcPageStoreOptions *options, GError **error)
{
  return nc_page_store_open_hooked(directory, options, NULL, NULL, 0, error);
}

/* So that the next opening need not look through packs. */
static bool
nc_close_in_order(NcPageStore *store, GError **error)
{
  if (!nc_store_writable(store, error) || !nc_index_maintain(store, true, error))
    return false;
  pthread_mutex_lock(&store->appending);
  bool ok = nc_append_seal_locked(store, error);
  if (ok)
    nc_index_freeze(store, true);
  pthread_mutex_unlock(&store->appending);
  return ok && nc_index_maintain(store, true, error);
}

void
nc_page_store_close(NcPageStore *store)
{
  g_autoptr(GError) error = NULL;

  if (!store)
    return;
  if (!store->read_only && !nc_close_in_order(store, &error))
    nc_log(NC_LOG_WARNING, "store", "%s; what is missing is made good at the next opening", error->message);
  nc_open_free(store);
}
