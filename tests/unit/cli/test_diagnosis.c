/* SPDX-License-Identifier: Apache-2.0 */
/* What doctor makes of records of each kind: the cause that is named, and when nothing is. */
#include "cli/diagnosis.h"
#include "records.h"

#include <math.h>
#include <string.h>

/* The finding about ${check} of ${record} (taken); NULL: there is none. New reference. */
static json_t *
finding(json_t *record, const char *check, int *ret_status)
{
  nc_autojson json_t *owned = record;
  NcFigures figures;
  size_t i;
  json_t *row;

  nc_figures_of(record, RECORD_NOW_US, &figures);
  nc_autojson json_t *list = nc_diagnose(record, &figures);
  if (ret_status)
    *ret_status = nc_findings_exit_status(list);
  json_array_foreach(list, i, row)
  {
    const char *verdict = nc_json_string_or(row, "verdict", "");
    g_assert_cmpstr(nc_json_string_or(row, "value", ""), !=, "");
    if (g_str_equal(verdict, "failed") || g_str_equal(verdict, "warning"))
      g_assert_cmpstr(nc_json_string_or(row, "remedy", ""), !=, ""); /* what is one to do? */
  }
  json_array_foreach(list, i, row)
  {
    if (g_str_equal(nc_json_string_or(row, "check", ""), check))
      return json_incref(row);
  }
  return NULL;
}

static void
assert_found(const char *more, const char *check, const char *verdict, const char *value, const char *cause, const char *remedy)
{
  nc_autojson json_t *row = finding(record_with(more), check, NULL);

  if (!row)
    g_error("nothing is said of %s: %s", check, more);
  g_test_message("%s: %s", check, more);
  g_assert_cmpstr(nc_json_string_or(row, "verdict", ""), ==, verdict);
  const char *const pairs[][2] = { { "value", value }, { "cause", cause }, { "remedy", remedy } };
  for (size_t i = 0; i < G_N_ELEMENTS(pairs); i++)
    if (!strstr(nc_json_string_or(row, pairs[i][0], ""), pairs[i][1]))
      g_error("%s: \"%s\" is not in \"%s\"", pairs[i][0], pairs[i][1], nc_json_string_or(row, pairs[i][0], ""));
}

static void
test_figures(void)
{
  nc_autojson json_t *record = record_with("{}");
  NcFigures f;

  nc_figures_of(record, RECORD_NOW_US, &f);
  g_assert_true(f.is_source && f.has_ended);
  g_assert_cmpfloat(f.elapsed_ms, ==, 20500);
  g_assert_cmpfloat(f.memory_began_ms, ==, 500);
  g_assert_cmpfloat(f.memory_ms, ==, 20000);
  g_assert_cmpfloat(f.flow_ms, ==, 20000);
  g_assert_cmpfloat(f.stopped_ms, ==, 20200);
  g_assert_cmpfloat(f.wire_bps, ==, 10e6);
  g_assert_cmpfloat(f.memory_bps, ==, 60e6);
  g_assert_cmpfloat(f.memory_ratio, ==, 6);
  g_assert_cmpfloat_with_epsilon(f.loss_percent, 0.02, 1e-9);
  g_assert_cmpfloat(f.link_wait, ==, 0.05);
  g_assert_cmpfloat_with_epsilon(f.denied, 1.0 / 9, 1e-9);
  g_assert_cmpfloat(f.promised_end_ms, ==, 500 + 15000 + 5000);
  g_assert_true(isnan(f.limit_bps));
}

/* Of a record with nothing in it everything is unknown, and nothing is made up. */
static void
test_figures_unknown(void)
{
  nc_autojson json_t *record = json_object();
  NcFigures f;
  const char *key;
  json_t *value;

  nc_figures_of(record, RECORD_NOW_US, &f);
  nc_autojson json_t *object = nc_figures_to_json(&f);
  json_object_foreach(object, key, value) g_assert_true(json_is_null(value));
  nc_autojson json_t *list = nc_diagnose(record, &f);
  g_assert_cmpuint(json_array_size(list), >, 0);
}

static void
test_well(void)
{
  int status;
  nc_autojson json_t *row = finding(record_with("{\"ram_bytes\":3000000000}"), "transfer rate", &status);

  g_assert_cmpstr(nc_json_string_or(row, "verdict", ""), ==, "ok");
  g_assert_cmpint(status, ==, 0);
}

static void
test_limits(void)
{
  const char *check = "transfer rate", *verdict = "warning";

  assert_found("{\"bandwidth_limit_bps\":11000000,\"shaped_rate_bps\":11000000}", check, verdict, "10.0 MB/s on the wire",
               "limit of 11.0 MB/s that this migration was given, of which 91 % were used", "migrate with a higher --bandwidth");
  assert_found("{\"bandwidth_limit_bps\":20000000,\"rate_limit_bps\":11000000}", check, verdict, "",
               "share of this node's bandwidth, 11.0 MB/s", "bandwidth_total");
  assert_found("{\"bandwidth_limit_bps\":0,\"rate_limit_bps\":20000000,\"shaped_rate_bps\":11000000}", check, verdict, "", "gives way",
               "--qos");
  /* A busy host used little of its limit, but the link could have carried more. */
  assert_found("{\"bandwidth_limit_bps\":5000000,\"wire_bytes\":40000000,\"link_wait_us\":12000000}", check, verdict,
               "60 % of it waiting for the link", "limit of 5.0 MB/s", "");
  /* One that is far from what the link carries is not the cause. */
  assert_found("{\"bandwidth_limit_bps\":1000000000,\"link_wait_us\":12000000}", check, verdict, "", "link is saturated", "--compression");
  assert_found("{\"outcome\":null,\"finished\":null,\"total_ms\":null,\"wire_bytes\":600000000,\"bandwidth_limit_bps\":30000000}", check,
               verdict, "", "limit of 30.0 MB/s", "novacron limit ID");
}

static void
test_slow(void)
{
  const char *check = "transfer rate", *verdict = "warning";
#define CONNECTION(rtt, least, again, delivers)                                                                                            \
  "\"connections\":[{\"segments\":1000,\"retransmitted_segments\":" #again ",\"rtt_us\":" #rtt ",\"min_rtt_us\":" #least                   \
  ",\"delivery_bps\":" #delivers "}]"

  assert_found("{" CONNECTION(2500, 2000, 30, 10000000) "}", check, verdict, "", "3.0 % of the segments", "bbr");
  assert_found("{" CONNECTION(2500, 2000, 30, 10000000) "}", "loss", verdict, "3.00 %", "bad link", "links");
  assert_found("{\"encoder_wait_us\":12000000}", check, verdict, "60 % for coding", "coding: the source's processors", "--compression");
  assert_found("{\"encoder_wait_us\":12000000,\"max_cpu\":50}", check, verdict, "", "may use 50 %", "max_cpu");
  assert_found("{\"encoder_wait_us\":12000000,\"encode_cpu_us\":3000000}", check, verdict, "", "host denied processors", "quieter hour");
  assert_found("{\"link_wait_us\":12000000," CONNECTION(60000, 20000, 0, 10000000) "}", check, verdict, "", "grew from 20.0 to 60.0 ms",
               "heavier coding");
  assert_found("{\"link_wait_us\":12000000," CONNECTION(2500, 2000, 0, 10000000) "}", check, verdict, "", "link is saturated: 10.0 MB/s",
               "link");
  assert_found("{\"link_wait_us\":12000000," CONNECTION(2500, 2000, 0, 90000000) "}", check, verdict, "", "destination takes it slowly",
               "destination's processors");
  assert_found("{}", check, verdict, "", "neither link nor coding", "QEMU");
  assert_found("{\"events\":[]}", check, "ok", "memory has not flowed", "", "");
}

/* Disks that go ahead of the memory for ten seconds, at so many bytes in all; ${more}: of the record, with a comma before it. */
static void
assert_disks(const char *copied, const char *wire, const char *more, const char *verdict, const char *value, const char *cause, const char *remedy)
{
  g_autofree char *record = g_strdup_printf(
      "{\"disks\":[{\"copied_bytes\":%s,\"wire_bytes\":%s},{\"copied_bytes\":0}],\"events\":[{\"at\":\"2026-01-02T03:04:05.700Z\",\"event\":\"movers-connected\"},"
      "{\"at\":\"2026-01-02T03:04:06.200Z\",\"event\":\"disks-copying\"},{\"at\":\"2026-01-02T03:04:16.200Z\",\"event\":\"disks-in-step\"},"
      "{\"at\":\"2026-01-02T03:04:16.200Z\",\"event\":\"round\",\"detail\":\"1\"}]%s}", copied, wire, more);
  assert_found(record, "disk copy", verdict, value, cause, remedy);
}

static void
test_slow_disks(void)
{
  const char *slow = "300000000", *verdict = "warning";

  assert_disks("2000000000", "500000000", "", "ok", "200.0 MB/s of its disks, 50.0 MB/s on the wire, for 10.0 s", "", "");
  assert_disks(slow, "100000000", "", verdict, "30.0 MB/s of its disks, 10.0 MB/s on the wire", "read on host-a, or written on host-b", "iostat -x 1");
  assert_disks(slow, "100000000", ",\"bandwidth_limit_bps\":11000000", verdict, "", "limit of 11.0 MB/s that this migration was given, of which 91 %", "--bandwidth");
  assert_disks(slow, "100000000", ",\"link_wait_us\":12000000", verdict, "", "link is saturated", "link");
  assert_disks(slow, "100000000", ",\"encoder_wait_us\":12000000", verdict, "", "coding", "--compression");
  assert_disks(slow, "100000000", ",\"link_wait_us\":null,\"encoder_wait_us\":null,\"connections\":[]", verdict, "", "neither link nor coding", "iostat");
  nc_autojson json_t *none = finding(record_with("{}"), "disk copy", NULL);
  g_assert_null(none);
}

/* While they are copied it is as of now; while the next attempt is waited for, nothing is copied. */
static void
test_slow_disks_under_way(void)
{
#define COPYING                                                                                                                          \
  "{\"outcome\":null,\"finished\":null,\"phase\":\"%s\",\"disks\":[{\"copied_bytes\":590000000,\"wire_bytes\":59000000}],"                   \
  "\"events\":[{\"at\":\"2026-01-02T03:04:05.900Z\",\"event\":\"disks-in-step\"},{\"at\":\"2026-01-02T03:04:06.700Z\",\"event\":\"disks-copying\"}]}"
  g_autofree char *copies = g_strdup_printf(COPYING, "disk_copy"), *queued = g_strdup_printf(COPYING, "queued");

  assert_found(copies, "disk copy", "warning", "10.0 MB/s of its disks, 1.0 MB/s on the wire, for 59.0 s", "neither", "iostat");
  nc_autojson json_t *none = finding(record_with(queued), "disk copy", NULL);
  g_assert_null(none);
}

static void
test_convergence(void)
{
  const char *hopeless =
      "{\"outcome\":\"failed\",\"error\":{\"code\":\"convergence\",\"message\":\"web1 will not "
      "converge\"},\"bandwidth_limit_bps\":10000000,"
      "\"forecasts\":[{\"converges\":false,\"dirty_rate_bps\":25000000,\"effective_rate_bps\":9000000,\"decision\":\"stop\"}]}";
  int status;

  assert_found("{}", "convergence", "ok", "dirties 5.0 MB/s, and 60.0 MB/s", "", "");
  assert_found(hopeless, "convergence", "failed", "dirties 25.0 MB/s, and 9.0 MB/s", "limit allows no faster than 10.0 MB/s", "post-copy");
  assert_found(hopeless, "outcome", "failed", "web1 will not converge", "dirtied its memory faster", "--max-throttle");
  assert_found("{\"ram_bytes\":4294967296}", "convergence", "warning", "memory was copied 4.0 times", "has to be sent again", "post-copy");
  assert_found("{\"throttle\":40}", "convergence", "warning", "slowed down by 40 %", "faster than it can be sent", "--bandwidth");
  nc_autojson json_t *row = finding(record_with(hopeless), "outcome", &status);
  g_assert_cmpint(status, ==, 2);
}

static void
test_pause(void)
{
  assert_found("{}", "pause", "ok", "250 ms, within 300 ms; the last forecast said 240 ms", "", "");
  assert_found("{\"max_downtime_ms\":100}", "pause", "warning", "250 ms, over 100 ms", "190 ms of it: the last dirty pages", "post-copy");
  assert_found("{\"max_downtime_ms\":100,\"disk_pause_ms\":210}", "pause", "warning", "", "210 ms of it: ending the copies", "round trip");
  assert_found("{\"max_downtime_ms\":100,\"events\":[]}", "pause", "warning", "", "history does not tell", "--bandwidth");
  assert_found("{\"pause_ms\":null}", "pause", "unknown", "not recorded", "", "");
}

static void
test_failures(void)
{
  static const char *const codes[][2] = { { "unreachable", "novacron doctor" },
                                          { "unsuitable", "novacron check" },
                                          { "qemu", "qemu_log_dir" },
                                          { "corrupt", "memory" },
                                          { "trust", "node list" },
                                          { "resource", "free some" },
                                          { "never heard of", "novacron status" } };

  for (size_t i = 0; i < G_N_ELEMENTS(codes); i++) {
    g_autofree char *more =
        g_strdup_printf("{\"outcome\":\"failed\",\"error\":{\"code\":\"%s\",\"message\":\"what went wrong\"}}", codes[i][0]);
    assert_found(more, "outcome", "failed", "what went wrong", "", codes[i][1]);
  }
  assert_found("{\"outcome\":\"failed\",\"checkpoint\":\"c-1\",\"error\":null}", "checkpoint", "ok", "c-1", "", "checkpoint verify");
  assert_found("{\"checkpoint_wanted\":true}", "checkpoint", "warning", "there is none", "", "store status");
  assert_found("{\"sha256_equal\":false}", "integrity", "failed", "differ", "different bytes", "failing memory");
  assert_found("{\"reconnects\":2,\"resent_bytes\":2048}", "connections", "warning", "2 were lost and made again, 2.0 KiB", "firewall",
               "links");
  assert_found("{\"attempts\":[{\"attempt\":1,\"error\":{\"code\":\"unreachable\",\"message\":\"no way\"}}]}", "attempts", "warning",
               "1 failed before this one, the last: no way", "", "network");
  assert_found("{\"disks\":[{\"name\":\"root\",\"write_limit_bps\":2000000}]}", "disk", "warning", "root: the guest may write 2.0 MB/s",
               "faster", "--bandwidth");
  assert_found("{\"outcome\":\"cancelled\"}", "outcome", "ok", "cancelled after 20.5 s", "", "");
  assert_found("{\"role\":\"destination\"}", "side", "unknown", "host-a", "", "novacron doctor");
}

static void
test_ways_back(void)
{
  assert_found("{\"rollbacks\":[{\"id\":\"r-1\",\"mode\":\"source\",\"state\":\"completed\",\"steps\":[{\"state\":\"done\"}]}]}",
               "way back", "ok", "r-1 (source), completed", "", "");
  assert_found("{\"rollbacks\":[{\"id\":\"r-1\",\"mode\":\"source\",\"state\":\"running\",\"steps\":[{\"name\":\"fence-destination\","
               "\"state\":\"failed\",\"detail\":\"it is away\"}]}]}",
               "way back", "failed", "step fence-destination", "it is away", "novacron audit list");
  assert_found("{\"rollbacks\":[{\"id\":\"r-1\",\"mode\":\"back\",\"state\":\"needs_attention\",\"attention\":\"novacron rollback m-1\"}]}",
               "way back", "failed", "needs_attention", "", "novacron rollback m-1");
}

static void
test_under_way(void)
{
#define UNDER_WAY "\"outcome\":null,\"finished\":null,\"total_ms\":null,\"pause_ms\":null,\"phase\":\"memory_copy\""
  assert_found("{" UNDER_WAY ",\"wire_rate_bps\":1000,\"progress\":43}", "outcome", "ok", "memory_copy, 43 %", "", "");
  assert_found("{" UNDER_WAY ",\"attention\":\"novacron resolve m-1 --run-here\"}", "outcome", "failed", "needs attention", "",
               "novacron resolve m-1 --run-here");
  assert_found("{" UNDER_WAY ",\"path\":\"refused since 12 s\"}", "outcome", "warning", "refused since 12 s", "no connection", "network");
  assert_found("{" UNDER_WAY
               ",\"events\":[{\"at\":\"2026-01-02T03:04:00.700Z\",\"event\":\"session\"}],\"started\":\"2026-01-02T03:03:05.700Z\"}",
               "outcome", "warning", "for 65 s", "stands still", "novacron cancel");
  g_assert_null(finding(record_with("{" UNDER_WAY "}"), "pause", NULL));
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/diagnosis/figures", test_figures);
  g_test_add_func("/diagnosis/figures-unknown", test_figures_unknown);
  g_test_add_func("/diagnosis/well", test_well);
  g_test_add_func("/diagnosis/limits", test_limits);
  g_test_add_func("/diagnosis/slow", test_slow);
  g_test_add_func("/diagnosis/slow-disks", test_slow_disks);
  g_test_add_func("/diagnosis/slow-disks-under-way", test_slow_disks_under_way);
  g_test_add_func("/diagnosis/convergence", test_convergence);
  g_test_add_func("/diagnosis/pause", test_pause);
  g_test_add_func("/diagnosis/failures", test_failures);
  g_test_add_func("/diagnosis/ways-back", test_ways_back);
  g_test_add_func("/diagnosis/under-way", test_under_way);
  return g_test_run();
}
