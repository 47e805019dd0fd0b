/* SPDX-License-Identifier: Apache-2.0 */
/* novacron token: bearer tokens of people and programs. */
#include "base/role.h"
#include "cli/client.h"
#include "cli/table.h"
#include "cli/units.h"

#include <stdio.h>

/* ${text}: a duration, or "never". */
static bool
nc_token_read_expiry(const char *text, int64_t *ret_s, GError **error)
{
  *ret_s = 0;
  if (g_str_equal(text, "never"))
    return true;
  return nc_parse_duration(text, ret_s, error) &&
         (*ret_s > 0 || nc_fail(error, NC_ERROR_INVALID, "--expires: \"%s\" is over at once; for ever is \"never\"", text));
}

static bool
nc_token_check_wish(const char *subject, const char *role, const char *scope, GError **error)
{
  NcRole known;

  if (!subject || !role)
    return nc_fail(error, NC_ERROR_INVALID, "say for whom the token is, and what it may do: --subject NAME --role viewer|operator|admin");
  if (!nc_role_from_name(role, &known))
    return nc_fail(error, NC_ERROR_INVALID, "--role is viewer, operator or admin, not \"%s\"", role);
  if (scope && !g_str_equal(scope, "node") && !g_str_equal(scope, "fleet"))
    return nc_fail(error, NC_ERROR_INVALID, "--scope is node or fleet, not \"%s\"", scope);
  return nc_cli_check_name("subject", subject, error);
}

bool
nc_cmd_token_create(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_autofree char *subject = NULL, *role = NULL, *expires = NULL, *scope = NULL;
  const GOptionEntry options[] = {
    { "subject", 0, 0, G_OPTION_ARG_STRING, &subject, "who will use it: a person or a program", "NAME" },
    { "role", 0, 0, G_OPTION_ARG_STRING, &role, "viewer, operator or admin", "ROLE" },
    { "expires", 0, 0, G_OPTION_ARG_STRING, &expires, "how long it is good: 2h, 30d, never (default 90d)", "DURATION" },
    { "scope", 0, 0, G_OPTION_ARG_STRING, &scope, "good at this node's gate, or at each node with a controller (default, if this one has)",
      "node|fleet" },
    { NULL },
  };
  nc_autojson json_t *body = json_object();
  int64_t expires_s = 0;

  if (!nc_cli_parse(cli, command, options, &argc, &argv, error) || !nc_token_check_wish(subject, role, scope, error) ||
      (expires && !nc_token_read_expiry(expires, &expires_s, error)))
    return false;
  json_object_set_new(body, "subject", json_string(subject));
  json_object_set_new(body, "role", json_string(role));
  if (expires)
    json_object_set_new(body, "expires_s", json_integer(expires_s));
  if (scope)
    json_object_set_new(body, "scope", json_string(scope));
  nc_autojson json_t *made = nc_client_call(cli, "POST", "/api/v2/tokens", body, error);
  if (!made)
    return false;
  if (cli->json) {
    nc_cli_print_json(made);
    return true;
  }
  g_autofree char *token = nc_text_clean(nc_json_string_or(made, "token", "")), *id = nc_text_clean(nc_json_string_or(made, "id", "?"));
  g_autofree char *until = nc_text_clean(nc_json_string_or(made, "expires", "it is revoked"));
  puts(token);
  fprintf(stderr, "good until %s; not shown again; to end it: novacron token revoke %s\n", until, id);
  return true;
}

static const NcColumn nc_token_columns[] = {
  { .title = "ID" }, { .title = "SUBJECT", .shrink = true }, { .title = "ROLE" }, { .title = "SCOPE" }, { .title = "STATE" }, { .title = "EXPIRES" },
};

bool
nc_cmd_token_list(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  size_t i;
  json_t *token;

  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error))
    return false;
  nc_autojson json_t *list = nc_client_list(cli, "/api/v2/tokens", 0, error);
  if (!list)
    return false;
  if (cli->json) {
    nc_cli_print_json(list);
    return true;
  }
  g_autoptr(NcTable) table = nc_table_new(nc_token_columns, G_N_ELEMENTS(nc_token_columns));
  json_array_foreach(json_object_get(list, "items"), i, token)
  {
    g_autofree char *expires = g_strndup(nc_json_string_or(token, "expires", "never"), 10); /* the day */
    const char *cells[] = { nc_json_string_or(token, "id", ""),    nc_json_string_or(token, "subject", ""), nc_json_string_or(token, "role", ""),
                            nc_json_string_or(token, "scope", ""), nc_json_string_or(token, "state", ""),   expires };
    nc_table_add(table, cells);
  }
  nc_table_print(table, "No tokens.");
  return true;
}

bool
nc_cmd_token_revoke(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error) || !nc_cli_check_name("token's id", argv[0], error))
    return false;
  nc_autojson json_t *token = nc_client_callf(cli, "DELETE", NULL, error, "/api/v2/tokens/%s", argv[0]);
  if (!token)
    return false;
  if (cli->json)
    nc_cli_print_json(token);
  else
    printf("%s is not good any more.\n", argv[0]);
  return true;
}
