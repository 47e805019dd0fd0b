/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

static NcNodeSpec
node_spec(const char *name, uint64_t memory_gib)
{
  return (NcNodeSpec){ .name = name, .capacity = { memory_gib * GIB, 1000 * GIB, 1000 }, .rate_bps = 125000000, .link = NC_FLEET_NONE };
}

uint32_t
add_node(NcFleet *f, const char *name, uint64_t memory_gib)
{
  NcNodeSpec spec = node_spec(name, memory_gib);
  uint32_t node = nc_fleet_add_node(f, &spec, NULL);

  g_assert_cmpuint(node, !=, NC_FLEET_NONE);
  return node;
}

NcGuest
guest_of(uint64_t memory_gib)
{
  return (NcGuest){ .content_bytes = 0.7 * (double)(memory_gib * GIB),
                    .dirty_bps = 2e6,
                    .working_set_bytes = 0.05 * (double)(memory_gib * GIB),
                    .ratio = 2,
                    .max_downtime_s = 0.3,
                    .may_postcopy = true };
}

uint32_t
add_machine(NcFleet *f, const char *name, uint32_t node, uint64_t memory_gib)
{
  NcMachineSpec spec = { .name = name,
                         .node = node,
                         .need = { memory_gib * GIB, 0, 1 },
                         .priority = NC_PRIORITY_NORMAL,
                         .guest = guest_of(memory_gib) };
  uint32_t machine = nc_fleet_add_machine(f, &spec, NULL);

  g_assert_cmpuint(machine, !=, NC_FLEET_NONE);
  return machine;
}

static const char *const labels[][3] = { { NULL }, { "ssd" }, { "gpu" }, { "ssd", "gpu" } };

static void
add_any_machine(NcFleet *f, unsigned i)
{
  g_autofree char *name = g_strdup_printf("m%u", i);
  uint64_t memory_gib = (uint64_t)g_test_rand_int_range(1, 17);
  NcMachineSpec spec = { .name = name,
                         .node = (uint32_t)g_test_rand_int_range(0, (gint32)nc_fleet_node_count(f)),
                         .need = { memory_gib * GIB, (uint64_t)g_test_rand_int_range(0, 20) * GIB, (uint64_t)g_test_rand_int_range(0, 5) },
                         .priority = (NcPriority)g_test_rand_int_range(0, NC_PRIORITY_COUNT),
                         .guest = guest_of(memory_gib) };

  spec.guest.dirty_bps = 1e6 * g_test_rand_int_range(0, 60);
  spec.guest.may_postcopy = g_test_rand_int_range(0, 4) > 0;
  if (g_test_rand_int_range(0, 4) == 0)
    spec.requires = labels[g_test_rand_int_range(0, 4)];
  nc_fleet_add_machine(f, &spec, NULL); /* fine if it does not fit */
}

NcFleet *
any_fleet(unsigned nodes, unsigned machines)
{
  NcFleet *f = nc_fleet_new();
  NcLinkSpec top = { "top", 100000000, 300, NC_FLEET_NONE };
  NcLinkSpec racks[] = { { "rack-a", 60000000, 200, 0 }, { "rack-b", 60000000, 200, 0 }, { "far", 12500000, 20000, NC_FLEET_NONE } };

  nc_fleet_add_link(f, &top, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS(racks); i++)
    nc_fleet_add_link(f, &racks[i], NULL);
  for (unsigned i = 0; i < nodes; i++) {
    g_autofree char *name = g_strdup_printf("n%u", i);
    NcNodeSpec spec = node_spec(name, (uint64_t)g_test_rand_int_range(32, 97));
    spec.capacity.cpus = (uint64_t)g_test_rand_int_range(8, 40);
    spec.capacity.disk_bytes = (uint64_t)g_test_rand_int_range(20, 200) * GIB;
    spec.link = g_test_rand_int_range(0, 5) > 0 ? (uint32_t)g_test_rand_int_range(1, 4) : NC_FLEET_NONE;
    spec.labels = labels[g_test_rand_int_range(0, 4)];
    uint32_t node = nc_fleet_add_node(f, &spec, NULL);
    nc_fleet_set_down(f, node, g_test_rand_int_range(0, 20) == 0);
    nc_fleet_set_cordoned(f, node, g_test_rand_int_range(0, 20) == 0);
  }
  for (unsigned i = 0; i < machines; i++)
    add_any_machine(f, i);
  return f;
}

void
check_fleet(const NcFleet *f)
{
  g_autofree NcRoom *used = g_new0(NcRoom, MAX(nc_fleet_node_count(f), 1));

  for (uint32_t i = 0; i < nc_fleet_machine_count(f); i++) {
    const NcMachine *m = nc_fleet_machine(f, i);
    for (int k = 0; k < 2; k++) {
      uint32_t node = k == 0 ? m->node : m->reserved;
      if (node == NC_FLEET_NONE)
        continue;
      used[node].memory_bytes += m->need.memory_bytes;
      if (nc_fleet_node(f, node)->file_system_count == 0)
        used[node].disk_bytes += m->need.disk_bytes;
      used[node].cpus += m->need.cpus;
    }
  }
  for (uint32_t i = 0; i < nc_fleet_node_count(f); i++) {
    const NcNode *n = nc_fleet_node(f, i);
    uint32_t count = 0;
    g_assert_cmpmem(&used[i], sizeof used[i], &n->used, sizeof n->used);
    g_assert_true(nc_room_fits(&n->used, &n->capacity));
    for (uint32_t m = n->first_machine; m != NC_FLEET_NONE; m = nc_fleet_machine(f, m)->next, count++)
      g_assert_cmpuint(nc_fleet_machine(f, m)->node, ==, i);
    g_assert_cmpuint(count, ==, n->machine_count);
  }
}
