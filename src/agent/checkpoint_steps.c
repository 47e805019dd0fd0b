/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/checkpoint_steps.h"
#include "agent/checkpoint.h"

#define NC_STEPS_POLL_US 20000

static json_t *
nc_steps_view(NcCheckpoints *c, const char *id, GError **error)
{
  nc_autojson json_t *args = json_pack("{s:s}", "id", id);
  return nc_checkpoints_get(c, args, error);
}

/* Waits until nothing happens to the checkpoint any more; its view then. What happens to it when novacrond stops is ended. */
static json_t *
nc_steps_await_end(NcCheckpoints *c, const char *id, gint *quitting, GError **error)
{
  for (;;) {
    json_t *view = nc_steps_view(c, id, error);
    if (!view || !g_str_equal(nc_json_string_or(json_object_get(view, "activity"), "state", ""), "running"))
      return view;
    json_decref(view);
    if (g_atomic_int_get(quitting))
      nc_checkpoints_end_activity(c, id);
    g_usleep(NC_STEPS_POLL_US);
  }
}

/* Nothing happens to it any more, and something may begin. */
static bool
nc_steps_await_free(NcCheckpoints *c, const char *id, gint *quitting, GError **error)
{
  nc_autojson json_t *view = nc_steps_await_end(c, id, quitting, error);

  return view && (!g_atomic_int_get(quitting) || nc_fail(error, NC_ERROR_CANCELLED, "novacrond on %s is stopping", c->deps.config->node));
}

/* How the activity ${begun} (taken; NULL: it did not begin, and ${error} says why) has ended. */
static bool
nc_steps_outcome(NcCheckpoints *c, const char *id, json_t *begun, gint *quitting, GError **error)
{
  nc_autojson json_t *first = begun;
  nc_autojson json_t *last = first ? nc_steps_await_end(c, id, quitting, error) : NULL;
  json_t *activity = json_object_get(last, "activity");

  if (!last)
    return false;
  if (g_str_equal(nc_json_string_or(activity, "state", ""), "done"))
    return true;
  nc_error_set_json(error, json_object_get(activity, "error"));
  return false;
}

static bool
nc_steps_check(gpointer data, const char *checkpoint, const char *vm, GError **error)
{
  NcCheckpoints *c = data;
  nc_autojson json_t *view = nc_steps_view(c, checkpoint, error);

  if (!view) {
    g_prefix_error(error, "a checkpoint of another node must be copied here first (there: novacron checkpoint copy %s --to %s), or the machine can move "
                   "back as it is (novacron rollback ID --back): ",
                   checkpoint, c->deps.config->node);
    return false;
  }
  if (!g_str_equal(nc_json_string_or(view, "machine", ""), vm))
    return nc_fail(error, NC_ERROR_CONFLICT, "checkpoint %s is of machine %s, not of %s", checkpoint, nc_json_string_or(view, "machine", "?"), vm);
  if (!g_str_equal(nc_json_string_or(view, "state", ""), "ready"))
    return nc_fail(error, NC_ERROR_CONFLICT, "checkpoint %s is %s", checkpoint, nc_json_string_or(view, "state", "?"));
  return true;
}

static bool
nc_steps_fetch(gpointer data, const char *checkpoint, const char *vm, const char *from, gint *quitting, char **ret_detail, GError **error)
{
  NcCheckpoints *c = data;
  nc_autojson json_t *view = nc_checkpoints_fetch(c, checkpoint, vm, from, error);

  if (!view)
    return false;
  bool was_here = g_str_equal(nc_json_string_or(view, "state", ""), "ready");
  while (g_str_equal(nc_json_string_or(view, "state", ""), "making")) {
    if (g_atomic_int_get(quitting))
      return nc_fail(error, NC_ERROR_CANCELLED, "novacrond on %s is stopping", c->deps.config->node);
    g_usleep(NC_STEPS_POLL_US);
    json_decref(view);
    if (!(view = nc_steps_view(c, checkpoint, error)))
      return false;
  }
  if (g_str_equal(nc_json_string_or(view, "state", ""), "ready")) {
    *ret_detail = was_here ? g_strdup_printf("checkpoint %s is here", checkpoint) : g_strdup_printf("checkpoint %s was fetched from %s", checkpoint, from);
    return true;
  }
  nc_error_set_json(error, json_object_get(view, "error"));
  return false;
}

static bool
nc_steps_verify(gpointer data, const char *checkpoint, gint *quitting, char **ret_detail, GError **error)
{
  NcCheckpoints *c = data;
  nc_autojson json_t *args = json_pack("{s:s}", "id", checkpoint);

  if (!nc_steps_await_free(c, checkpoint, quitting, error) || /* of somebody else's, or an earlier novacrond's of ours */
      !nc_steps_outcome(c, checkpoint, nc_checkpoints_verify(c, args, error), quitting, error))
    return false;
  *ret_detail = g_strdup_printf("all of checkpoint %s is there, by its hashes", checkpoint);
  return true;
}

static bool
nc_steps_restore(gpointer data, const char *checkpoint, const char *vm, gint *quitting, char **ret_detail, GError **error)
{
  NcCheckpoints *c = data;
  nc_autojson json_t *args = json_pack("{s:s, s:b, s:b}", "id", checkpoint, "force", 1, "paused", 1);

  if (!nc_steps_await_free(c, checkpoint, quitting, error) ||
      !nc_steps_outcome(c, checkpoint, nc_checkpoints_restore(c, args, error), quitting, error))
    return false;
  *ret_detail = g_strdup_printf("%s is as it was at checkpoint %s, disks, memory and devices in one act, and stands still", vm, checkpoint);
  return true;
}

/* Restoring the disks was restoring the memory, unless the QEMU that held it is gone since. */
static bool
nc_steps_restore_memory(gpointer data, const char *checkpoint, const char *vm, gint *quitting, char **ret_detail, GError **error)
{
  NcCheckpoints *c = data;
  nc_autojson json_t *args = json_pack("{s:s}", "name", vm);
  nc_autojson json_t *machine = nc_machines_get(c->deps.machines, args, error);
  const char *state = nc_json_string_or(machine, "state", "unknown");

  if (!machine)
    return false;
  if (!g_str_equal(state, "paused"))
    return nc_steps_restore(data, checkpoint, vm, quitting, ret_detail, error);
  *ret_detail = g_strdup("restored with the disks; the guest stands still");
  return true;
}

NcRollbackSteps
nc_checkpoint_steps(NcCheckpoints *checkpoints)
{
  return (NcRollbackSteps){ .data = checkpoints,
                            .check = nc_steps_check,
                            .fetch = nc_steps_fetch,
                            .verify = nc_steps_verify,
                            .restore_disks = nc_steps_restore,
                            .restore_memory = nc_steps_restore_memory };
}
