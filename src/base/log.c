/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const nc_log_level_names[] = {
  [NC_LOG_ERR] = "err", [NC_LOG_WARNING] = "warning", [NC_LOG_NOTICE] = "notice", [NC_LOG_INFO] = "info", [NC_LOG_DEBUG] = "debug",
};

static struct {
  const char *process;
  NcLogFormat format;
  NcLogLevel most_verbose;
} nc_log_state = { "novacron", NC_LOG_TEXT, NC_LOG_INFO };

void
nc_log_init(const char *process, NcLogFormat format, NcLogLevel most_verbose)
{
  nc_log_state.process = process;
  nc_log_state.format = format;
  nc_log_state.most_verbose = most_verbose;
}

int
nc_log_level_from_name(const char *name)
{
  for (int i = NC_LOG_ERR; i <= NC_LOG_DEBUG; i++)
    if (g_str_equal(nc_log_level_names[i], name))
      return i;
  return -1;
}

static char *
nc_log_json_line(NcLogLevel level, const char *component, const char *message)
{
  g_autoptr(GDateTime) now = g_date_time_new_now_utc();
  g_autofree char *time = g_date_time_format(now, "%Y-%m-%dT%H:%M:%S.%fZ");
  g_autofree char *valid = g_utf8_make_valid(message, -1);
  json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:s}", "time", time, "level", nc_log_level_names[level], "component",
                             component, "process", nc_log_state.process, "message", valid);
  char *text = json_dumps(object, JSON_COMPACT);
  char *line = g_strdup_printf("%s\n", text);
  free(text);
  json_decref(object);
  return line;
}

/* One line per message: what a guest or a peer made us print must not forge lines of its own. */
static void
nc_log_strip_controls(char *message)
{
  for (char *c = message; *c; c++)
    if ((unsigned char)*c < ' ' || *c == 127)
      *c = ' ';
}

void
nc_log(NcLogLevel level, const char *component, const char *format, ...)
{
  if (level > nc_log_state.most_verbose)
    return;
  va_list args;
  va_start(args, format);
  g_autofree char *message = g_strdup_vprintf(format, args);
  va_end(args);
  nc_log_strip_controls(message);
  g_autofree char *line = NULL;
  if (nc_log_state.format == NC_LOG_JSON)
    line = nc_log_json_line(level, component, message);
  else if (isatty(STDERR_FILENO))
    line = g_strdup_printf("%s: %s: %s\n", nc_log_level_names[level], component, message);
  else
    line = g_strdup_printf("<%d>%s: %s: %s\n", level, nc_log_state.process, component, message);
  if (write(STDERR_FILENO, line, strlen(line)) < 0)
    return; /* nowhere left to complain */
}
