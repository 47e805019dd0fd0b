/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_ask.h"
#include "base/ident.h"
#include "cli/client.h"

#include <fcntl.h>
#include <unistd.h>

#define NC_TOP_STEP_US 1000000
/* In steps. */
#define NC_TOP_NODE_EVERY 10
#define NC_TOP_FLEET_EVERY 5
#define NC_TOP_MACHINES_EVERY 5
#define NC_TOP_ALERTS_EVERY 2
#define NC_TOP_ENDED_EVERY 10
#define NC_TOP_STORY_EVERY 5 /* of one that has ended: somebody may undo it */

#define NC_TOP_RUNNING_PATH "/api/v2/migrations?state=active&limit=200"
#define NC_TOP_ENDED_PATH "/api/v2/migrations?state=ended&limit=20"
#define NC_TOP_QUEUE_PATH "/api/v2/fleet/migrations?unfinished=true&limit=200"

struct NcTopAsker {
  NcCli cli; /* with ${stop} of its own */
  int stop;  /* atomic */
  unsigned step;
  json_t *node, *machines, *running, *ended, *alerts; /* NULL: not known yet */
  json_t *fleet, *queue;                     /* NULL also: there is none */
  json_t *story;                             /* the one that is wanted, with its history */
  char *active;                              /* ids of those that ran at the last step */
  int64_t answered_us;                       /* when all was answered the last time */
};

NcTopAsker *
nc_top_asker_new(const NcCli *cli)
{
  NcTopAsker *a = g_new0(NcTopAsker, 1);

  a->cli = *cli;
  a->cli.stop = &a->stop;
  return a;
}

void
nc_top_asker_free(NcTopAsker *a)
{
  if (!a)
    return;
  json_decref(a->node);
  json_decref(a->machines);
  json_decref(a->running);
  json_decref(a->ended);
  json_decref(a->alerts);
  json_decref(a->fleet);
  json_decref(a->queue);
  json_decref(a->story);
  g_free(a->active);
  g_free(a);
}

/* Asks for ${path} into *${what}, which stays as it is if there is no answer; the first error is kept. */
static bool
nc_top_get(NcTopAsker *a, const char *path, json_t **what, GError **error)
{
  g_autoptr(GError) problem = NULL;
  json_t *answer = nc_client_call(&a->cli, "GET", path, NULL, &problem);

  if (answer) {
    json_decref(*what);
    *what = answer;
    return true;
  }
  if (!*error)
    *error = g_steal_pointer(&problem);
  return false;
}

/* {"total", "by_state"} of a list of machines: a thousand of them are not kept. */
static json_t *
nc_top_count_machines(json_t *list)
{
  json_t *by_state = json_object(), *machine;
  size_t i;

  json_array_foreach(list, i, machine)
  {
    const char *state = nc_json_string_or(machine, "state", "?");
    json_object_set_new(by_state, state, json_integer(nc_json_int_or(by_state, state, 0) + 1));
  }
  return json_pack("{s:I, s:o}", "total", (json_int_t)json_array_size(list), "by_state", by_state);
}

static void
nc_top_ask_machines(NcTopAsker *a, GError **error)
{
  nc_autojson json_t *list = NULL;

  if (!nc_top_get(a, "/api/v2/machines", &list, error))
    return;
  json_decref(a->machines);
  a->machines = nc_top_count_machines(json_object_get(list, "items"));
}

static bool
nc_top_is_told(json_t *alert)
{
  return g_str_equal(nc_json_string_or(alert, "state", ""), "firing") && !nc_json_string_or(alert, "inhibited_by", NULL);
}

/* {"firing", "worst" (a severity), "summary" (of the newest of those)} of a list of alerts; those that another one makes plain are not counted. */
static json_t *
nc_top_count_alerts(json_t *list)
{
  json_t *alert, *worst = NULL;
  json_int_t firing = 0;
  size_t i;

  json_array_foreach(list, i, alert)
  {
    if (!nc_top_is_told(alert))
      continue;
    firing++;
    bool is_critical = g_str_equal(nc_json_string_or(alert, "severity", ""), "critical");
    if (!worst || (is_critical && !g_str_equal(nc_json_string_or(worst, "severity", ""), "critical")))
      worst = alert;
  }
  return json_pack("{s:I, s:s?, s:s?}", "firing", firing, "worst", nc_json_string_or(worst, "severity", NULL), "summary",
                   nc_json_string_or(worst, "summary", NULL));
}

static void
nc_top_ask_alerts(NcTopAsker *a, GError **error)
{
  nc_autojson json_t *list = NULL;

  if (!nc_top_get(a, "/api/v2/alerts", &list, error))
    return;
  json_decref(a->alerts);
  a->alerts = nc_top_count_alerts(json_object_get(list, "items"));
}

static void
nc_top_ask_fleet(NcTopAsker *a, GError **error)
{
  if (!nc_json_bool_or(a->node, "controller", false))
    return;
  if (nc_top_get(a, "/api/v2/fleet", &a->fleet, error))
    nc_top_get(a, NC_TOP_QUEUE_PATH, &a->queue, error);
}

/* Whose migrations run, in one text. Caller frees. */
static char *
nc_top_ids(json_t *list)
{
  GString *ids = g_string_new(NULL);
  size_t i;
  json_t *m;

  json_array_foreach(json_object_get(list, "items"), i, m) g_string_append_printf(ids, "%s ", nc_json_string_or(m, "id", ""));
  return g_string_free(ids, FALSE);
}

/* What has ended since the one list was asked for is in both: it is shown as it was when it ran, once more. */
static void
nc_top_drop_running(json_t *ended, json_t *running)
{
  g_autoptr(GHashTable) ids = g_hash_table_new(g_str_hash, g_str_equal);
  size_t i;
  json_t *m, *items = json_object_get(ended, "items");

  json_array_foreach(json_object_get(running, "items"), i, m) g_hash_table_add(ids, (char *)nc_json_string_or(m, "id", ""));
  for (i = json_array_size(items); i-- > 0;)
    if (g_hash_table_contains(ids, nc_json_string_or(json_array_get(items, i), "id", "")))
      json_array_remove(items, i);
}

/* When one begins or ends, more is asked than at other steps. */
static void
nc_top_ask_migrations(NcTopAsker *a, GError **error)
{
  if (!nc_top_get(a, NC_TOP_RUNNING_PATH, &a->running, error))
    return;
  g_autofree char *active = nc_top_ids(a->running);
  bool is_news = g_strcmp0(active, a->active) != 0;
  g_free(a->active);
  a->active = g_steal_pointer(&active);
  if ((is_news || a->step % NC_TOP_ENDED_EVERY == 0) && nc_top_get(a, NC_TOP_ENDED_PATH, &a->ended, error))
    nc_top_drop_running(a->ended, a->running);
}

static void
nc_top_ask_story(NcTopAsker *a, const char *id, GError **error)
{
  g_autoptr(GError) problem = NULL;

  if (!id || g_strcmp0(nc_json_string_or(a->story, "id", NULL), id) != 0)
    nc_json_clear(&a->story);
  if (!id || (a->story && nc_json_string_or(a->story, "outcome", NULL) && a->step % NC_TOP_STORY_EVERY != 0))
    return;
  g_autofree char *path = g_strconcat("/api/v2/migrations/", id, NULL);
  if (nc_top_get(a, path, &a->story, &problem) || problem->code == NC_ERROR_NOT_FOUND)
    return;
  g_propagate_error(error, g_steal_pointer(&problem));
}

/* New reference to a list's rows, as an array of its own: what was handed out is not changed. */
static json_t *
nc_top_items(json_t *list)
{
  json_t *items = json_object_get(list, "items");
  return json_is_array(items) ? json_copy(items) : json_array();
}

static bool
nc_top_has_more(json_t *list)
{
  return json_is_string(json_object_get(list, "next"));
}

static json_t *
nc_top_frame(const NcTopAsker *a, const GError *problem)
{
  g_autofree char *since = nc_time_format(a->answered_us);
  g_autofree char *text = problem ? g_strdup_printf("since %.8sZ: %s", since + 11, problem->message) : NULL;
  json_t *frame = json_pack("{s:o, s:o, s:O?, s:O?, s:O?, s:O?, s:O?, s:s?}", "running", nc_top_items(a->running), "ended", nc_top_items(a->ended), "node",
                            a->node, "machines", a->machines, "alerts", a->alerts, "fleet", a->fleet, "story", a->story, "problem", text);

  json_object_set_new(frame, "running_more", json_boolean(nc_top_has_more(a->running)));
  json_object_set_new(frame, "queued", a->queue ? json_integer((json_int_t)json_array_size(json_object_get(a->queue, "items"))) : json_null());
  json_object_set_new(frame, "queued_more", json_boolean(nc_top_has_more(a->queue)));
  return frame;
}

json_t *
nc_top_ask(NcTopAsker *a, const char *id, GError **error)
{
  g_autoptr(GError) problem = NULL;

  nc_top_ask_migrations(a, &problem);
  if (!problem)
    nc_top_ask_story(a, id, &problem);
  if (!problem && a->step % NC_TOP_ALERTS_EVERY == 0)
    nc_top_ask_alerts(a, &problem);
  if (!problem && a->step % NC_TOP_NODE_EVERY == 0)
    nc_top_get(a, "/api/v2/node", &a->node, &problem);
  if (!problem && a->step % NC_TOP_MACHINES_EVERY == 0)
    nc_top_ask_machines(a, &problem);
  if (!problem && a->step % NC_TOP_FLEET_EVERY == 0)
    nc_top_ask_fleet(a, &problem);
  if (!problem) { /* else the same is asked again */
    a->step++;
    a->answered_us = nc_wall_us();
  } else if (a->answered_us == 0) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return NULL;
  }
  return nc_top_frame(a, problem);
}

/* --- the thread --- */

struct NcTopFeed {
  NcTopAsker *asker;
  GThread *thread;
  GMutex lock;
  GCond changed;
  /* Under ${lock}: */
  json_t *newest;
  char *wanted;
  bool is_new; /* ${wanted} was not asked for yet */
  int pipe[2];
};

static void
nc_top_feed_give(NcTopFeed *f, json_t *frame)
{
  g_mutex_lock(&f->lock);
  bool was_taken = !f->newest;
  json_decref(f->newest);
  f->newest = frame;
  g_mutex_unlock(&f->lock);
  if (was_taken && write(f->pipe[1], "", 1) < 0)
    g_assert_not_reached(); /* one byte at most is in it */
}

/* The id that is wanted; caller frees. */
static char *
nc_top_feed_wanted(NcTopFeed *f)
{
  g_mutex_lock(&f->lock);
  char *id = g_strdup(f->wanted);
  f->is_new = false;
  g_mutex_unlock(&f->lock);
  return id;
}

static void
nc_top_feed_wait(NcTopFeed *f, int64_t until_us)
{
  g_mutex_lock(&f->lock);
  while (!g_atomic_int_get(&f->asker->stop) && !f->is_new && g_cond_wait_until(&f->changed, &f->lock, until_us))
    ;
  g_mutex_unlock(&f->lock);
}

static gpointer
nc_top_feed_run(gpointer user)
{
  NcTopFeed *f = user;

  while (!g_atomic_int_get(&f->asker->stop)) {
    g_autoptr(GError) problem = NULL;
    int64_t next_us = nc_mono_us() + NC_TOP_STEP_US;
    g_autofree char *id = nc_top_feed_wanted(f);
    json_t *frame = nc_top_ask(f->asker, id, &problem);
    if (frame)
      nc_top_feed_give(f, frame);
    nc_top_feed_wait(f, next_us);
  }
  return NULL;
}

void
nc_top_feed_want(NcTopFeed *f, const char *id)
{
  g_mutex_lock(&f->lock);
  if (g_strcmp0(f->wanted, id) != 0) {
    g_free(f->wanted);
    f->wanted = g_strdup(id);
    f->is_new = id != NULL;
    g_cond_signal(&f->changed);
  }
  g_mutex_unlock(&f->lock);
}

NcTopFeed *
nc_top_feed_start(NcTopAsker *asker, int *ret_fd, GError **error)
{
  NcTopFeed *f = g_new0(NcTopFeed, 1);

  f->asker = asker;
  if (pipe2(f->pipe, O_CLOEXEC) != 0) {
    nc_top_asker_free(asker);
    g_free(f);
    nc_fail(error, NC_ERROR_RESOURCE, "no pipe: too many files are open");
    return NULL;
  }
  g_mutex_init(&f->lock);
  g_cond_init(&f->changed);
  f->thread = g_thread_new("top", nc_top_feed_run, f);
  *ret_fd = f->pipe[0];
  return f;
}

json_t *
nc_top_feed_take(NcTopFeed *f)
{
  char byte;

  g_mutex_lock(&f->lock);
  json_t *frame = g_steal_pointer(&f->newest);
  if (frame && read(f->pipe[0], &byte, 1) != 1)
    g_assert_not_reached();
  g_mutex_unlock(&f->lock);
  return frame;
}

void
nc_top_feed_stop(NcTopFeed *f)
{
  g_mutex_lock(&f->lock);
  g_atomic_int_set(&f->asker->stop, 1);
  g_cond_signal(&f->changed);
  g_mutex_unlock(&f->lock);
  g_thread_join(f->thread);
  json_decref(f->newest);
  g_free(f->wanted);
  close(f->pipe[0]);
  close(f->pipe[1]);
  nc_top_asker_free(f->asker);
  g_mutex_clear(&f->lock);
  g_cond_clear(&f->changed);
  g_free(f);
}
