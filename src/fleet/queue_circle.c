/* SPDX-License-Identifier: Apache-2.0 */
/* Items that wait for each other's room: a walk from node to node along what wants to leave each of them. */
#include "fleet/disk_room.h"
#include "fleet/queue_internal.h"

typedef enum { NC_CIRCLE_OPENS, NC_CIRCLE_BLOCKED, NC_CIRCLE_NOTHING } NcCircleStep;

/* Does ${node} lack disk for ${machine} only because it has not said yet how much there is? */
static bool
nc_circle_is_disk_unknown(const NcFleet *f, uint32_t machine, uint32_t node)
{
  NcDiskLack lack;
  return !nc_fleet_has_disk_room(f, machine, node, &lack) && lack.is_unknown;
}

/* Will ${e} leave its node by itself, does it wait for room on another one, or neither? */
static NcCircleStep
nc_circle_step(NcQueue *q, const NcEntry *e)
{
  const NcPlacementTerms terms = { .failed = NC_FLEET_NONE };
  uint32_t machine = e->item.request.machine;
  double score;

  if (e->destination == NC_FLEET_NONE || e->item.request.is_wish || nc_fleet_machine(q->fleet, machine)->reserved != NC_FLEET_NONE)
    return NC_CIRCLE_OPENS;
  switch (nc_placement_judge(q->fleet, machine, e->destination, &terms, &score)) {
  case NC_REFUSAL_NONE:
    return NC_CIRCLE_OPENS;
  case NC_REFUSAL_MEMORY:
  case NC_REFUSAL_CPUS:
    return NC_CIRCLE_BLOCKED;
  case NC_REFUSAL_DISK:
    return nc_circle_is_disk_unknown(q->fleet, machine, e->destination) ? NC_CIRCLE_OPENS : NC_CIRCLE_BLOCKED;
  default: /* a node that is away makes no room, nor does it need any */
    return NC_CIRCLE_NOTHING;
  }
}

/* Nodes seen, with the one before it; ${queue}: those not looked at yet. */
typedef struct {
  GHashTable *before;
  GQueue queue;
} NcCircleWalk;

static void
nc_circle_go(NcCircleWalk *walk, uint32_t node, uint32_t before)
{
  if (g_hash_table_contains(walk->before, GUINT_TO_POINTER(node + 1)))
    return;
  g_hash_table_insert(walk->before, GUINT_TO_POINTER(node + 1), GUINT_TO_POINTER(before + 1));
  g_queue_push_tail(&walk->queue, GUINT_TO_POINTER(node));
}

/* False: something will make room somewhere. */
static bool
nc_circle_walk(NcQueue *q, NcCircleWalk *walk)
{
  while (!g_queue_is_empty(&walk->queue)) {
    uint32_t node = GPOINTER_TO_UINT(g_queue_pop_head(&walk->queue));
    if (nc_queue_outgoing(q, node) > 0)
      return false;
    for (const NcEntry *e = nc_queue_station(q, node)->first; e; e = e->next) {
      NcCircleStep step = nc_circle_step(q, e);
      if (step == NC_CIRCLE_OPENS)
        return false;
      if (step == NC_CIRCLE_BLOCKED)
        nc_circle_go(walk, e->destination, node);
    }
  }
  return true;
}

/* From where ${e} is, by its destination, back to where it is. */
static char *
nc_circle_say(NcQueue *q, const NcCircleWalk *walk, const NcEntry *e)
{
  GString *text = g_string_new(nc_fleet_node(q->fleet, e->item.from)->name);
  uint32_t node = e->item.from;

  do {
    node = GPOINTER_TO_UINT(g_hash_table_lookup(walk->before, GUINT_TO_POINTER(node + 1))) - 1;
    g_string_prepend(text, " -> ");
    g_string_prepend(text, nc_fleet_node(q->fleet, node)->name);
  } while (node != e->item.from);
  return g_string_free(text, FALSE);
}

char *
nc_queue_find_circle(NcQueue *q, const NcEntry *e)
{
  NcCircleWalk walk = { .before = g_hash_table_new(NULL, NULL), .queue = G_QUEUE_INIT };
  char *text = NULL;

  nc_circle_go(&walk, e->destination, e->item.from);
  if (nc_circle_walk(q, &walk) && g_hash_table_contains(walk.before, GUINT_TO_POINTER(e->item.from + 1)))
    text = nc_circle_say(q, &walk, e);
  g_queue_clear(&walk.queue);
  g_hash_table_unref(walk.before);
  return text;
}
