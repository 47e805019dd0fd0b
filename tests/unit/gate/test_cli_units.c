/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers for people and back, and text that can't play with a terminal. */
#include "cli/migration_view.h"
#include "cli/table.h"
#include "cli/units.h"

static void
expect(char *got, const char *wanted)
{
  g_assert_cmpstr(got, ==, wanted);
  g_free(got);
}

static void
test_format(void)
{
  expect(nc_format_bytes(0), "0 B");
  expect(nc_format_bytes(1023), "1023 B");
  expect(nc_format_bytes(1 << 20), "1.0 MiB");
  expect(nc_format_bytes((INT64_C(1) << 30) - 1), "1.0 GiB");
  expect(nc_format_rate(112300000), "112.3 MB/s");
  expect(nc_format_rate(999999), "1.0 MB/s");
  expect(nc_format_ms(0), "0 ms");
  expect(nc_format_ms(312.4), "312 ms");
  expect(nc_format_ms(4200), "4.2 s");
  expect(nc_format_ms(59999), "1 min 00 s");
  expect(nc_format_ms(185000), "3 min 05 s");
  expect(nc_format_ms(7380000), "2 h 03 min");
}

static void
test_rates(void)
{
  const struct {
    const char *text;
    int64_t rate; /* -1: refused */
  } rates[] = {
    { "0", 0 },
    { "1000", 1000 },
    { "50M", 50000000 },
    { "50MB/s", 50000000 },
    { "50 MB/s", 50000000 },
    { "1.5G", 1500000000 },
    { "64MiB/s", 67108864 },
    { "800Mbit", 100000000 },
    { "1gbit/s", 125000000 },
    { "", -1 },
    { "-1", -1 },
    { "fast", -1 },
    { "1e5", -1 },
    { "0x10", -1 },
    { "5 apples", -1 },
    { "nan", -1 },
    { "inf", -1 },
    { "1..2", -1 },
    { "2000GB/s", -1 },
    { "1M M", -1 },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(rates); i++) {
    int64_t rate = -1;
    g_test_message("%s", rates[i].text);
    g_assert_true(nc_parse_rate(rates[i].text, &rate, NULL) == (rates[i].rate >= 0));
    g_assert_cmpint(rate, ==, rates[i].rate);
  }
}

static void
test_durations(void)
{
  int64_t s = 0;
  g_assert_true(nc_parse_duration("90", &s, NULL) && s == 90);
  g_assert_true(nc_parse_duration("15min", &s, NULL) && s == 900);
  g_assert_true(nc_parse_duration("1d", &s, NULL) && s == 86400);
  g_assert_false(nc_parse_duration("soon", &s, NULL));
  g_assert_false(nc_parse_duration("400d", &s, NULL));
}

static void
test_clean(void)
{
  expect(nc_text_clean("plain \xc3\xa4"), "plain \xc3\xa4");
  expect(nc_text_clean("\x1b[31mred\x1b[0m\r\n"), "?[31mred?[0m??");
  expect(nc_text_clean("a\xc2\x9b"
                       "31m"),
         "a??31m"); /* CSI in its 8-bit form */
  expect(nc_text_clean("\xff"), "\xef\xbf\xbd");
}

static void
check_exit(const char *text, int status)
{
  nc_autojson json_t *migration = json_loads(text, 0, NULL);
  g_assert_nonnull(migration);
  g_assert_cmpint(nc_migration_exit_status(migration), ==, status);
}

static void
test_exit_statuses(void)
{
  check_exit("{\"outcome\":\"completed\",\"phase\":\"completed\"}", 0);
  check_exit("{\"outcome\":\"cancelled\",\"phase\":\"cancelled\"}", 9);
  check_exit("{\"outcome\":null,\"phase\":\"needs_attention\"}", 11);
  check_exit("{\"outcome\":\"failed\",\"error\":{\"code\":\"unsuitable\",\"message\":\"x\"}}", 6);
  check_exit("{\"outcome\":\"failed\",\"error\":{\"code\":\"qemu\",\"message\":\"x\"}}", 10);
  check_exit("{\"outcome\":\"failed\",\"error\":null}", 10);
  check_exit("{\"outcome\":\"failed\"}", 10);
}

static void
test_progress_fits(void)
{
  nc_autojson json_t *migration = json_loads(
      "{\"phase\":\"needs_attention_and_more_than_that\",\"progress\":100,\"rate_bps\":999949999,\"ratio\":1234.5,"
      "\"ram_remaining_bytes\":1099511627000,\"eta_ms\":3599000}",
      0, NULL);
  g_autofree char *line = nc_migration_progress(migration);
  g_assert_cmpint(g_utf8_strlen(line, -1), <=, 80);
  nc_autojson json_t *nothing = json_object();
  g_autofree char *empty = nc_migration_progress(nothing);
  g_assert_nonnull(empty);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/cli/units/format", test_format);
  g_test_add_func("/cli/units/rates", test_rates);
  g_test_add_func("/cli/units/durations", test_durations);
  g_test_add_func("/cli/text/clean", test_clean);
  g_test_add_func("/cli/migration/exit_statuses", test_exit_statuses);
  g_test_add_func("/cli/migration/progress_fits", test_progress_fits);
  return g_test_run();
}
