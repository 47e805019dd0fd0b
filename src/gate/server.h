/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One listening socket served by libmicrohttpd, in one thread of its own.
 *
 * The gate runs up to two: HTTP on the UNIX socket, HTTPS on TCP. The thread
 * never waits for novacrond: a request under way is suspended and resumed by
 * the backend's thread.
 */
#pragma once

#include "gate/backend.h"
#include "gate/connections.h"
#include "gate/identity.h"
#include "gate/watchers.h"

typedef struct NcServer NcServer;

/* What servers share; borrowed, outlives them. */
typedef struct {
  NcBackend *backend;
  NcConnections *connections;
  const NcAccess *access;
  NcWatchers *watchers;
  char *const *origins; /* whose pages may use the API from a browser, beside our own (gate/origin.h); may be NULL */
} NcServerDeps;

/* PEM texts; borrowed until nc_server_free(). ${client_ca} NULL: nobody can authenticate over TLS. */
typedef struct {
  const char *certificate;
  const char *key;
  const char *client_ca;
} NcServerTls;

/* Serves ${listener} (taken, also on failure): HTTPS if ${tls} is given, else HTTP for a UNIX socket. NULL on error. */
NcServer *nc_server_new(int listener, const NcServerTls *tls, const NcServerDeps *deps, GError **error);

/* Backend and watchers must have been stopped, so that no request is suspended and no connection in other hands. NULL is fine. */
void nc_server_free(NcServer *server);
