/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of a node that is well, and of each thing that may be wrong with one. */
#include "agent/node_checks.h"

#include <errno.h>
#include <string.h>

#define NOW_US INT64_C(1767323105000000) /* 2026-01-02T03:05:05Z */
#define DAY_US (INT64_C(86400) * G_USEC_PER_SEC)

static NcPeerFacts peer = {
  .name = (char *)"host-b", .address = (char *)"192.0.2.2:7450", .rtt_us = 2000, .offset_us = 300, .expires_us = NOW_US + 300 * DAY_US
};

/* Of a node that is well; its JSON is borrowed from ${store}. */
static NcNodeFacts
well(json_t *store, const GPtrArray *peers)
{
  return (NcNodeFacts){ .now_us = NOW_US,
                        .certificate_expires_us = NOW_US + 300 * DAY_US,
                        .data_dir = "/var/lib/novacron",
                        .data_free_bytes = INT64_C(50) << 30,
                        .store = store,
                        .qemu_binary = "qemu-system-x86_64",
                        .qemu_version = "7.2.22",
                        .congestion_controls = "reno cubic bbr",
                        .congestion_control = "cubic",
                        .send_buffer_bytes = 4 << 20,
                        .memory_bytes = INT64_C(8) << 30,
                        .memory_available_bytes = INT64_C(6) << 30,
                        .peers = peers };
}

static json_t *
store_of(int64_t used_mib, int64_t budget_mib, int64_t disk_mib, bool failed)
{
  return json_pack("{s:s, s:I, s:I, s:I, s:b, s:b}", "directory", "/store", "used_bytes", (json_int_t)(used_mib << 20), "budget_bytes",
                   (json_int_t)(budget_mib << 20), "disk_free_bytes", (json_int_t)(disk_mib << 20), "failed", failed, "read_only", 0);
}

/* The last check named ${check} says that. */
/* The remedy of that check has these ${words}. */
static void
assert_remedy(const NcNodeFacts *facts, const char *check, const char *words)
{
  nc_autojson json_t *list = nc_node_checks(facts);
  const char *remedy = "";
  json_t *row;
  size_t i;

  json_array_foreach(list, i, row)
  {
    if (g_str_equal(nc_json_string_or(row, "check", ""), check))
      remedy = nc_json_string_or(row, "remedy", "");
  }
  g_assert_nonnull(strstr(remedy, words));
}

static void
assert_check(const NcNodeFacts *facts, const char *check, const char *verdict, const char *words)
{
  nc_autojson json_t *list = nc_node_checks(facts);
  json_t *row, *found = NULL;
  size_t i;

  json_array_foreach(list, i, row)
  {
    bool bad =
        g_str_equal(nc_json_string_or(row, "verdict", ""), "failed") || g_str_equal(nc_json_string_or(row, "verdict", ""), "warning");
    g_assert_true(!bad || nc_json_string_or(row, "remedy", "")[0]); /* what is one to do? */
    if (g_str_equal(nc_json_string_or(row, "check", ""), check))
      found = row;
  }
  g_assert_nonnull(found);
  g_test_message("%s: %s", check, nc_json_string_or(found, "value", ""));
  g_assert_cmpstr(nc_json_string_or(found, "verdict", ""), ==, verdict);
  g_assert_nonnull(strstr(nc_json_string_or(found, "value", ""), words));
}

static void
test_well(void)
{
  nc_autojson json_t *store = store_of(3000, 0, 50000, false);
  g_autoptr(GPtrArray) peers = g_ptr_array_new();
  g_ptr_array_add(peers, &peer);
  NcNodeFacts f = well(store, peers);
  nc_autojson json_t *list = nc_node_checks(&f);

  g_assert_cmpstr(nc_verdict_name(nc_checks_worst(list)), ==, "ok");
  assert_check(&f, "peer", "ok", "host-b (192.0.2.2:7450) answers, round trip 2.0 ms");
  assert_check(&f, "clock", "ok", "host-b: 0 ms apart");
  assert_check(&f, "migration", "ok", "0 under way");
  f.peers = NULL;
  assert_check(&f, "peer", "ok", "only one");
}

static void
test_node(void)
{
  nc_autojson json_t *store = store_of(9500, 10000, 50000, false);
  nc_autojson json_t *tight = store_of(0, 0, 100, false);
  nc_autojson json_t *broken = store_of(0, 0, 50000, true);
  NcNodeFacts f = well(store, NULL);

  assert_check(&f, "page store", "warning", "9500 of 10000 MiB of its budget");
  f.store = tight;
  assert_check(&f, "page store", "warning", "100 MiB free");
  f.store = broken;
  assert_check(&f, "page store", "failed", "can't be written");
  f.store = NULL;
  f.store_problem = "no such key";
  assert_check(&f, "page store", "failed", "no such key");
  f.certificate_expires_us = NOW_US + 10 * DAY_US;
  assert_check(&f, "certificate", "warning", "2026-01-12, in 10 days");
  assert_remedy(&f, "certificate", "novacron pki renew");
  f.certificate_expires_us = NOW_US - 1;
  assert_check(&f, "certificate", "failed", "ended on 2026-01-02");
  assert_remedy(&f, "certificate", "join again");
  f.has_ca_key = true;
  assert_remedy(&f, "certificate", "novacron pki renew");
  f.data_free_bytes = 10 << 20;
  assert_check(&f, "disk space", "failed", "10 MiB free for /var/lib/novacron");
  f.data_free_bytes = 100 << 20;
  assert_check(&f, "disk space", "warning", "100 MiB");
  f.data_free_bytes = -1;
  assert_check(&f, "disk space", "unknown", "can't be found out");
  f.memory_available_bytes = 100 << 20;
  assert_check(&f, "memory", "warning", "100 of 8192 MiB");
}

static void
test_system(void)
{
  nc_autojson json_t *store = store_of(0, 0, 50000, false);
  NcNodeFacts f = well(store, NULL);

  f.qemu_version = "";
  assert_check(&f, "qemu", "failed", "can't be run");
  f.qemu_version = "6.2.0";
  assert_check(&f, "qemu", "warning", "6.2.0");
  f.qemu_version = "10.0.1";
  assert_check(&f, "qemu", "ok", "10.0.1");
  f.congestion_controls = "reno cubic notbbr";
  assert_check(&f, "congestion control", "warning", "no bbr");
  f.congestion_controls = NULL;
  assert_check(&f, "congestion control", "unknown", "does not say");
  f.send_buffer_bytes = 200 << 10;
  assert_check(&f, "send buffer", "warning", "200 KiB");
  f.send_buffer_bytes = -1;
  assert_check(&f, "send buffer", "unknown", "does not say");
  f.userfaultfd_problem = EPERM;
  assert_check(&f, "post-copy", "warning", "only pre-copy");
}

static void
test_peers(void)
{
  nc_autojson json_t *store = store_of(0, 0, 50000, false);
  g_autoptr(GPtrArray) peers = g_ptr_array_new();
  NcPeerFacts down = { .name = (char *)"host-c", .address = (char *)"192.0.2.3:7450", .problem = (char *)"connection refused" };
  NcPeerFacts late = peer;
  NcNodeFacts f = well(store, peers);

  late.offset_us = -1500000;
  late.expires_us = NOW_US + 5 * DAY_US;
  g_ptr_array_add(peers, &late);
  assert_check(&f, "clock", "warning", "host-b: -1500 ms apart");
  assert_check(&f, "peer's certificate", "warning", "that of host-b ends");
  g_ptr_array_add(peers, &down);
  assert_check(&f, "peer", "failed", "host-c (192.0.2.3:7450): connection refused");
  f.peers_left_out = 3;
  assert_check(&f, "peer", "unknown", "3 more were not asked");
}

/* One under way in ${phase}, with ${rate} on the wire, of whose history the last line is of ${at}. */
static json_t *
migrations_of(const char *phase, int rate, const char *at, const char *attention)
{
  return json_pack("[{s:s, s:s, s:s, s:i, s:s?, s:[{s:s, s:s}]}]", "id", "m-1", "vm", "web1", "phase", phase, "wire_rate_bps", rate,
                   "attention", attention, "events", "at", at, "event", "round");
}

static void
test_migrations(void)
{
  static const struct {
    const char *phase;
    int rate;
    const char *at, *attention, *verdict, *words;
  } rows[] = {
    { "memory_copy", 0, "2026-01-02T03:04:00.000Z", NULL, "ok", "1 under way" },
    { "memory_copy", 0, "2026-01-02T02:55:05.000Z", NULL, "warning", "stood still for 10 min in phase memory_copy" },
    { "memory_copy", 5000, "2026-01-02T02:55:05.000Z", NULL, "ok", "1 under way" },
    { "queued", 0, "2026-01-02T02:55:05.000Z", NULL, "ok", "1 under way" },
    { "needs_attention", 0, "2026-01-02T03:04:00.000Z", "novacron resolve m-1", "failed", "m-1 of web1 needs attention" },
  };
  nc_autojson json_t *store = store_of(0, 0, 50000, false);

  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    nc_autojson json_t *migrations = migrations_of(rows[i].phase, rows[i].rate, rows[i].at, rows[i].attention);
    NcNodeFacts f = well(store, NULL);
    f.migrations = migrations;
    assert_check(&f, "migration", rows[i].verdict, rows[i].words);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/node-checks/well", test_well);
  g_test_add_func("/node-checks/node", test_node);
  g_test_add_func("/node-checks/system", test_system);
  g_test_add_func("/node-checks/peers", test_peers);
  g_test_add_func("/node-checks/migrations", test_migrations);
  return g_test_run();
}
