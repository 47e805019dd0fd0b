/* SPDX-License-Identifier: Apache-2.0 */
/* `relay listen`: a port for sessions and their movers, of which one session at a time goes on to QEMU. */
#include "base/ident.h"
#include "base/io.h"
#include "base/log.h"
#include "base/service.h"
#include "base/tcp.h"
#include "mover/preface.h"
#include "relay/session.h"

#include <sys/socket.h>

/* A session, its movers' connections, and strangers who have 10 s to prove themselves. */
#define NC_LISTENER_CONNECTIONS 64
#define NC_LISTENER_GREETING_MS 10000

typedef struct {
  const NcRelaySetup *setup;
  const NcRelayListen *options;
  NcTrust *trust;

  GMutex lock; /* protects what follows */
  GCond idle;
  NcRelaySession *current; /* whose movers may connect; NULL: none */
  bool busy;               /* a session is being served */
  bool served;             /* one has ended */
} NcListener;

/* --- connections of movers --- */

/* Gives the connection to the mover: the first of its index, or the successor of one that was lost. */
static bool
nc_listener_take_mover_locked(NcListener *l, const NcPreface *preface, int fd, GError **error)
{
  NcRelaySession *s = l->current;

  if (!s || !g_str_equal(preface->id, s->offer.id))
    return nc_fail(error, NC_ERROR_NOT_FOUND, "a mover's connection names a session that is not under way");
  if (preface->index >= s->offer.streams)
    return nc_fail(error, NC_ERROR_PROTOCOL, "connection %u of %d", preface->index, s->offer.streams);
  /* The byte first: once the mover has the descriptor, TLS starts on it. */
  return nc_preface_accept(fd, error) &&
         nc_mover_process_send(s->mover, json_pack("{s:s, s:i}", "op", "conn", "index", (int)preface->index), fd,
                               error);
}

static bool
nc_listener_take_mover(NcListener *l, int fd, GError **error)
{
  NcPreface preface;

  if (!nc_preface_read(fd, &preface, NC_LISTENER_GREETING_MS, error))
    return false;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&l->lock);
  return nc_listener_take_mover_locked(l, &preface, fd, error);
}

/* --- a session --- */

static bool
nc_listener_on_mover(NcRelaySession *s, const char *name, json_t *event, GError **error)
{
  if (g_str_equal(name, "qemu_closed") && !s->facts.shut && !s->stream_ended) {
    nc_relay_session_tell(s, json_pack("{s:s}", "type", "relay_qemu_closed"));
  } else if (g_str_equal(name, "end")) {
    shutdown(s->qemu, SHUT_WR); /* the source's QEMU has closed: so it is for ours */
    nc_relay_session_tell(s, json_pack("{s:s, s:b, s:s}", "type", "relay_ended", "whole",
                                       (int)nc_json_bool_or(event, "whole", false), "sha256",
                                       nc_json_string_or(event, "sha256", "")));
  } else if (g_str_equal(name, "done")) {
    s->over = true;
  }
  return true;
}

static bool
nc_listener_on_peer(NcRelaySession *s, const char *type, json_t *message, GError **error)
{
  if (g_str_equal(type, "gone"))
    return s->finishing || nc_fail(error, NC_ERROR_UNREACHABLE, "the source's relay (%s) is gone", s->node);
  if (!g_str_equal(type, "relay_done"))
    return nc_fail(error, NC_ERROR_PROTOCOL, "the source's relay said \"%.32s\", which is no message of a relay", type);
  s->bytes_equal = (int)nc_json_int_or(message, "equal", -1);
  nc_peer_shutdown(s->peer); /* our leave: it waits for that */
  return nc_relay_session_finish(s, error);
}

static int
nc_listener_connect_qemu(NcListener *l, GError **error)
{
  int qemu = nc_unix_connect(l->setup->path, error);

  if (qemu < 0)
    g_prefix_error(error, "no QEMU waits at the destination (start it with -incoming unix:%s): ", l->setup->path);
  return qemu;
}

static bool
nc_listener_prepare(NcListener *l, NcRelaySession *s, NcPeer *peer, GError **error)
{
  nc_autofd int qemu = nc_listener_connect_qemu(l, error);

  if (qemu < 0 || !nc_relay_session_start_mover(s, nc_fd_steal(&qemu), error))
    return false;
  g_mutex_lock(&l->lock);
  l->current = s;
  g_mutex_unlock(&l->lock);
  nc_autojson json_t *ready = json_pack("{s:s}", "type", "relay_ready");
  return nc_peer_send(peer, ready, error);
}

static void
nc_listener_refuse(NcListener *l, NcPeer *peer, const GError *problem)
{
  nc_autojson json_t *message = json_pack("{s:s, s:o}", "type", "refused", "error", nc_error_to_json(problem));

  nc_relay_notice(l->setup, "refused %s (%s): %s", nc_peer_node(peer), nc_peer_address(peer), problem->message);
  nc_peer_send(peer, message, NULL);
}

static void
nc_listener_forget(NcListener *l)
{
  g_mutex_lock(&l->lock);
  l->current = NULL;
  g_mutex_unlock(&l->lock);
}

/* The destination's QEMU has everything; nobody here knows whether the source's has heard. */
static void
nc_listener_explain(NcRelaySession *s, GError **problem)
{
  if (*problem && s->facts.shut && s->facts.shut_status == 0)
    g_prefix_error(problem, "QEMU has loaded the machine here, but whether the source's QEMU knows is not sure "
                            "(compare `info status` of both): ");
}

/* Takes ${peer}, which was told to go ahead. */
static void
nc_listener_run(NcListener *l, NcRelaySession *s, NcPeer *peer)
{
  g_autoptr(GError) problem = NULL;

  nc_relay_session_attach_peer(s, peer);
  s->on_mover = nc_listener_on_mover;
  s->on_peer = nc_listener_on_peer;
  if (!nc_relay_session_run(s, &problem)) {
    nc_relay_session_abandon(s, &problem);
    nc_listener_explain(s, &problem);
  }
  nc_listener_forget(l);
  nc_relay_session_report(s, problem);
}

/* ${offer} and ${peer} are taken. True: there was a session, however it ended. */
static bool
nc_listener_serve_offer(NcListener *l, NcPeer *peer, NcRelayOffer *offer)
{
  g_autoptr(NcPeer) owned = peer;
  g_autoptr(GError) problem = NULL;
  g_autoptr(NcRelaySession) s = nc_relay_session_new(l->setup, false, offer);

  if (nc_listener_prepare(l, s, peer, &problem)) {
    nc_listener_run(l, s, g_steal_pointer(&owned));
    return true;
  }
  nc_listener_forget(l);
  nc_listener_refuse(l, peer, problem);
  return false;
}

/* One session at a time: whoever comes meanwhile is told so. */
static bool
nc_listener_enter(NcListener *l, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&l->lock);

  if (l->busy || (l->served && l->options->once))
    return nc_fail(error, NC_ERROR_CONFLICT,
                   "this relay is serving another session: wait for its end, or start one on another port");
  l->busy = true;
  return true;
}

static void
nc_listener_leave(NcListener *l, bool served)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&l->lock);

  l->busy = false;
  l->served = l->served || served;
  g_cond_signal(&l->idle);
}

static bool
nc_listener_check_peer(NcListener *l, NcPeer *peer, GError **error)
{
  if (!nc_peer_check_trusted(peer, error))
    return false;
  return !l->setup->node || g_strcmp0(l->setup->node, nc_peer_node(peer)) == 0 ||
         nc_fail(error, NC_ERROR_FORBIDDEN, "this relay serves node %s only (--node)", l->setup->node);
}

/* ${peer} is taken. */
static void
nc_listener_serve_peer(NcListener *l, NcPeer *peer)
{
  g_autoptr(NcPeer) owned = peer;
  g_autoptr(GError) problem = NULL;
  NcRelayOffer offer;
  nc_autojson json_t *message = nc_peer_recv(peer, NC_LISTENER_GREETING_MS, &problem);

  if (!message) {
    nc_relay_notice(l->setup, "connection from %s (%s): %s", nc_peer_address(peer), nc_peer_node(peer),
                    problem->message);
    return;
  }
  if (!nc_listener_check_peer(l, peer, &problem) || !nc_relay_offer_parse(message, &offer, &problem)) {
    nc_listener_refuse(l, peer, problem);
    return;
  }
  if (nc_listener_enter(l, &problem)) {
    nc_listener_leave(l, nc_listener_serve_offer(l, g_steal_pointer(&owned), &offer));
    return;
  }
  nc_listener_refuse(l, peer, problem);
  nc_relay_offer_clear(&offer);
}

static void
nc_listener_accept_peer(NcListener *l, int fd, const char *address)
{
  g_autoptr(GError) problem = NULL;

  if (!nc_trust_reload(l->trust, &problem)) /* a newer roster, say; the old one stays */
    nc_relay_notice(l->setup, "the keys can't be read again: %s", problem->message);
  nc_trust_allow_anonymous(l->trust, false);
  g_clear_error(&problem);
  NcPeer *peer = nc_peer_accept(l->trust, fd, NC_LISTENER_GREETING_MS, &problem);
  if (peer)
    nc_listener_serve_peer(l, peer);
  else
    nc_relay_notice(l->setup, "refused connection from %s: %s", address, problem->message);
}

static void
nc_listener_serve(int fd, gpointer user_data)
{
  NcListener *l = user_data;
  nc_autofd int owned = fd;
  g_autofree char *address = nc_tcp_peer_address(fd);
  g_autoptr(GError) error = NULL;
  bool is_mover = false;

  if (!nc_tcp_tune(owned, &error) || !nc_preface_await(owned, &is_mover, NC_LISTENER_GREETING_MS, &error))
    nc_log(NC_LOG_DEBUG, "relay", "connection from %s: %s", address, error ? error->message : "closed");
  else if (!is_mover)
    nc_listener_accept_peer(l, nc_fd_steal(&owned), address);
  else if (!nc_listener_take_mover(l, owned, &error))
    nc_relay_notice(l->setup, "refused connection from %s: %s", address, error->message);
}

/* --- life --- */

/* Until we are stopped or have done our one session; a session that is under way then ends itself. */
static void
nc_listener_wait(NcListener *l)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&l->lock);

  for (;;) {
    bool enough = (l->served && l->options->once) || nc_relay_is_stopped(l->setup);
    if (enough && !l->busy)
      return;
    g_cond_wait_until(&l->idle, &l->lock, g_get_monotonic_time() + NC_RELAY_SLICE_MS * 1000);
  }
}

bool
nc_relay_listen(const NcRelaySetup *setup, const NcRelayListen *options, GError **error)
{
  NcListener l = { .setup = setup, .options = options };
  g_autoptr(NcTrust) trust = nc_trust_load(setup->data_dir, error);
  int listener = trust ? nc_tcp_listen(options->address, error) : -1;

  if (listener < 0)
    return false;
  l.trust = trust;
  nc_trust_allow_anonymous(trust, false);
  g_mutex_init(&l.lock);
  g_cond_init(&l.idle);
  nc_relay_notice(setup, "%s listens on port %u for %s", nc_trust_node(trust), nc_tcp_local_port(listener),
                  setup->path);
  NcService *service = nc_service_new("relay", listener, NC_LISTENER_CONNECTIONS, nc_listener_serve, &l);
  nc_listener_wait(&l);
  nc_service_free(service);
  g_cond_clear(&l.idle);
  g_mutex_clear(&l.lock);
  return true;
}
