/* SPDX-License-Identifier: Apache-2.0 */
/* The list of this node's machines: finding, taking, recording, and the thread that looks after them. */
#include "agent/machine.h"
#include "base/ident.h"
#include "base/log.h"

#include <string.h>

/* How often the watcher looks without being woken. */
#define NC_WATCH_PERIOD_US 1000000
/* More machines than a host can run; a runaway script gets an answer. */
#define NC_MACHINES_MAX 4096

/* --- one machine --- */

NcMachine *
nc_machine_new(NcMachines *owner, const char *name, json_t *spec)
{
  NcMachine *m = g_new0(NcMachine, 1);
  m->owner = owner;
  m->name = g_strdup(name);
  m->run_dir = g_build_filename(owner->config->run_dir, "machines", name, NULL);
  m->refs = 1;
  m->spec = json_incref(spec);
  m->old_qmp = g_ptr_array_new_with_free_func((GDestroyNotify)nc_qmp_free);
  g_mutex_init(&m->qmp_lock);
  g_mutex_init(&m->save_lock);
  g_mutex_init(&m->event_lock);
  return m;
}

NcMachine *
nc_machine_ref(NcMachine *m)
{
  g_atomic_int_inc(&m->refs);
  return m;
}

void
nc_machine_unref(NcMachine *m)
{
  if (!m || !g_atomic_int_dec_and_test(&m->refs))
    return;
  nc_qmp_free(m->qmp); /* its callback runs no more after this */
  g_ptr_array_unref(m->old_qmp);
  g_mutex_clear(&m->qmp_lock);
  g_mutex_clear(&m->save_lock);
  g_mutex_clear(&m->event_lock);
  json_decref(m->spec);
  g_free(m->moved_to);
  g_free(m->made_by);
  g_free(m->lease_id);
  g_free(m->qmp_path);
  g_free(m->run_dir);
  g_free(m->name);
  g_free(m);
}

static json_t *
nc_machine_record_locked(NcMachine *m)
{
  json_t *runtime = json_pack("{s:i, s:I, s:s?, s:b, s:s?, s:b}", "pid", (int)m->pid, "pid_start", (json_int_t)m->pid_start, "qmp",
                              m->qmp_path, "adopted", m->adopted, "leased_by", m->lease_id, "incoming", m->incoming);
  return json_pack("{s:s, s:O, s:s?, s:s?, s:o}", "name", m->name, "spec", m->spec, "moved_to", m->moved_to, "made_by", m->made_by,
                   "runtime", runtime);
}

bool
nc_machine_save(NcMachine *m, GError **error)
{
  g_autoptr(GMutexLocker) saving = g_mutex_locker_new(&m->save_lock);
  nc_autojson json_t *record = NULL;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
    if (!m->present)
      return true; /* the watcher was late: a deleted machine does not come back */
    record = nc_machine_record_locked(m);
  }
  return nc_journal_put_machine(m->owner->journal, m->name, record, error);
}

static NcMachine *
nc_machine_from_record(NcMachines *machines, json_t *record, GError **error)
{
  const char *name = nc_json_string(record, "name", error);
  json_t *spec = json_object_get(record, "spec");
  json_t *runtime = json_object_get(record, "runtime");

  if (!name)
    return NULL;
  if (!nc_name_is_valid(name) || !json_is_object(spec)) {
    nc_fail(error, NC_ERROR_CORRUPT, "a machine's record in this node's journal is malformed (%.64s)", name);
    return NULL;
  }
  NcMachine *m = nc_machine_new(machines, name, spec);
  m->moved_to = g_strdup(nc_json_string_or(record, "moved_to", NULL));
  m->made_by = g_strdup(nc_json_string_or(record, "made_by", NULL));
  m->pid = (pid_t)CLAMP(nc_json_int_or(runtime, "pid", 0), 0, G_MAXINT);
  m->pid_start = (uint64_t)nc_json_int_or(runtime, "pid_start", 0);
  m->qmp_path = g_strdup(nc_json_string_or(runtime, "qmp", NULL));
  m->adopted = nc_json_bool_or(runtime, "adopted", false);
  m->lease_id = g_strdup(nc_json_string_or(runtime, "leased_by", NULL));
  m->incoming = nc_json_bool_or(runtime, "incoming", false);
  m->present = true;
  return m;
}

static const char *
nc_machine_state_locked(NcMachine *m)
{
  if (m->lease_id && m->incoming)
    return "incoming";
  if (m->lease_id && m->pid)
    return "migrating";
  if (m->moved_to)
    return "moved";
  if (!m->pid)
    return "stopped";
  if (m->guest == NC_GUEST_RUNNING)
    return "running";
  return m->guest == NC_GUEST_PAUSED ? "paused" : "unknown";
}

/* Which node holds the right by what this one knows; NULL: unknown. */
static const char *
nc_right_holder(const NcMachines *machines, const NcRight *right)
{
  if (right->state == NC_RIGHT_HELD)
    return machines->config->node;
  return right->peer[0] ? right->peer : NULL;
}

json_t *
nc_machine_view(NcMachine *m, GError **error)
{
  NcMachines *machines = m->owner;
  NcRight right;

  if (!nc_journal_get_right(machines->journal, m->name, &right, error))
    return NULL;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&machines->lock);
  return json_pack("{s:s, s:s, s:o, s:I, s:I, s:I, s:s, s:s?, s:b, s:s?, s:s?, s:O}", "name", m->name, "state",
                   nc_machine_state_locked(m), "pid", m->pid ? json_integer(m->pid) : json_null(), "memory_mib",
                   (json_int_t)nc_json_int_or(m->spec, "memory_mib", 0), "vcpus", (json_int_t)nc_json_int_or(m->spec, "vcpus", 1),
                   "epoch", (json_int_t)right.epoch, "right", nc_right_name(right.state), "holder", nc_right_holder(machines, &right),
                   "adopted", m->adopted, "migration", m->lease_id, "moved_to", m->moved_to, "spec", m->spec);
}

json_t *
nc_machine_get_spec(NcMachine *m)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  return json_incref(m->spec);
}

/* --- the list --- */

NcMachine *
nc_machines_find(NcMachines *machines, const char *name, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&machines->lock);
  NcMachine *m = g_hash_table_lookup(machines->table, name);
  if (m)
    return nc_machine_ref(m);
  nc_fail(error, NC_ERROR_NOT_FOUND, "there is no machine %.64s on node %s", name, machines->config->node);
  return NULL;
}

bool
nc_machines_has(NcMachines *machines, const char *name)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&machines->lock);
  return g_hash_table_contains(machines->table, name);
}

static bool
nc_machine_take_locked(NcMachine *m, const char *what, GError **error)
{
  gint64 until = g_get_monotonic_time() + NC_MACHINE_BUSY_MS * G_TIME_SPAN_MILLISECOND;

  while (m->busy && !m->owner->quitting)
    if (!g_cond_wait_until(&m->owner->changed, &m->owner->lock, until))
      break;
  if (m->busy)
    return nc_fail(error, NC_ERROR_CONFLICT, "can't %s %s: its %s is under way", what, m->name, m->busy_with);
  if (!m->present)
    return nc_fail(error, NC_ERROR_NOT_FOUND, "there is no machine %s on node %s any more", m->name, m->owner->config->node);
  if (m->lease_id)
    return nc_fail(error, NC_ERROR_CONFLICT, "can't %s %s: migration %s has it (`novacron status %s`)", what, m->name, m->lease_id,
                   m->lease_id);
  m->busy = true;
  m->busy_with = what;
  return true;
}

NcMachine *
nc_machines_acquire(NcMachines *machines, const char *name, const char *what, GError **error)
{
  g_autoptr(NcMachine) m = nc_machines_find(machines, name, error);
  if (!m)
    return NULL;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&machines->lock);
  return nc_machine_take_locked(m, what, error) ? g_steal_pointer(&m) : NULL;
}

void
nc_machine_release(NcMachine *m)
{
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
    m->busy = false;
    m->force_stop = false;
    g_cond_broadcast(&m->owner->changed);
  }
  nc_machine_unref(m);
}

bool
nc_machines_insert(NcMachines *machines, NcMachine *m, GError **error)
{
  g_autoptr(NcMachine) replaced = NULL; /* dropped after the lock */
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&machines->lock);
  NcMachine *present = g_hash_table_lookup(machines->table, m->name);

  if (present && (!present->moved_to || present->busy || present->lease_id))
    return nc_fail(error, NC_ERROR_EXISTS, "there is a machine %s on node %s already (it is %s)", m->name, machines->config->node,
                   nc_machine_state_locked(present));
  if (g_hash_table_size(machines->table) >= NC_MACHINES_MAX)
    return nc_fail(error, NC_ERROR_RESOURCE, "node %s has %d machines: more are not supported", machines->config->node, NC_MACHINES_MAX);
  if (present) {
    g_free(m->moved_to);
    m->moved_to = g_strdup(present->moved_to);
    present->present = false;
    replaced = nc_machine_ref(present);
  }
  m->present = true;
  g_hash_table_replace(machines->table, m->name, nc_machine_ref(m));
  return true;
}

bool
nc_machine_forget(NcMachine *m, GError **error)
{
  g_autoptr(GMutexLocker) saving = g_mutex_locker_new(&m->save_lock);

  if (!nc_journal_delete_machine(m->owner->journal, m->name, error))
    return false;
  nc_machine_remove_files(m);
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->owner->lock);
  m->present = false;
  if (g_hash_table_lookup(m->owner->table, m->name) == m)
    g_hash_table_remove(m->owner->table, m->name);
  return true;
}

/* References to all machines. */
static GPtrArray *
nc_machines_snapshot(NcMachines *machines)
{
  GPtrArray *all = g_ptr_array_new_with_free_func((GDestroyNotify)nc_machine_unref);
  GHashTableIter iter;
  gpointer value;

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&machines->lock);
  g_hash_table_iter_init(&iter, machines->table);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    g_ptr_array_add(all, nc_machine_ref(value));
  return all;
}

static gint
nc_machine_compare(gconstpointer a, gconstpointer b)
{
  return strcmp((*(NcMachine *const *)a)->name, (*(NcMachine *const *)b)->name);
}

json_t *
nc_machines_list(NcMachines *machines, json_t *args, GError **error)
{
  g_autoptr(GPtrArray) all = nc_machines_snapshot(machines);
  nc_autojson json_t *list = json_array();

  g_ptr_array_sort(all, nc_machine_compare);
  for (guint i = 0; i < all->len; i++) {
    json_t *view = nc_machine_view(all->pdata[i], error);
    if (!view)
      return NULL;
    json_array_append_new(list, view);
  }
  return g_steal_pointer(&list);
}

const char *
nc_machine_arg_name(json_t *args, GError **error)
{
  const char *name = nc_json_string(args, "name", error);
  if (name && !nc_name_is_valid(name)) {
    nc_fail(error, NC_ERROR_INVALID, "\"%.64s\" can't name a machine: " NC_NAME_RULE, name);
    return NULL;
  }
  return name;
}

json_t *
nc_machines_get(NcMachines *machines, json_t *args, GError **error)
{
  const char *name = nc_machine_arg_name(args, error);
  g_autoptr(NcMachine) m = name ? nc_machines_find(machines, name, error) : NULL;
  return m ? nc_machine_view(m, error) : NULL;
}

uint64_t
nc_machines_promised_bytes(NcMachines *machines)
{
  g_autoptr(GPtrArray) all = nc_machines_snapshot(machines);
  uint64_t total = 0;
  for (guint i = 0; i < all->len; i++)
    total += nc_machine_missing_bytes(all->pdata[i]);
  return total;
}

uint64_t
nc_machines_reserved_bytes(NcMachines *machines)
{
  return nc_machines_promised_bytes(machines) + ((uint64_t)machines->config->memory_reserve_mib << 20);
}

/* --- life --- */

void
nc_machines_tick(NcMachines *machines)
{
  g_autoptr(GPtrArray) all = nc_machines_snapshot(machines);
  g_autoptr(GMutexLocker) one_at_a_time = g_mutex_locker_new(&machines->watching);
  for (guint i = 0; i < all->len; i++)
    nc_machine_check(all->pdata[i]);
}

static gpointer
nc_machines_watcher(gpointer data)
{
  NcMachines *machines = data;

  for (;;) {
    gint64 until = g_get_monotonic_time() + NC_WATCH_PERIOD_US;
    g_mutex_lock(&machines->lock);
    if (!machines->quitting)
      g_cond_wait_until(&machines->changed, &machines->lock, until);
    bool quitting = machines->quitting;
    g_mutex_unlock(&machines->lock);
    if (quitting)
      return NULL;
    nc_machines_tick(machines);
  }
}

NcMachines *
nc_machines_new(const NcConfig *config, NcJournal *journal, GError **error)
{
  NcMachines *machines = g_new0(NcMachines, 1);
  machines->config = config;
  machines->journal = journal;
  g_mutex_init(&machines->lock);
  g_mutex_init(&machines->watching);
  g_cond_init(&machines->changed);
  machines->table = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)nc_machine_unref);
  return machines;
}

void
nc_machines_stop_waiting(NcMachines *machines)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&machines->lock);
  machines->quitting = true;
  g_cond_broadcast(&machines->changed);
}

void
nc_machines_free(NcMachines *machines)
{
  if (!machines)
    return;
  nc_machines_stop_waiting(machines);
  if (machines->watcher)
    g_thread_join(machines->watcher);
  g_hash_table_unref(machines->table);
  g_cond_clear(&machines->changed);
  g_mutex_clear(&machines->watching);
  g_mutex_clear(&machines->lock);
  g_free(machines);
}

bool
nc_machines_reconcile(NcMachines *machines, GError **error)
{
  nc_autojson json_t *records = nc_journal_list_machines(machines->journal, error);
  size_t i;
  json_t *record;

  if (!records)
    return false;
  json_array_foreach(records, i, record)
  {
    NcMachine *m = nc_machine_from_record(machines, record, error);
    if (!m)
      return false;
    g_hash_table_replace(machines->table, m->name, m);
    nc_machine_find_qemu(m);
    if (!nc_machine_save(m, error))
      return false;
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&machines->lock);
    nc_log(NC_LOG_NOTICE, "agent", "machine %s: %s%s%s", m->name, nc_machine_state_locked(m), m->lease_id ? ", leased by migration " : "",
           m->lease_id ? m->lease_id : "");
  }
  machines->watcher = g_thread_new("machines", nc_machines_watcher, machines);
  return true;
}
