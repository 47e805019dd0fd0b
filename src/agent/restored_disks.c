/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of a restore: written beside the old ones, exchanged by renaming, and brought back if nothing comes of it. */
#include "agent/checkpoint_restore.h"
#include "agent/image_files.h"
#include "base/fault.h"
#include "base/io.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Beside a disk: what it is to become, and what it was. */
#define NC_NEW_SUFFIX ".nc-restore"
#define NC_OLD_SUFFIX ".nc-before"

json_t *
nc_spec_disk(json_t *spec, const char *name)
{
  return nc_json_find(json_object_get(spec, "disks"), "name", name);
}

/* Where ${path} really is, since it is going to be replaced by renaming. Caller frees. */
static char *
nc_restore_real_path(const char *path, GError **error)
{
  struct stat st;
  char *real = realpath(path, NULL);

  if (!real && errno == ENOENT)
    return g_strdup(path); /* it was deleted: it comes back */
  if (!real || stat(real, &st) < 0 || !S_ISREG(st.st_mode)) {
    nc_fail(error, NC_ERROR_UNSUITABLE,
            "disk %s is not a file: only images in files can be replaced (restore it as a new machine, with --disk-dir)", path);
    free(real);
    return NULL;
  }
  char *copy = g_strdup(real);
  free(real);
  return copy;
}

/*
 * Beside no disk lies what it was before an earlier restore: that would be lost, or, where this one is undone, put in the place of the
 * disk. To be known before the exchange is on record.
 */
static bool
nc_restore_check_old(json_t *disks, GError **error)
{
  size_t i;
  json_t *disk;

  json_array_foreach(disks, i, disk)
  {
    const char *old = nc_json_string_or(disk, "old", "");
    if (access(old, F_OK) == 0 || errno != ENOENT)
      return nc_fail(error, NC_ERROR_EXISTS, "%s is there, the disk as it was before an earlier restore: look at it, and move it away", old);
  }
  return true;
}

static bool
nc_restore_check_directory(const char *path, GError **error)
{
  g_autofree char *directory = g_path_get_dirname(path);

  return g_file_test(directory, G_FILE_TEST_IS_DIR) ||
         nc_fail(error, NC_ERROR_NOT_FOUND, "there is no directory %s for the disk %s: make it, or choose another with --disk-dir (and --as)", directory,
                 path);
}

/* What is written where; nothing is touched yet. */
bool
nc_restored_disks_plan(NcRestore *re, GError **error)
{
  size_t i;
  json_t *disk;

  json_array_foreach(json_object_get(nc_image_meta(re->image), "disks"), i, disk)
  {
    json_t *target = nc_spec_disk(re->spec, nc_json_string_or(disk, "name", ""));
    const char *path = nc_json_string_or(target, "path", NULL);
    if (!path || path[0] != '/')
      return nc_fail(error, NC_ERROR_CORRUPT, "the checkpoint has a disk that its machine has not");
    if (!nc_restore_check_directory(path, error))
      return false;
    if (re->as && g_file_test(path, G_FILE_TEST_EXISTS))
      return nc_fail(error, NC_ERROR_EXISTS, "there is a file %s already: choose another name or --disk-dir", path);
    g_autofree char *real = nc_restore_real_path(path, error);
    if (!real)
      return false;
    g_autofree char *fresh = g_strconcat(real, NC_NEW_SUFFIX, NULL), *old = g_strconcat(real, NC_OLD_SUFFIX, NULL);
    json_array_append_new(re->disks, json_pack("{s:s, s:s, s:s, s:b}", "path", real, "new", fresh, "old", old, "was_there",
                                               g_file_test(real, G_FILE_TEST_EXISTS)));
  }
  return nc_restore_check_old(re->disks, error);
}

static bool
nc_restore_shares_file_system(const char *a, const char *b)
{
  struct stat here, there;
  return stat(a, &here) == 0 && stat(b, &there) == 0 && here.st_dev == there.st_dev;
}

/* What disks up to the ${n}-th need on the file system of ${directory}, which is the ${n}-th's. */
static uint64_t
nc_restore_needed_bytes(NcRestore *re, size_t n, const char *directory)
{
  json_t *disks = json_object_get(nc_image_meta(re->image), "disks");
  uint64_t needed = 0;

  for (size_t i = 0; i <= n; i++) {
    g_autofree char *other = g_path_get_dirname(nc_json_string_or(json_array_get(re->disks, i), "path", "/"));
    if (i == n || nc_restore_shares_file_system(directory, other))
      needed += (uint64_t)MAX(nc_json_int_or(json_array_get(disks, i), "data_bytes", 0), 0);
  }
  return needed;
}

bool
nc_restored_disks_check_space(NcRestore *re, GError **error)
{
  size_t i;
  json_t *disk;

  json_array_foreach(json_object_get(nc_image_meta(re->image), "disks"), i, disk)
  {
    g_autofree char *directory = g_path_get_dirname(nc_json_string_or(json_array_get(re->disks, i), "path", "/"));
    uint64_t needed = nc_restore_needed_bytes(re, i, directory);
    struct statvfs fs;
    if (statvfs(directory, &fs) < 0)
      return nc_fail_errno(error, NC_ERROR_IO, errno, "can't restore a disk to %s", directory);
    if (needed > (uint64_t)fs.f_bavail * fs.f_frsize)
      return nc_fail(error, NC_ERROR_RESOURCE, "%s has %" G_GUINT64_FORMAT " bytes free, and disk %s, with those before it there, needs %" G_GUINT64_FORMAT,
                     directory, (uint64_t)fs.f_bavail * fs.f_frsize, nc_json_string_or(disk, "name", "?"), needed);
  }
  return true;
}

static bool
nc_restore_fill_disks(NcRestore *re, GPtrArray *files, GError **error)
{
  const NcReplay replay = { .image = re->image, .cancelled = &re->cp->cancelled, .progress = &re->cp->progress };
  g_autofree NcNbd **nbds = g_new0(NcNbd *, files->len + 1);

  for (guint i = 0; i < files->len; i++)
    nbds[i] = nc_image_file_nbd(files->pdata[i]);
  if (!nc_replay_disks(&replay, nbds, error))
    return false;
  for (guint i = 0; i < files->len; i++)
    if (!nc_image_file_sync(files->pdata[i], error))
      return false;
  return true;
}

bool
nc_restored_disks_write(NcRestore *re, GError **error)
{
  g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func((GDestroyNotify)nc_image_file_close);
  size_t i;
  json_t *disk;

  json_array_foreach(json_object_get(nc_image_meta(re->image), "disks"), i, disk)
  {
    const char *fresh = nc_json_string_or(json_array_get(re->disks, i), "new", "");
    const char *format = nc_json_string_or(disk, "format", "raw");
    g_autofree char *socket = g_strdup_printf("%s/%s-%zu.sock", re->cp->owner->deps.config->run_dir, re->cp->id, i);
    unlink(fresh); /* of one that was cut short */
    if (!nc_image_file_create(fresh, format, (uint64_t)MAX(nc_json_int_or(disk, "bytes", 0), 0), error))
      return false;
    NcImageFile *file = nc_image_file_open(fresh, format, socket, error);
    if (!file)
      return false;
    g_ptr_array_add(files, file);
  }
  return nc_restore_fill_disks(re, files, error) && nc_restore_check_old(re->disks, error); /* writing takes long */
}

static bool
nc_rename_if_there(const char *from, const char *to, GError **error)
{
  return rename(from, to) == 0 || errno == ENOENT || nc_fail_errno(error, NC_ERROR_IO, errno, "can't rename %s to %s", from, to);
}

bool
nc_restored_disks_exchange(NcRestore *re, GError **error)
{
  size_t i;
  json_t *disk;

  json_array_foreach(re->disks, i, disk)
  {
    const char *path = nc_json_string_or(disk, "path", ""), *fresh = nc_json_string_or(disk, "new", ""),
               *old = nc_json_string_or(disk, "old", "");
    struct stat st;
    /* The owner and the mode of what it replaces. */
    if (stat(path, &st) == 0 && (chown(fresh, st.st_uid, st.st_gid) < 0 || chmod(fresh, st.st_mode & 07777) < 0))
      return nc_fail_errno(error, NC_ERROR_IO, errno, "can't give %s to the owner of %s", fresh, path);
    if (!nc_rename_if_there(path, old, error))
      return false;
    nc_fault_point("restore-exchange");
    if (rename(fresh, path) < 0)
      return nc_fail_errno(error, NC_ERROR_IO, errno, "can't rename %s to %s", fresh, path);
    if (!nc_directory_sync(path, error))
      return false;
  }
  return true;
}

/* Where there is no directory there is nothing in it that a power cut could bring back. */
static bool
nc_sync_if_there(const char *path, GError **error)
{
  g_autofree char *directory = g_path_get_dirname(path);
  return !g_file_test(directory, G_FILE_TEST_EXISTS) || nc_directory_sync(path, error);
}

/* Durably, before the record goes: one that comes back after a power cut would be nobody's. */
static bool
nc_remove_old(const char *old, GError **error)
{
  if (unlink(old) < 0 && errno != ENOENT)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't remove %s, the disk as it was before the restore", old);
  return nc_sync_if_there(old, error);
}

bool
nc_restored_disks_settle(json_t *disks, bool keep_new, bool exchanged, GError **error)
{
  size_t i;
  json_t *disk;

  json_array_foreach(disks, i, disk)
  {
    const char *path = nc_json_string_or(disk, "path", ""), *fresh = nc_json_string_or(disk, "new", ""),
               *old = nc_json_string_or(disk, "old", "");
    if (keep_new) {
      if (!nc_remove_old(old, error))
        return false;
      continue;
    }
    if (exchanged && !nc_rename_if_there(old, path, error))
      return false;
    if (exchanged && !nc_json_bool_or(disk, "was_there", true) && !g_file_test(fresh, G_FILE_TEST_EXISTS))
      unlink(path);
    unlink(fresh);
    if (!nc_sync_if_there(path, error))
      return false;
  }
  return true;
}
