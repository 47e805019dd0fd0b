/* SPDX-License-Identifier: Apache-2.0 */
/* The reader thread: receiving, cutting, and finding the end of the stream. */
#include "mover/source.h"
#include "base/ident.h"
#include "base/log.h"
#include "mover/back_receiver.h"
#include "mover/head_start.h"
#include "mover/hot.h"
#include "mover/limits.h"
#include "mover/preempt_sender.h"
#include "wire/blocks.h"
#include "wire/frame.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct NcSource {
  NcMover *mover;
  NcOutbox *outbox;
  atomic_int qemu;               /* -1: it is not connected yet */
  int pages_fd;                  /* what is sent ahead of its pages, before there is a reader; -1: nothing */
  int wake_fd;                   /* eventfd: a grant was asked for, or QEMU has come */
  _Atomic uint64_t wanted_epoch; /* 0: none */
  atomic_bool is_granting;       /* a grant was asked for, at least once */

  /* the reader's */
  NcStreamParser *parser;
  NcHistory *history; /* NULL: nothing is kept */
  NcRawBatch *batch; /* being filled */
  uint32_t filled;   /* bytes in it */
  uint32_t complete; /* of those, up to the end of the last whole record */
  uint64_t seq;      /* the number it will have */
  bool opaque_told;
  bool postcopy; /* the package is complete; it was told */
  bool brief;    /* a guest may wait for what is read */
  NcHeadStart *ahead; /* until QEMU sends its first page; NULL: there is none, or it is over */
  bool is_counted; /* how often pages were sent before the package: nothing is added any more */
  int64_t started_us;      /* monotonic */
  int64_t silent_since_us; /* while a grant is wanted; 0: not silent */
};

NcSource *
nc_source_new(NcMover *m)
{
  NcSource *s = g_new0(NcSource, 1);

  s->mover = m;
  s->outbox = nc_outbox_new(m);
  s->parser = nc_stream_parser_new();
  s->batch = nc_raw_batch_new(NC_CHANNEL_MAIN, 0);
  s->qemu = s->pages_fd = -1;
  s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return s;
}

NcOutbox *
nc_source_outbox(NcSource *s)
{
  return s->outbox;
}

/*
 * A shadow for the way back is worth as much as it holds of the machine. Copying each page costs a microsecond or two: nothing,
 * if pages come slowly, whatever it is that they wait for; where they come fast, a part of a processor, and those are what is scarce
 * then. The beginning is kept in any case: how fast this is will be known after it.
 */
static bool
nc_source_keeps_all(const NcSource *s, const NcRawBatch *batch)
{
  double seconds = (double)(nc_mono_us() - s->started_us) / 1e6;
  return s->mover->shadow_is_kept && batch->offset < NC_MOVER_KEEP_FIRST_BYTES + (uint64_t)(seconds * NC_MOVER_KEEP_BYTES_PER_S);
}

/* Which of the batch's pages the destination has already, or a version of. */
static void
nc_source_plan(NcSource *s, NcRawBatch *batch)
{
  if (!s->history || batch->records->len == 0)
    return;
  if (nc_outbox_history_failed(s->outbox))
    nc_history_forget(s->history);
  nc_history_set_eager(s->history, nc_outbox_link_is_scarce(s->outbox) || nc_source_keeps_all(s, batch));
  for (size_t i = nc_history_block_count(s->history); i < nc_stream_parser_block_count(s->parser); i++)
    nc_history_add_block(s->history, nc_stream_parser_block(s->parser, i)->used_length);
  batch->plan = nc_plan_new();
  if (s->mover->blocks)
    nc_history_begin_batch(s->history, s->seq);
  nc_history_plan(s->history, batch->data, (const NcStreamRecord *)(void *)batch->records->data, batch->records->len, batch->plan);
  if (s->mover->blocks) {
    nc_count(&s->mover->counters.block_pages, batch->plan->blocks_used ? batch->plan->blocks_used->len : 0);
    nc_blocks_note(s->mover->blocks, NC_CHANNEL_MAIN, s->seq, batch->plan);
  }
}

/* Hands the complete part to the outbox, which may block; the rest begins the next batch. */
static void
nc_source_cut(NcSource *s)
{
  NcRawBatch *full = s->batch;
  uint32_t rest = s->filled - s->complete;

  if (s->complete == 0)
    return;
  if (s->brief && nc_stream_parser_at_tail(s->parser)) /* the other QEMU will believe that it has every page */
    nc_preempt_sender_settle(s->mover->preempt_sender);
  s->batch = nc_raw_batch_new(NC_CHANNEL_MAIN, full->offset + s->complete);
  memcpy(s->batch->data, full->data + s->complete, rest);
  full->length = s->complete;
  s->filled = rest;
  s->complete = 0;
  nc_source_plan(s, full);
  nc_outbox_submit(s->outbox, full);
  s->seq++;
}

static void
nc_source_report_opaque(NcSource *s)
{
  uint64_t offset;
  const char *reason;

  if (s->opaque_told || !nc_stream_parser_is_opaque(s->parser, &offset, &reason))
    return;
  s->opaque_told = true;
  nc_mover_emit(s->mover, json_pack("{s:s, s:I, s:s}", "ev", "opaque", "offset", (json_int_t)offset, "reason", reason));
}

static void
nc_source_report_postcopy(NcSource *s)
{
  bool begins = !s->postcopy && nc_stream_parser_in_postcopy(s->parser);

  if (!s->brief && (begins || nc_stream_parser_is_orphan(s->parser))) {
    s->brief = true;
    nc_outbox_be_brief(s->outbox);
  }
  if (!begins)
    return;
  s->postcopy = true;
  nc_mover_emit(s->mover, json_pack("{s:s, s:I}", "ev", "postcopy", "offset",
                                    (json_int_t)nc_stream_parser_package_end(s->parser)));
}

/* Which pages are hot: before the package's end it is counted, behind it they leave. From record ${first} of the batch on. */
static void
nc_source_count_pages(NcSource *s, guint first)
{
  const NcStreamRecord *records = (const NcStreamRecord *)(void *)s->batch->records->data;
  guint n = s->batch->records->len, late = first;

  for (size_t i = nc_hot_block_count(s->mover->hot); i < nc_stream_parser_block_count(s->parser); i++)
    nc_hot_add_block(s->mover->hot, nc_stream_parser_block(s->parser, i));
  while (late < n && !(s->postcopy && s->batch->offset + records[late].start >= nc_stream_parser_package_end(s->parser)))
    late++;
  if (!s->is_counted)
    nc_hot_count(s->mover->hot, records + first, late - first);
  if (s->postcopy && !s->is_counted)
    nc_hot_enter(s->mover->hot, nc_stream_parser_discards(s->parser));
  s->is_counted = s->postcopy;
  if (late < n && nc_hot_sent(s->mover->hot, records + late, n - late))
    nc_back_receiver_ask_on(s->mover->back_receiver);
}

static void
nc_source_scan(NcSource *s)
{
  GArray *records = s->batch->records;
  guint before = records->len;
  size_t consumed = nc_stream_parser_scan(s->parser, s->batch->data + s->complete, s->filled - s->complete, records);

  for (guint i = before; i < records->len; i++) /* relative to what was given, so far */
    g_array_index(records, NcStreamRecord, i).start += s->complete;
  s->complete += (uint32_t)consumed;
  nc_source_report_opaque(s);
  nc_source_report_postcopy(s);
  nc_source_count_pages(s, before);
}

/* Receives what is there, up to the batch's size. Returns recv()'s result. */
static ssize_t
nc_source_receive(NcSource *s, uint32_t target)
{
  /* A rest of an incomplete record may have grown to the target: room for the record is always left. */
  uint32_t room = MAX(target, s->filled + NC_STREAM_RECORD_MAX) - s->filled;
  ssize_t n = recv(s->qemu, s->batch->data + s->filled, MIN(room, NC_BATCH_RAW_MAX - s->filled), MSG_DONTWAIT);

  if (n > 0) {
    nc_count(&s->mover->counters.stream_bytes, (size_t)n);
    s->filled += (uint32_t)n;
    nc_source_scan(s);
    s->silent_since_us = 0;
  }
  return n;
}

/* Behind everything that was cut. */
static void
nc_source_send_grant(NcSource *s, uint64_t epoch)
{
  nc_outbox_conclude(s->outbox, epoch);
  nc_log(NC_LOG_INFO, "mover", "run right %" G_GUINT64_FORMAT " granted behind byte %" G_GUINT64_FORMAT, epoch,
         s->batch->offset);
  atomic_compare_exchange_strong(&s->wanted_epoch, &epoch, 0); /* unless there is a newer one */
}

/* Post-copy: the destination has what it needs to run, and waits. Pages flow on, so nobody waits for silence. */
static void
nc_source_grant_behind_package(NcSource *s)
{
  uint64_t epoch = atomic_load(&s->wanted_epoch);

  if (!s->postcopy || epoch == 0)
    return;
  nc_source_cut(s);
  nc_source_send_grant(s, epoch);
}

/* Called when the socket has nothing more; returns how long to wait at most, or -1. */
static int
nc_source_consider_grant(NcSource *s)
{
  uint64_t epoch = atomic_load(&s->wanted_epoch);

  if (s->postcopy) {
    nc_source_grant_behind_package(s);
    return -1;
  }
  if (epoch == 0) {
    s->silent_since_us = 0; /* silence before the question says nothing */
    return -1;
  }
  /* The head of a record, or no device state yet: more must come, however long it takes. */
  if (s->filled > 0 || !(s->opaque_told || nc_stream_parser_at_tail(s->parser)))
    return -1;
  int64_t now_us = nc_mono_us();
  if (s->silent_since_us == 0)
    s->silent_since_us = now_us;
  int64_t silent_ms = (now_us - s->silent_since_us) / 1000;
  if (!nc_stream_parser_at_tail(s->parser) && silent_ms < NC_MOVER_GRANT_IDLE_MS)
    return (int)(NC_MOVER_GRANT_IDLE_MS - silent_ms + 1);
  nc_source_send_grant(s, epoch);
  return -1;
}

static void
nc_source_poll(NcSource *s, int timeout_ms)
{
  struct pollfd p[] = { { .fd = s->qemu, .events = POLLIN }, { .fd = s->wake_fd, .events = POLLIN } };
  uint64_t ignored;

  poll(p, G_N_ELEMENTS(p), timeout_ms);
  if (p[1].revents && read(s->wake_fd, &ignored, sizeof ignored) < 0)
    return; /* somebody else's wake-up was drained with it: nothing is lost */
}

/* The socket is empty: send what is complete, after a moment if that is little and no guest waits for it. */
static void
nc_source_idle(NcSource *s, bool *waited)
{
  bool patient = !*waited && !s->brief && s->complete > 0 && s->complete < NC_MOVER_COALESCE_BYTES &&
                 atomic_load(&s->wanted_epoch) == 0;
  if (patient) {
    *waited = true;
    nc_source_poll(s, NC_MOVER_COALESCE_MS);
    return;
  }
  nc_source_cut(s);
  nc_source_poll(s, nc_source_consider_grant(s));
}

static void
nc_source_conclude(NcSource *s)
{
  bool tail = s->complete == s->filled && nc_stream_parser_at_tail(s->parser);

  nc_hot_stop(s->mover->hot);
  nc_mover_emit(s->mover, json_pack("{s:s, s:I, s:b}", "ev", "end", "stream_bytes",
                                    (json_int_t)(s->batch->offset + s->filled), "tail", (int)tail));
  s->complete = s->filled; /* a torn record is the stream's last piece all the same */
  nc_source_cut(s);
  nc_outbox_conclude(s->outbox, 0);
  nc_mover_qemu_closed(s->mover);
}

/* QEMU is not there, or sets up its dirty tracking: its memory is read without it. Takes one look. */
static void
nc_source_go_ahead(NcSource *s)
{
  nc_source_cut(s);
  struct pollfd p[] = { { .fd = atomic_load(&s->qemu), .events = POLLIN },
                        { .fd = s->wake_fd, .events = POLLIN },
                        { .fd = s->ahead ? nc_head_start_fd(s->ahead) : -1, .events = POLLIN } };
  uint64_t ignored;

  poll(p, G_N_ELEMENTS(p), -1);
  if (p[1].revents && read(s->wake_fd, &ignored, sizeof ignored) < 0)
    return; /* see nc_source_poll() */
  if (!p[0].revents && p[2].revents && !nc_head_start_read(s->ahead))
    g_clear_pointer(&s->ahead, nc_head_start_free);
}

static void *
nc_source_run(void *argument)
{
  NcSource *s = argument;
  bool waited = false; /* for more, with this batch */

  if (s->pages_fd >= 0)
    s->ahead = nc_head_start_new(s->outbox, s->history, s->pages_fd);
  while (atomic_load(&s->qemu) < 0)
    nc_source_go_ahead(s);
  s->started_us = nc_mono_us();
  if (s->history && s->mover->kept_frames > 0)
    nc_history_begin_kept(s->history, s->mover->kept_frames);

  for (;;) {
    nc_source_grant_behind_package(s);
    uint32_t target = nc_outbox_batch_target(s->outbox);
    if (s->complete >= target) {
      nc_source_cut(s);
      waited = false;
    }
    ssize_t n = nc_source_receive(s, target);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) /* a reset is an end like any other */
      break;
    /* What is ahead of its pages has to leave before them; where none are understood it is of no use. */
    if (s->ahead && (s->batch->records->len > 0 || s->opaque_told))
      g_clear_pointer(&s->ahead, nc_head_start_free);
    if (n < 0 && s->ahead) {
      nc_source_go_ahead(s);
    } else if (n < 0) {
      nc_source_idle(s, &waited);
      waited = waited && s->complete > 0;
    }
  }
  nc_source_conclude(s);
  return NULL;
}

static void
nc_source_wake(NcSource *s)
{
  uint64_t one = 1;
  if (write(s->wake_fd, &one, sizeof one) < 0)
    return; /* awake already */
}

static void
nc_source_spawn(NcSource *s)
{
  if (s->mover->shadow)
    s->history = nc_history_new(s->mover->shadow);
  if (s->history && s->mover->blocks)
    nc_history_use_blocks(s->history, s->mover->blocks);
  nc_mover_spawn("reader", nc_source_run, s);
}

bool
nc_source_start_ahead(NcSource *s, int pages_fd, GError **error)
{
  const NcMover *m = s->mover;

  if (!m->shadow || m->kept_frames > 0 || m->blocks || s->pages_fd >= 0 || atomic_load(&s->qemu) >= 0)
    return nc_fail(error, NC_ERROR_CONFLICT, "pages ahead: %s",
                   m->shadow ? "given twice, or too late, or there are kept ones or blocks" : "nothing is kept");
  s->pages_fd = pages_fd;
  nc_source_spawn(s);
  return true;
}

void
nc_source_start(NcSource *s, int qemu)
{
  atomic_store(&s->qemu, qemu);
  if (s->pages_fd < 0)
    nc_source_spawn(s);
  nc_source_wake(s);
}

bool
nc_source_is_granting(NcSource *s)
{
  return atomic_load(&s->is_granting);
}

void
nc_source_grant(NcSource *s, uint64_t epoch)
{
  atomic_store(&s->wanted_epoch, epoch);
  atomic_store(&s->is_granting, true);
  nc_source_wake(s);
}
