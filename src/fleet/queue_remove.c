/* SPDX-License-Identifier: Apache-2.0 */
/* Machines and nodes that go, and what waits for them. */
#include "fleet/queue_internal.h"

bool
nc_queue_remove_machine(NcQueue *q, uint32_t machine, const char *reason, GError **error)
{
  const NcItem *item = nc_queue_item_of(q, machine);
  const NcMachine *m = nc_fleet_machine(q->fleet, machine);
  uint32_t node = m->node;

  if (item && item->state == NC_ITEM_RUNNING)
    return nc_fail(error, NC_ERROR_CONFLICT, "machine \"%s\" is under way: end its migration first", m->name);
  if (item)
    nc_queue_enter(q, g_hash_table_lookup(q->entries, &item->id), NC_ITEM_CANCELLED, reason);
  if (!nc_fleet_remove_machine(q->fleet, machine, error))
    return false;
  nc_queue_free_up(q, node);
  return true;
}

/* Another destination will do. */
static void
nc_queue_forget_destination(NcQueue *q, NcEntry *e)
{
  bool waits = e->place.heap != NULL;

  nc_queue_unwait(q, e);
  nc_fleet_unreserve(q->fleet, e->item.request.machine);
  e->destination = NC_FLEET_NONE;
  if (waits)
    nc_queue_wait_for_source(q, e);
}

static int
nc_queue_compare_ids(const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

/* Ids of those that are to go to ${node} and do not run, in the order in which they were submitted. */
static GArray *
nc_queue_bound_for(NcQueue *q, uint32_t node)
{
  GArray *ids = g_array_new(FALSE, FALSE, sizeof(uint64_t));
  GHashTableIter iter;
  NcEntry *e;

  g_hash_table_iter_init(&iter, q->entries);
  while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&e))
    if (e->destination == node && e->item.state != NC_ITEM_RUNNING)
      g_array_append_val(ids, e->item.id);
  g_array_sort(ids, nc_queue_compare_ids);
  return ids;
}

bool
nc_queue_remove_node(NcQueue *q, uint32_t node, GError **error)
{
  const NcNode *n = nc_fleet_node(q->fleet, node);

  if (n->machine_count > 0 || nc_queue_incoming(q, node) > 0 || nc_queue_outgoing(q, node) > 0)
    return nc_fail(error, NC_ERROR_CONFLICT, "node \"%s\" has machines, or some are on their way to it: evacuate it first", n->name);
  g_autofree char *reason = g_strdup_printf("node \"%s\", its destination, was removed", n->name);
  g_autoptr(GArray) ids = nc_queue_bound_for(q, node);
  for (guint i = 0; i < ids->len; i++) {
    /* The end of one may be that of others of its batch. */
    NcEntry *e = g_hash_table_lookup(q->entries, &g_array_index(ids, uint64_t, i));
    if (e && e->item.request.is_wish)
      nc_queue_forget_destination(q, e);
    else if (e)
      nc_queue_enter(q, e, NC_ITEM_REFUSED, reason);
  }
  return nc_fleet_remove_node(q->fleet, node, error);
}
