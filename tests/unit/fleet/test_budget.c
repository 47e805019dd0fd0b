/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dividing a fleet's bandwidth. For any resources and flows: no sum exceeds its total, nobody exceeds its limit, nobody is left with nothing,
 * who could have more is held back by a full resource on which nobody has more per weight, and endgames are alone.
 */
#include "fleet/budget.h"

#define MOST_RESOURCES 12u
#define MOST_FLOWS 30u

typedef struct {
  NcFlow *flow;
  NcQos qos;
  uint64_t limit_bps;
  unsigned count;
  uint32_t uses[MOST_RESOURCES];
} Known;

typedef struct {
  NcBudget *budget;
  unsigned resources;
  uint64_t totals[MOST_RESOURCES];
  Known flows[MOST_FLOWS];
  unsigned count;
} Bed;

static void
add_any(Bed *bed)
{
  Known *k = &bed->flows[bed->count++];

  *k = (Known){ .qos = (NcQos)g_test_rand_int_range(0, NC_QOS_COUNT),
                .limit_bps = g_test_rand_bit() ? 0 : (uint64_t)g_test_rand_int_range(1000, 2000000) };
  for (uint32_t i = 0; i < bed->resources; i++)
    if (g_test_rand_int_range(0, (gint32)bed->resources) < 3)
      k->uses[k->count++] = i;
  k->flow = nc_budget_add(bed->budget, k->qos, k->limit_bps, k->uses, k->count);
}

static bool
share(const Known *a, const Known *b)
{
  for (unsigned i = 0; i < a->count; i++)
    for (unsigned k = 0; k < b->count; k++)
      if (a->uses[i] == b->uses[k])
        return true;
  return false;
}

/* Is there a full resource on its way where no flow has much more per weight (endgames aside)? */
static bool
is_held_back(const Bed *bed, const Known *k, const double *sums)
{
  double mine = (double)nc_flow_rate_bps(k->flow) / nc_qos_weight(k->qos);

  for (unsigned i = 0; i < k->count; i++) {
    uint32_t r = k->uses[i];
    bool most = true;
    if (bed->totals[r] == 0 || sums[r] < (double)bed->totals[r] - MOST_FLOWS)
      continue;
    for (unsigned n = 0; n < bed->count; n++)
      for (unsigned u = 0; u < bed->flows[n].count; u++)
        if (bed->flows[n].uses[u] == r && nc_flow_guaranteed_bps(bed->flows[n].flow) == 0)
          most &= (double)nc_flow_rate_bps(bed->flows[n].flow) / nc_qos_weight(bed->flows[n].qos) <= mine + 2 * MOST_FLOWS;
    if (most)
      return true;
  }
  return false;
}

static void
check(const Bed *bed)
{
  double sums[MOST_RESOURCES] = { 0 };

  for (unsigned i = 0; i < bed->count; i++)
    for (unsigned u = 0; u < bed->flows[i].count; u++)
      sums[bed->flows[i].uses[u]] += (double)nc_flow_rate_bps(bed->flows[i].flow);
  for (unsigned r = 0; r < bed->resources; r++)
    if (bed->totals[r] > 0) {
      g_assert_cmpfloat(sums[r], <=, (double)bed->totals[r]);
      g_assert_cmpfloat((double)nc_budget_used_bps(bed->budget, r), ==, sums[r]);
    }
  for (unsigned i = 0; i < bed->count; i++) {
    const Known *k = &bed->flows[i];
    uint64_t rate_bps = nc_flow_rate_bps(k->flow);
    bool is_bound = false;
    for (unsigned u = 0; u < k->count; u++)
      is_bound |= bed->totals[k->uses[u]] > 0;
    g_assert_cmpuint(rate_bps, >, 0);
    if (k->limit_bps > 0)
      g_assert_cmpuint(rate_bps, <=, k->limit_bps);
    if (rate_bps == NC_BUDGET_UNLIMITED)
      g_assert_true(!is_bound && k->limit_bps == 0);
    else if (k->limit_bps == 0 || rate_bps < k->limit_bps)
      g_assert_true(is_held_back(bed, k, sums));
    for (unsigned n = 0; n < i; n++)
      g_assert_false(nc_budget_has_endgame(k->flow) && nc_budget_has_endgame(bed->flows[n].flow) && share(k, &bed->flows[n]));
  }
}

static void
change_any(Bed *bed)
{
  unsigned i = bed->count > 0 ? (unsigned)g_test_rand_int_range(0, (gint32)bed->count) : 0;
  Known *k = &bed->flows[i];

  switch (g_test_rand_int_range(0, 6)) {
  case 0:
  case 1:
    if (bed->count < MOST_FLOWS)
      add_any(bed);
    break;
  case 2:
    if (bed->count > 0) {
      nc_budget_remove(k->flow);
      *k = bed->flows[--bed->count];
    }
    break;
  case 3:
    if (bed->count > 0)
      nc_budget_ask_endgame(k->flow);
    break;
  case 4:
    if (bed->count > 0)
      nc_budget_end_endgame(k->flow);
    break;
  default:
    i = (unsigned)g_test_rand_int_range(0, (gint32)bed->resources);
    bed->totals[i] = g_test_rand_int_range(0, 5) == 0 ? 0 : (uint64_t)g_test_rand_int_range(100000, 10000000);
    nc_budget_set_total(bed->budget, i, bed->totals[i]);
    break;
  }
}

static void
test_any(void)
{
  for (unsigned round = 0; round < 60; round++) {
    Bed bed = { .budget = nc_budget_new(), .resources = (unsigned)g_test_rand_int_range(1, MOST_RESOURCES + 1) };
    for (unsigned i = 0; i < bed.resources; i++) {
      bed.totals[i] = (uint64_t)g_test_rand_int_range(100000, 10000000);
      g_assert_cmpuint(nc_budget_add_resource(bed.budget, bed.totals[i]), ==, i);
    }
    for (unsigned step = 0; step < 200; step++) {
      change_any(&bed);
      nc_budget_divide(bed.budget);
      check(&bed);
    }
    nc_budget_free(bed.budget);
  }
}

/* Over one resource it is what a node does (bandwidth_share.h), but for the rounding. */
static void
test_one_resource_is_a_node(void)
{
  for (unsigned round = 0; round < 500; round++) {
    NcBandwidthShare shares[MOST_FLOWS] = { 0 };
    NcFlow *flows[MOST_FLOWS];
    const uint32_t uses[] = { 0 };
    unsigned count = (unsigned)g_test_rand_int_range(1, MOST_FLOWS + 1);
    uint64_t total = (uint64_t)g_test_rand_int_range(100000, 10000000);
    g_autoptr(NcBudget) b = nc_budget_new();
    nc_budget_add_resource(b, total);
    for (unsigned i = 0; i < count; i++) {
      shares[i].qos = (NcQos)g_test_rand_int_range(0, NC_QOS_COUNT);
      shares[i].limit_bps = g_test_rand_bit() ? 0 : (uint64_t)g_test_rand_int_range(1, 1000000);
      flows[i] = nc_budget_add(b, shares[i].qos, shares[i].limit_bps, uses, 1);
    }
    nc_bandwidth_divide(total, shares, count);
    nc_budget_divide(b);
    for (unsigned i = 0; i < count; i++)
      g_assert_cmpfloat_with_epsilon((double)nc_flow_rate_bps(flows[i]), (double)shares[i].rate_bps, 8 * MOST_FLOWS);
  }
}

/* What one can't use, because another link on its way is narrow, the others have. */
static void
test_what_is_narrow_elsewhere_is_given_on(void)
{
  g_autoptr(NcBudget) b = nc_budget_new();
  uint32_t wide = nc_budget_add_resource(b, 1000000), narrow = nc_budget_add_resource(b, 100000);
  const uint32_t both[] = { wide, narrow };
  NcFlow *one = nc_budget_add(b, NC_QOS_CRITICAL, 0, both, 2), *two = nc_budget_add(b, NC_QOS_NORMAL, 0, &wide, 1);

  nc_budget_divide(b);
  g_assert_cmpuint(nc_flow_rate_bps(one), ==, 100000);
  g_assert_cmpuint(nc_flow_rate_bps(two), ==, 900000);
  nc_budget_remove(one);
  nc_budget_divide(b);
  g_assert_cmpuint(nc_flow_rate_bps(two), ==, 1000000); /* given back */
  g_assert_cmpuint(nc_budget_used_bps(b, narrow), ==, 0);
}

/* Three quarters are the endgame's, whoever comes; the next one waits for it, and one that shares nothing does not. */
static void
test_endgames_take_turns(void)
{
  g_autoptr(NcBudget) b = nc_budget_new();
  uint32_t link = nc_budget_add_resource(b, 1000000), other = nc_budget_add_resource(b, 1000000);
  NcFlow *one = nc_budget_add(b, NC_QOS_BACKGROUND, 0, &link, 1), *two = nc_budget_add(b, NC_QOS_CRITICAL, 0, &link, 1);
  NcFlow *three = nc_budget_add(b, NC_QOS_NORMAL, 0, &other, 1);

  g_assert_true(nc_budget_ask_endgame(one));
  g_assert_false(nc_budget_ask_endgame(two));
  g_assert_true(nc_budget_ask_endgame(three));
  for (unsigned i = 0; i < 20; i++) {
    nc_budget_divide(b);
    g_assert_cmpuint(nc_flow_rate_bps(one), >=, 750000);
    g_assert_cmpuint(nc_flow_rate_bps(one) + nc_flow_rate_bps(two), <=, 1000000);
    nc_budget_add(b, NC_QOS_CRITICAL, 0, &link, 1);
  }
  nc_budget_remove(one);
  g_assert_true(nc_budget_has_endgame(two));
  nc_budget_divide(b);
  g_assert_cmpuint(nc_flow_rate_bps(two), >=, 750000);
}

/* One over two links is not passed over for ever by those that need only one of them. */
static void
test_a_long_way_is_not_starved(void)
{
  g_autoptr(NcBudget) b = nc_budget_new();
  uint32_t x = nc_budget_add_resource(b, 1000000), y = nc_budget_add_resource(b, 1000000);
  const uint32_t both[] = { x, y };
  NcFlow *on_x = nc_budget_add(b, NC_QOS_NORMAL, 0, &x, 1), *on_y = nc_budget_add(b, NC_QOS_NORMAL, 0, &y, 1);
  NcFlow *far = nc_budget_add(b, NC_QOS_NORMAL, 0, both, 2), *late = nc_budget_add(b, NC_QOS_NORMAL, 0, &y, 1);

  g_assert_true(nc_budget_ask_endgame(on_x));
  g_assert_false(nc_budget_ask_endgame(far));
  g_assert_false(nc_budget_ask_endgame(on_y)); /* y is free, but promised */
  g_assert_false(nc_budget_ask_endgame(late));
  nc_budget_end_endgame(on_x);
  g_assert_true(nc_budget_has_endgame(far));
  nc_budget_end_endgame(far);
  g_assert_true(nc_budget_has_endgame(on_y));
  g_assert_false(nc_budget_has_endgame(late));
  nc_budget_remove(on_y);
  g_assert_true(nc_budget_has_endgame(late));
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/budget/any", test_any);
  g_test_add_func("/budget/one_resource_is_a_node", test_one_resource_is_a_node);
  g_test_add_func("/budget/what_is_narrow_elsewhere_is_given_on", test_what_is_narrow_elsewhere_is_given_on);
  g_test_add_func("/budget/endgames_take_turns", test_endgames_take_turns);
  g_test_add_func("/budget/a_long_way_is_not_starved", test_a_long_way_is_not_starved);
  return g_test_run();
}
