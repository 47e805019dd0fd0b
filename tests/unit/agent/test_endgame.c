/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose last round may begin. For any order of events: no two have their endgame at a time on a node, and whatever a controller does or
 * does not say, everybody that is near its end may go on within the bounds of endgame.h.
 */
#include "agent/endgame.h"

#include <glib.h>

#define SECOND INT64_C(1000000)

typedef struct {
  NcEndgame endgame;
  NcBandwidthClaim *claim;
  uint64_t rate_bps;
} Mover;

static int64_t now_us; /* of all of them */

static void
take_rate(uint64_t rate_bps, void *user_data)
{
  ((Mover *)user_data)->rate_bps = rate_bps;
}

static void
mover_begin(Mover *m, NcBandwidth *b, bool is_controlled)
{
  nc_endgame_init(&m->endgame);
  if (is_controlled)
    nc_endgame_set_controlled(&m->endgame, now_us);
  m->claim = nc_bandwidth_claim(b, NC_QOS_NORMAL, 0, take_rate, m);
}

static void
mover_end(Mover *m)
{
  nc_endgame_end(&m->endgame, m->claim);
  g_clear_pointer(&m->claim, nc_bandwidth_release);
  nc_endgame_clear(&m->endgame);
}

static NcEndgameAnswer
look(Mover *m, NcEndgameNeed need)
{
  return nc_endgame_look(&m->endgame, m->claim, need, now_us);
}

static NcBandwidth *
make_register(const char *text, NcConfig **ret_config)
{
  now_us = 1000 * SECOND;
  *ret_config = nc_config_parse("c", text, NULL);
  return nc_bandwidth_new(*ret_config);
}

static void
test_who_is_alone_is_not_held(void)
{
  g_autoptr(NcConfig) config = NULL;
  NcBandwidth *b = make_register("", &config);
  Mover one, two;

  mover_begin(&one, b, false);
  g_assert_cmpint(look(&one, NC_ENDGAME_FAR), ==, NC_ENDGAME_WITHOUT);
  g_assert_cmpint(look(&one, NC_ENDGAME_NEAR), ==, NC_ENDGAME_HAS);
  mover_begin(&two, b, false);
  g_assert_cmpint(look(&one, NC_ENDGAME_FAR), ==, NC_ENDGAME_HOLD);
  g_assert_cmpint(look(&one, NC_ENDGAME_OPEN), ==, NC_ENDGAME_WITHOUT);
  mover_end(&two);
  g_assert_cmpint(look(&one, NC_ENDGAME_FAR), ==, NC_ENDGAME_WITHOUT);
  mover_end(&one);
  nc_bandwidth_free(b);
}

/* With three quarters of what is usable, and its part of the rest; its own limit holds all the same. */
static void
test_they_take_turns(void)
{
  g_autoptr(NcConfig) config = NULL;
  NcBandwidth *b = make_register("bandwidth_total = 9000\nbandwidth_reserve = 0\n", &config);
  Mover movers[3];

  for (unsigned i = 0; i < 3; i++)
    mover_begin(&movers[i], b, false);
  g_assert_cmpint(look(&movers[1], NC_ENDGAME_NEAR), ==, NC_ENDGAME_HAS);
  g_assert_cmpuint(movers[1].rate_bps, ==, 6750 + 750);
  g_assert_cmpuint(movers[0].rate_bps, ==, 750);
  nc_bandwidth_change(movers[1].claim, NC_QOS_NORMAL, 5000);
  g_assert_cmpuint(movers[1].rate_bps, ==, 5000);
  g_assert_cmpuint(movers[0].rate_bps, ==, 2000);
  g_assert_cmpint(look(&movers[2], NC_ENDGAME_NEAR), ==, NC_ENDGAME_WAIT);
  now_us += SECOND / 2;
  g_assert_cmpint(look(&movers[0], NC_ENDGAME_NEAR), ==, NC_ENDGAME_WAIT);
  g_assert_cmpint(look(&movers[2], NC_ENDGAME_NEAR), ==, NC_ENDGAME_WAIT);
  g_assert_cmpint(nc_endgame_waited_us(&movers[2].endgame), ==, SECOND / 2);
  nc_endgame_end(&movers[1].endgame, movers[1].claim);
  g_assert_cmpint(look(&movers[0], NC_ENDGAME_NEAR), ==, NC_ENDGAME_WAIT); /* the other one asked first */
  g_assert_cmpint(look(&movers[2], NC_ENDGAME_NEAR), ==, NC_ENDGAME_HAS);
  mover_end(&movers[2]); /* it dies with its claim */
  g_assert_cmpint(look(&movers[0], NC_ENDGAME_NEAR), ==, NC_ENDGAME_HAS);
  g_assert_cmpint(look(&movers[0], NC_ENDGAME_FAR), ==, NC_ENDGAME_HOLD); /* and goes back where its guest has become busy */
  g_assert_cmpuint(movers[0].rate_bps, ==, 4500);
  mover_end(&movers[0]);
  mover_end(&movers[1]);
  nc_bandwidth_free(b);
}

static void
test_the_controller_is_asked_first(void)
{
  g_autoptr(NcConfig) config = NULL;
  NcBandwidth *b = make_register("", &config);
  Mover one, two;

  mover_begin(&one, b, true);
  mover_begin(&two, b, false);
  g_assert_cmpint(look(&one, NC_ENDGAME_FAR), ==, NC_ENDGAME_HOLD);
  g_assert_false(nc_endgame_hear(&one.endgame, true, true, now_us)); /* of one that has not asked for it that is none */
  g_assert_cmpint(look(&one, NC_ENDGAME_NEAR), ==, NC_ENDGAME_WAIT);
  g_assert_cmpint(look(&two, NC_ENDGAME_NEAR), ==, NC_ENDGAME_HAS); /* it is in nobody's way while it waits for a word */
  g_assert_true(nc_endgame_hear(&one.endgame, false, false, now_us));
  g_assert_true(nc_endgame_hear(&one.endgame, true, true, now_us));
  g_assert_cmpint(look(&one, NC_ENDGAME_NEAR), ==, NC_ENDGAME_WAIT);
  mover_end(&two);
  g_assert_cmpint(look(&one, NC_ENDGAME_NEAR), ==, NC_ENDGAME_HAS);
  g_assert_true(nc_endgame_hear(&one.endgame, true, false, now_us)); /* another controller, say: it has begun */
  g_assert_cmpint(look(&one, NC_ENDGAME_NEAR), ==, NC_ENDGAME_HAS);
  nc_endgame_end(&one.endgame, one.claim);
  g_assert_false(nc_endgame_hear(&one.endgame, false, false, now_us));
  mover_end(&one);
  nc_bandwidth_free(b);
}

static void
test_who_is_away_holds_nobody_up(void)
{
  g_autoptr(NcConfig) config = NULL;
  NcBandwidth *b = make_register("", &config);
  Mover one, two;

  mover_begin(&one, b, true);
  mover_begin(&two, b, true);
  now_us += 5 * SECOND;
  nc_endgame_hear(&one.endgame, false, false, now_us);
  g_assert_cmpint(look(&one, NC_ENDGAME_NEAR), ==, NC_ENDGAME_WAIT);
  now_us += NC_ENDGAME_AWAY_US - 1;
  g_assert_cmpint(look(&one, NC_ENDGAME_NEAR), ==, NC_ENDGAME_WAIT);
  now_us++;
  g_assert_cmpint(look(&one, NC_ENDGAME_NEAR), ==, NC_ENDGAME_HAS); /* without the controller's, but on this node alone */
  g_assert_cmpint(look(&two, NC_ENDGAME_NEAR), ==, NC_ENDGAME_WAIT);
  for (int64_t end_us = now_us + NC_ENDGAME_MOST_US; now_us < end_us; now_us += SECOND) {
    nc_endgame_hear(&two.endgame, true, false, now_us);
    g_assert_cmpint(look(&two, NC_ENDGAME_NEAR), ==, NC_ENDGAME_WAIT);
  }
  g_assert_cmpint(look(&two, NC_ENDGAME_NEAR), ==, NC_ENDGAME_WITHOUT);
  mover_end(&one);
  mover_end(&two);
  nc_bandwidth_free(b);
}

#define MOVERS 6

/* Who is near its end and is not told to wait for so long that it may do without. */
static void
test_any_order(void)
{
  g_autoptr(NcConfig) config = NULL;
  NcBandwidth *b = make_register("bandwidth_total = 1000000\n", &config);
  Mover movers[MOVERS];
  int64_t near_us[MOVERS] = { 0 };
  unsigned had = 0;

  for (unsigned i = 0; i < MOVERS; i++)
    mover_begin(&movers[i], b, i % 2);
  for (unsigned turn = 0; turn < 20000; turn++) {
    unsigned i = (unsigned)g_test_rand_int_range(0, MOVERS), has = 0;
    NcEndgameNeed need = g_test_rand_int_range(0, 8) ? NC_ENDGAME_NEAR : (NcEndgameNeed)g_test_rand_int_range(0, 3);
    now_us += g_test_rand_int_range(0, SECOND / 10);
    if (g_test_rand_bit())
      nc_endgame_hear(&movers[i].endgame, g_test_rand_bit(), g_test_rand_bit(), now_us);
    NcEndgameAnswer answer = look(&movers[i], need);
    if (need != NC_ENDGAME_NEAR || answer == NC_ENDGAME_HAS)
      near_us[i] = 0;
    else if (near_us[i] == 0)
      near_us[i] = now_us;
    if (answer == NC_ENDGAME_WAIT)
      g_assert_cmpint(now_us - near_us[i], <=, NC_ENDGAME_MOST_US + SECOND);
    if (answer == NC_ENDGAME_HAS && ++had && g_test_rand_bit()) {
      mover_end(&movers[i]);
      mover_begin(&movers[i], b, i % 2);
    }
    for (unsigned k = 0; k < MOVERS; k++)
      has += movers[k].endgame.has;
    g_assert_cmpuint(has, <=, 1);
  }
  g_assert_cmpuint(had, >, 1000);
  for (unsigned i = 0; i < MOVERS; i++)
    mover_end(&movers[i]);
  nc_bandwidth_free(b);
}

static NcEndgameNeed
need(NcEndgame *e, double last_round_ms, int64_t since_first_pass_us)
{
  const NcEndgameOutlook outlook = { .is_known = true, .converges = true, .last_round_ms = last_round_ms, .since_first_pass_us = since_first_pass_us };
  return nc_endgame_need(e, &outlook);
}

/* It is the way to the last round that counts; a controller is asked earlier, and nobody is far for ever. */
static void
test_how_near_it_is(void)
{
  NcEndgame e;
  nc_endgame_init(&e);
  g_assert_cmpint(need(&e, 5000, -1), ==, NC_ENDGAME_FAR);
  g_assert_cmpint(need(&e, 1500, 1000000), ==, NC_ENDGAME_FAR);
  g_assert_cmpint(need(&e, 900, 1000000), ==, NC_ENDGAME_NEAR);
  g_assert_cmpint(need(&e, 1500, NC_ENDGAME_OVERDUE_US), ==, NC_ENDGAME_NEAR);
  nc_endgame_set_controlled(&e, 1);
  g_assert_cmpint(need(&e, 1500, 1000000), ==, NC_ENDGAME_NEAR);
  NcEndgameOutlook outlook = { .is_known = true, .since_first_pass_us = 1 };
  g_assert_cmpint(nc_endgame_need(&e, &outlook), ==, NC_ENDGAME_OPEN); /* it does not converge: it waits for a lull */
  outlook.is_known = false;
  g_assert_cmpint(nc_endgame_need(&e, &outlook), ==, NC_ENDGAME_NEAR);
  outlook.since_first_pass_us = -1;
  g_assert_cmpint(nc_endgame_need(&e, &outlook), ==, NC_ENDGAME_FAR);
  outlook.postcopy = true;
  g_assert_cmpint(nc_endgame_need(&e, &outlook), ==, NC_ENDGAME_OPEN);
  nc_endgame_clear(&e);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/endgame/who_is_alone_is_not_held", test_who_is_alone_is_not_held);
  g_test_add_func("/endgame/they_take_turns", test_they_take_turns);
  g_test_add_func("/endgame/the_controller_is_asked_first", test_the_controller_is_asked_first);
  g_test_add_func("/endgame/who_is_away_holds_nobody_up", test_who_is_away_holds_nobody_up);
  g_test_add_func("/endgame/how_near_it_is", test_how_near_it_is);
  g_test_add_func("/endgame/any_order", test_any_order);
  return g_test_run();
}
