/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers to model: what it was, how it ended, what was found, what it cost. What happened over time: report_course.c. */
#include "base/ident.h"
#include "cli/diagnosis.h"
#include "cli/report_parts.h"
#include "cli/units.h"

#include <math.h>

char *
nc_cell_bytes(double bytes)
{
  g_autofree char *text = isfinite(bytes) ? nc_format_bytes((int64_t)fmin(bytes, 9e18)) : NULL;
  return !text ? g_strdup("-") : bytes < 1024 ? g_steal_pointer(&text) : g_strdup_printf("%s (%.0f B)", text, bytes);
}

char *
nc_cell_rate(double bps)
{
  return isfinite(bps) ? nc_format_rate(bps) : g_strdup("-");
}

char *
nc_cell_ms(double ms)
{
  if (!isfinite(ms))
    return g_strdup("-");
  return fabs(ms) < 100 ? g_strdup_printf("%.1f ms", ms) : nc_format_ms(ms);
}

char *
nc_cell_count(double n)
{
  return isfinite(n) ? g_strdup_printf("%.0f", n) : g_strdup("-");
}

char *
nc_cell_after(double ms)
{
  return isfinite(ms) ? g_strdup_printf("%+.2f s", ms / 1000) : g_strdup("-");
}

/* A fact of a cell (taken), unless it is not known. */
static void
nc_fact_cell(NcReportSection *s, const char *name, char *cell)
{
  g_autofree char *owned = cell;
  if (!g_str_equal(owned, "-"))
    nc_report_fact(s, name, "%s", owned);
}

static void
nc_fact_text(NcReportSection *s, const char *name, json_t *record, const char *key)
{
  const char *text = nc_json_string_or(record, key, "");
  if (text[0])
    nc_report_fact(s, name, "%s", text);
}

/* --- how it went --- */

static char *
nc_build_headline(json_t *record, const NcFigures *f)
{
  const char *outcome = nc_json_string_or(record, "outcome", NULL), *vm = nc_json_string_or(record, "vm", "?");
  const char *from = nc_json_string_or(record, "source", "?"), *to = nc_json_string_or(record, "destination", "?");
  g_autofree char *took = isnan(f->elapsed_ms) ? g_strdup("an unknown time") : nc_cell_ms(f->elapsed_ms);
  g_autofree char *pause = nc_cell_ms(nc_figure(record, "pause_ms"));

  if (!outcome)
    return g_strdup_printf("Under way: %s is to move from %s to %s; phase %s, %.0f %% done after %s. What follows is as of now.", vm, from,
                           to, nc_json_string_or(record, "phase", "?"), nc_json_number_or(record, "progress", 0), took);
  if (g_str_equal(outcome, "completed") && !f->is_source)
    return g_strdup_printf("Completed: %s arrived on %s from %s, as the destination has it.", vm, to, from);
  if (g_str_equal(outcome, "completed"))
    return g_strdup_printf("Completed: %s moved from %s to %s in %s, with a pause of %s.", vm, from, to, took, pause);
  if (strstr(nc_json_string_or(json_object_get(record, "error"), "message", ""), " was lost")) /* in post-copy, as both nodes say it */
    return g_strdup_printf("Lost: neither %s nor %s has all of %s any more; it ended after %s. The error says what to do.", from, to, vm, took);
  return g_strdup_printf("%s: %s did not move from %s to %s; it ended after %s.", g_str_equal(outcome, "failed") ? "Failed" : "Cancelled",
                         vm, from, to, took);
}

static void
nc_build_identity(NcReport *r, json_t *record)
{
  NcReportSection *s = nc_report_add_section(r, "Migration");
  json_t *error = json_object_get(record, "error");
  static const char *const names[][2] = {
    { "machine", "vm" },     { "from", "source" },         { "to", "destination" },     { "record of the", "role" },
    { "phase", "phase" },    { "outcome", "outcome" },     { "asked for", "created" },  { "begun", "started" },
    { "ended", "finished" }, { "attention", "attention" }, { "no connection", "path" }, { "checkpoint", "checkpoint" },
  };

  nc_fact_text(s, "ID", record, "id");
  for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
    nc_fact_text(s, names[i][0], record, names[i][1]);
  if (json_is_object(error))
    nc_report_fact(s, "error", "%s: %s", nc_json_string_or(error, "code", "?"), nc_json_string_or(error, "message", "?"));
}

static const NcReportColumn nc_finding_columns[] = {
  { "What", false }, { "Verdict", false }, { "Seen", false }, { "Likely cause", false }, { "What to do", false }
};

static void
nc_build_findings(NcReport *r, json_t *record, const NcFigures *f)
{
  NcReportSection *s = nc_report_add_section(r, NC_REPORT_FINDINGS);
  NcReportTable *table = nc_report_table(s, "Findings", nc_finding_columns, G_N_ELEMENTS(nc_finding_columns));
  nc_autojson json_t *findings = nc_diagnose(record, f);
  json_t *finding;
  size_t i;

  json_array_foreach(findings, i, finding)
  {
    const char *cells[] = { nc_json_string_or(finding, "check", ""), nc_json_string_or(finding, "verdict", ""),
                            nc_json_string_or(finding, "value", ""), nc_json_string_or(finding, "cause", ""),
                            nc_json_string_or(finding, "remedy", "") };
    nc_report_row(table, cells);
  }
}

/* --- what it cost --- */

static void
nc_build_times(NcReportSection *s, json_t *record, const NcFigures *f)
{
  nc_fact_cell(s, f->has_ended ? "total time" : "time so far", nc_cell_ms(f->elapsed_ms));
  nc_fact_cell(s, "memory flowed for", nc_cell_ms(f->memory_ms));
  nc_fact_cell(s, "pause", nc_cell_ms(nc_figure(record, "pause_ms")));
  nc_fact_cell(s, "pause allowed", nc_cell_ms(nc_figure(record, "max_downtime_ms")));
  nc_fact_cell(s, "pause forecast last", nc_cell_ms(f->promised_pause_ms));
  nc_fact_cell(s, "pause, QEMU's own figure", nc_cell_ms(nc_figure(record, "qemu_downtime_ms")));
  nc_fact_cell(s, "pause for disks", nc_cell_ms(nc_figure(record, "disk_pause_ms")));
  if (!f->has_ended)
    nc_fact_cell(s, "expected to end in", nc_cell_ms(nc_figure(record, "eta_ms")));
  nc_fact_cell(s, "rounds", nc_cell_count(nc_figure(record, "rounds")));
}

static void
nc_build_bytes(NcReportSection *s, json_t *record, const NcFigures *f)
{
  double ratio = nc_figure(record, "ratio"), processors = f->mover_cpu;

  nc_fact_cell(s, "memory of the machine", nc_cell_bytes(nc_figure(record, "ram_total_bytes")));
  nc_fact_cell(s, "memory copied", nc_cell_bytes(nc_figure(record, "ram_bytes")));
  nc_fact_cell(s, "QEMU's stream", nc_cell_bytes(nc_figure(record, "stream_bytes")));
  nc_fact_cell(s, "on the wire", nc_cell_bytes(nc_figure(record, "wire_bytes")));
  if (isfinite(ratio))
    nc_report_fact(s, "ratio", "%.2f bytes of QEMU's stream per byte on the wire", ratio);
  if (isfinite(f->memory_ratio))
    nc_report_fact(s, "ratio of memory", "%.2f bytes of memory copied per byte on the wire", f->memory_ratio);
  nc_fact_cell(s, "average on the wire", nc_cell_rate(f->wire_bps));
  nc_fact_cell(s, "average of memory", nc_cell_rate(f->memory_bps));
  nc_fact_cell(s, "dirty rate", nc_cell_rate(f->dirty_bps));
  nc_fact_cell(s, "effective rate", nc_cell_rate(f->effective_bps));
  if (isfinite(f->link_wait) && isfinite(f->encoder_wait))
    nc_report_fact(s, "waited", "%.1f %% of the time for the link, %.1f %% for coding", 100 * f->link_wait, 100 * f->encoder_wait);
  if (isfinite(processors))
    nc_report_fact(s, "the source's mover", "%.2f processors on average", processors);
  nc_fact_cell(s, "its memory", nc_cell_bytes(nc_figure(record, "mover_rss_bytes")));
  if (json_is_string(json_object_get(record, "sha256")))
    nc_report_fact(s, "SHA-256", "%s (%s)", nc_json_string_or(record, "sha256", ""),
                   json_is_true(json_object_get(record, "sha256_equal"))    ? "both ends computed the same"
                   : json_is_false(json_object_get(record, "sha256_equal")) ? "THE OTHER END COMPUTED ANOTHER ONE"
                                                                            : "not compared");
}

static void
nc_build_amounts(NcReportSection *s, json_t *record)
{
  double ram = nc_figure(record, "ram_bytes"), stream = nc_figure(record, "stream_bytes"), wire = nc_figure(record, "wire_bytes");

  if (!(ram > 0) || !(wire > 0))
    return;
  NcReportPlot *plot = nc_report_plot(s, "Memory and wire", NC_AXIS_BYTES, 0);
  g_autofree char *copied = nc_format_bytes((int64_t)ram);
  g_autofree char *sent = nc_format_bytes((int64_t)wire);
  nc_report_bar(plot, "memory copied", ram);
  if (stream > 0)
    nc_report_bar(plot, "QEMU's stream", stream);
  nc_report_bar(plot, "on the wire", wire);
  plot->words = g_strdup_printf("%s of memory were copied with %s on the wire.", copied, sent);
}

static const NcReportColumn nc_page_columns[] = { { "Kind", false }, { "Number", true } };

static void
nc_build_kinds(NcReportSection *s, json_t *record)
{
  static const char *const kinds[][2] = {
    { "pages with content in QEMU's stream", "pages" },
    { "pages of zeros", "zero_pages" },
    { "pages of one repeated value", "fill_pages" },
    { "references to a page that was there", "reference_pages" },
    { "differences from an earlier version", "delta_pages" },
    { "sent ahead of QEMU's stream", "ahead_pages" },
    { "already in the destination's page store", "stored_pages" },
    { "references to a block of a disk", "block_pages" },
    { "batches sent again", "resent_batches" },
    { "connections lost and made again", "reconnects" },
    { "bytes sent again", "resent_bytes" },
    { "changes of the coding", "coding_switches" },
  };
  NcReportTable *table = nc_report_table(s, "What was sent, by kind", nc_page_columns, G_N_ELEMENTS(nc_page_columns));

  for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
    g_autofree char *number = nc_cell_count(nc_figure(record, kinds[i][1]));
    const char *cells[] = { kinds[i][0], number };
    if (!g_str_equal(number, "-"))
      nc_report_row(table, cells);
  }
}

static const NcReportColumn nc_coding_columns[] = { { "Coding", false }, { "Batches", true }, { "Share", true } };

static void
nc_build_coding(NcReportSection *s, json_t *record)
{
  json_t *batches = json_object_get(record, "coded_batches"), *n;
  json_int_t all = 0;
  const char *name;

  json_object_foreach(batches, name, n) all += json_integer_value(n);
  if (all <= 0)
    return;
  NcReportTable *table = nc_report_table(s, "Coding", nc_coding_columns, G_N_ELEMENTS(nc_coding_columns));
  json_object_foreach(batches, name, n)
  {
    g_autofree char *number = nc_cell_count((double)json_integer_value(n));
    g_autofree char *share = g_strdup_printf("%.1f %%", 100.0 * (double)json_integer_value(n) / (double)all);
    const char *cells[] = { name, number, share };
    nc_report_row(table, cells);
  }
}

static const NcReportColumn nc_connection_columns[] = { { "Connection", false }, { "Sent", true },     { "Received", true },
                                                        { "Round trip", true },  { "Smallest", true }, { "Segments", true },
                                                        { "Sent again", true },  { "Loss", true },     { "Delivers", true } };

static void
nc_build_connections(NcReportSection *s, json_t *record)
{
  json_t *connections = json_object_get(record, "connections"), *c;
  size_t i;

  if (json_array_size(connections) == 0)
    return;
  NcReportTable *table = nc_report_table(s, "Connections", nc_connection_columns, G_N_ELEMENTS(nc_connection_columns));
  json_array_foreach(connections, i, c)
  {
    double segments = nc_figure(c, "segments"), again = nc_figure(c, "retransmitted_segments");
    g_autofree char *index = nc_cell_count(nc_figure(c, "index"));
    g_autofree char *sent = nc_cell_bytes(nc_figure(c, "sent_bytes"));
    g_autofree char *received = nc_cell_bytes(nc_figure(c, "received_bytes"));
    g_autofree char *rtt = nc_cell_ms(nc_figure(c, "rtt_us") / 1000);
    g_autofree char *least = nc_cell_ms(nc_figure(c, "min_rtt_us") / 1000);
    g_autofree char *all = nc_cell_count(segments);
    g_autofree char *lost = nc_cell_count(again);
    g_autofree char *loss = segments > 0 ? g_strdup_printf("%.3f %%", 100 * again / segments) : g_strdup("-");
    g_autofree char *delivers = nc_cell_rate(nc_figure(c, "delivery_bps"));
    const char *cells[] = { index, sent, received, rtt, least, all, lost, loss, delivers };
    nc_report_row(table, cells);
  }
}

static const NcReportColumn nc_disk_columns[] = {
  { "Disk", false }, { "State", false }, { "Copied", true }, { "Of", true }, { "On the wire", true }
};

static void
nc_build_disks(NcReportSection *s, json_t *record)
{
  json_t *disks = json_object_get(record, "disks"), *disk;
  size_t i;

  if (json_array_size(disks) == 0)
    return;
  NcReportTable *table = nc_report_table(s, "Disks", nc_disk_columns, G_N_ELEMENTS(nc_disk_columns));
  json_array_foreach(disks, i, disk)
  {
    g_autofree char *copied = nc_cell_bytes(nc_figure(disk, "copied_bytes"));
    g_autofree char *total = nc_cell_bytes(nc_figure(disk, "total_bytes"));
    g_autofree char *wire = nc_cell_bytes(nc_figure(disk, "wire_bytes"));
    const char *cells[] = { nc_json_string_or(disk, "name", "?"), nc_json_string_or(disk, "state", "?"), copied, total, wire };
    nc_report_row(table, cells);
  }
}

static void
nc_build_numbers(NcReport *r, json_t *record, const NcFigures *f)
{
  NcReportSection *s = nc_report_add_section(r, NC_REPORT_NUMBERS);

  nc_build_times(s, record, f);
  nc_build_bytes(s, record, f);
  if (isfinite(f->rtt_ms))
    nc_report_fact(s, "round trip", "%.1f ms at the end, %.1f ms at the least", f->rtt_ms,
                   isnan(f->min_rtt_ms) ? f->rtt_ms : f->min_rtt_ms);
  if (isfinite(f->loss_percent))
    nc_report_fact(s, "losses", "%.3f %% of the segments were sent again", f->loss_percent);
  nc_build_amounts(s, record);
  nc_build_kinds(s, record);
  nc_build_coding(s, record);
  nc_build_connections(s, record);
  nc_build_disks(s, record);
}

static void
nc_build_settings(NcReport *r, json_t *record)
{
  NcReportSection *s = nc_report_add_section(r, "What was asked for");
  static const char *const limits[][2] = { { "bandwidth limit", "bandwidth_limit_bps" },
                                           { "allotted last", "rate_limit_bps" },
                                           { "kept last", "shaped_rate_bps" } };
  static const char *const numbers[][2] = { { "connections", "streams" },
                                            { "max CPU, percent", "max_cpu" },
                                            { "max throttle, percent", "max_throttle" },
                                            { "throttled to, percent", "throttle" },
                                            { "retries allowed", "retry_attempts" },
                                            { "convergence timeout, ms", "convergence_timeout_ms" } };

  nc_fact_text(s, "algorithm", record, "algorithm");
  if (json_is_boolean(json_object_get(record, "postcopy")))
    nc_report_fact(s, "post-copy", "%s", json_is_true(json_object_get(record, "postcopy")) ? "it has switched to it" : "not used");
  nc_fact_text(s, "compression", record, "compression");
  nc_fact_text(s, "class", record, "qos");
  nc_fact_text(s, "paths", record, "paths");
  for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
    double limit = nc_figure(record, limits[i][1]);
    if (limit == 0)
      nc_report_fact(s, limits[i][0], "none");
    else
      nc_fact_cell(s, limits[i][0], nc_cell_rate(limit));
  }
  for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
    nc_fact_cell(s, numbers[i][0], nc_cell_count(nc_figure(record, numbers[i][1])));
}

/* --- what is not there --- */

static void
nc_build_absent(NcReport *r, json_t *record, const NcFigures *f)
{
  NcReportSection *s = nc_report_add_section(r, NC_REPORT_ABSENT);

  nc_report_note(s, "Records keep no samples over time: the curves have what forecasts said at ends of rounds, and nothing in between.");
  if (!f->is_source)
    nc_report_note(s, "This is the destination's record. Rounds, forecasts, decisions and the pause are in the source's.");
  if (!f->has_ended)
    nc_report_note(s, "The migration has not ended: its totals are what they are now.");
  else if (isnan(nc_figure(record, "pause_ms")))
    nc_report_note(s, "No pause is recorded.");
  if (f->is_source && json_array_size(json_object_get(record, "forecasts")) == 0)
    nc_report_note(s, "No forecast is recorded: no round had ended in time for one.");
  if (json_array_size(json_object_get(record, "connections")) == 0)
    nc_report_note(s, "Nothing of its connections is recorded: no movers were connected.");
}

NcReport *
nc_report_build(json_t *record, int64_t now_us)
{
  NcReport *r = nc_report_new();
  NcFigures f;

  nc_figures_of(record, now_us, &f);
  g_autofree char *title = g_strdup_printf("%s, %s -> %s", nc_json_string_or(record, "vm", "?"), nc_json_string_or(record, "source", "?"),
                                           nc_json_string_or(record, "destination", "?"));
  g_autofree char *headline = nc_build_headline(record, &f);
  r->title = nc_report_clean(title);
  r->headline = nc_report_clean(headline);
  r->id = nc_report_clean(nc_json_string_or(record, "id", "?"));
  r->made = nc_time_format(now_us);
  nc_build_identity(r, record);
  nc_build_findings(r, record, &f);
  nc_build_numbers(r, record, &f);
  nc_report_add_rounds(r, record, &f);
  nc_report_add_attempts(r, record, &f);
  nc_report_add_back(r, record);
  nc_build_settings(r, record);
  nc_report_add_history(r, record, &f);
  nc_build_absent(r, record, &f);
  return r;
}
