/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The open pack: appending records all or none, making them durable, sealing.
 *
 * A pack is written by one process in one go: what a crash left is sealed as it is when
 * the store is opened, so that a sealer's nonces never come twice. At most one pack is unsealed, the newest.
 */
#include "store/page_store_internal.h"
#include "base/log.h"

static void
nc_open_pack_clear(NcOpenPack *open)
{
  nc_fd_clear(&open->fd);
  g_clear_pointer(&open->sealer, nc_sealer_free);
  g_clear_pointer(&open->offsets, g_array_unref);
  *open = (NcOpenPack){ .fd = -1 };
}

bool
nc_append_sync_locked(NcPageStore *store, GError **error)
{
  NcOpenPack *open = &store->open;

  if (!open->pack)
    return true;
  if (!nc_store_sync(&store->dir, open->name, open->fd, error) ||
      (!open->name_durable && !nc_store_sync_dir(&store->dir, "packs", error)))
    return nc_store_fail(store);
  open->name_durable = true;
  return true;
}

/* What a failed write left goes; if even that fails, opening will cut it off. */
static void
nc_append_take_back(NcPageStore *store)
{
  NcOpenPack *open = &store->open;
  g_autoptr(GError) error = NULL;

  if (nc_store_truncate(&store->dir, open->name, open->fd, open->pack->length, &error))
    return;
  nc_log(NC_LOG_ERR, "store", "%s", error->message);
  nc_store_fail(store);
}

static void
nc_append_grow(NcPageStore *store, uint32_t bytes)
{
  pthread_rwlock_wrlock(&store->map);
  store->open.pack->length += bytes;
  pthread_rwlock_unlock(&store->map);
  nc_store_count(store, bytes);
}

bool
nc_append_seal_locked(NcPageStore *store, GError **error)
{
  NcOpenPack *open = &store->open;
  NcPack *pack = open->pack;

  if (!pack)
    return true;
  NcPackTail tail = { .seal_offset = pack->length, .blocks = pack->blocks, .block_bytes = pack->block_bytes };
  g_autoptr(GByteArray) payload = nc_pack_seal_payload(&open->header, &tail, open->offsets);
  NcRecordHead head = { .kind = NC_RECORD_SEAL, .payload_bytes = payload->len };
  uint32_t total = nc_record_total(0, payload->len);
  g_autofree uint8_t *record = g_malloc0(total);
  memcpy(record + NC_RECORD_HEAD_BYTES, payload->data, payload->len);
  nc_record_finish(&open->header, pack->length, &head, record);
  if (!nc_store_write(&store->dir, open->name, open->fd, record, total, pack->length, error)) {
    nc_append_take_back(store);
    return false;
  }
  nc_append_grow(store, total);
  if (!nc_append_sync_locked(store, error))
    return false;
  pthread_rwlock_wrlock(&store->map);
  pack->sealed = true;
  pthread_rwlock_unlock(&store->map);
  nc_open_pack_clear(open);
  nc_index_freeze(store, false);
  return true;
}

/* A pack whose first records could not be written goes again. */
static void
nc_append_drop_empty(NcPageStore *store)
{
  NcOpenPack *open = &store->open;
  g_autoptr(GError) error = NULL;

  if (!nc_store_unlink(&store->dir, open->name, &error))
    nc_log(NC_LOG_WARNING, "store", "%s", error->message);
  nc_store_count(store, -(int64_t)open->pack->length);
  pthread_rwlock_wrlock(&store->map);
  g_hash_table_remove(store->packs, GUINT_TO_POINTER(open->pack->id));
  pthread_rwlock_unlock(&store->map);
  nc_open_pack_clear(open);
}

/* The file of a new pack, with its header; taken away again on error. */
static bool
nc_append_create(NcPageStore *store, GError **error)
{
  NcOpenPack *open = &store->open;
  uint8_t header[NC_PACK_HEADER_BYTES];

  nc_pack_header_encode(&open->header, header);
  nc_pack_name(open->header.id, open->name);
  open->fd = nc_store_create(&store->dir, open->name, error);
  if (open->fd < 0)
    return false;
  if (nc_store_write(&store->dir, open->name, open->fd, header, sizeof header, 0, error))
    return true;
  nc_store_unlink(&store->dir, open->name, NULL);
  return false;
}

/* A new pack, which others see only when its header is there. */
static bool
nc_append_begin(NcPageStore *store, GError **error)
{
  NcOpenPack *open = &store->open;

  open->header = (NcPackHeader){ .id = store->next_pack++, .encrypted = store->key != NULL };
  memcpy(open->header.store_id, store->store_id, NC_STORE_ID_BYTES);
  if (store->key)
    open->sealer = nc_sealer_new(store->key, open->header.salt);
  else
    nc_random_bytes(open->header.salt, NC_SEAL_SALT_BYTES);
  open->offsets = g_array_new(FALSE, FALSE, sizeof(uint32_t));
  if (!nc_append_create(store, error)) {
    nc_open_pack_clear(open);
    return false;
  }
  open->pack = g_new0(NcPack, 1);
  open->pack->id = open->header.id;
  open->pack->length = NC_PACK_HEADER_BYTES;
  pthread_rwlock_wrlock(&store->map);
  g_hash_table_insert(store->packs, GUINT_TO_POINTER(open->pack->id), open->pack);
  pthread_rwlock_unlock(&store->map);
  nc_store_count(store, NC_PACK_HEADER_BYTES);
  return true;
}

/* Is there a pack that may take more? One that is full, or was found when opening, must be sealed first. */
static bool
nc_append_make_ready(NcPageStore *store, GError **error)
{
  const NcOpenPack *open = &store->open;

  if (open->pack && (open->finish_only || open->pack->length >= store->pack_bytes) && !nc_append_seal_locked(store, error))
    return false;
  return open->pack || nc_append_begin(store, error);
}

/* All records in one piece of memory, as they are to be at the end of the open pack. Caller frees. */
static uint8_t *
nc_append_compose(NcPageStore *store, NcFrame *frames, unsigned count, size_t total)
{
  NcOpenPack *open = &store->open;
  uint8_t *bytes = g_malloc(total);
  size_t at = 0;

  for (unsigned i = 0; i < count; i++) {
    nc_frame_finish(&frames[i], &open->header, open->pack->length + (uint32_t)at, open->sealer);
    size_t length = nc_record_total(frames[i].head.count, frames[i].head.payload_bytes);
    memcpy(bytes + at, frames[i].bytes, length);
    at += length;
  }
  return bytes;
}

/* The records have been written: their blocks can be found from now on. */
static void
nc_append_publish(NcPageStore *store, const NcFrame *frames, unsigned count, NcPageStoreWriter *writer, size_t total)
{
  NcOpenPack *open = &store->open;
  NcPack *pack = open->pack;
  uint32_t offset = pack->length;

  pthread_rwlock_wrlock(&store->map);
  for (unsigned i = 0; i < count; i++) {
    const NcRecordHead *head = &frames[i].head;
    nc_scan_enter(store->table, pack->id, offset, head, frames[i].bytes);
    g_array_append_val(open->offsets, offset);
    pack->blocks += head->count;
    pack->block_bytes += head->raw_bytes;
    offset += nc_record_total(head->count, head->payload_bytes);
  }
  pack->length = offset;
  pthread_mutex_lock(&store->small);
  nc_writer_pin_locked(store, writer, pack->id);
  store->used += total;
  pthread_mutex_unlock(&store->small);
  pthread_rwlock_unlock(&store->map);
}

static bool
nc_append_frames_locked(NcPageStore *store, NcFrame *frames, unsigned count, NcPageStoreWriter *writer, bool over_budget,
                        GError **error)
{
  const NcOpenPack *open = &store->open;
  size_t total = 0;

  for (unsigned i = 0; i < count; i++)
    total += nc_frame_record_bytes(&frames[i], store->key != NULL);
  /* Looked at before a pack is begun, so that a store that is full gets no empty pack. */
  uint64_t more = total + NC_PACK_HEADER_BYTES + NC_STORE_SEAL_RESERVE((open->offsets ? open->offsets->len : 0) + count);
  if (!nc_store_writable(store, error) || (!over_budget && !nc_store_within_budget(store, more, error)) ||
      !nc_append_make_ready(store, error))
    return false;
  if (total > NC_PACK_LENGTH_MAX / 2 - open->pack->length)
    return nc_fail(error, NC_ERROR_IO, "page store %s: %s can't be sealed, and no more fits", store->dir.path, open->name);
  g_autofree uint8_t *bytes = nc_append_compose(store, frames, count, total);
  if (!nc_store_write(&store->dir, open->name, open->fd, bytes, total, open->pack->length, error)) {
    if (open->pack->length == NC_PACK_HEADER_BYTES)
      nc_append_drop_empty(store);
    else
      nc_append_take_back(store);
    return false;
  }
  nc_append_publish(store, frames, count, writer, total);
  g_autoptr(GError) later = NULL; /* the blocks are in, and the next put tries to seal again */
  if (open->pack->length >= store->pack_bytes && !nc_append_seal_locked(store, &later))
    nc_log(NC_LOG_WARNING, "store", "%s", later->message);
  return true;
}

bool
nc_append_frames(NcPageStore *store, NcFrame *frames, unsigned count, NcPageStoreWriter *writer, bool over_budget, GError **error)
{
  pthread_mutex_lock(&store->appending);
  bool ok = nc_append_frames_locked(store, frames, count, writer, over_budget, error);
  pthread_mutex_unlock(&store->appending);
  g_autoptr(GError) later = NULL;
  if (ok && !nc_index_maintain(store, false, &later)) /* stays in memory; tried again when the next pack is sealed */
    nc_log(NC_LOG_WARNING, "store", "%s", later->message);
  return ok;
}
