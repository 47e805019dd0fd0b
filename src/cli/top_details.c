/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_details.h"
#include "cli/top_columns.h"
#include "cli/units.h"

#include <string.h>

#define NC_TOP_FACT_INDENT 18

static void
nc_top_put_fact(NcTopPage *page, const char *name, NcTopStyle style, const char *text)
{
  if (!text || !text[0] || g_str_equal(text, "-"))
    return;
  nc_top_putf(page, NC_TOP_PLAIN, "  %s ", name);
  nc_top_put_paragraph(page, style, NC_TOP_FACT_INDENT, text);
}

static void
nc_top_put_bytes(NcTopPage *page, const char *name, json_t *m, const char *key)
{
  int64_t bytes = nc_json_int_or(m, key, 0);
  g_autofree char *text = bytes > 0 ? nc_format_bytes(bytes) : NULL;
  nc_top_put_fact(page, name, NC_TOP_PLAIN, text);
}

static void
nc_top_put_number(NcTopPage *page, const char *name, json_t *m, const char *key, const char *unit)
{
  double value = nc_json_number_or(m, key, 0);
  g_autofree char *text = value > 0 ? g_strdup_printf("%.10g%s", value, unit) : NULL;
  nc_top_put_fact(page, name, NC_TOP_PLAIN, text);
}

static void
nc_top_put_owned(NcTopPage *page, const char *name, NcTopStyle style, char *text)
{
  nc_top_put_fact(page, name, style, text);
  g_free(text);
}

static void
nc_top_put_memory(NcTopPage *page, json_t *m)
{
  int64_t total = nc_json_int_or(m, "ram_total_bytes", 0);
  g_autofree char *sent = nc_format_bytes(nc_json_int_or(m, "ram_bytes", 0)), *has = nc_format_bytes(total);
  g_autofree char *left = nc_format_bytes(nc_json_int_or(m, "ram_remaining_bytes", 0));
  g_autofree char *text = total > 0 ? g_strdup_printf("%s sent of %s, %s of this round left", sent, has, left) : NULL;

  nc_top_put_fact(page, "memory", NC_TOP_PLAIN, text);
}

static void
nc_top_put_trouble(NcTopPage *page, json_t *m)
{
  json_t *error = json_object_get(m, "error");

  nc_top_put_fact(page, "ATTENTION", NC_TOP_BAD, nc_json_string_or(m, "attention", NULL));
  if (json_is_object(error))
    nc_top_put_fact(page, "error", NC_TOP_BAD, nc_json_string_or(error, "message", "?"));
  nc_top_put_fact(page, "no connection", NC_TOP_BAD, nc_json_string_or(m, "path", NULL));
}

static void
nc_top_put_figures(NcTopPage *page, json_t *m)
{
  double rate = nc_json_number_or(m, "wire_rate_bps", 0), total = nc_json_number_or(m, "total_ms", 0), ratio = nc_json_number_or(m, "ratio", 0);
  bool runs = !nc_json_string_or(m, "outcome", NULL);

  nc_top_put_owned(page, "ends in", NC_TOP_PLAIN, runs ? nc_top_eta(m) : NULL);
  nc_top_put_owned(page, runs ? "takes so far" : "took", NC_TOP_PLAIN, total > 0 ? nc_top_duration(total) : NULL);
  nc_top_put_owned(page, "pause/limit", NC_TOP_PLAIN, nc_top_pause(m));
  nc_top_put_owned(page, "wire, now", NC_TOP_PLAIN, runs && rate > 0 ? nc_format_rate(rate) : NULL);
  nc_top_put_bytes(page, "on the wire", m, "wire_bytes");
  nc_top_put_owned(page, "ratio", NC_TOP_PLAIN, ratio > 0 ? g_strdup_printf("%.1f : 1", ratio) : NULL);
  nc_top_put_memory(page, m);
  nc_top_put_owned(page, "dirtied/sent", nc_top_converges(m) ? NC_TOP_PLAIN : NC_TOP_BAD, runs ? nc_top_dirty(m) : NULL);
  nc_top_put_number(page, "round", m, "rounds", "");
  nc_top_put_number(page, "attempt", m, "attempt", "");
  nc_top_put_number(page, "guest slowed by", m, "throttle", " %");
  nc_top_put_fact(page, "coding", NC_TOP_PLAIN, nc_json_string_or(m, "coding", NULL));
  nc_top_put_owned(page, "round trip", NC_TOP_PLAIN, nc_top_rtt(m));
  nc_top_put_owned(page, "sent again", NC_TOP_PLAIN, nc_top_loss(m));
  nc_top_put_owned(page, "connections", NC_TOP_PLAIN, runs ? nc_top_connections(m) : NULL);
  nc_top_put_fact(page, "created", NC_TOP_PLAIN, nc_json_string_or(m, "created", NULL));
  nc_top_put_fact(page, "finished", NC_TOP_PLAIN, nc_json_string_or(m, "finished", NULL));
}

static void
nc_top_put_history(NcTopPage *page, json_t *events)
{
  for (size_t i = json_array_size(events); i-- > 0;) {
    json_t *event = json_array_get(events, i);
    const char *at = nc_json_string_or(event, "at", ""), *detail = nc_json_string_or(event, "detail", "");
    g_autofree char *clock = g_utf8_validate(at, -1, NULL) && g_str_is_ascii(at) && strlen(at) >= 23 ? g_strndup(at + 11, 12) : g_strdup("?");
    g_autofree char *text = g_strdup_printf("%s%s%s", nc_json_string_or(event, "event", "?"), detail[0] ? ": " : "", detail);
    nc_top_put_fact(page, clock, NC_TOP_PLAIN, text);
  }
}

void
nc_top_put_details(NcTopPage *page, json_t *m)
{
  g_autofree char *phase = nc_top_phase(m), *bar = nc_top_bar(m, MIN(page->columns - MIN(page->columns, 22), 80));

  nc_top_putf(page, NC_TOP_BOLD, "%s: %s -> %s", nc_json_string_or(m, "vm", "?"), nc_json_string_or(m, "source", "?"),
              nc_json_string_or(m, "destination", "?"));
  nc_top_putf(page, NC_TOP_PLAIN, "  %s", nc_json_string_or(m, "id", "?"));
  nc_top_end_line(page);
  nc_top_putf(page, NC_TOP_BUSY, "  %s", phase);
  nc_top_put_blanks(page, NC_TOP_FACT_INDENT);
  nc_top_put(page, NC_TOP_PLAIN, bar);
  nc_top_end_line(page);
  nc_top_end_line(page);
  nc_top_put_trouble(page, m);
  nc_top_put_figures(page, m);
  nc_top_end_line(page);
  nc_top_put(page, NC_TOP_BOLD, "History, newest first");
  nc_top_end_line(page);
  nc_top_put_history(page, json_object_get(m, "events"));
}
