/* SPDX-License-Identifier: Apache-2.0 */
/* novacron check: what speaks for and against a move, before it. */
#include "cli/client.h"
#include "cli/move_options.h"
#include "cli/table.h"

#include <stdio.h>

/* One check: its verdict in front, so that the eye finds what is not ok; what to do below. */
static void
nc_check_print_one(json_t *check)
{
  g_autofree char *name = nc_text_clean(nc_json_string_or(check, "check", "?"));
  g_autofree char *verdict = nc_text_clean(nc_json_string_or(check, "verdict", "?"));
  g_autofree char *value = nc_text_clean(nc_json_string_or(check, "value", ""));
  g_autofree char *remedy = nc_text_clean(nc_json_string_or(check, "remedy", ""));

  printf("  %-8s %-17s %s\n", g_str_equal(verdict, "failed") ? "FAILED" : verdict, name, value);
  if (remedy[0])
    printf("  %-8s %-17s -> %s\n", "", "", remedy);
}

static void
nc_check_print(json_t *result)
{
  const char *verdict = nc_json_string_or(result, "verdict", "?");
  size_t i;
  json_t *check;

  printf("%s, %s -> %s\n", nc_json_string_or(result, "vm", "?"), nc_json_string_or(result, "from", "?"), nc_json_string_or(result, "to", "?"));
  json_array_foreach(json_object_get(result, "checks"), i, check) nc_check_print_one(check);
  printf("%s\n", g_str_equal(verdict, "ok")        ? "Nothing speaks against it."
                 : g_str_equal(verdict, "failed") ? "It can't go there now."
                                                  : "It can go there; see above.");
}

static bool
nc_check_run(NcCli *cli, const char *vm, const char *to, bool keep_chain, bool trust_base, GError **error)
{
  if (!nc_move_check_names(vm, to, error))
    return false;
  nc_autojson json_t *body = json_pack("{s:s, s:s}", "vm", vm, "to", to);
  if (!nc_move_chain_body(body, keep_chain, trust_base, error))
    return false;
  nc_autojson json_t *result = nc_client_call(cli, "POST", "/api/v2/checks", body, error);
  if (!result)
    return false;
  if (cli->json)
    nc_cli_print_json(result);
  else
    nc_check_print(result);
  if (g_str_equal(nc_json_string_or(result, "verdict", ""), "failed"))
    cli->status = nc_error_exit_status(NC_ERROR_UNSUITABLE);
  return true;
}

bool
nc_cmd_check(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  char *to = NULL;
  int keep_chain = 0, trust_base = 0;
  const GOptionEntry entries[] = {
    { "to", 0, 0, G_OPTION_ARG_STRING, &to, "node it would go to", "NODE" },
    NC_CHAIN_OPTION_ENTRIES(keep_chain, trust_base),
    { NULL },
  };

  bool ok = nc_cli_parse(cli, command, entries, &argc, &argv, error) && nc_check_run(cli, argv[0], to, keep_chain, trust_base, error);
  g_free(to);
  return ok;
}
