/* SPDX-License-Identifier: Apache-2.0 */
/* novacron store: what the node's page store holds and costs; all of it verified; what nobody needs collected. */
#include "cli/client.h"
#include "cli/progress_line.h"
#include "cli/table.h"
#include "cli/units.h"

#include <inttypes.h>
#include <stdio.h>

#define NC_STORE_POLL_US 200000
/* novacrond or the gate is restarted: it is asked for so long. */
#define NC_STORE_SILENT_POLLS 150

static char *
nc_store_size(json_t *object, const char *key)
{
  return nc_format_bytes(nc_json_int_or(object, key, 0));
}

/* --- status --- */

static void
nc_store_print_room(json_t *store)
{
  g_autofree char *used = nc_store_size(store, "used_bytes"), *budget = nc_store_size(store, "budget_bytes"),
                  *left = nc_store_size(store, "free_bytes"), *disk = nc_store_size(store, "disk_free_bytes");

  if (nc_json_int_or(store, "budget_bytes", 0))
    nc_print_fact("used", "%s of a budget of %s; %s are free", used, budget, left);
  else
    nc_print_fact("used", "%s; %s are free (no budget: as much as the disk holds)", used, left);
  nc_print_fact("disk", "%s are free", disk);
}

static void
nc_store_print_content(json_t *store)
{
  g_autofree char *packs = nc_store_size(store, "pack_bytes"), *pages = nc_store_size(store, "page_bytes"),
                  *index = nc_store_size(store, "index_bytes"), *manifests = nc_store_size(store, "manifest_bytes"),
                  *garbage = nc_store_size(store, "garbage_bytes");
  json_t *ratio = json_object_get(store, "ratio");

  nc_print_fact("packs", "%" PRId64 ", %s", nc_json_int_or(store, "packs", 0), packs);
  nc_print_fact("pages", "%" PRId64 ", %s before compression", nc_json_int_or(store, "pages", 0), pages);
  if (json_is_number(ratio))
    nc_print_fact("ratio", "%.2f", json_number_value(ratio));
  nc_print_fact("index", "%s", index);
  nc_print_fact("manifests", "%" PRId64 ", %s", nc_json_int_or(store, "manifests", 0), manifests);
  if (json_is_integer(json_object_get(store, "garbage_bytes")))
    nc_print_fact("garbage", "%s, as of %s", garbage, nc_json_string_or(store, "garbage_counted", "?"));
  else
    nc_print_fact("garbage", "not counted yet: novacron store gc --dry-run");
}

static void
nc_store_print_activity(json_t *activity)
{
  g_autofree char *message = nc_text_clean(nc_json_string_or(json_object_get(activity, "error"), "message", ""));
  const char *state = nc_json_string_or(activity, "state", "?"), *what = nc_json_string_or(activity, "what", "?");

  if (!json_is_object(activity))
    return;
  if (g_str_equal(state, "running"))
    nc_print_fact(what, "running, %d %%", (int)nc_json_int_or(activity, "progress", 0));
  else
    nc_print_fact(what, "%s, %s%s%s", state, nc_json_string_or(activity, "finished", "?"), message[0] ? ": " : "", message);
}

static void
nc_store_print(json_t *store)
{
  g_autofree char *directory = nc_text_clean(nc_json_string_or(store, "directory", "?"));

  puts(directory);
  nc_store_print_room(store);
  nc_store_print_content(store);
  nc_print_fact("encrypted", "%s", nc_json_bool_or(store, "encrypted", false) ? "yes, AES-256-GCM" : "no");
  if (nc_json_bool_or(store, "read_only", false))
    nc_print_fact("READ-ONLY", "checkpoints can be restored and verified, none can be made or deleted");
  if (nc_json_bool_or(store, "failed", false))
    nc_print_fact("FAILED", "writing to the disk failed: see novacrond's log; nothing is stored until novacrond is restarted");
  nc_store_print_activity(json_object_get(store, "activity"));
}

bool
nc_cmd_store_status(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error))
    return false;
  nc_autojson json_t *store = nc_client_call(cli, "GET", "/api/v2/store", NULL, error);
  if (!store)
    return false;
  if (cli->json)
    nc_cli_print_json(store);
  else
    nc_store_print(store);
  return true;
}

/* --- following --- */

/* The store when activity number ${id} has ended. New reference. */
static json_t *
nc_store_follow(const NcCli *cli, int64_t id, GError **error)
{
  NcProgressLine line;
  json_t *result = NULL;

  nc_progress_line_begin(&line);
  for (int silent = 0; !result;) {
    g_autoptr(GError) problem = NULL;
    nc_autojson json_t *store = nc_client_call(cli, "GET", "/api/v2/store", NULL, &problem);
    json_t *activity = json_object_get(store, "activity");
    if (!store && ((problem->code != NC_ERROR_UNREACHABLE && problem->code != NC_ERROR_TIMEOUT) || ++silent > NC_STORE_SILENT_POLLS)) {
      g_propagate_error(error, g_steal_pointer(&problem));
      break;
    }
    if (store && nc_json_int_or(activity, "id", 0) != id) {
      nc_fail(error, NC_ERROR_CONFLICT, "novacrond was restarted, or something else begun, before the result was read: try again");
      break;
    }
    if (store && !g_str_equal(nc_json_string_or(activity, "state", ""), "running")) {
      result = g_steal_pointer(&store);
      break;
    }
    if (store) {
      g_autofree char *text =
          g_strdup_printf("%s: %d %%", nc_json_string_or(activity, "what", "?"), (int)nc_json_int_or(activity, "progress", 0));
      silent = 0;
      nc_progress_line_draw(&line, text);
    }
    g_usleep(NC_STORE_POLL_US);
  }
  nc_progress_line_end(&line);
  return result;
}

/* Begins it at ${path} and, unless ${no_wait}, stays until its end. The activity, a new reference; with --json it is printed. */
static json_t *
nc_store_act(NcCli *cli, const char *path, json_t *body, bool no_wait, GError **error)
{
  nc_autojson json_t *begun = nc_client_call(cli, "POST", path, body, error);
  if (!begun)
    return NULL;
  int64_t id = nc_json_int_or(json_object_get(begun, "activity"), "id", 0);
  nc_autojson json_t *store = no_wait ? json_incref(begun) : nc_store_follow(cli, id, error);
  if (!store)
    return NULL;
  if (cli->json)
    nc_cli_print_json(store);
  else if (no_wait)
    nc_store_print_activity(json_object_get(store, "activity"));
  return json_incref(json_object_get(store, "activity"));
}

/* How it ended, as an error; true: well. */
static bool
nc_store_ended_well(json_t *activity, GError **error)
{
  json_t *failure = json_object_get(activity, "error");
  if (!json_is_object(failure))
    return true;
  nc_error_set_json(error, failure);
  return false;
}

/* --- verify --- */

static void
nc_store_print_damage(json_t *activity)
{
  json_t *one;
  size_t i;

  json_array_foreach(json_object_get(activity, "details"), i, one)
  {
    g_autofree char *text = nc_text_clean(nc_json_string_or(one, "text", "")), *file = nc_text_clean(nc_json_string_or(one, "file", ""));
    nc_print_fact(nc_json_string_or(one, "kind", "?"), "%s at %" PRId64 ": %s", file, nc_json_int_or(one, "offset", 0), text);
  }
  json_array_foreach(json_object_get(activity, "damaged"), i, one)
  {
    g_autofree char *bytes = nc_store_size(one, "bytes"), *text = nc_text_clean(nc_json_string_or(one, "text", "")),
                    *machine = nc_text_clean(nc_json_string_or(one, "machine", "?")),
                    *id = nc_text_clean(nc_json_string_or(one, "checkpoint", "?"));
    nc_print_fact("LOST", "checkpoint %s of %s: %" PRId64 " pages, %s: %s", id, machine, nc_json_int_or(one, "pages", 0), bytes, text);
  }
}

bool
nc_cmd_store_verify(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  int no_wait = 0, rebuild = 0;
  const GOptionEntry options[] = {
    { "rebuild-index", 0, 0, G_OPTION_ARG_NONE, &rebuild, "first make the index again from the packs", NULL },
    { "no-wait", 0, 0, G_OPTION_ARG_NONE, &no_wait, "return when it has begun", NULL },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, options, &argc, &argv, error))
    return false;
  nc_autojson json_t *body = json_pack("{s:b}", "rebuild_index", rebuild);
  nc_autojson json_t *activity = nc_store_act(cli, "/api/v2/store/verify", body, no_wait, error);
  if (!activity)
    return false;
  if (no_wait)
    return true;
  if (!cli->json)
    nc_store_print_damage(activity);
  if (!nc_store_ended_well(activity, error))
    return false;
  g_autofree char *bytes = nc_store_size(activity, "bytes");
  if (cli->json)
    return true;
  puts("The store is whole: all of it was read, and is what it was.");
  nc_print_fact("read", "%" PRId64 " pages, %s, in %" PRId64 " packs; %" PRId64 " manifests", nc_json_int_or(activity, "pages", 0), bytes,
                nc_json_int_or(activity, "packs", 0), nc_json_int_or(activity, "manifests", 0));
  return true;
}

/* --- gc --- */

static void
nc_store_print_collected(json_t *activity, bool dry_run)
{
  g_autofree char *garbage = nc_store_size(activity, "garbage_bytes"), *live = nc_store_size(activity, "live_bytes"),
                  *freed = nc_store_size(activity, "freed_bytes");
  int64_t held = nc_json_int_or(activity, "packs_held", 0), damaged = nc_json_int_or(activity, "packs_damaged", 0);

  if (dry_run)
    printf("%s could be freed, %s are in use.\n", garbage, live);
  else
    printf("%s were freed of %s that nothing needs; %s are in use.\n", freed, garbage, live);
  if (held)
    nc_print_fact("held", "%" PRId64 " packs by checkpoints that are being made: try again afterwards", held);
  if (damaged)
    nc_print_fact("DAMAGED", "%" PRId64 " packs were left alone: novacron store verify", damaged);
}

bool
nc_cmd_store_gc(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  int no_wait = 0, dry_run = 0;
  const GOptionEntry options[] = {
    { "dry-run", 0, 0, G_OPTION_ARG_NONE, &dry_run, "only count what would be freed", NULL },
    { "no-wait", 0, 0, G_OPTION_ARG_NONE, &no_wait, "return when it has begun", NULL },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, options, &argc, &argv, error))
    return false;
  nc_autojson json_t *body = json_pack("{s:b}", "dry_run", dry_run);
  nc_autojson json_t *activity = nc_store_act(cli, "/api/v2/store/gc", body, no_wait, error);
  if (!activity)
    return false;
  if (no_wait)
    return true;
  if (!cli->json && json_object_get(activity, "live_bytes"))
    nc_store_print_collected(activity, dry_run);
  return nc_store_ended_well(activity, error);
}

/* --- cancel --- */

bool
nc_cmd_store_cancel(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error))
    return false;
  nc_autojson json_t *store = nc_client_call(cli, "POST", "/api/v2/store/cancel", NULL, error);
  if (!store)
    return false;
  if (cli->json)
    nc_cli_print_json(store);
  else
    printf("The %s of the store ends.\n", nc_json_string_or(json_object_get(store, "activity"), "what", "work"));
  return true;
}
