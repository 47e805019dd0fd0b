/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/checkpoint_changed.h"
#include "base/log.h"
#include "checkpoint/capture_changed.h"
#include "qemu/bitmap_qmp.h"

#define NC_NBD_MS 60000

static void
nc_create_forget_earlier(NcCreate *cr, const char *why)
{
  if (!cr->earlier)
    return;
  nc_log(NC_LOG_INFO, "agent", "machine %s: checkpoint %s reads its disks whole: %s", cr->cp->vm, cr->cp->id, why);
  g_clear_pointer(&cr->earlier, nc_image_free);
}

/* Is ${id} a checkpoint of this machine that is whole, as far as it is known? */
static bool
nc_create_is_ready(NcCreate *cr, const char *id)
{
  NcCheckpoints *c = cr->cp->owner;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  const NcCheckpoint *cp = g_hash_table_lookup(c->table, id);

  return cp && cp->state == NC_CHECKPOINT_READY && g_str_equal(cp->vm, cr->cp->vm);
}

/* Which of the earlier checkpoint's disks is disk ${d}, as long and in blocks as long? -1: none. */
static int
nc_create_find_earlier(json_t *meta, const NcCreateDisk *d)
{
  size_t i;
  json_t *disk;

  json_array_foreach(json_object_get(meta, "disks"), i, disk)
    if (g_str_equal(nc_json_string_or(disk, "name", ""), d->spec->name) && nc_json_int_or(disk, "bytes", -1) == (int64_t)d->bytes &&
        nc_json_int_or(disk, "block_bytes", -1) == (int64_t)nc_capture_disk_block_bytes(d->bytes))
      return (int)i;
  return -1;
}

static void
nc_create_open_earlier(NcCreate *cr, const char *id)
{
  g_autoptr(GError) error = NULL;

  cr->earlier = nc_image_open(cr->cp->owner->deps.store, id, &error);
  if (!cr->earlier) {
    nc_log(NC_LOG_WARNING, "agent", "machine %s: checkpoint %s reads its disks whole: %s", cr->cp->vm, cr->cp->id, error->message);
    return;
  }
  for (unsigned i = 0; i < cr->n_disks && cr->earlier; i++)
    if ((cr->disks[i].earlier_index = nc_create_find_earlier(nc_image_meta(cr->earlier), &cr->disks[i])) < 0)
      nc_create_forget_earlier(cr, "the earlier one has other disks");
}

void
nc_create_choose_earlier(NcCreate *cr)
{
  g_auto(GStrv) ids = cr->n_disks ? nc_qemu_bitmaps_list(cr->qmp, cr->freezable[0].node) : NULL;

  for (char **id = ids; id && *id && !cr->earlier; id++)
    if (nc_create_is_ready(cr, *id) && nc_qemu_bitmaps_are_good(cr->qmp, cr->freezable, cr->n_disks, *id))
      nc_create_open_earlier(cr, *id);
  nc_qemu_bitmaps_drop(cr->qmp, cr->freezable, cr->n_disks, cr->earlier ? nc_image_name(cr->earlier) : NULL);
}

void
nc_create_turn_bitmaps(NcCreate *cr)
{
  g_autoptr(GError) error = NULL;
  const char *before = cr->earlier ? nc_image_name(cr->earlier) : NULL;

  cr->bitmaps_turned = true;
  if (cr->n_disks && !nc_qemu_bitmaps_turn(cr->qmp, cr->freezable, cr->n_disks, before, cr->cp->id, &error))
    nc_create_forget_earlier(cr, error->message);
}

/* What the bitmap says of the disk; NULL: it can't be had. */
static NcNbd *
nc_create_connect_changed(NcCreate *cr, unsigned index, GError **error)
{
  g_autofree char *name = nc_qemu_bitmap_export_name(index), *bitmap = nc_qemu_bitmap_name(nc_image_name(cr->earlier));

  if (!nc_qemu_bitmap_export(cr->qmp, &cr->freezable[index], index, nc_image_name(cr->earlier), error))
    return NULL;
  return nc_nbd_connect_bitmap(cr->nbd_path, name, bitmap, NC_NBD_MS, error);
}

bool
nc_create_capture_disk(NcCreate *cr, unsigned index, NcNbd *nbd, GError **error)
{
  NcCreateDisk *d = &cr->disks[index];
  g_autoptr(GError) problem = NULL;
  g_autoptr(NcNbd) changed = cr->earlier ? nc_create_connect_changed(cr, index, &problem) : NULL;

  if (cr->earlier && changed)
    return nc_capture_disk_changed(&cr->capture, index, nbd, changed, cr->earlier, (unsigned)d->earlier_index, &d->read_bytes, error);
  if (problem)
    nc_log(NC_LOG_WARNING, "agent", "machine %s: disk %s is read whole: %s", cr->cp->vm, d->spec->name, problem->message);
  d->read_bytes = d->bytes;
  return nc_capture_disk(&cr->capture, index, nbd, error);
}

void
nc_create_end_bitmaps(NcCreate *cr, bool ok)
{
  /* One that failed before the pause has changed nothing: the next one can count on what is there. */
  if (cr->n_disks && cr->bitmaps_turned && nc_machine_hold_lives(cr->hold))
    nc_qemu_bitmaps_drop(cr->qmp, cr->freezable, cr->n_disks, ok ? cr->cp->id : NULL);
}
