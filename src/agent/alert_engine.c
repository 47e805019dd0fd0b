/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/alert_engine.h"
#include "base/ident.h"
#include "base/msg.h"

#include <math.h>

#define NC_ALERTS_RESOLVED 100                          /* that are kept to be looked at */
#define NC_ALERTS_RESOLVED_US (INT64_C(3600) * 1000000) /* at most for so long */

typedef struct {
  NcAlertRule rule;
  char *subject, *id;
  json_t *about;
  double value, threshold;
  bool is_firing, is_told;
  NcAlertTime since, fired;
  int64_t well_us;  /* CLOCK_MONOTONIC; -1: it is not */
  int inhibitor;    /* NcAlertRule; -1: none */
  uint64_t step;    /* in which it was last heard of */
} NcAlert;

typedef struct {
  json_t *view;
  int64_t at_us;
} NcResolved;

struct NcAlertEngine {
  char *prefix;
  uint64_t made, step;
  GPtrArray *alerts; /* NcAlert, in the order in which they began */
  GQueue resolved;   /* NcResolved, the newest first */
};

NcAlertFact *
nc_alert_fact_new(NcAlertRule rule, const char *subject, double value, bool is_fine, json_t *about)
{
  NcAlertFact *fact = g_new0(NcAlertFact, 1);
  fact->rule = rule;
  fact->subject = g_strdup(subject);
  fact->value = value;
  fact->is_fine = is_fine;
  fact->about = json_incref(about);
  return fact;
}

void
nc_alert_fact_free(gpointer data)
{
  NcAlertFact *fact = data;
  g_free(fact->subject);
  json_decref(fact->about);
  g_free(fact);
}

static void
nc_alert_free(gpointer data)
{
  NcAlert *alert = data;
  g_free(alert->subject);
  g_free(alert->id);
  json_decref(alert->about);
  g_free(alert);
}

static void
nc_resolved_free(gpointer data)
{
  NcResolved *resolved = data;
  json_decref(resolved->view);
  g_free(resolved);
}

NcAlertEngine *
nc_alert_engine_new(const char *prefix)
{
  NcAlertEngine *engine = g_new0(NcAlertEngine, 1);
  engine->prefix = g_strdup(prefix);
  engine->alerts = g_ptr_array_new_with_free_func(nc_alert_free);
  g_queue_init(&engine->resolved);
  return engine;
}

void
nc_alert_engine_free(NcAlertEngine *engine)
{
  if (!engine)
    return;
  g_ptr_array_unref(engine->alerts);
  g_queue_clear_full(&engine->resolved, nc_resolved_free);
  g_free(engine->prefix);
  g_free(engine);
}

static json_t *
nc_alert_time(int64_t wall_us)
{
  g_autofree char *text = nc_time_format(wall_us);
  return json_string(text);
}

/* ${reason}: why it is resolved; NULL: it fires. New reference. */
static json_t *
nc_alert_view(const NcAlert *alert, const char *reason, NcAlertTime now)
{
  const NcAlertRuleInfo *rule = nc_alert_rule(alert->rule);
  g_autofree char *summary = nc_alert_summary(alert->rule, alert->about, alert->value);
  g_autofree char *remedy = nc_alert_remedy(alert->rule, alert->about);
  json_t *view = json_copy(alert->about);

  json_object_set_new(view, "id", json_string(alert->id));
  json_object_set_new(view, "alert", json_string(rule->name));
  json_object_set_new(view, "severity", json_string(rule->is_critical ? "critical" : "warning"));
  json_object_set_new(view, "state", json_string(reason ? "resolved" : "firing"));
  json_object_set_new(view, "summary", json_string(summary));
  json_object_set_new(view, "remedy", json_string(remedy));
  json_object_set_new(view, "value", rule->is_flag ? json_null() : json_real(alert->value));
  json_object_set_new(view, "threshold", rule->is_flag ? json_null() : json_real(alert->threshold));
  json_object_set_new(view, "unit", json_string(rule->unit));
  json_object_set_new(view, "since", nc_alert_time(alert->since.wall_us));
  json_object_set_new(view, "fired", nc_alert_time(alert->fired.wall_us));
  json_object_set_new(view, "resolved", reason ? nc_alert_time(now.wall_us) : json_null());
  json_object_set_new(view, "reason", reason ? json_string(reason) : json_null());
  json_object_set_new(view, "inhibited_by", alert->inhibitor < 0 ? json_null() : json_string(nc_alert_rule((NcAlertRule)alert->inhibitor)->name));
  return view;
}

/* --- one alert's life --- */

static NcAlert *
nc_alert_engine_find(NcAlertEngine *engine, NcAlertRule rule, const char *subject)
{
  for (guint i = 0; i < engine->alerts->len; i++) {
    NcAlert *alert = engine->alerts->pdata[i];
    if (alert->rule == rule && g_str_equal(alert->subject, subject))
      return alert;
  }
  return NULL;
}

static NcAlert *
nc_alert_engine_begin(NcAlertEngine *engine, const NcAlertFact *fact, NcAlertTime now)
{
  NcAlert *alert = g_new0(NcAlert, 1);
  alert->rule = fact->rule;
  alert->subject = g_strdup(fact->subject);
  alert->id = g_strdup_printf("%s.%" G_GUINT64_FORMAT, engine->prefix, ++engine->made);
  alert->about = json_incref(fact->about);
  alert->since = now;
  alert->well_us = -1;
  alert->inhibitor = -1;
  g_ptr_array_add(engine->alerts, alert);
  return alert;
}

/* It is no more; who was told that it fires hears of it. */
static void
nc_alert_engine_resolve(NcAlertEngine *engine, NcAlert *alert, const char *reason, NcAlertTime now, json_t *news)
{
  if (alert->is_told) {
    NcResolved *resolved = g_new0(NcResolved, 1);
    alert->inhibitor = -1;
    resolved->view = nc_alert_view(alert, reason, now);
    resolved->at_us = now.mono_us;
    json_array_append(news, resolved->view);
    g_queue_push_head(&engine->resolved, resolved);
  }
  g_ptr_array_remove(engine->alerts, alert);
}

/* Of one that fires: has it been well for long enough? */
static bool
nc_alert_is_over(NcAlert *alert, const NcAlertFact *fact, const NcAlertSetting *setting, NcAlertTime now)
{
  if (nc_alert_rule(alert->rule)->is_event || (isnan(fact->value) && !fact->is_fine))
    return false;
  if (!fact->is_fine && nc_alert_is_beyond(alert->rule, fact->value, setting->clear)) {
    alert->well_us = -1;
    return false;
  }
  if (alert->well_us < 0)
    alert->well_us = now.mono_us;
  return now.mono_us - alert->well_us >= setting->after_us;
}

/* Of one that is pending and not bad now: nobody has heard of it, so it may go; but what comes and goes is not over with one good look. */
static bool
nc_alert_is_off(NcAlert *alert, const NcAlertFact *fact, const NcAlertSetting *setting, NcAlertTime now)
{
  if (!nc_alert_rule(alert->rule)->is_fickle || fact->is_fine)
    return true;
  if (alert->well_us < 0)
    alert->well_us = now.mono_us;
  return now.mono_us - alert->well_us >= setting->after_us;
}

static void
nc_alert_engine_take(NcAlertEngine *engine, const NcAlertSetting *setting, const NcAlertFact *fact, NcAlertTime now, json_t *news)
{
  bool is_bad = setting->on && !fact->is_fine && !isnan(fact->value) && nc_alert_is_beyond(fact->rule, fact->value, setting->threshold);
  NcAlert *alert = nc_alert_engine_find(engine, fact->rule, fact->subject);

  if (!setting->on || (!alert && !is_bad))
    return;
  if (!alert)
    alert = nc_alert_engine_begin(engine, fact, now);
  alert->step = engine->step;
  alert->threshold = setting->threshold;
  if (is_bad)
    alert->value = fact->value;
  if (alert->is_firing) {
    if (nc_alert_is_over(alert, fact, setting, now))
      nc_alert_engine_resolve(engine, alert, "condition", now, news);
    return;
  }
  if (!is_bad && nc_alert_is_off(alert, fact, setting, now)) {
    g_ptr_array_remove(engine->alerts, alert);
  } else if (is_bad) {
    alert->well_us = -1;
    alert->is_firing = now.mono_us - alert->since.mono_us >= setting->for_us;
    alert->fired = now;
  }
}

/* --- all of them --- */

static int
nc_alert_engine_inhibitor(NcAlertEngine *engine, const NcAlert *alert)
{
  for (guint i = 0; i < engine->alerts->len; i++) {
    const NcAlert *other = engine->alerts->pdata[i];
    if (other->is_firing && (nc_alert_rule(alert->rule)->inhibitors & (1u << other->rule)) && g_str_equal(other->subject, alert->subject))
      return (int)other->rule;
  }
  return -1;
}

static void
nc_alert_engine_tell(NcAlertEngine *engine, NcAlertTime now, json_t *news)
{
  for (guint i = 0; i < engine->alerts->len; i++) {
    NcAlert *alert = engine->alerts->pdata[i];
    if (!alert->is_firing)
      continue;
    alert->inhibitor = nc_alert_engine_inhibitor(engine, alert);
    if (alert->inhibitor >= 0 || alert->is_told)
      continue;
    alert->is_told = true;
    json_array_append_new(news, nc_alert_view(alert, NULL, now));
  }
}

/* Why it ends without a fact that says so; NULL: it does not. */
static const char *
nc_alert_engine_end_of(const NcAlertEngine *engine, const NcAlert *alert, const NcAlertSetting *setting, NcAlertTime now)
{
  if (!setting->on)
    return "off";
  if (nc_alert_rule(alert->rule)->is_event)
    return now.mono_us - alert->fired.mono_us >= setting->after_us ? "time" : NULL;
  return alert->step != engine->step ? "over" : NULL;
}

static void
nc_alert_engine_forget_old(NcAlertEngine *engine, NcAlertTime now)
{
  for (NcResolved *last; (last = g_queue_peek_tail(&engine->resolved));) {
    if (g_queue_get_length(&engine->resolved) <= NC_ALERTS_RESOLVED && now.mono_us - last->at_us < NC_ALERTS_RESOLVED_US)
      return;
    nc_resolved_free(g_queue_pop_tail(&engine->resolved));
  }
}

void
nc_alert_engine_step(NcAlertEngine *engine, const NcAlertSetting settings[NC_ALERT_RULE_COUNT], const GPtrArray *facts, NcAlertTime now,
                     json_t *news)
{
  engine->step++;
  for (guint i = 0; i < facts->len; i++) {
    const NcAlertFact *fact = facts->pdata[i];
    nc_alert_engine_take(engine, &settings[fact->rule], fact, now, news);
  }
  for (guint i = engine->alerts->len; i-- > 0;) {
    NcAlert *alert = engine->alerts->pdata[i];
    const char *reason = nc_alert_engine_end_of(engine, alert, &settings[alert->rule], now);
    if (reason)
      nc_alert_engine_resolve(engine, alert, reason, now, news);
  }
  nc_alert_engine_tell(engine, now, news);
  nc_alert_engine_forget_old(engine, now);
}

void
nc_alert_engine_end(NcAlertEngine *engine, const NcAlertSetting settings[NC_ALERT_RULE_COUNT], const char *subject, const NcAlertFact *event,
                    NcAlertTime now, json_t *news)
{
  for (guint i = engine->alerts->len; i-- > 0;) {
    NcAlert *alert = engine->alerts->pdata[i];
    if (g_str_equal(alert->subject, subject) && !nc_alert_rule(alert->rule)->is_event)
      nc_alert_engine_resolve(engine, alert, "over", now, news);
  }
  if (event)
    nc_alert_engine_take(engine, &settings[event->rule], event, now, news);
  nc_alert_engine_tell(engine, now, news);
}

json_t *
nc_alert_engine_list(NcAlertEngine *engine, NcAlertTime now)
{
  json_t *list = json_array();

  nc_alert_engine_forget_old(engine, now);
  for (guint i = engine->alerts->len; i-- > 0;) {
    const NcAlert *alert = engine->alerts->pdata[i];
    if (alert->is_firing)
      json_array_append_new(list, nc_alert_view(alert, NULL, now));
  }
  for (GList *at = engine->resolved.head; at; at = at->next)
    json_array_append(list, ((NcResolved *)at->data)->view);
  return list;
}
