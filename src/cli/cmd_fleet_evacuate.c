/* SPDX-License-Identifier: Apache-2.0 */
/* novacron fleet evacuate: shows the plan, asks, and begins what it has shown. */
#include "cli/client.h"
#include "cli/fleet_ask.h"
#include "cli/fleet_options.h"
#include "cli/table.h"

#include <unistd.h>

typedef struct {
  NcFleetOptions how;
  int plan_only, yes, partial;
} NcEvacuateOptions;

static void
nc_evacuate_options_clear(NcEvacuateOptions *o)
{
  nc_fleet_options_clear(&o->how);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcEvacuateOptions, nc_evacuate_options_clear)

static json_t *
nc_evacuate_body(char **nodes, const NcEvacuateOptions *o, GError **error)
{
  nc_autojson json_t *names = json_array(), *body = json_object();

  for (char **node = nodes; *node; node++) {
    if (!nc_cli_check_name("node", *node, error))
      return NULL;
    json_array_append_new(names, json_string(*node));
  }
  json_object_set(body, "nodes", names);
  if (o->partial)
    json_object_set_new(body, "allow_partial", json_true());
  return nc_fleet_options_put(body, &o->how, error) ? g_steal_pointer(&body) : NULL;
}

/* On a terminal; anything but a yes is a no. */
static bool
nc_evacuate_confirm(GError **error)
{
  char line[16];

  fflush(stdout);
  fputs("Begin? [y/N] ", stderr);
  fflush(stderr);
  const char *said = fgets(line, sizeof line, stdin);
  if (said && (g_ascii_strcasecmp(g_strstrip(line), "y") == 0 || g_ascii_strcasecmp(line, "yes") == 0))
    return true;
  return nc_fail(error, NC_ERROR_CANCELLED, "nothing was begun");
}

/* May the plan be carried out? */
static bool
nc_evacuate_check_plan(json_t *plan, const NcEvacuateOptions *o, GError **error)
{
  size_t stuck = json_array_size(json_object_get(plan, "cannot_move"));

  if (stuck > 0 && !o->partial)
    return nc_fail(error, NC_ERROR_UNSUITABLE,
                   "%zu machines can't move, so nothing was begun; --partial moves the others", stuck);
  return o->yes || nc_evacuate_confirm(error);
}

static bool
nc_evacuate_begin(NcCli *cli, json_t *body, const NcEvacuateOptions *o, GError **error)
{
  nc_autojson json_t *begun = nc_client_change(cli, "/api/v2/migrations/evacuate", body, error);
  const char *id = begun ? nc_fleet_answered_id(begun, NC_FLEET_EVACUATION, error) : NULL;
  json_t *stuck = json_object_get(json_object_get(begun, "plan"), "cannot_move");

  if (!id)
    return false;
  if (g_str_equal(nc_json_string_or(begun, "state", ""), "failed")) { /* it is not what it was a moment ago */
    nc_fleet_print_reasons(stderr, stuck);
    return nc_fail(error, NC_ERROR_UNSUITABLE, "%s did not begin: meanwhile %zu machines can't move", id,
                   json_array_size(stuck));
  }
  if (o->how.wait) {
    fprintf(stderr, "%s has begun.\n", id);
    return nc_fleet_wait(cli, NC_FLEET_EVACUATION, id, error);
  }
  if (cli->json)
    nc_cli_print_json(begun);
  else
    printf("%s has begun.\nFollow it: novacron fleet show %s\nStop it:   novacron fleet cancel %s\n", id, id, id);
  return true;
}

static bool
nc_evacuate_run(NcCli *cli, char **nodes, const NcEvacuateOptions *o, GError **error)
{
  if (!o->plan_only && !o->yes && (cli->json || !isatty(STDIN_FILENO)))
    return nc_fail(error, NC_ERROR_INVALID, "%s --yes is needed to begin, or --plan to see what would happen",
                   cli->json ? "with --json" : "without a terminal to ask on");
  nc_autojson json_t *body = nc_evacuate_body(nodes, o, error);
  nc_autojson json_t *plan = body ? nc_client_call(cli, "POST", "/api/v2/fleet/evacuations/plan", body, error) : NULL;
  if (!plan)
    return false;
  if (!cli->json)
    nc_fleet_print_plan(plan);
  if (!o->plan_only)
    return nc_evacuate_check_plan(plan, o, error) && nc_evacuate_begin(cli, body, o, error);
  if (cli->json)
    nc_cli_print_json(plan);
  if (!nc_json_bool_or(plan, "empties", false))
    cli->status = nc_error_exit_status(NC_ERROR_UNSUITABLE);
  return true;
}

bool
nc_cmd_fleet_evacuate(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_auto(NcEvacuateOptions) o = { .how = NC_FLEET_OPTIONS_NONE };
  const GOptionEntry entries[] = {
    { "plan", 0, 0, G_OPTION_ARG_NONE, &o.plan_only, "only show what would happen", NULL },
    { "yes", 0, 0, G_OPTION_ARG_NONE, &o.yes, "do not ask", NULL },
    { "partial", 0, 0, G_OPTION_ARG_NONE, &o.partial, "move those that can, though others can't", NULL },
    NC_FLEET_OPTION_ENTRIES(o.how),
    { NULL },
  };

  return nc_cli_parse(cli, command, entries, &argc, &argv, error) && nc_evacuate_run(cli, argv, &o, error);
}
