/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks that are put and blocks that are known come into the manifest in the order in which they were added. */
#include "checkpoint/puts.h"
#include "page_support.h"

#include <string.h>

#define BLOCKS 20000u /* more than any batch has */

static void
content_of(uint32_t number, uint8_t ret[512])
{
  memset(ret, 0, 512);
  memcpy(ret, &number, sizeof number);
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

typedef struct {
  char *dir;
  NcPageStore *store;
} Fixture;

static void
setup(Fixture *f, gconstpointer data)
{
  f->dir = test_directory();
  f->store = test_open(f->dir, NULL);
}

static void
teardown(Fixture *f, gconstpointer data)
{
  nc_page_store_close(f->store);
  test_remove(f->dir);
  g_free(f->dir);
}

static void
test_order(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  for (uint32_t each = 1; each <= 5000; each = each * 7 + 1) { /* 1, 8, 57, 400, 2801 */
    g_autofree char *name = g_strdup_printf("each-%u", each);
    mix(f->store, name, each, &error);
    check(f->store, name, &error);
  }
}

static void
test_what_is_not_there_is_refused(Fixture *f, gconstpointer data)
{
  const uint8_t hash[NC_SHA256_BYTES] = { 1 };
  g_autoptr(GError) error = NULL;
  NcPutsTotals totals;
  g_autoptr(NcPageStoreWriter) writer = nc_page_store_writer_new(f->store, &error);
  g_autoptr(NcManifestWriter) manifest = nc_manifest_begin(writer, "m", &error);
  g_autoptr(NcPuts) puts = nc_puts_new(writer, manifest);

  g_assert_false(nc_puts_add_known(puts, hash, 0, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  g_clear_error(&error);
  g_assert_false(nc_puts_add_known(puts, hash, 100, &error) && nc_puts_finish(puts, &totals, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add("/puts/order", Fixture, NULL, setup, test_order, teardown);
  g_test_add("/puts/not-there", Fixture, NULL, setup, test_what_is_not_there_is_refused, teardown);
  return g_test_run();
}
