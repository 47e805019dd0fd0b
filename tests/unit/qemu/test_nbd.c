/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD client against servers that say what they should not. What they say is fixed: the client asks in a fixed order. */
#include "base/bytes.h"
#include "base/io.h"
#include "qemu/nbd.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SIZE 65536u

typedef struct {
  int listener;
  const GByteArray *says;
} Server;

/* Says everything at once, then listens until the client goes. */
static gpointer
serve(gpointer data)
{
  Server *server = data;
  uint8_t heard[4096];
  int fd = accept(server->listener, NULL, NULL);

  nc_write_all(fd, server->says->data, server->says->len, NULL);
  shutdown(fd, SHUT_WR);
  while (read(fd, heard, sizeof heard) > 0)
    ;
  close(fd);
  return NULL;
}

static void
option_reply(GByteArray *s, uint32_t option, uint32_t type, const GByteArray *body)
{
  nc_put_u64(s, UINT64_C(0x0003e889045565a9));
  nc_put_u32(s, option);
  nc_put_u32(s, type);
  nc_put_u32(s, body ? body->len : 0);
  if (body)
    g_byte_array_append(s, body->data, body->len);
}

/* A proper handshake, with structured replies and extents, or without. */
static GByteArray *
handshake_of(bool structured, const char *name)
{
  GByteArray *s = g_byte_array_new();
  g_autoptr(GByteArray) info = g_byte_array_new(), context = g_byte_array_new();

  nc_put_u64(s, UINT64_C(0x4e42444d41474943));
  nc_put_u64(s, UINT64_C(0x49484156454f5054));
  nc_put_u16(s, 3);
  option_reply(s, 8, structured ? 1 : 0x80000001u, NULL);
  nc_put_u32(context, 77);
  g_byte_array_append(context, (const guint8 *)name, (guint)strlen(name));
  if (structured) {
    option_reply(s, 10, 4, context);
    option_reply(s, 10, 1, NULL);
  }
  nc_put_u16(info, 0);
  nc_put_u64(info, SIZE);
  nc_put_u16(info, 1);
  option_reply(s, 7, 3, info);
  option_reply(s, 7, 1, NULL);
  return s;
}

static GByteArray *
handshake(bool structured)
{
  return handshake_of(structured, "base:allocation");
}

static void
simple(GByteArray *s, uint32_t error, uint64_t handle)
{
  nc_put_u32(s, 0x67446698u);
  nc_put_u32(s, error);
  nc_put_u64(s, handle);
}

static void
chunk(GByteArray *s, bool done, uint16_t type, uint64_t handle, uint32_t length)
{
  nc_put_u32(s, 0x668e33efu);
  nc_put_u16(s, done);
  nc_put_u16(s, type);
  nc_put_u64(s, handle);
  nc_put_u32(s, length);
}

static void
fill(GByteArray *s, uint8_t byte, unsigned count)
{
  while (count--)
    nc_put_u8(s, byte);
}

/* Connects to a server that says ${says}, for ${bitmap} if that is one; NULL with ${error}. */
static NcNbd *
connect_for(const GByteArray *says, const char *bitmap, GThread **ret_thread, GError **error)
{
  static Server server; /* one at a time */
  g_autofree char *directory = g_dir_make_tmp("nc-nbd-XXXXXX", NULL);
  g_autofree char *path = g_build_filename(directory, "s", NULL);

  server = (Server){ nc_unix_listen(path, 0600, NULL), says };
  g_assert_cmpint(server.listener, >=, 0);
  *ret_thread = g_thread_new("server", serve, &server);
  NcNbd *nbd = bitmap ? nc_nbd_connect_bitmap(path, "disk", bitmap, 5000, error) : nc_nbd_connect(path, "disk", 5000, error);
  if (nbd)
    g_assert_cmpuint(nc_nbd_size(nbd), ==, SIZE);
  close(server.listener);
  g_unlink(path);
  g_rmdir(directory);
  return nbd;
}

static NcNbd *
connect_to(const GByteArray *says, GThread **ret_thread, GError **error)
{
  return connect_for(says, NULL, ret_thread, error);
}

/* Reads 1024 bytes at 4096 from a server that answers with ${says} (taken): 0 if that went well, else the error's code + 1. */
static int
read_from(GByteArray *says, uint8_t *data)
{
  g_autoptr(GByteArray) owned = says;
  g_autoptr(GError) error = NULL;
  GThread *thread;
  NcNbd *nbd = connect_to(owned, &thread, &error);

  g_assert_no_error(error);
  bool ok = nc_nbd_read(nbd, 4096, data, 1024, &error);
  nc_nbd_free(nbd);
  g_thread_join(thread);
  if (error)
    g_test_message("%s", error->message);
  return ok ? 0 : error->code + 1;
}

static void
test_read(void)
{
  uint8_t data[1024];

  GByteArray *s = handshake(false);
  simple(s, 0, 1);
  fill(s, 7, 1024);
  g_assert_cmpint(read_from(s, data), ==, 0);
  g_assert_cmpint(data[0] + data[1023], ==, 14);

  s = handshake(true); /* in two parts, the second first, and a hole */
  chunk(s, false, 1, 1, 8 + 512);
  nc_put_u64(s, 4096 + 512);
  fill(s, 9, 512);
  chunk(s, true, 2, 1, 12);
  nc_put_u64(s, 4096);
  nc_put_u32(s, 512);
  g_assert_cmpint(read_from(s, data), ==, 0);
  g_assert_cmpint(data[0], ==, 0);
  g_assert_cmpint(data[512], ==, 9);
}

static void
test_errors_are_told(void)
{
  uint8_t data[1024];

  GByteArray *s = handshake(false);
  simple(s, 28, 1);
  g_assert_cmpint(read_from(s, data), ==, NC_ERROR_IO + 1);
  s = handshake(true);
  chunk(s, true, 0x8001, 1, 6 + 4);
  nc_put_u32(s, 5);
  nc_put_u16(s, 4);
  fill(s, 'x', 4);
  g_assert_cmpint(read_from(s, data), ==, NC_ERROR_IO + 1);
  s = handshake(false);
  simple(s, 0, 1);
  fill(s, 7, 1000); /* and closes */
  g_assert_cmpint(read_from(s, data), ==, NC_ERROR_IO + 1);
}

/* One part of an answer that is wrong by one number each. */
static void
test_nonsense(void)
{
  static const struct {
    bool structured, done;
    uint16_t type;
    uint64_t handle;
    uint32_t length;
    uint64_t offset;
  } cases[] = {
    { true, true, 1, 2, 8 + 1024, 4096 }, /* another request's */
    { true, true, 1, 1, 8 + 1025, 4096 }, /* one byte too much */
    { true, true, 1, 1, 8 + 1024, 4095 }, /* before what was asked for */
    { true, true, 1, 1, 8 + 1024, 4097 }, /* beyond it */
    { true, true, 1, 1, 8 + 1024, UINT64_MAX - 100 },
    { true, true, 1, 1, 8 + 1023, 4096 }, /* and no more comes */
    { true, true, 1, 1, 7, 4096 },
    { true, true, 2, 1, 13, 4096 },
    { true, true, 0, 1, 1, 4096 },
    { true, true, 3, 1, 8, 4096 },
    { true, true, 0x8001, 1, UINT32_MAX, 4096 },
    { false, true, 1, 1, 8 + 1024, 4096 }, /* structured, though that was refused */
  };
  uint8_t data[1024];

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    GByteArray *s = handshake(cases[i].structured);
    chunk(s, cases[i].done, cases[i].type, cases[i].handle, cases[i].length);
    nc_put_u64(s, cases[i].offset);
    fill(s, 1, 2048);
    g_test_message("%zu", i);
    g_assert_cmpint(read_from(s, data), ==, NC_ERROR_PROTOCOL + 1);
  }
}

/* The same bytes twice do not make up for those that are missing; empty parts do not go on for ever. */
static void
test_tricks(void)
{
  uint8_t data[1024];

  GByteArray *s = handshake(true);
  for (int i = 0; i < 2; i++) {
    chunk(s, i == 1, 1, 1, 8 + 600);
    nc_put_u64(s, 4096);
    fill(s, 1, 600);
  }
  g_assert_cmpint(read_from(s, data), ==, NC_ERROR_PROTOCOL + 1);
  s = handshake(true);
  for (int i = 0; i < 1000; i++)
    chunk(s, false, 0, 1, 0);
  g_assert_cmpint(read_from(s, data), ==, NC_ERROR_PROTOCOL + 1);
}

static void
test_extent(void)
{
  g_autoptr(GByteArray) s = handshake(true);
  g_autoptr(GError) error = NULL;
  GThread *thread;
  uint32_t length = 0;
  bool zero = false;

  chunk(s, true, 5, 1, 4 + 8);
  nc_put_u32(s, 77);
  nc_put_u32(s, 8192);
  nc_put_u32(s, 3);
  chunk(s, true, 5, 2, 4 + 8); /* of nothing: taken as "may be anything" */
  nc_put_u32(s, 77);
  nc_put_u32(s, 0);
  nc_put_u32(s, 3);
  NcNbd *nbd = connect_to(s, &thread, &error);
  g_assert_true(nc_nbd_extent(nbd, 0, SIZE, &length, &zero, &error));
  g_assert_cmpuint(length, ==, 8192);
  g_assert_true(zero);
  g_assert_true(nc_nbd_extent(nbd, 8192, SIZE - 8192, &length, &zero, &error));
  g_assert_cmpuint(length, ==, SIZE - 8192);
  g_assert_false(zero);
  g_assert_false(nc_nbd_extent(nbd, SIZE, 1, &length, &zero, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  nc_nbd_free(nbd);
  g_thread_join(thread);
}

/* Of a bitmap nothing may be guessed: what is not said is an error. */
static void
test_bitmap(void)
{
  g_autoptr(GByteArray) s = handshake_of(true, "qemu:dirty-bitmap:b");
  g_autoptr(GByteArray) other = handshake_of(true, "qemu:dirty-bitmap:c"), none = handshake(false);
  g_autoptr(GError) error = NULL;
  GThread *thread;
  uint32_t length = 0;
  bool dirty = false;
  static const uint32_t flags[] = { 1, 0, 0 }, lengths[] = { 8192, 4096, 0 };

  for (unsigned i = 0; i < 3; i++) {
    chunk(s, true, 5, i + 1, 4 + 8);
    nc_put_u32(s, 77);
    nc_put_u32(s, lengths[i]);
    nc_put_u32(s, flags[i]);
  }
  NcNbd *nbd = connect_for(s, "b", &thread, &error);
  g_assert_no_error(error);
  g_assert_true(nc_nbd_is_dirty(nbd, 0, SIZE, &length, &dirty, &error));
  g_assert_true(dirty);
  g_assert_cmpuint(length, ==, 8192);
  g_assert_true(nc_nbd_is_dirty(nbd, 8192, SIZE - 8192, &length, &dirty, &error));
  g_assert_false(dirty);
  g_assert_cmpuint(length, ==, 4096);
  g_assert_false(nc_nbd_is_dirty(nbd, 12288, SIZE - 12288, &length, &dirty, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
  g_clear_error(&error);
  nc_nbd_free(nbd);
  g_thread_join(thread);
  g_assert_null(connect_for(other, "b", &thread, &error)); /* another bitmap than was asked for */
  g_assert_error(error, NC_ERROR, NC_ERROR_PROTOCOL);
  g_clear_error(&error);
  g_thread_join(thread);
  g_assert_null(connect_for(none, "b", &thread, &error)); /* a server that knows no bitmaps */
  g_assert_error(error, NC_ERROR, NC_ERROR_UNSUITABLE);
  g_thread_join(thread);
}

static void
test_no_handshake(void)
{
  for (int i = 0; i < 3; i++) {
    g_autoptr(GByteArray) s = handshake(true);
    g_autoptr(GError) error = NULL;
    GThread *thread;
    if (i == 0)
      s->data[3] ^= 1; /* no greeting */
    else if (i == 1)
      g_byte_array_set_size(s, 30); /* cut */
    else
      nc_store_be32(s->data + 18 + 16, 0x7fffffff); /* a reply without end */
    g_assert_null(connect_to(s, &thread, &error));
    g_assert_nonnull(error);
    g_thread_join(thread);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/qemu/nbd/read", test_read);
  g_test_add_func("/qemu/nbd/errors_are_told", test_errors_are_told);
  g_test_add_func("/qemu/nbd/nonsense", test_nonsense);
  g_test_add_func("/qemu/nbd/tricks", test_tricks);
  g_test_add_func("/qemu/nbd/extent", test_extent);
  g_test_add_func("/qemu/nbd/bitmap", test_bitmap);
  g_test_add_func("/qemu/nbd/no_handshake", test_no_handshake);
  return g_test_run();
}
