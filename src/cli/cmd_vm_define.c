/* SPDX-License-Identifier: Apache-2.0 */
/* novacron vm define: reads a machine file here, so that mistakes are named by file and line. */
#include "base/io.h"
#include "cli/client.h"
#include "cli/table.h"
#include "qemu/machine_spec.h"

#include <stdio.h>
#include <string.h>

#define NC_MACHINE_FILE_MAX_BYTES (1u << 20) /* what the gate takes */

/* A file that begins with "{" is JSON, as `vm show --json` has it under "spec". */
static json_t *
nc_machine_read_json(const char *path, const char *text, size_t length, GError **error)
{
  json_error_t problem;
  json_t *spec = json_loadb(text, length, JSON_REJECT_DUPLICATES, &problem);

  if (!json_is_object(spec)) {
    json_decref(spec);
    nc_fail(error, NC_ERROR_INVALID, "%s:%d: %s", path, problem.line, spec ? "not a JSON object" : problem.text);
    return NULL;
  }
  return spec;
}

static json_t *
nc_machine_read(const char *path, GError **error)
{
  size_t length;
  g_autofree char *text = nc_file_read(path, NC_MACHINE_FILE_MAX_BYTES, &length, error);

  if (!text)
    return NULL;
  if (text[strspn(text, " \t\r\n")] == '{')
    return nc_machine_read_json(path, text, length, error);
  g_autoptr(NcMachineSpec) spec = nc_machine_spec_load(path, error);
  return spec ? nc_machine_spec_to_json(spec) : NULL;
}

bool
nc_cmd_vm_define(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error))
    return false;
  nc_autojson json_t *spec = nc_machine_read(argv[0], error);
  nc_autojson json_t *machine = spec ? nc_client_call(cli, "POST", "/api/v2/machines", spec, error) : NULL;
  if (!machine)
    return false;
  g_autofree char *name = nc_text_clean(nc_json_string_or(machine, "name", "?"));
  if (cli->json)
    nc_cli_print_json(machine);
  else
    printf("%s is defined; start it with: novacron vm start %s\n", name, name);
  return true;
}
