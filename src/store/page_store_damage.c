/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records that were read and found damaged. What is put is stored again where its only copy is one of these, so they must outlive
 * novacrond: the file "damaged" has an entry for each (16 bytes: pack, offset, both big-endian; 8 bytes of their SHA-256).
 *
 * An entry too few means that damage has to be found again, one too many that a block is stored twice: the file is a help and may be
 * missing, cut short or itself damaged, and it is not synced.
 */
#include "base/log.h"
#include "store/page_store_internal.h"

#define NC_DAMAGED_FILE "damaged"
#define NC_DAMAGED_ENTRY_BYTES 16u
#define NC_DAMAGED_KEY_BYTES 8u
/* A dying disk has more damage than is worth remembering: beyond this, it is found again each time. */
#define NC_STORE_BAD_RECORDS_MAX 65536u

/* A help that can't be written is no reason to give up writing the store. */
static NcStoreDir
nc_damaged_dir(const NcPageStore *store)
{
  NcStoreDir dir = store->dir;
  dir.refused = NULL;
  return dir;
}

static void
nc_damaged_encode(guint64 key, uint8_t ret[NC_DAMAGED_ENTRY_BYTES])
{
  uint8_t hash[NC_SHA256_BYTES];

  nc_store_be64(ret, key);
  nc_sha256(ret, NC_DAMAGED_KEY_BYTES, hash);
  memcpy(ret + NC_DAMAGED_KEY_BYTES, hash, NC_DAMAGED_ENTRY_BYTES - NC_DAMAGED_KEY_BYTES);
}

static bool
nc_damaged_decode(const uint8_t entry[NC_DAMAGED_ENTRY_BYTES], guint64 *ret)
{
  uint8_t again[NC_DAMAGED_ENTRY_BYTES];

  *ret = nc_be64(entry);
  nc_damaged_encode(*ret, again);
  return memcmp(entry, again, sizeof again) == 0;
}

static bool
nc_damaged_append(NcPageStore *store, guint64 key, GError **error)
{
  uint8_t entry[NC_DAMAGED_ENTRY_BYTES];
  uint64_t length = 0;
  g_autoptr(GError) why = NULL;
  const NcStoreDir dir = nc_damaged_dir(store);
  nc_autofd int fd = nc_store_open(&dir, NC_DAMAGED_FILE, true, &why);

  if (fd < 0 && why->code == NC_ERROR_NOT_FOUND)
    fd = nc_store_create(&dir, NC_DAMAGED_FILE, error);
  else if (fd < 0)
    g_propagate_error(error, g_steal_pointer(&why));
  if (fd < 0 || !nc_store_length(&dir, NC_DAMAGED_FILE, fd, &length, error))
    return false;
  nc_damaged_encode(key, entry);
  /* After what a kill has cut short, on the next entry's place. */
  return nc_store_write(&dir, NC_DAMAGED_FILE, fd, entry, sizeof entry, length - length % sizeof entry, error);
}

bool
nc_store_record_is_bad(NcPageStore *store, uint32_t pack, uint32_t offset)
{
  const guint64 key = (guint64)pack << 32 | offset;
  nc_hold(&store->small);
  return g_hash_table_contains(store->bad_records, &key);
}

/* True: it was not known. */
static bool
nc_damaged_add(NcPageStore *store, guint64 key)
{
  nc_hold(&store->small);
  return g_hash_table_size(store->bad_records) < NC_STORE_BAD_RECORDS_MAX &&
         g_hash_table_add(store->bad_records, g_memdup2(&key, sizeof key));
}

void
nc_store_note_bad_record(NcPageStore *store, uint32_t pack, uint32_t offset)
{
  const guint64 key = (guint64)pack << 32 | offset;
  g_autoptr(GError) error = NULL;

  nc_hold(&store->noting);
  if (!nc_damaged_add(store, key) || !nc_store_writable(store, NULL))
    return;
  if (nc_damaged_append(store, key, &error))
    nc_store_count(store, NC_DAMAGED_ENTRY_BYTES);
  else
    nc_log(NC_LOG_WARNING, "store", "%s; until this store is closed the damage is known all the same", error->message);
}

static bool
nc_damaged_write_again(NcPageStore *store, GError **error)
{
  const NcStoreDir dir = nc_damaged_dir(store);
  g_autofree guint64 *keys = NULL;
  guint count = 0;
  GHashTableIter iter;
  gpointer key;

  pthread_mutex_lock(&store->small);
  keys = g_new(guint64, g_hash_table_size(store->bad_records) + 1);
  g_hash_table_iter_init(&iter, store->bad_records);
  while (g_hash_table_iter_next(&iter, &key, NULL))
    keys[count++] = *(const guint64 *)key;
  pthread_mutex_unlock(&store->small);
  if (!nc_store_unlink(&dir, NC_DAMAGED_FILE, error))
    return false;
  for (guint i = 0; i < count; i++)
    if (!nc_damaged_append(store, keys[i], error))
      return false;
  return true;
}

static bool
nc_damaged_remove(NcPageStore *store, guint64 key)
{
  nc_hold(&store->small);
  return g_hash_table_remove(store->bad_records, &key);
}

void
nc_store_forget_bad_record(NcPageStore *store, uint32_t pack, uint32_t offset)
{
  g_autoptr(GError) error = NULL;

  nc_hold(&store->noting);
  if (!nc_damaged_remove(store, (guint64)pack << 32 | offset) || !nc_store_writable(store, NULL) || nc_damaged_write_again(store, &error))
    return;
  nc_log(NC_LOG_WARNING, "store", "%s; what was damaged once and is not is stored once more", error->message);
}

/* Entries of packs that are there. False: some are not worth their place, or not entries. */
static bool
nc_damaged_read(NcPageStore *store, int fd, uint64_t length)
{
  const uint64_t most = (uint64_t)NC_STORE_BAD_RECORDS_MAX * NC_DAMAGED_ENTRY_BYTES;
  bool all = length % NC_DAMAGED_ENTRY_BYTES == 0 && length <= most;

  for (uint64_t at = 0; at + NC_DAMAGED_ENTRY_BYTES <= MIN(length, most); at += NC_DAMAGED_ENTRY_BYTES) {
    uint8_t entry[NC_DAMAGED_ENTRY_BYTES];
    guint64 key;
    if (!nc_store_read(&store->dir, NC_DAMAGED_FILE, fd, entry, sizeof entry, at, NULL))
      return false;
    bool counts = nc_damaged_decode(entry, &key) && g_hash_table_contains(store->packs, GUINT_TO_POINTER((guint)(key >> 32)));
    all = counts && nc_damaged_add(store, key) && all;
  }
  return all;
}

void
nc_store_load_bad_records(NcPageStore *store)
{
  uint64_t length;
  g_autoptr(GError) error = NULL;
  nc_autofd int fd = nc_store_open(&store->dir, NC_DAMAGED_FILE, false, &error);

  if (fd < 0 && error->code == NC_ERROR_NOT_FOUND)
    return;
  if (fd >= 0 && nc_store_length(&store->dir, NC_DAMAGED_FILE, fd, &length, &error) &&
      (nc_damaged_read(store, fd, length) || store->read_only || nc_damaged_write_again(store, &error)))
    return;
  nc_log(NC_LOG_WARNING, "store", "what was found damaged before is not known in full: %s", error->message);
}
