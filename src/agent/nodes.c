/* SPDX-License-Identifier: Apache-2.0 */
/* Hello, the exchange of rosters, and the thread that spreads a changed one. */
#include "agent/nodes_internal.h"
#include "base/ident.h"
#include "base/log.h"

#include <string.h>

/* How often the roster is offered again to nodes that did not answer. They also fetch it whenever they connect. */
#define NC_ROSTER_RETRY_S 60
/* Nodes that one without the CA's key asks for news at its start. */
#define NC_ROSTER_ASK_NODES 3

static void
nc_nodes_refuse(NcPeer *peer, const GError *error)
{
  nc_autojson json_t *message = json_pack("{s:s, s:o}", "type", "refused", "error", nc_error_to_json(error));
  nc_peer_send(peer, message, NULL);
}

json_t *
nc_nodes_expect(NcPeer *peer, const char *type, int timeout_ms, GError **error)
{
  nc_autojson json_t *message = nc_peer_recv(peer, timeout_ms, error);
  const char *got = message ? nc_json_string_or(message, "type", "") : "";

  if (!message)
    return NULL;
  if (g_str_equal(got, type))
    return g_steal_pointer(&message);
  if (g_str_equal(got, "refused")) {
    nc_error_set_json(error, json_object_get(message, "error"));
    g_prefix_error(error, "%s refused: ", nc_peer_node(peer) ? nc_peer_node(peer) : nc_peer_address(peer));
  } else {
    nc_fail(error, NC_ERROR_PROTOCOL, "%s sent \"%.32s\" where \"%s\" was due", nc_peer_address(peer), got, type);
  }
  return NULL;
}

static bool
nc_nodes_send_hello(NcNodes *nodes, NcPeer *peer, int64_t roster_version, GError **error)
{
  nc_autojson json_t *hello =
      json_pack("{s:s, s:s, s:i, s:s, s:I}", "type", "hello", "node", nc_nodes_self(nodes), "protocol", NC_AGENT_PROTOCOL, "version",
                NC_VERSION, "roster_version", (json_int_t)roster_version);
  return nc_peer_send(peer, hello, error);
}

static bool
nc_nodes_check_hello(NcPeer *peer, json_t *hello, int64_t *ret_roster_version, GError **error)
{
  int64_t protocol;
  const char *node = nc_json_string(hello, "node", error);

  if (!node || !nc_json_int(hello, "protocol", 0, G_MAXINT, &protocol, error) ||
      !nc_json_int(hello, "roster_version", 0, INT64_MAX, ret_roster_version, error))
    return false;
  if (protocol != NC_AGENT_PROTOCOL)
    return nc_fail(error, NC_ERROR_PROTOCOL,
                   "node %s speaks version %d of the protocol between nodes, this one version %d: run the same NovaCron on both",
                   nc_peer_node(peer), (int)protocol, NC_AGENT_PROTOCOL);
  if (g_strcmp0(node, nc_peer_node(peer)) != 0)
    return nc_fail(error, NC_ERROR_TRUST, "a node calls itself %.64s and has the certificate of %s", node, nc_peer_node(peer));
  return true;
}

static bool
nc_nodes_send_roster(NcNodes *nodes, NcPeer *peer, GError **error)
{
  g_autoptr(NcRoster) roster = nc_trust_roster(nodes->trust);
  nc_autojson json_t *message = json_pack("{s:s, s:s, s:s}", "type", "roster", "document", nc_roster_document(roster), "signature",
                                          nc_roster_signature(roster));
  return nc_peer_send(peer, message, error);
}

bool
nc_nodes_fetch_roster(NcNodes *nodes, NcPeer *peer, int timeout_ms, GError **error)
{
  nc_autojson json_t *request = json_pack("{s:s}", "type", "roster_get");
  nc_autojson json_t *answer = NULL;
  const char *document, *signature;
  bool replaced;

  if (!nc_peer_send(peer, request, error) || !(answer = nc_nodes_expect(peer, "roster", timeout_ms, error)))
    return false;
  if (!(document = nc_json_string(answer, "document", error)) || !(signature = nc_json_string(answer, "signature", error)) ||
      !nc_trust_replace_roster(nodes->trust, document, signature, &replaced, error))
    return false;
  if (replaced)
    nc_log(NC_LOG_NOTICE, "agent", "took roster version %" G_GUINT64_FORMAT " from %s", nc_trust_roster_version(nodes->trust),
           nc_peer_node(peer));
  return true;
}

/*
 * Who has the older roster asks, and who has the newer one waits to be asked:
 * both know both versions from hello, so neither has to guess. Afterwards the
 * newest list decides whether the two may talk at all: the handshake has let in
 * whoever only a newer one than ours can list.
 */
static bool
nc_nodes_exchange_rosters(NcNodes *nodes, NcPeer *peer, int64_t ours, int64_t theirs, int timeout_ms, GError **error)
{
  if (theirs > ours && !nc_nodes_fetch_roster(nodes, peer, timeout_ms, error))
    return false;
  if (theirs < ours) {
    nc_autojson json_t *request = nc_nodes_expect(peer, "roster_get", timeout_ms, error);
    if (!request || !nc_nodes_send_roster(nodes, peer, error))
      return false;
  }
  if (!nc_peer_check_present(peer, error))
    return false;
  nc_nodes_see_certificate(nodes, nc_peer_node(peer), nc_peer_serial(peer));
  return true;
}

bool
nc_nodes_hello_client(NcNodes *nodes, NcPeer *peer, int timeout_ms, GError **error)
{
  int64_t ours = (int64_t)nc_trust_roster_version(nodes->trust), theirs;
  nc_autojson json_t *hello = NULL;

  return nc_nodes_send_hello(nodes, peer, ours, error) && (hello = nc_nodes_expect(peer, "hello", timeout_ms, error)) != NULL &&
         nc_nodes_check_hello(peer, hello, &theirs, error) &&
         nc_nodes_exchange_rosters(nodes, peer, ours, theirs, timeout_ms, error);
}

bool
nc_nodes_hello_server(NcNodes *nodes, NcPeer *peer, json_t *first, int timeout_ms, GError **error)
{
  int64_t ours = (int64_t)nc_trust_roster_version(nodes->trust), theirs;
  nc_autojson json_t *hello = first ? json_incref(first) : nc_peer_recv(peer, timeout_ms, error);
  g_autoptr(GError) problem = NULL;

  if (!hello)
    return false;
  if (!g_str_equal(nc_json_string_or(hello, "type", ""), "hello"))
    nc_fail(&problem, NC_ERROR_PROTOCOL, "a connection between nodes begins with hello");
  else
    nc_nodes_check_hello(peer, hello, &theirs, &problem);
  if (problem) {
    nc_nodes_refuse(peer, problem);
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
  }
  if (!nc_nodes_send_hello(nodes, peer, ours, error))
    return false;
  if (nc_nodes_exchange_rosters(nodes, peer, ours, theirs, timeout_ms, &problem))
    return true;
  if (problem->code == NC_ERROR_TRUST)
    nc_nodes_refuse(peer, problem);
  g_propagate_error(error, g_steal_pointer(&problem));
  return false;
}

NcPeer *
nc_nodes_connect(NcNodes *nodes, const char *name, int timeout_ms, GError **error)
{
  g_autofree char *address = nc_nodes_address(nodes, name, error);
  g_autoptr(NcPeer) peer = address ? nc_peer_connect(nodes->trust, address, name, timeout_ms, error) : NULL;
  return peer && nc_nodes_hello_client(nodes, peer, timeout_ms, error) ? g_steal_pointer(&peer) : NULL;
}

static json_t *
nc_nodes_answer_clock(json_t *message, GError **error)
{
  int64_t arrived = nc_wall_us(), t0;
  if (!nc_json_int(message, "t0", 0, INT64_MAX, &t0, error))
    return NULL;
  return json_pack("{s:s, s:I, s:I, s:I}", "type", "clock", "t0", (json_int_t)t0, "t1", (json_int_t)arrived, "t2",
                   (json_int_t)nc_wall_us());
}

/* What we last heard of the asker's transaction log (agent/audit.h). */
static json_t *
nc_nodes_answer_audit(NcNodes *nodes, NcPeer *peer, GError **error)
{
  const NcAuditFilter filter = { .kind = NC_AUDIT_PEER_HEAD, .subject = nc_peer_node(peer), .limit = 1 };
  nc_autojson json_t *heard = nc_journal_list_audit(nodes->journal, &filter, error);
  json_t *detail = json_object_get(json_array_get(heard, 0), "detail");

  if (!heard)
    return NULL;
  return json_pack("{s:s, s:I, s:s}", "type", "audit_heard", "seq", (json_int_t)nc_json_int_or(detail, "seq", 0), "hash",
                   nc_json_string_or(detail, "hash", ""));
}

json_t *
nc_nodes_answer(NcNodes *nodes, NcPeer *peer, json_t *message, GError **error)
{
  const char *type = nc_json_string_or(message, "type", "");

  if (g_str_equal(type, "audit_ask"))
    return nc_nodes_answer_audit(nodes, peer, error);
  if (g_str_equal(type, "renew"))
    return nc_nodes_renew_peer(nodes, peer, message, error);
  if (g_str_equal(type, "clock"))
    return nc_nodes_answer_clock(message, error);
  if (!g_str_equal(type, "roster_get"))
    return NULL;
  g_autoptr(NcRoster) roster = nc_trust_roster(nodes->trust);
  return json_pack("{s:s, s:s, s:s}", "type", "roster", "document", nc_roster_document(roster), "signature",
                   nc_roster_signature(roster));
}

/* --- spreading a changed roster --- */

void
nc_nodes_push(NcNodes *nodes)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&nodes->lock);
  nodes->push_wanted = true;
  g_cond_signal(&nodes->wake);
}

static bool
nc_nodes_is_quitting(NcNodes *nodes)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&nodes->lock);
  return nodes->quitting;
}

/* Hello is enough: it exchanges the rosters. Returns how many could not be reached. */
static unsigned
nc_nodes_greet_all(NcNodes *nodes, unsigned at_most)
{
  g_autoptr(NcRoster) roster = nc_trust_roster(nodes->trust);
  unsigned failed = 0, greeted = 0;

  for (size_t i = 0; i < nc_roster_count(roster) && greeted < at_most && !nc_nodes_is_quitting(nodes); i++) {
    const NcRosterNode *node = nc_roster_at(roster, i);
    g_autoptr(GError) error = NULL;
    if (node->state != NC_NODE_JOINED || g_str_equal(node->name, nc_nodes_self(nodes)))
      continue;
    g_autoptr(NcPeer) peer = nc_nodes_connect(nodes, node->name, nodes->config->connect_timeout_ms, &error);
    if (peer) {
      greeted++;
    } else {
      failed++;
      /* Who is down comes back; who refuses us, or is refused, does not by itself. */
      nc_log(error->code == NC_ERROR_TRUST ? NC_LOG_WARNING : NC_LOG_DEBUG, "agent", "node %s was not told the roster: %s", node->name,
             error->message);
    }
  }
  return failed;
}

/* Sleeps until there is something to do; false when novacrond ends. */
static bool
nc_nodes_await_push(NcNodes *nodes, bool retry)
{
  gint64 until = g_get_monotonic_time() + NC_ROSTER_RETRY_S * G_TIME_SPAN_SECOND;
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&nodes->lock);

  while (!nodes->quitting && !nodes->push_wanted) {
    if (!retry)
      g_cond_wait(&nodes->wake, &nodes->lock);
    else if (!g_cond_wait_until(&nodes->wake, &nodes->lock, until))
      break;
  }
  nodes->push_wanted = false;
  return !nodes->quitting;
}

static gpointer
nc_nodes_pusher(gpointer data)
{
  NcNodes *nodes = data;
  bool retry = false;

  while (nc_nodes_await_push(nodes, retry)) {
    bool tells = nc_trust_has_ca_key(nodes->trust);
    unsigned failed = nc_nodes_greet_all(nodes, tells ? UINT_MAX : NC_ROSTER_ASK_NODES);
    retry = tells && failed > 0;
  }
  return NULL;
}

/* --- life --- */

NcNodes *
nc_nodes_new(const NcConfig *config, NcJournal *journal, GError **error)
{
  nc_nodes_settle_files(config);
  g_autoptr(NcTrust) trust = nc_trust_load(config->data_dir, error);
  if (!trust)
    return NULL;
  if (config->node[0] && !g_str_equal(config->node, nc_trust_node(trust))) {
    nc_fail(error, NC_ERROR_INVALID, "the configuration says that this node is %s, its certificate says %s: correct `node` in %s",
            config->node, nc_trust_node(trust), config->path);
    return NULL;
  }
  NcNodes *nodes = g_new0(NcNodes, 1);
  nodes->config = config;
  nodes->journal = journal;
  nodes->trust = g_steal_pointer(&trust);
  nc_trust_allow_newer(nodes->trust, true); /* hello is first, and brings the roster that decides */
  g_mutex_init(&nodes->renewing);
  g_mutex_init(&nodes->lock);
  g_cond_init(&nodes->wake);
  nodes->push_wanted = true; /* others may have news, or may have missed ours */
  nc_nodes_settle(nodes);
  nodes->pusher = g_thread_new("nodes-pusher", nc_nodes_pusher, nodes);
  return nodes;
}

void
nc_nodes_free(NcNodes *nodes)
{
  if (!nodes)
    return;
  g_mutex_lock(&nodes->lock);
  nodes->quitting = true;
  g_cond_signal(&nodes->wake);
  g_mutex_unlock(&nodes->lock);
  g_thread_join(nodes->pusher);
  nc_trust_free(nodes->trust);
  g_free(nodes->qemu_version);
  g_cond_clear(&nodes->wake);
  g_mutex_clear(&nodes->lock);
  g_mutex_clear(&nodes->renewing);
  g_free(nodes);
}

NcTrust *
nc_nodes_trust(NcNodes *nodes)
{
  return nodes->trust;
}

const char *
nc_nodes_self(NcNodes *nodes)
{
  return nc_trust_node(nodes->trust);
}

char *
nc_nodes_address(NcNodes *nodes, const char *name, GError **error)
{
  g_autoptr(NcRoster) roster = nc_trust_roster(nodes->trust);
  const NcRosterNode *node = nc_roster_find(roster, name);

  if (node && node->state == NC_NODE_JOINED)
    return g_strdup(node->address);
  nc_fail(error, NC_ERROR_NOT_FOUND, node ? "node %s was removed from the cluster" : "there is no node %s (`novacron node list` shows all)",
          name);
  return NULL;
}

bool
nc_nodes_reload(NcNodes *nodes, GError **error)
{
  uint64_t before = nc_trust_roster_version(nodes->trust);
  if (!nc_trust_reload(nodes->trust, error))
    return false;
  if (nc_trust_roster_version(nodes->trust) != before)
    nc_nodes_push(nodes);
  return true;
}
