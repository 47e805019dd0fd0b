/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Those who watch over WebSockets, migrations of this node or what the fleet's controllers manage: one thread for all of
 * them.
 *
 * A thing that is watched is asked about once per interval, however many
 * watch it, and what is to be told is kept once (gate/watch_log.h); a watcher
 * costs a descriptor, a place and the frame that it is being sent. Thread-safe.
 */
#pragma once

#include "gate/backend.h"

typedef struct NcWatchers NcWatchers;

typedef struct {
  unsigned watchers; /* at once; 0: watching is off */
  unsigned per_client; /* the same of one client (nc_watchers_reserve) */
  unsigned things; /* watched at once */
  unsigned fleet_things; /* of those, of the fleet: asking about one may take another node's time, too */
  unsigned ask_ms;     /* how often novacrond is asked about each */
  unsigned fleet_ask_ms; /* the same of the fleet's */
  unsigned ping_ms;    /* how often a silent client is asked whether it is there */
  unsigned silence_ms; /* a client from which nothing came, or that took nothing of a frame, for so long is gone */
} NcWatchLimits;

/* ${backend} (borrowed) must be stopped before nc_watchers_stop(). NULL on error. */
NcWatchers *nc_watchers_new(NcBackend *backend, const NcWatchLimits *limits, GError **error);

/* What is watched. */
typedef struct {
  const char *op; /* novacrond's, which tells of it: "migration.watch", or "fleet.watch" */
  const char *id; /* of a migration, batch or evacuation; "": all that happens in the fleet */
} NcWatched;

/*
 * A place for one more who wants to watch ${what}; it is given back by nc_watchers_release(), or becomes a watcher's by
 * nc_watchers_add(). ${client}: whose places are counted (an address); NULL: nobody's. false: NC_ERROR_RESOURCE. *ret_known: it
 * is being watched and exists, so there is no need to ask.
 */
bool nc_watchers_reserve(NcWatchers *watchers, const char *client, const NcWatched *what, bool *ret_known, GError **error);
void nc_watchers_release(NcWatchers *watchers, const char *client);
/* How many there are in all. */
unsigned nc_watchers_places(const NcWatchers *watchers);

typedef struct {
  NcWatched what;       /* copied */
  const char *client;   /* who reserved; copied */
  int64_t since;        /* the last event that is known already; negative: what comes, and what is kept of the last ones */
  int fd;               /* connected stream; not closed here */
  void (*over)(void *); /* called once, from any thread, when ${fd} is not used any more; then ${data} may go */
  void *data;
} NcWatcherOrder;

/* Uses a reserved place. ${early}: what came behind the handshake. */
void nc_watchers_add(NcWatchers *watchers, const NcWatcherOrder *order, const void *early, size_t early_bytes);

/* All are told and let go; who comes later is over at once. */
void nc_watchers_stop(NcWatchers *watchers);
void nc_watchers_free(NcWatchers *watchers); /* stops first; NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcWatchers, nc_watchers_free)
