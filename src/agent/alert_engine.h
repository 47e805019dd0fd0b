/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which alerts are raised: facts come in with the time, what is news goes out. Pure: knows no clock, no thread and no socket. Not
 * thread-safe.
 *
 * An alert is pending as long as its value has not been beyond the threshold for long enough (where that is fickle: never well for as long as
 * would clear it), then firing, and resolved when it has been well for long enough, or what it is about is over. While another one of the same subject inhibits it (agent/alert_rules.h) it is not
 * told of: when that one is resolved and it still fires, it is. What was told once is told to be resolved.
 */
#pragma once

#include "agent/alert_rules.h"

/* What is known of one rule and one subject. */
typedef struct {
  NcAlertRule rule;
  char *subject; /* what inhibits and ends together: "m-1/source", or the node */
  double value;  /* NAN: not known now, which raises nothing and clears nothing */
  bool is_fine;  /* whatever the value: something else says that it is well */
  json_t *about; /* vm, migration, ... for those who read it */
} NcAlertFact;

/* ${about}: borrowed. */
NcAlertFact *nc_alert_fact_new(NcAlertRule rule, const char *subject, double value, bool is_fine, json_t *about);
void nc_alert_fact_free(gpointer fact);

typedef struct {
  int64_t mono_us; /* what durations are counted by */
  int64_t wall_us; /* for people */
} NcAlertTime;

typedef struct NcAlertEngine NcAlertEngine;

/* ${prefix}: ids of alerts begin with it (copied). */
NcAlertEngine *nc_alert_engine_new(const char *prefix);
void nc_alert_engine_free(NcAlertEngine *engine);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcAlertEngine, nc_alert_engine_free)

/*
 * ${facts}: NcAlertFact, of all there is: what has none any more is over. ${settings}: of each rule. To ${news} (array) comes each alert
 * that begins or ends to be told, as in docs/api/openapi.json (Alert).
 */
void nc_alert_engine_step(NcAlertEngine *engine, const NcAlertSetting settings[NC_ALERT_RULE_COUNT], const GPtrArray *facts, NcAlertTime now,
                          json_t *news);
/* ${subject} is over: its alerts are resolved, but for events; ${event} (NULL: none) happened at its end. */
void nc_alert_engine_end(NcAlertEngine *engine, const NcAlertSetting settings[NC_ALERT_RULE_COUNT], const char *subject, const NcAlertFact *event,
                         NcAlertTime now, json_t *news);

/* Those that fire, also inhibited ones, the newest first; then those resolved of late. New reference. */
json_t *nc_alert_engine_list(NcAlertEngine *engine, NcAlertTime now);
