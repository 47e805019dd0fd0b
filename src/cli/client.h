/* SPDX-License-Identifier: Apache-2.0 */
/* Talking to the gate: one request, one answer, errors said aloud. The only user of libcurl. */
#pragma once

#include "cli/cli.h"

/* Once before the first call; false if libcurl does not start. */
bool nc_client_init(GError **error);

/*
 * ${method} on ${path} with ${body} (borrowed; NULL: none). New reference; the
 * gate's problem becomes an error of the same code. NC_ERROR_UNREACHABLE says
 * what could be wrong and how to find out.
 */
json_t *nc_client_call(const NcCli *cli, const char *method, const char *path, json_t *body, GError **error);

/* The same with a path made as by printf. */
json_t *nc_client_callf(const NcCli *cli, const char *method, json_t *body, GError **error, const char *format, ...)
    G_GNUC_PRINTF(5, 6);

/*
 * POST as by nc_client_call(), for what changes something and is recorded under the header Idempotency-Key: a fresh
 * random one. If the connection breaks before the answer has come, or the gate can't reach novacrond, it is asked again
 * with the same key, up to five times in three seconds, and is carried out once. If that does not help, the error says
 * whether it is known what became of it.
 */
json_t *nc_client_change(const NcCli *cli, const char *path, json_t *body, GError **error);

/*
 * GET ${path}, which may have a query, page by page, up to ${most} rows (0: all). {"items", "next": null, or the cursor
 * of what is left}. New reference.
 */
json_t *nc_client_list(const NcCli *cli, const char *path, size_t most, GError **error);

/* --- a bare connection to the gate, trusted as all are, for cli/stream.h --- */

typedef struct NcClientConnection NcClientConnection;
NcClientConnection *nc_client_connect(const NcCli *cli, GError **error);
void nc_client_disconnect(NcClientConnection *connection);
bool nc_client_send(NcClientConnection *connection, const void *data, size_t length_bytes, GError **error);
/* What there is, at most ${size}; *ret_n 0: nothing within ${wait_ms}, or a signal came. False: it is lost. */
bool nc_client_receive(NcClientConnection *connection, void *data, size_t size, int wait_ms, size_t *ret_n, GError **error);
