/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu/memory_touch.h"
#include "base/io.h"
#include "qemu/footprint.h"

#include <fcntl.h>
#include <unistd.h>

#define NC_TOUCH_PAGE 4096u
#define NC_TOUCH_PAGES 4096u /* of which the kernel is asked at a time */
#define NC_PAGEMAP_PRESENT (UINT64_C(1) << 63) /* proc(5) */

static int
nc_touch_open(pid_t pid, const char *name)
{
  g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)pid, name);
  return open(path, O_RDONLY | O_CLOEXEC);
}

/* ${count} pages from ${address} on. */
static uint64_t
nc_touch_pages(int memory, int pagemap, uint64_t address, size_t count)
{
  uint64_t there[NC_TOUCH_PAGES], touched = 0;
  ssize_t n = pread(pagemap, there, count * sizeof there[0], (off_t)(address / NC_TOUCH_PAGE * sizeof there[0]));
  uint8_t byte;

  for (size_t i = 0; n > 0 && i < (size_t)n / sizeof there[0]; i++)
    if (!(there[i] & NC_PAGEMAP_PRESENT) && pread(memory, &byte, 1, (off_t)(address + i * NC_TOUCH_PAGE)) == 1)
      touched += NC_TOUCH_PAGE;
  return touched;
}

uint64_t
nc_memory_touch(pid_t pid, uint64_t least_bytes, const gint *cancelled)
{
  nc_autofd int memory = nc_touch_open(pid, "mem"), pagemap = nc_touch_open(pid, "pagemap");
  g_autoptr(GArray) ranges = nc_footprint_ranges(pid, least_bytes);
  uint64_t touched = 0;

  if (memory < 0 || pagemap < 0)
    return 0;
  for (guint i = 0; i < ranges->len; i++) {
    const NcFootprintRange *range = &g_array_index(ranges, NcFootprintRange, i);
    for (uint64_t at = range->from; at < range->to && !g_atomic_int_get(cancelled); at += NC_TOUCH_PAGES * NC_TOUCH_PAGE)
      touched += nc_touch_pages(memory, pagemap, at, MIN((range->to - at) / NC_TOUCH_PAGE, NC_TOUCH_PAGES));
  }
  return touched;
}
