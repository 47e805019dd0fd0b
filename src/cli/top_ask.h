/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking the gate for what `novacron top` shows: what moves at each step, what changes seldom now and then, and a page of each
 * list at most.
 */
#pragma once

#include "cli/cli.h"

typedef struct NcTopAsker NcTopAsker;

/* ${cli}: borrowed. */
NcTopAsker *nc_top_asker_new(const NcCli *cli);
void nc_top_asker_free(NcTopAsker *asker);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcTopAsker, nc_top_asker_free)

/*
 * One step. New reference to what is known (cli/top_view.h), which nobody changes afterwards. Once there was an answer,
 * an error is a "problem" in it; before, NULL with the error. ${id}: of a migration that is wanted with its history; NULL:
 * of none.
 */
json_t *nc_top_ask(NcTopAsker *asker, const char *id, GError **error);

/* --- in a thread of its own, so that keys are heard while the gate takes its time --- */

typedef struct NcTopFeed NcTopFeed;

/* Takes ${asker}. A byte can be read from *ret_fd for each answer that waits to be taken; it belongs to the feed. */
NcTopFeed *nc_top_feed_start(NcTopAsker *asker, int *ret_fd, GError **error);
/* The newest answer; the caller's. NULL: there is none that was not taken. */
json_t *nc_top_feed_take(NcTopFeed *feed);
/* Asks also for migration ${id} with its history, and soon; NULL: no more. */
void nc_top_feed_want(NcTopFeed *feed, const char *id);
/* Ends the question under way, within about a second. */
void nc_top_feed_stop(NcTopFeed *feed);
