/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fleet_messages.h"
#include "agent/alert_rules.h"
#include "agent/migration_views.h"
#include "base/ident.h"
#include "base/msg.h"

#include <string.h>

/* Of a group's machines, in percent, so many have to have moved before its pace says anything. */
#define NC_PACE_LEAST_PERCENT 10.0

static const char *const nc_ends[] = { "completed", "failed", "cancelled", NULL };

/* --- events, in words --- */

/* "STATE, attempt N: REASON", as far as they are known. Caller frees. */
static char *
nc_say_state(json_t *facts)
{
  int64_t attempt = nc_json_int_or(facts, "attempt", 0);
  const char *reason = nc_json_string_or(facts, "reason", "");
  g_autofree char *which = attempt > 0 ? g_strdup_printf(", attempt %" G_GINT64_FORMAT, attempt) : g_strdup("");

  return g_strdup_printf("%s%s%s%s", nc_json_string_or(facts, "state", "?"), which, reason[0] ? ": " : "", reason);
}

static bool
nc_wants_a_human(json_t *event)
{
  return g_str_equal(nc_json_string_or(event, "kind", ""), "migration.phase") &&
         g_str_equal(nc_json_string_or(json_object_get(event, "detail"), "phase", ""), "needs_attention");
}

/* Where its record is: an attempt is a migration of its source. Events of older controllers do not say which node that is. */
static char *
nc_say_attention(json_t *event, const char *source)
{
  json_t *facts = json_object_get(event, "detail");
  const char *node = nc_json_string_or(facts, "node", source);

  return g_strdup_printf("a human has to decide: novacron status %s.%" G_GINT64_FORMAT " on %s%s says what",
                         nc_json_string_or(event, "migration", "?"), nc_json_int_or(facts, "attempt", 0), node ? "node " : "its source",
                         node ? node : "");
}

/* What ${event} tells, for people. Caller frees. */
static char *
nc_say_event(json_t *event)
{
  const char *kind = nc_json_string_or(event, "kind", "");
  json_t *facts = json_object_get(event, "detail");
  const char *node = nc_json_string_or(facts, "node", "?");

  if (g_str_has_suffix(kind, ".state"))
    return nc_say_state(facts);
  if (nc_wants_a_human(event))
    return nc_say_attention(event, NULL);
  if (g_str_equal(kind, "migration.phase"))
    return g_strdup_printf("%s, %.0f %%", nc_json_string_or(facts, "phase", "?"),
                           json_number_value(json_object_get(facts, "percent")));
  if (g_str_equal(kind, "migration.silent"))
    return g_strdup_printf("node %s, its %s, says nothing: it stays as it is until that node says how it stands", node,
                           nc_json_string_or(facts, "side", "?"));
  if (g_str_equal(kind, "migration.lost"))
    return g_strdup_printf("node %s does not know attempt %" G_GINT64_FORMAT " any more, which it had begun", node,
                           nc_json_int_or(facts, "attempt", 0));
  if (g_str_equal(kind, "node.silent"))
    return g_strdup_printf("has said nothing for %" G_GINT64_FORMAT " s", nc_json_int_or(facts, "seconds", 0));
  return g_strdup(nc_json_string_or(facts, "reason", ""));
}

static const char *
nc_event_type(json_t *event)
{
  static const char *const warnings[] = { "migration.silent", "migration.lost", "node.silent", NULL };
  static const char *const troubles[] = { "backoff", "failed", "refused", NULL };
  const char *kind = nc_json_string_or(event, "kind", "");
  const char *state = nc_json_string_or(json_object_get(event, "detail"), "state", "");

  if (nc_wants_a_human(event))
    return "alert";
  return g_strv_contains(warnings, kind) || (g_str_has_suffix(kind, ".state") && g_strv_contains(troubles, state)) ? "warning" : "event";
}

/* ${data}: taken. */
static json_t *
nc_message(json_t *event, const char *type, json_t *data)
{
  g_autofree char *at = nc_time_format(nc_json_int_or(event, "at_us", 0));

  if (g_str_equal(type, "alert")) {
    json_object_set_new(data, "alert", json_string(nc_alert_rule(NC_ALERT_NEEDS_ATTENTION)->name));
    json_object_set_new(data, "state", json_string("firing"));
    json_object_set_new(data, "severity", json_string("critical"));
  }
  return json_pack("{s:I, s:s, s:s, s:o}", "id", (json_int_t)nc_json_int_or(event, "id", 0), "type", type, "at", at, "data", data);
}

/* Why something ended as it did; controllers keep only the words. New reference. */
static json_t *
nc_end_error(const char *code, const char *reason)
{
  return json_pack("{s:s, s:s}", "code", code, "message", reason[0] ? reason : code);
}

/* --- one migration --- */

static json_t *
nc_move_end(json_t *record, json_t *facts, const char *outcome)
{
  static const char *const costs[] = { "pause_ms", "total_ms", "wire_bytes", "ram_bytes" };
  const char *state = nc_json_string_or(facts, "state", "");
  json_t *result = json_object_get(record, "result"), *data = json_pack("{s:s}", "outcome", outcome);
  bool completed = g_str_equal(state, "completed");
  const char *code = g_str_equal(state, "refused") ? "unsuitable" : outcome;

  json_object_set_new(data, "progress", completed ? json_integer(100) : json_null());
  json_object_set_new(data, "attempt", json_integer(nc_json_int_or(facts, "attempt", 0)));
  for (size_t i = 0; i < G_N_ELEMENTS(costs); i++) {
    json_t *value = json_object_get(result, costs[i]);
    json_object_set_new(data, costs[i], value ? json_incref(value) : json_null());
  }
  json_object_set_new(data, "error", completed ? json_null() : nc_end_error(code, nc_json_string_or(facts, "reason", "")));
  return data;
}

static json_t *
nc_move_state_message(json_t *event, json_t *record)
{
  json_t *facts = json_object_get(event, "detail");
  const char *state = nc_json_string_or(facts, "state", "?");
  const char *outcome = g_str_equal(state, "refused") ? "failed" : state;
  g_autofree char *words = nc_say_state(facts);

  if (g_strv_contains(nc_ends, outcome))
    return nc_message(event, outcome, nc_move_end(record, facts, outcome));
  if (g_str_equal(state, "queued"))
    return nc_message(event, "phase", json_pack("{s:s, s:s, s:s}", "phase", state, "event", state, "detail", ""));
  return nc_message(event, nc_event_type(event), json_pack("{s:s, s:s}", "event", state, "detail", words));
}

json_t *
nc_fleet_move_message(json_t *event, json_t *record)
{
  const char *kind = nc_json_string_or(event, "kind", ""), *type = nc_event_type(event);
  json_t *facts = json_object_get(event, "detail");
  const char *what = g_str_has_prefix(kind, "migration.") ? kind + strlen("migration.") : kind;

  if (g_str_equal(kind, "migration.state"))
    return nc_move_state_message(event, record);
  if (g_str_equal(kind, "migration.phase") && !nc_wants_a_human(event)) {
    g_autofree char *which = g_strdup_printf("attempt %" G_GINT64_FORMAT, nc_json_int_or(facts, "attempt", 0));
    return nc_message(event, "phase",
                      json_pack("{s:s, s:s, s:s}", "phase", nc_json_string_or(facts, "phase", "?"), "event", what, "detail", which));
  }
  g_autofree char *words =
      nc_wants_a_human(event) ? nc_say_attention(event, nc_json_string_or(record, "source", NULL)) : nc_say_event(event);
  return nc_message(event, type,
                    json_pack("{s:s, s:s}", "event", nc_wants_a_human(event) ? "needs_attention" : what, "detail", words));
}

/* In the words of a node's phases. NULL: under way, and nobody here knows where. */
static const char *
nc_move_phase(json_t *record)
{
  const char *state = nc_json_string_or(record, "state", ""), *phase;
  json_t *live = json_object_get(record, "live");

  if (g_str_equal(state, "queued") || g_str_equal(state, "backoff"))
    return "queued";
  if (nc_json_bool_or(record, "is_finished", false))
    return g_str_equal(state, "refused") ? "failed" : state;
  phase = nc_json_string_or(live, "phase", NULL);
  return phase && !phase[0] ? "prepare" : phase; /* its agent has not said yet: it has been told to begin */
}

/* What an agent told; null: it did not. New reference. */
static json_t *
nc_told(json_t *told, const char *key)
{
  json_t *value = json_object_get(told, key);
  return value ? json_incref(value) : json_null();
}

/* Members of a sample that an agent told, and eta in words. */
static void
nc_sample_take(json_t *sample, json_t *told)
{
  static const char *const keys[] = { "transfer_rate", "eta_ms", "ram_remaining_bytes", "wire_bytes", "rounds" };
  json_t *eta = json_object_get(told, "eta_ms");
  g_autofree char *text = json_is_integer(eta) ? nc_duration_text(json_integer_value(eta)) : NULL;

  for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
    json_object_set_new(sample, keys[i], nc_told(told, keys[i]));
  json_object_set_new(sample, "eta", text ? json_string(text) : json_null());
}

json_t *
nc_fleet_move_sample(json_t *record)
{
  const char *phase = nc_move_phase(record);
  json_t *live = json_object_get(record, "live"), *percent = json_object_get(live, "percent");

  if (!phase)
    return NULL;
  bool is_under_way = live && !g_str_equal(phase, "queued");
  bool is_done = g_str_equal(phase, "completed");
  json_t *sample = json_pack("{s:s, s:I}", "phase", phase, "attempt", (json_int_t)nc_json_int_or(record, "attempts", 0));
  nc_sample_take(sample, is_under_way ? json_object_get(live, "sample") : NULL);
  if (!is_under_way)
    json_object_set_new(sample, "transfer_rate", json_integer(0));
  json_object_set_new(sample, "progress", is_done ? json_integer(100) : is_under_way && percent ? json_incref(percent) : json_null());
  json_object_set_new(sample, "waits", json_string(nc_json_string_or(live, "waits", "")));
  return sample;
}

/* Microseconds of the wall clock, 0: not yet. */
static json_t *
nc_move_time(json_t *record, const char *key)
{
  int64_t at_us = nc_json_int_or(record, key, 0);
  g_autofree char *text = at_us > 0 ? nc_time_format(at_us) : NULL;

  return text ? json_string(text) : json_null();
}

static json_t *
nc_move_elapsed_ms(json_t *record, int64_t now_us)
{
  int64_t started_us = nc_json_int_or(record, "started_us", 0), finished_us = nc_json_int_or(record, "finished_us", 0);

  return started_us > 0 ? json_integer(MAX((finished_us > 0 ? finished_us : now_us) - started_us, 0) / 1000) : json_null();
}

/* What of it does not change as it proceeds. */
static json_t *
nc_move_facts(json_t *record)
{
  const char *state = nc_json_string_or(record, "state", ""), *destination = nc_json_string_or(record, "destination", "");
  bool is_finished = nc_json_bool_or(record, "is_finished", false), failed = !g_str_equal(state, "completed") && !g_str_equal(state, "cancelled");
  json_t *pause = json_object_get(json_object_get(record, "result"), "pause_ms");

  return json_pack("{s:s, s:s, s:s, s:s?, s:s, s:b, s:s?, s:o, s:o, s:o, s:o, s:o}", "id", nc_json_string_or(record, "id", ""), "vm",
                   nc_json_string_or(record, "machine", ""), "source", nc_json_string_or(record, "source", ""), "destination",
                   destination[0] ? destination : NULL, "state", state, "is_finished", is_finished, "outcome",
                   !is_finished ? NULL : failed ? "failed" : state, "pause_ms", pause ? json_incref(pause) : json_null(), "created",
                   nc_move_time(record, "submitted_us"), "started", nc_move_time(record, "started_us"), "finished",
                   nc_move_time(record, "finished_us"), "error",
                   is_finished && failed ? nc_end_error(g_str_equal(state, "refused") ? "unsuitable" : "failed", nc_json_string_or(record, "reason", "")) : json_null());
}

json_t *
nc_fleet_move_status(json_t *record, int64_t now_us)
{
  json_t *status = nc_move_facts(record);
  nc_autojson json_t *sample = nc_fleet_move_sample(record);

  if (!sample) { /* where it is, only the leader knows */
    sample = json_pack("{s:n, s:n, s:I}", "phase", "progress", "attempt", (json_int_t)nc_json_int_or(record, "attempts", 0));
    nc_sample_take(sample, NULL);
  }
  json_object_update(status, sample);
  json_object_set_new(status, "elapsed_ms", nc_move_elapsed_ms(record, now_us));
  return status;
}

/* --- many --- */

static json_t *
nc_group_state_message(json_t *event, const char *state)
{
  json_t *facts = json_object_get(event, "detail");
  const char *reason = nc_json_string_or(facts, "reason", "");

  if (g_strv_contains(nc_ends, state)) {
    bool completed = g_str_equal(state, "completed");
    return nc_message(event, state,
                      json_pack("{s:s, s:o}", "outcome", state, "error", completed ? json_null() : nc_end_error(state, reason)));
  }
  return nc_message(event, "phase", json_pack("{s:s, s:s, s:s}", "phase", state, "event", "evacuation.state", "detail", reason));
}

json_t *
nc_fleet_message(json_t *event, const char *group)
{
  const char *kind = nc_json_string_or(event, "kind", ""), *subject = nc_json_string_or(event, "subject", "");
  json_t *facts = json_object_get(event, "detail");
  g_autofree char *words = nc_say_event(event);

  if (g_strcmp0(subject, group) == 0 && g_str_equal(kind, "evacuation.state"))
    return nc_group_state_message(event, nc_json_string_or(facts, "state", "?"));
  return nc_message(event, nc_event_type(event),
                    json_pack("{s:s, s:s, s:s, s:s, s:o}", "event", kind, "detail", words, "subject", subject, "migration",
                              nc_json_string_or(event, "migration", ""), "facts", facts ? json_incref(facts) : json_object()));
}

static uint64_t
nc_group_count(const NcFleetGroup *group, const char *const *states)
{
  json_t *counts = json_object_get(group->record, "migrations");
  uint64_t sum = 0;

  for (; *states; states++)
    sum += (uint64_t)MAX(nc_json_int_or(counts, *states, 0), 0);
  return sum;
}

static const char *const nc_states_moved[] = { "completed", NULL };
static const char *const nc_states_over[] = { "completed", "failed", "refused", "cancelled", NULL };
static const char *const nc_states_open[] = { "queued", "backoff", "starting", "running", NULL };

bool
nc_fleet_group_has_ended(const NcFleetGroup *group)
{
  json_t *is_finished = json_object_get(group->record, "is_finished"); /* of an evacuation; a batch is what its migrations are */
  return is_finished ? json_is_true(is_finished) : nc_group_count(group, nc_states_open) == 0;
}

static const char *
nc_group_phase(const NcFleetGroup *group)
{
  return nc_json_string_or(group->record, "state", nc_fleet_group_has_ended(group) ? "completed" : "running");
}

/* One that is under way; adds to the sums. */
static json_t *
nc_group_part(json_t *part, double *percent, int64_t *rate)
{
  json_t *live = json_object_get(part, "live"), *told = json_object_get(live, "sample");
  const char *phase = nc_json_string_or(live, "phase", "");
  double own = json_number_value(json_object_get(live, "percent"));
  json_t *view = json_copy(part);

  *percent += own;
  *rate += nc_json_int_or(told, "transfer_rate", 0);
  json_object_del(view, "live");
  json_object_set_new(view, "phase", json_string(phase[0] ? phase : "prepare"));
  json_object_set_new(view, "progress", json_real(own));
  json_object_set_new(view, "transfer_rate", nc_told(told, "transfer_rate"));
  json_object_set_new(view, "eta_ms", nc_told(told, "eta_ms"));
  json_object_set_new(view, "silence", json_string(nc_json_string_or(live, "silence", "")));
  return view;
}

/*
 * How long it will take, in milliseconds; -1: not known. At the pace at which machines moved until now, or, while few have,
 * what is left of the time that was planned. ${moved}, ${left}: machines; what ended otherwise took no such time, and takes none.
 */
static int64_t
nc_group_eta(const NcFleetGroup *group, double moved, double left, int64_t now_us, const char **ret_basis)
{
  int64_t elapsed_ms = (now_us - nc_json_int_or(group->record, "created_us", now_us)) / 1000;
  double planned_s = json_number_value(json_object_get(json_object_get(group->record, "detail"), "planned_seconds"));

  *ret_basis = NULL;
  if (100 * moved >= NC_PACE_LEAST_PERCENT * (moved + left) && moved > 0 && elapsed_ms > 0) {
    *ret_basis = "pace";
    return (int64_t)((double)elapsed_ms * left / moved);
  }
  if (planned_s <= 0 || (double)elapsed_ms >= planned_s * 1000)
    return -1;
  *ret_basis = "plan";
  return (int64_t)(planned_s * 1000) - elapsed_ms;
}

json_t *
nc_fleet_group_sample(const NcFleetGroup *group, int64_t now_us)
{
  uint64_t done = nc_group_count(group, nc_states_over), open = nc_group_count(group, nc_states_open) + group->pending;
  bool has_ended = nc_fleet_group_has_ended(group);
  json_t *running = json_array(), *part;
  const char *basis = NULL;
  double parts = 0;
  int64_t rate = 0, eta_ms = -1;
  size_t i;

  json_array_foreach(group->parts, i, part) json_array_append_new(running, nc_group_part(part, &parts, &rate));
  double moved = (double)nc_group_count(group, nc_states_moved) + parts / 100;
  double progress = done + open > 0 ? MIN(100 * moved / (double)(done + open), 100) : has_ended ? 100 : 0;
  if (!has_ended && group->parts)
    eta_ms = nc_group_eta(group, moved, MAX((double)open - parts / 100, 0), now_us, &basis);
  bool is_known = group->parts || has_ended;
  g_autofree char *eta = eta_ms >= 0 ? nc_duration_text(eta_ms) : NULL;
  return json_pack("{s:s, s:o, s:o, s:s?, s:o, s:s?, s:I, s:I, s:O?, s:o}", "phase", nc_group_phase(group), "progress",
                   is_known ? json_real(progress) : json_null(), "transfer_rate", is_known ? json_integer(rate) : json_null(), "eta", eta,
                   "eta_ms", eta_ms >= 0 ? json_integer(eta_ms) : json_null(), "eta_basis", basis, "total", (json_int_t)(done + open), "done",
                   (json_int_t)done, "counts", json_object_get(group->record, "migrations"), "running", running);
}
