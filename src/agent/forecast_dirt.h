/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of a forecast, what the guest dirties: the rate and the working set that explain best what was seen. Each look at the memory and each
 * round shows how much was dirty after how long; a look shows it by some sampled pages, so that a small one may be far off, and the
 * fastest of many is mostly chance.
 *
 * Pure computation; any thread.
 */
#pragma once

#include <glib.h>

typedef struct {
  double seconds, bytes; /* so much was dirty after so long, more than 0 */
  double variance;       /* of the bytes, relative: 0.01 is a tenth, more or less */
} NcDirtPoint;

typedef struct {
  double rate;        /* bytes per second when nothing was dirty before; 0: not known */
  double working_set; /* bytes; 0: more than was seen */
} NcDirt;

/* What fits ${points} best, as in D(t) = W (1 - exp(-r t / W)); one of them tells a rate only, none tells nothing. */
NcDirt nc_dirt_fit(const NcDirtPoint *points, unsigned count);
