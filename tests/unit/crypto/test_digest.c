/* SPDX-License-Identifier: Apache-2.0 */
/* Digests against the vectors of FIPS 180-4, and the promises of digest.h about them. */
#include "crypto/digest.h"
#include "base/bytes.h"

#include <string.h>

static const struct {
  const char *text;
  const char *hex;
} vector[] = {
  { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
  { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
  { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
};

static void
known_vectors(void)
{
  for (size_t i = 0; i < G_N_ELEMENTS(vector); i++) {
    g_autofree char *hex = nc_sha256_hex(vector[i].text, strlen(vector[i].text));
    g_assert_cmpstr(hex, ==, vector[i].hex);
  }
  g_autofree char *empty = nc_sha256_hex(NULL, 0);
  g_assert_cmpstr(empty, ==, vector[0].hex);
}

static void
snapshot_does_not_disturb(void)
{
  g_autoptr(NcSha256) sha = nc_sha256_new();
  uint8_t got[NC_SHA256_BYTES], expected[NC_SHA256_BYTES];
  const char *text = vector[2].text;

  for (size_t i = 0; i <= strlen(text); i++) {
    nc_sha256_snapshot(sha, got);
    nc_sha256(text, i, expected);
    g_assert_cmpmem(got, sizeof got, expected, sizeof expected);
    if (text[i])
      nc_sha256_update(sha, text + i, 1);
  }
}

static gpointer
hash_many(gpointer seed)
{
  uint8_t page[4096], digest[NC_SHA256_BYTES], again[NC_SHA256_BYTES];

  memset(page, GPOINTER_TO_INT(seed), sizeof page);
  nc_sha256(page, sizeof page, digest);
  for (int i = 0; i < 2000; i++) {
    nc_sha256(page, sizeof page, again);
    g_assert_cmpmem(digest, sizeof digest, again, sizeof again);
  }
  return NULL;
}

static void
threads_do_not_share_a_context(void)
{
  GThread *thread[4];

  for (int i = 0; i < 4; i++)
    thread[i] = g_thread_new("hash", hash_many, GINT_TO_POINTER(i));
  for (int i = 0; i < 4; i++)
    g_thread_join(thread[i]);
}

static void
random_bytes_differ_and_compare(void)
{
  uint8_t a[32], b[32];

  nc_random_bytes(a, sizeof a);
  nc_random_bytes(b, sizeof b);
  g_assert_false(nc_constant_time_equal(a, b, sizeof a));
  memcpy(b, a, sizeof a);
  g_assert_true(nc_constant_time_equal(a, b, sizeof a));
  b[31] ^= 1;
  g_assert_false(nc_constant_time_equal(a, b, sizeof a));
  nc_secret_clear(b, sizeof b);
  g_assert_cmpint(b[0] | b[31], ==, 0);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/digest/known_vectors", known_vectors);
  g_test_add_func("/digest/snapshot_does_not_disturb", snapshot_does_not_disturb);
  g_test_add_func("/digest/threads_do_not_share_a_context", threads_do_not_share_a_context);
  g_test_add_func("/digest/random_bytes_differ_and_compare", random_bytes_differ_and_compare);
  return g_test_run();
}
