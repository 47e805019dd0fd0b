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

/* One question; the answer, a new reference. */
static json_t *
nc_call_ask(const NcRollbackWay *way, const char *there, const char *type, GError **error)
{
  nc_autojson json_t *question =
      json_pack("{s:s, s:s}", "type", type, "migration", nc_rollback_string(way->r, "migration", "?"));
  g_autoptr(NcPeer) peer = nc_nodes_connect(way->deps->nodes, there, way->deps->config->connect_timeout_ms, error);
  nc_autojson json_t *answer =
      peer && nc_peer_send(peer, question, error) ? nc_peer_recv(peer, NC_CALL_ANSWER_MS, error) : NULL;

  if (!answer || g_str_equal(nc_json_string_or(answer, "type", ""), "rb_state"))
    return g_steal_pointer(&answer);
  nc_error_set_json(error, json_object_get(answer, "error"));
  return NULL;
}

/* True: it is under way there, or has been done. */
static bool
nc_call_begin(const NcRollbackWay *way, const char *there, GError **error)
{
  nc_autojson json_t *state = nc_call_ask(way, there, "rb_look", error);
  const char *name = nc_json_string_or(state, "state", "");

  if (!state)
    return false;
  if (g_str_equal(name, "running") || g_str_equal(name, "completed"))
    return true;
  nc_autojson json_t *begun = nc_call_ask(way, there, "rb_back", error);
  return begun != NULL;
}

/*
 * The other node has brought it, and has no claim any more: so the right was held here before. A guest that has ended since can be
 * set back all the same; a machine that has gone on to elsewhere is not, whenever it may come again.
 */
static bool
nc_call_settle(const NcRollbackWay *way, const char *there, bool *ret_here, GError **error)
{
  g_autofree char *state = NULL;
  NcRight right;

  if (!nc_call_look_here(way, &right, &state, error))
    return false;
  if (right.state != NC_RIGHT_HELD)
    return nc_fail(error, NC_ERROR_CONFLICT, "%s came back from %s and has been moved on since: nothing was set back",
                   nc_rollback_string(way->r, "vm", "?"), there);
  *ret_here = g_str_equal(state, "stopped");
  return true;
}

/* Whether waiting still makes sense. A node that does not answer goes on with what it has begun: it is asked again. */
static bool
nc_call_goes_on(const NcRollbackWay *way, const char *there, int64_t *heard_us, bool *ret_here, GError **error)
{
  nc_autojson json_t *state = nc_call_ask(way, there, "rb_look", NULL);
  const char *name = nc_json_string_or(state, "state", "running"),
             *attention = nc_json_string_or(state, "attention", "");

  if (state)
    *heard_us = nc_mono_us();
  if (g_str_equal(name, "completed"))
    return nc_call_settle(way, there, ret_here, error);
  if (nc_mono_us() - *heard_us > NC_CALL_SILENCE_US)
    return nc_fail(error, NC_ERROR_UNREACHABLE, "%s was asked to move it back, and has not answered for ten minutes: look whether novacrond runs there and the "
                   "way to it is open",
                   there);
  return g_str_equal(name, "running") ||
         nc_fail(error, NC_ERROR_CONFLICT, "its way back ended on %s (%s): %s", there, name, attention);
}

bool
nc_rollback_call_back(const NcRollbackWay *way, const char *there, GError **error)
{
  int64_t heard_us = nc_mono_us();
  bool here = false;

  if (!nc_call_is_here(way, &here, error))
    return false;
  if (!here && !nc_call_begin(way, there, error)) {
    g_prefix_error(error, "%s can't be called back from %s: ", nc_rollback_string(way->r, "vm", "?"), there);
    return false;
  }
  while (!here) {
    if (g_atomic_int_get(way->quitting))
      return nc_fail(error, NC_ERROR_CANCELLED, "novacrond is stopping");
    g_usleep(NC_CALL_POLL_US);
    if (!nc_call_is_here(way, &here, error) || (!here && !nc_call_goes_on(way, there, &heard_us, &here, error)))
      return false;
  }
  return true;
}
