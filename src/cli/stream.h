/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WebSocket to the gate (RFC 6455), as a client that listens: the handshake,
 * whole text messages in, pongs and the close out. Uses client.h's connection.
 */
#pragma once

#include "cli/client.h"

typedef struct NcStream NcStream;

/* Connects to ${path}. NC_ERROR_UNREACHABLE, _RESOURCE or another if the gate does not agree. */
NcStream *nc_stream_open(const NcCli *cli, const char *path, GError **error);
void nc_stream_close(NcStream *stream); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcStream, nc_stream_close)

/*
 * The next message; new reference. NULL without error: nothing within ${wait_ms}. NULL with error: it is over; *ret_code is the
 * close's code, 0 if the connection was lost.
 */
json_t *nc_stream_next(NcStream *stream, int wait_ms, unsigned *ret_code, GError **error);
