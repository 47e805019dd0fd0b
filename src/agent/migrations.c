/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/migrations.h"
#include "agent/algorithm.h"
#include "agent/disk_chain.h"
#include "agent/destination.h"
#include "agent/plan.h"
#include "agent/preflight.h"
#include "base/ident.h"
#include "base/log.h"
#include "base/tcp.h"
#include "mover/preface.h"
#include "qemu/process.h"
#include "wire/batch.h"

#include <unistd.h>

#define NC_PREDECESSOR_US 15000000 /* for an abandoned migration to end: killing its QEMU takes a tenth of a second, or many on a host without time */

struct NcMigrations {
  NcMigrationsDeps deps;
  GMutex lock;     /* protects live, quitting */
  GHashTable *keepers; /* id -> NcKeeper*, between unblock and recover; of the starting thread */
  GPtrArray *live; /* NcMigration*; finished ones are swept by the next caller */
  bool quitting;
};

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

/* Frees what has finished. */
static void
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

/* At a destination each attempt has one of its own: the present one, if there is one. */
static NcMigration *
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

static unsigned
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

typedef struct {
  const char *vm, *to, *compression, *paths;
  NcAlgorithm algorithm;
  NcDiskChain disk_chain;
  NcQos qos;
  int64_t max_downtime_ms, bandwidth_limit_bps, streams, max_cpu, max_throttle, convergence_timeout_ms, retry_attempts;
  bool checkpoint; /* before it */
  int64_t checkpoint_keep_s;
} NcMigrationRequest;

static bool
nc_optional_int(json_t *args, const char *key, int64_t fallback, int64_t minimum, int64_t maximum, int64_t *ret, GError **error)
{
  json_t *value = json_object_get(args, key);
  int64_t n = value && !json_is_null(value) ? json_integer_value(value) : fallback;
  if ((value && !json_is_null(value) && !json_is_integer(value)) || n < minimum || n > maximum)
    return nc_fail(error, NC_ERROR_INVALID, "%s must be a whole number from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT, key,
                   minimum, maximum);
  *ret = n;
  return true;
}

/* args.qos; left out, ${fallback}. */
static bool
nc_optional_qos(json_t *args, NcQos fallback, NcQos *ret, GError **error)
{
  json_t *value = json_object_get(args, "qos");
  *ret = fallback;
  return !value || json_is_null(value) || nc_qos_from_name(json_string_value(value), ret) ||
         nc_fail(error, NC_ERROR_INVALID, "\"qos\" must be " NC_QOS_NAMES);
}

/* args.algorithm; left out, ${fallback}. */
static bool
nc_optional_algorithm(json_t *args, NcAlgorithm fallback, NcAlgorithm *ret, GError **error)
{
  json_t *value = json_object_get(args, "algorithm");
  *ret = fallback;
  return !value || json_is_null(value) || nc_algorithm_from_name(json_string_value(value), ret) ||
         nc_fail(error, NC_ERROR_INVALID, "\"algorithm\" must be " NC_ALGORITHM_NAMES);
}

/* args.checkpoint and args.checkpoint_keep_s; left out, the node's. */
static bool
nc_optional_checkpoint(const NcConfig *config, json_t *args, NcMigrationRequest *ret, GError **error)
{
  json_t *value = json_object_get(args, "checkpoint");

  ret->checkpoint = value && !json_is_null(value) ? json_is_true(value) : config->migration_checkpoint != 0;
  if (value && !json_is_null(value) && !json_is_boolean(value))
    return nc_fail(error, NC_ERROR_INVALID, "\"checkpoint\" must be true or false");
  return nc_optional_int(args, "checkpoint_keep_s", config->migration_checkpoint_keep_s, 0, 366 * 86400, &ret->checkpoint_keep_s, error);
}

static bool
nc_optional_disk_chain(json_t *args, NcDiskChain fallback, NcDiskChain *ret, GError **error)
{
  json_t *value = json_object_get(args, "disk_chain");
  *ret = fallback;
  return !value || json_is_null(value) || nc_disk_chain_from_name(json_string_value(value), ret) ||
         nc_fail(error, NC_ERROR_INVALID, "\"disk_chain\" must be " NC_DISK_CHAIN_NAMES);
}

static bool
nc_optional_limit(json_t *args, int64_t fallback, int64_t *ret, GError **error)
{
  return nc_optional_int(args, "bandwidth_limit_bps", fallback, 0, INT64_C(1) << 40, ret, error);
}

static bool
nc_migration_request_parse(NcMigrations *ms, json_t *args, NcMigrationRequest *ret, GError **error)
{
  const NcConfig *config = ms->deps.config;
  NcBatchPolicy policy;

  ret->vm = nc_json_string_or(args, "vm", NULL);
  ret->to = nc_json_string_or(args, "to", NULL);
  if (!nc_name_is_valid(ret->vm) || !nc_name_is_valid(ret->to))
    return nc_fail(error, NC_ERROR_INVALID, "\"vm\" and \"to\" must be names: " NC_NAME_RULE);
  ret->compression = nc_json_string_or(args, "compression", config->compression);
  if (!nc_compression_parse(ret->compression, &policy, error))
    return false;
  ret->paths = nc_json_string_or(args, "paths", "");
  g_auto(GStrv) paths = nc_tcp_paths_parse(ret->paths);
  if (!paths)
    return nc_fail(error, NC_ERROR_INVALID, "\"paths\" must be %d at most of the form [LOCAL>]HOST:PORT, with commas between them",
                   NC_TCP_PATHS_MAX);
  return nc_optional_algorithm(args, (NcAlgorithm)config->algorithm, &ret->algorithm, error) &&
         nc_optional_disk_chain(args, (NcDiskChain)config->disk_chain, &ret->disk_chain, error) &&
         nc_optional_int(args, "max_downtime_ms", config->max_downtime_ms, 1, 2000000, &ret->max_downtime_ms, error) &&
         nc_optional_limit(args, 0, &ret->bandwidth_limit_bps, error) && nc_optional_checkpoint(config, args, ret, error) &&
         nc_optional_qos(args, NC_QOS_NORMAL, &ret->qos, error) &&
         nc_optional_int(args, "streams", config->streams, 0, NC_MIG_MAX_STREAMS, &ret->streams, error) &&
         nc_optional_int(args, "max_cpu", config->max_cpu, 1, 100, &ret->max_cpu, error) &&
         nc_optional_int(args, "max_throttle", config->max_throttle, 0, 99, &ret->max_throttle, error) &&
         nc_optional_int(args, "retry_attempts", config->retry_attempts, 0, 100, &ret->retry_attempts, error) &&
         nc_optional_int(args, "convergence_timeout_ms", config->convergence_timeout_ms, 0, 86400000, &ret->convergence_timeout_ms,
                         error);
}

static json_t *
nc_migrations_new_record(NcMigrations *ms, const char *id, const NcMigrationRequest *r, uint64_t held_epoch)
{
  g_autofree char *now = nc_time_format(nc_wall_us());
  json_t *record = json_pack(
      "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:n, s:i, s:s, s:s, s:n}", "id", id, "vm", r->vm, "source", nc_nodes_self(ms->deps.nodes),
      "destination", r->to, "role", "source", "state", "preparing", "phase", "prepare", "outcome", "progress", 0, "created", now,
      "started", now, "finished");
  nc_autojson json_t *more = json_pack(
      "{s:I, s:I, s:I, s:s, s:I, s:n, s:n, s:n, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:n, s:n, s:n, s:n, s:n}", "held_epoch",
      (json_int_t)held_epoch, "max_downtime_ms", (json_int_t)r->max_downtime_ms, "bandwidth_limit_bps",
      (json_int_t)r->bandwidth_limit_bps, "compression", r->compression, "streams", (json_int_t)r->streams, "total_ms",
      "pause_ms", "qemu_downtime_ms", "ram_bytes", (json_int_t)0, "ram_total_bytes", (json_int_t)0, "ram_remaining_bytes",
      (json_int_t)0, "wire_bytes", (json_int_t)0, "rate_bps", (json_int_t)0, "rounds", (json_int_t)0, "dirty_rate_bps",
      (json_int_t)0, "ratio", "eta_ms", "sha256", "attention", "error");
  json_object_update(record, more);
  json_object_set_new(record, "qos", json_string(nc_qos_name(r->qos)));
  json_object_set_new(record, "rate_limit_bps", json_integer(0));
  json_object_set_new(record, "path", json_null());
  json_object_set_new(record, "paths", json_string(r->paths));
  json_object_set_new(record, "reconnects", json_integer(0));
  json_object_set_new(record, "resent_bytes", json_integer(0));
  json_object_set_new(record, "max_cpu", json_integer((json_int_t)r->max_cpu));
  json_object_set_new(record, "max_throttle", json_integer((json_int_t)r->max_throttle));
  json_object_set_new(record, "convergence_timeout_ms", json_integer((json_int_t)r->convergence_timeout_ms));
  json_object_set_new(record, "algorithm", json_string(nc_algorithm_name(r->algorithm)));
  json_object_set_new(record, "disk_chain", json_string(nc_disk_chain_name(r->disk_chain)));
  json_object_set_new(record, "postcopy", json_false());
  json_object_set_new(record, "free_page_hints", json_null());
  json_object_set_new(record, "kept_shadow", json_null());
  json_object_set_new(record, "retry_attempts", json_integer((json_int_t)r->retry_attempts));
  json_object_set_new(record, "checkpoint", json_null());
  json_object_set_new(record, "checkpoint_wanted", json_boolean(r->checkpoint));
  json_object_set_new(record, "checkpoint_keep_s", json_integer((json_int_t)r->checkpoint_keep_s));
  json_object_set_new(record, "attempt", json_integer(1));
  json_object_set_new(record, "attempts", json_array());
  json_object_set_new(record, "forecasts", json_array());
  return record;
}

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
      nc_migration_new(&ms->deps, true, id, r->vm, r->to, 0, nc_migrations_new_record(ms, id, r, right.epoch));
  m->lease = lease;
  m->is_attempt = is_attempt;
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
  if (!nc_migration_request_parse(ms, args, &request, error) || !nc_migrations_check_destination(ms, &request, error))
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
  if (!nc_migration_request_parse(ms, args, &request, error) || !nc_migrations_check_destination(ms, &request, error))
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

/* What is left out stays as it is. */
static bool
nc_migrations_do_limit(NcMigration *m, json_t *args, GError **error)
{
  NcQos qos;
  int64_t limit_bps;

  if (!m->is_source)
    return nc_fail(error, NC_ERROR_CONFLICT, "migration %s arrives here: its limits are set on %s", m->id, m->peer);
  if (!nc_optional_limit(args, nc_migration_int(m, "bandwidth_limit_bps"), &limit_bps, error) ||
      !nc_optional_qos(args, nc_migration_qos(m), &qos, error))
    return false;
  nc_migration_limit(m, qos, (uint64_t)limit_bps);
  nc_migration_note(m, "limits", "%s, bandwidth limit %" G_GINT64_FORMAT " bytes/s", nc_qos_name(qos), limit_bps);
  return true;
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

/* --- the network's side --- */

bool
nc_migrations_accept_conn(NcMigrations *ms, const char *migration_id, unsigned index, int fd, GError **error)
{
  nc_autofd int owned = fd;

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);
  NcMigration *m = nc_migrations_find_locked(ms, migration_id);
  if (!m || m->is_source || nc_migration_is_finished(m))
    return nc_fail(error, NC_ERROR_NOT_FOUND, "a mover's connection names migration %s, which does not arrive here", migration_id);
  /* The byte first: once the mover has the descriptor, TLS starts on it. */
  return nc_preface_accept(owned, error) && nc_destination_migration_conn(m, index, owned, error);
}

/* Whoever was given the machine may ask because it wants to start it anew (start_check.h). */
static bool
nc_migrations_permit_start(NcMigrations *ms, const char *peer, const char *vm, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);

  for (guint i = 0; i < ms->live->len; i++) {
    NcMigration *m = ms->live->pdata[i];
    if (m->is_source && !nc_migration_is_finished(m) && g_str_equal(m->vm, vm) && g_strcmp0(m->peer, peer) == 0 &&
        !nc_migration_permit_start(m, nc_mono_us()))
      return nc_fail(error, NC_ERROR_CONFLICT, "an operator has said that it is to run on node %s again (migration %s)",
                     nc_nodes_self(ms->deps.nodes), m->id);
  }
  return true;
}

static void
nc_migrations_answer_probe(NcMigrations *ms, NcPeer *peer, json_t *message)
{
  const char *vm = nc_json_string_or(message, "vm", "");
  g_autoptr(GError) error = NULL;
  NcRight right;
  nc_autojson json_t *answer = NULL;

  if (!nc_name_is_valid(vm))
    nc_fail(&error, NC_ERROR_INVALID, "\"vm\" must be a machine's name: " NC_NAME_RULE);
  /* The right after that: one that is taken back in between is seen. */
  if (!error && nc_migrations_permit_start(ms, nc_peer_node(peer), vm, &error) && nc_journal_get_right(ms->deps.journal, vm, &right, &error))
    answer = json_pack("{s:s, s:I, s:s, s:s, s:b}", "type", "mig_probed", "epoch", (json_int_t)right.epoch, "right",
                       nc_right_name(right.state), "paths", ms->deps.config->paths, "postcopy", nc_postcopy_is_possible(NULL));
  else
    answer = json_pack("{s:s, s:o}", "type", "refused", "error", nc_error_to_json(error));
  nc_peer_send(peer, answer, NULL);
}

/* True while an older migration of the same machine from the same node is live here; it is told to end when ${tell} is set. */
static bool
nc_migrations_has_predecessor(NcMigrations *ms, const char *peer, const char *vm, uint64_t epoch, bool tell)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);

  for (guint i = 0; i < ms->live->len; i++) {
    NcMigration *m = ms->live->pdata[i];
    if (m->is_source || nc_migration_is_finished(m) || !g_str_equal(m->vm, vm) || !g_str_equal(m->peer, peer) || m->epoch >= epoch)
      continue;
    if (tell)
      nc_inbox_push(m->inbox, NC_FROM_PEER,
                    json_pack("{s:s, s:{s:s, s:s}}", "type", "mig_abort", "error", "code", "cancelled", "message",
                              "it was restarted and begins anew"));
    return true;
  }
  return false;
}

/*
 * A source that crashed may be back before we have noticed. That it offers a newer
 * epoch says that it has given the older one up; refusing that is always safe
 * (docs/decisions/006), and if it was taken already, the new offer fails by the run right.
 */
static void
nc_migrations_end_predecessor(NcMigrations *ms, const char *peer, json_t *message)
{
  const char *vm = nc_json_string_or(message, "vm", "");
  int64_t epoch = nc_json_int_or(message, "epoch", 0);
  int64_t deadline = nc_mono_us() + NC_PREDECESSOR_US;

  bool found = nc_migrations_has_predecessor(ms, peer, vm, (uint64_t)MAX(epoch, 0), true);
  while (found && nc_mono_us() < deadline) {
    g_usleep(20000);
    found = nc_migrations_has_predecessor(ms, peer, vm, (uint64_t)MAX(epoch, 0), false);
  }
}

/* What is refused at once. */
static bool
nc_migrations_may_arrive_locked(NcMigrations *ms, const char *id, GError **error)
{
  const NcConfig *config = ms->deps.config;
  NcMigration *present = nc_migrations_find_locked(ms, id);

  if (ms->quitting || (present && !nc_migration_is_finished(present)))
    return nc_fail(error, NC_ERROR_CONFLICT, "%s",
                   ms->quitting ? "the destination's novacrond is stopping" : "this migration is under way already");
  if (nc_migrations_count_locked(ms, false) >= (unsigned)config->max_migrations_in)
    return nc_fail(error, NC_ERROR_RESOURCE, "%d migrations arrive at the destination (%s) already (max_migrations_in): try again later",
                   config->max_migrations_in, nc_nodes_self(ms->deps.nodes));
  return true;
}

static NcMigration *
nc_migrations_admit_incoming(NcMigrations *ms, NcPeer *peer, json_t *message, GError **error)
{
  const char *id = nc_json_string_or(message, "migration", "");

  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);
    nc_migrations_sweep_locked(ms);
    if (!nc_migrations_may_arrive_locked(ms, id, error))
      return NULL;
  }
  /* Reads backing files, perhaps for minutes: nobody else waits for that. */
  if (!nc_destination_judge(&ms->deps, message, error))
    return NULL;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);
  if (!nc_migrations_may_arrive_locked(ms, id, error))
    return NULL;
  NcMigration *m = nc_destination_migration_start(&ms->deps, nc_peer_node(peer), message, peer, error);
  if (m)
    g_ptr_array_add(ms->live, m);
  return m;
}

static void
nc_migrations_refuse(NcPeer *peer, json_t *message, const GError *error)
{
  nc_log(NC_LOG_WARNING, "agent", "migration %s from %s is refused: %s", nc_json_string_or(message, "migration", "?"),
         nc_peer_node(peer), error->message);
  nc_autojson json_t *answer = json_pack("{s:s, s:s, s:o}", "type", "mig_refused", "migration",
                                         nc_json_string_or(message, "migration", ""), "error", nc_error_to_json(error));
  nc_peer_send(peer, answer, NULL);
}

/*
 * The session's messages go to the migration's inbox until the connection ends: NULL. Or until it has ended itself, and something comes
 * that its thread can't hear any more: that, a new reference.
 */
static json_t *
nc_migrations_pump(NcMigration *m, NcPeer *peer)
{
  json_t *message;

  while ((message = nc_peer_recv(peer, -1, NULL))) {
    if (nc_migration_hear_head(m, message))
      json_decref(message);
    else if (nc_migration_is_finished(m))
      break;
    else
      nc_inbox_push(m->inbox, NC_FROM_PEER, message);
  }
  nc_migration_reclaim_link(m, peer);
  nc_inbox_push(m->inbox, NC_FROM_PEER, NULL);
  nc_migration_return(m);
  return message;
}

/*
 * A source that comes back, or wants the machine back, asks the living thread, or the journal. The session's next message (new reference),
 * if it has been read already.
 */
static json_t *
nc_migrations_serve_query(NcMigrations *ms, NcPeer *peer, json_t *message)
{
  const char *id = nc_json_string_or(message, "migration", "");
  g_mutex_lock(&ms->lock);
  NcMigration *m = nc_migrations_find_locked(ms, id);
  bool living = m && !m->is_source && !nc_migration_is_finished(m) && g_strcmp0(m->peer, nc_peer_node(peer)) == 0;
  if (living) {
    nc_migration_borrow(m);
  }
  g_mutex_unlock(&ms->lock);
  if (living) {
    nc_migration_lend_link(m, peer); /* which may wait for a peer that does not read: not under everybody's lock */
    nc_inbox_push(m->inbox, NC_FROM_PEER, json_incref(message));
    return nc_migrations_pump(m, peer);
  }
  bool let_go = g_str_equal(nc_json_string_or(message, "type", ""), "mig_let_go");
  nc_autojson json_t *answer = let_go ? nc_destination_let_go(&ms->deps, nc_peer_node(peer), message)
                                      : nc_destination_answer_query(&ms->deps, nc_peer_node(peer), message);
  bool started = g_str_equal(nc_json_string_or(answer, "type", ""), "mig_started");
  if (nc_peer_send(peer, answer, NULL) && started) {
    nc_autojson json_t *alive = json_pack("{s:s, s:s, s:b, s:s}", "type", "mig_alive", "migration", id, "alive", 1, "detail",
                                          "running, as its node's record says");
    nc_peer_send(peer, alive, NULL);
  }
  return NULL;
}

/* The source has let go of what arrived here when nobody was there to hear it. */
static void
nc_migrations_hear_finished(NcMigrations *ms, NcPeer *peer, json_t *message)
{
  const char *id = nc_json_string_or(message, "migration", "");
  g_autoptr(GError) error = NULL;

  if (!nc_name_is_valid(id) || !nc_destination_confirm(&ms->deps, nc_peer_node(peer), id, &error)) {
    if (error)
      nc_log(NC_LOG_WARNING, "agent", "migration %s: that %s has let go of it can't be recorded: %s", id, nc_peer_node(peer), error->message);
    return;
  }
  nc_autojson json_t *done = json_pack("{s:s, s:s}", "type", "mig_done", "migration", id);
  nc_peer_send(peer, done, NULL);
}

void
nc_migrations_serve_peer(NcMigrations *ms, NcPeer *peer, json_t *first_message)
{
  json_t *message = json_incref(first_message);
  NcPreflightSession session = { 0 };

  while (message) {
    const char *type = nc_json_string_or(message, "type", "");
    json_t *next = NULL;
    if (g_str_equal(type, "mig_probe")) {
      nc_migrations_answer_probe(ms, peer, message);
    } else if (nc_preflight_serve(&ms->deps, &session, peer, message)) {
      /* answered */
    } else if (g_str_equal(type, "mig_query") || g_str_equal(type, "mig_let_go")) {
      next = nc_migrations_serve_query(ms, peer, message);
    } else if (g_str_equal(type, "mig_finished")) {
      nc_migrations_hear_finished(ms, peer, message);
    } else if (g_str_equal(type, "mig_prepare")) {
      g_autoptr(GError) error = NULL;
      nc_migrations_end_predecessor(ms, nc_peer_node(peer), message);
      NcMigration *m = nc_migrations_admit_incoming(ms, peer, message, &error);
      if (m)
        next = nc_migrations_pump(m, peer);
      else
        nc_migrations_refuse(peer, message, error);
    }
    json_decref(message);
    message = next ? next : nc_peer_recv(peer, -1, NULL);
  }
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
