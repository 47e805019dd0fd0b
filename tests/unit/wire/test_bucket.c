/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The token bucket: the rate in every second under sustained load, the burst after idle
 * times, the debt of what did not ask; and, for any pattern of calls, never more
 * than rate x time + burst.
 */
#include "wire/bucket.h"

#define SECOND_US 1000000u
#define START_US 987654321u /* clocks don't begin at 0 */

static uint64_t
burst_of(uint64_t rate_bps)
{
  return MAX(rate_bps * NC_BUCKET_BURST_US / SECOND_US, NC_BUCKET_MIN_BURST_BYTES);
}

/* Sends records of ${record} bytes as early as the bucket allows, waking up to ${late_us} late; checks each second. */
static void
check_sustained(uint64_t rate_bps, uint64_t record, unsigned late_us)
{
  NcBucket b;
  uint64_t now_us = START_US;

  nc_bucket_init(&b, rate_bps, now_us);
  for (unsigned second = 0; second < 20; second++) {
    uint64_t sent = 0, end_us = START_US + (second + 1) * (uint64_t)SECOND_US;
    while (now_us < end_us) {
      if (nc_bucket_available(&b, now_us) >= record) {
        nc_bucket_take(&b, (int64_t)record, now_us);
        sent += record;
      } else {
        uint64_t ready_us = nc_bucket_ready_us(&b, record, now_us);
        g_assert_cmpuint(ready_us, >, now_us);
        now_us = ready_us + (late_us > 0 ? (uint64_t)g_test_rand_int_range(0, (gint32)late_us) : 0);
      }
    }
    g_assert_cmpfloat((double)sent, >=, 0.99 * (double)rate_bps - (double)record);
    g_assert_cmpfloat((double)sent, <=, 1.01 * (double)rate_bps + (double)record);
  }
}

static void
test_sustained(void)
{
  check_sustained(3000000, 17000, 0);
  check_sustained(12500000, 17000, 0);
  check_sustained(125000000, 17000, 3000);
  check_sustained(1250000000, 17000, 3000);
  check_sustained(300000, 1500, 1000);
  check_sustained(7, 1, 1000);
}

/* What ready_us says is exact: enough then, not enough a microsecond before. */
static void
test_ready_is_exact(void)
{
  for (unsigned i = 0; i < 20000; i++) {
    NcBucket b;
    uint64_t rate = (uint64_t)g_test_rand_int_range(1, G_MAXINT32);
    uint64_t bytes = (uint64_t)g_test_rand_int_range(1, (gint32)MIN(burst_of(rate), 1 << 30));
    nc_bucket_init(&b, rate, START_US);
    nc_bucket_take(&b, g_test_rand_int_range(0, 100000), START_US);
    uint64_t ready_us = nc_bucket_ready_us(&b, bytes, START_US);
    if (ready_us > START_US)
      g_assert_cmpuint(nc_bucket_available(&b, ready_us - 1), <, bytes);
    g_assert_cmpuint(nc_bucket_available(&b, ready_us), >=, bytes);
  }
}

static void
test_idle_time_gives_a_burst_and_no_more(void)
{
  NcBucket b;

  nc_bucket_init(&b, 100000000, START_US);
  g_assert_cmpuint(nc_bucket_available(&b, START_US), ==, 0);
  g_assert_cmpuint(nc_bucket_available(&b, START_US + 3600ull * SECOND_US), ==,
                   100000000 / 1000000 * NC_BUCKET_BURST_US);
  nc_bucket_init(&b, 1000, START_US);
  g_assert_cmpuint(nc_bucket_available(&b, START_US + 3600ull * SECOND_US), ==, NC_BUCKET_MIN_BURST_BYTES);
}

static void
test_no_limit(void)
{
  NcBucket b;

  nc_bucket_init(&b, 0, START_US);
  g_assert_cmpuint(nc_bucket_available(&b, START_US), ==, G_MAXUINT64);
  nc_bucket_take(&b, G_MAXINT64, START_US);
  g_assert_cmpuint(nc_bucket_available(&b, START_US), ==, G_MAXUINT64);
  g_assert_cmpuint(nc_bucket_ready_us(&b, G_MAXUINT64, START_US), ==, START_US);
  nc_bucket_set_rate(&b, 1000000, START_US + 5); /* what went before costs nothing */
  g_assert_cmpuint(nc_bucket_ready_us(&b, 1000, START_US + 5), ==, START_US + 1005);
}

static void
test_a_debt_is_paid_but_bounded(void)
{
  NcBucket b;

  nc_bucket_init(&b, 1000000, START_US);
  nc_bucket_take(&b, 300000, START_US);
  g_assert_cmpuint(nc_bucket_ready_us(&b, 1, START_US), ==, START_US + 300001);
  nc_bucket_take(&b, -100000, START_US); /* it was less after all */
  g_assert_cmpuint(nc_bucket_ready_us(&b, 1, START_US), ==, START_US + 200001);
  nc_bucket_take(&b, G_MAXINT64, START_US);
  g_assert_cmpuint(nc_bucket_ready_us(&b, 1, START_US), ==, START_US + SECOND_US + 1);
  nc_bucket_take(&b, G_MININT64, START_US);
  g_assert_cmpuint(nc_bucket_available(&b, START_US), ==, burst_of(1000000));
}

static void
test_clock_standing_still_or_behind(void)
{
  NcBucket b;

  nc_bucket_init(&b, 1000000, START_US);
  for (unsigned i = 0; i < 1000; i++)
    g_assert_cmpuint(nc_bucket_available(&b, START_US), ==, 0);
  g_assert_cmpuint(nc_bucket_available(&b, START_US + 1000), ==, 1000);
  g_assert_cmpuint(nc_bucket_available(&b, START_US + 500), ==, 1000);
  g_assert_cmpuint(nc_bucket_ready_us(&b, 2000, START_US), ==, START_US + 2000);
  g_assert_cmpuint(nc_bucket_available(&b, START_US + 2000), ==, 2000);
}

/* Between two changes the rate is the one set, from the moment it was set. */
static void
test_changes_of_rate(void)
{
  NcBucket b;
  uint64_t now_us = START_US;

  nc_bucket_init(&b, 1, now_us);
  for (unsigned i = 0; i < 200; i++) {
    uint64_t rate = (uint64_t)g_test_rand_int_range(2000000, 1000000000), sent = 0;
    nc_bucket_set_rate(&b, rate, now_us);
    uint64_t had = nc_bucket_available(&b, now_us), end_us = now_us + SECOND_US;
    for (; now_us < end_us; now_us = nc_bucket_ready_us(&b, 1000, now_us)) {
      nc_bucket_take(&b, 1000, now_us);
      sent += 1000;
    }
    g_assert_cmpfloat((double)sent, <=, 1.001 * (double)rate + (double)had + 2000);
    g_assert_cmpfloat((double)sent, >=, 0.999 * (double)rate - 2000);
    now_us = end_us;
  }
}

/* Whoever asks never gets more than rate x time + burst, whatever happens in between. */
static void
check_any_pattern(void)
{
  NcBucket b;
  uint64_t rate = (uint64_t)g_test_rand_int_range(1, G_MAXINT32), now_us = START_US;
  double allowed, asked = 0;

  nc_bucket_init(&b, rate, now_us);
  allowed = 0;
  for (unsigned i = 0; i < 3000; i++) {
    uint64_t step_us = (uint64_t)g_test_rand_int_range(0, 3) * (uint64_t)g_test_rand_int_range(0, 20000);
    allowed += (double)step_us * (double)rate / SECOND_US;
    now_us += step_us;
    uint64_t available = nc_bucket_available(&b, now_us);
    g_assert_cmpuint(available, <=, burst_of(rate));
    if (g_test_rand_bit()) {
      asked += (double)available;
      nc_bucket_take(&b, (int64_t)available, now_us);
    } else if (g_test_rand_bit()) {
      nc_bucket_take(&b, g_test_rand_int_range(0, 100000), now_us);
    }
    g_assert_cmpfloat(asked, <=, allowed + (double)burst_of(rate) + 1);
  }
}

static void
test_any_pattern(void)
{
  for (unsigned i = 0; i < 300; i++)
    check_any_pattern();
}

/* The extremes of every argument: no arithmetic that traps (this runs under UBSan). */
static void
test_any_input(void)
{
  NcBucket b;

  nc_bucket_init(&b, G_MAXUINT64, 0);
  g_assert_cmpuint(nc_bucket_rate(&b), ==, NC_BUCKET_MAX_RATE);
  for (unsigned i = 0; i < 100000; i++) {
    uint64_t any = ((uint64_t)g_test_rand_int() << 32 | (uint32_t)g_test_rand_int()) >> g_test_rand_int_range(0, 64);
    switch (g_test_rand_int_range(0, 4)) {
    case 0:
      nc_bucket_set_rate(&b, any, b.now_us + (any >> 40));
      break;
    case 1:
      nc_bucket_take(&b, (int64_t)any, b.now_us);
      break;
    case 2:
      nc_bucket_available(&b, b.now_us + (any >> 30));
      break;
    default:
      g_assert_cmpuint(nc_bucket_ready_us(&b, any, b.now_us), >=, b.now_us);
    }
  }
  nc_bucket_available(&b, G_MAXUINT64);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/bucket/sustained", test_sustained);
  g_test_add_func("/bucket/ready_is_exact", test_ready_is_exact);
  g_test_add_func("/bucket/idle_time_gives_a_burst_and_no_more", test_idle_time_gives_a_burst_and_no_more);
  g_test_add_func("/bucket/no_limit", test_no_limit);
  g_test_add_func("/bucket/a_debt_is_paid_but_bounded", test_a_debt_is_paid_but_bounded);
  g_test_add_func("/bucket/clock_standing_still_or_behind", test_clock_standing_still_or_behind);
  g_test_add_func("/bucket/changes_of_rate", test_changes_of_rate);
  g_test_add_func("/bucket/any_pattern", test_any_pattern);
  g_test_add_func("/bucket/any_input", test_any_input);
  return g_test_run();
}
