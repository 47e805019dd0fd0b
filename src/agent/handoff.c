/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/handoff.h"

#include <glib.h>

static const struct {
  const char *name;
  const char *phase;
} nc_handoff_states[] = {
  [NC_S_PREPARING] = { "preparing", "prepare" },
  [NC_S_COPYING] = { "copying", "memory_copy" },
  [NC_S_SWITCHING] = { "switching", "switchover" },
  [NC_S_RELEASED] = { "released", "handoff" },
  [NC_S_VERIFYING] = { "verifying", "verify" },
  [NC_S_RECLAIMING] = { "reclaiming", "handoff" },
  [NC_S_ABORTING] = { "aborting", "switchover" },
  [NC_S_COMPLETED] = { "completed", "completed" },
  [NC_S_FAILED] = { "failed", "failed" },
  [NC_S_CANCELLED] = { "cancelled", "cancelled" },
  [NC_D_RECEIVING] = { "receiving", "memory_copy" },
  [NC_D_GRANTED] = { "granted", "handoff" },
  [NC_D_TAKEN] = { "taken", "handoff" },
  [NC_D_RUNNING] = { "running", "verify" },
  [NC_D_REFUSED] = { "refused", "failed" },
  [NC_D_COMPLETED] = { "arrived", "completed" },
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_handoff_states) == NC_HANDOFF_STATE_COUNT);

static const char *const nc_handoff_events[] = {
  [NC_EV_DEST_READY] = "destination-ready",
  [NC_EV_GUEST_STOPPED] = "guest-stopped",
  [NC_EV_RELEASE] = "released",
  [NC_EV_STARTED] = "started",
  [NC_EV_ALIVE] = "alive",
  [NC_EV_REFUSED] = "refused",
  [NC_EV_OPERATOR] = "operator-run-here",
  [NC_EV_RESUMED] = "resumed",
  [NC_EV_ABORT] = "abort",
  [NC_EV_UNDONE_FAILED] = "undone-failed",
  [NC_EV_UNDONE_CANCELLED] = "undone-cancelled",
  [NC_EV_GRANT] = "grant",
  [NC_EV_LOADED] = "loaded",
  [NC_EV_CONT] = "cont",
  [NC_EV_REFUSE] = "refuse",
  [NC_EV_DONE] = "done",
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_handoff_events) == NC_HANDOFF_EVENT_COUNT);

static const struct {
  NcHandoffState from;
  NcHandoffEvent event;
  NcHandoffState to;
} nc_handoff_table[] = {
  { NC_S_PREPARING, NC_EV_DEST_READY, NC_S_COPYING },
  { NC_S_PREPARING, NC_EV_ABORT, NC_S_ABORTING },
  { NC_S_COPYING, NC_EV_GUEST_STOPPED, NC_S_SWITCHING },
  { NC_S_COPYING, NC_EV_ABORT, NC_S_ABORTING },
  { NC_S_SWITCHING, NC_EV_RELEASE, NC_S_RELEASED },
  { NC_S_SWITCHING, NC_EV_ABORT, NC_S_ABORTING },
  { NC_S_RELEASED, NC_EV_STARTED, NC_S_VERIFYING },
  { NC_S_RELEASED, NC_EV_REFUSED, NC_S_RECLAIMING },
  { NC_S_RELEASED, NC_EV_OPERATOR, NC_S_RECLAIMING },
  { NC_S_VERIFYING, NC_EV_ALIVE, NC_S_COMPLETED },
  { NC_S_VERIFYING, NC_EV_OPERATOR, NC_S_RECLAIMING }, /* it started there and died before it was seen alive */
  { NC_S_RECLAIMING, NC_EV_RESUMED, NC_S_FAILED },
  { NC_S_ABORTING, NC_EV_UNDONE_FAILED, NC_S_FAILED },
  { NC_S_ABORTING, NC_EV_UNDONE_CANCELLED, NC_S_CANCELLED },
  { NC_D_RECEIVING, NC_EV_GRANT, NC_D_GRANTED },
  { NC_D_RECEIVING, NC_EV_REFUSE, NC_D_REFUSED },
  { NC_D_GRANTED, NC_EV_LOADED, NC_D_TAKEN },
  { NC_D_GRANTED, NC_EV_REFUSE, NC_D_REFUSED },
  { NC_D_TAKEN, NC_EV_CONT, NC_D_RUNNING },
  { NC_D_TAKEN, NC_EV_REFUSE, NC_D_REFUSED }, /* `cont` failed and QEMU is gone: it never ran */
  { NC_D_RUNNING, NC_EV_DONE, NC_D_COMPLETED },
};

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

bool
nc_handoff_is_final(NcHandoffState state)
{
  switch (state) {
  case NC_S_COMPLETED:
  case NC_S_FAILED:
  case NC_S_CANCELLED:
  case NC_D_COMPLETED:
  case NC_D_REFUSED:
    return true;
  default:
    return false;
  }
}

bool
nc_handoff_may_cancel(NcHandoffState state)
{
  return state == NC_S_PREPARING || state == NC_S_COPYING || state == NC_S_SWITCHING;
}
