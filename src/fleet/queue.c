/* SPDX-License-Identifier: Apache-2.0 */
/* Submitting, cancelling, ending, and who waits where. What is decided when is queue_schedule.c. */
#include "fleet/queue_internal.h"

static const char *const nc_item_state_names[] = {
  [NC_ITEM_QUEUED] = "queued", [NC_ITEM_BACKOFF] = "backoff", [NC_ITEM_RUNNING] = "running",     [NC_ITEM_COMPLETED] = "completed",
  [NC_ITEM_FAILED] = "failed", [NC_ITEM_REFUSED] = "refused", [NC_ITEM_CANCELLED] = "cancelled",
};

const char *
nc_item_state_name(NcItemState state)
{
  return nc_item_state_names[state];
}

/* --- life --- */

static void
nc_station_free(gpointer data)
{
  NcStation *s = data;

  nc_heap_clear(&s->out);
  nc_heap_clear(&s->in);
  nc_heap_clear(&s->room);
  g_free(s);
}

static void
nc_entry_free(gpointer data)
{
  g_free(((NcEntry *)data)->reason);
  g_free(data);
}

NcQueue *
nc_queue_new(NcFleet *fleet, const NcQueueLimits *limits, NcQueueFunc func, void *user_data)
{
  NcQueue *q = g_new0(NcQueue, 1);

  q->fleet = fleet;
  q->limits = *limits;
  q->func = func;
  q->user_data = user_data;
  q->entries = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, nc_entry_free);
  q->by_machine = g_hash_table_new(NULL, NULL);
  q->groups = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, (GDestroyNotify)g_hash_table_unref);
  q->stations = g_ptr_array_new_with_free_func(nc_station_free);
  q->incoming = g_array_new(FALSE, TRUE, sizeof(unsigned));
  q->outgoing = g_array_new(FALSE, TRUE, sizeof(unsigned));
  q->freed = g_array_new(FALSE, FALSE, sizeof(uint32_t));
  return q;
}

void
nc_queue_free(NcQueue *q)
{
  GHashTableIter iter;
  NcEntry *e;

  if (!q)
    return;
  g_hash_table_iter_init(&iter, q->entries);
  while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&e))
    nc_fleet_unreserve(q->fleet, e->item.request.machine);
  nc_heap_clear(&q->ready_out);
  nc_heap_clear(&q->ready_in);
  nc_heap_clear(&q->timers);
  nc_heap_clear(&q->nowhere);
  g_ptr_array_unref(q->stations);
  g_hash_table_unref(q->by_machine);
  g_hash_table_unref(q->groups);
  g_hash_table_unref(q->entries);
  g_array_unref(q->incoming);
  g_array_unref(q->outgoing);
  g_array_unref(q->freed);
  g_free(q);
}

/* --- nodes --- */

NcStation *
nc_queue_station(NcQueue *q, uint32_t node)
{
  while (q->stations->len < nc_fleet_node_count(q->fleet))
    g_ptr_array_add(q->stations, g_new0(NcStation, 1));
  if (q->incoming->len < q->stations->len) {
    g_array_set_size(q->incoming, q->stations->len);
    g_array_set_size(q->outgoing, q->stations->len);
  }
  return q->stations->pdata[node];
}

unsigned
nc_queue_incoming(const NcQueue *q, uint32_t node)
{
  return node < q->incoming->len ? g_array_index(q->incoming, unsigned, node) : 0;
}

unsigned
nc_queue_outgoing(const NcQueue *q, uint32_t node)
{
  return node < q->outgoing->len ? g_array_index(q->outgoing, unsigned, node) : 0;
}

unsigned
nc_queue_out_limit(const NcQueue *q, uint32_t node)
{
  const NcNode *n = nc_fleet_node(q->fleet, node);

  if (n->is_down)
    return 0;
  return n->out_limit > 0 ? n->out_limit : q->limits.node_out;
}

unsigned
nc_queue_in_limit(const NcQueue *q, uint32_t node)
{
  unsigned own = nc_fleet_node(q->fleet, node)->in_limit;
  return own > 0 ? own : q->limits.node_in;
}

static void
nc_queue_refresh_one(NcHeap *ready, NcHeapEntry *entry, const NcHeap *waiting, bool may)
{
  const NcHeapEntry *top = nc_heap_top(waiting);

  if (top && may)
    nc_heap_set(ready, entry, top->key, top->tie);
  else
    nc_heap_remove(entry);
}

void
nc_queue_refresh(NcQueue *q, uint32_t node)
{
  NcStation *s = nc_queue_station(q, node);

  nc_queue_refresh_one(&q->ready_out, &s->ready_out, &s->out, nc_queue_outgoing(q, node) < nc_queue_out_limit(q, node));
  nc_queue_refresh_one(&q->ready_in, &s->ready_in, &s->in, nc_queue_incoming(q, node) < nc_queue_in_limit(q, node));
}

void
nc_queue_free_up(NcQueue *q, uint32_t node)
{
  NcStation *s = nc_queue_station(q, node);

  if (!s->is_freed)
    g_array_append_val(q->freed, node);
  s->is_freed = true;
}

void
nc_queue_room_changed(NcQueue *q, uint32_t node)
{
  nc_queue_free_up(q, node);
}

/* --- entries --- */

void
nc_queue_unwait(NcQueue *q, NcEntry *e)
{
  nc_heap_remove(&e->place);
  nc_queue_refresh(q, e->item.from);
  if (e->destination != NC_FLEET_NONE)
    nc_queue_refresh(q, e->destination);
}

void
nc_queue_wait_for_source(NcQueue *q, NcEntry *e)
{
  NcStation *s = nc_queue_station(q, e->item.from);

  nc_heap_set(&s->out, &e->place, e->rank, e->item.id);
  nc_queue_refresh(q, e->item.from);
}

void
nc_queue_link(NcQueue *q, NcEntry *e)
{
  NcStation *s = nc_queue_station(q, e->item.from);

  e->previous = NULL;
  e->next = s->first;
  if (e->next)
    e->next->previous = e;
  s->first = e;
}

static void
nc_queue_unlink(NcQueue *q, NcEntry *e)
{
  NcStation *s = nc_queue_station(q, e->item.from);

  if (e->next)
    e->next->previous = e->previous;
  if (e->previous)
    e->previous->next = e->next;
  else if (s->first == e)
    s->first = e->next;
  e->next = e->previous = NULL;
}

static void
nc_queue_join_group(NcQueue *q, NcEntry *e)
{
  const uint64_t *group = &e->item.request.group;
  GHashTable *members = g_hash_table_lookup(q->groups, group);

  if (*group == 0)
    return;
  if (!members) {
    members = g_hash_table_new(NULL, NULL);
    g_hash_table_insert(q->groups, g_memdup2(group, sizeof *group), members);
  }
  g_hash_table_add(members, e);
}

static void
nc_queue_leave_group(NcQueue *q, NcEntry *e)
{
  GHashTable *members = g_hash_table_lookup(q->groups, &e->item.request.group);

  if (!members)
    return;
  g_hash_table_remove(members, e);
  if (g_hash_table_size(members) == 0)
    g_hash_table_remove(q->groups, &e->item.request.group);
}

void
nc_queue_needs_changed(NcQueue *q, uint32_t machine)
{
  NcEntry *e = g_hash_table_lookup(q->by_machine, GUINT_TO_POINTER(machine + 1));
  uint32_t reserved = nc_fleet_machine(q->fleet, machine)->reserved;

  if (reserved != NC_FLEET_NONE)
    nc_queue_free_up(q, reserved);
  if (!e || e->item.state != NC_ITEM_QUEUED)
    return;
  nc_queue_unwait(q, e);
  nc_queue_wait_for_source(q, e);
}

/* Nothing of the queue's knows it any more but the table of entries. */
static void
nc_queue_leave(NcQueue *q, NcEntry *e)
{
  uint32_t reserved = nc_fleet_machine(q->fleet, e->item.request.machine)->reserved;

  nc_queue_unwait(q, e);
  nc_heap_remove(&e->timer);
  nc_queue_unlink(q, e);
  nc_queue_leave_group(q, e);
  g_hash_table_remove(q->by_machine, GUINT_TO_POINTER(e->item.request.machine + 1));
  if (reserved != NC_FLEET_NONE) {
    nc_fleet_unreserve(q->fleet, e->item.request.machine);
    nc_queue_free_up(q, reserved);
  }
}

void
nc_queue_enter(NcQueue *q, NcEntry *e, NcItemState state, const char *reason)
{
  char *copy = g_strdup(reason);
  bool is_end = state >= NC_ITEM_COMPLETED, fails = state == NC_ITEM_FAILED || state == NC_ITEM_REFUSED;
  uint64_t group = fails && e->item.request.is_bound ? e->item.request.group : 0;

  g_free(e->reason);
  e->item.reason = e->reason = copy;
  e->item.state = state;
  if (state == NC_ITEM_RUNNING)
    nc_queue_unlink(q, e);
  if (is_end)
    nc_queue_leave(q, e);
  if (q->func)
    q->func(&e->item, q->user_data);
  if (is_end)
    g_hash_table_remove(q->entries, &e->item.id);
  if (group > 0)
    nc_queue_cancel_group(q, group, "another one of its batch failed, and the batch is for all or none");
}

/* --- what others ask --- */

/* Can its destination take it at all? */
static bool
nc_queue_check_destination(const NcQueue *q, const NcRequest *request, GError **error)
{
  const NcMachine *m = nc_fleet_machine(q->fleet, request->machine);
  const NcNode *n = nc_fleet_node(q->fleet, request->destination);
  uint32_t label = nc_fleet_missing_label(q->fleet, request->machine, request->destination);

  if (m->node == request->destination)
    return nc_fail(error, NC_ERROR_INVALID, "machine \"%s\" is on node \"%s\" already", m->name, n->name);
  if (n->is_cordoned)
    return nc_fail(error, NC_ERROR_UNSUITABLE, "node \"%s\" is cordoned: uncordon it, or choose another one", n->name);
  if (label != NC_FLEET_NONE)
    return nc_fail(error, NC_ERROR_UNSUITABLE, "node \"%s\" lacks the label \"%s\" that machine \"%s\" requires", n->name,
                   nc_fleet_label_name(q->fleet, label), m->name);
  return nc_room_fits(&m->need, &n->capacity) ||
         nc_fail(error, NC_ERROR_UNSUITABLE, "machine \"%s\" is larger than node \"%s\": choose another one", m->name, n->name);
}

bool
nc_queue_may_submit(const NcQueue *q, const NcRequest *request, GError **error)
{
  if (nc_queue_item_of(q, request->machine))
    return nc_fail(error, NC_ERROR_CONFLICT, "machine \"%s\" has a migration already: wait for it, or cancel it",
                   nc_fleet_machine(q->fleet, request->machine)->name);
  if (request->reserve && request->destination == NC_FLEET_NONE)
    return nc_fail(error, NC_ERROR_INVALID, "room can only be reserved at a destination that is named");
  return request->destination == NC_FLEET_NONE || nc_queue_check_destination(q, request, error);
}

static bool
nc_queue_reserve(const NcQueue *q, const NcRequest *request, GError **error)
{
  return nc_fleet_reserve(q->fleet, request->machine, request->destination) ||
         nc_fail(error, NC_ERROR_RESOURCE, "node \"%s\" has no room for machine \"%s\" now",
                 nc_fleet_node(q->fleet, request->destination)->name, nc_fleet_machine(q->fleet, request->machine)->name);
}

NcEntry *
nc_queue_enter_new(NcQueue *q, const NcRequest *request, int64_t submitted_us)
{
  NcEntry *e = g_new0(NcEntry, 1);

  e->item = (NcItem){ .id = ++q->last_id,
                      .request = *request,
                      .state = NC_ITEM_QUEUED,
                      .from = nc_fleet_machine(q->fleet, request->machine)->node,
                      .to = NC_FLEET_NONE,
                      .submitted_us = submitted_us,
                      .started_us = -1 };
  e->rank = submitted_us - q->limits.ageing_us * (NC_PRIORITY_LOW - (int)request->priority);
  e->destination = request->destination;
  e->failed = NC_FLEET_NONE;
  g_hash_table_insert(q->entries, &e->item.id, e);
  g_hash_table_insert(q->by_machine, GUINT_TO_POINTER(request->machine + 1), e);
  nc_queue_join_group(q, e);
  return e;
}

uint64_t
nc_queue_submit(NcQueue *q, const NcRequest *request, int64_t now_us, GError **error)
{
  if (!nc_queue_may_submit(q, request, error) || (request->reserve && !nc_queue_reserve(q, request, error)))
    return 0;
  NcEntry *e = nc_queue_enter_new(q, request, now_us);
  nc_queue_link(q, e);
  nc_queue_wait_for_source(q, e);
  return e->item.id;
}

bool
nc_queue_cancel(NcQueue *q, uint64_t id, const char *reason, GError **error)
{
  NcEntry *e = g_hash_table_lookup(q->entries, &id);

  if (!e)
    return nc_fail(error, NC_ERROR_NOT_FOUND, "there is no such item in the queue: it has ended");
  if (e->item.state == NC_ITEM_RUNNING)
    return nc_fail(error, NC_ERROR_CONFLICT, "it is under way: cancel the migration");
  nc_queue_enter(q, e, NC_ITEM_CANCELLED, reason);
  return true;
}

unsigned
nc_queue_cancel_group(NcQueue *q, uint64_t group, const char *reason)
{
  GHashTable *members = g_hash_table_lookup(q->groups, &group);
  g_autoptr(GPtrArray) waiting = g_ptr_array_new();
  GHashTableIter iter;
  NcEntry *e;

  if (!members)
    return 0;
  g_hash_table_iter_init(&iter, members);
  while (g_hash_table_iter_next(&iter, (gpointer *)&e, NULL))
    if (e->item.state != NC_ITEM_RUNNING)
      g_ptr_array_add(waiting, e);
  for (guint i = 0; i < waiting->len; i++)
    nc_queue_enter(q, waiting->pdata[i], NC_ITEM_CANCELLED, reason);
  return waiting->len;
}

static void
nc_queue_try_again(NcQueue *q, NcEntry *e, const char *reason, int64_t now_us)
{
  int64_t wait_us = q->limits.backoff_us;

  for (unsigned i = 1; i < e->item.attempts && wait_us < q->limits.backoff_most_us; i++)
    wait_us *= 2;
  e->failed = e->item.to;
  e->item.to = NC_FLEET_NONE;
  if (e->item.request.is_wish)
    e->destination = NC_FLEET_NONE;
  nc_queue_link(q, e);
  e->item.not_before_us = now_us + MIN(wait_us, q->limits.backoff_most_us);
  nc_heap_set(&q->timers, &e->timer, e->item.not_before_us, e->item.id);
  nc_queue_enter(q, e, NC_ITEM_BACKOFF, reason);
}

void
nc_queue_ended(NcQueue *q, uint64_t id, NcEnd end, const char *reason, int64_t now_us)
{
  NcEntry *e = g_hash_table_lookup(q->entries, &id);

  g_return_if_fail(e && e->item.state == NC_ITEM_RUNNING);
  q->running--;
  g_array_index(q->outgoing, unsigned, e->item.from)--;
  g_array_index(q->incoming, unsigned, e->item.to)--;
  nc_queue_free_up(q, e->item.from);
  nc_queue_free_up(q, e->item.to);
  if (end == NC_END_COMPLETED)
    nc_fleet_arrive(q->fleet, e->item.request.machine);
  else
    nc_fleet_unreserve(q->fleet, e->item.request.machine);
  unsigned most = e->item.request.attempts > 0 ? e->item.request.attempts : q->limits.attempts;
  if (end == NC_END_MAY_PASS && e->item.attempts < most)
    nc_queue_try_again(q, e, reason, now_us);
  else
    nc_queue_enter(q, e,
                   end == NC_END_COMPLETED   ? NC_ITEM_COMPLETED
                   : end == NC_END_CANCELLED ? NC_ITEM_CANCELLED
                                             : NC_ITEM_FAILED,
                   end == NC_END_COMPLETED ? NULL : reason);
}

NcFleet *
nc_queue_fleet(const NcQueue *q)
{
  return q->fleet;
}

const NcQueueLimits *
nc_queue_limits(const NcQueue *q)
{
  return &q->limits;
}

const NcItem *
nc_queue_item(const NcQueue *q, uint64_t id)
{
  const NcEntry *e = g_hash_table_lookup(q->entries, &id);
  return e ? &e->item : NULL;
}

const NcItem *
nc_queue_item_of(const NcQueue *q, uint32_t machine)
{
  const NcEntry *e = g_hash_table_lookup(q->by_machine, GUINT_TO_POINTER(machine + 1));
  return e ? &e->item : NULL;
}

unsigned
nc_queue_running(const NcQueue *q)
{
  return q->running;
}

unsigned
nc_queue_length(const NcQueue *q)
{
  return g_hash_table_size(q->entries) - q->running;
}
