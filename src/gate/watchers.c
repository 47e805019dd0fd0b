/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation: the thread polls all descriptors and the clock; under
 * the one lock it fills, sends and receives, none of which waits. Others come
 * in by the lock, too: new watchers, and the backend with answers.
 */
#include "gate/watchers.h"
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"
#include "base/msg.h"
#include "gate/gate_limits.h"
#include "gate/watcher.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Behind which event a feed of everything begins: before that of its first watcher, since others may come back from earlier ones. */
#define NC_FEED_EARLIER 1000

/* One thing that is watched. */
typedef struct {
  NcWatchers *owner;
  char *key; /* of its op and id */
  char *op, *id;
  bool is_of_fleet;
  NcWatchLog *log;
  GPtrArray *watchers; /* NcWatcher, owned */
  bool asking;         /* a request is under way, whose answer comes with this feed */
  bool known;          /* novacrond has answered */
  int64_t begin;       /* behind which event the first question is; negative: the last events will do */
  char *gone;          /* why there will be no more; NULL: there may be */
  int64_t ask_at_us;
} NcFeed;

struct NcWatchers {
  NcBackend *backend;
  NcWatchLimits limits;
  int wake; /* eventfd */
  GThread *thread;
  json_t *identity; /* ours: those who watch were let in before */

  GMutex lock; /* guards what follows */
  GHashTable *feeds; /* key -> NcFeed, owned */
  unsigned fleet_feeds; /* how many of them are of the fleet */
  unsigned places; /* taken: watchers, and those that will be */
  GHashTable *clients; /* name, owned -> places that are taken by it */
  bool stopping;
};

static void
nc_watchers_wake(NcWatchers *ws)
{
  uint64_t one = 1;
  ssize_t n = write(ws->wake, &one, sizeof one);
  (void)n; /* only fails when the counter is full, and then the thread is awake */
}

static void
nc_feed_free(gpointer data)
{
  NcFeed *feed = data;

  g_ptr_array_unref(feed->watchers); /* empty: watchers are freed outside of the lock */
  nc_watch_log_free(feed->log);
  if (feed->is_of_fleet)
    feed->owner->fleet_feeds--;
  g_free(feed->gone);
  g_free(feed->key);
  g_free(feed->op);
  g_free(feed->id);
  g_free(feed);
}

static bool
nc_watched_is_of_fleet(const NcWatched *what)
{
  return g_str_has_prefix(what->op, "fleet.");
}

static NcFeed *
nc_watchers_find_locked(NcWatchers *ws, const NcWatched *what)
{
  g_autofree char *key = g_strjoin(" ", what->op, what->id, NULL);
  return g_hash_table_lookup(ws->feeds, key);
}

/* Is there room for a feed of ${what}? */
static bool
nc_watchers_may_add_locked(const NcWatchers *ws, const NcWatched *what)
{
  return g_hash_table_size(ws->feeds) < ws->limits.things &&
         (!nc_watched_is_of_fleet(what) || ws->fleet_feeds < ws->limits.fleet_things);
}

/* For a watcher who knows what came up to ${since}; negative: nothing. */
static NcFeed *
nc_feed_new_locked(NcWatchers *ws, const NcWatched *what, int64_t since)
{
  NcFeed *feed = g_new0(NcFeed, 1);
  feed->owner = ws;
  feed->key = g_strjoin(" ", what->op, what->id, NULL);
  feed->op = g_strdup(what->op);
  feed->id = g_strdup(what->id);
  feed->is_of_fleet = nc_watched_is_of_fleet(what);
  feed->log = nc_watch_log_new(NC_GATE_WATCH_EVENTS, NC_GATE_WATCH_BYTES);
  if (!what->id[0]) /* of what has an id everything is told */
    feed->begin = since >= 0 ? MAX(since - NC_FEED_EARLIER, 0) : -1;
  feed->watchers = g_ptr_array_new();
  ws->fleet_feeds += feed->is_of_fleet;
  g_hash_table_insert(ws->feeds, feed->key, feed);
  return feed;
}

static int64_t
nc_feed_interval_us(const NcFeed *feed)
{
  const NcWatchLimits *limits = &feed->owner->limits;
  return (int64_t)(feed->is_of_fleet ? limits->fleet_ask_ms : limits->ask_ms) * 1000;
}

/* --- places --- */

static unsigned
nc_watchers_count_locked(const NcWatchers *ws, const char *client)
{
  return client ? GPOINTER_TO_UINT(g_hash_table_lookup(ws->clients, client)) : 0;
}

static void
nc_watchers_take_place_locked(NcWatchers *ws, const char *client)
{
  ws->places++;
  if (client)
    g_hash_table_insert(ws->clients, g_strdup(client), GUINT_TO_POINTER(nc_watchers_count_locked(ws, client) + 1));
}

static void
nc_watchers_give_place_locked(NcWatchers *ws, const char *client)
{
  unsigned count = nc_watchers_count_locked(ws, client);

  ws->places--;
  if (count > 1)
    g_hash_table_insert(ws->clients, g_strdup(client), GUINT_TO_POINTER(count - 1));
  else if (client)
    g_hash_table_remove(ws->clients, client);
}

/* --- asking --- */

/* In the backend's thread. */
static void
nc_feed_on_answer(json_t *result, const GError *error, void *data)
{
  NcFeed *feed = data;
  NcWatchers *ws = feed->owner;
  g_autoptr(GError) problem = NULL;

  g_mutex_lock(&ws->lock);
  feed->asking = false;
  feed->ask_at_us = nc_mono_us() + nc_feed_interval_us(feed);
  if (result && nc_watch_log_take(feed->log, result, &problem)) {
    feed->known = true;
    if (nc_watch_log_has_more(feed->log))
      feed->ask_at_us = 0;
  } else if (problem || g_error_matches(error, NC_ERROR, NC_ERROR_NOT_FOUND)) {
    feed->gone = g_strdup(problem ? problem->message : error->message);
  } else { /* novacrond is away, which the backend logs each time: it is asked again, less often, and watchers wait */
    feed->ask_at_us += 3 * nc_feed_interval_us(feed);
  }
  if (problem)
    nc_log(NC_LOG_WARNING, "gate", "watching %s: %s", feed->key, problem->message);
  g_mutex_unlock(&ws->lock);
  nc_watchers_wake(ws);
}

static void
nc_feed_ask_locked(NcFeed *feed)
{
  NcWatchers *ws = feed->owner;
  nc_autojson json_t *args = json_object();

  if (feed->id[0])
    json_object_set_new(args, "id", json_string(feed->id));
  int64_t since = feed->known ? nc_watch_log_last(feed->log) : feed->begin;
  if (since >= 0)
    json_object_set_new(args, "since", json_integer(since));
  feed->asking = true;
  if (!nc_backend_call(ws->backend, feed->op, ws->identity, args, NC_GATE_ANSWER_MS, nc_feed_on_answer, feed, NULL)) {
    feed->asking = false;
    feed->ask_at_us = nc_mono_us() + nc_feed_interval_us(feed);
  }
}

static bool
nc_feed_wants_to_ask(const NcFeed *feed)
{
  return !feed->asking && !feed->gone && !nc_watch_log_has_ended(feed->log);
}

/* --- the thread --- */

/* Those that are over leave the feed. What is called at their end may take other locks: not under ours. */
static void
nc_feed_drop_dead_locked(NcFeed *feed, GPtrArray *dead)
{
  for (guint i = 0; i < feed->watchers->len;) {
    NcWatcher *w = feed->watchers->pdata[i];
    if (w->dead) {
      g_ptr_array_remove_index_fast(feed->watchers, i);
      nc_watchers_give_place_locked(feed->owner, w->client);
      g_ptr_array_add(dead, w);
    } else {
      i++;
    }
  }
}

/* What there is goes out; who has got all of what has ended is let go. */
static void
nc_feed_serve_locked(NcFeed *feed, GPtrArray *dead, int64_t now_us)
{
  for (guint i = 0; i < feed->watchers->len; i++) {
    NcWatcher *w = feed->watchers->pdata[i];
    nc_watcher_tick(w, now_us);
    nc_watcher_send(w, feed->log, now_us);
    if (w->out || w->dead)
      continue;
    if (feed->gone)
      nc_watcher_close(w, NC_WS_FAILED, feed->gone);
    else if (nc_watch_log_has_ended(feed->log))
      nc_watcher_close(w, NC_WS_OVER, feed->is_of_fleet ? "it is over" : "the migration is over");
    nc_watcher_send(w, feed->log, now_us);
  }
  nc_feed_drop_dead_locked(feed, dead);
}

/* Serves all, asks where it is time, and fills the descriptors to wait for. Returns how long at most, in milliseconds. */
static int
nc_watchers_turn_locked(NcWatchers *ws, GArray *fds, GPtrArray *polled, GPtrArray *dead)
{
  int64_t now_us = nc_mono_us(), next_us = now_us + G_USEC_PER_SEC;
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init(&iter, ws->feeds);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    NcFeed *feed = value;
    nc_feed_serve_locked(feed, dead, now_us);
    if (feed->watchers->len == 0 && !feed->asking) {
      g_hash_table_iter_remove(&iter);
      continue;
    }
    if (feed->watchers->len > 0 && nc_feed_wants_to_ask(feed) && feed->ask_at_us <= now_us)
      nc_feed_ask_locked(feed);
    if (nc_feed_wants_to_ask(feed))
      next_us = MIN(next_us, feed->ask_at_us);
    for (guint i = 0; i < feed->watchers->len; i++) {
      NcWatcher *w = feed->watchers->pdata[i];
      struct pollfd p = { .fd = w->fd, .events = nc_watcher_waits_for(w) };
      g_array_append_val(fds, p);
      g_ptr_array_add(polled, w);
    }
  }
  return (int)CLAMP((next_us - now_us + 999) / 1000, 0, 1000);
}

/* Watchers are freed by this thread alone, so those that were polled are still there. */
static void
nc_watchers_receive_locked(NcWatchers *ws, const GArray *fds, const GPtrArray *polled)
{
  int64_t now_us = nc_mono_us();

  for (guint i = 0; i < polled->len; i++)
    if (g_array_index(fds, struct pollfd, i + 1).revents & (POLLIN | POLLHUP | POLLERR))
      nc_watcher_receive(polled->pdata[i], now_us);
}

static gpointer
nc_watchers_main(gpointer data)
{
  NcWatchers *ws = data;
  g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(struct pollfd));
  g_autoptr(GPtrArray) polled = g_ptr_array_new();
  g_autoptr(GPtrArray) dead = g_ptr_array_new_with_free_func(nc_watcher_free);

  g_mutex_lock(&ws->lock);
  while (!ws->stopping) {
    const struct pollfd wake = { .fd = ws->wake, .events = POLLIN };
    uint64_t count;
    g_array_set_size(fds, 0);
    g_ptr_array_set_size(polled, 0);
    g_array_append_val(fds, wake);
    int wait_ms = nc_watchers_turn_locked(ws, fds, polled, dead);
    g_mutex_unlock(&ws->lock);
    g_ptr_array_set_size(dead, 0);
    int ready = poll((struct pollfd *)(void *)fds->data, fds->len, wait_ms);
    if (ready < 0 && errno != EINTR)
      nc_log(NC_LOG_ERR, "gate", "poll: %s", g_strerror(errno));
    if (ready > 0 && (g_array_index(fds, struct pollfd, 0).revents & POLLIN) && read(ws->wake, &count, sizeof count) < 0 && errno != EAGAIN)
      nc_log(NC_LOG_ERR, "gate", "eventfd: %s", g_strerror(errno));
    g_mutex_lock(&ws->lock);
    if (ready > 0)
      nc_watchers_receive_locked(ws, fds, polled);
  }
  g_mutex_unlock(&ws->lock);
  return NULL;
}

/* --- from outside --- */

NcWatchers *
nc_watchers_new(NcBackend *backend, const NcWatchLimits *limits, GError **error)
{
  int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

  if (wake < 0) {
    nc_fail_errno(error, NC_ERROR_INTERNAL, errno, "eventfd");
    return NULL;
  }
  NcWatchers *ws = g_new0(NcWatchers, 1);
  ws->backend = backend;
  ws->limits = *limits;
  ws->wake = wake;
  ws->identity = json_pack("{s:s, s:s, s:s, s:s}", "kind", "gate", "name", "watchers", "role", "viewer", "from", "gate");
  ws->feeds = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, nc_feed_free);
  ws->clients = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  g_mutex_init(&ws->lock);
  ws->thread = g_thread_new("watchers", nc_watchers_main, ws);
  return ws;
}

bool
nc_watchers_reserve(NcWatchers *ws, const char *client, const NcWatched *what, bool *ret_known, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ws->lock);
  const NcFeed *feed = nc_watchers_find_locked(ws, what);

  if (ws->stopping)
    return nc_fail(error, NC_ERROR_UNREACHABLE, "the gate is stopping");
  if (ws->places >= ws->limits.watchers)
    return nc_fail(error, NC_ERROR_RESOURCE, "%u watch already, and no more may (watchers in gate.conf): try again later", ws->places);
  if (client && nc_watchers_count_locked(ws, client) >= ws->limits.per_client)
    return nc_fail(error, NC_ERROR_RESOURCE, "%u watch from %s already, and no more may from one address", ws->limits.per_client, client);
  if (!feed && !nc_watchers_may_add_locked(ws, what))
    return nc_fail(error, NC_ERROR_RESOURCE, "%u migrations are watched already, %u of them of the fleet: try again later",
                   g_hash_table_size(ws->feeds), ws->fleet_feeds);
  nc_watchers_take_place_locked(ws, client);
  *ret_known = feed && feed->known && !feed->gone;
  return true;
}

void
nc_watchers_release(NcWatchers *ws, const char *client)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ws->lock);
  nc_watchers_give_place_locked(ws, client);
}

unsigned
nc_watchers_places(const NcWatchers *ws)
{
  return ws->limits.watchers;
}

/* One who came at the wrong moment. */
static void
nc_watchers_turn_away(NcWatcher *watcher)
{
  g_autoptr(NcWatchLog) nothing = nc_watch_log_new(1, 1);

  nc_watcher_close(watcher, NC_WS_AWAY, "the gate is stopping, or too much is watched already: connect again later");
  nc_watcher_send(watcher, nothing, nc_mono_us());
  nc_watcher_free(watcher);
}

void
nc_watchers_add(NcWatchers *ws, const NcWatcherOrder *order, const void *early, size_t early_bytes)
{
  int64_t now_us = nc_mono_us();
  NcWatcher *watcher = nc_watcher_new(&ws->limits, order, now_us);

  nc_watcher_take(watcher, early, early_bytes, now_us);
  g_mutex_lock(&ws->lock);
  NcFeed *feed = nc_watchers_find_locked(ws, &order->what);
  bool taken = !ws->stopping && (feed || nc_watchers_may_add_locked(ws, &order->what));
  if (taken) {
    feed = feed ? feed : nc_feed_new_locked(ws, &order->what, order->since);
    watcher->place = nc_watch_log_begin(feed->log, order->since);
    g_ptr_array_add(feed->watchers, watcher);
  } else {
    nc_watchers_give_place_locked(ws, order->client);
  }
  g_mutex_unlock(&ws->lock);
  if (taken)
    nc_watchers_wake(ws);
  else
    nc_watchers_turn_away(watcher);
}

/* A last word, as far as the sockets take it at once; then they are ${ret}'s. */
static void
nc_watchers_dismiss_locked(NcWatchers *ws, GPtrArray *ret)
{
  GHashTableIter iter;
  gpointer value;

  g_hash_table_iter_init(&iter, ws->feeds);
  while (g_hash_table_iter_next(&iter, NULL, &value)) {
    NcFeed *feed = value;
    for (guint i = 0; i < feed->watchers->len; i++) {
      NcWatcher *w = feed->watchers->pdata[i];
      nc_watcher_close(w, NC_WS_AWAY, "the gate is stopping: connect again with since");
      nc_watcher_send(w, feed->log, nc_mono_us());
      nc_watchers_give_place_locked(ws, w->client);
      g_ptr_array_add(ret, w);
    }
    g_ptr_array_set_size(feed->watchers, 0);
  }
}

void
nc_watchers_stop(NcWatchers *ws)
{
  g_mutex_lock(&ws->lock);
  ws->stopping = true;
  g_mutex_unlock(&ws->lock);
  nc_watchers_wake(ws);
  if (!ws->thread)
    return;
  g_thread_join(g_steal_pointer(&ws->thread));
  g_autoptr(GPtrArray) dismissed = g_ptr_array_new_with_free_func(nc_watcher_free);
  g_mutex_lock(&ws->lock);
  nc_watchers_dismiss_locked(ws, dismissed);
  g_hash_table_remove_all(ws->feeds);
  g_mutex_unlock(&ws->lock);
}

void
nc_watchers_free(NcWatchers *ws)
{
  if (!ws)
    return;
  nc_watchers_stop(ws);
  nc_fd_clear(&ws->wake);
  g_hash_table_unref(ws->feeds);
  g_hash_table_unref(ws->clients);
  json_decref(ws->identity);
  g_mutex_clear(&ws->lock);
  g_free(ws);
}
