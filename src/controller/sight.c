/* SPDX-License-Identifier: Apache-2.0 */
/* What a node's agent says of one of its machines, as the record of what was seen. */
#include "controller/controller_internal.h"
#include "base/ident.h"

#include <string.h>

#define NC_MOST_STATE_BYTES 32u
#define NC_MOST_MEMORY_MIB ((int64_t)1 << 30)
#define NC_MOST_VCPUS 65536

bool
nc_controller_are_labels(json_t *said)
{
  size_t i;
  json_t *label;

  if (!json_is_array(said) || json_array_size(said) > NC_FLEET_MOST_LABELS)
    return false;
  json_array_foreach(said, i, label)
  {
    if (!json_is_string(label) || !nc_name_is_valid(json_string_value(label)))
      return false;
  }
  return true;
}

/* What it wants of the fleet; an agent that knows of no such things says nothing of them. */
static bool
nc_read_wants(json_t *said, NcMachineRecord *ret)
{
  json_t *priority = json_object_get(said, "priority"), *requires = json_object_get(said, "requires");

  ret->priority = NC_PRIORITY_NORMAL;
  ret->requires = requires;
  return (!requires || nc_controller_are_labels(requires)) &&
         (!priority || nc_priority_from_name(json_string_value(priority), &ret->priority));
}

bool
nc_state_is_stopped(const char *state)
{
  return g_str_equal(state, "stopped");
}

bool
nc_controller_read_machine(const char *node, json_t *said, NcMachineRecord *ret, GError **error)
{
  const char *name = nc_json_string(said, "name", error);
  const char *state = name ? nc_json_string(said, "state", error) : NULL;
  const char *right = state ? nc_json_string(said, "right", error) : NULL;
  int64_t epoch, memory_mib, vcpus;

  if (!right || !nc_json_int(said, "epoch", 0, G_MAXINT64, &epoch, error) ||
      !nc_json_int(said, "memory_mib", 0, NC_MOST_MEMORY_MIB, &memory_mib, error) ||
      !nc_json_int(said, "vcpus", 1, NC_MOST_VCPUS, &vcpus, error))
    return false;
  if (!nc_name_is_valid(name))
    return nc_fail(error, NC_ERROR_PROTOCOL, "node %s tells of a machine whose name is none (" NC_NAME_RULE ")", node);
  if (strlen(state) > NC_MOST_STATE_BYTES)
    return nc_fail(error, NC_ERROR_PROTOCOL, "node %s tells of machine %s in a state of more than %u bytes", node, name,
                   NC_MOST_STATE_BYTES);
  *ret = (NcMachineRecord){ .name = name,
                            .node = node,
                            .epoch = (uint64_t)epoch,
                            .lacks_right = !g_str_equal(right, "held"),
                            .state = state,
                            .need = { .memory_bytes = (uint64_t)memory_mib << 20, .cpus = (unsigned)vcpus } };
  ret->disks = json_object_get(said, "disks");
  if (ret->disks && !nc_are_disks(ret->disks, &ret->need.disk_bytes))
    return nc_fail(error, NC_ERROR_PROTOCOL, "node %s tells of disks of machine %s that are none", node, name);
  return nc_read_wants(said, ret) ||
         nc_fail(error, NC_ERROR_PROTOCOL, "node %s tells of a machine %s whose priority is none, or which requires what are no labels", node, name);
}
