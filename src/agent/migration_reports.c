/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/migration_reports.h"
#include "agent/migration_views.h"
#include "base/ident.h"

#include <string.h>

#define NC_LIST_DEFAULT 100
#define NC_LIST_MAX 1000
#define NC_DASHBOARD_WINDOW 1000
#define NC_WATCH_PAGE 200 /* events in one answer */
#define NC_PHASE_PAGE 50  /* events looked through at once for the last phase, which is among them as a rule */

/* --- lists --- */

/* A cursor is the journal's row behind which the next page begins. Opaque to users: a letter says so. */
static bool
nc_cursor_read(json_t *args, int64_t *ret_before, GError **error)
{
  json_t *value = json_object_get(args, "cursor");
  const char *text = json_string_value(value);
  char *end = NULL;

  *ret_before = 0;
  if (!value || json_is_null(value))
    return true;
  if (text && text[0] == 'm' && g_ascii_isdigit(text[1]) && strlen(text) <= 19)
    *ret_before = g_ascii_strtoll(text + 1, &end, 10);
  return (end && *end == '\0' && *ret_before > 0) ||
         nc_fail(error, NC_ERROR_INVALID, "\"cursor\" must be what an earlier answer had as \"next\"");
}

typedef struct {
  NcMigrationFilter filter;
  unsigned limit;
  json_t *items;
  int64_t next; /* 0: this is all */
} NcListing;

/* Takes what fits of one page. The listing is full when one more than wanted was found: then there is a next page. */
static bool
nc_listing_take(NcListing *listing, json_t *page, const GArray *rows)
{
  size_t i;
  json_t *record;

  json_array_foreach(page, i, record)
  {
    if (!nc_migration_filter_fits(&listing->filter, record))
      continue;
    if (json_array_size(listing->items) == listing->limit)
      return false;
    json_array_append(listing->items, record);
    listing->next = g_array_index(rows, int64_t, i);
  }
  return true;
}

json_t *
nc_migration_reports_list(NcMigrations *migrations, json_t *args, GError **error)
{
  g_autoptr(GArray) rows = g_array_new(FALSE, FALSE, sizeof(int64_t));
  nc_autojson json_t *items = json_array();
  NcListing listing = { .items = items };
  int64_t before;

  listing.limit = (unsigned)CLAMP(nc_json_int_or(args, "limit", NC_LIST_DEFAULT), 1, NC_LIST_MAX);
  if (!nc_migration_filter_read(args, &listing.filter, error) || !nc_cursor_read(args, &before, error))
    return NULL;
  for (bool more = true; more;) {
    nc_autojson json_t *page = nc_migrations_page(migrations, before, NC_JOURNAL_PAGE, rows, error);
    if (!page)
      return NULL;
    if (!nc_listing_take(&listing, page, rows))
      break;
    more = rows->len == NC_JOURNAL_PAGE;
    if (more)
      before = g_array_index(rows, int64_t, rows->len - 1);
    else
      listing.next = 0;
  }
  g_autofree char *next = listing.next > 0 ? g_strdup_printf("m%" G_GINT64_FORMAT, listing.next) : NULL;
  return json_pack("{s:O, s:s?}", "items", items, "next", next);
}

/* --- one --- */

static json_t *
nc_report(NcMigrations *migrations, json_t *args, json_t *(*view)(json_t *record, int64_t now_us), GError **error)
{
  const char *id = nc_json_string(args, "id", error);
  nc_autojson json_t *record = id ? nc_migrations_record(migrations, id, error) : NULL;

  return record ? view(record, nc_wall_us()) : NULL;
}

json_t *
nc_migration_reports_status(NcMigrations *migrations, json_t *args, GError **error)
{
  return nc_report(migrations, args, nc_migration_status_view, error);
}

json_t *
nc_migration_reports_metrics(NcMigrations *migrations, json_t *args, GError **error)
{
  return nc_report(migrations, args, nc_migration_metrics_view, error);
}

/* --- all --- */

json_t *
nc_migration_reports_dashboard(NcMigrations *migrations, json_t *args, GError **error)
{
  g_autoptr(NcDashboard) dashboard = nc_dashboard_new();
  g_autoptr(GArray) rows = g_array_new(FALSE, FALSE, sizeof(int64_t));
  int64_t before = 0, now_us = nc_wall_us();

  for (unsigned seen = 0; seen < NC_DASHBOARD_WINDOW; seen += rows->len) {
    nc_autojson json_t *page = nc_migrations_page(migrations, before, NC_JOURNAL_PAGE, rows, error);
    size_t i;
    json_t *record;

    if (!page)
      return NULL;
    json_array_foreach(page, i, record) nc_dashboard_add(dashboard, record, now_us);
    if (rows->len < NC_JOURNAL_PAGE)
      break;
    before = g_array_index(rows, int64_t, rows->len - 1);
  }
  json_t *view = nc_dashboard_view(dashboard);
  json_object_set_new(view, "window", json_integer(NC_DASHBOARD_WINDOW));
  return view;
}

/* --- what happened since --- */

/* The phase that a history had come to before event ${before}. Caller frees; NULL without error: none yet. */
static char *
nc_watch_phase_before(NcMigrations *migrations, const char *id, int64_t before, GError **error)
{
  for (;;) {
    nc_autojson json_t *page = nc_migrations_page_events_back(migrations, id, before, NC_PHASE_PAGE, error);
    size_t i;
    json_t *row;

    json_array_foreach(page, i, row)
    {
      const char *phase = nc_migration_event_phase(row);
      if (phase)
        return g_strdup(phase);
      before = nc_json_int_or(row, "id", 0);
    }
    if (json_array_size(page) < NC_PHASE_PAGE) /* also of NULL, on error */
      return NULL;
  }
}

/* ${rows} of its history as messages: a phase is told where it changed, wherever the page begins. New reference. */
static json_t *
nc_watch_tell(NcMigrations *migrations, const char *id, json_t *record, json_t *rows, GError **error)
{
  g_autofree char *phase = NULL;
  g_autoptr(GError) problem = NULL;
  json_t *events = json_array(), *row;
  size_t i;

  if (json_array_size(rows) > 0)
    phase = nc_watch_phase_before(migrations, id, nc_json_int_or(json_array_get(rows, 0), "id", 0), &problem);
  json_array_foreach(rows, i, row)
  {
    const char *next = nc_migration_event_phase(row);
    json_array_append_new(events, nc_migration_event_view(row, record, phase));
    if (next) {
      g_free(phase);
      phase = g_strdup(next);
    }
  }
  if (!problem)
    return events;
  json_decref(events);
  g_propagate_error(error, g_steal_pointer(&problem));
  return NULL;
}

json_t *
nc_migration_reports_watch(NcMigrations *migrations, json_t *args, GError **error)
{
  const char *id = nc_json_string(args, "id", error);
  int64_t since = nc_json_int_or(args, "since", 0), last = since;
  size_t i;
  json_t *row;

  if (!id)
    return NULL;
  /* First this, then the rest: what has ended has written its last event. */
  bool under_way = nc_migrations_is_under_way(migrations, id);
  nc_autojson json_t *record = nc_migrations_record(migrations, id, error);
  nc_autojson json_t *rows = record ? nc_migrations_page_events(migrations, id, since, NC_WATCH_PAGE, error) : NULL;
  if (!rows)
    return NULL;
  nc_autojson json_t *events = nc_watch_tell(migrations, id, record, rows, error);
  if (!events)
    return NULL;
  json_array_foreach(rows, i, row) last = nc_json_int_or(row, "id", last);
  bool more = json_array_size(rows) == NC_WATCH_PAGE;
  return json_pack("{s:s, s:O, s:I, s:b, s:b, s:o}", "id", id, "events", events, "last", (json_int_t)last, "more", more, "ended",
                   !more && !under_way && nc_migration_record_has_ended(record), "progress", nc_migration_progress_view(record));
}
