/* SPDX-License-Identifier: Apache-2.0 */
/* A node's bearer tokens: good with their secret, in their time, until they are ended; and bounded in number. */
#include "journal_fixture.h"
#include "base/ident.h"
#include "store/bearer.h"

#include <string.h>

#define NOW INT64_C(1767322800000000)
#define SECOND INT64_C(1000000)

static char *
hash_of(const char *secret)
{
  return nc_sha256_hex(secret, strlen(secret));
}

static bool
add(Fixture *f, const char *id, const char *secret, int64_t now_us, int64_t expires_us, GError **error)
{
  g_autofree char *hash = hash_of(secret);
  const NcBearer bearer = { .id = id, .secret_sha256 = hash, .subject = "ci", .role = "operator", .actor = "uid:0", .created_us = now_us, .expires_us = expires_us };
  return nc_journal_add_bearer(f->journal, &bearer, error);
}

static void
assert_good(Fixture *f, const char *id, const char *secret, int64_t now_us)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *hash = hash_of(secret);
  nc_autojson json_t *bearer = nc_journal_check_bearer(f->journal, id, hash, now_us, &error);

  g_assert_no_error(error);
  g_assert_cmpstr(nc_json_string_or(bearer, "id", ""), ==, id);
  g_assert_cmpstr(nc_json_string_or(bearer, "subject", ""), ==, "ci");
  g_assert_cmpstr(nc_json_string_or(bearer, "role", ""), ==, "operator");
  g_assert_null(json_object_get(bearer, "secret_sha256"));
}

/* The text is the same whatever is wrong. */
static void
assert_bad(Fixture *f, const char *id, const char *hash, int64_t now_us)
{
  static char *text;
  g_autoptr(GError) error = NULL;

  g_assert_null(nc_journal_check_bearer(f->journal, id, hash, now_us, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_UNAUTHENTICATED);
  if (!text)
    text = g_strdup(error->message);
  g_assert_cmpstr(error->message, ==, text);
}

static void
test_good_and_bad(Fixture *f, gconstpointer data)
{
  g_autofree char *hash = hash_of("s1"), *other = hash_of("s2"), *upper = g_ascii_strup(hash, -1);
  g_autofree char *shorter = g_strndup(hash, 63), *longer = g_strconcat(hash, "0", NULL);
  g_autoptr(GError) error = NULL;

  g_assert_true(add(f, "tok-1", "s1", NOW, NOW + SECOND, NULL));
  g_assert_true(add(f, "tok-2", "s2", NOW, 0, NULL));
  g_assert_false(add(f, "tok-1", "s3", NOW, 0, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_EXISTS);
  assert_good(f, "tok-1", "s1", NOW);
  assert_good(f, "tok-1", "s1", NOW + SECOND - 1);
  assert_bad(f, "tok-1", hash, NOW + SECOND);
  assert_good(f, "tok-2", "s2", INT64_MAX);
  const char *const hashes[] = { other, upper, shorter, longer, "", "s1" };
  for (size_t i = 0; i < G_N_ELEMENTS(hashes); i++)
    assert_bad(f, "tok-1", hashes[i], NOW);
  const char *const ids[] = { "tok-3", "", "TOK-1", "tok-1 ", "' OR '1'='1" };
  for (size_t i = 0; i < G_N_ELEMENTS(ids); i++)
    assert_bad(f, ids[i], hash, NOW);
}

static void
test_ended(Fixture *f, gconstpointer data)
{
  g_autofree char *hash = hash_of("s1");
  g_autoptr(GError) error = NULL;

  g_assert_true(add(f, "tok-1", "s1", NOW, NOW + SECOND, NULL));
  g_assert_true(add(f, "tok-2", "s2", NOW, NOW + SECOND, NULL));
  nc_autojson json_t *ended = nc_journal_end_bearer(f->journal, "tok-1", NOW + 5, &error);
  g_assert_no_error(error);
  g_assert_cmpint(nc_json_int_or(ended, "ended_us", 0), ==, NOW + 5);
  assert_bad(f, "tok-1", hash, NOW + 5);
  const char *const ids[] = { "tok-1", "tok-3" }; /* ended, unknown */
  for (size_t i = 0; i < G_N_ELEMENTS(ids); i++) {
    g_assert_null(nc_journal_end_bearer(f->journal, ids[i], NOW + 6, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
    g_clear_error(&error);
  }
  g_assert_null(nc_journal_end_bearer(f->journal, "tok-2", NOW + SECOND, &error)); /* has run out */
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
  reopen(f);
  assert_bad(f, "tok-1", hash, NOW + 5);
  assert_good(f, "tok-2", "s2", NOW);
}

static size_t
count(Fixture *f)
{
  nc_autojson json_t *list = nc_journal_list_bearers(f->journal, NULL);
  return json_array_size(list);
}

static void
test_what_is_over_goes(Fixture *f, gconstpointer data)
{
  g_assert_true(add(f, "tok-1", "s", NOW, NOW + SECOND, NULL));
  g_assert_true(add(f, "tok-2", "s", NOW, 0, NULL));
  g_assert_true(add(f, "tok-3", "s", NOW, 0, NULL));
  nc_autojson json_t *ended = nc_journal_end_bearer(f->journal, "tok-3", NOW + SECOND, NULL);
  g_assert_nonnull(ended);
  g_assert_true(add(f, "tok-4", "s", NOW + SECOND + NC_BEARER_KEEP_US, 0, NULL));
  g_assert_cmpuint(count(f), ==, 4); /* in lists for a month */
  g_assert_true(add(f, "tok-5", "s", NOW + SECOND + NC_BEARER_KEEP_US + 1, 0, NULL));
  nc_autojson json_t *list = nc_journal_list_bearers(f->journal, NULL);
  const char *const left[] = { "tok-2", "tok-4", "tok-5" };
  g_assert_cmpuint(json_array_size(list), ==, G_N_ELEMENTS(left));
  for (size_t i = 0; i < G_N_ELEMENTS(left); i++)
    g_assert_cmpstr(nc_json_string_or(json_array_get(list, i), "id", ""), ==, left[i]);
}

static void
test_so_many(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  for (int i = 0; i < NC_BEARER_MOST; i++) {
    g_autofree char *id = g_strdup_printf("tok-%04d", i);
    g_assert_true(add(f, id, "s", NOW, i ? 0 : NOW + SECOND, &error));
    g_assert_no_error(error);
  }
  g_assert_false(add(f, "tok-more", "s", NOW, 0, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_RESOURCE);
  g_assert_true(add(f, "tok-more", "s", NOW + SECOND, 0, NULL)); /* the first has run out */
  g_assert_cmpuint(count(f), ==, NC_BEARER_MOST + 1);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add("/store/bearers/good_and_bad", Fixture, NULL, setup, test_good_and_bad, teardown);
  g_test_add("/store/bearers/ended", Fixture, NULL, setup, test_ended, teardown);
  g_test_add("/store/bearers/what_is_over_goes", Fixture, NULL, setup, test_what_is_over_goes, teardown);
  g_test_add("/store/bearers/so_many", Fixture, NULL, setup, test_so_many, teardown);
  return g_test_run();
}
