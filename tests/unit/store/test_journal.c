/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of store/journal.h: durable rights, compare-and-set, single use, refusal of what is not understood. */
#include "journal_fixture.h"
#include "base/ident.h"
#include "store/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECRET "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define OTHER_SECRET "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static bool
set_right(NcJournal *journal, NcRightState state, uint64_t epoch, NcRightState from, uint64_t from_epoch, GError **error)
{
  NcRight right = { .vm = "web1", .epoch = epoch, .state = state, .peer = "b", .migration = "mig-1" };
  return nc_journal_set_right(journal, &right, from, from_epoch, error);
}

static void
right_is_none_at_first(Fixture *f, gconstpointer data)
{
  NcRight right;
  g_assert_true(nc_journal_get_right(f->journal, "web1", &right, NULL));
  g_assert_cmpint(right.state, ==, NC_RIGHT_NONE);
  g_assert_cmpuint(right.epoch, ==, 0);
  g_assert_cmpstr(right.vm, ==, "web1");
}

static void
right_survives_reopening(Fixture *f, gconstpointer data)
{
  NcRight right;
  g_assert_true(set_right(f->journal, NC_RIGHT_HELD, 1, NC_RIGHT_NONE, 0, NULL));
  g_assert_true(set_right(f->journal, NC_RIGHT_RELEASED, 2, NC_RIGHT_HELD, 1, NULL));
  reopen(f);
  g_assert_true(nc_journal_get_right(f->journal, "web1", &right, NULL));
  g_assert_cmpint(right.state, ==, NC_RIGHT_RELEASED);
  g_assert_cmpuint(right.epoch, ==, 2);
  g_assert_cmpstr(right.peer, ==, "b");
  g_assert_cmpstr(right.migration, ==, "mig-1");
  nc_autojson json_t *released = nc_journal_list_rights(f->journal, NC_RIGHT_RELEASED, NULL);
  nc_autojson json_t *held = nc_journal_list_rights(f->journal, NC_RIGHT_HELD, NULL);
  g_assert_cmpstr(json_string_value(json_array_get(released, 0)), ==, "web1");
  g_assert_cmpuint(json_array_size(held), ==, 0);
  nc_autojson json_t *events = nc_journal_list_events(f->journal, "mig-1", NULL);
  g_assert_nonnull(events); /* events without a migration's record are pruned at opening */
}

static void
right_change_is_in_the_history(Fixture *f, gconstpointer data)
{
  g_assert_true(set_right(f->journal, NC_RIGHT_HELD, 1, NC_RIGHT_NONE, 0, NULL));
  nc_autojson json_t *events = nc_journal_list_events(f->journal, "mig-1", NULL);
  g_assert_cmpuint(json_array_size(events), ==, 1);
  g_assert_cmpstr(nc_json_string_or(json_array_get(events, 0), "event", ""), ==, "right-held");
}

/* The state and the epoch must both be the expected ones; a refusal leaves no trace. */
static void
right_compare_and_set(Fixture *f, gconstpointer data)
{
  static const struct {
    NcRightState state, from;
    uint64_t epoch, from_epoch;
  } refused[] = {
    { NC_RIGHT_HELD, NC_RIGHT_NONE, 6, 0 },     { NC_RIGHT_HELD, NC_RIGHT_INCOMING, 6, 5 },
    { NC_RIGHT_HELD, NC_RIGHT_HELD, 6, 4 },     { NC_RIGHT_HELD, NC_RIGHT_HELD, 6, 6 },
    { NC_RIGHT_RELEASED, NC_RIGHT_HELD, 4, 5 }, { NC_RIGHT_HELD, NC_RIGHT_HELD, 0, 5 },
  };
  g_assert_true(set_right(f->journal, NC_RIGHT_HELD, 5, NC_RIGHT_NONE, 0, NULL));
  for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
    g_autoptr(GError) error = NULL;
    NcRight right;
    g_assert_false(set_right(f->journal, refused[i].state, refused[i].epoch, refused[i].from, refused[i].from_epoch, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
    g_assert_true(nc_journal_get_right(f->journal, "web1", &right, NULL));
    g_assert_cmpint(right.state, ==, NC_RIGHT_HELD);
    g_assert_cmpuint(right.epoch, ==, 5);
  }
  nc_autojson json_t *events = nc_journal_list_events(f->journal, "mig-1", NULL);
  g_assert_cmpuint(json_array_size(events), ==, 1);
}

static void
right_outlives_its_machine(Fixture *f, gconstpointer data)
{
  nc_autojson json_t *record = json_pack("{s:s}", "name", "web1");
  g_autoptr(GError) error = NULL;
  NcRight right;
  g_assert_true(nc_journal_put_machine(f->journal, "web1", record, NULL));
  g_assert_true(set_right(f->journal, NC_RIGHT_HELD, 1, NC_RIGHT_NONE, 0, NULL));
  g_assert_true(nc_journal_delete_machine(f->journal, "web1", NULL));
  g_assert_null(nc_journal_get_machine(f->journal, "web1", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
  g_assert_true(nc_journal_get_right(f->journal, "web1", &right, NULL));
  g_assert_cmpuint(right.epoch, ==, 1);
}

/* Threads that compete for one change: exactly one wins. */
static gpointer
compete(gpointer data)
{
  Fixture *f = data;
  int won = 0;
  for (uint64_t epoch = 1; epoch <= 20; epoch++)
    won += set_right(f->journal, NC_RIGHT_HELD, epoch, epoch == 1 ? NC_RIGHT_NONE : NC_RIGHT_HELD, epoch - 1, NULL);
  return GINT_TO_POINTER(won);
}

static void
right_has_one_winner(Fixture *f, gconstpointer data)
{
  GThread *threads[4];
  NcRight right;
  int won = 0;
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    threads[i] = g_thread_new("compete", compete, f);
  for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
    won += GPOINTER_TO_INT(g_thread_join(threads[i]));
  g_assert_true(nc_journal_get_right(f->journal, "web1", &right, NULL));
  g_assert_cmpint(won, ==, (int)right.epoch);
}

/* A child writes rights one after another, reporting each, and is killed: nothing it reported is lost. */
static void
killed_writer_loses_nothing_reported(Fixture *f, gconstpointer data)
{
  nc_journal_close(f->journal);
  f->journal = NULL;
  for (int round = 0; round < 5; round++) {
    int pipe_fds[2];
    uint64_t reported = 0, n;
    g_assert_cmpint(pipe(pipe_fds), ==, 0);
    pid_t child = fork();
    if (child == 0) {
      NcJournal *journal = nc_journal_open(f->path, NULL);
      NcRight right;
      if (!journal || !nc_journal_get_right(journal, "web1", &right, NULL))
        _exit(1);
      for (uint64_t epoch = right.epoch + 1;; epoch++) {
        if (!set_right(journal, NC_RIGHT_HELD, epoch, epoch == 1 ? NC_RIGHT_NONE : NC_RIGHT_HELD, epoch - 1, NULL))
          _exit(2);
        if (write(pipe_fds[1], &epoch, sizeof epoch) != sizeof epoch)
          _exit(3);
      }
    }
    close(pipe_fds[1]);
    for (int i = 0; i < 7 + round && read(pipe_fds[0], &n, sizeof n) == sizeof n; i++)
      reported = n;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    while (read(pipe_fds[0], &n, sizeof n) == sizeof n)
      reported = n;
    close(pipe_fds[0]);
    g_autoptr(GError) error = NULL;
    g_autoptr(NcJournal) journal = nc_journal_open(f->path, &error);
    g_assert_no_error(error);
    NcRight right;
    g_assert_true(nc_journal_get_right(journal, "web1", &right, NULL));
    g_assert_cmpuint(reported, >, 0);
    g_assert_cmpuint(right.epoch, >=, reported);
    g_assert_cmpuint(right.epoch, <=, reported + 1);
  }
}

static void
second_opener_is_refused(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *pid = g_strdup_printf("process %d", (int)getpid());
  g_assert_null(nc_journal_open(f->path, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  g_assert_nonnull(strstr(error->message, pid));
}

static void
raw_sql(Fixture *f, const char *sql)
{
  sqlite3 *db;
  nc_journal_close(f->journal);
  f->journal = NULL;
  g_assert_cmpint(sqlite3_open(f->path, &db), ==, SQLITE_OK);
  g_assert_cmpint(sqlite3_exec(db, sql, NULL, NULL, NULL), ==, SQLITE_OK);
  sqlite3_close(db);
}

static void
newer_schema_is_refused(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  raw_sql(f, "PRAGMA user_version=99");
  g_assert_null(nc_journal_open(f->path, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  g_assert_nonnull(strstr(error->message, "newer NovaCron"));
}

static void
unknown_right_is_corruption(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  NcRight right;
  raw_sql(f, "INSERT INTO run_right VALUES('web1', 3, 'shared', '', '')");
  reopen(f);
  g_assert_false(nc_journal_get_right(f->journal, "web1", &right, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CORRUPT);
}

/* Overwrites parts of a file of some pages: reported, whatever part it is. */
static void
damaged_file_is_reported(Fixture *f, gconstpointer data)
{
  static const struct {
    off_t at;
    size_t length;
  } damage[] = { { 0, 16 }, { 4096, 4096 }, { 100, 400 } };
  nc_autojson json_t *record = json_pack("{s:s, s:s}", "name", "web1", "fill", SECRET SECRET SECRET SECRET SECRET SECRET);

  for (int i = 0; i < 50; i++) {
    g_autofree char *name = g_strdup_printf("vm%d", i);
    g_assert_true(nc_journal_put_machine(f->journal, name, record, NULL));
  }
  raw_sql(f, "PRAGMA wal_checkpoint(TRUNCATE)");
  g_autofree char *good = NULL;
  gsize length;
  g_assert_true(g_file_get_contents(f->path, &good, &length, NULL));
  for (size_t i = 0; i < G_N_ELEMENTS(damage); i++) {
    g_autoptr(GError) error = NULL;
    g_autofree char *bad = g_memdup2(good, length);
    memset(bad + damage[i].at, 0xa5, damage[i].length);
    g_assert_true(g_file_set_contents(f->path, bad, (gssize)length, NULL));
    g_assert_null(nc_journal_open(f->path, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_CORRUPT);
    g_assert_nonnull(strstr(error->message, f->path));
  }
}

static void
token_is_used_once(Fixture *f, gconstpointer data)
{
  g_autofree char *node = NULL;
  g_autoptr(GError) error = NULL;
  int64_t soon = nc_wall_us() + 60 * G_USEC_PER_SEC;

  g_assert_true(nc_journal_add_token(f->journal, "t1", SECRET, "node-b", soon, NULL));
  g_assert_true(nc_journal_use_token(f->journal, "t1", SECRET, soon - 1, &node, NULL));
  g_assert_cmpstr(node, ==, "node-b");
  g_assert_false(nc_journal_use_token(f->journal, "t1", SECRET, soon - 1, NULL, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  reopen(f);
  g_assert_false(nc_journal_use_token(f->journal, "t1", SECRET, soon - 1, NULL, NULL));
}

/* One answer for all, so that a stranger learns nothing; and a wrong guess does not spend the token. */
static void
bad_tokens_get_one_answer(Fixture *f, gconstpointer data)
{
  int64_t soon = nc_wall_us() + 60 * G_USEC_PER_SEC;
  const struct {
    const char *id, *secret;
    int64_t now;
  } bad[] = {
    { "t1", OTHER_SECRET, soon - 1 }, { "t2", SECRET, soon - 1 }, { "t1", SECRET, soon }, { "t1", SECRET, soon + 1 },
    { "t1", "", soon - 1 },           { "", "", soon - 1 },
  };
  g_autofree char *text = NULL;

  g_assert_true(nc_journal_add_token(f->journal, "t1", SECRET, NULL, soon, NULL));
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_false(nc_journal_use_token(f->journal, bad[i].id, bad[i].secret, bad[i].now, NULL, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
    if (!text)
      text = g_strdup(error->message);
    g_assert_cmpstr(error->message, ==, text);
  }
  g_autofree char *node = NULL;
  g_assert_true(nc_journal_use_token(f->journal, "t1", SECRET, soon - 1, &node, NULL));
  g_assert_null(node);
}

static void
migrations_newest_first(Fixture *f, gconstpointer data)
{
  for (int i = 0; i < 5; i++) {
    g_autofree char *id = g_strdup_printf("mig-%d", i);
    nc_autojson json_t *record = json_pack("{s:s, s:i}", "id", id, "n", i);
    g_assert_true(nc_journal_put_migration(f->journal, id, "web1", "copying", i % 2 == 0, record, i == 3, NULL));
    g_assert_true(nc_journal_add_event(f->journal, id, "started", NULL, false, NULL));
  }
  reopen(f);
  nc_autojson json_t *all = nc_journal_list_migrations(f->journal, false, 0, NULL);
  nc_autojson json_t *two = nc_journal_list_migrations(f->journal, false, 2, NULL);
  nc_autojson json_t *open = nc_journal_list_migrations(f->journal, true, 0, NULL);
  g_assert_cmpuint(json_array_size(all), ==, 5);
  g_assert_cmpuint(json_array_size(two), ==, 2);
  g_assert_cmpuint(json_array_size(open), ==, 2);
  g_assert_cmpstr(nc_json_string_or(json_array_get(two, 0), "id", ""), ==, "mig-4");
  nc_autojson json_t *events = nc_journal_list_events(f->journal, "mig-3", NULL);
  g_assert_cmpuint(json_array_size(events), ==, 1);
}

static void
pages_of_migrations_meet_at_their_ends(Fixture *f, gconstpointer data)
{
  g_autoptr(GArray) rows = g_array_new(FALSE, FALSE, sizeof(int64_t));
  int64_t before = 0;
  int seen = 0;

  for (int i = 0; i < 7; i++) {
    g_autofree char *id = g_strdup_printf("mig-%d", i);
    nc_autojson json_t *record = json_pack("{s:s, s:i}", "id", id, "n", i);
    g_assert_true(nc_journal_put_migration(f->journal, id, "web1", "copying", true, record, false, NULL));
  }
  for (;;) {
    nc_autojson json_t *page = nc_journal_page_migrations(f->journal, before, 3, rows, NULL);
    g_assert_nonnull(page);
    g_assert_cmpuint(json_array_size(page), ==, rows->len);
    g_assert_cmpuint(rows->len, <=, 3);
    if (rows->len == 0)
      break;
    for (size_t i = 0; i < rows->len; i++)
      g_assert_cmpint(nc_json_int_or(json_array_get(page, i), "n", -1), ==, 6 - seen++);
    before = g_array_index(rows, int64_t, rows->len - 1);
  }
  g_assert_cmpint(seen, ==, 7);
}

static void
events_are_numbered_and_go_on_after_any(Fixture *f, gconstpointer data)
{
  int64_t last = 0;

  for (int i = 0; i < 10; i++)
    g_assert_true(nc_journal_add_event(f->journal, i % 2 ? "mig-1" : "mig-2", i < 8 ? "note" : "last", "x", false, NULL));
  reopen(f); /* events without a migration go */
  nc_autojson json_t *record = json_pack("{s:s}", "id", "mig-1");
  g_assert_true(nc_journal_put_migration(f->journal, "mig-1", "web1", "copying", false, record, false, NULL));
  for (int i = 0; i < 5; i++)
    g_assert_true(nc_journal_add_event(f->journal, "mig-1", "note", "x", false, NULL));
  reopen(f);
  nc_autojson json_t *all = nc_journal_page_events(f->journal, "mig-1", 0, 100, NULL);
  g_assert_cmpuint(json_array_size(all), ==, 5);
  for (size_t i = 0; i < 5; i++) {
    int64_t id = nc_json_int_or(json_array_get(all, i), "id", 0);
    g_assert_cmpint(id, >, last);
    nc_autojson json_t *rest = nc_journal_page_events(f->journal, "mig-1", id, 2, NULL);
    g_assert_cmpuint(json_array_size(rest), ==, MIN(2, 4 - i));
    nc_autojson json_t *back = nc_journal_page_events_back(f->journal, "mig-1", id, 2, NULL);
    g_assert_cmpuint(json_array_size(back), ==, MIN(2, i));
    g_assert_true(i == 0 || json_equal(json_array_get(back, 0), json_array_get(all, i - 1)));
    g_assert_true(i < 2 || json_equal(json_array_get(back, 1), json_array_get(all, i - 2)));
    last = id;
  }
  g_assert_cmpint(last, >, 10); /* numbers of events that are gone are not used again */
}

static void
values_are_kept(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  g_assert_null(nc_journal_get_value(f->journal, "k", &error));
  g_assert_no_error(error);
  g_assert_true(nc_journal_put_value(f->journal, "k", "1", NULL));
  g_assert_true(nc_journal_put_value(f->journal, "k", "2", NULL));
  g_autofree char *value = nc_journal_get_value(f->journal, "k", NULL);
  g_assert_cmpstr(value, ==, "2");
}

static void
file_is_private(Fixture *f, gconstpointer data)
{
  struct stat info;
  g_assert_cmpint(stat(f->path, &info), ==, 0);
  g_assert_cmpint(info.st_mode & 0777, ==, 0600);
}

/* A file system of 512 KiB in a mount namespace of its own. Exit: 0 as promised, 77 not possible here, else failed. */
static int
fill_a_disk(const char *dir)
{
  g_autofree char *path = g_build_filename(dir, "journal.db", NULL);
  g_autoptr(GError) error = NULL;

  if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
      mount("none", dir, "tmpfs", 0, "size=512k") < 0)
    return 77;
  NcJournal *journal = nc_journal_open(path, &error);
  if (!journal || !set_right(journal, NC_RIGHT_HELD, 1, NC_RIGHT_NONE, 0, &error))
    return 1;
  nc_autojson json_t *record = json_pack("{s:s}", "fill", SECRET SECRET SECRET SECRET SECRET SECRET SECRET SECRET);
  for (int i = 0; i < 4000 && !error; i++) {
    g_autofree char *name = g_strdup_printf("vm%d", i);
    nc_journal_put_machine(journal, name, record, &error);
  }
  if (!error || error->code != NC_ERROR_RESOURCE || !strstr(error->message, "no space left") || !strstr(error->message, path))
    return 2;
  NcRight right;
  if (!nc_journal_get_right(journal, "web1", &right, NULL) || right.state != NC_RIGHT_HELD || right.epoch != 1)
    return 3;
  return 0;
}

static void
full_disk_is_said(void)
{
  g_autofree char *dir = g_dir_make_tmp("nc-full-XXXXXX", NULL);
  int status;
  pid_t child = fork();
  if (child == 0)
    _exit(fill_a_disk(dir));
  g_assert_cmpint(waitpid(child, &status, 0), ==, child);
  g_rmdir(dir);
  g_assert_true(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77)
    g_test_skip("no mount namespaces here");
  else
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

/* As a fault point has it: that write changes nothing and says so, and the journal goes on. */
static void
a_refused_write_is_said_and_changes_nothing(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  g_assert_true(nc_journal_put_value(f->journal, "k", "before", NULL));
  nc_journal_refuse_next(f->journal);
  g_assert_false(nc_journal_put_value(f->journal, "k", "refused", &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_IO);
  g_assert_nonnull(strstr(error->message, f->path));
  g_autofree char *kept = nc_journal_get_value(f->journal, "k", NULL);
  g_assert_cmpstr(kept, ==, "before");
  g_assert_true(nc_journal_put_value(f->journal, "k", "after", NULL));
  reopen(f);
  g_autofree char *last = nc_journal_get_value(f->journal, "k", NULL);
  g_assert_cmpstr(last, ==, "after");
}

static bool
has_history(Fixture *f, unsigned number)
{
  g_autofree char *id = g_strdup_printf("m-%u", number);
  nc_autojson json_t *record = nc_journal_get_migration(f->journal, id, NULL), *events = nc_journal_list_events(f->journal, id, NULL);

  g_assert_cmpint(record != NULL, ==, json_array_size(events) > 0);
  return record;
}

static void
put_finished(Fixture *f, unsigned number, bool is_finished)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *id = g_strdup_printf("m-%u", number);
  nc_autojson json_t *record = json_pack("{s:s}", "id", id);
  const NcMigrationRow row = { .id = id, .vm = "web1", .state = "s", .finished = is_finished, .record = record };

  nc_journal_step_migration(f->journal, &row, NULL, "said", "", false, &error);
  g_assert_no_error(error);
}

/*
 * A node that runs for years keeps what it keeps when it starts. What has not ended stays, however old, and so does that by which a machine has come:
 * whether the other node has to be asked before the machine is started, is in its record.
 */
static void
old_migrations_go_while_it_is_open(Fixture *f, gconstpointer data)
{
  const NcRight right = { .vm = "db1", .epoch = 1, .state = NC_RIGHT_HELD, .peer = "b", .migration = "m-2" };
  const NcRight gone = { .vm = "old1", .epoch = 1, .state = NC_RIGHT_HELD, .peer = "b", .migration = "m-1" };
  nc_autojson json_t *machine = json_pack("{s:s}", "name", "db1"), *undone = json_pack("{s:s}", "id", "rb-1");

  put_finished(f, 0, false);
  put_finished(f, 1, true);
  put_finished(f, 2, true);
  put_finished(f, 3, true);
  g_assert_true(nc_journal_put_machine(f->journal, "db1", machine, NULL));
  g_assert_true(nc_journal_set_right(f->journal, &right, NC_RIGHT_NONE, 0, NULL));
  g_assert_true(nc_journal_set_right(f->journal, &gone, NC_RIGHT_NONE, 0, NULL)); /* destroyed: its right stays, and keeps nothing */
  g_assert_true(nc_journal_put_rollback(f->journal, &(NcRollbackRow){ .id = "rb-1", .migration = "m-3", .record = undone }, NULL, true, NULL));
  for (unsigned i = 4; i < NC_JOURNAL_KEEP_MIGRATIONS + 8; i++)
    put_finished(f, i, true);
  for (unsigned round = 0; round < 2; round++, reopen(f)) {
    g_assert_true(has_history(f, 0) && has_history(f, 2) && has_history(f, 3));
    g_assert_false(has_history(f, 1));
    for (unsigned i = 4; i < 8; i++)
      g_assert_false(has_history(f, i));
    g_assert_true(has_history(f, 8));
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/journal/" #name, Fixture, NULL, setup, name, teardown)
  ADD(right_is_none_at_first);
  ADD(right_survives_reopening);
  ADD(right_change_is_in_the_history);
  ADD(right_compare_and_set);
  ADD(right_outlives_its_machine);
  ADD(right_has_one_winner);
  ADD(killed_writer_loses_nothing_reported);
  ADD(second_opener_is_refused);
  ADD(newer_schema_is_refused);
  ADD(unknown_right_is_corruption);
  ADD(damaged_file_is_reported);
  ADD(token_is_used_once);
  ADD(bad_tokens_get_one_answer);
  ADD(migrations_newest_first);
  ADD(old_migrations_go_while_it_is_open);
  ADD(pages_of_migrations_meet_at_their_ends);
  ADD(events_are_numbered_and_go_on_after_any);
  ADD(values_are_kept);
  ADD(file_is_private);
  ADD(a_refused_write_is_said_and_changes_nothing);
#undef ADD
  g_test_add_func("/journal/full_disk_is_said", full_disk_is_said);
  return g_test_run();
}
