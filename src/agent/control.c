/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/control.h"
#include "agent/request_log.h"
#include "store/keyed_answer.h"
#include "base/ident.h"
#include "base/log.h"
#include "base/service.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NC_CONTROL_CONNECTIONS 32
#define NC_CONTROL_WORKERS 16
/* Requests of one connection that may be under way; then its reader waits. */
#define NC_CONTROL_PENDING 64
/* Of an idempotency key, as the gate has it. */
#define NC_KEY_MOST 64u
/* How long a client may leave an answer unread. */
#define NC_CONTROL_SEND_MS 10000

struct NcControl {
  const NcConfig *config;
  NcJournal *journal;
  const NcControlOp *ops;
  GThreadPool *workers;
  NcService *service;
};

/* One connection; counted: its reader and its requests hold it. */
typedef struct {
  int fd;
  GMutex lock; /* protects pending, and sending */
  GCond less;
  unsigned pending;
} NcClient;

typedef struct {
  NcClient *client;
  json_t *message;
} NcRequest;

static void
nc_client_clear(gpointer data)
{
  NcClient *client = data;
  close(client->fd);
  g_mutex_clear(&client->lock);
  g_cond_clear(&client->less);
}

/* Bounded in time: a client that does not read must not keep a worker. */
static bool
nc_client_send_bytes(int fd, const uint8_t *data, size_t length)
{
  int64_t deadline = nc_mono_us() + NC_CONTROL_SEND_MS * INT64_C(1000);

  while (length > 0) {
    ssize_t n = send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      data += n;
      length -= (size_t)n;
    } else if (errno == EAGAIN) {
      struct pollfd p = { .fd = fd, .events = POLLOUT };
      int64_t left_ms = (deadline - nc_mono_us()) / 1000;
      if (left_ms <= 0 || poll(&p, 1, (int)left_ms) == 0)
        return false;
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

/* ${answer} is taken. */
static void
nc_client_send(NcClient *client, json_t *answer)
{
  nc_autojson json_t *owned = answer;
  g_autoptr(GError) error = NULL;
  g_autoptr(GByteArray) frame = nc_msg_encode(owned, &error);

  if (!frame) { /* too large */
    nc_autojson json_t *failure = json_pack("{s:O?, s:b, s:o}", "id", json_object_get(owned, "id"), "ok", 0, "error", nc_error_to_json(error));
    frame = nc_msg_encode(failure, NULL);
  }
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&client->lock);
  if (!frame || !nc_client_send_bytes(client->fd, frame->data, frame->len))
    shutdown(client->fd, SHUT_RDWR); /* half an answer may be out: there is no way back */
}

static void
nc_client_refuse(NcClient *client, json_t *id, const GError *error)
{
  nc_client_send(client, json_pack("{s:O?, s:b, s:o}", "id", id, "ok", 0, "error", nc_error_to_json(error)));
}

/* --- requests that change something --- */

static char *
nc_control_actor(json_t *identity)
{
  g_autofree char *cut =
      g_strdup_printf("%.16s:%.64s", nc_json_string_or(identity, "kind", "?"), nc_json_string_or(identity, "name", "?"));
  return g_utf8_make_valid(cut, -1); /* what was cut in the middle of a character could be recorded nowhere */
}

/* The first of ${keys} that ${args} has; NULL: none. Caller frees. */
static char *
nc_control_find_key(const char *keys, json_t *args)
{
  g_auto(GStrv) all = g_strsplit(keys ? keys : "", " ", -1);

  for (char **key = all; *key; key++) {
    json_t *value = json_object_get(args, *key);
    if (value && !json_is_null(value) && !json_is_false(value))
      return g_strdup(*key);
  }
  return NULL;
}

/* By the gate's word, which has looked already: this is the second lock. */
static bool
nc_control_allows(const NcControlOp *op, json_t *identity, json_t *args, GError **error)
{
  const char *name = nc_json_string_or(identity, "role", "");
  g_autofree char *key = nc_control_find_key(op->admin_keys, args);
  NcRole needed = key ? NC_ROLE_ADMIN : op->role, role;

  if (nc_role_from_name(name, &role) && role >= needed)
    return true;
  return nc_fail(error, NC_ERROR_FORBIDDEN, "%s%s%s needs the role %s; %.64s is %.16s", op->op, key ? " with " : "", key ? key : "",
                 nc_role_name(needed), nc_json_string_or(identity, "name", "somebody"), name);
}

/* --- once only: requests with an idempotency key --- */

/* Of the fleet's, the controller keeps them. */
static bool
nc_control_keeps_answer(const NcControlOp *op, json_t *args)
{
  return json_object_get(args, "key") && !g_str_has_prefix(op->op, "fleet.");
}

static bool
nc_control_check_key(const NcControlOp *op, json_t *args, GError **error)
{
  static const char *const secret[] = { "token.create", "node.token", NULL };

  if (g_strv_contains(secret, op->op))
    return nc_fail(error, NC_ERROR_INVALID, "%s takes no idempotency key: its answer is a secret, which is not kept", op->op);
  const char *key = json_string_value(json_object_get(args, "key"));
  size_t length = key ? strlen(key) : 0;
  bool ok = length > 0 && length <= NC_KEY_MOST;
  for (size_t i = 0; ok && i < length; i++)
    ok = g_ascii_isprint(key[i]);
  return ok || nc_fail(error, NC_ERROR_INVALID, "\"key\" is to be a text of 1 to %u printable ASCII characters", NC_KEY_MOST);
}

static json_t *
nc_control_do_once(NcControl *control, const NcControlOp *op, const char *actor, json_t *args, GError **error)
{
  nc_autojson json_t *asked = json_copy(args);
  json_t *answer = NULL;
  g_autoptr(GError) problem = NULL;

  if (!nc_control_check_key(op, args, error))
    return NULL;
  json_object_del(asked, "key");
  g_autofree char *sha256 = nc_request_sha256(op->op, asked);
  const NcKeyedRequest request = { .actor = actor, .key = json_string_value(json_object_get(args, "key")), .request_sha256 = sha256 };
  if (!nc_journal_begin_keyed(control->journal, &request, nc_wall_us(), &answer, error) || answer)
    return answer;
  answer = op->func(op->object, actor, asked, error);
  if (!nc_journal_end_keyed(control->journal, &request, answer, &problem)) /* asked again, it is a conflict: never done twice */
    nc_log(NC_LOG_ERR, "agent", "%s: what was answered can't be kept for its idempotency key: %s", op->op, problem->message);
  return answer;
}

static json_t *
nc_control_change(NcControl *control, const NcControlOp *op, const char *actor, json_t *identity, json_t *args, GError **error)
{
  const NcLoggedRequest request = { .journal = control->journal,
                                    .op = op->op,
                                    .actor = actor,
                                    .role = nc_json_string_or(identity, "role", "?"),
                                    .from = nc_json_string_or(identity, "from", "control socket"),
                                    .token = nc_json_string_or(identity, "token", NULL),
                                    .args = args };
  g_autoptr(GError) problem = NULL;
  uint64_t seq = 0;
  json_t *result = NULL;

  if (!nc_request_log_begin(&request, &seq, error))
    return NULL;
  if (nc_control_allows(op, identity, args, &problem))
    result = nc_control_keeps_answer(op, args) ? nc_control_do_once(control, op, actor, args, &problem)
                                               : op->func(op->object, actor, args, &problem);
  nc_request_log_end(&request, seq, result, problem);
  if (problem)
    g_propagate_error(error, g_steal_pointer(&problem));
  return result;
}

static json_t *
nc_control_execute(NcControl *control, json_t *message, GError **error)
{
  json_t *identity = json_object_get(message, "identity");
  json_t *args = json_object_get(message, "args");
  const char *op = nc_json_string(message, "op", error);
  const char *role = op ? nc_json_string(identity, "role", error) : NULL;
  const NcControlOp *found = control->ops;

  if (!role)
    return NULL;
  while (found->op && !g_str_equal(found->op, op))
    found++;
  if (!found->op) {
    nc_fail(error, NC_ERROR_INVALID, "there is no operation \"%.64s\"", op);
    return NULL;
  }
  if (args && !json_is_object(args)) {
    nc_fail(error, NC_ERROR_INVALID, "\"args\" must be an object");
    return NULL;
  }
  nc_autojson json_t *none = json_object();
  g_autofree char *actor = nc_control_actor(identity);
  if (found->role > NC_ROLE_VIEWER)
    return nc_control_change(control, found, actor, identity, args ? args : none, error);
  return found->func(found->object, actor, args ? args : none, error);
}

static void
nc_control_work(gpointer data, gpointer user_data)
{
  NcRequest *request = data;
  NcControl *control = user_data;
  NcClient *client = request->client;
  json_t *id = json_object_get(request->message, "id");
  g_autoptr(GError) error = NULL;
  json_t *result = nc_control_execute(control, request->message, &error);

  if (result) {
    nc_client_send(client, json_pack("{s:O?, s:b, s:o}", "id", id, "ok", 1, "result", result));
  } else {
    nc_log(NC_LOG_INFO, "agent", "%s: %s", nc_json_string_or(request->message, "op", "?"), error->message);
    nc_client_refuse(client, id, error);
  }
  g_mutex_lock(&client->lock);
  client->pending--;
  g_cond_signal(&client->less);
  g_mutex_unlock(&client->lock);
  json_decref(request->message);
  g_atomic_rc_box_release_full(client, nc_client_clear);
  g_free(request);
}

static bool
nc_control_may_connect(NcControl *control, int fd, GError **error)
{
  struct ucred who;
  socklen_t length = sizeof who;

  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) < 0)
    return nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "SO_PEERCRED");
  if (who.uid == 0 || who.uid == geteuid())
    return true;
  for (int i = 0; i < control->config->control_uid_count; i++)
    if (who.uid == (uid_t)control->config->control_uids[i])
      return true;
  return nc_fail(error, NC_ERROR_FORBIDDEN,
                 "user %u may not use the control socket: it is for novacron-gate (control_users in novacrond.conf)", (unsigned)who.uid);
}

/* The reader of one connection. */
static void
nc_control_serve(int fd, gpointer user_data)
{
  NcControl *control = user_data;
  NcClient *client = g_atomic_rc_box_new0(NcClient);
  g_autoptr(GError) error = NULL;

  client->fd = fd;
  g_mutex_init(&client->lock);
  g_cond_init(&client->less);
  bool allowed = nc_control_may_connect(control, fd, &error);
  while (allowed) {
    json_t *message = nc_msg_recv(fd, -1, NULL, &error);
    if (!message)
      break;
    g_mutex_lock(&client->lock);
    while (client->pending >= NC_CONTROL_PENDING)
      g_cond_wait(&client->less, &client->lock);
    client->pending++;
    g_mutex_unlock(&client->lock);
    NcRequest *request = g_new(NcRequest, 1);
    *request = (NcRequest){ .client = g_atomic_rc_box_acquire(client), .message = message };
    g_thread_pool_push(control->workers, request, NULL);
  }
  if (error->code == NC_ERROR_FORBIDDEN || error->code == NC_ERROR_PROTOCOL) {
    nc_log(NC_LOG_WARNING, "agent", "control socket: %s", error->message);
    nc_client_refuse(client, NULL, error);
  }
  shutdown(fd, SHUT_RD);
  g_atomic_rc_box_release_full(client, nc_client_clear);
}

NcControl *
nc_control_new(const NcConfig *config, NcJournal *journal, const NcControlOp *ops, GError **error)
{
  /* Open to all: who may ask is decided by the peer's uid, which can be explained. */
  int listener = nc_unix_listen(config->control_socket, 0666, error);
  if (listener < 0)
    return NULL;
  NcControl *control = g_new0(NcControl, 1);
  control->config = config;
  control->journal = journal;
  control->ops = ops;
  control->workers = g_thread_pool_new(nc_control_work, control, NC_CONTROL_WORKERS, FALSE, NULL);
  control->service = nc_service_new("control", listener, NC_CONTROL_CONNECTIONS, nc_control_serve, control);
  return control;
}

void
nc_control_free(NcControl *control)
{
  if (!control)
    return;
  unlink(control->config->control_socket);
  nc_service_free(control->service);
  g_thread_pool_free(control->workers, FALSE, TRUE);
  g_free(control);
}
