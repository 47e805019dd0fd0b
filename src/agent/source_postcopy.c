/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source's half of post-copy: the machine runs at the destination, and our
 * stopped QEMU has pages that it lacks.
 *
 * Nothing here ends by itself but with the destination's word that it has them all. When a
 * mover or an agent was gone, the flow is taken up again: first the destination's QEMU
 * is made to wait for a new connection, and only then is ours broken. Until then ours can
 * still be resumed by an operator, should the destination's turn out to be dead; a QEMU (7.2) that has
 * noticed the break can't (reference, section 5.6).
 */
#include "agent/shadow_budget.h"
#include "agent/source_migration.h"
#include "agent/warm_return.h"
#include "base/bytes.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "qemu/migration_qmp.h"
#include "wire/shadow.h"

#include <unistd.h>

#define NC_SERVE_POLL_US 250000
#define NC_SERVE_PAUSE_MS 10000       /* for QEMU to notice that its connection is gone */
#define NC_SERVE_CONNECT_MS 5000
#define NC_RECOVERY_FIRST_US 200000   /* until the next attempt, */
#define NC_RECOVERY_LAST_US 30000000  /* doubled up to here */
#define NC_RECOVERY_ANSWER_US 30000000
#define NC_RECOVERY_SETTLE_US 2000000 /* so long QEMU may still say that it is paused after it was resumed */
#define NC_SERVE_CUT_OFF_US 5000000   /* then people are told */

void
nc_source_serving_mover_gone(NcSource *s)
{
  static const char *const figures[] = { "rtt_us", "mover_rss_bytes", "in_flight_bytes", NULL };

  nc_source_end_mover(s);
  nc_inbox_drop_all(s->m->inbox, NC_FROM_MOVER);
  s->recovering = false;
  nc_migration_forget(s->m, figures);
  nc_migration_flow_is_over(s->m);
  nc_migration_note(s->m, "flow-broken", "the mover on the source (%s) is gone; %s runs on %s and waits for pages it lacks",
                    nc_nodes_self(s->m->deps->nodes), s->m->vm, s->m->peer);
}

/* --- the end, one way or the other --- */

static void
nc_source_served(NcSource *s)
{
  NcMigration *m = s->m;

  nc_source_attention_over(s);
  if (!nc_migration_step(m, NC_EV_SERVED, NULL))
    return;
  s->verifying_since_us = nc_mono_us();
  s->recovering = false;
  nc_fault_point("source-served");
  nc_migration_set(m, "progress", json_integer(100));
}

/* Neither has all of it any more. */
static void
nc_source_lose(NcSource *s)
{
  NcMigration *m = s->m;
  g_autoptr(GError) error = NULL;

  nc_fail(&error, NC_ERROR_QEMU,
          "%s was lost in post-copy: the QEMU on the source (%s) died while it still had pages that %s lacked. Start the machine anew "
          "there: novacron vm start %s",
          m->vm, nc_nodes_self(m->deps->nodes), m->peer, m->vm);
  nc_source_end_mover(s);
  nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_GONE);
  nc_migration_step(m, NC_EV_LOST, error->message);
  nc_migration_finish(m, "failed", error);
}

static void
nc_source_attention_lost(NcSource *s, const char *what)
{
  NcMigration *m = s->m;
  g_autofree char *choice = g_strdup_printf(
      "What is here (%s) is %s as it was at the switch; what it has done on %s since is gone. To go on from there, with disks as they "
      "are now, say: novacron resolve %s --run-here. Before that, make sure that it can't run on %s",
      nc_nodes_self(m->deps->nodes), m->vm, m->peer, m->id, m->peer);
  nc_source_attention(s, what, choice);
}

static void
nc_source_on_unknown(NcSource *s, json_t *message)
{
  if (!nc_json_bool_or(message, "lost", false))
    return; /* it can't say now; it is asked again */
  s->destination_lost = true;
  s->recovering = false;
  if (nc_machine_lease_is_alive(s->m->lease))
    nc_source_attention_lost(s, nc_json_string_or(message, "detail", "the destination has lost it"));
}

/* --- a new flow --- */

static void
nc_source_recovery_failed(NcSource *s, const GError *reason)
{
  nc_migration_note(s->m, "warning", "the flow of pages could not be taken up again, and will be tried: %s", reason->message);
  nc_source_end_mover(s);
  nc_inbox_drop_all(s->m->inbox, NC_FROM_MOVER);
  nc_fd_clear(&s->listener);
  s->recovering = false;
  s->recovery_wait_us = CLAMP(s->recovery_wait_us * 2, NC_RECOVERY_FIRST_US, NC_RECOVERY_LAST_US);
  s->next_recovery_us = nc_mono_us() + s->recovery_wait_us;
}

static bool
nc_source_ask_to_recover(NcSource *s, const uint8_t psk[NC_MIG_PSK_BYTES], GError **error)
{
  NcMigration *m = s->m;
  g_autofree char *hex = nc_hex_encode(psk, NC_MIG_PSK_BYTES);

  return nc_source_start_mover(s, psk, error) &&
         nc_migration_tell(m, json_pack("{s:s, s:s, s:s, s:i, s:s, s:i, s:I, s:b}", "type", "mig_recover", "migration", m->id, "psk", hex,
                                        "streams", s->streams, "compression", s->compression, "pause_budget_ms", s->max_downtime_ms,
                                        "shadow_frames", (json_int_t)nc_source_shadow_size(s).frames, "preempt", s->preempt),
                           error);
}

static void
nc_source_begin_recovery(NcSource *s)
{
  uint8_t psk[NC_MIG_PSK_BYTES];
  g_autoptr(GError) error = NULL;

  nc_source_end_mover(s);
  nc_inbox_drop_all(s->m->inbox, NC_FROM_MOVER);
  nc_migration_note(s->m, "recovery", "attempt %u", ++s->recoveries);
  nc_fault_point("source-recover");
  nc_random_bytes(psk, sizeof psk);
  bool ok = nc_source_ask_to_recover(s, psk, &error);
  nc_secret_clear(psk, sizeof psk);
  s->recovering = ok;
  s->next_recovery_us = nc_mono_us() + NC_RECOVERY_ANSWER_US;
  if (!ok)
    nc_source_recovery_failed(s, error);
}

/* Our QEMU has to notice that its connections are gone; it stays stopped. */
static bool
nc_source_break_connections(NcSource *s, NcQmp *qmp, GError **error)
{
  int64_t deadline = nc_mono_us() + NC_SERVE_PAUSE_MS * INT64_C(1000);

  if (s->keeper)
    nc_keeper_break(s->keeper);
  if (s->preempt_keeper)
    nc_keeper_break(s->preempt_keeper);
  g_clear_pointer(&s->keeper, nc_keeper_free);
  g_clear_pointer(&s->preempt_keeper, nc_keeper_free);
  while (nc_qemu_migration_status(qmp) != NC_QEMU_MIGRATION_POSTCOPY_PAUSED) {
    if (nc_mono_us() > deadline || !nc_qmp_is_alive(qmp))
      return nc_fail(error, NC_ERROR_QEMU, "the QEMU on the source does not stop its broken migration");
    g_usleep(20000);
  }
  nc_qemu_closefd(qmp, NC_KEEPER_NAME, NULL);
  nc_qemu_closefd(qmp, NC_KEEPER_PREEMPT_NAME, NULL);
  return true;
}

/* A break is no danger any more, so that QEMU need not hold its own end: it pauses again. */
static bool
nc_source_resume_stream(NcSource *s, NcQmp *qmp, GError **error)
{
  NcMigration *m = s->m;
  g_autofree char *name = g_strdup_printf("out-%u.sock", s->recoveries);
  g_autofree char *path = g_build_filename(nc_machine_lease_run_dir(m->lease), name, NULL);

  unlink(path);
  nc_fd_clear(&s->listener);
  s->listener = nc_unix_listen(path, 0666, error);
  if (s->listener < 0 || !nc_qemu_migrate_resume(qmp, path, error))
    return false;
  nc_autofd int accepted = nc_source_accept_qemu(s, NC_SERVE_CONNECT_MS, error);
  s->keeper = accepted < 0 ? NULL : nc_keeper_new(accepted, error);
  if (!s->keeper)
    return false;
  s->preempt_taken = false;
  nc_migration_set(m, "keeper_inode", json_integer(0));
  return nc_mover_process_send(m->mover, json_pack("{s:s, s:s}", "op", "qemu", "channel", "main"), accepted, error) &&
         nc_mover_process_send(m->mover, json_pack("{s:s}", "op", "deliver_shut"), -1, error);
}

/* The destination's QEMU waits: now ours is made to connect anew. */
static void
nc_source_finish_recovery(NcSource *s)
{
  NcMigration *m = s->m;
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);
  g_autoptr(GError) error = NULL;

  if (!qmp)
    nc_fail(&error, NC_ERROR_QEMU, "the QEMU on the source does not answer");
  else if (nc_source_path_await(s->path, &error) && nc_source_break_connections(s, qmp, &error))
    nc_source_resume_stream(s, qmp, &error);
  if (error) {
    nc_source_recovery_failed(s, error);
    s->destination_broken = true;
    return;
  }
  s->recovering = false;
  s->destination_broken = false;
  s->recovery_wait_us = 0;
  s->next_recovery_us = nc_mono_us() + NC_RECOVERY_SETTLE_US;
  nc_source_attention_over(s);
  nc_migration_note(m, "recovered", "the flow of pages goes on");
}

static void
nc_source_on_accepted(NcSource *s, json_t *message)
{
  NcShadowSize size = nc_shadow_agree(nc_source_shadow_size(s), message);
  g_autoptr(GError) error = NULL;

  if (!s->recovering || !s->m->mover)
    return;
  nc_warm_return_forget(s->m);
  if (nc_mover_process_send_shadow(s->m->mover, size, -1, 0, &error))
    nc_source_path_dial(s->path);
  else
    nc_source_recovery_failed(s, error);
}

bool
nc_source_on_serving(NcSource *s, json_t *message)
{
  const char *type = nc_json_string_or(message, "type", "");
  g_autoptr(GError) error = NULL;

  if (g_str_equal(type, "mig_started")) {
    s->destination_broken = nc_json_bool_or(message, "broken", false);
    s->destination_lost = false;
    if (!nc_json_bool_or(message, "postcopy", false))
      nc_source_served(s);
    else
      nc_source_attention_over(s);
  } else if (g_str_equal(type, "mig_accepted")) {
    nc_source_on_accepted(s, message);
  } else if (g_str_equal(type, "mig_recovering") && s->recovering) {
    nc_source_finish_recovery(s);
  } else if (g_str_equal(type, "mig_unrecovered")) {
    nc_error_set_json(&error, json_object_get(message, "error"));
    nc_source_recovery_failed(s, error);
  } else if (g_str_equal(type, "mig_unknown")) {
    nc_source_on_unknown(s, message);
  } else {
    return false;
  }
  return true;
}

/* --- looking after it --- */

static bool
nc_source_flow_is_broken(NcSource *s)
{
  NcQmp *qmp = nc_machine_lease_qmp(s->m->lease);
  return !s->m->mover || s->mover_failed || s->destination_broken || (qmp && nc_qemu_migration_status(qmp) == NC_QEMU_MIGRATION_POSTCOPY_PAUSED);
}

static void
nc_source_tell_lost(NcSource *s)
{
  nc_migration_tell(s->m, json_pack("{s:s, s:s}", "type", "mig_source_lost", "migration", s->m->id), NULL);
}

/* Our QEMU is dead: the destination knows best whether it has got everything. */
static void
nc_source_serve_without_qemu(NcSource *s)
{
  if (s->destination_lost)
    nc_source_lose(s);
  else
    nc_source_tell_lost(s);
}

static void
nc_source_serve_cut_off(NcSource *s)
{
  g_autofree char *what = g_strdup_printf("%s runs on %s, which can't be reached (%s) and still needs pages from here", s->m->vm, s->m->peer,
                                          nc_source_path_session_problem(s->path));
  g_autofree char *choice =
      g_strdup_printf("The flow is taken up again by itself when %s is back: leave the machine's QEMU here alone. If %s is gone for good: %s as "
                      "it was at the switch is still here, and goes on from there, with disks as they are now, after: novacron resolve %s "
                      "--run-here. Before that, make sure that it can't run on %s",
                      s->m->peer, s->m->peer, s->m->vm, s->m->id, s->m->peer);
  nc_source_attention(s, what, choice);
}

void
nc_source_serve_released(NcSource *s)
{
  int64_t now_us = nc_mono_us();

  if (now_us < s->next_serve_us)
    return;
  s->next_serve_us = now_us + NC_SERVE_POLL_US;
  if (!nc_machine_lease_is_alive(s->m->lease) && nc_source_is_in_postcopy(s))
    nc_source_tell_lost(s);
}

void
nc_source_serve(NcSource *s)
{
  int64_t now_us = nc_mono_us();
  int64_t cut_off_us = nc_source_path_cut_off_since_us(s->path);

  nc_source_take_preempt(s);
  if (now_us < s->next_serve_us)
    return;
  s->next_serve_us = now_us + NC_SERVE_POLL_US;
  if (!nc_machine_lease_is_alive(s->m->lease)) {
    nc_source_serve_without_qemu(s);
    return;
  }
  nc_source_poll_qemu(s);
  if (cut_off_us > 0 && now_us - cut_off_us > NC_SERVE_CUT_OFF_US)
    nc_source_serve_cut_off(s);
  if (s->destination_lost || cut_off_us > 0 || now_us < s->next_recovery_us)
    return;
  if (s->recovering) { /* it has not answered: the session may have changed meanwhile */
    g_autoptr(GError) error = g_error_new(NC_ERROR, NC_ERROR_TIMEOUT, "%s has not answered", s->m->peer);
    nc_source_recovery_failed(s, error);
  } else if (nc_source_flow_is_broken(s)) {
    nc_source_begin_recovery(s);
  }
}
