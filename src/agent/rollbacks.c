/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rollbacks.h"
#include "agent/rollback_ways.h"
#include "base/ident.h"
#include "base/log.h"

struct NcRollbacks {
  const NcMigrationsDeps *deps;
  NcMigrations *migrations;
  const NcRollbackSteps *checkpoints;
  GMutex lock;     /* protects jobs */
  GPtrArray *jobs; /* NcRollbackJob*; ended ones are swept by the next caller */
  gint quitting;   /* atomic */
};

/* One rollback of a completed migration, and its thread. */
typedef struct {
  NcRollbacks *owner;
  NcRollback *r; /* the thread's */
  char *vm;
  GThread *thread;
  gint ended; /* atomic */
} NcRollbackJob;

NcRollbacks *
nc_rollbacks_new(const NcMigrationsDeps *deps, NcMigrations *migrations, const NcRollbackSteps *checkpoints)
{
  NcRollbacks *rollbacks = g_new0(NcRollbacks, 1);
  rollbacks->deps = deps;
  rollbacks->migrations = migrations;
  rollbacks->checkpoints = checkpoints;
  g_mutex_init(&rollbacks->lock);
  rollbacks->jobs = g_ptr_array_new();
  return rollbacks;
}

static void
nc_rollback_job_free(NcRollbackJob *job)
{
  g_thread_join(job->thread);
  nc_rollback_free(job->r);
  g_free(job->vm);
  g_free(job);
}

void
nc_rollbacks_stop_waiting(NcRollbacks *rollbacks)
{
  g_atomic_int_set(&rollbacks->quitting, 1);
}

void
nc_rollbacks_free(NcRollbacks *rollbacks)
{
  if (!rollbacks)
    return;
  nc_rollbacks_stop_waiting(rollbacks);
  for (guint i = 0; i < rollbacks->jobs->len; i++)
    nc_rollback_job_free(rollbacks->jobs->pdata[i]);
  g_ptr_array_unref(rollbacks->jobs);
  g_mutex_clear(&rollbacks->lock);
  g_free(rollbacks);
}

static void
nc_rollbacks_sweep_locked(NcRollbacks *rollbacks)
{
  for (guint i = 0; i < rollbacks->jobs->len;) {
    NcRollbackJob *job = rollbacks->jobs->pdata[i];
    if (g_atomic_int_get(&job->ended)) {
      g_ptr_array_remove_index_fast(rollbacks->jobs, i);
      nc_rollback_job_free(job);
    } else {
      i++;
    }
  }
}

/* --- a rollback of a completed migration --- */

#define NC_GIVE_UP_MOST_S 60
#define NC_GIVE_UP_TICK_US 100000

/* Else the next start would go on with it, however late that is: until it can be written, after 1, 2, 4, ... seconds. */
static void
nc_rollback_job_give_up(NcRollbackJob *job, const GError *error, const char *choice)
{
  gint *quitting = &job->owner->quitting;

  for (int64_t pause_s = 1; !nc_rollback_give_up(job->r, error, choice); pause_s = MIN(pause_s * 2, NC_GIVE_UP_MOST_S)) {
    int64_t until_us = nc_mono_us() + pause_s * G_USEC_PER_SEC;
    while (nc_mono_us() < until_us && !g_atomic_int_get(quitting))
      g_usleep(NC_GIVE_UP_TICK_US);
    if (g_atomic_int_get(quitting))
      return;
  }
}

static gpointer
nc_rollback_job_thread(gpointer data)
{
  NcRollbackJob *job = data;
  NcRollbacks *owner = job->owner;
  const NcRollbackWay way = { .deps = owner->deps,
                              .migrations = owner->migrations,
                              .checkpoints = owner->checkpoints,
                              .r = job->r,
                              .quitting = &owner->quitting };
  bool back = nc_rollback_mode_from_name(nc_rollback_string(job->r, "mode", "")) == NC_RB_TO_BACK;
  g_autofree char *choice = NULL;
  g_autoptr(GError) error = NULL;

  if (back ? nc_rollback_move_back(&way, &choice, &error) : nc_rollback_to_checkpoint(&way, &choice, &error))
    nc_rollback_complete(job->r);
  else if (!g_atomic_int_get(&owner->quitting))
    nc_rollback_job_give_up(job, error, choice);
  g_atomic_int_set(&job->ended, 1);
  return NULL;
}

/* ${r} is taken. */
static void
nc_rollbacks_run_locked(NcRollbacks *rollbacks, NcRollback *r)
{
  NcRollbackJob *job = g_new0(NcRollbackJob, 1);
  job->owner = rollbacks;
  job->r = r;
  job->vm = g_strdup(nc_rollback_string(r, "vm", "?"));
  g_ptr_array_add(rollbacks->jobs, job);
  job->thread = g_thread_new("rollback", nc_rollback_job_thread, job);
}

static bool
nc_rollbacks_check_free_locked(NcRollbacks *rollbacks, const char *vm, GError **error)
{
  nc_rollbacks_sweep_locked(rollbacks);
  for (guint i = 0; i < rollbacks->jobs->len; i++)
    if (g_str_equal(((NcRollbackJob *)rollbacks->jobs->pdata[i])->vm, vm))
      return nc_fail(error, NC_ERROR_CONFLICT, "%s is being rolled back already", vm);
  return true;
}

/* --- what can be undone, and how --- */

/* The machine is here, as that migration left it. */
static bool
nc_rollbacks_check_place(NcRollbacks *rollbacks, json_t *record, GError **error)
{
  const char *id = nc_json_string_or(record, "id", "?"), *vm = nc_json_string_or(record, "vm", "?");
  const char *destination = nc_json_string_or(record, "destination", "?");
  NcRight right;

  if (!nc_journal_get_right(rollbacks->deps->journal, vm, &right, error))
    return false;
  if (g_strcmp0(right.migration, id) != 0)
    return nc_fail(error, NC_ERROR_CONFLICT,
                   "migration %s can't be undone any more: %s has been moved since (the right to run it is %s here, by %s)", id, vm,
                   nc_right_name(right.state), right.migration[0] ? right.migration : "an operator");
  if (right.state != NC_RIGHT_HELD)
    return nc_fail(error, NC_ERROR_CONFLICT,
                   "migration %s is completed: %s runs on %s, and is rolled back there: novacron rollback %s --back (or, to the "
                   "checkpoint taken before it, also from here if this is its source: --to-checkpoint)", id, vm,
                   destination, id);
  return true;
}

static bool
nc_rollbacks_check_completed(json_t *record, GError **error)
{
  const char *id = nc_json_string_or(record, "id", "?"), *outcome = nc_json_string_or(record, "outcome", "?");
  json_t *list = json_object_get(record, "rollbacks");
  json_t *last = json_array_get(list, json_array_size(list) - 1);
  const char *attention = nc_json_string_or(last, "attention", NULL);

  if (g_str_equal(outcome, "completed"))
    return true;
  return nc_fail(error, attention ? NC_ERROR_ATTENTION : NC_ERROR_CONFLICT,
                 "migration %s has ended (%s) and was rolled back by itself: %s", id, outcome,
                 attention ? attention : "the machine is where it was, there is nothing to undo");
}

/* It is there and whole, or (${fetch}) is to be fetched. */
static bool
nc_rollbacks_check_checkpoint(NcRollbacks *rollbacks, json_t *record, const char *checkpoint, bool *ret_fetch, GError **error)
{
  const char *id = nc_json_string_or(record, "id", "?"), *vm = nc_json_string_or(record, "vm", "?");
  const NcRollbackSteps *steps = rollbacks->checkpoints;
  g_autofree char *detail = NULL;
  g_autoptr(GError) problem = NULL;

  *ret_fetch = false;
  if (!steps)
    return nc_fail(error, NC_ERROR_NOT_FOUND,
                   "migration %s has no checkpoint on %s: none was taken before it. The machine can move back as it is: novacron "
                   "rollback %s --back",
                   id, nc_nodes_self(rollbacks->deps->nodes), id);
  /* Before anything is touched; step 3 reads it again, for the record. */
  if (steps->check(steps->data, checkpoint, vm, &problem))
    return steps->verify(steps->data, checkpoint, &rollbacks->quitting, &detail, error);
  *ret_fetch = problem->code != NC_ERROR_RESOURCE && g_strcmp0(checkpoint, nc_json_string_or(record, "checkpoint", NULL)) == 0 &&
               !g_str_equal(nc_json_string_or(record, "source", ""), nc_nodes_self(rollbacks->deps->nodes));
  if (*ret_fetch)
    return true;
  g_propagate_error(error, g_steal_pointer(&problem));
  return false;
}

static NcRollback *
nc_rollbacks_order_back(NcRollbacks *rollbacks, json_t *record, GError **error)
{
  const char *there = nc_json_string_or(record, "source", "?");
  g_autofree char *address = nc_nodes_address(rollbacks->deps->nodes, there, error);
  const NcRollbackOrder order = { .mode = NC_RB_TO_BACK,
                                  .migration = nc_json_string_or(record, "id", "?"),
                                  .vm = nc_json_string_or(record, "vm", "?"),
                                  .node_key = "to",
                                  .node = there };

  return address ? nc_rollback_new(rollbacks->deps->journal, &order, true, error) : NULL;
}

/* ${call}: the machine is at the migration's destination, and has to come back first; ${fetch}: the checkpoint is at its source. */
static NcRollback *
nc_rollbacks_order_checkpoint(NcRollbacks *rollbacks, json_t *record, const char *checkpoint, bool call, bool fetch, GError **error)
{
  const NcRollbackOrder order = { .mode = NC_RB_TO_CHECKPOINT,
                                  .migration = nc_json_string_or(record, "id", "?"),
                                  .vm = nc_json_string_or(record, "vm", "?"),
                                  .checkpoint = checkpoint,
                                  .node_key = fetch ? "fetch_from" : call ? "call_from" : NULL,
                                  .node = nc_json_string_or(record, fetch ? "source" : "destination", "?") };
  return nc_rollback_new(rollbacks->deps->journal, &order, true, error);
}

/* The source of it, which has given the right away with it: the machine can be called back. */
static bool
nc_rollbacks_may_call(NcRollbacks *rollbacks, json_t *record)
{
  NcRight right;
  return g_str_equal(nc_json_string_or(record, "source", ""), nc_nodes_self(rollbacks->deps->nodes)) &&
         nc_journal_get_right(rollbacks->deps->journal, nc_json_string_or(record, "vm", "?"), &right, NULL) &&
         right.state == NC_RIGHT_RELEASED && g_strcmp0(right.migration, nc_json_string_or(record, "id", "?")) == 0;
}

/* It can be begun as things are now. *ret_call: see nc_rollbacks_order_checkpoint(). */
static bool
nc_rollbacks_check_locked(NcRollbacks *rollbacks, json_t *record, bool may_call, bool *ret_call, GError **error)
{
  if (g_atomic_int_get(&rollbacks->quitting))
    return nc_fail(error, NC_ERROR_CANCELLED, "novacrond stops");
  if (!nc_rollbacks_check_free_locked(rollbacks, nc_json_string_or(record, "vm", "?"), error))
    return false;
  *ret_call = may_call && nc_rollbacks_may_call(rollbacks, record);
  return *ret_call || nc_rollbacks_check_place(rollbacks, record, error);
}

/* Reading all of a checkpoint takes long: other rollbacks do not wait for it, and then everything is looked at once more. */
static bool
nc_rollbacks_check(NcRollbacks *rollbacks, json_t *record, const char *checkpoint, bool may_call, bool *ret_fetch, GError **error)
{
  bool call;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&rollbacks->lock);
    if (!nc_rollbacks_check_locked(rollbacks, record, may_call, &call, error))
      return false;
  }
  return !checkpoint || nc_rollbacks_check_checkpoint(rollbacks, record, checkpoint, ret_fetch, error);
}

static bool
nc_rollbacks_begin(NcRollbacks *rollbacks, json_t *record, bool back, const char *checkpoint, bool may_call, GError **error)
{
  const char *id = nc_json_string_or(record, "id", "?");
  bool call = false, fetch = false;

  if (!nc_rollbacks_check_completed(record, error))
    return false;
  if (back == (checkpoint != NULL))
    return nc_fail(error, NC_ERROR_INVALID,
                   "migration %s is completed: say how to undo it: novacron rollback %s --back (the machine moves back as it is "
                   "now), or --to-checkpoint (the one taken before it) or --checkpoint ID (what it did since is lost)",
                   id, id);
  if (!nc_rollbacks_check(rollbacks, record, checkpoint, may_call, &fetch, error))
    return false;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&rollbacks->lock);
  if (!nc_rollbacks_check_locked(rollbacks, record, may_call, &call, error))
    return false;
  NcRollback *r = back ? nc_rollbacks_order_back(rollbacks, record, error)
                       : nc_rollbacks_order_checkpoint(rollbacks, record, checkpoint, call, fetch, error);
  if (r)
    nc_rollbacks_run_locked(rollbacks, r);
  return r != NULL;
}

json_t *
nc_rollbacks_start(NcRollbacks *rollbacks, json_t *args, GError **error)
{
  const char *id = nc_json_string(args, "id", error);
  bool back = nc_json_bool_or(args, "back", false);
  const char *checkpoint = nc_json_string_or(args, "checkpoint", NULL);
  nc_autojson json_t *record = id ? nc_migrations_get(rollbacks->migrations, args, error) : NULL;

  bool before = nc_json_bool_or(args, "to_checkpoint", false);

  if (!record)
    return NULL;
  if (before && checkpoint) {
    nc_fail(error, NC_ERROR_INVALID, "\"to_checkpoint\" and \"checkpoint\" exclude each other");
    return NULL;
  }
  if (before && !(checkpoint = nc_json_string_or(record, "checkpoint", NULL))) {
    nc_fail(error, NC_ERROR_CONFLICT,
            "no checkpoint was taken before migration %s (novacron migrate --checkpoint). The machine can move back as it is: novacron "
            "rollback %s --back",
            id, id);
    return NULL;
  }
  if (!nc_json_string_or(record, "outcome", NULL)) {
    if (!back && !checkpoint)
      return nc_migrations_roll_back(rollbacks->migrations, args, error);
    nc_fail(error, NC_ERROR_CONFLICT, "migration %s is under way: novacron rollback %s, without more, lets the machine run on where it is", id, id);
    return NULL;
  }
  return nc_rollbacks_begin(rollbacks, record, back, checkpoint, before, error) ? nc_migrations_get(rollbacks->migrations, args, error) : NULL;
}

/* --- after a restart --- */

/* Its migration's thread walks these; if that has ended, only the record was left open. */
static void
nc_rollbacks_close_leftover(NcRollbacks *rollbacks, NcRollback *r)
{
  nc_autojson json_t *migration = nc_journal_get_migration(rollbacks->deps->journal, nc_rollback_string(r, "migration", ""), NULL);

  if (migration && !nc_json_string_or(migration, "outcome", NULL))
    return;
  if (nc_rollback_is_done(r, NC_RB_RESUME))
    nc_rollback_complete(r);
  else
    nc_rollback_withdraw(r, "its migration ended otherwise");
}

void
nc_rollbacks_recover(NcRollbacks *rollbacks)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *list = nc_journal_list_rollbacks(rollbacks->deps->journal, NULL, true, &error);
  json_t *record;
  size_t i;

  if (!list)
    nc_log(NC_LOG_ERR, "agent", "unfinished rollbacks can't be read: %s", error->message);
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&rollbacks->lock);
  json_array_foreach(list, i, record)
  {
    NcRollbackMode mode = nc_rollback_mode_from_name(nc_json_string_or(record, "mode", NULL));
    g_autoptr(NcRollback) r = nc_rollback_resume(rollbacks->deps->journal, record, mode != NC_RB_TO_SOURCE);
    nc_log(NC_LOG_NOTICE, "agent", "rollback %s was unfinished", nc_rollback_id(r));
    if (mode == NC_RB_TO_SOURCE)
      nc_rollbacks_close_leftover(rollbacks, r);
    else if (mode == NC_RB_MODE_COUNT)
      nc_rollback_withdraw(r, "this NovaCron does not know what it was to do");
    else
      nc_rollbacks_run_locked(rollbacks, g_steal_pointer(&r));
  }
}

/* --- asked by other nodes --- */

/* How far the last rollback of ${record} is that moves its machine back; "none" if there is none. */
static json_t *
nc_rollbacks_state(json_t *record)
{
  json_t *list = json_object_get(record, "rollbacks"), *item, *last = NULL;
  size_t i;

  json_array_foreach(list, i, item)
    if (g_str_equal(nc_json_string_or(item, "mode", ""), "back"))
      last = item;
  return json_pack("{s:s, s:s, s:s?, s:O?}", "type", "rb_state", "state", nc_json_string_or(last, "state", "none"), "attention",
                   nc_json_string_or(last, "attention", NULL), "error", json_object_get(last, "error"));
}

json_t *
nc_rollbacks_answer(NcRollbacks *rollbacks, NcPeer *peer, json_t *message, GError **error)
{
  const char *type = nc_json_string_or(message, "type", ""), *id = nc_json_string(message, "migration", error);
  nc_autojson json_t *args = id ? json_pack("{s:s, s:b}", "id", id, "back", 1) : NULL;
  nc_autojson json_t *record = args ? nc_migrations_get(rollbacks->migrations, args, error) : NULL;

  if (!record)
    return NULL;
  if (!g_str_equal(nc_json_string_or(record, "source", ""), nc_peer_node(peer))) {
    nc_fail(error, NC_ERROR_FORBIDDEN, "migration %s did not come from node %s", id, nc_peer_node(peer));
    return NULL;
  }
  if (g_str_equal(type, "rb_look"))
    return nc_rollbacks_state(record);
  if (!g_str_equal(type, "rb_back")) {
    nc_fail(error, NC_ERROR_PROTOCOL, "\"%.32s\" is not asked of a node about a rollback", type);
    return NULL;
  }
  g_autofree char *actor = g_strdup_printf("node:%s", nc_peer_node(peer));
  nc_autojson json_t *detail = json_pack("{s:s, s:s, s:O}", "op", "migration.rollback", "from", nc_peer_address(peer), "args", args);
  const NcAuditEntry entry = { .kind = "request", .subject = id, .actor = actor, .detail = detail };
  if (!nc_journal_audit(rollbacks->deps->journal, &entry, false, NULL, error))
    return NULL;
  nc_autojson json_t *begun = nc_rollbacks_start(rollbacks, args, error);
  return begun ? nc_rollbacks_state(begun) : NULL;
}
