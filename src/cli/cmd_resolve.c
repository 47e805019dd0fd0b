/* SPDX-License-Identifier: Apache-2.0 */
/* novacron resolve: an operator's decision for a migration whose sides can't agree. */
#include "cli/client.h"
#include "cli/table.h"

#include <stdio.h>

bool
nc_cmd_resolve(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  int run_here = 0, give_up = 0;
  const GOptionEntry options[] = {
    { "run-here", 0, 0, G_OPTION_ARG_NONE, &run_here, "this node takes the run right and resumes the machine", NULL },
    { "give-up", 0, 0, G_OPTION_ARG_NONE, &give_up, "the other node will not come back: end what needs its pages here", NULL },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, options, &argc, &argv, error) || !nc_cli_check_name("migration", argv[0], error))
    return false;
  if (run_here == give_up)
    return nc_fail(
        error, NC_ERROR_INVALID,
        "say --run-here, after making sure that the machine can't run on the other node, or --give-up (see novacron resolve --help)");
  nc_autojson json_t *body = json_pack("{s:s}", "action", run_here ? "run_here" : "give_up");
  nc_autojson json_t *migration = nc_client_callf(cli, "POST", body, error, "/api/v2/migrations/%s/resolve", argv[0]);
  if (!migration)
    return false;
  g_autofree char *vm = nc_text_clean(nc_json_string_or(migration, "vm", "the machine"));
  if (cli->json)
    nc_cli_print_json(migration);
  else
    printf(run_here ? "%s: this node takes the run right and resumes %s.\nFollow it: novacron status %s\n"
                    : "%s: %s is given up here.\nFollow it: novacron status %s\n",
           argv[0], vm, argv[0]);
  return true;
}
