/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/start_check.h"
#include "agent/machine_hold.h"
#include "base/fault.h"
#include "base/msg.h"

#define NC_START_CHECK_CONNECT_MS 3000
#define NC_START_CHECK_ANSWER_MS 3000

/*
 * *ret: the node it came from and that never confirmed its arrival, caller frees; NULL: there is none to be asked. That this can't be read
 * is an error, since it would mean to start it unasked.
 */
static bool
nc_start_check_whom(const NcStartCheck *check, const NcRight *right, char **ret, GError **error)
{
  g_autoptr(GError) problem = NULL;

  *ret = NULL;
  if (!right->migration[0])
    return true;
  nc_autojson json_t *record = nc_journal_get_migration(check->journal, right->migration, &problem);
  if (record && nc_json_bool_or(record, "unconfirmed", false))
    *ret = g_strdup(nc_json_string_or(record, "source", "?"));
  if (record || g_error_matches(problem, NC_ERROR, NC_ERROR_NOT_FOUND))
    return true;
  g_propagate_error(error, g_steal_pointer(&problem));
  return false;
}

/*
 * Not nc_way_ask(), which waits longer: what is true of the right is true now. *ret_wanted: there is no answer because an operator has said
 * that it runs there.
 */
static json_t *
nc_start_check_ask(const NcStartCheck *check, const char *node, const char *vm, bool *ret_wanted, GError **error)
{
  nc_autojson json_t *question = json_pack("{s:s, s:s}", "type", "mig_probe", "vm", vm);
  g_autoptr(NcPeer) peer = nc_nodes_connect(check->nodes, node, NC_START_CHECK_CONNECT_MS, error);
  nc_autojson json_t *answer = peer && nc_peer_send(peer, question, error) ? nc_peer_recv(peer, NC_START_CHECK_ANSWER_MS, error) : NULL;

  *ret_wanted = false;
  if (answer && !g_str_equal(nc_json_string_or(answer, "type", ""), "mig_probed")) {
    g_autoptr(GError) refusal = NULL;
    nc_error_set_json(&refusal, json_object_get(answer, "error"));
    *ret_wanted = g_error_matches(refusal, NC_ERROR, NC_ERROR_CONFLICT);
    g_propagate_error(error, g_steal_pointer(&refusal));
    return NULL;
  }
  return g_steal_pointer(&answer);
}

/* The source has it: whatever becomes of this answer, it can't be started here. */
static bool
nc_start_check_pass_on(const NcStartCheck *check, const NcRight *right, const char *node, uint64_t epoch, GError **error)
{
  return nc_machines_refuse_right(check->machines, right->vm, right->epoch, error) &&
         nc_fail(error, NC_ERROR_CONFLICT,
                 "%s can't be started on node %s: an operator took the right to run it back to %s (epoch %" G_GUINT64_FORMAT "), manage it there",
                 right->vm, nc_nodes_self(check->nodes), node, epoch);
}

bool
nc_start_check(gpointer user_data, const NcRight *right, GError **error)
{
  const NcStartCheck *check = user_data;
  g_autofree char *node = NULL;
  g_autoptr(GError) problem = NULL;
  bool wanted;

  if (!nc_start_check_whom(check, right, &node, error))
    return false;
  if (!node)
    return true;
  nc_autojson json_t *answer = nc_start_check_ask(check, node, right->vm, &wanted, &problem);
  if (!answer && wanted)
    return nc_fail(error, NC_ERROR_CONFLICT, "%s can't be started on node %s: %s. See there what became of it: novacron vm list", right->vm,
                   nc_nodes_self(check->nodes), problem->message);
  if (!answer)
    return nc_fail(error, NC_ERROR_UNREACHABLE,
                   "%s came to node %s from %s, which never confirmed that it has let go of it and can't be asked now (%s). If it is certain "
                   "that it does not run there, and will not be started there: novacron vm start %s --take",
                   right->vm, nc_nodes_self(check->nodes), node, problem->message, right->vm);
  uint64_t epoch = (uint64_t)nc_json_int_or(answer, "epoch", 0);
  if (g_str_equal(nc_json_string_or(answer, "right", ""), "held") || epoch > right->epoch)
    return nc_start_check_pass_on(check, right, node, epoch, error);
  nc_fault_point("start-permitted");
  return true;
}
