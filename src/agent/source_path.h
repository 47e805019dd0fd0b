/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way from source to destination: the movers' connections and the agents'
 * session, whether they stand, and the attempts to get them back.
 *
 * Losing them is no failure. QEMU sees a flow that stands still. Before the release a
 * migration that has no connection for `path_timeout_ms` is cancelled, and
 * the machine runs on here; after it there is no time limit (design section 5), only
 * the question to people. The session is needed for the verdict and not for the flow, so
 * its loss alone cancels nothing.
 *
 * All functions are of the migration's own thread.
 */
#pragma once

#include "agent/migration_peer.h"
#include "mover/dialler.h"

typedef struct NcSourcePath NcSourcePath;

/* ${m} is borrowed. */
NcSourcePath *nc_source_path_new(NcMigration *m);
/* Where the movers connect to, at least one path (base/tcp.h), copied, and how often. Before nc_source_path_dial(). */
void nc_source_path_set(NcSourcePath *p, const char *const *paths, unsigned streams);
void nc_source_path_free(NcSourcePath *p); /* NULL is fine; may wait for an attempt under way, NC_PATH_SESSION_MS at most */

/* Begins to connect the movers; after ${m} has its mover. */
void nc_source_path_dial(NcSourcePath *p);
/* Waits for it. NC_ERROR_UNREACHABLE and others of base/tcp.h. */
bool nc_source_path_await(NcSourcePath *p, GError **error);
/* The mover is going, and with it the connections. */
void nc_source_path_hang_up(NcSourcePath *p);

/* The mover's events `lost`, `back`, `refused`; others are ignored. */
void nc_source_path_on_mover(NcSourcePath *p, json_t *event);
/* The session is gone, or says nothing: it is opened anew. */
void nc_source_path_lost_session(NcSourcePath *p);
/* Monotonic microseconds since when there is no session; 0: it stands. */
int64_t nc_source_path_cut_off_since_us(const NcSourcePath *p);

/*
 * Asks the destination what became of the migration, and says whether there is still a mover here: without one, a
 * destination that has not got everything never will. False: there is no session.
 */
bool nc_source_path_ask(NcSourcePath *p);
/* Several times a second: takes a session that has come back, and asks on it what became of the migration. */
void nc_source_path_tick(NcSourcePath *p);
/* Has there been no connection of the movers for ${timeout_ms}? Then *error says so. */
bool nc_source_path_is_given_up(NcSourcePath *p, int timeout_ms, GError **error);
/* Why the last attempt to open the session failed; borrowed, until the next call. */
const char *nc_source_path_session_problem(NcSourcePath *p);
