/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/alert_facts.h"
#include "agent/migration_views.h"
#include "base/msg.h"

#include <math.h>

#define NC_ALERT_FAILURES_US (INT64_C(1800) * 1000000) /* failures are counted of the last half hour */
#define NC_ALERT_FAILURES_MAX 1000
#define NC_ALERT_LEAST_SEGMENTS 50 /* of fewer a part says nothing */
#define NC_DAY_US (INT64_C(86400) * 1000000)

/* What was seen of one migration. */
typedef struct {
  int64_t at_us; /* when the window began, with these */
  double cpu_ms, segments, retransmitted;
  double cpu_percent, loss_percent; /* of the last whole window; NAN: not known */
  double carried;
  int64_t crossed_us; /* when that last became more */
  bool is_there;      /* in this look */
} NcAlertSeen;

struct NcAlertFacts {
  char *node;
  GHashTable *seen;  /* subject -> NcAlertSeen */
  GArray *failed_us; /* int64_t: when migrations failed, the oldest first */
};

NcAlertFacts *
nc_alert_facts_new(const char *node)
{
  NcAlertFacts *facts = g_new0(NcAlertFacts, 1);
  facts->node = g_strdup(node);
  facts->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  facts->failed_us = g_array_new(FALSE, FALSE, sizeof(int64_t));
  return facts;
}

void
nc_alert_facts_free(NcAlertFacts *facts)
{
  if (!facts)
    return;
  g_hash_table_unref(facts->seen);
  g_array_unref(facts->failed_us);
  g_free(facts->node);
  g_free(facts);
}

/* --- a migration from look to look --- */

static double
nc_alert_sum(json_t *record, const char *key)
{
  json_t *connection;
  double sum = 0;
  size_t i;

  json_array_foreach(json_object_get(record, "connections"), i, connection) sum += nc_json_number_or(connection, key, 0);
  return sum;
}

/* Counters begin at 0 again with another mover or connection: then the window begins anew, too. */
static void
nc_alert_seen_window(NcAlertSeen *seen, double cpu_ms, double segments, double retransmitted, int64_t now_us)
{
  double sent = segments - seen->segments, again = retransmitted - seen->retransmitted, busy_ms = cpu_ms - seen->cpu_ms;
  bool is_whole = seen->at_us > 0 && sent >= 0 && again >= 0 && !(busy_ms < 0);

  if (is_whole && now_us - seen->at_us < NC_ALERT_WINDOW_US)
    return;
  seen->cpu_percent = is_whole ? 100 * busy_ms / ((double)(now_us - seen->at_us) / 1000) : NAN;
  seen->loss_percent = is_whole && sent >= NC_ALERT_LEAST_SEGMENTS ? 100 * again / sent : NAN;
  seen->at_us = now_us;
  seen->cpu_ms = cpu_ms;
  seen->segments = segments;
  seen->retransmitted = retransmitted;
}

static NcAlertSeen *
nc_alert_facts_see(NcAlertFacts *facts, const char *subject, json_t *record, int64_t now_us)
{
  NcAlertSeen *seen = g_hash_table_lookup(facts->seen, subject);
  double carried = nc_migration_record_carried(record); /* pings of a path without a move on it are no move */

  if (!seen) {
    seen = g_new0(NcAlertSeen, 1);
    seen->cpu_percent = seen->loss_percent = NAN;
    g_hash_table_insert(facts->seen, g_strdup(subject), seen);
  }
  seen->is_there = true;
  if (seen->crossed_us == 0 || (!isnan(carried) && carried != seen->carried))
    seen->crossed_us = now_us;
  seen->carried = isnan(carried) ? seen->carried : carried;
  nc_alert_seen_window(seen, nc_json_number_or(record, "mover_cpu_ms", NAN), nc_alert_sum(record, "segments"),
                       nc_alert_sum(record, "retransmitted_segments"), now_us);
  return seen;
}

static gboolean
nc_alert_seen_is_gone(gpointer subject, gpointer value, gpointer data)
{
  NcAlertSeen *seen = value;
  bool is_gone = !seen->is_there;
  seen->is_there = false;
  return is_gone;
}

/* --- its facts --- */

char *
nc_alert_subject(json_t *record)
{
  return g_strdup_printf("%s/%s", nc_json_string_or(record, "id", "?"), nc_json_string_or(record, "role", "?"));
}

static json_t *
nc_alert_about(const NcAlertFacts *facts, json_t *record)
{
  static const char *const keys[] = { "vm", "source", "destination", "role" };
  json_t *about = json_pack("{s:s, s:s}", "node", facts->node, "migration", nc_json_string_or(record, "id", "?"));

  for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
    json_object_set_new(about, keys[i], json_string(nc_json_string_or(record, keys[i], "?")));
  return about;
}

static bool
nc_alert_is_in(json_t *record, const char *const phases[])
{
  return g_strv_contains(phases, nc_json_string_or(record, "phase", ""));
}

/* It has most of what it may have (less than its limit, where it gives way), or of what the link was seen to carry: a slow link is no fault. */
static bool
nc_alert_fills_its_link(json_t *record)
{
  double kept = nc_json_number_or(record, "shaped_rate_bps", 0), limit = kept > 0 ? kept : nc_json_number_or(record, "rate_limit_bps", 0);
  double wire = nc_json_number_or(record, "wire_rate_bps", NAN), link = limit > 0 ? limit : nc_json_number_or(record, "link_rate_bps", NAN);
  return wire >= NC_ALERT_SHARE * link;
}

static double
nc_alert_flag(json_t *value, double unknown)
{
  return json_is_boolean(value) ? json_is_true(value) : unknown;
}

static void
nc_alert_facts_of_source(json_t *record, const NcAlertSeen *seen, const char *subject, json_t *about, int64_t now_us, GPtrArray *ret)
{
  static const char *const copying[] = { "memory_copy", NULL }, *const carrying[] = { "memory_copy", "disk_copy", NULL };
  static const char *const flowing[] = { "memory_copy", "disk_copy", "switchover", "postcopy", NULL };
  bool copies = nc_alert_is_in(record, copying), carries = nc_alert_is_in(record, carrying), flows = nc_alert_is_in(record, flowing);
  double rtt_us = nc_json_number_or(record, "rtt_us", 0), converges = nc_alert_flag(json_object_get(record, "converges"), NAN);

  int64_t rate = nc_migration_record_rate(record);
  double target = nc_json_number_or(record, "target_rate_bps", 0);
  bool is_fast = target > 0 ? (double)rate >= target : nc_alert_fills_its_link(record); /* who has said what it is to reach means it of that link */

  g_ptr_array_add(ret, nc_alert_fact_new(NC_ALERT_SLOW_TRANSFER, subject, rate < 0 ? NAN : (double)rate / 1e6, !carries || is_fast, about));
  g_ptr_array_add(ret, nc_alert_fact_new(NC_ALERT_HIGH_LATENCY, subject, rtt_us > 0 ? rtt_us / 1000 : NAN, !flows, about));
  g_ptr_array_add(ret, nc_alert_fact_new(NC_ALERT_PACKET_LOSS, subject, seen->loss_percent, !flows, about));
  g_ptr_array_add(ret, nc_alert_fact_new(NC_ALERT_NOT_CONVERGING, subject, 1 - converges, !copies, about));
  g_ptr_array_add(ret, nc_alert_fact_new(NC_ALERT_STUCK, subject, (double)(now_us - seen->crossed_us) / G_USEC_PER_SEC, !flows, about));
}

static void
nc_alert_facts_of_record(NcAlertFacts *facts, json_t *record, int64_t now_us, GPtrArray *ret)
{
  g_autofree char *subject = nc_alert_subject(record);
  NcAlertSeen *seen = nc_alert_facts_see(facts, subject, record, now_us);
  nc_autojson json_t *about = nc_alert_about(facts, record);
  json_t *attention = json_object_get(record, "attention");

  g_ptr_array_add(ret, nc_alert_fact_new(NC_ALERT_NEEDS_ATTENTION, subject, attention && !json_is_null(attention), false, about));
  g_ptr_array_add(ret, nc_alert_fact_new(NC_ALERT_MOVER_BUSY, subject, seen->cpu_percent, false, about));
  if (g_str_equal(nc_json_string_or(record, "role", ""), "source"))
    nc_alert_facts_of_source(record, seen, subject, about, now_us, ret);
}

void
nc_alert_facts_of_migrations(NcAlertFacts *facts, json_t *running, int64_t now_us, GPtrArray *ret)
{
  json_t *record;
  size_t i;

  json_array_foreach(running, i, record) if (!nc_migration_record_has_ended(record)) nc_alert_facts_of_record(facts, record, now_us, ret);
  g_hash_table_foreach_remove(facts->seen, nc_alert_seen_is_gone, NULL);
}

NcAlertFact *
nc_alert_facts_of_end(NcAlertFacts *facts, json_t *record, const char *outcome, int64_t now_us)
{
  double pause_ms = nc_json_number_or(record, "pause_ms", NAN), budget_ms = nc_json_number_or(record, "max_downtime_ms", NAN);

  if (!g_str_equal(nc_json_string_or(record, "role", ""), "source"))
    return NULL; /* both nodes know of it; it is told once */
  if (g_str_equal(outcome, "failed") && facts->failed_us->len < NC_ALERT_FAILURES_MAX)
    g_array_append_val(facts->failed_us, now_us);
  if (!(budget_ms > 0) || isnan(pause_ms))
    return NULL;
  g_autofree char *subject = nc_alert_subject(record);
  nc_autojson json_t *about = nc_alert_about(facts, record);
  return nc_alert_fact_new(NC_ALERT_PAUSE_OVER_BUDGET, subject, 100 * pause_ms / budget_ms, false, about);
}

/* --- the node's --- */

static double
nc_alert_facts_failures(NcAlertFacts *facts, int64_t now_us)
{
  while (facts->failed_us->len > 0 && now_us - g_array_index(facts->failed_us, int64_t, 0) > NC_ALERT_FAILURES_US)
    g_array_remove_index(facts->failed_us, 0);
  return facts->failed_us->len;
}

void
nc_alert_facts_of_node(NcAlertFacts *facts, const NcAlertNode *node, int64_t now_us, GPtrArray *ret)
{
  nc_autojson json_t *about = json_pack("{s:s}", "node", facts->node);
  /* What is free is the least of budget and disk: with or without a budget, a disk that is full of other things is full, too. */
  double used = nc_json_number_or(node->store, "used_bytes", NAN), may_use = used + nc_json_number_or(node->store, "free_bytes", NAN);
  bool is_down = !node->store || nc_json_bool_or(node->store, "failed", false) || nc_json_bool_or(node->store, "read_only", false);

  g_ptr_array_add(ret, nc_alert_fact_new(NC_ALERT_FAILURES, facts->node, nc_alert_facts_failures(facts, now_us), false, about));
  g_ptr_array_add(ret, nc_alert_fact_new(NC_ALERT_STORE_NEARLY_FULL, facts->node, 100 * used / may_use, false, about));
  g_ptr_array_add(ret, nc_alert_fact_new(NC_ALERT_STORE_DOWN, facts->node, is_down, false, about));
  g_ptr_array_add(ret, nc_alert_fact_new(NC_ALERT_CERTIFICATE_EXPIRES, facts->node, (double)node->certificate_left_us / NC_DAY_US, false, about));
}
