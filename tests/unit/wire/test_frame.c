/* SPDX-License-Identifier: Apache-2.0 */
/* Frames: every type there and back, and what has to be refused, as a table of bytes. */
#include "wire/frame.h"

static const uint8_t some_digest[NC_SHA256_BYTES] = { 1, 2, 3, [31] = 0xff };

/* Decodes one whole frame, checks that it fills its bytes. */
static NcFrame
frame_of(const GByteArray *bytes)
{
  NcReader r = nc_reader(bytes->data, bytes->len);
  NcFrame frame;
  g_autoptr(GError) error = NULL;

  g_assert_cmpint(nc_frame_next(&r, &frame, &error), ==, NC_FRAME_READY);
  g_assert_no_error(error);
  g_assert_cmpuint(nc_reader_left(&r), ==, 0);
  return frame;
}

static NcFrameHello
good_hello(void)
{
  return (NcFrameHello){ .version = 1,
                         .lowest_version = 1,
                         .index = 2,
                         .streams = 4,
                         .role = NC_WIRE_ROLE_DESTINATION,
                         .batch_raw_max = NC_BATCH_RAW_MAX,
                         .ahead_batches = 512,
                         .ahead_bytes = 64ull << 20 };
}

static void
test_hello_there_and_back(void)
{
  NcFrameHello hello = good_hello(), back;
  g_autoptr(GByteArray) bytes = nc_frame_encode_hello(&hello);
  NcFrame frame = frame_of(bytes);

  g_assert_true(nc_frame_check_hello(&frame, &back, NULL));
  g_assert_cmpuint(back.version, ==, 1);
  g_assert_cmpuint(back.lowest_version, ==, 1);
  g_assert_cmpuint(back.index, ==, 2);
  g_assert_cmpuint(back.streams, ==, 4);
  g_assert_cmpuint(back.role, ==, NC_WIRE_ROLE_DESTINATION);
  g_assert_cmpuint(back.batch_raw_max, ==, NC_BATCH_RAW_MAX);
  g_assert_cmpuint(back.ahead_batches, ==, 512);
  g_assert_cmpuint(back.ahead_bytes, ==, 64ull << 20);
  g_assert_cmpmem(bytes->data + NC_FRAME_HEADER_BYTES, 4, "NCW1", 4);
}

static void
test_statements_there_and_back(void)
{
  NcFrameGrant grant = { .epoch = 7, .offset = 1ull << 40 }, grant_back;
  NcFrameDigest digest = { .offset = 12345 }, digest_back;
  NcFrameEnd end = { .offset = G_MAXINT64 }, end_back;

  memcpy(grant.sha256, some_digest, sizeof some_digest);
  memcpy(digest.sha256, some_digest, sizeof some_digest);
  memcpy(end.sha256, some_digest, sizeof some_digest);
  g_autoptr(GByteArray) g = nc_frame_encode_grant(&grant);
  g_autoptr(GByteArray) d = nc_frame_encode_digest(NC_CHANNEL_RETURN, &digest);
  g_autoptr(GByteArray) e = nc_frame_encode_end(NC_CHANNEL_MAIN, &end);
  NcFrame gf = frame_of(g), df = frame_of(d), ef = frame_of(e);

  g_assert_true(nc_frame_check_grant(&gf, &grant_back, NULL));
  g_assert_cmpuint(grant_back.epoch, ==, 7);
  g_assert_cmpuint(grant_back.offset, ==, 1ull << 40);
  g_assert_cmpmem(grant_back.sha256, 32, some_digest, 32);
  g_assert_true(nc_frame_check_digest(&df, &digest_back, NULL));
  g_assert_cmpuint(df.channel, ==, NC_CHANNEL_RETURN);
  g_assert_cmpuint(digest_back.offset, ==, 12345);
  g_assert_cmpmem(digest_back.sha256, 32, some_digest, 32);
  g_assert_true(nc_frame_check_end(&ef, &end_back, NULL));
  g_assert_cmpuint(end_back.offset, ==, G_MAXINT64);
  g_assert_cmpmem(end_back.sha256, 32, some_digest, 32);
}

static void
test_urgent_ones_there_and_back(void)
{
  NcFrameDigest digest = { .offset = 12345 }, back;
  NcFrame inner;
  uint64_t count;

  memcpy(digest.sha256, some_digest, sizeof some_digest);
  g_autoptr(GByteArray) statement = nc_frame_encode_digest(NC_CHANNEL_MAIN, &digest);
  g_autoptr(GByteArray) bytes = nc_frame_encode_urgent(9, statement);
  g_autoptr(GByteArray) received = nc_frame_encode_received(10);
  NcFrame outer = frame_of(bytes), confirmation = frame_of(received);

  g_assert_cmpuint(outer.argument, ==, 9);
  g_assert_true(nc_frame_check_urgent(&outer, &inner, NULL));
  g_assert_true(nc_frame_check_digest(&inner, &back, NULL));
  g_assert_cmpuint(back.offset, ==, 12345);
  g_assert_true(nc_frame_check_received(&confirmation, &count, NULL));
  g_assert_cmpuint(count, ==, 10);
}

static void
test_what_is_not_urgent_is_refused_inside(void)
{
  NcFrameHello hello = good_hello();
  GByteArray *inside[] = { nc_frame_encode_hello(&hello),   nc_frame_encode_ping(1), nc_frame_encode_pong(1),
                           nc_frame_encode_ack(1, 0, 0),    nc_frame_encode_bye(),   nc_frame_encode_error(1, "x"),
                           nc_frame_encode_received(1) };

  for (size_t i = 0; i < G_N_ELEMENTS(inside); i++) {
    g_autoptr(GByteArray) bytes = nc_frame_encode_urgent(0, inside[i]);
    NcFrame outer = frame_of(bytes), inner;
    g_autoptr(GError) error = NULL;
    g_assert_false(nc_frame_check_urgent(&outer, &inner, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
    g_byte_array_unref(inside[i]);
  }
}

static void
test_small_ones_there_and_back(void)
{
  uint64_t value;
  NcFrameAck ack;
  g_autoptr(GByteArray) a = nc_frame_encode_ack(NC_CHANNEL_MAIN, 5, 6);
  g_autoptr(GByteArray) i = nc_frame_encode_ping(G_MAXUINT64);
  g_autoptr(GByteArray) o = nc_frame_encode_pong(9);
  g_autoptr(GByteArray) b = nc_frame_encode_bye();
  g_autoptr(GByteArray) batch = nc_frame_encode_batch_header(NC_CHANNEL_MAIN, 77, 100);
  NcFrame af = frame_of(a), jf = frame_of(i), of = frame_of(o), bf = frame_of(b), batch_frame;

  g_assert_true(nc_frame_check_ack(&af, &ack, NULL));
  g_assert_cmpuint(ack.seq, ==, 5);
  g_assert_cmpuint(ack.offset, ==, 6);
  g_assert_true(nc_frame_check_ping(&jf, &value, NULL));
  g_assert_cmpuint(value, ==, G_MAXUINT64);
  g_assert_true(nc_frame_check_pong(&of, &value, NULL));
  g_assert_cmpuint(value, ==, 9);
  g_assert_true(nc_frame_check_bye(&bf, NULL));

  g_assert_cmpuint(batch->len, ==, NC_FRAME_HEADER_BYTES);
  g_assert_true(nc_frame_decode_header(batch->data, &batch_frame, NULL));
  g_assert_cmpuint(batch_frame.payload_bytes, ==, 100);
  g_assert_true(nc_frame_check_batch(&batch_frame, &value, NULL));
  g_assert_cmpuint(value, ==, 77);
}

static void
check_error_text(const char *text, const char *expected)
{
  NcFrameError back;
  g_autoptr(GByteArray) bytes = nc_frame_encode_error(NC_ERROR_CORRUPT, text);
  NcFrame frame = frame_of(bytes);

  g_assert_true(nc_frame_check_error(&frame, &back, NULL));
  g_assert_cmpint(back.code, ==, NC_ERROR_CORRUPT);
  g_assert_cmpstr(back.text, ==, expected);
}

static void
test_error_text_is_cut_and_cleaned(void)
{
  g_autofree char *exact = g_strnfill(512, 'x'), *long_text = g_strnfill(5000, 'x');
  g_autofree char *split = g_strdup_printf("%.511s\303\244", exact); /* a character across the limit */
  g_autofree char *before = g_strndup(exact, 511);

  check_error_text("the disk is full", "the disk is full");
  check_error_text("", "");
  check_error_text(NULL, "");
  check_error_text("a\nb\033[31m\x7f", "a b [31m ");
  check_error_text("bad \xff utf-8", "bad \357\277\275 utf-8");
  check_error_text(exact, exact);
  check_error_text(long_text, exact);
  check_error_text(split, before);
}

/* Headers only: type, channel, flags, payload length, argument. */
static void
test_headers_that_are_refused(void)
{
  static const struct {
    const char *why;
    uint32_t length;
    uint8_t type, channel;
    uint16_t flags;
    uint64_t argument;
    bool good;
  } cases[] = {
    { "type 0", 0, 0, 0, 0, 0, false },
    { "type 11", 0, 11, 0, 0, 0, false },
    { "type 255", 0, 255, 0, 0, 0, false },
    { "ping", 0, NC_FRAME_PING, 0, 0, 1, true },
    { "ping with a flag", 0, NC_FRAME_PING, 0, 1, 1, false },
    { "ping with the highest flag", 0, NC_FRAME_PING, 0, 0x8000, 1, false },
    { "ping with payload", 1, NC_FRAME_PING, 0, 0, 1, false },
    { "ping on main", 0, NC_FRAME_PING, 1, 0, 1, false },
    { "pong with payload", 524288, NC_FRAME_PONG, 0, 0, 1, false },
    { "bye with argument", 0, NC_FRAME_BYE, 0, 0, 1, false },
    { "batch of nothing", 60, NC_FRAME_BATCH, 1, 0, 0, false },
    { "batch", 61, NC_FRAME_BATCH, 1, 0, 0, true },
    { "batch of channel 0", 61, NC_FRAME_BATCH, 0, 0, 0, false },
    { "batch of channel 2", 61, NC_FRAME_BATCH, 2, 0, 0, true },
    { "batch of channel 3", 61, NC_FRAME_BATCH, 3, 0, 0, true },
    { "batch of the first disk", 61, NC_FRAME_BATCH, 4, 0, 0, true },
    { "batch of the last disk", 61, NC_FRAME_BATCH, 35, 0, 0, true },
    { "batch of channel 36", 61, NC_FRAME_BATCH, 36, 0, 0, false },
    { "resend of a disk", 0, NC_FRAME_RESEND, 35, 0, 0, true },
    { "resend of channel 36", 0, NC_FRAME_RESEND, 36, 0, 0, false },
    { "resend of channel 2", 0, NC_FRAME_RESEND, 2, 0, 0, false },
    { "largest batch", NC_FRAME_PAYLOAD_MAX, NC_FRAME_BATCH, 1, 0, 0, true },
    { "too large a batch", NC_FRAME_PAYLOAD_MAX + 1, NC_FRAME_BATCH, 1, 0, 0, false },
    { "4 GiB of batch", G_MAXUINT32, NC_FRAME_BATCH, 1, 0, 0, false },
    { "last seq", 61, NC_FRAME_BATCH, 1, 0, G_MAXINT64, true },
    { "seq beyond", 61, NC_FRAME_BATCH, 1, 0, (uint64_t)G_MAXINT64 + 1, false },
    { "short ack", 7, NC_FRAME_ACK, 1, 0, 0, false },
    { "long ack", 9, NC_FRAME_ACK, 1, 0, 0, false },
    { "ack of control", 8, NC_FRAME_ACK, 0, 0, 0, false },
    { "grant", 40, NC_FRAME_GRANT, 1, 0, 1, true },
    { "grant on the return path", 40, NC_FRAME_GRANT, 2, 0, 1, false },
    { "grant without digest", 8, NC_FRAME_GRANT, 1, 0, 1, false },
    { "short digest", 31, NC_FRAME_DIGEST, 1, 0, 1, false },
    { "long end", 33, NC_FRAME_END, 1, 0, 1, false },
    { "hello of an offset", 32, NC_FRAME_HELLO, 0, 0, 1, false },
    { "short hello", 31, NC_FRAME_HELLO, 0, 0, 0, false },
    { "long hello", NC_FRAME_HELLO_MAX + 1, NC_FRAME_HELLO, 0, 0, 0, false },
    { "error of nothing", 1, NC_FRAME_ERROR, 0, 0, 0, false },
    { "long error", 1 + 32 + 512 + 1, NC_FRAME_ERROR, 0, 0, 0, false },
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GByteArray) h = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    NcFrame frame;
    nc_put_u32(h, cases[i].length);
    nc_put_u8(h, cases[i].type);
    nc_put_u8(h, cases[i].channel);
    nc_put_u16(h, cases[i].flags);
    nc_put_u64(h, cases[i].argument);
    if (nc_frame_decode_header(h->data, &frame, &error) != cases[i].good)
      g_error("%s was %s", cases[i].why, cases[i].good ? "refused" : "accepted");
    g_assert_true(cases[i].good == !error);
    if (!cases[i].good)
      g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
  }
}

static void
check_hello_refused(const NcFrameHello *hello)
{
  g_autoptr(GByteArray) bytes = nc_frame_encode_hello(hello);
  g_autoptr(GError) error = NULL;
  NcFrame frame = frame_of(bytes);
  NcFrameHello untouched = { .version = 99 };

  g_assert_false(nc_frame_check_hello(&frame, &untouched, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
  g_assert_cmpuint(untouched.version, ==, 99);
}

static void
test_hello_that_makes_no_sense(void)
{
  NcFrameHello h;
#define REFUSED(change) (h = good_hello(), change, check_hello_refused(&h))
  REFUSED(h.lowest_version = 0);
  REFUSED(h.lowest_version = 2);
  REFUSED(h.version = 0);
  REFUSED(h.index = 4);
  REFUSED(h.streams = 0);
  REFUSED((h.streams = 257, h.index = 256));
  REFUSED(h.role = 0);
  REFUSED(h.role = 3);
  REFUSED(h.batch_raw_max = 0);
  REFUSED(h.ahead_batches = 0);
  REFUSED(h.ahead_bytes = NC_BATCH_RAW_MAX - 1);
#undef REFUSED
}

static void
test_hello_bytes_that_make_no_sense(void)
{
  static const size_t bad[] = { 16, 19, 16 + 13, 16 + 14, 16 + 15 }; /* magic, reserved bytes */

  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    NcFrameHello hello = good_hello(), back;
    g_autoptr(GByteArray) bytes = nc_frame_encode_hello(&hello);
    bytes->data[bad[i]] ^= 1;
    NcFrame frame = frame_of(bytes);
    g_assert_false(nc_frame_check_hello(&frame, &back, NULL));
  }
}

/* A later version's HELLO is longer; ours must not be. */
static void
test_hello_of_a_later_version(void)
{
  NcFrameHello hello = good_hello(), back;

  for (uint16_t version = 1; version <= NC_WIRE_VERSION + 1; version++) {
    hello.version = version;
    g_autoptr(GByteArray) bytes = nc_frame_encode_hello(&hello);
    nc_put_u64(bytes, 4711);
    nc_store_be32(bytes->data, 40);
    NcFrame frame = frame_of(bytes);
    g_assert_true(nc_frame_check_hello(&frame, &back, NULL) == (version > NC_WIRE_VERSION));
  }
  g_assert_cmpuint(nc_frame_hello_version(&back, NULL), ==, NC_WIRE_VERSION);
  back.lowest_version = NC_WIRE_VERSION + 1;
  g_autoptr(GError) error = NULL;
  g_assert_cmpuint(nc_frame_hello_version(&back, &error), ==, 0);
  g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
}

static void
test_offsets_beyond_the_end(void)
{
  g_autoptr(GByteArray) ack = nc_frame_encode_ack(NC_CHANNEL_MAIN, 1, (uint64_t)G_MAXINT64 + 1);
  NcFrameGrant grant = { .epoch = 1, .offset = G_MAXUINT64 }, none = { .epoch = 0 };
  g_autoptr(GByteArray) far = nc_frame_encode_grant(&grant);
  g_autoptr(GByteArray) zero = nc_frame_encode_grant(&none);
  NcFrame af = frame_of(ack), ff = frame_of(far), zf = frame_of(zero);
  NcFrameAck ack_back;

  g_assert_false(nc_frame_check_ack(&af, &ack_back, NULL));
  g_assert_false(nc_frame_check_grant(&ff, &grant, NULL));
  g_assert_false(nc_frame_check_grant(&zf, &grant, NULL));
  g_assert_cmpuint(grant.offset, ==, G_MAXUINT64);
}

static void
test_error_frames_that_are_refused(void)
{
  static const struct {
    const char *payload;
    size_t length;
  } cases[] = {
    { "\0x", 2 },   /* no name */
    { "\5abc", 4 }, /* name longer than the frame */
    { "\41"
      "0123456789012345678901234567890123",
      34 },               /* name of 33 */
    { "\3a\0c", 4 },      /* NUL in the name */
    { "\2io\033[2J", 7 }, /* a terminal's command */
    { "\2io\xff", 4 },    /* not UTF-8 */
    { "\2ioa\0b", 6 },    /* NUL in the text */
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GError) error = NULL;
    NcFrameError back;
    NcFrame frame = { .type = NC_FRAME_ERROR,
                      .payload = (const uint8_t *)cases[i].payload,
                      .payload_bytes = (uint32_t)cases[i].length };
    g_assert_false(nc_frame_check_error(&frame, &back, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
  }
}

static void
test_error_of_an_unknown_code(void)
{
  NcFrameError back;
  NcFrame frame = { .type = NC_FRAME_ERROR, .payload = (const uint8_t *)"\3newwhat", .payload_bytes = 8 };

  g_assert_true(nc_frame_check_error(&frame, &back, NULL));
  g_assert_cmpint(back.code, ==, NC_ERROR_INTERNAL);
  g_assert_cmpstr(back.text, ==, "what");
}

static void
test_a_check_wants_its_own_type(void)
{
  g_autoptr(GByteArray) bytes = nc_frame_encode_bye();
  NcFrame frame = frame_of(bytes);
  NcFrameHello hello;
  NcFrameAck ack;
  NcFrameGrant grant;
  NcFrameDigest digest;
  NcFrameEnd end;
  NcFrameError report;
  uint64_t value;

  g_assert_false(nc_frame_check_hello(&frame, &hello, NULL));
  g_assert_false(nc_frame_check_batch(&frame, &value, NULL));
  g_assert_false(nc_frame_check_ack(&frame, &ack, NULL));
  g_assert_false(nc_frame_check_ping(&frame, &value, NULL));
  g_assert_false(nc_frame_check_pong(&frame, &value, NULL));
  g_assert_false(nc_frame_check_grant(&frame, &grant, NULL));
  g_assert_false(nc_frame_check_digest(&frame, &digest, NULL));
  g_assert_false(nc_frame_check_end(&frame, &end, NULL));
  g_assert_false(nc_frame_check_error(&frame, &report, NULL));
}

/* Byte by byte: "more" until each frame is whole, and the same frames in the end. */
static void
test_frames_arrive_in_pieces(void)
{
  NcFrameGrant grant = { .epoch = 3, .offset = 4 };
  g_autoptr(GByteArray) all = nc_frame_encode_ack(NC_CHANNEL_RETURN, 1, 2);
  g_autoptr(GByteArray) second = nc_frame_encode_grant(&grant);
  unsigned first_end = all->len, frames = 0;
  NcReader r = nc_reader(all->data, 0);

  g_byte_array_append(all, second->data, second->len);
  r = nc_reader(all->data, 0);
  for (unsigned n = 0; n <= all->len; n++) {
    NcFrame frame;
    g_autoptr(GError) error = NULL;
    r.end = all->data + n;
    NcFrameOutcome outcome = nc_frame_next(&r, &frame, &error);
    g_assert_cmpint(outcome, ==, n == first_end || n == all->len ? NC_FRAME_READY : NC_FRAME_MORE);
    frames += outcome == NC_FRAME_READY;
  }
  g_assert_cmpuint(frames, ==, 2);
}

/* A bad header is refused before anybody waits for its payload. */
static void
test_bad_header_is_not_waited_for(void)
{
  g_autoptr(GByteArray) ping = nc_frame_encode_ping(1);
  g_autoptr(GError) error = NULL;
  NcFrame frame;

  nc_store_be32(ping->data, 1u << 20);
  NcReader r = nc_reader(ping->data, ping->len);
  g_assert_cmpint(nc_frame_next(&r, &frame, &error), ==, NC_FRAME_BAD);
  g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/frame/urgent-ones-there-and-back", test_urgent_ones_there_and_back);
  g_test_add_func("/frame/what-is-not-urgent-is-refused-inside", test_what_is_not_urgent_is_refused_inside);
  g_test_add_func("/frame/hello_there_and_back", test_hello_there_and_back);
  g_test_add_func("/frame/statements_there_and_back", test_statements_there_and_back);
  g_test_add_func("/frame/small_ones_there_and_back", test_small_ones_there_and_back);
  g_test_add_func("/frame/error_text_is_cut_and_cleaned", test_error_text_is_cut_and_cleaned);
  g_test_add_func("/frame/headers_that_are_refused", test_headers_that_are_refused);
  g_test_add_func("/frame/hello_that_makes_no_sense", test_hello_that_makes_no_sense);
  g_test_add_func("/frame/hello_bytes_that_make_no_sense", test_hello_bytes_that_make_no_sense);
  g_test_add_func("/frame/hello_of_a_later_version", test_hello_of_a_later_version);
  g_test_add_func("/frame/offsets_beyond_the_end", test_offsets_beyond_the_end);
  g_test_add_func("/frame/error_frames_that_are_refused", test_error_frames_that_are_refused);
  g_test_add_func("/frame/error_of_an_unknown_code", test_error_of_an_unknown_code);
  g_test_add_func("/frame/a_check_wants_its_own_type", test_a_check_wants_its_own_type);
  g_test_add_func("/frame/frames_arrive_in_pieces", test_frames_arrive_in_pieces);
  g_test_add_func("/frame/bad_header_is_not_waited_for", test_bad_header_is_not_waited_for);
  return g_test_run();
}
