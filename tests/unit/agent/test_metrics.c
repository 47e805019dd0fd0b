/* SPDX-License-Identifier: Apache-2.0 */
/* What is counted of records, and that it never goes back; what is shown of single ones. */
#include "agent/metrics.h"
#include "agent/metrics_view.h"
#include "base/ident.h"
#include "base/msg.h"

#include <string.h>

#define NOW INT64_C(1767323105678000) /* 2026-01-02T03:05:05.678Z */

#define RECORD \
  "{\"vm\":\"we\\\"b\",\"source\":\"a\",\"destination\":\"b\",\"phase\":\"memory_copy\",\"outcome\":null,\"delta_pages\":7,\"progress\":45,\"whole_zstd_bytes\":500," \
  "\"created\":\"2026-01-02T03:04:03.678Z\",\"started\":\"2026-01-02T03:04:05.678Z\",\"pause_ms\":80.0,\"total_ms\":70000,\"attempt_ms\":10000,\"attention\":null," \
  "\"forecasts\":[{\"converges\":false,\"at_ms\":1,\"eta_ms\":1},{\"converges\":true,\"at_ms\":2000,\"eta_ms\":4000}]," \
  "\"connections\":[{\"up\":true,\"segments\":100,\"retransmitted_segments\":1},{\"up\":false,\"segments\":100,\"retransmitted_segments\":3}]}"

static json_t *
record_of(const char *id, const char *role, int wire_bytes)
{
  json_t *record = json_loads(RECORD, 0, NULL);

  g_assert_nonnull(record);
  json_object_set_new(record, "id", json_string(id));
  json_object_set_new(record, "role", json_string(role));
  json_object_set_new(record, "wire_bytes", json_integer(wire_bytes));
  return record;
}

static char *
written(NcMetrics *metrics, json_t *running)
{
  g_autoptr(NcExposition) out = nc_exposition_new(NC_EXPOSITION_TEXT);
  nc_metrics_write(metrics, running, out);
  return g_strdup(nc_exposition_end(out));
}

static void
assert_line(const char *text, const char *line)
{
  g_autofree char *whole = g_strdup_printf("\n%s\n", line);
  if (!strstr(text, whole))
    g_test_message("no \"%s\" in %s", line, text);
  g_assert_nonnull(strstr(text, whole));
}

static void
test_an_end_is_counted(void)
{
  g_autoptr(NcMetrics) metrics = nc_metrics_new();
  nc_autojson json_t *record = record_of("m-1", "source", 1000), *there = record_of("m-1", "destination", 1000);

  nc_metrics_count_end(metrics, record, "completed", NOW);
  nc_metrics_count_end(metrics, there, "completed", NOW);
  nc_metrics_count_end(metrics, record, "failed", NOW);
  g_autofree char *text = written(metrics, NULL);
  assert_line(text, "novacron_migrations_total{role=\"source\",outcome=\"completed\"} 1");
  assert_line(text, "novacron_migrations_total{role=\"source\",outcome=\"failed\"} 1");
  assert_line(text, "novacron_migrations_total{role=\"source\",outcome=\"cancelled\"} 0");
  assert_line(text, "novacron_migrations_total{role=\"destination\",outcome=\"completed\"} 1");
  assert_line(text, "novacron_wire_bytes_total{role=\"source\"} 2000");
  assert_line(text, "novacron_pages_total{role=\"source\",coding=\"delta\"} 14");
  assert_line(text, "novacron_coded_bytes_total{role=\"source\",section=\"whole\",coding=\"zstd\"} 1000");
  assert_line(text, "novacron_coded_bytes_total{role=\"source\",section=\"operations\",coding=\"zstd\"} 0");
  assert_line(text, "novacron_tcp_retransmitted_segments_total{role=\"destination\"} 4");
  assert_line(text, "novacron_migration_pause_seconds_bucket{le=\"0.05\"} 0"); /* once, though two nodes know of it */
  assert_line(text, "novacron_migration_pause_seconds_bucket{le=\"0.1\"} 1");
  assert_line(text, "novacron_migration_pause_seconds_count 1");
  assert_line(text, "novacron_migration_total_seconds_sum 70"); /* with what was tried before */
  assert_line(text, "novacron_migration_queue_seconds_count 0");
  assert_line(text, "novacron_forecast_error_ratio_sum 0.5"); /* 4 s were foreseen of 8 */
}

/* at_ms of a forecast counts from when memory began to flow, attempt_ms from the attempt's start: 4 s were foreseen of 5. */
static void
test_what_was_before_memory_is_no_error_of_a_forecast(void)
{
  g_autoptr(NcMetrics) metrics = nc_metrics_new();
  nc_autojson json_t *record = record_of("m-1", "source", 1000);

  json_object_set_new(record, "memory_began_ms", json_integer(3000));
  nc_metrics_count_end(metrics, record, "completed", NOW);
  g_autofree char *text = written(metrics, NULL);
  assert_line(text, "novacron_forecast_error_ratio_sum 0.2");
}

static void
test_queue(void)
{
  g_autoptr(NcMetrics) metrics = nc_metrics_new();

  g_autofree char *none = written(metrics, NULL);
  g_assert_null(strstr(none, "novacron_queue"));
  nc_metrics_set_queue(metrics, 3, 2, 1.5);
  nc_metrics_count_wait(metrics, 4);
  g_autofree char *text = written(metrics, NULL);
  assert_line(text, "novacron_queue_migrations{state=\"queued\"} 3");
  assert_line(text, "novacron_queue_migrations{state=\"running\"} 2");
  assert_line(text, "novacron_queue_oldest_wait_seconds 1.5");
  assert_line(text, "novacron_migration_queue_seconds_sum 4");
  nc_metrics_forget_queue(metrics);
  g_autofree char *gone = written(metrics, NULL);
  g_assert_null(strstr(gone, "novacron_queue"));
}

/* While it runs, from one attempt to the next, and at its end. */
static void
test_counters_do_not_go_back(void)
{
  g_autoptr(NcMetrics) metrics = nc_metrics_new();
  nc_autojson json_t *running = json_array(), *record = record_of("m-1", "source", 1000);
  uint64_t serial = nc_metrics_serial(metrics);

  json_array_append(running, record);
  g_autofree char *first = written(metrics, running);
  assert_line(first, "novacron_wire_bytes_total{role=\"source\"} 1000");
  nc_metrics_count_attempt(metrics, record);
  g_assert_cmpuint(nc_metrics_serial(metrics), !=, serial);
  g_autofree char *second = written(metrics, running);
  assert_line(second, "novacron_wire_bytes_total{role=\"source\"} 1000");
  assert_line(second, "novacron_tcp_segments_total{role=\"source\"} 200");
  json_object_set_new(record, "wire_bytes", json_integer(500));
  nc_metrics_count_end(metrics, record, "completed", NOW);
  g_autofree char *third = written(metrics, running); /* read before it said that it has ended */
  assert_line(third, "novacron_wire_bytes_total{role=\"source\"} 1500");
}

/* At a destination an attempt that failed is not the one that runs now, whose record has the same name. */
static void
test_another_attempt_is_counted_while_it_runs(void)
{
  g_autoptr(NcMetrics) metrics = nc_metrics_new();
  nc_autojson json_t *first = record_of("m-1", "destination", 1000), *second = record_of("m-1", "destination", 500), *running = json_array();

  json_object_set_new(first, "epoch", json_integer(6));
  json_object_set_new(second, "epoch", json_integer(7));
  nc_metrics_count_end(metrics, first, "failed", NOW);
  json_array_append(running, first); /* read before it said that it has ended */
  json_array_append(running, second);
  g_autofree char *text = written(metrics, running);
  assert_line(text, "novacron_wire_bytes_total{role=\"destination\"} 1500");
  json_array_remove(running, 0);
  nc_metrics_count_end(metrics, second, "completed", NOW);
  g_autofree char *later = written(metrics, running);
  assert_line(later, "novacron_wire_bytes_total{role=\"destination\"} 1500");
}

static void
test_recent_ones_are_few_and_of_late(void)
{
  g_autoptr(NcMetrics) metrics = nc_metrics_new();

  for (int i = 0; i < 1000; i++) {
    g_autofree char *id = g_strdup_printf("m-%d", i);
    nc_autojson json_t *record = record_of(id, "source", 1);
    nc_metrics_count_end(metrics, record, "failed", NOW);
  }
  nc_autojson json_t *recent = nc_metrics_recent(metrics, NULL, NOW + 1), *none = nc_metrics_recent(metrics, NULL, NOW + INT64_C(3600000000));
  g_assert_cmpint(json_array_size(recent), ==, 32);
  g_assert_cmpstr(nc_json_string_or(json_array_get(recent, 0), "id", ""), ==, "m-999");
  g_assert_cmpint(json_array_size(none), ==, 0);
}

/* At a destination each attempt has a record of its own, and all of them one name. */
static void
test_one_of_a_name_is_shown(void)
{
  g_autoptr(NcMetrics) metrics = nc_metrics_new();
  nc_autojson json_t *here = record_of("m-1", "source", 1), *there = record_of("m-1", "destination", 1), *running = json_array();

  nc_metrics_count_end(metrics, there, "failed", NOW);
  nc_metrics_count_end(metrics, here, "failed", NOW);
  nc_metrics_count_end(metrics, there, "failed", NOW);
  nc_autojson json_t *both = nc_metrics_recent(metrics, NULL, NOW);
  json_array_append(running, there);
  nc_autojson json_t *one = nc_metrics_recent(metrics, running, NOW);
  g_assert_cmpint(json_array_size(both), ==, 2);
  g_assert_cmpint(json_array_size(one), ==, 1);
  g_assert_cmpstr(nc_json_string_or(json_array_get(one, 0), "role", ""), ==, "source");
}

#define ONE "{migration=\"m-1\",vm=\"we\\\"b\",source=\"a\",destination=\"b\",role=\"source\"}"

static void
test_single_ones(void)
{
  g_autoptr(NcExposition) out = nc_exposition_new(NC_EXPOSITION_TEXT);
  nc_autojson json_t *records = json_array();

  json_array_append_new(records, record_of("m-1", "source", 1000));
  nc_metrics_view_migrations(out, records, NOW);
  const char *text = nc_exposition_end(out);
  assert_line(text, "novacron_migration_progress" ONE " 45");
  assert_line(text, "novacron_migration_packet_loss_ratio" ONE " 0.02");
  assert_line(text, "novacron_migration_connections" ONE " 1");
  assert_line(text, "novacron_migration_downtime_milliseconds" ONE " 80");
  assert_line(text, "novacron_migration_attention" ONE " 0");
  g_assert_null(strstr(text, "\nnovacron_migration_disk_iops{")); /* no disk goes with it */
  g_assert_null(strstr(text, "\nnovacron_migration_network_latency_ms{"));
  g_assert_null(strstr(text, "\nnovacron_migration_target_rate_bytes{")); /* nobody has said one */
  g_assert_nonnull(strstr(text, "role=\"source\",phase=\"memory_copy\"} 1\n"));
}

static void
test_target_rate(void)
{
  static const int targets[] = { 0, 5000000 };

  for (size_t i = 0; i < G_N_ELEMENTS(targets); i++) {
    g_autoptr(NcExposition) out = nc_exposition_new(NC_EXPOSITION_TEXT);
    nc_autojson json_t *records = json_array();
    json_array_append_new(records, record_of("m-1", "source", 1000));
    json_object_set_new(json_array_get(records, 0), "target_rate_bps", json_integer(targets[i]));
    nc_metrics_view_migrations(out, records, NOW);
    const char *text = nc_exposition_end(out);
    if (targets[i] > 0)
      assert_line(text, "novacron_migration_target_rate_bytes" ONE " 5000000");
    else
      g_assert_null(strstr(text, "\nnovacron_migration_target_rate_bytes{"));
  }
}

static void
test_what_has_ended_has_no_rate(void)
{
  g_autoptr(NcExposition) out = nc_exposition_new(NC_EXPOSITION_TEXT);
  nc_autojson json_t *records = json_array();

  json_array_append_new(records, record_of("m-1", "source", 1000));
  json_object_set_new(json_array_get(records, 0), "outcome", json_string("completed"));
  nc_metrics_view_migrations(out, records, NOW);
  g_assert_null(strstr(nc_exposition_end(out), "\nnovacron_migration_transfer_rate_bytes{"));
  assert_line(nc_exposition_end(out), "novacron_migration_wire_bytes" ONE " 1000");
}

static void
test_load(void)
{
  g_autoptr(NcExposition) out = nc_exposition_new(NC_EXPOSITION_TEXT);
  nc_autojson json_t *records = json_array();

  for (int i = 0; i < 3; i++)
    json_array_append_new(records, record_of("m-1", i < 2 ? "source" : "destination", 1));
  json_object_set_new(json_array_get(records, 0), "phase", json_string("queued"));
  json_object_set_new(json_array_get(records, 2), "attention", json_string("look"));
  nc_metrics_view_load(out, records);
  const char *text = nc_exposition_end(out);
  assert_line(text, "novacron_migrations_under_way{role=\"source\",state=\"queued\"} 1");
  assert_line(text, "novacron_migrations_under_way{role=\"source\",state=\"running\"} 1");
  assert_line(text, "novacron_migrations_under_way{role=\"destination\",state=\"running\"} 0");
  assert_line(text, "novacron_migrations_under_way{role=\"destination\",state=\"needs_attention\"} 1");
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/agent/metrics/end", test_an_end_is_counted);
  g_test_add_func("/agent/metrics/before_memory", test_what_was_before_memory_is_no_error_of_a_forecast);
  g_test_add_func("/agent/metrics/queue", test_queue);
  g_test_add_func("/agent/metrics/never_back", test_counters_do_not_go_back);
  g_test_add_func("/agent/metrics/another_attempt", test_another_attempt_is_counted_while_it_runs);
  g_test_add_func("/agent/metrics/recent", test_recent_ones_are_few_and_of_late);
  g_test_add_func("/agent/metrics/one_of_a_name", test_one_of_a_name_is_shown);
  g_test_add_func("/agent/metrics/single", test_single_ones);
  g_test_add_func("/agent/metrics/target_rate", test_target_rate);
  g_test_add_func("/agent/metrics/ended", test_what_has_ended_has_no_rate);
  g_test_add_func("/agent/metrics/load", test_load);
  return g_test_run();
}
