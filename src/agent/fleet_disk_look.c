/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fleet_disk_look.h"
#include "agent/fleet_disks.h"
#include "base/log.h"

/* A look under way. Owned by its thread. */
typedef struct {
  NcFleetDiskLook *look;          /* a reference */
  json_t *directories, *machines; /* copies */
  NcDiskChain chain;
} NcDiskTask;

/* In an atomic box: a thread that is stuck may outlive its owner. */
struct NcFleetDiskLook {
  NcFleetDiskFunc func;
  GMutex lock;
  GCond changed;
  bool is_busy;    /* a thread looks */
  gint64 began_us; /* it, or the last one */
  bool is_told;    /* in the log: one took too long or could not begin, and none has ended in time since */
  uint64_t looks;  /* that have ended */
  json_t *seen;    /* by the last one; NULL: there was none */
};

static json_t *
nc_fleet_disks_see(json_t *directories, json_t *machines, NcDiskChain chain)
{
  json_t *needs = json_object(), *view;
  size_t i;

  json_array_foreach(machines, i, view)
      json_object_set_new(needs, nc_json_string_or(view, "name", ""),
                          nc_fleet_disks_of_machine(json_object_get(view, "spec"), chain));
  return json_pack("{s:o, s:o}", "file_systems", nc_fleet_disks_of_node(directories, machines), "machines", needs);
}

NcFleetDiskLook *
nc_fleet_disk_look_new(void)
{
  return nc_fleet_disk_look_new_with(nc_fleet_disks_see);
}

NcFleetDiskLook *
nc_fleet_disk_look_new_with(NcFleetDiskFunc func)
{
  NcFleetDiskLook *look = g_atomic_rc_box_new0(NcFleetDiskLook);

  look->func = func;
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

/* When the look under way, or the last one, takes too long. */
static gint64
nc_fleet_disk_look_due_us(const NcFleetDiskLook *look)
{
  return look->began_us + NC_FLEET_DISK_LOOK_MS * G_TIME_SPAN_MILLISECOND;
}

static void
nc_fleet_disk_look_tell_locked(NcFleetDiskLook *look, bool is_late)
{
  if (is_late && !look->is_told)
    nc_log(NC_LOG_WARNING, "agent",
           "looking at the fleet's disks takes longer than %d s: a file system of this node does not answer, and until "
           "it does, controllers hear nothing new of the room for disks here; bring its server back, or unmount it",
           NC_FLEET_DISK_LOOK_MS / 1000);
  if (!is_late && look->is_told)
    nc_log(NC_LOG_NOTICE, "agent", "the fleet's disks are looked at as they should be again");
  look->is_told = is_late;
}

static void
nc_disk_task_free(NcDiskTask *task)
{
  json_decref(task->directories);
  json_decref(task->machines);
  nc_fleet_disk_look_free(task->look);
  g_free(task);
}

static gpointer
nc_disk_task_run(gpointer data)
{
  NcDiskTask *task = data;
  NcFleetDiskLook *look = task->look;
  json_t *seen = look->func(task->directories, task->machines, task->chain);

  g_mutex_lock(&look->lock);
  json_decref(look->seen);
  look->seen = seen;
  look->is_busy = false;
  look->looks++;
  if (g_get_monotonic_time() < nc_fleet_disk_look_due_us(look))
    nc_fleet_disk_look_tell_locked(look, false);
  g_cond_broadcast(&look->changed);
  g_mutex_unlock(&look->lock);
  nc_disk_task_free(task);
  return NULL;
}

/* False: there is no thread for it, which is told. */
static bool
nc_fleet_disk_look_begin_locked(NcFleetDiskLook *look, json_t *directories, json_t *machines, NcDiskChain chain)
{
  NcDiskTask *task = g_new0(NcDiskTask, 1);
  g_autoptr(GError) error = NULL;

  *task = (NcDiskTask){ g_atomic_rc_box_acquire(look), json_deep_copy(directories), json_deep_copy(machines), chain };
  look->is_busy = true;
  look->began_us = g_get_monotonic_time();
  GThread *thread = g_thread_try_new("fleet-disks", nc_disk_task_run, task, &error);
  if (thread) {
    g_thread_unref(thread);
    return true;
  }
  if (!look->is_told)
    nc_log(NC_LOG_WARNING, "agent",
           "the fleet's disks can't be looked at: %s; until they can, controllers hear nothing new of the room for disks "
           "here (this node may be short of memory, or novacrond's service of tasks: TasksMax)",
           error->message);
  look->is_told = true;
  look->is_busy = false;
  nc_disk_task_free(task);
  return false;
}

/* What is free is told as long as it is news: repeated, it would undo what has been counted since. */
static json_t *
nc_fleet_disk_look_say_locked(const NcFleetDiskLook *look, bool has_ended)
{
  json_t *machines = json_deep_copy(json_object_get(look->seen, "machines"));

  return json_pack("{s:o, s:o}", "file_systems",
                   has_ended ? json_deep_copy(json_object_get(look->seen, "file_systems")) : json_array(), "machines",
                   machines ? machines : json_object());
}

json_t *
nc_fleet_disk_look(NcFleetDiskLook *look, json_t *directories, json_t *machines, NcDiskChain chain)
{
  gint64 until_us = g_get_monotonic_time() + NC_FLEET_DISK_LOOK_MS * G_TIME_SPAN_MILLISECOND;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&look->lock);
  uint64_t before;

  while (look->is_busy && /* for another controller, about other directories perhaps */
         g_cond_wait_until(&look->changed, &look->lock, MIN(until_us, nc_fleet_disk_look_due_us(look))))
    ;
  before = look->looks;
  if (!look->is_busy && nc_fleet_disk_look_begin_locked(look, directories, machines, chain)) {
    until_us = nc_fleet_disk_look_due_us(look);
    while (look->looks == before && g_cond_wait_until(&look->changed, &look->lock, until_us))
      ;
  }
  if (look->is_busy && g_get_monotonic_time() >= nc_fleet_disk_look_due_us(look))
    nc_fleet_disk_look_tell_locked(look, true);
  return nc_fleet_disk_look_say_locked(look, look->looks != before);
}
