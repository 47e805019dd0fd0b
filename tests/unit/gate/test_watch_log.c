/* SPDX-License-Identifier: Apache-2.0 */
/* What watchers are told: in order, from where they were, samples only if new, and what no longer fits is said to be missing. */
#include "base/msg.h"
#include "gate/watch_log.h"

#include <string.h>

static NcWatchLog *
log_of(unsigned max_events, size_t max_bytes)
{
  return nc_watch_log_new(max_events, max_bytes);
}

/* An answer of novacrond's with events ${from} to ${to} (0: none), and a sample. */
static json_t *
answer_of(int from, int to, int progress, bool ended)
{
  json_t *events = json_array();

  for (int i = from; i > 0 && i <= to; i++)
    json_array_append_new(events, json_pack("{s:i, s:s, s:{s:i}}", "id", i, "type", ended && i == to ? "completed" : "event", "data", "n", i));
  return json_pack("{s:o, s:{s:i}, s:b, s:b}", "events", events, "progress", "progress", progress, "more", 0, "ended", ended);
}

static void
take(NcWatchLog *log, int from, int to, int progress, bool ended)
{
  nc_autojson json_t *answer = answer_of(from, to, progress, ended);
  g_autoptr(GError) error = NULL;
  nc_watch_log_take(log, answer, &error);
  g_assert_no_error(error);
}

/* The next message's type, with its id in *ret_id; "": none. */
static char *
next(const NcWatchLog *log, NcWatchPlace *place, int *ret_id)
{
  g_autoptr(GBytes) frame = nc_watch_log_next(log, place);
  gsize length;

  *ret_id = -1;
  if (!frame)
    return g_strdup("");
  const uint8_t *bytes = g_bytes_get_data(frame, &length);
  g_assert_cmpuint(bytes[0], ==, 0x81);
  size_t head = bytes[1] < 126 ? 2 : 4;
  nc_autojson json_t *message = json_loadb((const char *)bytes + head, length - head, 0, NULL);
  g_assert_nonnull(message);
  *ret_id = (int)nc_json_int_or(message, "id", -1);
  return g_strdup(nc_json_string_or(message, "type", "?"));
}

static void
expect(const NcWatchLog *log, NcWatchPlace *place, const char *type, int id)
{
  int got;
  g_autofree char *text = next(log, place, &got);
  g_assert_cmpstr(text, ==, type);
  g_assert_cmpint(got, ==, id);
}

static void
test_from_anywhere(void)
{
  g_autoptr(NcWatchLog) log = log_of(100, 100000);
  NcWatchPlace early = { 0 };

  expect(log, &early, "", -1);
  take(log, 3, 6, 10, false);
  for (int since = 0; since <= 6; since++) {
    NcWatchPlace place = { .id = since };
    for (int id = MAX(since + 1, 3); id <= 6; id++)
      expect(log, &place, "event", id);
    expect(log, &place, "progress", 6);
    expect(log, &place, "", -1);
  }
  for (int id = 3; id <= 6; id++)
    expect(log, &early, "event", id);
  expect(log, &early, "progress", 6);
  take(log, 0, 0, 10, false); /* nothing new */
  expect(log, &early, "", -1);
  take(log, 7, 7, 10, false); /* the same sample, now behind an event */
  expect(log, &early, "event", 7);
  expect(log, &early, "progress", 7);
}

/* An id of another node, or of a journal that a power cut has shortened: not silence for ever. */
static void
test_from_the_future(void)
{
  g_autoptr(NcWatchLog) log = log_of(3, 100000), ended = log_of(100, 100000);

  take(log, 3, 6, 10, false);
  NcWatchPlace place = nc_watch_log_begin(log, G_MAXINT64), soon = nc_watch_log_begin(log, 7);
  expect(log, &place, "progress", 6);
  take(log, 0, 0, 11, false); /* was asked before it came, perhaps */
  expect(log, &place, "progress", 6);
  expect(log, &soon, "progress", 6);
  take(log, 7, 7, 11, false);
  expect(log, &soon, "progress", 7); /* had it from elsewhere, before us */
  expect(log, &soon, "", -1);
  expect(log, &place, "gap", 4);
  for (int id = 5; id <= 7; id++)
    expect(log, &place, "event", id);
  take(ended, 1, 2, 10, true);
  place = nc_watch_log_begin(ended, 3);
  expect(ended, &place, "gap", 0);
  expect(ended, &place, "event", 1);
  expect(ended, &place, "completed", 2);
  expect(ended, &place, "", -1);
}

/* What does not begin at the beginning: nothing is missing in front of what is kept, for who asks for no more. */
static void
test_from_the_last_ones(void)
{
  g_autoptr(NcWatchLog) log = log_of(100, 100000);
  g_autoptr(GError) error = NULL;
  NcWatchPlace newcomer = nc_watch_log_begin(log, -1), back = nc_watch_log_begin(log, 41), earlier = nc_watch_log_begin(log, 7);
  nc_autojson json_t *first = answer_of(41, 43, 0, false), *second = answer_of(44, 44, 0, false);

  expect(log, &newcomer, "", -1);
  json_object_del(first, "progress");
  json_object_del(second, "progress");
  json_object_set_new(first, "from", json_integer(40));
  json_object_set_new(second, "from", json_integer(43)); /* says what was asked for */
  g_assert_true(nc_watch_log_take(log, first, &error));
  for (int id = 41; id <= 43; id++)
    expect(log, &newcomer, "event", id);
  expect(log, &newcomer, "", -1); /* no sample */
  expect(log, &back, "event", 42);
  expect(log, &earlier, "gap", 40);
  expect(log, &earlier, "event", 41);
  g_assert_true(nc_watch_log_take(log, second, &error));
  expect(log, &newcomer, "event", 44);
  expect(log, &earlier, "event", 42);
  NcWatchPlace stranger = nc_watch_log_begin(log, 900); /* of another database */
  nc_autojson json_t *third = answer_of(0, 0, 0, false), *fourth = answer_of(0, 0, 0, false);
  json_object_del(third, "progress");
  json_object_del(fourth, "progress");
  g_assert_true(nc_watch_log_take(log, third, &error));
  expect(log, &stranger, "", -1);
  g_assert_true(nc_watch_log_take(log, fourth, &error));
  expect(log, &stranger, "gap", 40);
  expect(log, &stranger, "event", 41);
}

static void
test_the_slow_miss_samples_and_no_event(void)
{
  g_autoptr(NcWatchLog) log = log_of(1000, 1000000);
  NcWatchPlace slow = { 0 };

  for (int i = 1; i <= 50; i++) {
    take(log, i % 5 ? 0 : i, i, i, false);
  }
  for (int i = 5; i <= 50; i += 5)
    expect(log, &slow, "event", i);
  expect(log, &slow, "progress", 50); /* one of fifty */
  expect(log, &slow, "", -1);
}

static void
test_nothing_comes_behind_the_end(void)
{
  g_autoptr(NcWatchLog) log = log_of(100, 100000), old = log_of(100, 100000);
  NcWatchPlace place = { 0 }, other = { 0 };

  take(log, 1, 3, 100, true);
  g_assert_true(nc_watch_log_has_ended(log));
  expect(log, &place, "event", 1);
  expect(log, &place, "event", 2);
  expect(log, &place, "completed", 3);
  expect(log, &place, "", -1);
  /* A migration of before ends were lines of histories: the sample tells of it. */
  nc_autojson json_t *answer = answer_of(0, 0, 100, true);
  g_assert_true(nc_watch_log_take(old, answer, NULL));
  expect(old, &other, "progress", 0);
  expect(old, &other, "", -1);
}

static void
test_what_does_not_fit_is_said_to_be_missing(void)
{
  g_autoptr(NcWatchLog) few = log_of(10, 100000), small = log_of(1000, 1);
  NcWatchPlace start = { 0 }, inside = { .id = 45 }, place = { 0 };

  take(few, 1, 50, 1, false);
  expect(few, &start, "gap", 40);
  expect(few, &start, "event", 41);
  expect(few, &inside, "event", 46);
  take(small, 1, 50, 1, false); /* always the last one */
  expect(small, &place, "gap", 49);
  expect(small, &place, "event", 50);
  expect(small, &place, "progress", 50);
}

static void
take_from(NcWatchLog *log, int behind, int to)
{
  nc_autojson json_t *answer = answer_of(to > behind ? behind + 1 : 0, to, 1, false);
  json_object_set_new(answer, "from", json_integer(behind));
  json_object_del(answer, "progress");
  g_assert_true(nc_watch_log_take(log, answer, NULL));
}

/* novacrond was restarted, or does not keep what was not asked for in time: whoever hears of the next event hears that some are missing. */
static void
test_answers_that_begin_elsewhere(void)
{
  g_autoptr(NcWatchLog) log = log_of(100, 100000);
  NcWatchPlace place = { 0 };

  take_from(log, 0, 2);
  expect(log, &place, "event", 1);
  NcWatchPlace behind = place;
  expect(log, &place, "event", 2);
  take_from(log, 2, 3);
  expect(log, &place, "event", 3);
  take_from(log, 50, 51);
  expect(log, &place, "gap", 50);
  expect(log, &place, "event", 51);
  expect(log, &behind, "gap", 50);
  expect(log, &behind, "event", 51);
  take_from(log, 20, 21); /* a clock went back, or a database */
  take_from(log, 21, 21);
  expect(log, &place, "gap", 20);
  expect(log, &place, "event", 21);
  expect(log, &place, "", -1);
}

static void
test_pages(void)
{
  g_autoptr(NcWatchLog) log = log_of(100, 100000);
  NcWatchPlace place = { 0 };
  nc_autojson json_t *page = answer_of(1, 2, 1, false);

  json_object_set_new(page, "more", json_true());
  g_assert_true(nc_watch_log_take(log, page, NULL));
  g_assert_true(nc_watch_log_has_more(log));
  expect(log, &place, "event", 1);
  expect(log, &place, "event", 2);
  expect(log, &place, "", -1); /* the sample is of a later time than the events that are still to come */
  take(log, 3, 3, 1, false);
  g_assert_false(nc_watch_log_has_more(log));
  expect(log, &place, "event", 3);
  expect(log, &place, "progress", 3);
}

static void
test_nonsense_is_refused(void)
{
  static const char *const answers[] = {
    "{}", "{\"progress\":{}}", "{\"events\":{},\"progress\":{}}", "{\"events\":[],\"progress\":[]}", "{\"events\":[1],\"progress\":{}}",
    "{\"events\":[{}],\"progress\":{}}", "{\"events\":[{\"id\":0,\"type\":\"event\"}],\"progress\":{}}",
    "{\"events\":[{\"id\":\"1\",\"type\":\"event\"}],\"progress\":{}}", "{\"events\":[{\"id\":1,\"type\":7}],\"progress\":{}}",
    "{\"events\":[{\"id\":2,\"type\":\"a\"},{\"id\":2,\"type\":\"a\"}],\"progress\":{}}", /* ids ascend */
    "{\"events\":[{\"id\":2,\"type\":\"a\"},{\"id\":1,\"type\":\"a\"}],\"progress\":{}}", "[]",
  };
  for (size_t i = 0; i < G_N_ELEMENTS(answers); i++) {
    g_autoptr(NcWatchLog) log = log_of(10, 1000);
    g_autoptr(GError) error = NULL;
    nc_autojson json_t *answer = json_loads(answers[i], 0, NULL);
    g_test_message("%s", answers[i]);
    g_assert_nonnull(answer);
    g_assert_false(nc_watch_log_take(log, answer, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/gate/watch-log/from-anywhere", test_from_anywhere);
  g_test_add_func("/gate/watch-log/from-the-last-ones", test_from_the_last_ones);
  g_test_add_func("/gate/watch-log/from-the-future", test_from_the_future);
  g_test_add_func("/gate/watch-log/the-slow-miss-samples", test_the_slow_miss_samples_and_no_event);
  g_test_add_func("/gate/watch-log/nothing-behind-the-end", test_nothing_comes_behind_the_end);
  g_test_add_func("/gate/watch-log/gaps", test_what_does_not_fit_is_said_to_be_missing);
  g_test_add_func("/gate/watch-log/pages", test_pages);
  g_test_add_func("/gate/watch-log/answers-that-begin-elsewhere", test_answers_that_begin_elsewhere);
  g_test_add_func("/gate/watch-log/nonsense", test_nonsense_is_refused);
  return g_test_run();
}
