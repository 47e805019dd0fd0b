/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's NBD server: requests in order into it, its answers out. */
#include "mover/disk_sink.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"
#include "mover/limits.h"
#include "mover/links.h"
#include "mover/ordered.h"
#include "wire/asked.h"
#include "wire/chain.h"
#include "wire/reorder.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Verified, waiting for its turn. */
typedef struct {
  GByteArray *raw;
  GArray *fills; /* what is kept of it among the blocks; NULL: nothing */
  uint64_t offset;
  uint8_t sha256[NC_SHA256_BYTES];
} NcDiskBatch;

static void
nc_disk_batch_free(NcDiskBatch *batch)
{
  g_clear_pointer(&batch->raw, g_byte_array_unref);
  g_clear_pointer(&batch->fills, g_array_unref);
  g_free(batch);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcDiskBatch, nc_disk_batch_free)

typedef struct {
  NcMover *mover;
  unsigned index;
  atomic_int qemu;          /* -1: not started. Stays open until the process ends */
  NcOrderedChannel channel; /* of the answers */
  NcOrderedSender *answers;
  atomic_bool is_over; /* QEMU takes no more */
  _Atomic uint64_t stream_bytes;

  pthread_mutex_t lock;    /* protects everything below */
  pthread_cond_t has_news; /* the next batch is here; for the writer */
  NcReorder *waiting;      /* of NcDiskBatch */
  NcAsked *asked;
  NcChain chain;           /* of what was written */
  bool has_end;
  NcFrameEnd end;
} NcDisk;

struct NcDiskSink {
  NcMover *mover;
  pthread_mutex_t lock;             /* protects the table, not what it points to: that stays */
  NcDisk *disks[NC_WIRE_DISKS_MAX]; /* NULL: nothing was heard of it yet */
};

NcDiskSink *
nc_disk_sink_new(NcMover *m)
{
  NcDiskSink *s = g_new0(NcDiskSink, 1);

  s->mover = m;
  pthread_mutex_init(&s->lock, NULL);
  return s;
}

static NcDisk *
nc_disk_new(NcMover *m, unsigned index)
{
  static const NcBatchPolicy plain = { .codec = NC_CODEC_NONE }; /* answers of 16 bytes */
  NcDisk *d = g_new0(NcDisk, 1);

  d->mover = m;
  d->index = index;
  atomic_store(&d->qemu, -1);
  d->channel = (NcOrderedChannel){ NC_CHANNEL_DISK(index), "disk", NC_MOVER_DISK_BACK_WINDOW_BYTES, NC_MOVER_DISK_BACK_BATCHES };
  d->answers = nc_ordered_sender_new(m, &d->channel, &plain);
  d->waiting = nc_reorder_new(NC_MOVER_DISK_AHEAD, NC_MOVER_DISK_AHEAD_BYTES, (GDestroyNotify)nc_disk_batch_free);
  d->asked = nc_asked_new();
  pthread_mutex_init(&d->lock, NULL);
  pthread_cond_init(&d->has_news, NULL);
  return d;
}

static NcDisk *
nc_disk_sink_get(NcDiskSink *s, unsigned index)
{
  pthread_mutex_lock(&s->lock);
  if (!s->disks[index])
    s->disks[index] = nc_disk_new(s->mover, index);
  NcDisk *d = s->disks[index];
  pthread_mutex_unlock(&s->lock);
  return d;
}

/* Told once, to our agent. */
static void
nc_disk_is_over(NcDisk *d, const char *why)
{
  if (atomic_exchange(&d->is_over, true))
    return;
  nc_log(NC_LOG_INFO, "mover", "disk %u: %s", d->index, why);
  nc_mover_emit(d->mover, json_pack("{s:s, s:i, s:s}", "ev", "disk_closed", "index", (int)d->index, "message", why));
}

/* --- requests --- */

static bool
nc_disk_explain(const NcDisk *d, NcReorderVerdict verdict, uint64_t seq, GError **error)
{
  if (verdict != NC_REORDER_TOO_FAR)
    return true;
  return nc_fail(error, NC_ERROR_PROTOCOL, "batch %" G_GUINT64_FORMAT " of disk %u is farther ahead than agreed", seq, d->index);
}

/*
 * What was wrong is asked for once more; that it comes wrong again ends the migration, unless a good copy has come meanwhile.
 * Takes ${problem}.
 */
static bool
nc_disk_ask_again(NcDisk *d, uint64_t seq, bool refers, GError *problem, GError **error)
{
  pthread_mutex_lock(&d->lock);
  nc_reorder_release(d->waiting, seq);
  bool is_here = nc_reorder_judge(d->waiting, seq, 0) == NC_REORDER_DUPLICATE;
  NcAskedVerdict verdict = is_here ? NC_ASKED_STALE : nc_asked_judge(d->asked, seq, refers);
  pthread_mutex_unlock(&d->lock);
  if (verdict == NC_ASKED_STALE) {
    g_error_free(problem);
    return true;
  }
  if (verdict == NC_ASKED_AGAIN) {
    g_propagate_prefixed_error(error, problem, "batch %" G_GUINT64_FORMAT " of disk %u, for the second time: ", seq, d->index);
    return false;
  }
  nc_log(NC_LOG_WARNING, "mover", "batch %" G_GUINT64_FORMAT " of disk %u: %s: asking for it again", seq, d->index, problem->message);
  g_error_free(problem);
  nc_count(&d->mover->counters.resent_batches, 1);
  nc_mover_send_urgent(d->mover, nc_frame_encode_resend(d->channel.channel, seq));
  return true;
}

static bool
nc_disk_store(NcDisk *d, uint64_t seq, NcDiskBatch *batch, GError **error)
{
  pthread_mutex_lock(&d->lock);
  NcReorderVerdict verdict = nc_reorder_put(d->waiting, seq, batch, batch->raw->len);
  if (verdict == NC_REORDER_TAKEN && seq == nc_reorder_next_seq(d->waiting))
    pthread_cond_signal(&d->has_news);
  pthread_mutex_unlock(&d->lock);
  if (verdict != NC_REORDER_TAKEN)
    nc_disk_batch_free(batch);
  return nc_disk_explain(d, verdict, seq, error);
}

bool
nc_disk_sink_batch(NcDiskSink *s, unsigned index, NcBatchDecoder *decoder, const NcFrame *frame, GError **error)
{
  NcDisk *d = nc_disk_sink_get(s, index);
  GError *problem = NULL;
  NcBatchPeek peek;
  uint64_t seq;

  if (!nc_frame_check_batch(frame, &seq, error))
    return false;
  if (!nc_batch_peek(frame->payload, frame->payload_bytes, &peek) || peek.has_history || peek.is_ahead)
    return nc_fail(error, NC_ERROR_PROTOCOL, "batch %" G_GUINT64_FORMAT " of disk %u: a header that makes no sense", seq, index);
  pthread_mutex_lock(&d->lock); /* before any work is spent on it */
  NcReorderVerdict verdict = nc_asked_claim(d->asked, d->waiting, seq, peek.raw_len);
  pthread_mutex_unlock(&d->lock);
  if (verdict != NC_REORDER_TAKEN)
    return nc_disk_explain(d, verdict, seq, error);
  g_autoptr(NcDiskBatch) batch = g_new0(NcDiskBatch, 1);
  batch->raw = g_byte_array_sized_new(NC_BATCH_RAW_TARGET);
  int64_t start_us = nc_mono_us();
  bool ok = nc_batch_decode(decoder, frame->payload, frame->payload_bytes, batch->raw, &batch->offset, &problem);
  nc_count(&d->mover->counters.decode_us, (uint64_t)(nc_mono_us() - start_us));
  if (!ok && problem->code == NC_ERROR_CORRUPT)
    return nc_disk_ask_again(d, seq, nc_batch_decoder_refers(decoder), problem, error);
  if (!ok) {
    g_propagate_prefixed_error(error, problem, "batch %" G_GUINT64_FORMAT " of disk %u: ", seq, index);
    return false;
  }
  batch->fills = nc_batch_decoder_steal_fills(decoder);
  memcpy(batch->sha256, nc_batch_sha256(frame->payload), sizeof batch->sha256);
  return nc_disk_store(d, seq, g_steal_pointer(&batch), error);
}

/* Has everything come that the END speaks of, and is it what was sent? */
static bool
nc_disk_check_end_locked(NcDisk *d, GError **error)
{
  if (!d->has_end || d->chain.offset < d->end.offset)
    return true;
  if (d->chain.offset == d->end.offset && memcmp(d->chain.value, d->end.sha256, sizeof d->chain.value) == 0)
    return true;
  return nc_fail(error, NC_ERROR_CORRUPT, "disk %u ends after %" G_GUINT64_FORMAT " bytes, and those received differ", d->index, d->end.offset);
}

bool
nc_disk_sink_end(NcDiskSink *s, unsigned index, const NcFrameEnd *end, GError **error)
{
  NcDisk *d = nc_disk_sink_get(s, index);

  pthread_mutex_lock(&d->lock);
  d->has_end = true;
  d->end = *end;
  bool ok = nc_disk_check_end_locked(d, error);
  pthread_mutex_unlock(&d->lock);
  return ok;
}

/* The next batch, when it is here; it counts as written. NULL with *error: it does not fit. */
static NcDiskBatch *
nc_disk_next(NcDisk *d, uint64_t *ret_seq, GError **error)
{
  NcDiskBatch *batch;

  pthread_mutex_lock(&d->lock);
  while (!(batch = nc_reorder_take(d->waiting)))
    pthread_cond_wait(&d->has_news, &d->lock);
  *ret_seq = nc_reorder_next_seq(d->waiting) - 1;
  bool ok = batch->offset == d->chain.offset ||
            nc_fail(error, NC_ERROR_PROTOCOL, "batch %" G_GUINT64_FORMAT " of disk %u is for byte %" G_GUINT64_FORMAT " and not %" G_GUINT64_FORMAT,
                    *ret_seq, d->index, batch->offset, d->chain.offset);
  if (ok) {
    nc_chain_append(&d->chain, batch->raw->len, batch->sha256);
    ok = nc_disk_check_end_locked(d, error);
  }
  pthread_mutex_unlock(&d->lock);
  if (!ok)
    g_clear_pointer(&batch, nc_disk_batch_free);
  return batch;
}

/* What QEMU does not take any more is acknowledged all the same: the source must hear of the end, not wait for us. */
static void
nc_disk_deliver(NcDisk *d, const GByteArray *raw)
{
  g_autoptr(GError) gone = NULL;

  if (atomic_load(&d->is_over) || nc_mover_is_stopped(d->mover))
    return;
  if (!nc_write_all(atomic_load(&d->qemu), raw->data, raw->len, &gone))
    nc_disk_is_over(d, gone->message);
}

static void *
nc_disk_write(void *argument)
{
  NcDisk *d = argument;

  nc_mover_wait_open(d->mover);
  for (;;) {
    GError *error = NULL;
    uint64_t seq;
    g_autoptr(NcDiskBatch) batch = nc_disk_next(d, &seq, &error);
    if (!batch) {
      nc_mover_fail(d->mover, error);
      return NULL;
    }
    nc_batch_fill_blocks(d->mover->blocks, batch->fills, batch->raw->data); /* before the source hears that it is here */
    nc_disk_deliver(d, batch->raw);
    nc_count(&d->stream_bytes, batch->raw->len);
    nc_mover_send_ack(d->mover, d->channel.channel, seq, batch->offset + batch->raw->len);
  }
}

/* --- answers --- */

bool
nc_disk_sink_acked(NcDiskSink *s, unsigned index, const NcFrameAck *ack, GError **error)
{
  return nc_ordered_sender_acked(nc_disk_sink_get(s, index)->answers, ack->seq, ack->offset, error);
}

static void *
nc_disk_answer(void *argument)
{
  NcDisk *d = argument;
  uint8_t buffer[16384];

  nc_mover_wait_open(d->mover);
  for (;;) {
    ssize_t n = recv(atomic_load(&d->qemu), buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      break;
    nc_ordered_sender_send(d->answers, buffer, (size_t)n, NULL, 0);
  }
  nc_disk_is_over(d, "QEMU has closed it");
  nc_ordered_sender_end(d->answers);
  return NULL;
}

bool
nc_disk_sink_start(NcDiskSink *s, unsigned index, int qemu, GError **error)
{
  NcDisk *d = nc_disk_sink_get(s, index);

  if (atomic_load(&d->qemu) >= 0)
    return nc_fail(error, NC_ERROR_CONFLICT, "disk %u was given twice", index);
  atomic_store(&d->qemu, qemu);
  nc_mover_spawn("disk-writer", nc_disk_write, d);
  nc_mover_spawn("disk-answers", nc_disk_answer, d);
  return true;
}

json_t *
nc_disk_sink_progress(NcDiskSink *s)
{
  json_t *list = json_array();

  for (unsigned i = 0; i < NC_WIRE_DISKS_MAX; i++) {
    pthread_mutex_lock(&s->lock);
    NcDisk *d = s->disks[i];
    pthread_mutex_unlock(&s->lock);
    if (d && atomic_load(&d->qemu) >= 0)
      json_array_append_new(list, json_pack("{s:i, s:I, s:b}", "index", (int)i, "stream_bytes", (json_int_t)nc_counted(&d->stream_bytes), "open",
                                            (int)!atomic_load(&d->is_over)));
  }
  return list;
}
