/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The endpoints: one table, one row each.
 *
 * Routing, "405 Allow", access control, validation, the conversation with
 * novacrond and the test against docs/api/openapi.json all read this table;
 * an endpoint that is not a row here does not exist.
 */
#pragma once

#include "base/role.h"
#include "gate/asset.h"
#include "gate/schema.h"

/* Who answers. */
typedef enum {
  NC_BY_NOVACROND,
  NC_BY_GATE_DOCUMENT, /* docs/api/openapi.json */
  NC_BY_GATE_WHOAMI,   /* whom the gate takes the client for */
  NC_BY_GATE_ASSET,    /* a file of the dashboard */
} NcRouteOwner;

typedef struct {
  const char *method;
  const char *pattern;   /* "/api/v2/machines/{name}": at most one {parameter} */
  NcRouteOwner by;
  const char *op;        /* novacrond's operation; NULL: the gate answers by itself */
  const char *fleet_op;  /* what is asked instead if the id is that of one of the fleet's migrations; NULL: the same */
  const char *operation; /* its name in openapi.json, where several rows have one op; NULL: ${op} */
  const char *key;       /* the argument that the path's parameter becomes; NULL: that of its own name */
  const char *id_prefix; /* an id of another kind is none of this resource; NULL: any */
  bool is_keyed;         /* the header Idempotency-Key, if given, is the argument "key" */
  const NcSchema *body;  /* NULL: none */
  const NcSchema *query; /* NULL: none */
  NcRole role;           /* the least that is needed */
  unsigned status;       /* on success */
  const char
      *location; /* of what was created: "/api/v2/machines/%s" with ${location_key} of the result; NULL: nothing */
  const char *location_key;
  bool list;          /* (GET) it has an ETag; the result is an array, to be wrapped as {"items":[...],"next":null}; or has that shape already */
  bool text;          /* the result is {text, type}: what is sent is that text; asked for as the Accept header says */
  bool watch;         /* a WebSocket; ${op} then says whether there is what is to be watched */
  unsigned answer_ms; /* time novacrond has */
} NcRoute;

extern const NcRoute nc_routes[];
extern const size_t nc_n_routes;
extern const NcRoute nc_asset_route; /* of whatever gate/asset.h has; not in the table, which is the API's */

typedef enum {
  NC_ROUTE_FOUND,
  NC_ROUTE_NO_PATH,        /* 404 */
  NC_ROUTE_NO_METHOD,      /* 405: the path exists */
  NC_ROUTE_UNKNOWN_METHOD, /* 501: no endpoint has such a method */
} NcRouteVerdict;

typedef struct {
  const NcRoute *route; /* if found */
  const NcAsset *asset; /* with nc_asset_route: which */
  const char *key;      /* the argument that the path's parameter becomes, static; NULL: none */
  char value[64];       /* its value, a valid name (base/ident.h) */
  char allow[64];       /* for 405: "GET, HEAD, POST" */
} NcRouteMatch;

/* The operation of novacrond that is asked for. */
const char *nc_route_op(const NcRouteMatch *match);

/*
 * Finds the row for ${method} (HEAD counts as GET) and ${path}, which must be
 * free of %-escapes. A literal segment wins over a {parameter}; files of the dashboard come first.
 */
NcRouteVerdict nc_route_find(const char *method, const char *path, NcRouteMatch *ret);
