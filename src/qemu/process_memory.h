/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the memory of a QEMU's process while its guest runs: what is read may be torn or outdated by the time it is looked at, so
 * it is a hint. Needs the right to trace the process (ptrace(2)); an adopted QEMU of another user's may not be readable.
 *
 * Any thread; all calls but open and close may run at the same time.
 */
#pragma once

#include "base/error.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define NC_PROCESS_PAGE_BYTES 4096u
/* In what nc_process_memory_map() says of a page (proc(5), pagemap): */
#define NC_PROCESS_PAGE_PRESENT (UINT64_C(1) << 63)
#define NC_PROCESS_PAGE_TOUCHED (UINT64_C(3) << 62) /* present, or swapped out */

typedef struct {
  int memory, pagemap; /* -1: closed */
} NcProcessMemory;

#define NC_PROCESS_MEMORY_CLOSED { -1, -1 }

/* ${m} is closed before. On error it is still. */
bool nc_process_memory_open(NcProcessMemory *m, pid_t pid, GError **error);
void nc_process_memory_close(NcProcessMemory *m); /* closed is fine */

/* A word for each of the ${n} pages from ${address} on; returns of how many pages: less if there is no more. */
size_t nc_process_memory_map(const NcProcessMemory *m, uint64_t address, size_t n, uint64_t *ret_words);
/* Up to ${length} bytes from ${address} on; how many, 0 if they can't be read. */
size_t nc_process_memory_read(const NcProcessMemory *m, uint64_t address, void *ret, size_t length);
/* Of NC_PROCESS_PAGE_BYTES. */
bool nc_process_page_is_zero(const uint8_t *page);
