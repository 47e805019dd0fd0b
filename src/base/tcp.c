/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting, listening and accepting over TCP, with time limits and errors that name the address. */
#include "base/tcp.h"
#include "base/ident.h"
#include "base/io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define NC_TCP_BACKLOG 128

/* Splits "host:port" or "[host]:port". */
static bool
nc_tcp_split(const char *address, char **ret_host, unsigned *ret_port)
{
  const char *colon = address && strlen(address) <= NC_TCP_ADDRESS_MAX ? strrchr(address, ':') : NULL;
  guint64 port;

  if (!colon || !g_ascii_string_to_unsigned(colon + 1, 10, 0, 65535, &port, NULL))
    return false;
  const char *start = address, *end = colon;
  const char *allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
  if (*start == '[') {
    if (end - start < 3 || end[-1] != ']')
      return false;
    start++;
    end--;
    allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:%";
  }
  if (start == end || strspn(start, allowed) != (size_t)(end - start))
    return false;
  *ret_host = g_strndup(start, (gsize)(end - start));
  *ret_port = (unsigned)port;
  return true;
}

bool
nc_tcp_address_is_valid(const char *address)
{
  g_autofree char *host = NULL;
  unsigned port = 0;

  return nc_tcp_split(address, &host, &port) && port > 0;
}

/* Splits "[LOCAL>]HOST:PORT" at the arrow; *ret_local is NULL without one. Returns the address. */
static const char *
nc_tcp_split_path(const char *path, char **ret_local)
{
  const char *arrow = path ? strchr(path, '>') : NULL;

  *ret_local = arrow ? g_strndup(path, (gsize)(arrow - path)) : NULL;
  return arrow ? arrow + 1 : path;
}

/* A numeric address, any port. NULL if it is none. */
static struct addrinfo *
nc_tcp_parse_local(const char *local)
{
  const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST };
  struct addrinfo *list = NULL;

  return getaddrinfo(local, NULL, &hints, &list) == 0 ? list : NULL;
}

bool
nc_tcp_path_is_valid(const char *path)
{
  g_autofree char *local = NULL;
  const char *address = nc_tcp_split_path(path, &local);
  struct addrinfo *parsed = local ? nc_tcp_parse_local(local) : NULL;
  bool valid = nc_tcp_address_is_valid(address) && (!local || parsed);

  if (parsed)
    freeaddrinfo(parsed);
  return valid;
}

char **
nc_tcp_paths_parse(const char *text)
{
  g_auto(GStrv) paths = g_strsplit(text, ",", -1);

  if (g_strv_length(paths) > NC_TCP_PATHS_MAX)
    return NULL;
  for (char **path = paths; *path; path++)
    if (!nc_tcp_path_is_valid(g_strstrip(*path)))
      return NULL;
  return g_steal_pointer(&paths);
}

static struct addrinfo *
nc_tcp_resolve(const char *address, bool passive, char **ret_host, unsigned *ret_port, GError **error)
{
  struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0) };
  struct addrinfo *list = NULL;
  g_autofree char *host = NULL;
  unsigned port = 0;
  char service[8];

  if (!nc_tcp_split(address, &host, &port) || (port == 0 && !passive)) {
    nc_fail(error, NC_ERROR_INVALID, "\"%s\" is not an address of the form host:port", address ? address : "");
    return NULL;
  }
  g_snprintf(service, sizeof service, "%u", port);
  int problem = getaddrinfo(host, service, &hints, &list);
  if (problem != 0) {
    nc_fail(error, NC_ERROR_UNREACHABLE, "can't find the address of %s: %s", host, gai_strerror(problem));
    return NULL;
  }
  *ret_host = g_steal_pointer(&host);
  *ret_port = port;
  return list;
}

/* Connects to one address; 0 or an errno. */
static int
nc_tcp_connect_one(int fd, const struct addrinfo *to, int64_t deadline_us)
{
  struct pollfd p = { .fd = fd, .events = POLLOUT };
  int problem = 0;
  socklen_t size = sizeof problem;

  if (connect(fd, to->ai_addr, to->ai_addrlen) == 0)
    return 0;
  if (errno != EINPROGRESS)
    return errno;
  for (;;) {
    int64_t left_us = deadline_us - nc_mono_us();
    int n = poll(&p, 1, left_us <= 0 ? 0 : (int)((left_us + 999) / 1000));
    if (n > 0)
      break;
    if (n < 0 && errno != EINTR)
      return errno;
    if (nc_mono_us() >= deadline_us)
      return ETIMEDOUT;
  }
  return getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size) < 0 ? errno : problem;
}

/* ${from}: NULL for the address that the kernel takes. */
static int
nc_tcp_try(const struct addrinfo *from, const struct addrinfo *to, int64_t deadline_us, int *ret_errno)
{
  nc_autofd int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

  if (fd < 0 || (from && bind(fd, from->ai_addr, from->ai_addrlen) < 0))
    *ret_errno = errno;
  else
    *ret_errno = nc_tcp_connect_one(fd, to, deadline_us);
  return *ret_errno ? -1 : nc_fd_steal(&fd);
}

static unsigned
nc_tcp_count(const struct addrinfo *list)
{
  unsigned n = 0;
  for (; list; list = list->ai_next)
    n++;
  return n;
}

/* Tries what ${list} has, from ${from} or from anywhere. -1 with *ret_errno. */
static int
nc_tcp_try_all(const struct addrinfo *from, const struct addrinfo *list, int64_t deadline_us, int *ret_errno)
{
  nc_autofd int fd = -1;

  *ret_errno = EAFNOSUPPORT;
  for (const struct addrinfo *to = list; to && fd < 0; to = to->ai_next) {
    if (from && from->ai_family != to->ai_family)
      continue;
    /* A dead address must leave time for the ones after it. */
    int64_t now_us = nc_mono_us();
    fd = nc_tcp_try(from, to, now_us + MAX(deadline_us - now_us, 0) / nc_tcp_count(to), ret_errno);
  }
  return nc_fd_steal(&fd);
}

int
nc_tcp_connect(const char *path, int timeout_ms, GError **error)
{
  int64_t deadline_us = nc_mono_us() + (int64_t)timeout_ms * 1000;
  g_autofree char *local = NULL, *host = NULL;
  unsigned port = 0;
  int problem;
  const char *address = nc_tcp_split_path(path, &local);
  struct addrinfo *list = nc_tcp_resolve(address, false, &host, &port, error);
  struct addrinfo *from = local ? nc_tcp_parse_local(local) : NULL;

  if (!list)
    return -1;
  nc_autofd int fd = local && !from ? -1 : nc_tcp_try_all(from, list, deadline_us, &problem);
  freeaddrinfo(list);
  if (local && !from)
    nc_fail(error, NC_ERROR_INVALID, "\"%s\" is no numeric address of this host", local);
  else if (fd < 0)
    nc_fail_errno(error, problem == ETIMEDOUT ? NC_ERROR_TIMEOUT : NC_ERROR_UNREACHABLE, problem, "can't connect to %s", path);
  if (from)
    freeaddrinfo(from);
  if (fd < 0)
    return -1;
  if (!nc_fd_set_nonblocking(fd, false, error) || !nc_tcp_tune(fd, error))
    return -1;
  return nc_fd_steal(&fd);
}

int
nc_tcp_listen(const char *address, GError **error)
{
  g_autofree char *host = NULL;
  unsigned port = 0;
  int on = 1;
  struct addrinfo *list = nc_tcp_resolve(address, true, &host, &port, error);

  if (!list)
    return -1;
  nc_autofd int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool failed = fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
                bind(fd, list->ai_addr, list->ai_addrlen) < 0 || listen(fd, NC_TCP_BACKLOG) < 0;
  int problem = errno;
  freeaddrinfo(list);
  if (!failed)
    return nc_fd_steal(&fd);
  if (problem == EADDRINUSE)
    nc_fail_errno(error, NC_ERROR_RESOURCE, problem, "port %u on %s is taken by another program", port, host);
  else
    nc_fail_errno(error, NC_ERROR_IO, problem, "can't listen on %s", address);
  return -1;
}

int
nc_tcp_accept(int listener, GError **error)
{
  nc_autofd int fd = -1;

  do
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
  if (fd < 0) {
    bool used_up = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    nc_fail_errno(error, used_up ? NC_ERROR_RESOURCE : NC_ERROR_IO, errno, "accept");
    return -1;
  }
  return nc_tcp_tune(fd, error) ? nc_fd_steal(&fd) : -1;
}

bool
nc_tcp_tune(int fd, GError **error)
{
  static const struct {
    int level;
    int name;
    int value;
  } option[] = {
    { IPPROTO_TCP, TCP_NODELAY, 1 },
    { SOL_SOCKET, SO_KEEPALIVE, 1 },
    { IPPROTO_TCP, TCP_KEEPIDLE, 5 }, /* seconds; 5 + 2 * 5 = the user time-out */
    { IPPROTO_TCP, TCP_KEEPINTVL, 5 },
    { IPPROTO_TCP, TCP_KEEPCNT, 2 },
    { IPPROTO_TCP, TCP_USER_TIMEOUT, NC_TCP_USER_TIMEOUT_MS },
  };
  int domain = 0;
  socklen_t size = sizeof domain;

  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "getsockopt");
  if (domain != AF_INET && domain != AF_INET6)
    return true;
  for (size_t i = 0; i < G_N_ELEMENTS(option); i++)
    if (setsockopt(fd, option[i].level, option[i].name, &option[i].value, sizeof option[i].value) < 0)
      return nc_fail_errno(error, NC_ERROR_IO, errno, "setsockopt");
  return true;
}

char *
nc_tcp_peer_address(int fd)
{
  struct sockaddr_storage address = { 0 };
  socklen_t size = sizeof address;
  char host[NI_MAXHOST], port[NI_MAXSERV];

  if (getpeername(fd, (struct sockaddr *)&address, &size) < 0 ||
      (address.ss_family != AF_INET && address.ss_family != AF_INET6) ||
      getnameinfo((struct sockaddr *)&address, size, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return g_strdup("unknown");
  return g_strdup_printf(strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

char *
nc_tcp_peer_network(int fd)
{
  struct sockaddr_storage address = { 0 };
  socklen_t size = sizeof address;
  char text[INET6_ADDRSTRLEN];

  if (getpeername(fd, (struct sockaddr *)&address, &size) < 0)
    return g_strdup("unknown");
  const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
  struct in6_addr v6 = ((const struct sockaddr_in6 *)&address)->sin6_addr;
  const void *bytes = &v6;
  int family = address.ss_family;
  if (family == AF_INET) {
    bytes = &v4->sin_addr;
  } else if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6)) { /* of a socket that listens for both */
    family = AF_INET;
    bytes = &v6.s6_addr[12];
  } else if (family == AF_INET6) {
    memset(&v6.s6_addr[8], 0, 8);
  } else {
    return g_strdup("unknown");
  }
  return g_strdup(inet_ntop(family, bytes, text, sizeof text) ? text : "unknown");
}

unsigned
nc_tcp_local_port(int fd)
{
  struct sockaddr_storage address = { 0 };
  socklen_t size = sizeof address;

  if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
    return 0;
  if (address.ss_family == AF_INET)
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
  return address.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&address)->sin6_port) : 0;
}
