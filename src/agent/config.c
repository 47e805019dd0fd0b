/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/config.h"
#include "agent/alert_keys.h"
#include "agent/algorithm.h"
#include "agent/disk_chain.h"
#include "agent/uplinks.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"
#include "base/tcp.h"
#include "fleetdb/fleetdb.h"
#include "mover/process.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum { NC_KEY_TEXT, NC_KEY_INT, NC_KEY_INT64, NC_KEY_CHOICE, NC_KEY_USER, NC_KEY_GROUP, NC_KEY_USERS } NcKeyType;

typedef struct {
  const char *name;
  NcKeyType type;
  size_t offset;        /* in NcConfig */
  const char *fallback; /* as it would stand in the file; "" for what nc_config_derive() finds out */
  const char *unit;     /* or shape; for people */
  int64_t minimum, maximum;
  bool reloadable;
  bool (*check)(const char *value);
  const char *const *choices; /* NC_KEY_CHOICE: names of 0, 1, 2 ...; NULL: not a value */
  const char *help;
  bool is_private; /* its value is not for messages */
} NcKey;

static bool
nc_is_name(const char *value)
{
  return !value[0] || nc_name_is_valid(value);
}

static bool
nc_is_address(const char *value)
{
  return !value[0] || nc_tcp_address_is_valid(value);
}

static bool
nc_is_absolute(const char *value)
{
  return value[0] == '/';
}

static bool
nc_is_absolute_or_derived(const char *value)
{
  return !value[0] || value[0] == '/';
}

static bool
nc_is_not_empty(const char *value)
{
  return value[0] != '\0';
}

static const char *const nc_algorithms[] = { [NC_ALGORITHM_AUTO] = "auto", [NC_ALGORITHM_PRECOPY] = "pre-copy", [NC_ALGORITHM_POSTCOPY] = "post-copy" };
static const char *const nc_no_or_yes[] = { "no", "yes" };
static const char *const nc_disk_chains[] = { [NC_CHAIN_FLATTEN] = "flatten", [NC_CHAIN_KEEP] = "keep", [NC_CHAIN_TRUST] = "trust" };
static const char *const nc_store_dedups[] = { [NC_STORE_DEDUP_OFF] = "off", [NC_STORE_DEDUP_MACHINE] = "machine" };
static const char *const nc_log_formats[] = { [NC_LOG_TEXT] = "text", [NC_LOG_JSON] = "json" };
static const char *const nc_log_levels[] = { [NC_LOG_ERR] = "err",
                                             [NC_LOG_WARNING] = "warning",
                                             [NC_LOG_NOTICE] = "notice",
                                             [NC_LOG_INFO] = "info",
                                             [NC_LOG_DEBUG] = "debug" };

#define AT(field) offsetof(NcConfig, field)
#define NUMBER(field, number, from, to, what, text)                                                                              \
  { #field, NC_KEY_INT, AT(field), number, what, from, to, true, NULL, NULL, text }
#define STRING(field, value, shape, checked, text)                                                                               \
  { #field, NC_KEY_TEXT, AT(field), value, shape, 0, 0, false, checked, NULL, text }

/* No "LOCAL>": that is for the other side to choose. */
static bool
nc_is_paths(const char *text)
{
  g_auto(GStrv) paths = nc_tcp_paths_parse(text);
  return paths && !strchr(text, '>');
}

char **
nc_config_names_parse(const char *text)
{
  g_auto(GStrv) names = g_strsplit(text, ",", -1);

  for (size_t i = 0; names[i]; i++)
    if (!nc_name_is_valid(g_strstrip(names[i])))
      return NULL;
  return g_steal_pointer(&names);
}

static bool
nc_is_names(const char *text)
{
  g_auto(GStrv) names = nc_config_names_parse(text);
  return names != NULL;
}

static bool
nc_is_labels(const char *text)
{
  g_auto(GStrv) names = nc_config_names_parse(text);
  return names && g_strv_length(names) <= NC_CONFIG_LABELS_MAX;
}

static bool
nc_is_uplinks(const char *text)
{
  nc_autojson json_t *links = nc_uplinks_parse(text);
  return links;
}

static bool
nc_is_database(const char *text)
{
  return !text[0] || nc_fleetdb_check(text, NULL);
}

/* HTTPS; without TLS only to this host itself. Nothing that a header or another host could hide in. */
static bool
nc_is_webhook(const char *text)
{
  static const char *const local[] = { "http://127.0.0.1", "http://localhost", "http://[::1]" };
  const char *rest = g_str_has_prefix(text, "https://") ? text + strlen("https://") : NULL;

  if (!text[0])
    return true;
  for (size_t i = 0; i < G_N_ELEMENTS(local) && !rest; i++)
    if (g_str_has_prefix(text, local[i]) && (text[strlen(local[i])] == ':' || text[strlen(local[i])] == '/'))
      rest = text + strlen("http://");
  for (const char *c = text; *c; c++)
    if (!g_ascii_isgraph(*c) || *c == '@')
      return false;
  return rest && rest[0] && rest[0] != '/';
}

#define NC_ALERT_CHECK(constant, key, fallback)                    \
  static bool nc_is_alert_##key(const char *text)                  \
  {                                                                \
    NcAlertSetting setting;                                        \
    return nc_alert_setting_parse(NC_ALERT_##constant, text, &setting); \
  }
NC_ALERT_RULES(NC_ALERT_CHECK)

#define ALERT(rule, key, fallback, shape, text) \
  { "alert_" #key, NC_KEY_TEXT, AT(alerts[NC_ALERT_##rule]), fallback, shape, 0, 0, true, nc_is_alert_##key, NULL, text }
#define ALERT_KEYS(rule, key, fallback) ALERT(rule, key, fallback, NC_ALERT_SHAPE_##rule, NC_ALERT_HELP_##rule),

static const NcKey nc_keys[] = {
  STRING(node, "", "name", nc_is_name,
         "This node's name. Left out, it is the one in the node's certificate; given, the two must agree."),
  STRING(listen, "0.0.0.0:7450", "host:port", nc_tcp_address_is_valid,
         "Where other nodes' agents and movers connect to. [::]:7450 for IPv6 and IPv4."),
  { "paths", NC_KEY_TEXT, AT(paths), "", "host:port, host:port, ...", 0, 0, true, nc_is_paths, NULL,
    "Addresses of this node for other nodes' movers; several are used at once, and one may die. They all have to lead to "
    "`listen`. Left out: the address that the agents use." },
  STRING(advertise, "", "host:port", nc_is_address,
         "Where other nodes reach this one; used by `novacrond join` when --address is left out."),
  STRING(data_dir, "/var/lib/novacron", "directory", nc_is_absolute,
         "Keys, certificates, the roster and the journal. Only one novacrond can use it at a time."),
  { "database", NC_KEY_TEXT, AT(database), "", "path, or postgresql://USER@HOST/DATABASE", 0, 0, false, nc_is_database, NULL,
    "What the controller knows of the fleet: an SQLite file, for one controller, or PostgreSQL, for several. A password does not belong "
    "here, but into a file that the URL names (passfile=PATH). Left out: fleet.db in data_dir.", .is_private = true },
  STRING(run_dir, "/run/novacron", "directory", nc_is_absolute,
         "Sockets: the control socket and those of the machines. Short: a socket's path has at most 107 bytes."),
  STRING(control_socket, "", "path", nc_is_absolute_or_derived,
         "Where novacron-gate connects to. Left out: control.sock in run_dir."),
  STRING(qemu_binary, "qemu-system-x86_64", "program", nc_is_not_empty,
         "The QEMU that starts machines whose specification names none."),
  STRING(qemu_log_dir, "/var/log/novacron", "directory", nc_is_absolute, "What each machine's QEMU writes: NAME.log."),
  STRING(store_dir, "", "directory", nc_is_absolute_or_derived,
         "The page store: checkpoints. Only novacrond writes there. Left out: store in data_dir."),
  { "store_budget_mib", NC_KEY_INT, AT(store_budget_mib), "0", "MiB", 0, 1 << 30, false, NULL, NULL,
    "Most that the page store may hold; what would exceed it fails. 0: as much as the file system holds." },
  STRING(store_key_file, "", "path", nc_is_absolute_or_derived,
         "32 random bytes, readable by novacrond's user only: the page store is encrypted with them (AES-256-GCM). Without this file its "
         "content is lost. Left out: not encrypted. Once there is something in the store it can't be changed."),
  STRING(mover_binary, "", "program", NULL, "Left out: novacron-mover beside novacrond, or in PATH."),
  { "mover_uid", NC_KEY_USER, AT(mover_uid), "", "user", 0, 0, false, NULL, NULL,
    "The user that movers run as when novacrond is root. Left out: novacron if there is such a user, else nobody." },
  { "mover_gid", NC_KEY_GROUP, AT(mover_gid), "", "group", 0, 0, false, NULL, NULL,
    "The group that movers run as. Left out: that of mover_uid's user." },
  { "control_users", NC_KEY_USERS, AT(control_uids), "", "users, comma-separated", 0, 0, false, NULL, NULL,
    "Who may use the control socket, besides root and novacrond's own user. Left out: novacron-gate if there is such a "
    "user." },
  { "log_format", NC_KEY_CHOICE, AT(log_format), "text", "text or json", NC_LOG_TEXT, NC_LOG_JSON, true, NULL,
    nc_log_formats, "Lines for people, or one JSON object per line." },
  { "log_level", NC_KEY_CHOICE, AT(log_level), "info", "err, warning, notice, info or debug", NC_LOG_ERR, NC_LOG_DEBUG,
    true, NULL, nc_log_levels, "The least important messages that are written." },
  NUMBER(max_downtime_ms, "300", 1, 2000000, "milliseconds",
         "How long a machine may stand still at the end of a migration, unless the request says otherwise."),
  NUMBER(streams, "0", 0, 16, "connections",
         "TCP connections of one migration, unless the request says otherwise. 0: by the round trip, and one for each path "
         "at least."),
  { "compression", NC_KEY_TEXT, AT(compression), "auto", "auto, none, lz4, zstd or zstd:-5 to zstd:9", 0, 0, true,
    nc_config_compression_is_valid, NULL,
    "How pages are coded, unless the request says otherwise. auto: each batch as it serves best, by what is scarce, "
    "link or processors." },
  NUMBER(max_cpu, "100", 1, 100, "percent",
         "Of this node's processors, what the coding of one migration may use at its source, unless the request says "
         "otherwise."),
  { "algorithm", NC_KEY_CHOICE, AT(algorithm), "auto", NC_ALGORITHM_NAMES, NC_ALGORITHM_AUTO, NC_ALGORITHM_POSTCOPY, true, NULL,
    nc_algorithms,
    "How memory is moved, unless the request says otherwise. auto: in rounds while the machine runs here, and if they do not "
    "come to an end, the machine first and the rest of its memory after it (post-copy). pre-copy: never that. While a machine "
    "is in post-copy, it needs both nodes: if one of them is lost, so is the machine." },
  { "disk_chain", NC_KEY_CHOICE, AT(disk_chain), "flatten", NC_DISK_CHAIN_NAMES, NC_CHAIN_FLATTEN, NC_CHAIN_TRUST, true, NULL, nc_disk_chains,
    "What becomes of the backing chains of disks that are copied, unless the request says otherwise. flatten: they become part of the "
    "copy. keep: only the overlay is copied, and the other node must have the same backing files under the same paths; both nodes "
    "read them whole to see that. trust: likewise, but that they are the same is your word." },
  NUMBER(max_throttle, "70", 0, 99, "percent",
         "Of a guest's time, what may be taken from it so that its migration comes to an end, if nothing else helps; unless "
         "the request says otherwise. 0: never."),
  NUMBER(convergence_timeout_ms, "300000", 0, 86400000, "milliseconds",
         "A migration that has sent the memory once and does not come to its end for so long is given up, and the machine "
         "runs on where it is; unless the request says otherwise. 0: never."),
  NUMBER(retry_attempts, "3", 0, 100, "attempts",
         "After the first one, if a migration has failed by something that may pass (no connection, no memory there, a process "
         "that died); unless the request says otherwise. The machine runs on meanwhile. 0: none."),
  NUMBER(retry_pause_ms, "2000", 100, 60000, "milliseconds", "Before the first of them; before each further one twice as long."),
  { "migration_checkpoint", NC_KEY_CHOICE, AT(migration_checkpoint), "no", "no or yes", 0, 1, true, NULL, nc_no_or_yes,
    "Whether a checkpoint of a machine is taken before it is moved away, to which it can be set back when it has arrived (novacron "
    "rollback ID --to-checkpoint); unless the request says otherwise. If it can't be taken, the machine is not moved." },
  NUMBER(migration_checkpoint_keep_s, "86400", 0, 366 * 86400, "seconds",
         "How long such a checkpoint is kept after the end of its migration, unless the request says otherwise. 0: until somebody deletes it."),
  STRING(hooks_dir, "/etc/novacron/hooks.d", "directory", nc_is_absolute,
         "Programs pre-*, run before each migration on the node the machine leaves, which they may forbid, and post-*, run "
         "after it on the node where the machine has arrived; with JSON on stdin. See novacrond.conf(5)."),
  NUMBER(hook_timeout_ms, "10000", 100, 600000, "milliseconds", "How long each of them may take; then it is killed."),
  NUMBER(max_migrations_in, "5", 1, 100, "migrations", "Arriving at the same time; more are refused."),
  NUMBER(max_migrations_out, "5", 1, 100, "migrations", "Leaving at the same time; more are refused."),
  NUMBER(memory_reserve_mib, "256", 0, 1 << 24, "MiB", "Memory that arriving machines must leave free on this node."),
  NUMBER(shadow_mib, "1048576", 0, 1 << 22, "MiB",
         "Most memory of each migration's shadow, which makes pages that are sent again cheap; never more than the "
         "machine has, nor than half of what is free. 0: no shadow."),
  NUMBER(wire_dedup_mib, "1024", 0, 1 << 22, "MiB",
         "Of shadow_mib, and of what is free, how much may hold contents of the disks that are copied with a machine, as long as its "
         "migration lasts: memory that was read from them, and blocks that they hold twice, then cross the link once. Only contents of "
         "the same machine are ever referred to. 0: none."),
  { "store_dedup", NC_KEY_CHOICE, AT(store_dedup), "machine", "off or machine", NC_STORE_DEDUP_OFF, NC_STORE_DEDUP_MACHINE, true,
    NULL, nc_store_dedups,
    "What the page store at the destination may be used for in a migration. machine: pages of memory that it holds in the newest "
    "checkpoint of the same machine do not cross a slow link again; both nodes must say so. off: nothing; neither hashes of pages "
    "nor pages leave the store." },
  NUMBER(kept_shadow_mib, "4096", 0, 1 << 22, "MiB",
         "Most disk space in data_dir for the shadows of migrations that have completed, which make a machine's way back cheap if the "
         "other node has kept its own, too. The oldest go first, and none is kept that would leave less than 1 GiB free. They hold "
         "what is in the machines' memory; with store_key_file they are not written to disk but kept in memory. 0: none is kept."),
  NUMBER(kept_shadow_hours, "24", 1, 8760, "hours", "How long each of them is kept."),
  { "bandwidth_total", NC_KEY_INT64, AT(bandwidth_total), "0", "bytes per second", 0, INT64_C(1000000000000), true,
    NULL, NULL,
    "On the wire, for all migrations that leave this node together; divided among them by their class of service. 0: "
    "no limit." },
  NUMBER(bandwidth_reserve, "10", 0, 90, "percent", "Of bandwidth_total, what is kept for other traffic."),
  NUMBER(connect_timeout_ms, "10000", 100, 300000, "milliseconds",
         "For a connection to another node, with all its greetings."),
  NUMBER(path_timeout_ms, "120000", 1000, 86400000, "milliseconds",
         "Without any connection to the destination for so long, a migration that can still be undone is cancelled. "
         "Shorter losses are a pause."),
  NUMBER(prepare_timeout_ms, "60000", 1000, 600000, "milliseconds", "For a QEMU to start and answer, at the destination of a migration above all."),
  NUMBER(peer_retry_ms, "1000", 50, 60000, "milliseconds",
         "Between two questions to a node that does not answer, while a handoff waits for its word."),
  { "controller", NC_KEY_CHOICE, AT(controller), "no", "no or yes", 0, 1, false, NULL, nc_no_or_yes,
    "Whether the fleet's controller runs in this novacrond: it moves machines between the nodes that heed it, by what is asked of it." },
  { "controllers", NC_KEY_TEXT, AT(controllers), "", "names of nodes, comma-separated", 0, 0, true, nc_is_names, NULL,
    "Other nodes whose controllers this one heeds: they may see its machines, and have them moved away. What people ask of the fleet here is handed on to "
    "one of them, if no controller of this node leads. This node calls them, too." },
  { "fleet_gates", NC_KEY_TEXT, AT(fleet_gates), "", "names of nodes, comma-separated", 0, 0, true, nc_is_names, NULL,
    "Of a controller: other nodes, besides `controllers`, from which it takes changes of the fleet that people have asked for there. It believes them who "
    "that was, so whoever breaks into one of them may do with the fleet what an administrator may. Questions it takes from every node of the cluster." },
  { "fleet_history_days", NC_KEY_INT, AT(fleet_history_days), "365", "days", 0, 36500, false, NULL, NULL,
    "Of a controller: how long the fleet's database keeps migrations, batches, evacuations and tokens that have ended, and events. 0: for ever. (What nodes know of "
    "their own migrations, and the transaction log, stay.)" },
  { "fleet_limit", NC_KEY_INT, AT(fleet_limit), "5", "migrations", 1, 10000, false, NULL, NULL,
    "Of a controller: how many migrations of the fleet run at a time. (Of and to each node: its max_migrations_out and max_migrations_in.)" },
  { "fleet_attempts", NC_KEY_INT, AT(fleet_attempts), "3", "attempts", 1, 100, false, NULL, NULL,
    "Of a controller: how often in all it begins a migration, where what went wrong may pass." },
  { "fleet_give_up_s", NC_KEY_INT, AT(fleet_give_up_s), "3600", "seconds", 1, 31622400, false, NULL, NULL,
    "Of a controller: a migration that has found no room for so long is given up." },
  { "fleet_ageing_s", NC_KEY_INT, AT(fleet_ageing_s), "600", "seconds", 1, 31622400, false, NULL, NULL,
    "Of a controller: what one class of priority is worth. A migration that has waited this much longer than one of the next higher class goes before it, so that none waits "
    "for ever." },
  { "fleet_backoff_s", NC_KEY_INT, AT(fleet_backoff_s), "5", "seconds", 1, 86400, false, NULL, NULL,
    "Of a controller: how long it waits before the second attempt of a migration, and twice as long before each further one." },
  { "fleet_backoff_most_s", NC_KEY_INT, AT(fleet_backoff_most_s), "300", "seconds", 1, 86400, false, NULL, NULL,
    "Of a controller: the most of that; at least fleet_backoff_s. (These three are to be the same where there are several controllers: who leads heeds its own.)" },
  { "labels", NC_KEY_TEXT, AT(labels), "", "names, comma-separated", 0, 0, true, nc_is_labels, NULL,
    "What machines may require of the node that a controller places them on (`requires` in a machine file), at most 16." },
  { "uplinks", NC_KEY_TEXT, AT(uplinks), "", "NAME:BYTES_PER_SECOND, ...", 0, 0, true, nc_is_uplinks, NULL,
    "Links behind this node's network card that it shares with other nodes, the nearest first, each with what migrations of the fleet may have of it together, in each "
    "direction: rack-3:1250000000, site-a:125000000. A controller divides them among its migrations; one between two nodes of a site does not count for the site's "
    "uplink. Nodes behind the same link name it alike; of different rates the lowest counts, also that of a node that is away. At most 6." },
  NUMBER(fleet_memory_mib, "0", 0, 1 << 30, "MiB",
         "What machines may have of this node's memory together, for a controller. 0: all but memory_reserve_mib."),
  NUMBER(fleet_vcpus, "0", 0, 1000000, "virtual processors",
         "Likewise of its processors. 0: 16 for each processor of the host."),
  NC_ALERT_RULES(ALERT_KEYS)
  { "alert_webhook_url", NC_KEY_TEXT, AT(alert_webhook_url), "", "https://..., or http:// to this host", 0, 0, true, nc_is_webhook, NULL,
    "Where each alert is sent to when it is raised and when it is cleared: a POST with JSON, signed with the key in alert_webhook_key_file, and again until it "
    "is taken (docs/alerts.md). Left out: nowhere.", .is_private = true },
  { "alert_webhook_key_file", NC_KEY_TEXT, AT(alert_webhook_key_file), "", "path", 0, 0, true, nc_is_absolute_or_derived, NULL,
    "The key of the signatures, 16 bytes or more, known to the receiver and readable by novacrond's user only. Read at each attempt. Needed with "
    "alert_webhook_url." },
  { "alert_webhook_ca_file", NC_KEY_TEXT, AT(alert_webhook_ca_file), "", "path", 0, 0, true, nc_is_absolute_or_derived, NULL,
    "Certificates (PEM) of those whom the receiver's certificate may be from. Left out: the system's." },
};

static void *
nc_config_field(NcConfig *config, const NcKey *key)
{
  return (char *)config + key->offset;
}

bool
nc_config_compression_is_valid(const char *text)
{
  char *end;
  if (g_str_equal(text, "auto") || g_str_equal(text, "none") || g_str_equal(text, "lz4") || g_str_equal(text, "zstd"))
    return true;
  if (!g_str_has_prefix(text, "zstd:") || !(g_ascii_isdigit(text[5]) || text[5] == '-'))
    return false;
  long level = strtol(text + 5, &end, 10);
  return end != text + 5 && !*end && level >= -5 && level <= 9 && level != 0; /* what the wire takes */
}

static bool
nc_parse_int64(const char *text, int64_t minimum, int64_t maximum, int64_t *ret)
{
  char *end;
  errno = 0;
  long long n = strtoll(text, &end, 10);
  if (errno || end == text || *end || n < minimum || n > maximum)
    return false;
  *ret = n;
  return true;
}

static bool
nc_parse_int(const char *text, int64_t minimum, int64_t maximum, int *ret)
{
  int64_t n;
  if (!nc_parse_int64(text, minimum, maximum, &n))
    return false;
  *ret = (int)n;
  return true;
}

static bool
nc_parse_user(const char *text, int *ret_uid)
{
  struct passwd *user = nc_parse_int(text, 0, G_MAXINT, ret_uid) ? NULL : getpwnam(text);
  if (user)
    *ret_uid = (int)user->pw_uid;
  return user || nc_parse_int(text, 0, G_MAXINT, ret_uid);
}

static bool
nc_parse_group(const char *text, int *ret_gid)
{
  struct group *group = nc_parse_int(text, 0, G_MAXINT, ret_gid) ? NULL : getgrnam(text);
  if (group)
    *ret_gid = (int)group->gr_gid;
  return group || nc_parse_int(text, 0, G_MAXINT, ret_gid);
}

static bool
nc_set_users(NcConfig *config, const char *text, GError **error)
{
  g_auto(GStrv) names = g_strsplit(text, ",", NC_CONFIG_MAX_UIDS + 1);
  int count = 0;

  for (char **name = names; *name; name++) {
    if (count == NC_CONFIG_MAX_UIDS)
      return nc_fail(error, NC_ERROR_INVALID, "more than %d users", NC_CONFIG_MAX_UIDS);
    if (*g_strstrip(*name) && !nc_parse_user(*name, &config->control_uids[count++]))
      return nc_fail(error, NC_ERROR_INVALID, "there is no user \"%s\"", *name);
  }
  config->control_uid_count = count;
  return true;
}

static bool
nc_set_choice(const NcKey *key, const char *text, int *ret)
{
  for (int64_t i = key->minimum; i <= key->maximum; i++) {
    if (g_str_equal(key->choices[i], text)) {
      *ret = (int)i;
      return true;
    }
  }
  return false;
}

static bool
nc_set_number(const NcKey *key, const char *text, void *field, GError **error)
{
  bool ok = key->type == NC_KEY_INT ? nc_parse_int(text, key->minimum, key->maximum, field)
                                    : nc_parse_int64(text, key->minimum, key->maximum, field);
  return ok || nc_fail(error, NC_ERROR_INVALID,
                       "\"%s\" is not a whole number from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT " (%s)", text, key->minimum,
                       key->maximum, key->unit);
}

/* ${text} as the value of ${key}; "" stands for what is derived later and is accepted where the default is "". */
static bool
nc_config_set(NcConfig *config, const NcKey *key, const char *text, GError **error)
{
  void *field = nc_config_field(config, key);
  bool derived = !text[0] && !key->fallback[0];

  switch (key->type) {
  case NC_KEY_TEXT:
    if (key->check && !key->check(text))
      return nc_fail(error, NC_ERROR_INVALID, "\"%s\" is not a value: %s", key->is_private ? "..." : text, key->unit);
    *(const char **)field = g_intern_string(text);
    return true;
  case NC_KEY_INT:
  case NC_KEY_INT64:
    return nc_set_number(key, text, field, error);
  case NC_KEY_CHOICE:
    return nc_set_choice(key, text, field) ||
           nc_fail(error, NC_ERROR_INVALID, "\"%s\" is not a value: %s", text, key->unit);
  case NC_KEY_USER:
    *(int *)field = -1;
    return derived || nc_parse_user(text, field) || nc_fail(error, NC_ERROR_INVALID, "there is no user \"%s\"", text);
  case NC_KEY_GROUP:
    *(int *)field = -1;
    return derived || nc_parse_group(text, field) || nc_fail(error, NC_ERROR_INVALID, "there is no group \"%s\"", text);
  case NC_KEY_USERS:
    config->control_uid_count = -1;
    return derived || nc_set_users(config, text, error);
  }
  return nc_fail(error, NC_ERROR_INTERNAL, "%s has no type", key->name);
}

static void
nc_config_derive(NcConfig *config)
{
  struct passwd *user;

  if (!config->control_socket[0]) {
    g_autofree char *path = g_build_filename(config->run_dir, "control.sock", NULL);
    config->control_socket = g_intern_string(path);
  }
  if (!config->store_dir[0]) {
    g_autofree char *path = g_build_filename(config->data_dir, "store", NULL);
    config->store_dir = g_intern_string(path);
  }
  if (!config->database[0]) {
    g_autofree char *path = g_build_filename(config->data_dir, "fleet.db", NULL);
    config->database = g_intern_string(path);
  }
  if (!config->mover_binary[0])
    config->mover_binary = nc_mover_find_binary();
  if (config->mover_uid < 0)
    config->mover_uid = (int)nc_mover_default_uid();
  if (config->mover_gid < 0)
    config->mover_gid = (int)nc_mover_default_gid((uid_t)config->mover_uid);
  if (config->control_uid_count < 0) {
    user = getpwnam("novacron-gate");
    config->control_uid_count = user ? 1 : 0;
    config->control_uids[0] = user ? (int)user->pw_uid : 0;
  }
}

static const NcKey *
nc_config_find_key(const char *name)
{
  for (size_t i = 0; i < G_N_ELEMENTS(nc_keys); i++)
    if (g_str_equal(nc_keys[i].name, name))
      return &nc_keys[i];
  return NULL;
}

static bool
nc_config_take_line(NcConfig *config, char *line, bool seen[], GError **error)
{
  char *equals;

  g_strstrip(line);
  if (!line[0] || line[0] == '#')
    return true;
  if (!(equals = strchr(line, '=')))
    return nc_fail(error, NC_ERROR_INVALID, "\"%.40s\" is not of the form `key = value`", line);
  *equals = '\0';
  const char *value = g_strstrip(equals + 1);
  const NcKey *key = nc_config_find_key(g_strstrip(line));
  if (!key)
    return nc_fail(error, NC_ERROR_INVALID, "unknown key \"%.40s\" (novacrond --sample-config shows all)", line);
  if (seen[key - nc_keys])
    return nc_fail(error, NC_ERROR_INVALID, "%s: stands there twice", key->name);
  seen[key - nc_keys] = true;
  if (!nc_config_set(config, key, value, error)) {
    g_prefix_error(error, "%s: ", key->name);
    return false;
  }
  return true;
}

NcConfig *
nc_config_parse(const char *name, const char *text, GError **error)
{
  g_autoptr(NcConfig) config = g_new0(NcConfig, 1);
  bool seen[G_N_ELEMENTS(nc_keys)] = { false };
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

  config->path = g_intern_string(name);
  for (size_t i = 0; i < G_N_ELEMENTS(nc_keys); i++)
    if (!nc_config_set(config, &nc_keys[i], nc_keys[i].fallback, error))
      return NULL;
  if (!g_utf8_validate(text, -1, NULL)) {
    nc_fail(error, NC_ERROR_INVALID, "%s is not UTF-8 text", name);
    return NULL;
  }
  for (guint i = 0; lines[i]; i++) {
    if (!nc_config_take_line(config, lines[i], seen, error)) {
      g_prefix_error(error, "%s:%u: ", name, i + 1);
      return NULL;
    }
  }
  nc_config_derive(config);
  if (config->alert_webhook_url[0] && !config->alert_webhook_key_file[0]) {
    nc_fail(error, NC_ERROR_INVALID, "%s: alert_webhook_url needs alert_webhook_key_file", name);
    return NULL;
  }
  return g_steal_pointer(&config);
}

NcConfig *
nc_config_load(const char *path, GError **error)
{
  size_t length;
  g_autofree char *text = nc_file_read(path, NC_CONFIG_MAX_BYTES, &length, error);
  if (!text)
    return NULL;
  if (strlen(text) != length) {
    nc_fail(error, NC_ERROR_INVALID, "%s contains a NUL byte", path);
    return NULL;
  }
  return nc_config_parse(path, text, error);
}

void
nc_config_free(NcConfig *config)
{
  g_free(config);
}

static char *
nc_config_users_text(const NcConfig *config)
{
  GString *text = g_string_new(NULL);
  for (int i = 0; i < config->control_uid_count; i++)
    g_string_append_printf(text, "%s%d", i ? "," : "", config->control_uids[i]);
  return g_string_free(text, FALSE);
}

/* The value as it would stand in the file. Caller frees. */
static char *
nc_config_value_text(const NcConfig *config, const NcKey *key)
{
  const void *field = (const char *)config + key->offset;
  switch (key->type) {
  case NC_KEY_TEXT:
    return g_strdup(*(const char *const *)field);
  case NC_KEY_CHOICE:
    return g_strdup(key->choices[*(const int *)field]);
  case NC_KEY_USERS:
    return nc_config_users_text(config);
  case NC_KEY_INT64:
    return g_strdup_printf("%" G_GINT64_FORMAT, *(const int64_t *)field);
  default:
    return g_strdup_printf("%d", *(const int *)field);
  }
}

/* Other threads read meanwhile: each value changes in one store. */
static void
nc_config_copy_value(NcConfig *to, const NcConfig *from, const NcKey *key)
{
  void *field = nc_config_field(to, key);
  const void *source = (const char *)from + key->offset;
  if (key->type == NC_KEY_TEXT)
    g_atomic_pointer_set((const char **)field, *(const char *const *)source);
  else if (key->type == NC_KEY_INT64)
    __atomic_store_n((int64_t *)field, *(const int64_t *)source, __ATOMIC_SEQ_CST);
  else
    g_atomic_int_set((int *)field, *(const int *)source);
}

int64_t
nc_config_bandwidth_total(const NcConfig *config)
{
  return __atomic_load_n(&config->bandwidth_total, __ATOMIC_SEQ_CST);
}

bool
nc_config_reload(NcConfig *config, char **ret_needs_restart, GError **error)
{
  g_autoptr(NcConfig) fresh = nc_config_load(config->path, error);
  g_autoptr(GString) waiting = g_string_new(NULL);

  if (!fresh)
    return false;
  if (!fresh->node[0])
    fresh->node = config->node; /* filled in from the certificate */
  for (size_t i = 0; i < G_N_ELEMENTS(nc_keys); i++) {
    g_autofree char *before = nc_config_value_text(config, &nc_keys[i]);
    g_autofree char *after = nc_config_value_text(fresh, &nc_keys[i]);
    if (g_str_equal(before, after))
      continue;
    if (nc_keys[i].reloadable)
      nc_config_copy_value(config, fresh, &nc_keys[i]);
    else
      g_string_append_printf(waiting, "%s%s", waiting->len ? ", " : "", nc_keys[i].name);
  }
  *ret_needs_restart = waiting->len ? g_strdup(waiting->str) : NULL;
  return true;
}

static void
nc_config_print_key(GString *out, const NcKey *key, const char *mark, const char *value)
{
  /* Help as a comment of lines below 80 columns. */
  g_auto(GStrv) words = g_strsplit(key->help, " ", -1);
  size_t column = 0;
  for (char **word = words; *word; word++) {
    if (column == 0 || column + strlen(*word) + 1 > 78) {
      g_string_append_printf(out, "%s#", column ? "\n" : "");
      column = 1;
    }
    g_string_append_printf(out, " %s", *word);
    column += strlen(*word) + 1;
  }
  g_string_append_printf(out, "\n# (%s", key->unit);
  if (key->type == NC_KEY_INT || key->type == NC_KEY_INT64)
    g_string_append_printf(out, ", %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT, key->minimum, key->maximum);
  g_string_append_printf(out, "; %s)\n%s%s =%s%s\n\n", key->reloadable ? "takes effect on reload" : "needs a restart", mark, key->name,
                         value[0] ? " " : "", value);
}

char *
nc_config_dump(const NcConfig *config)
{
  GString *out = g_string_new(NULL);
  g_string_append_printf(out, "# novacrond %s: the configuration in use%s%s\n\n", NC_VERSION, config->path[0] ? ", from " : "", config->path);
  for (size_t i = 0; i < G_N_ELEMENTS(nc_keys); i++) {
    g_autofree char *value = nc_config_value_text(config, &nc_keys[i]);
    nc_config_print_key(out, &nc_keys[i], "", value);
  }
  return g_string_free(out, FALSE);
}

char *
nc_config_sample(void)
{
  GString *out = g_string_new("# /etc/novacron/novacrond.conf: the configuration of a node. Lines are\n"
                              "# `key = value`; what is commented out shows the default. See\n"
                              "# novacrond.conf(5). Made by `novacrond --sample-config`.\n\n");
  for (size_t i = 0; i < G_N_ELEMENTS(nc_keys); i++)
    nc_config_print_key(out, &nc_keys[i], "#", nc_keys[i].fallback);
  return g_string_free(out, FALSE);
}
