/* SPDX-License-Identifier: Apache-2.0 */
/* The fleet's bearer tokens, in its database; in the controller's thread. See agent/tokens.h. */
#include "agent/fleet_host_internal.h"
#include "base/ident.h"
#include "fleetdb/access.h"

/* ${func} with ${data}, recorded as this controller, if it leads. */
static bool
nc_fleet_write_tokens(NcFleetHost *host, NcFleetWriteFunc func, gpointer data, GError **error)
{
  g_autoptr(GError) problem = NULL;
  NcFleetLease lease;

  if (nc_controller_leads(host->controller)) {
    if (nc_fleetdb_write(host->db, nc_controller_epoch(host->controller), func, data, &problem))
      return true;
    if (!g_error_matches(problem, NC_FLEETDB_ERROR, NC_FLEETDB_FENCED)) {
      g_propagate_error(error, g_steal_pointer(&problem));
      return false;
    }
  }
  if (!nc_fleetdb_look_at_lease(host->db, &lease, error))
    return false;
  return nc_fail(error, NC_ERROR_UNREACHABLE, "this node's controller does not lead, and can't change the fleet's tokens: ask %s%s%s",
                 lease.holder[0] ? lease.holder : "again in some seconds", lease.address[0] ? " at " : "", lease.address);
}

static bool
nc_fleet_write_new_token(NcFleetDb *db, gpointer data, GError **error)
{
  return nc_fleetdb_add_token(db, data, error);
}

static json_t *
nc_fleet_do_add_token(NcFleetHost *host, const char *actor, json_t *args, GError **error)
{
  NcFleetToken token = { .id = nc_json_string_or(args, "id", ""),
                         .kind = "bearer",
                         .subject = nc_json_string_or(args, "subject", ""),
                         .role = nc_json_string_or(args, "role", ""),
                         .secret_sha256 = nc_json_string_or(args, "secret_sha256", ""),
                         .actor = actor,
                         .expires_us = nc_json_int_or(args, "expires_us", 0) };

  return nc_fleet_write_tokens(host, nc_fleet_write_new_token, &token, error) ? json_object() : NULL;
}

static bool
nc_fleet_write_end_of_token(NcFleetDb *db, gpointer data, GError **error)
{
  return nc_fleetdb_end_token(db, data, error);
}

static json_t *
nc_fleet_do_end_token(NcFleetHost *host, const char *actor, json_t *args, GError **error)
{
  const char *id = nc_json_string(args, "id", error);
  return id && nc_fleet_write_tokens(host, nc_fleet_write_end_of_token, (gpointer)id, error) ? json_object() : NULL;
}

static json_t *
nc_fleet_do_check_token(NcFleetHost *host, const char *actor, json_t *args, GError **error)
{
  return nc_fleetdb_check_token(host->db, nc_json_string_or(args, "id", ""), nc_json_string_or(args, "secret_sha256", ""), nc_wall_us(), error);
}

/* Those for joining are not people's. */
static void
nc_fleet_keep_bearers(json_t *list, json_t *page)
{
  size_t i;
  json_t *token;

  json_array_foreach(page, i, token)
  {
    if (g_str_equal(nc_json_string_or(token, "kind", ""), "bearer"))
      json_array_append(list, token);
  }
}

static json_t *
nc_fleet_do_list_tokens(NcFleetHost *host, const char *actor, json_t *args, GError **error)
{
  g_autofree char *cursor = NULL;
  nc_autojson json_t *list = json_array();

  do {
    const NcPage page = { .cursor = cursor, .limit = NC_PAGE_MOST };
    char *next = NULL;
    nc_autojson json_t *rows = nc_fleetdb_list_tokens(host->db, &page, &next, error);
    g_free(cursor);
    cursor = next;
    if (!rows)
      return NULL;
    nc_fleet_keep_bearers(list, rows);
  } while (cursor && json_array_size(list) < NC_FLEET_TOKENS_MOST);
  return g_steal_pointer(&list);
}

#define NC_FLEET_OP(name, args_)                                                                                       \
  nc_fleet_host_call(host, nc_fleet_do_##name, actor, args_, error)

bool
nc_fleet_host_add_token(NcFleetHost *host, const char *actor, json_t *token, GError **error)
{
  nc_autojson json_t *done = NC_FLEET_OP(add_token, token);
  return done != NULL;
}

bool
nc_fleet_host_end_token(NcFleetHost *host, const char *actor, const char *id, GError **error)
{
  nc_autojson json_t *args = json_pack("{s:s}", "id", id), *done = NC_FLEET_OP(end_token, args);
  return done != NULL;
}

json_t *
nc_fleet_host_check_token(NcFleetHost *host, const char *actor, const char *id, const char *secret_sha256, GError **error)
{
  nc_autojson json_t *args = json_pack("{s:s, s:s}", "id", id, "secret_sha256", secret_sha256);
  return NC_FLEET_OP(check_token, args);
}

json_t *
nc_fleet_host_list_tokens(NcFleetHost *host, const char *actor, GError **error)
{
  return NC_FLEET_OP(list_tokens, NULL);
}
