/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"
#include "base/log.h"

#include <signal.h>
#include <string.h>

static const char *
nc_fault_wanted(void)
{
  static gsize once = 0;
  static const char *wanted = NULL;
  if (g_once_init_enter(&once)) {
    wanted = g_getenv("NOVACRON_FAULT");
    g_once_init_leave(&once, 1);
  }
  return wanted;
}

void
nc_fault_point(const char *point)
{
  static gint spent = 0;
  const char *wanted = nc_fault_wanted();
  size_t length = strlen(point);

  if (!wanted || strncmp(wanted, point, length) != 0 || wanted[length] != ':' || !g_atomic_int_compare_and_exchange(&spent, 0, 1))
    return;
  const char *action = wanted + length + 1;
  nc_log(NC_LOG_WARNING, "base", "fault point %s: %s", point, action);
  if (g_str_equal(action, "kill"))
    raise(SIGKILL);
  else if (g_str_equal(action, "stop"))
    raise(SIGSTOP);
  else if (g_str_has_prefix(action, "sleep="))
    g_usleep(1000 * (gulong)g_ascii_strtoull(action + strlen("sleep="), NULL, 10));
}
