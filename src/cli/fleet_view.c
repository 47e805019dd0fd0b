/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/fleet_view.h"
#include "base/ident.h"
#include "cli/fleet_pieces.h"
#include "cli/table.h"
#include "cli/units.h"

#include <inttypes.h>

#define NC_FLEET_MOST_ROWS 20u /* of moves and reasons; --json has all */

/* In the order in which people want to read them. */
static const char *const nc_fleet_states[] = { "completed", "running", "starting",  "backoff",
                                               "queued",    "failed",  "cancelled", "refused" };

/* --- ids --- */

static const struct {
  const char *prefix, *name, *collection;
} nc_fleet_kinds[] = {
  [NC_FLEET_MIGRATION] = { "mig-", "migration", "migrations" },
  [NC_FLEET_BATCH] = { "bat-", "batch", "batches" },
  [NC_FLEET_EVACUATION] = { "eva-", "evacuation", "evacuations" },
};

bool
nc_fleet_kind_of(const char *id, NcFleetKind *ret, GError **error)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_fleet_kinds); i++) {
    if (g_str_has_prefix(id, nc_fleet_kinds[i].prefix) && nc_name_is_valid(id)) {
      *ret = (NcFleetKind)i;
      return true;
    }
  }
  return nc_fail(error, NC_ERROR_INVALID,
                 "\"%s\" is no id of the fleet's: those begin with mig-, bat- or eva- (novacron fleet list)", id);
}

const char *
nc_fleet_kind_name(NcFleetKind kind)
{
  return nc_fleet_kinds[kind].name;
}

char *
nc_fleet_kind_path(NcFleetKind kind, const char *id)
{
  return g_strdup_printf("/api/v2/fleet/%s/%s", nc_fleet_kinds[kind].collection, id);
}

/* --- pieces --- */

static void
nc_fleet_print_text(const char *name, const char *text)
{
  if (text && text[0])
    nc_print_fact(name, "%s", text);
}

static void
nc_fleet_print_title(json_t *record)
{
  g_autofree char *id = nc_text_clean(nc_json_string_or(record, "id", "?"));
  puts(id);
}

static void
nc_fleet_print_time(const char *name, json_t *record, const char *key)
{
  g_autofree char *time = nc_fleet_time(record, key);
  nc_fleet_print_text(name, time);
}

/* --- records --- */

static int64_t
nc_fleet_count(json_t *record, const char *state)
{
  return nc_json_int_or(json_object_get(record, "migrations"), state, 0);
}

static int64_t
nc_fleet_count_left(json_t *record)
{
  return nc_fleet_count(record, "queued") + nc_fleet_count(record, "starting") + nc_fleet_count(record, "running") +
         nc_fleet_count(record, "backoff");
}

static int64_t
nc_fleet_count_not_moved(json_t *record)
{
  return nc_fleet_count(record, "failed") + nc_fleet_count(record, "refused") + nc_fleet_count(record, "cancelled");
}

/* "3 completed, 1 running"; "none". Caller frees. */
static char *
nc_fleet_counts(json_t *record)
{
  g_autoptr(GString) text = g_string_new(NULL);

  for (size_t i = 0; i < G_N_ELEMENTS(nc_fleet_states); i++) {
    int64_t count = nc_fleet_count(record, nc_fleet_states[i]);
    if (count > 0)
      g_string_append_printf(text, "%s%" PRId64 " %s", text->len > 0 ? ", " : "", count, nc_fleet_states[i]);
  }
  return text->len > 0 ? g_string_free(g_steal_pointer(&text), FALSE) : g_strdup("none");
}

static bool
nc_fleet_needs_attention(json_t *record)
{
  return g_str_equal(nc_fleet_text(json_object_get(record, "live"), "phase"), "needs_attention");
}

bool
nc_fleet_migration_is_over(json_t *record)
{
  return nc_json_bool_or(record, "is_finished", false) || nc_fleet_needs_attention(record);
}

bool
nc_fleet_batch_is_over(json_t *record)
{
  return nc_fleet_count_left(record) == 0;
}

bool
nc_fleet_evacuation_is_over(json_t *record)
{
  return nc_json_bool_or(record, "is_finished", false);
}

char *
nc_fleet_migration_progress(json_t *record)
{
  json_t *live = json_object_get(record, "live");
  const char *state = nc_json_string_or(record, "state", "?"), *phase = nc_fleet_text(live, "phase");
  const char *waits = nc_fleet_text(live, "waits"), *silence = nc_fleet_text(live, "silence");

  if (waits[0])
    return g_strdup_printf("%s; it waits for %s", state, waits);
  if (silence[0])
    return g_strdup_printf("%s; %s", state, silence);
  if (phase[0])
    return g_strdup_printf("%s: %s, %.0f %%", state, phase, nc_fleet_number(live, "percent"));
  return g_strdup(state);
}

char *
nc_fleet_group_progress(json_t *record)
{
  const char *state = nc_json_string_or(record, "state", NULL); /* a batch has none */

  return g_strdup_printf("%s%s%" PRId64 " done, %" PRId64 " failed, %" PRId64 " left (%" PRId64 " under way)",
                         state ? state : "", state ? ": " : "", nc_fleet_count(record, "completed"),
                         nc_fleet_count_not_moved(record), nc_fleet_count_left(record),
                         nc_fleet_count(record, "starting") + nc_fleet_count(record, "running"));
}

static int
nc_fleet_migration_exit_status(json_t *record)
{
  const char *state = nc_fleet_text(record, "state");

  if (g_str_equal(state, "completed"))
    return 0;
  if (g_str_equal(state, "cancelled"))
    return nc_error_exit_status(NC_ERROR_CANCELLED);
  if (g_str_equal(state, "refused"))
    return nc_error_exit_status(NC_ERROR_UNSUITABLE);
  return nc_error_exit_status(nc_fleet_needs_attention(record) ? NC_ERROR_ATTENTION : NC_ERROR_QEMU);
}

static int
nc_fleet_batch_exit_status(json_t *record)
{
  size_t refused = json_array_size(json_object_get(json_object_get(record, "detail"), "not_submitted"));
  int64_t failed = nc_fleet_count(record, "failed") + nc_fleet_count(record, "refused") + (int64_t)refused;

  if (failed > 0)
    return nc_error_exit_status(NC_ERROR_UNSUITABLE);
  return nc_fleet_count(record, "cancelled") > 0 ? nc_error_exit_status(NC_ERROR_CANCELLED) : 0;
}

static int
nc_fleet_evacuation_exit_status(json_t *record)
{
  const char *state = nc_fleet_text(record, "state");

  if (g_str_equal(state, "completed"))
    return 0;
  return nc_error_exit_status(g_str_equal(state, "cancelled") ? NC_ERROR_CANCELLED : NC_ERROR_UNSUITABLE);
}

int
nc_fleet_exit_status(NcFleetKind kind, json_t *record)
{
  switch (kind) {
  case NC_FLEET_MIGRATION:
    return nc_fleet_migration_exit_status(record);
  case NC_FLEET_BATCH:
    return nc_fleet_batch_exit_status(record);
  case NC_FLEET_EVACUATION:
    break;
  }
  return nc_fleet_evacuation_exit_status(record);
}

/* What it cost, as its agent said. */
static void
nc_fleet_print_result(json_t *result)
{
  json_t *pause = json_object_get(result, "pause_ms"), *total = json_object_get(result, "total_ms");

  if (json_is_number(total)) {
    g_autofree char *time = nc_format_ms(json_number_value(total));
    nc_print_fact("time", "%s", time);
  }
  if (json_is_number(pause)) {
    g_autofree char *time = nc_format_ms(json_number_value(pause));
    nc_print_fact("pause", "%s", time);
  }
  if (json_is_integer(json_object_get(result, "wire_bytes"))) {
    g_autofree char *wire = nc_format_bytes(nc_json_int_or(result, "wire_bytes", 0));
    nc_print_fact("wire", "%s", wire);
  }
}

static void
nc_fleet_print_migration(json_t *m)
{
  json_t *request = json_object_get(m, "request");
  int64_t attempts = nc_json_int_or(m, "attempts", 0), limit = nc_json_int_or(request, "bandwidth_limit_bps", 0);
  const char *to = nc_fleet_text(m, "destination"), *batch = nc_fleet_text(m, "batch");
  g_autofree char *progress = nc_fleet_migration_progress(m);

  nc_fleet_print_title(m);
  nc_print_fact("machine", "%s, %s -> %s", nc_fleet_text(m, "machine"), nc_fleet_text(m, "source"),
                to[0] ? to : "wherever it fits best");
  nc_print_fact("state", "%s", progress);
  nc_fleet_print_text("because", nc_fleet_text(m, "reason"));
  nc_fleet_print_text("cancelled", nc_fleet_text(m, "cancel_reason"));
  nc_print_fact("priority", "%s, class %s", nc_fleet_text(m, "priority"), nc_json_string_or(request, "qos", "normal"));
  if (limit > 0) {
    g_autofree char *rate = nc_format_rate((double)limit);
    nc_print_fact("limit", "%s", rate);
  }
  nc_fleet_print_text("part of", batch[0] ? batch : nc_fleet_text(m, "evacuation"));
  nc_fleet_print_text("asked by", nc_fleet_text(m, "actor"));
  nc_fleet_print_time("asked", m, "submitted_us");
  nc_fleet_print_time("begun", m, "started_us");
  nc_fleet_print_time("ended", m, "finished_us");
  nc_print_fact("attempts", "%" PRId64, attempts);
  nc_fleet_print_result(json_object_get(m, "result"));
  if (attempts > 0)
    nc_print_fact("story", "on node %s: novacron status %s.%" PRId64, nc_fleet_text(m, "source"),
                  nc_fleet_text(m, "id"), attempts);
}

static void
nc_fleet_print_batch(json_t *batch)
{
  json_t *refused = json_object_get(json_object_get(batch, "detail"), "not_submitted");
  g_autofree char *counts = nc_fleet_counts(batch);

  nc_fleet_print_title(batch);
  nc_print_fact("policy", "%s", nc_fleet_text(batch, "policy"));
  nc_print_fact("migrations", "%s", counts);
  nc_fleet_print_text("asked by", nc_fleet_text(batch, "actor"));
  nc_fleet_print_time("asked", batch, "created_us");
  nc_print_fact("story", "novacron fleet list --batch %s", nc_fleet_text(batch, "id"));
  if (json_array_size(refused) == 0)
    return;
  puts("\nNot submitted:");
  nc_fleet_print_reasons(stdout, refused);
}

static void
nc_fleet_print_evacuation(json_t *evacuation)
{
  json_t *detail = json_object_get(evacuation, "detail");
  g_autofree char *nodes = nc_fleet_join(json_object_get(evacuation, "nodes"));
  g_autofree char *counts = nc_fleet_counts(evacuation), *planned = nc_fleet_seconds(detail, "planned_seconds");

  nc_fleet_print_title(evacuation);
  nc_print_fact("nodes", "%s", nodes);
  nc_print_fact("state", "%s", nc_fleet_text(evacuation, "state"));
  nc_fleet_print_text("because", nc_fleet_text(evacuation, "reason"));
  nc_print_fact("migrations", "%s", counts);
  nc_print_fact("planned", "%s", planned);
  nc_fleet_print_text("asked by", nc_fleet_text(evacuation, "actor"));
  nc_fleet_print_time("asked", evacuation, "created_us");
  nc_fleet_print_time("changed", evacuation, "changed_us");
  nc_print_fact("story", "novacron fleet list --evacuation %s", nc_fleet_text(evacuation, "id"));
}

void
nc_fleet_print_record(NcFleetKind kind, json_t *record)
{
  switch (kind) {
  case NC_FLEET_MIGRATION:
    nc_fleet_print_migration(record);
    break;
  case NC_FLEET_BATCH:
    nc_fleet_print_batch(record);
    break;
  case NC_FLEET_EVACUATION:
    nc_fleet_print_evacuation(record);
    break;
  }
}

/* --- plans and reasons --- */

static void
nc_fleet_print_rest(FILE *file, size_t count)
{
  if (count > NC_FLEET_MOST_ROWS)
    fprintf(file, "... and %zu more (--json shows all)\n", count - NC_FLEET_MOST_ROWS);
}

void
nc_fleet_print_reasons(FILE *file, json_t *items)
{
  json_t *item;
  size_t i;

  json_array_foreach(items, i, item)
  {
    if (i == NC_FLEET_MOST_ROWS)
      break;
    const char *state = nc_fleet_text(item, "state"), *reason = nc_fleet_text(item, "reason");
    g_autofree char *text = g_strdup_printf("%s: %s%s%s", nc_json_string_or(item, "machine", "?"), state,
                                            state[0] && reason[0] ? ": " : "", reason);
    nc_print_paragraph(file, 2, text);
  }
  nc_fleet_print_rest(file, json_array_size(items));
}

/* Nodes of a placement that can take the machine, or can't. New reference: {"machine": NODE, "reason"}. */
static json_t *
nc_fleet_placement_pick(json_t *placement, bool is_refused)
{
  json_t *picked = json_array(), *node;
  size_t i;

  json_array_foreach(json_object_get(placement, "nodes"), i, node)
  {
    if ((json_object_get(node, "refused") != NULL) != is_refused)
      continue;
    g_autofree char *reason = is_refused ? g_strdup(nc_json_string_or(node, "detail", ""))
                                         : g_strdup_printf("fits, %.1f points", nc_fleet_number(node, "score"));
    json_array_append_new(
        picked, json_pack("{s:s, s:s}", "machine", nc_json_string_or(node, "node", "?"), "reason", reason));
  }
  return picked;
}

void
nc_fleet_print_placement(json_t *placement)
{
  const char *machine = nc_json_string_or(placement, "machine", "?"), *chosen = nc_json_string_or(placement, "chosen", NULL);
  nc_autojson json_t *fitting = nc_fleet_placement_pick(placement, false),
                     *refused = nc_fleet_placement_pick(placement, true);

  if (nc_json_bool_or(placement, "is_stopped", false))
    printf("%s is stopped, and only a running machine can be migrated. If it ran:\n", machine);
  printf("%s %s%s.\n", machine, chosen ? "would go to " : "can go nowhere now", chosen ? chosen : "");
  nc_fleet_print_reasons(stdout, fitting);
  if (json_array_size(refused) > 0)
    printf("Not to\n");
  nc_fleet_print_reasons(stdout, refused);
  if (nc_json_int_or(placement, "nodes_left_out", 0) > 0)
    printf("%" PRId64 " more nodes are not told of.\n", nc_json_int_or(placement, "nodes_left_out", 0));
}

static void
nc_fleet_add_wave(NcTable *table, size_t number, json_t *wave)
{
  g_autofree char *n = g_strdup_printf("%zu", number);
  g_autofree char *moves = g_strdup_printf("%" PRId64, nc_json_int_or(wave, "moves", 0));
  g_autofree char *memory = nc_format_bytes((int64_t)nc_fleet_number(wave, "memory_bytes"));
  g_autofree char *wire = nc_format_bytes((int64_t)nc_fleet_number(wave, "wire_bytes"));
  g_autofree char *time = nc_fleet_seconds(wave, "seconds"), *pause = nc_fleet_seconds(wave, "pause_s");
  const char *const cells[] = { n, moves, memory, wire, time, pause };

  nc_table_add(table, cells);
}

static void
nc_fleet_print_waves(json_t *waves)
{
  static const NcColumn columns[] = {
    { .title = "WAVE", .right = true },   { .title = "MOVES", .right = true },
    { .title = "MEMORY", .right = true }, { .title = "WIRE", .right = true },
    { .title = "TIME", .right = true },   { .title = "LONGEST PAUSE", .right = true },
  };
  g_autoptr(NcTable) table = nc_table_new(columns, G_N_ELEMENTS(columns));
  json_t *wave;
  size_t i;

  json_array_foreach(waves, i, wave) if (i < NC_FLEET_MOST_ROWS) nc_fleet_add_wave(table, i + 1, wave);
  nc_table_print(table, "There is nothing to move.");
  nc_fleet_print_rest(stdout, json_array_size(waves));
}

static void
nc_fleet_add_move(NcTable *table, json_t *move)
{
  g_autofree char *wave = g_strdup_printf("%" PRId64, nc_json_int_or(move, "wave", 0) + 1); /* people count from 1 */
  g_autofree char *time = nc_fleet_seconds(move, "seconds"), *pause = nc_fleet_seconds(move, "pause_s");
  const char *const cells[] = { nc_fleet_text(move, "machine"),
                                nc_fleet_text(move, "source"),
                                nc_fleet_text(move, "destination"),
                                wave,
                                time,
                                pause,
                                nc_json_bool_or(move, "postcopy", false) ? "post-copy" : "pre-copy" };

  nc_table_add(table, cells);
}

static void
nc_fleet_print_moves(json_t *moves)
{
  static const NcColumn columns[] = {
    { .title = "MACHINE", .shrink = true },
    { .title = "FROM", .shrink = true },
    { .title = "TO", .shrink = true },
    { .title = "WAVE", .right = true },
    { .title = "TIME", .right = true },
    { .title = "PAUSE", .right = true },
    { .title = "HOW" },
  };
  g_autoptr(NcTable) table = nc_table_new(columns, G_N_ELEMENTS(columns));
  json_t *move;
  size_t i;

  if (json_array_size(moves) == 0)
    return;
  json_array_foreach(moves, i, move) if (i < NC_FLEET_MOST_ROWS) nc_fleet_add_move(table, move);
  puts("");
  nc_table_print(table, "");
  nc_fleet_print_rest(stdout, json_array_size(moves));
}

void
nc_fleet_print_plan(json_t *plan)
{
  json_t *stuck = json_object_get(plan, "cannot_move"), *moves = json_object_get(plan, "moves");
  g_autofree char *nodes = nc_fleet_join(json_object_get(plan, "nodes")), *time = nc_fleet_seconds(plan, "seconds");
  bool is_at_least = nc_json_bool_or(plan, "is_at_least", false);
  g_autofree char *title = g_strdup_printf("Evacuation of %s: %zu to move in %s%s, %zu can't move.%s", nodes, json_array_size(moves),
                                           is_at_least ? "at least " : "", time, json_array_size(stuck),
                                           is_at_least ? " How fast they go is not known: a node on the way has no bandwidth_total." : "");

  nc_print_paragraph(stdout, 0, title);
  nc_fleet_print_waves(json_object_get(plan, "waves"));
  nc_fleet_print_moves(moves);
  if (json_array_size(stuck) == 0)
    return;
  puts("\nCan't move:");
  nc_fleet_print_reasons(stdout, stuck);
}
