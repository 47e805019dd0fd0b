/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/scenario_reader.h"
#include "fleet/json_place.h"

#include <math.h>

static char *
nc_reader_path(const NcPlace *place, const char *key)
{
  return !key ? g_strdup(place->path) : place->path[0] ? g_strdup_printf("%s.%s", place->path, key) : g_strdup(key);
}

bool
nc_reader_fail(const NcPlace *place, const char *key, GError **error, const char *format, ...)
{
  g_autofree char *path = nc_reader_path(place, key);
  const NcReader *r = place->reader;
  va_list args;

  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  return nc_fail(error, NC_ERROR_INVALID, "%s:%u: %s: %s", r->name, nc_json_line_of(r->text, r->length_bytes, path),
                 path[0] ? path : "the file", text);
}

static bool
nc_reader_number(const NcPlace *place, const NcNumber *number, double *ret, GError **error)
{
  json_t *value = json_object_get(place->value, number->key);
  double v = json_number_value(value);

  if (!value && isnan(number->fallback))
    return nc_reader_fail(place, NULL, error, "\"%s\" is missing", number->key);
  if (value && (!json_is_number(value) || v < number->minimum || v > number->maximum || (number->is_whole && v != floor(v))))
    return nc_reader_fail(place, number->key, error, "must be a %s from %.15g to %.15g", number->is_whole ? "whole number" : "number",
                          number->minimum, number->maximum);
  *ret = value ? v : number->fallback;
  return true;
}

static bool
nc_reader_is_known(const char *key, const NcNumber *numbers, size_t count, const char *const *others)
{
  for (size_t i = 0; i < count; i++)
    if (g_str_equal(numbers[i].key, key))
      return true;
  return g_strv_contains(others, key);
}

bool
nc_reader_object(const NcPlace *place, const NcNumber *numbers, size_t count, const char *const *others, void *ret, GError **error)
{
  const char *key;
  json_t *value;

  if (!json_is_object(place->value))
    return nc_reader_fail(place, NULL, error, "must be an object, {...}");
  json_object_foreach(place->value, key, value)
    if (!nc_reader_is_known(key, numbers, count, others))
      return nc_reader_fail(place, key, error, "there is no such key (see novacron-scenario(5))");
  for (size_t i = 0; i < count; i++)
    if (!nc_reader_number(place, &numbers[i], (double *)(void *)((char *)ret + numbers[i].offset), error))
      return false;
  return true;
}

bool
nc_reader_string(const NcPlace *place, const char *key, bool must, const char **ret, GError **error)
{
  json_t *value = json_object_get(place->value, key);

  if (!value && must)
    return nc_reader_fail(place, NULL, error, "\"%s\" is missing", key);
  if (value && !json_is_string(value))
    return nc_reader_fail(place, key, error, "must be a string");
  *ret = json_string_value(value);
  return true;
}

bool
nc_reader_bool(const NcPlace *place, const char *key, bool *ret, GError **error)
{
  json_t *value = json_object_get(place->value, key);

  if (value && !json_is_boolean(value))
    return nc_reader_fail(place, key, error, "must be true or false");
  *ret = json_is_true(value);
  return true;
}

bool
nc_reader_strings(const NcPlace *place, const char *key, size_t most, const char ***ret, GError **error)
{
  json_t *list = json_object_get(place->value, key), *value;
  size_t i;

  *ret = NULL;
  if (!list)
    return true;
  if (!json_is_array(list) || json_array_size(list) > most)
    return nc_reader_fail(place, key, error, "must be a list of at most %zu strings", most);
  g_autofree const char **strings = g_new0(const char *, json_array_size(list) + 1);
  json_array_foreach(list, i, value)
  {
    g_autofree char *element = g_strdup_printf("%s[%zu]", key, i);
    if (!json_is_string(value))
      return nc_reader_fail(place, element, error, "must be a string");
    strings[i] = json_string_value(value);
  }
  *ret = g_steal_pointer(&strings);
  return true;
}

bool
nc_reader_each(const NcPlace *place, const char *key, NcReaderFunc func, void *user_data, GError **error)
{
  json_t *list = json_object_get(place->value, key), *value;
  size_t i;

  if (!list)
    return true;
  if (!json_is_array(list))
    return nc_reader_fail(place, key, error, "must be a list, [...]");
  g_autofree char *path = nc_reader_path(place, key);
  json_array_foreach(list, i, value)
  {
    g_autofree char *element = g_strdup_printf("%s[%zu]", path, i);
    const NcPlace next = { place->reader, value, element };
    if (!func(&next, user_data, error))
      return false;
  }
  return true;
}
