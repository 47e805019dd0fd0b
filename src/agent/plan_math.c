/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/plan_math.h"
#include "agent/convergence.h"
#include "agent/pause_share.h"
#include "base/msg.h"
#include "wire/flight.h"

#define NC_PLAN_RECORDS 5      /* earlier ones that count */
#define NC_PLAN_LINK_BPS 1e7   /* where nothing tells */
#define NC_PLAN_LZ4_FACTOR 1.3 /* samples are coded by zstd */
#define NC_PLAN_PREPARE_MS 500 /* the destination's QEMU, movers, dirty tracking; */
#define NC_PLAN_PREPARE_TRIPS 6 /* and round trips */
#define NC_PLAN_MB 1e6
#define NC_PLAN_WRITES_MOST 0.9 /* of what is copied, what the guest may write so that the copy comes nearer */

static const double nc_plan_errors[] = { [NC_PLAN_DEFAULTS] = 0.5, [NC_PLAN_NODES] = 0.4, [NC_PLAN_VM] = 0.3 };

const char *
nc_plan_basis_name(NcPlanBasis basis)
{
  static const char *const names[] = { "defaults", "nodes", "vm" };
  return names[basis];
}

/* --- earlier migrations --- */

static bool
nc_plan_is(json_t *record, const char *key, const char *value)
{
  return g_str_equal(nc_json_string_or(record, key, ""), value);
}

static double
nc_plan_number(json_t *record, const char *key)
{
  json_t *value = json_object_get(record, key);
  return json_is_number(value) ? MAX(json_number_value(value), 0) : 0;
}

static bool
nc_plan_counts(json_t *record, const NcPlanMove *move, NcPlanBasis basis)
{
  return nc_plan_is(record, "outcome", "completed") && nc_plan_is(record, "role", "source") && nc_plan_is(record, "source", move->from) &&
         nc_plan_is(record, "compression", move->compression) &&
         (basis == NC_PLAN_VM ? nc_plan_is(record, "vm", move->vm) : nc_plan_is(record, "destination", move->to));
}

/* A mean of what is known. */
typedef struct {
  double sum;
  unsigned n;
} NcPlanMean;

static void
nc_plan_mean_add(NcPlanMean *mean, double value)
{
  mean->sum += value;
  mean->n += value > 0;
}

static double
nc_plan_mean_get(const NcPlanMean *mean)
{
  return mean->n > 0 ? mean->sum / mean->n : 0;
}

/* How fast it was, if it was let: what a limit has held up tells nothing of the nodes. */
static void
nc_plan_learn_rates(json_t *record, const NcPlanMove *move, NcPlanHistory *history)
{
  bool is_old = !json_object_get(record, "attempt_ms"); /* its bytes are the last attempt's: of older records the other one is that */
  double seconds = nc_plan_number(record, is_old ? "total_ms" : "attempt_ms") / 1000;

  if (seconds <= 0 || nc_plan_number(record, "rate_limit_bps") > 0 || nc_plan_number(record, "bandwidth_limit_bps") > 0 ||
      !nc_plan_is(record, "destination", move->to))
    return;
  history->link_bps = MAX(history->link_bps, nc_plan_number(record, "wire_bytes") / seconds);
  history->content_bps = MAX(history->content_bps, nc_plan_number(record, "stream_bytes") / seconds);
  history->content_bps = MAX(history->content_bps, nc_plan_number(record, "effective_rate_bps"));
}

/* Of the disks that it took along, what they took here to what was on the wire; 0: none. */
static double
nc_plan_disk_ratio(json_t *record)
{
  double used = 0, wire = 0;
  size_t i;
  json_t *disk;

  json_array_foreach(json_object_get(record, "disks"), i, disk)
  {
    used += nc_plan_number(disk, "used_bytes");
    wire += nc_plan_number(disk, "wire_bytes");
  }
  return wire > 0 ? used / wire : 0;
}

/* False if there are none. */
static bool
nc_plan_read_basis(json_t *records, const NcPlanMove *move, NcPlanBasis basis, NcPlanHistory *ret)
{
  NcPlanMean factor = { 0 }, ratio = { 0 }, disk_ratio = { 0 };
  unsigned n = 0;
  size_t i;
  json_t *record;

  json_array_foreach(records, i, record)
  {
    if (n == NC_PLAN_RECORDS || !nc_plan_counts(record, move, basis))
      continue;
    n++;
    nc_plan_mean_add(&factor, nc_plan_number(record, "coding_factor"));
    nc_plan_mean_add(&ratio, nc_plan_number(record, "ratio"));
    nc_plan_mean_add(&disk_ratio, nc_plan_disk_ratio(record));
    nc_plan_learn_rates(record, move, ret);
  }
  if (n == 0)
    return false;
  ret->basis = basis;
  ret->factor = nc_plan_mean_get(&factor);
  ret->ratio = nc_plan_mean_get(&ratio);
  ret->disk_ratio = nc_plan_mean_get(&disk_ratio);
  return true;
}

void
nc_plan_read_history(json_t *records, const NcPlanMove *move, NcPlanHistory *ret)
{
  *ret = (NcPlanHistory){ .basis = NC_PLAN_DEFAULTS };
  if (!nc_plan_read_basis(records, move, NC_PLAN_VM, ret))
    nc_plan_read_basis(records, move, NC_PLAN_NODES, ret);
}

/* --- the forecast --- */

static void
nc_plan_tell_memory(const NcPlanFacts *facts, const NcPlanTerms *terms, NcForecast *f)
{
  NcMemoryPlace places[NC_MEMORY_SAMPLE_PLACES];
  bool plain = g_str_equal(terms->compression, "none");

  if (!facts->has_sample)
    return;
  for (unsigned i = 0; i < NC_MEMORY_SAMPLE_PLACES; i++)
    places[i] = (NcMemoryPlace){ facts->places[i].content, plain ? 1 : facts->places[i].coded };
  nc_forecast_know_memory(f, places, facts->sampled_bytes, facts->ram_bytes);
  for (unsigned i = 0; i < facts->look_count; i++)
    nc_forecast_see_change(f, &facts->looks[i]);
}

/* What coding makes of a sample: as seen before, or what is known of the codec. */
static double
nc_plan_factor(const NcPlanHistory *history, const NcPlanTerms *terms)
{
  if (g_str_equal(terms->compression, "none"))
    return 1;
  return history->factor > 0 ? history->factor : g_str_equal(terms->compression, "lz4") ? NC_PLAN_LZ4_FACTOR : 1;
}

static NcForecast *
nc_plan_forecast_new(const NcPlanFacts *facts, const NcPlanHistory *history, const NcPlanTerms *terms, double link_bps)
{
  NcForecast *f = nc_forecast_new(facts->content_bytes, 0);
  const NcForecastPrior prior = { .total_bytes = facts->ram_bytes,
                                  .link_bps = link_bps,
                                  .content_bps = history->content_bps,
                                  .factor = nc_plan_factor(history, terms),
                                  .ratio = history->ratio,
                                  .error = nc_plan_errors[history->basis] };

  nc_plan_tell_memory(facts, terms, f);
  nc_forecast_expect_dirt(f, facts->dirty_bps);
  nc_forecast_assume(f, &prior);
  return f;
}

/* --- what would be done --- */

static NcPauseFacts
nc_plan_pause(const NcPlanFacts *facts, const NcPlanTerms *terms, double link_bps)
{
  return (NcPauseFacts){ .max_downtime_ms = terms->max_downtime_ms,
                         .rate_bps = (int64_t)link_bps,
                         .flight_bytes =
                             (int64_t)nc_flight_expected(link_bps, (uint64_t)facts->rtt_us, (unsigned)terms->max_downtime_ms),
                         .rtt_us = facts->rtt_us };
}

static char *
nc_plan_say(const NcForecastResult *r, const NcPlanTerms *terms, bool postcopy)
{
  const NcConvergenceLimits limits = { .max_throttle = terms->max_throttle };
  g_autofree char *rates = g_strdup_printf("the guest dirties %.1f MB/s and %.1f MB/s can be sent", r->dirty_bps / NC_PLAN_MB,
                                           r->effective_bps / NC_PLAN_MB);
  g_autofree char *throttled = NULL;
  NcConvergenceDecision decision;

  if (postcopy && terms->algorithm == NC_ALGORITHM_POSTCOPY)
    return g_strdup_printf("%s; the machine goes at once and its memory after it, as asked for", rates);
  if (postcopy)
    return g_strdup_printf("%s: rounds would not come to an end, so the machine goes first and the rest of its memory after it", rates);
  if (r->converges)
    return g_strdup_printf("%s: its rounds come to an end", rates);
  nc_convergence_decide(r, &limits, 0, 0, &decision);
  if (decision.action == NC_CONVERGENCE_THROTTLE)
    throttled = g_strdup_printf(", or a guest slowed down by %d %%", decision.throttle);
  g_free(decision.reason);
  return g_strdup_printf("%s: its rounds would not come to an end; it would need %.1f MB/s%s", rates, r->needed_bps / NC_PLAN_MB,
                         throttled ? throttled : "");
}

static void
nc_plan_decide(const NcPlanFacts *facts, const NcPlanHistory *history, const NcPlanTerms *terms, double link_bps, NcPlanResult *ret)
{
  g_autoptr(NcForecast) f = nc_plan_forecast_new(facts, history, terms, link_bps);
  const NcPauseFacts pause = nc_plan_pause(facts, terms, link_bps);
  double overhead_ms = (double)nc_pause_likely_overhead_ms(&pause);
  bool at_once = terms->algorithm == NC_ALGORITHM_POSTCOPY;

  nc_pause_forecast(f, nc_pause_limit_ms(&pause), 0, overhead_ms, &ret->forecast);
  ret->postcopy = at_once || (!ret->forecast.converges && terms->may_postcopy && terms->algorithm == NC_ALGORITHM_AUTO);
  if (ret->postcopy)
    nc_forecast_get_postcopy(f, at_once, (double)nc_pause_postcopy_ms(&pause), &ret->forecast);
  ret->converges = ret->forecast.converges;
  if (ret->converges)
    ret->forecast.eta_ms += NC_PLAN_PREPARE_MS + NC_PLAN_PREPARE_TRIPS * (double)facts->rtt_us / 1000;
}

/* Of what was measured now and what was seen before the better one counts, within the limit: one connection is slower than several. */
static double
nc_plan_link(double measured_bps, double seen_bps, const NcPlanTerms *terms)
{
  double bps = MAX(measured_bps, seen_bps);

  if (bps <= 0)
    bps = NC_PLAN_LINK_BPS;
  return terms->limit_bps > 0 ? MIN(bps, (double)terms->limit_bps) : bps;
}

void
nc_plan_work_out(const NcPlanFacts *facts, const NcPlanHistory *history, const NcPlanTerms *terms, NcPlanResult *ret)
{
  double link_bps = nc_plan_link(facts->link_bps, history->link_bps, terms), slow_bps = nc_plan_link(facts->link_bps, 0, terms);

  nc_plan_decide(facts, history, terms, link_bps, ret);
  ret->reason = nc_plan_say(&ret->forecast, terms, ret->postcopy);
  ret->ratio = ret->forecast.wire_bytes > 0 ? ret->forecast.content_bytes / ret->forecast.wire_bytes : 0;
  if (facts->link_bps > 0 && slow_bps < link_bps && ret->converges) { /* but the link may have become worse: the band says so */
    NcPlanResult slow = { 0 };
    nc_plan_decide(facts, history, terms, slow_bps, &slow);
    ret->forecast.eta_error_ms = MAX(ret->forecast.eta_error_ms, slow.forecast.eta_ms - ret->forecast.eta_ms);
  }
}

/* --- disks --- */

void
nc_plan_add_disks(const NcPlanFacts *facts, const NcPlanHistory *history, const NcPlanTerms *terms, NcPlanDisk *disks, unsigned count,
                  NcPlanResult *ret)
{
  bool plain = g_str_equal(terms->compression, "none");
  double ratio = plain || history->disk_ratio <= 0 ? 1 : history->disk_ratio; /* nobody looks into a disk: it may not shrink at all */
  double bps = nc_plan_link(facts->link_bps, history->link_bps, terms) * ratio, written = 0, all = 0;

  if (history->content_bps > 0 && ratio > 1)
    bps = MIN(bps, MAX(history->content_bps, bps / ratio)); /* coding has its limits, too */
  for (unsigned i = 0; i < count; i++) {
    written += disks[i].write_bps;
    all += (double)disks[i].bytes;
  }
  bool is_slowed = written > bps * NC_PLAN_WRITES_MOST;
  double gain = bps - (is_slowed ? bps / 2 : written); /* a guest that is slowed down may write half of what is copied */
  for (unsigned i = 0; i < count; i++) {
    disks[i].is_slowed = is_slowed && disks[i].write_bps > 0;
    disks[i].ms = (double)disks[i].bytes * 1000 / gain;
    disks[i].wire_bytes = (double)disks[i].bytes * (bps / gain) / ratio;
  }
  ret->disk_ms = all * 1000 / gain;
  ret->disk_wire_bytes = all * (bps / gain) / ratio;
  if (!ret->converges)
    return;
  ret->forecast.eta_ms += ret->disk_ms;
  ret->forecast.eta_error_ms += ret->disk_ms * nc_plan_errors[history->disk_ratio > 0 || plain ? history->basis : NC_PLAN_DEFAULTS];
  if (ret->forecast.wire_bytes > 0)
    ret->forecast.wire_bytes += ret->disk_wire_bytes;
}
