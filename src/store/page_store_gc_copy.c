/* SPDX-License-Identifier: Apache-2.0 */
/* Taking what is live out of a pack that is mostly dead. */
#include "store/page_store_gc.h"
#include "base/log.h"

/* So much is gathered before it is appended. */
#define NC_GC_BATCH_BYTES (4u << 20)

typedef struct {
  NcPageStore *store;
  const NcPackFile *file;
  const NcMarks *marks;
  const gint *cancelled;
  GArray *blocks;     /* NcFrameBlock, pointing into: */
  GPtrArray *records; /* NcDecoded, references */
  size_t bytes;       /* of blocks */
  bool damaged;
  GError *error;      /* owned; NULL: none */
} NcGcCopy;

static bool
nc_gc_copy_flush(NcGcCopy *copy)
{
  if (copy->blocks->len == 0)
    return true;
  GArray *frames = nc_put_build_frames((const NcFrameBlock *)(void *)copy->blocks->data, copy->blocks->len, copy->store->level);
  bool ok = nc_append_frames(copy->store, (NcFrame *)(void *)frames->data, frames->len, NULL, true, &copy->error);
  nc_put_free_frames(frames);
  g_array_set_size(copy->blocks, 0);
  g_ptr_array_set_size(copy->records, 0);
  copy->bytes = 0;
  return ok;
}

/* Is the copy at ${offset}, ${slot} the one that counts? An index that can't say is an error: better none freed than one lost. */
static bool
nc_gc_is_newest(NcGcCopy *copy, const uint8_t *address, uint32_t offset, unsigned slot)
{
  NcLocation location;
  NcFind find = nc_index_find(copy->store, address, NULL, &location, &copy->error);

  return find == NC_FIND_THERE && location.pack == copy->file->header.id && location.offset == offset && location.slot == slot;
}

static bool
nc_gc_block_is_good(NcGcCopy *copy, const NcDecoded *record, unsigned slot)
{
  uint8_t hash[NC_SHA256_BYTES], address[NC_ADDRESS_BYTES];

  nc_sha256(record->data + record->starts[slot], nc_decoded_length(record, slot), hash);
  nc_store_address(copy->store, hash, address);
  return memcmp(address, nc_decoded_address(record, slot), NC_ADDRESS_BYTES) == 0;
}

static bool
nc_gc_copy_record(NcGcCopy *copy, uint32_t offset)
{
  g_autoptr(GError) why = NULL;
  g_autoptr(NcDecoded) record = nc_pack_read_blocks(copy->file, offset, &why);

  if (!record) {
    copy->damaged = true;
    return false;
  }
  for (unsigned slot = 0; slot < record->count; slot++) {
    const uint8_t *address = nc_decoded_address(record, slot);
    if (!nc_marks_has(copy->marks, address) || !nc_gc_is_newest(copy, address, offset, slot))
      continue;
    if (!nc_gc_block_is_good(copy, record, slot)) {
      copy->damaged = true;
      return false;
    }
    NcFrameBlock block = { .address = address, .data = record->data + record->starts[slot],
                           .length = nc_decoded_length(record, slot) };
    g_array_append_val(copy->blocks, block);
    copy->bytes += block.length;
  }
  g_ptr_array_add(copy->records, nc_decoded_ref(record));
  return !copy->error && (copy->bytes < NC_GC_BATCH_BYTES || nc_gc_copy_flush(copy));
}

/* One record: read only if something in it is marked. */
static bool
nc_gc_copy_item(const NcPackItem *item, gpointer data)
{
  NcGcCopy *copy = data;

  if (item->damage) {
    copy->damaged = true;
    return false;
  }
  if (!nc_store_go_on(copy->cancelled, &copy->error))
    return false;
  for (unsigned slot = 0; slot < item->head.count; slot++)
    if (nc_marks_has(copy->marks, item->front + NC_RECORD_HEAD_BYTES + slot * NC_RECORD_ENTRY_BYTES))
      return nc_gc_copy_record(copy, item->offset);
  return true;
}

bool
nc_gc_copy_pack(NcPageStore *store, const NcPack *pack, const NcMarks *marks, const gint *cancelled, bool *ret_damaged,
                GError **error)
{
  g_autoptr(GError) why = NULL;
  g_autoptr(NcPackFile) file = nc_pack_file_open(&store->dir, pack->id, UINT64_MAX, store->store_id, store->key, &why);
  g_autoptr(GArray) blocks = g_array_new(FALSE, FALSE, sizeof(NcFrameBlock));
  g_autoptr(GPtrArray) records = g_ptr_array_new_with_free_func((GDestroyNotify)nc_decoded_unref);
  NcGcCopy copy = { .store = store, .file = file, .marks = marks, .cancelled = cancelled, .blocks = blocks, .records = records };
  NcPackScan scan = { 0 };

  *ret_damaged = false;
  if (file && nc_pack_scan(file, false, nc_gc_copy_item, &copy, &scan))
    nc_gc_copy_flush(&copy);
  *ret_damaged = !file || copy.damaged || (!copy.error && !scan.sealed);
  if (copy.error) {
    g_propagate_error(error, copy.error);
    return false;
  }
  return *ret_damaged || nc_page_store_flush(store, error);
}
