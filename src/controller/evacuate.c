/* SPDX-License-Identifier: Apache-2.0 */
/* Evacuations: the plan, and the record of it. What follows is evacuating.c. */
#include "controller/controller_internal.h"
#include "base/ident.h"
#include "fleet/evacuation.h"

/* What is asked for. */
typedef struct {
  NcWish wish;
  bool allow_partial;
  uint32_t *nodes;
  size_t count;
} NcEvacuateWish;

static void
nc_evacuate_wish_clear(NcEvacuateWish *wish)
{
  nc_wish_clear(&wish->wish);
  g_free(wish->nodes);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcEvacuateWish, nc_evacuate_wish_clear)

static bool
nc_read_nodes(NcController *c, json_t *body, NcEvacuateWish *ret, GError **error)
{
  json_t *nodes = json_object_get(body, "nodes");
  size_t count = json_array_size(nodes);

  if (count == 0 || count > NC_CONTROLLER_MOST_NODES)
    return nc_fail(error, NC_ERROR_INVALID, "\"nodes\" is to be 1 to %u names of nodes", NC_CONTROLLER_MOST_NODES);
  ret->nodes = g_new0(uint32_t, count);
  for (ret->count = 0; ret->count < count; ret->count++) {
    const char *name = json_string_value(json_array_get(nodes, ret->count));
    uint32_t node = name ? nc_fleet_find_node(c->fleet, name) : NC_FLEET_NONE;
    if (node == NC_FLEET_NONE)
      return nc_fail(error, NC_ERROR_NOT_FOUND, "the fleet has no node \"%s\"", name ? name : "");
    for (size_t i = 0; i < ret->count; i++)
      if (ret->nodes[i] == node)
        return nc_fail(error, NC_ERROR_INVALID, "node \"%s\" is named twice", name);
    ret->nodes[ret->count] = node;
  }
  return true;
}

static bool
nc_read_evacuate(NcController *c, json_t *body, NcEvacuateWish *ret, GError **error)
{
  static const char *const others[] = { "nodes", "allow_partial", NULL };
  json_t *partial = json_object_get(body, "allow_partial");

  if (!nc_wish_read(body, others, &ret->wish, error))
    return false;
  if (ret->wish.machine || ret->wish.destination || ret->wish.is_wish)
    return nc_fail(error, NC_ERROR_INVALID, "an evacuation is of nodes, and chooses the destinations itself");
  if (partial && !json_is_boolean(partial))
    return nc_fail(error, NC_ERROR_INVALID, "\"allow_partial\" is to be true or false");
  ret->allow_partial = json_is_true(partial);
  return nc_read_nodes(c, body, ret, error);
}

/* --- the plan, in words --- */

static json_t *
nc_describe_move(NcController *c, const NcPlannedMove *move)
{
  return json_pack("{s:s, s:s, s:s, s:i, s:f, s:f, s:f, s:b}", "machine",
                   nc_fleet_machine(c->fleet, move->machine)->name, "source", nc_fleet_node(c->fleet, move->from)->name,
                   "destination", nc_fleet_node(c->fleet, move->to)->name, "wave", (int)move->wave, "seconds",
                   move->seconds, "pause_s", move->pause_s, "wire_bytes", move->wire_bytes, "postcopy", move->postcopy);
}

static json_t *
nc_describe_plan(NcController *c, const NcEvacuation *plan)
{
  json_t *nodes = json_array(), *moves = json_array(), *stuck = json_array(), *waves = json_array();

  for (size_t i = 0; i < plan->node_count; i++)
    json_array_append_new(nodes, json_string(nc_fleet_node(c->fleet, plan->nodes[i])->name));
  for (guint i = 0; i < plan->moves->len; i++)
    json_array_append_new(moves, nc_describe_move(c, &g_array_index(plan->moves, NcPlannedMove, i)));
  for (guint i = 0; i < plan->stuck->len; i++) {
    const NcStuckMachine *s = &g_array_index(plan->stuck, NcStuckMachine, i);
    json_array_append_new(
        stuck, json_pack("{s:s, s:s}", "machine", nc_fleet_machine(c->fleet, s->machine)->name, "reason", s->reason));
  }
  for (guint i = 0; i < plan->waves->len; i++) {
    const NcPlannedWave *w = &g_array_index(plan->waves, NcPlannedWave, i);
    json_array_append_new(waves, json_pack("{s:i, s:f, s:f, s:f, s:f}", "moves", (int)w->moves, "seconds", w->seconds,
                                           "memory_bytes", w->memory_bytes, "wire_bytes", w->wire_bytes, "pause_s",
                                           w->pause_s));
  }
  return json_pack("{s:o, s:o, s:o, s:o, s:f, s:b, s:b}", "nodes", nodes, "moves", moves, "cannot_move", stuck, "waves",
                   waves, "seconds", plan->seconds, "is_at_least", plan->is_at_least, "empties", plan->stuck->len == 0);
}

static NcEvacuation *
nc_make_plan(NcController *c, const NcEvacuateWish *wish)
{
  json_t *settings = wish->wish.settings;
  const NcEvacuationTerms terms = { .limits = &c->options.limits,
                                    .reserve_percent = c->options.reserve_percent,
                                    .qos = wish->wish.qos,
                                    .limit_bps = wish->wish.limit_bps,
                                    .max_downtime_s = (double)nc_json_int_or(settings, "max_downtime_ms", 0) / 1000,
                                    .excludes_postcopy = g_str_equal(nc_json_string_or(settings, "algorithm", ""), "pre-copy") };

  return nc_evacuation_plan(c->fleet, &terms, wish->nodes, wish->count);
}

json_t *
nc_controller_plan_evacuation(NcController *c, json_t *body, GError **error)
{
  g_auto(NcEvacuateWish) wish = { 0 };

  if (!nc_controller_is_ready(c, error) || !nc_read_evacuate(c, body, &wish, error))
    return NULL;
  g_autoptr(NcEvacuation) plan = nc_make_plan(c, &wish);
  return nc_describe_plan(c, plan);
}

/* --- the record --- */

typedef struct {
  NcController *c;
  const NcAsker *who;
  const NcEvacuation *plan;
  const char *id;
  const char *refusal; /* NULL: it begins */
  json_t *answer, *detail;
} NcEvacuate;

static NcEvacuationItem *
nc_items_of(const NcEvacuate *e)
{
  const NcFleet *fleet = e->c->fleet;
  guint moves = e->plan->moves->len, stuck = e->plan->stuck->len;
  NcEvacuationItem *items = g_new0(NcEvacuationItem, MAX(moves + stuck, 1));

  for (guint i = 0; i < moves; i++) {
    const NcPlannedMove *move = &g_array_index(e->plan->moves, NcPlannedMove, i);
    items[i] = (NcEvacuationItem){ .machine = nc_fleet_machine(fleet, move->machine)->name,
                                   .source = nc_fleet_node(fleet, move->from)->name,
                                   .destination = nc_fleet_node(fleet, move->to)->name,
                                   .wave = move->wave,
                                   .reason = e->refusal };
  }
  for (guint i = 0; i < stuck; i++) {
    const NcStuckMachine *s = &g_array_index(e->plan->stuck, NcStuckMachine, i);
    const NcMachine *m = nc_fleet_machine(fleet, s->machine);
    items[moves + i] =
        (NcEvacuationItem){ .machine = m->name, .source = nc_fleet_node(fleet, m->node)->name, .reason = s->reason };
  }
  return items;
}

static bool
nc_write_evacuate(NcFleetDb *db, gpointer data, GError **error)
{
  const NcEvacuate *e = data;
  g_autofree NcEvacuationItem *items = nc_items_of(e);
  g_autofree const char **nodes = nc_texts(json_object_get(json_object_get(e->answer, "plan"), "nodes"));
  const NcEvacuationRecord record = { .id = e->id,
                                      .nodes = nodes,
                                      .actor = e->who->actor,
                                      .detail = e->detail,
                                      .items = items,
                                      .count = e->plan->moves->len + e->plan->stuck->len };

  if (!nc_fleetdb_add_evacuation(db, &record, error))
    return false;
  if (e->refusal && !nc_fleetdb_set_evacuation(db, e->id, "failed", e->refusal, error))
    return false;
  for (size_t i = 0; !e->refusal && nodes[i]; i++)
    if (!nc_fleetdb_set_cordoned(db, nodes[i], true, e->id, error))
      return false;
  return nc_keep_answer(db, e->who, e->answer, error);
}

/* It is recorded: the model has it, too. */
static void
nc_begin_evacuating(NcController *c, const NcEvacuate *e)
{
  NcEvacuating *evacuating = nc_evacuating_add(c, e->id, json_object_get(json_object_get(e->answer, "plan"), "nodes"),
                                               json_object_get(e->detail, "request"));

  for (size_t i = 0; i < e->plan->node_count; i++)
    nc_fleet_set_cordoned(c->fleet, e->plan->nodes[i], true);
  for (guint i = 0; i < e->plan->moves->len; i++) {
    const NcPlannedMove *move = &g_array_index(e->plan->moves, NcPlannedMove, i);
    NcPending *pending = g_new0(NcPending, 1);
    pending->machine = g_strdup(nc_fleet_machine(c->fleet, move->machine)->name);
    pending->destination = g_strdup(nc_fleet_node(c->fleet, move->to)->name);
    g_ptr_array_add(evacuating->pending, pending);
  }
}

static bool
nc_check_not_evacuated(NcController *c, const NcEvacuateWish *wish, GError **error)
{
  GHashTableIter iter;
  NcEvacuating *e;

  g_hash_table_iter_init(&iter, c->evacuations);
  while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&e)) {
    for (size_t i = 0; i < wish->count; i++) {
      const char *node = nc_fleet_node(c->fleet, wish->nodes[i])->name;
      if (g_strv_contains((const char *const *)e->nodes, node))
        return nc_fail(error, NC_ERROR_CONFLICT,
                       "node \"%s\" is being evacuated already (%s): wait for that, or cancel it", node, e->id);
    }
  }
  return true;
}

json_t *
nc_controller_evacuate(NcController *c, const NcAsker *who, json_t *body, GError **error)
{
  g_auto(NcEvacuateWish) wish = { 0 };
  json_t *before;

  if (!nc_find_answer(c, who, &before, error) || before || !nc_read_evacuate(c, body, &wish, error) ||
      !nc_check_not_evacuated(c, &wish, error))
    return before;
  g_autoptr(NcEvacuation) plan = nc_make_plan(c, &wish);
  g_autofree char *id = nc_id_new("eva"), *refusal = NULL;
  if (plan->stuck->len > 0 && !wish.allow_partial)
    refusal = g_strdup_printf(
        "%u of its machines can't move, so none was moved: see their reasons, or allow a partial evacuation",
        plan->stuck->len);
  nc_autojson json_t *answer = json_pack("{s:s, s:s, s:o}", "id", id, "state", refusal ? "failed" : "planned", "plan",
                                         nc_describe_plan(c, plan));
  nc_autojson json_t *detail = json_pack("{s:o, s:b, s:f}", "request", nc_wish_save(&wish.wish), "allow_partial",
                                         wish.allow_partial, "planned_seconds", plan->seconds);
  NcEvacuate e = { .c = c, .who = who, .plan = plan, .id = id, .refusal = refusal, .answer = answer, .detail = detail };
  if (!nc_flush(c, nc_write_evacuate, &e, error))
    return NULL;
  if (!refusal)
    nc_begin_evacuating(c, &e);
  return g_steal_pointer(&answer);
}
