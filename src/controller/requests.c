/* SPDX-License-Identifier: Apache-2.0 */
/* One migration, cordons, and what all requests have in common. */
#include "controller/controller_internal.h"
#include "base/ident.h"

#include <string.h>

/* --- keys --- */

static NcIdempotencyKey
nc_key_of(const NcAsker *who)
{
  return (NcIdempotencyKey){ .actor = who->owner ? who->owner : who->actor,
                             .key = who->key,
                             .request_sha256 = who->request_sha256 ? who->request_sha256 : "" };
}

bool
nc_find_answer(NcController *c, const NcAsker *who, json_t **ret_answer, GError **error)
{
  const NcIdempotencyKey key = nc_key_of(who);
  nc_autojson json_t *kept = NULL;

  *ret_answer = NULL;
  if (!nc_controller_is_ready(c, error))
    return false;
  /* Outside of a write: as long as this one leads, nobody else keeps answers; if it does not any more, its own write
   * will fail.
   */
  if (who->key && !nc_fleetdb_find_answer(c->db, &key, &kept, error))
    return false;
  *ret_answer = json_incref(json_object_get(kept, "answer"));
  return true;
}

bool
nc_keep_answer(NcFleetDb *db, const NcAsker *who, json_t *answer, GError **error)
{
  const NcIdempotencyKey key = nc_key_of(who);
  return !who->key || nc_fleetdb_keep_answer(db, &key, 202, answer, error);
}

bool
nc_check_reason(const char *reason, GError **error)
{
  size_t length = reason ? strlen(reason) : 0;
  return (length > 0 && length <= NC_MOST_REASON_BYTES && g_utf8_validate(reason, -1, NULL)) ||
         nc_fail(error, NC_ERROR_INVALID, "a reason is 1 to %u bytes of UTF-8", NC_MOST_REASON_BYTES);
}

/* --- one migration --- */

bool
nc_resolve_wish(NcController *c, NcWish *wish, uint32_t *ret_machine, uint32_t *ret_destination, GError **error)
{
  *ret_destination = NC_FLEET_NONE;
  if (!wish->machine)
    return nc_fail(error, NC_ERROR_INVALID, "\"machine\" is missing: which one is to move?");
  *ret_machine = nc_fleet_find_machine(c->fleet, wish->machine);
  if (*ret_machine == NC_FLEET_NONE)
    return nc_fail(error, NC_ERROR_NOT_FOUND, "no node of the fleet has a machine \"%s\"", wish->machine);
  if (!wish->has_priority)
    wish->priority = nc_fleet_machine(c->fleet, *ret_machine)->priority;
  if (wish->destination)
    *ret_destination = nc_fleet_find_node(c->fleet, wish->destination);
  return !wish->destination || *ret_destination != NC_FLEET_NONE ||
         nc_fail(error, NC_ERROR_NOT_FOUND, "the fleet has no node \"%s\"", wish->destination);
}

bool
nc_write_submission(NcController *c, NcFleetDb *db, const NcLive *live, const char *actor, GError **error)
{
  const NcItem *item = nc_queue_item(c->queue, live->item);
  nc_autojson json_t *saved = nc_wish_save(&live->wish);
  const NcMoveRequest request = { .id = live->id,
                                  .machine = live->machine,
                                  .source = nc_fleet_node(c->fleet, item->from)->name,
                                  .destination = live->wish.destination,
                                  .priority = live->wish.priority,
                                  .batch = live->batch,
                                  .evacuation = live->evacuation,
                                  .actor = actor,
                                  .submitted_us = item->submitted_us,
                                  .request = saved };

  return (saved || nc_fail(error, NC_ERROR_INVALID, "what is asked for %s can't be written as JSON", live->machine)) &&
         nc_fleetdb_submit(db, &request, error);
}

typedef struct {
  NcController *c;
  const NcAsker *who;
  const NcLive *live;
  json_t *answer;
} NcMigrate;

static bool
nc_write_migrate(NcFleetDb *db, gpointer data, GError **error)
{
  const NcMigrate *m = data;
  return nc_write_submission(m->c, db, m->live, m->who->actor, error) && nc_keep_answer(db, m->who, m->answer, error);
}

/* Puts ${wish}, which is emptied, into the queue; NULL on error. */
static NcLive *
nc_submit_one(NcController *c, NcWish *wish, GError **error)
{
  uint32_t machine, destination;

  if (!nc_resolve_wish(c, wish, &machine, &destination, error))
    return NULL;
  NcLive *live = g_new0(NcLive, 1);
  live->id = nc_id_new("mig");
  live->machine = g_strdup(wish->machine);
  live->batch = g_strdup("");
  live->evacuation = g_strdup("");
  live->wish = *wish;
  *wish = (NcWish){ 0 };
  const NcRequest request = nc_request_of(c, live, machine, destination);
  live->item = nc_queue_submit(c->queue, &request, c->now_us, error);
  if (live->item == 0) {
    nc_live_free(live);
    return NULL;
  }
  nc_live_add(c, live);
  return live;
}

json_t *
nc_controller_migrate(NcController *c, const NcAsker *who, json_t *body, GError **error)
{
  g_auto(NcWish) wish = { 0 };
  json_t *before;

  if (!nc_find_answer(c, who, &before, error) || before || !nc_wish_read(body, NULL, &wish, error))
    return before;
  NcLive *live = nc_submit_one(c, &wish, error);
  if (!live)
    return NULL;
  nc_autojson json_t *answer =
      json_pack("{s:s, s:s, s:s}", "id", live->id, "machine", live->machine, "state", "queued");
  NcMigrate m = { c, who, live, answer };
  return nc_flush(c, nc_write_migrate, &m, error) ? g_steal_pointer(&answer) : NULL;
}

/* --- cordons --- */

typedef struct {
  const NcAsker *who;
  const char *node;
  bool is_cordoned;
  json_t *answer;
} NcCordon;

static bool
nc_write_cordon(NcFleetDb *db, gpointer data, GError **error)
{
  const NcCordon *cordon = data;
  return nc_fleetdb_set_cordoned(db, cordon->node, cordon->is_cordoned, NULL, error) &&
         nc_keep_answer(db, cordon->who, cordon->answer, error);
}

static const NcEvacuating *
nc_evacuation_of(NcController *c, const char *node)
{
  GHashTableIter iter;
  NcEvacuating *e;

  g_hash_table_iter_init(&iter, c->evacuations);
  while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&e))
    if (g_strv_contains((const char *const *)e->nodes, node))
      return e;
  return NULL;
}

json_t *
nc_controller_cordon(NcController *c, const NcAsker *who, const char *node, bool is_cordoned, GError **error)
{
  json_t *before;

  if (!nc_find_answer(c, who, &before, error) || before)
    return before;
  uint32_t number = nc_fleet_find_node(c->fleet, node);
  const NcEvacuating *e = nc_evacuation_of(c, node);
  if (number == NC_FLEET_NONE) {
    nc_fail(error, NC_ERROR_NOT_FOUND, "the fleet has no node \"%s\"", node);
    return NULL;
  }
  if (!is_cordoned && e) {
    nc_fail(error, NC_ERROR_CONFLICT, "node \"%s\" is being evacuated (%s): cancel that first", node, e->id);
    return NULL;
  }
  nc_autojson json_t *answer = json_pack("{s:s, s:b}", "node", node, "is_cordoned", is_cordoned);
  NcCordon cordon = { who, node, is_cordoned, answer };
  if (!nc_flush(c, nc_write_cordon, &cordon, error))
    return NULL;
  nc_fleet_set_cordoned(c->fleet, number, is_cordoned);
  if (!is_cordoned)
    nc_queue_room_changed(c->queue, number);
  return g_steal_pointer(&answer);
}
