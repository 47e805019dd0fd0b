/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a report's model, and its form for programs. */
#include "cli/report.h"
#include "cli/diagnosis.h"
#include "cli/report_parts.h"
#include "cli/table.h"
#include "cli/units.h"

#include <math.h>
#include <string.h>

static void
nc_fact_free(gpointer data)
{
  NcReportFact *fact = data;
  g_free(fact->name);
  g_free(fact->text);
  g_free(fact);
}

static void
nc_report_table_free(gpointer data)
{
  NcReportTable *table = data;
  g_ptr_array_unref(table->rows);
  g_free(table);
}

static void
nc_series_free(gpointer data)
{
  NcReportSeries *series = data;
  g_array_unref(series->points);
  g_free(series);
}

static void
nc_bar_free(gpointer data)
{
  NcReportBar *bar = data;
  g_free(bar->name);
  g_free(bar);
}

static void
nc_plot_free(gpointer data)
{
  NcReportPlot *plot = data;
  g_free(plot->words);
  g_ptr_array_unref(plot->series);
  g_array_unref(plot->marks);
  g_ptr_array_unref(plot->bars);
  g_free(plot);
}

static void
nc_section_free(gpointer data)
{
  NcReportSection *section = data;
  g_ptr_array_unref(section->facts);
  g_ptr_array_unref(section->plots);
  g_ptr_array_unref(section->tables);
  g_ptr_array_unref(section->notes);
  g_free(section);
}

NcReport *
nc_report_new(void)
{
  NcReport *report = g_new0(NcReport, 1);
  report->sections = g_ptr_array_new_with_free_func(nc_section_free);
  return report;
}

void
nc_report_free(NcReport *report)
{
  if (!report)
    return;
  g_free(report->title);
  g_free(report->headline);
  g_free(report->id);
  g_free(report->made);
  g_ptr_array_unref(report->sections);
  g_free(report);
}

NcReportSection *
nc_report_add_section(NcReport *report, const char *title)
{
  NcReportSection *section = g_new0(NcReportSection, 1);
  section->title = title;
  section->facts = g_ptr_array_new_with_free_func(nc_fact_free);
  section->plots = g_ptr_array_new_with_free_func(nc_plot_free);
  section->tables = g_ptr_array_new_with_free_func(nc_report_table_free);
  section->notes = g_ptr_array_new_with_free_func(g_free);
  g_ptr_array_add(report->sections, section);
  return section;
}

void
nc_report_end_section(NcReport *report)
{
  NcReportSection *section = report->sections->pdata[report->sections->len - 1];
  if (section->facts->len + section->plots->len + section->tables->len + section->notes->len == 0)
    g_ptr_array_remove_index(report->sections, report->sections->len - 1);
}

void
nc_report_fact(NcReportSection *section, const char *name, const char *format, ...)
{
  NcReportFact *fact = g_new0(NcReportFact, 1);
  va_list args;

  va_start(args, format);
  g_autofree char *raw = g_strdup_vprintf(format, args);
  va_end(args);
  fact->name = nc_report_clean(name);
  fact->text = nc_report_clean(raw);
  g_ptr_array_add(section->facts, fact);
}

void
nc_report_note(NcReportSection *section, const char *text)
{
  g_ptr_array_add(section->notes, nc_report_clean(text));
}

NcReportTable *
nc_report_table(NcReportSection *section, const char *caption, const NcReportColumn *columns, size_t n_columns)
{
  NcReportTable *table = g_new0(NcReportTable, 1);
  table->caption = caption;
  table->columns = columns;
  table->n_columns = n_columns;
  table->rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
  g_ptr_array_add(section->tables, table);
  return table;
}

void
nc_report_row(NcReportTable *table, const char *const *cells)
{
  char **row = g_new0(char *, table->n_columns + 1);

  for (size_t i = 0; i < table->n_columns; i++)
    row[i] = nc_report_clean(cells[i] ? cells[i] : "");
  g_ptr_array_add(table->rows, row);
}

NcReportPlot *
nc_report_plot(NcReportSection *section, const char *title, NcReportAxis axis, double end_s)
{
  NcReportPlot *plot = g_new0(NcReportPlot, 1);
  plot->title = title;
  plot->axis = axis;
  plot->end_s = end_s;
  plot->series = g_ptr_array_new_with_free_func(nc_series_free);
  plot->marks = g_array_new(FALSE, FALSE, sizeof(NcReportMark));
  plot->bars = g_ptr_array_new_with_free_func(nc_bar_free);
  g_ptr_array_add(section->plots, plot);
  return plot;
}

NcReportSeries *
nc_report_series(NcReportPlot *plot, const char *name)
{
  NcReportSeries *series = g_new0(NcReportSeries, 1);
  series->name = name;
  series->points = g_array_new(FALSE, FALSE, sizeof(NcReportPoint));
  g_ptr_array_add(plot->series, series);
  return series;
}

void
nc_report_bar(NcReportPlot *plot, const char *name, double value)
{
  NcReportBar *bar = g_new0(NcReportBar, 1);
  bar->name = g_strdup(name);
  bar->value = value;
  g_ptr_array_add(plot->bars, bar);
}

/* Embeddings, overrides, isolates and marks of the direction of writing. */
static bool
nc_turns_direction(gunichar c)
{
  return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0x200e || c == 0x200f || c == 0x061c;
}

char *
nc_report_clean(const char *text)
{
  g_autofree char *clean = nc_text_clean(text);
  GString *result = g_string_sized_new(strlen(clean));

  for (const char *c = clean; *c; c = g_utf8_next_char(c)) {
    gunichar u = g_utf8_get_char(c);
    g_string_append_unichar(result, nc_turns_direction(u) ? 0xfffd : u);
  }
  return g_string_free(result, FALSE);
}

char *
nc_report_value(NcReportAxis axis, double value)
{
  if (axis == NC_AXIS_RATE)
    return nc_format_rate(value);
  return axis == NC_AXIS_BYTES ? nc_format_bytes((int64_t)fmin(value, 9e18)) : nc_format_ms(value);
}

json_t *
nc_report_json(json_t *record, int64_t now_us)
{
  NcFigures figures;

  nc_figures_of(record, now_us, &figures);
  return json_pack("{s:O, s:o, s:o}", "record", record, "derived", nc_figures_to_json(&figures), "findings", nc_diagnose(record, &figures));
}
