/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everybody at once: threads that put and commit, threads that read what has
 * been committed, one that deletes, one that collects, one that verifies. What a
 * manifest names can be had as long as a reader has it open. Also runs under ThreadSanitizer.
 */
#include "page_support.h"
#include "base/log.h"
#include "store/page_store_internal.h"

#include <string.h>

#define WRITERS 2u
#define ROUNDS 25u
#define PER_ROUND 40u

typedef struct {
  NcPageStore *store;
  pthread_mutex_t lock;
  GQueue committed; /* lock: of manifests that may be read and deleted: owned "w ROUND" numbers + 1 */
  unsigned writers_left; /* lock */
  unsigned read, collected, deleted; /* lock: how much has happened */
} World;

typedef struct {
  World *world;
  unsigned number;
} Thread;

static void
must(bool ok, GError **error)
{
  if (!ok)
    g_error("%s", *error ? (*error)->message : "failed, and did not say why");
}

/* Rounds of one writer overlap by half with those of the other, and with their own last one. */
static unsigned
first_block(unsigned writer, unsigned round)
{
  return (round * 2 + writer) * PER_ROUND / 2;
}

static char *
name_of(unsigned writer, unsigned round)
{
  return g_strdup_printf("m-%u-%u", writer, round);
}

static void *
write_some(void *data)
{
  const Thread *thread = data;
  World *w = thread->world;

  for (unsigned round = 0; round < ROUNDS; round++) {
    g_autoptr(GError) error = NULL;
    g_autofree char *name = name_of(thread->number, round);
    g_autoptr(NcPageStoreWriter) writer = nc_page_store_writer_new(w->store, &error);
    unsigned from = first_block(thread->number, round);
    must(test_put(writer, from, PER_ROUND / 2, &error) && test_put(writer, from + PER_ROUND / 2, PER_ROUND / 2, &error), &error);
    must(test_manifest(writer, name, from, PER_ROUND, &error), &error);
    nc_hold(&w->lock);
    g_queue_push_tail(&w->committed, GUINT_TO_POINTER(thread->number * ROUNDS + round + 1));
  }
  nc_hold(&w->lock);
  w->writers_left--;
  return NULL;
}

static bool
goes_on(World *w)
{
  nc_hold(&w->lock);
  return w->writers_left > 0;
}

/* One that was committed; false: none. ${take}: nobody else gets it after this. */
static bool
choose(World *w, bool take, unsigned *writer, unsigned *round)
{
  nc_hold(&w->lock);
  guint n = w->committed.length;
  if (n < (take ? 4 : 1))
    return false;
  gpointer one = take ? g_queue_pop_head(&w->committed) : g_queue_peek_nth(&w->committed, n / 3);
  *writer = (GPOINTER_TO_UINT(one) - 1) / ROUNDS;
  *round = (GPOINTER_TO_UINT(one) - 1) % ROUNDS;
  return true;
}

/* Everything it names is there, though it may be deleted and collected while we read. */
static void
read_through(World *w, unsigned writer, unsigned round)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *name = name_of(writer, round);
  g_autoptr(NcManifestReader) reader = nc_manifest_open(w->store, name, &error);
  NcManifestEntry entry;
  NcManifestOutcome outcome;
  unsigned n = 0;

  if (!reader) {
    g_assert_error(error, NC_ERROR, NC_ERROR_NOT_FOUND);
    return;
  }
  while ((outcome = nc_manifest_next(reader, &entry, &error)) == NC_MANIFEST_ENTRY)
    if (!nc_manifest_entry_is_hole(&entry))
      must(test_get(w->store, first_block(writer, round) + n++, &error), &error);
  must(outcome == NC_MANIFEST_END, &error);
  g_assert_cmpuint(n, ==, PER_ROUND);
  nc_hold(&w->lock);
  w->read++;
}

static void *
read_some(void *data)
{
  World *w = ((Thread *)data)->world;
  unsigned writer, round;

  while (goes_on(w)) {
    if (choose(w, false, &writer, &round))
      read_through(w, writer, round);
    else
      g_usleep(500);
  }
  return NULL;
}

static void *
delete_some(void *data)
{
  World *w = ((Thread *)data)->world;
  unsigned writer, round;

  while (goes_on(w)) {
    g_autoptr(GError) error = NULL;
    if (!choose(w, true, &writer, &round)) {
      g_usleep(500);
      continue;
    }
    g_autofree char *name = name_of(writer, round);
    must(nc_manifest_delete(w->store, name, &error), &error);
    nc_hold(&w->lock);
    w->deleted++;
  }
  return NULL;
}

static void *
collect_some(void *data)
{
  World *w = ((Thread *)data)->world;

  while (goes_on(w)) {
    g_autoptr(GError) error = NULL;
    if (!nc_page_store_gc(w->store, NULL, NULL, &error))
      g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
    else {
      nc_hold(&w->lock);
      w->collected++;
    }
    g_usleep(2000);
  }
  return NULL;
}

static void
say_finding(const NcPageStoreFinding *finding, gpointer data)
{
  g_printerr("%s %s at %llu: %s\n", nc_finding_kind_name(finding->kind), finding->file ? finding->file : "-",
             (unsigned long long)finding->offset, finding->text);
}

static void *
verify_some(void *data)
{
  World *w = ((Thread *)data)->world;

  while (goes_on(w)) {
    g_autoptr(GError) error = NULL;
    NcPageStoreVerifyReport report;
    NcPageStoreStats stats;
    if (!nc_page_store_verify(w->store, say_finding, NULL, NULL, &report, &error))
      g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
    else
      g_assert_cmpuint(report.findings + report.lost, ==, 0);
    nc_page_store_stats(w->store, &stats);
    g_usleep(3000);
  }
  return NULL;
}

/* What is made once, by GLib's once, which ThreadSanitizer can't see into: before there are threads. */
static void
make_what_is_made_once(const NcSealKey *key)
{
  uint8_t hash[NC_SHA256_BYTES], salt[NC_SEAL_SALT_BYTES];

  nc_sha256("", 0, hash);
  if (key)
    nc_sealer_free(nc_sealer_new(key, salt));
}

static void
everybody_at_once(gconstpointer data)
{
  const uint8_t bytes[32] = "a key that many threads do share";
  g_autoptr(NcSealKey) key = data ? nc_seal_key_new(bytes) : NULL;
  NcPageStoreOptions options = { .pack_bytes = 32 << 10, .key = key };
  g_autofree char *dir = test_directory();
  void *(*const work[])(void *) = { write_some, write_some, read_some, read_some, delete_some, collect_some, verify_some };
  pthread_t threads[G_N_ELEMENTS(work)];
  Thread what[G_N_ELEMENTS(work)];
  World w = { .writers_left = WRITERS };

  make_what_is_made_once(key);
  pthread_mutex_init(&w.lock, NULL);
  w.store = nc_page_store_open_hooked(dir, &options, NULL, NULL, 128, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS(work); i++) {
    what[i] = (Thread){ .world = &w, .number = i };
    g_assert_cmpint(pthread_create(&threads[i], NULL, work[i], &what[i]), ==, 0);
  }
  for (unsigned i = 0; i < G_N_ELEMENTS(work); i++)
    pthread_join(threads[i], NULL);
  g_test_message("%u read, %u deleted, %u collections", w.read, w.deleted, w.collected);
  for (guint i = 0; i < w.committed.length; i++) {
    unsigned number = GPOINTER_TO_UINT(g_queue_peek_nth(&w.committed, i)) - 1;
    g_autofree char *name = name_of(number / ROUNDS, number % ROUNDS);
    test_check_manifest(w.store, name, first_block(number / ROUNDS, number % ROUNDS), PER_ROUND);
  }
  g_assert_true(nc_page_store_gc(w.store, NULL, NULL, NULL));
  g_assert_cmpuint(test_verify(w.store, NULL), ==, 0);
  nc_page_store_close(w.store);
  g_queue_clear(&w.committed);
  pthread_mutex_destroy(&w.lock);
  test_remove(dir);
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  nc_log_init("test", NC_LOG_TEXT, NC_LOG_ERR);
  g_test_add_data_func("/page_store/everybody_at_once/plain", NULL, everybody_at_once);
  g_test_add_data_func("/page_store/everybody_at_once/encrypted", GINT_TO_POINTER(1), everybody_at_once);
  return g_test_run();
}
