/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of a migration to this node, when no thread of it lives any more: the
 * answers to mig_query come from the run right and the machine alone. An epoch that
 * was never heard of is declined here and now, so that the source may go on.
 */
#include "agent/migration_peer.h"
#include "base/ident.h"

/* Never heard of this epoch: decline it now, durably, so that the source may go on. */
static json_t *
nc_destination_refuse_unknown(const NcMigrationsDeps *deps, const char *id, NcRight *right, uint64_t epoch)
{
  g_autoptr(GError) error = NULL;
  NcRight refused = *right;
  refused.epoch = epoch;
  refused.state = NC_RIGHT_REFUSED;
  g_strlcpy(refused.migration, id, sizeof refused.migration);
  if (!nc_journal_set_right(deps->journal, &refused, right->state, right->epoch, &error))
    return json_pack("{s:s, s:s, s:s}", "type", "mig_unknown", "migration", id, "detail", error->message);
  nc_fail(&error, NC_ERROR_CONFLICT, "the destination (%s) never received epoch %" G_GUINT64_FORMAT " of %s", nc_nodes_self(deps->nodes),
          epoch, right->vm);
  return json_pack("{s:s, s:s, s:o}", "type", "mig_refused", "migration", id, "error", nc_error_to_json(error));
}

static json_t *
nc_destination_answer_refused(const NcMigrationsDeps *deps, const char *id)
{
  nc_autojson json_t *record = nc_journal_get_migration(deps->journal, id, NULL);
  json_t *reason = json_object_get(record, "error");
  g_autoptr(GError) error = NULL;

  if (json_is_object(reason))
    nc_error_set_json(&error, reason);
  else
    nc_fail(&error, NC_ERROR_CONFLICT, "the destination (%s) refused it", nc_nodes_self(deps->nodes));
  return json_pack("{s:s, s:s, s:o}", "type", "mig_refused", "migration", id, "error", nc_error_to_json(error));
}

/* INCOMING, and no thread that could take it: it was refused, but that could not be written. It can now, or later. */
static json_t *
nc_destination_refuse_leftover(const NcMigrationsDeps *deps, const char *id, NcRight *right)
{
  NcRight refused = *right;
  refused.state = NC_RIGHT_REFUSED;
  if (!nc_journal_set_right(deps->journal, &refused, right->state, right->epoch, NULL))
    return json_pack("{s:s, s:s}", "type", "mig_pending", "migration", id);
  return nc_destination_answer_refused(deps, id);
}

static json_t *
nc_destination_answer_held(const NcMigrationsDeps *deps, const char *id, const char *vm, uint64_t epoch)
{
  nc_autojson json_t *machine = NULL;
  nc_autojson json_t *args = json_pack("{s:s}", "name", vm);
  g_autoptr(GError) error = NULL;

  machine = nc_machines_get(deps->machines, args, &error);
  const char *state = machine ? nc_json_string_or(machine, "state", "") : "";
  if (g_str_equal(state, "running") || g_str_equal(state, "paused"))
    return json_pack("{s:s, s:s, s:I, s:I, s:s, s:I}", "type", "mig_started", "migration", id, "epoch", (json_int_t)epoch,
                     "resume_us", (json_int_t)0, "sha256", "", "stream_bytes", (json_int_t)0);
  /* `stopped` is what a machine is whose QEMU was seen to be gone. */
  return json_pack("{s:s, s:s, s:s, s:b}", "type", "mig_unknown", "migration", id, "detail",
                   "the destination took the machine over, but it does not run there now", "lost", g_str_equal(state, "stopped"));
}

json_t *
nc_destination_answer_query(const NcMigrationsDeps *deps, const char *peer_node, json_t *message)
{
  const char *id = nc_json_string_or(message, "migration", "");
  const char *vm = nc_json_string_or(message, "vm", "");
  int64_t epoch = nc_json_int_or(message, "epoch", 0);
  g_autoptr(GError) error = NULL;
  NcRight right;

  if (!nc_name_is_valid(vm) || !nc_name_is_valid(id) || epoch < 1 || !nc_journal_get_right(deps->journal, vm, &right, &error))
    return json_pack("{s:s, s:s, s:s}", "type", "mig_unknown", "migration", id, "detail",
                     error ? error->message : "malformed question");
  if (right.epoch < (uint64_t)epoch && right.state != NC_RIGHT_HELD && right.state != NC_RIGHT_INCOMING) {
    g_strlcpy(right.vm, vm, sizeof right.vm);
    g_strlcpy(right.peer, "", sizeof right.peer);
    return nc_destination_refuse_unknown(deps, id, &right, (uint64_t)epoch);
  }
  if (right.epoch == (uint64_t)epoch && right.state == NC_RIGHT_HELD)
    return nc_destination_answer_held(deps, id, vm, (uint64_t)epoch);
  if (right.epoch == (uint64_t)epoch && right.state == NC_RIGHT_REFUSED)
    return nc_destination_answer_refused(deps, id);
  if (right.epoch == (uint64_t)epoch && right.state == NC_RIGHT_INCOMING)
    return nc_destination_refuse_leftover(deps, id, &right);
  return json_pack("{s:s, s:s, s:s}", "type", "mig_unknown", "migration", id, "detail",
                   "the machine has gone through later handoffs there");
}
