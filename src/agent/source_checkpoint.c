/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source_checkpoint.h"
#include "agent/source_retry.h"

#define NC_TAKE_POLL_US 100000

static bool
nc_take_is_wanted(NcMigration *m)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  return nc_json_bool_or(record, "checkpoint_wanted", false) && !json_is_string(json_object_get(record, "checkpoint"));
}

/* From here on a crash ends the migration (nc_source_checkpoint_settle()); the machine is free for the checkpoint. */
static bool
nc_take_begin(NcMigration *m, GError **error)
{
  nc_migration_enter_phase(m, "checkpoint");
  nc_migration_set(m, "checkpoint_making", json_true());
  if (!nc_migration_persist(m, true, error))
    return false;
  nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_STAYS);
  return true;
}

/* The checkpoint's view when it is not being made any more; NULL: novacrond stops, or there is none. New reference. */
static json_t *
nc_take_follow(NcMigration *m, const char *id, GError **error)
{
  NcCheckpoints *checkpoints = m->deps->checkpoints;
  nc_autojson json_t *args = json_pack("{s:s}", "id", id);
  bool told = false;

  while (!g_atomic_int_get(&m->quitting)) {
    nc_autojson json_t *view = nc_checkpoints_get(checkpoints, args, error);
    if (!view)
      return NULL;
    if (!g_str_equal(nc_json_string_or(view, "state", ""), "making"))
      return g_steal_pointer(&view);
    if (!told && g_atomic_int_get(&m->cancel_requested)) {
      json_decref(nc_checkpoints_cancel(checkpoints, args, NULL));
      told = true;
    }
    nc_migration_set(m, "progress", json_integer(nc_json_int_or(view, "progress", 0)));
    g_usleep(NC_TAKE_POLL_US);
  }
  return NULL;
}

static bool
nc_take_run(NcMigration *m, GError **error)
{
  g_autofree char *label = g_strdup_printf("before migration %s to %s", m->id, m->peer);
  nc_autojson json_t *args =
      json_pack("{s:s, s:s, s:s, s:s}", "name", m->vm, "mode", "background", "label", label, "migration", m->id);
  nc_autojson json_t *begun = nc_checkpoints_create(m->deps->checkpoints, args, error);
  nc_autojson json_t *made = begun ? nc_take_follow(m, nc_json_string_or(begun, "id", ""), error) : NULL;

  if (!made)
    return false;
  if (!g_str_equal(nc_json_string_or(made, "state", ""), "ready")) {
    nc_error_set_json(error, json_object_get(made, "error"));
    return false;
  }
  const char *id = nc_json_string_or(made, "id", "");
  nc_migration_set(m, "checkpoint", json_string(id));
  nc_migration_note(m, "checkpoint", "%s was taken; the guest stood still for %.0f ms", id,
                    json_number_value(json_object_get(made, "pause_ms")));
  return true;
}

static void
nc_take_fail(NcMigration *m, const GError *problem)
{
  const char *node = nc_nodes_self(m->deps->nodes);
  g_autofree char *text = problem->code == NC_ERROR_CANCELLED
                              ? g_strdup("cancelled while its checkpoint was being taken")
                              : g_strdup_printf("no checkpoint of %s could be taken on the source (%s) before the "
                                                "migration, and nothing was moved: %s. It can be "
                                                "moved without: novacron migrate %s --to %s --no-checkpoint",
                                                m->vm, node, problem->message, m->vm, m->peer);
  if (m->lease)
    nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_STAYS);
  nc_migration_set(m, "checkpoint_making", json_false());
  nc_source_end_waiting(m, problem->code, text);
}

bool
nc_source_checkpoint_take(NcMigration *m)
{
  g_autoptr(GError) error = NULL;

  if (!nc_take_is_wanted(m))
    return true;
  bool ok = nc_take_begin(m, &error) && nc_take_run(m, &error);
  if (!ok && g_atomic_int_get(&m->quitting))
    return false; /* the next novacrond ends it */
  if (ok && g_atomic_int_get(&m->cancel_requested))
    ok = nc_fail(&error, NC_ERROR_CANCELLED, "cancelled");
  ok = ok && nc_source_lease_again(m, &error);
  nc_migration_enter_phase(m, "prepare");
  nc_migration_set(m, "progress", json_integer(0));
  if (ok) {
    nc_migration_set(m, "checkpoint_making", json_false());
    ok = nc_migration_persist(m, true, &error);
  }
  if (!ok)
    nc_take_fail(m, error);
  return ok;
}

bool
nc_source_checkpoint_settle(NcMigration *m)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);

  if (!nc_json_bool_or(record, "checkpoint_making", false))
    return false;
  m->lease = nc_machines_lease_resume(m->deps->machines, m->vm, m->id, NULL); /* if it had just been taken again */
  m->state = NC_S_PREPARING;
  g_autoptr(GError) error = NULL;
  nc_fail(&error, NC_ERROR_INTERNAL, "novacrond was restarted meanwhile");
  nc_take_fail(m, error);
  return true;
}
