/* SPDX-License-Identifier: Apache-2.0 */
/* novacron top: what moves on this node, live, on a terminal; or as plain text again and again. */
#include "base/ident.h"
#include "cli/client.h"
#include "cli/screen.h"
#include "cli/table.h"
#include "cli/top_ask.h"
#include "cli/top_view.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define NC_TOP_EVERY_US 1000000u
#define NC_TOP_ESCAPE_MS 50 /* in which the rest of a key's sequence comes */

/* --- plain --- */

static void
nc_top_print(json_t *frame, bool is_first)
{
  NcTopLook look = { .columns = NC_COLUMNS, .now_us = nc_wall_us() };
  size_t rows;

  if (isatty(STDOUT_FILENO))
    nc_screen_size(&look.columns, &rows);
  g_autoptr(GPtrArray) lines = nc_top_lines(frame, &look);
  if (!is_first)
    putchar('\n');
  for (guint i = 0; i < lines->len; i++)
    puts(lines->pdata[i]);
  nc_top_look_clear(&look);
}

/* ${times} 0: until nobody reads it any more. */
static bool
nc_top_batch(const NcCli *cli, int times, GError **error)
{
  g_autoptr(NcTopAsker) asker = nc_top_asker_new(cli);

  for (int n = 0; times == 0 || n < times; n++) {
    if (n > 0)
      g_usleep(NC_TOP_EVERY_US);
    nc_autojson json_t *frame = nc_top_ask(asker, NULL, error);
    if (!frame)
      return false;
    if (cli->json)
      nc_cli_print_json(frame);
    else
      nc_top_print(frame, n == 0);
    if (fflush(stdout) != 0)
      return nc_fail(error, NC_ERROR_IO, "the output could not be written");
  }
  return true;
}

/* --- on a screen --- */

typedef struct {
  NcTopLook look;
  json_t *frame; /* never NULL */
  GString *typed;
  int64_t typed_us; /* when the last of it came */
  bool is_over;
  int ended_by; /* a signal; 0: a key */
} NcTop;

static void
nc_top_on_signals(NcTop *t)
{
  int number;

  while ((number = nc_screen_signal()) != 0) {
    if (number == SIGTSTP)
      nc_screen_suspend();
    else if (number == SIGWINCH)
      nc_screen_forget(); /* what terminals leave there, when they are resized, differs */
    else
      t->is_over = true;
    if (number != SIGTSTP && number != SIGWINCH && number != SIGINT)
      t->ended_by = number;
  }
}

/* ${is_all}: nothing more came for a while. */
static void
nc_top_on_keys(NcTop *t, bool is_all)
{
  while (!t->is_over && t->typed->len > 0) {
    size_t used;
    NcTopKey key = nc_top_key_read(t->typed->str, t->typed->len, is_all, &used);
    if (used == 0)
      return;
    g_string_erase(t->typed, 0, (gssize)used);
    if (key == NC_TOP_KEY_REDRAW)
      nc_screen_forget();
    t->is_over = !nc_top_key(&t->look, t->frame, key);
  }
}

static void
nc_top_on_input(NcTop *t)
{
  char bytes[256];
  ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);

  t->typed_us = nc_mono_us();
  if (n > 0)
    g_string_append_len(t->typed, bytes, n);
  else if (n == 0 || errno != EINTR)
    t->is_over = true; /* the terminal is gone */
  nc_top_on_keys(t, false);
}

static bool
nc_top_draw(NcTop *t, GError **error)
{
  t->look.now_us = nc_wall_us();
  nc_screen_size(&t->look.columns, &t->look.rows);
  g_autoptr(GPtrArray) lines = nc_top_lines(t->frame, &t->look);
  return nc_screen_draw(lines, error);
}

/* How long poll() may wait. News that come while a key's sequence is waited for make that no longer. */
static int
nc_top_patience_ms(const NcTop *t)
{
  if (t->typed->len == 0)
    return -1;
  return (int)MAX(NC_TOP_ESCAPE_MS - (nc_mono_us() - t->typed_us) / 1000, 0);
}

/* Waits for something to happen, and has it happen. */
static void
nc_top_turn_once(NcTop *t, NcTopFeed *feed, int feed_fd, int signal_fd)
{
  struct pollfd fds[] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = feed_fd, .events = POLLIN }, { .fd = signal_fd, .events = POLLIN } };
  int n = poll(fds, G_N_ELEMENTS(fds), nc_top_patience_ms(t));

  nc_top_on_signals(t);
  if (n == 0)
    nc_top_on_keys(t, true);
  if (n <= 0)
    return;
  if (fds[1].revents) {
    json_t *frame = nc_top_feed_take(feed);
    if (frame) {
      nc_json_clear(&t->frame);
      t->frame = frame;
    }
  }
  if (fds[0].revents)
    nc_top_on_input(t);
}

static bool
nc_top_loop(NcTop *t, NcTopFeed *feed, int feed_fd, GError **error)
{
  int signal_fd;
  bool ok = true;

  if (!nc_screen_open(&signal_fd, error))
    return false;
  while (ok && !t->is_over) {
    ok = nc_top_draw(t, error);
    nc_top_feed_want(feed, t->look.mode == NC_TOP_DETAILS ? t->look.selected : NULL);
    if (ok)
      nc_top_turn_once(t, feed, feed_fd, signal_fd);
  }
  nc_screen_close();
  return ok;
}

static bool
nc_top_live(const NcCli *cli, GError **error)
{
  NcTop top = { .look = { .is_screen = true, .has_colours = g_getenv("NO_COLOR") == NULL || g_getenv("NO_COLOR")[0] == '\0' } };
  NcTopAsker *asker = nc_top_asker_new(cli);
  int feed_fd;

  top.frame = nc_top_ask(asker, NULL, error); /* before the screen: what is wrong is said on the usual one */
  if (!top.frame) {
    nc_top_asker_free(asker);
    return false;
  }
  NcTopFeed *feed = nc_top_feed_start(asker, &feed_fd, error);
  if (!feed) {
    nc_json_clear(&top.frame);
    return false;
  }
  top.typed = g_string_new(NULL);
  bool ok = nc_top_loop(&top, feed, feed_fd, error);
  nc_top_feed_stop(feed);
  g_string_free(top.typed, TRUE);
  nc_json_clear(&top.frame);
  nc_top_look_clear(&top.look);
  if (top.ended_by)
    raise(top.ended_by); /* as whoever sent it expects */
  return ok;
}

bool
nc_cmd_top(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  gboolean batch = FALSE;
  int times = 0;
  const GOptionEntry entries[] = {
    { "batch", 'b', 0, G_OPTION_ARG_NONE, &batch, "plain text again and again, as also without a terminal", NULL },
    { "times", 'n', 0, G_OPTION_ARG_INT, &times, "with --batch: so often, then end (default: until interrupted)", "N" },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, entries, &argc, &argv, error))
    return false;
  if (times < 0)
    return nc_fail(error, NC_ERROR_INVALID, "-n %d: a number of times is 1 or more (0: until interrupted)", times);
  if (batch || times > 0 || cli->json || !nc_screen_is_possible())
    return nc_top_batch(cli, times, error);
  return nc_top_live(cli, error);
}
