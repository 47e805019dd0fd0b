/* SPDX-License-Identifier: Apache-2.0 */
/* What of the header Authorization is a token, and what is none of ours. */
#include "gate/bearer.h"

#include <glib.h>

static void
test_read(void)
{
  g_autofree char *longest = g_strnfill(NC_BEARER_MOST_BYTES, 'a'), *longer = g_strnfill(NC_BEARER_MOST_BYTES + 1, 'a');
  g_autofree char *fits = g_strconcat("Bearer ", longest, NULL), *does_not = g_strconcat("Bearer ", longer, NULL);
  const struct {
    const char *value;
    bool is_bearer;
    const char *token;
  } cases[] = {
    { NULL, false, "" },
    { "", false, "" },
    { "Basic YTpi", false, "" },
    { "Bear", false, "" },
    { "Bearers a.b", false, "" },
    { "Bearer\ta.b", false, "" },
    { "Bearer", true, "" },
    { "Bearer ", true, "" },
    { "Bearer a.b", true, "a.b" },
    { "bEARER   tok-1._-Z", true, "tok-1._-Z" },
    { "Bearer a.b ", true, "" }, /* libmicrohttpd takes blanks at the end off; what is left there is within */
    { "Bearer a b", true, "" },
    { "Bearer a,b", true, "" },
    { "Bearer \"a.b\"", true, "" },
    { "Bearer a/b", true, "" },
    { "Bearer \xc3\xa4", true, "" },
    { fits, true, longest },
    { does_not, true, "" },
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    const char *token = NULL;
    g_test_message("%s", cases[i].value);
    g_assert_true(nc_bearer_read(cases[i].value, &token) == cases[i].is_bearer);
    g_assert_cmpstr(token, ==, cases[i].token);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/gate/bearer/read", test_read);
  return g_test_run();
}
