/* SPDX-License-Identifier: Apache-2.0 */
/* A process's memory, page by page: our own, which we know. */
#include "agent/page_feed.h"
#include "base/io.h"
#include "../own_memory.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define SIZE ((size_t)72 << 20)
#define LEAST (64u << 20)
#define PAGE 4096u
#define PAGES (SIZE / PAGE)

/* Of five pages one is untouched, one zeros that were written, and three begin with their number. */
static uint8_t *
make_memory(void)
{
  uint8_t *memory = own_memory_map(SIZE);

  for (uint64_t i = 0; i < PAGES; i++) {
    const uint64_t number = i % 5 == 1 ? 0 : i;
    if (i % 5 != 0)
      memcpy(memory + i * PAGE, &number, sizeof number);
  }
  return memory;
}

/* The next page; false at the end. */
static bool
next_page(int fd, uint8_t page[PAGE])
{
  for (size_t filled = 0; filled < PAGE;) {
    ssize_t n = read(fd, page + filled, PAGE - filled);
    struct pollfd p = { .fd = fd, .events = POLLIN };
    if (n == 0) {
      g_assert_cmpuint(filled, ==, 0); /* whole pages only */
      return false;
    }
    if (n > 0)
      filled += (size_t)n;
    else
      poll(&p, 1, -1);
  }
  return true;
}

static void
test_what_holds_something_comes_once(void)
{
  if (!own_memory_is_alone())
    return;
  uint8_t *memory = make_memory(), page[PAGE];
  g_autoptr(GError) error = NULL;
  nc_autofd int fd = -1;
  g_autoptr(NcPageFeed) feed = nc_page_feed_new(getpid(), LEAST, &fd, &error);
  g_autofree bool *seen = g_new0(bool, PAGES);
  uint64_t number, count = 0, last = 0, returns = 0;

  g_assert_no_error(error);
  while (next_page(fd, page)) {
    memcpy(&number, page, sizeof number);
    g_assert_cmpuint(number, <, PAGES);
    g_assert_false(seen[number]);
    g_assert_cmpuint(number % 5, >=, 2);
    seen[number] = true;
    returns += number < last;
    last = number;
    count++;
  }
  g_assert_cmpuint(count, ==, PAGES / 5 * 3 + (PAGES % 5 > 2 ? PAGES % 5 - 2 : 0));
  g_assert_cmpuint(returns, ==, 7); /* from beginning to end eight times */
  munmap(memory, SIZE);
}

/* Nobody reads any more, or somebody has stopped to: either way it ends. */
static void
test_it_ends_when_it_is_not_wanted(void)
{
  if (!own_memory_is_alone())
    return;
  uint8_t *memory = make_memory(), page[PAGE];
  int fd = -1;
  NcPageFeed *feed = nc_page_feed_new(getpid(), LEAST, &fd, NULL);

  g_assert_true(next_page(fd, page));
  nc_fd_clear(&fd);
  nc_page_feed_free(feed);
  feed = nc_page_feed_new(getpid(), LEAST, &fd, NULL);
  g_assert_true(next_page(fd, page));
  nc_page_feed_free(feed);
  nc_fd_clear(&fd);
  munmap(memory, SIZE);
}

static void
test_no_such_memory(void)
{
  g_autoptr(GError) error = NULL;
  int fd = -1;

  g_assert_null(nc_page_feed_new(getpid(), UINT64_C(1) << 60, &fd, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
  g_clear_error(&error);
  g_assert_null(nc_page_feed_new(0x7ffffff0, LEAST, &fd, &error)); /* no such process */
  g_assert_error(error, NC_ERROR, NC_ERROR_IO);
  g_assert_cmpint(fd, ==, -1);
}

int
main(int argc, char **argv)
{
  signal(SIGPIPE, SIG_IGN); /* as novacrond does */
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/page-feed/once", test_what_holds_something_comes_once);
  g_test_add_func("/page-feed/not-wanted", test_it_ends_when_it_is_not_wanted);
  g_test_add_func("/page-feed/no-such-memory", test_no_such_memory);
  return g_test_run();
}
