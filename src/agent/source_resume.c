/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest goes on where it was: the source's QEMU is brought out of its migration with all it has.
 *
 * Until it has switched to post-copy that is migrate_cancel. From then on a cancel may hang for ever: it shuts QEMU's socket down before it
 * says "cancelling", and a migration thread (7.2) that sees the one before the other takes it for a broken link,
 * pauses, and is not woken any more (reference, section 5.6). So QEMU is let finish instead: it writes all that is left, which nobody
 * keeps, and hears that all has arrived. Its memory is as it was at the switch, and `cont` is allowed.
 */
#include "agent/source_migration.h"
#include "base/ident.h"
#include "qemu/migration_qmp.h"

#define NC_RESUME_POLL_US 10000
#define NC_RESUME_PATIENCE_US 15000000 /* without a step forward; QEMU ends a cancelled migration in well under a second */
#define NC_RESUME_SETTLE_US 200000     /* a migrate-continue that was sent before a crash would have shown by then */
#define NC_RESUME_QUIET_US 500000      /* QEMU has written its last */
#define NC_RESUME_QUIET_LONG_US 3000000 /* if QEMU does not say that nothing remains: it counts pages */
#define NC_RESUME_CONT_MS 15000

typedef struct {
  NcSource *s;
  NcQmp *qmp;
  NcQemuMigrationStatus status;
  int64_t status_since_us;
  bool cancelled; /* in this status */
  uint64_t drained_bytes;
  int64_t progress_us; /* when we last saw a step forward */
} NcSourceResume;

static uint64_t
nc_source_resume_drained(NcSource *s)
{
  return (s->keeper ? nc_keeper_drained_bytes(s->keeper) : 0) + (s->preempt_keeper ? nc_keeper_drained_bytes(s->preempt_keeper) : 0);
}

/* QEMU (7.2) has noticed a broken connection: there is no way back from here, and a cancel would hang. */
static bool
nc_source_resume_is_hopeless(NcQemuMigrationStatus status)
{
  return status == NC_QEMU_MIGRATION_POSTCOPY_PAUSED || status == NC_QEMU_MIGRATION_POSTCOPY_RECOVER;
}

static void
nc_source_resume_cancel(NcSourceResume *r, int64_t now_us)
{
  bool may_have_begun = r->s->postcopy && r->status == NC_QEMU_MIGRATION_PRE_SWITCHOVER;

  if (r->cancelled || (may_have_begun && now_us - r->status_since_us < NC_RESUME_SETTLE_US))
    return;
  r->cancelled = true;
  nc_qemu_migrate_cancel(r->qmp, NULL);
}

/* All is written and nothing more comes: then, not sooner, since QEMU's return path takes its second channel with it. */
static void
nc_source_resume_finish(NcSourceResume *r, uint64_t remaining_bytes, int64_t now_us)
{
  int64_t quiet_us = remaining_bytes ? NC_RESUME_QUIET_LONG_US : NC_RESUME_QUIET_US;

  if (now_us - r->progress_us >= quiet_us && r->s->keeper)
    nc_keeper_say_arrived(r->s->keeper);
}

/* False: the migration is at its end. */
static bool
nc_source_resume_step(NcSourceResume *r)
{
  NcQemuMigrationInfo info;

  if (!nc_qemu_migration_query(r->qmp, &info, NULL))
    return nc_qmp_is_alive(r->qmp);
  int64_t now_us = nc_mono_us();
  uint64_t drained_bytes = nc_source_resume_drained(r->s);
  if (info.status != r->status) {
    r->status = info.status;
    r->status_since_us = r->progress_us = now_us;
    r->cancelled = false;
  }
  if (drained_bytes != r->drained_bytes) {
    r->drained_bytes = drained_bytes;
    r->progress_us = now_us;
  }
  if (info.status == NC_QEMU_MIGRATION_POSTCOPY)
    nc_source_resume_finish(r, info.ram_remaining_bytes, now_us);
  else if (!nc_source_resume_is_hopeless(info.status))
    nc_source_resume_cancel(r, now_us);
  nc_qemu_migration_info_clear(&info);
  return nc_qemu_migration_status_is_under_way(r->status);
}

static bool
nc_source_resume_await_end(NcSource *s, NcQmp *qmp, GError **error)
{
  NcSourceResume r = { .s = s, .qmp = qmp, .status = NC_QEMU_MIGRATION_NONE, .progress_us = nc_mono_us() };

  while (nc_source_resume_step(&r)) {
    if (nc_source_resume_is_hopeless(r.status) || nc_mono_us() - r.progress_us >= NC_RESUME_PATIENCE_US)
      return nc_fail(error, NC_ERROR_QEMU,
                     "the QEMU of %s on the source (%s) does not come out of its migration (it says %s), so the machine can't go on from where it "
                     "was: end it with `novacron vm stop --force %s` and start it anew",
                     s->m->vm, nc_nodes_self(s->m->deps->nodes), nc_qemu_migration_status_name(r.status), s->m->vm);
    g_usleep(NC_RESUME_POLL_US);
  }
  return true;
}

static NcQmp *
nc_source_resume_qmp(NcSource *s, GError **error)
{
  NcMigration *m = s->m;
  NcQmp *qmp = m->lease ? nc_machine_lease_qmp(m->lease) : NULL;

  if (!qmp)
    nc_fail(error, NC_ERROR_QEMU, "the machine's QEMU on the source (%s) is gone: start the machine anew with `novacron vm start %s`",
            nc_nodes_self(m->deps->nodes), m->vm);
  return qmp;
}

bool
nc_source_resume_end_migration(NcSource *s, GError **error)
{
  NcQmp *qmp = nc_source_resume_qmp(s, error);

  if (!qmp)
    return false;
  bool ended = nc_source_resume_await_end(s, qmp, error);
  g_clear_pointer(&s->keeper, nc_keeper_free);
  g_clear_pointer(&s->preempt_keeper, nc_keeper_free);
  nc_qemu_closefd(qmp, NC_KEEPER_NAME, NULL);
  nc_qemu_closefd(qmp, NC_KEEPER_PREEMPT_NAME, NULL);
  nc_source_disks_undo(s->m, qmp);
  return ended;
}

bool
nc_source_resume_cont(NcSource *s, GError **error)
{
  NcMigration *m = s->m;
  NcQmp *qmp = nc_source_resume_qmp(s, error);

  if (!qmp)
    return false;
  if (!s->was_running || nc_qemu_cont_after_migration(qmp, NC_RESUME_CONT_MS, error))
    return true;
  g_prefix_error(error, "%s stands still on the source (%s), nothing of it is lost; let it go on with `novacron vm start %s`: ", m->vm,
                 nc_nodes_self(m->deps->nodes), m->vm);
  return false;
}
