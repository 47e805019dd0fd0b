/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is inside the sections that can be parsed: RAM, dirty bitmaps, and the
 * early section of virtio-mem.
 */
#include "qemu/stream_state.h"

/* Flags of a RAM word, below the page offset; see NcStreamRecord.flags for the ones users see. */
enum {
  RAM_ZERO = 0x002,
  RAM_SETUP = 0x004,
  RAM_PAGE = 0x008,
  RAM_END = 0x010,
  RAM_CONTINUE = 0x020,
  RAM_XBZRLE = 0x040,
  RAM_COMPRESSED = 0x100,
  RAM_MULTIFD_FLUSH = 0x200,
  RAM_FLAGS = NC_STREAM_PAGE_BYTES - 1,
};

enum {
  XBZRLE_VERSION = 1,
  XBZRLE_MAX_BYTES = NC_STREAM_PAGE_BYTES,         /* a longer delta is sent as a page */
  COMPRESSED_MAX_BYTES = 2 * NC_STREAM_PAGE_BYTES, /* zlib's own bound is 4096 + 14 */
};

NcStep
nc_stream_step_ram_setup(NcStreamParser *p, NcStreamScan *s)
{
  uint64_t word;

  if (!nc_reader_u64(&s->in, &word))
    return NC_STEP_MORE;
  if ((word & RAM_FLAGS) != RAM_SETUP)
    return nc_stream_foreign(p, "RAM's section starts without the list of blocks");
  p->setup_left = word & ~(uint64_t)RAM_FLAGS;
  p->state = p->setup_left ? NC_STATE_RAM_BLOCK : NC_STATE_RAM_RECORD;
  return NC_STEP_DONE;
}

/*
 * The page size is listed only for blocks of huge pages. What else may come
 * here, the next block's name or the next record, has a non-zero first byte or
 * a flag in its low bits.
 */
static bool
read_page_size(NcReader *r, uint64_t *ret_page_size)
{
  NcReader probe = *r;
  uint64_t word;

  if (!nc_reader_u64(&probe, &word))
    return false;
  if (word == 0 || word >> 56 != 0 || (word & RAM_FLAGS) != 0)
    return true;
  *ret_page_size = word;
  *r = probe;
  return true;
}

static NcStep
check_block(NcStreamParser *p, const NcStreamName *name, const NcStreamBlock *block)
{
  g_autofree char *text = nc_stream_name_escape(name);

  if (!nc_stream_name_is_valid(name) || nc_stream_find_block(p, name) != NC_STREAM_NO_BLOCK)
    return nc_stream_foreign(p, "RAM block \"%s\" twice, or without a proper name", text);
  if (block->used_length == 0 || (block->used_length & RAM_FLAGS) != 0 || block->used_length > p->setup_left)
    return nc_stream_foreign(p, "RAM block \"%s\" of %" G_GUINT64_FORMAT " bytes of %" G_GUINT64_FORMAT " left", text,
                             block->used_length, p->setup_left);
  if ((block->page_size & (block->page_size - 1)) != 0)
    return nc_stream_foreign(p, "RAM block \"%s\" with pages of %" G_GUINT64_FORMAT " bytes", text, block->page_size);
  if (p->blocks->len == NC_STREAM_BLOCKS_MAX)
    return nc_stream_foreign(p, "more than %u RAM blocks", NC_STREAM_BLOCKS_MAX);
  return NC_STEP_DONE;
}

NcStep
nc_stream_step_ram_block(NcStreamParser *p, NcStreamScan *s)
{
  NcStreamName name;
  NcStreamBlock block = { .page_size = NC_STREAM_PAGE_BYTES };
  NcStep verdict;

  if (!nc_stream_read_name(&s->in, &name) || !nc_reader_u64(&s->in, &block.used_length))
    return NC_STEP_MORE;
  if (p->huge_pages && !read_page_size(&s->in, &block.page_size))
    return NC_STEP_MORE;
  if (p->ignore_shared && !nc_reader_u64(&s->in, &block.address))
    return NC_STEP_MORE;
  if ((verdict = check_block(p, &name, &block)) != NC_STEP_DONE)
    return verdict;
  nc_stream_add_block(p, &name, block);
  p->setup_left -= block.used_length;
  if (p->setup_left == 0)
    p->state = NC_STATE_RAM_RECORD;
  return NC_STEP_DONE;
}

/* One record of a page while it is read. */
typedef struct {
  const uint8_t *start;
  const uint8_t *body;
  NcStreamName name; /* length 0 with CONTINUE */
  uint32_t flags;
  uint32_t block; /* NC_STREAM_NO_BLOCK: named, and not seen before (preempt channel, orphan) */
  uint64_t page_offset;
} PageHeader;

static NcStep
find_page_block(NcStreamParser *p, NcReader *in, PageHeader *h)
{
  if (h->flags & RAM_CONTINUE) {
    h->block = p->last_block;
    return h->block != NC_STREAM_NO_BLOCK ? NC_STEP_DONE : nc_stream_foreign(p, "a page without a block");
  }
  if (!nc_stream_read_name(in, &h->name))
    return NC_STEP_MORE;
  h->block = nc_stream_find_block(p, &h->name);
  if (h->block != NC_STREAM_NO_BLOCK)
    return NC_STEP_DONE;
  if ((p->preempt || p->orphan) && nc_stream_name_is_valid(&h->name) && p->blocks->len < NC_STREAM_BLOCKS_MAX)
    return NC_STEP_DONE;
  g_autofree char *text = nc_stream_name_escape(&h->name);
  return nc_stream_foreign(p, "a page of the unknown RAM block \"%s\"", text);
}

static bool
page_is_inside(const NcStreamParser *p, const PageHeader *h)
{
  const NcStreamBlock *block;

  if (h->block == NC_STREAM_NO_BLOCK)
    return true;
  block = &g_array_index(p->blocks, NcStreamBlock, h->block);
  return block->used_length == 0 || h->page_offset < block->used_length; /* both are whole pages */
}

/* From here on the record is complete: it may leave traces. */
static void
settle_block(NcStreamParser *p, PageHeader *h)
{
  if (h->block == NC_STREAM_NO_BLOCK)
    h->block = nc_stream_add_block(p, &h->name, (NcStreamBlock){ .page_size = NC_STREAM_PAGE_BYTES });
  p->last_block = h->block;
}

static void
add_record(NcStreamScan *s, const PageHeader *h, NcRecordKind kind)
{
  NcStreamRecord record = {
    .start = (uint32_t)(h->start - s->data),
    .header_bytes = (uint16_t)(h->body - h->start),
    .kind = (uint8_t)kind,
    .flags = (uint8_t)h->flags,
    .length = (uint32_t)(s->in.at - h->start),
    .block = h->block,
    .page_offset = h->page_offset,
  };
  g_array_append_val(s->records, record);
}

static NcStep
body_page(NcStreamParser *p, NcStreamScan *s, PageHeader *h)
{
  if (!nc_reader_take(&s->in, NC_STREAM_PAGE_BYTES))
    return NC_STEP_MORE;
  settle_block(p, h);
  add_record(s, h, NC_RECORD_PAGE);
  p->totals.pages++;
  return NC_STEP_DONE;
}

/* No QEMU fills with another byte than 0; one that did would not be a zero page, nor understood here. */
static NcStep
body_zero(NcStreamParser *p, NcStreamScan *s, PageHeader *h)
{
  uint8_t fill;

  if (!nc_reader_u8(&s->in, &fill))
    return NC_STEP_MORE;
  if (fill != 0)
    return nc_stream_foreign(p, "a page filled with 0x%02x", fill);
  settle_block(p, h);
  add_record(s, h, NC_RECORD_ZERO);
  p->totals.zero_pages++;
  return NC_STEP_DONE;
}

static NcStep
body_xbzrle(NcStreamParser *p, NcStreamScan *s, PageHeader *h)
{
  uint8_t version;
  uint16_t length;

  if (!nc_reader_u8(&s->in, &version) || !nc_reader_u16(&s->in, &length))
    return NC_STEP_MORE;
  if (version != XBZRLE_VERSION || length > XBZRLE_MAX_BYTES)
    return nc_stream_foreign(p, "an XBZRLE page of version %u with %u bytes", version, length);
  settle_block(p, h);
  p->skip = length;
  p->totals.xbzrle_pages++;
  return NC_STEP_DONE;
}

static NcStep
body_compressed(NcStreamParser *p, NcStreamScan *s, PageHeader *h)
{
  uint32_t length;

  if (!nc_reader_u32(&s->in, &length))
    return NC_STEP_MORE;
  if (length > COMPRESSED_MAX_BYTES)
    return nc_stream_foreign(p, "a compressed page of %" G_GUINT32_FORMAT " bytes", length);
  settle_block(p, h);
  p->skip = length;
  p->totals.compressed_pages++;
  return NC_STEP_DONE;
}

static const struct {
  uint32_t flag;
  NcStep (*body)(NcStreamParser *p, NcStreamScan *s, PageHeader *h);
} bodies[] = {
  { RAM_PAGE, body_page },
  { RAM_ZERO, body_zero },
  { RAM_XBZRLE, body_xbzrle },
  { RAM_COMPRESSED, body_compressed },
};

static NcStep
page_record(NcStreamParser *p, NcStreamScan *s, PageHeader *h)
{
  size_t i = 0;
  NcStep step;

  while (i < G_N_ELEMENTS(bodies) && (h->flags & ~RAM_CONTINUE) != bodies[i].flag)
    i++;
  if (i == G_N_ELEMENTS(bodies))
    return nc_stream_foreign(p, "a RAM record with flags 0x%03x", h->flags);
  if ((step = find_page_block(p, &s->in, h)) != NC_STEP_DONE)
    return step;
  if (!page_is_inside(p, h))
    return nc_stream_foreign(p, "a page at 0x%" G_GINT64_MODIFIER "x, outside its RAM block", h->page_offset);
  h->body = s->in.at;
  return bodies[i].body(p, s, h);
}

NcStep
nc_stream_step_ram_record(NcStreamParser *p, NcStreamScan *s)
{
  PageHeader h = { .start = s->in.at };
  uint64_t word;

  if (!nc_reader_u64(&s->in, &word))
    return NC_STEP_MORE;
  if (word == RAM_MULTIFD_FLUSH)
    return NC_STEP_DONE;
  if (word == RAM_END) {
    p->state = p->preempt ? NC_STATE_END : NC_STATE_FOOTER;
    return NC_STEP_DONE;
  }
  h.flags = (uint32_t)(word & RAM_FLAGS);
  h.page_offset = word & ~(uint64_t)RAM_FLAGS;
  return page_record(p, s, &h);
}

enum {
  CHUNK_LAST = 0x01,
  CHUNK_ZEROES = 0x02,
  CHUNK_BITMAP_NAME = 0x04,
  CHUNK_NODE_NAME = 0x08,
  CHUNK_START = 0x10,
  CHUNK_COMPLETE = 0x20,
  CHUNK_BITS = 0x40,
  CHUNK_MORE_FLAGS = 0x80,
  CHUNK_KINDS = CHUNK_START | CHUNK_COMPLETE | CHUNK_BITS,
  CHUNK_MAX_BYTES = 1 << 20, /* QEMU cuts bitmaps into buffers of a few KiB */
};

static NcStep
chunk_body(NcStreamParser *p, NcReader *in, uint8_t flags, uint64_t *ret_buffer_bytes)
{
  uint64_t buffer_bytes = 0;

  if ((flags & CHUNK_START) && !nc_reader_take(in, 4 + 1)) /* granularity, flags of the bitmap */
    return NC_STEP_MORE;
  if ((flags & CHUNK_BITS) && !nc_reader_take(in, 8 + 4)) /* first sector, number of sectors */
    return NC_STEP_MORE;
  if ((flags & CHUNK_BITS) && !(flags & CHUNK_ZEROES) && !nc_reader_u64(in, &buffer_bytes))
    return NC_STEP_MORE;
  if (buffer_bytes > CHUNK_MAX_BYTES)
    return nc_stream_foreign(p, "a piece of a dirty bitmap of %" G_GUINT64_FORMAT " bytes", buffer_bytes);
  *ret_buffer_bytes = buffer_bytes;
  return NC_STEP_DONE;
}

NcStep
nc_stream_step_bitmap_chunk(NcStreamParser *p, NcStreamScan *s)
{
  uint8_t flags;
  uint8_t kind;
  NcStreamName name;
  uint64_t buffer_bytes = 0;
  NcStep step;

  if (!nc_reader_u8(&s->in, &flags))
    return NC_STEP_MORE;
  kind = flags & CHUNK_KINDS;
  if ((flags & CHUNK_MORE_FLAGS) || (kind & (kind - 1)) != 0)
    return nc_stream_foreign(p, "a piece of a dirty bitmap with flags 0x%02x", flags);
  if ((flags & CHUNK_NODE_NAME) && !nc_stream_read_name(&s->in, &name))
    return NC_STEP_MORE;
  if ((flags & CHUNK_BITMAP_NAME) && !nc_stream_read_name(&s->in, &name))
    return NC_STEP_MORE;
  if ((step = chunk_body(p, &s->in, flags, &buffer_bytes)) != NC_STEP_DONE)
    return step;
  p->skip = buffer_bytes;
  if (flags & CHUNK_LAST)
    p->state = NC_STATE_FOOTER;
  return NC_STEP_DONE;
}

/* 1 MiB of bitmap stands for 2^23 blocks: 16 TiB with virtio-mem's usual 2 MiB. */
enum { VIRTIO_MEM_BITMAP_MAX_BYTES = 1 << 20 };

NcStep
nc_stream_step_virtio_mem(NcStreamParser *p, NcStreamScan *s)
{
  uint64_t address, region_size, block_size, plugged_size, blocks;
  uint32_t numa_node;

  if (!nc_reader_u64(&s->in, &address) || !nc_reader_u64(&s->in, &region_size) ||
      !nc_reader_u64(&s->in, &block_size) || !nc_reader_u32(&s->in, &numa_node) ||
      !nc_reader_u64(&s->in, &plugged_size))
    return NC_STEP_MORE;
  blocks = block_size ? region_size / block_size : UINT64_MAX;
  if (blocks > VIRTIO_MEM_BITMAP_MAX_BYTES * 8)
    return nc_stream_foreign(p, "virtio-mem of %" G_GUINT64_FORMAT " bytes in blocks of %" G_GUINT64_FORMAT,
                             region_size, block_size);
  p->skip = (blocks + 63) / 64 * 8;
  p->state = NC_STATE_FOOTER;
  return NC_STEP_DONE;
}
