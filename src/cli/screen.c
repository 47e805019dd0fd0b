/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/screen.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* The other screen, without cursor and without going on in the next line; and back. */
#define NC_SCREEN_ENTER "\033[?1049h\033[?25l\033[?7l\033[0m\033[2J"
#define NC_SCREEN_LEAVE "\033[0m\033[?7h\033[?25h\033[?1049l"

#define NC_SCREEN_LEAST_COLUMNS 20
#define NC_SCREEN_LEAST_ROWS 4
#define NC_SCREEN_MOST 1000 /* of both: what a terminal says is not believed without bound */

static const int nc_screen_signals[] = { SIGWINCH, SIGTSTP, SIGINT, SIGTERM, SIGHUP, SIGQUIT };
static const int nc_screen_crashes[] = { SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE };

static struct {
  struct termios before;
  volatile sig_atomic_t is_entered;
  int pipe[2];
  GPtrArray *shown; /* NULL: not known */
} nc_screen;

/* Of write(), in a signal's handler too: there is nobody to tell. */
static void
nc_screen_say(const char *text)
{
  ssize_t n = write(STDOUT_FILENO, text, strlen(text));
  (void)n;
}

static void
nc_screen_leave(void)
{
  if (!nc_screen.is_entered)
    return;
  nc_screen.is_entered = 0;
  nc_screen_say(NC_SCREEN_LEAVE);
  tcsetattr(STDIN_FILENO, TCSADRAIN, &nc_screen.before);
}

static void
nc_screen_on_signal(int signal)
{
  int saved = errno;
  unsigned char byte = (unsigned char)signal;
  ssize_t n = write(nc_screen.pipe[1], &byte, 1); /* full: there is enough to do */
  (void)n;
  errno = saved;
}

static void
nc_screen_on_crash(int number)
{
  nc_screen_leave();
  signal(number, SIG_DFL);
  raise(number);
}

static void
nc_screen_catch(const int *signals, size_t count, void (*handler)(int))
{
  struct sigaction action = { .sa_handler = handler }; /* no SA_RESTART: a write that waits must end */

  sigfillset(&action.sa_mask);
  for (size_t i = 0; i < count; i++)
    sigaction(signals[i], &action, NULL);
}

bool
nc_screen_is_possible(void)
{
  const char *kind = g_getenv("TERM");
  return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && kind && kind[0] && !g_str_equal(kind, "dumb");
}

/* Keys come one by one and are not shown; Ctrl-C and Ctrl-Z stay signals. */
static bool
nc_screen_enter(GError **error)
{
  struct termios raw = nc_screen.before;

  raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
  raw.c_iflag &= ~(tcflag_t)(IXON | ICRNL);
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) != 0)
    return nc_fail(error, NC_ERROR_IO, "the terminal takes no settings: %s (--batch needs none)", g_strerror(errno));
  nc_screen.is_entered = 1;
  nc_screen_say(NC_SCREEN_ENTER);
  nc_screen_forget();
  return true;
}

bool
nc_screen_open(int *ret_fd, GError **error)
{
  if (tcgetattr(STDIN_FILENO, &nc_screen.before) != 0 || pipe2(nc_screen.pipe, O_CLOEXEC | O_NONBLOCK) != 0)
    return nc_fail(error, NC_ERROR_IO, "no screen: %s (--batch needs none)", g_strerror(errno));
  nc_screen_catch(nc_screen_signals, G_N_ELEMENTS(nc_screen_signals), nc_screen_on_signal);
  nc_screen_catch(nc_screen_crashes, G_N_ELEMENTS(nc_screen_crashes), nc_screen_on_crash);
  *ret_fd = nc_screen.pipe[0];
  if (nc_screen_enter(error))
    return true;
  nc_screen_close();
  return false;
}

void
nc_screen_close(void)
{
  nc_screen_leave();
  nc_screen_catch(nc_screen_signals, G_N_ELEMENTS(nc_screen_signals), SIG_DFL);
  nc_screen_catch(nc_screen_crashes, G_N_ELEMENTS(nc_screen_crashes), SIG_DFL);
  close(nc_screen.pipe[0]);
  close(nc_screen.pipe[1]);
  nc_screen_forget();
}

int
nc_screen_signal(void)
{
  unsigned char byte;
  return read(nc_screen.pipe[0], &byte, 1) == 1 ? byte : 0;
}

void
nc_screen_suspend(void)
{
  nc_screen_leave();
  raise(SIGSTOP);
  nc_screen_enter(NULL);
}

void
nc_screen_size(size_t *ret_columns, size_t *ret_rows)
{
  struct winsize size = { 0 };
  bool is_known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0;

  *ret_columns = is_known ? CLAMP(size.ws_col, NC_SCREEN_LEAST_COLUMNS, NC_SCREEN_MOST) : 80;
  *ret_rows = is_known ? CLAMP(size.ws_row, NC_SCREEN_LEAST_ROWS, NC_SCREEN_MOST) : 24;
}

void
nc_screen_forget(void)
{
  g_clear_pointer(&nc_screen.shown, g_ptr_array_unref);
}

/* All of it in one piece. A signal that came while the terminal does not take it, ends it: it is drawn anew. */
static bool
nc_screen_write(const GString *text, GError **error)
{
  for (size_t at = 0; at < text->len;) {
    ssize_t n = write(STDOUT_FILENO, text->str + at, text->len - at);
    if (n < 0 && errno == EINTR) {
      nc_screen_forget();
      return true;
    }
    if (n < 0)
      return nc_fail(error, NC_ERROR_IO, "the terminal is gone: %s", g_strerror(errno));
    at += (size_t)n;
  }
  return true;
}

bool
nc_screen_draw(const GPtrArray *lines, GError **error)
{
  g_autoptr(GString) text = g_string_new(NULL);
  guint before = nc_screen.shown ? nc_screen.shown->len : 0;
  GPtrArray *shown = g_ptr_array_new_with_free_func(g_free);

  if (!nc_screen.shown)
    g_string_append(text, "\033[0m\033[2J");
  for (guint i = 0; i < lines->len; i++) {
    if (i >= before || !g_str_equal(lines->pdata[i], nc_screen.shown->pdata[i]))
      g_string_append_printf(text, "\033[%u;1H%s", i + 1, (const char *)lines->pdata[i]);
    g_ptr_array_add(shown, g_strdup(lines->pdata[i]));
  }
  if (lines->len < before)
    g_string_append_printf(text, "\033[%u;1H\033[J", lines->len + 1);
  nc_screen_forget();
  nc_screen.shown = shown;
  return nc_screen_write(text, error);
}
