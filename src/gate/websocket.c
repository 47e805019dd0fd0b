/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/websocket.h"
#include "base/bytes.h"

#include <string.h>

#define NC_WS_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" /* RFC 6455, 1.3 */

/* --- the opening handshake --- */

/* Is ${token} in a list with commas? */
static bool
nc_ws_list_has(const char *list, const char *token)
{
  g_auto(GStrv) items = g_strsplit(list, ",", 32);

  for (size_t i = 0; items[i]; i++)
    if (g_ascii_strcasecmp(g_strstrip(items[i]), token) == 0)
      return true;
  return false;
}

void
nc_ws_offer_add(NcWsOffer *offer, const char *name, const char *value)
{
  if (!value)
    value = "";
  if (g_ascii_strcasecmp(name, "Connection") == 0) {
    offer->upgrade |= nc_ws_list_has(value, "upgrade");
  } else if (g_ascii_strcasecmp(name, "Upgrade") == 0) {
    offer->websocket |= nc_ws_list_has(value, "websocket");
  } else if (g_ascii_strcasecmp(name, "Sec-WebSocket-Version") == 0) {
    offer->versions++;
    offer->version_13 = g_str_equal(value, "13");
  } else if (g_ascii_strcasecmp(name, "Sec-WebSocket-Key") == 0) {
    offer->keys++;
    g_strlcpy(offer->key, strlen(value) == NC_WS_KEY_BYTES ? value : "", sizeof offer->key);
  }
}

static bool
nc_ws_key_is_valid(const char *key)
{
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  /* 16 bytes are 22 digits and two "="; the last digit holds 2 bits. */
  return strspn(key, digits) == 22 && g_str_equal(key + 22, "==") && strchr("AQgw", key[21]);
}

bool
nc_ws_offer_check(const NcWsOffer *offer, NcHttpProblem *ret_problem, const char **ret_detail)
{
  *ret_problem = NC_HTTP_UPGRADE;
  *ret_detail = "this resource is a WebSocket: connect with ws or wss, version 13";
  if (!offer->upgrade || !offer->websocket || !offer->version_13 || offer->versions != 1)
    return false;
  *ret_problem = NC_HTTP_BAD_REQUEST;
  *ret_detail = "there must be exactly one Sec-WebSocket-Key, base64 of 16 bytes";
  return offer->keys == 1 && nc_ws_key_is_valid(offer->key);
}

void
nc_ws_accept(const char *key, char ret[NC_WS_ACCEPT_BYTES + 1])
{
  g_autoptr(GChecksum) sha1 = g_checksum_new(G_CHECKSUM_SHA1); /* no secret: proves that the server speaks this protocol */
  guint8 digest[20];
  gsize length = sizeof digest;

  g_checksum_update(sha1, (const guchar *)key, (gssize)strlen(key));
  g_checksum_update(sha1, (const guchar *)NC_WS_GUID, (gssize)strlen(NC_WS_GUID));
  g_checksum_get_digest(sha1, digest, &length);
  g_autofree char *text = g_base64_encode(digest, length);
  g_strlcpy(ret, text, NC_WS_ACCEPT_BYTES + 1);
}

/* --- frames that we send --- */

GBytes *
nc_ws_frame(unsigned opcode, const void *payload, size_t length_bytes)
{
  g_autoptr(GByteArray) frame = g_byte_array_sized_new((guint)length_bytes + 10);

  nc_put_u8(frame, (uint8_t)(0x80 | opcode));
  if (length_bytes < 126) {
    nc_put_u8(frame, (uint8_t)length_bytes);
  } else if (length_bytes < 65536) {
    nc_put_u8(frame, 126);
    nc_put_u16(frame, (uint16_t)length_bytes);
  } else {
    nc_put_u8(frame, 127);
    nc_put_u64(frame, length_bytes);
  }
  g_byte_array_append(frame, payload, (guint)length_bytes);
  return g_byte_array_free_to_bytes(g_steal_pointer(&frame));
}

GBytes *
nc_ws_frame_close(unsigned code, const char *reason)
{
  uint8_t payload[NC_WS_CONTROL_BYTES];
  const char *end = NULL;
  size_t length = MIN(strlen(reason), sizeof payload - 2);

  nc_store_be16(payload, (uint16_t)code);
  g_utf8_validate(reason, (gssize)length, &end); /* not through the middle of a character */
  length = (size_t)(end - reason);
  memcpy(payload + 2, reason, length);
  return nc_ws_frame(NC_WS_CLOSE, payload, length + 2);
}

/* --- frames that clients send --- */

static NcWsGot
nc_ws_garbage(unsigned code, const char *why, unsigned *ret_code, const char **ret_why)
{
  *ret_code = code;
  *ret_why = why;
  return NC_WS_GOT_GARBAGE;
}

/* The first two bytes tell whether the rest will ever be read. */
static NcWsGot
nc_ws_check_head(const uint8_t *head, unsigned *ret_code, const char **ret_why)
{
  unsigned opcode = head[0] & 0x0f;

  if (head[0] & 0x70)
    return nc_ws_garbage(NC_WS_BROKEN, "no extension was agreed on", ret_code, ret_why);
  if (!(head[1] & 0x80))
    return nc_ws_garbage(NC_WS_BROKEN, "frames of clients must be masked", ret_code, ret_why);
  if (opcode <= 2)
    return nc_ws_garbage(NC_WS_NO_DATA, "nobody reads data here: this only tells", ret_code, ret_why);
  if (opcode != NC_WS_CLOSE && opcode != NC_WS_PING && opcode != NC_WS_PONG)
    return nc_ws_garbage(NC_WS_BROKEN, "unknown kind of frame", ret_code, ret_why);
  if (!(head[0] & 0x80) || (head[1] & 0x7f) > NC_WS_CONTROL_BYTES)
    return nc_ws_garbage(NC_WS_BROKEN, "control frames are whole and have at most 125 bytes", ret_code, ret_why);
  return NC_WS_GOT_NOTHING;
}

static bool
nc_ws_close_code_is_valid(unsigned code)
{
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

static NcWsGot
nc_ws_check_close(const NcWsReader *reader, unsigned *ret_code, const char **ret_why)
{
  unsigned n = reader->payload_bytes;

  if (n == 1 || (n >= 2 && !nc_ws_close_code_is_valid(nc_be16(reader->payload))))
    return nc_ws_garbage(NC_WS_BROKEN, "a close without a proper code", ret_code, ret_why);
  if (n > 2 && !g_utf8_validate((const char *)reader->payload + 2, n - 2, NULL))
    return nc_ws_garbage(NC_WS_NOT_TEXT, "the reason of a close must be UTF-8", ret_code, ret_why);
  return NC_WS_GOT_CLOSE;
}

static NcWsGot
nc_ws_finish(NcWsReader *reader, unsigned *ret_code, const char **ret_why)
{
  unsigned opcode = reader->head[0] & 0x0f;

  for (unsigned i = 0; i < reader->payload_bytes; i++)
    reader->payload[i] ^= reader->head[2 + i % 4];
  reader->head_bytes = 0; /* the next call begins a new frame */
  if (opcode == NC_WS_CLOSE)
    return nc_ws_check_close(reader, ret_code, ret_why);
  return opcode == NC_WS_PING ? NC_WS_GOT_PING : NC_WS_GOT_PONG;
}

NcWsGot
nc_ws_read(NcWsReader *reader, const uint8_t *data, size_t length_bytes, size_t *ret_used, unsigned *ret_code, const char **ret_why)
{
  NcReader in = nc_reader(data, length_bytes);
  NcWsGot got = NC_WS_GOT_NOTHING;
  uint8_t byte;

  *ret_used = length_bytes;
  if (reader->broken)
    return NC_WS_GOT_NOTHING;
  if (reader->head_bytes == 0)
    reader->payload_bytes = 0;
  while (got == NC_WS_GOT_NOTHING) {
    if (reader->head_bytes == sizeof reader->head && reader->payload_bytes == (reader->head[1] & 0x7fu))
      got = nc_ws_finish(reader, ret_code, ret_why);
    else if (!nc_reader_u8(&in, &byte))
      break;
    else if (reader->head_bytes == sizeof reader->head)
      reader->payload[reader->payload_bytes++] = byte;
    else if (reader->head[reader->head_bytes++] = byte, reader->head_bytes == 2)
      got = nc_ws_check_head(reader->head, ret_code, ret_why);
  }
  *ret_used = length_bytes - nc_reader_left(&in);
  reader->broken = got == NC_WS_GOT_GARBAGE;
  return got;
}
