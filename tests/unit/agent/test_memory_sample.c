/* SPDX-License-Identifier: Apache-2.0 */
/* A sample of a process's memory: our own, which we know. */
#include "agent/memory_sample.h"
#include "../own_memory.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE ((size_t)96 << 20)
#define LEAST (64u << 20)
#define PAGE 4096u

/* A third untouched, a third of noise, a third of text. Returns it. */
static uint8_t *
make_memory(void)
{
  uint8_t *memory = own_memory_map(SIZE);

  for (size_t i = SIZE / 3; i < SIZE / 3 * 2; i += sizeof(guint32))
    *(guint32 *)(void *)(memory + i) = g_random_int();
  for (size_t i = SIZE / 3 * 2; i + 64 < SIZE; i += 64)
    g_snprintf((char *)memory + i, 64, "line %zu of a file that says the same again and again", i);
  return memory;
}

static unsigned
resident_pages(const uint8_t *memory)
{
  g_autofree unsigned char *there = g_malloc(SIZE / PAGE);
  unsigned n = 0;

  g_assert_cmpint(mincore((void *)memory, SIZE, there), ==, 0);
  for (size_t i = 0; i < SIZE / PAGE; i++)
    n += there[i] & 1;
  return n;
}

/* The places of part ${third} of the memory, without those at its edges. */
static void
check_third(const NcMemorySample *s, unsigned third, double content, double least_coded, double most_coded)
{
  unsigned n = NC_MEMORY_SAMPLE_PLACES / 3;

  for (unsigned i = third * n + 4; i < (third + 1) * n - 4; i++) {
    const NcMemoryPlace *place = &nc_memory_sample_places(s)[i];
    g_assert_cmpfloat_with_epsilon((double)place->content, content, 0.01);
    g_assert_cmpfloat((double)place->coded, >=, least_coded);
    g_assert_cmpfloat((double)place->coded, <=, most_coded);
  }
}

static void
test_what_is_there(void)
{
  if (!own_memory_is_alone())
    return;
  g_autoptr(GError) error = NULL;
  uint8_t *memory = make_memory();
  unsigned before = resident_pages(memory);
  g_autoptr(NcMemorySample) s = nc_memory_sample_new(getpid(), LEAST, &error);

  g_assert_no_error(error);
  g_assert_cmpuint(nc_memory_sample_bytes(s), ==, SIZE);
  check_third(s, 0, 0, 0, 0);
  check_third(s, 1, 1, 0.95, 1);
  check_third(s, 2, 1, 0.01, 0.4);
  g_assert_cmpuint(resident_pages(memory), ==, before); /* what was not there is not there now */
  munmap(memory, SIZE);
}

static void
test_what_changes(void)
{
  if (!own_memory_is_alone())
    return;
  g_autoptr(GError) error = NULL;
  uint8_t *memory = make_memory();
  g_autoptr(NcMemorySample) s = nc_memory_sample_new(getpid(), LEAST, &error);
  NcMemoryChange change;

  g_assert_true(nc_memory_sample_again(s, &change, &error));
  g_assert_cmpfloat(change.changed, ==, 0);
  for (size_t at = SIZE / 3; at < SIZE / 3 * 2; at += 2 * PAGE)
    memory[at + 100] ^= 1; /* every second page of a third, by a bit */
  g_assert_true(nc_memory_sample_again(s, &change, &error));
  g_assert_cmpfloat_with_epsilon(change.changed, 1.0 / 6, 0.02);
  g_assert_cmpfloat(change.coded, <, 0.01);
  g_assert_cmpfloat(change.seconds, >, 0);
  munmap(memory, SIZE);
  g_assert_false(nc_memory_sample_again(s, &change, &error)); /* it is gone */
  g_assert_nonnull(error);
}

static void
test_nobody(void)
{
  g_autoptr(GError) error = NULL;

  g_assert_null(nc_memory_sample_new(getpid(), UINT64_C(1) << 60, &error)); /* nothing that large, not even the shadow of a sanitizer */
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
  g_clear_error(&error);
  g_assert_null(nc_memory_sample_new(0x3fffffff, LEAST, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_IO);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/memory-sample/what-is-there", test_what_is_there);
  g_test_add_func("/memory-sample/what-changes", test_what_changes);
  g_test_add_func("/memory-sample/nobody", test_nobody);
  return g_test_run();
}
