/* SPDX-License-Identifier: Apache-2.0 */
/* Non-blocking attempts until a deadline: the kernel offers no other bound for connect(2) on a UNIX socket. */
#include "qemu/dial.h"
#include "base/ident.h"
#include "base/io.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define NC_DIAL_STEP_US 10000

/* 0 or errno. */
static int
nc_dial_once(const struct sockaddr_un *address, int *ret_fd)
{
  nc_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address) < 0)
    return errno;
  *ret_fd = nc_fd_steal(&fd);
  return 0;
}

int
nc_qemu_dial(const char *path, int timeout_ms, GError **error)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  int64_t start = nc_mono_us();
  nc_autofd int fd = -1;
  int problem;

  if (g_strlcpy(address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path) {
    nc_fail(error, NC_ERROR_INVALID, "socket path %s is longer than %zu bytes", path, sizeof address.sun_path - 1);
    return -1;
  }
  while ((problem = nc_dial_once(&address, &fd)) == EAGAIN || problem == ECONNREFUSED || problem == EINTR) {
    int limit_ms = problem == ECONNREFUSED ? MIN(timeout_ms, NC_DIAL_REFUSED_MS) : timeout_ms;
    if (nc_mono_us() - start >= (int64_t)limit_ms * 1000)
      break;
    g_usleep(NC_DIAL_STEP_US);
  }
  if (problem == EAGAIN)
    nc_fail(error, NC_ERROR_TIMEOUT, "%s is busy: somebody else is connected to it, and more are waiting", path);
  else if (problem)
    nc_fail_errno(error, NC_ERROR_UNREACHABLE, problem, "can't connect to %s", path);
  else if (nc_fd_set_nonblocking(fd, false, error))
    return nc_fd_steal(&fd);
  return -1;
}
