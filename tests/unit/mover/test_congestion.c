/* SPDX-License-Identifier: Apache-2.0 */
/* Does a path lose segments by accident? By losses and round trips, second by second. */
#include "mover/congestion.h"

#include <glib.h>

#define SECOND_US 1000000
#define SHORTEST_US 50000
#define EMPTY_US 51000 /* a round trip while the path's queue is empty */
#define FULL_US 95000

typedef struct {
  NcCongestion c;
  uint64_t lost;
  int64_t now_us;
} Path;

/* A second in which ${lost} segments were sent again, with round trips up to ${rtt_us}. */
static bool
second(Path *p, uint64_t lost, uint64_t rtt_us)
{
  bool anew = false;
  for (int i = 0; i < 5; i++) {
    p->now_us += SECOND_US / 5;
    p->lost += i == 2 ? lost : 0;
    anew |= nc_congestion_look(&p->c, p->lost, i == 2 ? rtt_us : EMPTY_US, SHORTEST_US, p->now_us);
  }
  return anew;
}

static void
begin(Path *p, bool bbr)
{
  p->lost = 0;
  nc_congestion_begin(&p->c, bbr);
}

/* Seconds like this until a new connection is advised; 0: not in ${most}. */
static int
until_advice(Path *p, uint64_t lost, uint64_t rtt_us, int most)
{
  for (int i = 1; i <= most; i++)
    if (second(p, lost, rtt_us))
      return i;
  return 0;
}

static void
test_clean_path(void)
{
  Path p = { .now_us = SECOND_US };
  begin(&p, false);
  g_assert_cmpint(until_advice(&p, 0, EMPTY_US, 100), ==, 0);
  g_assert_cmpint(until_advice(&p, 0, FULL_US, 100), ==, 0);
}

/* A loss-based control makes losses itself, by filling the queue. */
static void
test_full_queue(void)
{
  Path p = { .now_us = SECOND_US };
  begin(&p, false);
  g_assert_cmpint(until_advice(&p, 50, FULL_US, 100), ==, 0);
}

static void
test_bursts(void)
{
  Path p = { .now_us = SECOND_US };
  begin(&p, false);
  for (int i = 0; i < 20; i++) {
    g_assert_false(second(&p, 500, EMPTY_US));
    g_assert_false(second(&p, 3, EMPTY_US));
    g_assert_cmpint(until_advice(&p, 0, EMPTY_US, 9), ==, 0);
  }
}

/* Once, soon; not again, whatever the connections after it have. */
static void
test_lossy_path(void)
{
  Path p = { .now_us = SECOND_US };
  begin(&p, false);
  g_assert_cmpint(until_advice(&p, 0, EMPTY_US, 10), ==, 0);
  int after = until_advice(&p, 1, EMPTY_US, 20);
  g_assert_cmpint(after, >=, 3);
  g_assert_cmpint(after, <=, 5);
  g_assert_cmpint(until_advice(&p, 80, EMPTY_US, 50), ==, 0);
  for (int i = 0; i < 4; i++) {
    begin(&p, i % 2 == 0);
    g_assert_cmpint(until_advice(&p, 80, EMPTY_US, 50), ==, 0);
  }
}

static void
test_with_bbr(void)
{
  Path p = { .now_us = SECOND_US };
  begin(&p, true);
  g_assert_cmpint(until_advice(&p, 80, EMPTY_US, 50), ==, 0);
}

/* Nothing is known of the path yet. */
static void
test_no_shortest(void)
{
  NcCongestion c = { 0 };
  nc_congestion_begin(&c, false);
  for (unsigned i = 1; i < 100; i++)
    g_assert_false(nc_congestion_look(&c, i * 10, EMPTY_US, 0, (int64_t)i * SECOND_US));
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/congestion/clean-path", test_clean_path);
  g_test_add_func("/congestion/full-queue", test_full_queue);
  g_test_add_func("/congestion/bursts", test_bursts);
  g_test_add_func("/congestion/lossy-path", test_lossy_path);
  g_test_add_func("/congestion/with-bbr", test_with_bbr);
  g_test_add_func("/congestion/no-shortest", test_no_shortest);
  return g_test_run();
}
