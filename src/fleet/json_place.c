/* SPDX-License-Identifier: Apache-2.0 */
/* A cursor that steps over values; it stops at the end of the text, whatever is in it. */
#include "fleet/json_place.h"

#include <stdlib.h>
#include <stdbool.h>
#include <string.h>

typedef struct {
  const char *at, *end;
} NcJsonCursor;

static bool
nc_json_is(const NcJsonCursor *c, char wanted)
{
  return c->at < c->end && *c->at == wanted;
}

static void
nc_json_skip_space(NcJsonCursor *c)
{
  while (c->at < c->end && strchr(" \t\r\n,:", *c->at) && *c->at)
    c->at++;
}

/* The cursor is at its first quote, and then behind its last one. */
static void
nc_json_skip_string(NcJsonCursor *c)
{
  for (c->at++; c->at < c->end && *c->at != '"'; c->at++)
    if (*c->at == '\\' && c->end - c->at > 1)
      c->at++;
  if (c->at < c->end)
    c->at++;
}

/* A string, a number or word, or all between a bracket and its counterpart. */
static void
nc_json_skip_value(NcJsonCursor *c)
{
  unsigned depth = 0;

  do {
    nc_json_skip_space(c);
    if (c->at >= c->end)
      return;
    if (*c->at == '"') {
      nc_json_skip_string(c);
    } else if (*c->at == '{' || *c->at == '[') {
      depth++;
      c->at++;
    } else if (*c->at == '}' || *c->at == ']') {
      if (depth == 0)
        return;
      depth--;
      c->at++;
    } else {
      while (c->at < c->end && (!strchr(" \t\r\n,:{}[]\"", *c->at) || !*c->at))
        c->at++;
    }
  } while (depth > 0);
}

/* To the value of ${key} in the object at the cursor; false: it has none. */
static bool
nc_json_enter_key(NcJsonCursor *c, const char *key, size_t length)
{
  if (!nc_json_is(c, '{'))
    return false;
  c->at++;
  for (nc_json_skip_space(c); nc_json_is(c, '"'); nc_json_skip_space(c)) {
    const char *name = c->at + 1;
    nc_json_skip_string(c);
    bool found = (size_t)(c->at - name) == length + 1 && memcmp(name, key, length) == 0;
    nc_json_skip_space(c);
    if (found)
      return true;
    nc_json_skip_value(c);
  }
  return false;
}

static bool
nc_json_enter_index(NcJsonCursor *c, unsigned long index)
{
  if (!nc_json_is(c, '['))
    return false;
  c->at++;
  for (nc_json_skip_space(c); c->at < c->end && *c->at != ']'; nc_json_skip_space(c)) {
    if (index-- == 0)
      return true;
    nc_json_skip_value(c);
  }
  return false;
}

/* One step along ${path}, which is then behind it. */
static bool
nc_json_enter(NcJsonCursor *c, const char **path)
{
  if (**path == '[') {
    char *end;
    unsigned long index = strtoul(*path + 1, &end, 10);
    *path = *end == ']' ? end + 1 : end;
    return nc_json_enter_index(c, index);
  }
  *path += **path == '.';
  size_t length = strcspn(*path, ".[");
  const char *key = *path;
  *path += length;
  return length > 0 && nc_json_enter_key(c, key, length);
}

unsigned
nc_json_line_of(const char *text, size_t length_bytes, const char *path)
{
  NcJsonCursor c = { text, text + length_bytes };
  const char *found;
  unsigned line = 1;

  nc_json_skip_space(&c);
  found = c.at;
  while (*path && nc_json_enter(&c, &path))
    found = c.at;
  for (const char *at = text; at < found; at++)
    line += *at == '\n';
  return line;
}
