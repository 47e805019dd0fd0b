/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/metrics.h"
#include "base/ident.h"
#include "base/msg.h"

#include <math.h>
#include <string.h>

#define NC_METRICS_RECENT 32                         /* bounds the labels that one node shows */
#define NC_METRICS_RECENT_US (INT64_C(300) * 1000000) /* some scrapes long, so that the last values are seen */

enum { NC_ROLE_OF_SOURCE, NC_ROLE_OF_DESTINATION, NC_METRICS_ROLES };

/* What movers count, summed over migrations; each a family, or one value of a family's label. */
static const struct {
  const char *key, *family, *unit, *coding, *section, *help;
} nc_metrics_sums[] = {
  { "wire_bytes", "novacron_wire_bytes", "bytes", NULL, NULL, "Bytes that movers sent and received (TLS payload)." },
  { "stream_bytes", "novacron_stream_bytes", "bytes", NULL, NULL, "Bytes of QEMU's migration streams that movers carried." },
  { "zero_pages", "novacron_pages", NULL, "zero", NULL, "Pages of guests' memory, by how they went." },
  { "fill_pages", "novacron_pages", NULL, "fill", NULL, NULL },
  { "reference_pages", "novacron_pages", NULL, "reference", NULL, NULL },
  { "delta_pages", "novacron_pages", NULL, "delta", NULL, NULL },
  { "block_pages", "novacron_pages", NULL, "block", NULL, NULL },
  { "stored_pages", "novacron_pages", NULL, "stored", NULL, NULL },
  { "whole_none_bytes", "novacron_coded_bytes", "bytes", "none", "whole", "Bytes of batches that movers sent, each once, by section and by what has coded it." },
  { "whole_lz4_bytes", "novacron_coded_bytes", "bytes", "lz4", "whole", NULL },
  { "whole_zstd_bytes", "novacron_coded_bytes", "bytes", "zstd", "whole", NULL },
  { "operations_none_bytes", "novacron_coded_bytes", "bytes", "none", "operations", NULL },
  { "operations_lz4_bytes", "novacron_coded_bytes", "bytes", "lz4", "operations", NULL },
  { "operations_zstd_bytes", "novacron_coded_bytes", "bytes", "zstd", "operations", NULL },
  { "page_bytes_in", "novacron_coded_in_bytes", "bytes", NULL, NULL, "Bytes of pages before they were coded." },
  { "page_bytes_out", "novacron_coded_out_bytes", "bytes", NULL, NULL, "Bytes of pages after they were coded." },
  { "resent_bytes", "novacron_resent_bytes", "bytes", NULL, NULL, "Bytes that were sent again since a connection was lost." },
  { "reconnects", "novacron_reconnects", NULL, NULL, NULL, "Connections of movers that took the place of lost ones." },
};

/* The same of the kernel's numbers for each of a mover's connections. */
static const struct {
  const char *key, *family, *help;
} nc_metrics_tcp[] = {
  { "segments", "novacron_tcp_segments", "TCP segments that movers' connections sent." },
  { "retransmitted_segments", "novacron_tcp_retransmitted_segments", "TCP segments that were sent again." },
};

typedef struct {
  double sums[G_N_ELEMENTS(nc_metrics_sums)], tcp[G_N_ELEMENTS(nc_metrics_tcp)];
} NcMetricsSums;

static const double nc_pause_bounds[] = { 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30 };
static const double nc_total_bounds[] = { 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400 };
static const double nc_wait_bounds[] = { 0.1, 1, 5, 15, 60, 300, 900, 3600, 14400 };
static const double nc_error_bounds[] = { 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5 };

enum { NC_PAUSES, NC_TOTALS, NC_WAITS, NC_ERRORS, NC_METRICS_HISTOGRAMS };
static const struct {
  const char *family, *unit, *help;
  const double *bounds;
  size_t n_bounds;
} nc_metrics_histograms[] = {
  [NC_PAUSES] = { "novacron_migration_pause_seconds", "seconds", "How long the guests of completed migrations stood still.", nc_pause_bounds,
                  G_N_ELEMENTS(nc_pause_bounds) },
  [NC_TOTALS] = { "novacron_migration_total_seconds", "seconds", "From start to end of completed migrations, over all their attempts.", nc_total_bounds,
                  G_N_ELEMENTS(nc_total_bounds) },
  [NC_WAITS] = { "novacron_migration_queue_seconds", "seconds", "From the request to the start of migrations that this controller's queue has started.", nc_wait_bounds,
                 G_N_ELEMENTS(nc_wait_bounds) },
  [NC_ERRORS] = { "novacron_forecast_error_ratio", "ratio",
                  "By how much the first forecast that a completed migration would converge was off: |forecast - actual| / actual.",
                  nc_error_bounds, G_N_ELEMENTS(nc_error_bounds) },
};

static const char *const nc_metrics_role_names[] = { "source", "destination" };
static const char *const nc_metrics_outcomes[] = { "completed", "failed", "cancelled" };

struct NcMetrics {
  GMutex lock; /* protects all below */
  uint64_t serial;
  uint64_t ended[NC_METRICS_ROLES][G_N_ELEMENTS(nc_metrics_outcomes)];
  NcMetricsSums sums[NC_METRICS_ROLES];
  NcHistogram histograms[NC_METRICS_HISTOGRAMS];
  GQueue recent; /* NcRecent, the newest first */
  bool has_queue;
  unsigned queued, running; /* at the controller */
  double oldest_seconds;
};

typedef struct {
  json_t *record;
  int64_t at_us;
} NcRecent;

static void
nc_recent_free(gpointer data)
{
  NcRecent *recent = data;
  json_decref(recent->record);
  g_free(recent);
}

NcMetrics *
nc_metrics_new(void)
{
  NcMetrics *metrics = g_new0(NcMetrics, 1);

  g_mutex_init(&metrics->lock);
  for (size_t i = 0; i < NC_METRICS_HISTOGRAMS; i++) {
    metrics->histograms[i].bounds = nc_metrics_histograms[i].bounds;
    metrics->histograms[i].n_bounds = nc_metrics_histograms[i].n_bounds;
  }
  g_queue_init(&metrics->recent);
  return metrics;
}

void
nc_metrics_free(NcMetrics *metrics)
{
  if (!metrics)
    return;
  g_queue_clear_full(&metrics->recent, nc_recent_free);
  g_mutex_clear(&metrics->lock);
  g_free(metrics);
}

/* --- numbers out of records --- */

static int
nc_metrics_role(json_t *record)
{
  return g_str_equal(nc_json_string_or(record, "role", "source"), "source") ? NC_ROLE_OF_SOURCE : NC_ROLE_OF_DESTINATION;
}

static void
nc_metrics_add(NcMetricsSums *sums, json_t *record)
{
  json_t *connections = json_object_get(record, "connections"), *connection;
  size_t at;

  for (size_t i = 0; i < G_N_ELEMENTS(nc_metrics_sums); i++)
    sums->sums[i] += fmax(nc_json_number_or(record, nc_metrics_sums[i].key, NAN), 0); /* fmax: of NAN and 0 it is 0 */
  json_array_foreach(connections, at, connection) for (size_t i = 0; i < G_N_ELEMENTS(nc_metrics_tcp); i++) sums->tcp[i] +=
      fmax(nc_json_number_or(connection, nc_metrics_tcp[i].key, NAN), 0);
}
/* Of the first forecast that said when: how far off it was. at_ms of it counts from when memory began to flow in its attempt. */
static double
nc_metrics_forecast_error(json_t *record)
{
  double attempt_ms = nc_json_number_or(record, "attempt_ms", NAN);
  json_t *forecast;
  size_t i;

  json_array_foreach(json_object_get(record, "forecasts"), i, forecast)
  {
    double left_ms = attempt_ms - nc_json_number_or(record, "memory_began_ms", 0) - nc_json_number_or(forecast, "at_ms", NAN);
    if (nc_json_bool_or(forecast, "converges", false))
      return left_ms > 0 ? fabs(nc_json_number_or(forecast, "eta_ms", NAN) - left_ms) / left_ms : NAN;
  }
  return NAN;
}

/* Of one migration, on one side: maybe of two attempts. */
static bool
nc_metrics_is_same(json_t *a, json_t *b)
{
  return g_str_equal(nc_json_string_or(a, "id", "a"), nc_json_string_or(b, "id", "b")) && nc_metrics_role(a) == nc_metrics_role(b);
}

/* --- counting --- */

static void
nc_metrics_remember_locked(NcMetrics *metrics, json_t *record, const char *outcome, int64_t now_us)
{
  NcRecent *recent = g_new0(NcRecent, 1);

  for (GList *at = metrics->recent.head, *next; at; at = next) { /* an earlier attempt's: one of a name is shown */
    NcRecent *older = at->data;
    next = at->next;
    if (nc_metrics_is_same(older->record, record)) {
      nc_recent_free(older);
      g_queue_delete_link(&metrics->recent, at);
    }
  }
  recent->record = json_copy(record);
  recent->at_us = now_us;
  json_object_set_new(recent->record, "outcome", json_string(outcome));
  g_queue_push_head(&metrics->recent, recent);
  while (g_queue_get_length(&metrics->recent) > NC_METRICS_RECENT)
    nc_recent_free(g_queue_pop_tail(&metrics->recent));
}

void
nc_metrics_count_end(NcMetrics *metrics, json_t *record, const char *outcome, int64_t now_us)
{
  int role = nc_metrics_role(record);
  bool completed = g_str_equal(outcome, "completed");

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&metrics->lock);
  metrics->serial++;
  for (size_t i = 0; i < G_N_ELEMENTS(nc_metrics_outcomes); i++)
    metrics->ended[role][i] += g_str_equal(outcome, nc_metrics_outcomes[i]);
  nc_metrics_add(&metrics->sums[role], record);
  nc_metrics_remember_locked(metrics, record, outcome, now_us);
  if (role != NC_ROLE_OF_SOURCE)
    return; /* both nodes know of it; it is to be counted once */
  if (!completed)
    return;
  nc_histogram_observe(&metrics->histograms[NC_PAUSES], nc_json_number_or(record, "pause_ms", NAN) / 1000);
  nc_histogram_observe(&metrics->histograms[NC_TOTALS], nc_json_number_or(record, "total_ms", NAN) / 1000);
  nc_histogram_observe(&metrics->histograms[NC_ERRORS], nc_metrics_forecast_error(record));
}

/* What movers count, to nothing. */
static void
nc_metrics_forget(json_t *record)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_metrics_sums); i++)
    if (json_object_get(record, nc_metrics_sums[i].key))
      json_object_set_new(record, nc_metrics_sums[i].key, json_integer(0));
  json_object_del(record, "connections");
}

void
nc_metrics_count_attempt(NcMetrics *metrics, json_t *record)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&metrics->lock);
  metrics->serial++;
  nc_metrics_add(&metrics->sums[nc_metrics_role(record)], record);
  nc_metrics_forget(record);
}

uint64_t
nc_metrics_serial(NcMetrics *metrics)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&metrics->lock);
  return metrics->serial;
}

static bool
nc_metrics_is_among(json_t *records, json_t *record)
{
  json_t *other;
  size_t i;

  json_array_foreach(records, i, other) if (nc_metrics_is_same(other, record)) return true;
  return false;
}

json_t *
nc_metrics_recent(NcMetrics *metrics, json_t *running, int64_t now_us)
{
  json_t *list = json_array();

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&metrics->lock);
  for (GList *at = metrics->recent.head; at; at = at->next) {
    NcRecent *recent = at->data;
    if (now_us - recent->at_us < NC_METRICS_RECENT_US && !nc_metrics_is_among(running, recent->record))
      json_array_append_new(list, json_copy(recent->record));
  }
  return list;
}

/* --- writing --- */

/* At a destination an attempt has a record of its own, under an epoch of its own; at the source only the last one ends. */
static bool
nc_metrics_is_same_attempt(json_t *a, json_t *b)
{
  bool is_one = nc_metrics_role(a) == NC_ROLE_OF_SOURCE || nc_json_int_or(a, "epoch", 0) == nc_json_int_or(b, "epoch", 0);
  return is_one && nc_metrics_is_same(a, b);
}

/* It has been counted, though its record was read before it said so. */
static bool
nc_metrics_has_ended_locked(NcMetrics *metrics, json_t *record)
{
  for (GList *at = metrics->recent.head; at; at = at->next) {
    NcRecent *recent = at->data;
    if (nc_metrics_is_same_attempt(recent->record, record))
      return true;
  }
  return false;
}

static void
nc_metrics_write_sums(NcExposition *out, const NcMetricsSums sums[NC_METRICS_ROLES])
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_metrics_sums); i++) {
    if (nc_metrics_sums[i].help)
      nc_exposition_family(out, nc_metrics_sums[i].family, NC_FAMILY_COUNTER, nc_metrics_sums[i].unit, nc_metrics_sums[i].help);
    for (int role = 0; role < NC_METRICS_ROLES; role++) {
      g_autofree char *text = nc_exposition_labels("role", nc_metrics_role_names[role], "section", nc_metrics_sums[i].section, "coding",
                                                    nc_metrics_sums[i].coding, NULL);
      nc_exposition_sample(out, text, sums[role].sums[i]);
    }
  }
  for (size_t i = 0; i < G_N_ELEMENTS(nc_metrics_tcp); i++) {
    nc_exposition_family(out, nc_metrics_tcp[i].family, NC_FAMILY_COUNTER, NULL, nc_metrics_tcp[i].help);
    for (int role = 0; role < NC_METRICS_ROLES; role++) {
      g_autofree char *text = nc_exposition_labels("role", nc_metrics_role_names[role], NULL);
      nc_exposition_sample(out, text, sums[role].tcp[i]);
    }
  }
}

static void
nc_metrics_write_ended_locked(NcMetrics *metrics, NcExposition *out)
{
  nc_exposition_family(out, "novacron_migrations", NC_FAMILY_COUNTER, NULL, "Migrations that ended since novacrond started.");
  for (int role = 0; role < NC_METRICS_ROLES; role++)
    for (size_t i = 0; i < G_N_ELEMENTS(nc_metrics_outcomes); i++) {
      g_autofree char *text =
          nc_exposition_labels("role", nc_metrics_role_names[role], "outcome", nc_metrics_outcomes[i], NULL);
      nc_exposition_sample(out, text, (double)metrics->ended[role][i]);
    }
}

void
nc_metrics_count_wait(NcMetrics *metrics, double seconds)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&metrics->lock);
  nc_histogram_observe(&metrics->histograms[NC_WAITS], seconds);
}

void
nc_metrics_set_queue(NcMetrics *metrics, unsigned queued, unsigned running, double oldest_seconds)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&metrics->lock);
  metrics->has_queue = true;
  metrics->queued = queued;
  metrics->running = running;
  metrics->oldest_seconds = oldest_seconds;
}

void
nc_metrics_forget_queue(NcMetrics *metrics)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&metrics->lock);
  metrics->has_queue = false;
}

static void
nc_metrics_write_queue_locked(NcMetrics *metrics, NcExposition *out)
{
  if (!metrics->has_queue)
    return;
  nc_exposition_family(out, "novacron_queue_migrations", NC_FAMILY_GAUGE, NULL, "Migrations that this controller knows of and that have not ended.");
  g_autofree char *queued = nc_exposition_labels("state", "queued", NULL), *running = nc_exposition_labels("state", "running", NULL);
  nc_exposition_sample(out, queued, metrics->queued);
  nc_exposition_sample(out, running, metrics->running);
  nc_exposition_family(out, "novacron_queue_oldest_wait_seconds", NC_FAMILY_GAUGE, "seconds", "How long the first of those that wait has waited; 0: none waits.");
  nc_exposition_sample(out, NULL, metrics->oldest_seconds);
}

void
nc_metrics_write(NcMetrics *metrics, json_t *running, NcExposition *out)
{
  NcMetricsSums sums[NC_METRICS_ROLES];
  json_t *record;
  size_t i;

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&metrics->lock);
  memcpy(sums, metrics->sums, sizeof sums);
  json_array_foreach(running, i, record) if (!nc_metrics_has_ended_locked(metrics, record))
      nc_metrics_add(&sums[nc_metrics_role(record)], record);
  nc_metrics_write_ended_locked(metrics, out);
  nc_metrics_write_sums(out, sums);
  nc_metrics_write_queue_locked(metrics, out);
  for (size_t h = 0; h < NC_METRICS_HISTOGRAMS; h++) {
    nc_exposition_family(out, nc_metrics_histograms[h].family, NC_FAMILY_HISTOGRAM, nc_metrics_histograms[h].unit,
                         nc_metrics_histograms[h].help);
    nc_exposition_histogram(out, NULL, &metrics->histograms[h]);
  }
}
