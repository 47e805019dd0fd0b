/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/machine_hold.h"
#include "agent/machine.h"
#include "base/log.h"

struct NcMachineHold {
  NcMachine *m; /* acquired */
  bool is_new;
};

static NcMachineHold *
nc_machine_hold_wrap(NcMachine *m, bool is_new)
{
  NcMachineHold *hold = g_new0(NcMachineHold, 1);
  hold->m = m;
  hold->is_new = is_new;
  return hold;
}

static bool
nc_hold_check(NcMachine *m, const char *what, GError **error)
{
  const char *node = m->owner->config->node;
  NcRight right;

  if (!nc_journal_get_right(m->owner->journal, m->name, &right, error))
    return false;
  if (right.state != NC_RIGHT_HELD)
    return nc_fail(error, NC_ERROR_CONFLICT, "can't %s %s on node %s: the right to run it is %s%s%s there", what, m->name, node,
                   nc_right_name(right.state), right.peer[0] ? ", other node " : "", right.peer);
  if (!nc_machine_qemu_lives(m))
    return nc_fail(error, NC_ERROR_CONFLICT, "can't %s %s: it is not running on node %s (`novacron vm start %s`)", what, m->name,
                   node, m->name);
  return nc_machine_qmp(m) ||
         nc_fail(error, NC_ERROR_QEMU, "can't %s %s: its QEMU on node %s (process %d) does not answer on its QMP socket", what,
                 m->name, node, (int)nc_machine_pid(m));
}

NcMachineHold *
nc_machines_hold(NcMachines *machines, const char *name, const char *what, GError **error)
{
  NcMachine *m = nc_machines_acquire(machines, name, what, error);
  if (!m)
    return NULL;
  if (!nc_hold_check(m, what, error) || !nc_machine_make_run_dir(m, error)) { /* an adopted one has no directory before */
    nc_machine_release(m);
    return NULL;
  }
  return nc_machine_hold_wrap(m, false);
}

NcMachineHold *
nc_machines_hold_any(NcMachines *machines, const char *name, const char *what, GError **error)
{
  NcMachine *m = nc_machines_acquire(machines, name, what, error);
  return m ? nc_machine_hold_wrap(m, false) : NULL;
}

static NcMachineHold *
nc_machines_hold_new(NcMachines *machines, json_t *json, bool take, const char *maker, GError **error)
{
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(json, error);
  if (!spec)
    return NULL;
  NcMachine *m = nc_machine_new_busy(machines, spec, "restore");
  m->made_by = g_strdup(maker); /* nobody else knows it yet */
  if (nc_machines_add(machines, m, take, error))
    return nc_machine_hold_wrap(m, true);
  nc_machine_release(m);
  return NULL;
}

NcMachineHold *
nc_machines_hold_for_restore(NcMachines *machines, json_t *spec, bool must_be_new, bool take, const char *maker, GError **error)
{
  const char *name = nc_json_string(spec, "name", error);
  g_autoptr(GError) problem = NULL;

  if (!name)
    return NULL;
  if (must_be_new)
    return nc_machines_hold_new(machines, spec, false, maker, error);
  NcMachine *m = nc_machines_acquire(machines, name, "restore", &problem);
  if (!m && problem->code == NC_ERROR_NOT_FOUND)
    return nc_machines_hold_new(machines, spec, take, maker, error);
  if (!m) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return NULL;
  }
  if (nc_machine_must_hold_right(m, take ? NULL : error))
    return nc_machine_hold_wrap(m, false);
  nc_machine_release(m);
  return take ? nc_machines_hold_new(machines, spec, true, maker, error) : NULL; /* it had moved away, which ends here */
}

NcMachineHold *
nc_machines_hold_made_by(NcMachines *machines, const char *name, const char *maker)
{
  g_mutex_lock(&machines->lock);
  const NcMachine *there = g_hash_table_lookup(machines->table, name);
  bool is_ours = there && g_strcmp0(there->made_by, maker) == 0;
  g_mutex_unlock(&machines->lock);
  return is_ours ? nc_machines_hold_any(machines, name, "restore", NULL) : NULL;
}

void
nc_machine_hold_end(NcMachineHold *hold)
{
  g_autoptr(GError) error = NULL;
  if (!hold)
    return;
  nc_machine_hold_set_event_func(hold, NULL, NULL);
  if (!nc_machine_qemu_lives(hold->m))
    nc_machine_clear_runtime(hold->m);
  nc_machine_refresh(hold->m);
  if (!nc_machine_save(hold->m, &error))
    nc_log(NC_LOG_ERR, "agent", "machine %s: %s", hold->m->name, error->message);
  nc_machine_release(hold->m);
  g_free(hold);
}

bool
nc_machines_refuse_right(NcMachines *machines, const char *name, uint64_t epoch, GError **error)
{
  NcRight right;

  if (!nc_journal_get_right(machines->journal, name, &right, error))
    return false;
  if (right.state != NC_RIGHT_HELD || right.epoch != epoch)
    return true;
  right.state = NC_RIGHT_REFUSED;
  return nc_journal_set_right(machines->journal, &right, NC_RIGHT_HELD, right.epoch, error);
}

bool
nc_machine_hold_discard(NcMachineHold *hold, GError **error)
{
  if (nc_machine_qemu_lives(hold->m))
    return nc_fail(error, NC_ERROR_QEMU, "its QEMU (process %d) still lives: it is kept in the list", (int)nc_machine_pid(hold->m));
  nc_machine_clear_runtime(hold->m);
  if (!nc_machine_forget(hold->m, error))
    return false;
  nc_machine_release(hold->m);
  g_free(hold);
  return true;
}

void
nc_machine_hold_keep(NcMachineHold *hold)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&hold->m->owner->lock);
  g_clear_pointer(&hold->m->made_by, g_free);
}

/* --- looking --- */

const char *
nc_machine_hold_name(const NcMachineHold *hold)
{
  return hold->m->name;
}

bool
nc_machine_hold_is_new(const NcMachineHold *hold)
{
  return hold->is_new;
}

bool
nc_machine_hold_has_moved(NcMachineHold *hold)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&hold->m->owner->lock);
  return hold->m->moved_to != NULL;
}

bool
nc_machine_hold_made_by(NcMachineHold *hold, const char *maker)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&hold->m->owner->lock);
  return maker && g_strcmp0(hold->m->made_by, maker) == 0;
}

NcQmp *
nc_machine_hold_qmp(NcMachineHold *hold)
{
  return nc_machine_qmp(hold->m);
}

bool
nc_machine_hold_lives(NcMachineHold *hold)
{
  return nc_machine_qemu_lives(hold->m);
}

pid_t
nc_machine_hold_pid(NcMachineHold *hold)
{
  return nc_machine_pid(hold->m);
}

bool
nc_machine_hold_is_adopted(NcMachineHold *hold)
{
  nc_autojson json_t *spec = nc_machine_get_spec(hold->m);
  return json_is_array(json_object_get(spec, "adopted_argv"));
}

uint64_t
nc_machine_hold_epoch(NcMachineHold *hold)
{
  NcRight right;
  return nc_journal_get_right(hold->m->owner->journal, hold->m->name, &right, NULL) ? right.epoch : 0;
}

json_t *
nc_machine_hold_spec(NcMachineHold *hold)
{
  return nc_machine_get_spec(hold->m);
}

const char *
nc_machine_hold_run_dir(NcMachineHold *hold)
{
  return hold->m->run_dir;
}

char *
nc_machine_hold_log_tail(NcMachineHold *hold)
{
  return nc_machine_log_tail(hold->m);
}

void
nc_machine_hold_set_event_func(NcMachineHold *hold, NcQmpEventFunc func, gpointer user_data)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&hold->m->event_lock);
  hold->m->event_func = func;
  hold->m->event_data = user_data;
}

/* --- for a restore --- */

bool
nc_machine_hold_set_spec(NcMachineHold *hold, json_t *json, GError **error)
{
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_from_json(json, error);

  if (!spec)
    return false;
  nc_machine_set_spec(hold->m, spec);
  return nc_machine_save(hold->m, error);
}

bool
nc_machine_hold_launch_incoming(NcMachineHold *hold, GError **error)
{
  nc_machine_clear_runtime(hold->m);
  return nc_machine_launch(hold->m, true, error);
}

bool
nc_machine_hold_kill_qemu(NcMachineHold *hold, GError **error)
{
  return nc_machine_kill(hold->m, error);
}
