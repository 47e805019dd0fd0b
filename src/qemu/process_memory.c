/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu/process_memory.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int
nc_process_memory_open_file(pid_t pid, const char *name, GError **error)
{
  g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int)pid, name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);

  if (fd < 0)
    nc_fail_errno(error, NC_ERROR_IO, errno, "%s", path);
  return fd;
}

bool
nc_process_memory_open(NcProcessMemory *m, pid_t pid, GError **error)
{
  m->memory = nc_process_memory_open_file(pid, "mem", error);
  if (m->memory >= 0)
    m->pagemap = nc_process_memory_open_file(pid, "pagemap", error);
  if (m->pagemap < 0)
    nc_process_memory_close(m);
  return m->pagemap >= 0;
}

void
nc_process_memory_close(NcProcessMemory *m)
{
  nc_fd_clear(&m->memory);
  nc_fd_clear(&m->pagemap);
}

size_t
nc_process_memory_map(const NcProcessMemory *m, uint64_t address, size_t n, uint64_t *ret_words)
{
  ssize_t bytes = pread(m->pagemap, ret_words, n * sizeof *ret_words, (off_t)(address / NC_PROCESS_PAGE_BYTES * sizeof *ret_words));
  return bytes > 0 ? (size_t)bytes / sizeof *ret_words : 0;
}

size_t
nc_process_memory_read(const NcProcessMemory *m, uint64_t address, void *ret, size_t length)
{
  ssize_t bytes = pread(m->memory, ret, length, (off_t)address);
  return bytes > 0 ? (size_t)bytes : 0;
}

bool
nc_process_page_is_zero(const uint8_t *page)
{
  return page[0] == 0 && memcmp(page, page + 1, NC_PROCESS_PAGE_BYTES - 1) == 0;
}
