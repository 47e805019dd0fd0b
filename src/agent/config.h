/* SPDX-License-Identifier: Apache-2.0 */
/*
 * novacrond's configuration: a file of `key = value` lines, `#` comments.
 *
 * One table (config.c) holds every key with its unit, default, bounds and help;
 * from it come the parser, --dump-config, --sample-config and
 * docs/novacrond.conf.sample. An unknown key or a bad value is NC_ERROR_INVALID
 * naming file, line and key.
 *
 * Threads: the strings are interned and never freed, numbers fit a register,
 * so that everybody may read the fields of the one NcConfig while
 * nc_config_reload() replaces the values of reloadable keys.
 */
#pragma once

#include "agent/alert_rules.h"
#include "base/error.h"
#include <stdbool.h>
#include <stdint.h>

#define NC_CONFIG_MAX_BYTES (64u << 10)
#define NC_CONFIG_DEFAULT_PATH "/etc/novacron/novacrond.conf"
#define NC_CONFIG_MAX_UIDS 16

/* What of this node's page store an arriving machine's pages may refer to (agent/stored_pages.h). */
typedef enum {
  NC_STORE_DEDUP_OFF,
  NC_STORE_DEDUP_MACHINE, /* the machine's own last checkpoint */
} NcStoreDedup;

typedef struct {
  const char *path;      /* of the file; "" if there is none */
  const char *node;      /* this node's name; "" until novacrond has read it from the certificate */
  const char *listen;    /* "host:port" */
  const char *advertise; /* "host:port" that other nodes use; "": the roster's */
  const char *data_dir;
  const char *database; /* of the fleet; nc_fleetdb_open() takes it. May hold a password: not for messages */
  const char *run_dir;
  const char *control_socket;
  const char *qemu_binary;
  const char *qemu_log_dir;
  const char *mover_binary;
  const char *store_dir;
  int store_budget_mib;        /* 0: none */
  const char *store_key_file;  /* "": not encrypted */
  int mover_uid;
  int mover_gid;
  int control_uids[NC_CONFIG_MAX_UIDS]; /* who may use the control socket besides root and ourselves */
  int control_uid_count;
  int log_format; /* NcLogFormat */
  int log_level;  /* NcLogLevel */
  int max_downtime_ms;
  int streams;
  const char *compression; /* "auto", "none", "lz4", "zstd:LEVEL" */
  int max_cpu;             /* percent */
  int algorithm;    /* NcAlgorithm */
  int disk_chain;   /* NcDiskChain */
  int max_throttle; /* percent */
  int retry_attempts;
  int retry_pause_ms;
  int convergence_timeout_ms;
  int migration_checkpoint;        /* 0 or 1 */
  int migration_checkpoint_keep_s; /* 0: for ever */
  const char *hooks_dir;
  int hook_timeout_ms;
  int max_migrations_in;
  int max_migrations_out;
  int memory_reserve_mib;
  int shadow_mib;
  int store_dedup;    /* NcStoreDedup */
  int wire_dedup_mib; /* 0: contents of disks are not kept */
  int kept_shadow_mib; /* 0: none is kept */
  int kept_shadow_hours;
  int64_t bandwidth_total; /* bytes per second; read it with nc_config_bandwidth_total() */
  int bandwidth_reserve;   /* percent of it */
  int connect_timeout_ms;
  int path_timeout_ms;
  const char *paths; /* nc_tcp_paths_parse() takes it; "": none */
  int prepare_timeout_ms;
  int peer_retry_ms;
  int controller;          /* 0 or 1: the fleet's runs here */
  const char *labels;      /* likewise: what machines may require of this node */
  const char *uplinks;     /* nc_uplinks_parse() takes it */
  const char *controllers; /* nc_config_names_parse() takes it: nodes whose controllers this one heeds besides its own */
  const char *fleet_gates; /* likewise: nodes from which this controller takes what people ask of the fleet there */
  int fleet_history_days;  /* 0: for ever */
  int fleet_limit;         /* migrations at a time */
  int fleet_attempts;      /* in all */
  int fleet_give_up_s;     /* without room */
  int fleet_ageing_s;      /* that a class of priority is worth */
  int fleet_backoff_s, fleet_backoff_most_s;
  int fleet_memory_mib;    /* 0: all of the host's but memory_reserve_mib */
  int fleet_vcpus;         /* 0: by the host's processors */
  const char *alerts[NC_ALERT_RULE_COUNT]; /* nc_alert_setting_parse() takes them */
  const char *alert_webhook_url;           /* "": none */
  const char *alert_webhook_key_file;
  const char *alert_webhook_ca_file; /* "": the system's */
} NcConfig;

/* Defaults, then ${path}. A missing file is NC_ERROR_NOT_FOUND. NULL on error. */
NcConfig *nc_config_load(const char *path, GError **error);
/* The same for a text; ${name} stands for the file in errors. */
NcConfig *nc_config_parse(const char *name, const char *text, GError **error);
void nc_config_free(NcConfig *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NcConfig, nc_config_free)

/*
 * Reads config->path again. A broken file changes nothing. Reloadable keys take
 * effect; ${ret_needs_restart}: names of changed ones that do not, ", "
 * between; NULL if there are none; caller frees.
 */
bool nc_config_reload(NcConfig *config, char **ret_needs_restart, GError **error);

/* Wire bytes per second for all outgoing migrations, 0: no limit. Any thread. */
int64_t nc_config_bandwidth_total(const NcConfig *config);

/* Every key with its present value and its help, itself a valid file. Caller frees. */
char *nc_config_dump(const NcConfig *config);
/* Every key with its default, commented out: docs/novacrond.conf.sample. Caller frees. */
char *nc_config_sample(void);

/* Names with commas between them; NULL: one of them is none. */
char **nc_config_names_parse(const char *text);
#define NC_CONFIG_LABELS_MAX 16u /* as many as the fleet knows of a node: fleet/inventory.h */

/* Is ${text} "auto", "none", "lz4", "zstd" or "zstd:LEVEL" with a level from -5 to 9 except 0? */
bool nc_config_compression_is_valid(const char *text);
