/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints by the clock: made when they are due, and the oldest of them deleted; those that were taken before a migration go some
 * time after its end. Those that people made are left alone.
 */
#include "agent/checkpoint.h"
#include "base/ident.h"
#include "base/log.h"

#include <string.h>

#define NC_SCHEDULE_TICK_S 5
#define NC_EVERY_MAX_S (366 * 86400)
#define NC_KEEP_MAX 1000
#define NC_KEEP_DEFAULT 7

/* --- what is due --- */

/* One that a person has brought from another node is that person's; what a clock that was wrong has made does not count. */
static bool
nc_checkpoint_is_scheduled_locked(const NcCheckpoint *cp, const char *vm)
{
  return g_str_equal(cp->vm, vm) && nc_json_bool_or(cp->meta, "scheduled", false) && !json_object_get(cp->meta, "copied") &&
         nc_json_int_or(cp->meta, "created_us", 0) <= nc_wall_us();
}

/* When the last one was begun, whatever became of it; 0: there was none. Wall clock. */
static int64_t
nc_schedule_last_us(NcCheckpoints *c, const char *vm)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  GHashTableIter iter;
  gpointer value;
  int64_t last = 0;

  g_hash_table_iter_init(&iter, c->table);
  while (g_hash_table_iter_next(&iter, NULL, &value))
    if (nc_checkpoint_is_scheduled_locked(value, vm))
      last = MAX(last, nc_json_int_or(((NcCheckpoint *)value)->meta, "created_us", 0));
  return last;
}

/* ${said}: machine -> why its last one could not begin, so that the same is told once. */
static void
nc_schedule_look_at(NcCheckpoints *c, json_t *machine, GHashTable *said)
{
  const char *vm = nc_json_string_or(machine, "name", "");
  int64_t every_s = nc_json_int_or(json_object_get(machine, "spec"), "checkpoint_every_s", 0), now = nc_wall_us();
  g_autoptr(GError) error = NULL;

  if (every_s <= 0 || !g_str_equal(nc_json_string_or(machine, "state", ""), "running"))
    return;
  int64_t last = nc_schedule_last_us(c, vm);
  if (last <= now && now - last < every_s * G_USEC_PER_SEC) /* a clock that was put back must not stop it for ever */
    return;
  nc_autojson json_t *args = json_pack("{s:s, s:b}", "name", vm, "scheduled", 1);
  nc_autojson json_t *begun = nc_checkpoints_create(c, args, &error);
  if (begun) {
    g_hash_table_remove(said, vm);
  } else if (g_strcmp0(g_hash_table_lookup(said, vm), error->message) != 0) {
    g_hash_table_replace(said, g_strdup(vm), g_strdup(error->message));
    nc_log(error->code == NC_ERROR_CONFLICT ? NC_LOG_INFO : NC_LOG_WARNING, "agent", "machine %s: its checkpoint is due, but %s",
           vm, error->message);
  }
}

/* --- those before migrations --- */

/* Of a journal that is older than the migration nothing is known, either: then this is time to notice. */
#define NC_OUTLIVED_S 86400

/* Seconds since 1970; 0: there is no such time. */
static int64_t
nc_schedule_time_s(json_t *object, const char *key)
{
  g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(nc_json_string_or(object, key, ""), NULL);
  return time ? g_date_time_to_unix(time) : 0;
}

/* Somebody may still go back to it, or is about to. */
static bool
nc_schedule_is_rolled_back(NcCheckpoints *c, const char *migration)
{
  nc_autojson json_t *open = nc_journal_list_rollbacks(c->deps.journal, migration, true, NULL);
  return !open || json_array_size(open) > 0;
}

/* That of ${meta}'s migration was one of this node's, and is not kept any more: what was promised, from the checkpoint on, is over long ago. */
static bool
nc_schedule_has_outlived(NcCheckpoints *c, json_t *meta)
{
  int64_t keep_s = nc_json_int_or(meta, "checkpoint_keep_s", 0), created_us = nc_json_int_or(meta, "created_us", 0);
  bool is_own = g_str_equal(nc_json_string_or(meta, "node", ""), c->deps.config->node) && !json_object_get(meta, "copied");

  return is_own && keep_s > 0 && created_us > 0 && nc_wall_us() - created_us >= (keep_s + NC_OUTLIVED_S) * (int64_t)G_USEC_PER_SEC;
}

static bool
nc_schedule_has_expired(NcCheckpoints *c, json_t *meta)
{
  g_autoptr(GError) error = NULL;
  const char *migration = nc_json_string_or(meta, "migration", "");
  nc_autojson json_t *record = nc_journal_get_migration(c->deps.journal, migration, &error);
  int64_t ended_s = nc_schedule_time_s(record, "finished"), back_s = nc_schedule_time_s(json_object_get(meta, "copied"), "at");
  int64_t keep_s = nc_json_int_or(record, "checkpoint_keep_s", c->deps.config->migration_checkpoint_keep_s);

  if (g_error_matches(error, NC_ERROR, NC_ERROR_NOT_FOUND))
    return nc_schedule_has_outlived(c, meta);

  /* One that was saved on another node and came back is there to be used. */
  return ended_s > 0 && keep_s > 0 && nc_wall_us() / G_USEC_PER_SEC - MAX(ended_s, back_s) >= keep_s && !nc_schedule_is_rolled_back(c, migration);
}

/* The migration's record says all there is to know: whether it has ended, when, and how long its checkpoint is kept. */
static void
nc_schedule_expire(NcCheckpoints *c)
{
  g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func((GDestroyNotify)nc_checkpoint_unref);
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, c->table);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
      NcCheckpoint *cp = value;
      if (cp->state == NC_CHECKPOINT_READY && !cp->activity && json_object_get(cp->meta, "migration"))
        g_ptr_array_add(found, nc_checkpoint_ref(cp));
    }
  }
  for (guint i = 0; i < found->len; i++) {
    NcCheckpoint *cp = found->pdata[i];
    g_autoptr(GError) error = NULL;
    nc_autojson json_t *args = json_pack("{s:s}", "id", cp->id);
    if (!nc_schedule_has_expired(c, cp->meta))
      continue;
    nc_autojson json_t *gone = nc_checkpoints_delete(c, args, &error);
    if (gone)
      nc_checkpoint_audit(c, "checkpoint.deleted", cp->id, cp->vm, c->deps.config->node, json_pack("{s:s}", "why", "its migration ended long ago"));
    nc_log(gone ? NC_LOG_NOTICE : NC_LOG_WARNING, "agent", "checkpoint %s, taken before migration %s: %s", cp->id,
           nc_json_string_or(cp->meta, "migration", "?"), gone ? "its time is over" : error->message);
  }
}

static gpointer
nc_schedule_thread(gpointer data)
{
  NcCheckpoints *c = data;
  g_autoptr(GHashTable) said = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

  for (;;) {
    {
      g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
      if (!g_atomic_int_get(&c->closing))
        g_cond_wait_until(&c->tick, &c->lock, g_get_monotonic_time() + NC_SCHEDULE_TICK_S * G_TIME_SPAN_SECOND);
      if (g_atomic_int_get(&c->closing))
        break;
    }
    nc_autojson json_t *none = json_object();
    nc_autojson json_t *machines = nc_machines_list(c->deps.machines, none, NULL);
    size_t i;
    json_t *machine;
    json_array_foreach(machines, i, machine) nc_schedule_look_at(c, machine, said);
    nc_schedule_expire(c);
  }
  nc_checkpoints_thread_ends(c);
  return NULL;
}

void
nc_checkpoints_start_schedule(NcCheckpoints *c)
{
  if (c->deps.store)
    nc_checkpoints_spawn(c, "checkpoint-schedule", nc_schedule_thread, c);
}

/* --- what is too old --- */

static gint
nc_compare_ids(gconstpointer a, gconstpointer b)
{
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void
nc_checkpoints_prune(NcCheckpoints *c, const char *vm, unsigned keep)
{
  g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, c->table);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
      const NcCheckpoint *cp = value;
      if (nc_checkpoint_is_scheduled_locked(cp, vm) && cp->state == NC_CHECKPOINT_READY)
        g_ptr_array_add(ids, g_strdup(cp->id));
    }
  }
  g_ptr_array_sort(ids, nc_compare_ids); /* ids sort by time */
  for (guint i = 0; i + keep < ids->len; i++) {
    g_autoptr(GError) error = NULL;
    nc_autojson json_t *args = json_pack("{s:s}", "id", ids->pdata[i]);
    nc_autojson json_t *gone = nc_checkpoints_delete(c, args, &error);
    if (gone)
      nc_checkpoint_audit(c, "checkpoint.deleted", ids->pdata[i], vm, c->deps.config->node, json_pack("{s:s, s:i}", "why", "retention", "keep", (int)keep));
    else
      nc_log(NC_LOG_INFO, "agent", "machine %s: %s", vm, error->message);
  }
}

/* --- setting it --- */

json_t *
nc_checkpoints_schedule(NcCheckpoints *c, json_t *args, GError **error)
{
  const char *vm = nc_json_string(args, "name", error);
  int64_t every_s, keep = 0; /* 0: as it is */

  if (!vm || !nc_json_int(args, "every_s", 0, NC_EVERY_MAX_S, &every_s, error) ||
      (json_object_get(args, "keep") && !nc_json_int(args, "keep", 1, NC_KEEP_MAX, &keep, error)))
    return NULL;
  NcMachineHold *hold = nc_machines_hold_any(c->deps.machines, vm, "schedule", error);
  if (!hold)
    return NULL;
  nc_autojson json_t *present = nc_machine_hold_spec(hold);
  nc_autojson json_t *spec = json_copy(present);
  json_object_set_new(spec, "checkpoint_every_s", json_integer((json_int_t)every_s));
  if (keep == 0)
    keep = nc_json_int_or(present, "checkpoint_keep", NC_KEEP_DEFAULT);
  json_object_set_new(spec, "checkpoint_keep", json_integer((json_int_t)keep));
  bool ok = nc_machine_hold_set_spec(hold, spec, error);
  nc_machine_hold_end(hold);
  return ok ? nc_machines_get(c->deps.machines, args, error) : NULL;
}
