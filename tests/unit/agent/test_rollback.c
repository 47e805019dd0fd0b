/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walk through a rollback's steps (agent/rollback.h): recorded before and after, gone on with where a crash left it,
 * given up with words. The steps here only count how often they were done; the crash is a real one.
 */
#include "agent/rollback.h"
#include "agent/rollbacks.h"
#include "base/log.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
  char *dir;
  NcJournal *journal;
} Fixture;

static void
setup(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  f->dir = g_dir_make_tmp("nc-rollback-XXXXXX", &error);
  g_assert_no_error(error);
  g_autofree char *path = g_build_filename(f->dir, "journal.db", NULL);
  f->journal = nc_journal_open(path, &error);
  g_assert_no_error(error);
}

static void
teardown(Fixture *f, gconstpointer data)
{
  GDir *dir = g_dir_open(f->dir, 0, NULL);
  const char *name;
  nc_journal_close(f->journal);
  while ((name = g_dir_read_name(dir))) {
    g_autofree char *path = g_build_filename(f->dir, name, NULL);
    g_unlink(path);
  }
  g_dir_close(dir);
  g_rmdir(f->dir);
  g_free(f->dir);
}

/* What a step of the test does: says its number to a file, and fails if it is told to. */
typedef struct {
  const char *dir;
  NcRollbackStep step;
  int failures; /* left */
  int done;
} Work;

static bool
work(gpointer data, NcRollbackResult *result, GError **error)
{
  Work *w = data;
  g_autofree char *path = g_build_filename(w->dir, "done", NULL);
  FILE *file = fopen(path, "a");

  g_assert_nonnull(file);
  fprintf(file, "%d", w->step + 1);
  fclose(file);
  w->done++;
  if (w->failures-- > 0)
    return nc_fail(error, NC_ERROR_QEMU, "it would not");
  result->nothing = w->step == NC_RB_DISKS || w->step == NC_RB_MEMORY;
  result->detail = g_strdup("seen");
  return true;
}

static bool
walk(NcRollback *r, const char *dir, GError **error)
{
  for (int step = 0; step < NC_RB_STEP_COUNT; step++) {
    Work w = { .dir = dir, .step = (NcRollbackStep)step };
    if (!nc_rollback_step(r, (NcRollbackStep)step, work, &w, 1, NULL, error))
      return false;
  }
  return true;
}

static NcRollback *
begin(NcJournal *journal)
{
  g_autoptr(GError) cause = g_error_new_literal(NC_ERROR, NC_ERROR_UNREACHABLE, "the destination is gone");
  const NcRollbackOrder order = { .mode = NC_RB_TO_SOURCE, .migration = "m-1", .vm = "web1", .attempt = 1, .cause = cause };
  return nc_rollback_new(journal, &order, true, NULL);
}

static char *
done(Fixture *f)
{
  g_autofree char *path = g_build_filename(f->dir, "done", NULL);
  char *text = NULL;
  return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("");
}

/* "1b 1d 2b ..." of the transaction log: begun, done, nothing to do, failed. Caller frees. */
static char *
told(NcJournal *journal)
{
  const NcAuditFilter filter = { .kind = "rollback.step" };
  nc_autojson json_t *list = nc_journal_list_audit(journal, &filter, NULL);
  GString *text = g_string_new(NULL);

  for (size_t i = json_array_size(list); i > 0; i--) {
    json_t *detail = json_object_get(json_array_get(list, i - 1), "detail");
    g_string_append_printf(text, "%d%c", (int)nc_json_int_or(detail, "step", 0), nc_json_string_or(detail, "state", "?")[0]);
  }
  return g_string_free(text, FALSE);
}

static void
every_step_is_recorded_before_and_after(Fixture *f, gconstpointer data)
{
  g_autoptr(NcRollback) r = begin(f->journal);
  g_autoptr(GError) error = NULL;

  g_assert_true(walk(r, f->dir, &error));
  g_assert_no_error(error);
  nc_rollback_complete(r);
  g_autofree char *steps = done(f);
  g_autofree char *story = told(f->journal);
  g_assert_cmpstr(steps, ==, "12345678");
  g_assert_cmpstr(story, ==, "1b1d2b2d3b3d4b4n5b5n6b6d7b7d8b8d");
  nc_autojson json_t *list = nc_journal_list_rollbacks(f->journal, "m-1", false, NULL);
  nc_autojson json_t *open = nc_journal_list_rollbacks(f->journal, NULL, true, NULL);
  g_assert_cmpuint(json_array_size(list), ==, 1);
  g_assert_cmpuint(json_array_size(open), ==, 0);
  g_assert_cmpstr(nc_json_string_or(json_array_get(list, 0), "state", ""), ==, "completed");
}

/* The first entry of the log tells of it, and what is in the journal then is all that the next novacrond would need. */
static void
what_was_ordered_is_recorded_at_once(Fixture *f, gconstpointer data)
{
  static const char *const keys[] = { "to", "fetch_from", "call_from" };

  for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
    g_autofree char *migration = g_strdup_printf("m-%zu", i);
    const NcRollbackOrder order = {
      .mode = NC_RB_TO_CHECKPOINT, .migration = migration, .vm = "web1", .checkpoint = "c-1", .node_key = keys[i], .node = "host-b"
    };
    const NcAuditFilter filter = { .kind = "rollback.begun", .subject = migration };
    g_autoptr(NcRollback) r = nc_rollback_new(f->journal, &order, true, NULL);
    g_autoptr(NcRollback) found = nc_rollback_find(f->journal, migration, 0);
    nc_autojson json_t *entries = nc_journal_list_audit(f->journal, &filter, NULL);

    g_assert_nonnull(r);
    g_assert_cmpuint(json_array_size(entries), ==, 1);
    g_assert_cmpstr(nc_rollback_string(found, keys[i], NULL), ==, "host-b");
    g_assert_cmpstr(nc_rollback_string(found, "checkpoint", NULL), ==, "c-1");
  }
}

static void
what_is_done_is_not_done_again(Fixture *f, gconstpointer data)
{
  g_autoptr(NcRollback) r = begin(f->journal);
  g_assert_true(walk(r, f->dir, NULL));
  g_autoptr(NcRollback) again = nc_rollback_find(f->journal, "m-1", 1);
  g_assert_nonnull(again);
  g_assert_true(walk(again, f->dir, NULL));
  g_autofree char *steps = done(f);
  g_assert_cmpstr(steps, ==, "12345678");
  g_autoptr(GError) cause = nc_rollback_cause(again);
  g_assert_error(cause, NC_ERROR, NC_ERROR_UNREACHABLE);
  g_autoptr(NcRollback) other = nc_rollback_find(f->journal, "m-1", 2);
  g_assert_null(other);
}

/* This program again, in which the fault strikes. */
static void
run_killed(Fixture *f, const char *point)
{
  g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
  g_autofree char *fault = g_strdup_printf("%s:kill", point);
  char *argv[] = { self, (char *)"--walk", f->dir, NULL };
  g_auto(GStrv) environment = g_environ_setenv(g_get_environ(), "NOVACRON_FAULT", fault, TRUE);
  g_autoptr(GError) error = NULL;
  int status = 0;

  g_assert_true(g_spawn_sync(NULL, argv, environment, G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, NULL, NULL, &status, &error));
  g_assert_no_error(error);
  g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void
a_crash_goes_on_at_its_step(Fixture *f, gconstpointer data)
{
  for (int step = 1; step <= NC_RB_STEP_COUNT; step++)
    for (int after = 0; after < 2; after++) {
      g_autofree char *point = g_strdup_printf("rollback-%d-%s", step, after ? "after" : "before");
      teardown(f, NULL);
      setup(f, NULL);
      g_clear_pointer(&f->journal, nc_journal_close);
      run_killed(f, point);
      g_autofree char *path = g_build_filename(f->dir, "journal.db", NULL);
      f->journal = nc_journal_open(path, NULL);
      g_autoptr(NcRollback) r = nc_rollback_find(f->journal, "m-1", 1);
      g_assert_nonnull(r);
      g_assert_false(nc_rollback_is_finished(r));
      g_assert_true(step == 1 || nc_rollback_is_done(r, (NcRollbackStep)(step - 2)));
      g_assert_false(nc_rollback_is_done(r, (NcRollbackStep)(step - 1)));
      g_assert_true(walk(r, f->dir, NULL));
      g_autofree char *steps = done(f);
      g_autofree char *twice = g_strdup_printf("%d%d", step, step);
      g_test_message("%s: %s", point, steps);
      g_assert_cmpuint(strlen(steps), ==, after ? 9 : 8);
      g_assert_true((strstr(steps, twice) != NULL) == after);
    }
}

static void
a_step_is_tried_again(Fixture *f, gconstpointer data)
{
  g_autoptr(NcRollback) r = begin(f->journal);
  Work w = { .dir = f->dir, .step = NC_RB_STOP_TRANSFER, .failures = 1 };
  g_assert_true(nc_rollback_step(r, NC_RB_STOP_TRANSFER, work, &w, 2, NULL, NULL));
  g_autofree char *story = told(f->journal);
  g_assert_cmpstr(story, ==, "1b1f1b1d");
}

static void
what_fails_again_and_again_asks_for_people(Fixture *f, gconstpointer data)
{
  g_autoptr(NcRollback) r = begin(f->journal);
  g_autoptr(GError) error = NULL;
  Work w = { .dir = f->dir, .step = NC_RB_STOP_TRANSFER, .failures = 9 };
  g_assert_false(nc_rollback_step(r, NC_RB_STOP_TRANSFER, work, &w, 2, NULL, &error));
  g_assert_cmpint(w.done, ==, 2);
  g_assert_error(error, NC_ERROR, NC_ERROR_QEMU);
  nc_rollback_give_up(r, error, "Say: novacron vm start web1");
  nc_autojson json_t *record = nc_rollback_snapshot(r);
  const char *attention = nc_json_string_or(record, "attention", "");
  g_assert_cmpstr(nc_json_string_or(record, "state", ""), ==, "needs_attention");
  g_assert_nonnull(strstr(attention, "step 1 (stop-transfer), tried 2 times: it would not. Say: novacron vm start web1"));
}

static void
one_that_is_to_stop_does_not_try_again(Fixture *f, gconstpointer data)
{
  g_autoptr(NcRollback) r = begin(f->journal);
  gint quitting = 1;
  Work w = { .dir = f->dir, .step = NC_RB_STOP_TRANSFER, .failures = 9 };
  g_assert_false(nc_rollback_step(r, NC_RB_STOP_TRANSFER, work, &w, 5, &quitting, NULL));
  g_assert_cmpint(w.done, ==, 1);
  g_assert_false(nc_rollback_is_finished(r));
}

/* A record of another version, or after a damage: nothing of it is believed that can't be. */
static void
foreign_records_are_survived(Fixture *f, gconstpointer data)
{
  static const char *const records[] = { "{}", "{\"id\":\"r-1\",\"steps\":5}", "{\"id\":\"r-1\",\"migration\":7,\"steps\":[1,2,3,4,5,6,7,8]}",
                                         "{\"id\":\"r-1\",\"migration\":\"m-1\",\"mode\":\"x\",\"steps\":[{},{},{},{},{},{},{},{}]}" };
  for (size_t i = 0; i < G_N_ELEMENTS(records); i++) {
    nc_autojson json_t *record = json_loads(records[i], 0, NULL);
    g_autoptr(NcRollback) r = nc_rollback_resume(f->journal, record, false);
    g_assert_false(nc_rollback_is_done(r, NC_RB_CLEAN_UP));
    g_assert_cmpint(nc_rollback_mode_from_name(nc_rollback_string(r, "mode", NULL)), ==, NC_RB_MODE_COUNT);
    walk(r, f->dir, NULL);
    nc_rollback_withdraw(r, "not understood");
    g_assert_true(nc_rollback_is_finished(r));
  }
}

/* While a disk is full every try would fill the log of it. */
static void
an_end_that_can_not_be_recorded_is_told_once(Fixture *f, gconstpointer data)
{
  if (g_test_subprocess()) {
    g_autoptr(NcRollback) r = begin(f->journal);
    g_autoptr(GError) error = g_error_new_literal(NC_ERROR, NC_ERROR_QEMU, "it would not");
    bool ended = false;

    nc_log_init("test", NC_LOG_TEXT, NC_LOG_ERR);
    for (int i = 0; i < 3; i++) {
      nc_journal_refuse_next(f->journal);
      ended = ended || nc_rollback_give_up(r, error, "Look at it.");
    }
    g_assert_false(ended);
    g_assert_true(nc_rollback_give_up(r, error, "Look at it."));
    return;
  }
  g_test_trap_subprocess(NULL, 0, 0);
  g_test_trap_assert_passed();
  g_test_trap_assert_stderr("*needs_attention*Look at it.*can't be recorded*");
  g_test_trap_assert_stderr_unmatched("*needs_attention*needs_attention*");
  g_test_trap_assert_stderr_unmatched("*can't be recorded*can't be recorded*");
}

/* --- the manager --- */

/* A node whose one checkpoint takes as long to be read as the test likes. */
typedef struct {
  NcMigrations *migrations;
  NcRollbacks *rollbacks;
  gint reading, read; /* atomic */
  GError *error;      /* of the rollback that waits for it */
} Manager;

static bool
check_nothing(gpointer data, const char *checkpoint, const char *vm, GError **error)
{
  return true;
}

static bool
read_slowly(gpointer data, const char *checkpoint, gint *quitting, char **ret_detail, GError **error)
{
  Manager *m = data;

  g_atomic_int_set(&m->reading, 1);
  for (int i = 0; i < 5000 && !g_atomic_int_get(quitting); i++)
    g_usleep(1000);
  g_atomic_int_set(&m->read, 1);
  return nc_fail(error, NC_ERROR_CANCELLED, "novacrond is stopping");
}

/* Completed, to here; the right to run its machine is still that of its arrival, or (not ${here}) is not. */
static void
add_migration(Fixture *f, const char *id, const char *vm, bool here)
{
  NcRight right = { .epoch = 2, .state = NC_RIGHT_HELD };
  nc_autojson json_t *record = json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", id, "vm", vm, "source", "host-b", "destination", "host-a", "outcome",
                                         "completed");

  g_strlcpy(right.vm, vm, sizeof right.vm);
  g_strlcpy(right.migration, here ? id : "m-9", sizeof right.migration);
  g_assert_true(nc_journal_set_right(f->journal, &right, NC_RIGHT_NONE, 0, NULL));
  g_assert_true(nc_journal_put_migration(f->journal, id, vm, "completed", true, record, false, NULL));
}

static void
roll_back(Manager *m, const char *id, GError **error)
{
  nc_autojson json_t *args = json_pack("{s:s, s:s}", "id", id, "checkpoint", "c-1");
  nc_autojson json_t *begun = nc_rollbacks_start(m->rollbacks, args, error);
  g_assert_null(begun);
}

static gpointer
roll_back_thread(gpointer data)
{
  Manager *m = data;
  roll_back(m, "m-1", &m->error);
  return NULL;
}

/* Reading all of a checkpoint takes hours; other rollbacks go their way, and novacrond can end. */
static void
one_that_reads_its_checkpoint_keeps_nobody_waiting(Fixture *f, gconstpointer data)
{
  const NcMigrationsDeps deps = { .journal = f->journal };
  Manager m = { .migrations = nc_migrations_new(&deps) };
  const NcRollbackSteps steps = { .data = &m, .check = check_nothing, .verify = read_slowly };
  g_autoptr(GError) error = NULL;

  m.rollbacks = nc_rollbacks_new(&deps, m.migrations, &steps);
  add_migration(f, "m-1", "web1", true);
  add_migration(f, "m-2", "web2", false);
  GThread *thread = g_thread_new("roll-back", roll_back_thread, &m);
  while (!g_atomic_int_get(&m.reading))
    g_usleep(1000);
  roll_back(&m, "m-2", &error);
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  g_assert_cmpint(g_atomic_int_get(&m.read), ==, 0);
  nc_rollbacks_stop_waiting(m.rollbacks);
  g_thread_join(thread);
  g_assert_error(m.error, NC_ERROR, NC_ERROR_CANCELLED);
  g_clear_error(&m.error);
  nc_rollbacks_free(m.rollbacks);
  nc_migrations_free(m.migrations);
}

static int
child(const char *dir)
{
  g_autofree char *path = g_build_filename(dir, "journal.db", NULL);
  g_autoptr(NcJournal) journal = nc_journal_open(path, NULL);
  g_autoptr(NcRollback) r = journal ? begin(journal) : NULL;
  return r && walk(r, dir, NULL) ? 0 : 1;
}

int
main(int argc, char **argv)
{
  if (argc == 3 && g_str_equal(argv[1], "--walk"))
    return child(argv[2]);
  g_test_init(&argc, &argv, NULL);
#define TEST(function) g_test_add("/agent/rollback/" #function, Fixture, NULL, setup, function, teardown)
  TEST(every_step_is_recorded_before_and_after);
  TEST(what_was_ordered_is_recorded_at_once);
  TEST(what_is_done_is_not_done_again);
  TEST(a_crash_goes_on_at_its_step);
  TEST(a_step_is_tried_again);
  TEST(what_fails_again_and_again_asks_for_people);
  TEST(one_that_is_to_stop_does_not_try_again);
  TEST(foreign_records_are_survived);
  TEST(an_end_that_can_not_be_recorded_is_told_once);
  TEST(one_that_reads_its_checkpoint_keeps_nobody_waiting);
  return g_test_run();
}
