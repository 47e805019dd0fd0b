/* SPDX-License-Identifier: Apache-2.0 */
/* Every single byte of a small store, changed one at a time: verify tells, get never returns something else. */
#include "page_support.h"
#include "base/log.h"

#include <glib/gstdio.h>
#include <string.h>

#define BLOCKS 5u

static const uint8_t secret[32] = "one more key for one more store";

typedef struct {
  char *dir;
  NcSealKey *key;
  NcPageStoreOptions options;
  NcPageStore *store;
} Fixture;

/* Sealed, indexed, and opened again, so that nothing is in memory. */
static void
setup(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;

  f->dir = test_directory();
  f->key = data ? nc_seal_key_new(secret) : NULL;
  f->options = (NcPageStoreOptions){ .key = f->key };
  f->store = test_open(f->dir, &f->options);
  NcPageStoreWriter *writer = nc_page_store_writer_new(f->store, &error);
  g_assert_true(test_put(writer, 14, 3, &error)); /* one of them short, none of them in two records */
  g_assert_true(test_put(writer, 17, 2, &error));
  g_assert_true(test_manifest_repeated(writer, "m", NULL, 14, BLOCKS, 15, &error)); /* a short section, and one with a part */
  nc_page_store_writer_free(writer);
  nc_page_store_close(f->store);
  f->store = test_open(f->dir, &f->options);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
}

static void
teardown(Fixture *f, gconstpointer data)
{
  nc_page_store_close(f->store);
  test_remove(f->dir);
  nc_seal_key_free(f->key);
  g_free(f->dir);
}

/* A block that can be had is the right one (test_get() aborts if not). */
static unsigned
count_readable(NcPageStore *store)
{
  unsigned n = 0;
  for (unsigned i = 0; i < BLOCKS; i++)
    n += test_get(store, 14 + i, NULL);
  return n;
}

static void
every_byte(Fixture *f, const char *sub, NcFindingKind kind)
{
  g_autofree char *path = test_only_file(f->dir, sub);
  uint64_t length = test_length(path);

  for (uint64_t offset = 0; offset < length; offset++) {
    TestFindings findings = { .text = NULL };
    uint8_t with = (uint8_t)(offset % 3 == 0 ? 0xff : 1u << offset % 8);
    test_flip(path, offset, with);
    test_verify(f->store, &findings);
    if (findings.count[kind] == 0)
      g_error("%s: byte %llu changed by %#x, and nobody saw it", path, (unsigned long long)offset, with);
    test_flip(path, offset, with);
  }
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
}

static void
every_byte_of_a_pack(Fixture *f, gconstpointer data)
{
  every_byte(f, "packs", NC_FINDING_PACK);
}

static void
every_byte_of_the_index(Fixture *f, gconstpointer data)
{
  every_byte(f, "index", NC_FINDING_INDEX);
}

static void
every_byte_of_a_manifest(Fixture *f, gconstpointer data)
{
  every_byte(f, "manifests", NC_FINDING_MANIFEST);
}

static void
every_length_of(Fixture *f, const char *sub, NcFindingKind kind)
{
  g_autofree char *path = test_only_file(f->dir, sub);
  g_autofree char *content = NULL;
  gsize length;

  g_assert_true(g_file_get_contents(path, &content, &length, NULL));
  for (gsize n = 0; n <= length + 16; n += n % 5 + 1) {
    TestFindings findings = { .text = NULL };
    if (n == length)
      continue;
    g_autofree char *changed = g_malloc0(length + 32);
    memcpy(changed, content, MIN(n, length));
    FILE *file = fopen(path, "w"); /* in place: the store may have it open */
    g_assert_cmpuint(fwrite(changed, 1, n, file), ==, n);
    g_assert_cmpint(fclose(file), ==, 0);
    test_verify(f->store, &findings);
    if (findings.count[kind] == 0)
      g_error("%s: %zu bytes long, and nobody saw it", path, n);
    count_readable(f->store);
  }
  FILE *file = fopen(path, "w");
  g_assert_cmpuint(fwrite(content, 1, length, file), ==, length);
  g_assert_cmpint(fclose(file), ==, 0);
}

static void
every_length(Fixture *f, gconstpointer data)
{
  every_length_of(f, "manifests", NC_FINDING_MANIFEST);
  every_length_of(f, "packs", NC_FINDING_PACK);
}

/* While nobody looks: the store opens, and gives the right bytes or none. */
static void
found_when_opening(Fixture *f, gconstpointer data)
{
  static const char *const subs[] = { "packs", "index", "manifests" };

  g_clear_pointer(&f->store, nc_page_store_close);
  for (unsigned i = 0; i < G_N_ELEMENTS(subs); i++) {
    g_autofree char *path = test_only_file(f->dir, subs[i]);
    uint64_t length = test_length(path);
    for (uint64_t offset = i; offset < length; offset += i == 1 ? 61 : 7) {
      g_autofree char *copy = g_strconcat(f->dir, "-copy", NULL);
      g_autofree char *there = g_strconcat(copy, path + strlen(f->dir), NULL);
      test_copy(f->dir, copy);
      test_flip(there, offset, 0x41);
      NcPageStore *store = test_open(copy, &f->options);
      count_readable(store);
      if (i == 1) /* some may hide until it is made again */
        g_assert_true(nc_page_store_rebuild_index(store, NULL));
      if (i > 0)
        g_assert_cmpuint(count_readable(store), ==, BLOCKS);
      nc_page_store_close(store);
      test_remove(copy);
    }
  }
}

/* Puts block 14 once more; true: it was stored, too. */
static bool
is_stored_again(NcPageStore *store)
{
  uint8_t data[NC_PAGE_STORE_BLOCK_MAX];
  g_autoptr(GError) error = NULL;
  NcPageBlock block = { .data = data, .length = test_block(14, data) };
  NcPageStoreWriter *writer = nc_page_store_writer_new(store, &error);

  g_assert_no_error(error);
  g_assert_true(nc_page_store_put(writer, &block, 1, NC_PUT_COMPUTE, &error));
  nc_page_store_writer_free(writer);
  return block.is_new;
}

static void
open_again(Fixture *f)
{
  nc_page_store_close(f->store);
  f->store = test_open(f->dir, &f->options);
}

/* What was found damaged is not what a later checkpoint is made of, also when novacrond was restarted in between. */
static void
damage_is_remembered(Fixture *f, gconstpointer data)
{
  static const char junk[] = "no entry at all, and cut short";
  g_autofree char *damaged = g_build_filename(f->dir, "damaged", NULL);

  open_again(f);
  g_assert_false(is_stored_again(f->store));
  g_assert_false(g_file_test(damaged, G_FILE_TEST_EXISTS));
  test_hurt_pack(f->dir, 0);
  open_again(f);
  g_assert_false(test_get(f->store, 14, NULL)); /* found by reading */
  uint64_t length = test_length(damaged);
  g_assert_cmpuint(length, ==, 16);
  open_again(f);
  test_verify(f->store, NULL); /* found again: known already */
  g_assert_cmpuint(test_length(damaged), ==, length);
  open_again(f);
  g_assert_true(is_stored_again(f->store));
  g_assert_true(test_get(f->store, 14, NULL));
  g_assert_false(is_stored_again(f->store));
  /* It is a help, and no more. */
  g_assert_true(g_file_set_contents(damaged, junk, sizeof junk, NULL));
  open_again(f);
  g_assert_true(test_get(f->store, 14, NULL));
  g_assert_false(g_file_test(damaged, G_FILE_TEST_EXISTS));
}

int
main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*run)(Fixture *, gconstpointer);
  } tests[] = {
    { "every_byte_of_a_pack", every_byte_of_a_pack },
    { "every_byte_of_the_index", every_byte_of_the_index },
    { "every_byte_of_a_manifest", every_byte_of_a_manifest },
    { "every_length", every_length },
    { "found_when_opening", found_when_opening },
    { "damage_is_remembered", damage_is_remembered },
  };

  g_test_init(&argc, &argv, NULL);
  nc_log_init("test", NC_LOG_TEXT, (NcLogLevel)(NC_LOG_ERR - 1)); /* there is nothing but damage here */
  for (size_t i = 0; i < G_N_ELEMENTS(tests) * 2; i++) {
    bool encrypted = i % 2;
    g_autofree char *path = g_strconcat("/page_store/", encrypted ? "encrypted/" : "plain/", tests[i / 2].name, NULL);
    g_test_add(path, Fixture, GINT_TO_POINTER(encrypted), setup, tests[i / 2].run, teardown);
  }
  return g_test_run();
}
