/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing and wording what people want to know of a migration. */
#include "cli/migration_view.h"
#include "cli/table.h"
#include "cli/units.h"

#include <stdio.h>
#include <string.h>

#define NC_VIEW_PAGE_BYTES 4096

/* An integer or a real. */
static bool
nc_has_number(json_t *object, const char *key)
{
  return json_is_number(json_object_get(object, key));
}

static const char *
nc_migration_phase(json_t *migration)
{
  return nc_json_string_or(migration, "phase", "?");
}

bool
nc_migration_needs_attention(json_t *migration)
{
  return g_str_equal(nc_migration_phase(migration), "needs_attention");
}

bool
nc_migration_has_ended(json_t *migration)
{
  return json_is_string(json_object_get(migration, "outcome"));
}

int
nc_migration_exit_status(json_t *migration)
{
  const char *outcome = nc_json_string_or(migration, "outcome", "");
  json_t *error = json_object_get(migration, "error");

  if (g_str_equal(outcome, "completed"))
    return 0;
  if (g_str_equal(outcome, "cancelled"))
    return nc_error_exit_status(NC_ERROR_CANCELLED);
  if (outcome[0] == '\0' && nc_migration_needs_attention(migration))
    return nc_error_exit_status(NC_ERROR_ATTENTION);
  const char *code = nc_json_string_or(error, "code", "qemu"); /* a failure that does not say why: 10 */
  return nc_error_exit_status(nc_error_code_from_name(code));
}

char *
nc_migration_reason(json_t *migration)
{
  json_t *error = json_object_get(migration, "error");
  return nc_text_clean(nc_json_string_or(error, "message", "the reason is not recorded"));
}

char *
nc_migration_title(json_t *migration)
{
  g_autofree char *raw =
      g_strdup_printf("%s, %s -> %s", nc_json_string_or(migration, "vm", "?"),
                      nc_json_string_or(migration, "source", "?"), nc_json_string_or(migration, "destination", "?"));
  return nc_text_clean(raw);
}

double
nc_migration_sum_disks(json_t *migration, const char *key)
{
  double sum = 0;
  size_t i;
  json_t *disk;

  json_array_foreach(json_object_get(migration, "disks"), i, disk) sum += nc_json_number_or(disk, key, 0);
  return sum;
}

char *
nc_migration_progress(json_t *migration)
{
  GString *line = g_string_new(NULL);
  g_autofree char *phase = nc_text_clean(nc_migration_phase(migration));
  double rate = nc_json_number_or(migration, "rate_bps", 0), left = nc_json_number_or(migration, "ram_remaining_bytes", 0);

  if (g_str_equal(phase, "disk_copy")) { /* memory has not begun */
    rate = nc_migration_sum_disks(migration, "rate_bps");
    left = nc_migration_sum_disks(migration, "total_bytes") - nc_migration_sum_disks(migration, "copied_bytes");
  }

  g_string_append_printf(line, "%-12.15s %3.0f %%", phase, nc_json_number_or(migration, "progress", 0));
  if (rate > 0) {
    g_autofree char *text = nc_format_rate(rate);
    g_string_append_printf(line, "  %s", text);
  }
  if (nc_has_number(migration, "ratio"))
    g_string_append_printf(line, "  ratio %.1f", nc_json_number_or(migration, "ratio", 0));
  if (left > 0) {
    g_autofree char *text = nc_format_bytes((int64_t)left);
    g_string_append_printf(line, "  %s left", text);
  }
  if (nc_has_number(migration, "eta_ms")) {
    g_autofree char *text = nc_format_ms(nc_json_number_or(migration, "eta_ms", 0));
    g_string_append_printf(line, "  ETA %s", text);
  }
  return g_string_free(line, FALSE);
}

static void
nc_migration_print_pause(json_t *migration)
{
  g_autofree char *pause = nc_format_ms(nc_json_number_or(migration, "pause_ms", 0));
  g_autofree char *qemu = nc_format_ms(nc_json_number_or(migration, "qemu_downtime_ms", 0));
  g_autofree char *limit = nc_format_ms(nc_json_number_or(migration, "max_downtime_ms", 0));

  if (nc_has_number(migration, "pause_ms"))
    nc_print_fact("pause", "%s (limit %s; QEMU's own figure: %s)", pause, limit,
                  nc_has_number(migration, "qemu_downtime_ms") ? qemu : "none");
}

/* "auto: 61 % zstd:3, 39 % lz4 of 4711 batches, 5 changes"; what was fixed needs no word. */
static void
nc_migration_print_coding(json_t *migration)
{
  json_t *batches = json_object_get(migration, "coded_batches"), *n;
  g_autoptr(GString) text = g_string_new(NULL);
  json_int_t all = 0;
  const char *name;

  json_object_foreach(batches, name, n) all += json_integer_value(n);
  json_object_foreach(batches, name, n) g_string_append_printf(
      text, "%s%.0f %% %s", text->len ? ", " : "", 100.0 * (double)json_integer_value(n) / (double)MAX(all, 1), name);
  if (!text->len)
    return;
  g_autofree char *clean = nc_text_clean(text->str);
  nc_print_fact("coding", "%s of %" JSON_INTEGER_FORMAT " batches, %d changes", clean, all,
                (int)nc_json_number_or(migration, "coding_switches", 0));
}

/* "copying, 43 % of 1.2 GiB (0.4 GiB on the wire) at 80.1 MB/s; 120 IOPS of the guest" */
static void
nc_migration_print_disk(json_t *disk, bool has_ended)
{
  double copied = nc_json_number_or(disk, "copied_bytes", 0), all = nc_json_number_or(disk, "total_bytes", 0);
  g_autofree char *title = g_strdup_printf("disk %s", nc_json_string_or(disk, "name", "?"));
  g_autofree char *clean = nc_text_clean(title);
  g_autofree char *total = nc_format_bytes((int64_t)all);
  g_autofree char *wire = nc_format_bytes((int64_t)nc_json_number_or(disk, "wire_bytes", 0));
  g_autofree char *rate = nc_format_rate(nc_json_number_or(disk, "rate_bps", 0));
  g_autofree char *limit = nc_format_rate(nc_json_number_or(disk, "write_limit_bps", 0));
  g_autoptr(GString) text = g_string_new(NULL);

  g_string_append_printf(text, "%s, %.0f %% of %s, %s on the wire", nc_json_string_or(disk, "state", "?"), all > 0 ? 100 * copied / all : 0, total,
                         wire);
  if (!has_ended)
    g_string_append_printf(text, ", %s; the guest: %.0f IOPS", rate, nc_json_number_or(disk, "iops", 0));
  if (nc_json_bool_or(disk, "flattened", false))
    g_string_append(text, "; flattened");
  if (nc_json_bool_or(disk, "chain_kept", false))
    g_string_append(text, "; on the backing chain that is there");
  if (nc_json_number_or(disk, "write_limit_bps", 0) > 0)
    g_string_append_printf(text, "; writes limited to %s", limit);
  if (nc_json_bool_or(disk, "write_blocking", false))
    g_string_append(text, "; writes wait for the copy");
  g_autofree char *line = nc_text_clean(text->str);
  nc_print_fact(clean, "%s", line);
}

static void
nc_migration_print_disks(json_t *migration)
{
  size_t i;
  json_t *disk;

  json_array_foreach(json_object_get(migration, "disks"), i, disk) nc_migration_print_disk(disk, nc_migration_has_ended(migration));
}

/* What the destination had before. */
static void
nc_migration_print_known(json_t *migration)
{
  json_t *kept = json_object_get(migration, "kept_shadow");
  int64_t stored = (int64_t)nc_json_number_or(migration, "stored_pages", 0);

  if (nc_json_bool_or(kept, "used", false)) {
    g_autofree char *bytes = nc_format_bytes((int64_t)nc_json_number_or(kept, "bytes", 0));
    nc_print_fact("warm return", "%s of pages were kept by both sides since the way here", bytes);
  }
  if (stored > 0) {
    g_autofree char *bytes = nc_format_bytes(stored * NC_VIEW_PAGE_BYTES);
    nc_print_fact("page store", "%s of pages were in the destination's and did not cross the link", bytes);
  }
}

void
nc_migration_print_summary(json_t *migration)
{
  g_autofree char *total = nc_format_ms(nc_json_number_or(migration, "total_ms", 0));
  g_autofree char *ram = nc_format_bytes((int64_t)nc_json_number_or(migration, "ram_bytes", 0));
  g_autofree char *wire = nc_format_bytes((int64_t)nc_json_number_or(migration, "wire_bytes", 0));
  json_t *equal = json_object_get(migration, "sha256_equal");

  if (nc_has_number(migration, "total_ms"))
    nc_print_fact("total", "%s", total);
  nc_migration_print_pause(migration);
  nc_migration_print_disks(migration);
  nc_print_fact("memory", "%s in %d rounds", ram, (int)nc_json_number_or(migration, "rounds", 0));
  if (nc_json_bool_or(migration, "free_page_hints", false))
    nc_print_fact("free pages", "not sent, as far as the guest named them in time");
  nc_migration_print_known(migration);
  if (nc_has_number(migration, "ratio"))
    nc_print_fact("wire", "%s (QEMU's stream shrunk to 1/%.1f)", wire, nc_json_number_or(migration, "ratio", 0));
  else
    nc_print_fact("wire", "%s", wire);
  nc_migration_print_coding(migration);
  if (json_is_boolean(equal))
    nc_print_fact("SHA-256", "%s %s", json_is_true(equal) ? "equal on both sides:" : "DIFFERS between the two sides:",
                  nc_json_string_or(migration, "sha256", "?"));
}

static void
nc_migration_print_events(json_t *migration)
{
  size_t i;
  json_t *event, *events = json_object_get(migration, "events");

  if (json_array_size(events) > 0)
    puts("history (UTC)");
  json_array_foreach(events, i, event)
  {
    const char *at = nc_json_string_or(event, "at", "");
    const char *clock = strchr(at, 'T') ? strchr(at, 'T') + 1 : at; /* the day is that of "begun" */
    const char *detail = nc_json_string_or(event, "detail", "");
    g_autofree char *time = g_strndup(clock, 12);
    nc_print_fact(time, "%s%s%s", nc_json_string_or(event, "event", "?"), detail[0] ? ": " : "", detail);
  }
}

static void
nc_migration_print_rollback(json_t *rollback)
{
  const char *attention = nc_json_string_or(rollback, "attention", NULL);
  g_autofree char *id = nc_text_clean(nc_json_string_or(rollback, "id", "?"));
  g_autofree char *cause = nc_text_clean(nc_json_string_or(json_object_get(rollback, "cause"), "message", "asked for"));
  json_t *step;
  size_t i;

  printf("rollback %s (%s), %s\n", id, nc_json_string_or(rollback, "mode", "?"), nc_json_string_or(rollback, "state", "?"));
  nc_print_fact("because", "%s", cause);
  json_array_foreach(json_object_get(rollback, "steps"), i, step)
  {
    g_autofree char *name = g_strdup_printf("%d", (int)nc_json_int_or(step, "step", 0));
    const char *detail = nc_json_string_or(step, "detail", "");
    nc_print_fact(name, "%s: %s%s%s", nc_json_string_or(step, "name", "?"), nc_json_string_or(step, "state", "?"), detail[0] ? ": " : "",
                  detail);
  }
  if (attention)
    nc_print_fact("ATTENTION", "%s", attention);
}

void
nc_migration_print_rollbacks(json_t *migration)
{
  json_t *rollback;
  size_t i;
  json_array_foreach(json_object_get(migration, "rollbacks"), i, rollback) nc_migration_print_rollback(rollback);
}

static const NcColumn nc_forecast_columns[] = {
  { .title = "AT", .right = true },       { .title = "ROUND", .right = true },  { .title = "TO GO", .right = true },
  { .title = "PAUSE", .right = true },    { .title = "DIRTIED", .right = true }, { .title = "SENT", .right = true },
  { .title = "DECISION" },
};

/* "12.3 s +-10%" */
static char *
nc_forecast_band(json_t *forecast, const char *key, const char *error_key)
{
  double value = nc_json_number_or(forecast, key, 0);
  g_autofree char *text = nc_format_ms(value);
  return g_strdup_printf("%s +-%.0f%%", text, value > 0 ? 100 * nc_json_number_or(forecast, error_key, 0) / value : 0);
}

static void
nc_migration_add_forecast(NcTable *table, json_t *f)
{
  bool converges = nc_json_bool_or(f, "converges", false);
  g_autofree char *at = nc_format_ms(nc_json_number_or(f, "at_ms", 0));
  g_autofree char *round = g_strdup_printf("%.0f", nc_json_number_or(f, "round", 0));
  g_autofree char *eta = converges ? nc_forecast_band(f, "eta_ms", "eta_error_ms") : g_strdup("no end");
  g_autofree char *pause = converges ? nc_forecast_band(f, "pause_ms", "pause_error_ms") : g_strdup("-");
  g_autofree char *dirtied = nc_format_rate(nc_json_number_or(f, "dirty_rate_bps", 0));
  g_autofree char *sent = nc_format_rate(nc_json_number_or(f, "effective_rate_bps", 0));
  g_autofree char *name = nc_text_clean(nc_json_string_or(f, "decision", "?"));
  g_autofree char *decision = g_str_equal(name, "throttle")
                                  ? g_strdup_printf("throttle %.0f %%", nc_json_number_or(f, "throttle", 0))
                                  : g_strdup(name);
  const char *cells[] = { at, round, eta, pause, dirtied, sent, decision };
  nc_table_add(table, cells);
}

void
nc_migration_print_forecasts(json_t *migration)
{
  g_autofree char *title = nc_migration_title(migration);
  g_autoptr(NcTable) table = nc_table_new(nc_forecast_columns, G_N_ELEMENTS(nc_forecast_columns));
  size_t i;
  json_t *forecast;

  printf("%s\n", title);
  json_array_foreach(json_object_get(migration, "forecasts"), i, forecast) nc_migration_add_forecast(table, forecast);
  nc_table_print(table, "No round has ended yet.");
  if (nc_has_number(migration, "total_ms")) {
    g_autofree char *total = nc_format_ms(nc_json_number_or(migration, "total_ms", 0));
    g_autofree char *pause = nc_format_ms(nc_json_number_or(migration, "pause_ms", 0));
    if (nc_has_number(migration, "pause_ms"))
      printf("It took %s, with a pause of %s.\n", total, pause);
    else
      printf("It took %s.\n", total);
  }
}

void
nc_migration_print_story(json_t *migration)
{
  g_autofree char *id = nc_text_clean(nc_json_string_or(migration, "id", "?"));
  g_autofree char *title = nc_migration_title(migration);
  g_autofree char *progress = nc_migration_progress(migration);
  g_autofree char *checkpoint = nc_text_clean(nc_json_string_or(migration, "checkpoint", ""));
  const char *attention = nc_json_string_or(migration, "attention", NULL);

  printf("%s: %s\n", id, title);
  nc_print_fact("begun", "%s", nc_json_string_or(migration, "started", "not yet"));
  bool may_go_back = g_str_equal(nc_json_string_or(migration, "outcome", ""), "completed");
  if (checkpoint[0] && may_go_back)
    nc_print_fact("checkpoint", "%s, taken before it (while it is kept: novacron rollback %s --to-checkpoint)", checkpoint, id);
  else if (checkpoint[0])
    nc_print_fact("checkpoint", "%s, taken before it", checkpoint);
  if (nc_migration_has_ended(migration))
    nc_print_fact("ended", "%s, %s", nc_json_string_or(migration, "finished", "?"),
                  nc_json_string_or(migration, "outcome", "?"));
  else
    nc_print_fact("now", "%s", progress);
  if (json_is_object(json_object_get(migration, "error"))) {
    g_autofree char *reason = nc_migration_reason(migration);
    nc_print_fact("reason", "%s", reason);
  }
  if (attention)
    nc_print_fact("ATTENTION", "%s", attention);
  nc_migration_print_summary(migration);
  nc_migration_print_rollbacks(migration);
  nc_migration_print_events(migration);
}
