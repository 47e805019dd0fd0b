/* SPDX-License-Identifier: Apache-2.0 */
/* The lists of fleet_view.h, as tables. */
#include "cli/fleet_pieces.h"
#include "cli/fleet_view.h"
#include "cli/table.h"
#include "cli/units.h"

#include <inttypes.h>

void
nc_fleet_print_status(json_t *status)
{
  const char *holder = nc_fleet_text(status, "holder"), *address = nc_fleet_text(status, "address");

  nc_print_fact("asked", "node %s: %s", nc_json_string_or(status, "controller", "?"),
                nc_json_bool_or(status, "leads", false) ? "its controller leads" : "its controller does not lead");
  nc_print_fact("leader", "%s%s%s%s", holder[0] ? holder : "nobody", address[0] ? " (" : "", address,
                address[0] ? ")" : "");
  nc_print_fact("epoch", "%" PRId64, nc_json_int_or(status, "epoch", 0));
}

/* Calls ${add} for each of the list's rows. */
static void
nc_fleet_print_list(json_t *list, const NcColumn *columns, size_t count, void (*add)(NcTable *, json_t *),
                    const char *empty)
{
  g_autoptr(NcTable) table = nc_table_new(columns, count);
  json_t *row;
  size_t i;

  json_array_foreach(json_object_get(list, "items"), i, row) add(table, row);
  nc_table_print(table, empty);
}

/* How long ago; by a controller that does not lead, nothing is known. NULL then. */
static char *
nc_fleet_heard(json_t *node)
{
  if (!json_is_integer(json_object_get(node, "heard_s")))
    return NULL;
  g_autofree char *ago = nc_fleet_seconds(node, "heard_s");
  return g_strdup_printf("%s ago%s", ago, nc_json_bool_or(node, "is_silent", false) ? ": silent" : "");
}

static void
nc_fleet_add_node(NcTable *table, json_t *node)
{
  const char *evacuation = nc_fleet_text(node, "evacuation");
  g_autofree char *cpus = g_strdup_printf("%" PRId64, nc_json_int_or(node, "cpus", 0));
  g_autofree char *memory = nc_format_bytes(nc_json_int_or(node, "memory_bytes", 0));
  g_autofree char *heard = nc_fleet_heard(node);
  bool is_silent = nc_json_bool_or(node, "is_silent", false);
  const char *state = evacuation[0] ? "evacuating" : nc_json_bool_or(node, "is_cordoned", false) ? "cordoned" : is_silent ? "silent" : "open";
  const char *const cells[] = {
    nc_fleet_text(node, "name"), state, cpus, memory, nc_fleet_text(node, "address"), heard
  };

  nc_table_add(table, cells);
}

void
nc_fleet_print_nodes(json_t *list)
{
  static const NcColumn columns[] = {
    { .title = "NAME", .shrink = true },    { .title = "STATE" },
    { .title = "CPUS", .right = true },     { .title = "MEMORY", .right = true },
    { .title = "ADDRESS", .shrink = true }, { .title = "HEARD" },
  };
  nc_fleet_print_list(list, columns, G_N_ELEMENTS(columns), nc_fleet_add_node, "The controller has seen no nodes.");
}

static void
nc_fleet_add_machine(NcTable *table, json_t *machine)
{
  g_autofree char *cpus = g_strdup_printf("%" PRId64, nc_json_int_or(machine, "cpus", 0));
  g_autofree char *memory = nc_format_bytes(nc_json_int_or(machine, "memory_bytes", 0));
  g_autofree char *seen = nc_fleet_time(machine, "seen_us");
  const char *const cells[] = { nc_fleet_text(machine, "name"),
                                nc_fleet_text(machine, "node"),
                                nc_fleet_text(machine, "state"),
                                nc_fleet_text(machine, "priority"),
                                cpus,
                                memory,
                                seen };

  nc_table_add(table, cells);
}

void
nc_fleet_print_machines(json_t *list)
{
  static const NcColumn columns[] = {
    { .title = "NAME", .shrink = true },
    { .title = "NODE", .shrink = true },
    { .title = "STATE", .shrink = true },
    { .title = "PRIORITY" },
    { .title = "CPUS", .right = true },
    { .title = "MEMORY", .right = true },
    { .title = "SEEN" },
  };
  nc_fleet_print_list(list, columns, G_N_ELEMENTS(columns), nc_fleet_add_machine,
                      "The controller has seen no machines.");
}

static void
nc_fleet_add_migration(NcTable *table, json_t *m)
{
  g_autofree char *attempts = g_strdup_printf("%" PRId64, nc_json_int_or(m, "attempts", 0));
  const char *const cells[] = { nc_fleet_text(m, "id"),
                                nc_fleet_text(m, "machine"),
                                nc_fleet_text(m, "source"),
                                nc_fleet_text(m, "destination"),
                                nc_fleet_text(m, "state"),
                                nc_fleet_text(m, "priority"),
                                attempts };

  nc_table_add(table, cells);
}

void
nc_fleet_print_migrations(json_t *list)
{
  static const NcColumn columns[] = {
    { .title = "ID" },
    { .title = "MACHINE", .shrink = true },
    { .title = "FROM", .shrink = true },
    { .title = "TO", .shrink = true },
    { .title = "STATE" },
    { .title = "PRIORITY" },
    { .title = "TRY", .right = true },
  };
  nc_fleet_print_list(list, columns, G_N_ELEMENTS(columns), nc_fleet_add_migration, "No migrations.");
}

static void
nc_fleet_add_ended(NcTable *table, json_t *m)
{
  g_autofree char *ended = nc_fleet_time(m, "finished_us");
  const char *const cells[] = { nc_fleet_text(m, "id"),     nc_fleet_text(m, "machine"),
                                nc_fleet_text(m, "source"), nc_fleet_text(m, "destination"),
                                nc_fleet_text(m, "state"),  ended };

  nc_table_add(table, cells);
}

void
nc_fleet_print_history(json_t *list)
{
  static const NcColumn columns[] = {
    { .title = "ID" },
    { .title = "MACHINE", .shrink = true },
    { .title = "FROM", .shrink = true },
    { .title = "TO", .shrink = true },
    { .title = "STATE" },
    { .title = "ENDED" },
  };
  nc_fleet_print_list(list, columns, G_N_ELEMENTS(columns), nc_fleet_add_ended, "No migration has ended.");
}

static void
nc_fleet_add_item(NcTable *table, json_t *item)
{
  const char *migration = nc_fleet_text(item, "migration"), *state = nc_fleet_text(item, "state");
  g_autofree char *wave = g_strdup_printf("%" PRId64, nc_json_int_or(item, "wave", 0) + 1); /* people count from 1 */
  const char *const cells[] = { nc_fleet_text(item, "machine"),
                                nc_fleet_text(item, "source"),
                                nc_json_string_or(item, "goes_to", nc_fleet_text(item, "destination")), /* older: the plan's */
                                wave,
                                state[0]                           ? state
                                : migration[0]                     ? "forgotten"
                                : nc_fleet_text(item, "reason")[0] ? "not moved"
                                                                   : "waits",
                                migration };

  nc_table_add(table, cells);
}

void
nc_fleet_print_items(json_t *list)
{
  static const NcColumn columns[] = {
    { .title = "MACHINE", .shrink = true },
    { .title = "FROM", .shrink = true },
    { .title = "TO", .shrink = true },
    { .title = "WAVE", .right = true },
    { .title = "STATE" },
    { .title = "MIGRATION" },
  };
  nc_autojson json_t *told = json_array();
  json_t *item;
  size_t i;

  nc_fleet_print_list(list, columns, G_N_ELEMENTS(columns), nc_fleet_add_item, "It has no machines.");
  json_array_foreach(json_object_get(list, "items"), i,
                     item) if (nc_fleet_text(item, "reason")[0] &&
                               !g_str_equal(nc_fleet_text(item, "state"), "completed")) json_array_append(told, item);
  if (json_array_size(told) == 0)
    return;
  puts("\nBecause:");
  nc_fleet_print_reasons(stdout, told);
}

static void
nc_fleet_add_evacuation(NcTable *table, json_t *evacuation)
{
  g_autofree char *nodes = nc_fleet_join(json_object_get(evacuation, "nodes")), *created = nc_fleet_time(evacuation, "created_us");
  const char *const cells[] = { nc_fleet_text(evacuation, "id"), nodes, nc_fleet_text(evacuation, "state"), created };

  nc_table_add(table, cells);
}

void
nc_fleet_print_evacuations(json_t *list)
{
  static const NcColumn columns[] = {
    { .title = "ID" }, { .title = "NODES", .shrink = true }, { .title = "STATE" }, { .title = "ASKED FOR" },
  };

  nc_fleet_print_list(list, columns, G_N_ELEMENTS(columns), nc_fleet_add_evacuation, "No evacuations.");
}

static void
nc_fleet_add_batch(NcTable *table, json_t *batch)
{
  g_autofree char *created = nc_fleet_time(batch, "created_us");
  const char *const cells[] = { nc_fleet_text(batch, "id"), nc_fleet_text(batch, "policy"), created, nc_fleet_text(batch, "actor") };

  nc_table_add(table, cells);
}

void
nc_fleet_print_batches(json_t *list)
{
  static const NcColumn columns[] = { { .title = "ID" }, { .title = "POLICY" }, { .title = "ASKED FOR" }, { .title = "BY", .shrink = true } };

  nc_fleet_print_list(list, columns, G_N_ELEMENTS(columns), nc_fleet_add_batch, "No batches.");
}
