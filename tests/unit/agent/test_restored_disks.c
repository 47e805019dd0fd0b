/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of a restore, without a QEMU: what is refused before anything is touched, and what may be forgotten afterwards. */
#include "agent/checkpoint_restore.h"
#include "page_support.h"

#include <glib/gstdio.h>

#define ID "c-0tnpya6pejb5gsgd"

typedef struct {
  char *dir, *disk, *before;
  NcPageStore *store;
  NcRestore re;
} Bed;

static void
write_file(const char *path, const char *text)
{
  g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void
assert_file(const char *path, const char *expected)
{
  g_autofree char *text = NULL;
  g_file_get_contents(path, &text, NULL, NULL);
  g_assert_cmpstr(text, ==, expected);
}

/* A checkpoint of a machine with one disk, and of nothing else. */
static void
commit(Bed *b)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcPageStoreWriter) writer = nc_page_store_writer_new(b->store, &error);
  g_autoptr(NcManifestWriter) manifest = nc_manifest_begin(writer, ID, &error);
  nc_autojson json_t *meta = json_pack("{s:s, s:[{s:s}]}", "machine", "web1", "disks", "name", "root");
  g_autoptr(GByteArray) header = nc_image_header_encode(meta, 0, &error);

  g_assert_true(nc_manifest_commit(manifest, header->data, header->len, &error));
  g_assert_no_error(error);
}

static void
setup(Bed *b, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  b->dir = test_directory();
  b->disk = g_build_filename(b->dir, "root.raw", NULL);
  b->before = g_strconcat(b->disk, ".nc-before", NULL);
  write_file(b->disk, "live");
  b->store = test_open(b->dir, &(NcPageStoreOptions){ 0 });
  commit(b);
  b->re.image = nc_image_open(b->store, ID, &error);
  g_assert_no_error(error);
  b->re.disks = json_array();
  b->re.spec = json_pack("{s:[{s:s, s:s}]}", "disks", "name", "root", "path", b->disk);
}

static void
teardown(Bed *b, gconstpointer data)
{
  nc_image_free(b->re.image);
  json_decref(b->re.disks);
  json_decref(b->re.spec);
  nc_page_store_close(b->store);
  test_remove(b->dir);
  g_free(b->before);
  g_free(b->disk);
  g_free(b->dir);
}

/* It would take the place of the disk if this restore were undone, by us or by the novacrond after a crash. */
static void
what_an_earlier_restore_left_is_in_the_way(Bed *b, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  write_file(b->before, "of months ago");
  g_assert_false(nc_restored_disks_plan(&b->re, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_EXISTS);
  assert_file(b->disk, "live");
  assert_file(b->before, "of months ago");
}

static void
what_was_exchanged_comes_back(Bed *b, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *fresh = g_strconcat(b->disk, ".nc-restore", NULL);

  g_assert_true(nc_restored_disks_plan(&b->re, &error));
  write_file(fresh, "restored");
  g_assert_true(nc_restored_disks_exchange(&b->re, &error));
  g_assert_no_error(error);
  assert_file(b->disk, "restored");
  assert_file(b->before, "live");
  for (int i = 0; i < 2; i++) { /* a crash in between does it again */
    g_assert_true(nc_restored_disks_settle(b->re.disks, false, true, &error));
    assert_file(b->disk, "live");
    g_assert_false(g_file_test(b->before, G_FILE_TEST_EXISTS));
  }
}

/* Else nothing would know of it any more, and the next restore would find it. */
static void
it_is_not_settled_while_the_old_disk_is_there(Bed *b, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  g_assert_true(nc_restored_disks_plan(&b->re, &error));
  g_assert_cmpint(g_mkdir(b->before, 0700), ==, 0); /* what unlink() can't remove, for root either */
  g_assert_false(nc_restored_disks_settle(b->re.disks, true, false, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_IO);
  g_clear_error(&error);
  g_assert_cmpint(g_rmdir(b->before), ==, 0);
  write_file(b->before, "as it was");
  g_assert_true(nc_restored_disks_settle(b->re.disks, true, false, &error));
  g_assert_no_error(error);
  g_assert_false(g_file_test(b->before, G_FILE_TEST_EXISTS));
  assert_file(b->disk, "live");
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define TEST(function) g_test_add("/agent/restored-disks/" #function, Bed, NULL, setup, function, teardown)
  TEST(what_an_earlier_restore_left_is_in_the_way);
  TEST(what_was_exchanged_comes_back);
  TEST(it_is_not_settled_while_the_old_disk_is_there);
  return g_test_run();
}
