/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fleet_side.h"
#include "agent/uplinks.h"
#include "base/meminfo.h"

/* Of each of its processors, what machines may have together, if the configuration does not say. */
#define NC_FLEET_VCPUS_PER_CPU 16

static json_t *
nc_fleet_side_labels(const NcConfig *config)
{
  g_auto(GStrv) labels = nc_config_names_parse(config->labels);
  json_t *array = json_array();

  for (char **label = labels; label && *label; label++)
    json_array_append_new(array, json_string(*label));
  return array;
}

static json_t *
nc_fleet_side_node(const NcFleetSide *side, GError **error)
{
  const NcConfig *config = side->config;
  const char *name = nc_nodes_self(side->nodes);
  g_autofree char *address = nc_nodes_address(side->nodes, name, error);
  uint64_t total = nc_memory_total_bytes(), reserve = (uint64_t)config->memory_reserve_mib << 20;
  uint64_t memory = config->fleet_memory_mib ? (uint64_t)config->fleet_memory_mib << 20 : total - MIN(total, reserve);
  int64_t vcpus = config->fleet_vcpus ? config->fleet_vcpus : NC_FLEET_VCPUS_PER_CPU * (int64_t)g_get_num_processors();
  int64_t rate = nc_config_bandwidth_total(config) / 100 * (100 - config->bandwidth_reserve);

  if (!address)
    return NULL;
  return json_pack("{s:s, s:s, s:I, s:I, s:I, s:i, s:i, s:o, s:o}", "name", name, "address", address, "memory_bytes",
                   (json_int_t)memory, "vcpus", (json_int_t)vcpus, "rate_bps", (json_int_t)rate, "in_limit",
                   config->max_migrations_in, "out_limit", config->max_migrations_out, "labels", nc_fleet_side_labels(config), "links",
                   nc_uplinks_parse(config->uplinks));
}

/* Of what nc_machine_view() tells, what a controller heeds: the rest would make the message long. */
static json_t *
nc_fleet_side_machine(json_t *view, json_t *disks)
{
  static const char *const keys[] = { "name", "state", "right", "epoch", "memory_mib", "vcpus" };
  static const char *const spec_keys[] = { "priority", "requires" }; /* one that was defined before there were these has none */
  json_t *machine = json_object(), *spec = json_object_get(view, "spec");

  for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
    json_object_set(machine, keys[i], json_object_get(view, keys[i]));
  for (size_t i = 0; i < G_N_ELEMENTS(spec_keys); i++)
    if (json_object_get(spec, spec_keys[i]))
      json_object_set(machine, spec_keys[i], json_object_get(spec, spec_keys[i]));
  if (disks)
    json_object_set(machine, "disks", disks);
  return machine;
}

json_t *
nc_fleet_side_look(const NcFleetSide *side, json_t *message, GError **error)
{
  nc_autojson json_t *none = json_object();
  nc_autojson json_t *views = nc_machines_list(side->machines, none, error);
  json_t *node = views ? nc_fleet_side_node(side, error) : NULL, *machines, *view;
  size_t i;

  if (!node)
    return NULL;
  json_t *directories = json_object_get(message, "directories");
  /* To older controllers, who do not ask, each byte that a guest writes would be news. */
  nc_autojson json_t *seen =
      directories ? nc_fleet_disk_look(side->disk_look, directories, views, (NcDiskChain)side->config->disk_chain)
                  : NULL;
  if (directories)
    json_object_set(node, "file_systems", json_object_get(seen, "file_systems"));
  machines = json_array();
  json_array_foreach(views, i, view) json_array_append_new(
      machines, nc_fleet_side_machine(
                    view, json_object_get(json_object_get(seen, "machines"), nc_json_string_or(view, "name", ""))));
  return json_pack("{s:o, s:o}", "node", node, "machines", machines);
}

/* --- orders --- */

typedef json_t *(*NcFleetOrderFunc)(NcAttempts *attempts, json_t *args, GError **error);

static const struct {
  const char *order;
  NcFleetOrderFunc func;
  bool is_recorded; /* limits are told all the time, and are in the migration's history if they change something */
} nc_fleet_orders[] = {
  { "begin", nc_attempts_begin, true },
  { "cancel", nc_attempts_cancel, true },
  { "limit", nc_attempts_limit, false },
  { "ask", nc_attempts_ask, false },
};

static bool
nc_fleet_side_record(const NcFleetSide *side, const char *actor, const char *order, json_t *args, GError **error)
{
  g_autofree char *op = g_strdup_printf("attempt.%s", order);
  nc_autojson json_t *detail = json_pack("{s:s, s:O}", "op", op, "args", args);
  const NcAuditEntry entry = {
    .kind = "request", .subject = nc_json_string_or(args, "name", ""), .actor = actor, .detail = detail
  };
  return nc_journal_audit(side->journal, &entry, false, NULL, error);
}

json_t *
nc_fleet_side_order(const NcFleetSide *side, const char *actor, json_t *order, GError **error)
{
  const char *name = nc_json_string_or(order, "order", "");
  json_t *args = json_object_get(order, "args");

  for (size_t i = 0; json_is_object(args) && i < G_N_ELEMENTS(nc_fleet_orders); i++) {
    if (!g_str_equal(nc_fleet_orders[i].order, name))
      continue;
    if (nc_fleet_orders[i].is_recorded && !nc_fleet_side_record(side, actor, name, args, error))
      return NULL;
    return nc_fleet_orders[i].func(side->attempts, args, error);
  }
  nc_fail(error, NC_ERROR_PROTOCOL, "\"%.32s\" is no order of a controller", name);
  return NULL;
}

/* --- other nodes' controllers --- */

static bool
nc_fleet_side_heeds(const NcFleetSide *side, const char *node, GError **error)
{
  g_auto(GStrv) controllers = nc_config_names_parse(side->config->controllers);

  return (controllers && g_strv_contains((const char *const *)controllers, node)) ||
         nc_fail(error, NC_ERROR_FORBIDDEN,
                 "node %s takes no orders of node %s: `controllers` in novacrond.conf on %s names those it heeds",
                 nc_nodes_self(side->nodes), node, nc_nodes_self(side->nodes));
}

json_t *
nc_fleet_side_answer(const NcFleetSide *side, NcPeer *peer, json_t *message, GError **error)
{
  const char *type = nc_json_string_or(message, "type", "");
  g_autofree char *actor = g_strdup_printf("node:%s", nc_peer_node(peer));
  json_t *answer = NULL;

  if (!nc_fleet_side_heeds(side, nc_peer_node(peer), error))
    return NULL;
  if (g_str_equal(type, "fl_look"))
    answer = nc_fleet_side_look(side, message, error);
  else if (g_str_equal(type, "fl_order"))
    answer = nc_fleet_side_order(side, actor, message, error);
  else
    nc_fail(error, NC_ERROR_PROTOCOL, "\"%.32s\" is not what a controller asks of a node", type);
  if (answer)
    json_object_set_new(answer, "type", json_string("fl_answer"));
  return answer;
}
