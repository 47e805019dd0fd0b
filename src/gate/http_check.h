/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refusing what libmicrohttpd lets through.
 *
 * Version 0.9.75 accepts requests that two programs can read in two ways:
 * several Host or Content-Length headers, Content-Length together with chunked
 * coding, NUL bytes (it shows only what stands before), folded lines. Here
 * such requests end with 400. Pure: knows headers, not connections.
 */
#pragma once

#include "gate/problem.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct {
  const char *method;
  const char *version; /* "HTTP/1.1" */
  size_t uri_bytes;    /* path and query as received */
  size_t raw_bytes;    /* request line and headers as received, with the final empty line; 0: unknown */
  /* filled by nc_http_head_add() */
  unsigned headers, hosts, lengths, codings, content_types, keys, origins, authorizations;
  const char *key;    /* the last Idempotency-Key's value, as borrowed as what was added */
  const char *host, *origin, *authorization; /* likewise, of those headers */
  size_t shown_bytes; /* of the header lines, as far as libmicrohttpd shows them */
  bool chunked, bad_coding, bad_value, json;
  unsigned long long content_length;
  bool bad_length;
} NcHttpHead;

/* Counts one header in; ${value} NULL is an empty one. */
void nc_http_head_add(NcHttpHead *head, const char *name, const char *value);

/* Is it a request that reads in one way only, and within bounds? If not: *ret_problem and a text (static). */
bool nc_http_head_check(const NcHttpHead *head, NcHttpProblem *ret_problem, const char **ret_detail);

/* A path we could have an endpoint at: absolute, short, printable, without "%", "//", "." or ".." segments. */
bool nc_http_path_check(const char *path, NcHttpProblem *ret_problem, const char **ret_detail);
