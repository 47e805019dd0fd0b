/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text in the cells of a terminal: some characters take two, some none. What
 * others wrote is made harmless first, so that it keeps to the cells it is given.
 */
#pragma once

#include <glib.h>

/*
 * ${text} without what could move the cursor or take no cell of its own: controls are "?", marks are composed or left
 * out, as is what turns the direction of writing. Caller frees.
 */
char *nc_cells_clean(const char *text);

/* Cells that ${clean} takes. */
size_t nc_cells_width(const char *clean);

/* Bytes of ${clean} that take no more than ${width} cells. */
size_t nc_cells_prefix(const char *clean, size_t width);

/* ${clean} in exactly ${width} cells: cut (with "~" at the end) or filled with blanks, in front if ${right}. Caller frees. */
char *nc_cells_fit(const char *clean, size_t width, gboolean right);
