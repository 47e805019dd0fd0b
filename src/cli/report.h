/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The report of one migration, to be attached to a ticket: what its record says and what follows from it, as text, tables and points
 * of plots (report_build.c: numbers to model), which two writers put into a form (report_html.c, report_md.c: no numbers are made there).
 *
 * Texts of a model are clean (no control characters, no characters that turn the direction of writing) and not escaped: each writer
 * does that for its form.
 */
#pragma once

#include <glib.h>
#include <jansson.h>
#include <stdbool.h>

typedef struct {
  char *name, *text;
} NcReportFact;

typedef struct {
  const char *title; /* static */
  bool is_number;
} NcReportColumn;

typedef struct {
  const char *caption;           /* static */
  const NcReportColumn *columns; /* static */
  size_t n_columns;
  GPtrArray *rows; /* GStrv, as many as columns; the first names the row */
} NcReportTable;

typedef enum { NC_AXIS_RATE, NC_AXIS_BYTES, NC_AXIS_MS } NcReportAxis;

typedef struct {
  const char *name; /* static */
  GArray *points;   /* NcReportPoint, by x */
} NcReportSeries;

typedef struct {
  double x, y;  /* x: seconds since the start */
  double error; /* y may be wrong by that much, to either side; 0: not said */
} NcReportPoint;

typedef struct {
  double x;
  const char *name; /* static */
} NcReportMark;

typedef struct {
  char *name;
  double value;
} NcReportBar;

/* Lines over time with marks, or (without series) bars. */
typedef struct {
  const char *title; /* static */
  char *words;       /* the same for those who can't see it */
  NcReportAxis axis;
  double end_s;
  GPtrArray *series; /* NcReportSeries */
  GArray *marks;     /* NcReportMark */
  GPtrArray *bars;   /* NcReportBar */
} NcReportPlot;

typedef struct {
  const char *title; /* static */
  GPtrArray *facts;  /* NcReportFact */
  GPtrArray *plots;  /* NcReportPlot */
  GPtrArray *tables; /* NcReportTable */
  GPtrArray *notes;  /* char *: what is absent, and why */
} NcReportSection;

typedef struct {
  char *title;    /* "web1, host-a -> host-b" */
  char *headline; /* one sentence: how it went */
  char *id;
  char *made;          /* when, UTC */
  GPtrArray *sections; /* NcReportSection, in order; those with nothing in them are left out */
} NcReport;

/* Of ${record} (migration.get), at ${now_us} by the wall clock. Pure. */
NcReport *nc_report_build(json_t *record, int64_t now_us);
void nc_report_free(NcReport *report);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcReport, nc_report_free)

/* {record, derived, findings}: the record as it is (borrowed) and what cli/figures.h and cli/diagnosis.h make of it. New reference. */
json_t *nc_report_json(json_t *record, int64_t now_us);
/* One file that needs no other, and no script. Caller frees. */
char *nc_report_html(const NcReport *report);
/* CommonMark with tables: headline, findings, and numbers, without plots and history. Caller frees. */
char *nc_report_md(const NcReport *report);
/* ${plot} as inline SVG, appended to ${html}; ${number}: another one for each of a document. */
void nc_report_svg(GString *html, const NcReportPlot *plot, unsigned number);

/* Control characters, and those that turn the direction of writing, are replaced. Caller frees. */
char *nc_report_clean(const char *text);
/* ${value} in the words of ${axis}. Caller frees. */
char *nc_report_value(NcReportAxis axis, double value);

/* The titles of the sections that the short form has. */
#define NC_REPORT_FINDINGS "What was found"
#define NC_REPORT_NUMBERS "Numbers"
#define NC_REPORT_ATTEMPTS "Attempts"
#define NC_REPORT_ROUNDS "Rounds and decisions"
#define NC_REPORT_BACK "Ways back"
#define NC_REPORT_ABSENT "What is not in here"
