/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/kept_shadows_file.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/msg.h"
#include "wire/shadow.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define NC_KEPT_HEADER_BYTES 4096u
#define NC_KEPT_CHUNK_BYTES (1u << 20)
#define NC_KEPT_SYNC_BYTES (16u << 20) /* a little at a time: the journal's writes are behind ours */
#define NC_KEPT_LEAVE_FREE (UINT64_C(1) << 30)

void
nc_kept_shadow_free(NcKeptShadow *shadow)
{
  if (!shadow)
    return;
  nc_fd_clear(&shadow->fd);
  g_free(shadow->vm);
  g_free(shadow->peer);
  g_free(shadow->migration);
  g_free(shadow->sha256);
  g_free(shadow);
}

uint64_t
nc_kept_shadow_bytes(const NcKeptShadow *shadow)
{
  return (uint64_t)shadow->frames * NC_SHADOW_PAGE_BYTES;
}

char *
nc_kept_shadow_path(const char *directory, const char *migration)
{
  g_autofree char *name = g_strconcat(migration, NC_KEPT_SUFFIX, NULL);
  return g_build_filename(directory, name, NULL);
}

int
nc_kept_shadow_memory(void)
{
  return memfd_create("novacron-shadow", MFD_CLOEXEC);
}

/* Frames are used in order, so that the first hole is behind the last one. */
uint32_t
nc_kept_shadow_count(int fd)
{
  off_t end = lseek(fd, 0, SEEK_HOLE);
  return end <= 0 ? 0 : (uint32_t)MIN((uint64_t)end / NC_SHADOW_PAGE_BYTES, NC_SHADOW_FRAMES_MAX);
}

/* --- writing --- */

static bool
nc_kept_write_header(int to, const NcKeptShadow *s, GError **error)
{
  uint8_t header[NC_KEPT_HEADER_BYTES] = { 0 };
  nc_autojson json_t *object =
      json_pack("{s:i, s:s, s:s, s:s, s:s, s:I, s:I}", "format", 1, "vm", s->vm, "peer", s->peer, "migration", s->migration,
                "sha256", s->sha256, "kept_us", (json_int_t)s->kept_us, "frames", (json_int_t)s->frames);
  size_t length = json_dumpb(object, (char *)header, sizeof header, JSON_COMPACT);

  if (length == 0 || length >= sizeof header)
    return nc_fail(error, NC_ERROR_INTERNAL, "a kept shadow's header of %zu bytes", length);
  return nc_write_all(to, header, sizeof header, error);
}

/* ${offset}: in ${from}. ${stop}: NULL if ${to} is in memory. The memory may be changed meanwhile, by who has taken the shadow:
 * then nobody will use what is written. */
static bool
nc_kept_copy(int from, off_t offset, int to, uint64_t bytes, const gint *stop, GError **error)
{
  g_autofree uint8_t *chunk = g_malloc(NC_KEPT_CHUNK_BYTES);

  for (uint64_t done = 0; done < bytes;) {
    if (stop && g_atomic_int_get(stop))
      return nc_fail(error, NC_ERROR_CANCELLED, "novacrond stops");
    ssize_t n = pread(from, chunk, MIN(bytes - done, NC_KEPT_CHUNK_BYTES), offset + (off_t)done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return nc_fail_errno(error, NC_ERROR_IO, n < 0 ? errno : EIO, "can't read a kept shadow");
    if (!nc_write_all(to, chunk, (size_t)n, error))
      return false;
    done += (uint64_t)n;
    if (stop && done % NC_KEPT_SYNC_BYTES == 0 && fdatasync(to) < 0)
      return nc_fail_errno(error, NC_ERROR_IO, errno, "can't write a kept shadow");
  }
  return true;
}

static bool
nc_kept_has_room(const char *directory, uint64_t bytes, GError **error)
{
  struct statvfs fs;

  if (statvfs(directory, &fs) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "%s", directory);
  uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
  return free_bytes >= bytes + NC_KEPT_LEAVE_FREE ||
         nc_fail(error, NC_ERROR_RESOURCE, "it would leave less than 1 GiB free in %s (kept_shadow_mib says how much all may be)",
                 directory);
}

static bool
nc_kept_write_file(const char *path, const NcKeptShadow *shadow, const gint *stop, GError **error)
{
  nc_autofd int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

  if (to < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't make %s", path);
  if (!nc_kept_write_header(to, shadow, error) || !nc_kept_copy(shadow->fd, 0, to, nc_kept_shadow_bytes(shadow), stop, error))
    return false;
  if (fsync(to) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't write %s", path);
  posix_fadvise(to, 0, 0, POSIX_FADV_DONTNEED); /* the memory is for machines */
  return true;
}

bool
nc_kept_shadow_write(const char *directory, const NcKeptShadow *shadow, const gint *stop, GError **error)
{
  g_autofree char *path = nc_kept_shadow_path(directory, shadow->migration);
  g_autofree char *temporary = g_strconcat(path, ".tmp", NULL);

  if (!nc_kept_has_room(directory, nc_kept_shadow_bytes(shadow), error))
    return false;
  bool ok = nc_kept_write_file(temporary, shadow, stop, error);
  if (ok && rename(temporary, path) < 0)
    ok = nc_fail_errno(error, NC_ERROR_IO, errno, "can't rename %s", temporary);
  if (!ok) {
    unlink(temporary);
    return false;
  }
  nc_autofd int parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (parent >= 0)
    fsync(parent); /* if it does not come to be: a hint is missing */
  return true;
}

/* --- reading --- */

static NcKeptShadow *
nc_kept_parse(json_t *object, GError **error)
{
  g_autoptr(NcKeptShadow) s = g_new0(NcKeptShadow, 1);
  int64_t frames, format;

  s->fd = -1;
  s->is_done = true;
  s->vm = g_strdup(nc_json_string(object, "vm", error));
  s->peer = s->vm ? g_strdup(nc_json_string(object, "peer", error)) : NULL;
  s->migration = s->peer ? g_strdup(nc_json_string(object, "migration", error)) : NULL;
  s->sha256 = s->migration ? g_strdup(nc_json_string(object, "sha256", error)) : NULL;
  if (!s->sha256 || !nc_json_int(object, "format", 1, 1, &format, error) ||
      !nc_json_int(object, "frames", 1, NC_SHADOW_FRAMES_MAX, &frames, error) ||
      !nc_json_int(object, "kept_us", 0, INT64_MAX / 2, &s->kept_us, error))
    return NULL;
  if (!nc_name_is_valid(s->vm) || !nc_name_is_valid(s->migration)) {
    nc_fail(error, NC_ERROR_INVALID, "it names what can't be");
    return NULL;
  }
  s->frames = (uint32_t)frames;
  return g_steal_pointer(&s);
}

NcKeptShadow *
nc_kept_shadow_look(const char *path, GError **error)
{
  char header[NC_KEPT_HEADER_BYTES + 1] = { 0 };
  json_error_t problem;
  struct stat st;
  nc_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

  if (fd < 0 || fstat(fd, &st) < 0) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "%s", path);
    return NULL;
  }
  if (pread(fd, header, NC_KEPT_HEADER_BYTES, 0) != NC_KEPT_HEADER_BYTES) {
    nc_fail(error, NC_ERROR_CORRUPT, "%s is torn", path);
    return NULL;
  }
  nc_autojson json_t *object = json_loads(header, 0, &problem);
  g_autoptr(NcKeptShadow) shadow = object ? nc_kept_parse(object, error) : NULL;
  if (!object)
    nc_fail(error, NC_ERROR_CORRUPT, "%s is no kept shadow: %s", path, problem.text);
  if (!shadow)
    return NULL;
  if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != NC_KEPT_HEADER_BYTES + nc_kept_shadow_bytes(shadow)) {
    nc_fail(error, NC_ERROR_CORRUPT, "%s is torn", path);
    return NULL;
  }
  return g_steal_pointer(&shadow);
}

int
nc_kept_shadow_load(const char *path, uint32_t frames, GError **error)
{
  nc_autofd int from = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  nc_autofd int to = nc_kept_shadow_memory();

  if (from < 0 || to < 0) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "can't load %s", path);
    return -1;
  }
  if (!nc_kept_copy(from, NC_KEPT_HEADER_BYTES, to, (uint64_t)frames * NC_SHADOW_PAGE_BYTES, NULL, error))
    return -1;
  return nc_fd_steal(&to);
}
