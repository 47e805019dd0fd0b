/* SPDX-License-Identifier: Apache-2.0 */
/* What people do with machines: define, start, stop, destroy. Adoption is in machine_adopt.c. */
#include "agent/machine.h"
#include "base/ident.h"
#include "base/log.h"
#include "qemu/machine_spec.h"
#include "qemu/migration_qmp.h"

#include <string.h>

#define NC_STOP_TIMEOUT_MS 30000
#define NC_STOP_TIMEOUT_MAX_MS 3600000
/* From QMP quit to the end of the process: QEMU flushes its disks. */
#define NC_QUIT_TIMEOUT_MS 20000
#define NC_STOP_POLL_MS 100

/* --- the right to run, at definition --- */

static bool
nc_right_refuse(NcMachines *machines, const NcRight *right, GError **error)
{
  const char *other = right->peer[0] ? right->peer : "another node";

  if (right->state == NC_RIGHT_RELEASED)
    return nc_fail(error, NC_ERROR_CONFLICT,
                   "%s moved from node %s to %s (epoch %" G_GUINT64_FORMAT
                   "): manage it there. A checkpoint of it can be restored here under another name (novacron checkpoint restore ID --as NAME); "
                   "under its own (--take) only if it is certain that it runs nowhere and will not be started elsewhere, else it would run twice",
                   right->vm, machines->config->node, other, right->epoch);
  return nc_fail(error, NC_ERROR_CONFLICT,
                 "by the record of node %s, %s belongs to %s (a migration to here was %s at epoch %" G_GUINT64_FORMAT
                 "): manage it there. A checkpoint of it can be restored here under another name (novacron checkpoint restore ID --as NAME); "
                 "under its own (--take) only if it is certain that it runs nowhere and will not be started elsewhere, else it would run twice",
                 machines->config->node, right->vm, other, right->state == NC_RIGHT_REFUSED ? "refused" : "being prepared", right->epoch);
}

/* Makes this node the holder of the right of ${name}, which is being defined here. */
static bool
nc_machines_claim_right(NcMachines *machines, const char *name, bool take, GError **error)
{
  NcRight right;

  if (!nc_journal_get_right(machines->journal, name, &right, error))
    return false;
  if (right.state == NC_RIGHT_HELD)
    return true; /* destroyed here before; nobody else had it since */
  if (right.state != NC_RIGHT_NONE && !take)
    return nc_right_refuse(machines, &right, error);
  if (right.state != NC_RIGHT_NONE)
    nc_log(NC_LOG_WARNING, "agent", "machine %s: an operator takes the right to run it; it was %s, other node %s, epoch %" G_GUINT64_FORMAT,
           name, nc_right_name(right.state), right.peer, right.epoch);
  NcRight held = { .epoch = right.epoch + 1, .state = NC_RIGHT_HELD };
  g_strlcpy(held.vm, name, sizeof held.vm);
  return nc_journal_set_right(machines->journal, &held, right.state, right.epoch, error);
}

bool
nc_machine_must_hold_right(NcMachine *m, GError **error)
{
  NcRight right;
  if (!nc_journal_get_right(m->owner->journal, m->name, &right, error))
    return false;
  return right.state == NC_RIGHT_HELD || nc_right_refuse(m->owner, &right, error);
}

/* --- define and destroy --- */

/* Puts ${m} (busy) into the list, the right on disk first: a record without right can't start, the reverse is harmless. */
bool
nc_machines_add(NcMachines *machines, NcMachine *m, bool take, GError **error)
{
  g_autoptr(GError) problem = NULL;

  if (!nc_machines_insert(machines, m, error))
    return false;
  bool ok = nc_machines_claim_right(machines, m->name, take, error);
  if (ok) {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&machines->lock);
    g_clear_pointer(&m->moved_to, g_free);
  }
  if (ok && nc_machine_save(m, error))
    return true;
  /* As before: a machine that had moved stays in the list as such. */
  if (!m->moved_to && !nc_machine_forget(m, &problem))
    nc_log(NC_LOG_ERR, "agent", "machine %s: %s", m->name, problem->message);
  return false;
}

NcMachine *
nc_machine_new_busy(NcMachines *machines, const NcMachineSpec *spec, const char *what)
{
  nc_autojson json_t *json = nc_machine_spec_to_json(spec);
  NcMachine *m = nc_machine_new(machines, spec->name, json);
  m->busy = true;
  m->busy_with = what;
  return m;
}

json_t *
nc_machines_define(NcMachines *machines, json_t *args, GError **error)
{
  json_t *json = json_object_get(args, "spec");
  if (!json_is_object(json)) {
    nc_fail(error, NC_ERROR_INVALID, "\"spec\" must be an object");
    return NULL;
  }
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(json, error);
  if (!spec)
    return NULL;
  NcMachine *m = nc_machine_new_busy(machines, spec, "define");
  json_t *view = nc_machines_add(machines, m, nc_json_bool_or(args, "take", false), error) ? nc_machine_view(m, error) : NULL;
  if (view)
    nc_log(NC_LOG_NOTICE, "agent", "machine %s defined", m->name);
  nc_machine_release(m);
  return view;
}

json_t *
nc_machines_destroy(NcMachines *machines, json_t *args, GError **error)
{
  const char *name = nc_machine_arg_name(args, error);
  NcMachine *m = name ? nc_machines_acquire(machines, name, "destroy", error) : NULL;
  json_t *view = NULL;

  if (!m)
    return NULL;
  if (nc_machine_qemu_lives(m)) {
    nc_fail(error, NC_ERROR_CONFLICT, "%s is running on node %s: stop it first (`novacron vm stop %s`)", name, machines->config->node, name);
  } else {
    nc_machine_clear_runtime(m);
    view = nc_machine_view(m, error);
    if (view && !nc_machine_forget(m, error))
      g_clear_pointer(&view, json_decref);
    if (view)
      nc_log(NC_LOG_NOTICE, "agent", "machine %s destroyed (its disks are untouched)", name);
  }
  nc_machine_release(m);
  return view;
}

/* --- start --- */

/* Its QEMU lives: what stands still goes on, be it that somebody paused it or that its last migration could not resume it. */
static bool
nc_machine_go_on(NcMachine *m, GError **error)
{
  NcQmp *qmp = nc_machine_qmp(m);

  nc_machine_refresh(m);
  if (!qmp || m->guest != NC_GUEST_PAUSED)
    return nc_fail(error, NC_ERROR_CONFLICT, "%s is running on node %s already (process %d)", m->name, m->owner->config->node, (int)m->pid);
  if (!nc_qemu_cont(qmp, error))
    return false;
  nc_machine_refresh(m);
  return true;
}

void
nc_machines_set_start_check(NcMachines *machines, NcStartCheckFunc check, gpointer user_data)
{
  machines->start_check = check;
  machines->start_check_data = user_data;
}

/* Held by our own record; the node it came from may know better. */
static bool
nc_machine_check_start(NcMachine *m, GError **error)
{
  NcMachines *machines = m->owner;
  NcRight right;

  return nc_journal_get_right(machines->journal, m->name, &right, error) &&
         (!machines->start_check || machines->start_check(machines->start_check_data, &right, error));
}

static bool
nc_machine_start(NcMachine *m, bool take, GError **error)
{
  if (m->moved_to)
    return nc_fail(error, NC_ERROR_CONFLICT, "%s moved from node %s to %s: start it there", m->name, m->owner->config->node, m->moved_to);
  if (!nc_machine_must_hold_right(m, error))
    return false;
  if (nc_machine_qemu_lives(m))
    return nc_machine_go_on(m, error);
  nc_machine_clear_runtime(m);
  /* A novacrond that died between fork and journal left a QEMU behind that only its pid file tells of. */
  nc_machine_find_qemu(m);
  if (nc_machine_qemu_lives(m))
    return nc_machine_save(m, error);
  return (take || nc_machine_check_start(m, error)) && nc_machine_launch(m, false, error);
}

json_t *
nc_machines_start(NcMachines *machines, json_t *args, GError **error)
{
  const char *name = nc_machine_arg_name(args, error);
  NcMachine *m = name ? nc_machines_acquire(machines, name, "start", error) : NULL;
  if (!m)
    return NULL;
  json_t *view = nc_machine_start(m, nc_json_bool_or(args, "take", false), error) ? nc_machine_view(m, error) : NULL;
  if (view)
    nc_log(NC_LOG_NOTICE, "agent", "machine %s started: process %d", m->name, (int)m->pid);
  nc_machine_release(m);
  return view;
}

/* --- stop --- */

typedef enum { NC_WAIT_GONE, NC_WAIT_TIME_UP, NC_WAIT_FORCED, NC_WAIT_QUIT } NcWaitResult;

static NcWaitResult
nc_machine_await_end(NcMachine *m, int64_t timeout_ms)
{
  int64_t deadline = nc_mono_us() + timeout_ms * 1000;

  while (nc_machine_qemu_lives(m)) {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
    if (m->owner->quitting)
      return NC_WAIT_QUIT;
    if (m->force_stop)
      return NC_WAIT_FORCED;
    if (nc_mono_us() >= deadline)
      return NC_WAIT_TIME_UP;
    g_cond_wait_until(&m->owner->changed, &m->owner->lock, g_get_monotonic_time() + NC_STOP_POLL_MS * G_TIME_SPAN_MILLISECOND);
  }
  return NC_WAIT_GONE;
}

/* Asks the guest. True: go on and end QEMU; false with ${error}: novacrond ends, the guest may still be shutting down. */
static bool
nc_machine_power_down(NcMachine *m, int64_t timeout_ms, GError **error)
{
  NcQmp *qmp = nc_machine_qmp(m);
  g_autoptr(GError) problem = NULL;

  if (!qmp || m->guest != NC_GUEST_RUNNING)
    return true; /* nobody there to hear it */
  if (!nc_qmp_do(qmp, "system_powerdown", NULL, &problem)) {
    nc_log(NC_LOG_WARNING, "agent", "machine %s: %s", m->name, problem->message);
    return true;
  }
  switch (nc_machine_await_end(m, timeout_ms)) {
  case NC_WAIT_TIME_UP:
    nc_log(NC_LOG_WARNING, "agent", "machine %s did not shut down within %" G_GINT64_FORMAT " ms: its QEMU is ended", m->name, timeout_ms);
    return true;
  case NC_WAIT_QUIT:
    return nc_fail(error, NC_ERROR_CANCELLED, "novacrond stops; %s was asked to shut down", m->name);
  default:
    return true;
  }
}

static bool
nc_machine_stop(NcMachine *m, bool force, int64_t timeout_ms, GError **error)
{
  if (!nc_machine_qemu_lives(m)) {
    nc_machine_clear_runtime(m);
    return nc_machine_save(m, error);
  }
  if (!force && !nc_machine_power_down(m, timeout_ms, error))
    return false;
  NcQmp *qmp = nc_machine_qmp(m);
  if (qmp && nc_qmp_do(qmp, "quit", NULL, NULL))
    nc_machine_await_end(m, NC_QUIT_TIMEOUT_MS);
  return nc_machine_kill(m, error) && nc_machine_save(m, error);
}

/* A stop that waits for the guest must not keep a forced one waiting. */
static void
nc_machines_hurry_stop(NcMachines *machines, const char *name)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&machines->lock);
  NcMachine *m = g_hash_table_lookup(machines->table, name);
  if (m && m->busy && g_str_equal(m->busy_with, "stop"))
    m->force_stop = true;
  g_cond_broadcast(&machines->changed);
}

json_t *
nc_machines_stop(NcMachines *machines, json_t *args, GError **error)
{
  const char *name = nc_machine_arg_name(args, error);
  bool force = nc_json_bool_or(args, "force", false);
  int64_t timeout_ms = NC_STOP_TIMEOUT_MS;

  if (!name || (json_object_get(args, "timeout_ms") && !nc_json_int(args, "timeout_ms", 0, NC_STOP_TIMEOUT_MAX_MS, &timeout_ms, error)))
    return NULL;
  if (force)
    nc_machines_hurry_stop(machines, name);
  NcMachine *m = nc_machines_acquire(machines, name, "stop", error);
  if (!m)
    return NULL;
  json_t *view = nc_machine_stop(m, force, timeout_ms, error) ? nc_machine_view(m, error) : NULL;
  if (view)
    nc_log(NC_LOG_NOTICE, "agent", "machine %s stopped", m->name);
  nc_machine_release(m);
  return view;
}
