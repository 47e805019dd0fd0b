/* SPDX-License-Identifier: Apache-2.0 */
/* The return path at the source: messages out of verified batches, and SHUT in our hands. */
#include "mover/back_receiver.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"
#include "mover/hot.h"
#include "mover/limits.h"
#include "mover/links.h"
#include "mover/outbox.h"
#include "mover/preempt_sender.h"
#include "mover/requests.h"
#include "mover/source.h"
#include "mover/urgent.h"
#include "qemu/return_path.h"

#include <poll.h>
#include <string.h>

struct NcBackReceiver {
  NcMover *mover;
  int qemu;
  NcOrderedReceiver *channel;
  NcReturnPath *parser; /* the thread's */
  NcRequests requests;  /* likewise */
  GByteArray *instead;  /* likewise: of a message, what is written */

  pthread_mutex_t lock;      /* protects everything below */
  pthread_cond_t is_allowed; /* SHUT may pass; for the thread */
  bool shut_allowed;
  bool has_digest; /* the destination has said what it delivered */
  NcFrameDigest digest;
};

NcBackReceiver *
nc_back_receiver_new(NcMover *m)
{
  NcBackReceiver *b = g_new0(NcBackReceiver, 1);

  b->mover = m;
  b->qemu = -1;
  b->parser = nc_return_path_new();
  b->instead = g_byte_array_new();
  b->channel = nc_ordered_receiver_new(m, &nc_ordered_return_path);
  pthread_mutex_init(&b->lock, NULL);
  pthread_cond_init(&b->is_allowed, NULL);
  return b;
}

NcOrderedReceiver *
nc_back_receiver_channel(NcBackReceiver *b)
{
  return b->channel;
}

void
nc_back_receiver_may_ask(NcBackReceiver *b)
{
  nc_hot_permit(b->mover->hot);
  nc_ordered_receiver_poke(b->channel);
}

void
nc_back_receiver_ask_on(NcBackReceiver *b)
{
  nc_ordered_receiver_poke(b->channel);
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
  pthread_cond_signal(&b->is_allowed);
  pthread_mutex_unlock(&b->lock);
}

static bool
nc_back_receiver_report_shut(NcBackReceiver *b, uint32_t status, GError **error)
{
  NcChain ours, theirs = { 0 };

  atomic_store(&b->mover->shut_passed, true);
  nc_outbox_position(nc_source_outbox(b->mover->source), NC_CHANNEL_MAIN, &ours);
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
  nc_ordered_receiver_rest(b->channel, true); /* nothing is owed to QEMU while nobody has decided */
  pthread_mutex_lock(&b->lock);
  while (!b->shut_allowed)
    pthread_cond_wait(&b->is_allowed, &b->lock);
  pthread_mutex_unlock(&b->lock);
  nc_ordered_receiver_rest(b->channel, false);
}

/* One whole message. QEMU gone is news and no failure, but then nothing more is asked of it. */
static void
nc_back_receiver_write(NcBackReceiver *b, const uint8_t *data, size_t length, const char *name)
{
  g_autoptr(GError) gone = NULL;

  if (nc_mover_is_stopped(b->mover) || nc_write_all(b->qemu, data, length, &gone))
    return;
  nc_log(NC_LOG_INFO, "mover", "QEMU takes no %s any more: %s", name, gone->message);
  nc_hot_stop(b->mover->hot);
  nc_mover_qemu_closed(b->mover);
}

/* What says that the migration is over, or taken up again by others, ends our asking. */
static bool
nc_back_receiver_ends_asking(NcReturnType type)
{
  return type == NC_RETURN_SHUT || type == NC_RETURN_RECV_BITMAP || type == NC_RETURN_RESUME_ACK;
}

/* A page request of the destination's QEMU. */
static void
nc_back_receiver_note_miss(NcBackReceiver *b, const NcReturnMessage *message)
{
  g_autofree char *block = nc_requests_block(&b->requests, message);

  if (block)
    nc_hot_missed(b->mover->hot, block, message->page_offset);
}

static bool
nc_back_receiver_deliver(NcBackReceiver *b, const NcReturnMessage *message, GError **error)
{
  if (nc_back_receiver_ends_asking(message->type))
    nc_hot_stop(b->mover->hot);
  if (message->type == NC_RETURN_SHUT) {
    if (!nc_back_receiver_report_shut(b, message->value, error))
      return false;
    nc_back_receiver_await_permission(b);
  }
  nc_back_receiver_note_miss(b, message);
  if (!nc_requests_replace(&b->requests, message, b->instead))
    nc_back_receiver_write(b, message->data, message->length, nc_return_type_name(message->type));
  else if (b->instead->len > 0)
    nc_back_receiver_write(b, b->instead->data, b->instead->len, nc_return_type_name(message->type));
  else /* passed on, it would mean a block of ours; the page comes with the others */
    nc_log(NC_LOG_WARNING, "mover", "a page request of no block was left out");
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

/* Is there nothing that a page which the guest does wait for would have to wait behind? A QEMU that reads slowly is not asked either. */
static bool
nc_back_receiver_has_time(NcBackReceiver *b)
{
  struct pollfd p = { .fd = b->qemu, .events = POLLOUT };
  NcMover *m = b->mover;

  return poll(&p, 1, 0) == 1 && !nc_mover_is_stopped(m) && !nc_urgent_is_held_up(m->urgent) && nc_shaper_has_room(m->shaper) &&
         nc_ordered_sender_unacked(nc_preempt_sender_channel(m->preempt_sender)) < NC_MOVER_HOT_UNACKED_BYTES;
}

/* Asks QEMU for what may be asked now. Returns when to come again; 0: when poked. */
static int64_t
nc_back_receiver_ask(NcBackReceiver *b)
{
  NcHotRequest request;
  int64_t again_us = 0;

  while (nc_hot_is_asking(b->mover->hot)) {
    int64_t now_us = nc_mono_us();
    if (!nc_back_receiver_has_time(b))
      return now_us + NC_MOVER_HOT_AGAIN_US;
    if (!nc_hot_next(b->mover->hot, now_us, &request, &again_us))
      return again_us;
    g_autoptr(GByteArray) message = nc_requests_ask(&b->requests, request.block, request.offset, request.bytes);
    nc_back_receiver_write(b, message->data, message->len, "page request");
  }
  return 0;
}

static void *
nc_back_receiver_run(void *argument)
{
  NcBackReceiver *b = argument;
  int64_t until_us = 0;

  nc_mover_wait_open(b->mover);
  for (;;) {
    GError *error = NULL;
    NcOrderedBatch batch;
    if (!nc_ordered_receiver_next(b->channel, until_us, &batch)) {
      until_us = nc_back_receiver_ask(b);
      continue;
    }
    until_us = nc_mono_us(); /* the rest of the queue, and then what we have to ask */
    if (!nc_back_receiver_take(b, batch.raw, &error)) {
      g_prefix_error(&error, "the destination QEMU's return path: ");
      nc_mover_fail(b->mover, error);
      return NULL;
    }
    nc_ordered_receiver_done(b->channel, &batch);
  }
}

void
nc_back_receiver_start(NcBackReceiver *b, int qemu)
{
  b->qemu = qemu;
  nc_mover_spawn("back-receiver", nc_back_receiver_run, b);
}
