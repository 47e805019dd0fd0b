/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes and machines: what is told of them, and who says nothing. */
#include "controller/controller_internal.h"
#include "base/ident.h"

#include <string.h>

/* --- silence --- */

/* What is known of ${node}'s silence; of one that is new, that it was heard now. */
static NcHeard *
nc_heard_of(NcController *c, uint32_t node)
{
  const char *name = nc_fleet_node(c->fleet, node)->name;
  NcHeard *heard = g_hash_table_lookup(c->heard, name);

  if (!heard) {
    heard = g_new0(NcHeard, 1);
    heard->at_us = c->now_us;
    g_hash_table_insert(c->heard, g_strdup(name), heard);
  }
  return heard;
}

void
nc_recall_silence(NcController *c)
{
  for (uint32_t node = 0; node < nc_fleet_node_count(c->fleet); node++)
    if (nc_heard_of(c, node)->is_silent)
      nc_fleet_set_down(c->fleet, node, true);
}

/* A node that is down in the model is one that is silent. */
bool
nc_is_silent(NcController *c, uint32_t node)
{
  return nc_fleet_node(c->fleet, node)->is_down;
}

/* It is known what to ask it: how its attempts stand. */
static void
nc_wake_node(NcController *c, uint32_t node)
{
  GHashTableIter iter;
  NcLive *live;

  nc_fleet_set_down(c->fleet, node, false);
  nc_queue_room_changed(c->queue, node);
  nc_add_event(c, "node.heard", nc_fleet_node(c->fleet, node)->name, NULL, NULL);
  g_hash_table_iter_init(&iter, c->under_way);
  while (g_hash_table_iter_next(&iter, (gpointer *)&live, NULL))
    if (live->from == node) {
      live->heard_us = live->asked_us = G_MININT64 / 2;
      live->cancel_again_us = live->cancel_wait_us = 0; /* what it was told meanwhile it has not heard */
    }
}

void
nc_controller_heard(NcController *c, const char *name)
{
  NcHeard *heard = g_hash_table_lookup(c->heard, name);

  if (!heard) /* not one of ours, or this one does not lead */
    return;
  heard->at_us = nc_controller_now(c);
  heard->is_silent = false;
  uint32_t node = c->is_loaded ? nc_fleet_find_node(c->fleet, name) : NC_FLEET_NONE;
  if (node != NC_FLEET_NONE && nc_is_silent(c, node))
    nc_wake_node(c, node);
}

void
nc_controller_say_heard(NcController *c, json_t *node)
{
  const NcHeard *heard = c->epoch > 0 ? g_hash_table_lookup(c->heard, nc_json_string_or(node, "name", "")) : NULL;

  json_object_set_new(node, "heard_s", heard ? json_integer((json_int_t)(MAX(nc_controller_now(c) - heard->at_us, 0) / G_USEC_PER_SEC)) : json_null());
  json_object_set_new(node, "is_silent", heard ? json_boolean(heard->is_silent) : json_null());
}

/* Its migrations stay as they are; that they do is said. */
static void
nc_tell_silence(NcController *c, uint32_t node)
{
  g_autoptr(GPtrArray) lives = nc_lives_under_way(c);
  const char *name = nc_fleet_node(c->fleet, node)->name;

  nc_add_event(c, "node.silent", name, NULL,
               json_pack("{s:I}", "seconds", (json_int_t)((c->now_us - nc_heard_of(c, node)->at_us) / G_USEC_PER_SEC)));
  for (guint i = 0; i < lives->len; i++) {
    NcLive *live = lives->pdata[i];
    if (live->from != node && live->to != node)
      continue;
    nc_add_event(c, "migration.silent", live->id, live->id,
                 json_pack("{s:s, s:s, s:i}", "node", name, "side", live->from == node ? "source" : "destination",
                           "attempt", (int)live->attempt));
    if (live->from == node) {
      nc_budget_end_endgame(live->flow); /* others need not wait for it */
      live->wants_endgame = false;
    }
  }
}

bool
nc_look_for_silence(NcController *c, GError **error)
{
  for (uint32_t node = 0; node < nc_fleet_node_count(c->fleet); node++) {
    const NcNode *n = nc_fleet_node(c->fleet, node);
    if (!n->name || n->is_down || c->now_us - nc_heard_of(c, node)->at_us < c->options.silent_us)
      continue;
    nc_heard_of(c, node)->is_silent = true;
    nc_fleet_set_down(c->fleet, node, true);
    nc_tell_silence(c, node);
  }
  return nc_flush(c, NULL, NULL, error);
}

/* --- nodes --- */

static bool
nc_write_node(NcFleetDb *db, gpointer data, GError **error)
{
  return nc_fleetdb_put_node(db, data, error);
}

static bool
nc_add_node_to_model(NcController *c, const NcNodeRecord *record)
{
  g_autofree const char **labels = nc_texts(record->labels);
  const NcNodeSpec spec = { .name = record->name,
                            .capacity = nc_capacity_of(record->capacity),
                            .rate_bps = record->rate_bps,
                            .link = nc_link_of(c, record->detail),
                            .labels = labels,
                            .in_limit = record->in_limit,
                            .out_limit = record->out_limit };
  uint32_t node = nc_links_are_known(c, record->detail) ? nc_fleet_add_node(c->fleet, &spec, NULL) : NC_FLEET_NONE;

  if (node == NC_FLEET_NONE)
    return false;
  nc_heard_of(c, node)->at_us = c->now_us;
  nc_queue_room_changed(c->queue, node);
  return true;
}

/* What the model can't change in place is read anew. */
static bool
nc_check_node(const NcNodeRecord *node, GError **error)
{
  g_autofree const char **labels = nc_texts(node->labels);

  return (g_strv_length((char **)labels) <= NC_FLEET_MOST_LABELS && node->in_limit <= NC_FLEET_MOST &&
          node->out_limit <= NC_FLEET_MOST) ||
         nc_fail(error, NC_ERROR_INVALID, "node \"%s\" has more labels than %u, or a limit above %u", node->name,
                 NC_FLEET_MOST_LABELS, NC_FLEET_MOST);
}

/* After a change of leader every node is told of anew, mostly with nothing new. */
static bool
nc_node_is_as_known(NcController *c, const NcNodeRecord *node)
{
  nc_autojson json_t *row = nc_fleetdb_get_node(c->db, node->name, NULL), *none = json_array(), *nothing = json_object();

  return row && json_equal(json_object_get(row, "detail"), node->detail ? node->detail : nothing) && g_str_equal(nc_json_string_or(row, "address", ""), node->address) &&
         nc_json_int_or(row, "memory_bytes", -1) == (int64_t)node->capacity.memory_bytes &&
         nc_json_int_or(row, "disk_bytes", -1) == (int64_t)node->capacity.disk_bytes &&
         nc_json_int_or(row, "cpus", -1) == (int64_t)node->capacity.cpus && nc_json_int_or(row, "rate_bps", -1) == (int64_t)node->rate_bps &&
         nc_json_int_or(row, "in_limit", -1) == (int64_t)node->in_limit && nc_json_int_or(row, "out_limit", -1) == (int64_t)node->out_limit &&
         json_equal(json_object_get(row, "labels"), node->labels ? node->labels : none);
}

bool
nc_controller_put_node(NcController *c, const NcNodeRecord *node, GError **error)
{
  if (!nc_controller_is_ready(c, error) || !nc_check_node(node, error))
    return false;
  bool is_new = nc_fleet_find_node(c->fleet, node->name) == NC_FLEET_NONE;
  if (!is_new && nc_node_is_as_known(c, node))
    return true;
  if (!nc_flush(c, nc_write_node, (gpointer)node, error))
    return false;
  if (!is_new || !nc_add_node_to_model(c, node))
    nc_forget_model(c);
  return true;
}

static bool
nc_write_removal(NcFleetDb *db, gpointer data, GError **error)
{
  return nc_fleetdb_remove_node(db, data, error);
}

/* Asked before, since a write that fails costs the whole model, and who removes a node asks again and again. */
static bool
nc_node_is_unused(NcController *c, const char *node, GError **error)
{
  const NcMoveFilter filter = { .selection = NC_MOVES_UNFINISHED, .node = node };
  const NcPage page = { .limit = 1 };
  nc_autojson json_t *moves = nc_fleetdb_list_migrations(c->db, &filter, &page, NULL, error);

  return moves && (json_array_size(moves) == 0 || nc_fail(error, NC_ERROR_CONFLICT, "a migration from or to node %s is not finished", node));
}

bool
nc_controller_remove_node(NcController *c, const char *node, GError **error)
{
  if (!nc_controller_is_ready(c, error) || !nc_node_is_unused(c, node, error))
    return false;
  bool ok = nc_flush(c, nc_write_removal, (gpointer)node, error);
  nc_forget_model(c);
  return ok;
}

/* --- machines --- */

typedef struct {
  const NcMachineRecord *machines;
  size_t count;
  bool *is_news;
} NcSight;

static bool
nc_write_sight(NcFleetDb *db, gpointer data, GError **error)
{
  const NcSight *sight = data;

  for (size_t i = 0; i < sight->count; i++)
    if (!nc_fleetdb_see_machine(db, &sight->machines[i], &sight->is_news[i], error))
      return false;
  return true;
}

/* But for disks: nc_take_disks(). */
static bool
nc_room_equals(const NcRoom *a, const NcRoom *b)
{
  return a->memory_bytes == b->memory_bytes && a->cpus == b->cpus;
}

static bool
nc_add_machine_to_model(NcController *c, const NcMachineRecord *record)
{
  g_autofree const char **requires = nc_texts(record->requires);
  NcDirectoryNeed disks[NC_FLEET_MOST_DISKS];
  const NcMachineSpec spec = { .name = record->name,
                               .node = nc_fleet_find_node(c->fleet, record->node),
                               .need = record->need,
                               .disks = disks,
                               .disk_count = nc_needs_read(record->disks, disks),
                               .requires = requires,
                               .priority = record->priority,
                               .is_stopped = nc_state_is_stopped(record->state),
                               .guest = nc_guest_of(record->detail, record->need.memory_bytes) };

  return spec.node != NC_FLEET_NONE && nc_fleet_add_machine(c->fleet, &spec, NULL) != NC_FLEET_NONE;
}

/* Does ${m} require what ${record} says? */
static bool
nc_requires_equal(NcController *c, const NcMachine *m, const NcMachineRecord *record)
{
  g_autofree const char **requires = nc_texts(record->requires);

  if (g_strv_length((char **) requires) != m->require_count)
    return false;
  for (unsigned i = 0; i < m->require_count; i++)
    if (!g_strv_contains(requires, nc_fleet_label_name(c->fleet, m->requires[i])))
      return false;
  return true;
}

/* False: the model has to be read anew. */
static bool
nc_take_sight(NcController *c, const NcMachineRecord *record)
{
  uint32_t machine = nc_fleet_find_machine(c->fleet, record->name);
  if (machine == NC_FLEET_NONE)
    return nc_add_machine_to_model(c, record);
  const NcMachine *m = nc_fleet_machine(c->fleet, machine);
  const NcItem *item = nc_queue_item_of(c->queue, machine);
  nc_fleet_set_stopped(c->fleet, machine, nc_state_is_stopped(record->state));
  bool is_there = g_str_equal(nc_fleet_node(c->fleet, m->node)->name, record->node);
  if (item && item->state == NC_ITEM_RUNNING) { /* the migration's end says what is to become of it */
    NcLive *live = g_hash_table_lookup(c->by_item, &item->id);
    live->is_elsewhere = !is_there;
    live->seen_at = nc_fleet_find_node(c->fleet, record->node);
    return nc_take_disks(c, machine, record); /* of which there is no other news */
  }
  return is_there && nc_room_equals(&m->need, &record->need) && m->priority == record->priority &&
         nc_requires_equal(c, m, record) && nc_take_disks(c, machine, record);
}

bool
nc_controller_see_machines(NcController *c, const NcMachineRecord *machines, size_t count, GError **error)
{
  g_autofree bool *is_news = g_new0(bool, MAX(count, 1));
  NcSight sight = { machines, count, is_news };
  bool fits = true;

  if (!nc_controller_is_ready(c, error))
    return false;
  for (size_t i = 0; i < count; i++) {
    g_autofree const char **requires = nc_texts(machines[i].requires);
    if (g_strv_length((char **) requires) > NC_FLEET_MOST_LABELS)
      return nc_fail(error, NC_ERROR_INVALID, "machine \"%s\" requires more labels than %u", machines[i].name,
                     NC_FLEET_MOST_LABELS);
  }
  if (!nc_flush(c, nc_write_sight, &sight, error))
    return false;
  for (size_t i = 0; i < count && fits; i++)
    fits = !is_news[i] || nc_take_sight(c, &machines[i]);
  if (!fits)
    nc_forget_model(c);
  return true;
}

typedef struct {
  const char *machine, *node;
} NcGone;

static bool
nc_write_gone(NcFleetDb *db, gpointer data, GError **error)
{
  const NcGone *gone = data;
  return nc_fleetdb_forget_machine(db, gone->machine, gone->node, error);
}

bool
nc_controller_forget_machine(NcController *c, const char *machine, const char *node, GError **error)
{
  NcGone gone = { machine, node };

  if (!nc_controller_is_ready(c, error))
    return false;
  uint32_t number = nc_fleet_find_machine(c->fleet, machine);
  const NcItem *item = number != NC_FLEET_NONE ? nc_queue_item_of(c->queue, number) : NULL;
  if (number == NC_FLEET_NONE || (item && item->state == NC_ITEM_RUNNING))
    return true;
  bool is_there = g_str_equal(nc_fleet_node(c->fleet, nc_fleet_machine(c->fleet, number)->node)->name, node);
  if (!nc_flush(c, nc_write_gone, &gone, error))
    return false;
  if (is_there && !nc_queue_remove_machine(c->queue, number, "the machine is gone from its node", NULL))
    nc_forget_model(c);
  return !c->is_loaded || nc_flush(c, NULL, NULL, error);
}
