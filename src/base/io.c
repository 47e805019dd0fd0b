/* SPDX-License-Identifier: Apache-2.0 */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

void
nc_fd_clear(int *fd)
{
  int saved = errno;
  if (*fd >= 0)
    close(*fd);
  *fd = -1;
  errno = saved;
}

int
nc_fd_steal(int *fd)
{
  int taken = *fd;
  *fd = -1;
  return taken;
}

bool
nc_fd_set_nonblocking(int fd, bool nonblocking, GError **error)
{
  int flags = fcntl(fd, F_GETFL);
  int wanted = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;

  if (flags < 0 || fcntl(fd, F_SETFL, wanted) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "fcntl");
  return true;
}

static bool
nc_wait_fd(int fd, short events, int timeout_ms, GError **error)
{
  struct pollfd p = { .fd = fd, .events = events };

  for (;;) {
    int n = poll(&p, 1, timeout_ms);
    if (n > 0)
      return true;
    if (n == 0)
      return nc_fail(error, NC_ERROR_TIMEOUT, "nothing moved for %d ms", timeout_ms);
    if (errno != EINTR)
      return nc_fail_errno(error, NC_ERROR_IO, errno, "poll");
  }
}

static ssize_t
nc_send_or_write(int fd, const void *data, size_t length_bytes)
{
  ssize_t n = send(fd, data, length_bytes, MSG_NOSIGNAL);
  return n < 0 && errno == ENOTSOCK ? write(fd, data, length_bytes) : n;
}

bool
nc_write_all(int fd, const void *data, size_t length_bytes, GError **error)
{
  const uint8_t *at = data;

  while (length_bytes > 0) {
    ssize_t n = nc_send_or_write(fd, at, length_bytes);
    if (n >= 0) {
      at += n;
      length_bytes -= (size_t)n;
    } else if (errno == EAGAIN) {
      if (!nc_wait_fd(fd, POLLOUT, -1, error))
        return false;
    } else if (errno != EINTR) {
      return nc_fail_errno(error, NC_ERROR_IO, errno, "write");
    }
  }
  return true;
}

bool
nc_read_all(int fd, void *data, size_t length_bytes, int timeout_ms, GError **error)
{
  uint8_t *at = data;

  while (length_bytes > 0) {
    if (!nc_wait_fd(fd, POLLIN, timeout_ms, error))
      return false;
    ssize_t n = read(fd, at, length_bytes);
    if (n == 0)
      return nc_fail(error, NC_ERROR_IO, "closed by the other end");
    if (n > 0) {
      at += n;
      length_bytes -= (size_t)n;
    } else if (errno != EINTR && errno != EAGAIN) {
      return nc_fail_errno(error, NC_ERROR_IO, errno, "read");
    }
  }
  return true;
}

static bool
nc_unix_address(const char *path, struct sockaddr_un *address, GError **error)
{
  *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
  if (g_strlcpy(address->sun_path, path, sizeof address->sun_path) >= sizeof address->sun_path)
    return nc_fail(error, NC_ERROR_INVALID, "socket path %s is longer than %zu bytes: use a shorter run_dir", path,
                   sizeof address->sun_path - 1);
  return true;
}

int
nc_unix_listen(const char *path, int mode, GError **error)
{
  struct sockaddr_un address;
  if (!nc_unix_address(path, &address, error))
    return -1;
  nc_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  unlink(path);
  mode_t previous = umask(0777 & ~(mode_t)mode);
  int failed = fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0;
  umask(previous);
  if (failed || listen(fd, 64) < 0) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "can't listen on %s", path);
    return -1;
  }
  return nc_fd_steal(&fd);
}

int
nc_unix_connect(const char *path, GError **error)
{
  struct sockaddr_un address;
  if (!nc_unix_address(path, &address, error))
    return -1;
  nc_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    nc_fail_errno(error, NC_ERROR_UNREACHABLE, errno, "can't connect to %s", path);
    return -1;
  }
  return nc_fd_steal(&fd);
}

bool
nc_send_with_fd(int socket, const void *data, size_t length_bytes, int fd, GError **error)
{
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control = { 0 };
  struct iovec part = { .iov_base = (void *)data, .iov_len = length_bytes };
  struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
  ssize_t n;

  if (fd >= 0) {
    message.msg_control = control.space;
    message.msg_controllen = sizeof control.space;
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
  }
  do {
    n = sendmsg(socket, &message, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN && !nc_wait_fd(socket, POLLOUT, -1, error))
      return false;
  } while (n < 0 && (errno == EINTR || errno == EAGAIN));
  if (n < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "sendmsg");
  return nc_write_all(socket, (const uint8_t *)data + n, length_bytes - (size_t)n, error);
}

bool
nc_directory_sync(const char *path, GError **error)
{
  g_autofree char *directory = g_path_get_dirname(path);
  nc_autofd int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 || fsync(fd) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't make %s durable", directory);
  return true;
}

bool
nc_file_replace(const char *path, const void *data, size_t length_bytes, int mode, GError **error)
{
  g_autofree char *temporary = g_strdup_printf("%s.new", path);
  unlink(temporary);
  nc_autofd int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

  if (fd < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't create %s", temporary);
  if (!nc_write_all(fd, data, length_bytes, error)) {
    g_prefix_error(error, "%s: ", temporary);
    unlink(temporary);
    return false;
  }
  if (fchmod(fd, (mode_t)mode) < 0 || fsync(fd) < 0 || rename(temporary, path) < 0) {
    nc_fail_errno(error, NC_ERROR_IO, errno, "can't replace %s", path);
    unlink(temporary);
    return false;
  }
  return nc_directory_sync(path, error);
}

char *
nc_file_read(const char *path, size_t limit_bytes, size_t *ret_length, GError **error)
{
  nc_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    nc_fail_errno(error, errno == ENOENT ? NC_ERROR_NOT_FOUND : NC_ERROR_IO, errno, "can't open %s", path);
    return NULL;
  }
  g_autoptr(GByteArray) content = g_byte_array_new();
  for (;;) {
    uint8_t chunk[16384];
    ssize_t n = read(fd, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0) {
      nc_fail_errno(error, NC_ERROR_IO, errno, "can't read %s", path);
      return NULL;
    }
    if (n == 0)
      break;
    if ((size_t)n > limit_bytes - content->len) {
      nc_fail(error, NC_ERROR_INVALID, "%s is larger than %zu bytes", path, limit_bytes);
      return NULL;
    }
    g_byte_array_append(content, chunk, (guint)n);
  }
  if (ret_length)
    *ret_length = content->len;
  g_byte_array_append(content, (const uint8_t *)"", 1);
  return (char *)g_byte_array_free(g_steal_pointer(&content), FALSE);
}

bool
nc_mkdir_p(const char *path, int mode, GError **error)
{
  if (g_mkdir_with_parents(path, mode) < 0)
    return nc_fail_errno(error, NC_ERROR_IO, errno, "can't create directory %s", path);
  return true;
}
