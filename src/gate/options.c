/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options, read from two places. */
#include "gate/options.h"
#include "base/log.h"
#include "gate/gate_limits.h"

#include <string.h>

/* One row per text option; the name is the long option and the key in the file. */
typedef struct {
  const char *name;
  size_t offset;
  const char *fallback; /* NULL: none */
  const char *argument;
  const char *help;
} NcGateOption;

#define OPTION(name_, field_, fallback_, argument_, help_)                                                             \
  {                                                                                                                    \
    (name_), offsetof(NcGateOptions, field_), (fallback_), (argument_), (help_)                                        \
  }

static const NcGateOption nc_gate_options[] = {
  OPTION("listen", listen, "127.0.0.1:7443", "HOST:PORT", "HTTPS address; \"none\": no HTTPS (default 127.0.0.1:7443)"),
  OPTION("socket", socket, "/run/novacron/api.sock", "PATH",
         "UNIX socket for local clients; \"none\": no socket (default /run/novacron/api.sock)"),
  OPTION("socket-group", socket_group, NULL, "GROUP", "owner of the UNIX socket; its members are admins"),
  OPTION("control", control, "/run/novacron/control.sock", "PATH",
         "novacrond's socket (default /run/novacron/control.sock)"),
  OPTION("tls-cert", tls_cert, NULL, "FILE", "PEM certificate chain for HTTPS; without it there is no HTTPS"),
  OPTION("tls-key", tls_key, NULL, "FILE", "PEM key for HTTPS"),
  OPTION("client-ca", client_ca, NULL, "FILE", "PEM certificate of the CA whose client certificates are accepted"),
  OPTION("admins", admins, NULL, "NAME,...",
         "names (CN) of client certificates that may do everything; those in neither list may look"),
  OPTION("operators", operators, NULL, "NAME,...",
         "names (CN) of client certificates that may move machines, cancel, cordon and take checkpoints"),
  OPTION("tokens-without-certificate", tokens_without_certificate, "no", "yes|no",
         "over HTTPS, may who brings a bearer token do without a client certificate? (default no)"),
  OPTION("origins", origins, NULL, "ORIGIN,...", "origins (https://HOST) of pages that may open WebSockets and change things, beside the gate's own; default: none"),
  OPTION("watchers", watchers, "1024", "N", "WebSockets at once, 0 to 1024 (default 1024)"),
  OPTION("user", user, NULL, "USER", "run as this user"),
  OPTION("log-level", log_level, "info", "LEVEL", "err, warning, notice, info or debug (default info)"),
  OPTION("log-format", log_format, "text", "FORMAT", "text or json (default text)"),
};

static char **
nc_gate_option_field(NcGateOptions *options, const NcGateOption *option)
{
  return (char **)(void *)((char *)options + option->offset);
}

typedef struct {
  int no_https, no_seccomp, show_version;
} NcGateFlags;

static GOptionContext *
nc_gate_options_context(NcGateOptions *options, NcGateFlags *flags)
{
  GOptionEntry rows[G_N_ELEMENTS(nc_gate_options) + 5] = { 0 };
  size_t n = 0;

  for (; n < G_N_ELEMENTS(nc_gate_options); n++)
    rows[n] = (GOptionEntry){ .long_name = nc_gate_options[n].name,
                              .arg = G_OPTION_ARG_STRING,
                              .arg_data = nc_gate_option_field(options, &nc_gate_options[n]),
                              .description = nc_gate_options[n].help,
                              .arg_description = nc_gate_options[n].argument };
  rows[n++] = (GOptionEntry){ .long_name = "config",
                              .arg = G_OPTION_ARG_FILENAME,
                              .arg_data = &options->config,
                              .description = "file with the same keys in [gate] (default " NC_GATE_CONFIG_DEFAULT ")",
                              .arg_description = "FILE" };
  rows[n++] = (GOptionEntry){ .long_name = "no-https",
                              .arg = G_OPTION_ARG_NONE,
                              .arg_data = &flags->no_https,
                              .description = "the same as --listen none" };
  rows[n++] = (GOptionEntry){ .long_name = "no-seccomp",
                              .arg = G_OPTION_ARG_NONE,
                              .arg_data = &flags->no_seccomp,
                              .description = "run without the system-call filter (debugging only)" };
  rows[n++] = (GOptionEntry){ .long_name = "version",
                              .arg = G_OPTION_ARG_NONE,
                              .arg_data = &flags->show_version,
                              .description = "print the version" };
  GOptionContext *context = g_option_context_new("- the network's face of NovaCron");
  g_option_context_add_main_entries(context, rows, NULL); /* copies the rows */
  g_option_context_set_description(context, "Listening sockets passed by systemd replace --listen and --socket.\n"
                                            "See novacron-gate(8).");
  return context;
}

static const NcGateOption *
nc_gate_option_find(const char *name)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_gate_options); i++)
    if (g_str_equal(nc_gate_options[i].name, name))
      return &nc_gate_options[i];
  return NULL;
}

static bool
nc_gate_options_apply_file(NcGateOptions *options, const char *path, GKeyFile *file, GError **error)
{
  g_auto(GStrv) keys = g_key_file_get_keys(file, "gate", NULL, NULL);

  for (size_t i = 0; keys && keys[i]; i++) {
    const NcGateOption *option = nc_gate_option_find(keys[i]);
    if (!option)
      return nc_fail(error, NC_ERROR_INVALID, "%s: unknown key \"%s\" in [gate]", path, keys[i]);
    char **field = nc_gate_option_field(options, option);
    if (!*field)
      *field = g_key_file_get_string(file, "gate", keys[i], NULL);
  }
  return true;
}

static bool
nc_gate_options_read_file(NcGateOptions *options, GError **error)
{
  const char *path = options->config ? options->config : NC_GATE_CONFIG_DEFAULT;
  g_autoptr(GKeyFile) file = g_key_file_new();
  g_autoptr(GError) problem = NULL;

  if (g_key_file_load_from_file(file, path, G_KEY_FILE_NONE, &problem))
    return nc_gate_options_apply_file(options, path, file, error);
  if (!options->config && g_error_matches(problem, G_FILE_ERROR, G_FILE_ERROR_NOENT))
    return true;
  return nc_fail(error, NC_ERROR_INVALID, "%s: %s", path, problem->message);
}

static bool
nc_gate_options_finish(NcGateOptions *options, GError **error)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_gate_options); i++) {
    char **field = nc_gate_option_field(options, &nc_gate_options[i]);
    if (!*field)
      *field = g_strdup(nc_gate_options[i].fallback);
  }
  if (nc_log_level_from_name(options->log_level) < 0)
    return nc_fail(error, NC_ERROR_INVALID, "log-level must be err, warning, notice, info or debug, not \"%s\"",
                   options->log_level);
  guint64 watchers;
  if (!g_ascii_string_to_unsigned(options->watchers, 10, 0, NC_GATE_WATCHERS, &watchers, NULL))
    return nc_fail(error, NC_ERROR_INVALID, "watchers must be a number from 0 to %d, not \"%s\"", NC_GATE_WATCHERS, options->watchers);
  if (!g_str_equal(options->log_format, "text") && !g_str_equal(options->log_format, "json"))
    return nc_fail(error, NC_ERROR_INVALID, "log-format must be text or json, not \"%s\"", options->log_format);
  if (!g_str_equal(options->tokens_without_certificate, "yes") && !g_str_equal(options->tokens_without_certificate, "no"))
    return nc_fail(error, NC_ERROR_INVALID, "tokens-without-certificate must be yes or no, not \"%s\"", options->tokens_without_certificate);
  if (!options->tls_cert != !options->tls_key)
    return nc_fail(error, NC_ERROR_INVALID, "tls-cert and tls-key belong together: give both or neither");
  return true;
}

NcGateOptions *
nc_gate_options_read(int argc, char **argv, GError **error)
{
  g_autoptr(NcGateOptions) options = g_new0(NcGateOptions, 1);
  g_autoptr(GError) problem = NULL;
  NcGateFlags flags = { 0 };
  g_autoptr(GOptionContext) context = nc_gate_options_context(options, &flags);

  if (!g_option_context_parse(context, &argc, &argv, &problem)) {
    nc_fail(error, NC_ERROR_INVALID, "%s", problem->message);
    return NULL;
  }
  if (argc > 1) {
    nc_fail(error, NC_ERROR_INVALID, "unexpected argument \"%s\"", argv[1]);
    return NULL;
  }
  options->no_seccomp = flags.no_seccomp;
  options->show_version = flags.show_version;
  if (flags.no_https) {
    g_free(options->listen);
    options->listen = g_strdup("none");
  }
  if (!nc_gate_options_read_file(options, error) || !nc_gate_options_finish(options, error))
    return NULL;
  return g_steal_pointer(&options);
}

void
nc_gate_options_free(NcGateOptions *options)
{
  if (!options)
    return;
  for (size_t i = 0; i < G_N_ELEMENTS(nc_gate_options); i++)
    g_free(*nc_gate_option_field(options, &nc_gate_options[i]));
  g_free(options->config);
  g_free(options);
}
