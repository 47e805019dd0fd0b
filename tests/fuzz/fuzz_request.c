/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate's request validation, as a stranger sees it.
 *
 * Input: a line "METHOD PATH", header lines, an empty line, a body; all ended
 * by "\n". Whatever it is, the gate accepts or refuses it; what it accepts has
 * the shape that novacrond relies on.
 */
#include "base/ident.h"
#include "base/msg.h"
#include "gate/gate_limits.h"
#include "gate/http_check.h"
#include "gate/routes.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool promise)
{
  if (!promise)
    abort();
}

/* Copies up to the next "\n" and moves behind it. Caller frees. */
static char *
take_line(const uint8_t **at, size_t *left)
{
  const uint8_t *end = memchr(*at, '\n', *left);
  size_t length = end ? (size_t)(end - *at) : *left, used = length + (end != NULL);
  char *line = g_strndup((const char *)*at, length);

  *at += used;
  *left -= used;
  return line;
}

static bool
read_head(NcHttpHead *head, const uint8_t **at, size_t *left)
{
  NcHttpProblem problem = NC_HTTP_PROBLEM_COUNT;
  const char *detail = NULL;

  while (*left > 0) {
    g_autofree char *line = take_line(at, left);
    char *colon = strchr(line, ':');
    if (line[0] == '\0')
      break;
    if (colon)
      *colon = '\0';
    nc_http_head_add(head, line, colon ? colon + 1 : NULL);
  }
  bool ok = nc_http_head_check(head, &problem, &detail);
  require(ok || (detail && problem < NC_HTTP_PROBLEM_COUNT));
  require(!ok || (head->hosts <= 1 && !(head->lengths && head->codings) && head->headers <= NC_GATE_HEADERS));
  return ok;
}

static void
check_body(const NcRouteMatch *match, const void *body, size_t length)
{
  g_autoptr(GError) error = NULL;
  nc_autojson json_t *args = nc_schema_read_body(match->route->body, body, length, &error);

  require((args == NULL) == (error != NULL));
  if (!args)
    return;
  require(json_is_object(args));
  /* What passed the schema passes again, and can be sent on. */
  if (match->route->body && !match->route->body->wrap && json_object_size(args) > 0)
    require(nc_schema_check(match->route->body, args, NULL));
  g_autoptr(GByteArray) frame = nc_msg_encode(args, NULL);
  require(frame != NULL);
}

static void
check_query(const NcRouteMatch *match, const char *query)
{
  g_auto(GStrv) parts = g_strsplit(query, "&", 16);
  nc_autojson json_t *args = json_object();

  for (char **part = parts; *part; part++) {
    char *equals = strchr(*part, '=');
    g_autoptr(GError) error = NULL;
    if (equals)
      *equals = '\0';
    bool ok = nc_schema_read_query(match->route->query, *part, equals ? equals + 1 : NULL, args, &error);
    require(ok == (error == NULL));
  }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  g_autofree char *line = take_line(&data, &size);
  char *path = strchr(line, ' ');
  NcHttpProblem problem;
  const char *detail;
  NcRouteMatch match;

  if (!path)
    return 0;
  *path++ = '\0';
  char *query = strchr(path, '?');
  if (query)
    *query++ = '\0';
  NcHttpHead head = { .method = line, .version = "HTTP/1.1", .uri_bytes = strlen(path) };
  bool proper = read_head(&head, &data, &size);
  bool plain = nc_http_path_check(path, &problem, &detail);
  if (nc_route_find(line, path, &match) != NC_ROUTE_FOUND)
    return 0;
  require(plain); /* no route has a path that the check refuses */
  require(!match.key || nc_name_is_valid(match.value));
  if (!proper)
    return 0;
  check_body(&match, data, size);
  if (query)
    check_query(&match, query);
  return 0;
}
