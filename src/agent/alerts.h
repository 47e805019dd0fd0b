/* SPDX-License-Identifier: Apache-2.0 */
/*
 * This node's alerts: a thread that looks every second at its migrations, store and certificate (alert_facts.h), has alert_engine.h
 * decide, and tells what is news: to the log, to the history of the migration concerned (and so to those who watch it), and to the webhook.
 * Thread-safe.
 *
 * Settings are read at each look, so that a reload of the configuration takes effect. What fires is not kept over a restart of novacrond: what is
 * still so fires again.
 */
#pragma once

#include "agent/config.h"
#include "agent/nodes.h"
#include "agent/store_work.h"
#include "store/journal.h"

typedef struct NcAlerts NcAlerts;
typedef struct NcMigrations NcMigrations;

/* All borrowed, all outlive it. */
typedef struct {
  const NcConfig *config;
  NcJournal *journal;
  NcNodes *nodes;
  NcStoreWork *store_work;
} NcAlertsDeps;

NcAlerts *nc_alerts_new(const NcAlertsDeps *deps);
/* Begins to look; ${migrations} until nc_alerts_stop(). */
void nc_alerts_start(NcAlerts *alerts, NcMigrations *migrations);
void nc_alerts_stop(NcAlerts *alerts);
/* Stopped before; NULL is fine. */
void nc_alerts_free(NcAlerts *alerts);

/* The migration of ${record} ends like that: before its last event, so that what is told of it stands before that. ${alerts} may be NULL. */
void nc_alerts_end(NcAlerts *alerts, json_t *record, const char *outcome);

/* The control socket's alert.list: array of alerts (docs/api/openapi.json). New reference. */
json_t *nc_alerts_list(NcAlerts *alerts, json_t *args, GError **error);
/* alert.watch: {since}: the changes behind it (agent/alert_news.h). New reference. */
json_t *nc_alerts_watch(NcAlerts *alerts, json_t *args, GError **error);
