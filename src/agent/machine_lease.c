/* SPDX-License-Identifier: Apache-2.0 */
/* Leases: one machine in the hands of one migration. */
#include "agent/machine.h"
#include "base/ident.h"
#include "base/log.h"

#include <string.h>

struct NcMachineLease {
  NcMachine *m; /* a reference; m->lease_held is ours */
  json_t *spec; /* a reference to what m->spec was when asked last */
};

static NcMachineLease *
nc_machine_lease_new(NcMachine *m)
{
  NcMachineLease *lease = g_new0(NcMachineLease, 1);
  lease->m = m;
  return lease;
}

/* Drops the lease's hold on the machine, not its mark in the journal. */
static void
nc_machine_lease_free(NcMachineLease *lease)
{
  NcMachine *m = lease->m;

  nc_machine_lease_set_event_func(lease, NULL, NULL);
  nc_machine_drop_old_qmp(m);
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
    m->lease_held = false;
    g_cond_broadcast(&m->owner->changed);
  }
  nc_machine_unref(m);
  json_decref(lease->spec);
  g_free(lease);
}

/* --- beginning --- */

bool
nc_machine_check_movable(NcMachine *m, GError **error)
{
  NcRight right;

  if (!nc_journal_get_right(m->owner->journal, m->name, &right, error))
    return false;
  if (right.state != NC_RIGHT_HELD)
    return nc_fail(error, NC_ERROR_CONFLICT, "%s can't leave node %s: the right to run it is %s%s%s there", m->name, m->owner->config->node,
                   nc_right_name(right.state), right.peer[0] ? ", other node " : "", right.peer);
  if (!nc_machine_qemu_lives(m))
    return nc_fail(error, NC_ERROR_CONFLICT, "%s is not running on node %s: only a running machine can be migrated", m->name,
                   m->owner->config->node);
  if (!nc_machine_qmp(m))
    return nc_fail(error, NC_ERROR_QEMU, "the QEMU of %s on node %s (process %d) does not answer on its QMP socket", m->name,
                   m->owner->config->node, (int)m->pid);
  return true;
}

/* Marks the lease; ${m} is acquired, or not in the list yet. */
static void
nc_machine_mark_leased(NcMachine *m, const char *migration_id)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  g_free(m->lease_id);
  m->lease_id = g_strdup(migration_id);
  m->lease_held = migration_id != NULL;
}

NcMachineLease *
nc_machines_lease(NcMachines *machines, const char *name, const char *migration_id, GError **error)
{
  NcMachine *m = nc_machines_acquire(machines, name, "migrate", error);
  if (!m)
    return NULL;
  if (!nc_machine_check_movable(m, error) || !nc_machine_make_run_dir(m, error)) { /* an adopted one has no directory before */
    nc_machine_release(m);
    return NULL;
  }
  nc_machine_mark_leased(m, migration_id);
  if (!nc_machine_save(m, error)) {
    nc_machine_mark_leased(m, NULL);
    nc_machine_release(m);
    return NULL;
  }
  NcMachineLease *lease = nc_machine_lease_new(nc_machine_ref(m));
  nc_machine_release(m); /* from now on the lease keeps the others away */
  return lease;
}

NcMachineLease *
nc_machines_lease_incoming(NcMachines *machines, json_t *spec, const char *migration_id, GError **error)
{
  const char *name = nc_json_string(spec, "name", error);
  if (!name)
    return NULL;
  if (!nc_name_is_valid(name)) {
    nc_fail(error, NC_ERROR_INVALID, "\"%.64s\" can't name a machine: " NC_NAME_RULE, name);
    return NULL;
  }
  g_autoptr(NcMachine) m = nc_machine_new(machines, name, spec);
  m->incoming = true;
  nc_machine_mark_leased(m, migration_id);
  if (!nc_machines_insert(machines, m, error))
    return NULL;
  if (!nc_machine_save(m, error)) {
    g_autoptr(GError) problem = NULL;
    if (!nc_machine_forget(m, &problem))
      nc_log(NC_LOG_ERR, "agent", "machine %s: %s", name, problem->message);
    return NULL;
  }
  return nc_machine_lease_new(g_steal_pointer(&m));
}

NcMachineLease *
nc_machines_lease_resume(NcMachines *machines, const char *name, const char *migration_id, GError **error)
{
  g_autoptr(NcMachine) m = nc_machines_find(machines, name, error);
  if (!m)
    return NULL;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&machines->lock);
    if (g_strcmp0(m->lease_id, migration_id) != 0 || m->lease_held) {
      nc_fail(error, NC_ERROR_CONFLICT, "%s is not in the hands of migration %s any more", name, migration_id);
      return NULL;
    }
    m->lease_held = true;
  }
  return nc_machine_lease_new(g_steal_pointer(&m));
}

bool
nc_machine_lease_launch_incoming(NcMachineLease *lease, GError **error)
{
  return nc_machine_launch(lease->m, true, error);
}

/* --- looking --- */

NcQmp *
nc_machine_lease_qmp(NcMachineLease *lease)
{
  return nc_machine_qmp(lease->m);
}

pid_t
nc_machine_lease_pid(NcMachineLease *lease)
{
  return nc_machine_pid(lease->m);
}

const char *
nc_machine_lease_name(NcMachineLease *lease)
{
  return lease->m->name;
}

json_t *
nc_machine_lease_spec(NcMachineLease *lease)
{
  json_t *spec = nc_machine_get_spec(lease->m);
  json_decref(lease->spec);
  lease->spec = spec;
  return spec;
}

const char *
nc_machine_lease_run_dir(NcMachineLease *lease)
{
  return lease->m->run_dir;
}

bool
nc_machine_lease_is_alive(NcMachineLease *lease)
{
  return nc_machine_qemu_lives(lease->m);
}

char *
nc_machine_lease_log_tail(NcMachineLease *lease)
{
  return nc_machine_log_tail(lease->m);
}

void
nc_machine_lease_set_event_func(NcMachineLease *lease, NcQmpEventFunc func, gpointer user_data)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&lease->m->event_lock);
  lease->m->event_func = func;
  lease->m->event_data = user_data;
}

bool
nc_machine_lease_kill_qemu(NcMachineLease *lease, GError **error)
{
  return nc_machine_kill(lease->m, error);
}

/* --- ending --- */

/* Whether the machine may be given up; a living QEMU is never forgotten. */
static bool
nc_machine_lease_qemu_is_gone(NcMachine *m, const char *outcome)
{
  if (!nc_machine_qemu_lives(m)) {
    nc_machine_clear_runtime(m);
    return true;
  }
  nc_log(NC_LOG_ERR, "agent", "machine %s: its migration ended as %s, but its QEMU (process %d) still lives; it is kept in the list", m->name,
         outcome, (int)m->pid);
  return false;
}

static void
nc_machine_end_gone(NcMachine *m)
{
  g_autoptr(GError) error = NULL;
  NcRight right;

  nc_machine_lease_qemu_is_gone(m, "moved");
  if (!nc_journal_get_right(m->owner->journal, m->name, &right, &error)) {
    nc_log(NC_LOG_ERR, "agent", "machine %s: %s", m->name, error->message);
    right.peer[0] = '\0';
  }
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  if (!m->pid) {
    g_free(m->moved_to);
    m->moved_to = g_strdup(right.peer[0] ? right.peer : "unknown");
  }
}

static void
nc_machine_end_arrived(NcMachine *m)
{
  if (!nc_machine_qemu_lives(m))
    nc_machine_clear_runtime(m);
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  m->incoming = false;
  g_clear_pointer(&m->moved_to, g_free);
}

/* True if the record is to go altogether; a machine that had moved away before goes back to that. */
static bool
nc_machine_end_discard(NcMachine *m)
{
  if (!nc_machine_lease_qemu_is_gone(m, "discarded"))
    return false;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  m->incoming = false;
  return !m->moved_to;
}

void
nc_machine_lease_end(NcMachineLease *lease, NcLeaseOutcome outcome)
{
  NcMachine *m = lease->m;
  g_autoptr(GError) error = NULL;
  bool forget = false;

  if (outcome == NC_LEASE_GONE)
    nc_machine_end_gone(m);
  else if (outcome == NC_LEASE_ARRIVED)
    nc_machine_end_arrived(m);
  else if (outcome == NC_LEASE_DISCARD)
    forget = nc_machine_end_discard(m);
  else if (!nc_machine_qemu_lives(m))
    nc_machine_clear_runtime(m);

  if (!forget)
    nc_machine_refresh(m);
  nc_machine_mark_leased(m, NULL);
  if (!(forget ? nc_machine_forget(m, &error) : nc_machine_save(m, &error)))
    nc_log(NC_LOG_ERR, "agent", "machine %s: the end of its migration could not be recorded: %s", m->name, error->message);
  nc_machine_lease_free(lease);
}

void
nc_machine_lease_abandon(NcMachineLease *lease)
{
  nc_machine_lease_free(lease);
}

/* --- leases that nobody claimed after a restart --- */

/* It was prepared here and its migration was never recorded: nobody will claim it, and its QEMU never ran the guest. */
static bool
nc_machine_discard_orphan(NcMachine *m, GError **error)
{
  if (!nc_machine_kill(m, error))
    return false;
  return nc_machine_end_discard(m) ? nc_machine_forget(m, error) : nc_machine_save(m, error);
}

static void
nc_machine_release_orphan(NcMachine *m)
{
  g_autoptr(GError) error = NULL;
  NcRight right;
  bool ok = nc_journal_get_right(m->owner->journal, m->name, &right, &error);

  nc_log(NC_LOG_WARNING, "agent", "machine %s was leased by migration %s, which this node does not know", m->name, m->lease_id);
  if (ok && right.state != NC_RIGHT_HELD && !m->incoming) {
    nc_log(NC_LOG_ERR, "agent", "machine %s: the right to run it is %s: it is left alone", m->name, nc_right_name(right.state));
    return;
  }
  nc_machine_mark_leased(m, NULL);
  if (ok && m->incoming && right.state != NC_RIGHT_HELD)
    ok = nc_machine_discard_orphan(m, &error);
  else if (ok) {
    nc_machine_end_arrived(m);
    nc_machine_refresh(m);
    ok = nc_machine_save(m, &error);
  }
  if (!ok)
    nc_log(NC_LOG_ERR, "agent", "machine %s: %s", m->name, error->message);
}

/*
 * An epoch that was promised to us and that no migration here knows can't be
 * started any more; saying so durably lets the source go on (design section 5, step 5).
 */
static void
nc_machines_refuse_orphan_rights(NcMachines *machines)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *names = nc_journal_list_rights(machines->journal, NC_RIGHT_INCOMING, &error);
  size_t i;
  json_t *name;

  json_array_foreach(names, i, name)
  {
    NcRight right;
    const char *vm = json_string_value(name);
    g_autoptr(NcMachine) m = nc_machines_find(machines, vm, NULL);
    if ((m && m->lease_id) || !nc_journal_get_right(machines->journal, vm, &right, &error))
      continue;
    right.state = NC_RIGHT_REFUSED;
    if (nc_journal_set_right(machines->journal, &right, NC_RIGHT_INCOMING, right.epoch, &error))
      nc_log(NC_LOG_NOTICE, "agent", "machine %s: epoch %" G_GUINT64_FORMAT " is refused: its migration %s was cut short before it began",
             vm, right.epoch, right.migration);
    if (error)
      break;
  }
  if (error)
    nc_log(NC_LOG_ERR, "agent", "run rights can't be looked through: %s", error->message);
}

void
nc_machines_release_orphans(NcMachines *machines)
{
  g_autoptr(GPtrArray) orphans = g_ptr_array_new_with_free_func((GDestroyNotify)nc_machine_unref);
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&machines->lock);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, machines->table);
    while (g_hash_table_iter_next(&iter, NULL, &value))
      if (((NcMachine *)value)->lease_id && !((NcMachine *)value)->lease_held)
        g_ptr_array_add(orphans, nc_machine_ref(value));
  }
  for (guint i = 0; i < orphans->len; i++)
    nc_machine_release_orphan(orphans->pdata[i]);
  nc_machines_refuse_orphan_rights(machines);
}
