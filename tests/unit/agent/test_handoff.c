/* SPDX-License-Identifier: Apache-2.0 */
/* The handoff's table: what design section 5 promises must be readable from it. */
#include "agent/handoff.h"

#include <glib.h>

static NcHandoffState
must_step(NcHandoffState from, NcHandoffEvent event)
{
  NcHandoffState to = NC_HANDOFF_STATE_COUNT;
  g_assert_true(nc_handoff_step(from, event, &to));
  return to;
}

static void
must_refuse(NcHandoffState from, NcHandoffEvent event)
{
  NcHandoffState to = NC_HANDOFF_STATE_COUNT;
  g_assert_false(nc_handoff_step(from, event, &to));
  g_assert_cmpint(to, ==, NC_HANDOFF_STATE_COUNT);
}

static void
test_good_day(void)
{
  NcHandoffState s = NC_S_PREPARING;
  s = must_step(s, NC_EV_DEST_READY);
  s = must_step(s, NC_EV_GUEST_STOPPED);
  s = must_step(s, NC_EV_RELEASE);
  s = must_step(s, NC_EV_STARTED);
  s = must_step(s, NC_EV_ALIVE);
  g_assert_cmpint(s, ==, NC_S_COMPLETED);

  NcHandoffState d = NC_D_RECEIVING;
  d = must_step(d, NC_EV_GRANT);
  d = must_step(d, NC_EV_LOADED);
  d = must_step(d, NC_EV_CONT);
  d = must_step(d, NC_EV_DONE);
  g_assert_cmpint(d, ==, NC_D_COMPLETED);
}

static void
test_good_day_of_postcopy(void)
{
  NcHandoffState s = must_step(NC_S_RELEASED, NC_EV_STARTED_POSTCOPY);
  g_assert_cmpint(s, ==, NC_S_SERVING);
  s = must_step(s, NC_EV_SERVED);
  s = must_step(s, NC_EV_ALIVE);
  g_assert_cmpint(s, ==, NC_S_COMPLETED);

  NcHandoffState d = must_step(NC_D_TAKEN, NC_EV_CONT_POSTCOPY);
  g_assert_cmpint(d, ==, NC_D_FETCHING);
  d = must_step(d, NC_EV_FETCHED);
  d = must_step(d, NC_EV_DONE);
  g_assert_cmpint(d, ==, NC_D_COMPLETED);
}

static void
test_postcopy_has_no_way_back_but_an_operators(void)
{
  must_refuse(NC_S_SERVING, NC_EV_ABORT);
  must_refuse(NC_S_SERVING, NC_EV_REFUSED);
  must_refuse(NC_S_SERVING, NC_EV_RESUMED);
  must_refuse(NC_S_SERVING, NC_EV_ALIVE); /* before all pages are there, the source's QEMU stays */
  must_refuse(NC_D_FETCHING, NC_EV_REFUSE);
  must_refuse(NC_D_FETCHING, NC_EV_DONE);
  g_assert_cmpint(must_step(NC_S_SERVING, NC_EV_OPERATOR), ==, NC_S_RECLAIMING);
}

static void
test_released_source_never_aborts(void)
{
  must_refuse(NC_S_RELEASED, NC_EV_ABORT);
  must_refuse(NC_S_RELEASED, NC_EV_RESUMED);
  must_refuse(NC_S_RELEASED, NC_EV_UNDONE_FAILED);
  must_refuse(NC_S_VERIFYING, NC_EV_ABORT);
  must_refuse(NC_S_VERIFYING, NC_EV_REFUSED); /* what was started can't be refused afterwards */
  must_refuse(NC_S_COMPLETED, NC_EV_RESUMED);
}

static void
test_destination_needs_the_grant(void)
{
  must_refuse(NC_D_RECEIVING, NC_EV_LOADED);
  must_refuse(NC_D_RECEIVING, NC_EV_CONT);
  must_refuse(NC_D_GRANTED, NC_EV_CONT);
  must_refuse(NC_D_REFUSED, NC_EV_GRANT);
  must_refuse(NC_D_REFUSED, NC_EV_LOADED);
  must_refuse(NC_D_RUNNING, NC_EV_REFUSE);
}

static void
test_only_the_way_back_resumes(void)
{
  /* The source's guest runs again only by way of ABORTING (right never given) or RECLAIMING (right taken back). */
  for (int s = 0; s < NC_HANDOFF_STATE_COUNT; s++) {
    NcHandoffState to;
    if (nc_handoff_step((NcHandoffState)s, NC_EV_RESUMED, &to))
      g_assert_cmpint(s, ==, NC_S_RECLAIMING);
    if (nc_handoff_step((NcHandoffState)s, NC_EV_ABORT, &to))
      g_assert_true(nc_handoff_may_cancel((NcHandoffState)s));
  }
}

static void
test_final_states_are_final(void)
{
  for (int s = 0; s < NC_HANDOFF_STATE_COUNT; s++) {
    bool moves = false;
    for (int e = 0; e < NC_HANDOFF_EVENT_COUNT; e++) {
      NcHandoffState to;
      moves |= nc_handoff_step((NcHandoffState)s, (NcHandoffEvent)e, &to);
    }
    g_assert_cmpint(moves, ==, !nc_handoff_is_final((NcHandoffState)s));
  }
}

/* Who reads a history knows an event and not the state that it met. */
static void
test_an_event_leads_to_one_phase(void)
{
  for (int e = 0; e < NC_HANDOFF_EVENT_COUNT; e++) {
    const char *phase = nc_handoff_phase_after(nc_handoff_event_name((NcHandoffEvent)e));
    g_assert_nonnull(phase);
    for (int s = 0; s < NC_HANDOFF_STATE_COUNT; s++) {
      NcHandoffState to;
      if (nc_handoff_step((NcHandoffState)s, (NcHandoffEvent)e, &to))
        g_assert_cmpstr(nc_handoff_phase(to), ==, phase);
    }
  }
  g_assert_null(nc_handoff_phase_after("no-such-event"));
}

static void
test_names_round_trip(void)
{
  for (int s = 0; s < NC_HANDOFF_STATE_COUNT; s++)
    g_assert_cmpint(nc_handoff_state_from_name(nc_handoff_state_name((NcHandoffState)s)), ==, s);
  g_assert_cmpint(nc_handoff_state_from_name("no-such-state"), ==, NC_HANDOFF_STATE_COUNT);
  g_assert_cmpint(nc_handoff_state_from_name(NULL), ==, NC_HANDOFF_STATE_COUNT);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/handoff/good-day", test_good_day);
  g_test_add_func("/handoff/good-day-of-postcopy", test_good_day_of_postcopy);
  g_test_add_func("/handoff/postcopy-has-no-way-back", test_postcopy_has_no_way_back_but_an_operators);
  g_test_add_func("/handoff/released-source-never-aborts", test_released_source_never_aborts);
  g_test_add_func("/handoff/destination-needs-the-grant", test_destination_needs_the_grant);
  g_test_add_func("/handoff/only-the-way-back-resumes", test_only_the_way_back_resumes);
  g_test_add_func("/handoff/final-states-are-final", test_final_states_are_final);
  g_test_add_func("/handoff/names-round-trip", test_names_round_trip);
  g_test_add_func("/handoff/an-event-leads-to-one-phase", test_an_event_leads_to_one_phase);
  return g_test_run();
}
