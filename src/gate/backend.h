/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate's conversation with novacrond (docs/protocols.md section 5).
 *
 * One connection carries any number of requests; a thread of its own writes,
 * reads and watches the clock. The connection is made when the first request
 * needs it and again after it was lost; requests under way when it is lost
 * fail: whether novacrond carried them out is unknown, so nothing is repeated
 * by itself.
 */
#pragma once

#include "base/error.h"
#include <jansson.h>

typedef struct NcBackend NcBackend;

/*
 * The end of one request: ${result} (borrowed) or, if NULL, ${error}. Called
 * exactly once, in the backend's thread; must not call into the backend.
 */
typedef void (*NcBackendFunc)(json_t *result, const GError *error, void *data);

/* ${path} of novacrond's control socket; nothing is connected yet. NULL on error. */
NcBackend *nc_backend_new(const char *path, GError **error);

/*
 * Sends ${op} with ${identity} and ${args} (borrowed) and calls ${func} within
 * ${answer_ms}. Any thread. false: refused at once, ${func} will not be called
 * (NC_ERROR_RESOURCE: too many under way; NC_ERROR_UNREACHABLE: stopping).
 */
bool nc_backend_call(NcBackend *backend, const char *op, json_t *identity, json_t *args, unsigned answer_ms,
                     NcBackendFunc func, void *data, GError **error);

/* Ends the thread; all requests under way fail, later calls are refused. May be repeated. */
void nc_backend_stop(NcBackend *backend);
void nc_backend_free(NcBackend *backend); /* stops it first; NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcBackend, nc_backend_free)
