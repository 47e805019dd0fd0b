/* SPDX-License-Identifier: Apache-2.0 */
/* A report's model and its three forms, also of names that want to be markup. */
#include "cli/report.h"
#include "records.h"

#include <string.h>

#define HOSTILE "<script>alert(1)</script>\\\" onload='x' &amp; | `*_[a](http://x) @all \\u202e\\u0007\\u009b #1 $x$"

static const NcReportSection *
section(const NcReport *report, const char *title)
{
  for (guint i = 0; i < report->sections->len; i++)
    if (g_str_equal(((const NcReportSection *)report->sections->pdata[i])->title, title))
      return report->sections->pdata[i];
  return NULL;
}

static const char *
fact(const NcReportSection *s, const char *name)
{
  for (guint i = 0; i < s->facts->len; i++)
    if (g_str_equal(((const NcReportFact *)s->facts->pdata[i])->name, name))
      return ((const NcReportFact *)s->facts->pdata[i])->text;
  return NULL;
}

static void
test_model(void)
{
  nc_autojson json_t *record = record_with("{}");
  g_autoptr(NcReport) report = nc_report_build(record, RECORD_NOW_US);
  const NcReportSection *numbers = section(report, NC_REPORT_NUMBERS), *rounds = section(report, NC_REPORT_ROUNDS);

  g_assert_cmpstr(report->headline, ==, "Completed: web1 moved from host-a to host-b in 20.5 s, with a pause of 250 ms.");
  g_assert_cmpstr(fact(numbers, "on the wire"), ==, "190.7 MiB (200000000 B)");
  g_assert_cmpstr(fact(numbers, "ratio"), ==, "4.50 bytes of QEMU's stream per byte on the wire");
  g_assert_cmpstr(fact(numbers, "losses"), ==, "0.020 % of the segments were sent again");
  g_assert_null(fact(numbers, "expected to end in"));
  g_assert_cmpuint(rounds->plots->len, ==, 2);
  const NcReportPlot *rates = rounds->plots->pdata[0], *pause = rounds->plots->pdata[1];
  const NcReportSeries *effective = rates->series->pdata[1], *actual = pause->series->pdata[2];
  g_assert_cmpuint(effective->points->len, ==, 1); /* what was recorded, and nothing in between */
  g_assert_cmpfloat(g_array_index(effective->points, NcReportPoint, 0).x, ==, 15.5);
  g_assert_cmpfloat(g_array_index(effective->points, NcReportPoint, 0).y, ==, 60e6);
  g_assert_cmpfloat(g_array_index(actual->points, NcReportPoint, 0).y, ==, 250.5);
  g_assert_cmpuint(rates->marks->len, ==, 4);
  g_assert_null(section(report, NC_REPORT_ATTEMPTS));
  g_assert_null(section(report, NC_REPORT_BACK));
}

static void
test_model_rounds(void)
{
  nc_autojson json_t *record = record_with("{}");
  g_autoptr(NcReport) report = nc_report_build(record, RECORD_NOW_US);
  const NcReportSection *rounds = section(report, NC_REPORT_ROUNDS);
  const NcReportTable *table = rounds->tables->pdata[rounds->tables->len - 1];

  g_assert_cmpstr(table->caption, ==, "Rounds");
  g_assert_cmpuint(table->rows->len, ==, 3);
  const char *const *first = table->rows->pdata[0], *const *last = table->rows->pdata[2];
  g_assert_cmpstr(first[1], ==, "+0.50 s");
  g_assert_cmpstr(first[2], ==, "15.0 s");
  g_assert_cmpstr(last[0], ==, "3");
  g_assert_cmpstr(last[2], ==, "290 ms");
}

/* Of one that says nothing the report says nothing, and what it lacks. */
static void
test_model_empty(void)
{
  nc_autojson json_t *record = json_object();
  g_autoptr(NcReport) report = nc_report_build(record, RECORD_NOW_US);
  g_autofree char *html = nc_report_html(report);
  g_autofree char *md = nc_report_md(report);

  g_assert_null(section(report, NC_REPORT_ROUNDS));
  g_assert_cmpuint(section(report, NC_REPORT_ABSENT)->notes->len, >=, 3);
  g_assert_null(strstr(html, "nan"));
  g_assert_null(strstr(md, "nan"));
}

static void
test_under_way_and_failed(void)
{
  nc_autojson json_t *running =
      record_with("{\"outcome\":null,\"finished\":null,\"total_ms\":null,\"pause_ms\":null,\"phase\":\"memory_copy\",\"progress\":43}");
  nc_autojson json_t *failed = record_with(
      "{\"outcome\":\"failed\",\"error\":{\"code\":\"unreachable\",\"message\":\"no way\"},"
      "\"attempts\":[{\"attempt\":1,\"ended\":\"2026-01-02T03:04:10.000Z\",\"error\":{\"code\":\"qemu\",\"message\":\"it died\"}}],"
      "\"rollbacks\":[{\"id\":\"r-1\",\"mode\":\"source\",\"state\":\"completed\",\"steps\":[{\"step\":1,\"name\":\"stop-transfer\","
      "\"state\":\"done\",\"tries\":1,\"detail\":\"seen\"}]}]}");
  g_autoptr(NcReport) a = nc_report_build(running, RECORD_NOW_US);
  g_autoptr(NcReport) b = nc_report_build(failed, RECORD_NOW_US);
  g_autofree char *html = nc_report_html(b);

  g_assert_true(
      g_str_has_prefix(a->headline, "Under way: web1 is to move from host-a to host-b; phase memory_copy, 43 % done after 1 min 00 s."));
  g_assert_true(g_str_has_prefix(b->headline, "Failed: web1 did not move"));
  const NcReportTable *attempts = section(b, NC_REPORT_ATTEMPTS)->tables->pdata[0], *steps = section(b, NC_REPORT_BACK)->tables->pdata[0];
  g_assert_cmpstr(((char **)attempts->rows->pdata[0])[3], ==, "it died");
  g_assert_cmpstr(((char **)steps->rows->pdata[0])[1], ==, "stop-transfer");
  g_assert_nonnull(strstr(html, "it died"));
  g_assert_nonnull(strstr(html, "unreachable: no way"));
}

static json_t *
hostile_record(void)
{
  return record_with(
      "{\"id\":\"" HOSTILE "\",\"vm\":\"" HOSTILE "\",\"source\":\"" HOSTILE "\",\"qos\":\"" HOSTILE "\",\"coded_batches\":{\"" HOSTILE
      "\":3},"
      "\"error\":{\"code\":\"" HOSTILE "\",\"message\":\"" HOSTILE "\"},\"disks\":[{\"name\":\"" HOSTILE "\",\"write_limit_bps\":5}],"
      "\"attempts\":[{\"attempt\":1,\"ended\":\"" HOSTILE "\",\"error\":{\"code\":\"" HOSTILE "\",\"message\":\"" HOSTILE "\"}}],"
      "\"rollbacks\":[{\"id\":\"" HOSTILE "\",\"steps\":[{\"name\":\"" HOSTILE "\",\"detail\":\"" HOSTILE "\"}]}],"
      "\"forecasts\":[{\"at_ms\":1,\"converges\":true,\"pause_ms\":4,\"decision\":\"" HOSTILE "\"}],"
      "\"events\":[{\"at\":\"2026-01-02T03:04:06.200Z\",\"event\":\"round\",\"detail\":\"1\"},{\"at\":\"" HOSTILE "\",\"event\":\"" HOSTILE
      "\",\"detail\":\"" HOSTILE "\"}]}");
}

static unsigned
count(const char *text, const char *word)
{
  unsigned n = 0;
  for (const char *found = strstr(text, word); found; found = strstr(found + 1, word))
    n++;
  return n;
}

static void
test_hostile_html(void)
{
  nc_autojson json_t *record = hostile_record();
  g_autoptr(NcReport) report = nc_report_build(record, RECORD_NOW_US);
  g_autofree char *html = nc_report_html(report);

  g_assert_cmpuint(count(html, "&lt;script&gt;alert(1)&lt;/script&gt;&quot; onload=&apos;x&apos; &amp;amp;") +
                       count(html, "&#39;x&#39; &amp;amp;"),
                   >, 8);
  g_assert_null(strstr(html, "<script"));
  g_assert_null(strstr(html, "' &amp;"));
  g_assert_null(strstr(html, "\" onload"));
  for (const char *c = html; *c; c = g_utf8_next_char(c)) {
    gunichar u = g_utf8_get_char(c);
    g_assert_true(u == '\n' || (u >= 0x20 && (u < 0x7f || u > 0x9f) && u != 0x202e));
  }
}

static void
test_hostile_md(void)
{
  nc_autojson json_t *record = hostile_record();
  g_autoptr(NcReport) report = nc_report_build(record, RECORD_NOW_US);
  g_autofree char *md = nc_report_md(report);

  g_assert_cmpuint(count(md, "\\<script\\>alert(1)\\</script\\>"), >, 5);
  g_assert_cmpuint(count(md, "<"), ==, count(md, "\\<"));
  g_assert_cmpuint(count(md, "`"), ==, count(md, "\\`"));
  g_assert_cmpuint(count(md, "["), ==, count(md, "\\["));
  g_assert_null(strchr(md, '@'));
  /* Each row of a table has as many cells as its head, whatever is in them. */
  g_auto(GStrv) lines = g_strsplit(md, "\n", -1);
  for (unsigned i = 0, bars = 0; lines[i]; i++) {
    unsigned here = count(lines[i], "|") - count(lines[i], "\\|");
    bars = lines[i][0] != '|' ? 0 : bars ? bars : here;
    g_assert_true(bars == 0 || bars == here);
  }
}

static void
test_json(void)
{
  nc_autojson json_t *record = record_with("{}");
  nc_autojson json_t *object = nc_report_json(record, RECORD_NOW_US);

  g_assert_true(json_equal(json_object_get(object, "record"), record));
  g_assert_cmpfloat(json_number_value(json_object_get(json_object_get(object, "derived"), "average_wire_rate_bps")), ==, 10e6);
  g_assert_true(json_is_null(json_object_get(json_object_get(object, "derived"), "limit_bps")));
  g_assert_cmpuint(json_array_size(json_object_get(object, "findings")), >, 2);
}

/* Numbers stay numbers, and points stay in the picture, whatever the values. */
static void
test_plot_extremes(void)
{
  nc_autojson json_t *record =
      record_with("{\"total_ms\":0,\"max_downtime_ms\":1e300,\"forecasts\":[{\"at_ms\":-1e300,\"converges\":true,\"pause_ms\":1.7e308,"
                  "\"pause_error_ms\":1.7e308,\"dirty_rate_bps\":1e300,\"effective_rate_bps\":0}]}");
  json_object_set_new(record, "total_ms", json_integer(20500));
  g_autoptr(NcReport) report = nc_report_build(record, RECORD_NOW_US);
  g_autofree char *html = nc_report_html(report);

  g_assert_null(strstr(html, "=\"nan"));
  g_assert_null(strstr(html, "=\"-nan"));
  g_assert_null(strstr(html, "=\"inf"));
  g_assert_null(strstr(html, "=\"-inf"));
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/report/model", test_model);
  g_test_add_func("/report/rounds", test_model_rounds);
  g_test_add_func("/report/empty", test_model_empty);
  g_test_add_func("/report/under-way-and-failed", test_under_way_and_failed);
  g_test_add_func("/report/hostile-html", test_hostile_html);
  g_test_add_func("/report/hostile-md", test_hostile_md);
  g_test_add_func("/report/json", test_json);
  g_test_add_func("/report/plot-extremes", test_plot_extremes);
  return g_test_run();
}
