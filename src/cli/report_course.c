/* SPDX-License-Identifier: Apache-2.0 */
/* The part of a report's model that happened over time: rounds, forecasts, decisions, attempts, ways back, history. */
#include "base/msg.h"
#include "cli/report_parts.h"

#include <math.h>

/* --- rounds --- */

static const NcReportColumn nc_round_columns[] = { { "Round", false }, { "Began", true }, { "Lasted", true } };

/* The rounds of all attempts; each lasts until the next one, the guest's start, or the end. */
static void
nc_course_rounds(NcReportSection *s, json_t *record, const NcFigures *f)
{
  json_t *events = json_object_get(record, "events"), *event;
  NcReportTable *table = NULL;
  g_autofree char *round = NULL;
  double began = NAN;
  size_t i, n = json_array_size(events);

  for (i = 0; i <= n; i++) {
    event = json_array_get(events, i); /* NULL behind the last one */
    const char *name = nc_json_string_or(event, "event", "");
    bool next = g_str_equal(name, "round"), ends = next || g_str_equal(name, "started") || g_str_equal(name, "finished") || i == n;
    double at = event ? nc_figures_after(f, nc_json_string_or(event, "at", NULL)) : f->elapsed_ms;
    if (round && ends) {
      g_autofree char *after = nc_cell_after(began);
      g_autofree char *lasted = nc_cell_ms(at - began);
      const char *cells[] = { round, after, lasted };
      table = table ? table : nc_report_table(s, "Rounds", nc_round_columns, G_N_ELEMENTS(nc_round_columns));
      nc_report_row(table, cells);
      g_clear_pointer(&round, g_free);
    }
    if (next) {
      round = g_strdup(nc_json_string_or(event, "detail", "?"));
      began = at;
    }
  }
}

/* --- forecasts --- */

static const NcReportColumn nc_forecast_columns[] = { { "After", true },     { "Round", true },   { "To go", true },
                                                      { "Pause", true },     { "Dirtied", true }, { "Effective", true },
                                                      { "Decision", false }, { "Throttle", true } };

static char *
nc_course_band(json_t *forecast, const char *key, const char *error_key)
{
  g_autofree char *value = nc_cell_ms(nc_figure(forecast, key));
  g_autofree char *error = nc_cell_ms(nc_figure(forecast, error_key));
  return g_strdup_printf("%s ± %s", value, error);
}

static void
nc_course_forecast_row(NcReportTable *table, json_t *forecast, const NcFigures *f)
{
  bool converges = nc_json_bool_or(forecast, "converges", false);
  g_autofree char *after = nc_cell_after(f->memory_began_ms + nc_figure(forecast, "at_ms"));
  g_autofree char *round = nc_cell_count(nc_figure(forecast, "round"));
  g_autofree char *eta = converges ? nc_course_band(forecast, "eta_ms", "eta_error_ms") : g_strdup("no end");
  g_autofree char *pause = converges ? nc_course_band(forecast, "pause_ms", "pause_error_ms") : g_strdup("-");
  g_autofree char *dirty = nc_cell_rate(nc_figure(forecast, "dirty_rate_bps"));
  g_autofree char *effective = nc_cell_rate(nc_figure(forecast, "effective_rate_bps"));
  g_autofree char *throttle = g_strdup_printf("%.0f %%", nc_json_number_or(forecast, "throttle", 0));
  const char *cells[] = { after, round, eta, pause, dirty, effective, nc_json_string_or(forecast, "decision", "?"), throttle };
  nc_report_row(table, cells);
}

static void
nc_course_point(NcReportSeries *series, double x_ms, double y, double error)
{
  NcReportPoint point = { .x = x_ms / 1000, .y = y, .error = isfinite(error) ? error : 0 };
  if (isfinite(point.x) && isfinite(point.y + point.error))
    g_array_append_val(series->points, point);
}

/* Where rounds of the last attempt began, and where the guest stood still. */
static void
nc_course_marks(NcReportPlot *plot, json_t *record, const NcFigures *f)
{
  json_t *events = json_object_get(record, "events"), *event;
  size_t i;

  json_array_foreach(events, i, event)
  {
    const char *name = nc_json_string_or(event, "event", "");
    double at = nc_figures_after(f, nc_json_string_or(event, "at", NULL));
    NcReportMark mark = { .x = at / 1000, .name = g_str_equal(name, "round") ? "round begins" : "guest stands still" };
    if ((g_str_equal(name, "round") || g_str_equal(name, "guest-stopped")) && at >= f->memory_began_ms)
      g_array_append_val(plot->marks, mark);
  }
}

static void
nc_course_rates_plot(NcReportSection *s, json_t *record, const NcFigures *f)
{
  json_t *forecasts = json_object_get(record, "forecasts"), *forecast;
  size_t i;

  if (json_array_size(forecasts) == 0 || isnan(f->memory_began_ms) || !(f->elapsed_ms > 0))
    return;
  NcReportPlot *plot = nc_report_plot(s, "Dirty rate against effective rate", NC_AXIS_RATE, f->elapsed_ms / 1000);
  NcReportSeries *dirty = nc_report_series(plot, "dirty rate");
  NcReportSeries *effective = nc_report_series(plot, "effective rate");
  json_array_foreach(forecasts, i, forecast)
  {
    double at = f->memory_began_ms + nc_figure(forecast, "at_ms");
    nc_course_point(dirty, at, nc_figure(forecast, "dirty_rate_bps"), 0);
    nc_course_point(effective, at, nc_figure(forecast, "effective_rate_bps"), 0);
  }
  nc_course_marks(plot, record, f);
  g_autofree char *last_dirty = nc_cell_rate(f->dirty_bps);
  g_autofree char *last_effective = nc_cell_rate(f->effective_bps);
  plot->words = g_strdup_printf(
      "At the last forecast the guest dirtied %s and %s of its memory left; where the first is below the second, it converges.", last_dirty,
      last_effective);
}

static void
nc_course_pause_plot(NcReportSection *s, json_t *record, const NcFigures *f)
{
  json_t *forecasts = json_object_get(record, "forecasts"), *forecast;
  double limit = nc_figure(record, "max_downtime_ms"), pause = nc_figure(record, "pause_ms");
  size_t i;

  if (isnan(f->promised_pause_ms) || isnan(f->memory_began_ms) || !(f->elapsed_ms > 0))
    return;
  NcReportPlot *plot = nc_report_plot(s, "The pause: forecasts, limit, and what it was", NC_AXIS_MS, f->elapsed_ms / 1000);
  NcReportSeries *said = nc_report_series(plot, "forecast");
  NcReportSeries *allowed = nc_report_series(plot, "limit");
  NcReportSeries *was = nc_report_series(plot, "actual");
  json_array_foreach(forecasts, i, forecast)
  {
    if (nc_json_bool_or(forecast, "converges", false))
      nc_course_point(said, f->memory_began_ms + nc_figure(forecast, "at_ms"), nc_figure(forecast, "pause_ms"),
                      nc_figure(forecast, "pause_error_ms"));
  }
  nc_course_point(allowed, 0, limit, 0);
  nc_course_point(allowed, f->elapsed_ms, limit, 0);
  nc_course_point(was, isnan(f->stopped_ms) ? f->elapsed_ms : f->stopped_ms, pause, 0);
  g_autofree char *last = nc_cell_ms(f->promised_pause_ms);
  g_autofree char *most = nc_cell_ms(limit);
  g_autofree char *real = isnan(pause) ? g_strdup("it is not known (yet)") : nc_cell_ms(pause);
  plot->words = g_strdup_printf("Last forecast of the pause: %s; limit: %s; actual pause: %s.", last, most, real);
}

/* --- decisions --- */

static const NcReportColumn nc_decision_columns[] = { { "After", true }, { "Decision", false }, { "Reason", false } };

static void
nc_course_decisions(NcReportSection *s, json_t *record, const NcFigures *f)
{
  static const char *const names[] = { "go-on", "throttle", "post-copy", "wait", "stop", NULL };
  json_t *events = json_object_get(record, "events"), *event;
  NcReportTable *table = NULL;
  size_t i;

  json_array_foreach(events, i, event)
  {
    const char *name = nc_json_string_or(event, "event", "");
    if (!g_strv_contains(names, name))
      continue;
    g_autofree char *after = nc_cell_after(nc_figures_after(f, nc_json_string_or(event, "at", NULL)));
    const char *cells[] = { after, name, nc_json_string_or(event, "detail", "") };
    table = table ? table
                  : nc_report_table(s, "Decisions that changed something, and why", nc_decision_columns, G_N_ELEMENTS(nc_decision_columns));
    nc_report_row(table, cells);
  }
  if (!table && json_array_size(json_object_get(record, "forecasts")) > 0)
    nc_report_note(s, "Each decision was to go on.");
}

void
nc_report_add_rounds(NcReport *report, json_t *record, const NcFigures *f)
{
  NcReportSection *s = nc_report_add_section(report, NC_REPORT_ROUNDS);
  json_t *forecasts = json_object_get(record, "forecasts"), *forecast;
  size_t i;

  nc_course_rates_plot(s, record, f);
  nc_course_pause_plot(s, record, f);
  if (isfinite(f->promised_end_ms) && f->has_ended) {
    g_autofree char *said = nc_cell_after(f->promised_end_ms);
    g_autofree char *error = nc_cell_ms(f->promised_end_error_ms);
    g_autofree char *was = nc_cell_after(f->elapsed_ms);
    nc_report_fact(s, "end, by the first forecast", "%s ± %s; it ended at %s", said, error, was);
  }
  if (json_array_size(forecasts) > 0) {
    NcReportTable *table = nc_report_table(s, "Forecasts at ends of rounds", nc_forecast_columns, G_N_ELEMENTS(nc_forecast_columns));
    json_array_foreach(forecasts, i, forecast) nc_course_forecast_row(table, forecast, f);
  }
  nc_course_decisions(s, record, f);
  nc_course_rounds(s, record, f);
  nc_report_end_section(report);
}

/* --- attempts, ways back, history --- */

static const NcReportColumn nc_attempt_columns[] = { { "Attempt", false }, { "Ended", true }, { "Error", false }, { "Message", false } };

void
nc_report_add_attempts(NcReport *report, json_t *record, const NcFigures *f)
{
  NcReportSection *s = nc_report_add_section(report, NC_REPORT_ATTEMPTS);
  json_t *attempts = json_object_get(record, "attempts"), *attempt;
  size_t i;

  if (json_array_size(attempts) > 0) {
    NcReportTable *table = nc_report_table(s, "Attempts that failed", nc_attempt_columns, G_N_ELEMENTS(nc_attempt_columns));
    json_array_foreach(attempts, i, attempt)
    {
      json_t *error = json_object_get(attempt, "error");
      g_autofree char *number = nc_cell_count(nc_figure(attempt, "attempt"));
      g_autofree char *ended = nc_cell_after(nc_figures_after(f, nc_json_string_or(attempt, "ended", NULL)));
      const char *cells[] = { number, ended, nc_json_string_or(error, "code", "?"), nc_json_string_or(error, "message", "?") };
      nc_report_row(table, cells);
    }
  }
  nc_report_end_section(report);
}

static const NcReportColumn nc_back_columns[] = { { "Step", false },  { "Name", false },  { "State", false }, { "Tries", true },
                                                  { "Begun", false }, { "Ended", false }, { "Detail", false } };

static void
nc_course_back(NcReportSection *s, json_t *rollback)
{
  NcReportTable *table = nc_report_table(s, "Steps of the way back", nc_back_columns, G_N_ELEMENTS(nc_back_columns));
  const char *attention = nc_json_string_or(rollback, "attention", NULL);
  json_t *step;
  size_t i;

  nc_report_fact(s, nc_json_string_or(rollback, "id", "?"), "%s, %s: %s%s%s", nc_json_string_or(rollback, "mode", "?"),
                 nc_json_string_or(rollback, "state", "?"), nc_json_string_or(json_object_get(rollback, "cause"), "message", "asked for"),
                 attention ? "; ATTENTION: " : "", attention ? attention : "");
  json_array_foreach(json_object_get(rollback, "steps"), i, step)
  {
    g_autofree char *number = nc_cell_count(nc_figure(step, "step"));
    g_autofree char *tries = nc_cell_count(nc_figure(step, "tries"));
    const char *cells[] = { number,
                            nc_json_string_or(step, "name", "?"),
                            nc_json_string_or(step, "state", "?"),
                            tries,
                            nc_json_string_or(step, "begun", ""),
                            nc_json_string_or(step, "ended", ""),
                            nc_json_string_or(step, "detail", "") };
    nc_report_row(table, cells);
  }
}

void
nc_report_add_back(NcReport *report, json_t *record)
{
  NcReportSection *s = nc_report_add_section(report, NC_REPORT_BACK);
  json_t *rollback;
  size_t i;

  json_array_foreach(json_object_get(record, "rollbacks"), i, rollback) nc_course_back(s, rollback);
  nc_report_end_section(report);
}

static const NcReportColumn nc_history_columns[] = { { "After", true }, { "At (UTC)", false }, { "Event", false }, { "Detail", false } };

void
nc_report_add_history(NcReport *report, json_t *record, const NcFigures *f)
{
  NcReportSection *s = nc_report_add_section(report, "History");
  json_t *events = json_object_get(record, "events"), *event;
  size_t i;

  if (json_array_size(events) > 0) {
    NcReportTable *table = nc_report_table(s, "What happened", nc_history_columns, G_N_ELEMENTS(nc_history_columns));
    json_array_foreach(events, i, event)
    {
      const char *at = nc_json_string_or(event, "at", "");
      g_autofree char *after = nc_cell_after(nc_figures_after(f, at));
      const char *cells[] = { after, at, nc_json_string_or(event, "event", "?"), nc_json_string_or(event, "detail", "") };
      nc_report_row(table, cells);
    }
  }
  nc_report_end_section(report);
}
