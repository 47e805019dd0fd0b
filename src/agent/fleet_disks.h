/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this node tells a controller of disks, so that it can reserve room for them (fleet/disk_room.h): of its
 * machines, what their disks will need where they go; of itself, what the directories have free in which disks of the
 * fleet's machines are.
 *
 * It is told every other second, so that QEMU is not asked, and no file read but the heads of images. Which files both
 * nodes see (shared storage that the machine's file does not call shared) is only known when a migration looks; here,
 * all on file systems that several hosts may have mounted are taken to be seen by both.
 */
#pragma once

#include "agent/disk_chain.h"

/* [{directory, bytes}] of the disks that are copied when a machine moves which ${spec} (its JSON) describes, as far as
 * their directories are counted (nc_directory_is_countable()). New reference. */
json_t *nc_fleet_disks_of_machine(json_t *spec, NcDiskChain chain);
/*
 * [{directories, free_bytes, arriving_bytes, is_missing}] of ${directories}, those on one file system together;
 * arriving: what disks of machines take there which are on their way here. ${machines}: [nc_machine_view()]. New
 * reference; what is no absolute path is skipped.
 */
json_t *nc_fleet_disks_of_node(json_t *directories, json_t *machines);
