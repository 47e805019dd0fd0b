/* SPDX-License-Identifier: Apache-2.0 */
/* {"at_s": 0, "evacuate": [...]}, {"migrate": "web-1", "to": "b"}, {"batch": {"policy": "all", "items": [...]}} */
#include "fleet/scenario_tasks.h"

#define NC_MBIT 125e3 /* bytes per second */
#define NC_MOST_NAMES 100000u

bool
nc_scenario_find_nodes(const NcScenarioBuild *b, const char *name, NcNodeGroup *ret)
{
  const NcNodeGroup *group = g_hash_table_lookup(b->groups, name);
  uint32_t node = nc_fleet_find_node(b->scenario->fleet, name);

  if (group)
    *ret = *group;
  else if (node != NC_FLEET_NONE)
    *ret = (NcNodeGroup){ node, 1 };
  return group || node != NC_FLEET_NONE;
}

bool
nc_scenario_read_priority(const NcPlace *place, NcPriority *ret, GError **error)
{
  const char *name;

  if (!nc_reader_string(place, "priority", false, &name, error))
    return false;
  return !name || nc_priority_from_name(name, ret) ||
         nc_reader_fail(place, "priority", error, "must be \"critical\", \"high\", \"normal\" or \"low\"");
}

static bool
nc_task_read_qos(const NcPlace *place, NcQos *ret, GError **error)
{
  const char *name;

  if (!nc_reader_string(place, "qos", false, &name, error))
    return false;
  return !name || nc_qos_from_name(name, ret) || nc_reader_fail(place, "qos", error, "must be " NC_QOS_NAMES);
}

/* --- evacuate --- */

static void
nc_task_add_behind_link(const NcFleet *f, uint32_t link, GArray *nodes)
{
  for (uint32_t node = 0; node < nc_fleet_node_count(f); node++)
    for (uint32_t at = nc_fleet_node(f, node)->link; at != NC_FLEET_NONE; at = nc_fleet_link(f, at)->uplink)
      if (at == link)
        g_array_append_val(nodes, node);
}

static bool
nc_task_read_evacuate(const NcPlace *place, const NcScenarioBuild *b, NcTask *task, GError **error)
{
  const NcFleet *f = b->scenario->fleet;
  g_autofree const char **names = NULL;

  if (!nc_reader_strings(place, "evacuate", NC_MOST_NAMES, &names, error))
    return false;
  task->kind = NC_TASK_EVACUATE;
  task->nodes = g_array_new(FALSE, FALSE, sizeof(uint32_t));
  for (size_t i = 0; names[i]; i++) {
    uint32_t link = nc_fleet_find_link(f, names[i]);
    g_autofree char *key = g_strdup_printf("evacuate[%zu]", i);
    NcNodeGroup group;
    if (nc_scenario_find_nodes(b, names[i], &group)) {
      for (uint32_t node = group.first; node < group.first + group.count; node++)
        g_array_append_val(task->nodes, node);
    } else if (link != NC_FLEET_NONE) {
      nc_task_add_behind_link(f, link, task->nodes);
    } else {
      return nc_reader_fail(place, key, error, "there is no node, group of nodes or link \"%s\"", names[i]);
    }
  }
  return task->nodes->len > 0 || nc_reader_fail(place, "evacuate", error, "names no node");
}

/* --- migrate, and the items of a batch --- */

typedef struct {
  double bandwidth_mbit;
} NcItemNumbers;

#define NC_ITEM_NUMBER(type) { "bandwidth_mbit", 0, 1e8, 0, false, offsetof(type, bandwidth_mbit) }

/* The machine's name is at ${key}. */
static bool
nc_task_read_request(const NcPlace *place, const char *key, double bandwidth_mbit, const NcScenarioBuild *b, NcRequest *ret,
                     GError **error)
{
  const NcFleet *f = b->scenario->fleet;
  const char *machine, *to;

  *ret = (NcRequest){ .qos = NC_QOS_NORMAL, .priority = NC_PRIORITY_NORMAL };
  if (!nc_reader_string(place, key, true, &machine, error) || !nc_reader_string(place, "to", false, &to, error))
    return false;
  ret->machine = nc_fleet_find_machine(f, machine);
  if (ret->machine == NC_FLEET_NONE)
    return nc_reader_fail(place, key, error, "there is no machine \"%s\"", machine);
  ret->destination = to ? nc_fleet_find_node(f, to) : NC_FLEET_NONE;
  if (to && ret->destination == NC_FLEET_NONE)
    return nc_reader_fail(place, "to", error, "there is no node \"%s\"", to);
  ret->priority = nc_fleet_machine(f, ret->machine)->priority;
  ret->limit_bps = (uint64_t)(bandwidth_mbit * NC_MBIT);
  return nc_scenario_read_priority(place, &ret->priority, error) && nc_task_read_qos(place, &ret->qos, error);
}

typedef struct {
  const NcScenarioBuild *build;
  GArray *requests;
} NcBatchBuild;

static bool
nc_task_read_item(const NcPlace *place, void *user_data, GError **error)
{
  static const NcNumber numbers[] = { NC_ITEM_NUMBER(NcItemNumbers) };
  static const char *const others[] = { "machine", "to", "priority", "qos", NULL };
  NcBatchBuild *batch = user_data;
  NcItemNumbers n;
  NcRequest request;

  if (!nc_reader_object(place, numbers, G_N_ELEMENTS(numbers), others, &n, error) ||
      !nc_task_read_request(place, "machine", n.bandwidth_mbit, batch->build, &request, error))
    return false;
  g_array_append_val(batch->requests, request);
  return true;
}

static bool
nc_task_read_batch(const NcPlace *task_place, const NcScenarioBuild *b, NcTask *task, GError **error)
{
  static const char *const others[] = { "policy", "items", NULL };
  g_autofree char *path = g_strconcat(task_place->path, ".batch", NULL);
  const NcPlace place = { task_place->reader, json_object_get(task_place->value, "batch"), path };
  const char *policy;

  task->kind = NC_TASK_BATCH;
  task->requests = g_array_new(FALSE, FALSE, sizeof(NcRequest));
  NcBatchBuild batch = { b, task->requests };
  if (!nc_reader_object(&place, NULL, 0, others, NULL, error) || !nc_reader_string(&place, "policy", true, &policy, error))
    return false;
  if (!nc_batch_policy_from_name(policy, &task->policy))
    return nc_reader_fail(&place, "policy", error, "must be \"all\" or \"any\"");
  if (!nc_reader_each(&place, "items", nc_task_read_item, &batch, error))
    return false;
  return task->requests->len > 0 || nc_reader_fail(&place, NULL, error, "has no \"items\"");
}

/* --- a task --- */

typedef struct {
  double at_s, bandwidth_mbit;
} NcTaskNumbers;

static bool
nc_task_read_migrate(const NcPlace *place, double bandwidth_mbit, const NcScenarioBuild *b, NcTask *task, GError **error)
{
  NcRequest request;

  task->kind = NC_TASK_MIGRATE;
  task->requests = g_array_new(FALSE, FALSE, sizeof(NcRequest));
  if (!nc_task_read_request(place, "migrate", bandwidth_mbit, b, &request, error))
    return false;
  g_array_append_val(task->requests, request);
  return true;
}

/* What it has of "evacuate", "migrate" and "batch" decides what else it may have. */
static bool
nc_task_read_object(const NcPlace *place, NcTaskNumbers *n, GError **error)
{
  static const NcNumber numbers[] = { { "at_s", 0, 1e7, 0, false, offsetof(NcTaskNumbers, at_s) }, NC_ITEM_NUMBER(NcTaskNumbers) };
  static const char *const evacuate[] = { "evacuate", "qos", NULL }, *const batch[] = { "batch", NULL },
                    *const migrate[] = { "migrate", "to", "priority", "qos", NULL };
  bool is_evacuate = json_object_get(place->value, "evacuate"), is_migrate = json_object_get(place->value, "migrate"),
       is_batch = json_object_get(place->value, "batch");

  *n = (NcTaskNumbers){ 0 };
  if (is_evacuate + is_migrate + is_batch != 1)
    return nc_reader_fail(place, NULL, error, "must be an object with one of \"evacuate\", \"migrate\" and \"batch\"");
  return nc_reader_object(place, numbers, is_migrate ? 2 : 1, is_evacuate ? evacuate : is_migrate ? migrate : batch, n, error);
}

bool
nc_scenario_read_task(const NcPlace *place, void *user_data, GError **error)
{
  NcScenarioBuild *b = user_data;
  NcTask task = { .qos = NC_QOS_NORMAL };
  NcTaskNumbers n;

  if (!nc_task_read_object(place, &n, error))
    return false;
  task.at_s = n.at_s;
  bool ok = json_object_get(place->value, "evacuate")
                ? nc_task_read_evacuate(place, b, &task, error) && nc_task_read_qos(place, &task.qos, error)
            : json_object_get(place->value, "migrate") ? nc_task_read_migrate(place, n.bandwidth_mbit, b, &task, error)
                                                       : nc_task_read_batch(place, b, &task, error);
  g_array_append_val(b->scenario->tasks, task); /* which frees what it has, also of a bad one */
  return ok;
}
