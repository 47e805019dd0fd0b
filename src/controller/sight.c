/* SPDX-License-Identifier: Apache-2.0 */
/* What a node's agent says of one of its machines, as the record of what was seen. */
#include "controller/controller.h"
#include "base/error.h"
#include "base/ident.h"
#include "base/msg.h"

#include <string.h>

#define NC_MOST_STATE_BYTES 32u
#define NC_MOST_MEMORY_MIB ((int64_t)1 << 30)
#define NC_MOST_VCPUS 65536

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
                            .need = { .memory_bytes = (uint64_t)memory_mib << 20, .cpus = (unsigned)vcpus },
                            .priority = NC_PRIORITY_NORMAL };
  return true;
}
