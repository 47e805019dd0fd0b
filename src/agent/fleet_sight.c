/* SPDX-License-Identifier: Apache-2.0 */
/* What nodes say they are and have, told to the controller as far as it is news: each word of it is a write. */
#include "agent/fleet_host_internal.h"
#include "base/ident.h"
#include "base/log.h"
#include "fleet/disk_room.h"

#define NC_FLEET_MOST_MACHINES 10000 /* of one node */
#define NC_FLEET_MOST_BYTES (INT64_C(1) << 50)
#define NC_FLEET_MOST_VCPUS 1000000
#define NC_FLEET_MOST_RATE INT64_C(1000000000000)

/* A node that was removed from the roster; one that migrations still concern stays until they have ended. */
static void
nc_fleet_remove(NcFleetHost *host, const char *node)
{
  nc_autojson json_t *known = nc_fleetdb_get_node(host->db, node, NULL);
  g_autoptr(GError) error = NULL;

  if (!known)
    return;
  g_hash_table_remove(host->seen, node);
  if (!nc_controller_remove_node(host->controller, node, &error) &&
      !g_error_matches(error, NC_ERROR, NC_ERROR_CONFLICT))
    nc_log(NC_LOG_INFO, "controller", "node %s can't be removed yet: %s", node, error->message);
}

void
nc_fleet_look_around(NcFleetHost *host)
{
  g_autoptr(NcRoster) roster = nc_trust_roster(nc_nodes_trust(host->side->nodes));
  nc_autojson json_t *directories = nc_controller_directories(host->controller);

  if (host->epoch != nc_controller_epoch(host->controller)) { /* another one may have written meanwhile */
    g_hash_table_remove_all(host->seen);
    host->epoch = nc_controller_epoch(host->controller);
  }
  for (size_t i = 0; i < nc_roster_count(roster); i++) {
    const NcRosterNode *node = nc_roster_at(roster, i);
    if (node->state == NC_NODE_JOINED)
      nc_fleet_agents_look(host->agents, node->name, directories);
    else
      nc_fleet_remove(host, node->name);
  }
}

static bool
nc_fleet_put_node(NcFleetHost *host, const char *name, json_t *said, GError **error)
{
  int64_t memory, vcpus, rate, in_limit, out_limit;
  const char *address = nc_json_string(said, "address", error);

  if (!address || !nc_json_int(said, "memory_bytes", 0, NC_FLEET_MOST_BYTES, &memory, error) ||
      !nc_json_int(said, "vcpus", 0, NC_FLEET_MOST_VCPUS, &vcpus, error) ||
      !nc_json_int(said, "rate_bps", 0, NC_FLEET_MOST_RATE, &rate, error) ||
      !nc_json_int(said, "in_limit", 0, NC_FLEET_MOST, &in_limit, error) ||
      !nc_json_int(said, "out_limit", 0, NC_FLEET_MOST, &out_limit, error))
    return false;
  if (!nc_tcp_address_is_valid(address))
    return nc_fail(error, NC_ERROR_PROTOCOL, "its address is none");
  json_t *labels = json_object_get(said, "labels"); /* older ones tell of none */
  if (labels && !nc_controller_are_labels(labels))
    return nc_fail(error, NC_ERROR_PROTOCOL, "its labels are no list of at most %u names", NC_FLEET_MOST_LABELS);
  json_t *links = json_object_get(said, "links");
  if (links && !nc_controller_are_uplinks(links))
    return nc_fail(error, NC_ERROR_PROTOCOL, "its links are no list of at most %u, with their rates", NC_FLEET_MOST_UPLINKS);
  nc_autojson json_t *detail = json_array_size(links) > 0 ? json_pack("{s:O}", "links", links) : NULL;
  const NcNodeRecord node = { .name = name,
                              .address = address,
                              .capacity = { .memory_bytes = (uint64_t)memory, .cpus = (uint64_t)vcpus },
                              .rate_bps = (uint64_t)rate,
                              .in_limit = (unsigned)in_limit,
                              .out_limit = (unsigned)out_limit,
                              .labels = labels,
                              .detail = detail };
  return nc_controller_put_node(host->controller, &node, error);
}

static bool
nc_fleet_see(NcFleetHost *host, const char *node, json_t *machines, GError **error)
{
  size_t count = json_array_size(machines);
  g_autofree NcMachineRecord *records = g_new0(NcMachineRecord, MAX(count, 1));

  if (!json_is_array(machines) || count > NC_FLEET_MOST_MACHINES)
    return nc_fail(error, NC_ERROR_PROTOCOL, "its machines are no list, or more than %d", NC_FLEET_MOST_MACHINES);
  for (size_t i = 0; i < count; i++)
    if (!nc_controller_read_machine(node, json_array_get(machines, i), &records[i], error))
      return false;
  return nc_controller_see_machines(host->controller, records, count, error);
}

/* Those that were seen on ${node} and that it does not tell of any more. */
static bool
nc_fleet_forget(NcFleetHost *host, const char *node, json_t *machines, GError **error)
{
  g_autoptr(GHashTable) there = g_hash_table_new(g_str_hash, g_str_equal);
  g_autofree char *cursor = NULL;
  json_t *machine;
  size_t i;

  json_array_foreach(machines, i, machine) g_hash_table_add(there, (gpointer)nc_json_string_or(machine, "name", ""));
  do {
    const NcPage page = { .cursor = cursor, .limit = NC_PAGE_MOST };
    char *next = NULL;
    nc_autojson json_t *known = nc_fleetdb_list_machines(host->db, node, &page, &next, error);
    g_free(cursor);
    cursor = next;
    if (!known)
      return false;
    json_array_foreach(known, i, machine)
    {
      const char *name = nc_json_string_or(machine, "name", "");
      if (!g_hash_table_contains(there, name) && !nc_controller_forget_machine(host->controller, name, node, error))
        return false;
    }
  } while (cursor);
  return true;
}

/* Of a machine's disks, the sizes that have hardly changed are what they were. */
static void
nc_fleet_settle_disks(json_t *before, json_t *now)
{
  size_t i;
  json_t *disk;

  json_array_foreach(json_object_get(now, "disks"), i, disk)
  {
    json_t *known = nc_json_find(json_object_get(before, "disks"), "directory", nc_json_string_or(disk, "directory", ""));
    json_t *bytes = json_object_get(known, "bytes");
    if (bytes &&
        !nc_disk_bytes_are_news((uint64_t)json_integer_value(bytes), (uint64_t)nc_json_int_or(disk, "bytes", 0)))
      json_object_set(disk, "bytes", bytes);
  }
}

/* Guests write all the time, which is no news: what stays of ${said} is what is to be compared with ${before}, NULL for
 * nothing. */
static void
nc_fleet_settle(json_t *before, json_t *said)
{
  g_autoptr(GHashTable) known = g_hash_table_new(g_str_hash, g_str_equal);
  json_t *machine;
  size_t i;

  json_array_foreach(json_object_get(before, "machines"), i, machine)
      g_hash_table_insert(known, (gpointer)nc_json_string_or(machine, "name", ""), machine);
  json_array_foreach(json_object_get(said, "machines"), i, machine)
      nc_fleet_settle_disks(g_hash_table_lookup(known, nc_json_string_or(machine, "name", "")), machine);
}

/* What is free changes all the time: what of that is news, the controller knows. */
static void
nc_fleet_take_file_systems(NcFleetHost *host, const char *node, json_t *file_systems)
{
  g_autoptr(GError) error = NULL;

  if (!nc_controller_see_disks(host->controller, node, file_systems, &error))
    nc_log(NC_LOG_WARNING, "controller", "what node %s tells of its file systems is not taken: %s", node,
           error->message);
}

static void
nc_fleet_take_news(NcFleetHost *host, const char *node, json_t *said)
{
  g_autoptr(GError) error = NULL;
  json_t *self = json_object_get(said, "node"), *machines = json_object_get(said, "machines");
  json_t *before = g_hash_table_lookup(host->seen, node);

  if (before && json_equal(before, said))
    return;
  bool is_same_node = before && json_equal(json_object_get(before, "node"), self);
  if (g_strcmp0(nc_json_string_or(self, "name", NULL), node) != 0)
    nc_fail(&error, NC_ERROR_PROTOCOL, "it says it is another one");
  else if ((is_same_node || nc_fleet_put_node(host, node, self, &error)) &&
           nc_fleet_see(host, node, machines, &error) && nc_fleet_forget(host, node, machines, &error))
    g_hash_table_insert(host->seen, g_strdup(node), json_incref(said));
  if (error)
    nc_log(NC_LOG_WARNING, "controller", "what node %s tells is not taken: %s", node, error->message);
}

void
nc_fleet_take_look(NcFleetHost *host, const char *node, json_t *said)
{
  json_t *self = json_object_get(said, "node");
  nc_autojson json_t *file_systems = json_incref(json_object_get(self, "file_systems")); /* NULL: of an older node */

  if (!nc_controller_leads(host->controller))
    return;
  nc_controller_heard(host->controller, node);
  json_object_del(self, "file_systems");
  nc_fleet_settle(g_hash_table_lookup(host->seen, node), said);
  nc_fleet_take_news(host, node, said);
  nc_fleet_take_file_systems(host, node, file_systems);
}
