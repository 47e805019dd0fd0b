/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/page_feed.h"
#include "base/ident.h"
#include "base/io.h"
#include "crypto/digest.h"
#include "qemu/footprint.h"
#include "qemu/process_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define NC_FEED_PAGE NC_PROCESS_PAGE_BYTES
#define NC_FEED_PAGES 64u /* read at a time */
#define NC_FEED_STRIDE 8u /* pieces of so many: QEMU's stream brings new content between what went ahead, so that the link has work */
#define NC_FEED_PIPE_BYTES (1 << 20)
#define NC_FEED_STOP_MS 50
#define NC_FEED_SPARE_CPU_BYTES_PER_S (48u << 20) /* decision 070: more makes QEMU's set-up longer, and the guest waits for that */
#define NC_FEED_WAIT_MOST_US 20000

struct NcPageFeed {
  NcProcessMemory memory;
  int pipe;
  GArray *ranges; /* of NcFootprintRange */
  atomic_bool stopped;
  GThread *thread;
  uint64_t taken; /* bytes that were looked at */
  int64_t begun_us;
  uint8_t pages[NC_FEED_PAGES * NC_FEED_PAGE];
};

/* All of it, however slowly it is taken. False: nobody takes it any more. */
static bool
nc_page_feed_write(NcPageFeed *f, const uint8_t *data, size_t length)
{
  while (length > 0 && !atomic_load(&f->stopped)) {
    ssize_t n = write(f->pipe, data, length);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
      return false;
    if (n < 0) {
      struct pollfd p = { .fd = f->pipe, .events = POLLOUT };
      poll(&p, 1, NC_FEED_STOP_MS);
      continue;
    }
    data += n;
    length -= (size_t)n;
  }
  return length == 0;
}

/* Until it may look at more. One processor is QEMU's; a share of each other one is what the head start may have. */
static void
nc_page_feed_pace(NcPageFeed *f)
{
  double rate = (double)NC_FEED_SPARE_CPU_BYTES_PER_S * MAX((int)g_get_num_processors() - 1, 1);
  int64_t due_us = f->begun_us + (int64_t)((double)f->taken / rate * 1e6);

  for (int64_t early; (early = due_us - nc_mono_us()) > 0 && !atomic_load(&f->stopped);)
    g_usleep((gulong)MIN(early, NC_FEED_WAIT_MOST_US));
}

/* ${n} pages that were touched, from ${address} on, without those that are all zeros. */
static bool
nc_page_feed_run(NcPageFeed *f, uint64_t address, unsigned n)
{
  unsigned kept = 0;
  size_t got = nc_process_memory_read(&f->memory, address, f->pages, (size_t)n * NC_FEED_PAGE);

  f->taken += got;
  nc_page_feed_pace(f);
  for (unsigned i = 0; i < got / NC_FEED_PAGE; i++) {
    const uint8_t *page = f->pages + (size_t)i * NC_FEED_PAGE;
    if (nc_process_page_is_zero(page))
      continue;
    if (kept != i)
      memcpy(f->pages + (size_t)kept * NC_FEED_PAGE, page, NC_FEED_PAGE);
    kept++;
  }
  return nc_page_feed_write(f, f->pages, (size_t)kept * NC_FEED_PAGE);
}

/* NC_FEED_PAGES from ${address} on, as far as ${n}. */
static bool
nc_page_feed_piece(NcPageFeed *f, uint64_t address, unsigned n)
{
  uint64_t there[NC_FEED_PAGES];

  if (nc_process_memory_map(&f->memory, address, n, there) != n)
    return false;
  for (unsigned i = 0, end; i < n; i = end) {
    bool touched = there[i] & NC_PROCESS_PAGE_TOUCHED;
    for (end = i + 1; end < n && touched == !!(there[end] & NC_PROCESS_PAGE_TOUCHED);)
      end++;
    if (touched && !nc_page_feed_run(f, address + (uint64_t)i * NC_FEED_PAGE, end - i))
      return false;
  }
  return true;
}

/* Each NC_FEED_STRIDE-th piece of all memory, from the ${first} on. */
static bool
nc_page_feed_pass(NcPageFeed *f, unsigned first)
{
  const uint64_t piece = (uint64_t)NC_FEED_PAGES * NC_FEED_PAGE;
  bool wanted = true;

  for (guint i = 0; wanted && i < f->ranges->len; i++) {
    const NcFootprintRange *range = &g_array_index(f->ranges, NcFootprintRange, i);
    for (uint64_t at = range->from + first * piece; wanted && at + NC_FEED_PAGE <= range->to; at += NC_FEED_STRIDE * piece)
      wanted = nc_page_feed_piece(f, at, (unsigned)MIN((range->to - at) / NC_FEED_PAGE, NC_FEED_PAGES));
  }
  return wanted;
}

static void *
nc_page_feed_thread(void *argument)
{
  NcPageFeed *f = argument;

  f->begun_us = nc_mono_us();
  for (unsigned first = 0; first < NC_FEED_STRIDE && nc_page_feed_pass(f, first); first++)
    ;
  nc_fd_clear(&f->pipe); /* that was all */
  return NULL;
}

static bool
nc_page_feed_begin(NcPageFeed *f, pid_t pid, uint64_t least_bytes, int *ret_fd, GError **error)
{
  int ends[2];

  if (!nc_process_memory_open(&f->memory, pid, error))
    return false;
  f->ranges = nc_footprint_ranges(pid, least_bytes);
  if (f->ranges->len == 0)
    return nc_fail(error, NC_ERROR_NOT_FOUND, "process %d has no memory of a guest's size", (int)pid);
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
    return nc_fail_errno(error, NC_ERROR_RESOURCE, errno, "a pipe for the guest's pages");
  fcntl(ends[1], F_SETPIPE_SZ, NC_FEED_PIPE_BYTES); /* a smaller one does, too */
  *ret_fd = ends[0];
  f->pipe = ends[1];
  f->thread = g_thread_new("page-feed", nc_page_feed_thread, f);
  return true;
}

NcPageFeed *
nc_page_feed_new(pid_t pid, uint64_t least_bytes, int *ret_fd, GError **error)
{
  NcPageFeed *f = g_new0(NcPageFeed, 1);

  f->memory = (NcProcessMemory)NC_PROCESS_MEMORY_CLOSED;
  f->pipe = -1;
  if (!nc_page_feed_begin(f, pid, least_bytes, ret_fd, error))
    g_clear_pointer(&f, nc_page_feed_free);
  return f;
}

void
nc_page_feed_free(NcPageFeed *f)
{
  if (!f)
    return;
  atomic_store(&f->stopped, true);
  if (f->thread)
    g_thread_join(f->thread);
  nc_process_memory_close(&f->memory);
  nc_fd_clear(&f->pipe);
  g_clear_pointer(&f->ranges, g_array_unref);
  nc_secret_clear(f->pages, sizeof f->pages); /* a guest's memory */
  g_free(f);
}
