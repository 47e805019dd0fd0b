/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/image_files.h"
#include "base/ident.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NC_NBD_START_MS 10000
#define NC_NBD_ANSWER_MS 60000
#define NC_NBD_POLL_US 10000

struct NcImageFile {
  char *path, *socket_path;
  GPid server;
  NcNbd *nbd;
};

bool
nc_image_file_create(const char *path, const char *format, uint64_t bytes, GError **error)
{
  g_autofree char *size = g_strdup_printf("%" G_GUINT64_FORMAT, bytes);
  const char *argv[] = { "qemu-img", "create", "-q", "-f", format, "--", path, size, NULL };
  g_autofree char *words = NULL;
  g_autoptr(GError) problem = NULL;
  int status = 0;
  /* Ours from the first moment: qemu-img would overwrite another one. */
  nc_autofd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

  if (fd < 0)
    return nc_fail_errno(error, errno == EEXIST ? NC_ERROR_EXISTS : NC_ERROR_IO, errno, "can't make the disk image %s", path);
  if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, &words, &status, &problem) ||
      !g_spawn_check_wait_status(status, &problem)) {
    unlink(path);
    return nc_fail(error, NC_ERROR_IO, "can't make the disk image %s: %s", path,
                   words && words[0] ? g_strchomp(words) : problem->message);
  }
  return true;
}

static bool
nc_image_file_serve(NcImageFile *file, const char *format, GError **error)
{
  const char *argv[] = { "qemu-nbd", "--format",      format, "--socket", file->socket_path, "--cache", "writeback", "--discard",
                         "unmap",    "--export-name", "0",    "--",       file->path,        NULL };
  g_autoptr(GError) problem = NULL;

  unlink(file->socket_path);
  return g_spawn_async(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &file->server,
                       &problem) ||
         nc_fail(error, NC_ERROR_INTERNAL, "can't start qemu-nbd: %s (it comes with qemu-img)", problem->message);
}

/* It ends by itself when its only client goes. */
static bool
nc_image_file_connect(NcImageFile *file, GError **error)
{
  int64_t deadline = nc_mono_us() + NC_NBD_START_MS * INT64_C(1000);

  for (;;) {
    g_autoptr(GError) problem = NULL;
    if ((file->nbd = nc_nbd_connect(file->socket_path, "0", NC_NBD_ANSWER_MS, &problem)))
      return true;
    if (waitpid(file->server, NULL, WNOHANG) != 0) {
      file->server = 0;
      return nc_fail(error, NC_ERROR_IO, "qemu-nbd does not open %s (its words are in novacrond's log)", file->path);
    }
    if (nc_mono_us() > deadline) {
      g_propagate_error(error, g_steal_pointer(&problem));
      return false;
    }
    g_usleep(NC_NBD_POLL_US);
  }
}

NcImageFile *
nc_image_file_open(const char *path, const char *format, const char *socket_path, GError **error)
{
  g_autoptr(NcImageFile) file = g_new0(NcImageFile, 1);
  file->path = g_strdup(path);
  file->socket_path = g_strdup(socket_path);
  if (!nc_image_file_serve(file, format, error) || !nc_image_file_connect(file, error))
    return NULL;
  return g_steal_pointer(&file);
}

NcNbd *
nc_image_file_nbd(NcImageFile *file)
{
  return file->nbd;
}

bool
nc_image_file_sync(NcImageFile *file, GError **error)
{
  if (!nc_nbd_flush(file->nbd, error))
    return false;
  nc_autofd int fd = open(file->path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fsync(fd) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't make %s durable", file->path);
  return nc_directory_sync(file->path, error);
}

void
nc_image_file_close(NcImageFile *file)
{
  int64_t deadline = nc_mono_us() + NC_NBD_START_MS * INT64_C(1000);
  if (!file)
    return;
  bool served = file->nbd != NULL;
  nc_nbd_free(file->nbd);
  /* It writes its metadata and goes; one that was never used waits for ever. */
  while (file->server && served && nc_mono_us() < deadline) {
    if (waitpid(file->server, NULL, WNOHANG) != 0)
      file->server = 0; /* reaped: the number is somebody else's from now on */
    else
      g_usleep(NC_NBD_POLL_US);
  }
  if (file->server) {
    kill(file->server, SIGKILL);
    waitpid(file->server, NULL, 0);
  }
  unlink(file->socket_path);
  g_free(file->socket_path);
  g_free(file->path);
  g_free(file);
}
