/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/stream.h"
#include "base/bytes.h"
#include "base/ident.h"

#include <string.h>
#include <sys/random.h>

#define NC_STREAM_HEAD_BYTES 16384
#define NC_STREAM_MESSAGE_BYTES (4u << 20) /* what novacrond can say at once */
#define NC_STREAM_HANDSHAKE_MS 30000
#define NC_STREAM_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

enum { NC_STREAM_TEXT = 1, NC_STREAM_CLOSE = 8, NC_STREAM_PING = 9, NC_STREAM_PONG = 10 };

struct NcStream {
  NcClientConnection *connection;
  GByteArray *in; /* what has come and was not taken yet */
};

/* Reads what is there, within ${wait_ms}. *ret_more: something came. */
static bool
nc_stream_fill(NcStream *s, int wait_ms, bool *ret_more, GError **error)
{
  uint8_t buffer[16384];
  size_t n = 0;

  if (!nc_client_receive(s->connection, buffer, sizeof buffer, wait_ms, &n, error))
    return false;
  g_byte_array_append(s->in, buffer, (guint)n);
  *ret_more = n > 0;
  return true;
}

/* --- the handshake --- */

static char *
nc_stream_accept_of(const char *key)
{
  g_autofree char *text = g_strconcat(key, NC_STREAM_GUID, NULL);
  g_autoptr(GChecksum) sha1 = g_checksum_new(G_CHECKSUM_SHA1);
  guint8 digest[20];
  gsize length = sizeof digest;

  g_checksum_update(sha1, (const guchar *)text, (gssize)strlen(text));
  g_checksum_get_digest(sha1, digest, &length);
  return g_base64_encode(digest, length);
}

static bool
nc_stream_check_head(const char *head, const char *key, GError **error)
{
  guint64 status = g_str_has_prefix(head, "HTTP/1.1 ") ? g_ascii_strtoull(head + strlen("HTTP/1.1 "), NULL, 10) : 0;
  g_autofree char *accept = nc_stream_accept_of(key);
  g_autofree char *line = g_strconcat("Sec-WebSocket-Accept: ", accept, "\r\n", NULL);

  if (status == 503 || status == 429)
    return nc_fail(error, NC_ERROR_RESOURCE, "too many are watching already: try again later");
  if (status == 502 || status == 504)
    return nc_fail(error, NC_ERROR_UNREACHABLE, "novacrond does not answer the gate");
  if (status != 101 || !strstr(head, line))
    return nc_fail(error, NC_ERROR_PROTOCOL, "the gate does not let anybody watch (HTTP status %u): is it of an older version?", (unsigned)status);
  return true;
}

static bool
nc_stream_shake(NcStream *s, const char *path, const char *token, GError **error)
{
  uint8_t random[16];
  int64_t end_us = nc_mono_us() + NC_STREAM_HANDSHAKE_MS * INT64_C(1000);

  if (getrandom(random, sizeof random, 0) != sizeof random)
    return nc_fail(error, NC_ERROR_INTERNAL, "no random numbers");
  g_autofree char *key = g_base64_encode(random, sizeof random);
  g_autofree char *request = g_strdup_printf("GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                                             "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s%s%s\r\n",
                                             path, key, token ? "Authorization: Bearer " : "", token ? token : "", token ? "\r\n" : "");
  if (!nc_client_send(s->connection, request, strlen(request), error))
    return false;
  for (;;) {
    bool more;
    /* memmem() must not be given the null that an array is while nothing has come. */
    const char *end = s->in->len ? memmem(s->in->data, s->in->len, "\r\n\r\n", 4) : NULL;
    if (end) {
      guint length = (guint)(end + 4 - (const char *)s->in->data);
      g_autofree char *head = g_strndup((const char *)s->in->data, length);
      g_byte_array_remove_range(s->in, 0, length);
      return nc_stream_check_head(head, key, error);
    }
    if (s->in->len > NC_STREAM_HEAD_BYTES || nc_mono_us() > end_us)
      return nc_fail(error, NC_ERROR_PROTOCOL, "the gate does not answer as a WebSocket");
    if (!nc_stream_fill(s, 1000, &more, error))
      return false;
  }
}

NcStream *
nc_stream_open(const NcCli *cli, const char *path, GError **error)
{
  NcClientConnection *connection = nc_client_connect(cli, error);

  if (!connection)
    return NULL;
  NcStream *s = g_new0(NcStream, 1);
  s->connection = connection;
  s->in = g_byte_array_new();
  if (nc_stream_shake(s, path, cli->token, error))
    return s;
  nc_stream_close(s);
  return NULL;
}

void
nc_stream_close(NcStream *s)
{
  if (!s)
    return;
  nc_client_disconnect(s->connection);
  g_byte_array_unref(s->in);
  g_free(s);
}

/* --- frames --- */

static bool
nc_stream_pong(NcStream *s, const uint8_t *payload, size_t length, GError **error)
{
  uint8_t frame[2 + 4 + 125] = { 0x80 | NC_STREAM_PONG, (uint8_t)(0x80 | length) };

  if (getrandom(frame + 2, 4, 0) != 4)
    return nc_fail(error, NC_ERROR_INTERNAL, "no random numbers");
  for (size_t i = 0; i < length; i++)
    frame[6 + i] = payload[i] ^ frame[2 + i % 4];
  return nc_client_send(s->connection, frame, 6 + length, error);
}

/* The first whole frame of what has come; *ret_whole: there is one. It stays until it is dropped. */
static bool
nc_stream_peek(const NcStream *s, unsigned *ret_opcode, const uint8_t **ret_payload, uint64_t *ret_length, bool *ret_whole, GError **error)
{
  NcReader in = nc_reader(s->in->data, s->in->len);
  uint8_t first, second;
  uint16_t medium = 0;

  *ret_whole = false;
  if (!nc_reader_u8(&in, &first) || !nc_reader_u8(&in, &second))
    return true;
  *ret_opcode = first & 0x0f;
  *ret_length = second & 0x7f;
  if ((first & 0xf0) != 0x80 || (second & 0x80))
    return nc_fail(error, NC_ERROR_PROTOCOL, "the gate sends frames in pieces, masked or with extensions");
  if ((second == 126 && !nc_reader_u16(&in, &medium)) || (second == 127 && !nc_reader_u64(&in, ret_length)))
    return true;
  if (second == 126)
    *ret_length = medium;
  if (*ret_length > (*ret_opcode & 8 ? 125 : NC_STREAM_MESSAGE_BYTES))
    return nc_fail(error, NC_ERROR_PROTOCOL, "the gate announced a message of %" G_GUINT64_FORMAT " bytes", *ret_length);
  *ret_payload = nc_reader_take(&in, (size_t)*ret_length);
  *ret_whole = *ret_payload != NULL;
  return true;
}

static json_t *
nc_stream_read_text(const uint8_t *payload, uint64_t length, GError **error)
{
  json_t *message = json_loadb((const char *)payload, (size_t)length, JSON_REJECT_DUPLICATES, NULL);

  if (json_is_object(message))
    return message;
  json_decref(message);
  nc_fail(error, NC_ERROR_PROTOCOL, "a message of the gate's is no JSON object");
  return NULL;
}

/* Deals with one frame. NULL without error: it was none that is for the caller. */
static json_t *
nc_stream_on_frame(NcStream *s, unsigned opcode, const uint8_t *payload, uint64_t length, unsigned *ret_code, GError **error)
{
  switch (opcode) {
  case NC_STREAM_TEXT:
    return nc_stream_read_text(payload, length, error);
  case NC_STREAM_PING:
    nc_stream_pong(s, payload, (size_t)length, error);
    return NULL;
  case NC_STREAM_CLOSE: {
    g_autofree char *reason = length > 2 ? g_utf8_make_valid((const char *)payload + 2, (gssize)length - 2) : g_strdup("without a reason");
    *ret_code = length >= 2 ? nc_be16(payload) : 1005;
    nc_fail(error, NC_ERROR_UNREACHABLE, "the gate closed the connection (%u): %s", *ret_code, reason);
    return NULL;
  }
  case NC_STREAM_PONG:
    return NULL;
  default:
    nc_fail(error, NC_ERROR_PROTOCOL, "the gate sent a frame of kind %u", opcode);
    return NULL;
  }
}

json_t *
nc_stream_next(NcStream *s, int wait_ms, unsigned *ret_code, GError **error)
{
  *ret_code = 0;
  for (;;) {
    g_autoptr(GError) problem = NULL;
    unsigned opcode = 0;
    const uint8_t *payload = NULL;
    uint64_t length = 0;
    bool whole, more;
    if (!nc_stream_peek(s, &opcode, &payload, &length, &whole, error))
      return NULL;
    if (whole) {
      json_t *message = nc_stream_on_frame(s, opcode, payload, length, ret_code, &problem);
      g_byte_array_remove_range(s->in, 0, (guint)(payload + length - s->in->data));
      if (!problem && !message)
        continue;
      if (problem)
        g_propagate_error(error, g_steal_pointer(&problem));
      return message;
    }
    if (!nc_stream_fill(s, wait_ms, &more, error) || !more)
      return NULL;
  }
}
