/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/heap.h"

bool
nc_heap_before(const NcHeapEntry *a, const NcHeapEntry *b)
{
  return a->key != b->key ? a->key < b->key : a->tie < b->tie;
}

static void
nc_heap_place(NcHeap *heap, size_t at, NcHeapEntry *entry)
{
  heap->entries[at] = entry;
  entry->at = at;
}

static void
nc_heap_up(NcHeap *heap, NcHeapEntry *entry)
{
  size_t at = entry->at;

  for (; at > 0 && nc_heap_before(entry, heap->entries[(at - 1) / 2]); at = (at - 1) / 2)
    nc_heap_place(heap, at, heap->entries[(at - 1) / 2]);
  nc_heap_place(heap, at, entry);
}

static void
nc_heap_down(NcHeap *heap, NcHeapEntry *entry)
{
  size_t at = entry->at;

  for (size_t child = 2 * at + 1; child < heap->count; child = 2 * at + 1) {
    if (child + 1 < heap->count && nc_heap_before(heap->entries[child + 1], heap->entries[child]))
      child++;
    if (!nc_heap_before(heap->entries[child], entry))
      break;
    nc_heap_place(heap, at, heap->entries[child]);
    at = child;
  }
  nc_heap_place(heap, at, entry);
}

void
nc_heap_clear(NcHeap *heap)
{
  for (size_t i = 0; i < heap->count; i++)
    heap->entries[i]->heap = NULL;
  g_free(heap->entries);
  *heap = (NcHeap){ 0 };
}

void
nc_heap_push(NcHeap *heap, NcHeapEntry *entry, int64_t key, uint64_t tie)
{
  if (heap->count == heap->room) {
    heap->room = MAX(2 * heap->room, 4);
    heap->entries = g_renew(NcHeapEntry *, heap->entries, heap->room);
  }
  *entry = (NcHeapEntry){ .key = key, .tie = tie, .heap = heap };
  nc_heap_place(heap, heap->count++, entry);
  nc_heap_up(heap, entry);
}

void
nc_heap_remove(NcHeapEntry *entry)
{
  NcHeap *heap = entry->heap;

  if (!heap)
    return;
  NcHeapEntry *last = heap->entries[--heap->count];
  if (last != entry) {
    nc_heap_place(heap, entry->at, last);
    nc_heap_up(heap, last);
    nc_heap_down(heap, last);
  }
  entry->heap = NULL;
}

void
nc_heap_set(NcHeap *heap, NcHeapEntry *entry, int64_t key, uint64_t tie)
{
  if (entry->heap == heap && entry->key == key && entry->tie == tie)
    return;
  nc_heap_remove(entry);
  nc_heap_push(heap, entry, key, tie);
}

NcHeapEntry *
nc_heap_top(const NcHeap *heap)
{
  return heap->count > 0 ? heap->entries[0] : NULL;
}

NcHeapEntry *
nc_heap_pop(NcHeap *heap)
{
  NcHeapEntry *top = nc_heap_top(heap);

  if (top)
    nc_heap_remove(top);
  return top;
}
