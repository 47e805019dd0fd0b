/* SPDX-License-Identifier: Apache-2.0 */
/* What was asked for under an idempotency key is done once, whatever ends in between. */
#include "store/keyed_answer.h"

#include <glib/gstdio.h>

#define NOW INT64_C(1767322800000000)

typedef struct {
  char *dir, *path;
  NcJournal *journal;
} Fixture;

static void
open_journal(Fixture *f)
{
  g_autoptr(GError) error = NULL;
  nc_journal_close(f->journal);
  f->journal = nc_journal_open(f->path, &error);
  g_assert_no_error(error);
}

static void
setup(Fixture *f, gconstpointer data)
{
  f->dir = g_dir_make_tmp("nc-keyed-XXXXXX", NULL);
  g_assert_nonnull(f->dir);
  f->path = g_build_filename(f->dir, "journal.db", NULL);
  open_journal(f);
}

static void
teardown(Fixture *f, gconstpointer data)
{
  static const char *const names[] = { "journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock" };
  nc_journal_close(f->journal);
  for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autofree char *path = g_build_filename(f->dir, names[i], NULL);
    g_unlink(path);
  }
  g_assert_cmpint(g_rmdir(f->dir), ==, 0);
  g_free(f->path);
  g_free(f->dir);
}

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
  open_journal(f);
  g_assert_cmpstr(begin(f, &move, NOW + 2), ==, "m-1");
}

static void
cut_short(Fixture *f, gconstpointer data)
{
  g_assert_cmpstr(begin(f, &move, NOW), ==, "new");
  open_journal(f); /* novacrond was killed: nobody knows whether it was done */
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
