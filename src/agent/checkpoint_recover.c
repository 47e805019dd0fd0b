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
nc_checkpoint_end_migration(NcQmp *qmp, bool background, GError **error)
{
  int64_t deadline = nc_mono_us() + (background ? NC_DRAIN_MS : NC_CANCEL_MS) * INT64_C(1000);

  if (!nc_qemu_migration_is_under_way(qmp))
    return true;
  if (!background)
    nc_qemu_migrate_cancel(qmp, NULL);
  while (nc_qemu_migration_is_under_way(qmp)) {
    if (!nc_qmp_is_alive(qmp) || nc_mono_us() > deadline)
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
nc_checkpoint_leave_qemu(NcQmp *qmp, json_t *work, GError **error)
{
  NcFreezable disks[NC_CHECKPOINT_DISKS_MAX];
  size_t count = nc_work_disks(work, disks);
  GError *first = NULL;
  GError *problem = NULL;

  if (!nc_checkpoint_end_migration(qmp, nc_json_bool_or(work, "background", true), error))
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

static bool
nc_checkpoints_undo_create(NcCheckpoints *c, json_t *work, GError **error)
{
  const char *vm = nc_json_string_or(work, "machine", "");
  g_autoptr(GError) gone = NULL;
  g_autoptr(NcMachineHold) hold = nc_machines_hold_any(c->deps.machines, vm, "checkpoint", &gone);

  if (!hold || !nc_machine_hold_lives(hold))
    return true; /* nothing of it can be left */
  NcQmp *qmp = nc_machine_hold_qmp(hold);
  if (!qmp)
    return nc_fail(error, NC_ERROR_QEMU, "its QEMU does not answer");
  return nc_checkpoint_leave_qemu(qmp, work, error);
}

void
nc_checkpoints_undo_work(NcCheckpoints *c)
{
  nc_autojson json_t *all = json_deep_copy(c->work);
  const char *id;
  json_t *work;

  json_object_foreach(all, id, work)
  {
    g_autoptr(GError) error = NULL;
    const char *vm = nc_json_string_or(work, "machine", "?");
    bool restore = g_str_equal(nc_json_string_or(work, "kind", ""), "restore");
    nc_log(NC_LOG_NOTICE, "agent", "machine %s: %s %s was cut short: it is undone", vm,
           restore ? "a restore of checkpoint" : "checkpoint", id);
    bool ok = restore ? nc_checkpoint_undo_restore(c, work, &error) : nc_checkpoints_undo_create(c, work, &error);
    if (!ok)
      nc_log(NC_LOG_ERR, "agent", "machine %s: %s; restart novacrond to try again", vm, error->message);
    else if (!nc_checkpoints_set_work(c, id, NULL, &error))
      nc_log(NC_LOG_ERR, "agent", "machine %s: %s", vm, error->message);
    if (ok && !restore && c->deps.store)
      nc_checkpoints_collect(c); /* what it has put */
  }
}
