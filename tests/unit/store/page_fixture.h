/* SPDX-License-Identifier: Apache-2.0 */
/* A store of small packs with a writer, and short names for what tests do with it. */
#pragma once

#include "page_support.h"
#include "base/log.h"
#include "store/page_store_internal.h"

#include <string.h>

#define SMALL_PACK (64u << 10)

G_GNUC_UNUSED static const NcPageStoreOptions small_packs = { .pack_bytes = SMALL_PACK };

typedef struct {
  char *dir;
  NcPageStore *store;
  NcPageStoreWriter *writer;
  GError *error;
} Fixture;

static inline void
setup(Fixture *f, gconstpointer data)
{
  f->dir = test_directory();
  f->store = test_open(f->dir, &small_packs);
  f->writer = nc_page_store_writer_new(f->store, &f->error);
  g_assert_no_error(f->error);
}

static inline void
teardown(Fixture *f, gconstpointer data)
{
  nc_page_store_writer_free(f->writer);
  nc_page_store_close(f->store);
  g_clear_error(&f->error);
  test_remove(f->dir);
  g_free(f->dir);
}

static inline void
close_store(Fixture *f)
{
  g_clear_pointer(&f->writer, nc_page_store_writer_free);
  g_clear_pointer(&f->store, nc_page_store_close);
}

static inline void
reopen(Fixture *f, const NcPageStoreOptions *options)
{
  close_store(f);
  f->store = test_open(f->dir, options);
}

static inline void
new_writer(Fixture *f)
{
  nc_page_store_writer_free(f->writer);
  f->writer = nc_page_store_writer_new(f->store, &f->error);
  g_assert_no_error(f->error);
}

/* The last error has ${code} and ${text} in it; it is cleared. */
static inline void
assert_failed(Fixture *f, int code, const char *text)
{
  g_assert_error(f->error, NC_ERROR, code);
  if (!strstr(f->error->message, text))
    g_error("no '%s' in '%s'", text, f->error->message);
  g_clear_error(&f->error);
}

static inline NcPageStoreStats
stats(const Fixture *f)
{
  NcPageStoreStats s;
  nc_page_store_stats(f->store, &s);
  return s;
}

static inline NcPageStoreGcReport
gc(Fixture *f)
{
  NcPageStoreGcReport report;
  nc_page_store_gc(f->store, NULL, &report, &f->error);
  g_assert_no_error(f->error);
  return report;
}

typedef struct {
  const char *name;
  void (*run)(Fixture *, gconstpointer);
} PageTest;

static inline int
run_page_tests(int argc, char **argv, const PageTest *tests, size_t count)
{
  g_test_init(&argc, &argv, NULL);
  nc_log_init("test", NC_LOG_TEXT, NC_LOG_ERR);
  for (size_t i = 0; i < count; i++) {
    g_autofree char *path = g_strconcat("/page_store/", tests[i].name, NULL);
    g_test_add(path, Fixture, NULL, setup, tests[i].run, teardown);
  }
  return g_test_run();
}
