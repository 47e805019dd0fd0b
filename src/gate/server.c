/* SPDX-License-Identifier: Apache-2.0 */
/* Setting up libmicrohttpd and passing its callbacks on. */
#include "gate/server.h"
#include "base/io.h"
#include "base/log.h"
#include "gate/gate_limits.h"
#include "gate/request.h"

#include <microhttpd.h>
#include <string.h>

struct NcServer {
  struct MHD_Daemon *daemon;
  NcServerDeps deps;
  NcRequestContext context;
};

static void nc_server_on_log(void *data, const char *format, va_list args) G_GNUC_PRINTF(2, 0);

static void
nc_server_on_log(void *data, const char *format, va_list args)
{
  g_autofree char *raw = g_strdup_vprintf(format, args);
  g_autofree char *text = g_utf8_make_valid(raw, -1);
  nc_log(NC_LOG_DEBUG, "gate", "libmicrohttpd: %s", g_strchomp(text));
}

static void
nc_server_on_connection(void *data, struct MHD_Connection *connection, void **socket_context,
                        enum MHD_ConnectionNotificationCode what)
{
  NcServer *server = data;

  if (what == MHD_CONNECTION_NOTIFY_STARTED) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    *socket_context =
        nc_connections_add(server->deps.connections, info ? info->connect_fd : -1, NC_GATE_REQUEST_DEADLINE_MS);
  } else if (*socket_context) {
    nc_connections_remove(server->deps.connections, *socket_context);
    *socket_context = NULL;
  }
}

/* The first that is heard of a request; what it returns comes back as *state. */
static void *
nc_server_on_uri(void *data, const char *uri, struct MHD_Connection *connection)
{
  NcServer *server = data;
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
  return nc_request_new(&server->context, connection, info->socket_context, uri);
}

static enum MHD_Result
nc_server_on_request(void *data, struct MHD_Connection *connection, const char *path, const char *method,
                     const char *version, const char *upload, size_t *upload_bytes, void **state)
{
  return nc_request_step(*state, method, path, version, upload, upload_bytes);
}

static void
nc_server_on_completed(void *data, struct MHD_Connection *connection, void **state,
                       enum MHD_RequestTerminationCode code)
{
  if (*state)
    nc_request_end(*state);
  *state = NULL;
}

/* %-escapes stay as they are and are refused later (gate/http_check.h): decoding twice is how paths get tricked. */
static size_t
nc_server_on_unescape(void *data, struct MHD_Connection *connection, char *text)
{
  return strlen(text);
}

static struct MHD_Daemon *
nc_server_start(NcServer *server, int listener, const NcServerTls *tls)
{
  unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG;
  struct MHD_OptionItem tls_options[] = {
    { MHD_OPTION_HTTPS_MEM_CERT, 0, tls ? (void *)tls->certificate : NULL },
    { MHD_OPTION_HTTPS_MEM_KEY, 0, tls ? (void *)tls->key : NULL },
    { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)"SECURE128:-VERS-ALL:+VERS-TLS1.3" },
    { tls && tls->client_ca ? MHD_OPTION_HTTPS_MEM_TRUST : MHD_OPTION_END, 0, tls ? (void *)tls->client_ca : NULL },
    { MHD_OPTION_END, 0, NULL },
  };
  struct MHD_OptionItem none[] = { { MHD_OPTION_END, 0, NULL } };

  return MHD_start_daemon(flags | (tls ? MHD_USE_TLS : 0), 0, NULL, NULL, nc_server_on_request, server,
                          MHD_OPTION_EXTERNAL_LOGGER, nc_server_on_log, NULL, MHD_OPTION_LISTEN_SOCKET, listener,
                          MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_CONNECTION_LIMIT,
                          NC_GATE_CONNECTIONS + nc_watchers_places(server->deps.watchers),
                          MHD_OPTION_PER_IP_CONNECTION_LIMIT, NC_GATE_CONNECTIONS_PER_IP,
                          MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)NC_GATE_CONNECTION_MEMORY,
                          MHD_OPTION_CONNECTION_TIMEOUT, NC_GATE_INACTIVITY_S, MHD_OPTION_UNESCAPE_CALLBACK,
                          nc_server_on_unescape, NULL, MHD_OPTION_URI_LOG_CALLBACK, nc_server_on_uri, server,
                          MHD_OPTION_NOTIFY_CONNECTION, nc_server_on_connection, server, MHD_OPTION_NOTIFY_COMPLETED,
                          nc_server_on_completed, server, MHD_OPTION_ARRAY, tls ? tls_options : none, MHD_OPTION_END);
}

NcServer *
nc_server_new(int listener, const NcServerTls *tls, const NcServerDeps *deps, GError **error)
{
  NcServer *server = g_new0(NcServer, 1);

  server->deps = *deps;
  server->context.deps = &server->deps;
  server->context.tls = tls != NULL;
  server->context.rate = tls ? nc_rate_new(NC_GATE_RATE_PER_S, NC_GATE_RATE_BURST, NC_GATE_RATE_CLIENTS)
                             : nc_rate_new(NC_GATE_LOCAL_RATE_PER_S, NC_GATE_LOCAL_RATE_BURST, NC_GATE_RATE_CLIENTS);
  server->context.refused = nc_rate_new(NC_GATE_REFUSED_PER_S, NC_GATE_REFUSED_BURST, NC_GATE_RATE_CLIENTS);
  server->daemon = nc_server_start(server, listener, tls);
  if (server->daemon)
    return server;
  nc_fd_clear(&listener);
  nc_rate_free(server->context.rate);
  nc_rate_free(server->context.refused);
  g_free(server);
  nc_fail(error, NC_ERROR_INTERNAL, "the %s server does not start%s", tls ? "HTTPS" : "HTTP",
          tls ? ": do certificate and key fit each other, and is the client CA a certificate?" : "");
  return NULL;
}

void
nc_server_free(NcServer *server)
{
  if (!server)
    return;
  MHD_stop_daemon(server->daemon); /* closes the listening socket and ends the thread */
  nc_rate_free(server->context.rate);
  nc_rate_free(server->context.refused);
  g_free(server);
}
