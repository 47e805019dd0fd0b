/* SPDX-License-Identifier: Apache-2.0 */
/* One reader thread turns the socket into replies for those who wait and events for the callback. */
#include "qemu/qmp.h"
#include "base/ident.h"
#include "base/log.h"
#include "qemu/dial.h"
#include "qemu/qmp_parse.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NC_QMP_DEFAULT_MS 10000
#define NC_QMP_GREETING_MAX 65536u

struct NcQmp {
  int socket;
  GThread *reader;
  int version[3];

  GMutex send_lock; /* one command at a time goes out whole */

  GMutex lock;       /* protects the fields below */
  GCond changed;
  GHashTable *waiting; /* id -> NULL while unanswered, then json_t* (the reply) */
  gint64 next_id;
  bool alive;

  GMutex event_lock; /* held while the callback runs, so that set_event_func() can wait for it */
  NcQmpEventFunc func;
  gpointer user_data;
};

static void
nc_qmp_emit(NcQmp *qmp, json_t *event)
{
  G_GNUC_UNUSED g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&qmp->event_lock);
  if (qmp->func)
    qmp->func(event, qmp->user_data);
}

/* False if the reply answers nothing that was asked: then the connection can't be trusted. */
static bool
nc_qmp_take_reply(NcQmp *qmp, json_t *reply)
{
  json_t *id = json_object_get(reply, "id");
  gint64 number = json_integer_value(id);

  G_GNUC_UNUSED g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&qmp->lock);
  if (!json_is_integer(id) || number < 1 || number >= qmp->next_id)
    return false;
  if (!g_hash_table_contains(qmp->waiting, &number))
    return true; /* its caller has given up waiting */
  g_hash_table_insert(qmp->waiting, g_memdup2(&number, sizeof number), json_incref(reply));
  g_cond_broadcast(&qmp->changed);
  return true;
}

static bool
nc_qmp_dispatch(NcQmp *qmp, json_t *object)
{
  if (json_object_get(object, "event")) {
    nc_qmp_emit(qmp, object);
    return true;
  }
  if (json_object_get(object, "return") || json_object_get(object, "error"))
    return nc_qmp_take_reply(qmp, object);
  return true; /* something newer than us */
}

/* Reads until the end of the connection; every whole object is dispatched. */
static void
nc_qmp_read_loop(NcQmp *qmp, NcQmpParser *parser)
{
  char chunk[16384];

  for (;;) {
    g_autoptr(GError) error = NULL;
    json_t *object;
    while ((object = nc_qmp_parser_next(parser, &error)) != NULL) {
      bool sane = nc_qmp_dispatch(qmp, object);
      json_decref(object);
      if (!sane)
        return;
    }
    if (error) {
      nc_log(NC_LOG_WARNING, "qemu", "QMP: %s", error->message);
      return;
    }
    ssize_t n = read(qmp->socket, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return;
    if (!nc_qmp_parser_feed(parser, chunk, (size_t)n, &error)) {
      nc_log(NC_LOG_WARNING, "qemu", "QMP: %s", error->message);
      return;
    }
  }
}

static gpointer
nc_qmp_reader(gpointer data)
{
  NcQmp *qmp = data;
  g_autoptr(NcQmpParser) parser = nc_qmp_parser_new();

  nc_qmp_read_loop(qmp, parser);
  shutdown(qmp->socket, SHUT_RDWR);
  g_mutex_lock(&qmp->lock);
  qmp->alive = false;
  g_cond_broadcast(&qmp->changed);
  g_mutex_unlock(&qmp->lock);
  nc_qmp_emit(qmp, NULL);
  return NULL;
}

/* The greeting, read before the reader thread exists. */
static bool
nc_qmp_greet(NcQmp *qmp, int timeout_ms, bool *ret_oob, GError **error)
{
  g_autoptr(GByteArray) line = g_byte_array_new();
  int64_t deadline = nc_mono_us() + (int64_t)timeout_ms * 1000;
  char c = 0;

  while (c != '\n') {
    int left_ms = (int)MAX((deadline - nc_mono_us()) / 1000, 0);
    if (!nc_read_all(qmp->socket, &c, 1, left_ms, error)) {
      if (g_error_matches(*error, NC_ERROR, NC_ERROR_TIMEOUT)) {
        g_clear_error(error);
        nc_fail(error, NC_ERROR_TIMEOUT, "no greeting within %d ms: QEMU hangs, or somebody else is connected", timeout_ms);
      }
      return false;
    }
    g_byte_array_append(line, (const uint8_t *)&c, 1);
    if (line->len > NC_QMP_GREETING_MAX)
      return nc_fail(error, NC_ERROR_PROTOCOL, "QEMU's greeting does not end");
  }
  nc_autojson json_t *greeting = nc_msg_decode(line->data, line->len, error);
  if (!greeting)
    return false;
  json_t *hello = json_object_get(greeting, "QMP");
  json_t *number = json_object_get(json_object_get(hello, "version"), "qemu");
  if (!number)
    return nc_fail(error, NC_ERROR_PROTOCOL, "this is not a QMP socket");
  qmp->version[0] = (int)nc_json_int_or(number, "major", 0);
  qmp->version[1] = (int)nc_json_int_or(number, "minor", 0);
  qmp->version[2] = (int)nc_json_int_or(number, "micro", 0);
  size_t i;
  json_t *capability;
  json_array_foreach(json_object_get(hello, "capabilities"), i, capability)
  {
    *ret_oob |= g_strcmp0(json_string_value(capability), "oob") == 0;
  }
  return true;
}

static bool
nc_qmp_negotiate(NcQmp *qmp, bool oob, int timeout_ms, GError **error)
{
  json_t *arguments = oob ? json_pack("{s:[s]}", "enable", "oob") : NULL;
  nc_autojson json_t *answer = nc_qmp_call(qmp, "qmp_capabilities", arguments, -1, timeout_ms, error);
  return answer != NULL;
}

static void
nc_json_unref_any(gpointer json)
{
  json_decref(json);
}

NcQmp *
nc_qmp_connect(const char *path, int timeout_ms, GError **error)
{
  nc_autofd int fd = nc_qemu_dial(path, timeout_ms, error);
  if (fd < 0)
    return NULL;
  NcQmp *qmp = g_new0(NcQmp, 1);
  bool oob = false;
  qmp->socket = nc_fd_steal(&fd);
  qmp->alive = true;
  qmp->next_id = 1;
  qmp->waiting = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, nc_json_unref_any);
  g_mutex_init(&qmp->send_lock);
  g_mutex_init(&qmp->lock);
  g_mutex_init(&qmp->event_lock);
  g_cond_init(&qmp->changed);
  g_autoptr(GError) problem = NULL; /* ours: what it is decides about its text */
  if (nc_qmp_greet(qmp, timeout_ms, &oob, &problem)) {
    qmp->reader = g_thread_new("qmp-reader", nc_qmp_reader, qmp);
    if (nc_qmp_negotiate(qmp, oob, timeout_ms, &problem))
      return qmp;
  }
  g_propagate_prefixed_error(error, g_steal_pointer(&problem), "QMP at %s: ", path);
  nc_qmp_free(qmp);
  return NULL;
}

void
nc_qmp_free(NcQmp *qmp)
{
  if (!qmp)
    return;
  shutdown(qmp->socket, SHUT_RDWR);
  if (qmp->reader)
    g_thread_join(qmp->reader);
  close(qmp->socket);
  g_hash_table_unref(qmp->waiting);
  g_mutex_clear(&qmp->send_lock);
  g_mutex_clear(&qmp->lock);
  g_mutex_clear(&qmp->event_lock);
  g_cond_clear(&qmp->changed);
  g_free(qmp);
}

void
nc_qmp_set_event_func(NcQmp *qmp, NcQmpEventFunc func, gpointer user_data)
{
  G_GNUC_UNUSED g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&qmp->event_lock);
  qmp->func = func;
  qmp->user_data = user_data;
}

static bool
nc_qmp_send(NcQmp *qmp, gint64 id, const char *command, json_t *arguments, int fd, GError **error)
{
  nc_autojson json_t *request = json_pack("{s:s, s:I}", "execute", command, "id", (json_int_t)id);
  if (arguments)
    json_object_set(request, "arguments", arguments);
  char *text = json_dumps(request, JSON_COMPACT);
  if (!text)
    return nc_fail(error, NC_ERROR_INTERNAL, "%s can't be encoded", command);
  g_autofree char *line = g_strconcat(text, "\r\n", NULL);
  free(text);
  G_GNUC_UNUSED g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&qmp->send_lock);
  return nc_send_with_fd(qmp->socket, line, strlen(line), fd, error);
}

static gint64
nc_qmp_register(NcQmp *qmp)
{
  G_GNUC_UNUSED g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&qmp->lock);
  gint64 id = qmp->next_id++;
  g_hash_table_insert(qmp->waiting, g_memdup2(&id, sizeof id), NULL);
  return id;
}

/* Waits for the reply to ${id} and forgets it. New reference, NULL on error. */
static json_t *
nc_qmp_await(NcQmp *qmp, gint64 id, const char *command, int timeout_ms, GError **error)
{
  gint64 deadline = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
  json_t *reply = NULL;
  bool in_time = true;

  g_mutex_lock(&qmp->lock);
  while (!(reply = g_hash_table_lookup(qmp->waiting, &id)) && qmp->alive && in_time)
    in_time = g_cond_wait_until(&qmp->changed, &qmp->lock, deadline);
  json_incref(reply);
  g_hash_table_remove(qmp->waiting, &id);
  bool alive = qmp->alive;
  g_mutex_unlock(&qmp->lock);
  if (!reply && !alive)
    nc_fail(error, NC_ERROR_QEMU, "QEMU is gone (it was asked for %s)", command);
  else if (!reply)
    nc_fail(error, NC_ERROR_TIMEOUT, "QEMU did not answer %s within %d ms", command, timeout_ms);
  return reply;
}

json_t *
nc_qmp_call(NcQmp *qmp, const char *command, json_t *arguments, int fd, int timeout_ms, GError **error)
{
  nc_autojson json_t *owned = arguments;
  if (!nc_qmp_is_alive(qmp)) {
    nc_fail(error, NC_ERROR_QEMU, "QEMU is gone (it was asked for %s)", command);
    return NULL;
  }
  gint64 id = nc_qmp_register(qmp);
  g_autoptr(GError) send_error = NULL;
  if (!nc_qmp_send(qmp, id, command, owned, fd, &send_error)) {
    g_mutex_lock(&qmp->lock);
    g_hash_table_remove(qmp->waiting, &id);
    g_mutex_unlock(&qmp->lock);
    nc_fail(error, NC_ERROR_QEMU, "QEMU is gone (it was to be asked for %s): %s", command, send_error->message);
    return NULL;
  }
  nc_autojson json_t *reply = nc_qmp_await(qmp, id, command, timeout_ms, error);
  if (!reply)
    return NULL;
  json_t *result = json_object_get(reply, "return");
  if (result)
    return json_incref(result);
  nc_fail(error, NC_ERROR_QEMU, "QEMU refused %s: %s", command,
          nc_json_string_or(json_object_get(reply, "error"), "desc", "without a reason"));
  return NULL;
}

bool
nc_qmp_do(NcQmp *qmp, const char *command, json_t *arguments, GError **error)
{
  nc_autojson json_t *answer = nc_qmp_call(qmp, command, arguments, -1, NC_QMP_DEFAULT_MS, error);
  return answer != NULL;
}

bool
nc_qmp_is_alive(NcQmp *qmp)
{
  G_GNUC_UNUSED g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&qmp->lock);
  return qmp->alive;
}

void
nc_qmp_version(NcQmp *qmp, int ret_version[3])
{
  memcpy(ret_version, qmp->version, sizeof qmp->version);
}

pid_t
nc_qmp_peer_pid(NcQmp *qmp)
{
  struct ucred who;
  socklen_t length = sizeof who;
  return getsockopt(qmp->socket, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0 ? 0 : who.pid;
}
