/* SPDX-License-Identifier: Apache-2.0 */
/* novacron rollback: asks for a migration to be undone, and follows it if wanted. */
#include "base/ident.h"
#include "cli/client.h"
#include "cli/migration_view.h"
#include "cli/table.h"

#include <stdio.h>

#define NC_ROLLBACK_POLL_US 250000
#define NC_ROLLBACK_SILENCE_US 60000000 /* a restart of NovaCron is waited out */

typedef struct {
  int back, to_checkpoint, wait;
  char *checkpoint;
} NcRollbackOptions;

/* NULL: there is none. Borrowed. */
static json_t *
nc_rollback_last(json_t *migration)
{
  json_t *list = json_object_get(migration, "rollbacks");
  return json_array_get(list, json_array_size(list) - 1);
}

static bool
nc_rollback_is_over(json_t *migration)
{
  return nc_migration_has_ended(migration) && !g_str_equal(nc_json_string_or(nc_rollback_last(migration), "state", ""), "running");
}

/* Until it is over, whatever came of it. New reference. */
static json_t *
nc_rollback_follow(NcCli *cli, const char *id, GError **error)
{
  int64_t silent_since_us = 0;

  for (;;) {
    g_autoptr(GError) problem = NULL;
    nc_autojson json_t *migration = nc_client_callf(cli, "GET", NULL, &problem, "/api/v2/migrations/%s", id);
    if (migration && nc_rollback_is_over(migration))
      return g_steal_pointer(&migration);
    if (migration)
      silent_since_us = 0;
    else if (silent_since_us == 0)
      silent_since_us = nc_mono_us();
    if (!migration && ((problem->code != NC_ERROR_UNREACHABLE && problem->code != NC_ERROR_TIMEOUT) || nc_mono_us() - silent_since_us > NC_ROLLBACK_SILENCE_US)) {
      g_propagate_error(error, g_steal_pointer(&problem));
      return NULL;
    }
    g_usleep(NC_ROLLBACK_POLL_US);
  }
}

static int
nc_rollback_exit_status(json_t *migration)
{
  json_t *last = nc_rollback_last(migration);
  const char *state = nc_json_string_or(last, "state", "");

  if (g_str_equal(state, "needs_attention"))
    return nc_error_exit_status(NC_ERROR_ATTENTION);
  if (last && !g_str_equal(state, "completed"))
    return nc_error_exit_status(NC_ERROR_CONFLICT);
  /* Without one: it was between two attempts, or went through before it could be stopped. */
  return last || !g_str_equal(nc_json_string_or(migration, "outcome", ""), "completed") ? 0 : nc_error_exit_status(NC_ERROR_CONFLICT);
}

static void
nc_rollback_print_end(NcCli *cli, const char *id, json_t *migration)
{
  g_autofree char *vm = nc_text_clean(nc_json_string_or(migration, "vm", "the machine"));
  g_autofree char *destination = nc_text_clean(nc_json_string_or(migration, "destination", "its destination"));
  g_autofree char *source = nc_text_clean(nc_json_string_or(migration, "source", "its source"));

  if (!nc_rollback_last(migration) && cli->status != 0)
    printf("%s could not be stopped any more: %s runs on %s.\nOn that node: novacron rollback %s --back\n", id, vm, destination, id);
  /* On the node where it would have arrived, or between two attempts, there was nothing to walk. */
  if (!nc_rollback_last(migration) && cli->status == 0)
    printf("%s has ended (%s); %s stays on %s.\n", id, nc_json_string_or(migration, "outcome", "?"), vm, source);
  nc_migration_print_rollbacks(migration);
}

static bool
nc_rollback_run(NcCli *cli, const char *id, const NcRollbackOptions *o, GError **error)
{
  nc_autojson json_t *body = json_object();

  if (o->back + o->to_checkpoint + (o->checkpoint != NULL) > 1)
    return nc_fail(error, NC_ERROR_INVALID,
                   "--back, --to-checkpoint and --checkpoint exclude each other: the first keeps what the machine is now, the others do not");
  if (!nc_cli_check_name("migration", id, error) || (o->checkpoint && !nc_cli_check_name("checkpoint", o->checkpoint, error)))
    return false;
  if (o->back)
    json_object_set_new(body, "back", json_true());
  if (o->to_checkpoint)
    json_object_set_new(body, "to_checkpoint", json_true());
  if (o->checkpoint)
    json_object_set_new(body, "checkpoint", json_string(o->checkpoint));
  nc_autojson json_t *begun = nc_client_callf(cli, "POST", body, error, "/api/v2/migrations/%s/rollback", id);
  nc_autojson json_t *migration = begun && o->wait ? nc_rollback_follow(cli, id, error) : json_incref(begun);
  if (!migration)
    return false;
  if (o->wait)
    cli->status = nc_rollback_exit_status(migration);
  if (cli->json)
    nc_cli_print_json(migration);
  else if (o->wait)
    nc_rollback_print_end(cli, id, migration);
  else
    printf("%s is being rolled back. Follow it: novacron status %s\n", id, id);
  return true;
}

bool
nc_cmd_rollback(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  NcRollbackOptions o = { 0 };
  const GOptionEntry entries[] = {
    { "back", 0, 0, G_OPTION_ARG_NONE, &o.back, "of a completed one: move it, as it is, back", NULL },
    { "to-checkpoint", 0, 0, G_OPTION_ARG_NONE, &o.to_checkpoint, "of a completed one: to the checkpoint before it", NULL },
    { "checkpoint", 0, 0, G_OPTION_ARG_STRING, &o.checkpoint, "of a completed one: set it back to this one", "ID" },
    { "wait", 0, 0, G_OPTION_ARG_NONE, &o.wait, "until it is over, and show its steps", NULL },
    { NULL },
  };

  bool ok = nc_cli_parse(cli, command, entries, &argc, &argv, error) && nc_rollback_run(cli, argv[0], &o, error);
  g_free(o.checkpoint);
  return ok;
}
