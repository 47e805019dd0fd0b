/* SPDX-License-Identifier: Apache-2.0 */
/* A thread for each connection that is wanted, and the paths it tries. */
#include "mover/dialler.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"
#include "mover/preface.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

/* A connection that was made so short a time ago is not made again at once: something is wrong with it. */
#define NC_DIALLER_SHORT_LIFE_US 1000000

typedef struct {
  bool wanted;          /* a thread dials it */
  bool connected;       /* it was, once */
  int64_t connected_us; /* when, monotonic */
} NcDial;

/* Shared by the owner and the threads; the last one frees it. */
struct NcDialler {
  gatomicrefcount references;
  char *id;
  char **paths;
  unsigned path_count, streams;
  int timeout_ms;

  GMutex lock; /* protects what follows */
  GCond changed;
  NcMoverProcess *mover; /* NULL: the owner is gone */
  GError *error;         /* the first one before all were connected */
  NcDial dials[NC_DIALLER_MAX_STREAMS];
};

typedef struct {
  NcDialler *d;
  unsigned index;
} NcDialTask;

static void
nc_dialler_unref(NcDialler *d)
{
  if (!g_atomic_ref_count_dec(&d->references))
    return;
  g_clear_error(&d->error);
  g_strfreev(d->paths);
  g_free(d->id);
  g_cond_clear(&d->changed);
  g_mutex_clear(&d->lock);
  g_free(d);
}

static bool
nc_dialler_use_bbr(int fd)
{
  static const char bbr[] = "bbr";
  return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, bbr, strlen(bbr)) == 0;
}

bool
nc_dialler_has_bbr(void)
{
  nc_autofd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  return fd >= 0 && nc_dialler_use_bbr(fd);
}

/* Of a link's first connection; its successors have BBR: whatever ended it, the path is not what one would wish. */
static bool
nc_dialler_use_loss_based(int fd)
{
  static const char cubic[] = "cubic";
  return setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cubic, strlen(cubic)) == 0;
}

static void
nc_dialler_choose_congestion_control(NcDialler *d, unsigned index, int fd)
{
  bool first;
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&d->lock);
    first = !d->dials[index].connected;
  }
  if (!(first ? nc_dialler_use_loss_based(fd) : nc_dialler_use_bbr(fd)))
    nc_log(NC_LOG_DEBUG, "mover", "no %s here (%m): the node's own congestion control is used", first ? "cubic" : "BBR");
}

/* A path that worked answers soon, or another one should be tried. */
#define NC_DIALLER_AGAIN_MS 3000

static int
nc_dialler_timeout_ms(NcDialler *d, unsigned index)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&d->lock);
  return d->dials[index].connected ? MIN(d->timeout_ms, NC_DIALLER_AGAIN_MS) : d->timeout_ms;
}

/* One attempt, by path ${number}. */
static int
nc_dialler_try(NcDialler *d, unsigned index, unsigned number, GError **error)
{
  const char *path = d->paths[number % d->path_count];
  int fd = nc_preface_dial(path, d->id, (uint16_t)index, nc_dialler_timeout_ms(d, index), error);

  if (fd < 0)
    g_prefix_error(error, "connection %u of the movers to %s: ", index, path);
  else
    nc_dialler_choose_congestion_control(d, index, fd);
  return fd;
}

/* Hands ${fd} to the mover. */
static void
nc_dialler_hand_over(NcDialler *d, unsigned index, int fd)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&d->lock);
  g_autoptr(GError) error = NULL;

  if (d->mover && !nc_mover_process_send(d->mover, json_pack("{s:s, s:i}", "op", "conn", "index", (int)index), fd, &error))
    nc_log(NC_LOG_INFO, "mover", "connection %u: %s", index, error->message); /* it has ended, and that is told */
  d->dials[index].connected = true;
  d->dials[index].connected_us = nc_mono_us();
  d->dials[index].wanted = false;
  g_cond_broadcast(&d->changed);
}

/* Is anybody still waiting? Notes ${error} (taken) for nc_dialler_await() if this was the beginning. */
static bool
nc_dialler_goes_on(NcDialler *d, unsigned index, bool all_paths_tried, GError *error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&d->lock);
  g_autoptr(GError) taken = error;
  bool first = !d->dials[index].connected;

  if (first && all_paths_tried && !d->error) {
    d->error = g_steal_pointer(&taken);
    g_cond_broadcast(&d->changed);
  } else if (!first && all_paths_tried) {
    nc_log(NC_LOG_DEBUG, "mover", "%s", taken->message);
  }
  if (d->mover && !(first && all_paths_tried))
    return true;
  d->dials[index].wanted = false;
  return false;
}

/* Sleeps, unless the owner goes meanwhile. */
static void
nc_dialler_rest(NcDialler *d, int64_t ms)
{
  gint64 until = g_get_monotonic_time() + ms * 1000;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&d->lock);

  while (d->mover && g_cond_wait_until(&d->changed, &d->lock, until))
    ;
}

static bool
nc_dialler_had_short_life(NcDialler *d, unsigned index)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&d->lock);
  const NcDial *dial = &d->dials[index];
  return dial->connected && nc_mono_us() - dial->connected_us < NC_DIALLER_SHORT_LIFE_US;
}

static gpointer
nc_dialler_run(gpointer data)
{
  g_autofree NcDialTask *task = data;
  NcDialler *d = task->d;
  unsigned tried = 0;
  int64_t rest_ms = NC_DIALLER_LEAST_MS;

  if (nc_dialler_had_short_life(d, task->index))
    nc_dialler_rest(d, rest_ms);
  for (;;) {
    GError *error = NULL;
    nc_autofd int fd = nc_dialler_try(d, task->index, task->index + tried++, &error);
    if (fd >= 0) {
      nc_dialler_hand_over(d, task->index, fd);
      break;
    }
    bool all = tried % d->path_count == 0;
    if (!nc_dialler_goes_on(d, task->index, all, error))
      break;
    if (all) {
      nc_dialler_rest(d, rest_ms);
      rest_ms = MIN(2 * rest_ms, NC_DIALLER_MOST_MS);
    }
  }
  nc_dialler_unref(d);
  return NULL;
}

static void
nc_dialler_begin_locked(NcDialler *d, unsigned index)
{
  NcDialTask *task = g_new(NcDialTask, 1);

  *task = (NcDialTask){ .d = d, .index = index };
  d->dials[index].wanted = true;
  g_atomic_ref_count_inc(&d->references);
  g_thread_unref(g_thread_new("dial", nc_dialler_run, task));
}

NcDialler *
nc_dialler_new(NcMoverProcess *mover, const char *id, const char *const *paths, unsigned streams, int timeout_ms)
{
  NcDialler *d = g_new0(NcDialler, 1);

  g_atomic_ref_count_init(&d->references);
  d->mover = mover;
  d->id = g_strdup(id);
  d->paths = g_strdupv((char **)paths);
  d->path_count = g_strv_length(d->paths);
  d->streams = MIN(streams, NC_DIALLER_MAX_STREAMS);
  d->timeout_ms = timeout_ms;
  g_mutex_init(&d->lock);
  g_cond_init(&d->changed);
  g_mutex_lock(&d->lock);
  for (unsigned i = 0; i < d->streams; i++)
    nc_dialler_begin_locked(d, i);
  g_mutex_unlock(&d->lock);
  return d;
}

bool
nc_dialler_await(NcDialler *d, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&d->lock);

  for (;;) {
    unsigned connected = 0;
    for (unsigned i = 0; i < d->streams; i++)
      connected += d->dials[i].connected;
    if (d->error) {
      g_propagate_error(error, g_error_copy(d->error));
      return false;
    }
    if (connected == d->streams)
      return true;
    g_cond_wait(&d->changed, &d->lock);
  }
}

void
nc_dialler_redial(NcDialler *d, unsigned index)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&d->lock);

  if (index < d->streams && !d->dials[index].wanted)
    nc_dialler_begin_locked(d, index);
}

void
nc_dialler_free(NcDialler *d)
{
  if (!d)
    return;
  g_mutex_lock(&d->lock);
  d->mover = NULL;
  g_cond_broadcast(&d->changed);
  g_mutex_unlock(&d->lock);
  nc_dialler_unref(d);
}
