/* SPDX-License-Identifier: Apache-2.0 */
/* The report as a short text for tickets that take Markdown. Everything from a record is escaped. */
#include "cli/report.h"

#include <string.h>

static void
nc_md_text(GString *out, const char *text)
{
  for (const char *c = text; *c; c++) {
    if (*c == '@') /* nobody is to be called by a ticket system */
      g_string_append(out, "&#64;");
    else if (strchr("\\`*_{}[]<>|#~!&$", *c))
      g_string_append_printf(out, "\\%c", *c);
    else
      g_string_append_c(out, *c);
  }
}

static void
nc_md_facts(GString *out, const GPtrArray *facts)
{
  for (guint i = 0; i < facts->len; i++) {
    const NcReportFact *fact = facts->pdata[i];
    g_string_append(out, "- ");
    nc_md_text(out, fact->name);
    g_string_append(out, ": ");
    nc_md_text(out, fact->text);
    g_string_append_c(out, '\n');
  }
}

static void
nc_md_table(GString *out, const NcReportTable *table)
{
  g_string_append_printf(out, "\n%s\n\n|", table->caption);
  for (size_t i = 0; i < table->n_columns; i++)
    g_string_append_printf(out, " %s |", table->columns[i].title);
  g_string_append(out, "\n|");
  for (size_t i = 0; i < table->n_columns; i++)
    g_string_append(out, table->columns[i].is_number ? " --: |" : " --- |");
  for (guint i = 0; i < table->rows->len; i++) {
    g_string_append(out, "\n|");
    for (size_t j = 0; j < table->n_columns; j++) {
      g_string_append_c(out, ' ');
      nc_md_text(out, ((char **)table->rows->pdata[i])[j]);
      g_string_append(out, " |");
    }
  }
  g_string_append_c(out, '\n');
}

static void
nc_md_section(GString *out, const NcReportSection *s)
{
  g_string_append_printf(out, "\n## %s\n\n", s->title);
  nc_md_facts(out, s->facts);
  for (guint i = 0; i < s->tables->len; i++)
    nc_md_table(out, s->tables->pdata[i]);
  for (guint i = 0; i < s->notes->len; i++) {
    g_string_append(out, i == 0 && s->facts->len + s->tables->len > 0 ? "\n- " : "- ");
    nc_md_text(out, s->notes->pdata[i]);
    g_string_append_c(out, '\n');
  }
}

char *
nc_report_md(const NcReport *report)
{
  static const char *const wanted[] = {
    NC_REPORT_FINDINGS, NC_REPORT_NUMBERS, NC_REPORT_ROUNDS, NC_REPORT_ATTEMPTS, NC_REPORT_BACK, NC_REPORT_ABSENT, NULL
  };
  GString *out = g_string_new("# ");

  nc_md_text(out, report->title);
  g_string_append(out, "\n\n");
  nc_md_text(out, report->headline);
  g_string_append(out, "\n\nMigration ");
  nc_md_text(out, report->id);
  g_string_append_printf(out, "; report made %s (UTC) by novacron " NC_VERSION "\n", report->made);
  for (guint i = 0; i < report->sections->len; i++) {
    const NcReportSection *s = report->sections->pdata[i];
    if (g_strv_contains(wanted, s->title))
      nc_md_section(out, s);
  }
  return g_string_free(out, FALSE);
}
