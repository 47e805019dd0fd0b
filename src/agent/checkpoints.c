/* SPDX-License-Identifier: Apache-2.0 */
/* The list of this node's checkpoints, and what people do with it. */
#include "agent/checkpoint.h"
#include "base/ident.h"
#include "base/log.h"
#include "checkpoint/image.h"

#include <string.h>

/* Failed ones that are remembered; the oldest make room. */
#define NC_FAILED_MAX 100u

static const char *const nc_checkpoint_states[] = {
  [NC_CHECKPOINT_MAKING] = "making",       [NC_CHECKPOINT_READY] = "ready",     [NC_CHECKPOINT_FAILED] = "failed",
  [NC_CHECKPOINT_CANCELLED] = "cancelled", [NC_CHECKPOINT_DAMAGED] = "damaged",
};
G_STATIC_ASSERT(G_N_ELEMENTS(nc_checkpoint_states) == NC_CHECKPOINT_STATE_COUNT);

/* --- one checkpoint --- */

NcCheckpoint *
nc_checkpoint_ref(NcCheckpoint *cp)
{
  g_atomic_int_inc(&cp->refs);
  return cp;
}

void
nc_checkpoint_unref(NcCheckpoint *cp)
{
  if (!cp || !g_atomic_int_dec_and_test(&cp->refs))
    return;
  json_decref(cp->meta);
  json_decref(cp->last_activity);
  g_clear_error(&cp->error);
  g_free(cp->warning);
  g_free(cp->id);
  g_free(cp->vm);
  g_free(cp);
}

static NcCheckpoint *
nc_checkpoint_new(NcCheckpoints *c, const char *id, const char *vm, json_t *meta)
{
  NcCheckpoint *cp = g_new0(NcCheckpoint, 1);
  cp->owner = c;
  cp->refs = 1;
  cp->id = g_strdup(id);
  cp->vm = g_strdup(vm);
  cp->meta = meta;
  return cp;
}

static json_t *
nc_checkpoint_activity_view_locked(NcCheckpoint *cp)
{
  if (!cp->last_activity)
    return json_null();
  json_t *view = json_copy(cp->last_activity);
  if (cp->activity) {
    uint64_t total = __atomic_load_n(&cp->progress_total, __ATOMIC_RELAXED),
             done = __atomic_load_n(&cp->progress, __ATOMIC_RELAXED);
    json_object_set_new(view, "state", json_string("running"));
    json_object_set_new(view, "progress", json_integer(total ? (json_int_t)(MIN(done, total) * 100 / total) : 0));
  }
  return view;
}

json_t *
nc_checkpoint_view(NcCheckpoint *cp)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&cp->owner->lock);
  json_t *view = cp->meta ? json_copy(cp->meta) : json_object();
  uint64_t total = __atomic_load_n(&cp->progress_total, __ATOMIC_RELAXED),
           done = __atomic_load_n(&cp->progress, __ATOMIC_RELAXED);

  json_object_del(view, "ram_blocks"); /* for QEMU, not for people */
  json_object_del(view, "version");
  json_object_del(view, "created_us");
  json_object_set_new(view, "id", json_string(cp->id));
  json_object_set_new(view, "machine", json_string(cp->vm));
  json_object_set_new(view, "state", json_string(nc_checkpoint_states[cp->state]));
  json_object_set_new(view, "error", cp->error ? nc_error_to_json(cp->error) : json_null());
  json_object_set_new(view, "warning", cp->warning ? json_string(cp->warning) : json_null());
  json_object_set_new(view, "activity", nc_checkpoint_activity_view_locked(cp));
  json_object_set_new(view, "progress",
                      cp->state == NC_CHECKPOINT_MAKING ? json_integer(total ? (json_int_t)(MIN(done, total) * 100 / total) : 0)
                                                        : json_integer(cp->state == NC_CHECKPOINT_READY ? 100 : 0));
  if (json_object_get(view, "stored_bytes"))
    json_object_set_new(view, "stored_bytes", json_integer(CLAMP(nc_json_int_or(view, "stored_bytes", 0), 0, INT64_C(1) << 60) + (json_int_t)cp->file_bytes));
  return view;
}

/* --- the list --- */

/* Makes room for another failure: those that nobody can use and that are remembered for whoever asks. */
static void
nc_checkpoints_forget_failures_locked(NcCheckpoints *c)
{
  GHashTableIter iter;
  gpointer value;
  const NcCheckpoint *oldest = NULL;
  unsigned failures = 0;

  g_hash_table_iter_init(&iter, c->table);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const NcCheckpoint *cp = value;
    if (cp->state != NC_CHECKPOINT_FAILED && cp->state != NC_CHECKPOINT_CANCELLED)
      continue;
    failures++;
    if (!oldest || strcmp(cp->id, oldest->id) < 0)
      oldest = cp;
  }
  if (failures >= NC_FAILED_MAX)
    g_hash_table_remove(c->table, oldest->id);
}

char *
nc_checkpoints_last_of(NcCheckpoints *c, const char *vm)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  GHashTableIter iter;
  gpointer value;
  const NcCheckpoint *last = NULL;

  g_hash_table_iter_init(&iter, c->table);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    const NcCheckpoint *cp = value;
    bool fits = cp->state == NC_CHECKPOINT_READY && g_str_equal(cp->vm, vm);
    if (fits && (!last || strcmp(cp->id, last->id) > 0)) /* ids sort by time */
      last = cp;
  }
  return last ? g_strdup(last->id) : NULL;
}

NcImage *
nc_checkpoints_open_last(NcCheckpoints *c, const char *vm, uint64_t most_entries)
{
  g_autofree char *id = c->deps.store ? nc_checkpoints_last_of(c, vm) : NULL;
  g_autoptr(GError) error = NULL;
  NcManifestInfo info = { 0 };
  nc_autojson json_t *meta = id ? nc_image_read_meta(c->deps.store, id, &info, &error) : NULL;

  if (meta && info.entries > most_entries)
    nc_fail(&error, NC_ERROR_RESOURCE, "it has %" G_GUINT64_FORMAT " pages and blocks, which are too many to be listed", info.entries);
  NcImage *image = meta && !error ? nc_image_open(c->deps.store, id, &error) : NULL;

  if (error)
    nc_log(NC_LOG_WARNING, "agent", "checkpoint %s of %s can't be opened: %s", id, vm, error->message);
  return image;
}

NcCheckpoint *
nc_checkpoints_add(NcCheckpoints *c, const char *id, const char *vm, json_t *meta)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  return nc_checkpoints_add_locked(c, id, vm, meta);
}

NcCheckpoint *
nc_checkpoints_add_locked(NcCheckpoints *c, const char *id, const char *vm, json_t *meta)
{
  NcCheckpoint *cp = nc_checkpoint_new(c, id, vm, meta);

  nc_checkpoints_forget_failures_locked(c);
  g_hash_table_replace(c->table, cp->id, nc_checkpoint_ref(cp));
  return cp;
}

static const char *
nc_checkpoint_arg_id(json_t *args, GError **error)
{
  const char *id = nc_json_string(args, "id", error);
  if (id && !nc_name_is_valid(id)) {
    nc_fail(error, NC_ERROR_INVALID, "\"%.64s\" can't be a checkpoint: " NC_NAME_RULE, id);
    return NULL;
  }
  return id;
}

static NcCheckpoint *
nc_checkpoints_find(NcCheckpoints *c, json_t *args, GError **error)
{
  const char *id = nc_checkpoint_arg_id(args, error);
  if (!id)
    return NULL;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  NcCheckpoint *cp = g_hash_table_lookup(c->table, id);
  if (cp)
    return nc_checkpoint_ref(cp);
  nc_fail(error, NC_ERROR_NOT_FOUND, "there is no checkpoint %s on node %s (`novacron checkpoint list`)", id,
          c->deps.config->node);
  return NULL;
}

static gint
nc_checkpoint_compare(gconstpointer a, gconstpointer b)
{
  return strcmp((*(NcCheckpoint *const *)a)->id, (*(NcCheckpoint *const *)b)->id);
}

json_t *
nc_checkpoints_list(NcCheckpoints *c, json_t *args, GError **error)
{
  g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func((GDestroyNotify)nc_checkpoint_unref);
  const char *vm = nc_json_string_or(args, "name", NULL);
  json_t *list = json_array();
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, c->table);
    while (g_hash_table_iter_next(&iter, NULL, &value))
      if (!vm || g_str_equal(vm, ((NcCheckpoint *)value)->vm) || !((NcCheckpoint *)value)->vm[0])
        g_ptr_array_add(found, nc_checkpoint_ref(value));
  }
  g_ptr_array_sort(found, nc_checkpoint_compare); /* ids sort by time */
  for (guint i = 0; i < found->len; i++) {
    json_t *view = nc_checkpoint_view(found->pdata[i]);
    json_object_del(view, "spec");
    json_array_append_new(list, view);
  }
  return list;
}

json_t *
nc_checkpoints_get(NcCheckpoints *c, json_t *args, GError **error)
{
  g_autoptr(NcCheckpoint) cp = nc_checkpoints_find(c, args, error);
  return cp ? nc_checkpoint_view(cp) : NULL;
}

NcPageStore *
nc_checkpoints_store(NcCheckpoints *c, GError **error)
{
  if (!c->deps.store)
    nc_fail(error, NC_ERROR_RESOURCE, "node %s has no page store: %s", c->deps.config->node, c->deps.store_problem);
  return c->deps.store;
}

/* --- activities --- */

static const char *
nc_checkpoint_participle(const char *activity)
{
  return g_str_equal(activity, "restore") ? "restored" : g_str_equal(activity, "copy") ? "copied" : "verified";
}

void
nc_checkpoint_cancel_locked(NcCheckpoint *cp)
{
  g_atomic_int_set(&cp->cancelled, 1);
  if (cp->worker)
    nc_checkpointer_break(cp->worker);
  if (cp->link)
    nc_peer_shutdown(cp->link);
}

void
nc_checkpoints_end_activity(NcCheckpoints *c, const char *id)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  NcCheckpoint *cp = g_hash_table_lookup(c->table, id);

  if (cp && cp->activity)
    nc_checkpoint_cancel_locked(cp);
}

/* What goes on here only can be waited for; what depends on a network can be given up. */
json_t *
nc_checkpoints_cancel(NcCheckpoints *c, json_t *args, GError **error)
{
  g_autoptr(NcCheckpoint) cp = nc_checkpoints_find(c, args, error);
  if (!cp)
    return NULL;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    bool can = cp->state == NC_CHECKPOINT_MAKING || (cp->activity && (g_str_equal(cp->activity, "copy") || json_object_get(cp->last_activity, "node")));
    if (!can) {
      nc_fail(error, NC_ERROR_CONFLICT, "nothing that can be cancelled happens to checkpoint %s: it is %s%s%s", cp->id,
              nc_checkpoint_states[cp->state], cp->activity ? ", and being " : "", cp->activity ? nc_checkpoint_participle(cp->activity) : "");
      return NULL;
    }
    nc_checkpoint_cancel_locked(cp);
  }
  return nc_checkpoint_view(cp);
}

NcCheckpoint *
nc_checkpoints_begin_activity(NcCheckpoints *c, json_t *args, const char *activity, GError **error)
{
  g_autoptr(NcCheckpoint) cp = nc_checkpoints_store(c, error) ? nc_checkpoints_find(c, args, error) : NULL;
  if (!cp)
    return NULL;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  if (cp->activity || cp->state != NC_CHECKPOINT_READY) {
    nc_fail(error, NC_ERROR_CONFLICT, "can't %s checkpoint %s: it is %s%s%s", activity, cp->id, nc_checkpoint_states[cp->state],
            cp->activity ? ", and being " : "", cp->activity ? nc_checkpoint_participle(cp->activity) : "");
    return NULL;
  }
  if (g_str_equal(activity, "restore") && json_object_get(c->left, cp->id)) { /* it has one place on record */
    nc_fail(error, NC_ERROR_CONFLICT, "can't restore checkpoint %s: what its last restore has left is not undone yet (novacrond's log says why)",
            cp->id);
    return NULL;
  }
  cp->activity = activity;
  g_atomic_int_set(&cp->cancelled, 0);
  __atomic_store_n(&cp->progress, 0, __ATOMIC_RELAXED);
  json_decref(cp->last_activity);
  cp->last_activity = json_pack("{s:s}", "what", activity);
  return g_steal_pointer(&cp);
}

void
nc_checkpoint_activity_ends(NcCheckpoint *cp, json_t *result, const GError *error)
{
  json_t *last = result ? result : json_object();
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&cp->owner->lock);

  json_object_set_new(last, "what", json_string(cp->activity));
  json_object_set_new(last, "state", json_string(error ? "failed" : "done"));
  json_object_set_new(last, "error", error ? nc_error_to_json(error) : json_null());
  cp->activity = NULL;
  json_decref(cp->last_activity);
  cp->last_activity = last;
}

static gpointer
nc_checkpoint_verify_thread(gpointer data)
{
  g_autoptr(NcCheckpoint) cp = data;
  NcCheckpoints *c = cp->owner;
  g_autoptr(GError) error = NULL;
  json_t *lost = NULL, *result = NULL;
  uint64_t bytes = 0;

  if (nc_image_verify(c->deps.store, cp->id, &cp->cancelled, &lost, &bytes, &error)) {
    if (json_array_size(lost)) {
      g_autofree char *text = nc_image_lost_text(lost);
      nc_fail(&error, NC_ERROR_CORRUPT, "checkpoint %s is damaged and can't be restored; lost: %s", cp->id, text);
    } else {
      g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
      g_clear_pointer(&cp->warning, g_free); /* it was read back */
    }
    result = json_pack("{s:o, s:I}", "lost", lost, "bytes", (json_int_t)bytes);
  }
  nc_log(error ? NC_LOG_ERR : NC_LOG_NOTICE, "agent", "%s",
         error ? error->message : "a checkpoint was verified: nothing is lost");
  nc_checkpoint_activity_ends(cp, result, error);
  nc_checkpoints_thread_ends(c);
  return NULL;
}

json_t *
nc_checkpoints_verify(NcCheckpoints *c, json_t *args, GError **error)
{
  NcCheckpoint *cp = nc_checkpoints_begin_activity(c, args, "verify", error);
  if (!cp)
    return NULL;
  json_t *view = nc_checkpoint_view(cp);
  nc_checkpoints_spawn(c, "checkpoint-verify", nc_checkpoint_verify_thread, cp);
  return view;
}

/* --- deleting --- */

static gpointer
nc_checkpoints_gc_thread(gpointer data)
{
  NcCheckpoints *c = data;
  const NcPageStoreGcOptions options = { .cancelled = &c->closing };
  NcPageStoreGcReport report = { 0 };
  g_autoptr(GError) error = NULL;

  if (nc_page_store_gc(c->deps.store, &options, &report, &error))
    nc_log(NC_LOG_INFO, "agent", "page store: %" G_GUINT64_FORMAT " bytes freed", report.freed_bytes);
  else if (error->code == NC_ERROR_CONFLICT)
    nc_log(NC_LOG_INFO, "agent", "page store: what the deleted checkpoint held is freed by the next gc: %s", error->message);
  else if (error->code != NC_ERROR_CANCELLED)
    nc_log(NC_LOG_WARNING, "agent", "page store: %s", error->message);
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    c->collecting = false;
  }
  nc_checkpoints_thread_ends(c);
  return NULL;
}

void
nc_checkpoints_collect(NcCheckpoints *c)
{
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    if (c->collecting || g_atomic_int_get(&c->closing))
      return; /* what this one does not see, the next one does */
    c->collecting = true;
  }
  nc_checkpoints_spawn(c, "page-store-gc", nc_checkpoints_gc_thread, c);
}

/* True: it is nobody's any more and can go. */
static bool
nc_checkpoint_let_go(NcCheckpoint *cp, bool *ret_in_store, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&cp->owner->lock);

  *ret_in_store = cp->state == NC_CHECKPOINT_READY || cp->state == NC_CHECKPOINT_DAMAGED;
  if (cp->activity)
    return nc_fail(error, NC_ERROR_CONFLICT, "checkpoint %s is being %s: delete it afterwards", cp->id, nc_checkpoint_participle(cp->activity));
  if (cp->state != NC_CHECKPOINT_MAKING)
    return true;
  nc_checkpoint_cancel_locked(cp);
  return false;
}

json_t *
nc_checkpoints_delete(NcCheckpoints *c, json_t *args, GError **error)
{
  g_autoptr(NcCheckpoint) cp = nc_checkpoints_find(c, args, error);
  g_autoptr(GError) refusal = NULL;
  bool in_store;

  if (!cp)
    return NULL;
  if (!nc_checkpoint_let_go(cp, &in_store, &refusal)) {
    if (!refusal)
      return nc_checkpoint_view(cp); /* one that is being made: it ends by itself now */
    g_propagate_error(error, g_steal_pointer(&refusal));
    return NULL;
  }
  if (in_store && !nc_manifest_delete(c->deps.store, cp->id, error))
    return NULL;
  json_t *view = nc_checkpoint_view(cp);
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    if (g_hash_table_lookup(c->table, cp->id) == cp)
      g_hash_table_remove(c->table, cp->id);
  }
  if (in_store) {
    nc_log(NC_LOG_NOTICE, "agent", "checkpoint %s of %s deleted", cp->id, cp->vm);
    nc_checkpoints_collect(c);
  }
  return view;
}

/* --- threads --- */

void
nc_checkpoints_spawn(NcCheckpoints *c, const char *name, GThreadFunc func, gpointer data)
{
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    c->running++;
  }
  g_thread_unref(g_thread_new(name, func, data));
}

void
nc_checkpoints_thread_ends(NcCheckpoints *c)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  c->running--;
  g_cond_broadcast(&c->ended);
}

/* --- life --- */

NcCheckpoints *
nc_checkpoints_new(const NcCheckpointsDeps *deps)
{
  NcCheckpoints *c = g_new0(NcCheckpoints, 1);
  c->deps = *deps;
  c->deps.store_problem = g_strdup(deps->store_problem ? deps->store_problem : "it could not be opened");
  g_mutex_init(&c->lock);
  g_mutex_init(&c->work_lock);
  g_cond_init(&c->ended);
  g_cond_init(&c->tick);
  c->table = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)nc_checkpoint_unref);
  c->work = json_object();
  c->left = json_object();
  c->holds = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)nc_machine_hold_end);
  c->keepers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)nc_keeper_free);
  return c;
}

static void
nc_checkpoints_cancel_all(NcCheckpoints *c)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  GHashTableIter iter;
  gpointer value;

  g_atomic_int_set(&c->closing, 1);
  g_cond_broadcast(&c->tick);
  g_hash_table_iter_init(&iter, c->table);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    nc_checkpoint_cancel_locked(value);
  while (c->running)
    g_cond_wait(&c->ended, &c->lock);
}

void
nc_checkpoints_free(NcCheckpoints *c)
{
  if (!c)
    return;
  nc_checkpoints_cancel_all(c);
  g_hash_table_unref(c->table);
  g_hash_table_unref(c->keepers);
  g_hash_table_unref(c->holds);
  json_decref(c->work);
  json_decref(c->left);
  g_free((char *)c->deps.store_problem);
  g_cond_clear(&c->ended);
  g_cond_clear(&c->tick);
  g_mutex_clear(&c->work_lock);
  g_mutex_clear(&c->lock);
  g_free(c);
}

static void
nc_checkpoints_load_one(NcCheckpoints *c, const char *name)
{
  NcManifestInfo info = { 0 };
  g_autoptr(GError) error = NULL;
  json_t *meta = nc_image_read_meta(c->deps.store, name, &info, &error);
  NcCheckpoint *cp = nc_checkpoint_new(c, name, nc_json_string_or(meta, "machine", ""), meta);

  cp->state = meta ? NC_CHECKPOINT_READY : NC_CHECKPOINT_DAMAGED;
  cp->file_bytes = info.file_bytes;
  if (error)
    nc_log(NC_LOG_ERR, "agent", "checkpoint %s: %s", name, error->message);
  cp->error = g_steal_pointer(&error);
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  if (g_hash_table_contains(c->table, cp->id))
    nc_checkpoint_unref(cp); /* made a moment ago, by a migration that goes on */
  else
    g_hash_table_insert(c->table, cp->id, cp);
}

static void
nc_checkpoints_load(NcCheckpoints *c)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(GArray) list = nc_manifest_list(c->deps.store, &error);

  for (guint i = 0; list && i < list->len; i++) {
    const NcManifestInfo *info = &g_array_index(list, NcManifestInfo, i);
    if (g_str_has_prefix(info->name, NC_CHECKPOINT_ID_PREFIX "-"))
      nc_checkpoints_load_one(c, info->name);
  }
  if (error)
    nc_log(NC_LOG_ERR, "agent", "the checkpoints of this node can't be listed: %s", error->message);
}

void
nc_checkpoints_recover(NcCheckpoints *c)
{
  if (c->deps.store)
    nc_checkpoints_load(c);
  nc_checkpoints_undo_left(c);
  nc_checkpoints_watch_left(c);
  nc_checkpoints_start_schedule(c);
}
