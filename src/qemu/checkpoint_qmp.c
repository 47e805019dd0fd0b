/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu/checkpoint_qmp.h"
#include "base/ident.h"

#include <string.h>

#define NC_QMP_MS 10000
#define NC_UNEXPORT_MS 5000
#define NC_UNEXPORT_POLL_US 5000
/* As in migration_qmp.c: one exabyte per second is "no limit". */
#define NC_NO_LIMIT (INT64_C(1) << 60)

/* Node names have 31 characters at most, so the disks are numbered. */
#define NC_NODE_OLD NC_CHECKPOINT_MARK "old%u"   /* the file with what was overwritten */
#define NC_NODE_COW NC_CHECKPOINT_MARK "cow%u"   /* the filter */
#define NC_NODE_SNAP NC_CHECKPOINT_MARK "snap%u" /* the disk as it was */
#define NC_EXPORT NC_CHECKPOINT_MARK "export%u"
#define NC_FDSET NC_CHECKPOINT_MARK "fd"

static char *
nc_numbered(const char *format, unsigned index)
{
  g_auto(GStrv) parts = g_strsplit(format, "%u", 2);
  return g_strdup_printf("%s%u", parts[0], index);
}

/* --- disks --- */

static int
nc_freezable_index(const NcFreezable *disks, size_t count, const char *node)
{
  for (size_t i = 0; i < count; i++)
    if (g_str_equal(disks[i].node, node))
      return (int)i;
  return -1;
}

bool
nc_qemu_check_disks(NcQmp *qmp, const NcFreezable *disks, size_t count, uint64_t *ret_sizes, GError **error)
{
  nc_autojson json_t *list = nc_qmp_call(qmp, "query-block", NULL, -1, NC_QMP_MS, error);
  size_t i, found = 0;
  json_t *entry;

  if (!list)
    return false;
  json_array_foreach(list, i, entry)
  {
    json_t *inserted = json_object_get(entry, "inserted");
    const char *node = nc_json_string_or(inserted, "node-name", "?");
    int index = nc_freezable_index(disks, count, node);
    if (!json_is_object(inserted) || (nc_json_bool_or(inserted, "ro", false) && index < 0))
      continue;
    if (index < 0)
      return nc_fail(
          error, NC_ERROR_UNSUITABLE,
          "QEMU has a disk that the machine file does not know (node %s, device %s): it could not be part of a checkpoint", node,
          nc_json_string_or(entry, "qdev", nc_json_string_or(entry, "device", "?")));
    int64_t size = nc_json_int_or(json_object_get(inserted, "image"), "virtual-size", -1);
    if (size < 0)
      return nc_fail(error, NC_ERROR_QEMU, "QEMU does not say how large disk %s is", node);
    ret_sizes[index] = (uint64_t)size;
    found++;
  }
  return found == count ||
         nc_fail(error, NC_ERROR_UNSUITABLE,
                 "QEMU has %zu of the machine's %zu disks: the rest could not be part of a checkpoint", found, count);
}

static bool
nc_add_filter(NcQmp *qmp, const NcFreezable *disk, unsigned index, GError **error)
{
  g_autofree char *old = nc_numbered(NC_NODE_OLD, index), *cow = nc_numbered(NC_NODE_COW, index);
  json_t *filter = json_pack("{s:s, s:s, s:s, s:s, s:s}", "driver", "copy-before-write", "node-name", cow, "file", disk->node,
                             "target", old, "on-cbw-error", "break-snapshot");
  return nc_qmp_do(qmp, "blockdev-add", filter, error);
}

bool
nc_qemu_prepare_freeze(NcQmp *qmp, const NcFreezable *disk, unsigned index, int fd, GError **error)
{
  nc_autojson json_t *set = nc_qmp_call(qmp, "add-fd", json_pack("{s:s}", "opaque", NC_FDSET), fd, NC_QMP_MS, error);
  if (!set)
    return false;
  g_autofree char *file = g_strdup_printf("/dev/fdset/%" G_GINT64_FORMAT, nc_json_int_or(set, "fdset-id", -1));
  g_autofree char *node = nc_numbered(NC_NODE_OLD, index);
  /* No lock: nobody else can open a file without a name. */
  json_t *options = json_pack("{s:s, s:s, s:s, s:s}", "driver", "file", "node-name", node, "filename", file, "locking", "off");
  return nc_qmp_do(qmp, "blockdev-add", options, error) && nc_add_filter(qmp, disk, index, error);
}

static bool
nc_set_drive(NcQmp *qmp, const char *device, const char *node, GError **error)
{
  return nc_qmp_do(qmp, "qom-set", json_pack("{s:s, s:s, s:s}", "path", device, "property", "drive", "value", node), error);
}

bool
nc_qemu_freeze(NcQmp *qmp, const NcFreezable *disk, unsigned index, GError **error)
{
  g_autofree char *cow = nc_numbered(NC_NODE_COW, index);
  return nc_set_drive(qmp, disk->device, cow, error);
}

/* The disk as it was, for reading. Not before the freeze: who looks at a filter keeps others from writing behind it. */
static bool
nc_add_snapshot(NcQmp *qmp, unsigned index, GError **error)
{
  g_autofree char *cow = nc_numbered(NC_NODE_COW, index), *snap = nc_numbered(NC_NODE_SNAP, index);
  return nc_qmp_do(qmp, "blockdev-add", json_pack("{s:s, s:s, s:s}", "driver", "snapshot-access", "node-name", snap, "file", cow),
                   error);
}

static bool
nc_start_nbd(NcQmp *qmp, const char *path, GError **error)
{
  json_t *address = json_pack("{s:{s:s, s:{s:s}}}", "addr", "type", "unix", "data", "path", path);

  nc_qmp_do(qmp, "nbd-server-stop", NULL, NULL); /* one that an earlier move of the machine has left; usually there is none */
  return nc_qmp_do(qmp, "nbd-server-start", address, error);
}

bool
nc_qemu_export_frozen(NcQmp *qmp, size_t count, const char *path, GError **error)
{
  if (!nc_start_nbd(qmp, path, error))
    return false;
  for (unsigned i = 0; i < count; i++) {
    g_autofree char *id = nc_numbered(NC_EXPORT, i), *snap = nc_numbered(NC_NODE_SNAP, i), *name = nc_numbered("%u", i);
    if (!nc_add_snapshot(qmp, i, error))
      return false;
    json_t *options = json_pack("{s:s, s:s, s:s, s:s}", "type", "nbd", "id", id, "node-name", snap, "name", name);
    if (!nc_qmp_do(qmp, "block-export-add", options, error))
      return false;
  }
  return true;
}

/* --- and back --- */

static bool
nc_has_mark(const char *name)
{
  return g_str_has_prefix(name, NC_CHECKPOINT_MARK);
}

/* Ends our exports; false while there is one. */
static bool
nc_drop_exports(NcQmp *qmp)
{
  nc_autojson json_t *list = nc_qmp_call(qmp, "query-block-exports", NULL, -1, NC_QMP_MS, NULL);
  bool none = true;
  size_t i;
  json_t *entry;

  json_array_foreach(list, i, entry)
  {
    const char *id = nc_json_string_or(entry, "id", "");
    if (!nc_has_mark(id))
      continue;
    none = false;
    if (!nc_json_bool_or(entry, "shutting-down", false))
      nc_qmp_do(qmp, "block-export-del", json_pack("{s:s, s:s}", "id", id, "mode", "hard"), NULL);
  }
  return none;
}

static void
nc_unexport(NcQmp *qmp)
{
  int64_t deadline = nc_mono_us() + NC_UNEXPORT_MS * INT64_C(1000);

  if (nc_drop_exports(qmp))
    return;
  while (!nc_drop_exports(qmp) && nc_mono_us() < deadline && nc_qmp_is_alive(qmp))
    g_usleep(NC_UNEXPORT_POLL_US);
  nc_qmp_do(qmp, "nbd-server-stop", NULL, NULL);
}

bool
nc_qemu_wake_disks(NcQmp *qmp, const NcFreezable *disks, size_t count, const char *path, GError **error)
{
  bool ok = count == 0 || nc_start_nbd(qmp, path, error);

  for (unsigned i = 0; ok && i < count; i++) {
    g_autofree char *id = nc_numbered(NC_EXPORT, i);
    ok = nc_qmp_do(qmp, "block-export-add", json_pack("{s:s, s:s, s:s}", "type", "nbd", "id", id, "node-name", disks[i].node),
                   error);
  }
  if (count)
    nc_unexport(qmp);
  return ok;
}

/* The guest's device on its own image again. */
static bool
nc_unfilter(NcQmp *qmp, const NcFreezable *disk, unsigned index, GError **error)
{
  g_autofree char *cow = nc_numbered(NC_NODE_COW, index);
  json_t *question = json_pack("{s:s, s:s}", "path", disk->device, "property", "drive");
  nc_autojson json_t *drive = nc_qmp_call(qmp, "qom-get", question, -1, NC_QMP_MS, error);

  if (!drive)
    return false;
  return g_strcmp0(json_string_value(drive), cow) != 0 || nc_set_drive(qmp, disk->device, disk->node, error);
}

/* Those of our nodes whose name begins with ${prefix}. */
static bool
nc_drop_nodes(NcQmp *qmp, const char *prefix, GError **error)
{
  nc_autojson json_t *list = nc_qmp_call(qmp, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), -1, NC_QMP_MS, error);
  size_t i;
  json_t *entry;

  if (!list)
    return false;
  json_array_foreach(list, i, entry)
  {
    const char *node = nc_json_string_or(entry, "node-name", "");
    if (g_str_has_prefix(node, prefix) && !nc_qmp_do(qmp, "blockdev-del", json_pack("{s:s}", "node-name", node), error))
      return false;
  }
  return true;
}

static void
nc_drop_fdsets(NcQmp *qmp)
{
  nc_autojson json_t *list = nc_qmp_call(qmp, "query-fdsets", NULL, -1, NC_QMP_MS, NULL);
  size_t i;
  json_t *set;

  json_array_foreach(list, i, set)
  {
    json_t *first = json_array_get(json_object_get(set, "fds"), 0);
    if (nc_has_mark(nc_json_string_or(first, "opaque", "")))
      nc_qmp_do(qmp, "remove-fd", json_pack("{s:I}", "fdset-id", (json_int_t)nc_json_int_or(set, "fdset-id", -1)), NULL);
  }
}

bool
nc_qemu_thaw(NcQmp *qmp, const NcFreezable *disks, size_t count, GError **error)
{
  nc_unexport(qmp);
  /* Who looks at a filter keeps others from writing behind it: first that, then the filter itself. */
  if (!nc_drop_nodes(qmp, NC_CHECKPOINT_MARK "snap", error))
    return false;
  for (unsigned i = 0; i < count; i++)
    if (!nc_unfilter(qmp, &disks[i], i, error))
      return false;
  if (!nc_drop_nodes(qmp, NC_CHECKPOINT_MARK "cow", error) || !nc_drop_nodes(qmp, NC_CHECKPOINT_MARK "old", error))
    return false;
  nc_drop_fdsets(qmp);
  return true;
}

/* --- migration --- */

/* Left as they are: the rest of NovaCron and the machine's owner may count on them, and they do not show in a stream. */
static bool
nc_capability_may_stay(const char *name)
{
  static const char *const harmless[] = { "events", "x-ignore-shared", NULL };
  return g_strv_contains(harmless, name);
}

json_t *
nc_qemu_image_settings(NcQmp *qmp, GError **error)
{
  nc_autojson json_t *capabilities = nc_qmp_call(qmp, "query-migrate-capabilities", NULL, -1, NC_QMP_MS, error);
  nc_autojson json_t *parameters = capabilities ? nc_qmp_call(qmp, "query-migrate-parameters", NULL, -1, NC_QMP_MS, error) : NULL;
  nc_autojson json_t *on = json_array();
  size_t i;
  json_t *entry;

  if (!parameters)
    return NULL;
  json_array_foreach(capabilities, i, entry)
  {
    if (nc_json_bool_or(entry, "state", false) && !nc_capability_may_stay(nc_json_string_or(entry, "capability", "")))
      json_array_append(on, json_object_get(entry, "capability"));
  }
  return json_pack("{s:O, s:O?}", "capabilities", on, "max_bandwidth", json_object_get(parameters, "max-bandwidth"));
}

/* ${names}: strings; ${snapshot}: what becomes of background-snapshot, -1: not mentioned. */
static bool
nc_set_capabilities(NcQmp *qmp, json_t *names, bool state, int snapshot, GError **error)
{
  json_t *changes = json_array();
  size_t i;
  json_t *name;

  json_array_foreach(names, i, name)
  {
    if (!g_str_equal(json_string_value(name) ? json_string_value(name) : "", "background-snapshot"))
      json_array_append_new(changes, json_pack("{s:O, s:b}", "capability", name, "state", state));
  }
  if (snapshot >= 0)
    json_array_append_new(changes, json_pack("{s:s, s:b}", "capability", "background-snapshot", "state", snapshot));
  if (json_array_size(changes) == 0) {
    json_decref(changes);
    return true;
  }
  return nc_qmp_do(qmp, "migrate-set-capabilities", json_pack("{s:o}", "capabilities", changes), error);
}

static bool
nc_set_max_bandwidth(NcQmp *qmp, int64_t bandwidth, GError **error)
{
  return nc_qmp_do(qmp, "migrate-set-parameters", json_pack("{s:I}", "max-bandwidth", (json_int_t)bandwidth), error);
}

bool
nc_qemu_image_setup(NcQmp *qmp, bool background, json_t **ret_before, GError **error)
{
  nc_autojson json_t *before = nc_qemu_image_settings(qmp, error);
  g_autoptr(GError) refusal = NULL;

  if (!before)
    return false;
  bool ok = nc_set_capabilities(qmp, json_object_get(before, "capabilities"), false, background ? 1 : -1, &refusal);
  if (!ok && background)
    return nc_fail(error, NC_ERROR_UNSUITABLE, "a background snapshot is not possible here: %s", refusal->message);
  if (!ok) {
    g_propagate_error(error, g_steal_pointer(&refusal));
    return false;
  }
  if (!nc_set_max_bandwidth(qmp, NC_NO_LIMIT, error)) {
    nc_qemu_image_teardown(qmp, before, NULL);
    return false;
  }
  *ret_before = g_steal_pointer(&before);
  return true;
}

bool
nc_qemu_image_teardown(NcQmp *qmp, json_t *before, GError **error)
{
  nc_autojson json_t *all = nc_qmp_call(qmp, "query-migrate-capabilities", NULL, -1, NC_QMP_MS, error);
  int snapshot = -1; /* a QEMU that does not know it must not be asked */
  size_t i;
  json_t *entry;

  json_array_foreach(all, i, entry)
  {
    if (g_str_equal(nc_json_string_or(entry, "capability", ""), "background-snapshot"))
      snapshot = 0;
  }
  return all && nc_set_capabilities(qmp, json_object_get(before, "capabilities"), true, snapshot, error) &&
         nc_set_max_bandwidth(qmp, nc_json_int_or(before, "max_bandwidth", INT64_C(128) << 20), error);
}
