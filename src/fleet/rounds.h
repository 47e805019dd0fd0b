/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mathematics of pre-copy: what a guest dirties while a round is sent, and what the next round is then.
 *
 * The theory is in agent/forecast.h: for a working set W written at a rate r, a time t dirties D(t) = W (1 - exp(-r t / W)).
 * A node's forecast plays a migration it sees by these functions, the fleet's simulator and planner one that is only described;
 * so they can't come to differ.
 *
 * Pure computation; any thread. Bytes, seconds, bytes per second.
 */
#pragma once

#include <stdbool.h>

#define NC_ROUND_NOTHING 4096.0 /* bytes: a page or less dirtied in a round is none */

/* Bytes dirtied in ${seconds} at ${rate}; ${working_set} 0: every write is to another page. */
double nc_rounds_dirt(double rate, double working_set, double seconds);

typedef struct {
  double dirty_rate, working_set; /* of the guest */
  double budget_bytes;            /* what of a round may be left for the pause */
  bool is_first;                  /* all memory is sent: what is dirtied was sent already */
  bool may_stall;                 /* that it does not shrink means that it never will */
} NcRoundTerms;

typedef enum {
  NC_ROUND_ON,    /* another one */
  NC_ROUND_LAST,  /* what is next fits into the pause */
  NC_ROUND_STALL, /* dirtied as fast as it is sent */
} NcRoundVerdict;

typedef struct {
  NcRoundVerdict verdict;
  double dirt; /* dirtied in this round */
  double next; /* to send in the next one, or in the pause */
} NcRoundEnd;

/* A round of ${left} bytes, of which ${kept} were not sent, has taken ${seconds}: what now? */
NcRoundEnd nc_rounds_end(const NcRoundTerms *terms, double left, double kept, double seconds);
