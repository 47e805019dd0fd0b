/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking through packs that no run covers, when opening and when the index is
 * made again; and repairing the one that was written to when the power went.
 */
#include "store/page_store_internal.h"
#include "base/log.h"

void
nc_scan_enter(NcTable *table, uint32_t pack, uint32_t offset, const NcRecordHead *head, const uint8_t *front)
{
  NcLocation location = { .pack = pack, .offset = offset };

  for (unsigned i = 0; i < head->count; i++) {
    const uint8_t *entry = front + NC_RECORD_HEAD_BYTES + i * NC_RECORD_ENTRY_BYTES;
    memcpy(location.address, entry, NC_ADDRESS_BYTES);
    location.slot = (uint16_t)i;
    location.length_less_1 = (uint16_t)(nc_be32(entry + NC_ADDRESS_BYTES) - 1);
    nc_table_put(table, &location);
  }
}

typedef struct {
  NcPack *pack;
  NcTable *table;
  GArray *offsets; /* of good records */
  GArray *gaps;    /* NcScanGap */
} NcScan;

typedef struct {
  uint32_t offset, length;
} NcScanGap;

static bool
nc_scan_item(const NcPackItem *item, gpointer data)
{
  NcScan *scan = data;

  if (item->damage) {
    NcScanGap gap = { .offset = item->offset, .length = item->length };
    g_array_append_val(scan->gaps, gap);
    return true;
  }
  g_array_append_val(scan->offsets, item->offset);
  if (item->head.kind == NC_RECORD_BLOCKS) {
    nc_scan_enter(scan->table, scan->pack->id, item->offset, &item->head, item->front);
    scan->pack->blocks += item->head.count;
    scan->pack->block_bytes += item->head.raw_bytes;
  }
  return true;
}

/* Makes a VOID record of ${gap}, so that what comes after it can be found again. */
static bool
nc_scan_fill_gap(NcPageStore *store, const NcPackFile *file, int fd, const NcScanGap *gap, GError **error)
{
  NcRecordHead head = { .kind = NC_RECORD_VOID, .payload_bytes = gap->length - NC_RECORD_HEAD_BYTES };
  g_autofree uint8_t *record = g_try_malloc(gap->length);

  if (!record)
    return nc_fail(error, NC_ERROR_RESOURCE, "no memory for %u bytes of a damaged pack", gap->length);
  /* What is there can't be of use; the reading could fail again. */
  memset(record, 0, gap->length);
  nc_record_finish(&file->header, gap->offset, &head, record);
  return nc_store_write(&store->dir, file->name, fd, record, gap->length, gap->offset, error);
}

/* Gaps before ${end}. */
static bool
nc_scan_fill_gaps(NcPageStore *store, const NcPackFile *file, int fd, NcScan *scan, uint32_t end, GError **error)
{
  for (guint i = 0; i < scan->gaps->len; i++) {
    const NcScanGap *gap = &g_array_index(scan->gaps, NcScanGap, i);
    if (gap->offset >= end)
      continue;
    nc_log(NC_LOG_WARNING, "store", "page store %s: %s: %u bytes at %u were not written whole, or are damaged; skipped",
           store->dir.path, file->name, gap->length, gap->offset);
    if (!nc_scan_fill_gap(store, file, fd, gap, error))
      return false;
    g_array_append_val(scan->offsets, gap->offset);
  }
  return true;
}

/* Good records as they are, gaps filled, the torn end cut off. Then only its SEAL is missing. */
static bool
nc_scan_repair(NcPageStore *store, const NcPackFile *file, int fd, NcScan *scan, uint32_t end, GError **error)
{
  uint32_t cut = (uint32_t)file->length - end;

  if (!nc_scan_fill_gaps(store, file, fd, scan, end, error))
    return false;
  if (cut == 0)
    return true;
  nc_log(NC_LOG_NOTICE, "store", "page store %s: %s: the last %u bytes were not written whole; cut off", store->dir.path,
         file->name, cut);
  return nc_store_truncate(&store->dir, file->name, fd, end, error);
}

static int
nc_scan_compare_offsets(gconstpointer a, gconstpointer b)
{
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

/* The pack becomes the open one, to be sealed before another is begun. */
static bool
nc_scan_finish(NcPageStore *store, NcPack *pack, const NcPackFile *file, NcScan *scan, uint32_t end, GError **error)
{
  NcOpenPack *open = &store->open;
  nc_autofd int fd = nc_store_open(&store->dir, file->name, true, error);

  if (fd < 0 || !nc_scan_repair(store, file, fd, scan, end, error))
    return false;
  g_array_sort(scan->offsets, nc_scan_compare_offsets);
  pack->length = end;
  *open = (NcOpenPack){ .pack = pack, .fd = nc_fd_steal(&fd), .finish_only = true, .header = file->header };
  memcpy(open->name, file->name, sizeof open->name);
  open->offsets = g_array_ref(scan->offsets);
  g_autoptr(GError) later = NULL; /* e.g. the disk is full: what is there can be had all the same */
  if (!nc_append_seal_locked(store, &later))
    nc_log(NC_LOG_WARNING, "store", "%s", later->message);
  return true;
}

static bool
nc_scan_unsealed(NcPageStore *store, NcPack *pack, const NcPackFile *file, NcScan *scan, const NcPackScan *result, GError **error)
{
  pack->length = result->end;
  return store->read_only || nc_scan_finish(store, pack, file, scan, result->end, error);
}

/* The power went after SEAL was written and before all was on the disk. */
static bool
nc_scan_mend_sealed(NcPageStore *store, const NcPackFile *file, NcScan *scan, const NcPackScan *result, GError **error)
{
  if (store->read_only || scan->gaps->len == 0)
    return true;
  nc_autofd int fd = nc_store_open(&store->dir, file->name, true, error);
  return fd >= 0 && nc_scan_fill_gaps(store, file, fd, scan, result->end, error) &&
         nc_store_sync(&store->dir, file->name, fd, error);
}

/*
 * Did the header of the newest pack never get to the disk? Then nothing of it was promised, whatever
 * follows: a flush covers the header first. (One that was there and is damaged is not all zeros.)
 */
static bool
nc_scan_header_is_blank(NcPageStore *store, uint32_t id)
{
  uint8_t header[NC_PACK_HEADER_BYTES];
  char name[NC_PACK_NAME_BYTES];

  nc_pack_name(id, name);
  nc_autofd int fd = nc_store_open(&store->dir, name, false, NULL);
  if (fd < 0 || !nc_store_read(&store->dir, name, fd, header, sizeof header, 0, NULL))
    return false;
  for (unsigned i = 0; i < sizeof header; i++)
    if (header[i] != 0)
      return false;
  return true;
}

/* Never got as far as its first record. */
static bool
nc_scan_drop(NcPageStore *store, NcPack *pack, GError **error)
{
  char name[NC_PACK_NAME_BYTES];

  nc_pack_name(pack->id, name);
  pack->damaged = true;
  pack->length = 0;
  return store->read_only || nc_store_unlink(&store->dir, name, error);
}

bool
nc_scan_pack(NcPageStore *store, NcPack *pack, bool last, NcTable *table, GError **error)
{
  g_autoptr(GError) why = NULL;
  g_autoptr(GArray) offsets = g_array_new(FALSE, FALSE, sizeof(uint32_t));
  g_autoptr(GArray) gaps = g_array_new(FALSE, FALSE, sizeof(NcScanGap));
  g_autoptr(NcTable) found = nc_table_new();
  NcScan scan = { .pack = pack, .table = found, .offsets = offsets, .gaps = gaps };
  NcPackScan result;

  pack->blocks = 0;
  pack->block_bytes = 0;
  if (last && (pack->length <= NC_PACK_HEADER_BYTES || nc_scan_header_is_blank(store, pack->id)))
    return nc_scan_drop(store, pack, error);
  g_autoptr(NcPackFile) file = nc_pack_file_open(&store->dir, pack->id, UINT64_MAX, store->store_id, store->key, &why);
  if (!file) {
    nc_log(NC_LOG_ERR, "store", "%s", why->message);
    pack->damaged = true;
    return true;
  }
  nc_pack_scan(file, last, nc_scan_item, &scan, &result);
  for (size_t i = 0; i < found->room; i++)
    if (found->rows[i].pack != 0)
      nc_table_put(table, &found->rows[i]);
  pack->sealed = result.sealed;
  if (!result.sealed && last)
    return nc_scan_unsealed(store, pack, file, &scan, &result, error);
  if (last && !nc_scan_mend_sealed(store, file, &scan, &result, error))
    return false;
  pack->damaged = !result.sealed || file->header_damaged;
  if (pack->damaged)
    nc_log(NC_LOG_ERR, "store", "page store %s: %s is damaged: verify says what is lost", store->dir.path, file->name);
  return true;
}
