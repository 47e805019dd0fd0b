/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP request, from its first line to the end of its answer:
 *
 *   NEW      headers are here: refuse what is hostile, find out who asks and
 *            what for, all before a byte of the body is read
 *   BODY     collecting the body, bounded
 *   ASKING   suspended, before a byte of the body is kept; novacrond looks up
 *            whose token the request brings, and then: ASKED
 *   WAITING  suspended; novacrond has it
 *   ANSWERED the answer is there and goes out
 *
 * All in the server's thread except the steps from ASKING to ASKED and from
 * WAITING to ANSWERED, which the backend's thread makes before it resumes the
 * connection.
 */
#pragma once

#include "gate/rate.h"
#include "gate/server.h"
#include <microhttpd.h>

typedef struct NcRequest NcRequest;

/* What a request needs to know of its server. */
typedef struct {
  const NcServerDeps *deps;
  NcRate *rate;
  NcRate *refused; /* counts tokens that were not good */
  bool tls;
} NcRequestContext;

/* ${uri} as received, ${watch} of its connection; all borrowed. */
NcRequest *nc_request_new(const NcRequestContext *context, struct MHD_Connection *connection, NcConnection *watch,
                          const char *uri);

/* libmicrohttpd's access handler, for this request. MHD_NO closes the connection. */
enum MHD_Result nc_request_step(NcRequest *request, const char *method, const char *path, const char *version,
                                const char *upload, size_t *upload_bytes);

/* The answer is out, or the connection gone. Logs and frees. */
void nc_request_end(NcRequest *request);
