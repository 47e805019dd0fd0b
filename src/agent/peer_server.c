/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/peer_server.h"
#include "base/ident.h"
#include "base/log.h"
#include "base/quota.h"
#include "base/service.h"
#include "base/tcp.h"
#include "mover/preface.h"

#include <stdatomic.h>

/* Sessions of migrations (at most 100), their successors after a cut, strangers who have 10 s to prove themselves, and nodes that are asked
 * over their own connections. */
#define NC_SERVER_CONNECTIONS 1280
/* Of these, as long as nobody knows who they are; and of one network, behind which a whole site may be. */
#define NC_SERVER_STRANGERS 512
#define NC_SERVER_STRANGERS_EACH 32
/* The same for addresses that nodes have come from: places that strangers elsewhere can't take. */
#define NC_SERVER_GUESTS 512
#define NC_SERVER_GUESTS_EACH 64
#define NC_SERVER_KNOWN_ADDRESSES 4096
/* Of one node: two sessions for each of a hundred migrations, and questions. */
#define NC_SERVER_SESSIONS_EACH 256
/* A flood is said so often. */
#define NC_SERVER_SAY_US (10 * G_USEC_PER_SEC)
/* From connecting to the end of TLS and hello. */
#define NC_SERVER_GREETING_MS 10000
/* A known node that says nothing. */
#define NC_SERVER_IDLE_MS 120000

struct NcPeerServer {
  const NcConfig *config;
  NcNodes *nodes;
  NcMigrations *migrations;
  NcCheckpoints *checkpoints;
  NcRollbacks *rollbacks;
  NcFleetDesk *fleet;
  NcFleetHost *controller; /* NULL: none here */
  NcQuota *strangers;      /* by network */
  NcQuota *guests;         /* not known yet either, by address: nodes have come from it */
  GMutex lock;             /* protects what follows */
  GHashTable *known;       /* these addresses */
  NcQuota *sessions;       /* by node */
  _Atomic int64_t said_us; /* when a flood was said last */
  NcService *service;
};

/* What one connection counts against. */
typedef struct {
  NcQuota *quota; /* borrowed; NULL: nothing */
  char *name;     /* ours */
} NcPlace;

static void
nc_place_leave(NcPlace *place)
{
  if (place->quota)
    nc_quota_give_back(place->quota, place->name);
  g_free(place->name);
  *place = (NcPlace){ 0 };
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NcPlace, nc_place_leave)

/* Of ${quota} for ${name}, in place of what it had. False: there is none. */
static bool
nc_place_take(NcPlace *place, NcQuota *quota, const char *name)
{
  if (!nc_quota_take(quota, name))
    return false;
  nc_place_leave(place);
  *place = (NcPlace){ quota, g_strdup(name) };
  return true;
}

/* A node has come from ${host}. */
static void
nc_peer_server_remember(NcPeerServer *server, const char *host)
{
  g_mutex_lock(&server->lock);
  if (g_hash_table_size(server->known) >= NC_SERVER_KNOWN_ADDRESSES)
    g_hash_table_remove_all(server->known); /* they will come again */
  g_hash_table_add(server->known, g_strdup(host));
  g_mutex_unlock(&server->lock);
}

static bool
nc_peer_server_knows(NcPeerServer *server, const char *host)
{
  g_mutex_lock(&server->lock);
  bool is_known = g_hash_table_contains(server->known, host);
  g_mutex_unlock(&server->lock);
  return is_known;
}

/* For a connection of which nobody knows yet whose it is. */
static bool
nc_peer_server_receive(NcPeerServer *server, int fd, const char *host, NcPlace *place)
{
  if (nc_peer_server_knows(server, host))
    return nc_place_take(place, server->guests, host);
  g_autofree char *network = nc_tcp_peer_network(fd);
  return nc_place_take(place, server->strangers, network);
}

/* What is left until ${deadline_us}, at least a moment. */
static int
nc_peer_server_left_ms(int64_t deadline_us)
{
  return (int)MAX((deadline_us - nc_mono_us()) / 1000, 1);
}

static void
nc_peer_server_say_flood(NcPeerServer *server, const char *address, const char *who)
{
  int64_t now_us = nc_mono_us(), said_us = server->said_us;

  if (said_us && now_us - said_us < NC_SERVER_SAY_US)
    return;
  if (atomic_compare_exchange_strong(&server->said_us, &said_us, now_us))
    nc_log(NC_LOG_WARNING, "agent", "connection from %s closed: %s as many connections open as it may have; further ones are closed at once",
           address, who);
}

/* Reads the preface and hands ${fd} (taken) to the migration it names. */
static bool
nc_peer_server_take_mover(NcPeerServer *server, int fd, GError **error)
{
  nc_autofd int owned = fd;
  NcPreface preface;

  return nc_preface_read(owned, &preface, NC_SERVER_GREETING_MS, error) &&
         nc_migrations_accept_conn(server->migrations, preface.id, preface.index, nc_fd_steal(&owned), error);
}

static bool
nc_peer_server_answer(NcPeer *peer, json_t *answer, const GError *problem, GError **error)
{
  nc_autojson json_t *message = answer;
  if (problem)
    message = json_pack("{s:s, s:o}", "type", "refused", "error", nc_error_to_json(problem));
  return nc_peer_send(peer, message, error);
}

/* A connection without certificate may join, and nothing else. */
static bool
nc_peer_server_serve_anonymous(NcPeerServer *server, NcPeer *peer, int timeout_ms, GError **error)
{
  nc_autojson json_t *message = nc_peer_recv(peer, timeout_ms, error);
  g_autoptr(GError) problem = NULL;
  json_t *joined = NULL;

  if (!message)
    return false;
  if (g_str_equal(nc_json_string_or(message, "type", ""), "join"))
    joined = nc_nodes_join(server->nodes, message, &problem);
  else
    nc_fail(&problem, NC_ERROR_UNAUTHENTICATED, "without a certificate a node may only join");
  if (problem)
    nc_log(NC_LOG_WARNING, "agent", "%s: %s", nc_peer_address(peer), problem->message);
  return nc_peer_server_answer(peer, joined, problem, error);
}

/* One message of a known node. False ends the connection. */
static bool
nc_peer_server_handle(NcPeerServer *server, NcPeer *peer, json_t *message, GError **error)
{
  const char *type = nc_json_string_or(message, "type", "");
  g_autoptr(GError) problem = NULL;

  /* It may have been removed since it connected. */
  if (!nc_peer_check_trusted(peer, &problem)) {
    nc_peer_server_answer(peer, NULL, problem, NULL);
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
  }
  if (g_str_has_prefix(type, "mig_")) {
    nc_migrations_serve_peer(server->migrations, peer, message);
    return false; /* it has read until the end */
  }
  if (g_str_has_prefix(type, "cp_")) {
    nc_checkpoints_serve_peer(server->checkpoints, peer, message);
    return false;
  }
  if (g_str_equal(type, "fl_serve")) {
    if (!nc_fleet_host_serve(server->controller, peer, &problem))
      nc_peer_server_answer(peer, NULL, problem, NULL);
    return false; /* it was asked until it ended */
  }
  json_t *answer = g_str_has_prefix(type, "rb_")   ? nc_rollbacks_answer(server->rollbacks, peer, message, &problem)
                   : g_str_has_prefix(type, "fl_") ? nc_fleet_desk_answer(server->fleet, peer, message, &problem)
                                                   : nc_nodes_answer(server->nodes, peer, message, &problem);
  if (!answer && !problem)
    nc_fail(&problem, NC_ERROR_PROTOCOL, "\"%.32s\" is not a message between nodes", type);
  return nc_peer_server_answer(peer, answer, problem, error) && !problem;
}

static bool
nc_peer_server_serve_peer(NcPeerServer *server, NcPeer *peer, int64_t deadline_us, GError **error)
{
  if (!nc_peer_node(peer))
    return nc_peer_server_serve_anonymous(server, peer, nc_peer_server_left_ms(deadline_us), error);
  if (!nc_nodes_hello_server(server->nodes, peer, NULL, nc_peer_server_left_ms(deadline_us), error))
    return false;
  for (;;) {
    nc_autojson json_t *message = nc_peer_recv(peer, NC_SERVER_IDLE_MS, error);
    if (!message || !nc_peer_server_handle(server, peer, message, error))
      return false;
  }
}

static void
nc_peer_server_serve(int fd, gpointer user_data)
{
  NcPeerServer *server = user_data;
  nc_autofd int owned = fd;
  g_autofree char *address = nc_tcp_peer_address(fd), *host = g_strndup(address, (gsize)(MAX(strrchr(address, ':'), address) - address));
  int64_t deadline_us = nc_mono_us() + NC_SERVER_GREETING_MS * 1000;
  g_auto(NcPlace) place = { 0 };
  g_autoptr(GError) error = NULL;
  bool is_mover = false;

  if (!nc_peer_server_receive(server, owned, host, &place)) {
    nc_peer_server_say_flood(server, address, "this network, or all that have not said who they are, have");
    return;
  }
  if (!nc_tcp_tune(owned, &error) || !nc_preface_await(owned, &is_mover, nc_peer_server_left_ms(deadline_us), &error)) {
    nc_log(NC_LOG_INFO, "agent", "connection from %s: %s", address, error ? error->message : "closed");
    return;
  }
  if (is_mover) {
    if (!nc_peer_server_take_mover(server, nc_fd_steal(&owned), &error))
      nc_log(NC_LOG_WARNING, "agent", "connection from %s: %s", address, error->message);
    return;
  }
  g_autoptr(NcPeer) peer = nc_peer_accept(nc_nodes_trust(server->nodes), nc_fd_steal(&owned), nc_peer_server_left_ms(deadline_us), &error);
  if (!peer) {
    nc_log(NC_LOG_WARNING, "agent", "connection from %s refused: %s", address, error->message);
    return;
  }
  if (nc_peer_node(peer))
    nc_peer_server_remember(server, host);
  if (nc_peer_node(peer) && !nc_place_take(&place, server->sessions, nc_peer_node(peer))) {
    nc_peer_server_say_flood(server, nc_peer_node(peer), "that node has");
    return;
  }
  nc_peer_server_serve_peer(server, peer, deadline_us, &error);
  if (error && error->code != NC_ERROR_IO)
    nc_log(NC_LOG_INFO, "agent", "connection from %s (%s) ended: %s", address, nc_peer_node(peer) ? nc_peer_node(peer) : "no certificate",
           error->message);
}

NcPeerServer *
nc_peer_server_new(const NcConfig *config, NcNodes *nodes, NcMigrations *migrations, NcCheckpoints *checkpoints, NcRollbacks *rollbacks,
                   NcFleetDesk *fleet, NcFleetHost *controller, GError **error)
{
  int listener = nc_tcp_listen(config->listen, error);
  if (listener < 0) {
    g_prefix_error(error, "`listen` in %s: ", config->path);
    return NULL;
  }
  NcPeerServer *server = g_new0(NcPeerServer, 1);
  server->config = config;
  server->nodes = nodes;
  server->migrations = migrations;
  server->checkpoints = checkpoints;
  server->rollbacks = rollbacks;
  server->fleet = fleet;
  server->controller = controller;
  server->strangers = nc_quota_new(NC_SERVER_STRANGERS_EACH, NC_SERVER_STRANGERS);
  server->guests = nc_quota_new(NC_SERVER_GUESTS_EACH, NC_SERVER_GUESTS);
  g_mutex_init(&server->lock);
  server->known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  server->sessions = nc_quota_new(NC_SERVER_SESSIONS_EACH, NC_SERVER_CONNECTIONS);
  server->service = nc_service_new("nodes", listener, NC_SERVER_CONNECTIONS, nc_peer_server_serve, server);
  return server;
}

void
nc_peer_server_free(NcPeerServer *server)
{
  if (!server)
    return;
  nc_service_free(server->service);
  nc_quota_free(server->strangers);
  nc_quota_free(server->guests);
  g_hash_table_unref(server->known);
  g_mutex_clear(&server->lock);
  nc_quota_free(server->sessions);
  g_free(server);
}
