/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How something is getting on, on standard error: on a terminal one line
 * redrawn in place, else a line every 2 seconds. One thread at a time.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
  bool terminal;
  int64_t last_us; /* of the last plain line; 0: none yet */
} NcProgressLine;

void nc_progress_line_begin(NcProgressLine *line);
void nc_progress_line_draw(NcProgressLine *line, const char *text);
/* Wipes it, before anything else is printed; drawing may go on afterwards. */
void nc_progress_line_end(const NcProgressLine *line);
