/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of store/page_store.h while all is well: what goes in comes out, what is named stays, what is not goes. */
#include "page_fixture.h"

static void
blocks_come_back(Fixture *f, gconstpointer data)
{
  uint8_t hash[NC_SHA256_BYTES], room[16];
  uint32_t length;

  g_assert_true(test_put(f->writer, 0, 300, &f->error));
  for (unsigned i = 0; i < 300; i++)
    g_assert_true(test_get(f->store, i, &f->error));
  test_block_hash(300, hash);
  g_assert_false(nc_page_store_has(f->store, hash));
  g_assert_false(test_get(f->store, 300, &f->error));
  assert_failed(f, NC_ERROR_NOT_FOUND, "no block");
  test_block_hash(1, hash);
  g_assert_true(nc_page_store_has(f->store, hash));
  g_assert_false(nc_page_store_get(f->store, hash, room, sizeof room, &length, &f->error));
  assert_failed(f, NC_ERROR_INVALID, "with room for 16");
  reopen(f, &small_packs);
  for (unsigned i = 0; i < 300; i++)
    g_assert_true(test_get(f->store, i, &f->error));
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
}

static void
the_same_is_stored_once(Fixture *f, gconstpointer data)
{
  uint8_t page[4096] = "twice";
  NcPageBlock blocks[] = { { .data = page, .length = 4096 }, { .data = page, .length = 4096 }, { .data = page, .length = 4095 } };

  g_assert_true(nc_page_store_put(f->writer, blocks, 3, NC_PUT_COMPUTE, &f->error));
  g_assert_true(blocks[0].is_new && !blocks[1].is_new && blocks[2].is_new);
  g_assert_true(nc_page_store_put(f->writer, blocks, 3, NC_PUT_VERIFY, &f->error));
  g_assert_false(blocks[0].is_new || blocks[1].is_new || blocks[2].is_new);
  g_assert_cmpuint(stats(f).blocks, ==, 2);
  g_assert_cmpuint(stats(f).block_bytes, ==, 4096 + 4095);
}

static void
bounds_are_kept(Fixture *f, gconstpointer data)
{
  g_autofree uint8_t *large = g_malloc0(NC_PAGE_STORE_BLOCK_MAX + 1);
  g_autofree NcPageBlock *many = g_new0(NcPageBlock, NC_PAGE_STORE_PUT_BLOCKS + 1);
  NcPageBlock block = { .data = large, .length = NC_PAGE_STORE_BLOCK_MAX };

  g_assert_true(nc_page_store_put(f->writer, &block, 1, NC_PUT_COMPUTE, &f->error));
  g_assert_true(nc_page_store_put(f->writer, NULL, 0, NC_PUT_COMPUTE, &f->error));
  block.length++;
  g_assert_false(nc_page_store_put(f->writer, &block, 1, NC_PUT_COMPUTE, &f->error));
  assert_failed(f, NC_ERROR_INVALID, "65537 bytes");
  block.length = 0;
  g_assert_false(nc_page_store_put(f->writer, &block, 1, NC_PUT_COMPUTE, &f->error));
  assert_failed(f, NC_ERROR_INVALID, "0 bytes");
  for (unsigned i = 0; i <= NC_PAGE_STORE_PUT_BLOCKS; i++)
    many[i] = (NcPageBlock){ .data = large, .length = 1 + i };
  g_assert_true(nc_page_store_put(f->writer, many, NC_PAGE_STORE_PUT_BLOCKS, NC_PUT_COMPUTE, &f->error));
  g_assert_false(nc_page_store_put(f->writer, many, NC_PAGE_STORE_PUT_BLOCKS + 1, NC_PUT_COMPUTE, &f->error));
  assert_failed(f, NC_ERROR_INVALID, "at most 4096");
  for (unsigned i = 0; i < 257; i++)
    many[i].length = NC_PAGE_STORE_BLOCK_MAX;
  g_assert_false(nc_page_store_put(f->writer, many, 257, NC_PUT_COMPUTE, &f->error));
  assert_failed(f, NC_ERROR_INVALID, "bytes in one put");
}

static void
a_wrong_hash_is_refused(Fixture *f, gconstpointer data)
{
  uint8_t page[4096] = "a page";
  NcPageBlock blocks[] = { { .data = page, .length = 4096 }, { .data = page, .length = 100 } };

  nc_sha256(page, 4096, blocks[0].hash);
  g_assert_false(nc_page_store_put(f->writer, blocks, 2, NC_PUT_VERIFY, &f->error));
  assert_failed(f, NC_ERROR_CORRUPT, "block 1");
  g_assert_false(nc_page_store_has(f->store, blocks[0].hash));
  g_assert_cmpuint(stats(f).packs, ==, 0);
}

static void
compression_pays(Fixture *f, gconstpointer data)
{
  g_autofree uint8_t *pages = g_malloc0(64 * 4096);
  NcPageBlock blocks[64];

  for (unsigned i = 0; i < 64; i++) {
    pages[i * 4096] = (uint8_t)i;
    blocks[i] = (NcPageBlock){ .data = pages + i * 4096, .length = 4096 };
  }
  g_assert_true(nc_page_store_put(f->writer, blocks, 64, NC_PUT_COMPUTE, &f->error));
  g_assert_cmpuint(stats(f).pack_bytes, <, 64 * 4096 / 16);
}

static void
manifests_list_and_delete(Fixture *f, gconstpointer data)
{
  g_assert_true(test_put(f->writer, 0, 40, &f->error));
  g_assert_true(test_manifest(f->writer, "second", 0, 40, &f->error));
  g_assert_true(test_manifest(f->writer, "first", 10, 20, &f->error));
  g_assert_false(test_manifest(f->writer, "first", 10, 20, &f->error));
  assert_failed(f, NC_ERROR_EXISTS, "first");
  reopen(f, &small_packs);
  g_autoptr(GArray) list = nc_manifest_list(f->store, &f->error);
  g_assert_cmpuint(list->len, ==, 2);
  g_assert_cmpstr(g_array_index(list, NcManifestInfo, 0).name, ==, "first");
  g_assert_cmpuint(g_array_index(list, NcManifestInfo, 0).entries, ==, 21);
  test_check_manifest(f->store, "second", 0, 40);
  test_check_manifest(f->store, "first", 10, 20);
  g_assert_cmpuint(stats(f).manifests, ==, 2);
  g_assert_true(nc_manifest_delete(f->store, "first", &f->error));
  g_assert_false(nc_manifest_delete(f->store, "first", &f->error));
  assert_failed(f, NC_ERROR_NOT_FOUND, "first");
  g_assert_null(nc_manifest_open(f->store, "first", &f->error));
  assert_failed(f, NC_ERROR_NOT_FOUND, "first");
  g_assert_null(nc_manifest_open(f->store, "../second", &f->error));
  assert_failed(f, NC_ERROR_INVALID, "can't name a manifest");
}

static void
a_manifest_names_only_what_is_there(Fixture *f, gconstpointer data)
{
  uint8_t hash[NC_SHA256_BYTES];
  g_autoptr(NcManifestWriter) manifest = nc_manifest_begin(f->writer, "m", &f->error);

  g_assert_no_error(f->error);
  test_block_hash(5, hash);
  g_assert_false(nc_manifest_add(manifest, hash, 905, &f->error));
  assert_failed(f, NC_ERROR_NOT_FOUND, "wants block");
  g_assert_true(test_put(f->writer, 5, 1, &f->error));
  g_assert_false(nc_manifest_add(manifest, hash, 904, &f->error));
  assert_failed(f, NC_ERROR_INVALID, "904");
  g_assert_true(nc_manifest_add(manifest, hash, 905, &f->error));
}

static void
an_abandoned_manifest_leaves_nothing_but_garbage(Fixture *f, gconstpointer data)
{
  uint64_t before = stats(f).used_bytes;
  NcManifestWriter *manifest = nc_manifest_begin(f->writer, "m", &f->error);

  g_assert_null(nc_manifest_begin(f->writer, "m", &f->error));
  assert_failed(f, NC_ERROR_EXISTS, "being written");
  for (unsigned i = 0; i < 5000; i++)
    g_assert_true(nc_manifest_add_hole(manifest, i, &f->error));
  g_assert_cmpuint(stats(f).used_bytes, >, before);
  nc_manifest_writer_free(manifest);
  g_assert_cmpuint(stats(f).manifest_bytes, ==, 0);
  new_writer(f);
  gc(f); /* parts of it were blocks already */
  g_assert_cmpuint(stats(f).blocks, ==, 0);
  g_assert_cmpuint(stats(f).pack_bytes, ==, 0);
}

static void
a_large_header_and_many_entries(Fixture *f, gconstpointer data)
{
  g_autofree uint8_t *header = g_malloc(700000);
  NcManifestWriter *manifest = nc_manifest_begin(f->writer, "large", &f->error);
  NcManifestEntry entry;
  size_t length;

  for (unsigned i = 0; i < 700000; i++)
    header[i] = (uint8_t)(i * 7 / 3);
  for (unsigned i = 0; i < 10000; i++)
    g_assert_true(nc_manifest_add_hole(manifest, i * 400000u, &f->error));
  g_assert_true(nc_manifest_commit(manifest, header, 700000, &f->error));
  g_assert_false(nc_manifest_commit(manifest, header, 700000, &f->error));
  assert_failed(f, NC_ERROR_CONFLICT, "before");
  nc_manifest_writer_free(manifest);
  g_autoptr(NcManifestReader) reader = nc_manifest_open(f->store, "large", &f->error);
  const void *again = nc_manifest_header(reader, &length);
  g_assert_cmpmem(again, length, header, 700000);
  for (unsigned round = 0; round < 2; round++) {
    for (unsigned i = 0; i < 10000; i++) {
      g_assert_cmpint(nc_manifest_next(reader, &entry, &f->error), ==, NC_MANIFEST_ENTRY);
      g_assert_cmpuint(entry.length, ==, i * 400000u);
    }
    g_assert_cmpint(nc_manifest_next(reader, &entry, &f->error), ==, NC_MANIFEST_END);
    nc_manifest_rewind(reader);
  }
}

static void
gc_takes_what_nobody_names(Fixture *f, gconstpointer data)
{
  for (unsigned i = 0; i < 1000; i += 50)
    g_assert_true(test_put(f->writer, i, 50, &f->error));
  g_assert_true(test_manifest(f->writer, "old", 0, 1000, &f->error));
  g_assert_true(test_manifest(f->writer, "kept", 700, 20, &f->error));
  new_writer(f);
  uint64_t before = stats(f).pack_bytes;
  g_assert_cmpuint(gc(f).freed_bytes, ==, 0);
  g_assert_true(nc_manifest_delete(f->store, "old", &f->error));
  NcPageStoreGcOptions dry = { .dry_run = true };
  NcPageStoreGcReport report;
  g_assert_true(nc_page_store_gc(f->store, &dry, &report, &f->error));
  g_assert_cmpuint(report.dead_bytes, >, before * 9 / 10);
  g_assert_cmpuint(stats(f).dead_bytes, ==, report.dead_bytes);
  report = gc(f);
  g_assert_cmpuint(report.packs_removed, >, 2);
  g_assert_cmpuint(report.packs_rewritten, >=, 1);
  g_assert_cmpuint(stats(f).pack_bytes, <, before / 10);
  test_check_manifest(f->store, "kept", 700, 20);
  g_assert_false(test_get(f->store, 3, &f->error));
  assert_failed(f, NC_ERROR_NOT_FOUND, "no block");
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
  g_assert_true(test_put(f->writer, 0, 30, &f->error)); /* what went can come again */
  g_assert_true(test_get(f->store, 3, &f->error));
  reopen(f, &small_packs);
  test_check_manifest(f->store, "kept", 700, 20);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
}

static void
gc_spares_living_writers(Fixture *f, gconstpointer data)
{
  uint8_t hash[NC_SHA256_BYTES];

  g_assert_true(test_put(f->writer, 0, 200, &f->error));
  new_writer(f); /* nobody holds these any more */
  g_assert_true(test_put(f->writer, 1000, 200, &f->error));
  test_block_hash(5, hash);
  g_assert_true(nc_page_store_hold(f->writer, hash, NULL));
  gc(f);
  g_assert_true(test_get(f->store, 5, &f->error));
  for (unsigned i = 1000; i < 1200; i++)
    g_assert_true(test_get(f->store, i, &f->error));
  g_assert_true(test_manifest(f->writer, "m", 1000, 200, &f->error));
  new_writer(f);
  gc(f);
  test_check_manifest(f->store, "m", 1000, 200);
  g_assert_false(test_get(f->store, 5, &f->error));
  assert_failed(f, NC_ERROR_NOT_FOUND, "");
}

/* Two writers put the same at once, so that it is there twice; the one whose copy the index does not know goes on. */
static void
gc_spares_the_copy_that_counts(Fixture *f, gconstpointer data)
{
  uint8_t room[NC_PAGE_STORE_BLOCK_MAX], hash[NC_SHA256_BYTES];
  NcFrame frame;

  g_assert_true(test_put(f->writer, 5, 1, &f->error));
  gc(f); /* seals the pack: the other copy comes into another one */
  test_block_hash(5, hash);
  NcFrameBlock block = { .address = hash, .data = room, .length = test_block(5, room) };
  nc_frame_build(&frame, &block, 1, 1);
  g_assert_true(nc_append_frames(f->store, &frame, 1, NULL, false, &f->error)); /* its writer has gone */
  nc_frame_clear(&frame);
  gc(f);
  g_assert_true(test_get(f->store, 5, &f->error));
  g_assert_true(test_manifest(f->writer, "m", 5, 1, &f->error));
  new_writer(f);
  gc(f);
  test_check_manifest(f->store, "m", 5, 1);
}

static void
deleted_while_being_read(Fixture *f, gconstpointer data)
{
  NcManifestEntry entry;

  g_assert_true(test_put(f->writer, 0, 300, &f->error));
  g_assert_true(test_manifest(f->writer, "m", 0, 300, &f->error));
  new_writer(f);
  NcManifestReader *reader = nc_manifest_open(f->store, "m", &f->error);
  g_assert_true(nc_manifest_delete(f->store, "m", &f->error));
  g_assert_null(nc_manifest_open(f->store, "m", &f->error));
  assert_failed(f, NC_ERROR_NOT_FOUND, "no manifest m");
  g_assert_true(test_put(f->writer, 2000, 3, &f->error)); /* the name is free again */
  g_assert_true(test_manifest(f->writer, "m", 2000, 3, &f->error));
  new_writer(f);
  gc(f);
  for (unsigned i = 0; i < 301; i++)
    g_assert_cmpint(nc_manifest_next(reader, &entry, &f->error), ==, NC_MANIFEST_ENTRY);
  for (unsigned i = 0; i < 300; i++)
    g_assert_true(test_get(f->store, i, &f->error));
  nc_manifest_reader_free(reader);
  gc(f);
  g_assert_false(test_get(f->store, 17, &f->error));
  assert_failed(f, NC_ERROR_NOT_FOUND, "no block");
  test_check_manifest(f->store, "m", 2000, 3);
  g_assert_cmpuint(stats(f).manifests, ==, 1);
}

static void
gc_stops_at_a_manifest_it_cannot_read(Fixture *f, gconstpointer data)
{
  g_assert_true(test_put(f->writer, 0, 100, &f->error));
  g_assert_true(test_manifest(f->writer, "m", 0, 100, &f->error));
  new_writer(f);
  g_autofree char *file = test_only_file(f->dir, "manifests");
  test_flip(file, 200, 1);
  NcPageStoreGcReport report;
  g_assert_false(nc_page_store_gc(f->store, NULL, &report, &f->error));
  assert_failed(f, NC_ERROR_CORRUPT, "manifests/m.manifest");
  for (unsigned i = 0; i < 100; i++)
    g_assert_true(test_get(f->store, i, &f->error));
}

static void
small_packs_are_joined(Fixture *f, gconstpointer data)
{
  for (unsigned i = 0; i < 12; i++) {
    g_autofree char *name = g_strdup_printf("m%u", i);
    reopen(f, &small_packs);
    new_writer(f);
    g_assert_true(test_put(f->writer, i * 4, 4, &f->error));
    g_assert_true(test_manifest(f->writer, name, i * 4, 4, &f->error));
  }
  new_writer(f);
  g_assert_cmpuint(stats(f).packs, ==, 12);
  gc(f);
  g_assert_cmpuint(stats(f).packs, <=, 2);
  for (unsigned i = 0; i < 12; i++) {
    g_autofree char *name = g_strdup_printf("m%u", i);
    test_check_manifest(f->store, name, i * 4, 4);
  }
}

int
main(int argc, char **argv)
{
  static const PageTest tests[] = {
    { "blocks_come_back", blocks_come_back },
    { "the_same_is_stored_once", the_same_is_stored_once },
    { "bounds_are_kept", bounds_are_kept },
    { "a_wrong_hash_is_refused", a_wrong_hash_is_refused },
    { "compression_pays", compression_pays },
    { "manifests_list_and_delete", manifests_list_and_delete },
    { "a_manifest_names_only_what_is_there", a_manifest_names_only_what_is_there },
    { "an_abandoned_manifest_leaves_nothing_but_garbage", an_abandoned_manifest_leaves_nothing_but_garbage },
    { "a_large_header_and_many_entries", a_large_header_and_many_entries },
    { "gc_takes_what_nobody_names", gc_takes_what_nobody_names },
    { "gc_spares_living_writers", gc_spares_living_writers },
    { "gc_spares_the_copy_that_counts", gc_spares_the_copy_that_counts },
    { "deleted_while_being_read", deleted_while_being_read },
    { "gc_stops_at_a_manifest_it_cannot_read", gc_stops_at_a_manifest_it_cannot_read },
    { "small_packs_are_joined", small_packs_are_joined },
  };

  return run_page_tests(argc, argv, tests, G_N_ELEMENTS(tests));
}
