/* SPDX-License-Identifier: Apache-2.0 */
/* What a checkpoint says of itself. */
#include "agent/checkpoint_create.h"
#include "base/ident.h"
#include "base/log.h"

void
nc_checkpoint_committed(NcCheckpoint *cp, json_t *meta)
{
  NcManifestInfo info = { 0 };
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *stored = nc_image_read_meta(cp->owner->deps.store, cp->id, &info, &error);
  char *warning = NULL;

  if (!stored) {
    warning = g_strdup_printf("it is in the store of node %s, whose disk did not give its description back (%s): see whether it is "
                              "whole with `novacron checkpoint verify %s`, or make another one",
                              cp->owner->deps.config->node, error->message, cp->id);
    nc_log(NC_LOG_WARNING, "agent", "checkpoint %s of %s: %s", cp->id, cp->vm, warning);
  }
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&cp->owner->lock);
  json_decref(cp->meta);
  cp->meta = meta;
  cp->file_bytes = info.file_bytes;
  g_free(cp->warning);
  cp->warning = warning;
  cp->state = NC_CHECKPOINT_READY;
}

json_t *
nc_create_describe_beginning(NcCreate *cr, const char *mode, const char *label)
{
  g_autofree char *created = nc_time_format(cr->started_us);
  const char *node = cr->cp->owner->deps.config->node;
  nc_autojson json_t *migration = cr->migration ? nc_journal_get_migration(cr->cp->owner->deps.journal, cr->migration, NULL) : NULL;
  return json_pack("{s:i, s:I, s:b, s:s, s:s, s:s, s:s, s:s, s:I, s:s*, s:o*}", "version", 1, "created_us", (json_int_t)cr->started_us,
                   "scheduled", cr->scheduled, "node", node, "created", created, "mode", mode, "label", label, "machine",
                   cr->cp->vm, "epoch", (json_int_t)nc_machine_hold_epoch(cr->hold), "migration", cr->migration,
                   "checkpoint_keep_s", json_incref(json_object_get(migration, "checkpoint_keep_s")));
}

/* How long the guest stood still; 0: it did not run, or does not yet. */
static double
nc_create_pause_ms(NcCreate *cr)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&cr->event_lock);
  return cr->stop_us && cr->resume_us ? (double)(cr->resume_us - cr->stop_us) / 1000.0 : 0;
}

static json_t *
nc_create_describe_disks(NcCreate *cr)
{
  json_t *list = json_array();
  for (unsigned i = 0; i < cr->n_disks; i++) {
    const NcCreateDisk *d = &cr->disks[i];
    json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "name", d->spec->name, "path", d->spec->path,
                                          "format", d->spec->format, "bytes", (json_int_t)d->bytes, "data_bytes",
                                          (json_int_t)d->totals.bytes, "new_bytes", (json_int_t)d->totals.new_bytes,
                                          "block_bytes", (json_int_t)nc_capture_disk_block_bytes(d->bytes), "read_bytes",
                                          (json_int_t)d->read_bytes));
  }
  return list;
}

static void
nc_create_describe_sizes(NcCreate *cr, json_t *meta)
{
  uint64_t bytes = cr->stream.ram_bytes, data = cr->memory.bytes, fresh = cr->memory.new_bytes;
  NcPageStoreStats stats;

  for (unsigned i = 0; i < cr->n_disks; i++) {
    bytes += cr->disks[i].bytes;
    data += cr->disks[i].totals.bytes;
    fresh += cr->disks[i].totals.new_bytes;
  }
  nc_page_store_stats(cr->cp->owner->deps.store, &stats);
  uint64_t before = cr->used_before + cr->manifest_bytes;
  json_object_set_new(meta, "bytes", json_integer((json_int_t)bytes));
  json_object_set_new(meta, "data_bytes", json_integer((json_int_t)data));
  json_object_set_new(meta, "new_bytes", json_integer((json_int_t)fresh));
  /* Of the store's packs; the manifest's file is added when it is shown. Others that put meanwhile are counted, too. */
  json_int_t stored = stats.used_bytes > before ? (json_int_t)(stats.used_bytes - before) : 0;
  json_object_set_new(meta, "stored_bytes", json_integer(stored));
}

/* The description; what was known at the beginning is in it already. */
json_t *
nc_create_describe(NcCreate *cr)
{
  int version[3];
  nc_qmp_version(cr->qmp, version);
  g_autofree char *qemu = g_strdup_printf("%d.%d.%d", version[0], version[1], version[2]);
  g_autofree char *finished = nc_time_format(nc_wall_us());
  nc_autojson json_t *begun = NULL;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&cr->cp->owner->lock);
    begun = json_incref(cr->cp->meta);
  }
  json_t *meta = json_copy(begun);

  json_object_set_new(meta, "mode", json_string(cr->background ? "background" : "stop"));
  json_object_set_new(meta, "was_running", json_boolean(cr->was_running));
  json_object_set_new(meta, "pause_ms", json_real(nc_create_pause_ms(cr)));
  json_object_set_new(meta, "finished", json_string(finished));
  json_object_set_new(meta, "qemu_version", json_string(qemu));
  json_object_set(meta, "spec", cr->spec_json);
  json_object_set(meta, "ram_blocks", cr->stream.blocks);
  json_object_set_new(meta, "memory",
                      json_pack("{s:I, s:I, s:I, s:I}", "bytes", (json_int_t)cr->stream.ram_bytes, "data_bytes",
                                (json_int_t)(cr->stream.pages * NC_FRAME_PAGE_BYTES), "new_bytes",
                                (json_int_t)cr->memory.new_bytes, "device_bytes", (json_int_t)cr->stream.other_bytes));
  json_object_set_new(meta, "disks", nc_create_describe_disks(cr));
  nc_create_describe_sizes(cr, meta);
  return meta;
}
