/* SPDX-License-Identifier: Apache-2.0 */
/* What was asked for under an idempotency key is done once, whatever ends in between. */
#include "journal_fixture.h"
#include "store/keyed_answer.h"

#define NOW INT64_C(1767322800000000)

/* "new", the answer's text, or the error's code. */
static const char *
begin(Fixture *f, const NcKeyedRequest *request, int64_t now_us)
{
  g_autoptr(GError) error = NULL;
  json_t *answer;
  static char text[200];

  if (!nc_journal_begin_keyed(f->journal, request, now_us, &answer, &error)) {
    g_assert_null(answer);
    return nc_error_code_name((NcErrorCode)error->code);
  }
  if (!answer)
    return "new";
  g_strlcpy(text, json_string_value(json_object_get(answer, "id")), sizeof text);
  json_decref(answer);
  return text;
}

static void
end(Fixture *f, const NcKeyedRequest *request, const char *id)
{
  g_autoptr(GError) error = NULL;
  json_t *answer = id ? json_pack("{s:s}", "id", id) : NULL;
  g_assert_true(nc_journal_end_keyed(f->journal, request, answer, &error));
  g_assert_no_error(error);
  json_decref(answer);
}

static const NcKeyedRequest move = { .actor = "uid:0", .key = "monday", .request_sha256 = "aa" };

static void
done_once(Fixture *f, gconstpointer data)
{
  g_assert_cmpstr(begin(f, &move, NOW), ==, "new");
  g_assert_cmpstr(begin(f, &move, NOW), ==, "conflict"); /* by two threads at once */
  end(f, &move, "m-1");
  g_assert_cmpstr(begin(f, &move, NOW + 1), ==, "m-1");
  reopen(f);
  g_assert_cmpstr(begin(f, &move, NOW + 2), ==, "m-1");
}

static void
cut_short(Fixture *f, gconstpointer data)
{
  g_assert_cmpstr(begin(f, &move, NOW), ==, "new");
  reopen(f); /* novacrond was killed: nobody knows whether it was done */
  g_assert_cmpstr(begin(f, &move, NOW + 1), ==, "conflict");
  g_assert_cmpstr(begin(f, &move, NOW + NC_KEYED_ANSWER_KEEP_US + 1), ==, "conflict");
  g_assert_cmpstr(begin(f, &move, NOW + NC_KEYED_PENDING_KEEP_US + 1), ==, "new");
}

static void
failed_may_be_asked_again(Fixture *f, gconstpointer data)
{
  g_assert_cmpstr(begin(f, &move, NOW), ==, "new");
  end(f, &move, NULL);
  g_assert_cmpstr(begin(f, &move, NOW), ==, "new");
}

static void
names_are_each_ones_own(Fixture *f, gconstpointer data)
{
  const NcKeyedRequest other = { .actor = "uid:0", .key = "monday", .request_sha256 = "bb" };
  const NcKeyedRequest theirs = { .actor = "token:ci", .key = "monday", .request_sha256 = "bb" };

  g_assert_cmpstr(begin(f, &move, NOW), ==, "new");
  end(f, &move, "m-1");
  g_assert_cmpstr(begin(f, &other, NOW), ==, "conflict");
  g_assert_cmpstr(begin(f, &theirs, NOW), ==, "new");
}

static void
forgotten_after_a_day(Fixture *f, gconstpointer data)
{
  g_assert_cmpstr(begin(f, &move, NOW), ==, "new");
  end(f, &move, "m-1");
  g_assert_cmpstr(begin(f, &move, NOW + NC_KEYED_ANSWER_KEEP_US), ==, "m-1");
  g_assert_cmpstr(begin(f, &move, NOW + NC_KEYED_ANSWER_KEEP_US + 1), ==, "new");
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define ADD(test) g_test_add("/keyed_answers/" #test, Fixture, NULL, setup, test, teardown)
  ADD(done_once);
  ADD(cut_short);
  ADD(failed_may_be_asked_again);
  ADD(names_are_each_ones_own);
  ADD(forgotten_after_a_day);
  return g_test_run();
}
