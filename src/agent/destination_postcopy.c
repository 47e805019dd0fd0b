/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's half of post-copy, from the switch until all pages are here.
 *
 * The machine runs here and the right is on disk here. Its missing pages are in the
 * source's QEMU, and nowhere else. A mover, an agent or the link that dies in
 * between stops the flow and nothing else: QEMU waits (postcopy-paused), the guest
 * stands still at the next page it lacks, and the source, which knows both
 * sides' way, begins a recovery as often as it takes. Only the death of one of the
 * two QEMUs is final.
 */
#include "agent/destination.h"
#include "agent/spare_monitor.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/io.h"
#include "qemu/migration_qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NC_PACKAGE_MS 20000       /* from PONG to a QEMU that can be told to run: devices may wait for pages of a slow link */
#define NC_PACKAGE_POLL_US 2000
#define NC_PAUSED_MS 15000        /* for QEMU to notice that its connection broke */
#define NC_PAUSED_POLL_US 100000
#define NC_LOOK_US 1000000        /* at QEMU's state, if its event was missed */
#define NC_LOOK_MS 200
#define NC_LOOKS_UNANSWERED 3
#define NC_CUT_OFF_US 5000000     /* then people are told */
#define NC_SOURCE_LOST_US 30000000 /* for its last pages to come, and for QEMU to say that it waits in vain */

bool
nc_postcopy_is_possible(int *ret_problem)
{
  struct uffdio_api api = { .api = UFFD_API };
  nc_autofd int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
  bool works = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;

  if (!works && ret_problem)
    *ret_problem = errno;
  return works;
}

bool
nc_destination_await_package(NcDestination *d, NcQmp *qmp, GError **error)
{
  int64_t deadline = nc_mono_us() + NC_PACKAGE_MS * INT64_C(1000);

  while (!nc_qemu_is_loaded(qmp)) {
    if (!nc_qmp_is_alive(qmp))
      return nc_fail(error, NC_ERROR_QEMU, "the QEMU on the destination (%s) died while it loaded the device state",
                     nc_nodes_self(d->m->deps->nodes));
    if (nc_mono_us() > deadline)
      return nc_fail(error, NC_ERROR_TIMEOUT, "the QEMU on the destination (%s) has not loaded the device state within %d s",
                     nc_nodes_self(d->m->deps->nodes), NC_PACKAGE_MS / 1000);
    g_usleep(NC_PACKAGE_POLL_US);
  }
  return true;
}

void
nc_destination_fetching_mover_gone(NcDestination *d, const GError *reason)
{
  if (d->broken)
    return;
  d->broken = true;
  nc_migration_note(d->m, "flow-broken", "%s; the machine runs here and waits for pages it lacks until the movers are back",
                    reason->message);
  nc_destination_end_mover(d->m);
  nc_inbox_drop_all(d->m->inbox, NC_FROM_MOVER);
  nc_destination_tell_started(d);
}

void
nc_destination_fetching_qemu_gone(NcDestination *d)
{
  g_autofree char *tail = nc_machine_lease_log_tail(d->m->lease);
  g_autoptr(GError) error = NULL;

  nc_fail(&error, NC_ERROR_QEMU, "the QEMU on the destination (%s) died in post-copy: %s", nc_nodes_self(d->m->deps->nodes), tail);
  nc_destination_lose(d->m, error);
}

static void
nc_destination_fetched(NcDestination *d)
{
  NcMigration *m = d->m;

  nc_fault_point("destination-fetched");
  if (!nc_migration_step(m, NC_EV_FETCHED, NULL))
    return;
  nc_migration_set(m, "attention", json_null());
  d->running_since_us = nc_mono_us();
  nc_destination_tell_started(d);
  nc_destination_report_alive(d);
}

void
nc_destination_source_lost(NcDestination *d)
{
  if (d->source_lost_us)
    return;
  d->source_lost_us = nc_mono_us();
  nc_migration_note(d->m, "source-lost", "the QEMU on the source (%s) is dead: what has left it is waited for", d->m->peer);
}

void
nc_destination_fetching_give_up(NcDestination *d)
{
  g_autoptr(GError) error = NULL;

  nc_fail(&error, NC_ERROR_ATTENTION, "an operator said that %s, which has the missing pages of %s, will not come back", d->m->peer, d->m->vm);
  nc_destination_lose(d->m, error);
}

/*
 * The source's QEMU is dead. Its last pages may still be on their way, so QEMU is asked only when the mover has delivered all there
 * is. A QEMU that does not answer then waits for a page itself.
 */
static void
nc_destination_settle_source_lost(NcDestination *d, NcQemuMigrationStatus status)
{
  bool waited_long = nc_mono_us() - d->source_lost_us > NC_SOURCE_LOST_US;
  g_autoptr(GError) error = NULL;

  if (d->m->mover && !d->stream_ended && !waited_long)
    return;
  if (d->m->mover) { /* QEMU notices by this that nothing more will come */
    nc_destination_end_mover(d->m);
    nc_inbox_drop_all(d->m->inbox, NC_FROM_MOVER);
    return;
  }
  if (status != NC_QEMU_MIGRATION_POSTCOPY_PAUSED && !waited_long)
    return;
  nc_fail(&error, NC_ERROR_QEMU, "the QEMU on the source (%s) died in post-copy, and with it pages that are not here", d->m->peer);
  nc_destination_lose(d->m, error);
}

/* QEMU takes this only once it has noticed that its connection is gone. */
static bool
nc_destination_listen_again(NcQmp *qmp, const char *path, GError **error)
{
  int64_t deadline = nc_mono_us() + NC_PAUSED_MS * INT64_C(1000);

  for (;;) {
    g_autoptr(GError) problem = NULL;
    if (nc_qemu_migrate_recover(qmp, path, &problem))
      return true;
    if (!nc_qmp_is_alive(qmp) || nc_mono_us() > deadline) {
      g_propagate_error(error, g_steal_pointer(&problem));
      return false;
    }
    g_usleep(NC_PAUSED_POLL_US);
  }
}

static bool
nc_destination_try_recover(NcDestination *d, json_t *message, GError **error)
{
  NcMigration *m = d->m;
  NcQmp *qmp = nc_machine_lease_qmp(m->lease);
  g_autoptr(NcQmp) spare = qmp ? NULL : nc_spare_monitor_take(m, error);
  g_autofree char *name = g_strdup_printf("in-%u.sock", ++d->recoveries);
  g_autofree char *path = g_build_filename(nc_machine_lease_run_dir(m->lease), name, NULL);

  if (!qmp && !spare)
    return false;
  unlink(path);
  return nc_destination_listen_again(qmp ? qmp : spare, path, error) && nc_destination_start_mover(m, message, error) &&
         nc_destination_connect_qemu(m, path, nc_json_bool_or(message, "preempt", false), error);
}

void
nc_destination_fetching_recover(NcDestination *d, json_t *message)
{
  NcMigration *m = d->m;
  g_autoptr(GError) error = NULL;

  nc_destination_end_mover(m); /* with it the connection of QEMU's that it may still have */
  nc_inbox_drop_all(m->inbox, NC_FROM_MOVER);
  d->broken = true;
  nc_fault_point("destination-recover");
  if (!nc_destination_try_recover(d, message, &error)) {
    nc_destination_end_mover(m);
    nc_inbox_drop_all(m->inbox, NC_FROM_MOVER);
    nc_migration_note(m, "warning", "the flow of pages could not be taken up again: %s", error->message);
    nc_migration_tell(m, json_pack("{s:s, s:s, s:o}", "type", "mig_unrecovered", "migration", m->id, "error", nc_error_to_json(error)),
                      NULL);
    return;
  }
  d->broken = false;
  nc_migration_note(m, "recovering", "QEMU waits for the rest of its pages");
  nc_migration_tell(m, json_pack("{s:s, s:s}", "type", "mig_recovering", "migration", m->id), NULL);
}

static void
nc_destination_fetching_attention(NcDestination *d, bool cut_off)
{
  NcMigration *m = d->m;

  if (cut_off == d->attention)
    return;
  d->attention = cut_off;
  g_autofree char *text =
      g_strdup_printf("%s runs here (%s) and %s has pages that it lacks, but can't be reached; it stands still when it needs one. "
                      "Do not power %s off. The flow is taken up again by itself when the agents hear each other. If %s is gone for good, the machine "
                      "is lost: novacron resolve %s --give-up ends it here, so that it can be started anew",
                      m->vm, nc_nodes_self(m->deps->nodes), m->peer, m->peer, m->peer, m->id);
  nc_migration_set(m, "attention", cut_off ? json_string(text) : json_null());
  nc_migration_set(m, "phase", json_string(cut_off ? "needs_attention" : nc_handoff_phase(m->state)));
  if (cut_off)
    nc_migration_note(m, "needs_attention", "%s", text);
}

/*
 * Its event says when all pages are here; this is for when that was missed. A QEMU whose main loop waits for a page does not answer,
 * and must not be asked often.
 */
static NcQemuMigrationStatus
nc_destination_look(NcDestination *d, NcQmp *qmp)
{
  NcQemuMigrationInfo info = { 0 };
  bool answers = d->unanswered < NC_LOOKS_UNANSWERED && nc_qemu_migration_query_for(qmp, NC_LOOK_MS, &info, NULL);

  d->unanswered = answers ? 0 : MIN(d->unanswered + 1, NC_LOOKS_UNANSWERED);
  nc_qemu_migration_info_clear(&info);
  return answers ? info.status : NC_QEMU_MIGRATION_NONE;
}

void
nc_destination_fetching_tick(NcDestination *d)
{
  int64_t now_us = nc_mono_us();
  NcQmp *qmp = nc_machine_lease_qmp(d->m->lease);

  if (!d->loaded && qmp && now_us >= d->next_look_us && (!d->broken || d->source_lost_us)) {
    NcQemuMigrationStatus status = nc_destination_look(d, qmp);
    if (d->to_cont && status != NC_QEMU_MIGRATION_NONE)
      d->to_cont = !nc_qemu_cont(qmp, NULL);
    d->loaded = status == NC_QEMU_MIGRATION_COMPLETED;
    d->next_look_us = nc_mono_us() + NC_LOOK_US;
    if (!d->loaded && d->source_lost_us)
      nc_destination_settle_source_lost(d, status);
  }
  if (d->m->state != NC_D_FETCHING)
    return;
  nc_destination_fetching_attention(d, !d->loaded && d->cut_off_since_us && now_us - d->cut_off_since_us > NC_CUT_OFF_US);
  if (d->loaded)
    nc_destination_fetched(d);
}
