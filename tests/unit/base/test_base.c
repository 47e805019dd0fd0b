/* SPDX-License-Identifier: Apache-2.0 */
/* The small helpers that everything leans on: cursors, messages, files, names. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/msg.h"
#include "base/program.h"
#include "base/quota.h"
#include "base/role.h"
#include "base/tcp.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void
test_reader_stops_at_its_end(void)
{
  const uint8_t data[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
  for (size_t n = 0; n <= sizeof data; n++) {
    NcReader r = nc_reader(data, n);
    uint64_t v64 = 0;
    uint32_t v32 = 0;
    uint16_t v16 = 0;
    g_assert_true(nc_reader_u64(&r, &v64) == (n >= 8));
    r = nc_reader(data, n);
    g_assert_true(nc_reader_u32(&r, &v32) == (n >= 4));
    r = nc_reader(data, n);
    g_assert_true(nc_reader_u16(&r, &v16) == (n >= 2));
    g_assert_cmpuint(nc_reader_left(&r), ==, n >= 2 ? n - 2 : n); /* a refusal leaves the cursor */
  }
  NcReader r = nc_reader(data, sizeof data);
  uint64_t v;
  g_assert_true(nc_reader_u64(&r, &v));
  g_assert_cmphex(v, ==, 0x0102030405060708ull);
  NcReader none = nc_reader(NULL, 0);
  uint8_t b;
  g_assert_false(nc_reader_u8(&none, &b));
}

static void
test_varint(void)
{
  static const uint64_t values[] = { 0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX - 1, UINT64_MAX };
  for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
    g_autoptr(GByteArray) out = g_byte_array_new();
    nc_put_varint(out, values[i]);
    for (guint n = 0; n < out->len; n++) {
      NcReader cut = nc_reader(out->data, n);
      uint64_t v;
      g_assert_false(nc_reader_varint(&cut, &v));
      g_assert_cmpuint(nc_reader_left(&cut), ==, n);
    }
    NcReader r = nc_reader(out->data, out->len);
    uint64_t v = 7;
    g_assert_true(nc_reader_varint(&r, &v));
    g_assert_cmphex(v, ==, values[i]);
    g_assert_cmpuint(nc_reader_left(&r), ==, 0);
  }
  const uint8_t overflow[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02 };
  const uint8_t endless[] = { 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0 };
  uint64_t v;
  NcReader r = nc_reader(overflow, sizeof overflow);
  g_assert_false(nc_reader_varint(&r, &v));
  r = nc_reader(endless, sizeof endless);
  g_assert_false(nc_reader_varint(&r, &v));
}

static void
test_hex(void)
{
  const uint8_t data[] = { 0x00, 0x7f, 0xa5, 0xff };
  g_autofree char *hex = nc_hex_encode(data, sizeof data);
  uint8_t back[4];
  g_assert_cmpstr(hex, ==, "007fa5ff");
  g_assert_true(nc_hex_decode(hex, back, 4));
  g_assert_cmpmem(back, 4, data, 4);
  g_assert_false(nc_hex_decode("007fa5f", back, 4));
  g_assert_false(nc_hex_decode("007fa5fff0", back, 4));
  g_assert_false(nc_hex_decode("007fa5fg", back, 4));
}

static void
test_error_table(void)
{
  for (int code = 0; code < NC_ERROR_COUNT; code++) {
    g_assert_cmpint(nc_error_code_from_name(nc_error_code_name(code)), ==, code);
    g_assert_cmpint(nc_error_http_status(code), >=, 400);
    g_assert_cmpint(nc_error_exit_status(code), >, 0);
    g_autoptr(GError) error = g_error_new(NC_ERROR, code, "cause and remedy");
    nc_autojson json_t *json = nc_error_to_json(error);
    g_autoptr(GError) back = NULL;
    nc_error_set_json(&back, json);
    g_assert_error(back, NC_ERROR, code);
    g_assert_cmpstr(back->message, ==, "cause and remedy");
  }
  g_assert_cmpint(nc_error_code_from_name("nonsense"), ==, NC_ERROR_INTERNAL);
  g_assert_cmpstr(nc_error_code_name(-1), ==, "internal");
  g_assert_cmpstr(nc_error_code_name(NC_ERROR_COUNT), ==, "internal");
  g_autoptr(GError) malformed = NULL;
  nc_error_set_json(&malformed, NULL);
  g_assert_error(malformed, NC_ERROR, NC_ERROR_PROTOCOL);
}

static void
test_names(void)
{
  g_assert_true(nc_name_is_valid("web1"));
  g_assert_true(nc_name_is_valid("a.b_c-d"));
  static const char *const bad[] = { "", ".", "..", "-x", "a/b", "a b", "\xc3\xa4", "a\n",
                                     "0123456789012345678901234567890123456789012345678901234567890123" };
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
    g_assert_false(nc_name_is_valid(bad[i]));
  g_assert_false(nc_name_is_valid(NULL));
  g_autofree char *one = nc_id_new("m");
  g_autofree char *two = nc_id_new("m");
  g_assert_cmpstr(one, !=, two);
  g_assert_true(nc_name_is_valid(one));
  g_assert_cmpuint(strlen(one), <=, 24); /* it must fit the preface of a mover's connection */
}

static void
test_message_with_descriptor(void)
{
  int pair[2], pipes[2];
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
  g_assert_cmpint(pipe(pipes), ==, 0);
  nc_autojson json_t *out = json_pack("{s:s, s:i}", "op", "conn", "index", 3);
  g_autoptr(GError) error = NULL;

  g_assert_true(nc_msg_send(pair[0], out, pipes[1], &error));
  g_assert_true(nc_msg_send(pair[0], out, -1, &error));
  nc_autofd int got = -1;
  nc_autojson json_t *in = nc_msg_recv(pair[1], 1000, &got, &error);
  g_assert_no_error(error);
  g_assert_true(json_equal(in, out));
  g_assert_cmpint(got, >=, 0);
  g_assert_cmpint(write(got, "x", 1), ==, 1);
  char c;
  g_assert_cmpint(read(pipes[0], &c, 1), ==, 1);
  int none = 7;
  nc_autojson json_t *second = nc_msg_recv(pair[1], 1000, &none, &error);
  g_assert_nonnull(second);
  g_assert_cmpint(none, ==, -1);
  close(pair[0]);
  g_assert_null(nc_msg_recv(pair[1], 1000, NULL, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_IO);
  g_assert_cmpstr(error->message, ==, "closed");
  close(pair[1]);
  close(pipes[0]);
  close(pipes[1]);
}

static void
test_hostile_messages(void)
{
  static const struct {
    const char *bytes;
    size_t length;
  } attacks[] = {
    { "\0\0\0\0", 4 },                    /* nothing announced */
    { "\xff\xff\xff\xff", 4 },            /* four gigabytes announced */
    { "\0\0\0\2[]", 6 },                  /* not an object */
    { "\0\0\0\3{]}", 7 },                 /* not JSON */
    { "\0\0\0\x10{\"a\":1,\"a\":2}xx", 20 }, /* trailing bytes */
    { "\0\0\0\x0d{\"a\":1,\"a\":2}", 17 },   /* the same key twice */
    { "\0\0", 2 },                        /* cut in the length */
    { "\0\0\0\x10{\"a\"", 8 },            /* cut in the body */
  };
  for (size_t i = 0; i < G_N_ELEMENTS(attacks); i++) {
    int pair[2];
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ==, 0);
    g_assert_cmpint(write(pair[0], attacks[i].bytes, attacks[i].length), ==, (ssize_t)attacks[i].length);
    close(pair[0]);
    g_assert_null(nc_msg_recv(pair[1], 1000, NULL, &error));
    g_assert_nonnull(error);
    close(pair[1]);
  }
}

static void
test_file_replace_is_all_or_nothing(void)
{
  g_autofree char *directory = g_dir_make_tmp("nc-base-XXXXXX", NULL);
  g_autofree char *path = g_build_filename(directory, "file", NULL);
  g_autoptr(GError) error = NULL;
  struct stat st;

  g_assert_true(nc_file_replace(path, "one", 3, 0600, &error));
  g_assert_true(nc_file_replace(path, "two!", 4, 0600, &error));
  size_t length;
  g_autofree char *content = nc_file_read(path, 100, &length, &error);
  g_assert_cmpmem(content, length, "two!", 4);
  g_assert_cmpint(stat(path, &st), ==, 0);
  g_assert_cmpint(st.st_mode & 0777, ==, 0600);
  g_assert_null(nc_file_read(path, 3, NULL, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_INVALID);
  g_clear_error(&error);
  g_autofree char *nowhere = g_build_filename(directory, "no", "such", NULL);
  g_assert_false(nc_file_replace(nowhere, "x", 1, 0600, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_IO);
  unlink(path);
  rmdir(directory);
}

static void
test_programs_are_found_beside_us(void)
{
  g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
  g_autofree char *name = g_path_get_basename(self);
  g_autofree char *directory = g_path_get_dirname(self);
  g_autofree char *room = g_path_get_basename(directory);

  g_assert_cmpstr(nc_program_find(name, "nowhere"), ==, self);
  g_assert_cmpstr(nc_program_find("novacron-no-such-program", room), ==, "novacron-no-such-program");
  g_assert_cmpstr(nc_program_find(".", room), ==, "."); /* a directory is no program */
}

static void
test_roles_by_name(void)
{
  NcRole role;

  for (int i = 0; i < NC_ROLE_COUNT; i++)
    g_assert_true(nc_role_from_name(nc_role_name((NcRole)i), &role) && (int)role == i);
  g_assert_true(NC_ROLE_VIEWER < NC_ROLE_OPERATOR && NC_ROLE_OPERATOR < NC_ROLE_ADMIN);
  const char *const none[] = { NULL, "", "Admin", "admin ", "root", "none" };
  for (size_t i = 0; i < G_N_ELEMENTS(none); i++)
    g_assert_false(nc_role_from_name(none[i], &role));
}

static void
test_quota(void)
{
  g_autoptr(NcQuota) q = nc_quota_new(2, 3);

  g_assert_true(nc_quota_take(q, "a") && nc_quota_take(q, "a"));
  g_assert_false(nc_quota_take(q, "a")); /* its own are used up */
  g_assert_true(nc_quota_take(q, "b"));
  g_assert_false(nc_quota_take(q, "b")); /* all are */
  g_assert_false(nc_quota_take(q, "c"));
  nc_quota_give_back(q, "a");
  g_assert_true(nc_quota_take(q, "c"));
  nc_quota_give_back(q, "c");
  nc_quota_give_back(q, "a");
  g_assert_true(nc_quota_take(q, "a") && nc_quota_take(q, "a"));
}

static void
assert_network(const char *bind_to, const char *expected)
{
  nc_autofd int listener = nc_tcp_listen(bind_to, NULL);
  if (listener < 0) { /* a host without IPv6 */
    g_test_skip(bind_to);
    return;
  }
  g_autofree char *address = g_strdup_printf("%s%u", expected[0] == ':' ? "[::1]:" : "127.0.0.1:", nc_tcp_local_port(listener));
  nc_autofd int fd = nc_tcp_connect(address, 5000, NULL);
  g_assert_cmpint(fd, >=, 0);
  g_autofree char *network = nc_tcp_peer_network(fd);
  g_assert_cmpstr(network, ==, expected);
}

static void
test_network_of_an_address(void)
{
  int pair[2];

  assert_network("127.0.0.1:0", "127.0.0.1");
  assert_network("[::1]:0", "::"); /* the first 64 bits of ::1 */
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  g_autofree char *none = nc_tcp_peer_network(pair[0]);
  g_assert_cmpstr(none, ==, "unknown");
  close(pair[0]);
  close(pair[1]);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/base/reader-stops-at-its-end", test_reader_stops_at_its_end);
  g_test_add_func("/base/varint", test_varint);
  g_test_add_func("/base/hex", test_hex);
  g_test_add_func("/base/error-table", test_error_table);
  g_test_add_func("/base/names", test_names);
  g_test_add_func("/base/message-with-descriptor", test_message_with_descriptor);
  g_test_add_func("/base/hostile-messages", test_hostile_messages);
  g_test_add_func("/base/file-replace", test_file_replace_is_all_or_nothing);
  g_test_add_func("/base/roles", test_roles_by_name);
  g_test_add_func("/base/quota", test_quota);
  g_test_add_func("/base/network-of-an-address", test_network_of_an_address);
  g_test_add_func("/base/programs", test_programs_are_found_beside_us);
  return g_test_run();
}
