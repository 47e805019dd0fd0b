/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu/start_lock.h"
#include "base/ident.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define NC_LOOK_US 10000 /* flock(2) has no timeout */
#define NC_SIGNATURE_BYTES 16

static pid_t
nc_start_lock_signature(int lock)
{
  char text[NC_SIGNATURE_BYTES] = "";
  return pread(lock, text, sizeof text - 1, 0) > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
}

static bool
nc_start_lock_try(int lock)
{
  int status;
  do
    status = flock(lock, LOCK_EX | LOCK_NB);
  while (status < 0 && errno == EINTR);
  return status == 0;
}

int
nc_start_lock_take(const char *path, int timeout_ms, GError **error)
{
  nc_autofd int lock = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600); /* QEMU has nothing to write there */
  int64_t deadline_us = nc_mono_us() + (int64_t)timeout_ms * 1000;

  if (lock < 0) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "can't open %s", path);
    return -1;
  }
  while (!nc_start_lock_try(lock)) {
    if (errno != EWOULDBLOCK) {
      nc_fail_errno(error, NC_ERROR_IO, errno, "can't lock %s", path);
      return -1;
    }
    if (nc_mono_us() >= deadline_us) {
      nc_fail(error, NC_ERROR_CONFLICT, "an earlier QEMU of this machine (process %d) has not ended: look at it, and end it if it is not wanted any more (it holds %s)",
              (int)nc_start_lock_signature(lock), path);
      return -1;
    }
    g_usleep(NC_LOOK_US);
  }
  return nc_fd_steal(&lock);
}

void
nc_start_lock_sign(const char *path, pid_t pid)
{
  nc_autofd int file = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);
  char text[NC_SIGNATURE_BYTES];
  int length = g_snprintf(text, sizeof text, "%d\n", (int)pid);

  /* Only for people: without it the error says process 0. */
  if (file >= 0 && write(file, text, (size_t)length) < 0)
    return;
}

void
nc_start_lock_remove(const char *path)
{
  nc_autofd int lock = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

  if (lock >= 0 && nc_start_lock_try(lock))
    unlink(path);
}
