/* SPDX-License-Identifier: Apache-2.0 */
/* From the pipe, page by page, into batches that look like QEMU's, so that all that knows pages knows these. */
#include "mover/head_start.h"
#include "base/bytes.h"
#include "base/io.h"
#include "wire/frame.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define NC_HEAD_START_WORD_BYTES 8u
#define NC_HEAD_START_RECORD_BYTES (NC_HEAD_START_WORD_BYTES + NC_STREAM_PAGE_BYTES)
#define NC_HEAD_START_READ_BYTES (64u * NC_STREAM_PAGE_BYTES)

struct NcHeadStart {
  NcOutbox *outbox;
  NcHistory *history;
  int fd;
  uint32_t filled; /* of buffer; whole pages are taken from it at once */
  NcRawBatch *batch; /* being filled; NULL: none */
  uint32_t frame;    /* of its first page */
  uint8_t buffer[NC_HEAD_START_READ_BYTES];
};

NcHeadStart *
nc_head_start_new(NcOutbox *outbox, NcHistory *history, int pages_fd)
{
  NcHeadStart *h = g_new0(NcHeadStart, 1);

  h->outbox = outbox;
  h->history = history;
  h->fd = pages_fd;
  return h;
}

static void
nc_head_start_submit(NcHeadStart *h)
{
  NcRawBatch *batch = g_steal_pointer(&h->batch);

  if (!batch)
    return;
  batch->plan = nc_plan_new();
  nc_history_plan_ahead(h->frame, batch->records->len, batch->plan);
  nc_outbox_submit(h->outbox, batch);
}

void
nc_head_start_free(NcHeadStart *h)
{
  if (!h)
    return;
  nc_head_start_submit(h);
  nc_fd_clear(&h->fd);
  nc_secret_clear(h->buffer, sizeof h->buffer);
  g_free(h);
}

int
nc_head_start_fd(const NcHeadStart *h)
{
  return h->fd;
}

/* The word of a record like QEMU's names the page's place; here it is its frame, so that those of a batch follow each other. */
static void
nc_head_start_append(NcHeadStart *h, uint32_t frame, const uint8_t *page)
{
  if (!h->batch) {
    h->batch = nc_raw_batch_new(NC_CHANNEL_MAIN, 0);
    h->frame = frame;
  }
  NcStreamRecord record = { .start = h->batch->length,
                            .header_bytes = NC_HEAD_START_WORD_BYTES,
                            .kind = NC_RECORD_PAGE,
                            .length = NC_HEAD_START_RECORD_BYTES };
  uint8_t *at = h->batch->data + h->batch->length;
  nc_store_be64(at, (uint64_t)frame * NC_STREAM_PAGE_BYTES);
  memcpy(at + NC_HEAD_START_WORD_BYTES, page, NC_STREAM_PAGE_BYTES);
  h->batch->length += NC_HEAD_START_RECORD_BYTES;
  g_array_append_val(h->batch->records, record);
}

static void
nc_head_start_take(NcHeadStart *h, uint32_t target_bytes)
{
  uint32_t at = 0;

  for (; at + NC_STREAM_PAGE_BYTES <= h->filled; at += NC_STREAM_PAGE_BYTES) {
    uint32_t frame = nc_history_put_ahead(h->history, h->buffer + at);
    if (frame == NC_NO_FRAME)
      continue;
    nc_head_start_append(h, frame, h->buffer + at);
    if (h->batch->length + NC_HEAD_START_RECORD_BYTES > target_bytes)
      nc_head_start_submit(h);
  }
  h->filled -= at;
  memmove(h->buffer, h->buffer + at, h->filled);
}

bool
nc_head_start_read(NcHeadStart *h)
{
  uint32_t target = CLAMP(nc_outbox_batch_target(h->outbox), NC_HEAD_START_RECORD_BYTES, NC_BATCH_RAW_MAX);
  ssize_t n = read(h->fd, h->buffer + h->filled, sizeof h->buffer - h->filled);

  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return true;
  if (n <= 0)
    return false;
  h->filled += (uint32_t)n;
  nc_head_start_take(h, target);
  return nc_history_has_room(h->history);
}
