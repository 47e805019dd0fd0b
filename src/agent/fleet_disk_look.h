/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at disks for controllers (fleet_disks.h), in a thread of its own: a file system that does not answer, because
 * its server is away, must not make the node silent. Until it answers, what was seen last is told.
 */
#pragma once

#include "agent/disk_chain.h"

typedef struct NcFleetDiskLook NcFleetDiskLook;

NcFleetDiskLook *nc_fleet_disk_look_new(void);
/* While nobody looks. Waits for nothing: a thread that is stuck ends with the process. NULL is fine. */
void nc_fleet_disk_look_free(NcFleetDiskLook *look);
/*
 * ${directories}, ${machines} (nc_machine_view()) as in fleet_disks.h. {file_systems: nc_fleet_disks_of_node(),
 * machines: {NAME: nc_fleet_disks_of_machine()}}, or what that was before, after NC_FLEET_DISK_LOOK_MS. New reference;
 * NULL: there was no answer yet. Any thread.
 */
#define NC_FLEET_DISK_LOOK_MS 2000
json_t *nc_fleet_disk_look(NcFleetDiskLook *look, json_t *directories, json_t *machines, NcDiskChain chain);
