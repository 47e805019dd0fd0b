/* SPDX-License-Identifier: Apache-2.0 */
#include "qemu/nbd_blocks.h"
#include "base/bytes.h"

#define NC_NBD_BLOCK_BYTES NC_STREAM_PAGE_BYTES
/* The first four bytes of what follows the client's flags. */
#define NC_NBD_REQUEST_MAGIC 0x25609513u
#define NC_NBD_EXTENDED_MAGIC 0x21e41c71u /* QEMU 8.2 and later, if the server can */
#define NC_NBD_OPTION_MAGIC 0x49484156u   /* "IHAV" */
#define NC_NBD_OPTION_MAGIC_2 0x454f5054u /* "EOPT", behind it */
#define NC_NBD_FLAGS_BYTES 4u
#define NC_NBD_MAGIC_BYTES 4u
#define NC_NBD_OPTION_BYTES 16u
#define NC_NBD_REQUEST_BYTES 28u
#define NC_NBD_EXTENDED_BYTES 32u
#define NC_NBD_CLIENT_FLAGS 3u /* that exist */
#define NC_NBD_CMD_WRITE 1u
#define NC_NBD_CMD_LAST 7u
#define NC_NBD_FLAG_PAYLOAD (1u << 5) /* extended requests only: the length is that of a payload */

struct NcNbdBlocks {
  bool is_opaque, has_flags;
  uint8_t head[NC_NBD_EXTENDED_BYTES]; /* of a request or option */
  uint32_t have, want;                 /* bytes of it; want: as far as known */

  /* Then, what comes before the next head: */
  uint64_t skip;    /* bytes that are no block, */
  uint64_t payload; /* then bytes of a write, from a block's beginning on */
  uint32_t missing; /* of a block that is under way */
  bool is_torn;     /* it began in other data */
};

NcNbdBlocks *
nc_nbd_blocks_new(void)
{
  NcNbdBlocks *p = g_new0(NcNbdBlocks, 1);
  p->want = NC_NBD_FLAGS_BYTES;
  return p;
}

void
nc_nbd_blocks_free(NcNbdBlocks *p)
{
  g_free(p);
}

void
nc_nbd_blocks_cut(NcNbdBlocks *p)
{
  p->is_torn = p->missing > 0;
}

uint32_t
nc_nbd_blocks_missing(const NcNbdBlocks *p)
{
  return p->missing;
}

uint32_t
nc_nbd_blocks_begun(const NcNbdBlocks *p)
{
  return p->missing > 0 && !p->is_torn ? NC_NBD_BLOCK_BYTES - p->missing : 0;
}

bool
nc_nbd_blocks_is_opaque(const NcNbdBlocks *p)
{
  return p->is_opaque;
}

/* ${bytes} of a write to ${offset} of the disk are next. */
static void
nc_nbd_begin_write(NcNbdBlocks *p, uint64_t offset, uint64_t bytes)
{
  uint64_t lead = (NC_NBD_BLOCK_BYTES - offset % NC_NBD_BLOCK_BYTES) % NC_NBD_BLOCK_BYTES;

  p->skip = MIN(lead, bytes);
  p->payload = bytes - p->skip;
}

static void
nc_nbd_take_request(NcNbdBlocks *p, bool is_extended)
{
  uint16_t flags = nc_be16(p->head + 4), type = nc_be16(p->head + 6);
  uint64_t offset = nc_be64(p->head + 16);
  uint64_t length = is_extended ? nc_be64(p->head + 24) : nc_be32(p->head + 24);

  if (type > NC_NBD_CMD_LAST)
    p->is_opaque = true;
  else if (type == NC_NBD_CMD_WRITE)
    nc_nbd_begin_write(p, offset, length);
  else if (is_extended && (flags & NC_NBD_FLAG_PAYLOAD))
    p->skip = length;
}

/* How long is the head that begins with these four bytes? 0: not known. */
static uint32_t
nc_nbd_head_bytes(uint32_t magic)
{
  switch (magic) {
  case NC_NBD_REQUEST_MAGIC:
    return NC_NBD_REQUEST_BYTES;
  case NC_NBD_EXTENDED_MAGIC:
    return NC_NBD_EXTENDED_BYTES;
  case NC_NBD_OPTION_MAGIC:
    return NC_NBD_OPTION_BYTES;
  default:
    return 0;
  }
}

/* The head is as long as is wanted: more is wanted, or it is complete and says what follows. */
static void
nc_nbd_advance_head(NcNbdBlocks *p)
{
  uint32_t magic = nc_be32(p->head);

  if (!p->has_flags) {
    p->has_flags = true;
    p->is_opaque = magic & ~NC_NBD_CLIENT_FLAGS;
  } else if (p->have == NC_NBD_MAGIC_BYTES) {
    p->want = nc_nbd_head_bytes(magic);
    p->is_opaque = p->want == 0;
    return;
  } else if (magic == NC_NBD_OPTION_MAGIC) {
    p->is_opaque = nc_be32(p->head + 4) != NC_NBD_OPTION_MAGIC_2;
    p->skip = nc_be32(p->head + 12);
  } else {
    nc_nbd_take_request(p, magic == NC_NBD_EXTENDED_MAGIC);
  }
  p->have = 0;
  p->want = NC_NBD_MAGIC_BYTES;
}

static uint32_t
nc_nbd_eat_head(NcNbdBlocks *p, const uint8_t *data, uint32_t left)
{
  uint32_t n = MIN(p->want - p->have, left);

  memcpy(p->head + p->have, data, n);
  p->have += n;
  if (p->have == p->want)
    nc_nbd_advance_head(p);
  return n;
}

/* Of the block that is under way, or begins here; reported when it is complete. ${at}: in the data. */
static uint32_t
nc_nbd_eat_block(NcNbdBlocks *p, uint32_t at, uint32_t left, GArray *records)
{
  if (p->missing == 0) {
    p->missing = NC_NBD_BLOCK_BYTES;
    p->is_torn = false;
  }
  uint32_t n = MIN(p->missing, left);
  p->missing -= n;
  p->payload -= n;
  if (p->missing == 0 && !p->is_torn) {
    NcStreamRecord rec = { .start = at + n - NC_NBD_BLOCK_BYTES,
                           .kind = NC_RECORD_BLOCK,
                           .length = NC_NBD_BLOCK_BYTES };
    g_array_append_val(records, rec);
  }
  return n;
}

void
nc_nbd_blocks_scan(NcNbdBlocks *p, const uint8_t *data, uint32_t from, uint32_t to, GArray *records)
{
  while (from < to && !p->is_opaque) {
    uint32_t left = to - from;
    if (p->skip == 0 && p->missing == 0 && p->payload < NC_NBD_BLOCK_BYTES) { /* what is left of a write is no block */
      p->skip = p->payload;
      p->payload = 0;
    }
    if (p->skip > 0) {
      uint32_t n = (uint32_t)MIN(p->skip, left);
      p->skip -= n;
      from += n;
    } else if (p->payload > 0) {
      from += nc_nbd_eat_block(p, from, left, records);
    } else {
      from += nc_nbd_eat_head(p, data + from, left);
    }
  }
}
