/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fleet_agents.h"
#include "base/ident.h"
#include "base/log.h"

#include <string.h>

/* Messages that wait for one node. */
#define NC_AGENT_MOST_PENDING 256
/* A begin waits for the other node's disk. */
#define NC_AGENT_ANSWER_MS 10000

typedef struct {
  NcFleetAgents *agents; /* borrowed */
  char *node;
  bool is_here;
  GAsyncQueue *messages; /* json_t* */
  gint is_looking;       /* atomic: a look is pending */
  GThread *thread;

  /* under the agents' lock */
  NcPeer *lent; /* made by the node; NULL: none. Its owner waits in nc_fleet_agents_serve() until it is neither lent nor in use */
  NcPeer *used; /* the thread asks over it */
  NcPeer *peer; /* our own, the thread's */

  int told; /* in the log: what is wrong, an NcErrorCode; -1: nothing; of the thread */
} NcFleetAgent;

struct NcFleetAgents {
  const NcFleetSide *side;
  NcFleetHeardFunc heard;
  gpointer user_data;
  gint is_quitting; /* atomic */
  GMutex lock;      /* around what follows, and each one's connections */
  GHashTable *all;  /* node -> NcFleetAgent */
  bool hangs_up;
  GCond returned; /* what is lent, or in use, has changed */
};

/* --- a node's thread --- */

static void
nc_agent_set_peer(NcFleetAgent *a, NcPeer *peer)
{
  g_mutex_lock(&a->agents->lock);
  NcPeer *old = a->peer;
  a->peer = peer;
  g_mutex_unlock(&a->agents->lock);
  nc_peer_free(old);
}

/* It is no more used; nor asked again, if it ${failed}: a late answer must not be taken for the next one's, and who refuses closes. */
static void
nc_agent_put_back(NcFleetAgent *a, bool failed)
{
  g_mutex_lock(&a->agents->lock);
  NcPeer *used = g_steal_pointer(&a->used);
  bool is_own = used == a->peer;
  if (failed && used == a->lent)
    a->lent = NULL;
  if (failed)
    nc_peer_shutdown(used);
  g_cond_broadcast(&a->agents->returned); /* from now on one that was lent may be gone */
  g_mutex_unlock(&a->agents->lock);
  if (failed && is_own)
    nc_agent_set_peer(a, NULL);
}

/* A connection to ask over, marked as used. */
static NcPeer *
nc_agent_take(NcFleetAgent *a, GError **error)
{
  const NcFleetSide *side = a->agents->side;

  g_mutex_lock(&a->agents->lock);
  NcPeer *peer = a->used = a->lent ? a->lent : a->peer;
  g_mutex_unlock(&a->agents->lock);
  if (peer && nc_peer_check_trusted(peer, error)) /* it may have been removed since */
    return peer;
  if (peer) {
    nc_agent_put_back(a, true);
    return NULL;
  }
  peer = nc_nodes_connect(side->nodes, a->node, side->config->connect_timeout_ms, error);
  if (!peer)
    return NULL;
  nc_agent_set_peer(a, peer);
  g_mutex_lock(&a->agents->lock);
  a->used = peer;
  g_mutex_unlock(&a->agents->lock);
  return peer;
}

static json_t *
nc_agent_ask_peer(NcFleetAgent *a, json_t *message, GError **error)
{
  NcPeer *peer = nc_agent_take(a, error);

  if (!peer)
    return NULL;
  nc_autojson json_t *answer = nc_peer_send(peer, message, error) ? nc_peer_recv(peer, NC_AGENT_ANSWER_MS, error) : NULL;
  bool ok = answer && g_str_equal(nc_json_string_or(answer, "type", ""), "fl_answer");
  if (answer && !ok)
    nc_error_set_json(error, json_object_get(answer, "error"));
  nc_agent_put_back(a, !ok);
  return ok ? g_steal_pointer(&answer) : NULL;
}

static json_t *
nc_agent_ask(NcFleetAgent *a, json_t *message, GError **error)
{
  const NcFleetSide *side = a->agents->side;

  if (!a->is_here)
    return nc_agent_ask_peer(a, message, error);
  return g_str_equal(nc_json_string_or(message, "type", ""), "fl_look")
             ? nc_fleet_side_look(side, message, error)
             : nc_fleet_side_order(side, "controller", message, error);
}

/* What is wrong is said once, until something else is, or something goes well again. */
static void
nc_agent_tell(NcFleetAgent *a, const GError *problem)
{
  if (problem && problem->code != a->told)
    nc_log(NC_LOG_WARNING, "controller", "node %s does not do what is asked: %s", a->node, problem->message);
  if (!problem && a->told >= 0)
    nc_log(NC_LOG_NOTICE, "controller", "node %s does what is asked again", a->node);
  a->told = problem ? problem->code : -1;
}

/* What waits for a node that can't be reached would reach it late, one time limit after the other. */
static void
nc_agent_drop_pending(NcFleetAgent *a)
{
  json_t *message;

  while ((message = g_async_queue_try_pop(a->messages))) {
    if (g_str_equal(nc_json_string_or(message, "type", ""), "fl_look"))
      g_atomic_int_set(&a->is_looking, 0);
    json_decref(message);
  }
}

static gpointer
nc_agent_run(gpointer data)
{
  NcFleetAgent *a = data;

  for (;;) {
    nc_autojson json_t *message = g_async_queue_pop(a->messages);
    bool is_look = g_str_equal(nc_json_string_or(message, "type", ""), "fl_look");
    g_autoptr(GError) error = NULL;

    if (g_atomic_int_get(&a->agents->is_quitting))
      break;
    json_t *answer = nc_agent_ask(a, message, &error);
    if (is_look)
      g_atomic_int_set(&a->is_looking, 0);
    nc_agent_tell(a, error);
    if (g_error_matches(error, NC_ERROR, NC_ERROR_UNREACHABLE) || g_error_matches(error, NC_ERROR, NC_ERROR_TIMEOUT))
      nc_agent_drop_pending(a);
    if (answer)
      a->agents->heard(a->agents->user_data, a->node, is_look, answer);
  }
  nc_agent_set_peer(a, NULL);
  return NULL;
}

/* --- all of them --- */

static NcFleetAgent *
nc_agent_of_locked(NcFleetAgents *agents, const char *node)
{
  NcFleetAgent *a = g_hash_table_lookup(agents->all, node);

  if (!a) {
    a = g_new0(NcFleetAgent, 1);
    a->agents = agents;
    a->told = -1;
    a->node = g_strdup(node);
    a->is_here = g_str_equal(node, nc_nodes_self(agents->side->nodes));
    a->messages = g_async_queue_new_full((GDestroyNotify)json_decref);
    g_hash_table_insert(agents->all, a->node, a);
    a->thread = g_thread_new("fleet-agent", nc_agent_run, a);
  }
  return a;
}

/* ${message}: taken. */
static void
nc_agent_post(NcFleetAgents *agents, const char *node, json_t *message)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&agents->lock);
  NcFleetAgent *a = nc_agent_of_locked(agents, node);

  if (g_async_queue_length(a->messages) < NC_AGENT_MOST_PENDING)
    g_async_queue_push(a->messages, message);
  else
    json_decref(message);
}

void
nc_fleet_agents_look(NcFleetAgents *agents, const char *node, json_t *directories)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&agents->lock);
  NcFleetAgent *a = nc_agent_of_locked(agents, node);

  if (g_atomic_int_compare_and_exchange(&a->is_looking, 0, 1))
    g_async_queue_push(a->messages,
                       json_pack("{s:s, s:o}", "type", "fl_look", "directories", json_deep_copy(directories)));
}

bool
nc_fleet_agents_serve(NcFleetAgents *agents, NcPeer *peer)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&agents->lock);

  if (agents->hangs_up)
    return false;
  NcFleetAgent *a = nc_agent_of_locked(agents, nc_peer_node(peer));
  if (a->lent)
    nc_peer_shutdown(a->lent);
  a->lent = peer;
  g_cond_broadcast(&agents->returned);
  while ((a->lent == peer && !agents->hangs_up) || a->used == peer)
    g_cond_wait(&agents->returned, &agents->lock);
  if (a->lent == peer)
    a->lent = NULL;
  return true;
}

void
nc_fleet_agents_hang_up(NcFleetAgents *agents)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&agents->lock);
  GHashTableIter iter;
  NcFleetAgent *a;

  agents->hangs_up = true;
  g_hash_table_iter_init(&iter, agents->all);
  while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&a))
    if (a->lent)
      nc_peer_shutdown(a->lent); /* who asks over it returns */
  g_cond_broadcast(&agents->returned);
}

NcFleetAgents *
nc_fleet_agents_new(const NcFleetSide *side, NcFleetHeardFunc heard, gpointer user_data)
{
  NcFleetAgents *agents = g_new0(NcFleetAgents, 1);

  agents->side = side;
  agents->heard = heard;
  agents->user_data = user_data;
  g_mutex_init(&agents->lock);
  g_cond_init(&agents->returned);
  agents->all = g_hash_table_new(g_str_hash, g_str_equal);
  return agents;
}

void
nc_fleet_agents_free(NcFleetAgents *agents)
{
  GHashTableIter iter;
  NcFleetAgent *a;

  if (!agents)
    return;
  g_atomic_int_set(&agents->is_quitting, 1);
  g_mutex_lock(&agents->lock);
  g_hash_table_iter_init(&iter, agents->all);
  while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&a)) {
    if (a->peer)
      nc_peer_shutdown(a->peer);
    g_async_queue_push(a->messages, json_object()); /* wakes it */
  }
  g_mutex_unlock(&agents->lock);
  g_hash_table_iter_init(&iter, agents->all);
  while (g_hash_table_iter_next(&iter, NULL, (gpointer *)&a)) {
    g_thread_join(a->thread);
    g_async_queue_unref(a->messages);
    g_free(a->node);
    g_free(a);
  }
  g_hash_table_unref(agents->all);
  g_cond_clear(&agents->returned);
  g_mutex_clear(&agents->lock);
  g_free(agents);
}

/* --- the port --- */

static void
nc_agent_order(NcFleetAgents *agents, const char *node, const char *order, json_t *args)
{
  nc_agent_post(agents, node, json_pack("{s:s, s:s, s:o}", "type", "fl_order", "order", order, "args", args));
}

static void
nc_port_start(void *agents, const NcAttemptOrder *order)
{
  json_t *args = json_deep_copy(order->settings); /* it goes to another thread */

  json_object_set_new(args, "name", json_string(order->name));
  json_object_set_new(args, "vm", json_string(order->machine));
  json_object_set_new(args, "to", json_string(order->destination));
  if (order->rate_bps > 0) /* which is no more than what was asked for */
    json_object_set_new(args, "bandwidth_limit_bps",
                        json_integer((json_int_t)MIN(order->rate_bps, NC_ATTEMPT_MOST_RATE)));
  nc_agent_order(agents, order->source, "begin", args);
}

static void
nc_port_cancel(void *agents, const char *source, const char *name, const char *reason)
{
  nc_agent_order(agents, source, "cancel", json_pack("{s:s, s:s}", "name", name, "reason", reason));
}

static void
nc_port_ask(void *agents, const char *source, const char *name)
{
  nc_agent_order(agents, source, "ask", json_pack("{s:s}", "name", name));
}

static void
nc_port_set_rate(void *agents, const char *source, const char *name, uint64_t rate_bps, bool has_endgame)
{
  nc_agent_order(agents, source, "limit",
                 json_pack("{s:s, s:I, s:b}", "name", name, "rate_bps", (json_int_t)MIN(rate_bps, NC_ATTEMPT_MOST_RATE), "has_endgame",
                           has_endgame));
}

const NcAgentPort nc_fleet_agents_port = {
  .start = nc_port_start, .cancel = nc_port_cancel, .ask = nc_port_ask, .set_rate = nc_port_set_rate
};

/* --- what comes back --- */

bool
nc_fleet_agents_read(const char *node, json_t *said, NcAttemptReport *ret, json_t **ret_result, GError **error)
{
  static const char *const states[] = { [NC_REPORT_UNKNOWN] = "unknown",
                                        [NC_REPORT_RUNNING] = "running",
                                        [NC_REPORT_COMPLETED] = "completed",
                                        [NC_REPORT_FAILED] = "failed",
                                        [NC_REPORT_CANCELLED] = "cancelled" };
  G_STATIC_ASSERT(G_N_ELEMENTS(states) == NC_REPORT_COUNT);
  const char *name = nc_json_string_or(said, "name", NULL), *state = nc_json_string_or(said, "state", "");
  json_t *result = json_object_get(said, "result");
  int found = 0;

  while (found < NC_REPORT_COUNT && !g_str_equal(states[found], state))
    found++;
  if (!nc_attempt_name_is_valid(name) || found == NC_REPORT_COUNT)
    return nc_fail(error, NC_ERROR_PROTOCOL, "node %s tells of an attempt without name, or in no state", node);
  *ret_result = json_is_object(result) ? nc_attempt_result(result) : NULL;
  *ret = (NcAttemptReport){ .node = node,
                            .name = name,
                            .state = (NcReportState)found,
                            .phase = nc_json_string_or(said, "phase", NULL),
                            .percent = json_number_value(json_object_get(said, "percent")),
                            .progress = json_object_get(said, "progress"),
                            .wants_endgame = nc_json_bool_or(said, "wants_endgame", false),
                            .reason = nc_json_string_or(said, "reason", NULL),
                            .may_pass = nc_json_bool_or(said, "may_pass", false),
                            .run_epoch = (uint64_t)MAX(nc_json_int_or(said, "run_epoch", 0), 0),
                            .result = *ret_result };
  return true;
}
