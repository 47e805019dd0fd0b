/* SPDX-License-Identifier: Apache-2.0 */
/* A plot as inline SVG: lines over time with marks, or bars. Colours are classes, which the document's style sheet knows light and dark. */
#include "cli/report.h"

#include <math.h>

#define NC_WIDTH 720.0
#define NC_HEIGHT 240.0
#define NC_LEFT 92.0
#define NC_RIGHT 12.0
#define NC_TOP 12.0
#define NC_BOTTOM 28.0
#define NC_STEPS_MOST 20
#define NC_BAR_HEIGHT 30.0
#define NC_BAR_LEFT 130.0
#define NC_BAR_RIGHT 110.0

typedef struct {
  const NcReportPlot *plot;
  double most_y, most_x;
} NcScale;

/* Numbers in SVG have a point, whatever the locale. */
static void
nc_svg_number(GString *out, const char *attribute, double value)
{
  char text[G_ASCII_DTOSTR_BUF_SIZE];
  g_string_append_printf(out, " %s=\"%s\"", attribute, g_ascii_formatd(text, sizeof text, "%.1f", value));
}

static void
nc_svg_escaped(GString *out, const char *text)
{
  g_autofree char *escaped = g_markup_escape_text(text, -1);
  g_string_append(out, escaped);
}

/* The next of 1, 2, 2.5, 5 times a power of ten of which ${steps} reach ${most}. */
static double
nc_nice_step(double most, int steps)
{
  double raw = most / steps, power = pow(10, floor(log10(raw)));
  double times = raw / power;
  return power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 2.5 ? 2.5 : times <= 5 ? 5 : 10);
}

static double
nc_svg_x(const NcScale *scale, double x)
{
  return NC_LEFT + x / scale->most_x * (NC_WIDTH - NC_LEFT - NC_RIGHT);
}

static double
nc_svg_y(const NcScale *scale, double y)
{
  return NC_HEIGHT - NC_BOTTOM - fmin(y / scale->most_y, 1) * (NC_HEIGHT - NC_TOP - NC_BOTTOM);
}

static void
nc_svg_line(GString *out, const char *class, double x1, double y1, double x2, double y2)
{
  g_string_append_printf(out, "<line class=\"%s\"", class);
  nc_svg_number(out, "x1", x1);
  nc_svg_number(out, "y1", y1);
  nc_svg_number(out, "x2", x2);
  nc_svg_number(out, "y2", y2);
  g_string_append(out, "/>");
}

static void
nc_svg_text(GString *out, const char *anchor, double x, double y, const char *text)
{
  g_string_append_printf(out, "<text text-anchor=\"%s\"", anchor);
  nc_svg_number(out, "x", x);
  nc_svg_number(out, "y", y);
  g_string_append_c(out, '>');
  nc_svg_escaped(out, text);
  g_string_append(out, "</text>");
}

static void
nc_svg_measure(const NcReportPlot *plot, NcScale *ret)
{
  *ret = (NcScale){ .plot = plot, .most_x = plot->end_s };
  for (guint i = 0; i < plot->series->len; i++) {
    const NcReportSeries *series = plot->series->pdata[i];
    for (guint j = 0; j < series->points->len; j++) {
      const NcReportPoint *p = &g_array_index(series->points, NcReportPoint, j);
      ret->most_y = fmax(ret->most_y, p->y + p->error);
      ret->most_x = fmax(ret->most_x, p->x);
    }
  }
  ret->most_y = ret->most_y > 0 ? ret->most_y * 1.05 : 1;
  ret->most_x = ret->most_x > 0 ? ret->most_x : 1;
}

static void
nc_svg_axes(GString *out, const NcScale *scale)
{
  double step_y = nc_nice_step(scale->most_y, 4), step_x = nc_nice_step(scale->most_x, 6);

  for (int i = 0; i <= NC_STEPS_MOST && i * step_y <= scale->most_y; i++) {
    double y = i * step_y;
    g_autofree char *text = nc_report_value(scale->plot->axis, y);
    nc_svg_line(out, "grid", NC_LEFT, nc_svg_y(scale, y), NC_WIDTH - NC_RIGHT, nc_svg_y(scale, y));
    nc_svg_text(out, "end", NC_LEFT - 6, nc_svg_y(scale, y) + 4, text);
  }
  for (int i = 0; i <= NC_STEPS_MOST && i * step_x <= scale->most_x; i++) {
    double x = i * step_x;
    char number[G_ASCII_DTOSTR_BUF_SIZE];
    g_autofree char *text = g_strconcat(g_ascii_formatd(number, sizeof number, step_x < 1 ? "%.2f" : "%.0f", x), " s", NULL);
    nc_svg_text(out, "middle", nc_svg_x(scale, x), NC_HEIGHT - 8, text);
  }
}

static void
nc_svg_marks(GString *out, const NcScale *scale)
{
  for (guint i = 0; i < scale->plot->marks->len; i++) {
    const NcReportMark *mark = &g_array_index(scale->plot->marks, NcReportMark, i);
    double x = nc_svg_x(scale, mark->x);
    if (mark->x >= 0 && mark->x <= scale->most_x)
      nc_svg_line(out, g_str_equal(mark->name, "round begins") ? "round" : "pause", x, NC_TOP, x, NC_HEIGHT - NC_BOTTOM);
  }
}

static void
nc_svg_series(GString *out, const NcScale *scale, const NcReportSeries *series, guint number)
{
  g_autofree char *class = g_strdup_printf("s%u", number);
  const NcReportPoint *before = NULL;

  for (guint i = 0; i < series->points->len; i++) {
    const NcReportPoint *p = &g_array_index(series->points, NcReportPoint, i);
    double x = nc_svg_x(scale, p->x), y = nc_svg_y(scale, p->y);
    if (before)
      nc_svg_line(out, class, nc_svg_x(scale, before->x), nc_svg_y(scale, before->y), x, y);
    if (p->error > 0)
      nc_svg_line(out, class, x, nc_svg_y(scale, p->y + p->error), x, nc_svg_y(scale, fmax(p->y - p->error, 0)));
    g_string_append_printf(out, "<circle class=\"%s\" r=\"3\"", class);
    nc_svg_number(out, "cx", x);
    nc_svg_number(out, "cy", y);
    g_string_append(out, "/>");
    before = p;
  }
}

static void
nc_svg_bars(GString *out, const NcReportPlot *plot)
{
  double most = 0;

  for (guint i = 0; i < plot->bars->len; i++)
    most = fmax(most, ((const NcReportBar *)plot->bars->pdata[i])->value);
  for (guint i = 0; i < plot->bars->len; i++) {
    const NcReportBar *bar = plot->bars->pdata[i];
    double y = i * NC_BAR_HEIGHT + 4, width = most > 0 ? bar->value / most * (NC_WIDTH - NC_BAR_LEFT - NC_BAR_RIGHT) : 0;
    g_autofree char *text = nc_report_value(plot->axis, bar->value);
    nc_svg_text(out, "end", NC_BAR_LEFT - 8, y + 16, bar->name);
    g_string_append_printf(out, "<rect class=\"b%u\"", i);
    nc_svg_number(out, "x", NC_BAR_LEFT);
    nc_svg_number(out, "y", y);
    nc_svg_number(out, "width", fmax(width, 1));
    nc_svg_number(out, "height", NC_BAR_HEIGHT - 8);
    g_string_append(out, "/>");
    nc_svg_text(out, "start", NC_BAR_LEFT + fmax(width, 1) + 6, y + 16, text);
  }
}

void
nc_report_svg(GString *out, const NcReportPlot *plot, unsigned number)
{
  double height = plot->bars->len > 0 ? plot->bars->len * NC_BAR_HEIGHT : NC_HEIGHT;
  NcScale scale;

  g_string_append_printf(out, "<svg viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-labelledby=\"p%ut p%ud\"><title id=\"p%ut\">", NC_WIDTH,
                         height, number, number, number);
  nc_svg_escaped(out, plot->title);
  g_string_append_printf(out, "</title><desc id=\"p%ud\">", number);
  nc_svg_escaped(out, plot->words ? plot->words : "");
  g_string_append(out, "</desc>");
  if (plot->bars->len > 0) {
    nc_svg_bars(out, plot);
  } else {
    nc_svg_measure(plot, &scale);
    nc_svg_axes(out, &scale);
    nc_svg_marks(out, &scale);
    for (guint i = 0; i < plot->series->len; i++)
      nc_svg_series(out, &scale, plot->series->pdata[i], i);
  }
  g_string_append(out, "</svg>");
}
