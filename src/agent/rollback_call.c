/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rollback_call.h"
#include "base/ident.h"

#define NC_CALL_POLL_US 500000
#define NC_CALL_ANSWER_MS 60000
#define NC_CALL_SILENCE_US INT64_C(600000000) /* a node that is restarted is waited for, one that is lost is not */

/* The right to run the machine, and what it does, here. *ret_state: to be freed; "": there is none. */
static bool
nc_call_look_here(const NcRollbackWay *way, NcRight *ret_right, char **ret_state, GError **error)
{
  const char *vm = nc_rollback_string(way->r, "vm", "?");
  nc_autojson json_t *args = json_pack("{s:s}", "name", vm);

  if (!nc_journal_get_right(way->deps->journal, vm, ret_right, error))
    return false;
  nc_autojson json_t *machine = nc_machines_get(way->deps->machines, args, NULL);
  *ret_state = g_strdup(nc_json_string_or(machine, "state", ""));
  return true;
}

static bool
nc_call_is_here(const NcRollbackWay *way, bool *ret_here, GError **error)
{
  g_autofree char *state = NULL;
  NcRight right;

  if (!nc_call_look_here(way, &right, &state, error))
    return false;
  /* The migration that brings it may still have the last word to say. */
  *ret_here = right.state == NC_RIGHT_HELD && (g_str_equal(state, "running") || g_str_equal(state, "paused"));
  return true;
}

/* The other node, and what is known of it. */
typedef struct {
  const NcRollbackWay *way;
  const char *there;
  bool begun;       /* it has said that its way back is under way, or was */
  int64_t heard_us; /* when it last said something */
} NcCall;

/* One question; the answer, a new reference. *ret_refused: it did answer, with an error. */
static json_t *
nc_call_ask(NcCall *c, const char *type, bool *ret_refused, GError **error)
{
  nc_autojson json_t *question =
      json_pack("{s:s, s:s}", "type", type, "migration", nc_rollback_string(c->way->r, "migration", "?"));
  g_autoptr(NcPeer) peer = nc_nodes_connect(c->way->deps->nodes, c->there, c->way->deps->config->connect_timeout_ms, error);
  nc_autojson json_t *answer =
      peer && nc_peer_send(peer, question, error) ? nc_peer_recv(peer, NC_CALL_ANSWER_MS, error) : NULL;

  *ret_refused = false;
  if (!answer)
    return NULL;
  c->heard_us = nc_mono_us();
  if (g_str_equal(nc_json_string_or(answer, "type", ""), "rb_state"))
    return g_steal_pointer(&answer);
  *ret_refused = true;
  nc_error_set_json(error, json_object_get(answer, "error"));
  return NULL;
}

/*
 * The other node has brought it, and has no claim any more: so the right was held here before. A guest that has ended since can be
 * set back all the same; a machine that has gone on to elsewhere is not, whenever it may come again.
 */
static bool
nc_call_settle(const NcCall *c, bool *ret_here, GError **error)
{
  g_autofree char *state = NULL;
  NcRight right;

  if (!nc_call_look_here(c->way, &right, &state, error))
    return false;
  if (right.state != NC_RIGHT_HELD)
    return nc_fail(error, NC_ERROR_CONFLICT, "%s came back from %s and has been moved on since: nothing was set back",
                   nc_rollback_string(c->way->r, "vm", "?"), c->there);
  *ret_here = g_str_equal(state, "stopped");
  return true;
}

static bool
nc_call_fail(const NcCall *c, GError *problem, GError **error)
{
  g_propagate_prefixed_error(error, problem, "%s can't be called back from %s: ", nc_rollback_string(c->way->r, "vm", "?"), c->there);
  return false;
}

/* From here on an answer that does not come says nothing: it may have begun. So that it was asked is on disk before. */
static bool
nc_call_begin(NcCall *c, GError **error)
{
  g_autofree char *now = nc_time_format(nc_wall_us());
  GError *problem = NULL;
  bool refused;

  if (!nc_rollback_string(c->way->r, "called", NULL)) {
    nc_rollback_set(c->way->r, "called", json_string(now));
    if (!nc_rollback_save(c->way->r, error))
      return false;
  }
  nc_autojson json_t *state = nc_call_ask(c, "rb_back", &refused, &problem);
  c->begun = state != NULL;
  if (refused)
    return nc_call_fail(c, problem, error);
  g_clear_error(&problem);
  return true;
}

/* A node that was asked, and does not answer, goes on with it when it can: it is waited for. One that was never heard is not. */
static bool
nc_call_is_silent(const NcCall *c, GError *problem, GError **error)
{
  if (!nc_rollback_string(c->way->r, "called", NULL))
    return nc_call_fail(c, problem, error);
  g_error_free(problem);
  return nc_mono_us() - c->heard_us <= NC_CALL_SILENCE_US ||
         nc_fail(error, NC_ERROR_UNREACHABLE,
                 "%s was asked to move it back, and has not answered for ten minutes: look whether novacrond runs there and the way "
                 "to it is open",
                 c->there);
}

/* Whether waiting still makes sense; has the other node begin unless it has. */
static bool
nc_call_goes_on(NcCall *c, bool *ret_here, GError **error)
{
  GError *problem = NULL;
  bool refused;
  nc_autojson json_t *state = nc_call_ask(c, "rb_look", &refused, &problem);
  const char *name = nc_json_string_or(state, "state", "none");

  if (!state)
    return refused ? nc_call_fail(c, problem, error) : nc_call_is_silent(c, problem, error);
  if (g_str_equal(name, "completed"))
    return nc_call_settle(c, ret_here, error);
  if (g_str_equal(name, "running")) {
    c->begun = true;
    return true;
  }
  if (!c->begun) /* what it says is of an earlier one, or of none */
    return nc_call_begin(c, error);
  return nc_fail(error, NC_ERROR_CONFLICT, "its way back ended on %s (%s): %s", c->there, name, nc_json_string_or(state, "attention", ""));
}

bool
nc_rollback_call_back(const NcRollbackWay *way, const char *there, GError **error)
{
  NcCall c = { .way = way, .there = there, .heard_us = nc_mono_us() };
  bool here = false;

  if (!nc_call_is_here(way, &here, error))
    return false;
  while (!here) {
    if (g_atomic_int_get(way->quitting))
      return nc_fail(error, NC_ERROR_CANCELLED, "novacrond is stopping");
    if (!nc_call_goes_on(&c, &here, error))
      return false;
    if (here)
      break;
    g_usleep(NC_CALL_POLL_US);
    if (!nc_call_is_here(way, &here, error))
      return false;
  }
  return true;
}
