/* SPDX-License-Identifier: Apache-2.0 */
/* What watchers of the fleet are told: the database's events as messages, ends that are ends, and how far it is. */
#include "agent/fleet_messages.h"
#include "base/msg.h"

#include <string.h>

#define SECOND INT64_C(1000000)

/* ${text} with ' for ". */
static json_t *
json_of(const char *text)
{
  g_autofree char *quoted = g_strdelimit(g_strdup(text), "'", '"');
  json_t *value = json_loads(quoted, 0, NULL);
  g_assert_nonnull(value);
  return value;
}

static json_t *
event_of(const char *kind, const char *detail)
{
  return json_pack("{s:i, s:I, s:s, s:s, s:s, s:o}", "id", 9, "at_us", (json_int_t)1767322810000000, "kind", kind, "subject",
                   "mig-1", "migration", "mig-1", "detail", json_of(detail));
}

static const char *
text_of(json_t *message, const char *key)
{
  return nc_json_string_or(json_object_get(message, "data"), key, NULL);
}

static json_t *
move_message(const char *kind, const char *detail)
{
  nc_autojson json_t *event = event_of(kind, detail);
  nc_autojson json_t *record = json_of("{'id': 'mig-1', 'source': 'host-a', 'result': {'pause_ms': 12.5, 'total_ms': 8000, 'wire_bytes': 61, 'sha256': 'x'}}");
  json_t *message = nc_fleet_move_message(event, record);
  g_assert_cmpint(nc_json_int_or(message, "id", 0), ==, 9);
  g_assert_cmpstr(nc_json_string_or(message, "at", ""), ==, "2026-01-02T03:00:10.000Z");
  return message;
}

static void
test_messages_of_a_migration(void)
{
  static const struct {
    const char *kind, *detail, *type, *phase, *event, *words;
  } cases[] = {
    { "migration.state", "{'state': 'queued', 'attempt': 0, 'reason': ''}", "phase", "queued", "queued", "" },
    { "migration.state", "{'state': 'starting', 'attempt': 2, 'reason': ''}", "event", NULL, "starting", "starting, attempt 2" },
    { "migration.state", "{'state': 'backoff', 'attempt': 1, 'reason': 'no'}", "warning", NULL, "backoff", "backoff, attempt 1: no" },
    { "migration.phase", "{'phase': 'memory_copy', 'percent': 3, 'attempt': 1}", "phase", "memory_copy", "phase", "attempt 1" },
    { "migration.phase", "{'phase': 'needs_attention', 'percent': 3, 'attempt': 1}", "alert", NULL, "needs_attention",
      "a human has to decide: novacron status mig-1.1 on node host-a says what" },
    { "migration.phase", "{'phase': 'needs_attention', 'percent': 3, 'attempt': 2, 'node': 'host-c'}", "alert", NULL, "needs_attention",
      "a human has to decide: novacron status mig-1.2 on node host-c says what" },
    { "migration.cancelling", "{'reason': 'enough'}", "event", NULL, "cancelling", "enough" },
    { "migration.lost", "{'node': 'host-a', 'attempt': 1}", "warning", NULL, "lost", "node host-a does not know attempt 1 any more, which it had begun" },
    { "migration.later", "{}", "event", NULL, "later", "" }, /* of a newer database */
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    nc_autojson json_t *message = move_message(cases[i].kind, cases[i].detail);
    g_test_message("%s %s", cases[i].kind, cases[i].detail);
    g_assert_cmpstr(nc_json_string_or(message, "type", ""), ==, cases[i].type);
    g_assert_cmpstr(text_of(message, "phase"), ==, cases[i].phase);
    g_assert_cmpstr(text_of(message, "event"), ==, cases[i].event);
    g_assert_cmpstr(text_of(message, "detail"), ==, cases[i].words);
    g_assert_cmpstr(text_of(message, "severity"), ==, g_str_equal(cases[i].type, "alert") ? "critical" : NULL);
  }
}

static void
test_ends_of_a_migration(void)
{
  static const struct {
    const char *state, *type, *code;
  } cases[] = {
    { "completed", "completed", NULL }, { "failed", "failed", "failed" }, { "refused", "failed", "unsuitable" }, { "cancelled", "cancelled", "cancelled" },
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *detail = g_strdup_printf("{'state': '%s', 'attempt': 1, 'reason': 'why'}", cases[i].state);
    nc_autojson json_t *message = move_message("migration.state", detail);
    json_t *data = json_object_get(message, "data"), *error = json_object_get(data, "error");
    g_assert_cmpstr(nc_json_string_or(message, "type", ""), ==, cases[i].type);
    g_assert_cmpstr(text_of(message, "outcome"), ==, cases[i].type);
    g_assert_cmpint(nc_json_int_or(data, "total_ms", 0), ==, 8000);
    g_assert_null(json_object_get(data, "sha256"));
    g_assert_cmpstr(nc_json_string_or(error, "code", NULL), ==, cases[i].code);
    g_assert_cmpstr(nc_json_string_or(error, "message", NULL), ==, cases[i].code ? "why" : NULL);
  }
}

/* What ends one of many does not end the stream of many; only the group's own end does. */
static void
test_messages_of_many(void)
{
  nc_autojson json_t *part = event_of("migration.state", "{'state': 'completed', 'attempt': 1, 'reason': ''}");
  nc_autojson json_t *failed = event_of("migration.state", "{'state': 'failed', 'attempt': 1, 'reason': 'why'}");
  nc_autojson json_t *own = event_of("evacuation.state", "{'state': 'failed', 'reason': 'one is left'}");
  nc_autojson json_t *runs = event_of("evacuation.state", "{'state': 'running', 'reason': ''}");
  json_object_set_new(own, "subject", json_string("eva-1"));
  json_object_set_new(runs, "subject", json_string("eva-1"));
  nc_autojson json_t *a = nc_fleet_message(part, "eva-1"), *b = nc_fleet_message(failed, "eva-1"), *c = nc_fleet_message(own, "eva-1"),
                     *d = nc_fleet_message(runs, "eva-1"), *e = nc_fleet_message(own, NULL);

  g_assert_cmpstr(nc_json_string_or(a, "type", ""), ==, "event");
  g_assert_cmpstr(text_of(a, "event"), ==, "migration.state");
  g_assert_cmpstr(text_of(a, "migration"), ==, "mig-1");
  g_assert_cmpstr(nc_json_string_or(json_object_get(json_object_get(a, "data"), "facts"), "state", ""), ==, "completed");
  g_assert_cmpstr(nc_json_string_or(b, "type", ""), ==, "warning");
  g_assert_cmpstr(text_of(b, "detail"), ==, "failed, attempt 1: why");
  g_assert_cmpstr(nc_json_string_or(c, "type", ""), ==, "failed");
  g_assert_cmpstr(text_of(c, "outcome"), ==, "failed");
  g_assert_cmpstr(nc_json_string_or(d, "type", ""), ==, "phase");
  g_assert_cmpstr(text_of(d, "phase"), ==, "running");
  g_assert_cmpstr(nc_json_string_or(e, "type", ""), ==, "warning"); /* of all that happens it is one thing */
  g_assert_cmpstr(text_of(e, "subject"), ==, "eva-1");
}

/* Among many migrations it is said of which, and where one looks at it. */
static void
test_a_human_is_wanted_among_many(void)
{
  nc_autojson json_t *event = event_of("migration.phase", "{'phase': 'needs_attention', 'percent': 98, 'attempt': 1, 'node': 'host-a'}");
  nc_autojson json_t *older = event_of("migration.phase", "{'phase': 'needs_attention', 'percent': 98, 'attempt': 1}");
  nc_autojson json_t *a = nc_fleet_message(event, "eva-1"), *b = nc_fleet_message(older, NULL);

  g_assert_cmpstr(nc_json_string_or(a, "type", ""), ==, "alert");
  g_assert_cmpstr(text_of(a, "event"), ==, "migration.phase");
  g_assert_cmpstr(text_of(a, "severity"), ==, "critical");
  g_assert_cmpstr(text_of(a, "detail"), ==, "a human has to decide: novacron status mig-1.1 on node host-a says what");
  g_assert_cmpstr(text_of(b, "detail"), ==, "a human has to decide: novacron status mig-1.1 on its source says what");
}

static json_t *
move_sample(const char *state, bool is_finished, const char *live)
{
  nc_autojson json_t *record = json_pack("{s:s, s:b, s:i}", "state", state, "is_finished", is_finished, "attempts", 2);
  if (live)
    json_object_set_new(record, "live", json_of(live));
  return nc_fleet_move_sample(record);
}

static void
test_samples_of_a_migration(void)
{
  nc_autojson json_t *runs = move_sample("running", false, "{'phase': 'memory_copy', 'percent': 43.5, 'waits': '', 'sample': {'transfer_rate': 5, 'eta_ms': 12000, 'rounds': 1}}");
  nc_autojson json_t *queued = move_sample("queued", false, "{'phase': '', 'percent': 0, 'waits': 'its turn', 'sample': null}");
  nc_autojson json_t *begins = move_sample("starting", false, "{'phase': '', 'percent': 0, 'waits': '', 'sample': null}");
  nc_autojson json_t *done = move_sample("completed", true, NULL), *refused = move_sample("refused", true, NULL);

  g_assert_cmpstr(nc_json_string_or(runs, "phase", ""), ==, "memory_copy");
  g_assert_cmpfloat(json_number_value(json_object_get(runs, "progress")), ==, 43.5);
  g_assert_cmpstr(nc_json_string_or(runs, "eta", ""), ==, "12s");
  g_assert_cmpint(nc_json_int_or(runs, "transfer_rate", 0), ==, 5);
  g_assert_true(json_is_null(json_object_get(runs, "wire_bytes")));
  g_assert_cmpint(nc_json_int_or(runs, "attempt", 0), ==, 2);
  g_assert_cmpstr(nc_json_string_or(queued, "phase", ""), ==, "queued");
  g_assert_cmpstr(nc_json_string_or(queued, "waits", ""), ==, "its turn");
  g_assert_true(json_is_null(json_object_get(queued, "progress")));
  g_assert_cmpint(nc_json_int_or(queued, "transfer_rate", -1), ==, 0);
  g_assert_cmpstr(nc_json_string_or(begins, "phase", ""), ==, "prepare");
  g_assert_true(json_is_null(json_object_get(begins, "transfer_rate"))); /* its agent has not said */
  g_assert_cmpint(nc_json_int_or(done, "progress", 0), ==, 100);
  g_assert_cmpstr(nc_json_string_or(refused, "phase", ""), ==, "failed");
  g_assert_null(move_sample("running", false, NULL)); /* where it is, only the leader knows */
}

static json_t *
move_status(const char *record)
{
  nc_autojson json_t *of = json_of(record);
  return nc_fleet_move_status(of, 60 * SECOND);
}

static void
test_status_of_a_migration(void)
{
  nc_autojson json_t *waits = move_status("{'id': 'mig-1', 'machine': 'web1', 'source': 'a', 'destination': '', 'state': 'queued', 'is_finished': false, 'attempts': 0,"
                                          " 'submitted_us': 1000000, 'started_us': 0, 'live': {'phase': '', 'waits': 'its turn'}}");
  nc_autojson json_t *runs = move_status("{'id': 'mig-1', 'machine': 'web1', 'source': 'a', 'destination': 'b', 'state': 'running', 'is_finished': false, 'attempts': 1, 'started_us': 50000000}");
  nc_autojson json_t *done = move_status("{'id': 'mig-1', 'machine': 'web1', 'source': 'a', 'destination': 'b', 'state': 'completed', 'is_finished': true, 'started_us': 50000000,"
                                         " 'finished_us': 52500000, 'result': {'pause_ms': 7.5}}");
  nc_autojson json_t *refused = move_status("{'id': 'mig-1', 'machine': 'web1', 'source': 'a', 'destination': 'b', 'state': 'refused', 'is_finished': true, 'started_us': 0,"
                                            " 'finished_us': 2000000, 'reason': 'its processor lacks x'}");
  json_t *error = json_object_get(refused, "error");

  g_assert_cmpstr(nc_json_string_or(waits, "vm", ""), ==, "web1");
  g_assert_true(json_is_null(json_object_get(waits, "destination")) && json_is_null(json_object_get(waits, "outcome")));
  g_assert_true(json_is_null(json_object_get(waits, "elapsed_ms")) && json_is_null(json_object_get(waits, "started")));
  g_assert_cmpstr(nc_json_string_or(waits, "created", ""), ==, "1970-01-01T00:00:01.000Z");
  g_assert_cmpstr(nc_json_string_or(waits, "waits", ""), ==, "its turn");
  g_assert_true(json_is_null(json_object_get(runs, "phase")) && json_is_null(json_object_get(runs, "progress"))); /* only the leader knows */
  g_assert_cmpint(nc_json_int_or(runs, "elapsed_ms", 0), ==, 10000);
  g_assert_cmpstr(nc_json_string_or(done, "outcome", ""), ==, "completed");
  g_assert_cmpint(nc_json_int_or(done, "elapsed_ms", 0), ==, 2500);
  g_assert_cmpfloat(json_number_value(json_object_get(done, "pause_ms")), ==, 7.5);
  g_assert_true(json_is_null(json_object_get(done, "error")));
  g_assert_cmpstr(nc_json_string_or(refused, "outcome", ""), ==, "failed");
  g_assert_cmpstr(nc_json_string_or(error, "code", ""), ==, "unsuitable");
  g_assert_cmpstr(nc_json_string_or(error, "message", ""), ==, "its processor lacks x");
}

/* An evacuation that began 50 s ago, planned for 100 s; NULL: not known what is under way. */
static json_t *
group_sample(const char *counts, uint64_t pending, const char *parts, bool is_finished)
{
  nc_autojson json_t *record = json_pack("{s:s, s:b, s:i, s:{s:f}, s:o}", "state", is_finished ? "completed" : "running", "is_finished",
                                         is_finished, "created_us", 0, "detail", "planned_seconds", 100.0, "migrations", json_of(counts));
  nc_autojson json_t *known = parts ? json_of(parts) : NULL;
  const NcFleetGroup group = { .record = record, .pending = pending, .parts = known };
  return nc_fleet_group_sample(&group, 50 * SECOND);
}

static void
test_samples_of_a_group(void)
{
  const char *parts = "[{'migration': 'mig-1', 'machine': 'web1', 'source': 'host-a', 'destination': 'host-b', 'attempt': 1, 'live':"
                      " {'phase': 'memory_copy', 'percent': 50, 'waits': '', 'silence': '', 'sample': {'transfer_rate': 7, 'eta_ms': 900}}},"
                      " {'migration': 'mig-2', 'machine': 'web2', 'live': {'phase': '', 'percent': 0, 'sample': null}}]";
  nc_autojson json_t *half = group_sample("{'completed': 1, 'failed': 1, 'running': 2, 'queued': 0}", 1, parts, false);
  nc_autojson json_t *early = group_sample("{'completed': 0, 'running': 1, 'queued': 9}", 0, "[]", false);
  nc_autojson json_t *refused = group_sample("{'failed': 8, 'refused': 1, 'completed': 0, 'running': 1}", 0, "[]", false);
  nc_autojson json_t *elsewhere = group_sample("{'completed': 1, 'running': 1}", 0, NULL, false);
  nc_autojson json_t *over = group_sample("{'completed': 3}", 0, NULL, true), *nothing = group_sample("{}", 0, NULL, true);
  nc_autojson json_t *given_up = group_sample("{'completed': 1, 'cancelled': 1}", 2, NULL, true);
  json_t *running = json_object_get(half, "running"), *first = json_array_get(running, 0);

  g_assert_cmpfloat(json_number_value(json_object_get(half, "progress")), ==, 30); /* one moved and a half, of five */
  g_assert_cmpint(nc_json_int_or(half, "total", 0), ==, 5);
  g_assert_cmpint(nc_json_int_or(half, "done", 0), ==, 2);
  g_assert_cmpint(nc_json_int_or(half, "transfer_rate", 0), ==, 7);
  g_assert_cmpstr(nc_json_string_or(half, "eta_basis", ""), ==, "pace");
  g_assert_cmpint(nc_json_int_or(half, "eta_ms", 0), ==, 83333); /* two and a half to go; the one that failed is no pace */
  g_assert_cmpuint(json_array_size(running), ==, 2);
  g_assert_cmpstr(nc_json_string_or(first, "machine", ""), ==, "web1");
  g_assert_cmpint(nc_json_int_or(first, "eta_ms", 0), ==, 900);
  g_assert_null(json_object_get(first, "live"));
  g_assert_cmpstr(nc_json_string_or(json_array_get(running, 1), "phase", ""), ==, "prepare");
  g_assert_true(json_is_null(json_object_get(json_array_get(running, 1), "transfer_rate")));
  g_assert_cmpstr(nc_json_string_or(early, "eta_basis", ""), ==, "plan");
  g_assert_cmpint(nc_json_int_or(early, "eta_ms", 0), ==, 50000);
  g_assert_cmpfloat(json_number_value(json_object_get(refused, "progress")), ==, 0);
  g_assert_cmpint(nc_json_int_or(refused, "done", 0), ==, 9);
  g_assert_cmpstr(nc_json_string_or(refused, "eta_basis", ""), ==, "plan"); /* nothing has moved yet */
  g_assert_true(json_is_null(json_object_get(elsewhere, "progress")));
  g_assert_true(json_is_null(json_object_get(elsewhere, "transfer_rate")));
  g_assert_cmpint(nc_json_int_or(over, "transfer_rate", -1), ==, 0);
  g_assert_true(json_is_null(json_object_get(elsewhere, "eta_ms")));
  g_assert_cmpfloat(json_number_value(json_object_get(over, "progress")), ==, 100);
  g_assert_cmpstr(nc_json_string_or(over, "phase", ""), ==, "completed");
  g_assert_cmpfloat(json_number_value(json_object_get(nothing, "progress")), ==, 100);
  g_assert_cmpfloat(json_number_value(json_object_get(given_up, "progress")), ==, 25);
}

/* A batch has no state of its own: it is over when its migrations are. */
static void
test_samples_of_a_batch(void)
{
  nc_autojson json_t *open = json_of("{'created_us': 0, 'detail': {}, 'migrations': {'completed': 1, 'backoff': 1}}");
  nc_autojson json_t *over = json_of("{'created_us': 0, 'detail': {}, 'migrations': {'completed': 1, 'refused': 1}}");
  const NcFleetGroup runs = { .record = open }, ended = { .record = over };
  nc_autojson json_t *a = nc_fleet_group_sample(&runs, SECOND), *b = nc_fleet_group_sample(&ended, SECOND);

  g_assert_false(nc_fleet_group_has_ended(&runs));
  g_assert_true(nc_fleet_group_has_ended(&ended));
  g_assert_cmpstr(nc_json_string_or(a, "phase", ""), ==, "running");
  g_assert_cmpstr(nc_json_string_or(b, "phase", ""), ==, "completed");
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/fleet-messages/of-a-migration", test_messages_of_a_migration);
  g_test_add_func("/fleet-messages/ends-of-a-migration", test_ends_of_a_migration);
  g_test_add_func("/fleet-messages/of-many", test_messages_of_many);
  g_test_add_func("/fleet-messages/a-human-is-wanted-among-many", test_a_human_is_wanted_among_many);
  g_test_add_func("/fleet-messages/samples-of-a-migration", test_samples_of_a_migration);
  g_test_add_func("/agent/fleet_messages/status_of_a_migration", test_status_of_a_migration);
  g_test_add_func("/fleet-messages/samples-of-a-group", test_samples_of_a_group);
  g_test_add_func("/fleet-messages/samples-of-a-batch", test_samples_of_a_batch);
  return g_test_run();
}
