/* SPDX-License-Identifier: Apache-2.0 */
/* The inventory from inside. Private to src/fleet/inventory*.c. */
#pragma once

#include "fleet/inventory.h"

struct NcFleet {
  GArray *links, *nodes, *machines, *labels; /* of NcLink, NcNode, NcMachine, NcLabel */
  GPtrArray *directories, *bringers;         /* their names; by whose machine each became known: names of nodes, owned */
  char *left_out;                            /* the first directory that is not counted, and where; NULL */
  GArray *free_machines; /* uint32_t: numbers of machines that were removed, to be used again */
  GHashTable *link_names, *node_names, *machine_names, *label_names; /* borrowed names to number + 1 */
  NcRoomTree tree;
  uint64_t largest_memory;
};

NcNode *nc_fleet_node_mutable(NcFleet *f, uint32_t node);
NcMachine *nc_fleet_machine_mutable(NcFleet *f, uint32_t machine);
/* Out of the trees, and into them. */
void nc_fleet_unindex(NcFleet *f, uint32_t node);
void nc_fleet_index(NcFleet *f, uint32_t node);
/* What ${need} takes of ${node}'s capacity. */
NcRoom nc_fleet_share(const NcFleet *f, uint32_t node, const NcRoom *need);
void nc_fleet_give_back(NcFleet *f, uint32_t node, const NcRoom *room);
/* Off the list of its node. */
void nc_fleet_take(NcFleet *f, uint32_t machine);

/* --- disk_room.c --- */

/* Copied. Of ${node}, which is in no tree and has none. */
void nc_disks_of_node(NcFleet *f, const NcFileSystemSpec *specs, unsigned count, NcNode *node);
/* Of ${machine}, which has a node. Sets the need's disk as well. */
void nc_disks_of_machine(NcFleet *f, const NcDirectoryNeed *disks, unsigned count, NcMachine *machine);
/* Room at ${node} is promised to ${machine}; or not any more; or it is used, by a machine that has arrived. */
void nc_disks_promise(NcFleet *f, uint32_t machine, uint32_t node);
void nc_disks_release(NcFleet *f, uint32_t machine, uint32_t node);
void nc_disks_settle(NcFleet *f, uint32_t machine, uint32_t node);
