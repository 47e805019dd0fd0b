/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP client against a QEMU that says what a test wants, right or wrong. */
#include "base/io.h"
#include "qemu/migration_qmp.h"
#include "qemu/qmp_parse.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GREETING "{\"QMP\":{\"version\":{\"qemu\":{\"major\":9,\"minor\":2,\"micro\":1}},\"capabilities\":[\"oob\"]}}\r\n"
#define TIMEOUT_MS 5000

/* --- the parser --- */

static void
test_parser_outcomes(void)
{
  static const struct {
    const char *text;
    int objects;
    bool bad;
  } rows[] = {
    { "", 0, false },          { "{}", 0, false },       { "{}\n", 1, false },       { "{}\r\n{}\r\n{", 2, false },
    { "\r\n \n{}\n", 1, false }, { "[]\n", 0, true },      { "{}\nnonsense\n", 1, true }, { "{\"a\":1,\"a\":2}\n", 0, true },
    { "{}{}\n", 0, true },     { "\"text\"\n", 0, true },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autoptr(NcQmpParser) p = nc_qmp_parser_new();
    g_autoptr(GError) error = NULL;
    json_t *object;
    int objects = 0;
    g_assert_true(nc_qmp_parser_feed(p, rows[i].text, strlen(rows[i].text), &error));
    for (; (object = nc_qmp_parser_next(p, &error)) != NULL; objects++)
      json_decref(object);
    g_assert_cmpint(objects, ==, rows[i].objects);
    if (rows[i].bad)
      g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
    else
      g_assert_no_error(error);
  }
}

static void
test_parser_bounds_a_line(void)
{
  g_autoptr(NcQmpParser) p = nc_qmp_parser_new();
  g_autofree char *chunk = g_malloc(1 << 20);
  g_autoptr(GError) error = NULL;
  memset(chunk, 'x', 1 << 20);
  for (int i = 0; i < (int)(NC_QMP_LINE_MAX >> 20); i++)
    g_assert_true(nc_qmp_parser_feed(p, chunk, 1 << 20, &error));
  g_assert_false(nc_qmp_parser_feed(p, chunk, 1, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
}

/* --- a scripted QEMU --- */

/* Each string answers one request; NULL ends the connection. "%d" is the request's id. */
typedef struct {
  const char *greeting;
  const char *const *answers;
  char *dir, *path;
  int listener;
  GThread *thread;
} Script;

static bool
read_request(int fd, json_int_t *ret_id)
{
  g_autoptr(GString) line = g_string_new(NULL);
  char c;
  while (read(fd, &c, 1) == 1) {
    if (c != '\n') {
      g_string_append_c(line, c);
      continue;
    }
    nc_autojson json_t *request = json_loads(line->str, 0, NULL);
    *ret_id = json_integer_value(json_object_get(request, "id"));
    return true;
  }
  return false;
}

static gpointer
play(gpointer data)
{
  Script *s = data;
  nc_autofd int fd = accept(s->listener, NULL, NULL);
  json_int_t id;
  if (s->greeting)
    nc_write_all(fd, s->greeting, strlen(s->greeting), NULL);
  for (const char *const *answer = s->answers; *answer && read_request(fd, &id); answer++) {
    g_auto(GStrv) parts = g_strsplit(*answer, "%d", -1);
    g_autofree char *number = g_strdup_printf("%d", (int)id);
    g_autofree char *text = g_strjoinv(number, parts);
    nc_write_all(fd, text, strlen(text), NULL);
  }
  /* A client that waits for more gets nothing, until it goes. */
  while (s->answers[0] && read_request(fd, &id))
    ;
  return NULL;
}

static NcQmp *
script_start(Script *s, int timeout_ms, GError **error)
{
  s->dir = g_dir_make_tmp("nc-qmp-XXXXXX", NULL);
  s->path = g_build_filename(s->dir, "q", NULL);
  s->listener = nc_unix_listen(s->path, 0600, NULL);
  g_assert_cmpint(s->listener, >=, 0);
  s->thread = g_thread_new("script", play, s);
  return nc_qmp_connect(s->path, timeout_ms, error);
}

static void
script_end(Script *s)
{
  g_thread_join(s->thread);
  close(s->listener);
  g_unlink(s->path);
  g_rmdir(s->dir);
  g_free(s->path);
  g_free(s->dir);
}

#define FINE "{\"return\":{},\"id\":%d}\r\n"

static void
test_bad_greetings(void)
{
  static const char *const none[] = { NULL };
  static const char *const refuses[] = { "{\"error\":{\"desc\":\"no\"},\"id\":%d}\n", NULL };
  static const struct {
    const char *greeting;
    const char *const *answers;
    int code;
  } rows[] = {
    { "HTTP/1.1 400 Bad Request\r\n", none, NC_ERROR_PROTOCOL },
    { "{\"hello\":1}\n", none, NC_ERROR_PROTOCOL },
    { "", none, NC_ERROR_IO }, /* closed at once */
    { GREETING, none, NC_ERROR_QEMU },
    { GREETING, refuses, NC_ERROR_QEMU },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    Script s = { .greeting = rows[i].greeting, .answers = rows[i].answers };
    g_autoptr(GError) error = NULL;
    g_assert_null(script_start(&s, TIMEOUT_MS, &error));
    g_assert_error(error, NC_ERROR, rows[i].code);
    g_assert_nonnull(strstr(error->message, s.path));
    script_end(&s);
  }
}

static void
test_silence_ends_in_time(void)
{
  static const char *const never[] = { FINE, NULL };
  Script s = { .answers = never };
  g_autoptr(GError) error = NULL;
  g_assert_null(script_start(&s, 50, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TIMEOUT);
  script_end(&s);
  g_clear_error(&error);
  g_assert_null(nc_qmp_connect("/no/such/socket", 50, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_UNREACHABLE);
}

static void
test_late_answer_is_for_nobody_else(void)
{
  static const char *const answers[] = {
    FINE,
    "{\"event\":\"SOMETHING_NEW\"}\r\n{\"unknown\":1}\r\n", /* the second request gets no answer yet */
    "{\"return\":\"late\",\"id\":2}\r\n{\"return\":\"own\",\"id\":3}\r\n",
    NULL,
  };
  Script s = { .greeting = GREETING, .answers = answers };
  g_autoptr(GError) error = NULL;
  NcQmp *qmp = script_start(&s, TIMEOUT_MS, &error);
  int version[3];
  g_assert_no_error(error);
  nc_qmp_version(qmp, version);
  g_assert_cmpint(version[0] * 100 + version[1] * 10 + version[2], ==, 921);
  g_assert_null(nc_qmp_call(qmp, "slow", NULL, -1, 50, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TIMEOUT);
  g_clear_error(&error);
  nc_autojson json_t *answer = nc_qmp_call(qmp, "next", NULL, -1, TIMEOUT_MS, &error);
  g_assert_cmpstr(json_string_value(answer), ==, "own");
  nc_qmp_free(qmp);
  script_end(&s);
}

/* What answers nothing that was asked, or is no JSON, ends the connection; who waits is told at once. */
static void
test_nonsense_ends_the_connection(void)
{
  static const char *const answers[][3] = {
    { FINE, "{\"return\":{},\"id\":99}\r\n", NULL }, { FINE, "{\"return\":{},\"id\":0}\r\n", NULL }, { FINE, "{\"return\":{}}\r\n", NULL },
    { FINE, "{\"return\":{},\"id\":\"2\"}\r\n", NULL }, { FINE, "nonsense\r\n", NULL },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(answers); i++) {
    Script s = { .greeting = GREETING, .answers = answers[i] };
    g_autoptr(GError) error = NULL;
    NcQmp *qmp = script_start(&s, TIMEOUT_MS, &error);
    g_assert_no_error(error);
    g_assert_null(nc_qmp_call(qmp, "anything", NULL, -1, TIMEOUT_MS, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_QEMU);
    g_assert_false(nc_qmp_is_alive(qmp));
    nc_qmp_free(qmp);
    script_end(&s);
  }
}

/* --- migration --- */

static void
test_missing_capabilities_are_named(void)
{
  static const char *const answers[] = {
    FINE,
    "{\"return\":[{\"capability\":\"events\",\"state\":false},{\"capability\":\"from-the-future\",\"state\":true}],\"id\":%d}\r\n",
    NULL,
  };
  Script s = { .greeting = GREETING, .answers = answers };
  g_autoptr(GError) error = NULL;
  NcQmp *qmp = script_start(&s, TIMEOUT_MS, &error);
  g_assert_false(nc_qemu_migration_setup_destination(qmp, false, false, &error));
  g_assert_nonnull(strstr(error->message, "return-path, pause-before-switchover"));
  nc_qmp_free(qmp);
  script_end(&s);
}

static void
test_preempt_is_used_from_8_0_on(void)
{
  static const struct {
    const char *version;
    bool sound;
  } rows[] = {
    { "{\"major\":7,\"minor\":1,\"micro\":0}", false },
    { "{\"major\":7,\"minor\":2,\"micro\":22}", false },
    { "{\"major\":8,\"minor\":0,\"micro\":0}", true },
    { "{\"major\":10,\"minor\":0,\"micro\":2}", true },
  };
  static const char *const answers[] = { FINE, NULL };
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autofree char *greeting = g_strdup_printf("{\"QMP\":{\"version\":{\"qemu\":%s},\"capabilities\":[\"oob\"]}}\r\n", rows[i].version);
    Script s = { .greeting = greeting, .answers = answers };
    g_autoptr(GError) error = NULL;
    NcQmp *qmp = script_start(&s, TIMEOUT_MS, &error);
    g_assert_no_error(error);
    g_assert_true(nc_qemu_preempt_is_sound(qmp) == rows[i].sound);
    nc_qmp_free(qmp);
    script_end(&s);
  }
}

static void
test_states_of_newer_qemus_are_under_way(void)
{
  static const struct {
    const char *answer;
    NcQemuMigrationStatus status;
    bool under_way;
  } rows[] = {
    { "{}", NC_QEMU_MIGRATION_NONE, false },
    { "{\"status\":\"active\",\"ram\":{\"total\":-5,\"mbps\":1.5}}", NC_QEMU_MIGRATION_ACTIVE, true },
    { "{\"status\":\"postcopy-recover-setup\"}", NC_QEMU_MIGRATION_POSTCOPY_RECOVER, true },
    { "{\"status\":\"postcopy-paused\"}", NC_QEMU_MIGRATION_POSTCOPY_PAUSED, true },
    { "{\"status\":\"postcopy-device\"}", NC_QEMU_MIGRATION_POSTCOPY, true },
    { "{\"status\":\"teleporting\",\"ram\":7}", NC_QEMU_MIGRATION_OTHER, true },
    { "{\"status\":\"failed\",\"error-desc\":\"why\",\"blocked-reasons\":[\"a\",1,\"b\"]}", NC_QEMU_MIGRATION_FAILED, false },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_autofree char *answer = g_strdup_printf("{\"return\":%s,\"id\":%%d}\r\n", rows[i].answer);
    const char *const answers[] = { FINE, answer, answer, NULL };
    Script s = { .greeting = GREETING, .answers = answers };
    g_autoptr(GError) error = NULL;
    NcQemuMigrationInfo info;
    NcQmp *qmp = script_start(&s, TIMEOUT_MS, &error);
    g_assert_true(nc_qemu_migration_query(qmp, &info, &error));
    g_assert_cmpint(info.status, ==, rows[i].status);
    g_assert_cmpuint(info.ram_total_bytes, ==, 0);
    if (rows[i].status == NC_QEMU_MIGRATION_FAILED)
      g_assert_cmpstr(info.blocked_reasons, ==, "a; b");
    nc_qemu_migration_info_clear(&info);
    g_assert_cmpint(nc_qemu_migration_is_under_way(qmp), ==, rows[i].under_way);
    nc_qmp_free(qmp);
    script_end(&s);
  }
}

/* QEMU is in the run state finish-migrate for a moment after it has called its migration failed. */
static void
test_cont_is_repeated_after_a_migration(void)
{
  static const char refused[] = "{\"error\":{\"class\":\"GenericError\",\"desc\":\"Migration is not finalized yet\"},\"id\":%d}\r\n";
  static const char stopped[] = "{\"return\":{\"status\":\"finish-migrate\",\"running\":false},\"id\":%d}\r\n";
  static const char running[] = "{\"return\":{\"status\":\"running\",\"running\":true},\"id\":%d}\r\n";
  const char *const patient[] = { FINE, stopped, refused, stopped, refused, running, NULL };
  const char *const never[] = { FINE, stopped, refused, NULL };
  const char *const *const rows[] = { patient, never };

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    Script s = { .greeting = GREETING, .answers = rows[i] };
    g_autoptr(GError) error = NULL;
    NcQmp *qmp = script_start(&s, TIMEOUT_MS, &error);
    bool resumed = nc_qemu_cont_after_migration(qmp, rows[i] == patient ? TIMEOUT_MS : 0, &error);
    g_assert_cmpint(resumed, ==, rows[i] == patient);
    if (rows[i] == never)
      g_assert_nonnull(strstr(error->message, "Migration is not finalized yet"));
    nc_qmp_free(qmp);
    script_end(&s);
  }
}

/* QEMU's side of an adopted connection: the rest of a line, an answer to somebody who is gone, then what is said now. */
static gpointer
answer_the_adopter(gpointer data)
{
  int fd = GPOINTER_TO_INT(data);
  static const char before[] = "ds\": 5}}\r\n{\"return\": {}, \"id\": 7}\r\n{\"event\": \"STOP\"}\r\n";
  json_int_t id;

  g_assert_true(nc_write_all(fd, before, strlen(before), NULL));
  while (read_request(fd, &id)) {
    g_autofree char *text = g_strdup_printf("{\"return\": {}, \"id\": %" JSON_INTEGER_FORMAT "}\r\n", id);
    g_assert_true(nc_write_all(fd, text, strlen(text), NULL));
  }
  return NULL;
}

static void
test_adopted_connection_outlives_its_user(void)
{
  int ends[2];
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), ==, 0);
  GThread *qemu = g_thread_new("qemu", answer_the_adopter, GINT_TO_POINTER(ends[1]));
  int kept = dup(ends[0]); /* as QEMU itself has one */

  for (int i = 0; i < 2; i++) {
    g_autoptr(NcQmp) qmp = nc_qmp_adopt(i == 0 ? ends[0] : dup(kept));
    g_autoptr(GError) error = NULL;
    g_usleep(100000); /* what is there already is read first; QEMU answers no faster than it is asked */
    g_assert_true(nc_qmp_do_oob(qmp, "migrate-recover", json_object(), &error));
    g_assert_no_error(error);
    g_assert_true(nc_qmp_is_alive(qmp));
  }
  shutdown(kept, SHUT_RDWR);
  close(kept);
  g_thread_join(qemu);
  close(ends[1]);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/qmp/parser-outcomes", test_parser_outcomes);
  g_test_add_func("/qmp/parser-bounds-a-line", test_parser_bounds_a_line);
  g_test_add_func("/qmp/bad-greetings", test_bad_greetings);
  g_test_add_func("/qmp/silence-ends-in-time", test_silence_ends_in_time);
  g_test_add_func("/qmp/late-answer-is-for-nobody-else", test_late_answer_is_for_nobody_else);
  g_test_add_func("/qmp/nonsense-ends-the-connection", test_nonsense_ends_the_connection);
  g_test_add_func("/qmp/missing-capabilities-are-named", test_missing_capabilities_are_named);
  g_test_add_func("/qmp/preempt-is-used-from-8-0-on", test_preempt_is_used_from_8_0_on);
  g_test_add_func("/qmp/states-of-newer-qemus-are-under-way", test_states_of_newer_qemus_are_under_way);
  g_test_add_func("/qmp/cont-is-repeated-after-a-migration", test_cont_is_repeated_after_a_migration);
  g_test_add_func("/qmp/adopted-connection-outlives-its-user", test_adopted_connection_outlives_its_user);
  return g_test_run();
}
