/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Links that nodes share, from what the nodes say of the way from them to the top.
 *
 * Each node tells its own chain; together they are trees. Where they contradict each other, a link has the lowest of the rates that are told, which
 * is safe for all, and hangs at what the first node (by name) says that says anything: whoever says that it is the top knows less. What is not agreed on is logged.
 */
#include "controller/controller_internal.h"
#include "base/ident.h"
#include "base/log.h"

#include <string.h>

typedef struct {
  const char *uplink; /* NULL: none */
  uint64_t rate_bps;
  bool is_visited;
} NcToldLink;

bool
nc_controller_are_uplinks(json_t *said)
{
  size_t i;
  json_t *link;
  int64_t rate_bps;

  if (!json_is_array(said) || json_array_size(said) > NC_FLEET_MOST_UPLINKS)
    return false;
  json_array_foreach(said, i, link)
  {
    const char *name = json_string_value(json_object_get(link, "name"));
    if (!name || !nc_name_is_valid(name) || nc_json_find(said, "name", name) != link || !nc_json_int(link, "rate_bps", 1, NC_FLEET_MOST_UPLINK_BPS, &rate_bps, NULL))
      return false;
  }
  return true;
}

static json_t *
nc_uplinks_of(json_t *detail)
{
  json_t *links = json_object_get(detail, "links");
  return links && nc_controller_are_uplinks(links) ? links : NULL;
}

/* ${told}: name to NcToldLink; texts are borrowed of ${row}. */
static void
nc_hear_links(GHashTable *told, json_t *row)
{
  json_t *links = nc_uplinks_of(json_object_get(row, "detail")), *link;
  size_t i;

  json_array_foreach(links, i, link)
  {
    const char *name = nc_json_string_or(link, "name", ""), *uplink = nc_json_string_or(json_array_get(links, i + 1), "name", NULL);
    uint64_t rate_bps = (uint64_t)nc_json_int_or(link, "rate_bps", 1);
    NcToldLink *known = g_hash_table_lookup(told, name);
    if (!known) {
      known = g_new0(NcToldLink, 1);
      *known = (NcToldLink){ .uplink = uplink, .rate_bps = rate_bps };
      g_hash_table_insert(told, (gpointer)name, known);
    }
    if (!known->uplink)
      known->uplink = uplink;
    else if (g_strcmp0(known->uplink, uplink) != 0)
      nc_log(NC_LOG_WARNING, "controller", "node %s says that link %s hangs at %s, another one says at %s: the latter counts; make `uplinks` of these nodes agree",
             nc_json_string_or(row, "name", "?"), name, uplink ? uplink : "none", known->uplink);
    known->rate_bps = MIN(known->rate_bps, rate_bps);
  }
}

/* What it hangs at comes first; who hangs at itself, over others, hangs at nothing. */
static uint32_t
nc_add_told_link(NcController *c, GHashTable *told, const char *name)
{
  NcToldLink *link = g_hash_table_lookup(told, name);
  g_autoptr(GError) error = NULL;

  if (!link || link->is_visited)
    return nc_fleet_find_link(c->fleet, name);
  link->is_visited = true;
  const NcLinkSpec spec = { .name = name, .rate_bps = link->rate_bps, .uplink = link->uplink ? nc_add_told_link(c, told, link->uplink) : NC_FLEET_NONE };
  uint32_t number = nc_fleet_add_link(c->fleet, &spec, &error);
  if (number == NC_FLEET_NONE)
    nc_log(NC_LOG_WARNING, "controller", "link %s is not heeded: %s", name, error->message);
  return number;
}

void
nc_load_links(NcController *c, json_t *nodes)
{
  g_autoptr(GHashTable) told = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
  size_t i, k;
  json_t *row, *link;

  json_array_foreach(nodes, i, row) nc_hear_links(told, row);
  json_array_foreach(nodes, i, row)
  {
    json_array_foreach(nc_uplinks_of(json_object_get(row, "detail")), k, link) nc_add_told_link(c, told, nc_json_string_or(link, "name", ""));
  }
}

uint32_t
nc_link_of(NcController *c, json_t *detail)
{
  json_t *link;
  size_t i;

  json_array_foreach(nc_uplinks_of(detail), i, link)
  { /* the nearest that is heeded: with none it would have no limit at all */
    uint32_t number = nc_fleet_find_link(c->fleet, nc_json_string_or(link, "name", ""));
    if (number != NC_FLEET_NONE)
      return number;
  }
  return NC_FLEET_NONE;
}

bool
nc_links_are_known(NcController *c, json_t *detail)
{
  json_t *links = json_object_get(detail, "links"), *link;
  size_t i;

  json_array_foreach(links, i, link)
  {
    uint32_t number = nc_fleet_find_link(c->fleet, nc_json_string_or(link, "name", ""));
    const NcLink *known = number != NC_FLEET_NONE ? nc_fleet_link(c->fleet, number) : NULL;
    const char *uplink = nc_json_string_or(json_array_get(links, i + 1), "name", NULL);
    if (!known || known->rate_bps > (uint64_t)nc_json_int_or(link, "rate_bps", 0) ||
        g_strcmp0(uplink, known->uplink != NC_FLEET_NONE ? nc_fleet_link(c->fleet, known->uplink)->name : NULL) != 0)
      return false;
  }
  return true;
}
