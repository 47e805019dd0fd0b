/* SPDX-License-Identifier: Apache-2.0 */
/* The route table finds what exists, and says properly what does not. */
#include "gate/etag.h"
#include "gate/routes.h"

#include <string.h>

typedef struct {
  const char *method, *path;
  NcRouteVerdict verdict;
  const char *op;    /* if found */
  const char *value; /* of the path's parameter */
  const char *allow; /* for 405 */
} Case;

static const Case cases[] = {
  { "GET", "/api/v2/node", NC_ROUTE_FOUND, "node.info" },
  { "HEAD", "/api/v2/node", NC_ROUTE_FOUND, "node.info" },
  { "GET", "/api/v2/whoami", NC_ROUTE_FOUND, NULL },
  { "POST", "/api/v2/whoami", NC_ROUTE_NO_METHOD, .allow = "GET, HEAD" },
  { "GET", "/api/v2/machines", NC_ROUTE_FOUND, "machine.list" },
  { "POST", "/api/v2/machines", NC_ROUTE_FOUND, "machine.define" },
  { "GET", "/api/v2/machines/web1", NC_ROUTE_FOUND, "machine.get", "web1" },
  { "DELETE", "/api/v2/machines/web1", NC_ROUTE_FOUND, "machine.destroy", "web1" },
  { "POST", "/api/v2/machines/web1/start", NC_ROUTE_FOUND, "machine.start", "web1" },
  { "POST", "/api/v2/machines/adopt", NC_ROUTE_FOUND, "machine.adopt" },
  { "POST", "/api/v2/machines/adopt/start", NC_ROUTE_FOUND, "machine.start", "adopt" },
  { "GET", "/api/v2/machines/adopt", NC_ROUTE_FOUND, "machine.get", "adopt" },
  { "POST", "/api/v2/migrations/m-1/cancel", NC_ROUTE_FOUND, "migration.cancel", "m-1" },
  { "POST", "/api/v2/migrations/m-1/limits", NC_ROUTE_FOUND, "migration.limit", "m-1" },
  { "POST", "/api/v2/migrations/m-1/rollback", NC_ROUTE_FOUND, "migration.rollback", "m-1" },
  { "GET", "/api/v2/migrations/dashboard", NC_ROUTE_FOUND, "migration.dashboard" },
  { "GET", "/api/v2/migrations/m-1/status", NC_ROUTE_FOUND, "migration.status", "m-1" },
  { "GET", "/api/v2/migrations/m-1/metrics", NC_ROUTE_FOUND, "migration.metrics", "m-1" },
  { "GET", "/api/v2/migrations/m-1/ws", NC_ROUTE_FOUND, "migration.watch", "m-1" },
  { "GET", "/api/v2/migrations/mig-0123456789abcdef/ws", NC_ROUTE_FOUND, "fleet.watch", "mig-0123456789abcdef" },
  { "GET", "/api/v2/migrations/mig-0123456789abcdef.1/ws", NC_ROUTE_FOUND, "migration.watch", "mig-0123456789abcdef.1" },
  { "GET", "/api/v2/migrations/mig-0123456789abcdef", NC_ROUTE_FOUND, "fleet.get", "mig-0123456789abcdef" },
  { "GET", "/api/v2/migrations/mig-0123456789abcdef/status", NC_ROUTE_FOUND, "fleet.move_status", "mig-0123456789abcdef" },
  { "POST", "/api/v2/migrations/mig-0123456789abcdef/cancel", NC_ROUTE_FOUND, "fleet.cancel", "mig-0123456789abcdef" },
  { "GET", "/api/v2/migrations/mig-0123456789abcdef/metrics", NC_ROUTE_FOUND, "migration.metrics", "mig-0123456789abcdef" },
  { "GET", "/api/v2/migrations/mig-0123456789abcdef.1", NC_ROUTE_FOUND, "migration.get", "mig-0123456789abcdef.1" },
  { "GET", "/api/v2/fleet/migrations/mig-1/ws", NC_ROUTE_FOUND, "fleet.watch", "mig-1" },
  { "GET", "/api/v2/fleet/batches/bat-1/ws", NC_ROUTE_FOUND, "fleet.watch", "bat-1" },
  { "GET", "/api/v2/fleet/evacuations/eva-1/ws", NC_ROUTE_FOUND, "fleet.watch", "eva-1" },
  { "GET", "/api/v2/fleet/events/ws", NC_ROUTE_FOUND, "fleet.watch" },
  { "GET", "/api/v2/alerts", NC_ROUTE_FOUND, "alert.list" },
  { "GET", "/api/v2/alerts/ws", NC_ROUTE_FOUND, "alert.watch" },
  { "POST", "/api/v2/migrations/m-1/ws", NC_ROUTE_NO_METHOD, .allow = "GET, HEAD" },
  { "GET", "/api/v2/audit", NC_ROUTE_FOUND, "audit.list" },
  { "POST", "/api/v2/audit/verify", NC_ROUTE_FOUND, "audit.verify" },
  { "GET", "/api/v2/audit/verify", NC_ROUTE_NO_METHOD, .allow = "POST" },
  { "GET", "/api/v2/fleet", NC_ROUTE_FOUND, "fleet.status" },
  { "POST", "/api/v2/fleet/nodes/host-a/cordon", NC_ROUTE_FOUND, "fleet.cordon", "host-a" },
  { "GET", "/api/v2/fleet/machines/web1/placement", NC_ROUTE_FOUND, "fleet.explain", "web1" },
  { "GET", "/api/v2/fleet/migrations", NC_ROUTE_FOUND, "fleet.list" },
  { "POST", "/api/v2/fleet/migrations", NC_ROUTE_FOUND, "fleet.migrate" },
  { "GET", "/api/v2/fleet/evacuations/eva-1", NC_ROUTE_FOUND, "fleet.get", "eva-1" },
  { "POST", "/api/v2/fleet/evacuations/plan", NC_ROUTE_FOUND, "fleet.plan" },
  { "POST", "/api/v2/fleet/batches/bat-1/cancel", NC_ROUTE_FOUND, "fleet.cancel", "bat-1" },
  { "POST", "/api/v2/migrations/batch", NC_ROUTE_FOUND, "fleet.batch" },
  { "POST", "/api/v2/migrations/evacuate", NC_ROUTE_FOUND, "fleet.evacuate" },
  { "GET", "/api/v2/migrations/batch", NC_ROUTE_FOUND, "migration.get", "batch" },
  { "GET", "/api/v2/fleet/batches", NC_ROUTE_FOUND, "fleet.batches" },
  { "DELETE", "/api/v2/nodes/tokens", NC_ROUTE_FOUND, "node.remove", "tokens" },
  { "PUT", "/api/v2/machines", NC_ROUTE_NO_METHOD, .allow = "GET, HEAD, POST" },
  { "POST", "/api/v2/machines/web1", NC_ROUTE_NO_METHOD, .allow = "GET, HEAD, DELETE" },
  { "GET", "/api/v2/machines/web1/start", NC_ROUTE_NO_METHOD, .allow = "POST" },
  { "OPTIONS", "/api/v2/node", NC_ROUTE_NO_METHOD, .allow = "GET, HEAD" },
  { "GET", "/", NC_ROUTE_FOUND, NULL },
  { "HEAD", "/", NC_ROUTE_FOUND, NULL },
  { "POST", "/", NC_ROUTE_NO_METHOD, .allow = "GET, HEAD" },
  { "GET", "/index.html", NC_ROUTE_NO_PATH },
  { "GET", "/assets/", NC_ROUTE_NO_PATH },
  { "GET", "", NC_ROUTE_NO_PATH },
  { "GET", "/api/v2", NC_ROUTE_NO_PATH },
  { "GET", "/api/v2/node/", NC_ROUTE_NO_PATH },
  { "GET", "/api/v2/nodes/", NC_ROUTE_NO_PATH },
  { "GET", "/api/v2/machines/", NC_ROUTE_NO_PATH },
  { "GET", "/api/v2/machines/..", NC_ROUTE_NO_PATH },
  { "GET", "/api/v2/machines/-x", NC_ROUTE_NO_PATH },
  { "GET", "/api/v2/machines/a%2fb", NC_ROUTE_NO_PATH },
  { "GET", "/api/v2/machines/a/b", NC_ROUTE_NO_PATH },
  { "POST", "/api/v2/machines/a/start/", NC_ROUTE_NO_PATH },
  { "GET", "/API/v2/node", NC_ROUTE_NO_PATH },
  { "BREW", "/api/v2/node", NC_ROUTE_UNKNOWN_METHOD },
  { "get", "/api/v2/node", NC_ROUTE_UNKNOWN_METHOD },
  { "", "/api/v2/node", NC_ROUTE_UNKNOWN_METHOD },
};

static void
test_find(void)
{
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    const Case *c = &cases[i];
    NcRouteMatch match;
    g_test_message("%s %s", c->method, c->path);
    g_assert_cmpint(nc_route_find(c->method, c->path, &match), ==, c->verdict);
    if (c->verdict == NC_ROUTE_FOUND) {
      g_assert_cmpstr(nc_route_op(&match), ==, c->op);
      g_assert_cmpstr(match.value, ==, c->value ? c->value : "");
      g_assert_true((match.key != NULL) == (c->value != NULL));
    }
    if (c->allow)
      g_assert_cmpstr(match.allow, ==, c->allow);
  }
}

/* The dashboard's files, or the page that says that there are none: each under its path, looked at by anybody who may look. */
static void
test_assets(void)
{
  NcRouteMatch match;

  g_assert_cmpuint(nc_n_assets, >=, 1);
  for (size_t i = 0; i < nc_n_assets; i++) {
    const NcAsset *asset = &nc_assets[i];
    g_test_message("%s", asset->path);
    g_assert_cmpint(nc_route_find("GET", asset->path, &match), ==, NC_ROUTE_FOUND);
    g_assert_true(match.route == &nc_asset_route && match.asset == asset && !match.key);
    g_assert_cmpuint(asset->data_bytes, >, 0);
    g_assert_cmpuint(strlen(asset->etag), ==, 66);
    char etag[NC_ETAG_BYTES];
    nc_etag_of(asset->data, asset->data_bytes, etag);
    g_autofree char *weak = g_strdup_printf("\"x\", W/%s", etag), *longer = g_strdup_printf("%s-", etag);
    g_assert_cmpstr(asset->etag, ==, etag);
    g_assert_true(nc_etag_is_known(etag, etag) && nc_etag_is_known(etag, weak) && nc_etag_is_known(etag, "*"));
    g_assert_false(nc_etag_is_known(etag, NULL) || nc_etag_is_known(etag, "") || nc_etag_is_known(etag, longer));
  }
  g_assert_cmpint(match.route->role, ==, NC_ROLE_VIEWER);
  g_assert_cmpint(nc_route_find("GET", "/api/v2/node", &match), ==, NC_ROUTE_FOUND);
  g_assert_null(match.asset);
}

/* Rows that share an operation of novacrond tell its arguments apart by the id, and the argument has its name. */
static void
test_fleet_rows(void)
{
  NcRouteMatch match;

  g_assert_cmpint(nc_route_find("POST", "/api/v2/fleet/nodes/host-a/uncordon", &match), ==, NC_ROUTE_FOUND);
  g_assert_cmpstr(match.key, ==, "node");
  for (size_t i = 0; i < nc_n_routes; i++) {
    const NcRoute *route = &nc_routes[i];
    if (!route->op || !g_str_has_prefix(route->op, "fleet."))
      continue;
    bool shared = g_str_equal(route->op, "fleet.get") || g_str_equal(route->op, "fleet.cancel") || route->watch;
    bool is_of_one = strchr(route->pattern, '{') != NULL;
    g_test_message("%s %s", route->method, route->pattern);
    g_assert_true((route->id_prefix != NULL) == ((shared && is_of_one) || g_str_equal(route->op, "fleet.items")));
    g_assert_true((route->operation != NULL) == shared);
    g_assert_true(route->is_keyed == (route->role > NC_ROLE_VIEWER)); /* what changes something can be asked twice */
  }
}

static void
test_name_length(void)
{
  for (size_t length = 62; length <= 65; length++) {
    g_autofree char *name = g_strnfill(length, 'a');
    g_autofree char *path = g_strconcat("/api/v2/machines/", name, NULL);
    NcRouteMatch match;
    g_assert_cmpint(nc_route_find("GET", path, &match), ==, length <= 63 ? NC_ROUTE_FOUND : NC_ROUTE_NO_PATH);
    if (length <= 63)
      g_assert_cmpstr(match.value, ==, name);
  }
}

/* Whoever may only look must find no row that changes something; what can't be made good is for admins. */
static void
test_roles(void)
{
  static const char *const administering[] = { "node.token",         "machine.define",     "machine.adopt",    "checkpoint.schedule",
                                               "checkpoint.restore", "migration.resolve", "token.create",     "token.list",
                                               "node.renew",         NULL };

  for (size_t i = 0; i < nc_n_routes; i++) {
    bool reads = g_str_equal(nc_routes[i].method, "GET"), removes = g_str_equal(nc_routes[i].method, "DELETE");
    bool administers = removes || (nc_routes[i].op && g_strv_contains(administering, nc_routes[i].op));
    bool looks = g_strcmp0(nc_routes[i].op, "audit.verify") == 0 ||
                 g_strcmp0(nc_routes[i].op, "fleet.plan") == 0 || /* with a body */
                 g_strcmp0(nc_routes[i].op, "node.checks") == 0;  /* asks other nodes */
    g_assert_cmpint(nc_routes[i].role, ==, administers ? NC_ROLE_ADMIN : reads || looks ? NC_ROLE_VIEWER : NC_ROLE_OPERATOR);
    g_assert_true(!reads || !nc_routes[i].body);
    g_assert_true(reads || !nc_routes[i].list); /* only what is read has an ETag */
  }
}

int
main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/gate/routes/find", test_find);
  g_test_add_func("/gate/routes/assets", test_assets);
  g_test_add_func("/gate/routes/name_length", test_name_length);
  g_test_add_func("/gate/routes/roles", test_roles);
  g_test_add_func("/gate/routes/fleet_rows", test_fleet_rows);
  return g_test_run();
}
