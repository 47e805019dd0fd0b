/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress_line.h"
#include "base/ident.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define NC_PROGRESS_LINE_US 2000000 /* between plain lines */

void
nc_progress_line_begin(NcProgressLine *line)
{
  *line = (NcProgressLine){ .terminal = isatty(STDERR_FILENO) };
}

static int
nc_progress_line_columns(void)
{
  struct winsize size;
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

void
nc_progress_line_draw(NcProgressLine *line, const char *text)
{
  int64_t now_us = nc_mono_us();

  if (line->terminal) {
    g_autofree char *cut = g_utf8_substring(text, 0, MIN(g_utf8_strlen(text, -1), nc_progress_line_columns() - 1));
    fprintf(stderr, "\r%s\033[K", cut);
    fflush(stderr);
  } else if (line->last_us == 0 || now_us - line->last_us >= NC_PROGRESS_LINE_US) {
    fprintf(stderr, "%s\n", text);
    line->last_us = now_us;
  }
}

void
nc_progress_line_end(const NcProgressLine *line)
{
  if (line->terminal)
    fputs("\r\033[K", stderr);
}
