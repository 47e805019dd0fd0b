/* SPDX-License-Identifier: Apache-2.0 */
/* novacron report: all about one migration, to be attached to a ticket. */
#include "base/ident.h"
#include "cli/client.h"
#include "cli/report.h"

#include <errno.h>
#include <stdio.h>

/* To ${path}, or to standard output if it is "-". Not by renaming: it may be a device, or somebody's link. */
static bool
nc_report_write(const char *path, const char *text, GError **error)
{
  if (g_str_equal(path, "-"))
    return fputs(text, stdout) >= 0 || nc_fail_errno(error, NC_ERROR_IO, errno, "the report could not be written to standard output");
  FILE *file = fopen(path, "we");
  bool ok = file && fputs(text, file) >= 0;
  int problem = errno;
  if (file && fclose(file) != 0 && ok) {
    ok = false;
    problem = errno;
  }
  return ok || nc_fail_errno(error, NC_ERROR_IO, problem, "the report could not be written to %s: choose another place with -o", path);
}

static bool
nc_report_make_html(const NcReport *report, const char *id, const char *path, GError **error)
{
  g_autofree char *name = path ? g_strdup(path) : g_strconcat(id, ".html", NULL); /* as it was asked for: a name, no path */
  g_autofree char *html = nc_report_html(report);

  if (!nc_report_write(name, html, error))
    return false;
  if (!g_str_equal(name, "-"))
    printf("%s\n", name);
  return true;
}

static bool
nc_report_run(NcCli *cli, const char *id, bool md, const char *path, GError **error)
{
  nc_autojson json_t *record = nc_client_callf(cli, "GET", NULL, error, "/api/v2/migrations/%s", id);
  int64_t now_us = nc_wall_us();

  if (!record)
    return false;
  if (cli->json) {
    nc_autojson json_t *object = nc_report_json(record, now_us);
    g_autofree char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(10));
    g_autofree char *line = g_strconcat(text ? text : "null", "\n", NULL);
    return nc_report_write(path ? path : "-", line, error);
  }
  g_autoptr(NcReport) report = nc_report_build(record, now_us);
  if (!md)
    return nc_report_make_html(report, id, path, error);
  g_autofree char *text = nc_report_md(report);
  return nc_report_write(path ? path : "-", text, error);
}

bool
nc_cmd_report(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  char *html = NULL, *output = NULL;
  int md = FALSE;
  const GOptionEntry entries[] = {
    { "html", 0, 0, G_OPTION_ARG_FILENAME, &html, "one HTML file (default: ID.html)", "FILE" },
    { "md", 0, 0, G_OPTION_ARG_NONE, &md, "a short text in Markdown", NULL },
    { "output", 'o', 0, G_OPTION_ARG_FILENAME, &output, "where to; \"-\": standard output", "FILE" },
    { NULL },
  };

  bool ok = nc_cli_parse(cli, command, entries, &argc, &argv, error) && nc_cli_check_migration(argv[0], error);
  if (ok && ((html && output) || (html && md) || (html && cli->json) || (md && cli->json)))
    ok = nc_fail(error, NC_ERROR_INVALID, "--html, --md and --json exclude each other, and --html FILE says where to: leave -o out");
  ok = ok && nc_report_run(cli, argv[0], md, html ? html : output, error);
  g_free(html);
  g_free(output);
  return ok;
}
