/* SPDX-License-Identifier: Apache-2.0 */
/* novacron limit: another bandwidth or class of service for a migration that is under way. */
#include "cli/client.h"
#include "cli/table.h"
#include "cli/units.h"

#include <stdio.h>

typedef struct {
  char *bandwidth, *qos;
} NcLimitOptions;

static json_t *
nc_limit_body(const NcLimitOptions *options, GError **error)
{
  nc_autojson json_t *body = json_object();
  int64_t rate;

  if (!options->bandwidth && !options->qos) {
    nc_fail(error, NC_ERROR_INVALID, "--bandwidth RATE or --qos CLASS is needed: what should change?");
    return NULL;
  }
  if (options->bandwidth) {
    if (!nc_parse_rate(options->bandwidth, &rate, error))
      return NULL;
    json_object_set_new(body, "bandwidth_limit_bps", json_integer(rate));
  }
  if (options->qos)
    json_object_set_new(body, "qos", json_string(options->qos));
  return g_steal_pointer(&body);
}

static void
nc_limit_print(const char *id, json_t *migration)
{
  int64_t limit = nc_json_int_or(migration, "bandwidth_limit_bps", 0);
  g_autofree char *qos = nc_text_clean(nc_json_string_or(migration, "qos", "normal"));
  g_autofree char *rate = nc_format_rate((double)limit);

  printf("%s: class %s, bandwidth limit %s.\n", id, qos, limit > 0 ? rate : "none");
}

static bool
nc_limit_run(NcCli *cli, const char *id, const NcLimitOptions *options, GError **error)
{
  if (!nc_cli_check_name("migration", id, error))
    return false;
  nc_autojson json_t *body = nc_limit_body(options, error);
  if (!body)
    return false;
  nc_autojson json_t *migration = nc_client_callf(cli, "POST", body, error, "/api/v2/migrations/%s/limits", id);
  if (!migration)
    return false;
  if (cli->json)
    nc_cli_print_json(migration);
  else
    nc_limit_print(id, migration);
  return true;
}

bool
nc_cmd_limit(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  NcLimitOptions options = { 0 };
  const GOptionEntry entries[] = {
    { "bandwidth", 0, 0, G_OPTION_ARG_STRING, &options.bandwidth, "most it may send: 50MB/s, 800Mbit; 0: no limit",
      "RATE" },
    { "qos", 0, 0, G_OPTION_ARG_STRING, &options.qos, "class of service: background, normal, high, critical", "CLASS" },
    { NULL },
  };

  bool ok = nc_cli_parse(cli, command, entries, &argc, &argv, error) && nc_limit_run(cli, argv[0], &options, error);
  g_free(options.bandwidth);
  g_free(options.qos);
  return ok;
}
