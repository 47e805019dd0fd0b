/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handoff's states and transitions, in one table that the code runs and
 * the documentation prints (design section 5: never two, never none).
 *
 * Who may run the machine, by state:
 *
 *   source       may run it     destination   may run it
 *   waiting      yes: an attempt was undone, another one follows
 *   preparing    yes            receiving     no
 *   copying      yes            granted       no
 *   switching    stopped, may   taken         yes: HELD(n) is on disk
 *   released     no, for ever   running       yes
 *   reclaiming   yes: HELD(n+1) refused       no, for ever (this epoch)
 *   serving      no             fetching      yes, and asks the source's QEMU for pages
 *   verifying    no             lost          no: its QEMU is gone, only an operator gives the right back
 *
 * `taken` and `released` are entered only after their run-right record is
 * durable. Between the two nobody runs the machine; both sides agree about it
 * without a clock: the destination alone decides (taken or refused), and what it
 * decided it says as often as it is asked.
 */
#pragma once

#include <stdbool.h>

typedef enum {
  /* source */
  NC_S_WAITING,    /* for the time of the next attempt */
  NC_S_PREPARING,  /* destination, movers and QEMU are being readied; ends with DEST_READY or a failure */
  NC_S_COPYING,    /* disks and memory flow, the guest runs here; ends when QEMU stops the guest */
  NC_S_SWITCHING,  /* the guest is stopped here, the right still ours; cancel is the last chance */
  NC_S_RELEASED,   /* RELEASED is durable; GRANT may be anywhere; only the destination's word ends this */
  NC_S_SERVING,    /* post-copy: the destination runs it and still needs pages of our QEMU */
  NC_S_VERIFYING,  /* the destination runs it; our stopped QEMU is kept until it is seen to be alive */
  NC_S_RECLAIMING, /* the destination refused, HELD(n+1) is durable; the guest is being resumed here */
  NC_S_ABORTING,   /* failed or cancelled before release: QEMU's migration is being undone */
  NC_S_COMPLETED,
  NC_S_FAILED,
  NC_S_CANCELLED,
  /* destination */
  NC_D_RECEIVING,  /* INCOMING is durable; QEMU waits or loads */
  NC_D_GRANTED,    /* the grant is here, the state is not loaded yet */
  NC_D_TAKEN,      /* HELD is durable; the guest is being resumed */
  NC_D_FETCHING,   /* post-copy: it runs, and not all of its pages are here yet */
  NC_D_RUNNING,    /* it runs; STARTED is being said */
  NC_D_REFUSED,    /* REFUSED is durable; QEMU is gone */
  NC_D_LOST,       /* HELD is durable; QEMU is gone, and the guest may have run for a moment */
  NC_D_COMPLETED,
  NC_HANDOFF_STATE_COUNT
} NcHandoffState;

typedef enum {
  NC_EV_DEST_READY,    /* both movers proved the key and QEMU has connected, or disks are to be copied first */
  NC_EV_GUEST_STOPPED, /* QEMU's STOP at the source */
  NC_EV_RELEASE,       /* RELEASED was written */
  NC_EV_STARTED,       /* the destination says it runs */
  NC_EV_STARTED_POSTCOPY, /* the same, and it still needs pages */
  NC_EV_SERVED,        /* the destination says that it has them all */
  NC_EV_ALIVE,         /* the destination saw it live, our QEMU is gone */
  NC_EV_REFUSED,       /* the destination says it never will */
  NC_EV_OPERATOR,      /* an operator fenced the destination and said: run here */
  NC_EV_RESUMED,       /* the guest runs at the source again */
  NC_EV_ABORT,         /* failure or cancel before release */
  NC_EV_UNDONE_FAILED, /* undone; outcome: failed */
  NC_EV_UNDONE_CANCELLED,
  NC_EV_UNDONE_RETRY, /* undone, or taken back; it will be tried again */
  NC_EV_RETRY,        /* the next attempt begins, with another epoch */
  NC_EV_GRANT,  /* destination: the grant came, all bytes before it verified */
  NC_EV_LOADED, /* destination: QEMU loaded everything, and the grant is here */
  NC_EV_CONT,   /* destination: the guest was resumed */
  NC_EV_CONT_POSTCOPY, /* destination: the same in post-copy: pages are still missing */
  NC_EV_FETCHED, /* destination: all pages are here */
  NC_EV_REFUSE, /* destination: it can't be, or the source went away before the grant */
  NC_EV_LOST,   /* QEMU died in the moment of its start, or in post-copy: what it knew is gone */
  NC_EV_DONE,   /* destination: the source knows */
  NC_HANDOFF_EVENT_COUNT
} NcHandoffEvent;

const char *nc_handoff_state_name(NcHandoffState state);
/* NC_HANDOFF_STATE_COUNT for an unknown name (a record of a newer version). */
NcHandoffState nc_handoff_state_from_name(const char *name);
const char *nc_handoff_event_name(NcHandoffEvent event);

/* The state after ${event} in ${state}; false if the table has no such transition, and nothing is stored. */
bool nc_handoff_step(NcHandoffState state, NcHandoffEvent event, NcHandoffState *ret_next);

/* What users see: queued, prepare, memory_copy, switchover, handoff, postcopy, verify, rollback, completed, failed, cancelled. */
const char *nc_handoff_phase(NcHandoffState state);
/* The phase that an event of this name leads to: the same from wherever it happens. NULL: there is no such event. */
const char *nc_handoff_phase_after(const char *event_name);
/* Nothing more will happen. */
bool nc_handoff_is_final(NcHandoffState state);
/* An attempt of the source's is under way that can still be undone: it has not released. */
bool nc_handoff_is_undoable(NcHandoffState state);
/* The source may still cancel: so, or between two attempts. */
bool nc_handoff_may_cancel(NcHandoffState state);
