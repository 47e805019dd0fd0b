/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP by address text: "host:port", "1.2.3.4:7450", "[2001:db8::1]:7450".
 *
 * Sockets are close-on-exec, without Nagle's delay, and give up on a dead
 * network by themselves, after NC_TCP_USER_TIMEOUT_MS, whether data is under
 * way (TCP_USER_TIMEOUT) or not (keepalive).
 */
#pragma once

#include "base/error.h"
#include <stdbool.h>

#define NC_TCP_USER_TIMEOUT_MS 15000
#define NC_TCP_ADDRESS_MAX 270 /* bytes: a DNS name of 253, brackets, colon, port */

/* Has ${address} the shape above, with a port from 1 to 65535? Nothing is looked up. */
bool nc_tcp_address_is_valid(const char *address);

/* The same with "LOCAL>" in front, perhaps: a numeric address of this host that the connection is to leave by. */
bool nc_tcp_path_is_valid(const char *path);
#define NC_TCP_PATHS_MAX 8
/* Paths separated by commas, NC_TCP_PATHS_MAX at most. NULL if one is not valid; none in an empty ${text}. g_strfreev(). */
char **nc_tcp_paths_parse(const char *text);

/*
 * Connects to a path; tries each address a name has, within ${timeout_ms} all together
 * (a slow resolver's own time limit comes on top). -1 on error: NC_ERROR_INVALID,
 * NC_ERROR_UNREACHABLE or NC_ERROR_TIMEOUT. The socket blocks.
 */
int nc_tcp_connect(const char *path, int timeout_ms, GError **error);

/*
 * Listens; port 0 lets the kernel choose. A taken port is NC_ERROR_RESOURCE
 * "port 7450 on 0.0.0.0 is taken by another program: ...". -1 on error.
 */
int nc_tcp_listen(const char *address, GError **error);

/*
 * Accepts one connection of ${listener}, tuned as above. -1 on error; with
 * NC_ERROR_RESOURCE (descriptors used up) wait a little before the next try.
 */
int nc_tcp_accept(int listener, GError **error);

/* Options of a TCP socket that came from elsewhere; other sockets are left alone. */
bool nc_tcp_tune(int fd, GError **error);

/* Numeric "address:port" of the other end ("unknown" if it has none). Caller frees. */
char *nc_tcp_peer_address(int fd);
/*
 * Whom the other end's address belongs to, as text for counting by: the IPv4 address, or of an IPv6 address the first 64 bits
 * ("2001:db8:0:1::"), since one host has all of the others. "unknown" if it has none. Caller frees.
 */
char *nc_tcp_peer_network(int fd);
/* The local port; 0 if it has none. */
unsigned nc_tcp_local_port(int fd);
