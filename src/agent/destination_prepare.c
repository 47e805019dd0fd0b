/* SPDX-License-Identifier: Apache-2.0 */
/* What the destination does until it can receive: may it, the machine's record, INCOMING on disk, the mover, QEMU. */
#include "agent/destination.h"
#include "agent/destination_disks.h"
#include "agent/disk_offer.h"
#include "agent/shadow_budget.h"
#include "agent/spare_monitor.h"
#include "agent/stored_pages.h"
#include "agent/warm_return.h"
#include "base/bytes.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "qemu/machine_spec.h"
#include "qemu/migration_qmp.h"
#include "qemu/suitability.h"
#include "wire/stored.h"

/* What both sides can afford; the machine's own memory is spoken for. */
static NcShadowSize
nc_destination_shadow_size(NcMigration *m, json_t *request)
{
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(json_object_get(request, "spec"), NULL);
  uint64_t machine = spec ? nc_machine_spec_memory_bytes(spec) : 0;
  uint64_t reserved = nc_machines_reserved_bytes(m->deps->machines);

  return nc_shadow_agree(nc_shadow_budget(m->deps->config, machine, reserved, true), request);
}

/* The new movers of a recovery (mig_recover) begin anew, and end with pages that nobody could use. */
static bool
nc_destination_give_shadow(NcMigration *m, json_t *request, NcShadowSize size, bool *ret_kept, GError **error)
{
  if (g_str_equal(nc_json_string_or(request, "type", ""), "mig_prepare"))
    return nc_warm_return_answer(m, request, size, ret_kept, error);
  nc_warm_return_forget(m);
  return nc_mover_process_send_shadow(m->mover, size, -1, 0, error);
}

bool
nc_destination_start_mover(NcMigration *m, json_t *request, GError **error)
{
  uint8_t psk[NC_MIG_PSK_BYTES];
  const char *hex = nc_json_string(request, "psk", error);
  if (!hex)
    return false;
  if (!nc_hex_decode(hex, psk, sizeof psk))
    return nc_fail(error, NC_ERROR_PROTOCOL, "\"psk\" must be %zu hexadecimal bytes", sizeof psk);
  const NcMoverOrder order = {
    .is_source = false,
    .migration = m->id,
    .psk = psk,
    .streams = (int)nc_json_int_or(request, "streams", 1),
    .compression = nc_json_string_or(request, "compression", "none"),
    .pause_budget_ms = (int)nc_json_int_or(request, "pause_budget_ms", 300),
  };
  NcMoverProcess *mover = nc_migration_start_mover(m, &order, error);
  nc_secret_clear(psk, sizeof psk);
  if (!mover)
    return false;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
    m->mover = mover;
  }
  NcShadowSize size = nc_destination_shadow_size(m, request);
  bool kept = false;
  if (!nc_destination_give_shadow(m, request, size, &kept, error))
    return false;
  g_autoptr(GByteArray) stored = kept ? NULL : nc_stored_pages_answer(m, request); /* what is kept is more, and nearer */
  json_t *accepted = json_pack("{s:s, s:s, s:I, s:I, s:o, s:b, s:b, s:I}", "type", "mig_accepted", "migration", m->id,
                               "shadow_frames", (json_int_t)size.frames, "block_frames", (json_int_t)size.blocks, "disks",
                               nc_destination_disk_verdicts(request), "kept_shadow", kept, "ahead",
                               nc_json_bool_or(request, "ahead", false), "stored_pages",
                               (json_int_t)(stored ? stored->len / NC_STORED_PREFIX_BYTES : 0));
  return nc_migration_tell_with(m, accepted, stored, error);
}

/* The first connection is the main channel, whatever comes on it (reference, section 4.1). */
bool
nc_destination_connect_qemu(NcMigration *m, const char *path, bool preempt, GError **error)
{
  static const char *const channels[] = { "main", "preempt" };

  for (size_t i = 0; i < (preempt ? 2 : 1); i++) {
    nc_autofd int qemu = nc_unix_connect(path, error);
    if (qemu < 0 || !nc_mover_process_send(m->mover, json_pack("{s:s, s:s}", "op", "qemu", "channel", channels[i]), qemu, error))
      return false;
  }
  return true;
}

bool
nc_destination_prepare(NcMigration *m, json_t *request, GError **error)
{
  if (!nc_destination_start_mover(m, request, error) || !nc_destination_make_disks(m, request, error))
    return false;
  if (!nc_machine_lease_launch_incoming(m->lease, error))
    return false;
  nc_fault_point("destination-prepare");
  nc_migration_watch_qemu(m);
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);
  if (!qmp)
    return nc_fail(error, NC_ERROR_QEMU, "QEMU ended before it could be prepared");
  bool postcopy = nc_json_bool_or(request, "postcopy", false);
  if (!nc_qemu_migration_setup_destination(qmp, postcopy, nc_json_bool_or(request, "preempt", false), error))
    return false;
  g_autoptr(GError) problem = NULL;
  if (postcopy && !nc_spare_monitor_keep(m, qmp, &problem))
    nc_migration_note(m, "warning", "if novacrond is restarted in post-copy, it may not reach QEMU any more: %s", problem->message);
  g_autofree char *path = g_build_filename(nc_machine_lease_run_dir(m->lease), "in.sock", NULL);
  return nc_destination_export_disks(m, request, error) && nc_qemu_migrate_incoming(qmp, path, error) &&
         nc_destination_connect_qemu(m, path, nc_qemu_has_preempt_channel(qmp), error);
}

static json_t *
nc_destination_record(const char *id, const char *vm, const char *source, const char *here, json_t *request)
{
  g_autofree char *now = nc_time_format(nc_wall_us());
  json_t *record = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:n, s:I, s:s, s:s, s:I, s:n, s:n}", "id", id, "vm", vm, "source",
                   source, "destination", here, "role", "destination", "state", "receiving", "phase", "prepare", "outcome",
                   "epoch", (json_int_t)nc_json_int_or(request, "epoch", 0), "created", now, "started", now, "max_downtime_ms",
                   (json_int_t)nc_json_int_or(request, "max_downtime_ms", 0), "attention", "error");
  const char *checkpoint = nc_json_string_or(request, "checkpoint", "");
  bool has = nc_name_is_valid(checkpoint);
  json_object_set_new(record, "checkpoint", has ? json_string(checkpoint) : json_null());
  if (has)
    json_object_set_new(record, "checkpoint_keep_s", json_integer(CLAMP(nc_json_int_or(request, "checkpoint_keep_s", 0), 0, 366 * 86400)));
  return record;
}

/*
 * The run right must allow it: nobody may receive what it holds, and an epoch is used once. A machine that was destroyed has left its right here, and
 * nobody can use that: one that is defined meanwhile has none, since we take it.
 */
static bool
nc_destination_claim_epoch(NcMigration *m, const NcRight *present, GError **error)
{
  bool held = present->state == NC_RIGHT_HELD && nc_machines_has(m->deps->machines, m->vm);

  if (held || present->state == NC_RIGHT_INCOMING)
    return nc_fail(error, NC_ERROR_CONFLICT, "the destination (%s) %s a machine named %s: destroy or rename one of them",
                   nc_nodes_self(m->deps->nodes), held ? "already has" : "is already receiving", m->vm);
  if (present->epoch >= m->epoch)
    return nc_fail(error, NC_ERROR_CONFLICT,
                   "the destination (%s) knows epoch %" G_GUINT64_FORMAT " of %s, the source offers %" G_GUINT64_FORMAT
                   ": try again, the source will choose a higher one",
                   nc_nodes_self(m->deps->nodes), present->epoch, m->vm, m->epoch);
  return nc_migration_move_right(m, present->state, present->epoch, NC_RIGHT_INCOMING, m->epoch, error);
}

bool
nc_destination_judge(const NcMigrationsDeps *deps, json_t *request, GError **error)
{
  static GMutex one_at_a_time; /* it may read whole files */
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(json_object_get(request, "spec"), error);
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&one_at_a_time);

  if (spec && nc_destination_judge_disks(request, spec, error))
    return true;
  g_prefix_error(error, "the destination (%s) can't run this machine: ", nc_nodes_self(deps->nodes));
  return false;
}

/* What is quick to see; nc_destination_judge() has decided about disks. */
static bool
nc_destination_check_node(const NcMigrationsDeps *deps, json_t *request, GError **error)
{
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(json_object_get(request, "spec"), error);
  g_autoptr(GPtrArray) offers = spec ? nc_disk_offers_from_json(json_object_get(request, "disks"), spec, error) : NULL;
  if (!offers)
    return false;
  nc_disk_offers_strip(offers, spec);
  uint64_t reserved = nc_machines_reserved_bytes(deps->machines);
  if (!nc_suitability_check(spec, deps->config->qemu_binary, reserved, error)) {
    g_prefix_error(error, "the destination (%s) can't run this machine: ", nc_nodes_self(deps->nodes));
    return false;
  }
  return true;
}

NcMigration *
nc_destination_migration_start(const NcMigrationsDeps *deps, const char *peer_node, json_t *message, NcPeer *peer,
                               GError **error)
{
  const char *id = nc_json_string(message, "migration", error);
  const char *vm = id ? nc_json_string(message, "vm", error) : NULL;
  json_t *spec = json_object_get(message, "spec");
  int64_t epoch, streams;
  NcRight present;

  if (!vm || !nc_json_int(message, "epoch", 1, INT64_MAX, &epoch, error) ||
      !nc_json_int(message, "streams", 1, NC_MIG_MAX_STREAMS, &streams, error))
    return NULL;
  if (!nc_name_is_valid(vm) || !nc_name_is_valid(id) || !json_is_object(spec)) {
    nc_fail(error, NC_ERROR_PROTOCOL, "the migration's id, machine name or specification is malformed");
    return NULL;
  }
  if (!nc_journal_get_right(deps->journal, vm, &present, error) || !nc_destination_check_node(deps, message, error))
    return NULL;

  NcMigration *m = nc_migration_new(deps, false, id, vm, peer_node, (uint64_t)epoch,
                                    nc_destination_record(id, vm, peer_node, nc_nodes_self(deps->nodes), message));
  nc_migration_set(m, "was_running", json_boolean(nc_json_bool_or(message, "running", true)));
  if (!nc_destination_claim_epoch(m, &present, error)) {
    nc_migration_free(m);
    return NULL;
  }
  m->lease = nc_machines_lease_incoming(deps->machines, spec, id, error);
  if (!m->lease || !nc_migration_create(m, error)) {
    g_autoptr(GError) problem = NULL;
    if (!nc_migration_move_right(m, NC_RIGHT_INCOMING, m->epoch, NC_RIGHT_REFUSED, m->epoch, &problem))
      nc_log(NC_LOG_ERR, "agent", "%s", problem->message);
    if (m->lease)
      nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_DISCARD);
    nc_migration_free(m);
    return NULL;
  }
  nc_migration_lend_link(m, peer);
  nc_migration_borrow(m);
  nc_destination_begin(m, message);
  return m;
}

bool
nc_destination_migration_conn(NcMigration *m, unsigned index, int fd, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
  if (!m->mover)
    return nc_fail(error, NC_ERROR_CONFLICT, "migration %s has no mover here", m->id);
  return nc_mover_process_send(m->mover, json_pack("{s:s, s:i}", "op", "conn", "index", (int)index), fd, error);
}
