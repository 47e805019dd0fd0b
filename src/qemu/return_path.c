/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Return-path messages: u16 type, u16 length, payload. One of them,
 * RECV_BITMAP, is followed by more than its length tells: u64 size, that many
 * bytes, and a u64 mark.
 */
#include "qemu/return_path.h"

#include "base/bytes.h"

#define BITMAP_END_MARK G_GUINT64_CONSTANT(0x0123456789abcdef)

enum { NAME_MAX_BYTES = 255, REQUEST_BYTES = 8 + 4 };

struct NcReturnPath {
  GByteArray *buffer;
  size_t taken; /* bytes at the front that were given out; dropped at the next feed */
  bool blind;
};

const uint8_t nc_return_shut_ok[8] = { 0, NC_RETURN_SHUT, 0, 4, 0, 0, 0, 0 };

static const struct {
  const char *name;
  uint16_t minimum; /* payload bytes */
  uint16_t maximum;
} types[] = {
  [NC_RETURN_BYTES] = { "bytes", 1, 0 }, /* no such message */
  [NC_RETURN_SHUT] = { "shut", 4, 4 },
  [NC_RETURN_PONG] = { "pong", 4, 4 },
  [NC_RETURN_REQ_PAGES_ID] = { "req-pages-id", REQUEST_BYTES + 2, REQUEST_BYTES + 1 + NAME_MAX_BYTES },
  [NC_RETURN_REQ_PAGES] = { "req-pages", REQUEST_BYTES, REQUEST_BYTES },
  [NC_RETURN_RECV_BITMAP] = { "recv-bitmap", 2, 1 + NAME_MAX_BYTES },
  [NC_RETURN_RESUME_ACK] = { "resume-ack", 4, 4 },
  [NC_RETURN_SWITCHOVER_ACK] = { "switchover-ack", 0, 0 },
};
G_STATIC_ASSERT(G_N_ELEMENTS(types) == NC_RETURN_TYPE_COUNT);

NcReturnPath *
nc_return_path_new(void)
{
  NcReturnPath *p = g_new0(NcReturnPath, 1);

  p->buffer = g_byte_array_new();
  return p;
}

void
nc_return_path_free(NcReturnPath *p)
{
  if (!p)
    return;
  g_byte_array_unref(p->buffer);
  g_free(p);
}

void
nc_return_path_feed(NcReturnPath *p, const void *data, size_t length)
{
  if (p->taken > 0)
    g_byte_array_remove_range(p->buffer, 0, (guint)p->taken);
  p->taken = 0;
  g_byte_array_append(p->buffer, data, (guint)length);
}

void
nc_return_path_go_blind(NcReturnPath *p)
{
  p->blind = true;
}

const char *
nc_return_type_name(NcReturnType type)
{
  return (size_t)type < G_N_ELEMENTS(types) ? types[type].name : "unknown";
}

static NcReturnOutcome
bad(GError **error, const char *what, unsigned type, uint64_t number)
{
  nc_fail(error, NC_ERROR_PROTOCOL, "return path: %s (type %u, %" G_GUINT64_FORMAT " bytes)", what, type, number);
  return NC_RETURN_BAD;
}

/* Whether the counted name fills the rest of the payload, as it must. The table's minimum leaves it a character. */
static bool
name_fits(NcReader payload)
{
  uint8_t length;

  return nc_reader_u8(&payload, &length) && nc_reader_left(&payload) == length;
}

static NcReturnOutcome
take_bitmap(NcReader *r, GError **error)
{
  uint64_t size, mark;

  if (!nc_reader_u64(r, &size))
    return NC_RETURN_MORE;
  if (size > NC_RETURN_BITMAP_MAX || size % 8 != 0)
    return bad(error, "bitmap of an impossible size", NC_RETURN_RECV_BITMAP, size);
  if (!nc_reader_take(r, size) || !nc_reader_u64(r, &mark))
    return NC_RETURN_MORE;
  if (mark != BITMAP_END_MARK)
    return bad(error, "bitmap without its end mark", NC_RETURN_RECV_BITMAP, size);
  return NC_RETURN_MESSAGE;
}

/* The payload's shape is checked against its type; then there is nothing left that could be missing. */
static NcReturnOutcome
take_payload(NcReader *r, NcReader payload, NcReturnMessage *m, GError **error)
{
  size_t length = nc_reader_left(&payload);

  switch (m->type) {
  case NC_RETURN_SHUT:
  case NC_RETURN_PONG:
  case NC_RETURN_RESUME_ACK:
    nc_reader_u32(&payload, &m->value);
    return NC_RETURN_MESSAGE;
  case NC_RETURN_REQ_PAGES_ID:
  case NC_RETURN_REQ_PAGES:
    nc_reader_u64(&payload, &m->page_offset);
    nc_reader_u32(&payload, &m->page_bytes);
    if (m->type == NC_RETURN_REQ_PAGES_ID && !name_fits(payload))
      return bad(error, "request without a proper block id", m->type, length);
    return NC_RETURN_MESSAGE;
  case NC_RETURN_RECV_BITMAP:
    return name_fits(payload) ? take_bitmap(r, error) : bad(error, "bitmap without a proper block id", m->type, length);
  default: /* SWITCHOVER_ACK has no payload; others do not get here */
    return NC_RETURN_MESSAGE;
  }
}

static NcReturnOutcome
take_message(NcReader *r, NcReturnMessage *m, GError **error)
{
  uint16_t type, length;
  const uint8_t *payload;

  if (!nc_reader_u16(r, &type))
    return NC_RETURN_MORE;
  if (type == NC_RETURN_BYTES || type >= NC_RETURN_TYPE_COUNT)
    return bad(error, "unknown message", type, 0);
  if (!nc_reader_u16(r, &length))
    return NC_RETURN_MORE;
  if (length < types[type].minimum || length > types[type].maximum)
    return bad(error, "message of a wrong length", type, length);
  if (!(payload = nc_reader_take(r, length)))
    return NC_RETURN_MORE;
  m->type = type;
  return take_payload(r, nc_reader(payload, length), m, error);
}

static NcReturnOutcome
take_blindly(NcReader *r, NcReturnMessage *m)
{
  m->type = NC_RETURN_BYTES;
  return nc_reader_take(r, nc_reader_left(r)) ? NC_RETURN_MESSAGE : NC_RETURN_MORE;
}

NcReturnOutcome
nc_return_path_next(NcReturnPath *p, NcReturnMessage *ret_message, GError **error)
{
  size_t left = p->buffer->len - p->taken;
  NcReturnMessage m = { 0 };
  NcReader r;
  NcReturnOutcome outcome;

  if (left == 0)
    return NC_RETURN_MORE;
  m.data = p->buffer->data + p->taken;
  r = nc_reader(m.data, left);
  outcome = p->blind ? take_blindly(&r, &m) : take_message(&r, &m, error);
  if (outcome != NC_RETURN_MESSAGE)
    return outcome;
  m.length = left - nc_reader_left(&r);
  p->taken += m.length;
  *ret_message = m;
  return outcome;
}
