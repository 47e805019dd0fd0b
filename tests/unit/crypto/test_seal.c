/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of crypto/seal.h: only the same bytes under the same key in the same place open; no nonce comes twice. */
#include "crypto/digest.h"
#include "crypto/seal.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint8_t key_bytes[NC_SEAL_KEY_BYTES] = { 7, 1, 2 };

static void
opens_only_what_was_sealed(void)
{
  g_autoptr(NcSealKey) key = nc_seal_key_new(key_bytes);
  uint8_t salt[NC_SEAL_SALT_BYTES], nonce[NC_SEAL_NONCE_BYTES], peeked[NC_SEAL_NONCE_BYTES];
  uint8_t sealed[5 + NC_SEAL_TAG_BYTES], plain[5];
  g_autoptr(NcSealer) sealer = nc_sealer_new(key, salt);

  nc_sealer_peek_nonce(sealer, peeked);
  nc_sealer_seal(sealer, "here", 4, "hello", 5, nonce, sealed);
  g_assert_cmpmem(nonce, sizeof nonce, peeked, sizeof peeked);
  g_assert_null(memmem(sealed, sizeof sealed, "hell", 4));
  g_autoptr(NcOpener) opener = nc_opener_new(key, salt);
  g_assert_true(nc_opener_open(opener, "here", 4, nonce, sealed, sizeof sealed, plain));
  g_assert_cmpmem(plain, 5, "hello", 5);
  g_assert_false(nc_opener_open(opener, "there", 5, nonce, sealed, sizeof sealed, plain));
  g_assert_false(nc_opener_open(opener, "here", 4, nonce, sealed, sizeof sealed - 1, plain));
  g_assert_false(nc_opener_open(opener, "here", 4, nonce, sealed, NC_SEAL_TAG_BYTES - 1, plain));
  for (unsigned i = 0; i < sizeof sealed; i++) {
    sealed[i] ^= 1;
    g_assert_false(nc_opener_open(opener, "here", 4, nonce, sealed, sizeof sealed, plain));
    sealed[i] ^= 1;
  }
  nonce[3] ^= 1;
  g_assert_false(nc_opener_open(opener, "here", 4, nonce, sealed, sizeof sealed, plain));
  nonce[3] ^= 1;
  salt[0] ^= 1;
  g_autoptr(NcOpener) other_salt = nc_opener_new(key, salt);
  g_assert_false(nc_opener_open(other_salt, "here", 4, nonce, sealed, sizeof sealed, plain));
}

static void
nothing_can_be_sealed(void)
{
  g_autoptr(NcSealKey) key = nc_seal_key_new(key_bytes);
  uint8_t salt[NC_SEAL_SALT_BYTES], nonce[NC_SEAL_NONCE_BYTES], sealed[NC_SEAL_TAG_BYTES], plain[1];
  g_autoptr(NcSealer) sealer = nc_sealer_new(key, salt);
  g_autoptr(NcOpener) opener = nc_opener_new(key, salt);

  nc_sealer_seal(sealer, "a", 1, NULL, 0, nonce, sealed);
  g_assert_true(nc_opener_open(opener, "a", 1, nonce, sealed, sizeof sealed, plain));
  sealed[4] ^= 128;
  g_assert_false(nc_opener_open(opener, "a", 1, nonce, sealed, sizeof sealed, plain));
}

static void
no_nonce_comes_twice(void)
{
  g_autoptr(NcSealKey) key = nc_seal_key_new(key_bytes);
  uint8_t salt[NC_SEAL_SALT_BYTES], other[NC_SEAL_SALT_BYTES], nonce[NC_SEAL_NONCE_BYTES], sealed[1 + NC_SEAL_TAG_BYTES];
  g_autoptr(NcSealer) sealer = nc_sealer_new(key, salt);
  g_autoptr(NcSealer) another = nc_sealer_new(key, other);
  g_autoptr(GHashTable) seen = g_hash_table_new_full(g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, NULL);

  g_assert_cmpint(memcmp(salt, other, sizeof salt), !=, 0);
  for (unsigned i = 0; i < 70000; i++) { /* past a carry of 16 bits, wherever it begins */
    nc_sealer_seal(sealer, "", 0, "x", 1, nonce, sealed);
    g_assert_true(g_hash_table_add(seen, g_bytes_new(nonce, sizeof nonce)));
  }
}

static void
names_depend_on_the_key(void)
{
  uint8_t other_bytes[NC_SEAL_KEY_BYTES] = { 7, 1, 3 }, a[32], b[32], c[32], plain[32];
  g_autoptr(NcSealKey) key = nc_seal_key_new(key_bytes);
  g_autoptr(NcSealKey) other = nc_seal_key_new(other_bytes);
  g_autoptr(NcSealKey) copy = nc_seal_key_copy(key);

  nc_seal_key_mac(key, "page", 4, a);
  nc_seal_key_mac(other, "page", 4, b);
  nc_seal_key_mac(copy, "page", 4, c);
  nc_sha256("page", 4, plain);
  g_assert_cmpmem(a, 32, c, 32);
  g_assert_cmpint(memcmp(a, b, 32), !=, 0);
  g_assert_cmpint(memcmp(a, plain, 32), !=, 0);
}

static void
key_files_are_private(void)
{
  g_autofree char *dir = g_dir_make_tmp("nc-seal-XXXXXX", NULL);
  g_autofree char *path = g_build_filename(dir, "store.key", NULL), *link = g_build_filename(dir, "link", NULL);
  g_autoptr(GError) error = NULL;
  struct stat st;
  uint8_t a[32], b[32];

  g_assert_null(nc_seal_key_load(path, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
  g_clear_error(&error);
  g_autoptr(NcSealKey) made = nc_seal_key_create(path, &error);
  g_assert_no_error(error);
  g_assert_cmpint(stat(path, &st), ==, 0);
  g_assert_cmpuint(st.st_mode & 07777, ==, 0600);
  g_assert_cmpint(st.st_size, ==, 32);
  g_autoptr(NcSealKey) loaded = nc_seal_key_load(path, &error);
  nc_seal_key_mac(made, "x", 1, a);
  nc_seal_key_mac(loaded, "x", 1, b);
  g_assert_cmpmem(a, 32, b, 32);
  g_assert_null(nc_seal_key_create(path, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_EXISTS);
  g_clear_error(&error);
  g_assert_cmpint(symlink(path, link), ==, 0);
  g_assert_null(nc_seal_key_load(link, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_IO);
  g_clear_error(&error);
  g_assert_cmpint(chmod(path, 0640), ==, 0);
  g_assert_null(nc_seal_key_load(path, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  g_clear_error(&error);
  g_assert_cmpint(chmod(path, 0600) | truncate(path, 31), ==, 0);
  g_assert_null(nc_seal_key_load(path, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_TRUST);
  g_unlink(link);
  g_unlink(path);
  g_rmdir(dir);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/seal/opens_only_what_was_sealed", opens_only_what_was_sealed);
  g_test_add_func("/seal/nothing_can_be_sealed", nothing_can_be_sealed);
  g_test_add_func("/seal/no_nonce_comes_twice", no_nonce_comes_twice);
  g_test_add_func("/seal/names_depend_on_the_key", names_depend_on_the_key);
  g_test_add_func("/seal/key_files_are_private", key_files_are_private);
  return g_test_run();
}
