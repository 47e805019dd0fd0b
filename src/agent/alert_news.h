/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last changes of a node's alerts, each with an ascending id, for those who watch them: the control socket's alert.watch. They
 * are kept in memory; that ids go on behind those of an earlier novacrond its caller sees to. Not thread-safe.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

typedef struct NcAlertNews NcAlertNews;

/* Of how many changes: more of them are not kept. */
#define NC_ALERT_NEWS_MAX 1000

/* Ids begin behind ${id}. */
NcAlertNews *nc_alert_news_new(int64_t id);
void nc_alert_news_free(NcAlertNews *news); /* NULL is fine */

/* ${alert} (borrowed, not changed afterwards) fires, or is resolved, at ${at_us}, wall-clock time. */
void nc_alert_news_add(NcAlertNews *news, json_t *alert, int64_t at_us);

/*
 * {events: [{id, type: "alert", at, data}], last, more, from}: what came behind event ${since}, 200 at most; negative, or one that has not
 * come (a clock that went back): the last 100. "from": behind which event it begins. New reference.
 */
json_t *nc_alert_news_page(const NcAlertNews *news, int64_t since);
