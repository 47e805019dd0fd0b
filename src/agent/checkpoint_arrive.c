/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints from other nodes: offered by one, or fetched; and what nodes ask of ours. */
#include "agent/checkpoint.h"
#include "base/ident.h"
#include "base/log.h"
#include "checkpoint/image.h"

#define NC_ARRIVALS_MAX 8u       /* at a time, so that memory and disk have bounds */
#define NC_SESSION_IDLE_MS 30000 /* between a copy and what is to be done with it */
#define NC_RESTORE_POLL_US 100000
#define NC_RESTORE_TELL_POLLS 10

bool
nc_checkpoint_audit(NcCheckpoints *c, const char *kind, const char *id, const char *vm, const char *node,
                    json_t *detail)
{
  nc_autojson json_t *owned = detail;
  g_autofree char *actor = g_strdup_printf("node:%s", node);
  const NcAuditEntry entry = { .kind = kind, .subject = id, .vm = vm, .actor = actor, .detail = owned };
  g_autoptr(GError) error = NULL;

  bool ok = nc_journal_audit(c->deps.journal, &entry, false, NULL, &error);
  if (!ok)
    nc_log(NC_LOG_ERR, "agent", "checkpoint %s: %s can't be recorded: %s", id, kind, error->message);
  return ok;
}

bool
nc_checkpoint_set_link(NcCheckpoint *cp, NcPeer *peer)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&cp->owner->lock);
  cp->link = peer;
  return !g_atomic_int_get(&cp->cancelled) && !g_atomic_int_get(&cp->owner->closing);
}

void
nc_checkpoint_clear_link(NcCheckpoint *cp, const NcPeer *peer)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&cp->owner->lock);
  if (cp->link == peer)
    cp->link = NULL;
}

/* --- one that arrives --- */

/*
 * A place in the list for ${id}; a reference. *ret_present: it is there already, ready or (not ${only_new}) on its way.
 * NULL: it can't come now.
 */
static NcCheckpoint *
nc_arrival_begin(NcCheckpoints *c, const char *id, const char *vm, const char *from, bool only_new, bool *ret_present,
                 GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
  NcCheckpoint *present = g_hash_table_lookup(c->table, id);
  bool making = present && present->state == NC_CHECKPOINT_MAKING;

  *ret_present = present && (present->state == NC_CHECKPOINT_READY || (making && !only_new));
  if (*ret_present)
    return nc_checkpoint_ref(present);
  if (making)
    nc_fail(error, NC_ERROR_CONFLICT, "checkpoint %s is arriving on node %s already", id, c->deps.config->node);
  else if (present && present->state == NC_CHECKPOINT_DAMAGED)
    nc_fail(error, NC_ERROR_CONFLICT, "node %s has checkpoint %s, damaged: delete it there first", c->deps.config->node,
            id);
  else if (!g_str_has_prefix(id, NC_CHECKPOINT_ID_PREFIX "-"))
    nc_fail(error, NC_ERROR_INVALID, "\"%.64s\" is no checkpoint's id", id);
  else if (c->arriving >= NC_ARRIVALS_MAX)
    nc_fail(error, NC_ERROR_RESOURCE, "%u checkpoints arrive on node %s already: try again later", c->arriving,
            c->deps.config->node);
  else if (g_atomic_int_get(&c->closing))
    nc_fail(error, NC_ERROR_CONFLICT, "novacrond on node %s is stopping", c->deps.config->node);
  else {
    NcCheckpoint *cp = nc_checkpoints_add_locked(c, id, vm, json_pack("{s:{s:s}}", "copied", "from", from));
    cp->arriving = true;
    c->arriving++;
    return cp;
  }
  return NULL;
}

static void
nc_arrival_tell(NcCheckpoint *cp, const char *from, const NcCopyTotals *totals, const GError *problem)
{
  json_t *detail = json_pack("{s:b}", "ok", problem == NULL);

  nc_checkpoint_put_totals(detail, totals);
  if (problem)
    json_object_set_new(detail, "error", nc_error_to_json(problem));
  nc_checkpoint_audit(cp->owner, "checkpoint.arrived", cp->id, cp->vm, from, detail);
  nc_log(problem ? NC_LOG_WARNING : NC_LOG_NOTICE, "agent", "checkpoint %s of %s, from node %s: %s", cp->id, cp->vm,
         from, problem ? problem->message : "all of it is here");
}

/* It is in the store, as ${meta} (taken) says; or ${problem}, and NULL. */
static void
nc_arrival_end(NcCheckpoint *cp, const char *from, const NcCopyTotals *totals, json_t *meta, const GError *problem)
{
  NcCheckpoints *c = cp->owner;

  nc_arrival_tell(cp, from, totals, problem);
  if (!problem)
    nc_checkpoint_committed(cp, meta);
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    cp->arriving = false;
    c->arriving--;
    if (problem) {
      cp->state = problem->code == NC_ERROR_CANCELLED ? NC_CHECKPOINT_CANCELLED : NC_CHECKPOINT_FAILED;
      cp->error = g_error_copy(problem);
    }
  }
  if (problem && problem->code == NC_ERROR_RESOURCE)
    nc_checkpoints_collect(c); /* what came of it is in the way of others; else it waits for the next try */
}

/*
 * Tells the sender how it has ended, after the end: a restore that it asks for at once finds the checkpoint ready, and a copy that it
 * begins anew finds that this one is over. ${problem}: NULL, it is here.
 */
static void
nc_arrival_answer(NcCheckpoint *cp, NcPeer *peer, const GError *problem)
{
  const NcCopyLink link = nc_checkpoint_copy_link(peer);

  if (problem)
    nc_copy_reject(&link, problem);
  else
    nc_copy_confirm(&link, cp->id);
  nc_checkpoint_clear_link(cp, peer); /* it is ready: a copy of it may have begun, on another */
}

/* Of what is offered on ${peer}; cp is on its way. What goes wrong is told by nc_arrival_answer(). */
static bool
nc_arrival_receive(NcCheckpoint *cp, NcPeer *peer, const NcCopyOffer *offer, NcCopyTotals *totals, json_t **ret_meta,
                   GError **error)
{
  NcCheckpoints *c = cp->owner;
  const NcCopyLink link = nc_checkpoint_copy_link(peer);
  g_autofree char *last = nc_checkpoints_last_of(c, cp->vm);
  const NcCopy copy = {
    .store = c->deps.store, .link = &link, .cancelled = &cp->cancelled, .progress = &cp->progress, .base = last
  };
  g_autofree char *now = nc_time_format(nc_wall_us());
  nc_autojson json_t *note = json_pack("{s:s, s:s}", "from", nc_peer_node(peer), "at", now);

  if (!g_str_equal(offer->id, cp->id) || !g_str_equal(offer->machine, cp->vm))
    return nc_fail(error, NC_ERROR_PROTOCOL, "node %s offers another checkpoint than %s of %s", nc_peer_node(peer),
                   cp->id, cp->vm);
  __atomic_store_n(&cp->progress_total, offer->block_bytes, __ATOMIC_RELAXED);
  if (!nc_checkpoint_set_link(cp, peer))
    return nc_fail(error, NC_ERROR_CANCELLED, "cancelled");
  bool ok = nc_copy_receive(&copy, offer, note, totals, ret_meta, error);
  if (!ok && g_atomic_int_get(&cp->cancelled)) {
    g_clear_error(error);
    nc_fail(error, NC_ERROR_CANCELLED, "checkpoint %s: its arrival on node %s was cancelled", cp->id,
            c->deps.config->node);
  }
  return ok;
}

/* --- asked by other nodes --- */

static bool
nc_serve_offer(NcCheckpoints *c, NcPeer *peer, json_t *message, GError **error)
{
  NcCopyOffer offer;
  NcCopyTotals totals = { 0 };
  json_t *meta = NULL;
  bool present = false;
  g_autoptr(GError) problem = NULL;

  if (!nc_copy_offer_parse(message, &offer, error) || !nc_checkpoints_store(c, error))
    return false;
  g_autoptr(NcCheckpoint) cp = nc_arrival_begin(c, offer.id, offer.machine, nc_peer_node(peer), true, &present, error);
  if (!cp)
    return false;
  if (present) {
    nc_autojson json_t *have = json_pack("{s:s, s:s}", "type", "cp_have", "id", offer.id);
    return nc_peer_send(peer, have, error);
  }
  bool ok = nc_arrival_receive(cp, peer, &offer, &totals, &meta, &problem);
  g_autoptr(GError) ours = problem ? g_error_copy(problem) : NULL; /* the sender says by itself what did not arrive where */
  if (ours)
    g_prefix_error(&ours, "checkpoint %s did not arrive whole on node %s from node %s: ", cp->id, c->deps.config->node,
                   nc_peer_node(peer));
  nc_arrival_end(cp, nc_peer_node(peer), &totals, meta, ours);
  nc_arrival_answer(cp, peer, problem);
  if (!ok)
    nc_peer_shutdown(peer);
  return ok;
}

static bool
nc_serve_want(NcCheckpoints *c, NcPeer *peer, json_t *message, GError **error)
{
  g_autoptr(NcCheckpoint) cp = nc_checkpoints_begin_activity(c, message, "copy", error);
  g_autoptr(GError) problem = NULL;
  NcCopyTotals totals = { 0 };
  json_t *result = json_pack("{s:s}", "node", nc_peer_node(peer));

  if (!cp) {
    json_decref(result);
    return false;
  }
  bool ok = nc_checkpoint_set_link(cp, peer)
                ? nc_checkpoint_send(cp, peer, &totals, &problem)
                : nc_fail(&problem, NC_ERROR_CANCELLED, "novacrond on node %s is stopping", c->deps.config->node);
  nc_checkpoint_clear_link(cp, peer);
  nc_checkpoint_put_totals(result, &totals);
  nc_checkpoint_activity_ends(cp, result, problem);
  if (!ok)
    nc_peer_shutdown(peer);
  return ok;
}

/* Tells now and then how far the restore of ${id} is, and then how it has ended. False: the connection is gone; it goes
 * on. */
static bool
nc_serve_follow_restore(NcCheckpoints *c, NcPeer *peer, json_t *args, GError **error)
{
  for (unsigned polls = 0;; polls++) {
    nc_autojson json_t *view = nc_checkpoints_get(c, args, error);
    json_t *activity = json_object_get(view, "activity");
    if (!view)
      return false;
    bool over = !g_str_equal(nc_json_string_or(activity, "state", ""), "running");
    if (over || polls % NC_RESTORE_TELL_POLLS == 0) {
      nc_autojson json_t *word =
          json_pack("{s:s, s:I, s:O?}", "type", over ? "cp_restored" : "cp_restoring", "progress",
                    (json_int_t)nc_json_int_or(activity, "progress", over ? 100 : 0), "activity", activity);
      if (!nc_peer_send(peer, word, error))
        return false;
    }
    if (over)
      return true;
    g_usleep(NC_RESTORE_POLL_US);
  }
}

static bool
nc_serve_restore(NcCheckpoints *c, NcPeer *peer, json_t *message, GError **error)
{
  nc_autojson json_t *args = json_copy(message);

  json_object_del(args, "type");
  json_object_del(args, "on");
  if (!nc_checkpoint_audit(
          c, "request", nc_json_string_or(args, "id", "?"), NULL, nc_peer_node(peer),
          json_pack("{s:s, s:s, s:O}", "op", "checkpoint.restore", "from", nc_peer_address(peer), "args", args)))
    return nc_fail(error, NC_ERROR_IO, "node %s can't write to its transaction log, so that it restores nothing (its log says why)",
                   c->deps.config->node);
  nc_autojson json_t *begun = nc_checkpoints_restore(c, args, error);
  return begun && nc_serve_follow_restore(c, peer, args, error);
}

/* False ends the session. */
static bool
nc_serve_one(NcCheckpoints *c, NcPeer *peer, json_t *message)
{
  const NcCopyLink link = nc_checkpoint_copy_link(peer);
  const char *type = nc_json_string_or(message, "type", "");
  g_autoptr(GError) problem = NULL;
  bool ok = nc_peer_check_trusted(peer, &problem);

  if (!ok)
    ; /* it may have been removed since it connected */
  else if (g_str_equal(type, "cp_offer"))
    ok = nc_serve_offer(c, peer, message, &problem);
  else if (g_str_equal(type, "cp_want"))
    ok = nc_serve_want(c, peer, message, &problem);
  else if (g_str_equal(type, "cp_restore"))
    ok = nc_serve_restore(c, peer, message, &problem);
  else
    ok = nc_fail(&problem, NC_ERROR_PROTOCOL, "\"%.32s\" is not asked of a node about a checkpoint", type);
  if (problem)
    nc_copy_refuse(&link, problem);
  return ok;
}

void
nc_checkpoints_serve_peer(NcCheckpoints *c, NcPeer *peer, json_t *first_message)
{
  json_t *message = json_incref(first_message);

  while (message) {
    bool more = nc_serve_one(c, peer, message);
    json_decref(message);
    message = more ? nc_peer_recv(peer, NC_SESSION_IDLE_MS, NULL) : NULL;
  }
}

/* --- fetching --- */

typedef struct {
  NcCheckpoint *cp;
  char *from;
} NcFetch;

/* False: what is offered did not come, or did not become a checkpoint. */
static bool
nc_fetch_run(NcFetch *f, NcPeer *peer, NcCopyTotals *totals, json_t **ret_meta, GError **error)
{
  NcCheckpoint *cp = f->cp;
  NcCopyOffer offer;
  nc_autojson json_t *want = json_pack("{s:s, s:s}", "type", "cp_want", "id", cp->id);
  const NcCopyLink link = nc_checkpoint_copy_link(peer);

  if (!nc_checkpoint_set_link(cp, peer))
    return nc_fail(error, NC_ERROR_CANCELLED, "cancelled");
  nc_autojson json_t *message =
      nc_peer_send(peer, want, error) ? nc_copy_expect(&link, "cp_offer", NULL, NC_COPY_SILENCE_MS, error) : NULL;
  return message && nc_copy_offer_parse(message, &offer, error) &&
         nc_arrival_receive(cp, peer, &offer, totals, ret_meta, error);
}

static gpointer
nc_fetch_thread(gpointer data)
{
  NcFetch *f = data;
  g_autoptr(NcCheckpoint) cp = f->cp;
  NcCheckpoints *c = cp->owner;
  NcCopyTotals totals = { 0 };
  json_t *meta = NULL;
  g_autoptr(GError) problem = NULL;
  g_autoptr(NcPeer) peer = nc_nodes_connect(c->deps.nodes, f->from, c->deps.config->connect_timeout_ms, &problem);
  bool ok = peer && nc_fetch_run(f, peer, &totals, &meta, &problem);
  g_autoptr(GError) ours = ok ? NULL : g_error_copy(problem);

  if (ours)
    g_prefix_error(&ours, "checkpoint %s can't be fetched from node %s to node %s: ", cp->id, f->from, c->deps.config->node);
  nc_arrival_end(cp, f->from, &totals, meta, ours);
  if (peer)
    nc_arrival_answer(cp, peer, problem);
  g_clear_pointer(&peer, nc_peer_free);
  g_free(f->from);
  g_free(f);
  nc_checkpoints_thread_ends(c);
  return NULL;
}

json_t *
nc_checkpoints_fetch(NcCheckpoints *c, const char *id, const char *vm, const char *from, GError **error)
{
  bool present = false;
  NcCheckpoint *cp = nc_checkpoints_store(c, error) ? nc_arrival_begin(c, id, vm, from, false, &present, error) : NULL;

  if (!cp)
    return NULL;
  json_t *view = nc_checkpoint_view(cp);
  if (present) {
    nc_checkpoint_unref(cp);
    return view;
  }
  NcFetch *f = g_new0(NcFetch, 1);
  f->cp = cp;
  f->from = g_strdup(from);
  nc_checkpoints_spawn(c, "checkpoint-fetch", nc_fetch_thread, f);
  return view;
}
