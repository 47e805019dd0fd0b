/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/handoff.h"
#include "agent/handoff_table.h"

#include <glib.h>

#define NC_HANDOFF_STATE(symbol, name, phase) [symbol] = { name, phase },
static const struct {
  const char *name;
  const char *phase;
} nc_handoff_states[] = { NC_HANDOFF_STATES(NC_HANDOFF_STATE) };
G_STATIC_ASSERT(G_N_ELEMENTS(nc_handoff_states) == NC_HANDOFF_STATE_COUNT);

#define NC_HANDOFF_EVENT(symbol, name) [symbol] = name,
static const char *const nc_handoff_events[] = { NC_HANDOFF_EVENTS(NC_HANDOFF_EVENT) };
G_STATIC_ASSERT(G_N_ELEMENTS(nc_handoff_events) == NC_HANDOFF_EVENT_COUNT);

#define NC_HANDOFF_STEP(from, event, to) { from, event, to },
static const struct {
  NcHandoffState from;
  NcHandoffEvent event;
  NcHandoffState to;
} nc_handoff_table[] = { NC_HANDOFF_STEPS(NC_HANDOFF_STEP) };

const char *
nc_handoff_state_name(NcHandoffState state)
{
  return state < NC_HANDOFF_STATE_COUNT ? nc_handoff_states[state].name : "?";
}

NcHandoffState
nc_handoff_state_from_name(const char *name)
{
  for (int i = 0; name && i < NC_HANDOFF_STATE_COUNT; i++)
    if (g_str_equal(nc_handoff_states[i].name, name))
      return (NcHandoffState)i;
  return NC_HANDOFF_STATE_COUNT;
}

const char *
nc_handoff_event_name(NcHandoffEvent event)
{
  return event < NC_HANDOFF_EVENT_COUNT ? nc_handoff_events[event] : "?";
}

bool
nc_handoff_step(NcHandoffState state, NcHandoffEvent event, NcHandoffState *ret_next)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_handoff_table); i++) {
    if (nc_handoff_table[i].from == state && nc_handoff_table[i].event == event) {
      *ret_next = nc_handoff_table[i].to;
      return true;
    }
  }
  return false;
}

const char *
nc_handoff_phase(NcHandoffState state)
{
  return state < NC_HANDOFF_STATE_COUNT ? nc_handoff_states[state].phase : "?";
}

const char *
nc_handoff_phase_after(const char *event_name)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_handoff_table); i++)
    if (g_str_equal(nc_handoff_events[nc_handoff_table[i].event], event_name))
      return nc_handoff_phase(nc_handoff_table[i].to);
  return NULL;
}

bool
nc_handoff_is_final(NcHandoffState state)
{
  switch (state) {
  case NC_S_COMPLETED:
  case NC_S_FAILED:
  case NC_S_CANCELLED:
  case NC_D_COMPLETED:
  case NC_D_REFUSED:
  case NC_D_LOST:
    return true;
  default:
    return false;
  }
}

bool
nc_handoff_is_undoable(NcHandoffState state)
{
  return state == NC_S_PREPARING || state == NC_S_COPYING || state == NC_S_SWITCHING;
}

bool
nc_handoff_may_cancel(NcHandoffState state)
{
  return state == NC_S_WAITING || nc_handoff_is_undoable(state);
}
