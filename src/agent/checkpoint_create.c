/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a checkpoint.
 *
 * One instant for memory, devices and disks: the guest is stopped; its disks are frozen (checkpoint_qmp.h); QEMU is told to write
 * its image, in the background if it can: it saves the devices, protects the memory against writing and lets the guest go on.
 * Then memory and disks are read as they were while the guest works. Where QEMU can't do that, or the guest is paused anyway, the
 * guest stands still until its memory is read. Without disks QEMU does the stopping by itself.
 *
 * Before QEMU is touched, the journal says what there is to be undone (nc_checkpoint_leave_qemu()), and afterwards that there is
 * nothing any more. The manifest is committed last: before, there is no checkpoint.
 */
#include "agent/checkpoint_changed.h"
#include "base/ident.h"
#include "base/fault.h"
#include "base/log.h"
#include "checkpoint/image.h"
#include "qemu/migration_qmp.h"

#include <string.h>
#include <unistd.h>

/* Without a byte of the stream for so long, something is broken: QEMU reads its own memory. */
#define NC_STREAM_MS 60000
#define NC_NBD_MS 60000
#define NC_COMPLETE_MS 30000
#define NC_POLL_US 3000
#define NC_RESUME_MS 5000

static const char *const nc_modes[] = { "auto", "background", "stop" };
G_STATIC_ASSERT(G_N_ELEMENTS(nc_modes) == NC_MODE_COUNT);

/* --- small things --- */

static int
nc_mode_parse(const char *text, GError **error)
{
  for (guint i = 0; i < G_N_ELEMENTS(nc_modes); i++)
    if (g_str_equal(nc_modes[i], text))
      return (int)i;
  nc_fail(error, NC_ERROR_INVALID, "\"mode\" must be auto, background or stop");
  return -1;
}

/* On the QMP client's thread. */
static void
nc_create_on_event(json_t *event, gpointer data)
{
  NcCreate *cr = data;
  const char *name = nc_json_string_or(event, "event", "");
  json_t *at = json_object_get(event, "timestamp");
  int64_t us = nc_json_int_or(at, "seconds", 0) * G_USEC_PER_SEC + nc_json_int_or(at, "microseconds", 0);

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&cr->event_lock);
  if (g_str_equal(name, "STOP") && !cr->stop_us)
    cr->stop_us = us;
  else if (g_str_equal(name, "RESUME") && cr->stop_us && !cr->resume_us)
    cr->resume_us = us;
}

void
nc_create_set_worker(NcCreate *cr, NcCheckpointer *worker)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&cr->cp->owner->lock);
  cr->cp->worker = worker;
}

/* --- what there is to save --- */

static bool
nc_create_list_disks(NcCreate *cr, GError **error)
{
  uint64_t sizes[NC_CHECKPOINT_DISKS_MAX];

  if (!(cr->spec = nc_machine_spec_from_json(cr->spec_json, error)))
    return false;
  for (guint i = 0; i < cr->spec->disks->len; i++) {
    const NcDiskSpec *spec = cr->spec->disks->pdata[i];
    if (spec->readonly)
      continue; /* it is at the restore as it is now, or QEMU says so */
    NcCreateDisk *disk = &cr->disks[cr->n_disks];
    *disk = (NcCreateDisk){ .spec = spec, .fd = -1 };
    disk->device = g_strdup_printf("dev-%s", spec->name);
    disk->node = g_strdup_printf("d-%s", spec->name);
    cr->freezable[cr->n_disks++] = (NcFreezable){ .device = disk->device, .node = disk->node };
  }
  if (!nc_qemu_check_disks(cr->qmp, cr->freezable, cr->n_disks, sizes, error))
    return false;
  uint64_t total = nc_qemu_memory_bytes(cr->qmp);
  for (unsigned i = 0; i < cr->n_disks; i++)
    total += cr->disks[i].bytes = sizes[i];
  __atomic_store_n(&cr->cp->progress_total, total, __ATOMIC_RELAXED);
  return true;
}

/* What the machine's last checkpoint says already need not be said again. */
static void
nc_create_choose_base(NcCreate *cr)
{
  g_autofree char *last = nc_checkpoints_last_of(cr->cp->owner, cr->cp->vm);
  g_autoptr(GError) error = NULL;

  if (last && !nc_manifest_set_base(cr->manifest, last, &error))
    nc_log(NC_LOG_WARNING, "agent", "machine %s: its new checkpoint shares less with checkpoint %s than it could: %s", cr->cp->vm,
           last, error->message);
}

static bool
nc_create_open_store(NcCreate *cr, GError **error)
{
  NcPageStore *store = cr->cp->owner->deps.store;
  NcPageStoreStats stats;

  nc_page_store_stats(store, &stats);
  cr->used_before = stats.used_bytes;
  if (!(cr->writer = nc_page_store_writer_new(store, error)) ||
      !(cr->manifest = nc_manifest_begin(cr->writer, cr->cp->id, error)))
    return false;
  nc_create_choose_base(cr);
  cr->puts = nc_puts_new(cr->writer, cr->manifest);
  cr->layout = nc_layout_builder_new();
  cr->capture =
      (NcCapture){ .puts = cr->puts, .layout = cr->layout, .cancelled = &cr->cp->cancelled, .progress = &cr->cp->progress };
  return true;
}

/* --- the pause --- */

static bool
nc_create_freeze_disks(NcCreate *cr, GError **error)
{
  for (unsigned i = 0; i < cr->n_disks; i++)
    if (!nc_qemu_freeze(cr->qmp, &cr->freezable[i], i, error)) {
      g_prefix_error(error, "disk %s can't be frozen: ", cr->disks[i].spec->name);
      return false;
    }
  nc_create_turn_bitmaps(cr); /* the guest stands still: it is the same instant */
  return true;
}

/* From here on the guest may be standing still. */
static bool
nc_create_take_instant(NcCreate *cr, GError **error)
{
  bool ours = cr->was_running && (cr->n_disks || !cr->background);

  if (ours && cr->background)
    nc_create_touch_memory(cr);
  nc_create_write_back(cr);
  if (ours && !nc_qmp_do(cr->qmp, "stop", NULL, error))
    return false;
  nc_fault_point("checkpoint-stopped");
  /* At the end of an ordinary migration QEMU lets go of its images, which a filter would not do: then they are frozen later. */
  return (!cr->background || nc_create_freeze_disks(cr, error)) && nc_qemu_migrate_fd(cr->qmp, NC_CHECKPOINT_STREAM, error);
}

/*
 * The first page has come: QEMU has everything else, and protects the memory. QEMU 7.2 lets the guest run now by itself, later
 * ones only if it ran when they began.
 */
static void
nc_create_first_page(gpointer data)
{
  NcCreate *cr = data;
  g_autoptr(GError) error = NULL;

  if (cr->background && !nc_qemu_cont_after_migration(cr->qmp, NC_RESUME_MS, &error))
    nc_log(NC_LOG_ERR, "agent", "machine %s: its guest does not run on: %s", cr->cp->vm, error->message);
  nc_fault_point("checkpoint-reading");
}

/* --- reading --- */

static bool
nc_create_await_completed(NcCreate *cr, GError **error)
{
  int64_t deadline = nc_mono_us() + NC_COMPLETE_MS * INT64_C(1000);
  NcQemuMigrationInfo info = { .status = NC_QEMU_MIGRATION_ACTIVE };

  for (;;) {
    if (!nc_qemu_migration_query(cr->qmp, &info, error))
      return false;
    g_autofree char *why = g_strdup(info.error_desc);
    NcQemuMigrationStatus status = info.status;
    nc_qemu_migration_info_clear(&info);
    if (status == NC_QEMU_MIGRATION_COMPLETED)
      return true;
    if (!nc_qemu_migration_status_is_under_way(status) || nc_mono_us() > deadline)
      return nc_fail(error, NC_ERROR_QEMU, "QEMU did not write its whole image: %s%s%s", nc_qemu_migration_status_name(status),
                     why ? ": " : "", why ? why : "");
    g_usleep(NC_POLL_US);
  }
}

static bool
nc_create_read_memory(NcCreate *cr, GError **error)
{
  if (!nc_capture_stream(&cr->capture, cr->worker, NC_STREAM_MS, nc_create_first_page, cr, &cr->stream, error) ||
      !nc_create_await_completed(cr, error))
    return false;
  if (!cr->stream.whole)
    return nc_fail(error, NC_ERROR_QEMU, "QEMU's image does not end where it should");
  /* The guest still stands where it stood, so its disks do. */
  if (!cr->background && (!nc_qemu_wake_disks(cr->qmp, cr->freezable, cr->n_disks, cr->nbd_path, error) ||
                          !nc_create_prepare_disks(cr, error) || !nc_create_freeze_disks(cr, error)))
    return false;
  /* Before the store has taken all of it: the guest waits. */
  if (cr->was_running && !nc_qemu_cont_after_migration(cr->qmp, NC_RESUME_MS, error))
    return false;
  return nc_puts_finish(cr->puts, &cr->memory, error);
}

static bool
nc_create_read_disk(NcCreate *cr, unsigned index, GError **error)
{
  g_autofree char *name = g_strdup_printf("%u", index);
  g_autoptr(NcNbd) nbd = nc_nbd_connect(cr->nbd_path, name, NC_NBD_MS, error);

  if (!nbd || !nc_create_capture_disk(cr, index, nbd, error)) {
    if (cr->earlier && error && g_error_matches(*error, NC_ERROR, NC_ERROR_NOT_FOUND))
      g_prefix_error(error, "what disk %s has in common with the checkpoint before is damaged in the store of node %s (novacron store verify); "
                     "try again, the next one reads the disk whole: ", cr->disks[index].spec->name, cr->cp->owner->deps.config->node);
    else
      g_prefix_error(error, "disk %s as it was can't be read (is %s full, where QEMU keeps what the guest overwrites?): ",
                     cr->disks[index].spec->name, cr->cp->owner->deps.config->store_dir);
    return false;
  }
  return nc_puts_finish(cr->puts, &cr->disks[index].totals, error);
}

static bool
nc_create_read_disks(NcCreate *cr, GError **error)
{
  if (cr->n_disks && !nc_qemu_export_frozen(cr->qmp, cr->n_disks, cr->nbd_path, error))
    return false;
  for (unsigned i = 0; i < cr->n_disks; i++)
    if (!nc_create_read_disk(cr, i, error))
      return false;
  return true;
}

/* --- the end --- */

static bool
nc_create_commit(NcCreate *cr, GError **error)
{
  if (!nc_capture_finish(&cr->capture, cr->manifest, &cr->manifest_bytes, error))
    return false;
  nc_autojson json_t *meta = nc_create_describe(cr);
  nc_fault_point("checkpoint-commit");
  if (!nc_capture_commit(&cr->capture, cr->manifest, meta, error))
    return false;
  nc_checkpoint_committed(cr->cp, g_steal_pointer(&meta));
  return true;
}

/* QEMU as it was before. What fails here is tried again (nc_create_hand_over). */
static bool
nc_create_leave_qemu(NcCreate *cr, GError **error)
{
  if (!cr->work)
    return true;
  if (nc_fault_asks("checkpoint-leave", "refuse"))
    return nc_fail(error, NC_ERROR_TIMEOUT, "QEMU can't be brought back to what it was: it does not answer");
  if (nc_machine_hold_lives(cr->hold) && !nc_checkpoint_leave_qemu(cr->qmp, cr->work, NULL, error)) {
    g_prefix_error(error, "QEMU can't be brought back to what it was: ");
    return false;
  }
  cr->left = true;
  return nc_checkpoints_set_work(cr->cp->owner, cr->cp->id, NULL, error);
}

static bool
nc_create_run(NcCreate *cr, GError **error)
{
  if (!nc_create_open_store(cr, error))
    return false;
  nc_create_choose_earlier(cr);
  return nc_create_start_worker(cr, error) && nc_create_record_work(cr, error) &&
         nc_create_choose_mode(cr, error) && (!cr->background || nc_create_prepare_disks(cr, error)) &&
         nc_create_give_ends(cr, error) && nc_create_take_instant(cr, error) && nc_create_read_memory(cr, error) &&
         nc_create_read_disks(cr, error);
}

static void
nc_create_explain(NcCreate *cr, GError **error)
{
  if (g_atomic_int_get(&cr->cp->cancelled)) {
    g_clear_error(error);
    nc_fail(error, NC_ERROR_CANCELLED, "checkpoint %s of %s was cancelled", cr->cp->id, cr->cp->vm);
  } else if (!nc_machine_hold_lives(cr->hold)) {
    g_autofree char *tail = nc_machine_hold_log_tail(cr->hold);
    g_clear_error(error);
    nc_fail(error, NC_ERROR_QEMU, "the QEMU of %s died while its checkpoint %s was made: %s", cr->cp->vm, cr->cp->id, tail);
  } else {
    g_prefix_error(error, "checkpoint %s of %s on node %s: ", cr->cp->id, cr->cp->vm, cr->cp->owner->deps.config->node);
  }
}

static void
nc_create_free(NcCreate *cr)
{
  nc_create_set_worker(cr, NULL);
  nc_checkpointer_free(cr->worker);
  nc_keeper_free(cr->keeper);
  nc_fd_clear(&cr->theirs);
  if (cr->nbd_path)
    unlink(cr->nbd_path);
  nc_puts_free(cr->puts);
  nc_layout_builder_free(cr->layout);
  nc_image_free(cr->earlier);
  nc_manifest_writer_free(cr->manifest);
  nc_page_store_writer_free(cr->writer);
  nc_captured_stream_clear(&cr->stream);
  for (unsigned i = 0; i < cr->n_disks; i++) {
    nc_fd_clear(&cr->disks[i].fd);
    g_free(cr->disks[i].device);
    g_free(cr->disks[i].node);
  }
  nc_machine_spec_free(cr->spec);
  json_decref(cr->spec_json);
  json_decref(cr->work);
  nc_machine_hold_end(cr->hold);
  nc_checkpoint_unref(cr->cp);
  g_free(cr->nbd_path);
  g_free(cr->migration);
  g_mutex_clear(&cr->event_lock);
  g_free(cr);
}

static void
nc_create_fail(NcCreate *cr, GError *error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&cr->cp->owner->lock);
  cr->cp->state = error->code == NC_ERROR_CANCELLED ? NC_CHECKPOINT_CANCELLED : NC_CHECKPOINT_FAILED;
  cr->cp->error = error;
}

/* What is to be tried again after this one is gone: its work, a new reference, or NULL. QEMU's image is read on until then. */
static json_t *
nc_create_hand_over(NcCreate *cr)
{
  NcCheckpoints *c = cr->cp->owner;
  json_t *work = json_deep_copy(cr->work);

  if (cr->left) {
    json_object_set_new(work, "undone", json_true());
  } else if (cr->keeper) {
    nc_keeper_drain(cr->keeper);
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    g_hash_table_replace(c->keepers, g_strdup(cr->cp->id), g_steal_pointer(&cr->keeper));
  }
  return work;
}

static gpointer
nc_create_thread(gpointer data)
{
  NcCreate *cr = data;
  NcCheckpoints *c = cr->cp->owner;
  GError *error = NULL;
  g_autoptr(GError) problem = NULL;

  bool ok = nc_create_run(cr, &error);
  if (!ok) {
    nc_create_explain(cr, &error);
    nc_create_set_worker(cr, NULL);
    g_clear_pointer(&cr->worker, nc_checkpointer_free);
    if (cr->keeper)
      nc_keeper_drain(cr->keeper); /* QEMU's image is read to its end all the same */
  }
  nc_autojson json_t *left = NULL;
  if (!nc_create_leave_qemu(cr, &problem)) {
    left = nc_create_hand_over(cr);
    if (ok)
      error = g_error_copy(problem);
    ok = false;
  }
  ok = ok && nc_create_commit(cr, &error);
  nc_create_end_bitmaps(cr, ok);
  nc_log(ok ? NC_LOG_NOTICE : NC_LOG_ERR, "agent", "machine %s: checkpoint %s %s", cr->cp->vm, cr->cp->id,
         ok ? "is ready" : error->message);
  if (!ok)
    nc_create_fail(cr, error);
  g_autofree char *vm = g_strdup(cr->cp->vm), *id = g_strdup(cr->cp->id);
  unsigned keep = ok && cr->scheduled ? cr->spec->checkpoint_keep : 0; /* 0: nothing goes */
  nc_checkpoint_audit(c, "checkpoint.made", id, vm, c->deps.config->node,
                      json_pack("{s:b, s:b, s:o*}", "ok", ok, "by_the_clock", cr->scheduled, "error", ok ? NULL : nc_error_to_json(error)));
  nc_create_free(cr);
  if (left)
    nc_checkpoints_leave(c, id, left, NULL, problem);
  if (keep)
    nc_checkpoints_prune(c, vm, keep);
  if (!ok)
    nc_checkpoints_collect(c);
  nc_checkpoints_thread_ends(c);
  return NULL;
}

/* --- the operation --- */

static bool
nc_checkpoints_is_making(NcCheckpoints *c, const char *vm, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init(&iter, c->table);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const NcCheckpoint *cp = value;
    if (cp->state == NC_CHECKPOINT_MAKING && !cp->arriving && g_str_equal(cp->vm, vm))
      return !nc_fail(error, NC_ERROR_CONFLICT, "checkpoint %s of %s is being made: wait for it, or delete it", cp->id, vm);
  }
  return false;
}

static bool
nc_create_look(NcCreate *cr, GError **error)
{
  if (!(cr->qmp = nc_machine_hold_qmp(cr->hold)))
    return nc_fail(error, NC_ERROR_QEMU, "its QEMU is gone");
  if (nc_qemu_migration_is_under_way(cr->qmp))
    return nc_fail(error, NC_ERROR_CONFLICT, "its QEMU is writing an image or migrating already");
  cr->was_running = nc_qemu_is_running(cr->qmp);
  cr->spec_json = nc_machine_hold_spec(cr->hold);
  return nc_create_list_disks(cr, error);
}

json_t *
nc_checkpoints_create(NcCheckpoints *c, json_t *args, GError **error)
{
  const char *vm = nc_json_string(args, "name", error);
  const char *label = nc_json_string_or(args, "label", "");
  int mode = vm ? nc_mode_parse(nc_json_string_or(args, "mode", "auto"), error) : -1;

  if (mode < 0 || !nc_checkpoints_store(c, error) || !nc_checkpoints_have_let_go(c, vm, error) || nc_checkpoints_is_making(c, vm, error))
    return NULL;
  if (strlen(label) > NC_CHECKPOINT_LABEL_MAX) {
    nc_fail(error, NC_ERROR_INVALID, "a label has at most %d bytes", NC_CHECKPOINT_LABEL_MAX);
    return NULL;
  }
  NcMachineHold *hold = nc_machines_hold(c->deps.machines, vm, "checkpoint", error);
  if (!hold)
    return NULL;
  g_autofree char *id = nc_id_new(NC_CHECKPOINT_ID_PREFIX);
  NcCreate *cr = g_new0(NcCreate, 1);
  cr->hold = hold;
  cr->mode = (NcCheckpointMode)mode;
  cr->scheduled = nc_json_bool_or(args, "scheduled", false);
  cr->migration = g_strdup(nc_json_string_or(args, "migration", NULL));
  cr->theirs = -1;
  cr->started_us = nc_wall_us();
  g_mutex_init(&cr->event_lock);
  cr->cp = nc_checkpoints_add(c, id, vm, json_pack("{s:b}", "scheduled", cr->scheduled)); /* it is in the list from here on */
  if (!nc_create_look(cr, error)) {
    g_prefix_error(error, "can't checkpoint %s on node %s: ", vm, c->deps.config->node);
    g_mutex_lock(&c->lock);
    g_hash_table_remove(c->table, id);
    g_mutex_unlock(&c->lock);
    nc_create_free(cr);
    return NULL;
  }
  g_mutex_lock(&c->lock);
  json_decref(cr->cp->meta);
  cr->cp->meta = nc_create_describe_beginning(cr, nc_modes[cr->mode], label);
  g_mutex_unlock(&c->lock);
  json_t *view = nc_checkpoint_view(cr->cp);
  nc_machine_hold_set_event_func(hold, nc_create_on_event, cr);
  nc_checkpoints_spawn(c, "checkpoint", nc_create_thread, cr);
  return view;
}
