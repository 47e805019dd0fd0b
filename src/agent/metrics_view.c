/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/metrics_view.h"
#include "agent/migration_views.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/msg.h"

#include <dirent.h>
#include <math.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define NC_METRICS_TRIES 4
#define NC_STAT_BYTES 4096

/* --- single migrations --- */

typedef double (*NcMetricsValue)(json_t *view, json_t *record, const char *key);

/* Of the JSON that one migration's metrics are. */
static double
nc_value_seen(json_t *view, json_t *record, const char *key)
{
  return nc_json_number_or(view, key, NAN);
}

static double
nc_value_recorded(json_t *view, json_t *record, const char *key)
{
  return nc_json_number_or(record, key, NAN);
}

/* What was said, where something was. */
static double
nc_value_positive(json_t *view, json_t *record, const char *key)
{
  double value = nc_json_number_or(record, key, NAN);
  return value > 0 ? value : NAN;
}

static double
nc_value_seconds(json_t *view, json_t *record, const char *key)
{
  return nc_json_number_or(record, key, NAN) / 1000;
}

/* Of its disks, if it has some that are copied. */
static double
nc_value_disks(json_t *view, json_t *record, const char *key)
{
  return json_array_size(json_object_get(record, "disks")) > 0 ? nc_json_number_or(view, key, NAN) : NAN;
}

/* What was sent again of all segments of its connections. */
static double
nc_value_loss(json_t *view, json_t *record, const char *key)
{
  double sent = 0, again = 0;
  json_t *connection;
  size_t i;

  json_array_foreach(json_object_get(record, "connections"), i, connection)
  {
    sent += (double)nc_json_int_or(connection, "segments", 0);
    again += (double)nc_json_int_or(connection, "retransmitted_segments", 0);
  }
  return sent > 0 ? again / sent : NAN;
}

static double
nc_value_connections(json_t *view, json_t *record, const char *key)
{
  json_t *connections = json_object_get(record, "connections"), *connection;
  double up = 0;
  size_t i;

  json_array_foreach(connections, i, connection) up += nc_json_bool_or(connection, "up", false);
  return connections ? up : NAN;
}

static double
nc_value_attention(json_t *view, json_t *record, const char *key)
{
  json_t *attention = json_object_get(record, "attention");
  return attention && !json_is_null(attention);
}

static double
nc_value_carried(json_t *view, json_t *record, const char *key)
{
  return nc_migration_record_carried(record);
}

static double
nc_value_converges(json_t *view, json_t *record, const char *key)
{
  json_t *converges = json_object_get(record, "converges");
  return json_is_boolean(converges) ? json_is_true(converges) : NAN;
}

static const struct {
  const char *family, *unit, *help, *key;
  NcMetricsValue value;
  bool running; /* says nothing of one that has ended, or waits for its next attempt */
} nc_metrics_families[] = {
  { "novacron_migration_transfer_rate_bytes", "bytes", "Bytes of the machine per second, before coding.", "transfer_rate_bytes", nc_value_seen, true },
  { "novacron_migration_wire_rate_bytes", "bytes", "Bytes on the wire per second.", "wire_rate_bytes", nc_value_seen, true },
  { "novacron_migration_rate_limit_bytes", "bytes", "The limit that it keeps to now, in bytes per second on the wire (less where it gives way); 0: none.", "rate_limit_bytes", nc_value_seen, true },
  { "novacron_migration_target_rate_bytes", "bytes", "What it is to reach, in bytes of the machine per second before coding, where that was said.", "target_rate_bps", nc_value_positive, true },
  { "novacron_migration_link_rate_bytes", "bytes", "What its link was seen to carry at best, in bytes per second on the wire.", "link_rate_bytes", nc_value_seen, true },
  { "novacron_migration_compression_ratio", "ratio", "QEMU's stream to bytes on the wire.", "compression_ratio", nc_value_seen, false },
  { "novacron_migration_network_latency_ms", "ms", "Round trip between the movers, in milliseconds.", "network_latency_ms", nc_value_seen, true },
  { "novacron_migration_packet_loss_ratio", "ratio", "TCP segments that were sent again, of all.", "", nc_value_loss, false },
  { "novacron_migration_connections", NULL, "Connections between the movers that are up.", "", nc_value_connections, true },
  { "novacron_migration_progress", NULL, "Percent.", "progress", nc_value_seen, false },
  { "novacron_migration_attempt", NULL, "Which attempt this is, from 1: with each its progress begins anew.", "attempt", nc_value_recorded, false },
  { "novacron_migration_duration_seconds", "seconds", "Since its start, or to its end.", "duration_seconds", nc_value_seen, false },
  { "novacron_migration_downtime_milliseconds", "milliseconds", "How long the guest stood still, in milliseconds.", "downtime_milliseconds", nc_value_seen, false },
  { "novacron_migration_eta_seconds", "seconds", "Forecast of what is left.", "eta_ms", nc_value_seconds, true },
  { "novacron_migration_eta_error_seconds", "seconds", "How far off that may be.", "eta_error_ms", nc_value_seconds, true },
  { "novacron_migration_expected_pause_seconds", "seconds", "Forecast of how long the guest will stand still.", "forecast_pause_ms", nc_value_seconds, true },
  { "novacron_migration_max_pause_seconds", "seconds", "How long the guest may stand still.", "max_downtime_ms", nc_value_seconds, false },
  { "novacron_migration_converges", NULL, "1: it will end by itself, 0: the guest dirties too fast.", "", nc_value_converges, true },
  { "novacron_migration_dirty_rate_bytes", "bytes", "Bytes that the guest dirties per second.", "dirty_rate_bytes", nc_value_seen, true },
  { "novacron_migration_effective_rate_bytes", "bytes", "Dirtied bytes per second that it can carry, with coding.", "effective_rate_bps", nc_value_recorded, true },
  { "novacron_migration_remaining_bytes", "bytes", "Memory that is left to carry in this round.", "ram_remaining_bytes", nc_value_seen, true },
  { "novacron_migration_memory_bytes", "bytes", "The machine's memory.", "ram_total_bytes", nc_value_seen, false },
  { "novacron_migration_wire_bytes", "bytes", "Bytes on the wire so far.", "wire_bytes", nc_value_seen, false },
  { "novacron_migration_carried_bytes", "bytes", "Bytes of QEMU's stream and of disks on the wire so far: stands still when the move does.", "", nc_value_carried, false },
  { "novacron_migration_rounds", NULL, "Rounds over its memory so far.", "rounds", nc_value_seen, false },
  { "novacron_migration_throttle_percent", "percent", "By how much the guest is slowed down.", "throttle_percent", nc_value_seen, true },
  { "novacron_migration_cpu_usage_percent", "percent", "Processor time of its mover since its start, in percent of one processor.", "cpu_usage_percent", nc_value_seen, true },
  { "novacron_migration_memory_usage_bytes", "bytes", "Resident memory of its mover.", "memory_usage_bytes", nc_value_seen, true },
  { "novacron_migration_disk_iops", NULL, "Requests per second of the disks that are copied with it.", "disk_iops", nc_value_disks, true },
  { "novacron_migration_disk_rate_bytes", "bytes", "Bytes per second of the disks that are copied with it.", "disk_rate_bytes", nc_value_disks, true },
  { "novacron_migration_attention", NULL, "1: a human has to decide.", "", nc_value_attention, false },
};

static char *
nc_metrics_labels(json_t *record, const char *phase)
{
  return nc_exposition_labels("migration", nc_json_string_or(record, "id", "?"), "vm", nc_json_string_or(record, "vm", "?"), "source",
                              nc_json_string_or(record, "source", "?"), "destination", nc_json_string_or(record, "destination", "?"), "role",
                              nc_json_string_or(record, "role", "?"), "phase", phase, NULL);
}

static void
nc_metrics_view_phases(NcExposition *out, json_t *records)
{
  json_t *record;
  size_t i;

  nc_exposition_family(out, "novacron_migration_phase", NC_FAMILY_GAUGE, NULL, "1, with the phase that it is in.");
  json_array_foreach(records, i, record)
  {
    g_autofree char *labels = nc_metrics_labels(record, nc_json_string_or(record, "phase", "unknown"));
    nc_exposition_sample(out, labels, 1);
  }
}

static bool
nc_metrics_has_mover(json_t *record)
{
  return !nc_migration_record_has_ended(record) && !g_str_equal(nc_json_string_or(record, "phase", ""), "queued");
}

void
nc_metrics_view_migrations(NcExposition *out, json_t *records, int64_t now_us)
{
  g_autoptr(GPtrArray) labels = g_ptr_array_new_with_free_func(g_free);
  nc_autojson json_t *views = json_array();
  json_t *record;
  size_t i;

  json_array_foreach(records, i, record)
  {
    g_ptr_array_add(labels, nc_metrics_labels(record, NULL));
    json_array_append_new(views, nc_migration_metrics_view(record, now_us));
  }
  nc_metrics_view_phases(out, records);
  for (size_t f = 0; f < G_N_ELEMENTS(nc_metrics_families); f++) {
    nc_exposition_family(out, nc_metrics_families[f].family, NC_FAMILY_GAUGE, nc_metrics_families[f].unit, nc_metrics_families[f].help);
    json_array_foreach(records, i, record) if (!nc_metrics_families[f].running || nc_metrics_has_mover(record))
        nc_exposition_sample(out, labels->pdata[i], nc_metrics_families[f].value(json_array_get(views, i), record, nc_metrics_families[f].key));
  }
}

/* --- the node --- */

void
nc_metrics_view_load(NcExposition *out, json_t *running)
{
  static const char *const roles[] = { "source", "destination" }, *const kinds[] = { "queued", "running", "needs_attention" };
  double counts[G_N_ELEMENTS(roles)][G_N_ELEMENTS(kinds)] = { 0 };
  json_t *record;
  size_t i;

  json_array_foreach(running, i, record)
  {
    bool is_source = g_str_equal(nc_json_string_or(record, "role", ""), "source");
    bool is_queued = g_str_equal(nc_json_string_or(record, "phase", ""), "queued");
    counts[is_source ? 0 : 1][nc_value_attention(NULL, record, "") > 0 ? 2 : is_queued ? 0 : 1]++;
  }
  nc_exposition_family(out, "novacron_migrations_under_way", NC_FAMILY_GAUGE, NULL, "Migrations of this node that have not ended.");
  for (size_t r = 0; r < G_N_ELEMENTS(roles); r++)
    for (size_t k = 0; k < G_N_ELEMENTS(kinds); k++) {
      g_autofree char *labels = nc_exposition_labels("role", roles[r], "state", kinds[k], NULL);
      nc_exposition_sample(out, labels, counts[r][k]);
    }
}

static void
nc_metrics_gauge(NcExposition *out, const char *name, const char *unit, const char *help, double value)
{
  nc_exposition_family(out, name, NC_FAMILY_GAUGE, unit, help);
  nc_exposition_sample(out, NULL, value);
}

static void
nc_metrics_view_machines(NcMetricsView *view, NcExposition *out)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *machines = nc_machines_list(view->machines, NULL, &error);
  nc_autojson json_t *counts = json_object();
  json_t *item;
  size_t i;
  const char *state;

  json_array_foreach(machines, i, item)
  {
    state = nc_json_string_or(item, "state", "unknown");
    json_object_set_new(counts, state, json_integer(nc_json_int_or(counts, state, 0) + 1));
  }
  nc_exposition_family(out, "novacron_machines", NC_FAMILY_GAUGE, NULL, "Machines that this node knows, by state.");
  json_object_foreach(counts, state, item)
  {
    g_autofree char *labels = nc_exposition_labels("state", state, NULL);
    nc_exposition_sample(out, labels, (double)json_integer_value(item));
  }
}

static void
nc_metrics_view_store(NcMetricsView *view, NcExposition *out)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *status = nc_store_work_status(view->store_work, NULL, &error);
  bool is_well = status && !nc_json_bool_or(status, "failed", false);

  nc_metrics_gauge(out, "novacron_store_up", NULL, "1: the page store takes checkpoints.", is_well && !nc_json_bool_or(status, "read_only", false));
  nc_metrics_gauge(out, "novacron_store_used_bytes", "bytes", "What the page store takes of its disk.", nc_json_number_or(status, "used_bytes", NAN));
  nc_metrics_gauge(out, "novacron_store_budget_bytes", "bytes", "What it may take.", nc_json_number_or(status, "budget_bytes", NAN));
  nc_metrics_gauge(out, "novacron_store_free_bytes", "bytes", "What it can still take.", nc_json_number_or(status, "free_bytes", NAN));
}

/* Of getrusage(2), and of proc(5): /proc/self/statm, /proc/self/fd. */
static void
nc_metrics_view_process(NcExposition *out)
{
  g_autofree char *text = nc_file_read("/proc/self/statm", NC_STAT_BYTES, NULL, NULL);
  struct rusage usage = { 0 };
  unsigned long pages = 0;
  double fds = 0;
  DIR *dir = opendir("/proc/self/fd");

  getrusage(RUSAGE_SELF, &usage);
  nc_exposition_family(out, "process_cpu_seconds", NC_FAMILY_COUNTER, "seconds", "Processor time of novacrond, without its movers.");
  nc_exposition_sample(out, NULL, (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
  bool known = text && sscanf(text, "%*u %lu", &pages) == 1;
  nc_metrics_gauge(out, "process_resident_memory_bytes", "bytes", "Resident memory of novacrond.", known ? (double)pages * (double)sysconf(_SC_PAGESIZE) : NAN);
  while (dir && readdir(dir))
    fds++;
  nc_metrics_gauge(out, "process_open_fds", NULL, "Descriptors that novacrond has open.", dir ? fds - 3 : NAN); /* ".", "..", its own */
  if (dir)
    closedir(dir);
}

static void
nc_metrics_view_node(NcMetricsView *view, NcExposition *out)
{
  NcTrust *trust = nc_nodes_trust(view->nodes);
  g_autofree char *build = nc_exposition_labels("version", NC_VERSION, NULL);
  g_autofree char *node = nc_exposition_labels("node", nc_nodes_self(view->nodes), "cluster", nc_trust_cluster(trust), NULL);

  nc_exposition_family(out, "novacron_build", NC_FAMILY_INFO, NULL, "What runs.");
  nc_exposition_sample(out, build, 1);
  nc_exposition_family(out, "novacron_node", NC_FAMILY_INFO, NULL, "Who it is.");
  nc_exposition_sample(out, node, 1);
  nc_metrics_gauge(out, "novacron_certificate_expiry_timestamp_seconds", "seconds", "When this node's certificate ends.",
                   (double)nc_trust_expires_us(trust) / G_USEC_PER_SEC);
}

/* --- a scrape --- */

/* Those under way; what was counted while they were read is not among them. */
static json_t *
nc_metrics_running(NcMetricsView *view)
{
  for (int tries = NC_METRICS_TRIES;; tries--) {
    uint64_t serial = nc_metrics_serial(view->metrics);
    json_t *running = nc_migrations_running(view->migrations);
    if (tries == 0 || serial == nc_metrics_serial(view->metrics))
      return running;
    json_decref(running);
  }
}

json_t *
nc_metrics_view(NcMetricsView *view, json_t *args, GError **error)
{
  NcExpositionFormat format = nc_json_bool_or(args, "openmetrics", false) ? NC_EXPOSITION_OPENMETRICS : NC_EXPOSITION_TEXT;
  int64_t now_us = nc_wall_us();
  g_autoptr(NcExposition) out = nc_exposition_new(format);
  nc_autojson json_t *running = nc_metrics_running(view);

  nc_metrics_view_node(view, out);
  nc_metrics_view_process(out);
  nc_metrics_view_load(out, running);
  nc_metrics_write(view->metrics, running, out);
  nc_autojson json_t *shown = nc_metrics_recent(view->metrics, running, now_us);
  json_array_extend(shown, running);
  nc_metrics_view_migrations(out, shown, now_us);
  nc_metrics_view_machines(view, out);
  nc_metrics_view_store(view, out);
  return json_pack("{s:s, s:s}", "text", nc_exposition_end(out), "type", nc_exposition_media_type(format));
}
