/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_columns.h"
#include "cli/cells.h"
#include "cli/units.h"

#include <inttypes.h>
#include <string.h>

#define NC_TOP_ID_TAIL 8  /* of an id: what differs */
#define NC_TOP_CELL_MIN 4 /* what a column keeps on a narrow page */

typedef struct {
  const char *title;
  size_t width;     /* of a page with NC_TOP_COLUMNS */
  unsigned grow;    /* its share of further ones, and of those that are missing */
  size_t only_from; /* only where the line is so wide */
  bool right;
  char *(*text)(json_t *m, size_t width);
  NcTopStyle (*style)(json_t *m); /* NULL: plain */
} NcTopColumn;

/* --- pieces --- */

static char *
nc_top_unknown(void)
{
  return g_strdup("-");
}

/* A number that is known; 0 is not, of what is never 0. */
static bool
nc_top_number(json_t *m, const char *key, double *ret)
{
  json_t *value = json_object_get(m, key);
  *ret = json_number_value(value);
  return json_is_number(value) && *ret > 0;
}

char *
nc_top_duration(double ms)
{
  int64_t s = (int64_t)(CLAMP(ms, 0, 1e14) / 1000 + 0.5);

  if (ms < 9950)
    return g_strdup_printf("%.1fs", MAX(ms, 0) / 1000);
  if (s < 60)
    return g_strdup_printf("%" PRId64 "s", s);
  if (s < 3600)
    return g_strdup_printf("%" PRId64 "m%02ds", s / 60, (int)(s % 60));
  if (s < 86400)
    return g_strdup_printf("%" PRId64 "h%02dm", s / 3600, (int)(s % 3600 / 60));
  return g_strdup_printf("%" PRId64 "d%02dh", s / 86400, (int)(s % 86400 / 3600));
}

char *
nc_top_phase(json_t *m)
{
  static const struct {
    const char *phase, *word;
  } words[] = { { "checkpoint", "saving" }, { "disk_copy", "disks" },   { "memory_copy", "memory" },
                { "switchover", "switch" }, { "postcopy", "fetching" }, { "needs_attention", "ATTENTION" } };
  const char *phase = nc_json_string_or(m, "phase", "?");
  int64_t attempt = nc_json_int_or(m, "attempt", 1);

  for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
    if (g_str_equal(words[i].phase, phase))
      phase = words[i].word;
  return attempt > 1 ? g_strdup_printf("%s (%" PRId64 ")", phase, attempt) : g_strdup(phase);
}

char *
nc_top_bar(json_t *m, size_t width)
{
  json_t *progress = json_object_get(m, "progress");
  size_t inner = width > 9 ? width - 7 : 2; /* "[" ... "] 100%" */
  GString *bar = g_string_new("[");

  if (!json_is_number(progress)) { /* the source knows */
    g_string_append_printf(bar, "%*s", (int)inner, "");
    g_string_append(bar, "]   ?");
    return g_string_free(bar, FALSE);
  }
  double percent = CLAMP(json_number_value(progress), 0, 100);
  size_t full = (size_t)(percent / 100 * (double)inner);
  for (size_t i = 0; i < inner; i++)
    g_string_append_c(bar, i < full ? '#' : '.');
  g_string_append_printf(bar, "] %3d%%", (int)percent); /* 100 only at the end */
  return g_string_free(bar, FALSE);
}

char *
nc_top_eta(json_t *m)
{
  double eta, band;

  if (!nc_top_number(m, "eta_ms", &eta))
    return nc_top_unknown();
  g_autofree char *text = nc_top_duration(eta);
  if (!nc_top_number(m, "eta_error_ms", &band))
    return g_steal_pointer(&text);
  g_autofree char *error = nc_top_duration(band);
  return g_strdup_printf("%s+-%s", text, error);
}

char *
nc_top_pause(json_t *m)
{
  double pause, limit = json_number_value(json_object_get(m, "max_downtime_ms"));

  if (!nc_top_number(m, "pause_ms", &pause) && !nc_top_number(m, "forecast_pause_ms", &pause) &&
      !nc_top_number(m, "expected_downtime_ms", &pause))
    return limit > 0 ? g_strdup_printf("-/%.0f ms", limit) : nc_top_unknown();
  return limit > 0 ? g_strdup_printf("%.0f/%.0f ms", pause, limit) : g_strdup_printf("%.0f ms", pause);
}

bool
nc_top_converges(json_t *m)
{
  json_t *converges = json_object_get(m, "converges");
  double dirty, effective;

  if (json_is_boolean(converges) || nc_json_bool_or(m, "postcopy", false))
    return !json_is_false(converges);
  return !nc_top_number(m, "effective_rate_bps", &effective) || !nc_top_number(m, "dirty_rate_bps", &dirty) || dirty < effective;
}

char *
nc_top_dirty(json_t *m)
{
  double effective, dirty = json_number_value(json_object_get(m, "dirty_rate_bps"));

  if (!nc_top_number(m, "effective_rate_bps", &effective))
    return nc_top_unknown();
  g_autofree char *larger = nc_format_rate(MAX(dirty, effective)); /* whose unit both have */
  const char *unit = strchr(larger, ' ');
  double step = g_str_equal(unit, " GB/s") ? 1e9 : g_str_equal(unit, " MB/s") ? 1e6 : g_str_equal(unit, " kB/s") ? 1e3 : 1;
  return g_strdup_printf("%.1f/%.1f%s%s", dirty / step, effective / step, unit, nc_top_converges(m) ? "" : "!");
}

char *
nc_top_rtt(json_t *m)
{
  double us;
  return nc_top_number(m, "rtt_us", &us) || nc_top_number(m, "link_rtt_us", &us) ? g_strdup_printf("%.1f ms", us / 1000) : nc_top_unknown();
}

char *
nc_top_loss(json_t *m)
{
  double segments = 0, again = 0;
  size_t i;
  json_t *connection;

  json_array_foreach(json_object_get(m, "connections"), i, connection)
  {
    segments += json_number_value(json_object_get(connection, "segments"));
    again += json_number_value(json_object_get(connection, "retransmitted_segments"));
  }
  return segments > 0 ? g_strdup_printf("%.2f%%", again / segments * 100) : nc_top_unknown();
}

char *
nc_top_connections(json_t *m)
{
  size_t up = 0, i, count = json_array_size(json_object_get(m, "connections"));
  json_t *connection;

  if (count == 0)
    return nc_top_unknown();
  json_array_foreach(json_object_get(m, "connections"), i, connection) up += nc_json_bool_or(connection, "up", false);
  return up == count ? g_strdup_printf("%zu", up) : g_strdup_printf("%zu/%zu", up, count);
}

/* --- columns --- */

static char *
nc_top_text_id(json_t *m, size_t width)
{
  const char *id = nc_json_string_or(m, "id", "?");
  size_t length = strlen(id);
  return g_strdup(length > width && g_utf8_validate(id, -1, NULL) && g_str_is_ascii(id) ? id + length - MIN(width, NC_TOP_ID_TAIL) : id);
}

static char *
nc_top_text_machine(json_t *m, size_t width)
{
  return g_strdup(nc_json_string_or(m, "vm", "?"));
}

/* Where one of the names has to be cut, both keep what they can. */
static char *
nc_top_text_way(json_t *m, size_t width)
{
  g_autofree char *from = nc_cells_clean(nc_json_string_or(m, "source", "?")), *to = nc_cells_clean(nc_json_string_or(m, "destination", "?"));
  size_t room = width > 2 ? width - 2 : 0, half = room / 2, a = nc_cells_width(from), b = nc_cells_width(to);

  if (a + b > room) {
    size_t keep_a = a <= half ? a : b <= half ? room - b : half;
    g_autofree char *cut_from = nc_cells_fit(from, keep_a, FALSE), *cut_to = nc_cells_fit(to, MIN(b, room - keep_a), FALSE);
    return g_strdup_printf("%s->%s", cut_from, cut_to);
  }
  return g_strdup_printf("%s->%s", from, to);
}

static char *
nc_top_text_phase(json_t *m, size_t width)
{
  return nc_top_phase(m);
}

static char *
nc_top_text_eta(json_t *m, size_t width)
{
  return nc_top_eta(m);
}

static char *
nc_top_text_rate(json_t *m, size_t width)
{
  double rate;
  return nc_top_number(m, "wire_rate_bps", &rate) ? nc_format_rate(rate) : nc_top_unknown();
}

static char *
nc_top_text_ratio(json_t *m, size_t width)
{
  double ratio;
  return nc_top_number(m, "ratio", &ratio) ? g_strdup_printf("%.1f", ratio) : nc_top_unknown();
}

static char *
nc_top_text_dirty(json_t *m, size_t width)
{
  return nc_top_dirty(m);
}

static char *
nc_top_text_pause(json_t *m, size_t width)
{
  return nc_top_pause(m);
}

static char *
nc_top_text_rtt(json_t *m, size_t width)
{
  return nc_top_rtt(m);
}

static char *
nc_top_text_loss(json_t *m, size_t width)
{
  return nc_top_loss(m);
}

static char *
nc_top_text_connections(json_t *m, size_t width)
{
  return nc_top_connections(m);
}

static char *
nc_top_text_outcome(json_t *m, size_t width)
{
  return g_strdup(nc_json_string_or(m, "outcome", "?"));
}

static char *
nc_top_text_pause_was(json_t *m, size_t width)
{
  double pause;
  return nc_top_number(m, "pause_ms", &pause) ? nc_format_ms(pause) : nc_top_unknown();
}

static char *
nc_top_text_total(json_t *m, size_t width)
{
  double total;
  return nc_top_number(m, "total_ms", &total) ? nc_top_duration(total) : nc_top_unknown();
}

static char *
nc_top_text_wire(json_t *m, size_t width)
{
  double bytes;
  return nc_top_number(m, "wire_bytes", &bytes) ? nc_format_bytes((int64_t)bytes) : nc_top_unknown();
}

/* Of "2026-01-02T03:04:05.678Z" the clock. */
static char *
nc_top_text_finished(json_t *m, size_t width)
{
  const char *at = nc_json_string_or(m, "finished", "");
  return strlen(at) >= 19 && g_str_is_ascii(at) ? g_strndup(at + 11, 8) : nc_top_unknown();
}

static NcTopStyle
nc_top_style_phase(json_t *m)
{
  return g_str_equal(nc_json_string_or(m, "phase", ""), "needs_attention") ? NC_TOP_BAD : NC_TOP_BUSY;
}

static NcTopStyle
nc_top_style_dirty(json_t *m)
{
  return nc_top_converges(m) ? NC_TOP_PLAIN : NC_TOP_BAD;
}

static NcTopStyle
nc_top_style_outcome(json_t *m)
{
  const char *outcome = nc_json_string_or(m, "outcome", "");
  return g_str_equal(outcome, "completed") ? NC_TOP_GOOD : g_str_equal(outcome, "failed") ? NC_TOP_BAD : NC_TOP_PLAIN;
}

#define NC_TOP_NAMES { "ID", 8, 1, 0, false, nc_top_text_id, NULL }, { "MACHINE", 12, 3, 0, false, nc_top_text_machine, NULL }, { "FROM->TO", 16, 4, 0, false, nc_top_text_way, NULL }

static const NcTopColumn nc_top_place[] = {
  NC_TOP_NAMES,
  { "PHASE", 13, 0, 0, false, nc_top_text_phase, nc_top_style_phase },
  { "DONE", 14, 4, 0, false, nc_top_bar, NULL },
  { "ETA", 11, 0, 0, true, nc_top_text_eta, NULL },
};

static const NcTopColumn nc_top_figures[] = {
  { "", 6, 2, 0, false, NULL, NULL },
  { "WIRE", 10, 1, 0, true, nc_top_text_rate, NULL },
  { "RATIO", 6, 1, 0, true, nc_top_text_ratio, NULL },
  { "DIRTIED/SENT", 18, 1, 0, true, nc_top_text_dirty, nc_top_style_dirty },
  { "PAUSE/LIMIT", 12, 1, 0, true, nc_top_text_pause, NULL },
  { "RTT", 8, 1, 0, true, nc_top_text_rtt, NULL },
  { "LOSS", 6, 1, 0, true, nc_top_text_loss, NULL },
  { "LINKS", 6, 1, 0, true, nc_top_text_connections, NULL },
};

static const NcTopColumn nc_top_ended[] = {
  NC_TOP_NAMES,
  { "OUTCOME", 9, 1, 0, false, nc_top_text_outcome, nc_top_style_outcome },
  { "PAUSE", 9, 0, 0, true, nc_top_text_pause_was, NULL },
  { "TIME", 8, 0, 0, true, nc_top_text_total, NULL },
  { "WIRE", 10, 0, 92, true, nc_top_text_wire, NULL },
  { "ENDED", 9, 0, 0, true, nc_top_text_finished, NULL },
};

static const struct {
  const NcTopColumn *columns;
  size_t count;
} nc_top_lines_of[] = {
  [NC_TOP_PLACE] = { nc_top_place, G_N_ELEMENTS(nc_top_place) },
  [NC_TOP_FIGURES] = { nc_top_figures, G_N_ELEMENTS(nc_top_figures) },
  [NC_TOP_ENDED] = { nc_top_ended, G_N_ELEMENTS(nc_top_ended) },
};

/* Shares ${width} out; 0 is a column that is not there. */
static void
nc_top_share(const NcTopColumn *columns, size_t count, size_t width, size_t *widths)
{
  size_t taken = 0;
  unsigned shares = 0;

  for (size_t i = 0; i < count; i++) {
    widths[i] = width >= columns[i].only_from ? columns[i].width : 0;
    taken += widths[i] > 0 ? widths[i] + 1 : 0; /* with the blank before it */
    shares += columns[i].grow;
  }
  gssize more = (gssize)width - (gssize)taken;
  for (size_t i = 0; i < count && shares > 0; i++) {
    gssize share = more * (gssize)columns[i].grow / (gssize)shares;
    gssize new = (gssize)widths[i] + share;
    widths[i] = widths[i] == 0 ? 0 : (size_t)MAX(new, NC_TOP_CELL_MIN);
  }
}

static void
nc_top_put_line(NcTopPage *page, NcTopLine line, size_t width, json_t *migration)
{
  const NcTopColumn *columns = nc_top_lines_of[line].columns;
  size_t count = nc_top_lines_of[line].count, at = page->used;
  g_autofree size_t *widths = g_new0(size_t, count);

  nc_top_share(columns, count, width, widths);
  for (size_t i = 0; i < count; i++) {
    if (widths[i] == 0)
      continue;
    const NcTopColumn *c = &columns[i];
    g_autofree char *raw = migration ? (c->text ? c->text(migration, widths[i]) : g_strdup("")) : g_strdup(c->title);
    g_autofree char *clean = nc_cells_clean(raw), *text = nc_cells_fit(clean, widths[i], c->right);
    nc_top_put_blanks(page, at + 1);
    nc_top_put(page, !migration ? NC_TOP_BOLD : c->style ? c->style(migration) : NC_TOP_PLAIN, text);
    at += 1 + widths[i];
  }
}

void
nc_top_put_titles(NcTopPage *page, NcTopLine line, size_t width)
{
  nc_top_put_line(page, line, width, NULL);
}

void
nc_top_put_columns(NcTopPage *page, NcTopLine line, size_t width, json_t *migration)
{
  nc_top_put_line(page, line, width, migration);
}
