/* SPDX-License-Identifier: Apache-2.0 */
/* How report_build.c puts a report together: each function adds to what it is given, and returns what belongs to that. */
#pragma once

#include "cli/figures.h"
#include "cli/report.h"

NcReport *nc_report_new(void);
NcReportSection *nc_report_add_section(NcReport *report, const char *title);
/* Takes the last section away again if nothing is in it. */
void nc_report_end_section(NcReport *report);
void nc_report_fact(NcReportSection *section, const char *name, const char *format, ...) G_GNUC_PRINTF(3, 4);
void nc_report_note(NcReportSection *section, const char *text);
NcReportTable *nc_report_table(NcReportSection *section, const char *caption, const NcReportColumn *columns, size_t n_columns);
void nc_report_row(NcReportTable *table, const char *const *cells);
NcReportPlot *nc_report_plot(NcReportSection *section, const char *title, NcReportAxis axis, double end_s);
NcReportSeries *nc_report_series(NcReportPlot *plot, const char *name);
void nc_report_bar(NcReportPlot *plot, const char *name, double value);

/* Of report_course.c, sections about what happened over time; each is left out if the record has nothing for it. */
void nc_report_add_rounds(NcReport *report, json_t *record, const NcFigures *figures);
void nc_report_add_attempts(NcReport *report, json_t *record, const NcFigures *figures);
void nc_report_add_back(NcReport *report, json_t *record);
void nc_report_add_history(NcReport *report, json_t *record, const NcFigures *figures);

/* For cells, of numbers as in a record; "-" for what is not known. Callers free. */
char *nc_cell_bytes(double bytes); /* with the exact number */
char *nc_cell_rate(double bps);
char *nc_cell_ms(double ms);
char *nc_cell_count(double n);
char *nc_cell_after(double ms); /* "+12.34 s" */
