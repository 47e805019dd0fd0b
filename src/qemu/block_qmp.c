/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu/block_qmp.h"
#include "base/ident.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define NC_BLOCK_MS 10000
#define NC_ATTACH_MS 30000 /* some round trips, of a path that may just be busy */
#define NC_MIRROR_JOB "nc-mirror-"
#define NC_MIRROR_NODE "nc-target-"
/*
 * What QEMU has under way to the target: the bandwidth-delay product of 1 Gbit/s at 40 ms at a ratio of 3. It bounds also what QEMU
 * waits for when it stops the guest.
 */
#define NC_MIRROR_BUFFER_BYTES (16u << 20)
/* A database writes 4 to 16 KiB: with QEMU's default, 64 KiB, each write sends up to sixteen times that. */
#define NC_MIRROR_GRANULARITY (16u << 10)
#define NC_MIRROR_LARGE_BYTES (UINT64_C(1) << 40) /* from here on the default: its bitmap would take 8 MiB more */
#define NC_CLEAN_UP_US 10000000
#define NC_CLEAN_UP_POLL_US 5000

static char *
nc_mirror_job(unsigned index)
{
  return g_strdup_printf(NC_MIRROR_JOB "%u", index);
}

static char *
nc_mirror_node(unsigned index)
{
  return g_strdup_printf(NC_MIRROR_NODE "%u", index);
}

void
nc_qemu_disk_free(NcQemuDisk *disk)
{
  if (!disk)
    return;
  g_free(disk->node);
  g_free(disk->device);
  g_free(disk->format);
  g_ptr_array_unref(disk->backing);
  g_free(disk);
}

static void
nc_qemu_backing_free(gpointer data)
{
  NcQemuBacking *backing = data;
  g_free(backing->path);
  g_free(backing->format);
  g_free(backing);
}

/* Of an image's description, those below it. jansson has bounded how deep it is. */
static GPtrArray *
nc_qemu_backing_read(json_t *image)
{
  GPtrArray *list = g_ptr_array_new_with_free_func(nc_qemu_backing_free);

  for (json_t *below = json_object_get(image, "backing-image"); json_is_object(below); below = json_object_get(below, "backing-image")) {
    NcQemuBacking *backing = g_new0(NcQemuBacking, 1);
    backing->path = g_strdup(nc_json_string_or(below, "filename", ""));
    /* With a data file its content is in another one, which nobody would compare: that is no format which can be kept. */
    json_t *data = json_object_get(json_object_get(below, "format-specific"), "data");
    bool is_elsewhere = json_object_get(data, "data-file") != NULL;
    backing->format = g_strdup(is_elsewhere ? "qcow2 with a data file" : nc_json_string_or(below, "format", ""));
    g_ptr_array_add(list, backing);
  }
  return list;
}

static NcQemuDisk *
nc_qemu_disk_read(json_t *entry)
{
  json_t *inserted = json_object_get(entry, "inserted"), *image = json_object_get(inserted, "image");
  static const char *const limits[] = { "bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr" };
  NcQemuDisk *disk = g_new0(NcQemuDisk, 1);

  disk->node = g_strdup(nc_json_string_or(inserted, "node-name", ""));
  disk->device = g_strdup(nc_json_string_or(entry, "qdev", ""));
  disk->format = g_strdup(nc_json_string_or(inserted, "drv", ""));
  disk->size_bytes = (uint64_t)MAX(nc_json_int_or(image, "virtual-size", 0), 0);
  disk->used_bytes = (uint64_t)MAX(nc_json_int_or(image, "actual-size", 0), 0);
  disk->cluster_bytes = (uint32_t)CLAMP(nc_json_int_or(image, "cluster-size", 0), 0, 64 << 20);
  disk->has_backing = nc_json_string_or(image, "backing-filename", NULL) != NULL || nc_json_string_or(inserted, "backing_file", NULL) != NULL;
  disk->backing = nc_qemu_backing_read(image);
  disk->is_encrypted = nc_json_bool_or(inserted, "encrypted", false);
  for (size_t i = 0; i < G_N_ELEMENTS(limits); i++)
    disk->is_limited = disk->is_limited || nc_json_int_or(inserted, limits[i], 0) > 0;
  return disk;
}

NcQemuDisk *
nc_qemu_disk_find(NcQmp *qmp, const char *path, GError **error)
{
  nc_autojson json_t *blocks = nc_qmp_call(qmp, "query-block", NULL, -1, NC_BLOCK_MS, error);
  size_t i;
  json_t *entry;

  if (!blocks)
    return NULL;
  json_array_foreach(blocks, i, entry)
  {
    json_t *inserted = json_object_get(entry, "inserted");
    if (g_str_equal(nc_json_string_or(inserted, "file", ""), path) ||
        g_str_equal(nc_json_string_or(json_object_get(inserted, "image"), "filename", ""), path))
      return nc_qemu_disk_read(entry);
  }
  nc_fail(error, NC_ERROR_NOT_FOUND, "none of its devices uses %s", path);
  return NULL;
}

/* The statistics of ${node}; NULL if QEMU does not say. ${list}: all of them, which they are borrowed from. */
static json_t *
nc_qemu_disk_stats(json_t *list, const char *node)
{
  return json_object_get(nc_json_find(list, "node-name", node), "stats");
}

bool
nc_qemu_disk_operations(NcQmp *qmp, const char *node, uint64_t *ret_operations)
{
  nc_autojson json_t *list = nc_qmp_call(qmp, "query-blockstats", NULL, -1, NC_BLOCK_MS, NULL);
  json_t *stats = nc_qemu_disk_stats(list, node);

  if (stats)
    *ret_operations = (uint64_t)(nc_json_int_or(stats, "rd_operations", 0) + nc_json_int_or(stats, "wr_operations", 0));
  return stats != NULL;
}

bool
nc_qemu_disk_written(NcQmp *qmp, const char *node, uint64_t *ret_bytes)
{
  nc_autojson json_t *list = nc_qmp_call(qmp, "query-blockstats", NULL, -1, NC_BLOCK_MS, NULL);
  json_t *stats = nc_qemu_disk_stats(list, node);

  if (stats)
    *ret_bytes = (uint64_t)MAX(nc_json_int_or(stats, "wr_bytes", 0), 0);
  return stats != NULL;
}

bool
nc_qemu_disk_limit_writes(NcQmp *qmp, const char *device, uint64_t bps, GError **error)
{
  return nc_qmp_do(qmp, "block_set_io_throttle",
                   json_pack("{s:s, s:i, s:i, s:I, s:i, s:i, s:i}", "id", device, "bps", 0, "bps_rd", 0, "bps_wr", (json_int_t)bps, "iops", 0,
                             "iops_rd", 0, "iops_wr", 0),
                   error);
}

/* --- the destination --- */

bool
nc_qemu_nbd_start(NcQmp *qmp, const char *path, GError **error)
{
  return nc_qmp_do(qmp, "nbd-server-start", json_pack("{s:{s:s, s:{s:s}}}", "addr", "type", "unix", "data", "path", path), error);
}

bool
nc_qemu_nbd_export(NcQmp *qmp, const char *node, const char *name, GError **error)
{
  return nc_qmp_do(qmp, "block-export-add",
                   json_pack("{s:s, s:s, s:s, s:s, s:b}", "type", "nbd", "id", name, "node-name", node, "name", name, "writable", 1), error);
}

/* False also if it does not answer. */
static bool
nc_qemu_has_no_exports(NcQmp *qmp)
{
  nc_autojson json_t *exports = nc_qmp_call(qmp, "query-block-exports", NULL, -1, NC_BLOCK_MS, NULL);
  return exports && json_array_size(exports) == 0;
}

bool
nc_qemu_nbd_stop(NcQmp *qmp, GError **error)
{
  g_autoptr(GError) problem = NULL;

  if (nc_qmp_do(qmp, "nbd-server-stop", NULL, &problem) || nc_qemu_has_no_exports(qmp))
    return true;
  g_propagate_prefixed_error(error, g_steal_pointer(&problem), "its NBD server does not end: ");
  return false;
}

/* --- the source --- */

bool
nc_qemu_mirror_attach(NcQmp *qmp, unsigned index, const NcQemuMirror *mirror, GError **error)
{
  g_autofree char *node = nc_mirror_node(index);
  /* Zeroes are told as such, and stay holes there. */
  json_t *arguments = json_pack("{s:s, s:s, s:{s:s, s:s}, s:s, s:s, s:s}", "driver", "nbd", "node-name", node, "server", "type", "unix", "path",
                                mirror->socket, "export", mirror->name, "discard", "unmap", "detect-zeroes", "unmap");
  nc_autojson json_t *answer = nc_qmp_call(qmp, "blockdev-add", arguments, -1, NC_ATTACH_MS, error);
  return answer != NULL;
}

bool
nc_qemu_mirror_start(NcQmp *qmp, unsigned index, const NcQemuMirror *mirror, GError **error)
{
  g_autofree char *job = nc_mirror_job(index);
  g_autofree char *node = nc_mirror_node(index);
  /*
   * Of a disk without backing file "top" is all of it, too; but with "full" QEMU first writes zeroes to the whole target, which it does not
   * know to be new, in pieces of 32 MiB with a round trip for each.
   */
  json_t *arguments = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:s}", "job-id", job, "device", mirror->node, "target", node, "sync",
                                mirror->flatten ? "full" : "top", "on-source-error", "report", "on-target-error", "report", "auto-dismiss", 0,
                                "buf-size", (json_int_t)NC_MIRROR_BUFFER_BYTES, "copy-mode", "background");
  if (mirror->size_bytes < NC_MIRROR_LARGE_BYTES)
    json_object_set_new(arguments, "granularity", json_integer(NC_MIRROR_GRANULARITY));
  return nc_qmp_do(qmp, "blockdev-mirror", arguments, error);
}

void
nc_qemu_mirror_state_clear(NcQemuMirrorState *state)
{
  g_free(state->problem);
  *state = (NcQemuMirrorState){ 0 };
}

/* The number of a job of ours; false for others. */
static bool
nc_mirror_index(json_t *job, unsigned *ret)
{
  const char *id = nc_json_string_or(job, "id", "");
  char *end;

  if (!g_str_has_prefix(id, NC_MIRROR_JOB))
    return false;
  unsigned long index = strtoul(id + strlen(NC_MIRROR_JOB), &end, 10);
  *ret = (unsigned)index;
  return *end == '\0' && index < UINT_MAX;
}

static NcQemuMirrorStatus
nc_mirror_status(const char *status)
{
  if (g_str_equal(status, "ready") || g_str_equal(status, "standby"))
    return NC_QEMU_MIRROR_READY;
  return g_str_equal(status, "concluded") ? NC_QEMU_MIRROR_ENDED : NC_QEMU_MIRROR_COPYING;
}

bool
nc_qemu_mirror_query(NcQmp *qmp, NcQemuMirrorState *ret, unsigned count, GError **error)
{
  nc_autojson json_t *jobs = nc_qmp_call(qmp, "query-jobs", NULL, -1, NC_BLOCK_MS, error);
  size_t i;
  json_t *job;
  unsigned index;

  for (unsigned n = 0; n < count; n++)
    ret[n] = (NcQemuMirrorState){ .status = NC_QEMU_MIRROR_GONE };
  if (!jobs)
    return false;
  json_array_foreach(jobs, i, job)
  {
    if (!nc_mirror_index(job, &index) || index >= count || ret[index].status != NC_QEMU_MIRROR_GONE)
      continue;
    ret[index].status = nc_mirror_status(nc_json_string_or(job, "status", ""));
    ret[index].done_bytes = (uint64_t)MAX(nc_json_int_or(job, "current-progress", 0), 0);
    ret[index].total_bytes = (uint64_t)MAX(nc_json_int_or(job, "total-progress", 0), 0);
    ret[index].problem = g_strdup(nc_json_string_or(job, "error", NULL));
  }
  return true;
}

bool
nc_qemu_mirror_block_writes(NcQmp *qmp, unsigned index, GError **error)
{
  g_autofree char *job = nc_mirror_job(index);
  return nc_qmp_do(qmp, "block-job-change", json_pack("{s:s, s:s, s:s}", "id", job, "type", "mirror", "copy-mode", "write-blocking"), error);
}

bool
nc_qemu_mirror_end(NcQmp *qmp, unsigned index, GError **error)
{
  g_autofree char *job = nc_mirror_job(index);
  return nc_qmp_do(qmp, "block-job-cancel", json_pack("{s:s}", "device", job), error);
}

bool
nc_qemu_mirror_detach(NcQmp *qmp, unsigned index, GError **error)
{
  g_autofree char *job = nc_mirror_job(index);
  g_autofree char *node = nc_mirror_node(index);
  return nc_qmp_do(qmp, "job-dismiss", json_pack("{s:s}", "id", job), error) &&
         nc_qmp_do(qmp, "blockdev-del", json_pack("{s:s}", "node-name", node), error);
}

/* Tells every job of ours to end, and forgets those that have. How many are left? */
static unsigned
nc_mirror_end_all(NcQmp *qmp)
{
  nc_autojson json_t *jobs = nc_qmp_call(qmp, "query-jobs", NULL, -1, NC_BLOCK_MS, NULL);
  unsigned left = 0, index;
  size_t i;
  json_t *job;

  json_array_foreach(jobs, i, job)
  {
    const char *id = nc_json_string_or(job, "id", "");
    if (!nc_mirror_index(job, &index))
      continue;
    if (g_str_equal(nc_json_string_or(job, "status", ""), "concluded") && nc_qmp_do(qmp, "job-dismiss", json_pack("{s:s}", "id", id), NULL))
      continue;
    nc_qmp_do(qmp, "block-job-cancel", json_pack("{s:s, s:b}", "device", id, "force", 1), NULL);
    left++;
  }
  return left;
}

static void
nc_mirror_remove_targets(NcQmp *qmp)
{
  nc_autojson json_t *nodes = nc_qmp_call(qmp, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), -1, NC_BLOCK_MS, NULL);
  size_t i;
  json_t *node;

  json_array_foreach(nodes, i, node)
  {
    g_autoptr(GError) problem = NULL;
    const char *name = nc_json_string_or(node, "node-name", "");
    if (g_str_has_prefix(name, NC_MIRROR_NODE) && !nc_qmp_do(qmp, "blockdev-del", json_pack("{s:s}", "node-name", name), &problem))
      nc_log(NC_LOG_WARNING, "qemu", "%s can't be removed: %s", name, problem->message);
  }
}

void
nc_qemu_mirror_clean_up(NcQmp *qmp)
{
  int64_t deadline_us = nc_mono_us() + NC_CLEAN_UP_US;

  while (nc_mirror_end_all(qmp) > 0 && nc_mono_us() < deadline_us && nc_qmp_is_alive(qmp))
    g_usleep(NC_CLEAN_UP_POLL_US);
  nc_mirror_remove_targets(qmp);
}
