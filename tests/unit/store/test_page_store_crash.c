/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power goes before every single change on disk.
 *
 * A random sequence of operations runs against a store and against a model of
 * what has been promised. Before each system call that changes anything, the directory is copied as a
 * power cut could leave it: what no fsync covers is whole, cut off or full of holes, and a new file that no fsync of its
 * directory covers may be missing. The copy is opened (once in a while that opening dies, too) and must keep every promise.
 */
#include "page_support.h"
#include "base/log.h"
#include "store/page_store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define BLOCKS 240u
#define NAMES 6u

typedef enum { GONE, THERE, EITHER } Presence;

typedef struct {
  unsigned from, count, times;
  Presence presence;
} ModelManifest;

typedef struct {
  GRand *rand;
  char *dir;
  NcPageStoreOptions options;
  NcPageStore *store;
  NcPageStoreWriter *writer;
  /* the model */
  bool put[BLOCKS];     /* through the present writer */
  bool promised[BLOCKS]; /* of these: flushed since */
  ModelManifest manifests[NAMES];
  /* what the disk would have */
  GHashTable *durable;  /* name of a pack -> guint64 bytes that an fsync has covered */
  GHashTable *named;    /* names of packs that an fsync of the directory has covered */
  char *syncing;        /* the pack whose fsync was about to happen; NULL: none */
  bool syncing_names;   /* the same of packs' directory */
  bool quiet;           /* no cuts now */
  unsigned cuts;
  unsigned fail_in;     /* the n-th write from now fails, the disk being full; 0: none */
} World;

static NcPageStore *
open_world(World *w, const char *dir, NcStoreHook hook, gpointer data, GError **error)
{
  return nc_page_store_open_hooked(dir, &w->options, hook, data, 32, error);
}

/* --- what a power cut leaves --- */

static void
tear_file(World *w, const char *path, uint64_t durable)
{
  uint64_t length = test_length(path), lost = length - MIN(length, durable);

  if (lost == 0)
    return;
  switch (g_rand_int_range(w->rand, 0, 4)) {
  case 0: /* all of it made it to the disk */
    break;
  case 1: /* so much of it */
    g_assert_cmpint(truncate(path, (off_t)(durable + (uint64_t)g_rand_int_range(w->rand, 0, (gint32)lost + 1))), ==, 0);
    break;
  case 2: /* the length did, not all of the content */
  default: {
    static const uint8_t zeros[512]; /* a sector, except for what of it was there before */
    uint64_t sector = (durable + (uint64_t)g_rand_int_range(w->rand, 0, (gint32)lost)) / 512 * 512;
    uint64_t from = MAX(sector, durable), n = MIN(sector + 512, length) - from;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, zeros, n, (off_t)from), ==, (ssize_t)n);
    close(fd);
    break;
  }
  }
}

static void
tear(World *w, const char *copy)
{
  g_autofree char *packs = g_build_filename(copy, "packs", NULL);
  GDir *dir = g_dir_open(packs, 0, NULL);
  const char *name;

  while ((name = g_dir_read_name(dir))) {
    g_autofree char *path = g_build_filename(packs, name, NULL), *known = g_strconcat("packs/", name, NULL);
    const guint64 *durable = g_hash_table_lookup(w->durable, known);
    if (!g_hash_table_contains(w->named, known) && g_rand_boolean(w->rand))
      g_unlink(path);
    else
      tear_file(w, path, durable ? *durable : 0);
  }
  g_dir_close(dir);
}

/* --- promises --- */

static void
check_manifests(World *w, NcPageStore *store)
{
  for (unsigned i = 0; i < NAMES; i++) {
    const ModelManifest *m = &w->manifests[i];
    g_autofree char *name = g_strdup_printf("m%u", i);
    g_autoptr(GError) error = NULL;
    g_autoptr(NcManifestReader) reader = nc_manifest_open(store, name, &error);
    if (reader && m->presence == GONE)
      g_error("%s is there again", name);
    if (!reader && m->presence == THERE)
      g_error("%s: %s", name, error->message);
    if (reader)
      test_check_manifest_repeated(store, name, m->from, m->count, m->times);
  }
}

static void
check_promises(World *w, NcPageStore *store)
{
  TestFindings findings = { .text = g_string_new(NULL) };

  for (unsigned i = 0; i < BLOCKS; i++) {
    g_autoptr(GError) error = NULL;
    if (w->promised[i] && !test_get(store, i, &error))
      g_error("block %u: %s", i, error->message);
  }
  check_manifests(w, store);
  if (test_verify(store, &findings) != 0)
    g_error("after a power cut: %s", findings.text->str);
  g_string_free(findings.text, TRUE);
}

static int
die_at(NcStoreOp op, const char *name, uint64_t offset, uint64_t length, gpointer data)
{
  gint *left = data;
  return --*left < 0 ? EIO : 0; /* nothing changes any more: it might as well be dead */
}

/* An opening that dies on the way, then one that does not. */
static void
check_copy(World *w, const char *copy)
{
  g_autoptr(GError) error = NULL;

  if (g_rand_int_range(w->rand, 0, 3) == 0) {
    gint left = g_rand_int_range(w->rand, 0, 6);
    NcPageStore *dying = open_world(w, copy, die_at, &left, NULL);
    nc_page_store_close(dying);
  }
  NcPageStore *store = open_world(w, copy, NULL, NULL, &error);
  g_assert_no_error(error);
  check_promises(w, store);
  NcPageStoreWriter *writer = nc_page_store_writer_new(store, NULL);
  g_assert_true(test_put(writer, BLOCKS, 2, &error));
  nc_page_store_writer_free(writer);
  nc_page_store_close(store);
  store = open_world(w, copy, NULL, NULL, &error);
  g_assert_no_error(error);
  g_assert_true(test_get(store, BLOCKS + 1, &error));
  check_manifests(w, store);
  nc_page_store_close(store);
}

static void
note_names(World *w)
{
  g_autofree char *packs = g_build_filename(w->dir, "packs", NULL);
  GDir *dir = g_dir_open(packs, 0, NULL);
  const char *name;

  while ((name = g_dir_read_name(dir)))
    g_hash_table_add(w->named, g_strconcat("packs/", name, NULL));
  g_dir_close(dir);
  w->syncing_names = false;
}

/* The fsync that was to come when last called has happened. */
static void
note_sync(World *w)
{
  if (w->syncing_names)
    note_names(w);
  if (w->syncing) {
    g_autofree char *path = g_build_filename(w->dir, w->syncing, NULL);
    guint64 length = g_file_test(path, G_FILE_TEST_EXISTS) ? test_length(path) : 0;
    g_hash_table_replace(w->durable, w->syncing, g_memdup2(&length, sizeof length));
    w->syncing = NULL;
  }
}

/* The power goes now. */
static void
cut(World *w)
{
  g_autofree char *copy = g_strdup_printf("%s-cut", w->dir);

  test_copy(w->dir, copy);
  tear(w, copy);
  check_copy(w, copy);
  test_remove(copy);
  w->cuts++;
}

static int
before_change(NcStoreOp op, const char *name, uint64_t offset, uint64_t length, gpointer data)
{
  World *w = data;
  bool pack = g_str_has_prefix(name, "packs/");

  note_sync(w);
  if (!w->quiet)
    cut(w);
  if (pack && op == NC_STORE_SYNC)
    w->syncing = g_strdup(name);
  w->syncing_names = op == NC_STORE_SYNC_DIR && g_str_equal(name, "packs");
  if (pack && op == NC_STORE_UNLINK) { /* the id may come again */
    g_hash_table_remove(w->durable, name);
    g_hash_table_remove(w->named, name);
  }
  if (pack && op == NC_STORE_TRUNCATE) {
    guint64 *durable = g_hash_table_lookup(w->durable, name);
    if (durable)
      *durable = MIN(*durable, offset);
  }
  return op == NC_STORE_WRITE && w->fail_in > 0 && --w->fail_in == 0 ? ENOSPC : 0;
}

/* --- operations --- */

/* Full disks are part of it; nothing else may fail. */
static bool
tolerate(GError *error)
{
  g_autoptr(GError) taken = error;
  if (taken && taken->code != NC_ERROR_RESOURCE)
    g_error("%s", taken->message);
  return taken == NULL;
}

static void
new_writer(World *w)
{
  g_autoptr(GError) error = NULL;

  nc_page_store_writer_free(w->writer);
  memset(w->put, 0, sizeof w->put);
  memset(w->promised, 0, sizeof w->promised);
  w->writer = nc_page_store_writer_new(w->store, &error);
  g_assert_no_error(error);
}

static void
some_blocks(World *w, unsigned *from, unsigned *count)
{
  *count = (unsigned)g_rand_int_range(w->rand, 1, 24);
  *from = (unsigned)g_rand_int_range(w->rand, 0, (gint32)(BLOCKS - *count));
}

static bool
op_put(World *w, unsigned from, unsigned count)
{
  GError *error = NULL;

  test_put(w->writer, from, count, &error);
  if (!tolerate(error))
    return false;
  memset(w->put + from, true, count);
  return true;
}

static void
op_flush(World *w)
{
  GError *error = NULL;

  nc_page_store_flush(w->store, &error);
  if (tolerate(error))
    memcpy(w->promised, w->put, sizeof w->put);
}

/* The name of a manifest that is there; NULL: none is, or none is wanted. Caller frees. */
static char *
some_base(World *w)
{
  unsigned i = (unsigned)g_rand_int_range(w->rand, 0, NAMES);
  return w->manifests[i].presence == THERE ? g_strdup_printf("m%u", i) : NULL;
}

/* Every second one is long enough for parts of it to be blocks of the store. */
static void
op_manifest(World *w)
{
  unsigned i = (unsigned)g_rand_int_range(w->rand, 0, NAMES), from, count;
  g_autofree char *name = g_strdup_printf("m%u", i);
  GError *error = NULL;

  some_blocks(w, &from, &count);
  if (w->manifests[i].presence != GONE || !op_put(w, from, count))
    return;
  unsigned times = g_rand_boolean(w->rand) ? 1 : 12;
  g_autofree char *base = some_base(w);
  w->manifests[i] = (ModelManifest){ .from = from, .count = count, .times = times, .presence = EITHER };
  test_manifest_repeated(w->writer, name, base, from, count, times, &error);
  w->manifests[i].presence = tolerate(error) ? THERE : GONE;
}

static void
op_delete(World *w)
{
  unsigned i = (unsigned)g_rand_int_range(w->rand, 0, NAMES);
  g_autofree char *name = g_strdup_printf("m%u", i);
  GError *error = NULL;

  if (w->manifests[i].presence != THERE)
    return;
  w->manifests[i].presence = EITHER;
  nc_manifest_delete(w->store, name, &error);
  if (tolerate(error))
    w->manifests[i].presence = GONE;
}

static void
op_gc(World *w)
{
  GError *error = NULL;

  if (g_rand_boolean(w->rand))
    new_writer(w);
  nc_page_store_gc(w->store, NULL, NULL, &error);
  tolerate(error);
}

static void
op_reopen(World *w)
{
  g_autoptr(GError) error = NULL;

  g_clear_pointer(&w->writer, nc_page_store_writer_free);
  memset(w->put, 0, sizeof w->put);
  memset(w->promised, 0, sizeof w->promised);
  nc_page_store_close(w->store);
  w->fail_in = 0;
  w->store = open_world(w, w->dir, before_change, w, &error);
  g_assert_no_error(error);
  new_writer(w);
}

static void
op_any(World *w)
{
  GError *error = NULL;
  unsigned from, count;

  w->fail_in = g_rand_int_range(w->rand, 0, 5) == 0 ? (unsigned)g_rand_int_range(w->rand, 1, 4) : 0;
  switch (g_rand_int_range(w->rand, 0, 16)) {
  case 0:
    op_reopen(w);
    break;
  case 1:
  case 2:
    op_gc(w);
    break;
  case 3:
  case 4:
    op_delete(w);
    break;
  case 5:
  case 6:
  case 7:
    op_manifest(w);
    break;
  case 8:
    w->quiet = g_rand_boolean(w->rand); /* it writes much */
    nc_page_store_rebuild_index(w->store, &error);
    tolerate(error);
    w->quiet = false;
    break;
  case 9:
  case 10:
    op_flush(w);
    break;
  default:
    some_blocks(w, &from, &count);
    op_put(w, from, count);
  }
}

/* ${data}: a seed, negative for an encrypted store. */
static void
every_cut(gconstpointer data)
{
  const uint8_t bytes[32] = "the key of this store, 32 bytes";
  gint seed = GPOINTER_TO_INT(data);
  g_autoptr(NcSealKey) key = seed < 0 ? nc_seal_key_new(bytes) : NULL;
  World w = { .rand = g_rand_new_with_seed((guint32)seed), .dir = test_directory(),
              .options = { .pack_bytes = 24 << 10, .key = key },
              .durable = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
              .named = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL) };

  w.store = open_world(&w, w.dir, before_change, &w, NULL);
  g_assert_nonnull(w.store);
  new_writer(&w);
  for (unsigned i = 0; i < 90; i++)
    op_any(&w);
  check_promises(&w, w.store);
  g_test_message("%u power cuts", w.cuts);
  g_assert_cmpuint(w.cuts, >, 100);
  nc_page_store_writer_free(w.writer);
  nc_page_store_close(w.store);
  test_remove(w.dir);
  g_hash_table_unref(w.durable);
  g_hash_table_unref(w.named);
  g_free(w.syncing);
  g_free(w.dir);
  g_rand_free(w.rand);
}

int
main(int argc, char **argv)
{
  static const gint seeds[] = { 1, 2, 3, 4, -5, -6 };

  g_test_init(&argc, &argv, NULL);
  nc_log_init("test", NC_LOG_TEXT, NC_LOG_ERR);
  for (size_t i = 0; i < G_N_ELEMENTS(seeds); i++) {
    g_autofree char *path = g_strdup_printf("/page_store/every_cut/%d", seeds[i]);
    g_test_add_data_func(path, GINT_TO_POINTER(seeds[i]), every_cut);
  }
  return g_test_run();
}
