/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: callers put framed requests into an outgoing buffer and
 * their callbacks into a table, both under one lock, and wake the thread. The
 * thread alone touches the socket. Callbacks run without the lock.
 */
#include "gate/backend.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"
#include "base/msg.h"
#include "gate/gate_limits.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct {
  int64_t id;
  int64_t deadline_us;
  NcBackendFunc func;
  void *data;
} NcPending;

struct NcBackend {
  char *path;
  int wake; /* eventfd */
  GThread *thread;

  GMutex lock;         /* guards what follows */
  GHashTable *pending; /* &id -> NcPending */
  GByteArray *outgoing;
  int64_t last_id;
  int64_t sent_id; /* requests up to this one were (at least in part) written to the socket */
  bool stopping;

  /* the thread's own */
  int socket;
  GByteArray *incoming;
};

static void
nc_backend_wake(NcBackend *backend)
{
  uint64_t one = 1;
  ssize_t n = write(backend->wake, &one, sizeof one);
  (void)n; /* only fails when the counter is full, and then the thread is awake */
}

static void
nc_pending_fail(NcPending *pending, int code, const char *text)
{
  g_autoptr(GError) error = g_error_new_literal(NC_ERROR, code, text);
  pending->func(NULL, error, pending->data);
}

/* Takes out the requests that are over (all if ${now_us} is G_MAXINT64). */
static GPtrArray *
nc_backend_take_expired(NcBackend *backend, int64_t now_us)
{
  GPtrArray *expired = g_ptr_array_new_with_free_func(g_free);
  GHashTableIter iter;
  gpointer value;

  g_mutex_lock(&backend->lock);
  g_hash_table_iter_init(&iter, backend->pending);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    NcPending *pending = value;
    if (pending->deadline_us > now_us)
      continue;
    g_hash_table_iter_steal(&iter);
    g_ptr_array_add(expired, pending);
  }
  g_mutex_unlock(&backend->lock);
  return expired;
}

static void
nc_backend_fail_expired(NcBackend *backend, int64_t now_us, int code, const char *text)
{
  g_autoptr(GPtrArray) expired = nc_backend_take_expired(backend, now_us);
  for (guint i = 0; i < expired->len; i++)
    nc_pending_fail(expired->pdata[i], code, text);
}

static void
nc_backend_disconnect(NcBackend *backend, const char *why)
{
  nc_fd_clear(&backend->socket);
  g_byte_array_set_size(backend->incoming, 0);
  g_mutex_lock(&backend->lock);
  g_byte_array_set_size(backend->outgoing, 0);
  g_mutex_unlock(&backend->lock);
  nc_log(NC_LOG_WARNING, "gate", "%s", why);
  nc_backend_fail_expired(backend, G_MAXINT64, NC_ERROR_UNREACHABLE, why);
}

static void
nc_backend_connect(NcBackend *backend)
{
  g_autoptr(GError) error = NULL;

  backend->socket = nc_unix_connect(backend->path, &error);
  if (backend->socket >= 0 && nc_fd_set_nonblocking(backend->socket, true, &error))
    return;
  g_autofree char *why = g_strdup_printf(
      "the gate can't reach novacrond on this node: is it running? (systemctl status novacrond): %s", error->message);
  nc_backend_disconnect(backend, why);
}

static bool
nc_backend_has_outgoing(NcBackend *backend)
{
  g_mutex_lock(&backend->lock);
  bool has = backend->outgoing->len > 0;
  g_mutex_unlock(&backend->lock);
  return has;
}

static void
nc_backend_write(NcBackend *backend)
{
  g_mutex_lock(&backend->lock);
  ssize_t n = send(backend->socket, backend->outgoing->data, backend->outgoing->len, MSG_NOSIGNAL | MSG_DONTWAIT);
  int saved = errno;
  if (n > 0) {
    g_byte_array_remove_range(backend->outgoing, 0, (guint)n);
    backend->sent_id = backend->last_id;
  }
  g_mutex_unlock(&backend->lock);
  if (n < 0 && saved != EAGAIN && saved != EINTR)
    nc_backend_disconnect(backend, "novacrond closed the connection before it took the request");
}

/* Hands one answer to whoever asked. An answer nobody waits for any more (timed out) is dropped. */
static bool
nc_backend_deliver(NcBackend *backend, json_t *answer, GError **error)
{
  int64_t id;
  g_autofree NcPending *pending = NULL;

  if (!nc_json_int(answer, "id", 1, G_MAXINT64, &id, error))
    return false;
  g_mutex_lock(&backend->lock);
  pending = g_hash_table_lookup(backend->pending, &id);
  if (pending)
    g_hash_table_steal(backend->pending, &id);
  g_mutex_unlock(&backend->lock);
  if (!pending)
    return true;
  json_t *result = json_object_get(answer, "result");
  if (nc_json_bool_or(answer, "ok", false)) {
    pending->func(result ? result : json_null(), NULL, pending->data);
  } else {
    g_autoptr(GError) refusal = NULL;
    nc_error_set_json(&refusal, json_object_get(answer, "error"));
    pending->func(NULL, refusal, pending->data);
  }
  return true;
}

/* Delivers the first whole message of what was read. *ret_more: there was one. */
static bool
nc_backend_take_message(NcBackend *backend, bool *ret_more, GError **error)
{
  GByteArray *in = backend->incoming;

  *ret_more = false;
  if (in->len < 4)
    return true;
  uint32_t length = nc_be32(in->data);
  if (length == 0 || length > NC_MSG_MAX_BYTES)
    return nc_fail(error, NC_ERROR_PROTOCOL, "novacrond announced an answer of %u bytes", length);
  if (in->len - 4 < length)
    return true;
  nc_autojson json_t *answer = nc_msg_decode(in->data + 4, length, error);
  if (!answer)
    return false;
  g_byte_array_remove_range(in, 0, length + 4);
  *ret_more = true;
  return nc_backend_deliver(backend, answer, error);
}

/*
 * novacrond went away between two requests (a restart): what it has not seen
 * a byte of waits in the buffer for the next connection. true if that is so.
 */
static bool
nc_backend_forget_idle(NcBackend *backend)
{
  GHashTableIter iter;
  gpointer value;
  bool idle = true;

  g_mutex_lock(&backend->lock);
  g_hash_table_iter_init(&iter, backend->pending);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    idle = idle && ((NcPending *)value)->id > backend->sent_id;
  g_mutex_unlock(&backend->lock);
  if (idle) {
    nc_log(NC_LOG_NOTICE, "gate", "novacrond closed the connection");
    nc_fd_clear(&backend->socket);
    g_byte_array_set_size(backend->incoming, 0);
  }
  return idle;
}

static void
nc_backend_read(NcBackend *backend)
{
  uint8_t buffer[65536];
  g_autoptr(GError) error = NULL;
  ssize_t n = recv(backend->socket, buffer, sizeof buffer, MSG_DONTWAIT);

  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  if (n <= 0 && nc_backend_forget_idle(backend))
    return;
  if (n <= 0) {
    nc_backend_disconnect(backend, "novacrond closed the connection before it answered; the request may have been "
                                   "carried out: look before repeating it");
    return;
  }
  /* At most one message (bounded) and one buffer are ever kept: whole messages leave at once. */
  g_byte_array_append(backend->incoming, buffer, (guint)n);
  for (bool more = true; more;)
    if (!nc_backend_take_message(backend, &more, &error)) {
      g_prefix_error(&error, "novacrond's answer does not make sense, and the connection to it is given up: ");
      nc_backend_disconnect(backend, error->message);
      return;
    }
}

static void
nc_backend_step(NcBackend *backend)
{
  bool outgoing = nc_backend_has_outgoing(backend);

  if (outgoing && backend->socket < 0)
    nc_backend_connect(backend);
  struct pollfd fds[2] = { { .fd = backend->wake, .events = POLLIN }, { .fd = backend->socket, .events = POLLIN } };
  if (outgoing)
    fds[1].events |= POLLOUT;
  if (poll(fds, 2, 500) < 0 && errno != EINTR)
    nc_log(NC_LOG_ERR, "gate", "poll: %s", g_strerror(errno));
  uint64_t count;
  if ((fds[0].revents & POLLIN) && read(backend->wake, &count, sizeof count) < 0 && errno != EAGAIN)
    nc_log(NC_LOG_ERR, "gate", "eventfd: %s", g_strerror(errno));
  if (backend->socket >= 0 && (fds[1].revents & (POLLIN | POLLHUP | POLLERR)))
    nc_backend_read(backend);
  if (backend->socket >= 0 && (fds[1].revents & POLLOUT))
    nc_backend_write(backend);
  nc_backend_fail_expired(
      backend, nc_mono_us(), NC_ERROR_TIMEOUT,
      "novacrond did not answer in time; the request may still be carried out: look before repeating it");
}

static gpointer
nc_backend_main(gpointer data)
{
  NcBackend *backend = data;
  bool stopping = false;

  while (!stopping) {
    nc_backend_step(backend);
    g_mutex_lock(&backend->lock);
    stopping = backend->stopping;
    g_mutex_unlock(&backend->lock);
  }
  nc_backend_fail_expired(backend, G_MAXINT64, NC_ERROR_UNREACHABLE, "the gate is stopping");
  return NULL;
}

NcBackend *
nc_backend_new(const char *path, GError **error)
{
  int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

  if (wake < 0) {
    nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "eventfd");
    return NULL;
  }
  NcBackend *backend = g_new0(NcBackend, 1);
  backend->path = g_strdup(path);
  backend->wake = wake;
  backend->socket = -1;
  backend->outgoing = g_byte_array_new();
  backend->incoming = g_byte_array_new();
  backend->pending = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
  g_mutex_init(&backend->lock);
  backend->thread = g_thread_new("backend", nc_backend_main, backend);
  return backend;
}

static bool
nc_backend_enqueue_locked(NcBackend *backend, json_t *request, NcPending *pending, GError **error)
{
  if (backend->stopping)
    return nc_fail(error, NC_ERROR_UNREACHABLE, "the gate is stopping");
  if (g_hash_table_size(backend->pending) >= NC_GATE_PENDING)
    return nc_fail(error, NC_ERROR_RESOURCE, "%d requests are waiting for novacrond already: try again in a moment",
                   NC_GATE_PENDING);
  json_object_set_new(request, "id", json_integer(backend->last_id + 1));
  g_autoptr(GByteArray) frame = nc_msg_encode(request, error);
  if (!frame)
    return false;
  if (backend->outgoing->len + frame->len > NC_GATE_BACKEND_QUEUE)
    return nc_fail(error, NC_ERROR_RESOURCE, "novacrond does not read: try again in a moment");
  g_byte_array_append(backend->outgoing, frame->data, frame->len);
  pending->id = ++backend->last_id;
  g_hash_table_insert(backend->pending, &pending->id, pending);
  return true;
}

bool
nc_backend_call(NcBackend *backend, const char *op, json_t *identity, json_t *args, unsigned answer_ms,
                NcBackendFunc func, void *data, GError **error)
{
  nc_autojson json_t *request = json_pack("{s:s, s:O, s:O}", "op", op, "identity", identity, "args", args);
  NcPending *pending = g_new0(NcPending, 1);

  pending->deadline_us = nc_mono_us() + (int64_t)answer_ms * 1000;
  pending->func = func;
  pending->data = data;
  g_mutex_lock(&backend->lock);
  bool ok = nc_backend_enqueue_locked(backend, request, pending, error);
  g_mutex_unlock(&backend->lock);
  if (ok)
    nc_backend_wake(backend);
  else
    g_free(pending);
  return ok;
}

void
nc_backend_stop(NcBackend *backend)
{
  g_mutex_lock(&backend->lock);
  backend->stopping = true;
  g_mutex_unlock(&backend->lock);
  nc_backend_wake(backend);
  g_clear_pointer(&backend->thread, g_thread_join);
}

void
nc_backend_free(NcBackend *backend)
{
  if (!backend)
    return;
  nc_backend_stop(backend);
  nc_fd_clear(&backend->socket);
  nc_fd_clear(&backend->wake);
  g_hash_table_unref(backend->pending);
  g_byte_array_unref(backend->outgoing);
  g_byte_array_unref(backend->incoming);
  g_mutex_clear(&backend->lock);
  g_free(backend->path);
  g_free(backend);
}
