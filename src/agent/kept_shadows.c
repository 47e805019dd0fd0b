/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/kept_shadows.h"
#include "agent/kept_shadows_file.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define NC_KEPT_LOOK_US (60 * INT64_C(1000000)) /* for what has become too old */
#define NC_HOUR_US (3600 * INT64_C(1000000))

struct NcKeptShadows {
  const NcConfig *config;
  char *directory;
  GThread *writer;
  gint stop; /* atomic, and set with the lock held */

  GMutex lock; /* protects what follows */
  GCond news;
  GPtrArray *shadows; /* of NcKeptShadow, the oldest first */
};

static void
nc_kept_unlink(NcKeptShadows *k, const char *migration)
{
  g_autofree char *path = nc_kept_shadow_path(k->directory, migration);
  unlink(path);
}

static void
nc_kept_remove_locked(NcKeptShadows *k, guint index)
{
  NcKeptShadow *s = k->shadows->pdata[index];
  nc_kept_unlink(k, s->migration);
  g_ptr_array_remove_index(k->shadows, index);
}

static bool
nc_kept_index_locked(NcKeptShadows *k, const char *migration, guint *ret)
{
  for (guint i = 0; i < k->shadows->len; i++) {
    if (!g_str_equal(((NcKeptShadow *)k->shadows->pdata[i])->migration, migration))
      continue;
    *ret = i;
    return true;
  }
  return false;
}

/* What is too old, or of a time that is to come (the clock was set), and then the oldest of what is too much. */
static void
nc_kept_expire_locked(NcKeptShadows *k)
{
  int64_t now_us = nc_wall_us(), most_us = (int64_t)k->config->kept_shadow_hours * NC_HOUR_US;
  uint64_t room = (uint64_t)k->config->kept_shadow_mib << 20;

  for (guint i = k->shadows->len; i-- > 0;) {
    const NcKeptShadow *s = k->shadows->pdata[i];
    int64_t age_us = now_us - s->kept_us;
    uint64_t bytes = nc_kept_shadow_bytes(s);
    if (age_us > most_us || age_us < -NC_HOUR_US || bytes > room) {
      nc_log(NC_LOG_INFO, "agent", "the kept shadow of %s (migration %s) goes: %s", s->vm, s->migration,
             bytes > room ? "all of them are too large (kept_shadow_mib)" : "it is too old (kept_shadow_hours)");
      nc_kept_remove_locked(k, i);
      continue;
    }
    room -= bytes;
  }
}

/* --- the writer --- */

/* One that has to be written, as a copy with a descriptor of its own; NULL: none. */
static NcKeptShadow *
nc_kept_next_locked(NcKeptShadows *k)
{
  for (guint i = 0; i < k->shadows->len; i++) {
    NcKeptShadow *s = k->shadows->pdata[i];
    if (s->is_done)
      continue;
    s->is_done = true;
    NcKeptShadow *copy = g_new0(NcKeptShadow, 1);
    *copy = (NcKeptShadow){ .vm = g_strdup(s->vm),
                            .peer = g_strdup(s->peer),
                            .migration = g_strdup(s->migration),
                            .sha256 = g_strdup(s->sha256),
                            .kept_us = s->kept_us,
                            .frames = s->frames,
                            .fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 0) };
    return copy;
  }
  return NULL;
}

/* It is on disk (${ok}), and if nobody has taken it meanwhile, its memory can go; without disk it goes entirely. */
static void
nc_kept_written_locked(NcKeptShadows *k, const NcKeptShadow *copy, bool ok)
{
  guint index;

  if (!nc_kept_index_locked(k, copy->migration, &index))
    nc_kept_unlink(k, copy->migration);
  else if (!ok)
    nc_kept_remove_locked(k, index);
  else
    nc_fd_clear(&((NcKeptShadow *)k->shadows->pdata[index])->fd);
}

static void
nc_kept_write_locked(NcKeptShadows *k, const NcKeptShadow *copy)
{
  g_autoptr(GError) error = NULL;

  g_mutex_unlock(&k->lock);
  bool ok = nc_kept_shadow_write(k->directory, copy, &k->stop, &error);
  if (!ok)
    nc_log(NC_LOG_WARNING, "agent", "the shadow of %s is not kept, its way back will cost as much as a first one: %s", copy->vm,
           error->message);
  g_mutex_lock(&k->lock);
  nc_kept_written_locked(k, copy, ok);
}

static gpointer
nc_kept_writer(gpointer data)
{
  NcKeptShadows *k = data;

  g_mutex_lock(&k->lock);
  while (!g_atomic_int_get(&k->stop)) {
    nc_kept_expire_locked(k);
    g_autoptr(NcKeptShadow) copy = nc_kept_next_locked(k);
    if (copy)
      nc_kept_write_locked(k, copy);
    else
      g_cond_wait_until(&k->news, &k->lock, g_get_monotonic_time() + NC_KEPT_LOOK_US);
  }
  g_mutex_unlock(&k->lock);
  return NULL;
}

/* --- beginning and end --- */

static gint
nc_kept_by_age(gconstpointer a, gconstpointer b)
{
  const NcKeptShadow *x = *(const NcKeptShadow *const *)a, *y = *(const NcKeptShadow *const *)b;
  return (x->kept_us > y->kept_us) - (x->kept_us < y->kept_us);
}

/* Whatever is in the directory and no kept shadow goes: nobody else writes there. */
static void
nc_kept_scan(NcKeptShadows *k)
{
  g_autoptr(GDir) dir = g_dir_open(k->directory, 0, NULL);
  const char *name;

  while (dir && (name = g_dir_read_name(dir)) != NULL) {
    g_autofree char *path = g_build_filename(k->directory, name, NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(NcKeptShadow) s = g_str_has_suffix(name, NC_KEPT_SUFFIX) ? nc_kept_shadow_look(path, &error) : NULL;
    g_autofree char *right = s ? nc_kept_shadow_path(k->directory, s->migration) : NULL;
    if (s && g_str_equal(right, path)) {
      g_ptr_array_add(k->shadows, g_steal_pointer(&s));
      continue;
    }
    if (error)
      nc_log(NC_LOG_WARNING, "agent", "a kept shadow goes: %s", error->message);
    unlink(path);
  }
  g_ptr_array_sort(k->shadows, nc_kept_by_age);
}

NcKeptShadows *
nc_kept_shadows_new(const NcConfig *config)
{
  NcKeptShadows *k = g_new0(NcKeptShadows, 1);
  g_autoptr(GError) error = NULL;

  k->config = config;
  k->directory = g_build_filename(config->data_dir, "shadows", NULL);
  k->shadows = g_ptr_array_new_with_free_func((GDestroyNotify)nc_kept_shadow_free);
  g_mutex_init(&k->lock);
  g_cond_init(&k->news);
  if (!nc_mkdir_p(k->directory, 0700, &error))
    nc_log(NC_LOG_WARNING, "agent", "no shadows will be kept: %s", error->message);
  nc_kept_scan(k);
  k->writer = g_thread_new("kept-shadows", nc_kept_writer, k);
  return k;
}

void
nc_kept_shadows_free(NcKeptShadows *k)
{
  if (!k)
    return;
  g_mutex_lock(&k->lock);
  g_atomic_int_set(&k->stop, 1);
  g_cond_signal(&k->news);
  g_mutex_unlock(&k->lock);
  g_thread_join(k->writer);
  g_ptr_array_unref(k->shadows);
  g_mutex_clear(&k->lock);
  g_cond_clear(&k->news);
  g_free(k->directory);
  g_free(k);
}

bool
nc_kept_shadows_wanted(NcKeptShadows *k)
{
  return k->config->kept_shadow_mib > 0;
}

int
nc_kept_shadows_new_file(NcKeptShadows *k)
{
  return nc_kept_shadows_wanted(k) ? nc_kept_shadow_memory() : -1;
}

/* --- one of them --- */

void
nc_kept_shadows_keep(NcKeptShadows *k, const NcKeptShadowName *name, int fd)
{
  uint32_t frames = nc_kept_shadow_count(fd);
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&k->lock);

  for (guint i = k->shadows->len; i-- > 0;) {
    const NcKeptShadow *s = k->shadows->pdata[i];
    if ((g_str_equal(s->vm, name->vm) && g_str_equal(s->peer, name->peer)) || g_str_equal(s->migration, name->migration))
      nc_kept_remove_locked(k, i);
  }
  NcKeptShadow *s = g_new0(NcKeptShadow, 1);
  *s = (NcKeptShadow){ .vm = g_strdup(name->vm),
                       .peer = g_strdup(name->peer),
                       .migration = g_strdup(name->migration),
                       .sha256 = g_strdup(name->sha256),
                       .kept_us = nc_wall_us(),
                       .frames = frames,
                       .fd = fd,
                       .is_done = k->config->store_key_file[0] != '\0' };
  if (frames == 0 || nc_kept_shadow_bytes(s) > (uint64_t)k->config->kept_shadow_mib << 20) {
    if (frames > 0)
      nc_log(NC_LOG_INFO, "agent", "the shadow of %s has %" G_GUINT64_FORMAT " MiB, more than kept_shadow_mib: it is not kept",
             s->vm, nc_kept_shadow_bytes(s) >> 20);
    nc_kept_shadow_free(s);
    return;
  }
  g_ptr_array_add(k->shadows, s);
  nc_kept_expire_locked(k);
  g_cond_signal(&k->news);
}

bool
nc_kept_shadows_find(NcKeptShadows *k, const char *vm, const char *peer, char **ret_migration, char **ret_sha256)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&k->lock);

  nc_kept_expire_locked(k);
  for (guint i = 0; i < k->shadows->len; i++) {
    const NcKeptShadow *s = k->shadows->pdata[i];
    if (!g_str_equal(s->vm, vm) || !g_str_equal(s->peer, peer))
      continue;
    *ret_migration = g_strdup(s->migration);
    *ret_sha256 = g_strdup(s->sha256);
    return true;
  }
  return false;
}

static bool
nc_kept_is(const NcKeptShadow *s, const NcKeptShadowName *name)
{
  return g_str_equal(s->vm, name->vm) && g_str_equal(s->peer, name->peer) && g_str_equal(s->sha256, name->sha256);
}

/* Takes it out of the register; NULL: there is no such one. */
static NcKeptShadow *
nc_kept_steal(NcKeptShadows *k, const NcKeptShadowName *name)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&k->lock);
  guint index;

  nc_kept_expire_locked(k);
  if (!nc_kept_index_locked(k, name->migration, &index) || !nc_kept_is(k->shadows->pdata[index], name))
    return NULL;
  return g_ptr_array_steal_index(k->shadows, index);
}

int
nc_kept_shadows_take(NcKeptShadows *k, const NcKeptShadowName *name, uint32_t *ret_frames)
{
  g_autoptr(NcKeptShadow) s = nc_kept_steal(k, name);
  g_autoptr(GError) error = NULL;

  if (!s)
    return -1;
  g_autofree char *path = nc_kept_shadow_path(k->directory, s->migration);
  int fd = s->fd >= 0 ? nc_fd_steal(&s->fd) : nc_kept_shadow_load(path, s->frames, &error);
  if (fd < 0)
    nc_log(NC_LOG_WARNING, "agent", "the kept shadow of %s is not used: %s", s->vm, error->message);
  unlink(path);
  *ret_frames = s->frames;
  return fd;
}

void
nc_kept_shadows_drop(NcKeptShadows *k, const char *migration)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&k->lock);
  guint index;

  if (nc_kept_index_locked(k, migration, &index))
    nc_kept_remove_locked(k, index);
}
