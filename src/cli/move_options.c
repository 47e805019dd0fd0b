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

json_t *
nc_move_options_body(const char *vm, const NcMoveOptions *o, GError **error)
{
  int64_t rate;

  if (!nc_move_check_names(vm, o->to, error))
    return NULL;
  if (o->max_downtime_ms < 0) {
    nc_fail(error, NC_ERROR_INVALID, "--max-downtime must be at least 1 ms");
    return NULL;
  }
  nc_autojson json_t *body = json_pack("{s:s, s:s}", "vm", vm, "to", o->to);
  if (o->bandwidth) {
    if (!nc_parse_rate(o->bandwidth, &rate, error))
      return NULL;
    json_object_set_new(body, "bandwidth_limit_bps", json_integer(rate));
  }
  if (o->max_downtime_ms > 0)
    json_object_set_new(body, "max_downtime_ms", json_integer(o->max_downtime_ms));
  if (o->algorithm)
    json_object_set_new(body, "algorithm", json_string(o->algorithm));
  if (o->compression)
    json_object_set_new(body, "compression", json_string(o->compression));
  return g_steal_pointer(&body);
}
