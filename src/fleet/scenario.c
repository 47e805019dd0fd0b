/* SPDX-License-Identifier: Apache-2.0 */
/* Each kind of object has a table of its numbers; the rest is read by name. */
#include "fleet/scenario.h"
#include "fleet/scenario_tasks.h"

#include <math.h>
#include <string.h>

#define NC_MIB 1048576.0
#define NC_MBIT 125e3 /* bytes per second */
#define NC_MOST_COUNT 1e6
#define NC_MOST_MIB 1e9 /* a PiB: with NC_FLEET_MOST machines sums stay far from 2^64 */
#define NC_MOST_MBIT 1e8

static void
nc_task_clear(gpointer data)
{
  NcTask *task = data;
  g_clear_pointer(&task->nodes, g_array_unref);
  g_clear_pointer(&task->requests, g_array_unref);
}

void
nc_scenario_free(NcScenario *s)
{
  if (!s)
    return;
  nc_fleet_free(s->fleet);
  g_array_unref(s->tasks);
  g_free(s);
}

static bool
nc_scenario_at(const NcPlace *place, GError *problem, GError **error)
{
  nc_reader_fail(place, NULL, error, "%s", problem->message);
  g_error_free(problem);
  return false;
}

/* NAME, or NAME-1 and so on if there are several. Caller frees. */
static char *
nc_scenario_name(const char *name, bool several, unsigned number)
{
  return several ? g_strdup_printf("%s-%u", name, number) : g_strdup(name);
}

/* --- limits --- */

typedef struct {
  double cluster, node_in, node_out, attempts, ageing_s, backoff_s, backoff_most_s, give_up_s;
} NcLimitNumbers;

static bool
nc_scenario_read_limits(const NcPlace *top, NcScenario *s, GError **error)
{
#define NC_LIMIT(key, minimum, maximum, fallback, whole) { #key, minimum, maximum, fallback, whole, offsetof(NcLimitNumbers, key) }
  static const NcNumber numbers[] = {
    NC_LIMIT(cluster, 1, 100000, 5, true),      NC_LIMIT(node_in, 1, 1000, 2, true),     NC_LIMIT(node_out, 1, 1000, 2, true),
    NC_LIMIT(attempts, 1, 100, 3, true),        NC_LIMIT(ageing_s, 0, 1e6, 600, false),  NC_LIMIT(backoff_s, 0.001, 1e6, 5, false),
    NC_LIMIT(backoff_most_s, 0.001, 1e6, 300, false), NC_LIMIT(give_up_s, 0, 1e7, 3600, false),
  };
  static const char *const none[] = { NULL };
  nc_autojson json_t *nothing = json_object();
  json_t *value = json_object_get(top->value, "limits");
  const NcPlace place = { top->reader, value ? value : nothing, "limits" };
  NcLimitNumbers n;

  if (!nc_reader_object(&place, numbers, G_N_ELEMENTS(numbers), none, &n, error))
    return false;
  s->limits = (NcQueueLimits){ .cluster = (unsigned)n.cluster,
                               .node_in = (unsigned)n.node_in,
                               .node_out = (unsigned)n.node_out,
                               .attempts = (unsigned)n.attempts,
                               .ageing_us = (int64_t)(n.ageing_s * 1e6),
                               .backoff_us = (int64_t)(n.backoff_s * 1e6),
                               .backoff_most_us = (int64_t)(n.backoff_most_s * 1e6),
                               .give_up_us = (int64_t)(n.give_up_s * 1e6) };
  return true;
}

/* --- links --- */

typedef struct {
  double rate_mbit, rtt_ms;
} NcLinkNumbers;

static bool
nc_scenario_find_link(const NcPlace *place, const char *key, const NcFleet *fleet, uint32_t *ret, GError **error)
{
  const char *name;

  if (!nc_reader_string(place, key, false, &name, error))
    return false;
  *ret = name ? nc_fleet_find_link(fleet, name) : NC_FLEET_NONE;
  return !name || *ret != NC_FLEET_NONE ||
         nc_reader_fail(place, key, error, "there is no link \"%s\" before this", name);
}

static bool
nc_scenario_read_link(const NcPlace *place, void *user_data, GError **error)
{
  static const NcNumber numbers[] = {
    { "rate_mbit", 0.01, NC_MOST_MBIT, NAN, false, offsetof(NcLinkNumbers, rate_mbit) },
    { "rtt_ms", 0, 60000, 0.2, false, offsetof(NcLinkNumbers, rtt_ms) },
  };
  static const char *const others[] = { "name", "uplink", NULL };
  NcScenarioBuild *b = user_data;
  NcLinkSpec spec = { 0 };
  NcLinkNumbers n;
  GError *problem = NULL;

  if (!nc_reader_object(place, numbers, G_N_ELEMENTS(numbers), others, &n, error) ||
      !nc_reader_string(place, "name", true, &spec.name, error) ||
      !nc_scenario_find_link(place, "uplink", b->scenario->fleet, &spec.uplink, error))
    return false;
  spec.rate_bps = (uint64_t)(n.rate_mbit * NC_MBIT);
  spec.rtt_us = (int64_t)(n.rtt_ms * 1000);
  return nc_fleet_add_link(b->scenario->fleet, &spec, &problem) != NC_FLEET_NONE || nc_scenario_at(place, problem, error);
}

/* --- nodes --- */

typedef struct {
  double count, memory_mib, cpus, disk_mib, rate_mbit, in_limit, out_limit;
} NcNodeNumbers;

static bool
nc_scenario_add_nodes(const NcPlace *place, NcScenarioBuild *b, NcNodeSpec *spec, unsigned count, bool cordoned, bool down, GError **error)
{
  bool several = json_object_get(place->value, "count") != NULL;
  const char *base = spec->name;
  NcNodeGroup group = { nc_fleet_node_count(b->scenario->fleet), count };
  GError *problem = NULL;

  if (g_hash_table_contains(b->groups, base))
    return nc_reader_fail(place, "name", error, "there are nodes \"%s\" already", base);
  for (unsigned i = 1; i <= count; i++) {
    g_autofree char *name = nc_scenario_name(base, several, i);
    spec->name = name;
    uint32_t node = nc_fleet_add_node(b->scenario->fleet, spec, &problem);
    if (node == NC_FLEET_NONE)
      return nc_scenario_at(place, problem, error);
    if (cordoned)
      nc_fleet_set_cordoned(b->scenario->fleet, node, true);
    if (down)
      nc_fleet_set_down(b->scenario->fleet, node, true);
  }
  g_hash_table_insert(b->groups, g_strdup(base), g_memdup2(&group, sizeof group));
  return true;
}

static bool
nc_scenario_read_node(const NcPlace *place, void *user_data, GError **error)
{
#define NC_NODE(key, minimum, maximum, fallback, whole) { #key, minimum, maximum, fallback, whole, offsetof(NcNodeNumbers, key) }
  static const NcNumber numbers[] = {
    NC_NODE(count, 1, NC_MOST_COUNT, 1, true),        NC_NODE(memory_mib, 1, NC_MOST_MIB, NAN, false),
    NC_NODE(cpus, 1, 1e6, 1e6, true),                 NC_NODE(disk_mib, 0, NC_MOST_MIB, NC_MOST_MIB, false),
    NC_NODE(rate_mbit, 0.01, NC_MOST_MBIT, 10000, false), NC_NODE(in_limit, 1, 1000, 0, true),
    NC_NODE(out_limit, 1, 1000, 0, true),
  };
  static const char *const others[] = { "name", "link", "labels", "cordoned", "down", NULL };
  NcScenarioBuild *b = user_data;
  g_autofree const char **labels = NULL;
  bool cordoned, down;
  NcNodeSpec spec = { 0 };
  NcNodeNumbers n;

  if (!nc_reader_object(place, numbers, G_N_ELEMENTS(numbers), others, &n, error) ||
      !nc_reader_string(place, "name", true, &spec.name, error) ||
      !nc_scenario_find_link(place, "link", b->scenario->fleet, &spec.link, error) ||
      !nc_reader_strings(place, "labels", NC_FLEET_MOST_LABELS, &labels, error) ||
      !nc_reader_bool(place, "cordoned", &cordoned, error) || !nc_reader_bool(place, "down", &down, error))
    return false;
  spec.capacity = (NcRoom){ (uint64_t)(n.memory_mib * NC_MIB), (uint64_t)(n.disk_mib * NC_MIB), (uint64_t)n.cpus };
  spec.rate_bps = (uint64_t)(n.rate_mbit * NC_MBIT);
  spec.labels = labels;
  spec.in_limit = (unsigned)n.in_limit;
  spec.out_limit = (unsigned)n.out_limit;
  return nc_scenario_add_nodes(place, b, &spec, (unsigned)n.count, cordoned, down, error);
}

/* --- machines --- */

typedef struct {
  double count, memory_mib, cpus, disk_mib, content, dirty_mb_s, working_set_mib, compress, max_downtime_ms;
} NcMachineNumbers;

static bool
nc_scenario_add_machines(const NcPlace *place, NcScenarioBuild *b, NcMachineSpec *spec, const NcNodeGroup *nodes, unsigned count,
                         GError **error)
{
  bool several = nodes->count > 1 || json_object_get(place->value, "count");
  const char *base = spec->name;
  unsigned number = 0;
  GError *problem = NULL;

  for (uint32_t node = nodes->first; node < nodes->first + nodes->count; node++) {
    for (unsigned i = 0; i < count; i++) {
      g_autofree char *name = nc_scenario_name(base, several, ++number);
      spec->name = name;
      spec->node = node;
      if (nc_fleet_add_machine(b->scenario->fleet, spec, &problem) == NC_FLEET_NONE)
        return nc_scenario_at(place, problem, error);
    }
  }
  return true;
}

static NcGuest
nc_scenario_guest(const NcMachineNumbers *n, bool may_postcopy)
{
  double content_bytes = n->memory_mib * n->content * NC_MIB;

  return (NcGuest){ .content_bytes = content_bytes,
                    .dirty_bps = n->dirty_mb_s * 1e6,
                    .working_set_bytes = n->working_set_mib > 0 ? MIN(n->working_set_mib * NC_MIB, content_bytes) : content_bytes / 10,
                    .ratio = n->compress,
                    .max_downtime_s = n->max_downtime_ms / 1000,
                    .may_postcopy = may_postcopy };
}

static bool
nc_scenario_read_algorithm(const NcPlace *place, bool *ret_may_postcopy, GError **error)
{
  const char *algorithm;

  if (!nc_reader_string(place, "algorithm", false, &algorithm, error))
    return false;
  *ret_may_postcopy = !algorithm || g_str_equal(algorithm, "auto");
  return *ret_may_postcopy || g_str_equal(algorithm, "pre-copy") ||
         nc_reader_fail(place, "algorithm", error, "must be \"auto\" or \"pre-copy\"");
}

static bool
nc_scenario_read_machine(const NcPlace *place, void *user_data, GError **error)
{
#define NC_MACHINE(key, minimum, maximum, fallback, whole) { #key, minimum, maximum, fallback, whole, offsetof(NcMachineNumbers, key) }
  static const NcNumber numbers[] = {
    NC_MACHINE(count, 1, NC_MOST_COUNT, 1, true),      NC_MACHINE(memory_mib, 1, NC_MOST_MIB, NAN, false),
    NC_MACHINE(cpus, 0, 1e6, 1, true),                 NC_MACHINE(disk_mib, 0, NC_MOST_MIB, 0, false),
    NC_MACHINE(content, 0.001, 1, 0.7, false),         NC_MACHINE(dirty_mb_s, 0, 1e6, 5, false),
    NC_MACHINE(working_set_mib, 0.1, NC_MOST_MIB, 0, false), NC_MACHINE(compress, 0.5, 1000, 2, false),
    NC_MACHINE(max_downtime_ms, 1, 600000, 300, false),
  };
  static const char *const others[] = { "name", "node", "algorithm", "priority", "requires", NULL };
  NcScenarioBuild *b = user_data;
  g_autofree const char **requires = NULL;
  const char *node;
  bool may_postcopy;
  NcMachineSpec spec = { .priority = NC_PRIORITY_NORMAL };
  NcMachineNumbers n;

  if (!nc_reader_object(place, numbers, G_N_ELEMENTS(numbers), others, &n, error) ||
      !nc_reader_string(place, "name", true, &spec.name, error) || !nc_reader_string(place, "node", true, &node, error) ||
      !nc_scenario_read_algorithm(place, &may_postcopy, error) || !nc_scenario_read_priority(place, &spec.priority, error) ||
      !nc_reader_strings(place, "requires", NC_FLEET_MOST_LABELS, &requires, error))
    return false;
  NcNodeGroup group;
  if (!nc_scenario_find_nodes(b, node, &group))
    return nc_reader_fail(place, "node", error, "there is no node \"%s\", and no nodes of that name", node);
  spec.need = (NcRoom){ (uint64_t)(n.memory_mib * NC_MIB), (uint64_t)(n.disk_mib * NC_MIB), (uint64_t)n.cpus };
  spec.requires = requires;
  spec.guest = nc_scenario_guest(&n, may_postcopy);
  return nc_scenario_add_machines(place, b, &spec, &group, (unsigned)n.count, error);
}

/* --- all of it --- */

typedef struct {
  double seed, failure_probability, bandwidth_reserve_percent;
} NcTopNumbers;

static bool
nc_scenario_read(const NcPlace *top, NcScenarioBuild *b, GError **error)
{
  static const NcNumber numbers[] = {
    { "seed", 0, 9007199254740992.0, 1, true, offsetof(NcTopNumbers, seed) },
    { "failure_probability", 0, 1, 0, false, offsetof(NcTopNumbers, failure_probability) },
    { "bandwidth_reserve_percent", 0, 99, 10, true, offsetof(NcTopNumbers, bandwidth_reserve_percent) },
  };
  static const char *const others[] = { "limits", "links", "nodes", "machines", "tasks", NULL };
  NcTopNumbers n;

  if (!nc_reader_object(top, numbers, G_N_ELEMENTS(numbers), others, &n, error))
    return false;
  b->scenario->seed = (uint64_t)n.seed;
  b->scenario->failure_probability = n.failure_probability;
  b->scenario->reserve_percent = (unsigned)n.bandwidth_reserve_percent;
  return nc_scenario_read_limits(top, b->scenario, error) && nc_reader_each(top, "links", nc_scenario_read_link, b, error) &&
         nc_reader_each(top, "nodes", nc_scenario_read_node, b, error) &&
         nc_reader_each(top, "machines", nc_scenario_read_machine, b, error) &&
         nc_reader_each(top, "tasks", nc_scenario_read_task, b, error);
}

static int
nc_scenario_by_time(const void *a, const void *b)
{
  double x = ((const NcTask *)a)->at_s, y = ((const NcTask *)b)->at_s;
  return x < y ? -1 : x > y;
}

NcScenario *
nc_scenario_parse(const char *name, const char *text, size_t length_bytes, GError **error)
{
  json_error_t problem;
  nc_autojson json_t *root = json_loadb(text, length_bytes, JSON_REJECT_DUPLICATES, &problem);
  g_autoptr(NcScenario) s = g_new0(NcScenario, 1);

  s->fleet = nc_fleet_new();
  s->tasks = g_array_new(FALSE, TRUE, sizeof(NcTask));
  g_array_set_clear_func(s->tasks, nc_task_clear);
  if (!root) {
    nc_fail(error, NC_ERROR_INVALID, "%s:%d: not JSON: %s", name, problem.line, problem.text);
    return NULL;
  }
  const NcReader reader = { name, text, length_bytes };
  const NcPlace top = { &reader, root, "" };
  NcScenarioBuild build = { s, g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free) };
  bool ok = nc_scenario_read(&top, &build, error);
  g_hash_table_unref(build.groups);
  if (!ok)
    return NULL;
  g_array_sort(s->tasks, nc_scenario_by_time); /* which is stable */
  return g_steal_pointer(&s);
}
