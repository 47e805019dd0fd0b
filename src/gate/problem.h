/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as HTTP clients get them: RFC 9457 problem details. */
#pragma once

#include "base/error.h"
#include <jansson.h>

#define NC_PROBLEM_MEDIA_TYPE "application/problem+json"

/* What HTTP itself can complain about, beside the codes of base/error.h. */
typedef enum {
  NC_HTTP_BAD_REQUEST,     /* 400: hostile or broken HTTP */
  NC_HTTP_ORIGIN,          /* 403: a browser's page that may not connect */
  NC_HTTP_NO_PATH,         /* 404 */
  NC_HTTP_NO_METHOD,       /* 405 */
  NC_HTTP_TOO_LARGE,       /* 413 */
  NC_HTTP_URI_TOO_LONG,    /* 414 */
  NC_HTTP_MEDIA_TYPE,      /* 415 */
  NC_HTTP_UPGRADE,         /* 426: a WebSocket */
  NC_HTTP_TOO_MANY,        /* 429 */
  NC_HTTP_HEADERS,         /* 431 */
  NC_HTTP_NOT_IMPLEMENTED, /* 501 */
  NC_HTTP_PROBLEM_COUNT
} NcHttpProblem;

/*
 * {"type":"urn:novacron:problem:CODE","title","status","detail","code","instance"}.
 * ${instance} names this one occurrence, "urn:novacron:request:ID". New reference.
 */
json_t *nc_problem_from_error(const GError *error, const char *instance, unsigned *ret_status);
json_t *nc_problem_from_http(NcHttpProblem problem, const char *detail, const char *instance, unsigned *ret_status);
