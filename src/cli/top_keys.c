/* SPDX-License-Identifier: Apache-2.0 */
/* What keys are, and what they do to what one looks at. */
#include "cli/top_view.h"

#include <string.h>

/* --- the order of the page --- */

static double
nc_top_value(json_t *m, const char *key, double unknown)
{
  json_t *value = json_object_get(m, key);
  return json_is_number(value) && json_number_value(value) > 0 ? json_number_value(value) : unknown;
}

static gint
nc_top_compare(gconstpointer pa, gconstpointer pb, gpointer user)
{
  json_t *a = *(json_t *const *)pa, *b = *(json_t *const *)pb;
  double x = 0, y = 0;

  switch (*(const NcTopSort *)user) {
  case NC_TOP_BY_ETA: /* the next to end first */
    x = nc_top_value(a, "eta_ms", G_MAXDOUBLE);
    y = nc_top_value(b, "eta_ms", G_MAXDOUBLE);
    break;
  case NC_TOP_BY_PROGRESS:
    x = -nc_top_value(a, "progress", 0);
    y = -nc_top_value(b, "progress", 0);
    break;
  case NC_TOP_BY_RATE:
    x = -nc_top_value(a, "wire_rate_bps", 0);
    y = -nc_top_value(b, "wire_rate_bps", 0);
    break;
  case NC_TOP_BY_MACHINE:
    return strcmp(nc_json_string_or(a, "vm", ""), nc_json_string_or(b, "vm", ""));
  default: /* as NovaCron answers: newest first */
    return 0;
  }
  return (x > y) - (x < y);
}

GPtrArray *
nc_top_order(json_t *frame, NcTopSort sort, size_t *ret_running)
{
  GPtrArray *order = g_ptr_array_new();
  size_t i;
  json_t *m;

  json_array_foreach(json_object_get(frame, "running"), i, m) g_ptr_array_add(order, m);
  g_ptr_array_sort_with_data(order, nc_top_compare, &sort); /* equal ones stay as they were */
  *ret_running = order->len;
  json_array_foreach(json_object_get(frame, "ended"), i, m) g_ptr_array_add(order, m);
  return order;
}

size_t
nc_top_selected(const NcTopLook *look, const GPtrArray *order)
{
  for (guint i = 0; look->selected && i < order->len; i++)
    if (g_str_equal(nc_json_string_or(order->pdata[i], "id", ""), look->selected))
      return i;
  return 0;
}

/* --- keys --- */

NcTopKey
nc_top_key_read(const char *bytes, size_t length, bool is_all, size_t *ret_used)
{
  static const struct {
    const char *bytes;
    NcTopKey key;
  } keys[] = {
    { "\033[A", NC_TOP_KEY_UP },       { "\033OA", NC_TOP_KEY_UP },      { "k", NC_TOP_KEY_UP },           { "\033[B", NC_TOP_KEY_DOWN },
    { "\033OB", NC_TOP_KEY_DOWN },     { "j", NC_TOP_KEY_DOWN },         { "\033[5~", NC_TOP_KEY_PAGE_UP }, { "\033[6~", NC_TOP_KEY_PAGE_DOWN },
    { " ", NC_TOP_KEY_PAGE_DOWN },     { "\033[H", NC_TOP_KEY_HOME },    { "\033OH", NC_TOP_KEY_HOME },    { "\033[1~", NC_TOP_KEY_HOME },
    { "g", NC_TOP_KEY_HOME },          { "\033[F", NC_TOP_KEY_END },     { "\033OF", NC_TOP_KEY_END },     { "\033[4~", NC_TOP_KEY_END },
    { "G", NC_TOP_KEY_END },           { "\r", NC_TOP_KEY_ENTER },       { "\n", NC_TOP_KEY_ENTER },       { "s", NC_TOP_KEY_SORT },
    { "?", NC_TOP_KEY_HELP },          { "h", NC_TOP_KEY_HELP },         { "\014", NC_TOP_KEY_REDRAW },    { "q", NC_TOP_KEY_QUIT },
    { "Q", NC_TOP_KEY_QUIT },          { "\003", NC_TOP_KEY_QUIT },      { "\004", NC_TOP_KEY_QUIT },
  };

  for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
    size_t n = strlen(keys[i].bytes);
    if (n <= length && memcmp(bytes, keys[i].bytes, n) == 0) {
      *ret_used = n;
      return keys[i].key;
    }
  }
  *ret_used = MIN(length, 1);
  if (length == 0 || bytes[0] != '\033')
    return NC_TOP_KEY_NONE;
  if (length == 1 || (bytes[1] != '[' && bytes[1] != 'O')) {
    *ret_used = length > 1 || is_all;
    return *ret_used ? NC_TOP_KEY_BACK : NC_TOP_KEY_NONE;
  }
  for (size_t i = 2; i < length; i++) { /* a sequence that means nothing here, to its last byte */
    if (bytes[i] >= 0x40 && bytes[i] <= 0x7e) {
      *ret_used = i + 1;
      return NC_TOP_KEY_NONE;
    }
  }
  *ret_used = is_all ? length : 0;
  return NC_TOP_KEY_NONE;
}

static void
nc_top_select(NcTopLook *look, json_t *frame, NcTopKey key)
{
  size_t running;
  g_autoptr(GPtrArray) order = nc_top_order(frame, look->sort, &running);
  size_t at = nc_top_selected(look, order), page = MAX(look->page, 1);

  if (order->len == 0)
    return;
  if (key == NC_TOP_KEY_HOME)
    at = 0;
  else if (key == NC_TOP_KEY_END)
    at = order->len - 1;
  else if (key == NC_TOP_KEY_UP || key == NC_TOP_KEY_PAGE_UP)
    at -= MIN(at, key == NC_TOP_KEY_UP ? 1 : page);
  else
    at = MIN(at + (key == NC_TOP_KEY_DOWN ? 1 : page), order->len - 1);
  g_free(look->selected);
  look->selected = g_strdup(nc_json_string_or(order->pdata[at], "id", ""));
}

static void
nc_top_scroll(NcTopLook *look, NcTopKey key)
{
  size_t step = key == NC_TOP_KEY_PAGE_UP || key == NC_TOP_KEY_PAGE_DOWN ? MAX(look->page, 1) : 1;

  if (key == NC_TOP_KEY_HOME)
    look->scroll = 0;
  else if (key == NC_TOP_KEY_END)
    look->scroll = G_MAXUINT; /* nc_top_lines() knows the end */
  else if (key == NC_TOP_KEY_UP || key == NC_TOP_KEY_PAGE_UP)
    look->scroll -= MIN(look->scroll, step);
  else
    look->scroll += step;
}

static void
nc_top_turn(NcTopLook *look, NcTopMode mode)
{
  look->mode = mode;
  look->scroll = 0;
}

bool
nc_top_key(NcTopLook *look, json_t *frame, NcTopKey key)
{
  switch (key) {
  case NC_TOP_KEY_QUIT:
    return false;
  case NC_TOP_KEY_HELP:
    nc_top_turn(look, look->mode == NC_TOP_HELP ? NC_TOP_LIST : NC_TOP_HELP);
    return true;
  case NC_TOP_KEY_BACK:
    nc_top_turn(look, NC_TOP_LIST);
    return true;
  case NC_TOP_KEY_ENTER: {
    bool is_any = json_array_size(json_object_get(frame, "running")) + json_array_size(json_object_get(frame, "ended")) > 0;
    nc_top_turn(look, look->mode == NC_TOP_LIST && is_any ? NC_TOP_DETAILS : NC_TOP_LIST);
    return true;
  }
  case NC_TOP_KEY_SORT:
    look->sort = (look->sort + 1) % NC_TOP_SORTS;
    return true;
  case NC_TOP_KEY_NONE:
  case NC_TOP_KEY_REDRAW:
    return true;
  default:
    if (look->mode == NC_TOP_LIST)
      nc_top_select(look, frame, key);
    else
      nc_top_scroll(look, key);
    return true;
  }
}
