/* SPDX-License-Identifier: Apache-2.0 */
/* One client's hurry costs only that client. */
#include "gate/rate.h"

#define SECOND G_GINT64_CONSTANT(1000000)

static void
test_burst_then_average(void)
{
  g_autoptr(NcRate) rate = nc_rate_new(10, 5, 100);
  for (int i = 0; i < 5; i++)
    g_assert_true(nc_rate_take(rate, "a", SECOND));
  g_assert_false(nc_rate_take(rate, "a", SECOND));
  g_assert_true(nc_rate_take(rate, "b", SECOND));
  g_assert_false(nc_rate_take(rate, "a", SECOND + 99999));
  g_assert_true(nc_rate_take(rate, "a", SECOND + 200000));
  for (int i = 0; i < 5; i++)
    g_assert_true(nc_rate_take(rate, "a", 100 * SECOND)); /* no more than the burst is saved up */
  g_assert_false(nc_rate_take(rate, "a", 100 * SECOND));
}

/* Looking costs nothing, and sees what time has given back. */
static void
test_looking(void)
{
  g_autoptr(NcRate) rate = nc_rate_new(1, 2, 100);
  for (int i = 0; i < 5; i++)
    g_assert_true(nc_rate_has(rate, "a", SECOND));
  g_assert_true(nc_rate_take(rate, "a", SECOND) && nc_rate_has(rate, "a", SECOND) && nc_rate_take(rate, "a", SECOND));
  g_assert_false(nc_rate_has(rate, "a", SECOND));
  g_assert_false(nc_rate_has(rate, "a", 2 * SECOND - 1));
  g_assert_true(nc_rate_has(rate, "a", 2 * SECOND + 1) && nc_rate_has(rate, "b", SECOND));
}

static void
test_clock_backwards(void)
{
  g_autoptr(NcRate) rate = nc_rate_new(10, 1, 100);
  g_assert_true(nc_rate_take(rate, "a", 10 * SECOND));
  g_assert_false(nc_rate_take(rate, "a", 5 * SECOND));
}

static void
test_many_clients_stay_bounded(void)
{
  g_autoptr(NcRate) rate = nc_rate_new(1, 1, 8);
  for (int i = 0; i < 10000; i++) {
    g_autofree char *client = g_strdup_printf("%d", i);
    g_assert_true(nc_rate_take(rate, client, i));
  }
  g_assert_false(nc_rate_take(rate, "9999", 10000)); /* the latest is still remembered */
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/gate/rate/burst_then_average", test_burst_then_average);
  g_test_add_func("/gate/rate/looking", test_looking);
  g_test_add_func("/gate/rate/clock_backwards", test_clock_backwards);
  g_test_add_func("/gate/rate/many_clients_stay_bounded", test_many_clients_stay_bounded);
  return g_test_run();
}
