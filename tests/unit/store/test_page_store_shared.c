/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests that share what they have in common, and stay independent of each other all the same. */
#include "page_fixture.h"
#include "store/page_store_manifest.h"

#include <xxhash.h>

#define ENTRIES 3000u

/* Entries are numbers: 0 is a hole, others are blocks of four bytes. */
static void
hash_of(uint32_t number, uint8_t ret[NC_SHA256_BYTES])
{
  nc_sha256(&number, sizeof number, ret);
}

static void
put_numbers(Fixture *f, uint32_t from, uint32_t count)
{
  g_autofree uint32_t *numbers = g_new(uint32_t, count);
  g_autofree NcPageBlock *blocks = g_new0(NcPageBlock, count);

  for (uint32_t i = 0; i < count; i++) {
    numbers[i] = from + i;
    blocks[i] = (NcPageBlock){ .data = &numbers[i], .length = sizeof numbers[i] };
  }
  for (uint32_t i = 0; i < count; i += NC_PAGE_STORE_PUT_BLOCKS)
    g_assert_true(nc_page_store_put(f->writer, blocks + i, MIN(count - i, NC_PAGE_STORE_PUT_BLOCKS), NC_PUT_COMPUTE, &f->error));
}

static void
write_entries(Fixture *f, NcManifestWriter *manifest, const GArray *numbers)
{
  for (guint i = 0; i < numbers->len; i++) {
    uint32_t number = g_array_index(numbers, uint32_t, i);
    uint8_t hash[NC_SHA256_BYTES];
    hash_of(number, hash);
    bool ok = number ? nc_manifest_add(manifest, hash, sizeof number, &f->error) : nc_manifest_add_hole(manifest, 7, &f->error);
    g_assert_no_error(f->error);
    g_assert_true(ok);
  }
  g_assert_true(nc_manifest_commit(manifest, "owner", 5, &f->error));
}

/* Bytes by which the store has grown for it. */
static uint64_t
write_manifest(Fixture *f, const char *name, const char *base, const GArray *numbers)
{
  NcPageStoreStats before, after;

  nc_page_store_stats(f->store, &before);
  g_autoptr(NcManifestWriter) manifest = nc_manifest_begin(f->writer, name, &f->error);
  g_assert_true(!base || nc_manifest_set_base(manifest, base, &f->error));
  write_entries(f, manifest, numbers);
  nc_page_store_stats(f->store, &after);
  return after.used_bytes - before.used_bytes;
}

static void
check_entries(Fixture *f, const char *name, const GArray *numbers)
{
  g_autoptr(NcManifestReader) reader = nc_manifest_open(f->store, name, &f->error);
  NcManifestEntry entry;

  g_assert_no_error(f->error);
  g_assert_cmpuint(nc_manifest_info(reader)->entries, ==, numbers->len);
  for (guint i = 0; i < numbers->len; i++) {
    uint32_t number = g_array_index(numbers, uint32_t, i);
    uint8_t hash[NC_SHA256_BYTES];
    hash_of(number, hash);
    NcManifestOutcome outcome = nc_manifest_next(reader, &entry, &f->error);
    g_assert_no_error(f->error);
    g_assert_cmpint(outcome, ==, NC_MANIFEST_ENTRY);
    g_assert_true(nc_manifest_entry_is_hole(&entry) == (number == 0));
    g_assert_cmpuint(entry.length, ==, number ? sizeof number : 7);
    g_assert_true(number == 0 || memcmp(entry.hash, hash, sizeof hash) == 0);
    g_assert_true(number == 0 || nc_page_store_has(f->store, hash));
  }
  g_assert_cmpint(nc_manifest_next(reader, &entry, &f->error), ==, NC_MANIFEST_END);
}

static GArray *
numbers_from(uint32_t from, uint32_t count)
{
  GArray *numbers = g_array_new(FALSE, FALSE, sizeof(uint32_t));
  for (uint32_t i = 0; i < count; i++) {
    uint32_t number = i % 50 == 49 ? 0 : from + i;
    g_array_append_val(numbers, number);
  }
  return numbers;
}

/* Every ${every}th is another one, from ${fresh} on. */
static GArray *
numbers_changed(const GArray *from, unsigned every, uint32_t fresh)
{
  GArray *numbers = g_array_copy((GArray *)from);
  for (guint i = 0; i < numbers->len; i += every)
    g_array_index(numbers, uint32_t, i) = fresh++;
  return numbers;
}

static void
only_what_differs_takes_room(Fixture *f, gconstpointer data)
{
  g_autoptr(GArray) one = numbers_from(1, ENTRIES), two = numbers_changed(one, 20, 100000);

  put_numbers(f, 1, ENTRIES);
  put_numbers(f, 100000, ENTRIES / 20);
  uint64_t first = write_manifest(f, "one", NULL, one);
  g_assert_cmpuint(first, >, ENTRIES * NC_SHA256_BYTES * 9 / 10);
  g_assert_cmpuint(write_manifest(f, "same", NULL, one), <, first / 50); /* also without a base */
  g_assert_cmpuint(write_manifest(f, "two", "one", two), <, first / 10);
  check_entries(f, "one", one);
  check_entries(f, "same", one);
  check_entries(f, "two", two);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
}

static void
each_can_be_deleted(Fixture *f, gconstpointer data)
{
  g_autoptr(GArray) one = numbers_from(1, ENTRIES), two = numbers_changed(one, 20, 100000);
  NcPageStoreStats stats;

  put_numbers(f, 1, ENTRIES);
  put_numbers(f, 100000, ENTRIES / 20);
  write_manifest(f, "one", NULL, one);
  write_manifest(f, "two", "one", two);
  reopen(f, &small_packs);
  g_assert_true(nc_manifest_delete(f->store, "one", &f->error));
  g_assert_true(nc_page_store_gc(f->store, NULL, NULL, &f->error));
  check_entries(f, "two", two);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
  reopen(f, &small_packs);
  check_entries(f, "two", two);
  g_assert_true(nc_manifest_delete(f->store, "two", &f->error));
  g_assert_true(nc_page_store_gc(f->store, NULL, NULL, &f->error));
  nc_page_store_stats(f->store, &stats);
  g_assert_cmpuint(stats.blocks, ==, 0);
}

/* One of a few changes to a list, as checkpoints of a machine differ: replaced, put in, left out, in another order. */
static void
change_numbers(GRand *rand, GArray *numbers, uint32_t *fresh)
{
  guint at = (guint)g_rand_int_range(rand, 0, (gint32)numbers->len);
  guint n = MIN((guint)g_rand_int_range(rand, 1, 60), numbers->len - at);

  switch (g_rand_int_range(rand, 0, 4)) {
  case 0:
    for (guint i = 0; i < n; i++)
      g_array_index(numbers, uint32_t, at + i) = (*fresh)++;
    break;
  case 1:
    g_array_insert_val(numbers, at, *fresh);
    ++*fresh;
    break;
  case 2:
    if (numbers->len > ENTRIES / 2)
      g_array_remove_range(numbers, at, n);
    break;
  default: {
    g_autofree uint32_t *moved = g_memdup2(&g_array_index(numbers, uint32_t, at), n * sizeof *moved);
    g_array_remove_range(numbers, at, n);
    g_array_insert_vals(numbers, (guint)g_rand_int_range(rand, 0, (gint32)numbers->len + 1), moved, n);
  }
  }
}

/* ${data}: seed. Generation after generation, each with the one before as base; some are deleted, garbage is collected. */
static void
generations(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(GPOINTER_TO_UINT(data));
  g_autoptr(GHashTable) kept = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_array_unref);
  g_autoptr(GArray) numbers = numbers_from(1, ENTRIES);
  g_autofree char *base = NULL;
  uint32_t fresh = ENTRIES + 1;
  GHashTableIter iter;
  gpointer name, content;

  put_numbers(f, 1, ENTRIES);
  for (unsigned generation = 0; generation < 14; generation++) {
    uint32_t before = fresh;
    for (int i = g_rand_int_range(rand, 0, 25); i > 0; i--)
      change_numbers(rand, numbers, &fresh);
    if (fresh > before)
      put_numbers(f, before, fresh - before);
    char *next = g_strdup_printf("g%u", generation);
    write_manifest(f, next, base, numbers);
    g_free(base);
    base = g_strdup(next);
    g_hash_table_insert(kept, next, g_array_copy(numbers));
    if (generation % 3 == 2) { /* what is only in memory of the writer must not be what keeps them */
      g_autofree char *old = g_strdup_printf("g%d", g_rand_int_range(rand, 0, (gint32)generation));
      if (g_hash_table_remove(kept, old))
        g_assert_true(nc_manifest_delete(f->store, old, &f->error));
      reopen(f, &small_packs);
      g_assert_true(nc_page_store_gc(f->store, NULL, NULL, &f->error));
      new_writer(f);
    }
    g_hash_table_iter_init(&iter, kept);
    while (g_hash_table_iter_next(&iter, &name, &content))
      check_entries(f, name, content);
    put_numbers(f, 1, fresh - 1); /* what gc took may come back */
  }
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
}

static void
a_base_may_go_any_time(Fixture *f, gconstpointer data)
{
  g_autoptr(GArray) one = numbers_from(1, ENTRIES), two = numbers_changed(one, 20, 100000);

  put_numbers(f, 1, ENTRIES);
  write_manifest(f, "one", NULL, one);
  reopen(f, &small_packs);
  new_writer(f);
  g_autoptr(NcManifestWriter) manifest = nc_manifest_begin(f->writer, "two", &f->error);
  g_assert_false(nc_manifest_set_base(manifest, "none", &f->error));
  g_assert_error(f->error, NC_ERROR, NC_ERROR_NOT_FOUND);
  g_clear_error(&f->error);
  g_assert_true(nc_manifest_set_base(manifest, "one", &f->error));
  g_assert_true(nc_manifest_delete(f->store, "one", &f->error));
  g_assert_true(nc_page_store_gc(f->store, NULL, NULL, &f->error));
  put_numbers(f, 1, ENTRIES);
  put_numbers(f, 100000, ENTRIES / 20);
  write_entries(f, manifest, two);
  g_clear_pointer(&manifest, nc_manifest_writer_free);
  reopen(f, &small_packs);
  check_entries(f, "two", two);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
}

/* Flips a byte of the block of ${hash} on disk, or flips it back. */
static void
flip_block(Fixture *f, const uint8_t hash[NC_SHA256_BYTES])
{
  NcLocation location;
  char name[NC_PACK_NAME_BYTES];

  g_assert_cmpint(nc_index_find(f->store, hash, NULL, &location, NULL), ==, NC_FIND_THERE);
  nc_pack_name(location.pack, name);
  g_autofree char *path = g_build_filename(f->dir, name, NULL);
  test_flip(path, location.offset + NC_RECORD_HEAD_BYTES + NC_RECORD_ENTRY_BYTES + 100, 1);
}

static void
note_first_part(const uint8_t hash[NC_SHA256_BYTES], gpointer data)
{
  uint8_t *first = data;
  if (first[0] == 0 && first[1] == 0)
    memcpy(first, hash, NC_SHA256_BYTES);
}

static void
a_damaged_part_is_told(Fixture *f, gconstpointer data)
{
  g_autoptr(GArray) one = numbers_from(1, ENTRIES), two = numbers_changed(one, 20, 100000);
  TestFindings findings = { .text = g_string_new(NULL) };
  uint8_t part[NC_SHA256_BYTES] = { 0 };
  NcManifestEntry entry;

  put_numbers(f, 1, ENTRIES);
  put_numbers(f, 100000, ENTRIES / 20);
  write_manifest(f, "one", NULL, one);
  write_manifest(f, "two", "one", two);
  reopen(f, &small_packs);
  {
    g_autoptr(NcManifestReader) reader = nc_manifest_open(f->store, "two", &f->error);
    nc_manifest_reader_on_part(reader, note_first_part, part);
    g_assert_cmpint(nc_manifest_next(reader, &entry, &f->error), ==, NC_MANIFEST_ENTRY);
  }
  reopen(f, &small_packs); /* nothing is in memory */
  flip_block(f, part);
  test_verify(f->store, &findings);
  g_assert_cmpuint(findings.count[NC_FINDING_PACK], ==, 1);
  g_assert_cmpuint(findings.count[NC_FINDING_MANIFEST], ==, 2);
  g_assert_nonnull(strstr(findings.text->str, "one")); /* by name */
  g_assert_false(nc_page_store_gc(f->store, NULL, NULL, &f->error));
  g_assert_error(f->error, NC_ERROR, NC_ERROR_CORRUPT);
  g_clear_error(&f->error);
  new_writer(f);
  g_autoptr(NcManifestWriter) manifest = nc_manifest_begin(f->writer, "three", &f->error);
  g_assert_false(nc_manifest_set_base(manifest, "two", &f->error));
  g_assert_error(f->error, NC_ERROR, NC_ERROR_CORRUPT);
  g_clear_error(&f->error);
  write_entries(f, manifest, one); /* stores again what is damaged: then the others can be read, too */
  g_clear_pointer(&manifest, nc_manifest_writer_free);
  check_entries(f, "two", two);
  check_entries(f, "three", one);
  g_string_free(findings.text, TRUE);
}

static void
encrypted_as_well(Fixture *f, gconstpointer data)
{
  const uint8_t bytes[32] = { 1, 2, 3 };
  g_autoptr(NcSealKey) key = nc_seal_key_new(bytes);
  const NcPageStoreOptions options = { .pack_bytes = SMALL_PACK, .key = key };
  g_autoptr(GArray) one = numbers_from(1, ENTRIES), two = numbers_changed(one, 20, 100000);

  close_store(f);
  test_remove(f->dir);
  f->store = test_open(f->dir, &options);
  new_writer(f);
  put_numbers(f, 1, ENTRIES);
  put_numbers(f, 100000, ENTRIES / 20);
  uint64_t first = write_manifest(f, "one", NULL, one);
  g_assert_cmpuint(write_manifest(f, "two", "one", two), <, first / 10);
  reopen(f, &options);
  g_assert_true(nc_manifest_delete(f->store, "one", &f->error));
  g_assert_true(nc_page_store_gc(f->store, NULL, NULL, &f->error));
  check_entries(f, "two", two);
  g_assert_cmpuint(test_verify(f->store, NULL), ==, 0);
  close_store(f);
}

static void
set_version(const char *path, uint16_t version)
{
  g_autofree char *content = NULL;
  gsize length;

  g_assert_true(g_file_get_contents(path, &content, &length, NULL));
  uint8_t *bytes = (uint8_t *)content;
  nc_store_be16(bytes + 8, version);
  nc_store_be64(bytes + NC_MANIFEST_FILE_HEADER_BYTES - 8, XXH3_64bits(bytes, NC_MANIFEST_FILE_HEADER_BYTES - 8));
  g_assert_true(g_file_set_contents(path, content, (gssize)length, NULL));
}

static void
versions(Fixture *f, gconstpointer data)
{
  g_assert_true(test_put(f->writer, 0, 20, &f->error));
  g_assert_true(test_manifest(f->writer, "m", 0, 20, &f->error));
  g_autofree char *file = test_only_file(f->dir, "manifests");
  set_version(file, 1); /* such a one is no different otherwise */
  test_check_manifest(f->store, "m", 0, 20);
  set_version(file, NC_MANIFEST_VERSION + 1);
  g_assert_null(nc_manifest_open(f->store, "m", &f->error));
  g_assert_error(f->error, NC_ERROR, NC_ERROR_INVALID);
  g_assert_nonnull(strstr(f->error->message, "later NovaCron"));
  g_clear_error(&f->error);
}

/* Shapes that the writer does not make. */
static void
hostile_payloads(Fixture *f, gconstpointer data)
{
  static const uint8_t bomb[] = { 0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x7f, 0x03, 0, 0 }; /* claims 2 GiB */
  const struct {
    unsigned parts, hashes, coded;
    bool shape;
  } cases[] = { { 0, 0, 0, false }, { 0, 1, 0, false }, { 1, 0, 31, false }, { 1, 1, 0, true },  { 2, 2, 0, false },
                { 4, 3, 31, false }, { 4, 4, 1, true },  { 5, 5, 1, false },  { 255, 4, 9, false } };
  g_autoptr(GByteArray) prefix = g_byte_array_new();

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GByteArray) payload = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    NcShared shared;
    nc_put_u8(payload, (uint8_t)cases[i].parts);
    g_byte_array_set_size(payload, 1 + cases[i].hashes * NC_SHA256_BYTES + cases[i].coded);
    memset(payload->data + 1, 0x55, payload->len - 1);
    g_test_message("%zu", i);
    g_assert_true(nc_shared_decode(payload, &shared, &error) == cases[i].shape);
    g_assert_null(nc_shared_load(f->store, payload, NULL, NULL, &f->error)); /* no such part, or no such shape */
    g_assert_error(f->error, NC_ERROR, NC_ERROR_CORRUPT);
    g_clear_error(&f->error);
  }
  const NcShared shared = { .count = 1, .coded = bomb, .coded_bytes = sizeof bomb };
  g_assert_null(nc_shared_unfold(&shared, prefix, &f->error));
  g_assert_error(f->error, NC_ERROR, NC_ERROR_CORRUPT);
  g_clear_error(&f->error);
}

int
main(int argc, char **argv)
{
  static const struct {
    const char *name;
    guint seed;
    void (*run)(Fixture *, gconstpointer);
  } tests[] = {
    { "only_what_differs_takes_room", 0, only_what_differs_takes_room },
    { "each_can_be_deleted", 0, each_can_be_deleted },
    { "generations/1", 1, generations },
    { "generations/2", 2, generations },
    { "generations/3", 3, generations },
    { "a_base_may_go_any_time", 0, a_base_may_go_any_time },
    { "a_damaged_part_is_told", 0, a_damaged_part_is_told },
    { "encrypted_as_well", 0, encrypted_as_well },
    { "versions", 0, versions },
    { "hostile_payloads", 0, hostile_payloads },
  };

  g_test_init(&argc, &argv, NULL);
  nc_log_init("test", NC_LOG_TEXT, (NcLogLevel)(NC_LOG_ERR - 1));
  for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
    g_autofree char *path = g_strconcat("/page_store/shared/", tests[i].name, NULL);
    g_test_add(path, Fixture, GUINT_TO_POINTER(tests[i].seed), setup, tests[i].run, teardown);
  }
  return g_test_run();
}
