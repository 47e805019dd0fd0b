/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fleet_host_internal.h"
#include "base/ident.h"
#include "base/log.h"

/* How long the thread waits for a job before its next turn. */
#define NC_FLEET_TURN_US 250000
/* Between two attempts to open the database. */
#define NC_FLEET_OPEN_US 2000000
/* Nodes do not tell by themselves: who waits for a place in the queue waits for this, too. */
#define NC_FLEET_ASK_US 1000000
#define NC_FLEET_MEASURE_US 1000000

typedef struct {
  const NcFleetOp *op; /* borrowed, as is what follows */
  const NcFleetAsker *who;
  json_t *args;
  json_t *result;
  GError *error;
  bool is_done;
} NcFleetCall;

/* One of: a call; what a node has answered. */
typedef struct {
  NcFleetCall *call; /* of the thread that waits for it */
  char *node;
  json_t *said;
  bool is_look;
} NcFleetJob;

static void
nc_fleet_job_free(NcFleetJob *job)
{
  json_decref(job->said);
  g_free(job->node);
  g_free(job);
}

/* From a node's thread. */
static void
nc_fleet_hear(gpointer user_data, const char *node, bool is_look, json_t *said)
{
  NcFleetHost *host = user_data;
  NcFleetJob *job = g_new0(NcFleetJob, 1);

  job->node = g_strdup(node);
  job->said = said;
  job->is_look = is_look;
  g_async_queue_push(host->jobs, job);
}

/* --- the thread --- */

static void
nc_fleet_open(NcFleetHost *host)
{
  const NcConfig *config = host->side->config;
  const char *self = nc_nodes_self(host->side->nodes);
  g_autofree char *address = nc_nodes_address(host->side->nodes, self, NULL);
  NcControllerOptions options = NC_CONTROLLER_OPTIONS_DEFAULT;
  g_autoptr(GError) error = NULL;

  options.ask_us = NC_FLEET_ASK_US;
  options.history_us = config->fleet_history_days * 86400 * (int64_t)G_USEC_PER_SEC;
  options.limits.cluster = (unsigned)config->fleet_limit;
  options.limits.attempts = (unsigned)config->fleet_attempts;
  options.limits.give_up_us = config->fleet_give_up_s * (int64_t)G_USEC_PER_SEC;
  options.limits.ageing_us = config->fleet_ageing_s * (int64_t)G_USEC_PER_SEC;
  options.limits.backoff_us = config->fleet_backoff_s * (int64_t)G_USEC_PER_SEC;
  options.limits.backoff_most_us = MAX(config->fleet_backoff_most_s, config->fleet_backoff_s) * (int64_t)G_USEC_PER_SEC;
  host->opened_us = nc_mono_us();
  host->db = nc_fleetdb_open(config->database, NULL, &error);
  if (!host->db) {
    if (g_strcmp0(host->db_problem, error->message) != 0)
      nc_log(NC_LOG_ERR, "controller", "the fleet's database can't be opened: %s", error->message);
    g_free(host->db_problem);
    host->db_problem = g_strdup(error->message);
    return;
  }
  options.name = self; /* others find it by that */
  options.address = address ? address : "";
  host->controller = nc_controller_new(host->db, &options, &nc_fleet_agents_port, host->agents);
  g_clear_pointer(&host->db_problem, g_free);
}

static void
nc_fleet_end_call(NcFleetHost *host, NcFleetCall *call)
{
  g_mutex_lock(&host->lock);
  call->is_done = true;
  g_cond_broadcast(&host->done);
  g_mutex_unlock(&host->lock);
}

static void
nc_fleet_do_call(NcFleetHost *host, NcFleetCall *call)
{
  if (host->controller)
    call->result = call->op->func(host, call->who, call->args, &call->error);
  else
    nc_fail(&call->error, NC_ERROR_UNAVAILABLE, "the fleet's database can't be opened: %s",
            host->db_problem ? host->db_problem : "");
  nc_fleet_end_call(host, call);
}

static void
nc_fleet_take_attempt(NcFleetHost *host, const char *node, json_t *said)
{
  g_autoptr(GError) error = NULL;
  NcAttemptReport report;
  json_t *result = NULL;

  if (!nc_fleet_agents_read(node, said, &report, &result, &error) ||
      !nc_controller_report(host->controller, &report, &error)) /* it will be asked again */
    nc_log(NC_LOG_DEBUG, "controller", "%s", error->message);
  json_decref(result);
}

static void
nc_fleet_do_job(NcFleetHost *host, NcFleetJob *job)
{
  if (job->call)
    nc_fleet_do_call(host, job->call);
  else if (host->controller && job->node && job->is_look)
    nc_fleet_take_look(host, job->node, job->said);
  else if (host->controller && job->node && nc_controller_leads(host->controller))
    nc_fleet_take_attempt(host, job->node, job->said);
  nc_fleet_job_free(job);
}

static void
nc_fleet_note_leader(NcFleetHost *host)
{
  char *leader = nc_controller_leader(host->controller);
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&host->lock);

  g_free(host->leader);
  host->leader = leader;
}

/* A scrape comes every few seconds: no need to look at the queue in each turn. */
static void
nc_fleet_measure(NcFleetHost *host)
{
  g_autoptr(GArray) waits = nc_controller_take_waits(host->controller);
  NcQueueView queue;

  for (guint i = 0; i < waits->len; i++)
    nc_metrics_count_wait(host->metrics, (double)g_array_index(waits, int64_t, i) / G_USEC_PER_SEC);
  if (nc_mono_us() - host->measured_us < NC_FLEET_MEASURE_US)
    return;
  host->measured_us = nc_mono_us();
  if (nc_controller_look_at_queue(host->controller, &queue))
    nc_metrics_set_queue(host->metrics, queue.queued, queue.running, (double)queue.oldest_us / G_USEC_PER_SEC);
  else
    nc_metrics_forget_queue(host->metrics);
}

static void
nc_fleet_turn(NcFleetHost *host)
{
  g_autoptr(GError) error = NULL;

  if (!host->controller && nc_mono_us() - host->opened_us >= NC_FLEET_OPEN_US)
    nc_fleet_open(host);
  if (!host->controller)
    return;
  bool ok = nc_controller_step(host->controller, &error);
  if (!ok && !host->is_troubled)
    nc_log(NC_LOG_WARNING, "controller", "the fleet's controller can't go on, and tries again: %s", error->message);
  else if (ok && host->is_troubled)
    nc_log(NC_LOG_NOTICE, "controller", "the fleet's controller goes on");
  host->is_troubled = !ok;
  nc_fleet_note_leader(host);
  nc_fleet_measure(host);
  if (ok && nc_controller_leads(host->controller) && nc_mono_us() - host->looked_us >= NC_FLEET_LOOK_US) {
    host->looked_us = nc_mono_us();
    nc_fleet_look_around(host);
  }
}

static bool
nc_fleet_is_quitting(NcFleetHost *host)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&host->lock);
  return host->is_quitting;
}

/* What waits, but not so long that the lease runs out: others may ask without end. ${job}: taken. */
static void
nc_fleet_do_jobs(NcFleetHost *host, NcFleetJob *job)
{
  int64_t until_us = nc_mono_us() + NC_FLEET_TURN_US;

  while (job) {
    nc_fleet_do_job(host, job);
    job = nc_mono_us() < until_us ? g_async_queue_try_pop(host->jobs) : NULL;
  }
}

static gpointer
nc_fleet_run(gpointer data)
{
  NcFleetHost *host = data;
  g_autoptr(GError) error = NULL;

  nc_fleet_turn(host); /* who asks at once should not hear of a database that nobody has tried to open */
  while (!nc_fleet_is_quitting(host)) {
    nc_fleet_do_jobs(host, g_async_queue_timeout_pop(host->jobs, NC_FLEET_TURN_US));
    nc_fleet_turn(host);
  }
  if (host->controller && !nc_controller_resign(host->controller, &error))
    nc_log(NC_LOG_INFO, "controller", "another controller has to wait for the end of the lease: %s", error->message);
  nc_controller_free(host->controller);
  nc_fleetdb_close(host->db);
  return NULL;
}

/* --- for others --- */

NcFleetHost *
nc_fleet_host_new(const NcFleetSide *side, NcMetrics *metrics)
{
  NcFleetHost *host = g_new0(NcFleetHost, 1);

  host->side = side;
  host->metrics = metrics;
  host->jobs = g_async_queue_new();
  host->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)json_decref);
  host->looked_us = host->opened_us = host->measured_us = G_MININT64 / 2;
  g_mutex_init(&host->lock);
  g_cond_init(&host->done);
  host->agents = nc_fleet_agents_new(side, nc_fleet_hear, host);
  host->thread = g_thread_new("fleet", nc_fleet_run, host);
  return host;
}

bool
nc_fleet_host_serve(NcFleetHost *host, NcPeer *peer, GError **error)
{
  nc_autojson json_t *answer = json_pack("{s:s}", "type", "fl_serving");

  if (!host)
    return nc_fail(error, NC_ERROR_CONFLICT, "there is no controller on this node that could ask (`controller = yes` in novacrond.conf)");
  if (!nc_peer_send(peer, answer, error))
    return false;
  return nc_fleet_agents_serve(host->agents, peer) || nc_fail(error, NC_ERROR_CONFLICT, "novacrond is stopping");
}

void
nc_fleet_host_hang_up(NcFleetHost *host)
{
  if (host)
    nc_fleet_agents_hang_up(host->agents);
}

void
nc_fleet_host_free(NcFleetHost *host)
{
  NcFleetJob *job;

  if (!host)
    return;
  g_mutex_lock(&host->lock);
  host->is_quitting = true;
  g_mutex_unlock(&host->lock);
  g_async_queue_push(host->jobs, g_new0(NcFleetJob, 1)); /* wakes it; says nothing */
  g_thread_join(host->thread);
  nc_fleet_agents_free(host->agents);
  while ((job = g_async_queue_try_pop(host->jobs)))
    nc_fleet_job_free(job);
  g_async_queue_unref(host->jobs);
  g_hash_table_unref(host->seen);
  g_free(host->db_problem);
  g_free(host->leader);
  g_cond_clear(&host->done);
  g_mutex_clear(&host->lock);
  g_free(host);
}

char *
nc_fleet_host_leader(NcFleetHost *host)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&host->lock);
  return g_strdup(host->leader);
}

json_t *
nc_fleet_host_do(NcFleetHost *host, const NcFleetOp *op, const NcFleetAsker *who, json_t *args, GError **error)
{
  NcFleetCall call = { .op = op, .who = who, .args = args };
  NcFleetJob *job = g_new0(NcFleetJob, 1);

  job->call = &call;
  g_async_queue_push(host->jobs, job);
  g_mutex_lock(&host->lock);
  while (!call.is_done)
    g_cond_wait(&host->done, &host->lock);
  g_mutex_unlock(&host->lock);
  if (call.error)
    g_propagate_error(error, call.error);
  return call.result;
}
