/* SPDX-License-Identifier: Apache-2.0 */
/* novacron simulate: a scenario, played by the scheduler that would do it. Asks nobody. */
#include "base/io.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "cli/units.h"
#include "fleet/simulator.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NC_SIMULATE_MOST_ROWS 20u /* of each table; --json has all */
#define NC_SIMULATE_SHORT_NAME 12u /* fits in front of a fact */

static int64_t
nc_simulate_int(json_t *object, const char *key)
{
  return nc_json_int_or(object, key, 0);
}

static double
nc_simulate_number(json_t *object, const char *key)
{
  return json_number_value(json_object_get(object, key));
}

static char *
nc_simulate_time(json_t *object, const char *key)
{
  json_t *value = json_object_get(object, key);
  return json_is_number(value) ? nc_format_ms(json_number_value(value) * 1000) : NULL;
}

/* "... and 380 more", if there are more than a table shows. */
static void
nc_simulate_print_rest(size_t count)
{
  if (count > NC_SIMULATE_MOST_ROWS)
    printf("... and %zu more (--json shows all)\n", count - NC_SIMULATE_MOST_ROWS);
}

/* --- evacuations --- */

static void
nc_simulate_add_wave(NcTable *table, size_t number, json_t *wave)
{
  g_autofree char *n = g_strdup_printf("%zu", number);
  g_autofree char *moves = g_strdup_printf("%" PRId64, nc_simulate_int(wave, "moves"));
  g_autofree char *memory = nc_format_bytes((int64_t)nc_simulate_number(wave, "memory_mib") << 20);
  g_autofree char *planned = nc_simulate_time(wave, "planned_s"), *began = nc_simulate_time(wave, "began_s");
  g_autofree char *ended = nc_simulate_time(wave, "ended_s"), *pause = nc_format_ms(nc_simulate_number(wave, "longest_pause_ms"));
  const char *const cells[] = { n, moves, memory, planned, began, ended, pause };

  nc_table_add(table, cells);
}

static void
nc_simulate_print_waves(json_t *waves)
{
  static const NcColumn columns[] = { { "Wave", true, false },    { "Moves", true, false }, { "Memory", true, false },
                                      { "Planned", true, false }, { "Began", true, false }, { "Ended", true, false },
                                      { "Longest pause", true, false } };
  g_autoptr(NcTable) table = nc_table_new(columns, G_N_ELEMENTS(columns));
  json_t *wave;
  size_t i;

  json_array_foreach(waves, i, wave)
    if (i < NC_SIMULATE_MOST_ROWS)
      nc_simulate_add_wave(table, i + 1, wave);
  nc_table_print(table, "  nothing was to move");
  nc_simulate_print_rest(json_array_size(waves));
}

static void
nc_simulate_print_reasons(json_t *list)
{
  json_t *item;
  size_t i;

  json_array_foreach(list, i, item)
  {
    if (i == NC_SIMULATE_MOST_ROWS)
      break;
    const char *state = nc_json_string_or(item, "state", NULL);
    const char *machine = nc_json_string_or(item, "machine", "?");
    bool is_short = strlen(machine) <= NC_SIMULATE_SHORT_NAME;
    nc_print_fact(is_short ? machine : "", "%s%s%s%s%s", is_short ? "" : machine, is_short ? "" : ": ", state ? state : "",
                  state ? ": " : "", nc_json_string_or(item, "reason", "?"));
  }
  nc_simulate_print_rest(json_array_size(list));
}

static void
nc_simulate_print_evacuation(json_t *evacuation)
{
  g_autofree char *took = nc_simulate_time(evacuation, "took_s"), *planned = nc_simulate_time(evacuation, "planned_s");
  json_t *cannot = json_object_get(evacuation, "cannot_move");

  printf("\nEvacuation of %" PRId64 " nodes: %" PRId64 " of %" PRId64 " machines moved in %s\n(the plan said %s)\n",
         nc_simulate_int(evacuation, "nodes"), nc_simulate_int(evacuation, "completed"),
         nc_simulate_int(evacuation, "submitted") + (int64_t)json_array_size(cannot), took, planned);
  nc_simulate_print_waves(json_object_get(evacuation, "waves"));
  if (json_array_size(cannot) == 0)
    return;
  puts("\nCan't move, known before anything moved:");
  nc_simulate_print_reasons(cannot);
}

/* --- links --- */

static char *
nc_simulate_percent(json_t *link, const char *key)
{
  json_t *value = json_object_get(link, key);
  return json_is_number(value) ? g_strdup_printf("%.1f %%", json_number_value(value)) : NULL;
}

static void
nc_simulate_print_links(json_t *links)
{
  static const NcColumn columns[] = { { "Link", false, true },  { "Rate", true, false }, { "Up", true, false },
                                      { "at most", true, false }, { "Down", true, false }, { "at most", true, false } };
  g_autoptr(NcTable) table = nc_table_new(columns, G_N_ELEMENTS(columns));
  json_t *link;
  size_t i;

  json_array_foreach(links, i, link)
  {
    if (i == NC_SIMULATE_MOST_ROWS)
      break;
    g_autofree char *rate = nc_format_rate(nc_simulate_number(link, "rate_bps"));
    g_autofree char *up = nc_simulate_percent(link, "up_percent"), *up_most = nc_simulate_percent(link, "up_most_percent");
    g_autofree char *down = nc_simulate_percent(link, "down_percent"), *down_most = nc_simulate_percent(link, "down_most_percent");
    const char *const cells[] = { nc_json_string_or(link, "name", "?"), rate, up, up_most, down, down_most };
    nc_table_add(table, cells);
  }
  puts("");
  nc_table_print(table, "No links: only network cards limit.");
  nc_simulate_print_rest(json_array_size(links));
}

/* --- all of it --- */

static void
nc_simulate_print_longest(json_t *report, const char *key, const char *name, const char *value, double factor)
{
  json_t *longest = json_object_get(report, key);
  const char *machine = nc_json_string_or(longest, "machine", NULL);
  g_autofree char *time = nc_format_ms(nc_simulate_number(longest, value) * factor);

  if (machine)
    nc_print_fact(name, "%s at the longest (%s)", time, machine);
}

static void
nc_simulate_print(json_t *report, const char *file)
{
  json_t *m = json_object_get(report, "migrations"), *evacuation;
  g_autofree char *took = nc_simulate_time(report, "seconds");
  g_autofree char *wire = nc_format_bytes((int64_t)nc_simulate_number(report, "wire_bytes"));
  size_t i;

  g_autofree char *name = nc_text_clean(file);
  printf("%s: %" PRId64 " nodes, %" PRId64 " machines\n", name, nc_simulate_int(report, "nodes"), nc_simulate_int(report, "machines"));
  nc_print_fact("took", "%s, with %" PRId64 " migrations at a time at most", took, nc_simulate_int(report, "most_at_a_time"));
  nc_print_fact("migrations", "%" PRId64 " completed, %" PRId64 " failed, %" PRId64 " refused, %" PRId64 " cancelled",
                nc_simulate_int(m, "completed"), nc_simulate_int(m, "failed"), nc_simulate_int(m, "refused"),
                nc_simulate_int(m, "cancelled"));
  nc_print_fact("attempts", "%" PRId64 " failed; post-copy was needed %" PRId64 " times", nc_simulate_int(report, "failed_attempts"),
                nc_simulate_int(report, "postcopy"));
  nc_simulate_print_longest(report, "longest_wait", "wait", "seconds", 1000);
  nc_simulate_print_longest(report, "longest_pause", "pause", "ms", 1);
  nc_print_fact("wire", "%s", wire);
  json_array_foreach(json_object_get(report, "evacuations"), i, evacuation)
    nc_simulate_print_evacuation(evacuation);
  nc_simulate_print_links(json_object_get(report, "links"));
  if (json_array_size(json_object_get(report, "not_moved")) > 0) {
    puts("\nDid not move:");
    nc_simulate_print_reasons(json_object_get(report, "not_moved"));
  }
}

/* Of all that was asked for. */
static bool
nc_simulate_did_all(json_t *report)
{
  json_t *evacuation;
  size_t i;

  json_array_foreach(json_object_get(report, "evacuations"), i, evacuation)
    if (json_array_size(json_object_get(evacuation, "cannot_move")) > 0)
      return false;
  return json_array_size(json_object_get(report, "not_moved")) == 0;
}

static json_t *
nc_simulate_run(const char *file, int64_t seed, GError **error)
{
  size_t length_bytes;
  g_autofree char *text = nc_file_read(file, NC_SCENARIO_MOST_BYTES, &length_bytes, error);
  g_autoptr(NcScenario) scenario = text ? nc_scenario_parse(file, text, length_bytes, error) : NULL;

  if (!scenario)
    return NULL;
  if (seed >= 0)
    scenario->seed = (uint64_t)seed;
  g_autoptr(NcSimulator) simulator = nc_simulator_new(scenario);
  while (nc_simulator_step(simulator))
    ;
  return nc_simulator_report(simulator);
}

bool
nc_cmd_simulate(NcCli *cli, const NcCommand *command, int argc, char **argv, GError **error)
{
  gint64 seed = -1;
  const GOptionEntry entries[] = {
    { "seed", 0, 0, G_OPTION_ARG_INT64, &seed, "for chance, in place of the file's (0 or more)", "N" },
    { NULL },
  };

  if (!nc_cli_parse(cli, command, entries, &argc, &argv, error))
    return false;
  if (seed < -1)
    return nc_fail(error, NC_ERROR_INVALID, "--seed must be 0 or more");
  nc_autojson json_t *report = nc_simulate_run(argv[0], seed, error);
  if (!report)
    return false;
  if (cli->json)
    nc_cli_print_json(report);
  else
    nc_simulate_print(report, argv[0]);
  if (!nc_simulate_did_all(report))
    cli->status = nc_error_exit_status(NC_ERROR_UNSUITABLE);
  return true;
}
