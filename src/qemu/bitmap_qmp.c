/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu/bitmap_qmp.h"
#include "base/log.h"

#include <string.h>

#define NC_QMP_MS 10000
/* Not NC_CHECKPOINT_MARK alone: what is under way is thawed by that, and bitmaps stay. */
#define NC_BITMAP_MARK NC_CHECKPOINT_MARK "since-"
/* QEMU's default is the cluster of the image; a database writes less, but a small one costs memory. */
#define NC_BITMAP_GRANULARITY (64u << 10)

char *
nc_qemu_bitmap_name(const char *id)
{
  return g_strconcat(NC_BITMAP_MARK, id, NULL);
}

char *
nc_qemu_bitmap_export_name(unsigned index)
{
  return g_strdup_printf("changed-%u", index);
}

/* The description of ${node} in ${list}; NULL: none. Borrowed. */
static json_t *
nc_bitmaps_of(json_t *list, const char *node)
{
  return json_object_get(nc_json_find(list, "node-name", node), "dirty-bitmaps");
}

static json_t *
nc_bitmaps_query(NcQmp *qmp)
{
  return nc_qmp_call(qmp, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), -1, NC_QMP_MS, NULL);
}

char **
nc_qemu_bitmaps_list(NcQmp *qmp, const char *node)
{
  nc_autojson json_t *list = nc_bitmaps_query(qmp);
  GPtrArray *ids = g_ptr_array_new();
  size_t i;
  json_t *bitmap;

  json_array_foreach(nc_bitmaps_of(list, node), i, bitmap)
  {
    const char *name = nc_json_string_or(bitmap, "name", "");
    if (g_str_has_prefix(name, NC_BITMAP_MARK))
      g_ptr_array_add(ids, g_strdup(name + strlen(NC_BITMAP_MARK)));
  }
  g_ptr_array_add(ids, NULL);
  return (char **)g_ptr_array_free(ids, FALSE);
}

/* Exactly one of that name, recording, and not said to have missed anything. */
static bool
nc_bitmap_is_good(json_t *bitmaps, const char *name)
{
  unsigned found = 0, good = 0;
  size_t i;
  json_t *bitmap;

  json_array_foreach(bitmaps, i, bitmap)
  {
    if (!g_str_equal(nc_json_string_or(bitmap, "name", ""), name))
      continue;
    found++;
    good += nc_json_bool_or(bitmap, "recording", false) && !nc_json_bool_or(bitmap, "busy", true) &&
            !nc_json_bool_or(bitmap, "inconsistent", false) && !nc_json_bool_or(bitmap, "persistent", true);
  }
  return found == 1 && good == 1;
}

bool
nc_qemu_bitmaps_are_good(NcQmp *qmp, const NcFreezable *disks, size_t count, const char *id)
{
  nc_autojson json_t *list = nc_bitmaps_query(qmp);
  g_autofree char *name = nc_qemu_bitmap_name(id);

  for (size_t i = 0; i < count; i++)
    if (!nc_bitmap_is_good(nc_bitmaps_of(list, disks[i].node), name))
      return false;
  return list && count > 0;
}

bool
nc_qemu_bitmaps_turn(NcQmp *qmp, const NcFreezable *disks, size_t count, const char *before, const char *id, GError **error)
{
  g_autofree char *old = before ? nc_qemu_bitmap_name(before) : NULL, *new = nc_qemu_bitmap_name(id);
  json_t *actions = json_array();

  for (size_t i = 0; i < count; i++) {
    if (old)
      json_array_append_new(actions, json_pack("{s:s, s:{s:s, s:s}}", "type", "block-dirty-bitmap-disable", "data", "node", disks[i].node,
                                               "name", old));
    json_array_append_new(actions, json_pack("{s:s, s:{s:s, s:s, s:I}}", "type", "block-dirty-bitmap-add", "data", "node", disks[i].node,
                                             "name", new, "granularity", (json_int_t)NC_BITMAP_GRANULARITY));
  }
  return nc_qmp_do(qmp, "transaction", json_pack("{s:o}", "actions", actions), error);
}

bool
nc_qemu_bitmap_export(NcQmp *qmp, const NcFreezable *disk, unsigned index, const char *id, GError **error)
{
  g_autofree char *bitmap = nc_qemu_bitmap_name(id), *name = nc_qemu_bitmap_export_name(index);
  g_autofree char *export = g_strconcat(NC_CHECKPOINT_MARK, name, NULL);

  return nc_qmp_do(qmp, "block-export-add",
                   json_pack("{s:s, s:s, s:s, s:s, s:[s]}", "type", "nbd", "id", export, "node-name", disk->node, "name", name, "bitmaps",
                             bitmap),
                   error);
}

void
nc_qemu_bitmaps_drop(NcQmp *qmp, const NcFreezable *disks, size_t count, const char *keep)
{
  nc_autojson json_t *list = nc_bitmaps_query(qmp);
  g_autofree char *kept = keep ? nc_qemu_bitmap_name(keep) : NULL;

  for (size_t i = 0; i < count; i++) {
    size_t n;
    json_t *bitmap;
    json_array_foreach(nc_bitmaps_of(list, disks[i].node), n, bitmap)
    {
      g_autoptr(GError) error = NULL;
      const char *name = nc_json_string_or(bitmap, "name", "");
      if (!g_str_has_prefix(name, NC_BITMAP_MARK) || g_strcmp0(name, kept) == 0)
        continue;
      if (!nc_qmp_do(qmp, "block-dirty-bitmap-remove", json_pack("{s:s, s:s}", "node", disks[i].node, "name", name), &error))
        nc_log(NC_LOG_WARNING, "qemu", "the bitmap %s of %s stays: %s", name, disks[i].node, error->message);
    }
  }
}
