/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/migrations_internal.h"
#include "agent/destination.h"
#include "agent/migration_request.h"
#include "agent/plan.h"
#include "agent/preflight.h"
#include "base/ident.h"
#include "base/log.h"
#include "qemu/process.h"

#include <unistd.h>

NcMigrations *
nc_migrations_new(const NcMigrationsDeps *deps)
{
  NcMigrations *ms = g_new0(NcMigrations, 1);
  ms->deps = *deps;
  g_mutex_init(&ms->lock);
  ms->live = g_ptr_array_new();
  ms->keepers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)nc_keeper_free);
  return ms;
}

static void
nc_migrations_join(NcMigration *m)
{
  if (m->thread)
    g_thread_join(m->thread);
  nc_migration_free(m);
}

void
nc_migrations_sweep_locked(NcMigrations *ms)
{
  for (guint i = 0; i < ms->live->len;) {
    NcMigration *m = ms->live->pdata[i];
    if (nc_migration_is_finished(m) && !nc_migration_has_borrower(m)) {
      g_ptr_array_remove_index_fast(ms->live, i);
      nc_migrations_join(m); /* it only has its last lines to run */
    } else {
      i++;
    }
  }
}

NcMigration *
nc_migrations_find_locked(NcMigrations *ms, const char *id)
{
  NcMigration *found = NULL;

  for (guint i = 0; i < ms->live->len; i++) {
    NcMigration *m = ms->live->pdata[i];
    if (g_str_equal(m->id, id) && (!found || !nc_migration_is_finished(m)))
      found = m;
  }
  return found;
}

unsigned
nc_migrations_count_locked(NcMigrations *ms, bool is_source)
{
  unsigned count = 0;
  for (guint i = 0; i < ms->live->len; i++) {
    NcMigration *m = ms->live->pdata[i];
    count += m->is_source == is_source && !nc_migration_is_finished(m);
  }
  return count;
}

void
nc_migrations_free(NcMigrations *ms)
{
  if (!ms)
    return;
  g_mutex_lock(&ms->lock);
  ms->quitting = true;
  for (guint i = 0; i < ms->live->len; i++) {
    NcMigration *m = ms->live->pdata[i];
    g_atomic_int_set(&m->quitting, 1);
    nc_inbox_push(m->inbox, NC_FROM_QUIT, NULL);
  }
  g_mutex_unlock(&ms->lock);
  for (guint i = 0; i < ms->live->len; i++) {
    NcMigration *m = ms->live->pdata[i];
    if (m->thread)
      g_thread_join(g_steal_pointer(&m->thread));
    nc_migration_cut_link(m);
    while (nc_migration_has_borrower(m)) /* its session returns now that the link is cut */
      g_usleep(1000);
    nc_migration_free(m);
  }
  g_ptr_array_unref(ms->live);
  g_hash_table_unref(ms->keepers);
  g_mutex_clear(&ms->lock);
  g_free(ms);
}

/* --- the control socket's operations --- */

static bool
nc_migrations_check_destination(NcMigrations *ms, const NcMigrationRequest *r, GError **error)
{
  if (g_str_equal(r->to, nc_nodes_self(ms->deps.nodes)))
    return nc_fail(error, NC_ERROR_INVALID, "%s is on %s already", r->vm, r->to);
  g_autofree char *address = nc_nodes_address(ms->deps.nodes, r->to, error);
  return address != NULL;
}

/* A new migration with its machine leased and its record on disk, not started. */
static NcMigration *
nc_migrations_admit(NcMigrations *ms, const NcMigrationRequest *r, const char *wanted_id, bool is_attempt, GError **error)
{
  NcRight right;
  if (!nc_journal_get_right(ms->deps.journal, r->vm, &right, error))
    return NULL;
  g_autofree char *id = wanted_id ? g_strdup(wanted_id) : nc_id_new("m");
  NcMachineLease *lease = nc_machines_lease(ms->deps.machines, r->vm, id, error);
  if (!lease)
    return NULL;
  NcMigration *m =
      nc_migration_new(&ms->deps, true, id, r->vm, r->to, 0, nc_migration_request_record(r, nc_nodes_self(ms->deps.nodes), id, right.epoch));
  m->lease = lease;
  m->is_attempt = is_attempt;
  if (is_attempt)
    nc_migration_set(m, "allotted_limit_bps", json_integer(r->bandwidth_limit_bps));
  if (!nc_migration_create(m, error)) {
    g_prefix_error(error, "the migration can't be recorded on the source: ");
    nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_STAYS);
    nc_migration_free(m);
    return NULL;
  }
  return m;
}

static json_t *
nc_migrations_make(NcMigrations *ms, const char *id, bool is_attempt, json_t *args, GError **error)
{
  NcMigrationRequest request;
  if (!nc_migration_request_parse(ms->deps.config, args, &request, error) || !nc_migrations_check_destination(ms, &request, error) ||
      !nc_checkpoints_have_let_go(ms->deps.checkpoints, request.vm, error))
    return NULL;

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);
  nc_migrations_sweep_locked(ms);
  if (ms->quitting) {
    nc_fail(error, NC_ERROR_CONFLICT, "novacrond is stopping");
    return NULL;
  }
  if (nc_migrations_count_locked(ms, true) >= (unsigned)ms->deps.config->max_migrations_out) {
    nc_fail(error, NC_ERROR_RESOURCE, "%d migrations leave this node already (max_migrations_out): try again when one has ended",
            ms->deps.config->max_migrations_out);
    return NULL;
  }
  NcMigration *m = nc_migrations_admit(ms, &request, id, is_attempt, error);
  if (!m)
    return NULL;
  g_ptr_array_add(ms->live, m);
  nc_migration_claim_bandwidth(m);
  json_t *answer = nc_migration_snapshot(m);
  nc_source_migration_start(m);
  return answer;
}

json_t *
nc_migrations_create(NcMigrations *ms, json_t *args, GError **error)
{
  return nc_migrations_make(ms, NULL, false, args, error);
}

json_t *
nc_migrations_create_as(NcMigrations *ms, const char *id, json_t *args, GError **error)
{
  return nc_migrations_make(ms, id, false, args, error);
}

json_t *
nc_migrations_create_attempt(NcMigrations *ms, const char *name, json_t *args, GError **error)
{
  return nc_migrations_make(ms, name, true, args, error);
}

json_t *
nc_migrations_record(NcMigrations *ms, const char *id, GError **error)
{
  json_t *record = NULL;
  g_mutex_lock(&ms->lock);
  NcMigration *m = nc_migrations_find_locked(ms, id);
  if (m)
    record = nc_migration_snapshot(m);
  g_mutex_unlock(&ms->lock);
  return record ? record : nc_journal_get_migration(ms->deps.journal, id, error);
}

bool
nc_migrations_is_under_way(NcMigrations *ms, const char *id)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);
  NcMigration *m = nc_migrations_find_locked(ms, id);
  return m && !nc_migration_is_finished(m);
}

json_t *
nc_migrations_running(NcMigrations *ms)
{
  json_t *running = json_array();

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);
  for (guint i = 0; i < ms->live->len; i++)
    if (!nc_migration_is_finished(ms->live->pdata[i]))
      json_array_append_new(running, nc_migration_snapshot(ms->live->pdata[i]));
  return running;
}

/* The record with its history. */
static json_t *
nc_migrations_view(NcMigrations *ms, const char *id, GError **error)
{
  json_t *record = nc_migrations_record(ms, id, error);
  if (!record)
    return NULL;
  json_t *events = nc_journal_list_events(ms->deps.journal, id, NULL);
  json_object_set_new(record, "events", events ? events : json_array());
  json_t *rollbacks = nc_journal_list_rollbacks(ms->deps.journal, id, false, NULL);
  json_object_set_new(record, "rollbacks", rollbacks ? rollbacks : json_array());
  return record;
}

json_t *
nc_migrations_get(NcMigrations *ms, json_t *args, GError **error)
{
  const char *id = nc_json_string(args, "id", error);
  return id ? nc_migrations_view(ms, id, error) : NULL;
}

json_t *
nc_migrations_check(NcMigrations *ms, json_t *args, GError **error)
{
  return nc_preflight_check(&ms->deps, args, error);
}

json_t *
nc_migrations_plan(NcMigrations *ms, json_t *args, GError **error)
{
  NcMigrationRequest request;
  if (!nc_migration_request_parse(ms->deps.config, args, &request, error) || !nc_migrations_check_destination(ms, &request, error))
    return NULL;
  const NcPlanRequest plan = { .vm = request.vm,
                               .to = request.to,
                               .compression = request.compression,
                               .algorithm = request.algorithm,
                               .disk_chain = request.disk_chain,
                               .max_downtime_ms = request.max_downtime_ms,
                               .bandwidth_limit_bps = request.bandwidth_limit_bps,
                               .max_throttle = (int)request.max_throttle };
  return nc_plan_make(&ms->deps, &plan, error);
}

json_t *
nc_migrations_page(NcMigrations *ms, int64_t before, unsigned limit, GArray *ret_rows, GError **error)
{
  json_t *page = nc_journal_page_migrations(ms->deps.journal, before, limit, ret_rows, error);
  if (!page)
    return NULL;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);
  for (size_t i = 0; i < json_array_size(page); i++) {
    NcMigration *m = nc_migrations_find_locked(ms, nc_json_string_or(json_array_get(page, i), "id", ""));
    if (m)
      json_array_set_new(page, i, nc_migration_snapshot(m));
  }
  return page;
}

json_t *
nc_migrations_page_events(NcMigrations *ms, const char *id, int64_t after, unsigned limit, GError **error)
{
  return nc_journal_page_events(ms->deps.journal, id, after, limit, error);
}

json_t *
nc_migrations_page_events_back(NcMigrations *ms, const char *id, int64_t before, unsigned limit, GError **error)
{
  return nc_journal_page_events_back(ms->deps.journal, id, before, limit, error);
}

/* Runs ${action} with ${args} on the live migration ${id}, or says what became of it. */
static bool
nc_migrations_with_live(NcMigrations *ms, const char *id, const char *verb, bool (*action)(NcMigration *, json_t *, GError **),
                        json_t *args, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);
  NcMigration *m = nc_migrations_find_locked(ms, id);
  if (m && !nc_migration_is_finished(m))
    return action(m, args, error);
  nc_autojson json_t *record = nc_journal_get_migration(ms->deps.journal, id, error);
  if (!record)
    return false;
  return nc_fail(error, NC_ERROR_CONFLICT, "migration %s can't be %s: it is %s", id, verb,
                 nc_json_string_or(record, "outcome", "over"));
}

static bool
nc_migrations_do_cancel(NcMigration *m, json_t *args, GError **error)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  NcHandoffState state = nc_handoff_state_from_name(nc_json_string_or(record, "state", ""));
  if (m->is_source && !nc_handoff_may_cancel(state))
    return nc_fail(error, NC_ERROR_CONFLICT, "migration %s can't be cancelled: %s was handed to %s already", m->id, m->vm, m->peer);
  if (!m->is_source && state != NC_D_RECEIVING)
    return nc_fail(error, NC_ERROR_CONFLICT, "migration %s can't be cancelled: %s was taken over already", m->id, m->vm);
  g_atomic_int_set(&m->cancel_requested, 1);
  nc_inbox_push(m->inbox, NC_FROM_CANCEL, NULL);
  return true;
}

json_t *
nc_migrations_cancel(NcMigrations *ms, json_t *args, GError **error)
{
  const char *id = nc_json_string(args, "id", error);
  if (!id || !nc_migrations_with_live(ms, id, "cancelled", nc_migrations_do_cancel, args, error))
    return NULL;
  return nc_migrations_view(ms, id, error);
}

/* Why what is under way can't be rolled back now, and what can be done instead. */
static bool
nc_migrations_explain_late(NcMigration *m, NcHandoffState state, GError **error)
{
  if (!m->is_source)
    return nc_fail(error, NC_ERROR_CONFLICT,
                   "migration %s can't be stopped any more: %s was taken over here. When it has completed: novacron rollback %s --back",
                   m->id, m->vm, m->id);
  if (state == NC_S_RELEASED)
    return nc_fail(error, NC_ERROR_CONFLICT,
                   "migration %s can't be stopped any more: the right to run %s was handed to %s, which alone decides now. If it "
                   "declines, the machine runs on here by itself; if it has completed, on %s: novacron rollback %s --back; if it "
                   "needs attention: novacron status %s",
                   m->id, m->vm, m->peer, m->peer, m->id, m->id);
  return nc_fail(error, NC_ERROR_CONFLICT,
                 "migration %s can't be stopped any more: %s runs on %s already. When it has completed, there: novacron rollback %s --back",
                 m->id, m->vm, m->peer, m->id);
}

static bool
nc_migrations_do_roll_back(NcMigration *m, json_t *args, GError **error)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  NcHandoffState state = nc_handoff_state_from_name(nc_json_string_or(record, "state", ""));

  if (state == NC_S_ABORTING || state == NC_S_RECLAIMING)
    return true; /* it is on its way back */
  return (m->is_source ? nc_handoff_may_cancel(state) : state == NC_D_RECEIVING) ? nc_migrations_do_cancel(m, args, error)
                                                                                : nc_migrations_explain_late(m, state, error);
}

json_t *
nc_migrations_roll_back(NcMigrations *ms, json_t *args, GError **error)
{
  const char *id = nc_json_string(args, "id", error);
  if (!id || !nc_migrations_with_live(ms, id, "rolled back", nc_migrations_do_roll_back, args, error))
    return NULL;
  return nc_migrations_view(ms, id, error);
}

/* Of two limits the lower one; 0 is none. */
static int64_t
nc_migrations_less(int64_t a, int64_t b)
{
  return a && b ? MIN(a, b) : a + b;
}

/* It is a fleet's attempt, also one that was taken up again. */
static bool
nc_migrations_is_allotted(NcMigration *m)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  return json_object_get(record, "allotted_limit_bps") != NULL;
}

/* Of a fleet's attempt what the controller allots is a limit, too, and stays one. */
static bool
nc_migrations_do_limit(NcMigration *m, json_t *args, GError **error)
{
  NcQos qos = nc_migration_qos(m);
  int64_t limit_bps = nc_migration_int(m, "bandwidth_limit_bps");

  if (!m->is_source)
    return nc_fail(error, NC_ERROR_CONFLICT, "migration %s arrives here: its limits are set on %s", m->id, m->peer);
  if (!nc_migration_request_limits(args, &limit_bps, &qos, error))
    return false;
  bool is_allotted = nc_migrations_is_allotted(m);
  if (is_allotted && json_is_integer(json_object_get(args, "bandwidth_limit_bps")))
    nc_migration_set(m, "operator_limit_bps", json_integer(limit_bps));
  if (is_allotted)
    limit_bps = nc_migrations_less(nc_migration_int(m, "operator_limit_bps"), nc_migration_int(m, "allotted_limit_bps"));
  nc_migration_limit(m, qos, (uint64_t)limit_bps);
  nc_migration_note(m, "limits", "%s, bandwidth limit %" G_GINT64_FORMAT " bytes/s", nc_qos_name(qos), limit_bps);
  return true;
}

static bool
nc_migrations_do_allot(NcMigration *m, json_t *args, GError **error)
{
  int64_t rate_bps = nc_json_int_or(args, "rate_bps", 0), limit_bps = nc_migrations_less(nc_migration_int(m, "operator_limit_bps"), rate_bps);

  if (rate_bps != nc_migration_int(m, "allotted_limit_bps"))
    nc_migration_set(m, "allotted_limit_bps", json_integer(rate_bps));
  if (limit_bps == nc_migration_int(m, "bandwidth_limit_bps"))
    return true;
  nc_migration_limit(m, nc_migration_qos(m), (uint64_t)limit_bps);
  nc_migration_note(m, "limits", "the fleet's controller: %" G_GINT64_FORMAT " bytes/s", limit_bps);
  return true;
}

bool
nc_migrations_allot(NcMigrations *ms, const char *id, int64_t rate_bps, GError **error)
{
  nc_autojson json_t *args = json_pack("{s:I}", "rate_bps", (json_int_t)rate_bps);
  return nc_migrations_with_live(ms, id, "limited", nc_migrations_do_allot, args, error);
}

json_t *
nc_migrations_limit(NcMigrations *ms, json_t *args, GError **error)
{
  const char *id = nc_json_string(args, "id", error);
  if (!id)
    return NULL;
  if (!json_object_get(args, "bandwidth_limit_bps") && !json_object_get(args, "qos")) {
    nc_fail(error, NC_ERROR_INVALID, "\"bandwidth_limit_bps\" or \"qos\" is needed: what should change?");
    return NULL;
  }
  if (!nc_migrations_with_live(ms, id, "limited", nc_migrations_do_limit, args, error))
    return NULL;
  return nc_migrations_view(ms, id, error);
}

bool
nc_migrations_hear_controller(NcMigrations *ms, const char *id, bool says, bool is_granted)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);
  NcMigration *m = nc_migrations_find_locked(ms, id);

  return m && m->is_source && nc_endgame_hear(&m->endgame, says, is_granted, nc_mono_us());
}

static bool
nc_migrations_do_resolve(NcMigration *m, json_t *args, GError **error)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  bool run_here = g_str_equal(nc_json_string_or(args, "action", ""), "run_here");
  if (!json_is_string(json_object_get(record, "attention")))
    return nc_fail(error, NC_ERROR_CONFLICT, "migration %s does not wait for a decision", m->id);
  if (m->is_source != run_here)
    return nc_fail(error, NC_ERROR_CONFLICT, "migration %s: \"%s\" is a decision for the %s (%s)", m->id, run_here ? "run_here" : "give_up",
                   run_here ? "source" : "destination", m->peer);
  nc_log(NC_LOG_WARNING, "agent", "migration %s: an operator decided: %s %s", m->id, m->vm, run_here ? "runs here" : "is given up");
  if (m->is_source)
    nc_migration_want_back(m, true); /* now: whoever has our answer counts on it */
  nc_inbox_push(m->inbox, NC_FROM_RESOLVE, NULL);
  return true;
}

json_t *
nc_migrations_resolve(NcMigrations *ms, json_t *args, GError **error)
{
  const char *id = nc_json_string(args, "id", error);
  if (!id)
    return NULL;
  const char *action = nc_json_string_or(args, "action", "");
  if (!g_str_equal(action, "run_here") && !g_str_equal(action, "give_up")) {
    nc_fail(error, NC_ERROR_INVALID, "\"action\" must be \"run_here\" (at the source) or \"give_up\" (at the destination, in post-copy)");
    return NULL;
  }
  if (!nc_migrations_with_live(ms, id, "resolved", nc_migrations_do_resolve, args, error))
    return NULL;
  return nc_migrations_view(ms, id, error);
}

/* --- after a restart --- */

static void
nc_migrations_unblock_one(NcMigrations *ms, json_t *record)
{
  const char *id = nc_json_string_or(record, "id", "");
  int64_t inode = nc_json_int_or(record, "keeper_inode", 0);
  g_autoptr(GError) error = NULL;

  if (inode <= 0 || !g_str_equal(nc_json_string_or(record, "role", ""), "source"))
    return;
  nc_autojson json_t *machine = nc_journal_get_machine(ms->deps.journal, nc_json_string_or(record, "vm", ""), &error);
  json_t *runtime = json_object_get(machine, "runtime");
  pid_t pid = (pid_t)nc_json_int_or(runtime, "pid", 0);
  if (!nc_qemu_process_is_alive(pid, (uint64_t)nc_json_int_or(runtime, "pid_start", 0)))
    return;
  NcKeeper *keeper = nc_keeper_take(pid, (uint64_t)inode, &error);
  if (!keeper) {
    nc_log(NC_LOG_WARNING, "agent", "migration %s: %s", id, error->message);
    return;
  }
  /* In post-copy what is drained would be missing there; QEMU answers without, unless it is still writing device state. */
  if (!nc_json_bool_or(record, "postcopy", false))
    nc_keeper_drain(keeper);
  g_hash_table_insert(ms->keepers, g_strdup(id), keeper);
}

void
nc_migrations_unblock(NcMigrations *ms)
{
  nc_autojson json_t *unfinished = nc_journal_list_migrations(ms->deps.journal, true, 0, NULL);
  size_t i;
  json_t *record;
  json_array_foreach(unfinished, i, record) nc_migrations_unblock_one(ms, record);
}

static void
nc_migrations_recover_one(NcMigrations *ms, json_t *record)
{
  const char *id = nc_json_string_or(record, "id", "");
  const char *vm = nc_json_string_or(record, "vm", "");
  bool is_source = g_str_equal(nc_json_string_or(record, "role", ""), "source");
  const char *peer = nc_json_string_or(record, is_source ? "destination" : "source", "");
  g_autoptr(GError) error = NULL;
  NcRight right;

  if (!nc_journal_get_right(ms->deps.journal, vm, &right, &error)) {
    nc_log(NC_LOG_ERR, "agent", "migration %s can't be recovered: %s", id, error->message);
    return;
  }
  nc_log(NC_LOG_NOTICE, "agent", "migration %s of %s was unfinished; the run right here is %s(%" G_GUINT64_FORMAT ")", id, vm,
         nc_right_name(right.state), right.epoch);
  NcMigration *m = nc_migration_new(&ms->deps, is_source, id, vm, peer, (uint64_t)nc_json_int_or(record, "epoch", 0),
                                    json_deep_copy(record));
  g_hash_table_steal_extended(ms->keepers, id, NULL, (gpointer *)&m->keeper);
  if (is_source)
    nc_source_migration_recover(m, &right);
  else
    nc_destination_migration_recover(m, &right);
  g_mutex_lock(&ms->lock);
  g_ptr_array_add(ms->live, m);
  g_mutex_unlock(&ms->lock);
}

void
nc_migrations_recover(NcMigrations *ms)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *unfinished = nc_journal_list_migrations(ms->deps.journal, true, 0, &error);
  if (!unfinished) {
    nc_log(NC_LOG_ERR, "agent", "unfinished migrations can't be read: %s", error->message);
    return;
  }
  size_t i;
  json_t *record;
  json_array_foreach(unfinished, i, record) nc_migrations_recover_one(ms, record);
}
