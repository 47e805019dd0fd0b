/* SPDX-License-Identifier: Apache-2.0 */
/* Options: global ones and a subcommand's own, read by GLib, with one way to complain. */
#include "base/ident.h"
#include "base/io.h"
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#define NC_CLI_TOKEN_FILE_BYTES 4096
#define NC_CLI_TOKEN_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

/* Filled in at run time because each entry points into ${cli}. */
static void
nc_cli_global_entries(NcCli *cli, GOptionEntry ret[8])
{
  const GOptionEntry entries[8] = {
    { "socket", 0, 0, G_OPTION_ARG_FILENAME, &cli->socket,
      "API socket (default $NOVACRON_SOCKET or " NC_CLI_SOCKET_DEFAULT ")", "PATH" },
    { "url", 0, 0, G_OPTION_ARG_STRING, &cli->url, "talk HTTPS to another node instead", "https://HOST:PORT" },
    { "cert", 0, 0, G_OPTION_ARG_FILENAME, &cli->cert, "client certificate for --url (PEM)", "FILE" },
    { "key", 0, 0, G_OPTION_ARG_FILENAME, &cli->key, "its key (PEM)", "FILE" },
    { "cacert", 0, 0, G_OPTION_ARG_FILENAME, &cli->cacert, "the CA the other node's certificate must come from (PEM)",
      "FILE" },
    { "token-file", 0, 0, G_OPTION_ARG_FILENAME, &cli->token_file,
      "file with a bearer token to be known by (with --url also $NOVACRON_TOKEN)", "FILE" },
    { "json", 0, 0, G_OPTION_ARG_NONE, &cli->json, "print one JSON object, stable for scripts", NULL },
    { NULL },
  };
  memcpy(ret, entries, sizeof entries);
}

/* What is in ${text}, blanks around it taken off, is a token if it can be one. ${what}: where it comes from. */
static bool
nc_cli_take_token(NcCli *cli, const char *text, const char *what, GError **error)
{
  g_free(cli->token);
  cli->token = g_strstrip(g_strdup(text));
  if (cli->token[0] && strspn(cli->token, NC_CLI_TOKEN_CHARACTERS) == strlen(cli->token))
    return true;
  return nc_fail(error, NC_ERROR_INVALID, "%s holds no token: one reads ID.SECRET, as \"novacron token create\" prints it", what);
}

/* A token on the command line would be seen by every user of the host; so there is no option for that. */
static bool
nc_cli_read_token(NcCli *cli, GError **error)
{
  const char *environment = g_getenv("NOVACRON_TOKEN");
  g_autofree char *text = NULL;
  size_t length;

  if (cli->token_file) {
    text = nc_file_read(cli->token_file, NC_CLI_TOKEN_FILE_BYTES, &length, error);
    if (text)
      return nc_cli_take_token(cli, text, cli->token_file, error);
    g_prefix_error(error, "--token-file: ");
    return false;
  }
  return !cli->url || !environment || !environment[0] || nc_cli_take_token(cli, environment, "$NOVACRON_TOKEN", error);
}

/* A second --socket wins; GLib frees the first. What is left empty gets its default. */
static bool
nc_cli_finish_global(NcCli *cli, GError **error)
{
  const char *environment = g_getenv("NOVACRON_SOCKET");

  if (!cli->socket)
    cli->socket = g_strdup(environment && environment[0] ? environment : NC_CLI_SOCKET_DEFAULT);
  if (cli->url && !g_str_has_prefix(cli->url, "https://"))
    return nc_fail(error, NC_ERROR_INVALID,
                   "--url must begin with https://: NovaCron speaks nothing else over the network");
  while (cli->url && g_str_has_suffix(cli->url, "/"))
    cli->url[strlen(cli->url) - 1] = '\0';
  return nc_cli_read_token(cli, error);
}

static bool
nc_cli_parse_context(NcCli *cli, GOptionContext *context, int *argc, char ***argv, GError **error)
{
  g_autoptr(GError) problem = NULL;

  if (!g_option_context_parse(context, argc, argv, &problem))
    return nc_fail(error, NC_ERROR_INVALID, "%s", problem->message);
  return nc_cli_finish_global(cli, error);
}

bool
nc_cli_parse_global(NcCli *cli, int *argc, char ***argv, bool *ret_help, bool *ret_version, GError **error)
{
  GOptionEntry entries[8];
  int help = 0, version = 0;
  const GOptionEntry more[] = {
    { "help", 'h', 0, G_OPTION_ARG_NONE, &help, NULL, NULL },
    { "version", 0, 0, G_OPTION_ARG_NONE, &version, NULL, NULL },
    { NULL },
  };
  g_autoptr(GOptionContext) context = g_option_context_new(NULL);

  nc_cli_global_entries(cli, entries);
  g_option_context_set_strict_posix(context, TRUE); /* what follows the subcommand belongs to it */
  g_option_context_set_help_enabled(context, FALSE);
  g_option_context_add_main_entries(context, entries, NULL);
  g_option_context_add_main_entries(context, more, NULL);
  if (!nc_cli_parse_context(cli, context, argc, argv, error))
    return false;
  *ret_help = help;
  *ret_version = version;
  ++*argv;
  --*argc;
  return true;
}

static bool
nc_cli_check_count(const NcCommand *command, int argc, GError **error)
{
  if (argc < command->min_arguments)
    return nc_fail(error, NC_ERROR_INVALID, "usage: novacron %s %s (see novacron %s --help)", command->name,
                   command->arguments, command->name);
  if (argc > command->max_arguments)
    return nc_fail(error, NC_ERROR_INVALID, "too many arguments for \"novacron %s\" (see novacron %s --help)",
                   command->name, command->name);
  return true;
}

bool
nc_cli_parse(NcCli *cli, const NcCommand *command, const GOptionEntry *options, int *argc, char ***argv, GError **error)
{
  GOptionEntry entries[8];
  g_autoptr(GOptionContext) context = g_option_context_new(command->arguments);
  GOptionGroup *global = g_option_group_new("global", "Global options:", "Show global options", NULL, NULL);
  g_autofree char *program = g_strconcat("novacron ", command->name, NULL);

  nc_cli_global_entries(cli, entries);
  g_option_group_add_entries(global, entries);
  g_option_context_add_group(context, global);
  if (options)
    g_option_context_add_main_entries(context, options, NULL);
  g_option_context_set_summary(context, command->summary);
  g_option_context_set_description(context, command->help);
  g_set_prgname(program);
  if (!nc_cli_parse_context(cli, context, argc, argv, error))
    return false;
  ++*argv;
  --*argc;
  if (*argc > 0 && g_str_equal((*argv)[0], "--")) {
    ++*argv;
    --*argc;
  }
  return nc_cli_check_count(command, *argc, error);
}

void
nc_cli_print_json(json_t *object)
{
  g_autofree char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(10));
  puts(text ? text : "null");
}

bool
nc_cli_check_name(const char *what, const char *name, GError **error)
{
  return nc_name_is_valid(name) ||
         nc_fail(error, NC_ERROR_INVALID, "\"%s\" can't be a %s: %s", name, what, NC_NAME_RULE);
}

bool
nc_cli_check_migration(const char *id, GError **error)
{
  if (!nc_cli_check_name("migration", id, error))
    return false;
  return !nc_id_is_of_fleet(id) ||
         nc_fail(error, NC_ERROR_INVALID, "%s is a migration of the fleet: this is for one of its attempts, %s.1 and so on, on the node that it leaves (novacron fleet show %s)",
                 id, id, id);
}
