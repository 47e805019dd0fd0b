/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/watch.h"
#include "base/ident.h"
#include "cli/fleet_view.h"
#include "cli/progress_line.h"
#include "cli/stream.h"
#include "cli/table.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define NC_WATCH_AGAIN_US 1000000
#define NC_WATCH_SILENCE_US INT64_C(300000000) /* as in follow.c */

typedef struct {
  const NcCli *cli;
  const char *id;
  const char *path; /* of it, in the API */
  int64_t last; /* the id of the last message */
  NcProgressLine line;
  int64_t silent_since_us; /* 0: there is a connection */
} NcWatch;

static volatile sig_atomic_t nc_watch_interrupted;

static void
nc_watch_on_signal(int signal)
{
  nc_watch_interrupted = 1;
}

static void
nc_watch_print_progress(NcWatch *w, json_t *data)
{
  /* null: not known, as at the destination, or of many while nobody leads */
  json_t *progress = json_object_get(data, "progress"), *rate = json_object_get(data, "transfer_rate");
  const char *eta = nc_json_string_or(data, "eta", NULL);
  g_autofree char *percent = json_is_number(progress) ? g_strdup_printf(" %.0f %%", json_number_value(progress)) : g_strdup("");
  g_autofree char *speed =
      json_is_number(rate) ? g_strdup_printf("%s %.1f MB/s", percent[0] ? "," : "", json_number_value(rate) / 1e6) : g_strdup("");
  g_autofree char *line =
      g_strdup_printf("%s%s%s%s%s", nc_json_string_or(data, "phase", "?"), percent, speed, eta ? ", " : "", eta ? eta : "");
  nc_progress_line_draw(&w->line, line);
}

/* "completed: pause 12.5 ms, 61 MB on the wire". */
static void
nc_watch_say_end(GString *line, const char *type, json_t *data)
{
  json_t *error = json_object_get(data, "error"), *pause = json_object_get(data, "pause_ms");

  g_string_append(line, type);
  if (json_is_number(pause))
    g_string_append_printf(line, ": pause %.1f ms, %.1f MB on the wire", json_number_value(pause),
                           (double)nc_json_int_or(data, "wire_bytes", 0) / 1e6);
  if (json_is_object(error))
    g_string_append_printf(line, ": %s", nc_json_string_or(error, "message", "?"));
}

/* Of one of many it is said which: "migration.state mig-...: running, attempt 1". */
static void
nc_watch_say_event(GString *line, const char *type, json_t *data)
{
  const char *event = nc_json_string_or(data, "event", NULL), *detail = nc_json_string_or(data, "detail", "");
  const char *subject = nc_json_string_or(data, "subject", "");
  const char *what = g_str_equal(type, "phase") ? nc_json_string_or(data, "phase", "?") : event ? event : type;

  g_string_append_printf(line, "%s%s%s%s%s", what, subject[0] ? " " : "", subject, detail[0] ? ": " : "", detail);
}

static void
nc_watch_print(NcWatch *w, json_t *message)
{
  const char *type = nc_json_string_or(message, "type", "?");
  json_t *data = json_object_get(message, "data");

  w->last = nc_json_int_or(message, "id", w->last);
  if (w->cli->json) {
    json_dumpf(message, stdout, JSON_COMPACT | JSON_REAL_PRECISION(10));
    printf("\n");
  } else if (g_str_equal(type, "progress")) {
    nc_watch_print_progress(w, data);
    return;
  } else {
    g_autoptr(GString) line = g_string_new(NULL);
    g_string_printf(line, "%s  ", nc_json_string_or(message, "at", ""));
    if (json_object_get(data, "outcome"))
      nc_watch_say_end(line, type, data);
    else
      nc_watch_say_event(line, type, data);
    g_autofree char *clean = nc_text_clean(line->str); /* it may be another node's */
    nc_progress_line_end(&w->line);
    puts(clean);
  }
  fflush(stdout);
}

/* One connection. true: it has ended, or Ctrl-C; false with *error: the connection, and why. */
static bool
nc_watch_once(NcWatch *w, GError **error)
{
  g_autofree char *path = g_strdup_printf("%s/ws?since=%" G_GINT64_FORMAT, w->path, w->last);
  g_autoptr(NcStream) stream = nc_stream_open(w->cli, path, error);

  if (!stream)
    return false;
  while (!nc_watch_interrupted) {
    unsigned code;
    g_autoptr(GError) problem = NULL;
    nc_autojson json_t *message = nc_stream_next(stream, 1000, &code, &problem);
    if (message) {
      w->silent_since_us = 0;
      nc_watch_print(w, message);
    }
    if (problem && code == 1000)
      return true;
    if (problem) {
      g_propagate_error(error, g_steal_pointer(&problem));
      return false;
    }
  }
  return true;
}

/* What may be there again in a moment. */
static bool
nc_watch_is_passing(const GError *error)
{
  return error->code == NC_ERROR_UNREACHABLE || error->code == NC_ERROR_TIMEOUT || error->code == NC_ERROR_RESOURCE ||
         error->code == NC_ERROR_UNAVAILABLE;
}

static bool
nc_watch_loop(NcWatch *w, GError **error)
{
  for (;;) {
    g_autoptr(GError) problem = NULL;
    if (nc_watch_once(w, &problem))
      break;
    int64_t now = nc_mono_us();
    if (w->silent_since_us == 0)
      w->silent_since_us = now;
    if (!nc_watch_is_passing(problem) || now - w->silent_since_us > NC_WATCH_SILENCE_US) {
      g_propagate_error(error, g_steal_pointer(&problem));
      return false;
    }
    nc_progress_line_draw(&w->line, "NovaCron does not answer; it goes on; asking again");
    g_usleep(NC_WATCH_AGAIN_US);
    if (nc_watch_interrupted)
      break;
  }
  return !nc_watch_interrupted || nc_fail(error, NC_ERROR_CANCELLED, "interrupted: %s goes on", w->id);
}

/* Of a migration of this node (also an attempt, "mig-ID.N"), or of what the fleet's controllers manage. Caller frees. */
static char *
nc_watch_path(const char *id, bool *ret_is_of_fleet)
{
  NcFleetKind kind;

  *ret_is_of_fleet = !strchr(id, '.') && nc_fleet_kind_of(id, &kind, NULL);
  return *ret_is_of_fleet ? nc_fleet_kind_path(kind, id) : g_strdup_printf("/api/v2/migrations/%s", id);
}

bool
nc_watch(const NcCli *cli, const char *id, GError **error)
{
  bool is_of_fleet;
  g_autofree char *path = nc_watch_path(id, &is_of_fleet);
  NcWatch watch = { .cli = cli, .id = id, .path = path };
  struct sigaction action = { .sa_handler = nc_watch_on_signal }; /* no SA_RESTART: waiting must end */
  /* First a question, whose refusal says more than a handshake's. */
  nc_autojson json_t *status = nc_client_callf(cli, "GET", NULL, error, "%s%s", path, is_of_fleet ? "" : "/status");

  if (!status)
    return false;
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  nc_progress_line_begin(&watch.line);
  bool ok = nc_watch_loop(&watch, error);
  nc_progress_line_end(&watch.line);
  return ok;
}
