/* SPDX-License-Identifier: Apache-2.0 */
/* The network's side: what other nodes' agents and movers ask of this one. */
#include "agent/destination.h"
#include "agent/migrations_internal.h"
#include "agent/preflight.h"
#include "base/ident.h"
#include "base/log.h"
#include "mover/preface.h"

#define NC_PREDECESSOR_US 15000000 /* for an abandoned migration to end: killing its QEMU takes a tenth of a second, or many on a host without time */

/* --- the network's side --- */

bool
nc_migrations_accept_conn(NcMigrations *ms, const char *migration_id, unsigned index, int fd, GError **error)
{
  nc_autofd int owned = fd;

  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);
  NcMigration *m = nc_migrations_find_locked(ms, migration_id);
  if (!m || m->is_source || nc_migration_is_finished(m))
    return nc_fail(error, NC_ERROR_NOT_FOUND, "a mover's connection names migration %s, which does not arrive here", migration_id);
  /* The byte first: once the mover has the descriptor, TLS starts on it. */
  return nc_preface_accept(owned, error) && nc_destination_migration_conn(m, index, owned, error);
}

/* Whoever was given the machine may ask because it wants to start it anew (start_check.h). */
static bool
nc_migrations_permit_start(NcMigrations *ms, const char *peer, const char *vm, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);

  for (guint i = 0; i < ms->live->len; i++) {
    NcMigration *m = ms->live->pdata[i];
    if (m->is_source && !nc_migration_is_finished(m) && g_str_equal(m->vm, vm) && g_strcmp0(m->peer, peer) == 0 &&
        !nc_migration_permit_start(m, nc_mono_us()))
      return nc_fail(error, NC_ERROR_CONFLICT, "an operator has said that it is to run on node %s again (migration %s)",
                     nc_nodes_self(ms->deps.nodes), m->id);
  }
  return true;
}

static void
nc_migrations_answer_probe(NcMigrations *ms, NcPeer *peer, json_t *message)
{
  const char *vm = nc_json_string_or(message, "vm", "");
  g_autoptr(GError) error = NULL;
  NcRight right;
  nc_autojson json_t *answer = NULL;

  if (!nc_name_is_valid(vm))
    nc_fail(&error, NC_ERROR_INVALID, "\"vm\" must be a machine's name: " NC_NAME_RULE);
  /* The right after that: one that is taken back in between is seen. */
  if (!error && nc_migrations_permit_start(ms, nc_peer_node(peer), vm, &error) && nc_journal_get_right(ms->deps.journal, vm, &right, &error))
    answer = json_pack("{s:s, s:I, s:s, s:s, s:b}", "type", "mig_probed", "epoch", (json_int_t)right.epoch, "right",
                       nc_right_name(right.state), "paths", ms->deps.config->paths, "postcopy", nc_postcopy_is_possible(NULL));
  else
    answer = json_pack("{s:s, s:o}", "type", "refused", "error", nc_error_to_json(error));
  nc_peer_send(peer, answer, NULL);
}

/* True while an older migration of the same machine from the same node is live here; it is told to end when ${tell} is set. */
static bool
nc_migrations_has_predecessor(NcMigrations *ms, const char *peer, const char *vm, uint64_t epoch, bool tell)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);

  for (guint i = 0; i < ms->live->len; i++) {
    NcMigration *m = ms->live->pdata[i];
    if (m->is_source || nc_migration_is_finished(m) || !g_str_equal(m->vm, vm) || !g_str_equal(m->peer, peer) || m->epoch >= epoch)
      continue;
    if (tell)
      nc_inbox_push(m->inbox, NC_FROM_PEER,
                    json_pack("{s:s, s:{s:s, s:s}}", "type", "mig_abort", "error", "code", "cancelled", "message",
                              "it was restarted and begins anew"));
    return true;
  }
  return false;
}

/*
 * A source that crashed may be back before we have noticed. That it offers a newer
 * epoch says that it has given the older one up; refusing that is always safe
 * (docs/decisions/006), and if it was taken already, the new offer fails by the run right.
 */
static void
nc_migrations_end_predecessor(NcMigrations *ms, const char *peer, json_t *message)
{
  const char *vm = nc_json_string_or(message, "vm", "");
  int64_t epoch = nc_json_int_or(message, "epoch", 0);
  int64_t deadline = nc_mono_us() + NC_PREDECESSOR_US;

  bool found = nc_migrations_has_predecessor(ms, peer, vm, (uint64_t)MAX(epoch, 0), true);
  while (found && nc_mono_us() < deadline) {
    g_usleep(20000);
    found = nc_migrations_has_predecessor(ms, peer, vm, (uint64_t)MAX(epoch, 0), false);
  }
}

/* What is refused at once. */
static bool
nc_migrations_may_arrive_locked(NcMigrations *ms, const char *id, GError **error)
{
  const NcConfig *config = ms->deps.config;
  NcMigration *present = nc_migrations_find_locked(ms, id);

  if (ms->quitting || (present && !nc_migration_is_finished(present)))
    return nc_fail(error, NC_ERROR_CONFLICT, "%s",
                   ms->quitting ? "the destination's novacrond is stopping" : "this migration is under way already");
  if (nc_migrations_count_locked(ms, false) >= (unsigned)config->max_migrations_in)
    return nc_fail(error, NC_ERROR_RESOURCE, "%d migrations arrive at the destination (%s) already (max_migrations_in): try again later",
                   config->max_migrations_in, nc_nodes_self(ms->deps.nodes));
  return true;
}

static NcMigration *
nc_migrations_admit_incoming(NcMigrations *ms, NcPeer *peer, json_t *message, GError **error)
{
  const char *id = nc_json_string_or(message, "migration", "");

  {
    g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);
    nc_migrations_sweep_locked(ms);
    if (!nc_migrations_may_arrive_locked(ms, id, error))
      return NULL;
  }
  /* Reads backing files, perhaps for minutes: nobody else waits for that. */
  if (!nc_destination_judge(&ms->deps, message, error))
    return NULL;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&ms->lock);
  if (!nc_migrations_may_arrive_locked(ms, id, error))
    return NULL;
  NcMigration *m = nc_destination_migration_start(&ms->deps, nc_peer_node(peer), message, peer, error);
  if (m)
    g_ptr_array_add(ms->live, m);
  return m;
}

static void
nc_migrations_refuse(NcPeer *peer, json_t *message, const GError *error)
{
  nc_log(NC_LOG_WARNING, "agent", "migration %s from %s is refused: %s", nc_json_string_or(message, "migration", "?"),
         nc_peer_node(peer), error->message);
  nc_autojson json_t *answer = json_pack("{s:s, s:s, s:o}", "type", "mig_refused", "migration",
                                         nc_json_string_or(message, "migration", ""), "error", nc_error_to_json(error));
  nc_peer_send(peer, answer, NULL);
}

/*
 * The session's messages go to the migration's inbox until the connection ends: NULL. Or until it has ended itself, and something comes
 * that its thread can't hear any more: that, a new reference.
 */
static json_t *
nc_migrations_pump(NcMigration *m, NcPeer *peer)
{
  json_t *message;

  while ((message = nc_peer_recv(peer, -1, NULL))) {
    if (nc_migration_hear_head(m, message))
      json_decref(message);
    else if (nc_migration_is_finished(m))
      break;
    else
      nc_inbox_push(m->inbox, NC_FROM_PEER, message);
  }
  nc_migration_reclaim_link(m, peer);
  nc_inbox_push(m->inbox, NC_FROM_PEER, NULL);
  nc_migration_return(m);
  return message;
}

/*
 * A source that comes back, or wants the machine back, asks the living thread, or the journal. The session's next message (new reference),
 * if it has been read already.
 */
static json_t *
nc_migrations_serve_query(NcMigrations *ms, NcPeer *peer, json_t *message)
{
  const char *id = nc_json_string_or(message, "migration", "");
  g_mutex_lock(&ms->lock);
  NcMigration *m = nc_migrations_find_locked(ms, id);
  bool living = m && !m->is_source && !nc_migration_is_finished(m) && g_strcmp0(m->peer, nc_peer_node(peer)) == 0;
  if (living) {
    nc_migration_borrow(m);
  }
  g_mutex_unlock(&ms->lock);
  if (living) {
    nc_migration_lend_link(m, peer); /* which may wait for a peer that does not read: not under everybody's lock */
    nc_inbox_push(m->inbox, NC_FROM_PEER, json_incref(message));
    return nc_migrations_pump(m, peer);
  }
  bool let_go = g_str_equal(nc_json_string_or(message, "type", ""), "mig_let_go");
  nc_autojson json_t *answer = let_go ? nc_destination_let_go(&ms->deps, nc_peer_node(peer), message)
                                      : nc_destination_answer_query(&ms->deps, nc_peer_node(peer), message);
  bool started = g_str_equal(nc_json_string_or(answer, "type", ""), "mig_started");
  if (nc_peer_send(peer, answer, NULL) && started) {
    nc_autojson json_t *alive = json_pack("{s:s, s:s, s:b, s:s}", "type", "mig_alive", "migration", id, "alive", 1, "detail",
                                          "running, as its node's record says");
    nc_peer_send(peer, alive, NULL);
  }
  return NULL;
}

/* The source has let go of what arrived here when nobody was there to hear it. */
static void
nc_migrations_hear_finished(NcMigrations *ms, NcPeer *peer, json_t *message)
{
  const char *id = nc_json_string_or(message, "migration", "");
  g_autoptr(GError) error = NULL;

  if (!nc_name_is_valid(id) || !nc_destination_confirm(&ms->deps, nc_peer_node(peer), id, &error)) {
    if (error)
      nc_log(NC_LOG_WARNING, "agent", "migration %s: that %s has let go of it can't be recorded: %s", id, nc_peer_node(peer), error->message);
    return;
  }
  nc_autojson json_t *done = json_pack("{s:s, s:s}", "type", "mig_done", "migration", id);
  nc_peer_send(peer, done, NULL);
}

void
nc_migrations_serve_peer(NcMigrations *ms, NcPeer *peer, json_t *first_message)
{
  json_t *message = json_incref(first_message);
  NcPreflightSession session = { 0 };

  while (message) {
    const char *type = nc_json_string_or(message, "type", "");
    json_t *next = NULL;
    if (g_str_equal(type, "mig_probe")) {
      nc_migrations_answer_probe(ms, peer, message);
    } else if (nc_preflight_serve(&ms->deps, &session, peer, message)) {
      /* answered */
    } else if (g_str_equal(type, "mig_query") || g_str_equal(type, "mig_let_go")) {
      next = nc_migrations_serve_query(ms, peer, message);
    } else if (g_str_equal(type, "mig_finished")) {
      nc_migrations_hear_finished(ms, peer, message);
    } else if (g_str_equal(type, "mig_prepare")) {
      g_autoptr(GError) error = NULL;
      nc_migrations_end_predecessor(ms, nc_peer_node(peer), message);
      NcMigration *m = nc_migrations_admit_incoming(ms, peer, message, &error);
      if (m)
        next = nc_migrations_pump(m, peer);
      else
        nc_migrations_refuse(peer, message, error);
    }
    json_decref(message);
    message = next ? next : nc_peer_recv(peer, -1, NULL);
  }
}
