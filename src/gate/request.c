/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one request; its states are in the header. */
#include "gate/request_internal.h"
#include "base/ident.h"
#include "base/log.h"
#include "base/msg.h"
#include "gate/gate_limits.h"
#include "gate/openapi.h"
#include "gate/origin.h"

#include <string.h>
#include <sys/socket.h>

NcRequest *
nc_request_new(const NcRequestContext *context, struct MHD_Connection *connection, NcConnection *watch, const char *uri)
{
  NcRequest *request = g_new0(NcRequest, 1);

  request->context = context;
  request->connection = connection;
  request->watch = watch;
  request->id = nc_id_new("req");
  request->instance = g_strconcat("urn:novacron:request:", request->id, NULL);
  request->uri_bytes = strlen(uri);
  request->begun_us = nc_mono_us();
  request->body = g_byte_array_new();
  return request;
}

bool
nc_request_refuse_http(NcRequest *request, NcHttpProblem problem, const char *detail)
{
  nc_answer_set_http(&request->answer, problem, detail, request->instance);
  return false;
}

bool
nc_request_refuse(NcRequest *request, const GError *error)
{
  nc_answer_set_error(&request->answer, error, request->instance);
  return false;
}

static enum MHD_Result
nc_request_collect_header(void *data, enum MHD_ValueKind kind, const char *name, const char *value)
{
  NcRequest *request = data;
  nc_http_head_add(&request->head, name, value);
  nc_ws_offer_add(&request->offer, name, value);
  return MHD_YES;
}

static bool
nc_request_check_http(NcRequest *request, const char *method, const char *path, const char *version)
{
  const union MHD_ConnectionInfo *size =
      MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
  NcHttpProblem problem;
  const char *detail;

  request->head.method = method;
  request->head.version = version;
  request->head.uri_bytes = request->uri_bytes;
  request->head.raw_bytes = size ? size->header_size : 0;
  MHD_get_connection_values(request->connection, MHD_HEADER_KIND, nc_request_collect_header, request);
  if (!nc_http_head_check(&request->head, &problem, &detail) || !nc_http_path_check(path, &problem, &detail))
    return nc_request_refuse_http(request, problem, detail);
  if (request->head.content_length > NC_GATE_BODY_MAX_BYTES) {
    nc_request_refuse_http(request, NC_HTTP_TOO_LARGE, "a body has at most 1 MiB");
    request->answer.close = request->head.content_length > NC_GATE_BODY_DISCARD_BYTES;
    return false;
  }
  return true;
}

static bool
nc_request_route(NcRequest *request, const char *method, const char *path)
{
  switch (nc_route_find(method, path, &request->match)) {
  case NC_ROUTE_UNKNOWN_METHOD:
    return nc_request_refuse_http(request, NC_HTTP_NOT_IMPLEMENTED, "no resource here has that method");
  case NC_ROUTE_NO_PATH:
    return nc_request_refuse_http(request, NC_HTTP_NO_PATH, "there is nothing at this path; see /api/v2/openapi.json");
  case NC_ROUTE_NO_METHOD:
    nc_request_refuse_http(request, NC_HTTP_NO_METHOD,
                           "this resource does not have that method; the Allow header lists its own");
    g_strlcpy(request->answer.allow, request->match.allow, sizeof request->answer.allow);
    return false;
  case NC_ROUTE_FOUND:
    break;
  }
  if (request->identity.role < request->match.route->role) {
    g_autoptr(GError) error =
        g_error_new(NC_ERROR, NC_ERROR_FORBIDDEN, "this needs the role %s; \"%s\" is %s", nc_role_name(request->match.route->role),
                    request->identity.name, nc_role_name(request->identity.role));
    return nc_request_refuse(request, error);
  }
  return true;
}

/* Is it a program, or a page that may (gate/origin.h)? */
static bool
nc_request_check_page(NcRequest *request)
{
  const NcHttpHead *head = &request->head;
  char *const *origins = request->context->deps->origins;
  bool tls = request->context->tls;
  bool looks = (g_str_equal(head->method, "GET") || g_str_equal(head->method, "HEAD")) && !request->match.route->watch;

  if (!tls && head->host && !nc_host_is_ours(head->host, origins))
    return nc_request_refuse_http(request, NC_HTTP_ORIGIN, "over the UNIX socket, ask localhost; other hosts that browsers know this "
                                                           "node by belong into origins in gate.conf");
  if (!looks && head->origins && !nc_origin_is_allowed(head->origin, head->host, tls, origins))
    return nc_request_refuse_http(request, NC_HTTP_ORIGIN,
                                  "pages of this origin may not connect or change anything: origins in gate.conf lists those that may");
  return true;
}

/* It is known who asks: for what, and may they? */
static bool
nc_request_enter(NcRequest *request, const char *method, const char *path)
{
  if (!nc_request_route(request, method, path) || !nc_request_check_page(request))
    return false;
  bool body = request->head.chunked || request->head.content_length > 0;
  if (body && !request->head.json)
    return nc_request_refuse_http(request, NC_HTTP_MEDIA_TYPE, "send the body as Content-Type: application/json");
  return true;
}

static bool
nc_request_begin(NcRequest *request, const char *method, const char *path, const char *version)
{
  NcConnections *connections = request->context->deps->connections;

  nc_connections_set_deadline(connections, request->watch, NC_GATE_REQUEST_DEADLINE_MS);
  if (!nc_request_check_http(request, method, path, version))
    return false;
  request->line = g_strdup_printf("%.16s %s", method, path);
  if (!nc_request_identify(request))
    return false;
  return request->token || nc_request_enter(request, method, path);
}

static NcWatched
nc_request_watched(const NcRequest *request)
{
  return (NcWatched){ .op = nc_route_op(&request->match), .id = request->match.value };
}

/* The client's socket is ours no more, libmicrohttpd's only to close. */
static void
nc_request_on_watcher_over(void *data)
{
  MHD_upgrade_action(data, MHD_UPGRADE_ACTION_CLOSE);
}

/* The 101 is out: from here on the connection is a watcher's. */
static void
nc_request_on_upgrade(void *data, struct MHD_Connection *connection, void *state, const char *early, size_t early_bytes, MHD_socket fd,
                      struct MHD_UpgradeResponseHandle *handle)
{
  NcRequest *request = data;
  const NcServerDeps *deps = request->context->deps;
  const union MHD_ConnectionInfo *socket = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  int send_bytes = NC_GATE_WATCH_SEND_BYTES;
  const NcWatcherOrder order = { .what = nc_request_watched(request),
                                 .client = nc_request_watcher(request),
                                 .since = nc_json_int_or(request->args, "since", request->match.value[0] ? 0 : -1),
                                 .fd = fd,
                                 .over = nc_request_on_watcher_over,
                                 .data = handle };

  if (socket && request->context->tls) /* what is behind ${fd}, where libmicrohttpd's end of a pair is */
    setsockopt(socket->connect_fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof send_bytes);
  nc_connections_set_deadline(deps->connections, request->watch, 0);
  request->place = false; /* it is the watcher's now */
  nc_watchers_add(deps->watchers, &order, early, early_bytes);
}

static enum MHD_Result
nc_request_queue_upgrade(NcRequest *request)
{
  char accept[NC_WS_ACCEPT_BYTES + 1];
  struct MHD_Response *response = MHD_create_response_for_upgrade(nc_request_on_upgrade, request);

  if (!response)
    return MHD_NO;
  nc_ws_accept(request->offer.key, accept);
  request->answer.status = MHD_HTTP_SWITCHING_PROTOCOLS;
  MHD_add_response_header(response, "Upgrade", "websocket");
  MHD_add_response_header(response, "Sec-WebSocket-Accept", accept);
  MHD_add_response_header(response, "X-Request-Id", request->id);
  enum MHD_Result queued = MHD_queue_response(request->connection, MHD_HTTP_SWITCHING_PROTOCOLS, response);
  MHD_destroy_response(response);
  return queued;
}

static enum MHD_Result
nc_request_queue(NcRequest *request)
{
  request->state = NC_REQUEST_ANSWERED;
  if (request->match.route && request->match.route->list && !request->answer.problem) {
    request->answer.tagged = true;
    request->answer.if_none_match = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "If-None-Match");
  }
  nc_connections_set_deadline(request->context->deps->connections, request->watch, NC_GATE_ANSWER_DEADLINE_MS);
  return request->watched ? nc_request_queue_upgrade(request) : nc_answer_queue(&request->answer, request->connection, request->id);
}

/*
 * What is refused already, or too much, is read and dropped for a while: a
 * client that is still sending would not see the answer before a reset.
 */
static enum MHD_Result
nc_request_take_body(NcRequest *request, const char *upload, size_t *upload_bytes)
{
  size_t n = *upload_bytes;

  *upload_bytes = 0;
  if (!request->answer.body && request->discarded == 0 && n <= NC_GATE_BODY_MAX_BYTES - request->body->len) {
    g_byte_array_append(request->body, (const guint8 *)upload, (guint)n);
    return MHD_YES;
  }
  request->discarded += n;
  return request->discarded <= NC_GATE_BODY_DISCARD_BYTES ? MHD_YES : MHD_NO;
}

typedef struct {
  NcRequest *request;
  GError *error;
} NcQueryScan;

static enum MHD_Result
nc_request_collect_query(void *data, enum MHD_ValueKind kind, const char *key, const char *value)
{
  NcQueryScan *scan = data;
  bool ok = nc_schema_read_query(scan->request->match.route->query, key, value, scan->request->args, &scan->error);
  return ok ? MHD_YES : MHD_NO;
}

static bool
nc_request_read_args(NcRequest *request)
{
  const NcRoute *route = request->match.route;
  g_autoptr(GError) error = NULL;
  NcQueryScan scan = { .request = request };

  if (request->discarded > 0)
    return nc_request_refuse_http(request, NC_HTTP_TOO_LARGE, "a body has at most 1 MiB");
  if (route->id_prefix && !g_str_has_prefix(request->match.value, route->id_prefix)) {
    nc_fail(&error, NC_ERROR_NOT_FOUND, "there is no \"%s\" here: these ids begin with \"%s\"", request->match.value,
            route->id_prefix);
    return nc_request_refuse(request, error);
  }
  request->args = nc_schema_read_body(route->body, request->body->data, request->body->len, &error);
  if (!request->args)
    return nc_request_refuse(request, error);
  MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, nc_request_collect_query, &scan);
  if (scan.error) {
    nc_request_refuse(request, scan.error);
    g_error_free(scan.error);
    return false;
  }
  if (route->text) {
    const char *accept = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Accept");
    json_object_set_new(request->args, "openmetrics", json_boolean(accept && strstr(accept, "application/openmetrics-text")));
  }
  if (request->match.key)
    json_object_set_new(request->args, request->match.key, json_string(request->match.value));
  if (route->is_keyed && request->head.keys > 0 &&
      !nc_schema_read_key(request->head.keys, request->head.key, request->args, &error))
    return nc_request_refuse(request, error);
  return true;
}

/* In the backend's thread; the connection is suspended, so nobody else touches the request. */
static void
nc_request_on_answer(json_t *result, const GError *error, void *data)
{
  NcRequest *request = data;
  size_t limit = (size_t)nc_json_int_or(request->args, "limit", 0);

  if (result && request->match.route->watch)
    request->watched = true;
  else if (result)
    nc_answer_set_result(&request->answer, request->match.route, result, limit, request->instance);
  else
    nc_answer_set_error(&request->answer, error, request->instance);
  request->state = NC_REQUEST_ANSWERED;
  MHD_resume_connection(request->connection);
}

/* A handshake, from a page that may, and a place for one more? */
static bool
nc_request_admit_watcher(NcRequest *request)
{
  const NcServerDeps *deps = request->context->deps;
  NcHttpProblem problem;
  const char *detail;
  const NcWatched what = nc_request_watched(request);
  g_autoptr(GError) error = NULL;

  if (!g_str_equal(request->head.version, "HTTP/1.1") || !g_str_equal(request->head.method, "GET"))
    return nc_request_refuse_http(request, NC_HTTP_UPGRADE, "WebSockets begin with GET in HTTP/1.1");
  if (!nc_ws_offer_check(&request->offer, &problem, &detail))
    return nc_request_refuse_http(request, problem, detail);
  request->place = nc_watchers_reserve(deps->watchers, nc_request_watcher(request), &what, &request->watched, &error);
  return request->place || nc_request_refuse(request, error);
}

/* What takes no novacrond. */
static enum MHD_Result
nc_request_answer_ourselves(NcRequest *request)
{
  const NcRoute *route = request->match.route;

  if (route->by == NC_BY_GATE_DOCUMENT) {
    request->answer = (NcAnswer){ .status = 200, .text = nc_openapi_json, .text_bytes = nc_openapi_json_bytes };
  } else if (route->by == NC_BY_GATE_ASSET) {
    nc_answer_set_asset(&request->answer, request->match.asset,
                        MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "If-None-Match"));
  } else {
    nc_autojson json_t *identity = nc_identity_to_json(&request->identity);
    nc_answer_set_result(&request->answer, route, identity, 0, request->instance);
  }
  return nc_request_queue(request);
}

static enum MHD_Result
nc_request_dispatch(NcRequest *request)
{
  const NcRoute *route = request->match.route;
  g_autoptr(GError) error = NULL;

  if (request->answer.body || !nc_request_read_args(request))
    return nc_request_queue(request);
  if (route->by != NC_BY_NOVACROND)
    return nc_request_answer_ourselves(request);
  if (route->watch && (!nc_request_admit_watcher(request) || request->watched))
    return nc_request_queue(request);
  g_autofree char *from = nc_request_from(request);
  nc_autojson json_t *identity = nc_identity_to_json(&request->identity);
  json_object_set_new(identity, "from", json_string(from));
  request->state = NC_REQUEST_WAITING;
  nc_connections_set_deadline(request->context->deps->connections, request->watch, 0); /* the backend has a clock */
  MHD_suspend_connection(request->connection);
  if (!nc_backend_call(request->context->deps->backend, nc_route_op(&request->match), identity, request->args, route->answer_ms,
                       nc_request_on_answer, request, &error))
    nc_request_on_answer(NULL, error, request);
  return MHD_YES;
}

enum MHD_Result
nc_request_step(NcRequest *request, const char *method, const char *path, const char *version, const char *upload,
                size_t *upload_bytes)
{
  switch (request->state) {
  case NC_REQUEST_NEW:
    request->state = NC_REQUEST_BODY;
    /* An answer now would end the connection: right for one that is not in step, a waste for all others. */
    if (!nc_request_begin(request, method, path, version) && request->answer.close)
      return nc_request_queue(request);
    return MHD_YES;
  case NC_REQUEST_ASKED:
    request->state = NC_REQUEST_BODY;
    if (nc_request_take_word(request))
      nc_request_enter(request, method, path);
    G_GNUC_FALLTHROUGH; /* the call that was suspended comes again */
  case NC_REQUEST_BODY:
    if (request->token && !request->answer.body) { /* before a byte of the body is kept */
      nc_request_ask(request);
      return MHD_YES;
    }
    return *upload_bytes > 0 ? nc_request_take_body(request, upload, upload_bytes) : nc_request_dispatch(request);
  case NC_REQUEST_ANSWERED:
    return nc_request_queue(request);
  case NC_REQUEST_ASKING:
  case NC_REQUEST_WAITING:
    break;
  }
  return MHD_NO; /* libmicrohttpd woke a suspended connection: never seen */
}

static void
nc_request_log(const NcRequest *request)
{
  bool change = request->match.route && request->match.route->role > NC_ROLE_VIEWER;
  int64_t ms = (nc_mono_us() - request->begun_us) / 1000;

  nc_log(change || request->answer.problem ? NC_LOG_INFO : NC_LOG_DEBUG, "gate",
         "%s %s: %s: %u in %" G_GINT64_FORMAT " ms (%s)",
         request->known ? nc_identity_kind_name(request->identity.kind) : request->context->tls ? "from" : "uid",
         request->known ? request->identity.name : request->client ? request->client : "?", request->line ? request->line : "refused request",
         request->answer.status, ms, request->id);
}

void
nc_request_end(NcRequest *request)
{
  nc_request_log(request);
  if (request->place)
    nc_watchers_release(request->context->deps->watchers, nc_request_watcher(request));
  nc_connections_set_deadline(request->context->deps->connections, request->watch, NC_GATE_IDLE_DEADLINE_MS);
  nc_answer_clear(&request->answer);
  json_decref(request->args);
  g_byte_array_unref(request->body);
  g_free(request->line);
  g_free(request->client);
  g_free(request->token);
  g_free(request->instance);
  g_free(request->id);
  g_free(request);
}
