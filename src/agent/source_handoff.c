/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's half after the release, and every way back.
 *
 * After RELEASED is on disk the source never resumes the machine by itself. It
 * asks the destination until that has said one of two things, both of which
 * are on its disk: "I run it" (then our stopped QEMU goes) or "I never will"
 * (then we take the right back under the next epoch, on disk first, and resume
 * what our QEMU still holds). There is no third answer and no timeout; an
 * operator who has fenced the destination may give the second one in its place. The steps of
 * every way back, and their records, are in source_rollback.c.
 */
#include "agent/migration_views.h"
#include "agent/source_migration.h"
#include "agent/source_retry.h"
#include "agent/warm_return.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/log.h"
#include "qemu/migration_qmp.h"

#define NC_SOURCE_TICK_MS 50
#define NC_QEMU_COMPLETE_MS 5000  /* from SHUT to `completed` */
#define NC_ALIVE_MS 15000         /* for the destination's word after STARTED, before we ask again */
#define NC_MOVER_END_US 2000000
#define NC_DONE_MS 3000           /* a courtesy to impatient clients, not a part of the handoff */
#define NC_LET_GO_AGAIN_MS 1000
#define NC_ASK_AGAIN_MS 3000
#define NC_ATTENTION_US 5000000   /* cut off longer than this is shown to people */

void
nc_source_end_mover(NcSource *s)
{
  nc_source_path_hang_up(s->path);
  g_clear_pointer(&s->m->mover, nc_mover_process_free);
}

void
nc_source_finish_abort(NcSource *s, NcRollback *r, const GError *reason, const GError *problem)
{
  NcMigration *m = s->m;
  nc_autojson json_t *record = nc_rollback_snapshot(r);
  bool cancelled = nc_json_bool_or(record, "cancelled", false);

  if (!problem && nc_source_may_retry(m, reason)) {
    nc_source_plan_retry(m, reason);
    return;
  }
  nc_migration_step(m, cancelled ? NC_EV_UNDONE_CANCELLED : NC_EV_UNDONE_FAILED, NULL);
  nc_source_finish_undone(m, cancelled && !problem ? "cancelled" : "failed", reason, problem);
}

/* After a crash in the middle the reason is the one for which the rollback was begun, not that novacrond was restarted. */
void
nc_source_abort(NcSource *s, const GError *reason)
{
  NcMigration *m = s->m;
  g_autoptr(NcRollback) r = nc_source_rollback_begin(s, reason);
  g_autoptr(GError) cause = nc_rollback_cause(r);
  g_autoptr(GError) problem = NULL;

  s->rollback_reason = cause ? cause : reason;
  nc_migration_step(m, NC_EV_ABORT, s->rollback_reason->message);
  if (nc_source_rollback_secure(s, r, &problem))
    nc_source_rollback_return(s, r, &problem);
  nc_source_rollback_end(s, r, problem);
  nc_source_finish_abort(s, r, s->rollback_reason, problem);
  s->rollback_reason = NULL;
}

/* The right comes back under the next epoch: durable first, then the guest. */
static void
nc_source_reclaim(NcSource *s, NcHandoffEvent event, const GError *reason)
{
  NcMigration *m = s->m;
  g_autoptr(NcRollback) r = nc_source_rollback_begin(s, reason);
  g_autoptr(GError) error = NULL;

  if (!nc_source_rollback_secure(s, r, &error)) {
    nc_log(NC_LOG_ERR, "agent", "migration %s: %s; trying again", m->id, error->message);
    nc_source_path_lost_session(s->path);
    return; /* the destination will be asked again, and say the same again */
  }
  nc_migration_step(m, event, reason->message);
  bool resumed = nc_source_rollback_return(s, r, &error);
  nc_source_rollback_end(s, r, error);
  if (resumed && event == NC_EV_REFUSED && nc_source_may_retry(m, reason)) {
    nc_source_plan_retry(m, reason);
    return;
  }
  nc_migration_step(m, NC_EV_RESUMED, resumed ? NULL : error->message);
  nc_source_finish_undone(m, "failed", reason, error);
}

void
nc_source_attention(NcSource *s, const char *what, const char *choice)
{
  NcMigration *m = s->m;
  if (s->attention)
    return;
  s->attention = true;
  nc_migration_end_endgame(m); /* others need not wait as long as people do */
  g_autofree char *message = g_strdup_printf("%s. %s", what, choice);
  nc_log(NC_LOG_ERR, "agent", "migration %s needs attention: %s", m->id, message);
  nc_migration_note(m, "needs_attention", "%s", message);
  nc_migration_audit(m, "migration.attention", json_pack("{s:s}", "message", message));
  nc_migration_set(m, "attention", json_string(message));
  nc_migration_set(m, "phase", json_string("needs_attention"));
  static const char *const unknowns[] = { "eta_ms", "eta_error_ms", NULL }; /* it ends when somebody decides */
  nc_migration_forget(m, unknowns);
  nc_migration_flow_is_over(m); /* or says its rates again */
  nc_migration_persist(m, false, NULL);
}

/* Whether it runs there is not known. */
static void
nc_source_attention_unsure(NcSource *s, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void
nc_source_attention_unsure(NcSource *s, const char *format, ...)
{
  NcMigration *m = s->m;
  va_list args;
  va_start(args, format);
  g_autofree char *what = g_strdup_vprintf(format, args);
  va_end(args);
  g_autofree char *choice =
      g_strdup_printf("%s is stopped here (%s) and may or may not run on %s; NovaCron keeps asking and will not guess. "
                      "If you have made sure that it can't run there (power off or fence %s), say: novacron resolve %s --run-here",
                      m->vm, nc_nodes_self(m->deps->nodes), m->peer, m->peer, m->id);
  nc_source_attention(s, what, choice);
}

void
nc_source_attention_over(NcSource *s)
{
  if (!s->attention)
    return;
  s->attention = false;
  nc_migration_set(s->m, "attention", json_null());
  nc_migration_set(s->m, "phase", json_string(nc_handoff_phase(s->m->state)));
}

/*
 * By the two hosts' clocks, since only they saw both its ends. If one was set meanwhile, what we saw ourselves is what is
 * left: it ended before we heard so.
 */
static void
nc_source_record_pause(NcSource *s, int64_t resume_us)
{
  int64_t pause_us = resume_us - s->clock_offset_us - s->stop_us;
  int64_t seen_us = s->stop_seen_us ? nc_mono_us() - s->stop_seen_us : INT64_MAX;

  if (!resume_us || !s->stop_us)
    return;
  if (pause_us < -s->link_rtt_us || pause_us - s->link_rtt_us > seen_us) {
    nc_migration_note(s->m, "warning", "a clock was set during the migration: the pause is known less exactly");
    if (seen_us == INT64_MAX)
      return;
    pause_us = seen_us - s->link_rtt_us / 2;
  }
  nc_migration_set(s->m, "pause_ms", json_real((double)MAX(pause_us, 0) / 1000.0));
}

static void
nc_source_on_started(NcSource *s, json_t *message)
{
  NcMigration *m = s->m;

  if (m->state != NC_S_RELEASED)
    return; /* said again */
  nc_source_attention_over(s);
  bool postcopy = nc_json_bool_or(message, "postcopy", false);
  s->destination_broken = postcopy && nc_json_bool_or(message, "broken", false);
  if (!nc_migration_step(m, postcopy ? NC_EV_STARTED_POSTCOPY : NC_EV_STARTED, NULL))
    return;
  nc_migration_end_endgame(m);
  s->verifying_since_us = nc_mono_us();
  nc_fault_point("source-started");
  if (!postcopy)
    nc_migration_set(m, "progress", json_integer(100));
  nc_source_record_pause(s, nc_json_int_or(message, "resume_us", 0));
  const char *sha256 = nc_json_string_or(message, "sha256", "");
  if (sha256[0]) /* in post-copy the stream goes on: its mover tells it at the end */
    nc_migration_set(m, "destination_sha256", json_string(sha256));
  /* The handoff is decided: the source's QEMU may have its final acknowledgement. */
  if (m->mover)
    nc_mover_process_send(m->mover, json_pack("{s:s}", "op", "deliver_shut"), -1, NULL);
}

/* --- an operator said: run here --- */

static bool
nc_source_awaits_verdict(NcHandoffState state)
{
  return state == NC_S_RELEASED || state == NC_S_SERVING || state == NC_S_VERIFYING;
}

void
nc_source_on_resolve(NcSource *s)
{
  bool open = nc_source_awaits_verdict(s->m->state); /* else the destination's word came first */

  nc_migration_want_back(s->m, open); /* again: its answer to an earlier word may have come in between */
  if (!open)
    return;
  s->resolved = true;
  s->resolved_us = nc_mono_us();
  s->next_let_go_us = 0;
}

static void
nc_source_take_back(NcSource *s, const char *why)
{
  NcMigration *m = s->m;
  g_autoptr(GError) reason = g_error_new(NC_ERROR, NC_ERROR_ATTENTION, "an operator said that %s can't run on %s; %s", m->vm, m->peer, why);

  s->resolved = false;
  nc_source_attention_over(s);
  nc_source_reclaim(s, NC_EV_OPERATOR, reason);
  if (nc_source_awaits_verdict(m->state))
    nc_migration_want_back(m, false); /* it could not be written */
}

/*
 * A destination that can be asked has to let go first: it may know better, and if it does not, nobody may start the machine there
 * later. Of one that can't, the operator's word is all there is.
 */
static void
nc_source_tick_resolved(NcSource *s)
{
  NcMigration *m = s->m;

  if (nc_mono_us() >= s->next_let_go_us && nc_source_path_cut_off_since_us(s->path) == 0 && nc_migration_has_link(m)) {
    s->next_let_go_us = nc_mono_us() + NC_LET_GO_AGAIN_MS * INT64_C(1000);
    nc_migration_tell(m, json_pack("{s:s, s:s, s:s, s:I}", "type", "mig_let_go", "migration", m->id, "vm", m->vm, "epoch", (json_int_t)m->epoch),
                      NULL);
  }
  if (nc_migration_word_counts(m, s->resolved_us, nc_mono_us()))
    nc_source_take_back(s, "which could not be asked to let go of it: see to it that it is not started there");
}

/* True: the message was about that. */
static bool
nc_source_on_let_go(NcSource *s, const char *type, json_t *message)
{
  NcMigration *m = s->m;

  /* After the start nothing else leads to that word: it let go, and we were restarted before we heard. */
  if (g_str_equal(type, "mig_refused") && (s->resolved || m->state != NC_S_RELEASED)) {
    nc_source_take_back(s, "which has let go of it");
    return true;
  }
  if (!g_str_equal(type, "mig_holds"))
    return false;
  if (!s->resolved)
    return true;
  s->resolved = false;
  nc_migration_want_back(m, false);
  nc_source_attention_over(s);
  nc_source_attention_unsure(s, "%s does not let go of %s: %s", m->peer, m->vm, nc_json_string_or(message, "detail", ""));
  return true;
}

void
nc_source_on_verdict(NcSource *s, json_t *message)
{
  NcMigration *m = s->m;
  const char *type = nc_json_string_or(message, "type", "");

  if (nc_source_on_let_go(s, type, message) || (m->state == NC_S_SERVING && nc_source_on_serving(s, message))) {
    return;
  } else if (g_str_equal(type, "mig_started")) {
    nc_source_on_started(s, message);
  } else if (g_str_equal(type, "mig_refused") && m->state == NC_S_RELEASED) {
    g_autoptr(GError) error = NULL;
    nc_error_set_json(&error, json_object_get(message, "error"));
    nc_source_attention_over(s);
    nc_source_reclaim(s, NC_EV_REFUSED, error);
  } else if (g_str_equal(type, "mig_alive") && m->state == NC_S_VERIFYING) {
    s->alive_known = true;
    s->alive = nc_json_bool_or(message, "alive", false);
    nc_migration_note(m, s->alive ? "seen-alive" : "not-alive", "%s: %s", m->peer, nc_json_string_or(message, "detail", ""));
    if (!s->alive)
      nc_source_attention_unsure(s, "%s was started on %s but is not alive there", m->vm, m->peer);
  } else if (g_str_equal(type, "mig_unknown") && nc_json_bool_or(message, "lost", false) && m->state == NC_S_RELEASED &&
             !nc_machine_lease_is_alive(m->lease)) {
    /* Our QEMU died in post-copy and took the machine with it; that it had started there was said, and not heard. */
    if (nc_migration_step(m, NC_EV_STARTED_POSTCOPY, NULL))
      nc_source_on_serving(s, message);
  } else if (g_str_equal(type, "mig_unknown")) {
    nc_source_attention_unsure(s, "%s can't say what became of %s: %s", m->peer, m->vm, nc_json_string_or(message, "detail", ""));
  }
}

/* The movers say goodbye to each other, which takes a round trip: begun early, awaited late. */
static bool
nc_source_begin_mover_end(NcMigration *m)
{
  return m->mover && nc_mover_process_send(m->mover, json_pack("{s:s}", "op", "finish"), -1, NULL);
}

static void
nc_source_await_mover_end(NcSource *s)
{
  NcMigration *m = s->m;
  int64_t deadline = nc_mono_us() + NC_MOVER_END_US;

  while (nc_mono_us() < deadline) {
    g_autoptr(NcInboxItem) item = nc_inbox_pop(m->inbox, 100);
    if (!item || item->source != NC_FROM_MOVER)
      continue;
    if (!item->message)
      return;
    nc_source_handle(s, item);
    if (g_str_equal(nc_json_string_or(item->message, "ev", ""), "done"))
      return;
  }
}

/* Whoever hears "completed" may at once ask for the next move, so the destination must have let go first. */
static void
nc_source_await_done(NcSource *s)
{
  int64_t deadline = nc_mono_us() + NC_DONE_MS * INT64_C(1000);

  while (nc_mono_us() < deadline) {
    g_autoptr(NcInboxItem) item = nc_inbox_pop(s->m->inbox, 50);
    if (item && item->source == NC_FROM_PEER &&
        (!item->message || g_str_equal(nc_json_string_or(item->message, "type", ""), "mig_done")))
      return;
  }
}

/*
 * How long it took, over all its attempts; and the last of them alone, which is what its bytes belong to, unless an earlier novacrond began that.
 * The wall clock may have been set meanwhile: what the last one took is the least of the whole.
 */
static void
nc_source_note_times(NcSource *s)
{
  nc_autojson json_t *record = nc_migration_snapshot(s->m);
  int64_t total_ms = nc_migration_record_elapsed_ms(record, nc_wall_us()), attempt_ms = s->started_us ? (nc_mono_us() - s->started_us) / 1000 : -1;

  if (attempt_ms >= 0)
    nc_migration_set(s->m, "attempt_ms", json_integer(attempt_ms));
  if (MAX(total_ms, attempt_ms) >= 0)
    nc_migration_set(s->m, "total_ms", json_integer(MAX(total_ms, attempt_ms)));
}

/* The destination runs it and was seen alive: only now does our copy go. */
static void
nc_source_complete(NcSource *s)
{
  NcMigration *m = s->m;
  g_autoptr(GError) error = NULL;

  bool ending = nc_source_begin_mover_end(m);
  nc_fault_point("source-before-end");
  if (!nc_machine_lease_kill_qemu(m->lease, &error))
    nc_migration_note(m, "warning", "the stopped QEMU on the source could not be ended: %s", error->message);
  nc_source_disks_set_aside(m);
  if (ending)
    nc_source_await_mover_end(s);
  nc_source_end_mover(s);
  nc_warm_return_keep(m);
  g_clear_pointer(&s->keeper, nc_keeper_free);
  nc_fault_point("source-after-end");
  bool told = nc_migration_tell(m, json_pack("{s:s, s:s}", "type", "mig_finished", "migration", m->id), NULL);
  nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_GONE);
  if (told)
    nc_source_await_done(s);
  nc_source_note_times(s);
  nc_migration_set(m, "eta_ms", json_integer(0));
  nc_migration_set(m, "ram_remaining_bytes", json_integer(0));
  nc_migration_step(m, NC_EV_ALIVE, NULL);
  nc_source_rollback_overtaken(m);
  nc_migration_finish(m, "completed", NULL);
  nc_migration_tell_head(m);
}

/* QEMU's own figures come with its `completed`; they are worth a short wait, not more. */
static bool
nc_source_qemu_has_completed(NcSource *s)
{
  if (nc_migration_int(s->m, "qemu_downtime_ms") > 0)
    return true;
  nc_source_poll_qemu(s);
  return nc_migration_int(s->m, "qemu_downtime_ms") > 0 || !s->m->mover ||
         nc_mono_us() - s->verifying_since_us > NC_QEMU_COMPLETE_MS * INT64_C(1000);
}

/* Sees to it that the destination is asked, and that people hear of it if it can't be. */
static void
nc_source_ask(NcSource *s)
{
  NcMigration *m = s->m;
  int64_t now_us = nc_mono_us();
  bool silent = m->state == NC_S_VERIFYING && !s->alive_known && now_us - s->verifying_since_us > NC_ALIVE_MS * INT64_C(1000);
  bool needs_answer = m->state == NC_S_RELEASED || m->state == NC_S_SERVING || (m->state == NC_S_VERIFYING && !s->alive_known);

  if (!needs_answer)
    return;
  if (silent || !nc_migration_has_link(m))
    nc_source_path_lost_session(s->path);
  if (silent)
    s->verifying_since_us = now_us;
  nc_source_path_tick(s->path);
  int64_t since_us = nc_source_path_cut_off_since_us(s->path);
  if (s->attention && since_us == 0 && m->state == NC_S_RELEASED && now_us >= s->next_ask_us) {
    /* It may know more by now: somebody may have started the machine there. */
    s->next_ask_us = now_us + NC_ASK_AGAIN_MS * INT64_C(1000);
    nc_source_path_ask(s->path);
  }
  if (since_us > 0 && now_us - since_us > NC_ATTENTION_US && m->state != NC_S_SERVING)
    nc_source_attention_unsure(s, "the destination %s can't be asked: %s", m->peer, nc_source_path_session_problem(s->path));
}

static void
nc_source_tick_released(NcSource *s)
{
  NcMigration *m = s->m;

  nc_source_ask(s);
  if (s->resolved) {
    nc_source_tick_resolved(s);
    return;
  }
  if (m->state == NC_S_RELEASED)
    nc_source_serve_released(s);
  if (m->state == NC_S_SERVING)
    nc_source_serve(s);
  if (m->state == NC_S_VERIFYING && s->alive_known && s->alive && nc_source_qemu_has_completed(s))
    nc_source_complete(s);
}

void
nc_source_await_verdict(NcSource *s)
{
  NcMigration *m = s->m;

  while (nc_source_awaits_verdict(m->state) && !g_atomic_int_get(&m->quitting)) {
    g_autoptr(NcInboxItem) item = nc_inbox_pop(m->inbox, NC_SOURCE_TICK_MS);
    if (item)
      nc_source_handle(s, item);
    if (nc_source_awaits_verdict(m->state))
      nc_source_tick_released(s);
  }
}
