/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Back to a checkpoint: the machine as it was then, in place of the machine as it is.
 *
 * The running machine is ended only in step 4, when the checkpoint has been verified; until then every failure
 * leaves it running. Restoring is the checkpoints' business (rollback_steps.h).
 *
 * The record says what else is to be done before: `fetch_from`, the checkpoint is in that node's store, and is copied here in
 * step 3; `call_from`, the machine is on that node, which moves it here in step 2 (a rollback of its own there, mode "back").
 */
#include "agent/liveness.h"
#include "agent/rollback_call.h"
#include "agent/rollback_ways.h"
#include "qemu/migration_qmp.h"

#define NC_SET_BACK_TRIES 3
#define NC_SET_BACK_ANNOUNCE_MS 10000

typedef struct {
  const NcRollbackWay *way;
  const char *vm, *checkpoint;
} NcSetBack;

/* "running", "paused", ...; caller frees. */
static char *
nc_set_back_state(NcSetBack *b, GError **error)
{
  nc_autojson json_t *args = json_pack("{s:s}", "name", b->vm);
  nc_autojson json_t *machine = nc_machines_get(b->way->deps->machines, args, error);
  return machine ? g_strdup(nc_json_string_or(machine, "state", "unknown")) : NULL;
}

static bool
nc_set_back_stop(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  g_autofree char *state = nc_set_back_state(b, error);

  if (!state)
    return false;
  if (g_str_equal(state, "migrating") || g_str_equal(state, "incoming"))
    return nc_fail(error, NC_ERROR_CONFLICT, "%s is in the hands of a migration (%s)", b->vm, state);
  result->nothing = true;
  result->detail = g_strdup_printf("no migration has %s: nothing flows", b->vm);
  return true;
}

static bool
nc_set_back_fence(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  const char *here = nc_nodes_self(b->way->deps->nodes), *there = nc_rollback_string(b->way->r, "call_from", NULL);
  NcRight right;

  if (there && !nc_rollback_call_back(b->way, there, error))
    return false;
  if (!nc_journal_get_right(b->way->deps->journal, b->vm, &right, error))
    return false;
  if (right.state != NC_RIGHT_HELD)
    return nc_fail(error, NC_ERROR_CONFLICT, "the right to run %s is %s on %s", b->vm, nc_right_name(right.state), here);
  nc_rollback_set(b->way->r, "epoch", json_integer((json_int_t)right.epoch)); /* on disk with the end of this step */
  result->detail = g_strdup_printf("only %s may run it, epoch %" G_GUINT64_FORMAT, here, right.epoch);
  return true;
}

/* Fetching and verifying may have taken hours, in which the machine was moved, perhaps away and back: then what is here is another's work. */
static bool
nc_set_back_is_as_fenced(NcSetBack *b, GError **error)
{
  int64_t fenced = nc_rollback_number(b->way->r, "epoch", 0);
  NcRight right;

  if (!nc_journal_get_right(b->way->deps->journal, b->vm, &right, error))
    return false;
  return fenced == 0 || (right.state == NC_RIGHT_HELD && right.epoch == (uint64_t)fenced) ||
         nc_fail(error, NC_ERROR_CONFLICT, "%s has been moved since this rollback began (the right to run it is %s on %s): nothing was set back",
                 b->vm, nc_right_name(right.state), nc_nodes_self(b->way->deps->nodes));
}

static bool
nc_set_back_verify(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  const NcRollbackSteps *steps = b->way->checkpoints;
  const char *from = nc_rollback_string(b->way->r, "fetch_from", NULL);
  g_autofree char *fetched = NULL, *verified = NULL;

  if (from && !steps->fetch(steps->data, b->checkpoint, b->vm, from, b->way->quitting, &fetched, error))
    return false;
  if (!steps->check(steps->data, b->checkpoint, b->vm, error) || !steps->verify(steps->data, b->checkpoint, b->way->quitting, &verified, error))
    return false;
  result->detail = g_strdup_printf("%s%s%s", fetched ? fetched : "", fetched ? "; " : "", verified);
  return true;
}

static bool
nc_set_back_disks(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  const NcRollbackSteps *steps = b->way->checkpoints;
  return nc_set_back_is_as_fenced(b, error) &&
         steps->restore_disks(steps->data, b->checkpoint, b->vm, b->way->quitting, &result->detail, error);
}

static bool
nc_set_back_memory(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  const NcRollbackSteps *steps = b->way->checkpoints;
  return nc_set_back_is_as_fenced(b, error) &&
         steps->restore_memory(steps->data, b->checkpoint, b->vm, b->way->quitting, &result->detail, error);
}

static bool
nc_set_back_devices(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  g_autofree char *state = nc_set_back_state(b, error);

  if (!state)
    return false;
  if (!g_str_equal(state, "paused") && !g_str_equal(state, "running"))
    return nc_fail(error, NC_ERROR_QEMU, "%s is %s, and was restored a moment ago", b->vm, state);
  result->detail = g_strdup_printf("its QEMU has loaded them with the memory; %s", state);
  return true;
}

/* A QEMU that is gone is not started anew: that would be another machine than the checkpoint's. */
static bool
nc_set_back_let_run(NcSetBack *b, GError **error)
{
  g_autofree char *state = nc_set_back_state(b, error);
  nc_autojson json_t *args = json_pack("{s:s}", "name", b->vm);

  if (!state || g_str_equal(state, "running"))
    return state != NULL;
  if (!g_str_equal(state, "paused"))
    return nc_fail(error, NC_ERROR_QEMU, "%s is %s: the QEMU that held what was restored is gone", b->vm, state);
  nc_autojson json_t *started = nc_machines_start(b->way->deps->machines, args, error);
  return started != NULL;
}

/* Also tells the network where it is: before it runs it would have nothing to say. */
static bool
nc_set_back_resume(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  bool runs = nc_set_back_let_run(b, error);
  g_autoptr(NcMachineLook) look = runs ? nc_machines_look(b->way->deps->machines, b->vm, "verify", error) : NULL;
  NcQmp *qmp = look ? nc_machine_look_qmp(look) : NULL;

  if (look && !qmp)
    return nc_fail(error, NC_ERROR_QEMU, "the QEMU of %s is gone again", b->vm);
  if (!qmp || !nc_qemu_announce_self(qmp, NC_SET_BACK_ANNOUNCE_MS, error))
    return false;
  return nc_liveness_check(qmp, nc_machine_look_pid(look), &result->detail) ||
         nc_fail(error, NC_ERROR_QEMU, "%s was resumed and is not alive: %s", b->vm, result->detail);
}

static bool
nc_set_back_clean_up(gpointer data, NcRollbackResult *result, GError **error)
{
  NcSetBack *b = data;
  result->detail = g_strdup_printf("%s is as it was at checkpoint %s, and runs on", b->vm, b->checkpoint);
  return true;
}

static bool
nc_set_back_run(NcSetBack *b, GError **error)
{
  const struct {
    NcRollbackStep step;
    NcRollbackFunc func;
    int tries;
  } steps[] = {
    { NC_RB_STOP_TRANSFER, nc_set_back_stop, 1 },
    /* Whoever is called may have heard it though its answer was lost: asking again finds what was begun. */
    { NC_RB_FENCE, nc_set_back_fence, nc_rollback_string(b->way->r, "call_from", NULL) ? NC_SET_BACK_TRIES : 1 },
    { NC_RB_VERIFY_BASE, nc_set_back_verify, nc_rollback_string(b->way->r, "fetch_from", NULL) ? NC_SET_BACK_TRIES : 1 },
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
  NcSetBack b = { .way = way, .vm = vm, .checkpoint = checkpoint };

  /* One that came back is another migration's by now. */
  g_autofree char *again = nc_rollback_string(r, "call_from", NULL)
                               ? g_strdup_printf("novacron checkpoint restore %s --force, when it is here (if the node that has it is lost for good "
                                                 "and it certainly runs nowhere, with --take)",
                                                 checkpoint)
                               : g_strdup_printf("novacron rollback %s --checkpoint %s", nc_rollback_string(r, "migration", "?"), checkpoint);
  *ret_choice = g_strdup_printf("See: novacron vm show %s. Once more: %s; or go on with its disks as they are now: novacron vm start %s", vm, again, vm);
  if (!way->checkpoints)
    return nc_fail(error, NC_ERROR_NOT_FOUND, "novacrond on %s knows of no checkpoints any more", nc_nodes_self(way->deps->nodes));
  if (nc_set_back_run(&b, error))
    return true;
  const char *there = nc_rollback_string(r, "call_from", NULL);
  if (there && !nc_rollback_is_done(r, NC_RB_FENCE)) { /* it may never have come */
    g_free(*ret_choice);
    *ret_choice = g_strdup_printf("%s may still be on %s: see there: novacron vm show %s. Once more, on %s: novacron rollback %s --to-checkpoint", vm,
                                  there, vm, nc_nodes_self(way->deps->nodes), nc_rollback_string(r, "migration", "?"));
  }
  return false;
}
