/* SPDX-License-Identifier: Apache-2.0 */
/* novacron checkpoint: a machine's memory, devices and disks at one instant. */
#include "cli/checkpoint_follow.h"
#include "cli/client.h"
#include "cli/table.h"
#include "cli/units.h"

#include <stdio.h>

static const NcColumn nc_checkpoint_columns[] = {
  { .title = "ID" },    { .title = "MACHINE", .shrink = true }, { .title = "CREATED" },
  { .title = "STATE" }, { .title = "DATA", .right = true },     { .title = "STORED", .right = true },
};

static char *
nc_checkpoint_size(json_t *object, const char *key)
{
  return json_object_get(object, key) ? nc_format_bytes(nc_json_int_or(object, key, 0)) : g_strdup("-");
}

/* --- list and show --- */

static void
nc_checkpoint_add_row(NcTable *table, json_t *cp)
{
  g_autofree char *data = nc_checkpoint_size(cp, "data_bytes"), *stored = nc_checkpoint_size(cp, "stored_bytes");
  const char *created = nc_json_string_or(cp, "created", "-");
  g_autofree char *when = g_strndup(created, 19); /* to the second */
  const char *cells[] = { nc_json_string_or(cp, "id", "?"),
                          nc_json_string_or(cp, "machine", "?"),
                          when,
                          nc_json_string_or(cp, "state", "?"),
                          data,
                          stored };
  nc_table_add(table, cells);
}

bool
nc_cmd_checkpoint_list(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  size_t i;
  json_t *cp;

  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error) || (argc && !nc_cli_check_name("machine", argv[0], error)))
    return false;
  g_autofree char *path = argc ? g_strdup_printf("/api/v2/machines/%s/checkpoints", argv[0]) : g_strdup("/api/v2/checkpoints");
  nc_autojson json_t *list = nc_client_list(cli, path, 0, error);
  if (!list)
    return false;
  if (cli->json) {
    nc_cli_print_json(list);
    return true;
  }
  g_autoptr(NcTable) table = nc_table_new(nc_checkpoint_columns, G_N_ELEMENTS(nc_checkpoint_columns));
  json_array_foreach(json_object_get(list, "items"), i, cp) nc_checkpoint_add_row(table, cp);
  nc_table_print(table, "No checkpoints on this node.");
  return true;
}

static void
nc_checkpoint_print_part(const char *name, json_t *part)
{
  g_autofree char *bytes = nc_checkpoint_size(part, "bytes"), *data = nc_checkpoint_size(part, "data_bytes"),
                  *fresh = nc_checkpoint_size(part, "new_bytes");
  nc_print_fact(name, "%s, of that %s not zero, %s new to the store", bytes, data, fresh);
}

static void
nc_checkpoint_print_text(const char *name, json_t *object, const char *key)
{
  g_autofree char *text = nc_text_clean(nc_json_string_or(object, key, ""));
  if (text[0])
    nc_print_fact(name, "%s", text);
}

static void
nc_checkpoint_print_activity(json_t *activity)
{
  g_autofree char *message = nc_text_clean(nc_json_string_or(json_object_get(activity, "error"), "message", ""));
  if (!json_is_object(activity))
    return;
  nc_print_fact(nc_json_string_or(activity, "what", "activity"), "%s%s%s", nc_json_string_or(activity, "state", "?"),
                message[0] ? ": " : "", message);
}

static void
nc_checkpoint_print(json_t *cp)
{
  size_t i;
  json_t *disk;

  puts(nc_json_string_or(cp, "id", "?"));
  nc_checkpoint_print_text("machine", cp, "machine");
  nc_checkpoint_print_text("state", cp, "state");
  nc_checkpoint_print_text("error", json_object_get(cp, "error"), "message");
  nc_checkpoint_print_text("warning", cp, "warning");
  nc_checkpoint_print_text("label", cp, "label");
  nc_checkpoint_print_text("created", cp, "created");
  nc_checkpoint_print_text("node", cp, "node");
  nc_checkpoint_print_text("copied from", json_object_get(cp, "copied"), "from");
  nc_checkpoint_print_text("before", cp, "migration");
  if (json_object_get(cp, "memory")) {
    g_autofree char *pause = nc_format_ms(json_number_value(json_object_get(cp, "pause_ms")));
    g_autofree char *stored = nc_checkpoint_size(cp, "stored_bytes");
    nc_print_fact("made", "%s; the guest stood still for %s", nc_json_string_or(cp, "mode", "?"), pause);
    nc_checkpoint_print_part("memory", json_object_get(cp, "memory"));
    json_array_foreach(json_object_get(cp, "disks"), i, disk)
    {
      g_autofree char *clean = nc_text_clean(nc_json_string_or(disk, "name", "?"));
      g_autofree char *name = g_strconcat("disk ", clean, NULL);
      nc_checkpoint_print_part(name, disk);
      if (json_object_get(disk, "read_bytes")) {
        g_autofree char *read = nc_checkpoint_size(disk, "read_bytes");
        nc_print_fact("", "%s of it had to be read", read);
      }
    }
    nc_print_fact("stored", "the store grew by %s", stored);
  }
  nc_checkpoint_print_activity(json_object_get(cp, "activity"));
}

static void
nc_checkpoint_say(const NcCli *cli, json_t *cp)
{
  if (cli->json)
    nc_cli_print_json(cp);
  else
    nc_checkpoint_print(cp);
}

bool
nc_cmd_checkpoint_show(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error) || !nc_cli_check_name("checkpoint", argv[0], error))
    return false;
  nc_autojson json_t *cp = nc_client_callf(cli, "GET", NULL, error, "/api/v2/checkpoints/%s", argv[0]);
  if (!cp)
    return false;
  nc_checkpoint_say(cli, cp);
  return true;
}

/* --- create --- */

static bool
nc_checkpoint_create(NcCli *cli, const char *vm, json_t *body, bool wait, GError **error)
{
  nc_autojson json_t *begun = nc_client_callf(cli, "POST", body, error, "/api/v2/machines/%s/checkpoints", vm);
  if (!begun)
    return false;
  const char *id = nc_json_string(begun, "id", error);
  nc_autojson json_t *cp = !id ? NULL : wait ? nc_checkpoint_follow(cli, id, error) : json_incref(begun);
  if (!cp)
    return false;
  if (cli->json || !g_str_equal(nc_json_string_or(cp, "state", ""), "failed"))
    nc_checkpoint_say(cli, cp);
  json_t *failure = json_object_get(cp, "error");
  if (json_is_object(failure)) {
    nc_error_set_json(error, failure);
    return false;
  }
  return true;
}

bool
nc_cmd_checkpoint_create(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_autofree char *mode = NULL, *label = NULL;
  int no_wait = 0;
  const GOptionEntry options[] = {
    { "mode", 0, 0, G_OPTION_ARG_STRING, &mode, "auto, background (the guest runs on) or stop", "MODE" },
    { "label", 0, 0, G_OPTION_ARG_STRING, &label, "a few words for whoever reads the list", "TEXT" },
    { "no-wait", 0, 0, G_OPTION_ARG_NONE, &no_wait, "return when it has begun", NULL },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, options, &argc, &argv, error) || !nc_cli_check_name("machine", argv[0], error))
    return false;
  nc_autojson json_t *body = json_pack("{s:s, s:s}", "mode", mode ? mode : "auto", "label", label ? label : "");
  if (!body)
    return nc_fail(error, NC_ERROR_INVALID, "--mode and --label must be UTF-8");
  return nc_checkpoint_create(cli, argv[0], body, !no_wait, error);
}

/* --- what happens to one --- */

/* Begins it and waits for its end. Prints only if it is done. */
static json_t *
nc_checkpoint_act(NcCli *cli, const char *id, const char *what, json_t *body, GError **error)
{
  nc_autojson json_t *begun = nc_client_callf(cli, "POST", body, error, "/api/v2/checkpoints/%s/%s", id, what);
  nc_autojson json_t *cp = begun ? nc_checkpoint_follow(cli, id, error) : NULL;
  json_t *activity = json_object_get(cp, "activity"), *failure = json_object_get(activity, "error");

  if (!cp)
    return NULL;
  if (cli->json)
    nc_cli_print_json(cp);
  if (json_is_object(failure)) {
    nc_error_set_json(error, failure);
    return NULL;
  }
  return g_steal_pointer(&cp);
}

bool
nc_cmd_checkpoint_verify(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error) || !nc_cli_check_name("checkpoint", argv[0], error))
    return false;
  nc_autojson json_t *cp = nc_checkpoint_act(cli, argv[0], "verify", NULL, error);
  if (!cp)
    return false;
  g_autofree char *bytes = nc_checkpoint_size(json_object_get(cp, "activity"), "bytes");
  if (!cli->json)
    printf("%s: every block was read and is what it was: %s.\n", argv[0], bytes);
  return true;
}

static void
nc_checkpoint_print_restored(json_t *cp)
{
  json_t *activity = json_object_get(cp, "activity"), *warning;
  g_autofree char *machine = nc_text_clean(nc_json_string_or(activity, "machine", "?"));
  size_t i;

  g_autofree char *node = nc_text_clean(nc_json_string_or(activity, "node", ""));
  printf("%s%s%s is as %s was at %s.\n", machine, node[0] ? " on node " : "", node, nc_json_string_or(cp, "machine", "?"),
         nc_json_string_or(cp, "created", "?"));
  json_array_foreach(json_object_get(activity, "warnings"), i, warning)
  {
    g_autofree char *text = nc_text_clean(json_is_string(warning) ? json_string_value(warning) : "");
    fprintf(stderr, "novacron: warning: %s\n", text);
  }
}

bool
nc_cmd_checkpoint_restore(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_autofree char *as = NULL, *disk_dir = NULL, *on = NULL;
  int force = 0, paused = 0, take = 0;
  const GOptionEntry options[] = {
    { "as", 0, 0, G_OPTION_ARG_STRING, &as, "as a new machine of this name", "NAME" },
    { "disk-dir", 0, 0, G_OPTION_ARG_FILENAME, &disk_dir, "where the new machine's disks go", "DIR" },
    { "force", 0, 0, G_OPTION_ARG_NONE, &force, "in place, though it runs; what it did is lost", NULL },
    { "paused", 0, 0, G_OPTION_ARG_NONE, &paused, "do not let the guest run yet", NULL },
    { "on", 0, 0, G_OPTION_ARG_STRING, &on, "on another node, which gets what it lacks first", "NODE" },
    { "take", 0, 0, G_OPTION_ARG_NONE, &take, "though another node may have it: it runs nowhere", NULL },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, options, &argc, &argv, error) || !nc_cli_check_name("checkpoint", argv[0], error) ||
      (on && !nc_cli_check_name("node", on, error)))
    return false;
  g_autofree char *directory = disk_dir ? g_canonicalize_filename(disk_dir, NULL) : NULL;
  nc_autojson json_t *body = json_pack("{s:b, s:b, s:b}", "force", force, "paused", paused, "take", take);
  if (on)
    json_object_set_new(body, "on", json_string(on));
  if ((as && json_object_set_new(body, "as", json_string(as)) < 0) ||
      (directory && json_object_set_new(body, "disk_dir", json_string(directory)) < 0))
    return nc_fail(error, NC_ERROR_INVALID, "--as and --disk-dir must be UTF-8");
  nc_autojson json_t *cp = nc_checkpoint_act(cli, argv[0], "restore", body, error);
  if (!cp)
    return false;
  if (!cli->json)
    nc_checkpoint_print_restored(cp);
  return true;
}

bool
nc_cmd_checkpoint_copy(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_autofree char *to = NULL;
  const GOptionEntry options[] = {
    { "to", 0, 0, G_OPTION_ARG_STRING, &to, "the node whose store gets it", "NODE" },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, options, &argc, &argv, error) || !nc_cli_check_name("checkpoint", argv[0], error))
    return false;
  if (!to)
    return nc_fail(error, NC_ERROR_INVALID, "--to NODE is needed: where should %s go?", argv[0]);
  nc_autojson json_t *body = nc_cli_check_name("node", to, error) ? json_pack("{s:s}", "to", to) : NULL;
  nc_autojson json_t *cp = body ? nc_checkpoint_act(cli, argv[0], "copy", body, error) : NULL;
  json_t *activity = json_object_get(cp, "activity");
  g_autofree char *bytes = nc_checkpoint_size(activity, "bytes"), *sent = nc_checkpoint_size(activity, "sent_bytes"),
                  *wire = nc_checkpoint_size(activity, "wire_bytes");

  if (!cp)
    return false;
  if (!cli->json && nc_json_bool_or(activity, "was_there", false))
    printf("Node %s has %s already.\n", to, argv[0]);
  else if (!cli->json)
    printf("%s is on node %s: of %s it lacked %s, sent as %s.\n", argv[0], to, bytes, sent, wire);
  return true;
}

bool
nc_cmd_checkpoint_cancel(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error) || !nc_cli_check_name("checkpoint", argv[0], error))
    return false;
  nc_autojson json_t *cp = nc_client_callf(cli, "POST", NULL, error, "/api/v2/checkpoints/%s/cancel", argv[0]);
  if (!cp)
    return false;
  if (cli->json)
    nc_cli_print_json(cp);
  else
    printf("%s: being cancelled.\n", argv[0]);
  return true;
}

bool
nc_cmd_checkpoint_delete(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  if (!nc_cli_parse(cli, command, NULL, &argc, &argv, error) || !nc_cli_check_name("checkpoint", argv[0], error))
    return false;
  nc_autojson json_t *cp = nc_client_callf(cli, "DELETE", NULL, error, "/api/v2/checkpoints/%s", argv[0]);
  if (!cp)
    return false;
  if (cli->json)
    nc_cli_print_json(cp);
  else
    printf("%s is %s.\n", argv[0], g_str_equal(nc_json_string_or(cp, "state", ""), "making") ? "being cancelled" : "deleted");
  return true;
}

bool
nc_cmd_checkpoint_schedule(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  g_autofree char *every = NULL;
  int off = 0, keep = -1;
  int64_t every_s = 0;
  const GOptionEntry options[] = {
    { "every", 0, 0, G_OPTION_ARG_STRING, &every, "how often: 90s, 15min, 2h, 1d", "DURATION" },
    { "off", 0, 0, G_OPTION_ARG_NONE, &off, "none any more", NULL },
    { "keep", 0, 0, G_OPTION_ARG_INT, &keep, "how many of these are kept", "N" },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, options, &argc, &argv, error) || !nc_cli_check_name("machine", argv[0], error))
    return false;
  if (!every == !off)
    return nc_fail(error, NC_ERROR_INVALID, "one of --every DURATION and --off is needed");
  if (every && !nc_parse_duration(every, &every_s, error))
    return false;
  nc_autojson json_t *body = json_pack("{s:I}", "every_s", (json_int_t)every_s);
  if (keep != -1) /* 0 is refused where the bounds are */
    json_object_set_new(body, "keep", json_integer(keep));
  nc_autojson json_t *machine = nc_client_callf(cli, "POST", body, error, "/api/v2/machines/%s/checkpoint-schedule", argv[0]);
  if (!machine)
    return false;
  if (cli->json)
    nc_cli_print_json(machine);
  else if (every_s)
    printf("%s: a checkpoint every %s while it runs; the last %d are kept.\n", argv[0], every,
           (int)nc_json_int_or(json_object_get(machine, "spec"), "checkpoint_keep", 0));
  else
    printf("%s: no checkpoints by the clock.\n", argv[0]);
  return true;
}
