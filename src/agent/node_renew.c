/* SPDX-License-Identifier: Apache-2.0 */
/* Renewing a node's certificate: who asks whom, and when the old one is over (crypto/renew.h, decision 102). */
#include "agent/nodes_internal.h"
#include "agent/request_log.h"
#include "base/ident.h"
#include "base/log.h"
#include "crypto/renew.h"

/* Longer than the transaction log waits to be sealed with the new key, if nothing goes wrong: two certificates back, nobody would know the seal's. */
#define NC_RENEW_PAUSE_US (10 * G_USEC_PER_SEC)

/* --- the node with the CA's key --- */

void
nc_nodes_see_certificate(NcNodes *nodes, const char *node, const char *serial)
{
  g_autoptr(GError) error = NULL;
  bool used = false;

  if (!nc_trust_has_ca_key(nodes->trust))
    return;
  if (!nc_renew_seen(nodes->trust, node, serial, &used, &error))
    nc_log(NC_LOG_ERR, "agent", "node %s uses its renewed certificate, but its old one can't be revoked yet: %s", node, error->message);
  if (!used)
    return;
  nc_log(NC_LOG_NOTICE, "agent", "node %s uses its renewed certificate, %s: the one before is revoked; roster version %" G_GUINT64_FORMAT,
         node, serial, nc_trust_roster_version(nodes->trust));
  nc_nodes_push(nodes);
}

static json_t *
nc_renew_for_peer(NcNodes *nodes, NcPeer *peer, json_t *message, GError **error)
{
  const char *node = nc_peer_node(peer);

  if (!g_str_equal(node, nc_nodes_self(nodes)))
    return nc_renew_issue(nodes->trust, node, nc_peer_serial(peer), message, error);
  nc_fail(error, NC_ERROR_FORBIDDEN, "node %s renews its own certificate by itself (novacron pki renew on it), and nobody's who comes as %s: "
          "is its key used elsewhere?", node, node);
  return NULL;
}

json_t *
nc_nodes_renew_peer(NcNodes *nodes, NcPeer *peer, json_t *message, GError **error)
{
  const char *node = nc_peer_node(peer);
  g_autofree char *actor = g_strdup_printf("node:%s", node), *from = g_strdup_printf("node %s (%s)", node, nc_peer_address(peer));
  nc_autojson json_t *args = json_pack("{s:s, s:I}", "name", node, "days", (json_int_t)nc_json_int_or(message, "days", 0));
  const NcLoggedRequest logged = { .journal = nodes->journal, .op = "node.renew", .actor = actor, .role = "node", .from = from, .args = args };
  g_autoptr(GError) problem = NULL;
  uint64_t seq = 0;

  if (!nc_request_log_begin(&logged, &seq, error))
    return NULL;
  json_t *renewed = nc_renew_for_peer(nodes, peer, message, &problem);
  nc_request_log_end(&logged, seq, renewed, problem);
  if (renewed)
    nc_log(NC_LOG_NOTICE, "agent", "node %s has a new certificate; the one before is good until it is seen with that; roster version %"
           G_GUINT64_FORMAT, node, nc_trust_roster_version(nodes->trust));
  else
    g_propagate_error(error, g_steal_pointer(&problem));
  return renewed;
}

/* --- the node that is renewed --- */

/* Who has the CA's key, by the request or by the roster. Caller frees. */
static char *
nc_renew_find_signer(NcNodes *nodes, const char *from, GError **error)
{
  g_autoptr(NcRoster) roster = nc_trust_roster(nodes->trust);
  const char *signer = from[0] ? from : nc_roster_signer(roster);

  if (signer && !g_str_equal(signer, nc_nodes_self(nodes)))
    return g_strdup(signer);
  if (signer)
    nc_fail(error, NC_ERROR_CONFLICT, "node %s does not have the CA's key itself%s", signer,
            from[0] ? ": name the node that has" : ", though the roster says so: name the node that has (--from NODE), or bring ca.key back from a backup");
  else
    nc_fail(error, NC_ERROR_CONFLICT, "which node has the CA's key is not known yet (the roster was made by an older version): name it, --from NODE");
  return NULL;
}

/* The node with the CA's key and ours: asked for, and given. */
static bool
nc_renew_by_signer(NcNodes *nodes, const char *signer, json_t *ask, GError **error)
{
  int limit_ms = nodes->config->connect_timeout_ms;
  g_autoptr(GError) problem = NULL;
  g_autoptr(NcPeer) peer = nc_nodes_connect(nodes, signer, limit_ms, &problem);
  nc_renew_name_next(nodes->trust, ask);
  nc_autojson json_t *renewed = peer && nc_peer_send(peer, ask, &problem) ? nc_nodes_expect(peer, "renewed", limit_ms, &problem) : NULL;

  if (renewed)
    return nc_renew_take(nodes->trust, renewed, error);
  /* Another version does not know the question, another node must not answer it. */
  bool is_wrong_node = problem->code == NC_ERROR_PROTOCOL || problem->code == NC_ERROR_FORBIDDEN;
  g_propagate_prefixed_error(error, g_steal_pointer(&problem), "node %s gives no new certificate, the present one stays%s: ", signer,
                             is_wrong_node ? " (does it run this version, and have the CA's key? else name the node that has, --from NODE)" : "");
  return false;
}

/* By the roster in use. */
static bool
nc_renew_is_only(NcNodes *nodes)
{
  g_autoptr(NcRoster) roster = nc_trust_roster(nodes->trust);
  const NcRosterNode *self = nc_roster_find(roster, nc_nodes_self(nodes));

  return self && !self->next.serial;
}

/* The signer sees us with the new certificate, and makes it our only one. False: it will, when we meet next. */
static bool
nc_renew_show(NcNodes *nodes, const char *signer)
{
  int limit_ms = nodes->config->connect_timeout_ms;
  g_autoptr(GError) problem = NULL;
  g_autoptr(NcPeer) peer = nc_nodes_connect(nodes, signer, limit_ms, &problem);

  if (peer && nc_nodes_fetch_roster(nodes, peer, limit_ms, &problem))
    return nc_renew_is_only(nodes);
  nc_log(NC_LOG_WARNING, "agent", "the certificate is renewed; the one before is good, too, until node %s can be reached: %s", signer,
         problem->message);
  return false;
}

static bool
nc_renew_by_self(NcNodes *nodes, json_t *ask, GError **error)
{
  const char *self = nc_nodes_self(nodes);
  bool used;
  /* What an earlier attempt has put on the disk first: it is the present one. */
  if (!nc_renew_settle(nodes->trust, &used, error))
    return false;
  nc_renew_name_next(nodes->trust, ask);
  nc_autojson json_t *renewed = nc_renew_issue(nodes->trust, self, NULL, ask, error);

  return renewed && nc_renew_take(nodes->trust, renewed, error) && nc_renew_settle(nodes->trust, &used, error);
}

/* With ${renewing} held. *ret_is_only: the old one is refused from now on. */
static bool
nc_renew_now(NcNodes *nodes, int days, const char *signer, bool *ret_is_only, GError **error)
{
  bool is_ours = g_str_equal(signer, nc_nodes_self(nodes));
  nc_autojson json_t *ask = nc_renew_ask(nodes->trust, days, error);

  if (!ask)
    return false;
  if (!(is_ours ? nc_renew_by_self(nodes, ask, error) : nc_renew_by_signer(nodes, signer, ask, error))) {
    nc_renew_withdraw(nodes->trust);
    return false;
  }
  *ret_is_only = is_ours || nc_renew_show(nodes, signer);
  nodes->renewed_us = nc_mono_us();
  nc_nodes_push(nodes);
  return true;
}

static bool
nc_renew_may_begin(NcNodes *nodes, GError **error)
{
  if (nodes->renewed_us && nc_mono_us() - nodes->renewed_us < NC_RENEW_PAUSE_US)
    return nc_fail(error, NC_ERROR_RESOURCE, "the certificate of node %s was renewed a moment ago: ask again in %d seconds",
                   nc_nodes_self(nodes), (int)(NC_RENEW_PAUSE_US / G_USEC_PER_SEC));
  return !nc_renew_keeps_old(nodes->config->data_dir) ||
         nc_fail(error, NC_ERROR_RESOURCE, "the transaction log of node %s is not sealed by its present key yet, and could not be proved after "
                 "another renewal: ask again in some seconds; if it stays so, the log of novacrond says why", nc_nodes_self(nodes));
}

static json_t *
nc_renew_result(NcNodes *nodes, const char *signer, bool is_only)
{
  g_autofree char *expires = nc_time_format(nc_trust_expires_us(nodes->trust));

  nc_log(NC_LOG_NOTICE, "agent", "the certificate of node %s is renewed by %s: it ends at %s", nc_nodes_self(nodes), signer, expires);
  return json_pack("{s:s, s:s, s:s, s:b}", "name", nc_nodes_self(nodes), "signer", signer, "certificate_expires", expires, "old_is_revoked",
                   is_only);
}

json_t *
nc_nodes_renew(NcNodes *nodes, json_t *args, GError **error)
{
  const char *from = json_is_string(json_object_get(args, "from")) ? nc_json_string(args, "from", error) : "";
  int64_t days = 0;
  bool is_only = false;

  if (!from || (json_object_get(args, "days") && !nc_json_int(args, "days", 1, NC_PKI_CA_DAYS, &days, error)))
    return NULL;
  if (!g_mutex_trylock(&nodes->renewing)) {
    nc_fail(error, NC_ERROR_RESOURCE, "the certificate of node %s is being renewed just now", nc_nodes_self(nodes));
    return NULL;
  }
  g_autofree char *signer =
      nc_trust_has_ca_key(nodes->trust) ? g_strdup(nc_nodes_self(nodes)) : nc_renew_find_signer(nodes, from, error);
  bool ok = signer && nc_renew_may_begin(nodes, error) && nc_renew_now(nodes, (int)days, signer, &is_only, error);
  g_mutex_unlock(&nodes->renewing);
  return ok ? nc_renew_result(nodes, signer, is_only) : NULL;
}

/* --- at the start --- */

void
nc_nodes_settle_files(const NcConfig *config)
{
  g_autoptr(GError) error = NULL;

  if (!nc_renew_settle_files(config->data_dir, &error))
    nc_log(NC_LOG_WARNING, "agent", "what an interrupted renewal of the certificate has left can't be put in order: %s", error->message);
}

void
nc_nodes_settle(NcNodes *nodes)
{
  g_autoptr(GError) error = NULL;
  bool used = false;

  if (!nc_renew_settle(nodes->trust, &used, &error))
    nc_log(NC_LOG_ERR, "agent", "the renewed certificate is in use, but the old one can't be revoked yet: %s", error->message);
  else if (used)
    nc_log(NC_LOG_NOTICE, "agent", "the certificate was renewed before novacrond was started: the one before is revoked; roster version %"
           G_GUINT64_FORMAT, nc_trust_roster_version(nodes->trust));
}
