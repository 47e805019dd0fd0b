/* SPDX-License-Identifier: Apache-2.0 */
/* What of a process counts as its guest's memory. */
#include "qemu/footprint.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LEAST (32u << 20)

static const char smaps[] = "7f0000000000-7f0040000000 rw-p 00000000 00:00 0 \n"
                            "Size:            1048576 kB\n"
                            "Rss:              300000 kB\n"
                            "Pss:              300000 kB\n"
                            "Shared_Hugetlb:        0 kB\n"
                            "Private_Hugetlb:       0 kB\n"
                            "7f0050000000-7f0060000000 rwxp 00000000 00:00 0 \n" /* translated code */
                            "Rss:               90000 kB\n"
                            "55f000000000-55f010000000 rw-p 00000000 00:00 0                          [heap]\n"
                            "Rss:               70000 kB\n"
                            "7f0070000000-7f0070001000 rw-p 00000000 00:00 0 \n" /* small */
                            "Rss:                   4 kB\n"
                            "7f0080000000-7f0088000000 r--p 00000000 08:01 1 /usr/lib/x.so\n"
                            "Rss:               50000 kB\n"
                            "7f0090000000-7f00d0000000 rw-s 00000000 00:0f 7 /dev/hugepages/ram\n"
                            "Rss:                   0 kB\n"
                            "Shared_Hugetlb:    20480 kB\n"
                            "Private_Hugetlb:    2048 kB\n";

static void
test_counts_large_writable_mappings(void)
{
  g_assert_cmpuint(nc_footprint_parse(smaps, LEAST), ==, (300000ull + 20480 + 2048) << 10);
}

static void
test_nonsense_is_nothing(void)
{
  g_assert_cmpuint(nc_footprint_parse("", LEAST), ==, 0);
  g_assert_cmpuint(nc_footprint_parse("Rss: 5 kB\nfoo\n\n:::", LEAST), ==, 0);
}

/* Of this process: what was touched is there, what was not isn't. */
static void
test_of_a_real_process(void)
{
  const size_t size = 64u << 20;
  char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  g_assert_true(memory != MAP_FAILED);
  uint64_t before = nc_footprint_bytes(getpid(), LEAST);
  memset(memory, 1, size / 2);
  uint64_t after = nc_footprint_bytes(getpid(), LEAST);
  g_assert_cmpuint(after, >=, before + size / 2 - (4u << 20));
  g_assert_cmpuint(after, <=, before + size * 3 / 4);
  g_assert_cmpuint(nc_footprint_bytes(0, LEAST), ==, 0);
  munmap(memory, size);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/footprint/mappings", test_counts_large_writable_mappings);
  g_test_add_func("/footprint/nonsense", test_nonsense_is_nothing);
  g_test_add_func("/footprint/real", test_of_a_real_process);
  return g_test_run();
}
