/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's NBD client: its requests into the outbox, the answers back to it. */
#include "mover/disk_source.h"
#include "base/io.h"
#include "base/log.h"
#include "mover/limits.h"
#include "mover/links.h"
#include "mover/ordered.h"
#include "mover/outbox.h"
#include "mover/source.h"
#include "qemu/nbd_blocks.h"
#include "wire/blocks.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

typedef struct {
  NcMover *mover;
  unsigned index;
  atomic_int qemu;          /* -1: not started. Stays open until the process ends; may be shut down */
  NcOrderedChannel channel; /* of the answers */
  NcOrderedReceiver *answers;
  _Atomic uint64_t stream_bytes;
  atomic_bool is_over;
} NcDisk;

struct NcDiskSource {
  NcMover *mover;
  pthread_mutex_t lock;             /* protects the table, not what it points to: that stays */
  NcDisk *disks[NC_WIRE_DISKS_MAX]; /* NULL: nothing was heard of it yet */
};

NcDiskSource *
nc_disk_source_new(NcMover *m)
{
  NcDiskSource *s = g_new0(NcDiskSource, 1);

  s->mover = m;
  pthread_mutex_init(&s->lock, NULL);
  return s;
}

/* The server greets its client first: its words may come before our agent has given us the client, and wait. */
static NcDisk *
nc_disk_source_get(NcDiskSource *s, unsigned index)
{
  pthread_mutex_lock(&s->lock);
  if (!s->disks[index]) {
    NcDisk *d = s->disks[index] = g_new0(NcDisk, 1);
    d->mover = s->mover;
    d->index = index;
    atomic_store(&d->qemu, -1);
    d->channel = (NcOrderedChannel){ NC_CHANNEL_DISK(index), "disk", NC_MOVER_DISK_BACK_WINDOW_BYTES, NC_MOVER_DISK_BACK_BATCHES };
    d->answers = nc_ordered_receiver_new(s->mover, &d->channel);
  }
  NcDisk *d = s->disks[index];
  pthread_mutex_unlock(&s->lock);
  return d;
}

/* Told once. */
static void
nc_disk_is_over(NcDisk *d, const char *why)
{
  if (atomic_exchange(&d->is_over, true))
    return;
  nc_log(NC_LOG_INFO, "mover", "disk %u: %s", d->index, why);
  nc_mover_emit(d->mover, json_pack("{s:s, s:i, s:s}", "ev", "disk_closed", "index", (int)d->index, "message", why));
}

/* Is there more at once, or at least within the time that is well spent waiting for it? */
static bool
nc_disk_has_more(NcDisk *d, const NcNbdBlocks *parser, uint32_t have)
{
  struct pollfd p = { .fd = d->qemu, .events = POLLIN };
  bool is_piece = have == nc_nbd_blocks_begun(parser); /* of no use to anybody */
  return poll(&p, 1, is_piece ? NC_MOVER_BLOCK_MS : have < NC_MOVER_COALESCE_BYTES ? NC_MOVER_COALESCE_MS : 0) > 0;
}

/* What of the batch's size is left: to the target, and if a block is under way there, to its end. */
static uint32_t
nc_disk_room(const NcNbdBlocks *parser, const NcRawBatch *batch)
{
  return batch->length < NC_BATCH_RAW_TARGET ? NC_BATCH_RAW_TARGET - batch->length : nc_nbd_blocks_missing(parser);
}

/* Fills a batch with what QEMU has written: at least a byte, for which it waits. False: QEMU has closed. */
static bool
nc_disk_fill(NcDisk *d, NcNbdBlocks *parser, NcRawBatch *batch)
{
  uint32_t room;

  while ((room = nc_disk_room(parser, batch)) > 0 && (batch->length == 0 || nc_disk_has_more(d, parser, batch->length))) {
    ssize_t n = recv(d->qemu, batch->data + batch->length, room, 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0) /* a reset is an end like any other */
      return false;
    nc_nbd_blocks_scan(parser, batch->data, batch->length, batch->length + (uint32_t)n, batch->records);
    batch->length += (uint32_t)n;
  }
  return true;
}

/* The next batch: a block that has begun in ${full} goes there, unless it is all there is. */
static NcRawBatch *
nc_disk_cut(NcNbdBlocks *parser, NcRawBatch *full)
{
  uint32_t begun = nc_nbd_blocks_begun(parser);
  NcRawBatch *next;

  if (begun == 0 || begun >= full->length) {
    nc_nbd_blocks_cut(parser);
    return nc_raw_batch_new(full->channel, full->offset + full->length);
  }
  full->length -= begun;
  next = nc_raw_batch_new(full->channel, full->offset + full->length);
  memcpy(next->data, full->data + full->length, begun);
  next->length = begun;
  return next;
}

/* Which of the batch's blocks are kept, and which the destination has already. */
static void
nc_disk_plan(NcDisk *d, NcRawBatch *batch, uint64_t seq)
{
  NcMover *m = d->mover;

  if (!m->blocks || batch->records->len == 0)
    return;
  batch->plan = nc_plan_new();
  nc_blocks_plan(m->blocks, batch->data, (const NcStreamRecord *)(void *)batch->records->data, batch->records->len, batch->plan);
  nc_count(&m->counters.repeated_blocks, batch->plan->blocks_used ? batch->plan->blocks_used->len : 0);
  nc_count(&m->counters.page_blocks, batch->plan->pages_held ? batch->plan->pages_held->len : 0);
  nc_blocks_note(m->blocks, d->channel.channel, seq, batch->plan);
  if (batch->plan->uses_history) /* it is kept until it is acknowledged */
    batch->data = g_realloc(batch->data, batch->length);
}

/* Behind everything, which by then has arrived. */
static void
nc_disk_send_end(NcDisk *d)
{
  NcOutbox *outbox = nc_source_outbox(d->mover->source);
  NcChain sent;

  nc_outbox_await_acks(outbox, d->channel.channel);
  nc_outbox_position(outbox, d->channel.channel, &sent);
  NcFrameEnd end = { .offset = sent.offset };
  memcpy(end.sha256, sent.value, sizeof end.sha256);
  nc_mover_send_urgent(d->mover, nc_frame_encode_end(d->channel.channel, &end));
}

static void *
nc_disk_read(void *argument)
{
  NcDisk *d = argument;
  NcOutbox *outbox = nc_source_outbox(d->mover->source);
  g_autoptr(NcNbdBlocks) parser = nc_nbd_blocks_new();
  NcRawBatch *batch = nc_raw_batch_new(d->channel.channel, 0), *next;
  uint64_t seq = 0;

  nc_mover_wait_open(d->mover);
  for (bool open = true; open; batch = next) {
    open = nc_disk_fill(d, parser, batch);
    next = open ? nc_disk_cut(parser, batch) : NULL;
    nc_count(&d->stream_bytes, batch->length);
    if (batch->length > 0) {
      nc_disk_plan(d, batch, seq++);
      nc_outbox_submit(outbox, batch);
    } else {
      nc_raw_batch_free(batch);
    }
  }
  nc_disk_is_over(d, "QEMU has closed it");
  nc_disk_send_end(d);
  return NULL;
}

static void
nc_disk_deliver(NcDisk *d, const GByteArray *raw)
{
  g_autoptr(GError) gone = NULL;

  if (!atomic_load(&d->is_over) && !nc_write_all(atomic_load(&d->qemu), raw->data, raw->len, &gone))
    nc_disk_is_over(d, gone->message);
}

static void *
nc_disk_answer(void *argument)
{
  NcDisk *d = argument;

  nc_mover_wait_open(d->mover);
  while (!nc_mover_is_stopped(d->mover)) {
    NcOrderedBatch batch;
    if (!nc_ordered_receiver_next(d->answers, 0, &batch))
      continue;
    nc_disk_deliver(d, batch.raw);
    nc_ordered_receiver_done(d->answers, &batch);
  }
  return NULL;
}

bool
nc_disk_source_start(NcDiskSource *s, unsigned index, int qemu, GError **error)
{
  NcDisk *d = nc_disk_source_get(s, index);

  if (atomic_load(&d->qemu) >= 0)
    return nc_fail(error, NC_ERROR_CONFLICT, "disk %u was given twice", index);
  nc_outbox_open_disk(nc_source_outbox(s->mover->source), index);
  atomic_store(&d->qemu, qemu);
  if (atomic_load(&d->is_over)) /* the server was gone first */
    shutdown(qemu, SHUT_RDWR);
  nc_mover_spawn("disk-reader", nc_disk_read, d);
  nc_mover_spawn("disk-answers", nc_disk_answer, d);
  return true;
}

bool
nc_disk_source_batch(NcDiskSource *s, unsigned index, NcBatchDecoder *decoder, const NcFrame *frame, GError **error)
{
  return nc_ordered_receiver_batch(nc_disk_source_get(s, index)->answers, decoder, frame, error);
}

/* The destination's server is gone: QEMU must not wait for it. */
bool
nc_disk_source_end(NcDiskSource *s, unsigned index, const NcFrameEnd *end, GError **error)
{
  NcDisk *d = nc_disk_source_get(s, index);

  if (!nc_ordered_receiver_end(d->answers, end, error))
    return false;
  nc_disk_is_over(d, "the destination's QEMU has closed it");
  int qemu = atomic_load(&d->qemu);
  if (qemu >= 0)
    shutdown(qemu, SHUT_RDWR);
  return true;
}

json_t *
nc_disk_source_progress(NcDiskSource *s)
{
  NcOutbox *outbox = nc_source_outbox(s->mover->source);
  json_t *list = json_array();

  for (unsigned i = 0; i < NC_WIRE_DISKS_MAX; i++) {
    pthread_mutex_lock(&s->lock);
    NcDisk *d = s->disks[i];
    pthread_mutex_unlock(&s->lock);
    if (!d || atomic_load(&d->qemu) < 0)
      continue;
    json_array_append_new(list, json_pack("{s:i, s:I, s:I, s:b}", "index", (int)i, "stream_bytes", (json_int_t)nc_counted(&d->stream_bytes),
                                          "wire_bytes", (json_int_t)nc_outbox_sent_wire_bytes(outbox, NC_CHANNEL_DISK(i)), "open",
                                          (int)!atomic_load(&d->is_over)));
  }
  return list;
}
