/* SPDX-License-Identifier: Apache-2.0 */
/* What people ask of the fleet's controller: each is done in the controller's thread. */
#include "agent/fleet_host_internal.h"
#include "agent/fleet_messages.h"
#include "agent/request_log.h"
#include "base/ident.h"
#include "fleetdb/events.h"
#include "fleetdb/groups.h"
#include "fleetdb/migrations.h"

#include <string.h>

/* A request with its idempotency key, which is no part of what is asked for. */
typedef struct {
  NcAsker who;
  json_t *body;
  char *sha256;
} NcFleetWish;

static void
nc_fleet_wish_clear(NcFleetWish *wish)
{
  json_decref(wish->body);
  g_free(wish->sha256);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcFleetWish, nc_fleet_wish_clear)

/* ${op}: what is asked, so that a key does not mean two things. */
static bool
nc_fleet_wish_read(const char *op, const NcFleetAsker *who, json_t *args, NcFleetWish *ret, GError **error)
{
  json_t *key = json_object_get(args, "key");

  *ret = (NcFleetWish){ .body = json_copy(args) };
  json_object_del(ret->body, "key");
  if (key && !json_is_string(key))
    return nc_fail(error, NC_ERROR_INVALID, "\"key\" is to be a text");
  ret->sha256 = nc_request_sha256(op, ret->body);
  ret->who = (NcAsker){
    .actor = who->actor, .owner = who->owner, .key = json_string_value(key), .request_sha256 = key ? ret->sha256 : NULL
  };
  return true;
}

typedef json_t *(*NcFleetAskFunc)(NcController *controller, const NcAsker *who, json_t *body, GError **error);

/* What is recorded with who asked for it. */
static json_t *
nc_fleet_ask(NcFleetHost *host, const char *op, NcFleetAskFunc func, const NcFleetAsker *who, json_t *args,
             GError **error)
{
  g_auto(NcFleetWish) wish = { 0 };
  return nc_fleet_wish_read(op, who, args, &wish, error) ? func(host->controller, &wish.who, wish.body, error) : NULL;
}

static json_t *
nc_fleet_do_migrate(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  return nc_fleet_ask(host, "migrate", nc_controller_migrate, who, args, error);
}

static json_t *
nc_fleet_do_batch(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  return nc_fleet_ask(host, "batch", nc_controller_batch, who, args, error);
}

static json_t *
nc_fleet_do_evacuate(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  return nc_fleet_ask(host, "evacuate", nc_controller_evacuate, who, args, error);
}

static json_t *
nc_fleet_do_plan(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  return nc_controller_plan_evacuation(host->controller, args, error);
}

static json_t *
nc_fleet_do_explain(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  const char *machine = nc_json_string(args, "name", error);
  return machine ? nc_controller_explain(host->controller, machine, error) : NULL;
}

static json_t *
nc_fleet_ask_cordon(NcFleetHost *host, const NcFleetAsker *who, json_t *args, bool is_cordoned, GError **error)
{
  g_auto(NcFleetWish) wish = { 0 };
  const char *node = nc_json_string(args, "node", error);

  return node && nc_fleet_wish_read(is_cordoned ? "cordon" : "uncordon", who, args, &wish, error)
             ? nc_controller_cordon(host->controller, &wish.who, node, is_cordoned, error)
             : NULL;
}

static json_t *
nc_fleet_do_cordon(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  return nc_fleet_ask_cordon(host, who, args, true, error);
}

static json_t *
nc_fleet_do_uncordon(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  return nc_fleet_ask_cordon(host, who, args, false, error);
}

static json_t *
nc_fleet_do_cancel(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  g_auto(NcFleetWish) wish = { 0 };
  const char *id = nc_json_string(args, "id", error), *reason = nc_json_string_or(args, "reason", "cancelled");
  bool also_running = nc_json_bool_or(args, "also_running", false);

  if (!id || !nc_fleet_wish_read("cancel", who, args, &wish, error))
    return NULL;
  if (g_str_has_prefix(id, "eva-"))
    return nc_controller_cancel_evacuation(host->controller, &wish.who, id, also_running, reason, error);
  if (g_str_has_prefix(id, "bat-"))
    return nc_controller_cancel_batch(host->controller, &wish.who, id, also_running, reason, error);
  return nc_controller_cancel(host->controller, &wish.who, id, reason, error);
}

/* --- looking --- */

static json_t *
nc_fleet_do_status(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  NcFleetLease lease;

  if (!nc_fleetdb_look_at_lease(host->db, &lease, error))
    return NULL;
  return json_pack("{s:s, s:b, s:I, s:s, s:s}", "controller", nc_nodes_self(host->side->nodes), "leads",
                   nc_controller_leads(host->controller), "epoch", (json_int_t)lease.epoch, "holder", lease.holder,
                   "address", lease.address);
}

/* args.cursor, args.limit */
static bool
nc_fleet_page(json_t *args, NcPage *ret, GError **error)
{
  int64_t limit = NC_PAGE_USUAL;

  if (json_object_get(args, "limit") && !nc_json_int(args, "limit", 1, NC_PAGE_MOST, &limit, error))
    return false;
  *ret = (NcPage){ .cursor = nc_json_string_or(args, "cursor", NULL), .limit = (unsigned)limit };
  return true;
}

/* ${rows}, ${next}: taken. */
static json_t *
nc_fleet_list(json_t *rows, char *next)
{
  json_t *answer = rows ? json_pack("{s:o, s:s?}", "items", rows, "next", next) : NULL;
  g_free(next);
  return answer;
}

static json_t *
nc_fleet_do_nodes(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  char *next = NULL;
  NcPage page;

  if (!nc_fleet_page(args, &page, error))
    return NULL;
  json_t *rows = nc_fleetdb_list_nodes(host->db, &page, &next, error), *node;
  size_t i;

  json_array_foreach(rows, i, node) nc_controller_say_heard(host->controller, node);
  return nc_fleet_list(rows, next);
}

static json_t *
nc_fleet_do_machines(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  char *next = NULL;
  NcPage page;

  if (!nc_fleet_page(args, &page, error))
    return NULL;
  json_t *rows = nc_fleetdb_list_machines(host->db, nc_json_string_or(args, "node", NULL), &page, &next, error);
  return nc_fleet_list(rows, next);
}

static json_t *
nc_fleet_do_list(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  const NcMoveFilter filter = { .selection = nc_json_bool_or(args, "unfinished", false) ? NC_MOVES_UNFINISHED
                                             : nc_json_bool_or(args, "finished", false) ? NC_MOVES_FINISHED
                                                                                        : NC_MOVES_ALL,
                                .machine = nc_json_string_or(args, "machine", NULL),
                                .node = nc_json_string_or(args, "node", NULL),
                                .batch = nc_json_string_or(args, "batch", NULL),
                                .evacuation = nc_json_string_or(args, "evacuation", NULL),
                                .state = nc_json_string_or(args, "state", NULL) };
  char *next = NULL;
  NcPage page;

  if (!nc_fleet_page(args, &page, error))
    return NULL;
  json_t *rows = nc_fleetdb_list_migrations(host->db, &filter, &page, &next, error);
  return nc_fleet_list(rows, next);
}

/* A batch or an evacuation, with how many of its migrations are in which state. */
static json_t *
nc_fleet_with_counts(NcFleetHost *host, json_t *record, const char *batch, const char *evacuation, GError **error)
{
  nc_autojson json_t *owned = record;
  json_t *counts = record ? nc_fleetdb_count_migrations(host->db, batch, evacuation, error) : NULL;

  if (!counts)
    return NULL;
  json_object_set_new(record, "migrations", counts);
  return g_steal_pointer(&owned);
}

static json_t *
nc_fleet_do_get(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  const char *id = nc_json_string(args, "id", error);

  if (!id)
    return NULL;
  if (g_str_has_prefix(id, "eva-"))
    return nc_fleet_with_counts(host, nc_fleetdb_get_evacuation(host->db, id, error), NULL, id, error);
  if (g_str_has_prefix(id, "bat-"))
    return nc_fleet_with_counts(host, nc_fleetdb_get_batch(host->db, id, error), id, NULL, error);
  if (!nc_controller_leads(host->controller))
    return nc_fleetdb_get_migration(host->db, id, error);
  return nc_controller_describe(host->controller, id, error);
}

static json_t *
nc_fleet_do_move_status(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  nc_autojson json_t *record = nc_fleet_do_get(host, who, args, error);
  return record ? nc_fleet_move_status(record, nc_wall_us()) : NULL;
}

static json_t *
nc_fleet_do_items(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  const char *id = nc_json_string(args, "id", error);
  char *next = NULL;
  NcPage page;

  if (!id || !nc_fleet_page(args, &page, error))
    return NULL;
  nc_autojson json_t *evacuation = nc_fleetdb_get_evacuation(host->db, id, error); /* or there is none */
  if (!evacuation)
    return NULL;
  json_t *rows = nc_fleetdb_list_items(host->db, id, &page, &next, error);
  return nc_fleet_list(rows, next);
}

static json_t *
nc_fleet_do_evacuations(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  char *next = NULL;
  NcPage page;

  if (!nc_fleet_page(args, &page, error))
    return NULL;
  json_t *rows = nc_fleetdb_list_evacuations(host->db, nc_json_bool_or(args, "unfinished", false), &page, &next, error);
  return nc_fleet_list(rows, next);
}

static json_t *
nc_fleet_do_batches(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  char *next = NULL;
  NcPage page;

  if (!nc_fleet_page(args, &page, error))
    return NULL;
  json_t *rows = nc_fleetdb_list_batches(host->db, &page, &next, error);
  return nc_fleet_list(rows, next);
}

/* Behind the event ${after}; if that is left out, the last ${limit}. */
static json_t *
nc_fleet_do_events(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  int64_t after = 0, limit = NC_PAGE_USUAL;
  uint64_t oldest, newest;
  bool is_first = !json_object_get(args, "after");

  if ((!is_first && !nc_json_int(args, "after", 0, INT64_MAX, &after, error)) ||
      (json_object_get(args, "limit") && !nc_json_int(args, "limit", 1, NC_PAGE_MOST, &limit, error)) ||
      !nc_fleetdb_event_range(host->db, &oldest, &newest, error))
    return NULL;
  if (is_first)
    after = newest > (uint64_t)limit ? (int64_t)(newest - (uint64_t)limit) : 0;
  json_t *events = nc_fleetdb_list_events(host->db, (uint64_t)after, nc_json_string_or(args, "migration", NULL),
                                          (unsigned)limit, error);
  return events
             ? json_pack("{s:o, s:I, s:I}", "items", events, "oldest", (json_int_t)oldest, "newest", (json_int_t)newest)
             : NULL;
}

#define LOOK(name_, ...)                                                                                               \
  {                                                                                                                    \
    .op = "fleet." #name_, .func = nc_fleet_do_##name_, .by = __VA_ARGS__                                              \
  }
#define CHANGE(name_, ...)                                                                                             \
  {                                                                                                                    \
    .op = "fleet." #name_, .func = nc_fleet_do_##name_, .by = NC_FLEET_BY_LEADER, .role = NC_ROLE_OPERATOR, __VA_ARGS__         \
  }

const NcFleetOp nc_fleet_ops[NC_FLEET_OPS] = {
  LOOK(status, NC_FLEET_BY_ANY),
  LOOK(nodes, NC_FLEET_BY_ANY),
  LOOK(machines, NC_FLEET_BY_ANY),
  LOOK(list, NC_FLEET_BY_ANY),
  LOOK(items, NC_FLEET_BY_ANY),
  LOOK(evacuations, NC_FLEET_BY_ANY),
  LOOK(batches, NC_FLEET_BY_ANY),
  LOOK(events, NC_FLEET_BY_ANY),
  LOOK(get, NC_FLEET_BY_BETTER),
  LOOK(move_status, NC_FLEET_BY_BETTER),
  LOOK(explain, NC_FLEET_BY_LEADER),
  LOOK(watch, NC_FLEET_BY_BETTER, .is_watch = true),
  { .op = "fleet.plan", .func = nc_fleet_do_plan, .by = NC_FLEET_BY_LEADER, .is_long = true },
  CHANGE(migrate),
  CHANGE(batch, .is_long = true),
  CHANGE(evacuate, .is_long = true),
  CHANGE(cordon),
  CHANGE(uncordon),
  CHANGE(cancel),
};
