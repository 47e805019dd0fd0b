/* SPDX-License-Identifier: Apache-2.0 */
/* Pages of this process, as if it were a QEMU. */
#include "qemu/footprint.h"
#include "qemu/memory_touch.h"
#include "../own_memory.h"

#include <unistd.h>

#define LEAST (32u << 20)
#define SIZE (64u << 20)
#define PAGE 4096u

static void
test_all_pages_are_there_afterwards(void)
{
  if (!own_memory_is_alone())
    return;
  static const gint go_on = 0;
  char *memory = own_memory_map(SIZE);

  memory[5 * PAGE] = 1;
  uint64_t before = nc_footprint_bytes(getpid(), LEAST);
  g_assert_cmpuint(nc_memory_touch(getpid(), LEAST, &go_on), >=, SIZE - PAGE); /* the test's own mappings may count, too */
  g_assert_cmpuint(nc_memory_touch(getpid(), LEAST, &go_on), <, SIZE / 4);
  g_assert_cmpuint(nc_footprint_bytes(getpid(), LEAST), <, before + SIZE / 4); /* they take no memory */
  g_assert_cmpint(memory[5 * PAGE], ==, 1);
  munmap(memory, SIZE);
}

static void
test_ends_when_it_should(void)
{
  static const gint cancelled = 1, go_on = 0;
  char *memory = own_memory_map(SIZE);

  g_assert_cmpuint(nc_memory_touch(getpid(), LEAST, &cancelled), ==, 0);
  g_assert_cmpuint(nc_memory_touch(0, LEAST, &go_on), ==, 0);
  munmap(memory, SIZE);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/memory_touch/all", test_all_pages_are_there_afterwards);
  g_test_add_func("/memory_touch/ends", test_ends_when_it_should);
  return g_test_run();
}
