/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a mover reads from its peer, past TLS: one frame after the other. What
 * is accepted must be what our encoder writes for it (only HELLO of a later
 * version and ERROR may differ), and a frame cut short must be waited for.
 */
#include "wire/frame.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static GByteArray *
fuzz_again_statement(const NcFrame *frame)
{
  NcFrameGrant grant;
  NcFrameDigest digest;
  NcFrameEnd end;

  if (nc_frame_check_grant(frame, &grant, NULL))
    return nc_frame_encode_grant(&grant);
  if (nc_frame_check_digest(frame, &digest, NULL))
    return nc_frame_encode_digest(frame->channel, &digest);
  if (nc_frame_check_end(frame, &end, NULL))
    return nc_frame_encode_end(frame->channel, &end);
  return NULL;
}

static GByteArray *
fuzz_again_hello(const NcFrame *frame)
{
  NcFrameHello hello;

  if (!nc_frame_check_hello(frame, &hello, NULL))
    return NULL;
  uint16_t version = nc_frame_hello_version(&hello, NULL);
  if (version > hello.version || (version != 0 && version < hello.lowest_version))
    abort();
  return hello.version == NC_WIRE_VERSION ? nc_frame_encode_hello(&hello) : NULL;
}

/* What our encoder makes of the accepted ${frame}; NULL if it was refused, or need not be the same. */
static GByteArray *
fuzz_again(const NcFrame *frame)
{
  NcFrameAck ack;
  uint64_t value;

  if (nc_frame_check_ack(frame, &ack, NULL))
    return nc_frame_encode_ack(frame->channel, ack.seq, ack.offset);
  if (nc_frame_check_ping(frame, &value, NULL))
    return nc_frame_encode_ping(value);
  if (nc_frame_check_pong(frame, &value, NULL))
    return nc_frame_encode_pong(value);
  if (nc_frame_check_bye(frame, NULL))
    return nc_frame_encode_bye();
  if (nc_frame_check_received(frame, &value, NULL))
    return nc_frame_encode_received(value);
  GByteArray *again = fuzz_again_statement(frame);
  return again ? again : fuzz_again_hello(frame);
}

/* What is inside lies within, and is a frame that our encoder puts there again. */
static void
fuzz_urgent(const NcFrame *frame)
{
  NcFrame inner;

  if (!nc_frame_check_urgent(frame, &inner, NULL))
    return;
  if (inner.payload + inner.payload_bytes != frame->payload + frame->payload_bytes)
    abort();
  g_autoptr(GByteArray) copy = g_byte_array_new();
  g_byte_array_append(copy, frame->payload, frame->payload_bytes);
  g_autoptr(GByteArray) again = nc_frame_encode_urgent(frame->argument, copy);
  if (again->len != NC_FRAME_HEADER_BYTES + frame->payload_bytes ||
      memcmp(again->data + NC_FRAME_HEADER_BYTES, frame->payload, frame->payload_bytes) != 0)
    abort();
}

/* An accepted text comes through our encoder unchanged. */
static void
fuzz_error(const NcFrame *frame)
{
  NcFrameError report, again;
  NcFrame copy;

  if (!nc_frame_check_error(frame, &report, NULL))
    return;
  g_autoptr(GByteArray) bytes = nc_frame_encode_error(report.code, report.text);
  NcReader r = nc_reader(bytes->data, bytes->len);
  if (nc_frame_next(&r, &copy, NULL) != NC_FRAME_READY || !nc_frame_check_error(&copy, &again, NULL) ||
      again.code != report.code || strcmp(again.text, report.text) != 0)
    abort();
}

static void
fuzz_frame(const uint8_t *start, const NcFrame *frame)
{
  size_t total = NC_FRAME_HEADER_BYTES + frame->payload_bytes;
  g_autoptr(GByteArray) again = fuzz_again(frame);
  NcFrame ignored;

  if (again && (again->len != total || memcmp(again->data, start, total) != 0))
    abort();
  fuzz_error(frame);
  fuzz_urgent(frame);
  for (size_t n = 0; n < total; n = n < NC_FRAME_HEADER_BYTES ? n + 1 : n + 1 + (total - n) / 2) {
    NcReader shorter = nc_reader(start, n);
    if (nc_frame_next(&shorter, &ignored, NULL) != NC_FRAME_MORE || shorter.at != start)
      abort();
  }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  NcReader r = nc_reader(data, size);

  for (;;) {
    const uint8_t *start = r.at;
    g_autoptr(GError) error = NULL;
    NcFrame frame;
    NcFrameOutcome outcome = nc_frame_next(&r, &frame, &error);
    if ((outcome == NC_FRAME_BAD) != (error != NULL))
      abort();
    if (outcome != NC_FRAME_READY)
      return 0;
    fuzz_frame(start, &frame);
  }
}
