/* SPDX-License-Identifier: Apache-2.0 */
/* The return path at the source: messages out of verified batches, and SHUT in our hands. */
#include "mover/back_receiver.h"
#include "base/bytes.h"
#include "base/io.h"
#include "base/log.h"
#include "mover/limits.h"
#include "mover/links.h"
#include "mover/outbox.h"
#include "mover/source.h"
#include "qemu/return_path.h"

#include <string.h>

struct NcBackReceiver {
  NcMover *mover;
  int qemu;
  NcReturnPath *parser; /* the thread's */

  pthread_mutex_t lock;    /* protects everything below */
  pthread_cond_t has_news; /* bytes, or permission; for the thread */
  GQueue queue;            /* of GByteArray, verified, in order */
  uint64_t queued_bytes;
  bool busy; /* the thread is writing to QEMU */
  bool shut_allowed;
  bool has_digest; /* the destination has said what it delivered */
  NcFrameDigest digest;
  uint64_t next_seq;
  NcChain chain; /* received */
};

NcBackReceiver *
nc_back_receiver_new(NcMover *m)
{
  NcBackReceiver *b = g_new0(NcBackReceiver, 1);

  b->mover = m;
  b->qemu = -1;
  b->parser = nc_return_path_new();
  g_queue_init(&b->queue);
  pthread_mutex_init(&b->lock, NULL);
  pthread_cond_init(&b->has_news, NULL);
  return b;
}

void
nc_back_receiver_position(NcBackReceiver *b, NcChain *ret)
{
  pthread_mutex_lock(&b->lock);
  *ret = b->chain;
  pthread_mutex_unlock(&b->lock);
}

/* Takes ${raw} on success. */
static bool
nc_back_receiver_store(NcBackReceiver *b, uint64_t seq, uint64_t offset, const uint8_t sha256[NC_SHA256_BYTES],
                       GByteArray *raw, GError **error)
{
  pthread_mutex_lock(&b->lock);
  bool next = seq == b->next_seq && offset == b->chain.offset;
  bool room = b->queued_bytes + raw->len <= NC_MOVER_BACK_WINDOW_BYTES;
  if (next && room) {
    b->next_seq++;
    b->queued_bytes += raw->len;
    nc_chain_append(&b->chain, raw->len, sha256);
    g_queue_push_tail(&b->queue, raw);
    pthread_cond_signal(&b->has_news);
  }
  pthread_mutex_unlock(&b->lock);
  if (!next)
    return nc_fail(error, NC_ERROR_PROTOCOL, "return-path batch %" G_GUINT64_FORMAT " is out of order", seq);
  return room ? true : nc_fail(error, NC_ERROR_PROTOCOL, "more return-path bytes than the window allows");
}

bool
nc_back_receiver_batch(NcBackReceiver *b, NcBatchDecoder *decoder, uint64_t seq, const uint8_t *payload,
                       size_t length_bytes, GError **error)
{
  g_autoptr(GByteArray) raw = g_byte_array_new();
  uint64_t offset;

  if (!nc_batch_decode(decoder, payload, length_bytes, raw, &offset, error)) {
    g_prefix_error(error, "return-path batch %" G_GUINT64_FORMAT ": ", seq);
    return false;
  }
  if (!nc_back_receiver_store(b, seq, offset, nc_batch_sha256(payload), raw, error))
    return false;
  g_steal_pointer(&raw); /* handed over, not shared */
  return true;
}

void
nc_back_receiver_digest(NcBackReceiver *b, const NcFrameDigest *digest)
{
  pthread_mutex_lock(&b->lock);
  b->digest = *digest;
  b->has_digest = true;
  pthread_mutex_unlock(&b->lock);
}

void
nc_back_receiver_deliver_shut(NcBackReceiver *b)
{
  pthread_mutex_lock(&b->lock);
  b->shut_allowed = true;
  pthread_cond_signal(&b->has_news);
  pthread_mutex_unlock(&b->lock);
}

bool
nc_back_receiver_is_idle(NcBackReceiver *b)
{
  pthread_mutex_lock(&b->lock);
  bool idle = !b->busy && g_queue_is_empty(&b->queue);
  pthread_mutex_unlock(&b->lock);
  return idle;
}

static bool
nc_back_receiver_report_shut(NcBackReceiver *b, uint32_t status, GError **error)
{
  NcChain ours, theirs = { 0 };

  atomic_store(&b->mover->shut_passed, true);
  nc_outbox_position(nc_source_outbox(b->mover->source), &ours);
  pthread_mutex_lock(&b->lock);
  bool stated = b->has_digest;
  theirs.offset = b->digest.offset;
  memcpy(theirs.value, b->digest.sha256, sizeof theirs.value);
  pthread_mutex_unlock(&b->lock);
  if (!stated)
    return nc_fail(error, NC_ERROR_PROTOCOL, "SHUT came without a statement of what was delivered");
  g_autofree char *hex = nc_hex_encode(ours.value, sizeof ours.value);
  g_autofree char *peer_hex = nc_hex_encode(theirs.value, sizeof theirs.value);
  nc_mover_emit(b->mover, json_pack("{s:s, s:I, s:I, s:s, s:I, s:s, s:b}", "ev", "shut", "status", (json_int_t)status,
                                    "stream_bytes", (json_int_t)ours.offset, "sha256", hex, "peer_stream_bytes",
                                    (json_int_t)theirs.offset, "peer_sha256", peer_hex, "equal", (int)nc_chain_equal(&ours, &theirs)));
  return true;
}

static void
nc_back_receiver_await_permission(NcBackReceiver *b)
{
  pthread_mutex_lock(&b->lock);
  b->busy = false; /* nothing is owed to QEMU while nobody has decided */
  while (!b->shut_allowed)
    pthread_cond_wait(&b->has_news, &b->lock);
  b->busy = true;
  pthread_mutex_unlock(&b->lock);
}

static bool
nc_back_receiver_deliver(NcBackReceiver *b, const NcReturnMessage *message, GError **error)
{
  g_autoptr(GError) gone = NULL;

  if (message->type == NC_RETURN_SHUT) {
    if (!nc_back_receiver_report_shut(b, message->value, error))
      return false;
    nc_back_receiver_await_permission(b);
  }
  if (nc_mover_is_stopped(b->mover))
    return true;
  if (!nc_write_all(b->qemu, message->data, message->length, &gone)) {
    nc_log(NC_LOG_INFO, "mover", "QEMU takes no %s any more: %s", nc_return_type_name(message->type), gone->message);
    nc_mover_qemu_closed(b->mover);
  }
  return true;
}

static bool
nc_back_receiver_take(NcBackReceiver *b, const GByteArray *raw, GError **error)
{
  NcReturnMessage message;
  NcReturnOutcome outcome;

  nc_return_path_feed(b->parser, raw->data, raw->len);
  while ((outcome = nc_return_path_next(b->parser, &message, error)) == NC_RETURN_MESSAGE)
    if (!nc_back_receiver_deliver(b, &message, error))
      return false;
  return outcome == NC_RETURN_MORE;
}

static GByteArray *
nc_back_receiver_next(NcBackReceiver *b, uint64_t *ret_seq)
{
  pthread_mutex_lock(&b->lock);
  b->busy = false;
  while (g_queue_is_empty(&b->queue))
    pthread_cond_wait(&b->has_news, &b->lock);
  GByteArray *raw = g_queue_pop_head(&b->queue);
  *ret_seq = b->next_seq - 1 - g_queue_get_length(&b->queue);
  b->queued_bytes -= raw->len;
  b->busy = true;
  pthread_mutex_unlock(&b->lock);
  return raw;
}

static void *
nc_back_receiver_run(void *argument)
{
  NcBackReceiver *b = argument;
  uint64_t delivered = 0;

  nc_mover_wait_open(b->mover);
  for (;;) {
    GError *error = NULL;
    uint64_t seq;
    g_autoptr(GByteArray) raw = nc_back_receiver_next(b, &seq);
    if (!nc_back_receiver_take(b, raw, &error)) {
      g_prefix_error(&error, "the destination QEMU's return path: ");
      nc_mover_fail(b->mover, error);
      return NULL;
    }
    delivered += raw->len;
    nc_mover_send_ack(b->mover, NC_CHANNEL_RETURN, seq, delivered);
  }
}

void
nc_back_receiver_start(NcBackReceiver *b, int qemu)
{
  b->qemu = qemu;
  nc_mover_spawn("back-receiver", nc_back_receiver_run, b);
}
