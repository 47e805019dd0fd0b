/* SPDX-License-Identifier: Apache-2.0 */
/* Measures what a plan needs, and writes down what came out. */
#include "agent/plan.h"
#include "agent/plan_disks.h"
#include "agent/plan_math.h"
#include "agent/way.h"
#include "base/ident.h"
#include "base/log.h"
#include "qemu/footprint.h"
#include "qemu/migration_qmp.h"

#include <string.h>

#define NC_PLAN_LOOK_FIRST_US 500000
#define NC_PLAN_LOOK_LAST_US 1500000 /* later, a working set shows */
#define NC_PLAN_HISTORY 200          /* records that are looked through */

typedef struct {
  const NcMigrationsDeps *deps;
  const NcPlanRequest *request;
  NcPeer *peer;           /* owned */
  NcMemorySample *memory; /* owned; NULL: it may not be read */
  NcPlanDisks *disks;     /* owned; NULL: none */
  int64_t looked_us;
  bool source_can_postcopy;
  NcPlanFacts facts;
} NcPlan;

static void
nc_plan_clear(NcPlan *p)
{
  nc_peer_free(p->peer);
  nc_memory_sample_free(p->memory);
  nc_plan_disks_free(p->disks);
}

/* --- the machine --- */

static bool
nc_plan_check_blockers(NcPlan *p, NcQmp *qmp, GError **error)
{
  NcQemuMigrationInfo info = { 0 };

  if (!nc_qemu_migration_query(qmp, &info, error))
    return false;
  bool ok = !info.blocked_reasons || nc_fail(error, NC_ERROR_UNSUITABLE, "%s can't leave %s: %s; remove or unplug the device", p->request->vm,
                                             nc_nodes_self(p->deps->nodes), info.blocked_reasons);
  nc_qemu_migration_info_clear(&info);
  return ok;
}

static void
nc_plan_sample_memory(NcPlan *p, pid_t pid)
{
  g_autoptr(GError) error = NULL;
  uint64_t least = nc_footprint_least_bytes(p->facts.ram_bytes);

  p->facts.content_bytes = MIN(nc_footprint_bytes(pid, least), p->facts.ram_bytes);
  p->memory = nc_memory_sample_new(pid, least, &error);
  p->looked_us = nc_mono_us();
  if (!p->memory) {
    nc_log(NC_LOG_INFO, "agent", "a plan for %s without a look at its memory: %s", p->request->vm, error->message);
    return;
  }
  p->facts.has_sample = true;
  memcpy(p->facts.places, nc_memory_sample_places(p->memory), sizeof p->facts.places);
  p->facts.sampled_bytes = MIN(nc_memory_sample_bytes(p->memory), p->facts.ram_bytes);
}

static void
nc_plan_look_at_disks(NcPlan *p, NcQmp *qmp)
{
  nc_autojson json_t *args = json_pack("{s:s}", "name", p->request->vm);
  nc_autojson json_t *machine = nc_machines_get(p->deps->machines, args, NULL);
  json_t *spec = json_object_get(machine, "spec");

  if (spec)
    p->disks = nc_plan_disks_new(spec, p->request->disk_chain, qmp);
}

/* Begins the samples; for a tenth of a second the machine's other operations wait. */
static bool
nc_plan_look_at_machine(NcPlan *p, GError **error)
{
  g_autoptr(NcMachineLook) look = nc_machines_look(p->deps->machines, p->request->vm, "plan", error);
  NcQmp *qmp = look ? nc_machine_look_qmp(look) : NULL;

  if (!look)
    return false;
  if (!qmp)
    return nc_fail(error, NC_ERROR_QEMU, "the QEMU of %s on node %s is gone", p->request->vm, nc_nodes_self(p->deps->nodes));
  p->facts.ram_bytes = nc_qemu_memory_bytes(qmp);
  if (p->facts.ram_bytes == 0)
    return nc_fail(error, NC_ERROR_QEMU, "the QEMU of %s on node %s does not say how much memory it has", p->request->vm,
                   nc_nodes_self(p->deps->nodes));
  if (!nc_plan_check_blockers(p, qmp, error))
    return false;
  p->source_can_postcopy = nc_qemu_knows_postcopy(qmp);
  nc_qemu_sample_dirty_rate(qmp, NULL);
  nc_plan_look_at_disks(p, qmp);
  nc_plan_sample_memory(p, nc_machine_look_pid(look));
  return true;
}

/* What has changed by ${after_us} after the sample; waits until then. */
static void
nc_plan_look_again(NcPlan *p, int64_t after_us)
{
  int64_t wait_us = p->looked_us + after_us - nc_mono_us();

  if (wait_us > 0)
    g_usleep((gulong)wait_us);
  if (p->memory && nc_memory_sample_again(p->memory, &p->facts.looks[p->facts.look_count], NULL))
    p->facts.look_count++;
}

/* QEMU's sample has ended by now, and the guest may have written to its disks. Somebody else may have the machine: then the looks have to do. */
static void
nc_plan_take_dirty_rate(NcPlan *p)
{
  g_autoptr(NcMachineLook) look = nc_machines_look(p->deps->machines, p->request->vm, "plan", NULL);
  NcQmp *qmp = look ? nc_machine_look_qmp(look) : NULL;
  uint64_t bps;

  if (qmp && nc_qemu_sampled_dirty_rate(qmp, &bps))
    p->facts.dirty_bps = (double)bps;
  if (qmp && p->disks)
    nc_plan_disks_look_again(p->disks, qmp);
}

/* --- the way, and the other node --- */

static bool
nc_plan_reach(NcPlan *p, bool *ret_destination_can_postcopy, GError **error)
{
  int64_t offset_us;

  p->peer = nc_nodes_connect(p->deps->nodes, p->request->to, p->deps->config->connect_timeout_ms, error);
  if (!p->peer) {
    g_prefix_error(error, "the destination %s can't be reached from %s: ", p->request->to, nc_nodes_self(p->deps->nodes));
    return false;
  }
  /* The clock first: after a mig_... message the other node answers no other kind. */
  nc_autojson json_t *probed = NULL;
  if (nc_way_measure_clock(p->peer, &p->facts.rtt_us, &offset_us, error))
    probed = nc_way_ask(p->peer, json_pack("{s:s, s:s}", "type", "mig_probe", "vm", p->request->vm), "mig_probed", error);
  *ret_destination_can_postcopy = nc_json_bool_or(probed, "postcopy", false);
  if (probed && (!p->disks || nc_plan_disks_ask(p->disks, p->peer, p->request->vm, error)))
    return true;
  g_prefix_error(error, "the destination %s: ", p->request->to);
  return false;
}

/* A link that breaks while it is filled breaks the plan, too. */
static bool
nc_plan_measure_link(NcPlan *p, GError **error)
{
  if (nc_way_measure_rate(p->peer, p->facts.rtt_us, &p->facts.link_bps, error))
    return true;
  g_prefix_error(error, "measuring the way to %s: ", p->request->to);
  return false;
}

/* --- what comes out --- */

static json_t *
nc_plan_integer(bool is_known, double value)
{
  return is_known ? json_integer((json_int_t)value) : json_null();
}

static json_t *
nc_plan_answer(const NcPlan *p, const NcPlanHistory *history, const NcPlanResult *r)
{
  const NcForecastResult *f = &r->forecast;
  bool ends = r->converges && f->is_known;
  json_t *answer = json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:s}", "vm", p->request->vm, "from", nc_nodes_self(p->deps->nodes), "to",
                             p->request->to, "algorithm", nc_algorithm_name(r->postcopy ? NC_ALGORITHM_POSTCOPY : NC_ALGORITHM_PRECOPY),
                             "converges", r->converges, "reason", r->reason, "basis", nc_plan_basis_name(history->basis));
  const struct {
    const char *key;
    bool is_known;
    double value;
  } numbers[] = {
    { "eta_ms", ends, f->eta_ms },
    { "eta_error_ms", ends, f->eta_error_ms },
    { "pause_ms", ends, f->pause_ms },
    { "pause_error_ms", ends, f->pause_error_ms },
    { "wire_bytes", ends && f->wire_bytes > 0, f->wire_bytes },
    { "disk_eta_ms", true, r->disk_ms },
    { "disk_wire_bytes", true, r->disk_wire_bytes },
    { "ram_total_bytes", true, (double)p->facts.ram_bytes },
    { "content_bytes", p->facts.content_bytes > 0, (double)p->facts.content_bytes },
    { "dirty_rate_bps", f->is_known, f->dirty_bps },
    { "link_rate_bps", p->facts.link_bps > 0, p->facts.link_bps },
    { "link_rtt_us", true, (double)p->facts.rtt_us },
    { "effective_rate_bps", f->is_known, f->effective_bps },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
    json_object_set_new(answer, numbers[i].key, nc_plan_integer(numbers[i].is_known, numbers[i].value));
  json_object_set_new(answer, "disks", nc_plan_disks_to_json(p->disks));
  json_object_set_new(answer, "ratio", r->ratio > 0 ? json_real(r->ratio) : json_null());
  return answer;
}

/* The smaller of the request's limit and the node's. */
static int64_t
nc_plan_limit(const NcPlan *p)
{
  int64_t node = nc_config_bandwidth_total(p->deps->config), own = p->request->bandwidth_limit_bps;
  return node > 0 && own > 0 ? MIN(node, own) : MAX(node, own);
}

static json_t *
nc_plan_work(NcPlan *p, bool may_postcopy, GError **error)
{
  const NcPlanMove move = { .vm = p->request->vm,
                            .from = nc_nodes_self(p->deps->nodes),
                            .to = p->request->to,
                            .compression = p->request->compression };
  const NcPlanTerms terms = { .algorithm = p->request->algorithm,
                              .compression = p->request->compression,
                              .max_downtime_ms = p->request->max_downtime_ms,
                              .limit_bps = nc_plan_limit(p),
                              .may_postcopy = may_postcopy,
                              .max_throttle = p->request->max_throttle };
  NcPlanHistory history;
  NcPlanResult result = { 0 };

  nc_autojson json_t *records = nc_journal_list_migrations(p->deps->journal, false, NC_PLAN_HISTORY, error);
  if (!records)
    return NULL;
  nc_plan_read_history(records, &move, &history);
  nc_plan_work_out(&p->facts, &history, &terms, &result);
  if (p->disks)
    nc_plan_disks_work_out(p->disks, &p->facts, &history, &terms, &result);
  json_t *answer = nc_plan_answer(p, &history, &result);
  g_free(result.reason);
  return answer;
}

static json_t *
nc_plan_measure(NcPlan *p, GError **error)
{
  bool destination_can = false, may_postcopy;

  if (!nc_plan_look_at_machine(p, error) || !nc_plan_reach(p, &destination_can, error))
    return NULL;
  if (!nc_algorithm_may_postcopy(p->request->algorithm, destination_can, p->request->to, &may_postcopy, error))
    return NULL;
  if (p->request->algorithm == NC_ALGORITHM_POSTCOPY && !p->source_can_postcopy) {
    nc_fail(error, NC_ERROR_UNSUITABLE, "the QEMU of %s on node %s has no post-copy. Use --algorithm pre-copy", p->request->vm,
            nc_nodes_self(p->deps->nodes));
    return NULL;
  }
  nc_plan_look_again(p, NC_PLAN_LOOK_FIRST_US);
  if (!nc_plan_measure_link(p, error))
    return NULL;
  nc_plan_look_again(p, NC_PLAN_LOOK_LAST_US);
  nc_plan_take_dirty_rate(p);
  return nc_plan_work(p, may_postcopy && p->source_can_postcopy, error);
}

json_t *
nc_plan_make(const NcMigrationsDeps *deps, const NcPlanRequest *request, GError **error)
{
  NcPlan p = { .deps = deps, .request = request };
  json_t *answer = nc_plan_measure(&p, error);

  nc_plan_clear(&p);
  return answer;
}
