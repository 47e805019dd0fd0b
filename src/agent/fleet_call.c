/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fleet_call.h"
#include "base/log.h"

#define NC_CALL_LEAST_S 1
/* One that has lasted so long was a good one: the next attempt is soon. */
#define NC_CALL_GOOD_US (10 * G_USEC_PER_SEC)
#define NC_CALL_ANSWER_MS 10000

typedef struct {
  NcFleetCaller *caller; /* borrowed */
  char *controller;
  GThread *thread;
  NcPeer *peer;     /* set and cleared under the caller's lock, by the thread */
  bool is_troubled; /* told in the log */
} NcFleetCallLine;

struct NcFleetCaller {
  const NcFleetSide *side;
  GMutex lock;
  GCond changed;
  bool is_quitting;
  GPtrArray *lines; /* NcFleetCallLine* */
};

/* False: nobody wants it any more. */
static bool
nc_call_set_peer(NcFleetCallLine *line, NcPeer *peer)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&line->caller->lock);
  line->peer = line->caller->is_quitting ? NULL : peer;
  return !line->caller->is_quitting;
}

/* Until the connection ends; what is refused is told to who asked, and ends nothing. */
static void
nc_call_answer(NcFleetCallLine *line, NcPeer *peer, GError **error)
{
  const NcFleetSide *side = line->caller->side;

  for (;;) {
    nc_autojson json_t *message = nc_peer_recv(peer, -1, error);
    g_autoptr(GError) problem = NULL;
    if (!message || !nc_peer_check_trusted(peer, error))
      return;
    nc_autojson json_t *answer = nc_fleet_side_answer(side, peer, message, &problem);
    if (!answer)
      answer = json_pack("{s:s, s:o}", "type", "refused", "error", nc_error_to_json(problem));
    if (!nc_peer_send(peer, answer, error))
      return;
  }
}

/* Offers ourselves to be asked. False: the other side does not want it. */
static bool
nc_call_offer(NcPeer *peer, GError **error)
{
  nc_autojson json_t *offer = json_pack("{s:s}", "type", "fl_serve");
  nc_autojson json_t *answer = nc_peer_send(peer, offer, error) ? nc_peer_recv(peer, NC_CALL_ANSWER_MS, error) : NULL;

  if (!answer)
    return false;
  if (g_str_equal(nc_json_string_or(answer, "type", ""), "fl_serving"))
    return true;
  nc_error_set_json(error, json_object_get(answer, "error"));
  return false;
}

/* Only what changes is worth a line in the log. */
static void
nc_call_tell(NcFleetCallLine *line, const char *problem)
{
  if (problem && !line->is_troubled)
    nc_log(NC_LOG_NOTICE, "controller", "controller %s can't be called, and is called again until it can: %s", line->controller, problem);
  else if (!problem && line->is_troubled)
    nc_log(NC_LOG_NOTICE, "controller", "controller %s asks over our connection", line->controller);
  line->is_troubled = problem != NULL;
}

static void
nc_call_once(NcFleetCallLine *line)
{
  const NcFleetSide *side = line->caller->side;
  g_autoptr(GError) error = NULL;
  g_autoptr(NcPeer) peer = nc_nodes_connect(side->nodes, line->controller, side->config->connect_timeout_ms, &error);

  if (peer && nc_call_set_peer(line, peer)) {
    if (nc_call_offer(peer, &error)) {
      nc_call_tell(line, NULL);
      nc_call_answer(line, peer, &error);
    }
    nc_call_set_peer(line, NULL);
  }
  if (error && error->code != NC_ERROR_CANCELLED)
    nc_call_tell(line, error->message);
}

/* False: it is over. */
static bool
nc_call_rest(NcFleetCaller *caller, int64_t seconds)
{
  gint64 until = g_get_monotonic_time() + seconds * G_USEC_PER_SEC;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&caller->lock);

  while (!caller->is_quitting && g_cond_wait_until(&caller->changed, &caller->lock, until))
    ;
  return !caller->is_quitting;
}

static gpointer
nc_call_run(gpointer data)
{
  NcFleetCallLine *line = data;
  int64_t rest_s = NC_CALL_LEAST_S;

  do {
    gint64 begin = g_get_monotonic_time();
    nc_call_once(line);
    rest_s = g_get_monotonic_time() - begin >= NC_CALL_GOOD_US ? NC_CALL_LEAST_S : MIN(2 * rest_s, NC_FLEET_CALL_MOST_S);
  } while (nc_call_rest(line->caller, rest_s));
  return NULL;
}

NcFleetCaller *
nc_fleet_caller_new(const NcFleetSide *side)
{
  NcFleetCaller *caller = g_new0(NcFleetCaller, 1);
  g_auto(GStrv) names = nc_config_names_parse(side->config->controllers);

  caller->side = side;
  g_mutex_init(&caller->lock);
  g_cond_init(&caller->changed);
  caller->lines = g_ptr_array_new();
  for (char **name = names; name && *name; name++) {
    if (g_str_equal(*name, nc_nodes_self(side->nodes)))
      continue;
    NcFleetCallLine *line = g_new0(NcFleetCallLine, 1);
    *line = (NcFleetCallLine){ .caller = caller, .controller = g_strdup(*name) };
    g_ptr_array_add(caller->lines, line);
    line->thread = g_thread_new("fleet-call", nc_call_run, line);
  }
  return caller;
}

void
nc_fleet_caller_free(NcFleetCaller *caller)
{
  if (!caller)
    return;
  g_mutex_lock(&caller->lock);
  caller->is_quitting = true;
  for (guint i = 0; i < caller->lines->len; i++) {
    NcFleetCallLine *line = caller->lines->pdata[i];
    if (line->peer)
      nc_peer_shutdown(line->peer);
  }
  g_cond_broadcast(&caller->changed);
  g_mutex_unlock(&caller->lock);
  for (guint i = 0; i < caller->lines->len; i++) {
    NcFleetCallLine *line = caller->lines->pdata[i];
    g_thread_join(line->thread);
    g_free(line->controller);
    g_free(line);
  }
  g_ptr_array_unref(caller->lines);
  g_cond_clear(&caller->changed);
  g_mutex_clear(&caller->lock);
  g_free(caller);
}
