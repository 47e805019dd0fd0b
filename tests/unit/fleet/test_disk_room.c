/* SPDX-License-Identifier: Apache-2.0 */
/* Room for disks, by directory and file system: who is refused and told why, and that nothing is promised twice, or
 * counts twice. */
#include "fleet/disk_room.h"
#include "fleet/evacuation.h"
#include "fleet/forecast_move.h"
#include "fleet/placement.h"
#include "support.h"

#include <string.h>

#define MOST_NAMES 4
#define SHARED "; a disk that both nodes see needs none, with `shared = yes` in the machine's file"

static const char *const names[MOST_NAMES] = { "/srv/vm", "/srv/db", "/data", "/scratch" };
static const char *const vm[] = { "/srv/vm", NULL }, *const vm_and_db[] = { "/srv/vm", "/srv/db", NULL },
                         *const db[] = { "/srv/db", NULL };

static NcFleet *
fleet_new(void)
{
  NcFleet *f = nc_fleet_new();

  for (unsigned i = 0; i < MOST_NAMES; i++)
    g_assert_cmpuint(nc_fleet_know_directory(f, "first", names[i]), ==, i);
  return f;
}

static uint32_t
add_node_with(NcFleet *f, const char *name, const NcFileSystemSpec *file_systems, unsigned count)
{
  const NcNodeSpec spec = { .name = name,
                            .capacity = { 64 * GIB, NC_ROOM_ANY_DISK, 64 },
                            .file_systems = file_systems,
                            .file_system_count = count,
                            .link = NC_FLEET_NONE };
  uint32_t node = nc_fleet_add_node(f, &spec, NULL);

  g_assert_cmpuint(node, !=, NC_FLEET_NONE);
  return node;
}

static uint32_t
add_node_with_vm(NcFleet *f, const char *name, uint64_t free_gib)
{
  const NcFileSystemSpec file_system = { vm, free_gib * GIB, false };
  return add_node_with(f, name, &file_system, 1);
}

static uint32_t
add_machine_with(NcFleet *f, const char *name, uint32_t node, const NcDirectoryNeed *disks, unsigned count)
{
  const NcMachineSpec spec = { .name = name,
                               .node = node,
                               .need = { GIB, 0, 1 },
                               .disks = disks,
                               .disk_count = count,
                               .priority = NC_PRIORITY_NORMAL,
                               .guest = guest_of(1) };
  uint32_t machine = nc_fleet_add_machine(f, &spec, NULL);

  g_assert_cmpuint(machine, !=, NC_FLEET_NONE);
  return machine;
}

static uint32_t
add_machine_with_vm(NcFleet *f, const char *name, uint32_t node, uint64_t gib)
{
  const NcDirectoryNeed disk = { "/srv/vm", gib * GIB };
  return add_machine_with(f, name, node, &disk, 1);
}

static uint64_t
free_gib(const NcFleet *f, uint32_t node)
{
  return nc_fleet_free_room(f, node).disk_bytes / GIB;
}

static void
assert_refused(const NcFleet *f, uint32_t machine, uint32_t node, const char *why)
{
  const NcPlacementTerms terms = { .failed = NC_FLEET_NONE };
  double score;
  g_autofree char *text = nc_placement_why_not(f, machine, node, &terms);

  g_assert_cmpstr(text, ==, why);
  g_assert_cmpint(nc_placement_judge(f, machine, node, &terms, &score), ==, why ? NC_REFUSAL_DISK : NC_REFUSAL_NONE);
}

static void
test_each_lack_is_told(void)
{
  static const NcFileSystemSpec missing = { vm, 100 * GIB, true }, other = { db, 100 * GIB, false };
  g_autoptr(NcFleet) f = fleet_new();
  const NcPlacementTerms terms = { .failed = NC_FLEET_NONE };
  uint32_t own = add_node_with_vm(f, "own", 0), small = add_node_with_vm(f, "small", 9),
           none = add_node_with(f, "none", &missing, 1);
  uint32_t unknown = add_node_with(f, "unknown", &other, 1), large = add_node_with_vm(f, "large", 10);
  uint32_t machine = add_machine_with_vm(f, "web", own, 10);

  assert_refused(f, machine, small, "10240 MiB of disk needed in /srv/vm, 9216 free" SHARED);
  assert_refused(f, machine, none, "there is no directory /srv/vm, where its disks go");
  assert_refused(f, machine, unknown, "it has not said yet how much room /srv/vm has");
  assert_refused(f, machine, large, NULL);
  g_assert_cmpuint(nc_placement_choose(f, machine, &terms), ==, large);
  nc_fleet_set_free_disk(f, large, 0, 9 * GIB);
  g_assert_cmpuint(nc_placement_choose(f, machine, &terms), ==, NC_FLEET_NONE);
  g_assert_false(nc_fleet_reserve(f, machine, large));
  g_autofree char *complaint = nc_placement_complaint(f, machine, &terms);
  g_assert_cmpstr(complaint, ==,
                  "no node can take web: of 5 nodes 1 is its own, 4 lack disk (small: 10240 MiB of disk needed in "
                  "/srv/vm, 9216 free" SHARED ")");
  uint32_t silent = add_node_with(f, "silent", NULL, 0); /* an older one */
  g_assert_cmpuint(nc_placement_choose(f, machine, &terms), ==, silent);
}

/* Two directories need room on one file system together, on two each its own. */
static void
test_directories_share_their_file_system(void)
{
  static const NcDirectoryNeed disks[] = { { "/srv/vm", 6 * GIB }, { "/srv/db", 3 * GIB }, { "/srv/db", 3 * GIB } };
  static const NcFileSystemSpec one = { vm_and_db, 11 * GIB, false }, enough = { vm_and_db, 12 * GIB, false };
  static const NcFileSystemSpec two[] = { { vm, 5 * GIB, false }, { db, 100 * GIB, false } },
                                fine[] = { { vm, 6 * GIB, false }, { db, 6 * GIB, false } };
  g_autoptr(NcFleet) f = fleet_new();
  uint32_t own = add_node_with(f, "own", NULL, 0),
           machine = add_machine_with(f, "web", own, disks, G_N_ELEMENTS(disks));

  g_assert_cmpuint(nc_fleet_machine(f, machine)->need.disk_bytes, ==, 12 * GIB);
  assert_refused(f, machine, add_node_with(f, "one", &one, 1), "12288 MiB of disk needed in /srv/vm, 11264 free" SHARED);
  assert_refused(f, machine, add_node_with(f, "enough", &enough, 1), NULL);
  assert_refused(f, machine, add_node_with(f, "two", two, 2), "6144 MiB of disk needed in /srv/vm, 5120 free" SHARED);
  assert_refused(f, machine, add_node_with(f, "fine", fine, 2), NULL);
}

static void
test_what_is_promised_is_not_free(void)
{
  g_autoptr(NcFleet) f = fleet_new();
  uint32_t a = add_node_with_vm(f, "a", 10), b = add_node_with_vm(f, "b", 10);
  uint32_t one = add_machine_with_vm(f, "one", a, 6), two = add_machine_with_vm(f, "two", a, 6);

  g_assert_cmpuint(free_gib(f, a), ==, 10); /* what it has seen free is without them */
  g_assert_true(nc_fleet_reserve(f, one, b));
  g_assert_cmpuint(free_gib(f, b), ==, 4);
  g_assert_false(nc_fleet_reserve(f, two, b));
  nc_fleet_unreserve(f, one);
  g_assert_cmpuint(free_gib(f, b), ==, 10);
  g_assert_true(nc_fleet_reserve(f, two, b));
  nc_fleet_arrive(f, two);
  g_assert_cmpuint(free_gib(f, b), ==, 4); /* used, though b has not said so yet */
  g_assert_cmpuint(nc_fleet_node(f, b)->file_systems[0].told_bytes, ==, 10 * GIB);
  g_assert_cmpuint(free_gib(f, a), ==, 10); /* its files stay there */
  g_assert_false(nc_fleet_reserve(f, one, b));
  nc_fleet_set_free_disk(f, b, 0, 7 * GIB);
  g_assert_true(nc_fleet_reserve(f, one, b));
  nc_fleet_set_free_disk(f, b, 0, 2 * GIB); /* others have used it */
  g_assert_cmpuint(free_gib(f, b), ==, 0);
  nc_fleet_unreserve(f, one);
  g_assert_cmpuint(free_gib(f, b), ==, 2);
  g_assert_true(nc_fleet_reserve_again(f, one, b)); /* it is on its way */
  g_assert_true(nc_fleet_remove_machine(f, two, NULL));
  g_assert_cmpuint(free_gib(f, b), ==, 0);
  nc_fleet_unreserve(f, one);
  check_fleet(f);
}

/* A node says it in another way than before, a machine grows; what is promised stays so. */
static void
test_news(void)
{
  static const NcFileSystemSpec one = { vm_and_db, 20 * GIB, false },
                                two[] = { { vm, 10 * GIB, false }, { db, 9 * GIB, false } };
  static const NcDirectoryNeed grown = { "/srv/vm", 8 * GIB };
  g_autoptr(NcFleet) f = fleet_new();
  uint32_t a = add_node_with(f, "a", NULL, 0), b = add_node_with(f, "b", NULL, 0);
  uint32_t machine = add_machine_with_vm(f, "web", a, 6);

  g_assert_true(nc_fleet_reserve(f, machine, b));
  g_assert_cmpuint(nc_fleet_node(f, b)->used.disk_bytes, ==, 6 * GIB);
  nc_fleet_set_file_systems(f, b, &one, 1);
  g_assert_cmpuint(free_gib(f, b), ==, 14);
  nc_fleet_set_file_systems(f, b, two, 2);
  g_assert_cmpuint(nc_fleet_node(f, b)->file_systems[0].promised_bytes, ==, 6 * GIB);
  g_assert_cmpuint(nc_fleet_find_file_system(f, b, "/srv/db"), ==, 1);
  g_assert_cmpuint(nc_fleet_find_file_system(f, b, "/data"), ==, NC_FLEET_NONE);
  g_assert_cmpuint(free_gib(f, b), ==, 4 + 9);
  g_assert_false(nc_fleet_has_disks(f, machine, &grown, 1));
  g_assert_true(nc_fleet_set_disks(f, machine, &grown, 1));
  g_assert_true(nc_fleet_has_disks(f, machine, &grown, 1));
  g_assert_cmpuint(free_gib(f, b), ==, 2 + 9);
  g_assert_cmpuint(nc_fleet_node(f, a)->used.disk_bytes, ==, 8 * GIB);
  nc_fleet_set_file_systems(f, b, NULL, 0);
  check_fleet(f);
  nc_fleet_unreserve(f, machine);
  check_fleet(f);
  g_assert_false(nc_disk_bytes_are_news(GIB, GIB + (31 << 20)));
  g_assert_true(nc_disk_bytes_are_news(GIB, GIB - (32 << 20)));
  g_assert_false(nc_disk_bytes_are_news(1000 * GIB, 1031 * GIB));
  g_assert_true(nc_disk_bytes_are_news(64 * GIB, 0));
}

/* Directories beyond those that are told apart are not counted, and nobody is refused for them. */
static void
test_too_many_directories(void)
{
  g_autoptr(NcFleet) f = nc_fleet_new();
  const NcFileSystemSpec none = { vm, 0, false };

  for (unsigned i = 0; i < NC_FLEET_MOST_DIRECTORIES; i++) {
    g_autofree char *name = i == 0 ? g_strdup("/srv/vm") : g_strdup_printf("/vm/%u", i);
    g_autofree char *node = g_strdup_printf("n%u", i % 5);
    g_assert_cmpuint(nc_fleet_know_directory(f, node, name), ==, i);
  }
  g_assert_null(nc_fleet_left_out(f));
  g_assert_cmpuint(nc_fleet_know_directory(f, "a", "/vm/9"), ==, 9);
  g_assert_null(nc_fleet_left_out(f));
  g_assert_cmpuint(nc_fleet_know_directory(f, "a", "/more"), ==, NC_FLEET_NONE);
  g_assert_cmpstr(nc_fleet_left_out(f), ==, "/more on node a");
  const NcDirectoryNeed disk = { "/more", GIB };
  uint32_t a = add_node_with(f, "a", &none, 1), b = add_node_with(f, "b", &none, 1);
  uint32_t machine = add_machine_with(f, "web", a, &disk, 1);
  assert_refused(f, machine, b, NULL);
  g_assert_true(nc_fleet_reserve(f, machine, b));
}

/* One node, whatever it tells, leaves room for those of others. */
static void
test_one_node_brings_a_quarter(void)
{
  g_autoptr(NcFleet) f = nc_fleet_new();
  uint32_t a = add_node_with(f, "a", NULL, 0), b = add_node_with(f, "b", NULL, 0), machine = NC_FLEET_NONE;

  for (unsigned i = 0; i < NC_FLEET_MOST_DIRECTORIES / 2; i++) {
    g_autofree char *directory = g_strdup_printf("/vm/%u", i), *name = g_strdup_printf("m%u", i);
    const NcDirectoryNeed disk = { directory, GIB };
    machine = add_machine_with(f, name, a, &disk, 1);
    g_assert_cmpuint(nc_fleet_directory_count(f), ==, MIN(i + 1, NC_FLEET_MOST_DIRECTORIES / 4));
  }
  g_assert_cmpstr(nc_fleet_left_out(f), ==, "/vm/16 on node a");
  const NcDirectoryNeed disks[] = { { "/vm/3", GIB }, { "/srv/vm", GIB } };
  g_assert_false(nc_fleet_has_disks(f, machine, disks, 2));
  g_assert_true(nc_fleet_set_disks(f, machine, disks, 2));
  g_assert_cmpuint(nc_fleet_machine(f, machine)->disk_count, ==, 1);
  machine = add_machine_with(f, "other", b, disks, 2);
  g_assert_cmpuint(nc_fleet_machine(f, machine)->disk_count, ==, 2);
  check_fleet(f);
}

static void
test_directories_that_are_counted(void)
{
  char longest[NC_FLEET_MOST_DIRECTORY_BYTES + 2] = { 0 };

  memset(longest, '/', NC_FLEET_MOST_DIRECTORY_BYTES);
  g_assert_true(nc_directory_is_countable(longest));
  longest[NC_FLEET_MOST_DIRECTORY_BYTES] = 'a';
  g_assert_false(nc_directory_is_countable(longest));
  g_assert_true(nc_directory_is_countable("/srv/\u00e9 it's"));
  g_assert_false(nc_directory_is_countable(""));
  g_assert_false(nc_directory_is_countable("srv"));
  g_assert_false(nc_directory_is_countable("/srv/\n"));
  g_assert_false(nc_directory_is_countable("/srv/\x1b[2J"));
  g_assert_false(nc_directory_is_countable("/srv/\x7f"));
}

/* Several machines are planned for the same destination: the second one finds what the first has left. */
static void
test_evacuation_counts_disks(void)
{
  static const NcQueueLimits limits = NC_QUEUE_LIMITS_DEFAULT;
  g_autoptr(NcFleet) f = fleet_new();
  uint32_t a = add_node_with_vm(f, "a", 0), b = add_node_with_vm(f, "b", 10);

  for (unsigned i = 0; i < 4; i++) {
    g_autofree char *name = g_strdup_printf("m%u", i);
    add_machine_with_vm(f, name, a, i < 3 ? 4 : 3);
  }
  g_autoptr(NcEvacuation) plan = nc_evacuation_plan(f, &(NcEvacuationTerms){ .limits = &limits, .qos = NC_QOS_NORMAL }, &a, 1);
  g_assert_cmpuint(plan->moves->len, ==, 2); /* 4 and 4: for neither of the others is there room */
  g_assert_cmpuint(plan->stuck->len, ==, 2);
  for (unsigned i = 0; i < 2; i++) {
    const NcStuckMachine *stuck = &g_array_index(plan->stuck, NcStuckMachine, i);
    g_autofree char *lack =
        g_strdup_printf("1 lacks disk (b: %u MiB of disk needed in /srv/vm, 2048 free" SHARED ")", i == 0 ? 4096 : 3072);
    g_assert_nonnull(strstr(stuck->reason, lack));
  }
  g_assert_cmpuint(free_gib(f, b), ==, 10);
  /* 4 GiB of disk before the memory: no rate is known, so that it takes this long at least. */
  g_assert_true(plan->is_at_least);
  g_assert_cmpfloat(g_array_index(plan->moves, NcPlannedMove, 0).seconds, >, 4 * (double)GIB / NC_MOVE_MOST_CONTENT_BPS);
  g_assert_cmpfloat(g_array_index(plan->moves, NcPlannedMove, 0).wire_bytes, >, 4 * (double)GIB);
}

static void
random_disks(NcDirectoryNeed *disks, unsigned *count)
{
  *count = (unsigned)g_test_rand_int_range(0, 4);
  for (unsigned i = 0; i < *count; i++)
    disks[i] =
        (NcDirectoryNeed){ names[g_test_rand_int_range(0, MOST_NAMES)], (uint64_t)g_test_rand_int_range(0, 20) * GIB };
}

static void
random_node(NcFleet *f, unsigned number)
{
  g_autofree char *name = g_strdup_printf("n%u", number);
  const char *split[MOST_NAMES][MOST_NAMES + 1] = { { NULL } };
  NcFileSystemSpec specs[MOST_NAMES];
  unsigned count = (unsigned)g_test_rand_int_range(0, MOST_NAMES + 1), sizes[MOST_NAMES] = { 0 };

  for (unsigned i = 0; i < MOST_NAMES && count > 0; i++) {
    unsigned at = (unsigned)g_test_rand_int_range(0, (gint32)count);
    split[at][sizes[at]++] = names[i];
  }
  for (unsigned i = 0; i < count; i++)
    specs[i] =
        (NcFileSystemSpec){ split[i], (uint64_t)g_test_rand_int_range(0, 60) * GIB, g_test_rand_int_range(0, 10) == 0 };
  add_node_with(f, name, specs, count);
}

/* What is promised on each file system, counted anew. */
static void
check_promises(const NcFleet *f)
{
  for (uint32_t i = 0; i < nc_fleet_node_count(f); i++) {
    const NcNode *n = nc_fleet_node(f, i);
    uint64_t promised[MOST_NAMES] = { 0 };
    for (uint32_t k = 0; k < nc_fleet_machine_count(f); k++) {
      const NcMachine *m = nc_fleet_machine(f, k);
      for (unsigned d = 0; m->reserved == i && d < m->disk_count; d++) {
        uint32_t where = nc_fleet_find_file_system(f, i, names[m->disks[d].directory]);
        if (where != NC_FLEET_NONE)
          promised[where] += m->disks[d].bytes;
      }
    }
    for (unsigned k = 0; k < n->file_system_count; k++) {
      g_assert_cmpuint(n->file_systems[k].promised_bytes, ==, promised[k]);
      g_assert_cmpuint(promised[k], <=, n->file_systems[k].free_bytes);
    }
  }
}

/* The search against looking at all, and the sums, while machines go to and fro. */
static void
test_the_choice_is_the_best_of_all(void)
{
  const NcPlacementTerms terms = { .failed = NC_FLEET_NONE };
  unsigned chosen = 0, none = 0;

  for (unsigned round = 0; round < 40; round++) {
    g_autoptr(NcFleet) f = fleet_new();
    NcDirectoryNeed disks[4];
    const unsigned nodes = round % 2 ? 3 : 20, machines = 3 * nodes; /* of three, often none fits */
    unsigned count;
    for (unsigned i = 0; i < nodes; i++)
      random_node(f, i);
    for (unsigned i = 0; i < machines; i++) {
      g_autofree char *name = g_strdup_printf("m%u", i);
      random_disks(disks, &count);
      add_machine_with(f, name, (uint32_t)g_test_rand_int_range(0, (gint32)nodes), disks, count);
    }
    for (unsigned turn = 0; turn < 200; turn++) {
      uint32_t m = (uint32_t)g_test_rand_int_range(0, (gint32)machines), node = nc_placement_choose(f, m, &terms);
      json_t *explanation = nc_placement_explain(f, m, &terms);
      g_assert_cmpstr(json_string_value(json_object_get(explanation, "chosen")), ==,
                      node == NC_FLEET_NONE ? NULL : nc_fleet_node(f, node)->name);
      json_decref(explanation);
      *(node == NC_FLEET_NONE ? &none : &chosen) += 1;
      if (nc_fleet_machine(f, m)->reserved == NC_FLEET_NONE && node != NC_FLEET_NONE)
        g_assert_true(nc_fleet_reserve(f, m, node));
      else if (nc_fleet_machine(f, m)->reserved != NC_FLEET_NONE && g_test_rand_bit())
        nc_fleet_arrive(f, m);
      else
        nc_fleet_unreserve(f, m);
      check_promises(f);
    }
  }
  g_assert_cmpuint(chosen, >, 0);
  g_assert_cmpuint(none, >, 0);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/disk-room/each_lack_is_told", test_each_lack_is_told);
  g_test_add_func("/disk-room/directories_share_their_file_system", test_directories_share_their_file_system);
  g_test_add_func("/disk-room/what_is_promised_is_not_free", test_what_is_promised_is_not_free);
  g_test_add_func("/disk-room/news", test_news);
  g_test_add_func("/disk-room/too_many_directories", test_too_many_directories);
  g_test_add_func("/disk-room/one_node_brings_a_quarter", test_one_node_brings_a_quarter);
  g_test_add_func("/disk-room/directories_that_are_counted", test_directories_that_are_counted);
  g_test_add_func("/disk-room/evacuation_counts_disks", test_evacuation_counts_disks);
  g_test_add_func("/disk-room/the_choice_is_the_best_of_all", test_the_choice_is_the_best_of_all);
  return g_test_run();
}
