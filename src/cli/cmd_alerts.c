/* SPDX-License-Identifier: Apache-2.0 */
/* novacron alerts: what this node complains of, and what it complained of a while ago. */
#include "cli/client.h"
#include "cli/table.h"

#include <stdio.h>

static const char *
nc_alert_state(json_t *alert)
{
  bool fires = g_str_equal(nc_json_string_or(alert, "state", ""), "firing");
  bool is_critical = g_str_equal(nc_json_string_or(alert, "severity", ""), "critical");
  return !fires ? "resolved" : is_critical ? "CRITICAL" : "WARNING";
}

static void
nc_alert_print(json_t *alert)
{
  g_autofree char *name = nc_text_clean(nc_json_string_or(alert, "alert", "?"));
  g_autofree char *summary = nc_text_clean(nc_json_string_or(alert, "summary", "?"));
  g_autofree char *remedy = nc_text_clean(nc_json_string_or(alert, "remedy", ""));
  g_autofree char *migration = nc_text_clean(nc_json_string_or(alert, "migration", ""));
  const char *inhibitor = nc_json_string_or(alert, "inhibited_by", NULL), *resolved = nc_json_string_or(alert, "resolved", NULL);

  nc_print_fact(nc_alert_state(alert), "%s, since %s", name, nc_json_string_or(alert, "fired", "?"));
  nc_print_fact("", "%s%s", resolved ? "until " : "", resolved ? resolved : summary);
  if (resolved)
    nc_print_fact("", "%s", summary);
  if (migration[0])
    nc_print_fact("", "migration %s", migration);
  if (!resolved && remedy[0])
    nc_print_fact("", "%s", remedy);
  if (inhibitor)
    nc_print_fact("", "Nobody was told, because of %s.", inhibitor);
}

bool
nc_cmd_alerts(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error))
    return false;
  nc_autojson json_t *list = nc_client_call(cli, "GET", "/api/v2/alerts", NULL, error);
  json_t *items = json_object_get(list, "items"), *alert;
  size_t i;

  if (!list)
    return false;
  if (cli->json) {
    nc_cli_print_json(list);
    return true;
  }
  json_array_foreach(items, i, alert) nc_alert_print(alert);
  if (json_array_size(items) == 0)
    puts("Nothing is wrong, and nothing was in the last hour (or since novacrond was started).");
  return true;
}
