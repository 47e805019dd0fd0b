/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/machines.h"

json_t *
nc_machines_adopt(NcMachines *machines, json_t *args, GError **error)
{
  nc_fail(error, NC_ERROR_CONFLICT, "adopting a QEMU that somebody else started is not in this version yet");
  return NULL;
}
