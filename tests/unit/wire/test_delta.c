/* SPDX-License-Identifier: Apache-2.0 */
/* Deltas come back as the page they were made of, and nothing that is not one is taken for one. */
#include "wire/delta.h"

#include <glib.h>
#include <string.h>

static void
fill_random(GRand *random, uint8_t *page)
{
  for (size_t i = 0; i < NC_DELTA_PAGE_BYTES; i++)
    page[i] = (uint8_t)g_rand_int(random);
}

static void
check(const uint8_t *base, const uint8_t *page, size_t most)
{
  uint8_t delta[2 * NC_DELTA_PAGE_BYTES], back[NC_DELTA_PAGE_BYTES];
  size_t n = nc_delta_encode(base, page, delta, sizeof delta);

  g_assert_cmpuint(n, <=, most);
  memcpy(back, base, sizeof back);
  g_assert_true(nc_delta_apply(delta, n, back));
  g_assert_cmpmem(back, sizeof back, page, NC_DELTA_PAGE_BYTES);
  for (size_t room = 0; room < n; room += 1 + n / 7) /* what does not fit is refused, and not written past the room */
    g_assert_cmpuint(nc_delta_encode(base, page, delta, room), ==, SIZE_MAX);
}

static void
test_edges(void)
{
  uint8_t base[NC_DELTA_PAGE_BYTES] = { 0 }, page[NC_DELTA_PAGE_BYTES] = { 0 };

  check(base, page, 0);
  page[0] = 1;
  check(base, page, 3);
  page[NC_DELTA_PAGE_BYTES - 1] = 1;
  check(base, page, 7);
  page[2] = 1; /* joined with the first: the gap is short */
  check(base, page, 9);
  memset(page, 7, sizeof page);
  check(base, page, NC_DELTA_PAGE_BYTES + 3);
}

static void
test_random_changes(void)
{
  g_autoptr(GRand) random = g_rand_new_with_seed(1);
  uint8_t base[NC_DELTA_PAGE_BYTES], page[NC_DELTA_PAGE_BYTES];

  for (int round = 0; round < 2000; round++) {
    fill_random(random, base);
    memcpy(page, base, sizeof page);
    int changes = g_rand_int_range(random, 0, 1 << g_rand_int_range(random, 0, 9));
    for (int i = 0; i < changes; i++) {
      int at = g_rand_int_range(random, 0, NC_DELTA_PAGE_BYTES), n = g_rand_int_range(random, 1, 40);
      for (int k = 0; k < n && at + k < (int)NC_DELTA_PAGE_BYTES; k++)
        page[at + k] = (uint8_t)g_rand_int(random);
    }
    check(base, page, 2 * NC_DELTA_PAGE_BYTES);
  }
}

static void
test_noise(void)
{
  g_autoptr(GRand) random = g_rand_new_with_seed(2);
  uint8_t page[NC_DELTA_PAGE_BYTES] = { 0 };
  static const uint8_t too_far[] = { 0xff, 0x1f, 2, 1, 1 }, too_long[] = { 0, 3, 1, 1 }, half[] = { 5 };
  static const uint8_t huge[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 1 };

  g_assert_false(nc_delta_apply(too_far, sizeof too_far, page));
  g_assert_false(nc_delta_apply(too_long, sizeof too_long, page));
  g_assert_false(nc_delta_apply(half, sizeof half, page));
  g_assert_false(nc_delta_apply(huge, sizeof huge, page));
  for (int round = 0; round < 20000; round++) {
    uint8_t delta[64];
    size_t n = (size_t)g_rand_int_range(random, 0, sizeof delta);
    for (size_t i = 0; i < n; i++)
      delta[i] = (uint8_t)g_rand_int(random);
    nc_delta_apply(delta, n, page); /* the sanitizers judge */
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/delta/edges", test_edges);
  g_test_add_func("/delta/random-changes", test_random_changes);
  g_test_add_func("/delta/noise", test_noise);
  return g_test_run();
}
