/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of store/page_store.h, one by one: what goes in comes out, what is named stays, what fails says why. */
#include "page_support.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SMALL_PACK (64u << 10)

static const NcPageStoreOptions small_packs = { .pack_bytes = SMALL_PACK };

typedef struct {
  char *dir;
  NcPageStore *store;
  NcPageStoreWriter *writer;
  GError *error;
} Fixture;

static void
setup(Fixture *f, gconstpointer data)
{
  f->dir = test_directory();
  f->store = test_open(f->dir, &small_packs);
  f->writer = nc_page_store_writer_new(f->store, &f->error);
  g_assert_no_error(f->error);
}

static void
teardown(Fixture *f, gconstpointer data)
{
  nc_page_store_writer_free(f->writer);
  nc_page_store_close(f->store);
  g_clear_error(&f->error);
  test_remove(f->dir);
  g_free(f->dir);
}

static void
close_store(Fixture *f)
{
  g_clear_pointer(&f->writer, nc_page_store_writer_free);
  g_clear_pointer(&f->store, nc_page_store_close);
}

static void
reopen(Fixture *f, const NcPageStoreOptions *options)
{
  close_store(f);
  f->store = test_open(f->dir, options);
}

static void
new_writer(Fixture *f)
{
  nc_page_store_writer_free(f->writer);
  f->writer = nc_page_store_writer_new(f->store, &f->error);
  g_assert_no_error(f->error);
}

/* The last error has ${code} and ${text} in it; it is cleared. */
static void
assert_failed(Fixture *f, int code, const char *text)
{
  g_assert_error(f->error, NC_ERROR, code);
  if (!strstr(f->error->message, text))
    g_error("no '%s' in '%s'", text, f->error->message);
  g_clear_error(&f->error);
}

static NcPageStoreStats
stats(const Fixture *f)
{
  NcPageStoreStats s;
  nc_page_store_stats(f->store, &s);
  return s;
}

static NcPageStoreGcReport
gc(Fixture *f)
{
  NcPageStoreGcReport report;
  nc_page_store_gc(f->store, NULL, &report, &f->error);
  g_assert_no_error(f->error);
  return report;
}

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
an_abandoned_manifest_leaves_nothing(Fixture *f, gconstpointer data)
{
  uint64_t before = stats(f).used_bytes;
  NcManifestWriter *manifest = nc_manifest_begin(f->writer, "m", &f->error);

  g_assert_null(nc_manifest_begin(f->writer, "m", &f->error));
  assert_failed(f, NC_ERROR_EXISTS, "being written");
  for (unsigned i = 0; i < 5000; i++)
    g_assert_true(nc_manifest_add_hole(manifest, i, &f->error));
  g_assert_cmpuint(stats(f).used_bytes, >, before);
  nc_manifest_writer_free(manifest);
  g_assert_cmpuint(stats(f).used_bytes, ==, before);
  g_assert_cmpuint(stats(f).manifest_bytes, ==, 0);
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

static void
the_budget_is_a_wall(Fixture *f, gconstpointer data)
{
  NcPageStoreOptions options = { .pack_bytes = SMALL_PACK, .budget_bytes = 200 << 10 };
  unsigned n = 0;

  reopen(f, &options);
  new_writer(f);
  while (test_put(f->writer, n * 4 * 20, 20, &f->error))
    n++;
  assert_failed(f, NC_ERROR_RESOURCE, "budget of 204800 bytes");
  g_assert_cmpuint(n, >, 3);
  g_assert_cmpuint(stats(f).used_bytes, <=, 200 << 10);
  g_assert_false(test_get(f->store, n * 4 * 20, NULL)); /* none of the put that failed */
  for (unsigned i = 0; i < n; i++)
    g_assert_true(test_get(f->store, i * 4 * 20 + 3, &f->error));
  new_writer(f);
  gc(f); /* nothing of it is named */
  g_assert_cmpuint(stats(f).pack_bytes, ==, 0);
  g_assert_true(test_put(f->writer, 0, 20, &f->error));
  reopen(f, &options);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
}

/* The ${countdown}th write fails. */
typedef struct {
  unsigned countdown;
  NcStoreOp op;
  int errnum;
} Failing;

static int
fail_one(NcStoreOp op, const char *name, uint64_t offset, uint64_t length, gpointer data)
{
  Failing *failing = data;
  return op == failing->op && failing->countdown > 0 && --failing->countdown == 0 ? failing->errnum : 0;
}

static void
reopen_failing(Fixture *f, Failing *failing)
{
  close_store(f);
  f->store = nc_page_store_open_hooked(f->dir, &small_packs, fail_one, failing, 0, &f->error);
  g_assert_no_error(f->error);
  new_writer(f);
}

static void
a_full_disk_leaves_nothing_half(Fixture *f, gconstpointer data)
{
  Failing failing = { .op = NC_STORE_WRITE, .errnum = ENOSPC };

  reopen_failing(f, &failing);
  for (unsigned i = 0; i < 20; i++) {
    failing.countdown = 1 + i % 2; /* a pack's header, or its records */
    bool ok = test_put(f->writer, i * 100, 20, &f->error);
    if (ok && failing.countdown == 0)
      continue; /* it was the sealing that failed, which is tried again */
    if (!ok) {
      assert_failed(f, NC_ERROR_RESOURCE, "file system is full");
      g_assert_false(test_get(f->store, i * 100, NULL));
    }
    failing.countdown = 0;
    g_assert_true(test_put(f->writer, i * 100, 20, &f->error));
  }
  failing.countdown = 1;
  g_assert_false(test_manifest(f->writer, "m", 0, 20, &f->error));
  assert_failed(f, NC_ERROR_RESOURCE, "file system is full");
  failing.countdown = 0;
  g_assert_true(test_manifest(f->writer, "m", 0, 20, &f->error));
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
  reopen(f, &small_packs);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
  for (unsigned i = 0; i < 20; i++)
    g_assert_true(test_get(f->store, i * 100 + 19, &f->error));
}

static void
an_fsync_that_fails_ends_writing(Fixture *f, gconstpointer data)
{
  Failing failing = { .op = NC_STORE_SYNC, .errnum = EIO };

  reopen_failing(f, &failing);
  g_assert_true(test_put(f->writer, 0, 10, &f->error));
  failing.countdown = 1;
  g_assert_false(nc_page_store_flush(f->store, &f->error));
  assert_failed(f, NC_ERROR_IO, "make durable");
  g_assert_false(nc_page_store_flush(f->store, &f->error));
  assert_failed(f, NC_ERROR_IO, "opened again");
  g_assert_false(test_put(f->writer, 50, 10, &f->error));
  assert_failed(f, NC_ERROR_IO, "opened again");
  g_assert_true(stats(f).failed);
  g_assert_true(test_get(f->store, 3, &f->error));
  reopen(f, &small_packs);
  new_writer(f);
  g_assert_true(test_put(f->writer, 50, 10, &f->error));
  g_assert_true(nc_page_store_flush(f->store, &f->error));
}

/* In a child with a mount namespace of its own: a tmpfs of 1 MiB, filled. 0: as it should be; 77: no right to mount. */
static int
real_disk_full(void)
{
  g_autofree char *dir = test_directory();
  g_autofree char *sub = g_build_filename(dir, "store", NULL);
  g_autoptr(GError) error = NULL;
  unsigned n = 0;

  if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
      mount("none", dir, "tmpfs", 0, "size=1m") < 0) {
    test_remove(dir);
    return 77;
  }
  NcPageStore *store = test_open(sub, &small_packs);
  NcPageStoreWriter *writer = nc_page_store_writer_new(store, NULL);
  while (test_put(writer, n * 40, 40, &error))
    n++;
  bool full = g_error_matches(error, NC_ERROR, NC_ERROR_RESOURCE) && strstr(error->message, "full") && n > 5;
  g_clear_error(&error);
  bool readable = test_get(store, 5, &error) && test_get(store, (n - 1) * 40 + 39, &error);
  nc_page_store_writer_free(writer);
  bool freed = nc_page_store_gc(store, NULL, NULL, &error);
  writer = nc_page_store_writer_new(store, NULL);
  bool again = test_put(writer, 0, 40, &error) && test_manifest(writer, "m", 0, 40, &error);
  nc_page_store_writer_free(writer);
  nc_page_store_close(store);
  store = test_open(sub, &small_packs);
  test_check_manifest(store, "m", 0, 40);
  bool clean = test_verify(store, NULL) == 0;
  nc_page_store_close(store);
  umount2(dir, MNT_DETACH);
  test_remove(dir);
  return full && readable && freed && again && clean ? 0 : 1;
}

static void
a_real_disk_is_full(Fixture *f, gconstpointer data)
{
  int status;
  pid_t child = fork();

  if (child == 0)
    _exit(real_disk_full());
  g_assert_cmpint(waitpid(child, &status, 0), ==, child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
    g_test_skip("no right to mount a tmpfs");
  else
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void
reading_only(Fixture *f, gconstpointer data)
{
  NcPageStoreOptions options = { .read_only = true };

  g_assert_true(test_put(f->writer, 0, 100, &f->error));
  g_assert_true(test_manifest(f->writer, "m", 0, 100, &f->error));
  g_assert_null(nc_page_store_open(f->dir, &options, &f->error));
  assert_failed(f, NC_ERROR_CONFLICT, "in use");
  reopen(f, &options);
  NcPageStore *another = test_open(f->dir, &options);
  g_assert_true(test_get(another, 7, &f->error));
  nc_page_store_close(another);
  test_check_manifest(f->store, "m", 0, 100);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
  g_assert_null(nc_page_store_writer_new(f->store, &f->error));
  assert_failed(f, NC_ERROR_FORBIDDEN, "reading only");
  g_assert_false(nc_manifest_delete(f->store, "m", &f->error));
  assert_failed(f, NC_ERROR_FORBIDDEN, "reading only");
  g_assert_false(nc_page_store_flush(f->store, &f->error));
  assert_failed(f, NC_ERROR_FORBIDDEN, "reading only");
  g_assert_false(nc_page_store_gc(f->store, NULL, NULL, &f->error));
  assert_failed(f, NC_ERROR_FORBIDDEN, "reading only");
  g_assert_null(nc_page_store_open(f->dir, &small_packs, &f->error));
  assert_failed(f, NC_ERROR_CONFLICT, "only one");
  close_store(f);
  g_assert_null(nc_page_store_open("/nonexistent/store", &options, &f->error));
  assert_failed(f, NC_ERROR_NOT_FOUND, "/nonexistent/store");
}

/* Read-only, of what a crash left: no repairs, and the good blocks can be had. */
static void
reading_only_after_a_crash(Fixture *f, gconstpointer data)
{
  NcPageStoreOptions options = { .read_only = true };
  g_autofree char *copy = g_strconcat(f->dir, "-copy", NULL);

  g_assert_true(test_put(f->writer, 0, 100, &f->error));
  g_assert_true(nc_page_store_flush(f->store, &f->error));
  test_copy(f->dir, copy);
  g_autofree char *packs = g_build_filename(copy, "packs", NULL);
  g_autofree char *pack = g_build_filename(packs, "00000001.pack", NULL);
  int fd = open(pack, O_WRONLY | O_APPEND | O_CLOEXEC);
  g_assert_true(nc_write_all(fd, "NCR1 torn", 9, &f->error));
  close(fd);
  uint64_t length = test_length(pack);
  NcPageStore *store = test_open(copy, &options);
  for (unsigned i = 0; i < 100; i++)
    g_assert_true(test_get(store, i, &f->error));
  nc_page_store_close(store);
  g_assert_cmpuint(test_length(pack), ==, length);
  test_remove(copy);
}

static void
a_pack_cut_short(Fixture *f, gconstpointer data)
{
  g_autoptr(GString) text = g_string_new(NULL);
  TestFindings findings = { .text = text };
  unsigned lost = 0;

  g_assert_true(test_put(f->writer, 0, 20, &f->error));
  g_assert_true(test_put(f->writer, 20, 20, &f->error));
  g_assert_true(test_manifest(f->writer, "whole", 0, 20, &f->error));
  g_assert_true(test_manifest(f->writer, "hurt", 10, 30, &f->error));
  close_store(f);
  g_autofree char *pack = test_only_file(f->dir, "packs");
  g_assert_cmpint(truncate(pack, (off_t)test_length(pack) - 1500), ==, 0);
  f->store = test_open(f->dir, &small_packs);
  g_assert_cmpuint(test_verify(f->store, &findings), >, 0);
  g_assert_nonnull(strstr(text->str, "packs/00000001.pack"));
  g_assert_nonnull(strstr(text->str, " hurt "));
  g_assert_null(strstr(text->str, " whole "));
  for (unsigned i = 0; i < 40; i++) {
    if (!test_get(f->store, i, &f->error)) {
      assert_failed(f, NC_ERROR_CORRUPT, "packs/00000001.pack");
      lost++;
    }
  }
  g_assert_cmpuint(lost, ==, findings.count[NC_FINDING_LOST]);
  g_assert_cmpuint(lost, ==, 20);
  NcPageStoreVerifyReport report;
  g_assert_true(nc_manifest_verify(f->store, "hurt", NULL, NULL, NULL, &report, &f->error));
  g_assert_cmpuint(report.lost, ==, 20);
  g_assert_true(nc_manifest_verify(f->store, "whole", NULL, NULL, NULL, &report, &f->error));
  g_assert_cmpuint(report.lost, ==, 0);
  /* Putting the same again mends it. */
  new_writer(f);
  g_assert_true(test_put(f->writer, 0, 40, &f->error));
  g_assert_true(nc_manifest_verify(f->store, "hurt", NULL, NULL, NULL, &report, &f->error));
  g_assert_cmpuint(report.lost, ==, 0);
  gc(f);
  test_check_manifest(f->store, "whole", 0, 20);
}

static void
a_pack_is_gone(Fixture *f, gconstpointer data)
{
  TestFindings findings = { .text = NULL };

  g_assert_true(test_put(f->writer, 0, 20, &f->error));
  g_assert_true(test_manifest(f->writer, "m", 0, 20, &f->error));
  close_store(f);
  g_autofree char *pack = test_only_file(f->dir, "packs");
  g_assert_cmpint(g_unlink(pack), ==, 0);
  f->store = test_open(f->dir, &small_packs);
  test_verify(f->store, &findings);
  g_assert_cmpuint(findings.count[NC_FINDING_LOST], ==, 20);
  g_assert_false(test_get(f->store, 1, &f->error));
  assert_failed(f, NC_ERROR_NOT_FOUND, "no block");
}

/* A flipped bit takes the blocks of one record; what is in the next one, and what is put again, is there. */
static void
damage_is_told_and_mended(Fixture *f, gconstpointer data)
{
  TestFindings findings = { .text = NULL };

  g_assert_true(test_put(f->writer, 0, 20, &f->error));
  g_assert_true(test_put(f->writer, 20, 20, &f->error));
  g_assert_true(test_manifest(f->writer, "m", 0, 40, &f->error));
  reopen(f, &small_packs);
  g_autofree char *pack = test_only_file(f->dir, "packs");
  test_flip(pack, 2000, 4);
  g_assert_false(test_get(f->store, 0, &f->error));
  assert_failed(f, NC_ERROR_CORRUPT, "packs/00000001.pack is damaged at 96");
  g_assert_true(test_get(f->store, 20, &f->error));
  test_verify(f->store, &findings);
  g_assert_cmpuint(findings.count[NC_FINDING_PACK], ==, 1);
  g_assert_cmpuint(findings.count[NC_FINDING_BLOCK], ==, 20);
  g_assert_cmpuint(findings.count[NC_FINDING_LOST], ==, 20);
  new_writer(f);
  g_assert_true(test_put(f->writer, 0, 40, &f->error));
  g_assert_true(test_get(f->store, 0, &f->error));
  reopen(f, &small_packs);
  test_check_manifest(f->store, "m", 0, 40);
}

static void
the_index_is_made_again(Fixture *f, gconstpointer data)
{
  g_autofree char *index = g_build_filename(f->dir, "index", NULL);

  g_assert_true(test_put(f->writer, 0, 500, &f->error));
  g_assert_true(test_manifest(f->writer, "m", 0, 500, &f->error));
  close_store(f);
  test_remove(index);
  f->store = test_open(f->dir, &small_packs);
  test_check_manifest(f->store, "m", 0, 500);
  close_store(f);
  g_autofree char *run = test_only_file(f->dir, "index");
  test_flip(run, 0, 1);
  f->store = test_open(f->dir, &small_packs);
  test_check_manifest(f->store, "m", 0, 500);
  reopen(f, &small_packs);
  g_autofree char *again = test_only_file(f->dir, "index");
  test_flip(again, 4096 + 100, 1);
  g_assert_cmpuint(test_verify(f->store, NULL), >, 0);
  g_assert_true(nc_page_store_rebuild_index(f->store, &f->error));
  test_check_manifest(f->store, "m", 0, 500);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
  reopen(f, &small_packs);
  g_autofree char *third = test_only_file(f->dir, "index");
  test_flip(third, 4096 + 200, 1);
  gc(f); /* finds out by itself */
  test_check_manifest(f->store, "m", 0, 500);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
}

static void
the_description_is_there_twice(Fixture *f, gconstpointer data)
{
  g_autofree char *format = g_build_filename(f->dir, "format", NULL);
  TestFindings findings = { .text = NULL };

  g_assert_true(test_put(f->writer, 0, 10, &f->error));
  test_flip(format, 20, 1);
  test_verify(f->store, &findings);
  g_assert_cmpuint(findings.count[NC_FINDING_STORE], ==, 1);
  reopen(f, &small_packs);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
  close_store(f);
  test_flip(format, 20, 1);
  test_flip(format, NC_FORMAT_SECOND + 20, 1);
  g_assert_null(nc_page_store_open(f->dir, &small_packs, &f->error));
  assert_failed(f, NC_ERROR_CORRUPT, "format");
  g_unlink(format);
  g_assert_null(nc_page_store_open(f->dir, &small_packs, &f->error));
  assert_failed(f, NC_ERROR_CORRUPT, "description");
}

/* Is ${needle} in any file below ${directory}? */
static bool
is_on_disk(const char *directory, const void *needle, size_t length)
{
  GDir *dir = g_dir_open(directory, 0, NULL);
  const char *name;
  bool found = false;

  while ((name = g_dir_read_name(dir))) {
    g_autofree char *path = g_build_filename(directory, name, NULL);
    g_autofree char *content = NULL;
    gsize size;
    if (g_file_test(path, G_FILE_TEST_IS_DIR))
      found = is_on_disk(path, needle, length) || found;
    else if (g_file_get_contents(path, &content, &size, NULL))
      found = memmem(content, size, needle, length) != NULL || found;
  }
  g_dir_close(dir);
  return found;
}

static void
encrypted_tells_nothing(Fixture *f, gconstpointer data)
{
  const uint8_t bytes[32] = { 1, 2, 3 }, other[32] = { 1, 2, 4 };
  g_autoptr(NcSealKey) key = nc_seal_key_new(bytes), wrong = nc_seal_key_new(other);
  NcPageStoreOptions options = { .pack_bytes = SMALL_PACK, .key = key }, bad = { .key = wrong };
  uint8_t content[8192], hash[NC_SHA256_BYTES];

  uint32_t length = test_block(4, content); /* not compressible: would be on disk as it is */
  test_block_hash(4, hash);
  g_assert_true(test_put(f->writer, 4, 1, &f->error));
  g_assert_true(test_put(f->writer, 0, 60, &f->error));
  g_assert_true(test_manifest(f->writer, "m", 0, 60, &f->error));
  close_store(f);
  g_assert_true(is_on_disk(f->dir, content, length) && is_on_disk(f->dir, hash, sizeof hash)); /* so the look is a good one */
  g_assert_null(nc_page_store_open(f->dir, &options, &f->error));
  assert_failed(f, NC_ERROR_TRUST, "not encrypted");
  test_remove(f->dir);
  f->store = test_open(f->dir, &options);
  new_writer(f);
  g_assert_true(test_put(f->writer, 0, 60, &f->error));
  g_assert_true(test_manifest(f->writer, "m", 0, 60, &f->error));
  reopen(f, &options);
  test_check_manifest(f->store, "m", 0, 60);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
  g_assert_true(stats(f).encrypted);
  g_assert_false(is_on_disk(f->dir, content, 64));
  g_assert_false(is_on_disk(f->dir, hash, 16));
  g_assert_true(is_on_disk(f->dir, "NCPACK01", 8));
  close_store(f);
  g_assert_null(nc_page_store_open(f->dir, &bad, &f->error));
  assert_failed(f, NC_ERROR_TRUST, "another key");
  g_assert_null(nc_page_store_open(f->dir, &small_packs, &f->error));
  assert_failed(f, NC_ERROR_TRUST, "key is needed");
}

/* Good bytes in the wrong place. */
static void
a_pack_under_another_name_is_refused(Fixture *f, gconstpointer data)
{
  for (unsigned i = 0; i < 400; i += 50)
    g_assert_true(test_put(f->writer, i, 50, &f->error));
  close_store(f);
  g_autofree char *one = g_build_filename(f->dir, "packs/00000001.pack", NULL);
  g_autofree char *two = g_build_filename(f->dir, "packs/00000002.pack", NULL);
  g_autofree char *three = g_build_filename(f->dir, "packs/x", NULL);
  g_assert_cmpint(rename(one, three) | rename(two, one) | rename(three, two), ==, 0);
  f->store = test_open(f->dir, &small_packs);
  g_assert_false(test_get(f->store, 0, &f->error));
  assert_failed(f, NC_ERROR_CORRUPT, "another pack");
}

static void
a_later_version_is_refused(Fixture *f, gconstpointer data)
{
  NcStoreFormat format;
  uint8_t bytes[NC_FORMAT_BYTES];

  memset(&format, 0, sizeof format);
  nc_store_format_encode(&format, bytes);
  g_assert_true(nc_store_format_decode(bytes, &format, &f->error));
  NcPackHeader header = { .id = 7 }, again;
  uint8_t pack[NC_PACK_HEADER_BYTES];
  nc_pack_header_encode(&header, pack);
  g_assert_true(nc_pack_header_decode(pack, &again, &f->error));
  g_assert_cmpuint(again.id, ==, 7);
  pack[9]++;
  g_assert_false(nc_pack_header_decode(pack, &again, &f->error));
  assert_failed(f, NC_ERROR_CORRUPT, "checksum");
}

int
main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*run)(Fixture *, gconstpointer);
  } tests[] = {
    { "blocks_come_back", blocks_come_back },
    { "the_same_is_stored_once", the_same_is_stored_once },
    { "bounds_are_kept", bounds_are_kept },
    { "a_wrong_hash_is_refused", a_wrong_hash_is_refused },
    { "compression_pays", compression_pays },
    { "manifests_list_and_delete", manifests_list_and_delete },
    { "a_manifest_names_only_what_is_there", a_manifest_names_only_what_is_there },
    { "an_abandoned_manifest_leaves_nothing", an_abandoned_manifest_leaves_nothing },
    { "a_large_header_and_many_entries", a_large_header_and_many_entries },
    { "gc_takes_what_nobody_names", gc_takes_what_nobody_names },
    { "gc_spares_living_writers", gc_spares_living_writers },
    { "deleted_while_being_read", deleted_while_being_read },
    { "gc_stops_at_a_manifest_it_cannot_read", gc_stops_at_a_manifest_it_cannot_read },
    { "small_packs_are_joined", small_packs_are_joined },
    { "the_budget_is_a_wall", the_budget_is_a_wall },
    { "a_full_disk_leaves_nothing_half", a_full_disk_leaves_nothing_half },
    { "an_fsync_that_fails_ends_writing", an_fsync_that_fails_ends_writing },
    { "a_real_disk_is_full", a_real_disk_is_full },
    { "reading_only", reading_only },
    { "reading_only_after_a_crash", reading_only_after_a_crash },
    { "a_pack_cut_short", a_pack_cut_short },
    { "a_pack_is_gone", a_pack_is_gone },
    { "damage_is_told_and_mended", damage_is_told_and_mended },
    { "the_index_is_made_again", the_index_is_made_again },
    { "the_description_is_there_twice", the_description_is_there_twice },
    { "encrypted_tells_nothing", encrypted_tells_nothing },
    { "a_pack_under_another_name_is_refused", a_pack_under_another_name_is_refused },
    { "a_later_version_is_refused", a_later_version_is_refused },
  };

  g_test_init(&argc, &argv, NULL);
  nc_log_init("test", NC_LOG_TEXT, NC_LOG_ERR);
  for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
    g_autofree char *path = g_strconcat("/page_store/", tests[i].name, NULL);
    g_test_add(path, Fixture, NULL, setup, tests[i].run, teardown);
  }
  return g_test_run();
}
