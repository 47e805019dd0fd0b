/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source_retry.h"
#include "base/ident.h"

#define NC_RETRY_MOST_MS 60000
#define NC_RETRY_TICK_MS 100

bool
nc_source_is_passing(int code)
{
  switch (code) {
  case NC_ERROR_INTERNAL: /* a process of ours was killed, or restarted */
  case NC_ERROR_RESOURCE:
  case NC_ERROR_UNREACHABLE:
  case NC_ERROR_TIMEOUT:
  case NC_ERROR_QEMU: /* the destination's died */
  case NC_ERROR_IO:
    return true;
  default:
    return false;
  }
}

bool
nc_source_may_retry(NcMigration *m, const GError *reason)
{
  return nc_source_is_passing(reason->code) && nc_migration_int(m, "attempt") < nc_migration_int(m, "retry_attempts") + 1 &&
         !g_atomic_int_get(&m->cancel_requested) && !g_atomic_int_get(&m->quitting);
}

/* 1, 2, 4, ... times the configured pause. */
static int64_t
nc_source_retry_pause_ms(NcMigration *m)
{
  int64_t doublings = CLAMP(nc_migration_int(m, "attempt") - 1, 0, 16);
  return MIN((int64_t)m->deps->config->retry_pause_ms << doublings, NC_RETRY_MOST_MS);
}

void
nc_source_plan_retry(NcMigration *m, const GError *reason)
{
  nc_autojson json_t *record = nc_migration_snapshot(m);
  json_t *attempts = json_object_get(record, "attempts");
  g_autofree char *now = nc_time_format(nc_wall_us());
  json_t *all = json_is_array(attempts) ? json_deep_copy(attempts) : json_array();

  json_array_append_new(all, json_pack("{s:I, s:s, s:o}", "attempt", (json_int_t)nc_migration_int(m, "attempt"), "ended", now, "error",
                                       nc_error_to_json(reason)));
  nc_migration_set(m, "attempts", all);
  g_autofree char *detail = g_strdup_printf("%s; again in %.1f s", reason->message, (double)nc_source_retry_pause_ms(m) / 1000);
  nc_migration_step(m, NC_EV_UNDONE_RETRY, detail);
}

void
nc_source_finish_undone(NcMigration *m, const char *outcome, const GError *reason, const GError *problem)
{
  int attempts = (int)nc_migration_int(m, "attempt");
  bool given_up = attempts > 1 && !g_str_equal(outcome, "cancelled");
  g_autofree char *times = given_up ? g_strdup_printf("given up after %d attempts; the last: ", attempts) : g_strdup("");
  g_autoptr(GError) whole = g_error_new(NC_ERROR, reason->code, "%s%s%s%s", times, reason->message, problem ? "; " : "",
                                        problem ? problem->message : "");

  nc_migration_finish(m, outcome, whole);
  nc_migration_tell_head(m);
}

void
nc_source_end_waiting(NcMigration *m, int code, const char *text)
{
  bool cancelled = code == NC_ERROR_CANCELLED;
  g_autoptr(GError) error = g_error_new_literal(NC_ERROR, code, text);

  nc_migration_step(m, NC_EV_ABORT, text);
  nc_migration_step(m, cancelled ? NC_EV_UNDONE_CANCELLED : NC_EV_UNDONE_FAILED, NULL);
  nc_migration_finish(m, cancelled ? "cancelled" : "failed", error);
}

/* False: cancelled, or novacrond stops. What the last attempt's threads still said is of no interest. */
static bool
nc_source_sleep(NcMigration *m)
{
  int64_t until_us = nc_mono_us() + nc_source_retry_pause_ms(m) * 1000;

  while (nc_mono_us() < until_us && !g_atomic_int_get(&m->cancel_requested) && !g_atomic_int_get(&m->quitting))
    nc_inbox_item_free(nc_inbox_pop(m->inbox, NC_RETRY_TICK_MS));
  return !g_atomic_int_get(&m->cancel_requested) && !g_atomic_int_get(&m->quitting);
}

bool
nc_source_lease_again(NcMigration *m, GError **error)
{
  NcRight right;

  if (!nc_journal_get_right(m->deps->journal, m->vm, &right, error))
    return false;
  m->lease = nc_machines_lease(m->deps->machines, m->vm, m->id, error);
  nc_migration_set(m, "held_epoch", json_integer((json_int_t)right.epoch));
  return m->lease != NULL;
}

static void
nc_source_reset_record(NcMigration *m)
{
  static const char *const numbers[] = { "progress", "rounds", "keeper_inode", "stop_us", "downtime_limit_ms", "throttle" };
  static const char *const unknowns[] = { "eta_ms", "eta_error_ms", "forecast_pause_ms", "converges", "attention", "path",
                                        "effective_rate_bps", "dirty_rate_bps", NULL };

  for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
    nc_migration_set(m, numbers[i], json_integer(0));
  nc_migration_forget(m, unknowns);
  nc_migration_flow_is_over(m);
  nc_migration_set(m, "postcopy", json_false());
  nc_migration_set(m, "forecasts", json_array());
  nc_migration_set(m, "attempt", json_integer((json_int_t)nc_migration_int(m, "attempt") + 1));
}

bool
nc_source_await_retry(NcMigration *m)
{
  g_autoptr(GError) error = NULL;

  nc_migration_drop_link(m);
  if (!nc_source_sleep(m)) {
    if (g_atomic_int_get(&m->cancel_requested))
      nc_source_end_waiting(m, NC_ERROR_CANCELLED, "cancelled");
    return false; /* or the next novacrond takes it up where it is */
  }
  if (!nc_source_lease_again(m, &error)) {
    g_prefix_error(&error, "it was to be tried again, but: ");
    nc_source_end_waiting(m, error->code == NC_ERROR_CANCELLED ? NC_ERROR_CONFLICT : error->code, error->message);
    return false;
  }
  nc_source_reset_record(m);
  return nc_migration_step(m, NC_EV_RETRY, NULL);
}
