/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/alert_news.h"
#include "base/ident.h"

#include <glib.h>

#define NC_ALERT_NEWS_PAGE 200u
#define NC_ALERT_NEWS_LAST 100u

struct NcAlertNews {
  GQueue messages; /* json_t, owned; their ids follow each other */
  int64_t last;    /* id of the newest */
};

NcAlertNews *
nc_alert_news_new(int64_t id)
{
  NcAlertNews *news = g_new0(NcAlertNews, 1);
  g_queue_init(&news->messages);
  news->last = id;
  return news;
}

static void
nc_alert_news_drop(gpointer message)
{
  json_decref(message);
}

void
nc_alert_news_free(NcAlertNews *news)
{
  if (!news)
    return;
  g_queue_clear_full(&news->messages, nc_alert_news_drop);
  g_free(news);
}

void
nc_alert_news_add(NcAlertNews *news, json_t *alert, int64_t at_us)
{
  g_autofree char *at = nc_time_format(at_us);

  g_queue_push_tail(&news->messages,
                    json_pack("{s:I, s:s, s:s, s:O}", "id", (json_int_t)++news->last, "type", "alert", "at", at, "data", alert));
  if (news->messages.length > NC_ALERT_NEWS_MAX)
    nc_alert_news_drop(g_queue_pop_head(&news->messages));
}

json_t *
nc_alert_news_page(const NcAlertNews *news, int64_t since)
{
  json_t *events = json_array();
  guint kept = news->messages.length;
  int64_t first = news->last - kept + 1; /* the oldest that is kept */
  bool knows = since >= 0 && since <= news->last;
  int64_t from = knows ? MAX(since, first - 1) : news->last - MIN(kept, NC_ALERT_NEWS_LAST);
  guint count = (guint)MIN(news->last - from, NC_ALERT_NEWS_PAGE);
  GList *link = g_queue_peek_nth_link((GQueue *)&news->messages, (guint)(from + 1 - first));

  for (guint i = 0; i < count; i++, link = link->next)
    json_array_append_new(events, json_deep_copy(link->data)); /* nobody else has them then */
  return json_pack("{s:o, s:I, s:b, s:I}", "events", events, "last", (json_int_t)(from + count), "more", from + count < news->last, "from",
                   (json_int_t)from);
}
