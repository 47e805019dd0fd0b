/* SPDX-License-Identifier: Apache-2.0 */
/* A batch that came wrong is asked for once; a stale copy of it is not the answer; a wrong answer is the end. */
#include "wire/asked.h"

static void
test_once(void)
{
  g_autoptr(NcAsked) a = nc_asked_new();

  g_assert_false(nc_asked_has(a, 7));
  g_assert_cmpint(nc_asked_judge(a, 7, false), ==, NC_ASKED_FIRST);
  g_assert_true(nc_asked_has(a, 7));
  g_assert_false(nc_asked_has(a, 8));
  g_assert_cmpint(nc_asked_judge(a, 8, true), ==, NC_ASKED_FIRST);
  g_assert_cmpint(nc_asked_judge(a, 7, false), ==, NC_ASKED_AGAIN);
}

/* It refers to what the first one did; the answer refers to nothing. */
static void
test_stale(void)
{
  g_autoptr(NcAsked) a = nc_asked_new();

  g_assert_cmpint(nc_asked_judge(a, 7, true), ==, NC_ASKED_FIRST);
  g_assert_cmpint(nc_asked_judge(a, 7, true), ==, NC_ASKED_STALE);
  g_assert_cmpint(nc_asked_judge(a, 7, false), ==, NC_ASKED_AGAIN);
}

static void
test_stale_for_ever(void)
{
  g_autoptr(NcAsked) a = nc_asked_new();

  g_assert_false(nc_asked_is_stale(a, 7)); /* nobody has asked */
  g_assert_cmpint(nc_asked_judge(a, 7, true), ==, NC_ASKED_FIRST);
  g_assert_true(nc_asked_is_stale(a, 7));
  g_assert_false(nc_asked_is_stale(a, 7));
  g_assert_cmpint(nc_asked_judge(a, 7, true), ==, NC_ASKED_AGAIN);
  g_assert_false(nc_asked_is_stale(a, 8));
}

/* Somebody decodes a stale copy: the answer is no duplicate of that. */
static void
test_claim(void)
{
  g_autoptr(NcAsked) a = nc_asked_new();
  g_autoptr(NcReorder) r = nc_reorder_new(4, 1000, g_free);

  g_assert_cmpint(nc_asked_claim(a, r, 0, 1), ==, NC_REORDER_TAKEN);
  g_assert_cmpint(nc_asked_claim(a, r, 0, 1), ==, NC_REORDER_DUPLICATE);
  g_assert_cmpint(nc_asked_judge(a, 0, true), ==, NC_ASKED_FIRST);
  g_assert_cmpint(nc_asked_claim(a, r, 0, 1), ==, NC_REORDER_TAKEN);
  g_assert_cmpint(nc_reorder_put(r, 0, g_strdup("0"), 1), ==, NC_REORDER_TAKEN);
  g_assert_cmpint(nc_asked_claim(a, r, 0, 1), ==, NC_REORDER_DUPLICATE);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/asked/once", test_once);
  g_test_add_func("/asked/stale", test_stale);
  g_test_add_func("/asked/stale_for_ever", test_stale_for_ever);
  g_test_add_func("/asked/claim", test_claim);
  return g_test_run();
}
