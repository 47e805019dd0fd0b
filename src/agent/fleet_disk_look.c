/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fleet_disk_look.h"
#include "agent/fleet_disks.h"

/* A look under way. Owned by its thread. */
typedef struct {
  NcFleetDiskLook *look;          /* a reference */
  json_t *directories, *machines; /* copies */
  NcDiskChain chain;
} NcDiskTask;

/* In an atomic box: a thread that is stuck may outlive its owner. */
struct NcFleetDiskLook {
  GMutex lock;
  GCond changed;
  bool is_busy;   /* a thread looks */
  uint64_t looks; /* that have ended */
  json_t *seen;   /* by the last one; NULL: there was none */
};

NcFleetDiskLook *
nc_fleet_disk_look_new(void)
{
  NcFleetDiskLook *look = g_atomic_rc_box_new0(NcFleetDiskLook);

  g_mutex_init(&look->lock);
  g_cond_init(&look->changed);
  return look;
}

static void
nc_fleet_disk_look_clear(gpointer data)
{
  NcFleetDiskLook *look = data;

  json_decref(look->seen);
  g_cond_clear(&look->changed);
  g_mutex_clear(&look->lock);
}

void
nc_fleet_disk_look_free(NcFleetDiskLook *look)
{
  if (look)
    g_atomic_rc_box_release_full(look, nc_fleet_disk_look_clear);
}

static json_t *
nc_disk_task_do(const NcDiskTask *task)
{
  json_t *machines = json_object(), *view;
  size_t i;

  json_array_foreach(task->machines, i, view)
      json_object_set_new(machines, nc_json_string_or(view, "name", ""),
                          nc_fleet_disks_of_machine(json_object_get(view, "spec"), task->chain));
  return json_pack("{s:o, s:o}", "file_systems", nc_fleet_disks_of_node(task->directories, task->machines), "machines",
                   machines);
}

static gpointer
nc_disk_task_run(gpointer data)
{
  NcDiskTask *task = data;
  NcFleetDiskLook *look = task->look;
  json_t *seen = nc_disk_task_do(task);

  g_mutex_lock(&look->lock);
  json_decref(look->seen);
  look->seen = seen;
  look->is_busy = false;
  look->looks++;
  g_cond_broadcast(&look->changed);
  g_mutex_unlock(&look->lock);
  json_decref(task->directories);
  json_decref(task->machines);
  g_free(task);
  nc_fleet_disk_look_free(look);
  return NULL;
}

static void
nc_fleet_disk_look_begin_locked(NcFleetDiskLook *look, json_t *directories, json_t *machines, NcDiskChain chain)
{
  NcDiskTask *task = g_new0(NcDiskTask, 1);

  *task = (NcDiskTask){ g_atomic_rc_box_acquire(look), json_deep_copy(directories), json_deep_copy(machines), chain };
  look->is_busy = true;
  g_thread_unref(g_thread_new("fleet-disks", nc_disk_task_run, task));
}

json_t *
nc_fleet_disk_look(NcFleetDiskLook *look, json_t *directories, json_t *machines, NcDiskChain chain)
{
  gint64 until_us = g_get_monotonic_time() + NC_FLEET_DISK_LOOK_MS * G_TIME_SPAN_MILLISECOND;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&look->lock);

  while (look->is_busy && g_cond_wait_until(&look->changed, &look->lock,
                                            until_us)) /* for another controller, about other directories perhaps */
    ;
  if (!look->is_busy) {
    uint64_t before = look->looks;
    nc_fleet_disk_look_begin_locked(look, directories, machines, chain);
    while (look->looks == before && g_cond_wait_until(&look->changed, &look->lock, until_us))
      ;
  }
  return json_deep_copy(look->seen);
}
