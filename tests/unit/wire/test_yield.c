/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Giving way on a simulated bottleneck: a rate, a queue without end, other traffic
 * that takes what it takes. Who gives way must leave the queue short, take what is left, and come back.
 */
#include "wire/yield.h"

#define STEP_US 1000
#define PING_US 100000

typedef struct {
  double link_bps, other_bps, offer_bps; /* offer: what we would send */
  uint64_t base_us, ceiling_bps, jitter_us;

  NcYield yield;
  uint64_t now_us, next_ping_us, rate_bps;
  double queue, sent;
  double measured, worst_queue; /* since sim_measure() */
  uint64_t measured_from_us;
} Sim;

static Sim
sim_new(double link_bps, uint64_t base_us, uint64_t ceiling_bps)
{
  Sim s = { .link_bps = link_bps, .base_us = base_us, .ceiling_bps = ceiling_bps, .offer_bps = 1e12 };
  s.now_us = s.next_ping_us = 123456789;
  s.rate_bps = ceiling_bps;
  nc_yield_init(&s.yield);
  nc_yield_base(&s.yield, base_us, s.now_us);
  return s;
}

/* TCP fills the queue to some 100 ms and no further, whatever the rate limit. */
static double
sim_our_rate(const Sim *s)
{
  double most =
      MIN(s->offer_bps, s->link_bps - MIN(s->other_bps, s->link_bps * 0.9) + (s->queue < s->link_bps / 10 ? 1e6 : 0));
  return s->rate_bps > 0 ? MIN((double)s->rate_bps, most) : most;
}

static void
sim_run_ms(Sim *s, unsigned ms)
{
  for (uint64_t end_us = s->now_us + ms * 1000ull; s->now_us < end_us; s->now_us += STEP_US) {
    double ours = sim_our_rate(s) * STEP_US / 1e6;
    s->sent += ours;
    s->queue = MAX(s->queue + ours + (s->other_bps - s->link_bps) * STEP_US / 1e6, 0);
    s->worst_queue = MAX(s->worst_queue, s->queue);
    if (s->now_us < s->next_ping_us)
      continue;
    s->next_ping_us += PING_US;
    uint64_t rtt_us = s->base_us + (uint64_t)(s->queue * 1e6 / s->link_bps);
    if (s->jitter_us > 0)
      rtt_us += (uint64_t)g_test_rand_int_range(0, (gint32)s->jitter_us);
    nc_yield_rtt(&s->yield, rtt_us, s->now_us);
    s->rate_bps = nc_yield_rate(&s->yield, s->ceiling_bps, (uint64_t)s->sent, s->now_us);
  }
}

static void
sim_measure(Sim *s)
{
  s->measured = s->sent;
  s->measured_from_us = s->now_us;
  s->worst_queue = 0;
}

static double
sim_rate(const Sim *s)
{
  return (s->sent - s->measured) * 1e6 / (double)(s->now_us - s->measured_from_us);
}

static double
sim_worst_queue_ms(const Sim *s)
{
  return s->worst_queue * 1000 / s->link_bps;
}

/* Alone on the link: it is used, and its queue stays near the target. */
static void
test_alone(void)
{
  Sim s = sim_new(12.5e6, 20000, 0);

  sim_run_ms(&s, 20000);
  sim_measure(&s);
  sim_run_ms(&s, 60000);
  g_test_message("%.1f %% used, queue up to %.1f ms", 100 * sim_rate(&s) / s.link_bps, sim_worst_queue_ms(&s));
  g_assert_cmpfloat(sim_rate(&s), >, 0.75 * s.link_bps);
  g_assert_cmpfloat(sim_worst_queue_ms(&s), <, 3 * NC_YIELD_TARGET_US / 1000.0);
}

/* Others want all: down to what leaves them undisturbed; gone, everything is back within half a minute. */
static void
test_gives_way_and_comes_back(void)
{
  Sim s = sim_new(12.5e6, 20000, 10000000);

  sim_run_ms(&s, 5000);
  sim_measure(&s);
  s.other_bps = 12e6;
  sim_run_ms(&s, 20000);
  sim_measure(&s);
  sim_run_ms(&s, 20000);
  g_assert_cmpfloat(sim_rate(&s), <, 1.2e6);
  s.other_bps = 0;
  sim_run_ms(&s, 30000);
  g_assert_cmpuint(s.rate_bps, ==, 10000000);
}

static void
test_floor(void)
{
  Sim s = sim_new(12.5e6, 20000, 0);

  s.other_bps = 13e6; /* the queue never ends */
  sim_run_ms(&s, 30000);
  g_assert_cmpuint(s.rate_bps, ==, (uint64_t)NC_YIELD_FLOOR_BPS);
  s = sim_new(12.5e6, 20000, 1000); /* a ceiling below the floor is still one */
  s.other_bps = 13e6;
  sim_run_ms(&s, 30000);
  g_assert_cmpuint(s.rate_bps, ==, 1000);
}

/* A limit that the link has room for, and a path that jitters by less than the target: nothing to give way to. */
static void
test_no_queue_no_yielding(void)
{
  Sim s = sim_new(12.5e6, 20000, 10000000);

  s.jitter_us = 20000;
  for (unsigned i = 0; i < 100; i++) {
    sim_run_ms(&s, 1000);
    g_assert_cmpuint(s.rate_bps, ==, 10000000);
  }
}

/* A queue of our own must not become the measure of all queues. */
static void
test_base_is_remembered(void)
{
  Sim s = sim_new(12.5e6, 20000, 0);

  s.other_bps = 12.4e6;
  s.queue = 12.5e6 / 10;
  sim_run_ms(&s, 5 * 60000);
  s.queue = 12.5e6 / 10;
  sim_run_ms(&s, 1000);
  g_assert_cmpuint(s.rate_bps, <=, 1000000);
}

static void
test_no_limit_stays_none(void)
{
  Sim s = sim_new(125e6, 20000, 0);

  s.offer_bps = 1e6;
  sim_run_ms(&s, 10000);
  g_assert_cmpuint(s.rate_bps, ==, 0);
}

/* Whatever comes: within floor and ceiling, and no arithmetic that traps. */
static void
test_any_input(void)
{
  NcYield y;
  uint64_t now_us = 0, sent = 0;

  nc_yield_init(&y);
  for (unsigned i = 0; i < 200000; i++) {
    uint64_t ceiling = g_test_rand_bit() ? 0 : (uint64_t)(uint32_t)g_test_rand_int() >> g_test_rand_int_range(0, 32);
    now_us += (uint64_t)g_test_rand_int_range(0, 3) * (uint64_t)g_test_rand_int_range(0, 10000000);
    sent += (uint64_t)(uint32_t)g_test_rand_int() >> g_test_rand_int_range(0, 32);
    nc_yield_rtt(&y, (uint64_t)(uint32_t)g_test_rand_int() >> g_test_rand_int_range(0, 32), now_us);
    uint64_t rate = nc_yield_rate(&y, ceiling, sent, now_us);
    g_assert_cmpuint(rate, <=, ceiling > 0 ? ceiling : NC_BUCKET_MAX_RATE);
    g_assert_true(rate > 0 || ceiling == 0);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/yield/alone", test_alone);
  g_test_add_func("/yield/gives_way_and_comes_back", test_gives_way_and_comes_back);
  g_test_add_func("/yield/floor", test_floor);
  g_test_add_func("/yield/no_queue_no_yielding", test_no_queue_no_yielding);
  g_test_add_func("/yield/base_is_remembered", test_base_is_remembered);
  g_test_add_func("/yield/no_limit_stays_none", test_no_limit_stays_none);
  g_test_add_func("/yield/any_input", test_any_input);
  return g_test_run();
}
