/* SPDX-License-Identifier: Apache-2.0 */
/* novacron status: migrations, all or one. */
#include "base/ident.h"
#include "cli/client.h"
#include "cli/fleet_view.h"
#include "cli/migration_view.h"
#include "cli/table.h"
#include "cli/watch.h"

static const NcColumn nc_status_columns[] = {
  { .title = "ID" },
  { .title = "MACHINE", .shrink = true },
  { .title = "FROM", .shrink = true },
  { .title = "TO", .shrink = true },
  { .title = "PHASE" },
  { .title = "DONE", .right = true },
};

static void
nc_status_print_list(json_t *list)
{
  size_t i;
  json_t *migration;
  g_autoptr(NcTable) table = nc_table_new(nc_status_columns, G_N_ELEMENTS(nc_status_columns));

  json_array_foreach(json_object_get(list, "items"), i, migration)
  {
    json_t *progress = json_object_get(migration, "progress");
    g_autofree char *done = g_strdup_printf("%.0f %%", json_number_value(progress));
    const char *cells[] = { nc_json_string_or(migration, "id", ""),     nc_json_string_or(migration, "vm", ""),
                            nc_json_string_or(migration, "source", ""), nc_json_string_or(migration, "destination", ""),
                            nc_json_string_or(migration, "phase", ""),  done };
    nc_table_add(table, cells);
  }
  nc_table_print(table, "No migrations.");
}

/* One of the fleet's. */
static bool
nc_status_show_move(NcCli *cli, const char *id, GError **error)
{
  nc_autojson json_t *record = nc_client_callf(cli, "GET", NULL, error, "/api/v2/fleet/migrations/%s", id);

  if (record && cli->json)
    nc_cli_print_json(record);
  else if (record)
    nc_fleet_print_record(NC_FLEET_MIGRATION, record);
  return record;
}

bool
nc_cmd_status(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  gboolean forecast = FALSE, follow = FALSE;
  const GOptionEntry entries[] = {
    { "forecast", 0, 0, G_OPTION_ARG_NONE, &forecast, "what was expected of it round by round, and what came of it", NULL },
    { "follow", 0, 0, G_OPTION_ARG_NONE, &follow, "tell what happens to it, as it happens, until it has ended", NULL },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, entries, &argc, &argv, error) ||
      (argc > 0 && !nc_cli_check_name("migration", argv[0], error)))
    return false;
  if (forecast && argc == 0)
    return nc_fail(error, NC_ERROR_INVALID, "--forecast is of one migration: give its ID");
  if (follow && (argc == 0 || forecast))
    return nc_fail(error, NC_ERROR_INVALID, "--follow is of one migration: give its ID, and not --forecast");
  if (forecast && !nc_cli_check_migration(argv[0], error))
    return false;
  if (follow)
    return nc_watch(cli, argv[0], error);
  if (argc > 0 && nc_id_is_of_fleet(argv[0]))
    return nc_status_show_move(cli, argv[0], error);
  nc_autojson json_t *answer = argc > 0 ? nc_client_callf(cli, "GET", NULL, error, "/api/v2/migrations/%s", argv[0])
                                        : nc_client_call(cli, "GET", "/api/v2/migrations", NULL, error);
  if (!answer)
    return false;
  if (cli->json)
    nc_cli_print_json(answer);
  else if (forecast)
    nc_migration_print_forecasts(answer);
  else if (argc > 0)
    nc_migration_print_story(answer);
  else
    nc_status_print_list(answer);
  return true;
}
