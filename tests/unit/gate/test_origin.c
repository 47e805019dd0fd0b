/* SPDX-License-Identifier: Apache-2.0 */
/* Which pages may change something, and under which names the UNIX socket may be asked. */
#include "gate/origin.h"

#include <glib.h>

static char *const listed[] = { (char *)"https://a.example", (char *)"https://b.example:8443", NULL };

static void
test_origins(void)
{
  g_autofree char *long_one = g_strnfill(5000, 'a');
  const struct {
    const char *origin, *host;
    bool tls, closed, open; /* without and with a list */
  } cases[] = {
    { "https://a.example", "n1:7080", true, false, true },
    { "https://b.example:8443", "n1:7080", true, false, true },
    { "https://b.example", "n1:7080", true, false, false },
    { "https://a.example.evil", "n1:7080", true, false, false },
    { "http://a.example", "n1:7080", true, false, false },
    { "https://n1:7080", "n1:7080", true, true, true },
    { "https://N1:7080", "n1:7080", true, true, true },
    { "https://n1", "n1:7080", true, false, false }, /* another port is another program */
    { "https://n1:7081", "n1:7080", true, false, false },
    { "http://n1:7080", "n1:7080", true, false, false },
    { "http://localhost:80", "localhost:80", false, true, true },
    { "https://localhost:80", "localhost:80", false, false, false },
    { "https://", "", true, false, false },
    { "https://n1", NULL, true, false, false }, /* HTTP/1.0 */
    { "null", "n1", true, false, false },
    { "null", "null", true, false, false },
    { "", "n1", true, false, false },
    { long_one, "n1", true, false, false },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_test_message("%s asks %s", cases[i].origin, cases[i].host ? cases[i].host : "?");
    g_assert_true(nc_origin_is_allowed(cases[i].origin, cases[i].host, cases[i].tls, NULL) == cases[i].closed);
    g_assert_true(nc_origin_is_allowed(cases[i].origin, cases[i].host, cases[i].tls, listed) == cases[i].open);
  }
}

static void
test_hosts(void)
{
  static const struct {
    const char *host;
    bool ours;
  } cases[] = {
    { "localhost", true },    { "localhost:8080", true },   { "127.0.0.1:9", true }, { "[::1]:9", true },   { "[::1]", true },
    { "novacron", true },     { "a.example", true },        { "A.example", true },   { "b.example:8443", true },
    { "b.example", false },   { "evil.example", false },    { "evil.example:8080", false }, { "localhost.evil.example", false },
    { "127.0.0.1.evil.example", false }, { "evil.", false }, { "1.2.3", false },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_test_message("%s", cases[i].host);
    g_assert_true(nc_host_is_ours(cases[i].host, listed) == cases[i].ours);
  }
  g_assert_false(nc_host_is_ours("a.example", NULL));
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/gate/origin/origins", test_origins);
  g_test_add_func("/gate/origin/hosts", test_hosts);
  return g_test_run();
}
