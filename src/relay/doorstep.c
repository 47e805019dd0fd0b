/* SPDX-License-Identifier: Apache-2.0 */
#include "relay/doorstep.h"
#include "base/io.h"
#include "relay/session.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A datagram socket can't connect to a stream socket, and the kernel says so only if somebody has that one open. */
static bool
nc_doorstep_is_taken(const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  nc_autofd int probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

  g_strlcpy(address.sun_path, path, sizeof address.sun_path);
  return connect(probe, (struct sockaddr *)&address, sizeof address) == 0 || errno != ECONNREFUSED;
}

static bool
nc_doorstep_check(const char *path, GError **error)
{
  struct stat status;

  if (lstat(path, &status) < 0)
    return true; /* if it is not for its absence, listening will say why */
  if (!S_ISSOCK(status.st_mode))
    return nc_fail(error, NC_ERROR_EXISTS, "%s exists and is no socket: choose another path for --unix", path);
  return !nc_doorstep_is_taken(path) ||
         nc_fail(error, NC_ERROR_EXISTS, "another program listens on %s: end it, or choose another path for --unix",
                 path);
}

bool
nc_doorstep_init(NcDoorstep *doorstep, const char *path, uid_t owner, GError **error)
{
  *doorstep = (NcDoorstep){ .path = path, .listener = -1 };
  if (!nc_doorstep_check(path, error))
    return false;
  doorstep->listener = nc_unix_listen(path, 0600, error);
  if (doorstep->listener < 0)
    return false;
  if (owner == (uid_t)-1 || lchown(path, owner, (gid_t)-1) == 0)
    return true;
  nc_fail_errno(error, NC_ERROR_FORBIDDEN, errno, "can't give %s to user %u (--owner needs root)", path,
                (unsigned)owner);
  nc_doorstep_clear(doorstep);
  return false;
}

int
nc_doorstep_accept(NcDoorstep *doorstep, const NcRelaySetup *setup, GError **error)
{
  for (;;) {
    struct pollfd p = { .fd = doorstep->listener, .events = POLLIN };

    if (nc_relay_is_stopped(setup)) {
      nc_fail(error, NC_ERROR_CANCELLED, "stopped before QEMU connected to %s", doorstep->path);
      return -1;
    }
    if (poll(&p, 1, NC_RELAY_SLICE_MS) <= 0)
      continue;
    int fd = accept4(doorstep->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0) {
      nc_fd_clear(
          &doorstep->listener); /* a second one, say of multifd, is refused at once instead of waiting for ever */
      return fd;
    }
    if (errno != EINTR && errno != ECONNABORTED && errno != EAGAIN) {
      nc_fail_errno(error, NC_ERROR_IO, errno, "accepting QEMU's connection on %s", doorstep->path);
      return -1;
    }
  }
}

void
nc_doorstep_clear(NcDoorstep *doorstep)
{
  nc_fd_clear(&doorstep->listener);
  if (doorstep->path)
    unlink(doorstep->path);
  doorstep->path = NULL;
}
