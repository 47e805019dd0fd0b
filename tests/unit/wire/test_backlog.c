/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bound of what waits to be coded, in a loop with what it bounds: what passes is the bound per time that a batch takes, or
 * less where the link or the encoders pass less.
 */
#include "wire/backlog.h"

#define MOST (1280u << 10)
#define STEP_US 5000

typedef struct {
  double through_us; /* from QEMU until written, if nothing waits */
  double encoders;   /* raw bytes per second that can be coded, */
  double link;       /* and that the link takes */
  uint64_t now_us;
  double passed;
  NcBacklog backlog;
} Sim;

static void
sim_init(Sim *s, unsigned pause_budget_ms)
{
  *s = (Sim){ .now_us = 123456789 };
  nc_backlog_init(&s->backlog, pause_budget_ms, MOST, s->now_us);
}

static void
sim_run_ms(Sim *s, unsigned ms)
{
  s->passed = 0;
  for (uint64_t end_us = s->now_us + ms * 1000ull; s->now_us < end_us; s->now_us += STEP_US) {
    double rate = MIN((double)nc_backlog_limit(&s->backlog) * 1e6 / s->through_us, MIN(s->encoders, s->link));
    s->passed += rate * STEP_US / 1e6;
    if (rate < s->link)
      nc_backlog_starved(&s->backlog, STEP_US);
    nc_backlog_acked(&s->backlog, (uint64_t)(rate * STEP_US / 1e6), s->now_us);
  }
}

static void
test_before_anything_is_known(void)
{
  NcBacklog b;

  nc_backlog_init(&b, 300, MOST, 1);
  g_assert_cmpuint(nc_backlog_limit(&b), ==, MOST);
  nc_backlog_acked(&b, 1000, 100000);
  g_assert_cmpuint(nc_backlog_limit(&b), ==, MOST);
  nc_backlog_init(&b, 300, 1, 1);
  g_assert_cmpuint(nc_backlog_limit(&b), ==, NC_BACKLOG_MIN_BYTES);
}

/* Where the link is what is scarce, a tenth of the pause budget waits, and no more. */
static void
test_tenth_of_the_pause(void)
{
  Sim s;

  sim_init(&s, 300);
  s.through_us = 5000;
  s.encoders = 200e6;
  s.link = 20e6;
  sim_run_ms(&s, 10000);
  g_assert_cmpuint(nc_backlog_limit(&s.backlog), >, 590000);
  g_assert_cmpuint(nc_backlog_limit(&s.backlog), <, 610000);
}

/* A pause of QEMU's own leaves the bound where it is. */
static void
test_silence(void)
{
  Sim s;

  sim_init(&s, 300);
  s.through_us = 5000;
  s.encoders = 200e6;
  s.link = 20e6;
  sim_run_ms(&s, 2000);
  uint64_t before = nc_backlog_limit(&s.backlog);
  nc_backlog_begin(&s.backlog, s.now_us += 30000000);
  sim_run_ms(&s, 100);
  g_assert_cmpuint(nc_backlog_limit(&s.backlog), ==, before);
}

/* A batch takes twice as long as is granted: bound and rate must not go down together. */
static void
test_slow_ways_do_not_starve(void)
{
  Sim s;

  sim_init(&s, 300);
  s.through_us = 5000;
  s.encoders = 200e6;
  s.link = 10e6;
  sim_run_ms(&s, 2000);
  s.through_us = 60000;
  sim_run_ms(&s, 30000);
  g_test_message("%.1f MB/s of %.1f", s.passed / 30 / 1e6, s.link / 1e6);
  g_assert_cmpfloat(s.passed / 30, >, 0.9 * s.link);
  s.through_us = 5000;
  sim_run_ms(&s, 10000);
  g_assert_cmpuint(nc_backlog_limit(&s.backlog), <, 310000);
}

/* So does one that had already gone down to the least. */
static void
test_back_from_the_least(void)
{
  Sim s;

  sim_init(&s, 300);
  s.through_us = 60000;
  s.encoders = 100e3;
  s.link = 10e6;
  sim_run_ms(&s, 20000);
  s.encoders = 200e6;
  sim_run_ms(&s, 10000);
  sim_run_ms(&s, 10000);
  g_test_message("%.1f MB/s of %.1f", s.passed / 10 / 1e6, s.link / 1e6);
  g_assert_cmpfloat(s.passed / 10, >, 0.9 * s.link);
}

/* Where the encoders are what is slow, more would only be pause. */
static void
test_slow_encoders(void)
{
  Sim s;

  sim_init(&s, 300);
  s.through_us = 5000;
  s.encoders = 5e6;
  s.link = 10e6;
  sim_run_ms(&s, 20000);
  g_assert_cmpuint(nc_backlog_limit(&s.backlog), <=, 451000); /* 0.09 s */
}

static void
test_any_input(void)
{
  NcBacklog b;
  uint64_t now_us = 0;

  nc_backlog_init(&b, 0, MOST, 0);
  for (unsigned i = 0; i < 200000; i++) {
    now_us += (uint64_t)g_test_rand_int_range(0, 3) * (uint64_t)g_test_rand_int_range(0, 100000);
    switch (g_test_rand_int_range(0, 4)) {
    case 0:
      nc_backlog_begin(&b, now_us);
      break;
    case 1:
      nc_backlog_starved(&b, (uint64_t)(uint32_t)g_test_rand_int() >> g_test_rand_int_range(0, 32));
      break;
    default:
      nc_backlog_acked(&b, (uint64_t)(uint32_t)g_test_rand_int() >> g_test_rand_int_range(0, 32), now_us);
    }
    g_assert_cmpuint(nc_backlog_limit(&b), >=, NC_BACKLOG_MIN_BYTES);
    g_assert_cmpuint(nc_backlog_limit(&b), <=, MOST);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/backlog/before_anything_is_known", test_before_anything_is_known);
  g_test_add_func("/backlog/tenth_of_the_pause", test_tenth_of_the_pause);
  g_test_add_func("/backlog/silence", test_silence);
  g_test_add_func("/backlog/slow_ways_do_not_starve", test_slow_ways_do_not_starve);
  g_test_add_func("/backlog/back_from_the_least", test_back_from_the_least);
  g_test_add_func("/backlog/slow_encoders", test_slow_encoders);
  g_test_add_func("/backlog/any_input", test_any_input);
  return g_test_run();
}
