/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu/footprint.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define NC_FOOTPRINT_PARTS 8 /* memory is in fewer pieces than this; what is smaller is QEMU's own */
#define NC_FOOTPRINT_LEAST_BYTES (8ull << 20)

/* Does the line open a mapping ("55d0a0000000-55d0b0000000 rw-p ...")? And may it be the guest's? */
static bool
nc_footprint_opens(const char *line, uint64_t least_bytes, NcFootprintRange *ret_range, bool *ret_counts)
{
  unsigned long long from, to;
  char mode[5];

  if (sscanf(line, "%llx-%llx %4s", &from, &to, mode) != 3)
    return false;
  *ret_range = (NcFootprintRange){ from, to };
  *ret_counts = to - from >= least_bytes && mode[1] == 'w' && mode[2] == '-' && !g_str_has_suffix(line, "[heap]");
  return true;
}

uint64_t
nc_footprint_least_bytes(uint64_t ram_bytes)
{
  return MAX(ram_bytes / NC_FOOTPRINT_PARTS, NC_FOOTPRINT_LEAST_BYTES);
}

uint64_t
nc_footprint_parse(const char *smaps, uint64_t least_bytes)
{
  g_auto(GStrv) lines = g_strsplit(smaps, "\n", -1);
  NcFootprintRange range;
  bool counts = false;
  uint64_t total = 0;

  for (size_t i = 0; lines[i]; i++) {
    unsigned long long kib;
    if (nc_footprint_opens(lines[i], least_bytes, &range, &counts) || !counts)
      continue;
    /* hugetlbfs pages are not in Rss */
    if (sscanf(lines[i], "Rss: %llu kB", &kib) == 1 || sscanf(lines[i], "Shared_Hugetlb: %llu kB", &kib) == 1 ||
        sscanf(lines[i], "Private_Hugetlb: %llu kB", &kib) == 1)
      total += kib << 10;
  }
  return total;
}

uint64_t
nc_footprint_bytes(pid_t pid, uint64_t least_bytes)
{
  g_autofree char *path = g_strdup_printf("/proc/%d/smaps", (int)pid);
  g_autofree char *text = NULL;
  return g_file_get_contents(path, &text, NULL, NULL) ? nc_footprint_parse(text, least_bytes) : 0;
}

GArray *
nc_footprint_ranges(pid_t pid, uint64_t least_bytes)
{
  g_autofree char *path = g_strdup_printf("/proc/%d/maps", (int)pid);
  g_autofree char *text = NULL;
  GArray *ranges = g_array_new(FALSE, FALSE, sizeof(NcFootprintRange));

  if (!g_file_get_contents(path, &text, NULL, NULL))
    return ranges;
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
  for (size_t i = 0; lines[i]; i++) {
    NcFootprintRange range;
    bool counts;
    if (nc_footprint_opens(lines[i], least_bytes, &range, &counts) && counts)
      g_array_append_val(ranges, range);
  }
  return ranges;
}
