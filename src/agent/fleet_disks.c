/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fleet_disks.h"
#include "agent/disk_space.h"
#include "base/io.h"
#include "fleet/disk_room.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define NC_DISKS_MOST_BYTES ((uint64_t)1 << 50) /* controllers take no greater numbers */

/* --- file systems that several hosts may have mounted: the numbers of linux/magic.h, and of those that it leaves out
 * --- */

static const uint64_t nc_shared_file_systems[] = {
  0x6969,     /* NFS */
  0x517b,     /* SMB */
  0xff534d42, /* CIFS */
  0xfe534d42, /* SMB2 */
  0x00c36400, /* Ceph */
  0x65735546, /* FUSE: GlusterFS, virtiofs, sshfs */
  0x7461636f, /* OCFS2 */
  0x01161970, /* GFS2 */
  0x0bd00bd0, /* Lustre */
  0x5346414f, /* AFS */
  0x01021997, /* 9p */
  0x47504653, /* GPFS */
  0x19830326, /* BeeGFS */
  0x20030528, /* OrangeFS */
};

static bool
nc_disk_may_be_shared(const char *path)
{
  struct statfs fs;

  if (statfs(path, &fs) < 0)
    return false;
  for (size_t i = 0; i < G_N_ELEMENTS(nc_shared_file_systems); i++)
    if ((uint64_t)(uint32_t)fs.f_type == nc_shared_file_systems[i])
      return true;
  return false;
}

/* --- the head of a qcow2 image: https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.txt --- */

#define NC_QCOW2_MAGIC 0x514649fbu
#define NC_QCOW2_HEAD 4096u
#define NC_QCOW2_OLD_HEADER 72u /* of version 2, without extensions that count here */
#define NC_QCOW2_BACKING_FORMAT 0xe2792acau
#define NC_QCOW2_MOST_PATH 1023u

typedef struct {
  uint8_t bytes[NC_QCOW2_HEAD];
  uint64_t size_bytes;
  char *below; /* as the image names it; NULL: nothing is below it */
} NcImageHead;

static uint32_t
nc_head_u32(const NcImageHead *head, uint64_t at)
{
  uint32_t big;
  if (at + sizeof big > NC_QCOW2_HEAD)
    return 0;
  memcpy(&big, head->bytes + at, sizeof big);
  return GUINT32_FROM_BE(big);
}

static uint64_t
nc_head_u64(const NcImageHead *head, uint64_t at)
{
  return (uint64_t)nc_head_u32(head, at) << 32 | nc_head_u32(head, at + 4);
}

/* Only what is known to be qcow2 may be asked what is below it: in a raw image, the guest may write what it likes. */
static bool
nc_head_says_qcow2_below(const NcImageHead *head)
{
  uint64_t at = nc_head_u32(head, 4) == 2 ? NC_QCOW2_OLD_HEADER : nc_head_u32(head, 100);

  for (uint32_t type; (type = nc_head_u32(head, at)) != 0; at += 8 + ((uint64_t)nc_head_u32(head, at + 4) + 7) / 8 * 8)
    if (type == NC_QCOW2_BACKING_FORMAT)
      return nc_head_u32(head, at + 4) == 5 && at + 13 <= NC_QCOW2_HEAD &&
             memcmp(head->bytes + at + 8, "qcow2", 5) == 0;
  return false;
}

/* ${head}: zeroed; its ${below} is the caller's to free. */
static bool
nc_head_read(const char *path, NcImageHead *head)
{
  struct stat st;

  nc_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
      pread(fd, head->bytes, sizeof head->bytes, 0) < (ssize_t)NC_QCOW2_OLD_HEADER ||
      nc_head_u32(head, 0) != NC_QCOW2_MAGIC)
    return false;
  uint64_t at = nc_head_u64(head, 8);
  uint32_t length = nc_head_u32(head, 16);
  head->size_bytes = nc_head_u64(head, 24);
  if (at == 0 || length == 0 || length > NC_QCOW2_MOST_PATH || at > INT64_MAX)
    return true;
  head->below = g_malloc0(length + 1);
  if (pread(fd, head->below, length, (off_t)at) != (ssize_t)length)
    g_clear_pointer(&head->below, g_free);
  return true;
}

/* --- a machine's disks --- */

/* What ${path} takes on its file system; false: it is no file, or not there. */
static bool
nc_disk_used(const char *path, uint64_t *ret)
{
  struct stat st;

  if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
    return false;
  *ret = (uint64_t)st.st_blocks * 512;
  return true;
}

/* What the files below the qcow2 image ${path} take; *ret_size: of the disk. */
static uint64_t
nc_disk_used_below(const char *path, uint64_t *ret_size)
{
  g_autofree char *image = g_strdup(path);
  uint64_t sum = 0, used;
  bool is_qcow2 = true;

  for (unsigned depth = 0; is_qcow2 && depth < NC_DISK_CHAIN_MAX; depth++) {
    g_autofree NcImageHead *head = g_new0(NcImageHead, 1);
    is_qcow2 = nc_head_read(image, head);
    g_autofree char *below = g_steal_pointer(&head->below);
    if (is_qcow2 && depth == 0)
      *ret_size = head->size_bytes;
    if (!below)
      break;
    g_autofree char *directory = g_path_get_dirname(image);
    g_free(image);
    image = g_path_is_absolute(below) ? g_strdup(below) : g_build_filename(directory, below, NULL);
    if (!nc_disk_used(image, &used))
      break;
    sum += used;
    is_qcow2 = nc_head_says_qcow2_below(head);
  }
  return sum;
}

/* Of a disk of a machine's specification: what its copy needs. False: it is not copied. */
static bool
nc_disk_need(json_t *disk, NcDiskChain chain, uint64_t *ret_bytes)
{
  const char *path = nc_json_string_or(disk, "path", "");
  uint64_t used, size = 0;

  if (nc_json_bool_or(disk, "shared", false) || nc_json_bool_or(disk, "readonly", false) || !g_path_is_absolute(path) ||
      !nc_disk_used(path, &used) || nc_disk_may_be_shared(path))
    return false;
  if (chain == NC_CHAIN_FLATTEN && g_str_equal(nc_json_string_or(disk, "format", ""), "qcow2")) {
    uint64_t below = nc_disk_used_below(path, &size);
    used = below > 0 ? nc_disk_flat_bytes(used, below, size) : used;
  }
  *ret_bytes = nc_disk_needed_bytes(used);
  return true;
}

static void
nc_needs_add(json_t *needs, const char *directory, uint64_t bytes)
{
  json_t *need = nc_json_find(needs, "directory", directory);

  if (!need) {
    need = json_pack("{s:s}", "directory", directory);
    json_array_append_new(needs, need);
  }
  bytes += (uint64_t)nc_json_int_or(need, "bytes", 0);
  json_object_set_new(need, "bytes", json_integer((json_int_t)MIN(bytes, NC_DISKS_MOST_BYTES)));
}

json_t *
nc_fleet_disks_of_machine(json_t *spec, NcDiskChain chain)
{
  json_t *needs = json_array(), *disk;
  uint64_t bytes;
  size_t i;

  json_array_foreach(json_object_get(spec, "disks"), i, disk)
  {
    if (!nc_disk_need(disk, chain, &bytes))
      continue;
    g_autofree char *directory = g_path_get_dirname(nc_json_string_or(disk, "path", ""));
    if (nc_directory_is_countable(directory))
      nc_needs_add(needs, directory, bytes);
  }
  return needs;
}

/* --- the node --- */

/* One that is being told of. */
typedef struct {
  NcDiskSpace space;
  bool is_missing;
  json_t *directories; /* owned, until it is in the list */
  uint64_t arriving_bytes;
} NcToldFileSystem;

static void
nc_told_add(GArray *told, const char *directory)
{
  NcToldFileSystem new = { 0 };

  new.is_missing = !nc_disk_space_look(directory, &new.space);
  /* What is mounted read-only has no room, whatever else is on that file system. */
  for (guint i = 0; i < told->len && !new.is_missing && !new.space.is_readonly; i++) {
    NcToldFileSystem *fs = &g_array_index(told, NcToldFileSystem, i);
    if (fs->is_missing || fs->space.is_readonly || fs->space.device != new.space.device)
      continue;
    json_array_append_new(fs->directories, json_string(directory));
    return;
  }
  new.directories = json_pack("[s]", directory);
  g_array_append_val(told, new);
}

/* A disk of a machine that is on its way here has taken so much already. */
static void
nc_told_add_arriving(GArray *told, json_t *disk)
{
  const char *path = nc_json_string_or(disk, "path", "");
  struct stat st;

  if (nc_json_bool_or(disk, "shared", false) || nc_json_bool_or(disk, "readonly", false) || stat(path, &st) < 0 ||
      !S_ISREG(st.st_mode))
    return;
  for (guint i = 0; i < told->len; i++) {
    NcToldFileSystem *fs = &g_array_index(told, NcToldFileSystem, i);
    if (!fs->is_missing && !fs->space.is_readonly && fs->space.device == st.st_dev)
      fs->arriving_bytes += (uint64_t)st.st_blocks * 512;
  }
}

static void
nc_told_add_machine(GArray *told, json_t *view)
{
  json_t *disk;
  size_t i;

  if (!g_str_equal(nc_json_string_or(view, "right", ""), "incoming"))
    return;
  json_array_foreach(json_object_get(json_object_get(view, "spec"), "disks"), i, disk) nc_told_add_arriving(told, disk);
}

json_t *
nc_fleet_disks_of_node(json_t *directories, json_t *machines)
{
  g_autoptr(GArray) told = g_array_new(FALSE, FALSE, sizeof(NcToldFileSystem));
  json_t *list = json_array(), *directory, *view;
  size_t i;

  json_array_foreach(directories, i, directory)
  {
    if (i < NC_FLEET_MOST_DIRECTORIES && json_is_string(directory) && g_path_is_absolute(json_string_value(directory)))
      nc_told_add(told, json_string_value(directory));
  }
  json_array_foreach(machines, i, view) nc_told_add_machine(told, view);
  for (guint k = 0; k < told->len; k++) {
    const NcToldFileSystem *fs = &g_array_index(told, NcToldFileSystem, k);
    uint64_t free_bytes = fs->is_missing || fs->space.is_readonly ? 0 : MIN(fs->space.free_bytes, NC_DISKS_MOST_BYTES);
    json_array_append_new(list, json_pack("{s:o, s:I, s:I, s:b}", "directories", fs->directories, "free_bytes",
                                          (json_int_t)free_bytes, "arriving_bytes",
                                          (json_int_t)MIN(fs->arriving_bytes, NC_DISKS_MOST_BYTES), "is_missing",
                                          fs->is_missing));
  }
  return list;
}
