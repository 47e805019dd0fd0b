/* SPDX-License-Identifier: Apache-2.0 */
/* novacron: finds the subcommand, runs it, says what went wrong and exits accordingly. */
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/table.h"

#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* How many of the words at ${argv} are the name of ${command}; 0: it is another. */
static int
nc_command_words(const NcCommand *command, int argc, char **argv)
{
  g_auto(GStrv) words = g_strsplit(command->name, " ", -1);
  int n = 0;

  for (; words[n]; n++)
    if (n >= argc || !g_str_equal(words[n], argv[n]))
      return 0;
  return n;
}

static const NcCommand *
nc_command_find(int argc, char **argv, int *ret_words)
{
  for (const NcCommand *command = nc_commands; command->name; command++) {
    *ret_words = nc_command_words(command, argc, argv);
    if (*ret_words > 0)
      return command;
  }
  return NULL;
}

/* The commands, those of one group ("vm") only if ${group} is given; their number. */
static int
nc_print_commands(const char *group)
{
  g_autofree char *prefix = group ? g_strconcat(group, " ", NULL) : NULL;
  int n = 0;

  for (const NcCommand *command = nc_commands; command->name; command++) {
    if (prefix && !g_str_has_prefix(command->name, prefix))
      continue;
    if (n++ == 0)
      puts("Commands:");
    printf("  %-19s  %s\n", command->name, command->summary); /* the longest name is 19 */
  }
  return n;
}

static void
nc_print_usage(void)
{
  puts("Usage: novacron [OPTION...] COMMAND [ARGUMENT...]\n\nMoves running virtual machines between hosts.\n");
  nc_print_commands(NULL);
  puts("\nOptions, before or after the command:\n"
       "  --socket PATH    API socket (default $NOVACRON_SOCKET or\n"
       "                   " NC_CLI_SOCKET_DEFAULT ")\n"
       "  --url URL        talk HTTPS to another node instead\n"
       "  --cert FILE      client certificate for --url (PEM)\n"
       "  --key FILE       its key (PEM)\n"
       "  --cacert FILE    the CA the other node's certificate must come from\n"
       "  --token-file F   bearer token to be known by (with --url: or\n"
       "                   $NOVACRON_TOKEN)\n"
       "  --json           print one JSON object, stable for scripts\n\n"
       "novacron COMMAND --help explains a command. See novacron(1).");
}

bool
nc_cmd_version(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error))
    return false;
  if (cli->json)
    puts("{\"version\":\"" NC_VERSION "\"}");
  else
    puts("novacron " NC_VERSION);
  return true;
}

bool
nc_cmd_help(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  int words;

  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error))
    return false;
  if (argc == 0) {
    nc_print_usage();
    return true;
  }
  const NcCommand *topic = nc_command_find(argc, argv, &words);
  char *arguments[] = { (char *)"novacron", (char *)"--help", NULL };
  if (topic)
    return topic->run(cli, topic, 2, arguments, error); /* prints and exits */
  return nc_print_commands(argv[0]) > 0 || nc_fail(error, NC_ERROR_INVALID, "there is no command \"%s\"", argv[0]);
}

/* Not a command: the name of a group shows what is in it, anything else is a mistake. */
static bool
nc_run_unknown(int argc, char **argv, GError **error)
{
  if (argc == 0) {
    nc_print_usage();
    return nc_fail(error, NC_ERROR_INVALID, "a command is missing");
  }
  bool asked = argc > 1 && (g_str_equal(argv[1], "--help") || g_str_equal(argv[1], "-h"));
  if ((argc == 1 || asked) && nc_print_commands(argv[0]) > 0)
    return asked || nc_fail(error, NC_ERROR_INVALID, "\"novacron %s\" needs one of these words", argv[0]);
  return nc_fail(error, NC_ERROR_INVALID, "there is no command \"%s%s%s\" (see novacron help)", argv[0],
                 argc > 1 ? " " : "", argc > 1 ? argv[1] : "");
}

static bool
nc_run(NcCli *cli, int argc, char **argv, GError **error)
{
  bool help = false, version = false;
  int words;

  if (!nc_cli_parse_global(cli, &argc, &argv, &help, &version, error))
    return false;
  if (help || version) {
    if (help)
      nc_print_usage();
    else
      puts("novacron " NC_VERSION);
    return true;
  }
  const NcCommand *command = nc_command_find(argc, argv, &words);
  if (!command)
    return nc_run_unknown(argc, argv, error);
  if (!nc_client_init(error))
    return false;
  /* The last word of the name stands where a program's own name would. */
  return command->run(cli, command, argc - words + 1, argv + words - 1, error);
}

int
main(int argc, char **argv)
{
  g_autoptr(GError) error = NULL;
  NcCli cli = { 0 };

  setlocale(LC_CTYPE, ""); /* arguments and output are the user's characters; numbers stay as they are */
  signal(SIGPIPE, SIG_IGN);
  bool ok = nc_run(&cli, argc, argv, &error);
  if (!ok) {
    g_autofree char *text = nc_text_clean(error->message);
    fprintf(stderr, "novacron: %s\n", text);
  }
  int status = ok ? cli.status : nc_error_exit_status(error->domain == NC_ERROR ? error->code : NC_ERROR_INTERNAL);
  if (fflush(stdout) != 0 && ok) {
    fprintf(stderr, "novacron: the output could not be written\n");
    status = nc_error_exit_status(NC_ERROR_IO);
  }
  g_free(cli.socket);
  g_free(cli.url);
  g_free(cli.cert);
  g_free(cli.key);
  g_free(cli.cacert);
  g_free(cli.token_file);
  g_free(cli.token);
  return status;
}
