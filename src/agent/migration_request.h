/* SPDX-License-Identifier: Apache-2.0 */
/* What a migration is asked for, with bounds and the node's defaults, and the record that it begins with. */
#pragma once

#include "agent/algorithm.h"
#include "agent/config.h"
#include "agent/disk_chain.h"
#include "fleet/bandwidth_share.h"

/* Strings are borrowed from the request's JSON, or from the configuration. */
typedef struct {
  const char *vm, *to, *compression, *paths;
  NcAlgorithm algorithm;
  NcDiskChain disk_chain;
  NcQos qos;
  int64_t target_rate_bps; /* slower, and slower than the alert's threshold, is called slow; 0: by the alert's threshold, and what the link can */
  int64_t max_downtime_ms, bandwidth_limit_bps, streams, max_cpu, max_throttle, convergence_timeout_ms, retry_attempts;
  bool checkpoint; /* before it */
  int64_t checkpoint_keep_s;
} NcMigrationRequest;

/* ${args} as docs/protocols.md has them for `migration.create`. NC_ERROR_INVALID names the key and its bounds. */
bool nc_migration_request_parse(const NcConfig *config, json_t *args, NcMigrationRequest *ret, GError **error);
/* The record of migration ${id} at its source, node ${self}, which holds the machine's right in epoch ${held_epoch}. New reference. */
json_t *nc_migration_request_record(const NcMigrationRequest *r, const char *self, const char *id, uint64_t held_epoch);
/* Of ${args} to change one under way: `bandwidth_limit_bps` and `qos`; what is left out is not touched. NC_ERROR_INVALID as above. */
bool nc_migration_request_limits(json_t *args, int64_t *limit_bps, NcQos *qos, GError **error);
