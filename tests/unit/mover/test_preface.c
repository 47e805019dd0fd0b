/* SPDX-License-Identifier: Apache-2.0 */
/* The first 32 bytes of a mover's connection: what is written is read, and nothing else is. */
#include "mover/preface.h"
#include "base/io.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void
test_round_trip(void)
{
  static const uint8_t expected[NC_PREFACE_BYTES] = "NCW1\0\1\0\3r-0123456789abcdef";
  uint8_t bytes[NC_PREFACE_BYTES];
  NcPreface preface;

  g_assert_true(nc_preface_encode("r-0123456789abcdef", 3, bytes));
  g_assert_cmpmem(bytes, sizeof bytes, expected, sizeof expected);
  g_assert_true(nc_preface_decode(bytes, &preface));
  g_assert_cmpstr(preface.id, ==, "r-0123456789abcdef");
  g_assert_cmpuint(preface.index, ==, 3);
}

static void
test_ids(void)
{
  uint8_t bytes[NC_PREFACE_BYTES];
  NcPreface preface;

  g_assert_true(nc_preface_encode("012345678901234567890123", 65535, bytes));
  g_assert_true(nc_preface_decode(bytes, &preface));
  g_assert_cmpstr(preface.id, ==, "012345678901234567890123");
  g_assert_false(nc_preface_encode("0123456789012345678901234", 0, bytes));
  g_assert_false(nc_preface_encode("", 0, bytes));
}

static void
test_strangers(void)
{
  uint8_t bytes[NC_PREFACE_BYTES];
  NcPreface preface;

  for (size_t i = 0; i < 6; i++) { /* magic and version */
    g_assert_true(nc_preface_encode("r-1", 0, bytes));
    bytes[i] ^= 1;
    g_assert_false(nc_preface_decode(bytes, &preface));
  }
}

static void
test_await(void)
{
  uint8_t bytes[NC_PREFACE_BYTES];
  bool is_preface = false;
  int pair[2];
  NcPreface preface;

  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
  g_assert_true(nc_preface_encode("r-2", 7, bytes));
  g_assert_true(nc_write_all(pair[0], bytes, sizeof bytes, NULL));
  g_assert_true(nc_preface_await(pair[1], &is_preface, 1000, NULL));
  g_assert_true(is_preface);
  g_assert_true(nc_preface_read(pair[1], &preface, 1000, NULL));
  g_assert_cmpstr(preface.id, ==, "r-2");
  g_assert_true(nc_write_all(pair[0], "\x16\x03\x01", 3, NULL));
  g_assert_true(nc_preface_await(pair[1], &is_preface, 1000, NULL));
  g_assert_false(is_preface); /* TLS: nothing was read */
  g_assert_cmpint(read(pair[1], bytes, sizeof bytes), ==, 3);
  close(pair[0]);
  close(pair[1]);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/preface/round-trip", test_round_trip);
  g_test_add_func("/preface/ids", test_ids);
  g_test_add_func("/preface/strangers", test_strangers);
  g_test_add_func("/preface/await", test_await);
  return g_test_run();
}
