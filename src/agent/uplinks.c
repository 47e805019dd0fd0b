/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/uplinks.h"
#include "base/ident.h"
#include "base/msg.h"
#include "fleet/inventory.h"

#include <string.h>

/* Changes ${text}. */
static json_t *
nc_uplink_parse(char *text)
{
  char *colon = strchr(text, ':');
  guint64 rate_bps;

  if (!colon)
    return NULL;
  *colon = '\0';
  if (!nc_name_is_valid(g_strstrip(text)) || !g_ascii_string_to_unsigned(g_strstrip(colon + 1), 10, 1, NC_FLEET_MOST_UPLINK_BPS, &rate_bps, NULL))
    return NULL;
  return json_pack("{s:s, s:I}", "name", text, "rate_bps", (json_int_t)rate_bps);
}

json_t *
nc_uplinks_parse(const char *text)
{
  g_auto(GStrv) parts = g_strsplit(text, ",", -1);
  nc_autojson json_t *links = json_array();

  if (g_strv_length(parts) > NC_FLEET_MOST_UPLINKS)
    return NULL;
  for (char **part = parts; *part; part++) {
    nc_autojson json_t *link = nc_uplink_parse(*part);
    if (!link || nc_json_find(links, "name", json_string_value(json_object_get(link, "name"))))
      return NULL;
    json_array_append(links, link);
  }
  return g_steal_pointer(&links);
}
