/* SPDX-License-Identifier: Apache-2.0 */
/* Each way of hashing leaves gives what the definition says, for every shape of a piece. */
#include "crypto/piece_digest.h"

#include <string.h>

/* By the definition, with nothing but nc_sha256(). */
static void
expected_digest(const uint8_t *data, size_t length, uint8_t ret[NC_SHA256_BYTES])
{
  g_autoptr(GByteArray) leaves = g_byte_array_new();

  for (size_t at = 0; at < length; at += NC_PIECE_LEAF_BYTES) {
    uint8_t leaf[NC_SHA256_BYTES];
    nc_sha256(data + at, MIN(length - at, NC_PIECE_LEAF_BYTES), leaf);
    g_byte_array_append(leaves, leaf, sizeof leaf);
  }
  nc_sha256(leaves->data, leaves->len, ret);
}

static uint8_t *
random_piece(size_t length)
{
  uint8_t *data = g_malloc(length);
  for (size_t i = 0; i < length; i++)
    data[i] = (uint8_t)g_test_rand_int();
  return data;
}

static void
check(const uint8_t *data, size_t length)
{
  uint8_t expected[NC_SHA256_BYTES], got[NC_SHA256_BYTES];

  expected_digest(data, length, expected);
  for (NcPieceWay way = 0; way < NC_PIECE_WAY_COUNT; way++)
    if (nc_piece_way_is_possible(way)) {
      nc_piece_digest_by(way, data, length, got);
      g_assert_cmpmem(got, sizeof got, expected, sizeof expected);
    }
  nc_piece_digest(data, length, got);
  g_assert_cmpmem(got, sizeof got, expected, sizeof expected);
}

static void
test_every_shape(void)
{
  static const size_t tails[] = { 0, 1, 63, 64, 65, 4095 };
  g_autofree uint8_t *data = random_piece(40 * (size_t)NC_PIECE_LEAF_BYTES);

  for (size_t leaves = 0; leaves < 39; leaves++)
    for (size_t i = 0; i < G_N_ELEMENTS(tails); i++)
      if (leaves + tails[i] > 0)
        check(data + i, leaves * NC_PIECE_LEAF_BYTES + tails[i]); /* at every alignment, too */
}

static void
test_largest(void)
{
  size_t length = (size_t)NC_PIECE_LEAVES_MAX * NC_PIECE_LEAF_BYTES;
  g_autofree uint8_t *data = random_piece(length);
  check(data, length);
}

/* No lane's byte is left out. */
static void
test_every_byte_counts(void)
{
  size_t length = 17 * (size_t)NC_PIECE_LEAF_BYTES + 5;
  g_autofree uint8_t *data = random_piece(length);
  uint8_t before[NC_SHA256_BYTES], after[NC_SHA256_BYTES];

  nc_piece_digest(data, length, before);
  for (size_t at = 0; at < length; at += 97) {
    data[at] ^= 0x10;
    nc_piece_digest(data, length, after);
    g_assert_false(nc_constant_time_equal(before, after, sizeof before));
    data[at] ^= 0x10;
  }
}

static void
test_leaves_are_in_order(void)
{
  g_autofree uint8_t *data = random_piece(2 * (size_t)NC_PIECE_LEAF_BYTES);
  uint8_t before[NC_SHA256_BYTES], after[NC_SHA256_BYTES], leaf[NC_PIECE_LEAF_BYTES];

  nc_piece_digest(data, 2 * (size_t)NC_PIECE_LEAF_BYTES, before);
  memcpy(leaf, data, sizeof leaf);
  memcpy(data, data + sizeof leaf, sizeof leaf);
  memcpy(data + sizeof leaf, leaf, sizeof leaf);
  nc_piece_digest(data, 2 * (size_t)NC_PIECE_LEAF_BYTES, after);
  g_assert_false(nc_constant_time_equal(before, after, sizeof before));
}

static void
test_a_way_is_chosen_that_is_possible(void)
{
  g_assert_true(nc_piece_way_is_possible(nc_piece_way()));
  g_assert_true(nc_piece_way_is_possible(NC_PIECE_BY_OPENSSL));
  g_test_message("leaves are hashed by %s here", nc_piece_way_name(nc_piece_way()));
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/piece-digest/every-shape", test_every_shape);
  g_test_add_func("/piece-digest/largest", test_largest);
  g_test_add_func("/piece-digest/every-byte-counts", test_every_byte_counts);
  g_test_add_func("/piece-digest/leaves-are-in-order", test_leaves_are_in_order);
  g_test_add_func("/piece-digest/a-way-is-chosen-that-is-possible", test_a_way_is_chosen_that_is_possible);
  return g_test_run();
}
