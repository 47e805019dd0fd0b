/* SPDX-License-Identifier: Apache-2.0 */
/* Taking over a running QEMU that somebody else started. */
#include "agent/machine.h"
#include "base/log.h"
#include "qemu/adopt.h"
#include "qemu/process.h"

#include <string.h>

#define NC_ADOPT_TIMEOUT_MS 5000

typedef struct {
  const char *name;
  const char *qmp_path;
  NcQemuProcess process;
} NcAdoption;

static bool
nc_adoption_parse(json_t *args, NcAdoption *ret, GError **error)
{
  NcAdoption a = { .name = nc_machine_arg_name(args, error) };

  if (!a.name || !(a.qmp_path = nc_json_string(args, "qmp", error)))
    return false;
  if (a.qmp_path[0] != '/')
    return nc_fail(error, NC_ERROR_INVALID, "\"qmp\" must be the absolute path of a QMP socket, not %.107s", a.qmp_path);
  a.process.pid = nc_qemu_process_behind_socket(a.qmp_path, error);
  if (a.process.pid <= 0)
    return false;
  if (!nc_qemu_process_start_time(a.process.pid, &a.process.start_time))
    return nc_fail(error, NC_ERROR_QEMU, "the QEMU behind %s ended just now", a.qmp_path);
  *ret = a;
  return true;
}

/* A QEMU belongs to one machine, or two of them would have a say in it. */
static bool
nc_machines_check_unknown(NcMachines *machines, const NcAdoption *a, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&machines->lock);
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init(&iter, machines->table);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const NcMachine *m = value;
    if (m->pid == a->process.pid)
      return nc_fail(error, NC_ERROR_EXISTS, "the QEMU behind %s (process %d) is machine %s already", a->qmp_path, (int)m->pid, m->name);
  }
  return true;
}

static NcMachineSpec *
nc_adoption_read_spec(const NcAdoption *a, GError **error)
{
  /* Closed again before the machine connects: QEMU serves one client of a QMP socket at a time. */
  g_autoptr(NcQmp) qmp = nc_qmp_connect(a->qmp_path, NC_ADOPT_TIMEOUT_MS, error);

  if (!qmp) {
    g_prefix_error(error, "can't adopt the QEMU behind %s (does another program use this socket? give it one of its own): ", a->qmp_path);
    return NULL;
  }
  return nc_qemu_adopt(a->name, qmp, a->process.pid, error);
}

static bool
nc_machine_adopt(NcMachine *m, const NcAdoption *a, bool take, GError **error)
{
  g_autoptr(GError) problem = NULL;

  nc_machine_set_process(m, a->process.pid, a->process.start_time, a->qmp_path);
  m->adopted = true; /* not in the list yet: nobody else looks */
  if (!nc_machines_add(m->owner, m, take, error))
    return false;
  if (nc_machine_connect(m, NC_ADOPT_TIMEOUT_MS, error))
    return true;
  /* It is not ours: forgotten, and left alone. */
  if (!nc_machine_forget(m, &problem))
    nc_log(NC_LOG_ERR, "agent", "machine %s: %s", m->name, problem->message);
  return false;
}

json_t *
nc_machines_adopt(NcMachines *machines, json_t *args, GError **error)
{
  NcAdoption a = { .name = NULL };

  if (!nc_adoption_parse(args, &a, error) || !nc_machines_check_unknown(machines, &a, error))
    return NULL;
  g_autoptr(NcMachineSpec) spec = nc_adoption_read_spec(&a, error);
  if (!spec)
    return NULL;
  NcMachine *m = nc_machine_new_busy(machines, spec, "adopt");
  json_t *view = nc_machine_adopt(m, &a, nc_json_bool_or(args, "take", false), error) ? nc_machine_view(m, error) : NULL;
  if (view)
    nc_log(NC_LOG_NOTICE, "agent", "machine %s adopted: process %d", m->name, (int)a.process.pid);
  nc_machine_release(m);
  return view;
}
