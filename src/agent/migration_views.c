/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/migration_views.h"
#include "agent/alert_rules.h"
#include "agent/handoff.h"
#include "base/msg.h"

#include <math.h>
#include <string.h>

char *
nc_duration_text(int64_t ms)
{
  int64_t s = ms / 1000;

  if (ms < 1000)
    return g_strdup_printf("%" G_GINT64_FORMAT "ms", MAX(ms, 0));
  if (s < 60)
    return g_strdup_printf("%" G_GINT64_FORMAT "s", s);
  if (s < 3600)
    return g_strdup_printf("%" G_GINT64_FORMAT "m%" G_GINT64_FORMAT "s", s / 60, s % 60);
  return g_strdup_printf("%" G_GINT64_FORMAT "h%" G_GINT64_FORMAT "m%" G_GINT64_FORMAT "s", s / 3600, s / 60 % 60, s % 60);
}

bool
nc_migration_record_has_ended(json_t *record)
{
  return json_is_string(json_object_get(record, "outcome"));
}

/* Microseconds of a time as nc_time_format() writes it; 0: not known. */
static int64_t
nc_record_time(json_t *record, const char *key)
{
  g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(nc_json_string_or(record, key, ""), NULL);
  return time ? g_date_time_to_unix(time) * G_USEC_PER_SEC + g_date_time_get_microsecond(time) : 0;
}

int64_t
nc_migration_record_elapsed_ms(json_t *record, int64_t now_us)
{
  int64_t total_ms = nc_json_int_or(record, "total_ms", -1), started_us = nc_record_time(record, "started");
  int64_t finished_us = nc_record_time(record, "finished");

  if (started_us == 0 || (!finished_us && total_ms >= 0))
    return total_ms;
  return MAX((finished_us ? finished_us : now_us) - started_us, 0) / 1000;
}

/* How long its present mover, the last one of maybe several attempts, has run; ${elapsed_ms} if that is not known. */
static double
nc_record_mover_ms(json_t *record, int64_t now_us, double elapsed_ms)
{
  int64_t started_us = nc_json_int_or(record, "mover_started_us", 0), finished_us = nc_record_time(record, "finished");

  return started_us > 0 ? (double)MAX((finished_us ? finished_us : now_us) - started_us, 0) / 1000 : elapsed_ms;
}

/* Summed over the disks. */
static int64_t
nc_record_disk_sum(json_t *record, const char *key)
{
  double sum = 0;
  size_t i;
  json_t *disk;

  json_array_foreach(json_object_get(record, "disks"), i, disk) sum += nc_json_number_or(disk, key, 0);
  return (int64_t)sum;
}

double
nc_migration_record_carried(json_t *record)
{
  json_t *disks = json_object_get(record, "disks");
  double stream = nc_json_number_or(record, "stream_bytes", NAN);

  if (isnan(stream) && json_array_size(disks) == 0)
    return NAN;
  return (isnan(stream) ? 0 : stream) + (double)nc_record_disk_sum(record, "wire_bytes");
}

int64_t
nc_migration_record_rate(json_t *record)
{
  if (nc_migration_record_has_ended(record))
    return 0;
  if (!g_str_equal(nc_json_string_or(record, "phase", ""), "disk_copy"))
    return nc_json_int_or(record, "rate_bps", -1);
  return json_array_size(json_object_get(record, "disks")) > 0 ? nc_record_disk_sum(record, "rate_bps") : -1;
}

static json_t *
nc_record_rate_view(json_t *record)
{
  int64_t rate = nc_migration_record_rate(record);
  return rate < 0 ? json_null() : json_integer(rate);
}

/* ${key} of ${record} as ${as} of ${view}; null if it is not there. */
static void
nc_view_copy(json_t *view, json_t *record, const char *key, const char *as)
{
  json_t *value = json_object_get(record, key);
  if (value)
    json_object_set(view, as, value);
  else
    json_object_set_new(view, as, json_null());
}

static void
nc_view_copy_all(json_t *view, json_t *record, const char *const *keys)
{
  for (; *keys; keys++)
    nc_view_copy(view, record, *keys, *keys);
}

json_t *
nc_migration_progress_view(json_t *record)
{
  static const char *const keys[] = { "phase", "progress", "ram_remaining_bytes", "wire_bytes", "rounds", "attempt", NULL };
  json_t *eta = json_object_get(record, "eta_ms"), *view = json_object();
  bool known = json_is_integer(eta) && !nc_migration_record_has_ended(record);
  g_autofree char *text = known ? nc_duration_text(json_integer_value(eta)) : NULL;

  nc_view_copy_all(view, record, keys);
  json_object_set_new(view, "transfer_rate", nc_record_rate_view(record));
  json_object_set_new(view, "eta", text ? json_string(text) : json_null());
  json_object_set_new(view, "eta_ms", known ? json_incref(eta) : json_null());
  return view;
}

json_t *
nc_migration_status_view(json_t *record, int64_t now_us)
{
  static const char *const keys[] = { "id",       "vm",       "source",    "destination", "role",  "state", "outcome",
                                      "pause_ms", "attempts", "attention", "created",     "started", "finished", "error", NULL };
  json_t *view = nc_migration_progress_view(record);
  int64_t elapsed_ms = nc_migration_record_elapsed_ms(record, now_us);

  nc_view_copy_all(view, record, keys);
  json_object_set_new(view, "elapsed_ms", elapsed_ms < 0 ? json_null() : json_integer(elapsed_ms));
  return view;
}

/* What was divided, if both are known. */
static json_t *
nc_view_quotient(double dividend, double divisor)
{
  return divisor > 0 && dividend >= 0 ? json_real(dividend / divisor) : json_null();
}

json_t *
nc_migration_metrics_view(json_t *record, int64_t now_us)
{
  static const struct {
    const char *key, *as;
  } names[] = {
    { "id", "id" },
    { "vm", "vm" },
    { "phase", "phase" },
    { "outcome", "outcome" },
    { "progress", "progress" },
    { "ratio", "compression_ratio" },
    { "pause_ms", "downtime_milliseconds" },
    { "qemu_downtime_ms", "qemu_downtime_milliseconds" },
    { "expected_downtime_ms", "expected_downtime_milliseconds" },
    { "mover_rss_bytes", "memory_usage_bytes" },
    { "wire_bytes", "wire_bytes" },
    { "wire_rate_bps", "wire_rate_bytes" },
    { "rate_limit_bps", "rate_limit_bytes" },
    { "link_rate_bps", "link_rate_bytes" },
    { "ram_bytes", "ram_bytes" },
    { "ram_total_bytes", "ram_total_bytes" },
    { "ram_remaining_bytes", "ram_remaining_bytes" },
    { "dirty_rate_bps", "dirty_rate_bytes" },
    { "rounds", "rounds" },
    { "throttle", "throttle_percent" },
    { "in_flight_bytes", "in_flight_bytes" },
    { "window_bytes", "window_bytes" },
    { "reconnects", "reconnects" },
    { "resent_bytes", "resent_bytes" },
    { "pages", "pages" },
    { "zero_pages", "zero_pages" },
    { "reference_pages", "reference_pages" },
    { "delta_pages", "delta_pages" },
    { "coding", "coding" },
  };
  json_t *view = json_object();
  double elapsed_ms = (double)nc_migration_record_elapsed_ms(record, now_us), mover_ms = nc_record_mover_ms(record, now_us, elapsed_ms);

  for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
    nc_view_copy(view, record, names[i].key, names[i].as);
  json_object_set_new(view, "transfer_rate_bytes", nc_record_rate_view(record));
  json_object_set_new(view, "average_wire_rate_bytes",
                      nc_view_quotient((double)nc_json_int_or(record, "wire_bytes", -1) * 1000, mover_ms));
  json_object_set_new(view, "network_latency_ms", nc_view_quotient(nc_json_int_or(record, "rtt_us", 0) > 0 ? nc_json_number_or(record, "rtt_us", -1) : -1, 1000));
  if (nc_json_int_or(record, "rounds", 0) < 2) /* what is dirtied is known from the second on */
    json_object_set_new(view, "dirty_rate_bytes", json_null());
  if (nc_json_int_or(record, "shaped_rate_bps", 0) > 0) /* where it gives way to others */
    nc_view_copy(view, record, "shaped_rate_bps", "rate_limit_bytes");
  json_object_set_new(view, "duration_seconds", nc_view_quotient(elapsed_ms, 1000));
  json_object_set_new(view, "cpu_usage_percent", nc_view_quotient((double)nc_json_int_or(record, "mover_cpu_ms", -1) * 100, mover_ms));
  json_object_set_new(view, "disk_iops", json_integer(nc_record_disk_sum(record, "iops")));
  json_object_set_new(view, "disk_rate_bytes", json_integer(nc_record_disk_sum(record, "rate_bps")));
  return view;
}

/* --- filters --- */

/* NULL: not given. */
static bool
nc_filter_text(json_t *args, const char *key, const char **ret, GError **error)
{
  json_t *value = json_object_get(args, key);

  *ret = json_string_value(value);
  return !value || *ret || nc_fail(error, NC_ERROR_INVALID, "\"%s\" must be a text", key);
}

bool
nc_migration_filter_read(json_t *args, NcMigrationFilter *ret, GError **error)
{
  const char *since;

  *ret = (NcMigrationFilter){ 0 };
  if (!nc_filter_text(args, "machine", &ret->vm, error) || !nc_filter_text(args, "node", &ret->node, error) ||
      !nc_filter_text(args, "state", &ret->state, error) || !nc_filter_text(args, "since", &since, error))
    return false;
  if (!since)
    return true;
  ret->since_us = nc_record_time(args, "since");
  return ret->since_us > 0 ||
         nc_fail(error, NC_ERROR_INVALID, "\"since\" must be a time like 2026-01-02T03:04:05Z, with its zone");
}

static bool
nc_filter_fits_state(const char *state, json_t *record)
{
  bool ended = nc_migration_record_has_ended(record);

  if (g_str_equal(state, "active") || g_str_equal(state, "ended"))
    return ended == g_str_equal(state, "ended");
  return g_str_equal(nc_json_string_or(record, "state", ""), state) || g_str_equal(nc_json_string_or(record, "phase", ""), state) ||
         g_str_equal(nc_json_string_or(record, "outcome", ""), state);
}

bool
nc_migration_filter_fits(const NcMigrationFilter *filter, json_t *record)
{
  if (filter->vm && !g_str_equal(nc_json_string_or(record, "vm", ""), filter->vm))
    return false;
  if (filter->node && !g_str_equal(nc_json_string_or(record, "source", ""), filter->node) &&
      !g_str_equal(nc_json_string_or(record, "destination", ""), filter->node))
    return false;
  if (filter->since_us > 0 && nc_record_time(record, "created") < filter->since_us)
    return false;
  return !filter->state || nc_filter_fits_state(filter->state, record);
}

/* --- the summary --- */

struct NcDashboard {
  json_t *by_state, *by_phase, *by_outcome, *running;
  GArray *pauses, *durations; /* double: milliseconds, of those that completed */
  int64_t count, wire_bytes, ram_bytes, rate, wire_rate, completed, failed;
};

NcDashboard *
nc_dashboard_new(void)
{
  NcDashboard *d = g_new0(NcDashboard, 1);
  d->by_state = json_object();
  d->by_phase = json_object();
  d->by_outcome = json_object();
  d->running = json_array();
  d->pauses = g_array_new(FALSE, FALSE, sizeof(double));
  d->durations = g_array_new(FALSE, FALSE, sizeof(double));
  return d;
}

void
nc_dashboard_free(NcDashboard *d)
{
  if (!d)
    return;
  json_decref(d->by_state);
  json_decref(d->by_phase);
  json_decref(d->by_outcome);
  json_decref(d->running);
  g_array_unref(d->pauses);
  g_array_unref(d->durations);
  g_free(d);
}

static void
nc_dashboard_count(json_t *counts, const char *name)
{
  json_object_set_new(counts, name, json_integer(nc_json_int_or(counts, name, 0) + 1));
}

static void
nc_dashboard_measure(GArray *values, json_t *value)
{
  double number = json_number_value(value);
  if (json_is_number(value) && number >= 0)
    g_array_append_val(values, number);
}

void
nc_dashboard_add(NcDashboard *d, json_t *record, int64_t now_us)
{
  const char *outcome = nc_json_string_or(record, "outcome", NULL);

  d->count++;
  nc_dashboard_count(d->by_state, nc_json_string_or(record, "state", "unknown"));
  nc_dashboard_count(d->by_phase, nc_json_string_or(record, "phase", "unknown"));
  d->wire_bytes += MAX(nc_json_int_or(record, "wire_bytes", 0), 0);
  d->ram_bytes += MAX(nc_json_int_or(record, "ram_bytes", 0), 0);
  if (!outcome) {
    d->rate += MAX(nc_migration_record_rate(record), 0);
    d->wire_rate += nc_json_int_or(record, "wire_rate_bps", 0);
    json_array_append_new(d->running, nc_migration_status_view(record, now_us));
    return;
  }
  nc_dashboard_count(d->by_outcome, outcome);
  d->failed += g_str_equal(outcome, "failed");
  if (!g_str_equal(outcome, "completed"))
    return;
  d->completed++;
  nc_dashboard_measure(d->pauses, json_object_get(record, "pause_ms"));
  nc_dashboard_measure(d->durations, json_object_get(record, "total_ms"));
}

static int
nc_dashboard_compare(gconstpointer a, gconstpointer b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* By the nearest rank; null: of nothing. ${values} must be sorted. */
static json_t *
nc_dashboard_quantile(const GArray *values, double part)
{
  guint rank = (guint)ceil(part * values->len);
  return values->len ? json_real(g_array_index(values, double, rank > 0 ? rank - 1 : 0)) : json_null();
}

static json_t *
nc_dashboard_spread(GArray *values)
{
  g_array_sort(values, nc_dashboard_compare);
  return json_pack("{s:i, s:o, s:o, s:o}", "count", (int)values->len, "median", nc_dashboard_quantile(values, 0.5), "p95",
                   nc_dashboard_quantile(values, 0.95), "max", nc_dashboard_quantile(values, 1));
}

json_t *
nc_dashboard_view(NcDashboard *d)
{
  int64_t judged = d->completed + d->failed; /* what was cancelled neither succeeded nor failed */

  return json_pack("{s:I, s:O, s:O, s:O, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:O}", "migrations", (json_int_t)d->count, "by_state",
                   d->by_state, "by_phase", d->by_phase, "by_outcome", d->by_outcome, "wire_bytes", (json_int_t)d->wire_bytes,
                   "ram_bytes", (json_int_t)d->ram_bytes, "transfer_rate", (json_int_t)d->rate, "wire_rate", (json_int_t)d->wire_rate,
                   "success_rate", nc_view_quotient((double)d->completed, (double)judged), "pause_ms", nc_dashboard_spread(d->pauses),
                   "total_ms", nc_dashboard_spread(d->durations), "running", d->running);
}

/* --- histories as messages --- */

static json_t *
nc_event_end_data(const char *outcome, json_t *record)
{
  static const char *const keys[] = { "progress", "pause_ms", "total_ms", "wire_bytes", "ram_bytes", "attempt", "error", NULL };
  json_t *data = json_pack("{s:s}", "outcome", outcome);

  /* Of another attempt than the one that ended (at a destination) the record tells nothing. */
  if (g_str_equal(nc_json_string_or(record, "outcome", ""), outcome))
    nc_view_copy_all(data, record, keys);
  return data;
}

static const char *
nc_event_type(const char *event)
{
  static const char *const warnings[] = { "warning", "error", "corrupt", NULL };

  if (g_str_equal(event, "needs_attention") || g_str_equal(event, "alert"))
    return "alert";
  return g_strv_contains(warnings, event) ? "warning" : "event";
}

bool
nc_migration_event_is_sighting(json_t *event)
{
  const char *name = nc_json_string_or(event, "event", "");
  /* The handoff's event has no detail, the note always has one: what was seen. */
  return g_str_equal(name, "seen-alive") || (g_str_equal(name, "alive") && nc_json_string_or(event, "detail", "")[0]);
}

const char *
nc_migration_event_phase(json_t *event)
{
  const char *name = nc_json_string_or(event, "event", "");

  if (nc_migration_event_is_sighting(event))
    return NULL;
  if (g_str_equal(name, "needs_attention"))
    return name;
  return g_str_equal(name, "phase") ? nc_json_string_or(event, "detail", NULL) : nc_handoff_phase_after(name);
}

/* Which alert it is: what agent/alerts.c wrote, "NAME STATE: SUMMARY", or that a human has to decide, which has a line of its own. */
static void
nc_event_alert_data(json_t *data, const char *event, const char *detail)
{
  g_auto(GStrv) head = g_strsplit(detail, ":", 2);
  g_auto(GStrv) words = g_strsplit(head[0] ? head[0] : "", " ", 3);
  bool is_rule = g_str_equal(event, "alert") && g_strv_length(words) == 2;
  const NcAlertRuleInfo *rule = is_rule ? nc_alert_rule_named(words[0]) : nc_alert_rule(NC_ALERT_NEEDS_ATTENTION);

  if (!rule)
    return;
  json_object_set_new(data, "alert", json_string(rule->name));
  json_object_set_new(data, "state", json_string(is_rule ? words[1] : "firing"));
  json_object_set_new(data, "severity", json_string(rule->is_critical ? "critical" : "warning"));
}

json_t *
nc_migration_event_view(json_t *event, json_t *record, const char *before)
{
  static const char *const outcomes[] = { "completed", "failed", "cancelled", NULL };
  const char *name = nc_json_string_or(event, "event", ""), *detail = nc_json_string_or(event, "detail", "");
  const char *phase = nc_migration_event_phase(event), *type = nc_event_type(name);
  json_t *data;

  if (g_strcmp0(phase, before) == 0 || g_str_equal(type, "alert"))
    phase = NULL;
  if (g_str_equal(name, "finished") && g_strv_contains(outcomes, detail)) {
    type = detail;
    data = nc_event_end_data(detail, record);
  } else if (phase) {
    type = "phase";
    data = json_pack("{s:s, s:s, s:s}", "phase", phase, "event", name, "detail", detail);
  } else {
    data = json_pack("{s:s, s:s}", "event", name, "detail", detail);
  }
  if (g_str_equal(type, "alert"))
    nc_event_alert_data(data, name, detail);
  return json_pack("{s:I, s:s, s:s, s:o}", "id", (json_int_t)nc_json_int_or(event, "id", 0), "type", type, "at",
                   nc_json_string_or(event, "at", ""), "data", data);
}
