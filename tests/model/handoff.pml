/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handoff as a model (design section 5), for spin: no interleaving of
 * crashes, failed writes and lost, repeated or delayed messages reaches two
 * runners, or an end in which nobody runs the machine though somebody could.
 *
 * States and steps are the agents' own table; each option below is what one of
 * them does between two points at which the power may go. What is written down
 * survives, what is not does not.
 *
 * The network: what was said once may be heard at any later time, any number of
 * times, or never. That is a bit per message which never goes away: losing,
 * repeating, delaying and overtaking in one. Post-copy's own messages can also be lost for good when the one who should
 * hear them crashes: then they have to be said again.
 *
 * A migration is by pre-copy or by post-copy, which is known before the guest is stopped. In post-copy what is
 * loaded at the destination misses pages that only the source's QEMU has. It sends the last of them at some moment
 * at which both agents and both QEMUs live; from then on they are in the movers, which die with their agents.
 *
 * Operators (decision 088): where nobody knows what became of a machine one says at the source "run here", having seen that it
 * does not run there; at the destination one may have it started anew, which asks the source first. The ten seconds that a permitted start
 * is given are, without a clock: the word of one whom nobody contradicts counts only when that start has failed, or its destination has died, since one
 * that was carried out is said. That its novacrond lives to say so within ten seconds is assumed here. Not in here: `vm start --take`.
 * STARTS_ANEW multiplies the states, so run.py checks it within smaller bounds than the rest.
 *
 * Every option changes something that never changes back (but for a word that the destination contradicts), so a run ends when
 * nobody has anything left to do; what must hold then is in ended(). A mutation (-DMUTATE_...)
 * takes one precaution away, and must be found: tests/model/run.py.
 */
#include "../../src/agent/handoff_table.h"

#ifndef CRASHES
#define CRASHES 2 /* of agents, in all */
#endif
#ifndef DEATHS
#define DEATHS 1 /* of QEMUs, in all */
#endif
#ifndef FAILED_WRITES
#define FAILED_WRITES 1
#endif
#ifndef STARTS_ANEW
#define STARTS_ANEW 1 /* by an operator, of a machine that was lost at its destination */
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2 /* migrations, one after the other, over the same network */
#endif

#define STATE(symbol, name, phase) , symbol
#define EVENT(symbol, name) , symbol
mtype = { NO_STATE NC_HANDOFF_STATES(STATE) NC_HANDOFF_EVENTS(EVENT), NO_RIGHT, HELD, INCOMING, RELEASED, REFUSED, /* run rights */
          NONE, RUNS, STOPPED, WAITS, LOADED, DEAD, /* QEMUs */ NOT_STARTING, ASKS, MAY_START };

/* Does the table let the source abort where it is? And: one step of it. */
#define ABORTS(from, ev, to) || (state_s == from && ev == NC_EV_ABORT)
#define MAY_ABORT (false NC_HANDOFF_STEPS(ABORTS))
#define TAKE(from, ev, to) :: (st == from && event == ev) -> st = to;
inline step(st, event)
{
  if
  NC_HANDOFF_STEPS(TAKE)
  :: else -> assert(false) /* the table does not know what the agent has just done */
  fi
}

/* On disk. */
mtype right_s = HELD, right_d = NO_RIGHT;
byte epoch_s = 1, epoch_d = 0;
bool unfinished = false; /* the source's record of the migration */
bool postcopy[ATTEMPTS + 1]; /* in both records: of the source before its release, of the destination before it takes */

/* QEMUs, which outlive their agents. */
mtype qemu_s = RUNS, qemu_d = NONE;
bool migrating = false; /* the source's QEMU is in a migration: when its connection closes it resumes the guest by itself */
bool missing = false; /* the destination's QEMU, which says so, lacks pages */

/* In memory. */
bool up_s = true, up_d = true;
mtype state_s = NO_STATE, state_d = NO_STATE;
bool continued = false; /* the source has told QEMU to go on */
bool unwritten = false; /* its release could not be written */
bool ordered = false; /* the destination has told QEMU to run */
bool coming = false; /* all it lacks is in the movers */
bool wanted = false; /* the source was told by an operator: run here */
mtype starting = NOT_STARTING; /* the destination, anew */
byte retried = 0; /* the last attempt that another one followed by itself */
byte attempt = 0, attempt_d = 0; /* whose migration it is: attempt a hands over epoch 2a, the source takes 2a + 1 back */

/* The network, per attempt. */
bool said_prepare[ATTEMPTS + 1], said_prepared[ATTEMPTS + 1], sent_stream[ATTEMPTS + 1], sent_grant[ATTEMPTS + 1];
bool said_started[ATTEMPTS + 1], said_alive[ATTEMPTS + 1], said_refused[ATTEMPTS + 1];
bool said_finished[ATTEMPTS + 1];
bool said_started_postcopy[ATTEMPTS + 1], said_fetched[ATTEMPTS + 1]; /* `started`: runs, and misses nothing */
bool said_source_lost[ATTEMPTS + 1], said_lost[ATTEMPTS + 1]; /* whose QEMU is gone */
bool said_let_go[ATTEMPTS + 1];

/* What has happened. */
bool calm = false; /* from here on nothing more goes wrong */
byte crashes = 0, deaths = 0, failed_writes = 0, starts = 0;
byte ran = 0; /* the attempt whose destination has run, if only for a moment */
bool killed_s = false, killed_d = false;
bool ended_s = false; /* the source's QEMU, by its agent */
byte fenced = 0; /* the attempt of which an operator has made sure that the destination did not run it */
bool permitted = false; /* the source has told the destination that it may start it anew, and that is under way or done */

#define EPOCH(a) (2 * (a))

inline check()
{
  assert(!(qemu_s == RUNS && qemu_d == RUNS));
  assert(!(right_s == HELD && right_d == HELD) || fenced > 0)
}

inline crash_source()
{
  up_s = false;
  state_s = NO_STATE;
  continued = false;
  unwritten = false;
  coming = false;
  wanted = false;
#ifdef MUTATE_PERMISSION_LOST_IN_CRASH
  permitted = false;
#endif
  if
  :: true
  :: said_started_postcopy[attempt] = false; said_fetched[attempt] = false; said_lost[attempt] = false
  fi;
#ifdef MUTATE_NO_KEEPER
  /* The connection closes with its last holder, and QEMU takes that for a failed migration. */
  if
  :: migrating && qemu_s == STOPPED -> qemu_s = RUNS
  :: else
  fi;
#endif
  crashes++
}

/* Ends QEMU's migration so that it resumes the guest. */
inline resume_source()
{
  migrating = false;
  if
  :: qemu_s == STOPPED ->
       qemu_s = RUNS;
       assert(ran < attempt || fenced == attempt) /* what has run elsewhere does not run on from an earlier state */
  :: else
  fi
}

#define OFF_D (qemu_d == NONE || qemu_d == DEAD)
/* Does the destination not let go of what it holds? That it ran, and has died, is no reason. */
#define HOLDS_D (!OFF_D || starting != NOT_STARTING || (state_d != NO_STATE && state_d != NC_D_RUNNING))

#define MISSES_PAGES ((qemu_d == LOADED || qemu_d == RUNS) && missing)

/* Its agent ends the source's QEMU. Whoever still needs its pages would be destroyed by that. */
inline end_source()
{
  qemu_s = DEAD; migrating = false; ended_s = true;
  assert(!MISSES_PAGES)
}

#define AWAITS_VERDICT (state_s == NC_S_RELEASED || state_s == NC_S_SERVING || state_s == NC_S_VERIFYING)

/* By an operator's word. */
inline take_back()
{
  right_s = HELD; epoch_s = EPOCH(attempt) + 1; wanted = false;
  check();
  step(state_s, NC_EV_OPERATOR)
}

active proctype source()
{
end:
  do
  /* --- a migration begins --- */
  :: atomic { up_s && state_s == NO_STATE && right_s == HELD && qemu_s == RUNS && attempt < ATTEMPTS && !unfinished ->
       attempt++; unfinished = true; state_s = NC_S_PREPARING; said_prepare[attempt] = true }
  :: atomic { up_s && state_s == NC_S_PREPARING && said_prepared[attempt] && qemu_s == RUNS ->
       migrating = true; step(state_s, NC_EV_DEST_READY) }
  :: atomic { up_s && state_s == NC_S_COPYING && qemu_s == RUNS -> /* QEMU stops the guest and waits */
       qemu_s = STOPPED; step(state_s, NC_EV_GUEST_STOPPED);
       if
       :: true
       :: postcopy[attempt] = true
       fi }
  :: atomic { up_s && state_s == NC_S_SWITCHING && !continued && qemu_s == STOPPED ->
       continued = true; sent_stream[attempt] = true }

  /* --- the release: on disk, then visible --- */
#ifdef MUTATE_GRANT_BEFORE_RELEASE
  :: atomic { up_s && state_s == NC_S_SWITCHING && continued && !sent_grant[attempt] -> sent_grant[attempt] = true }
#endif
  :: atomic { up_s && state_s == NC_S_SWITCHING && continued && right_s == HELD && !unwritten ->
       if
       :: true -> right_s = RELEASED; epoch_s = EPOCH(attempt)
       :: !calm && failed_writes < FAILED_WRITES -> failed_writes++; unwritten = true /* nothing but undoing is left */
       fi }
  :: atomic { up_s && state_s == NC_S_SWITCHING && continued && right_s == RELEASED ->
       step(state_s, NC_EV_RELEASE) }
  :: atomic { up_s && state_s == NC_S_RELEASED && continued && !sent_grant[attempt] -> sent_grant[attempt] = true }

  /* --- undoing: failure, cancel, a write that failed; whenever the table says so --- */
  :: atomic { up_s && MAY_ABORT && !(state_s == NC_S_SWITCHING && right_s == RELEASED) ->
       step(state_s, NC_EV_ABORT); continued = false; unwritten = false }
  :: atomic { up_s && state_s == NC_S_ABORTING && migrating -> resume_source(); check() }
  :: atomic { up_s && state_s == NC_S_ABORTING && !migrating ->
       if
       :: true -> step(state_s, NC_EV_UNDONE_FAILED)
       :: true -> step(state_s, NC_EV_UNDONE_CANCELLED)
       fi;
       unfinished = false; state_s = NO_STATE }
  /* or tried again, by itself: between the two nothing is under way */
  :: atomic { up_s && state_s == NC_S_ABORTING && !migrating && qemu_s == RUNS && retried < attempt && attempt < ATTEMPTS ->
       retried = attempt; step(state_s, NC_EV_UNDONE_RETRY) }
  :: atomic { up_s && state_s == NC_S_WAITING && right_s == HELD && qemu_s == RUNS && attempt < ATTEMPTS ->
       attempt++; step(state_s, NC_EV_RETRY); said_prepare[attempt] = true }

  /* --- the verdict --- */
  /* Who has just taken the right back hears nothing before it has said so. */
  :: atomic { up_s && state_s == NC_S_RELEASED && right_s == RELEASED && said_started[attempt] -> step(state_s, NC_EV_STARTED) }
  :: atomic { up_s && state_s == NC_S_VERIFYING && said_alive[attempt] && qemu_s != DEAD && !wanted -> end_source() }
  :: atomic { up_s && state_s == NC_S_VERIFYING && said_alive[attempt] && qemu_s == DEAD && !wanted ->
       said_finished[attempt] = true; step(state_s, NC_EV_ALIVE); unfinished = false; state_s = NO_STATE }
  :: atomic { up_s && state_s == NC_S_RELEASED && right_s == RELEASED && said_refused[attempt] ->
       right_s = HELD; epoch_s = EPOCH(attempt) + 1; wanted = false; check() }
  :: atomic { up_s && state_s == NC_S_RELEASED && right_s == HELD && said_refused[attempt] -> step(state_s, NC_EV_REFUSED) }
#ifdef MUTATE_TIMEOUT
  :: atomic { up_s && state_s == NC_S_RELEASED && right_s == RELEASED -> /* "it has been silent for so long" */
       right_s = HELD; epoch_s = EPOCH(attempt) + 1; said_refused[attempt] = true }
#endif

  /* --- an operator has said: run here (decision 088). Who can be asked has to let go first --- */
  :: atomic { up_s && wanted && !said_let_go[attempt] -> said_let_go[attempt] = true }
  :: atomic { up_s && wanted && up_d && HOLDS_D -> wanted = false } /* it says so, and nothing has changed */
  /* What has started there was not refused before: it was let go of. */
  :: atomic { up_s && (state_s == NC_S_SERVING || state_s == NC_S_VERIFYING) && right_s == RELEASED && said_refused[attempt] -> take_back() }
#ifdef MUTATE_NOT_ASKED_TO_LET_GO
  :: atomic { up_s && wanted && AWAITS_VERDICT && right_s == RELEASED -> take_back() }
#endif
#ifdef MUTATE_PERMITTED_START_NOT_AWAITED
  :: atomic { up_s && wanted && said_let_go[attempt] && AWAITS_VERDICT && right_s == RELEASED -> take_back() }
#endif
  /* It is silent, for whatever reason; and what was permitted, perhaps by a novacrond before this one, has had its time. */
  :: atomic { up_s && wanted && said_let_go[attempt] && !permitted && AWAITS_VERDICT && right_s == RELEASED -> take_back() }

  :: atomic { up_s && state_s == NC_S_RECLAIMING -> resume_source(); check();
       if
       :: true -> step(state_s, NC_EV_RESUMED); unfinished = false; state_s = NO_STATE
       :: qemu_s == RUNS && attempt < ATTEMPTS -> retried = attempt; step(state_s, NC_EV_UNDONE_RETRY)
       fi;
       continued = false }

  /* --- post-copy: it runs there, and our QEMU is needed --- */
  :: atomic { up_s && state_s == NC_S_RELEASED && right_s == RELEASED && said_started_postcopy[attempt] -> step(state_s, NC_EV_STARTED_POSTCOPY) }
#ifdef MUTATE_SERVED_IS_SAID_ONCE
  :: atomic { up_s && state_s == NC_S_SERVING && said_fetched[attempt] -> step(state_s, NC_EV_SERVED) }
#else
  /* After a crash the destination knows of no fetching: that it runs, and misses nothing, is the same word. */
  :: atomic { up_s && state_s == NC_S_SERVING && (said_fetched[attempt] || said_started[attempt]) -> step(state_s, NC_EV_SERVED) }
#endif
#ifdef MUTATE_ENDED_WHILE_SERVING
  :: atomic { up_s && state_s == NC_S_SERVING && qemu_s != DEAD -> end_source() }
#endif
#ifdef MUTATE_SERVING_TIMEOUT
  :: atomic { up_s && state_s == NC_S_SERVING && right_s == RELEASED ->
       right_s = HELD; epoch_s = EPOCH(attempt) + 1; step(state_s, NC_EV_OPERATOR) }
#endif
#ifndef MUTATE_SOURCE_LOST_UNSAID
  :: atomic { up_s && (state_s == NC_S_RELEASED || state_s == NC_S_SERVING) && postcopy[attempt] && qemu_s == DEAD && !said_source_lost[attempt] ->
       said_source_lost[attempt] = true }
#endif
#ifndef MUTATE_LOST_UNHEARD_BEFORE_STARTED
  /* Lost there can only be what was started there. */
  :: atomic { up_s && state_s == NC_S_RELEASED && right_s == RELEASED && qemu_s == DEAD && said_lost[attempt] -> step(state_s, NC_EV_STARTED_POSTCOPY) }
#endif
  :: atomic { up_s && state_s == NC_S_SERVING && qemu_s == DEAD && said_lost[attempt] && !wanted ->
       step(state_s, NC_EV_LOST); unfinished = false; state_s = NO_STATE }

  /* --- crashes and what is found afterwards --- */
  :: atomic { up_s && !calm && crashes < CRASHES && unfinished -> crash_source(); check() }
  :: atomic { !up_s ->
       up_s = true;
       if
       :: !unfinished
       :: unfinished && right_s == RELEASED -> state_s = NC_S_RELEASED
#ifdef MUTATE_RECOVERY_RESUMES
       :: unfinished && right_s == RELEASED -> resume_source(); unfinished = false
#endif
       :: unfinished && right_s == HELD -> /* undone, or taken back: either way it runs here */
            state_s = NC_S_COPYING; step(state_s, NC_EV_ABORT); migrating = true
       fi;
       check() }
  :: atomic { qemu_s != DEAD && !calm && deaths < DEATHS && unfinished -> qemu_s = DEAD; migrating = false; deaths++; killed_s = true }
  od
}

/* Never starts this epoch: QEMU is killed first, then the refusal is made durable, then it is said. */
#define MAY_REFUSE (state_d == NC_D_RECEIVING || state_d == NC_D_GRANTED)

#define MAY_PREPARE(a) (a <= ATTEMPTS && up_d && state_d == NO_STATE && said_prepare[a] && epoch_d < EPOCH(a) && \
                        (right_d == NO_RIGHT || right_d == REFUSED))

inline prepare(a)
{
  attempt_d = a;
  right_d = INCOMING;
  epoch_d = EPOCH(a);
  ordered = false;
  missing = false;
  coming = false;
  state_d = NC_D_RECEIVING
}

/* The right goes back, on disk, then it is said. Its thread, if it lives, ends. */
inline let_go()
{
  if
  :: state_d == NC_D_RUNNING -> step(state_d, NC_EV_DONE)
  :: else
  fi;
  state_d = NO_STATE;
  right_d = REFUSED;
  said_refused[attempt_d] = true
}

#ifdef MUTATE_LOST_THOUGH_COMPLETE
#define LACKS_FOR_EVER true
#elif defined(MUTATE_LOST_OVERTAKES_PAGES)
#define LACKS_FOR_EVER missing
#else
#define LACKS_FOR_EVER (missing && !coming)
#endif

active proctype destination()
{
end:
  do
  /* --- preparing: an epoch is used once --- */
  :: atomic { MAY_PREPARE(1) -> prepare(1) }
  :: atomic { MAY_PREPARE(2) -> prepare(2) }
  :: atomic { up_d && state_d == NC_D_RECEIVING && qemu_d == NONE -> qemu_d = WAITS; said_prepared[attempt_d] = true }
  :: atomic { qemu_d == WAITS && sent_stream[attempt_d] -> qemu_d = LOADED; missing = postcopy[attempt_d] } /* it stays stopped: -S */

  /* --- taking: on disk, then `cont` --- */
  :: atomic { up_d && state_d == NC_D_RECEIVING && sent_grant[attempt_d] && qemu_d != NONE -> step(state_d, NC_EV_GRANT) }
#ifdef MUTATE_CONT_BEFORE_HELD
  :: atomic { up_d && state_d == NC_D_GRANTED && qemu_d == LOADED -> qemu_d = RUNS; ran = attempt_d; check() }
#endif
#ifdef MUTATE_NO_GRANT
  :: atomic { up_d && state_d == NC_D_RECEIVING && qemu_d == LOADED -> step(state_d, NC_EV_GRANT) }
#endif
  :: atomic { up_d && state_d == NC_D_GRANTED && qemu_d == LOADED && right_d == INCOMING -> right_d = HELD; check() }
  :: atomic { up_d && state_d == NC_D_GRANTED && right_d == HELD -> step(state_d, NC_EV_LOADED) }
  :: atomic { up_d && state_d == NC_D_TAKEN && !ordered && qemu_d == LOADED -> ordered = true } /* seen alive, then told to run */
  :: atomic { up_d && state_d == NC_D_TAKEN && ordered && qemu_d == LOADED -> qemu_d = RUNS; ran = attempt_d; check() }
  :: atomic { up_d && state_d == NC_D_TAKEN && qemu_d == RUNS ->
       if
       :: postcopy[attempt_d] -> step(state_d, NC_EV_CONT_POSTCOPY)
       :: else -> step(state_d, NC_EV_CONT)
       fi }
  :: atomic { up_d && state_d == NC_D_RUNNING && !said_started[attempt_d] -> said_started[attempt_d] = true }
  :: atomic { up_d && state_d == NC_D_RUNNING && said_started[attempt_d] && !said_alive[attempt_d] && qemu_d == RUNS -> said_alive[attempt_d] = true }
  :: atomic { up_d && state_d == NC_D_RUNNING && said_finished[attempt_d] -> step(state_d, NC_EV_DONE); state_d = NO_STATE }

  /* --- post-copy: it runs, and the source's QEMU is needed --- */
  :: atomic { up_s && (state_s == NC_S_RELEASED || state_s == NC_S_SERVING) && qemu_s == STOPPED &&
              up_d && (state_d == NC_D_TAKEN || state_d == NC_D_FETCHING) && MISSES_PAGES && !coming ->
       coming = true }
  :: atomic { up_d && coming && MISSES_PAGES -> missing = false; coming = false }
  :: atomic { up_d && state_d == NC_D_FETCHING && !said_started_postcopy[attempt_d] -> said_started_postcopy[attempt_d] = true }
  :: atomic { up_d && state_d == NC_D_FETCHING && qemu_d == RUNS && !missing ->
       step(state_d, NC_EV_FETCHED); said_fetched[attempt_d] = true }
#ifdef MUTATE_LOST_SAID_FIRST
  :: atomic { up_d && state_d == NC_D_FETCHING && qemu_d == RUNS && said_source_lost[attempt_d] && LACKS_FOR_EVER && !said_lost[attempt_d] ->
       said_lost[attempt_d] = true }
#endif
  /* It reads to the end of what is on its way, then sees what it has; QEMU first, then the word. */
  :: atomic { up_d && state_d == NC_D_FETCHING && qemu_d == RUNS && said_source_lost[attempt_d] && LACKS_FOR_EVER ->
       assert(missing && !coming && qemu_s == DEAD); /* or it could have been saved */
       qemu_d = NONE }
  :: atomic { up_d && state_d == NC_D_FETCHING && (qemu_d == DEAD || qemu_d == NONE) ->
       step(state_d, NC_EV_LOST); said_lost[attempt_d] = true; state_d = NO_STATE }
#ifndef MUTATE_LOSS_FORGOTTEN
  /* Who asks later is answered from the right alone. */
  :: atomic { up_d && state_d == NO_STATE && right_d == HELD && (qemu_d == DEAD || qemu_d == NONE) && postcopy[attempt_d] && !said_lost[attempt_d] ->
       said_lost[attempt_d] = true }
#endif
#ifdef MUTATE_REFUSED_WHILE_FETCHING
  :: atomic { up_d && state_d == NC_D_FETCHING -> qemu_d = NONE; right_d = REFUSED; said_refused[attempt_d] = true; state_d = NO_STATE }
#endif

  /* --- refusing, for any reason: QEMU first, then the disk, then the word --- */
#ifdef MUTATE_REFUSAL_SAID_FIRST
  :: atomic { up_d && MAY_REFUSE && !said_refused[attempt_d] -> said_refused[attempt_d] = true }
#endif
  :: atomic { up_d && MAY_REFUSE && right_d == INCOMING -> qemu_d = NONE;
       if
       :: right_d = REFUSED
       :: !calm && failed_writes < FAILED_WRITES -> failed_writes++ /* what is INCOMING without a QEMU can't start either */
       fi;
       step(state_d, NC_EV_REFUSE); said_refused[attempt_d] = true; state_d = NO_STATE }
  :: atomic { up_d && state_d == NC_D_TAKEN && (qemu_d == LOADED || (qemu_d == DEAD && !ordered)) ->
       qemu_d = NONE; /* it does not obey, and is seen to stand still; or was dead before it was told to run */
       if
       :: true -> right_d = REFUSED; step(state_d, NC_EV_REFUSE); said_refused[attempt_d] = true
       :: !calm && failed_writes < FAILED_WRITES -> failed_writes++;
#ifdef MUTATE_REFUSAL_WITHOUT_DISK
            said_refused[attempt_d] = true;
#endif
            step(state_d, NC_EV_LOST); said_lost[attempt_d] = postcopy[attempt_d]
       fi;
       state_d = NO_STATE }
  :: atomic { up_d && state_d == NC_D_TAKEN && qemu_d == DEAD && ordered -> /* nobody knows whether it obeyed */
#ifdef MUTATE_DEAD_IS_REFUSED
       right_d = REFUSED; said_refused[attempt_d] = true;
#endif
       step(state_d, NC_EV_LOST); said_lost[attempt_d] = postcopy[attempt_d]; state_d = NO_STATE }

  /* --- wanted back at the source --- */
  :: atomic { up_d && said_let_go[attempt_d] && right_d == HELD && !HOLDS_D -> let_go() }
#ifdef MUTATE_LETS_GO_OF_WHAT_RUNS
  :: atomic { up_d && said_let_go[attempt_d] && right_d == HELD && state_d == NO_STATE && qemu_d == RUNS -> let_go() }
#endif
#ifdef MUTATE_LETS_GO_WHILE_STARTING
  :: atomic { up_d && said_let_go[attempt_d] && right_d == HELD && starting == MAY_START -> let_go() }
#endif

  /* --- started anew, after it was lost: asked first, since the source may have it back. The machine boots, so nothing is missing --- */
  :: atomic { up_d && !calm && starts < STARTS_ANEW && state_d == NO_STATE && right_d == HELD && OFF_D && starting == NOT_STARTING ->
       starts++; starting = ASKS }
  :: atomic { up_d && up_s && starting == ASKS && (right_s == HELD || epoch_s > epoch_d) -> right_d = REFUSED; starting = NOT_STARTING }
#ifdef MUTATE_STARTED_THOUGH_WANTED_BACK
  :: atomic { up_d && up_s && starting == ASKS && right_s == RELEASED && epoch_s == epoch_d && wanted -> starting = MAY_START }
#endif
  :: atomic { up_d && up_s && starting == ASKS && right_s == RELEASED && epoch_s == epoch_d && !wanted -> starting = MAY_START; permitted = true }
#ifdef MUTATE_STARTED_UNASKED
  :: atomic { up_d && starting == ASKS -> starting = MAY_START }
#endif
  :: atomic { up_d && starting == ASKS -> starting = NOT_STARTING } /* it is wanted back, or nobody answers */
  :: atomic { up_d && starting == MAY_START ->
       starting = NOT_STARTING;
       if
       :: true -> qemu_d = RUNS; missing = false; ran = attempt_d; check(); said_started[attempt_d] = true; said_alive[attempt_d] = true
       :: true -> permitted = false /* that fails */
       fi }

  /* --- crashes and what is found afterwards --- */
  :: atomic { up_d && !calm && crashes < CRASHES && right_d != NO_RIGHT ->
       up_d = false; state_d = NO_STATE; coming = false; crashes++;
       permitted = permitted && starting == NOT_STARTING; starting = NOT_STARTING;
       if
       :: true
       :: said_source_lost[attempt_d] = false
       fi }
  :: atomic { !up_d ->
       up_d = true;
       if
       :: right_d == INCOMING -> qemu_d = NONE; right_d = REFUSED; said_refused[attempt_d] = true
#ifdef MUTATE_RECOVERY_FORGETS_PAGES
       :: right_d == HELD && (qemu_d == LOADED || qemu_d == RUNS) ->
#else
       :: right_d == HELD && (qemu_d == LOADED || qemu_d == RUNS) && missing ->
            qemu_d = RUNS; ran = attempt_d; check(); state_d = NC_D_FETCHING
       :: right_d == HELD && (qemu_d == LOADED || qemu_d == RUNS) && !missing ->
#endif
            qemu_d = RUNS; ran = attempt_d; check(); said_started[attempt_d] = true; said_alive[attempt_d] = true
       :: right_d == HELD && (qemu_d == DEAD || qemu_d == NONE)
       :: right_d == NO_RIGHT || right_d == REFUSED
       fi }
  :: atomic { (qemu_d == WAITS || qemu_d == LOADED || qemu_d == RUNS) && !calm && deaths < DEATHS ->
       qemu_d = DEAD; permitted = false; deaths++; killed_d = true }

  /* --- an operator has seen that it does not run there, and that here is one that can: run here. Perhaps it is about to be started --- */
  :: atomic { AWAITS_VERDICT && !wanted && right_s == RELEASED && qemu_s != DEAD && right_d == HELD && epoch_d == EPOCH(attempt) && OFF_D ->
       fenced = attempt; wanted = true }
  od
}

/*
 * Nobody has anything left to do. Then the machine runs in one place, or the only copy of it was killed; and no
 * migration is left hanging, unless the death of the source's QEMU has made it one for people. Whatever may go wrong may also
 * not go wrong, so at any moment it stops.
 */
active proctype ended()
{
end:
  calm = true;
end_calm:
  timeout ->
    assert(state_s != NC_S_WAITING); /* a machine that died meanwhile can't be tried again */
    assert(qemu_s == RUNS || qemu_d == RUNS || killed_s || (ended_s && killed_d));
    assert(!unfinished || killed_s);
    assert(state_s != NC_S_SERVING && state_d != NC_D_FETCHING); /* nobody waits for pages that never come */
    assert(state_s != NC_S_RELEASED || !postcopy[attempt]) /* nor for the word of one that is known to be lost */
}
