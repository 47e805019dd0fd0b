/* SPDX-License-Identifier: Apache-2.0 */
/* Verifying everything: description, packs, index, and what that means for manifests. */
#include "store/page_store_internal.h"
#include "store/page_store_manifest.h"

typedef struct {
  NcPageStore *store;
  NcPageStoreFindingFunc func;
  gpointer data;
  const gint *cancelled;
  NcPageStoreVerifyReport report;
  GHashTable *bad; /* guint64 pack << 32 | offset of damaged records, owned */
  NcTable *unknown; /* good blocks that the index does not know */
  bool part_hidden; /* of the manifest being looked at, a part of itself: by the index */
  bool part_bad;    /* in a damaged record */
  /* the pack being looked at */
  const NcPackFile *file;
  uint64_t before; /* bytes of the packs that come before it */
  bool stopped;    /* cancelled in the middle of it */
} NcScrub;

static const char *const nc_finding_kind_names[] = {
  [NC_FINDING_STORE] = "store", [NC_FINDING_PACK] = "pack",         [NC_FINDING_BLOCK] = "block",
  [NC_FINDING_INDEX] = "index", [NC_FINDING_MANIFEST] = "manifest", [NC_FINDING_LOST] = "lost",
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_finding_kind_names) == NC_FINDING_COUNT);

const char *
nc_finding_kind_name(NcFindingKind kind)
{
  return (unsigned)kind < NC_FINDING_COUNT ? nc_finding_kind_names[kind] : "unknown";
}

static void
nc_scrub_tell(NcScrub *scrub, const NcPageStoreFinding *finding)
{
  if (finding->kind == NC_FINDING_LOST)
    scrub->report.lost++;
  else
    scrub->report.findings++;
  if (scrub->func)
    scrub->func(finding, scrub->data);
}

static void
nc_scrub_tell_file(NcScrub *scrub, NcFindingKind kind, const char *file, uint64_t offset, const char *text)
{
  NcPageStoreFinding finding = { .kind = kind, .file = file, .offset = offset, .text = text };
  nc_scrub_tell(scrub, &finding);
}

/* --- the description --- */

static void
nc_scrub_format(NcScrub *scrub)
{
  NcPageStore *store = scrub->store;
  NcStoreFormat format;

  for (unsigned i = 0; i < 2; i++) {
    uint8_t bytes[NC_FORMAT_BYTES];
    g_autoptr(GError) error = NULL;
    nc_autofd int fd = nc_store_open(&store->dir, "format", false, &error);
    if (fd < 0 || !nc_store_read(&store->dir, "format", fd, bytes, sizeof bytes, i * NC_FORMAT_SECOND, &error) ||
        !nc_store_format_decode(bytes, &format, &error))
      nc_scrub_tell_file(scrub, NC_FINDING_STORE, "format", i * NC_FORMAT_SECOND, error->message);
  }
}

/* --- packs --- */

static void
nc_scrub_note_bad(NcScrub *scrub, uint32_t offset)
{
  const guint64 key = (guint64)scrub->file->header.id << 32 | offset;

  g_hash_table_add(scrub->bad, g_memdup2(&key, sizeof key));
  nc_store_note_bad_record(scrub->store, scrub->file->header.id, offset);
}

static bool
nc_scrub_is_bad(const NcScrub *scrub, uint32_t offset)
{
  const guint64 key = (guint64)scrub->file->header.id << 32 | offset;
  return g_hash_table_contains(scrub->bad, &key);
}

static void
nc_scrub_tell_block(NcScrub *scrub, uint32_t offset, const uint8_t *address, uint32_t length, const char *text)
{
  NcPageStoreFinding finding = { .kind = NC_FINDING_BLOCK, .file = scrub->file->name, .offset = offset, .address = address,
                                 .length = length, .text = text };
  nc_scrub_tell(scrub, &finding);
}

/* A record, or what should be one, that can't be used: with its blocks, if at least their names can be read. */
static void
nc_scrub_damaged(NcScrub *scrub, const NcPackItem *item, const char *why)
{
  nc_scrub_tell_file(scrub, NC_FINDING_PACK, scrub->file->name, item->offset, why);
  nc_scrub_note_bad(scrub, item->offset);
  for (unsigned i = 0; item->front && i < item->head.count; i++) {
    const uint8_t *entry = item->front + NC_RECORD_HEAD_BYTES + i * NC_RECORD_ENTRY_BYTES;
    nc_scrub_tell_block(scrub, item->offset, entry, nc_be32(entry + NC_ADDRESS_BYTES), why);
  }
}

/*
 * Every block against its hash. One that the index does not know need not be damage: where there were two
 * copies the index kept the newer one only, and gc may have taken that as dead and left the pack of the older.
 */
static void
nc_scrub_blocks(NcScrub *scrub, const NcPackItem *item, const NcDecoded *record)
{
  NcLocation location;

  for (unsigned slot = 0; slot < record->count; slot++) {
    uint8_t hash[NC_SHA256_BYTES], address[NC_ADDRESS_BYTES];
    uint32_t length = nc_decoded_length(record, slot);
    nc_sha256(record->data + record->starts[slot], length, hash);
    nc_store_address(scrub->store, hash, address);
    scrub->report.blocks++;
    scrub->report.bytes += length;
    if (memcmp(address, nc_decoded_address(record, slot), sizeof address) != 0) {
      nc_scrub_tell_block(scrub, item->offset, nc_decoded_address(record, slot), length,
                          "the block is not what its SHA-256 says");
      nc_scrub_note_bad(scrub, item->offset);
      continue;
    }
    NcFind find = nc_index_find(scrub->store, address, NULL, &location, NULL);
    if ((find != NC_FIND_ABSENT && find != NC_FIND_LOST) || scrub->unknown->count >= NC_STORE_TABLE_ENTRIES)
      continue;
    location = (NcLocation){ .pack = scrub->file->header.id, .offset = item->offset };
    memcpy(location.address, address, sizeof address);
    nc_table_put(scrub->unknown, &location);
  }
}

static bool
nc_scrub_item(const NcPackItem *item, gpointer data)
{
  NcScrub *scrub = data;
  g_autoptr(GError) error = NULL;

  scrub->stopped = !nc_store_go_on(scrub->cancelled, NULL);
  if (scrub->stopped)
    return false;
  __atomic_store_n(&scrub->store->work_done, scrub->before + item->offset, __ATOMIC_RELAXED);
  if (item->damage) {
    nc_scrub_damaged(scrub, item, item->damage);
    return true;
  }
  scrub->report.records++;
  if (item->head.kind != NC_RECORD_BLOCKS) {
    NcRecordHead head;
    g_autofree uint8_t *record = nc_pack_read_record(scrub->file, item->offset, &head, &error);
    if (!record)
      nc_scrub_damaged(scrub, item, error->message);
    return true;
  }
  g_autoptr(NcDecoded) record = nc_pack_read_blocks(scrub->file, item->offset, &error);
  if (!record) {
    nc_scrub_damaged(scrub, item, error->message);
    return true;
  }
  nc_scrub_blocks(scrub, item, record);
  if (!nc_scrub_is_bad(scrub, item->offset))
    nc_store_forget_bad_record(scrub->store, scrub->file->header.id, item->offset);
  return true;
}

/* A pack that could not be begun, the disk being full, goes again; others only with gc, which does not run now. */
static bool
nc_scrub_is_gone(NcPageStore *store, uint32_t id)
{
  pthread_rwlock_rdlock(&store->map);
  bool gone = !g_hash_table_contains(store->packs, GUINT_TO_POINTER(id));
  pthread_rwlock_unlock(&store->map);
  return gone;
}

static void
nc_scrub_pack(NcScrub *scrub, const NcPack *pack)
{
  NcPageStore *store = scrub->store;
  /* A pack that is still written to is looked at as far as it goes now; of others every byte counts. */
  bool growing = !pack->sealed && !pack->damaged;
  g_autoptr(GError) error = NULL;
  g_autoptr(NcPackFile) file =
      nc_pack_file_open(&store->dir, pack->id, growing ? pack->length : UINT64_MAX, store->store_id, store->key, &error);
  NcPackScan scan;

  scrub->report.packs++;
  if (!file && nc_scrub_is_gone(store, pack->id))
    return;
  if (!file) {
    char name[NC_PACK_NAME_BYTES];
    nc_pack_name(pack->id, name);
    nc_scrub_tell_file(scrub, NC_FINDING_PACK, name, 0, error->message);
    return;
  }
  scrub->file = file;
  if (file->header_damaged)
    nc_scrub_tell_file(scrub, NC_FINDING_PACK, file->name, 0, "the pack's header is damaged; its copy is good");
  if (nc_pack_scan(file, false, nc_scrub_item, scrub, &scan) && !scan.sealed && !growing)
    nc_scrub_tell_file(scrub, NC_FINDING_PACK, file->name, scan.end, "the pack's end is missing, or damaged");
  scrub->file = NULL;
}

static bool
nc_scrub_packs(NcScrub *scrub, GError **error)
{
  g_autoptr(GArray) packs = nc_packs_snapshot(scrub->store);

  for (guint i = 0; i < packs->len; i++) {
    nc_packs_set_work(scrub->store, packs, scrub->before);
    nc_scrub_pack(scrub, &g_array_index(packs, NcPack, i));
    scrub->before += g_array_index(packs, NcPack, i).length;
    if (!nc_store_go_on(scrub->cancelled, error))
      return false;
  }
  return true;
}

/* --- index --- */

typedef struct {
  NcScrub *scrub;
  const NcRun *run;
} NcScrubRun;

static void
nc_scrub_run_page(uint32_t page, const char *text, gpointer data)
{
  const NcScrubRun *at = data;
  nc_scrub_tell_file(at->scrub, NC_FINDING_INDEX, at->run->name, (uint64_t)page * NC_RUN_PAGE_BYTES, text);
}

static void
nc_scrub_index(NcScrub *scrub)
{
  NcPageStore *store = scrub->store;
  g_autoptr(GPtrArray) runs = g_ptr_array_new_with_free_func((GDestroyNotify)nc_run_unref);
  bool good = true;

  pthread_rwlock_rdlock(&store->map);
  for (guint i = 0; i < store->runs->len; i++)
    g_ptr_array_add(runs, nc_run_ref(g_ptr_array_index(store->runs, i)));
  pthread_rwlock_unlock(&store->map);
  for (guint i = 0; i < runs->len; i++) {
    NcScrubRun at = { .scrub = scrub, .run = g_ptr_array_index(runs, i) };
    g_autoptr(GError) error = NULL;
    /* Its first and last pages were read when opening only. */
    g_autoptr(NcRun) again = nc_run_reopen(at.run, store->store_id, &error);
    if (!again)
      nc_scrub_run_page(0, error->message, &at);
    good = nc_run_check(at.run, nc_scrub_run_page, &at) && again && good;
  }
  nc_hold(&store->small);
  store->index_bad = store->index_bad || !good; /* so that gc makes it again */
}

/* --- manifests --- */

static void
nc_scrub_tell_lost(NcScrub *scrub, const NcManifestReader *reader, uint64_t ordinal, const NcManifestEntry *entry,
                   const NcLocation *where, const char *text)
{
  char name[NC_PACK_NAME_BYTES];
  uint8_t address[NC_ADDRESS_BYTES];
  NcPageStoreFinding finding = { .kind = NC_FINDING_LOST, .manifest = nc_manifest_info(reader)->name, .ordinal = ordinal,
                                 .hash = entry->hash, .address = address, .length = entry->length, .text = text };

  nc_store_address(scrub->store, entry->hash, address);
  if (where) {
    nc_pack_name(where->pack, name);
    finding.file = name;
    finding.offset = where->offset;
  }
  nc_scrub_tell(scrub, &finding);
}

/* The index does not know a good block of ${address}: told. */
static bool
nc_scrub_tell_hidden(NcScrub *scrub, const uint8_t address[NC_ADDRESS_BYTES])
{
  const NcLocation *hidden = nc_table_find(scrub->unknown, address);
  char name[NC_PACK_NAME_BYTES];

  if (!hidden)
    return false;
  nc_pack_name(hidden->pack, name);
  nc_scrub_tell_file(scrub, NC_FINDING_INDEX, name, hidden->offset, "the index does not know a block that is here and wanted");
  return true;
}

static void
nc_scrub_entry(NcScrub *scrub, const NcManifestReader *reader, uint64_t ordinal, const NcManifestEntry *entry)
{
  uint8_t address[NC_ADDRESS_BYTES];
  NcLocation location;

  nc_store_address(scrub->store, entry->hash, address);
  NcFind find = nc_index_find(scrub->store, address, NULL, &location, NULL);
  if (find != NC_FIND_THERE && nc_scrub_tell_hidden(scrub, address))
    return;
  switch (find) {
  case NC_FIND_THERE: {
    const guint64 key = (guint64)location.pack << 32 | location.offset;
    if (g_hash_table_contains(scrub->bad, &key))
      nc_scrub_tell_lost(scrub, reader, ordinal, entry, &location, "the record that holds the block is damaged");
    break;
  }
  case NC_FIND_LOST:
    nc_scrub_tell_lost(scrub, reader, ordinal, entry, &location, "the pack that held the block has been cut short");
    break;
  case NC_FIND_ABSENT:
    nc_scrub_tell_lost(scrub, reader, ordinal, entry, NULL, "no pack holds the block");
    break;
  case NC_FIND_INDEX_BAD: /* told already; whether the block is there shows when the index has been made again */
    break;
  }
}

/* A block that holds a part of a manifest itself. What of it can't be read at all shows when it is. */
static void
nc_scrub_part(const uint8_t hash[NC_SHA256_BYTES], gpointer data)
{
  NcScrub *scrub = data;
  uint8_t address[NC_ADDRESS_BYTES];
  NcLocation location = { 0 };

  nc_store_address(scrub->store, hash, address);
  NcFind find = nc_index_find(scrub->store, address, NULL, &location, NULL);
  const guint64 key = (guint64)location.pack << 32 | location.offset;
  if (find == NC_FIND_THERE && g_hash_table_contains(scrub->bad, &key))
    scrub->part_bad = true;
  if (find == NC_FIND_INDEX_BAD || (find != NC_FIND_THERE && nc_scrub_tell_hidden(scrub, address)))
    scrub->part_hidden = true;
}

static void
nc_scrub_tell_manifest(NcScrub *scrub, const char *file, uint64_t offset, const char *text)
{
  g_autofree char *name = nc_manifest_name_of(file + strlen(NC_MANIFEST_DIRECTORY "/"));
  NcPageStoreFinding finding = { .kind = NC_FINDING_MANIFEST, .file = file, .offset = offset, .manifest = name ? name : file,
                                 .text = text };
  nc_scrub_tell(scrub, &finding);
}

static bool
nc_scrub_manifest(NcScrub *scrub, const char *file, GError **error)
{
  g_autoptr(GError) why = NULL;
  g_autoptr(NcManifestReader) reader = nc_manifest_open_file(scrub->store, file, &why);
  NcManifestEntry entry;
  NcManifestOutcome outcome;

  if (!reader && why->code == NC_ERROR_NOT_FOUND)
    return true; /* deleted meanwhile */
  scrub->report.manifests++;
  if (!reader) {
    nc_scrub_tell_manifest(scrub, file, 0, why->message);
    return true;
  }
  scrub->part_hidden = scrub->part_bad = false;
  nc_manifest_reader_on_part(reader, nc_scrub_part, scrub);
  for (uint64_t ordinal = 0; (outcome = nc_manifest_next(reader, &entry, &why)) == NC_MANIFEST_ENTRY; ordinal++) {
    if (!nc_manifest_entry_is_hole(&entry))
      nc_scrub_entry(scrub, reader, ordinal, &entry);
    if (!nc_store_go_on(scrub->cancelled, error))
      return false;
  }
  /* What an index that is damaged hides shows when it has been made again. */
  if ((outcome == NC_MANIFEST_BAD || scrub->part_bad) && !scrub->part_hidden)
    nc_scrub_tell_manifest(scrub, file, nc_manifest_reader_offset(reader),
                           why ? why->message : "the record that holds a part of it is damaged");
  return true;
}

static bool
nc_scrub_manifests(NcScrub *scrub, GError **error)
{
  g_autoptr(GPtrArray) files = nc_manifest_files(scrub->store, error);

  for (guint i = 0; files && i < files->len; i++)
    if (!nc_scrub_manifest(scrub, g_ptr_array_index(files, i), error))
      return false;
  return files != NULL;
}

bool
nc_page_store_verify(NcPageStore *store, NcPageStoreFindingFunc func, gpointer data, const gint *cancelled,
                     NcPageStoreVerifyReport *ret_report, GError **error)
{
  NcScrub scrub = { .store = store, .func = func, .data = data, .cancelled = cancelled };

  if (!nc_packs_begin_collecting(store, error))
    return false;
  scrub.bad = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
  scrub.unknown = nc_table_new();
  nc_scrub_format(&scrub);
  bool ok = nc_scrub_packs(&scrub, error);
  if (ok)
    nc_scrub_index(&scrub);
  ok = ok && nc_scrub_manifests(&scrub, error);
  nc_packs_end_collecting(store);
  g_hash_table_unref(scrub.bad);
  nc_table_free(scrub.unknown);
  if (ok)
    *ret_report = scrub.report;
  return ok;
}

/* --- one manifest --- */

/* Reads the block; false: it could not be tried, which says nothing about the block. */
static bool
nc_scrub_read_entry(NcScrub *scrub, const NcManifestReader *reader, uint64_t ordinal, const NcManifestEntry *entry, uint8_t *room,
                    GError **error)
{
  g_autoptr(GError) why = NULL;
  NcLocation location;
  uint8_t address[NC_ADDRESS_BYTES];
  uint32_t length;

  scrub->report.blocks++;
  scrub->report.bytes += entry->length;
  if (nc_page_store_get(scrub->store, entry->hash, room, NC_PAGE_STORE_BLOCK_MAX, &length, &why)) {
    if (length != entry->length)
      nc_scrub_tell_lost(scrub, reader, ordinal, entry, NULL, "the block has another length than the manifest says");
    return true;
  }
  if (why->code != NC_ERROR_CORRUPT && why->code != NC_ERROR_NOT_FOUND) {
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
  }
  nc_store_address(scrub->store, entry->hash, address);
  NcFind find = nc_index_find(scrub->store, address, NULL, &location, NULL);
  bool known = find == NC_FIND_THERE || find == NC_FIND_LOST;
  nc_scrub_tell_lost(scrub, reader, ordinal, entry, known ? &location : NULL, why->message);
  return true;
}

static bool
nc_scrub_read_all(NcScrub *scrub, NcManifestReader *reader, GError **error)
{
  g_autofree uint8_t *room = g_malloc(NC_PAGE_STORE_BLOCK_MAX);
  g_autoptr(GError) why = NULL;
  NcManifestEntry entry;
  NcManifestOutcome outcome;

  for (uint64_t ordinal = 0; (outcome = nc_manifest_next(reader, &entry, &why)) == NC_MANIFEST_ENTRY; ordinal++) {
    if (!nc_store_go_on(scrub->cancelled, error))
      return false;
    if (!nc_manifest_entry_is_hole(&entry) && !nc_scrub_read_entry(scrub, reader, ordinal, &entry, room, error))
      return false;
  }
  if (outcome == NC_MANIFEST_BAD)
    nc_scrub_tell_manifest(scrub, nc_manifest_reader_file(reader), nc_manifest_reader_offset(reader), why->message);
  return true;
}

bool
nc_manifest_verify(NcPageStore *store, const char *name, NcPageStoreFindingFunc func, gpointer data, const gint *cancelled,
                   NcPageStoreVerifyReport *ret_report, GError **error)
{
  NcScrub scrub = { .store = store, .func = func, .data = data, .cancelled = cancelled, .report.manifests = 1 };
  g_autoptr(GError) why = NULL;
  g_autoptr(NcManifestReader) reader = nc_manifest_open(store, name, &why);

  if (!reader && why->code != NC_ERROR_CORRUPT) {
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
  }
  if (!reader) {
    g_autofree char *file = nc_manifest_file(name);
    nc_scrub_tell_manifest(&scrub, file, 0, why->message);
  } else if (!nc_scrub_read_all(&scrub, reader, error)) {
    return false;
  }
  *ret_report = scrub.report;
  return true;
}
