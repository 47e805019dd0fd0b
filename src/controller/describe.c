/* SPDX-License-Identifier: Apache-2.0 */
/* How a migration stands, for people. */
#include "controller/controller_internal.h"
#include "fleet/placement.h"

/* In words; caller frees. */
static char *
nc_say_wait(NcController *c, const NcLive *live)
{
  const NcItem *item = nc_queue_item(c->queue, live->item);
  const NcNode *from = nc_fleet_node(c->fleet, item->from);

  if (live->is_under_way)
    return g_strdup("");
  if (from->is_down)
    return g_strdup_printf("node \"%s\", where it is, is silent", from->name);
  if (item->state == NC_ITEM_BACKOFF)
    return g_strdup_printf("its next attempt, in %" G_GINT64_FORMAT " s",
                           MAX(item->not_before_us - c->now_us, 0) / G_USEC_PER_SEC);
  char *why = nc_queue_why_no_room(c->queue, item->id);
  return why ? why : g_strdup("its turn: the limits of cluster and nodes, or those before it");
}

static char *
nc_say_silence(NcController *c, const NcLive *live)
{
  if (live->unknowns >= 2)
    return g_strdup_printf(
        "node \"%s\" began this attempt and does not know it any more; it is not begun again: look where "
        "machine \"%s\" runs, and "
        "tell its agent",
        nc_fleet_node(c->fleet, live->from)->name, live->machine);
  if (nc_is_silent(c, live->from))
    return g_strdup_printf(
        "node \"%s\", its source, is silent: it is not known how the attempt stands, and it keeps its room "
        "and place until that node "
        "says how it ended",
        nc_fleet_node(c->fleet, live->from)->name);
  if (nc_is_silent(c, live->to))
    return g_strdup_printf("node \"%s\", its destination, is silent; its source goes on, and will say how it ends",
                           nc_fleet_node(c->fleet, live->to)->name);
  return g_strdup("");
}

/* A node's number beyond this is none; sums of all of them stay in their bounds. */
#define NC_SAMPLE_MOST (INT64_C(1) << 50)

/* The names are those of samples of a node's own migrations (MigrationProgress in docs/api/openapi.json). */
static const char *const nc_sample_keys[] = { "transfer_rate", "eta_ms", "wire_bytes", "ram_remaining_bytes", "rounds" };

json_t *
nc_sample_of(json_t *said)
{
  json_t *sample = json_is_object(said) ? json_object() : NULL;

  for (size_t i = 0; sample && i < G_N_ELEMENTS(nc_sample_keys); i++) {
    json_t *value = json_object_get(said, nc_sample_keys[i]);
    bool is_number = json_is_integer(value) && json_integer_value(value) >= 0 && json_integer_value(value) <= NC_SAMPLE_MOST;
    json_object_set_new(sample, nc_sample_keys[i], is_number ? json_incref(value) : json_null());
  }
  return sample;
}

/* Of a source that says nothing it is not known how far its attempt is now. */
static bool
nc_sample_counts(NcController *c, const NcLive *live)
{
  return live->is_under_way && live->sample && live->unknowns < 2 && !nc_is_silent(c, live->from);
}

static json_t *
nc_describe_live(NcController *c, const NcLive *live)
{
  g_autofree char *waits = nc_say_wait(c, live);
  g_autofree char *silence = live->is_under_way ? nc_say_silence(c, live) : g_strdup("");
  uint64_t rate_bps = live->flow ? nc_flow_rate_bps(live->flow) : 0;
  const char *endgame = !live->flow || !live->wants_endgame ? "none"
                        : nc_budget_has_endgame(live->flow) ? "has"
                                                            : "waiting";

  return json_pack("{s:s, s:s, s:f, s:I, s:s, s:s, s:o}", "waits", waits, "phase", live->phase ? live->phase : "",
                   "percent", live->percent, "rate_bps",
                   rate_bps == NC_BUDGET_UNLIMITED ? (json_int_t)0 : (json_int_t)MIN(rate_bps, (uint64_t)G_MAXINT64),
                   "endgame", endgame, "silence", silence, "sample",
                   nc_sample_counts(c, live) ? json_deep_copy(live->sample) : json_null()); /* it goes to another thread */
}

json_t *
nc_controller_explain(NcController *c, const char *machine, GError **error)
{
  if (!nc_controller_is_ready(c, error))
    return NULL;
  uint32_t number = nc_fleet_find_machine(c->fleet, machine);
  if (number == NC_FLEET_NONE) {
    nc_fail(error, NC_ERROR_NOT_FOUND, "the controller knows no machine %s", machine);
    return NULL;
  }
  json_t *explanation = nc_queue_explain(c->queue, number), *nodes = json_object_get(explanation, "nodes");
  json_int_t left_out = 0;
  for (; json_array_size(nodes) > NC_CONTROLLER_MOST_EXPLAINED; left_out++)
    json_array_remove(nodes, json_array_size(nodes) - 1);
  json_object_set_new(explanation, "nodes_left_out", json_integer(left_out));
  json_object_set_new(explanation, "is_stopped", json_boolean(nc_fleet_machine(c->fleet, number)->is_stopped));
  return explanation;
}

json_t *
nc_controller_describe(NcController *c, const char *migration, GError **error)
{
  if (!nc_controller_is_ready(c, error))
    return NULL;
  json_t *row = nc_fleetdb_get_migration(c->db, migration, error);
  const NcLive *live = row ? g_hash_table_lookup(c->live, migration) : NULL;
  if (live)
    json_object_set_new(row, "live", nc_describe_live(c, live));
  return row;
}

json_t *
nc_controller_describe_group(NcController *c, const char *group, GError **error)
{
  if (!nc_controller_is_ready(c, error))
    return NULL;
  g_autoptr(GPtrArray) lives = nc_lives_under_way(c);
  json_t *parts = json_array();
  for (guint i = 0; i < lives->len && json_array_size(parts) < NC_CONTROLLER_MOST_SHOWN; i++) {
    const NcLive *live = lives->pdata[i];
    if (!g_str_equal(live->batch, group) && !g_str_equal(live->evacuation, group))
      continue;
    json_array_append_new(
        parts, json_pack("{s:s, s:s, s:s, s:s, s:i, s:o}", "migration", live->id, "machine", live->machine, "source",
                         nc_fleet_node(c->fleet, live->from)->name, "destination",
                         nc_fleet_node(c->fleet, live->to)->name, "attempt", (int)live->attempt, "live",
                         nc_describe_live(c, live)));
  }
  return parts;
}
