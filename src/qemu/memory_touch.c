/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu/memory_touch.h"
#include "qemu/footprint.h"
#include "qemu/process_memory.h"

#define NC_TOUCH_PAGE NC_PROCESS_PAGE_BYTES
#define NC_TOUCH_PAGES 4096u /* of which the kernel is asked at a time */

/* ${count} pages from ${address} on. */
static uint64_t
nc_touch_pages(const NcProcessMemory *memory, uint64_t address, size_t count)
{
  uint64_t there[NC_TOUCH_PAGES], touched = 0;
  size_t n = nc_process_memory_map(memory, address, count, there);
  uint8_t byte;

  for (size_t i = 0; i < n; i++)
    if (!(there[i] & NC_PROCESS_PAGE_PRESENT) && nc_process_memory_read(memory, address + i * NC_TOUCH_PAGE, &byte, 1) == 1)
      touched += NC_TOUCH_PAGE;
  return touched;
}

uint64_t
nc_memory_touch(pid_t pid, uint64_t least_bytes, const gint *cancelled)
{
  NcProcessMemory memory = NC_PROCESS_MEMORY_CLOSED;
  g_autoptr(GArray) ranges = nc_footprint_ranges(pid, least_bytes);
  uint64_t touched = 0;

  if (!nc_process_memory_open(&memory, pid, NULL))
    return 0;
  for (guint i = 0; i < ranges->len; i++) {
    const NcFootprintRange *range = &g_array_index(ranges, NcFootprintRange, i);
    for (uint64_t at = range->from; at < range->to && !g_atomic_int_get(cancelled); at += NC_TOUCH_PAGES * NC_TOUCH_PAGE)
      touched += nc_touch_pages(&memory, at, MIN((range->to - at) / NC_TOUCH_PAGE, NC_TOUCH_PAGES));
  }
  nc_process_memory_close(&memory);
  return touched;
}
