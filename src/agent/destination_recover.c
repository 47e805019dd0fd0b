/* SPDX-License-Identifier: Apache-2.0 */
/* What a novacrond that was restarted makes of a migration to here: by the run right on disk, and by what QEMU says. */
#include "agent/destination.h"
#include "agent/destination_disks.h"
#include "agent/spare_monitor.h"
#include "base/ident.h"
#include "base/log.h"
#include "qemu/migration_qmp.h"

/* The record says how far it was, and QEMU whether pages are still missing, unless it waits for one of them itself. */
static bool
nc_destination_is_fetching(NcQmp *qmp, json_t *record)
{
  switch (qmp ? nc_qemu_migration_status(qmp) : NC_QEMU_MIGRATION_NONE) {
  case NC_QEMU_MIGRATION_POSTCOPY:
  case NC_QEMU_MIGRATION_POSTCOPY_PAUSED:
  case NC_QEMU_MIGRATION_POSTCOPY_RECOVER:
    return true;
  case NC_QEMU_MIGRATION_NONE:
    return nc_json_bool_or(record, "postcopy", false);
  default:
    return false;
  }
}

static gpointer
nc_destination_fetching_thread(gpointer data)
{
  NcDestination *d = data;
  nc_destination_loop(d);
  g_free(d);
  return NULL;
}

/* It runs here, and the source's QEMU has pages that it needs: the source will ask, and begin a recovery. */
static void
nc_destination_recover_fetching(NcMigration *m, bool running, bool runs)
{
  NcDestination *d = g_new0(NcDestination, 1);

  d->m = m;
  d->running = running;
  d->to_cont = running && !runs;
  d->granted = true;
  d->broken = true;
  d->cut_off_since_us = nc_mono_us();
  m->state = NC_D_FETCHING;
  nc_migration_set(m, "state", json_string(nc_handoff_state_name(m->state)));
  nc_migration_set(m, "phase", json_string(nc_handoff_phase(m->state)));
  nc_migration_note(m, "recovered", "novacrond was restarted in post-copy: waiting for %s, which has the missing pages", m->peer);
  nc_migration_watch_qemu(m);
  m->thread = g_thread_new("mig-fetching", nc_destination_fetching_thread, d);
}

/* All is here, and it runs: only the source has yet to hear of it. */
static void
nc_destination_recover_arrived(NcMigration *m, NcQmp *qmp)
{
  nc_qemu_announce_self(qmp, NC_ANNOUNCE_MS, NULL);
  nc_spare_monitor_end(qmp);
  nc_destination_keep_disks(m);
  m->state = NC_D_RUNNING;
  nc_migration_set(m, "unconfirmed", json_true());
  nc_migration_step(m, NC_EV_DONE, "novacrond was restarted; the machine runs here");
  nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_ARRIVED);
  nc_migration_finish(m, "completed", NULL);
}

/* HELD: the machine is ours; whether `cont` was sent before the crash or not, it must run now. */
static void
nc_destination_recover_held(NcMigration *m)
{
  g_autoptr(GError) error = NULL;
  m->lease = nc_machines_lease_resume(m->deps->machines, m->vm, m->id, &error);
  NcQmp *qmp = m->lease ? nc_machine_lease_qmp(m->lease) : NULL;

  nc_autojson json_t *record = nc_migration_snapshot(m);
  bool paused = !nc_json_bool_or(record, "was_running", true);
  bool fetching = m->lease && nc_machine_lease_is_alive(m->lease) && nc_destination_is_fetching(qmp, record);
  if (qmp && !nc_destination_end_exports(m, qmp, &error)) /* the crash may have come before it */
    nc_migration_note(m, "warning", "%s", error->message);
  g_clear_error(&error);
  bool runs = qmp && (paused || nc_qemu_is_running(qmp) || nc_qemu_cont(qmp, &error));
  if (fetching && nc_machine_lease_is_alive(m->lease)) {
    nc_destination_keep_disks(m);
    nc_destination_recover_fetching(m, !paused, runs);
    return;
  }
  if (runs) {
    nc_destination_recover_arrived(m, qmp);
    return;
  }
  if (!error)
    nc_fail(&error, NC_ERROR_QEMU, "%s was taken over here (%s), but its QEMU is gone", m->vm, nc_nodes_self(m->deps->nodes));
  if (m->lease)
    nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_ARRIVED);
  m->state = NC_D_COMPLETED;
  nc_migration_set(m, "unconfirmed", json_true());
  nc_migration_finish(m, "failed", error);
}

void
nc_destination_migration_recover(NcMigration *m, const NcRight *right)
{
  g_autoptr(GError) error = NULL;
  nc_fail(&error, NC_ERROR_INTERNAL, "novacrond on the destination (%s) was restarted in the middle", nc_nodes_self(m->deps->nodes));

  if (right->epoch == m->epoch && right->state == NC_RIGHT_HELD) {
    nc_destination_recover_held(m);
  } else if (right->epoch == m->epoch && right->state == NC_RIGHT_INCOMING) {
    g_autoptr(GError) problem = NULL;
    m->lease = nc_machines_lease_resume(m->deps->machines, m->vm, m->id, &problem);
    if (!m->lease)
      nc_log(NC_LOG_WARNING, "agent", "migration %s: %s", m->id, problem->message);
    m->state = NC_D_RECEIVING;
    nc_destination_refuse(m, "failed", error);
  } else {
    m->state = NC_D_REFUSED;
    if (right->epoch == m->epoch && right->state == NC_RIGHT_REFUSED) /* only then it is certain that nobody has them */
      nc_destination_remove_disks(m);
    nc_migration_finish(m, "failed", error);
  }
}
