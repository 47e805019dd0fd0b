/* SPDX-License-Identifier: Apache-2.0 */
#include "gate/other_names.h"

#include <glib.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define NC_PAUSE_MOST_MS 2000000.0

/* A number without sign, exponent or spaces; NAN: there is none. ${text}: behind it afterwards. */
static double
nc_take_decimal(const char **text)
{
  size_t whole = strspn(*text, "0123456789"), part = (*text)[whole] == '.' ? strspn(*text + whole + 1, "0123456789") + 1 : 0;

  if (whole == 0 || part == 1 || whole + part > 15)
    return NAN;
  double value = g_ascii_strtod(*text, NULL);
  *text += whole + part;
  return value;
}

/* NAN: it is none. */
static double
nc_pause_ms(const char *text)
{
  static const struct {
    const char *name;
    double ms;
  } units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 } }; /* the first that fits */
  double sum = 0;

  do {
    double value = nc_take_decimal(&text), ms = NAN;
    for (size_t i = 0; i < G_N_ELEMENTS(units) && isnan(ms); i++)
      if (g_str_has_prefix(text, units[i].name)) {
        ms = units[i].ms;
        text += strlen(units[i].name);
      }
    sum += value * ms;
  } while (!isnan(sum) && *text);
  return sum;
}

bool
nc_pause_is_valid(const char *text)
{
  double ms = nc_pause_ms(text);
  return ms >= 1 && ms <= NC_PAUSE_MOST_MS;
}

json_t *
nc_pause_to_ms(json_t *text)
{
  return json_integer((json_int_t)(nc_pause_ms(json_string_value(text)) + 0.5));
}

bool
nc_type_is_known(const char *text)
{
  static const char *const names[] = { "live", "pre-copy", "post-copy", "hybrid", NULL };
  return g_strv_contains(names, text);
}

json_t *
nc_type_to_algorithm(json_t *type)
{
  return g_str_equal(json_string_value(type), "live") ? json_string("auto") : json_incref(type);
}

json_t *
nc_priority_to_qos(json_t *priority)
{
  return g_str_equal(json_string_value(priority), "low") ? json_string("background") : json_incref(priority);
}
