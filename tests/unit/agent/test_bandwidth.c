/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dividing a node's bandwidth. Properties, for any set of migrations: the sum stays within what is usable, nobody
 * exceeds its own limit, nobody starves, nothing is left while somebody could use it, and whoever is not held back by
 * its own limit has as much per weight as anybody.
 */
#include "agent/bandwidth.h"

#define MOST 20

static void
test_nobody_and_no_total(void)
{
  NcBandwidthShare shares[] = { { .qos = NC_QOS_NORMAL }, { .qos = NC_QOS_HIGH, .limit_bps = 77 } };

  nc_bandwidth_divide(100, NULL, 0);
  nc_bandwidth_divide(0, shares, 2);
  g_assert_cmpuint(shares[0].rate_bps, ==, 0);
  g_assert_cmpuint(shares[1].rate_bps, ==, 77);
  g_assert_cmpuint(nc_bandwidth_usable(0, 10), ==, 0);
  g_assert_cmpuint(nc_bandwidth_usable(1000, 10), ==, 900);
  g_assert_cmpuint(nc_bandwidth_usable(1000, 0), ==, 1000);
  g_assert_cmpuint(nc_bandwidth_usable(1000, 100), ==, 1); /* 0 would be: no limit */
  g_assert_cmpuint(nc_bandwidth_usable(G_MAXUINT64, 90), <=, G_MAXUINT64 / 10 + 1);
}

static void
test_by_weight(void)
{
  NcBandwidthShare shares[] = {
    { .qos = NC_QOS_BACKGROUND }, { .qos = NC_QOS_NORMAL }, { .qos = NC_QOS_HIGH }, { .qos = NC_QOS_CRITICAL }
  };

  nc_bandwidth_divide(15000, shares, 4);
  g_assert_cmpuint(shares[0].rate_bps, ==, 1000);
  g_assert_cmpuint(shares[1].rate_bps, ==, 2000);
  g_assert_cmpuint(shares[2].rate_bps, ==, 4000);
  g_assert_cmpuint(shares[3].rate_bps, ==, 8000);
}

/* The critical one takes 1000; what it leaves is divided 1:2 among the others, one of which can't use all of that. */
static void
test_what_one_cannot_use_goes_to_the_others(void)
{
  NcBandwidthShare shares[] = { { .qos = NC_QOS_BACKGROUND },
                                { .qos = NC_QOS_NORMAL, .limit_bps = 5000 },
                                { .qos = NC_QOS_CRITICAL, .limit_bps = 1000 } };

  nc_bandwidth_divide(11000, shares, 3);
  g_assert_cmpuint(shares[2].rate_bps, ==, 1000);
  g_assert_cmpuint(shares[1].rate_bps, ==, 5000);
  g_assert_cmpuint(shares[0].rate_bps, ==, 5000);
}

static uint64_t
any_rate(void)
{
  return ((uint64_t)(uint32_t)g_test_rand_int() << 8) >> g_test_rand_int_range(0, 36);
}

static void
check_shares(uint64_t usable, const NcBandwidthShare *shares, size_t count)
{
  double sum = 0, most_per_weight = 0;
  bool somebody_could_use_more = false;

  for (size_t i = 0; i < count; i++) {
    g_assert_cmpuint(shares[i].rate_bps, >=, 1);
    if (shares[i].limit_bps > 0)
      g_assert_cmpuint(shares[i].rate_bps, <=, shares[i].limit_bps);
    sum += (double)shares[i].rate_bps;
    somebody_could_use_more |= shares[i].limit_bps == 0 || shares[i].rate_bps < shares[i].limit_bps;
    most_per_weight = MAX(most_per_weight, (double)shares[i].rate_bps / nc_qos_weight(shares[i].qos));
  }
  g_assert_cmpfloat(sum, <=, (double)MAX(usable, count));
  if (somebody_could_use_more)
    g_assert_cmpfloat(sum, >=, (double)usable - (double)count); /* rounding */
  for (size_t i = 0; i < count; i++)
    if (shares[i].limit_bps == 0 || shares[i].rate_bps < shares[i].limit_bps)
      g_assert_cmpfloat((double)shares[i].rate_bps / nc_qos_weight(shares[i].qos), >=, most_per_weight - 1);
}

static void
test_any_set(void)
{
  for (unsigned round = 0; round < 20000; round++) {
    NcBandwidthShare shares[MOST] = { 0 };
    size_t count = (size_t)g_test_rand_int_range(1, MOST + 1);
    uint64_t rate = any_rate();
    uint64_t usable = MAX(rate, 15 * MOST * 8); /* enough that rounding is not all there is */
    for (size_t i = 0; i < count; i++) {
      shares[i].qos = (NcQos)g_test_rand_int_range(0, NC_QOS_COUNT);
      shares[i].limit_bps = g_test_rand_bit() ? 0 : any_rate();
    }
    nc_bandwidth_divide(usable, shares, count);
    check_shares(usable, shares, count);
  }
}

static void
test_names(void)
{
  NcQos qos;

  for (int i = 0; i < NC_QOS_COUNT; i++) {
    g_assert_true(nc_qos_from_name(nc_qos_name((NcQos)i), &qos));
    g_assert_cmpint(qos, ==, i);
  }
  g_assert_false(nc_qos_from_name("urgent", &qos));
  g_assert_false(nc_qos_from_name(NULL, &qos));
}

static void
take_rate(uint64_t rate_bps, void *user_data)
{
  *(uint64_t *)user_data = rate_bps;
}

/* Whoever comes, goes or changes, the others hear of it. */
static void
test_claims(void)
{
  g_autoptr(NcConfig) config = nc_config_parse("c", "bandwidth_total = 12000\nbandwidth_reserve = 25\n", NULL);
  NcBandwidth *b = nc_bandwidth_new(config);
  uint64_t first = 1, second = 1;

  NcBandwidthClaim *one = nc_bandwidth_claim(b, NC_QOS_NORMAL, 0, take_rate, &first);
  g_assert_cmpuint(first, ==, 9000);
  NcBandwidthClaim *two = nc_bandwidth_claim(b, NC_QOS_CRITICAL, 0, take_rate, &second);
  g_assert_cmpuint(first, ==, 1800);
  g_assert_cmpuint(second, ==, 7200);
  nc_bandwidth_change(two, NC_QOS_CRITICAL, 1000);
  g_assert_cmpuint(first, ==, 8000);
  config->bandwidth_reserve = 0;
  nc_bandwidth_reload(b);
  g_assert_cmpuint(first, ==, 11000);
  nc_bandwidth_release(one);
  g_assert_cmpuint(second, ==, 1000);
  nc_bandwidth_change(two, NC_QOS_BACKGROUND, 0);
  g_assert_cmpuint(second, ==, 12000);
  g_assert_cmpuint(first, ==, 11000); /* it hears nothing any more */
  nc_bandwidth_release(two);
  nc_bandwidth_free(b);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/bandwidth/nobody_and_no_total", test_nobody_and_no_total);
  g_test_add_func("/bandwidth/by_weight", test_by_weight);
  g_test_add_func("/bandwidth/what_one_cannot_use_goes_to_the_others", test_what_one_cannot_use_goes_to_the_others);
  g_test_add_func("/bandwidth/any_set", test_any_set);
  g_test_add_func("/bandwidth/names", test_names);
  g_test_add_func("/bandwidth/claims", test_claims);
  return g_test_run();
}
