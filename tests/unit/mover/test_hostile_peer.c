/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mover against a peer that holds the key and breaks the rules.
 *
 * The key keeps strangers out; what is left is a mover on the other side
 * that a guest or an attacker has taken over. Each attack must end the attempt
 * with an error that names it, on both sides, and not one byte that was not
 * verified in order may reach QEMU. The test is the peer, QEMU and novacrond.
 */
#include "base/io.h"
#include "base/msg.h"
#include "crypto/psk.h"
#include "wire/batch.h"
#include "wire/frame.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 20000

static const uint8_t key[NC_PSK_BYTES] = { 1, 2, 3 };

typedef struct {
  int control;
  int qemu;
  pid_t pid;
  NcTls *tls;
  NcBatchEncoder *encoder;
} Scene;

typedef struct {
  const char *name;
  bool at_source; /* where the mover under attack is */
  void (*attack)(Scene *s);
  int code;
  const char *text; /* in the error's message */
  uint32_t blocks;  /* of disks, that it keeps; 0: it keeps nothing, no pages either */
} Attack;

/* --- the scene ------------------------------------------------------------------------------------------------- */

static void
tcp_pair(int pair[2])
{
  struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

  g_assert_cmpint(bind(listener, (struct sockaddr *)&address, sizeof address), ==, 0);
  g_assert_cmpint(listen(listener, 1), ==, 0);
  g_assert_cmpint(getsockname(listener, (struct sockaddr *)&address, &length), ==, 0);
  pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  g_assert_cmpint(connect(pair[0], (struct sockaddr *)&address, sizeof address), ==, 0);
  pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  g_assert_cmpint(pair[1], >=, 0);
  close(listener);
}

static void
tell(Scene *s, json_t *message, int fd)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *owned = message;
  nc_msg_send(s->control, owned, fd, &error);
  g_assert_no_error(error);
}

static void
spawn_mover(Scene *s)
{
  const char *argv[] = { g_getenv("NC_MOVER"), NULL };
  g_autoptr(GError) error = NULL;
  int pair[2];

  g_assert_nonnull(argv[0]);
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  const int from[] = { pair[1] }, to[] = { 3 };
  g_spawn_async_with_pipes_and_fds(NULL, argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL,
                                   -1, -1, -1, from, to, 1, &s->pid, NULL, NULL, NULL, &error);
  g_assert_no_error(error);
  close(pair[1]);
  s->control = pair[0];
}

/* ${spoil} (may be NULL) changes our HELLO before it is sent. */
static void
connect_scene(Scene *s, bool at_source, void (*spoil)(NcFrameHello *))
{
  g_autoptr(GError) error = NULL;
  int tcp[2];

  g_clear_pointer(&s->tls, nc_tls_free);
  tcp_pair(tcp);
  tell(s, json_pack("{s:s, s:i}", "op", "conn", "index", 0), tcp[1]);
  close(tcp[1]);
  s->tls = at_source ? nc_tls_psk_server(tcp[0], key, "mig-1", WAIT_MS, &error)
                     : nc_tls_psk_client(tcp[0], key, "mig-1", WAIT_MS, &error);
  g_assert_no_error(error);
  NcFrameHello hello = {
    .version = NC_WIRE_VERSION,
    .lowest_version = NC_WIRE_LOWEST_VERSION,
    .streams = 1,
    .role = at_source ? NC_WIRE_ROLE_DESTINATION : NC_WIRE_ROLE_SOURCE,
    .batch_raw_max = NC_BATCH_RAW_MAX,
    .ahead_batches = 512,
    .ahead_bytes = 64 << 20,
  };
  if (spoil)
    spoil(&hello);
  g_autoptr(GByteArray) frame = nc_frame_encode_hello(&hello);
  nc_tls_write_all(s->tls, frame->data, frame->len, WAIT_MS, &error);
  g_assert_no_error(error);
}

/* The mover keeps ${blocks} of disks. */
static void
open_scene_with(Scene *s, bool at_source, void (*spoil)(NcFrameHello *), uint32_t blocks)
{
  static const NcBatchPolicy plain = { .codec = NC_CODEC_NONE };
  int qemu[2];
  g_autofree char *psk = nc_hex_encode(key, sizeof key);

  *s = (Scene){ 0 };
  spawn_mover(s);
  tell(s,
       json_pack("{s:s, s:s, s:s, s:s, s:i, s:s}", "op", "start", "role", at_source ? "source" : "destination",
                 "migration", "mig-1", "psk", psk, "streams", 1, "compression", "none"),
       -1);
  s->encoder = nc_batch_encoder_new(&plain);
  if (blocks > 0)
    tell(s, json_pack("{s:s, s:i, s:i}", "op", "shadow", "frames", 16, "blocks", (int)blocks), -1);
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qemu), ==, 0);
  tell(s, json_pack("{s:s, s:s}", "op", "qemu", "channel", "main"), qemu[1]);
  close(qemu[1]);
  s->qemu = qemu[0];
  connect_scene(s, at_source, spoil);
}

static void
open_scene(Scene *s, bool at_source, void (*spoil)(NcFrameHello *))
{
  open_scene_with(s, at_source, spoil, 0);
}

static void
close_scene(Scene *s)
{
  kill(s->pid, SIGKILL);
  waitpid(s->pid, NULL, 0);
  nc_tls_free(s->tls);
  nc_batch_encoder_free(s->encoder);
  close(s->control);
  close(s->qemu);
}

static void
send_frame(Scene *s, GByteArray *taken)
{
  g_autoptr(GByteArray) frame = taken;
  nc_tls_write_all(s->tls, frame->data, frame->len, WAIT_MS, NULL); /* it may have hung up already: the events tell */
}

static GByteArray *
make_batch(Scene *s, uint8_t channel, uint64_t seq, uint64_t offset, const void *raw, uint32_t length)
{
  g_autoptr(GByteArray) payload = nc_batch_encode(s->encoder, offset, raw, length, NULL, 0, NULL);
  GByteArray *frame = nc_frame_encode_batch_header(channel, seq, payload->len);
  return g_byte_array_append(frame, payload->data, payload->len);
}

static void
send_batch(Scene *s, uint8_t channel, uint64_t seq, uint64_t offset, const void *raw, uint32_t length)
{
  send_frame(s, make_batch(s, channel, seq, offset, raw, length));
}

static void
send_text(Scene *s, uint64_t seq, uint64_t offset, const char *text)
{
  send_batch(s, NC_CHANNEL_MAIN, seq, offset, text, (uint32_t)strlen(text));
}

/* The next frame of type ${type}; others are passed over. Its payload goes to ${payload}. NULL type: until the end. */
static bool
receive_frame(Scene *s, NcFrameType type, NcFrame *ret, GByteArray *payload)
{
  for (;;) {
    uint8_t header[NC_FRAME_HEADER_BYTES];
    if (!nc_tls_read_all(s->tls, header, sizeof header, WAIT_MS, NULL))
      return false;
    g_assert_true(nc_frame_decode_header(header, ret, NULL));
    g_byte_array_set_size(payload, ret->payload_bytes);
    if (ret->payload_bytes > 0 && !nc_tls_read_all(s->tls, payload->data, payload->len, WAIT_MS, NULL))
      return false;
    ret->payload = payload->data;
    if (ret->type == NC_FRAME_URGENT) {
      NcFrame inner;
      g_assert_true(nc_frame_check_urgent(ret, &inner, NULL));
      g_byte_array_remove_range(payload, 0, NC_FRAME_HEADER_BYTES);
      inner.payload = payload->data;
      *ret = inner;
    }
    if (ret->type == type)
      return true;
  }
}

/* The next event named ${name}. New reference; NULL if the mover ends first. */
static json_t *
await_event(Scene *s, const char *name)
{
  for (;;) {
    nc_autojson json_t *event = nc_msg_recv(s->control, WAIT_MS, NULL, NULL);
    if (!event)
      return NULL;
    if (g_str_equal(json_string_value(json_object_get(event, "ev")), name))
      return json_incref(event);
  }
}

static void
expect_at_qemu(Scene *s, const char *text)
{
  char got[64] = { 0 };
  g_assert_true(nc_read_all(s->qemu, got, strlen(text), WAIT_MS, NULL));
  g_assert_cmpstr(got, ==, text);
}

/* --- against the destination ----------------------------------------------------------------------------------- */

static void
batch_is_too_far_ahead(Scene *s)
{
  send_text(s, 512, 0, "x");
}

static void
batch_is_for_another_place(Scene *s)
{
  send_text(s, 0, 0, "fine");
  expect_at_qemu(s, "fine");
  send_text(s, 1, 5, "gap");
}

static void
send_damaged(Scene *s)
{
  GByteArray *frame = make_batch(s, NC_CHANNEL_MAIN, 0, 0, "innocent", 8);
  frame->data[frame->len - 1] ^= 1;
  send_frame(s, frame);
}

/* Once is bad luck and asked for again; twice is the end. */
static void
batch_is_damaged_twice(Scene *s)
{
  send_damaged(s);
  send_damaged(s);
}

/* References were not agreed on. */
static void
batch_with_history(Scene *s)
{
  GByteArray *frame = make_batch(s, NC_CHANNEL_MAIN, 0, 0, "innocent", 8);
  frame->data[NC_FRAME_HEADER_BYTES + 47] |= 4; /* the flag; wire/batch.h */
  send_frame(s, frame);
}

static void
resend_of_nothing(Scene *s)
{
  send_frame(s, nc_frame_encode_resend(NC_CHANNEL_MAIN, 3));
}

static void
batch_goes_the_wrong_way(Scene *s)
{
  send_batch(s, NC_CHANNEL_RETURN, 0, 0, "back", 4);
}

static void
flood_without_the_first_batch(Scene *s)
{
  g_autofree char *raw = g_malloc0(NC_BATCH_RAW_MAX);
  for (uint64_t seq = 1; seq < 200; seq++) /* 100 MiB that nobody can deliver */
    send_batch(s, NC_CHANNEL_MAIN, seq, seq * NC_BATCH_RAW_MAX, raw, NC_BATCH_RAW_MAX);
}

static void
grant_with_another_digest(Scene *s)
{
  NcFrameGrant grant = { .epoch = 4, .offset = 4 };
  send_text(s, 0, 0, "fine");
  nc_sha256("evil", 4, grant.sha256);
  send_frame(s, nc_frame_encode_grant(&grant));
}

static void
grant_where_no_batch_ended(Scene *s)
{
  NcFrameGrant grant = { .epoch = 4, .offset = 2 };
  send_text(s, 0, 0, "fine");
  nc_sha256("fi", 2, grant.sha256);
  send_frame(s, nc_frame_encode_grant(&grant));
}

static void
grants_without_end(Scene *s)
{
  NcFrameGrant grant = { .offset = 1000 };
  for (grant.epoch = 1; grant.epoch < 20; grant.epoch++)
    send_frame(s, nc_frame_encode_grant(&grant));
}

static void
end_with_another_digest(Scene *s)
{
  NcFrameEnd end = { .offset = 0, .sha256 = { 1 } };
  send_frame(s, nc_frame_encode_end(NC_CHANNEL_MAIN, &end));
}

static void
ack_of_nothing(Scene *s)
{
  send_frame(s, nc_frame_encode_ack(NC_CHANNEL_RETURN, 0, 0));
}

static void
pong_without_ping(Scene *s)
{
  send_frame(s, nc_frame_encode_pong(G_MAXINT64));
}

static void
unknown_frame(Scene *s)
{
  GByteArray *frame = nc_frame_encode_bye();
  frame->data[4] = 77;
  send_frame(s, frame);
}

static void
hello_again(Scene *s)
{
  NcFrameHello hello = { .version = 1,
                         .lowest_version = 1,
                         .streams = 1,
                         .role = NC_WIRE_ROLE_SOURCE,
                         .batch_raw_max = NC_BATCH_RAW_MAX,
                         .ahead_batches = 1,
                         .ahead_bytes = 1 << 20 };
  send_frame(s, nc_frame_encode_hello(&hello));
}

static void
send_urgent(Scene *s, uint64_t number, GByteArray *taken)
{
  g_autoptr(GByteArray) inner = taken;
  send_frame(s, nc_frame_encode_urgent(number, inner));
}

static void
urgent_frame_before_an_earlier_one(Scene *s)
{
  send_urgent(s, 1, nc_frame_encode_resend(NC_CHANNEL_MAIN, 0));
}

static void
bulk_as_urgent_frame(Scene *s)
{
  send_urgent(s, 0, make_batch(s, NC_CHANNEL_MAIN, 0, 0, "x", 1));
}

static void
urgent_frame_inside_another(Scene *s)
{
  g_autoptr(GByteArray) inner = nc_frame_encode_resend(NC_CHANNEL_MAIN, 0);
  send_urgent(s, 0, nc_frame_encode_urgent(0, inner));
}

static void
urgent_frame_cut_short(Scene *s)
{
  GByteArray *inner = make_batch(s, NC_CHANNEL_RETURN, 0, 0, "back", 4);
  g_byte_array_set_size(inner, inner->len - 1);
  send_urgent(s, 0, inner);
}

static void
confirms_what_was_not_sent(Scene *s)
{
  send_frame(s, nc_frame_encode_received(1));
}

/* --- against the source ---------------------------------------------------------------------------------------- */

static void
ack_before_anything_was_sent(Scene *s)
{
  send_frame(s, nc_frame_encode_ack(NC_CHANNEL_MAIN, 0, 0));
}

static void
ack_with_another_offset(Scene *s)
{
  NcFrame frame;
  g_autoptr(GByteArray) payload = g_byte_array_new();

  g_assert_true(nc_write_all(s->qemu, "some bytes", 10, NULL));
  g_assert_true(receive_frame(s, NC_FRAME_BATCH, &frame, payload));
  send_frame(s, nc_frame_encode_ack(NC_CHANNEL_MAIN, 0, 9));
}

static const uint8_t shut[] = { 0, 1, 0, 4, 0, 0, 0, 0 };
static const uint8_t pong[] = { 0, 2, 0, 4, 0, 0, 0, 1 };

static void
shut_without_statement(Scene *s)
{
  send_batch(s, NC_CHANNEL_RETURN, 0, 0, shut, sizeof shut);
}

static void
return_path_out_of_order(Scene *s)
{
  send_batch(s, NC_CHANNEL_RETURN, 1, 0, pong, sizeof pong);
}

static void
return_path_with_a_gap(Scene *s)
{
  send_batch(s, NC_CHANNEL_RETURN, 0, 4, pong, sizeof pong);
}

static void
return_path_nonsense(Scene *s)
{
  send_batch(s, NC_CHANNEL_RETURN, 0, 0, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
}

static void
return_path_flood(Scene *s)
{
  g_autoptr(GByteArray) pongs = g_byte_array_new();
  for (unsigned i = 0; i < 8192; i++)
    g_byte_array_append(pongs, pong, sizeof pong);
  for (uint64_t seq = 0; seq < 64; seq++) /* 4 MiB, and QEMU reads nothing */
    send_batch(s, NC_CHANNEL_RETURN, seq, seq * pongs->len, pongs->data, pongs->len);
}

static void
preempt_out_of_order(Scene *s)
{
  send_batch(s, NC_CHANNEL_PREEMPT, 1, 0, "page", 4);
}

static void
preempt_flood(Scene *s)
{
  g_autoptr(GByteArray) pages = g_byte_array_new();
  g_byte_array_set_size(pages, 65536);
  memset(pages->data, 0, pages->len);
  for (uint64_t seq = 0; seq < 64; seq++) /* 4 MiB, and there is no QEMU for them */
    send_batch(s, NC_CHANNEL_PREEMPT, seq, seq * pages->len, pages->data, pages->len);
}

static void
preempt_flood_of_small_ones(Scene *s)
{
  for (uint64_t seq = 0; seq < 9000; seq++)
    send_batch(s, NC_CHANNEL_PREEMPT, seq, seq, "x", 1);
}

static void
preempt_end_that_differs(Scene *s)
{
  NcFrameEnd end = { .offset = 4 };
  send_batch(s, NC_CHANNEL_PREEMPT, 0, 0, "page", 4);
  send_frame(s, nc_frame_encode_end(NC_CHANNEL_PREEMPT, &end));
}

static void
preempt_to_the_source(Scene *s)
{
  send_batch(s, NC_CHANNEL_PREEMPT, 0, 0, "wrong way", 9);
}

static void
preempt_ack_of_nothing(Scene *s)
{
  send_frame(s, nc_frame_encode_ack(NC_CHANNEL_PREEMPT, 0, 0));
}

static void
preempt_resend(Scene *s)
{
  g_autoptr(GByteArray) frame = nc_frame_encode_resend(NC_CHANNEL_MAIN, 0);
  frame->data[5] = NC_CHANNEL_PREEMPT;
  send_frame(s, g_byte_array_ref(frame));
}

/* --- disks ------------------------------------------------------------------------------------------------------ */

static void
disk_too_far_ahead(Scene *s)
{
  send_batch(s, NC_CHANNEL_DISK(0), 256, 0, "x", 1);
}

/* Nobody has given it a QEMU: what comes waits, up to a limit. */
static void
disk_flood(Scene *s)
{
  g_autoptr(GByteArray) blocks = g_byte_array_new();
  g_byte_array_set_size(blocks, 262144);
  memset(blocks->data, 0, blocks->len);
  for (uint64_t seq = 0; seq < 80; seq++) /* 20 MiB */
    send_batch(s, NC_CHANNEL_DISK(31), seq + 1, (seq + 1) * blocks->len, blocks->data, blocks->len);
}

static void
disk_damaged_twice(Scene *s)
{
  for (int i = 0; i < 2; i++) {
    GByteArray *frame = make_batch(s, NC_CHANNEL_DISK(0), 0, 0, "innocent", 8);
    frame->data[frame->len - 1] ^= 1;
    send_frame(s, frame);
  }
}

static void
disk_ack_of_nothing(Scene *s)
{
  send_frame(s, nc_frame_encode_ack(NC_CHANNEL_DISK(0), 0, 0));
}

static void
disk_resend_of_nothing(Scene *s)
{
  send_frame(s, nc_frame_encode_resend(NC_CHANNEL_DISK(0), 0));
}

static void
disk_answers_out_of_order(Scene *s)
{
  send_batch(s, NC_CHANNEL_DISK(0), 1, 0, "answer", 6);
}

static void
disk_answers_flood(Scene *s)
{
  for (uint64_t seq = 0; seq < 300; seq++)
    send_batch(s, NC_CHANNEL_DISK(0), seq, seq, "x", 1);
}

static void
disk_end_that_differs(Scene *s)
{
  NcFrameEnd end = { .offset = 6 };
  send_batch(s, NC_CHANNEL_DISK(0), 0, 0, "answer", 6);
  send_frame(s, nc_frame_encode_end(NC_CHANNEL_DISK(0), &end));
}

/* A block of a disk, or a page of memory, that goes as ${plan} says. */
static GByteArray *
make_planned(Scene *s, uint8_t channel, uint64_t seq, NcPagePlan plan)
{
  static uint8_t raw[8 + NC_STREAM_PAGE_BYTES] = { 0, 0, 0, 0, 0, 0, 0, 0x28, 1, 2, 3 };
  bool page = channel == NC_CHANNEL_MAIN;
  uint32_t header = page ? 8 : 0;
  NcStreamRecord rec = { .kind = page ? NC_RECORD_PAGE : NC_RECORD_BLOCK, .header_bytes = (uint16_t)header, .length = header + NC_STREAM_PAGE_BYTES };
  g_autoptr(NcPlan) all = nc_plan_new();

  g_array_append_val(all->pages, plan);
  g_autoptr(GByteArray) payload = nc_batch_encode_planned(s->encoder, 0, raw + (page ? 0 : 8), rec.length, &rec, 1, all, false, NULL);
  GByteArray *frame = nc_frame_encode_batch_header(channel, seq, payload->len);
  return g_byte_array_append(frame, payload->data, payload->len);
}

static void
disk_refers_to_frame_4(Scene *s)
{
  send_frame(s, make_planned(s, NC_CHANNEL_DISK(0), 0, (NcPagePlan){ .kind = NC_PLAN_BLOCK, .reference = 4, .frame = NC_NO_FRAME }));
}

static void
disk_fills_frame_4(Scene *s)
{
  send_frame(s, make_planned(s, NC_CHANNEL_DISK(0), 0, (NcPagePlan){ .kind = NC_PLAN_WHOLE, .frame = 4 }));
}

static void
page_refers_to_frame_4(Scene *s)
{
  send_frame(s, make_planned(s, NC_CHANNEL_MAIN, 0, (NcPagePlan){ .kind = NC_PLAN_BLOCK, .reference = 4, .frame = NC_NO_FRAME }));
}

/* The second may come from a lost connection; the third does not. */
static void
thrice(Scene *s, void (*attack)(Scene *))
{
  for (int i = 0; i < 3; i++)
    attack(s);
}

/* Where nothing was put: what comes out is not what was sent. */
static void
disk_refers_to_nothing(Scene *s)
{
  thrice(s, disk_refers_to_frame_4);
}

static void
page_refers_to_nothing(Scene *s)
{
  thrice(s, page_refers_to_frame_4);
}

static void
batch_to_the_source(Scene *s)
{
  send_text(s, 0, 0, "wrong way");
}

static void
grant_to_the_source(Scene *s)
{
  NcFrameGrant grant = { .epoch = 4 };
  send_frame(s, nc_frame_encode_grant(&grant));
}

static const Attack attacks[] = {
  { "batch-is-too-far-ahead", false, batch_is_too_far_ahead, NC_ERROR_PROTOCOL, "farther ahead" },
  { "batch-is-for-another-place", false, batch_is_for_another_place, NC_ERROR_PROTOCOL, "for byte 5 and not 4" },
  { "batch-is-damaged-twice", false, batch_is_damaged_twice, NC_ERROR_CORRUPT, "batch 0, for the second time" },
  { "batch-with-history", false, batch_with_history, NC_ERROR_PROTOCOL, "history" },
  { "resend-of-nothing", true, resend_of_nothing, NC_ERROR_PROTOCOL, "not under way" },
  { "batch-goes-the-wrong-way", false, batch_goes_the_wrong_way, NC_ERROR_PROTOCOL, "no place at the destination" },
  { "flood-without-the-first-batch", false, flood_without_the_first_batch, NC_ERROR_PROTOCOL, "farther ahead" },
  { "grant-with-another-digest", false, grant_with_another_digest, NC_ERROR_CORRUPT, "the grant" },
  { "grant-where-no-batch-ended", false, grant_where_no_batch_ended, NC_ERROR_PROTOCOL, "where no batch ended" },
  { "grants-without-end", false, grants_without_end, NC_ERROR_PROTOCOL, "too many statements" },
  { "end-with-another-digest", false, end_with_another_digest, NC_ERROR_CORRUPT, "the end" },
  { "ack-of-nothing", false, ack_of_nothing, NC_ERROR_PROTOCOL, "not under way" },
  { "pong-without-ping", false, pong_without_ping, NC_ERROR_PROTOCOL, "answers no ping" },
  { "unknown-frame", false, unknown_frame, NC_ERROR_PROTOCOL, "connection 0" },
  { "hello-again", false, hello_again, NC_ERROR_PROTOCOL, "no place" },
  { "urgent-frame-before-an-earlier-one", false, urgent_frame_before_an_earlier_one, NC_ERROR_PROTOCOL, "before an earlier" },
  { "bulk-as-urgent-frame", false, bulk_as_urgent_frame, NC_ERROR_PROTOCOL, "BATCH of channel 1 as urgent" },
  { "urgent-frame-inside-another", true, urgent_frame_inside_another, NC_ERROR_PROTOCOL, "URGENT of channel 0 as urgent" },
  { "urgent-frame-cut-short", true, urgent_frame_cut_short, NC_ERROR_PROTOCOL, "an urgent frame of" },
  { "confirms-what-was-not-sent", true, confirms_what_was_not_sent, NC_ERROR_PROTOCOL, "that were not sent" },
  { "ack-before-anything-was-sent", true, ack_before_anything_was_sent, NC_ERROR_PROTOCOL, "not under way" },
  { "ack-with-another-offset", true, ack_with_another_offset, NC_ERROR_PROTOCOL, "wrong offset" },
  { "shut-without-statement", true, shut_without_statement, NC_ERROR_PROTOCOL, "without a statement" },
  { "return-path-out-of-order", true, return_path_out_of_order, NC_ERROR_PROTOCOL, "out of order" },
  { "return-path-with-a-gap", true, return_path_with_a_gap, NC_ERROR_PROTOCOL, "out of order" },
  { "return-path-nonsense", true, return_path_nonsense, NC_ERROR_PROTOCOL, "return path" },
  { "return-path-flood", true, return_path_flood, NC_ERROR_PROTOCOL, "than the window allows" },
  { "source/preempt-to-the-source", true, preempt_to_the_source, NC_ERROR_PROTOCOL, "has no place" },
  { "source/preempt-ack-of-nothing", true, preempt_ack_of_nothing, NC_ERROR_PROTOCOL, "acknowledged preempt batch 0" },
  { "source/preempt-resend", true, preempt_resend, NC_ERROR_PROTOCOL, "RESEND for channel 3" },
  { "destination/preempt-out-of-order", false, preempt_out_of_order, NC_ERROR_PROTOCOL, "preempt batch 1 is out of order" },
  { "destination/preempt-flood", false, preempt_flood, NC_ERROR_PROTOCOL, "more preempt bytes" },
  { "destination/preempt-flood-of-small-ones", false, preempt_flood_of_small_ones, NC_ERROR_PROTOCOL, "more preempt bytes" },
  { "destination/preempt-end-that-differs", false, preempt_end_that_differs, NC_ERROR_CORRUPT, "the preempt channel ends" },
  { "batch-to-the-source", true, batch_to_the_source, NC_ERROR_PROTOCOL, "no place at the source" },
  { "grant-to-the-source", true, grant_to_the_source, NC_ERROR_PROTOCOL, "no place at the source" },
  { "disk-too-far-ahead", false, disk_too_far_ahead, NC_ERROR_PROTOCOL, "farther ahead" },
  { "disk-flood", false, disk_flood, NC_ERROR_PROTOCOL, "farther ahead" },
  { "disk-damaged-twice", false, disk_damaged_twice, NC_ERROR_CORRUPT, "second time" },
  { "disk-ack-of-nothing", false, disk_ack_of_nothing, NC_ERROR_PROTOCOL, "not under way" },
  { "disk-ack-of-nothing", true, disk_ack_of_nothing, NC_ERROR_PROTOCOL, "not open" },
  { "disk-resend-of-nothing", true, disk_resend_of_nothing, NC_ERROR_PROTOCOL, "not open" },
  { "disk-answers-out-of-order", true, disk_answers_out_of_order, NC_ERROR_PROTOCOL, "out of order" },
  { "disk-answers-flood", true, disk_answers_flood, NC_ERROR_PROTOCOL, "window" },
  { "disk-end-that-differs", true, disk_end_that_differs, NC_ERROR_CORRUPT, "differ" },
  { "disk-refers-and-nothing-was-agreed", false, disk_refers_to_frame_4, NC_ERROR_PROTOCOL, "a block that is not kept" },
  { "disk-fills-and-nothing-was-agreed", false, disk_fills_frame_4, NC_ERROR_PROTOCOL, "where nothing can be" },
  { "page-refers-and-nothing-was-agreed", false, page_refers_to_frame_4, NC_ERROR_PROTOCOL, "a block that is not kept" },
  { "disk-refers-to-one-too-many", false, disk_refers_to_frame_4, NC_ERROR_PROTOCOL, "a block that is not kept", 4 },
  { "disk-fills-one-too-many", false, disk_fills_frame_4, NC_ERROR_PROTOCOL, "where nothing can be", 4 },
  { "page-refers-to-one-too-many", false, page_refers_to_frame_4, NC_ERROR_PROTOCOL, "a block that is not kept", 4 },
  { "disk-refers-to-nothing", false, disk_refers_to_nothing, NC_ERROR_CORRUPT, "second time", 5 },
  { "page-refers-to-nothing", false, page_refers_to_nothing, NC_ERROR_CORRUPT, "second time", 5 },
};

/* The event says why; the peer is told the same; nothing more comes to QEMU; the exit status is 1. */
static void
expect_error(Scene *s, const char *side, int code, const char *text)
{
  nc_autojson json_t *event = await_event(s, "error");
  g_assert_nonnull(event);
  const char *message = json_string_value(json_object_get(event, "message"));
  g_test_message("%s", message);
  g_assert_cmpstr(json_string_value(json_object_get(event, "code")), ==, nc_error_code_name(code));
  g_assert_nonnull(strstr(message, text));
  g_assert_true(g_str_has_prefix(message, side));
  if (code != NC_ERROR_UNREACHABLE) {
    NcFrame frame;
    NcFrameError report;
    g_autoptr(GByteArray) payload = g_byte_array_new();
    g_assert_true(receive_frame(s, NC_FRAME_ERROR, &frame, payload));
    g_assert_true(nc_frame_check_error(&frame, &report, NULL));
    g_assert_cmpint(report.code, ==, code);
    g_assert_nonnull(strstr(report.text, text));
    shutdown(nc_tls_fd(s->tls), SHUT_RDWR); /* it lingers for us */
  }
}

static void
expect_end(Scene *s)
{
  int status;
  g_assert_cmpint(waitpid(s->pid, &status, 0), ==, s->pid);
  g_assert_true(WIFEXITED(status));
  g_assert_cmpint(WEXITSTATUS(status), ==, 1);
}

static void
test_attack(gconstpointer data)
{
  const Attack *a = data;
  Scene s;
  char more;

  open_scene_with(&s, a->at_source, NULL, a->blocks);
  a->attack(&s);
  expect_error(&s, a->at_source ? "source mover: " : "destination mover: ", a->code, a->text);
  expect_end(&s);
  if (!a->at_source && a->attack != grant_with_another_digest && a->attack != grant_where_no_batch_ended)
    g_assert_cmpint(recv(s.qemu, &more, 1, 0), <=, 0); /* closed, and nothing before */
  close_scene(&s);
}

static void
spoil_role(NcFrameHello *hello)
{
  hello->role = NC_WIRE_ROLE_DESTINATION;
}

static void
spoil_streams(NcFrameHello *hello)
{
  hello->streams = 2;
  hello->index = 1;
}

static void
spoil_version(NcFrameHello *hello)
{
  hello->version = hello->lowest_version = 9;
}

static void
spoil_limits(NcFrameHello *hello)
{
  hello->batch_raw_max = 4096;
}

static void
test_hello_that_does_not_fit(void)
{
  void (*const spoils[])(NcFrameHello *) = { spoil_role, spoil_streams, spoil_version, spoil_limits };

  for (size_t i = 0; i < G_N_ELEMENTS(spoils); i++) {
    Scene s;
    open_scene(&s, false, spoils[i]);
    expect_error(&s, "destination mover: ", NC_ERROR_PROTOCOL, "connection 0");
    expect_end(&s);
    close_scene(&s);
  }
}

/* A peer that asks and does not listen costs one latched answer, and no progress is lost. */
static void
test_flood_of_pings(void)
{
  Scene s;
  g_autoptr(GByteArray) flood = g_byte_array_new();

  open_scene(&s, false, NULL);
  for (unsigned i = 0; i < 100000; i++) {
    g_autoptr(GByteArray) ping = nc_frame_encode_ping(i);
    g_byte_array_append(flood, ping->data, ping->len);
  }
  g_assert_true(nc_tls_write_all(s.tls, flood->data, flood->len, WAIT_MS, NULL));
  send_text(&s, 0, 0, "still here");
  expect_at_qemu(&s, "still here");
  tell(&s, json_pack("{s:s}", "op", "finish"), -1);
  nc_autojson json_t *done = await_event(&s, "done");
  g_assert_nonnull(done);
  g_assert_cmpint(json_integer_value(json_object_get(done, "rss_bytes")), <, 200 << 20);
  close_scene(&s);
}

/* After a lost connection what came already comes again: it is delivered once. */
static void
test_what_comes_twice_is_delivered_once(void)
{
  Scene s;

  open_scene(&s, false, NULL);
  send_text(&s, 1, 5, "world");
  send_text(&s, 1, 5, "w0rld");
  send_text(&s, 0, 0, "hello");
  expect_at_qemu(&s, "helloworld");
  send_text(&s, 0, 0, "hello");
  send_text(&s, 2, 10, "!");
  expect_at_qemu(&s, "!");
  close_scene(&s);
}

/* Whoever hangs up is told of, and waited for. */
static void
test_just_hang_up(void)
{
  Scene s;

  open_scene(&s, false, NULL);
  send_text(&s, 0, 0, "fine");
  expect_at_qemu(&s, "fine");
  shutdown(nc_tls_fd(s.tls), SHUT_RDWR);
  nc_autojson json_t *lost = await_event(&s, "lost");
  g_assert_nonnull(lost);
  g_assert_cmpstr(json_string_value(json_object_get(lost, "code")), ==, nc_error_code_name(NC_ERROR_UNREACHABLE));
  connect_scene(&s, false, NULL);
  send_text(&s, 1, 4, "again");
  expect_at_qemu(&s, "again");
  close_scene(&s);
}

static bool
receive_batch_again(Scene *s, GByteArray *payload)
{
  NcFrame frame;
  send_frame(s, nc_frame_encode_resend(NC_CHANNEL_MAIN, 0));
  return receive_frame(s, NC_FRAME_BATCH, &frame, payload) && frame.argument == 0;
}

/* A damaged batch is asked for by name, and its second coming is what QEMU gets. */
static void
test_damage_is_asked_for_again(void)
{
  Scene s;
  NcFrame frame;
  char got[8];
  g_autoptr(GByteArray) payload = g_byte_array_new();

  open_scene(&s, false, NULL);
  send_damaged(&s);
  send_batch(&s, NC_CHANNEL_MAIN, 1, 8, "later", 5);
  g_assert_true(receive_frame(&s, NC_FRAME_RESEND, &frame, payload));
  g_assert_cmpuint(frame.argument, ==, 0);
  send_batch(&s, NC_CHANNEL_MAIN, 0, 0, "innocent", 8);
  g_assert_true(nc_read_all(s.qemu, got, sizeof got, WAIT_MS, NULL));
  g_assert_cmpmem(got, sizeof got, "innocent", 8);
  close_scene(&s);
}

/*
 * What refers to something else than the source thinks is asked for; then it comes as it was, from a connection that took the
 * place of a lost one, and then whole, which is what QEMU gets. Found out by a link's thread, and by the writer.
 */
static void
test_a_stale_copy_is_not_the_answer(void)
{
  static const NcPlanKind kinds[] = { NC_PLAN_BLOCK, NC_PLAN_REFERENCE };

  for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
    const NcPagePlan refers = { .kind = kinds[i], .reference = 4, .frame = NC_NO_FRAME };
    const NcPagePlan goes_whole = { .kind = NC_PLAN_WHOLE, .frame = NC_NO_FRAME };
    Scene s;
    NcFrame frame;
    uint8_t got[8 + NC_STREAM_PAGE_BYTES];
    g_autoptr(GByteArray) payload = g_byte_array_new();

    open_scene_with(&s, false, NULL, 5);
    send_frame(&s, make_planned(&s, NC_CHANNEL_MAIN, 0, refers));
    g_assert_true(receive_frame(&s, NC_FRAME_RESEND, &frame, payload));
    send_frame(&s, make_planned(&s, NC_CHANNEL_MAIN, 0, refers));
    send_frame(&s, make_planned(&s, NC_CHANNEL_MAIN, 0, goes_whole));
    g_assert_true(nc_read_all(s.qemu, got, sizeof got, WAIT_MS, NULL));
    g_assert_cmpuint(got[8], ==, 1);
    g_assert_cmpuint(got[10], ==, 3);
    close_scene(&s);
  }
}

/* The source sends the same bytes once more, but not for ever. */
static void
test_resend_once(void)
{
  Scene s;
  NcFrame frame;
  g_autoptr(GByteArray) first = g_byte_array_new(), again = g_byte_array_new();

  open_scene(&s, true, NULL);
  g_assert_true(nc_write_all(s.qemu, "abc", 3, NULL));
  g_assert_true(receive_frame(&s, NC_FRAME_BATCH, &frame, first));
  g_assert_true(receive_batch_again(&s, again));
  g_assert_cmpmem(first->data, first->len, again->data, again->len);
  send_frame(&s, nc_frame_encode_resend(NC_CHANNEL_MAIN, 0));
  nc_autojson json_t *error = await_event(&s, "error");
  g_assert_nonnull(error);
  g_assert_nonnull(strstr(json_string_value(json_object_get(error, "message")), "again and again"));
  close_scene(&s);
}

/* What the destination claims is compared, and reported, not believed. */
static void
test_statement_that_differs(void)
{
  Scene s;
  NcFrameDigest digest = { .offset = 3 };
  NcFrame frame;
  g_autoptr(GByteArray) payload = g_byte_array_new();
  struct pollfd p;

  open_scene(&s, true, NULL);
  g_assert_true(nc_write_all(s.qemu, "abc", 3, NULL));
  g_assert_true(receive_frame(&s, NC_FRAME_BATCH, &frame, payload));
  nc_sha256("abd", 3, digest.sha256);
  send_frame(&s, nc_frame_encode_digest(NC_CHANNEL_MAIN, &digest));
  send_batch(&s, NC_CHANNEL_RETURN, 0, 0, shut, sizeof shut);
  nc_autojson json_t *event = await_event(&s, "shut");
  g_assert_nonnull(event);
  g_assert_true(json_is_false(json_object_get(event, "equal")));
  p = (struct pollfd){ .fd = s.qemu, .events = POLLIN };
  g_assert_cmpint(poll(&p, 1, 300), ==, 0); /* SHUT is held */
  close_scene(&s);
}

/* What QEMU's mirror says first, and a write of one block. */
static void
write_block(int client, bool first, uint8_t byte, uint64_t offset)
{
  static const uint8_t hello[] = "\0\0\0\3IHAVEOPT\0\0\0\7\0\0\0\0";
  g_autoptr(GByteArray) request = g_byte_array_new();

  if (first)
    g_byte_array_append(request, hello, sizeof hello - 1);
  nc_put_u32(request, 0x25609513);
  nc_put_u32(request, 1); /* flags, and a write */
  nc_put_u64(request, 1);
  nc_put_u64(request, offset);
  nc_put_u32(request, NC_STREAM_PAGE_BYTES);
  for (unsigned i = 0; i < NC_STREAM_PAGE_BYTES; i++)
    nc_put_u8(request, (uint8_t)(byte + i * i));
  g_assert_true(nc_write_all(client, request->data, request->len, NULL));
}

/* The next batch of the disk's, whole; *stream: where it ends. */
static void
receive_disk_batch(Scene *s, uint64_t seq, GByteArray *payload, uint64_t *stream)
{
  NcFrame frame;
  NcBatchPeek peek;

  g_assert_true(receive_frame(s, NC_FRAME_BATCH, &frame, payload));
  g_assert_cmpuint(frame.channel, ==, NC_CHANNEL_DISK(0));
  g_assert_cmpuint(frame.argument, ==, seq);
  g_assert_true(nc_batch_peek(payload->data, payload->len, &peek) && !peek.has_history);
  *stream += peek.raw_len;
}

/* A destination whose copy of a block is not what the source thinks gets it whole, and it is not referred to any more. */
static void
test_a_reference_that_is_wrong_comes_whole(void)
{
  Scene s;
  int disk[2];
  uint64_t stream = 0, again = 0;
  g_autoptr(GByteArray) first = g_byte_array_new(), reference = g_byte_array_new(), whole = g_byte_array_new(), later = g_byte_array_new();

  open_scene_with(&s, true, NULL, 8);
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, disk), ==, 0);
  tell(&s, json_pack("{s:s, s:i}", "op", "disk", "index", 0), disk[1]);
  close(disk[1]);
  write_block(disk[0], true, 7, 0);
  receive_disk_batch(&s, 0, first, &stream);
  g_assert_cmpuint(first->len, >, NC_STREAM_PAGE_BYTES);
  send_frame(&s, nc_frame_encode_ack(NC_CHANNEL_DISK(0), 0, stream));
  send_frame(&s, nc_frame_encode_ping(1)); /* its answer comes behind what the ACK has changed */
  NcFrame pong_frame;
  g_assert_true(receive_frame(&s, NC_FRAME_PONG, &pong_frame, later));
  write_block(disk[0], false, 7, 65536);
  receive_disk_batch(&s, 1, reference, &stream);
  g_assert_cmpuint(reference->len, <, 300);
  send_frame(&s, nc_frame_encode_resend(NC_CHANNEL_DISK(0), 1));
  receive_disk_batch(&s, 1, whole, &again);
  g_assert_cmpuint(whole->len, >, NC_STREAM_PAGE_BYTES);
  send_frame(&s, nc_frame_encode_ack(NC_CHANNEL_DISK(0), 1, stream));
  write_block(disk[0], false, 7, 131072);
  receive_disk_batch(&s, 2, later, &stream);
  g_assert_cmpuint(later->len, >, NC_STREAM_PAGE_BYTES);
  close(disk[0]);
  close_scene(&s);
}

int
main(int argc, char **argv)
{
  signal(SIGPIPE, SIG_IGN);
  g_test_init(&argc, &argv, NULL);
  for (size_t i = 0; i < G_N_ELEMENTS(attacks); i++) {
    g_autofree char *path =
        g_strdup_printf("/mover/%s/%s", attacks[i].at_source ? "source" : "destination", attacks[i].name);
    g_test_add_data_func(path, &attacks[i], test_attack);
  }
  g_test_add_func("/mover/hello-that-does-not-fit", test_hello_that_does_not_fit);
  g_test_add_func("/mover/flood-of-pings", test_flood_of_pings);
  g_test_add_func("/mover/statement-that-differs", test_statement_that_differs);
  g_test_add_func("/mover/what-comes-twice-is-delivered-once", test_what_comes_twice_is_delivered_once);
  g_test_add_func("/mover/just-hang-up", test_just_hang_up);
  g_test_add_func("/mover/destination/damage-is-asked-for-again", test_damage_is_asked_for_again);
  g_test_add_func("/mover/destination/a-stale-copy-is-not-the-answer", test_a_stale_copy_is_not_the_answer);
  g_test_add_func("/mover/source/resend-once", test_resend_once);
  g_test_add_func("/mover/source/a-reference-that-is-wrong-comes-whole", test_a_reference_that_is_wrong_comes_whole);
  return g_test_run();
}
