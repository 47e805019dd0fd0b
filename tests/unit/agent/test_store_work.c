/* SPDX-License-Identifier: Apache-2.0 */
/* The page store as a whole, for people: what is damaged is named with who loses by it, what is nobody's is counted and goes, one at a time. */
#include "agent/store_damage.h"
#include "agent/store_work.h"
#include "base/log.h"
#include "page_support.h"

#include <string.h>

#define PAGES 60u /* so few that a manifest has no parts of its own in the store (page_store_shared.h) */

typedef struct {
  char *dir;
  NcConfig config;
  NcPageStore *store;
  NcStoreWork *work;
} Bed;

static void
setup(Bed *b, gconstpointer data)
{
  const NcPageStoreOptions options = { .pack_bytes = 256u << 10 };

  b->dir = test_directory();
  b->config = (NcConfig){ .node = "host-a", .store_dir = b->dir };
  b->store = test_open(b->dir, &options);
  b->work = nc_store_work_new(&b->config, b->store, NULL, NULL);
}

static void
teardown(Bed *b, gconstpointer data)
{
  nc_store_work_free(b->work);
  nc_page_store_close(b->store);
  test_remove(b->dir);
  g_free(b->dir);
}

/* A checkpoint, as far as the store is concerned: PAGES pages that no compression makes smaller, the same for one ${seed}. */
static void
make_manifest(Bed *b, const char *name, uint32_t seed)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(NcPageStoreWriter) writer = nc_page_store_writer_new(b->store, &error);
  g_autoptr(NcManifestWriter) manifest = nc_manifest_begin(writer, name, &error);
  g_autoptr(GRand) random = g_rand_new_with_seed(seed);
  g_autofree uint8_t *pages = g_malloc(PAGES * 4096);
  NcPageBlock blocks[PAGES];

  for (size_t i = 0; i < PAGES * 4096 / 4; i++) {
    const guint32 word = g_rand_int(random);
    memcpy(pages + i * 4, &word, 4);
  }
  for (unsigned i = 0; i < PAGES; i++)
    blocks[i] = (NcPageBlock){ .data = pages + i * 4096, .length = 4096 };
  g_assert_true(nc_page_store_put(writer, blocks, PAGES, NC_PUT_COMPUTE, &error));
  for (unsigned i = 0; i < PAGES; i++)
    g_assert_true(nc_manifest_add(manifest, blocks[i].hash, 4096, &error));
  g_assert_true(nc_manifest_commit(manifest, NULL, 0, &error));
}

/* Its activity when it has ended. New reference. */
static json_t *
ended(Bed *b)
{
  for (unsigned i = 0; i < 3000; i++) {
    nc_autojson json_t *none = json_object();
    nc_autojson json_t *status = nc_store_work_status(b->work, none, NULL);
    json_t *activity = json_object_get(status, "activity");
    if (!g_str_equal(nc_json_string_or(activity, "state", ""), "running"))
      return json_incref(activity);
    g_usleep(10000);
  }
  g_error("it does not end");
  return NULL;
}

static json_t *
run(Bed *b, json_t *(*op)(NcStoreWork *, json_t *, GError **), const char *key)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *args = key ? json_pack("{s:b}", key, 1) : json_object();
  nc_autojson json_t *begun = op(b->work, args, &error);

  g_assert_no_error(error);
  g_assert_nonnull(begun);
  return ended(b);
}

static int64_t
number(json_t *object, const char *key)
{
  return nc_json_int_or(object, key, -1);
}

static void
status_counts(Bed *b, gconstpointer data)
{
  nc_autojson json_t *none = json_object();

  make_manifest(b, "c-1", 1);
  make_manifest(b, "c-2", 1); /* the same pages */
  nc_autojson json_t *status = nc_store_work_status(b->work, none, NULL);
  g_assert_cmpint(number(status, "manifests"), ==, 2);
  g_assert_cmpint(number(status, "pages"), ==, PAGES);
  g_assert_cmpint(number(status, "page_bytes"), ==, PAGES * 4096);
  g_assert_cmpint(number(status, "pack_bytes"), >, 0);
  g_assert_cmpint(number(status, "used_bytes"), >=, number(status, "pack_bytes") + number(status, "manifest_bytes"));
  g_assert_cmpint(number(status, "free_bytes"), ==, number(status, "disk_free_bytes")); /* no budget */
  g_assert_true(json_is_null(json_object_get(status, "garbage_bytes")));
  g_assert_true(json_is_null(json_object_get(status, "activity")));
  g_assert_false(nc_json_bool_or(status, "encrypted", true));
}

static void
what_is_nobodys_is_counted_and_goes(Bed *b, gconstpointer data)
{
  nc_autojson json_t *none = json_object();

  make_manifest(b, "c-1", 1);
  make_manifest(b, "c-2", 2);
  g_assert_true(nc_manifest_delete(b->store, "c-1", NULL));
  nc_autojson json_t *counted = run(b, nc_store_work_gc, "dry_run");
  g_assert_cmpstr(nc_json_string_or(counted, "state", ""), ==, "done");
  g_assert_cmpint(number(counted, "freed_bytes"), ==, 0);
  g_assert_cmpint(number(counted, "garbage_bytes"), >=, PAGES * 4096);
  nc_autojson json_t *before = nc_store_work_status(b->work, none, NULL);
  g_assert_cmpint(number(before, "garbage_bytes"), ==, number(counted, "garbage_bytes"));
  g_assert_cmpint(number(before, "pages"), ==, 2 * PAGES);
  nc_autojson json_t *freed = run(b, nc_store_work_gc, NULL);
  g_assert_cmpint(number(freed, "freed_bytes"), >=, PAGES * 4096);
  g_assert_cmpint(number(freed, "id"), ==, 2);
  nc_autojson json_t *after = nc_store_work_status(b->work, none, NULL);
  g_assert_cmpint(number(after, "pages"), ==, PAGES);
  nc_autojson json_t *verified = run(b, nc_store_work_verify, NULL);
  g_assert_cmpstr(nc_json_string_or(verified, "state", ""), ==, "done");
  g_assert_cmpint(number(verified, "pages"), ==, PAGES);
}

static void
who_loses_is_named(Bed *b, gconstpointer data)
{
  make_manifest(b, "c-1", 1);
  make_manifest(b, "c-2", 2);
  make_manifest(b, "c-3", 1);
  nc_autojson json_t *whole = run(b, nc_store_work_verify, NULL);
  g_assert_cmpstr(nc_json_string_or(whole, "state", ""), ==, "done");
  g_assert_cmpuint(json_array_size(json_object_get(whole, "damaged")), ==, 0);
  test_hurt_pack(b->dir, 0); /* where the pages of c-1 and c-3 are */
  nc_autojson json_t *hurt = run(b, nc_store_work_verify, NULL);
  g_assert_cmpstr(nc_json_string_or(hurt, "state", ""), ==, "failed");
  json_t *error = json_object_get(hurt, "error"), *damaged = json_object_get(hurt, "damaged");
  const char *message = nc_json_string_or(error, "message", "");
  g_assert_cmpstr(nc_json_string_or(error, "code", ""), ==, "corrupt");
  g_assert_nonnull(strstr(message, "host-a"));
  g_assert_nonnull(strstr(message, "c-1 ("));
  g_assert_nonnull(strstr(message, "c-3 ("));
  g_assert_null(strstr(message, "c-2"));
  g_assert_cmpuint(json_array_size(damaged), ==, 2);
  g_assert_cmpstr(nc_json_string_or(json_array_get(damaged, 1), "checkpoint", ""), ==, "c-3");
  g_assert_cmpint(number(json_array_get(damaged, 0), "pages"), >, 0);
  g_assert_cmpint(number(json_array_get(damaged, 0), "bytes"), ==, number(json_array_get(damaged, 0), "pages") * 4096);
  g_assert_cmpuint(json_array_size(json_object_get(hurt, "details")), >, 0);
}

static void
damage_that_nobody_needs_is_told_too(Bed *b, gconstpointer data)
{
  make_manifest(b, "c-1", 1);
  g_assert_true(nc_manifest_delete(b->store, "c-1", NULL));
  test_hurt_pack(b->dir, 0);
  nc_autojson json_t *hurt = run(b, nc_store_work_verify, "rebuild_index");
  g_assert_cmpstr(nc_json_string_or(hurt, "state", ""), ==, "failed");
  g_assert_cmpuint(json_array_size(json_object_get(hurt, "damaged")), ==, 0);
  g_assert_nonnull(strstr(nc_json_string_or(json_object_get(hurt, "error"), "message", ""), "no checkpoint loses anything"));
}

static void
what_is_told_is_bounded(Bed *b, gconstpointer data)
{
  g_autoptr(NcStoreDamage) damage = nc_store_damage_new();
  nc_autojson json_t *result = json_object();

  for (unsigned i = 0; i < 5000; i++) {
    g_autofree char *name = g_strdup_printf("c-%04u", i % 50);
    nc_store_damage_note(&(NcPageStoreFinding){ .kind = NC_FINDING_PACK, .file = "p", .offset = i, .text = "torn" }, damage);
    nc_store_damage_note(&(NcPageStoreFinding){ .kind = NC_FINDING_LOST, .manifest = name, .length = 10, .text = "gone" }, damage);
  }
  nc_store_damage_describe(damage, NULL, result);
  g_assert_cmpuint(json_array_size(json_object_get(result, "details")), ==, 100);
  g_assert_cmpuint(json_array_size(json_object_get(result, "damaged")), ==, 50);
  json_t *last = json_array_get(json_object_get(result, "damaged"), 49);
  g_assert_cmpstr(nc_json_string_or(last, "checkpoint", ""), ==, "c-0049");
  g_assert_cmpint(number(last, "pages"), ==, 100);
  g_assert_cmpint(number(last, "bytes"), ==, 1000);
  g_assert_true(json_is_null(json_object_get(last, "machine")));
  g_autofree char *text = nc_store_damage_text(result);
  g_assert_nonnull(strstr(text, "and 30 more"));
}

typedef struct {
  gint stop; /* atomic */
} Held;

/* The store is busy with something else for as long as it wants: a verify whose finding function does not return. */
static void
hold_up(const NcPageStoreFinding *finding, gpointer data)
{
  Held *held = data;
  while (!g_atomic_int_get(&held->stop))
    g_usleep(1000);
}

static gpointer
verify_slowly(gpointer data)
{
  void **args = data;
  NcPageStoreVerifyReport report;
  g_assert_true(nc_page_store_verify(args[0], hold_up, args[1], NULL, &report, NULL));
  return NULL;
}

static void
one_at_a_time_and_cancelled(Bed *b, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *none = json_object();
  Held held = { 0 };
  void *args[] = { b->store, &held };

  g_assert_null(nc_store_work_cancel(b->work, none, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  g_clear_error(&error);
  make_manifest(b, "c-1", 1);
  test_hurt_pack(b->dir, 0); /* so that there is a finding to be held up by */
  GThread *other = g_thread_new("other", verify_slowly, args);
  for (;;) { /* until the other one has begun */
    NcPageStoreStats stats;
    nc_page_store_stats(b->store, &stats);
    if (stats.work_total)
      break;
    g_usleep(1000);
  }
  nc_autojson json_t *begun = nc_store_work_gc(b->work, none, &error);
  g_assert_no_error(error);
  g_assert_cmpstr(nc_json_string_or(json_object_get(begun, "activity"), "state", ""), ==, "running");
  g_assert_null(nc_store_work_verify(b->work, none, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_CONFLICT);
  g_assert_nonnull(strstr(error->message, "busy with a gc"));
  g_clear_error(&error);
  nc_autojson json_t *cancelling = nc_store_work_cancel(b->work, none, &error);
  g_assert_no_error(error);
  nc_autojson json_t *activity = ended(b);
  g_assert_cmpstr(nc_json_string_or(activity, "state", ""), ==, "cancelled");
  g_assert_cmpstr(nc_json_string_or(json_object_get(activity, "error"), "code", ""), ==, "cancelled");
  /* And one that waits comes to its turn. */
  nc_autojson json_t *again = nc_store_work_verify(b->work, none, &error);
  g_assert_no_error(error);
  g_atomic_int_set(&held.stop, 1);
  g_thread_join(other);
  nc_autojson json_t *verified = ended(b);
  g_assert_cmpuint(json_array_size(json_object_get(verified, "damaged")), ==, 1);
}

static void
no_store_says_why(Bed *b, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *none = json_object();
  g_autoptr(NcStoreWork) work = nc_store_work_new(&b->config, NULL, "the disk is gone", NULL);

  g_assert_null(nc_store_work_status(work, none, &error));
  g_assert_error(error, NC_ERROR, NC_ERROR_RESOURCE);
  g_assert_nonnull(strstr(error->message, "the disk is gone"));
  g_assert_null(nc_store_work_gc(work, none, NULL));
}

int
main(int argc, char **argv)
{
  static const struct {
    const char *path;
    void (*run)(Bed *, gconstpointer);
  } tests[] = {
    { "/store_work/status_counts", status_counts },
    { "/store_work/what_is_nobodys_is_counted_and_goes", what_is_nobodys_is_counted_and_goes },
    { "/store_work/who_loses_is_named", who_loses_is_named },
    { "/store_work/damage_that_nobody_needs_is_told_too", damage_that_nobody_needs_is_told_too },
    { "/store_work/what_is_told_is_bounded", what_is_told_is_bounded },
    { "/store_work/one_at_a_time_and_cancelled", one_at_a_time_and_cancelled },
    { "/store_work/no_store_says_why", no_store_says_why },
  };

  g_test_init(&argc, &argv, NULL);
  nc_log_init("test", NC_LOG_TEXT, NC_LOG_ERR);
  for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
    g_test_add(tests[i].path, Bed, NULL, setup, tests[i].run, teardown);
  return g_test_run();
}
