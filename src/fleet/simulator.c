/* SPDX-License-Identifier: Apache-2.0 */
/* From event to event. */
#include "fleet/simulator_internal.h"

/* --- what the queue says --- */

static NcMove *
nc_simulator_move(const NcSimulator *s, uint64_t id)
{
  return g_hash_table_lookup(s->moves, &id);
}

/* The wave that planned ${machine}; NULL: none. */
static NcWaveTimes *
nc_simulator_wave(NcSimulator *s, uint32_t machine, NcSimulatedEvacuation **ret)
{
  guint64 key = GPOINTER_TO_SIZE(g_hash_table_lookup(s->waves, GUINT_TO_POINTER(machine + 1)));

  if (key == 0)
    return NULL;
  *ret = s->evacuations->pdata[(key - 1) >> 32];
  return &g_array_index((*ret)->waves, NcWaveTimes, (key - 1) & UINT32_MAX);
}

static void
nc_simulator_note_start(NcSimulator *s, const NcItem *item)
{
  NcSimulatedEvacuation *e;
  NcWaveTimes *wave = nc_simulator_wave(s, item->request.machine, &e);
  int64_t wait_us = s->now_us - item->submitted_us;

  g_array_append_val(s->decided, item->id);
  if (item->attempts > 1)
    return;
  if (wait_us > s->longest_wait_us || s->longest_wait_of == NC_FLEET_NONE) {
    s->longest_wait_us = wait_us;
    s->longest_wait_of = item->request.machine;
  }
  if (wave && wave->began_us < 0)
    wave->began_us = s->now_us;
}

static void
nc_simulator_note_completed(NcSimulator *s, const NcItem *item)
{
  const NcMove *move = nc_simulator_move(s, item->id);
  NcSimulatedEvacuation *e;
  NcWaveTimes *wave = nc_simulator_wave(s, item->request.machine, &e);

  s->completed++;
  if (move->pause_s > s->longest_pause_s) {
    s->longest_pause_s = move->pause_s;
    s->longest_pause_of = move->machine;
  }
  if (!wave)
    return;
  wave->ended_us = e->ended_us = s->now_us;
  wave->ended++;
  wave->pause_s = MAX(wave->pause_s, move->pause_s);
  e->completed++;
}

/* Of those that batches and tasks named, what became of them; of all others only if they did not move. */
static void
nc_simulator_note_item(NcSimulator *s, uint32_t machine, uint64_t id, const char *state, const char *reason)
{
  NcSimulatedItem item = { machine, id, state, g_strdup(reason) };
  g_array_append_val(s->items, item);
}

static void
nc_simulator_hear(const NcItem *item, void *user_data)
{
  NcSimulator *s = user_data;

  switch (item->state) {
  case NC_ITEM_RUNNING:
    nc_simulator_note_start(s, item);
    return;
  case NC_ITEM_BACKOFF:
    s->failed_attempts++;
    return;
  case NC_ITEM_COMPLETED:
    nc_simulator_note_completed(s, item);
    break;
  case NC_ITEM_FAILED:
    s->failed_attempts++;
    s->failed++;
    break;
  case NC_ITEM_REFUSED:
    s->refused++;
    break;
  default:
    s->cancelled++;
    break;
  }
  s->last_us = s->now_us;
  if (item->state != NC_ITEM_COMPLETED)
    nc_simulator_note_item(s, item->request.machine, item->id, nc_item_state_name(item->state), item->reason);
}

/* --- tasks --- */

static void
nc_simulator_evacuate(NcSimulator *s, const NcTask *task)
{
  NcSimulatedEvacuation *e = g_new0(NcSimulatedEvacuation, 1);
  guint64 number = s->evacuations->len;

  e->at_us = e->ended_us = s->now_us;
  const NcEvacuationTerms terms = { .limits = &s->scenario->limits, .reserve_percent = s->scenario->reserve_percent, .qos = task->qos };
  e->plan = nc_evacuation_plan(s->fleet, &terms, (const uint32_t *)(void *)task->nodes->data, task->nodes->len);
  e->waves = g_array_new(FALSE, FALSE, sizeof(NcWaveTimes));
  for (guint i = 0; i < e->plan->waves->len; i++) {
    NcWaveTimes times = { .began_us = -1, .ended_us = -1 };
    g_array_append_val(e->waves, times);
  }
  g_ptr_array_add(s->evacuations, e);
  for (guint i = 0; i < e->plan->moves->len; i++) {
    const NcPlannedMove *move = &g_array_index(e->plan->moves, NcPlannedMove, i);
    g_hash_table_insert(s->waves, GUINT_TO_POINTER(move->machine + 1), GSIZE_TO_POINTER((number << 32 | move->wave) + 1));
  }
  e->submitted = nc_evacuation_begin(e->plan, s->queue, task->qos, number + 1, s->now_us);
  s->submitted += (unsigned)e->submitted;
}

static void
nc_simulator_submit(NcSimulator *s, const NcTask *task, uint64_t group)
{
  guint count = task->requests->len;
  g_autofree NcBatchResult *results = g_new0(NcBatchResult, count);
  bool is_all = task->kind == NC_TASK_BATCH && task->policy == NC_BATCH_ALL;

  s->submitted += (unsigned)nc_batch_submit(s->queue, is_all ? NC_BATCH_ALL : NC_BATCH_ANY, group,
                                            (const NcRequest *)(void *)task->requests->data, count, s->now_us, results);
  for (guint i = 0; i < count; i++) {
    if (results[i].id == 0) {
      s->refused++;
      nc_simulator_note_item(s, g_array_index(task->requests, NcRequest, i).machine, 0, "refused",
                             results[i].reason ? results[i].reason : "another one of its batch can't move, and the batch is for all or none");
    }
    g_free(results[i].reason);
  }
}

static void
nc_simulator_begin_tasks(NcSimulator *s)
{
  const GArray *tasks = s->scenario->tasks;

  for (; s->next_task < tasks->len; s->next_task++) {
    const NcTask *task = &g_array_index(tasks, NcTask, s->next_task);
    if ((int64_t)(task->at_s * 1e6) > s->now_us)
      return;
    if (s->first_us < 0)
      s->first_us = s->last_us = s->now_us;
    if (task->kind == NC_TASK_EVACUATE)
      nc_simulator_evacuate(s, task);
    else /* evacuations have the small numbers for groups */
      nc_simulator_submit(s, task, (uint64_t)1 << 32 | s->next_task);
  }
}

/* --- life --- */

static void
nc_simulated_evacuation_free(gpointer data)
{
  NcSimulatedEvacuation *e = data;

  nc_evacuation_free(e->plan);
  g_array_unref(e->waves);
  g_free(e);
}

static void
nc_simulated_item_clear(gpointer item)
{
  g_free(((NcSimulatedItem *)item)->reason);
}

NcSimulator *
nc_simulator_new(NcScenario *scenario)
{
  NcSimulator *s = g_new0(NcSimulator, 1);

  s->scenario = scenario;
  s->fleet = scenario->fleet;
  s->queue = nc_queue_new(s->fleet, &scenario->limits, nc_simulator_hear, s);
  s->traffic = nc_traffic_new(s->fleet, scenario->reserve_percent);
  s->random.state = scenario->seed;
  s->moves = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
  s->active = g_ptr_array_new();
  s->links = g_new0(NcLinkUse, MAX(2 * nc_fleet_link_count(s->fleet), 1));
  s->evacuations = g_ptr_array_new_with_free_func(nc_simulated_evacuation_free);
  s->waves = g_hash_table_new(NULL, NULL);
  s->items = g_array_new(FALSE, FALSE, sizeof(NcSimulatedItem));
  g_array_set_clear_func(s->items, nc_simulated_item_clear);
  s->decided = g_array_new(FALSE, FALSE, sizeof(uint64_t));
  s->first_us = s->last_us = -1;
  s->longest_wait_of = s->longest_pause_of = NC_FLEET_NONE;
  return s;
}

void
nc_simulator_free(NcSimulator *s)
{
  if (!s)
    return;
  nc_heap_clear(&s->events);
  g_ptr_array_unref(s->active);
  nc_traffic_free(s->traffic);
  nc_queue_free(s->queue);
  g_hash_table_unref(s->moves);
  g_hash_table_unref(s->waves);
  g_ptr_array_unref(s->evacuations);
  g_array_unref(s->items);
  g_array_unref(s->decided);
  g_free(s->links);
  g_free(s);
}

int64_t
nc_simulator_now_us(const NcSimulator *s)
{
  return s->now_us;
}

NcQueue *
nc_simulator_queue(const NcSimulator *s)
{
  return s->queue;
}

NcTraffic *
nc_simulator_traffic(const NcSimulator *s)
{
  return s->traffic;
}

unsigned
nc_simulator_pauses_over(const NcSimulator *s, uint32_t link, bool is_down)
{
  return s->links[2 * link + is_down].pauses;
}

/* --- a step --- */

static int64_t
nc_simulator_next_us(const NcSimulator *s)
{
  const NcHeapEntry *event = nc_heap_top(&s->events);
  int64_t next = MIN(event ? event->key : INT64_MAX, nc_queue_next_us(s->queue));

  if (s->next_task < s->scenario->tasks->len)
    next = MIN(next, (int64_t)(g_array_index(s->scenario->tasks, NcTask, s->next_task).at_s * 1e6));
  return next;
}

static void
nc_simulator_schedule(NcSimulator *s)
{
  nc_queue_schedule(s->queue, s->now_us);
  for (guint i = 0; i < s->decided->len; i++)
    nc_move_begin(s, g_array_index(s->decided, uint64_t, i));
  g_array_set_size(s->decided, 0);
  s->most_running = MAX(s->most_running, nc_queue_running(s->queue));
}

/* Nothing happens any more, and nodes that are down stay down here: what is to leave one would wait for ever. False: nothing does. */
static bool
nc_simulator_give_up(NcSimulator *s)
{
  bool found = false;

  for (uint32_t i = 0; nc_queue_length(s->queue) > 0 && i < nc_fleet_machine_count(s->fleet); i++) {
    const NcItem *item = nc_queue_item_of(s->queue, i);
    if (item && nc_fleet_node(s->fleet, item->from)->is_down)
      found = nc_queue_cancel(s->queue, item->id, "its node is down", NULL) || found;
  }
  return found;
}

bool
nc_simulator_step(NcSimulator *s)
{
  int64_t next_us = nc_simulator_next_us(s);

  if (next_us == INT64_MAX)
    return nc_simulator_give_up(s);
  nc_move_advance(s, MAX(next_us, s->now_us));
  nc_simulator_begin_tasks(s);
  for (NcHeapEntry *event; (event = nc_heap_top(&s->events)) && event->key <= s->now_us;) {
    nc_heap_remove(event);
    nc_move_step(s, NC_HEAP_OWNER(event, NcMove, event));
  }
  nc_simulator_schedule(s);
  nc_move_settle(s);
  return true;
}
