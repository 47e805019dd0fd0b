/* SPDX-License-Identifier: Apache-2.0 */
/* Counting connections, and opening a session on a thread of its own. */
#include "agent/source_path.h"
#include "base/ident.h"
#include "base/log.h"

#define NC_PATH_SESSION_MS 3000 /* for an attempt; novacrond's end may have to wait for one */
#define NC_PATH_TELL_US 1000000 /* shorter interruptions are for the log */

struct NcSourcePath {
  NcMigration *m;
  char **paths;
  unsigned streams;
  NcDialler *dialler;

  uint32_t up;               /* one bit for each connection of the movers that stands */
  bool began;                /* they have stood, at least one */
  int64_t pathless_since_us; /* monotonic; 0: one stands, or none has yet */
  bool told;                 /* the record says so */
  char *reason;              /* of the last loss */

  int64_t cut_off_since_us;
  int64_t next_attempt_us;
  GThread *attempt; /* returns a session, or NULL with `problem`; NULL: none */
  gint attempt_over; /* atomic */
  GError *problem;   /* the thread's while it runs */
};

NcSourcePath *
nc_source_path_new(NcMigration *m)
{
  NcSourcePath *p = g_new0(NcSourcePath, 1);

  p->m = m;
  return p;
}

void
nc_source_path_set(NcSourcePath *p, const char *const *paths, unsigned streams)
{
  p->streams = streams;
  g_strfreev(p->paths);
  p->paths = g_strdupv((char **)paths);
}

void
nc_source_path_free(NcSourcePath *p)
{
  if (!p)
    return;
  nc_dialler_free(p->dialler);
  if (p->attempt)
    nc_peer_free(g_thread_join(p->attempt));
  g_clear_error(&p->problem);
  g_strfreev(p->paths);
  g_free(p->reason);
  g_free(p);
}

void
nc_source_path_dial(NcSourcePath *p)
{
  p->dialler = nc_dialler_new(p->m->mover, p->m->id, (const char *const *)p->paths, p->streams,
                              p->m->deps->config->connect_timeout_ms);
}

bool
nc_source_path_await(NcSourcePath *p, GError **error)
{
  return nc_dialler_await(p->dialler, error);
}

void
nc_source_path_hang_up(NcSourcePath *p)
{
  g_clear_pointer(&p->dialler, nc_dialler_free);
}

/* --- the movers' connections --- */

static void
nc_source_path_lost(NcSourcePath *p, unsigned index, json_t *event)
{
  const char *reason = nc_json_string_or(event, "message", "");

  nc_migration_note(p->m, "connection-lost", "%u: %s", index, reason);
  g_free(p->reason);
  p->reason = g_strdup(reason);
  p->up &= ~(1u << index);
  if (p->up == 0 && p->began && p->pathless_since_us == 0)
    p->pathless_since_us = nc_mono_us();
}

static void
nc_source_path_back(NcSourcePath *p, unsigned index)
{
  p->up |= 1u << index;
  if (p->pathless_since_us > 0)
    nc_migration_note(p->m, "path-back", "after %.1f s", (double)(nc_mono_us() - p->pathless_since_us) / 1e6);
  p->pathless_since_us = 0;
}

void
nc_source_path_on_mover(NcSourcePath *p, json_t *event)
{
  const char *name = nc_json_string_or(event, "ev", "");
  int64_t index = nc_json_int_or(event, "index", -1);

  if (g_str_equal(name, "ready")) {
    p->up = (1u << p->streams) - 1;
    p->began = true;
  } else if (index < 0 || index >= p->streams) {
    return;
  } else if (g_str_equal(name, "lost")) {
    nc_source_path_lost(p, (unsigned)index, event);
  } else if (g_str_equal(name, "back")) {
    nc_source_path_back(p, (unsigned)index);
  }
  bool wants = g_str_equal(name, "lost") || g_str_equal(name, "refused");
  if (wants && p->dialler)
    nc_dialler_redial(p->dialler, (unsigned)index);
}

bool
nc_source_path_is_given_up(NcSourcePath *p, int timeout_ms, GError **error)
{
  if (p->pathless_since_us == 0 || nc_mono_us() - p->pathless_since_us < (int64_t)timeout_ms * 1000)
    return false;
  nc_fail(error, NC_ERROR_UNREACHABLE, "no connection to the destination (%s) for %d s (%s): given up (path_timeout_ms)",
          p->m->peer, timeout_ms / 1000, p->reason);
  return true;
}

/* --- the session --- */

static gpointer
nc_source_path_connect(gpointer data)
{
  NcSourcePath *p = data;
  const NcMigrationsDeps *deps = p->m->deps;
  NcPeer *link = nc_nodes_connect(deps->nodes, p->m->peer, MIN(deps->config->connect_timeout_ms, NC_PATH_SESSION_MS), &p->problem);

  g_atomic_int_set(&p->attempt_over, 1);
  return link;
}

void
nc_source_path_lost_session(NcSourcePath *p)
{
  if (p->cut_off_since_us > 0)
    return;
  nc_migration_note(p->m, "session-lost", "the connection to the destination's agent (%s) is gone; it is opened anew", p->m->peer);
  p->cut_off_since_us = nc_mono_us();
  p->next_attempt_us = 0;
}

int64_t
nc_source_path_cut_off_since_us(const NcSourcePath *p)
{
  return p->cut_off_since_us;
}

const char *
nc_source_path_session_problem(NcSourcePath *p)
{
  return p->problem && !p->attempt ? p->problem->message : "it does not answer";
}

bool
nc_source_path_ask(NcSourcePath *p)
{
  NcMigration *m = p->m;
  return nc_migration_tell(m, json_pack("{s:s, s:s, s:s, s:I, s:b}", "type", "mig_query", "migration", m->id, "vm", m->vm,
                                        "epoch", (json_int_t)m->epoch, "wire", p->dialler != NULL),
                           NULL);
}

/* The session is there again: its first message is the question. */
static void
nc_source_path_take_session(NcSourcePath *p, NcPeer *link)
{
  NcMigration *m = p->m;

  nc_migration_attach_link(m, link);
  if (!nc_source_path_ask(p))
    return;
  nc_migration_note(m, "session-back", "after %.1f s", (double)(nc_mono_us() - p->cut_off_since_us) / 1e6);
  p->cut_off_since_us = 0;
}

static void
nc_source_path_tick_session(NcSourcePath *p)
{
  if (p->attempt && g_atomic_int_get(&p->attempt_over)) {
    NcPeer *link = g_thread_join(g_steal_pointer(&p->attempt));
    p->next_attempt_us = nc_mono_us() + (int64_t)p->m->deps->config->peer_retry_ms * 1000;
    if (link)
      nc_source_path_take_session(p, link);
  }
  if (p->cut_off_since_us == 0 || p->attempt || nc_mono_us() < p->next_attempt_us)
    return;
  nc_migration_drop_link(p->m);
  g_clear_error(&p->problem);
  g_atomic_int_set(&p->attempt_over, 0);
  p->attempt = g_thread_new("session", nc_source_path_connect, p);
}

/* What people see of it, once it lasts. */
static void
nc_source_path_tell(NcSourcePath *p)
{
  int64_t now_us = nc_mono_us();
  bool lasts = p->pathless_since_us > 0 && now_us - p->pathless_since_us > NC_PATH_TELL_US;

  if (lasts) {
    g_autofree char *text = g_strdup_printf("no connection to %s for %d s (%s); trying again", p->m->peer,
                                            (int)((now_us - p->pathless_since_us) / 1000000), p->reason);
    nc_migration_set(p->m, "path", json_string(text));
  } else if (p->told) {
    nc_migration_set(p->m, "path", json_null());
  }
  p->told = lasts;
}

void
nc_source_path_tick(NcSourcePath *p)
{
  nc_source_path_tick_session(p);
  nc_source_path_tell(p);
}
