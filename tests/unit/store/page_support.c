/* SPDX-License-Identifier: Apache-2.0 */
#include "page_support.h"
#include "base/io.h"
#include "base/log.h"
#include "store/page_store_internal.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *
test_directory(void)
{
  bool memory = access("/dev/shm", W_OK) == 0;
  char *path = g_strdup_printf("%s/nc-pages-XXXXXX", memory ? "/dev/shm" : g_get_tmp_dir());

  g_assert_nonnull(g_mkdtemp(path));
  return path;
}

void
test_remove(const char *directory)
{
  GDir *dir = g_dir_open(directory, 0, NULL);
  const char *name;

  while (dir && (name = g_dir_read_name(dir))) {
    g_autofree char *path = g_build_filename(directory, name, NULL);
    if (g_file_test(path, G_FILE_TEST_IS_DIR) && !g_file_test(path, G_FILE_TEST_IS_SYMLINK))
      test_remove(path);
    else
      g_unlink(path);
  }
  if (dir)
    g_dir_close(dir);
  g_rmdir(directory);
}

void
test_copy(const char *from, const char *to)
{
  GDir *dir = g_dir_open(from, 0, NULL);
  const char *name;

  g_assert_nonnull(dir);
  g_assert_cmpint(g_mkdir(to, 0700), ==, 0);
  while ((name = g_dir_read_name(dir))) {
    g_autofree char *source = g_build_filename(from, name, NULL), *target = g_build_filename(to, name, NULL);
    g_autofree char *content = NULL;
    gsize length;
    if (g_file_test(source, G_FILE_TEST_IS_DIR)) {
      test_copy(source, target);
      continue;
    }
    g_assert_true(g_file_get_contents(source, &content, &length, NULL));
    int fd = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    g_assert_true(nc_write_all(fd, content, length, NULL));
    close(fd);
  }
  g_dir_close(dir);
}

/* One in four can't be compressed; lengths from 1 byte to 6 KB, the most of them around a kilobyte. */
uint32_t
test_block(unsigned number, uint8_t *ret)
{
  uint64_t state = number * 0x9e3779b97f4a7c15u + 1;
  uint32_t length = number % 16 == 0 ? 1 + number % 3 : 900 + number % 300;

  if (number % 16 == 7)
    length = 6000 + number % 7;
  for (uint32_t i = 0; i < length; i++) {
    if (i % 8 == 0)
      state = state * 6364136223846793005u + 1442695040888963407u;
    ret[i] = number % 4 == 0 ? (uint8_t)(state >> (32 + i % 4 * 8)) : (uint8_t)(number + i / 64);
  }
  /* No two are the same. */
  for (uint32_t i = 0; i < MIN(length, 4u); i++)
    ret[i] = (uint8_t)(number >> 8 * i);
  return length;
}

void
test_block_hash(unsigned number, uint8_t ret[NC_SHA256_BYTES])
{
  uint8_t data[NC_PAGE_STORE_BLOCK_MAX];
  nc_sha256(data, test_block(number, data), ret);
}

bool
test_put(NcPageStoreWriter *writer, unsigned from, unsigned count, GError **error)
{
  g_autofree NcPageBlock *blocks = g_new0(NcPageBlock, count);
  g_autoptr(GPtrArray) data = g_ptr_array_new_with_free_func(g_free);

  for (unsigned i = 0; i < count; i++) {
    uint8_t *bytes = g_malloc(8192);
    blocks[i].length = test_block(from + i, bytes);
    blocks[i].data = bytes;
    g_ptr_array_add(data, bytes);
  }
  return nc_page_store_put(writer, blocks, count, NC_PUT_COMPUTE, error);
}

bool
test_get(NcPageStore *store, unsigned number, GError **error)
{
  uint8_t expected[NC_PAGE_STORE_BLOCK_MAX], got[NC_PAGE_STORE_BLOCK_MAX], hash[NC_SHA256_BYTES];
  uint32_t length = 0, wanted = test_block(number, expected);

  nc_sha256(expected, wanted, hash);
  if (!nc_page_store_get(store, hash, got, sizeof got, &length, error))
    return false;
  g_assert_cmpmem(got, length, expected, wanted);
  return true;
}

static bool
test_add_blocks(NcManifestWriter *manifest, unsigned from, unsigned count, GError **error)
{
  for (unsigned i = 0; i < count; i++) {
    uint8_t data[NC_PAGE_STORE_BLOCK_MAX], hash[NC_SHA256_BYTES];
    uint32_t length = test_block(from + i, data);
    nc_sha256(data, length, hash);
    if (!nc_manifest_add(manifest, hash, length, error))
      return false;
  }
  return true;
}

bool
test_manifest_repeated(NcPageStoreWriter *writer, const char *name, const char *base, unsigned from, unsigned count,
                       unsigned times, GError **error)
{
  g_autoptr(NcManifestWriter) manifest = nc_manifest_begin(writer, name, error);
  uint64_t file_bytes;

  if (!manifest || (base && !nc_manifest_set_base(manifest, base, error)) || !nc_manifest_add_hole(manifest, 12345, error))
    return false;
  for (unsigned i = 0; i < times; i++) {
    if (!test_add_blocks(manifest, from, count, error))
      return false;
    if (i == 0 && times != 1 && !nc_manifest_settle(manifest, &file_bytes, error))
      return false;
  }
  return nc_manifest_commit(manifest, name, strlen(name), error);
}

bool
test_manifest(NcPageStoreWriter *writer, const char *name, unsigned from, unsigned count, GError **error)
{
  return test_manifest_repeated(writer, name, NULL, from, count, 1, error);
}

void
test_check_manifest(NcPageStore *store, const char *name, unsigned from, unsigned count)
{
  test_check_manifest_repeated(store, name, from, count, 1);
}

void
test_check_manifest_repeated(NcPageStore *store, const char *name, unsigned from, unsigned count, unsigned times)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcManifestReader) reader = nc_manifest_open(store, name, &error);
  NcManifestEntry entry;
  size_t length;

  g_assert_no_error(error);
  const void *header = nc_manifest_header(reader, &length);
  g_assert_cmpmem(header, length, name, strlen(name));
  g_assert_cmpuint(nc_manifest_info(reader)->entries, ==, count * times + 1);
  g_assert_cmpuint(nc_manifest_info(reader)->blocks, ==, count * times);
  g_assert_cmpint(nc_manifest_next(reader, &entry, &error), ==, NC_MANIFEST_ENTRY);
  g_assert_true(nc_manifest_entry_is_hole(&entry) && entry.length == 12345);
  for (unsigned i = 0; i < count * times; i++) {
    unsigned number = from + i % count;
    uint8_t hash[NC_SHA256_BYTES];
    test_block_hash(number, hash);
    if (nc_manifest_next(reader, &entry, &error) != NC_MANIFEST_ENTRY)
      g_error("entry %u of %s: %s", i, name, error ? error->message : "the end");
    g_assert_cmpmem(entry.hash, sizeof entry.hash, hash, sizeof hash);
    if (i < count && !test_get(store, number, &error))
      g_error("block %u of %s: %s", number, name, error->message);
  }
  g_assert_cmpint(nc_manifest_next(reader, &entry, &error), ==, NC_MANIFEST_END);
}

static void
test_note_finding(const NcPageStoreFinding *finding, gpointer data)
{
  TestFindings *findings = data;

  findings->count[finding->kind]++;
  if (findings->text)
    g_string_append_printf(findings->text, "%s %s:%llu %s %s\n", nc_finding_kind_name(finding->kind),
                           finding->file ? finding->file : "-", (unsigned long long)finding->offset,
                           finding->manifest ? finding->manifest : "-", finding->text);
}

uint64_t
test_verify(NcPageStore *store, TestFindings *findings)
{
  TestFindings unused = { .text = NULL };
  NcPageStoreVerifyReport report;
  g_autoptr(GError) error = NULL;

  nc_page_store_verify(store, test_note_finding, findings ? findings : &unused, NULL, &report, &error);
  g_assert_no_error(error);
  return report.findings + report.lost;
}

NcPageStore *
test_open(const char *directory, const NcPageStoreOptions *options)
{
  static const NcPageStoreOptions defaults;
  g_autoptr(GError) error = NULL;
  NcPageStore *store = nc_page_store_open(directory, options ? options : &defaults, &error);

  g_assert_no_error(error);
  return store;
}

char *
test_only_file(const char *directory, const char *sub)
{
  g_autofree char *path = g_build_filename(directory, sub, NULL);
  GDir *dir = g_dir_open(path, 0, NULL);
  char *file = g_build_filename(path, g_dir_read_name(dir), NULL);

  g_assert_null(g_dir_read_name(dir));
  g_dir_close(dir);
  return file;
}

void
test_flip(const char *path, uint64_t offset, uint8_t with)
{
  int fd = open(path, O_RDWR | O_CLOEXEC);
  uint8_t byte;

  g_assert_cmpint(pread(fd, &byte, 1, (off_t)offset), ==, 1);
  byte ^= with;
  g_assert_cmpint(pwrite(fd, &byte, 1, (off_t)offset), ==, 1);
  close(fd);
}

static gint
test_compare_names(gconstpointer a, gconstpointer b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

void
test_hurt_pack(const char *directory, unsigned nth)
{
  g_autofree char *path = g_build_filename(directory, "packs", NULL);
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
  const char *name;

  g_assert_nonnull(dir);
  while ((name = g_dir_read_name(dir)) != NULL)
    g_ptr_array_add(names, g_build_filename(path, name, NULL));
  g_ptr_array_sort(names, test_compare_names);
  g_assert_cmpuint(names->len, >, nth);
  test_flip(names->pdata[nth], test_length(names->pdata[nth]) / 4, 0x40);
}

uint64_t
test_length(const char *path)
{
  struct stat st;

  g_assert_cmpint(stat(path, &st), ==, 0);
  return (uint64_t)st.st_size;
}
