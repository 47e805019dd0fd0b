/* SPDX-License-Identifier: Apache-2.0 */
/* What is shown of records: whole ones, strange ones, and none. */
#include "agent/migration_views.h"
#include "base/ident.h"
#include "base/msg.h"

#define NOW INT64_C(1767323105678000) /* 2026-01-02T03:05:05.678Z */

static json_t *
record_of(const char *json)
{
  json_error_t problem;
  json_t *record = json_loads(json, 0, &problem);
  g_assert_nonnull(record);
  return record;
}

#define RUNNING \
  "{\"id\":\"m-1\",\"vm\":\"web1\",\"source\":\"a\",\"destination\":\"b\",\"state\":\"copying\",\"phase\":\"memory_copy\",\"outcome\":null," \
  "\"progress\":45,\"created\":\"2026-01-02T03:04:05.678Z\",\"started\":\"2026-01-02T03:04:05.678Z\",\"rate_bps\":350000000," \
  "\"eta_ms\":150000,\"wire_bytes\":6000000,\"ram_bytes\":100,\"mover_cpu_ms\":30000,\"rtt_us\":20500,\"wire_rate_bps\":7,\"total_ms\":null," \
  "\"disks\":[{\"rate_bps\":5,\"iops\":1.5},{\"rate_bps\":6,\"iops\":0.7}]}"

static void
test_duration(void)
{
  static const struct {
    int64_t ms;
    const char *text;
  } cases[] = { { -5, "0ms" }, { 0, "0ms" }, { 999, "999ms" }, { 1000, "1s" }, { 59999, "59s" }, { 150000, "2m30s" }, { 3605000, "1h0m5s" },
                { INT64_MAX, "2562047788015h12m55s" } };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *text = nc_duration_text(cases[i].ms);
    g_assert_cmpstr(text, ==, cases[i].text);
  }
}

static void
test_status(void)
{
  nc_autojson json_t *record = record_of(RUNNING), *view = nc_migration_status_view(record, NOW);

  g_assert_cmpstr(nc_json_string_or(view, "eta", ""), ==, "2m30s");
  g_assert_cmpint(nc_json_int_or(view, "transfer_rate", 0), ==, 350000000);
  g_assert_cmpint(nc_json_int_or(view, "elapsed_ms", 0), ==, 60000);
  g_assert_true(json_is_null(json_object_get(view, "outcome")));
  json_object_set_new(record, "phase", json_string("disk_copy"));
  nc_autojson json_t *disks = nc_migration_status_view(record, NOW);
  g_assert_cmpint(nc_json_int_or(disks, "transfer_rate", 0), ==, 11);
  json_object_set_new(record, "outcome", json_string("completed"));
  json_object_set_new(record, "finished", json_string("2026-01-02T03:04:06.678Z"));
  nc_autojson json_t *over = nc_migration_status_view(record, NOW);
  g_assert_cmpint(nc_json_int_or(over, "transfer_rate", 1), ==, 0);
  g_assert_cmpint(nc_json_int_or(over, "elapsed_ms", 0), ==, 1000);
  g_assert_true(json_is_null(json_object_get(over, "eta")));
}

/* Its record has no rate, nor disks: nobody there knows what QEMU sends, and that is not 0. */
static void
test_rate_at_the_destination(void)
{
  static const char *const phases[] = { "memory_copy", "disk_copy", "postcopy" };
  nc_autojson json_t *record = record_of(RUNNING);

  json_object_set_new(record, "role", json_string("destination"));
  json_object_del(record, "rate_bps");
  json_object_del(record, "disks");
  for (size_t i = 0; i < G_N_ELEMENTS(phases); i++) {
    g_autoptr(NcDashboard) dashboard = nc_dashboard_new();
    json_object_set_new(record, "phase", json_string(phases[i]));
    nc_autojson json_t *status = nc_migration_status_view(record, NOW), *metrics = nc_migration_metrics_view(record, NOW);
    g_assert_true(json_is_null(json_object_get(status, "transfer_rate")));
    g_assert_true(json_is_null(json_object_get(metrics, "transfer_rate_bytes")));
    nc_dashboard_add(dashboard, record, NOW);
    nc_autojson json_t *all = nc_dashboard_view(dashboard);
    g_assert_cmpint(nc_json_int_or(all, "transfer_rate", -1), ==, 0);
  }
  json_object_set_new(record, "outcome", json_string("completed"));
  nc_autojson json_t *over = nc_migration_status_view(record, NOW);
  g_assert_cmpint(nc_json_int_or(over, "transfer_rate", -1), ==, 0);
}

static void
test_metrics(void)
{
  nc_autojson json_t *record = record_of(RUNNING), *view = nc_migration_metrics_view(record, NOW);

  g_assert_cmpfloat(json_number_value(json_object_get(view, "cpu_usage_percent")), ==, 50);
  g_assert_cmpfloat(json_number_value(json_object_get(view, "network_latency_ms")), ==, 20.5);
  g_assert_cmpfloat(json_number_value(json_object_get(view, "average_wire_rate_bytes")), ==, 100000);
  g_assert_cmpfloat(json_number_value(json_object_get(view, "duration_seconds")), ==, 60);
  g_assert_cmpint(nc_json_int_or(view, "disk_iops", 0), ==, 2);
  g_assert_true(json_is_null(json_object_get(view, "compression_ratio")));
}

/* Its second attempt took 20 s, from the request it was 60. */
static void
test_metrics_after_a_retry(void)
{
  nc_autojson json_t *record = record_of(RUNNING);

  json_object_set_new(record, "mover_started_us", json_integer(NOW - INT64_C(20000000)));
  nc_autojson json_t *running = nc_migration_metrics_view(record, NOW);
  g_assert_cmpfloat(json_number_value(json_object_get(running, "cpu_usage_percent")), ==, 150);
  g_assert_cmpfloat(json_number_value(json_object_get(running, "average_wire_rate_bytes")), ==, 300000);
  json_object_set_new(record, "outcome", json_string("completed"));
  json_object_set_new(record, "finished", json_string("2026-01-02T03:05:05.678Z"));
  json_object_set_new(record, "total_ms", json_integer(20000));
  nc_autojson json_t *over = nc_migration_metrics_view(record, NOW + INT64_C(3600000000));
  g_assert_cmpfloat(json_number_value(json_object_get(over, "duration_seconds")), ==, 60);
  g_assert_cmpfloat(json_number_value(json_object_get(over, "cpu_usage_percent")), ==, 150);
}

/* Records of an older novacrond, or after a damage: whatever they hold, they are only shown. */
static void
test_strange_records(void)
{
  static const char *const records[] = { "{}", "{\"state\":7,\"phase\":null,\"disks\":{},\"created\":\"x\",\"outcome\":[],\"total_ms\":\"1\"}",
                                         "{\"disks\":[1,null,{\"rate_bps\":\"x\"}],\"wire_bytes\":-5,\"started\":\"9999-99-99T00:00:00Z\"}",
                                         "{\"outcome\":\"completed\",\"pause_ms\":\"x\",\"total_ms\":-4}" };
  g_autoptr(NcDashboard) dashboard = nc_dashboard_new();
  const NcMigrationFilter filter = { .vm = "web1", .node = "a", .state = "active", .since_us = 1 };

  for (size_t i = 0; i < G_N_ELEMENTS(records); i++) {
    nc_autojson json_t *record = record_of(records[i]);
    nc_autojson json_t *status = nc_migration_status_view(record, NOW), *metrics = nc_migration_metrics_view(record, NOW);
    nc_autojson json_t *event = nc_migration_event_view(record, record, NULL);
    g_assert_true(status && metrics && event);
    g_assert_false(nc_migration_filter_fits(&filter, record));
    nc_dashboard_add(dashboard, record, NOW);
  }
  nc_autojson json_t *view = nc_dashboard_view(dashboard);
  g_assert_cmpint(nc_json_int_or(view, "migrations", 0), ==, G_N_ELEMENTS(records));
  g_assert_cmpint(nc_json_int_or(view, "wire_bytes", -1), ==, 0);
  g_assert_cmpint(nc_json_int_or(json_object_get(view, "pause_ms"), "count", -1), ==, 0);
}

static void
test_dashboard(void)
{
  g_autoptr(NcDashboard) dashboard = nc_dashboard_new();
  nc_autojson json_t *empty = nc_dashboard_view(dashboard);
  nc_autojson json_t *running = record_of(RUNNING);

  g_assert_true(json_is_null(json_object_get(empty, "success_rate")));
  g_assert_true(json_is_null(json_object_get(json_object_get(empty, "pause_ms"), "max")));
  for (int i = 1; i <= 100; i++) {
    const char *outcome = i > 95 ? "failed" : i > 90 ? "cancelled" : "completed";
    nc_autojson json_t *record = json_pack("{s:s, s:s, s:s, s:f, s:i, s:i}", "state", "done", "phase", outcome, "outcome", outcome, "pause_ms",
                                           (double)(91 - i), "wire_bytes", 10, "ram_bytes", 20);
    nc_dashboard_add(dashboard, record, NOW);
  }
  nc_dashboard_add(dashboard, running, NOW);
  nc_autojson json_t *view = nc_dashboard_view(dashboard);
  json_t *pauses = json_object_get(view, "pause_ms");
  g_assert_cmpint(nc_json_int_or(pauses, "count", 0), ==, 90);
  g_assert_cmpfloat(json_number_value(json_object_get(pauses, "median")), ==, 45);
  g_assert_cmpfloat(json_number_value(json_object_get(pauses, "p95")), ==, 86);
  g_assert_cmpfloat(json_number_value(json_object_get(pauses, "max")), ==, 90);
  g_assert_cmpfloat_with_epsilon(json_number_value(json_object_get(view, "success_rate")), 90.0 / 95, 1e-9);
  g_assert_cmpint(nc_json_int_or(json_object_get(view, "by_outcome"), "cancelled", 0), ==, 5);
  g_assert_cmpint(nc_json_int_or(json_object_get(view, "by_phase"), "memory_copy", 0), ==, 1);
  g_assert_cmpint(nc_json_int_or(view, "transfer_rate", 0), ==, 350000000);
  g_assert_cmpint(nc_json_int_or(view, "wire_bytes", 0), ==, 6001000);
  g_assert_cmpuint(json_array_size(json_object_get(view, "running")), ==, 1);
}

static void
test_filter(void)
{
  static const struct {
    const char *args;
    bool ok, fits;
  } cases[] = {
    { "{}", true, true },
    { "{\"machine\":\"web1\",\"node\":\"b\",\"state\":\"active\"}", true, true },
    { "{\"node\":\"a\"}", true, true },
    { "{\"node\":\"c\"}", true, false },
    { "{\"machine\":\"web\"}", true, false },
    { "{\"state\":\"memory_copy\"}", true, true },
    { "{\"state\":\"copying\"}", true, true },
    { "{\"state\":\"ended\"}", true, false },
    { "{\"state\":\"completed\"}", true, false },
    { "{\"since\":\"2026-01-02T03:04:05.678Z\"}", true, true },
    { "{\"since\":\"2026-01-02T03:04:05.679Z\"}", true, false },
    { "{\"since\":\"2026-13-02T03:04:05Z\"}", false, false },
    { "{\"machine\":7}", false, false },
  };
  nc_autojson json_t *record = record_of(RUNNING);

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    nc_autojson json_t *args = record_of(cases[i].args);
    g_autoptr(GError) error = NULL;
    NcMigrationFilter filter;
    g_test_message("%s", cases[i].args);
    g_assert_true(nc_migration_filter_read(args, &filter, &error) == cases[i].ok);
    g_assert_true((error == NULL) == cases[i].ok);
    if (cases[i].ok)
      g_assert_true(nc_migration_filter_fits(&filter, record) == cases[i].fits);
  }
}

static void
check_event_after(const char *before, const char *name, const char *detail, const char *type, const char *phase)
{
  nc_autojson json_t *record = record_of("{\"outcome\":\"completed\",\"pause_ms\":12.5,\"error\":null}");
  nc_autojson json_t *event = json_pack("{s:i, s:s, s:s, s:s}", "id", 17, "at", "2026-01-02T03:04:05.678Z", "event", name, "detail", detail);
  nc_autojson json_t *view = nc_migration_event_view(event, record, before);
  json_t *data = json_object_get(view, "data");

  g_test_message("%s", name);
  g_assert_cmpint(nc_json_int_or(view, "id", 0), ==, 17);
  g_assert_cmpstr(nc_json_string_or(view, "type", ""), ==, type);
  g_assert_cmpstr(nc_json_string_or(data, "phase", NULL), ==, phase);
  g_assert_true((json_object_get(data, "pause_ms") != NULL) == g_str_equal(type, "completed"));
}

static void
check_event(const char *name, const char *detail, const char *type, const char *phase)
{
  check_event_after(NULL, name, detail, type, phase);
}

static void
test_events(void)
{
  check_event("guest-stopped", "", "phase", "switchover");
  check_event("phase", "disk_copy", "phase", "disk_copy");
  check_event("abort", "cancelled", "phase", "rollback");
  check_event("undone-retry", "", "phase", "queued");
  check_event("warning", "a hook failed", "warning", NULL);
  check_event("error", "no route", "warning", NULL);
  check_event("needs_attention", "who has it?", "alert", NULL);
  check_event("throttle", "40 %", "event", NULL);
  check_event("finished", "completed", "completed", NULL);
  check_event("finished", "failed", "failed", NULL); /* an earlier attempt: the record tells of another end */
  check_event("finished", "somehow", "event", NULL);
}

static json_t *
line(const char *name, const char *detail)
{
  return json_pack("{s:i, s:s, s:s, s:s}", "id", 17, "at", "2026-01-02T03:04:05.678Z", "event", name, "detail", detail);
}

static void
check_alert(const char *event, const char *detail, const char *alert, const char *state, const char *severity)
{
  nc_autojson json_t *row = line(event, detail), *view = nc_migration_event_view(row, row, NULL);
  json_t *data = json_object_get(view, "data");

  g_assert_cmpstr(nc_json_string_or(view, "type", ""), ==, "alert");
  g_assert_cmpstr(nc_json_string_or(data, "detail", ""), ==, detail);
  g_assert_cmpstr(nc_json_string_or(data, "alert", NULL), ==, alert);
  g_assert_cmpstr(nc_json_string_or(data, "state", NULL), ==, state);
  g_assert_cmpstr(nc_json_string_or(data, "severity", NULL), ==, severity);
}

static void
test_alerts(void)
{
  check_alert("alert", "NovacronHighLatency firing: web1: round trip of 240 ms to b", "NovacronHighLatency", "firing", "warning");
  check_alert("alert", "NovacronStuck resolved: web1: nothing", "NovacronStuck", "resolved", "critical");
  check_alert("alert", "NovacronOfTomorrow firing: x", NULL, NULL, NULL);
  check_alert("needs_attention", "who has it? b: who else", "NovacronNeedsAttention", "firing", "critical");
}

/* Several states of the handoff are one phase to users. */
static void
test_a_phase_is_told_when_it_changes(void)
{
  check_event_after("memory_copy", "grant", "ab", "phase", "handoff");
  check_event_after("handoff", "loaded", "", "event", NULL);
  check_event_after("handoff", "cont", "", "phase", "verify");
  check_event_after("disk_copy", "phase", "disk_copy", "event", NULL);
  check_event_after("disk_copy", "phase", "memory_copy", "phase", "memory_copy");
  check_event_after("handoff", "needs_attention", "who has it?", "alert", NULL);
  check_event_after("needs_attention", "needs_attention", "still?", "alert", NULL);
  check_event_after("needs_attention", "operator-run-here", "", "phase", "rollback");
  check_event_after("handoff", "refused", "its disk is missing", "phase", "rollback");
  check_event_after("rollback", "resumed", "", "phase", "failed");
  check_event_after("needs_attention", "grant", "", "phase", "handoff"); /* it was somewhere else meanwhile */
  check_event_after("completed", "finished", "completed", "completed", NULL);
}

/* The note had the name of the handoff's event once, which ends the migration. */
static void
test_sightings(void)
{
  static const struct {
    const char *name, *detail, *phase;
    bool sighting;
  } cases[] = {
    { "seen-alive", "b: it answers", NULL, true }, { "alive", "b: it answers", NULL, true }, { "alive", "", "completed", false },
    { "not-alive", "b: it is gone", NULL, false }, { "started", "", "verify", false },
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    nc_autojson json_t *event = line(cases[i].name, cases[i].detail);
    g_test_message("%s: %s", cases[i].name, cases[i].detail);
    g_assert_true(nc_migration_event_is_sighting(event) == cases[i].sighting);
    g_assert_cmpstr(nc_migration_event_phase(event), ==, cases[i].phase);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/migration-views/duration", test_duration);
  g_test_add_func("/migration-views/status", test_status);
  g_test_add_func("/migration-views/rate-at-the-destination", test_rate_at_the_destination);
  g_test_add_func("/migration-views/metrics", test_metrics);
  g_test_add_func("/migration-views/metrics-after-a-retry", test_metrics_after_a_retry);
  g_test_add_func("/migration-views/strange-records", test_strange_records);
  g_test_add_func("/migration-views/dashboard", test_dashboard);
  g_test_add_func("/migration-views/filter", test_filter);
  g_test_add_func("/migration-views/events", test_events);
  g_test_add_func("/migration-views/alerts", test_alerts);
  g_test_add_func("/migration-views/a-phase-is-told-when-it-changes", test_a_phase_is_told_when_it_changes);
  g_test_add_func("/migration-views/sightings", test_sightings);
  return g_test_run();
}
