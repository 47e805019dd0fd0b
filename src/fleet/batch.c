/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/batch.h"
#include "fleet/placement.h"

bool
nc_batch_policy_from_name(const char *name, NcBatchPolicy *ret)
{
  static const char *const names[] = { "all", "any" };
  G_STATIC_ASSERT(G_N_ELEMENTS(names) == NC_BATCH_POLICY_COUNT);

  for (int i = 0; name && i < NC_BATCH_POLICY_COUNT; i++) {
    if (g_str_equal(names[i], name)) {
      *ret = (NcBatchPolicy)i;
      return true;
    }
  }
  return false;
}

static void
nc_batch_submit_one(NcQueue *q, const NcRequest *request, int64_t now_us, NcBatchResult *result)
{
  g_autoptr(GError) error = NULL;

  result->id = nc_queue_submit(q, request, now_us, &error);
  if (result->id == 0)
    result->reason = g_strdup(error->message);
}

/* Reserves room for ${request}, and names in it where; false with a reason. */
static bool
nc_batch_reserve(NcQueue *q, NcRequest *request, char **ret_reason)
{
  NcFleet *f = nc_queue_fleet(q);
  const NcPlacementTerms terms = { .failed = NC_FLEET_NONE };
  g_autoptr(GError) error = NULL;
  bool is_free = request->destination == NC_FLEET_NONE;

  if (!nc_queue_may_submit(q, request, &error)) {
    *ret_reason = g_strdup(error->message);
    return false;
  }
  if (is_free && nc_fleet_machine(f, request->machine)->reserved == NC_FLEET_NONE)
    request->destination = nc_placement_choose(f, request->machine, &terms);
  if (request->destination == NC_FLEET_NONE)
    *ret_reason = nc_fleet_machine(f, request->machine)->reserved != NC_FLEET_NONE
                      ? g_strdup("the batch names this machine twice")
                      : nc_placement_complaint(f, request->machine, &terms);
  else if (!nc_fleet_reserve(f, request->machine, request->destination))
    *ret_reason = g_strdup_printf("node \"%s\" has no room for it besides the others of the batch, or the batch names this machine twice",
                                  nc_fleet_node(f, request->destination)->name);
  request->is_wish |= is_free;
  request->reserve = request->is_bound = true;
  return !*ret_reason;
}

static int
nc_batch_larger_first(const void *a, const void *b, void *user_data)
{
  const NcRequest *x = *(const NcRequest *const *)a, *y = *(const NcRequest *const *)b;
  uint64_t x_bytes = nc_fleet_machine(user_data, x->machine)->need.memory_bytes;
  uint64_t y_bytes = nc_fleet_machine(user_data, y->machine)->need.memory_bytes;

  return x_bytes != y_bytes ? (x_bytes > y_bytes ? -1 : 1) : x < y ? -1 : x > y;
}

/* Named destinations first, then the largest machines: so more fits. True: there is room for all. Nothing stays reserved. */
static bool
nc_batch_try(NcQueue *q, NcRequest *requests, size_t count, NcBatchResult *results)
{
  NcFleet *f = nc_queue_fleet(q);
  g_autofree NcRequest **order = g_new(NcRequest *, MAX(count, 1));
  g_autofree bool *has_room = g_new0(bool, MAX(count, 1));
  size_t n = 0, fitting = 0;

  for (size_t i = 0; i < count; i++)
    if (requests[i].destination != NC_FLEET_NONE)
      order[n++] = &requests[i];
  g_qsort_with_data(order, (gint)n, sizeof order[0], nc_batch_larger_first, f);
  size_t named = n;
  for (size_t i = 0; i < count; i++)
    if (requests[i].destination == NC_FLEET_NONE)
      order[n++] = &requests[i];
  g_qsort_with_data(order + named, (gint)(n - named), sizeof order[0], nc_batch_larger_first, f);
  for (size_t i = 0; i < n; i++) {
    size_t at = (size_t)(order[i] - requests);
    has_room[at] = nc_batch_reserve(q, order[i], &results[at].reason);
    fitting += has_room[at];
  }
  for (size_t i = 0; i < count; i++)
    if (has_room[i])
      nc_fleet_unreserve(f, requests[i].machine);
  return fitting == count;
}

size_t
nc_batch_submit(NcQueue *q, NcBatchPolicy policy, uint64_t group, const NcRequest *requests, size_t count, int64_t now_us,
                NcBatchResult *results)
{
  g_autofree NcRequest *copies = g_memdup2(requests, count * sizeof requests[0]);
  size_t submitted = 0;

  for (size_t i = 0; i < count; i++) {
    results[i] = (NcBatchResult){ 0 };
    copies[i].group = group;
  }
  if (policy == NC_BATCH_ALL && !nc_batch_try(q, copies, count, results))
    return 0;
  for (size_t i = 0; i < count; i++) {
    nc_batch_submit_one(q, &copies[i], now_us, &results[i]);
    submitted += results[i].id > 0;
  }
  return submitted;
}
