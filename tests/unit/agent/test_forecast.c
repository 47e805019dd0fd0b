/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forecast against simulated migrations: a guest that writes random pages of a working set, and a QEMU that sends
 * what is dirty, looks for new dirt when little enough is left, and switches over when that fits the limit.
 */
#include "agent/convergence.h"
#include "agent/forecast_dirt.h"
#include "fleet/forecast_move.h"

#include <math.h>

#define STEP_US 10000
#define PAGE 4096.0
#define MB 1e6

typedef struct {
  double total, zeros;         /* bytes of memory, and of those untouched */
  double rate;                 /* content the link takes, bytes per second */
  double dirty, working_set;   /* the guest's, bytes per second and bytes */
  double limit_ms;
  bool is_held;   /* QEMU may not switch over: its limit is 1 ms */
  double cleared; /* free pages that the guest's balloon driver has cleared, by the end of the first round */

  NcForecast *forecast;
  uint64_t now_us;
  uint64_t rounds;
  double left, left_zeros, sent; /* content and untouched pages left in this round */
  double since_sync_s;
  bool is_over;
  double pause_ms;
} Sim;

static Sim *
sim_new(double total, double zeros, double rate, double dirty, double working_set)
{
  Sim *s = g_new0(Sim, 1);
  *s = (Sim){ .total = total, .zeros = zeros, .rate = rate, .dirty = dirty, .working_set = working_set, .limit_ms = 250,
              .now_us = 987654321, .rounds = 1, .left = total - zeros, .left_zeros = zeros };
  s->forecast = nc_forecast_new((uint64_t)(total - zeros), s->now_us);
  nc_forecast_expect_dirt(s->forecast, working_set * (1 - exp(-dirty / working_set))); /* what a sample of a second says */
  return s;
}

static void
sim_free(Sim *s)
{
  nc_forecast_free(s->forecast);
  g_free(s);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sim, sim_free)

static void
sim_sync(Sim *s)
{
  s->left += s->working_set * (1 - exp(-s->dirty * s->since_sync_s / s->working_set));
  if (s->rounds > 1) /* what is still dirty is not dirtied once more */
    s->left = MIN(s->left, s->working_set);
  else
    s->left_zeros += s->cleared;
  s->since_sync_s = 0;
  s->rounds++;
}

static void
sim_step(Sim *s)
{
  double seconds = STEP_US / 1e6, content = MIN(s->left, s->rate * seconds), threshold = s->rate * (s->is_held ? 1 : s->limit_ms) / 1000;

  s->now_us += STEP_US;
  s->since_sync_s += seconds;
  s->left -= content;
  s->sent += content;
  s->left_zeros = MAX(s->left_zeros - 1.5e9 * seconds * (1 - content / (s->rate * seconds)), 0);
  if (s->left + s->left_zeros < threshold) {
    sim_sync(s);
    s->is_over = s->left <= threshold;
    if (g_test_verbose()) g_test_message("t %.2f round %u left %.1f of %.1f", (double)(s->now_us - 987654321) / 1e6, (unsigned)s->rounds, s->left/MB, threshold/MB);
    s->pause_ms = s->left / s->rate * 1000;
  }
  NcForecastSample sample = { .rounds = s->rounds, .remaining_bytes = (uint64_t)(s->left + s->left_zeros), .sent_bytes = (uint64_t)s->sent };
  nc_forecast_sample(s->forecast, &sample, s->now_us);
}

static void
sim_run(Sim *s, double seconds)
{
  for (uint64_t end_us = s->now_us + (uint64_t)(seconds * 1e6); s->now_us < end_us && !s->is_over;)
    sim_step(s);
}

static NcForecastResult
sim_forecast(const Sim *s)
{
  NcForecastResult r;
  nc_forecast_get(s->forecast, s->limit_ms, 0, &r);
  return r;
}

/* From a quarter of the way on, the end is where it was said to be, within a fifth; a third before the first round has ended. */
static void
check_eta(double total, double zeros, double rate, double dirty, double working_set)
{
  g_autoptr(Sim) whole = sim_new(total, zeros, rate, dirty, working_set);
  sim_run(whole, 1000);
  g_assert_true(whole->is_over);
  double length_s = (double)(whole->now_us - 987654321) / 1e6;

  for (double part = 0.25; part < 0.9; part += 0.1) {
    g_autoptr(Sim) s = sim_new(total, zeros, rate, dirty, working_set);
    sim_run(s, part * length_s);
    NcForecastResult r = sim_forecast(s);
    double said_s = part * length_s + r.eta_ms / 1000;
    g_test_message("%.0f MB at %.0f MB/s, %.0f MB/s dirtied of %.0f MB: %.1f s; at %.0f %%: %.1f s", total / MB, rate / MB,
                   dirty / MB, working_set / MB, length_s, part * 100, said_s);
    g_assert_true(r.is_known && r.converges);
    /* What the working set is, only rounds can tell. */
    g_assert_cmpfloat_with_epsilon(said_s, length_s, (s->rounds > 1 ? 0.2 : 0.35) * length_s + 0.5);
  }
}

static void
test_eta(void)
{
  check_eta(1000 * MB, 0, 50 * MB, 1 * MB, 200 * MB);
  check_eta(1000 * MB, 500 * MB, 50 * MB, 5 * MB, 200 * MB);
  check_eta(1000 * MB, 500 * MB, 50 * MB, 30 * MB, 800 * MB);
  check_eta(4000 * MB, 3000 * MB, 100 * MB, 20 * MB, 50 * MB);
  check_eta(300 * MB, 0, 10 * MB, 4 * MB, 64 * MB);
}

/* The last bytes are those that fit: what is said of the pause is what comes. */
static void
test_pause(void)
{
  static const double dirty[] = { 1 * MB, 5 * MB, 20 * MB, 40 * MB };

  for (unsigned i = 0; i < G_N_ELEMENTS(dirty); i++) {
    g_autoptr(Sim) s = sim_new(500 * MB, 0, 60 * MB, dirty[i], 300 * MB);
    NcForecastResult last = { 0 };
    while (!s->is_over) {
      last = sim_forecast(s);
      sim_run(s, 0.1);
    }
    g_test_message("%.0f MB/s dirtied: pause %.0f ms, said %.0f +- %.0f", dirty[i] / MB, s->pause_ms, last.pause_ms, last.pause_error_ms);
    g_assert_cmpfloat_with_epsilon(last.pause_ms, s->pause_ms, MAX(0.25 * s->pause_ms, 50));
  }
}

static void
test_what_never_ends_is_known_after_two_rounds(void)
{
  g_autoptr(Sim) s = sim_new(400 * MB, 0, 20 * MB, 60 * MB, 300 * MB);
  NcForecastResult r;

  while (s->rounds < 3)
    sim_run(s, 0.1);
  r = sim_forecast(s);
  g_assert_true(r.is_known);
  g_assert_false(r.converges);
  g_test_message("needs %.0f MB/s", r.needed_bps / MB);
  g_assert_cmpfloat(r.needed_bps, >, 20 * MB);
  s->rate = r.needed_bps * 1.3; /* and with that it does end */
  sim_run(s, 120);
  g_assert_true(s->is_over);
}

/* A hot set that fits the pause: dirtied faster than the link, and yet no obstacle. */
static void
test_a_small_hot_set_is_no_obstacle(void)
{
  g_autoptr(Sim) s = sim_new(400 * MB, 0, 50 * MB, 200 * MB, 8 * MB);
  sim_run(s, 4);
  g_assert_true(sim_forecast(s).converges);
  sim_run(s, 20);
  g_assert_true(s->is_over);
}

/* Free pages that come as dirt after the first round are none: they neither hold the end up nor slow the guest down. */
static void
test_cleared_free_pages_are_no_dirt(void)
{
  g_autoptr(Sim) s = sim_new(2000 * MB, 0, 50 * MB, 5 * MB, 100 * MB);
  double first_round_s;

  s->cleared = 3000 * MB;
  nc_forecast_expect_dirt(s->forecast, 0); /* a sample would have shown them, too: it is not taken */
  nc_forecast_expect_free_pages(s->forecast);
  while (s->rounds < 2)
    sim_run(s, 0.01);
  first_round_s = (double)(s->now_us - 987654321) / 1e6;
  while (!s->is_over) {
    NcForecastResult r = sim_forecast(s);
    g_test_message("round %u: ETA %.1f s, %.1f MB/s, dirty %.1f MB/s", (unsigned)s->rounds, r.eta_ms / 1000, r.effective_bps / MB, r.dirty_bps / MB);
    g_assert_true(r.converges);
    g_assert_cmpfloat(r.eta_ms / 1000, <, first_round_s / 4);
    g_assert_cmpfloat_with_epsilon(r.effective_bps, 50 * MB, 15 * MB);
    g_assert_cmpfloat(r.dirty_bps, <, 7 * MB);
    sim_run(s, 0.2);
  }
}

static void
test_nothing_is_known_at_first(void)
{
  g_autoptr(Sim) s = sim_new(400 * MB, 0, 50 * MB, 1 * MB, 8 * MB);
  g_assert_false(sim_forecast(s).is_known);
  sim_run(s, 0.3);
  g_assert_false(sim_forecast(s).is_known);
  sim_run(s, 1);
  g_assert_true(sim_forecast(s).is_known);
}

/* A link takes so much, coded; the memory's first fifth can't be compressed, and the rest well. Nobody writes. */
static double
uneven_eta_error(bool with_sample, double part)
{
  const double total = 512 * MB, link = 6 * MB, coded[] = { 0.95, 0.1 };
  double first_s = total / 5 * coded[0] / link, second_s = total * 4 / 5 * coded[1] / link, now_s = part * (first_s + second_s);
  g_autoptr(NcForecast) f = nc_forecast_new((uint64_t)total, 0);
  NcMemoryPlace places[NC_MEMORY_SAMPLE_PLACES];
  NcForecastResult r;

  for (unsigned i = 0; i < NC_MEMORY_SAMPLE_PLACES; i++)
    places[i] = (NcMemoryPlace){ 1, (float)coded[i >= NC_MEMORY_SAMPLE_PLACES / 5] * 1.2f }; /* a lighter compressor than the movers' */
  if (with_sample)
    nc_forecast_know_memory(f, places, (uint64_t)total, (uint64_t)total);
  for (double t = 0; t <= now_s; t += 0.1) {
    double sent = t < first_s ? t * link / coded[0] : total / 5 + (t - first_s) * link / coded[1];
    const NcForecastSample sample = { 1, (uint64_t)(total - sent), (uint64_t)sent, (uint64_t)(t * link) + 1, (uint64_t)(t * 6e5) };
    nc_forecast_sample(f, &sample, (uint64_t)(t * 1e6));
  }
  nc_forecast_get(f, 250, 0, &r);
  double wrong = fabs(now_s + r.eta_ms / 1000 - first_s - second_s) / (first_s + second_s);
  g_test_message("at %.0f %%, %s a sample: wrong by %.0f %%", part * 100, with_sample ? "with" : "without", wrong * 100);
  return wrong;
}

static void
test_a_sample_tells_what_is_ahead(void)
{
  for (double part = 0.25; part < 0.95; part += 0.1)
    g_assert_cmpfloat(uneven_eta_error(true, part), <, 0.1);
  g_assert_cmpfloat(uneven_eta_error(false, 0.25), >, 0.5); /* what the sample is for */
}

/* Of a memory that is all content and is coded to ${coded} everywhere. */
static NcForecast *
forecast_of(double bytes, double coded)
{
  NcForecast *f = nc_forecast_new((uint64_t)bytes, 0);
  NcMemoryPlace places[NC_MEMORY_SAMPLE_PLACES];

  for (unsigned i = 0; i < NC_MEMORY_SAMPLE_PLACES; i++)
    places[i] = (NcMemoryPlace){ 1, (float)coded };
  nc_forecast_know_memory(f, places, (uint64_t)bytes, (uint64_t)bytes);
  return f;
}

/* Processors take 100 MB/s of whatever it is, and the link is never waited for: that its first half compresses well says nothing about the link. */
static void
test_a_link_that_nobody_waits_for_is_not_the_limit(void)
{
  g_autoptr(NcForecast) f = nc_forecast_new((uint64_t)(1000 * MB), 0);
  NcMemoryPlace places[NC_MEMORY_SAMPLE_PLACES];
  NcForecastResult r;

  for (unsigned i = 0; i < NC_MEMORY_SAMPLE_PLACES; i++)
    places[i] = (NcMemoryPlace){ 1, i < NC_MEMORY_SAMPLE_PLACES / 2 ? 0.2f : 0.35f };
  nc_forecast_know_memory(f, places, (uint64_t)(1000 * MB), (uint64_t)(1000 * MB));
  for (uint64_t t = 0; t < 40; t++) {
    const NcForecastSample sample = { 1, (uint64_t)(1000 * MB) - t * 10000000, t * 10000000, t * 2000000 + 1, t * 5000 };
    nc_forecast_sample(f, &sample, t * 100000);
  }
  nc_forecast_get(f, 100, 0, &r);
  g_assert_cmpfloat_with_epsilon(r.eta_ms, 6100 + 300, 640);
}

/* Looks are wrong by chance, and the fastest of them most; nor is it the longest one's fault. */
static void
test_what_explains_all_looks(void)
{
  static const double chance[] = { 1.5, 0.8, 1.25, 0.9, 1.05 };
  NcDirtPoint points[G_N_ELEMENTS(chance)];
  double seconds = 0.5, sum = 0;

  for (unsigned i = 0; i < G_N_ELEMENTS(points); i++, seconds *= 2) { /* 3 MB/s into 30 MB */
    double bytes = 30 * MB * (1 - exp(-3 * seconds / 30)) * chance[i];
    points[i] = (NcDirtPoint){ seconds, bytes, 0.02 + 0.2 * MB / bytes };
    sum = MAX(sum, bytes / seconds);
  }
  NcDirt dirt = nc_dirt_fit(points, G_N_ELEMENTS(points));
  g_test_message("%.2f MB/s, %.1f MB; the fastest look: %.2f MB/s", dirt.rate / MB, dirt.working_set / MB, sum / MB);
  g_assert_cmpfloat_with_epsilon(dirt.rate, 3 * MB, 0.6 * MB);
  g_assert_cmpfloat_with_epsilon(dirt.working_set, 30 * MB, 9 * MB);
  g_assert_cmpfloat(sum, >, 4 * MB);
  dirt = nc_dirt_fit(points, 1);
  g_assert_cmpfloat_with_epsilon(dirt.rate, points[0].bytes / 0.5, 1);
  g_assert_cmpfloat(dirt.working_set, ==, 0);
  g_assert_cmpfloat(nc_dirt_fit(points, 0).rate, ==, 0);
}

/* A guest that was quiet and now writes five times as much: three long rounds are enough to see most of that. */
static void
test_a_guest_that_becomes_busy(void)
{
  g_autoptr(NcForecast) f = forecast_of(2000 * MB, 0.5);
  NcForecastResult r;
  double sent = 0;

  for (double t = 0.5; t < 70; t *= 2) { /* 2 MB/s */
    const NcMemoryChange change = { t, 2 * t / 2000, 0.5, 0.5 };
    nc_forecast_see_change(f, &change);
  }
  for (unsigned round = 1; round <= 5; round++) /* of 20 s, sampled twice a second; the second has still the quiet guest's dirt, the others 10 MB/s */
    for (unsigned i = 0; i < 40; i++) {
      double left = round == 1 ? 2000 * MB : round == 2 ? 40 * MB : 200 * MB;
      const NcForecastSample sample = { round, (uint64_t)(left * (40 - i) / 40), (uint64_t)sent, (uint64_t)(sent / 2) + 1, 0 };
      nc_forecast_sample(f, &sample, (uint64_t)((round - 1) * 40 + i) * 500000);
      sent += left / 40;
    }
  nc_forecast_get(f, 100, 0, &r);
  g_test_message("%.1f MB/s", r.dirty_bps / MB);
  g_assert_cmpfloat(r.dirty_bps, >, 7 * MB);
}

/* 200 MB at 10 MB/s, nothing compresses; 6 MB/s into 40 MB which are ${where} in the memory. The wire bytes to come, after 5 s. */
static double
wire_bytes_if_dirty_is(double where)
{
  g_autoptr(NcForecast) f = forecast_of(200 * MB, 1);
  NcForecastResult r;

  for (double t = 0.5; t < 5; t *= 2) {
    const NcMemoryChange change = { t, 0.2 * (1 - exp(-6.0 * t / 40)), 1, where };
    nc_forecast_see_change(f, &change);
  }
  for (uint64_t t = 0; t < 50; t++) {
    const NcForecastSample sample = { 1, (uint64_t)(200 * MB) - t * 1000000, t * 1000000, t * 1000000 + 1, t * 80000 };
    nc_forecast_sample(f, &sample, t * 100000);
  }
  nc_forecast_get(f, 100, 0, &r);
  g_assert_true(r.is_known && r.converges);
  return r.wire_bytes;
}

/* What is written before it is sent for the first time is sent again as it was. */
static void
test_what_is_sent_late_is_still_new(void)
{
  double early = wire_bytes_if_dirty_is(0.05), middle = wire_bytes_if_dirty_is(0.5), late = wire_bytes_if_dirty_is(0.95);

  g_test_message("early %.0f MB, in the middle %.0f MB, late %.0f MB", early / MB, middle / MB, late / MB);
  g_assert_cmpfloat(middle, <, early - 2 * MB);
  g_assert_cmpfloat(late, <, middle - 10 * MB);
  g_assert_cmpfloat(late, >, 150 * MB);
}

/* What a look at the memory shows is as good as a round. */
static void
test_looks_tell_rate_and_working_set(void)
{
  g_autoptr(NcForecast) f = forecast_of(1000 * MB, 0.5);
  NcForecastResult r;

  for (double t = 0.5; t < 9; t *= 2) { /* 30 MB/s into 80 MB */
    const NcMemoryChange change = { t, 0.08 * (1 - exp(-30.0 * t / 80)), 0.2 };
    nc_forecast_see_change(f, &change);
  }
  for (uint64_t t = 0; t < 20; t++) {
    const NcForecastSample sample = { 1, (uint64_t)(1000 * MB) - t * 5000000, t * 5000000, t * 2500000, t * 125000 };
    nc_forecast_sample(f, &sample, t * 250000);
  }
  nc_forecast_get(f, 250, 0, &r);
  g_assert_cmpfloat_with_epsilon(r.dirty_bps, 30 * MB, 4 * MB);
  g_assert_cmpfloat_with_epsilon((double)r.working_set_bytes, 80 * MB, 12 * MB);
}

/* When the second round begins the link still carries the first one's last bytes: they are not the price of pages sent again. */
static void
test_the_link_is_behind_at_the_end_of_the_first_round(void)
{
  g_autoptr(NcForecast) f = forecast_of(200 * MB, 0.5);
  NcForecastResult r;

  const NcMemoryChange change = { 1, 0.05, 0.2 }; /* 10 MB/s */
  nc_forecast_see_change(f, &change);
  for (uint64_t t = 0; t < 40; t++) {
    const NcForecastSample sample = { 1, (uint64_t)(200 * MB) - t * 5000000, t * 5000000, t * 2000000 + 1, t * 50000 };
    nc_forecast_sample(f, &sample, t * 100000);
  }
  for (uint64_t t = 0; t < 4; t++) { /* 20 MB of 100 were still to come */
    const NcForecastSample sample = { 2, (uint64_t)(40 * MB), (uint64_t)(200 * MB) + t * 10000, 80000000 + t * 6000000, 2000000 + t * 50000 };
    nc_forecast_sample(f, &sample, 4000000 + t * 100000);
  }
  nc_forecast_get(f, 250, 0, &r);
  g_assert_true(r.is_known && r.converges);
  g_assert_cmpfloat(r.pause_ms, <=, 250);
}

/* Numbers from hell: no trap, and nothing that is no number. */
static void
any_memory(NcForecast *f)
{
  const NcMemoryChange change = { g_test_rand_double_range(0.001, 100), g_test_rand_double(), g_test_rand_double_range(0, 2) };
  NcMemoryPlace places[NC_MEMORY_SAMPLE_PLACES];

  for (unsigned i = 0; i < NC_MEMORY_SAMPLE_PLACES; i++)
    places[i] = (NcMemoryPlace){ (float)g_test_rand_double(), (float)g_test_rand_double() };
  if (g_test_rand_int_range(0, 1000) == 0)
    nc_forecast_know_memory(f, places, (uint64_t)g_test_rand_int_range(0, 3) << 20, (uint64_t)g_test_rand_int_range(0, 3) << 21);
  if (g_test_rand_int_range(0, 100) == 0)
    nc_forecast_see_change(f, &change);
}

static void
test_any_input(void)
{
  g_autoptr(NcForecast) f = nc_forecast_new((uint64_t)g_test_rand_int() << 20, 0);
  NcForecastSample sample = { 0 };
  uint64_t now_us = 0;

  for (unsigned i = 0; i < 20000; i++) {
    NcForecastResult r;
    if (i == 10000)
      nc_forecast_expect_free_pages(f);
    now_us += (uint64_t)g_test_rand_int_range(0, 3) * (uint64_t)g_test_rand_int_range(0, 2000000);
    sample.rounds += (uint64_t)g_test_rand_int_range(0, 2);
    sample.remaining_bytes = (uint64_t)(uint32_t)g_test_rand_int() << g_test_rand_int_range(0, 32);
    sample.sent_bytes = (uint64_t)(uint32_t)g_test_rand_int() << g_test_rand_int_range(0, 32);
    sample.wire_bytes = (uint64_t)(uint32_t)g_test_rand_int() << g_test_rand_int_range(0, 32);
    sample.link_wait_us = (uint64_t)(uint32_t)g_test_rand_int() << g_test_rand_int_range(0, 32);
    any_memory(f);
    nc_forecast_sample(f, &sample, now_us);
    nc_forecast_get(f, g_test_rand_int_range(0, 5000), g_test_rand_int_range(0, 500), &r);
    g_assert_true(isfinite(r.eta_ms) && isfinite(r.pause_ms) && isfinite(r.needed_bps) && isfinite(r.dirty_bps));
    g_assert_true(r.eta_ms >= 0 && r.pause_ms >= 0);
  }
}

/* --- what to do about it --- */

static NcConvergenceAction
decide(const NcForecastResult *f, int most, int now, int64_t elapsed_ms, int *ret_throttle)
{
  const NcConvergenceLimits limits = { .max_throttle = most, .timeout_ms = 60000 };
  NcConvergenceDecision d;
  nc_convergence_decide(f, &limits, now, elapsed_ms, &d);
  g_test_message("%s: %s", nc_convergence_action_name(d.action), d.reason);
  g_assert_nonnull(d.reason);
  g_free(d.reason);
  if (ret_throttle)
    *ret_throttle = d.throttle;
  return d.action;
}

static const NcForecastResult good = { .is_known = true, .converges = true, .effective_bps = 50 * MB, .dirty_bps = 5 * MB, .eta_ms = 9000 };
static const NcForecastResult bad = { .is_known = true, .effective_bps = 10 * MB, .dirty_bps = 20 * MB, .needed_bps = 22 * MB };

static void
test_decisions(void)
{
  static const NcForecastResult early = { 0 };
  int throttle;

  g_assert_cmpint(decide(&early, 70, 0, 0, NULL), ==, NC_CONVERGENCE_GO_ON);
  g_assert_cmpint(decide(&good, 70, 0, 59999, NULL), ==, NC_CONVERGENCE_GO_ON);
  g_assert_cmpint(decide(&good, 70, 0, 60000, NULL), ==, NC_CONVERGENCE_STOP);
  g_assert_cmpint(decide(&bad, 70, 0, 1000, &throttle), ==, NC_CONVERGENCE_THROTTLE);
  g_assert_cmpint(throttle, ==, 60); /* 20 MB/s become 8 */
  g_assert_cmpint(decide(&bad, 50, 0, 1000, &throttle), ==, NC_CONVERGENCE_THROTTLE);
  g_assert_cmpint(throttle, ==, 50); /* and no more than is allowed */
  g_assert_cmpint(decide(&bad, 70, 70, 1000, &throttle), ==, NC_CONVERGENCE_WAIT);
  g_assert_cmpint(throttle, ==, 70);
  g_assert_cmpint(decide(&bad, 0, 0, 1000, NULL), ==, NC_CONVERGENCE_WAIT);
  g_assert_cmpint(decide(&bad, 0, 0, 60000, NULL), ==, NC_CONVERGENCE_STOP);
}

/* An hour for the first round: five minutes for the rest are no measure. */
static void
test_what_converges_slowly_has_time(void)
{
  const NcConvergenceLimits limits = { .timeout_ms = 60000, .first_round_ms = 3600000 };
  NcConvergenceDecision d;

  nc_convergence_decide(&good, &limits, 0, 7199999, &d);
  g_assert_cmpint(d.action, ==, NC_CONVERGENCE_GO_ON);
  g_free(d.reason);
  nc_convergence_decide(&good, &limits, 0, 7200000, &d);
  g_assert_cmpint(d.action, ==, NC_CONVERGENCE_STOP);
  g_free(d.reason);
  nc_convergence_decide(&bad, &limits, 0, 60000, &d);
  g_assert_cmpint(d.action, ==, NC_CONVERGENCE_STOP);
  g_free(d.reason);
}

static void
test_throttle_only_grows_and_ends(void)
{
  int throttle = 0, steps = 0;
  while (decide(&bad, 99, throttle, 1000, &throttle) == NC_CONVERGENCE_THROTTLE)
    g_assert_cmpint(++steps, <, 10);
  g_assert_cmpint(throttle, ==, 99);
}

static void
test_stop_says_what_it_would_need(void)
{
  const NcConvergenceLimits limits = { .max_throttle = 0, .timeout_ms = 1 };
  NcConvergenceDecision d;
  nc_convergence_decide(&bad, &limits, 0, 1, &d);
  g_assert_cmpstr(d.reason, ==, "will not converge: dirty rate 20.0 MB/s, effective rate 10.0 MB/s, it would need 22.0 MB/s");
  g_free(d.reason);
}

/* What the fleet's planner expects of a machine that it only knows by description is what a node would expect of the same. */
static void
test_the_fleet_expects_the_same(void)
{
  static const double dirty[] = { 0, 1 * MB, 5 * MB, 20 * MB, 45 * MB, 300 * MB };
  unsigned converging = 0;

  for (unsigned i = 0; i < G_N_ELEMENTS(dirty); i++) {
    const NcGuest guest = { .content_bytes = 2000 * MB, .dirty_bps = dirty[i], .working_set_bytes = 1000 * MB, .ratio = 2, .max_downtime_s = 0.3 };
    const NcForecastPrior prior = { .total_bytes = 2000000000, .link_bps = 20 * MB, .content_bps = NC_MOVE_MOST_CONTENT_BPS, .ratio = 2 };
    g_autoptr(NcForecast) f = nc_forecast_new(2000000000, 0);
    NcForecastResult node;
    NcMoveForecast fleet;
    nc_forecast_expect_dirt(f, dirty[i]);
    nc_forecast_assume(f, &prior);
    nc_forecast_get(f, nc_move_budget_s(&guest, 0) * 1000, nc_move_pause_overhead_s(0) * 1000, &node);
    nc_move_forecast(&guest, 20 * MB, 0, &fleet);
    g_assert_cmpint(fleet.converges, ==, node.converges);
    converging += fleet.converges;
    if (!fleet.converges)
      continue;
    g_assert_cmpfloat_with_epsilon((fleet.seconds - NC_MOVE_PREPARE_S) * 1000, node.eta_ms, 1);
    g_assert_cmpfloat_with_epsilon(fleet.pause_s * 1000, node.pause_ms, 1);
    g_assert_cmpfloat_with_epsilon(fleet.wire_bytes, node.wire_bytes, 0.01 * node.wire_bytes);
  }
  g_assert_cmpuint(converging, >, 2);
  g_assert_cmpuint(converging, <, G_N_ELEMENTS(dirty));
}

/* While it waits for its turn a migration sends what its guest dirties, which says nothing of the link; afterwards it ends at once. */
static void
test_who_is_held_knows_its_link(void)
{
  for (unsigned told = 0; told < 2; told++) {
    g_autoptr(Sim) s = sim_new(1000 * MB, 0, 100 * MB, 20 * MB, 60 * MB);
    s->is_held = true;
    sim_run(s, 10.1); /* the first round has ended */
    g_assert_false(s->is_over);
    nc_forecast_hold(s->forecast, told);
    sim_run(s, 10);
    NcForecastResult r = sim_forecast(s);
    g_assert_true(r.is_known);
    if (told) {
      g_assert_true(r.converges);
      g_assert_cmpfloat_with_epsilon(r.effective_bps, 100 * MB, 20 * MB);
      g_assert_cmpfloat(r.eta_ms, <, 1000);
      s->is_held = false;
      sim_run(s, 0.5);
      g_assert_true(s->is_over);
    } else {
      g_assert_cmpfloat(r.effective_bps, <, 50 * MB);
    }
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/forecast/eta", test_eta);
  g_test_add_func("/forecast/pause", test_pause);
  g_test_add_func("/forecast/never", test_what_never_ends_is_known_after_two_rounds);
  g_test_add_func("/forecast/small_hot_set", test_a_small_hot_set_is_no_obstacle);
  g_test_add_func("/forecast/free_pages", test_cleared_free_pages_are_no_dirt);
  g_test_add_func("/forecast/unknown", test_nothing_is_known_at_first);
  g_test_add_func("/forecast/any_input", test_any_input);
  g_test_add_func("/forecast/a-sample-tells-what-is-ahead", test_a_sample_tells_what_is_ahead);
  g_test_add_func("/forecast/link-is-not-the-limit", test_a_link_that_nobody_waits_for_is_not_the_limit);
  g_test_add_func("/forecast/what-explains-all-looks", test_what_explains_all_looks);
  g_test_add_func("/forecast/becomes-busy", test_a_guest_that_becomes_busy);
  g_test_add_func("/forecast/late-is-new", test_what_is_sent_late_is_still_new);
  g_test_add_func("/forecast/looks-tell-rate-and-working-set", test_looks_tell_rate_and_working_set);
  g_test_add_func("/forecast/the-link-is-behind", test_the_link_is_behind_at_the_end_of_the_first_round);
  g_test_add_func("/forecast/who_is_held_knows_its_link", test_who_is_held_knows_its_link);
  g_test_add_func("/convergence/decisions", test_decisions);
  g_test_add_func("/convergence/slow", test_what_converges_slowly_has_time);
  g_test_add_func("/convergence/throttle_ends", test_throttle_only_grows_and_ends);
  g_test_add_func("/convergence/stop", test_stop_says_what_it_would_need);
  g_test_add_func("/forecast/the_fleet_expects_the_same", test_the_fleet_expects_the_same);
  return g_test_run();
}
