/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/store_work.h"
#include "agent/store_damage.h"
#include "base/ident.h"
#include "base/log.h"

/* Between two looks whether another one (the gc after a deletion) is done. */
#define NC_WAIT_US 200000

typedef enum { NC_STORE_VERIFY, NC_STORE_GC, NC_STORE_WORK_COUNT } NcStoreWorkKind;

static const char *const nc_store_work_kinds[] = { [NC_STORE_VERIFY] = "verify", [NC_STORE_GC] = "gc" };
G_STATIC_ASSERT(G_N_ELEMENTS(nc_store_work_kinds) == NC_STORE_WORK_COUNT);

struct NcStoreWork {
  const NcConfig *config;
  NcPageStore *store;
  char *problem;
  NcCheckpoints *checkpoints;
  gint cancelled; /* atomic */

  /* fixed while the thread runs */
  NcStoreWorkKind kind;
  bool dry_run, rebuild_index;

  GMutex lock;      /* protects: */
  bool running;     /* ${thread} has not come to its end */
  GThread *thread;  /* NULL: none since the last was joined */
  int64_t count;    /* of what was begun: the id of the last one */
  json_t *activity; /* how the last one is called, or ended; NULL: none yet */
};

static NcPageStore *
nc_store_work_store(NcStoreWork *work, GError **error)
{
  if (!work->store)
    nc_fail(error, NC_ERROR_RESOURCE, "node %s has no page store: %s", work->config->node, work->problem);
  return work->store;
}

/* --- status --- */

static json_t *
nc_store_work_activity(NcStoreWork *work, const NcPageStoreStats *stats)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&work->lock);
  json_t *view = work->activity ? json_copy(work->activity) : json_null();

  if (work->running)
    json_object_set_new(view, "progress",
                        json_integer(stats->work_total ? (json_int_t)(stats->work_done * 100.0 / (double)stats->work_total) : 0));
  return view;
}

/* What may still be put. */
static uint64_t
nc_store_free_bytes(const NcPageStoreStats *stats)
{
  uint64_t of_budget = stats->budget_bytes > stats->used_bytes ? stats->budget_bytes - stats->used_bytes : 0;
  return stats->budget_bytes ? MIN(of_budget, stats->disk_free_bytes) : stats->disk_free_bytes;
}

json_t *
nc_store_work_status(NcStoreWork *work, json_t *args, GError **error)
{
  NcPageStoreStats stats;

  if (!nc_store_work_store(work, error))
    return NULL;
  nc_page_store_stats(work->store, &stats);
  g_autofree char *counted = stats.dead_known_us ? nc_time_format(stats.dead_known_us) : NULL;
  json_t *view = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:b, s:b}", "node", work->config->node, "directory",
                           work->config->store_dir, "used_bytes", (json_int_t)stats.used_bytes, "budget_bytes",
                           (json_int_t)stats.budget_bytes, "free_bytes", (json_int_t)nc_store_free_bytes(&stats), "disk_free_bytes",
                           (json_int_t)stats.disk_free_bytes, "encrypted", stats.encrypted, "read_only", stats.read_only, "failed",
                           stats.failed);
  nc_autojson json_t *counts =
      json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "packs", (json_int_t)stats.packs, "pack_bytes",
                (json_int_t)stats.pack_bytes, "pages", (json_int_t)stats.blocks, "page_bytes", (json_int_t)stats.block_bytes,
                "index_bytes", (json_int_t)stats.index_bytes, "manifests", (json_int_t)stats.manifests, "manifest_bytes",
                (json_int_t)stats.manifest_bytes, "ratio",
                stats.blocks && stats.pack_bytes ? json_real((double)stats.block_bytes / (double)stats.pack_bytes) : json_null(),
                "garbage_bytes", counted ? json_integer((json_int_t)stats.dead_bytes) : json_null(), "garbage_counted",
                counted ? json_string(counted) : json_null());
  json_object_update(view, counts);
  json_object_set_new(view, "activity", nc_store_work_activity(work, &stats));
  return view;
}

/* --- the thread --- */

static json_t *
nc_store_work_run_verify(NcStoreWork *work, GError **error)
{
  NcPageStoreVerifyReport report = { 0 };
  g_autoptr(NcStoreDamage) damage = nc_store_damage_new();

  if ((work->rebuild_index && !nc_page_store_rebuild_index(work->store, error)) ||
      !nc_page_store_verify(work->store, nc_store_damage_note, damage, &work->cancelled, &report, error))
    return NULL;
  json_t *result = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "packs", (json_int_t)report.packs, "pages", (json_int_t)report.blocks,
                             "bytes", (json_int_t)report.bytes, "manifests", (json_int_t)report.manifests, "findings",
                             (json_int_t)report.findings, "lost", (json_int_t)report.lost);
  nc_store_damage_describe(damage, work->checkpoints, result);
  if (report.findings || report.lost) {
    g_autofree char *text = nc_store_damage_text(result);
    nc_fail(error, NC_ERROR_CORRUPT, "the page store of node %s (%s) is damaged: %s", work->config->node, work->config->store_dir, text);
  }
  return result;
}

static json_t *
nc_store_work_run_gc(NcStoreWork *work, GError **error)
{
  const NcPageStoreGcOptions options = { .dry_run = work->dry_run, .cancelled = &work->cancelled };
  NcPageStoreGcReport report = { 0 };

  /* With NC_ERROR_RESOURCE there is a report, too. */
  if (!nc_page_store_gc(work->store, &options, &report, error) && !g_error_matches(*error, NC_ERROR, NC_ERROR_RESOURCE))
    return NULL;
  return json_pack("{s:I, s:I, s:I, s:i, s:i, s:i, s:i}", "live_bytes", (json_int_t)report.live_bytes, "garbage_bytes",
                   (json_int_t)report.dead_bytes, "freed_bytes", (json_int_t)report.freed_bytes, "packs_removed",
                   (int)report.packs_removed, "packs_rewritten", (int)report.packs_rewritten, "packs_held", (int)report.packs_held,
                   "packs_damaged", (int)report.packs_damaged);
}

/* What it found, a new reference, also with some errors. */
static json_t *
nc_store_work_run(NcStoreWork *work, GError **error)
{
  for (;;) {
    g_autoptr(GError) problem = NULL;
    json_t *result = work->kind == NC_STORE_GC ? nc_store_work_run_gc(work, &problem) : nc_store_work_run_verify(work, &problem);
    bool busy = problem && problem->code == NC_ERROR_CONFLICT;
    if (!busy || g_atomic_int_get(&work->cancelled)) {
      if (problem && g_atomic_int_get(&work->cancelled) && !result) {
        g_clear_error(&problem);
        nc_fail(&problem, NC_ERROR_CANCELLED, "the store's %s on node %s was cancelled", nc_store_work_kinds[work->kind],
                work->config->node);
      }
      if (problem)
        g_propagate_error(error, g_steal_pointer(&problem));
      return result;
    }
    g_usleep(NC_WAIT_US);
  }
}

static gpointer
nc_store_work_thread(gpointer data)
{
  NcStoreWork *work = data;
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *result = nc_store_work_run(work, &error);
  bool cancelled = error && error->code == NC_ERROR_CANCELLED;
  g_autofree char *finished = nc_time_format(nc_wall_us());

  nc_log(!error ? NC_LOG_NOTICE : cancelled ? NC_LOG_INFO : NC_LOG_ERR, "agent", "page store: %s: %s", nc_store_work_kinds[work->kind],
         error ? error->message : "done");
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&work->lock);
  json_t *activity = json_copy(work->activity);
  if (result)
    json_object_update(activity, result);
  json_object_set_new(activity, "state", json_string(!error ? "done" : cancelled ? "cancelled" : "failed"));
  json_object_set_new(activity, "error", error ? nc_error_to_json(error) : json_null());
  json_object_set_new(activity, "finished", json_string(finished));
  json_decref(work->activity);
  work->activity = activity;
  work->running = false;
  return NULL;
}

static bool
nc_store_work_begin(NcStoreWork *work, NcStoreWorkKind kind, bool dry_run, bool rebuild_index, GError **error)
{
  g_autofree char *started = nc_time_format(nc_wall_us());
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&work->lock);

  if (work->running)
    return nc_fail(error, NC_ERROR_CONFLICT, "the page store of node %s is busy with a %s: wait for it, or `novacron store cancel`",
                   work->config->node, nc_store_work_kinds[work->kind]);
  if (work->thread)
    g_thread_join(g_steal_pointer(&work->thread));
  work->kind = kind;
  work->dry_run = dry_run;
  work->rebuild_index = rebuild_index;
  work->running = true;
  g_atomic_int_set(&work->cancelled, 0);
  json_decref(work->activity);
  work->activity = json_pack("{s:I, s:s, s:b, s:s, s:s, s:n, s:n}", "id", (json_int_t)++work->count, "what", nc_store_work_kinds[kind],
                             "dry_run", dry_run, "state", "running", "started", started, "finished", "error");
  work->thread = g_thread_new("page-store-work", nc_store_work_thread, work);
  return true;
}

/* --- operations --- */

json_t *
nc_store_work_verify(NcStoreWork *work, json_t *args, GError **error)
{
  bool rebuild = nc_json_bool_or(args, "rebuild_index", false);

  if (!nc_store_work_store(work, error) || !nc_store_work_begin(work, NC_STORE_VERIFY, false, rebuild, error))
    return NULL;
  return nc_store_work_status(work, args, error);
}

json_t *
nc_store_work_gc(NcStoreWork *work, json_t *args, GError **error)
{
  bool dry_run = nc_json_bool_or(args, "dry_run", false);

  if (!nc_store_work_store(work, error) || !nc_store_work_begin(work, NC_STORE_GC, dry_run, false, error))
    return NULL;
  return nc_store_work_status(work, args, error);
}

json_t *
nc_store_work_cancel(NcStoreWork *work, json_t *args, GError **error)
{
  if (!nc_store_work_store(work, error))
    return NULL;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&work->lock);
    if (!work->running) {
      nc_fail(error, NC_ERROR_CONFLICT, "the page store of node %s is neither verified nor collected at the moment", work->config->node);
      return NULL;
    }
    g_atomic_int_set(&work->cancelled, 1);
  }
  return nc_store_work_status(work, args, error);
}

/* --- life --- */

NcStoreWork *
nc_store_work_new(const NcConfig *config, NcPageStore *store, const char *problem, NcCheckpoints *checkpoints)
{
  NcStoreWork *work = g_new0(NcStoreWork, 1);

  work->config = config;
  work->store = store;
  work->problem = g_strdup(problem ? problem : "it could not be opened");
  work->checkpoints = checkpoints;
  g_mutex_init(&work->lock);
  return work;
}

void
nc_store_work_free(NcStoreWork *work)
{
  if (!work)
    return;
  g_atomic_int_set(&work->cancelled, 1);
  if (work->thread)
    g_thread_join(work->thread);
  json_decref(work->activity);
  g_mutex_clear(&work->lock);
  g_free(work->problem);
  g_free(work);
}
