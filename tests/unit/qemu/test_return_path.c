/* SPDX-License-Identifier: Apache-2.0 */
/* The return path against byte tables: whole messages, refusals, and every way of cutting them. */
#include "base/bytes.h"
#include "qemu/return_path.h"

#define SHUT_0 "0001 0004 00000000"
#define PONG_1 "0002 0004 00000001"
#define REQUEST_NAMED "0003 000f 0000000001266000 00001000 02 6d30"
#define REQUEST "0004 000c 0000000001241000 00001000"
#define BITMAP "0005 0003 02 6d30 0000000000000008 ff00ff0000000000 0123456789abcdef"
#define RESUME_ACK "0006 0004 00000001"
#define SWITCHOVER_ACK "0007 0000"
#define ALL PONG_1 REQUEST_NAMED REQUEST BITMAP RESUME_ACK SWITCHOVER_ACK SHUT_0

static const struct {
  NcReturnType type;
  size_t length;
  uint32_t value;
  uint64_t page_offset;
  uint32_t page_bytes;
} all[] = {
  { NC_RETURN_PONG, 8, 1 },
  { NC_RETURN_REQ_PAGES_ID, 19, 0, 0x1266000, 4096 },
  { NC_RETURN_REQ_PAGES, 16, 0, 0x1241000, 4096 },
  { NC_RETURN_RECV_BITMAP, 31 },
  { NC_RETURN_RESUME_ACK, 8, 1 },
  { NC_RETURN_SWITCHOVER_ACK, 4 },
  { NC_RETURN_SHUT, 8, 0 },
};

static GByteArray *
bytes(const char *text)
{
  g_autoptr(GString) digits = g_string_new(text);
  GByteArray *out = g_byte_array_new();

  g_string_replace(digits, " ", "", 0);
  g_byte_array_set_size(out, (guint)digits->len / 2);
  g_assert_true(nc_hex_decode(digits->str, out->data, out->len));
  return out;
}

/* Takes messages while there are, comparing them with all[]; the running number comes back. */
static size_t
take(NcReturnPath *p, size_t next, GByteArray *out)
{
  NcReturnMessage m;
  g_autoptr(GError) error = NULL;
  NcReturnOutcome outcome;

  while ((outcome = nc_return_path_next(p, &m, &error)) == NC_RETURN_MESSAGE) {
    g_assert_cmpuint(next, <, G_N_ELEMENTS(all));
    g_assert_cmpint(m.type, ==, all[next].type);
    g_assert_cmpuint(m.length, ==, all[next].length);
    g_assert_cmpuint(m.value, ==, all[next].value);
    g_assert_cmpuint(m.page_offset, ==, all[next].page_offset);
    g_assert_cmpuint(m.page_bytes, ==, all[next].page_bytes);
    g_byte_array_append(out, m.data, (guint)m.length);
    next++;
  }
  g_assert_no_error(error);
  g_assert_cmpint(outcome, ==, NC_RETURN_MORE);
  return next;
}

static void
check_pieces(const GByteArray *stream, size_t first, size_t others)
{
  g_autoptr(NcReturnPath) p = nc_return_path_new();
  g_autoptr(GByteArray) out = g_byte_array_new();
  size_t found = 0;

  for (size_t fed = 0, n = first; fed < stream->len; fed += n, n = others) {
    n = MIN(n, stream->len - fed);
    nc_return_path_feed(p, stream->data + fed, n);
    found = take(p, found, out);
  }
  g_assert_cmpuint(found, ==, G_N_ELEMENTS(all));
  g_assert_cmpmem(out->data, out->len, stream->data, stream->len);
}

static void
test_messages(void)
{
  g_autoptr(GByteArray) stream = bytes(ALL);

  check_pieces(stream, stream->len, 1);
  check_pieces(stream, 1, 1);
  for (size_t split = 1; split < stream->len; split++)
    check_pieces(stream, split, stream->len);
}

static void
test_shut_status(void)
{
  g_autoptr(NcReturnPath) p = nc_return_path_new();
  g_autoptr(GByteArray) stream = bytes("0001 0004 80000001");
  NcReturnMessage m;

  nc_return_path_feed(p, stream->data, stream->len);
  g_assert_cmpint(nc_return_path_next(p, &m, NULL), ==, NC_RETURN_MESSAGE);
  g_assert_cmpint(m.type, ==, NC_RETURN_SHUT);
  g_assert_cmpuint(m.value, ==, 0x80000001);
}

static const char *const refused[] = {
  "0000 0000",                                                       /* no type */
  "0008 0000",                                                       /* a type after the last */
  "ffff",                                                            /* the length need not be there */
  "0001 0003",                                                       /* SHUT too short */
  "0001 0005",                                                       /* SHUT too long */
  "0002 0000",                                                       /* PONG without number */
  "0003 000d",                                                       /* request without a block's name */
  "0003 010d",                                                       /* a name longer than 255 */
  "0003 000f 0000000001266000 00001000 01 6d30",                     /* a name shorter than the message */
  "0003 000f 0000000001266000 00001000 03 6d30",                     /* a name longer than the message */
  "0003 000f 0000000001266000 00001000 00 6d30",                     /* an empty name */
  "0004 000d",                                                       /* request too long */
  "0004 ffff",                                                       /* and much too long */
  "0005 0001",                                                       /* bitmap of an unnamed block */
  "0005 0003 01 6d30",                                               /* bitmap with a wrong name */
  "0005 0003 02 6d30 0000000000000004",                              /* not whole words */
  "0005 0003 02 6d30 0000000004000008",                              /* larger than NC_RETURN_BITMAP_MAX */
  "0005 0003 02 6d30 fffffffffffffff8",                              /* larger than anything */
  "0005 0003 02 6d30 0000000000000008 ff00ff0000000000 0123456789abcdee", /* wrong end mark */
  "0006 0002",
  "0007 0001",
};

/* Refused again and again, the good message before it unharmed; blind, every byte still comes out. */
static void
test_refused(void)
{
  for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
    g_autofree char *text = g_strconcat(PONG_1, refused[i], NULL);
    g_autoptr(GByteArray) stream = bytes(text);
    g_autoptr(NcReturnPath) p = nc_return_path_new();
    NcReturnMessage m;

    g_test_message("%s", refused[i]);
    nc_return_path_feed(p, stream->data, stream->len);
    g_assert_cmpint(nc_return_path_next(p, &m, NULL), ==, NC_RETURN_MESSAGE);
    for (int again = 0; again < 2; again++) {
      g_autoptr(GError) error = NULL;
      g_assert_cmpint(nc_return_path_next(p, &m, &error), ==, NC_RETURN_BAD);
      g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
    }
    nc_return_path_go_blind(p);
    g_assert_cmpint(nc_return_path_next(p, &m, NULL), ==, NC_RETURN_MESSAGE);
    g_assert_cmpint(m.type, ==, NC_RETURN_BYTES);
    g_assert_cmpmem(m.data, m.length, stream->data + 8, stream->len - 8);
    g_assert_cmpint(nc_return_path_next(p, &m, NULL), ==, NC_RETURN_MORE);
  }
}

/* The largest bitmap is taken, and only when its last byte is there. */
static void
test_largest_bitmap(void)
{
  g_autoptr(NcReturnPath) p = nc_return_path_new();
  g_autoptr(GByteArray) head = bytes("0005 0003 02 6d30 0000000004000000");
  g_autoptr(GByteArray) mark = bytes("0123456789abcdef");
  g_autofree uint8_t *bits = g_malloc0(NC_RETURN_BITMAP_MAX);
  NcReturnMessage m;

  nc_return_path_feed(p, head->data, head->len);
  nc_return_path_feed(p, bits, NC_RETURN_BITMAP_MAX);
  nc_return_path_feed(p, mark->data, mark->len - 1);
  g_assert_cmpint(nc_return_path_next(p, &m, NULL), ==, NC_RETURN_MORE);
  nc_return_path_feed(p, mark->data + 7, 1);
  g_assert_cmpint(nc_return_path_next(p, &m, NULL), ==, NC_RETURN_MESSAGE);
  g_assert_cmpuint(m.length, ==, head->len + NC_RETURN_BITMAP_MAX + mark->len);
}

static void
test_blind(void)
{
  g_autoptr(NcReturnPath) p = nc_return_path_new();
  NcReturnMessage m;

  nc_return_path_go_blind(p);
  g_assert_cmpint(nc_return_path_next(p, &m, NULL), ==, NC_RETURN_MORE);
  nc_return_path_feed(p, "any", 3);
  nc_return_path_feed(p, "thing", 5);
  g_assert_cmpint(nc_return_path_next(p, &m, NULL), ==, NC_RETURN_MESSAGE);
  g_assert_cmpmem(m.data, m.length, "anything", 8);
  nc_return_path_feed(p, "else", 4);
  g_assert_cmpint(nc_return_path_next(p, &m, NULL), ==, NC_RETURN_MESSAGE);
  g_assert_cmpmem(m.data, m.length, "else", 4);
}

static void
test_names(void)
{
  g_assert_cmpstr(nc_return_type_name(NC_RETURN_SHUT), ==, "shut");
  g_assert_cmpstr(nc_return_type_name(NC_RETURN_SWITCHOVER_ACK), ==, "switchover-ack");
  g_assert_cmpstr(nc_return_type_name(NC_RETURN_TYPE_COUNT), ==, "unknown");
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/qemu/return_path/messages", test_messages);
  g_test_add_func("/qemu/return_path/shut_status", test_shut_status);
  g_test_add_func("/qemu/return_path/refused", test_refused);
  g_test_add_func("/qemu/return_path/largest_bitmap", test_largest_bitmap);
  g_test_add_func("/qemu/return_path/blind", test_blind);
  g_test_add_func("/qemu/return_path/names", test_names);
  return g_test_run();
}
