/* SPDX-License-Identifier: Apache-2.0 */
/* novacron vm: this node's machines. */
#include "cli/client.h"
#include "cli/table.h"
#include "cli/units.h"

#include <stdio.h>

static const NcColumn nc_vm_columns[] = {
  { .title = "NAME", .shrink = true },      { .title = "STATE" },
  { .title = "MEMORY", .right = true },     { .title = "CPUS", .right = true },
  { .title = "RUN RIGHT", .shrink = true }, { .title = "MIGRATION", .shrink = true },
};

/* "held", "released to host-b" */
static char *
nc_vm_right(json_t *machine)
{
  const char *right = nc_json_string_or(machine, "right", "-"), *holder = nc_json_string_or(machine, "holder", "");
  bool elsewhere = holder[0] && !g_str_equal(right, "held");
  return g_strconcat(right, elsewhere ? ": " : "", elsewhere ? holder : "", NULL);
}

static char *
nc_vm_memory(json_t *machine)
{
  return nc_format_bytes(nc_json_int_or(machine, "memory_mib", 0) << 20);
}

bool
nc_cmd_vm_list(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  size_t i;
  json_t *machine;

  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error))
    return false;
  nc_autojson json_t *list = nc_client_list(cli, "/api/v2/machines", 0, error);
  if (!list)
    return false;
  if (cli->json) {
    nc_cli_print_json(list);
    return true;
  }
  g_autoptr(NcTable) table = nc_table_new(nc_vm_columns, G_N_ELEMENTS(nc_vm_columns));
  json_array_foreach(json_object_get(list, "items"), i, machine)
  {
    g_autofree char *memory = nc_vm_memory(machine), *right = nc_vm_right(machine);
    g_autofree char *cpus = g_strdup_printf("%d", (int)nc_json_int_or(machine, "vcpus", 0));
    const char *cells[] = {
      nc_json_string_or(machine, "name", ""),     nc_json_string_or(machine, "state", ""), memory, cpus, right,
      nc_json_string_or(machine, "migration", "")
    };
    nc_table_add(table, cells);
  }
  nc_table_print(table, "No machines on this node.");
  return true;
}

bool
nc_cmd_vm_show(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error) || !nc_cli_check_name("machine", argv[0], error))
    return false;
  nc_autojson json_t *machine = nc_client_callf(cli, "GET", NULL, error, "/api/v2/machines/%s", argv[0]);
  if (!machine)
    return false;
  if (cli->json) {
    nc_cli_print_json(machine);
    return true;
  }
  g_autofree char *memory = nc_vm_memory(machine), *right = nc_vm_right(machine);
  int64_t pid = nc_json_int_or(machine, "pid", 0);
  puts(argv[0]);
  nc_print_fact("state", "%s", nc_json_string_or(machine, "state", "?"));
  if (pid > 0)
    nc_print_fact("QEMU", "process %" G_GINT64_FORMAT "%s", pid,
                  nc_json_bool_or(machine, "adopted", false) ? ", started by somebody else" : "");
  nc_print_fact("memory", "%s", memory);
  nc_print_fact("CPUs", "%d", (int)nc_json_int_or(machine, "vcpus", 0));
  nc_print_fact("run right", "%s (epoch %" G_GINT64_FORMAT ")", right, nc_json_int_or(machine, "epoch", 0));
  if (json_is_string(json_object_get(machine, "migration")))
    nc_print_fact("migration", "%s", nc_json_string_or(machine, "migration", ""));
  g_autofree char *spec = json_dumps(json_object_get(machine, "spec"), JSON_INDENT(2));
  if (spec)
    printf("  spec\n%s\n", spec); /* JSON has its control characters escaped */
  return true;
}

/* The shared end of commands that change one machine. */
static bool
nc_vm_change(NcCli *cli, const char *name, const char *method, json_t *body, const char *path, GError **error)
{
  nc_autojson json_t *machine = nc_client_call(cli, method, path, body, error);

  if (!machine)
    return false;
  g_autofree char *state = nc_text_clean(nc_json_string_or(machine, "state", "?"));
  if (cli->json)
    nc_cli_print_json(machine);
  else if (g_str_equal(method, "DELETE"))
    printf("%s is forgotten; its disks are untouched.\n", name);
  else
    printf("%s: %s\n", name, state);
  return true;
}

bool
nc_cmd_vm_start(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  int take = 0;
  const GOptionEntry options[] = {
    { "take", 0, 0, G_OPTION_ARG_NONE, &take, "though the node it came from may have it: it runs nowhere", NULL },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, options, &argc, &argv, error) || !nc_cli_check_name("machine", argv[0], error))
    return false;
  nc_autojson json_t *body = json_pack("{s:b}", "take", take);
  g_autofree char *path = g_strdup_printf("/api/v2/machines/%s/start", argv[0]);
  return nc_vm_change(cli, argv[0], "POST", body, path, error);
}

bool
nc_cmd_vm_stop(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  int force = 0;
  const GOptionEntry options[] = {
    { "force", 0, 0, G_OPTION_ARG_NONE, &force, "end QEMU without asking the guest", NULL },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, options, &argc, &argv, error) || !nc_cli_check_name("machine", argv[0], error))
    return false;
  nc_autojson json_t *body = json_pack("{s:b}", "force", force);
  g_autofree char *path = g_strdup_printf("/api/v2/machines/%s/stop", argv[0]);
  return nc_vm_change(cli, argv[0], "POST", body, path, error);
}

bool
nc_cmd_vm_destroy(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error) || !nc_cli_check_name("machine", argv[0], error))
    return false;
  g_autofree char *path = g_strdup_printf("/api/v2/machines/%s", argv[0]);
  return nc_vm_change(cli, argv[0], "DELETE", NULL, path, error);
}

bool
nc_cmd_vm_adopt(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_autofree char *qmp = NULL;
  const GOptionEntry options[] = {
    { "qmp", 0, 0, G_OPTION_ARG_FILENAME, &qmp, "its QMP socket", "PATH" },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, options, &argc, &argv, error) || !nc_cli_check_name("machine", argv[0], error))
    return false;
  if (!qmp)
    return nc_fail(error, NC_ERROR_INVALID, "--qmp PATH is needed: the QMP socket of the QEMU to adopt");
  g_autofree char *absolute = g_canonicalize_filename(qmp, NULL);
  nc_autojson json_t *body = json_pack("{s:s, s:s}", "name", argv[0], "qmp", absolute);
  if (!body)
    return nc_fail(error, NC_ERROR_INVALID, "--qmp: the path is not UTF-8");
  return nc_vm_change(cli, argv[0], "POST", body, "/api/v2/machines/adopt", error);
}
