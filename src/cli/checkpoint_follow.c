/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/checkpoint_follow.h"
#include "cli/client.h"
#include "cli/progress_line.h"

#define NC_FOLLOW_POLL_US 200000
/* novacrond or the gate is restarted: it is asked for so long. */
#define NC_FOLLOW_SILENT_POLLS 150

/* What is under way; NULL: nothing any more. Static or ${cp}'s. */
static const char *
nc_checkpoint_under_way(json_t *cp, json_t **ret_progress)
{
  json_t *activity = json_object_get(cp, "activity");

  if (g_str_equal(nc_json_string_or(cp, "state", ""), "making")) {
    *ret_progress = json_object_get(cp, "progress");
    return "making";
  }
  *ret_progress = json_object_get(activity, "progress");
  return g_str_equal(nc_json_string_or(activity, "state", ""), "running") ? nc_json_string_or(activity, "what", "?") : NULL;
}

json_t *
nc_checkpoint_follow(const NcCli *cli, const char *id, GError **error)
{
  NcProgressLine line;
  json_t *result = NULL;

  nc_progress_line_begin(&line);
  for (int silent = 0; !result;) {
    g_autoptr(GError) problem = NULL;
    nc_autojson json_t *cp = nc_client_callf(cli, "GET", NULL, &problem, "/api/v2/checkpoints/%s", id);
    json_t *progress = NULL;
    const char *what = cp ? nc_checkpoint_under_way(cp, &progress) : NULL;
    if (!cp &&
        ((problem->code != NC_ERROR_UNREACHABLE && problem->code != NC_ERROR_TIMEOUT) || ++silent > NC_FOLLOW_SILENT_POLLS)) {
      g_propagate_error(error, g_steal_pointer(&problem));
      break;
    }
    if (cp && !what) {
      result = g_steal_pointer(&cp);
      break;
    }
    if (cp) {
      g_autofree char *text = g_strdup_printf("%s: %s, %d %%", id, what, (int)json_integer_value(progress));
      silent = 0;
      nc_progress_line_draw(&line, text);
    }
    g_usleep(NC_FOLLOW_POLL_US);
  }
  nc_progress_line_end(&line);
  return result;
}
