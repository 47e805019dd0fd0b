/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deadlines for connections.
 *
 * libmicrohttpd's time-out starts anew with every byte, so a client that sends
 * one byte every few seconds keeps its connection for ever. Here every state
 * of a connection has an end; when it comes, the socket is shut down and
 * libmicrohttpd does the rest. Thread-safe.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

typedef struct NcConnections NcConnections;
typedef struct NcConnection NcConnection;

NcConnections *nc_connections_new(void);
void nc_connections_free(NcConnections *connections); /* all must have been removed; NULL is fine */

/* Watches ${fd} (borrowed until removal, which must come before it is closed). */
NcConnection *nc_connections_add(NcConnections *connections, int fd, unsigned deadline_ms);
void nc_connections_remove(NcConnections *connections, NcConnection *connection);

/* From now it has ${deadline_ms}; 0: no limit (somebody else watches: a request under way). */
void nc_connections_set_deadline(NcConnections *connections, NcConnection *connection, unsigned deadline_ms);

/* Shuts down those whose time is over at ${now_us} (monotonic); returns how many. */
unsigned nc_connections_sweep(NcConnections *connections, int64_t now_us);
