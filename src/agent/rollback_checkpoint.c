/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Back to a checkpoint: the machine as it was then, in place of the machine as it is.
 *
 * The running machine is ended only when the checkpoint has been verified (step 3), as the first act of step 4; until
 * then every failure leaves it running. Restoring is the checkpoints' business (rollback_steps.h).
 */
#include "agent/liveness.h"
#include "agent/rollback_ways.h"
#include "qemu/migration_qmp.h"

#define NC_SET_BACK_TRIES 3
#define NC_SET_BACK_ANNOUNCE_MS 10000

typedef struct {
  const NcRollbackWay *way;
  const char *vm, *checkpoint;
  NcMachineLease *lease;
} NcSetBack;

static bool
nc_set_back_stop(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  result->nothing = true;
  result->detail = g_strdup_printf("%s is in the hands of this rollback: nothing flows", b->vm);
  return true;
}

static bool
nc_set_back_fence(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  const char *here = nc_nodes_self(b->way->deps->nodes);
  NcRight right;

  if (!nc_journal_get_right(b->way->deps->journal, b->vm, &right, error))
    return false;
  if (right.state != NC_RIGHT_HELD)
    return nc_fail(error, NC_ERROR_CONFLICT, "the right to run %s is %s on %s", b->vm, nc_right_name(right.state), here);
  result->detail = g_strdup_printf("only %s may run it, epoch %" G_GUINT64_FORMAT, here, right.epoch);
  return true;
}

static bool
nc_set_back_verify(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  const NcRollbackSteps *steps = b->way->checkpoints;
  return steps->verify(steps->data, b->checkpoint, &result->detail, error);
}

static bool
nc_set_back_disks(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  const NcRollbackSteps *steps = b->way->checkpoints;
  return nc_machine_lease_kill_qemu(b->lease, error) &&
         steps->restore_disks(steps->data, b->checkpoint, b->lease, &result->detail, error);
}

static bool
nc_set_back_memory(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  const NcRollbackSteps *steps = b->way->checkpoints;
  /* One that a crash left half loaded goes. */
  return nc_machine_lease_kill_qemu(b->lease, error) &&
         steps->restore_memory(steps->data, b->checkpoint, b->lease, &result->detail, error);
}

static NcQmp *
nc_set_back_qmp(NcSetBack *b, GError **error)
{
  NcQmp *qmp = nc_machine_lease_qmp(b->lease);
  if (!qmp)
    nc_fail(error, NC_ERROR_QEMU, "the QEMU of %s on %s is gone again", b->vm, nc_nodes_self(b->way->deps->nodes));
  return qmp;
}

static bool
nc_set_back_devices(gpointer data, NcRollbackResult *result, GError **error)
{
  NcQmp *qmp = nc_set_back_qmp(data, error);
  if (!qmp || !nc_qemu_announce_self(qmp, NC_SET_BACK_ANNOUNCE_MS, error))
    return false;
  result->detail = g_strdup("its devices were loaded with its memory; it is announced to the network");
  return true;
}

static bool
nc_set_back_resume(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  NcQmp *qmp = nc_set_back_qmp(b, error);

  if (!qmp || !nc_qemu_cont(qmp, error))
    return false;
  return nc_liveness_check(qmp, nc_machine_lease_pid(b->lease), &result->detail) ||
         nc_fail(error, NC_ERROR_QEMU, "%s was resumed and is not alive: %s", b->vm, result->detail);
}

static bool
nc_set_back_clean_up(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  if (b->lease)
    nc_machine_lease_end(g_steal_pointer(&b->lease), NC_LEASE_STAYS);
  result->detail = g_strdup_printf("%s is free for what comes next", b->vm);
  return true;
}

NcMachineLease *
nc_rollback_checkpoint_lease(const NcMigrationsDeps *deps, NcRollback *r)
{
  return nc_machines_lease_resume(deps->machines, nc_rollback_string(r, "vm", "?"), nc_rollback_id(r), NULL);
}

static bool
nc_set_back_run(NcSetBack *b, GError **error)
{
  static const struct {
    NcRollbackStep step;
    NcRollbackFunc func;
    int tries;
  } steps[] = {
    { NC_RB_STOP_TRANSFER, nc_set_back_stop, 1 },
    { NC_RB_FENCE, nc_set_back_fence, 1 },
    { NC_RB_VERIFY_BASE, nc_set_back_verify, 1 },
    { NC_RB_DISKS, nc_set_back_disks, NC_SET_BACK_TRIES },
    { NC_RB_MEMORY, nc_set_back_memory, NC_SET_BACK_TRIES },
    { NC_RB_DEVICES, nc_set_back_devices, 1 },
    { NC_RB_RESUME, nc_set_back_resume, NC_SET_BACK_TRIES },
    { NC_RB_CLEAN_UP, nc_set_back_clean_up, 1 },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(steps); i++)
    if (!nc_rollback_step(b->way->r, steps[i].step, steps[i].func, b, steps[i].tries, b->way->quitting, error))
      return false;
  return true;
}

bool
nc_rollback_to_checkpoint(const NcRollbackWay *way, char **ret_choice, GError **error)
{
  NcRollback *r = way->r;
  g_autofree char *vm = g_strdup(nc_rollback_string(r, "vm", "?"));
  g_autofree char *checkpoint = g_strdup(nc_rollback_string(r, "checkpoint", "?"));
  NcSetBack b = { .way = way, .vm = vm, .checkpoint = checkpoint, .lease = way->lease };

  *ret_choice = g_strdup_printf("See: novacron vm show %s. Once more: novacron rollback %s --checkpoint %s; or start it anew from its disks as they "
                                "are now: novacron vm start %s",
                                vm, nc_rollback_string(r, "migration", "?"), checkpoint, vm);
  if (!way->checkpoints && b.lease)
    nc_machine_lease_end(b.lease, NC_LEASE_STAYS);
  if (!way->checkpoints)
    return nc_fail(error, NC_ERROR_NOT_FOUND, "novacrond on %s knows of no checkpoints any more", nc_nodes_self(way->deps->nodes));
  bool cleaned = nc_rollback_is_done(r, NC_RB_RESUME); /* and then the lease may have ended */
  if (!b.lease && !cleaned && !(b.lease = nc_machines_lease(way->deps->machines, vm, nc_rollback_id(r), error)))
    return false;
  bool ok = nc_set_back_run(&b, error);
  if (b.lease && g_atomic_int_get(way->quitting))
    nc_machine_lease_abandon(b.lease);
  else if (b.lease)
    nc_machine_lease_end(b.lease, NC_LEASE_STAYS);
  return ok;
}
