/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nodes in the order of their free memory, to find those with room for a machine without looking at all.
 *
 * A treap: a search tree by free memory which is balanced by random-looking priorities (of the node's number, so that it is the same
 * tree every time). Each entry also knows the most processors and the most disk that any entry below it has; a search
 * does not go where no entry can have enough. Insertion and removal are O(log n) on average.
 *
 * Entries are part of what they stand for. Not thread-safe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What a machine needs, or a node has. */
typedef struct {
  uint64_t memory_bytes, disk_bytes, cpus;
} NcRoom;

/* Of a node that says nothing of its disks, and of one that says it by file system (fleet/disk_room.h). Sums of it and needs do not overflow. */
#define NC_ROOM_ANY_DISK ((uint64_t)INT64_MAX)

/* Is ${need} no more than ${have}? */
static inline bool
nc_room_fits(const NcRoom *need, const NcRoom *have)
{
  return need->memory_bytes <= have->memory_bytes && need->cpus <= have->cpus && need->disk_bytes <= have->disk_bytes;
}

typedef struct NcRoomEntry NcRoomEntry;
struct NcRoomEntry {
  NcRoom room; /* free; not to be changed while in a tree */
  uint32_t id;
  uint32_t priority;
  uint64_t most_cpus, most_disk_bytes;
  NcRoomEntry *left, *right;
};

typedef struct {
  NcRoomEntry *root;
  uint32_t count;
} NcRoomTree;

/* ${entry} must be in no tree, with room and id set; ids in a tree differ. */
void nc_room_tree_insert(NcRoomTree *tree, NcRoomEntry *entry);
/* ${entry} must be in ${tree}. */
void nc_room_tree_remove(NcRoomTree *tree, NcRoomEntry *entry);

/* false: enough seen. */
typedef bool (*NcRoomFunc)(const NcRoomEntry *entry, void *user_data);
/* Those with room for ${need}, most free memory first, then by id. */
void nc_room_tree_visit(const NcRoomTree *tree, const NcRoom *need, NcRoomFunc func, void *user_data);
