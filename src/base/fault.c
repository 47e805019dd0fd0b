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

/* The action for ${point}, the first time that it is reached; NULL: none. ${only}: if it is this one; NULL: any. */
static const char *
nc_fault_take(const char *point, const char *only)
{
  static gint spent = 0;
  const char *wanted = nc_fault_wanted();
  size_t length = strlen(point);

  if (!wanted || strncmp(wanted, point, length) != 0 || wanted[length] != ':')
    return NULL;
  const char *action = wanted + length + 1;
  bool general = g_str_equal(action, "kill") || g_str_equal(action, "stop") || g_str_has_prefix(action, "sleep=");
  if (only ? !g_str_equal(action, only) : !general)
    return NULL;
  if (!g_atomic_int_compare_and_exchange(&spent, 0, 1))
    return NULL;
  nc_log(NC_LOG_WARNING, "base", "fault point %s: %s", point, action);
  return action;
}

bool
nc_fault_asks(const char *point, const char *action)
{
  return nc_fault_take(point, action) != NULL;
}

void
nc_fault_point(const char *point)
{
  const char *action = nc_fault_take(point, NULL);

  if (!action)
    return;
  if (g_str_equal(action, "kill"))
    raise(SIGKILL);
  else if (g_str_equal(action, "stop"))
    raise(SIGSTOP);
  else
    g_usleep(1000 * (gulong)g_ascii_strtoull(action + strlen("sleep="), NULL, 10));
}
