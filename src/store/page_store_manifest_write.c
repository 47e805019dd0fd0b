/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing manifests: section after section to NAME.part, which becomes NAME.manifest when it is whole. Sections of entries become
 * blocks of the store (page_store_shared.h), unless they are short.
 */
#include "store/page_store_manifest.h"
#include "base/ident.h"
#include "base/log.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct NcManifestWriter {
  NcPageStoreWriter *writer; /* borrowed */
  NcPageStore *store;        /* borrowed */
  char *name, *part;
  int fd;
  NcManifestFileHeader header;
  NcSealer *sealer;
  NcSharedBase *base;        /* NULL: none */
  uint64_t length;           /* written so far */
  uint32_t sections;
  GByteArray *entries;       /* of the section to come */
  unsigned count;            /* of these */
  NcSectionEnd end;
  bool broken;               /* a write failed: can't be committed */
};

static bool
nc_manifest_append(NcManifestWriter *m, const void *data, size_t length, GError **error)
{
  if (!nc_store_within_budget(m->store, length, error))
    return false;
  if (!nc_store_write(&m->store->dir, m->part, m->fd, data, length, m->length, error))
    return false;
  m->length += length;
  nc_store_count(m->store, (int64_t)length);
  return true;
}

static bool
nc_manifest_check_usable(const NcManifestWriter *m, GError **error)
{
  return !m->broken ||
         nc_fail(error, NC_ERROR_IO, "page store %s: manifest %s could not be written before", m->store->dir.path, m->name);
}

static bool
nc_manifest_append_section(NcManifestWriter *m, NcSectionKind kind, uint32_t count, const GByteArray *payload, GError **error)
{
  g_autoptr(GByteArray) section = nc_section_encode(&m->header, kind, m->sections, count, payload, m->sealer);

  if (!nc_manifest_check_usable(m, error))
    return false;
  if (!nc_manifest_append(m, section->data, section->len, error)) {
    m->broken = true;
    return false;
  }
  m->sections++;
  return true;
}

static bool
nc_manifest_start(NcManifestWriter *m, GError **error)
{
  uint8_t header[NC_MANIFEST_FILE_HEADER_BYTES];

  m->header = (NcManifestFileHeader){ .encrypted = m->store->key != NULL, .created_us = nc_wall_us() };
  memcpy(m->header.store_id, m->store->store_id, NC_STORE_ID_BYTES);
  if (m->store->key)
    m->sealer = nc_sealer_new(m->store->key, m->header.salt);
  else
    nc_random_bytes(m->header.salt, NC_SEAL_SALT_BYTES);
  nc_manifest_file_header_encode(&m->header, header);
  return nc_manifest_append(m, header, sizeof header, error);
}

/* Creates NAME.part; two writers of one name are kept apart by that. */
static bool
nc_manifest_create(NcManifestWriter *m, GError **error)
{
  g_autofree char *file = nc_manifest_file(m->name);
  g_autoptr(GError) why = NULL;

  if (faccessat(m->store->dir.fd, file, F_OK, 0) == 0)
    return nc_fail(error, NC_ERROR_EXISTS, "page store %s: manifest %s is there already", m->store->dir.path, m->name);
  if (faccessat(m->store->dir.fd, m->part, F_OK, 0) == 0)
    return nc_fail(error, NC_ERROR_EXISTS, "page store %s: manifest %s is being written", m->store->dir.path, m->name);
  m->fd = nc_store_create(&m->store->dir, m->part, error);
  return m->fd >= 0;
}

NcManifestWriter *
nc_manifest_begin(NcPageStoreWriter *writer, const char *name, GError **error)
{
  NcPageStore *store = writer->store;

  if (!nc_store_writable(store, error) || !nc_manifest_check_name(store, name, error))
    return NULL;
  g_autoptr(NcManifestWriter) m = g_new0(NcManifestWriter, 1);
  m->writer = writer;
  m->store = store;
  m->fd = -1;
  m->name = g_strdup(name);
  m->part = g_strconcat(NC_MANIFEST_DIRECTORY "/", name, NC_MANIFEST_PART, NULL);
  m->entries = g_byte_array_new();
  return nc_manifest_create(m, error) && nc_manifest_start(m, error) ? g_steal_pointer(&m) : NULL;
}

bool
nc_manifest_set_base(NcManifestWriter *m, const char *base, GError **error)
{
  g_clear_pointer(&m->base, nc_shared_base_free);
  m->base = nc_shared_base_new(m->store, base, error);
  return m->base != NULL;
}

static bool
nc_manifest_append_entries(NcManifestWriter *m, GError **error)
{
  if (m->count < NC_SHARED_LEAST)
    return nc_manifest_append_section(m, NC_SECTION_ENTRIES_KIND, m->count, m->entries, error);
  if (!nc_manifest_check_usable(m, error))
    return false;
  g_autoptr(GByteArray) shared = nc_shared_store(m->writer, m->base, m->entries, error);
  m->broken = !shared;
  return shared && nc_manifest_append_section(m, NC_SECTION_SHARED_KIND, m->count, shared, error);
}

static bool
nc_manifest_flush_entries(NcManifestWriter *m, GError **error)
{
  if (m->count == 0)
    return true;
  bool ok = nc_manifest_append_entries(m, error);
  g_byte_array_set_size(m->entries, 0);
  m->count = 0;
  return ok;
}

static bool
nc_manifest_add_entry(NcManifestWriter *m, const NcManifestEntry *entry, GError **error)
{
  if (m->count == NC_SECTION_ENTRIES && !nc_manifest_flush_entries(m, error))
    return false;
  nc_section_put_entry(m->entries, entry);
  m->count++;
  m->end.entries++;
  return true;
}

/* The block is there, whole as far as we know, of that length, and the writer holds it from now on. */
static bool
nc_manifest_hold(NcManifestWriter *m, const uint8_t hash[NC_SHA256_BYTES], uint32_t length, GError **error)
{
  uint32_t there;

  if (!nc_page_store_hold(m->writer, hash, &there)) {
    g_autofree char *hex = nc_hex_encode(hash, NC_SHA256_BYTES);
    return nc_fail(error, NC_ERROR_NOT_FOUND, "page store %s: manifest %s wants block %s, which is not there or damaged",
                   m->store->dir.path, m->name, hex);
  }
  if (there != length)
    return nc_fail(error, NC_ERROR_INVALID, "page store %s: manifest %s wants a block of %u bytes, it has %u", m->store->dir.path,
                   m->name, length, there);
  return true;
}

bool
nc_manifest_add(NcManifestWriter *m, const uint8_t hash[NC_SHA256_BYTES], uint32_t length, GError **error)
{
  NcManifestEntry entry = { .length = length };

  memcpy(entry.hash, hash, sizeof entry.hash);
  if (!nc_manifest_hold(m, hash, length, error) || !nc_manifest_add_entry(m, &entry, error))
    return false;
  m->end.blocks++;
  m->end.block_bytes += length;
  return true;
}

bool
nc_manifest_add_hole(NcManifestWriter *m, uint32_t length, GError **error)
{
  const NcManifestEntry entry = { .length = length };
  return nc_manifest_add_entry(m, &entry, error);
}

static bool
nc_manifest_append_header(NcManifestWriter *m, const uint8_t *header, size_t header_bytes, GError **error)
{
  m->end.header_bytes = header_bytes;
  m->end.header_offset = m->length;
  m->end.header_number = m->sections;
  while (header_bytes > 0) {
    guint n = (guint)MIN(header_bytes, NC_SECTION_HEADER_BYTES);
    g_autoptr(GByteArray) piece = g_byte_array_new();
    g_byte_array_append(piece, header, n);
    if (!nc_manifest_append_section(m, NC_SECTION_HEADER_KIND, 0, piece, error))
      return false;
    header += n;
    header_bytes -= n;
  }
  return true;
}

static bool
nc_manifest_append_end(NcManifestWriter *m, GError **error)
{
  g_autoptr(GByteArray) end = g_byte_array_new();
  nc_section_end_encode(&m->end, end);
  return nc_manifest_append_section(m, NC_SECTION_END_KIND, 0, end, error);
}

/* Visible only when it and all it names is durable. */
static bool
nc_manifest_publish(NcManifestWriter *m, GError **error)
{
  NcPageStore *store = m->store;
  g_autofree char *file = nc_manifest_file(m->name);

  if (!nc_page_store_flush(store, error))
    return false;
  if (!nc_store_sync(&store->dir, m->part, m->fd, error))
    return nc_store_fail(store);
  if (!nc_store_rename(&store->dir, m->part, file, false, error))
    return false;
  if (!nc_store_sync_dir(&store->dir, NC_MANIFEST_DIRECTORY, error)) {
    nc_store_unlink(&store->dir, file, NULL);
    return nc_store_fail(store);
  }
  nc_fd_clear(&m->fd);
  return true;
}

bool
nc_manifest_settle(NcManifestWriter *m, uint64_t *ret_file_bytes, GError **error)
{
  if (!nc_manifest_flush_entries(m, error))
    return false;
  *ret_file_bytes = m->length;
  return true;
}

bool
nc_manifest_commit(NcManifestWriter *m, const void *header, size_t header_bytes, GError **error)
{
  if (m->fd < 0)
    return nc_fail(error, NC_ERROR_CONFLICT, "manifest %s was committed before", m->name);
  if (header_bytes > NC_MANIFEST_HEADER_MAX)
    return nc_fail(error, NC_ERROR_INVALID, "page store %s: manifest %s: a header of %zu bytes, at most %u go",
                   m->store->dir.path, m->name, header_bytes, NC_MANIFEST_HEADER_MAX);
  return nc_manifest_flush_entries(m, error) && nc_manifest_append_header(m, header, header_bytes, error) &&
         nc_manifest_append_end(m, error) && nc_manifest_publish(m, error);
}

void
nc_manifest_writer_free(NcManifestWriter *m)
{
  if (!m)
    return;
  if (m->fd >= 0) {
    g_autoptr(GError) error = NULL;
    nc_fd_clear(&m->fd);
    if (!nc_store_unlink(&m->store->dir, m->part, &error))
      nc_log(NC_LOG_WARNING, "store", "%s (goes with the next opening)", error->message);
    nc_store_count(m->store, -(int64_t)m->length);
  }
  nc_sealer_free(m->sealer);
  nc_shared_base_free(m->base);
  g_byte_array_unref(m->entries);
  g_free(m->name);
  g_free(m->part);
  g_free(m);
}
