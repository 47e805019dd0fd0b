/* SPDX-License-Identifier: Apache-2.0 */
/* Room for disks: what nodes and machines say of it, in the database and in the model (fleet/disk_room.h). */
#include "controller/controller_internal.h"
#include "base/ident.h"
#include "base/log.h"
#include "fleet/disk_room.h"

#include <string.h>

#define NC_MOST_DISK_BYTES (INT64_C(1) << 50)

/* --- reading --- */

static bool
nc_is_directory(json_t *said)
{
  return json_is_string(said) && nc_directory_is_countable(json_string_value(said));
}

static bool
nc_are_bytes(json_t *said)
{
  return json_is_integer(said) && json_integer_value(said) >= 0 && json_integer_value(said) <= NC_MOST_DISK_BYTES;
}

bool
nc_are_disks(json_t *said, uint64_t *ret_bytes)
{
  size_t i;
  json_t *disk;

  *ret_bytes = 0;
  if (!json_is_array(said) || json_array_size(said) > NC_FLEET_MOST_DISKS)
    return false;
  json_array_foreach(said, i, disk)
  {
    json_t *bytes = json_object_get(disk, "bytes");
    if (!nc_is_directory(json_object_get(disk, "directory")) || !nc_are_bytes(bytes))
      return false;
    *ret_bytes += (uint64_t)json_integer_value(bytes);
  }
  return true;
}

unsigned
nc_needs_read(json_t *disks, NcDirectoryNeed ret[NC_FLEET_MOST_DISKS])
{
  unsigned count = 0;
  size_t i;
  json_t *disk;

  json_array_foreach(disks, i, disk)
  {
    const char *directory = nc_json_string_or(disk, "directory", NULL);
    if (directory && count < NC_FLEET_MOST_DISKS)
      ret[count++] = (NcDirectoryNeed){ directory, (uint64_t)MAX(nc_json_int_or(disk, "bytes", 0), 0) };
  }
  return count;
}

void
nc_told_disks_clear(NcToldDisks *told)
{
  for (unsigned i = 0; i < told->count; i++)
    g_free((gpointer)told->specs[i].directories);
  told->count = 0;
}

void
nc_told_disks_read(json_t *file_systems, NcToldDisks *ret)
{
  size_t i;
  json_t *entry;

  json_array_foreach(file_systems, i, entry)
  {
    if (!json_is_object(entry) || ret->count == NC_FLEET_MOST_DIRECTORIES)
      continue;
    ret->arriving_bytes[ret->count] = (uint64_t)MAX(nc_json_int_or(entry, "arriving_bytes", 0), 0);
    ret->specs[ret->count++] =
        (NcFileSystemSpec){ .directories = nc_texts(json_object_get(entry, "directories")),
                            .free_bytes = (uint64_t)MAX(nc_json_int_or(entry, "free_bytes", 0), 0),
                            .is_missing = nc_json_bool_or(entry, "is_missing", false) };
  }
}

static bool
nc_are_file_systems(json_t *said)
{
  size_t i, k, all = 0;
  json_t *entry, *directory;

  if (!json_is_array(said) || json_array_size(said) > NC_FLEET_MOST_DIRECTORIES)
    return false;
  json_array_foreach(said, i, entry)
  {
    json_t *directories = json_object_get(entry, "directories");
    all += json_array_size(directories);
    if (!json_is_array(directories) || all > NC_FLEET_MOST_DIRECTORIES ||
        !nc_are_bytes(json_object_get(entry, "free_bytes")) || !nc_are_bytes(json_object_get(entry, "arriving_bytes")))
      return false;
    json_array_foreach(directories, k, directory)
    {
      if (!nc_is_directory(directory))
        return false;
    }
  }
  return true;
}

NcRoom
nc_capacity_of(NcRoom room)
{
  if (room.disk_bytes == 0)
    room.disk_bytes = NC_ROOM_ANY_DISK;
  return room;
}

/* --- machines --- */

bool
nc_take_disks(NcController *c, uint32_t machine, const NcMachineRecord *record)
{
  const NcMachine *m = nc_fleet_machine(c->fleet, machine);
  NcDirectoryNeed disks[NC_FLEET_MOST_DISKS];
  unsigned count = nc_needs_read(record->disks, disks);

  if (!record->disks) /* its node does not know yet: what is known stays */
    return true;
  if (count == 0)
    return m->disk_count == 0 && m->need.disk_bytes == record->need.disk_bytes;
  if (nc_fleet_has_disks(c->fleet, machine, disks, count))
    return true;
  if (!nc_fleet_set_disks(c->fleet, machine, disks, count))
    return false;
  nc_queue_needs_changed(c->queue, machine);
  return true;
}

/* Once: what is left out goes on being so. */
static void
nc_tell_left_out(NcController *c)
{
  const char *left_out = nc_fleet_left_out(c->fleet);

  if (left_out && !c->told_left_out)
    nc_log(NC_LOG_WARNING, "controller",
           "room for disks is not reserved in %s, and perhaps in others: there are disks in more than %u directories of "
           "the fleet, or in more than %u that machines of one node are the first to have; keep them in fewer",
           left_out, NC_FLEET_MOST_DIRECTORIES, NC_FLEET_MOST_DIRECTORIES_OF_NODE);
  c->told_left_out |= left_out != NULL;
}

/* --- nodes --- */

json_t *
nc_controller_directories(const NcController *c)
{
  json_t *directories = json_array();

  for (unsigned i = 0; c->is_loaded && i < nc_fleet_directory_count(c->fleet); i++)
    json_array_append_new(directories, json_string(nc_fleet_directory_name(c->fleet, i)));
  return directories;
}

/* Which of the model's file systems ${spec} is; NC_FLEET_NONE: none, or it is another one now. *count: of its
 * directories. */
static uint32_t
nc_find_told(NcController *c, uint32_t node, const NcFileSystemSpec *spec, unsigned *count)
{
  const NcNode *n = nc_fleet_node(c->fleet, node);
  uint32_t found =
      spec->directories[0] ? nc_fleet_find_file_system(c->fleet, node, spec->directories[0]) : NC_FLEET_NONE;

  for (const char *const *directory = spec->directories; *directory; directory++, ++*count)
    if (nc_fleet_find_file_system(c->fleet, node, *directory) != found)
      return NC_FLEET_NONE;
  return found != NC_FLEET_NONE && n->file_systems[found].is_missing == spec->is_missing ? found : NC_FLEET_NONE;
}

static unsigned
nc_count_directories(const NcNode *n)
{
  unsigned count = 0;

  for (unsigned i = 0; n->on_file_system && i < NC_FLEET_MOST_DIRECTORIES; i++)
    count += n->on_file_system[i] > 0;
  return count;
}

/* Which is which, by ${told}'s order; false: the model has others, or is to have none. */
static bool
nc_match_told(NcController *c, uint32_t node, const NcToldDisks *told, uint32_t *ret)
{
  const NcNode *n = nc_fleet_node(c->fleet, node);
  bool is_taken[NC_FLEET_MOST_DIRECTORIES] = { false };
  unsigned count = 0;

  for (unsigned i = 0; i < told->count; i++) {
    ret[i] = nc_find_told(c, node, &told->specs[i], &count);
    if (ret[i] == NC_FLEET_NONE || is_taken[ret[i]])
      return false;
    is_taken[ret[i]] = true;
  }
  return told->count == n->file_system_count && count == nc_count_directories(n);
}

/* What is promised counts as free, as far as it is there already: then a promise does not count twice. */
static bool
nc_count_arriving(const NcNode *n, NcToldDisks *told, const uint32_t *which)
{
  bool is_news = false;

  for (unsigned i = 0; i < told->count; i++) {
    const NcFileSystem *fs = &n->file_systems[which[i]];
    told->specs[i].free_bytes += MIN(told->arriving_bytes[i], fs->promised_bytes);
    is_news |= nc_disk_bytes_are_news(fs->free_bytes, told->specs[i].free_bytes) ||
               nc_disk_bytes_are_news(fs->told_bytes, told->specs[i].free_bytes);
  }
  return is_news;
}

static json_t *
nc_told_disks_row(const NcToldDisks *told)
{
  json_t *row = json_array();

  for (unsigned i = 0; i < told->count; i++) {
    json_t *directories = json_array();
    for (const char *const *directory = told->specs[i].directories; *directory; directory++)
      json_array_append_new(directories, json_string(*directory));
    json_array_append_new(row,
                          json_pack("{s:o, s:I, s:b}", "directories", directories, "free_bytes",
                                    (json_int_t)told->specs[i].free_bytes, "is_missing", told->specs[i].is_missing));
  }
  return row;
}

typedef struct {
  const char *node;
  json_t *file_systems;
} NcDisksNews;

static bool
nc_write_file_systems(NcFleetDb *db, gpointer data, GError **error)
{
  const NcDisksNews *news = data;
  return nc_fleetdb_set_file_systems(db, news->node, news->file_systems, error);
}

bool
nc_controller_see_disks(NcController *c, const char *name, json_t *said, GError **error)
{
  g_auto(NcToldDisks) told = { 0 };
  uint32_t which[NC_FLEET_MOST_DIRECTORIES];

  if (!nc_controller_is_ready(c, error))
    return false;
  if (said && !nc_are_file_systems(said))
    return nc_fail(error, NC_ERROR_PROTOCOL, "node %s tells of file systems that are none", name);
  nc_tell_left_out(c);
  uint32_t node = nc_fleet_find_node(c->fleet, name);
  if (node == NC_FLEET_NONE || (said && json_array_size(said) == 0)) /* it was asked about none, or can't look */
    return true;
  nc_told_disks_read(said, &told);
  bool is_same = nc_match_told(c, node, &told, which);
  if (is_same && !nc_count_arriving(nc_fleet_node(c->fleet, node), &told, which))
    return true;
  nc_autojson json_t *row = nc_told_disks_row(&told);
  NcDisksNews news = { name, row };
  if (!nc_flush(c, nc_write_file_systems, &news, error))
    return false;
  for (unsigned i = 0; is_same && i < told.count; i++)
    nc_fleet_set_free_disk(c->fleet, node, which[i], told.specs[i].free_bytes);
  if (!is_same)
    nc_fleet_set_file_systems(c->fleet, node, told.specs, told.count);
  nc_queue_room_changed(c->queue, node);
  return true;
}
