/* SPDX-License-Identifier: Apache-2.0 */
/* The pages: what stands where, and which part of the lists is seen. */
#include "cli/top_view.h"
#include "base/ident.h"
#include "cli/top_columns.h"
#include "cli/top_details.h"
#include "cli/units.h"

#include <inttypes.h>
#include <string.h>

#define NC_TOP_WIDE (2 * NC_TOP_COLUMNS + 4) /* from here on a migration takes one line */
#define NC_TOP_HEADER_LINES 4
#define NC_TOP_ENDED_ROWS 5 /* of the screen, as long as others run */

static const char *const nc_top_sort_names[] = { "newest first", "by ETA", "by progress", "by rate", "by machine" };

void
nc_top_look_clear(NcTopLook *look)
{
  g_clear_pointer(&look->selected, g_free);
  nc_json_clear(&look->last_selected);
}

/* --- header --- */

static void
nc_top_put_who(NcTopPage *page, json_t *frame, int64_t now_us)
{
  json_t *node = json_object_get(frame, "node"), *fleet = json_object_get(frame, "fleet");
  const char *role = !nc_json_bool_or(node, "controller", false)  ? "agent"
                     : !fleet || json_is_null(fleet)              ? "agent and controller"
                     : nc_json_bool_or(fleet, "leads", false)     ? "agent and controller that leads"
                                                                  : "agent and controller";
  g_autofree char *time = nc_time_format(now_us);

  nc_top_put(page, NC_TOP_BOLD, nc_json_string_or(node, "name", "?"));
  nc_top_putf(page, NC_TOP_PLAIN, "  %s  novacrond %s  QEMU %s", role, nc_json_string_or(node, "version", "?"),
              nc_json_string_or(node, "qemu_version", "-"));
  if (page->used + 11 <= page->columns) {
    nc_top_put_blanks(page, page->columns - 9);
    nc_top_putf(page, NC_TOP_PLAIN, "%.8sZ", time + 11);
  }
  nc_top_end_line(page);
}

static void
nc_top_put_load(NcTopPage *page, json_t *frame)
{
  json_t *node = json_object_get(frame, "node"), *machines = json_object_get(frame, "machines"), *count;
  g_autofree char *available = nc_format_bytes(nc_json_int_or(node, "memory_available_bytes", 0));
  g_autofree char *memory = nc_format_bytes(nc_json_int_or(node, "memory_bytes", 0));
  const char *state, *separator = ": ";
  int64_t total = nc_json_int_or(machines, "total", 0);

  nc_top_putf(page, NC_TOP_PLAIN, "%" PRId64 " CPUs, %s of %s free  ", nc_json_int_or(node, "cpus", 0), available, memory);
  nc_top_putf(page, NC_TOP_BOLD, "%" PRId64 " machine%s", total, total == 1 ? "" : "s");
  json_object_foreach(json_object_get(machines, "by_state"), state, count)
  {
    nc_top_putf(page, NC_TOP_PLAIN, "%s%" JSON_INTEGER_FORMAT " %s", separator, json_integer_value(count), state);
    separator = ", ";
  }
  nc_top_end_line(page);
}

static bool
nc_top_is_phase(json_t *m, const char *phase)
{
  return g_str_equal(nc_json_string_or(m, "phase", ""), phase);
}

static void
nc_top_put_counts(NcTopPage *page, json_t *frame)
{
  json_t *running = json_object_get(frame, "running"), *m, *fleet_queued = json_object_get(frame, "queued");
  size_t i, queued = 0, attention = 0;
  double wire = 0;

  json_array_foreach(running, i, m)
  {
    queued += nc_top_is_phase(m, "queued");
    attention += nc_top_is_phase(m, "needs_attention");
    wire += nc_json_number_or(m, "wire_rate_bps", 0);
  }
  g_autofree char *rate = nc_format_rate(wire);
  nc_top_putf(page, NC_TOP_BOLD, "%zu%s running", json_array_size(running) - queued - attention,
              nc_json_bool_or(frame, "running_more", false) ? " or more" : "");
  nc_top_putf(page, NC_TOP_PLAIN, ", %zu queued", queued);
  if (attention > 0) {
    nc_top_put(page, NC_TOP_PLAIN, ", ");
    nc_top_putf(page, NC_TOP_BAD, "%zu NEEDS ATTENTION", attention);
  }
  nc_top_putf(page, NC_TOP_PLAIN, "  wire %s", rate);
  if (json_is_integer(fleet_queued))
    nc_top_putf(page, NC_TOP_PLAIN, "  fleet: %" JSON_INTEGER_FORMAT "%s not ended", json_integer_value(fleet_queued),
                nc_json_bool_or(frame, "queued_more", false) ? " or more" : "");
  nc_top_end_line(page);
}

/* What could not be asked, if something: all else is older. */
static bool
nc_top_put_problem(NcTopPage *page, json_t *frame)
{
  const char *problem = nc_json_string_or(frame, "problem", NULL);

  if (problem)
    nc_top_putf(page, NC_TOP_BAD, "OLD: %s", problem);
  return problem != NULL;
}

/* How many alerts are raised, and how bad the worst of them is; nothing while all is well. */
static void
nc_top_put_alerts(NcTopPage *page, json_t *frame)
{
  json_t *alerts = json_object_get(frame, "alerts");
  int64_t firing = nc_json_int_or(alerts, "firing", 0);
  bool is_critical = g_str_equal(nc_json_string_or(alerts, "worst", ""), "critical");

  if (!json_is_object(alerts))
    nc_top_put(page, NC_TOP_PLAIN, "alerts not known  ");
  else if (firing > 0)
    nc_top_putf(page, is_critical ? NC_TOP_BAD : NC_TOP_BUSY, "%" PRId64 " ALERT%s, %s  ", firing, firing == 1 ? "" : "S",
                nc_json_string_or(alerts, "worst", "?"));
}

static void
nc_top_put_header(NcTopPage *page, json_t *frame, int64_t now_us)
{
  nc_top_put_who(page, frame, now_us);
  nc_top_put_load(page, frame);
  nc_top_put_counts(page, frame);
  nc_top_put_alerts(page, frame);
  if (!nc_top_put_problem(page, frame))
    nc_top_put(page, NC_TOP_PLAIN, nc_json_string_or(json_object_get(frame, "alerts"), "summary", ""));
  nc_top_end_line(page);
}

/* --- lists --- */

typedef struct {
  size_t running, ended; /* how many there are */
  size_t shown_running, shown_ended;
  size_t lines_each; /* of one that runs */
} NcTopRoom;

/* Lines that the ended ones take with their titles. */
static size_t
nc_top_ended_lines(size_t rows)
{
  return rows > 0 ? rows + 3 : 0;
}

static void
nc_top_share_rows(NcTopRoom *room, size_t rows)
{
  size_t titles = 1 + room->lines_each, fixed = NC_TOP_HEADER_LINES + titles + 1 /* keys */, body = rows > fixed ? rows - fixed : 0;
  size_t ended = MIN(room->ended, NC_TOP_ENDED_ROWS), least = MIN(room->running, 2) * room->lines_each;

  while (ended > 0 && least + nc_top_ended_lines(ended) > body)
    ended--;
  room->shown_running = MIN(room->running, (body - nc_top_ended_lines(ended)) / room->lines_each);
  size_t left = body - room->shown_running * room->lines_each;
  room->shown_ended = left > 3 ? MIN(room->ended, left - 3) : 0;
}

/* Moves *${first} so that ${selected} (counted as the rows are; outside: not in this list) is among ${shown} rows. */
static void
nc_top_window(size_t *first, size_t selected, size_t shown, size_t count)
{
  if (selected < count && selected < *first)
    *first = selected;
  if (selected < count && shown > 0 && selected >= *first + shown)
    *first = selected + 1 - shown;
  *first = MIN(*first, count - MIN(shown, count));
}

static void
nc_top_put_section(NcTopPage *page, const char *title, size_t first, size_t shown, size_t count, const char *more)
{
  nc_top_put(page, NC_TOP_BOLD, title);
  if (count > 0 && shown < count)
    nc_top_putf(page, NC_TOP_PLAIN, "  %zu to %zu of %zu", shown > 0 ? first + 1 : 0, first + shown, count);
  nc_top_putf(page, NC_TOP_PLAIN, "%s%s", more[0] ? "  " : "", more);
  nc_top_end_line(page);
}

static void
nc_top_put_running(NcTopPage *page, json_t *m, bool is_selected, size_t lines_each)
{
  size_t width = lines_each == 1 ? page->columns - NC_TOP_COLUMNS : page->columns;

  page->is_marked = is_selected;
  nc_top_put_columns(page, NC_TOP_PLACE, width, m);
  if (lines_each > 1) {
    nc_top_end_line(page);
    page->is_marked = is_selected;
  }
  nc_top_put_columns(page, NC_TOP_FIGURES, page->columns - page->used, m);
  nc_top_end_line(page);
}

static void
nc_top_put_running_titles(NcTopPage *page, size_t lines_each)
{
  nc_top_put_titles(page, NC_TOP_PLACE, lines_each == 1 ? page->columns - NC_TOP_COLUMNS : page->columns);
  if (lines_each > 1)
    nc_top_end_line(page);
  nc_top_put_titles(page, NC_TOP_FIGURES, page->columns - page->used);
  nc_top_end_line(page);
}

static void
nc_top_put_lists(NcTopPage *page, const GPtrArray *order, const NcTopRoom *room, const NcTopLook *look, size_t selected)
{
  g_autofree char *sorted = g_strdup_printf("(%s)", nc_top_sort_names[look->sort]);

  nc_top_put_section(page, "Running migrations", look->first_running, room->shown_running, room->running, room->running > 0 ? sorted : "none");
  if (room->running > 0)
    nc_top_put_running_titles(page, room->lines_each);
  for (size_t i = look->first_running; i < look->first_running + room->shown_running; i++)
    nc_top_put_running(page, order->pdata[i], look->is_screen && i == selected, room->lines_each);
  if (room->shown_ended == 0)
    return;
  nc_top_end_line(page);
  nc_top_put_section(page, "Recently ended", look->first_ended, room->shown_ended, room->ended, "");
  nc_top_put_titles(page, NC_TOP_ENDED, page->columns);
  nc_top_end_line(page);
  for (size_t i = look->first_ended; i < look->first_ended + room->shown_ended; i++) {
    page->is_marked = look->is_screen && room->running + i == selected;
    nc_top_put_columns(page, NC_TOP_ENDED, page->columns, order->pdata[room->running + i]);
    nc_top_end_line(page);
  }
}

static void
nc_top_put_list_page(NcTopPage *page, json_t *frame, NcTopLook *look)
{
  NcTopRoom room = { .lines_each = look->columns >= NC_TOP_WIDE ? 1 : 2 };
  g_autoptr(GPtrArray) order = nc_top_order(frame, look->sort, &room.running);
  size_t selected = nc_top_selected(look, order);

  room.ended = order->len - room.running;
  room.shown_running = room.running;
  room.shown_ended = room.ended;
  if (look->rows > 0)
    nc_top_share_rows(&room, look->rows);
  nc_top_window(&look->first_running, selected, room.shown_running, room.running);
  nc_top_window(&look->first_ended, selected < room.running ? G_MAXUINT : selected - room.running, room.shown_ended, room.ended);
  look->page = MAX(room.shown_running, 1);
  nc_top_put_header(page, frame, look->now_us);
  nc_top_put_lists(page, order, &room, look, selected);
}

/* --- the others --- */

static void
nc_top_put_help(NcTopPage *page)
{
  static const char *const lines[] = {
    "Up, Down, j, k   select a migration",
    "PgUp, PgDn, g, G a page, the first, the last",
    "Enter            everything about it, and back",
    "s                another order of those that run",
    "?                this, and back",
    "Ctrl-L           draw the screen anew",
    "q                quit",
    "",
    "PHASE            (2): its second attempt, which begins anew",
    "DONE             \"?\": only the source knows",
    "ETA              with how far it may be wrong, as the last rounds were",
    "DIRTIED/SENT     memory that the guest writes to, and that leaves, per second;",
    "                 \"!\": it does not come to its end like that",
    "PAUSE/LIMIT      how long the guest is expected to stand still, and may",
    "LOSS             segments that were sent again",
    "LINKS            connections; 3/4: one of four is down",
    "",
    "2 ALERTS         of this node and its migrations: `novacron alerts` has all,",
    "                 with what to do",
  };

  nc_top_put(page, NC_TOP_BOLD, "Keys and columns");
  nc_top_end_line(page);
  nc_top_end_line(page);
  for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
    nc_top_put(page, NC_TOP_PLAIN, lines[i]);
    nc_top_end_line(page);
  }
}

/* The selected one as it is, or was when it was last among those that are asked for. */
static void
nc_top_put_details_page(NcTopPage *page, json_t *frame, NcTopLook *look)
{
  json_t *story = json_object_get(frame, "story");

  if (!look->last_selected) {
    nc_top_put_header(page, frame, look->now_us);
    return;
  }
  if (nc_top_put_problem(page, frame))
    nc_top_end_line(page);
  if (g_strcmp0(nc_json_string_or(story, "id", NULL), look->selected) == 0 && look->selected)
    nc_top_put_details(page, story);
  else
    nc_top_put_details(page, look->last_selected); /* lists have less of it */
}

/* What is selected is remembered with its id, so that it stays the same while others come and go. */
static void
nc_top_remember(json_t *frame, NcTopLook *look)
{
  size_t running;
  g_autoptr(GPtrArray) order = nc_top_order(frame, look->sort, &running);
  size_t at = nc_top_selected(look, order);
  bool is_there = at < order->len && (!look->selected || g_str_equal(nc_json_string_or(order->pdata[at], "id", ""), look->selected));

  if (look->mode != NC_TOP_LIST && !is_there)
    return;
  nc_json_clear(&look->last_selected);
  g_clear_pointer(&look->selected, g_free);
  if (order->len == 0)
    return;
  look->last_selected = json_incref(order->pdata[at]);
  look->selected = g_strdup(nc_json_string_or(look->last_selected, "id", ""));
}

/* Cuts what is above and below the screen, and says with the last line what can be done. */
static void
nc_top_fit_rows(GPtrArray *lines, NcTopPage *page, NcTopLook *look)
{
  size_t rows = look->rows - 1, most = lines->len > rows ? lines->len - rows : 0;
  const char *keys = look->mode == NC_TOP_LIST ? "q quit  j/k select  Enter details  s sort  ? help" : "q quit  j/k scroll  Esc back";

  if (look->mode != NC_TOP_LIST) {
    look->page = rows;
    look->scroll = MIN(look->scroll, most);
    g_ptr_array_remove_range(lines, 0, (guint)look->scroll);
  }
  if (lines->len > rows)
    g_ptr_array_set_size(lines, (gint)rows);
  while (lines->len < rows)
    nc_top_end_line(page);
  nc_top_put(page, NC_TOP_BOLD, keys);
  if (look->mode != NC_TOP_LIST && most > 0)
    nc_top_putf(page, NC_TOP_PLAIN, "  (%zu lines above, %zu below)", look->scroll, most - look->scroll);
  nc_top_end_line(page);
}

GPtrArray *
nc_top_lines(json_t *frame, NcTopLook *look)
{
  NcTopPage page;

  nc_top_remember(frame, look);
  nc_top_page_begin(&page, look->columns, look->is_screen, look->has_colours);
  if (look->mode == NC_TOP_HELP)
    nc_top_put_help(&page);
  else if (look->mode == NC_TOP_DETAILS)
    nc_top_put_details_page(&page, frame, look);
  else
    nc_top_put_list_page(&page, frame, look);
  if (look->rows > 0)
    nc_top_fit_rows(page.lines, &page, look);
  return nc_top_page_end(&page);
}
