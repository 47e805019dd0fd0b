/* SPDX-License-Identifier: Apache-2.0 */
/* novacron fleet migrate and batch: one machine, or several as one. */
#include "cli/client.h"
#include "cli/fleet_ask.h"
#include "cli/fleet_options.h"
#include "cli/table.h"

#include <string.h>

/* --- one --- */

static bool
nc_fleet_migrate(NcCli *cli, const char *machine, const NcFleetOptions *o, bool is_wish, GError **error)
{
  if (!nc_cli_check_name("machine", machine, error) || (o->move.to && !nc_cli_check_name("node", o->move.to, error)))
    return false;
  if (is_wish && !o->move.to)
    return nc_fail(error, NC_ERROR_INVALID, "--prefer goes with --to NODE");
  nc_autojson json_t *body = json_pack("{s:s}", "machine", machine);
  if (o->move.to)
    json_object_set_new(body, "destination", json_string(o->move.to));
  if (is_wish)
    json_object_set_new(body, "destination_is_wish", json_true());
  if (!nc_fleet_options_put(body, o, error))
    return false;
  nc_autojson json_t *made = nc_client_change(cli, "/api/v2/fleet/migrations", body, error);
  const char *id = made ? nc_fleet_answered_id(made, NC_FLEET_MIGRATION, error) : NULL;
  if (!id)
    return false;
  if (o->wait) {
    fprintf(stderr, "%s: %s\n", id, machine);
    return nc_fleet_wait(cli, NC_FLEET_MIGRATION, id, error);
  }
  if (cli->json)
    nc_cli_print_json(made);
  else
    printf("%s: %s is queued.\nFollow it: novacron fleet show %s\n", id, machine, id);
  return true;
}

/* Only says where it would go. */
static bool
nc_fleet_explain(NcCli *cli, const char *machine, const NcFleetOptions *o, GError **error)
{
  if (!nc_cli_check_name("machine", machine, error))
    return false;
  if (o->move.to)
    return nc_fail(error, NC_ERROR_INVALID, "--explain is about all nodes, and goes without --to");
  g_autofree char *path = g_strdup_printf("/api/v2/fleet/machines/%s/placement", machine);
  nc_autojson json_t *placement = nc_client_call(cli, "GET", path, NULL, error);
  if (!placement)
    return false;
  if (cli->json)
    nc_cli_print_json(placement);
  else
    nc_fleet_print_placement(placement);
  if (!json_is_string(json_object_get(placement, "chosen")))
    cli->status = nc_error_exit_status(NC_ERROR_UNSUITABLE);
  return true;
}

bool
nc_cmd_fleet_migrate(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_auto(NcFleetOptions) o = NC_FLEET_OPTIONS_NONE;
  gboolean is_wish = FALSE, explain = FALSE;
  const GOptionEntry entries[] = {
    { "to", 0, 0, G_OPTION_ARG_STRING, &o.move.to, "node to move it to (default: where it fits best)", "NODE" },
    { "prefer", 0, 0, G_OPTION_ARG_NONE, &is_wish, "with --to: or elsewhere, if there is no room", NULL },
    { "explain", 0, 0, G_OPTION_ARG_NONE, &explain, "only say where it would go now, and why not elsewhere", NULL },
    NC_FLEET_OPTION_ENTRIES(o),
    { NULL },
  };

  if (!nc_cli_parse(cli, command, entries, &argc, &argv, error))
    return false;
  return explain ? nc_fleet_explain(cli, argv[0], &o, error) : nc_fleet_migrate(cli, argv[0], &o, is_wish, error);
}

/* --- several --- */

/* "web1" or "web1:host-b". New reference. */
static json_t *
nc_fleet_batch_item(const char *text, const NcFleetOptions *o, GError **error)
{
  const char *colon = strchr(text, ':');
  g_autofree char *machine = colon ? g_strndup(text, (gsize)(colon - text)) : g_strdup(text);

  if (!nc_cli_check_name("machine", machine, error) || (colon && !nc_cli_check_name("node", colon + 1, error)))
    return NULL;
  nc_autojson json_t *item = json_pack("{s:s}", "machine", machine);
  if (colon)
    json_object_set_new(item, "destination", json_string(colon + 1));
  return nc_fleet_options_put(item, o, error) ? g_steal_pointer(&item) : NULL;
}

static json_t *
nc_fleet_batch_body(char **texts, const char *policy, const NcFleetOptions *o, GError **error)
{
  nc_autojson json_t *items = json_array();

  for (char **text = texts; *text; text++) {
    json_t *item = nc_fleet_batch_item(*text, o, error);
    if (!item)
      return NULL;
    json_array_append_new(items, item);
  }
  return json_pack("{s:s, s:O}", "policy", policy, "migrations", items);
}

/* Those items of ${answer} that were submitted, or those that were not. New reference. */
static json_t *
nc_fleet_batch_pick(json_t *answer, bool is_submitted)
{
  json_t *picked = json_array(), *item;
  size_t i;

  json_array_foreach(json_object_get(answer, "items"), i,
                     item) if (json_is_string(json_object_get(item, "migration")) == is_submitted)
      json_array_append(picked, item);
  return picked;
}

static void
nc_fleet_print_submitted(json_t *items)
{
  static const NcColumn columns[] = { { .title = "MACHINE", .shrink = true }, { .title = "MIGRATION" } };
  g_autoptr(NcTable) table = nc_table_new(columns, G_N_ELEMENTS(columns));
  json_t *item;
  size_t i;

  json_array_foreach(items, i, item)
  {
    const char *const cells[] = { nc_json_string_or(item, "machine", "?"), nc_json_string_or(item, "migration", "?") };
    nc_table_add(table, cells);
  }
  nc_table_print(table, "Nothing was submitted.");
}

/* What was submitted, and why the rest was not. */
static bool
nc_fleet_batch_tell(NcCli *cli, json_t *answer, const char *id, bool wait, GError **error)
{
  nc_autojson json_t *submitted = nc_fleet_batch_pick(answer, true), *refused = nc_fleet_batch_pick(answer, false);

  if (json_array_size(refused) > 0) {
    cli->status = nc_error_exit_status(NC_ERROR_UNSUITABLE);
    fprintf(stderr, "novacron: %zu of %s not submitted:\n", json_array_size(refused), id);
    nc_fleet_print_reasons(stderr, refused);
  }
  if (wait && json_array_size(submitted) > 0)
    return nc_fleet_wait(cli, NC_FLEET_BATCH, id, error);
  if (cli->json) {
    nc_cli_print_json(answer);
    return true;
  }
  nc_fleet_print_submitted(submitted);
  printf("Follow it: novacron fleet show %s\n", id);
  return true;
}

static bool
nc_fleet_batch(NcCli *cli, char **texts, const char *policy, const NcFleetOptions *o, GError **error)
{
  nc_autojson json_t *body = nc_fleet_batch_body(texts, policy, o, error);
  nc_autojson json_t *answer = body ? nc_client_change(cli, "/api/v2/migrations/batch", body, error) : NULL;
  const char *id = answer ? nc_fleet_answered_id(answer, NC_FLEET_BATCH, error) : NULL;

  return id && nc_fleet_batch_tell(cli, answer, id, o->wait, error);
}

bool
nc_cmd_fleet_batch(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_auto(NcFleetOptions) o = NC_FLEET_OPTIONS_NONE;
  g_autofree char *policy = NULL;
  const GOptionEntry entries[] = {
    { "policy", 0, 0, G_OPTION_ARG_STRING, &policy,
      "all: if one can't be moved, none is; any (default): those that can be", "POLICY" },
    NC_FLEET_OPTION_ENTRIES(o),
    { NULL },
  };

  return nc_cli_parse(cli, command, entries, &argc, &argv, error) &&
         nc_fleet_batch(cli, argv, policy ? policy : "any", &o, error);
}
