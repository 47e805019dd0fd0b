/* SPDX-License-Identifier: Apache-2.0 */
/* novacron events: what happened in the fleet, and what happens from now on. */
#include "base/ident.h"
#include "cli/client.h"
#include "cli/table.h"

#include <inttypes.h>
#include <stdio.h>

#define NC_EVENTS_USUAL 100
#define NC_EVENTS_MOST 1000
#define NC_EVENTS_POLL_US 1000000u
#define NC_EVENTS_SECONDS 19 /* of a time in RFC 3339: the rest is the fraction */

typedef struct {
  const NcCli *cli;
  char *migration;
  int follow, limit;
  int64_t after; /* the last one that was seen; negative: none, and only the last ones are wanted */
  bool is_silent;
} NcEvents;

static void
nc_events_clear(NcEvents *e)
{
  g_free(e->migration);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcEvents, nc_events_clear)

/* "state running, attempt 1" of an event's detail; what says nothing is left out. Caller frees. */
static char *
nc_events_detail(json_t *detail)
{
  GString *text = g_string_new(NULL);
  const char *key;
  json_t *value;

  json_object_foreach(detail, key, value)
  {
    if (json_is_string(value) && !json_string_value(value)[0])
      continue;
    g_autofree char *shown = json_is_string(value)
                                 ? g_strdup(json_string_value(value))
                                 : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    g_string_append_printf(text, "%s%s %s", text->len > 0 ? ", " : "", key, shown ? shown : "?");
  }
  return g_string_free(text, FALSE);
}

static void
nc_events_print(const NcEvents *e, json_t *event)
{
  if (e->cli->json) {
    nc_cli_print_json(event);
    return;
  }
  g_autofree char *time = nc_time_format(nc_json_int_or(event, "at_us", 0));
  g_autofree char *detail = nc_events_detail(json_object_get(event, "detail"));
  g_autofree char *line =
      g_strdup_printf("%.*sZ  %s  %s  %s", NC_EVENTS_SECONDS, time, nc_json_string_or(event, "kind", "?"),
                      nc_json_string_or(event, "subject", "?"), detail);
  g_autofree char *clean = nc_text_clean(line);
  puts(clean);
}

/* One page; NULL on error. */
static json_t *
nc_events_ask(const NcEvents *e, GError **error)
{
  g_autoptr(GString) path = g_string_new(NULL);

  g_string_printf(path, "/api/v2/fleet/events?limit=%d", e->limit);
  if (e->after >= 0)
    g_string_append_printf(path, "&after=%" PRId64, e->after);
  if (e->migration)
    g_string_append_printf(path, "&migration=%s", e->migration);
  return nc_client_call(e->cli, "GET", path->str, NULL, error);
}

/* Prints what is new, and goes on behind it. Returns how many those were. */
static size_t
nc_events_take(NcEvents *e, json_t *page)
{
  json_t *items = json_object_get(page, "items"), *event;
  size_t i;

  if (e->after >= 0 && nc_json_int_or(page, "oldest", 0) > e->after + 1)
    fprintf(stderr, "novacron: some events before %" PRId64 " are not kept any more\n",
            nc_json_int_or(page, "oldest", 0));
  json_array_foreach(items, i, event)
  {
    nc_events_print(e, event);
    e->after = MAX(e->after, nc_json_int_or(event, "id", 0));
  }
  if (json_array_size(items) < (size_t)e->limit) /* with a filter the newest need not be among them */
    e->after = MAX(e->after, nc_json_int_or(page, "newest", 0));
  return json_array_size(items);
}

/* NovaCron may be away for a while, or without a leader. False: it will not pass. */
static bool
nc_events_bear(NcEvents *e, const GError *problem, GError **error)
{
  if (problem->code != NC_ERROR_UNREACHABLE && problem->code != NC_ERROR_TIMEOUT &&
      problem->code != NC_ERROR_UNAVAILABLE && problem->code != NC_ERROR_RESOURCE) {
    g_propagate_error(error, g_error_copy(problem));
    return false;
  }
  g_autofree char *message = nc_text_clean(problem->message); /* it may be another node's */
  if (!e->is_silent)
    fprintf(stderr, "novacron: asking again until there is an answer: %s\n", message);
  e->is_silent = true;
  return true;
}

/* Until somebody interrupts it, or output can't be written. */
static bool
nc_events_follow(NcEvents *e, GError **error)
{
  for (;;) {
    g_autoptr(GError) problem = NULL;
    nc_autojson json_t *page = nc_events_ask(e, &problem);
    size_t count = page ? nc_events_take(e, page) : 0;
    if (!page && !nc_events_bear(e, problem, error))
      return false;
    if (page)
      e->is_silent = false;
    if (fflush(stdout) != 0)
      return nc_fail(error, NC_ERROR_IO, "the output could not be written");
    if (count < (size_t)e->limit)
      g_usleep(NC_EVENTS_POLL_US);
  }
}

static bool
nc_events_once(NcEvents *e, GError **error)
{
  nc_autojson json_t *page = nc_events_ask(e, error);

  if (!page)
    return false;
  if (e->cli->json)
    nc_cli_print_json(page);
  else if (nc_events_take(e, page) == 0)
    puts("No events.");
  return true;
}

bool
nc_cmd_events(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_auto(NcEvents) e = { .cli = cli, .limit = NC_EVENTS_USUAL, .after = -1 };
  gint64 after = -1;
  const GOptionEntry entries[] = {
    { "follow", 0, 0, G_OPTION_ARG_NONE, &e.follow, "stay, and print what happens; with --json a line for each", NULL },
    { "migration", 0, 0, G_OPTION_ARG_STRING, &e.migration, "of this migration only", "ID" },
    { "after", 0, 0, G_OPTION_ARG_INT64, &after, "behind the event of this number", "N" },
    { "limit", 0, 0, G_OPTION_ARG_INT, &e.limit, "at most N at once (default: the last 100)", "N" },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, entries, &argc, &argv, error) ||
      (e.migration && !nc_cli_check_name("migration", e.migration, error)))
    return false;
  if (e.limit < 1 || e.limit > NC_EVENTS_MOST)
    return nc_fail(error, NC_ERROR_INVALID, "--limit must be 1 to %d", NC_EVENTS_MOST);
  e.after = MAX(after, -1);
  return e.follow ? nc_events_follow(&e, error) : nc_events_once(&e, error);
}
