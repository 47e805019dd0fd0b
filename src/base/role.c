/* SPDX-License-Identifier: Apache-2.0 */
#include "base/role.h"

#include <glib.h>

static const char *const nc_role_names[] = { [NC_ROLE_VIEWER] = "viewer", [NC_ROLE_OPERATOR] = "operator", [NC_ROLE_ADMIN] = "admin" };
G_STATIC_ASSERT(G_N_ELEMENTS(nc_role_names) == NC_ROLE_COUNT);

const char *
nc_role_name(NcRole role)
{
  return role < NC_ROLE_COUNT ? nc_role_names[role] : "none";
}

bool
nc_role_from_name(const char *name, NcRole *ret)
{
  for (int i = 0; name && i < NC_ROLE_COUNT; i++) {
    if (!g_str_equal(nc_role_names[i], name))
      continue;
    *ret = (NcRole)i;
    return true;
  }
  return false;
}
