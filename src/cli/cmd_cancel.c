/* SPDX-License-Identifier: Apache-2.0 */
/* novacron cancel: asks a migration to end; the machine stays. */
#include "cli/client.h"
#include "cli/table.h"

#include <stdio.h>

bool
nc_cmd_cancel(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error) || !nc_cli_check_name("migration", argv[0], error))
    return false;
  nc_autojson json_t *migration = nc_client_callf(cli, "POST", NULL, error, "/api/v2/migrations/%s/cancel", argv[0]);
  if (!migration)
    return false;
  g_autofree char *vm = nc_text_clean(nc_json_string_or(migration, "vm", "the machine"));
  g_autofree char *source = nc_text_clean(nc_json_string_or(migration, "source", "the source"));
  if (cli->json)
    nc_cli_print_json(migration);
  else if (g_str_equal(nc_json_string_or(migration, "state", ""), "cancelled")) /* one of the fleet's that waited */
    printf("%s is cancelled.\n", argv[0]);
  else
    printf("%s is being cancelled; %s stays on %s.\n", argv[0], vm, source);
  return true;
}
