/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/algorithm.h"

static const char *const nc_algorithm_names[NC_ALGORITHM_COUNT] = { "auto", "pre-copy", "post-copy" };

const char *
nc_algorithm_name(NcAlgorithm algorithm)
{
  return nc_algorithm_names[algorithm];
}

bool
nc_algorithm_from_name(const char *name, NcAlgorithm *ret)
{
  if (g_strcmp0(name, "hybrid") == 0)
    name = "auto";
  for (int i = 0; i < NC_ALGORITHM_COUNT; i++) {
    if (g_strcmp0(name, nc_algorithm_names[i]) == 0) {
      *ret = (NcAlgorithm)i;
      return true;
    }
  }
  return false;
}

bool
nc_algorithm_may_postcopy(NcAlgorithm algorithm, bool destination_can, const char *destination, bool *ret, GError **error)
{
  if (algorithm == NC_ALGORITHM_POSTCOPY && !destination_can)
    return nc_fail(error, NC_ERROR_UNSUITABLE,
                   "post-copy is not possible to %s: userfaultfd can't be used there (sysctl vm.unprivileged_userfaultfd=1, or run "
                   "novacrond with CAP_SYS_PTRACE). Or migrate with --algorithm pre-copy",
                   destination);
  *ret = destination_can && algorithm != NC_ALGORITHM_PRECOPY;
  return true;
}
