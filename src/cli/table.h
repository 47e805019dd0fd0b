/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text for people on standard output: tables and lists of facts that fit a
 * terminal of 80 columns. What other machines said is printed without control
 * characters, so that it can't play with the terminal.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdio.h>

#define NC_COLUMNS 80

typedef struct {
  const char *title;
  bool right;  /* aligned: numbers */
  bool shrink; /* may be cut (with "~" at the end) if a row does not fit */
} NcColumn;

typedef struct NcTable NcTable;

NcTable *nc_table_new(const NcColumn *columns, size_t n_columns);
/* ${cells}: as many as columns; copied; NULL is "-". */
void nc_table_add(NcTable *table, const char *const *cells);
/* Prints title and rows, or only ${empty} if there are none. */
void nc_table_print(const NcTable *table, const char *empty);
void nc_table_free(NcTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcTable, nc_table_free)

/* "  name        text", continued below itself if it is long. */
void nc_print_fact(const char *name, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* ${text}, cleaned, ${indent} blanks in front, further lines two more; to ${file}. */
void nc_print_paragraph(FILE *file, int indent, const char *text);

/* Control characters to "?"; invalid UTF-8 replaced. Caller frees. */
char *nc_text_clean(const char *text);
