/* SPDX-License-Identifier: Apache-2.0 */
/* The source's side of a check: its own machine, the way, and what the destination says. */
#include "agent/preflight.h"
#include "agent/disk_offer.h"
#include "agent/node_checks.h"
#include "agent/way.h"
#include "base/check.h"
#include "base/ident.h"
#include "qemu/command_line.h"
#include "qemu/machine_spec.h"
#include "qemu/migration_qmp.h"

#include <stdlib.h>
#include <string.h>

#define NC_TCG_FRAGMENT_BYTES (256u << 10) /* design.md section 9 */
#define NC_LOSS_WARN 1.0 /* percent */
/* Backing files that are compared within a check: somebody waits for its answer, and the other node has to read as much. */
#define NC_COMPARE_NOW_BYTES (UINT64_C(2) << 30)

typedef struct {
  const NcMigrationsDeps *deps;
  const char *vm, *to;
  NcDiskChain chain;
  json_t *checks;
  json_t *spec;   /* owned; NULL: no such machine */
  GPtrArray *disks; /* offered; NULL: not looked at */
  NcPeer *peer;   /* owned; NULL: not reached */
  int64_t rtt_us;
} NcPreflight;

/* --- the machine, here --- */

static void
nc_preflight_blockers(NcPreflight *p)
{
  g_autoptr(GError) error = NULL;
  NcMachineLease *lease = nc_machines_lease(p->deps->machines, p->vm, "check", &error);
  NcQemuMigrationInfo info = { 0 };

  if (!lease) {
    nc_check_add(p->checks, "machine", NC_CHECK_FAILED, "wait for the other migration, or start the machine", "%s", error->message);
    return;
  }
  nc_check_add(p->checks, "machine", NC_CHECK_OK, NULL, "can be migrated, no other migration is under way");
  NcQmp *qmp = nc_machine_lease_qmp(lease);
  if (!qmp || !nc_qemu_migration_query(qmp, &info, &error))
    nc_check_add(p->checks, "blockers", NC_CHECK_UNKNOWN, "see whether its QEMU hangs", "its QEMU does not answer: %s", error ? error->message : "gone");
  else if (info.blocked_reasons)
    nc_check_add(p->checks, "blockers", NC_CHECK_FAILED, "remove or unplug the device", "%s", info.blocked_reasons);
  else
    nc_check_add(p->checks, "blockers", NC_CHECK_OK, NULL, "QEMU knows of no device that can't be migrated");
  nc_qemu_migration_info_clear(&info);
  g_autoptr(NcMachineSpec) spec = qmp ? nc_machine_spec_from_json(p->spec, NULL) : NULL;
  const NcDiskLook look_at = { .chain = p->chain, .compare_bytes = NC_COMPARE_NOW_BYTES };
  if (spec)
    p->disks = nc_disk_offers_new(spec, qmp, &look_at);
  nc_machine_lease_end(lease, NC_LEASE_STAYS);
}

/* QEMU 7.2 under TCG may lose what the guest writes while it migrates, unless the RAM's size is odd in this sense. */
static void
nc_preflight_tcg(NcPreflight *p)
{
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(p->spec, NULL);

  if (!spec || spec->adopted_argv || !g_str_equal(nc_qemu_accel_of(spec), "tcg"))
    return;
  if (nc_machine_spec_memory_bytes(spec) % NC_TCG_FRAGMENT_BYTES == 0)
    nc_check_add(p->checks, "tcg memory", NC_CHECK_WARNING, "memory_extra_kib = 8 in its machine file, and start it anew",
                 "without KVM QEMU may lose writes of the guest while it migrates, and the guest crashes");
  else
    nc_check_add(p->checks, "tcg memory", NC_CHECK_OK, NULL, "its size keeps QEMU's dirty tracking on the safe path");
}

static void
nc_preflight_machine(NcPreflight *p)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *args = json_pack("{s:s}", "name", p->vm);
  nc_autojson json_t *machine = nc_machines_get(p->deps->machines, args, &error);

  if (!machine) {
    nc_check_add(p->checks, "machine", NC_CHECK_FAILED, "novacron vm list", "%s", error->message);
    return;
  }
  p->spec = json_incref(json_object_get(machine, "spec"));
  nc_preflight_blockers(p);
  nc_preflight_tcg(p);
}

/* --- the way there --- */

static void
nc_preflight_clock(NcPreflight *p)
{
  g_autoptr(GError) error = NULL;
  int64_t offset_us;

  if (!nc_way_measure_clock(p->peer, &p->rtt_us, &offset_us, &error)) {
    nc_check_add(p->checks, "round trip", NC_CHECK_UNKNOWN, "try again", "%s", error->message);
    return;
  }
  nc_check_add(p->checks, "round trip", NC_CHECK_OK, NULL, "%.1f ms", (double)p->rtt_us / 1000);
  nc_node_check_clock(p->checks, "clocks", NULL, offset_us);
}

static void
nc_preflight_bandwidth(NcPreflight *p)
{
  g_autoptr(GError) error = NULL;
  double bps, loss;

  if (!nc_way_measure_rate(p->peer, p->rtt_us, &bps, &error)) {
    nc_check_add(p->checks, "bandwidth", NC_CHECK_UNKNOWN, "try again", "%s", error->message);
    return;
  }
  nc_check_add(p->checks, "bandwidth", NC_CHECK_OK, NULL, "at least %.1f MB/s, by one connection within a second", bps / 1e6);
  if (!nc_peer_loss(p->peer, &loss))
    nc_check_add(p->checks, "loss", NC_CHECK_UNKNOWN, NULL, "the kernel does not say");
  else
    nc_check_add(p->checks, "loss", loss > NC_LOSS_WARN ? NC_CHECK_WARNING : NC_CHECK_OK,
                 loss > NC_LOSS_WARN ? "look for a full queue or a bad link on the way" : NULL, "%.2f %% of the segments were sent again", loss);
}

/* --- what it says --- */

/* Compares "7.2.22" with "8.0": < 0, 0, > 0 by their first two numbers. */
static int
nc_preflight_compare_versions(const char *a, const char *b)
{
  long major_a = strtol(a, NULL, 10), major_b = strtol(b, NULL, 10);
  const char *dot_a = strchr(a, '.'), *dot_b = strchr(b, '.');
  long minor_a = dot_a ? strtol(dot_a + 1, NULL, 10) : 0, minor_b = dot_b ? strtol(dot_b + 1, NULL, 10) : 0;
  return major_a != major_b ? (major_a > major_b) - (major_a < major_b) : (minor_a > minor_b) - (minor_a < minor_b);
}

static void
nc_preflight_versions(NcPreflight *p, json_t *answer)
{
  nc_autojson json_t *node = nc_nodes_info(p->deps->nodes, NULL, NULL);
  const char *ours = nc_json_string_or(node, "qemu_version", ""), *theirs = nc_json_string_or(answer, "qemu_version", "");
  const char *version = nc_json_string_or(answer, "version", "");
  bool same = g_str_equal(version, NC_VERSION);

  nc_check_add(p->checks, "novacron version", same ? NC_CHECK_OK : NC_CHECK_WARNING, same ? NULL : "the same on all nodes, when you can",
               "%s here, %s there", NC_VERSION, version);
  if (nc_preflight_compare_versions(theirs, ours) < 0)
    nc_check_add(p->checks, "qemu version", NC_CHECK_WARNING, "a machine type that both know; coming back from newer to older may fail",
                 "%s here, the older %s there", ours, theirs);
  else
    nc_check_add(p->checks, "qemu version", NC_CHECK_OK, NULL, "%s here, %s there", ours, theirs);
}

static void
nc_preflight_destination(NcPreflight *p)
{
  g_autoptr(GError) error = NULL;
  size_t i;
  json_t *check;

  json_t *question = json_pack("{s:s, s:s, s:O}", "type", "mig_check", "vm", p->vm, "spec", p->spec);
  if (p->disks)
    json_object_set_new(question, "disks", nc_disk_offers_to_json(p->disks));
  nc_autojson json_t *answer = nc_way_ask(p->peer, question, "mig_checked", &error);
  if (!answer) {
    nc_check_add(p->checks, "destination", NC_CHECK_UNKNOWN, "novacron version on both nodes", "%s", error->message);
    return;
  }
  nc_preflight_versions(p, answer);
  json_array_foreach(json_object_get(answer, "checks"), i, check) json_array_append(p->checks, check);
}

static void
nc_preflight_reach(NcPreflight *p)
{
  g_autoptr(GError) error = NULL;

  p->peer = nc_nodes_connect(p->deps->nodes, p->to, p->deps->config->connect_timeout_ms, &error);
  if (!p->peer) {
    nc_check_add(p->checks, "connection", NC_CHECK_FAILED, "is novacrond running there, and its port open?", "%s", error->message);
    return;
  }
  nc_check_add(p->checks, "connection", NC_CHECK_OK, NULL, "%s, mutual TLS 1.3", nc_peer_address(p->peer));
  nc_preflight_clock(p);
  nc_preflight_bandwidth(p);
  if (p->spec)
    nc_preflight_destination(p);
}

json_t *
nc_preflight_check(const NcMigrationsDeps *deps, json_t *args, GError **error)
{
  NcPreflight p = { .deps = deps, .vm = nc_json_string_or(args, "vm", NULL), .to = nc_json_string_or(args, "to", NULL) };

  if (!nc_name_is_valid(p.vm) || !nc_name_is_valid(p.to)) {
    nc_fail(error, NC_ERROR_INVALID, "\"vm\" and \"to\" must be names: " NC_NAME_RULE);
    return NULL;
  }
  p.chain = (NcDiskChain)deps->config->disk_chain;
  if (json_object_get(args, "disk_chain") && !nc_disk_chain_from_name(nc_json_string_or(args, "disk_chain", NULL), &p.chain)) {
    nc_fail(error, NC_ERROR_INVALID, "\"disk_chain\" must be " NC_DISK_CHAIN_NAMES);
    return NULL;
  }
  if (g_str_equal(p.to, nc_nodes_self(deps->nodes))) {
    nc_fail(error, NC_ERROR_INVALID, "%s is this node", p.to);
    return NULL;
  }
  p.checks = json_array();
  nc_preflight_machine(&p);
  nc_preflight_reach(&p);
  json_t *result = json_pack("{s:s, s:s, s:s, s:s, s:o}", "vm", p.vm, "from", nc_nodes_self(deps->nodes), "to", p.to, "verdict",
                             nc_verdict_name(nc_checks_worst(p.checks)), "checks", p.checks);
  nc_peer_free(p.peer);
  nc_disk_offers_end_proof(p.disks);
  g_clear_pointer(&p.disks, g_ptr_array_unref);
  json_decref(p.spec);
  return result;
}
