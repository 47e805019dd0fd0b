/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol as in https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, and of that what we use. */
#include "qemu/nbd.h"
#include "base/bytes.h"
#include "base/io.h"

#include <string.h>
#include <sys/socket.h>

#define NC_NBD_GREETING UINT64_C(0x4e42444d41474943) /* "NBDMAGIC" */
#define NC_NBD_OPTION UINT64_C(0x49484156454f5054)   /* "IHAVEOPT" */
#define NC_NBD_OPTION_REPLY UINT64_C(0x0003e889045565a9)
#define NC_NBD_REQUEST 0x25609513u
#define NC_NBD_SIMPLE 0x67446698u
#define NC_NBD_STRUCTURED 0x668e33efu

enum { NC_NBD_FIXED_NEWSTYLE = 1, NC_NBD_NO_ZEROES = 2 };
enum { NC_NBD_OPT_GO = 7, NC_NBD_OPT_STRUCTURED = 8, NC_NBD_OPT_META = 10 };
enum { NC_NBD_REP_ACK = 1, NC_NBD_REP_INFO = 3, NC_NBD_REP_META = 4 };
#define NC_NBD_REP_ERROR 0x80000000u
enum { NC_NBD_CMD_READ, NC_NBD_CMD_WRITE, NC_NBD_CMD_DISC, NC_NBD_CMD_FLUSH, NC_NBD_CMD_BLOCK_STATUS = 7 };
enum { NC_NBD_CHUNK_NONE, NC_NBD_CHUNK_DATA, NC_NBD_CHUNK_HOLE, NC_NBD_CHUNK_STATUS = 5 };
#define NC_NBD_CHUNK_ERROR 0x8000u
#define NC_NBD_STATE_ZERO 2u
#define NC_NBD_STATE_DIRTY 1u /* of a bitmap */
/* Of an option's reply or an error's text: far more than any server says. */
#define NC_NBD_TEXT_MAX 65536u
/* Replies to one option. */
#define NC_NBD_REPLIES_MAX 32
/* Extents in one answer; we ask for the first only, older servers say more. */
#define NC_NBD_EXTENTS_MAX 65536u

struct NcNbd {
  int fd;
  int timeout_ms;
  uint64_t size;
  bool structured;
  const char *context; /* what extents are asked for; only while connecting */
  bool extents;        /* it was agreed on */
  uint32_t extents_id;
  uint64_t handle; /* of the last request */
  bool broken;     /* the connection is not in step any more */
};

/* A reply being read. */
typedef struct {
  uint64_t offset; /* of the request */
  uint8_t *data;   /* where a read goes; NULL for other requests */
  uint32_t length; /* of the request */
  uint32_t filled; /* of a read: bytes that have come */
  uint32_t extent_length, extent_flags;
  char *problem; /* the server's words */
} NcNbdReply;

static bool
nc_nbd_get(NcNbd *nbd, void *data, size_t length, GError **error)
{
  if (nc_read_all(nbd->fd, data, length, nbd->timeout_ms, error))
    return true;
  nbd->broken = true;
  g_prefix_error(error, "NBD server: ");
  return false;
}

static bool
nc_nbd_put(NcNbd *nbd, const void *data, size_t length, GError **error)
{
  if (nc_write_all(nbd->fd, data, length, error))
    return true;
  nbd->broken = true;
  g_prefix_error(error, "NBD server: ");
  return false;
}

static bool
nc_nbd_nonsense(NcNbd *nbd, const char *what, GError **error)
{
  nbd->broken = true;
  return nc_fail(error, NC_ERROR_PROTOCOL, "the NBD server sends nonsense: %s", what);
}

/* --- the handshake --- */

static bool
nc_nbd_send_option(NcNbd *nbd, uint32_t option, const GByteArray *body, GError **error)
{
  g_autoptr(GByteArray) out = g_byte_array_new();
  nc_put_u64(out, NC_NBD_OPTION);
  nc_put_u32(out, option);
  nc_put_u32(out, body->len);
  g_byte_array_append(out, body->data, body->len);
  return nc_nbd_put(nbd, out->data, out->len, error);
}

/* One reply to ${option}; ${body} is replaced. */
static bool
nc_nbd_get_option_reply(NcNbd *nbd, uint32_t option, uint32_t *ret_type, GByteArray *body, GError **error)
{
  uint8_t head[20];
  if (!nc_nbd_get(nbd, head, sizeof head, error))
    return false;
  uint32_t length = nc_be32(head + 16);
  if (nc_be64(head) != NC_NBD_OPTION_REPLY || nc_be32(head + 8) != option || length > NC_NBD_TEXT_MAX)
    return nc_nbd_nonsense(nbd, "a reply to no question", error);
  *ret_type = nc_be32(head + 12);
  g_byte_array_set_size(body, length);
  return nc_nbd_get(nbd, body->data, length, error);
}

static bool
nc_nbd_take_info(NcNbd *nbd, uint32_t option, uint32_t type, const GByteArray *body)
{
  NcReader r = nc_reader(body->data, body->len);
  uint16_t info;
  uint32_t id;

  if (option == NC_NBD_OPT_GO && type == NC_NBD_REP_INFO)
    return nc_reader_u16(&r, &info) && (info != 0 || nc_reader_u64(&r, &nbd->size));
  if (option == NC_NBD_OPT_META && type == NC_NBD_REP_META && nc_reader_u32(&r, &id)) {
    if (nc_reader_left(&r) != strlen(nbd->context) || memcmp(r.at, nbd->context, strlen(nbd->context)) != 0)
      return false;
    nbd->extents = true;
    nbd->extents_id = id;
    return true;
  }
  return false;
}

/* True with *ret_agreed: ACK; true without: the server does not want to, its words are in ${ret_why} (if any). */
static bool
nc_nbd_negotiate(NcNbd *nbd, uint32_t option, const GByteArray *question, bool *ret_agreed, char **ret_why, GError **error)
{
  g_autoptr(GByteArray) body = g_byte_array_new();
  uint32_t type = 0;

  if (!nc_nbd_send_option(nbd, option, question, error))
    return false;
  for (int i = 0; i < NC_NBD_REPLIES_MAX; i++) {
    if (!nc_nbd_get_option_reply(nbd, option, &type, body, error))
      return false;
    if (type == NC_NBD_REP_ACK || type & NC_NBD_REP_ERROR) {
      *ret_agreed = type == NC_NBD_REP_ACK;
      if (!*ret_agreed && ret_why)
        *ret_why = g_strndup((const char *)body->data, body->len);
      return true;
    }
    if (!nc_nbd_take_info(nbd, option, type, body))
      return nc_nbd_nonsense(nbd, "an answer that does not fit its question", error);
  }
  return nc_nbd_nonsense(nbd, "too many answers to one question", error);
}

static void
nc_nbd_put_text(GByteArray *out, const char *text)
{
  nc_put_u32(out, (uint32_t)strlen(text));
  g_byte_array_append(out, (const guint8 *)text, (guint)strlen(text));
}

static bool
nc_nbd_ask_extents(NcNbd *nbd, const char *name, GError **error)
{
  g_autoptr(GByteArray) question = g_byte_array_new();
  bool agreed;

  if (!nc_nbd_negotiate(nbd, NC_NBD_OPT_STRUCTURED, question, &nbd->structured, NULL, error))
    return false;
  if (!nbd->structured)
    return true;
  nc_nbd_put_text(question, name);
  nc_put_u32(question, 1);
  nc_nbd_put_text(question, nbd->context);
  if (!nc_nbd_negotiate(nbd, NC_NBD_OPT_META, question, &agreed, NULL, error))
    return false;
  nbd->extents = nbd->extents && agreed;
  return true;
}

static bool
nc_nbd_handshake(NcNbd *nbd, const char *name, GError **error)
{
  g_autoptr(GByteArray) question = g_byte_array_new();
  g_autofree char *why = NULL;
  uint8_t greeting[18], flags[4];
  bool agreed;

  if (!nc_nbd_get(nbd, greeting, sizeof greeting, error))
    return false;
  if (nc_be64(greeting) != NC_NBD_GREETING || nc_be64(greeting + 8) != NC_NBD_OPTION ||
      !(nc_be16(greeting + 16) & NC_NBD_FIXED_NEWSTYLE))
    return nc_nbd_nonsense(nbd, "this is no greeting", error);
  nc_store_be32(flags, NC_NBD_FIXED_NEWSTYLE | (nc_be16(greeting + 16) & NC_NBD_NO_ZEROES));
  if (!nc_nbd_put(nbd, flags, sizeof flags, error) || !nc_nbd_ask_extents(nbd, name, error))
    return false;
  nc_nbd_put_text(question, name);
  nc_put_u16(question, 0);
  if (!nc_nbd_negotiate(nbd, NC_NBD_OPT_GO, question, &agreed, &why, error))
    return false;
  return agreed || nc_fail(error, NC_ERROR_NOT_FOUND, "the NBD server does not give export %s: %s", name, why);
}

static NcNbd *
nc_nbd_connect_context(const char *socket_path, const char *export_name, const char *context, int timeout_ms, GError **error)
{
  int fd = nc_unix_connect(socket_path, error);
  if (fd < 0)
    return NULL;
  g_autoptr(NcNbd) nbd = g_new0(NcNbd, 1);
  nbd->fd = fd;
  nbd->timeout_ms = timeout_ms;
  nbd->context = context;
  nbd->broken = true; /* no goodbye before there was a greeting */
  if (!nc_nbd_handshake(nbd, export_name, error))
    return NULL;
  nbd->broken = false;
  nbd->context = NULL;
  return g_steal_pointer(&nbd);
}

NcNbd *
nc_nbd_connect(const char *socket_path, const char *export_name, int timeout_ms, GError **error)
{
  return nc_nbd_connect_context(socket_path, export_name, "base:allocation", timeout_ms, error);
}

NcNbd *
nc_nbd_connect_bitmap(const char *socket_path, const char *export_name, const char *bitmap, int timeout_ms, GError **error)
{
  g_autofree char *context = g_strconcat("qemu:dirty-bitmap:", bitmap, NULL);
  g_autoptr(NcNbd) nbd = nc_nbd_connect_context(socket_path, export_name, context, timeout_ms, error);

  if (nbd && !nbd->extents) {
    nc_fail(error, NC_ERROR_UNSUITABLE, "the NBD server does not tell of the bitmap %s", bitmap);
    return NULL;
  }
  return g_steal_pointer(&nbd);
}

uint64_t
nc_nbd_size(const NcNbd *nbd)
{
  return nbd->size;
}

/* --- requests --- */

static bool
nc_nbd_ask(NcNbd *nbd, uint16_t flags, uint16_t command, uint64_t offset, uint32_t length, GError **error)
{
  uint8_t request[28];

  if (nbd->broken)
    return nc_fail(error, NC_ERROR_IO, "the connection to the NBD server is broken");
  nc_store_be32(request, NC_NBD_REQUEST);
  nc_store_be16(request + 4, flags);
  nc_store_be16(request + 6, command);
  nc_store_be64(request + 8, ++nbd->handle);
  nc_store_be64(request + 16, offset);
  nc_store_be32(request + 24, length);
  return nc_nbd_put(nbd, request, sizeof request, error);
}

static bool
nc_nbd_simple_reply(NcNbd *nbd, NcNbdReply *reply, GError **error)
{
  uint8_t head[12];
  if (!nc_nbd_get(nbd, head, sizeof head, error))
    return false;
  if (nc_be64(head + 4) != nbd->handle)
    return nc_nbd_nonsense(nbd, "an answer to another request", error);
  if (nc_be32(head)) {
    reply->problem = g_strdup(g_strerror((int)(nc_be32(head) & 0x7fffffff)));
    return true;
  }
  if (!reply->data)
    return true;
  reply->filled = reply->length;
  return nc_nbd_get(nbd, reply->data, reply->length, error);
}

/* Is [${offset}, +${length}) inside the request? *ret_at: where it goes. */
static bool
nc_nbd_place(const NcNbdReply *reply, uint64_t offset, uint32_t length, uint32_t *ret_at)
{
  if (!reply->data || offset < reply->offset || offset - reply->offset > reply->length)
    return false;
  *ret_at = (uint32_t)(offset - reply->offset);
  /* Each byte once: the sum of all parts is all there is. */
  return length <= reply->length - *ret_at && length <= reply->length - reply->filled;
}

static bool
nc_nbd_data_chunk(NcNbd *nbd, NcNbdReply *reply, uint32_t length, GError **error)
{
  uint8_t head[8];
  uint32_t at;

  if (length < sizeof head)
    return nc_nbd_nonsense(nbd, "data without a place", error);
  if (!nc_nbd_get(nbd, head, sizeof head, error))
    return false;
  length -= (uint32_t)sizeof head;
  if (!nc_nbd_place(reply, nc_be64(head), length, &at))
    return nc_nbd_nonsense(nbd, "data that was not asked for", error);
  reply->filled += length;
  return nc_nbd_get(nbd, reply->data + at, length, error);
}

static bool
nc_nbd_hole_chunk(NcNbd *nbd, NcNbdReply *reply, uint32_t length, GError **error)
{
  uint8_t body[12];
  uint32_t at;

  if (length != sizeof body)
    return nc_nbd_nonsense(nbd, "a hole without its size", error);
  if (!nc_nbd_get(nbd, body, sizeof body, error))
    return false;
  if (!nc_nbd_place(reply, nc_be64(body), nc_be32(body + 8), &at))
    return nc_nbd_nonsense(nbd, "a hole that was not asked for", error);
  reply->filled += nc_be32(body + 8);
  memset(reply->data + at, 0, nc_be32(body + 8));
  return true;
}

static bool
nc_nbd_status_chunk(NcNbd *nbd, NcNbdReply *reply, uint32_t length, GError **error)
{
  g_autofree uint8_t *body = NULL;

  if (length < 12 || length > 4 + 8 * NC_NBD_EXTENTS_MAX)
    return nc_nbd_nonsense(nbd, "extents of no size", error);
  body = g_malloc(length);
  if (!nc_nbd_get(nbd, body, length, error))
    return false;
  if (nc_be32(body) != nbd->extents_id)
    return true; /* of something we did not ask for */
  reply->extent_length = nc_be32(body + 4);
  reply->extent_flags = nc_be32(body + 8);
  return true;
}

static bool
nc_nbd_error_chunk(NcNbd *nbd, NcNbdReply *reply, uint32_t length, GError **error)
{
  g_autofree uint8_t *body = NULL;

  if (length < 6 || length > NC_NBD_TEXT_MAX)
    return nc_nbd_nonsense(nbd, "an error of no size", error);
  body = g_malloc(length);
  if (!nc_nbd_get(nbd, body, length, error))
    return false;
  uint16_t text = nc_be16(body + 4);
  const char *cause = g_strerror((int)(nc_be32(body) & 0x7fffffff));
  g_free(reply->problem);
  reply->problem =
      text && text <= length - 6 ? g_strdup_printf("%.*s (%s)", text, (const char *)body + 6, cause) : g_strdup(cause);
  return true;
}

static bool
nc_nbd_structured_reply(NcNbd *nbd, NcNbdReply *reply, bool *ret_done, GError **error)
{
  uint8_t head[16];
  if (!nc_nbd_get(nbd, head, sizeof head, error))
    return false;
  uint16_t type = nc_be16(head + 2);
  uint32_t length = nc_be32(head + 12);
  *ret_done = head[1] & 1;
  if (nc_be64(head + 4) != nbd->handle)
    return nc_nbd_nonsense(nbd, "an answer to another request", error);
  if (type & NC_NBD_CHUNK_ERROR)
    return nc_nbd_error_chunk(nbd, reply, length, error);
  switch (type) {
  case NC_NBD_CHUNK_NONE:
    return length == 0 || nc_nbd_nonsense(nbd, "an end with a tail", error);
  case NC_NBD_CHUNK_DATA:
    return nc_nbd_data_chunk(nbd, reply, length, error);
  case NC_NBD_CHUNK_HOLE:
    return nc_nbd_hole_chunk(nbd, reply, length, error);
  case NC_NBD_CHUNK_STATUS:
    return nc_nbd_status_chunk(nbd, reply, length, error);
  default:
    return nc_nbd_nonsense(nbd, "a kind of answer that does not exist", error);
  }
}

/* Reads until the request is answered. Every part takes bytes of the request or ends it; parts without are bounded. */
static bool
nc_nbd_get_reply(NcNbd *nbd, NcNbdReply *reply, GError **error)
{
  uint32_t most = reply->length / 512 + 64; /* no server cuts finer than sectors */
  bool done = false;

  for (uint32_t part = 0; !done; part++) {
    uint8_t magic[4];
    if (part > most)
      return nc_nbd_nonsense(nbd, "an answer without end", error);
    if (!nc_nbd_get(nbd, magic, sizeof magic, error))
      return false;
    if (nc_be32(magic) == NC_NBD_SIMPLE && part == 0) {
      done = true;
      if (!nc_nbd_simple_reply(nbd, reply, error))
        return false;
    } else if (nc_be32(magic) == NC_NBD_STRUCTURED && nbd->structured) {
      if (!nc_nbd_structured_reply(nbd, reply, &done, error))
        return false;
    } else {
      return nc_nbd_nonsense(nbd, "this is no answer", error);
    }
  }
  return true;
}

/* The end of every request: what the server complains of becomes the error. */
static bool
nc_nbd_finish(NcNbd *nbd, NcNbdReply *reply, const char *what, GError **error)
{
  bool ok = nc_nbd_get_reply(nbd, reply, error);
  g_autofree char *problem = g_steal_pointer(&reply->problem);

  if (!ok)
    return false;
  if (problem)
    return nc_fail(error, NC_ERROR_IO, "NBD server: can't %s at %" G_GUINT64_FORMAT ": %s", what, reply->offset, problem);
  if (reply->data && reply->filled != reply->length)
    return nc_nbd_nonsense(nbd, "less than was asked for", error);
  return true;
}

static bool
nc_nbd_is_inside(const NcNbd *nbd, uint64_t offset, uint32_t length, GError **error)
{
  return (length > 0 && length <= NC_NBD_REQUEST_MAX && offset <= nbd->size && length <= nbd->size - offset) ||
         nc_fail(error, NC_ERROR_INVALID,
                 "%u bytes at %" G_GUINT64_FORMAT " are not inside a disk of %" G_GUINT64_FORMAT " bytes", length, offset,
                 nbd->size);
}

bool
nc_nbd_read(NcNbd *nbd, uint64_t offset, void *data, uint32_t length, GError **error)
{
  NcNbdReply reply = { .offset = offset, .data = data, .length = length };
  return nc_nbd_is_inside(nbd, offset, length, error) && nc_nbd_ask(nbd, 0, NC_NBD_CMD_READ, offset, length, error) &&
         nc_nbd_finish(nbd, &reply, "read", error);
}

bool
nc_nbd_write(NcNbd *nbd, uint64_t offset, const void *data, uint32_t length, GError **error)
{
  NcNbdReply reply = { .offset = offset };
  return nc_nbd_is_inside(nbd, offset, length, error) && nc_nbd_ask(nbd, 0, NC_NBD_CMD_WRITE, offset, length, error) &&
         nc_nbd_put(nbd, data, length, error) && nc_nbd_finish(nbd, &reply, "write", error);
}

bool
nc_nbd_flush(NcNbd *nbd, GError **error)
{
  NcNbdReply reply = { 0 };
  return nc_nbd_ask(nbd, 0, NC_NBD_CMD_FLUSH, 0, 0, error) && nc_nbd_finish(nbd, &reply, "flush", error);
}

/* The first extent from ${offset} on: reply->extent_length is 0 if nothing was said of it. */
static bool
nc_nbd_look(NcNbd *nbd, uint64_t offset, uint32_t limit, NcNbdReply *reply, GError **error)
{
  const uint16_t one = 1 << 3; /* NBD_CMD_FLAG_REQ_ONE */

  *reply = (NcNbdReply){ .offset = offset };
  if (!nc_nbd_is_inside(nbd, offset, MIN(limit, NC_NBD_REQUEST_MAX), error))
    return false;
  return !nbd->extents || (nc_nbd_ask(nbd, one, NC_NBD_CMD_BLOCK_STATUS, offset, limit, error) && nc_nbd_finish(nbd, reply, "look", error));
}

bool
nc_nbd_extent(NcNbd *nbd, uint64_t offset, uint32_t limit, uint32_t *ret_length, bool *ret_zero, GError **error)
{
  NcNbdReply reply;

  if (!nc_nbd_look(nbd, offset, limit, &reply, error))
    return false;
  *ret_length = reply.extent_length ? MIN(limit, reply.extent_length) : limit;
  *ret_zero = reply.extent_length && reply.extent_flags & NC_NBD_STATE_ZERO;
  return true;
}

bool
nc_nbd_is_dirty(NcNbd *nbd, uint64_t offset, uint32_t limit, uint32_t *ret_length, bool *ret_dirty, GError **error)
{
  NcNbdReply reply;

  if (!nc_nbd_look(nbd, offset, limit, &reply, error))
    return false;
  if (reply.extent_length == 0)
    return nc_nbd_nonsense(nbd, "nothing of a bitmap that it has", error);
  *ret_length = MIN(limit, reply.extent_length);
  *ret_dirty = reply.extent_flags & NC_NBD_STATE_DIRTY;
  return true;
}

void
nc_nbd_break(NcNbd *nbd)
{
  shutdown(nbd->fd, SHUT_RDWR);
}

void
nc_nbd_free(NcNbd *nbd)
{
  if (!nbd)
    return;
  nc_nbd_ask(nbd, 0, NC_NBD_CMD_DISC, 0, 0, NULL);
  nc_fd_clear(&nbd->fd);
  g_free(nbd);
}
