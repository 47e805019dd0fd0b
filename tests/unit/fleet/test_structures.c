/* SPDX-License-Identifier: Apache-2.0 */
/* Heap and tree against the plainest thing that does the same: an array that is looked through. */
#include "fleet/heap.h"
#include "fleet/room_tree.h"

#define MOST 300

typedef struct {
  NcHeapEntry entry;
  int64_t key;
  bool is_in;
} Thing;

static Thing *
first_thing(Thing *things)
{
  Thing *first = NULL;

  for (int i = 0; i < MOST; i++)
    if (things[i].is_in && (!first || things[i].key < first->key)) /* the tie is the number */
      first = &things[i];
  return first;
}

static void
test_heap(void)
{
  Thing things[MOST] = { 0 };
  NcHeap heap = { 0 };

  for (int round = 0; round < 20000; round++) {
    int i = g_test_rand_int_range(0, MOST);
    Thing *thing = &things[i];
    int64_t key = g_test_rand_int_range(0, 50);
    if (g_test_rand_int_range(0, 3) == 0) {
      nc_heap_remove(&thing->entry);
      thing->is_in = false;
    } else {
      nc_heap_set(&heap, &thing->entry, thing->key = key, (uint64_t)i);
      thing->is_in = true;
    }
    g_assert_true(NC_HEAP_OWNER(nc_heap_top(&heap), Thing, entry) == first_thing(things));
  }
  for (Thing *first; (first = first_thing(things)); first->is_in = false)
    g_assert_true(NC_HEAP_OWNER(nc_heap_pop(&heap), Thing, entry) == first);
  g_assert_null(nc_heap_pop(&heap));
  nc_heap_clear(&heap);
}

/* A heap that is cleared leaves no entry believing that it is in one. */
static void
test_heap_cleared(void)
{
  Thing thing = { 0 };
  NcHeap heap = { 0 };

  nc_heap_push(&heap, &thing.entry, 1, 1);
  nc_heap_clear(&heap);
  nc_heap_remove(&thing.entry);
  nc_heap_push(&heap, &thing.entry, 1, 1);
  g_assert_true(nc_heap_top(&heap) == &thing.entry);
  nc_heap_clear(&heap);
}

typedef struct {
  uint32_t ids[MOST];
  unsigned count, stop;
} Seen;

static bool
see(const NcRoomEntry *entry, void *user_data)
{
  Seen *seen = user_data;
  seen->ids[seen->count++] = entry->id;
  return seen->count != seen->stop;
}

static NcRoom
any_room(void)
{
  return (NcRoom){ (uint64_t)g_test_rand_int_range(0, 40), (uint64_t)g_test_rand_int_range(0, 40), (uint64_t)g_test_rand_int_range(0, 40) };
}

static void
check_visit(const NcRoomTree *tree, const NcRoomEntry *entries, const bool *is_in)
{
  NcRoom need = any_room();
  Seen seen = { 0 };
  unsigned fitting = 0;

  nc_room_tree_visit(tree, &need, see, &seen);
  for (unsigned i = 0; i < MOST; i++)
    fitting += is_in[i] && nc_room_fits(&need, &entries[i].room);
  g_assert_cmpuint(seen.count, ==, fitting);
  for (unsigned i = 0; i < seen.count; i++) {
    const NcRoomEntry *e = &entries[seen.ids[i]], *before = i > 0 ? &entries[seen.ids[i - 1]] : NULL;
    g_assert_true(is_in[e->id] && nc_room_fits(&need, &e->room));
    g_assert_true(!before || before->room.memory_bytes > e->room.memory_bytes ||
                  (before->room.memory_bytes == e->room.memory_bytes && before->id < e->id));
  }
  Seen some = { .stop = 3 };
  nc_room_tree_visit(tree, &need, see, &some);
  g_assert_cmpuint(some.count, ==, MIN(fitting, 3));
}

static void
test_room_tree(void)
{
  NcRoomEntry entries[MOST] = { 0 };
  bool is_in[MOST] = { 0 };
  NcRoomTree tree = { 0 };
  uint32_t count = 0;

  for (int round = 0; round < 20000; round++) {
    uint32_t i = (uint32_t)g_test_rand_int_range(0, MOST);
    if (is_in[i]) {
      nc_room_tree_remove(&tree, &entries[i]);
    } else {
      entries[i] = (NcRoomEntry){ .room = any_room(), .id = i };
      nc_room_tree_insert(&tree, &entries[i]);
    }
    is_in[i] = !is_in[i];
    count += is_in[i] ? 1 : -1u;
    g_assert_cmpuint(tree.count, ==, count);
    if (round % 20 == 0)
      check_visit(&tree, entries, is_in);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/fleet/heap", test_heap);
  g_test_add_func("/fleet/heap_cleared", test_heap_cleared);
  g_test_add_func("/fleet/room_tree", test_room_tree);
  return g_test_run();
}
