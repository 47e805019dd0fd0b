/* SPDX-License-Identifier: Apache-2.0 */
/* Items that an earlier queue had, taken up as they were. */
#include "fleet/queue_internal.h"

static bool
nc_queue_may_restore(const NcQueue *q, const NcRequest *request, const NcItemBefore *before, GError **error)
{
  const NcMachine *m = nc_fleet_machine(q->fleet, request->machine);

  if (nc_queue_item_of(q, request->machine))
    return nc_fail(error, NC_ERROR_CONFLICT, "machine \"%s\" has a migration already", m->name);
  if (before->state == NC_ITEM_RUNNING && m->reserved == NC_FLEET_NONE && before->to != NC_FLEET_NONE &&
      nc_fleet_reserve_again(q->fleet, request->machine, before->to))
    return true;
  if (before->state == NC_ITEM_RUNNING)
    return nc_fail(error, NC_ERROR_RESOURCE,
                   "the destination of machine \"%s\", which is under way, has no room for it", m->name);
  return request->destination != m->node || nc_fail(error, NC_ERROR_INVALID, "machine \"%s\" is on node \"%s\" already",
                                                    m->name, nc_fleet_node(q->fleet, m->node)->name);
}

static void
nc_queue_restore_running(NcQueue *q, NcEntry *e, uint32_t to)
{
  nc_queue_station(q, to); /* there are as many counters as nodes */
  e->item.state = NC_ITEM_RUNNING;
  e->item.to = to;
  q->running++;
  g_array_index(q->outgoing, unsigned, e->item.from)++;
  g_array_index(q->incoming, unsigned, to)++;
}

static void
nc_queue_restore_waiting(NcQueue *q, NcEntry *e, const NcItemBefore *before)
{
  e->failed = before->to;
  if (before->to != NC_FLEET_NONE && e->item.request.is_wish)
    e->destination = NC_FLEET_NONE;
  if (e->item.request.reserve && e->destination != NC_FLEET_NONE)
    nc_fleet_reserve(q->fleet, e->item.request.machine, e->destination);
  nc_queue_link(q, e);
  if (before->state != NC_ITEM_BACKOFF) {
    nc_queue_wait_for_source(q, e);
    return;
  }
  e->item.state = NC_ITEM_BACKOFF;
  e->item.not_before_us = before->not_before_us;
  nc_heap_set(&q->timers, &e->timer, before->not_before_us, e->item.id);
}

uint64_t
nc_queue_restore(NcQueue *q, const NcRequest *request, const NcItemBefore *before, GError **error)
{
  if (!nc_queue_may_restore(q, request, before, error))
    return 0;
  NcEntry *e = nc_queue_enter_new(q, request, before->submitted_us);
  e->item.started_us = before->started_us;
  e->item.attempts = before->attempts;
  if (before->state == NC_ITEM_RUNNING)
    nc_queue_restore_running(q, e, before->to);
  else
    nc_queue_restore_waiting(q, e, before);
  return e->item.id;
}
