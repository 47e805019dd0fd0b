/* SPDX-License-Identifier: Apache-2.0 */
/* What happened in the fleet behind an event, for those who watch: fleet.watch, in the controller's thread. Says what migration.watch says. */
#include "agent/fleet_host_internal.h"
#include "agent/fleet_messages.h"
#include "base/ident.h"
#include "fleetdb/events.h"
#include "fleetdb/groups.h"
#include "fleetdb/migrations.h"

#define NC_FLEET_WATCH_PAGE 200 /* events in one answer */
#define NC_FLEET_WATCH_LAST 100 /* told to who does not say from where on */
#define NC_FLEET_WATCH_MOST 5000 /* told to who does: more than gates keep for their watchers, so that these would hear of a gap all the same */

/* What one page says. ${events}, ${sample} (NULL: none): taken. */
static json_t *
nc_fleet_watch_answer(const char *id, json_t *events, int64_t since, bool has_ended, json_t *sample)
{
  size_t count = json_array_size(events);
  bool more = count == NC_FLEET_WATCH_PAGE;
  int64_t last = count > 0 ? nc_json_int_or(json_array_get(events, count - 1), "id", since) : since;
  json_t *answer = json_pack("{s:s, s:o, s:I, s:b, s:b}", "id", id, "events", events, "last", (json_int_t)last, "more", more,
                             "ended", has_ended && !more);

  if (sample)
    json_object_set_new(answer, "progress", sample);
  return answer;
}

/* --- one migration --- */

static json_t *
nc_fleet_watch_record(NcFleetHost *host, const char *id, GError **error)
{
  g_autoptr(GError) problem = NULL;
  json_t *record = nc_controller_leads(host->controller) ? nc_controller_describe(host->controller, id, &problem) : NULL;

  if (record || !problem || g_error_matches(problem, NC_ERROR, NC_ERROR_UNAVAILABLE)) /* who does not lead can read */
    return record ? record : nc_fleetdb_get_migration(host->db, id, error);
  g_propagate_error(error, g_steal_pointer(&problem));
  return NULL;
}

static json_t *
nc_fleet_watch_move(NcFleetHost *host, const char *id, int64_t since, GError **error)
{
  /* First this: of what has ended, the last event is there already. */
  nc_autojson json_t *record = nc_fleet_watch_record(host, id, error);
  nc_autojson json_t *rows =
      record ? nc_fleetdb_list_events(host->db, (uint64_t)since, id, NC_FLEET_WATCH_PAGE, error) : NULL;
  json_t *events = rows ? json_array() : NULL, *row;
  size_t i;

  if (!events)
    return NULL;
  json_array_foreach(rows, i, row) json_array_append_new(events, nc_fleet_move_message(row, record));
  return nc_fleet_watch_answer(id, events, since, nc_json_bool_or(record, "is_finished", false), nc_fleet_move_sample(record));
}

/* --- a batch or an evacuation --- */

static void
nc_fleet_group_clear(NcFleetGroup *group)
{
  json_decref(group->record);
  json_decref(group->parts);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcFleetGroup, nc_fleet_group_clear)

static bool
nc_fleet_watch_read_group(NcFleetHost *host, const char *id, NcFleetGroup *ret, GError **error)
{
  bool is_batch = g_str_has_prefix(id, "bat-");

  ret->record = is_batch ? nc_fleetdb_get_batch(host->db, id, error) : nc_fleetdb_get_evacuation(host->db, id, error);
  json_t *counts =
      ret->record ? nc_fleetdb_count_migrations(host->db, is_batch ? id : NULL, is_batch ? NULL : id, error) : NULL;
  if (!counts)
    return false;
  json_object_set_new(ret->record, "migrations", counts);
  if (!nc_fleetdb_count_pending_items(host->db, id, &ret->pending, error))
    return false;
  if (nc_controller_leads(host->controller) && !nc_fleet_group_has_ended(ret))
    ret->parts = nc_controller_describe_group(host->controller, id, NULL); /* that it leads no more is no trouble here */
  return true;
}

static json_t *
nc_fleet_watch_group(NcFleetHost *host, const char *id, int64_t since, GError **error)
{
  g_auto(NcFleetGroup) group = { 0 };
  size_t i;
  json_t *row;

  if (!nc_fleet_watch_read_group(host, id, &group, error))
    return NULL;
  nc_autojson json_t *rows = nc_fleetdb_list_group_events(host->db, (uint64_t)since, id, NC_FLEET_WATCH_PAGE, error);
  json_t *events = rows ? json_array() : NULL;
  if (!events)
    return NULL;
  json_array_foreach(rows, i, row) json_array_append_new(events, nc_fleet_message(row, id));
  return nc_fleet_watch_answer(id, events, since, nc_fleet_group_has_ended(&group), nc_fleet_group_sample(&group, nc_wall_us()));
}

/* --- everything --- */

/*
 * Without ${since} (negative) the last ones, and also if there is no such event yet (one of another database, or that a failover took
 * back). What was pruned behind it, or not asked for, is told by "from".
 */
static json_t *
nc_fleet_watch_all(NcFleetHost *host, int64_t since, GError **error)
{
  uint64_t oldest, newest;
  json_t *row;
  size_t i;

  if (!nc_fleetdb_event_range(host->db, &oldest, &newest, error))
    return NULL;
  uint64_t from = since >= 0 && (uint64_t)since <= newest ? (uint64_t)since : newest - MIN(newest, NC_FLEET_WATCH_LAST);
  from = MAX(from, MAX(oldest > 0 ? oldest - 1 : 0, newest - MIN(newest, NC_FLEET_WATCH_MOST)));
  nc_autojson json_t *rows = nc_fleetdb_list_events(host->db, from, NULL, NC_FLEET_WATCH_PAGE, error);
  json_t *events = rows ? json_array() : NULL;
  if (!events)
    return NULL;
  json_array_foreach(rows, i, row) json_array_append_new(events, nc_fleet_message(row, NULL));
  json_t *answer = nc_fleet_watch_answer("", events, (int64_t)from, false, NULL);
  json_object_del(answer, "ended"); /* it has no end, and the leader knows no more of it */
  json_object_set_new(answer, "from", json_integer((json_int_t)from));
  return answer;
}

json_t *
nc_fleet_do_watch(NcFleetHost *host, const NcFleetAsker *who, json_t *args, GError **error)
{
  const char *id = nc_json_string_or(args, "id", NULL);
  int64_t since = id ? 0 : -1;

  if (json_object_get(args, "since") && !nc_json_int(args, "since", 0, INT64_MAX, &since, error))
    return NULL;
  if (!id)
    return nc_fleet_watch_all(host, since, error);
  return g_str_has_prefix(id, "eva-") || g_str_has_prefix(id, "bat-") ? nc_fleet_watch_group(host, id, since, error)
                                                                     : nc_fleet_watch_move(host, id, since, error);
}
