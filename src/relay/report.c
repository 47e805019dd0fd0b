/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a session as JSON. */
#include "relay/relay.h"

static const char *
nc_relay_outcome(const NcRelayReport *report)
{
  if (report->completed)
    return "completed";
  return g_error_matches(report->error, NC_ERROR, NC_ERROR_CANCELLED) ? "cancelled" : "failed";
}

static json_t *
nc_relay_ratio(const NcRelayReport *report)
{
  return report->wire_bytes > 0 ? json_real((double)report->stream_bytes / (double)report->wire_bytes) : json_null();
}

json_t *
nc_relay_report_to_json(const NcRelayReport *report)
{
  json_t *equal = report->sha256_equal < 0 ? json_null() : json_boolean(report->sha256_equal);
  json_t *error = report->error ? nc_error_to_json(report->error) : json_null();

  return json_pack("{s:s, s:s?, s:s, s:s?, s:I, s:I, s:o, s:s?, s:o, s:I, s:o}", "side",
                   report->is_source ? "source" : "destination", "id", report->id, "outcome", nc_relay_outcome(report),
                   "node", report->node, "stream_bytes", (json_int_t)report->stream_bytes, "wire_bytes",
                   (json_int_t)report->wire_bytes, "ratio", nc_relay_ratio(report), "sha256", report->sha256,
                   "sha256_equal", equal, "total_ms", (json_int_t)report->total_ms, "error", error);
}
