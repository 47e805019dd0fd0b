/* SPDX-License-Identifier: Apache-2.0 */
/* File systems by directory. All of it is bounded by the constants of inventory.h, whatever the fleet's size. */
#include "fleet/disk_room.h"
#include "fleet/inventory_internal.h"

#include <string.h>

G_STATIC_ASSERT(NC_FLEET_MOST_DIRECTORIES < UINT8_MAX);
#define NC_DISK_NEWS_BYTES ((uint64_t)32 << 20)
#define NC_DISK_NEWS_SHARE 32u

/* --- directories --- */

static uint32_t
nc_fleet_find_directory(const NcFleet *f, const char *directory)
{
  for (guint i = 0; i < f->directories->len; i++)
    if (g_str_equal(f->directories->pdata[i], directory))
      return i;
  return NC_FLEET_NONE;
}

bool
nc_directory_is_countable(const char *directory)
{
  const char *at = directory;

  while (*at && !g_ascii_iscntrl(*at))
    at++;
  return directory[0] == '/' && !*at && at - directory <= NC_FLEET_MOST_DIRECTORY_BYTES;
}

static bool
nc_fleet_may_bring(const NcFleet *f, const char *node)
{
  unsigned count = 0;

  for (guint i = 0; i < f->bringers->len; i++)
    count += g_str_equal(f->bringers->pdata[i], node);
  return f->directories->len < NC_FLEET_MOST_DIRECTORIES && count < NC_FLEET_MOST_DIRECTORIES_OF_NODE;
}

uint32_t
nc_fleet_know_directory(NcFleet *f, const char *node, const char *directory)
{
  uint32_t number = nc_fleet_find_directory(f, directory);

  if (number != NC_FLEET_NONE)
    return number;
  if (!nc_fleet_may_bring(f, node)) {
    if (!f->left_out)
      f->left_out = g_strdup_printf("%s on node %s", directory, node);
    return NC_FLEET_NONE;
  }
  g_ptr_array_add(f->directories, g_strdup(directory));
  g_ptr_array_add(f->bringers, g_strdup(node));
  return f->directories->len - 1;
}

const char *
nc_fleet_left_out(const NcFleet *f)
{
  return f->left_out;
}

unsigned
nc_fleet_directory_count(const NcFleet *f)
{
  return f->directories->len;
}

const char *
nc_fleet_directory_name(const NcFleet *f, uint32_t directory)
{
  return f->directories->pdata[directory];
}

/* NC_FLEET_NONE: it has not said. */
static uint32_t
nc_disks_where(const NcNode *n, uint32_t directory)
{
  unsigned number = n->on_file_system ? n->on_file_system[directory] : 0;
  return number > 0 ? number - 1 : NC_FLEET_NONE;
}

uint32_t
nc_fleet_find_file_system(const NcFleet *f, uint32_t node, const char *directory)
{
  uint32_t number = nc_fleet_find_directory(f, directory);
  return number != NC_FLEET_NONE ? nc_disks_where(nc_fleet_node(f, node), number) : NC_FLEET_NONE;
}

/* --- what nodes and machines say --- */

static void
nc_disks_add_file_system(NcFleet *f, const NcFileSystemSpec *spec, NcNode *node)
{
  bool is_known = false;

  for (const char *const *name = spec->directories; name && *name; name++) {
    uint32_t directory = nc_fleet_find_directory(f, *name);
    if (directory == NC_FLEET_NONE || node->on_file_system[directory] > 0)
      continue;
    node->on_file_system[directory] = (uint8_t)(node->file_system_count + 1);
    is_known = true;
  }
  if (!is_known)
    return;
  node->file_systems[node->file_system_count++] = (NcFileSystem){ .free_bytes = MIN(spec->free_bytes, NC_ROOM_ANY_DISK),
                                                                  .told_bytes = MIN(spec->free_bytes, NC_ROOM_ANY_DISK),
                                                                  .is_missing = spec->is_missing };
}

void
nc_disks_of_node(NcFleet *f, const NcFileSystemSpec *specs, unsigned count, NcNode *node)
{
  if (count == 0 || f->directories->len == 0)
    return;
  node->file_systems = g_new0(NcFileSystem, MIN(count, NC_FLEET_MOST_DIRECTORIES));
  node->on_file_system = g_new0(uint8_t, NC_FLEET_MOST_DIRECTORIES);
  for (unsigned i = 0; i < count && i < NC_FLEET_MOST_DIRECTORIES; i++)
    nc_disks_add_file_system(f, &specs[i], node);
}

/* Those of a machine on ${node} that are counted, each directory once; how many. */
static unsigned
nc_disks_sum_up(NcFleet *f, uint32_t node, const NcDirectoryNeed *disks, unsigned count, NcDiskNeed *ret)
{
  const char *name = nc_fleet_node(f, node)->name;
  unsigned sums = 0;

  for (unsigned i = 0; i < count; i++) {
    uint32_t directory = nc_fleet_know_directory(f, name, disks[i].directory);
    unsigned at = 0;
    while (at < sums && ret[at].directory != directory)
      at++;
    if (directory == NC_FLEET_NONE || (at == sums && sums == NC_FLEET_MOST_DISKS))
      continue;
    if (at == sums)
      ret[sums++] = (NcDiskNeed){ .directory = directory };
    ret[at].bytes = MIN(ret[at].bytes + MIN(disks[i].bytes, NC_ROOM_ANY_DISK), NC_ROOM_ANY_DISK / NC_FLEET_MOST_DISKS);
  }
  return sums;
}

void
nc_disks_of_machine(NcFleet *f, const NcDirectoryNeed *disks, unsigned count, NcMachine *machine)
{
  NcDiskNeed sums[NC_FLEET_MOST_DISKS];

  if (count == 0)
    return;
  machine->disk_count = nc_disks_sum_up(f, machine->node, disks, count, sums);
  machine->disks = machine->disk_count > 0 ? g_memdup2(sums, machine->disk_count * sizeof sums[0]) : NULL;
  machine->need.disk_bytes = 0;
  for (unsigned i = 0; i < machine->disk_count; i++)
    machine->need.disk_bytes += machine->disks[i].bytes;
}

/* --- room --- */

static uint64_t
nc_disks_left(const NcFileSystem *fs)
{
  return fs->free_bytes - MIN(fs->free_bytes, fs->promised_bytes);
}

uint64_t
nc_disks_free(const NcNode *n)
{
  uint64_t sum = 0;

  for (unsigned i = 0; i < n->file_system_count; i++)
    sum = MIN(sum + nc_disks_left(&n->file_systems[i]), NC_ROOM_ANY_DISK);
  return sum;
}

/* What ${m} needs on ${file_system} of ${n}. */
static uint64_t
nc_disks_need_on(const NcMachine *m, const NcNode *n, uint32_t file_system)
{
  uint64_t sum = 0;

  for (unsigned i = 0; i < m->disk_count; i++)
    if (nc_disks_where(n, m->disks[i].directory) == file_system)
      sum += m->disks[i].bytes;
  return sum;
}

bool
nc_fleet_has_disk_room(const NcFleet *f, uint32_t machine, uint32_t node, NcDiskLack *ret)
{
  const NcMachine *m = nc_fleet_machine(f, machine);
  const NcNode *n = nc_fleet_node(f, node);

  for (unsigned i = 0; n->file_system_count > 0 && i < m->disk_count; i++) {
    uint32_t where = nc_disks_where(n, m->disks[i].directory);
    bool is_unknown = where == NC_FLEET_NONE, is_missing = !is_unknown && n->file_systems[where].is_missing;
    uint64_t need_bytes = is_unknown ? m->disks[i].bytes : nc_disks_need_on(m, n, where);
    uint64_t free_bytes = is_unknown ? 0 : nc_disks_left(&n->file_systems[where]);
    if (!is_unknown && !is_missing && need_bytes <= free_bytes)
      continue;
    if (ret)
      *ret = (NcDiskLack){ m->disks[i].directory, is_unknown, is_missing, need_bytes, free_bytes };
    return false;
  }
  return true;
}

typedef void (*NcDisksFunc)(NcFileSystem *fs, uint64_t bytes);

static void
nc_disks_do(const NcMachine *m, NcNode *n, NcDisksFunc func)
{
  for (unsigned i = 0; i < m->disk_count; i++) {
    uint32_t where = nc_disks_where(n, m->disks[i].directory);
    if (where != NC_FLEET_NONE)
      func(&n->file_systems[where], m->disks[i].bytes);
  }
}

static void
nc_disks_change(NcFleet *f, uint32_t machine, uint32_t node, NcDisksFunc func)
{
  const NcMachine *m = nc_fleet_machine(f, machine);
  NcNode *n = nc_fleet_node_mutable(f, node);

  if (m->disk_count == 0 || n->file_system_count == 0)
    return;
  nc_fleet_unindex(f, node);
  nc_disks_do(m, n, func);
  nc_fleet_index(f, node);
}

static void
nc_file_system_promise(NcFileSystem *fs, uint64_t bytes)
{
  fs->promised_bytes += bytes;
}

static void
nc_file_system_release(NcFileSystem *fs, uint64_t bytes)
{
  fs->promised_bytes -= MIN(bytes, fs->promised_bytes);
}

static void
nc_file_system_settle(NcFileSystem *fs, uint64_t bytes)
{
  nc_file_system_release(fs, bytes);
  fs->free_bytes -= MIN(bytes, fs->free_bytes);
}

void
nc_disks_promise(NcFleet *f, uint32_t machine, uint32_t node)
{
  nc_disks_change(f, machine, node, nc_file_system_promise);
}

void
nc_disks_release(NcFleet *f, uint32_t machine, uint32_t node)
{
  nc_disks_change(f, machine, node, nc_file_system_release);
}

void
nc_disks_settle(NcFleet *f, uint32_t machine, uint32_t node)
{
  nc_disks_change(f, machine, node, nc_file_system_settle);
}

/* --- news --- */

bool
nc_disk_bytes_are_news(uint64_t before_bytes, uint64_t now_bytes)
{
  uint64_t difference = before_bytes > now_bytes ? before_bytes - now_bytes : now_bytes - before_bytes;
  return difference >= MAX(NC_DISK_NEWS_BYTES, MIN(before_bytes, now_bytes) / NC_DISK_NEWS_SHARE);
}

void
nc_fleet_set_file_systems(NcFleet *f, uint32_t node, const NcFileSystemSpec *specs, unsigned count)
{
  NcNode *n = nc_fleet_node_mutable(f, node);

  nc_fleet_unindex(f, node);
  g_clear_pointer(&n->file_systems, g_free);
  g_clear_pointer(&n->on_file_system, g_free);
  n->file_system_count = 0;
  nc_disks_of_node(f, specs, count, n);
  n->used.disk_bytes = 0; /* what is promised, and what is counted if it tells of none */
  for (guint i = 0; i < f->machines->len; i++) {
    const NcMachine *m = nc_fleet_machine(f, i);
    if (m->node == node)
      n->used.disk_bytes += nc_fleet_share(f, node, &m->need).disk_bytes;
    if (m->reserved != node)
      continue;
    n->used.disk_bytes += nc_fleet_share(f, node, &m->need).disk_bytes;
    nc_disks_do(m, n, nc_file_system_promise);
  }
  n->capacity.disk_bytes = MAX(n->capacity.disk_bytes, n->used.disk_bytes);
  nc_fleet_index(f, node);
}

void
nc_fleet_set_free_disk(NcFleet *f, uint32_t node, unsigned file_system, uint64_t free_bytes)
{
  NcFileSystem *fs = &nc_fleet_node_mutable(f, node)->file_systems[file_system];

  nc_fleet_unindex(f, node);
  fs->free_bytes = fs->told_bytes = MIN(free_bytes, NC_ROOM_ANY_DISK);
  nc_fleet_index(f, node);
}

bool
nc_fleet_has_disks(NcFleet *f, uint32_t machine, const NcDirectoryNeed *disks, unsigned count)
{
  const NcMachine *m = nc_fleet_machine(f, machine);
  NcDiskNeed sums[NC_FLEET_MOST_DISKS];
  unsigned sum_count = nc_disks_sum_up(f, m->node, disks, count, sums);

  if (sum_count != m->disk_count)
    return false;
  for (unsigned i = 0; i < sum_count; i++)
    if (sums[i].directory != m->disks[i].directory || sums[i].bytes != m->disks[i].bytes)
      return false;
  return true;
}

/* Where ${node} says how much disk it has in all, ${m}'s part of that becomes ${bytes}. */
static bool
nc_disks_would_fit(const NcFleet *f, const NcMachine *m, uint32_t node, uint64_t bytes)
{
  const NcNode *n = node != NC_FLEET_NONE ? nc_fleet_node(f, node) : NULL;
  return !n || n->file_system_count > 0 || bytes <= n->capacity.disk_bytes - (n->used.disk_bytes - m->need.disk_bytes);
}

static void
nc_disks_recount(NcFleet *f, const NcMachine *m, uint32_t node, uint64_t bytes)
{
  if (node == NC_FLEET_NONE || nc_fleet_node(f, node)->file_system_count > 0)
    return;
  nc_fleet_unindex(f, node);
  nc_fleet_node_mutable(f, node)->used.disk_bytes += bytes - m->need.disk_bytes;
  nc_fleet_index(f, node);
}

bool
nc_fleet_set_disks(NcFleet *f, uint32_t machine, const NcDirectoryNeed *disks, unsigned count)
{
  NcMachine *m = nc_fleet_machine_mutable(f, machine);
  NcMachine changed = { .need = m->need, .node = m->node };

  nc_disks_of_machine(f, disks, count, &changed);
  if (!nc_disks_would_fit(f, m, m->node, changed.need.disk_bytes) ||
      !nc_disks_would_fit(f, m, m->reserved, changed.need.disk_bytes)) {
    g_free(changed.disks);
    return false;
  }
  nc_disks_recount(f, m, m->node, changed.need.disk_bytes);
  nc_disks_recount(f, m, m->reserved, changed.need.disk_bytes);
  if (m->reserved != NC_FLEET_NONE)
    nc_disks_release(f, machine, m->reserved);
  g_free(m->disks);
  m->need = changed.need;
  m->disks = changed.disks;
  m->disk_count = changed.disk_count;
  if (m->reserved != NC_FLEET_NONE)
    nc_disks_promise(f, machine, m->reserved);
  return true;
}
