/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoints for other nodes: sending one, and having one restored there.
 *
 * Each copy has a connection of its own, so that its bulk never stands in the way of what agents have to say to each
 * other about migrations. What happens to a checkpoint there is that node's business: it may be in its list long after
 * we were cut off.
 */
#include "agent/checkpoint.h"
#include "base/log.h"
#include "checkpoint/image.h"

#define NC_RESTORE_SILENCE_MS 60000 /* of the node that restores: it speaks every second */

/* --- the link --- */

static bool
nc_link_send(gpointer data, json_t *message, const void *bytes, size_t length, GError **error)
{
  return nc_peer_send_with(data, message, bytes, length, error);
}

static json_t *
nc_link_recv(gpointer data, int timeout_ms, GError **error)
{
  return nc_peer_recv(data, timeout_ms, error);
}

static bool
nc_link_recv_bytes(gpointer data, void *bytes, size_t length, GError **error)
{
  return nc_peer_recv_bytes(data, bytes, length, error);
}

NcCopyLink
nc_checkpoint_copy_link(NcPeer *peer)
{
  return (NcCopyLink){ .data = peer, .send = nc_link_send, .recv = nc_link_recv, .recv_bytes = nc_link_recv_bytes };
}

void
nc_checkpoint_put_totals(json_t *result, const NcCopyTotals *totals)
{
  json_object_set_new(result, "blocks", json_integer((json_int_t)totals->blocks));
  json_object_set_new(result, "bytes", json_integer((json_int_t)totals->block_bytes));
  json_object_set_new(result, "sent_blocks", json_integer((json_int_t)totals->sent_blocks));
  json_object_set_new(result, "sent_bytes", json_integer((json_int_t)totals->sent_bytes));
  json_object_set_new(result, "wire_bytes", json_integer((json_int_t)totals->wire_bytes));
  json_object_set_new(result, "was_there", json_boolean(totals->had_it));
}

/* --- sending --- */

static void
nc_send_begin_progress(NcCheckpoint *cp)
{
  NcManifestInfo info = { 0 };
  nc_autojson json_t *meta = nc_image_read_meta(cp->owner->deps.store, cp->id, &info, NULL);

  __atomic_store_n(&cp->progress, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&cp->progress_total, info.block_bytes, __ATOMIC_RELAXED);
}

bool
nc_checkpoint_send(NcCheckpoint *cp, NcPeer *peer, NcCopyTotals *ret, GError **error)
{
  const NcCopyLink link = nc_checkpoint_copy_link(peer);
  const NcCopy copy = {
    .store = cp->owner->deps.store, .link = &link, .cancelled = &cp->cancelled, .progress = &cp->progress
  };
  const char *node = nc_peer_node(peer);
  g_autoptr(GError) problem = NULL;

  nc_send_begin_progress(cp);
  bool ok = nc_copy_send(&copy, cp->id, ret, &problem);
  if (!ok && g_atomic_int_get(&cp->cancelled)) {
    g_clear_error(&problem);
    nc_fail(&problem, NC_ERROR_CANCELLED, "cancelled");
  }
  nc_autojson json_t *detail = json_pack("{s:b}", "ok", ok);
  nc_checkpoint_put_totals(detail, ret);
  if (!ok)
    json_object_set_new(detail, "error", nc_error_to_json(problem));
  nc_checkpoint_audit(cp->owner, "checkpoint.sent", cp->id, cp->vm, node, json_incref(detail));
  if (ok)
    return true;
  g_propagate_prefixed_error(
      error, g_steal_pointer(&problem),
      "checkpoint %s was not copied from node %s to node %s (what has arrived stays there until the next "
      "collection of its store; the same command goes on from there): ",
      cp->id, cp->owner->deps.config->node, node);
  return false;
}

/* --- the thread of an activity that needs another node --- */

typedef struct {
  NcCheckpoint *cp;
  char *node;
  json_t *restore; /* the cp_restore message; NULL: copy only */
  json_t *result;
} NcRemote;

/* What the other node said last of the restore. */
static bool
nc_remote_hear_restored(NcRemote *r, NcPeer *peer, GError **error)
{
  const NcCopyLink link = nc_checkpoint_copy_link(peer);

  for (;;) {
    nc_autojson json_t *message = nc_copy_expect(&link, "cp_restored", "cp_restoring", NC_RESTORE_SILENCE_MS, error);
    if (!message)
      return false;
    __atomic_store_n(&r->cp->progress, (uint64_t)CLAMP(nc_json_int_or(message, "progress", 0), 0, 100),
                     __ATOMIC_RELAXED);
    if (g_str_equal(nc_json_string_or(message, "type", ""), "cp_restoring"))
      continue;
    json_t *activity = json_object_get(message, "activity"), *failure = json_object_get(activity, "error");
    if (json_is_object(failure)) {
      nc_error_set_json(error, failure);
      return false;
    }
    json_object_set(r->result, "warnings", json_object_get(activity, "warnings"));
    json_object_set(r->result, "machine", json_object_get(activity, "machine"));
    return true;
  }
}

static bool
nc_remote_restore(NcRemote *r, NcPeer *peer, GError **error)
{
  __atomic_store_n(&r->cp->progress, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&r->cp->progress_total, 100, __ATOMIC_RELAXED);
  if (nc_peer_send(peer, r->restore, error) && nc_remote_hear_restored(r, peer, error))
    return true;
  g_prefix_error(
      error,
      "node %s has checkpoint %s, and did not say that it restored it (see there: novacron checkpoint show %s): ",
      r->node, r->cp->id, r->cp->id);
  return false;
}

static bool
nc_remote_run(NcRemote *r, GError **error)
{
  NcCheckpoint *cp = r->cp;
  NcCopyTotals totals = { 0 };
  g_autoptr(NcPeer) peer =
      nc_nodes_connect(cp->owner->deps.nodes, r->node, cp->owner->deps.config->connect_timeout_ms, error);

  if (!peer) {
    g_prefix_error(error, "checkpoint %s can't be copied to node %s: ", cp->id, r->node);
    return false;
  }
  bool ok = nc_checkpoint_set_link(cp, peer) || nc_fail(error, NC_ERROR_CANCELLED, "cancelled");
  ok = ok && nc_checkpoint_send(cp, peer, &totals, error);
  nc_checkpoint_put_totals(r->result, &totals);
  ok = ok && (!r->restore || nc_remote_restore(r, peer, error));
  nc_checkpoint_clear_link(cp, peer);
  return ok;
}

static gpointer
nc_remote_thread(gpointer data)
{
  NcRemote *r = data;
  g_autoptr(NcCheckpoint) cp = r->cp;
  NcCheckpoints *c = cp->owner;
  g_autoptr(GError) error = NULL;

  bool ok = nc_remote_run(r, &error);
  nc_log(ok ? NC_LOG_NOTICE : NC_LOG_ERR, "agent", "checkpoint %s of %s: %s on node %s: %s", cp->id, cp->vm,
         r->restore ? "restore" : "copy", r->node, ok ? "done" : error->message);
  nc_checkpoint_activity_ends(cp, json_incref(r->result), error);
  json_decref(r->result);
  json_decref(r->restore);
  g_free(r->node);
  g_free(r);
  nc_checkpoints_thread_ends(c);
  return NULL;
}

/* ${restore} is taken. */
static json_t *
nc_remote_begin(NcCheckpoints *c, const char *node, json_t *args, const char *activity, json_t *restore, GError **error)
{
  nc_autojson json_t *message = restore;
  g_autofree char *address = nc_nodes_address(c->deps.nodes, node, error);

  if (!address)
    return NULL;
  if (g_str_equal(node, c->deps.config->node)) {
    nc_fail(error, NC_ERROR_INVALID, "node %s is this one: the checkpoint is here", node);
    return NULL;
  }
  NcCheckpoint *cp = nc_checkpoints_begin_activity(c, args, activity, error);
  if (!cp)
    return NULL;
  NcRemote *r = g_new0(NcRemote, 1);
  r->cp = cp;
  r->node = g_strdup(node);
  r->restore = g_steal_pointer(&message);
  r->result = json_pack("{s:s}", "node", node);
  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&c->lock);
    json_object_set_new(cp->last_activity, "node", json_string(node));
  }
  json_t *view = nc_checkpoint_view(cp);
  nc_checkpoints_spawn(c, "checkpoint-remote", nc_remote_thread, r);
  return view;
}

json_t *
nc_checkpoints_copy(NcCheckpoints *c, json_t *args, GError **error)
{
  const char *node = nc_json_string(args, "to", error);
  return node ? nc_remote_begin(c, node, args, "copy", NULL, error) : NULL;
}

json_t *
nc_checkpoints_restore_on(NcCheckpoints *c, const char *node, json_t *args, GError **error)
{
  json_t *restore = json_copy(args);
  json_object_del(restore, "on");
  json_object_set_new(restore, "type", json_string("cp_restore"));
  return nc_remote_begin(c, node, args, "restore", restore, error);
}
