/* SPDX-License-Identifier: Apache-2.0 */
/* System calls on the page store's files, with errors for people. */
#include "store/page_store_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const nc_store_subdirectories[] = { "packs", "index", "manifests" };

static int
nc_store_hooked(const NcStoreDir *dir, NcStoreOp op, const char *name, uint64_t offset, uint64_t length)
{
  return dir->hook ? dir->hook(op, name, offset, length, dir->hook_data) : 0;
}

/* Sets ${error} for what could not be done with ${name}. Returns false. */
static bool
nc_store_could_not(const NcStoreDir *dir, const char *what, const char *name, int errnum, GError **error)
{
  if (errnum == ENOSPC || errnum == EDQUOT)
    return nc_fail(error, NC_ERROR_RESOURCE,
                   "page store %s: can't %s %s, the file system is full (%s): free space there, or delete checkpoints and "
                   "collect garbage",
                   dir->path, what, name, g_strerror(errnum));
  return nc_fail_errno(error, errnum == ENOENT ? NC_ERROR_NOT_FOUND : NC_ERROR_IO, errnum, "page store %s: can't %s %s",
                       dir->path, what, name);
}

/* What file systems say of damage (ext4, XFS), of a device or a server that is gone (NFS, FUSE), and of having become read-only. */
static bool
nc_store_is_broken(int errnum)
{
  static const int broken[] = { EIO, EROFS, EUCLEAN, EBADMSG, ENODEV, ENXIO, ESTALE, ENOTCONN };

  for (size_t i = 0; i < G_N_ELEMENTS(broken); i++)
    if (broken[i] == errnum)
      return true;
  return false;
}

/* The same of a change. A disk that is full takes the next one when there is room again; one that is broken, or read-only since it is, does not. */
static bool
nc_store_failed(const NcStoreDir *dir, const char *what, const char *name, int errnum, GError **error)
{
  if (dir->refused && nc_store_is_broken(errnum))
    g_atomic_int_set(dir->refused, 1);
  return nc_store_could_not(dir, what, name, errnum, error);
}

bool
nc_store_dir_open(NcStoreDir *dir, const char *path, bool create, GError **error)
{
  if (create) {
    if (!nc_mkdir_p(path, 0700, error))
      return false;
    for (unsigned i = 0; i < G_N_ELEMENTS(nc_store_subdirectories); i++) {
      g_autofree char *sub = g_build_filename(path, nc_store_subdirectories[i], NULL);
      if (!nc_mkdir_p(sub, 0700, error))
        return false;
    }
  }
  dir->path = g_strdup(path);
  dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir->fd < 0)
    return nc_fail_errno(error, errno == ENOENT ? NC_ERROR_NOT_FOUND : NC_ERROR_IO, errno, "can't open page store %s", path);
  return !create || nc_store_sync_dir(dir, ".", error);
}

void
nc_store_dir_clear(NcStoreDir *dir)
{
  nc_fd_clear(&dir->fd);
  g_clear_pointer(&dir->path, g_free);
}

int
nc_store_create(const NcStoreDir *dir, const char *name, GError **error)
{
  int errnum = nc_store_hooked(dir, NC_STORE_CREATE, name, 0, 0);
  int fd = errnum ? -1 : openat(dir->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

  if (fd < 0)
    nc_store_failed(dir, "create", name, errnum ? errnum : errno, error);
  return fd;
}

int
nc_store_open(const NcStoreDir *dir, const char *name, bool writing, GError **error)
{
  int fd = openat(dir->fd, name, (writing ? O_RDWR : O_RDONLY) | O_CLOEXEC);

  if (fd < 0)
    nc_store_could_not(dir, "open", name, errno, error);
  return fd;
}

bool
nc_store_write(const NcStoreDir *dir, const char *name, int fd, const void *data, size_t length, uint64_t offset, GError **error)
{
  const uint8_t *at = data;
  int errnum = nc_store_hooked(dir, NC_STORE_WRITE, name, offset, length);
  size_t left = errnum ? length / 2 : length;

  while (left > 0) {
    ssize_t n = pwrite(fd, at, left, (off_t)offset);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return nc_store_failed(dir, "write", name, n < 0 ? errno : ENOSPC, error);
    at += n;
    offset += (uint64_t)n;
    left -= (size_t)n;
  }
  return errnum ? nc_store_failed(dir, "write", name, errnum, error) : true;
}

bool
nc_store_truncate(const NcStoreDir *dir, const char *name, int fd, uint64_t length, GError **error)
{
  int errnum = nc_store_hooked(dir, NC_STORE_TRUNCATE, name, length, 0);

  if (errnum || ftruncate(fd, (off_t)length) < 0)
    return nc_store_failed(dir, "cut", name, errnum ? errnum : errno, error);
  return true;
}

bool
nc_store_sync(const NcStoreDir *dir, const char *name, int fd, GError **error)
{
  int errnum = nc_store_hooked(dir, NC_STORE_SYNC, name, 0, 0);

  if (errnum || fdatasync(fd) < 0)
    return nc_store_failed(dir, "make durable", name, errnum ? errnum : errno, error);
  return true;
}

bool
nc_store_sync_dir(const NcStoreDir *dir, const char *name, GError **error)
{
  int errnum = nc_store_hooked(dir, NC_STORE_SYNC_DIR, name, 0, 0);
  nc_autofd int fd = errnum ? -1 : openat(dir->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

  if (fd < 0 || fsync(fd) < 0)
    return nc_store_failed(dir, "make durable", name, errnum ? errnum : errno, error);
  return true;
}

bool
nc_store_rename(const NcStoreDir *dir, const char *from, const char *to, bool replace, GError **error)
{
  int errnum = nc_store_hooked(dir, NC_STORE_RENAME, to, 0, 0);

  if (!errnum && renameat2(dir->fd, from, dir->fd, to, replace ? 0 : RENAME_NOREPLACE) < 0)
    errnum = errno;
  if (errnum == EEXIST)
    return nc_fail(error, NC_ERROR_EXISTS, "page store %s: %s is there already", dir->path, to);
  return errnum ? nc_store_failed(dir, "rename to", to, errnum, error) : true;
}

bool
nc_store_unlink(const NcStoreDir *dir, const char *name, GError **error)
{
  int errnum = nc_store_hooked(dir, NC_STORE_UNLINK, name, 0, 0);

  if (!errnum && unlinkat(dir->fd, name, 0) < 0 && errno != ENOENT)
    errnum = errno;
  return errnum ? nc_store_failed(dir, "remove", name, errnum, error) : true;
}

bool
nc_store_read(const NcStoreDir *dir, const char *name, int fd, void *data, size_t length, uint64_t offset, GError **error)
{
  uint8_t *at = data;

  while (length > 0) {
    ssize_t n = pread(fd, at, length, (off_t)offset);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return nc_fail_errno(error, errno == EIO ? NC_ERROR_CORRUPT : NC_ERROR_IO, errno, "page store %s: can't read %s at %llu",
                           dir->path, name, (unsigned long long)offset);
    if (n == 0)
      return nc_fail(error, NC_ERROR_CORRUPT, "page store %s: %s ends at %llu, in the middle of what should be there", dir->path,
                     name, (unsigned long long)offset);
    at += n;
    offset += (uint64_t)n;
    length -= (size_t)n;
  }
  return true;
}

bool
nc_store_length(const NcStoreDir *dir, const char *name, int fd, uint64_t *ret, GError **error)
{
  struct stat st;

  if (fstat(fd, &st) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "page store %s: can't look at %s", dir->path, name);
  *ret = (uint64_t)st.st_size;
  return true;
}

static int
nc_store_compare_names(gconstpointer a, gconstpointer b)
{
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

GPtrArray *
nc_store_names(const NcStoreDir *dir, const char *name, GError **error)
{
  int fd = openat(dir->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *stream = fd < 0 ? NULL : fdopendir(fd);
  struct dirent *entry;

  if (!stream) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "page store %s: can't list %s", dir->path, name);
    nc_fd_clear(&fd);
    return NULL;
  }
  GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
  while ((entry = readdir(stream)))
    if (entry->d_name[0] != '.')
      g_ptr_array_add(names, g_strdup(entry->d_name));
  closedir(stream);
  g_ptr_array_sort(names, nc_store_compare_names);
  return names;
}
