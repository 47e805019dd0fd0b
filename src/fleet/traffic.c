/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/traffic.h"

G_STATIC_ASSERT(2 + 2 * NC_FLEET_MOST_UPLINKS <= NC_BUDGET_MOST_USES);

struct NcTraffic {
  const NcFleet *fleet;
  unsigned reserve_percent;
  NcBudget *budget;
  GArray *nodes, *links; /* the first of two resources of each */
};

NcTraffic *
nc_traffic_new(const NcFleet *fleet, unsigned reserve_percent)
{
  NcTraffic *t = g_new0(NcTraffic, 1);

  t->fleet = fleet;
  t->reserve_percent = reserve_percent;
  t->budget = nc_budget_new();
  t->nodes = g_array_new(FALSE, FALSE, sizeof(uint32_t));
  t->links = g_array_new(FALSE, FALSE, sizeof(uint32_t));
  return t;
}

void
nc_traffic_free(NcTraffic *t)
{
  if (!t)
    return;
  nc_budget_free(t->budget);
  g_array_unref(t->nodes);
  g_array_unref(t->links);
  g_free(t);
}

NcBudget *
nc_traffic_budget(const NcTraffic *t)
{
  return t->budget;
}

static void
nc_traffic_add_two(NcTraffic *t, GArray *list, uint64_t rate_bps)
{
  uint64_t usable_bps = nc_bandwidth_usable(rate_bps, t->reserve_percent);
  uint32_t first = nc_budget_add_resource(t->budget, usable_bps);

  nc_budget_add_resource(t->budget, usable_bps);
  g_array_append_val(list, first);
}

uint32_t
nc_traffic_link_resource(NcTraffic *t, uint32_t link, bool is_down)
{
  while (t->links->len <= link)
    nc_traffic_add_two(t, t->links, nc_fleet_link(t->fleet, t->links->len)->rate_bps);
  return g_array_index(t->links, uint32_t, link) + is_down;
}

uint32_t
nc_traffic_node_resource(NcTraffic *t, uint32_t node, bool is_in)
{
  while (t->nodes->len <= node)
    nc_traffic_add_two(t, t->nodes, nc_fleet_node(t->fleet, t->nodes->len)->rate_bps);
  return g_array_index(t->nodes, uint32_t, node) + is_in;
}

NcFlow *
nc_traffic_add(NcTraffic *t, uint32_t from, uint32_t to, NcQos qos, uint64_t limit_bps, int64_t *ret_rtt_us)
{
  uint32_t uses[NC_BUDGET_MOST_USES];
  unsigned count = 0;
  NcWayBetween way;

  nc_fleet_way(t->fleet, from, to, &way);
  uses[count++] = nc_traffic_node_resource(t, from, false);
  for (unsigned i = 0; i < way.up_count; i++)
    uses[count++] = nc_traffic_link_resource(t, way.up[i], false);
  for (unsigned i = 0; i < way.down_count; i++)
    uses[count++] = nc_traffic_link_resource(t, way.down[i], true);
  uses[count++] = nc_traffic_node_resource(t, to, true);
  if (ret_rtt_us)
    *ret_rtt_us = way.rtt_us;
  return nc_budget_add(t->budget, qos, limit_bps, uses, count);
}
