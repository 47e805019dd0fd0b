/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/fleet_ask.h"
#include "cli/client.h"
#include "cli/follow.h"
#include "cli/table.h"

#include <string.h>

#define NC_EXIT_INTERRUPTED 130 /* what shells say for Ctrl-C */

/* --- lists --- */

char *
nc_fleet_parts_path(NcFleetKind kind, const char *id)
{
  return kind == NC_FLEET_EVACUATION ? g_strdup_printf("/api/v2/fleet/evacuations/%s/items", id)
                                     : g_strdup_printf("/api/v2/fleet/migrations?batch=%s", id);
}

/* --- what has not moved --- */

/* Has this part of a group ended otherwise than it should? An item of an evacuation may have no migration. */
static bool
nc_fleet_is_left_behind(json_t *record, json_t *part)
{
  const char *state = nc_json_string_or(part, "state", "");

  if (g_str_equal(state, "gone")) /* it has left in another way */
    return false;
  if (!state[0]) /* a completed evacuation has nothing left, too */
    return !g_str_equal(nc_json_string_or(record, "state", ""), "completed");
  return nc_json_bool_or(part, "is_finished", true) && !g_str_equal(state, "completed");
}

/* {"machine", "migration", "state", "reason"} of those parts of a group. New reference; NULL on error. */
static json_t *
nc_fleet_not_moved(const NcCli *cli, NcFleetKind kind, const char *id, json_t *record, GError **error)
{
  g_autofree char *path = nc_fleet_parts_path(kind, id);
  nc_autojson json_t *list = nc_client_list(cli, path, 0, error);
  json_t *refused = json_object_get(json_object_get(record, "detail"), "not_submitted"), *part;
  size_t i;

  if (!list)
    return NULL;
  json_t *found = json_is_array(refused) ? json_copy(refused) : json_array();
  json_array_foreach(json_object_get(list, "items"), i, part)
  {
    const char *moved_by = nc_json_string_or(part, "id", nc_json_string_or(part, "migration", ""));
    const char *reason = nc_json_string_or(part, "reason", "");
    if (nc_fleet_is_left_behind(record, part))
      json_array_append_new(found, json_pack("{s:s, s:s, s:s, s:s}", "machine", nc_json_string_or(part, "machine", "?"),
                                             "migration", moved_by, "state", nc_json_string_or(part, "state", ""),
                                             "reason", moved_by[0] || reason[0] ? reason : "it was not begun"));
  }
  return found;
}

static void
nc_fleet_print_end(NcFleetKind kind, const char *id, json_t *record, json_t *not_moved, int status)
{
  const char *reason = nc_json_string_or(record, "reason", "");
  g_autofree char *stands =
      kind == NC_FLEET_MIGRATION ? nc_fleet_migration_progress(record) : nc_fleet_group_progress(record);
  g_autofree char *text = g_strdup_printf("novacron: %s: %s%s%s", id, stands, reason[0] ? ": " : "", reason);

  if (status != 0)
    nc_print_paragraph(stderr, 0, text);
  nc_fleet_print_reasons(stderr, not_moved);
}

/* It is over, or a human has to decide. That is told also if it can't be asked any more which of a group it was. */
static void
nc_fleet_tell_end(NcCli *cli, NcFleetKind kind, const char *id, json_t *record)
{
  g_autoptr(GError) problem = NULL;
  bool is_group = kind != NC_FLEET_MIGRATION;
  nc_autojson json_t *not_moved = is_group ? nc_fleet_not_moved(cli, kind, id, record, &problem) : NULL;

  cli->status = nc_fleet_exit_status(kind, record);
  nc_fleet_print_end(kind, id, record, not_moved, cli->status);
  if (problem) {
    g_autofree char *text =
        g_strdup_printf("novacron: which have not moved is not known (novacron fleet list --%s %s): %s",
                        nc_fleet_kind_name(kind), id, problem->message);
    nc_print_paragraph(stderr, 0, text);
  }
  if (is_group)
    json_object_set_new(record, "not_moved", not_moved ? json_incref(not_moved) : json_null());
  if (cli->json)
    nc_cli_print_json(record);
  else
    nc_fleet_print_record(kind, record);
}

bool
nc_fleet_wait(NcCli *cli, NcFleetKind kind, const char *id, GError **error)
{
  static bool (*const is_over[])(json_t *) = { [NC_FLEET_MIGRATION] = nc_fleet_migration_is_over,
                                               [NC_FLEET_BATCH] = nc_fleet_batch_is_over,
                                               [NC_FLEET_EVACUATION] = nc_fleet_evacuation_is_over };
  g_autofree char *path = nc_fleet_kind_path(kind, id);
  g_autofree char *title = g_strdup_printf("%s %s", nc_fleet_kind_name(kind), id);
  const NcFollowed followed = { .title = title,
                                .path = path,
                                .has_ended = is_over[kind],
                                .progress = kind == NC_FLEET_MIGRATION ? nc_fleet_migration_progress
                                                                       : nc_fleet_group_progress };
  bool interrupted = false;
  g_autoptr(GError) problem = NULL;
  nc_autojson json_t *record = nc_follow_path(cli, &followed, &interrupted, &problem);

  if (record) {
    nc_fleet_tell_end(cli, kind, id, record);
    return true;
  }
  if (!interrupted) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
  }
  fprintf(stderr,
          "novacron: the %s goes on.\n  look at it:  novacron fleet show %s\n  stop it:     novacron fleet cancel %s\n",
          nc_fleet_kind_name(kind), id, id);
  cli->status = NC_EXIT_INTERRUPTED;
  return true;
}

const char *
nc_fleet_answered_id(json_t *answer, NcFleetKind kind, GError **error)
{
  const char *id = nc_json_string_or(answer, "id", "");
  NcFleetKind found;

  if (nc_fleet_kind_of(id, &found, NULL) && found == kind)
    return id;
  nc_fail(error, NC_ERROR_PROTOCOL, "NovaCron answered with a strange id, \"%s\"", id);
  return NULL;
}
