/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handoff, as the destination has it: the right is taken and the machine
 * started, or refused, or lost; and the source is told which.
 */
#include "agent/destination.h"
#include "agent/destination_disks.h"
#include "agent/liveness.h"
#include "agent/spare_monitor.h"
#include "agent/warm_return.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/log.h"
#include "qemu/migration_qmp.h"

#define NC_ANNOUNCE_FETCHING_MS 200

void
nc_destination_end_mover(NcMigration *m)
{
  NcMoverProcess *mover;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&m->lock);
    mover = g_steal_pointer(&m->mover);
  }
  nc_mover_process_free(mover);
  g_clear_pointer(&m->stored, nc_stored_giver_free);
}

/*
 * The right is on disk here, and the machine may have run for a moment: giving it back could make it run a second time,
 * from an earlier state. The source is told that nobody knows, and asks its operator.
 */
void
nc_destination_lose(NcMigration *m, const GError *reason)
{
  const char *consequence = m->state == NC_D_FETCHING ? "What it has done here since the switch is lost"
                                                      : "It may have run here for a moment, so it is not given back by itself";
  g_autofree char *text = g_strdup_printf("%s. %s", reason->message, consequence);
  g_autoptr(GError) error = g_error_new_literal(NC_ERROR, reason->code, text);
  g_autoptr(GError) problem = NULL;

  /* What is said to be lost must never run again, not even for the moment between two crashes of ours. */
  if (!nc_machine_lease_kill_qemu(m->lease, &problem)) {
    nc_log(NC_LOG_ERR, "agent", "migration %s: %s: the machine's QEMU on the destination can't be ended, so it is not called lost", m->id,
           problem->message);
    return;
  }
  nc_fault_point("destination-before-lost");
  nc_migration_set(m, "unconfirmed", json_true());
  nc_migration_step(m, NC_EV_LOST, text);
  nc_migration_tell(m, json_pack("{s:s, s:s, s:s, s:b}", "type", "mig_unknown", "migration", m->id, "detail", text, "lost", 1), NULL);
  nc_destination_end_mover(m);
  nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_ARRIVED);
  nc_migration_finish(m, "failed", error);
  nc_migration_tell_head(m);
}

void
nc_destination_refuse(NcMigration *m, const char *outcome, const GError *reason)
{
  g_autoptr(GError) error = NULL;
  NcRightState from = m->state == NC_D_TAKEN ? NC_RIGHT_HELD : NC_RIGHT_INCOMING;

  if (m->lease && !nc_machine_lease_kill_qemu(m->lease, &error)) {
    /* A QEMU that can't be killed might run: then nothing may be promised. */
    nc_log(NC_LOG_ERR, "agent", "migration %s: %s: the machine's QEMU on the destination can't be ended, so it is not refused",
           m->id, error->message);
    return;
  }
  nc_destination_end_mover(m);
  nc_fault_point("destination-before-refuse");
  if (!nc_migration_move_right(m, from, m->epoch, NC_RIGHT_REFUSED, m->epoch, &error)) {
    if (from == NC_RIGHT_HELD) { /* a right that is on disk here can't be another's */
      nc_destination_lose(m, error);
      return;
    }
    /* INCOMING without a QEMU can't start either, and recovery will write it: saying it is true already. */
    nc_log(NC_LOG_ERR, "agent", "migration %s: %s", m->id, error->message);
    g_clear_error(&error);
  }
  nc_fault_point("destination-after-refuse");
  nc_destination_remove_disks(m);
  nc_migration_step(m, NC_EV_REFUSE, reason->message);
  nc_migration_tell(m, json_pack("{s:s, s:s, s:o}", "type", "mig_refused", "migration", m->id, "error", nc_error_to_json(reason)),
                    NULL);
  if (m->lease)
    nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_DISCARD);
  nc_migration_finish(m, outcome, reason);
  nc_migration_tell_head(m);
}

void
nc_destination_tell_started(NcDestination *d)
{
  NcMigration *m = d->m;
  nc_autojson json_t *record = nc_migration_snapshot(m);
  json_t *message =
      json_pack("{s:s, s:s, s:I, s:I, s:s, s:I, s:b, s:b}", "type", "mig_started", "migration", m->id, "epoch", (json_int_t)m->epoch,
                "resume_us", (json_int_t)d->resume_us, "sha256", nc_json_string_or(record, "sha256", ""), "stream_bytes",
                (json_int_t)nc_json_int_or(record, "stream_bytes", 0), "postcopy", m->state == NC_D_FETCHING, "broken", d->broken);
  nc_migration_tell(m, message, NULL);
}

/* QEMU emits RESUME before it answers `cont`, so it is in the queue already; anything else there is handled later. */
static void
nc_destination_find_resume(NcDestination *d)
{
  GQueue *said = nc_inbox_take_all(d->m->inbox, NC_FROM_QMP);
  NcInboxItem *item;

  while ((item = g_queue_pop_head(said)) != NULL) {
    if (g_strcmp0(nc_json_string_or(item->message, "event", ""), "RESUME") == 0)
      d->resume_us = nc_qmp_event_us(item->message);
    else
      nc_inbox_push(d->m->inbox, item->source, g_steal_pointer(&item->message));
    nc_inbox_item_free(item);
  }
  g_queue_free(said);
  if (d->resume_us == 0)
    d->resume_us = nc_wall_us();
}

static bool
nc_destination_is_alive(NcDestination *d, char **ret_detail)
{
  NcQmp *qmp = nc_machine_lease_qmp(d->m->lease);
  if (d->running)
    return nc_liveness_check(qmp, nc_machine_lease_pid(d->m->lease), ret_detail);
  *ret_detail = g_strdup("paused, as it was at the source");
  return qmp && nc_qmp_is_alive(qmp);
}

/*
 * What is dead before it is told to run has not run, and what stands still afterwards neither: then the source may have it
 * back. Of what dies in between nobody knows.
 */
static bool
nc_destination_cont(NcDestination *d, NcQmp *qmp, bool postcopy)
{
  NcMigration *m = d->m;
  const char *here = nc_nodes_self(m->deps->nodes);
  g_autoptr(GError) error = NULL;

  if (!nc_qemu_is_stopped(qmp)) {
    nc_fail(&error, NC_ERROR_QEMU, "the QEMU on the destination (%s) died before it could start the machine", here);
    nc_destination_refuse(m, "failed", error);
    return false;
  }
  nc_fault_point("destination-before-cont");
  if (nc_qemu_cont(qmp, &error))
    return true;
  if (postcopy && error->code == NC_ERROR_TIMEOUT && nc_machine_lease_is_alive(m->lease)) {
    d->to_cont = true; /* its devices wait for pages; it is ours, and will run when they are here */
    nc_migration_note(m, "warning", "QEMU has not started the machine yet: %s", error->message);
    return true;
  }
  bool stands_still = nc_qemu_is_stopped(qmp);
  g_prefix_error(&error, "the QEMU on the destination (%s) would not start the machine: ", here);
  if (stands_still)
    nc_destination_refuse(m, "failed", error);
  else
    nc_destination_lose(m, error);
  return false;
}

void
nc_destination_say_started(NcDestination *d)
{
  NcMigration *m = d->m;
  g_autoptr(GError) error = NULL;
  g_autoptr(GError) refusal = NULL;

  nc_destination_tell_started(d);
  /* In post-copy QEMU may wait for a page itself; others wait for us then. */
  int patience_ms = m->state == NC_D_FETCHING ? NC_ANNOUNCE_FETCHING_MS : NC_ANNOUNCE_MS;
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);
  if (qmp && !nc_qemu_announce_self(qmp, patience_ms, &error) && (m->state != NC_D_FETCHING || error->code != NC_ERROR_TIMEOUT))
    nc_migration_note(m, "warning", "the machine could not announce itself to the network: %s", error->message);
  if (!nc_migration_run_hooks(m, "post-", &refusal)) /* it runs here all the same: the operator's network has to follow */
    nc_migration_note(m, "warning", "%s", refusal->message);
}

void
nc_destination_report_alive(NcDestination *d)
{
  NcMigration *m = d->m;
  g_autofree char *detail = NULL;
  bool alive = nc_destination_is_alive(d, &detail);

  nc_migration_note(m, alive ? "seen-alive" : "not-alive", "%s", detail);
  nc_migration_tell(m, json_pack("{s:s, s:s, s:b, s:s}", "type", "mig_alive", "migration", m->id, "alive", alive, "detail", detail),
                    NULL);
}

void
nc_destination_take(NcDestination *d, bool postcopy)
{
  NcMigration *m = d->m;
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);
  g_autoptr(GError) error = NULL;

  if (!qmp)
    nc_fail(&error, NC_ERROR_QEMU, "QEMU on the destination (%s) died before it could start the machine", nc_nodes_self(m->deps->nodes));
  else if ((!postcopy || nc_destination_await_package(d, qmp, &error)) && nc_destination_end_exports(m, qmp, &error)) {
    nc_fault_point("destination-before-take");
    nc_migration_set(m, "postcopy", json_boolean(postcopy)); /* a crash must not make us forget that pages are missing */
    nc_migration_persist(m, false, NULL);
    nc_migration_move_right(m, NC_RIGHT_INCOMING, m->epoch, NC_RIGHT_HELD, m->epoch, &error);
  }
  if (error) {
    nc_destination_refuse(m, "failed", error);
    return;
  }
  nc_fault_point("destination-after-take");
  nc_migration_step(m, NC_EV_LOADED, NULL);
  if (d->running && !nc_destination_cont(d, qmp, postcopy))
    return;
  nc_destination_find_resume(d);
  nc_fault_point("destination-after-cont");
  nc_destination_keep_disks(m);
  nc_migration_step(m, postcopy ? NC_EV_CONT_POSTCOPY : NC_EV_CONT, d->running ? NULL : "paused, as it was at the source");
  d->running_since_us = nc_mono_us();
  nc_destination_say_started(d);
  if (!postcopy)
    nc_destination_report_alive(d);
}

void
nc_destination_done(NcDestination *d, bool confirmed)
{
  NcMigration *m = d->m;
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);

  if (!confirmed)
    nc_migration_set(m, "unconfirmed", json_true());
  nc_migration_step(m, NC_EV_DONE, NULL);
  nc_destination_end_mover(m);
  nc_warm_return_keep(m);
  if (qmp)
    nc_spare_monitor_end(qmp);
  nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_ARRIVED);
  nc_migration_finish(m, "completed", NULL);
  /* Now the machine is free for whatever comes next: the source waits for this word. */
  nc_migration_tell(m, json_pack("{s:s, s:s}", "type", "mig_done", "migration", m->id), NULL);
  nc_migration_tell_head(m);
}
