/* SPDX-License-Identifier: Apache-2.0 */
/* Progressive filling with a heap of resources by what they have left per weight. */
#include "fleet/budget.h"
#include "fleet/heap.h"

typedef struct {
  uint64_t total_bps; /* 0: no limit */
  uint64_t used_bps;
  NcFlow *endgame;    /* who has it; NULL */
  uint64_t wanted_in_grant; /* by one who waits, in that many-th nc_budget_grant() */
  GPtrArray *flows;   /* over it; borrowed */
  /* while dividing */
  NcHeapEntry entry;
  uint64_t left_bps, weights;
} NcResource;

struct NcFlow {
  NcBudget *budget;
  NcQos qos;
  uint64_t limit_bps, rate_bps, guaranteed_bps;
  unsigned count;
  uint32_t uses[NC_BUDGET_MOST_USES];
  guint at[NC_BUDGET_MOST_USES]; /* its place in each resource's flows */
  guint at_all;
  bool has_endgame;
  GList waiting; /* its link in the budget's queue; data is the flow while it is in it */
  /* while dividing */
  bool is_settled;
  NcHeapEntry entry; /* by its own limit per weight */
};

struct NcBudget {
  GPtrArray *resources; /* owned */
  GPtrArray *flows;     /* owned */
  GQueue waiting;       /* for endgames, in the order they asked; links are the flows' */
  uint64_t grants;
  bool has_changed;
};

static void
nc_resource_free(gpointer resource)
{
  g_ptr_array_unref(((NcResource *)resource)->flows);
  g_free(resource);
}

NcBudget *
nc_budget_new(void)
{
  NcBudget *b = g_new0(NcBudget, 1);

  b->resources = g_ptr_array_new_with_free_func(nc_resource_free);
  b->flows = g_ptr_array_new_with_free_func(g_free);
  g_queue_init(&b->waiting);
  return b;
}

void
nc_budget_free(NcBudget *b)
{
  if (!b)
    return;
  g_ptr_array_unref(b->flows);
  g_ptr_array_unref(b->resources);
  g_free(b);
}

static NcResource *
nc_budget_resource(const NcBudget *b, uint32_t resource)
{
  return b->resources->pdata[resource];
}

uint32_t
nc_budget_add_resource(NcBudget *b, uint64_t total_bps)
{
  NcResource *r = g_new0(NcResource, 1);

  r->total_bps = total_bps;
  r->flows = g_ptr_array_new();
  g_ptr_array_add(b->resources, r);
  return b->resources->len - 1;
}

uint32_t
nc_budget_resource_count(const NcBudget *b)
{
  return b->resources->len;
}

void
nc_budget_set_total(NcBudget *b, uint32_t resource, uint64_t total_bps)
{
  nc_budget_resource(b, resource)->total_bps = total_bps;
  b->has_changed = true;
}

/* --- flows --- */

NcFlow *
nc_budget_add(NcBudget *b, NcQos qos, uint64_t limit_bps, const uint32_t *resources, unsigned count)
{
  NcFlow *flow = g_new0(NcFlow, 1);

  g_return_val_if_fail(count <= NC_BUDGET_MOST_USES, (g_free(flow), NULL));
  *flow = (NcFlow){ .budget = b, .qos = qos, .limit_bps = limit_bps, .count = count, .at_all = b->flows->len };
  for (unsigned i = 0; i < count; i++) {
    NcResource *r = nc_budget_resource(b, resources[i]);
    flow->uses[i] = resources[i];
    flow->at[i] = r->flows->len;
    g_ptr_array_add(r->flows, flow);
  }
  g_ptr_array_add(b->flows, flow);
  b->has_changed = true;
  return flow;
}

void
nc_budget_change(NcFlow *flow, NcQos qos, uint64_t limit_bps)
{
  if (flow->qos == qos && flow->limit_bps == limit_bps)
    return;
  flow->qos = qos;
  flow->limit_bps = limit_bps;
  flow->budget->has_changed = true;
}

/* Another one takes its place in that resource's list. */
static void
nc_budget_leave(NcFlow *flow, unsigned i)
{
  NcResource *r = nc_budget_resource(flow->budget, flow->uses[i]);

  g_ptr_array_remove_index_fast(r->flows, flow->at[i]);
  if (flow->at[i] == r->flows->len)
    return;
  NcFlow *moved = r->flows->pdata[flow->at[i]];
  for (unsigned k = 0; k < moved->count; k++)
    if (moved->uses[k] == flow->uses[i])
      moved->at[k] = flow->at[i];
}

void
nc_budget_remove(NcFlow *flow)
{
  NcBudget *b = flow->budget;
  guint at = flow->at_all;

  nc_budget_end_endgame(flow);
  for (unsigned i = 0; i < flow->count; i++) {
    nc_budget_leave(flow, i);
    NcResource *r = nc_budget_resource(b, flow->uses[i]);
    r->used_bps -= MIN(r->used_bps, flow->rate_bps);
  }
  g_ptr_array_remove_index_fast(b->flows, at); /* frees it */
  if (at < b->flows->len)
    ((NcFlow *)b->flows->pdata[at])->at_all = at;
  b->has_changed = true;
}

/* --- endgames --- */

static void
nc_budget_take_endgame(NcFlow *flow)
{
  for (unsigned i = 0; i < flow->count; i++)
    nc_budget_resource(flow->budget, flow->uses[i])->endgame = flow;
  flow->has_endgame = true;
  flow->budget->has_changed = true;
}

/*
 * Gives endgames to those who wait and need not any more. Nobody takes what one who asked earlier still waits for, or
 * a flow over many resources would wait for ever.
 */
static void
nc_budget_grant(NcBudget *b)
{
  b->grants++;
  for (GList *link = b->waiting.head, *next; link; link = next) {
    NcFlow *flow = link->data;
    bool may = true;
    next = link->next;
    for (unsigned i = 0; i < flow->count; i++) {
      const NcResource *r = nc_budget_resource(b, flow->uses[i]);
      may = may && !r->endgame && r->wanted_in_grant != b->grants;
    }
    if (may) {
      g_queue_unlink(&b->waiting, link);
      flow->waiting.data = NULL;
      nc_budget_take_endgame(flow);
    } else {
      for (unsigned i = 0; i < flow->count; i++)
        nc_budget_resource(b, flow->uses[i])->wanted_in_grant = b->grants;
    }
  }
}

bool
nc_budget_ask_endgame(NcFlow *flow)
{
  if (!flow->has_endgame && !flow->waiting.data) {
    flow->waiting = (GList){ .data = flow };
    g_queue_push_tail_link(&flow->budget->waiting, &flow->waiting);
    nc_budget_grant(flow->budget);
  }
  return flow->has_endgame;
}

bool
nc_budget_has_endgame(const NcFlow *flow)
{
  return flow->has_endgame;
}

void
nc_budget_end_endgame(NcFlow *flow)
{
  NcBudget *b = flow->budget;

  if (!flow->has_endgame && !flow->waiting.data)
    return;
  if (flow->waiting.data) {
    g_queue_unlink(&b->waiting, &flow->waiting);
    flow->waiting.data = NULL;
  } else {
    flow->has_endgame = false;
    flow->guaranteed_bps = 0;
    for (unsigned i = 0; i < flow->count; i++)
      nc_budget_resource(b, flow->uses[i])->endgame = NULL;
    b->has_changed = true;
  }
  nc_budget_grant(b);
}

/* --- dividing --- */

/* A key that orders by what is left per weight; enough of the fraction for rates of a few bytes. */
static int64_t
nc_budget_level(uint64_t left_bps, uint64_t weights)
{
  return (int64_t)(MIN(left_bps, (uint64_t)INT64_MAX >> 10) * 256 / weights);
}

/* Before anything is divided: an endgame's own part. Nobody else has one on the same resources. */
static void
nc_budget_guarantee(NcBudget *b, NcFlow *flow)
{
  uint64_t least = NC_BUDGET_UNLIMITED;

  for (unsigned i = 0; i < flow->count; i++) {
    uint64_t total = nc_budget_resource(b, flow->uses[i])->total_bps;
    least = total > 0 ? MIN(least, total) : least;
  }
  least = least == NC_BUDGET_UNLIMITED ? 0 : least / 100 * NC_BUDGET_ENDGAME_PERCENT + least % 100 * NC_BUDGET_ENDGAME_PERCENT / 100;
  flow->guaranteed_bps = flow->limit_bps > 0 ? MIN(least, flow->limit_bps) : least;
  for (unsigned i = 0; i < flow->count; i++) {
    NcResource *r = nc_budget_resource(b, flow->uses[i]);
    r->left_bps -= r->total_bps > 0 ? flow->guaranteed_bps : 0;
  }
}

/* Ready to divide: who uses which, and what is left. */
static void
nc_budget_begin(NcBudget *b, NcHeap *resources)
{
  for (guint i = 0; i < b->flows->len; i++) {
    NcFlow *flow = b->flows->pdata[i];
    flow->is_settled = false;
    flow->rate_bps = NC_BUDGET_UNLIMITED;
    for (unsigned k = 0; k < flow->count; k++) {
      NcResource *r = nc_budget_resource(b, flow->uses[k]);
      r->left_bps = r->total_bps;
      r->weights = r->used_bps = 0;
    }
  }
  for (guint i = 0; i < b->flows->len; i++) {
    NcFlow *flow = b->flows->pdata[i];
    if (flow->has_endgame)
      nc_budget_guarantee(b, flow);
    for (unsigned k = 0; k < flow->count; k++)
      nc_budget_resource(b, flow->uses[k])->weights += nc_qos_weight(flow->qos);
  }
  for (guint i = 0; i < b->flows->len; i++) {
    NcFlow *flow = b->flows->pdata[i];
    for (unsigned k = 0; k < flow->count; k++) {
      NcResource *r = nc_budget_resource(b, flow->uses[k]);
      if (r->total_bps > 0)
        nc_heap_set(resources, &r->entry, nc_budget_level(r->left_bps, r->weights), flow->uses[k]);
    }
  }
}

/* It gets ${bps} besides what is guaranteed, or less if a resource has not as much. */
static void
nc_budget_settle(NcBudget *b, NcHeap *resources, NcFlow *flow, uint64_t bps)
{
  for (unsigned i = 0; i < flow->count; i++) {
    const NcResource *r = nc_budget_resource(b, flow->uses[i]);
    bps = r->total_bps > 0 ? MIN(bps, r->left_bps) : bps;
  }
  if (flow->limit_bps > 0) /* rounding leaves a byte or two to the last */
    bps = MIN(bps, flow->limit_bps - flow->guaranteed_bps);
  flow->rate_bps = flow->guaranteed_bps + bps;
  flow->is_settled = true;
  nc_heap_remove(&flow->entry);
  for (unsigned i = 0; i < flow->count; i++) {
    NcResource *r = nc_budget_resource(b, flow->uses[i]);
    r->weights -= nc_qos_weight(flow->qos);
    r->used_bps += flow->rate_bps;
    if (r->total_bps == 0)
      continue;
    r->left_bps -= bps;
    if (r->weights > 0)
      nc_heap_set(resources, &r->entry, nc_budget_level(r->left_bps, r->weights), flow->uses[i]);
    else
      nc_heap_remove(&r->entry);
  }
}

/* All of its flows that are not settled yet have their part of what is left of it. */
static void
nc_budget_fill(NcBudget *b, NcHeap *resources, NcResource *r)
{
  for (guint i = 0; i < r->flows->len && r->weights > 0; i++) {
    NcFlow *flow = r->flows->pdata[i];
    unsigned weight = nc_qos_weight(flow->qos);
    if (!flow->is_settled)
      nc_budget_settle(b, resources, flow, r->left_bps / r->weights * weight + r->left_bps % r->weights * weight / r->weights);
  }
}

void
nc_budget_divide(NcBudget *b)
{
  NcHeap resources = { 0 }, limits = { 0 };

  if (!b->has_changed)
    return;
  nc_budget_begin(b, &resources);
  for (guint i = 0; i < b->flows->len; i++) {
    NcFlow *flow = b->flows->pdata[i];
    if (flow->limit_bps > 0)
      nc_heap_push(&limits, &flow->entry, nc_budget_level(flow->limit_bps - flow->guaranteed_bps, nc_qos_weight(flow->qos)), i);
  }
  while (resources.count > 0 || limits.count > 0) {
    const NcHeapEntry *limit = nc_heap_top(&limits);
    NcResource *r = NC_HEAP_OWNER(nc_heap_top(&resources), NcResource, entry);
    NcFlow *flow = NC_HEAP_OWNER((NcHeapEntry *)limit, NcFlow, entry);
    if (limit && (!r || limit->key <= r->entry.key))
      nc_budget_settle(b, &resources, flow, flow->limit_bps - flow->guaranteed_bps);
    else
      nc_budget_fill(b, &resources, r);
  }
  nc_heap_clear(&resources);
  nc_heap_clear(&limits);
  b->has_changed = false;
}

uint64_t
nc_flow_rate_bps(const NcFlow *flow)
{
  return flow->rate_bps;
}

uint64_t
nc_flow_guaranteed_bps(const NcFlow *flow)
{
  return flow->guaranteed_bps;
}

uint64_t
nc_budget_used_bps(const NcBudget *b, uint32_t resource)
{
  return nc_budget_resource(b, resource)->used_bps;
}

unsigned
nc_budget_flow_count(const NcBudget *b, uint32_t resource)
{
  return nc_budget_resource(b, resource)->flows->len;
}
