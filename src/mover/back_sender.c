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
  NcOrderedSender *channel;

  /* the thread's */
  NcReturnPath *parser;
  uint64_t pongs; /* that have passed */
};

NcBackSender *
nc_back_sender_new(NcMover *m)
{
  static const NcBatchPolicy plain = { .codec = NC_CODEC_NONE }; /* messages of 20 bytes */
  NcBackSender *b = g_new0(NcBackSender, 1);

  b->mover = m;
  b->qemu = -1;
  b->parser = nc_return_path_new();
  b->channel = nc_ordered_sender_new(m, &nc_ordered_return_path, &plain);
  return b;
}

NcOrderedSender *
nc_back_sender_channel(NcBackSender *b)
{
  return b->channel;
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
    if (message.type == NC_RETURN_PONG && b->pongs++ < NC_MOVER_MAX_PONGS)
      nc_mover_emit(b->mover, json_pack("{s:s, s:I}", "ev", "pong", "value", (json_int_t)message.value));
    nc_ordered_sender_send(b->channel, message.data, message.length, NULL, 0);
  }
  return outcome == NC_RETURN_MORE;
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
  nc_ordered_sender_end(b->channel);
  nc_mover_qemu_closed(b->mover);
  return NULL;
}

void
nc_back_sender_start(NcBackSender *b, int qemu)
{
  b->qemu = qemu;
  nc_mover_spawn("back-sender", nc_back_sender_run, b);
}
