/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/disk_offer.h"
#include "agent/disk_space.h"
#include "base/bytes.h"
#include "base/ident.h"
#include "base/io.h"
#include "crypto/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NC_MARKER_PREFIX ".novacron-same-"
#define NC_TOKEN_BYTES 16
#define NC_DISK_SIZE_MAX (INT64_C(1) << 60)

static void
nc_disk_offer_free(NcDiskOffer *o)
{
  g_free(o->name);
  g_free(o->path);
  g_free(o->format);
  g_free(o->marker);
  g_free(o->token);
  g_free(o->problem);
  g_free(o->node);
  g_free(o->device);
  g_clear_pointer(&o->backing, g_ptr_array_unref);
  g_free(o);
}

static GPtrArray *
nc_disk_offers_empty(void)
{
  return g_ptr_array_new_with_free_func((GDestroyNotify)nc_disk_offer_free);
}

static char *
nc_disk_offer_sibling(const NcDiskOffer *o, const char *name)
{
  g_autofree char *directory = g_path_get_dirname(o->path);
  return g_build_filename(directory, name, NULL);
}

/* --- the source --- */

static char *
nc_disk_random_hex(void)
{
  uint8_t bytes[NC_TOKEN_BYTES];
  nc_random_bytes(bytes, sizeof bytes);
  return nc_hex_encode(bytes, sizeof bytes);
}

/* Without it (a directory that may not be written) nothing can be proved, and the destination says so. */
static void
nc_disk_offer_begin_proof(NcDiskOffer *o)
{
  g_autofree char *random = nc_disk_random_hex();
  g_autofree char *name = g_strconcat(NC_MARKER_PREFIX, random, NULL);
  g_autofree char *path = nc_disk_offer_sibling(o, name);
  g_autofree char *token = nc_disk_random_hex();

  nc_autofd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  bool made = fd >= 0 && nc_write_all(fd, token, strlen(token), NULL) && fsync(fd) == 0;
  if (fd >= 0 && !made)
    unlink(path);
  o->marker = g_strdup(made ? name : "");
  o->token = g_strdup(made ? token : "");
}

void
nc_disk_offers_end_proof(GPtrArray *offers)
{
  for (guint i = 0; offers && i < offers->len; i++) {
    NcDiskOffer *o = offers->pdata[i];
    if (o->marker[0] == '\0')
      continue;
    g_autofree char *path = nc_disk_offer_sibling(o, o->marker);
    unlink(path);
    o->marker[0] = '\0';
  }
}

/* What is below it comes along, or stays where it is. */
static void
nc_disk_offer_look_below(NcDiskOffer *o, const NcQemuDisk *disk, const NcDiskLook *look)
{
  g_autoptr(GPtrArray) files = nc_backing_files_new();
  g_autoptr(GError) error = NULL;

  for (guint i = 0; i < disk->backing->len; i++) {
    const NcQemuBacking *below = disk->backing->pdata[i];
    nc_backing_files_add(files, below->path, below->format);
  }
  uint64_t used = nc_backing_files_used(files);
  if (!disk->has_backing || look->chain == NC_CHAIN_FLATTEN) {
    o->used_bytes = nc_disk_flat_bytes(o->used_bytes, used, o->size_bytes);
    return;
  }
  o->chain = look->chain;
  g_ptr_array_unref(o->backing);
  o->backing = g_ptr_array_ref(files);
  bool digest = look->chain == NC_CHAIN_KEEP && used <= look->compare_bytes;
  if (files->len == 0)
    o->problem = g_strdup("QEMU does not say what its backing files are: move without --keep-chain");
  else if (!nc_backing_files_look(files, digest, look->cancelled, &error))
    o->problem = g_strdup_printf("its backing chain can't be kept at the source: %s: move without --keep-chain, then its content goes along",
                                 error->message);
}

static void
nc_disk_offer_ask_qemu(NcDiskOffer *o, NcQmp *qmp, const NcDiskLook *look)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcQemuDisk) disk = nc_qemu_disk_find(qmp, o->path, &error);

  if (!disk) {
    o->problem = g_strdup(error->message);
    return;
  }
  o->node = g_strdup(disk->node);
  o->device = g_strdup(disk->device);
  o->size_bytes = disk->size_bytes;
  o->used_bytes = disk->used_bytes;
  o->cluster_bytes = disk->cluster_bytes;
  o->has_backing = disk->has_backing;
  o->is_limited = disk->is_limited;
  if (disk->is_encrypted)
    o->problem = g_strdup("it is encrypted by QEMU, whose key does not travel");
  else if (!g_str_equal(disk->format, "raw") && !g_str_equal(disk->format, "qcow2"))
    o->problem = g_strdup_printf("its format is %s; raw and qcow2 can be copied", disk->format);
  else if (!g_str_equal(disk->format, o->format))
    o->problem = g_strdup_printf("QEMU has it open as %s, and the machine's file says %s", disk->format, o->format);
  else if (disk->node[0] == '\0' || disk->node[0] == '#')
    o->problem = g_strdup("it has no node-name on QEMU's command line");
  else
    nc_disk_offer_look_below(o, disk, look);
}

static NcDiskOffer *
nc_disk_offer_new(const NcDiskSpec *disk, unsigned index, NcQmp *qmp, const NcDiskLook *look)
{
  NcDiskOffer *o = g_new0(NcDiskOffer, 1);
  struct stat st;

  o->index = index;
  o->name = g_strdup(disk->name);
  o->path = g_strdup(disk->path);
  o->format = g_strdup(disk->format);
  o->backing = nc_backing_files_new();
  nc_disk_offer_ask_qemu(o, qmp, look);
  nc_disk_offer_begin_proof(o);
  if (stat(disk->path, &st) < 0) {
    if (!o->problem)
      o->problem = g_strdup_printf("%s at the source: %s", disk->path, g_strerror(errno));
    return o;
  }
  o->mode = st.st_mode & 07777;
  o->uid = st.st_uid;
  o->gid = st.st_gid;
  o->inode = st.st_ino;
  if (!S_ISREG(st.st_mode) && !o->problem)
    o->problem = g_strdup("it is a device, and only files can be copied");
  return o;
}

GPtrArray *
nc_disk_offers_new(const NcMachineSpec *spec, NcQmp *qmp, const NcDiskLook *look)
{
  GPtrArray *offers = nc_disk_offers_empty();

  for (guint i = 0; i < spec->disks->len; i++) {
    const NcDiskSpec *disk = spec->disks->pdata[i];
    if (!disk->shared && !disk->readonly)
      g_ptr_array_add(offers, nc_disk_offer_new(disk, i, qmp, look));
  }
  return offers;
}

uint64_t
nc_disk_offers_compared_bytes(GPtrArray *offers)
{
  uint64_t sum = 0;

  for (guint i = 0; i < offers->len; i++) {
    const NcDiskOffer *o = offers->pdata[i];
    if (o->chain == NC_CHAIN_KEEP)
      sum += nc_backing_files_used(o->backing);
  }
  return sum;
}

json_t *
nc_disk_offers_to_json(GPtrArray *offers)
{
  json_t *list = json_array();

  for (guint i = 0; i < offers->len; i++) {
    const NcDiskOffer *o = offers->pdata[i];
    json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:i, s:I, s:I, s:I, s:s, s:s, s:s?}", "name", o->name, "path", o->path,
                                          "format", o->format, "size", (json_int_t)o->size_bytes, "used", (json_int_t)o->used_bytes, "cluster",
                                          (json_int_t)o->cluster_bytes, "mode", (int)o->mode, "uid", (json_int_t)o->uid, "gid",
                                          (json_int_t)o->gid, "inode", (json_int_t)o->inode, "marker", o->marker, "token", o->token, "problem",
                                          o->problem));
    if (o->chain == NC_CHAIN_FLATTEN || o->problem)
      continue;
    json_t *json = json_array_get(list, json_array_size(list) - 1);
    json_object_set_new(json, "chain", json_string(nc_disk_chain_name(o->chain)));
    json_object_set_new(json, "backing", nc_backing_files_to_json(o->backing));
  }
  return list;
}

/* --- the destination --- */

static const NcDiskSpec *
nc_disk_spec_find(const NcMachineSpec *spec, const char *name, unsigned *ret_index)
{
  for (guint i = 0; i < spec->disks->len; i++) {
    const NcDiskSpec *disk = spec->disks->pdata[i];
    *ret_index = i;
    if (g_str_equal(disk->name, name))
      return disk;
  }
  return NULL;
}

/* A name in a directory, and one of ours. */
static bool
nc_marker_is_valid(const char *marker)
{
  size_t prefix = strlen(NC_MARKER_PREFIX);
  uint8_t bytes[NC_TOKEN_BYTES];

  return marker[0] == '\0' || (g_str_has_prefix(marker, NC_MARKER_PREFIX) && nc_hex_decode(marker + prefix, bytes, sizeof bytes));
}

static bool
nc_disk_offer_read_chain(json_t *json, NcDiskOffer *o, GError **error)
{
  json_t *chain = json_object_get(json, "chain");

  o->backing = nc_backing_files_from_json(json_object_get(json, "backing"), error);
  if (!o->backing)
    return false;
  if (chain && !nc_disk_chain_from_name(json_string_value(chain), &o->chain))
    return nc_fail(error, NC_ERROR_PROTOCOL, "the disk %s comes with a backing chain of an unknown kind", o->name);
  if ((o->chain != NC_CHAIN_FLATTEN) != (o->backing->len > 0))
    return nc_fail(error, NC_ERROR_PROTOCOL, "the disk %s comes with half a backing chain", o->name);
  return true;
}

static bool
nc_disk_offer_read(json_t *json, const NcMachineSpec *spec, NcDiskOffer *o, GError **error)
{
  int64_t size, used, cluster, mode, uid, gid, inode;
  const char *name = nc_json_string(json, "name", error), *path = name ? nc_json_string(json, "path", error) : NULL;
  const char *marker = path ? nc_json_string(json, "marker", error) : NULL, *token = marker ? nc_json_string(json, "token", error) : NULL;

  if (!token || !nc_json_int(json, "size", 0, NC_DISK_SIZE_MAX, &size, error) || !nc_json_int(json, "used", 0, NC_DISK_SIZE_MAX, &used, error) ||
      !nc_json_int(json, "cluster", 0, 64 << 20, &cluster, error) || !nc_json_int(json, "mode", 0, 07777, &mode, error) ||
      !nc_json_int(json, "uid", 0, G_MAXUINT32 - 1, &uid, error) || !nc_json_int(json, "gid", 0, G_MAXUINT32 - 1, &gid, error) ||
      !nc_json_int(json, "inode", G_MININT64, G_MAXINT64, &inode, error))
    return false;
  const NcDiskSpec *disk = nc_disk_spec_find(spec, name, &o->index);
  if (!disk || disk->readonly || disk->shared || !g_str_equal(disk->path, path) || !g_path_is_absolute(path))
    return nc_fail(error, NC_ERROR_PROTOCOL, "the disk %.64s that is offered is not one of the machine's", name);
  if (!nc_marker_is_valid(marker))
    return nc_fail(error, NC_ERROR_PROTOCOL, "the disk %s comes with a marker that is none", name);
  o->name = g_strdup(name);
  o->path = g_strdup(path);
  o->format = g_strdup(disk->format);
  o->marker = g_strdup(marker);
  o->token = g_strdup(token);
  o->problem = g_strdup(nc_json_string_or(json, "problem", NULL));
  o->size_bytes = (uint64_t)size;
  o->used_bytes = (uint64_t)used;
  o->cluster_bytes = (uint32_t)cluster;
  o->mode = (mode_t)mode;
  o->uid = (uid_t)uid;
  o->gid = (gid_t)gid;
  o->inode = (uint64_t)inode;
  o->copy = nc_json_bool_or(json, "copy", false);
  return nc_disk_offer_read_chain(json, o, error);
}

GPtrArray *
nc_disk_offers_from_json(json_t *json, const NcMachineSpec *spec, GError **error)
{
  g_autoptr(GPtrArray) offers = nc_disk_offers_empty();
  size_t i;
  json_t *entry;

  if (json_array_size(json) > NC_SPEC_DEVICES_MAX) {
    nc_fail(error, NC_ERROR_PROTOCOL, "%zu disks are offered", json_array_size(json));
    return NULL;
  }
  json_array_foreach(json, i, entry)
  {
    NcDiskOffer *o = g_new0(NcDiskOffer, 1);
    g_ptr_array_add(offers, o);
    if (!nc_disk_offer_read(entry, spec, o, error))
      return NULL;
    for (guint n = 0; n + 1 < offers->len; n++)
      if (((NcDiskOffer *)offers->pdata[n])->index == o->index) {
        nc_fail(error, NC_ERROR_PROTOCOL, "the disk %s is offered twice", o->name);
        return NULL;
      }
  }
  return g_steal_pointer(&offers);
}

static bool
nc_disk_offer_is_same(const NcDiskOffer *o, const struct stat *here)
{
  if (o->marker[0] == '\0' || (uint64_t)here->st_ino != o->inode)
    return false;
  g_autofree char *path = nc_disk_offer_sibling(o, o->marker);
  g_autofree char *text = nc_file_read(path, 4 * NC_TOKEN_BYTES, NULL, NULL);
  return text && o->token[0] && g_str_equal(text, o->token);
}

/* ${taken}: bytes that disks before this one need, by file system (dev_t as pointer -> uint64_t). */
static void
nc_disk_offer_check_room(NcDiskOffer *o, GHashTable *taken, json_t *checks)
{
  g_autofree char *directory = g_path_get_dirname(o->path);
  NcDiskSpace space;

  if (!nc_disk_space_look(directory, &space)) {
    nc_check_add(checks, "disk", NC_CHECK_FAILED, "make the directory, or mount what belongs there", "disk %s: there is no directory %s", o->name,
                 directory);
    return;
  }
  uint64_t *sum = g_hash_table_lookup(taken, GSIZE_TO_POINTER(space.device));
  if (!sum) {
    sum = g_new0(uint64_t, 1);
    g_hash_table_insert(taken, GSIZE_TO_POINTER(space.device), sum);
  }
  *sum += nc_disk_needed_bytes(o->used_bytes);
  if (space.is_readonly)
    nc_check_add(checks, "disk", NC_CHECK_FAILED, "mount it read-write", "disk %s: %s is mounted read-only", o->name, directory);
  else if (*sum > space.free_bytes)
    nc_check_add(checks, "disk", NC_CHECK_FAILED, "free some space there",
                 "disk %s: not enough space in %s: %" G_GUINT64_FORMAT " MiB are needed and %" G_GUINT64_FORMAT " MiB are free", o->name, directory,
                 *sum >> 20, space.free_bytes >> 20);
  else
    nc_check_add(checks, "disk", NC_CHECK_OK, NULL, "%s: to be copied, %" G_GUINT64_FORMAT " MiB of %" G_GUINT64_FORMAT " MiB free", o->path,
                 o->used_bytes >> 20, space.free_bytes >> 20);
}

static void
nc_disk_offer_judge(NcDiskOffer *o, GHashTable *taken, json_t *checks)
{
  struct stat here;
  bool exists = stat(o->path, &here) == 0;

  o->copy = false;
  if (exists && nc_disk_offer_is_same(o, &here)) {
    nc_check_add(checks, "disk", NC_CHECK_OK, NULL, "%s: the same file on both nodes", o->path);
  } else if (exists) {
    nc_check_add(checks, "disk", NC_CHECK_FAILED, "move it away; if it is the same as the source's, say shared = yes for this disk",
                 "disk %s: %s exists there and is not seen to be the source's; it is not overwritten", o->name, o->path);
  } else if (o->problem) {
    nc_check_add(checks, "disk", NC_CHECK_FAILED, "put it on shared storage", "disk %s: %s is not there, and it can't be copied: %s", o->name,
                 o->path, o->problem);
  } else {
    o->copy = true;
    nc_backing_files_judge(o->backing, o->chain, o->name, checks);
    nc_disk_offer_check_room(o, taken, checks);
  }
}

void
nc_disk_offers_judge(GPtrArray *offers, json_t *checks)
{
  g_autoptr(GHashTable) taken = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, g_free);

  for (guint i = 0; i < offers->len; i++)
    nc_disk_offer_judge(offers->pdata[i], taken, checks);
}

void
nc_disk_offers_strip(GPtrArray *offers, NcMachineSpec *spec)
{
  for (guint i = 0; i < offers->len; i++) {
    unsigned index;
    const NcDiskSpec *disk = nc_disk_spec_find(spec, ((NcDiskOffer *)offers->pdata[i])->name, &index);
    if (disk)
      g_ptr_array_remove_index(spec->disks, index);
  }
}
