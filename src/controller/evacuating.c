/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Evacuations under way: what is left of the plan becomes migrations, some of them with each step, so that no write is
 * long. Killed in between, the next leader finds which items have none yet. An evacuation has ended when nothing is
 * left that could still leave its nodes.
 */
#include "controller/controller_internal.h"
#include "base/ident.h"

#define NC_SUBMIT_AT_ONCE 100u

void
nc_pending_free(gpointer data)
{
  NcPending *pending = data;
  g_free(pending->machine);
  g_free(pending->destination);
  g_free(pending);
}

void
nc_evacuating_free(gpointer data)
{
  NcEvacuating *e = data;
  g_free(e->id);
  g_strfreev(e->nodes);
  nc_wish_clear(&e->wish);
  g_ptr_array_unref(e->pending);
  g_free(e);
}

NcEvacuating *
nc_evacuating_add(NcController *c, const char *id, json_t *nodes, json_t *saved_wish)
{
  NcEvacuating *e = g_new0(NcEvacuating, 1);
  g_autofree const char **names = nc_texts(nodes);

  e->id = g_strdup(id);
  e->nodes = g_strdupv((char **)names);
  e->group = nc_group_of(c, id);
  e->pending = g_ptr_array_new_with_free_func(nc_pending_free);
  nc_wish_load(saved_wish, &e->wish);
  g_hash_table_insert(c->evacuations, e->id, e);
  return e;
}

/* --- from the plan into the queue --- */

/* What became of some items. */
typedef struct {
  NcController *c;
  const NcEvacuating *e;
  const char *actor;
  GPtrArray *items;   /* NcPending, borrowed */
  GPtrArray *lives;   /* NcLive, borrowed; NULL: ... */
  GPtrArray *reasons; /* ... why not, owned */
} NcSubmission;

static bool
nc_write_evacuated(NcFleetDb *db, gpointer data, GError **error)
{
  const NcSubmission *s = data;

  if (!s->e->has_begun && !nc_fleetdb_set_evacuation(db, s->e->id, "running", NULL, error))
    return false;
  for (guint i = 0; i < s->items->len; i++) {
    const NcLive *live = s->lives->pdata[i];
    const NcPending *pending = s->items->pdata[i];
    const char *reason = s->reasons->pdata[i];
    if ((live && !nc_write_submission(s->c, db, live, s->actor, error)) ||
        !(pending->is_gone
              ? nc_fleetdb_set_item_gone(db, s->e->id, pending->machine, reason, error)
              : nc_fleetdb_set_item(db, s->e->id, pending->machine, live ? live->id : NULL, reason, error)))
      return false;
  }
  return true;
}

/* To the place of the plan, with its room kept; or, if that is gone, wherever there is one when its turn has come. */
static uint64_t
nc_submit_evacuated(NcController *c, NcLive *live, uint32_t machine, const char *destination, GError **error)
{
  uint32_t node = destination ? nc_fleet_find_node(c->fleet, destination) : NC_FLEET_NONE;

  live->wish.is_wish = true;
  if (node != NC_FLEET_NONE) {
    live->wish.reserve = true;
    live->wish.destination = g_strdup(destination);
    const NcRequest request = nc_request_of(c, live, machine, node);
    uint64_t item = nc_queue_submit(c->queue, &request, c->now_us, NULL);
    if (item > 0)
      return item;
  }
  live->wish.reserve = false;
  g_clear_pointer(&live->wish.destination, g_free);
  const NcRequest request = nc_request_of(c, live, machine, NC_FLEET_NONE);
  return nc_queue_submit(c->queue, &request, c->now_us, error);
}

/* NULL with *ret_reason: it has none. */
static NcLive *
nc_live_of_evacuated(NcController *c, const NcEvacuating *e, uint32_t machine, const NcPending *pending,
                     char **ret_reason)
{
  g_autoptr(GError) error = NULL;
  NcLive *live = g_new0(NcLive, 1);
  const NcWish *wish = &e->wish;

  live->id = nc_id_new("mig");
  live->machine = g_strdup(pending->machine);
  live->batch = g_strdup("");
  live->evacuation = g_strdup(e->id);
  live->wish =
      (NcWish){ .priority = wish->has_priority ? wish->priority : nc_fleet_machine(c->fleet, machine)->priority,
                .qos = wish->qos,
                .limit_bps = wish->limit_bps,
                .retry_attempts = wish->retry_attempts,
                .settings = json_incref(wish->settings) };
  live->item = nc_submit_evacuated(c, live, machine, pending->destination, &error);
  if (live->item == 0) {
    *ret_reason = g_strdup(error->message);
    nc_live_free(live);
    return NULL;
  }
  nc_live_add(c, live);
  return live;
}

/* Why ${machine} need not be moved any more; NULL: it is still there. Caller frees. */
static char *
nc_why_gone(NcController *c, const NcEvacuating *e, uint32_t machine)
{
  if (machine == NC_FLEET_NONE)
    return g_strdup("it is on no node any more");
  const char *node = nc_fleet_node(c->fleet, nc_fleet_machine(c->fleet, machine)->node)->name;
  return g_strv_contains((const char *const *)e->nodes, node) ? NULL
                                                              : g_strdup_printf("it is on node \"%s\" already", node);
}

static void
nc_submit_pending(NcSubmission *s, NcPending *pending)
{
  NcController *c = s->c;
  uint32_t machine = nc_fleet_find_machine(c->fleet, pending->machine);
  char *reason = nc_why_gone(c, s->e, machine);
  NcLive *live = NULL;

  pending->is_gone = reason != NULL;

  if (!reason && nc_queue_item_of(c->queue, machine)) /* another migration of it: how that ends decides */
    return;
  if (!reason)
    live = nc_live_of_evacuated(c, s->e, machine, pending, &reason);
  pending->is_done = true;
  g_ptr_array_add(s->items, pending);
  g_ptr_array_add(s->lives, live);
  g_ptr_array_add(s->reasons, reason);
}

static void
nc_drop_done(NcEvacuating *e)
{
  for (guint i = e->pending->len; i-- > 0;)
    if (((NcPending *)e->pending->pdata[i])->is_done)
      g_ptr_array_remove_index(e->pending, i);
}

static bool
nc_submit_some(NcController *c, NcEvacuating *e, GError **error)
{
  g_autoptr(GPtrArray) items = g_ptr_array_new(), lives = g_ptr_array_new(),
                       reasons = g_ptr_array_new_with_free_func(g_free);
  g_autofree char *actor = g_strdup_printf("evacuation:%s", e->id);
  NcSubmission s = { .c = c, .e = e, .actor = actor, .items = items, .lives = lives, .reasons = reasons };

  for (guint i = 0; i < e->pending->len && items->len < NC_SUBMIT_AT_ONCE; i++)
    nc_submit_pending(&s, e->pending->pdata[i]);
  if ((items->len > 0 || !e->has_begun) && !nc_flush(c, nc_write_evacuated, &s, error))
    return false;
  e->has_begun = true;
  nc_drop_done(e);
  return true;
}

/* --- the end --- */

/* Machines on its nodes; *ret_may_leave: something that is in the queue may still leave, or come to, one of them. */
static unsigned
nc_count_left(NcController *c, const NcEvacuating *e, bool *ret_may_leave, GString *names)
{
  unsigned left = 0;

  for (char **name = e->nodes; *name; name++) {
    uint32_t node = nc_fleet_find_node(c->fleet, *name);
    if (node == NC_FLEET_NONE)
      continue;
    *ret_may_leave |= nc_queue_incoming(c->queue, node) > 0;
    for (uint32_t m = nc_fleet_node(c->fleet, node)->first_machine; m != NC_FLEET_NONE;
         m = nc_fleet_machine(c->fleet, m)->next) {
      *ret_may_leave |= nc_queue_item_of(c->queue, m) != NULL;
      if (left++ < 3)
        g_string_append_printf(names, "%s%s", names->len > 0 ? ", " : "", nc_fleet_machine(c->fleet, m)->name);
    }
  }
  return left;
}

typedef struct {
  const NcEvacuating *e;
  const char *state, *reason;
} NcEvacuationEnd;

static bool
nc_write_evacuation_end(NcFleetDb *db, gpointer data, GError **error)
{
  const NcEvacuationEnd *end = data;

  for (char **node = end->e->nodes; *node; node++) {
    g_autoptr(GError) problem = NULL;
    if (nc_fleetdb_set_cordoned(db, *node, true, "", &problem) ||
        g_error_matches(problem, NC_ERROR, NC_ERROR_NOT_FOUND))
      continue; /* one that was removed meanwhile is empty, too */
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
  }
  return nc_fleetdb_set_evacuation(db, end->e->id, end->state, end->reason, error);
}

static bool
nc_end_if_over(NcController *c, NcEvacuating *e, GError **error)
{
  g_autoptr(GString) names = g_string_new(NULL);
  bool may_leave = false;
  unsigned left = nc_count_left(c, e, &may_leave, names);
  g_autofree char *reason = NULL;

  if (may_leave && !e->is_cancelling)
    return true;
  if (left > 0 && !e->is_cancelling)
    reason = g_strdup_printf(
        "%u machines are still there (%s%s): the items of the evacuation and their migrations say why; ask "
        "for it once more to go on",
        left, names->str, left > 3 ? ", ..." : "");
  NcEvacuationEnd end = { e, e->is_cancelling ? "cancelled" : left > 0 ? "failed" : "completed", reason };
  if (!nc_flush(c, nc_write_evacuation_end, &end, error))
    return false;
  g_hash_table_remove(c->evacuations, e->id);
  return true;
}

static bool
nc_advance(NcController *c, NcEvacuating *e, GError **error)
{
  if (!e->is_cancelling && !nc_submit_some(c, e, error))
    return false;
  return e->live > 0 || e->pending->len > 0 || nc_end_if_over(c, e, error);
}

bool
nc_advance_evacuations(NcController *c, GError **error)
{
  g_autoptr(GPtrArray) all = g_ptr_array_new();
  GHashTableIter iter;
  gpointer e;

  g_hash_table_iter_init(&iter, c->evacuations);
  while (g_hash_table_iter_next(&iter, NULL, &e))
    g_ptr_array_add(all, e);
  for (guint i = 0; i < all->len; i++) /* if one fails, all are gone with the model */
    if (!nc_advance(c, all->pdata[i], error))
      return false;
  return true;
}
