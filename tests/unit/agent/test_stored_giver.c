/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint's pages for a mover that asks by number: what was told is what is given, also after the checkpoint was
 * deleted; what is damaged is not given; whoever asks for what is not there gets nothing any more.
 */
#include "agent/stored_giver.h"
#include "base/bytes.h"
#include "base/io.h"
#include "page_support.h"
#include "qemu/stream.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define PAGE NC_STREAM_PAGE_BYTES
#define PAGES 200u
#define CLUSTER 65536u
#define WAIT_MS 20000

typedef struct {
  char *dir;
  NcPageStore *store;
  uint8_t pages[PAGES][PAGE];
} Bed;

static void
put(NcPageStoreWriter *writer, NcManifestWriter *manifest, const void *data, uint32_t length)
{
  NcPageBlock block = { .data = data, .length = length };
  g_autoptr(GError) error = NULL;

  nc_page_store_put(writer, &block, 1, NC_PUT_COMPUTE, &error);
  g_assert_no_error(error);
  nc_manifest_add(manifest, block.hash, length, &error);
  g_assert_no_error(error);
}

/* Device state, pages in two runs with zeros between them, and a disk. */
static void
make_checkpoint(Bed *b, const char *name)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcPageStoreWriter) writer = nc_page_store_writer_new(b->store, &error);
  g_autoptr(NcManifestWriter) manifest = nc_manifest_begin(writer, name, &error);
  g_autoptr(NcLayoutBuilder) layout = nc_layout_builder_new();
  g_autofree uint8_t *cluster = g_malloc(CLUSTER);
  const NcStep steps[] = {
    { .kind = NC_STEP_BLOCKS, .count = 1 },
    { .kind = NC_STEP_PAGES, .flags = 0x08, .count = PAGES / 2 },
    { .kind = NC_STEP_ZEROS, .flags = 0x22, .index = PAGES / 2, .count = 1000 },
    { .kind = NC_STEP_INLINE, .count = 3, .bytes = (const uint8_t *)"abc" },
    { .kind = NC_STEP_PAGES, .flags = 0x28, .index = 5000, .count = PAGES / 2 },
    { .kind = NC_STEP_DISK, .count = 1 },
  };

  g_assert_no_error(error);
  memset(cluster, 0x77, CLUSTER);
  put(writer, manifest, cluster, 1000);
  for (unsigned i = 0; i < PAGES; i++)
    put(writer, manifest, b->pages[i], PAGE);
  put(writer, manifest, cluster, CLUSTER);
  for (size_t i = 0; i < G_N_ELEMENTS(steps); i++)
    nc_layout_builder_add(layout, &steps[i]);
  const GByteArray *bytes = nc_layout_builder_bytes(layout);
  put(writer, manifest, bytes->data, bytes->len);
  nc_autojson json_t *meta = json_pack("{s:s}", "machine", "web1");
  g_autoptr(GByteArray) header = nc_image_header_encode(meta, bytes->len, &error);
  g_assert_no_error(error);
  nc_manifest_commit(manifest, header->data, header->len, &error);
  g_assert_no_error(error);
}

static void
setup(Bed *b, gconstpointer data)
{
  const NcPageStoreOptions options = { .pack_bytes = 256u << 10 };

  b->dir = test_directory();
  b->store = test_open(b->dir, &options);
  for (unsigned i = 0; i < PAGES; i++)
    for (unsigned at = 0; at < PAGE; at += 4)
      nc_store_be32(b->pages[i] + at, (uint32_t)g_test_rand_int());
  make_checkpoint(b, "c-1");
}

static void
teardown(Bed *b, gconstpointer data)
{
  nc_page_store_close(b->store);
  test_remove(b->dir);
  g_free(b->dir);
}

static NcStoredGiver *
begin(Bed *b, GByteArray **ret_prefixes, int *ret_fd)
{
  g_autoptr(GError) error = NULL;
  NcImage *image = nc_image_open(b->store, "c-1", &error);
  g_assert_no_error(error);
  NcStoredGiver *giver = nc_stored_giver_new(image, ret_prefixes, ret_fd, &error);
  g_assert_no_error(error);
  return giver;
}

static void
ask(int fd, const uint32_t *numbers, uint32_t n)
{
  g_autoptr(GByteArray) request = g_byte_array_new();

  nc_put_u32(request, n);
  for (uint32_t i = 0; i < n && i < NC_STORED_READ_MAX; i++)
    nc_put_u32(request, numbers[i]);
  g_assert_true(nc_write_all(fd, request->data, request->len, NULL));
}

/* Nothing more comes. */
static void
check_ended(int fd)
{
  uint8_t byte;
  g_autoptr(GError) error = NULL;

  g_assert_false(nc_read_all(fd, &byte, 1, WAIT_MS, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_IO);
}

static void
check_given(Bed *b, int fd, const uint32_t *numbers, uint32_t n)
{
  uint8_t there = 0, page[PAGE];

  ask(fd, numbers, n);
  g_assert_true(nc_read_all(fd, &there, 1, WAIT_MS, NULL));
  g_assert_cmpuint(there, ==, 1);
  for (uint32_t i = 0; i < n; i++) {
    g_assert_true(nc_read_all(fd, page, PAGE, WAIT_MS, NULL));
    g_assert_cmpmem(page, PAGE, b->pages[numbers[i]], PAGE);
  }
}

static void
test_what_was_told_is_given(Bed *b, gconstpointer data)
{
  g_autoptr(GByteArray) prefixes = NULL;
  nc_autofd int fd = -1;
  g_autoptr(NcStoredGiver) giver = begin(b, &prefixes, &fd);
  const uint32_t some[] = { 0, PAGES - 1, 7, 7, PAGES / 2 };
  uint32_t many[NC_STORED_READ_MAX];
  uint8_t sha256[NC_SHA256_BYTES];

  g_assert_cmpuint(prefixes->len, ==, PAGES * NC_STORED_PREFIX_BYTES); /* memory, and nothing else */
  for (uint32_t i = 0; i < PAGES; i++) {
    nc_sha256(b->pages[i], PAGE, sha256);
    g_assert_cmpmem(prefixes->data + (size_t)i * NC_STORED_PREFIX_BYTES, NC_STORED_PREFIX_BYTES, sha256,
                    NC_STORED_PREFIX_BYTES);
  }
  for (uint32_t i = 0; i < NC_STORED_READ_MAX; i++)
    many[i] = (i * 37) % PAGES;
  check_given(b, fd, some, G_N_ELEMENTS(some));
  check_given(b, fd, many, NC_STORED_READ_MAX);

  /* It was deleted and collected: who reads it may go on. */
  NcPageStoreGcReport report;
  g_assert_true(nc_manifest_delete(b->store, "c-1", NULL));
  g_assert_true(nc_page_store_gc(b->store, NULL, &report, NULL));
  check_given(b, fd, many, NC_STORED_READ_MAX);
}

static void
test_nonsense_ends_it(Bed *b, gconstpointer data)
{
  const uint32_t beyond[] = { 1, PAGES };
  const uint32_t counts[] = { 0, NC_STORED_READ_MAX + 1, UINT32_MAX };

  for (size_t i = 0; i <= G_N_ELEMENTS(counts); i++) {
    g_autoptr(GByteArray) prefixes = NULL;
    nc_autofd int fd = -1;
    g_autoptr(NcStoredGiver) giver = begin(b, &prefixes, &fd);
    if (i < G_N_ELEMENTS(counts))
      ask(fd, (const uint32_t[NC_STORED_READ_MAX]){ 0 }, counts[i]);
    else
      ask(fd, beyond, G_N_ELEMENTS(beyond));
    check_ended(fd);
  }
}

/* Freed while the other end still holds its socket, and in the middle of a request. */
static void
test_the_end(Bed *b, gconstpointer data)
{
  g_autoptr(GByteArray) prefixes = NULL;
  nc_autofd int fd = -1;
  NcStoredGiver *giver = begin(b, &prefixes, &fd);

  g_assert_true(nc_write_all(fd, "\0\0\0\2\0", 5, NULL));
  nc_stored_giver_free(giver);
  check_ended(fd);
}

static void
damage_packs(Bed *b)
{
  g_autofree char *packs = g_build_filename(b->dir, "packs", NULL);
  g_autoptr(GDir) dir = g_dir_open(packs, 0, NULL);
  const char *name;

  while ((name = g_dir_read_name(dir)) != NULL) {
    g_autofree char *path = g_build_filename(packs, name, NULL);
    g_autofree char *content = NULL;
    gsize length;
    g_assert_true(g_file_get_contents(path, &content, &length, NULL));
    for (gsize at = 4096; at < length; at += 512)
      content[at] ^= 0x10;
    int fd = g_open(path, O_WRONLY, 0);
    g_assert_true(fd >= 0 && pwrite(fd, content, length, 0) == (ssize_t)length);
    close(fd);
  }
}

static void
test_damage_is_not_given(Bed *b, gconstpointer data)
{
  g_autoptr(GByteArray) prefixes = NULL;
  nc_autofd int fd = -1;
  g_autoptr(NcStoredGiver) giver = begin(b, &prefixes, &fd);
  unsigned lost = 0;

  damage_packs(b);
  for (uint32_t i = 0; i < PAGES; i++) {
    uint8_t there = 0, page[PAGE];
    ask(fd, &i, 1);
    g_assert_true(nc_read_all(fd, &there, 1, WAIT_MS, NULL));
    lost += there == 0;
    if (!there)
      continue;
    g_assert_true(nc_read_all(fd, page, PAGE, WAIT_MS, NULL));
    g_assert_cmpmem(page, PAGE, b->pages[i], PAGE);
  }
  g_assert_cmpuint(lost, >, PAGES / 2);
}

/* A checkpoint without memory: nothing to give. */
static void
test_nothing_to_give(Bed *b, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(GByteArray) prefixes = NULL;
  int fd = -1;
  {
    g_autoptr(NcPageStoreWriter) writer = nc_page_store_writer_new(b->store, NULL);
    g_autoptr(NcManifestWriter) manifest = nc_manifest_begin(writer, "c-2", NULL);
    nc_autojson json_t *meta = json_pack("{s:s}", "machine", "web1");
    g_autoptr(GByteArray) header = nc_image_header_encode(meta, 0, NULL);
    g_assert_true(nc_manifest_commit(manifest, header->data, header->len, NULL));
  }
  NcImage *image = nc_image_open(b->store, "c-2", &error);
  g_assert_no_error(error);
  g_assert_null(nc_stored_giver_new(image, &prefixes, &fd, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define TEST(name, func) g_test_add("/stored-giver/" name, Bed, NULL, setup, func, teardown)
  TEST("what-was-told-is-given", test_what_was_told_is_given);
  TEST("nonsense-ends-it", test_nonsense_ends_it);
  TEST("the-end", test_the_end);
  TEST("damage-is-not-given", test_damage_is_not_given);
  TEST("nothing-to-give", test_nothing_to_give);
  return g_test_run();
}
