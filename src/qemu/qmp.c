/* SPDX-License-Identifier: Apache-2.0 */
/* One reader thread turns the socket into replies for those who wait and events for the callback. */
#include "qemu/qmp.h"
#include "base/ident.h"
#include "base/log.h"
#include "qemu/dial.h"
#include "qemu/qmp_parse.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NC_QMP_DEFAULT_MS 10000
#define NC_QMP_GREETING_MAX 65536u
#define NC_QMP_ADOPTED_TICK_MS 50

struct NcQmp {
  int socket;
  GThread *reader;
  int version[3];
  bool oob; /* commands out of band are understood; set before there is a second thread */
  bool adopted; /* others used this connection before, and may again: it is not ended when we end; likewise */
  int ending;   /* atomic; the reader of an adopted one looks */

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
    return qmp->adopted; /* then it may answer somebody who is gone */
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

/* Nobody but its owner ends an adopted connection, and that one does not shut it down: so its reader looks up now and then. */
static bool
nc_qmp_await_bytes(NcQmp *qmp)
{
  struct pollfd p = { .fd = qmp->socket, .events = POLLIN };

  while (qmp->adopted && poll(&p, 1, NC_QMP_ADOPTED_TICK_MS) <= 0)
    if (g_atomic_int_get(&qmp->ending))
      return false;
  return true;
}

/* Reads until the end of the connection; every whole object is dispatched. Returns whether the fault was in what it read. */
static bool
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
        return true;
    }
    if (error) {
      nc_log(NC_LOG_WARNING, "qemu", "QMP: %s", error->message);
      return true;
    }
    if (!nc_qmp_await_bytes(qmp))
      return false;
    ssize_t n = read(qmp->socket, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    if (!nc_qmp_parser_feed(parser, chunk, (size_t)n, &error)) {
      nc_log(NC_LOG_WARNING, "qemu", "QMP: %s", error->message);
      return true;
    }
  }
}

static gpointer
nc_qmp_reader(gpointer data)
{
  NcQmp *qmp = data;
  bool again;

  do { /* an adopted connection may begin in the middle of a line */
    g_autoptr(NcQmpParser) parser = nc_qmp_parser_new();
    again = nc_qmp_read_loop(qmp, parser) && qmp->adopted && !g_atomic_int_get(&qmp->ending);
  } while (again);
  if (!qmp->adopted)
    shutdown(qmp->socket, SHUT_RDWR);
  g_mutex_lock(&qmp->lock);
  qmp->alive = false;
  g_cond_broadcast(&qmp->changed);
  g_mutex_unlock(&qmp->lock);
  nc_qmp_emit(qmp, NULL);
  return NULL;
}

/* A line, read before the reader thread exists. New reference. */
static json_t *
nc_qmp_read_line(int fd, int64_t deadline_us, GError **error)
{
  g_autoptr(GByteArray) line = g_byte_array_new();
  char c = 0;

  while (c != '\n') {
    if (!nc_read_all(fd, &c, 1, (int)MAX((deadline_us - nc_mono_us()) / 1000, 0), error))
      return NULL;
    g_byte_array_append(line, (const uint8_t *)&c, 1);
    if (line->len > NC_QMP_GREETING_MAX) {
      nc_fail(error, NC_ERROR_PROTOCOL, "QEMU's greeting does not end");
      return NULL;
    }
  }
  return nc_msg_decode(line->data, line->len, error);
}

static bool
nc_qmp_greet(NcQmp *qmp, int timeout_ms, bool *ret_oob, GError **error)
{
  g_autoptr(GError) problem = NULL;
  nc_autojson json_t *greeting = nc_qmp_read_line(qmp->socket, nc_mono_us() + (int64_t)timeout_ms * 1000, &problem);

  if (g_error_matches(problem, NC_ERROR, NC_ERROR_TIMEOUT))
    return nc_fail(error, NC_ERROR_TIMEOUT, "no greeting within %d ms: QEMU hangs, or somebody else is connected", timeout_ms);
  if (!greeting) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
  }
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

/* ${fd} is taken. No reader yet. */
static NcQmp *
nc_qmp_new(int fd)
{
  NcQmp *qmp = g_new0(NcQmp, 1);

  qmp->socket = fd;
  qmp->alive = true;
  qmp->next_id = 1;
  qmp->waiting = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, nc_json_unref_any);
  g_mutex_init(&qmp->send_lock);
  g_mutex_init(&qmp->lock);
  g_mutex_init(&qmp->event_lock);
  g_cond_init(&qmp->changed);
  return qmp;
}

NcQmp *
nc_qmp_connect(const char *path, int timeout_ms, GError **error)
{
  nc_autofd int fd = nc_qemu_dial(path, timeout_ms, error);
  if (fd < 0)
    return NULL;
  NcQmp *qmp = nc_qmp_new(nc_fd_steal(&fd));
  bool oob = false;
  g_autoptr(GError) problem = NULL; /* ours: what it is decides about its text */
  if (nc_qmp_greet(qmp, timeout_ms, &oob, &problem)) {
    qmp->oob = oob;
    qmp->reader = g_thread_new("qmp-reader", nc_qmp_reader, qmp);
    if (nc_qmp_negotiate(qmp, oob, timeout_ms, &problem))
      return qmp;
  }
  g_propagate_prefixed_error(error, g_steal_pointer(&problem), "QMP at %s: ", path);
  nc_qmp_free(qmp);
  return NULL;
}

int
nc_qmp_open_spare(const char *path, int timeout_ms, GError **error)
{
  static const char request[] = "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}\n";
  int64_t deadline_us = nc_mono_us() + (int64_t)timeout_ms * 1000;
  nc_autofd int fd = nc_qemu_dial(path, timeout_ms, error);

  if (fd < 0)
    return -1;
  nc_autojson json_t *greeting = nc_qmp_read_line(fd, deadline_us, error);
  if (!greeting || !nc_write_all(fd, request, sizeof request - 1, error))
    return -1;
  nc_autojson json_t *answer = nc_qmp_read_line(fd, deadline_us, error);
  if (!answer)
    return -1;
  if (!json_object_get(answer, "return")) {
    nc_fail(error, NC_ERROR_QEMU, "QEMU takes no commands out of band: %s",
            nc_json_string_or(json_object_get(answer, "error"), "desc", "it gives no reason"));
    return -1;
  }
  return nc_fd_steal(&fd);
}

NcQmp *
nc_qmp_adopt(int fd)
{
  NcQmp *qmp = nc_qmp_new(fd);

  qmp->oob = true;
  qmp->adopted = true;
  qmp->next_id = nc_mono_us(); /* not what its last user counted */
  qmp->reader = g_thread_new("qmp-reader", nc_qmp_reader, qmp);
  return qmp;
}

void
nc_qmp_free(NcQmp *qmp)
{
  if (!qmp)
    return;
  g_atomic_int_set(&qmp->ending, 1);
  if (!qmp->adopted)
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
nc_qmp_send(NcQmp *qmp, gint64 id, const char *verb, const char *command, json_t *arguments, int fd, GError **error)
{
  nc_autojson json_t *request = json_pack("{s:s, s:I}", verb, command, "id", (json_int_t)id);
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

static json_t *
nc_qmp_execute(NcQmp *qmp, const char *verb, const char *command, json_t *arguments, int fd, int timeout_ms, GError **error)
{
  nc_autojson json_t *owned = arguments;
  if (!nc_qmp_is_alive(qmp)) {
    nc_fail(error, NC_ERROR_QEMU, "QEMU is gone (it was asked for %s)", command);
    return NULL;
  }
  gint64 id = nc_qmp_register(qmp);
  g_autoptr(GError) send_error = NULL;
  if (!nc_qmp_send(qmp, id, verb, command, owned, fd, &send_error)) {
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

json_t *
nc_qmp_call(NcQmp *qmp, const char *command, json_t *arguments, int fd, int timeout_ms, GError **error)
{
  return nc_qmp_execute(qmp, "execute", command, arguments, fd, timeout_ms, error);
}

bool
nc_qmp_do_oob(NcQmp *qmp, const char *command, json_t *arguments, GError **error)
{
  const char *verb = qmp->oob ? "exec-oob" : "execute";
  nc_autojson json_t *answer = nc_qmp_execute(qmp, verb, command, arguments, -1, NC_QMP_DEFAULT_MS, error);
  return answer != NULL;
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
