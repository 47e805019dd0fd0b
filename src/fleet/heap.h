/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A heap whose entries are part of what they stand for, so that any of them can be taken out.
 *
 * Smallest key first; among equal keys the smaller ${tie}, so that the order never depends on memory or history. All
 * operations are O(log n). Not thread-safe.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct NcHeap NcHeap;

typedef struct {
  int64_t key;
  uint64_t tie;
  NcHeap *heap; /* the one it is in; NULL: none */
  size_t at;
} NcHeapEntry;

struct NcHeap {
  NcHeapEntry **entries;
  size_t count, room;
};

/* A heap of zeros is an empty one. Entries still in it are forgotten, not freed. */
void nc_heap_clear(NcHeap *heap);
/* ${entry} must be in no heap. */
void nc_heap_push(NcHeap *heap, NcHeapEntry *entry, int64_t key, uint64_t tie);
/* Takes it out of the heap it is in; fine if it is in none. */
void nc_heap_remove(NcHeapEntry *entry);
/* Puts it where ${key} belongs, whether it was in ${heap} or in none. */
void nc_heap_set(NcHeap *heap, NcHeapEntry *entry, int64_t key, uint64_t tie);
/* NULL if it is empty. */
NcHeapEntry *nc_heap_top(const NcHeap *heap);
/* Takes the top out. */
NcHeapEntry *nc_heap_pop(NcHeap *heap);
/* Does ${a} come before ${b}? */
bool nc_heap_before(const NcHeapEntry *a, const NcHeapEntry *b);

/* The ${type} whose ${member} is ${entry}; NULL of NULL. */
#define NC_HEAP_OWNER(entry, type, member) ((type *)nc_heap_owner((entry), offsetof(type, member)))
static inline void *
nc_heap_owner(NcHeapEntry *entry, size_t offset)
{
  return entry ? (char *)entry - offset : NULL;
}
