/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream through the sandboxed checkpointer into a store and back: byte for byte; what is damaged on the way is found and
 * named. The stream is made here, in QEMU's format (two RAM blocks, device state, a description).
 */
#include "base/io.h"
#include "checkpoint/capture.h"
#include "checkpoint/image.h"
#include "checkpoint/replay.h"

#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAGE_BYTES 4096u
#define PAGES 96u

static char *directory; /* of the test's stores */

/* --- a stream --- */

static void
put_name(GByteArray *s, const char *name)
{
  nc_put_u8(s, (uint8_t)strlen(name));
  g_byte_array_append(s, (const guint8 *)name, (guint)strlen(name));
}

/* Page ${i} of generation ${generation}: every fourth is zero, of the others every eighth changes. */
static void
put_page(GByteArray *s, unsigned i, unsigned generation, const char *name)
{
  bool zero = i % 4 == 0;
  nc_put_u64(s, (uint64_t)i * PAGE_BYTES | (zero ? 0x02 : 0x08) | (name ? 0 : 0x20));
  if (name)
    put_name(s, name);
  if (zero) {
    nc_put_u8(s, 0);
    return;
  }
  g_autoptr(GRand) rand = g_rand_new_with_seed(i * 1000 + (i % 8 == 1 ? generation : 0));
  for (unsigned at = 0; at < PAGE_BYTES; at += 4)
    nc_put_u32(s, g_rand_int(rand));
}

static void
put_footer(GByteArray *s)
{
  nc_put_u64(s, 0x10);
  nc_put_u8(s, 0x7e);
  nc_put_u32(s, 2);
}

static GByteArray *
make_stream(unsigned generation)
{
  static const char type[] = "pc-i440fx-7.2", description[] = "{\"configuration\": 1}";
  GByteArray *s = g_byte_array_new();

  nc_put_u32(s, 0x5145564d);
  nc_put_u32(s, 3);
  nc_put_u8(s, 7);
  nc_put_u32(s, sizeof type - 1);
  g_byte_array_append(s, (const guint8 *)type, sizeof type - 1);
  nc_put_u8(s, 1); /* START */
  nc_put_u32(s, 2);
  put_name(s, "ram");
  nc_put_u32(s, 0);
  nc_put_u32(s, 4);
  nc_put_u64(s, (PAGES + 1) * PAGE_BYTES | 4);
  put_name(s, "ram0");
  nc_put_u64(s, PAGES * PAGE_BYTES);
  put_name(s, "pc.bios");
  nc_put_u64(s, PAGE_BYTES);
  put_footer(s);
  for (unsigned i = 0; i < PAGES; i++) {
    bool begins = i % 40 == 0; /* a PART */
    if (begins) {
      nc_put_u8(s, 2);
      nc_put_u32(s, 2);
    }
    put_page(s, i, generation, i == 0 ? "ram0" : NULL);
    if (i % 40 == 39 || i == PAGES - 1)
      put_footer(s);
  }
  nc_put_u8(s, 3); /* END, with the other block */
  nc_put_u32(s, 2);
  put_page(s, 1, 0, "pc.bios");
  put_footer(s);
  nc_put_u8(s, 4); /* FULL */
  nc_put_u32(s, 5);
  put_name(s, "timer");
  for (unsigned i = 0; i < 70000; i++) /* more than a block of the store */
    nc_put_u8(s, (uint8_t)(i * 7 >> 3));
  nc_put_u8(s, 0);
  nc_put_u8(s, 6);
  nc_put_u32(s, sizeof description - 1);
  g_byte_array_append(s, (const guint8 *)description, sizeof description - 1);
  /* Page 1 of pc.bios does not exist: the parser may turn opaque there, and all the same nothing may be lost. */
  return s;
}

/* --- in and out --- */

typedef struct {
  int fd;
  const GByteArray *stream;
} Feeder;

static gpointer
feed(gpointer data)
{
  Feeder *feeder = data;
  nc_write_all(feeder->fd, feeder->stream->data, feeder->stream->len, NULL);
  close(feeder->fd);
  return NULL;
}

static void
count_first_page(gpointer data)
{
  ++*(unsigned *)data;
}

static bool
save(NcPageStore *store, const char *name, const GByteArray *stream, NcPutsTotals *ret_totals, GError **error)
{
  static const gint go_on = 0;
  const NcMoverProgram program = { .binary = g_getenv("NC_CHECKPOINTER"),
                                   .uid = getuid() ? getuid() : 65534,
                                   .gid = getuid() ? getgid() : 65534 };
  uint64_t progress = 0, file_bytes;
  unsigned first_pages = 0;
  int pair[2];
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  g_autoptr(NcCheckpointer) worker = nc_checkpointer_start(&program, error);
  g_autoptr(NcPageStoreWriter) writer = nc_page_store_writer_new(store, error);
  g_autoptr(NcManifestWriter) manifest = writer ? nc_manifest_begin(writer, name, error) : NULL;
  if (!worker || !manifest || !nc_checkpointer_give(worker, pair[0], error))
    return false;
  close(pair[0]);
  Feeder feeder = { pair[1], stream };
  GThread *thread = g_thread_new("feed", feed, &feeder);
  g_autoptr(NcPuts) puts = nc_puts_new(writer, manifest);
  g_autoptr(NcLayoutBuilder) layout = nc_layout_builder_new();
  const NcCapture capture = { .puts = puts, .layout = layout, .cancelled = &go_on, .progress = &progress };
  NcCapturedStream captured = { 0 };
  bool ok = nc_capture_stream(&capture, worker, 10000, count_first_page, &first_pages, &captured, error);
  g_thread_join(thread);
  if (!ok || !nc_puts_finish(puts, ret_totals, error))
    return false;
  g_assert_cmpuint(first_pages, ==, 1);
  g_assert_cmpuint(captured.zero_pages, >=, PAGES / 4);
  nc_autojson json_t *meta = json_pack("{s:s, s:O, s:[]}", "machine", "web1", "ram_blocks", captured.blocks, "disks");
  nc_captured_stream_clear(&captured);
  return nc_capture_finish(&capture, manifest, &file_bytes, error) && nc_capture_commit(&capture, manifest, meta, error);
}

typedef struct {
  int fd;
  GByteArray *got;
} Drain;

static gpointer
drain(gpointer data)
{
  Drain *d = data;
  uint8_t bytes[65536];
  ssize_t n;
  while ((n = read(d->fd, bytes, sizeof bytes)) > 0)
    g_byte_array_append(d->got, bytes, (guint)n);
  close(d->fd);
  return NULL;
}

static GByteArray *
load(NcPageStore *store, const char *name, GError **error)
{
  static const gint go_on = 0;
  g_autoptr(NcImage) image = nc_image_open(store, name, error);
  uint64_t progress = 0;
  int pair[2];

  if (!image)
    return NULL;
  g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
  Drain d = { pair[0], g_byte_array_new() };
  GThread *thread = g_thread_new("drain", drain, &d);
  const NcReplay replay = { .image = image, .cancelled = &go_on, .progress = &progress };
  bool ok = nc_replay_stream(&replay, pair[1], error);
  close(pair[1]);
  g_thread_join(thread);
  if (ok)
    return d.got;
  g_byte_array_unref(d.got);
  return NULL;
}

static NcPageStore *
open_store(void)
{
  const NcPageStoreOptions options = { 0 };
  g_autoptr(GError) error = NULL;
  NcPageStore *store = nc_page_store_open(directory, &options, &error);
  g_assert_no_error(error);
  return store;
}

static void
test_stream_comes_back(void)
{
  g_autoptr(NcPageStore) store = open_store();
  g_autoptr(GError) error = NULL;
  NcPutsTotals totals[2];

  for (unsigned generation = 0; generation < 2; generation++) {
    g_autofree char *name = g_strdup_printf("c-%u", generation);
    g_autoptr(GByteArray) stream = make_stream(generation);
    save(store, name, stream, &totals[generation], &error);
    g_assert_no_error(error);
    g_autoptr(GByteArray) back = load(store, name, &error);
    g_assert_no_error(error);
    g_assert_cmpmem(back->data, back->len, stream->data, stream->len);
  }
  g_assert_cmpuint(totals[0].blocks, ==, totals[1].blocks);
  g_assert_cmpuint(totals[1].new_blocks, ==, PAGES / 8); /* what changed, and nothing else */
}

/* --- damage --- */

static char *
find_pack(const char *below)
{
  char *largest = NULL;
  goffset most = 0;
  GDir *dir = g_dir_open(below, 0, NULL);
  const char *name;

  while (dir && (name = g_dir_read_name(dir)) != NULL) {
    g_autofree char *path = g_build_filename(below, name, NULL);
    GStatBuf st;
    char *found = g_file_test(path, G_FILE_TEST_IS_DIR) ? find_pack(path) : g_strdup(path);
    if (found && g_stat(found, &st) == 0 && st.st_size > most) {
      most = st.st_size;
      g_free(largest);
      largest = g_steal_pointer(&found);
    }
    g_free(found);
  }
  if (dir)
    g_dir_close(dir);
  return largest;
}

/* Every byte that is changed in the pack is noticed, whatever it was, and never restored. */
static void
test_damage_is_named(void)
{
  g_autofree char *pack = find_pack(directory);
  g_autofree char *content = NULL;
  gsize length;
  unsigned damaged = 0;

  g_assert_true(g_file_get_contents(pack, &content, &length, NULL));
  for (gsize at = 100; at < length; at += length / 40) {
    nc_autojson json_t *lost = NULL;
    g_autoptr(GError) error = NULL;
    uint64_t bytes = 0;
    content[at] ^= 0x10;
    g_assert_true(g_file_set_contents(pack, content, (gssize)length, NULL));
    content[at] ^= 0x10;
    g_autoptr(NcPageStore) store = open_store();
    g_autofree char *text = nc_image_verify(store, "c-0", NULL, &lost, &bytes, &error) ? nc_image_lost_text(lost) : NULL;
    g_autoptr(GByteArray) stream = make_stream(0);
    g_autoptr(GError) refusal = NULL;
    g_autoptr(GByteArray) back = load(store, "c-0", &refusal);
    if (text && !text[0]) { /* the byte belongs to the other checkpoint alone */
      g_assert_nonnull(back);
      g_assert_cmpmem(back->data, back->len, stream->data, stream->len);
      continue;
    }
    damaged++;
    g_assert_null(back);
    g_assert_true(!text || strstr(text, "memory ram0") || strstr(text, "memory pc.bios") || strstr(text, "devices") ||
                  strstr(text, "what is where"));
  }
  g_assert_cmpuint(damaged, >, 10);
  g_assert_true(g_file_set_contents(pack, content, (gssize)length, NULL));
}

static void
test_header_nonsense(void)
{
  static const char *const cases[] = { "",
                                       "NCCP",
                                       "NCCP\0\1\0\0\0\0\0\1",
                                       "XXCP\0\1\0\0\0\0\0\1{}",
                                       "NCCP\0\2\0\0\0\0\0\1{}",
                                       "NCCP\0\1\0\0\xff\xff\xff\xff{}",
                                       "NCCP\0\1\0\0\0\0\0\1[]",
                                       "NCCP\0\1\0\0\0\0\0\1{" };
  const size_t lengths[] = { 0, 4, 12, 14, 14, 14, 14, 13 };
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autoptr(GError) error = NULL;
    uint32_t layout;
    g_test_message("%zu", i);
    g_assert_null(nc_image_header_decode("c-x", cases[i], lengths[i], &layout, &error));
    g_assert_nonnull(error);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  directory = g_dir_make_tmp("nc-image-XXXXXX", NULL);
  g_test_add_func("/checkpoint/image/stream_comes_back", test_stream_comes_back);
  g_test_add_func("/checkpoint/image/damage_is_named", test_damage_is_named);
  g_test_add_func("/checkpoint/image/header_nonsense", test_header_nonsense);
  int failed = g_test_run();
  g_autofree char *remove = g_strdup_printf("rm -rf '%s'", directory);
  if (system(remove) != 0)
    g_printerr("%s is left\n", directory);
  g_free(directory);
  return failed;
}
