/* SPDX-License-Identifier: Apache-2.0 */
/* The table of endpoints, and finding a row in it. */
#include "gate/routes.h"
#include "base/ident.h"
#include "base/tcp.h"
#include "gate/gate_limits.h"
#include "gate/other_names.h"

#include <string.h>

static bool
nc_path_is_absolute(const char *text)
{
  return text[0] == '/';
}

static bool
nc_paths_are_valid(const char *text)
{
  g_auto(GStrv) paths = nc_tcp_paths_parse(text);
  return paths != NULL;
}

static bool
nc_action_is_known(const char *text)
{
  return g_str_equal(text, "run_here") || g_str_equal(text, "give_up");
}

static bool
nc_algorithm_is_known(const char *text)
{
  static const char *const names[] = { "auto", "pre-copy", "post-copy", "hybrid", NULL };
  return g_strv_contains(names, text);
}

static bool
nc_disk_chain_is_known(const char *text)
{
  static const char *const names[] = { "flatten", "keep", "trust", NULL };
  return g_strv_contains(names, text);
}

static bool
nc_qos_is_known(const char *text)
{
  static const char *const classes[] = { "background", "normal", "high", "critical", NULL };
  return g_strv_contains(classes, text);
}

static bool
nc_checkpoint_mode_is_known(const char *text)
{
  static const char *const names[] = { "auto", "background", "stop", NULL };
  return g_strv_contains(names, text);
}

static bool
nc_priority_is_known(const char *text)
{
  static const char *const names[] = { "critical", "high", "normal", "low", NULL };
  return g_strv_contains(names, text);
}

/* nc_move_state_name() of the fleet's database. */
static bool
nc_fleet_state_is_known(const char *text)
{
  static const char *const names[] = { "queued", "backoff", "starting", "running", "completed", "failed", "refused", "cancelled", NULL };
  return g_strv_contains(names, text);
}

static bool
nc_policy_is_known(const char *text)
{
  return g_str_equal(text, "all") || g_str_equal(text, "any");
}

#define NAME(key_, required_)                                                                                          \
  {                                                                                                                    \
    .key = (key_), .type = NC_FIELD_STRING, .required = (required_), .minimum = 1, .maximum = 63,                      \
    .check = nc_name_is_valid, .rule = "a name: 1 to 63 letters, digits, '.', '_' or '-', the first a letter or digit" \
  }
#define INTEGER(key_, minimum_, maximum_)                                                                              \
  {                                                                                                                    \
    .key = (key_), .type = NC_FIELD_INTEGER, .minimum = (minimum_), .maximum = (maximum_)                              \
  }
#define QOS                                                                                                            \
  {                                                                                                                    \
    .key = "qos", .type = NC_FIELD_STRING, .minimum = 1, .maximum = 32, .check = nc_qos_is_known,                      \
    .rule = "\"background\", \"normal\", \"high\" or \"critical\""                                                     \
  }
#define BANDWIDTH INTEGER("bandwidth_limit_bps", 0, INT64_C(1000000000000))
#define DOWNTIME INTEGER("max_downtime_ms", 1, 2000000) /* QEMU takes no more */
#define ALGORITHM                                                                                                      \
  {                                                                                                                    \
    .key = "algorithm", .type = NC_FIELD_STRING, .minimum = 4, .maximum = 16, .check = nc_algorithm_is_known,          \
    .rule = "\"auto\", \"pre-copy\", \"post-copy\" or \"hybrid\""                                                      \
  }
#define DISK_CHAIN                                                                                                     \
  {                                                                                                                    \
    .key = "disk_chain", .type = NC_FIELD_STRING, .minimum = 4, .maximum = 16, .check = nc_disk_chain_is_known,        \
    .rule = "\"flatten\", \"keep\" or \"trust\""                                                                       \
  }
#define COMPRESSION                                                                                                    \
  {                                                                                                                    \
    .key = "compression", .type = NC_FIELD_STRING, .minimum = 3, .maximum = 16, .check = nc_compression_is_valid,      \
    .rule = "\"auto\", \"none\", \"lz4\", \"zstd\" or \"zstd:LEVEL\" with a level from -5 to 9 except 0"               \
  }
#define PRIORITY(...)                                                                                                  \
  {                                                                                                                    \
    .key = "priority", .type = NC_FIELD_STRING, .minimum = 3, .maximum = 16, .check = nc_priority_is_known,            \
    .rule = "\"critical\", \"high\", \"normal\" or \"low\"", __VA_ARGS__                                               \
  }
/* The same by other names: gate/other_names.h. */
#define OTHER_NAMES                                                                                                    \
  { .key = "max_downtime", .type = NC_FIELD_STRING, .minimum = 2, .maximum = 32, .check = nc_pause_is_valid,           \
    .rule = "a duration of 1ms to 2000s, like \"300ms\" or \"1.5s\"", .as = "max_downtime_ms", .convert = nc_pause_to_ms },                                \
      { .key = "bandwidth_limit", .type = NC_FIELD_INTEGER, .minimum = 0, .maximum = INT64_C(1000000000000), .as = "bandwidth_limit_bps" },                  \
      { .key = "target_transfer_rate", .type = NC_FIELD_INTEGER, .minimum = 0, .maximum = INT64_C(1000000000000), .as = "target_rate_bps" },                  \
      { .key = "type", .type = NC_FIELD_STRING, .minimum = 4, .maximum = 16, .check = nc_type_is_known,                \
        .rule = "\"live\", \"pre-copy\", \"post-copy\" or \"hybrid\"", .as = "algorithm", .convert = nc_type_to_algorithm }
#define TARGET INTEGER("target_rate_bps", 0, INT64_C(1000000000000))
#define PATHS                                                                                                          \
  {                                                                                                                    \
    .key = "paths", .type = NC_FIELD_STRING, .minimum = 3, .maximum = 2048, .check = nc_paths_are_valid,               \
    .rule = "paths of the form [LOCAL>]HOST:PORT with commas between them, 8 at most"                                  \
  }
#define NC_KEEP_MAX_S (366 * 86400)
#define SCHEMA(name_, fields_, ...)                                                                                    \
  {                                                                                                                    \
    .name = (name_), .fields = (fields_), .n_fields = G_N_ELEMENTS(fields_), __VA_ARGS__                               \
  }

static const NcField nc_token_fields[] = { INTEGER("ttl_s", 60, 604800), NAME("name", false) };
static const NcSchema nc_token_schema = SCHEMA("TokenRequest", nc_token_fields, .optional = true);

static const NcField nc_renew_fields[] = { INTEGER("days", 1, 7300), NAME("from", false) };
static const NcSchema nc_renew_schema = SCHEMA("RenewRequest", nc_renew_fields, .optional = true);

static bool
nc_role_is_known(const char *text)
{
  NcRole role;
  return nc_role_from_name(text, &role);
}

static bool
nc_scope_is_known(const char *text)
{
  return g_str_equal(text, "node") || g_str_equal(text, "fleet");
}

static const NcField nc_bearer_fields[] = {
  NAME("subject", true),
  { .key = "role", .type = NC_FIELD_STRING, .required = true, .minimum = 5, .maximum = 16, .check = nc_role_is_known,
    .rule = "\"viewer\", \"operator\" or \"admin\"" },
  INTEGER("expires_s", 0, INT64_C(316224000)), /* ten years */
  { .key = "scope", .type = NC_FIELD_STRING, .minimum = 4, .maximum = 16, .check = nc_scope_is_known,
    .rule = "\"node\" or \"fleet\"" },
};
static const NcSchema nc_bearer_schema = SCHEMA("BearerRequest", nc_bearer_fields);

static const NcField nc_machine_fields[] = { NAME("name", true) };
static const NcSchema nc_machine_schema = SCHEMA("MachineSpec", nc_machine_fields, .open = true, .wrap = "spec");

static const NcField nc_start_fields[] = { { .key = "take", .type = NC_FIELD_BOOLEAN } };
static const NcSchema nc_start_schema = SCHEMA("StartRequest", nc_start_fields, .optional = true);
static const NcField nc_stop_fields[] = { { .key = "force", .type = NC_FIELD_BOOLEAN } };
static const NcSchema nc_stop_schema = SCHEMA("StopRequest", nc_stop_fields, .optional = true);

static const NcField nc_adopt_fields[] = {
  NAME("name", true),
  { .key = "qmp",
    .type = NC_FIELD_STRING,
    .required = true,
    .minimum = 2,
    .maximum = 107, /* sun_path */
    .check = nc_path_is_absolute,
    .rule = "the absolute path of a QMP socket" },
};
static const NcSchema nc_adopt_schema = SCHEMA("AdoptRequest", nc_adopt_fields);

static const NcField nc_migration_fields[] = {
  NAME("vm", true),
  NAME("to", true),
  DOWNTIME,
  BANDWIDTH,
  QOS,
  ALGORITHM,
  COMPRESSION,
  INTEGER("streams", 1, 16),
  INTEGER("max_cpu", 1, 100),
  INTEGER("max_throttle", 0, 99),
  INTEGER("convergence_timeout_ms", 0, 86400000),
  INTEGER("retry_attempts", 0, 100),
  { .key = "checkpoint", .type = NC_FIELD_BOOLEAN },
  INTEGER("checkpoint_keep_s", 0, NC_KEEP_MAX_S),
  DISK_CHAIN,
  PATHS,
  TARGET,
  OTHER_NAMES,
  PRIORITY(.as = "qos", .convert = nc_priority_to_qos, .yields = true),
};
static const NcSchema nc_migration_schema = SCHEMA("MigrationRequest", nc_migration_fields);

static const NcField nc_check_fields[] = { NAME("vm", true), NAME("to", true), DISK_CHAIN };
static const NcSchema nc_check_schema = SCHEMA("CheckRequest", nc_check_fields);

static const NcField nc_plan_fields[] = { NAME("vm", true), NAME("to", true), DOWNTIME, BANDWIDTH, ALGORITHM, COMPRESSION, DISK_CHAIN };
static const NcSchema nc_plan_schema = SCHEMA("PlanRequest", nc_plan_fields);

static const NcField nc_limit_fields[] = { BANDWIDTH, QOS };
static const NcSchema nc_limit_schema = SCHEMA("LimitRequest", nc_limit_fields);

static const NcField nc_resolve_fields[] = {
  { .key = "action",
    .type = NC_FIELD_STRING,
    .required = true,
    .minimum = 1,
    .maximum = 32,
    .check = nc_action_is_known,
    .rule = "\"run_here\" or \"give_up\"" },
};
static const NcSchema nc_resolve_schema = SCHEMA("ResolveRequest", nc_resolve_fields);

static bool
nc_head_is_valid(const char *text)
{
  const char *colon = strchr(text, ':');
  return colon && colon > text && colon - text <= 19 && strspn(text, "0123456789") == (size_t)(colon - text) && strlen(colon + 1) == 64 &&
         strspn(colon + 1, "0123456789abcdef") == 64;
}

static const NcField nc_rollback_fields[] = {
  { .key = "back", .type = NC_FIELD_BOOLEAN },
  { .key = "to_checkpoint", .type = NC_FIELD_BOOLEAN },
  NAME("checkpoint", false),
};
static const NcSchema nc_rollback_schema = SCHEMA("RollbackRequest", nc_rollback_fields, .optional = true);

static const NcField nc_audit_fields[] = { INTEGER("limit", 1, 1000), INTEGER("before", 1, INT64_MAX), NAME("kind", false), NAME("about", false) };
static const NcSchema nc_audit_schema = SCHEMA("", nc_audit_fields);

static const NcField nc_verify_fields[] = {
  { .key = "expect", .type = NC_FIELD_STRING, .minimum = 66, .maximum = 84, .check = nc_head_is_valid,
    .rule = "SEQ:HASH, an entry's number and its SHA-256 in lower-case hexadecimal" },
};
static const NcSchema nc_verify_schema = SCHEMA("VerifyRequest", nc_verify_fields, .optional = true);

static const NcField nc_checkpoint_fields[] = {
  { .key = "mode",
    .type = NC_FIELD_STRING,
    .minimum = 4,
    .maximum = 16,
    .check = nc_checkpoint_mode_is_known,
    .rule = "\"auto\", \"background\" or \"stop\"" },
  { .key = "label", .type = NC_FIELD_STRING, .minimum = 0, .maximum = 200 },
};
static const NcSchema nc_checkpoint_schema = SCHEMA("CheckpointRequest", nc_checkpoint_fields, .optional = true);

static const NcField nc_schedule_fields[] = {
  { .key = "every_s", .type = NC_FIELD_INTEGER, .required = true, .minimum = 0, .maximum = 366 * 86400 },
  INTEGER("keep", 1, 1000),
};
static const NcSchema nc_schedule_schema = SCHEMA("ScheduleRequest", nc_schedule_fields);

static const NcField nc_restore_fields[] = {
  NAME("as", false),
  { .key = "disk_dir",
    .type = NC_FIELD_STRING,
    .minimum = 1,
    .maximum = 4000,
    .check = nc_path_is_absolute,
    .rule = "an absolute directory" },
  { .key = "force", .type = NC_FIELD_BOOLEAN },
  { .key = "paused", .type = NC_FIELD_BOOLEAN },
  { .key = "take", .type = NC_FIELD_BOOLEAN },
  NAME("on", false),
};
static const NcSchema nc_restore_schema = SCHEMA("RestoreRequest", nc_restore_fields, .optional = true);

static const NcField nc_copy_fields[] = { NAME("to", true) };
static const NcSchema nc_copy_schema = SCHEMA("CopyRequest", nc_copy_fields);

static const NcField nc_store_verify_fields[] = { { .key = "rebuild_index", .type = NC_FIELD_BOOLEAN } };
static const NcSchema nc_store_verify_schema = SCHEMA("StoreVerifyRequest", nc_store_verify_fields, .optional = true);

static const NcField nc_store_gc_fields[] = { { .key = "dry_run", .type = NC_FIELD_BOOLEAN } };
static const NcSchema nc_store_gc_schema = SCHEMA("StoreGcRequest", nc_store_gc_fields, .optional = true);

/* --- the fleet --- */

/* How to move a machine, of one or of many (src/controller/wish.h). */
#define FLEET_SETTINGS                                                                                                 \
  PRIORITY(), QOS, BANDWIDTH, INTEGER("retry_attempts", 0, 100), DOWNTIME, ALGORITHM, COMPRESSION, INTEGER("streams", 1, 16),  \
      INTEGER("max_cpu", 1, 100), INTEGER("max_throttle", 0, 99), INTEGER("convergence_timeout_ms", 0, 86400000),      \
      { .key = "checkpoint", .type = NC_FIELD_BOOLEAN }, INTEGER("checkpoint_keep_s", 0, NC_KEEP_MAX_S), PATHS, DISK_CHAIN,   \
      TARGET, OTHER_NAMES

static const NcField nc_fleet_migration_fields[] = {
  NAME("machine", true),
  NAME("destination", false),
  { .key = "destination_is_wish", .type = NC_FIELD_BOOLEAN },
  FLEET_SETTINGS,
};
static const NcSchema nc_fleet_migration_schema = SCHEMA("FleetMigrationRequest", nc_fleet_migration_fields);

static const NcField nc_batch_fields[] = {
  { .key = "policy", .type = NC_FIELD_STRING, .minimum = 3, .maximum = 16, .check = nc_policy_is_known, .rule = "\"all\" or \"any\"" },
  { .key = "migrations", .type = NC_FIELD_ARRAY, .required = true, .minimum = 1, .maximum = 1000, .object = &nc_fleet_migration_schema },
};
static const NcSchema nc_batch_schema = SCHEMA("BatchRequest", nc_batch_fields);

static const NcField nc_node_name = NAME("node", true);
static const NcField nc_evacuation_fields[] = {
  { .key = "nodes", .type = NC_FIELD_ARRAY, .required = true, .minimum = 1, .maximum = 100, .item = &nc_node_name },
  { .key = "allow_partial", .type = NC_FIELD_BOOLEAN },
  FLEET_SETTINGS,
};
static const NcSchema nc_evacuation_schema = SCHEMA("EvacuationRequest", nc_evacuation_fields);

#define REASON { .key = "reason", .type = NC_FIELD_STRING, .minimum = 1, .maximum = 512 }
static const NcField nc_fleet_cancel_fields[] = { REASON };
static const NcSchema nc_fleet_cancel_schema = SCHEMA("FleetCancelRequest", nc_fleet_cancel_fields, .optional = true);
static const NcField nc_group_cancel_fields[] = { { .key = "also_running", .type = NC_FIELD_BOOLEAN }, REASON };
static const NcSchema nc_group_cancel_schema = SCHEMA("GroupCancelRequest", nc_group_cancel_fields, .optional = true);

/* What the fleet's database has at the end of a page (docs/fleet-database.md), and agent/list_page.h. */
static bool
nc_named_cursor_is_valid(const char *text)
{
  size_t kind = strspn(text, "abcdefghijklmnopqrstuvwxyz");
  return kind > 0 && text[kind] == ':' && nc_name_is_valid(text + kind + 1);
}

#define PAGE                                                                                                     \
  INTEGER("limit", 1, 1000),                                                                                           \
  {                                                                                                                    \
    .key = "cursor", .type = NC_FIELD_STRING, .minimum = 3, .maximum = 128, .check = nc_named_cursor_is_valid,         \
    .rule = "what the page before had as \"next\""                                                                     \
  }

static const NcField nc_page_fields[] = { PAGE };
static const NcSchema nc_page_query = SCHEMA("", nc_page_fields);
static const NcField nc_fleet_machines_fields[] = { PAGE, NAME("node", false) };
static const NcSchema nc_fleet_machines_query = SCHEMA("", nc_fleet_machines_fields);
static const NcField nc_evacuations_fields[] = { PAGE, { .key = "unfinished", .type = NC_FIELD_BOOLEAN } };
static const NcSchema nc_evacuations_query = SCHEMA("", nc_evacuations_fields);
static const NcField nc_fleet_list_fields[] = {
  PAGE,
  { .key = "unfinished", .type = NC_FIELD_BOOLEAN },
  { .key = "finished", .type = NC_FIELD_BOOLEAN },
  NAME("machine", false),
  NAME("node", false),
  NAME("batch", false),
  NAME("evacuation", false),
  { .key = "state", .type = NC_FIELD_STRING, .minimum = 6, .maximum = 16, .check = nc_fleet_state_is_known,
    .rule = "\"queued\", \"backoff\", \"starting\", \"running\", \"completed\", \"failed\", \"refused\" or \"cancelled\"" },
};
static const NcSchema nc_fleet_list_query = SCHEMA("", nc_fleet_list_fields);
static const NcField nc_fleet_events_fields[] = { INTEGER("limit", 1, 1000), INTEGER("after", 0, INT64_MAX), NAME("migration", false) };
static const NcSchema nc_fleet_events_query = SCHEMA("", nc_fleet_events_fields);

/* --- lists of one node --- */

static bool
nc_cursor_is_valid(const char *text)
{
  return text[0] == 'm' && text[1] && strspn(text + 1, "0123456789") == strlen(text + 1);
}

static bool
nc_state_is_valid(const char *text)
{
  return strspn(text, "abcdefghijklmnopqrstuvwxyz_-") == strlen(text);
}

/* What openapi.json's pattern says; whether there is such a day is novacrond's to find out. */
static bool
nc_time_is_valid(const char *text)
{
  static const char form[] = "0000-00-00T00:00:00";
  size_t i = 0;

  for (; form[i]; i++)
    if (form[i] == '0' ? !g_ascii_isdigit(text[i]) : text[i] != form[i])
      return false;
  if (text[i] == '.') {
    size_t digits = strspn(text + i + 1, "0123456789");
    if (digits < 1 || digits > 6)
      return false;
    i += 1 + digits;
  }
  return g_str_equal(text + i, "Z");
}

static const NcField nc_list_fields[] = {
  INTEGER("limit", 1, 1000),
  { .key = "cursor", .type = NC_FIELD_STRING, .minimum = 2, .maximum = 19, .check = nc_cursor_is_valid,
    .rule = "what the page before had as \"next\"" },
  NAME("machine", false),
  NAME("node", false),
  { .key = "state", .type = NC_FIELD_STRING, .minimum = 1, .maximum = 32, .check = nc_state_is_valid,
    .rule = "a state, phase or outcome, \"active\" or \"ended\"" },
  { .key = "since", .type = NC_FIELD_STRING, .minimum = 20, .maximum = 27, .check = nc_time_is_valid,
    .rule = "a time in UTC like 2026-01-02T03:04:05Z" },
};
static const NcSchema nc_list_schema = SCHEMA("", nc_list_fields);

static const NcField nc_watch_fields[] = { INTEGER("since", 0, INT64_MAX) };
static const NcSchema nc_watch_schema = SCHEMA("", nc_watch_fields);

#define READ(pattern_, op_, ...)                                                                                       \
  {                                                                                                                    \
    .method = "GET", .pattern = "/api/v2/" pattern_, .op = (op_), .role = NC_ROLE_VIEWER, .status = 200,               \
    .answer_ms = NC_GATE_ANSWER_MS, __VA_ARGS__                                                                        \
  }
/* Changes nothing, takes its time, and has a body. */
#define LOOK(method_, pattern_, op_, ...)                                                                              \
  {                                                                                                                    \
    .method = (method_), .pattern = "/api/v2/" pattern_, .op = (op_), .role = NC_ROLE_VIEWER, .status = 200,           \
    .answer_ms = NC_GATE_SLOW_ANSWER_MS, __VA_ARGS__                                                                   \
  }
/* A WebSocket. */
#define WATCH(pattern_, op_, ...)                                                                                      \
  {                                                                                                                    \
    .method = "GET", .pattern = "/api/v2/" pattern_, .op = (op_), .query = &nc_watch_schema, .role = NC_ROLE_VIEWER,   \
    .status = 101, .watch = true, .answer_ms = NC_GATE_ANSWER_MS, __VA_ARGS__                                          \
  }
#define CHANGE_WITHIN(role_, answer_ms_, method_, pattern_, op_, status_, ...)                                                \
  {                                                                                                                    \
    .method = (method_), .pattern = "/api/v2/" pattern_, .op = (op_), .role = (role_), .status = (status_),            \
    .answer_ms = (answer_ms_), __VA_ARGS__                                                                             \
  }
/* Slow: it waits for a QEMU or its guest, or decides about many. */
#define OPERATE(...) CHANGE_WITHIN(NC_ROLE_OPERATOR, NC_GATE_ANSWER_MS, __VA_ARGS__, .is_keyed = true)
#define SLOW_OPERATE(...) CHANGE_WITHIN(NC_ROLE_OPERATOR, NC_GATE_SLOW_ANSWER_MS, __VA_ARGS__, .is_keyed = true)
#define ADMINISTER(...) CHANGE_WITHIN(NC_ROLE_ADMIN, NC_GATE_ANSWER_MS, __VA_ARGS__, .is_keyed = true)
#define SLOW_ADMINISTER(...) CHANGE_WITHIN(NC_ROLE_ADMIN, NC_GATE_SLOW_ANSWER_MS, __VA_ARGS__, .is_keyed = true)
/* Without an idempotency key: its answer is a secret, which is not kept; or nothing changes, and it is for operators all the same. */
#define REVEAL(...) CHANGE_WITHIN(NC_ROLE_ADMIN, NC_GATE_ANSWER_MS, __VA_ARGS__)
#define EXAMINE(...) CHANGE_WITHIN(NC_ROLE_OPERATOR, NC_GATE_SLOW_ANSWER_MS, __VA_ARGS__)
#define NEW_AT(what_, key_) .location = "/api/v2/" what_ "/%s", .location_key = (key_)
/* Several resources of the fleet share fleet.get and fleet.cancel, which tell them by their ids. */
#define FLEET_GET(what_, prefix_, operation_) READ("fleet/" what_ "/{id}", "fleet.get", .id_prefix = (prefix_), .operation = (operation_))
#define FLEET_WATCH(what_, prefix_, operation_)                                                                        \
  WATCH("fleet/" what_ "/{id}/ws", "fleet.watch", .id_prefix = (prefix_), .operation = (operation_))
#define FLEET_CANCEL(what_, prefix_, operation_, ...)                                                                  \
  OPERATE("POST", "fleet/" what_ "/{id}/cancel", "fleet.cancel", 202, .id_prefix = (prefix_),                           \
         .operation = (operation_), __VA_ARGS__)

const NcRoute nc_routes[] = {
  READ("openapi.json", NULL, .by = NC_BY_GATE_DOCUMENT, .operation = "openapi"),
  READ("whoami", NULL, .by = NC_BY_GATE_WHOAMI, .operation = "whoami"),
  READ("node", "node.info"),
  /* Where Prometheus looks by itself. */
  { .method = "GET", .pattern = "/metrics", .op = "node.metrics", .role = NC_ROLE_VIEWER, .status = 200, .text = true, .answer_ms = NC_GATE_ANSWER_MS },
  READ("alerts", "alert.list", .list = true),
  WATCH("alerts/ws", "alert.watch"),
  LOOK("POST", "node/checks", "node.checks"),
  SLOW_ADMINISTER("POST", "node/certificate", "node.renew", 200, .body = &nc_renew_schema),
  READ("nodes", "node.list", .list = true, .query = &nc_page_query),
  REVEAL("POST", "nodes/tokens", "node.token", 201, .body = &nc_token_schema),
  ADMINISTER("DELETE", "nodes/{name}", "node.remove", 200),
  { .method = "GET", .pattern = "/api/v2/tokens", .op = "token.list", .role = NC_ROLE_ADMIN, .status = 200, .list = true, .query = &nc_page_query, .answer_ms = NC_GATE_ANSWER_MS },
  REVEAL("POST", "tokens", "token.create", 201, .body = &nc_bearer_schema),
  ADMINISTER("DELETE", "tokens/{id}", "token.revoke", 200),
  READ("machines", "machine.list", .list = true, .query = &nc_page_query),
  ADMINISTER("POST", "machines", "machine.define", 201, .body = &nc_machine_schema, NEW_AT("machines", "name")),
  SLOW_ADMINISTER("POST", "machines/adopt", "machine.adopt", 201, .body = &nc_adopt_schema, NEW_AT("machines", "name")),
  READ("machines/{name}", "machine.get"),
  ADMINISTER("DELETE", "machines/{name}", "machine.destroy", 200),
  SLOW_OPERATE("POST", "machines/{name}/start", "machine.start", 200, .body = &nc_start_schema),
  SLOW_OPERATE("POST", "machines/{name}/stop", "machine.stop", 200, .body = &nc_stop_schema),
  READ("machines/{name}/checkpoints", "machine.checkpoints", .list = true, .query = &nc_page_query),
  SLOW_OPERATE("POST", "machines/{name}/checkpoints", "checkpoint.create", 201, .body = &nc_checkpoint_schema, NEW_AT("checkpoints", "id")),
  ADMINISTER("POST", "machines/{name}/checkpoint-schedule", "checkpoint.schedule", 200, .body = &nc_schedule_schema),
  READ("checkpoints", "checkpoint.list", .list = true, .query = &nc_page_query),
  READ("checkpoints/{id}", "checkpoint.get"),
  ADMINISTER("DELETE", "checkpoints/{id}", "checkpoint.delete", 200),
  OPERATE("POST", "checkpoints/{id}/verify", "checkpoint.verify", 202),
  OPERATE("POST", "checkpoints/{id}/copy", "checkpoint.copy", 202, .body = &nc_copy_schema),
  OPERATE("POST", "checkpoints/{id}/cancel", "checkpoint.cancel", 202),
  ADMINISTER("POST", "checkpoints/{id}/restore", "checkpoint.restore", 202, .body = &nc_restore_schema),
  READ("store", "store.status"),
  OPERATE("POST", "store/verify", "store.verify", 202, .body = &nc_store_verify_schema),
  OPERATE("POST", "store/gc", "store.gc", 202, .body = &nc_store_gc_schema),
  OPERATE("POST", "store/cancel", "store.cancel", 202),
  EXAMINE("POST", "checks", "migration.check", 200, .body = &nc_check_schema),
  EXAMINE("POST", "plans", "migration.plan", 200, .body = &nc_plan_schema),
  READ("migrations", "migration.list", .list = true, .query = &nc_list_schema),
  OPERATE("POST", "migrations", "migration.create", 201, .body = &nc_migration_schema, NEW_AT("migrations", "id")),
  READ("migrations/dashboard", "migration.dashboard"),
  READ("migrations/{id}", "migration.get", .fleet_op = "fleet.get"),
  READ("migrations/{id}/status", "migration.status", .fleet_op = "fleet.move_status"),
  READ("migrations/{id}/metrics", "migration.metrics"),
  WATCH("migrations/{id}/ws", "migration.watch", .fleet_op = "fleet.watch"),
  OPERATE("POST", "migrations/{id}/cancel", "migration.cancel", 202, .fleet_op = "fleet.cancel"),
  OPERATE("POST", "migrations/{id}/rollback", "migration.rollback", 202, .body = &nc_rollback_schema),
  READ("audit", "audit.list", .list = true, .query = &nc_audit_schema),
  LOOK("POST", "audit/verify", "audit.verify", .body = &nc_verify_schema),
  OPERATE("POST", "migrations/{id}/limits", "migration.limit", 200, .body = &nc_limit_schema),
  ADMINISTER("POST", "migrations/{id}/resolve", "migration.resolve", 202, .body = &nc_resolve_schema),
  READ("fleet", "fleet.status"),
  READ("fleet/nodes", "fleet.nodes", .list = true, .query = &nc_page_query),
  OPERATE("POST", "fleet/nodes/{name}/cordon", "fleet.cordon", 200, .key = "node"),
  OPERATE("POST", "fleet/nodes/{name}/uncordon", "fleet.uncordon", 200, .key = "node"),
  READ("fleet/machines", "fleet.machines", .list = true, .query = &nc_fleet_machines_query),
  READ("fleet/machines/{name}/placement", "fleet.explain"),
  READ("fleet/events", "fleet.events", .query = &nc_fleet_events_query),
  WATCH("fleet/events/ws", "fleet.watch", .operation = "fleet.events.watch"),
  READ("fleet/migrations", "fleet.list", .list = true, .query = &nc_fleet_list_query),
  OPERATE("POST", "fleet/migrations", "fleet.migrate", 201, .body = &nc_fleet_migration_schema,
         NEW_AT("fleet/migrations", "id")),
  FLEET_GET("migrations", "mig-", "fleet.migration.get"),
  FLEET_WATCH("migrations", "mig-", "fleet.migration.watch"),
  FLEET_CANCEL("migrations", "mig-", "fleet.migration.cancel", .body = &nc_fleet_cancel_schema),
  SLOW_OPERATE("POST", "migrations/batch", "fleet.batch", 201, .body = &nc_batch_schema,
              NEW_AT("fleet/batches", "id")),
  READ("fleet/batches", "fleet.batches", .list = true, .query = &nc_page_query),
  FLEET_GET("batches", "bat-", "fleet.batch.get"),
  FLEET_WATCH("batches", "bat-", "fleet.batch.watch"),
  FLEET_CANCEL("batches", "bat-", "fleet.batch.cancel", .body = &nc_group_cancel_schema),
  SLOW_OPERATE("POST", "migrations/evacuate", "fleet.evacuate", 201, .body = &nc_evacuation_schema,
              NEW_AT("fleet/evacuations", "id")),
  LOOK("POST", "fleet/evacuations/plan", "fleet.plan", .body = &nc_evacuation_schema),
  READ("fleet/evacuations", "fleet.evacuations", .list = true, .query = &nc_evacuations_query),
  FLEET_GET("evacuations", "eva-", "fleet.evacuation.get"),
  FLEET_WATCH("evacuations", "eva-", "fleet.evacuation.watch"),
  READ("fleet/evacuations/{id}/items", "fleet.items", .list = true, .query = &nc_page_query, .id_prefix = "eva-"),
  FLEET_CANCEL("evacuations", "eva-", "fleet.evacuation.cancel", .body = &nc_group_cancel_schema),
};
const size_t nc_n_routes = G_N_ELEMENTS(nc_routes);
const NcRoute nc_asset_route = { .method = "GET", .pattern = "/", .by = NC_BY_GATE_ASSET, .role = NC_ROLE_VIEWER, .status = 200 };

const char *
nc_route_op(const NcRouteMatch *match)
{
  const NcRoute *route = match->route;
  return route->fleet_op && nc_id_is_of_fleet(match->value) ? route->fleet_op : route->op;
}

/* Does ${path} fit ${pattern}? Fills key and value of ${ret} if the pattern has a parameter. */
static bool
nc_pattern_fits(const char *pattern, const char *path, NcRouteMatch *ret)
{
  const char *open = strchr(pattern, '{');

  if (!open)
    return g_str_equal(pattern, path);
  size_t prefix = (size_t)(open - pattern);
  if (strncmp(pattern, path, prefix) != 0)
    return false;
  const char *value = path + prefix, *rest = strchr(open, '}') + 1;
  size_t length = strcspn(value, "/");
  if (length == 0 || length >= sizeof ret->value || !g_str_equal(value + length, rest))
    return false;
  memcpy(ret->value, value, length);
  ret->value[length] = '\0';
  ret->key = g_str_has_prefix(open, "{id}") ? "id" : "name";
  return nc_name_is_valid(ret->value);
}

static bool
nc_method_is_known(const char *method)
{
  for (size_t i = 0; i < nc_n_routes; i++)
    if (g_str_equal(nc_routes[i].method, method))
      return true;
  return g_str_equal(method, "PUT") || g_str_equal(method, "PATCH") || g_str_equal(method, "OPTIONS");
}

static void
nc_allow_add(NcRouteMatch *match, const char *method)
{
  if (strstr(match->allow, method))
    return;
  if (match->allow[0])
    g_strlcat(match->allow, ", ", sizeof match->allow);
  g_strlcat(match->allow, g_str_equal(method, "GET") ? "GET, HEAD" : method, sizeof match->allow);
}

static NcRouteVerdict
nc_route_find_asset(const char *wanted, const NcAsset *asset, NcRouteMatch *ret)
{
  nc_allow_add(ret, nc_asset_route.method);
  if (!g_str_equal(wanted, nc_asset_route.method))
    return NC_ROUTE_NO_METHOD;
  ret->route = &nc_asset_route;
  ret->asset = asset;
  return NC_ROUTE_FOUND;
}

NcRouteVerdict
nc_route_find(const char *method, const char *path, NcRouteMatch *ret)
{
  const char *wanted = g_str_equal(method, "HEAD") ? "GET" : method;

  *ret = (NcRouteMatch){ 0 };
  if (!nc_method_is_known(wanted))
    return NC_ROUTE_UNKNOWN_METHOD;
  const NcAsset *asset = nc_asset_find(path);
  if (asset)
    return nc_route_find_asset(wanted, asset, ret);
  for (size_t i = 0; i < nc_n_routes; i++) {
    NcRouteMatch match = { .route = &nc_routes[i] };
    if (!nc_pattern_fits(nc_routes[i].pattern, path, &match))
      continue;
    if (match.key && nc_routes[i].key)
      match.key = nc_routes[i].key;
    nc_allow_add(ret, nc_routes[i].method);
    /* Literal rows have no key and win; among rows of one method there are at most one of each kind. */
    bool better = !ret->route || (ret->key && !match.key);
    if (g_str_equal(nc_routes[i].method, wanted) && better) {
      memcpy(ret->value, match.value, sizeof ret->value);
      ret->key = match.key;
      ret->route = match.route;
    }
  }
  if (ret->route)
    return NC_ROUTE_FOUND;
  return ret->allow[0] ? NC_ROUTE_NO_METHOD : NC_ROUTE_NO_PATH;
}
