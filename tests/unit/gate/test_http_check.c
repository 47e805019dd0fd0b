/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that two programs could read in two ways are refused. */
#include "gate/gate_limits.h"
#include "gate/http_check.h"

#include <string.h>

typedef struct {
  const char *name;
  const char *version;
  const char *headers[8]; /* name, value, name, value, ... */
  size_t hidden;          /* bytes that came but are not shown */
  bool ok;
} Case;

static const Case cases[] = {
  { "plain", "HTTP/1.1", { "Host", "a" }, 0, true },
  { "old_without_host", "HTTP/1.0", { NULL }, 0, true },
  { "body", "HTTP/1.1", { "Host", "a", "Content-Length", "5", "Content-Type", "application/json" }, 0, true },
  { "chunked", "HTTP/1.1", { "Host", "a", "Transfer-Encoding", "chunked" }, 0, true },
  { "empty_value", "HTTP/1.1", { "Host", "a", "X-Empty", "" }, 0, true },
  { "no_host", "HTTP/1.1", { NULL }, 0, false },
  { "two_hosts", "HTTP/1.1", { "Host", "a", "host", "a" }, 0, false },
  { "two_lengths", "HTTP/1.1", { "Host", "a", "Content-Length", "5", "content-length", "5" }, 0, false },
  { "length_and_chunked",
    "HTTP/1.1",
    { "Host", "a", "Content-Length", "5", "Transfer-Encoding", "chunked" },
    0,
    false },
  { "length_sign", "HTTP/1.1", { "Host", "a", "Content-Length", "+5" }, 0, false },
  { "length_list", "HTTP/1.1", { "Host", "a", "Content-Length", "5, 5" }, 0, false },
  { "length_empty", "HTTP/1.1", { "Host", "a", "Content-Length", "" }, 0, false },
  { "length_huge", "HTTP/1.1", { "Host", "a", "Content-Length", "18446744073709551617" }, 0, false },
  { "gzip_coding", "HTTP/1.1", { "Host", "a", "Transfer-Encoding", "gzip, chunked" }, 0, false },
  { "identity_coding", "HTTP/1.1", { "Host", "a", "Transfer-Encoding", "identity" }, 0, false },
  { "two_codings",
    "HTTP/1.1",
    { "Host", "a", "Transfer-Encoding", "chunked", "Transfer-Encoding", "chunked" },
    0,
    false },
  { "old_chunked", "HTTP/1.0", { "Transfer-Encoding", "chunked" }, 0, false },
  { "two_types",
    "HTTP/1.1",
    { "Host", "a", "Content-Type", "application/json", "Content-Type", "text/plain" },
    0,
    false },
  { "blank_before_colon", "HTTP/1.1", { "Host", "a", "Content-Length ", "5" }, 0, false },
  { "control_character", "HTTP/1.1", { "Host", "a", "X", "b\x01" }, 0, false },
  { "delete_character", "HTTP/1.1", { "Host", "a", "X", "b\x7f" }, 0, false },
  { "one_token", "HTTP/1.1", { "Host", "a", "Authorization", "Bearer a.b" }, 0, true },
  { "two_tokens", "HTTP/1.1", { "Host", "a", "Authorization", "Bearer a.b", "Authorization", "Bearer a.b" }, 0, false },
  { "two_origins", "HTTP/1.1", { "Host", "a", "Origin", "https://a", "Origin", "https://a" }, 0, false },
  { "behind_a_nul", "HTTP/1.1", { "Host", "a" }, 2, false },
  { "one_hidden_byte", "HTTP/1.1", { "Host", "a" }, 1, false },
  { "version", "HTTP/1.2", { "Host", "a" }, 0, false },
  { "version_2", "HTTP/2.0", { "Host", "a" }, 0, false },
};

static void
test_case(gconstpointer data)
{
  const Case *c = data;
  NcHttpHead head = { .method = "GET", .version = c->version, .uri_bytes = 1 };
  NcHttpProblem problem;
  const char *detail;

  for (size_t i = 0; i + 1 < G_N_ELEMENTS(c->headers) && c->headers[i]; i += 2)
    nc_http_head_add(&head, c->headers[i], c->headers[i + 1]);
  head.raw_bytes = strlen("GET / HTTP/1.1\r\n") + head.shown_bytes + strlen("\r\n") + c->hidden;
  g_assert_true(nc_http_head_check(&head, &problem, &detail) == c->ok);
  if (!c->ok) {
    g_assert_cmpint(problem, ==, NC_HTTP_BAD_REQUEST);
    g_assert_nonnull(detail);
  }
}

static void
test_too_many_headers(void)
{
  for (unsigned n = NC_GATE_HEADERS - 1; n <= NC_GATE_HEADERS + 1; n++) {
    NcHttpHead head = { .method = "GET", .version = "HTTP/1.1", .uri_bytes = 1 };
    NcHttpProblem problem = NC_HTTP_BAD_REQUEST;
    const char *detail;
    nc_http_head_add(&head, "Host", "a");
    for (unsigned i = 1; i < n; i++)
      nc_http_head_add(&head, "X", "y");
    g_assert_true(nc_http_head_check(&head, &problem, &detail) == (n <= NC_GATE_HEADERS));
    g_assert_true(n <= NC_GATE_HEADERS || problem == NC_HTTP_HEADERS);
  }
}

static void
test_keys_are_counted(void)
{
  NcHttpHead head = { 0 };

  g_assert_cmpint(head.keys, ==, 0);
  nc_http_head_add(&head, "idempotency-key", "a");
  nc_http_head_add(&head, "Idempotency-Key2", "x");
  nc_http_head_add(&head, "Idempotency-Key", "b");
  g_assert_cmpint(head.keys, ==, 2);
  g_assert_cmpstr(head.key, ==, "b");
}

static void
test_json_types(void)
{
  const char *good[] = { "application/json", "Application/JSON", "application/json; charset=utf-8" };
  const char *bad[] = { "text/plain", "application/jsonp", "application/x-www-form-urlencoded", "" };
  for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
    NcHttpHead head = { 0 };
    nc_http_head_add(&head, "content-type", good[i]);
    g_assert_true(head.json);
  }
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    NcHttpHead head = { 0 };
    nc_http_head_add(&head, "content-type", bad[i]);
    g_assert_false(head.json);
  }
}

static void
test_paths(void)
{
  const char *good[] = { "/", "/api/v2/node", "/a.b/..c", "/a/" };
  const char *bad[] = { "",     "api",   "/a//b", "/a/../b", "/..",       "/a/.", "/./a",
                        "/%2e", "/a%00", "/a b",  "/a\\b",   "/\xc3\xa4", "*" };
  NcHttpProblem problem;
  const char *detail;
  for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
    g_assert_true(nc_http_path_check(good[i], &problem, &detail));
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
    g_assert_false(nc_http_path_check(bad[i], &problem, &detail));
  g_autofree char *longest = g_strnfill(NC_GATE_PATH_BYTES, '/');
  for (size_t i = 1; i < NC_GATE_PATH_BYTES; i++)
    longest[i] = 'a';
  g_assert_true(nc_http_path_check(longest, &problem, &detail));
  g_autofree char *longer = g_strconcat(longest, "a", NULL);
  g_assert_false(nc_http_path_check(longer, &problem, &detail));
  g_assert_cmpint(problem, ==, NC_HTTP_URI_TOO_LONG);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *path = g_strconcat("/gate/http/", cases[i].name, NULL);
    g_test_add_data_func(path, &cases[i], test_case);
  }
  g_test_add_func("/gate/http/too_many_headers", test_too_many_headers);
  g_test_add_func("/gate/http/json_types", test_json_types);
  g_test_add_func("/gate/http/keys_are_counted", test_keys_are_counted);
  g_test_add_func("/gate/http/paths", test_paths);
  return g_test_run();
}
