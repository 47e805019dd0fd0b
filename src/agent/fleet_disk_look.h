/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at disks for controllers (fleet_disks.h), in a thread of its own: a file system that does not answer, because
 * its server is away, must not make the node silent. Until it answers, what machines need is told as it was seen last,
 * and of file systems nothing, which is no news; nor is a look that takes too long waited for more than once. The log
 * says so.
 */
#pragma once

#include "agent/disk_chain.h"

typedef struct NcFleetDiskLook NcFleetDiskLook;
/* A look: what nc_fleet_disk_look() returns. In a thread of its own. */
typedef json_t *(*NcFleetDiskFunc)(json_t *directories, json_t *machines, NcDiskChain chain);

NcFleetDiskLook *nc_fleet_disk_look_new(void);
/* Tests: with another look than that of fleet_disks.h. */
NcFleetDiskLook *nc_fleet_disk_look_new_with(NcFleetDiskFunc func);
/* While nobody looks. Waits for nothing: a thread that is stuck ends with the process. NULL is fine. */
void nc_fleet_disk_look_free(NcFleetDiskLook *look);
/*
 * ${directories}, ${machines} (nc_machine_view()) as in fleet_disks.h. {file_systems: nc_fleet_disks_of_node(),
 * machines: {NAME: nc_fleet_disks_of_machine()}}; if the look can't begin, or does not end within NC_FLEET_DISK_LOOK_MS,
 * no file systems, and the machines of the last one that did end. New reference. Any thread; takes twice as long at most.
 */
#define NC_FLEET_DISK_LOOK_MS 2000
json_t *nc_fleet_disk_look(NcFleetDiskLook *look, json_t *directories, json_t *machines, NcDiskChain chain);
