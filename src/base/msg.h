/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON messages over a stream: how our own processes talk to each other.
 *
 * One message is a 32-bit big-endian length followed by that many bytes of
 * JSON (an object). Over UNIX sockets a message may carry one descriptor. The
 * same framing runs between agents inside TLS (crypto/peer.h). Both ends
 * distrust each other all the same: length and nesting are bounded.
 */
#pragma once

#include "base/error.h"
#include "base/io.h"
#include <jansson.h>

#define NC_MSG_MAX_BYTES (4u << 20)  /* a machine list of 10 000 fits; a runaway does not */

/* `nc_autojson json_t *v = ...;` drops the reference at the end of the scope. */
#define nc_autojson __attribute__((cleanup(nc_json_clear)))
void nc_json_clear(json_t **json);

/* Serialised, framed bytes of ${message}; NULL if it can't be encoded or is too large. */
GByteArray *nc_msg_encode(json_t *message, GError **error);
/* Parses the JSON of one message (without length). New reference; NULL on error. Must be an object. */
json_t *nc_msg_decode(const void *data, size_t length_bytes, GError **error);

/*
 * Sends ${message} on the UNIX socket ${socket}; ${fd} >= 0 goes with it (the
 * caller keeps its copy). Not atomic against another sender: serialise.
 */
bool nc_msg_send(int socket, json_t *message, int fd, GError **error);

/*
 * Receives one message; new reference. ${timeout_ms} < 0 waits for ever. With
 * ${ret_fd} a passed descriptor (close-on-exec) or -1 is stored, owned by the
 * caller; without, one that arrives is closed. An orderly end before the first
 * byte is NC_ERROR_IO with message "closed".
 */
json_t *nc_msg_recv(int socket, int timeout_ms, int *ret_fd, GError **error);

/* Checked access for messages: NULL/false with NC_ERROR_PROTOCOL naming the key. Strings are borrowed. */
const char *nc_json_string(json_t *object, const char *key, GError **error);
bool nc_json_int(json_t *object, const char *key, int64_t minimum, int64_t maximum, int64_t *ret, GError **error);
/* Optional values: ${fallback} if the key is missing or of another type. */
const char *nc_json_string_or(json_t *object, const char *key, const char *fallback);
int64_t nc_json_int_or(json_t *object, const char *key, int64_t fallback);
double nc_json_number_or(json_t *object, const char *key, double fallback); /* whole or not */
bool nc_json_bool_or(json_t *object, const char *key, bool fallback);
/* The first object of the array ${list} that has the text ${value} under ${key}; NULL: none has, or it is no array. Borrowed. */
json_t *nc_json_find(json_t *list, const char *key, const char *value);
