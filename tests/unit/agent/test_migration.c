/* SPDX-License-Identifier: Apache-2.0 */
/* Wanted back at the source, or started anew at the destination: who comes second sees who was first. */
#include "agent/migration.h"

#define MS INT64_C(1000)
#define SAID (1000000 * MS) /* run here */

static NcMigration *
migration_new(void)
{
  static const NcMigrationsDeps deps = { 0 };
  return nc_migration_new(&deps, true, "m-1", "web1", "host-b", 2, NULL);
}

static void
test_wanted_back_is_not_started(void)
{
  NcMigration *m = migration_new();

  g_assert_true(nc_migration_permit_start(m, SAID));
  nc_migration_want_back(m, true);
  g_assert_false(nc_migration_permit_start(m, SAID + 60000 * MS));
  g_assert_true(nc_migration_word_counts(m, SAID, SAID + (NC_PERMIT_MS + 1) * MS)); /* what was refused need not be waited for */
  nc_migration_want_back(m, false);
  g_assert_true(nc_migration_permit_start(m, SAID));
  nc_migration_free(m);
}

static void
test_when_the_word_counts(void)
{
  static const struct {
    int64_t permitted_ms, now_ms; /* from the word on; a permission of 1 ms: none */
    bool counts;
  } cases[] = {
    { 1, 0, false },
    { 1, NC_LET_GO_MS, false },
    { 1, NC_LET_GO_MS + 1, true },
    { -1, NC_LET_GO_MS + 1, false },
    { -1, NC_PERMIT_MS - 1, false },
    { -1, NC_PERMIT_MS, true },
    { -NC_PERMIT_MS, NC_LET_GO_MS, false },
    { -NC_PERMIT_MS, NC_LET_GO_MS + 1, true },
  };

  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    NcMigration *m = migration_new();
    g_test_message("case %zu", i);
    if (cases[i].permitted_ms <= 0)
      g_assert_true(nc_migration_permit_start(m, SAID + cases[i].permitted_ms * MS));
    nc_migration_want_back(m, true);
    g_assert_true(nc_migration_word_counts(m, SAID, SAID + cases[i].now_ms * MS) == cases[i].counts);
    nc_migration_free(m);
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/migration/wanted-back-is-not-started", test_wanted_back_is_not_started);
  g_test_add_func("/migration/when-the-word-counts", test_when_the_word_counts);
  return g_test_run();
}
