/* SPDX-License-Identifier: Apache-2.0 */
/* The pages of `novacron top`: each line within its columns whatever names say, lists in their windows, keys. */
#include "cli/cells.h"
#include "cli/top_view.h"

#include <string.h>

#define HOSTILE "\033[31m\r\n\t\302\233""2J\342\200\256evil\314\201\314\201\344\270\255\346\226\207\360\237\230\200\377"

static json_t *
migration(size_t i, const char *vm)
{
  g_autofree char *id = g_strdup_printf("m-0t7bd31dsw67%04zu", i);
  return json_pack("{s:s, s:s, s:s, s:s, s:s, s:n, s:f, s:i, s:f, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:[{s:b, s:i, s:i}, {s:b, s:i, s:i}], "
                   "s:[{s:s, s:s, s:s}]}",
                   "id", id, "vm", vm, "source", "host-a", "destination", "host-b", "phase", "memory_copy", "outcome", "progress", 43.7,
                   "wire_rate_bps", 112300000 + (int)i, "ratio", 4.0, "eta_ms", 12000 + (int)i, "eta_error_ms", 3000, "dirty_rate_bps", 5000000,
                   "effective_rate_bps", 90000000, "forecast_pause_ms", 120, "max_downtime_ms", 300, "rtt_us", 20300, "attempt", 1, "converges", 1,
                   "connections", "up", 1, "segments", 1000, "retransmitted_segments", 5, "up", 0, "segments", 1000, "retransmitted_segments", 5,
                   "events", "at", "2026-01-02T03:04:05.700Z", "event", "round", "detail", vm);
}

static json_t *
ended(size_t i)
{
  json_t *m = migration(9000 + i, "gone");
  json_object_set_new(m, "outcome", json_string("completed"));
  json_object_set_new(m, "phase", json_string("completed"));
  json_object_set_new(m, "pause_ms", json_integer(212));
  json_object_set_new(m, "total_ms", json_integer(8400));
  json_object_set_new(m, "wire_bytes", json_integer(64 << 20));
  json_object_set_new(m, "finished", json_string("2026-01-02T03:04:14.100Z"));
  return m;
}

static json_t *
frame_of(size_t n_running, size_t n_ended, const char *vm)
{
  json_t *frame = json_pack("{s:{s:s, s:s, s:s, s:i, s:I, s:I, s:b}, s:{s:b}, s:{s:i, s:{s:i, s:i}}, s:[], s:[], s:i}", "node", "name", "host-a", "version",
                            "0.1.0", "qemu_version", "7.2.0", "cpus", 2, "memory_bytes", (json_int_t)8 << 30, "memory_available_bytes", (json_int_t)6 << 30,
                            "controller", 1, "fleet", "leads", 1, "machines", "total", 1000, "by_state", "running", 950, "migrating", 50, "running",
                            "ended", "queued", 3);
  for (size_t i = 0; i < n_running; i++)
    json_array_append_new(json_object_get(frame, "running"), migration(i, vm));
  for (size_t i = 0; i < n_ended; i++)
    json_array_append_new(json_object_get(frame, "ended"), ended(i));
  return frame;
}

/* Cells of a line, of which what colours it takes none. */
static size_t
width_of(const char *line)
{
  GString *bare = g_string_new(NULL);
  for (const char *c = line; *c; c++) {
    if (*c == '\033') {
      g_assert_cmpint(c[1], ==, '[');
      c = strchr(c, 'm');
      g_assert_nonnull(c);
    } else {
      g_assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
      g_string_append_c(bare, *c);
    }
  }
  g_assert_true(g_utf8_validate(bare->str, -1, NULL));
  size_t width = nc_cells_width(bare->str);
  g_string_free(bare, TRUE);
  return width;
}

static char *
page_of(json_t *frame, NcTopLook *look)
{
  g_autoptr(GPtrArray) lines = nc_top_lines(frame, look);
  GString *page = g_string_new(NULL);

  for (guint i = 0; i < lines->len; i++) {
    size_t width = width_of(lines->pdata[i]);
    if (look->is_screen)
      g_assert_cmpuint(width, ==, look->columns);
    else
      g_assert_cmpuint(width, <=, look->columns);
    g_string_append_printf(page, "%s\n", (char *)lines->pdata[i]);
  }
  if (look->rows > 0)
    g_assert_cmpuint(lines->len, ==, look->rows);
  return g_string_free(page, FALSE);
}

/* The same without what makes it bold or inverted. */
static char *
words_of(json_t *frame, NcTopLook *look)
{
  g_autofree char *page = page_of(frame, look);
  g_autoptr(GRegex) sequence = g_regex_new("\033\\[[0-9]*m", 0, 0, NULL);
  return g_regex_replace_literal(sequence, page, -1, 0, "", 0, NULL);
}

static void
expect(const char *page, const char *text)
{
  if (!strstr(page, text))
    g_error("no \"%s\" in:\n%s", text, page);
}

static void
expect_not(const char *page, const char *text)
{
  if (strstr(page, text))
    g_error("\"%s\" in:\n%s", text, page);
}

static void
test_cells(void)
{
  g_autofree char *clean = nc_cells_clean(HOSTILE);
  g_assert_cmpstr(clean, ==, "?[31m?????2Jevi\304\272\344\270\255\346\226\207\360\237\230\200\357\277\275");
}

static void
test_cells_fit(void)
{
  static const struct {
    const char *text, *fit;
    size_t width;
    gboolean right;
  } cases[] = {
    { "web1", "web1  ", 6, FALSE },
    { "web1", "  web1", 6, TRUE },
    { "web1-long", "web1-~", 6, FALSE },
    { "\344\270\255\346\226\207\344\270\255", "\344\270\255\346\226\207~", 5, FALSE },
    { "\344\270\255\346\226\207\344\270\255", "\344\270\255~ ", 4, FALSE }, /* half a character is a blank */
    { "\344\270\255", "~", 1, FALSE },
    { "x", "", 0, FALSE },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *fit = nc_cells_fit(cases[i].text, cases[i].width, cases[i].right);
    g_assert_cmpstr(fit, ==, cases[i].fit);
    g_assert_cmpuint(nc_cells_width(fit), ==, cases[i].width);
  }
}

/* What a person should find, at both widths, and each line is as wide as the screen. */
static void
test_list(void)
{
  static const size_t widths[] = { 80, 120, 200 };
  static const char *const texts[] = { "host-a  agent and controller that leads  novacrond 0.1.0", "03:04:05Z", "2 CPUs, 6.0 GiB of 8.0 GiB free", "1000 machines: ", "950 running",
                                       "2 running, 0 queued", "fleet: 3 not ended", "wire 224.6 MB/s", "Running migrations", "web1", "host-a->host-b", "memory", "#", "43%",
                                       "12s+-3.0s", "112.3 MB/s", "5.0/90.0 MB/s", "120/300 ms", "20.3 ms", "0.50%", "1/2", "Recently ended", "completed", "212 ms", "8.4s",
                                       "03:04:14", "q quit" };
  nc_autojson json_t *frame = frame_of(2, 3, "web1");

  for (size_t w = 0; w < G_N_ELEMENTS(widths); w++) {
    NcTopLook look = { .columns = widths[w], .rows = 24, .is_screen = true, .now_us = INT64_C(1767323045000000) };
    g_autofree char *page = words_of(frame, &look);
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
      expect(page, texts[i]);
    if (widths[w] >= 120)
      expect(page, "64.0 MiB"); /* there is room for more columns */
    else
      expect_not(page, "64.0 MiB");
    nc_top_look_clear(&look);
  }
}

/* How many alerts, how bad, and what the worst says; nothing of none, and what is not known is said to be so. */
static void
test_alerts(void)
{
  nc_autojson json_t *frame = frame_of(2, 3, "web1");
  NcTopLook look = { .columns = 80, .rows = 24, .is_screen = true };

  g_autofree char *unknown = words_of(frame, &look);
  expect(unknown, "alerts not known");
  json_object_set_new(frame, "alerts", json_pack("{s:i, s:n, s:n}", "firing", 0, "worst", "summary"));
  g_autofree char *none = words_of(frame, &look);
  expect_not(none, "ALERT");
  expect_not(none, "not known");
  json_object_set_new(frame, "alerts", json_pack("{s:i, s:s, s:s}", "firing", 1, "worst", "warning", "summary", "web1: round trip of 240 ms to b"));
  g_autofree char *one = words_of(frame, &look);
  expect(one, "1 ALERT, warning  web1: round trip of 240 ms to b");
  json_object_set_new(frame, "alerts", json_pack("{s:i, s:s, s:s}", "firing", 12, "worst", "critical", "summary", "\033[2J\r\n\344\270\255\344\270\255 and much more than there is room for on a line of that screen"));
  g_autofree char *many = words_of(frame, &look);
  expect(many, "12 ALERTS, critical  ");
  json_object_set_new(frame, "problem", json_string("since 03:04:05Z: no answer"));
  g_autofree char *old = words_of(frame, &look);
  expect(old, "12 ALERTS, critical  OLD: since 03:04:05Z: no answer");
  nc_top_look_clear(&look);
}

/* In every width and height, with names that no rule let through: lines keep to their cells. */
static void
test_hostile(void)
{
  nc_autojson json_t *frame = frame_of(3, 2, HOSTILE HOSTILE HOSTILE);
  json_t *first = json_array_get(json_object_get(frame, "running"), 0);

  json_object_set_new(json_object_get(frame, "node"), "version", json_string("\033]0;owned\007"));
  json_object_set_new(frame, "problem", json_string("no answer: \033[2J"));
  json_object_set_new(first, "source", json_string("\344\270\255\344\270\255\344\270\255\344\270\255\344\270\255\344\270\255"));
  json_object_set_new(first, "destination", json_string("\033c\r\n" HOSTILE));
  json_object_set_new(first, "phase", json_string("\344\270\255\344\270\255\344\270\255\344\270\255\344\270\255\344\270\255\344\270\255\344\270\255"));
  json_object_set_new(first, "attention", json_string("decide: " HOSTILE " " HOSTILE));
  json_object_set_new(first, "eta_ms", json_real(1e300));
  json_object_set_new(first, "progress", json_real(-1e9));
  for (size_t columns = 20; columns < 260; columns += columns < 90 ? 1 : 13) {
    for (NcTopMode mode = NC_TOP_LIST; mode <= NC_TOP_HELP; mode++) {
      NcTopLook look = { .columns = columns, .rows = 4 + columns % 40, .is_screen = true, .has_colours = true, .mode = mode };
      g_autofree char *page = page_of(frame, &look);
      look.is_screen = look.has_colours = false;
      look.rows = 0;
      g_autofree char *plain = page_of(frame, &look);
      g_assert_null(strchr(plain, '\033'));
      nc_top_look_clear(&look);
    }
  }
}

static void
test_colours(void)
{
  nc_autojson json_t *frame = frame_of(2, 1, "web1");
  NcTopLook look = { .columns = 80, .rows = 24, .is_screen = true, .has_colours = true };
  g_autofree char *coloured = page_of(frame, &look);
  look.has_colours = false;
  g_autofree char *plain = page_of(frame, &look);

  expect(coloured, "\033[32mcompleted");
  expect(coloured, "\033[36mmemory");
  expect_not(plain, "\033[3");
  expect(plain, "\033[7m"); /* what is selected is inverted, which is no colour */
  nc_top_look_clear(&look);
}

/* What is not known is a dash, and what does not converge has a mark that is no colour. */
static void
test_unknown(void)
{
  nc_autojson json_t *frame = frame_of(2, 0, "web1");
  json_t *first = json_array_get(json_object_get(frame, "running"), 0), *second = json_array_get(json_object_get(frame, "running"), 1);
  NcTopLook look = { .columns = 80 };

  json_object_clear(first);
  json_object_set_new(first, "id", json_string("m-1"));
  json_object_set_new(second, "converges", json_false());
  json_object_set_new(second, "dirty_rate_bps", json_integer(120000000));
  json_object_set_new(second, "attempt", json_integer(2));
  g_autofree char *page = page_of(frame, &look);
  expect(page, "]   ?");
  expect(page, "120.0/90.0 MB/s!");
  expect(page, "memory (2)");
  expect_not(page, "q quit");
  nc_top_look_clear(&look);
  nc_autojson json_t *nothing = json_object();
  g_autofree char *empty = page_of(nothing, &look);
  expect(empty, "Running migrations  none");
  nc_top_look_clear(&look);
}

static void
press(NcTopLook *look, json_t *frame, NcTopKey key, size_t times)
{
  for (size_t i = 0; i < times; i++)
    g_assert_true(nc_top_key(look, frame, key));
}

/* 50 run, few have room: what is selected is always seen, and stays selected while others come and go. */
static void
test_select(void)
{
  nc_autojson json_t *frame = frame_of(50, 20, "web1");
  NcTopLook look = { .columns = 80, .rows = 24, .is_screen = true };
  g_autofree char *first = page_of(frame, &look);

  expect(first, "1 to 4 of 50");
  expect(first, "1 to 5 of 20");
  press(&look, frame, NC_TOP_KEY_DOWN, 30);
  g_autofree char *thirtieth = page_of(frame, &look);
  expect(thirtieth, "28 to 31 of 50");
  expect(thirtieth, "\033[7m sw670030");
  json_array_remove(json_object_get(frame, "running"), 0);
  g_autofree char *one_less = page_of(frame, &look);
  expect(one_less, "\033[7m sw670030");
  press(&look, frame, NC_TOP_KEY_END, 1);
  g_autofree char *last = page_of(frame, &look);
  expect(last, "16 to 20 of 20");
  expect(last, "\033[7m sw679019");
  press(&look, frame, NC_TOP_KEY_DOWN, 1);
  press(&look, frame, NC_TOP_KEY_HOME, 1);
  press(&look, frame, NC_TOP_KEY_UP, 1);
  g_autofree char *top = page_of(frame, &look);
  expect(top, "\033[7m sw670001");
  json_array_remove(json_object_get(frame, "running"), 0); /* what was selected is gone */
  g_autofree char *next = page_of(frame, &look);
  expect(next, "\033[7m sw670002");
  nc_top_look_clear(&look);
}

/* The order of those that run; equal ones stay as they were. */
static void
test_sort(void)
{
  nc_autojson json_t *frame = frame_of(4, 1, "web1");
  json_t *running = json_object_get(frame, "running");
  NcTopLook look = { .columns = 80, .rows = 24, .is_screen = true };
  static const char *const wanted[NC_TOP_SORTS] = { "m-0t7bd31dsw670000", "m-0t7bd31dsw670002", "m-0t7bd31dsw670001", "m-0t7bd31dsw670003", "m-0t7bd31dsw670002" };

  json_object_set_new(json_array_get(running, 0), "eta_ms", json_null());
  json_object_set_new(json_array_get(running, 2), "eta_ms", json_integer(10));
  json_object_set_new(json_array_get(running, 1), "progress", json_integer(99));
  json_object_set_new(json_array_get(running, 2), "vm", json_string("aaa"));
  for (NcTopSort sort = 0; sort < NC_TOP_SORTS; sort++) {
    size_t count;
    g_autoptr(GPtrArray) order = nc_top_order(frame, look.sort, &count);
    g_assert_cmpuint(count, ==, 4);
    g_assert_cmpstr(nc_json_string_or(order->pdata[0], "id", ""), ==, wanted[sort]);
    press(&look, frame, NC_TOP_KEY_SORT, 1);
  }
  g_assert_cmpint(look.sort, ==, NC_TOP_BY_AGE);
}

/* Details are of the one that is selected, scroll within their lines, and stay when it is not asked for any more. */
static void
test_details(void)
{
  nc_autojson json_t *frame = frame_of(2, 0, "web1");
  NcTopLook look = { .columns = 80, .rows = 10, .is_screen = true };

  g_free(page_of(frame, &look));
  press(&look, frame, NC_TOP_KEY_DOWN, 1);
  press(&look, frame, NC_TOP_KEY_ENTER, 1);
  g_autofree char *details = words_of(frame, &look);
  expect(details, "web1: host-a -> host-b");
  expect(details, "m-0t7bd31dsw670001");
  json_object_set_new(frame, "story", json_pack("{s:s, s:s, s:s}", "id", "m-0t7bd31dsw670001", "vm", "told", "phase", "verify"));
  g_autofree char *told = words_of(frame, &look);
  expect(told, "told: ");
  json_object_del(frame, "story");
  press(&look, frame, NC_TOP_KEY_END, 1);
  g_autofree char *end = words_of(frame, &look);
  expect(end, "03:04:05.700 ");
  expect(end, "0 below");
  json_array_clear(json_object_get(frame, "running"));
  press(&look, frame, NC_TOP_KEY_HOME, 1);
  g_autofree char *gone = words_of(frame, &look);
  expect(gone, "m-0t7bd31dsw670001");
  press(&look, frame, NC_TOP_KEY_BACK, 1);
  g_autofree char *list = words_of(frame, &look);
  expect(list, "Running migrations  none");
  press(&look, frame, NC_TOP_KEY_ENTER, 1); /* of nothing there are no details */
  g_assert_cmpint(look.mode, ==, NC_TOP_LIST);
  press(&look, frame, NC_TOP_KEY_HELP, 1);
  g_autofree char *help = words_of(frame, &look);
  expect(help, "Keys and columns");
  g_assert_false(nc_top_key(&look, frame, NC_TOP_KEY_QUIT));
  nc_top_look_clear(&look);
}

static void
test_keys(void)
{
  static const struct {
    const char *bytes;
    bool is_all;
    NcTopKey key;
    size_t used;
  } cases[] = {
    { "", true, NC_TOP_KEY_NONE, 0 },
    { "q", false, NC_TOP_KEY_QUIT, 1 },
    { "jk", false, NC_TOP_KEY_DOWN, 1 },
    { "\033[A", false, NC_TOP_KEY_UP, 3 },
    { "\033OB", false, NC_TOP_KEY_DOWN, 3 },
    { "\033[6~x", false, NC_TOP_KEY_PAGE_DOWN, 4 },
    { "\033", false, NC_TOP_KEY_NONE, 0 },
    { "\033", true, NC_TOP_KEY_BACK, 1 },
    { "\033[", false, NC_TOP_KEY_NONE, 0 },
    { "\033[5", false, NC_TOP_KEY_NONE, 0 },
    { "\033[5", true, NC_TOP_KEY_NONE, 3 },
    { "\033[1;5Cq", false, NC_TOP_KEY_NONE, 6 },
    { "\033q", false, NC_TOP_KEY_BACK, 1 },
    { "\r", false, NC_TOP_KEY_ENTER, 1 },
    { "\303\244", false, NC_TOP_KEY_NONE, 1 },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    size_t used = 99;
    g_assert_cmpint(nc_top_key_read(cases[i].bytes, strlen(cases[i].bytes), cases[i].is_all, &used), ==, cases[i].key);
    g_assert_cmpuint(used, ==, cases[i].used);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/cli/cells/clean", test_cells);
  g_test_add_func("/cli/cells/fit", test_cells_fit);
  g_test_add_func("/cli/top/list", test_list);
  g_test_add_func("/cli/top/alerts", test_alerts);
  g_test_add_func("/cli/top/hostile", test_hostile);
  g_test_add_func("/cli/top/colours", test_colours);
  g_test_add_func("/cli/top/unknown", test_unknown);
  g_test_add_func("/cli/top/select", test_select);
  g_test_add_func("/cli/top/sort", test_sort);
  g_test_add_func("/cli/top/details", test_details);
  g_test_add_func("/cli/top/keys", test_keys);
  return g_test_run();
}
