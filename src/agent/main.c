/* SPDX-License-Identifier: Apache-2.0 */
/* The program novacrond: its command line. */
#include "agent/daemon.h"
#include "base/ident.h"
#include "base/log.h"
#include "base/io.h"
#include "crypto/join.h"

#include <locale.h>
#include <stdio.h>
#include <unistd.h>

static const char nc_summary[] =
    "The node's daemon of NovaCron: owns the machines of this host and moves them to others.\n"
    "\n"
    "  novacrond                          run, in the foreground\n"
    "  novacrond join --token TOKEN --to HOST:PORT --name NAME [--address HOST:PORT]\n"
    "                                     make this host a node of an existing cluster, then exit\n"
    "\n"
    "SIGHUP reads the configuration, the certificate and the roster again; SIGTERM\n"
    "ends novacrond and leaves the machines running. A new cluster is made by\n"
    "`novacron pki init`.";

typedef struct {
  char *config_path;
  gboolean version, check, dump, sample;
  char *token, *token_file, *to, *name, *address;
} NcOptions;

static void
nc_options_clear(NcOptions *o)
{
  g_free(o->config_path);
  g_free(o->token);
  g_free(o->token_file);
  g_free(o->to);
  g_free(o->name);
  g_free(o->address);
}

static int
nc_fail_exit(const char *doing, const GError *error)
{
  fprintf(stderr, "novacrond: %s%s\n", doing, error->message);
  return error->domain == NC_ERROR ? nc_error_exit_status(error->code) : 2;
}

static bool
nc_parse_options(NcOptions *o, int *argc, char ***argv, GError **error)
{
  const GOptionEntry entries[] = {
    { "config", 'c', 0, G_OPTION_ARG_FILENAME, &o->config_path, "Configuration (default " NC_CONFIG_DEFAULT_PATH ")", "FILE" },
    { "check-config", 0, 0, G_OPTION_ARG_NONE, &o->check, "Check the configuration and exit", NULL },
    { "dump-config", 0, 0, G_OPTION_ARG_NONE, &o->dump, "Print every setting as it is in use, with its help, and exit", NULL },
    { "sample-config", 0, 0, G_OPTION_ARG_NONE, &o->sample, "Print a configuration file with all defaults and exit", NULL },
    { "version", 0, 0, G_OPTION_ARG_NONE, &o->version, "Print the version and exit", NULL },
    { "token", 0, 0, G_OPTION_ARG_STRING, &o->token, "join: what `novacron node token` printed", "TOKEN" },
    { "token-file", 0, 0, G_OPTION_ARG_FILENAME, &o->token_file, "join: a file with the token; keeps it out of the process list", "FILE" },
    { "to", 0, 0, G_OPTION_ARG_STRING, &o->to, "join: the node that made the token", "HOST:PORT" },
    { "name", 0, 0, G_OPTION_ARG_STRING, &o->name, "join: the new node's name (default: `node`, else the host's name)", "NAME" },
    { "address", 0, 0, G_OPTION_ARG_STRING, &o->address, "join: where others reach it (default: `advertise`)", "HOST:PORT" },
    { NULL, 0, 0, G_OPTION_ARG_NONE, NULL, NULL, NULL },
  };
  g_autoptr(GOptionContext) context = g_option_context_new("[join]");
  g_option_context_set_summary(context, nc_summary);
  g_option_context_add_main_entries(context, entries, NULL);
  return g_option_context_parse(context, argc, argv, error);
}

/* Without --config the default file may be missing: then all defaults apply. */
static NcConfig *
nc_load_config(const NcOptions *o, GError **error)
{
  g_autoptr(GError) problem = NULL;
  NcConfig *config = nc_config_load(o->config_path ? o->config_path : NC_CONFIG_DEFAULT_PATH, &problem);

  if (!config && !o->config_path && g_error_matches(problem, NC_ERROR, NC_ERROR_NOT_FOUND))
    return nc_config_parse("", "", error);
  if (!config)
    g_propagate_error(error, g_steal_pointer(&problem));
  return config;
}

static char *
nc_join_token_text(const NcOptions *o, GError **error)
{
  if (o->token_file)
    return nc_file_read(o->token_file, 4096, NULL, error);
  if (!o->token)
    nc_fail(error, NC_ERROR_INVALID, "join needs --token or --token-file (made by `novacron node token`)");
  return g_strdup(o->token);
}

static bool
nc_join(const NcOptions *o, const NcConfig *config, GError **error)
{
  const char *name = o->name ? o->name : config->node[0] ? config->node : g_get_host_name();
  const char *address = o->address ? o->address : config->advertise;
  g_autofree char *token = nc_join_token_text(o, error);

  if (!token)
    return false;
  if (!o->to)
    return nc_fail(error, NC_ERROR_INVALID, "join needs --to HOST:PORT, the node that made the token");
  if (!address[0])
    return nc_fail(error, NC_ERROR_INVALID, "join needs --address HOST:PORT (or `advertise` in the configuration): where others reach this node");
  if (!nc_mkdir_p(config->data_dir, 0700, error) || !nc_join_request(o->to, token, name, address, config->data_dir, error))
    return false;
  printf("Joined as node %s, reachable at %s. Start novacrond now.\n", name, address);
  return true;
}

static int
nc_run(const NcOptions *o, bool join)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcConfig) config = nc_load_config(o, &error);

  if (!config)
    return nc_fail_exit("", error);
  if (o->dump) {
    g_autofree char *text = nc_config_dump(config);
    fputs(text, stdout);
    return 0;
  }
  if (o->check) {
    printf("%s: correct\n", config->path[0] ? config->path : "no configuration file: defaults");
    return 0;
  }
  nc_log_init("novacrond", (NcLogFormat)config->log_format, (NcLogLevel)config->log_level);
  if (join)
    return nc_join(o, config, &error) ? 0 : nc_fail_exit("can't join: ", error);
  return nc_daemon_run(config, &error) ? 0 : nc_fail_exit("", error);
}

static int
nc_choose(const NcOptions *o, int argc, char **argv)
{
  bool join = argc == 2 && g_str_equal(argv[1], "join");

  if (argc > 1 && !join) {
    fprintf(stderr, "novacrond: unexpected argument \"%s\" (novacrond --help)\n", argv[1]);
    return 2;
  }
  if (o->version) {
    printf("novacrond %s\n", NC_VERSION);
    return 0;
  }
  if (o->sample) {
    g_autofree char *text = nc_config_sample();
    fputs(text, stdout);
    return 0;
  }
  return nc_run(o, join);
}

int
main(int argc, char **argv)
{
  NcOptions o = { .config_path = NULL };
  g_autoptr(GError) error = NULL;

  setlocale(LC_CTYPE, "");
  int status = nc_parse_options(&o, &argc, &argv, &error) ? nc_choose(&o, argc, argv) : nc_fail_exit("", error);
  nc_options_clear(&o);
  return status;
}
