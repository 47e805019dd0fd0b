/* SPDX-License-Identifier: Apache-2.0 */
/* What the destination says of itself before a migration. */
#include "agent/destination.h"
#include "agent/disk_offer.h"
#include "agent/node_checks.h"
#include "agent/node_look.h"
#include "agent/preflight.h"
#include "base/check.h"
#include "base/ident.h"
#include "qemu/suitability.h"

static void
nc_preflight_run_right(const NcMigrationsDeps *deps, const char *vm, json_t *checks)
{
  g_autoptr(GError) error = NULL;
  NcRight right;

  if (!nc_journal_get_right(deps->journal, vm, &right, &error)) {
    nc_check_add(checks, "run right", NC_CHECK_FAILED, "look at the disk of its data_dir", "%s", error->message);
    return;
  }
  bool held = right.state == NC_RIGHT_HELD && nc_machines_has(deps->machines, vm);
  if (held || right.state == NC_RIGHT_INCOMING)
    nc_check_add(checks, "run right", NC_CHECK_FAILED, "destroy or rename one of them", "it %s a machine named %s", held ? "has" : "is receiving", vm);
  else
    nc_check_add(checks, "run right", NC_CHECK_OK, NULL, "no machine of that name there");
}

/* Those that would come along: [{name, copied}], a new reference; what is left in ${spec} must be there. */
static json_t *
nc_preflight_disks(json_t *message, NcMachineSpec *spec, json_t *checks)
{
  json_t *verdicts = json_array();
  g_autoptr(GError) error = NULL;
  g_autoptr(GPtrArray) offers = nc_disk_offers_from_json(json_object_get(message, "disks"), spec, &error);

  if (!offers) {
    nc_check_add(checks, "disk", NC_CHECK_FAILED, "the same version of NovaCron on both nodes", "%s", error->message);
    return verdicts;
  }
  nc_disk_offers_judge(offers, checks);
  for (guint i = 0; i < offers->len; i++) {
    const NcDiskOffer *o = offers->pdata[i];
    json_array_append_new(verdicts, json_pack("{s:s, s:b}", "name", o->name, "copied", (int)o->copy));
  }
  nc_disk_offers_strip(offers, spec);
  return verdicts;
}

static json_t *
nc_preflight_answer(const NcMigrationsDeps *deps, json_t *message)
{
  const char *vm = nc_json_string_or(message, "vm", "");
  g_autoptr(GError) error = NULL;
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(json_object_get(message, "spec"), &error);
  nc_autojson json_t *disks = NULL;
  json_t *checks = json_array();
  int problem = 0;

  if (!spec || !nc_name_is_valid(vm)) {
    nc_check_add(checks, "machine", NC_CHECK_FAILED, "the same version of NovaCron on both nodes", "its specification is not understood: %s",
                 error ? error->message : "no name");
  } else {
    uint64_t reserved = nc_machines_reserved_bytes(deps->machines);
    disks = nc_preflight_disks(message, spec, checks);
    nc_suitability_list(spec, deps->config->qemu_binary, reserved, checks);
    nc_preflight_run_right(deps, vm, checks);
  }
  nc_node_check_postcopy(checks, nc_postcopy_is_possible(&problem) ? 0 : problem);
  nc_node_check_data_dir(checks, deps->config->data_dir, nc_directory_free_bytes(deps->config->data_dir));
  nc_autojson json_t *node = nc_nodes_info(deps->nodes, NULL, NULL);
  return json_pack("{s:s, s:o, s:s, s:s, s:O?}", "type", "mig_checked", "checks", checks, "version", nc_json_string_or(node, "version", ""),
                   "qemu_version", nc_json_string_or(node, "qemu_version", ""), "disks", disks);
}

bool
nc_preflight_serve(const NcMigrationsDeps *deps, NcPreflightSession *session, NcPeer *peer, json_t *message)
{
  const char *type = nc_json_string_or(message, "type", "");
  nc_autojson json_t *answer = NULL;

  if (g_str_equal(type, "mig_load")) {
    session->loaded_bytes += json_string_length(json_object_get(message, "data"));
    return true;
  }
  if (g_str_equal(type, "mig_measure"))
    answer = json_pack("{s:s, s:I, s:I}", "type", "mig_measured", "bytes", (json_int_t)session->loaded_bytes, "at_us",
                       (json_int_t)nc_mono_us());
  else if (g_str_equal(type, "mig_check"))
    answer = nc_preflight_answer(deps, message);
  else
    return false;
  nc_peer_send(peer, answer, NULL);
  return true;
}
