/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bandwidth of a fleet: the resources of a budget (budget.h) that its nodes and links are, and the flows of migrations over them.
 *
 * A migration uses its source's card outwards, links up and down (inventory.h), and its destination's card inwards. Not thread-safe.
 */
#pragma once

#include "fleet/budget.h"
#include "fleet/inventory.h"

typedef struct NcTraffic NcTraffic;

/* ${fleet}: borrowed; may grow. ${reserve_percent} of everything is kept for others than migrations, 0 to 99. */
NcTraffic *nc_traffic_new(const NcFleet *fleet, unsigned reserve_percent);
void nc_traffic_free(NcTraffic *t); /* NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcTraffic, nc_traffic_free)

/* A flow of the budget's; *ret_rtt_us (may be NULL): what its links add to a round trip. nc_budget_remove() ends it. */
NcFlow *nc_traffic_add(NcTraffic *t, uint32_t from, uint32_t to, NcQos qos, uint64_t limit_bps, int64_t *ret_rtt_us);
NcBudget *nc_traffic_budget(const NcTraffic *t);

/* The resources of a link, upwards and downwards, and of a node, outwards and inwards. */
uint32_t nc_traffic_link_resource(NcTraffic *t, uint32_t link, bool is_down);
uint32_t nc_traffic_node_resource(NcTraffic *t, uint32_t node, bool is_in);
