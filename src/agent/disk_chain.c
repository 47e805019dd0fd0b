/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/disk_chain.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/io.h"
#include "crypto/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NC_DIGEST_PIECE (64u << 10)
#define NC_DIGEST_HEX (2u * NC_SHA256_BYTES)
#define NC_BACKING_PATH_MAX 4096

static const char *const nc_disk_chain_names[NC_CHAIN_COUNT] = { "flatten", "keep", "trust" };

const char *
nc_disk_chain_name(NcDiskChain chain)
{
  return nc_disk_chain_names[chain];
}

bool
nc_disk_chain_from_name(const char *name, NcDiskChain *ret)
{
  for (int i = 0; i < NC_CHAIN_COUNT; i++)
    if (g_strcmp0(name, nc_disk_chain_names[i]) == 0) {
      *ret = (NcDiskChain)i;
      return true;
    }
  return false;
}

/* --- the digest --- */

static bool
nc_digest_is_zero(const uint8_t *data, size_t length)
{
  return length == 0 || (data[0] == 0 && memcmp(data, data + 1, length - 1) == 0);
}

static void
nc_digest_number(NcSha256 *sha, uint64_t number)
{
  uint64_t little = GUINT64_TO_LE(number);
  nc_sha256_update(sha, &little, sizeof little);
}

/* Pieces begin at multiples of their length, whatever the file system says of holes. */
static bool
nc_digest_piece(int fd, const char *path, off_t at, uint8_t *room, NcSha256 *sha, GError **error)
{
  size_t got = 0;

  while (got < NC_DIGEST_PIECE) {
    ssize_t n = pread(fd, room + got, NC_DIGEST_PIECE - got, at + (off_t)got);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return nc_fail_errno(error, NC_ERROR_IO, errno, "%s can't be read", path);
    if (n == 0)
      break;
    got += (size_t)n;
  }
  if (nc_digest_is_zero(room, got))
    return true;
  nc_digest_number(sha, (uint64_t)at / NC_DIGEST_PIECE);
  nc_sha256_update(sha, room, got);
  return true;
}

/* From where on there may be something; the end of the file if there is nothing any more. */
static off_t
nc_digest_next(int fd, off_t at, off_t size)
{
  off_t data = lseek(fd, at, SEEK_DATA);
  if (data < 0)
    return errno == ENXIO ? size : at; /* a file system that knows no holes */
  return MAX(data / NC_DIGEST_PIECE * NC_DIGEST_PIECE, at);
}

static gint nc_digests_stopped; /* atomic */

void
nc_disk_digests_stop(void)
{
  g_atomic_int_set(&nc_digests_stopped, 1);
}

char *
nc_disk_file_digest(const char *path, const gint *cancelled, GError **error)
{
  g_autoptr(NcSha256) sha = nc_sha256_new();
  g_autofree uint8_t *room = g_malloc(NC_DIGEST_PIECE);
  uint8_t digest[NC_SHA256_BYTES];
  struct stat st;

  nc_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0 || fstat(fd, &st) < 0) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "%s can't be read", path);
    return NULL;
  }
  if (!S_ISREG(st.st_mode)) {
    nc_fail(error, NC_ERROR_UNSUITABLE, "%s is no ordinary file", path);
    return NULL;
  }
  for (off_t at = nc_digest_next(fd, 0, st.st_size); at < st.st_size; at = nc_digest_next(fd, at + NC_DIGEST_PIECE, st.st_size)) {
    if (g_atomic_int_get(&nc_digests_stopped) || (cancelled && g_atomic_int_get(cancelled))) {
      nc_fail(error, NC_ERROR_CANCELLED, "cancelled while %s was read", path);
      return NULL;
    }
    if (!nc_digest_piece(fd, path, at, room, sha, error))
      return NULL;
  }
  nc_digest_number(sha, (uint64_t)st.st_size);
  nc_sha256_snapshot(sha, digest);
  return nc_hex_encode(digest, sizeof digest);
}

/* --- files --- */

static void
nc_backing_file_free(gpointer data)
{
  NcBackingFile *f = data;
  g_free(f->path);
  g_free(f->format);
  g_free(f->digest);
  g_free(f);
}

GPtrArray *
nc_backing_files_new(void)
{
  return g_ptr_array_new_with_free_func(nc_backing_file_free);
}

void
nc_backing_files_add(GPtrArray *files, const char *path, const char *format)
{
  NcBackingFile *f = g_new0(NcBackingFile, 1);

  f->path = g_strdup(path);
  f->format = g_strdup(format);
  f->digest = g_strdup("");
  g_ptr_array_add(files, f);
}

static bool
nc_backing_format_is_known(const char *format)
{
  return g_str_equal(format, "raw") || g_str_equal(format, "qcow2");
}

static bool
nc_backing_file_look(NcBackingFile *f, bool digest, const gint *cancelled, GError **error)
{
  struct stat st;

  if (!g_path_is_absolute(f->path) || strlen(f->path) > NC_BACKING_PATH_MAX || !nc_backing_format_is_known(f->format))
    return nc_fail(error, NC_ERROR_UNSUITABLE, "%.200s (%.20s) is not a raw or qcow2 file with an absolute path", f->path, f->format);
  if (stat(f->path, &st) < 0)
    return nc_fail_errno(error, NC_ERROR_UNSUITABLE, errno, "%s", f->path);
  if (!S_ISREG(st.st_mode))
    return nc_fail(error, NC_ERROR_UNSUITABLE, "%s is a device, and only files can be compared", f->path);
  f->size_bytes = (uint64_t)st.st_size;
  if (!digest)
    return true;
  g_free(f->digest);
  f->digest = nc_disk_file_digest(f->path, cancelled, error);
  return f->digest != NULL;
}

bool
nc_backing_files_look(GPtrArray *files, bool digest, const gint *cancelled, GError **error)
{
  if (files->len > NC_DISK_CHAIN_MAX)
    return nc_fail(error, NC_ERROR_UNSUITABLE, "it has %u files, and %d are the most that are kept", files->len, NC_DISK_CHAIN_MAX);
  for (guint i = 0; i < files->len; i++) {
    NcBackingFile *f = files->pdata[i];
    if (nc_backing_file_look(f, digest, cancelled, error))
      continue;
    if (!f->digest)
      f->digest = g_strdup("");
    return false;
  }
  return true;
}

uint64_t
nc_backing_files_used(const GPtrArray *files)
{
  uint64_t sum = 0;
  struct stat st;

  for (guint i = 0; i < files->len; i++)
    if (stat(((const NcBackingFile *)files->pdata[i])->path, &st) == 0)
      sum += (uint64_t)st.st_blocks * 512;
  return sum;
}

bool
nc_backing_files_have_digests(const GPtrArray *files)
{
  for (guint i = 0; i < files->len; i++)
    if (((const NcBackingFile *)files->pdata[i])->digest[0] == '\0')
      return false;
  return true;
}

/* --- on the way --- */

json_t *
nc_backing_files_to_json(const GPtrArray *files)
{
  json_t *list = json_array();

  for (guint i = 0; i < files->len; i++) {
    const NcBackingFile *f = files->pdata[i];
    json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:s}", "path", f->path, "format", f->format, "size", (json_int_t)f->size_bytes,
                                          "digest", f->digest));
  }
  return list;
}

static bool
nc_backing_file_read(json_t *json, GPtrArray *files, GError **error)
{
  int64_t size;
  uint8_t digest[NC_SHA256_BYTES];
  const char *path = nc_json_string(json, "path", error), *format = path ? nc_json_string(json, "format", error) : NULL;
  const char *hex = format ? nc_json_string(json, "digest", error) : NULL;

  if (!hex || !nc_json_int(json, "size", 0, INT64_MAX, &size, error))
    return false;
  if (!g_path_is_absolute(path) || strlen(path) > NC_BACKING_PATH_MAX || !nc_backing_format_is_known(format) ||
      (hex[0] && (strlen(hex) != NC_DIGEST_HEX || !nc_hex_decode(hex, digest, sizeof digest))))
    return nc_fail(error, NC_ERROR_PROTOCOL, "a backing file that is offered is malformed");
  nc_backing_files_add(files, path, format);
  NcBackingFile *f = files->pdata[files->len - 1];
  f->size_bytes = (uint64_t)size;
  g_free(f->digest);
  f->digest = g_ascii_strdown(hex, -1);
  return true;
}

GPtrArray *
nc_backing_files_from_json(json_t *json, GError **error)
{
  g_autoptr(GPtrArray) files = nc_backing_files_new();
  size_t i;
  json_t *entry;

  if (json_array_size(json) > NC_DISK_CHAIN_MAX) {
    nc_fail(error, NC_ERROR_PROTOCOL, "a chain of %zu backing files is offered", json_array_size(json));
    return NULL;
  }
  json_array_foreach(json, i, entry) if (!nc_backing_file_read(entry, files, error)) return NULL;
  return g_steal_pointer(&files);
}

/* --- the destination --- */

#define NC_CHAIN_REMEDY "copy it there from the source, or move without --keep-chain: then its content goes along"

static bool
nc_backing_file_differs(const NcBackingFile *f, const char *disk, json_t *checks, const char *how)
{
  nc_check_add(checks, "backing file", NC_CHECK_FAILED, NC_CHAIN_REMEDY, "disk %s: the backing file %s is another one at the destination: %s", disk,
               f->path, how);
  return false;
}

static bool
nc_backing_file_compare(const NcBackingFile *f, const char *disk, json_t *checks)
{
  g_autoptr(GError) error = NULL;

  if (!f->digest[0]) {
    nc_check_add(checks, "backing file", NC_CHECK_WARNING, NULL, "%s: there, and as long; its content is compared when the move begins", f->path);
    return true;
  }
  g_autofree char *here = nc_disk_file_digest(f->path, NULL, &error);
  if (!here)
    return nc_backing_file_differs(f, disk, checks, error->message);
  if (!g_str_equal(here, f->digest))
    return nc_backing_file_differs(f, disk, checks, "as long, with other content");
  nc_check_add(checks, "backing file", NC_CHECK_OK, NULL, "%s: the same content on both nodes", f->path);
  return true;
}

static bool
nc_backing_file_judge(const NcBackingFile *f, NcDiskChain chain, const char *disk, json_t *checks)
{
  struct stat st;

  if (stat(f->path, &st) < 0) {
    nc_check_add(checks, "backing file", NC_CHECK_FAILED, NC_CHAIN_REMEDY, "disk %s: its backing file %s is missing at the destination: %s", disk,
                 f->path, g_strerror(errno));
    return false;
  }
  if (!S_ISREG(st.st_mode))
    return nc_backing_file_differs(f, disk, checks, "no ordinary file");
  if (chain == NC_CHAIN_TRUST) {
    nc_check_add(checks, "backing file", NC_CHECK_WARNING, NULL, "%s: there, and by your word the same; it is not compared", f->path);
    return true;
  }
  if ((uint64_t)st.st_size != f->size_bytes) {
    g_autofree char *how = g_strdup_printf("%" G_GUINT64_FORMAT " bytes, and not %" G_GUINT64_FORMAT, (guint64)st.st_size, f->size_bytes);
    return nc_backing_file_differs(f, disk, checks, how);
  }
  return nc_backing_file_compare(f, disk, checks);
}

bool
nc_backing_files_judge(const GPtrArray *files, NcDiskChain chain, const char *disk, json_t *checks)
{
  bool ok = true;

  for (guint i = 0; i < files->len; i++)
    ok = nc_backing_file_judge(files->pdata[i], chain, disk, checks) && ok;
  return ok;
}
