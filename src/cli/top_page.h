/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of a page of `novacron top` as they are written: each keeps to its columns, whatever texts it is given. */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef enum { NC_TOP_PLAIN, NC_TOP_BOLD, NC_TOP_GOOD, NC_TOP_BAD, NC_TOP_BUSY } NcTopStyle;

typedef struct {
  GPtrArray *lines; /* char *, finished */
  size_t columns;
  bool is_screen;   /* lines are as long as the screen is wide, and may be bold or inverted */
  bool has_colours; /* of a screen */
  /* of the line that is being written: */
  GString *line;
  size_t used;
  bool is_marked; /* inverted: the line that is selected */
} NcTopPage;

void nc_top_page_begin(NcTopPage *page, size_t columns, bool is_screen, bool has_colours);
/* ${text} is cleaned, and cut where the line is full. */
void nc_top_put(NcTopPage *page, NcTopStyle style, const char *text);
void nc_top_putf(NcTopPage *page, NcTopStyle style, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* Blanks up to ${column}, if the line is not there yet. */
void nc_top_put_blanks(NcTopPage *page, size_t column);
void nc_top_end_line(NcTopPage *page);
/* ${text}, cleaned, in as many lines as it takes, each after ${indent} blanks, of which the first begins where the line is. */
void nc_top_put_paragraph(NcTopPage *page, NcTopStyle style, size_t indent, const char *text);
/* The lines; the caller's. */
GPtrArray *nc_top_page_end(NcTopPage *page);
