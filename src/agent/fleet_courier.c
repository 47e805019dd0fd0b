/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fleet_courier.h"

#include <string.h>

/* The gate gives up after 30 and 180 s (gate_limits.h): an answer that comes a little earlier says more. */
#define NC_COURIER_CONNECT_MS 3000
#define NC_COURIER_ANSWER_MS 20000
#define NC_COURIER_WATCH_ANSWER_MS 5000 /* the next question comes soon */
#define NC_COURIER_LONG_ANSWER_MS 165000

struct NcFleetCourier {
  const NcFleetSide *side;
  GMutex lock; /* protects what follows */
  bool is_stopped;
  GPtrArray *peers; /* that somebody waits for, borrowed */
  char *leader;     /* which led when last heard of; NULL: never heard */
};

/* What came of one message. */
typedef enum {
  NC_ERRAND_DONE,
  NC_ERRAND_REFUSED,   /* by the other side, which says why */
  NC_ERRAND_ELSEWHERE, /* it does not lead */
  NC_ERRAND_UNSENT,
  NC_ERRAND_LOST /* nobody knows */
} NcErrandEnd;

/* --- those who wait --- */

static bool
nc_courier_enter(NcFleetCourier *courier, NcPeer *peer, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&courier->lock);

  if (courier->is_stopped)
    return nc_fail(error, NC_ERROR_CANCELLED, "novacrond of this node stops");
  g_ptr_array_add(courier->peers, peer);
  return true;
}

static void
nc_courier_leave(NcFleetCourier *courier, NcPeer *peer)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&courier->lock);
  g_ptr_array_remove_fast(courier->peers, peer);
}

static void
nc_courier_note_leader(NcFleetCourier *courier, const char *leader)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&courier->lock);

  g_free(courier->leader);
  courier->leader = g_strdup(leader);
}

/* --- one message --- */

static json_t *
nc_courier_message(const NcFleetErrand *errand)
{
  return json_pack("{s:s, s:s, s:s, s:s, s:O}", "type", "fl_ask", "op", errand->op->op, "actor", errand->actor, "role",
                   nc_role_name(errand->op->role), "args", errand->args);
}

/* ${answer}: of ${node}; borrowed. *ret_leader: caller frees; NULL: it does not say. */
static NcErrandEnd
nc_courier_read(const char *node, json_t *answer, json_t **ret_result, char **ret_leader, GError **error)
{
  const char *type = nc_json_string_or(answer, "type", ""), *leader = nc_json_string_or(answer, "leader", "");
  json_t *result = json_object_get(answer, "result");

  *ret_leader = leader[0] ? g_strdup(leader) : NULL;
  if (g_str_equal(type, "fl_elsewhere"))
    return NC_ERRAND_ELSEWHERE;
  if (g_str_equal(type, "fl_answer") && json_is_object(result)) {
    *ret_result = json_incref(result);
    return NC_ERRAND_DONE;
  }
  if (g_str_equal(type, "refused"))
    nc_error_set_json(error, json_object_get(answer, "error"));
  else
    nc_fail(error, NC_ERROR_PROTOCOL, "node %s answered with something else than its controller's word", node);
  return NC_ERRAND_REFUSED;
}

static NcErrandEnd
nc_courier_lost(const char *node, const NcFleetErrand *errand, GError *problem, GError **error)
{
  g_propagate_error(error, problem);
  if (errand->op->role > NC_ROLE_VIEWER)
    g_prefix_error(
        error,
        "node %s was asked to do it by its controller, and it is not known whether it was done: look (novacron "
        "fleet list), or ask again under the same Idempotency-Key: ",
        node);
  else
    g_prefix_error(error, "node %s was asked, and did not answer: ", node);
  return NC_ERRAND_LOST;
}

static int
nc_courier_patience_ms(const NcFleetOp *op)
{
  return op->is_long ? NC_COURIER_LONG_ANSWER_MS : op->is_watch ? NC_COURIER_WATCH_ANSWER_MS : NC_COURIER_ANSWER_MS;
}

static NcErrandEnd
nc_courier_converse(NcPeer *peer, const char *node, const NcFleetErrand *errand, json_t **ret_result, char **ret_leader,
                    GError **error)
{
  nc_autojson json_t *message = nc_courier_message(errand);
  GError *problem = NULL;
  nc_autojson json_t *answer =
      nc_peer_send(peer, message, &problem)
          ? nc_peer_recv(peer, nc_courier_patience_ms(errand->op), &problem)
          : NULL;

  return answer ? nc_courier_read(node, answer, ret_result, ret_leader, error)
                : nc_courier_lost(node, errand, problem, error);
}

static NcErrandEnd
nc_courier_try(NcFleetCourier *courier, const char *node, const NcFleetErrand *errand, json_t **ret_result,
               char **ret_leader, GError **error)
{
  const NcFleetSide *side = courier->side;
  int timeout_ms = MIN(side->config->connect_timeout_ms, NC_COURIER_CONNECT_MS);
  g_autoptr(NcPeer) peer = nc_nodes_connect(side->nodes, node, timeout_ms, error);

  if (!peer || !nc_courier_enter(courier, peer, error))
    return NC_ERRAND_UNSENT;
  NcErrandEnd end = nc_courier_converse(peer, node, errand, ret_result, ret_leader, error);
  nc_courier_leave(courier, peer);
  return end;
}

json_t *
nc_fleet_courier_to(NcFleetCourier *courier, const char *leader, const NcFleetErrand *errand, GError **error)
{
  g_autofree char *now = NULL;
  g_autoptr(GError) problem = NULL;
  json_t *result = NULL;

  switch (nc_courier_try(courier, leader, errand, &result, &now, &problem)) {
  case NC_ERRAND_DONE:
    return result;
  case NC_ERRAND_ELSEWHERE:
    nc_fail(error, NC_ERROR_UNAVAILABLE,
            "node %s, whose controller led the fleet, does not lead any more: ask again in a second", leader);
    return NULL;
  case NC_ERRAND_UNSENT:
    nc_fail(error, NC_ERROR_UNAVAILABLE,
            "the controller of node %s leads the fleet and can't be reached, so nothing was done; another one leads "
            "within ten seconds, if there is one: ask again then: %s",
            leader, problem->message);
    return NULL;
  case NC_ERRAND_REFUSED:
  case NC_ERRAND_LOST:
    break;
  }
  g_propagate_error(error, g_steal_pointer(&problem));
  return NULL;
}

/* --- whichever leads --- */

/* Names of nodes that may be asked, in this order; each is taken out when it is. Caller frees. */
static GPtrArray *
nc_courier_candidates(NcFleetCourier *courier)
{
  g_auto(GStrv) names = nc_config_names_parse(courier->side->config->controllers);
  GPtrArray *all = g_ptr_array_new_with_free_func(g_free);

  for (size_t i = 0; names && names[i]; i++)
    if (!g_str_equal(names[i], nc_nodes_self(courier->side->nodes)))
      g_ptr_array_add(all, g_strdup(names[i]));
  return all;
}

/* The one that is said to lead, if it may be asked; else the first. NULL: none is left. Caller frees. */
static char *
nc_courier_pick(GPtrArray *candidates, const char *leader)
{
  guint at = 0;

  for (guint i = 0; leader && i < candidates->len; i++)
    if (g_str_equal(candidates->pdata[i], leader))
      at = i;
  return candidates->len > 0 ? g_ptr_array_steal_index(candidates, at) : NULL;
}

/* May another controller be asked after this? */
static bool
nc_courier_may_go_on(NcErrandEnd end, const NcFleetErrand *errand, const GError *problem)
{
  if (end == NC_ERRAND_UNSENT || end == NC_ERRAND_ELSEWHERE)
    return !problem || problem->code != NC_ERROR_CANCELLED;
  if (end == NC_ERRAND_LOST)
    return errand->op->role == NC_ROLE_VIEWER;
  if (problem->code == NC_ERROR_UNAVAILABLE)
    return true;
  return problem->code == NC_ERROR_UNREACHABLE && errand->op->role == NC_ROLE_VIEWER; /* it has lost its database */
}

static void
nc_courier_tell(GString *story, const char *node, const char *leader, const GError *problem)
{
  g_string_append_printf(story, "%s%s: ", story->len > 0 ? "; " : "", node);
  if (problem)
    g_string_append(story, problem->message);
  else if (leader)
    g_string_append_printf(story, "node %s's controller leads", leader);
  else
    g_string_append(story, "no controller leads");
}

/* The controllers of ${candidates}, each at most once. */
static json_t *
nc_courier_go_round(NcFleetCourier *courier, GPtrArray *candidates, char *leader, const NcFleetErrand *errand,
                    GError **error)
{
  g_autoptr(GString) story = g_string_new(NULL);
  g_autofree char *hint = leader;

  for (;;) {
    g_autofree char *node = nc_courier_pick(candidates, hint), *said = NULL;
    g_autoptr(GError) problem = NULL;
    json_t *result = NULL;
    if (!node)
      break;
    NcErrandEnd end = nc_courier_try(courier, node, errand, &result, &said, &problem);
    if (said) {
      nc_courier_note_leader(courier, said);
      g_free(hint);
      hint = g_strdup(said);
    }
    if (end == NC_ERRAND_DONE)
      return result;
    if (!nc_courier_may_go_on(end, errand, problem)) {
      g_propagate_error(error, g_steal_pointer(&problem));
      return NULL;
    }
    nc_courier_tell(story, node, said, problem);
  }
  nc_fail(error, NC_ERROR_UNAVAILABLE,
          "no controller of those that `controllers` in novacrond.conf on node %s names does it at the moment, and "
          "nothing was done: ask again in some seconds (%s)",
          nc_nodes_self(courier->side->nodes), story->str);
  return NULL;
}

bool
nc_fleet_courier_knows_any(NcFleetCourier *courier)
{
  g_autoptr(GPtrArray) candidates = nc_courier_candidates(courier);
  return candidates->len > 0;
}

json_t *
nc_fleet_courier_to_any(NcFleetCourier *courier, const NcFleetErrand *errand, GError **error)
{
  g_autoptr(GPtrArray) candidates = nc_courier_candidates(courier);

  if (candidates->len == 0) {
    nc_fail(error, NC_ERROR_CONFLICT,
            "there is no controller on this node, and it knows none to hand this on to: name nodes that have one "
            "(`controllers = NODE` in novacrond.conf on node %s), or make this one it (`controller = yes`)",
            nc_nodes_self(courier->side->nodes));
    return NULL;
  }
  g_mutex_lock(&courier->lock);
  char *leader = g_strdup(courier->leader);
  g_mutex_unlock(&courier->lock);
  return nc_courier_go_round(courier, candidates, leader, errand, error);
}

/* --- life --- */

NcFleetCourier *
nc_fleet_courier_new(const NcFleetSide *side)
{
  NcFleetCourier *courier = g_new0(NcFleetCourier, 1);

  courier->side = side;
  courier->peers = g_ptr_array_new();
  g_mutex_init(&courier->lock);
  return courier;
}

void
nc_fleet_courier_stop(NcFleetCourier *courier)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&courier->lock);

  courier->is_stopped = true;
  for (guint i = 0; i < courier->peers->len; i++)
    nc_peer_shutdown(courier->peers->pdata[i]);
}

void
nc_fleet_courier_free(NcFleetCourier *courier)
{
  if (!courier)
    return;
  g_ptr_array_unref(courier->peers);
  g_free(courier->leader);
  g_mutex_clear(&courier->lock);
  g_free(courier);
}
