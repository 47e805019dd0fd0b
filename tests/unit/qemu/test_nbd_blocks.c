/* SPDX-License-Identifier: Apache-2.0 */
/* The blocks in an NBD client's words are found wherever they are cut; what is no such client is left alone. */
#include "qemu/nbd_blocks.h"
#include "base/bytes.h"

#include <string.h>

#define PAGE NC_STREAM_PAGE_BYTES

/* A client's stream, and where its blocks are. */
typedef struct {
  GByteArray *bytes;
  GArray *blocks; /* of uint32_t */
} Client;

static Client
client_new(void)
{
  static const uint8_t options[] = "\0\0\0\3"
                                   "IHAVEOPT\0\0\0\x08\0\0\0\0"
                                   "IHAVEOPT\0\0\0\x07\0\0\0\x06"
                                   "abcdef";
  Client c = { g_byte_array_new(), g_array_new(FALSE, FALSE, sizeof(uint32_t)) };

  g_byte_array_append(c.bytes, options, sizeof options - 1);
  return c;
}

static void
client_free(Client *c)
{
  g_byte_array_unref(c->bytes);
  g_array_unref(c->blocks);
}

static void
request(Client *c, bool extended, uint16_t flags, uint16_t type, uint64_t offset, uint64_t length)
{
  nc_put_u32(c->bytes, extended ? 0x21e41c71 : 0x25609513);
  nc_put_u16(c->bytes, flags);
  nc_put_u16(c->bytes, type);
  nc_put_u64(c->bytes, 4711);
  nc_put_u64(c->bytes, offset);
  if (extended)
    nc_put_u64(c->bytes, length);
  else
    nc_put_u32(c->bytes, (uint32_t)length);
}

static void
payload(Client *c, uint64_t length)
{
  guint at = c->bytes->len;
  g_byte_array_set_size(c->bytes, at + (guint)length);
  for (guint i = at; i < c->bytes->len; i++)
    c->bytes->data[i] = (uint8_t)(i * 7);
}

static void
write_request(Client *c, bool extended, uint64_t offset, uint32_t length)
{
  request(c, extended, 0, 1, offset, length);
  uint32_t at = c->bytes->len, first = (uint32_t)((PAGE - offset % PAGE) % PAGE);
  payload(c, length);
  for (uint32_t in = first; in + PAGE <= length; in += PAGE) {
    uint32_t block = at + in;
    g_array_append_val(c->blocks, block);
  }
}

static Client
any_client(GRand *random)
{
  Client c = client_new();

  for (int i = 0; i < 60; i++) {
    bool extended = g_rand_int_range(random, 0, 4) == 0;
    uint64_t offset = (uint64_t)g_rand_int_range(random, 0, 1 << 20) * 512;
    switch (g_rand_int_range(random, 0, 6)) {
    case 0:
      request(&c, extended, 0, 6, offset, 1 << 20); /* zeros: no payload */
      break;
    case 1:
      request(&c, extended, 0, 3, 0, 0);
      break;
    case 2:
      request(&c, true, 1 << 5, 7, offset, 24); /* the status of some contexts */
      payload(&c, 24);
      break;
    default:
      write_request(&c, extended, offset, (uint32_t)g_rand_int_range(random, 0, 60) * 512);
    }
  }
  request(&c, false, 0, 2, 0, 0);
  return c;
}

/* In pieces of up to ${most} bytes, and batches of about ${cut}; each block that lies in one batch is found, and
 * nothing else. */
static void
check(const Client *c, GRand *random, uint32_t most, uint32_t cut)
{
  g_autoptr(NcNbdBlocks) parser = nc_nbd_blocks_new();
  g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord)),
                    cuts = g_array_new(FALSE, FALSE, sizeof(uint32_t));
  uint32_t base = 0, at = 0, total = c->bytes->len, expected = 0;

  while (at < total) {
    uint32_t some = (uint32_t)g_rand_int_range(random, 1, (gint32)most + 1), n = MIN(some, total - at);
    guint before = found->len;
    nc_nbd_blocks_scan(parser, c->bytes->data + base, at - base, at - base + n, found);
    for (guint i = before; i < found->len; i++)
      g_array_index(found, NcStreamRecord, i).start += base;
    at += n;
    if (at - base >= cut) {
      nc_nbd_blocks_cut(parser);
      base = at;
      g_array_append_val(cuts, base);
    }
  }
  g_assert_false(nc_nbd_blocks_is_opaque(parser));
  g_assert_cmpuint(nc_nbd_blocks_missing(parser), ==, 0);
  for (guint i = 0; i < c->blocks->len; i++) {
    uint32_t block = g_array_index(c->blocks, uint32_t, i);
    bool torn = false;
    for (guint k = 0; k < cuts->len; k++)
      torn = torn || (g_array_index(cuts, uint32_t, k) > block && g_array_index(cuts, uint32_t, k) < block + PAGE);
    if (torn)
      continue;
    const NcStreamRecord *rec = &g_array_index(found, NcStreamRecord, expected);
    g_assert_cmpuint(expected++, <, found->len);
    g_assert_cmpuint(rec->start, ==, block);
    g_assert_true(rec->kind == NC_RECORD_BLOCK && rec->length == PAGE && rec->header_bytes == 0);
  }
  g_assert_cmpuint(found->len, ==, expected);
}

static void
test_all_cuts(void)
{
  for (unsigned seed = 0; seed < 20; seed++) {
    g_autoptr(GRand) random = g_rand_new_with_seed(seed);
    Client c = any_client(random);
    g_assert_cmpuint(c.blocks->len, >, 20);
    check(&c, random, G_MAXINT32 - 1, UINT32_MAX);
    check(&c, random, 1, UINT32_MAX);
    check(&c, random, 5000, 9000);
    check(&c, random, 100, 1);
    client_free(&c);
  }
}

/* What is missing of a block is what a batch has to be longer, for it to be in one piece. */
static void
test_missing(void)
{
  Client c = client_new();
  g_autoptr(NcNbdBlocks) parser = nc_nbd_blocks_new();
  g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord));

  write_request(&c, false, 0, 2 * PAGE);
  uint32_t first = g_array_index(c.blocks, uint32_t, 0);
  nc_nbd_blocks_scan(parser, c.bytes->data, 0, first, found);
  g_assert_cmpuint(nc_nbd_blocks_missing(parser), ==, 0);
  nc_nbd_blocks_scan(parser, c.bytes->data, first, first + 1000, found);
  g_assert_cmpuint(nc_nbd_blocks_missing(parser), ==, PAGE - 1000);
  g_assert_cmpuint(nc_nbd_blocks_begun(parser), ==, 1000);
  nc_nbd_blocks_scan(parser, c.bytes->data, first + 1000, first + PAGE, found);
  g_assert_cmpuint(nc_nbd_blocks_missing(parser), ==, 0);
  g_assert_cmpuint(found->len, ==, 1);
  g_assert_cmpuint(nc_nbd_blocks_begun(parser), ==, 0);
  nc_nbd_blocks_scan(parser, c.bytes->data, first + PAGE, first + PAGE + 9,
                     found); /* what goes to the next batch is in one piece there, */
  nc_nbd_blocks_scan(parser, c.bytes->data + first + PAGE, 9, 20, found);
  g_assert_cmpuint(nc_nbd_blocks_begun(parser), ==, 20);
  nc_nbd_blocks_cut(parser); /* but not this one */
  g_assert_cmpuint(nc_nbd_blocks_begun(parser), ==, 0);
  nc_nbd_blocks_scan(parser, c.bytes->data + first + PAGE + 20, 0, PAGE - 20, found);
  g_assert_cmpuint(found->len, ==, 1);
  client_free(&c);
}

static void
test_others_are_left_alone(void)
{
  static const char *const strangers[] = { "GET / HTTP/1.1\r\n\r\n", "\xff\xff\xff\xff", "\0\0\0\3IHAVENOT",
                                           "\0\0\0\3\x25\x60\x95\x13\0\0\xff\xff" };
  static const size_t lengths[] = { 18, 4, 12, 12 };

  for (size_t i = 0; i < G_N_ELEMENTS(strangers); i++) {
    g_autoptr(NcNbdBlocks) parser = nc_nbd_blocks_new();
    g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(NcStreamRecord));
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_byte_array_append(bytes, (const guint8 *)strangers[i], (guint)lengths[i]);
    guint length = bytes->len;
    g_byte_array_set_size(bytes, 1 << 20);
    memset(bytes->data + length, 0, bytes->len - length);
    nc_nbd_blocks_scan(parser, bytes->data, 0, bytes->len, found);
    g_assert_cmpuint(found->len, ==, 0);
    g_assert_true(nc_nbd_blocks_is_opaque(parser));
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/nbd-blocks/all-cuts", test_all_cuts);
  g_test_add_func("/nbd-blocks/missing", test_missing);
  g_test_add_func("/nbd-blocks/others-are-left-alone", test_others_are_left_alone);
  return g_test_run();
}
