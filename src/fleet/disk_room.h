/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room for disks: which nodes have what a machine's disks need, in the directories where they go.
 *
 * A disk has the same path on every node, so what a machine needs of a destination is room in the directories of those
 * disks that are copied, on whatever file systems they are there. Directories have numbers in a fleet. A node may say
 * which of them are on which of its file systems, and how much each has free; two directories on one share it. One that
 * says nothing of its file systems is never refused for them.
 *
 * What is free is what the node has seen; what of it is promised to machines on their way there is taken off. The bytes
 * that their disks have taken already are not free any more, but promised as well, so that they would count twice: the
 * node's word counts them as free. When a machine has arrived, what it was promised counts as used until the node's
 * next word. What is left behind at the source is not counted as free: its files stay there, set aside.
 */
#pragma once

#include "fleet/inventory.h"

/* Absolute, of at most NC_FLEET_MOST_DIRECTORY_BYTES, without control characters: what else machines have disks in is
 * not told of, as all nodes are asked about what one of them tells. */
bool nc_directory_is_countable(const char *directory);
/*
 * The number of a directory that disks of a machine on ${node} are in; NC_FLEET_NONE: it is not counted, as there are
 * NC_FLEET_MOST_DIRECTORIES others, or NC_FLEET_MOST_DIRECTORIES_OF_NODE that are known by ${node}.
 */
uint32_t nc_fleet_know_directory(NcFleet *f, const char *node, const char *directory);
/* One that is not counted, in words: "/srv/vm on node a"; NULL: all are. Borrowed. */
const char *nc_fleet_left_out(const NcFleet *f);
unsigned nc_fleet_directory_count(const NcFleet *f);
/* Borrowed. */
const char *nc_fleet_directory_name(const NcFleet *f, uint32_t directory);
/* Which of ${node}'s file systems ${directory} is on; NC_FLEET_NONE: it has not said that. */
uint32_t nc_fleet_find_file_system(const NcFleet *f, uint32_t node, const char *directory);

/* Without what is promised, all file systems together. */
uint64_t nc_disks_free(const NcNode *n);

/* Why there is no room. */
typedef struct {
  uint32_t directory;
  bool is_unknown, is_missing;     /* the node has not said where that is; there is none */
  uint64_t need_bytes, free_bytes; /* of all directories on that file system */
} NcDiskLack;
/* Has ${node} room for ${machine}'s disks? ${ret}: if not; may be NULL. Of nodes that do not tell of file systems:
 * true. */
bool nc_fleet_has_disk_room(const NcFleet *f, uint32_t machine, uint32_t node, NcDiskLack *ret);

/* Is it worth telling that what was ${before_bytes} is ${now_bytes} now? Guests and others write all the time. */
bool nc_disk_bytes_are_news(uint64_t before_bytes, uint64_t now_bytes);
/* ${node} tells of other file systems than before; of none: it says nothing of them any more. O(machines). As of the
 * following. */
void nc_fleet_set_file_systems(NcFleet *f, uint32_t node, const NcFileSystemSpec *specs, unsigned count);
/* ${node} tells that ${file_system} has so much free. With a queue, nc_queue_room_changed() then. */
void nc_fleet_set_free_disk(NcFleet *f, uint32_t node, unsigned file_system, uint64_t free_bytes);
/* Are these ${machine}'s disks, as far as they are counted? */
bool nc_fleet_has_disks(NcFleet *f, uint32_t machine, const NcDirectoryNeed *disks, unsigned count);
/* From now on these are; what is promised to it follows. False: they do not fit where its nodes say how much disk there
 * is in all. With a queue, nc_queue_needs_changed() then. */
bool nc_fleet_set_disks(NcFleet *f, uint32_t machine, const NcDirectoryNeed *disks, unsigned count);
