/* SPDX-License-Identifier: Apache-2.0 */
/* The register of kept shadows and its files: found again, used once, no more of them and no older than is allowed, nothing torn. */
#include "agent/kept_shadows.h"
#include "agent/kept_shadows_file.h"
#include "base/ident.h"
#include "base/io.h"
#include "wire/shadow.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE NC_SHADOW_PAGE_BYTES
#define WAIT_US (30 * G_USEC_PER_SEC)

typedef struct {
  char *dir, *shadows;
  NcConfig config;
  NcKeptShadows *kept;
} Bed;

static Bed *
bed_new(void)
{
  Bed *b = g_new0(Bed, 1);

  b->dir = g_dir_make_tmp("nc-kept-XXXXXX", NULL);
  b->shadows = g_build_filename(b->dir, "shadows", NULL);
  b->config = (NcConfig){ .data_dir = b->dir, .store_key_file = "", .kept_shadow_mib = 8, .kept_shadow_hours = 24 };
  b->kept = nc_kept_shadows_new(&b->config);
  return b;
}

static unsigned
count_files(Bed *b, const char *suffix)
{
  g_autoptr(GDir) dir = g_dir_open(b->shadows, 0, NULL);
  unsigned count = 0;
  const char *name;

  while ((name = g_dir_read_name(dir)) != NULL)
    count += g_str_has_suffix(name, suffix);
  return count;
}

static void
bed_free(Bed *b)
{
  g_autoptr(GDir) dir = g_dir_open(b->shadows, 0, NULL);
  const char *name;

  nc_kept_shadows_free(b->kept);
  while ((name = g_dir_read_name(dir)) != NULL) {
    g_autofree char *path = g_build_filename(b->shadows, name, NULL);
    g_unlink(path);
  }
  g_rmdir(b->shadows);
  g_rmdir(b->dir);
  g_free(b->dir);
  g_free(b->shadows);
  g_free(b);
}

static void
restart(Bed *b)
{
  nc_kept_shadows_free(b->kept);
  b->kept = nc_kept_shadows_new(&b->config);
}

static void
await_files(Bed *b, unsigned count)
{
  int64_t end = g_get_monotonic_time() + WAIT_US;
  while ((count_files(b, NC_KEPT_SUFFIX) != count || count_files(b, ".tmp") != 0) && g_get_monotonic_time() < end)
    g_usleep(1000);
  g_assert_cmpuint(count_files(b, NC_KEPT_SUFFIX), ==, count);
}

/* As a mover leaves it: ${frames} of ${shadow}'s pages used, each with its number in it. */
static void
keep(Bed *b, const char *vm, const char *peer, const char *migration, uint32_t frames)
{
  const NcKeptShadowName name = { vm, peer, migration, "aa" };
  int fd = nc_kept_shadows_new_file(b->kept);

  g_assert_cmpint(fd, >=, 0);
  g_autoptr(NcShadow) shadow = nc_shadow_new(fd, frames + 100, NULL);
  for (uint32_t i = 0; i < frames; i++)
    memset(nc_shadow_frame(shadow, i), (int)(i % 251 + 1), PAGE);
  nc_kept_shadows_keep(b->kept, &name, fd);
}

static bool
has(Bed *b, const char *vm, const char *peer)
{
  g_autofree char *migration = NULL, *sha256 = NULL;
  return nc_kept_shadows_find(b->kept, vm, peer, &migration, &sha256);
}

/* Frames of what is taken, which are as they were; 0: nothing. */
static uint32_t
take(Bed *b, const char *vm, const char *peer, const char *migration, const char *sha256)
{
  const NcKeptShadowName name = { vm, peer, migration, sha256 };
  uint8_t page[PAGE], expected[PAGE];
  uint32_t frames = 0;
  nc_autofd int fd = nc_kept_shadows_take(b->kept, &name, &frames);

  if (fd < 0)
    return 0;
  for (uint32_t i = 0; i < frames; i++) {
    memset(expected, (int)(i % 251 + 1), PAGE);
    g_assert_cmpint(pread(fd, page, PAGE, (off_t)i * PAGE), ==, PAGE);
    g_assert_cmpmem(page, PAGE, expected, PAGE);
  }
  return frames;
}

static void
test_kept_and_used_once(void)
{
  Bed *b = bed_new();

  for (int again = 0; again < 2; again++) {
    keep(b, "web", "b", "m-1", 300);
    if (again) {
      await_files(b, 1);
      restart(b);
    }
    g_assert_true(has(b, "web", "b"));
    g_assert_false(has(b, "web", "c"));
    g_assert_false(has(b, "other", "b"));
    g_assert_cmpuint(take(b, "web", "c", "m-1", "aa"), ==, 0);
    g_assert_cmpuint(take(b, "web", "b", "m-2", "aa"), ==, 0);
    g_assert_cmpuint(take(b, "web", "b", "m-1", "ab"), ==, 0);
    g_assert_cmpuint(take(b, "web", "b", "m-1", "aa"), ==, 300);
    g_assert_cmpuint(take(b, "web", "b", "m-1", "aa"), ==, 0);
    g_assert_false(has(b, "web", "b"));
    await_files(b, 0);
  }
  keep(b, "web", "b", "m-3", 10);
  await_files(b, 1);
  nc_kept_shadows_drop(b->kept, "m-3");
  g_assert_false(has(b, "web", "b"));
  await_files(b, 0);
  bed_free(b);
}

/* 8 MiB are 2048 pages. */
static void
test_budget_and_age(void)
{
  Bed *b = bed_new();

  keep(b, "empty", "b", "m-0", 0);
  keep(b, "large", "b", "m-1", 2049);
  g_assert_false(has(b, "empty", "b") || has(b, "large", "b"));
  keep(b, "one", "b", "m-2", 1000);
  keep(b, "two", "b", "m-3", 1000);
  g_assert_true(has(b, "one", "b") && has(b, "two", "b"));
  keep(b, "two", "b", "m-4", 900); /* in place of m-3 */
  g_assert_true(has(b, "one", "b") && take(b, "two", "b", "m-3", "aa") == 0);
  keep(b, "three", "b", "m-5", 500);
  g_assert_true(!has(b, "one", "b") && has(b, "two", "b") && has(b, "three", "b"));
  await_files(b, 2);
  b->config.kept_shadow_hours = -1; /* older than nothing */
  restart(b);
  g_assert_false(has(b, "two", "b") || has(b, "three", "b"));
  await_files(b, 0);
  b->config.kept_shadow_mib = 0;
  g_assert_false(nc_kept_shadows_wanted(b->kept));
  g_assert_cmpint(nc_kept_shadows_new_file(b->kept), ==, -1);
  bed_free(b);
}

/* Nothing a guest wrote is on disk in the clear. */
static void
test_not_on_disk_with_a_key(void)
{
  Bed *b = bed_new();

  b->config.store_key_file = "/etc/novacron/key";
  keep(b, "web", "b", "m-1", 20);
  b->config.store_key_file = "";
  keep(b, "other", "b", "m-2", 20); /* written after it, if that were to be written */
  await_files(b, 1);
  g_assert_cmpuint(take(b, "web", "b", "m-1", "aa"), ==, 20);
  restart(b);
  g_assert_true(has(b, "other", "b"));
  bed_free(b);
}

/* Every byte of the header, one after the other, and every length: whatever they make of it, it is no more than a hint. */
static void
test_damaged_files(void)
{
  Bed *b = bed_new();
  g_autofree char *path = nc_kept_shadow_path(b->shadows, "m-1");
  g_autofree char *content = NULL;
  gsize length;

  keep(b, "web", "b", "m-1", 3);
  await_files(b, 1);
  g_assert_true(g_file_get_contents(path, &content, &length, NULL));
  g_assert_cmpuint(length, ==, 4 * PAGE);
  for (gsize at = 0; at < 200; at++) {
    for (int change = 1; change < 256; change <<= 1) {
      g_autoptr(GError) error = NULL;
      content[at] ^= (char)change;
      g_assert_true(g_file_set_contents_full(path, content, (gssize)length, G_FILE_SET_CONTENTS_NONE, 0600, NULL)); /* no fsync */
      content[at] ^= (char)change;
      g_autoptr(NcKeptShadow) s = nc_kept_shadow_look(path, &error);
      g_assert_true(s ? nc_name_is_valid(s->migration) && s->frames == 3 : error != NULL);
    }
  }
  for (gsize cut = 0; cut < length; cut += 1 + cut / 2) {
    g_autoptr(GError) error = NULL;
    g_assert_true(g_file_set_contents(path, content, (gssize)length, NULL));
    g_assert_cmpint(truncate(path, (off_t)cut), ==, 0);
    g_assert_null(nc_kept_shadow_look(path, &error));
    g_assert_nonnull(error);
  }
  restart(b); /* what is torn goes, and so does what is something else */
  g_assert_false(has(b, "web", "b"));
  g_autofree char *stray = g_build_filename(b->shadows, "m-9.shadow.tmp", NULL);
  g_autofree char *renamed = nc_kept_shadow_path(b->shadows, "m-8");
  g_assert_true(g_file_set_contents(stray, "x", 1, NULL) && g_file_set_contents(renamed, content, (gssize)length, NULL));
  restart(b);
  await_files(b, 0);
  bed_free(b);
}

/* Novacrond stops in the middle: nothing is left of what was not whole. */
static void
test_stopped_while_writing(void)
{
  Bed *b = bed_new();
  g_autoptr(NcKeptShadow) s = g_new0(NcKeptShadow, 1);
  g_autoptr(GError) error = NULL;
  gint stop = 1;

  *s = (NcKeptShadow){ .vm = g_strdup("web"), .peer = g_strdup("b"), .migration = g_strdup("m-1"), .sha256 = g_strdup("aa"), .frames = 2,
                       .fd = nc_kept_shadow_memory() };
  g_assert_cmpint(ftruncate(s->fd, 2 * PAGE), ==, 0);
  g_assert_false(nc_kept_shadow_write(b->shadows, s, &stop, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CANCELLED);
  await_files(b, 0);
  stop = 0;
  g_assert_true(nc_kept_shadow_write(b->shadows, s, &stop, NULL));
  await_files(b, 1);
  bed_free(b);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/kept-shadows/kept-and-used-once", test_kept_and_used_once);
  g_test_add_func("/kept-shadows/budget-and-age", test_budget_and_age);
  g_test_add_func("/kept-shadows/not-on-disk-with-a-key", test_not_on_disk_with_a_key);
  g_test_add_func("/kept-shadows/damaged-files", test_damaged_files);
  g_test_add_func("/kept-shadows/stopped-while-writing", test_stopped_while_writing);
  return g_test_run();
}
