/* SPDX-License-Identifier: Apache-2.0 */
#include "base/msg.h"
#include "base/bytes.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

void
nc_json_clear(json_t **json)
{
  json_decref(*json);
  *json = NULL;
}

GByteArray *
nc_msg_encode(json_t *message, GError **error)
{
  size_t length = json_dumpb(message, NULL, 0, JSON_COMPACT);
  if (length == 0 || length > NC_MSG_MAX_BYTES) {
    nc_fail(error, NC_ERROR_INTERNAL, "a message of %zu bytes can't be sent", length);
    return NULL;
  }
  GByteArray *frame = g_byte_array_sized_new((guint)length + 4);
  nc_put_u32(frame, (uint32_t)length);
  g_byte_array_set_size(frame, (guint)length + 4);
  json_dumpb(message, (char *)frame->data + 4, length, JSON_COMPACT);
  return frame;
}

json_t *
nc_msg_decode(const void *data, size_t length_bytes, GError **error)
{
  json_error_t problem;
  json_t *message = json_loadb(data, length_bytes, JSON_REJECT_DUPLICATES, &problem);

  if (!message) {
    nc_fail(error, NC_ERROR_PROTOCOL, "not JSON: %s (byte %d)", problem.text, problem.position);
    return NULL;
  }
  if (!json_is_object(message)) {
    json_decref(message);
    nc_fail(error, NC_ERROR_PROTOCOL, "a message must be a JSON object");
    return NULL;
  }
  return message;
}

bool
nc_msg_send(int socket, json_t *message, int fd, GError **error)
{
  g_autoptr(GByteArray) frame = nc_msg_encode(message, error);
  return frame && nc_send_with_fd(socket, frame->data, frame->len, fd, error);
}

/* Reads the first bytes of a message together with a descriptor that may ride on them. */
static ssize_t
nc_recv_with_fd(int socket, void *data, size_t length_bytes, int *fd)
{
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec part = { .iov_base = data, .iov_len = length_bytes };
  struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control };
  ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);

  for (struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL; c; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
      nc_fd_clear(fd);
      memcpy(fd, CMSG_DATA(c), sizeof *fd);
    }
  }
  return n;
}

static bool
nc_recv_header(int socket, int timeout_ms, uint8_t header[4], int *fd, GError **error)
{
  size_t have = 0;

  while (have < 4) {
    struct pollfd p = { .fd = socket, .events = POLLIN };
    int ready = poll(&p, 1, timeout_ms);
    if (ready == 0)
      return nc_fail(error, NC_ERROR_TIMEOUT, "no message for %d ms", timeout_ms);
    ssize_t n = ready < 0 ? -1 : nc_recv_with_fd(socket, header + have, 4 - have, fd);
    if (n > 0)
      have += (size_t)n;
    else if (n == 0)
      return nc_fail(error, NC_ERROR_IO, have ? "closed in the middle of a message" : "closed");
    else if (errno != EINTR && errno != EAGAIN)
      return nc_fail_errno(error, NC_ERROR_IO, errno, "recvmsg");
  }
  return true;
}

json_t *
nc_msg_recv(int socket, int timeout_ms, int *ret_fd, GError **error)
{
  uint8_t header[4];
  nc_autofd int fd = -1;

  if (!nc_recv_header(socket, timeout_ms, header, &fd, error))
    return NULL;
  uint32_t length = nc_be32(header);
  if (length == 0 || length > NC_MSG_MAX_BYTES) {
    nc_fail(error, NC_ERROR_PROTOCOL, "a message announces %u bytes", length);
    return NULL;
  }
  g_autofree char *body = g_malloc(length);
  if (!nc_read_all(socket, body, length, timeout_ms < 0 ? -1 : MAX(timeout_ms, 10000), error))
    return NULL;
  json_t *message = nc_msg_decode(body, length, error);
  if (message && ret_fd)
    *ret_fd = nc_fd_steal(&fd);
  return message;
}

const char *
nc_json_string(json_t *object, const char *key, GError **error)
{
  const char *value = json_string_value(json_object_get(object, key));
  if (!value)
    nc_fail(error, NC_ERROR_PROTOCOL, "\"%s\" must be a string", key);
  return value;
}

bool
nc_json_int(json_t *object, const char *key, int64_t minimum, int64_t maximum, int64_t *ret, GError **error)
{
  json_t *value = json_object_get(object, key);
  int64_t n = json_integer_value(value);
  if (!json_is_integer(value) || n < minimum || n > maximum)
    return nc_fail(error, NC_ERROR_PROTOCOL, "\"%s\" must be an integer from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT, key,
                   minimum, maximum);
  *ret = n;
  return true;
}

const char *
nc_json_string_or(json_t *object, const char *key, const char *fallback)
{
  const char *value = json_string_value(json_object_get(object, key));
  return value ? value : fallback;
}

json_t *
nc_json_find(json_t *list, const char *key, const char *value)
{
  size_t i;
  json_t *entry;

  json_array_foreach(list, i, entry)
  {
    if (g_str_equal(nc_json_string_or(entry, key, ""), value))
      return entry;
  }
  return NULL;
}

int64_t
nc_json_int_or(json_t *object, const char *key, int64_t fallback)
{
  json_t *value = json_object_get(object, key);
  return json_is_integer(value) ? json_integer_value(value) : fallback;
}

double
nc_json_number_or(json_t *object, const char *key, double fallback)
{
  json_t *value = json_object_get(object, key);
  return json_is_number(value) ? json_number_value(value) : fallback;
}

bool
nc_json_bool_or(json_t *object, const char *key, bool fallback)
{
  json_t *value = json_object_get(object, key);
  return json_is_boolean(value) ? json_is_true(value) : fallback;
}
