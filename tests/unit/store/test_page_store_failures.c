/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of store/page_store.h when something fails: it says why, nothing half remains, what is good can be had. */
#include "page_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* What all packs have on disk, whatever the store thinks. */
static uint64_t
bytes_on_disk(const Fixture *f)
{
  g_autofree char *packs = g_build_filename(f->dir, "packs", NULL);
  GDir *dir = g_dir_open(packs, 0, NULL);
  uint64_t sum = 0;
  const char *name;

  while ((name = g_dir_read_name(dir))) {
    g_autofree char *path = g_build_filename(packs, name, NULL);
    sum += test_length(path);
  }
  g_dir_close(dir);
  return sum;
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
    g_assert_cmpuint(bytes_on_disk(f), ==, stats(f).pack_bytes);
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

/* Also before there is a pack, and whichever change it is; but not for want of room or descriptors, which come back. */
static void
a_disk_that_refuses_ends_writing(Fixture *f, gconstpointer data)
{
  static const struct {
    NcStoreOp op;
    int errnum;
    bool ends;
  } cases[] = { { NC_STORE_CREATE, EROFS, true },  { NC_STORE_CREATE, EIO, true },     { NC_STORE_WRITE, EIO, true },
                { NC_STORE_CREATE, ENOSPC, false }, { NC_STORE_CREATE, EMFILE, false }, { NC_STORE_WRITE, EDQUOT, false } };

  Failing failing = { 0 }; /* the store uses it until it is opened again */

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    close_store(f);
    failing = (Failing){ .op = cases[i].op, .errnum = cases[i].errnum };
    unsigned first = (unsigned)i * 100;
    g_test_message("%s of change %d", g_strerror(cases[i].errnum), cases[i].op);
    reopen_failing(f, &failing);
    g_assert_false(stats(f).failed);
    failing.countdown = 1;
    g_assert_false(test_put(f->writer, first, 10, &f->error));
    g_clear_error(&f->error);
    g_assert_cmpint(stats(f).failed, ==, cases[i].ends);
    g_assert_cmpint(test_put(f->writer, first, 10, &f->error), ==, !cases[i].ends);
    if (cases[i].ends)
      assert_failed(f, NC_ERROR_IO, "opened again");
  }
  reopen(f, &small_packs);
  g_assert_false(stats(f).failed);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
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
/* Checksums that are right, over a block that is not what it is called. */
static void
a_block_under_another_name_is_refused(Fixture *f, gconstpointer data)
{
  TestFindings findings = { .text = NULL };
  uint8_t hash[NC_SHA256_BYTES];
  NcFrame frame;

  test_block_hash(1, hash);
  NcFrameBlock block = { .address = hash, .data = "something else", .length = 14 };
  nc_frame_build(&frame, &block, 1, 1);
  g_assert_true(nc_append_frames(f->store, &frame, 1, f->writer, false, &f->error));
  nc_frame_clear(&frame);
  g_assert_false(test_get(f->store, 1, &f->error));
  assert_failed(f, NC_ERROR_CORRUPT, "SHA-256");
  test_verify(f->store, &findings);
  g_assert_cmpuint(findings.count[NC_FINDING_BLOCK], ==, 1);
  g_assert_true(test_put(f->writer, 1, 1, &f->error));
  g_assert_true(test_get(f->store, 1, &f->error));
}

/* The power went after runs were merged, before the old ones were removed. */
static void
a_run_that_was_merged_goes(Fixture *f, gconstpointer data)
{
  g_autofree char *content = NULL;
  gsize length;

  g_assert_true(test_put(f->writer, 0, 20, &f->error));
  close_store(f);
  g_autofree char *old = test_only_file(f->dir, "index");
  g_assert_true(g_file_get_contents(old, &content, &length, NULL));
  f->store = test_open(f->dir, &small_packs);
  new_writer(f);
  g_assert_true(test_put(f->writer, 20, 20, &f->error));
  close_store(f);
  g_assert_false(g_file_test(old, G_FILE_TEST_EXISTS));
  g_assert_true(g_file_set_contents(old, content, (gssize)length, NULL));
  f->store = test_open(f->dir, &small_packs);
  g_assert_false(g_file_test(old, G_FILE_TEST_EXISTS));
  g_assert_true(test_get(f->store, 3, &f->error) && test_get(f->store, 23, &f->error));
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
}

/* Two copies, of which the index knows the newer; its pack is lost. The older one is found by making the index again. */
static void
the_older_copy_serves(Fixture *f, gconstpointer data)
{
  TestFindings findings = { .text = NULL };
  uint8_t room[NC_PAGE_STORE_BLOCK_MAX], hash[NC_SHA256_BYTES];
  NcFrame frame;

  g_assert_true(test_put(f->writer, 5, 1, &f->error));
  reopen(f, &small_packs);
  new_writer(f);
  NcFrameBlock block = { .address = hash, .data = room, .length = test_block(5, room) };
  test_block_hash(5, hash);
  nc_frame_build(&frame, &block, 1, 1);
  g_assert_true(nc_append_frames(f->store, &frame, 1, f->writer, false, &f->error));
  nc_frame_clear(&frame);
  g_assert_true(test_manifest(f->writer, "m", 5, 1, &f->error));
  close_store(f);
  g_autofree char *newer = g_build_filename(f->dir, "packs/00000002.pack", NULL);
  g_assert_cmpint(g_unlink(newer), ==, 0);
  f->store = test_open(f->dir, &small_packs);
  test_verify(f->store, &findings);
  g_assert_cmpuint(findings.count[NC_FINDING_INDEX], ==, 1);
  g_assert_cmpuint(findings.count[NC_FINDING_LOST], ==, 0);
  g_assert_true(nc_page_store_rebuild_index(f->store, &f->error));
  test_check_manifest(f->store, "m", 5, 1);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
}

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
  static const PageTest tests[] = {
    { "the_budget_is_a_wall", the_budget_is_a_wall },
    { "a_full_disk_leaves_nothing_half", a_full_disk_leaves_nothing_half },
    { "an_fsync_that_fails_ends_writing", an_fsync_that_fails_ends_writing },
    { "a_disk_that_refuses_ends_writing", a_disk_that_refuses_ends_writing },
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
    { "the_older_copy_serves", the_older_copy_serves },
    { "a_block_under_another_name_is_refused", a_block_under_another_name_is_refused },
    { "a_run_that_was_merged_goes", a_run_that_was_merged_goes },
    { "a_later_version_is_refused", a_later_version_is_refused },
  };

  return run_page_tests(argc, argv, tests, G_N_ELEMENTS(tests));
}
