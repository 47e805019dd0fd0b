/* SPDX-License-Identifier: Apache-2.0 */
/* For tests that look at their own process as if it were a QEMU. */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>

/* AddressSanitizer has mappings larger than any guest's: false then, and the test is skipped. */
static inline bool
own_memory_is_alone(void)
{
#ifdef __SANITIZE_ADDRESS__
  g_test_skip("AddressSanitizer's own memory is taken for the guest's");
  return false;
#else
  return true;
#endif
}

/* ${size} bytes as a guest's memory is: untouched, and of small pages. The caller unmaps it. */
static inline void *
own_memory_map(size_t size)
{
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  g_assert_true(memory != MAP_FAILED);
  madvise(memory, size, MADV_NOHUGEPAGE);
  return memory;
}
