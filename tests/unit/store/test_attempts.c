/* SPDX-License-Identifier: Apache-2.0 */
/* Names of attempts in the journal: used once, whoever dies, and forgotten without being used again. */
#include "journal_fixture.h"
#include "base/ident.h"
#include "store/journal.h"

#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME "mig-0123456789abcdef.1"
#define NEXT "mig-0123456789abcdef.2"

/* Between two openings. */
static void
raw_sql(Fixture *f, const char *sql)
{
  sqlite3 *db;
  nc_journal_close(f->journal);
  f->journal = NULL;
  g_assert_cmpint(sqlite3_open(f->path, &db), ==, SQLITE_OK);
  g_assert_cmpint(sqlite3_exec(db, sql, NULL, NULL, NULL), ==, SQLITE_OK);
  sqlite3_close(db);
  reopen(f);
}

static int64_t
count_names(Fixture *f)
{
  sqlite3 *db;
  sqlite3_stmt *statement;
  nc_journal_close(f->journal);
  f->journal = NULL;
  g_assert_cmpint(sqlite3_open(f->path, &db), ==, SQLITE_OK);
  g_assert_cmpint(sqlite3_prepare_v2(db, "SELECT count(*) FROM attempt", -1, &statement, NULL), ==, SQLITE_OK);
  g_assert_cmpint(sqlite3_step(statement), ==, SQLITE_ROW);
  int64_t count = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  sqlite3_close(db);
  reopen(f);
  return count;
}

/* A name whose id was made at that time. */
static char *
name_of(int64_t wall_us, const char *rest)
{
  char time[NC_ID_TIME_DIGITS + 1];
  nc_id_time(wall_us, time);
  return g_strdup_printf("mig-%s%s", time, rest);
}

static NcAttemptMark
mark_of(Fixture *f, const char *name)
{
  g_autoptr(GError) error = NULL;
  NcAttemptMark mark = NC_ATTEMPT_COUNT;
  nc_journal_get_attempt(f->journal, name, &mark, NULL, &error);
  g_assert_no_error(error);
  return mark;
}

static bool
begin(NcJournal *journal, const char *name, GError **error)
{
  nc_autojson json_t *record = json_pack("{s:s}", "id", name);
  const NcMigrationRow row = {
    .id = name, .vm = "web1", .state = "preparing", .record = record, .begins_attempt = true
  };
  return nc_journal_step_migration(journal, &row, NULL, "created", NULL, true, error);
}

static NcAttemptMark
bar(Fixture *f, const char *name, NcAttemptMark mark, const char *reason)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *detail = json_pack("{s:s}", "reason", reason);
  NcAttemptMark now = NC_ATTEMPT_COUNT;
  nc_journal_bar_attempt(f->journal, name, mark, detail, &now, &error);
  g_assert_no_error(error);
  return now;
}

static void
refuses_to_begin(Fixture *f, const char *name)
{
  g_autoptr(GError) error = NULL;
  g_assert_false(begin(f->journal, name, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  g_assert_nonnull(strstr(error->message, name));
}

static void
a_cancelled_name_never_begins(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *detail = NULL;
  NcAttemptMark mark;

  g_assert_cmpint(mark_of(f, NAME), ==, NC_ATTEMPT_UNKNOWN);
  g_assert_cmpint(bar(f, NAME, NC_ATTEMPT_CANCELLED, "not today"), ==, NC_ATTEMPT_CANCELLED);
  for (int round = 0; round < 2; round++) {
    refuses_to_begin(f, NAME);
    g_assert_cmpint(bar(f, NAME, NC_ATTEMPT_FAILED, "once more"), ==, NC_ATTEMPT_CANCELLED);
    g_assert_true(nc_journal_get_attempt(f->journal, NAME, &mark, &detail, NULL));
    g_assert_cmpstr(nc_json_string_or(detail, "reason", ""), ==, "not today");
    g_assert_null(nc_journal_get_migration(f->journal, NAME, NULL));
    nc_autojson json_t *events = nc_journal_list_events(f->journal, NAME, NULL);
    g_assert_cmpuint(json_array_size(events), ==, 0); /* all of that write was refused */
    g_clear_pointer(&detail, json_decref);
    reopen(f);
  }
  g_assert_true(begin(f->journal, NEXT, &error)); /* which is another attempt */
  g_assert_no_error(error);
}

static void
a_name_begins_once(Fixture *f, gconstpointer data)
{
  g_assert_true(begin(f->journal, NAME, NULL));
  refuses_to_begin(f, NAME);
  g_assert_cmpint(bar(f, NAME, NC_ATTEMPT_CANCELLED, "too late"), ==, NC_ATTEMPT_BEGAN);
  reopen(f);
  refuses_to_begin(f, NAME);
  g_assert_cmpint(mark_of(f, NAME), ==, NC_ATTEMPT_BEGAN);
  raw_sql(f, "DELETE FROM migration"); /* as pruning does in the course of time */
  refuses_to_begin(f, NAME);
}

static void
the_id_of_another_migration_does_not_begin(Fixture *f, gconstpointer data)
{
  nc_autojson json_t *record = json_pack("{s:s, s:s}", "id", NAME, "role", "destination");

  g_assert_true(nc_journal_put_migration(f->journal, NAME, "web1", "receiving", false, record, true, NULL));
  refuses_to_begin(f, NAME);
  nc_autojson json_t *kept = nc_journal_get_migration(f->journal, NAME, NULL);
  g_assert_true(json_equal(kept, record));
  g_assert_cmpint(mark_of(f, NAME), ==, NC_ATTEMPT_UNKNOWN);
}

static void
what_is_no_name_is_refused(Fixture *f, gconstpointer data)
{
  static const char *const bad[] = { "",
                                     "mig-0123456789abcdef",
                                     "mig-0123456789abcdef.",
                                     "mig-0123456789abcdef.0",
                                     "mig-0123456789abcdef.01",
                                     "mig-0123456789abcdef.1000",
                                     "mig-0123456789abcdef.1x",
                                     "mig-0123456789abcdef.-1",
                                     "mig-0123456789abcde.1",
                                     "mig-0123456789abcdefg.1",
                                     "mig-0123456789ABCDEF.1",
                                     "mig-0123456789abcdel.1",
                                     "m-0123456789abcdef.1",
                                     "xmig-0123456789abcdef.1" };
  nc_autojson json_t *detail = json_object();
  NcAttemptMark mark;

  g_assert_true(nc_attempt_name_is_valid("mig-0123456789abcdef.999"));
  g_assert_false(nc_attempt_name_is_valid(NULL));
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_false(nc_journal_bar_attempt(f->journal, bad[i], NC_ATTEMPT_CANCELLED, detail, &mark, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
    g_clear_error(&error);
    g_assert_false(begin(f->journal, bad[i], &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
    g_clear_error(&error);
    g_assert_false(nc_journal_get_attempt(f->journal, bad[i], &mark, NULL, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  }
  g_assert_cmpint(count_names(f), ==, 0);
}

/* Threads: half of them begin it, half of them cancel it. Whatever came first is what all of them hear. */
typedef struct {
  Fixture *f;
  bool begins;
  unsigned began;
} Competitor;

#define RACES 30u

static gpointer
compete(gpointer data)
{
  Competitor *c = data;

  for (unsigned i = 1; i <= RACES; i++) {
    g_autofree char *name = g_strdup_printf("mig-0123456789abcdef.%u", i);
    c->began +=
        c->begins ? begin(c->f->journal, name, NULL) : bar(c->f, name, NC_ATTEMPT_CANCELLED, "no") == NC_ATTEMPT_BEGAN;
  }
  return NULL;
}

static void
one_use_wins(Fixture *f, gconstpointer data)
{
  Competitor all[4] = { { f, true, 0 }, { f, false, 0 }, { f, true, 0 }, { f, false, 0 } };
  GThread *threads[G_N_ELEMENTS(all)];
  unsigned began = 0;

  for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
    threads[i] = g_thread_new("compete", compete, &all[i]);
  for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
    g_thread_join(threads[i]);
  for (unsigned i = 1; i <= RACES; i++) {
    g_autofree char *name = g_strdup_printf("mig-0123456789abcdef.%u", i);
    nc_autojson json_t *record = nc_journal_get_migration(f->journal, name, NULL);
    g_assert_cmpint(mark_of(f, name), ==, record ? NC_ATTEMPT_BEGAN : NC_ATTEMPT_CANCELLED);
    began += record != NULL;
  }
  g_assert_cmpuint(all[0].began + all[2].began, ==, began);
  g_assert_cmpuint(all[1].began, <=, began);
  g_assert_cmpint(count_names(f), ==, RACES);
}

/* A child cancels names, says which, and is killed: what it has said is kept. */
static void
killed_writer_keeps_what_it_said(Fixture *f, gconstpointer data)
{
  int pipe_fds[2];
  unsigned said = 0, n;

  nc_journal_close(f->journal);
  f->journal = NULL;
  g_assert_cmpint(pipe(pipe_fds), ==, 0);
  pid_t child = fork();
  if (child == 0) {
    Fixture own = { .journal = nc_journal_open(f->path, NULL) };
    for (unsigned i = 1; own.journal && i < 1000; i++) {
      g_autofree char *name = g_strdup_printf("mig-0123456789abcdef.%u", i);
      bar(&own, name, NC_ATTEMPT_CANCELLED, "no");
      if (write(pipe_fds[1], &i, sizeof i) != sizeof i)
        break;
    }
    _exit(1);
  }
  close(pipe_fds[1]);
  while (said < 10 && read(pipe_fds[0], &n, sizeof n) == sizeof n)
    said = n;
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  while (read(pipe_fds[0], &n, sizeof n) == sizeof n)
    said = n;
  close(pipe_fds[0]);
  g_assert_cmpuint(said, >=, 10);
  f->journal = nc_journal_open(f->path, NULL);
  g_assert_nonnull(f->journal);
  for (unsigned i = 1; i <= said; i++) {
    g_autofree char *name = g_strdup_printf("mig-0123456789abcdef.%u", i);
    refuses_to_begin(f, name);
  }
}

static void
a_refused_write_decides_nothing(Fixture *f, gconstpointer data)
{
  nc_autojson json_t *detail = json_object();
  g_autoptr(GError) error = NULL;
  NcAttemptMark mark = NC_ATTEMPT_COUNT;

  nc_journal_refuse_next(f->journal);
  g_assert_false(nc_journal_bar_attempt(f->journal, NAME, NC_ATTEMPT_CANCELLED, detail, &mark, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_IO);
  g_assert_cmpint(mark, ==, NC_ATTEMPT_COUNT);
  g_assert_cmpint(mark_of(f, NAME), ==, NC_ATTEMPT_UNKNOWN);
  g_assert_true(begin(f->journal, NAME, NULL));
}

/* NC_JOURNAL_KEEP_ATTEMPTS names whose ids are of that time: "mig-TTTTTTTT00012345.1". */
static void
fill(Fixture *f, int64_t wall_us)
{
  g_autofree char *start = name_of(wall_us, "");
  g_autofree char *sql =
      g_strdup_printf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d) INSERT INTO "
                      "attempt(name, at_us, mark, detail) SELECT printf('%s%%08d.1', i), 1, 'cancelled', '{}' FROM n",
                      NC_JOURNAL_KEEP_ATTEMPTS, start);
  raw_sql(f, sql);
}

/* Forgotten is the oldest; neither it nor what is older begins after that, and what is younger does. */
static void
too_many_names_are_forgotten_without_being_used_again(Fixture *f, gconstpointer data)
{
  int64_t now = nc_wall_us(), then = now - 86400 * (int64_t)G_USEC_PER_SEC;
  g_autofree char *older = name_of(then - G_USEC_PER_SEC, "00000001.7");
  g_autofree char *first = name_of(then, "00000001.1");
  g_autofree char *again = name_of(then, "00000001.2"); /* a later attempt of the same migration */
  g_autofree char *second = name_of(then, "00000002.1");
  g_autofree char *late = name_of(then, "0000001z.1"); /* between those that are kept, and not one of them */
  g_autofree char *fresh = name_of(now, "00000001.1");

  fill(f, then);
  g_assert_cmpint(mark_of(f, first), ==, NC_ATTEMPT_CANCELLED);
  g_assert_true(begin(f->journal, fresh, NULL));
  for (int round = 0; round < 2; round++) {
    g_assert_cmpint(count_names(f), ==, NC_JOURNAL_KEEP_ATTEMPTS);
    g_assert_cmpint(mark_of(f, first), ==, NC_ATTEMPT_FORGOTTEN);
    refuses_to_begin(f, first);
    refuses_to_begin(f, again);
    refuses_to_begin(f, older);
    g_assert_cmpint(bar(f, older, NC_ATTEMPT_CANCELLED, "no"), ==, NC_ATTEMPT_FORGOTTEN);
    g_assert_cmpint(mark_of(f, second), ==, NC_ATTEMPT_CANCELLED);
    g_assert_cmpint(mark_of(f, late), ==, NC_ATTEMPT_UNKNOWN);
    g_assert_cmpint(mark_of(f, fresh), ==, NC_ATTEMPT_BEGAN);
  }
  g_assert_true(begin(f->journal, late, NULL));
  g_assert_cmpint(count_names(f), ==, NC_JOURNAL_KEEP_ATTEMPTS);
  g_assert_cmpint(mark_of(f, second), ==, NC_ATTEMPT_FORGOTTEN);
}

/* Else a clock that was wrong once would keep this node from beginning anything for years. */
static void
names_from_the_future_are_not_forgotten(Fixture *f, gconstpointer data)
{
  int64_t now = nc_wall_us(), ahead = now + 10 * 365 * 86400 * (int64_t)G_USEC_PER_SEC;
  g_autofree char *first = name_of(ahead, "00000001.1");
  g_autofree char *fresh = name_of(now, "00000001.1");
  g_autofree char *other = name_of(now, "00000001.2");

  fill(f, ahead);
  g_assert_true(begin(f->journal, fresh, NULL));
  g_assert_cmpint(bar(f, other, NC_ATTEMPT_CANCELLED, "no"), ==, NC_ATTEMPT_CANCELLED);
  g_assert_cmpint(count_names(f), ==, NC_JOURNAL_KEEP_ATTEMPTS + 2);
  g_assert_cmpint(mark_of(f, first), ==, NC_ATTEMPT_CANCELLED);
}

/* A journal of before there were names has the table after its opening, and what it had. */
static void
an_older_journal_learns_names(Fixture *f, gconstpointer data)
{
  g_assert_true(nc_journal_put_value(f->journal, "k", "kept", NULL));
  raw_sql(f, "DROP TABLE attempt; DROP TABLE bearer; DROP TABLE keyed_answer; PRAGMA user_version=2");
  g_autofree char *kept = nc_journal_get_value(f->journal, "k", NULL);
  g_assert_cmpstr(kept, ==, "kept");
  g_assert_cmpint(bar(f, NAME, NC_ATTEMPT_CANCELLED, "no"), ==, NC_ATTEMPT_CANCELLED);
  reopen(f);
  refuses_to_begin(f, NAME);
}

/* What can't be read is not begun. */
static void
an_unreadable_name_is_corruption(Fixture *f, gconstpointer data)
{
  static const char *const rows[] = { "'shared', '{}'", "'cancelled', '{'", "'failed', '[]'", "'unknown', '{}'" };

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autoptr(GError) error = NULL;
    g_autofree char *sql =
        g_strdup_printf("DELETE FROM attempt; INSERT INTO attempt VALUES(1, '" NAME "', 1, %s)", rows[i]);
    NcAttemptMark mark;
    raw_sql(f, sql);
    g_assert_false(nc_journal_get_attempt(f->journal, NAME, &mark, NULL, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_CORRUPT);
    g_clear_error(&error);
    g_assert_false(begin(f->journal, NAME, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_CORRUPT);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/attempts/" #name, Fixture, NULL, setup, name, teardown)
  ADD(a_cancelled_name_never_begins);
  ADD(a_name_begins_once);
  ADD(the_id_of_another_migration_does_not_begin);
  ADD(what_is_no_name_is_refused);
  ADD(one_use_wins);
  ADD(killed_writer_keeps_what_it_said);
  ADD(a_refused_write_decides_nothing);
  ADD(too_many_names_are_forgotten_without_being_used_again);
  ADD(names_from_the_future_are_not_forgotten);
  ADD(an_older_journal_learns_names);
  ADD(an_unreadable_name_is_corruption);
#undef ADD
  return g_test_run();
}
