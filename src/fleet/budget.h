/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may send how fast: the bandwidth of a whole fleet, divided among its migrations.
 *
 * There are resources (a node's card outwards, a node's card inwards, a link up, a link down), each with a total, and flows, each of which uses
 * some of them. Rates are weighted max-min fair, as on one node (bandwidth_share.h, with the same classes and weights), over all
 * resources: all rates grow together by weight until a resource is full; those that use it stay as they are, the others grow on. A flow's own limit
 * is a resource which it has to itself. The rates over a resource are never more together than its total.
 *
 * Endgames. In its last round a migration's guest stands still, for as long as its bytes take. So that two last rounds on one resource do not make
 * each other longer, a flow asks for its endgame, and has it alone: on everything it uses, three quarters of what the narrowest has are its own
 * before anything is divided, whoever comes or goes meanwhile, and it takes part in the division of the rest. Those who ask while
 * another one has it wait in the order in which they asked, but never for one with which they share nothing.
 *
 * Time does not matter here; nothing is forgotten but by nc_budget_remove(), which gives all back. Not thread-safe.
 */
#pragma once

#include "fleet/bandwidth_share.h"

#include <glib.h>

#define NC_BUDGET_UNLIMITED UINT64_MAX
#define NC_BUDGET_MOST_USES 16u
#define NC_BUDGET_ENDGAME_PERCENT 75u

typedef struct NcBudget NcBudget;

typedef struct NcFlow NcFlow;

NcBudget *nc_budget_new(void);
/* Ends all flows. NULL is fine. */
void nc_budget_free(NcBudget *b);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcBudget, nc_budget_free)

/* ${total_bps}: bytes per second for migrations; 0: no limit. Resources have dense numbers, from 0. */
uint32_t nc_budget_add_resource(NcBudget *b, uint64_t total_bps);
uint32_t nc_budget_resource_count(const NcBudget *b);
/* Rates are right after the next nc_budget_divide(). */
void nc_budget_set_total(NcBudget *b, uint32_t resource, uint64_t total_bps);

/* A flow over ${count} (at most NC_BUDGET_MOST_USES) ${resources}, each named once. ${limit_bps}: its own, 0: none. The budget owns it. */
NcFlow *nc_budget_add(NcBudget *b, NcQos qos, uint64_t limit_bps, const uint32_t *resources, unsigned count);
void nc_budget_change(NcFlow *flow, NcQos qos, uint64_t limit_bps);
/* Gives back all that it has; those who waited for its endgame may have theirs then. ${flow} is freed. */
void nc_budget_remove(NcFlow *flow);

/* Asks for the endgame; true: it has it from now on, and its rate is more after nc_budget_divide(). Asking again is fine. */
bool nc_budget_ask_endgame(NcFlow *flow);
/* Has it the endgame? A flow that waits may get it by another's nc_budget_remove() or nc_budget_end_endgame(). */
bool nc_budget_has_endgame(const NcFlow *flow);
/* Gives it back, or stops to wait. */
void nc_budget_end_endgame(NcFlow *flow);

/* Divides anew, if anything has changed since. */
void nc_budget_divide(NcBudget *b);
/* By the last division; NC_BUDGET_UNLIMITED: nothing limits it. 0 until the first one, and where there is less than a byte for it. */
uint64_t nc_flow_rate_bps(const NcFlow *flow);
/* What of it is its own in the endgame, whatever others do; 0: it is not in it. */
uint64_t nc_flow_guaranteed_bps(const NcFlow *flow);

/* The sum over ${resource} by the last division, and how many flows that are. */
uint64_t nc_budget_used_bps(const NcBudget *b, uint32_t resource);
unsigned nc_budget_flow_count(const NcBudget *b, uint32_t resource);
