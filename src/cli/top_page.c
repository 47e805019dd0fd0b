/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_page.h"
#include "cli/cells.h"

void
nc_top_page_begin(NcTopPage *page, size_t columns, bool is_screen, bool has_colours)
{
  *page = (NcTopPage){
    .lines = g_ptr_array_new_with_free_func(g_free), .columns = columns, .is_screen = is_screen, .has_colours = has_colours
  };
  page->line = g_string_new(NULL);
}

/* How a terminal is told; NULL: not at all. Bold is no colour. */
static const char *
nc_top_sequence(const NcTopPage *page, NcTopStyle style)
{
  static const char *const sequences[] = { [NC_TOP_BOLD] = "\033[1m", [NC_TOP_GOOD] = "\033[32m", [NC_TOP_BAD] = "\033[31m", [NC_TOP_BUSY] = "\033[36m" };

  if (!page->is_screen || page->is_marked || style == NC_TOP_PLAIN || (!page->has_colours && style != NC_TOP_BOLD))
    return NULL;
  return sequences[style];
}

void
nc_top_put(NcTopPage *page, NcTopStyle style, const char *text)
{
  g_autofree char *clean = nc_cells_clean(text);
  size_t room = page->columns - page->used;
  const char *sequence = nc_top_sequence(page, style);

  clean[nc_cells_prefix(clean, room)] = '\0';
  g_string_append_printf(page->line, "%s%s%s", sequence ? sequence : "", clean, sequence ? "\033[0m" : "");
  page->used += nc_cells_width(clean);
}

void
nc_top_putf(NcTopPage *page, NcTopStyle style, const char *format, ...)
{
  va_list args;

  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  nc_top_put(page, style, text);
}

void
nc_top_put_blanks(NcTopPage *page, size_t column)
{
  for (; page->used < MIN(column, page->columns); page->used++)
    g_string_append_c(page->line, ' ');
}

void
nc_top_end_line(NcTopPage *page)
{
  if (page->is_screen)
    nc_top_put_blanks(page, page->columns);
  else
    while (page->line->len > 0 && page->line->str[page->line->len - 1] == ' ')
      g_string_truncate(page->line, page->line->len - 1);
  if (page->is_screen && page->is_marked) {
    g_string_prepend(page->line, "\033[7m");
    g_string_append(page->line, "\033[0m");
  }
  g_ptr_array_add(page->lines, g_strdup(page->line->str));
  g_string_truncate(page->line, 0);
  page->used = 0;
  page->is_marked = false;
}

void
nc_top_put_paragraph(NcTopPage *page, NcTopStyle style, size_t indent, const char *text)
{
  g_autofree char *clean = nc_cells_clean(text);
  g_auto(GStrv) words = g_strsplit(clean, " ", -1);
  bool begun = false;

  indent = MIN(indent, page->columns / 2);
  nc_top_put_blanks(page, indent);
  for (char **word = words; *word; word++) {
    const char *left = *word;
    if (begun && page->used + 1 + nc_cells_width(left) > page->columns) {
      nc_top_end_line(page);
      nc_top_put_blanks(page, indent);
      begun = false;
    }
    if (begun)
      nc_top_put(page, NC_TOP_PLAIN, " ");
    while (nc_cells_width(left) > page->columns - page->used) { /* longer than a line */
      size_t n = nc_cells_prefix(left, page->columns - page->used);
      if (n == 0 && page->used <= indent) /* not even one wide character has room */
        break;
      g_autofree char *part = g_strndup(left, n);
      nc_top_put(page, style, part);
      left += n;
      nc_top_end_line(page);
      nc_top_put_blanks(page, indent);
    }
    nc_top_put(page, style, left);
    begun = true;
  }
  nc_top_end_line(page);
}

GPtrArray *
nc_top_page_end(NcTopPage *page)
{
  g_string_free(page->line, TRUE);
  return page->lines;
}
