/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/disk_files.h"
#include "base/io.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

json_t *
nc_disk_file_note(const NcDiskOffer *o, const char *migration)
{
  g_autofree char *directory = g_path_get_dirname(o->path);
  g_autofree char *name = g_strdup_printf(".novacron-%s-%u.arriving", migration, o->index);
  g_autofree char *temporary = g_build_filename(directory, name, NULL);

  return json_pack("{s:s, s:s, s:I, s:I}", "path", o->path, "temporary", temporary, "device", (json_int_t)0, "inode", (json_int_t)0);
}

/* QEMU's own tool knows the format best. It writes into the file that is there. */
static bool
nc_disk_file_format_qcow2(const NcDiskOffer *o, const char *temporary, GError **error)
{
  g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, o->size_bytes);
  g_autofree char *options = o->cluster_bytes ? g_strdup_printf("cluster_size=%u", o->cluster_bytes) : g_strdup("compat=1.1");
  const NcBackingFile *below = o->backing->len ? o->backing->pdata[0] : NULL;
  const char *plain[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, temporary, size, NULL };
  const char *overlay[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "-b", below ? below->path : NULL,
                            "-F", below ? below->format : NULL, temporary, size, NULL };
  const char **argv = below ? overlay : plain;
  g_autoptr(GError) problem = NULL;
  g_autofree char *said = NULL;
  int status;

  if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL, &said, &status, &problem))
    return nc_fail(error, NC_ERROR_RESOURCE, "the image for %s can't be made: %s (is the package with qemu-img installed?)", o->path,
                   problem->message);
  if (g_spawn_check_wait_status(status, NULL))
    return true;
  return nc_fail(error, NC_ERROR_IO, "the image for %s could not be made: %s", o->path, g_strstrip(said));
}

static bool
nc_disk_file_give(const NcDiskOffer *o, int fd, const char *temporary, GError **error)
{
  struct stat st;

  if (fstat(fd, &st) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "%s", temporary);
  if ((st.st_uid != o->uid || st.st_gid != o->gid) && fchown(fd, o->uid, o->gid) < 0)
    nc_log(NC_LOG_WARNING, "agent", "%s can't get the owner that it has at the source (%u:%u): %s", o->path, o->uid, o->gid, g_strerror(errno));
  if (fchmod(fd, o->mode & 0777) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "the permissions of %s", temporary);
  return true;
}

bool
nc_disk_file_make(const NcDiskOffer *o, json_t *note, GError **error)
{
  const char *temporary = nc_json_string_or(note, "temporary", "");
  struct stat st;

  nc_autofd int fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "the file for disk %s (%s) can't be made", o->name, o->path);
  bool ok = g_str_equal(o->format, "qcow2") ? nc_disk_file_format_qcow2(o, temporary, error)
            : ftruncate(fd, (off_t)o->size_bytes) == 0
                ? true
                : nc_fail_errno(error, NC_ERROR_IO, errno, "%s can't have %" G_GUINT64_FORMAT " bytes", o->path, o->size_bytes);
  if (!ok || !nc_disk_file_give(o, fd, temporary, error))
    return false;
  if (fsync(fd) < 0 || fstat(fd, &st) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "%s", temporary);
  json_object_set_new(note, "device", json_integer((json_int_t)st.st_dev));
  json_object_set_new(note, "inode", json_integer((json_int_t)st.st_ino));
  return true;
}

/* Where the file system can't rename without replacing, a second name does it, too: it is refused if there is a file. */
static bool
nc_disk_file_rename(const char *from, const char *to)
{
  if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
    return true;
  return (errno == EINVAL || errno == ENOSYS) && link(from, to) == 0 && unlink(from) == 0;
}

bool
nc_disk_file_publish(json_t *note, GError **error)
{
  const char *temporary = nc_json_string_or(note, "temporary", ""), *path = nc_json_string_or(note, "path", "");

  if (nc_disk_file_rename(temporary, path))
    return nc_directory_sync(path, error);
  return nc_fail_errno(error, errno == EEXIST ? NC_ERROR_EXISTS : NC_ERROR_IO, errno, "%s can't be made", path);
}

static bool
nc_disk_file_is_noted(const char *path, json_t *note)
{
  int64_t device = nc_json_int_or(note, "device", 0), inode = nc_json_int_or(note, "inode", 0);
  struct stat st;

  return inode != 0 && lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (int64_t)st.st_dev == device && (int64_t)st.st_ino == inode;
}

void
nc_disk_file_remove(json_t *note)
{
  const char *temporary = nc_json_string_or(note, "temporary", ""), *path = nc_json_string_or(note, "path", "");

  if (g_path_is_absolute(temporary))
    unlink(temporary);
  if (!g_path_is_absolute(path) || !nc_disk_file_is_noted(path, note))
    return;
  if (unlink(path) < 0)
    nc_log(NC_LOG_ERR, "agent", "the half-written disk %s could not be removed: %s", path, g_strerror(errno));
  else
    nc_log(NC_LOG_NOTICE, "agent", "the half-written disk %s was removed", path);
  nc_directory_sync(path, NULL);
}

bool
nc_disk_file_set_aside(const char *path, uint64_t inode, const char *suffix, GError **error)
{
  g_autofree char *aside = g_strdup_printf("%s.%s", path, suffix);
  struct stat st;

  if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_ino != inode)
    return nc_fail(error, NC_ERROR_CONFLICT, "%s is not the file any more that the machine had here", path);
  if (!nc_disk_file_rename(path, aside))
    return nc_fail_errno(error, NC_ERROR_IO, errno, "%s can't become %s", path, aside);
  return nc_directory_sync(path, error);
}
