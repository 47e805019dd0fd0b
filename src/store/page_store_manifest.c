/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests' names: list and delete. */
#include "store/page_store_manifest.h"
#include "base/ident.h"
#include "base/log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

bool
nc_manifest_entry_is_hole(const NcManifestEntry *entry)
{
  static const uint8_t none[NC_SHA256_BYTES];
  return memcmp(entry->hash, none, sizeof none) == 0;
}

char *
nc_manifest_file(const char *name)
{
  return g_strconcat(NC_MANIFEST_DIRECTORY "/", name, NC_MANIFEST_SUFFIX, NULL);
}

bool
nc_manifest_check_name(const NcPageStore *store, const char *name, GError **error)
{
  if (nc_name_is_valid(name))
    return true;
  return nc_fail(error, NC_ERROR_INVALID, "page store %s: '%s' can't name a manifest: " NC_NAME_RULE, store->dir.path, name);
}

char *
nc_manifest_name_of(const char *file)
{
  if (!g_str_has_suffix(file, NC_MANIFEST_SUFFIX))
    return NULL;
  g_autofree char *name = g_strndup(file, strlen(file) - strlen(NC_MANIFEST_SUFFIX));
  return nc_name_is_valid(name) ? g_steal_pointer(&name) : NULL;
}

GPtrArray *
nc_manifest_files(NcPageStore *store, GError **error)
{
  /* A file that gets another name while a directory is read may show under neither. */
  pthread_mutex_lock(&store->naming);
  g_autoptr(GPtrArray) names = nc_store_names(&store->dir, NC_MANIFEST_DIRECTORY, error);
  pthread_mutex_unlock(&store->naming);
  if (!names)
    return NULL;
  GPtrArray *files = g_ptr_array_new_with_free_func(g_free);
  for (guint i = 0; i < names->len; i++) {
    const char *file = g_ptr_array_index(names, i);
    if (g_str_has_suffix(file, NC_MANIFEST_SUFFIX) || g_str_has_suffix(file, NC_MANIFEST_DELETED))
      g_ptr_array_add(files, g_strconcat(NC_MANIFEST_DIRECTORY "/", file, NULL));
  }
  return files;
}

/* What can be told of ${name}; false: it has gone meanwhile. */
static bool
nc_manifest_look(NcPageStore *store, const char *name, NcManifestInfo *ret)
{
  g_autofree char *file = nc_manifest_file(name);
  g_autoptr(GError) error = NULL;
  g_autoptr(NcManifestReader) reader = nc_manifest_open_file(store, file, &error);
  struct stat st;

  if (reader) {
    *ret = *nc_manifest_info(reader);
    return true;
  }
  if (error->code == NC_ERROR_NOT_FOUND)
    return false;
  nc_log(NC_LOG_WARNING, "store", "%s", error->message);
  *ret = (NcManifestInfo){ 0 };
  g_strlcpy(ret->name, name, sizeof ret->name);
  if (fstatat(store->dir.fd, file, &st, AT_SYMLINK_NOFOLLOW) == 0)
    ret->file_bytes = (uint64_t)st.st_size;
  return true;
}

GArray *
nc_manifest_list(NcPageStore *store, GError **error)
{
  g_autoptr(GPtrArray) names = nc_store_names(&store->dir, NC_MANIFEST_DIRECTORY, error);
  if (!names)
    return NULL;
  GArray *list = g_array_new(FALSE, FALSE, sizeof(NcManifestInfo));
  for (guint i = 0; i < names->len; i++) {
    g_autofree char *name = nc_manifest_name_of(g_ptr_array_index(names, i));
    NcManifestInfo info;
    if (name && nc_manifest_look(store, name, &info))
      g_array_append_val(list, info);
  }
  return list;
}

/* Under naming: out of sight, but still there for its readers, and for gc. */
static bool
nc_manifest_hide_locked(NcPageStore *store, NcManifestLease *lease, const char *name, GError **error)
{
  uint64_t tag;

  nc_random_bytes(&tag, sizeof tag);
  g_autofree char *hidden = g_strdup_printf(NC_MANIFEST_DIRECTORY "/%s.%016llx" NC_MANIFEST_DELETED, name,
                                            (unsigned long long)tag);
  if (!nc_store_rename(&store->dir, lease->file, hidden, false, error))
    return false;
  g_hash_table_remove(store->leases, lease->file);
  g_free(lease->file);
  lease->file = g_steal_pointer(&hidden);
  lease->deleted = true;
  g_hash_table_insert(store->leases, lease->file, lease);
  return true;
}

static bool
nc_manifest_delete_locked(NcPageStore *store, const char *name, GError **error)
{
  g_autofree char *file = nc_manifest_file(name);
  NcManifestLease *lease = g_hash_table_lookup(store->leases, file);
  struct stat st;

  if (fstatat(store->dir.fd, file, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return nc_fail(error, NC_ERROR_NOT_FOUND, "page store %s: no manifest %s", store->dir.path, name);
  if (lease)
    return nc_manifest_hide_locked(store, lease, name, error);
  if (!nc_store_unlink(&store->dir, file, error))
    return false;
  nc_store_count(store, -(int64_t)st.st_size);
  return true;
}

bool
nc_manifest_delete(NcPageStore *store, const char *name, GError **error)
{
  if (!nc_store_writable(store, error) || !nc_manifest_check_name(store, name, error))
    return false;
  pthread_mutex_lock(&store->naming);
  bool ok = nc_manifest_delete_locked(store, name, error);
  pthread_mutex_unlock(&store->naming);
  return ok && nc_store_sync_dir(&store->dir, NC_MANIFEST_DIRECTORY, error);
}
