/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/watch_log.h"
#include "base/msg.h"
#include "gate/websocket.h"

#include <string.h>

typedef struct {
  int64_t id;
  GBytes *frame;
} NcWatchEvent;

struct NcWatchLog {
  unsigned max_events;
  size_t max_bytes;
  GArray *events; /* NcWatchEvent, by id */
  size_t bytes;
  int64_t dropped; /* id of the newest event that is no longer kept */
  int64_t last;
  uint64_t answers; /* that have come */
  bool more, ended;
  bool end_told; /* the last event tells of the end: samples would come late */
  char *progress; /* the sample's data; NULL: none yet */
  GBytes *sample; /* its frame */
  uint64_t samples;
};

static void
nc_watch_event_clear(gpointer data)
{
  NcWatchEvent *event = data;
  g_bytes_unref(event->frame);
}

NcWatchLog *
nc_watch_log_new(unsigned max_events, size_t max_bytes)
{
  NcWatchLog *log = g_new0(NcWatchLog, 1);
  log->max_events = max_events;
  log->max_bytes = max_bytes;
  log->events = g_array_new(FALSE, FALSE, sizeof(NcWatchEvent));
  g_array_set_clear_func(log->events, nc_watch_event_clear);
  return log;
}

void
nc_watch_log_free(NcWatchLog *log)
{
  if (!log)
    return;
  g_array_unref(log->events);
  g_free(log->progress);
  g_clear_pointer(&log->sample, g_bytes_unref);
  g_free(log);
}

int64_t
nc_watch_log_last(const NcWatchLog *log)
{
  return log->last;
}

bool
nc_watch_log_has_more(const NcWatchLog *log)
{
  return log->more;
}

bool
nc_watch_log_has_ended(const NcWatchLog *log)
{
  return log->ended;
}

static GBytes *
nc_watch_frame(json_t *message)
{
  g_autofree char *text = json_dumps(message, JSON_COMPACT | JSON_REAL_PRECISION(10));
  return text ? nc_ws_frame(NC_WS_TEXT, text, strlen(text)) : NULL;
}

static void
nc_watch_log_trim(NcWatchLog *log)
{
  guint drop = 0;

  while (drop + 1 < log->events->len && (log->events->len - drop > log->max_events || log->bytes > log->max_bytes)) {
    const NcWatchEvent *event = &g_array_index(log->events, NcWatchEvent, drop++);
    log->bytes -= g_bytes_get_size(event->frame);
    log->dropped = event->id;
  }
  if (drop > 0)
    g_array_remove_range(log->events, 0, drop);
}

static bool
nc_watch_log_add(NcWatchLog *log, json_t *message, GError **error)
{
  static const char *const ends[] = { "completed", "failed", "cancelled", NULL };
  const char *type = nc_json_string(message, "type", error);
  NcWatchEvent event;

  if (!type || !nc_json_int(message, "id", 1, G_MAXINT64, &event.id, error))
    return false;
  if (event.id <= log->last)
    return nc_fail(error, NC_ERROR_PROTOCOL, "event %" G_GINT64_FORMAT " came after event %" G_GINT64_FORMAT, event.id, log->last);
  event.frame = nc_watch_frame(message);
  if (!event.frame)
    return nc_fail(error, NC_ERROR_PROTOCOL, "event %" G_GINT64_FORMAT " can't be encoded", event.id);
  log->last = event.id;
  log->end_told = g_strv_contains(ends, type);
  log->bytes += g_bytes_get_size(event.frame);
  g_array_append_val(log->events, event);
  nc_watch_log_trim(log);
  return true;
}

/*
 * A sample that says nothing new is none (unless events came: those are ${anew}). Its id is that of the event before it:
 * from there a watcher goes on.
 */
static void
nc_watch_log_take_progress(NcWatchLog *log, json_t *progress, bool anew)
{
  g_autofree char *text = json_dumps(progress, JSON_COMPACT | JSON_SORT_KEYS);
  nc_autojson json_t *message =
      json_pack("{s:I, s:s, s:O}", "id", (json_int_t)log->last, "type", "progress", "data", progress);

  if (!text || (!anew && log->progress && g_str_equal(text, log->progress)))
    return;
  g_clear_pointer(&log->sample, g_bytes_unref);
  log->sample = nc_watch_frame(message);
  log->samples++;
  g_free(log->progress);
  log->progress = g_steal_pointer(&text);
}

/*
 * Behind which event the answer begins: it is not where the last one ended if what was in between is not kept, or if ids have gone back. Then
 * whoever has not heard all of it is told of a gap.
 */
static void
nc_watch_log_take_from(NcWatchLog *log, int64_t from)
{
  if (log->answers > 0 && from == log->last)
    return;
  g_array_set_size(log->events, 0);
  log->bytes = 0;
  log->last = log->dropped = from;
}

bool
nc_watch_log_take(NcWatchLog *log, json_t *answer, GError **error)
{
  json_t *events = json_object_get(answer, "events"), *progress = json_object_get(answer, "progress"), *message;
  size_t i;

  if (!json_is_array(events) || (progress && !json_is_object(progress)))
    return nc_fail(error, NC_ERROR_PROTOCOL, "novacrond answered without events, or with a progress that is none");
  nc_watch_log_take_from(log, nc_json_int_or(answer, "from", log->answers == 0 ? 0 : log->last));
  json_array_foreach(events, i, message) if (!nc_watch_log_add(log, message, error)) return false;
  log->answers++;
  log->more = nc_json_bool_or(answer, "more", false) && i > 0;
  log->ended = nc_json_bool_or(answer, "ended", false);
  if (progress)
    nc_watch_log_take_progress(log, progress, i > 0);
  return true;
}

static GBytes *
nc_watch_log_gap(const NcWatchLog *log, const char *why)
{
  nc_autojson json_t *message = json_pack("{s:I, s:s, s:{s:s}}", "id", (json_int_t)log->dropped, "type", "gap", "data", "detail", why);
  return nc_watch_frame(message);
}

/* The first event behind ${id}; their number: there is none. */
static guint
nc_watch_log_find(const NcWatchLog *log, int64_t id)
{
  guint low = 0, high = log->events->len;

  while (low < high) {
    guint middle = low + (high - low) / 2;
    if (g_array_index(log->events, NcWatchEvent, middle).id > id)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

NcWatchPlace
nc_watch_log_begin(const NcWatchLog *log, int64_t since)
{
  return (NcWatchPlace){ .id = since, .answers = log->answers };
}

/*
 * Behind all there is or will be soon: what a question that was under way when ${place} began has brought may be older than
 * what was told elsewhere; the next one's answer is not.
 */
static bool
nc_watch_log_is_astray(const NcWatchLog *log, const NcWatchPlace *place)
{
  return place->id > log->last && (log->ended || (log->answers > place->answers + 1 && !log->more));
}

GBytes *
nc_watch_log_next(const NcWatchLog *log, NcWatchPlace *place)
{
  if (place->id < 0 && log->answers == 0)
    return NULL;
  if (place->id < 0)
    place->id = log->dropped;
  guint at = nc_watch_log_find(log, place->id);
  if (place->id < log->dropped) {
    place->id = log->dropped;
    return nc_watch_log_gap(log, "older events are not kept here: GET the history");
  }
  if (nc_watch_log_is_astray(log, place)) {
    place->id = log->dropped;
    return nc_watch_log_gap(log, "there was no such event yet: all that is kept is told again");
  }
  if (at < log->events->len) {
    const NcWatchEvent *event = &g_array_index(log->events, NcWatchEvent, at);
    place->id = event->id;
    return g_bytes_ref(event->frame);
  }
  if (!log->sample || log->more || (log->ended && log->end_told) || place->sample == log->samples)
    return NULL;
  place->sample = log->samples;
  return g_bytes_ref(log->sample);
}
