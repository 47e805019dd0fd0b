/* SPDX-License-Identifier: Apache-2.0 */
/* Records of migrations as novacrond gives them, shortened to what tells something; tests change what they are about. */
#pragma once

#include "base/msg.h"

#define RECORD_NOW_US INT64_C(1767323105700000) /* 2026-01-02T03:05:05.700Z, a minute after its start */

static const char record_text[] =
    "{\"id\":\"m-0t7bd31dsw67hqqr\",\"vm\":\"web1\",\"source\":\"host-a\",\"destination\":\"host-b\",\"role\":\"source\",\"state\":"
    "\"completed\","
    "\"phase\":\"completed\",\"outcome\":\"completed\",\"progress\":100,\"created\":\"2026-01-02T03:04:05.600Z\",\"started\":\"2026-01-"
    "02T03:04:05.700Z\","
    "\"finished\":\"2026-01-02T03:04:26.200Z\",\"total_ms\":20500,\"pause_ms\":250.5,\"qemu_downtime_ms\":230,\"max_downtime_ms\":300,"
    "\"bandwidth_limit_bps\":0,\"rate_limit_bps\":0,\"shaped_rate_bps\":0,\"ram_total_bytes\":1073741824,\"ram_bytes\":1200000000,\"stream_"
    "bytes\":900000000,"
    "\"wire_bytes\":200000000,\"wire_rate_bps\":0,\"ratio\":4.5,\"rounds\":3,\"max_cpu\":100,\"throttle\":0,\"postcopy\":false,"
    "\"algorithm\":\"auto\","
    "\"compression\":\"auto\",\"link_wait_us\":1000000,\"encoder_wait_us\":1000000,\"encode_us\":9000000,\"encode_cpu_us\":8000000,\"mover_"
    "cpu_ms\":10000,"
    "\"reconnects\":0,\"resent_bytes\":0,\"sha256\":\"ab\",\"sha256_equal\":true,\"attention\":null,\"error\":null,\"attempts\":[],"
    "\"rollbacks\":[],\"disks\":[],"
    "\"coded_batches\":{\"lz4\":30,\"zstd:1\":90},"
    "\"connections\":[{\"index\":0,\"sent_bytes\":200000000,\"received_bytes\":5000,\"segments\":100000,\"retransmitted_segments\":20,"
    "\"rtt_us\":2500,"
    "\"min_rtt_us\":2000,\"delivery_bps\":11000000}],"
    "\"forecasts\":[{\"at_ms\":15000,\"round\":2,\"converges\":true,\"eta_ms\":5000,\"eta_error_ms\":500,\"pause_ms\":240,\"pause_error_"
    "ms\":24,"
    "\"dirty_rate_bps\":5000000,\"effective_rate_bps\":60000000,\"decision\":\"go-on\",\"throttle\":0}],"
    "\"events\":[{\"at\":\"2026-01-02T03:04:06.200Z\",\"event\":\"movers-connected\",\"detail\":\"1 connections\"},"
    "{\"at\":\"2026-01-02T03:04:06.200Z\",\"event\":\"round\",\"detail\":\"1\"},{\"at\":\"2026-01-02T03:04:21.200Z\",\"event\":\"round\","
    "\"detail\":\"2\"},"
    "{\"at\":\"2026-01-02T03:04:25.900Z\",\"event\":\"guest-stopped\",\"detail\":\"\"},{\"at\":\"2026-01-02T03:04:25.910Z\",\"event\":"
    "\"released\",\"detail\":\"\"},"
    "{\"at\":\"2026-01-02T03:04:25.910Z\",\"event\":\"round\",\"detail\":\"3\"},{\"at\":\"2026-01-02T03:04:26.100Z\",\"event\":\"opaque\","
    "\"detail\":\"device state\"},"
    "{\"at\":\"2026-01-02T03:04:26.200Z\",\"event\":\"started\",\"detail\":\"\"},{\"at\":\"2026-01-02T03:04:26.200Z\",\"event\":"
    "\"finished\",\"detail\":\"completed\"}]}";

/* One that completed in 20 s at 60 MB/s of memory and 10 MB/s on the wire, changed by ${more}, a JSON object ("{}": not). New reference. */
static inline json_t *
record_with(const char *more)
{
  json_t *record = json_loads(record_text, 0, NULL);
  nc_autojson json_t *change = json_loads(more, 0, NULL);

  g_assert_nonnull(record);
  g_assert_nonnull(change);
  json_object_update(record, change);
  return record;
}
