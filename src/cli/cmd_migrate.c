/* SPDX-License-Identifier: Apache-2.0 */
/* novacron migrate: starts a migration and, with --wait, stays to its end. */
#include "cli/client.h"
#include "cli/follow.h"
#include "cli/migration_view.h"
#include "cli/move_options.h"
#include "cli/table.h"

#include <stdio.h>

#define NC_EXIT_INTERRUPTED 130 /* what shells say for Ctrl-C */

typedef struct {
  NcMoveOptions move;
  NcMoveTuning tuning;
  int wait;
} NcMigrateOptions;

/* The keys of a result, in the order people read them; those novacrond did not send are null. */
static const char *const nc_result_keys[] = {
  "id",       "vm",       "source",           "destination",     "outcome",   "phase",
  "total_ms", "pause_ms", "qemu_downtime_ms", "max_downtime_ms", "ram_bytes", "wire_bytes",
  "ratio",    "rounds",   "sha256",           "sha256_equal",    "attention", "error",
};

static json_t *
nc_migrate_result(json_t *migration)
{
  json_t *result = json_object(), *value;
  const char *key;

  for (size_t i = 0; i < G_N_ELEMENTS(nc_result_keys); i++) {
    value = json_object_get(migration, nc_result_keys[i]);
    json_object_set(result, nc_result_keys[i], value ? value : json_null());
  }
  json_object_foreach(migration, key, value) if (!g_str_equal(key, "events")) json_object_set(result, key, value);
  return result;
}

static void
nc_migrate_print_end(json_t *migration)
{
  g_autofree char *vm = nc_text_clean(nc_json_string_or(migration, "vm", "?"));
  g_autofree char *destination = nc_text_clean(nc_json_string_or(migration, "destination", "?"));
  g_autofree char *reason = nc_migration_reason(migration);
  g_autofree char *attention = nc_text_clean(nc_json_string_or(migration, "attention", "see novacron status"));
  int status = nc_migration_exit_status(migration);

  if (status == 0) {
    printf("%s now runs on %s.\n", vm, destination);
    nc_migration_print_summary(migration);
  } else if (nc_migration_needs_attention(migration)) {
    fprintf(stderr, "novacron: %s needs attention: %s\n", vm, attention);
  } else if (status == nc_error_exit_status(NC_ERROR_CANCELLED)) {
    fprintf(stderr, "novacron: the migration of %s was cancelled; it runs where it was\n", vm);
  } else {
    fprintf(stderr, "novacron: the migration of %s failed: %s\n", vm, reason);
  }
}

static bool
nc_migrate_wait(NcCli *cli, const char *id, GError **error)
{
  bool interrupted = false;
  g_autoptr(GError) problem = NULL;
  nc_autojson json_t *migration = nc_follow(cli, id, &interrupted, &problem);

  if (!migration && interrupted) {
    fprintf(stderr,
            "novacron: the migration goes on.\n  look at it:  novacron status %s\n  stop it:     novacron cancel %s\n",
            id, id);
    cli->status = NC_EXIT_INTERRUPTED;
    return true;
  }
  if (!migration) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
  }
  cli->status = nc_migration_exit_status(migration);
  if (!cli->json || cli->status != 0)
    nc_migrate_print_end(migration);
  if (cli->json) {
    nc_autojson json_t *result = nc_migrate_result(migration);
    nc_cli_print_json(result);
  }
  return true;
}

static bool
nc_migrate_run(NcCli *cli, const char *vm, const NcMigrateOptions *options, GError **error)
{
  nc_autojson json_t *body = nc_move_options_body(vm, &options->move, error);
  if (!body || !nc_move_tuning_put(body, &options->tuning, error))
    return false;
  nc_autojson json_t *migration = nc_client_call(cli, "POST", "/api/v2/migrations", body, error);
  if (!migration)
    return false;
  g_autofree char *id = g_strdup(nc_json_string_or(migration, "id", ""));
  g_autofree char *title = nc_migration_title(migration);
  if (!nc_cli_check_name("migration", id, error)) {
    g_prefix_error(error, "NovaCron answered with a strange id: ");
    return false;
  }
  if (options->wait) {
    fprintf(stderr, "%s: %s\n", id, title);
    return nc_migrate_wait(cli, id, error);
  }
  if (cli->json)
    nc_cli_print_json(migration);
  else
    printf("%s: %s has begun.\nFollow it: novacron status %s\n", id, title, id);
  return true;
}

bool
nc_cmd_migrate(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  NcMigrateOptions options = { .tuning = NC_MOVE_TUNING_NONE };
  const GOptionEntry entries[] = {
    { "to", 0, 0, G_OPTION_ARG_STRING, &options.move.to, "node to move it to", "NODE" },
    { "wait", 0, 0, G_OPTION_ARG_NONE, &options.wait, "stay until it has ended, showing progress", NULL },
    NC_MOVE_OPTION_ENTRIES(options.move),
    NC_MOVE_TUNING_ENTRIES(options.tuning),
    { NULL },
  };

  bool ok = nc_cli_parse(cli, command, entries, &argc, &argv, error) && nc_migrate_run(cli, argv[0], &options, error);
  nc_move_options_clear(&options.move);
  nc_move_tuning_clear(&options.tuning);
  return ok;
}
