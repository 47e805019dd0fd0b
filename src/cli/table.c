/* SPDX-License-Identifier: Apache-2.0 */
/* Measuring, cutting and aligning text. */
#include "cli/table.h"

#include <stdio.h>
#include <string.h>

#define NC_FACT_INDENT 15 /* "  " + the longest name + a blank */
#define NC_CELL_MIN 4     /* what a cut cell keeps at least */

struct NcTable {
  const NcColumn *columns;
  size_t n_columns;
  GPtrArray *rows; /* GStrv */
};

char *
nc_text_clean(const char *text)
{
  char *clean = g_utf8_make_valid(text, -1);

  for (char *c = clean; *c; c = g_utf8_next_char(c)) {
    gunichar u = g_utf8_get_char(c);
    if (u < 0x20 || u == 0x7f)
      *c = '?';
    else if (u >= 0x80 && u < 0xa0) /* C1 controls: two bytes in UTF-8 */
      c[0] = c[1] = '?';
  }
  return clean;
}

NcTable *
nc_table_new(const NcColumn *columns, size_t n_columns)
{
  NcTable *table = g_new0(NcTable, 1);
  table->columns = columns;
  table->n_columns = n_columns;
  table->rows = g_ptr_array_new_with_free_func((GDestroyNotify)g_strfreev);
  return table;
}

void
nc_table_free(NcTable *table)
{
  if (!table)
    return;
  g_ptr_array_unref(table->rows);
  g_free(table);
}

void
nc_table_add(NcTable *table, const char *const *cells)
{
  char **row = g_new0(char *, table->n_columns + 1);

  for (size_t i = 0; i < table->n_columns; i++)
    row[i] = nc_text_clean(cells[i] && cells[i][0] ? cells[i] : "-");
  g_ptr_array_add(table->rows, row);
}

static size_t
nc_text_width(const char *text)
{
  return (size_t)g_utf8_strlen(text, -1);
}

static void
nc_table_measure(const NcTable *table, size_t *widths)
{
  size_t total = 0;

  for (size_t i = 0; i < table->n_columns; i++) {
    widths[i] = nc_text_width(table->columns[i].title);
    for (guint r = 0; r < table->rows->len; r++)
      widths[i] = MAX(widths[i], nc_text_width(((char **)table->rows->pdata[r])[i]));
    total += widths[i] + 2;
  }
  /* One column at a time off the widest that may give: they end up alike. */
  for (; total > NC_COLUMNS + 2; total--) {
    size_t widest = table->n_columns;
    for (size_t i = 0; i < table->n_columns; i++)
      if (table->columns[i].shrink && widths[i] > NC_CELL_MIN &&
          (widest == table->n_columns || widths[i] > widths[widest]))
        widest = i;
    if (widest == table->n_columns)
      return;
    widths[widest]--;
  }
}

static void
nc_table_print_cell(const char *text, size_t width, bool right, bool last)
{
  size_t have = nc_text_width(text);
  g_autofree char *cut = have > width ? g_utf8_substring(text, 0, (glong)width - 1) : NULL;

  if (right && have < width)
    printf("%*s", (int)(width - have), "");
  if (cut)
    printf("%s~", cut);
  else
    fputs(text, stdout);
  if (last)
    putchar('\n');
  else
    printf("%*s", right || have >= width ? 2 : (int)(width - have) + 2, "");
}

void
nc_table_print(const NcTable *table, const char *empty)
{
  g_autofree size_t *widths = g_new0(size_t, table->n_columns);

  if (table->rows->len == 0) {
    puts(empty);
    return;
  }
  nc_table_measure(table, widths);
  for (size_t i = 0; i < table->n_columns; i++)
    nc_table_print_cell(table->columns[i].title, widths[i], table->columns[i].right, i + 1 == table->n_columns);
  for (guint r = 0; r < table->rows->len; r++)
    for (size_t i = 0; i < table->n_columns; i++)
      nc_table_print_cell(((char **)table->rows->pdata[r])[i], widths[i], table->columns[i].right,
                          i + 1 == table->n_columns);
}

/* The words of ${text} behind what stands in the line up to ${column}; further lines begin with ${indent} blanks. */
static void
nc_print_words(FILE *file, const char *text, size_t column, int indent)
{
  g_auto(GStrv) words = g_strsplit(text, " ", -1);
  bool begun = false;

  for (char **word = words; *word; word++) {
    size_t width = nc_text_width(*word);
    if (begun && column + 1 + width > NC_COLUMNS) {
      fprintf(file, "\n%*s", indent, "");
      column = (size_t)indent;
      begun = false;
    }
    fprintf(file, "%s%s", begun ? " " : "", *word);
    column += width + begun;
    begun = true;
  }
  fputc('\n', file);
}

void
nc_print_fact(const char *name, const char *format, ...)
{
  va_list args;

  va_start(args, format);
  g_autofree char *raw = g_strdup_vprintf(format, args);
  va_end(args);
  g_autofree char *text = nc_text_clean(raw);
  nc_print_words(stdout, text, (size_t)printf("  %-*s", NC_FACT_INDENT - 2, name), NC_FACT_INDENT);
}

void
nc_print_paragraph(FILE *file, int indent, const char *text)
{
  g_autofree char *clean = nc_text_clean(text);

  fprintf(file, "%*s", indent, "");
  nc_print_words(file, clean, (size_t)indent, indent + 2);
}
