/* SPDX-License-Identifier: Apache-2.0 */
/* What request.c (the life of a request) and request_identity.c (who asks) share. Nobody else includes this. */
#pragma once

#include "gate/answer.h"
#include "gate/http_check.h"
#include "gate/request.h"
#include "gate/websocket.h"

typedef enum {
  NC_REQUEST_NEW,
  NC_REQUEST_BODY,
  NC_REQUEST_ASKING, /* suspended; novacrond looks whose token that is */
  NC_REQUEST_ASKED,
  NC_REQUEST_WAITING,
  NC_REQUEST_ANSWERED
} NcRequestState;

struct NcRequest {
  const NcRequestContext *context;
  struct MHD_Connection *connection;
  NcConnection *watch;
  NcRequestState state;
  char *id;
  char *instance; /* "urn:novacron:request:ID" */
  size_t uri_bytes;
  int64_t begun_us;
  char *line; /* "GET /api/...", once the path has proved harmless */
  NcHttpHead head;
  NcWsOffer offer;
  bool place; /* one is reserved among the watchers */
  bool watched; /* what is to be watched exists: the answer is 101 */
  NcIdentity identity;
  bool known; /* identity is filled */
  char *client; /* under which requests are counted: an address, or "uid:N"; NULL: not known yet */
  char *token; /* that has to be looked up; NULL: none (any more) */
  NcRouteMatch match;
  GByteArray *body;
  size_t discarded;
  json_t *args;
  NcAnswer answer;
};

/* Both make the answer, and return false. */
bool nc_request_refuse_http(NcRequest *request, NcHttpProblem problem, const char *detail);
bool nc_request_refuse(NcRequest *request, const GError *error);

/*
 * By what the connection shows: fills identity and client, and counts the request. If the request brings a token, it is in
 * ${token}, and nc_request_ask() has to follow. False: refused.
 */
bool nc_request_identify(NcRequest *request);
/* Suspends the connection until novacrond has looked the token up; the state then is ASKED, for nc_request_take_word(). */
void nc_request_ask(NcRequest *request);
/* What it said: identity is the token's, or the answer is there and counted against the client; false then. */
bool nc_request_take_word(NcRequest *request);
/* Whose places among the watchers are counted: an address. The local users share all: NULL. */
const char *nc_request_watcher(const NcRequest *request);
/* As the transaction log has it. Caller frees. */
char *nc_request_from(const NcRequest *request);
