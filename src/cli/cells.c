/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cells.h"
#include "cli/table.h"

#include <string.h>

char *
nc_cells_clean(const char *text)
{
  g_autofree char *valid = nc_text_clean(text);
  g_autofree char *composed = g_utf8_normalize(valid, -1, G_NORMALIZE_NFC);
  GString *clean = g_string_sized_new(strlen(valid));

  for (const char *c = composed ? composed : valid; *c; c = g_utf8_next_char(c)) {
    gunichar u = g_utf8_get_char(c);
    GUnicodeType type = g_unichar_type(u);
    if (type == G_UNICODE_LINE_SEPARATOR || type == G_UNICODE_PARAGRAPH_SEPARATOR)
      g_string_append_c(clean, '?');
    else if (type != G_UNICODE_FORMAT && !g_unichar_iszerowidth(u))
      g_string_append_unichar(clean, u);
  }
  return g_string_free(clean, FALSE);
}

static size_t
nc_cells_of(const char *c)
{
  return g_unichar_iswide(g_utf8_get_char(c)) ? 2 : 1;
}

size_t
nc_cells_width(const char *clean)
{
  size_t width = 0;

  for (const char *c = clean; *c; c = g_utf8_next_char(c))
    width += nc_cells_of(c);
  return width;
}

size_t
nc_cells_prefix(const char *clean, size_t width)
{
  const char *c = clean;

  for (size_t used = 0; *c && used + nc_cells_of(c) <= width; c = g_utf8_next_char(c))
    used += nc_cells_of(c);
  return (size_t)(c - clean);
}

char *
nc_cells_fit(const char *clean, size_t width, gboolean right)
{
  size_t have = nc_cells_width(clean);
  GString *fit = g_string_new(NULL);

  if (have <= width)
    g_string_append(fit, clean);
  else if (width > 0)
    g_string_append_printf(fit, "%.*s~", (int)nc_cells_prefix(clean, width - 1), clean);
  for (have = nc_cells_width(fit->str); have < width; have++) /* a wide character that was cut leaves one, too */
    g_string_insert_c(fit, right ? 0 : -1, ' ');
  return g_string_free(fit, FALSE);
}
