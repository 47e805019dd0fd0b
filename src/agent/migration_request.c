/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/migration_request.h"
#include "agent/migration_peer.h"
#include "base/ident.h"
#include "base/tcp.h"
#include "wire/batch.h"

static bool
nc_optional_int(json_t *args, const char *key, int64_t fallback, int64_t minimum, int64_t maximum, int64_t *ret, GError **error)
{
  json_t *value = json_object_get(args, key);
  int64_t n = value && !json_is_null(value) ? json_integer_value(value) : fallback;
  if ((value && !json_is_null(value) && !json_is_integer(value)) || n < minimum || n > maximum)
    return nc_fail(error, NC_ERROR_INVALID, "%s must be a whole number from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT, key,
                   minimum, maximum);
  *ret = n;
  return true;
}

static bool
nc_optional_qos(json_t *args, NcQos fallback, NcQos *ret, GError **error)
{
  json_t *value = json_object_get(args, "qos");
  *ret = fallback;
  return !value || json_is_null(value) || nc_qos_from_name(json_string_value(value), ret) ||
         nc_fail(error, NC_ERROR_INVALID, "\"qos\" must be " NC_QOS_NAMES);
}

/* args.algorithm; left out, ${fallback}. */
static bool
nc_optional_algorithm(json_t *args, NcAlgorithm fallback, NcAlgorithm *ret, GError **error)
{
  json_t *value = json_object_get(args, "algorithm");
  *ret = fallback;
  return !value || json_is_null(value) || nc_algorithm_from_name(json_string_value(value), ret) ||
         nc_fail(error, NC_ERROR_INVALID, "\"algorithm\" must be " NC_ALGORITHM_NAMES);
}

/* args.checkpoint and args.checkpoint_keep_s; left out, the node's. */
static bool
nc_optional_checkpoint(const NcConfig *config, json_t *args, NcMigrationRequest *ret, GError **error)
{
  json_t *value = json_object_get(args, "checkpoint");

  ret->checkpoint = value && !json_is_null(value) ? json_is_true(value) : config->migration_checkpoint != 0;
  if (value && !json_is_null(value) && !json_is_boolean(value))
    return nc_fail(error, NC_ERROR_INVALID, "\"checkpoint\" must be true or false");
  return nc_optional_int(args, "checkpoint_keep_s", config->migration_checkpoint_keep_s, 0, 366 * 86400, &ret->checkpoint_keep_s, error);
}

static bool
nc_optional_disk_chain(json_t *args, NcDiskChain fallback, NcDiskChain *ret, GError **error)
{
  json_t *value = json_object_get(args, "disk_chain");
  *ret = fallback;
  return !value || json_is_null(value) || nc_disk_chain_from_name(json_string_value(value), ret) ||
         nc_fail(error, NC_ERROR_INVALID, "\"disk_chain\" must be " NC_DISK_CHAIN_NAMES);
}

static bool
nc_optional_limit(json_t *args, int64_t fallback, int64_t *ret, GError **error)
{
  return nc_optional_int(args, "bandwidth_limit_bps", fallback, 0, INT64_C(1) << 40, ret, error);
}

bool
nc_migration_request_limits(json_t *args, int64_t *limit_bps, NcQos *qos, GError **error)
{
  return nc_optional_limit(args, *limit_bps, limit_bps, error) && nc_optional_qos(args, *qos, qos, error);
}

bool
nc_migration_request_parse(const NcConfig *config, json_t *args, NcMigrationRequest *ret, GError **error)
{
  NcBatchPolicy policy;

  ret->vm = nc_json_string_or(args, "vm", NULL);
  ret->to = nc_json_string_or(args, "to", NULL);
  if (!nc_name_is_valid(ret->vm) || !nc_name_is_valid(ret->to))
    return nc_fail(error, NC_ERROR_INVALID, "\"vm\" and \"to\" must be names: " NC_NAME_RULE);
  ret->compression = nc_json_string_or(args, "compression", config->compression);
  if (!nc_compression_parse(ret->compression, &policy, error))
    return false;
  ret->paths = nc_json_string_or(args, "paths", "");
  g_auto(GStrv) paths = nc_tcp_paths_parse(ret->paths);
  if (!paths)
    return nc_fail(error, NC_ERROR_INVALID, "\"paths\" must be %d at most of the form [LOCAL>]HOST:PORT, with commas between them",
                   NC_TCP_PATHS_MAX);
  return nc_optional_algorithm(args, (NcAlgorithm)config->algorithm, &ret->algorithm, error) &&
         nc_optional_disk_chain(args, (NcDiskChain)config->disk_chain, &ret->disk_chain, error) &&
         nc_optional_int(args, "max_downtime_ms", config->max_downtime_ms, 1, 2000000, &ret->max_downtime_ms, error) &&
         nc_optional_limit(args, 0, &ret->bandwidth_limit_bps, error) && nc_optional_checkpoint(config, args, ret, error) &&
         nc_optional_qos(args, NC_QOS_NORMAL, &ret->qos, error) &&
         nc_optional_int(args, "streams", config->streams, 0, NC_MIG_MAX_STREAMS, &ret->streams, error) &&
         nc_optional_int(args, "max_cpu", config->max_cpu, 1, 100, &ret->max_cpu, error) &&
         nc_optional_int(args, "max_throttle", config->max_throttle, 0, 99, &ret->max_throttle, error) &&
         nc_optional_int(args, "retry_attempts", config->retry_attempts, 0, 100, &ret->retry_attempts, error) &&
         nc_optional_int(args, "target_rate_bps", 0, 0, INT64_C(1) << 40, &ret->target_rate_bps, error) &&
         nc_optional_int(args, "convergence_timeout_ms", config->convergence_timeout_ms, 0, 86400000, &ret->convergence_timeout_ms,
                         error);
}

json_t *
nc_migration_request_record(const NcMigrationRequest *r, const char *self, const char *id, uint64_t held_epoch)
{
  g_autofree char *now = nc_time_format(nc_wall_us());
  json_t *record = json_pack(
      "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:n, s:i, s:s, s:s, s:n}", "id", id, "vm", r->vm, "source", self,
      "destination", r->to, "role", "source", "state", "preparing", "phase", "prepare", "outcome", "progress", 0, "created", now,
      "started", now, "finished");
  nc_autojson json_t *more = json_pack(
      "{s:I, s:I, s:I, s:s, s:I, s:n, s:n, s:n, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:n, s:n, s:n, s:n, s:n}", "held_epoch",
      (json_int_t)held_epoch, "max_downtime_ms", (json_int_t)r->max_downtime_ms, "bandwidth_limit_bps",
      (json_int_t)r->bandwidth_limit_bps, "compression", r->compression, "streams", (json_int_t)r->streams, "total_ms",
      "pause_ms", "qemu_downtime_ms", "ram_bytes", (json_int_t)0, "ram_total_bytes", (json_int_t)0, "ram_remaining_bytes",
      (json_int_t)0, "wire_bytes", (json_int_t)0, "rate_bps", (json_int_t)0, "rounds", (json_int_t)0, "dirty_rate_bps",
      (json_int_t)0, "ratio", "eta_ms", "sha256", "attention", "error");
  json_object_update(record, more);
  json_object_set_new(record, "qos", json_string(nc_qos_name(r->qos)));
  json_object_set_new(record, "rate_limit_bps", json_integer(0));
  json_object_set_new(record, "path", json_null());
  json_object_set_new(record, "paths", json_string(r->paths));
  json_object_set_new(record, "reconnects", json_integer(0));
  json_object_set_new(record, "resent_bytes", json_integer(0));
  json_object_set_new(record, "target_rate_bps", json_integer((json_int_t)r->target_rate_bps));
  json_object_set_new(record, "max_cpu", json_integer((json_int_t)r->max_cpu));
  json_object_set_new(record, "max_throttle", json_integer((json_int_t)r->max_throttle));
  json_object_set_new(record, "convergence_timeout_ms", json_integer((json_int_t)r->convergence_timeout_ms));
  json_object_set_new(record, "algorithm", json_string(nc_algorithm_name(r->algorithm)));
  json_object_set_new(record, "disk_chain", json_string(nc_disk_chain_name(r->disk_chain)));
  json_object_set_new(record, "postcopy", json_false());
  json_object_set_new(record, "free_page_hints", json_null());
  json_object_set_new(record, "kept_shadow", json_null());
  json_object_set_new(record, "retry_attempts", json_integer((json_int_t)r->retry_attempts));
  json_object_set_new(record, "checkpoint", json_null());
  json_object_set_new(record, "checkpoint_wanted", json_boolean(r->checkpoint));
  json_object_set_new(record, "checkpoint_keep_s", json_integer((json_int_t)r->checkpoint_keep_s));
  json_object_set_new(record, "attempt", json_integer(1));
  json_object_set_new(record, "attempt_ms", json_null());
  json_object_set_new(record, "attempts", json_array());
  json_object_set_new(record, "forecasts", json_array());
  return record;
}
