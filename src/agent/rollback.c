/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rollback.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/log.h"

#define NC_ROLLBACK_PAUSE_US 1000000 /* between two tries of a step */
#define NC_ROLLBACK_TICK_US 50000

struct NcRollback {
  NcJournal *journal; /* borrowed */
  json_t *record;
  bool strict;
  bool told; /* in the log: how it ended, and that it could not be recorded */
};

static const char *const nc_rollback_names[NC_RB_STEP_COUNT] = {
  [NC_RB_STOP_TRANSFER] = "stop-transfer",   [NC_RB_FENCE] = "fence-destination",
  [NC_RB_VERIFY_BASE] = "verify-base",       [NC_RB_DISKS] = "restore-disks",
  [NC_RB_MEMORY] = "restore-memory",         [NC_RB_DEVICES] = "restore-devices-and-network",
  [NC_RB_RESUME] = "resume-and-verify-alive", [NC_RB_CLEAN_UP] = "clean-up",
};

static const char *const nc_rollback_modes[NC_RB_MODE_COUNT] = {
  [NC_RB_TO_SOURCE] = "source",
  [NC_RB_TO_BACK] = "back",
  [NC_RB_TO_CHECKPOINT] = "checkpoint",
};

const char *
nc_rollback_step_name(NcRollbackStep step)
{
  return step < NC_RB_STEP_COUNT ? nc_rollback_names[step] : "?";
}

const char *
nc_rollback_mode_name(NcRollbackMode mode)
{
  return mode < NC_RB_MODE_COUNT ? nc_rollback_modes[mode] : "?";
}

NcRollbackMode
nc_rollback_mode_from_name(const char *name)
{
  for (int i = 0; name && i < NC_RB_MODE_COUNT; i++)
    if (g_str_equal(nc_rollback_modes[i], name))
      return (NcRollbackMode)i;
  return NC_RB_MODE_COUNT;
}

/* --- the record --- */

/* ${kind} with ${detail} (taken) for the transaction log, in the same transaction. */
static bool
nc_rollback_write(NcRollback *r, const char *kind, json_t *detail, bool durable, GError **error)
{
  nc_autojson json_t *owned = detail;
  const NcRollbackRow row = { .id = nc_rollback_id(r),
                              .migration = nc_rollback_string(r, "migration", ""),
                              .finished = nc_rollback_is_finished(r),
                              .record = r->record };
  const NcAuditEntry entry = { .kind = kind, .subject = row.migration, .vm = nc_rollback_string(r, "vm", ""), .detail = owned };
  g_autoptr(GError) problem = NULL;

  if (owned)
    json_object_set_new(owned, "rollback", json_string(row.id));
  if (nc_journal_put_rollback(r->journal, &row, owned ? &entry : NULL, durable, &problem))
    return true;
  if (!r->strict) {
    nc_log(NC_LOG_ERR, "agent", "rollback %s: it can't be recorded, and goes on: %s", row.id, problem->message);
    return true;
  }
  g_propagate_prefixed_error(error, g_steal_pointer(&problem), "rollback %s can't be recorded: ", row.id);
  return false;
}

static json_t *
nc_rollback_new_steps(void)
{
  json_t *steps = json_array();
  for (int i = 0; i < NC_RB_STEP_COUNT; i++)
    json_array_append_new(steps, json_pack("{s:i, s:s, s:s, s:i, s:n, s:n, s:s}", "step", i + 1, "name", nc_rollback_names[i], "state",
                                           "pending", "tries", 0, "begun", "ended", "detail", ""));
  return steps;
}

NcRollback *
nc_rollback_new(NcJournal *journal, const NcRollbackOrder *order, bool strict, GError **error)
{
  g_autoptr(NcRollback) r = g_new0(NcRollback, 1);
  g_autofree char *id = nc_id_new("r");
  g_autofree char *now = nc_time_format(nc_wall_us());

  r->journal = journal;
  r->strict = strict;
  r->record = json_pack("{s:s, s:s, s:s, s:I, s:s, s:s?, s:b, s:o?, s:s, s:o, s:s, s:n, s:n, s:n}", "id", id, "migration",
                        order->migration, "vm", order->vm, "attempt", (json_int_t)order->attempt, "mode",
                        nc_rollback_mode_name(order->mode), "checkpoint", order->checkpoint, "cancelled", order->cancelled, "cause",
                        order->cause ? nc_error_to_json(order->cause) : NULL, "state", "running", "steps", nc_rollback_new_steps(),
                        "created", now, "finished", "attention", "error");
  if (order->node_key)
    json_object_set_new(r->record, order->node_key, json_string(order->node));
  json_t *detail = json_pack("{s:s, s:I, s:s?, s:O}", "mode", nc_rollback_mode_name(order->mode), "attempt", (json_int_t)order->attempt,
                             "checkpoint", order->checkpoint, "cause", json_object_get(r->record, "cause"));
  nc_log(NC_LOG_NOTICE, "agent", "rollback %s of migration %s begins (%s)%s%s", id, order->migration, nc_rollback_mode_name(order->mode),
         order->cause ? ": " : "", order->cause ? order->cause->message : "");
  return nc_rollback_write(r, "rollback.begun", detail, strict, error) ? g_steal_pointer(&r) : NULL;
}

static bool
nc_rollback_has_steps(json_t *record)
{
  json_t *steps = json_object_get(record, "steps"), *step;
  bool all = json_array_size(steps) == NC_RB_STEP_COUNT;
  size_t i;

  json_array_foreach(steps, i, step) all = all && json_is_object(step);
  return all;
}

NcRollback *
nc_rollback_resume(NcJournal *journal, json_t *record, bool strict)
{
  NcRollback *r = g_new0(NcRollback, 1);
  r->journal = journal;
  r->strict = strict;
  r->record = json_deep_copy(record);
  if (!nc_rollback_has_steps(r->record))
    json_object_set_new(r->record, "steps", nc_rollback_new_steps()); /* of another version: all of them may be done again */
  return r;
}

NcRollback *
nc_rollback_find(NcJournal *journal, const char *migration, int64_t attempt)
{
  nc_autojson json_t *list = nc_journal_list_rollbacks(journal, migration, false, NULL);
  json_t *record, *found = NULL;
  size_t i;

  json_array_foreach(list, i, record)
    if (nc_json_int_or(record, "attempt", 0) == attempt)
      found = record;
  return found ? nc_rollback_resume(journal, found, false) : NULL;
}

void
nc_rollback_free(NcRollback *r)
{
  if (!r)
    return;
  json_decref(r->record);
  g_free(r);
}

const char *
nc_rollback_id(NcRollback *r)
{
  return nc_rollback_string(r, "id", "?");
}

GError *
nc_rollback_cause(NcRollback *r)
{
  json_t *cause = json_object_get(r->record, "cause");
  GError *error = NULL;
  if (json_is_object(cause))
    nc_error_set_json(&error, cause);
  return error;
}

bool
nc_rollback_is_finished(NcRollback *r)
{
  return !g_str_equal(nc_rollback_string(r, "state", ""), "running");
}

static json_t *
nc_rollback_at(NcRollback *r, NcRollbackStep step)
{
  return json_array_get(json_object_get(r->record, "steps"), step);
}

bool
nc_rollback_is_done(NcRollback *r, NcRollbackStep step)
{
  const char *state = nc_json_string_or(nc_rollback_at(r, step), "state", "");
  return g_str_equal(state, "done") || g_str_equal(state, "nothing-to-do");
}

void
nc_rollback_set(NcRollback *r, const char *key, json_t *value)
{
  json_object_set_new(r->record, key, value);
}

int64_t
nc_rollback_number(NcRollback *r, const char *key, int64_t fallback)
{
  return nc_json_int_or(r->record, key, fallback);
}

const char *
nc_rollback_string(NcRollback *r, const char *key, const char *fallback)
{
  return nc_json_string_or(r->record, key, fallback);
}

json_t *
nc_rollback_snapshot(NcRollback *r)
{
  return json_deep_copy(r->record);
}

bool
nc_rollback_save(NcRollback *r, GError **error)
{
  return nc_rollback_write(r, NULL, NULL, r->strict, error);
}

/* --- steps --- */

static bool
nc_rollback_record_step(NcRollback *r, NcRollbackStep step, const char *state, const char *detail, GError **error)
{
  json_t *entry = nc_rollback_at(r, step);
  g_autofree char *now = nc_time_format(nc_wall_us());
  bool begins = g_str_equal(state, "begun");

  json_object_set_new(entry, "state", json_string(state));
  json_object_set_new(entry, "detail", json_string(detail));
  json_object_set_new(entry, begins ? "begun" : "ended", json_string(now));
  if (begins)
    json_object_set_new(entry, "tries", json_integer((json_int_t)nc_json_int_or(entry, "tries", 0) + 1));
  nc_log(NC_LOG_INFO, "agent", "rollback %s: step %d, %s: %s%s%s", nc_rollback_id(r), step + 1, nc_rollback_names[step], state,
         detail[0] ? ": " : "", detail);
  return nc_rollback_write(r, "rollback.step",
                           json_pack("{s:i, s:s, s:s, s:I, s:s}", "step", step + 1, "name", nc_rollback_names[step], "state", state, "try",
                                     (json_int_t)nc_json_int_or(entry, "tries", 0), "detail", detail),
                           r->strict, error);
}

static void
nc_rollback_fault(NcRollbackStep step, const char *when)
{
  g_autofree char *point = g_strdup_printf("rollback-%d-%s", step + 1, when);
  nc_fault_point(point);
}

static bool
nc_rollback_try(NcRollback *r, NcRollbackStep step, NcRollbackFunc func, gpointer data, GError **error)
{
  NcRollbackResult result = { .nothing = false };
  g_autoptr(GError) problem = NULL;

  if (!nc_rollback_record_step(r, step, "begun", "", error))
    return false;
  nc_rollback_fault(step, "before");
  bool done = func(data, &result, &problem);
  g_autofree char *detail = result.detail;
  if (!done) {
    nc_rollback_record_step(r, step, "failed", problem->message, NULL);
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
  }
  nc_rollback_fault(step, "after");
  return nc_rollback_record_step(r, step, result.nothing ? "nothing-to-do" : "done", detail ? detail : "", error);
}

static bool
nc_rollback_sleep(gint *quitting)
{
  int64_t until_us = nc_mono_us() + NC_ROLLBACK_PAUSE_US;
  while (nc_mono_us() < until_us && !(quitting && g_atomic_int_get(quitting)))
    g_usleep(NC_ROLLBACK_TICK_US);
  return !(quitting && g_atomic_int_get(quitting));
}

bool
nc_rollback_step(NcRollback *r, NcRollbackStep step, NcRollbackFunc func, gpointer data, int tries, gint *quitting, GError **error)
{
  if (nc_rollback_is_done(r, step))
    return true;
  for (int i = 1;; i++) {
    g_autoptr(GError) problem = NULL;
    if (nc_rollback_try(r, step, func, data, &problem))
      return true;
    if (i >= tries || problem->code == NC_ERROR_CANCELLED || !nc_rollback_sleep(quitting)) {
      g_propagate_error(error, g_steal_pointer(&problem));
      return false;
    }
  }
}

/* --- the end --- */

/* False: it could not be written, and is still open on disk. */
static bool
nc_rollback_end(NcRollback *r, const char *state, const GError *problem, const char *text)
{
  g_autofree char *now = nc_time_format(nc_wall_us());
  g_autoptr(GError) error = NULL;

  nc_rollback_set(r, "state", json_string(state));
  nc_rollback_set(r, "finished", json_string(now));
  nc_rollback_set(r, "error", problem ? nc_error_to_json(problem) : json_null());
  nc_rollback_set(r, "attention", text ? json_string(text) : json_null());
  if (!r->told)
    nc_log(text ? NC_LOG_ERR : NC_LOG_NOTICE, "agent", "rollback %s of migration %s: %s%s%s", nc_rollback_id(r),
           nc_rollback_string(r, "migration", "?"), state, text ? ": " : "", text ? text : "");
  if (nc_rollback_write(r, "rollback.ended",
                        json_pack("{s:s, s:s?, s:o?}", "state", state, "text", text, "error", problem ? nc_error_to_json(problem) : NULL), true,
                        &error))
    return true;
  if (!r->told)
    nc_log(NC_LOG_ERR, "agent", "%s", error->message);
  r->told = true; /* a disk that is full must not be told of by its log, again and again */
  return false;
}

void
nc_rollback_complete(NcRollback *r)
{
  nc_rollback_end(r, "completed", NULL, NULL);
}

static NcRollbackStep
nc_rollback_stands_at(NcRollback *r)
{
  NcRollbackStep step = NC_RB_STOP_TRANSFER;
  while (step < NC_RB_CLEAN_UP && nc_rollback_is_done(r, step))
    step++;
  return step;
}

bool
nc_rollback_give_up(NcRollback *r, const GError *error, const char *choice)
{
  NcRollbackStep step = nc_rollback_stands_at(r);
  g_autofree char *text = g_strdup_printf("the rollback stands at step %d (%s), tried %d times: %s. %s", step + 1, nc_rollback_names[step],
                                          (int)nc_json_int_or(nc_rollback_at(r, step), "tries", 0), error->message, choice);
  return nc_rollback_end(r, "needs_attention", error, text);
}

void
nc_rollback_withdraw(NcRollback *r, const char *why)
{
  g_autoptr(GError) reason = g_error_new_literal(NC_ERROR, NC_ERROR_CONFLICT, why);
  nc_rollback_end(r, "withdrawn", reason, NULL);
}
