/* SPDX-License-Identifier: Apache-2.0 */
#include "base/meminfo.h"
#include "base/io.h"

#include <string.h>

static uint64_t
nc_meminfo(const char *key, uint64_t otherwise)
{
  g_autofree char *text = nc_file_read("/proc/meminfo", 65536, NULL, NULL);
  const char *line = text ? strstr(text, key) : NULL;
  return line ? g_ascii_strtoull(line + strlen(key), NULL, 10) << 10 : otherwise;
}

uint64_t
nc_memory_total_bytes(void)
{
  return nc_meminfo("MemTotal:", 0);
}

uint64_t
nc_memory_available_bytes(void)
{
  return nc_meminfo("MemAvailable:", UINT64_MAX);
}
