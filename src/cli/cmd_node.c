/* SPDX-License-Identifier: Apache-2.0 */
/* novacron node: the cluster's nodes. */
#include "cli/client.h"
#include "cli/table.h"
#include "cli/units.h"

#include <stdio.h>

static const NcColumn nc_node_columns[] = {
  { .title = "NAME", .shrink = true },
  { .title = "STATE" },
  { .title = "ADDRESS", .shrink = true },
  { .title = "EXPIRES" },
};

bool
nc_cmd_node_list(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  size_t i;
  json_t *node;

  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error))
    return false;
  nc_autojson json_t *list = nc_client_list(cli, "/api/v2/nodes", 0, error);
  if (!list)
    return false;
  if (cli->json) {
    nc_cli_print_json(list);
    return true;
  }
  g_autoptr(NcTable) table = nc_table_new(nc_node_columns, G_N_ELEMENTS(nc_node_columns));
  json_array_foreach(json_object_get(list, "items"), i, node)
  {
    g_autofree char *state =
        g_strconcat(nc_json_string_or(node, "state", ""), nc_json_bool_or(node, "local", false) ? " (here)" : "", NULL);
    g_autofree char *expires = g_strndup(nc_json_string_or(node, "expires", ""), 10); /* the day */
    const char *cells[] = { nc_json_string_or(node, "name", ""), state, nc_json_string_or(node, "address", ""),
                            expires };
    nc_table_add(table, cells);
  }
  nc_table_print(table, "No nodes.");
  return true;
}

bool
nc_cmd_node_info(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error))
    return false;
  nc_autojson json_t *node = nc_client_call(cli, "GET", "/api/v2/node", NULL, error);
  if (!node)
    return false;
  if (cli->json) {
    nc_cli_print_json(node);
    return true;
  }
  g_autofree char *memory = nc_format_bytes(nc_json_int_or(node, "memory_bytes", 0));
  g_autofree char *available = nc_format_bytes(nc_json_int_or(node, "memory_available_bytes", 0));
  g_autofree char *title = nc_text_clean(nc_json_string_or(node, "name", "?"));
  puts(title);
  nc_print_fact("address", "%s", nc_json_string_or(node, "address", "?"));
  nc_print_fact("version", "%s", nc_json_string_or(node, "version", "?"));
  nc_print_fact("QEMU", "%s", nc_json_string_or(node, "qemu_version", "none found"));
  nc_print_fact("CPUs", "%d", (int)nc_json_int_or(node, "cpus", 0));
  nc_print_fact("memory", "%s, %s available", memory, available);
  nc_print_fact("cluster CA", "%s",
                nc_json_bool_or(node, "ca", false) ? "its key is here" : "its key is on another node");
  nc_print_fact("node list", "version %d", (int)nc_json_int_or(node, "roster_version", 0));
  return true;
}

bool
nc_cmd_node_token(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_autofree char *ttl = NULL, *name = NULL;
  const GOptionEntry options[] = {
    { "ttl", 0, 0, G_OPTION_ARG_STRING, &ttl, "how long it is good: 90s, 15min, 2h, 1d (default 1h)", "DURATION" },
    { "name", 0, 0, G_OPTION_ARG_STRING, &name, "only a node of this name may use it", "NODE" },
    { NULL },
  };
  nc_autojson json_t *body = json_object();
  int64_t ttl_s = 3600;

  if (!nc_cli_parse(cli, command, options, &argc, &argv, error) || (ttl && !nc_parse_duration(ttl, &ttl_s, error)) ||
      (name && !nc_cli_check_name("node", name, error)))
    return false;
  json_object_set_new(body, "ttl_s", json_integer(ttl_s));
  if (name)
    json_object_set_new(body, "name", json_string(name));
  nc_autojson json_t *made = nc_client_call(cli, "POST", "/api/v2/nodes/tokens", body, error);
  if (!made)
    return false;
  if (cli->json) {
    nc_cli_print_json(made);
    return true;
  }
  g_autofree char *token = nc_text_clean(nc_json_string_or(made, "token", ""));
  g_autofree char *expires = nc_text_clean(nc_json_string_or(made, "expires", "?"));
  puts(token);
  fprintf(stderr,
          "good once, until %s; on the new node:\n  novacrond join --token TOKEN --to HOST:PORT --name %s --address "
          "HOST:PORT\n",
          expires, name ? name : "NAME");
  return true;
}

bool
nc_cmd_node_remove(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error) || !nc_cli_check_name("node", argv[0], error))
    return false;
  nc_autojson json_t *node = nc_client_callf(cli, "DELETE", NULL, error, "/api/v2/nodes/%s", argv[0]);
  if (!node)
    return false;
  if (cli->json)
    nc_cli_print_json(node);
  else
    printf("%s is no longer part of the cluster.\n", argv[0]);
  return true;
}
