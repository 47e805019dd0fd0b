/* SPDX-License-Identifier: Apache-2.0 */
/* Urgent batches of one channel, from a thread at one QEMU to a thread at the other. */
#include "mover/ordered.h"
#include "mover/limits.h"
#include "mover/links.h"

#include <errno.h>
#include <string.h>
#include <time.h>

const NcOrderedChannel nc_ordered_return_path = { NC_CHANNEL_RETURN, "return-path", NC_MOVER_BACK_WINDOW_BYTES, NC_MOVER_ORDERED_BATCHES };
const NcOrderedChannel nc_ordered_preempt = { NC_CHANNEL_PREEMPT, "preempt", NC_MOVER_PREEMPT_WINDOW_BYTES, NC_MOVER_ORDERED_BATCHES };

/* --- sending --- */

struct NcOrderedSender {
  NcMover *mover;
  const NcOrderedChannel *channel;
  NcBatchEncoder *encoder; /* the sending thread's */

  pthread_mutex_t lock;   /* protects everything below */
  pthread_cond_t on_ack;  /* for who waits for room, or for everything */
  uint64_t next_seq;      /* to send */
  uint64_t next_ack;      /* first one not acknowledged */
  uint64_t acked_offset;
  uint64_t offset;
  NcChain chain;
};

NcOrderedSender *
nc_ordered_sender_new(NcMover *m, const NcOrderedChannel *channel, const NcBatchPolicy *policy)
{
  NcOrderedSender *s = g_new0(NcOrderedSender, 1);

  s->mover = m;
  s->channel = channel;
  s->encoder = nc_batch_encoder_new(policy);
  pthread_mutex_init(&s->lock, NULL);
  pthread_cond_init(&s->on_ack, NULL);
  return s;
}

void
nc_ordered_sender_position(NcOrderedSender *s, NcChain *ret)
{
  pthread_mutex_lock(&s->lock);
  *ret = s->chain;
  pthread_mutex_unlock(&s->lock);
}

uint64_t
nc_ordered_sender_unacked(NcOrderedSender *s)
{
  pthread_mutex_lock(&s->lock);
  uint64_t unacked = s->offset - s->acked_offset;
  pthread_mutex_unlock(&s->lock);
  return unacked;
}

void
nc_ordered_sender_await_acks(NcOrderedSender *s)
{
  pthread_mutex_lock(&s->lock);
  for (uint64_t wanted = s->offset; s->acked_offset < wanted;)
    pthread_cond_wait(&s->on_ack, &s->lock);
  pthread_mutex_unlock(&s->lock);
}

/* Takes the next number and place for ${length} bytes, when the window has room. */
static void
nc_ordered_sender_reserve(NcOrderedSender *s, size_t length, uint64_t *ret_seq, uint64_t *ret_offset)
{
  pthread_mutex_lock(&s->lock);
  while (s->offset - s->acked_offset > s->channel->window_bytes - NC_MOVER_BACK_BATCH_BYTES ||
         s->next_seq - s->next_ack >= s->channel->batches)
    pthread_cond_wait(&s->on_ack, &s->lock);
  *ret_seq = s->next_seq++;
  *ret_offset = s->offset;
  s->offset += length;
  pthread_mutex_unlock(&s->lock);
}

static void
nc_ordered_sender_send_batch(NcOrderedSender *s, const uint8_t *data, uint32_t length, const NcStreamRecord *records,
                             size_t n_records)
{
  uint64_t seq, offset;
  NcBatchStats stats;

  nc_ordered_sender_reserve(s, length, &seq, &offset);
  g_autoptr(GByteArray) payload = nc_batch_encode(s->encoder, offset, data, length, records, n_records, &stats);
  nc_mover_count_sections(&s->mover->counters, &stats.sections);
  pthread_mutex_lock(&s->lock);
  nc_chain_append(&s->chain, length, nc_batch_sha256(payload->data));
  pthread_mutex_unlock(&s->lock);
  GByteArray *frame = nc_frame_encode_batch_header(s->channel->channel, seq, payload->len);
  g_byte_array_append(frame, payload->data, payload->len);
  nc_mover_send_urgent(s->mover, frame);
}

void
nc_ordered_sender_send(NcOrderedSender *s, const uint8_t *data, size_t length, const NcStreamRecord *records,
                       size_t n_records)
{
  for (size_t done = 0; done < length;) {
    size_t n = MIN(length - done, NC_MOVER_BACK_BATCH_BYTES);
    bool whole = n == length; /* else records would have to be cut, too */
    nc_ordered_sender_send_batch(s, data + done, (uint32_t)n, whole ? records : NULL, whole ? n_records : 0);
    done += n;
  }
}

void
nc_ordered_sender_end(NcOrderedSender *s)
{
  NcChain sent;

  nc_ordered_sender_position(s, &sent);
  NcFrameEnd end = { .offset = sent.offset };
  memcpy(end.sha256, sent.value, sizeof end.sha256);
  nc_mover_send_urgent(s->mover, nc_frame_encode_end(s->channel->channel, &end));
}

bool
nc_ordered_sender_acked(NcOrderedSender *s, uint64_t seq, uint64_t offset, GError **error)
{
  pthread_mutex_lock(&s->lock);
  bool said_before = seq < s->next_ack; /* by a carrier that is gone */
  bool under_way = !said_before && seq < s->next_seq;
  bool fits = offset >= s->acked_offset && offset <= s->offset && (seq + 1 < s->next_seq || offset == s->offset);
  if (under_way && fits) {
    s->next_ack = seq + 1;
    s->acked_offset = offset;
    pthread_cond_broadcast(&s->on_ack);
  }
  pthread_mutex_unlock(&s->lock);
  if (!said_before && (!under_way || !fits))
    return nc_fail(error, NC_ERROR_PROTOCOL, "acknowledged %s batch %" G_GUINT64_FORMAT " is not under way",
                   s->channel->name, seq);
  return true;
}

/* --- receiving --- */

struct NcOrderedReceiver {
  NcMover *mover;
  const NcOrderedChannel *channel;

  pthread_mutex_t lock;    /* protects everything below */
  pthread_cond_t has_news; /* a batch, or a poke; for the thread */
  GQueue queue;            /* of GByteArray, verified, in order */
  uint64_t queued_bytes;
  uint64_t taken_bytes; /* that the thread has had */
  bool busy;            /* the thread is writing to QEMU */
  bool poked;
  uint64_t next_seq;
  NcChain chain; /* received */
};

NcOrderedReceiver *
nc_ordered_receiver_new(NcMover *m, const NcOrderedChannel *channel)
{
  NcOrderedReceiver *r = g_new0(NcOrderedReceiver, 1);
  pthread_condattr_t monotonic;

  r->mover = m;
  r->channel = channel;
  g_queue_init(&r->queue);
  pthread_mutex_init(&r->lock, NULL);
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&r->has_news, &monotonic);
  pthread_condattr_destroy(&monotonic);
  return r;
}

void
nc_ordered_receiver_position(NcOrderedReceiver *r, NcChain *ret)
{
  pthread_mutex_lock(&r->lock);
  *ret = r->chain;
  pthread_mutex_unlock(&r->lock);
}

/* Takes ${raw} on success. */
static bool
nc_ordered_receiver_store(NcOrderedReceiver *r, uint64_t seq, uint64_t offset, const uint8_t sha256[NC_SHA256_BYTES],
                          GByteArray *raw, GError **error)
{
  pthread_mutex_lock(&r->lock);
  bool next = seq == r->next_seq && offset == r->chain.offset;
  bool room = r->queued_bytes + raw->len <= r->channel->window_bytes && r->queue.length < r->channel->batches;
  if (next && room) {
    r->next_seq++;
    r->queued_bytes += raw->len;
    nc_chain_append(&r->chain, raw->len, sha256);
    g_queue_push_tail(&r->queue, raw);
    pthread_cond_signal(&r->has_news);
  }
  pthread_mutex_unlock(&r->lock);
  if (!next)
    return nc_fail(error, NC_ERROR_PROTOCOL, "%s batch %" G_GUINT64_FORMAT " is out of order", r->channel->name, seq);
  return room ? true : nc_fail(error, NC_ERROR_PROTOCOL, "more %s bytes than the window allows", r->channel->name);
}

bool
nc_ordered_receiver_batch(NcOrderedReceiver *r, NcBatchDecoder *decoder, const NcFrame *frame, GError **error)
{
  g_autoptr(GByteArray) raw = g_byte_array_new();
  uint64_t offset;

  if (!nc_batch_decode(decoder, frame->payload, frame->payload_bytes, raw, &offset, error)) {
    g_prefix_error(error, "%s batch %" G_GUINT64_FORMAT ": ", r->channel->name, frame->argument);
    return false;
  }
  if (!nc_ordered_receiver_store(r, frame->argument, offset, nc_batch_sha256(frame->payload), raw, error))
    return false;
  g_steal_pointer(&raw); /* handed over, not shared */
  return true;
}

bool
nc_ordered_receiver_end(NcOrderedReceiver *r, const NcFrameEnd *end, GError **error)
{
  NcChain received;

  nc_ordered_receiver_position(r, &received);
  if (received.offset == end->offset && memcmp(received.value, end->sha256, sizeof received.value) == 0)
    return true;
  return nc_fail(error, NC_ERROR_CORRUPT, "the %s channel ends after %" G_GUINT64_FORMAT " bytes, and those received differ",
                 r->channel->name, end->offset);
}

/* Until there is a batch, a poke, or it is time. */
static void
nc_ordered_receiver_wait_locked(NcOrderedReceiver *r, int64_t until_us)
{
  struct timespec due = { .tv_sec = until_us / G_USEC_PER_SEC, .tv_nsec = until_us % G_USEC_PER_SEC * 1000 };

  while (g_queue_is_empty(&r->queue) && !r->poked) {
    if (until_us == 0)
      pthread_cond_wait(&r->has_news, &r->lock);
    else if (pthread_cond_timedwait(&r->has_news, &r->lock, &due) == ETIMEDOUT)
      return;
  }
}

bool
nc_ordered_receiver_next(NcOrderedReceiver *r, int64_t until_us, NcOrderedBatch *ret)
{
  pthread_mutex_lock(&r->lock);
  r->busy = false;
  nc_ordered_receiver_wait_locked(r, until_us);
  r->poked = false;
  GByteArray *raw = g_queue_pop_head(&r->queue);
  r->busy = true;
  if (raw) {
    r->queued_bytes -= raw->len;
    r->taken_bytes += raw->len;
    *ret = (NcOrderedBatch){ .raw = raw, .seq = r->next_seq - 1 - r->queue.length, .end = r->taken_bytes };
  }
  pthread_mutex_unlock(&r->lock);
  return raw != NULL;
}

void
nc_ordered_receiver_done(NcOrderedReceiver *r, NcOrderedBatch *batch)
{
  g_clear_pointer(&batch->raw, g_byte_array_unref);
  nc_mover_send_ack(r->mover, r->channel->channel, batch->seq, batch->end);
}

void
nc_ordered_receiver_poke(NcOrderedReceiver *r)
{
  pthread_mutex_lock(&r->lock);
  r->poked = true;
  pthread_cond_signal(&r->has_news);
  pthread_mutex_unlock(&r->lock);
}

void
nc_ordered_receiver_rest(NcOrderedReceiver *r, bool rests)
{
  pthread_mutex_lock(&r->lock);
  r->busy = !rests;
  pthread_mutex_unlock(&r->lock);
}

bool
nc_ordered_receiver_is_idle(NcOrderedReceiver *r)
{
  pthread_mutex_lock(&r->lock);
  bool idle = !r->busy && g_queue_is_empty(&r->queue);
  pthread_mutex_unlock(&r->lock);
  return idle;
}
