/* SPDX-License-Identifier: Apache-2.0 */
#include "mover/preface.h"
#include "base/bytes.h"
#include "base/io.h"
#include "base/tcp.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

static const uint8_t nc_preface_magic[4] = { 'N', 'C', 'W', '1' };

bool
nc_preface_encode(const char *id, uint16_t index, uint8_t ret[NC_PREFACE_BYTES])
{
  size_t length = strlen(id);

  if (length == 0 || length > NC_PREFACE_ID_BYTES)
    return false;
  memset(ret, 0, NC_PREFACE_BYTES);
  memcpy(ret, nc_preface_magic, sizeof nc_preface_magic);
  nc_store_be16(ret + 4, NC_PREFACE_VERSION);
  nc_store_be16(ret + 6, index);
  memcpy(ret + 8, id, length);
  return true;
}

bool
nc_preface_decode(const uint8_t bytes[NC_PREFACE_BYTES], NcPreface *ret)
{
  if (memcmp(bytes, nc_preface_magic, sizeof nc_preface_magic) != 0 || nc_be16(bytes + 4) != NC_PREFACE_VERSION)
    return false;
  *ret = (NcPreface){ .index = nc_be16(bytes + 6) };
  memcpy(ret->id, bytes + 8, NC_PREFACE_ID_BYTES);
  return true;
}

/* Waits until ${bytes} can be read at once, so that drop by drop is no way to stay. */
static bool
nc_preface_await_bytes(int fd, int bytes, int timeout_ms, GError **error)
{
  struct pollfd p = { .fd = fd, .events = POLLIN };

  if (setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes) < 0)
    return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "SO_RCVLOWAT");
  int ready = poll(&p, 1, timeout_ms);
  return ready > 0 || nc_fail(error, NC_ERROR_TIMEOUT, "it sent nothing for %d ms", timeout_ms);
}

bool
nc_preface_await(int fd, bool *ret_preface, int timeout_ms, GError **error)
{
  uint8_t first;
  static const int one = 1;

  if (!nc_preface_await_bytes(fd, 1, timeout_ms, error))
    return false;
  ssize_t n = recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
  if (n != 1)
    return nc_fail(error, NC_ERROR_IO, "closed before the first byte");
  *ret_preface = first == nc_preface_magic[0]; /* TLS begins with 0x16; all 32 bytes are checked when they are here */
  return !*ret_preface || (nc_preface_await_bytes(fd, NC_PREFACE_BYTES, timeout_ms, error) &&
                           setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof one) == 0);
}

bool
nc_preface_read(int fd, NcPreface *ret, int timeout_ms, GError **error)
{
  uint8_t bytes[NC_PREFACE_BYTES];

  if (!nc_read_all(fd, bytes, sizeof bytes, timeout_ms, error))
    return false;
  return nc_preface_decode(bytes, ret) ||
         nc_fail(error, NC_ERROR_PROTOCOL, "neither TLS nor a mover of this version of NovaCron");
}

bool
nc_preface_accept(int fd, GError **error)
{
  static const uint8_t go_on = 0;
  return nc_write_all(fd, &go_on, 1, error);
}

int
nc_preface_dial(const char *address, const char *id, uint16_t index, int timeout_ms, GError **error)
{
  uint8_t preface[NC_PREFACE_BYTES], answer;

  if (!nc_preface_encode(id, index, preface)) {
    nc_fail(error, NC_ERROR_INTERNAL, "migration id %s is too long", id);
    return -1;
  }
  nc_autofd int fd = nc_tcp_connect(address, timeout_ms, error);
  if (fd < 0 || !nc_write_all(fd, preface, sizeof preface, error) || !nc_read_all(fd, &answer, 1, timeout_ms, error))
    return -1;
  if (answer != 0) {
    nc_fail(error, NC_ERROR_PROTOCOL, "the destination did not take it (answer %u)", answer);
    return -1;
  }
  return nc_fd_steal(&fd);
}
