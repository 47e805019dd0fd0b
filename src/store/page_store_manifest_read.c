/* SPDX-License-Identifier: Apache-2.0 */
/* Reading manifests, section by section. */
#include "store/page_store_manifest.h"
#include "base/log.h"

#include <string.h>

struct NcManifestReader {
  NcPageStore *store;     /* borrowed */
  NcManifestLease *lease; /* NULL: none was taken */
  char *file;             /* the name under which it was opened */
  int fd;
  uint64_t length;
  NcManifestFileHeader header;
  NcOpener *opener;
  NcSectionEnd end;
  uint32_t end_number;
  NcManifestInfo info;
  GByteArray *blob;       /* the owner's header */
  NcSharedPartFunc on_part; /* NULL: nobody wants to know */
  gpointer on_part_data;
  /* where it is */
  uint64_t offset;        /* of the section to come */
  uint32_t number;        /* of that */
  GByteArray *section;    /* entries; NULL: none yet */
  NcReader entries;       /* what is left of them */
  unsigned left;          /* entries in it */
  uint64_t seen;          /* entries so far */
};

/* Says which file and where. Returns false. */
static bool
nc_manifest_damaged(const NcManifestReader *r, uint64_t offset, GError *why, GError **error)
{
  g_autoptr(GError) taken = why;

  return nc_fail(error, taken->code, "page store %s: %s, at %llu: %s", r->store->dir.path, r->file, (unsigned long long)offset,
                 taken->message);
}

/* The payload of section ${number} at ${offset}; *ret_after is where the next begins. */
static GByteArray *
nc_manifest_read_section(NcManifestReader *r, uint64_t offset, NcSectionHead *ret_head, uint64_t *ret_after, GError **error)
{
  uint8_t head[NC_SECTION_HEAD_BYTES];

  if (r->length < offset || r->length - offset < sizeof head) {
    nc_fail(error, NC_ERROR_CORRUPT, "the file is cut short");
    return NULL;
  }
  if (!nc_store_read(&r->store->dir, r->file, r->fd, head, sizeof head, offset, error) ||
      !nc_section_head_decode(head, r->length - offset, ret_head, error))
    return NULL;
  uint32_t total = NC_SECTION_HEAD_BYTES + ret_head->payload_bytes;
  g_autofree uint8_t *section = g_malloc(total);
  memcpy(section, head, sizeof head);
  if (!nc_store_read(&r->store->dir, r->file, r->fd, section + sizeof head, total - sizeof head, offset + sizeof head, error) ||
      !nc_section_check(&r->header, ret_head, section, error))
    return NULL;
  *ret_after = offset + total;
  return nc_section_open(ret_head, section, r->opener, error);
}

static bool
nc_manifest_read_file_header(NcManifestReader *r, GError **error)
{
  uint8_t bytes[NC_MANIFEST_FILE_HEADER_BYTES];

  if (!nc_store_read(&r->store->dir, r->file, r->fd, bytes, sizeof bytes, 0, error) ||
      !nc_manifest_file_header_decode(bytes, &r->header, error))
    return false;
  if (memcmp(r->header.store_id, r->store->store_id, NC_STORE_ID_BYTES) != 0 || r->header.encrypted != (r->store->key != NULL))
    return nc_fail(error, NC_ERROR_CORRUPT, "it belongs to another store");
  r->opener = r->store->key ? nc_opener_new(r->store->key, r->header.salt) : NULL;
  return true;
}

static bool
nc_manifest_read_end(NcManifestReader *r, GError **error)
{
  uint64_t size = NC_SECTION_HEAD_BYTES + NC_SECTION_END_BYTES + (r->opener ? NC_SEAL_TAG_BYTES : 0), after;
  NcSectionHead head;

  if (r->length < NC_MANIFEST_FILE_HEADER_BYTES + size)
    return nc_fail(error, NC_ERROR_CORRUPT, "the file is cut short");
  g_autoptr(GByteArray) payload = nc_manifest_read_section(r, r->length - size, &head, &after, error);
  if (!payload)
    return false;
  if (head.kind != NC_SECTION_END_KIND || after != r->length)
    return nc_fail(error, NC_ERROR_CORRUPT, "its last section is not its end");
  r->end_number = head.number;
  return nc_section_end_decode(payload, r->length - size, head.number, &r->end, error);
}

/* The owner's header: all sections from the first HEADER up to END. */
static bool
nc_manifest_read_blob(NcManifestReader *r, GError **error)
{
  uint64_t offset = r->end.header_offset;

  r->blob = g_byte_array_new();
  for (uint32_t number = (uint32_t)r->end.header_number; number < r->end_number; number++) {
    NcSectionHead head;
    g_autoptr(GByteArray) piece = nc_manifest_read_section(r, offset, &head, &offset, error);
    if (!piece)
      return false;
    if (head.kind != NC_SECTION_HEADER_KIND || head.number != number || piece->len > r->end.header_bytes - r->blob->len)
      return nc_fail(error, NC_ERROR_CORRUPT, "a section of the owner's header is missing");
    g_byte_array_append(r->blob, piece->data, piece->len);
  }
  uint64_t end_bytes = NC_SECTION_HEAD_BYTES + NC_SECTION_END_BYTES + (r->opener ? NC_SEAL_TAG_BYTES : 0);
  if (r->blob->len != r->end.header_bytes || offset != r->length - end_bytes)
    return nc_fail(error, NC_ERROR_CORRUPT, "the owner's header has %u bytes, not %llu", r->blob->len,
                   (unsigned long long)r->end.header_bytes);
  return true;
}

static void
nc_manifest_fill_info(NcManifestReader *r)
{
  g_autofree char *name = nc_manifest_name_of(r->file + strlen(NC_MANIFEST_DIRECTORY "/"));

  g_strlcpy(r->info.name, name ? name : "", sizeof r->info.name);
  r->info.created_us = r->header.created_us;
  r->info.entries = r->end.entries;
  r->info.blocks = r->end.blocks;
  r->info.block_bytes = r->end.block_bytes;
  r->info.header_bytes = r->end.header_bytes;
  r->info.file_bytes = r->length;
}

static NcManifestReader *
nc_manifest_reader_take(NcPageStore *store, const char *file, int fd, NcManifestLease *lease, GError **error)
{
  g_autoptr(NcManifestReader) r = g_new0(NcManifestReader, 1);
  g_autoptr(GError) why = NULL;

  r->store = store;
  r->file = g_strdup(file);
  r->fd = fd;
  r->lease = lease;
  if (!nc_store_length(&store->dir, file, fd, &r->length, error))
    return NULL;
  if (!nc_manifest_read_file_header(r, &why) || !nc_manifest_read_end(r, &why) || !nc_manifest_read_blob(r, &why)) {
    nc_manifest_damaged(r, 0, g_steal_pointer(&why), error);
    return NULL;
  }
  nc_manifest_fill_info(r);
  nc_manifest_rewind(r);
  return g_steal_pointer(&r);
}

NcManifestReader *
nc_manifest_open_file(NcPageStore *store, const char *file, GError **error)
{
  int fd = nc_store_open(&store->dir, file, false, error);
  return fd < 0 ? NULL : nc_manifest_reader_take(store, file, fd, NULL, error);
}

/* Under naming. */
static NcManifestLease *
nc_manifest_lease_locked(NcPageStore *store, const char *file)
{
  NcManifestLease *lease = g_hash_table_lookup(store->leases, file);

  if (!lease) {
    lease = g_new0(NcManifestLease, 1);
    lease->file = g_strdup(file);
    g_hash_table_insert(store->leases, lease->file, lease);
  }
  lease->readers++;
  return lease;
}

NcManifestReader *
nc_manifest_open(NcPageStore *store, const char *name, GError **error)
{
  NcManifestLease *lease = NULL;
  g_autoptr(GError) why = NULL;

  if (!nc_manifest_check_name(store, name, error))
    return NULL;
  g_autofree char *file = nc_manifest_file(name);
  pthread_mutex_lock(&store->naming);
  int fd = nc_store_open(&store->dir, file, false, &why);
  if (fd >= 0)
    lease = nc_manifest_lease_locked(store, file);
  pthread_mutex_unlock(&store->naming);
  if (fd >= 0)
    return nc_manifest_reader_take(store, file, fd, lease, error);
  if (why->code == NC_ERROR_NOT_FOUND)
    nc_fail(error, NC_ERROR_NOT_FOUND, "page store %s: no manifest %s", store->dir.path, name);
  else
    g_propagate_error(error, g_steal_pointer(&why));
  return NULL;
}

/* The last reader of a deleted manifest takes its file away. */
static void
nc_manifest_release(NcPageStore *store, NcManifestLease *lease, uint64_t length)
{
  g_autoptr(GError) error = NULL;
  nc_hold(&store->naming);

  if (--lease->readers > 0)
    return;
  g_hash_table_remove(store->leases, lease->file);
  if (lease->deleted && !nc_store_unlink(&store->dir, lease->file, &error))
    nc_log(NC_LOG_WARNING, "store", "%s (goes with the next opening)", error->message);
  else if (lease->deleted)
    nc_store_count(store, -(int64_t)length);
  g_free(lease->file);
  g_free(lease);
}

void
nc_manifest_reader_free(NcManifestReader *r)
{
  if (!r)
    return;
  nc_fd_clear(&r->fd);
  if (r->lease)
    nc_manifest_release(r->store, r->lease, r->length);
  nc_opener_free(r->opener);
  g_clear_pointer(&r->blob, g_byte_array_unref);
  g_clear_pointer(&r->section, g_byte_array_unref);
  g_free(r->file);
  g_free(r);
}

const NcManifestInfo *
nc_manifest_info(const NcManifestReader *reader)
{
  return &reader->info;
}

const void *
nc_manifest_header(const NcManifestReader *reader, size_t *ret_length)
{
  *ret_length = reader->blob->len;
  return reader->blob->data;
}

uint64_t
nc_manifest_reader_offset(const NcManifestReader *reader)
{
  return reader->offset;
}

void
nc_manifest_reader_on_part(NcManifestReader *reader, NcSharedPartFunc func, gpointer data)
{
  reader->on_part = func;
  reader->on_part_data = data;
}

const char *
nc_manifest_reader_file(const NcManifestReader *reader)
{
  return reader->file;
}

void
nc_manifest_rewind(NcManifestReader *r)
{
  r->offset = NC_MANIFEST_FILE_HEADER_BYTES;
  r->number = 0;
  r->left = 0;
  r->seen = 0;
}

static bool
nc_manifest_load_entries(NcManifestReader *r, GError **error)
{
  NcSectionHead head;
  uint64_t after;

  g_clear_pointer(&r->section, g_byte_array_unref);
  g_autoptr(GByteArray) payload = nc_manifest_read_section(r, r->offset, &head, &after, error);
  if (!payload)
    return false;
  bool shared = head.kind == NC_SECTION_SHARED_KIND;
  if ((!shared && head.kind != NC_SECTION_ENTRIES_KIND) || head.number != r->number || after > r->end.header_offset)
    return nc_fail(error, NC_ERROR_CORRUPT, "section %u is missing", r->number);
  r->section = shared ? nc_shared_load(r->store, payload, r->on_part, r->on_part_data, error) : g_steal_pointer(&payload);
  if (!r->section)
    return false;
  r->entries = nc_reader(r->section->data, r->section->len);
  r->left = head.count;
  r->offset = after;
  r->number++;
  return true;
}

NcManifestOutcome
nc_manifest_next(NcManifestReader *r, NcManifestEntry *ret_entry, GError **error)
{
  g_autoptr(GError) why = NULL;

  if (r->left == 0 && r->offset == r->end.header_offset && r->number == r->end.header_number) {
    if (r->seen == r->end.entries)
      return NC_MANIFEST_END;
    nc_fail(&why, NC_ERROR_CORRUPT, "entries are missing");
  } else if (r->left > 0 || nc_manifest_load_entries(r, &why)) {
    bool last = r->left == 1;
    if (nc_section_next_entry(&r->entries, ret_entry) && (!last || nc_reader_left(&r->entries) == 0)) {
      r->left--;
      r->seen++;
      return NC_MANIFEST_ENTRY;
    }
    nc_fail(&why, NC_ERROR_CORRUPT, "an entry makes no sense");
  }
  nc_manifest_damaged(r, r->offset, g_steal_pointer(&why), error);
  return NC_MANIFEST_BAD;
}
