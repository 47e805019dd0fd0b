/* SPDX-License-Identifier: Apache-2.0 */
/* Taking systemd's sockets or opening our own. */
#include "gate/listeners.h"
#include "base/io.h"
#include "base/log.h"
#include "base/tcp.h"

#include <errno.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static bool
nc_listeners_take(NcListeners *listeners, int n, GError **error)
{
  for (int i = 0; i < n; i++) {
    int fd = SD_LISTEN_FDS_START + i;
    bool local = sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) > 0;
    bool https =
        !local && (sd_is_socket(fd, AF_INET, SOCK_STREAM, 1) > 0 || sd_is_socket(fd, AF_INET6, SOCK_STREAM, 1) > 0);
    int *slot = local ? &listeners->local : https ? &listeners->https : NULL;
    if (!slot || *slot >= 0)
      return nc_fail(
          error, NC_ERROR_INVALID,
          "systemd passed descriptor %d, which is not the one UNIX or the one TCP socket the gate listens on", fd);
    *slot = fd;
  }
  return true;
}

static bool
nc_listeners_set_group(const char *path, const char *group, GError **error)
{
  struct group *entry = getgrnam(group);

  if (!entry)
    return nc_fail(error, NC_ERROR_INVALID, "socket-group: there is no group \"%s\" on this node", group);
  if (chown(path, (uid_t)-1, entry->gr_gid) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't give %s to group \"%s\"", path, group);
  return true;
}

/*
 * A second gate must not take the socket away from a running one: if somebody
 * answers there, it is not stale.
 */
static bool
nc_listeners_check_free(const char *path, GError **error)
{
  nc_autofd int fd = nc_unix_connect(path, NULL);
  if (fd >= 0)
    return nc_fail(error, NC_ERROR_CONFLICT, "another program, probably a second novacron-gate, listens on %s", path);
  return true;
}

static bool
nc_listeners_open_local(const NcGateOptions *options, NcListeners *listeners, GError **error)
{
  g_autofree char *directory = g_path_get_dirname(options->socket);

  if (!nc_listeners_check_free(options->socket, error) || !nc_mkdir_p(directory, 0755, error))
    return false;
  listeners->local = nc_unix_listen(options->socket, 0660, error);
  if (listeners->local < 0)
    return false;
  return !options->socket_group || nc_listeners_set_group(options->socket, options->socket_group, error);
}

static bool
nc_listeners_open_own(const NcGateOptions *options, NcListeners *listeners, GError **error)
{
  if (!g_str_equal(options->socket, "none") && !nc_listeners_open_local(options, listeners, error))
    return false;
  if (g_str_equal(options->listen, "none") || !options->tls_cert)
    return true;
  listeners->https = nc_tcp_listen(options->listen, error);
  return listeners->https >= 0;
}

static bool
nc_listeners_check(const NcGateOptions *options, const NcListeners *listeners, GError **error)
{
  if (listeners->https >= 0 && !options->tls_cert)
    return nc_fail(error, NC_ERROR_INVALID,
                   "a TCP socket was passed, but there is no tls-cert: HTTP is never spoken over TCP");
  if (listeners->local < 0 && listeners->https < 0)
    return nc_fail(error, NC_ERROR_INVALID,
                   "nothing to listen on: neither a socket nor listen with tls-cert and tls-key");
  return true;
}

bool
nc_listeners_open(const NcGateOptions *options, NcListeners *ret, GError **error)
{
  NcListeners listeners = { -1, -1 };
  int passed = sd_listen_fds(1);
  bool ok =
      passed > 0 ? nc_listeners_take(&listeners, passed, error) : nc_listeners_open_own(options, &listeners, error);

  if (!ok || !nc_listeners_check(options, &listeners, error)) {
    nc_fd_clear(&listeners.local);
    nc_fd_clear(&listeners.https);
    return false;
  }
  *ret = listeners;
  return true;
}
