/* SPDX-License-Identifier: Apache-2.0 */
/* Plans out of made-up measurements and made-up earlier migrations. */
#include "agent/pause_share.h"
#include "agent/plan_math.h"
#include "base/msg.h"

#include <math.h>
#include <string.h>

#define MB 1e6

static const NcPlanMove move = { "web1", "host-a", "host-b", "auto" };
static const NcPlanHistory nothing = { .basis = NC_PLAN_DEFAULTS };
static const NcPlanTerms terms = { .algorithm = NC_ALGORITHM_AUTO,
                                   .compression = "auto",
                                   .max_downtime_ms = 300,
                                   .may_postcopy = true,
                                   .max_throttle = 70 };

/* A guest of 1000 MB, of which ${content} is coded to ${coded}, and so much is written per second, of a tenth of its memory. */
static NcPlanFacts
facts_of(double content, double coded, double dirty, double link)
{
  NcPlanFacts f = { .ram_bytes = (uint64_t)(1000 * MB),
                    .content_bytes = (uint64_t)(content * 1000 * MB),
                    .dirty_bps = dirty,
                    .has_sample = true,
                    .sampled_bytes = (uint64_t)(1000 * MB),
                    .link_bps = link,
                    .rtt_us = 20000 };

  for (unsigned i = 0; i < NC_MEMORY_SAMPLE_PLACES; i++)
    f.places[i] = (NcMemoryPlace){ (float)content, (float)coded };
  for (f.look_count = 0; f.look_count < NC_PLAN_LOOKS; f.look_count++) {
    double seconds = 0.5 + f.look_count, share = 0.1 * (1 - exp(-dirty * seconds / (100 * MB)));
    f.looks[f.look_count] = (NcMemoryChange){ seconds, share, 0.2 };
  }
  return f;
}

static NcPlanResult
work_out(const NcPlanFacts *facts, const NcPlanHistory *history, const NcPlanTerms *t)
{
  NcPlanResult r = { 0 };
  nc_plan_work_out(facts, history, t, &r);
  g_test_message("%s; %.1f s +- %.1f, pause %.0f ms, %.1f MB", r.reason, r.forecast.eta_ms / 1000, r.forecast.eta_error_ms / 1000,
                 r.forecast.pause_ms, r.forecast.wire_bytes / MB);
  return r;
}

/* --- the forecast --- */

static void
test_a_quiet_guest(void)
{
  const NcPlanFacts f = facts_of(0.5, 0.25, 0, 25 * MB);
  NcPlanResult r = work_out(&f, &nothing, &terms);

  g_assert_true(r.converges && !r.postcopy);
  g_assert_cmpfloat_with_epsilon(r.forecast.wire_bytes, 125 * MB, MB);
  g_assert_cmpfloat_with_epsilon(r.ratio, 4, 0.1);
  g_assert_cmpfloat(r.forecast.eta_ms, >, 5000); /* of the link alone */
  g_assert_cmpfloat(r.forecast.eta_ms, <, 8500);
  g_assert_cmpfloat(r.forecast.pause_ms, <=, 300);
  g_assert_nonnull(strstr(r.reason, "come to an end"));
  g_free(r.reason);
}

static void
test_without_a_sample(void)
{
  NcPlanFacts f = facts_of(0.5, 0.25, 0, 25 * MB);
  const NcPlanHistory history = { .basis = NC_PLAN_VM, .ratio = 2 };

  f.has_sample = false;
  f.look_count = 0;
  NcPlanResult r = work_out(&f, &nothing, &terms); /* nothing compresses */
  g_assert_cmpfloat_with_epsilon(r.forecast.wire_bytes, 500 * MB, MB);
  g_free(r.reason);
  r = work_out(&f, &history, &terms);
  g_assert_cmpfloat_with_epsilon(r.forecast.wire_bytes, 250 * MB, MB);
  g_free(r.reason);
  f.content_bytes = 0; /* and that could not be looked at either: all of it */
  r = work_out(&f, &history, &terms);
  g_assert_cmpfloat_with_epsilon(r.forecast.wire_bytes, 500 * MB, MB);
  g_free(r.reason);
}

static void
test_a_busy_guest(void)
{
  const NcPlanFacts f = facts_of(0.5, 0.9, 60 * MB, 10 * MB);
  NcPlanTerms t = terms;
  t.algorithm = NC_ALGORITHM_PRECOPY;
  NcPlanResult r = work_out(&f, &nothing, &t);

  g_assert_true(!r.converges && !r.postcopy);
  g_assert_cmpfloat(r.forecast.wire_bytes, ==, 0);
  g_assert_nonnull(strstr(r.reason, "slowed down by"));
  g_free(r.reason);
  t.max_throttle = 0;
  r = work_out(&f, &nothing, &t);
  g_assert_null(strstr(r.reason, "slowed down by"));
  g_free(r.reason);
  t.algorithm = NC_ALGORITHM_AUTO;
  r = work_out(&f, &nothing, &t);
  g_assert_true(r.converges && r.postcopy);
  g_assert_cmpfloat(r.forecast.wire_bytes, >, 450 * MB); /* and what was dirtied meanwhile */
  g_assert_cmpfloat(r.forecast.wire_bytes, <, 500 * MB);
  g_free(r.reason);
  t.may_postcopy = false;
  r = work_out(&f, &nothing, &t);
  g_assert_true(!r.converges && !r.postcopy);
  g_free(r.reason);
}

static void
test_post_copy_at_once(void)
{
  const NcPlanFacts f = facts_of(0.5, 0.9, 60 * MB, 10 * MB);
  NcPlanTerms t = terms;
  t.algorithm = NC_ALGORITHM_POSTCOPY;
  NcPlanResult r = work_out(&f, &nothing, &t);

  g_assert_true(r.converges && r.postcopy);
  g_assert_cmpfloat_with_epsilon(r.forecast.wire_bytes, 450 * MB, MB);
  g_assert_cmpfloat(r.forecast.pause_ms, <, 300);
  g_assert_nonnull(strstr(r.reason, "as asked for"));
  g_free(r.reason);
}

static void
test_limits_and_codecs(void)
{
  const NcPlanFacts f = facts_of(0.5, 0.5, 0, 100 * MB);
  NcPlanTerms t = terms;
  t.limit_bps = (int64_t)(5 * MB);
  NcPlanResult r = work_out(&f, &nothing, &t);

  g_assert_cmpfloat(r.forecast.eta_ms, >, 49000);
  g_assert_cmpfloat_with_epsilon(r.forecast.effective_bps, 10 * MB, MB);
  g_free(r.reason);
  t.compression = "none";
  r = work_out(&f, &nothing, &t);
  g_assert_cmpfloat_with_epsilon(r.ratio, 1, 0.01);
  g_free(r.reason);
  t.compression = "lz4";
  r = work_out(&f, &nothing, &t);
  g_assert_cmpfloat(r.ratio, <, 2);
  g_free(r.reason);
}

/* What was seen on this way before counts, and the band tells that it was not seen now. */
static void
test_a_link_that_was_faster(void)
{
  const NcPlanFacts f = facts_of(0.5, 0.5, 0, 5 * MB);
  const NcPlanHistory history = { .basis = NC_PLAN_VM, .factor = 2, .link_bps = 50 * MB };
  NcPlanResult r = work_out(&f, &history, &terms);

  g_assert_cmpfloat_with_epsilon(r.forecast.wire_bytes, 500 * MB, MB); /* by the factor */
  g_assert_cmpfloat(r.forecast.eta_ms, <, 15000);
  g_assert_cmpfloat(r.forecast.eta_ms + r.forecast.eta_error_ms, >, 90000);
  g_free(r.reason);
}

/* --- earlier migrations --- */

static json_t *
record_of(const char *vm, const char *to, const char *outcome)
{
  return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:f, s:f, s:i, s:i, s:i, s:i, s:i}", "vm", vm, "source", "host-a", "destination", to,
                   "role", "source", "outcome", outcome, "compression", "auto", "coding_factor", 0.8, "ratio", 3.0, "total_ms", 10000,
                   "wire_bytes", 100000000, "stream_bytes", 300000000, "effective_rate_bps", 40000000, "rate_limit_bps", 0);
}

static NcPlanHistory
read_history(json_t *records)
{
  NcPlanHistory h;
  nc_plan_read_history(records, &move, &h);
  json_decref(records);
  return h;
}

static void
test_history(void)
{
  NcPlanHistory h = read_history(json_array());
  g_assert_cmpstr(nc_plan_basis_name(h.basis), ==, "defaults");
  h = read_history(json_pack("[o, o]", record_of("web1", "host-b", "failed"), record_of("web2", "host-c", "completed")));
  g_assert_cmpint(h.basis, ==, NC_PLAN_DEFAULTS);
  h = read_history(json_pack("[o]", record_of("web2", "host-b", "completed")));
  g_assert_cmpstr(nc_plan_basis_name(h.basis), ==, "nodes");
  h = read_history(json_pack("[o, o]", record_of("web2", "host-b", "completed"), record_of("web1", "host-b", "completed")));
  g_assert_cmpstr(nc_plan_basis_name(h.basis), ==, "vm");
  g_assert_cmpfloat_with_epsilon(h.factor, 0.8, 1e-9);
  g_assert_cmpfloat_with_epsilon(h.ratio, 3, 1e-9);
  g_assert_cmpfloat_with_epsilon(h.link_bps, 10 * MB, 1);
  g_assert_cmpfloat_with_epsilon(h.content_bps, 40 * MB, 1);
}

/* What a record counts is its last attempt's: the time before that was none of it. */
static void
test_history_after_retries(void)
{
  json_t *retried = record_of("web1", "host-b", "completed");
  json_object_set_new(retried, "total_ms", json_integer(600000));
  json_object_set_new(retried, "attempt_ms", json_integer(10000));
  NcPlanHistory h = read_history(json_pack("[o]", retried));
  g_assert_cmpfloat_with_epsilon(h.link_bps, 10 * MB, 1);
}

/* Another way, or one that a limit held up, tells of the machine and not of the way. */
static void
test_history_of_another_way(void)
{
  json_t *limited = record_of("web1", "host-b", "completed");
  json_object_set_new(limited, "bandwidth_limit_bps", json_integer(1000));
  NcPlanHistory h = read_history(json_pack("[o, o]", limited, record_of("web1", "host-c", "completed")));

  g_assert_cmpint(h.basis, ==, NC_PLAN_VM);
  g_assert_cmpfloat_with_epsilon(h.factor, 0.8, 1e-9);
  g_assert_cmpfloat(h.link_bps, ==, 0);
  g_assert_cmpfloat(h.content_bps, ==, 0);
}

/* Records of other versions lack this and that, and what other nodes wrote may be anything. */
static void
test_history_of_odd_records(void)
{
  json_t *odd = record_of("web1", "host-b", "completed"), *old = record_of("web1", "host-b", "completed");

  json_object_set_new(odd, "coding_factor", json_string("many"));
  json_object_set_new(odd, "ratio", json_integer(-7));
  json_object_set_new(odd, "total_ms", json_null());
  json_object_del(old, "coding_factor");
  NcPlanHistory h = read_history(json_pack("[n, i, [], o, o]", 7, odd, old));
  g_assert_cmpint(h.basis, ==, NC_PLAN_VM);
  g_assert_cmpfloat(h.factor, ==, 0);
  g_assert_cmpfloat_with_epsilon(h.ratio, 3, 1e-9);
}

/* --- numbers from hell --- */

static void
test_any_input(void)
{
  for (unsigned i = 0; i < 3000; i++) {
    NcPlanFacts f = facts_of(g_test_rand_double(), g_test_rand_double(), g_test_rand_double_range(0, 1e10), g_test_rand_double_range(0, 1e10));
    const NcPlanHistory h = { (NcPlanBasis)g_test_rand_int_range(0, 3), g_test_rand_double_range(0, 10), g_test_rand_double_range(0, 100),
                              g_test_rand_double_range(0, 1e10), g_test_rand_double_range(0, 1e10) };
    NcPlanTerms t = terms;
    t.algorithm = (NcAlgorithm)g_test_rand_int_range(0, NC_ALGORITHM_COUNT);
    t.max_downtime_ms = g_test_rand_int_range(1, 2000000);
    t.limit_bps = g_test_rand_int_range(0, 3) * g_test_rand_int_range(0, 1000000);
    f.has_sample = g_test_rand_bit();
    f.look_count = (unsigned)g_test_rand_int_range(0, NC_PLAN_LOOKS + 1);
    f.ram_bytes = (uint64_t)(guint32)g_test_rand_int() + 1;
    f.content_bytes = g_test_rand_bit() ? f.ram_bytes / 2 : 0;
    NcPlanResult r = { 0 };
    nc_plan_work_out(&f, &h, &t, &r);
    g_assert_true(isfinite(r.forecast.eta_ms) && isfinite(r.forecast.pause_ms) && isfinite(r.forecast.wire_bytes) && isfinite(r.ratio));
    g_assert_true(r.forecast.eta_ms >= 0 && r.forecast.eta_error_ms >= 0 && r.forecast.wire_bytes >= 0);
    g_free(r.reason);
  }
}

static void
test_pause_share(void)
{
  const NcPauseFacts near = { 300, 100000000, 1000000, 200 }, far = { 300, 10000000, 3000000, 100000 }, unknown = { .max_downtime_ms = 1 };

  g_assert_cmpint(nc_pause_limit_ms(&near), ==, 190);
  g_assert_cmpint(nc_pause_likely_overhead_ms(&near), ==, 27);
  g_assert_cmpint(nc_pause_postcopy_ms(&near), ==, 110);
  g_assert_cmpint(nc_pause_postcopy_ms(&far), ==, 700);
  g_assert_cmpint(nc_pause_limit_ms(&far), ==, 30); /* never less than a tenth */
  g_assert_cmpint(nc_pause_likely_overhead_ms(&far), ==, 107);
  g_assert_cmpint(nc_pause_limit_ms(&unknown), ==, 1);
}

/* Little at first; all of it in the end; never more than all. */
static void
test_pause_aim(void)
{
  static const int64_t limits[] = { 1, 20, 30, 200, 100000 };

  g_assert_cmpuint(nc_pause_step(-1), ==, 0);
  g_assert_cmpuint(nc_pause_step(0), ==, 0);
  g_assert_cmpuint(nc_pause_step(INT64_MAX), ==, NC_PAUSE_STEPS - 1);
  for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
    for (unsigned step = 1; step < NC_PAUSE_STEPS; step++)
      g_assert_cmpint(nc_pause_aim_ms(limits[i], step - 1), <=, nc_pause_aim_ms(limits[i], step));
    g_assert_cmpint(nc_pause_aim_ms(limits[i], 0), >, 0);
    g_assert_cmpint(nc_pause_aim_ms(limits[i], NC_PAUSE_STEPS - 1), ==, limits[i]);
  }
  g_assert_cmpint(nc_pause_aim_ms(200, 0), ==, 50);
}

/* --- disks --- */

static void
test_disks_come_on_top(void)
{
  const NcPlanFacts f = facts_of(0.5, 0.25, 0, 25 * MB);
  NcPlanResult without = work_out(&f, &nothing, &terms), with = work_out(&f, &nothing, &terms);
  NcPlanDisk disks[] = { { .bytes = (uint64_t)(300 * MB) }, { .bytes = (uint64_t)(200 * MB) } };

  nc_plan_add_disks(&f, &nothing, &terms, disks, 2, &with);
  g_assert_cmpfloat_with_epsilon(with.disk_ms, 20000, 1);
  g_assert_cmpfloat_with_epsilon(with.disk_wire_bytes, 500 * MB, MB);
  g_assert_cmpfloat_with_epsilon(disks[0].ms, 12000, 1);
  g_assert_cmpfloat_with_epsilon(disks[1].wire_bytes, 200 * MB, MB);
  g_assert_cmpfloat_with_epsilon(with.forecast.eta_ms - without.forecast.eta_ms, 20000, 1);
  g_assert_cmpfloat_with_epsilon(with.forecast.wire_bytes - without.forecast.wire_bytes, 500 * MB, MB);
  g_assert_cmpfloat(with.forecast.eta_error_ms, >, without.forecast.eta_error_ms);
  g_assert_cmpfloat(with.forecast.pause_ms, ==, without.forecast.pause_ms);
  g_free(without.reason);
  g_free(with.reason);
}

static void
test_what_the_guest_writes_is_copied_too(void)
{
  const NcPlanFacts f = facts_of(0.5, 0.25, 0, 25 * MB);
  NcPlanResult r = work_out(&f, &nothing, &terms);
  NcPlanDisk disk = { .bytes = (uint64_t)(100 * MB), .write_bps = 5 * MB };

  nc_plan_add_disks(&f, &nothing, &terms, &disk, 1, &r);
  g_assert_cmpfloat_with_epsilon(disk.ms, 5000, 1);
  g_assert_cmpfloat_with_epsilon(disk.wire_bytes, 125 * MB, MB);
  g_assert_false(disk.is_slowed);
  disk.write_bps = 100 * MB; /* more than the link carries */
  nc_plan_add_disks(&f, &nothing, &terms, &disk, 1, &r);
  g_assert_true(disk.is_slowed);
  g_assert_cmpfloat_with_epsilon(disk.ms, 8000, 1);
  g_free(r.reason);
}

static void
test_earlier_moves_tell_how_far_disks_shrink(void)
{
  const NcPlanFacts f = facts_of(0.5, 0.25, 0, 25 * MB);
  NcPlanHistory history;
  NcPlanResult r = work_out(&f, &nothing, &terms);
  NcPlanDisk disk = { .bytes = (uint64_t)(100 * MB) };
  nc_autojson json_t *records =
      json_pack("[{s:s, s:s, s:s, s:s, s:s, s:s, s:[{s:i, s:i}, {s:i, s:i}]}]", "vm", "web1", "outcome", "completed", "role", "source",
                "source", "host-a", "destination", "host-b", "compression", "auto", "disks", "used_bytes", 3000000, "wire_bytes", 1000000,
                "used_bytes", 5000000, "wire_bytes", 1000000);

  nc_plan_read_history(records, &move, &history);
  g_assert_cmpfloat_with_epsilon(history.disk_ratio, 4, 0.001);
  nc_plan_add_disks(&f, &history, &terms, &disk, 1, &r);
  g_assert_cmpfloat_with_epsilon(disk.ms, 1000, 1);
  g_assert_cmpfloat_with_epsilon(disk.wire_bytes, 25 * MB, MB);
  NcPlanTerms plain = terms;
  plain.compression = "none";
  nc_plan_add_disks(&f, &history, &plain, &disk, 1, &r);
  g_assert_cmpfloat_with_epsilon(disk.wire_bytes, 100 * MB, MB);
  g_free(r.reason);
}

static void
test_no_end_no_time_but_the_disks_are_told(void)
{
  const NcPlanFacts f = facts_of(0.9, 0.9, 200 * MB, MB);
  NcPlanTerms t = terms;
  NcPlanDisk disk = { .bytes = (uint64_t)(100 * MB) };
  t.algorithm = NC_ALGORITHM_PRECOPY;
  NcPlanResult r = work_out(&f, &nothing, &t);
  double eta_ms = r.forecast.eta_ms;

  g_assert_false(r.converges);
  nc_plan_add_disks(&f, &nothing, &t, &disk, 1, &r);
  g_assert_cmpfloat(r.forecast.eta_ms, ==, eta_ms);
  g_assert_cmpfloat_with_epsilon(r.disk_ms, 100000, 10);
  g_free(r.reason);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/plan/quiet", test_a_quiet_guest);
  g_test_add_func("/plan/no_sample", test_without_a_sample);
  g_test_add_func("/plan/busy", test_a_busy_guest);
  g_test_add_func("/plan/post_copy", test_post_copy_at_once);
  g_test_add_func("/plan/limits", test_limits_and_codecs);
  g_test_add_func("/plan/link", test_a_link_that_was_faster);
  g_test_add_func("/plan/any_input", test_any_input);
  g_test_add_func("/plan/history", test_history);
  g_test_add_func("/plan/history-after-retries", test_history_after_retries);
  g_test_add_func("/plan/history/other_way", test_history_of_another_way);
  g_test_add_func("/plan/history/odd", test_history_of_odd_records);
  g_test_add_func("/plan/pause", test_pause_share);
  g_test_add_func("/plan/pause/aim", test_pause_aim);
  g_test_add_func("/plan/disks/on-top", test_disks_come_on_top);
  g_test_add_func("/plan/disks/written-meanwhile", test_what_the_guest_writes_is_copied_too);
  g_test_add_func("/plan/disks/history", test_earlier_moves_tell_how_far_disks_shrink);
  g_test_add_func("/plan/disks/no-end", test_no_end_no_time_but_the_disks_are_told);
  return g_test_run();
}
