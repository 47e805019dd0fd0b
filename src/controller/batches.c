/* SPDX-License-Identifier: Apache-2.0 */
/* Several migrations, asked for as one. */
#include "controller/controller_internal.h"
#include "base/ident.h"
#include "fleet/batch.h"

/* What is asked for, item by item. */
typedef struct {
  NcController *c;
  const NcAsker *who;
  const char *policy;
  NcBatchPolicy kind;
  char *id;
  size_t count;
  NcWish *wishes;
  char **reasons; /* why not; NULL */
  NcLive **lives; /* borrowed, of those submitted */
  json_t *answer, *detail;
} NcBatchWork;

static void
nc_batch_work_clear(NcBatchWork *work)
{
  for (size_t i = 0; i < work->count; i++) {
    nc_wish_clear(&work->wishes[i]);
    g_free(work->reasons[i]);
  }
  g_free(work->id);
  g_free(work->wishes);
  g_free(work->reasons);
  g_free(work->lives);
  json_decref(work->answer);
  json_decref(work->detail);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcBatchWork, nc_batch_work_clear)

static bool
nc_read_batch(json_t *body, NcBatchWork *work, GError **error)
{
  json_t *items = json_object_get(body, "migrations"), *policy = json_object_get(body, "policy");
  size_t known = json_is_array(items) + (policy != NULL);

  work->policy = policy ? json_string_value(policy) : "any";
  if (!nc_batch_policy_from_name(work->policy, &work->kind))
    return nc_fail(error, NC_ERROR_INVALID, "\"policy\" is to be \"all\" or \"any\"");
  if (json_object_size(body) != known || json_array_size(items) == 0 ||
      json_array_size(items) > NC_CONTROLLER_MOST_ITEMS)
    return nc_fail(error, NC_ERROR_INVALID,
                   "a batch has \"migrations\", 1 to %u of them, perhaps a \"policy\", and nothing else",
                   NC_CONTROLLER_MOST_ITEMS);
  size_t count = json_array_size(items);
  work->wishes = g_new0(NcWish, count);
  work->reasons = g_new0(char *, count);
  work->lives = g_new0(NcLive *, count);
  for (work->count = 0; work->count < count; work->count++) {
    if (!nc_wish_read(json_array_get(items, work->count), NULL, &work->wishes[work->count], error)) {
      g_prefix_error(error, "migration %zu of the batch: ", work->count);
      return false;
    }
  }
  return true;
}

/* Takes what the queue has let in: with the place it has found for it, so that whoever leads next keeps the same. */
static void
nc_batch_take(NcBatchWork *work, size_t i, uint64_t item_id)
{
  NcController *c = work->c;
  const NcItem *item = nc_queue_item(c->queue, item_id);
  NcLive *live = g_new0(NcLive, 1);
  NcWish *wish = &work->wishes[i];

  live->item = item_id;
  live->id = nc_id_new("mig");
  live->machine = g_strdup(wish->machine);
  live->batch = g_strdup(work->id);
  live->evacuation = g_strdup("");
  live->wish = *wish;
  *wish = (NcWish){ 0 };
  live->wish.is_wish = item->request.is_wish;
  live->wish.reserve = item->request.reserve;
  live->wish.is_bound = item->request.is_bound;
  g_free(live->wish.destination);
  live->wish.destination = item->request.destination == NC_FLEET_NONE
                               ? NULL
                               : g_strdup(nc_fleet_node(c->fleet, item->request.destination)->name);
  nc_live_add(c, live);
  work->lives[i] = live;
}

static NcRequest
nc_batch_request(NcController *c, const NcWish *wish, uint32_t machine, uint32_t destination)
{
  const NcLive live = { .wish = *wish, .batch = "", .evacuation = "" };
  return nc_request_of(c, &live, machine, destination);
}

/* Fills in lives and reasons; how many were submitted. */
static size_t
nc_batch_decide(NcBatchWork *work)
{
  NcController *c = work->c;
  g_autofree NcRequest *requests = g_new0(NcRequest, work->count);
  g_autofree NcBatchResult *results = g_new0(NcBatchResult, work->count);
  g_autofree size_t *at = g_new0(size_t, work->count);
  size_t n = 0, submitted;

  for (size_t i = 0; i < work->count; i++) {
    g_autoptr(GError) error = NULL;
    uint32_t machine, destination;
    if (!nc_resolve_wish(c, &work->wishes[i], &machine, &destination, &error)) {
      work->reasons[i] = g_strdup(error->message);
      continue;
    }
    if (work->kind == NC_BATCH_ALL && nc_fleet_machine(c->fleet, machine)->is_stopped) { /* of others its node says so, who knows it better */
      work->reasons[i] = g_strdup_printf("%s is stopped, and only a running machine can be migrated", work->wishes[i].machine);
      continue;
    }
    requests[n] = nc_batch_request(c, &work->wishes[i], machine, destination);
    at[n++] = i;
  }
  if (work->kind == NC_BATCH_ALL && n < work->count)
    return 0;
  submitted = nc_batch_submit(c->queue, work->kind, nc_group_of(c, work->id), requests, n, c->now_us, results);
  for (size_t i = 0; i < n; i++) {
    if (results[i].id > 0)
      nc_batch_take(work, at[i], results[i].id);
    work->reasons[at[i]] = results[i].reason;
  }
  return submitted;
}

static void
nc_batch_answer(NcBatchWork *work, size_t submitted)
{
  json_t *items = json_array(), *refused = json_array();

  for (size_t i = 0; i < work->count; i++) {
    const NcLive *live = work->lives[i];
    const char *reason = live               ? ""
                         : work->reasons[i] ? work->reasons[i]
                                            : "another one of its batch can't move, and the batch is for all or none";
    const char *machine = live ? live->machine : work->wishes[i].machine;
    json_t *item =
        json_pack("{s:s?, s:s?, s:s}", "machine", machine, "migration", live ? live->id : NULL, "reason", reason);
    json_array_append_new(items, item);
    if (!live)
      json_array_append(refused, item);
  }
  work->answer = json_pack("{s:s, s:s, s:I, s:o}", "id", work->id, "policy", work->policy, "submitted",
                           (json_int_t)submitted, "items", items);
  work->detail = json_pack("{s:o}", "not_submitted", refused);
}

static bool
nc_write_batch(NcFleetDb *db, gpointer data, GError **error)
{
  const NcBatchWork *work = data;

  if (!nc_fleetdb_add_batch(db, work->id, work->policy, work->who->actor, work->detail, error))
    return false;
  for (size_t i = 0; i < work->count; i++)
    if (work->lives[i] && !nc_write_submission(work->c, db, work->lives[i], work->who->actor, error))
      return false;
  return nc_keep_answer(db, work->who, work->answer, error);
}

json_t *
nc_controller_batch(NcController *c, const NcAsker *who, json_t *body, GError **error)
{
  g_auto(NcBatchWork) work = { .c = c, .who = who };
  json_t *before;

  if (!nc_find_answer(c, who, &before, error) || before || !nc_read_batch(body, &work, error))
    return before;
  work.id = nc_id_new("bat");
  nc_batch_answer(&work, nc_batch_decide(&work));
  return nc_flush(c, nc_write_batch, &work, error) ? json_incref(work.answer) : NULL;
}
