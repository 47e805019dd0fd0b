/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What reading and writing the fleet's database costs when it holds 100 000 finished migrations, with their events.
 *
 * fleetdb_bench [DATABASE]: a file in a temporary directory if left out; with NC_TEST_POSTGRES (tests/lib/with_postgres.py) that server. Every list is
 * walked to its end, page by page of 100; a page's time is that of nc_fleetdb_list_...(), with the objects made. Then what one write costs: submitting,
 * starting and ending migrations.
 *
 * fleetdb_bench --fill FILE: makes that database and ends, for controller_bench.py.
 *
 * Exit status 1 if any page took 50 ms or more. Wall time of this process; nothing else should run.
 */
#include "fleetdb/events.h"
#include "fleetdb/fleetdb_internal.h"
#include "fleetdb/migrations.h"

#include <glib/gstdio.h>
#include <stdio.h>

#define MIGRATIONS 100000
#define EVENTS_EACH 4
#define NODES 50
#define PAGE 100u
#define WRITES 200
#define TARGET_MS 50.0

static double
now_ms(void)
{
  return (double)g_get_monotonic_time() / 1e3;
}

static void
must(bool ok, GError *error)
{
  if (!ok)
    g_error("%s", error ? error->message : "failed without a reason");
}

/* --- what is in it --- */

/* What a migration's record is like: options, and what came out of it. */
static char *
long_result(void)
{
  GString *text = g_string_new("{\"rounds\":[");
  for (int i = 0; i < 12; i++)
    g_string_append_printf(text, "%s{\"dirty_rate_bps\":%d,\"pages\":%d,\"wire_bytes\":%d}", i ? "," : "", 81000000 - i, 65536 >> i, 90000000 >> i);
  g_string_append(text, "],\"downtime_ms\":41,\"total_ms\":9120,\"wire_bytes\":180000000}");
  return g_string_free(text, FALSE);
}

#define COUNT "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<$1) "

static bool
fill(NcFleetDb *db, gpointer data, GError **error)
{
  g_autofree char *result = long_result();
  const NcSqlValue migrations[] = { NC_SQL_INT(MIGRATIONS), NC_SQL_TEXT(result) };
  const NcSqlValue events[] = { NC_SQL_INT((int64_t)MIGRATIONS * EVENTS_EACH) };

  return nc_fleetdb_change(db,
                           COUNT "INSERT INTO migration(id, machine, source, destination, state, is_finished, priority, attempts, epoch, batch,"
                                 " evacuation, actor, submitted_us, started_us, finished_us, not_before_us, reason, cancel_reason, request,"
                                 " result) SELECT 'mig-' || i, 'machine-' || (i % 2000), 'node-' || (i % " G_STRINGIFY(NODES) "), 'node-' ||"
                                 " ((i+7) % " G_STRINGIFY(NODES) "), CASE WHEN i % 20 = 0 THEN 'failed' ELSE 'completed' END, 1, 'normal', 1, 1,"
                                 " 'batch-' || (i / 500), '', 'uid:0', i, i, i, 0, '', '', '{\"max_downtime_ms\":300,\"algorithm\":\"auto\"}', $2"
                                 " FROM n",
                           migrations, 2, error) &&
         nc_fleetdb_change(db,
                           COUNT "INSERT INTO event(at_us, kind, subject, migration, detail) SELECT i, 'migration.state', 'mig-' || (i / "
                                 G_STRINGIFY(EVENTS_EACH) "), 'mig-' || (i / " G_STRINGIFY(EVENTS_EACH) "),"
                                 " '{\"attempt\":1,\"reason\":\"\",\"state\":\"running\"}' FROM n",
                           events, 1, error);
}

/* --- pages --- */

typedef struct {
  GArray *times_ms; /* double */
  unsigned rows;
} Walk;

static int
compare(gconstpointer a, gconstpointer b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* true: within the target. */
static bool
report(const char *name, Walk *walk)
{
  g_array_sort(walk->times_ms, compare);
  double median = g_array_index(walk->times_ms, double, walk->times_ms->len / 2);
  double most = g_array_index(walk->times_ms, double, walk->times_ms->len - 1);
  printf("%-36s %7u rows %6u pages  median %6.2f ms  most %6.2f ms\n", name, walk->rows, walk->times_ms->len, median, most);
  g_array_free(walk->times_ms, TRUE);
  return most < TARGET_MS;
}

static bool
walk_migrations(NcFleetDb *db, const char *name, const NcMoveFilter *filter)
{
  Walk walk = { .times_ms = g_array_new(FALSE, FALSE, sizeof(double)) };
  g_autofree char *cursor = NULL;

  do {
    g_autoptr(GError) error = NULL;
    char *next = NULL;
    double begin = now_ms();
    nc_autojson json_t *rows = nc_fleetdb_list_migrations(db, filter, &(NcPage){ cursor, PAGE }, &next, &error);
    double took = now_ms() - begin;
    must(rows != NULL, error);
    g_array_append_val(walk.times_ms, took);
    walk.rows += (unsigned)json_array_size(rows);
    g_free(cursor);
    cursor = next;
  } while (cursor);
  return report(name, &walk);
}

static bool
walk_events(NcFleetDb *db, const char *name)
{
  Walk walk = { .times_ms = g_array_new(FALSE, FALSE, sizeof(double)) };
  uint64_t last = 0;

  for (;;) {
    g_autoptr(GError) error = NULL;
    double begin = now_ms();
    nc_autojson json_t *rows = nc_fleetdb_list_events(db, last, NULL, PAGE, &error);
    double took = now_ms() - begin;
    must(rows != NULL, error);
    size_t count = json_array_size(rows);
    if (count == 0)
      break;
    g_array_append_val(walk.times_ms, took);
    walk.rows += (unsigned)count;
    last = (uint64_t)json_integer_value(json_object_get(json_array_get(rows, count - 1), "id"));
  }
  return report(name, &walk);
}

static bool
walk_all(NcFleetDb *db)
{
  static const struct {
    const char *name;
    NcMoveFilter filter;
  } walks[] = {
    { "all", { 0 } },
    { "finished", { .selection = NC_MOVES_FINISHED } },
    { "finished, oldest first", { .selection = NC_MOVES_FINISHED, .is_oldest_first = true } },
    { "state failed (one of 20)", { .state = "failed" } },
    { "of a machine", { .machine = "machine-7" } },
    { "from or to a node", { .node = "node-7" } },
    { "of a batch", { .batch = "batch-100" } },
    { "failed, from or to a node", { .node = "node-10", .state = "failed" } },
    { "not finished (none)", { .selection = NC_MOVES_UNFINISHED } },
  };
  bool ok = true;

  for (size_t i = 0; i < G_N_ELEMENTS(walks); i++)
    ok = walk_migrations(db, walks[i].name, &walks[i].filter) && ok;
  return walk_events(db, "events") && ok;
}

/* --- writes --- */

typedef struct {
  char *id, *machine;
  unsigned phase, attempt;
} Life;

static bool
live(NcFleetDb *db, gpointer data, GError **error)
{
  Life *life = data;
  const NcMoveRequest request = { .id = life->id, .machine = life->machine, .source = "node-1", .priority = NC_PRIORITY_NORMAL, .actor = "x" };
  const NcMoveStep step = { .id = life->id, .attempt = life->attempt, .to = life->phase == 2 ? NC_MOVE_RUNNING : NC_MOVE_COMPLETED };

  if (life->phase == 0)
    return nc_fleetdb_submit(db, &request, error);
  return life->phase == 1 ? nc_fleetdb_start(db, life->id, "node-1", "node-2", &life->attempt, error) : nc_fleetdb_step(db, &step, error);
}

static void
time_writes(NcFleetDb *db, uint64_t epoch)
{
  static const char *const names[] = { "write: submit", "write: record a start", "write: running", "write: completed" };
  double spent[G_N_ELEMENTS(names)] = { 0 };

  for (int i = 0; i < WRITES; i++) {
    Life life = { .id = g_strdup_printf("new-%d", i), .machine = g_strdup_printf("new-vm-%d", i) };
    for (life.phase = 0; life.phase < G_N_ELEMENTS(names); life.phase++) {
      g_autoptr(GError) error = NULL;
      double begin = now_ms();
      must(nc_fleetdb_write(db, epoch, live, &life, &error), error);
      spent[life.phase] += now_ms() - begin;
    }
    g_free(life.id);
    g_free(life.machine);
  }
  for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
    printf("%-36s %7d times               mean %6.2f ms\n", names[i], WRITES, spent[i] / WRITES);
}

static void
remove_files(const char *dir)
{
  static const char *const names[] = { "fleet.db", "fleet.db-wal", "fleet.db-shm", "fleet.db.lock" };
  for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
    g_autofree char *path = g_build_filename(dir, names[i], NULL);
    g_unlink(path);
  }
  g_rmdir(dir);
}

/* ${path} is left as a controller's that has ended. */
static int
fill_only(const char *path)
{
  const NcFleetDbOptions patient = { .statement_ms = 120000, .patience_ms = 5000 };
  g_autoptr(GError) error = NULL;
  NcFleetDb *db = nc_fleetdb_open(path, &patient, &error);
  NcFleetLease lease;

  must(db != NULL, error);
  must(nc_fleetdb_take_lease(db, "bench", "", 3600000, &lease, &error), error);
  must(nc_fleetdb_write(db, lease.epoch, fill, NULL, &error), error);
  must(nc_fleetdb_release_lease(db, "bench", lease.epoch, &error), error);
  nc_fleetdb_close(db);
  return 0;
}

int
main(int argc, char **argv)
{
  if (argc == 3 && g_str_equal(argv[1], "--fill"))
    return fill_only(argv[2]);
  const NcFleetDbOptions patient = { .statement_ms = 120000, .patience_ms = 5000 };
  g_autoptr(GError) error = NULL;
  g_autofree char *dir = g_dir_make_tmp("nc-fleetdb-bench-XXXXXX", NULL), *file = g_build_filename(dir, "fleet.db", NULL);
  const char *server = g_getenv("NC_TEST_POSTGRES");
  NcFleetDb *db = nc_fleetdb_open(argc > 1 ? argv[1] : server ? server : file, &patient, &error);
  NcFleetLease lease;

  must(db != NULL, error);
  must(nc_fleetdb_take_lease(db, "bench", "", 3600000, &lease, &error), error);
  double begin = now_ms();
  must(nc_fleetdb_write(db, lease.epoch, fill, NULL, &error), error);
  if (nc_fleetdb_is_shared(db))
    must(nc_fleetdb_query(db, "ANALYZE", NULL, 0, NULL, NULL, &error), error); /* its autovacuum would, in a minute */
  printf("%s: %d migrations, %d events, made in %.1f s\n", nc_fleetdb_is_shared(db) ? "PostgreSQL" : "SQLite", MIGRATIONS,
         MIGRATIONS * EVENTS_EACH, (now_ms() - begin) / 1e3);
  bool ok = walk_all(db);
  time_writes(db, lease.epoch);
  printf("pages of %u below %.0f ms: %s\n", PAGE, TARGET_MS, ok ? "yes" : "NO");
  nc_fleetdb_close(db);
  remove_files(dir);
  return ok ? 0 : 1;
}
