/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Killed at any moment, a leader loses nothing and starts nothing twice.
 *
 * A child process leads: it takes up what it finds, and then submits, starts and ends migrations, as fast as it can. To send a
 * start is to add the attempt's name to a file, which stands for the agents: they begin a name once, and remember it. The child is killed (SIGKILL),
 * and the next one leads. At the end: whatever was told to be submitted is there and completed, each in its first attempt, and no agent has heard
 * of anything that was not recorded.
 */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 12

typedef struct {
  Bed bed;
  char *agents;    /* the file of names that were sent */
  char *submitted; /* the file of ids whose submission was confirmed */
} Scene;

static void
append_line(const char *path, const char *line)
{
  g_autofree char *text = g_strconcat(line, "\n", NULL);
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0 || write(fd, text, strlen(text)) != (gssize)strlen(text))
    g_error("%s: %s", path, g_strerror(errno));
  close(fd);
}

/* The lines of a file that may not be there. Free with g_strfreev(). */
static char **
lines_of(const char *path)
{
  g_autofree char *text = NULL;
  if (!g_file_get_contents(path, &text, NULL, NULL))
    text = g_strdup("");
  return g_strsplit(g_strchomp(text), "\n", -1);
}

/* What the agents do with a start: a name that they know is not begun again. */
static void
send_start(const Scene *s, const char *id, unsigned attempt)
{
  g_autofree char *name = nc_fleetdb_attempt_name(id, attempt);
  g_auto(GStrv) known = lines_of(s->agents);
  if (!g_strv_contains((const char *const *)known, name))
    append_line(s->agents, name);
}

static void
finish(NcFleetDb *db, uint64_t epoch, const char *id, unsigned attempt)
{
  g_autoptr(GError) error = NULL;
  assert_works(db_step(db, epoch, id, attempt, NC_MOVE_RUNNING, &error), error);
  assert_works(db_step(db, epoch, id, attempt, NC_MOVE_COMPLETED, &error), error);
}

static void
start_and_finish(const Scene *s, NcFleetDb *db, uint64_t epoch, const char *id)
{
  g_autoptr(GError) error = NULL;
  unsigned attempt;

  assert_works(db_start(db, epoch, id, &attempt, &error), error);
  send_start(s, id, attempt);
  finish(db, epoch, id, attempt);
}

/* What a new leader does with what the old one left. */
static void
take_up(const Scene *s, NcFleetDb *db, uint64_t epoch)
{
  g_autoptr(GError) error = NULL;
  const NcMoveFilter filter = { .selection = NC_MOVES_UNFINISHED, .is_oldest_first = true };
  nc_autojson json_t *rows = nc_fleetdb_list_migrations(db, &filter, &(NcPage){ .limit = NC_PAGE_MOST }, NULL, &error);

  g_assert_no_error(error);
  for (size_t i = 0; i < json_array_size(rows); i++) {
    json_t *row = json_array_get(rows, i);
    const char *id = json_string_value(json_object_get(row, "id")), *state = json_string_value(json_object_get(row, "state"));
    unsigned attempt = (unsigned)json_integer_value(json_object_get(row, "attempts"));
    if (g_str_equal(state, "queued")) {
      start_and_finish(s, db, epoch, id);
      continue;
    }
    send_start(s, id, attempt); /* was it sent? once more is the same */
    finish(db, epoch, id, attempt);
  }
}

/* The child's life; ends by being killed. */
static void
lead(const Scene *s, int ready, int round)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *holder = g_strdup_printf("leader-%d", round);
  NcFleetDb *db = db_open(&s->bed);
  uint64_t epoch = db_lead(db, holder, 1); /* so that the next one need not wait */

  if (write(ready, "x", 1) != 1)
    _exit(3);
  take_up(s, db, epoch);
  for (unsigned i = 0;; i++) {
    g_autofree char *id = g_strdup_printf("mig-%d-%u", round, i), *machine = g_strdup_printf("vm-%u", i);
    assert_works(db_submit(db, epoch, id, machine, &error), error);
    append_line(s->submitted, id);
    start_and_finish(s, db, epoch, id);
  }
}

/* Leads in a child for some milliseconds more than it needs to begin; how it ended is what we did to it. */
static void
lead_and_die(const Scene *s, int round)
{
  int ready[2], status;
  char byte;

  g_assert_cmpint(pipe(ready), ==, 0);
  pid_t child = fork();
  g_assert_cmpint(child, >=, 0);
  if (child == 0) {
    close(ready[0]);
    lead(s, ready[1], round);
    _exit(4);
  }
  close(ready[1]);
  g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
  close(ready[0]);
  g_usleep((gulong)g_test_rand_int_range(0, 40000));
  g_assert_cmpint(kill(child, SIGKILL), ==, 0);
  g_assert_cmpint(waitpid(child, &status, 0), ==, child);
  g_assert_true(WIFSIGNALED(status));
  g_assert_cmpint(WTERMSIG(status), ==, SIGKILL);
}

static void
check_outcome(const Scene *s, NcFleetDb *db)
{
  g_autoptr(GError) error = NULL;
  g_auto(GStrv) submitted = lines_of(s->submitted), sent = lines_of(s->agents);
  g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);

  for (char **name = sent; *name && **name; name++) {
    g_autofree char *id = g_strndup(*name, strlen(*name) - 2);
    g_autofree char *state = db_text(db, id, "state"); /* it was recorded */
    g_assert_cmpstr(state, ==, "completed");
    g_assert_true(g_str_has_suffix(*name, ".1"));      /* nobody began a second attempt */
    g_assert_true(g_hash_table_add(names, *name));     /* nor the first one twice */
  }
  for (char **id = submitted; *id && **id; id++) {
    g_autofree char *name = nc_fleetdb_attempt_name(*id, 1);
    g_assert_true(g_hash_table_contains(names, name));
    g_assert_cmpint(db_number(db, *id, "attempts"), ==, 1);
  }
  g_assert_cmpuint(g_hash_table_size(names), >, 0);
  nc_autojson json_t *counts = nc_fleetdb_count_migrations(db, NULL, NULL, &error);
  g_assert_cmpint(json_integer_value(json_object_get(counts, "completed")), ==, g_hash_table_size(names));
  g_test_message("%u migrations under %d leaders", g_hash_table_size(names), ROUNDS);
}

static void
scene_make(Scene *s)
{
  db_make(&s->bed);
  s->agents = g_build_filename(s->bed.dir, "agents", NULL);
  s->submitted = g_build_filename(s->bed.dir, "submitted", NULL);
}

static void
scene_clear(Scene *s)
{
  db_teardown(&s->bed, NULL);
  g_free(s->agents);
  g_free(s->submitted);
}

static void
killed_leaders_lose_and_double_nothing(void)
{
  Scene s = { 0 };

  scene_make(&s);
  for (int round = 0; round < ROUNDS; round++)
    lead_and_die(&s, round);
  s.bed.db = db_open(&s.bed);
  take_up(&s, s.bed.db, db_lead(s.bed.db, "the last", ONE_HOUR_MS));
  check_outcome(&s, s.bed.db);
  scene_clear(&s);
}

/* The two moments that matter, one by one: recorded and not sent; sent and not confirmed. */
static void
leave_half_done(const Scene *s, bool is_sent)
{
  pid_t child = fork();
  int status;

  g_assert_cmpint(child, >=, 0);
  if (child == 0) {
    NcFleetDb *db = db_open(&s->bed);
    uint64_t epoch = db_lead(db, "the first", 1);
    unsigned attempt;
    if (!db_submit(db, epoch, "mig-1", "web1", NULL) || !db_start(db, epoch, "mig-1", &attempt, NULL))
      _exit(3);
    if (is_sent)
      send_start(s, "mig-1", attempt);
    kill(getpid(), SIGKILL);
  }
  g_assert_cmpint(waitpid(child, &status, 0), ==, child);
  g_assert_true(WIFSIGNALED(status));
}

static void
killed_between_record_and_confirmation(gconstpointer data)
{
  const bool is_sent = GPOINTER_TO_INT(data);
  g_autoptr(GError) error = NULL;
  Scene s = { 0 };
  unsigned attempt;

  scene_make(&s);
  leave_half_done(&s, is_sent);
  s.bed.db = db_open(&s.bed);
  uint64_t epoch = db_lead(s.bed.db, "the second", ONE_HOUR_MS);
  g_assert_cmpuint(epoch, ==, 2);
  g_autofree char *state = db_text(s.bed.db, "mig-1", "state");
  g_assert_cmpstr(state, ==, "starting");
  g_assert_cmpint(db_number(s.bed.db, "mig-1", "epoch"), ==, 1);
  assert_fails(db_start(s.bed.db, epoch, "mig-1", &attempt, &error), error, NC_ERROR_CONFLICT); /* not a second time */
  take_up(&s, s.bed.db, epoch);
  g_auto(GStrv) sent = lines_of(s.agents);
  g_assert_cmpuint(g_strv_length(sent), ==, 1);
  g_assert_cmpstr(sent[0], ==, "mig-1.1");
  scene_clear(&s);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_data_func("/fleetdb/crash/recorded_and_not_sent", GINT_TO_POINTER(false), killed_between_record_and_confirmation);
  g_test_add_data_func("/fleetdb/crash/sent_and_not_confirmed", GINT_TO_POINTER(true), killed_between_record_and_confirmation);
  g_test_add_func("/fleetdb/crash/killed_leaders_lose_and_double_nothing", killed_leaders_lose_and_double_nothing);
  return g_test_run();
}
