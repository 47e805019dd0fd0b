/* SPDX-License-Identifier: Apache-2.0 */
/* Which disks a destination copies, which it finds to be there, which it refuses; and that no file but its own is ever removed. */
#include "agent/disk_files.h"
#include "agent/disk_offer.h"
#include "base/ident.h"
#include "base/io.h"

#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARKER ".novacron-same-00112233445566778899aabbccddeeff"

typedef struct {
  char *dir, *path;
  NcMachineSpec *spec;
  json_t *offer; /* of one raw disk, as a source would send it */
} Bed;

static void
set_up(Bed *b, gconstpointer unused)
{
  g_autoptr(GError) error = NULL;

  b->dir = g_dir_make_tmp("nc-disk-XXXXXX", &error);
  g_assert_no_error(error);
  b->path = g_build_filename(b->dir, "root.img", NULL);
  g_autofree char *text = g_strdup_printf("name = web1\nmemory_mib = 64\n[disk root]\npath = %s\nformat = raw\n[disk other]\npath = /nowhere/x\nshared = yes\n", b->path);
  b->spec = nc_machine_spec_parse("test", text, &error);
  g_assert_no_error(error);
  b->offer = json_pack("[{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:s}]", "name", "root", "path", b->path, "format", "raw", "size",
                       1 << 20, "used", 4096, "cluster", 0, "mode", 0640, "uid", (int)getuid(), "gid", (int)getgid(), "inode", 0, "marker", MARKER,
                       "token", "secret");
}

static void
tear_down(Bed *b, gconstpointer unused)
{
  g_autofree char *marker = g_build_filename(b->dir, MARKER, NULL);
  unlink(marker);
  unlink(b->path);
  g_rmdir(b->dir);
  nc_machine_spec_free(b->spec);
  json_decref(b->offer);
  g_free(b->dir);
  g_free(b->path);
}

static void
put(const char *path, const char *text)
{
  g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static uint64_t
inode_of(const char *path)
{
  struct stat st;
  g_assert_cmpint(stat(path, &st), ==, 0);
  return st.st_ino;
}

/* The verdict; what was said goes to ${ret_said}. Caller unrefs. */
static GPtrArray *
judge(Bed *b, char **ret_said)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *checks = json_array();
  GPtrArray *offers = nc_disk_offers_from_json(b->offer, b->spec, &error);

  g_assert_no_error(error);
  nc_disk_offers_judge(offers, checks);
  *ret_said = nc_checks_complaints(checks);
  return offers;
}

static void
expect(Bed *b, bool copy, const char *complaint)
{
  g_autofree char *said = NULL;
  g_autoptr(GPtrArray) offers = judge(b, &said);

  if (!complaint)
    g_assert_null(said);
  else
    g_assert_nonnull(strstr(said, complaint));
  g_assert_cmpint(((NcDiskOffer *)offers->pdata[0])->copy, ==, copy);
}

static void
test_nothing_there_is_copied(Bed *b, gconstpointer unused)
{
  expect(b, true, NULL);
}

static void
test_the_same_file_is_found(Bed *b, gconstpointer unused)
{
  g_autofree char *marker = g_build_filename(b->dir, MARKER, NULL);

  put(b->path, "disk");
  put(marker, "secret");
  json_object_set_new(json_array_get(b->offer, 0), "inode", json_integer((json_int_t)inode_of(b->path)));
  expect(b, false, NULL);
  put(marker, "another");
  expect(b, false, "not overwritten");
  unlink(marker);
  expect(b, false, "not overwritten");
  put(marker, "secret");
  json_object_set_new(json_array_get(b->offer, 0), "inode", json_integer((json_int_t)inode_of(b->path) + 1));
  expect(b, false, "not overwritten"); /* the directory is shared, and the file was replaced */
}

static void
test_an_empty_token_proves_nothing(Bed *b, gconstpointer unused)
{
  g_autofree char *marker = g_build_filename(b->dir, MARKER, NULL);

  put(b->path, "disk");
  put(marker, "");
  json_object_set_new(json_array_get(b->offer, 0), "inode", json_integer((json_int_t)inode_of(b->path)));
  json_object_set_new(json_array_get(b->offer, 0), "token", json_string(""));
  expect(b, false, "not overwritten");
}

static void
test_what_does_not_fit_is_refused(Bed *b, gconstpointer unused)
{
  json_t *offer = json_array_get(b->offer, 0);

  json_object_set_new(offer, "used", json_integer(INT64_C(1) << 59));
  expect(b, true, "not enough space");
  json_object_set_new(offer, "used", json_integer(0));
  json_object_set_new(offer, "problem", json_string("it is round"));
  expect(b, false, "it is round");
}

/* ${key} of the offer becomes ${value} (taken): is it refused? */
static void
refuse(Bed *b, const char *key, json_t *value)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *changed = json_deep_copy(b->offer);

  json_object_set_new(json_array_get(changed, 0), key, value);
  g_autoptr(GPtrArray) offers = nc_disk_offers_from_json(changed, b->spec, &error);
  g_assert_null(offers);
  g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
}

static void
test_foreign_offers(Bed *b, gconstpointer unused)
{
  refuse(b, "name", json_string("other")); /* it is shared */
  refuse(b, "name", json_string("third"));
  refuse(b, "name", json_null());
  refuse(b, "path", json_string("/etc/passwd"));
  refuse(b, "marker", json_string("../../etc/passwd"));
  refuse(b, "marker", json_string(".novacron-same-00112233445566778899aabbccddee/f"));
  refuse(b, "size", json_integer(-1));
  refuse(b, "used", json_string("much"));
  refuse(b, "mode", json_integer(010000));
  refuse(b, "cluster", json_integer(INT64_C(1) << 40));
  refuse(b, "uid", json_integer(-1));
  g_autoptr(GError) error = NULL;
  json_array_append(b->offer, json_array_get(b->offer, 0));
  g_autoptr(GPtrArray) twice = nc_disk_offers_from_json(b->offer, b->spec, &error);
  g_assert_null(twice);
  for (int i = 0; i < 40; i++)
    json_array_append(b->offer, json_array_get(b->offer, 0));
  g_clear_error(&error);
  g_autoptr(GPtrArray) many = nc_disk_offers_from_json(b->offer, b->spec, &error);
  g_assert_null(many);
  g_clear_error(&error);
  g_autoptr(GPtrArray) none = nc_disk_offers_from_json(NULL, b->spec, &error); /* a source that does not offer */
  g_assert_no_error(error);
  g_assert_cmpuint(none->len, ==, 0);
}

static void
test_offered_disks_are_not_looked_for(Bed *b, gconstpointer unused)
{
  g_autoptr(GPtrArray) offers = nc_disk_offers_from_json(b->offer, b->spec, NULL);

  nc_disk_offers_strip(offers, b->spec);
  g_assert_cmpuint(b->spec->disks->len, ==, 1);
  g_assert_cmpstr(((NcDiskSpec *)b->spec->disks->pdata[0])->name, ==, "other");
}

static json_t *
made(Bed *b)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(GPtrArray) offers = nc_disk_offers_from_json(b->offer, b->spec, &error);
  json_t *note = nc_disk_file_note(offers->pdata[0], "mig-1");

  g_assert_true(nc_disk_file_make(offers->pdata[0], note, &error));
  g_assert_no_error(error);
  return note;
}

static void
test_a_file_is_made_and_removed(Bed *b, gconstpointer unused)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *note = made(b);
  struct stat st;

  g_assert_false(g_file_test(b->path, G_FILE_TEST_EXISTS));
  g_assert_true(nc_disk_file_publish(note, &error));
  g_assert_cmpint(stat(b->path, &st), ==, 0);
  g_assert_cmpint(st.st_size, ==, 1 << 20);
  g_assert_cmpint(st.st_blocks, ==, 0);
  g_assert_cmpint(st.st_mode & 07777, ==, 0640);
  nc_disk_file_remove(note);
  g_assert_false(g_file_test(b->path, G_FILE_TEST_EXISTS));
  nc_disk_file_remove(note); /* again */
}

/* A crash before it has its name; and one before its numbers were known. */
static void
test_what_is_half_made_is_removed(Bed *b, gconstpointer unused)
{
  nc_autojson json_t *note = made(b);
  const char *temporary = json_string_value(json_object_get(note, "temporary"));

  g_assert_true(g_file_test(temporary, G_FILE_TEST_EXISTS));
  json_object_set_new(note, "device", json_integer(0));
  json_object_set_new(note, "inode", json_integer(0));
  put(b->path, "somebody's");
  nc_disk_file_remove(note);
  g_assert_false(g_file_test(temporary, G_FILE_TEST_EXISTS));
  g_assert_true(g_file_test(b->path, G_FILE_TEST_EXISTS));
}

static void
test_other_files_are_neither_replaced_nor_removed(Bed *b, gconstpointer unused)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *note = made(b);
  g_autofree char *text = NULL;

  put(b->path, "somebody's");
  g_assert_false(nc_disk_file_publish(note, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_EXISTS);
  nc_disk_file_remove(note);
  g_assert_true(g_file_get_contents(b->path, &text, NULL, NULL));
  g_assert_cmpstr(text, ==, "somebody's");
}

static void
test_a_disk_that_moved_is_set_aside(Bed *b, gconstpointer unused)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *aside = g_strconcat(b->path, ".moved-1", NULL);

  put(b->path, "disk");
  g_assert_false(nc_disk_file_set_aside(b->path, inode_of(b->path) + 1, "moved-1", &error));
  g_clear_error(&error);
  g_assert_true(nc_disk_file_set_aside(b->path, inode_of(b->path), "moved-1", &error));
  g_assert_true(g_file_test(aside, G_FILE_TEST_EXISTS));
  g_assert_false(nc_disk_file_set_aside(b->path, 1, "moved-1", &error)); /* again */
  put(b->path, "new");
  g_clear_error(&error);
  g_assert_false(nc_disk_file_set_aside(b->path, inode_of(b->path), "moved-1", &error)); /* the name is taken */
  unlink(aside);
}

/* --- backing chains --- */

static char *
digest_of(const char *path)
{
  g_autoptr(GError) error = NULL;
  char *digest = nc_disk_file_digest(path, NULL, &error);
  g_assert_no_error(error);
  return digest;
}

static void
test_digest_is_of_the_bytes(Bed *b, gconstpointer unused)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *other = g_build_filename(b->dir, "other", NULL);
  g_autofree char *zeroes = g_malloc0(300000);
  const gint cancelled = 1;

  memcpy(zeroes + 200000, "something", 9);
  g_assert_true(g_file_set_contents(b->path, zeroes, 300000, NULL)); /* no holes */
  put(other, "");
  g_assert_cmpint(truncate(other, 300000), ==, 0);
  g_autofree char *empty = digest_of(other);
  FILE *f = fopen(other, "r+"); /* one of holes, but for a block */
  g_assert_cmpint(fseek(f, 200000, SEEK_SET), ==, 0);
  g_assert_cmpint(fwrite("something", 1, 9, f), ==, 9);
  fclose(f);
  g_autofree char *dense = digest_of(b->path), *sparse = digest_of(other);
  g_assert_cmpstr(dense, ==, sparse);
  g_assert_cmpstr(dense, !=, empty);
  g_assert_cmpint(truncate(other, 300001), ==, 0);
  g_autofree char *longer = digest_of(other);
  g_assert_cmpstr(longer, !=, sparse);
  memmove(zeroes + 100000, zeroes + 200000, 9); /* the same, elsewhere */
  memset(zeroes + 200000, 0, 9);
  g_assert_true(g_file_set_contents(other, zeroes, 300000, NULL));
  g_autofree char *moved = digest_of(other);
  g_assert_cmpstr(moved, !=, sparse);
  g_assert_null(nc_disk_file_digest(b->path, &cancelled, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CANCELLED);
  g_clear_error(&error);
  g_assert_null(nc_disk_file_digest(b->dir, NULL, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_UNSUITABLE);
  g_clear_error(&error);
  unlink(other);
  g_assert_null(nc_disk_file_digest(other, NULL, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_IO);
}

/* The offer is of an overlay over ${base}, as it is now. */
static void
offer_chain(Bed *b, const char *base, const char *chain)
{
  g_autoptr(GPtrArray) files = nc_backing_files_new();
  g_autoptr(GError) error = NULL;
  json_t *offer = json_array_get(b->offer, 0);

  nc_backing_files_add(files, base, "raw");
  g_assert_true(nc_backing_files_look(files, true, NULL, &error));
  json_object_set_new(offer, "chain", json_string(chain));
  json_object_set_new(offer, "backing", nc_backing_files_to_json(files));
}

static void
test_a_kept_chain_must_be_there_and_the_same(Bed *b, gconstpointer unused)
{
  g_autofree char *base = g_build_filename(b->dir, "base", NULL);

  put(base, "the template");
  offer_chain(b, base, "keep");
  expect(b, true, NULL);
  put(base, "the templaTe");
  expect(b, true, "as long, with other content (copy it there");
  put(base, "the template.");
  expect(b, true, "13 bytes, and not 12");
  unlink(base);
  expect(b, true, "is missing at the destination");
  g_assert_cmpint(g_mkdir(base, 0700), ==, 0);
  expect(b, true, "no ordinary file");
  g_rmdir(base);
  put(base, "another");
  json_object_set_new(json_array_get(b->offer, 0), "chain", json_string("trust"));
  expect(b, true, NULL);
  unlink(base);
  expect(b, true, "is missing at the destination");
}

static void
test_what_is_not_compared_is_said(Bed *b, gconstpointer unused)
{
  g_autofree char *base = g_build_filename(b->dir, "base", NULL);
  nc_autojson json_t *checks = json_array();

  put(base, "the template");
  offer_chain(b, base, "keep");
  json_t *file = json_array_get(json_object_get(json_array_get(b->offer, 0), "backing"), 0);
  json_object_set_new(file, "digest", json_string(""));
  g_autoptr(GPtrArray) offers = nc_disk_offers_from_json(b->offer, b->spec, NULL);
  nc_disk_offers_judge(offers, checks);
  g_assert_cmpint(nc_checks_worst(checks), ==, NC_CHECK_WARNING);
  g_assert_false(nc_backing_files_have_digests(((NcDiskOffer *)offers->pdata[0])->backing));
  unlink(base);
}

static json_t *
file_json(const char *path, const char *format, json_int_t size, const char *digest)
{
  return json_pack("{s:s, s:s, s:I, s:s}", "path", path, "format", format, "size", size, "digest", digest);
}

static void
test_foreign_chains(Bed *b, gconstpointer unused)
{
  json_t *offer = json_array_get(b->offer, 0);

  json_object_set_new(offer, "chain", json_string("keep"));
  refuse(b, "backing", json_array());
  refuse(b, "backing", json_pack("[o]", file_json("base", "raw", 1, "")));
  refuse(b, "backing", json_pack("[o]", file_json("/base", "vmdk", 1, "")));
  refuse(b, "backing", json_pack("[o]", file_json("/base", "raw", -1, "")));
  refuse(b, "backing", json_pack("[o]", file_json("/base", "raw", 1, "00")));
  refuse(b, "backing", json_pack("[o]", file_json("/base", "raw", 1, "zz112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")));
  json_t *many = json_array();
  for (int i = 0; i < 17; i++)
    json_array_append_new(many, file_json("/base", "raw", 1, ""));
  refuse(b, "backing", many);
  json_object_set_new(offer, "backing", json_pack("[o]", file_json("/base", "raw", 1, "")));
  refuse(b, "chain", json_string("flatten"));
  refuse(b, "chain", json_string("perhaps"));
  refuse(b, "chain", json_integer(1));
}

#define ADD(name, f) g_test_add(name, Bed, NULL, set_up, f, tear_down)

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  ADD("/disk-offer/nothing-there-is-copied", test_nothing_there_is_copied);
  ADD("/disk-offer/the-same-file-is-found", test_the_same_file_is_found);
  ADD("/disk-offer/an-empty-token-proves-nothing", test_an_empty_token_proves_nothing);
  ADD("/disk-offer/what-does-not-fit-is-refused", test_what_does_not_fit_is_refused);
  ADD("/disk-offer/foreign-offers", test_foreign_offers);
  ADD("/disk-offer/offered-disks-are-not-looked-for", test_offered_disks_are_not_looked_for);
  ADD("/disk-chain/digest", test_digest_is_of_the_bytes);
  ADD("/disk-chain/kept", test_a_kept_chain_must_be_there_and_the_same);
  ADD("/disk-chain/not-compared", test_what_is_not_compared_is_said);
  ADD("/disk-chain/foreign", test_foreign_chains);
  ADD("/disk-files/made-and-removed", test_a_file_is_made_and_removed);
  ADD("/disk-files/half-made-is-removed", test_what_is_half_made_is_removed);
  ADD("/disk-files/others-files", test_other_files_are_neither_replaced_nor_removed);
  ADD("/disk-files/set-aside", test_a_disk_that_moved_is_set_aside);
  return g_test_run();
}
