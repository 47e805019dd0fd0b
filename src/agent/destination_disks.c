/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/destination_disks.h"
#include "agent/disk_files.h"
#include "base/fault.h"
#include "qemu/block_qmp.h"

#define NC_NBD_SOCKET "nbd.sock" /* machine_check.c keeps the name for us */
#define NC_DISKS_KEY "created_disks"

/* The offers of ${request}, with the decisions in it. */
static GPtrArray *
nc_destination_offers(json_t *request, GError **error)
{
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(json_object_get(request, "spec"), error);
  return spec ? nc_disk_offers_from_json(json_object_get(request, "disks"), spec, error) : NULL;
}

bool
nc_destination_judge_disks(json_t *request, NcMachineSpec *spec, GError **error)
{
  g_autoptr(GPtrArray) offers = nc_disk_offers_from_json(json_object_get(request, "disks"), spec, error);
  nc_autojson json_t *checks = json_array();

  if (!offers)
    return false;
  /* A source that does not say what is in its backing files could not know that they are the same. */
  for (guint i = 0; i < offers->len; i++) {
    const NcDiskOffer *o = offers->pdata[i];
    if (o->chain == NC_CHAIN_KEEP && !nc_backing_files_have_digests(o->backing))
      return nc_fail(error, NC_ERROR_PROTOCOL, "the backing files of disk %s come without digests", o->name);
  }
  nc_disk_offers_judge(offers, checks);
  for (guint i = 0; i < offers->len; i++)
    json_object_set_new(json_array_get(json_object_get(request, "disks"), i), "copy", json_boolean(((NcDiskOffer *)offers->pdata[i])->copy));
  nc_disk_offers_strip(offers, spec);
  g_autofree char *complaints = nc_checks_complaints(checks);
  return !complaints || nc_fail(error, NC_ERROR_UNSUITABLE, "%s", complaints);
}

json_t *
nc_destination_disk_verdicts(json_t *request)
{
  json_t *list = json_array();
  size_t i;
  json_t *disk;

  json_array_foreach(json_object_get(request, "disks"), i, disk)
      json_array_append_new(list, json_pack("{s:s, s:b}", "name", nc_json_string_or(disk, "name", ""), "copied", nc_json_bool_or(disk, "copy", false)));
  return list;
}

/* The record's notes become ${notes}, on disk. */
static bool
nc_destination_keep_notes(NcMigration *m, json_t *notes, GError **error)
{
  nc_migration_set(m, NC_DISKS_KEY, json_deep_copy(notes));
  return nc_migration_persist(m, true, error);
}

static bool
nc_destination_make_disk(NcMigration *m, const NcDiskOffer *o, json_t *notes, GError **error)
{
  json_t *note = nc_disk_file_note(o, m->id);

  json_array_append_new(notes, note);
  if (!nc_destination_keep_notes(m, notes, error))
    return false;
  nc_fault_point("destination-disk-noted");
  if (!nc_disk_file_make(o, note, error) || !nc_destination_keep_notes(m, notes, error))
    return false;
  nc_fault_point("destination-disk-made");
  if (!nc_disk_file_publish(note, error))
    return false;
  nc_fault_point("destination-disk-published");
  nc_migration_note(m, "disk", "%s: %s made for the copy", o->name, o->path);
  return true;
}

bool
nc_destination_make_disks(NcMigration *m, json_t *request, GError **error)
{
  g_autoptr(GPtrArray) offers = nc_destination_offers(request, error);
  nc_autojson json_t *notes = json_array();

  if (!offers)
    return false;
  for (guint i = 0; i < offers->len; i++) {
    const NcDiskOffer *o = offers->pdata[i];
    if (o->copy && !nc_destination_make_disk(m, o, notes, error))
      return false;
  }
  return true;
}

static bool
nc_destination_export_disk(NcMigration *m, NcQmp *qmp, const NcDiskOffer *o, const char *socket, GError **error)
{
  g_autoptr(NcQemuDisk) disk = nc_qemu_disk_find(qmp, o->path, error);

  if (!disk || !nc_qemu_nbd_export(qmp, disk->node, o->name, error))
    return false;
  nc_autofd int server = nc_unix_connect(socket, error);
  return server >= 0 && nc_mover_process_send(m->mover, json_pack("{s:s, s:i}", "op", "disk", "index", (int)o->index), server, error);
}

bool
nc_destination_export_disks(NcMigration *m, json_t *request, GError **error)
{
  g_autoptr(GPtrArray) offers = nc_destination_offers(request, error);
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);
  g_autofree char *socket = g_build_filename(nc_machine_lease_run_dir(m->lease), NC_NBD_SOCKET, NULL);
  bool started = false;

  if (!offers)
    return false;
  for (guint i = 0; i < offers->len; i++) {
    const NcDiskOffer *o = offers->pdata[i];
    if (!o->copy)
      continue;
    if (!qmp)
      return nc_fail(error, NC_ERROR_QEMU, "QEMU ended before its disks could be exported");
    started = started || nc_qemu_nbd_start(qmp, socket, error);
    if (!started || !nc_destination_export_disk(m, qmp, o, socket, error)) {
      g_prefix_error(error, "disk %s can't be received: ", o->name);
      return false;
    }
  }
  return true;
}

bool
nc_destination_end_exports(NcMigration *m, NcQmp *qmp, GError **error)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  return json_array_size(json_object_get(record, NC_DISKS_KEY)) == 0 || nc_qemu_nbd_stop(qmp, error);
}

void
nc_destination_keep_disks(NcMigration *m)
{
  nc_migration_set(m, NC_DISKS_KEY, json_null());
}

void
nc_destination_remove_disks(NcMigration *m)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  json_t *notes = json_object_get(record, NC_DISKS_KEY);
  size_t i;
  json_t *note;

  if (json_array_size(notes) == 0)
    return;
  json_array_foreach(notes, i, note)
  {
    nc_disk_file_remove(note);
    nc_migration_note(m, "disk-removed", "%s", nc_json_string_or(note, "path", ""));
  }
  nc_migration_set(m, NC_DISKS_KEY, json_null());
}
