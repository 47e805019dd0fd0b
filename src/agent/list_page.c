/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/list_page.h"
#include "base/msg.h"

#include <string.h>

#define NC_LIST_CURSOR "after:" /* and the key of the page's last item: what is added or gone meanwhile moves nothing */

typedef struct {
  const char *text;
  json_t *item;
} NcKeyed;

static int
nc_keyed_compare(const void *a, const void *b)
{
  return strcmp(((const NcKeyed *)a)->text, ((const NcKeyed *)b)->text);
}

/* NcKeyed, borrowed from ${list}. */
static GArray *
nc_list_sort(json_t *list, const char *key)
{
  GArray *keyed = g_array_new(FALSE, FALSE, sizeof(NcKeyed));
  size_t i;
  json_t *item;

  json_array_foreach(list, i, item)
  {
    NcKeyed k = { nc_json_string_or(item, key, ""), item };
    g_array_append_val(keyed, k);
  }
  g_array_sort(keyed, nc_keyed_compare);
  return keyed;
}

/* *ret_after: borrowed; "" without a cursor. */
static bool
nc_list_read(json_t *args, int64_t *ret_limit, const char **ret_after, GError **error)
{
  const char *cursor = json_object_get(args, "cursor") ? nc_json_string(args, "cursor", error) : NC_LIST_CURSOR;

  *ret_limit = NC_LIST_PAGE;
  if (!cursor || (json_object_get(args, "limit") && !nc_json_int(args, "limit", 1, NC_LIST_PAGE, ret_limit, error)))
    return false;
  if (!g_str_has_prefix(cursor, NC_LIST_CURSOR))
    return nc_fail(error, NC_ERROR_INVALID, "\"cursor\" is none of this list: it is to be what the page before had as \"next\"");
  *ret_after = cursor + strlen(NC_LIST_CURSOR);
  return true;
}

json_t *
nc_list_page(json_t *list, const char *key, json_t *args, GError **error)
{
  nc_autojson json_t *owned = list, *items = json_array();
  int64_t limit;
  const char *after = NULL, *next = NULL;

  if (!list || !nc_list_read(args, &limit, &after, error))
    return NULL;
  g_autoptr(GArray) keyed = nc_list_sort(list, key);
  for (guint i = 0; i < keyed->len && !next; i++) {
    const NcKeyed *k = &g_array_index(keyed, NcKeyed, i);
    if (strcmp(k->text, after) <= 0)
      continue;
    json_array_append(items, k->item);
    if (json_array_size(items) == (size_t)limit && i + 1 < keyed->len)
      next = k->text;
  }
  if (!next && !json_object_get(args, "limit") && !json_object_get(args, "cursor"))
    return g_steal_pointer(&items);
  g_autofree char *cursor = next ? g_strconcat(NC_LIST_CURSOR, next, NULL) : NULL;
  return json_pack("{s:O, s:s?}", "items", items, "next", cursor);
}
