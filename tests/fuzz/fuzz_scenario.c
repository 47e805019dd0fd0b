/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whatever a scenario file of `novacron simulate` holds, it is refused with a reason, or it is played to the same report twice, by
 * the code that decides about real fleets.
 *
 * Input: the file. Scenarios that are merely large are passed over; what they cost is bench/fleet_bench.c's business.
 */
#include "base/msg.h"
#include "fleet/simulator.h"

#include <stdlib.h>
#include <string.h>

#define MOST_NODES 60u
#define MOST_MACHINES 600u
#define MOST_STEPS 3000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool holds)
{
  if (!holds)
    abort();
}

/* How many the entries of an array stand for. */
static double
count_all(json_t *root, const char *key)
{
  json_t *entry;
  size_t i;
  double count = 0;

  json_array_foreach(json_object_get(root, key), i, entry)
    count += MAX(1, json_number_value(json_object_get(entry, "count")));
  return count;
}

static bool
is_small(const char *text, size_t size)
{
  nc_autojson json_t *root = json_loadb(text, size, 0, NULL);
  double nodes = count_all(root, "nodes"), machines = count_all(root, "machines");
  /* Machines of a group of nodes: so many on each. */
  return nodes <= MOST_NODES && machines <= MOST_MACHINES && nodes * machines <= 10 * MOST_MACHINES;
}

/* The report after some time; NULL: refused. */
static char *
play(const char *text, size_t size)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcScenario) scenario = nc_scenario_parse("file", text, size, &error);

  if (!scenario) {
    must(g_error_matches(error, NC_ERROR, NC_ERROR_INVALID) && g_str_has_prefix(error->message, "file:"));
    return NULL;
  }
  must(!error);
  g_autoptr(NcSimulator) simulator = nc_simulator_new(scenario);
  int64_t last_us = nc_simulator_now_us(simulator);
  for (int i = 0; i < MOST_STEPS && nc_simulator_step(simulator); i++) {
    must(nc_simulator_now_us(simulator) >= last_us); /* time does not go back */
    last_us = nc_simulator_now_us(simulator);
  }
  nc_autojson json_t *report = nc_simulator_report(simulator);
  char *dump = json_dumps(report, JSON_SORT_KEYS);
  must(dump != NULL);
  return dump;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  const char *text = (const char *)data;

  if (size > 65536 || !is_small(text, size))
    return 0;
  char *first = play(text, size), *second = play(text, size);
  must(g_strcmp0(first, second) == 0);
  free(first);
  free(second);
  return 0;
}
