/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/room_tree.h"

#include <glib.h>

/* Most memory first, then the smallest id: in that order from right to left. */
static bool
nc_room_is_left_of(const NcRoomEntry *a, const NcRoomEntry *b)
{
  return a->room.memory_bytes != b->room.memory_bytes ? a->room.memory_bytes < b->room.memory_bytes : a->id > b->id;
}

/* Mixes the id's bits, every step can be undone: so no two ids have the same. The number is 2^32 by the golden ratio. */
static uint32_t
nc_room_priority(uint32_t id)
{
  for (int i = 0; i < 2; i++) {
    id *= 0x9e3779b1u;
    id ^= id >> 15;
  }
  return id;
}

static void
nc_room_sum_up(NcRoomEntry *entry)
{
  entry->most_cpus = entry->room.cpus;
  entry->most_disk_bytes = entry->room.disk_bytes;
  for (int i = 0; i < 2; i++) {
    const NcRoomEntry *child = i == 0 ? entry->left : entry->right;
    if (!child)
      continue;
    entry->most_cpus = MAX(entry->most_cpus, child->most_cpus);
    entry->most_disk_bytes = MAX(entry->most_disk_bytes, child->most_disk_bytes);
  }
}

/* What is left of ${at}, and the rest. */
static void
nc_room_split(NcRoomEntry *tree, const NcRoomEntry *at, NcRoomEntry **ret_left, NcRoomEntry **ret_right)
{
  if (!tree) {
    *ret_left = *ret_right = NULL;
  } else if (nc_room_is_left_of(tree, at)) {
    nc_room_split(tree->right, at, &tree->right, ret_right);
    *ret_left = tree;
    nc_room_sum_up(tree);
  } else {
    nc_room_split(tree->left, at, ret_left, &tree->left);
    *ret_right = tree;
    nc_room_sum_up(tree);
  }
}

/* All of ${left} is left of all of ${right}. */
static NcRoomEntry *
nc_room_join(NcRoomEntry *left, NcRoomEntry *right)
{
  if (!left || !right)
    return left ? left : right;
  if (left->priority > right->priority) {
    left->right = nc_room_join(left->right, right);
    nc_room_sum_up(left);
    return left;
  }
  right->left = nc_room_join(left, right->left);
  nc_room_sum_up(right);
  return right;
}

static NcRoomEntry *
nc_room_insert(NcRoomEntry *tree, NcRoomEntry *entry)
{
  if (!tree || entry->priority > tree->priority) {
    nc_room_split(tree, entry, &entry->left, &entry->right);
    tree = entry;
  } else if (nc_room_is_left_of(entry, tree)) {
    tree->left = nc_room_insert(tree->left, entry);
  } else {
    tree->right = nc_room_insert(tree->right, entry);
  }
  nc_room_sum_up(tree);
  return tree;
}

static NcRoomEntry *
nc_room_remove(NcRoomEntry *tree, NcRoomEntry *entry)
{
  if (tree == entry)
    return nc_room_join(entry->left, entry->right);
  if (nc_room_is_left_of(entry, tree))
    tree->left = nc_room_remove(tree->left, entry);
  else
    tree->right = nc_room_remove(tree->right, entry);
  nc_room_sum_up(tree);
  return tree;
}

void
nc_room_tree_insert(NcRoomTree *tree, NcRoomEntry *entry)
{
  entry->priority = nc_room_priority(entry->id);
  tree->root = nc_room_insert(tree->root, entry);
  tree->count++;
}

void
nc_room_tree_remove(NcRoomTree *tree, NcRoomEntry *entry)
{
  tree->root = nc_room_remove(tree->root, entry);
  tree->count--;
}

static bool
nc_room_visit(const NcRoomEntry *entry, const NcRoom *need, NcRoomFunc func, void *user_data)
{
  if (!entry || entry->most_cpus < need->cpus || entry->most_disk_bytes < need->disk_bytes)
    return true;
  if (!nc_room_visit(entry->right, need, func, user_data))
    return false;
  if (entry->room.memory_bytes < need->memory_bytes)
    return true; /* as has everything to its left */
  return (!nc_room_fits(need, &entry->room) || func(entry, user_data)) && nc_room_visit(entry->left, need, func, user_data);
}

void
nc_room_tree_visit(const NcRoomTree *tree, const NcRoom *need, NcRoomFunc func, void *user_data)
{
  nc_room_visit(tree->root, need, func, user_data);
}
