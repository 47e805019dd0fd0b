/* SPDX-License-Identifier: Apache-2.0 */
/* What relays agree on, how an end is judged, and what is said about it. */
#include "relay/offer.h"
#include "relay/relay.h"
#include "relay/verdict.h"

#include <string.h>

static void
test_offer_round_trip(void)
{
  g_autoptr(GError) error = NULL;
  NcRelayOffer made, read;

  g_assert_true(nc_relay_offer_init(&made, 4, "zstd:3", 250, &error));
  nc_autojson json_t *message = nc_relay_offer_to_json(&made);
  g_assert_true(nc_relay_offer_parse(message, &read, &error));
  g_assert_cmpstr(read.id, ==, made.id);
  g_assert_cmpmem(read.psk, sizeof read.psk, made.psk, sizeof made.psk);
  g_assert_cmpint(read.streams, ==, 4);
  g_assert_cmpstr(read.compression, ==, "zstd:3");
  g_assert_cmpint(read.pause_budget_ms, ==, 250);
  nc_relay_offer_clear(&read);
  nc_relay_offer_clear(&made);
  g_assert_null(made.id);
}

static void
test_offers_differ(void)
{
  NcRelayOffer a, b;

  g_assert_true(nc_relay_offer_init(&a, 1, "none", 1, NULL));
  g_assert_true(nc_relay_offer_init(&b, 1, "none", 1, NULL));
  g_assert_cmpstr(a.id, !=, b.id);
  g_assert_cmpint(memcmp(a.psk, b.psk, sizeof a.psk), !=, 0);
  nc_relay_offer_clear(&a);
  nc_relay_offer_clear(&b);
}

static void
test_offer_bounds(void)
{
  static const struct {
    int streams;
    const char *compression;
    int pause_ms;
  } bad[] = { { 0, "lz4", 300 }, { 17, "lz4", 300 }, { 2, "gzip", 300 }, { 2, "lz4", 0 }, { 2, "lz4", 600001 } };

  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    NcRelayOffer offer;
    g_assert_false(nc_relay_offer_init(&offer, bad[i].streams, bad[i].compression, bad[i].pause_ms, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
    g_assert_null(offer.id);
  }
}

/* Every key replaced by nonsense, and left out. */
static void
test_offer_nonsense(void)
{
  static const struct {
    const char *key, *json;
  } bad[] = {
    { "type", "\"hello\"" },
    { "protocol", "2" },
    { "protocol", "null" },
    { "id", "\"../x\"" },
    { "id", "7" },
    { "psk", "\"00\"" },
    { "psk", "\"zz\"" },
    { "streams", "0" },
    { "streams", "17" },
    { "streams", "\"2\"" },
    { "pause_budget_ms", "0" },
    { "compression", "\"zstd:99\"" },
    { "id", "\"a1234567890123456789012345\"" },
  };

  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    NcRelayOffer made, read;
    g_assert_true(nc_relay_offer_init(&made, 2, "lz4", 300, NULL));
    nc_autojson json_t *message = nc_relay_offer_to_json(&made);
    json_object_set_new(message, bad[i].key, json_loads(bad[i].json, JSON_DECODE_ANY, NULL));
    g_assert_false(nc_relay_offer_parse(message, &read, &error));
    g_assert_nonnull(error);
    g_assert_null(read.id);
    json_object_del(message, bad[i].key);
    g_assert_false(nc_relay_offer_parse(message, &read, NULL));
    nc_relay_offer_clear(&made);
  }
}

static void
check(NcRelayFacts facts, int expected_code, const char *expected_words)
{
  g_autoptr(GError) error = NULL;

  if (nc_relay_verdict(&facts, &error)) {
    g_assert_cmpint(expected_code, ==, -1);
    return;
  }
  g_assert_error(error, NC_ERROR, expected_code);
  g_assert_nonnull(strstr(error->message, expected_words));
}

static void
test_verdicts_with_return_path(void)
{
  const NcRelayFacts good = {
    .shut = true, .shut_equal = true, .tail = true, .whole = true, .digests_equal = true, .return_path = true
  };
  NcRelayFacts facts = good;

  check(good, -1, "");
  facts.whole = facts.digests_equal = facts.tail = false; /* QEMU had closed when END came: SHUT has said it all */
  check(facts, -1, "");
  facts = good;
  facts.shut_status = 3;
  check(facts, NC_ERROR_QEMU, "could not load the machine (status 3)");
  facts.shut_equal = facts.whole = false; /* it had stopped reading in the middle */
  check(facts, NC_ERROR_QEMU, "could not load the machine (status 3)");
  g_assert_cmpint(nc_relay_bytes_equal(&facts), ==, -1);
  facts = good;
  facts.shut_equal = false;
  check(facts, NC_ERROR_CORRUPT, "is not what the source's QEMU wrote");
  facts = good;
  facts.shut = false;
  check(facts, NC_ERROR_QEMU, "the source's QEMU closed its socket before the destination had confirmed");
  facts.destination_left = true;
  check(facts, NC_ERROR_QEMU, "the destination's QEMU closed its socket before the destination had confirmed");
}

static void
test_verdicts_without_return_path(void)
{
  const NcRelayFacts good = { .tail = true, .whole = true, .digests_equal = true };
  NcRelayFacts facts = good;

  check(good, -1, "");
  facts.destination_left = true; /* it may close first when it has everything */
  check(facts, -1, "");
  facts.tail = false;
  check(facts, NC_ERROR_QEMU, "the destination's QEMU closed its socket before the end of the stream");
  facts.destination_left = false;
  check(facts, NC_ERROR_QEMU, "the source's QEMU closed its socket before the end of the stream");
  facts = good;
  facts.whole = false;
  check(facts, NC_ERROR_QEMU, "before the end of the stream");
  facts = good;
  facts.digests_equal = false;
  check(facts, NC_ERROR_CORRUPT, "don't let the machine run there");
}

static void
test_equality_is_said_only_if_known(void)
{
  const NcRelayFacts cut = { .return_path = true }, shut = { .shut = true, .shut_equal = true },
                     whole = { .whole = true, .digests_equal = true }, other = { .whole = true };

  g_assert_cmpint(nc_relay_bytes_equal(&cut), ==, -1);
  g_assert_cmpint(nc_relay_bytes_equal(&shut), ==, 1);
  g_assert_cmpint(nc_relay_bytes_equal(&whole), ==, 1);
  g_assert_cmpint(nc_relay_bytes_equal(&other), ==, 0);
}

static void
test_report(void)
{
  const NcRelayReport good = { .is_source = true,
                               .completed = true,
                               .id = "r-1",
                               .node = "host-b",
                               .stream_bytes = 300,
                               .wire_bytes = 100,
                               .sha256 = "ab",
                               .sha256_equal = 1,
                               .total_ms = 12 };
  g_autoptr(GError) stopped = g_error_new_literal(NC_ERROR, NC_ERROR_CANCELLED, "stopped");
  const NcRelayReport cut = { .error = stopped, .sha256_equal = -1 };
  nc_autojson json_t *a = nc_relay_report_to_json(&good), *b = nc_relay_report_to_json(&cut);

  g_assert_cmpstr(json_string_value(json_object_get(a, "outcome")), ==, "completed");
  g_assert_cmpfloat(json_real_value(json_object_get(a, "ratio")), ==, 3.0);
  g_assert_true(json_is_true(json_object_get(a, "sha256_equal")));
  g_assert_true(json_is_null(json_object_get(a, "error")));
  g_assert_cmpstr(json_string_value(json_object_get(b, "outcome")), ==, "cancelled");
  g_assert_cmpstr(json_string_value(json_object_get(b, "side")), ==, "destination");
  g_assert_true(json_is_null(json_object_get(b, "sha256_equal")));
  g_assert_true(json_is_null(json_object_get(b, "ratio")));
  g_assert_true(json_is_null(json_object_get(b, "node")));
  g_assert_cmpstr(json_string_value(json_object_get(json_object_get(b, "error"), "code")), ==, "cancelled");
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/relay/offer/round-trip", test_offer_round_trip);
  g_test_add_func("/relay/offer/differ", test_offers_differ);
  g_test_add_func("/relay/offer/bounds", test_offer_bounds);
  g_test_add_func("/relay/offer/nonsense", test_offer_nonsense);
  g_test_add_func("/relay/verdict/return-path", test_verdicts_with_return_path);
  g_test_add_func("/relay/verdict/no-return-path", test_verdicts_without_return_path);
  g_test_add_func("/relay/verdict/equality", test_equality_is_said_only_if_known);
  g_test_add_func("/relay/report", test_report);
  return g_test_run();
}
