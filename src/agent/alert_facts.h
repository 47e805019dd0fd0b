/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What alerts are raised by, out of migrations' records and what a node knows of itself. Records have numbers since a migration's
 * beginning; of processor time and of losses what counts is the last seconds, so that they are remembered here from one look to the next.
 * Pure: time comes in. Not thread-safe.
 */
#pragma once

#include "agent/alert_engine.h"

#define NC_ALERT_WINDOW_US (INT64_C(5) * 1000000) /* rates are of so long at least */
#define NC_ALERT_SHARE 0.8                        /* of its limit or link: a transfer that has it is not slow */

typedef struct NcAlertFacts NcAlertFacts;

/* ${node}: this one's name (copied). */
NcAlertFacts *nc_alert_facts_new(const char *node);
void nc_alert_facts_free(NcAlertFacts *facts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcAlertFacts, nc_alert_facts_free)

/* ${running}: records of all that have not ended (array, borrowed). To ${ret}: NcAlertFact. ${now_us}: CLOCK_MONOTONIC. */
void nc_alert_facts_of_migrations(NcAlertFacts *facts, json_t *running, int64_t now_us, GPtrArray *ret);

/* One has ended like that: what happened at its end, NULL: nothing. Caller frees by nc_alert_fact_free(). */
NcAlertFact *nc_alert_facts_of_end(NcAlertFacts *facts, json_t *record, const char *outcome, int64_t now_us);
/* What its alerts have as their subject. Caller frees. */
char *nc_alert_subject(json_t *record);

typedef struct {
  json_t *store;                /* store.status, borrowed; NULL: there is none, and there should be */
  int64_t certificate_left_us;
} NcAlertNode;

void nc_alert_facts_of_node(NcAlertFacts *facts, const NcAlertNode *node, int64_t now_us, GPtrArray *ret);
