/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As much of WebSockets (RFC 6455) as telling needs: the opening handshake,
 * frames that we send, and control frames that clients send. Whoever sends us
 * data is told that nobody listens (1003): then nothing of a stranger's is ever
 * longer than 125 bytes. Pure: knows headers and bytes, not connections.
 */
#pragma once

#include "gate/problem.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- the opening handshake --- */

#define NC_WS_KEY_BYTES 24    /* base64 of 16 bytes */
#define NC_WS_ACCEPT_BYTES 28 /* base64 of SHA-1 */

typedef struct {
  unsigned keys, versions;
  bool upgrade, websocket, version_13; /* Connection: upgrade; Upgrade: websocket; Sec-WebSocket-Version: 13 */
  char key[NC_WS_KEY_BYTES + 1];       /* "" : none, or not of that length */
} NcWsOffer;

/* Counts one header in; ${value} NULL is an empty one. */
void nc_ws_offer_add(NcWsOffer *offer, const char *name, const char *value);

/*
 * Is it a handshake that may go on (whose page asks, gate/origin.h says)? If not: *ret_problem and a text (static).
 */
bool nc_ws_offer_check(const NcWsOffer *offer, NcHttpProblem *ret_problem, const char **ret_detail);

/* The value of Sec-WebSocket-Accept for ${key}. */
void nc_ws_accept(const char *key, char ret[NC_WS_ACCEPT_BYTES + 1]);

/* --- frames --- */

#define NC_WS_CONTROL_BYTES 125

enum { NC_WS_TEXT = 1, NC_WS_CLOSE = 8, NC_WS_PING = 9, NC_WS_PONG = 10 };
/* Codes of a close. */
enum { NC_WS_OVER = 1000, NC_WS_AWAY = 1001, NC_WS_BROKEN = 1002, NC_WS_NO_DATA = 1003, NC_WS_NOT_TEXT = 1007, NC_WS_TOO_MUCH = 1008, NC_WS_FAILED = 1011 };

/* A whole frame from a server. */
GBytes *nc_ws_frame(unsigned opcode, const void *payload, size_t length_bytes);
/* A close; ${reason} is cut to what fits. */
GBytes *nc_ws_frame_close(unsigned code, const char *reason);

/* What came so far of a client's frame: at most 2 + 4 + 125 bytes. Zero it to begin. */
typedef struct {
  uint8_t head[6];
  unsigned head_bytes, payload_bytes;
  bool broken; /* garbage came: whatever follows is swallowed */
  uint8_t payload[NC_WS_CONTROL_BYTES];
} NcWsReader;

typedef enum {
  NC_WS_GOT_NOTHING, /* more bytes are needed */
  NC_WS_GOT_PING,    /* payload is in the reader, until the next call */
  NC_WS_GOT_PONG,
  NC_WS_GOT_CLOSE,
  NC_WS_GOT_GARBAGE, /* the connection is to be closed with *ret_code and *ret_why (static) */
} NcWsGot;

/* Takes bytes up to the end of a frame; *ret_used: how many. */
NcWsGot nc_ws_read(NcWsReader *reader, const uint8_t *data, size_t length_bytes, size_t *ret_used, unsigned *ret_code, const char **ret_why);
