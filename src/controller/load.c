/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model, made from the database.
 *
 * What is known there need not fit together any more: a node was reported with less memory than its machines have, or a
 * machine of a migration under way is nowhere. Nothing is left out for that. A node's capacity is at least what is on
 * it and on its way to it (and the model is made anew when that may have become less); what is missing is added, empty,
 * and away. Machines of migrations under way are where these begin, whatever was seen since: they move in the model
 * when the migration ends.
 */
#include "controller/controller_internal.h"
#include "base/ident.h"
#include "base/log.h"
#include "fleet/disk_room.h"

#include <math.h>

/* --- reading --- */

typedef json_t *(*NcListFunc)(NcController *c, const NcPage *page, char **ret_next, GError **error);

static json_t *
nc_list_nodes(NcController *c, const NcPage *page, char **ret_next, GError **error)
{
  return nc_fleetdb_list_nodes(c->db, page, ret_next, error);
}

static json_t *
nc_list_machines(NcController *c, const NcPage *page, char **ret_next, GError **error)
{
  return nc_fleetdb_list_machines(c->db, NULL, page, ret_next, error);
}

static json_t *
nc_list_unfinished(NcController *c, const NcPage *page, char **ret_next, GError **error)
{
  const NcMoveFilter filter = { .selection = NC_MOVES_UNFINISHED, .is_oldest_first = true };
  return nc_fleetdb_list_migrations(c->db, &filter, page, ret_next, error);
}

static json_t *
nc_list_evacuations(NcController *c, const NcPage *page, char **ret_next, GError **error)
{
  return nc_fleetdb_list_evacuations(c->db, true, page, ret_next, error);
}

/* All pages; a new reference. */
static json_t *
nc_read_pages(NcController *c, NcListFunc list, GError **error)
{
  nc_autojson json_t *all = json_array();
  g_autofree char *cursor = NULL;

  do {
    const NcPage page = { .cursor = cursor, .limit = NC_PAGE_MOST };
    char *next = NULL;
    nc_autojson json_t *rows = list(c, &page, &next, error);
    if (!rows)
      return NULL;
    json_array_extend(all, rows);
    g_free(cursor);
    cursor = next;
  } while (cursor);
  return g_steal_pointer(&all);
}

static uint64_t
nc_count(json_t *row, const char *key)
{
  return (uint64_t)MAX(nc_json_int_or(row, key, 0), 0);
}

static NcRoom
nc_room_of(json_t *row)
{
  return (NcRoom){ .memory_bytes = nc_count(row, "memory_bytes"),
                   .disk_bytes = nc_count(row, "disk_bytes"),
                   .cpus = nc_count(row, "cpus") };
}

const char **
nc_texts(json_t *array)
{
  GPtrArray *texts = g_ptr_array_new();
  size_t i;
  json_t *value;

  json_array_foreach(array, i, value)
  {
    if (json_is_string(value))
      g_ptr_array_add(texts, (gpointer)json_string_value(value));
  }
  g_ptr_array_add(texts, NULL);
  return (const char **)g_ptr_array_free(texts, FALSE);
}

static double
nc_measure(json_t *detail, const char *key, double least, double most, double fallback)
{
  double value = json_number_value(json_object_get(detail, key));
  return json_is_number(json_object_get(detail, key)) && isfinite(value) ? CLAMP(value, least, most) : fallback;
}

NcGuest
nc_guest_of(json_t *detail, uint64_t memory_bytes)
{
  double memory = MAX((double)memory_bytes, 1);

  return (NcGuest){ .content_bytes = nc_measure(detail, "content_bytes", 0, memory, memory),
                    .dirty_bps = nc_measure(detail, "dirty_bps", 0, 1e12, 0),
                    .working_set_bytes = nc_measure(detail, "working_set_bytes", 0, memory, memory),
                    .ratio = nc_measure(detail, "ratio", 0.1, 1000, 1),
                    .max_downtime_s = nc_measure(detail, "max_downtime_s", 0.001, 2000, 0.3),
                    .may_postcopy = nc_json_bool_or(detail, "may_postcopy", true) };
}

/* --- what there is --- */

typedef struct {
  GHashTable *room;    /* name of a node to NcRoom, owned: what is on it, or on its way to it */
  GHashTable *sources; /* machine to node: where those under way begin */
} NcLoad;

static void
nc_add_room(NcLoad *load, const char *node, const NcRoom *need)
{
  NcRoom *room = g_hash_table_lookup(load->room, node);

  if (!room) {
    room = g_new0(NcRoom, 1);
    g_hash_table_insert(load->room, g_strdup(node), room);
  }
  room->memory_bytes += need->memory_bytes;
  room->disk_bytes += need->disk_bytes;
  room->cpus += need->cpus;
}

static bool
nc_is_started(json_t *migration)
{
  const char *state = nc_json_string_or(migration, "state", "");
  return g_str_equal(state, "starting") || g_str_equal(state, "running");
}

/* Where the model has this machine. */
static const char *
nc_place_of(const NcLoad *load, json_t *machine)
{
  const char *source = g_hash_table_lookup(load->sources, nc_json_string_or(machine, "name", ""));
  return source ? source : nc_json_string_or(machine, "node", "");
}

static void
nc_count_room(NcLoad *load, json_t *machines, json_t *migrations)
{
  g_autoptr(GHashTable) destinations = g_hash_table_new(g_str_hash, g_str_equal);
  size_t i;
  json_t *row;

  json_array_foreach(migrations, i, row)
  {
    if (!nc_is_started(row))
      continue;
    const char *machine = nc_json_string_or(row, "machine", "");
    g_hash_table_insert(load->sources, g_strdup(machine), g_strdup(nc_json_string_or(row, "source", "")));
    g_hash_table_insert(destinations, (gpointer)machine, (gpointer)nc_json_string_or(row, "destination", ""));
  }
  json_array_foreach(machines, i, row)
  {
    const NcRoom need = nc_room_of(row);
    const char *destination = g_hash_table_lookup(destinations, nc_json_string_or(row, "name", ""));
    nc_add_room(load, nc_place_of(load, row), &need);
    if (destination)
      nc_add_room(load, destination, &need);
  }
}

static NcRoom
nc_larger(NcRoom room, const NcRoom *other)
{
  if (other) {
    room.memory_bytes = MAX(room.memory_bytes, other->memory_bytes);
    room.disk_bytes = MAX(room.disk_bytes, other->disk_bytes);
    room.cpus = MAX(room.cpus, other->cpus);
  }
  return room;
}

static void
nc_load_node(NcController *c, const NcLoad *load, json_t *row)
{
  g_autoptr(GError) error = NULL;
  g_auto(NcToldDisks) disks = { 0 };
  g_autofree const char **labels = nc_texts(json_object_get(row, "labels"));
  const char *name = nc_json_string_or(row, "name", "");
  const NcRoom own = nc_capacity_of(nc_room_of(row));
  nc_told_disks_read(json_object_get(row, "file_systems"), &disks);
  const NcNodeSpec spec = { .name = name,
                            .capacity = nc_larger(own, g_hash_table_lookup(load->room, name)),
                            .file_systems = disks.specs,
                            .file_system_count = disks.count,
                            .rate_bps = nc_count(row, "rate_bps"),
                            .link = nc_link_of(c, json_object_get(row, "detail")),
                            .labels = labels,
                            .in_limit = (unsigned)MIN(nc_count(row, "in_limit"), NC_FLEET_MOST),
                            .out_limit = (unsigned)MIN(nc_count(row, "out_limit"), NC_FLEET_MOST) };
  uint32_t node = nc_fleet_add_node(c->fleet, &spec, &error);

  c->is_enlarged |= !nc_room_fits(&spec.capacity, &own);
  if (node == NC_FLEET_NONE)
    nc_log(NC_LOG_ERR, "controller", "node \"%s\" of the fleet's database is left out: %s", name, error->message);
  else
    nc_fleet_set_cordoned(c->fleet, node, nc_json_bool_or(row, "is_cordoned", false));
}

/* The number of a node that has to be there; of one that is not, it is added, with what is counted on it, and away. */
static uint32_t
nc_need_node(NcController *c, const NcLoad *load, const char *name)
{
  const NcNodeSpec spec = { .name = name,
                            .capacity = nc_larger((NcRoom){ 0 }, g_hash_table_lookup(load->room, name)),
                            .link = NC_FLEET_NONE };
  uint32_t node = nc_fleet_find_node(c->fleet, name);

  if (node != NC_FLEET_NONE)
    return node;
  node = nc_fleet_add_node(c->fleet, &spec, NULL);
  if (node != NC_FLEET_NONE)
    nc_fleet_set_down(c->fleet, node, true);
  return node;
}

static void
nc_load_machine(NcController *c, const NcLoad *load, json_t *row)
{
  g_autoptr(GError) error = NULL;
  g_autofree const char **requires = nc_texts(json_object_get(row, "requires"));
  NcDirectoryNeed disks[NC_FLEET_MOST_DISKS];
  NcMachineSpec spec = { .name = nc_json_string_or(row, "name", ""),
                         .node = nc_need_node(c, load, nc_place_of(load, row)),
                         .need = nc_room_of(row),
                         .disks = disks,
                         .disk_count = nc_needs_read(json_object_get(row, "disks"), disks),
                         .requires = requires,
                         .is_stopped = nc_state_is_stopped(nc_json_string_or(row, "state", "")),
                         .guest = nc_guest_of(json_object_get(row, "detail"), nc_count(row, "memory_bytes")) };

  if (!nc_priority_from_name(nc_json_string_or(row, "priority", NULL), &spec.priority))
    spec.priority = NC_PRIORITY_NORMAL;
  if (spec.node == NC_FLEET_NONE || nc_fleet_add_machine(c->fleet, &spec, &error) == NC_FLEET_NONE)
    nc_log(NC_LOG_ERR, "controller", "machine \"%s\" of the fleet's database is left out: %s", spec.name,
           error ? error->message : "it is on no node");
}

/* --- migrations --- */

static NcLive *
nc_live_from(json_t *row)
{
  NcLive *live = g_new0(NcLive, 1);
  const char *cancel_reason = nc_json_string_or(row, "cancel_reason", "");

  live->id = g_strdup(nc_json_string_or(row, "id", ""));
  live->machine = g_strdup(nc_json_string_or(row, "machine", ""));
  live->batch = g_strdup(nc_json_string_or(row, "batch", ""));
  live->evacuation = g_strdup(nc_json_string_or(row, "evacuation", ""));
  live->cancel_reason = cancel_reason[0] ? g_strdup(cancel_reason) : NULL;
  live->attempt = (unsigned)MIN(nc_count(row, "attempts"), G_MAXINT);
  nc_wish_load(json_object_get(row, "request"), &live->wish);
  if (!nc_priority_from_name(nc_json_string_or(row, "priority", NULL), &live->wish.priority))
    live->wish.priority = NC_PRIORITY_NORMAL;
  return live;
}

static void
nc_load_started(NcController *c, const NcLoad *load, json_t *row)
{
  g_autoptr(GError) error = NULL;
  NcLive *live = nc_live_from(row);
  uint32_t from = nc_need_node(c, load, nc_json_string_or(row, "source", "")),
           to = nc_need_node(c, load, nc_json_string_or(row, "destination", ""));
  uint32_t machine = nc_fleet_find_machine(c->fleet, live->machine), wish;
  const NcMachineSpec spec = {
    .name = live->machine, .node = from, .priority = live->wish.priority, .guest = nc_guest_of(NULL, 0)
  };

  if (machine == NC_FLEET_NONE && from != NC_FLEET_NONE)
    machine = nc_fleet_add_machine(c->fleet, &spec, NULL);
  wish = live->wish.destination ? nc_need_node(c, load, live->wish.destination) : NC_FLEET_NONE;
  if (machine != NC_FLEET_NONE && to != NC_FLEET_NONE) {
    const NcRequest request = nc_request_of(c, live, machine, wish);
    const NcItemBefore before = { .state = NC_ITEM_RUNNING,
                                  .submitted_us = nc_json_int_or(row, "submitted_us", 0),
                                  .started_us = nc_json_int_or(row, "started_us", 0),
                                  .attempts = live->attempt,
                                  .to = to };
    live->item = nc_queue_restore(c->queue, &request, &before, &error);
  }
  if (live->item == 0) {
    nc_log(NC_LOG_ERR, "controller", "migration %s of the fleet's database can't be taken up: %s", live->id,
           error ? error->message : "its machine or nodes have no names");
    nc_live_free(live);
    return;
  }
  nc_live_add(c, live);
  nc_live_begin(c, live, from, to);
  live->is_confirmed = g_str_equal(nc_json_string_or(row, "state", ""), "running");
  live->heard_us = live->asked_us = G_MININT64 / 2; /* so that its agent is asked at once */
}

/* One that can't even wait any more is refused by the next write. */
static void
nc_load_waiting(NcController *c, json_t *row)
{
  g_autoptr(GError) error = NULL;
  NcLive *live = nc_live_from(row);
  bool is_backoff = g_str_equal(nc_json_string_or(row, "state", ""), "backoff");
  uint32_t machine = nc_fleet_find_machine(c->fleet, live->machine);
  uint32_t wish = live->wish.destination ? nc_fleet_find_node(c->fleet, live->wish.destination) : NC_FLEET_NONE;
  const NcItemBefore before = { .state = is_backoff ? NC_ITEM_BACKOFF : NC_ITEM_QUEUED,
                                .submitted_us = nc_json_int_or(row, "submitted_us", 0),
                                .started_us = is_backoff ? nc_json_int_or(row, "started_us", 0) : -1,
                                .not_before_us = nc_json_int_or(row, "not_before_us", 0),
                                .attempts = live->attempt,
                                .to = is_backoff
                                          ? nc_fleet_find_node(c->fleet, nc_json_string_or(row, "destination", ""))
                                          : NC_FLEET_NONE };

  if (machine == NC_FLEET_NONE)
    nc_fail(&error, NC_ERROR_NOT_FOUND, "machine \"%s\" is on no node that is known any more", live->machine);
  else if (live->wish.destination && wish == NC_FLEET_NONE && !live->wish.is_wish)
    nc_fail(&error, NC_ERROR_NOT_FOUND, "node \"%s\", its destination, is not known any more", live->wish.destination);
  else {
    const NcRequest request = nc_request_of(c, live, machine, wish);
    live->item = nc_queue_restore(c->queue, &request, &before, &error);
  }
  if (live->item > 0) {
    nc_live_add(c, live);
    return;
  }
  nc_add_step(c, live, NC_MOVE_REFUSED, error->message);
  nc_live_free(live);
}

/* --- all of it --- */

static void
nc_make_tables(NcController *c)
{
  c->is_enlarged = false;
  c->fleet = nc_fleet_new();
  c->queue = nc_queue_new(c->fleet, &c->options.limits, nc_hear_item, c);
  c->traffic = nc_traffic_new(c->fleet, c->options.reserve_percent);
  c->live = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, nc_live_free);
  c->by_item = g_hash_table_new(g_int64_hash, g_int64_equal);
  c->under_way = g_hash_table_new(NULL, NULL);
  c->evacuations = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, nc_evacuating_free);
  c->groups = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
}

/* What it has to do yet. */
static bool
nc_load_evacuation(NcController *c, json_t *row, GError **error)
{
  const char *state = nc_json_string_or(row, "state", "");
  NcEvacuating *e = nc_evacuating_add(c, nc_json_string_or(row, "id", ""), json_object_get(row, "nodes"),
                                      json_object_get(json_object_get(row, "detail"), "request"));
  g_autofree char *cursor = NULL;

  e->is_cancelling = g_str_equal(state, "cancelling");
  e->has_begun = !g_str_equal(state, "planned");
  do {
    const NcPage page = { .cursor = cursor, .limit = NC_PAGE_MOST };
    char *next = NULL;
    size_t i;
    json_t *item;
    nc_autojson json_t *items = nc_fleetdb_list_items(c->db, e->id, &page, &next, error);
    if (!items)
      return false;
    json_array_foreach(items, i, item)
    {
      const char *destination = nc_json_string_or(item, "destination", "");
      if (nc_json_string_or(item, "migration", "")[0] || nc_json_string_or(item, "reason", "")[0])
        continue;
      NcPending *pending = g_new0(NcPending, 1);
      pending->machine = g_strdup(nc_json_string_or(item, "machine", ""));
      pending->destination = destination[0] ? g_strdup(destination) : NULL;
      g_ptr_array_add(e->pending, pending);
    }
    g_free(cursor);
    cursor = next;
  } while (cursor);
  return true;
}

/* Before the nodes, which tell of more than machines have disks in by now. */
static void
nc_know_directories(NcController *c, json_t *machines)
{
  NcDirectoryNeed disks[NC_FLEET_MOST_DISKS];
  size_t i;
  json_t *row;

  json_array_foreach(machines, i, row)
  {
    unsigned count = nc_needs_read(json_object_get(row, "disks"), disks);
    for (unsigned k = 0; k < count; k++)
      nc_fleet_know_directory(c->fleet, nc_json_string_or(row, "node", ""), disks[k].directory);
  }
}

static void
nc_fill_model(NcController *c, json_t *nodes, json_t *machines, json_t *migrations)
{
  NcLoad load = { .room = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
                  .sources = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free) };
  size_t i;
  json_t *row;

  nc_know_directories(c, machines);
  nc_load_links(c, nodes);
  nc_count_room(&load, machines, migrations);
  json_array_foreach(nodes, i, row) nc_load_node(c, &load, row);
  json_array_foreach(machines, i, row) nc_load_machine(c, &load, row);
  json_array_foreach(migrations, i, row)
  { /* first those that have their room */
    if (nc_is_started(row))
      nc_load_started(c, &load, row);
  }
  json_array_foreach(migrations, i, row)
  {
    if (!nc_is_started(row))
      nc_load_waiting(c, row);
  }
  g_hash_table_unref(load.room);
  g_hash_table_unref(load.sources);
}

bool
nc_load_model(NcController *c, GError **error)
{
  nc_autojson json_t *nodes = nc_read_pages(c, nc_list_nodes, error);
  nc_autojson json_t *machines = nodes ? nc_read_pages(c, nc_list_machines, error) : NULL;
  nc_autojson json_t *migrations = machines ? nc_read_pages(c, nc_list_unfinished, error) : NULL;
  nc_autojson json_t *evacuations = migrations ? nc_read_pages(c, nc_list_evacuations, error) : NULL;
  size_t i;
  json_t *row;

  if (!evacuations)
    return false;
  nc_make_tables(c);
  json_array_foreach(evacuations, i, row)
  { /* before their migrations, which they count */
    if (!nc_load_evacuation(c, row, error)) {
      nc_forget_model(c);
      return false;
    }
  }
  nc_fill_model(c, nodes, machines, migrations);
  c->is_loaded = true;
  nc_recall_silence(c);
  nc_log(NC_LOG_INFO, "controller",
         "%s has read %zu nodes, %zu machines, %zu migrations that have not ended, %zu evacuations", c->name,
         json_array_size(nodes), json_array_size(machines), json_array_size(migrations), json_array_size(evacuations));
  return true;
}
