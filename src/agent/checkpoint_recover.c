/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What checkpoints and restores have under way, as the journal knows it; and the way back from what they left half done, in a QEMU or
 * on disk.
 */
#include "agent/checkpoint.h"
#include "base/ident.h"
#include "base/log.h"
#include "qemu/migration_qmp.h"

#define NC_WORK_SETTING "checkpoint.work"
#define NC_CANCEL_MS 20000
/* To read all of a guest's memory and throw it away: a gigabyte per second. */
#define NC_DRAIN_MS 600000
#define NC_CANCEL_POLL_US 10000
#define NC_CONT_MS 10000
#define NC_LEFT_FIRST_S 5 /* a guest may be standing still */
#define NC_LEFT_RETRY_S 60

/* --- in the journal --- */

bool
nc_checkpoints_set_work(NcCheckpoints *c, const char *id, json_t *work, GError **error)
{
  g_autoptr(GMutexLocker) writing = g_mutex_locker_new(&c->work_lock);
  nc_autojson json_t *all = json_copy(c->work); /* changed with work_lock held only */
  g_autofree char *text = NULL;

  if (work)
    json_object_set_new(all, id, work);
  else
    json_object_del(all, id);
  text = json_dumps(all, JSON_COMPACT);
  bool written = nc_journal_put_value(c->deps.journal, NC_WORK_SETTING, text, error);
  /* The next write, of another checkpoint, must not bring what could not be written; that it is over, it may. */
  if (!written && work)
    return false;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  json_decref(c->work);
  c->work = g_steal_pointer(&all);
  return written;
}

static void
nc_checkpoints_load_work(NcCheckpoints *c)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *text = nc_journal_get_value(c->deps.journal, NC_WORK_SETTING, &error);
  json_t *work = text ? json_loads(text, 0, NULL) : NULL;

  if (error || (text && !json_is_object(work)))
    nc_log(NC_LOG_ERR, "agent", "what checkpoints have left half done is not known: %s", error ? error->message : "malformed");
  if (json_is_object(work)) {
    json_decref(c->work);
    c->work = json_incref(work);
    json_decref(c->left);
    c->left = json_deep_copy(work);
  }
  json_decref(work);
}

void
nc_checkpoints_unblock(NcCheckpoints *c)
{
  const char *id;
  json_t *work;

  nc_checkpoints_load_work(c);
  json_object_foreach(c->work, id, work)
  {
    int64_t pid = nc_json_int_or(work, "pid", 0), inode = nc_json_int_or(work, "inode", 0);
    NcKeeper *keeper = pid > 0 && pid <= G_MAXINT && inode > 0 ? nc_keeper_take((pid_t)pid, (uint64_t)inode, NULL) : NULL;
    if (!keeper)
      continue; /* that QEMU is gone, or has not begun */
    nc_keeper_drain(keeper);
    g_hash_table_replace(c->keepers, g_strdup(id), keeper);
  }
}

/* --- undone --- */

/* ${ret}: room for NC_CHECKPOINT_DISKS_MAX. The strings are ${work}'s. */
static size_t
nc_work_disks(json_t *work, NcFreezable *ret)
{
  size_t i, n = 0;
  json_t *disk;

  json_array_foreach(json_object_get(work, "disks"), i, disk)
  {
    const char *device = nc_json_string_or(disk, "device", NULL), *node = nc_json_string_or(disk, "node", NULL);
    if (device && node && n < NC_CHECKPOINT_DISKS_MAX)
      ret[n++] = (NcFreezable){ .device = device, .node = node };
  }
  return n;
}

/*
 * A background snapshot is waited for, not cancelled: QEMU 7.2 goes to such an end under its big lock, and its main loop may hold
 * that and wait for a page that is still protected (decision 041).
 */
static bool
nc_checkpoint_end_migration(NcQmp *qmp, bool background, const gint *quitting, GError **error)
{
  int64_t deadline = nc_mono_us() + (background ? NC_DRAIN_MS : NC_CANCEL_MS) * INT64_C(1000);

  if (!nc_qemu_migration_is_under_way(qmp))
    return true;
  if (!background)
    nc_qemu_migrate_cancel(qmp, NULL);
  while (nc_qemu_migration_is_under_way(qmp)) {
    if (!nc_qmp_is_alive(qmp) || nc_mono_us() > deadline || (quitting && g_atomic_int_get(quitting)))
      return nc_fail(error, NC_ERROR_TIMEOUT, "QEMU is still writing its image");
    g_usleep(NC_CANCEL_POLL_US);
  }
  return true;
}

/* The first of several problems is the one that is told. */
static void
nc_keep_first(GError **first, GError *problem)
{
  if (problem && first && !*first)
    *first = problem;
  else
    g_clear_error(&problem);
}

bool
nc_checkpoint_leave_qemu(NcQmp *qmp, json_t *work, const gint *quitting, GError **error)
{
  NcFreezable disks[NC_CHECKPOINT_DISKS_MAX];
  size_t count = nc_work_disks(work, disks);
  GError *first = NULL;
  GError *problem = NULL;

  if (!nc_checkpoint_end_migration(qmp, nc_json_bool_or(work, "background", true), quitting, error))
    return false; /* it keeps its reader's end, and everything else */
  nc_qemu_closefd(qmp, NC_CHECKPOINT_KEEPER, NULL);
  nc_qemu_closefd(qmp, NC_CHECKPOINT_STREAM, NULL); /* only there if it was not used */
  /* The guest first: it may be standing still. */
  if (nc_json_bool_or(work, "was_running", false) && !nc_qemu_cont_after_migration(qmp, NC_CONT_MS, &problem))
    nc_keep_first(&first, g_steal_pointer(&problem));
  if (!nc_qemu_thaw(qmp, disks, count, &problem))
    nc_keep_first(&first, g_steal_pointer(&problem));
  json_t *before = json_object_get(work, "before");
  if (before && !nc_qemu_image_teardown(qmp, before, &problem))
    nc_keep_first(&first, g_steal_pointer(&problem));
  if (!first)
    return true;
  g_propagate_error(error, first);
  return false;
}

/* Only in the QEMU that it was begun in: a later one is not ours to resume. */
static bool
nc_checkpoint_undo_create(NcCheckpoints *c, json_t *work, NcMachineHold *hold, GError **error)
{
  int64_t pid = nc_json_int_or(work, "pid", 0);

  if (!hold || !nc_machine_hold_lives(hold) || (pid > 0 && pid != nc_machine_hold_pid(hold)))
    return true; /* nothing of it can be left */
  NcQmp *qmp = nc_machine_hold_qmp(hold);
  if (!qmp)
    return nc_fail(error, NC_ERROR_QEMU, "its QEMU does not answer");
  return nc_checkpoint_leave_qemu(qmp, work, &c->closing, error);
}

/* --- what is left --- */

static bool
nc_work_is_restore(json_t *work)
{
  return g_str_equal(nc_json_string_or(work, "kind", ""), "restore");
}

void
nc_checkpoints_claim(NcCheckpoints *c)
{
  const char *id;
  json_t *work;

  json_object_foreach(c->left, id, work)
  {
    const char *vm = nc_json_string_or(work, "machine", "");
    if (g_hash_table_contains(c->holds, vm))
      continue;
    NcMachineHold *hold =
        nc_machines_hold_any(c->deps.machines, vm, nc_work_is_restore(work) ? "restore" : "checkpoint", NULL); /* else later */
    if (hold)
      g_hash_table_replace(c->holds, g_strdup(vm), hold);
  }
}

/* The machine of ${work}; NULL with *ret_gone: it is not even in the list. */
static NcMachineHold *
nc_left_take_hold(NcCheckpoints *c, json_t *work, bool *ret_gone, GError **error)
{
  const char *vm = nc_json_string_or(work, "machine", "");
  gpointer key = NULL, hold = NULL;
  g_autoptr(GError) problem = NULL;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    g_hash_table_steal_extended(c->holds, vm, &key, &hold);
  }
  g_free(key);
  *ret_gone = false;
  if (!hold)
    hold = nc_machines_hold_any(c->deps.machines, vm, nc_work_is_restore(work) ? "restore" : "checkpoint", &problem);
  if (!hold && problem->code == NC_ERROR_NOT_FOUND)
    *ret_gone = true;
  else if (!hold)
    g_propagate_error(error, g_steal_pointer(&problem));
  return hold;
}

static bool
nc_restore_is_undecided(json_t *work)
{
  return nc_work_is_restore(work) && !g_str_equal(nc_json_string_or(work, "phase", ""), "done");
}

/* Is another restore than ${id} to be undone in ${vm}? */
static bool
nc_left_is_waited_for(NcCheckpoints *c, const char *id, const char *vm)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  const char *other;
  json_t *work;

  json_object_foreach(c->left, other, work)
    if (!g_str_equal(other, id) && nc_restore_is_undecided(work) && g_str_equal(nc_json_string_or(work, "machine", ""), vm))
      return true;
  return false;
}

/* While a restore is to be undone nobody starts its machine: the undoing would end it. */
static void
nc_left_end_hold(NcCheckpoints *c, const char *id, json_t *work, NcMachineHold *hold, bool undone)
{
  if (hold && ((nc_restore_is_undecided(work) && !undone) || nc_left_is_waited_for(c, id, nc_machine_hold_name(hold)))) {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    g_hash_table_replace(c->holds, g_strdup(nc_machine_hold_name(hold)), hold);
  } else {
    nc_machine_hold_end(hold);
  }
}

static bool
nc_left_undo(NcCheckpoints *c, const char *id, json_t *work, GError **error)
{
  bool gone, restore = nc_work_is_restore(work);
  NcMachineHold *hold = nc_left_take_hold(c, work, &gone, error);

  if (!hold && !gone)
    return false;
  bool ok = nc_json_bool_or(work, "undone", false) || (restore ? nc_checkpoint_undo_restore(c, work, hold, error)
                                                               : nc_checkpoint_undo_create(c, work, hold, error));
  if (ok)
    json_object_set_new(work, "undone", json_true()); /* here only: what can't be recorded now is not done again for that */
  if (ok && hold && restore && !nc_restore_is_undecided(work) && nc_machine_hold_made_by(hold, nc_json_string_or(work, "maker", NULL)))
    nc_machine_hold_keep(hold);
  ok = ok && (!nc_restore_is_undecided(work) || nc_checkpoint_take_back_machine(c, id, work, &hold, error)) &&
       nc_checkpoints_set_work(c, id, NULL, error);
  nc_left_end_hold(c, id, work, hold, ok);
  return ok;
}

/* What became of ${id}; the same ${problem} is told once. */
static void
nc_left_settle(NcCheckpoints *c, const char *id, json_t *work, const GError *problem)
{
  if (problem && g_strcmp0(problem->message, nc_json_string_or(work, "problem", NULL)) != 0) {
    nc_log(NC_LOG_ERR, "agent", "machine %s: what checkpoint %s has left half done is not undone yet: %s; tried again after %d s, then every %d s",
           nc_json_string_or(work, "machine", "?"), id, problem->message, NC_LEFT_FIRST_S, NC_LEFT_RETRY_S);
    json_object_set_new(work, "problem", json_string(problem->message));
  }
  gpointer key = NULL, keeper = NULL;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    if (problem) {
      json_object_set(c->left, id, work);
      return;
    }
    json_object_del(c->left, id);
    g_hash_table_steal_extended(c->keepers, id, &key, &keeper); /* until then QEMU's image is read on */
  }
  nc_keeper_free(keeper);
  g_free(key);
}

void
nc_checkpoints_undo_left(NcCheckpoints *c)
{
  nc_autojson json_t *all = NULL;
  const char *id;
  json_t *work;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    all = json_deep_copy(c->left);
  }
  json_object_foreach(all, id, work)
  {
    g_autoptr(GError) error = NULL;
    bool restore = nc_work_is_restore(work);
    if (!nc_json_string_or(work, "problem", NULL))
      nc_log(NC_LOG_NOTICE, "agent", "machine %s: %s %s was cut short: it is undone", nc_json_string_or(work, "machine", "?"),
             restore ? "a restore of checkpoint" : "checkpoint", id);
    bool ok = nc_left_undo(c, id, work, &error);
    nc_left_settle(c, id, work, error);
    if (ok && !restore && c->deps.store)
      nc_checkpoints_collect(c); /* what it has put */
  }
}

bool
nc_checkpoints_have_let_go(NcCheckpoints *c, const char *vm, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  const char *id;
  json_t *work;

  json_object_foreach(c->left, id, work)
    if (!nc_work_is_restore(work) && g_str_equal(nc_json_string_or(work, "machine", ""), vm))
      return nc_fail(error, NC_ERROR_RESOURCE, /* it passes */
                     "the QEMU of %s on node %s has not let go of checkpoint %s (%s): it is asked again by itself, every %d s at the latest; stop "
                     "the machine (`novacron vm stop %s`) if it never does",
                     vm, c->deps.config->node, id, nc_json_string_or(work, "problem", "it is being asked"), NC_LEFT_RETRY_S, vm);
  return true;
}

/* False: there is nothing more to do, or novacrond ends. */
static bool
nc_left_wait(NcCheckpoints *c, int seconds)
{
  gint64 until = g_get_monotonic_time() + seconds * G_TIME_SPAN_SECOND;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);

  c->retrying = json_object_size(c->left) > 0;
  while (c->retrying && !g_atomic_int_get(&c->closing))
    if (!g_cond_wait_until(&c->tick, &c->lock, until))
      return true;
  return false;
}

static gpointer
nc_left_thread(gpointer data)
{
  NcCheckpoints *c = data;

  for (int seconds = NC_LEFT_FIRST_S; nc_left_wait(c, seconds); seconds = NC_LEFT_RETRY_S)
    nc_checkpoints_undo_left(c);
  nc_checkpoints_thread_ends(c);
  return NULL;
}

void
nc_checkpoints_watch_left(NcCheckpoints *c)
{
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    if (c->retrying || !json_object_size(c->left) || g_atomic_int_get(&c->closing))
      return;
    c->retrying = true;
  }
  nc_checkpoints_spawn(c, "checkpoint-left", nc_left_thread, c);
}

void
nc_checkpoints_leave(NcCheckpoints *c, const char *id, json_t *work, NcMachineHold *hold, const GError *problem)
{
  nc_left_end_hold(c, id, work, hold, false);
  nc_left_settle(c, id, work, problem);
  nc_checkpoints_watch_left(c);
}
