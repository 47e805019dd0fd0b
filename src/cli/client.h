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
