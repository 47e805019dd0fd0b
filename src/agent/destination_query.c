/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What became of a migration to this node, when no thread of it lives any more: the
 * answers to mig_query and mig_let_go come from the run right and the machine alone. An epoch that
 * was never heard of is declined here and now, so that the source may go on.
 */
#include "agent/machine_hold.h"
#include "agent/migration_peer.h"
#include "base/ident.h"
#include "base/log.h"

static json_t *
nc_destination_say_refused(const char *id, const GError *error)
{
  return json_pack("{s:s, s:s, s:o}", "type", "mig_refused", "migration", id, "error", nc_error_to_json(error));
}

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
  return nc_destination_say_refused(id, error);
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
  return nc_destination_say_refused(id, error);
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

json_t *
nc_destination_say_holds(const char *id, const char *detail)
{
  return json_pack("{s:s, s:s, s:s}", "type", "mig_holds", "migration", id, "detail", detail);
}

/* The record of a migration that ${peer_node} sent here, a new reference; nobody else may say anything of it. */
static json_t *
nc_destination_record_from(const NcMigrationsDeps *deps, const char *id, const char *peer_node)
{
  nc_autojson json_t *record = nc_journal_get_migration(deps->journal, id, NULL);
  bool theirs = record && g_str_equal(nc_json_string_or(record, "role", ""), "destination") &&
                g_strcmp0(nc_json_string_or(record, "source", ""), peer_node) == 0;
  return theirs ? g_steal_pointer(&record) : NULL;
}

static bool
nc_destination_came_from(const NcMigrationsDeps *deps, const NcRight *right, const char *id, const char *peer_node)
{
  nc_autojson json_t *record = g_str_equal(right->migration, id) ? nc_destination_record_from(deps, id, peer_node) : NULL;
  return record != NULL;
}

/* The machine is in our hands meanwhile, so that nobody starts it. */
static bool
nc_destination_give_back(const NcMigrationsDeps *deps, const NcRight *right, GError **error)
{
  g_autoptr(GError) problem = NULL;
  NcMachineHold *hold = nc_machines_hold_any(deps->machines, right->vm, "let go of", &problem);

  if (!hold && problem->code != NC_ERROR_NOT_FOUND) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
  }
  bool ok = (!hold || !nc_machine_hold_lives(hold) ||
             nc_fail(error, NC_ERROR_CONFLICT, "its QEMU (process %d) lives there", (int)nc_machine_hold_pid(hold))) &&
            nc_machines_refuse_right(deps->machines, right->vm, right->epoch, error);
  if (ok && hold && nc_machine_hold_discard(hold, &problem))
    return true;
  if (hold && ok) /* the right is refused, which is what counts: it is in the list, and can't start */
    nc_log(NC_LOG_ERR, "agent", "machine %s: %s", right->vm, problem->message);
  nc_machine_hold_end(hold);
  return ok;
}

json_t *
nc_destination_let_go(const NcMigrationsDeps *deps, const char *peer_node, json_t *message)
{
  const char *id = nc_json_string_or(message, "migration", "");
  const char *vm = nc_json_string_or(message, "vm", "");
  g_autoptr(GError) error = NULL;
  NcRight right;

  if (!nc_name_is_valid(vm) || !nc_name_is_valid(id) || !nc_journal_get_right(deps->journal, vm, &right, &error))
    return nc_destination_say_holds(id, error ? error->message : "malformed");
  if (right.state != NC_RIGHT_HELD || right.epoch != (uint64_t)nc_json_int_or(message, "epoch", 0)) {
    nc_autojson json_t *answer = nc_destination_answer_query(deps, peer_node, message);
    return g_str_equal(nc_json_string_or(answer, "type", ""), "mig_refused") ? g_steal_pointer(&answer)
                                                                             : nc_destination_say_holds(id, nc_json_string_or(answer, "detail", "not decided yet"));
  }
  if (!nc_destination_came_from(deps, &right, id, peer_node))
    return nc_destination_say_holds(id, "it did not come from there by this migration");
  if (!nc_destination_give_back(deps, &right, &error))
    return nc_destination_say_holds(id, error->message);
  nc_log(NC_LOG_WARNING, "agent", "machine %s: by an operator's word at %s the right to run it goes back there (epoch %" G_GUINT64_FORMAT ")", vm,
         peer_node, right.epoch);
  nc_fail(&error, NC_ERROR_CONFLICT, "the destination (%s) let go of it, by an operator's word", nc_nodes_self(deps->nodes));
  return nc_destination_say_refused(id, error);
}

bool
nc_destination_confirm(const NcMigrationsDeps *deps, const char *peer_node, const char *id, GError **error)
{
  nc_autojson json_t *record = nc_destination_record_from(deps, id, peer_node);

  if (!record)
    return false;
  if (!nc_json_bool_or(record, "unconfirmed", false))
    return true;
  json_object_set_new(record, "unconfirmed", json_false());
  return nc_journal_put_migration(deps->journal, id, nc_json_string_or(record, "vm", ""), nc_json_string_or(record, "state", ""), true, record,
                                  true, error);
}
