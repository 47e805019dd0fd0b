/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The report as one HTML file: its style and its plots are in it, it asks nobody for anything (its own policy forbids that) and needs
 * no script. Everything from a record is escaped.
 */
#include "cli/report.h"

#include <string.h>

#define NC_LONG_CELL 20 /* bytes: it needs some width, or it becomes a column of single words */

static const char nc_head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n"
    "<meta name=\"generator\" content=\"novacron " NC_VERSION "\">\n";

static const char nc_style[] =
    "<style>\n"
    ":root{color-scheme:light dark;--back:#fff;--fore:#1a1f26;--muted:#57606b;--line:#cdd3da;--good:#176b37;--warn:#8a4b00;--bad:#b3261e;"
    "--s0:#b4500a;--s1:#1b5fa8;--s2:#176b37}\n"
    "@media "
    "(prefers-color-scheme:dark){:root{--back:#14181d;--fore:#e6e9ed;--muted:#a5adb7;--line:#3d4650;--good:#6fd08c;--warn:#f0b35c;--bad:#"
    "ff8a80;"
    "--s0:#f2a15f;--s1:#7db7f2;--s2:#6fd08c}}\n"
    "body{margin:0 auto;max-width:64rem;padding:1rem;background:var(--back);color:var(--fore);font:1rem/1.5 system-ui,sans-serif}\n"
    "h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:1.8rem 0 .5rem;border-bottom:1px solid var(--line)}\n"
    ".headline{font-size:1.1rem}.made,figcaption,caption,.note{color:var(--muted)}caption{text-align:left;padding:.3rem 0}\n"
    "dl{display:grid;grid-template-columns:minmax(9rem,max-content) 1fr;gap:.15rem 1rem;margin:.5rem "
    "0}dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}\n"
    ".wide{overflow-x:auto;margin:.8rem "
    "0}table{border-collapse:collapse;font-size:.9rem}th,td{text-align:left;vertical-align:top;padding:.2rem .7rem .2rem 0;"
    "border-bottom:1px solid var(--line)}td{overflow-wrap:break-word;max-width:26rem}td.t{min-width:9rem}thead th{color:var(--muted)}tbody "
    "th{font-weight:600}.n{text-align:right;white-space:nowrap;"
    "font-variant-numeric:tabular-nums}\n"
    ".v-ok{color:var(--good)}.v-warning,.v-unknown{color:var(--warn);font-weight:600}.v-failed{color:var(--bad);font-weight:600}\n"
    "figure{margin:1rem 0}svg{width:100%;height:auto;max-width:45rem;display:block}svg text{fill:var(--muted);font-size:12px}\n"
    ".grid{stroke:var(--line)}.round{stroke:var(--muted);stroke-dasharray:2 3}.pause{stroke:var(--bad);stroke-width:2}\n"
    "line.s0,line.s1,line.s2{stroke-width:2}line.s0{stroke:var(--s0);stroke-dasharray:7 "
    "4}line.s1{stroke:var(--s1)}line.s2{stroke:var(--s2)}\n"
    "circle.s0,.b0,.k0{fill:var(--s0)}circle.s1,.b1,.k1{fill:var(--s1)}circle.s2,.b2,.k2{fill:var(--s2)}\n"
    ".key{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;margin:.2rem 0;padding:0;font-size:.9rem}.key "
    "svg{display:inline;width:1rem;height:.7rem;margin-right:.3rem}\n"
    "@media "
    "print{body{max-width:none;padding:0;font-size:10pt}figure,tr{break-inside:avoid}h2{break-after:avoid}.wide{overflow:visible}td,td.t{"
    "overflow-wrap:anywhere;min-width:0}}\n"
    "</style>\n";

static void
nc_html_text(GString *out, const char *text)
{
  g_autofree char *escaped = g_markup_escape_text(text, -1);
  g_string_append(out, escaped);
}

static void
nc_html_element(GString *out, const char *open, const char *text, const char *close)
{
  g_string_append(out, open);
  nc_html_text(out, text);
  g_string_append(out, close);
}

static void
nc_html_facts(GString *out, const GPtrArray *facts)
{
  if (facts->len == 0)
    return;
  g_string_append(out, "<dl>\n");
  for (guint i = 0; i < facts->len; i++) {
    const NcReportFact *fact = facts->pdata[i];
    nc_html_element(out, "<dt>", fact->name, "</dt>");
    nc_html_element(out, "<dd>", fact->text, "</dd>\n");
  }
  g_string_append(out, "</dl>\n");
}

/* What a verdict looks like; the word says it, too. */
static const char *
nc_html_class(const NcReportColumn *column, const char *cell)
{
  static const char *const verdicts[][2] = { { "ok", " class=\"v-ok\"" },
                                             { "warning", " class=\"v-warning\"" },
                                             { "unknown", " class=\"v-unknown\"" },
                                             { "failed", " class=\"v-failed\"" } };

  if (column->is_number)
    return " class=\"n\"";
  for (size_t i = 0; g_str_equal(column->title, "Verdict") && i < G_N_ELEMENTS(verdicts); i++)
    if (g_str_equal(cell, verdicts[i][0]))
      return verdicts[i][1];
  return strlen(cell) > NC_LONG_CELL ? " class=\"t\"" : "";
}

static void
nc_html_row(GString *out, const NcReportTable *table, char *const *row)
{
  g_string_append(out, "<tr>");
  for (size_t i = 0; i < table->n_columns; i++) {
    g_string_append_printf(out, i == 0 ? "<th scope=\"row\"%s>" : "<td%s>", nc_html_class(&table->columns[i], row[i]));
    nc_html_text(out, row[i]);
    g_string_append(out, i == 0 ? "</th>" : "</td>");
  }
  g_string_append(out, "</tr>\n");
}

/* A table that is wider than its window can be moved with the keyboard, too: hence the region. */
static void
nc_html_table(GString *out, const NcReportTable *table)
{
  g_string_append_printf(out,
                         "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"%s\"><table><caption>%s</caption><thead><tr>",
                         table->caption, table->caption);
  for (size_t i = 0; i < table->n_columns; i++)
    g_string_append_printf(out, "<th scope=\"col\"%s>%s</th>", table->columns[i].is_number ? " class=\"n\"" : "", table->columns[i].title);
  g_string_append(out, "</tr></thead><tbody>\n");
  for (guint i = 0; i < table->rows->len; i++)
    nc_html_row(out, table, table->rows->pdata[i]);
  g_string_append(out, "</tbody></table></div>\n");
}

static void
nc_html_key(GString *out, const NcReportPlot *plot)
{
  if (plot->series->len == 0)
    return;
  g_string_append(out, "<ul class=\"key\">");
  for (guint i = 0; i < plot->series->len; i++)
    g_string_append_printf(
        out, "<li><svg viewBox=\"0 0 16 10\" aria-hidden=\"true\"><rect class=\"k%u\" width=\"16\" height=\"10\"/></svg>%s</li>", i,
        ((const NcReportSeries *)plot->series->pdata[i])->name);
  if (plot->marks->len > 0)
    g_string_append(out, "<li>dotted: a round begins</li><li>thick: the guest stands still</li>");
  g_string_append(out, "</ul>");
}

static void
nc_html_plot(GString *out, const NcReportPlot *plot, unsigned number)
{
  g_string_append(out, "<figure>\n");
  nc_report_svg(out, plot, number);
  nc_html_key(out, plot);
  g_string_append_printf(out, "<figcaption><strong>%s.</strong> ", plot->title);
  nc_html_text(out, plot->words ? plot->words : "");
  g_string_append(out, "</figcaption>\n</figure>\n");
}

static void
nc_html_section(GString *out, const NcReportSection *s, unsigned *number)
{
  g_string_append_printf(out, "<section>\n<h2>%s</h2>\n", s->title);
  nc_html_facts(out, s->facts);
  for (guint i = 0; i < s->plots->len; i++)
    nc_html_plot(out, s->plots->pdata[i], ++*number);
  for (guint i = 0; i < s->tables->len; i++)
    nc_html_table(out, s->tables->pdata[i]);
  for (guint i = 0; i < s->notes->len; i++)
    nc_html_element(out, "<p class=\"note\">", s->notes->pdata[i], "</p>\n");
  g_string_append(out, "</section>\n");
}

char *
nc_report_html(const NcReport *report)
{
  GString *out = g_string_new(nc_head);
  unsigned number = 0;

  nc_html_element(out, "<title>Migration ", report->id, ": ");
  nc_html_element(out, "", report->title, "</title>\n");
  g_string_append(out, nc_style);
  nc_html_element(out, "</head>\n<body>\n<main>\n<h1>", report->title, "</h1>\n");
  nc_html_element(out, "<p class=\"headline\">", report->headline, "</p>\n");
  nc_html_element(out, "<p class=\"made\">Report of migration ", report->id, ", made ");
  nc_html_element(out, "", report->made, " (UTC) by novacron " NC_VERSION "</p>\n");
  for (guint i = 0; i < report->sections->len; i++)
    nc_html_section(out, report->sections->pdata[i], &number);
  g_string_append(out, "</main>\n</body>\n</html>\n");
  return g_string_free(out, FALSE);
}
