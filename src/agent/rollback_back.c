/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Back by moving: a completed migration is undone by one in the other direction, with all that the machine has done meanwhile.
 *
 * Steps 5 to 7 are a migration with its own records: its id is in ours before it exists, so that after a crash we find
 * it again, or know that there is none yet. Who runs the machine is the handoff's business alone.
 */
#include "agent/migration_views.h"
#include "agent/rollback_ways.h"
#include "base/ident.h"

#define NC_BACK_POLL_US 100000
#define NC_BACK_TRIES 3

typedef struct {
  const NcRollbackWay *way;
  const char *vm, *migration;
  char *here, *there;
} NcBack;

static json_t *
nc_back_machine(NcBack *b, GError **error)
{
  nc_autojson json_t *args = json_pack("{s:s}", "name", b->vm);
  return nc_machines_get(b->way->deps->machines, args, error);
}

static bool
nc_back_stop(gpointer data, NcRollbackResult *result, GError **error)
{
  NcBack *b = data;
  nc_autojson json_t *machine = nc_back_machine(b, error);
  const char *state = machine ? nc_json_string_or(machine, "state", "") : NULL;

  if (!state)
    return false;
  if (!g_str_equal(state, "running") && !g_str_equal(state, "paused"))
    return nc_fail(error, NC_ERROR_CONFLICT, "%s is %s on %s: only a machine that is there can move back", b->vm, state, b->here);
  result->nothing = true;
  result->detail = g_strdup_printf("migration %s is completed: nothing flows", b->migration);
  return true;
}

static bool
nc_back_fence(gpointer data, NcRollbackResult *result, GError **error)
{
  NcBack *b = data;
  NcRight right;

  if (!nc_journal_get_right(b->way->deps->journal, b->vm, &right, error))
    return false;
  if (right.state != NC_RIGHT_HELD)
    return nc_fail(error, NC_ERROR_CONFLICT, "the right to run %s is %s on %s now", b->vm, nc_right_name(right.state), b->here);
  result->detail = g_strdup_printf("only %s may run it (epoch %" G_GUINT64_FORMAT "), until it hands the right to %s itself", b->here, right.epoch,
                                   b->there);
  return true;
}

/* The first check that speaks against it. */
static bool
nc_back_explain(json_t *report, GError **error)
{
  json_t *check;
  size_t i;

  json_array_foreach(json_object_get(report, "checks"), i, check)
    if (g_str_equal(nc_json_string_or(check, "verdict", ""), "failed"))
      return nc_fail(error, NC_ERROR_UNSUITABLE, "%s: %s. %s", nc_json_string_or(check, "check", "?"), nc_json_string_or(check, "value", "?"),
                     nc_json_string_or(check, "remedy", ""));
  return nc_fail(error, NC_ERROR_UNSUITABLE, "something speaks against it");
}

static bool
nc_back_verify(gpointer data, NcRollbackResult *result, GError **error)
{
  NcBack *b = data;
  nc_autojson json_t *args = json_pack("{s:s, s:s}", "vm", b->vm, "to", b->there);
  nc_autojson json_t *report = nc_migrations_check(b->way->migrations, args, error);
  const char *verdict = report ? nc_json_string_or(report, "verdict", "") : NULL;

  if (!verdict)
    return false;
  if (g_str_equal(verdict, "failed")) {
    nc_back_explain(report, error);
    g_prefix_error(error, "%s can't go back to %s now: ", b->vm, b->there);
    return false;
  }
  result->detail = g_strdup_printf("the base is the machine as it runs on %s; %s can take it (%s)", b->here, b->there, verdict);
  return true;
}

static bool
nc_back_disks(gpointer data, NcRollbackResult *result, GError **error)
{
  result->nothing = true;
  result->detail = g_strdup("they are those of the machine as it is now, and go where it goes");
  return true;
}

/* --- 5: the move --- */

static const char *
nc_back_outcome(json_t *move)
{
  return nc_json_string_or(move, "outcome", NULL);
}

/* Its end, new reference; NULL: novacrond stops, or it can't be looked at. */
static json_t *
nc_back_follow(NcBack *b, const char *id, GError **error)
{
  nc_autojson json_t *args = json_pack("{s:s}", "id", id);

  while (!g_atomic_int_get(b->way->quitting)) {
    nc_autojson json_t *move = nc_migrations_get(b->way->migrations, args, error);
    if (!move)
      return NULL;
    if (nc_back_outcome(move))
      return g_steal_pointer(&move);
    g_usleep(NC_BACK_POLL_US);
  }
  nc_fail(error, NC_ERROR_CANCELLED, "novacrond on %s is stopping", b->here);
  return NULL;
}

/* The move that is under way or over well; a new one if there is none such. Its id is on disk first. */
static const char *
nc_back_begin(NcBack *b, GError **error)
{
  NcRollback *r = b->way->r;
  const char *known = nc_rollback_string(r, "move", NULL);
  nc_autojson json_t *move = known ? nc_journal_get_migration(b->way->deps->journal, known, NULL) : NULL;
  const char *outcome = move ? nc_back_outcome(move) : NULL;

  if (move && (!outcome || g_str_equal(outcome, "completed")))
    return known;
  if (!known || move) {
    g_autofree char *id = nc_id_new("m");
    nc_rollback_set(r, "move", json_string(id));
    if (!nc_rollback_save(r, error))
      return NULL;
  }
  nc_autojson json_t *args = json_pack("{s:s, s:s, s:b}", "vm", b->vm, "to", b->there, "checkpoint", 0);
  nc_autojson json_t *made = nc_migrations_create_as(b->way->migrations, nc_rollback_string(r, "move", NULL), args, error);
  return made ? nc_rollback_string(r, "move", NULL) : NULL;
}

static bool
nc_back_move(gpointer data, NcRollbackResult *result, GError **error)
{
  NcBack *b = data;
  const char *id = nc_back_begin(b, error);
  nc_autojson json_t *move = id ? nc_back_follow(b, id, error) : NULL;

  if (!move)
    return false;
  if (!g_str_equal(nc_back_outcome(move), "completed")) {
    nc_error_set_json(error, json_object_get(move, "error"));
    g_prefix_error(error, "migration %s to %s %s: ", id, b->there, nc_back_outcome(move));
    return false;
  }
  result->detail = g_strdup_printf("migration %s has brought it to %s", id, b->there);
  return true;
}

/* --- 6 to 8: what the move has left --- */

static bool
nc_back_devices(gpointer data, NcRollbackResult *result, GError **error)
{
  NcBack *b = data;
  NcRight right;

  if (!nc_journal_get_right(b->way->deps->journal, b->vm, &right, error))
    return false;
  if (right.state != NC_RIGHT_RELEASED || g_strcmp0(right.migration, nc_rollback_string(b->way->r, "move", "")) != 0)
    return nc_fail(error, NC_ERROR_CONFLICT, "the right to run %s is %s on %s, by migration %s", b->vm, nc_right_name(right.state), b->here,
                   right.migration);
  result->detail = g_strdup_printf("its devices came with it, and %s has announced it (epoch %" G_GUINT64_FORMAT ")", b->there, right.epoch);
  return true;
}

static bool
nc_back_alive(gpointer data, NcRollbackResult *result, GError **error)
{
  NcBack *b = data;
  const char *id = nc_rollback_string(b->way->r, "move", "");
  nc_autojson json_t *events = nc_journal_list_events(b->way->deps->journal, id, error);
  json_t *event;
  size_t i;

  json_array_foreach(events, i, event)
    if (nc_migration_event_is_sighting(event)) {
      g_free(result->detail);
      result->detail = g_strdup_printf("seen alive: %s", nc_json_string_or(event, "detail", ""));
    }
  if (events && !result->detail)
    return nc_fail(error, NC_ERROR_QEMU, "that %s is alive on %s was not said: look there with `novacron vm show %s`", b->vm, b->there, b->vm);
  return events != NULL;
}

static bool
nc_back_clean_up(gpointer data, NcRollbackResult *result, GError **error)
{
  NcBack *b = data;
  nc_autojson json_t *machine = nc_back_machine(b, error);

  if (!machine)
    return false;
  if (nc_json_int_or(machine, "pid", 0) > 0)
    return nc_fail(error, NC_ERROR_QEMU, "the stopped QEMU of %s on %s (process %d) could not be ended: kill it", b->vm, b->here,
                   (int)nc_json_int_or(machine, "pid", 0));
  result->detail = g_strdup_printf("nothing of it is left on %s but where it went", b->here);
  return true;
}

bool
nc_rollback_move_back(const NcRollbackWay *way, char **ret_choice, GError **error)
{
  NcRollback *r = way->r;
  g_autofree char *here = g_strdup(nc_nodes_self(way->deps->nodes));
  g_autofree char *there = g_strdup(nc_rollback_string(r, "to", "?"));
  g_autofree char *vm = g_strdup(nc_rollback_string(r, "vm", "?"));
  g_autofree char *migration = g_strdup(nc_rollback_string(r, "migration", "?"));
  NcBack b = { .way = way, .vm = vm, .migration = migration, .here = here, .there = there };

  bool ok = nc_rollback_step(r, NC_RB_STOP_TRANSFER, nc_back_stop, &b, 1, way->quitting, error) &&
            nc_rollback_step(r, NC_RB_FENCE, nc_back_fence, &b, 1, way->quitting, error) &&
            nc_rollback_step(r, NC_RB_VERIFY_BASE, nc_back_verify, &b, NC_BACK_TRIES, way->quitting, error) &&
            nc_rollback_step(r, NC_RB_DISKS, nc_back_disks, &b, 1, way->quitting, error) &&
            nc_rollback_step(r, NC_RB_MEMORY, nc_back_move, &b, NC_BACK_TRIES, way->quitting, error) &&
            nc_rollback_step(r, NC_RB_DEVICES, nc_back_devices, &b, 1, way->quitting, error) &&
            nc_rollback_step(r, NC_RB_RESUME, nc_back_alive, &b, 1, way->quitting, error) &&
            nc_rollback_step(r, NC_RB_CLEAN_UP, nc_back_clean_up, &b, 1, way->quitting, error);
  const char *move = nc_rollback_string(r, "move", NULL);
  g_autofree char *look = move ? g_strdup_printf("novacron status %s; ", move) : g_strdup("");
  *ret_choice = ok ? NULL
                   : g_strdup_printf("See on %s: %snovacron vm show %s; novacron check %s --to %s. Once more: novacron rollback %s --back", here,
                                     look, vm, vm, there, migration);
  return ok;
}
