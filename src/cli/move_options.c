/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/move_options.h"
#include "cli/cli.h"
#include "cli/units.h"

void
nc_move_options_clear(NcMoveOptions *o)
{
  g_free(o->to);
  g_free(o->bandwidth);
  g_free(o->algorithm);
  g_free(o->compression);
}

bool
nc_move_check_names(const char *vm, const char *to, GError **error)
{
  if (!to)
    return nc_fail(error, NC_ERROR_INVALID, "--to NODE is needed: where should %s go?", vm);
  return nc_cli_check_name("machine", vm, error) && nc_cli_check_name("node", to, error);
}

bool
nc_move_chain_body(json_t *body, bool keep, bool trust, GError **error)
{
  if (trust && !keep)
    return nc_fail(error, NC_ERROR_INVALID, "--trust-base goes with --keep-chain");
  if (keep)
    json_object_set_new(body, "disk_chain", json_string(trust ? "trust" : "keep"));
  return true;
}

bool
nc_move_options_put(json_t *body, const NcMoveOptions *o, GError **error)
{
  int64_t rate;

  if (o->max_downtime_ms < 0)
    return nc_fail(error, NC_ERROR_INVALID, "--max-downtime must be at least 1 ms");
  if (o->bandwidth) {
    if (!nc_parse_rate(o->bandwidth, &rate, error))
      return false;
    json_object_set_new(body, "bandwidth_limit_bps", json_integer(rate));
  }
  if (o->max_downtime_ms > 0)
    json_object_set_new(body, "max_downtime_ms", json_integer(o->max_downtime_ms));
  if (o->algorithm)
    json_object_set_new(body, "algorithm", json_string(o->algorithm));
  if (o->compression)
    json_object_set_new(body, "compression", json_string(o->compression));
  return true;
}

json_t *
nc_move_options_body(const char *vm, const NcMoveOptions *o, GError **error)
{
  if (!nc_move_check_names(vm, o->to, error))
    return NULL;
  nc_autojson json_t *body = json_pack("{s:s, s:s}", "vm", vm, "to", o->to);
  return nc_move_options_put(body, o, error) ? g_steal_pointer(&body) : NULL;
}

/* --- the finer points --- */

void
nc_move_tuning_clear(NcMoveTuning *t)
{
  g_free(t->qos);
  g_free(t->paths);
  g_free(t->checkpoint_keep);
  g_free(t->target_rate);
}

static bool
nc_move_tuning_check(const NcMoveTuning *t, GError **error)
{
  if (t->streams < 0)
    return nc_fail(error, NC_ERROR_INVALID, "--streams must be at least 1");
  if (t->max_cpu < 0)
    return nc_fail(error, NC_ERROR_INVALID, "--max-cpu must be at least 1 percent");
  if (t->no_checkpoint && (t->checkpoint || t->checkpoint_keep))
    return nc_fail(error, NC_ERROR_INVALID, "--no-checkpoint goes with neither --checkpoint nor --checkpoint-keep");
  return true;
}

/* "forever" is 0. */
static bool
nc_move_put_checkpoint(json_t *body, const NcMoveTuning *t, GError **error)
{
  const char *keep = t->checkpoint_keep;
  int64_t keep_s = 0;

  if (t->checkpoint || t->no_checkpoint)
    json_object_set_new(body, "checkpoint", json_boolean(t->checkpoint));
  if (!keep)
    return true;
  if (!g_str_equal(keep, "forever") && !nc_parse_duration(keep, &keep_s, error))
    return false;
  json_object_set_new(body, "checkpoint_keep_s", json_integer((json_int_t)keep_s));
  return true;
}

bool
nc_move_tuning_put(json_t *body, const NcMoveTuning *t, GError **error)
{
  if (!nc_move_tuning_check(t, error) || !nc_move_chain_body(body, t->keep_chain, t->trust_base, error))
    return false;
  if (t->streams > 0)
    json_object_set_new(body, "streams", json_integer(t->streams));
  if (t->paths)
    json_object_set_new(body, "paths", json_string(t->paths));
  if (t->max_cpu > 0)
    json_object_set_new(body, "max_cpu", json_integer(t->max_cpu));
  if (t->max_throttle >= 0)
    json_object_set_new(body, "max_throttle", json_integer(t->max_throttle));
  if (t->convergence_timeout_s >= 0)
    json_object_set_new(body, "convergence_timeout_ms", json_integer(t->convergence_timeout_s * INT64_C(1000)));
  if (t->retry >= 0)
    json_object_set_new(body, "retry_attempts", json_integer(t->retry));
  if (t->qos)
    json_object_set_new(body, "qos", json_string(t->qos));
  int64_t target_bps = 0;
  if (t->target_rate && !nc_parse_rate(t->target_rate, &target_bps, error))
    return false;
  if (t->target_rate)
    json_object_set_new(body, "target_rate_bps", json_integer(target_bps));
  return nc_move_put_checkpoint(body, t, error);
}
