/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/figures.h"
#include "base/msg.h"

#include <math.h>

double
nc_figure(json_t *object, const char *key)
{
  json_t *value = json_object_get(object, key);
  return json_is_number(value) ? json_number_value(value) : NAN;
}

/* Microseconds since 1970. */
static double
nc_time_us(const char *text)
{
  g_autoptr(GDateTime) time = text ? g_date_time_new_from_iso8601(text, NULL) : NULL;
  return time ? (double)g_date_time_to_unix(time) * 1e6 + g_date_time_get_microsecond(time) : NAN;
}

double
nc_figures_after(const NcFigures *figures, const char *at)
{
  return (nc_time_us(at) - figures->started_us) / 1000;
}

json_t *
nc_record_last_event(json_t *record, const char *event, const char *detail)
{
  json_t *events = json_object_get(record, "events"), *last = NULL, *line;
  size_t i;

  json_array_foreach(events, i, line)
  {
    if ((!event || g_str_equal(nc_json_string_or(line, "event", ""), event)) &&
        (!detail || g_str_equal(nc_json_string_or(line, "detail", ""), detail)))
      last = line;
  }
  return last;
}

json_t *
nc_record_last_forecast(json_t *record)
{
  json_t *forecasts = json_object_get(record, "forecasts");
  return json_array_get(forecasts, MAX(json_array_size(forecasts), 1) - 1);
}

static double
nc_quotient(double dividend, double divisor)
{
  return divisor > 0 ? dividend / divisor : NAN;
}

static double
nc_not_negative(double value)
{
  return value < 0 ? 0 : value;
}

/* At most 1. Not by fmin() alone, which takes a number rather than NAN. */
static double
nc_share(double part_us, double whole_ms)
{
  double share = nc_quotient(part_us / 1000, whole_ms);
  return share > 1 ? 1 : share;
}

/* Since the start; NAN: it did not happen. */
static double
nc_event_ms(const NcFigures *f, json_t *record, const char *event, const char *detail)
{
  return nc_figures_after(f, nc_json_string_or(nc_record_last_event(record, event, detail), "at", NULL));
}

static void
nc_figures_times(NcFigures *f, json_t *record, int64_t now_us)
{
  const char *begun = nc_json_string_or(record, "started", nc_json_string_or(record, "created", NULL));
  f->started_us = nc_time_us(begun);
  double end_us = f->has_ended ? nc_time_us(nc_json_string_or(record, "finished", NULL)) : (double)now_us;
  f->elapsed_ms = nc_not_negative((end_us - f->started_us) / 1000);
  if (isnan(f->elapsed_ms))
    f->elapsed_ms = nc_figure(record, "total_ms");
  double began_ms = nc_event_ms(f, record, "round", "1"), flow_ms = nc_event_ms(f, record, "movers-connected", NULL);
  double until_ms = nc_event_ms(f, record, "started", NULL);
  bool postcopy = nc_json_bool_or(record, "postcopy", false); /* memory goes on flowing after the start */
  if (postcopy || isnan(until_ms) || until_ms < flow_ms)
    until_ms = f->elapsed_ms;
  f->memory_began_ms = began_ms;
  f->memory_ms = nc_not_negative(until_ms - began_ms);
  f->flow_ms = nc_not_negative(until_ms - flow_ms);
  f->stopped_ms = nc_event_ms(f, record, "guest-stopped", NULL);
  f->last_event_ms = nc_event_ms(f, record, NULL, NULL);
}

static double
nc_least_limit(json_t *record)
{
  static const char *const keys[] = { "bandwidth_limit_bps", "rate_limit_bps", "shaped_rate_bps" };
  double least = NAN;

  for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
    double limit = nc_figure(record, keys[i]);
    if (limit > 0) /* 0: none */
      least = fmin(least, limit);
  }
  return least;
}

static void
nc_figures_connections(NcFigures *f, json_t *record)
{
  json_t *connections = json_object_get(record, "connections"), *c;
  double segments = 0, again = 0, delivered = 0;
  size_t i;

  f->rtt_ms = f->min_rtt_ms = f->loss_percent = f->link_bps = NAN;
  json_array_foreach(connections, i, c)
  {
    double rtt = nc_figure(c, "rtt_us"), least = nc_figure(c, "min_rtt_us");
    segments += nc_json_number_or(c, "segments", 0);
    again += nc_json_number_or(c, "retransmitted_segments", 0);
    delivered += nc_json_number_or(c, "delivery_bps", 0);
    if (rtt > 0)
      f->rtt_ms = fmax(f->rtt_ms, rtt / 1000);
    if (least > 0)
      f->min_rtt_ms = fmin(f->min_rtt_ms, least / 1000);
  }
  f->loss_percent = nc_quotient(100 * again, segments);
  if (delivered > 0)
    f->link_bps = delivered;
  if (isnan(f->rtt_ms) && nc_figure(record, "rtt_us") > 0)
    f->rtt_ms = nc_figure(record, "rtt_us") / 1000;
}

static void
nc_figures_forecasts(NcFigures *f, json_t *record)
{
  json_t *forecasts = json_object_get(record, "forecasts"), *last = nc_record_last_forecast(record), *forecast;
  size_t i;

  f->dirty_bps = nc_figure(last ? last : record, "dirty_rate_bps");
  f->effective_bps = nc_figure(last ? last : record, "effective_rate_bps");
  f->promised_pause_ms = f->promised_end_ms = f->promised_end_error_ms = NAN;
  json_array_foreach(forecasts, i, forecast)
  {
    if (!nc_json_bool_or(forecast, "converges", false))
      continue;
    f->promised_pause_ms = nc_figure(forecast, "pause_ms");
    if (!isnan(f->promised_end_ms))
      continue;
    f->promised_end_ms = f->memory_began_ms + nc_figure(forecast, "at_ms") + nc_figure(forecast, "eta_ms");
    f->promised_end_error_ms = nc_figure(forecast, "eta_error_ms");
  }
}

void
nc_figures_of(json_t *record, int64_t now_us, NcFigures *f)
{
  double wire = nc_figure(record, "wire_bytes"), ram = nc_figure(record, "ram_bytes");

  *f = (NcFigures){ .is_source = !g_str_equal(nc_json_string_or(record, "role", "source"), "destination"),
                    .has_ended = json_is_string(json_object_get(record, "outcome")) };
  nc_figures_times(f, record, now_us);
  f->wire_bps = nc_quotient(wire * 1000, f->flow_ms);
  f->memory_bps = nc_quotient(ram * 1000, f->memory_ms);
  f->memory_ratio = nc_quotient(ram, wire);
  f->limit_bps = nc_least_limit(record);
  f->link_wait = nc_share(nc_figure(record, "link_wait_us"), f->memory_ms);
  f->encoder_wait = nc_share(nc_figure(record, "encoder_wait_us"), f->memory_ms);
  double encode = nc_figure(record, "encode_us"), cpu = nc_figure(record, "encode_cpu_us");
  f->denied = encode > 0 && cpu >= 0 ? fmax(1 - cpu / encode, 0) : NAN;
  f->mover_cpu = nc_quotient(nc_figure(record, "mover_cpu_ms"), f->flow_ms);
  nc_figures_connections(f, record);
  nc_figures_forecasts(f, record);
}

static void
nc_figures_put(json_t *object, const char *key, double value)
{
  json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null());
}

json_t *
nc_figures_to_json(const NcFigures *f)
{
  const struct {
    const char *key;
    double value;
  } rows[] = {
    { "elapsed_ms", f->elapsed_ms },
    { "flow_ms", f->flow_ms },
    { "memory_began_ms", f->memory_began_ms },
    { "memory_ms", f->memory_ms },
    { "guest_stopped_ms", f->stopped_ms },
    { "average_wire_rate_bps", f->wire_bps },
    { "average_memory_rate_bps", f->memory_bps },
    { "memory_ratio", f->memory_ratio },
    { "limit_bps", f->limit_bps },
    { "delivery_bps", f->link_bps },
    { "loss_percent", f->loss_percent },
    { "rtt_ms", f->rtt_ms },
    { "min_rtt_ms", f->min_rtt_ms },
    { "link_wait_percent", 100 * f->link_wait },
    { "encoder_wait_percent", 100 * f->encoder_wait },
    { "encoders_denied_percent", 100 * f->denied },
    { "mover_processors", f->mover_cpu },
    { "dirty_rate_bps", f->dirty_bps },
    { "effective_rate_bps", f->effective_bps },
    { "promised_pause_ms", f->promised_pause_ms },
    { "promised_end_ms", f->promised_end_ms },
    { "promised_end_error_ms", f->promised_end_error_ms },
  };
  json_t *object = json_object();

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
    nc_figures_put(object, rows[i].key, rows[i].value);
  return object;
}
