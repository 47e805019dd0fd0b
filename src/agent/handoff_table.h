/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handoff's states, events and steps: the one table that the agents run
 * (handoff.c) and that the model checker explores (tests/model/handoff.pml).
 * Nothing but the preprocessor's lists, since both read it; what the states and
 * events mean is said in handoff.h.
 */
#pragma once

/* STATE(symbol, name, phase that users see) */
#define NC_HANDOFF_STATES(STATE) \
  STATE(NC_S_WAITING, "waiting", "queued") \
  STATE(NC_S_PREPARING, "preparing", "prepare") \
  STATE(NC_S_COPYING, "copying", "memory_copy") \
  STATE(NC_S_SWITCHING, "switching", "switchover") \
  STATE(NC_S_RELEASED, "released", "handoff") \
  STATE(NC_S_SERVING, "serving", "postcopy") \
  STATE(NC_S_VERIFYING, "verifying", "verify") \
  STATE(NC_S_RECLAIMING, "reclaiming", "rollback") \
  STATE(NC_S_ABORTING, "aborting", "rollback") \
  STATE(NC_S_COMPLETED, "completed", "completed") \
  STATE(NC_S_FAILED, "failed", "failed") \
  STATE(NC_S_CANCELLED, "cancelled", "cancelled") \
  STATE(NC_D_RECEIVING, "receiving", "memory_copy") \
  STATE(NC_D_GRANTED, "granted", "handoff") \
  STATE(NC_D_TAKEN, "taken", "handoff") \
  STATE(NC_D_FETCHING, "fetching", "postcopy") \
  STATE(NC_D_RUNNING, "running", "verify") \
  STATE(NC_D_REFUSED, "refused", "failed") \
  STATE(NC_D_LOST, "lost", "failed") \
  STATE(NC_D_COMPLETED, "arrived", "completed")

/* EVENT(symbol, name) */
#define NC_HANDOFF_EVENTS(EVENT) \
  EVENT(NC_EV_DEST_READY, "destination-ready") \
  EVENT(NC_EV_GUEST_STOPPED, "guest-stopped") \
  EVENT(NC_EV_RELEASE, "released") \
  EVENT(NC_EV_STARTED, "started") \
  EVENT(NC_EV_STARTED_POSTCOPY, "started-postcopy") \
  EVENT(NC_EV_SERVED, "served") \
  EVENT(NC_EV_ALIVE, "alive") \
  EVENT(NC_EV_REFUSED, "refused") \
  EVENT(NC_EV_OPERATOR, "operator-run-here") \
  EVENT(NC_EV_RESUMED, "resumed") \
  EVENT(NC_EV_ABORT, "abort") \
  EVENT(NC_EV_UNDONE_FAILED, "undone-failed") \
  EVENT(NC_EV_UNDONE_CANCELLED, "undone-cancelled") \
  EVENT(NC_EV_UNDONE_RETRY, "undone-retry") \
  EVENT(NC_EV_RETRY, "retry") \
  EVENT(NC_EV_GRANT, "grant") \
  EVENT(NC_EV_LOADED, "loaded") \
  EVENT(NC_EV_CONT, "cont") \
  EVENT(NC_EV_CONT_POSTCOPY, "cont-postcopy") \
  EVENT(NC_EV_FETCHED, "fetched") \
  EVENT(NC_EV_REFUSE, "refuse") \
  EVENT(NC_EV_LOST, "lost") \
  EVENT(NC_EV_DONE, "done")

/*
 * STEP(from, event, to)
 *
 * VERIFYING, OPERATOR: it started there and died before it was seen alive.
 * TAKEN, REFUSE: QEMU did not obey `cont` and is seen to stand still, so it never ran.
 * TAKEN, LOST: QEMU is gone, and nobody knows whether it obeyed before.
 *
 * Post-copy: the same release and the same taking, before all pages are there. SERVING and
 * FETCHING last until they are. What fails there can't be refused: the machine has run.
 * FETCHING, LOST: one of the QEMUs is gone, and with it pages that nobody else has.
 * SERVING, OPERATOR: it has died there; what is here is the machine as it was at the switch.
 * SERVING, LOST: both are gone.
 */
#define NC_HANDOFF_STEPS(STEP) \
  STEP(NC_S_PREPARING, NC_EV_DEST_READY, NC_S_COPYING) \
  STEP(NC_S_PREPARING, NC_EV_ABORT, NC_S_ABORTING) \
  STEP(NC_S_COPYING, NC_EV_GUEST_STOPPED, NC_S_SWITCHING) \
  STEP(NC_S_COPYING, NC_EV_ABORT, NC_S_ABORTING) \
  STEP(NC_S_SWITCHING, NC_EV_RELEASE, NC_S_RELEASED) \
  STEP(NC_S_SWITCHING, NC_EV_ABORT, NC_S_ABORTING) \
  STEP(NC_S_RELEASED, NC_EV_STARTED, NC_S_VERIFYING) \
  STEP(NC_S_RELEASED, NC_EV_REFUSED, NC_S_RECLAIMING) \
  STEP(NC_S_RELEASED, NC_EV_OPERATOR, NC_S_RECLAIMING) \
  STEP(NC_S_RELEASED, NC_EV_STARTED_POSTCOPY, NC_S_SERVING) \
  STEP(NC_S_SERVING, NC_EV_SERVED, NC_S_VERIFYING) \
  STEP(NC_S_SERVING, NC_EV_OPERATOR, NC_S_RECLAIMING) \
  STEP(NC_S_SERVING, NC_EV_LOST, NC_S_FAILED) \
  STEP(NC_S_VERIFYING, NC_EV_ALIVE, NC_S_COMPLETED) \
  STEP(NC_S_VERIFYING, NC_EV_OPERATOR, NC_S_RECLAIMING) \
  STEP(NC_S_RECLAIMING, NC_EV_RESUMED, NC_S_FAILED) \
  STEP(NC_S_ABORTING, NC_EV_UNDONE_FAILED, NC_S_FAILED) \
  STEP(NC_S_ABORTING, NC_EV_UNDONE_CANCELLED, NC_S_CANCELLED) \
  STEP(NC_S_ABORTING, NC_EV_UNDONE_RETRY, NC_S_WAITING) \
  STEP(NC_S_RECLAIMING, NC_EV_UNDONE_RETRY, NC_S_WAITING) \
  STEP(NC_S_WAITING, NC_EV_RETRY, NC_S_PREPARING) \
  STEP(NC_S_WAITING, NC_EV_ABORT, NC_S_ABORTING) \
  STEP(NC_D_RECEIVING, NC_EV_GRANT, NC_D_GRANTED) \
  STEP(NC_D_RECEIVING, NC_EV_REFUSE, NC_D_REFUSED) \
  STEP(NC_D_GRANTED, NC_EV_LOADED, NC_D_TAKEN) \
  STEP(NC_D_GRANTED, NC_EV_REFUSE, NC_D_REFUSED) \
  STEP(NC_D_TAKEN, NC_EV_CONT, NC_D_RUNNING) \
  STEP(NC_D_TAKEN, NC_EV_CONT_POSTCOPY, NC_D_FETCHING) \
  STEP(NC_D_FETCHING, NC_EV_FETCHED, NC_D_RUNNING) \
  STEP(NC_D_FETCHING, NC_EV_LOST, NC_D_LOST) \
  STEP(NC_D_TAKEN, NC_EV_REFUSE, NC_D_REFUSED) \
  STEP(NC_D_TAKEN, NC_EV_LOST, NC_D_LOST) \
  STEP(NC_D_RUNNING, NC_EV_DONE, NC_D_COMPLETED)
