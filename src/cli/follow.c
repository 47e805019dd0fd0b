/* SPDX-License-Identifier: Apache-2.0 */
/* The polling loop of --wait. */
#include "cli/follow.h"
#include "base/ident.h"
#include "cli/client.h"
#include "cli/migration_view.h"
#include "cli/progress_line.h"

#include <signal.h>
#include <time.h>

#define NC_FOLLOW_POLL_MS 250
#define NC_FOLLOW_SILENCE_US                                                                                           \
  300000000 /* how long NovaCron may be away: an upgrade with reboot of the service takes seconds */

typedef struct {
  const NcCli *cli;
  const NcFollowed *what;
  NcProgressLine line;
  int64_t silent_since_us; /* 0: it answers */
} NcFollow;

/* Signal handlers can reach nothing else. */
static volatile sig_atomic_t nc_follow_interrupted;

static void
nc_follow_on_signal(int signal)
{
  nc_follow_interrupted = 1;
}

/* May the next question be answered again? */
static bool
nc_follow_is_passing(const GError *error)
{
  return error->domain == NC_ERROR &&
         (error->code == NC_ERROR_UNREACHABLE || error->code == NC_ERROR_TIMEOUT || error->code == NC_ERROR_RESOURCE ||
          error->code == NC_ERROR_UNAVAILABLE);
}

/* false: give up. */
static bool
nc_follow_on_silence(NcFollow *follow, const GError *problem, GError **error)
{
  int64_t now = nc_mono_us();

  if (!nc_follow_is_passing(problem)) {
    g_propagate_error(error, g_error_copy(problem));
    return false;
  }
  if (follow->silent_since_us == 0)
    follow->silent_since_us = now;
  if (now - follow->silent_since_us > NC_FOLLOW_SILENCE_US) {
    g_propagate_error(error, g_error_copy(problem));
    g_prefix_error(error, "%s goes on, but how it fares is not known: ", follow->what->title);
    return false;
  }
  g_autofree char *line = g_strdup_printf("NovaCron does not answer; %s goes on; asking again", follow->what->title);
  nc_progress_line_draw(&follow->line, line);
  return true;
}

static void
nc_follow_sleep(void)
{
  const struct timespec pause = { .tv_nsec = NC_FOLLOW_POLL_MS * 1000000L };
  nanosleep(&pause, NULL); /* Ctrl-C ends it early */
}

static json_t *
nc_follow_loop(NcFollow *follow, GError **error)
{
  while (!nc_follow_interrupted) {
    g_autoptr(GError) problem = NULL;
    nc_autojson json_t *state = nc_client_call(follow->cli, "GET", follow->what->path, NULL, &problem);
    if (state) {
      g_autofree char *line = follow->what->progress(state);
      follow->silent_since_us = 0;
      nc_progress_line_draw(&follow->line, line);
      if (follow->what->has_ended(state))
        return g_steal_pointer(&state);
    } else if (!nc_follow_on_silence(follow, problem, error)) {
      return NULL;
    }
    nc_follow_sleep();
  }
  nc_fail(error, NC_ERROR_CANCELLED, "interrupted");
  return NULL;
}

json_t *
nc_follow_path(const NcCli *cli, const NcFollowed *followed, bool *ret_interrupted, GError **error)
{
  NcFollow follow = { .cli = cli, .what = followed };
  struct sigaction action = { .sa_handler = nc_follow_on_signal }; /* no SA_RESTART: the sleep must end */

  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  nc_progress_line_begin(&follow.line);
  json_t *state = nc_follow_loop(&follow, error);
  nc_progress_line_end(&follow.line);
  *ret_interrupted = nc_follow_interrupted;
  return state;
}

static bool
nc_follow_is_over(json_t *migration)
{
  return nc_migration_has_ended(migration) || nc_migration_needs_attention(migration);
}

json_t *
nc_follow(const NcCli *cli, const char *id, bool *ret_interrupted, GError **error)
{
  g_autofree char *path = g_strconcat("/api/v2/migrations/", id, NULL), *title = g_strconcat("migration ", id, NULL);
  const NcFollowed followed = {
    .title = title, .path = path, .has_ended = nc_follow_is_over, .progress = nc_migration_progress
  };
  return nc_follow_path(cli, &followed, ret_interrupted, error);
}
