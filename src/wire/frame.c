/* SPDX-License-Identifier: Apache-2.0 */
/* Frames to bytes and back, field by field. */
#include "wire/frame.h"

#define NC_FRAME_MAGIC 0x4e435731u /* "NCW1" */
#define NC_FRAME_HELLO_BYTES 32u
#define NC_FRAME_ACK_BYTES 8u
#define NC_FRAME_GRANT_BYTES (8u + NC_SHA256_BYTES)

/* What any frame of a type can be: the shape that a header is checked for. */
typedef struct {
  const char *name;
  uint8_t channel_min, channel_max;
  uint32_t payload_min, payload_max;
  uint64_t argument_max;
} NcFrameShape;

static const NcFrameShape nc_frame_shapes[] = {
  [NC_FRAME_HELLO] = { "HELLO", 0, 0, NC_FRAME_HELLO_BYTES, NC_FRAME_HELLO_MAX, 0 },
  [NC_FRAME_BATCH] = { "BATCH", 1, NC_CHANNEL_COUNT - 1, NC_BATCH_HEADER_BYTES + 1, NC_FRAME_PAYLOAD_MAX, G_MAXINT64 },
  [NC_FRAME_ACK] = { "ACK", 1, NC_CHANNEL_COUNT - 1, NC_FRAME_ACK_BYTES, NC_FRAME_ACK_BYTES, G_MAXINT64 },
  [NC_FRAME_PING] = { "PING", 0, 0, 0, 0, G_MAXUINT64 },
  [NC_FRAME_PONG] = { "PONG", 0, 0, 0, 0, G_MAXUINT64 },
  [NC_FRAME_GRANT] = { "GRANT", NC_CHANNEL_MAIN, NC_CHANNEL_MAIN, NC_FRAME_GRANT_BYTES, NC_FRAME_GRANT_BYTES,
                       G_MAXINT64 },
  [NC_FRAME_DIGEST] = { "DIGEST", 1, NC_CHANNEL_COUNT - 1, NC_SHA256_BYTES, NC_SHA256_BYTES, G_MAXINT64 },
  [NC_FRAME_END] = { "END", 1, NC_CHANNEL_COUNT - 1, NC_SHA256_BYTES, NC_SHA256_BYTES, G_MAXINT64 },
  [NC_FRAME_ERROR] = { "ERROR", 0, 0, 2, 1 + NC_FRAME_ERROR_NAME_MAX + NC_FRAME_ERROR_TEXT_MAX, 0 },
  [NC_FRAME_BYE] = { "BYE", 0, 0, 0, 0, 0 },
  [NC_FRAME_RESEND] = { "RESEND", NC_CHANNEL_MAIN, NC_CHANNEL_COUNT - 1, 0, 0, G_MAXINT64 },
  [NC_FRAME_URGENT] = { "URGENT", 0, 0, NC_FRAME_HEADER_BYTES, NC_FRAME_URGENT_MAX, G_MAXINT64 },
  [NC_FRAME_RECEIVED] = { "RECEIVED", 0, 0, 0, 0, G_MAXINT64 },
};

static GByteArray *
nc_frame_begin(NcFrameType type, uint8_t channel, uint64_t argument, uint32_t payload_bytes)
{
  GByteArray *out = g_byte_array_sized_new(NC_FRAME_HEADER_BYTES + (type == NC_FRAME_BATCH ? 0 : payload_bytes));

  nc_put_u32(out, payload_bytes);
  nc_put_u8(out, (uint8_t)type);
  nc_put_u8(out, channel);
  nc_put_u16(out, 0);
  nc_put_u64(out, argument);
  return out;
}

GByteArray *
nc_frame_encode_hello(const NcFrameHello *hello)
{
  GByteArray *out = nc_frame_begin(NC_FRAME_HELLO, NC_CHANNEL_CONTROL, 0, NC_FRAME_HELLO_BYTES);

  nc_put_u32(out, NC_FRAME_MAGIC);
  nc_put_u16(out, hello->version);
  nc_put_u16(out, hello->lowest_version);
  nc_put_u16(out, hello->index);
  nc_put_u16(out, hello->streams);
  nc_put_u8(out, (uint8_t)hello->role);
  nc_put_u8(out, 0);
  nc_put_u16(out, 0);
  nc_put_u32(out, hello->batch_raw_max);
  nc_put_u32(out, hello->ahead_batches);
  nc_put_u64(out, hello->ahead_bytes);
  return out;
}

GByteArray *
nc_frame_encode_batch_header(uint8_t channel, uint64_t seq, uint32_t payload_bytes)
{
  return nc_frame_begin(NC_FRAME_BATCH, channel, seq, payload_bytes);
}

GByteArray *
nc_frame_encode_ack(uint8_t channel, uint64_t seq, uint64_t offset)
{
  GByteArray *out = nc_frame_begin(NC_FRAME_ACK, channel, seq, NC_FRAME_ACK_BYTES);
  nc_put_u64(out, offset);
  return out;
}

GByteArray *
nc_frame_encode_ping(uint64_t time_us)
{
  return nc_frame_begin(NC_FRAME_PING, NC_CHANNEL_CONTROL, time_us, 0);
}

GByteArray *
nc_frame_encode_pong(uint64_t time_us)
{
  return nc_frame_begin(NC_FRAME_PONG, NC_CHANNEL_CONTROL, time_us, 0);
}

GByteArray *
nc_frame_encode_grant(const NcFrameGrant *grant)
{
  GByteArray *out = nc_frame_begin(NC_FRAME_GRANT, NC_CHANNEL_MAIN, grant->epoch, NC_FRAME_GRANT_BYTES);
  nc_put_u64(out, grant->offset);
  g_byte_array_append(out, grant->sha256, sizeof grant->sha256);
  return out;
}

/* DIGEST and END look alike. */
static GByteArray *
nc_frame_encode_statement(NcFrameType type, uint8_t channel, uint64_t offset, const uint8_t sha256[NC_SHA256_BYTES])
{
  GByteArray *out = nc_frame_begin(type, channel, offset, NC_SHA256_BYTES);
  g_byte_array_append(out, sha256, NC_SHA256_BYTES);
  return out;
}

GByteArray *
nc_frame_encode_digest(uint8_t channel, const NcFrameDigest *digest)
{
  return nc_frame_encode_statement(NC_FRAME_DIGEST, channel, digest->offset, digest->sha256);
}

GByteArray *
nc_frame_encode_end(uint8_t channel, const NcFrameEnd *end)
{
  return nc_frame_encode_statement(NC_FRAME_END, channel, end->offset, end->sha256);
}

/* Valid UTF-8 of at most NC_FRAME_ERROR_TEXT_MAX bytes, control characters replaced. Caller frees. */
static char *
nc_frame_clean_text(const char *text)
{
  char *clean = g_utf8_make_valid(text ? text : "", -1);
  size_t length = strlen(clean);

  if (length > NC_FRAME_ERROR_TEXT_MAX) {
    char *end = g_utf8_find_prev_char(clean, clean + NC_FRAME_ERROR_TEXT_MAX + 1);
    *end = '\0'; /* a character is at most 6 bytes: there is one before */
  }
  for (char *c = clean; *c; c++)
    if ((unsigned char)*c < 0x20 || *c == 0x7f)
      *c = ' ';
  return clean;
}

GByteArray *
nc_frame_encode_error(int code, const char *text)
{
  g_autofree char *clean = nc_frame_clean_text(text);
  const char *name = nc_error_code_name(code);
  size_t name_length = MIN(strlen(name), NC_FRAME_ERROR_NAME_MAX);
  size_t text_length = strlen(clean);
  GByteArray *out = nc_frame_begin(NC_FRAME_ERROR, NC_CHANNEL_CONTROL, 0, (uint32_t)(1 + name_length + text_length));

  nc_put_u8(out, (uint8_t)name_length);
  g_byte_array_append(out, (const guint8 *)name, (guint)name_length);
  g_byte_array_append(out, (const guint8 *)clean, (guint)text_length);
  return out;
}

GByteArray *
nc_frame_encode_resend(uint8_t channel, uint64_t seq)
{
  return nc_frame_begin(NC_FRAME_RESEND, channel, seq, 0);
}

GByteArray *
nc_frame_encode_urgent(uint64_t number, const GByteArray *inner)
{
  GByteArray *out = nc_frame_begin(NC_FRAME_URGENT, NC_CHANNEL_CONTROL, number, inner->len);
  g_byte_array_append(out, inner->data, inner->len);
  return out;
}

GByteArray *
nc_frame_encode_received(uint64_t count)
{
  return nc_frame_begin(NC_FRAME_RECEIVED, NC_CHANNEL_CONTROL, count, 0);
}

GByteArray *
nc_frame_encode_bye(void)
{
  return nc_frame_begin(NC_FRAME_BYE, NC_CHANNEL_CONTROL, 0, 0);
}

static const NcFrameShape *
nc_frame_shape(unsigned type)
{
  if (type >= G_N_ELEMENTS(nc_frame_shapes) || !nc_frame_shapes[type].name)
    return NULL;
  return &nc_frame_shapes[type];
}

static bool
nc_frame_check_shape(const NcFrame *frame, GError **error)
{
  const NcFrameShape *shape = nc_frame_shape(frame->type);

  if (!shape)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a frame of unknown type %u", frame->type);
  if (frame->channel < shape->channel_min || frame->channel > shape->channel_max)
    return nc_fail(error, NC_ERROR_PROTOCOL, "%s for channel %u", shape->name, frame->channel);
  if (frame->payload_bytes < shape->payload_min || frame->payload_bytes > shape->payload_max)
    return nc_fail(error, NC_ERROR_PROTOCOL, "%s of %u bytes", shape->name, frame->payload_bytes);
  if (frame->type == NC_FRAME_RESEND && frame->channel != NC_CHANNEL_MAIN && frame->channel < NC_CHANNEL_DISKS)
    return nc_fail(error, NC_ERROR_PROTOCOL, "%s for channel %u", shape->name, frame->channel);
  if (frame->argument > shape->argument_max)
    return nc_fail(error, NC_ERROR_PROTOCOL, "%s with argument %" G_GUINT64_FORMAT, shape->name, frame->argument);
  return true;
}

bool
nc_frame_decode_header(const uint8_t *header, NcFrame *ret, GError **error)
{
  NcFrame frame = {
    .payload_bytes = nc_be32(header),
    .type = header[4],
    .channel = header[5],
    .argument = nc_be64(header + 8),
  };
  uint16_t flags = nc_be16(header + 6);

  if (!nc_frame_check_shape(&frame, error))
    return false;
  if (flags != 0)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a frame with unknown flags 0x%x", flags);
  *ret = frame;
  return true;
}

NcFrameOutcome
nc_frame_next(NcReader *r, NcFrame *ret, GError **error)
{
  NcReader probe = *r;
  const uint8_t *header = nc_reader_take(&probe, NC_FRAME_HEADER_BYTES);
  NcFrame frame;

  if (!header)
    return NC_FRAME_MORE;
  if (!nc_frame_decode_header(header, &frame, error))
    return NC_FRAME_BAD;
  frame.payload = nc_reader_take(&probe, frame.payload_bytes);
  if (!frame.payload)
    return NC_FRAME_MORE;
  *ret = frame;
  *r = probe;
  return NC_FRAME_READY;
}

/* First thing in every check: ${type}, and again its shape, as a frame may have been put together by hand. */
static bool
nc_frame_check_type(const NcFrame *frame, NcFrameType type, GError **error)
{
  if (frame->type != type)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a frame of type %u where %s is due", frame->type,
                   nc_frame_shapes[type].name);
  return nc_frame_check_shape(frame, error);
}

static bool
nc_frame_check_offset(const NcFrame *frame, uint64_t offset, GError **error)
{
  if (offset <= G_MAXINT64)
    return true;
  return nc_fail(error, NC_ERROR_PROTOCOL, "%s with offset %" G_GUINT64_FORMAT, nc_frame_shapes[frame->type].name,
                 offset);
}

/* The fields of version 1; what a later version appends is not looked at. */
static bool
nc_frame_read_hello(const NcFrame *frame, NcFrameHello *ret, GError **error)
{
  NcReader r = nc_reader(frame->payload, frame->payload_bytes);
  uint32_t magic;
  uint8_t role, reserved8;
  uint16_t reserved16;

  if (!nc_reader_u32(&r, &magic) || magic != NC_FRAME_MAGIC)
    return nc_fail(error, NC_ERROR_PROTOCOL, "HELLO without our magic: not a mover");
  if (!nc_reader_u16(&r, &ret->version) || !nc_reader_u16(&r, &ret->lowest_version) ||
      !nc_reader_u16(&r, &ret->index) || !nc_reader_u16(&r, &ret->streams) || !nc_reader_u8(&r, &role) ||
      !nc_reader_u8(&r, &reserved8) || !nc_reader_u16(&r, &reserved16) || !nc_reader_u32(&r, &ret->batch_raw_max) ||
      !nc_reader_u32(&r, &ret->ahead_batches) || !nc_reader_u64(&r, &ret->ahead_bytes))
    return nc_fail(error, NC_ERROR_PROTOCOL, "HELLO is too short");
  ret->role = role;
  if (ret->version <= NC_WIRE_VERSION && (nc_reader_left(&r) > 0 || reserved8 != 0 || reserved16 != 0))
    return nc_fail(error, NC_ERROR_PROTOCOL, "HELLO with more than its version has");
  return true;
}

bool
nc_frame_check_hello(const NcFrame *frame, NcFrameHello *ret, GError **error)
{
  NcFrameHello h;

  if (!nc_frame_check_type(frame, NC_FRAME_HELLO, error) || !nc_frame_read_hello(frame, &h, error))
    return false;
  if (h.lowest_version == 0 || h.lowest_version > h.version)
    return nc_fail(error, NC_ERROR_PROTOCOL, "HELLO with versions %u to %u", h.lowest_version, h.version);
  if (h.streams == 0 || h.streams > NC_FRAME_STREAMS_MAX || h.index >= h.streams)
    return nc_fail(error, NC_ERROR_PROTOCOL, "HELLO of connection %u of %u", h.index, h.streams);
  if (h.role != NC_WIRE_ROLE_SOURCE && h.role != NC_WIRE_ROLE_DESTINATION)
    return nc_fail(error, NC_ERROR_PROTOCOL, "HELLO with role %u", (unsigned)h.role);
  if (h.batch_raw_max == 0 || h.ahead_batches == 0 || h.ahead_bytes < h.batch_raw_max)
    return nc_fail(error, NC_ERROR_PROTOCOL, "HELLO with limits that let nothing pass");
  *ret = h;
  return true;
}

uint16_t
nc_frame_hello_version(const NcFrameHello *hello, GError **error)
{
  uint16_t best = MIN(hello->version, NC_WIRE_VERSION);

  if (best >= hello->lowest_version && best >= NC_WIRE_LOWEST_VERSION)
    return best;
  nc_fail(error, NC_ERROR_PROTOCOL, "the other mover speaks versions %u to %u of the wire, this one %d to %d",
          hello->lowest_version, hello->version, NC_WIRE_LOWEST_VERSION, NC_WIRE_VERSION);
  return 0;
}

bool
nc_frame_check_batch(const NcFrame *frame, uint64_t *ret_seq, GError **error)
{
  if (!nc_frame_check_type(frame, NC_FRAME_BATCH, error))
    return false;
  *ret_seq = frame->argument;
  return true;
}

bool
nc_frame_check_ack(const NcFrame *frame, NcFrameAck *ret, GError **error)
{
  uint64_t offset;

  if (!nc_frame_check_type(frame, NC_FRAME_ACK, error))
    return false;
  offset = nc_be64(frame->payload);
  if (!nc_frame_check_offset(frame, offset, error))
    return false;
  *ret = (NcFrameAck){ .seq = frame->argument, .offset = offset };
  return true;
}

bool
nc_frame_check_ping(const NcFrame *frame, uint64_t *ret_time_us, GError **error)
{
  if (!nc_frame_check_type(frame, NC_FRAME_PING, error))
    return false;
  *ret_time_us = frame->argument;
  return true;
}

bool
nc_frame_check_pong(const NcFrame *frame, uint64_t *ret_time_us, GError **error)
{
  if (!nc_frame_check_type(frame, NC_FRAME_PONG, error))
    return false;
  *ret_time_us = frame->argument;
  return true;
}

bool
nc_frame_check_grant(const NcFrame *frame, NcFrameGrant *ret, GError **error)
{
  if (!nc_frame_check_type(frame, NC_FRAME_GRANT, error))
    return false;
  NcReader r = nc_reader(frame->payload, frame->payload_bytes);
  NcFrameGrant grant = { .epoch = frame->argument };
  if (grant.epoch == 0)
    return nc_fail(error, NC_ERROR_PROTOCOL, "GRANT of epoch 0");
  if (!nc_reader_u64(&r, &grant.offset) || !nc_reader_copy(&r, grant.sha256, sizeof grant.sha256))
    return nc_fail(error, NC_ERROR_PROTOCOL, "GRANT is too short");
  if (!nc_frame_check_offset(frame, grant.offset, error))
    return false;
  *ret = grant;
  return true;
}

bool
nc_frame_check_digest(const NcFrame *frame, NcFrameDigest *ret, GError **error)
{
  if (!nc_frame_check_type(frame, NC_FRAME_DIGEST, error))
    return false;
  ret->offset = frame->argument;
  memcpy(ret->sha256, frame->payload, sizeof ret->sha256);
  return true;
}

bool
nc_frame_check_end(const NcFrame *frame, NcFrameEnd *ret, GError **error)
{
  if (!nc_frame_check_type(frame, NC_FRAME_END, error))
    return false;
  ret->offset = frame->argument;
  memcpy(ret->sha256, frame->payload, sizeof ret->sha256);
  return true;
}

static bool
nc_frame_text_is_clean(const char *text, size_t length)
{
  for (size_t i = 0; i < length; i++)
    if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
      return false;
  return g_utf8_validate_len(text, length, NULL);
}

bool
nc_frame_check_error(const NcFrame *frame, NcFrameError *ret, GError **error)
{
  char name[NC_FRAME_ERROR_NAME_MAX + 1] = "";
  uint8_t name_length;

  if (!nc_frame_check_type(frame, NC_FRAME_ERROR, error))
    return false;
  NcReader r = nc_reader(frame->payload, frame->payload_bytes);
  if (!nc_reader_u8(&r, &name_length) || name_length == 0 || name_length > NC_FRAME_ERROR_NAME_MAX ||
      !nc_reader_copy(&r, name, name_length) || memchr(name, '\0', name_length))
    return nc_fail(error, NC_ERROR_PROTOCOL, "ERROR without a code");
  size_t text_length = nc_reader_left(&r);
  const char *text = (const char *)nc_reader_take(&r, text_length);
  if (text_length > NC_FRAME_ERROR_TEXT_MAX || !nc_frame_text_is_clean(text, text_length))
    return nc_fail(error, NC_ERROR_PROTOCOL, "ERROR with unreadable text");
  ret->code = nc_error_code_from_name(name);
  memcpy(ret->text, text, text_length);
  ret->text[text_length] = '\0';
  return true;
}

bool
nc_frame_check_bye(const NcFrame *frame, GError **error)
{
  return nc_frame_check_type(frame, NC_FRAME_BYE, error);
}

/* What is worth the name: bulk and what belongs to one connection is not. */
static bool
nc_frame_may_be_urgent(const NcFrame *frame)
{
  switch (frame->type) {
  case NC_FRAME_GRANT:
  case NC_FRAME_DIGEST:
  case NC_FRAME_END:
  case NC_FRAME_RESEND:
    return true;
  case NC_FRAME_BATCH:
    return frame->channel != NC_CHANNEL_MAIN;
  default:
    return false;
  }
}

bool
nc_frame_check_urgent(const NcFrame *frame, NcFrame *ret_inner, GError **error)
{
  NcFrame inner;

  if (!nc_frame_check_type(frame, NC_FRAME_URGENT, error) || !nc_frame_decode_header(frame->payload, &inner, error))
    return false;
  if (!nc_frame_may_be_urgent(&inner))
    return nc_fail(error, NC_ERROR_PROTOCOL, "%s of channel %u as urgent frame", nc_frame_shapes[inner.type].name,
                   inner.channel);
  if (inner.payload_bytes != frame->payload_bytes - NC_FRAME_HEADER_BYTES)
    return nc_fail(error, NC_ERROR_PROTOCOL, "an urgent frame of %u bytes around one of %u", frame->payload_bytes,
                   inner.payload_bytes);
  inner.payload = frame->payload + NC_FRAME_HEADER_BYTES;
  *ret_inner = inner;
  return true;
}

bool
nc_frame_check_received(const NcFrame *frame, uint64_t *ret_count, GError **error)
{
  if (!nc_frame_check_type(frame, NC_FRAME_RECEIVED, error))
    return false;
  *ret_count = frame->argument;
  return true;
}
