/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a run: pages in order, the first one last, then made durable and visible. */
#include "store/page_store_run.h"
#include "store/page_store_run_page.h"

#include <stdio.h>
#include <string.h>

#define NC_RUN_BUFFER_PAGES 64u

struct NcRunWriter {
  const NcStoreDir *dir; /* borrowed */
  char name[NC_RUN_NAME_BYTES];
  char temporary[NC_RUN_NAME_BYTES + 8];
  int fd;
  uint32_t id, replaces;
  uint8_t store_id[NC_STORE_ID_BYTES];
  uint64_t salt;
  uint64_t entries;
  uint32_t last_pack; /* highest id mentioned */
  uint32_t entry_pages;
  uint32_t page;     /* number of the one being filled */
  unsigned count;    /* of its entries */
  uint8_t *buffer;   /* NC_RUN_BUFFER_PAGES; the last of `buffered` is being filled */
  unsigned buffered; /* whole pages in the buffer */
};

NcRunWriter *
nc_run_writer_new(const NcStoreDir *dir, uint32_t id, uint32_t replaces, const uint8_t store_id[NC_STORE_ID_BYTES],
                  GError **error)
{
  g_autoptr(NcRunWriter) writer = g_new0(NcRunWriter, 1);

  writer->dir = dir;
  writer->id = id;
  writer->replaces = replaces;
  writer->page = 1;
  memcpy(writer->store_id, store_id, NC_STORE_ID_BYTES);
  nc_random_bytes(&writer->salt, sizeof writer->salt);
  writer->buffer = g_malloc0((gsize)NC_RUN_BUFFER_PAGES * NC_RUN_PAGE_BYTES);
  nc_run_name(id, writer->name);
  snprintf(writer->temporary, sizeof writer->temporary, "%s.new", writer->name);
  writer->fd = -1;
  if (!nc_store_unlink(dir, writer->temporary, error))
    return NULL;
  writer->fd = nc_store_create(dir, writer->temporary, error);
  return writer->fd < 0 ? NULL : g_steal_pointer(&writer);
}

static uint8_t *
nc_run_writer_page(NcRunWriter *writer)
{
  return writer->buffer + (gsize)writer->buffered * NC_RUN_PAGE_BYTES;
}

static bool
nc_run_writer_write_buffer(NcRunWriter *writer, GError **error)
{
  uint64_t offset = (uint64_t)(writer->page - writer->buffered) * NC_RUN_PAGE_BYTES;
  size_t length = (size_t)writer->buffered * NC_RUN_PAGE_BYTES;

  if (length > 0 && !nc_store_write(writer->dir, writer->temporary, writer->fd, writer->buffer, length, offset, error))
    return false;
  memset(writer->buffer, 0, (size_t)NC_RUN_BUFFER_PAGES * NC_RUN_PAGE_BYTES);
  writer->buffered = 0;
  return true;
}

/* Ends the page being filled. */
static bool
nc_run_writer_end_page(NcRunWriter *writer, unsigned kind, GError **error)
{
  uint8_t *page = nc_run_writer_page(writer);

  if (writer->count == 0)
    return true;
  nc_store_be16(page, (uint16_t)kind);
  nc_store_be16(page + 2, (uint16_t)writer->count);
  nc_store_be32(page + 4, writer->page);
  nc_store_be64(page + NC_RUN_PAGE_BYTES - 8, nc_run_page_sum(page, writer->salt + writer->page));
  writer->count = 0;
  writer->page++;
  writer->buffered++;
  return writer->buffered < NC_RUN_BUFFER_PAGES || nc_run_writer_write_buffer(writer, error);
}

bool
nc_run_writer_add(NcRunWriter *writer, const NcLocation *location, GError **error)
{
  uint8_t *p = nc_run_writer_page(writer) + 8 + writer->count * NC_RUN_ENTRY_BYTES;

  memcpy(p, location->address, NC_ADDRESS_BYTES);
  nc_store_be32(p + 32, location->pack);
  nc_store_be32(p + 36, location->offset);
  nc_store_be16(p + 40, location->slot);
  nc_store_be16(p + 42, location->length_less_1);
  writer->last_pack = MAX(writer->last_pack, location->pack);
  writer->entries++;
  writer->count++;
  return writer->count < NC_RUN_ENTRIES || nc_run_writer_end_page(writer, NC_RUN_KIND_ENTRIES, error);
}

static bool
nc_run_writer_add_packs(NcRunWriter *writer, const GArray *packs, GError **error)
{
  for (guint i = 0; i < packs->len; i++) {
    const NcRunPack *pack = &g_array_index(packs, NcRunPack, i);
    uint8_t *p = nc_run_writer_page(writer) + 8 + writer->count * NC_RUN_PACK_BYTES;
    writer->last_pack = MAX(writer->last_pack, pack->id);
    nc_store_be32(p, pack->id);
    nc_store_be32(p + 4, pack->length);
    nc_store_be32(p + 8, pack->blocks);
    nc_store_be64(p + 16, pack->block_bytes);
    if (++writer->count == NC_RUN_PACKS && !nc_run_writer_end_page(writer, NC_RUN_KIND_PACKS, error))
      return false;
  }
  return nc_run_writer_end_page(writer, NC_RUN_KIND_PACKS, error) && nc_run_writer_write_buffer(writer, error);
}

static bool
nc_run_writer_write_header(NcRunWriter *writer, uint32_t packs, GError **error)
{
  uint8_t page[NC_RUN_PAGE_BYTES] = { 0 };

  memcpy(page, NC_RUN_MAGIC, 8);
  nc_store_be16(page + 8, NC_STORE_VERSION);
  nc_store_be32(page + 12, writer->id);
  nc_store_be32(page + 16, writer->replaces);
  nc_store_be32(page + 20, writer->entry_pages);
  nc_store_be64(page + 24, writer->entries);
  nc_store_be32(page + 32, packs);
  nc_store_be32(page + 36, writer->last_pack);
  memcpy(page + 40, writer->store_id, NC_STORE_ID_BYTES);
  nc_store_be64(page + 56, writer->salt);
  nc_store_be64(page + NC_RUN_PAGE_BYTES - 8, nc_run_page_sum(page, writer->id));
  return nc_store_write(writer->dir, writer->temporary, writer->fd, page, sizeof page, 0, error);
}

NcRun *
nc_run_writer_finish(NcRunWriter *writer, const GArray *packs, GError **error)
{
  if (!nc_run_writer_end_page(writer, NC_RUN_KIND_ENTRIES, error))
    return NULL;
  writer->entry_pages = writer->page - 1;
  if (!nc_run_writer_add_packs(writer, packs, error) || !nc_run_writer_write_header(writer, packs->len, error) ||
      !nc_store_sync(writer->dir, writer->temporary, writer->fd, error) ||
      !nc_store_rename(writer->dir, writer->temporary, writer->name, true, error))
    return NULL;
  nc_fd_clear(&writer->fd);
  return nc_store_sync_dir(writer->dir, "index", error) ? nc_run_open(writer->dir, writer->id, writer->store_id, error) : NULL;
}

void
nc_run_writer_free(NcRunWriter *writer)
{
  if (!writer)
    return;
  if (writer->fd >= 0) {
    nc_fd_clear(&writer->fd);
    nc_store_unlink(writer->dir, writer->temporary, NULL);
  }
  g_free(writer->buffer);
  g_free(writer);
}
