/* SPDX-License-Identifier: Apache-2.0 */
/* What is not there any more. */
#include "fleet/inventory_internal.h"

bool
nc_fleet_remove_machine(NcFleet *f, uint32_t machine, GError **error)
{
  NcMachine *m = nc_fleet_machine_mutable(f, machine);

  if (m->reserved != NC_FLEET_NONE)
    return nc_fail(error, NC_ERROR_CONFLICT, "machine \"%s\" has room reserved on node \"%s\": end its migration first", m->name,
                   nc_fleet_node(f, m->reserved)->name);
  NcRoom share = nc_fleet_share(f, m->node, &m->need);
  nc_fleet_give_back(f, m->node, &share);
  nc_fleet_take(f, machine);
  g_hash_table_remove(f->machine_names, m->name);
  g_free(m->name);
  g_free(m->requires);
  g_free(m->disks);
  *m = (NcMachine){ .node = NC_FLEET_NONE, .reserved = NC_FLEET_NONE };
  g_array_append_val(f->free_machines, machine);
  return true;
}

static uint64_t
nc_fleet_look_for_largest(const NcFleet *f)
{
  uint64_t most = 0;

  for (uint32_t i = 0; i < nc_fleet_node_count(f); i++)
    most = MAX(most, nc_fleet_node(f, i)->capacity.memory_bytes);
  return most;
}

bool
nc_fleet_remove_node(NcFleet *f, uint32_t node, GError **error)
{
  NcNode *n = nc_fleet_node_mutable(f, node);

  if (n->machine_count > 0)
    return nc_fail(error, NC_ERROR_CONFLICT, "node \"%s\" has %u machines: move or remove them first", n->name, n->machine_count);
  if (n->used.memory_bytes > 0 || n->used.disk_bytes > 0 || n->used.cpus > 0)
    return nc_fail(error, NC_ERROR_CONFLICT, "on node \"%s\" room is reserved for machines: end their migrations first", n->name);
  nc_fleet_unindex(f, node);
  g_hash_table_remove(f->node_names, n->name);
  g_free(n->name);
  g_free(n->labels);
  g_free(n->entries);
  g_free(n->file_systems);
  g_free(n->on_file_system);
  /* The number stays with it: others keep lists by the numbers of nodes. */
  *n = (NcNode){ .link = NC_FLEET_NONE, .first_machine = NC_FLEET_NONE, .is_down = true };
  f->largest_memory = nc_fleet_look_for_largest(f);
  return true;
}
