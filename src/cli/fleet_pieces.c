/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/fleet_pieces.h"
#include "base/ident.h"
#include "cli/units.h"

#define NC_FLEET_SECONDS 19 /* of a time in RFC 3339: the rest is the fraction */

const char *
nc_fleet_text(json_t *object, const char *key)
{
  return nc_json_string_or(object, key, "");
}

double
nc_fleet_number(json_t *object, const char *key)
{
  return json_number_value(json_object_get(object, key));
}

char *
nc_fleet_time(json_t *object, const char *key)
{
  int64_t us = nc_json_int_or(object, key, 0);
  g_autofree char *time = us > 0 ? nc_time_format(us) : NULL;

  return time ? g_strdup_printf("%.*sZ", NC_FLEET_SECONDS, time) : NULL;
}

char *
nc_fleet_seconds(json_t *object, const char *key)
{
  return nc_format_ms(nc_fleet_number(object, key) * 1000);
}

char *
nc_fleet_join(json_t *texts)
{
  g_autoptr(GString) all = g_string_new(NULL);
  json_t *text;
  size_t i;

  json_array_foreach(texts, i, text)
      g_string_append_printf(all, "%s%s", i > 0 ? ", " : "", json_is_string(text) ? json_string_value(text) : "?");
  return g_string_free(g_steal_pointer(&all), FALSE);
}
