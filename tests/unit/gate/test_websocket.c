/* SPDX-License-Identifier: Apache-2.0 */
/* Handshakes that may go on, frames as the RFC prints them, and bytes from hell. */
#include "gate/websocket.h"

#include <string.h>

#define KEY "dGhlIHNhbXBsZSBub25jZQ==" /* RFC 6455, 1.2 */

static NcWsOffer
good_offer(void)
{
  NcWsOffer offer = { 0 };
  nc_ws_offer_add(&offer, "Host", "x");
  nc_ws_offer_add(&offer, "connection", "keep-alive, Upgrade");
  nc_ws_offer_add(&offer, "UPGRADE", "WebSocket");
  nc_ws_offer_add(&offer, "Sec-WebSocket-Version", "13");
  nc_ws_offer_add(&offer, "Sec-WebSocket-Key", KEY);
  return offer;
}

static void
test_accept(void)
{
  char accept[NC_WS_ACCEPT_BYTES + 1];
  nc_ws_accept(KEY, accept);
  g_assert_cmpstr(accept, ==, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void
check_offer(const NcWsOffer *offer, int expected)
{
  NcHttpProblem problem = NC_HTTP_PROBLEM_COUNT;
  const char *detail = NULL;
  bool ok = nc_ws_offer_check(offer, &problem, &detail);

  g_assert_true(ok == (expected < 0));
  if (!ok) {
    g_assert_cmpint(problem, ==, expected);
    g_assert_nonnull(detail);
  }
}

static void
test_offers(void)
{
  static const struct {
    const char *name, *value;
    int expected; /* -1: good all the same */
  } more[] = {
    { "X-Other", "y", -1 },
    { "Sec-WebSocket-Version", "13", NC_HTTP_UPGRADE }, /* twice */
    { "Sec-WebSocket-Version", "8", NC_HTTP_UPGRADE },
    { "Sec-WebSocket-Key", KEY, NC_HTTP_BAD_REQUEST },
    { "Sec-WebSocket-Key", NULL, NC_HTTP_BAD_REQUEST },
    { "Sec-WebSocket-Protocol", "chat", -1 }, /* not agreed on, which is a valid answer */
  };
  for (size_t i = 0; i < G_N_ELEMENTS(more); i++) {
    NcWsOffer offer = good_offer();
    nc_ws_offer_add(&offer, more[i].name, more[i].value);
    check_offer(&offer, more[i].expected);
  }
  static const char *const bad_keys[] = { "", "short", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ==x", "dGhlIHNhbXBsZSBub25jZR==",
                                          "dGhlIHNhbXBsZSBub25j!Q==", "========================" };
  for (size_t i = 0; i < G_N_ELEMENTS(bad_keys); i++) {
    NcWsOffer offer = good_offer();
    offer.keys = 0;
    nc_ws_offer_add(&offer, "Sec-WebSocket-Key", bad_keys[i]);
    check_offer(&offer, NC_HTTP_BAD_REQUEST);
  }
  NcWsOffer none = { 0 };
  check_offer(&none, NC_HTTP_UPGRADE);
}

static void
check_frame(GBytes *frame, const void *head, size_t head_bytes, size_t total_bytes)
{
  gsize length;
  const uint8_t *bytes = g_bytes_get_data(frame, &length);
  g_assert_cmpuint(length, ==, total_bytes);
  g_assert_cmpmem(bytes, head_bytes, head, head_bytes);
  g_bytes_unref(frame);
}

static void
test_frames_out(void)
{
  g_autofree char *text = g_strnfill(70000, 'x');
  g_autofree char *umlauts = g_strnfill(200, '\xc3');

  check_frame(nc_ws_frame(NC_WS_TEXT, "Hello", 5), "\x81\x05Hello", 7, 7);
  check_frame(nc_ws_frame(NC_WS_TEXT, text, 125), "\x81\x7dx", 3, 127);
  check_frame(nc_ws_frame(NC_WS_TEXT, text, 126), "\x81\x7e\x00\x7ex", 5, 130);
  check_frame(nc_ws_frame(NC_WS_TEXT, text, 65535), "\x81\x7e\xff\xffx", 5, 65539);
  check_frame(nc_ws_frame(NC_WS_TEXT, text, 65536), "\x81\x7f\0\0\0\0\0\1\0\0x", 11, 65546);
  check_frame(nc_ws_frame_close(1000, ""), "\x88\x02\x03\xe8", 4, 4);
  check_frame(nc_ws_frame_close(1008, text), "\x88\x7d\x03\xf0xx", 6, 127);
  check_frame(nc_ws_frame_close(1008, umlauts), "\x88\x02\x03\xf0", 4, 4); /* no half characters */
}

typedef struct {
  const char *bytes;
  size_t length;
  NcWsGot got;
  unsigned code;
} Frame;

#define FRAME(bytes_, got_, code_)                                                                                     \
  {                                                                                                                    \
    (bytes_), sizeof(bytes_) - 1, (got_), (code_)                                                                      \
  }

static const Frame frames[] = {
  FRAME("\x89\x80\1\2\3\4", NC_WS_GOT_PING, 0),
  FRAME("\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", NC_WS_GOT_PONG, 0), /* RFC 6455, 5.7 */
  FRAME("\x88\x80\0\0\0\0", NC_WS_GOT_CLOSE, 0),
  FRAME("\x88\x82\0\0\0\0\x03\xe8", NC_WS_GOT_CLOSE, 0),
  FRAME("\x88\x84\0\0\0\0\x0f\xa0\xc3\xa4", NC_WS_GOT_CLOSE, 0),
  FRAME("\x88\x81\0\0\0\0\x03", NC_WS_GOT_GARBAGE, NC_WS_BROKEN),
  FRAME("\x88\x82\0\0\0\0\x03\xed", NC_WS_GOT_GARBAGE, NC_WS_BROKEN), /* 1005 is never sent */
  FRAME("\x88\x82\0\0\0\0\xff\xff", NC_WS_GOT_GARBAGE, NC_WS_BROKEN),
  FRAME("\x88\x84\0\0\0\0\x03\xe8\xc3\x28", NC_WS_GOT_GARBAGE, NC_WS_NOT_TEXT),
  FRAME("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", NC_WS_GOT_GARBAGE, NC_WS_NO_DATA),
  FRAME("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff", NC_WS_GOT_GARBAGE, NC_WS_NO_DATA),
  FRAME("\x00\x80", NC_WS_GOT_GARBAGE, NC_WS_NO_DATA),
  FRAME("\x89\x00", NC_WS_GOT_GARBAGE, NC_WS_BROKEN), /* not masked */
  FRAME("\x09\x80", NC_WS_GOT_GARBAGE, NC_WS_BROKEN), /* a control frame in pieces */
  FRAME("\x89\xfe\x00\x7e", NC_WS_GOT_GARBAGE, NC_WS_BROKEN),
  FRAME("\xc9\x80", NC_WS_GOT_GARBAGE, NC_WS_BROKEN),
  FRAME("\x83\x80", NC_WS_GOT_GARBAGE, NC_WS_BROKEN),
  FRAME("\x8f\x80", NC_WS_GOT_GARBAGE, NC_WS_BROKEN),
};

/* Whole, and byte by byte. */
static void
test_frames_in(void)
{
  for (size_t i = 0; i < 2 * G_N_ELEMENTS(frames); i++) {
    const Frame *frame = &frames[i / 2];
    size_t step = i % 2 ? 1 : frame->length, at = 0;
    NcWsReader reader = { 0 };
    NcWsGot got = NC_WS_GOT_NOTHING;
    unsigned code = 0;
    const char *why = NULL;
    while (at < frame->length && got == NC_WS_GOT_NOTHING) {
      size_t used = 0;
      g_autofree uint8_t *part = g_memdup2(frame->bytes + at, step); /* a read behind it is one */
      got = nc_ws_read(&reader, part, step, &used, &code, &why);
      g_assert_cmpuint(used, <=, step);
      at += used;
    }
    g_test_message("frame %zu", i / 2);
    g_assert_cmpint(got, ==, frame->got);
    if (got == NC_WS_GOT_GARBAGE) {
      g_assert_cmpuint(code, ==, frame->code);
      g_assert_nonnull(why);
    }
  }
}

static void
test_payload(void)
{
  static const uint8_t bytes[] = "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x89\x80";
  NcWsReader reader = { 0 };
  size_t used;
  unsigned code;
  const char *why;

  g_assert_cmpint(nc_ws_read(&reader, bytes, sizeof bytes - 1, &used, &code, &why), ==, NC_WS_GOT_PONG);
  g_assert_cmpuint(used, ==, 11);
  g_assert_cmpmem(reader.payload, reader.payload_bytes, "Hello", 5);
  g_assert_cmpint(nc_ws_read(&reader, bytes + 11, 2, &used, &code, &why), ==, NC_WS_GOT_NOTHING);
  g_assert_cmpint(nc_ws_read(&reader, (const uint8_t *)"\0\0\0\0", 4, &used, &code, &why), ==, NC_WS_GOT_PING);
  g_assert_cmpuint(reader.payload_bytes, ==, 0);
}

/* Nothing is read behind garbage, whatever it announced. */
static void
test_garbage_is_the_end(void)
{
  uint8_t rest[1000];
  NcWsReader reader = { 0 };
  size_t used;
  unsigned code = 0;
  const char *why = NULL;

  memset(rest, 0xff, sizeof rest);
  g_assert_cmpint(nc_ws_read(&reader, rest, sizeof rest, &used, &code, &why), ==, NC_WS_GOT_GARBAGE);
  for (int i = 0; i < 10; i++) {
    g_assert_cmpint(nc_ws_read(&reader, rest, sizeof rest, &used, &code, &why), ==, NC_WS_GOT_NOTHING);
    g_assert_cmpuint(used, ==, sizeof rest);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/gate/websocket/accept", test_accept);
  g_test_add_func("/gate/websocket/offers", test_offers);
  g_test_add_func("/gate/websocket/frames-out", test_frames_out);
  g_test_add_func("/gate/websocket/frames-in", test_frames_in);
  g_test_add_func("/gate/websocket/payload", test_payload);
  g_test_add_func("/gate/websocket/garbage-is-the-end", test_garbage_is_the_end);
  return g_test_run();
}
