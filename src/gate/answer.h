/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP answer on its way out: status, JSON and the few headers we send. */
#pragma once

#include "gate/asset.h"
#include "gate/problem.h"
#include "gate/routes.h"
#include <microhttpd.h>

typedef struct {
  unsigned status;
  json_t *body;     /* owned; NULL: ${text} or ${asset} is the body */
  bool plain;       /* what is sent is body's member "text", of the type that its member "type" names */
  const char *text; /* static JSON, for openapi.json */
  size_t text_bytes;
  bool tagged;    /* a list: goes out with the tag of its content (gate/etag.h), unless that is known */
  const char *if_none_match; /* that header of the request, borrowed; may be NULL */
  const NcAsset *asset; /* with status 304 only its name goes out */
  bool problem;
  bool close;     /* the connection can't be trusted to be in step any more */
  const char *authenticate; /* static: what a 401 asks for; NULL: a client certificate */
  char allow[64]; /* "" : no such header */
  char location[128];
} NcAnswer;

void nc_answer_clear(NcAnswer *answer);

/* Each replaces what was there; ${instance} as in gate/problem.h. */
void nc_answer_set_error(NcAnswer *answer, const GError *error, const char *instance);
void nc_answer_set_http(NcAnswer *answer, NcHttpProblem problem, const char *detail, const char *instance);
/* novacrond's ${result} (borrowed) in the shape ${route} promises, at most ${limit} items of a list (0: all). */
void nc_answer_set_result(NcAnswer *answer, const NcRoute *route, json_t *result, size_t limit, const char *instance);

/* ${if_none_match}: that header of the request; may be NULL. */
void nc_answer_set_asset(NcAnswer *answer, const NcAsset *asset, const char *if_none_match);

/* Gives the answer to libmicrohttpd. What is tagged and known already becomes a 304 here. */
enum MHD_Result nc_answer_queue(NcAnswer *answer, struct MHD_Connection *connection, const char *request_id);
