/* SPDX-License-Identifier: Apache-2.0 */
/* Order, limits, conflicts, and that everything is decided in the end. */
#include "base/msg.h"
#include "fleet/disk_room.h"
#include "fleet/queue.h"
#include "support.h"

#include <string.h>

#define SECOND ((int64_t)G_USEC_PER_SEC)
#define MOST 256u

typedef struct {
  NcFleet *fleet;
  NcQueue *queue;
  uint64_t started[MOST]; /* ids, in the order of their starts */
  unsigned count;
  NcItemState last[4 * MOST]; /* by id */
  char *reasons[4 * MOST];
} Bed;

static void
hear(const NcItem *item, void *user_data)
{
  Bed *bed = user_data;

  g_assert_cmpuint(item->id, <, G_N_ELEMENTS(bed->last));
  bed->last[item->id] = item->state;
  g_free(bed->reasons[item->id]);
  bed->reasons[item->id] = g_strdup(item->reason);
  if (item->state == NC_ITEM_RUNNING && bed->count < MOST)
    bed->started[bed->count++] = item->id;
}

/* ${nodes} nodes "n0"... of 64 GiB each, with ${each} machines of 1 GiB on each. */
static void
bed_init(Bed *bed, unsigned nodes, unsigned each, const NcQueueLimits *limits)
{
  *bed = (Bed){ .fleet = nc_fleet_new() };
  for (unsigned i = 0; i < nodes; i++) {
    g_autofree char *name = g_strdup_printf("n%u", i);
    add_node(bed->fleet, name, 64);
  }
  for (unsigned i = 0; i < nodes * each; i++) {
    g_autofree char *name = g_strdup_printf("m%u", i);
    add_machine(bed->fleet, name, i / each, 1);
  }
  bed->queue = nc_queue_new(bed->fleet, limits, hear, bed);
}

static void
bed_clear(Bed *bed)
{
  nc_queue_free(bed->queue);
  check_fleet(bed->fleet);
  nc_fleet_free(bed->fleet);
  for (unsigned i = 0; i < G_N_ELEMENTS(bed->reasons); i++)
    g_free(bed->reasons[i]);
}

static uint64_t
submit(Bed *bed, uint32_t machine, uint32_t to, NcPriority priority, int64_t now_us)
{
  NcRequest request = { .machine = machine, .destination = to, .priority = priority, .qos = NC_QOS_NORMAL };
  return nc_queue_submit(bed->queue, &request, now_us, NULL);
}

static void
set_disk(Bed *bed, uint32_t machine, uint64_t gib)
{
  const NcDirectoryNeed disk = { "/srv/vm", gib * GIB };
  g_assert_true(nc_fleet_set_disks(bed->fleet, machine, &disk, 1));
}

static void
set_free_disk(Bed *bed, uint32_t node, uint64_t gib)
{
  static const char *const vm[] = { "/srv/vm", NULL };
  const NcFileSystemSpec spec = { vm, gib * GIB, false };
  nc_fleet_set_file_systems(bed->fleet, node, &spec, 1);
}

/* Ends the first that was started and did not end. */
static void
end_first(Bed *bed, NcEnd end, int64_t now_us)
{
  for (unsigned i = 0; i < bed->count; i++) {
    if (bed->last[bed->started[i]] != NC_ITEM_RUNNING)
      continue;
    nc_queue_ended(bed->queue, bed->started[i], end, end == NC_END_COMPLETED ? NULL : "it was to fail", now_us);
    return;
  }
  g_assert_not_reached();
}

/* By priority, within one by time. */
static void
test_order(void)
{
  static const NcPriority priorities[] = { NC_PRIORITY_LOW, NC_PRIORITY_NORMAL, NC_PRIORITY_NORMAL, NC_PRIORITY_CRITICAL, NC_PRIORITY_HIGH };
  static const unsigned order[] = { 3, 4, 1, 2, 0 };
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  uint64_t ids[5];
  Bed bed;

  limits.cluster = 1;
  bed_init(&bed, 5, 1, &limits);
  for (unsigned i = 0; i < 5; i++)
    ids[i] = submit(&bed, i, NC_FLEET_NONE, priorities[i], i);
  for (unsigned i = 0; i < 5; i++) {
    g_assert_cmpuint(nc_queue_schedule(bed.queue, 10), ==, 1);
    g_assert_cmpuint(bed.started[i], ==, ids[order[i]]);
    end_first(&bed, NC_END_COMPLETED, 10);
  }
  g_assert_cmpuint(nc_queue_length(bed.queue), ==, 0);
  bed_clear(&bed);
}

/* One that waits gets older than critical ones that come later. */
static void
test_ageing(void)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  Bed bed;

  limits.cluster = 1;
  bed_init(&bed, 4, 20, &limits);
  uint64_t low = submit(&bed, 0, NC_FLEET_NONE, NC_PRIORITY_LOW, 0);
  for (unsigned i = 1; bed.last[low] != NC_ITEM_RUNNING; i++) { /* one critical a minute, and one ends */
    submit(&bed, i, NC_FLEET_NONE, NC_PRIORITY_CRITICAL, (int64_t)(i - 1) * 60 * SECOND);
    g_assert_cmpuint(nc_queue_schedule(bed.queue, (int64_t)i * 60 * SECOND), ==, 1);
    g_assert_cmpuint(i, <=, 32); /* 3 classes of 600 s */
    if (bed.last[low] != NC_ITEM_RUNNING)
      end_first(&bed, NC_END_COMPLETED, (int64_t)i * 60 * SECOND);
  }
  g_assert_cmpuint(bed.count, >=, 30);
  bed_clear(&bed);
}

static void
test_limits_of_cluster_and_nodes(void)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  Bed bed;

  limits.cluster = 5;
  bed_init(&bed, 4, 10, &limits);
  for (unsigned i = 0; i < 10; i++)
    submit(&bed, i, 3, NC_PRIORITY_NORMAL, 0); /* all from n0 to n3 */
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 0), ==, 2);
  for (unsigned i = 10; i < 20; i++)
    submit(&bed, i, NC_FLEET_NONE, NC_PRIORITY_LOW, 0);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 0), ==, 2); /* those in front of them wait for n3 */
  for (unsigned i = 20; i < 30; i++)
    submit(&bed, i, 1, NC_PRIORITY_LOW, 0);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 0), ==, 1); /* five in all */
  g_assert_cmpuint(nc_queue_running(bed.queue), ==, 5);
  g_assert_cmpuint(nc_queue_incoming(bed.queue, 3), ==, 2);
  bed_clear(&bed);
}

/* A node's own limits count more than the queue's. */
static void
test_limits_of_one_node(void)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  Bed bed;

  bed_init(&bed, 2, 4, &limits);
  NcNodeSpec spec = { .name = "narrow", .capacity = { 64 * GIB, 0, 100 }, .link = NC_FLEET_NONE, .in_limit = 1 };
  nc_fleet_add_node(bed.fleet, &spec, NULL);
  for (unsigned i = 0; i < 8; i++)
    submit(&bed, i, 2, NC_PRIORITY_NORMAL, 0);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 0), ==, 1);
  bed_clear(&bed);
}

static void
test_refusals(void)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  static const char *const gpu[] = { "gpu", NULL };
  NcRequest request = { .machine = 0, .destination = 0 };
  g_autoptr(GError) error = NULL;
  Bed bed;

  bed_init(&bed, 3, 1, &limits);
  g_assert_cmpuint(nc_queue_submit(bed.queue, &request, 0, &error), ==, 0);
  g_assert_error(error, NC_ERROR, NC_ERROR_INVALID); /* it is there */
  g_clear_error(&error);
  nc_fleet_set_cordoned(bed.fleet, 1, true);
  request.destination = 1;
  g_assert_cmpuint(nc_queue_submit(bed.queue, &request, 0, &error), ==, 0);
  g_assert_error(error, NC_ERROR, NC_ERROR_UNSUITABLE);
  g_clear_error(&error);
  NcMachineSpec spec = { .name = "graphic", .node = 0, .need = { GIB, 0, 1 }, .requires = gpu };
  request.machine = nc_fleet_add_machine(bed.fleet, &spec, NULL);
  request.destination = 2;
  g_assert_cmpuint(nc_queue_submit(bed.queue, &request, 0, &error), ==, 0);
  g_assert_error(error, NC_ERROR, NC_ERROR_UNSUITABLE);
  g_clear_error(&error);
  request.machine = 0;
  g_assert_cmpuint(nc_queue_submit(bed.queue, &request, 0, NULL), >, 0);
  g_assert_cmpuint(nc_queue_submit(bed.queue, &request, 0, &error), ==, 0);
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT); /* one at a time */
  g_clear_error(&error);
  g_assert_false(nc_queue_cancel(bed.queue, 4711, NULL, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
  bed_clear(&bed);
}

/* The destination has no room yet: it begins when another one has left. */
static void
test_room_is_waited_for(void)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  Bed bed = { 0 };

  bed.fleet = nc_fleet_new();
  uint32_t a = add_node(bed.fleet, "a", 8), b = add_node(bed.fleet, "b", 8), c = add_node(bed.fleet, "c", 8);
  uint32_t one = add_machine(bed.fleet, "one", a, 6), two = add_machine(bed.fleet, "two", b, 6);
  bed.queue = nc_queue_new(bed.fleet, &limits, hear, &bed);
  uint64_t waits = submit(&bed, one, b, NC_PRIORITY_CRITICAL, 0), goes = submit(&bed, two, c, NC_PRIORITY_LOW, 0);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 0), ==, 1);
  g_assert_cmpuint(bed.started[0], ==, goes);
  nc_queue_ended(bed.queue, goes, NC_END_COMPLETED, NULL, SECOND);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, SECOND), ==, 1);
  g_assert_cmpuint(bed.started[1], ==, waits);
  bed_clear(&bed);
}

/* Nothing has changed at the nodes, but in what is to go there. */
static void
test_needs_become_less(void)
{
  static const NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  Bed bed;
  bed_init(&bed, 2, 3, &limits);

  for (unsigned i = 0; i < 3; i++)
    set_disk(&bed, i, 20);
  set_free_disk(&bed, 1, 10);
  uint64_t there = submit(&bed, 0, 1, NC_PRIORITY_NORMAL, 0), anywhere = submit(&bed, 1, NC_FLEET_NONE, NC_PRIORITY_NORMAL, 0);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 0), ==, 0);
  set_disk(&bed, 1, 8);
  nc_queue_needs_changed(bed.queue, 1);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, SECOND), ==, 1);
  g_assert_cmpint(bed.last[anywhere], ==, NC_ITEM_RUNNING);
  set_disk(&bed, 0, 3);
  nc_queue_needs_changed(bed.queue, 0); /* 2 are left */
  g_assert_cmpuint(nc_queue_schedule(bed.queue, SECOND), ==, 0);
  nc_queue_needs_changed(bed.queue, 2); /* it has no item */
  set_disk(&bed, 1, 7);                 /* while it is on its way */
  nc_queue_needs_changed(bed.queue, 1);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 2 * SECOND), ==, 1);
  g_assert_cmpint(bed.last[there], ==, NC_ITEM_RUNNING);
  end_first(&bed, NC_END_MAY_PASS, 3 * SECOND);
  nc_queue_needs_changed(bed.queue, 1); /* it waits for time, and goes on doing so */
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 3 * SECOND), ==, 0);
  g_assert_cmpint(bed.last[anywhere], ==, NC_ITEM_BACKOFF);
  end_first(&bed, NC_END_COMPLETED, 4 * SECOND);
  bed_clear(&bed);
}

/* a to b, b to c, c to a, and all are full: the last one says so; if there is room on one of them, all go. */
static void
test_circle(bool has_room)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  uint32_t nodes[3], machines[3];
  uint64_t ids[3];
  unsigned started = 0;
  Bed bed = { .fleet = nc_fleet_new() };

  for (unsigned i = 0; i < 3; i++) {
    const char *names[] = { "a", "b", "c" };
    nodes[i] = add_node(bed.fleet, names[i], has_room && i == 2 ? 16 : 8);
    g_autofree char *name = g_strdup_printf("on-%s", names[i]);
    machines[i] = add_machine(bed.fleet, name, nodes[i], 6);
  }
  bed.queue = nc_queue_new(bed.fleet, &limits, hear, &bed);
  for (unsigned i = 0; i < 3; i++)
    ids[i] = submit(&bed, machines[i], nodes[(i + 1) % 3], NC_PRIORITY_NORMAL, i);
  for (unsigned i = 0; i < 4; i++) {
    unsigned n = nc_queue_schedule(bed.queue, 10 + i);
    started += n;
    if (n > 0)
      end_first(&bed, NC_END_COMPLETED, 10 + i);
  }
  g_assert_cmpuint(started, ==, has_room ? 3 : 0);
  if (!has_room) { /* not all of them: one has to go elsewhere, and then the others fit */
    g_assert_cmpint(bed.last[ids[0]] == NC_ITEM_REFUSED ? 1 : 0, ==, 1);
    g_assert_nonnull(strstr(bed.reasons[ids[0]], "a -> b -> c -> a"));
    g_assert_cmpuint(nc_queue_length(bed.queue), ==, 2);
  }
  bed_clear(&bed);
}

/* Two machines change places, in a directory of which their nodes have not said anything yet: it is no circle until they have. */
static void
test_swap_of_unknown_disks(void)
{
  static const NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  static const char *const other[] = { "/data", NULL };
  static const NcFileSystemSpec elsewhere = { other, 100 * GIB, false };

  for (unsigned free_gib = 5; free_gib <= 20; free_gib += 15) {
    Bed bed;
    bed_init(&bed, 2, 1, &limits);
    nc_fleet_know_directory(bed.fleet, "n0", "/data");
    for (unsigned i = 0; i < 2; i++) {
      set_disk(&bed, i, 10);
      nc_fleet_set_file_systems(bed.fleet, i, &elsewhere, 1);
    }
    uint64_t one = submit(&bed, 0, 1, NC_PRIORITY_NORMAL, 0), two = submit(&bed, 1, 0, NC_PRIORITY_NORMAL, 0);
    g_assert_cmpuint(nc_queue_schedule(bed.queue, 0), ==, 0);
    g_assert_cmpint(bed.last[one], ==, NC_ITEM_QUEUED);
    g_assert_cmpint(bed.last[two], ==, NC_ITEM_QUEUED);
    for (uint32_t i = 0; i < 2; i++) {
      set_free_disk(&bed, i, free_gib);
      nc_queue_room_changed(bed.queue, i);
    }
    g_assert_cmpuint(nc_queue_schedule(bed.queue, SECOND), ==, free_gib < 10 ? 0 : 2);
    g_assert_cmpint(bed.last[one], ==, free_gib < 10 ? NC_ITEM_REFUSED : NC_ITEM_RUNNING);
    bed_clear(&bed);
  }
}

static void
test_circle_of_full_nodes(void)
{
  test_circle(false);
}

static void
test_circle_with_room(void)
{
  test_circle(true);
}

/* Attempts, the waits between them, and that the next one avoids the node where the last failed. */
static void
test_retries(void)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  Bed bed;

  bed_init(&bed, 3, 1, &limits);
  uint64_t id = submit(&bed, 0, NC_FLEET_NONE, NC_PRIORITY_NORMAL, 0);
  nc_queue_schedule(bed.queue, 0);
  uint32_t first = nc_queue_item(bed.queue, id)->to;
  nc_queue_ended(bed.queue, id, NC_END_MAY_PASS, "lost", SECOND);
  g_assert_cmpint(bed.last[id], ==, NC_ITEM_BACKOFF);
  g_assert_cmpint(nc_queue_next_us(bed.queue), ==, 6 * SECOND);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 6 * SECOND - 1), ==, 0);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 6 * SECOND), ==, 1);
  g_assert_cmpuint(nc_queue_item(bed.queue, id)->to, !=, first);
  nc_queue_ended(bed.queue, id, NC_END_MAY_PASS, "lost", 7 * SECOND);
  g_assert_cmpint(nc_queue_next_us(bed.queue), ==, 17 * SECOND);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 17 * SECOND), ==, 1);
  nc_queue_ended(bed.queue, id, NC_END_MAY_PASS, "lost again", 18 * SECOND);
  g_assert_cmpint(bed.last[id], ==, NC_ITEM_FAILED);
  g_assert_cmpstr(bed.reasons[id], ==, "lost again");
  g_assert_null(nc_queue_item(bed.queue, id));
  check_fleet(bed.fleet);
  g_assert_cmpuint(submit(&bed, 0, NC_FLEET_NONE, NC_PRIORITY_NORMAL, 0), >, 0); /* may be asked for anew */
  bed_clear(&bed);
}

/* Nothing makes room: it is refused in the end, with a reason. */
static void
test_giving_up(void)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  Bed bed = { .fleet = nc_fleet_new() };

  uint32_t a = add_node(bed.fleet, "a", 8);
  add_node(bed.fleet, "b", 4);
  uint32_t one = add_machine(bed.fleet, "one", a, 6);
  bed.queue = nc_queue_new(bed.fleet, &limits, hear, &bed);
  uint64_t id = submit(&bed, one, NC_FLEET_NONE, NC_PRIORITY_NORMAL, 0);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 0), ==, 0);
  g_assert_cmpint(nc_queue_next_us(bed.queue), ==, limits.give_up_us);
  nc_queue_schedule(bed.queue, limits.give_up_us);
  g_assert_cmpint(bed.last[id], ==, NC_ITEM_REFUSED);
  g_assert_nonnull(strstr(bed.reasons[id], "1 is its own, 1 lacks memory"));
  g_assert_cmpint(nc_queue_next_us(bed.queue), ==, INT64_MAX);
  bed_clear(&bed);
}

static void
test_cancel(void)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  NcRequest request = { .machine = 1, .destination = 2, .reserve = true, .group = 7 };
  g_autoptr(GError) error = NULL;
  Bed bed;

  bed_init(&bed, 3, 2, &limits);
  uint64_t runs = submit(&bed, 0, NC_FLEET_NONE, NC_PRIORITY_NORMAL, 0);
  nc_queue_schedule(bed.queue, 0);
  g_assert_false(nc_queue_cancel(bed.queue, runs, "by hand", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  uint64_t waits = nc_queue_submit(bed.queue, &request, 0, NULL);
  g_assert_cmpuint(nc_fleet_machine(bed.fleet, 1)->reserved, ==, 2);
  g_assert_cmpuint(nc_queue_cancel_group(bed.queue, 8, "no such"), ==, 0);
  g_assert_cmpuint(nc_queue_cancel_group(bed.queue, 7, "by hand"), ==, 1);
  g_assert_cmpint(bed.last[waits], ==, NC_ITEM_CANCELLED);
  g_assert_cmpuint(nc_fleet_machine(bed.fleet, 1)->reserved, ==, NC_FLEET_NONE);
  nc_queue_ended(bed.queue, runs, NC_END_CANCELLED, "by hand", 1);
  g_assert_cmpuint(nc_fleet_machine(bed.fleet, 0)->node, ==, 0);
  bed_clear(&bed);
}

/* --- anything --- */

static void
check_limits(const Bed *bed, const NcQueueLimits *limits)
{
  g_autofree unsigned *in = g_new0(unsigned, nc_fleet_node_count(bed->fleet)), *out = g_new0(unsigned, nc_fleet_node_count(bed->fleet));
  unsigned running = 0;

  for (uint64_t id = 1; id < G_N_ELEMENTS(bed->last); id++) {
    const NcItem *item = nc_queue_item(bed->queue, id);
    if (!item || item->state != NC_ITEM_RUNNING)
      continue;
    running++;
    in[item->to]++;
    out[item->from]++;
    g_assert_cmpuint(nc_fleet_machine(bed->fleet, item->request.machine)->reserved, ==, item->to);
    g_assert_true(nc_queue_item_of(bed->queue, item->request.machine) == item);
  }
  g_assert_cmpuint(running, ==, nc_queue_running(bed->queue));
  g_assert_cmpuint(running, <=, limits->cluster);
  for (uint32_t i = 0; i < nc_fleet_node_count(bed->fleet); i++) {
    g_assert_cmpuint(in[i], <=, limits->node_in);
    g_assert_cmpuint(out[i], <=, limits->node_out);
    g_assert_cmpuint(in[i], ==, nc_queue_incoming(bed->queue, i));
    g_assert_cmpuint(out[i], ==, nc_queue_outgoing(bed->queue, i));
  }
}

/* One goes if it can, and another one comes, with its number. */
static void
replace_machine(Bed *bed, uint32_t machine, uint32_t node)
{
  static unsigned number = 0;
  g_autofree char *name = g_strdup_printf("new-%u", number++);
  NcRoom room = nc_fleet_free_room(bed->fleet, node);

  if (nc_queue_remove_machine(bed->queue, machine, "at random", NULL) && room.memory_bytes >= 2 * GIB && room.cpus > 0) {
    NcMachineSpec spec = { .name = name, .node = node, .need = { 2 * GIB, 0, 1 }, .priority = NC_PRIORITY_LOW, .guest = guest_of(2) };
    g_assert_cmpuint(nc_fleet_add_machine(bed->fleet, &spec, NULL), ==, machine);
  }
}

static void
do_anything(Bed *bed, int64_t now_us)
{
  uint32_t nodes = nc_fleet_node_count(bed->fleet), node = (uint32_t)g_test_rand_int_range(0, (gint32)nodes);
  NcRequest request = { .machine = (uint32_t)g_test_rand_int_range(0, (gint32)nc_fleet_machine_count(bed->fleet)),
                        .destination = g_test_rand_bit() ? NC_FLEET_NONE : node,
                        .is_wish = g_test_rand_bit(),
                        .priority = (NcPriority)g_test_rand_int_range(0, NC_PRIORITY_COUNT),
                        .group = (uint64_t)g_test_rand_int_range(0, 4) };

  if (!nc_fleet_node(bed->fleet, node)->name || !nc_fleet_machine(bed->fleet, request.machine)->name)
    return; /* removed */
  switch (g_test_rand_int_range(0, 12)) {
  case 10:
    replace_machine(bed, request.machine, node);
    break;
  case 11:
    if (g_test_rand_int_range(0, 4) == 0)
      nc_queue_remove_node(bed->queue, node, NULL); /* few are empty, or become so */
    break;
  case 0:
    nc_queue_cancel_group(bed->queue, request.group, "at random");
    break;
  case 1:
    nc_fleet_set_cordoned(bed->fleet, node, g_test_rand_bit());
    nc_queue_room_changed(bed->queue, node);
    break;
  case 2:
    nc_fleet_set_down(bed->fleet, node, g_test_rand_int_range(0, 4) == 0);
    nc_queue_room_changed(bed->queue, node);
    break;
  case 3:
  case 4:
  case 5:
    if (nc_queue_running(bed->queue) > 0)
      end_first(bed, g_test_rand_int_range(0, 3) > 0 ? NC_END_COMPLETED : g_test_rand_bit() ? NC_END_MAY_PASS : NC_END_FINAL, now_us);
    break;
  default:
    request.reserve = request.destination != NC_FLEET_NONE && g_test_rand_int_range(0, 4) == 0;
    request.is_bound = g_test_rand_bit();
    nc_queue_submit(bed->queue, &request, now_us, NULL);
    break;
  }
}

/* All nodes that are away; was there one? */
static bool
come_back(Bed *bed)
{
  bool any = false;

  for (uint32_t node = 0; node < nc_fleet_node_count(bed->fleet); node++) {
    if (!nc_fleet_node(bed->fleet, node)->name || !nc_fleet_node(bed->fleet, node)->is_down)
      continue;
    nc_fleet_set_down(bed->fleet, node, false);
    nc_queue_room_changed(bed->queue, node);
    any = true;
  }
  return any;
}

/* With nothing more coming in, and everything that runs ending, all is decided: nothing is left in the queue. */
static void
drain(Bed *bed, const NcQueueLimits *limits, int64_t now_us)
{
  for (unsigned i = 0; nc_queue_length(bed->queue) + nc_queue_running(bed->queue) > 0; i++) {
    g_assert_cmpuint(i, <, 10 * MOST);
    nc_queue_schedule(bed->queue, now_us);
    check_limits(bed, limits);
    if (nc_queue_running(bed->queue) > 0)
      end_first(bed, NC_END_COMPLETED, now_us);
    else if (nc_queue_next_us(bed->queue) != INT64_MAX)
      now_us = MAX(now_us, nc_queue_next_us(bed->queue));
    else if (nc_queue_length(bed->queue) > 0)
      g_assert_true(come_back(bed)); /* what is on a node that is away waits for it, and for nothing else */
  }
}

/* --- what an earlier queue had --- */

static uint64_t
restore(Bed *bed, uint32_t machine, NcItemState state, uint32_t to, int64_t submitted_us, int64_t not_before_us)
{
  const NcRequest request = { .machine = machine, .destination = 1, .reserve = true, .priority = NC_PRIORITY_NORMAL, .attempts = 2 };
  const NcItemBefore before = {
    .state = state, .to = to, .submitted_us = submitted_us, .not_before_us = not_before_us, .started_us = -1, .attempts = state == NC_ITEM_QUEUED ? 0 : 1
  };
  g_autoptr(GError) error = NULL;
  uint64_t id = nc_queue_restore(bed->queue, &request, &before, &error);
  g_assert_no_error(error);
  return id;
}

static void
test_restored(void)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  g_autoptr(GError) error = NULL;
  Bed bed;

  limits.node_in = limits.node_out = 1;
  bed_init(&bed, 2, 4, &limits);
  uint64_t late = restore(&bed, 0, NC_ITEM_QUEUED, NC_FLEET_NONE, 200, 0), early = restore(&bed, 1, NC_ITEM_QUEUED, NC_FLEET_NONE, 100, 0);
  uint64_t failed = restore(&bed, 2, NC_ITEM_BACKOFF, 1, 50, 1000), runs = restore(&bed, 3, NC_ITEM_RUNNING, 1, 0, 0);
  const NcRequest again = { .machine = 3, .destination = 1 };
  const NcItemBefore as_it_was = { .state = NC_ITEM_QUEUED, .to = NC_FLEET_NONE };
  g_assert_cmpuint(nc_queue_restore(bed.queue, &again, &as_it_was, &error), ==, 0);
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  g_clear_error(&error);
  check_fleet(bed.fleet);
  g_assert_cmpuint(nc_queue_running(bed.queue), ==, 1);
  g_assert_cmpuint(nc_fleet_machine(bed.fleet, 0)->reserved, ==, 1);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 500), ==, 0); /* what runs counts */
  nc_queue_ended(bed.queue, runs, NC_END_COMPLETED, NULL, 500);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 500), ==, 1);
  g_assert_cmpuint(bed.started[0], ==, early); /* by when they were asked for */
  nc_queue_ended(bed.queue, early, NC_END_COMPLETED, NULL, 600);
  nc_queue_schedule(bed.queue, 2000);
  g_assert_cmpuint(bed.started[1], ==, failed); /* its time has come, and it is the oldest */
  nc_queue_ended(bed.queue, failed, NC_END_MAY_PASS, "again", 2000);
  g_assert_cmpint(bed.last[failed], ==, NC_ITEM_FAILED); /* two attempts, with the one before */
  nc_queue_schedule(bed.queue, 2000);
  g_assert_cmpuint(bed.started[2], ==, late);
  bed_clear(&bed);
}

/* A source that is away sends nothing; when it is back, it does. */
static void
test_source_away(void)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  Bed bed;

  bed_init(&bed, 2, 1, &limits);
  uint64_t id = submit(&bed, 0, 1, NC_PRIORITY_NORMAL, 0);
  nc_fleet_set_down(bed.fleet, 0, true);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 1), ==, 0);
  nc_fleet_set_down(bed.fleet, 0, false);
  nc_queue_room_changed(bed.queue, 0);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 2), ==, 1);
  g_assert_cmpuint(bed.started[0], ==, id);
  bed_clear(&bed);
}

/* --- what goes --- */

static void
test_machine_removed(void)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  g_autoptr(GError) error = NULL;
  Bed bed;

  bed_init(&bed, 2, 2, &limits);
  uint64_t runs = submit(&bed, 0, 1, NC_PRIORITY_NORMAL, 0);
  nc_queue_schedule(bed.queue, 0);
  uint64_t waits = submit(&bed, 1, 1, NC_PRIORITY_NORMAL, 0);
  g_assert_false(nc_queue_remove_machine(bed.queue, 0, "it was destroyed", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  g_clear_error(&error);
  g_assert_true(nc_queue_remove_machine(bed.queue, 1, "it was destroyed", &error));
  g_assert_cmpint(bed.last[waits], ==, NC_ITEM_CANCELLED);
  g_assert_cmpstr(bed.reasons[waits], ==, "it was destroyed");
  g_assert_cmpuint(nc_fleet_find_machine(bed.fleet, "m1"), ==, NC_FLEET_NONE);
  check_fleet(bed.fleet);

  /* Its number is used again, and means the new one. */
  uint32_t other = add_machine(bed.fleet, "other", 1, 3);
  g_assert_cmpuint(other, ==, 1);
  g_assert_cmpstr(nc_fleet_machine(bed.fleet, 1)->name, ==, "other");
  g_assert_cmpuint(nc_fleet_find_machine(bed.fleet, "other"), ==, 1);
  g_assert_null(nc_queue_item_of(bed.queue, other));
  uint64_t next = submit(&bed, other, 0, NC_PRIORITY_NORMAL, 0);
  nc_queue_schedule(bed.queue, 0);
  g_assert_cmpint(bed.last[next], ==, NC_ITEM_RUNNING);
  g_assert_cmpint(bed.last[runs], ==, NC_ITEM_RUNNING);
  bed_clear(&bed);
}

/* A machine that goes makes room for one that waits for it. */
static void
test_machine_removed_makes_room(void)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  Bed bed;

  bed_init(&bed, 2, 1, &limits);
  uint32_t big = add_machine(bed.fleet, "big", 1, 60);
  uint32_t mover = add_machine(bed.fleet, "mover", 0, 10);
  uint64_t id = submit(&bed, mover, 1, NC_PRIORITY_NORMAL, 0);
  g_assert_cmpuint(nc_queue_schedule(bed.queue, 0), ==, 0);
  g_assert_true(nc_queue_remove_machine(bed.queue, big, "", NULL));
  g_assert_cmpuint(nc_queue_schedule(bed.queue, SECOND), ==, 1);
  g_assert_cmpint(bed.last[id], ==, NC_ITEM_RUNNING);
  bed_clear(&bed);
}

static void
test_node_removed(void)
{
  NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  NcRequest wish = { .machine = 1, .destination = 2, .is_wish = true, .reserve = true, .priority = NC_PRIORITY_NORMAL, .qos = NC_QOS_NORMAL };
  g_autoptr(GError) error = NULL;
  Bed bed;

  bed_init(&bed, 2, 2, &limits);
  add_node(bed.fleet, "n2", 64);
  uint64_t strict = submit(&bed, 0, 2, NC_PRIORITY_NORMAL, 0), wished = nc_queue_submit(bed.queue, &wish, 0, NULL);
  g_assert_false(nc_queue_remove_node(bed.queue, 0, &error)); /* machines are on it */
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  g_clear_error(&error);
  g_assert_true(nc_queue_remove_node(bed.queue, 2, &error));
  g_assert_cmpint(bed.last[strict], ==, NC_ITEM_REFUSED);
  g_assert_nonnull(strstr(bed.reasons[strict], "\"n2\""));
  nc_queue_schedule(bed.queue, 0);
  g_assert_cmpint(bed.last[wished], ==, NC_ITEM_RUNNING);
  g_assert_cmpuint(nc_queue_item(bed.queue, wished)->to, ==, 1);
  check_fleet(bed.fleet);

  nc_autojson json_t *explained = nc_queue_explain(bed.queue, 0);
  g_assert_cmpuint(json_array_size(json_object_get(explained, "nodes")), ==, 2);
  g_assert_cmpuint(add_node(bed.fleet, "n2", 32), ==, 3); /* back under its name, with another number */
  g_assert_false(nc_queue_remove_node(bed.queue, 1, &error)); /* one is on its way to it */
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  bed_clear(&bed);
}

static void
test_anything(void)
{
  for (unsigned round = 0; round < 100; round++) {
    NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
    Bed *bed = g_new0(Bed, 1);
    int64_t now_us = 0;
    limits.cluster = (unsigned)g_test_rand_int_range(1, 8);
    limits.node_in = (unsigned)g_test_rand_int_range(1, 4);
    limits.node_out = (unsigned)g_test_rand_int_range(1, 4);
    bed->fleet = any_fleet(12, 150);
    bed->queue = nc_queue_new(bed->fleet, &limits, hear, bed);
    for (unsigned step = 0; step < 300 && bed->count < MOST - 10; step++) {
      do_anything(bed, now_us);
      nc_queue_schedule(bed->queue, now_us += g_test_rand_int_range(0, 10) * SECOND);
      check_limits(bed, &limits);
      check_fleet(bed->fleet);
    }
    drain(bed, &limits, now_us);
    bed_clear(bed);
    g_free(bed);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/queue/order", test_order);
  g_test_add_func("/queue/ageing", test_ageing);
  g_test_add_func("/queue/limits_of_cluster_and_nodes", test_limits_of_cluster_and_nodes);
  g_test_add_func("/queue/limits_of_one_node", test_limits_of_one_node);
  g_test_add_func("/queue/refusals", test_refusals);
  g_test_add_func("/queue/room_is_waited_for", test_room_is_waited_for);
  g_test_add_func("/queue/needs_become_less", test_needs_become_less);
  g_test_add_func("/queue/swap_of_unknown_disks", test_swap_of_unknown_disks);
  g_test_add_func("/queue/circle_of_full_nodes", test_circle_of_full_nodes);
  g_test_add_func("/queue/circle_with_room", test_circle_with_room);
  g_test_add_func("/queue/retries", test_retries);
  g_test_add_func("/queue/giving_up", test_giving_up);
  g_test_add_func("/queue/cancel", test_cancel);
  g_test_add_func("/queue/machine_removed", test_machine_removed);
  g_test_add_func("/queue/machine_removed_makes_room", test_machine_removed_makes_room);
  g_test_add_func("/queue/node_removed", test_node_removed);
  g_test_add_func("/queue/anything", test_anything);
  g_test_add_func("/queue/restored", test_restored);
  g_test_add_func("/queue/source_away", test_source_away);
  return g_test_run();
}
