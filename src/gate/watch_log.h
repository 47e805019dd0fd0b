/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What watchers of one thing, a migration or the fleet, are told: its events, each with its ascending
 * id, and the newest sample of its progress. Kept once, as finished frames,
 * however many watch: a watcher is a place in it. So a slow one misses samples,
 * which are replaced, and no event; and nothing is queued for it. Pure, not
 * thread-safe.
 */
#pragma once

#include "base/error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct NcWatchLog NcWatchLog;

/* Keeps the newest ${max_events}, and ${max_bytes} of them (but always the last one). */
NcWatchLog *nc_watch_log_new(unsigned max_events, size_t max_bytes);
void nc_watch_log_free(NcWatchLog *log);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcWatchLog, nc_watch_log_free)

/*
 * novacrond's answer to migration.watch or fleet.watch (borrowed); without "progress" there is no sample. "from", if it
 * has it: it begins behind that event, and if that is not the last one that was taken, there is a gap. NC_ERROR_PROTOCOL if it is none; what was taken of it before stays. */
bool nc_watch_log_take(NcWatchLog *log, json_t *answer, GError **error);
int64_t nc_watch_log_last(const NcWatchLog *log); /* to be asked for what is behind it; 0: nothing yet */
bool nc_watch_log_has_more(const NcWatchLog *log); /* the last answer was a full page: ask at once */
bool nc_watch_log_has_ended(const NcWatchLog *log); /* nothing will be added */

/* Where one watcher is. */
typedef struct {
  int64_t id;      /* of the last event it was told of */
  uint64_t sample; /* number of the last sample; 0: none */
  uint64_t answers; /* of novacrond's that had come when it began */
} NcWatchPlace;
/* A place behind event ${since}; negative: at the beginning of what is kept. */
NcWatchPlace nc_watch_log_begin(const NcWatchLog *log, int64_t since);

/*
 * The next frame for ${place}, which moves behind it; NULL: nothing now. Events first, then the newest sample. Where events
 * are no longer kept comes a frame of type "gap"; also, after another answer, for a place behind all there is (an id of
 * another node, or of a journal that lost its end), which goes back to the first that is kept. New reference.
 */
GBytes *nc_watch_log_next(const NcWatchLog *log, NcWatchPlace *place);
