/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's connections for its mover: made at the beginning, and again
 * whenever the mover has lost one.
 *
 * There are N connections and one or more paths ("[LOCAL>]HOST:PORT", base/tcp.h).
 * Connection i belongs to path i modulo the number of paths, and takes another one
 * when its own does not answer. Each is dialled on a thread of its own: a dead path
 * delays nobody. A connection that was lost is dialled until it is there or the
 * dialler goes, at growing intervals of at most NC_DIALLER_MOST_MS.
 *
 * The first of each gets cubic, its successors get BBR, where the kernel has them: which of both a path needs, shows
 * by what it loses (mover/congestion.h, decision 079).
 *
 * Needs nothing but src/base/. Thread-safe.
 */
#pragma once

#include "mover/process.h"

#define NC_DIALLER_MAX_STREAMS 16
#define NC_DIALLER_MAX_PATHS 8
#define NC_DIALLER_LEAST_MS 100
#define NC_DIALLER_MOST_MS 2000

typedef struct NcDialler NcDialler;

/*
 * Begins to dial all of them. ${paths}: NULL-terminated, copied. ${mover} is
 * borrowed until nc_dialler_free(). ${timeout_ms}: for each attempt.
 */
NcDialler *nc_dialler_new(NcMoverProcess *mover, const char *id, const char *const *paths, unsigned streams,
                          int timeout_ms);
/* Does the kernel have BBR, and may we use it? */
bool nc_dialler_has_bbr(void);
/* Waits until each has been connected once. False with the first error of one that could not be, by any path. */
bool nc_dialler_await(NcDialler *d, GError **error);
/* Connection ${index} was lost, or could not be used: dials it again. Nothing if that is under way. */
void nc_dialler_redial(NcDialler *d, unsigned index);
/* At once; attempts under way end by themselves, unheard. NULL is fine. */
void nc_dialler_free(NcDialler *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcDialler, nc_dialler_free)
