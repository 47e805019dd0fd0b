/* SPDX-License-Identifier: Apache-2.0 */
/* novacron doctor: is this node well, or what was wrong with that migration; and what to do. */
#include "base/ident.h"
#include "cli/client.h"
#include "cli/diagnosis.h"
#include "cli/table.h"

#include <stdio.h>

static void
nc_doctor_print_one(json_t *finding)
{
  const char *verdict = nc_json_string_or(finding, "verdict", "?"), *cause = nc_json_string_or(finding, "cause", "");
  const char *remedy = nc_json_string_or(finding, "remedy", "");
  g_autofree char *line = g_strdup_printf("%-8s %s: %s", g_str_equal(verdict, "failed") ? "PROBLEM" : verdict,
                                          nc_json_string_or(finding, "check", "?"), nc_json_string_or(finding, "value", ""));
  g_autofree char *why = g_strdup_printf("because: %s", cause);
  g_autofree char *what = g_strdup_printf("-> %s", remedy);

  nc_print_paragraph(stdout, 2, line);
  if (cause[0])
    nc_print_paragraph(stdout, 11, why);
  if (remedy[0])
    nc_print_paragraph(stdout, 11, what);
}

/* ${about}: what was looked at. */
static void
nc_doctor_tell(NcCli *cli, const char *about, json_t *findings)
{
  size_t i;
  json_t *finding;

  cli->status = nc_findings_exit_status(findings);
  if (cli->json) {
    nc_autojson json_t *object =
        json_pack("{s:s, s:s, s:O}", "about", about, "verdict", nc_verdict_name(nc_checks_worst(findings)), "findings", findings);
    nc_cli_print_json(object);
    return;
  }
  g_autofree char *clean = nc_text_clean(about);
  puts(clean);
  json_array_foreach(findings, i, finding) nc_doctor_print_one(finding);
  puts(cli->status == 2 ? "There are problems." : cli->status == 1 ? "Not all of it is well, or not all could be told: see above." : "All is well.");
}

/* --- one migration --- */

static bool
nc_doctor_migration(NcCli *cli, const char *id, GError **error)
{
  nc_autojson json_t *record = nc_client_callf(cli, "GET", NULL, error, "/api/v2/migrations/%s", id);
  NcFigures figures;

  if (!record)
    return false;
  nc_figures_of(record, nc_wall_us(), &figures);
  nc_autojson json_t *findings = nc_diagnose(record, &figures);
  g_autofree char *about = g_strdup_printf("%s: %s, %s -> %s", id, nc_json_string_or(record, "vm", "?"),
                                           nc_json_string_or(record, "source", "?"), nc_json_string_or(record, "destination", "?"));
  nc_doctor_tell(cli, about, findings);
  return true;
}

/* --- the node --- */

/* Not being able to ask is a finding, and the first one. */
static void
nc_doctor_unreached(json_t *findings, const GError *problem)
{
  bool behind = g_str_has_prefix(problem->message, "the gate can't reach") || g_str_has_prefix(problem->message, "novacrond");

  nc_finding_add(findings, behind ? "novacrond" : "gate", NC_CHECK_FAILED, NULL,
                 behind ? "systemctl status novacrond; journalctl -u novacrond"
                        : "systemctl status novacron-gate novacrond; are you root, or in its group?",
                 "%s", problem->message);
}

static bool
nc_doctor_node(NcCli *cli, GError **error)
{
  g_autoptr(GError) problem = NULL;
  nc_autojson json_t *findings = json_array();
  nc_autojson json_t *answer = nc_client_call(cli, "POST", "/api/v2/node/checks", NULL, &problem);
  g_autofree char *about = g_strdup_printf("node %s", answer ? nc_json_string_or(answer, "node", "?") : cli->url ? cli->url : cli->socket);
  size_t i;
  json_t *check;

  if (problem && problem->code != NC_ERROR_UNREACHABLE && problem->code != NC_ERROR_TIMEOUT && problem->code != NC_ERROR_TRUST) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
  }
  if (!answer)
    nc_doctor_unreached(findings, problem);
  else
    nc_finding_add(findings, "gate", NC_CHECK_OK, NULL, NULL, "it answers, and novacrond behind it");
  json_array_foreach(json_object_get(answer, "checks"), i, check)
      nc_finding_add(findings, nc_json_string_or(check, "check", "?"), nc_verdict_from_name(nc_json_string_or(check, "verdict", "")), NULL,
                     nc_json_string_or(check, "remedy", ""), "%s", nc_json_string_or(check, "value", ""));
  nc_doctor_tell(cli, about, findings);
  return true;
}

bool
nc_cmd_doctor(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error) || (argc > 0 && !nc_cli_check_migration(argv[0], error)))
    return false;
  return argc > 0 ? nc_doctor_migration(cli, argv[0], error) : nc_doctor_node(cli, error);
}
