/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks that are put and blocks that are known come into the manifest in the order in which they were added. */
#include "checkpoint/puts.h"

#include <glib/gstdio.h>
#include <string.h>

#define BLOCKS 20000u /* more than any batch has */

static void
content_of(uint32_t number, uint8_t ret[512])
{
  memset(ret, 0, 512);
  memcpy(ret, &number, sizeof number);
}

static void
remove_all(const char *path)
{
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  const char *name;

  while (dir && (name = g_dir_read_name(dir)) != NULL) {
    g_autofree char *inner = g_build_filename(path, name, NULL);
    remove_all(inner);
  }
  g_remove(path);
}

/* Every ${each}th block is put, the others are known, from a manifest before. */
static void
mix(NcPageStore *store, const char *name, uint32_t each, GError **error)
{
  g_autoptr(NcPageStoreWriter) writer = nc_page_store_writer_new(store, error);
  g_autoptr(NcManifestWriter) manifest = nc_manifest_begin(writer, name, error);
  g_autoptr(NcPuts) puts = nc_puts_new(writer, manifest);
  NcPutsTotals totals;

  for (uint32_t i = 0; i < BLOCKS; i++) {
    uint8_t block[512], hash[NC_SHA256_BYTES];
    content_of(i, block);
    nc_sha256(block, sizeof block, hash);
    g_assert_true(i % each == 0 ? nc_puts_add(puts, block, sizeof block, error) : nc_puts_add_known(puts, hash, sizeof block, error));
  }
  g_assert_true(nc_puts_finish(puts, &totals, error));
  g_assert_cmpuint(totals.blocks, ==, BLOCKS);
  g_assert_cmpuint(totals.bytes, ==, BLOCKS * 512u);
  g_assert_cmpuint(totals.new_blocks, ==, each == 1 ? BLOCKS : 0);
  g_assert_true(nc_manifest_commit(manifest, NULL, 0, error));
}

static void
check(NcPageStore *store, const char *name, GError **error)
{
  g_autoptr(NcManifestReader) reader = nc_manifest_open(store, name, error);
  NcManifestEntry entry;

  for (uint32_t i = 0; i < BLOCKS; i++) {
    uint8_t block[512], hash[NC_SHA256_BYTES];
    content_of(i, block);
    nc_sha256(block, sizeof block, hash);
    g_assert_cmpint(nc_manifest_next(reader, &entry, error), ==, NC_MANIFEST_ENTRY);
    g_assert_cmpmem(entry.hash, sizeof entry.hash, hash, sizeof hash);
    g_assert_cmpuint(entry.length, ==, sizeof block);
  }
  g_assert_cmpint(nc_manifest_next(reader, &entry, error), ==, NC_MANIFEST_END);
}

static void
test_order(void)
{
  g_autofree char *dir = g_dir_make_tmp("nc-puts-XXXXXX", NULL);
  const NcPageStoreOptions options = { 0 };
  g_autoptr(GError) error = NULL;
  NcPageStore *store = nc_page_store_open(dir, &options, &error);

  g_assert_no_error(error);
  for (uint32_t each = 1; each <= 5000; each = each * 7 + 1) { /* 1, 8, 57, 400, 2801 */
    g_autofree char *name = g_strdup_printf("each-%u", each);
    mix(store, name, each, &error);
    check(store, name, &error);
  }
  nc_page_store_close(store);
  remove_all(dir);
}

static void
test_what_is_not_there_is_refused(void)
{
  g_autofree char *dir = g_dir_make_tmp("nc-puts-XXXXXX", NULL);
  const NcPageStoreOptions options = { 0 };
  const uint8_t hash[NC_SHA256_BYTES] = { 1 };
  g_autoptr(GError) error = NULL;
  NcPutsTotals totals;
  NcPageStore *store = nc_page_store_open(dir, &options, &error);
  {
    g_autoptr(NcPageStoreWriter) writer = nc_page_store_writer_new(store, &error);
    g_autoptr(NcManifestWriter) manifest = nc_manifest_begin(writer, "m", &error);
    g_autoptr(NcPuts) puts = nc_puts_new(writer, manifest);

    g_assert_false(nc_puts_add_known(puts, hash, 0, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
    g_clear_error(&error);
    g_assert_false(nc_puts_add_known(puts, hash, 100, &error) && nc_puts_finish(puts, &totals, &error));
    g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
  }
  nc_page_store_close(store);
  remove_all(dir);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/puts/order", test_order);
  g_test_add_func("/puts/not-there", test_what_is_not_there_is_refused);
  return g_test_run();
}
