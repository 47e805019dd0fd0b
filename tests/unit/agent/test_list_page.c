/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/list_page.h"
#include "base/msg.h"

static json_t *
names(unsigned count)
{
  json_t *list = json_array();

  for (unsigned i = count; i-- > 0;) {
    g_autofree char *name = g_strdup_printf("m%04u", i);
    json_array_append_new(list, json_pack("{s:s}", "name", name));
  }
  return list;
}

static void
assert_begins(json_t *items, const char *name, size_t count)
{
  g_assert_cmpuint(json_array_size(items), ==, count);
  g_assert_cmpstr(nc_json_string_or(json_array_get(items, 0), "name", NULL), ==, name);
}

/* What callers have always got, as long as it fits. */
static void
test_whole(void)
{
  nc_autojson json_t *none = nc_list_page(json_array(), "name", NULL, NULL), *some = nc_list_page(names(NC_LIST_PAGE), "name", NULL, NULL);

  g_assert_true(json_is_array(none) && json_is_array(some));
  assert_begins(some, "m0000", NC_LIST_PAGE);
  g_assert_null(nc_list_page(NULL, "name", NULL, NULL));
}

/* Page by page all of it comes, each once, also if what a cursor names is gone. */
static void
test_pages(void)
{
  nc_autojson json_t *args = json_pack("{s:i}", "limit", 3);
  unsigned seen = 0;

  for (bool more = true; more;) {
    nc_autojson json_t *page = nc_list_page(names(10), "name", args, NULL);
    g_autofree char *first = g_strdup_printf("m%04u", seen);
    json_t *next = json_object_get(page, "next");
    assert_begins(json_object_get(page, "items"), first, seen < 9 ? 3 : 1);
    seen += (unsigned)json_array_size(json_object_get(page, "items"));
    more = json_is_string(next);
    json_object_set(args, "cursor", next);
  }
  g_assert_cmpuint(seen, ==, 10);
  json_object_set_new(args, "cursor", json_string("after:m0003x"));
  nc_autojson json_t *page = nc_list_page(names(10), "name", args, NULL), *behind = NULL;
  assert_begins(json_object_get(page, "items"), "m0004", 3);
  json_object_set_new(args, "cursor", json_string("after:z"));
  behind = nc_list_page(names(10), "name", args, NULL);
  g_assert_cmpuint(json_array_size(json_object_get(behind, "items")), ==, 0);
  g_assert_true(json_is_null(json_object_get(behind, "next")));
}

/* More than one page is said even to who does not ask for pages. */
static void
test_too_many(void)
{
  nc_autojson json_t *page = nc_list_page(names(NC_LIST_PAGE + 1), "name", NULL, NULL);

  assert_begins(json_object_get(page, "items"), "m0000", NC_LIST_PAGE);
  g_assert_cmpstr(nc_json_string_or(page, "next", NULL), ==, "after:m0999");
}

static void
test_refused(void)
{
  static const char *const wrong[] = { "{\"limit\": 0}", "{\"limit\": 1001}", "{\"limit\": \"3\"}", "{\"cursor\": 7}", "{\"cursor\": \"m12\"}" };

  for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
    g_autoptr(GError) error = NULL;
    nc_autojson json_t *args = json_loads(wrong[i], 0, NULL);
    g_assert_null(nc_list_page(names(2), "name", args, &error));
    g_assert_nonnull(error);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/agent/list_page/whole", test_whole);
  g_test_add_func("/agent/list_page/pages", test_pages);
  g_test_add_func("/agent/list_page/too_many", test_too_many);
  g_test_add_func("/agent/list_page/refused", test_refused);
  return g_test_run();
}
