/* SPDX-License-Identifier: Apache-2.0 */
/* Looks: one running machine, held for a moment by somebody who only asks. */
#include "agent/machine.h"
#include "qemu/migration_qmp.h"

struct NcMachineLook {
  NcMachine *m; /* acquired */
};

static bool
nc_machine_check_running(NcMachine *m, const char *what, GError **error)
{
  if (!nc_machine_check_movable(m, error))
    return false;
  NcQmp *qmp = nc_machine_qmp(m);
  return (qmp && nc_qemu_is_running(qmp)) ||
         nc_fail(error, NC_ERROR_CONFLICT, "can't %s %s: its guest is paused on node %s; let it run", what, m->name, m->owner->config->node);
}

NcMachineLook *
nc_machines_look(NcMachines *machines, const char *name, const char *what, GError **error)
{
  NcMachine *m = nc_machines_acquire(machines, name, what, error);
  if (!m)
    return NULL;
  if (!nc_machine_check_running(m, what, error)) {
    nc_machine_release(m);
    return NULL;
  }
  NcMachineLook *look = g_new0(NcMachineLook, 1);
  look->m = m;
  return look;
}

NcQmp *
nc_machine_look_qmp(NcMachineLook *look)
{
  return nc_machine_qmp(look->m);
}

pid_t
nc_machine_look_pid(NcMachineLook *look)
{
  return nc_machine_pid(look->m);
}

void
nc_machine_look_end(NcMachineLook *look)
{
  if (!look)
    return;
  nc_machine_release(look->m);
  g_free(look);
}
