/* SPDX-License-Identifier: Apache-2.0 */
/* Who makes a request: what its connection shows, and whose its token is, which novacrond knows. */
#include "gate/request_internal.h"
#include "base/ident.h"
#include "base/msg.h"
#include "gate/bearer.h"
#include "gate/gate_limits.h"

#include <arpa/inet.h>
#include <string.h>

#define NC_CHALLENGE_TOKEN "Bearer realm=\"novacron\""
#define NC_CHALLENGE_BAD_TOKEN NC_CHALLENGE_TOKEN ", error=\"invalid_token\""

/* Caller frees. */
static char *
nc_request_address(NcRequest *request)
{
  char text[INET6_ADDRSTRLEN] = "?";
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
  const struct sockaddr *address = info ? info->client_addr : NULL;

  if (address && address->sa_family == AF_INET)
    inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, sizeof text);
  else if (address && address->sa_family == AF_INET6)
    inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, text, sizeof text);
  return g_strdup(text);
}

const char *
nc_request_watcher(const NcRequest *request)
{
  return request->context->tls ? request->client : NULL;
}

char *
nc_request_from(const NcRequest *request)
{
  if (request->context->tls)
    return g_strdup(request->client);
  if (request->identity.kind == NC_IDENTITY_TOKEN) /* the name no more says whose process that is */
    return g_strconcat("UNIX socket, ", request->client, NULL);
  return g_strdup("UNIX socket");
}

static bool
nc_request_count(NcRequest *request)
{
  if (!nc_rate_take(request->context->rate, request->client, nc_mono_us()))
    return nc_request_refuse_http(request, NC_HTTP_TOO_MANY, "too many requests in a short time: slow down");
  return true;
}

static bool
nc_request_identify_local(NcRequest *request)
{
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  g_autoptr(GError) error = NULL;

  request->known = nc_identity_from_unix(info ? info->connect_fd : -1, request->context->deps->access, &request->identity, &error);
  if (!request->known)
    return nc_request_refuse(request, error);
  request->client = g_strconcat("uid:", request->identity.name, NULL);
  return nc_request_count(request);
}

static bool
nc_request_identify_remote(NcRequest *request, bool has_token)
{
  const NcAccess *access = request->context->deps->access;
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
  gnutls_session_t session = info ? info->tls_session : NULL;
  g_autoptr(GError) error = NULL;

  request->client = nc_request_address(request);
  /* Counted first: verifying a chain costs more than refusing a stranger. */
  if (!nc_request_count(request))
    return false;
  if (has_token && access->tokens_alone && !nc_identity_has_certificate(session))
    return true;
  request->known = nc_identity_from_tls(session, access, &request->identity, &error);
  if (request->known)
    return true;
  nc_request_refuse(request, error);
  if (access->tokens_alone)
    request->answer.authenticate = NC_CHALLENGE_TOKEN;
  return false;
}

bool
nc_request_identify(NcRequest *request)
{
  const char *token;
  bool has_token = nc_bearer_read(request->head.authorization, &token);

  if (!(request->context->tls ? nc_request_identify_remote(request, has_token) : nc_request_identify_local(request)))
    return false;
  if (has_token && !nc_rate_has(request->context->refused, request->client, nc_mono_us()))
    return nc_request_refuse_http(request, NC_HTTP_TOO_MANY, "too many tokens that are not good came from here: wait some seconds");
  if (has_token)
    request->token = g_strdup(token);
  return true;
}

/* In the backend's thread; the connection is suspended, so nobody else touches the request. */
static void
nc_request_on_word(json_t *result, const GError *error, void *data)
{
  NcRequest *request = data;
  g_autoptr(GError) problem = NULL;

  if (result && nc_identity_from_token(result, &request->identity, &problem))
    request->known = true;
  else
    nc_request_refuse(request, result ? problem : error);
  request->state = NC_REQUEST_ASKED;
  MHD_resume_connection(request->connection);
}

void
nc_request_ask(NcRequest *request)
{
  nc_autojson json_t *asker = json_pack("{s:s, s:s, s:s}", "kind", "gate", "name", "novacron-gate", "role", nc_role_name(NC_ROLE_VIEWER));
  nc_autojson json_t *args = json_pack("{s:s, s:s}", "token", request->token, "from", request->client);
  g_autoptr(GError) error = NULL;

  request->state = NC_REQUEST_ASKING;
  nc_connections_set_deadline(request->context->deps->connections, request->watch, 0); /* the backend has a clock */
  MHD_suspend_connection(request->connection);
  if (!nc_backend_call(request->context->deps->backend, "token.check", asker, args, NC_GATE_ANSWER_MS, nc_request_on_word, request, &error))
    nc_request_on_word(NULL, error, request);
}

bool
nc_request_take_word(NcRequest *request)
{
  g_clear_pointer(&request->token, g_free);
  nc_connections_set_deadline(request->context->deps->connections, request->watch, NC_GATE_REQUEST_DEADLINE_MS);
  if (!request->answer.body)
    return true;
  if (request->answer.status == MHD_HTTP_UNAUTHORIZED) {
    request->answer.authenticate = NC_CHALLENGE_BAD_TOKEN;
    nc_rate_take(request->context->refused, request->client, nc_mono_us());
  }
  return false;
}
