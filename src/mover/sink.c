/* SPDX-License-Identifier: Apache-2.0 */
/* Verified batches into QEMU, in order; statements about offsets when their time has come. */
#include "mover/sink.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"
#include "mover/limits.h"
#include "mover/links.h"
#include "wire/asked.h"
#include "wire/blocks.h"
#include "wire/reorder.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* Waiting for its turn: verified, or to be decoded then, because it means pages that come before it. */
typedef struct {
  GByteArray *raw;     /* NULL: not decoded yet */
  GByteArray *payload; /* then this */
  GArray *stores;      /* what is to be kept of it; NULL: nothing, or it was when it was decoded */
  bool is_ahead;       /* to be kept, and nothing else */
  uint64_t offset; /* where the peer says it belongs */
  uint8_t sha256[NC_SHA256_BYTES];
  uint32_t wire_bytes;
} NcSinkBatch;

static void
nc_sink_batch_free(NcSinkBatch *batch)
{
  g_clear_pointer(&batch->raw, g_byte_array_unref);
  g_clear_pointer(&batch->payload, g_byte_array_unref);
  g_clear_pointer(&batch->stores, g_array_unref);
  g_free(batch);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcSinkBatch, nc_sink_batch_free)

/* A GRANT (epoch > 0) or END waiting for its offset. */
typedef struct {
  uint64_t epoch;
  NcChain at;
} NcHeld;

struct NcSink {
  NcMover *mover;
  int qemu;
  NcBatchDecoder *decoder; /* the writer's: of batches with history */

  pthread_mutex_t lock;    /* protects everything below */
  pthread_cond_t has_news; /* the next batch is here, or a statement; for the writer */

  NcReorder *waiting; /* of NcSinkBatch */
  NcSinkBatch *next;  /* taken from there, to be delivered; NULL: not here */
  uint64_t waiting_wire_bytes;
  NcAsked *asked;
  bool retrying; /* the next batch was wrong: it comes once more, and nothing is taken before it */
  bool retry_claimed; /* somebody decodes it, as nc_reorder_claim() has it */
  uint64_t retry_seq;

  NcChain chain;                           /* of what is being written, or written */
  NcChain boundaries[NC_MOVER_BOUNDARIES]; /* where it was after each batch, for statements that name it later; ring */
  uint64_t boundary_count;
  NcHeld held[NC_MOVER_MAX_HELD];
  unsigned held_count;
};

static void
nc_sink_note_boundary_locked(NcSink *s)
{
  s->boundaries[s->boundary_count++ % NC_MOVER_BOUNDARIES] = s->chain;
}

NcSink *
nc_sink_new(NcMover *m)
{
  NcSink *s = g_new0(NcSink, 1);
  pthread_condattr_t monotonic;

  s->mover = m;
  s->qemu = -1;
  s->decoder = nc_batch_decoder_new();
  s->asked = nc_asked_new();
  s->waiting = nc_reorder_new(NC_MOVER_MAX_AHEAD, NC_MOVER_MAX_AHEAD_BYTES, (GDestroyNotify)nc_sink_batch_free);
  pthread_mutex_init(&s->lock, NULL);
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&s->has_news, &monotonic);
  pthread_condattr_destroy(&monotonic);
  nc_sink_note_boundary_locked(s); /* a stream may end before its first byte */
  return s;
}

static bool
nc_sink_explain(NcReorderVerdict verdict, uint64_t seq, GError **error)
{
  if (verdict != NC_REORDER_TOO_FAR)
    return true;
  return nc_fail(error, NC_ERROR_PROTOCOL, "batch %" G_GUINT64_FORMAT " is farther ahead than agreed", seq);
}

/* Has a good copy of it come, which waits or was delivered? What everything waits for has not. */
static bool
nc_sink_has_locked(const NcSink *s, uint64_t seq)
{
  return !(s->retrying && seq == s->retry_seq) && nc_reorder_judge(s->waiting, seq, 0) == NC_REORDER_DUPLICATE;
}

/*
 * What was wrong is asked for once more; that it comes wrong again ends the migration, unless a good copy has come meanwhile.
 * Takes ${problem}.
 */
static bool
nc_sink_ask_again(NcSink *s, uint64_t seq, bool refers, GError *problem, GError **error)
{
  pthread_mutex_lock(&s->lock);
  NcAskedVerdict verdict = nc_sink_has_locked(s, seq) ? NC_ASKED_STALE : nc_asked_judge(s->asked, seq, refers);
  pthread_mutex_unlock(&s->lock);
  if (verdict == NC_ASKED_STALE) {
    g_error_free(problem);
    return true;
  }
  if (verdict == NC_ASKED_AGAIN) {
    g_propagate_prefixed_error(error, problem, "batch %" G_GUINT64_FORMAT ", for the second time: ", seq);
    return false;
  }
  nc_log(NC_LOG_WARNING, "mover", "batch %" G_GUINT64_FORMAT ": %s: asking for it again", seq, problem->message);
  g_error_free(problem);
  nc_count(&s->mover->counters.resent_batches, 1);
  nc_mover_send_urgent(s->mover, nc_frame_encode_resend(NC_CHANNEL_MAIN, seq));
  return true;
}

/* The batch that everything waits for has come once more. */
static NcReorderVerdict
nc_sink_put_retried_locked(NcSink *s, NcSinkBatch *batch)
{
  s->retrying = s->retry_claimed = false;
  s->next = batch;
  return NC_REORDER_TAKEN;
}

/* TAKEN: it is the caller's to decode. */
static NcReorderVerdict
nc_sink_claim_locked(NcSink *s, uint64_t seq, const NcBatchPeek *peek)
{
  if (!s->retrying || seq != s->retry_seq)
    return nc_asked_claim(s->asked, s->waiting, seq, peek->raw_len);
  if (s->retry_claimed || (peek->has_history && nc_asked_is_stale(s->asked, seq)))
    return NC_REORDER_DUPLICATE;
  s->retry_claimed = true;
  return NC_REORDER_TAKEN;
}

/* Nothing came of it. */
static void
nc_sink_release(NcSink *s, uint64_t seq)
{
  pthread_mutex_lock(&s->lock);
  if (s->retrying && seq == s->retry_seq)
    s->retry_claimed = false;
  else
    nc_reorder_release(s->waiting, seq);
  pthread_mutex_unlock(&s->lock);
}

/* Takes ${batch}. */
static bool
nc_sink_store(NcSink *s, uint64_t seq, NcSinkBatch *batch, uint32_t raw_bytes, GError **error)
{
  pthread_mutex_lock(&s->lock);
  bool retried = s->retrying && seq == s->retry_seq;
  NcReorderVerdict verdict = retried ? nc_sink_put_retried_locked(s, batch) : nc_reorder_put(s->waiting, seq, batch, raw_bytes);
  if (verdict == NC_REORDER_TAKEN) {
    s->waiting_wire_bytes += batch->wire_bytes;
    atomic_store_explicit(&s->mover->counters.in_flight_bytes, s->waiting_wire_bytes, memory_order_relaxed);
    if (retried || seq == nc_reorder_next_seq(s->waiting))
      pthread_cond_signal(&s->has_news);
  }
  pthread_mutex_unlock(&s->lock);
  if (verdict != NC_REORDER_TAKEN)
    nc_sink_batch_free(batch);
  return nc_sink_explain(verdict, seq, error);
}

/* nc_batch_decode(), timed. */
static bool
nc_sink_decode_bytes(NcSink *s, NcSinkBatch *batch, NcBatchDecoder *decoder, const uint8_t *payload, size_t length_bytes,
                     GError **error)
{
  int64_t start_us = nc_mono_us();
  bool ok = nc_batch_decode(decoder, payload, length_bytes, batch->raw, &batch->offset, error);

  nc_count(&s->mover->counters.decode_us, (uint64_t)(nc_mono_us() - start_us));
  return ok;
}

/* Decodes ${payload}, now or when its turn has come. False with NC_ERROR_CORRUPT: it may be asked for again. */
static bool
nc_sink_open(NcSink *s, NcSinkBatch *batch, NcBatchDecoder *decoder, bool history, const uint8_t *payload,
             size_t length_bytes, GError **error)
{
  if (history && s->mover->shadow) {
    batch->payload = g_byte_array_sized_new((guint)length_bytes);
    g_byte_array_append(batch->payload, payload, (guint)length_bytes);
    return true;
  }
  batch->raw = g_byte_array_sized_new(NC_BATCH_RAW_TARGET);
  if (!nc_sink_decode_bytes(s, batch, decoder, payload, length_bytes, error))
    return false;
  batch->stores = nc_batch_decoder_steal_stores(decoder);
  memcpy(batch->sha256, nc_batch_sha256(payload), sizeof batch->sha256);
  return true;
}

bool
nc_sink_batch(NcSink *s, NcBatchDecoder *decoder, uint64_t seq, const uint8_t *payload, size_t length_bytes,
              GError **error)
{
  NcBatchPeek peek;
  GError *problem = NULL;

  if (!nc_batch_peek(payload, length_bytes, &peek))
    return nc_fail(error, NC_ERROR_PROTOCOL, "batch %" G_GUINT64_FORMAT ": a header that makes no sense", seq);
  pthread_mutex_lock(&s->lock); /* before any work is spent on it */
  NcReorderVerdict verdict = nc_sink_claim_locked(s, seq, &peek);
  pthread_mutex_unlock(&s->lock);
  if (verdict != NC_REORDER_TAKEN) /* a connection was lost, and it had come all the same: nothing to do */
    return nc_sink_explain(verdict, seq, error);
  g_autoptr(NcSinkBatch) batch = g_new0(NcSinkBatch, 1);
  batch->wire_bytes = (uint32_t)(NC_FRAME_HEADER_BYTES + length_bytes);
  batch->is_ahead = peek.is_ahead;
  if (!nc_sink_open(s, batch, decoder, peek.has_history, payload, length_bytes, &problem)) {
    nc_sink_release(s, seq);
    if (problem->code == NC_ERROR_CORRUPT)
      return nc_sink_ask_again(s, seq, nc_batch_decoder_refers(decoder), problem, error);
    g_propagate_prefixed_error(error, problem, "batch %" G_GUINT64_FORMAT ": ", seq);
    return false;
  }
  return nc_sink_store(s, seq, g_steal_pointer(&batch), peek.raw_len, error);
}

static const NcChain *
nc_sink_find_boundary_locked(const NcSink *s, uint64_t offset)
{
  uint64_t kept = MIN(s->boundary_count, NC_MOVER_BOUNDARIES);
  for (uint64_t i = 1; i <= kept; i++) {
    const NcChain *b = &s->boundaries[(s->boundary_count - i) % NC_MOVER_BOUNDARIES];
    if (b->offset == offset)
      return b;
  }
  return NULL;
}

static bool
nc_sink_check_held_locked(const NcSink *s, const NcHeld *held, GError **error)
{
  const char *name = held->epoch > 0 ? "the grant" : "the end";
  const NcChain *b = nc_sink_find_boundary_locked(s, held->at.offset);

  if (!b)
    return nc_fail(error, NC_ERROR_PROTOCOL, "%s names byte %" G_GUINT64_FORMAT ", where no batch ended", name,
                   held->at.offset);
  if (!nc_chain_equal(b, &held->at))
    return nc_fail(error, NC_ERROR_CORRUPT,
                   "%s: the %" G_GUINT64_FORMAT " bytes delivered are not those that were sent", name, held->at.offset);
  return true;
}

static void
nc_sink_report_grant(NcSink *s, const NcHeld *grant)
{
  g_autofree char *hex = nc_hex_encode(grant->at.value, sizeof grant->at.value);
  nc_mover_emit(s->mover, json_pack("{s:s, s:I, s:I, s:s}", "ev", "grant", "epoch", (json_int_t)grant->epoch, "offset",
                                    (json_int_t)grant->at.offset, "sha256", hex));
}

/* Nothing more will reach QEMU: the stream is over (${whole}), or QEMU takes no more of it. The writer's. */
static void
nc_sink_report_end(NcSink *s, const NcChain *at, bool whole)
{
  g_autofree char *hex = nc_hex_encode(at->value, sizeof at->value);

  atomic_store(&s->mover->ended, true);
  nc_mover_emit(s->mover, json_pack("{s:s, s:I, s:s, s:b}", "ev", "end", "stream_bytes", (json_int_t)at->offset, "sha256",
                                    hex, "whole", (int)whole));
}

/* Takes one statement whose time has come. */
static bool
nc_sink_pop_held_locked(NcSink *s, uint64_t delivered, NcHeld *ret)
{
  for (unsigned i = 0; i < s->held_count; i++) {
    if (s->held[i].at.offset > delivered)
      continue;
    *ret = s->held[i];
    s->held_count--;
    memmove(&s->held[i], &s->held[i + 1], (s->held_count - i) * sizeof s->held[0]);
    return true;
  }
  return false;
}

/* The writer's, between two batches: everything that s->chain covers is with QEMU. */
static void
nc_sink_settle(NcSink *s)
{
  for (;;) {
    NcHeld held;
    GError *error = NULL;
    pthread_mutex_lock(&s->lock);
    bool found = nc_sink_pop_held_locked(s, s->chain.offset, &held);
    bool ok = found && nc_sink_check_held_locked(s, &held, &error);
    pthread_mutex_unlock(&s->lock);
    if (!found)
      return;
    if (!ok)
      nc_mover_fail(s->mover, error);
    else if (nc_mover_is_stopped(s->mover))
      return;
    else if (held.epoch > 0)
      nc_sink_report_grant(s, &held);
    else
      nc_sink_report_end(s, &held.at, true);
  }
}

static bool
nc_sink_hold(NcSink *s, const NcHeld *statement, GError **error)
{
  pthread_mutex_lock(&s->lock);
  bool room = s->held_count < NC_MOVER_MAX_HELD;
  if (room)
    s->held[s->held_count++] = *statement;
  pthread_cond_signal(&s->has_news); /* it may concern what is delivered already */
  pthread_mutex_unlock(&s->lock);
  return room ? true : nc_fail(error, NC_ERROR_PROTOCOL, "too many statements about bytes that have not come");
}

bool
nc_sink_grant(NcSink *s, const NcFrameGrant *grant, GError **error)
{
  NcHeld held = { .epoch = grant->epoch, .at.offset = grant->offset };
  if (grant->epoch == 0 || grant->epoch > G_MAXINT64)
    return nc_fail(error, NC_ERROR_PROTOCOL, "a grant of epoch %" G_GUINT64_FORMAT, grant->epoch);
  memcpy(held.at.value, grant->sha256, sizeof held.at.value);
  return nc_sink_hold(s, &held, error);
}

bool
nc_sink_end(NcSink *s, const NcFrameEnd *end, GError **error)
{
  NcHeld held = { .epoch = 0, .at.offset = end->offset };
  memcpy(held.at.value, end->sha256, sizeof held.at.value);
  return nc_sink_hold(s, &held, error);
}

void
nc_sink_position(NcSink *s, NcChain *ret)
{
  pthread_mutex_lock(&s->lock);
  *ret = s->chain;
  pthread_mutex_unlock(&s->lock);
}

/* What the writer has delivered but not acknowledged. */
typedef struct {
  uint64_t seq;    /* the last one */
  uint64_t offset; /* behind it */
  uint32_t bytes;
  int64_t last_us; /* when an ACK was sent */
} NcSinkAck;

static void
nc_sink_acknowledge(NcSink *s, NcSinkAck *ack, int64_t now_us)
{
  nc_mover_send_ack(s->mover, NC_CHANNEL_MAIN, ack->seq, ack->offset);
  ack->bytes = 0;
  ack->last_us = now_us;
}

/* Waits for has_news, or until an ACK is due; true if it is due. */
static bool
nc_sink_wait_locked(NcSink *s, const NcSinkAck *ack)
{
  if (ack->bytes == 0) {
    pthread_cond_wait(&s->has_news, &s->lock);
    return false;
  }
  int64_t due_us = ack->last_us + NC_MOVER_ACK_US;
  struct timespec due = { .tv_sec = due_us / G_USEC_PER_SEC, .tv_nsec = due_us % G_USEC_PER_SEC * 1000 };
  return pthread_cond_timedwait(&s->has_news, &s->lock, &due) == ETIMEDOUT;
}

static bool
nc_sink_has_work_locked(NcSink *s)
{
  if (!s->next && !s->retrying)
    s->next = nc_reorder_take(s->waiting);
  for (unsigned i = 0; i < s->held_count; i++)
    if (s->held[i].at.offset <= s->chain.offset)
      return true;
  return s->next != NULL;
}

/*
 * Accounts for ${batch} as delivered (see nc_sink_position) and takes its bytes, of which there are none for QEMU if it is one ahead of
 * the stream; NULL if it does not fit.
 */
static GByteArray *
nc_sink_account_locked(NcSink *s, NcSinkBatch *batch, NcSinkAck *ack, GError **error)
{
  ack->seq = nc_reorder_next_seq(s->waiting) - 1;
  if (!batch->is_ahead && batch->offset != s->chain.offset) {
    nc_fail(error, NC_ERROR_PROTOCOL,
            "batch %" G_GUINT64_FORMAT " is for byte %" G_GUINT64_FORMAT " and not %" G_GUINT64_FORMAT, ack->seq,
            batch->offset, s->chain.offset);
    return NULL;
  }
  /*
   * Before the write: QEMU may answer its last byte with SHUT before write()
   * returns here, and the statement about it must cover that byte.
   */
  if (!batch->is_ahead) {
    nc_chain_append(&s->chain, batch->raw->len, batch->sha256);
    nc_sink_note_boundary_locked(s);
  }
  s->waiting_wire_bytes -= batch->wire_bytes;
  nc_count(&s->mover->counters.delivered_wire_bytes, batch->wire_bytes);
  ack->offset = s->chain.offset;
  ack->bytes += batch->raw->len;
  if (batch->is_ahead)
    g_byte_array_set_size(batch->raw, 0);
  return g_steal_pointer(&batch->raw);
}

/* The next batch was wrong: it is asked for, and nothing else is taken meanwhile. */
static bool
nc_sink_retry(NcSink *s, uint32_t wire_bytes, GError *problem, GError **error)
{
  pthread_mutex_lock(&s->lock);
  s->retry_seq = nc_reorder_next_seq(s->waiting) - 1;
  s->retrying = true;
  s->retry_claimed = false;
  s->waiting_wire_bytes -= wire_bytes;
  pthread_mutex_unlock(&s->lock);
  return nc_sink_ask_again(s, s->retry_seq, false, problem, error); /* a stale copy does not come so far */
}

/* Rebuilds a batch from the pages before it. */
static bool
nc_sink_decode(NcSink *s, NcSinkBatch *batch, GError **error)
{
  batch->raw = g_byte_array_sized_new(NC_BATCH_RAW_TARGET);
  nc_batch_decoder_use_shadow(s->decoder, s->mover->shadow, true);
  nc_batch_decoder_use_blocks(s->decoder, s->mover->blocks);
  nc_batch_decoder_use_stored(s->decoder, s->mover->stored_pages);
  memcpy(batch->sha256, nc_batch_sha256(batch->payload->data), sizeof batch->sha256);
  return nc_sink_decode_bytes(s, batch, s->decoder, batch->payload->data, batch->payload->len, error);
}

/* Decodes the batch if that had to wait for its turn, and puts its pages into the shadow. */
static bool
nc_sink_keep(NcSink *s, NcSinkBatch *batch, GError **error)
{
  NcMover *m = s->mover;
  bool ok = true;

  if (m->blocks)
    nc_blocks_meet(m->blocks);
  if (!batch->raw)
    ok = nc_sink_decode(s, batch, error);
  else if (batch->stores)
    nc_batch_store(m->shadow, batch->stores, batch->raw->data);
  if (m->blocks)
    nc_blocks_meet(m->blocks);
  return ok;
}

/* The next batch's bytes; NULL if there is none, or it has to come once more, or with *error. */
static GByteArray *
nc_sink_take(NcSink *s, NcSinkAck *ack, GError **error)
{
  GError *problem = NULL;

  pthread_mutex_lock(&s->lock);
  g_autoptr(NcSinkBatch) batch = g_steal_pointer(&s->next);
  pthread_mutex_unlock(&s->lock);
  if (!batch)
    return NULL;
  if (!nc_sink_keep(s, batch, &problem)) {
    if (problem->code == NC_ERROR_CORRUPT)
      nc_sink_retry(s, batch->wire_bytes, problem, error);
    else
      g_propagate_error(error, problem);
    return NULL;
  }
  pthread_mutex_lock(&s->lock);
  GByteArray *raw = nc_sink_account_locked(s, batch, ack, error);
  pthread_mutex_unlock(&s->lock);
  return raw;
}

/* Sleeps until there is something to do; acknowledges meanwhile when that is due. */
static void
nc_sink_await_work(NcSink *s, NcSinkAck *ack)
{
  pthread_mutex_lock(&s->lock);
  while (!nc_sink_has_work_locked(s)) {
    if (!nc_sink_wait_locked(s, ack))
      continue;
    pthread_mutex_unlock(&s->lock);
    nc_sink_acknowledge(s, ack, nc_mono_us());
    pthread_mutex_lock(&s->lock);
  }
  pthread_mutex_unlock(&s->lock);
}

/* False: QEMU is gone, which is news and no failure; what still comes has no receiver. */
static bool
nc_sink_deliver(NcSink *s, GByteArray *raw)
{
  g_autoptr(GError) error = NULL;
  if (raw->len == 0) {
    nc_count(&s->mover->counters.batches, 1);
    return true;
  }
  if (nc_write_all(s->qemu, raw->data, raw->len, &error)) {
    nc_count(&s->mover->counters.stream_bytes, raw->len);
    nc_count(&s->mover->counters.batches, 1);
    return true;
  }
  nc_log(NC_LOG_INFO, "mover", "QEMU takes nothing any more: %s", error->message);
  nc_mover_qemu_closed(s->mover);
  return false;
}

static void *
nc_sink_run(void *argument)
{
  NcSink *s = argument;
  NcSinkAck ack = { 0 };

  nc_mover_wait_open(s->mover); /* batches may be here before the last connection is; ACKs need the first */
  for (;;) {
    g_autoptr(GError) error = NULL;
    nc_sink_await_work(s, &ack);
    nc_sink_settle(s);
    if (nc_mover_is_stopped(s->mover))
      return NULL;
    g_autoptr(GByteArray) raw = nc_sink_take(s, &ack, &error);
    if (error)
      nc_mover_fail(s->mover, g_steal_pointer(&error));
    if (!raw)
      continue;
    if (!nc_sink_deliver(s, raw)) {
      nc_sink_report_end(s, &s->chain, false); /* only this thread changes the chain */
      return NULL;
    }
    int64_t now_us = nc_mono_us();
    if (ack.bytes >= NC_MOVER_ACK_BYTES || now_us - ack.last_us >= NC_MOVER_ACK_US)
      nc_sink_acknowledge(s, &ack, now_us);
  }
}

void
nc_sink_start(NcSink *s, int qemu)
{
  s->qemu = qemu; /* the writer's, which does not run before */
  nc_mover_spawn("writer", nc_sink_run, s);
}
