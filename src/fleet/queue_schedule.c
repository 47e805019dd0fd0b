/* SPDX-License-Identifier: Apache-2.0 */
/* Who is next, and may it begin? */
#include "fleet/queue_internal.h"

NcPlacementTerms
nc_queue_terms(NcQueue *q, const NcEntry *e)
{
  if (nc_fleet_node_count(q->fleet) > 0)
    nc_queue_station(q, 0); /* there are as many counters as nodes */
  return (NcPlacementTerms){ .incoming = (const unsigned *)(void *)q->incoming->data,
                             .in_limit = q->limits.node_in,
                             .failed = e ? e->failed : NC_FLEET_NONE };
}

json_t *
nc_queue_explain(NcQueue *q, uint32_t machine)
{
  NcPlacementTerms terms = nc_queue_terms(q, (const NcEntry *)nc_queue_item_of(q, machine));
  return nc_placement_explain(q->fleet, machine, &terms);
}

/* --- waiting --- */

static void
nc_queue_wait(NcQueue *q, NcEntry *e, NcHeap *heap)
{
  nc_heap_set(heap, &e->place, e->rank, e->item.id);
  if (e->destination != NC_FLEET_NONE)
    nc_queue_refresh(q, e->destination);
}

/* For room, and not for ever. */
static bool
nc_queue_wait_for_room(NcQueue *q, NcEntry *e, NcHeap *heap, int64_t now_us)
{
  nc_queue_wait(q, e, heap);
  if (!e->timer.heap)
    nc_heap_push(&q->timers, &e->timer, now_us + q->limits.give_up_us, e->item.id);
  return false;
}

/* --- deciding --- */

static bool
nc_queue_start(NcQueue *q, NcEntry *e, uint32_t node, int64_t now_us)
{
  if (nc_fleet_machine(q->fleet, e->item.request.machine)->reserved == NC_FLEET_NONE)
    nc_fleet_reserve(q->fleet, e->item.request.machine, node);
  nc_heap_remove(&e->timer);
  e->item.to = node;
  e->item.attempts++;
  if (e->item.started_us < 0)
    e->item.started_us = now_us;
  q->running++;
  g_array_index(q->outgoing, unsigned, e->item.from)++;
  g_array_index(q->incoming, unsigned, node)++;
  nc_queue_refresh(q, e->item.from);
  nc_queue_refresh(q, node);
  nc_queue_enter(q, e, NC_ITEM_RUNNING, NULL);
  return true;
}

static bool
nc_queue_start_anywhere(NcQueue *q, NcEntry *e, const NcPlacementTerms *terms, int64_t now_us)
{
  uint32_t node = nc_placement_choose(q->fleet, e->item.request.machine, terms);

  return node != NC_FLEET_NONE ? nc_queue_start(q, e, node, now_us) : nc_queue_wait_for_room(q, e, &q->nowhere, now_us);
}

/* There is no room at its destination. */
static bool
nc_queue_find_no_room(NcQueue *q, NcEntry *e, int64_t now_us)
{
  g_autofree char *circle = nc_queue_find_circle(q, e);

  if (!circle)
    return nc_queue_wait_for_room(q, e, &nc_queue_station(q, e->destination)->room, now_us);
  g_autofree char *reason =
      g_strdup_printf("each of these nodes waits for room on the next: %s; move a machine of theirs elsewhere first", circle);
  nc_queue_enter(q, e, NC_ITEM_REFUSED, reason);
  return false;
}

/* ${e} is in no heap, its source may send. True: it was started. Else it waits, or is no more. */
static bool
nc_queue_examine(NcQueue *q, NcEntry *e, int64_t now_us)
{
  const NcPlacementTerms terms = nc_queue_terms(q, e);
  uint32_t machine = e->item.request.machine, node = e->destination;
  bool has_room = nc_fleet_machine(q->fleet, machine)->reserved != NC_FLEET_NONE;
  double score;

  if (node == NC_FLEET_NONE)
    return nc_queue_start_anywhere(q, e, &terms, now_us);
  if (nc_queue_incoming(q, node) >= nc_queue_in_limit(q, node)) {
    nc_queue_wait(q, e, &nc_queue_station(q, node)->in);
    return false;
  }
  /* What has a reservation may go also to a node that was cordoned since. */
  NcRefusal refusal = has_room ? (nc_fleet_node(q->fleet, node)->is_down ? NC_REFUSAL_DOWN : NC_REFUSAL_NONE)
                               : nc_placement_judge(q->fleet, machine, node, &terms, &score);
  if (refusal == NC_REFUSAL_NONE)
    return nc_queue_start(q, e, node, now_us);
  if (e->item.request.is_wish) {
    if (has_room) {
      nc_fleet_unreserve(q->fleet, machine);
      nc_queue_free_up(q, node);
    }
    e->destination = NC_FLEET_NONE;
    return nc_queue_start_anywhere(q, e, &terms, now_us);
  }
  if (refusal == NC_REFUSAL_DOWN || refusal == NC_REFUSAL_CORDONED)
    return nc_queue_wait_for_room(q, e, &nc_queue_station(q, node)->room, now_us);
  return nc_queue_find_no_room(q, e, now_us);
}

/* --- what has changed --- */

/* Those that wait for room on ${node}, or on any one and would fit there, are looked at again. */
static void
nc_queue_look_again(NcQueue *q, uint32_t node)
{
  NcStation *s = nc_queue_station(q, node);
  g_autoptr(GPtrArray) fitting = g_ptr_array_new();
  double score;

  s->is_freed = false;
  for (NcHeapEntry *entry; (entry = nc_heap_pop(&s->room));)
    nc_heap_push(&s->in, entry, entry->key, entry->tie);
  nc_queue_refresh(q, node);
  for (size_t i = 0; i < q->nowhere.count; i++) {
    NcEntry *e = NC_HEAP_OWNER(q->nowhere.entries[i], NcEntry, place);
    const NcPlacementTerms terms = nc_queue_terms(q, e);
    if (nc_placement_judge(q->fleet, e->item.request.machine, node, &terms, &score) == NC_REFUSAL_NONE)
      g_ptr_array_add(fitting, e);
  }
  for (guint i = 0; i < fitting->len; i++)
    nc_queue_wait_for_source(q, fitting->pdata[i]);
}

static void
nc_queue_look_at_freed(NcQueue *q)
{
  for (guint i = 0; i < q->freed->len; i++)
    nc_queue_look_again(q, g_array_index(q->freed, uint32_t, i));
  g_array_set_size(q->freed, 0);
}

static char *
nc_queue_complain(NcQueue *q, const NcEntry *e, bool has_waited)
{
  const NcPlacementTerms terms = nc_queue_terms(q, e);
  const char *machine = nc_fleet_machine(q->fleet, e->item.request.machine)->name;
  double score;

  if (e->destination == NC_FLEET_NONE)
    return nc_placement_complaint(q->fleet, e->item.request.machine, &terms);
  NcRefusal refusal = nc_placement_judge(q->fleet, e->item.request.machine, e->destination, &terms, &score);
  g_autofree char *why = nc_placement_why_not(q->fleet, e->item.request.machine, e->destination, &terms);
  return g_strdup_printf("node \"%s\" %s take %s%s (%s%s%s)", nc_fleet_node(q->fleet, e->destination)->name,
                         has_waited ? "could not" : "can't", machine, has_waited ? " for as long as the queue waits" : "",
                         nc_refusal_name(refusal), why ? ": " : "", why ? why : "room came too late");
}

static bool
nc_queue_waits_for_room(NcQueue *q, const NcEntry *e)
{
  return e->place.heap == &q->nowhere ||
         (e->destination != NC_FLEET_NONE && e->place.heap == &nc_queue_station(q, e->destination)->room);
}

char *
nc_queue_why_no_room(NcQueue *q, uint64_t id)
{
  const NcEntry *e = g_hash_table_lookup(q->entries, &id);
  return e && e->place.heap && nc_queue_waits_for_room(q, e) ? nc_queue_complain(q, e, false) : NULL;
}

/* The next attempt of those that failed; an end for those that wait for room, and have waited long enough. */
static void
nc_queue_look_at_time(NcQueue *q, int64_t now_us)
{
  for (NcHeapEntry *timer; (timer = nc_heap_top(&q->timers)) && timer->key <= now_us;) {
    NcEntry *e = NC_HEAP_OWNER(timer, NcEntry, timer);
    bool waits_for_room = nc_queue_waits_for_room(q, e);
    nc_heap_remove(timer);
    if (e->item.state == NC_ITEM_BACKOFF) {
      e->item.state = NC_ITEM_QUEUED;
      nc_queue_wait_for_source(q, e);
    } else if (waits_for_room) { /* else its turn has come, and it will be looked at once more */
      g_autofree char *reason = nc_queue_complain(q, e, true);
      nc_queue_enter(q, e, NC_ITEM_REFUSED, reason);
    }
  }
}

/* Takes the first one out whose source may send, and that does not wait for a destination which takes no more; NULL: none. */
static NcEntry *
nc_queue_take_next(NcQueue *q)
{
  for (;;) {
    NcStation *out = NC_HEAP_OWNER(nc_heap_top(&q->ready_out), NcStation, ready_out);
    NcStation *in = NC_HEAP_OWNER(nc_heap_top(&q->ready_in), NcStation, ready_in);
    if (!out && !in)
      return NULL;
    bool by_source = out && (!in || nc_heap_before(&out->ready_out, &in->ready_in));
    NcEntry *e = NC_HEAP_OWNER(nc_heap_top(by_source ? &out->out : &in->in), NcEntry, place);
    nc_queue_unwait(q, e);
    if (nc_queue_outgoing(q, e->item.from) < nc_queue_out_limit(q, e->item.from))
      return e;
    nc_queue_wait_for_source(q, e); /* not ready: so the loop does not meet it again */
  }
}

unsigned
nc_queue_schedule(NcQueue *q, int64_t now_us)
{
  unsigned started = 0;

  nc_queue_look_at_freed(q);
  nc_queue_look_at_time(q, now_us);
  while (q->running < q->limits.cluster) {
    nc_queue_look_at_freed(q);
    NcEntry *e = nc_queue_take_next(q);
    if (!e)
      break;
    started += nc_queue_examine(q, e, now_us);
  }
  return started;
}

int64_t
nc_queue_next_us(const NcQueue *q)
{
  const NcHeapEntry *timer = nc_heap_top(&q->timers);
  return timer ? timer->key : INT64_MAX;
}
