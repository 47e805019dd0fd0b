/* SPDX-License-Identifier: Apache-2.0 */
/* An empty journal in a directory of its own, for tests of what is kept in it. */
#pragma once

#include "store/journal.h"

#include <glib/gstdio.h>

typedef struct {
  char *dir, *path;
  NcJournal *journal;
} Fixture;

/* Closes it first, if it is open. */
static inline void
reopen(Fixture *f)
{
  g_autoptr(GError) error = NULL;
  nc_journal_close(f->journal);
  f->journal = nc_journal_open(f->path, &error);
  g_assert_no_error(error);
}

static inline void
setup(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  f->dir = g_dir_make_tmp("nc-journal-XXXXXX", &error);
  g_assert_no_error(error);
  f->path = g_build_filename(f->dir, "journal.db", NULL);
  reopen(f);
}

static inline void
teardown(Fixture *f, gconstpointer data)
{
  static const char *const names[] = { "journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock" };
  nc_journal_close(f->journal);
  for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autofree char *path = g_build_filename(f->dir, names[i], NULL);
    g_unlink(path);
  }
  g_assert_cmpint(g_rmdir(f->dir), ==, 0);
  g_free(f->path);
  g_free(f->dir);
}
