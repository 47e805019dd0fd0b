/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Back to the running source: the eight steps where our QEMU still has everything.
 *
 * Two ways lead here: an attempt that failed or was cancelled before the release, and one that the destination (or an operator in its
 * place) declined after it. The second differs in one step only: to fence the destination means to take the right
 * back, HELD(n+1) on disk, and nothing that could let the guest go on is done before that.
 *
 * The machine comes first: a journal that can't be written to is logged and keeps nobody from resuming a guest
 * whose right is held here.
 */
#include "agent/liveness.h"
#include "agent/source_migration.h"
#include "agent/source_retry.h"
#include "base/fault.h"
#include "base/ident.h"
#include "base/log.h"

#define NC_SOURCE_RESUME_TRIES 3
#define NC_SOURCE_ALIVE_MS 300 /* a novacrond that starts may have many to bring back, one after the other */

NcRollback *
nc_source_rollback_begin(NcSource *s, const GError *reason)
{
  NcMigration *m = s->m;
  int64_t attempt = nc_migration_int(m, "attempt");
  g_autoptr(NcRollback) present = nc_rollback_find(m->deps->journal, m->id, attempt);
  const NcRollbackOrder order = { .mode = NC_RB_TO_SOURCE,
                                  .migration = m->id,
                                  .vm = m->vm,
                                  .attempt = attempt,
                                  .cause = reason,
                                  .cancelled = reason->code == NC_ERROR_CANCELLED && g_atomic_int_get(&m->cancel_requested) };

  if (present && !nc_rollback_is_finished(present))
    return g_steal_pointer(&present);
  return nc_rollback_new(m->deps->journal, &order, false, NULL);
}

/* --- 1: stop the transfer --- */

static bool
nc_source_rollback_stop(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSource *s = data;
  NcMigration *m = s->m;

  if (s->rollback_reason) /* before the release: it does not know yet */
    nc_migration_tell(m, json_pack("{s:s, s:s, s:o}", "type", "mig_abort", "migration", m->id, "error", nc_error_to_json(s->rollback_reason)),
                      NULL);
  nc_source_end_mover(s);
  nc_migration_flow_is_over(m);
  result->detail = g_strdup_printf("the mover on the source has ended: nothing flows to %s any more", m->peer);
  return true;
}

/* --- 2: fence the destination --- */

/* Under the next epoch: what the destination still has is of one that it can't run any more. */
static bool
nc_source_rollback_reclaim(NcMigration *m, NcRollbackResult *result, GError **error)
{
  nc_fault_point("source-before-reclaim");
  if (!nc_migration_move_right(m, NC_RIGHT_RELEASED, m->epoch, NC_RIGHT_HELD, m->epoch + 1, error))
    return false;
  nc_fault_point("source-after-reclaim");
  result->detail = g_strdup_printf("%s can't run epoch %" G_GUINT64_FORMAT " any more; the right is held here again, epoch %" G_GUINT64_FORMAT,
                                   m->peer, m->epoch, m->epoch + 1);
  return true;
}

static bool
nc_source_rollback_fence(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSource *s = data;
  NcMigration *m = s->m;
  g_autoptr(GError) problem = NULL;
  NcRight right;

  if (!nc_journal_get_right(m->deps->journal, m->vm, &right, &problem)) {
    if (!s->rollback_reason) {
      g_propagate_error(error, g_steal_pointer(&problem));
      return false;
    }
    /* It has not been released: only that could have changed it, and only this thread does that. */
    result->detail = g_strdup_printf("no grant has left for %s (the journal can't be read again: %s)", m->peer, problem->message);
    return true;
  }
  if (right.state == NC_RIGHT_HELD) {
    result->detail =
        g_strdup_printf("the right is held here, epoch %" G_GUINT64_FORMAT "; without a grant %s can't run it", right.epoch, m->peer);
    return true;
  }
  if (right.state == NC_RIGHT_RELEASED && right.epoch == m->epoch)
    return nc_source_rollback_reclaim(m, result, error);
  return nc_fail(error, NC_ERROR_CONFLICT,
                 "the right to run %s is %s here (%s), epoch %" G_GUINT64_FORMAT ", so it is not let go on: look at %s, and if it "
                 "can't run there, define it here with `take`",
                 m->vm, nc_right_name(right.state), nc_nodes_self(m->deps->nodes), right.epoch, m->peer);
}

bool
nc_source_rollback_secure(NcSource *s, NcRollback *r, GError **error)
{
  return nc_rollback_step(r, NC_RB_STOP_TRANSFER, nc_source_rollback_stop, s, 1, NULL, error) &&
         nc_rollback_step(r, NC_RB_FENCE, nc_source_rollback_fence, s, 1, NULL, error);
}

/* --- 3 to 8 --- */

/* From here on nobody needs what QEMU still writes; and in its last phase it would not hear us before that is read. */
static void
nc_source_rollback_drain(NcSource *s)
{
  if (s->keeper)
    nc_keeper_drain(s->keeper);
  if (s->preempt_keeper)
    nc_keeper_drain(s->preempt_keeper);
}

static bool
nc_source_rollback_verify(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSource *s = data;
  NcMigration *m = s->m;
  const char *here = nc_nodes_self(m->deps->nodes);

  if (!m->lease || !nc_machine_lease_qmp(m->lease))
    return nc_fail(error, NC_ERROR_QEMU, "the machine's QEMU on the source (%s) is gone: start the machine anew with `novacron vm start %s`", here,
                   m->vm);
  nc_source_rollback_drain(s);
  result->detail = g_strdup_printf("QEMU (process %d) on the source (%s) lives and has all of the machine",
                                   (int)nc_machine_lease_pid(m->lease), here);
  return true;
}

static bool
nc_source_rollback_disks(gpointer data, NcRollbackResult *result, GError **error)
{
  result->nothing = true;
  result->detail = g_strdup("the source is live: its disks were never another's");
  return true;
}

static bool
nc_source_rollback_memory(gpointer data, NcRollbackResult *result, GError **error)
{
  result->nothing = true;
  result->detail = g_strdup("the source is live: its memory is in its QEMU");
  return true;
}

/*
 * QEMU lets the guest go on as soon as its migration is ended. That step 2 is recorded as done is a story; what allows it
 * is the right, so that is asked once more. Before the release only a journal that can't be read is let pass.
 */
static bool
nc_source_rollback_must_hold(NcSource *s, GError **error)
{
  NcMigration *m = s->m;
  g_autoptr(GError) problem = NULL;
  NcRight right;

  if (!nc_journal_get_right(m->deps->journal, m->vm, &right, &problem)) {
    if (s->rollback_reason)
      return true;
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
  }
  return right.state == NC_RIGHT_HELD ||
         nc_fail(error, NC_ERROR_CONFLICT, "the right to run %s is %s on the source (%s), epoch %" G_GUINT64_FORMAT ": it is not let go on", m->vm,
                 nc_right_name(right.state), nc_nodes_self(m->deps->nodes), right.epoch);
}

static bool
nc_source_rollback_devices(gpointer data, NcRollbackResult *result, GError **error)
{
  if (!nc_source_rollback_must_hold(data, error))
    return false;
  nc_source_rollback_drain(data); /* a restarted novacrond may begin here */
  if (!nc_source_resume_end_migration(data, error))
    return false;
  result->detail = g_strdup("QEMU is out of its migration, and its devices and network are its own again");
  return true;
}

static bool
nc_source_rollback_resume(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSource *s = data;
  NcMigration *m = s->m;

  if (!nc_source_resume_cont(s, error))
    return false;
  if (!s->was_running) {
    result->detail = g_strdup("paused, as it was before");
    return true;
  }
  if (nc_liveness_check_within(nc_machine_lease_qmp(m->lease), nc_machine_lease_pid(m->lease), NC_SOURCE_ALIVE_MS, &result->detail))
    return true;
  return nc_fail(error, NC_ERROR_QEMU,
                 "%s was resumed on the source (%s), and is not alive: %s. Look: `novacron vm show %s`; start it anew: "
                 "`novacron vm stop --force %s`, then `novacron vm start %s`",
                 m->vm, nc_nodes_self(m->deps->nodes), result->detail ? result->detail : "no answer", m->vm, m->vm, m->vm);
}

static bool
nc_source_rollback_clean_up(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSource *s = data;
  NcMigration *m = s->m;

  nc_source_end_mover(s);
  g_clear_pointer(&s->keeper, nc_keeper_free);
  g_clear_pointer(&s->preempt_keeper, nc_keeper_free);
  if (m->lease)
    nc_machine_lease_end(g_steal_pointer(&m->lease), NC_LEASE_STAYS);
  result->detail = g_strdup_printf("%s is free for what comes next", m->vm);
  return true;
}

bool
nc_source_rollback_return(NcSource *s, NcRollback *r, GError **error)
{
  return nc_rollback_step(r, NC_RB_VERIFY_BASE, nc_source_rollback_verify, s, 1, NULL, error) &&
         nc_rollback_step(r, NC_RB_DISKS, nc_source_rollback_disks, s, 1, NULL, error) &&
         nc_rollback_step(r, NC_RB_MEMORY, nc_source_rollback_memory, s, 1, NULL, error) &&
         nc_rollback_step(r, NC_RB_DEVICES, nc_source_rollback_devices, s, 1, NULL, error) &&
         nc_rollback_step(r, NC_RB_RESUME, nc_source_rollback_resume, s, NC_SOURCE_RESUME_TRIES, &s->m->quitting, error) &&
         nc_rollback_step(r, NC_RB_CLEAN_UP, nc_source_rollback_clean_up, s, 1, NULL, error);
}

void
nc_source_rollback_end(NcSource *s, NcRollback *r, const GError *problem)
{
  NcMigration *m = s->m;
  NcRollbackResult result = { .nothing = false };

  if (!problem) {
    if (!nc_rollback_is_finished(r))
      nc_rollback_complete(r);
    return;
  }
  nc_source_rollback_clean_up(s, &result, NULL); /* the machine must be free for what people are told to do */
  g_free(result.detail);
  g_autofree char *choice = g_strdup_printf("What there is to see: novacron status %s; novacron vm show %s", m->id, m->vm);
  nc_rollback_give_up(r, problem, choice);
}

void
nc_source_rollback_overtaken(NcMigration *m)
{
  g_autoptr(NcRollback) r = nc_rollback_find(m->deps->journal, m->id, nc_migration_int(m, "attempt"));
  if (r && !nc_rollback_is_finished(r))
    nc_rollback_withdraw(r, "the machine runs at its destination");
}

/* --- after a restart --- */

bool
nc_source_rollback_settle(NcSource *s)
{
  NcMigration *m = s->m;
  g_autoptr(NcRollback) r = nc_rollback_find(m->deps->journal, m->id, nc_migration_int(m, "attempt"));
  g_autoptr(GError) problem = NULL;

  if (!r || !nc_rollback_is_done(r, NC_RB_RESUME))
    return false;
  g_autoptr(GError) reason = nc_rollback_cause(r);
  if (!reason)
    return false;
  m->state = NC_S_ABORTING;
  nc_rollback_step(r, NC_RB_CLEAN_UP, nc_source_rollback_clean_up, s, 1, NULL, &problem);
  nc_source_rollback_end(s, r, problem);
  nc_source_finish_abort(s, r, reason, problem);
  return true;
}
