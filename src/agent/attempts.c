/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/attempts.h"
#include "agent/migration_views.h"
#include "agent/source_retry.h"
#include "base/ident.h"

#include <string.h>

#define NC_ATTEMPT_FORGOTTEN_TEXT                                                                                      \
  "this node has seen so many attempts since then that it does not know any more whether this one has begun, and "     \
  "does not begin it: look where the machine is, and ask for the migration anew"

/* ${reason} may be NULL. */
static json_t *
nc_attempt_answer(const char *name, const char *state, const char *reason, bool may_pass)
{
  return json_pack("{s:s, s:s, s:s?, s:b, s:n, s:n, s:n, s:b, s:n, s:n}", "name", name, "state", state, "reason", reason,
                   "may_pass", may_pass, "phase", "percent", "progress", "wants_endgame", 0, "run_epoch", "result");
}

json_t *
nc_attempt_result(json_t *said)
{
  static const char *const keys[] = {
    "total_ms", "pause_ms", "wire_bytes", "ram_bytes", "ratio", "sha256", "postcopy"
  };
  json_t *result = json_object();

  for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
    json_t *value = json_object_get(said, keys[i]);
    bool is_plain = json_is_number(value) || json_is_boolean(value) || json_is_null(value) ||
                    (json_is_string(value) && json_string_length(value) <= NC_ATTEMPT_RESULT_TEXT);
    json_object_set_new(result, keys[i], is_plain ? json_incref(value) : json_null());
  }
  return result;
}

/* As its migration's record has it. */
static json_t *
nc_attempt_answer_begun(const char *name, json_t *record)
{
  const char *outcome = nc_json_string_or(record, "outcome", NULL);
  json_t *problem = json_object_get(record, "error");
  int code = nc_error_code_from_name(nc_json_string_or(problem, "code", ""));
  bool has_failed = g_strcmp0(outcome, "failed") == 0;
  json_t *answer = nc_attempt_answer(name, outcome ? outcome : "running", nc_json_string_or(problem, "message", NULL),
                                     has_failed && nc_source_is_passing(code));

  json_object_set_new(answer, "phase", json_string(nc_json_string_or(record, "phase", "")));
  json_object_set_new(answer, "percent", json_incref(json_object_get(record, "progress")));
  if (g_strcmp0(outcome, "completed") == 0)
    json_object_set(answer, "run_epoch", json_object_get(record, "epoch"));
  if (outcome)
    json_object_set_new(answer, "result", nc_attempt_result(record));
  else
    json_object_set_new(answer, "progress", nc_migration_progress_view(record));
  return answer;
}

/* As its name is kept. */
static json_t *
nc_attempt_answer_marked(const char *name, NcAttemptMark mark, json_t *detail)
{
  int code = nc_error_code_from_name(nc_json_string_or(detail, "code", ""));

  switch (mark) {
  case NC_ATTEMPT_CANCELLED:
    return nc_attempt_answer(name, "cancelled", nc_json_string_or(detail, "reason", NULL), false);
  case NC_ATTEMPT_FAILED:
    return nc_attempt_answer(name, "failed", nc_json_string_or(detail, "message", NULL), nc_source_is_passing(code));
  case NC_ATTEMPT_FORGOTTEN:
    return nc_attempt_answer(name, "unknown", NC_ATTEMPT_FORGOTTEN_TEXT, false);
  case NC_ATTEMPT_BEGAN:
    return nc_attempt_answer(name, "unknown", "it began, and its record is not kept any more", false);
  case NC_ATTEMPT_UNKNOWN:
  case NC_ATTEMPT_COUNT:
    break;
  }
  return nc_attempt_answer(name, "unknown", NULL, false);
}

/* args.name; NULL: NC_ERROR_INVALID. */
static const char *
nc_attempt_name(json_t *args, GError **error)
{
  const char *name = nc_json_string_or(args, "name", NULL);

  if (nc_attempt_name_is_valid(name))
    return name;
  nc_fail(error, NC_ERROR_INVALID, "\"name\": " NC_ATTEMPT_NAME_RULE);
  return NULL;
}

/* How it stands; *ret_mark, if it is not a migration, says what is known of the name. NULL on error. */
static json_t *
nc_attempt_look(NcAttempts *a, const char *name, NcAttemptMark *ret_mark, GError **error)
{
  nc_autojson json_t *detail = NULL;
  g_autoptr(GError) problem = NULL;
  NcAttemptMark mark;

  /* The name first: one that begins in between has a record then. */
  if (!nc_journal_get_attempt(a->journal, name, &mark, &detail, error))
    return NULL;
  *ret_mark = mark;
  if (mark != NC_ATTEMPT_BEGAN && mark != NC_ATTEMPT_FORGOTTEN)
    return nc_attempt_answer_marked(name, mark, detail);
  nc_autojson json_t *record = nc_migrations_record(a->migrations, name, &problem);
  if (record && g_str_equal(nc_json_string_or(record, "role", ""), "source")) {
    *ret_mark = NC_ATTEMPT_BEGAN;
    return nc_attempt_answer_begun(name, record);
  }
  if (problem && !g_error_matches(problem, NC_ERROR, NC_ERROR_NOT_FOUND)) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return NULL;
  }
  return nc_attempt_answer_marked(name, mark, detail);
}

/* Whoever asks is a controller: of one that runs it hears whether its last round is near, and is heard. ${says}: as in agent/endgame.h. */
static json_t *
nc_attempt_look_heard(NcAttempts *a, const char *name, bool says, bool has_endgame, GError **error)
{
  NcAttemptMark mark;
  json_t *answer = nc_attempt_look(a, name, &mark, error);

  if (answer && g_str_equal(nc_json_string_or(answer, "state", ""), "running"))
    json_object_set_new(answer, "wants_endgame",
                        json_boolean(nc_migrations_hear_controller(a->migrations, name, says, has_endgame)));
  return answer;
}

json_t *
nc_attempts_ask(NcAttempts *a, json_t *args, GError **error)
{
  const char *name = nc_attempt_name(args, error);

  return name ? nc_attempt_look_heard(a, name, false, false, error) : NULL;
}

json_t *
nc_attempts_begin(NcAttempts *a, json_t *args, GError **error)
{
  const char *name = nc_attempt_name(args, error);
  g_autoptr(GError) problem = NULL;
  NcAttemptMark mark;

  if (!name)
    return NULL;
  nc_autojson json_t *present = nc_attempt_look(a, name, &mark, error);
  if (!present)
    return NULL;
  if (mark == NC_ATTEMPT_FORGOTTEN) /* the controller has to hear an end */
    return nc_attempt_answer(name, "failed", NC_ATTEMPT_FORGOTTEN_TEXT, false);
  if (mark != NC_ATTEMPT_UNKNOWN)
    return g_steal_pointer(&present);
  nc_autojson json_t *made = nc_migrations_create_attempt(a->migrations, name, args, &problem);
  if (!made) { /* or somebody else was faster: then this changes nothing */
    nc_autojson json_t *detail = nc_error_to_json(problem);
    if (!nc_journal_bar_attempt(a->journal, name, NC_ATTEMPT_FAILED, detail, &mark, error))
      return NULL;
  }
  return nc_attempt_look(a, name, &mark, error);
}

/* One that has begun. That it can't be cancelled any more, the answer tells by its state. */
static bool
nc_attempt_cancel_begun(NcAttempts *a, const char *name, GError **error)
{
  nc_autojson json_t *which = json_pack("{s:s}", "id", name);
  g_autoptr(GError) problem = NULL;
  nc_autojson json_t *told = nc_migrations_cancel(a->migrations, which, &problem);

  if (told || g_error_matches(problem, NC_ERROR, NC_ERROR_CONFLICT) ||
      g_error_matches(problem, NC_ERROR, NC_ERROR_NOT_FOUND))
    return true;
  g_propagate_error(error, g_steal_pointer(&problem));
  return false;
}

json_t *
nc_attempts_cancel(NcAttempts *a, json_t *args, GError **error)
{
  const char *name = nc_attempt_name(args, error);
  const char *reason = nc_json_string_or(args, "reason", "");
  nc_autojson json_t *detail = NULL;
  NcAttemptMark mark;

  if (!name)
    return NULL;
  if (!reason[0] || strlen(reason) > NC_ATTEMPT_REASON_BYTES) {
    nc_fail(error, NC_ERROR_INVALID, "\"reason\" must be a text of 1 to %d bytes", NC_ATTEMPT_REASON_BYTES);
    return NULL;
  }
  detail = json_pack("{s:s}", "reason", reason);
  if (!nc_journal_bar_attempt(a->journal, name, NC_ATTEMPT_CANCELLED, detail, &mark, error))
    return NULL;
  if (mark == NC_ATTEMPT_BEGAN && !nc_attempt_cancel_begun(a, name, error))
    return NULL;
  nc_autojson json_t *answer = nc_attempt_look(a, name, &mark, error);
  if (answer && mark == NC_ATTEMPT_FORGOTTEN) /* not begun, and it will not */
    return nc_attempt_answer(name, "cancelled", NC_ATTEMPT_FORGOTTEN_TEXT, false);
  return g_steal_pointer(&answer);
}

json_t *
nc_attempts_limit(NcAttempts *a, json_t *args, GError **error)
{
  const char *name = nc_attempt_name(args, error);
  g_autoptr(GError) problem = NULL;
  NcAttemptMark mark;
  int64_t rate_bps;

  if (!name || !nc_json_int(args, "rate_bps", 0, (int64_t)NC_ATTEMPT_MOST_RATE, &rate_bps, error))
    return NULL;
  json_t *endgame = json_object_get(args, "has_endgame");
  nc_autojson json_t *answer = nc_attempt_look_heard(a, name, json_is_boolean(endgame), json_is_true(endgame), error);
  if (!answer || !g_str_equal(nc_json_string_or(answer, "state", ""), "running"))
    return g_steal_pointer(&answer);
  if (!nc_migrations_allot(a->migrations, name, rate_bps, &problem)) /* it has ended meanwhile, most likely */
    return nc_attempt_look(a, name, &mark, error);
  return g_steal_pointer(&answer);
}
