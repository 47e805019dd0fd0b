/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/alerts.h"
#include "agent/alert_facts.h"
#include "agent/alert_news.h"
#include "agent/alert_webhook.h"
#include "agent/migrations.h"
#include "base/ident.h"
#include "base/log.h"
#include "base/msg.h"

#define NC_ALERTS_EVERY_US G_USEC_PER_SEC
#define NC_ALERTS_NODE_EVERY 10 /* looks: what a store says costs more, and changes slowly */

struct NcAlerts {
  NcAlertsDeps deps;
  NcMigrations *migrations; /* while the thread runs */
  NcAlertWebhook *webhook;
  GThread *thread;
  unsigned looks; /* of the thread */

  GMutex lock; /* protects what follows; the journal's may be taken under it, and no migration's */
  GCond wake;
  bool quitting;
  uint64_t ends; /* changes with each end: what was read before one may tell of what is over */
  NcAlertFacts *facts;
  NcAlertEngine *engine;
  NcAlertNews *news;
  json_t *store; /* as last told; NULL: there is none */
};

static NcAlertTime
nc_alerts_now(void)
{
  return (NcAlertTime){ .mono_us = nc_mono_us(), .wall_us = nc_wall_us() };
}

/* As the configuration has them now. Whatever it holds has been checked. */
static void
nc_alerts_settings(const NcConfig *config, NcAlertSetting ret[NC_ALERT_RULE_COUNT])
{
  for (NcAlertRule rule = 0; rule < NC_ALERT_RULE_COUNT; rule++)
    if (!nc_alert_setting_parse(rule, config->alerts[rule], &ret[rule]))
      ret[rule].on = false;
}

/* --- telling --- */

static void
nc_alerts_log(json_t *alert)
{
  bool fires = g_str_equal(nc_json_string_or(alert, "state", ""), "firing");
  bool is_critical = g_str_equal(nc_json_string_or(alert, "severity", ""), "critical");
  const char *migration = nc_json_string_or(alert, "migration", NULL);

  nc_log(fires ? is_critical ? NC_LOG_ERR : NC_LOG_WARNING : NC_LOG_NOTICE, "alerts", "%s %s%s%s: %s%s%s", nc_json_string_or(alert, "alert", "?"),
         nc_json_string_or(alert, "state", "?"), migration ? ", migration " : "", migration ? migration : "", nc_json_string_or(alert, "summary", "?"),
         fires ? ". " : "", fires ? nc_json_string_or(alert, "remedy", "") : "");
}

/* A line of the migration's history, which nc_migration_event_view() reads. That it needs attention stands there already, with more. */
static void
nc_alerts_note(NcAlerts *alerts, json_t *alert)
{
  const char *migration = nc_json_string_or(alert, "migration", NULL), *name = nc_json_string_or(alert, "alert", "?");
  g_autofree char *detail = g_strdup_printf("%s %s: %s", name, nc_json_string_or(alert, "state", "?"), nc_json_string_or(alert, "summary", "?"));
  g_autoptr(GError) error = NULL;

  if (!migration || g_str_equal(name, nc_alert_rule(NC_ALERT_NEEDS_ATTENTION)->name))
    return;
  if (!nc_journal_add_event(alerts->deps.journal, migration, "alert", detail, false, &error))
    nc_log(NC_LOG_ERR, "alerts", "migration %s: %s", migration, error->message);
}

/* ${may_note}: its migration has not had its last event. */
static void
nc_alerts_tell_locked(NcAlerts *alerts, json_t *news, bool may_note)
{
  json_t *alert;
  size_t i;

  json_array_foreach(news, i, alert)
  {
    nc_alerts_log(alert);
    nc_alert_news_add(alerts->news, alert, nc_wall_us());
    /* What happened at an end is resolved long after it. */
    if (may_note && g_strcmp0(nc_json_string_or(alert, "reason", ""), "time") != 0)
      nc_alerts_note(alerts, alert);
    nc_alert_webhook_push(alerts->webhook, alert);
  }
}

/* --- looking --- */

static void
nc_alerts_look_at_node(NcAlerts *alerts)
{
  json_t *store = nc_store_work_status(alerts->deps.store_work, NULL, NULL);

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&alerts->lock);
  json_decref(alerts->store);
  alerts->store = store;
}

static GPtrArray *
nc_alerts_facts_locked(NcAlerts *alerts, json_t *running, NcAlertTime now)
{
  GPtrArray *facts = g_ptr_array_new_with_free_func(nc_alert_fact_free);
  const NcAlertNode node = { .store = alerts->store, .certificate_left_us = nc_trust_expires_us(nc_nodes_trust(alerts->deps.nodes)) - now.wall_us };

  nc_alert_facts_of_migrations(alerts->facts, running, now.mono_us, facts);
  nc_alert_facts_of_node(alerts->facts, &node, now.mono_us, facts);
  return facts;
}

static void
nc_alerts_look(NcAlerts *alerts)
{
  NcAlertSetting settings[NC_ALERT_RULE_COUNT];
  nc_autojson json_t *news = json_array();

  if (alerts->looks++ % NC_ALERTS_NODE_EVERY == 0)
    nc_alerts_look_at_node(alerts);
  nc_alerts_settings(alerts->deps.config, settings);
  g_mutex_lock(&alerts->lock);
  uint64_t ends = alerts->ends;
  g_mutex_unlock(&alerts->lock);
  nc_autojson json_t *running = nc_migrations_running(alerts->migrations);
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&alerts->lock);
  if (ends != alerts->ends)
    return; /* one of them has ended meanwhile: the next look is soon */
  NcAlertTime now = nc_alerts_now();
  g_autoptr(GPtrArray) facts = nc_alerts_facts_locked(alerts, running, now);
  nc_alert_engine_step(alerts->engine, settings, facts, now, news);
  nc_alerts_tell_locked(alerts, news, true);
}

static gpointer
nc_alerts_thread(gpointer data)
{
  NcAlerts *alerts = data;
  int64_t next_us = nc_mono_us();

  for (;;) {
    nc_alerts_look(alerts);
    next_us = MAX(next_us + NC_ALERTS_EVERY_US, nc_mono_us());
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&alerts->lock);
    while (!alerts->quitting && g_cond_wait_until(&alerts->wake, &alerts->lock, next_us))
      ;
    if (alerts->quitting)
      return NULL;
  }
}

void
nc_alerts_end(NcAlerts *alerts, json_t *record, const char *outcome)
{
  NcAlertSetting settings[NC_ALERT_RULE_COUNT];
  nc_autojson json_t *news = json_array();
  g_autofree char *subject = nc_alert_subject(record);
  NcAlertTime now = nc_alerts_now();

  if (!alerts)
    return;
  nc_alerts_settings(alerts->deps.config, settings);
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&alerts->lock);
  alerts->ends++;
  NcAlertFact *event = nc_alert_facts_of_end(alerts->facts, record, outcome, now.mono_us);
  nc_alert_engine_end(alerts->engine, settings, subject, event, now, news);
  nc_alerts_tell_locked(alerts, news, true);
  if (event)
    nc_alert_fact_free(event);
}

json_t *
nc_alerts_list(NcAlerts *alerts, json_t *args, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&alerts->lock);
  return nc_alert_engine_list(alerts->engine, nc_alerts_now());
}

json_t *
nc_alerts_watch(NcAlerts *alerts, json_t *args, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&alerts->lock);
  return nc_alert_news_page(alerts->news, nc_json_int_or(args, "since", -1));
}

/* --- beginning and end --- */

NcAlerts *
nc_alerts_new(const NcAlertsDeps *deps)
{
  NcAlerts *alerts = g_new0(NcAlerts, 1);
  const char *node = nc_nodes_self(deps->nodes);
  g_autofree char *prefix = nc_id_new("a");

  alerts->deps = *deps;
  alerts->webhook = nc_alert_webhook_new(deps->config, nc_trust_cluster(nc_nodes_trust(deps->nodes)), node);
  alerts->facts = nc_alert_facts_new(node);
  alerts->engine = nc_alert_engine_new(prefix);
  alerts->news = nc_alert_news_new(nc_wall_us()); /* by the clock, so behind those of an earlier novacrond */
  g_mutex_init(&alerts->lock);
  g_cond_init(&alerts->wake);
  return alerts;
}

void
nc_alerts_start(NcAlerts *alerts, NcMigrations *migrations)
{
  alerts->migrations = migrations;
  alerts->thread = g_thread_new("alerts", nc_alerts_thread, alerts);
}

void
nc_alerts_stop(NcAlerts *alerts)
{
  if (!alerts || !alerts->thread)
    return;
  g_mutex_lock(&alerts->lock);
  alerts->quitting = true;
  g_cond_signal(&alerts->wake);
  g_mutex_unlock(&alerts->lock);
  g_thread_join(g_steal_pointer(&alerts->thread));
}

void
nc_alerts_free(NcAlerts *alerts)
{
  if (!alerts)
    return;
  nc_alert_webhook_free(alerts->webhook);
  nc_alert_facts_free(alerts->facts);
  nc_alert_engine_free(alerts->engine);
  nc_alert_news_free(alerts->news);
  json_decref(alerts->store);
  g_mutex_clear(&alerts->lock);
  g_cond_clear(&alerts->wake);
  g_free(alerts);
}
