/* SPDX-License-Identifier: Apache-2.0 */
/* Migrations that have not ended, and what agents are told of them. */
#include "controller/controller_internal.h"

/* Each time that an agent is told to cancel is in its transaction log for ever; what can't be cancelled any more runs on for hours. */
#define NC_CANCEL_MOST_US (600 * (int64_t)G_USEC_PER_SEC)

void
nc_live_free(gpointer data)
{
  NcLive *live = data;

  /* Its flow is the budget's, which may be gone already. */
  nc_wish_clear(&live->wish);
  g_free(live->id);
  g_free(live->machine);
  g_free(live->batch);
  g_free(live->evacuation);
  g_free(live->cancel_reason);
  json_decref(live->sample);
  g_free(live->phase);
  g_free(live);
}

void
nc_live_add(NcController *c, NcLive *live)
{
  NcEvacuating *evacuating = g_hash_table_lookup(c->evacuations, live->evacuation);

  g_hash_table_insert(c->live, live->id, live);
  g_hash_table_insert(c->by_item, &live->item, live);
  if (evacuating)
    evacuating->live++;
}

void
nc_live_begin(NcController *c, NcLive *live, uint32_t from, uint32_t to)
{
  live->is_under_way = true;
  live->is_confirmed = live->told_endgame = live->wants_endgame = live->is_elsewhere = false;
  live->unknowns = live->phase_events = 0;
  live->cancel_again_us = live->cancel_wait_us = 0;
  live->percent = 0;
  g_clear_pointer(&live->phase, g_free);
  g_clear_pointer(&live->sample, json_decref);
  live->from = from;
  live->to = to;
  live->heard_us = live->asked_us = c->now_us;
  live->told_us = G_MININT64 / 2;
  live->flow = nc_traffic_add(c->traffic, from, to, live->wish.qos, live->wish.limit_bps, NULL);
  g_hash_table_add(c->under_way, live);
}

void
nc_live_end_attempt(NcController *c, NcLive *live)
{
  g_hash_table_remove(c->under_way, live);
  if (live->flow)
    nc_budget_remove(live->flow);
  live->flow = NULL;
  live->is_under_way = live->is_to_be_sent = false;
}

uint64_t
nc_group_of(NcController *c, const char *id)
{
  uint64_t *group = g_hash_table_lookup(c->groups, id);

  if (!id[0])
    return 0;
  if (!group) {
    group = g_new(uint64_t, 1);
    *group = ++c->last_group;
    g_hash_table_insert(c->groups, g_strdup(id), group);
  }
  return *group;
}

NcRequest
nc_request_of(NcController *c, const NcLive *live, uint32_t machine, uint32_t destination)
{
  const NcWish *wish = &live->wish;

  return (NcRequest){ .machine = machine,
                      .destination = destination,
                      .is_wish = wish->is_wish,
                      .reserve = wish->reserve,
                      .is_bound = wish->is_bound,
                      .priority = wish->priority,
                      .qos = wish->qos,
                      .limit_bps = wish->limit_bps,
                      .group = nc_group_of(c, live->batch[0] ? live->batch : live->evacuation),
                      .attempts = wish->retry_attempts < 0 ? 0 : (unsigned)wish->retry_attempts + 1 };
}

/* --- orders --- */

static const char *
nc_source_of(NcController *c, const NcLive *live)
{
  return nc_fleet_node(c->fleet, live->from)->name;
}

/* As the port has it: 0 is no limit. */
static uint64_t
nc_rate_of(const NcLive *live)
{
  uint64_t rate_bps = nc_flow_rate_bps(live->flow);
  return rate_bps == NC_BUDGET_UNLIMITED ? 0 : MAX(rate_bps, 1);
}

void
nc_send_start(NcController *c, NcLive *live)
{
  g_autofree char *name = nc_fleetdb_attempt_name(live->id, live->attempt);
  nc_autojson json_t *settings = json_copy(live->wish.settings);

  nc_budget_divide(nc_traffic_budget(c->traffic));
  json_object_set_new(settings, "qos", json_string(nc_qos_name(live->wish.qos)));
  json_object_set_new(settings, "bandwidth_limit_bps", json_integer((json_int_t)live->wish.limit_bps));
  json_object_set_new(settings, "retry_attempts",
                      json_integer(0)); /* these are the controller's: it may choose another node */
  const NcAttemptOrder order = { .name = name,
                                 .machine = live->machine,
                                 .source = nc_source_of(c, live),
                                 .destination = nc_fleet_node(c->fleet, live->to)->name,
                                 .settings = settings,
                                 .rate_bps = nc_rate_of(live) };

  live->is_to_be_sent = false;
  live->asked_us = c->now_us;
  live->told_us = c->now_us;
  live->told_bps = order.rate_bps;
  live->told_endgame = false;
  c->port.start(c->agents, &order);
}

void
nc_send_cancel(NcController *c, NcLive *live)
{
  g_autofree char *name = nc_fleetdb_attempt_name(live->id, live->attempt);

  live->is_to_be_sent = false;
  live->asked_us = c->now_us;
  live->cancel_wait_us = CLAMP(2 * live->cancel_wait_us, c->options.ask_us, NC_CANCEL_MOST_US);
  live->cancel_again_us = c->now_us + live->cancel_wait_us;
  c->port.cancel(c->agents, nc_source_of(c, live), name, live->cancel_reason);
}

static void
nc_ask(NcController *c, NcLive *live)
{
  g_autofree char *name = nc_fleetdb_attempt_name(live->id, live->attempt);

  live->asked_us = c->now_us;
  c->port.ask(c->agents, nc_source_of(c, live), name);
}

/* Endgames go from one to the next as fast as agents are asked. */
static int64_t
nc_ask_every_us(NcController *c, const NcLive *live)
{
  return live->wants_endgame ? MIN(c->options.ask_us, NC_ASK_ENDGAME_US) : c->options.ask_us;
}

/* Also what it was told some time ago: messages are lost. */
static void
nc_tell_rate(NcController *c, NcLive *live)
{
  uint64_t rate_bps = nc_rate_of(live);
  bool has_endgame = nc_budget_has_endgame(live->flow);

  bool is_old =
      live->told_bps != rate_bps || live->told_endgame != has_endgame || c->now_us - live->told_us >= c->options.ask_us;

  if (!live->is_confirmed || !is_old)
    return;
  g_autofree char *name = nc_fleetdb_attempt_name(live->id, live->attempt);
  live->told_us = c->now_us;
  live->told_bps = rate_bps;
  live->told_endgame = has_endgame;
  c->port.set_rate(c->agents, nc_source_of(c, live), name, rate_bps, has_endgame);
}

static int
nc_compare_lives(const void *a, const void *b)
{
  const NcLive *x = *(NcLive *const *)a, *y = *(NcLive *const *)b;
  return x->item < y->item ? -1 : x->item > y->item;
}

GPtrArray *
nc_lives_under_way(NcController *c)
{
  GPtrArray *lives = g_ptr_array_new();
  GHashTableIter iter;
  gpointer live;

  g_hash_table_iter_init(&iter, c->under_way);
  while (g_hash_table_iter_next(&iter, &live, NULL))
    g_ptr_array_add(lives, live);
  g_ptr_array_sort(lives, nc_compare_lives);
  return lives;
}

void
nc_send_orders(NcController *c)
{
  g_autoptr(GPtrArray) lives = nc_lives_under_way(c);

  nc_budget_divide(nc_traffic_budget(c->traffic));
  for (guint i = 0; i < lives->len; i++) {
    NcLive *live = lives->pdata[i];
    /* It may tell of its progress all the while, and not have heard that it is to be cancelled. */
    int64_t since_us = live->cancel_reason ? live->asked_us : MAX(live->heard_us, live->asked_us);
    if (live->is_to_be_sent)
      nc_send_start(c, live);
    else if (c->now_us - since_us >= nc_ask_every_us(c, live))
      live->cancel_reason && c->now_us >= live->cancel_again_us ? nc_send_cancel(c, live) : nc_ask(c, live);
    nc_tell_rate(c, live);
  }
}
