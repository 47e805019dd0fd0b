/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page store's files as anybody could have changed them: a pack, a run of
 * the index, a manifest, what a manifest's section shares with others, by the first byte. Checksums are made right first,
 * since behind them is where parsers break.
 */
#include "store/page_store_internal.h"
#include "store/page_store_manifest.h"
#include "store/page_store_run_page.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t store_id[NC_STORE_ID_BYTES];
/* Names in it are numbers of descriptors. */
static NcStoreDir dir = { .path = (char *)"fuzz", .fd = -1 };

static int
fuzz_file(const uint8_t *data, size_t size)
{
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  if (fd < 0 || !nc_write_all(fd, data, size, NULL))
    abort();
  return fd;
}

static void
fuzz_sum_64(uint8_t *bytes, size_t length)
{
  nc_store_be64(bytes + length - 8, XXH3_64bits(bytes, length - 8));
}

/* --- packs --- */

/* Header and records as if they had been written by us, as far as they have the shape. */
static void
fuzz_mend_pack(uint8_t *bytes, size_t size)
{
  NcPackHeader header;

  nc_store_be32(bytes + 20, 1);
  memcpy(bytes + 24, store_id, sizeof store_id);
  fuzz_sum_64(bytes, NC_PACK_HEADER_BYTES);
  if (!nc_pack_header_decode(bytes, &header, NULL))
    return;
  for (size_t at = NC_PACK_HEADER_BYTES; size - at >= NC_RECORD_HEAD_BYTES;) {
    NcRecordHead head;
    if (!nc_record_head_decode(bytes + at, size - at, header.encrypted, &head, NULL))
      return;
    nc_record_finish(&header, (uint32_t)at, &head, bytes + at);
    at += head.total_bytes;
  }
}

typedef struct {
  const NcPackFile *file;
  unsigned items;
} FuzzPack;

static bool
fuzz_pack_item(const NcPackItem *item, gpointer data)
{
  FuzzPack *pack = data;

  if (item->offset > pack->file->length || item->length > pack->file->length - item->offset)
    abort();
  if (!item->damage && item->head.kind == NC_RECORD_BLOCKS) {
    g_autoptr(NcDecoded) record = nc_pack_read_blocks(pack->file, item->offset, NULL);
    if (record && (record->count != item->head.count || record->starts[record->count] != item->head.raw_bytes))
      abort();
  }
  return ++pack->items < 10000;
}

static void
fuzz_pack(uint8_t *bytes, size_t size)
{
  NcPackScan scan;
  g_autoptr(GError) error = NULL;

  if (size >= NC_PACK_HEADER_BYTES)
    fuzz_mend_pack(bytes, size);
  g_autoptr(NcPackFile) file = nc_pack_file_take(&dir, fuzz_file(bytes, size), 1, UINT64_MAX, store_id, NULL, &error);
  FuzzPack pack = { .file = file };
  if (!file != (error != NULL))
    abort();
  for (unsigned deep = 0; file && deep < 2; deep++)
    nc_pack_scan(file, deep, fuzz_pack_item, &pack, &scan);
}

/* --- runs --- */

static void
fuzz_mend_run(uint8_t *bytes, size_t size)
{
  uint64_t salt = nc_be64(bytes + 56);

  nc_store_be32(bytes + 12, 1);
  memcpy(bytes + 40, store_id, sizeof store_id);
  for (size_t page = 0; (page + 1) * NC_RUN_PAGE_BYTES <= size; page++) {
    uint8_t *at = bytes + page * NC_RUN_PAGE_BYTES;
    nc_store_be64(at + NC_RUN_PAGE_BYTES - 8, nc_run_page_sum(at, page == 0 ? 1 : salt + page));
  }
}

static void
fuzz_ignore_page(uint32_t page, const char *text, gpointer data)
{
}

static void
fuzz_run_find(const NcRun *run, const uint8_t *address)
{
  NcLocation found;
  g_autoptr(GError) error = NULL;

  NcRunOutcome outcome = nc_run_find(run, address, &found, &error);
  if ((outcome == NC_RUN_BAD) != (error != NULL) ||
      (outcome == NC_RUN_FOUND && memcmp(found.address, address, NC_ADDRESS_BYTES) != 0))
    abort();
}

static void
fuzz_run(uint8_t *bytes, size_t size)
{
  static const uint8_t none[NC_ADDRESS_BYTES];
  NcRun name = { .refs = 1, .dir = &dir, .id = 1, .fd = -1 };
  const NcLocation *row;

  if (size >= NC_RUN_PAGE_BYTES)
    fuzz_mend_run(bytes, size);
  nc_autofd int fd = fuzz_file(bytes, size);
  name.fd = fd;
  g_autoptr(NcRun) run = nc_run_reopen(&name, store_id, NULL);
  if (!run)
    return;
  fuzz_run_find(run, none);
  for (size_t at = NC_RUN_PAGE_BYTES + 8; at + NC_ADDRESS_BYTES <= MIN(size, 3u * NC_RUN_PAGE_BYTES); at += 61)
    fuzz_run_find(run, bytes + at);
  g_autofree NcRunCursor *cursor = g_new(NcRunCursor, 1);
  nc_run_cursor_init(cursor, run);
  for (unsigned i = 0; nc_run_cursor_peek(cursor, &row, NULL) && row; i++)
    nc_run_cursor_skip(cursor);
  nc_run_check(run, fuzz_ignore_page, NULL);
}

/* --- manifests --- */

static void
fuzz_mend_manifest(uint8_t *bytes, size_t size)
{
  NcManifestFileHeader header;

  memcpy(bytes + 24, store_id, sizeof store_id);
  fuzz_sum_64(bytes, NC_MANIFEST_FILE_HEADER_BYTES);
  if (!nc_manifest_file_header_decode(bytes, &header, NULL))
    return;
  for (size_t at = NC_MANIFEST_FILE_HEADER_BYTES; size - at >= NC_SECTION_HEAD_BYTES;) {
    NcSectionHead head;
    if (!nc_section_head_decode(bytes + at, size - at, &head, NULL))
      return;
    nc_store_be64(bytes + at + 40, nc_section_sum(&header, head.number, bytes + at, head.payload_bytes));
    at += NC_SECTION_HEAD_BYTES + head.payload_bytes;
  }
}

static void
fuzz_manifest(uint8_t *bytes, size_t size)
{
  g_autofree NcPageStore *store = g_new0(NcPageStore, 1);
  g_autoptr(GError) error = NULL;
  NcManifestEntry entry;
  NcManifestOutcome outcome = NC_MANIFEST_ENTRY;

  store->dir = dir;
  store->table = nc_table_new(); /* an empty store: parts are looked for and not found */
  store->runs = g_ptr_array_new();
  if (size >= NC_MANIFEST_FILE_HEADER_BYTES)
    fuzz_mend_manifest(bytes, size);
  nc_autofd int fd = fuzz_file(bytes, size);
  g_autofree char *file = g_strdup_printf("./././././%d", fd);
  g_autoptr(NcManifestReader) reader = nc_manifest_open_file(store, file, &error);
  if (!reader != (error != NULL))
    abort();
  for (unsigned i = 0; reader && outcome == NC_MANIFEST_ENTRY && i < 100000; i++)
    outcome = nc_manifest_next(reader, &entry, &error);
  if ((outcome == NC_MANIFEST_BAD) != (reader && error))
    abort();
  nc_table_free(store->table);
  g_ptr_array_unref(store->runs);
}

/* u16 bytes of parts, these, and a section's payload. */
static void
fuzz_shared(uint8_t *bytes, size_t size)
{
  NcReader r = nc_reader(bytes, size), entries;
  g_autoptr(GByteArray) prefix = g_byte_array_new(), payload = g_byte_array_new();
  g_autoptr(GError) error = NULL;
  NcManifestEntry entry;
  uint16_t length;
  NcShared shared;

  if (!nc_reader_u16(&r, &length))
    return;
  length = (uint16_t)MIN(length, nc_reader_left(&r));
  g_byte_array_append(prefix, nc_reader_take(&r, length), length);
  g_byte_array_append(payload, r.at, (guint)nc_reader_left(&r));
  if (!nc_shared_decode(payload, &shared, &error) != (error != NULL))
    abort();
  if (error)
    return;
  g_autoptr(GByteArray) section = nc_shared_unfold(&shared, prefix, &error);
  if (!section != (error != NULL) || (section && section->len > MAX(prefix->len, NC_SECTION_ENTRIES * NC_SECTION_ENTRY_MAX)))
    abort();
  entries = section ? nc_reader(section->data, section->len) : nc_reader(NULL, 0);
  while (nc_section_next_entry(&entries, &entry))
    ;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static void (*const targets[])(uint8_t *, size_t) = { fuzz_pack, fuzz_run, fuzz_manifest, fuzz_shared };
  NcStoreFormat format;

  if (size < 1)
    return 0;
  if (dir.fd < 0 && (dir.fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
    abort();
  g_autofree uint8_t *bytes = g_memdup2(data, size);
  if (size - 1 == NC_FORMAT_BYTES) {
    fuzz_sum_64(bytes + 1, NC_FORMAT_BYTES);
    nc_store_format_decode(bytes + 1, &format, NULL);
  }
  g_autofree uint8_t *exact = g_memdup2(bytes + 1, size - 1);
  targets[data[0] % G_N_ELEMENTS(targets)](exact, size - 1);
  return 0;
}
