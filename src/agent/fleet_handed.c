/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fleet_handed.h"
#include "agent/request_log.h"
#include "base/log.h"

#include <string.h>

/* The control socket makes them of at most 81 bytes, and makes what is no UTF-8 of them longer. */
#define NC_HANDED_MOST_ACTOR_BYTES 256u

struct NcFleetHanded {
  const NcFleetSide *side;
  NcFleetHost *host;
  GMutex lock;           /* protects under_way */
  GHashTable *under_way; /* node -> how many, as a pointer */
};

/* One message, checked; all borrowed from it. */
typedef struct {
  const NcFleetOp *op;
  const char *node, *actor, *role;
  json_t *args;
} NcHandedRequest;

char *
nc_fleet_owner_of(const char *actor, const char *node)
{
  return g_str_has_prefix(actor, "certificate:") ? g_strdup(actor) : g_strdup_printf("%s at %s", actor, node);
}

/* --- shape --- */

static const NcFleetOp *
nc_handed_find_op(const char *name)
{
  for (size_t i = 0; i < NC_FLEET_OPS; i++)
    if (g_str_equal(nc_fleet_ops[i].op, name))
      return &nc_fleet_ops[i];
  return NULL;
}

static bool
nc_handed_read(const char *node, json_t *message, NcHandedRequest *ret, GError **error)
{
  const char *op = nc_json_string_or(message, "op", "");

  *ret = (NcHandedRequest){ .op = nc_handed_find_op(op),
                            .node = node,
                            .actor = nc_json_string_or(message, "actor", ""),
                            .role = nc_json_string_or(message, "role", ""),
                            .args = json_object_get(message, "args") };
  size_t length = strlen(ret->actor);
  if (!ret->op)
    return nc_fail(error, NC_ERROR_PROTOCOL, "\"%.32s\" is nothing that the controller of node %s does", op, node);
  if (length == 0 || length > NC_HANDED_MOST_ACTOR_BYTES || !strchr(ret->actor, ':') || !json_is_object(ret->args))
    return nc_fail(error, NC_ERROR_PROTOCOL, "node %s hands on %s without saying who asks, or for what", node, op);
  return true;
}

/* --- what it may --- */

static bool
nc_handed_is_named(const char *names, const char *node)
{
  g_auto(GStrv) all = nc_config_names_parse(names);
  return all && g_strv_contains((const char *const *)all, node);
}

static bool
nc_handed_may(const NcFleetHanded *handed, const NcHandedRequest *request, GError **error)
{
  const NcConfig *config = handed->side->config;
  const char *self = nc_nodes_self(handed->side->nodes);
  NcRole role;

  if (!nc_role_from_name(request->role, &role) || role < request->op->role)
    return nc_fail(error, NC_ERROR_FORBIDDEN, "%s needs the role %s; %s is %.16s on node %s", request->op->op,
                   nc_role_name(request->op->role), request->actor, request->role, request->node);
  if (request->op->role == NC_ROLE_VIEWER && !request->op->is_long)
    return true;
  return nc_handed_is_named(config->fleet_gates, request->node) ||
         nc_handed_is_named(config->controllers, request->node) ||
         nc_fail(error, NC_ERROR_FORBIDDEN,
                 "the controller of node %s does not do what is asked of the fleet on node %s: ask on node %s, or name "
                 "that node there (`fleet_gates` in novacrond.conf, which says what that means)",
                 self, request->node, self);
}

static bool
nc_handed_enter(NcFleetHanded *handed, const char *node, GError **error)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&handed->lock);
  guint count = GPOINTER_TO_UINT(g_hash_table_lookup(handed->under_way, node));

  if (count >= NC_FLEET_HANDED_MOST)
    return nc_fail(error, NC_ERROR_RESOURCE,
                   "node %s has %u requests under way with the controller of node %s: ask again later", node, count,
                   nc_nodes_self(handed->side->nodes));
  g_hash_table_insert(handed->under_way, g_strdup(node), GUINT_TO_POINTER(count + 1));
  return true;
}

static void
nc_handed_leave(NcFleetHanded *handed, const char *node)
{
  g_autoptr(GMutexLocker) guard = g_mutex_locker_new(&handed->lock);
  guint count = GPOINTER_TO_UINT(g_hash_table_lookup(handed->under_way, node));

  if (count <= 1)
    g_hash_table_remove(handed->under_way, node);
  else
    g_hash_table_insert(handed->under_way, g_strdup(node), GUINT_TO_POINTER(count - 1));
}

/* --- doing it --- */

static json_t *
nc_handed_do(NcFleetHanded *handed, const NcHandedRequest *request, GError **error)
{
  g_autofree char *actor = g_strdup_printf("%s via %s", request->actor, request->node);
  g_autofree char *owner = nc_fleet_owner_of(request->actor, request->node);
  g_autofree char *from = g_strdup_printf("node %s", request->node);
  const NcFleetAsker who = { .actor = actor, .owner = owner };
  const NcLoggedRequest logged = { .journal = handed->side->journal,
                                   .op = request->op->op,
                                   .actor = actor,
                                   .role = request->role,
                                   .from = from,
                                   .args = request->args };
  g_autoptr(GError) problem = NULL;
  uint64_t seq = 0;

  if (request->op->role == NC_ROLE_VIEWER)
    return nc_fleet_host_do(handed->host, request->op, &who, request->args, error);
  if (!nc_request_log_begin(&logged, &seq, error))
    return NULL;
  json_t *result = nc_fleet_host_do(handed->host, request->op, &who, request->args, &problem);
  nc_request_log_end(&logged, seq, result, problem);
  if (problem)
    g_propagate_error(error, g_steal_pointer(&problem));
  return result;
}

static json_t *
nc_handed_decide(NcFleetHanded *handed, const NcHandedRequest *request, GError **error)
{
  g_autofree char *leader = nc_fleet_host_leader(handed->host);
  const char *named = leader ? leader : "";

  if (request->op->by == NC_FLEET_BY_LEADER && !g_str_equal(named, nc_nodes_self(handed->side->nodes)))
    return json_pack("{s:s, s:s}", "type", "fl_elsewhere", "leader", named);
  json_t *result = nc_handed_do(handed, request, error);
  return result ? json_pack("{s:s, s:o, s:s}", "type", "fl_answer", "result", result, "leader", named) : NULL;
}

json_t *
nc_fleet_handed_answer(NcFleetHanded *handed, const char *node, json_t *message, GError **error)
{
  NcHandedRequest request;

  if (!handed->host) {
    nc_fail(error, NC_ERROR_CONFLICT,
            "node %s has no controller, though `controllers` in novacrond.conf on node %s names it: correct that, or "
            "make it one (`controller = yes`)",
            nc_nodes_self(handed->side->nodes), node);
    return NULL;
  }
  if (!nc_handed_read(node, message, &request, error))
    return NULL;
  if (!nc_handed_may(handed, &request, error)) {
    nc_log(NC_LOG_WARNING, "controller", "%s, which node %s hands on for %s, is refused", request.op->op, node,
           request.actor);
    return NULL;
  }
  if (!nc_handed_enter(handed, node, error))
    return NULL;
  json_t *answer = nc_handed_decide(handed, &request, error);
  nc_handed_leave(handed, node);
  return answer;
}

/* --- life --- */

NcFleetHanded *
nc_fleet_handed_new(const NcFleetSide *side, NcFleetHost *host)
{
  NcFleetHanded *handed = g_new0(NcFleetHanded, 1);

  handed->side = side;
  handed->host = host;
  handed->under_way = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  g_mutex_init(&handed->lock);
  return handed;
}

void
nc_fleet_handed_free(NcFleetHanded *handed)
{
  if (!handed)
    return;
  g_hash_table_unref(handed->under_way);
  g_mutex_clear(&handed->lock);
  g_free(handed);
}
