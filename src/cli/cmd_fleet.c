/* SPDX-License-Identifier: Apache-2.0 */
/* novacron fleet: looking at what the controller knows, and what needs no plan: cancel, cordon. */
#include "cli/client.h"
#include "cli/fleet_ask.h"
#include "cli/table.h"

#include <inttypes.h>
#include <string.h>

#define NC_FLEET_USUAL_ROWS 100
#define NC_FLEET_PARTS 20 /* of a batch or evacuation */

/* --- looking --- */

bool
nc_cmd_fleet_status(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error))
    return false;
  nc_autojson json_t *status = nc_client_call(cli, "GET", "/api/v2/fleet", NULL, error);
  if (!status)
    return false;
  if (cli->json)
    nc_cli_print_json(status);
  else
    nc_fleet_print_status(status);
  return true;
}

/* ${most}: rows; 0: all. */
static bool
nc_fleet_show_list(const NcCli *cli, const char *path, size_t most, void (*print)(json_t *), GError **error)
{
  nc_autojson json_t *list = nc_client_list(cli, path, most, error);

  if (!list)
    return false;
  if (cli->json) {
    nc_cli_print_json(list);
    return true;
  }
  print(list);
  if (json_is_string(json_object_get(list, "next")))
    fprintf(stderr, "novacron: there are more than these %zu: --limit N or --all shows them\n", most);
  return true;
}

bool
nc_cmd_fleet_nodes(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  return nc_cli_parse(cli, command, NULL, &argc, &argv, error) &&
         nc_fleet_show_list(cli, "/api/v2/fleet/nodes", 0, nc_fleet_print_nodes, error);
}

bool
nc_cmd_fleet_machines(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_autofree char *node = NULL;
  const GOptionEntry entries[] = {
    { "node", 0, 0, G_OPTION_ARG_STRING, &node, "those on this node only", "NODE" },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, entries, &argc, &argv, error) || (node && !nc_cli_check_name("node", node, error)))
    return false;
  g_autofree char *path = g_strconcat("/api/v2/fleet/machines", node ? "?node=" : "", node, NULL);
  return nc_fleet_show_list(cli, path, 0, nc_fleet_print_machines, error);
}

typedef struct {
  char *machine, *node, *batch, *evacuation;
  int all, unfinished, limit;
} NcFleetListOptions;

static void
nc_fleet_list_options_clear(NcFleetListOptions *o)
{
  g_free(o->machine);
  g_free(o->node);
  g_free(o->batch);
  g_free(o->evacuation);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcFleetListOptions, nc_fleet_list_options_clear)

static bool
nc_fleet_add_filter(GString *path, const char *what, const char *value, GError **error)
{
  if (value && !nc_cli_check_name(what, value, error))
    return false;
  if (value)
    g_string_append_printf(path, "%c%s=%s", strchr(path->str, '?') ? '&' : '?', what, value);
  return true;
}

/* ${only}: "finished", "unfinished", or NULL: as the options say. */
static bool
nc_fleet_list_command(NcCli *cli, const NcCommand *command, int argc, char **argv, const char *only,
                      void (*print)(json_t *), GError **error)
{
  g_auto(NcFleetListOptions) o = { .limit = NC_FLEET_USUAL_ROWS };
  const GOptionEntry entries[] = {
    { "unfinished", 0, 0, G_OPTION_ARG_NONE, &o.unfinished, "those that wait or are under way", NULL },
    { "all", 0, 0, G_OPTION_ARG_NONE, &o.all, "all of them, however many", NULL },
    { "limit", 0, 0, G_OPTION_ARG_INT, &o.limit, "the newest N only (default 100)", "N" },
    { "machine", 0, 0, G_OPTION_ARG_STRING, &o.machine, "of this machine", "NAME" },
    { "node", 0, 0, G_OPTION_ARG_STRING, &o.node, "from or to this node", "NODE" },
    { "batch", 0, 0, G_OPTION_ARG_STRING, &o.batch, "of this batch", "ID" },
    { "evacuation", 0, 0, G_OPTION_ARG_STRING, &o.evacuation, "of this evacuation", "ID" },
    { NULL },
  };
  g_autoptr(GString) path = g_string_new("/api/v2/fleet/migrations");

  if (!nc_cli_parse(cli, command, only ? entries + 1 : entries, &argc, &argv, error))
    return false;
  if (o.limit < 1)
    return nc_fail(error, NC_ERROR_INVALID, "--limit must be at least 1");
  if (only || o.unfinished)
    g_string_append_printf(path, "?%s=true", only ? only : "unfinished");
  return nc_fleet_add_filter(path, "machine", o.machine, error) && nc_fleet_add_filter(path, "node", o.node, error) &&
         nc_fleet_add_filter(path, "batch", o.batch, error) &&
         nc_fleet_add_filter(path, "evacuation", o.evacuation, error) &&
         nc_fleet_show_list(cli, path->str, o.all ? 0 : (size_t)o.limit, print, error);
}

bool
nc_cmd_fleet_list(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  return nc_fleet_list_command(cli, command, argc, argv, NULL, nc_fleet_print_migrations, error);
}

bool
nc_cmd_queue(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  return nc_fleet_list_command(cli, command, argc, argv, "unfinished", nc_fleet_print_migrations, error);
}

bool
nc_cmd_history(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  return nc_fleet_list_command(cli, command, argc, argv, "finished", nc_fleet_print_history, error);
}

/* ${with_unfinished}: whether that can be asked for. */
static bool
nc_fleet_groups_command(NcCli *cli, const NcCommand *command, int argc, char **argv, const char *path, bool with_unfinished,
                        void (*print)(json_t *), GError **error)
{
  int all = 0, unfinished = 0, limit = NC_FLEET_USUAL_ROWS;
  const GOptionEntry entries[] = {
    { "unfinished", 0, 0, G_OPTION_ARG_NONE, &unfinished, "those that are planned or under way", NULL },
    { "all", 0, 0, G_OPTION_ARG_NONE, &all, "all of them, however many", NULL },
    { "limit", 0, 0, G_OPTION_ARG_INT, &limit, "the newest N only (default 100)", "N" },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, with_unfinished ? entries : entries + 1, &argc, &argv, error))
    return false;
  if (limit < 1)
    return nc_fail(error, NC_ERROR_INVALID, "--limit must be at least 1");
  g_autofree char *asked = g_strconcat(path, unfinished ? "?unfinished=true" : "", NULL);
  return nc_fleet_show_list(cli, asked, all ? 0 : (size_t)limit, print, error);
}

bool
nc_cmd_fleet_evacuations(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  return nc_fleet_groups_command(cli, command, argc, argv, "/api/v2/fleet/evacuations", true, nc_fleet_print_evacuations, error);
}

bool
nc_cmd_fleet_batches(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  return nc_fleet_groups_command(cli, command, argc, argv, "/api/v2/fleet/batches", false, nc_fleet_print_batches, error);
}

/* What a batch or an evacuation consists of; ${most} rows, 0: all. With --json as "items" of ${record}. */
static bool
nc_fleet_show_parts(const NcCli *cli, NcFleetKind kind, const char *id, json_t *record, size_t most, GError **error)
{
  g_autofree char *path = nc_fleet_parts_path(kind, id);
  nc_autojson json_t *list = nc_client_list(cli, path, cli->json ? 0 : most, error);

  if (!list)
    return false;
  if (cli->json) {
    json_object_set(record, "items", json_object_get(list, "items"));
    return true;
  }
  puts("");
  kind == NC_FLEET_BATCH ? nc_fleet_print_migrations(list) : nc_fleet_print_items(list);
  if (json_is_string(json_object_get(list, "next")))
    printf("... and more (--all shows them)\n");
  return true;
}

bool
nc_cmd_fleet_show(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  gboolean all = FALSE;
  const GOptionEntry entries[] = {
    { "all", 0, 0, G_OPTION_ARG_NONE, &all, "of a batch or evacuation: all machines, not only the first 20", NULL },
    { NULL },
  };
  NcFleetKind kind;

  if (!nc_cli_parse(cli, command, entries, &argc, &argv, error) || !nc_fleet_kind_of(argv[0], &kind, error))
    return false;
  g_autofree char *path = nc_fleet_kind_path(kind, argv[0]);
  nc_autojson json_t *record = nc_client_call(cli, "GET", path, NULL, error);
  if (!record)
    return false;
  if (!cli->json)
    nc_fleet_print_record(kind, record);
  if (kind != NC_FLEET_MIGRATION && !nc_fleet_show_parts(cli, kind, argv[0], record, all ? 0 : NC_FLEET_PARTS, error))
    return false;
  if (cli->json)
    nc_cli_print_json(record);
  return true;
}

/* --- cancelling --- */

static void
nc_fleet_print_cancelled(NcFleetKind kind, const char *id, json_t *answer, bool also_running)
{
  int64_t under_way = nc_json_int_or(answer, "under_way", 0);
  g_autofree char *state = nc_text_clean(nc_json_string_or(answer, "state", "cancelling"));

  if (kind == NC_FLEET_MIGRATION)
    printf("%s: %s.\n", id, g_str_equal(state, "cancelling") ? "being cancelled, as soon as its node says so" : state);
  else
    printf("%s: %" PRId64 " cancelled, %" PRId64 " under way%s.\n", id, nc_json_int_or(answer, "cancelled", 0),
           under_way,
           under_way == 0 ? ""
           : also_running ? " being cancelled"
                          : " go on to their end");
}

bool
nc_cmd_fleet_cancel(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  gboolean also_running = FALSE;
  g_autofree char *reason = NULL;
  const GOptionEntry entries[] = {
    { "also-running", 0, 0, G_OPTION_ARG_NONE, &also_running, "of a batch or evacuation: those under way, too", NULL },
    { "reason", 0, 0, G_OPTION_ARG_STRING, &reason, "why, for whoever reads the record", "TEXT" },
    { NULL },
  };
  NcFleetKind kind;

  if (!nc_cli_parse(cli, command, entries, &argc, &argv, error) || !nc_fleet_kind_of(argv[0], &kind, error))
    return false;
  nc_autojson json_t *body = json_object();
  if (reason)
    json_object_set_new(body, "reason", json_string(reason));
  if (also_running && kind != NC_FLEET_MIGRATION) /* one that is under way is cancelled anyway */
    json_object_set_new(body, "also_running", json_true());
  g_autofree char *path = nc_fleet_kind_path(kind, argv[0]), *cancel = g_strconcat(path, "/cancel", NULL);
  nc_autojson json_t *answer = nc_client_change(cli, cancel, json_object_size(body) > 0 ? body : NULL, error);
  if (!answer)
    return false;
  if (cli->json)
    nc_cli_print_json(answer);
  else
    nc_fleet_print_cancelled(kind, argv[0], answer, also_running);
  return true;
}

/* --- cordons --- */

static bool
nc_fleet_cordon(NcCli *cli, const NcCommand *command, int argc, char **argv, const char *verb, const char *outcome,
                GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error) || !nc_cli_check_name("node", argv[0], error))
    return false;
  g_autofree char *path = g_strdup_printf("/api/v2/fleet/nodes/%s/%s", argv[0], verb);
  nc_autojson json_t *answer = nc_client_change(cli, path, NULL, error);
  if (!answer)
    return false;
  if (cli->json)
    nc_cli_print_json(answer);
  else
    printf("%s: %s.\n", argv[0], outcome);
  return true;
}

bool
nc_cmd_fleet_cordon(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  return nc_fleet_cordon(cli, command, argc, argv, "cordon", "cordoned; nothing more comes to it", error);
}

bool
nc_cmd_fleet_uncordon(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  return nc_fleet_cordon(cli, command, argc, argv, "uncordon", "open; machines may come to it again", error);
}
