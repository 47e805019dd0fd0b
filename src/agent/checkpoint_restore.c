/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restoring a checkpoint.
 *
 * First everything is read and checked: of a damaged checkpoint nothing is restored. Then its disks are written to new files
 * beside those they are to replace; these are exchanged by renaming, the old ones kept; QEMU is started on them, waiting (-S),
 * and loads the image. Only then is it decided, in the journal: before that, whatever happens, the machine gets its old disks
 * back (a new machine vanishes); after it, the guest runs, and the old disks go.
 *
 * The right to run is not touched: a machine that is restored here must be this node's to run, or be known nowhere. Of a checkpoint
 * that came from another node that can't be known here: there an operator says so (`take`), or the machine gets another name.
 */
#include "agent/checkpoint_restore.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"
#include "qemu/migration_qmp.h"

#include <unistd.h>

#define NC_LOAD_MS 60000
#define NC_LOAD_POLL_US 10000
#define NC_ANNOUNCE_MS 5000

/* --- the machine to be --- */

/* A new machine has a name, a UUID, addresses, taps and disks of its own. */
static json_t *
nc_restore_spec_as(NcRestore *re)
{
  json_t *spec = json_deep_copy(json_object_get(nc_image_meta(re->image), "spec"));
  size_t i;
  json_t *item;

  json_object_set_new(spec, "name", json_string(re->as));
  json_object_del(spec, "uuid");
  json_object_del(spec, "checkpoint_every_s"); /* the original's habit */
  json_array_foreach(json_object_get(spec, "nics"), i, item)
  {
    json_object_del(item, "mac");
    json_object_del(item, "tap");
  }
  json_array_foreach(json_object_get(spec, "disks"), i, item)
  {
    if (nc_json_bool_or(item, "readonly", false))
      continue; /* shared with the original, as it can't change */
    g_autofree char *directory = re->disk_dir ? g_strdup(re->disk_dir) : g_path_get_dirname(nc_json_string_or(item, "path", "/"));
    g_autofree char *file =
        g_strdup_printf("%s-%s.%s", re->as, nc_json_string_or(item, "name", "disk"), nc_json_string_or(item, "format", "raw"));
    g_autofree char *path = g_build_filename(directory, file, NULL);
    json_object_set_new(item, "path", json_string(path));
    json_object_set_new(item, "shared", json_false());
  }
  if (json_array_size(json_object_get(spec, "nics")))
    json_array_append_new(re->warnings,
                          json_string("the guest's memory holds the original's addresses (MAC, IP, host name) until it is "
                                      "restarted: keep the two on different networks, or give it others inside"));
  return spec;
}

/* The checkpoint's devices; its disks where the machine has them now, should they have been moved since. */
static json_t *
nc_restore_spec_in_place(NcRestore *re, json_t *present)
{
  json_t *spec = json_deep_copy(json_object_get(nc_image_meta(re->image), "spec"));
  static const char *const habits[] = { "checkpoint_every_s", "checkpoint_keep" };
  size_t i;
  json_t *disk;

  for (i = 0; i < G_N_ELEMENTS(habits); i++)
    if (json_object_get(present, habits[i]))
      json_object_set(spec, habits[i], json_object_get(present, habits[i]));
  json_array_foreach(json_object_get(spec, "disks"), i, disk)
  {
    json_t *now = nc_spec_disk(present, nc_json_string_or(disk, "name", ""));
    if (now && g_str_equal(nc_json_string_or(now, "format", ""), nc_json_string_or(disk, "format", "")))
      json_object_set(disk, "path", json_object_get(now, "path"));
  }
  json_array_foreach(json_object_get(present, "disks"), i, disk)
  {
    const char *name = nc_json_string_or(disk, "name", "?");
    if (!nc_spec_disk(spec, name))
      json_array_append_new(re->warnings, json_sprintf("disk %s (%s) came after the checkpoint: its file stays, and the machine has it no longer", name,
                                                       nc_json_string_or(disk, "path", "?")));
  }
  return spec;
}

/* --- on record --- */

/* The name of the machine to be. Borrowed. */
static const char *
nc_restore_target(const NcRestore *re)
{
  return re->as ? re->as : re->cp->vm;
}

/*
 * As it is on record, and as nc_checkpoint_undo_restore() reads it. New reference. ${phase}: "claim" (it is being put into the list
 * if it is not there, and the right to run it taken), "files" (new disks are written), "exchange" (they may be in their places),
 * "done".
 */
static json_t *
nc_restore_work(NcRestore *re, const char *phase)
{
  return json_pack("{s:s, s:s, s:s, s:b, s:I, s:s, s:O, s:O?}", "kind", "restore", "machine", nc_restore_target(re), "maker", re->maker,
                   "took", re->took, "epoch", (json_int_t)re->epoch, "phase", phase, "disks", re->disks, "spec_before", re->before);
}

static bool
nc_restore_record(NcRestore *re, const char *phase, GError **error)
{
  g_autofree char *point = g_strdup_printf("restore-record-%s", phase);

  re->recorded = true;
  if (nc_fault_asks(point, "refuse"))
    nc_journal_refuse_next(re->cp->owner->deps.journal);
  return nc_checkpoints_set_work(re->cp->owner, re->cp->id, nc_restore_work(re, phase), error);
}

/* --- the machine, and the right to run it --- */

/* In place, where this node never had the machine. */
static bool
nc_restore_check_right(NcRestore *re, const NcRight *right, GError **error)
{
  json_t *copied = json_object_get(nc_image_meta(re->image), "copied");

  return re->as || re->take || !json_is_object(copied) || right->state != NC_RIGHT_NONE ||
         nc_fail(error, NC_ERROR_CONFLICT,
                 "%s was never node %s's to run, and checkpoint %s came from node %s, where it may run: restore it under another name (--as "
                 "NAME); or, only if it is certain that it runs nowhere and will not be started elsewhere, with --take",
                 re->cp->vm, re->cp->owner->deps.config->node, re->cp->id, nc_json_string_or(copied, "from", "?"));
}

static bool
nc_restore_take_machine(NcRestore *re, GError **error)
{
  NcMachines *machines = re->cp->owner->deps.machines;
  json_t *meta = nc_image_meta(re->image);

  if (!g_str_equal(nc_json_string_or(json_object_get(meta, "spec"), "name", ""), re->cp->vm))
    return nc_fail(error, NC_ERROR_CORRUPT, "the checkpoint does not say what machine it is of");
  if (re->as && json_is_array(json_object_get(json_object_get(meta, "spec"), "adopted_argv")))
    return nc_fail(error, NC_ERROR_UNSUITABLE, "%s was adopted: its command line is its own, so it can be restored in place only",
                   re->cp->vm);
  if (re->as)
    re->spec = nc_restore_spec_as(re);
  NcRight right;
  if (!nc_journal_get_right(re->cp->owner->deps.journal, re->cp->vm, &right, error) || !nc_restore_check_right(re, &right, error))
    return false;
  re->took = re->take && !re->as && right.state != NC_RIGHT_HELD;
  re->epoch = right.epoch + 1;
  if (!nc_restore_record(re, "claim", error)) /* or a crash would leave it taken, or listed without disks, by nobody who knows of it */
    return false;
  nc_fault_point("restore-claiming");
  re->hold = nc_machines_hold_for_restore(machines, re->as ? re->spec : json_object_get(meta, "spec"), re->as != NULL, re->take, re->maker,
                                          error);
  re->took = re->took && re->hold && nc_machine_hold_is_new(re->hold); /* else somebody was faster, and it is theirs */
  if (!re->hold)
    return false;
  nc_fault_point("restore-claimed");
  if (re->as)
    return true;
  re->before = nc_machine_hold_spec(re->hold);
  re->spec = nc_restore_spec_in_place(re, re->before);
  return re->force || !nc_machine_hold_lives(re->hold) ||
         nc_fail(error, NC_ERROR_CONFLICT,
                 "%s is running: stop it first, or restore with --force: what it has done since is lost then", re->cp->vm);
}

/* --- its memory --- */

static bool
nc_restore_await_loaded(NcRestore *re, NcQmp *qmp, GError **error)
{
  int64_t deadline = nc_mono_us() + NC_LOAD_MS * INT64_C(1000);

  while (nc_machine_hold_lives(re->hold) && nc_mono_us() < deadline) {
    NcQemuMigrationStatus status = nc_qemu_migration_status(qmp);
    if (status == NC_QEMU_MIGRATION_COMPLETED && nc_qemu_is_loaded(qmp))
      return true;
    if (status == NC_QEMU_MIGRATION_FAILED)
      break;
    g_usleep(NC_LOAD_POLL_US);
  }
  g_autofree char *tail = nc_machine_hold_log_tail(re->hold);
  return nc_fail(error, NC_ERROR_QEMU, "QEMU does not load the checkpoint: %s", tail);
}

static bool
nc_restore_load(NcRestore *re, GError **error)
{
  const NcReplay replay = { .image = re->image, .cancelled = &re->cp->cancelled, .progress = &re->cp->progress };
  g_autofree char *path = g_build_filename(nc_machine_hold_run_dir(re->hold), "restore.sock", NULL);
  g_autoptr(GError) problem = NULL;

  if (!nc_machine_hold_launch_incoming(re->hold, error))
    return false;
  NcQmp *qmp = nc_machine_hold_qmp(re->hold);
  if (!qmp)
    return nc_fail(error, NC_ERROR_QEMU, "its QEMU ended at its start");
  if (!nc_qemu_migration_setup_destination(qmp, false, false, error) || !nc_qemu_migrate_incoming(qmp, path, error))
    return false;
  int fd = nc_unix_connect(path, error);
  if (fd < 0)
    return false;
  bool sent = nc_replay_stream(&replay, fd, &problem);
  close(fd);
  if (!sent && problem->code != NC_ERROR_IO) { /* else QEMU has closed, and says why in its log */
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
  }
  return nc_restore_await_loaded(re, qmp, error);
}

static void
nc_restore_let_run(NcRestore *re)
{
  NcQmp *qmp = nc_machine_hold_qmp(re->hold);
  g_autoptr(GError) error = NULL;

  if (re->paused)
    return;
  if (!qmp || !nc_qemu_cont(qmp, &error)) {
    g_autofree char *text =
        g_strdup_printf("it is restored, and paused, since QEMU does not let it run: %s (`novacron vm start %s`)",
                        error ? error->message : "QEMU is gone", nc_machine_hold_name(re->hold));
    json_array_append_new(re->warnings, json_string(text));
    return;
  }
  nc_qemu_announce_self(qmp, NC_ANNOUNCE_MS, NULL);
}

/* --- all of it --- */

static bool
nc_restore_check(NcRestore *re, GError **error)
{
  NcPageStore *store = re->cp->owner->deps.store;
  nc_autojson json_t *lost = NULL;
  uint64_t bytes;

  if (!nc_image_verify(store, re->cp->id, &re->cp->cancelled, &lost, &bytes, error))
    return false;
  if (json_array_size(lost)) {
    g_autofree char *text = nc_image_lost_text(lost);
    return nc_fail(error, NC_ERROR_CORRUPT, "checkpoint %s is damaged, and nothing was restored; lost: %s", re->cp->id, text);
  }
  if (!(re->image = nc_image_open(store, re->cp->id, error)))
    return false;
  re->paused |= !nc_json_bool_or(nc_image_meta(re->image), "was_running", true);
  return true;
}

static bool
nc_restore_run(NcRestore *re, GError **error)
{
  if (!nc_restore_check(re, error) || !nc_restore_take_machine(re, error) || !nc_restored_disks_plan(re, error) ||
      !nc_restored_disks_check_space(re, error) || !nc_restore_record(re, "files", error) || !nc_restored_disks_write(re, error))
    return false;
  nc_fault_point("restore-written");
  if (!nc_machine_hold_kill_qemu(re->hold, error) || !nc_restore_record(re, "exchange", error))
    return false;
  re->exchanging = true;
  if (!nc_restored_disks_exchange(re, error))
    return false;
  if (!nc_machine_hold_set_spec(re->hold, re->spec, error) || !nc_restore_load(re, error))
    return false;
  nc_fault_point("restore-loaded");
  if (!nc_restore_record(re, "done", error)) {
    g_prefix_error(error,
                   "checkpoint %s was not restored: %s had loaded it, and node %s could not record that, so its disks are put back; when "
                   "the journal can be written (is its disk full, or read-only?), restore it once more: ",
                   re->cp->id, nc_machine_hold_name(re->hold), re->cp->owner->deps.config->node);
    return false;
  }
  re->decided = true;
  nc_machine_hold_keep(re->hold);
  nc_fault_point("restore-decided");
  nc_restore_let_run(re);
  return true;
}

/* --- and back --- */

bool
nc_checkpoint_undo_restore(NcCheckpoints *c, json_t *work, NcMachineHold *hold, GError **error)
{
  const char *phase = nc_json_string_or(work, "phase", "files");
  bool done = g_str_equal(phase, "done"), exchanged = g_str_equal(phase, "exchange");
  json_t *before = json_object_get(work, "spec_before");
  /* A machine that is neither ours nor the one that had moved away was claimed by somebody else before us. */
  bool theirs = hold && !nc_machine_hold_made_by(hold, nc_json_string_or(work, "maker", NULL)) && !nc_machine_hold_has_moved(hold);
  bool refuse = !done && !theirs && nc_json_bool_or(work, "took", false);

  /* Its QEMU, if there is one, has never run the guest (phase "exchange"), or is the guest as it was (phase "files"). */
  return (!exchanged || !hold || nc_machine_hold_kill_qemu(hold, error)) &&
         nc_restored_disks_settle(json_object_get(work, "disks"), done, exchanged, error) &&
         (!exchanged || !hold || !json_is_object(before) || nc_machine_hold_set_spec(hold, before, error)) &&
         (!refuse || nc_machines_refuse_right(c->deps.machines, nc_json_string_or(work, "machine", ""),
                                              (uint64_t)nc_json_int_or(work, "epoch", 0), error));
}

bool
nc_checkpoint_take_back_machine(NcCheckpoints *c, const char *id, json_t *work, NcMachineHold **hold, GError **error)
{
  if (!*hold || !nc_machine_hold_made_by(*hold, nc_json_string_or(work, "maker", NULL)))
    return true;
  /* Then its name is free: whoever comes next must not lose QEMU and disks to what is still on record. */
  json_object_set_new(work, "phase", json_string("claim"));
  json_object_set_new(work, "disks", json_array());
  if (!nc_checkpoints_set_work(c, id, json_deep_copy(work), error) || !nc_machine_hold_discard(*hold, error))
    return false;
  *hold = NULL;
  return true;
}

/* What can't be undone is added to *${error}, why it was to be. */
static void
nc_restore_undo(NcRestore *re, GError **error)
{
  NcCheckpoints *c = re->cp->owner;
  /* What was to be recorded last need not have been. */
  nc_autojson json_t *work = nc_restore_work(re, re->exchanging ? "exchange" : re->hold ? "files" : "claim");
  g_autoptr(GError) problem = NULL;

  if (!re->hold) /* it may be in the list all the same: what could not be recorded could not be taken back, either */
    re->hold = nc_machines_hold_made_by(c->deps.machines, nc_restore_target(re), re->maker);
  /* A write that failed may have come to the disk: a crash in the middle of what follows must not find "done". */
  if (re->exchanging && !nc_restore_record(re, "exchange", &problem)) {
    nc_log(NC_LOG_ERR, "agent", "machine %s: %s", nc_restore_target(re), problem->message);
    g_clear_error(&problem);
  }
  bool undone =
      nc_checkpoint_undo_restore(c, work, re->hold, &problem) && nc_checkpoint_take_back_machine(c, re->cp->id, work, &re->hold, &problem);
  if (undone && nc_fault_asks("restore-undone", "refuse"))
    nc_journal_refuse_next(c->deps.journal);
  if (undone && nc_checkpoints_set_work(c, re->cp->id, NULL, &problem))
    return;
  g_prefix_error(error, "machine %s on node %s is not what it was before (%s): novacrond there tries again every minute to put its disks back, and "
                 "lets nobody have the machine until then; ",
                 nc_restore_target(re), c->deps.config->node, problem->message);
  nc_checkpoints_leave(c, re->cp->id, work, g_steal_pointer(&re->hold), problem);
}

static void
nc_restore_finish(NcRestore *re)
{
  NcCheckpoints *c = re->cp->owner;
  nc_autojson json_t *work = nc_restore_work(re, "done");
  g_autoptr(GError) error = NULL;

  if (nc_restored_disks_settle(re->disks, true, false, &error) && nc_checkpoints_set_work(c, re->cp->id, NULL, &error))
    return;
  json_array_append_new(re->warnings, json_string(error->message));
  nc_checkpoints_leave(c, re->cp->id, work, NULL, error);
}

static void
nc_restore_free(NcRestore *re)
{
  nc_machine_hold_end(re->hold); /* one that it has made and not decided was taken back before */
  nc_image_free(re->image);
  json_decref(re->spec);
  json_decref(re->before);
  json_decref(re->disks);
  json_decref(re->warnings);
  nc_checkpoint_unref(re->cp);
  g_free(re->maker);
  g_free(re->as);
  g_free(re->disk_dir);
  g_free(re);
}

static gpointer
nc_restore_thread(gpointer data)
{
  NcRestore *re = data;
  NcCheckpoints *c = re->cp->owner;
  g_autoptr(NcCheckpoint) cp = nc_checkpoint_ref(re->cp);
  g_autofree char *target = g_strdup(re->as ? re->as : re->cp->vm);
  g_autoptr(GError) error = NULL;

  bool ok = nc_restore_run(re, &error);
  if (ok)
    nc_restore_finish(re);
  else if (re->recorded && !re->decided)
    nc_restore_undo(re, &error);
  nc_log(ok ? NC_LOG_NOTICE : NC_LOG_ERR, "agent", "machine %s: restore of checkpoint %s: %s", target, cp->id,
         ok ? "done" : error->message);
  nc_checkpoint_audit(c, "checkpoint.restored", cp->id, target, c->deps.config->node,
                      json_pack("{s:b, s:b, s:o*}", "ok", ok, "new", re->as != NULL, "error", ok ? NULL : nc_error_to_json(error)));
  json_t *result = json_pack("{s:s, s:O}", "machine", target, "warnings", re->warnings);
  nc_restore_free(re); /* the machine is free when they hear of the end */
  nc_checkpoint_activity_ends(cp, result, error);
  nc_checkpoints_thread_ends(c);
  return NULL;
}

static bool
nc_restore_check_args(json_t *args, GError **error)
{
  const char *as = nc_json_string_or(args, "as", NULL), *disk_dir = nc_json_string_or(args, "disk_dir", NULL);

  if (as && !nc_name_is_valid(as))
    return nc_fail(error, NC_ERROR_INVALID, "\"%.64s\" can't name a machine: " NC_NAME_RULE, as);
  if (disk_dir && (!as || disk_dir[0] != '/'))
    return nc_fail(error, NC_ERROR_INVALID,
                   "\"disk_dir\" is an absolute directory, and goes with \"as\": in place, disks stay where they are");
  return true;
}

json_t *
nc_checkpoints_restore(NcCheckpoints *c, json_t *args, GError **error)
{
  const char *as = nc_json_string_or(args, "as", NULL), *on = nc_json_string_or(args, "on", NULL);

  if (!nc_restore_check_args(args, error))
    return NULL;
  if (on && !g_str_equal(on, c->deps.config->node))
    return nc_checkpoints_restore_on(c, on, args, error);
  NcCheckpoint *cp = nc_checkpoints_begin_activity(c, args, "restore", error);
  if (!cp)
    return NULL;
  NcRestore *re = g_new0(NcRestore, 1);
  re->cp = cp;
  re->maker = nc_id_new("restore");
  re->as = as && !g_str_equal(as, cp->vm) ? g_strdup(as) : NULL;
  re->disk_dir = g_strdup(nc_json_string_or(args, "disk_dir", NULL));
  re->force = nc_json_bool_or(args, "force", false);
  re->paused = nc_json_bool_or(args, "paused", false);
  re->take = nc_json_bool_or(args, "take", false);
  re->disks = json_array();
  re->warnings = json_array();
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    json_object_set_new(cp->last_activity, "machine", json_string(as ? as : cp->vm));
    __atomic_store_n(&cp->progress_total, (uint64_t)MAX(nc_json_int_or(json_object_get(cp->meta, "memory"), "bytes", 0), 0),
                     __ATOMIC_RELAXED);
  }
  json_t *view = nc_checkpoint_view(cp);
  nc_checkpoints_spawn(c, "checkpoint-restore", nc_restore_thread, re);
  return view;
}
