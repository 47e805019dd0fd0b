/* SPDX-License-Identifier: Apache-2.0 */
/* Reading packs, sound or not. */
#include "store/page_store_pack.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* How much is looked through at a time for the next record. */
#define NC_RESYNC_BYTES (256u << 10)

void
nc_pack_name(uint32_t id, char ret[NC_PACK_NAME_BYTES])
{
  snprintf(ret, NC_PACK_NAME_BYTES, "packs/%08x.pack", id);
}

uint32_t
nc_pack_id_of(const char *name)
{
  char again[NC_PACK_NAME_BYTES];
  guint64 id = g_ascii_strtoull(name, NULL, 16);

  if (id == 0 || id > UINT32_MAX)
    return 0;
  nc_pack_name((uint32_t)id, again);
  return strcmp(name, again + strlen("packs/")) == 0 ? (uint32_t)id : 0;
}

/* Header from the front or, if that is damaged, from the copy at the end. */
static bool
nc_pack_file_load_header(NcPackFile *file, GError **error)
{
  uint8_t bytes[NC_PACK_HEADER_BYTES];
  const uint64_t end = NC_PACK_HEADER_BYTES + NC_PACK_TAIL_BYTES;

  if (nc_store_read(file->dir, file->name, file->fd, bytes, sizeof bytes, 0, error) &&
      nc_pack_header_decode(bytes, &file->header, error))
    return true;
  if (file->length < NC_PACK_HEADER_BYTES + end ||
      !nc_store_read(file->dir, file->name, file->fd, bytes, sizeof bytes, file->length - end, NULL) ||
      !nc_pack_header_decode(bytes, &file->header, NULL))
    return false;
  g_clear_error(error);
  file->header_damaged = true;
  return true;
}

NcPackFile *
nc_pack_file_take(const NcStoreDir *dir, int fd, uint32_t id, uint64_t length, const uint8_t store_id[NC_STORE_ID_BYTES],
                  const NcSealKey *key, GError **error)
{
  g_autoptr(NcPackFile) file = g_new0(NcPackFile, 1);
  uint64_t there;

  file->dir = dir;
  file->fd = fd;
  nc_pack_name(id, file->name);
  if (!nc_store_length(dir, file->name, fd, &there, error))
    return NULL;
  file->length = MIN(MIN(there, length), NC_PACK_LENGTH_MAX);
  g_autoptr(GError) why = NULL;
  if (!nc_pack_file_load_header(file, &why)) {
    nc_fail(error, NC_ERROR_CORRUPT, "page store %s: %s: %s", dir->path, file->name, why->message);
    return NULL;
  }
  if (file->header.id != id || memcmp(file->header.store_id, store_id, NC_STORE_ID_BYTES) != 0 ||
      file->header.encrypted != (key != NULL)) {
    nc_fail(error, NC_ERROR_CORRUPT, "page store %s: %s is another pack, or from another store", dir->path, file->name);
    return NULL;
  }
  file->opener = key ? nc_opener_new(key, file->header.salt) : NULL;
  return g_steal_pointer(&file);
}

NcPackFile *
nc_pack_file_open(const NcStoreDir *dir, uint32_t id, uint64_t length, const uint8_t store_id[NC_STORE_ID_BYTES],
                  const NcSealKey *key, GError **error)
{
  char name[NC_PACK_NAME_BYTES];

  nc_pack_name(id, name);
  int fd = nc_store_open(dir, name, false, error);
  return fd < 0 ? NULL : nc_pack_file_take(dir, fd, id, length, store_id, key, error);
}

void
nc_pack_file_free(NcPackFile *file)
{
  if (!file)
    return;
  nc_fd_clear(&file->fd);
  nc_opener_free(file->opener);
  g_free(file);
}

/* Head and table at ${offset}, checked; caller frees. */
static uint8_t *
nc_pack_read_front(const NcPackFile *file, uint32_t offset, NcRecordHead *ret_head, GError **error)
{
  uint8_t head[NC_RECORD_HEAD_BYTES];

  if (offset > file->length || file->length - offset < sizeof head) {
    nc_fail(error, NC_ERROR_CORRUPT, "the pack ends before, at %llu", (unsigned long long)file->length);
    return NULL;
  }
  if (!nc_store_read(file->dir, file->name, file->fd, head, sizeof head, offset, error) ||
      !nc_record_head_decode(head, file->length - offset, file->header.encrypted, ret_head, error))
    return NULL;
  g_autofree uint8_t *front = g_malloc(nc_record_front_bytes(ret_head));
  memcpy(front, head, sizeof head);
  if (!nc_store_read(file->dir, file->name, file->fd, front + sizeof head, nc_record_front_bytes(ret_head) - sizeof head,
                     offset + sizeof head, error) ||
      !nc_record_front_check(&file->header, offset, ret_head, front, error))
    return NULL;
  return g_steal_pointer(&front);
}

uint8_t *
nc_pack_read_record(const NcPackFile *file, uint32_t offset, NcRecordHead *ret_head, GError **error)
{
  g_autofree uint8_t *front = nc_pack_read_front(file, offset, ret_head, error);
  if (!front)
    return NULL;
  uint32_t front_bytes = nc_record_front_bytes(ret_head);
  uint8_t *bytes = g_try_realloc(front, ret_head->total_bytes); /* VOID and SEAL are as long as a crash or a pack makes them */
  if (!bytes) {
    nc_fail(error, NC_ERROR_RESOURCE, "no memory for a record of %u bytes", ret_head->total_bytes);
    return NULL;
  }
  front = bytes;
  if (!nc_store_read(file->dir, file->name, file->fd, front + front_bytes, ret_head->total_bytes - front_bytes,
                     (uint64_t)offset + front_bytes, error) ||
      !nc_record_rest_check(&file->header, offset, ret_head, front + front_bytes, error))
    return NULL;
  return g_steal_pointer(&front);
}

NcDecoded *
nc_pack_read_blocks(const NcPackFile *file, uint32_t offset, GError **error)
{
  NcRecordHead head;
  g_autofree uint8_t *record = nc_pack_read_record(file, offset, &head, error);

  if (!record)
    return NULL;
  if (head.kind != NC_RECORD_BLOCKS) {
    nc_fail(error, NC_ERROR_CORRUPT, "the record holds no blocks");
    return NULL;
  }
  return nc_decoded_new(&file->header, offset, &head, record, file->opener, error);
}

typedef struct {
  const NcPackFile *file;
  bool deep;
  NcPackItemFunc func;
  gpointer data;
} NcPackScanner;

static bool
nc_pack_scan_damage(const NcPackScanner *s, uint32_t offset, uint32_t length, const char *why)
{
  NcPackItem item = { .offset = offset, .length = length, .damage = why };
  return s->func(&item, s->data);
}

/*
 * Looks at the record at ${offset}: *ret_total is its length, 0 if its front is damaged. A
 * good SEAL is not given to func. *ret_good: it can be relied on.
 */
static bool
nc_pack_scan_one(const NcPackScanner *s, uint32_t offset, uint32_t *ret_total, bool *ret_good, NcRecordKind *ret_kind,
                 char **ret_why)
{
  g_autoptr(GError) error = NULL;
  NcPackItem item = { .offset = offset };
  g_autofree uint8_t *front = nc_pack_read_front(s->file, offset, &item.head, &error);

  *ret_total = 0;
  *ret_good = false;
  if (!front) {
    *ret_why = g_strdup(error->message);
    return true;
  }
  if (s->deep) {
    NcRecordHead again;
    g_free(nc_pack_read_record(s->file, offset, &again, &error));
  }
  *ret_total = item.length = item.head.total_bytes;
  *ret_good = error == NULL;
  *ret_kind = item.head.kind;
  item.front = front;
  item.damage = error ? error->message : NULL;
  return (*ret_good && item.head.kind == NC_RECORD_SEAL) || s->func(&item, s->data);
}

/* The first place from ${from} on where a record begins; the pack's length if there is none. */
static uint32_t
nc_pack_resync(const NcPackFile *file, uint32_t from)
{
  g_autofree uint8_t *chunk = g_malloc(NC_RESYNC_BYTES);
  uint32_t length = (uint32_t)file->length;

  while (from < length && length - from >= NC_RECORD_HEAD_BYTES) {
    uint32_t n = MIN(length - from, NC_RESYNC_BYTES) / NC_RECORD_ALIGN * NC_RECORD_ALIGN;
    if (!nc_store_read(file->dir, file->name, file->fd, chunk, n, from, NULL))
      memset(chunk, 0, n); /* a bad sector: on behind it */
    for (uint32_t at = 0; at < n; at += NC_RECORD_ALIGN) {
      NcRecordHead head;
      if (memcmp(chunk + at, "NCR1", 4) != 0)
        continue;
      g_autofree uint8_t *front = nc_pack_read_front(file, from + at, &head, NULL);
      if (front)
        return from + at;
    }
    from += n;
  }
  return length;
}

/* The offsets of all records, by the SEAL record; NULL if the pack has none that is whole. */
static GArray *
nc_pack_scan_seal(const NcPackFile *file, NcPackScan *ret)
{
  uint8_t tail[NC_PACK_TAIL_BYTES];
  NcRecordHead head;

  if (file->length < NC_PACK_HEADER_BYTES + sizeof tail ||
      !nc_store_read(file->dir, file->name, file->fd, tail, sizeof tail, file->length - sizeof tail, NULL) ||
      !nc_pack_tail_decode(tail, file->length, &ret->tail))
    return NULL;
  g_autofree uint8_t *record = nc_pack_read_record(file, ret->tail.seal_offset, &head, NULL);
  if (!record || head.kind != NC_RECORD_SEAL || ret->tail.seal_offset + (uint64_t)head.total_bytes != file->length)
    return NULL;
  return nc_pack_seal_offsets(&ret->tail, record + NC_RECORD_HEAD_BYTES, head.payload_bytes);
}

/* Between known borders, damage to one record hides no other. */
static bool
nc_pack_scan_sealed(const NcPackScanner *s, const GArray *offsets, uint32_t end)
{
  uint32_t expected = NC_PACK_HEADER_BYTES;

  for (guint i = 0; i < offsets->len; i++) {
    uint32_t offset = g_array_index(offsets, uint32_t, i), total;
    uint32_t border = i + 1 < offsets->len ? g_array_index(offsets, uint32_t, i + 1) : end;
    bool good;
    NcRecordKind kind;
    g_autofree char *why = NULL;
    if (offset != expected && !nc_pack_scan_damage(s, expected, offset - expected, "no record begins here"))
      return false;
    if (!nc_pack_scan_one(s, offset, &total, &good, &kind, &why))
      return false;
    if (total == 0 && !nc_pack_scan_damage(s, offset, border - offset, why))
      return false;
    expected = total == 0 || total > border - offset ? border : offset + total;
  }
  return expected == end || nc_pack_scan_damage(s, expected, end - expected, "no record begins here");
}

static bool
nc_pack_scan_unsealed(const NcPackScanner *s, NcPackScan *ret)
{
  uint32_t offset = NC_PACK_HEADER_BYTES, length = (uint32_t)s->file->length;

  ret->end = offset;
  while (offset < length) {
    uint32_t total;
    bool good;
    NcRecordKind kind;
    g_autofree char *why = NULL;
    if (!nc_pack_scan_one(s, offset, &total, &good, &kind, &why))
      return false;
    if (total == 0) {
      uint32_t next = length - offset > NC_RECORD_HEAD_BYTES ? nc_pack_resync(s->file, offset + NC_RECORD_HEAD_BYTES) : length;
      if (!nc_pack_scan_damage(s, offset, next - offset, why))
        return false;
      offset = next;
      continue;
    }
    offset += total;
    if (good && kind != NC_RECORD_SEAL)
      ret->end = offset;
  }
  return true;
}

bool
nc_pack_scan(const NcPackFile *file, bool deep, NcPackItemFunc func, gpointer data, NcPackScan *ret)
{
  NcPackScanner s = { .file = file, .deep = deep, .func = func, .data = data };

  *ret = (NcPackScan){ 0 };
  g_autoptr(GArray) offsets = nc_pack_scan_seal(file, ret);
  if (!offsets)
    return nc_pack_scan_unsealed(&s, ret);
  ret->sealed = true;
  ret->end = ret->tail.seal_offset;
  return nc_pack_scan_sealed(&s, offsets, ret->end);
}
