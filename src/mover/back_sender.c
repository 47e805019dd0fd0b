/* SPDX-License-Identifier: Apache-2.0 */
/* The return path at the destination: QEMU's messages into urgent batches. */
#include "mover/back_sender.h"
#include "base/bytes.h"
#include "base/log.h"
#include "mover/limits.h"
#include "mover/links.h"
#include "mover/sink.h"
#include "qemu/return_path.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

struct NcBackSender {
  NcMover *mover;
  int qemu;

  /* the thread's */
  NcReturnPath *parser;
  NcBatchEncoder *encoder;

  pthread_mutex_t lock;    /* protects everything below */
  pthread_cond_t has_room; /* for the thread */
  uint64_t next_seq;       /* to send */
  uint64_t next_ack;       /* first one not acknowledged */
  uint64_t acked_offset;
  uint64_t offset;
  NcChain chain;
};

NcBackSender *
nc_back_sender_new(NcMover *m)
{
  static const NcBatchPolicy plain = { .codec = NC_CODEC_NONE }; /* messages of 20 bytes */
  NcBackSender *b = g_new0(NcBackSender, 1);

  b->mover = m;
  b->qemu = -1;
  b->parser = nc_return_path_new();
  b->encoder = nc_batch_encoder_new(&plain);
  pthread_mutex_init(&b->lock, NULL);
  pthread_cond_init(&b->has_room, NULL);
  return b;
}

void
nc_back_sender_position(NcBackSender *b, NcChain *ret)
{
  pthread_mutex_lock(&b->lock);
  *ret = b->chain;
  pthread_mutex_unlock(&b->lock);
}

/* Takes the next number and place for ${length} bytes, when the window has room. */
static void
nc_back_sender_reserve(NcBackSender *b, size_t length, uint64_t *ret_seq, uint64_t *ret_offset)
{
  pthread_mutex_lock(&b->lock);
  while (b->offset - b->acked_offset > NC_MOVER_BACK_WINDOW_BYTES - NC_MOVER_BACK_BATCH_BYTES)
    pthread_cond_wait(&b->has_room, &b->lock);
  *ret_seq = b->next_seq++;
  *ret_offset = b->offset;
  b->offset += length;
  pthread_mutex_unlock(&b->lock);
}

static void
nc_back_sender_send(NcBackSender *b, const uint8_t *data, size_t length)
{
  for (size_t done = 0; done < length;) {
    size_t n = MIN(length - done, NC_MOVER_BACK_BATCH_BYTES);
    uint64_t seq, offset;
    NcBatchStats ignored;
    nc_back_sender_reserve(b, n, &seq, &offset);
    g_autoptr(GByteArray) payload = nc_batch_encode(b->encoder, offset, data + done, (uint32_t)n, NULL, 0, &ignored);
    pthread_mutex_lock(&b->lock);
    nc_chain_append(&b->chain, (uint32_t)n, nc_batch_sha256(payload->data));
    pthread_mutex_unlock(&b->lock);
    GByteArray *frame = nc_frame_encode_batch_header(NC_CHANNEL_RETURN, seq, payload->len);
    g_byte_array_append(frame, payload->data, payload->len);
    nc_mover_send_urgent(b->mover, frame);
    done += n;
  }
}

/* QEMU has loaded everything: say what that was, to both, before the source's QEMU may hear of it. */
static void
nc_back_sender_announce_shut(NcBackSender *b, const NcReturnMessage *shut)
{
  NcChain delivered;

  atomic_store(&b->mover->shut_passed, true);
  nc_sink_position(b->mover->sink, &delivered);
  NcFrameDigest digest = { .offset = delivered.offset };
  memcpy(digest.sha256, delivered.value, sizeof digest.sha256);
  nc_mover_send_urgent(b->mover, nc_frame_encode_digest(NC_CHANNEL_MAIN, &digest));
  g_autofree char *hex = nc_hex_encode(digest.sha256, sizeof digest.sha256);
  nc_mover_emit(b->mover, json_pack("{s:s, s:I, s:I, s:s}", "ev", "shut", "status", (json_int_t)shut->value,
                                    "stream_bytes", (json_int_t)digest.offset, "sha256", hex));
}

static bool
nc_back_sender_take(NcBackSender *b, const uint8_t *data, size_t length, GError **error)
{
  NcReturnMessage message;
  NcReturnOutcome outcome;

  nc_return_path_feed(b->parser, data, length);
  while ((outcome = nc_return_path_next(b->parser, &message, error)) == NC_RETURN_MESSAGE) {
    if (message.type == NC_RETURN_SHUT)
      nc_back_sender_announce_shut(b, &message);
    nc_back_sender_send(b, message.data, message.length);
  }
  return outcome == NC_RETURN_MORE;
}

static void
nc_back_sender_conclude(NcBackSender *b)
{
  NcChain sent;

  nc_back_sender_position(b, &sent);
  NcFrameEnd end = { .offset = sent.offset };
  memcpy(end.sha256, sent.value, sizeof end.sha256);
  nc_mover_send_urgent(b->mover, nc_frame_encode_end(NC_CHANNEL_RETURN, &end));
  nc_mover_qemu_closed(b->mover);
}

static void *
nc_back_sender_run(void *argument)
{
  NcBackSender *b = argument;
  uint8_t buffer[16384];

  nc_mover_wait_open(b->mover);
  for (;;) {
    GError *error = NULL;
    ssize_t n = recv(b->qemu, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0) /* a reset is an end like any other */
      break;
    if (!nc_back_sender_take(b, buffer, (size_t)n, &error)) {
      g_prefix_error(&error, "QEMU's return path: ");
      nc_mover_fail(b->mover, error);
      return NULL;
    }
  }
  nc_back_sender_conclude(b);
  return NULL;
}

void
nc_back_sender_start(NcBackSender *b, int qemu)
{
  b->qemu = qemu;
  nc_mover_spawn("back-sender", nc_back_sender_run, b);
}

bool
nc_back_sender_acked(NcBackSender *b, uint64_t seq, uint64_t offset, GError **error)
{
  pthread_mutex_lock(&b->lock);
  bool said_before = seq < b->next_ack; /* by a carrier that is gone */
  bool under_way = !said_before && seq < b->next_seq;
  bool fits = offset >= b->acked_offset && offset <= b->offset && (seq + 1 < b->next_seq || offset == b->offset);
  if (under_way && fits) {
    b->next_ack = seq + 1;
    b->acked_offset = offset;
    pthread_cond_signal(&b->has_room);
  }
  pthread_mutex_unlock(&b->lock);
  if (!said_before && (!under_way || !fits))
    return nc_fail(error, NC_ERROR_PROTOCOL, "acknowledged return-path batch %" G_GUINT64_FORMAT " is not under way",
                   seq);
  return true;
}
