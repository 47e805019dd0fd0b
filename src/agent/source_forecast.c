/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source_forecast.h"
#include "agent/convergence.h"
#include "agent/memory_sample.h"
#include "agent/pause_share.h"
#include "base/ident.h"
#include "base/log.h"
#include "qemu/footprint.h"

#define NC_FORECASTS_MOST 100     /* in the record: the rounds of a migration that does not converge are many */
#define NC_DECIDE_EVERY_US 1000000 /* rounds of a few milliseconds tell nothing new */
#define NC_LOOK_FIRST_US 500000
#define NC_THROTTLE_DUE_US 5000000 /* QEMU looks once a second, and wants to see the same twice */

struct NcSourceForecast {
  NcMigration *m;
  NcConvergenceLimits limits;
  NcForecast *forecast; /* NULL until QEMU counts */
  NcMemorySample *memory; /* NULL: not looked at yet, or it may not be */
  int64_t look_us, looked_us; /* when it is looked at again, and when the sample was taken */
  int64_t started_us, decided_us;
  int64_t sent_once_us; /* when all memory had been sent once; 0: not yet */
  bool sampled;         /* QEMU's sample of what the guest dirties was taken over */
  bool free_pages;      /* the guest names its free pages */
  bool at_once;         /* post-copy, without a forecast */
  bool postcopy;        /* QEMU was told to switch to it: nothing is left to decide */
  int throttle;              /* percent that QEMU was told */
  int64_t throttle_asked_us; /* and when; 0: it does it */
  bool is_held;              /* it waits for its endgame */
  uint64_t disk_wire_bytes;  /* of what the link has carried */
  NcConvergenceAction last;
  NcForecastResult result;   /* the last one */
  json_t *said; /* the record's `forecasts`; readers have copies */
};

NcSourceForecast *
nc_source_forecast_new(NcMigration *m)
{
  NcSourceForecast *f = g_new0(NcSourceForecast, 1);

  f->m = m;
  f->limits.max_throttle = (int)nc_migration_int(m, "max_throttle");
  f->limits.timeout_ms = nc_migration_int(m, "convergence_timeout_ms");
  f->last = NC_CONVERGENCE_GO_ON;
  f->said = json_array();
  return f;
}

void
nc_source_forecast_free(NcSourceForecast *f)
{
  if (!f)
    return;
  nc_forecast_free(f->forecast);
  nc_memory_sample_free(f->memory);
  json_decref(f->said);
  g_free(f);
}

void
nc_source_forecast_allow_postcopy(NcSourceForecast *f, bool at_once)
{
  f->limits.may_postcopy = true;
  f->at_once = at_once;
}

void
nc_source_forecast_expect_free_pages(NcSourceForecast *f)
{
  f->free_pages = true;
}

/* What is no page of zeros. Without a process to look at (it was adopted and may not be read): everything. */
static uint64_t
nc_source_forecast_content(NcSourceForecast *f, const NcQemuMigrationInfo *info)
{
  uint64_t least = nc_footprint_least_bytes(info->ram_total_bytes);
  uint64_t present = f->m->lease ? nc_footprint_bytes(nc_machine_lease_pid(f->m->lease), least) : 0;
  return present > 0 ? MIN(present, info->ram_total_bytes) : info->ram_total_bytes;
}

static void
nc_source_forecast_show(NcSourceForecast *f, const NcForecastResult *r)
{
  NcMigration *m = f->m;

  nc_migration_set(m, "throttle", json_integer(f->throttle));
  if (nc_forecast_coding_factor(f->forecast) > 0) /* for plans of later ones */
    nc_migration_set(m, "coding_factor", json_real(nc_forecast_coding_factor(f->forecast)));
  if (!r->is_known)
    return;
  nc_migration_set(m, "eta_ms", r->converges ? json_integer((json_int_t)r->eta_ms) : json_null());
  nc_migration_set(m, "eta_error_ms", r->converges ? json_integer((json_int_t)r->eta_error_ms) : json_null());
  nc_migration_set(m, "forecast_pause_ms", json_integer((json_int_t)r->pause_ms));
  nc_migration_set(m, "effective_rate_bps", json_integer((json_int_t)r->effective_bps));
  nc_migration_set(m, "converges", json_boolean(r->converges));
}

/* One line of the record's `forecasts`. */
static void
nc_source_forecast_remember(NcSourceForecast *f, const NcForecastResult *r, const NcConvergenceDecision *decision, uint64_t round,
                            int64_t now_us)
{
  if (json_array_size(f->said) < NC_FORECASTS_MOST)
    json_array_append_new(f->said, json_pack("{s:I, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:i}", "at_ms",
                                          (json_int_t)((now_us - f->started_us) / 1000), "round", (json_int_t)round, "converges",
                                          r->converges, "eta_ms", (json_int_t)r->eta_ms, "eta_error_ms", (json_int_t)r->eta_error_ms,
                                          "pause_ms", (json_int_t)r->pause_ms, "pause_error_ms", (json_int_t)r->pause_error_ms,
                                          "dirty_rate_bps", (json_int_t)r->dirty_bps, "effective_rate_bps",
                                          (json_int_t)r->effective_bps, "decision", nc_convergence_action_name(decision->action),
                                          "throttle", decision->throttle));
  nc_migration_set(f->m, "forecasts", json_deep_copy(f->said));
}

/* QEMU slows the guest down when it next finds it dirtying; until then nothing has changed. */
static void
nc_source_forecast_throttle(NcSourceForecast *f, NcQmp *qmp, int percent, int64_t now_us)
{
  g_autoptr(GError) error = NULL;

  if (!nc_qemu_set_throttle(qmp, percent, &error)) {
    nc_migration_note(f->m, "warning", "the guest can't be slowed down: %s", error->message);
    f->limits.max_throttle = f->throttle; /* not asked again */
    return;
  }
  f->throttle = percent;
  f->throttle_asked_us = now_us;
}

/*
 * From here on the record says so: who finds it after a crash must not throw bytes away (nc_migrations_unblock).
 *
 * What QEMU believes to send within its downtime limit it sends at the very end, and whose connection breaks there (7.2) is not resumed any
 * more: nothing it has still to send may be left to that.
 */
static void
nc_source_forecast_postcopy(NcSourceForecast *f, NcQmp *qmp)
{
  g_autoptr(GError) error = NULL;

  if (nc_qemu_set_downtime_limit(qmp, NC_PAUSE_HELD_MS, NULL))
    nc_migration_set(f->m, "downtime_limit_ms", json_integer(NC_PAUSE_HELD_MS));
  nc_migration_set(f->m, "postcopy", json_true());
  nc_migration_persist(f->m, false, NULL);
  if (!nc_qemu_start_postcopy(qmp, &error) && error->code != NC_ERROR_TIMEOUT) { /* after a timeout it may still do so */
    nc_migration_note(f->m, "warning", "QEMU does not switch to post-copy: %s", error->message);
    nc_migration_set(f->m, "postcopy", json_false());
    f->limits.may_postcopy = f->at_once = false;
    return;
  }
  static const char *const unknowns[] = { "converges", "eta_ms", "eta_error_ms", "forecast_pause_ms", NULL };
  f->postcopy = true;
  nc_migration_forget(f->m, unknowns); /* they are no questions any more, or were about another way */
}

static bool
nc_source_forecast_act(NcSourceForecast *f, NcQmp *qmp, const NcConvergenceDecision *decision, int64_t now_us, GError **error)
{
  bool news = decision->action != f->last || decision->action == NC_CONVERGENCE_THROTTLE;

  if (news)
    nc_migration_note(f->m, nc_convergence_action_name(decision->action), "%s", decision->reason);
  f->last = decision->action;
  if (decision->action == NC_CONVERGENCE_THROTTLE)
    nc_source_forecast_throttle(f, qmp, decision->throttle, now_us);
  if (decision->action == NC_CONVERGENCE_POSTCOPY)
    nc_source_forecast_postcopy(f, qmp);
  if (decision->action != NC_CONVERGENCE_STOP)
    return true;
  return nc_fail(error, NC_ERROR_CONVERGENCE,
                 "%s %s; %s runs on on the source (%s). Give it more bandwidth, a longer --max-downtime, a higher --max-throttle, "
                 "or a quieter hour",
                 f->m->vm, decision->reason, f->m->vm, nc_nodes_self(f->m->deps->nodes));
}

/* Takes a sample of the memory, in place of the last one. */
static void
nc_source_forecast_sample_memory(NcSourceForecast *f, const NcQemuMigrationInfo *info)
{
  g_autoptr(GError) error = NULL;

  g_clear_pointer(&f->memory, nc_memory_sample_free);
  f->memory = nc_memory_sample_new(nc_machine_lease_pid(f->m->lease), nc_footprint_least_bytes(info->ram_total_bytes), &error);
  if (!f->memory) {
    nc_log(NC_LOG_INFO, "agent", "migration %s: forecasts without a look at the memory: %s", f->m->id, error->message);
    return;
  }
  nc_forecast_know_memory(f->forecast, nc_memory_sample_places(f->memory), nc_memory_sample_bytes(f->memory), info->ram_total_bytes);
  f->looked_us = nc_mono_us();
  f->look_us = f->looked_us + NC_LOOK_FIRST_US;
}

/* After half a second, and then each time twice as long after the sample: short times tell the rate, long ones the working set. */
static void
nc_source_forecast_look(NcSourceForecast *f, int64_t now_us)
{
  NcMemoryChange change;

  if (!f->memory || now_us < f->look_us)
    return;
  f->look_us = now_us + (now_us - f->looked_us);
  if (nc_memory_sample_again(f->memory, &change, NULL))
    nc_forecast_see_change(f->forecast, &change);
}

/* Has QEMU done what it was told, so that new rounds show what that brings? */
static bool
nc_source_forecast_is_settled(NcSourceForecast *f, const NcQemuMigrationInfo *info, int64_t now_us)
{
  if (f->throttle_asked_us == 0)
    return true;
  if ((int)info->throttle_percent < f->throttle && now_us - f->throttle_asked_us < NC_THROTTLE_DUE_US)
    return false;
  f->throttle_asked_us = 0;
  nc_forecast_forget_dirt(f->forecast); /* another guest, as it were: what is known now is of the one before */
  nc_source_forecast_sample_memory(f, info);
  return false;
}

/* The sample begun before memory flowed is there after a second. Free pages that are cleared in it would look like dirt. */
static void
nc_source_forecast_take_sample(NcSourceForecast *f, NcQmp *qmp)
{
  uint64_t bps;

  if (f->sampled || f->sent_once_us || f->free_pages || !nc_qemu_sampled_dirty_rate(qmp, &bps))
    return;
  f->sampled = true;
  nc_forecast_expect_dirt(f->forecast, (double)bps);
}

/* QEMU counts. Where free pages are being cleared, the memory is looked at when that is over. */
static void
nc_source_forecast_begin(NcSourceForecast *f, const NcQemuMigrationInfo *info, int64_t now_us)
{
  f->started_us = now_us;
  nc_migration_set(f->m, "memory_began_ms", json_integer(nc_migration_int(f->m, "elapsed_ms")));
  f->forecast = nc_forecast_new(nc_source_forecast_content(f, info), (uint64_t)now_us);
  if (f->free_pages)
    nc_forecast_expect_free_pages(f->forecast);
  else
    nc_source_forecast_sample_memory(f, info);
}

unsigned
nc_source_forecast_pause_step(const NcSourceForecast *f)
{
  return nc_pause_step(f->sent_once_us ? (nc_mono_us() - f->sent_once_us) / 1000 : -1);
}

NcEndgameNeed
nc_source_forecast_need(const NcSourceForecast *f)
{
  const NcEndgameOutlook outlook = { .postcopy = f->postcopy,
                                     .is_known = f->result.is_known,
                                     .converges = f->result.converges,
                                     .last_round_ms = f->result.eta_ms - f->result.pause_ms,
                                     .since_first_pass_us = f->sent_once_us ? nc_mono_us() - f->sent_once_us : -1 };

  return nc_endgame_need(&f->m->endgame, &outlook);
}

void
nc_source_forecast_hold(NcSourceForecast *f, bool is_held)
{
  f->is_held = is_held;
  if (f->forecast)
    nc_forecast_hold(f->forecast, is_held);
}

void
nc_source_forecast_leave_out(NcSourceForecast *f, uint64_t wire_bytes)
{
  f->disk_wire_bytes = wire_bytes;
}

bool
nc_source_forecast_take(NcSourceForecast *f, NcQmp *qmp, const NcQemuMigrationInfo *info, int64_t limit_ms, int64_t overhead_ms,
                        GError **error)
{
  int64_t now_us = nc_mono_us();
  NcForecastSample sample = { .rounds = info->dirty_sync_count,
                              .remaining_bytes = info->ram_remaining_bytes,
                              .sent_bytes = info->ram_normal_pages * info->ram_page_size,
                              .wire_bytes = (uint64_t)MAX(nc_migration_int(f->m, "wire_bytes") - (int64_t)f->disk_wire_bytes, 0),
                              .link_wait_us = (uint64_t)nc_migration_int(f->m, "link_wait_us") };

  if (info->ram_total_bytes == 0 || f->postcopy)
    return true;
  if (f->at_once && info->status == NC_QEMU_MIGRATION_ACTIVE) {
    nc_migration_note(f->m, "post-copy", "as was asked for");
    nc_source_forecast_postcopy(f, qmp);
    return true;
  }
  if (!f->forecast)
    nc_source_forecast_begin(f, info, now_us);
  nc_source_forecast_look(f, now_us);
  nc_source_forecast_take_sample(f, qmp);
  bool round_ended = nc_forecast_sample(f->forecast, &sample, (uint64_t)now_us);
  nc_pause_forecast(f->forecast, limit_ms, nc_source_forecast_pause_step(f), (double)overhead_ms, &f->result);
  nc_source_forecast_show(f, &f->result);
  if (f->sent_once_us == 0 && sample.rounds > 1) {
    f->sent_once_us = now_us;
    f->limits.first_round_ms = (now_us - f->started_us) / 1000;
    if (f->free_pages)
      nc_source_forecast_sample_memory(f, info);
  }
  int64_t waited_us = nc_endgame_waited_us(&f->m->endgame); /* for others' last rounds: that is not this machine's doing */
  int64_t elapsed_ms = f->sent_once_us ? MAX(now_us - f->sent_once_us - waited_us, 0) / 1000 : 0;
  bool late = f->limits.timeout_ms > 0 && elapsed_ms >= f->limits.timeout_ms; /* a round may take longer than that */
  if (f->is_held || !f->result.is_known || now_us - f->decided_us < NC_DECIDE_EVERY_US)
    return true;
  if (!late && (!round_ended || !nc_source_forecast_is_settled(f, info, now_us)))
    return true;
  f->decided_us = now_us;
  NcConvergenceDecision decision;
  nc_convergence_decide(&f->result, &f->limits, f->throttle, elapsed_ms, &decision);
  nc_source_forecast_remember(f, &f->result, &decision, sample.rounds, now_us);
  bool ok = nc_source_forecast_act(f, qmp, &decision, now_us, error);
  g_free(decision.reason);
  return ok;
}

bool
nc_source_forecast_has_switched(const NcSourceForecast *f)
{
  return f->postcopy;
}
