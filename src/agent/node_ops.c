/* SPDX-License-Identifier: Apache-2.0 */
/* The node.* operations of the control socket, and letting a node join. */
#include "agent/nodes_internal.h"
#include "base/ident.h"
#include "base/meminfo.h"
#include "base/log.h"
#include "crypto/join.h"

#include <stdlib.h>
#include <string.h>

#define NC_TOKEN_TTL_S 3600
#define NC_TOKEN_TTL_MAX_S (30 * 24 * 3600)

/* "7.2.22" from "QEMU emulator version 7.2.22 (...)"; "" if it can't be run. */
static char *
nc_ask_qemu_version(const char *binary)
{
  const char *argv[] = { binary, "--version", NULL };
  g_autofree char *text = NULL;
  int status;

  if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, &text, NULL, &status,
                    NULL) ||
      status != 0)
    return g_strdup("");
  const char *found = strstr(text, "version ");
  const char *version = found ? found + strlen("version ") : "";
  return g_strndup(version, strspn(version, "0123456789."));
}

/* Started once per novacrond: a QEMU upgrade is news for its next start. */
static const char *
nc_nodes_qemu_version(NcNodes *nodes)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&nodes->lock);
  if (!nodes->qemu_version)
    nodes->qemu_version = nc_ask_qemu_version(nodes->config->qemu_binary);
  return nodes->qemu_version;
}

json_t *
nc_nodes_info(NcNodes *nodes, json_t *args, GError **error)
{
  g_autofree char *address = nc_nodes_address(nodes, nc_nodes_self(nodes), NULL);
  g_autofree char *expires = nc_time_format(nc_trust_expires_us(nodes->trust));

  return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:I, s:I, s:b, s:b, s:I, s:s}", "name", nc_nodes_self(nodes), "cluster",
                   nc_trust_cluster(nodes->trust), "address", address ? address : "", "version", NC_VERSION, "qemu_version",
                   nc_nodes_qemu_version(nodes), "cpus", (int)g_get_num_processors(), "memory_bytes",
                   (json_int_t)nc_memory_total_bytes(), "memory_available_bytes", (json_int_t)MIN(nc_memory_available_bytes(), G_MAXINT64),
                   "ca", nc_trust_has_ca_key(nodes->trust), "controller", nodes->config->controller, "roster_version",
                   (json_int_t)nc_trust_roster_version(nodes->trust), "certificate_expires", expires);
}

static json_t *
nc_node_entry(NcNodes *nodes, const NcRosterNode *node)
{
  g_autofree char *expires = nc_time_format(node->expires_us);
  return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "name", node->name, "address", node->address, "state",
                   nc_node_state_name(node->state), "serial", node->serial, "expires", expires, "local",
                   g_str_equal(node->name, nc_nodes_self(nodes)));
}

json_t *
nc_nodes_list(NcNodes *nodes, json_t *args, GError **error)
{
  g_autoptr(NcRoster) roster = nc_trust_roster(nodes->trust);
  json_t *list = json_array();

  for (size_t i = 0; i < nc_roster_count(roster); i++)
    json_array_append_new(list, nc_node_entry(nodes, nc_roster_at(roster, i)));
  return list;
}

static bool
nc_nodes_need_ca(NcNodes *nodes, const char *what, GError **error)
{
  return nc_trust_has_ca_key(nodes->trust) ||
         nc_fail(error, NC_ERROR_CONFLICT, "%s needs the CA's key, which node %s does not have: ask the node where the cluster was made", what,
                 nc_nodes_self(nodes));
}

json_t *
nc_nodes_token(NcNodes *nodes, json_t *args, GError **error)
{
  int64_t ttl_s = NC_TOKEN_TTL_S;
  json_t *name = json_object_get(args, "name");
  const char *bound = name && !json_is_null(name) ? nc_json_string(args, "name", error) : "";

  if (!bound || !nc_nodes_need_ca(nodes, "making a token", error))
    return NULL;
  if (json_object_get(args, "ttl_s") && !nc_json_int(args, "ttl_s", 1, NC_TOKEN_TTL_MAX_S, &ttl_s, error))
    return NULL;
  if (bound[0] && !nc_name_is_valid(bound)) {
    nc_fail(error, NC_ERROR_INVALID, "\"%.64s\" can't name a node: " NC_NAME_RULE, bound);
    return NULL;
  }
  g_autoptr(NcJoinToken) token = nc_join_token_new(nodes->trust);
  g_autofree char *hash = nc_join_secret_hash(token->secret);
  g_autofree char *text = nc_join_token_format(token);
  int64_t expires_us = nc_wall_us() + ttl_s * G_USEC_PER_SEC;
  g_autofree char *expires = nc_time_format(expires_us);
  if (!nc_journal_add_token(nodes->journal, token->id, hash, bound[0] ? bound : NULL, expires_us, error))
    return NULL;
  return json_pack("{s:s, s:s}", "token", text, "expires", expires);
}

json_t *
nc_nodes_remove(NcNodes *nodes, json_t *args, GError **error)
{
  const char *name = nc_json_string(args, "name", error);

  if (!name || !nc_nodes_need_ca(nodes, "removing a node", error) || !nc_trust_remove_node(nodes->trust, name, error))
    return NULL;
  nc_log(NC_LOG_NOTICE, "agent", "node %s was removed from the cluster; roster version %" G_GUINT64_FORMAT, name,
         nc_trust_roster_version(nodes->trust));
  nc_nodes_push(nodes);
  g_autoptr(NcRoster) roster = nc_trust_roster(nodes->trust);
  const NcRosterNode *node = nc_roster_find(roster, name);
  return node ? nc_node_entry(nodes, node) : json_object();
}

/* What became of a token that was good: of others nothing but the log tells, or strangers could fill this one. */
static void
nc_nodes_audit_join(NcNodes *nodes, const NcJoinRequest *request, const GError *problem)
{
  g_autofree char *actor = g_strdup_printf("join-token:%s", request->token_id);
  nc_autojson json_t *detail =
      json_pack("{s:b, s:s, s:o*}", "ok", problem == NULL, "address", request->address, "error", problem ? nc_error_to_json(problem) : NULL);
  const NcAuditEntry entry = { .kind = "node.joined", .subject = request->name, .actor = actor, .detail = detail };
  g_autoptr(GError) error = NULL;

  if (!nc_journal_audit(nodes->journal, &entry, true, NULL, &error))
    nc_log(NC_LOG_ERR, "agent", "that node %s has joined can't be recorded: %s", request->name, error->message);
}

static json_t *
nc_nodes_let_in(NcNodes *nodes, const NcJoinRequest *request, const char *bound, GError **error)
{
  if (bound && !g_str_equal(bound, request->name)) {
    nc_fail(error, NC_ERROR_TRUST, "the token was made for node %s, not for %s; it is used up now", bound, request->name);
    return NULL;
  }
  json_t *joined = nc_join_issue(nodes->trust, request->name, request->address, request->csr, 0, error);
  if (!joined)
    g_prefix_error(error, "the token is used up, but %s can't join: ", request->name);
  return joined;
}

json_t *
nc_nodes_join(NcNodes *nodes, json_t *message, GError **error)
{
  NcJoinRequest request;
  g_autofree char *bound = NULL;
  g_autoptr(GError) problem = NULL;

  if (!nc_join_check_request(message, &request, error))
    return NULL;
  g_autofree char *hash = nc_join_secret_hash(request.secret);
  if (!nc_journal_use_token(nodes->journal, request.token_id, hash, nc_wall_us(), &bound, error))
    return NULL;
  json_t *joined = nc_nodes_let_in(nodes, &request, bound, &problem);
  nc_nodes_audit_join(nodes, &request, problem);
  if (!joined) {
    g_propagate_error(error, g_steal_pointer(&problem));
    return NULL;
  }
  nc_log(NC_LOG_NOTICE, "agent", "node %s (%s) has joined; roster version %" G_GUINT64_FORMAT, request.name, request.address,
         nc_trust_roster_version(nodes->trust));
  nc_nodes_push(nodes);
  return joined;
}
