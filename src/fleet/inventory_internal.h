/* SPDX-License-Identifier: Apache-2.0 */
/* The inventory from inside. Private to src/fleet/inventory*.c. */
#pragma once

#include "fleet/inventory.h"

struct NcFleet {
  GArray *links, *nodes, *machines, *labels; /* of NcLink, NcNode, NcMachine, NcLabel */
  GArray *free_machines; /* uint32_t: numbers of machines that were removed, to be used again */
  GHashTable *link_names, *node_names, *machine_names, *label_names; /* borrowed names to number + 1 */
  NcRoomTree tree;
  uint64_t largest_memory;
};

NcNode *nc_fleet_node_mutable(NcFleet *f, uint32_t node);
NcMachine *nc_fleet_machine_mutable(NcFleet *f, uint32_t machine);
/* Out of the trees. */
void nc_fleet_unindex(NcFleet *f, uint32_t node);
void nc_fleet_give_back(NcFleet *f, uint32_t node, const NcRoom *room);
/* Off the list of its node. */
void nc_fleet_take(NcFleet *f, uint32_t machine);
